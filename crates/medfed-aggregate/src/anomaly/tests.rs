use super::*;
use medfed_types::random::SimulationRng;
use medfed_types::{RoundId, Seed};
use rand_distr::{Distribution as _, StandardNormal};

struct Normal(SimulationRng);

impl Normal {
    fn new(seed: u64) -> Self {
        Self(Seed(seed).generator("test", &[]))
    }

    fn draw(&mut self) -> f64 {
        StandardNormal.sample(&mut self.0)
    }

    fn vector(&mut self, length: usize) -> Vec<f64> {
        (0..length).map(|_| self.draw()).collect()
    }
}

fn site(at: usize) -> SiteId {
    SiteId::try_from(format!("h{at:02}")).unwrap()
}

fn update(at: usize, delta: impl IntoIterator<Item = f64>) -> SiteUpdate {
    let delta = delta.into_iter().map(|value| value as f32).collect();
    SiteUpdate::new(site(at), RoundId(1), delta, 100.0).unwrap()
}

fn detector(method: Method, threshold: f64) -> Detector {
    Detector::new(DetectorSettings::new(method, threshold).unwrap())
}

fn robust() -> Detector {
    detector(Method::Robust, 3.0)
}

/// A common direction, a direction of each hospital's own, and noise in every coordinate, as DP-SGD on
/// data that differ: `size` are the lengths of the three.
fn round(normal: &mut Normal, common: &[f64], own: &[Vec<f64>], size: [f64; 3]) -> Vec<SiteUpdate> {
    let root = (common.len() as f64).sqrt();
    let hospital = |(at, own): (usize, &Vec<f64>)| {
        let noise = normal.vector(common.len());
        let value = |i: usize| (size[0] * common[i] + size[1] * own[i] + size[2] * noise[i]) / root;
        update(at, (0..common.len()).map(value))
    };
    own.iter().enumerate().map(hospital).collect()
}

fn statistics(inspection: &Inspection, at: usize) -> Vec<Statistic> {
    inspection.findings.iter().filter(|f| f.site == site(at)).map(|f| f.statistic).collect()
}

/// Rounds of honest hospitals whose log-norms are normal with different spreads, below and above the
/// floor. At most 1 % of them may have a finding; 5 standard deviations are allowed on top, which fails
/// by chance less than once in a million seeds.
#[test]
fn false_alarms_are_as_rare_as_stated_when_norms_are_log_normal() {
    for (hospitals, spread) in [(3, 0.5), (6, 0.1), (10, 0.5), (10, 0.8), (25, 0.5)] {
        let mut normal = Normal::new(hospitals as u64 + (spread * 100.0) as u64);
        let (mut alarms, mut rounds) = (0, 0);
        for _ in 0..80 {
            let mut detector = robust();
            for _ in 0..20 {
                let updates: Vec<SiteUpdate> = (0..hospitals)
                    .map(|at| {
                        let size = (spread * normal.draw()).exp();
                        update(at, normal.vector(24).into_iter().map(|value| size * value))
                    })
                    .collect();
                let inspection = detector.inspect(&updates, &BTreeMap::new());
                alarms += usize::from(!inspection.findings.is_empty());
                rounds += 1;
                detector = inspection.next;
            }
        }
        let most = 0.01 * f64::from(rounds) + 5.0 * (0.01 * f64::from(rounds)).sqrt();
        assert!((alarms as f64) < most, "{hospitals} hospitals, spread {spread}: {alarms} of {rounds}");
    }
}

/// The same with updates as training makes them: a common part, a constant part of each hospital's own
/// and noise, from hardly any noise to almost nothing else.
#[test]
fn false_alarms_are_as_rare_as_stated_with_noise_and_data_that_differ() {
    for (case, size) in [[1.0, 1.0, 0.2], [1.0, 0.5, 1.0], [1.0, 1.0, 10.0]].into_iter().enumerate() {
        let mut normal = Normal::new(case as u64);
        let (mut alarms, mut rounds) = (0, 0);
        for _ in 0..60 {
            let common = normal.vector(200);
            let own: Vec<Vec<f64>> = (0..10).map(|_| normal.vector(200)).collect();
            let mut detector = robust();
            for _ in 0..20 {
                let updates = round(&mut normal, &common, &own, size);
                let inspection = detector.inspect(&updates, &BTreeMap::new());
                alarms += usize::from(!inspection.findings.is_empty());
                rounds += 1;
                detector = inspection.next;
            }
        }
        let most = 0.01 * f64::from(rounds) + 5.0 * (0.01 * f64::from(rounds)).sqrt();
        assert!((alarms as f64) < most, "{size:?}: {alarms} of {rounds}");
    }
}

