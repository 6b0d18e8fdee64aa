//! Controls of the privacy audit: what must be caught, what must not.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use medfed_config::Config;
use medfed_config::section::CanaryKind;
use medfed_data::synthetic::{SyntheticOptions, generate};
use medfed_data::{Dataset, SitePlan, SiteRequest, Sites, SplitKind, split_sites};
use medfed_dp::{Accountant, History, LedgerStorage, calibrate};
use medfed_eval::membership::{LiraMode, MembershipScores, References, lira, logit_confidence, loss_score};
use medfed_eval::one_run::{OneRunAudit, ScoredCanary};
use medfed_federation::canary::{Canaries, toss};
use medfed_federation::reference::{ReferenceTraining, Target};
use medfed_federation::{FederationError, Journal, Setup, Silent, Snapshot, report::RoundReport};
use medfed_nn::optimizer::{Adam, Optimizer};
use medfed_nn::{Architecture, Executor, ModelSpec, PerformanceOptions, Trainable};
use medfed_types::{
    Batch, Cancel, ClipNorm, Delta, Epsilon, ImageShape, ImageSource, SamplingRate, SecretKey, Seed,
};
use rand::RngExt;
use rand::seq::SliceRandom;
use std::convert::Infallible;
use std::sync::{Arc, LazyLock};

/// Two hospitals with 60 images each; half of a hospital's are held out.
static DATA: LazyLock<(Arc<Dataset>, Sites)> = LazyLock::new(|| {
    let options = SyntheticOptions { image_size: 28, label_noise: 0.2, ..SyntheticOptions::hospitals(2, 60) };
    let dataset = generate(&options, Seed(5)).unwrap();
    let sites = options.sites.iter().map(|site| SiteRequest { id: site.id.clone(), samples: None });
    let plan = SitePlan {
        sites: sites.collect(),
        kind: SplitKind::Column("site".into()),
        minimum: None,
        keep_patients_together: true,
        train_fraction: 0.5,
        test_fraction: 0.1,
    };
    let sites = split_sites(&dataset, &plan, Seed(5)).unwrap();
    (Arc::new(dataset), sites)
});

#[derive(Debug, Default)]
struct Memory(Vec<Vec<u8>>);

impl LedgerStorage for Memory {
    type Error = Infallible;
    fn records(&mut self) -> Result<Vec<Vec<u8>>, Infallible> {
        Ok(self.0.clone())
    }
    fn append(&mut self, _: usize, record: &[u8]) -> Result<(), Infallible> {
        self.0.push(record.to_vec());
        Ok(())
    }
}

impl Journal for Memory {
    type Error = Infallible;
    fn commit_round(&mut self, _: &RoundReport, _: &[Snapshot]) -> Result<(), Infallible> {
        Ok(())
    }
    fn suspend(&mut self, _: &[Snapshot]) -> Result<(), Infallible> {
        Ok(())
    }
    fn amend(&mut self, _: &str, _: &[(String, serde_json::Value)]) -> Result<(), Self::Error> {
        Ok(())
    }
    fn event(&mut self, _: u32, _: &str, _: &serde_json::Value) -> Result<(), Infallible> {
        Ok(())
    }
}

fn config(text: &str) -> Config {
    Config::from_yaml(text, "test", &[]).unwrap_or_else(|errors| panic!("{}", errors.render(false)))
}

/// Long training of a small network on few images.
fn overfitting() -> Config {
    config(
        "federated: {num_clients: 2, num_rounds: 4}
model: {channels: [16, 32, 64], dropout: 0}
training: {batch_size: 16, local_steps: 120, learning_rate: 0.003, optimizer: adam}
privacy: {enabled: false}",
    )
}

