//! A hospital's policy: what the file may say, and what it refuses.

use medfed_config::{Config, Override};
use medfed_dp::{Accountant, DpPlan, History, Phase, PlanTerms, PrivacyUnit};
use medfed_federation::report::PrivacySpent;
use medfed_federation::site::LocalReport;
use medfed_federation::{Announcement, Counts};
use medfed_protocol::message::DeclineCode;
use medfed_protocol::policy::{Paid, Refusal};
use medfed_protocol::{Policy, Signer};
use medfed_types::{ClipNorm, Delta, Epsilon, ImageShape, NoiseMultiplier, SamplingRate, SecretKey};

const DAY: u64 = 24 * 60 * 60 * 1000;

fn policy(text: &str) -> Policy {
    Policy::from_yaml(text, "policy.yaml").expect("a policy")
}

fn config(set: &[&str]) -> Config {
    let set: Vec<Override> = set.iter().map(|text| Override::parse(text).expect("an override")).collect();
    Config::from_yaml("model: {name: simple_cnn}", "test", &set).expect("a configuration")
}

fn coordinator() -> [u8; 32] {
    Signer::new(medfed_protocol::envelope::Party::Coordinator, &SecretKey::from_bytes([1; 32]))
        .verifying_key()
}

fn code(found: Result<(), Refusal>) -> Option<DeclineCode> {
    found.err().map(|refusal| refusal.code)
}

#[test]
fn mistakes_have_a_place() {
    for (text, expected) in [
        ("min_hospitals: 3\nmax_epsilon: 4\n", "policy.yaml:2:1: unknown field `max_epsilon`"),
        ("rules:\n  - fedavg\n  - best\n", "policy.yaml:3:5: unknown variant `best`"),
        ("max_epsilon_total: -1\n", "policy.yaml:1:20: "),
        ("release: { losses: yes }\n", "policy.yaml:1:20: "),
        ("coordinators: [ab]\n", "64 hexadecimal digits"),
        ("min_hospitals: 1\n", "policy.yaml: `min_hospitals`: expected 2 at the least, found 1"),
        ("period_days: 30\n", "policy.yaml: `period_days` needs `max_epsilon_per_period`"),
        ("max_epsilon_per_period: 2\n", "`max_epsilon_per_period` needs `period_days`"),
        ("models: []\n", "`models` allows nothing"),
        ("dry_run: true\ndry_run: false\n", "policy.yaml:2:1: "),
    ] {
        let error = Policy::from_yaml(text, "policy.yaml").unwrap_err().to_string();
        assert!(error.contains(expected), "{text:?}: {error}");
    }
    let large = "#".repeat(100_000);
    assert!(Policy::from_yaml(&large, "policy.yaml").unwrap_err().to_string().contains("65536 at the most"));
}

#[test]
fn without_a_word_a_policy_is_strict() {
    let strict = policy("# nothing\n");
    assert_eq!(strict, policy("{}"));
    assert_eq!(strict.release(), medfed_protocol::policy::Release::default());
    let check = |set: &[&str]| code(strict.check_offer(&coordinator(), 5, &config(set)));
    assert_eq!(check(&["privacy.enabled=false"]), Some(DeclineCode::Counts));
    assert_eq!(
        check(&["privacy.enabled=false", "secure_aggregation.enabled=true"]),
        Some(DeclineCode::Privacy)
    );
    assert_eq!(check(&["privacy.enabled=true", "secure_aggregation.enabled=true"]), None);
    assert_eq!(code(strict.check_plan(None)), Some(DeclineCode::Privacy));
}

