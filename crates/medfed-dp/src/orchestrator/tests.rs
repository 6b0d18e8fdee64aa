use super::*;
use crate::ledger::{Ledger, LedgerStorage, RoundRequest};
use crate::plan::tests::terms;
use medfed_types::{RoundId, RunId, SamplingRate, SiteId};
use proptest::prelude::{Just, ProptestConfig, prop, prop_assert_eq, prop_oneof, proptest};
use proptest::strategy::Strategy as Generator;
use std::cell::RefCell;
use std::rc::Rc;

fn policy(strategy: Strategy) -> OrchestratorTerms {
    OrchestratorTerms { strategy, warning: 0.75, critical: 0.9, factor: 1.1, limit: 10.0 }
}

fn orchestrator(strategy: Strategy) -> Orchestrator {
    Orchestrator::new(policy(strategy)).unwrap()
}

fn plan(accountant: Accountant, noise: f64, rate: f64, budget: f64) -> DpPlan {
    DpPlan::new(PlanTerms {
        accountant,
        noise: NoiseMultiplier::new(noise).unwrap(),
        rate: SamplingRate::new(rate).unwrap(),
        budget: Epsilon::new(budget).unwrap(),
        ..terms()
    })
    .unwrap()
}

fn steps(steps: u64) -> NonZeroU64 {
    NonZeroU64::new(steps).unwrap()
}

fn rounds(rounds: u32) -> NonZeroU32 {
    NonZeroU32::new(rounds).unwrap()
}

fn names(decision: &Decision) -> Vec<String> {
    let name = |reason: &Reason| serde_json::to_value(reason).unwrap()["reason"].as_str().unwrap().to_owned();
    decision.reasons.iter().map(name).collect()
}

#[test]
fn terms_are_checked() {
    let good = policy(Strategy::Fit);
    assert!(Orchestrator::new(good).is_ok());
    for bad in [
        OrchestratorTerms { warning: 0.95, ..good },
        OrchestratorTerms { warning: 0.0, ..good },
        OrchestratorTerms { critical: 1.5, ..good },
        OrchestratorTerms { critical: f64::NAN, ..good },
        OrchestratorTerms { factor: 0.9, ..good },
        OrchestratorTerms { factor: f64::INFINITY, ..good },
        OrchestratorTerms { limit: 0.5, ..good },
    ] {
        assert!(matches!(Orchestrator::new(bad), Err(DpError::Scalar(_))), "{bad:?}");
    }
}

#[test]
fn fit_leaves_a_plan_that_fits_alone() {
    for accountant in [Accountant::Pld, Accountant::Rdp] {
        let plan = plan(accountant, 1.1, 0.05, 50.0);
        let run = orchestrator(Strategy::Fit).foresee(&plan, steps(20), rounds(10)).unwrap();
        assert_eq!(run.len(), 10);
        assert!(run.iter().all(|d| !d.is_notable() && d.noise == plan.terms().noise), "{run:?}");
        let end = run[0].at_end.unwrap().get();
        assert!((run[9].after_round.get() / end - 1.0).abs() < 1e-12, "the first projection comes true");
    }
}

#[test]
fn fit_takes_the_smallest_noise_that_lets_the_plan_end() {
    for accountant in [Accountant::Pld, Accountant::Rdp] {
        let plan = plan(accountant, 0.8, 0.05, 3.0);
        let run = orchestrator(Strategy::Fit).foresee(&plan, steps(20), rounds(10)).unwrap();
        assert_eq!(run.len(), 10);
        assert_eq!((run[0].action, names(&run[0])), (Action::Raise, vec!["plan_passes_budget".to_owned()]));
        assert!(run[1..].iter().all(|d| d.action == Action::Keep && d.noise == run[0].noise));
        let end = run[9].after_round.get();
        assert!(end <= 3.0 && end > 2.999, "{end}");
        // A little less would not do.
        let less =
            plan.clone().with_noise(NoiseMultiplier::new(run[0].noise.get() * 0.9999).unwrap()).unwrap();
        let history = std::iter::once(less.phase(200)).collect();
        assert!(accountant.epsilon(&history, plan.terms().delta).unwrap().get() > 3.0);
        let warned: Vec<_> = run.iter().map(|d| names(d).contains(&"warning".to_owned())).collect();
        assert_eq!(warned.iter().filter(|w| **w).count(), 1, "one warning, when the line is passed");
    }
}

