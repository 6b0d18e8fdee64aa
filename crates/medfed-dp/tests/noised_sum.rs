//! From a real clipped sum to a noised one: what is refused, what is repeated, what is fresh.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use medfed_dp::{
    Accountant, DpError, DpPlan, ExpectedBatchSize, Grant, Ledger, LedgerStorage, PlanTerms, PrivacyUnit,
    RoundRequest,
};
use medfed_nn::{Architecture, ClippedSum, Executor, ModelSpec, PerformanceOptions, Trainable};
use medfed_types::{
    Batch, ClipNorm, Delta, Epsilon, ImageShape, ImageSource, NoiseMultiplier, RoundId, RunId, SamplingRate,
    SecretKey, Seed, SiteId,
};
use std::num::NonZeroU64;
use std::sync::Arc;

const SHAPE: ImageShape = ImageShape { channels: 1, height: 8, width: 8 };

/// Ten images of stripes.
struct Stripes;

impl ImageSource for Stripes {
    fn shape(&self) -> ImageShape {
        SHAPE
    }
    fn len(&self) -> usize {
        10
    }
    fn label(&self, index: usize) -> u32 {
        (index % 2) as u32
    }
    fn fill(&self, index: usize, out: &mut [f32]) {
        for (pixel, value) in out.iter_mut().enumerate() {
            *value = if (pixel / 8 * (index + 1)).is_multiple_of(3) { 1.0 } else { -1.0 };
        }
    }
}

/// Records kept for the length of a test.
#[derive(Default)]
struct Memory(Vec<Vec<u8>>);

impl LedgerStorage for Memory {
    type Error = std::convert::Infallible;
    fn records(&mut self) -> Result<Vec<Vec<u8>>, Self::Error> {
        Ok(self.0.clone())
    }
    fn append(&mut self, _: usize, record: &[u8]) -> Result<(), Self::Error> {
        self.0.push(record.to_vec());
        Ok(())
    }
}

fn plan(secure_mode: bool, clip: f64, noise: f64) -> DpPlan {
    DpPlan::new(PlanTerms {
        unit: PrivacyUnit::Image,
        clip: ClipNorm::new(clip).unwrap(),
        noise: NoiseMultiplier::new(noise).unwrap(),
        rate: SamplingRate::new(0.01).unwrap(),
        expected_batch_size: ExpectedBatchSize::new(4.0).unwrap(),
        secure_mode,
        delta: Delta::new(1e-5).unwrap(),
        accountant: Accountant::Rdp,
        budget: Epsilon::new(8.0).unwrap(),
    })
    .unwrap()
}

fn grant(plan: &DpPlan) -> Grant {
    let (run, site) = (RunId::try_from("run").unwrap(), SiteId::try_from("North").unwrap());
    let mut ledger = Ledger::open(run, site, Memory::default()).unwrap();
    let request = RoundRequest { round: RoundId(1), steps: NonZeroU64::new(3).unwrap(), inputs: [0; 32] };
    ledger.reserve(plan, request).unwrap()
}

fn clipped(images: Vec<u32>, clip: f64) -> ClippedSum {
    let (architecture, channels) = (Architecture::SimpleCnn, Some(vec![8, 8]));
    let spec = ModelSpec { architecture, input: SHAPE, classes: 2, dropout: 0.0, channels };
    let network = Arc::new(spec.build().unwrap());
    let parameters = network.initial_parameters(&mut Seed(1).generator("weights", &[]));
    let all = Trainable::all(&network);
    let executor = Executor::new(network, PerformanceOptions::default());
    let clip = ClipNorm::new(clip).unwrap();
    executor.clipped_sum(&parameters, &Stripes, &Batch::of_images(images), &all, clip, None).unwrap()
}

/// Root of the mean square.
fn spread(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let n = values.len() as f64;
    (values.map(|value| value * value).sum::<f64>() / n).sqrt()
}

#[test]
fn noise_of_the_announced_size_is_added_also_to_an_empty_batch() {
    let key = SecretKey::from_bytes([3; 32]);
    for secure_mode in [false, true] {
        let plan = plan(secure_mode, 0.5, 2.0);
        let grant = grant(&plan);
        for images in [vec![], vec![0, 3, 4]] {
            let sum = clipped(images, 0.5);
            let before = sum.values().to_vec();
            let noised = plan.add_noise(sum, grant.step(0).unwrap(), &key).unwrap();
            assert!(noised.is_private());
            let n = before.len();
            let pairs = noised.values().iter().zip(&before);
            let noise = spread(pairs.map(|(after, before)| f64::from(*after) - f64::from(*before)));
            // A sound generator is outside with a probability of about one in a million.
            assert!((noise - 1.0).abs() < 4.9 / (2.0 * n as f64).sqrt() + 1e-4, "{noise} over {n} values");
            let first = noised.values()[0];
            assert_eq!(noised.estimate()[0], first / 4.0);
        }
    }
}

#[test]
fn a_step_repeats_its_noise_and_no_other_step_shares_it() {
    let (north, south) = (SecretKey::from_bytes([3; 32]), SecretKey::from_bytes([4; 32]));
    for secure_mode in [false, true] {
        let plan = plan(secure_mode, 0.5, 2.0);
        let grant = grant(&plan);
        let noised =
            |step, key| plan.add_noise(clipped(vec![1, 2], 0.5), grant.step(step).unwrap(), key).unwrap();
        assert_eq!(noised(1, &north), noised(1, &north));
        assert_ne!(noised(1, &north), noised(2, &north));
        assert_ne!(noised(1, &north), noised(1, &south));
    }
}

#[test]
fn a_sum_or_step_of_another_plan_is_refused() {
    let key = SecretKey::from_bytes([3; 32]);
    let ours = plan(false, 0.5, 2.0);
    let grant = grant(&ours);
    let other_clip = ours.add_noise(clipped(vec![1], 0.6), grant.step(0).unwrap(), &key);
    assert!(matches!(other_clip, Err(DpError::ClipNorm { .. })), "{other_clip:?}");
    for other in [plan(false, 0.5, 2.1), plan(true, 0.5, 2.0), plan(false, 0.6, 2.0)] {
        let clip = other.terms().clip.get();
        let refused = other.add_noise(clipped(vec![1], clip), grant.step(0).unwrap(), &key);
        assert!(matches!(refused, Err(DpError::OtherTerms { round: RoundId(1) })), "{refused:?}");
    }
}