/// Trains and gives the executor and the last model.
fn trained(config: &Config, sites: &Sites, canaries: Option<&Canaries>) -> (Arc<Executor>, Arc<Vec<f32>>) {
    // With nothing to validate on, the newest model is the one that is kept.
    let mut sites = sites.clone();
    sites.sites.iter_mut().for_each(|site| site.validation.clear());
    let mut setup = Setup::new(config, &DATA.0, &sites, Seed(7), [0; 32]).unwrap();
    if let Some(canaries) = canaries {
        setup = setup.with_canaries(canaries);
    }
    let (executor, initial) = (Arc::clone(setup.executor()), setup.initial_parameters());
    let simulation =
        setup.simulation(initial, |_| -> Result<(medfed_dp::Ledger<Memory>, SecretKey), FederationError> {
            unreachable!("there is no privacy")
        });
    let outcome = simulation.unwrap().run(&mut Memory::default(), &Silent, &Cancel::default()).unwrap();
    (executor, outcome.parameters)
}

fn loss_scores(executor: &Executor, parameters: &[f32], images: &[u32]) -> Vec<f64> {
    let logits = executor.logits(parameters, &*DATA.0, images).unwrap();
    let each = images.iter().zip(logits.chunks_exact(2));
    each.map(|(image, logits)| loss_score(logits, DATA.0.label(*image as usize) as usize)).collect()
}

/// Images that were trained on, then images that were not, with the truth.
fn targets() -> (Vec<Target>, Vec<bool>) {
    let sites = &DATA.1.sites;
    let of = |train: bool| {
        sites.iter().flat_map(move |site| {
            let images = if train { &site.train } else { &site.validation };
            images.iter().map(|image| Target { image: *image, site: site.id.clone() })
        })
    };
    let members = of(true).count();
    let targets: Vec<Target> = of(true).chain(of(false)).collect();
    let member = (0..targets.len()).map(|index| index < members).collect();
    (targets, member)
}

#[test]
fn an_overfitted_model_is_caught_and_random_labels_are_not() {
    let (dataset, sites) = &*DATA;
    let mut sites = sites.clone();
    let coins = toss(120, &SecretKey::from_bytes([1; 32]));
    let canaries = Canaries::plant(dataset, &mut sites, CanaryKind::Pattern, false, &coins, Seed(9)).unwrap();
    let (executor, parameters) = trained(&overfitting(), &sites, Some(&canaries));

    let (targets, member) = targets();
    let images: Vec<u32> = targets.iter().map(|target| target.image).collect();
    let scores = loss_scores(&executor, &parameters, &images);
    let attack = MembershipScores::new(scores.clone(), member.clone()).unwrap().result();
    let audit = canaries.audit(&executor, &parameters, 0.0).unwrap();
    assert!(attack.auc.lower > 0.6 && attack.vulnerable, "{:?}", attack.auc);
    assert!(audit.epsilon_lower_bound > 0.5, "{audit:?}");

    // The same model, and an auditor whose truth is made up.
    let mut made_up = member;
    made_up.shuffle(&mut Seed(3).generator("made up", &[]));
    let attack = MembershipScores::new(scores, made_up).unwrap().result();
    assert!(attack.auc.lower < 0.5 && !attack.vulnerable, "{:?}", attack.auc);
    let coins = toss(120, &SecretKey::from_bytes([2; 32]));
    let others = Canaries::plant(dataset, &mut sites, CanaryKind::Pattern, false, &coins, Seed(9)).unwrap();
    assert_eq!(others.audit(&executor, &parameters, 0.0).unwrap().epsilon_lower_bound, 0.0);
}

/// Canaries alone, as images of their own.
struct Patterns(Vec<(Vec<f32>, u32)>);

impl Patterns {
    fn draw(number: usize) -> Self {
        let mut rng = Seed(4).generator("patterns", &[]);
        let mut one = || {
            let squares: Vec<f32> = (0..49).map(|_| if rng.random() { 1.0 } else { -1.0 }).collect();
            let pixel = |at: usize| squares[at / 28 / 4 * 7 + at % 28 / 4];
            ((0..28 * 28).map(pixel).collect(), rng.random_range(0..2))
        };
        Self((0..number).map(|_| one()).collect())
    }
}

