//! The coordinator, round by round, with replies made by hand: bad input, rules, detection, budgets.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use medfed_aggregate::anomaly::{Detector, DetectorSettings, Method, Statistic};
use medfed_aggregate::{Aggregator, PreStep, Rule, TrimRatio};
use medfed_dp::orchestrator::{Action, Reason};
use medfed_dp::{
    Accountant, DpPlan, ExpectedBatchSize, Ledger, Orchestrator, OrchestratorTerms, PlanTerms, PrivacyUnit,
    RoundRequest, Strategy,
};
use medfed_federation::VolatileLedger;
use medfed_federation::coordinator::{
    Aborted, AnnouncedLocal, Coordinator, CoordinatorSettings, Evaluating, EvaluationPlan, Member,
    OnDetection, Selection, Training,
};
use medfed_federation::report::{PrivacySpent, RoundReport, RunStatus, SiteStatus};
use medfed_federation::site::{LocalReport, RawUpdate, SiteReply, TrainRequest};
use medfed_nn::schedule::{LearningRate, Schedule};
use medfed_types::{ClipNorm, Delta, Epsilon, NoiseMultiplier, RoundId, RunId, SamplingRate, Seed, SiteId};
use std::collections::BTreeMap;
use std::num::NonZeroU64;

const PARAMETERS: usize = 60;
const IMAGES: u64 = 100;
const STEPS: u64 = 10;

fn site(index: usize) -> SiteId {
    SiteId::try_from(format!("Hospital {index:02}")).unwrap()
}

fn settings(rule: Rule) -> CoordinatorSettings {
    CoordinatorSettings {
        rounds: 5,
        fraction_fit: 1.0,
        min_fit: 2,
        min_available: 2,
        ema_decay: 0.0,
        seed: Seed(1),
        aggregator: Aggregator::new(rule, PreStep::None).unwrap(),
        detector: None,
        on_detection: OnDetection::Flag,
        evaluation: EvaluationPlan { every: 1, fraction: 1.0, least: 1, fairness: None },
        orchestrator: None,
        measurement_threshold: None,
        masking: None,
    }
}

fn searched(rule: Rule, on_detection: OnDetection) -> CoordinatorSettings {
    let detector = Detector::new(DetectorSettings::new(Method::Robust, 3.0).unwrap());
    CoordinatorSettings { detector: Some(detector), on_detection, ..settings(rule) }
}

fn member(index: usize, plan: Option<DpPlan>) -> Member {
    Member {
        site: site(index),
        train_images: IMAGES,
        train_units: IMAGES,
        validation_images: 0,
        training: AnnouncedLocal {
            steps: STEPS,
            learning_rate: LearningRate::new(0.1, Schedule::Constant, 50).unwrap(),
            momentum: Some(0.0),
            weight_decay: 0.0,
            parameters: PARAMETERS,
            plan,
        },
    }
}

fn coordinator(settings: CoordinatorSettings, hospitals: usize) -> Coordinator {
    let members = (0..hospitals).map(|index| member(index, None)).collect();
    Coordinator::new(settings, members, vec![0.0; PARAMETERS]).unwrap()
}

fn training(coordinator: Coordinator) -> Training {
    match coordinator.select().unwrap() {
        Selection::Round(training) => training,
        Selection::Ended(ended) => panic!("{:?}: {:?}", ended.status, ended.reason),
    }
}

fn report(privacy: Option<PrivacySpent>) -> LocalReport {
    LocalReport {
        steps: STEPS,
        train_loss: Some(0.5),
        images: Some(100),
        units: Some(100),
        clipped_fraction: Some(0.1),
        non_finite_units: Some(0),
        privacy,
        can_continue: true,
    }
}

/// An honest update: near 1 everywhere, a little different at each hospital.
fn honest(index: usize, round: RoundId) -> RawUpdate {
    let value = |i: usize| 1.0 + 0.01 * ((index * 7 + i * 3) % 11) as f32;
    RawUpdate { round, delta: (0..PARAMETERS).map(value).collect(), weight: IMAGES as f64 }
}

