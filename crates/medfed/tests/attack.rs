//! `medfed simulate --attack` and `medfed bench robustness`, as a user runs them.

#[path = "simulate/pictures.rs"]
#[expect(dead_code, reason = "the pictures of other tests are there too")]
mod pictures;

use serde_json::Value;
use std::path::Path;
use std::process::Command;

/// Runs `medfed` to its end: code, stdout, stderr.
fn medfed(directory: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_medfed"));
    command.current_dir(directory).env("NO_COLOR", "1").env_remove("MEDFED_LOG").args(arguments);
    let output = command.output().expect("the binary starts");
    let text = |bytes| String::from_utf8(bytes).expect("output is UTF-8");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn an_attack_is_announced_and_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let run = [
        "simulate",
        "--attack",
        "backdoor",
        "--attackers",
        "2",
        "--out",
        "a",
        "--seed",
        "1",
        "--rounds",
        "1",
        "--set",
        "federated.num_clients=5",
        "--set",
        "model.channels=[8,8]",
        "--set",
        "data={image_size: 28, samples_per_client: 40}",
        "--set",
        "training.local_steps=2",
    ];
    let (code, out, err) = medfed(dir.path(), &run);
    assert_eq!(code, Some(0), "{err}");
    assert!(err.contains("SIMULATED ATTACK backdoor: "), "{err}");
    assert!(out.contains("Simulated attack") && out.contains("do not use this model"), "{out}");
    let results = std::fs::read_to_string(dir.path().join("a/results.json")).unwrap();
    let results: Value = serde_json::from_str(&results).unwrap();
    let attack = &results["summary"]["simulated_attack"];
    assert_eq!(attack["attack"], "backdoor");
    assert_eq!(attack["attackers"].as_array().unwrap().len(), 2);
    assert!(attack["backdoor"]["with_trigger"].is_number());
    assert_eq!(results["config"]["simulation"]["attack"], "backdoor");
    assert!(results["summary"]["privacy_statement"].as_str().unwrap().contains("hospitals that attacked"));
    let log = std::fs::read_dir(dir.path().join("a/logs")).unwrap().map(|entry| entry.unwrap().path());
    let log = log.filter(|path| path.extension().is_some_and(|end| end == "log"));
    let logs: String = log.map(|path| std::fs::read_to_string(path).unwrap()).collect();
    assert!(logs.contains("SIMULATED ATTACK"), "{logs}");
}

/// Multi-Krum on opened inner products: the attackers are not selected and named, the log can be verified by
/// selecting again.
#[test]
fn a_selection_under_masks_names_whom_it_leaves_out() {
    let dir = tempfile::tempdir().unwrap();
    let run = [
        "simulate",
        "--attack",
        "sign_flip",
        "--attackers",
        "2",
        "--out",
        "a",
        "--seed",
        "1",
        "--rounds",
        "2",
        "--set",
        "federated.num_clients=8",
        "--set",
        "model.channels=[8,8]",
        "--set",
        "data={image_size: 28, samples_per_client: 40}",
        "--set",
        "training.local_steps=2",
        "--set",
        "privacy.enabled=false",
        "--set",
        "secure_aggregation.enabled=true",
        "--set",
        "robust_aggregation={enabled: true, method: multi_krum, num_byzantine: 2, multi_krum_k: 5}",
    ];
    let (code, out, err) = medfed(dir.path(), &run);
    assert_eq!(code, Some(0), "{err}");
    assert!(err.contains("selection: the distances between updates are shown to everyone"), "{err}");
    let not = out.lines().find(|line| line.contains("not selected")).unwrap_or_else(|| panic!("{out}"));
    assert!(not.contains("hospital_7 in 2 rounds") && not.contains("hospital_8 in 2 rounds"), "{not}");
    let results = std::fs::read_to_string(dir.path().join("a/results.json")).unwrap();
    let results: Value = serde_json::from_str(&results).unwrap();
    let masking = &results["rounds"][0]["security"]["masking"];
    assert_eq!(masking["revealed"], serde_json::json!(["inner_products", "selected_sum"]));
    assert_eq!(masking["selection"]["selected"].as_array().unwrap().len(), 5);
    let (code, out, err) = medfed(dir.path(), &["audit", "verify", "a"]);
    assert_eq!(code, Some(0), "{out}{err}");
    assert!(out.contains("shown to every hospital: inner products of all updates"), "{out}");
    let (code, out, err) = medfed(dir.path(), &["audit", "show", "a"]);
    assert_eq!(code, Some(0), "{err}");
    assert!(
        out.contains("inner products of hospital_1, hospital_2") && out.contains("opened; selected: "),
        "{out}"
    );
}

#[test]
fn what_is_no_attack_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (code, _, err) = medfed(dir.path(), &["simulate", "--attack", "flood"]);
    assert!(code == Some(1) && err.contains("sign_flip"), "{code:?} {err}");
    let (code, _, err) = medfed(dir.path(), &["simulate", "--attackers", "2"]);
    assert!(code == Some(1) && err.contains("--attack"), "{code:?} {err}");
    let (code, _, err) = medfed(dir.path(), &["simulate", "--attack", "nan", "--attackers", "3"]);
    assert!(code == Some(1) && err.contains("simulation.attackers: 3 of 3"), "{code:?} {err}");
}

/// A comparison that was cut off in the middle of a line goes on and leaves the same document.
#[test]
fn a_comparison_goes_on_where_it_was_stopped() {
    let dir = tempfile::tempdir().unwrap();
    pictures::archive(&dir.path().join("images.npz"), 2, 400);
    let bench = |rules: &str| {
        let run = [
            "bench",
            "robustness",
            "--data",
            "images.npz",
            "--rounds",
            "1",
            "--settings",
            "iid",
            "--attacks",
            "none,nan",
            "--rules",
            rules,
            "--out",
            "robustness.md",
            "--images",
            "images",
            "--threads",
            "2",
        ];
        let (code, _, err) = medfed(dir.path(), &run);
        assert_eq!(code, Some(0), "{err}");
        (std::fs::read_to_string(dir.path().join("robustness.md")).unwrap(), err)
    };
    let (first, _) = bench("fedavg,median");
    assert!(first.contains("| fedavg | ") && first.contains("Alike hospitals, no privacy"), "{first}");
    let results = dir.path().join("robustness.jsonl");
    let lines = std::fs::read_to_string(&results).unwrap();
    assert_eq!(lines.lines().count(), 4);
    std::fs::write(&results, &lines[..lines.len() - 30]).unwrap();
    std::fs::write(dir.path().join("robustness.md"), format!("# Mine\n\nWords.\n\n{first}\nMore words.\n"))
        .unwrap();
    let (second, err) = bench("fedavg,median");
    assert!(err.contains("3 of 4 runs are in robustness.jsonl"), "{err}");
    let part = &first[first.find("<!--").unwrap()..];
    assert!(second.starts_with("# Mine\n\nWords.") && second.ends_with("\nMore words.\n"), "{second}");
    assert!(second.contains(part), "{second}");
    for picture in ["robustness-iid.svg", "robustness-iid.png"] {
        assert!(dir.path().join("images").join(picture).is_file(), "{picture}");
    }
    let (third, err) = bench("fedavg,median");
    assert!(third == second && err.contains("4 of 4 runs"), "{err}");
}