#[test]
fn bad_updates_are_found_and_good_ones_beside_them_are_not() {
    let mut normal = Normal::new(3);
    let common = normal.vector(2000);
    let own: Vec<Vec<f64>> = (0..10).map(|_| normal.vector(2000)).collect();
    let honest = round(&mut normal, &common, &own, [1.0, 0.4, 0.5]);
    let altered = |factor: f64| {
        let mut updates = honest.clone();
        for at in [8, 9] {
            updates[at] = update(at, honest[at].delta().iter().map(|value| factor * f64::from(*value)));
        }
        robust().inspect(&updates, &BTreeMap::new())
    };
    assert_eq!(altered(1.0).findings, []);
    for (factor, expected) in [
        (100.0, vec![Statistic::Norm]),
        (0.001, vec![Statistic::Norm]),
        (-1.0, vec![]),
        (-2.5, vec![Statistic::Cosine]),
        (-50.0, vec![Statistic::Norm, Statistic::Cosine]),
    ] {
        let inspection = altered(factor);
        for at in 0..10 {
            let expected = if at < 8 { &[][..] } else { &expected[..] };
            assert_eq!(statistics(&inspection, at), expected, "{factor}, hospital {at}");
        }
        assert!(inspection.findings.iter().all(|f| f.power.unwrap() > 0.5), "{:?}", inspection.findings);
        assert_eq!(inspection.warnings, []);
    }
}

#[test]
fn a_hospital_that_changes_is_held_against_its_own_past() {
    let mut normal = Normal::new(4);
    // Norms that differ so much between hospitals that one beside the others says little.
    let mut updates = |factor: f64| -> Vec<SiteUpdate> {
        (0..8)
            .map(|at| {
                let size = (0.8 * (at as f64 - 3.5)).exp() * if at == 3 { factor } else { 1.0 };
                update(at, normal.vector(300).into_iter().map(|value| size * value))
            })
            .collect()
    };
    let mut detector = robust();
    for _ in 0..10 {
        let inspection = detector.inspect(&updates(1.0), &BTreeMap::new());
        assert_eq!(inspection.findings, []);
        detector = inspection.next;
    }
    let mut restored = robust();
    restored.restore(&detector.to_bytes()).unwrap();
    assert_eq!(restored, detector);
    let changed = updates(10.0);
    for _ in 0..30 {
        let inspection = restored.inspect(&changed, &BTreeMap::new());
        assert_eq!(inspection, detector.inspect(&changed, &BTreeMap::new()));
        // It stays out of line: what was found does not become its past.
        assert_eq!(statistics(&inspection, 3), [Statistic::History]);
        restored = inspection.next.clone();
        detector = inspection.next;
    }
    assert!(detector.restore(b"medfedH1\x01").is_err());
    assert_eq!(detector, restored, "a failed restore changes nothing");
}

/// At the end of a schedule all norms scatter: nobody stands out for having changed.
#[test]
fn a_round_in_which_everybody_changes_is_no_finding() {
    let mut normal = Normal::new(5);
    let mut updates = |spread: f64| -> Vec<SiteUpdate> {
        (0..10)
            .map(|at| {
                let size = (spread * normal.draw()).exp();
                update(at, normal.vector(100).into_iter().map(|value| size * value))
            })
            .collect()
    };
    let mut detector = robust();
    for _ in 0..10 {
        detector = detector.inspect(&updates(0.02), &BTreeMap::new()).next;
    }
    for _ in 0..20 {
        assert_eq!(detector.inspect(&updates(0.5), &BTreeMap::new()).findings, []);
    }
}

/// With three hospitals the one that changes drags the comparison of the other two along.
#[test]
fn one_of_three_that_changes_is_found_and_the_others_are_not() {
    let mut normal = Normal::new(6);
    let mut updates = |factor: f64| -> Vec<SiteUpdate> {
        (0..3)
            .map(|at| {
                let size = (0.1 * normal.draw()).exp() * if at == 1 { factor } else { 1.0 };
                update(at, normal.vector(100).into_iter().map(|value| size * value))
            })
            .collect()
    };
    let mut detector = robust();
    for _ in 0..12 {
        detector = detector.inspect(&updates(1.0), &BTreeMap::new()).next;
    }
    let inspection = detector.inspect(&updates(10.0), &BTreeMap::new());
    assert_eq!(statistics(&inspection, 1), [Statistic::History]);
    assert_eq!(inspection.findings.len(), 1);
}