/// Everyone answers honestly but those whom `bad` gives something else to say.
fn round(
    coordinator: Coordinator,
    bad: impl Fn(usize, RawUpdate) -> RawUpdate,
) -> Result<Evaluating, Box<Aborted>> {
    let mut training = training(coordinator);
    let round = training.round();
    for site in training.selected().to_vec() {
        let index = site.as_str()[9..].parse().unwrap();
        let update = bad(index, honest(index, round));
        training.receive(site, SiteReply::Trained { update, report: report(None) }).unwrap();
    }
    training.aggregate()
}

fn finished(outcome: Result<Evaluating, Box<Aborted>>) -> (Coordinator, RoundReport) {
    outcome.unwrap_or_else(|aborted| panic!("{}", aborted.reason)).commit()
}

/// Everything that a hospital can send and that is no update: its name, what it does, whether it shows as
/// a finding, and what the reason says.
type Fault = (&'static str, fn(RawUpdate) -> RawUpdate, Option<Statistic>, &'static str);

const FAULTS: [Fault; 9] = [
    ("short", |u| RawUpdate { delta: u.delta[1..].to_vec(), ..u }, None, "has 59 values, the model has 60"),
    ("empty", |u| RawUpdate { delta: Vec::new(), ..u }, None, "has 0 values"),
    (
        "nan",
        |mut u| {
            u.delta[7] = f32::NAN;
            u
        },
        Some(Statistic::NotFinite),
        "not finite at parameter 7",
    ),
    (
        "infinite",
        |mut u| {
            u.delta[0] = f32::INFINITY;
            u
        },
        Some(Statistic::NotFinite),
        "not finite at parameter 0",
    ),
    ("replayed", |u| RawUpdate { round: RoundId(0), ..u }, None, "is for round 0, not 1"),
    (
        "forged",
        |u| RawUpdate { weight: 1e9, ..u },
        Some(Statistic::SampleCount),
        "claims 1000000000 images and enrolled with 100",
    ),
    (
        "weightless",
        |u| RawUpdate { weight: 0.0, ..u },
        Some(Statistic::SampleCount),
        "must be finite and above 0",
    ),
    (
        "negative",
        |u| RawUpdate { weight: -100.0, ..u },
        Some(Statistic::SampleCount),
        "must be finite and above 0",
    ),
    (
        "no number",
        |u| RawUpdate { weight: f64::NAN, ..u },
        Some(Statistic::SampleCount),
        "must be finite and above 0",
    ),
];

#[test]
fn what_is_no_update_is_left_out_by_name_and_the_round_goes_on() {
    for rule in [Rule::FedAvg, Rule::Median, Rule::Krum { byzantine: 1 }] {
        let (clean, _) = finished(round(coordinator(settings(rule), 5), |_, update| update));
        for (name, fault, statistic, reason) in FAULTS {
            let bad = |index, update| if index == 3 { fault(update) } else { update };
            let (after, report) = finished(round(coordinator(settings(rule), 6), bad));
            let security = &report.security;
            assert!(security.byzantine_detected, "{name}");
            assert_eq!(security.excluded_clients, [site(3)], "{name}");
            assert!(
                security.exclusions[0].reason.contains(reason),
                "{name}: {}",
                security.exclusions[0].reason
            );
            let found: Vec<_> = security.anomalies.iter().map(|finding| finding.statistic).collect();
            assert_eq!(found, statistic.into_iter().collect::<Vec<_>>(), "{name}");
            assert_eq!(report.hospitals[3].status, SiteStatus::Excluded);
            assert_eq!((report.num_clients, report.hospitals[3].update_norm), (5, None));
            assert!(security.sentence().unwrap().contains("Hospital 03 was left out"), "{name}");
            assert!(after.parameters().iter().all(|value| (1.0..1.12).contains(value)), "{name}");
            // JSON has no NaN: what is reported can be stored.
            let json = serde_json::to_string(&report).unwrap();
            assert_eq!(serde_json::from_str::<RoundReport>(&json).unwrap(), report, "{name}");
        }
        assert!(clean.parameters().iter().all(|value| (1.0..1.12).contains(value)));
    }
}

