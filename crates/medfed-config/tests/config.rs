//! What is accepted, what is refused, and where the refusal points.

use medfed_config::section::{Dataset, ModelName, NoiseSetting, RobustMethod, SecureMode};
use medfed_config::{Config, ConfigErrors, MAX_BYTES, Override, Place, ProblemKind};
use proptest::prelude::*;

const SEED: &str = include_str!("../../../testdata/seed_config.yaml");
const FURTHER: &str = include_str!("../../../testdata/further_keys_config.yaml");
const SHIPPED: &str = include_str!("../../../config/config.yaml");

fn read(text: &str) -> Result<Config, ConfigErrors> {
    Config::from_yaml(text, "c.yaml", &[])
}

fn read_with(text: &str, set: &[&str]) -> Result<Config, ConfigErrors> {
    let set: Vec<_> = set.iter().map(|set| Override::parse(set).expect(set)).collect();
    Config::from_yaml(text, "c.yaml", &set)
}

/// Line, column, key and message of each problem.
fn problems(text: &str) -> Vec<(usize, usize, String, String)> {
    let errors = read(text).expect_err(text);
    let shown = |problem: &medfed_config::Problem| {
        let (line, column) = match problem.place {
            Place::File { line, column, .. } => (line, column),
            _ => (0, 0),
        };
        (line, column, problem.key.clone(), problem.kind.to_string())
    };
    errors.problems().iter().map(shown).collect()
}

fn only(text: &str) -> (usize, usize, String, String) {
    let mut all = problems(text);
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

#[test]
fn the_documented_configuration_is_accepted_as_it_stands() {
    let config = read(SEED).unwrap();
    assert_eq!(config.privacy.epsilon_budget.get(), 50.0);
    assert_eq!(config.robust_aggregation.method, RobustMethod::TrimmedMean);
    assert_eq!(config.unavailable(), []);
    assert_eq!(config.secure_mode(), Ok(SecureMode::Sum));
    assert!(config.notes().iter().any(|note| note.key == "fairness"));
}

#[test]
fn the_further_keys_are_accepted() {
    let config = read(FURTHER).unwrap();
    assert_eq!(config.model.name, ModelName::Densenet121);
    assert_eq!(config.data.dataset, Dataset::Chestxray);
    let demographics = &config.hospitals()[0].demographics;
    assert_eq!(demographics.age_bias.unwrap().old, Some(0.4));
    assert!(config.privacy_audit.enabled);
    assert!(config.notes().iter().any(|note| note.key == "training.grad_clip_norm"));
}

#[test]
fn a_rule_that_does_not_do_what_it_is_told_to_is_noted() {
    let notes = |text: &str| -> Vec<(&str, String)> {
        let notes = read(text).unwrap().notes();
        notes
            .into_iter()
            .map(|note| (note.key, note.text))
            .filter(|(key, _)| *key != "privacy.enabled")
            .collect()
    };
    let federation = "federated: {num_clients: 10}\n";
    let trimmed = |more: &str| {
        notes(&format!("{federation}robust_aggregation: {{enabled: true, method: trimmed_mean, {more}}}"))
    };
    let found = trimmed("num_byzantine: 2");
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].0, "robust_aggregation.trim_ratio");
    assert!(found[0].1.contains("1 of 10") && found[0].1.ends_with("0.2 is enough"), "{found:?}");
    assert_eq!(trimmed("num_byzantine: 2, trim_ratio: 0.2"), []);
    assert_eq!(trimmed("num_byzantine: 1"), []);
    let average = notes(&format!("{federation}robust_aggregation: {{enabled: true, num_byzantine: 2}}"));
    assert!(matches!(&average[..], [("robust_aggregation.method", _)]), "{average:?}");
    let weights = "fairness: {enabled: true, on_violation: {adjust_weights: true}}\n";
    let key = "fairness.on_violation.adjust_weights";
    let krum = notes(&format!("{weights}robust_aggregation: {{enabled: true, method: median}}"));
    assert!(krum.iter().any(|(found, _)| *found == key), "{krum:?}");
    assert_eq!(notes(&format!("{weights}robust_aggregation: {{enabled: true, method: fedavg}}")), []);
    let nothing = notes("privacy: {enabled: false}\norchestrator: {enabled: true}");
    assert!(matches!(&nothing[..], [("orchestrator.enabled", _)]), "{nothing:?}");
}