#[test]
fn a_hospital_that_sat_out_gets_its_noise_back() {
    let plan = plan(Accountant::Rdp, 0.8, 0.05, 3.0);
    let orchestrator = orchestrator(Strategy::Fit);
    let first = orchestrator.foresee(&plan, steps(20), rounds(10)).unwrap()[0].noise;
    let history: History = std::iter::once(plan.clone().with_noise(first).unwrap().phase(20)).collect();
    let at = |left| {
        let outlook = Outlook { plan: &plan, history: &history, steps: steps(20), rounds: rounds(left) };
        orchestrator.decide(&outlook).unwrap()
    };
    let (on_time, late, last) = (at(9), at(4), at(1));
    assert_eq!((on_time.action, on_time.noise), (Action::Keep, first));
    assert_eq!((late.action, names(&late)), (Action::Lower, vec!["room".to_owned()]));
    assert!(late.noise < first && late.noise > plan.terms().noise);
    assert!(late.at_end.unwrap().get() > 2.99 && late.at_end.unwrap().get() <= 3.0);
    assert!(last.action == Action::Lower && last.noise < late.noise);
}

#[test]
fn step_raises_by_the_factor_from_the_critical_share_on() {
    let plan = plan(Accountant::Pld, 0.8, 0.05, 6.0);
    let run = orchestrator(Strategy::Step).foresee(&plan, steps(20), rounds(40)).unwrap();
    let mut noise = 0.8;
    for decision in &run[..run.len() - 1] {
        let critical = names(decision).contains(&"critical_step".to_owned());
        if critical {
            noise *= 1.1;
        }
        let alone = names(decision).contains(&"round_passes_budget".to_owned());
        assert!(alone || (decision.noise.get() - noise).abs() < 1e-12, "{decision:?}");
        noise = decision.noise.get();
        assert!(decision.after_round.get() <= 6.0);
        let share = decision.after_round.get() / 6.0;
        assert!(critical || share < 0.9, "{decision:?}");
    }
    let last = run.last().unwrap();
    assert_eq!((last.action, names(last)), (Action::Leave, vec!["budget_spent".to_owned()]));
    assert!(last.spent.get() > 5.9, "{}", last.spent);
    assert!(run.len() > 5 && run.len() < 40, "{} rounds", run.len());
}

#[test]
fn calibrated_is_solved_in_advance_and_stays() {
    let orchestrator = orchestrator(Strategy::Calibrated);
    let opened = orchestrator.opening(plan(Accountant::Pld, 0.8, 0.05, 3.0), 200).unwrap();
    assert!(opened.terms().noise.get() > 0.8);
    let run = orchestrator.foresee(&opened, steps(20), rounds(10)).unwrap();
    assert_eq!(run.len(), 10);
    assert!(run.iter().all(|d| d.action == Action::Keep && d.noise == opened.terms().noise));
    assert!(run[9].after_round.get() <= 3.0 && run[9].after_round.get() > 2.999);
    let generous = plan(Accountant::Pld, 0.8, 0.05, 300.0);
    assert_eq!(orchestrator.opening(generous.clone(), 200).unwrap(), generous, "never less than the plan's");
    let steady = Orchestrator::new(policy(Strategy::Fit)).unwrap();
    let fitted = steady.foresee(&plan(Accountant::Pld, 0.8, 0.05, 3.0), steps(20), rounds(10)).unwrap();
    assert_eq!(fitted[0].noise, opened.terms().noise, "without absences fit arrives at the same noise");
}

