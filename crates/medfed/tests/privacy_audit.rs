//! `medfed privacy-audit` and the audit at the end of a run, as a user runs them.

use serde_json::Value;
use std::path::Path;
use std::process::Command;

/// A small run with canaries and an audit.
const RUN: [&str; 22] = [
    "simulate",
    "--seed",
    "3",
    "--out",
    "out",
    "--set",
    "model.channels=[8,8]",
    "--set",
    "data.image_size=28",
    "--set",
    "data.samples_per_client=120",
    "--set",
    "federated.num_rounds=1",
    "--set",
    "training.local_steps=3",
    "--set",
    "privacy_audit.enabled=true",
    "--set",
    "privacy_audit.canaries=20",
    "--set",
    "robust_aggregation.enabled=false",
    "--json",
];

/// Runs `medfed`; gives its exit code and what it wrote.
fn medfed(directory: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_medfed"));
    let output = command.current_dir(directory).env("NO_COLOR", "1").args(arguments).output();
    let output = output.expect("the binary starts");
    let text = |bytes| String::from_utf8(bytes).expect("output is UTF-8");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn json(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).expect("reports are JSON")
}

#[test]
fn a_run_is_audited_at_its_end_and_again_from_its_model() {
    let directory = tempfile::tempdir().expect("there is room");
    let at = |name: &str| directory.path().join(name);
    let (code, out, err) = medfed(directory.path(), &RUN);
    assert_eq!(code, Some(0), "{err}");
    let results: Value = serde_json::from_str(&out).expect("stdout is one JSON object");
    let said = results["summary"]["privacy_statement"].as_str().expect("every run says what protects");
    assert!(said.contains("trained with canaries"), "{said}");
    assert!(err.contains("the model will contain canaries: 20 examples"), "{err}");
    let first = json(&at("out/mia_privacy_audit.json"));
    assert_eq!(first["measured_privacy"]["canaries"], 20);
    assert_eq!(first["measured_privacy"]["refuted"], false);
    assert!(first["attacks"]["threshold"]["auc_roc"].is_number() && first["claim"]["epsilon"].is_number());
    assert!(std::fs::read_to_string(at("out/mia_roc.svg")).is_ok_and(|svg| svg.contains("ceiling")));

    // The same images, coins and model give the same report.
    let model = ["privacy-audit", "--model", "out/best_model.safetensors"];
    let (code, out, err) = medfed(directory.path(), &[&model[..], &["--out", "again", "--json"]].concat());
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(serde_json::from_str::<Value>(&out).expect("stdout is one JSON object"), first);
    assert_eq!(json(&at("again/mia_privacy_audit.json")), first);

    // Models for comparison; the second audit finds them.
    let compare =
        ["--out", "again", "--attack", "lira", "--attack", "shadow", "--attack", "rmia", "--references", "2"];
    let (code, out, err) = medfed(directory.path(), &[&model[..], &compare].concat());
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("--- LIRA Attack ---") && out.contains("2 models trained for comparison"), "{out}");
    let kept = std::fs::read_to_string(at("again/mia_references.jsonl")).expect("answers are kept");
    assert_eq!(kept.lines().count(), 3);
    // A line that a kill cut off is done again, the others are not.
    std::fs::write(at("again/mia_references.jsonl"), &kept[..kept.len() - 40]).expect("it can be written");
    let (_, resumed, _) = medfed(directory.path(), &[&model[..], &compare].concat());
    assert_eq!(resumed, out);
    assert_eq!(std::fs::read_to_string(at("again/mia_references.jsonl")).expect("they are kept"), kept);
}

#[test]
fn a_model_without_its_run_is_refused_with_a_way_out() {
    let directory = tempfile::tempdir().expect("there is room");
    let without: Vec<&str> =
        RUN.iter().map(|word| word.replace("enabled=true", "enabled=false").leak() as &str).collect();
    let (code, _, err) = medfed(directory.path(), &without);
    assert_eq!(code, Some(0), "{err}");
    assert!(
        !err.contains("canaries") && !directory.path().join("out/mia_privacy_audit.json").exists(),
        "{err}"
    );
    let elsewhere = directory.path().join("model.safetensors");
    std::fs::copy(directory.path().join("out/best_model.safetensors"), elsewhere).expect("it can be copied");
    let (code, out, err) = medfed(directory.path(), &["privacy-audit", "--model", "model.safetensors"]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(err.contains("it is not known which images") && err.contains("--member-split"), "{err}");
    let results = ["privacy-audit", "--model", "model.safetensors", "--results", "out", "--out", "new"];
    let (code, out, err) = medfed(directory.path(), &results);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.starts_with(&format!("{}\nPRIVACY AUDIT REPORT - Membership", "=".repeat(70))), "{out}");
}

#[test]
fn canaries_under_an_attack_without_privacy_are_refused() {
    let directory = tempfile::tempdir().expect("there is room");
    let attacked = |attack| medfed(directory.path(), &[&RUN[..], &["--attack", attack]].concat());
    let (code, _, err) = attacked("label_flip");
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("under the attack label_flip") && err.contains("canaries=0"), "{err}");
    // Attackers that train under their plan are covered.
    let (code, _, err) = attacked("mimic");
    assert_eq!(code, Some(0), "{err}");
}