#[test]
fn the_shipped_configuration_runs() {
    assert_eq!(read(SHIPPED).unwrap().unavailable(), []);
    assert_eq!(Config::default().unavailable(), []);
}

#[test]
fn every_switch_that_is_not_built_is_reported() {
    for (set, key) in
        [("model.pretrained=true", "model.pretrained"), ("experiment.device=cuda", "experiment.device")]
    {
        let config = read_with("{}", &[set]).unwrap();
        let found: Vec<_> = config.unavailable().iter().map(|one| one.key).collect();
        assert_eq!(found, [key]);
        assert!(config.require_available().unwrap_err().to_string().contains(key));
    }
}

#[test]
fn effective_configurations_read_back() {
    for text in [SEED, FURTHER, SHIPPED, "{}", "data: {dataset: files, split_by_site: true}"] {
        let config = read(text).unwrap();
        assert_eq!(read(&config.to_yaml()).unwrap(), config, "{}", config.to_yaml());
        assert_eq!(read(&config.to_json().to_string()).unwrap(), config);
    }
    assert_eq!(read("{}").unwrap(), Config::default());
}

#[test]
fn a_stored_configuration_keeps_its_hash_when_the_schema_grows() {
    let config = read_with("{}", &["privacy.delta=1e-6", "training.learning_rate=0.30"]).unwrap();
    let stored = config.to_json().to_string();
    let mut older: serde_json::Value = serde_json::from_str(&stored).unwrap();
    assert_eq!(medfed_config::hash_of(older.clone()), config.hash());
    // As a version without this key would have stored it: read anew it has the key, and another hash.
    older["training"].as_object_mut().unwrap().remove("ema_decay").unwrap();
    let of_older = medfed_config::hash_of(older.clone());
    assert_eq!(of_older, medfed_config::hash_of(serde_json::from_str(&older.to_string()).unwrap()));
    assert_ne!(of_older, config.hash());
}

#[test]
fn the_hash_covers_what_bears_on_the_result() {
    let hash = |set: &[&str]| read_with("{}", set).unwrap().hash();
    assert_eq!(hash(&[]).len(), 64);
    assert_eq!(hash(&[]), hash(&["output.results_dir=elsewhere", "experiment.name=x"]));
    assert_eq!(hash(&[]), hash(&["training.momentum=0.90"]));
    assert_ne!(hash(&[]), hash(&["experiment.seed=43"]));
}

#[test]
fn unknown_keys_name_the_nearest() {
    let (line, column, key, message) = only("federated:\n  num_cleints: 3\n");
    assert_eq!((line, column, key.as_str()), (2, 3, "federated.num_cleints"));
    assert!(message.contains("unknown key `num_cleints`, expected one of fraction_evaluate"), "{message}");
    for (text, nearest) in [
        ("federated: {num_cleints: 3}", "federated.num_clients"),
        ("federated: {rounds: 3}", "federated.num_rounds"),
        ("federated: {Num-Rounds: 3}", "federated.num_rounds"),
        ("training: {epsilon_budget: 3}", "privacy.epsilon_budget"),
        ("privcy: {}", "privacy"),
        ("learning_rate: 1", "training.learning_rate"),
        ("data: {nodes: [{nam: A, name: B}]}", "data.nodes.0.name"),
    ] {
        let errors = read(text).unwrap_err();
        let hint = errors.problems()[0].hint().unwrap_or_default();
        assert!(hint.ends_with(&format!("`{nearest}`")), "{text}: {hint}");
    }
    let errors = read("xyzzy: 1").unwrap_err();
    assert_eq!(errors.problems()[0].hint(), None);
}