/// Whoever is refused at the door is one of the bad hospitals that a rule was told to withstand: it must
/// not end the run by sending nonsense.
#[test]
fn who_is_refused_is_no_longer_among_the_bad_ones() {
    let rules = [
        (Rule::Krum { byzantine: 2 }, 7),
        (Rule::MultiKrum { byzantine: 2, selected: 8 }, 10),
        (Rule::Bulyan { byzantine: 2 }, 11),
    ];
    for (rule, hospitals) in rules {
        for nonsense in 1..4 {
            let spoil = |index: usize, mut update: RawUpdate| {
                if index < nonsense {
                    update.delta[0] = f32::NAN;
                }
                update
            };
            match round(coordinator(settings(rule), hospitals), spoil) {
                Ok(evaluating) => {
                    let (after, report) = evaluating.commit();
                    assert!(nonsense <= 2, "{rule}");
                    assert_eq!(report.num_clients, (hospitals - nonsense) as u64, "{rule}");
                    assert!(after.parameters().iter().all(|value| (1.0..1.12).contains(value)), "{rule}");
                    assert!(!report.security.warnings.iter().any(|w| w.contains("expect no bad")), "{rule}");
                }
                Err(aborted) => {
                    assert_eq!(nonsense, 3, "{rule}: {}", aborted.reason);
                    assert!(aborted.reason.contains("needs"), "{}", aborted.reason);
                }
            }
        }
    }
}

#[test]
fn where_the_rule_has_too_few_left_the_round_comes_to_nothing() {
    let spoil = |index: usize, mut update: RawUpdate| {
        if index < 2 {
            update.delta[0] = f32::NAN;
        }
        update
    };
    let rule = Rule::Krum { byzantine: 1 };
    let (before, _) = finished(round(coordinator(settings(rule), 6), |_, update| update));
    let model = before.parameters().clone();
    let aborted = round(before, spoil).unwrap_err();
    assert!(aborted.reason.contains("needs 5 hospitals, there are 4"), "{}", aborted.reason);
    assert_eq!(aborted.culprits, [site(0), site(1)]);
    assert_eq!((aborted.coordinator.done(), aborted.coordinator.parameters()), (RoundId(1), &model));
    assert!(!aborted.budget_exhausted && aborted.security.byzantine_detected);

    let all = |_, update: RawUpdate| RawUpdate { weight: 1e6, ..update };
    let aborted = round(coordinator(settings(Rule::FedAvg), 3), all).unwrap_err();
    assert!(
        aborted.reason.contains("0 of 3 hospitals sent a usable update, 2 are needed"),
        "{}",
        aborted.reason
    );
    assert!(
        aborted.reason.contains("Hospital 02 was left out: it claims 1000000 images"),
        "{}",
        aborted.reason
    );
    assert_eq!(aborted.culprits, [site(0), site(1), site(2)]);
}

fn huge(index: usize, mut update: RawUpdate) -> RawUpdate {
    if index == 4 {
        update.delta.iter_mut().for_each(|value| *value *= 1e4);
    }
    update
}

#[test]
fn detection_flags_excludes_or_halts() {
    let (flagged, report) = finished(round(coordinator(searched(Rule::FedAvg, OnDetection::Flag), 10), huge));
    assert!(report.security.byzantine_detected && report.security.excluded_clients.is_empty());
    assert!(report.security.anomalies.iter().any(|f| f.site == site(4) && f.statistic == Statistic::Norm));
    assert!(report.security.anomalies.iter().all(|finding| finding.power.is_some()));
    assert_eq!(report.hospitals[4].status, SiteStatus::Trained);
    assert!(flagged.parameters()[0] > 100.0, "what is only flagged is used");

    let settings = searched(Rule::FedAvg, OnDetection::Exclude);
    let (excluded, report) = finished(round(coordinator(settings, 10), huge));
    assert_eq!(report.security.excluded_clients, [site(4)]);
    assert_eq!((report.hospitals[4].status, report.num_clients), (SiteStatus::Excluded, 9));
    assert!(report.hospitals[4].update_norm.unwrap() > 1e4, "its norm is known");
    assert!(excluded.parameters()[0] < 1.12);

    let (before, report) =
        finished(round(coordinator(searched(Rule::FedAvg, OnDetection::Halt), 10), |_, update| update));
    assert!(!report.security.byzantine_detected, "{:?}", report.security);
    let model = before.parameters().clone();
    let aborted = round(before, huge).unwrap_err();
    assert!(aborted.reason.contains("updates are out of line (Hospital 04"), "{}", aborted.reason);
    assert_eq!((aborted.culprits, aborted.coordinator.parameters()), (vec![site(4)], &model));
}

