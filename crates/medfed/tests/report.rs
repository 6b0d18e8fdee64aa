//! `medfed report`: what it writes and where, and how it answers for what is not there.

use assert_cmd::Command;
use medfed_store::{RunRecord, Store, Timestamp};
use medfed_types::{RoundId, RunId, Seed};
use serde_json::json;
use std::path::Path;

/// Exit code, standard output and standard error of `medfed report ARGUMENTS`.
fn report(directory: &Path, arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::cargo_bin("medfed").expect("cargo builds the binary");
    let run = command.current_dir(directory).env("NO_COLOR", "1").arg("report").args(arguments);
    let output = run.output().expect("the binary starts");
    let text = |bytes| String::from_utf8(bytes).expect("output is UTF-8");
    (output.status.code().expect("it exits"), text(output.stdout), text(output.stderr))
}

/// A folder with two runs, the second with a round.
fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let store = Store::open(dir.path().join("results")).expect("an empty folder");
    for (run, created) in [("20260301-090507-1f3a", 1), ("20260302-090507-2b4c", 2)] {
        let id = RunId::try_from(run).expect("a name");
        let (name, created) = (format!("run {created}"), Timestamp(created));
        let config = json!({ "config": { "privacy": { "enabled": false } } });
        store
            .create_run(&RunRecord { id: id.clone(), name, created, config, seed: Seed(7) })
            .expect("it is new");
        let hospital = json!({ "hospital": "North", "accuracy": 0.8, "auc": 0.9, "train_images": 10, "validation_images": 5 });
        let round = json!({ "round_num": 1, "auc": 0.9, "test_auc": 0.9, "hospitals": [hospital] });
        store.append_round(&id, RoundId(1), &round).expect("it is running");
    }
    dir
}

#[test]
fn the_newest_run_is_reported_into_its_folder() {
    let dir = folder();
    let (code, out, err) = report(dir.path(), &[]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(out, "results/report_20260302-090507-2b4c.html\n");
    let page = std::fs::read_to_string(dir.path().join(out.trim())).expect("it was written");
    assert!(
        page.contains("<h1>Training report: run 2</h1>") && page.contains("without differential privacy")
    );
}

#[test]
fn what_is_asked_for_is_written_and_named() {
    let dir = folder();
    let arguments =
        ["20260301-090507-1f3a", "--pdf", "r.pdf", "--model-card", "card.md", "--charts", "charts"];
    let (code, out, err) = report(dir.path(), &arguments);
    assert_eq!((code, err.as_str()), (0, ""));
    let written: Vec<&str> = out.lines().collect();
    assert_eq!(written[..3], ["r.pdf", "card.md", "charts/01-auc-after-each-round.svg"]);
    assert!(written.iter().all(|path| dir.path().join(path).is_file()) && !out.contains(".html"), "{out}");
    let read = |name: &str| std::fs::read(dir.path().join(name)).expect("it was written");
    assert!(read("r.pdf").starts_with(b"%PDF-") && read("card.md").starts_with(b"# Model card: run 1\n"));
    assert!(read("charts/01-auc-after-each-round.png").starts_with(b"\x89PNG"));
    let (code, out, _) = report(dir.path(), &["--out", "-"]);
    assert_eq!(code, 0);
    assert!(out.starts_with("<!doctype html>") && out.ends_with("</html>\n"));
}

#[test]
fn what_is_not_there_is_named() {
    let dir = folder();
    let (code, _, err) = report(dir.path(), &["20260301-090507-1f3b"]);
    assert_eq!(code, 1);
    assert!(err.contains("did you mean 20260301-090507-1f3a?"), "{err}");
    let (code, _, err) = report(dir.path(), &["--results", "elsewhere"]);
    assert_eq!(code, 1);
    assert!(err.contains("elsewhere holds no runs"), "{err}");
    let (code, _, err) = report(dir.path(), &["--pdf", "no/such/folder.pdf"]);
    assert_eq!(code, 1);
    assert!(err.contains("no/such/folder.pdf cannot be written") && err.contains("hint:"), "{err}");
}