#[test]
fn offers_are_held_against_every_line() {
    let masked = ["privacy.enabled=true", "secure_aggregation.enabled=true"];
    let check = |text: &str, more: &[&str], cohort| {
        let set: Vec<&str> = masked.iter().chain(more).copied().collect();
        code(policy(text).check_offer(&coordinator(), cohort, &config(&set)))
    };
    let fingerprint = {
        use sha2::{Digest, Sha256};
        let info = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
        let hash = Sha256::new().chain_update(info).chain_update(coordinator()).finalize();
        hash.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
    };
    assert_eq!(check(&format!("coordinators: ['{fingerprint}']"), &[], 3), None);
    assert_eq!(check("unit: patient", &["privacy.unit=image"], 3), Some(DeclineCode::Privacy));
    assert_eq!(check("unit: patient", &["privacy.unit=patient"], 3), None);
    assert_eq!(check("unit: image", &["privacy.unit=patient"], 3), None);
    let other = "ab".repeat(32);
    assert_eq!(check(&format!("coordinators: ['{other}']"), &[], 3), Some(DeclineCode::Coordinator));
    assert_eq!(check("min_hospitals: 4", &[], 3), Some(DeclineCode::FewHospitals));
    // Four may take part, but a sum of three may be opened.
    assert_eq!(check("min_hospitals: 4", &[], 4), Some(DeclineCode::FewHospitals));
    let enough = ["federated.num_clients=5", "secure_aggregation.min_clients=4"];
    assert_eq!(check("min_hospitals: 4", &enough, 5), None);
    // Under privacy groups of two have their sums opened.
    let groups =
        ["secure_aggregation.mode=groups", "federated.num_clients=9", "robust_aggregation.method=median"];
    assert_eq!(check("min_hospitals: 3", &groups, 9), Some(DeclineCode::FewHospitals));
    assert_eq!(check("min_hospitals: 2", &groups, 9), None);
    assert_eq!(check("models: [resnet18]", &[], 3), Some(DeclineCode::Model));
    assert_eq!(check("models: [resnet18, simple_cnn]", &[], 3), None);
    assert_eq!(check("rules: [median]", &["robust_aggregation.enabled=false"], 3), Some(DeclineCode::Rule));
    assert_eq!(check("rules: [fedavg]", &["robust_aggregation.enabled=false"], 3), None);
    let open = &["secure_aggregation.enabled=false"];
    assert_eq!(check("protections: [sum]", open, 3), Some(DeclineCode::SecureMode));
    assert_eq!(check("protections: [open]\nrelease: {counts: true}", open, 3), None);
    assert_eq!(check("max_epsilon_per_run: 2", &["privacy.epsilon_budget=3"], 3), Some(DeclineCode::Budget));
    assert_eq!(check("max_epsilon_per_run: 3", &["privacy.epsilon_budget=3"], 3), None);
    assert_eq!(check("delta: 1e-7", &["privacy.delta=1e-6"], 3), Some(DeclineCode::Privacy));
}

fn phase() -> Phase {
    let rate = SamplingRate::new(0.05).expect("a rate");
    Phase { rate, noise: NoiseMultiplier::new(1.0).expect("a multiplier"), steps: 20 }
}

#[test]
fn epsilon_is_counted_over_runs_and_periods() {
    let epsilon = |rounds: usize| {
        let history: History = std::iter::repeat_n(phase(), rounds).collect();
        Accountant::Pld.epsilon(&history, Delta::new(1e-5).unwrap()).unwrap().get()
    };
    let asked = Some((Accountant::Pld, phase()));
    let paid = |days: &[u64]| -> Vec<Paid> {
        days.iter().map(|day| Paid { at_ms: day * DAY, phase: phase() }).collect()
    };
    let total = policy(&format!("max_epsilon_total: {}", epsilon(3)));
    assert_eq!(total.check_round(400 * DAY, 3, &paid(&[1, 2]), asked), Ok(()));
    let refused = total.check_round(400 * DAY, 3, &paid(&[1, 2, 3]), asked).unwrap_err();
    assert_eq!(refused.code, DeclineCode::Budget);
    assert!(refused.reason.contains("over all runs"), "{}", refused.reason);

    let text = format!("max_epsilon_per_period: {}\nperiod_days: 30", epsilon(2));
    let period = policy(&text);
    let check = |now: u64, days: &[u64]| code(period.check_round(now * DAY, 3, &paid(days), asked));
    assert_eq!(check(100, &[1, 2, 3, 50, 90]), None);
    assert_eq!(check(100, &[80, 90]), Some(DeclineCode::Budget));
    // Exactly a period ago still counts; a day later it does not.
    assert_eq!(check(110, &[80, 90]), Some(DeclineCode::Budget));
    assert_eq!(check(111, &[80, 90]), None);
    // A clock that was set back makes nothing cheaper.
    assert_eq!(check(70, &[80, 90]), Some(DeclineCode::Budget));
    assert_eq!(code(period.check_round(0, 2, &[], asked)), Some(DeclineCode::FewHospitals));
    assert_eq!(code(period.check_round(0, 3, &paid(&[1, 1, 1]), None)), None);
}