#[test]
fn a_trim_that_removes_nobody_is_a_warning() {
    let rule = Rule::TrimmedMean { ratio: TrimRatio::new(0.1).unwrap() };
    let (_, report) = finished(round(coordinator(settings(rule), 3), |_, update| update));
    assert!(report.security.warnings.iter().any(|text| text.contains("leaves out nobody of 3 hospitals")));
    assert!(report.security.aggregation_method.starts_with("trimmed_mean"));
    assert!(!report.security.byzantine_detected);
    let (_, report) = finished(round(coordinator(settings(rule), 10), |_, update| update));
    assert_eq!(report.security.warnings, Vec::<String>::new());
}

#[test]
fn a_round_draws_what_the_rule_needs() {
    let settings = CoordinatorSettings { fraction_fit: 0.3, ..settings(Rule::Krum { byzantine: 1 }) };
    assert_eq!(training(coordinator(settings.clone(), 10)).selected().len(), 5);
    match coordinator(settings, 4).select().unwrap() {
        Selection::Ended(ended) => assert!(ended.reason.unwrap().contains("4 are left, 5 are needed")),
        Selection::Round(_) => panic!("four hospitals cannot make a round"),
    }
}

/// Rules and detector remember: a coordinator that is put back from its snapshot goes on as if nothing had
/// happened.
#[test]
fn a_restart_changes_nothing() {
    let sybils = |index: usize, mut update: RawUpdate| {
        if index > 2 {
            update.delta.iter_mut().enumerate().for_each(|(i, value)| *value = (i % 2) as f32);
        }
        update
    };
    for rule in [Rule::FoolsGold, Rule::CenteredClipping { radius: Some(0.5), iterations: 2 }] {
        let fresh = || coordinator(searched(rule, OnDetection::Flag), 6);
        let run = |restarts: bool| {
            let mut coordinator = fresh();
            for _ in 0..5 {
                if restarts {
                    let (state, reports) = (coordinator.snapshot(), coordinator.reports().to_vec());
                    coordinator = fresh();
                    coordinator.restore(&state, reports).unwrap();
                }
                coordinator = finished(round(coordinator, sybils)).0;
            }
            (coordinator.parameters().to_vec(), coordinator.reports().to_vec())
        };
        assert_eq!(run(true), run(false));
    }
    let mut state = coordinator(searched(Rule::FoolsGold, OnDetection::Flag), 6).snapshot();
    for damage in [Some(vec![1, 2, 3]), None] {
        match damage {
            Some(bytes) => state.blobs.insert("aggregator".into(), bytes),
            None => state.blobs.remove("aggregator"),
        };
        let refused = coordinator(settings(Rule::FoolsGold), 6).restore(&state, Vec::new());
        assert!(refused.is_err(), "history that is lost is not taken for none");
    }
}

#[test]
fn measurements_out_of_line_are_found_where_that_is_possible() {
    let watch = Orchestrator::new(terms(Strategy::Fit)).unwrap();
    let settings = CoordinatorSettings {
        orchestrator: Some(watch),
        measurement_threshold: Some(3.0),
        ..settings(Rule::FedAvg)
    };
    let (_, report) = finished(round(coordinator(settings.clone(), 12), huge));
    let found = report.orchestrator.unwrap();
    assert_eq!(found.anomalies.len(), 1, "{found:?}");
    assert_eq!(found.anomalies[0].hospital, site(4));
    assert!(found.warnings.is_empty());
    let (_, report) = finished(round(coordinator(settings, 5), huge));
    let blind = report.orchestrator.unwrap();
    assert!(blind.anomalies.is_empty() && blind.warnings[0].contains("what 5 hospitals report"));
}

