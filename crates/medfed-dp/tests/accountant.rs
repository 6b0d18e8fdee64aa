//! The accountants against stored vectors, closed forms and what must hold for all of them.

use medfed_dp::{Accountant, History, Phase, Spent, affordable_steps, calibrate};
use medfed_types::{Delta, Epsilon, NoiseMultiplier, SamplingRate};
use proptest::prelude::*;
use serde::Deserialize;

const BOTH: [Accountant; 2] = [Accountant::Pld, Accountant::Rdp];

fn phase(rate: f64, noise: f64, steps: u64) -> Phase {
    let rate = SamplingRate::new(rate).expect("a rate");
    Phase { rate, noise: NoiseMultiplier::new(noise).expect("a noise multiplier"), steps }
}

fn run(rate: f64, noise: f64, steps: u64) -> History {
    History::from(vec![phase(rate, noise, steps)])
}

fn delta(value: f64) -> Delta {
    Delta::new(value).expect("a delta")
}

fn epsilon(accountant: Accountant, history: &History, at: f64) -> f64 {
    accountant.epsilon(history, delta(at)).expect("every history has an epsilon").get()
}

#[derive(Deserialize)]
struct Vectors {
    cases: Vec<Case>,
    published: Published,
}

#[derive(Deserialize)]
struct Case {
    history: History,
    delta: f64,
    pld: Option<[f64; 2]>,
    tight: Option<f64>,
    rdp: f64,
    rdp_optimum: f64,
}

#[derive(Deserialize)]
struct Published {
    homogeneous: Vec<Measured>,
    heterogeneous: Changing,
}

#[derive(Deserialize)]
struct Measured {
    #[serde(flatten)]
    terms: Terms,
    delta: f64,
    epsilon_pld_dp_accounting: f64,
    epsilon_rdp_dp_accounting: f64,
    epsilon_rdp_opacus: f64,
    epsilon_rdp_continuous_order_optimum: Option<f64>,
}

#[derive(Deserialize)]
struct Terms {
    sampling_rate: f64,
    noise_multiplier: f64,
    steps: u64,
}

#[derive(Deserialize)]
struct Changing {
    history: Vec<Terms>,
    delta: f64,
    epsilon_pld: f64,
    epsilon_rdp: f64,
}

fn vectors() -> Vectors {
    serde_json::from_str(include_str!("../../../testdata/accountant_vectors.json"))
        .expect("the vectors are read")
}

#[test]
fn stored_vectors_are_met() {
    for case in vectors().cases {
        let (history, at) = (&case.history, case.delta);
        let (pld, rdp) = (epsilon(Accountant::Pld, history, at), epsilon(Accountant::Rdp, history, at));
        if let Some(tight) = case.tight {
            assert!(pld >= tight * (1.0 - 1e-9) && pld <= tight * 1.0005, "{history:?} {at}: {pld}, {tight}");
        }
        if let Some([lower, upper]) = case.pld {
            // The widest relative tails ask for more than the largest grid.
            assert!(pld >= lower && pld <= upper * 1.0015, "{history:?} {at}: {pld}, {lower} to {upper}");
        }
        assert!((rdp / case.rdp_optimum - 1.0).abs() < 1e-8, "{history:?} {at}: {rdp}, {}", case.rdp_optimum);
        assert!(rdp <= case.rdp * (1.0 + 1e-9), "{history:?} {at}: {rdp}, peer {}", case.rdp);
    }
}

#[test]
fn published_values_are_met() {
    let published = vectors().published;
    for measured in published.homogeneous {
        let Terms { sampling_rate, noise_multiplier, steps } = measured.terms;
        let history = run(sampling_rate, noise_multiplier, steps);
        let spent = Spent::of(&history, delta(measured.delta)).unwrap();
        let (pld, rdp) = (spent.by(Accountant::Pld).get(), spent.by(Accountant::Rdp).get());
        assert!((pld / measured.epsilon_pld_dp_accounting - 1.0).abs() < 1e-4, "{history:?}: {pld}");
        assert!(rdp <= measured.epsilon_rdp_dp_accounting, "{history:?}: {rdp}");
        assert!(rdp <= measured.epsilon_rdp_opacus + 5e-7, "{history:?}: {rdp}");
        if let Some(optimum) = measured.epsilon_rdp_continuous_order_optimum {
            assert!((rdp - optimum).abs() < 1e-6, "{history:?}: {rdp}");
        }
    }
    let Changing { history, delta: at, epsilon_pld, epsilon_rdp } = published.heterogeneous;
    let history: History =
        history.iter().map(|terms| phase(terms.sampling_rate, terms.noise_multiplier, terms.steps)).collect();
    assert!((epsilon(Accountant::Pld, &history, at) / epsilon_pld - 1.0).abs() < 1e-4);
    assert!(epsilon(Accountant::Rdp, &history, at) <= epsilon_rdp);
}