#[test]
fn noise_stops_at_the_limit_and_the_hospital_leaves_then() {
    let narrow = OrchestratorTerms { limit: 1.2, ..policy(Strategy::Fit) };
    let plan = plan(Accountant::Pld, 0.8, 0.05, 3.0);
    let run = Orchestrator::new(narrow).unwrap().foresee(&plan, steps(20), rounds(10)).unwrap();
    assert!(run.len() < 10);
    assert!(run.iter().all(|d| d.noise.get() <= 0.8 * 1.2));
    assert_eq!(names(&run[0]), ["plan_passes_budget", "limit"]);
    assert_eq!(run.last().unwrap().action, Action::Leave);
    assert!(run.last().unwrap().spent.get() <= 3.0);
}

#[test]
fn decisions_read_well_and_survive_storage() {
    let plan = plan(Accountant::Pld, 0.8, 0.05, 3.0);
    for strategy in [Strategy::Fit, Strategy::Step] {
        for decision in orchestrator(strategy).foresee(&plan, steps(20), rounds(10)).unwrap() {
            let json = serde_json::to_string(&decision).unwrap();
            assert_eq!(serde_json::from_str::<Decision>(&json).unwrap(), decision, "{json}");
        }
    }
    let run = orchestrator(Strategy::Fit).foresee(&plan, steps(20), rounds(10)).unwrap();
    let text = run[0].to_string();
    let expected =
        "trains with noise 1.2868, raised from 0.8000: the rounds that are left would lead to epsilon ";
    assert!(text.starts_with(expected) && text.ends_with(", the budget is 3"), "{text}");
    assert_eq!(run[1].to_string(), "trains with noise 1.2868");
}

/// A ledger's disk.
#[derive(Debug, Clone, Default)]
struct Disk(Rc<RefCell<Vec<Vec<u8>>>>);

impl LedgerStorage for Disk {
    type Error = std::convert::Infallible;
    fn records(&mut self) -> Result<Vec<Vec<u8>>, Self::Error> {
        Ok(self.0.borrow().clone())
    }
    fn append(&mut self, position: usize, record: &[u8]) -> Result<(), Self::Error> {
        assert_eq!(position, self.0.borrow().len());
        self.0.borrow_mut().push(record.to_vec());
        Ok(())
    }
}

/// Where a process is killed within a round.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kill {
    BeforePaying,
    AfterPaying,
    AfterTraining,
}

fn kill() -> impl Generator<Value = Kill> {
    prop_oneof![Just(Kill::BeforePaying), Just(Kill::AfterPaying), Just(Kill::AfterTraining)]
}

/// A hospital of the property test.
#[derive(Debug, Clone)]
struct Clinic {
    noise: f64,
    rate: f64,
    budget: f64,
    steps: u64,
    /// Whether it is drawn for each round.
    drawn: Vec<bool>,
    /// Noise and steps of rounds that were paid for before the orchestrator came.
    past: Vec<(f64, u64)>,
}

fn clinic() -> impl Generator<Value = Clinic> {
    (
        0.3f64..3.0,
        0.005f64..1.0,
        0.05f64..20.0,
        1u64..60,
        prop::collection::vec(prop::bool::weighted(0.8), 12),
        prop::collection::vec((0.2f64..4.0, 1u64..40), 0..3),
    )
        .prop_map(|(noise, rate, budget, steps, drawn, past)| Clinic {
            noise,
            rate,
            budget,
            steps,
            drawn,
            past,
        })
}