fn terms(strategy: Strategy) -> OrchestratorTerms {
    OrchestratorTerms { strategy, warning: 0.5, critical: 0.8, factor: 1.3, limit: 4.0 }
}

fn plan(noise: f64, rate: f64) -> DpPlan {
    DpPlan::new(PlanTerms {
        unit: PrivacyUnit::Image,
        clip: ClipNorm::new(1.0).unwrap(),
        noise: NoiseMultiplier::new(noise).unwrap(),
        rate: SamplingRate::new(rate).unwrap(),
        expected_batch_size: ExpectedBatchSize::new(20.0).unwrap(),
        secure_mode: false,
        delta: Delta::new(1e-5).unwrap(),
        accountant: Accountant::Rdp,
        budget: Epsilon::new(6.0).unwrap(),
    })
    .unwrap()
}

/// Hospitals with real ledgers that pay for what they are asked.
struct Clinics {
    plans: Vec<DpPlan>,
    ledgers: BTreeMap<SiteId, Ledger<VolatileLedger>>,
}

impl Clinics {
    fn new(rates: &[f64]) -> Self {
        let open = |index: usize| {
            let run = RunId::try_from("run").unwrap();
            (site(index), Ledger::open(run, site(index), VolatileLedger::default()).unwrap())
        };
        Self {
            plans: rates.iter().map(|rate| plan(1.0, *rate)).collect(),
            ledgers: (0..rates.len()).map(open).collect(),
        }
    }

    fn coordinator(&self, strategy: Strategy) -> Coordinator {
        let settings = CoordinatorSettings {
            orchestrator: Some(Orchestrator::new(terms(strategy)).unwrap()),
            rounds: 12,
            ..settings(Rule::FedAvg)
        };
        let members = self.plans.iter().enumerate().map(|(i, plan)| member(i, Some(plan.clone()))).collect();
        Coordinator::new(settings, members, vec![0.0; PARAMETERS]).unwrap()
    }

    fn reply(&mut self, index: usize, request: &TrainRequest) -> SiteReply {
        let plan = self.plans[index].clone().with_noise(request.noise.unwrap()).unwrap();
        let ledger = self.ledgers.get_mut(&site(index)).unwrap();
        let steps = NonZeroU64::new(STEPS).unwrap();
        let wanted = RoundRequest { round: request.round, steps, inputs: [request.round.0 as u8; 32] };
        assert_eq!(ledger.reserve(&plan, wanted).unwrap().steps(), STEPS, "what is announced can be paid");
        let terms = plan.terms();
        let spent = ledger.spent(terms.delta).unwrap();
        assert!(spent.rdp <= terms.budget, "{}", spent.rdp);
        let privacy = PrivacySpent {
            sampling_rate: terms.rate.get(),
            noise_multiplier: terms.noise.get(),
            epsilon_total: spent.rdp.get(),
            epsilon_pld: spent.pld.get(),
            epsilon_rdp: spent.rdp.get(),
        };
        SiteReply::Trained { update: honest(index, request.round), report: report(Some(privacy)) }
    }

    /// Runs to the end; with `kill`, every round is paid for, thrown away and done again by a restarted
    /// coordinator.
    fn run(&mut self, strategy: Strategy, kill: bool) -> (Vec<RoundReport>, RunStatus, Option<String>) {
        let mut coordinator = self.coordinator(strategy);
        let mut killed = !kill;
        loop {
            let state = (coordinator.snapshot(), coordinator.reports().to_vec());
            let mut training = match coordinator.select().unwrap() {
                Selection::Ended(ended) => {
                    let decisions = ended.decisions;
                    assert!(decisions.iter().all(|d| d.decision.action == Action::Leave));
                    return (ended.coordinator.reports().to_vec(), ended.status, ended.reason);
                }
                Selection::Round(training) => training,
            };
            for site in training.selected().to_vec() {
                let index = site.as_str()[9..].parse().unwrap();
                let reply = self.reply(index, &training.request(&site));
                training.receive(site, reply).unwrap();
            }
            if kill && !killed {
                killed = true;
                coordinator = self.coordinator(strategy);
                coordinator.restore(&state.0, state.1).unwrap();
                continue;
            }
            killed = !kill;
            coordinator = finished(training.aggregate()).0;
        }
    }
}