#[test]
fn a_dry_run_says_what_would_be() {
    let plan = DpPlan::new(PlanTerms {
        unit: PrivacyUnit::Image,
        clip: ClipNorm::new(1.0).unwrap(),
        noise: NoiseMultiplier::new(1.25).unwrap(),
        rate: SamplingRate::new(0.05).unwrap(),
        expected_batch_size: medfed_dp::ExpectedBatchSize::new(10.0).unwrap(),
        secure_mode: true,
        delta: Delta::new(1e-5).unwrap(),
        accountant: Accountant::Pld,
        budget: Epsilon::new(3.0).unwrap(),
    })
    .unwrap();
    let refused = policy("dry_run: true").check_plan(Some(&plan)).unwrap_err();
    assert_eq!(refused.code, DeclineCode::DryRun);
    assert_eq!(refused.reason, "`dry_run` is on; the hospital would train with noise 1.2500 up to ε 3");
    assert_eq!(policy("{}").check_plan(Some(&plan)), Ok(()));
}

#[test]
fn what_is_not_released_is_absent() {
    let report = LocalReport {
        steps: 5,
        train_loss: Some(0.5),
        images: Some(100),
        units: Some(90),
        clipped_fraction: Some(0.1),
        non_finite_units: Some(0),
        privacy: Some(PrivacySpent {
            sampling_rate: 0.2,
            noise_multiplier: 1.0,
            epsilon_total: 1.0,
            epsilon_pld: 1.0,
            epsilon_rdp: 1.0,
        }),
        can_continue: true,
    };
    let announcement = Announcement {
        shape: ImageShape { channels: 1, height: 8, width: 8 },
        classes: vec!["a".to_owned(), "b".to_owned()],
        steps: 5,
        plan: None,
        validates: true,
        attributes: Vec::new(),
        counts: Some(Counts { train_images: 100, train_units: 90, validation_images: 10 }),
    };
    let nothing = policy("{}").release();
    let left = nothing.of_report(&report);
    let silent = LocalReport {
        train_loss: None,
        images: None,
        units: None,
        clipped_fraction: None,
        non_finite_units: None,
        ..report.clone()
    };
    assert_eq!(left, silent);
    let left = nothing.of_announcement(&announcement);
    assert_eq!((left.counts, left.validates), (None, false));
    for (word, kept) in [
        ("losses", LocalReport { train_loss: Some(0.5), ..silent.clone() }),
        ("norms", LocalReport { clipped_fraction: Some(0.1), ..silent.clone() }),
        (
            "counts",
            LocalReport { images: Some(100), units: Some(90), non_finite_units: Some(0), ..silent.clone() },
        ),
        ("metrics", silent.clone()),
    ] {
        let release = policy(&format!("release: {{ {word}: true }}")).release();
        assert_eq!(release.of_report(&report), kept, "{word}");
        let announced = release.of_announcement(&announcement);
        assert_eq!(announced.counts.is_some(), word == "counts");
        assert_eq!(announced.validates, word == "metrics");
    }
}