#[test]
fn wrong_types_and_ranges_say_what_was_expected() {
    for (text, key, message) in [
        (
            "federated: {num_clients: many}",
            "federated.num_clients",
            "expected a whole number from 1 to 1000, found the text \"many\"",
        ),
        (
            "federated: {num_clients: 0}",
            "federated.num_clients",
            "expected a whole number from 1 to 1000, found 0",
        ),
        (
            "federated: {num_clients: 2.0}",
            "federated.num_clients",
            "expected a whole number from 1 to 1000, found 2.0",
        ),
        (
            "federated: {fraction_fit: 0}",
            "federated.fraction_fit",
            "expected a number above 0 and at most 1, found 0",
        ),
        ("privacy: {delta: 1}", "privacy.delta", "expected a number above 0 and below 1, found 1"),
        (
            "privacy: {epsilon_budget: .inf}",
            "privacy.epsilon_budget",
            "expected a number above 0 and at most 1e6, found inf",
        ),
        (
            "privacy: {noise_multiplier: 0}",
            "privacy.noise_multiplier",
            "expected a number above 0 and at most 10000 or `auto`, found 0",
        ),
        ("privacy: {enabled: yes}", "privacy.enabled", "expected `true` or `false`, found the text \"yes\""),
        (
            "model: {name: resnet19}",
            "model.name",
            "expected one of `simple_cnn`, `resnet18`, `densenet121`, found the text \"resnet19\"",
        ),
        ("data: {channels: 2}", "data.channels", "expected `1` or `3`, found 2"),
        (
            "experiment: {name: a/b}",
            "experiment.name",
            "expected a name of 1 to 64 letters, digits, ' ', '.', '_', '-', found the text \"a/b\"",
        ),
        (
            "experiment: {seed: -1}",
            "experiment.seed",
            "expected a whole number from 0 to 18446744073709551615, found -1",
        ),
        ("data: {nodes: [{samples: 5}]}", "data.nodes.0", "the key `name` is missing"),
        ("model: {channels: [8, 0]}", "model.channels.1", "expected a whole number from 1 to 4096, found 0"),
        (
            "privacy_audit: {attack_types: []}",
            "privacy_audit.attack_types",
            "expected a list of 1 or more items, each one of `threshold`, `loss_based`, `shadow`, \
             `lira`, `lira_offline`, `rmia`, found a list of 0",
        ),
    ] {
        let (line, _, found_key, found) = only(text);
        assert_eq!((line, found_key.as_str(), found.as_str()), (1, key, message));
    }
    assert!(only("federated: 5").3.starts_with("expected a section with the keys fraction_evaluate"));
    assert!(only("federated:\n").3.ends_with("found nothing"));
    assert!(only("- 1").3.ends_with("found a list of 1"));
    assert!(only("fairness: {hospital_demographics: {a/b: {}}}").3.starts_with("expected a name"));
}

#[test]
fn hints_say_what_may_have_been_meant() {
    for (text, hint) in [
        ("federated: {num_clients: '3'}", "leave the quotes out"),
        ("federated: {num_clients: 3.0}", "write `3`"),
        ("privacy: {enabled: on}", "write `true`"),
        ("privacy: {enabled: }", "leave the key out to have its default"),
        ("model: {name: ResNet-18}", "the nearest is `resnet18`"),
        ("privacy: {noise_multiplier: automatic}", "the nearest is `auto`"),
        ("federated:", "write `{}` for a section without keys"),
    ] {
        assert_eq!(read(text).unwrap_err().problems()[0].hint().as_deref(), Some(hint), "{text}");
    }
}

#[test]
fn all_problems_are_reported_in_their_order() {
    let found = problems("model:\n  dropout: 1\n  nme: x\nprivacy:\n  delta: 0\n  delta: 1e-5\n");
    let places: Vec<_> = found.iter().map(|(line, column, key, _)| (*line, *column, key.as_str())).collect();
    assert_eq!(
        places,
        [(2, 12, "model.dropout"), (3, 3, "model.nme"), (5, 10, "privacy.delta"), (6, 3, "privacy.delta")]
    );
    assert!(found[3].3.contains("written twice"));
}