#[test]
fn what_the_plan_rules_out_is_found_whatever_the_others_do() {
    let noise = Some(AnnouncedNoise { deviation: 0.02, clip: 1.0, parameters: 5000 });
    let training = AnnouncedTraining {
        rates: &[0.1; 10],
        earlier_steps: 0,
        momentum: Some(0.9),
        weight_decay: 0.0,
        noise,
        samples: Some(100.0),
    };
    let expected = Expected::of(&training);
    let least = expected.least_norm().unwrap();
    let all: BTreeMap<SiteId, Expected> = (0..3).map(|at| (site(at), expected)).collect();
    let flat = |norm: f64| vec![norm / 5000f64.sqrt(); 5000];
    let mut updates: Vec<SiteUpdate> = (0..3).map(|at| update(at, flat(2.0 * least))).collect();
    assert_eq!(robust().inspect(&updates, &all).findings, []);
    // A free rider, and one who claims ten times its images.
    updates[1] = update(1, flat(0.9 * least));
    let delta = updates[2].delta().to_vec();
    updates[2] = SiteUpdate::new(site(2), RoundId(1), delta, 1000.0).unwrap();
    let findings = robust().inspect(&updates, &all).findings;
    let found: Vec<_> = findings.iter().map(|f| (f.site.clone(), f.statistic, f.threshold)).collect();
    assert_eq!(found, [(site(1), Statistic::TooSmall, least), (site(2), Statistic::SampleCount, 100.0)]);
    assert!(findings[1].to_string().contains("claims 1000 images and enrolled with 100"));
}

#[test]
fn refusals_become_findings() {
    let error = SiteUpdate::new(site(1), RoundId(1), vec![0.0, f32::NAN], 1.0).unwrap_err();
    let finding = Finding::of_refusal(&error).unwrap();
    assert_eq!((finding.statistic, finding.value), (Statistic::NotFinite, 1.0));
    let error = SiteUpdate::new(site(1), RoundId(1), vec![0.0], f64::INFINITY).unwrap_err();
    let finding = Finding::of_refusal(&error).unwrap();
    assert_eq!((finding.statistic, finding.value), (Statistic::SampleCount, f64::MAX));
    assert!(!serde_json::to_string(&finding).unwrap().contains("null,\"threshold"));
    assert_eq!(Finding::of_refusal(&AggregateError::Empty), None);
}

/// (n−1)/√n is the most that a z-score can be: at 10 hospitals 2.85.
#[test]
fn the_z_score_says_when_it_cannot_fire() {
    let wild = |hospitals: usize| {
        let norm = |at| if at == 0 { 1e9 } else { 1.0 + at as f64 / 100.0 };
        let updates: Vec<SiteUpdate> = (0..hospitals).map(|at| update(at, [norm(at)])).collect();
        detector(Method::ZScore, 3.0).inspect(&updates, &BTreeMap::new())
    };
    let ten = wild(10);
    assert_eq!(ten.findings, []);
    assert!(matches!(
        ten.warnings[..],
        [InspectionWarning::ZScoreCannotFire { hospitals: 10, largest, .. }] if (largest - 2.846).abs() < 1e-3
    ));
    let eleven = wild(11);
    assert_eq!(eleven.warnings, []);
    assert_eq!(statistics(&eleven, 0), [Statistic::Norm]);
    assert_eq!(eleven.findings.len(), 1);
}

#[test]
fn few_or_odd_updates_are_no_trouble() {
    for method in [Method::Robust, Method::ZScore] {
        let detector = detector(method, 3.0);
        for hospitals in 0..3 {
            let updates: Vec<SiteUpdate> = (0..hospitals).map(|at| update(at, [1.0, 2.0])).collect();
            let inspection = detector.inspect(&updates, &BTreeMap::new());
            assert_eq!(inspection.findings, []);
            assert_eq!(inspection.warnings.len(), 1, "{method:?}, {hospitals}");
        }
        let zeros: Vec<SiteUpdate> = (0..5).map(|at| update(at, [0.0; 3])).collect();
        assert_eq!(detector.inspect(&zeros, &BTreeMap::new()).findings, []);
        let empty: Vec<SiteUpdate> = (0..5).map(|at| update(at, [])).collect();
        assert_eq!(detector.inspect(&empty, &BTreeMap::new()).findings, []);
    }
    let mut huge: Vec<SiteUpdate> = (0..5).map(|at| update(at, [1.0, 1.0])).collect();
    huge[4] = update(4, [f64::from(f32::MAX), f64::from(-f32::MAX)]);
    let inspection = robust().inspect(&huge, &BTreeMap::new());
    assert_eq!(statistics(&inspection, 4), [Statistic::Norm]);
    for threshold in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(DetectorSettings::new(Method::Robust, threshold).is_err());
    }
}

#[test]
fn the_order_of_arrival_does_not_matter() {
    let mut normal = Normal::new(9);
    let mut updates: Vec<SiteUpdate> = (0..7).map(|at| update(at, normal.vector(50))).collect();
    updates[2] = update(2, normal.vector(50).into_iter().map(|value| 1e4 * value));
    let expected = robust().inspect(&updates, &BTreeMap::new());
    assert!(!expected.findings.is_empty());
    updates.reverse();
    assert_eq!(robust().inspect(&updates, &BTreeMap::new()), expected);
}