/// δ(ε) of T Gaussian steps without sampling (Balle, Wang 2018, theorem 8), by μ = √T/σ.
fn analytic_gaussian(mu: f64, epsilon: f64) -> f64 {
    let above = |x: f64| 0.5 * libm::erfc(x / std::f64::consts::SQRT_2);
    above(epsilon / mu - 0.5 * mu) - epsilon.exp() * above(epsilon / mu + 0.5 * mu)
}

#[test]
fn without_sampling_the_closed_form_is_met() {
    for (noise, steps, at) in [
        (1.0, 1, 1e-5),
        (1.0, 1, 1e-12),
        (0.3, 7, 1e-2),
        (10.0, 100, 1e-8),
        (100.0, 1_000_000, 1e-12),
        (50.0, 3, 1e-3),
    ] {
        let mu = (f64::from(steps)).sqrt() / noise;
        let found = epsilon(Accountant::Pld, &run(1.0, noise, u64::try_from(steps).unwrap()), at);
        let exact_at = |epsilon: f64| analytic_gaussian(mu, epsilon);
        assert!(exact_at(found) <= at, "{noise} {steps} {at}: {found} understates");
        assert!(exact_at(found * (1.0 - 3e-4)) >= at, "{noise} {steps} {at}: {found} overstates");
        let back = Accountant::Pld
            .delta(&run(1.0, noise, u64::try_from(steps).unwrap()), Epsilon::new(found).unwrap());
        let back = back.unwrap().get();
        assert!(back >= exact_at(found) && back <= at * 1.02, "{noise} {steps} {at}: {back}");
    }
}

#[test]
fn nothing_done_costs_nothing() {
    for accountant in BOTH {
        assert_eq!(epsilon(accountant, &History::default(), 1e-5), 0.0);
        assert_eq!(epsilon(accountant, &run(0.5, 1.0, 0), 1e-5), 0.0);
        // A unit that is in a batch with less than probability δ needs no ε.
        assert_eq!(epsilon(accountant, &run(1e-6, 100.0, 1), 1e-2), 0.0);
        let unspent = accountant.delta(&History::default(), Epsilon::ZERO).unwrap();
        assert_eq!(unspent.get(), f64::MIN_POSITIVE);
    }
}

#[test]
fn extremes_are_survived() {
    let mut histories = Vec::new();
    for rate in [1e-6, 0.01, 1.0] {
        for noise in [0.1, 1.0, 100.0] {
            for steps in [1, 1_000_000] {
                histories.push(run(rate, noise, steps));
            }
        }
    }
    histories.push(run(1.0, 1e-3, 1000));
    histories.push(run(0.01, 1e-3, 1000));
    histories.push(run(1e-300, 1.0, 10));
    histories.push(run(0.1, 1.0, u64::MAX));
    histories.push(run(1.0 - 1e-15, 1.0, 10));
    histories.push(History::from(vec![
        phase(1e-6, 100.0, 1_000_000),
        phase(1.0, 0.5, 10),
        phase(0.5, 1e6, 1),
    ]));
    for history in histories {
        for at in [1e-2, 1e-12] {
            let Spent { pld, rdp } = Spent::of(&history, delta(at)).unwrap();
            assert!(pld <= rdp && rdp.get().is_finite(), "{history:?} {at}: {pld} {rdp}");
            for phase in history.phases() {
                let once = epsilon(Accountant::Pld, &History::from(vec![Phase { steps: 1, ..*phase }]), at);
                assert!(pld.get() >= once * (1.0 - 1e-3), "{history:?} {at}: {pld}, one step {once}");
            }
            let back = Accountant::Rdp.delta(&history, pld).unwrap();
            assert!(back.get() >= at * (1.0 - 1e-6) || pld.get() == 0.0, "{history:?} {at}: {back}");
        }
        assert!(epsilon(Accountant::Rdp, &history, 1e-300).is_finite());
        assert!(!epsilon(Accountant::Pld, &history, 1e-300).is_nan());
    }
}

#[test]
fn each_further_step_costs() {
    for (rate, noise, from) in [(0.01, 1.0, 1000), (0.1, 2.0, 100), (1.0, 20.0, 50), (0.001, 0.6, 5000)] {
        for accountant in BOTH {
            let mut before = 0.0;
            for steps in from..from + 6 {
                let now = epsilon(accountant, &run(rate, noise, steps), 1e-5);
                assert!(now > before, "{accountant} {rate} {noise} {steps}: {before} {now}");
                before = now;
            }
        }
    }
}

fn any_phase() -> impl Strategy<Value = Phase> {
    let rate = prop_oneof![4 => (-7.0..0.0_f64).prop_map(f64::exp), 1 => Just(1.0)];
    (rate, (-0.9..3.0_f64).prop_map(f64::exp), 1_u64..2000)
        .prop_map(|(rate, noise, steps)| phase(rate, noise, steps))
}