#[test]
fn values_that_do_not_go_together_are_refused() {
    for (text, key) in [
        ("federated: {num_clients: 2, min_fit_clients: 3}", "federated.min_fit_clients"),
        ("federated: {num_clients: 2, min_evaluate_clients: 3}", "federated.min_evaluate_clients"),
        ("federated: {num_clients: 2, min_available_clients: 3}", "federated.min_available_clients"),
        ("federated: {min_fit_clients: 3, min_available_clients: 2}", "federated.min_available_clients"),
        ("model: {name: resnet18, channels: [8]}", "model.channels"),
        ("secure_aggregation: {enabled: true, threshold: 4}", "secure_aggregation.threshold"),
        ("robust_aggregation: {enabled: true, num_byzantine: 2}", "robust_aggregation.num_byzantine"),
        (
            "fairness: {hospital_demographics: {H: {sex_bias: {M: 0.6, F: 0.6}}}}",
            "fairness.hospital_demographics.H.sex_bias",
        ),
        ("orchestrator: {budget_warning_threshold: 0.95}", "orchestrator.budget_warning_threshold"),
        ("data: {dataset: files, split_by_site: true, non_iid: {enabled: true}}", "data.split_by_site"),
        ("data: {split_by_site: true}", "data.split_by_site"),
        ("data: {image_size: 600}", "data.image_size"),
        ("model: {num_classes: 4}", "model.num_classes"),
        ("{federated: {num_clients: 1}, data: {nodes: [{name: A}, {name: B}]}}", "data.nodes"),
        ("data: {nodes: [{name: A}, {name: A}]}", "data.nodes.1.name"),
    ] {
        let (line, _, found, message) = only(text);
        assert_eq!((line, found.as_str()), (1, key), "{message}");
    }
    assert!(
        read("fairness: {hospital_demographics: {H: {age_bias: {18-40: 0.7, 40-60: 0.2, 60+: 0.1}}}}")
            .is_ok()
    );
}