impl ImageSource for Patterns {
    fn shape(&self) -> ImageShape {
        ImageShape { channels: 1, height: 28, width: 28 }
    }
    fn len(&self) -> usize {
        self.0.len()
    }
    fn label(&self, index: usize) -> u32 {
        self.0[index].1
    }
    fn fill(&self, index: usize, out: &mut [f32]) {
        out.copy_from_slice(&self.0[index].0);
    }
}

/// ε that the step claims over all its steps, at δ = 1e-5.
const CLAIM: f64 = 0.3;
/// The norm that the step claims to clip to.
const CLIP: f64 = 1e-3;
const CANARIES: u32 = 200;
const STEPS: u64 = 160;

/// How a training step keeps its promise, or does not.
#[derive(Debug, Clone, Copy)]
struct Mechanism {
    /// The norm that units are really clipped to; `CLIP` is promised.
    clip: f64,
    /// What the noise is really multiplied with; 1 is promised.
    noise: f64,
}

/// Trains on canaries by a step that claims (`CLAIM`, 1e-5)-differential privacy, with all units in each
/// step, and audits the model.
fn audited(mechanism: Mechanism) -> OneRunAudit {
    let delta = Delta::new(1e-5).unwrap();
    let rate = SamplingRate::new(1.0).unwrap();
    let claim = Epsilon::new(CLAIM).unwrap();
    let sigma = calibrate(Accountant::Pld, claim, rate, STEPS, delta, &History::default()).unwrap().get();
    let patterns = Patterns::draw(CANARIES as usize);
    let spec = ModelSpec {
        architecture: Architecture::SimpleCnn,
        input: patterns.shape(),
        classes: 2,
        dropout: 0.0,
        channels: Some(vec![16, 32, 64]),
    };
    let network = Arc::new(spec.build().unwrap());
    let executor = Executor::new(Arc::clone(&network), PerformanceOptions::default());
    let trainable = Trainable::all(&network);
    let coins = toss(CANARIES, &SecretKey::from_bytes([6; 32]));
    let batch = Batch::of_images((0..CANARIES).filter(|index| coins[*index as usize]).collect());
    let mut rng = Seed(8).generator("noise", &[]);
    let mut parameters = network.initial_parameters(&mut Seed(8).generator("initial", &[]));
    let mut adam = Optimizer::Adam(Adam::with_weight_decay(0.0).unwrap()).start(parameters.len());
    for _ in 0..STEPS {
        let clip = ClipNorm::new(mechanism.clip).unwrap();
        let sum = executor.clipped_sum(&parameters, &patterns, &batch, &trainable, clip, None).unwrap();
        let mut gradient = sum.into_values();
        for value in &mut gradient {
            *value += (mechanism.noise * sigma * CLIP * gaussian(&mut rng)) as f32;
            *value /= CANARIES as f32 / 2.0;
        }
        adam.step(&mut parameters, &gradient, 0.003, trainable.ranges()).unwrap();
    }
    let logits = executor.logits(&parameters, &patterns, &(0..CANARIES).collect::<Vec<_>>()).unwrap();
    let canaries = logits.chunks_exact(2).zip(&coins).enumerate().map(|(index, (logits, included))| {
        ScoredCanary { score: loss_score(logits, patterns.label(index) as usize), included: *included }
    });
    OneRunAudit::of(&canaries.collect::<Vec<_>>(), delta.get()).unwrap()
}

/// Box and Muller's.
fn gaussian(rng: &mut impl RngExt) -> f64 {
    let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
    radius * (std::f64::consts::TAU * rng.random::<f64>()).cos()
}

#[test]
fn a_broken_mechanism_is_refuted_and_a_sound_one_is_not() {
    for (what, mechanism, broken) in [
        ("sound", Mechanism { clip: CLIP, noise: 1.0 }, false),
        ("a thousandth of the noise", Mechanism { clip: CLIP, noise: 1e-3 }, true),
        ("clipping not applied", Mechanism { clip: 1e6, noise: 1.0 }, true),
    ] {
        let audit = audited(mechanism);
        assert_eq!(audit.refutes(CLAIM), broken, "{what}: {audit:?}");
    }
}