fn any_delta() -> impl Strategy<Value = f64> {
    (-24.0..-5.0_f64).prop_map(f64::exp)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn more_exposure_costs_more(phase in any_phase(), at in any_delta(), by in 1.01..2.0_f64) {
        let Phase { rate, noise, steps } = phase;
        for accountant in BOTH {
            let here = epsilon(accountant, &History::from(vec![phase]), at);
            for (what, other) in [
                ("steps", epsilon(accountant, &run(rate.get(), noise.get(), (steps as f64 * by).ceil() as u64), at)),
                ("rate", epsilon(accountant, &run((rate.get() * by).min(1.0), noise.get(), steps), at)),
                ("noise", epsilon(accountant, &run(rate.get(), noise.get() / by, steps), at)),
                ("delta", epsilon(accountant, &History::from(vec![phase]), at / by)),
            ] {
                prop_assert!(other >= here, "{accountant} {what}: {here} {other}");
            }
        }
    }

    #[test]
    fn order_does_not_matter(phases in proptest::collection::vec(any_phase(), 1..5), at in any_delta()) {
        let forward: History = phases.iter().copied().collect();
        let backward: History = phases.iter().rev().copied().collect();
        for accountant in BOTH {
            prop_assert_eq!(epsilon(accountant, &forward, at), epsilon(accountant, &backward, at));
        }
    }

    #[test]
    fn together_costs_at_most_the_sum(one in any_phase(), other in any_phase(), at in any_delta()) {
        let (one, both) = (History::from(vec![one]), History::from(vec![one, other]));
        let other = History::from(vec![other]);
        for accountant in BOTH {
            let apart = epsilon(accountant, &one, at) + epsilon(accountant, &other, at);
            let together = epsilon(accountant, &both, 2.0 * at);
            prop_assert!(together <= apart * (1.0 + 1e-9), "{accountant}: {together} {apart}");
            prop_assert!(together >= epsilon(accountant, &one, 2.0 * at) * (1.0 - 2e-4));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn calibrated_noise_spends_the_target(
        (rate, steps) in ((-6.0..0.0_f64).prop_map(f64::exp), 1_u64..3000),
        target in 0.3..12.0_f64,
        at in any_delta(),
        before in 0_u64..200,
    ) {
        let (target, rate, at) = (Epsilon::new(target).unwrap(), SamplingRate::new(rate).unwrap(), delta(at));
        let already = run(0.01, 2.0, before);
        for accountant in BOTH {
            if accountant.epsilon(&already, at).unwrap().get() > 0.9 * target.get() {
                continue;
            }
            let noise = calibrate(accountant, target, rate, steps, at, &already).unwrap();
            let spent = accountant.epsilon(&already.with(Phase { rate, noise, steps }), at).unwrap();
            prop_assert!(spent <= target && spent.get() >= target.get() * 0.999, "{accountant} {noise}: {spent}");
        }
    }

    #[test]
    fn one_step_more_than_affordable_does_not_fit(phase in any_phase(), at in any_delta(), share in 0.2..1.5_f64) {
        let already = run(0.02, 1.5, 50);
        let Phase { rate, noise, steps } = phase;
        for accountant in BOTH {
            let all = accountant.epsilon(&already.with(phase), delta(at)).unwrap().get();
            let budget = Epsilon::new(all * share).unwrap();
            let most = affordable_steps(accountant, &already, rate, noise, delta(at), budget, steps).unwrap();
            let cost = |steps| accountant.epsilon(&already.with(Phase { steps, ..phase }), delta(at)).unwrap();
            prop_assert!(most == 0 || cost(most) <= budget);
            prop_assert!(most == steps || cost(most + 1) > budget);
        }
    }
}

#[test]
fn unreachable_targets_are_refused() {
    let (rate, at) = (SamplingRate::new(0.1).unwrap(), delta(1e-5));
    for accountant in BOTH {
        let spent = run(0.1, 1.0, 100);
        let target = Epsilon::new(0.5).unwrap();
        let refused = calibrate(accountant, target, rate, 10, at, &spent).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "no noise multiplier up to 1e6 keeps 10 steps at sampling rate 0.1 within epsilon 0.5 at delta 0.00001"
        );
        assert!(calibrate(accountant, target, rate, 0, at, &History::default()).is_err());
        let none = NoiseMultiplier::new(1.0).unwrap();
        assert_eq!(affordable_steps(accountant, &spent, rate, none, at, target, 10).unwrap(), 0);
    }
}

#[test]
fn names_are_read_and_written() {
    for accountant in BOTH {
        assert_eq!(accountant.to_string().parse::<Accountant>().unwrap(), accountant);
        assert_eq!(serde_json::to_string(&accountant).unwrap(), format!("\"{accountant}\""));
    }
    assert_eq!(
        "PLD".parse::<Accountant>().unwrap_err().to_string(),
        "an accountant is pld or rdp, not \"PLD\""
    );
}