#[test]
fn masks_and_rules_go_together_or_are_refused() {
    let masked = |hospitals: u32, privacy: bool, secure: &str, robust: &str| {
        read(&format!(
            "{{federated: {{num_clients: {hospitals}}}, privacy: {{enabled: {privacy}}}, secure_aggregation: \
             {{enabled: true{secure}}}, robust_aggregation: {{enabled: true{robust}}}}}"
        ))
    };
    let mode = |hospitals, robust: &str| masked(hospitals, true, "", robust).unwrap().secure_mode();
    assert_eq!(mode(3, ", method: fedavg"), Ok(SecureMode::Sum));
    assert_eq!(mode(3, ", method: trimmed_mean, trim_ratio: 0.1"), Ok(SecureMode::Sum));
    assert_eq!(mode(10, ", method: trimmed_mean, trim_ratio: 0.1"), Ok(SecureMode::Groups));
    assert_eq!(mode(6, ", method: median"), Ok(SecureMode::Groups));
    assert_eq!(mode(6, ", method: krum, num_byzantine: 0"), Ok(SecureMode::Groups));
    assert_eq!(mode(8, ", method: multi_krum, num_byzantine: 2, multi_krum_k: 6"), Ok(SecureMode::Selection));
    assert_eq!(mode(4, ", method: multi_krum, num_byzantine: 0, multi_krum_k: 3"), Ok(SecureMode::Selection));
    assert_eq!(mode(4, ", method: foolsgold"), Ok(SecureMode::Selection));
    // Two selected of six show each other's updates; three groups of two do not.
    assert_eq!(mode(6, ", method: multi_krum, multi_krum_k: 2"), Ok(SecureMode::Groups));
    let detection = ", method: fedavg, enable_detection: true";
    assert_eq!(mode(4, detection), Ok(SecureMode::Sum));
    let selection = masked(4, true, ", mode: selection", detection).unwrap();
    assert_eq!(selection.secure_mode(), Ok(SecureMode::Selection));
    for (hospitals, privacy, secure, robust, key, choice) in [
        (5, true, "", ", method: median", "mode", "takes 6 hospitals"),
        (8, false, "", ", method: median", "mode", "takes 9 hospitals"),
        (9, true, "", ", method: krum, num_byzantine: 1", "mode", "takes 10 hospitals"),
        (3, true, "", ", method: foolsgold", "mode", "among 4 hospitals"),
        (9, true, ", mode: groups", ", method: foolsgold", "mode", "mode: selection"),
        (9, true, ", mode: sum", ", method: foolsgold", "mode", "mode: selection"),
        (9, true, ", mode: selection", ", method: median", "mode", "mode: groups"),
        (9, true, ", mode: selection", ", method: bulyan", "mode", "take multi_krum"),
        (9, true, ", mode: selection", ", method: krum", "mode", "multi_krum_k: 3"),
        (9, true, ", mode: selection", ", method: multi_krum, multi_krum_k: 2", "mode", "to 3 or more"),
        (
            9,
            true,
            ", mode: selection, min_clients: 5",
            ", method: multi_krum, multi_krum_k: 4",
            "mode",
            "to 5 or more",
        ),
        (
            8,
            true,
            ", mode: selection",
            ", method: multi_krum, multi_krum_k: 3, pre: nnm",
            "mode",
            "pre: none",
        ),
        (
            8,
            true,
            ", mode: selection",
            ", method: multi_krum, num_byzantine: 3, multi_krum_k: 3",
            "mode",
            "needs 9 hospitals",
        ),
        (7, true, "", ", method: multi_krum, num_byzantine: 3, multi_krum_k: 3", "mode", "needs 9 hospitals"),
        (9, true, ", mode: selection", ", method: fedavg", "mode", "mode: sum"),
        (
            3,
            true,
            ", mode: selection",
            ", method: fedavg, enable_detection: true",
            "mode",
            "among 4 hospitals",
        ),
        (9, true, ", mode: sum", ", method: median", "mode", "mode: groups"),
        (3, false, ", min_clients: 2", ", method: fedavg", "min_clients", "3 or more"),
        (9, true, ", threshold: 6", ", method: fedavg", "threshold", "7 or more of 9"),
        (101, true, "", ", method: fedavg", "enabled", "100 hospitals"),
    ] {
        let errors = masked(hospitals, privacy, secure, robust).unwrap_err();
        let [problem] = errors.problems() else { panic!("{}", errors.render(false)) };
        let found = (problem.key.as_str(), problem.kind.to_string());
        assert!(found.0.ends_with(key) && found.1.contains(choice), "{found:?}");
        // Open updates are always a choice.
        if key == "mode" {
            let open = format!("{secure}, use_masking: false");
            assert!(masked(hospitals, privacy, &open, robust).is_ok(), "{robust}");
        }
    }
    let notes = |secure| masked(3, true, secure, ", method: fedavg").unwrap().notes();
    let says = |secure, key, text: &str| {
        notes(secure).iter().any(|note| note.key == key && note.text.contains(text))
    };
    assert!(says(", min_clients: 2", "secure_aggregation.min_clients", "the other's noised update"));
    assert!(says(", use_masking: false", "secure_aggregation.use_masking", "sees every update"));
    assert!(says(", threshold: 2", "secure_aggregation.threshold", "one dishonest hospital"));
    assert!(says(", simulate_encryption: false", "secure_aggregation.simulate_encryption", "always sealed"));
}

#[test]
fn defaults_follow_the_number_of_hospitals() {
    let one = read("federated: {num_clients: 1}").unwrap();
    assert_eq!((one.federated.min_fit_clients, one.federated.min_available_clients), (1, 1));
    let three = read("federated: {min_fit_clients: 3}").unwrap();
    assert_eq!(three.federated.min_available_clients, 3);
    let nodes = read("data: {nodes: [{name: A}, {name: B}]}").unwrap();
    assert_eq!(nodes.federated.num_clients, 2);
    assert_eq!(nodes.secure_aggregation.threshold_of(3), 3);
    assert_eq!(nodes.secure_aggregation.threshold_of(2), 2);
}

#[test]
fn what_is_not_a_configuration_is_refused() {
    for text in ["", "# nothing\n", "~"] {
        assert!(matches!(read(text).unwrap_err().problems()[0].kind, ProblemKind::Empty), "{text:?}");
    }
    let (line, column, _, message) = only("federated:\n\tnum_clients: 3\n");
    assert_eq!(line, 2, "{column} {message}");
    assert!(matches!(read("a: [").unwrap_err().problems()[0].kind, ProblemKind::Syntax { .. }));
    assert_eq!(only("{}\n---\n{}\n").0, 3);
    let large = format!("# {}\n{{}}", "x".repeat(MAX_BYTES));
    assert!(matches!(read(&large).unwrap_err().problems()[0].kind, ProblemKind::TooLarge { .. }));
}