/// A run of one hospital, killed as `kills` says: the coordinator knows what was committed, the ledger
/// what was paid. Returns the announcements that were committed.
fn live(
    orchestrator: &Orchestrator,
    clinic: &Clinic,
    accountant: Accountant,
    planned: u32,
    kills: &[(u32, Kill)],
) -> Vec<Decision> {
    let (mut plan, disk) = (plan(accountant, clinic.noise, clinic.rate, clinic.budget), Disk::default());
    match orchestrator.opening(plan.clone(), clinic.steps * u64::from(planned)) {
        Ok(opened) => plan = opened,
        Err(DpError::Unreachable { .. }) => return Vec::new(),
        Err(error) => panic!("{error}"),
    }
    let open = || {
        let (run, site) = (RunId::try_from("run").unwrap(), SiteId::try_from("North").unwrap());
        Ledger::open(run, site, disk.clone()).unwrap()
    };
    let terms = plan.terms();
    // As much of the past as the budget allowed.
    let before = clinic.past.len() as u32;
    for (round, (noise, taken)) in (1..).zip(&clinic.past) {
        let other = plan.clone().with_noise(NoiseMultiplier::new(*noise).unwrap()).unwrap();
        let request = RoundRequest { round: RoundId(round), steps: steps(*taken), inputs: [0; 32] };
        match open().reserve(&other, request) {
            Ok(_) | Err(DpError::BudgetExhausted { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    let mut committed = open().history().clone();
    let mut decisions = Vec::new();
    let mut kills: Vec<_> = kills.to_vec();
    let mut round = 1;
    while round <= planned {
        let (history, left) = (committed.clone(), rounds(planned - round + 1));
        let outlook = Outlook { plan: &plan, history: &history, steps: steps(clinic.steps), rounds: left };
        let decision = orchestrator.decide(&outlook).unwrap();
        if decision.action == Action::Leave {
            decisions.push(decision);
            break;
        }
        if !clinic.drawn[round as usize % clinic.drawn.len()] {
            round += 1;
            continue;
        }
        let killed = kills.iter().position(|(at, _)| *at == round).map(|index| kills.remove(index).1);
        if killed == Some(Kill::BeforePaying) {
            continue;
        }
        let announced = plan.clone().with_noise(decision.noise).unwrap();
        let request =
            RoundRequest { round: RoundId(before + round), steps: steps(clinic.steps), inputs: [1; 32] };
        let grant = open().reserve(&announced, request).expect("what was announced can be paid for");
        assert_eq!(grant.steps(), clinic.steps, "a round is paid for as a whole");
        let spent = accountant.epsilon(open().history(), terms.delta).unwrap();
        assert!(spent <= terms.budget, "{spent} of {}", terms.budget);
        assert_eq!(spent, decision.after_round, "what is accounted is what was announced");
        assert_eq!(open().history().phases().last().unwrap().noise, decision.noise);
        assert!(decision.noise >= terms.noise);
        if matches!(killed, Some(Kill::AfterPaying | Kill::AfterTraining)) {
            // The next sitting starts from what was committed, and decides the same.
            continue;
        }
        committed.push(announced.phase(grant.steps()));
        decisions.push(decision);
        round += 1;
    }
    assert_eq!(&committed, open().history(), "nothing was paid for in vain");
    decisions
}

fn strategies() -> impl Generator<Value = OrchestratorTerms> {
    let named = prop_oneof![Just(Strategy::Fit), Just(Strategy::Step), Just(Strategy::Calibrated)];
    (named, 0.1f64..0.9, 1.0f64..3.0, 1.0f64..30.0).prop_map(|(strategy, critical, factor, limit)| {
        OrchestratorTerms { strategy, warning: critical / 2.0, critical, factor, limit }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn no_hospital_passes_its_budget_whatever_happens(
        policy in strategies(),
        clinic in clinic(),
        planned in 1u32..7,
        kills in prop::collection::vec((1u32..7, kill()), 0..6),
    ) {
        let orchestrator = Orchestrator::new(policy).unwrap();
        let killed = live(&orchestrator, &clinic, Accountant::Rdp, planned, &kills);
        prop_assert_eq!(killed, live(&orchestrator, &clinic, Accountant::Rdp, planned, &[]));
    }
}

/// The same by the slower accountant, for a few hospitals.
#[test]
fn no_hospital_passes_its_budget_by_the_other_accountant() {
    let drawn = [true, true, false, true].to_vec();
    for (strategy, noise, rate, budget) in [
        (Strategy::Fit, 0.7, 0.03, 2.0),
        (Strategy::Step, 0.9, 0.1, 5.0),
        (Strategy::Calibrated, 0.6, 0.05, 1.0),
    ] {
        let clinic = Clinic { noise, rate, budget, steps: 15, drawn: drawn.clone(), past: vec![(2.0, 3)] };
        let kills = [(1, Kill::AfterPaying), (2, Kill::BeforePaying), (4, Kill::AfterTraining)];
        let run = live(&orchestrator(strategy), &clinic, Accountant::Pld, 6, &kills);
        assert!(run.len() > 2, "{run:?}");
    }
}