#[test]
fn a_hospital_whose_budget_is_spent_leaves_and_the_others_go_on() {
    // The first hospital is small: each of its images is drawn far more often.
    let rates = [0.3, 0.05, 0.04];
    let (reports, status, _) = Clinics::new(&rates).run(Strategy::Step, false);
    assert_eq!((status, reports.len()), (RunStatus::Completed, 12));
    let left = reports.iter().position(|r| r.hospitals[0].status == SiteStatus::BudgetExhausted).unwrap();
    assert!(left > 1 && left < 11, "{left}");
    let decision = |round: usize| {
        let decisions = &reports[round].orchestrator.as_ref().unwrap().decisions;
        decisions.iter().find(|d| d.hospital == site(0)).map(|d| d.decision.clone())
    };
    let leaving = decision(left).unwrap();
    assert_eq!(leaving.action, Action::Leave);
    assert!(matches!(leaving.reasons[..], [Reason::BudgetSpent { .. }]));
    assert_eq!(decision(left + 1), None, "nothing is decided about a hospital that left");
    assert!(reports[..left].iter().any(|r| r.hospitals[0].privacy.unwrap().spent.noise_multiplier > 1.0));
    for (number, report) in reports.iter().enumerate() {
        let trained = report.hospitals.iter().filter(|h| h.status == SiteStatus::Trained).count();
        assert_eq!(trained, if number < left { 3 } else { 2 });
        for made in &report.orchestrator.as_ref().unwrap().decisions {
            let hospital = report.hospitals.iter().find(|h| h.hospital == made.hospital).unwrap();
            if made.decision.action != Action::Leave {
                let spent = hospital.privacy.unwrap().spent;
                assert_eq!(spent.noise_multiplier, made.decision.noise.get(), "announced and accounted");
                assert_eq!(spent.epsilon_total, made.decision.after_round.get());
            }
        }
    }
    // With too few left the run ends, and says so.
    let (reports, status, reason) = Clinics::new(&[0.3, 0.3, 0.04]).run(Strategy::Step, false);
    assert_eq!(status, RunStatus::BudgetExhausted);
    assert!(reports.len() < 12);
    let reason = reason.unwrap();
    assert!(reason.contains("2 of 3 hospitals is spent; 1 are left, 2 are needed"), "{reason}");
}

#[test]
fn fit_brings_every_hospital_to_the_last_round() {
    let (reports, status, _) = Clinics::new(&[0.3, 0.1, 0.05]).run(Strategy::Fit, false);
    assert_eq!((status, reports.len()), (RunStatus::Completed, 12));
    let last = reports.last().unwrap();
    assert!(last.hospitals.iter().all(|h| h.status == SiteStatus::Trained));
    let spent = |index: usize| last.hospitals[index].privacy.unwrap().spent;
    assert!(spent(0).epsilon_total <= 6.0 && spent(0).epsilon_total > 5.99);
    assert!(spent(0).noise_multiplier > 1.0 && spent(2).noise_multiplier == 1.0, "by its own rate");
    assert_eq!(last.noise_multiplier, Some(1.0), "the least of all hospitals is reported");
}

#[test]
fn a_killed_round_is_decided_again_as_it_was() {
    for strategy in [Strategy::Fit, Strategy::Step] {
        let rates = [0.4, 0.05, 0.04];
        assert_eq!(Clinics::new(&rates).run(strategy, true), Clinics::new(&rates).run(strategy, false));
    }
}