#[test]
fn overrides_are_checked_and_named() {
    let config = read_with(SEED, &["federated.num_rounds=2", "privacy.noise_multiplier=auto"]).unwrap();
    assert_eq!((config.federated.num_rounds, config.privacy.noise_multiplier.fixed()), (2, None));
    assert!(matches!(config.privacy.noise_multiplier, NoiseSetting::Auto(_)));
    let errors = read_with(SEED, &["federated.num_round=2", "privacy.delta=2"]).unwrap_err();
    let places: Vec<_> = errors.problems().iter().map(|problem| problem.place.clone()).collect();
    let named = |text: &str| Place::Override { text: text.to_owned() };
    assert_eq!(places, [named("federated.num_round=2"), named("privacy.delta=2")]);
    let later = read_with(SEED, &["experiment.seed=1", "experiment.seed=2"]).unwrap();
    assert_eq!(later.experiment.seed, Some(2));
    let listed = read_with(FURTHER, &["data.nodes.0.samples=5"]).unwrap();
    assert_eq!(listed.hospitals()[0].samples, 5);
}

#[test]
fn the_manual_lists_every_key_with_its_default() {
    fn walk(path: &str, schema: &serde_json::Value, manual: &str) {
        for (key, property) in schema["properties"].as_object().into_iter().flatten() {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            if property["properties"].is_object() && property["type"] == "object" {
                walk(&path, property, manual);
                continue;
            }
            let default = match &property["default"] {
                serde_json::Value::Null => "\u{2013}".to_owned(),
                serde_json::Value::String(text) if !text.is_empty() => format!("`{text}`"),
                serde_json::Value::Array(items) => {
                    let items: Vec<_> = items.iter().filter_map(serde_json::Value::as_str).collect();
                    format!("`[{}]`", items.join(", "))
                }
                other => format!("`{other}`"),
            };
            let row = format!("| `{path}` | {default} | ");
            assert!(manual.contains(&row), "docs/configuration.md has no row {row:?}");
        }
    }
    walk("", &Config::schema(), include_str!("../../../docs/configuration.md"));
}

#[test]
fn the_schema_documents_every_key() {
    fn walk(path: &str, schema: &serde_json::Value) {
        for (key, property) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}.{key}");
            assert!(property["description"].is_string(), "{path} has no description");
            assert!(
                property.get("default").is_some() || path.ends_with("nodes.name"),
                "{path} has no default"
            );
            walk(&path, property);
            walk(&path, &property["items"]);
        }
    }
    let schema = Config::schema();
    walk("", &schema);
    let clients = &schema["properties"]["federated"]["properties"]["num_clients"];
    assert_eq!((clients["minimum"].as_u64(), clients["maximum"].as_u64()), (Some(1), Some(1000)));
    assert_eq!(clients["default"], 3);
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "[ -~\n\t\u{e9}]{0,200}") {
        if let Err(errors) = read(&text) {
            prop_assert!(!errors.problems().is_empty());
            prop_assert!(!errors.render(true).is_empty());
        }
    }

    /// One value of the full configuration is replaced by something else: never a panic, never an
    /// error without the key's place.
    #[test]
    fn a_changed_value_is_accepted_or_located(
        line in 0usize..40,
        value in prop_oneof![
            Just("~".to_owned()), Just("[]".to_owned()), Just("{}".to_owned()), Just(".nan".to_owned()),
            Just("true".to_owned()), Just("'x'".to_owned()), any::<i64>().prop_map(|n| n.to_string()),
            any::<f64>().prop_map(|n| format!("{n:e}")),
        ],
    ) {
        let yaml = read(FURTHER).unwrap().to_yaml();
        let mut lines: Vec<String> = yaml.lines().map(str::to_owned).collect();
        let index = line % lines.len();
        if let Some((key, _)) = lines[index].split_once(": ") {
            lines[index] = format!("{key}: {value}");
            if let Err(errors) = read(&(lines.join("\n") + "\n")) {
                for problem in errors.problems() {
                    prop_assert!(problem.place != Place::Default, "{problem:?}");
                }
            }
        }
    }
}