#[test]
fn references_come_in_complementary_pairs_and_are_repeatable() {
    let (targets, _) = targets();
    let config = config(
        "federated: {num_clients: 2, num_rounds: 1}
model: {channels: [8]}
training: {batch_size: 16, local_steps: 2}
privacy: {epsilon_budget: 5}",
    );
    let training = ReferenceTraining::new(&config, &DATA.0, targets.clone(), None, Seed(1)).unwrap();
    let train = |number| training.train(number, &Silent, &Cancel::default()).unwrap().unwrap();
    let (first, second) = (train(0), train(1));
    assert!(first.included.iter().zip(&second.included).all(|(a, b)| a != b));
    assert_ne!(first.logits, second.logits);
    assert_eq!(first, train(0));
    assert_ne!(training.included(0), training.included(2));
    let patient = |index: usize| &DATA.0.scans()[targets[index].image as usize].patient;
    for a in 0..targets.len() {
        for b in (0..a).filter(|b| patient(a).is_some() && patient(a) == patient(*b)) {
            assert_eq!(first.included[a], first.included[b]);
        }
    }
    let cancel = Cancel::default();
    cancel.cancel();
    assert_eq!(training.train(0, &Silent, &cancel).unwrap(), None);
}

#[test]
fn models_for_comparison_find_the_members_of_an_overfitted_model() {
    let (executor, parameters) = trained(&overfitting(), &DATA.1, None);
    let (targets, member) = targets();
    let images: Vec<u32> = targets.iter().map(|target| target.image).collect();
    let log_odds = |logits: &[f32]| -> Vec<f64> {
        let each = images.iter().zip(logits.chunks_exact(2));
        each.map(|(image, logits)| logit_confidence(logits, DATA.0.label(*image as usize) as usize)).collect()
    };
    let training = ReferenceTraining::new(&overfitting(), &DATA.0, targets.clone(), None, Seed(1)).unwrap();
    let mut references = References::new(targets.len());
    for number in 0..4 {
        let reference = training.train(number, &Silent, &Cancel::default()).unwrap().unwrap();
        references.push(log_odds(&reference.logits), reference.included).unwrap();
    }
    let observed = log_odds(&executor.logits(&parameters, &*DATA.0, &images).unwrap());
    let scores = lira(&observed, &references, LiraMode::Online).unwrap();
    let attack = MembershipScores::new(scores, member).unwrap().result();
    assert!(attack.auc.lower > 0.6, "{:?}", attack.auc);
}

#[test]
fn the_number_of_canaries_trained_on_is_not_to_be_seen() {
    let config = config(
        "federated: {num_clients: 2, num_rounds: 1}
model: {channels: [8]}
training: {batch_size: 16, local_steps: 1}
privacy: {enabled: false}",
    );
    let planned = |coins: &[bool]| {
        let (dataset, sites) = &*DATA;
        let mut sites = sites.clone();
        let kind = CanaryKind::Mislabelled;
        let canaries = Canaries::plant(dataset, &mut sites, kind, false, coins, Seed(9)).unwrap();
        let setup = Setup::new(&config, dataset, &sites, Seed(7), [0; 32]).unwrap().with_canaries(&canaries);
        let hospitals = setup.hospitals().iter();
        let seen =
            hospitals.map(|h| (h.images.announced_images(), h.images.announced_units(), h.training.steps));
        let units: usize = setup.hospitals().iter().map(|hospital| hospital.images.train.len()).sum();
        (seen.collect::<Vec<_>>(), units)
    };
    let (none, fewer) = planned(&[false; 8]);
    let (all, more) = planned(&[true; 8]);
    assert_eq!(none, all);
    assert_eq!(more - fewer, 8);
}
