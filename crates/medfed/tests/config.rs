//! `medfed config`: what it prints, and its exit codes.

use std::path::Path;

use assert_cmd::Command;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// Exit code, standard output and standard error of `medfed config ARGUMENTS`.
fn config(directory: &Path, arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::cargo_bin("medfed").expect("cargo builds the binary");
    let run = command.current_dir(directory).env("NO_COLOR", "1").arg("config").args(arguments);
    let output = run.output().expect("the binary starts");
    let text = |bytes| String::from_utf8(bytes).expect("output is UTF-8");
    (output.status.code().expect("it exits"), text(output.stdout), text(output.stderr))
}

/// What `config check` says about this text.
fn refused(text: &str, set: &[&str]) -> String {
    let directory = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(directory.path().join("c.yaml"), text).expect("it is ours");
    let set: Vec<_> = set.iter().flat_map(|set| ["--set", set]).collect();
    let (code, out, err) = config(directory.path(), &[&["check", "c.yaml"], &set[..]].concat());
    assert_eq!((code, out.as_str()), (1, ""), "{err}");
    err
}

#[test]
fn the_documented_configuration_is_valid() {
    let (code, out, err) = config(Path::new(ROOT), &["check", "testdata/seed_config.yaml"]);
    assert_eq!((code, err.as_str()), (0, ""));
    insta::assert_snapshot!(out, @r#"
    testdata/seed_config.yaml is valid
      hospitals  3
      rounds     10, 2 local epochs
      model      simple_cnn, 2 classes
      data       1800 synthetic chest radiographs
      privacy    ε ≤ 50 at δ = 1e-5 for every image, noise multiplier 0.8, clipping norm 1

    note: fairness: is off: its keys have no effect until `fairness.enabled` is true
    note: privacy.epsilon_budget: ε = 50 is a weak guarantee; 10 and less are customary
    note: secure_aggregation.mode: sum: the coordinator sees one sum of all updates
    note: robust_aggregation.enable_detection: has no effect under masks that open sums only (`secure_aggregation.mode: selection` opens norms and directions)
    "#);
}

#[test]
fn the_shipped_configuration_is_valid_and_runs() {
    let (code, out, err) = config(Path::new(ROOT), &["check", "config/config.yaml"]);
    assert_eq!((code, err.as_str()), (0, ""));
    insta::assert_snapshot!(out, @r#"
    config/config.yaml is valid
      hospitals  3
      rounds     10, 2 local epochs
      model      simple_cnn
      data       1800 synthetic chest radiographs
      privacy    ε ≤ 50 at δ = 1e-5 for every image, noise multiplier 0.8, clipping norm 1

    note: privacy.epsilon_budget: ε = 50 is a weak guarantee; 10 and less are customary
    note: secure_aggregation.mode: sum: the coordinator sees one sum of all updates
    note: robust_aggregation.enable_detection: has no effect under masks that open sums only (`secure_aggregation.mode: selection` opens norms and directions)
    "#);
}

#[test]
fn problems_show_their_place() {
    let text = "federated:\n  num_cleints: 3\n  fraction_fit: 1.5\nmodel:\n  name: resnet-18\n";
    insta::assert_snapshot!(refused(text, &["privacy.delta=2"]), @r#"
    error: c.yaml is not a valid configuration (4 problems)

    federated.num_cleints: unknown key `num_cleints`, expected one of fraction_evaluate, fraction_fit, min_available_clients, min_evaluate_clients, min_fit_clients, num_clients, num_rounds
     --> c.yaml:2:3
      |
    2 |   num_cleints: 3
      |   ^^^^^^^^^^^
      = hint: the nearest known key is `federated.num_clients`

    federated.fraction_fit: expected a number above 0 and at most 1, found 1.5
     --> c.yaml:3:17
      |
    3 |   fraction_fit: 1.5
      |                 ^^^

    model.name: expected one of `simple_cnn`, `resnet18`, `densenet121`, found the text "resnet-18"
     --> c.yaml:5:9
      |
    5 |   name: resnet-18
      |         ^^^^^^^^^
      = hint: the nearest is `resnet18`

    privacy.delta: expected a number above 0 and below 1, found 2
     --> --set privacy.delta=2
    "#);
}

#[test]
fn conflicts_show_their_place() {
    let text = "federated:\n  num_clients: 2\n  min_fit_clients: 3\n";
    insta::assert_snapshot!(refused(text, &[]), @r#"
    error: c.yaml is not a valid configuration (1 problem)

    federated.min_fit_clients: expected 2 at the most (`federated.num_clients`), found 3
     --> c.yaml:3:20
      |
    3 |   min_fit_clients: 3
      |                    ^
    "#);
}

#[test]
fn broken_files_are_refused() {
    insta::assert_snapshot!(refused("federated:\n\tnum_clients: 3\n", &[]), @r#"
    error: c.yaml is not a valid configuration (1 problem)

    not YAML: tabs disallowed within this context (block indentation)
     --> c.yaml:2:2
      |
    2 |  num_clients: 3
      |  ^
      = hint: indent with spaces, YAML accepts no tabs
    "#);
    insta::assert_snapshot!(refused("a: [1\nb: 2\n", &[]), @r#"
    error: c.yaml is not a valid configuration (1 problem)

    not YAML: illegal placement of ':' indicator
     --> c.yaml:2:2
      |
    2 | b: 2
      |  ^
    "#);
    insta::assert_snapshot!(refused("", &[]), @r#"
    error: c.yaml is not a valid configuration (1 problem)

    the file is empty, expected sections such as `federated` and `privacy`
     --> c.yaml
      = hint: `{}` is the configuration of defaults
    "#);
    insta::assert_snapshot!(refused("{}", &["privacy.delta"]), @r#"
    error: --set privacy.delta: expected key.path=value, found no `=`
    hint: for example --set privacy.delta=1e-6; `medfed config schema` lists all keys
    "#);
    insta::assert_snapshot!(refused("{}", &["privacy.delta=[1"]), @r#"
    error: --set privacy.delta=[1: the value is not YAML: unclosed bracket '['
    hint: for example --set privacy.delta=1e-6; `medfed config schema` lists all keys
    "#);
}

#[test]
fn files_that_cannot_be_read_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (code, _, err) = config(directory.path(), &["check", "absent.yaml"]);
    assert_eq!(code, 1);
    assert!(err.starts_with("error: cannot read absent.yaml"), "{err}");
    std::fs::write(directory.path().join("latin1.yaml"), b"experiment:\n  name: Caf\xe9\n").unwrap();
    let (code, _, err) = config(directory.path(), &["check", "latin1.yaml"]);
    assert_eq!((code, err.as_str()), (1, "error: latin1.yaml:2: expected UTF-8 text, found other bytes\n"));
    std::fs::write(directory.path().join("large.yaml"), "# x\n".repeat(1 << 19)).unwrap();
    let (code, _, err) = config(directory.path(), &["check", "large.yaml"]);
    assert_eq!(code, 1);
    assert!(err.contains("more than 1048576 bytes"), "{err}");
}

#[test]
fn check_prints_json() {
    let (code, out, _) = config(Path::new(ROOT), &["check", "--json", "testdata/seed_config.yaml"]);
    let value: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(code, 0);
    assert_eq!((&value["valid"], &value["runs"]), (&true.into(), &true.into()));
    assert_eq!(value["unavailable"], serde_json::json!([]));
    assert_eq!(value["config"]["privacy"]["delta"], 1e-5);
    let set = ["check", "--json", "--set", "privacy.delta=0", "config/config.yaml"];
    let (code, out, err) = config(Path::new(ROOT), &set);
    let value: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &value["valid"]), (1, &false.into()));
    assert_eq!(value["problems"][0]["set"], "privacy.delta=0");
    assert!(err.contains("privacy.delta"), "{err}");
}

#[test]
fn what_show_prints_is_read_back() {
    let set = ["show", "config/config.yaml", "--set", "federated.num_rounds=2"];
    let (code, shown, _) = config(Path::new(ROOT), &set);
    assert_eq!(code, 0);
    assert!(shown.contains("num_rounds: 2\n"), "{shown}");
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("c.yaml"), &shown).unwrap();
    assert_eq!(config(directory.path(), &["show", "c.yaml"]), (0, shown, String::new()));
}

#[test]
fn the_schema_is_json() {
    let (code, out, _) = config(Path::new(ROOT), &["schema"]);
    let schema: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &schema["type"]), (0, &"object".into()));
    assert_eq!(schema["properties"]["privacy"]["properties"]["delta"]["default"], 1e-5);
}
