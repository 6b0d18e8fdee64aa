//! `medfed runs`: what it lists, and how it answers for what is not there.

use assert_cmd::Command;
use medfed_dp::{Accountant, DpPlan, ExpectedBatchSize, Ledger, PlanTerms, PrivacyUnit, RoundRequest};
use medfed_store::{RunRecord, RunStatus, Store, Timestamp};
use medfed_types::{ClipNorm, Delta, Epsilon, NoiseMultiplier, RoundId, RunId, SamplingRate, Seed, SiteId};
use serde_json::{Value, json};
use std::path::Path;

/// Exit code, standard output and standard error of `medfed runs ARGUMENTS`.
fn runs(directory: &Path, arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::cargo_bin("medfed").expect("cargo builds the binary");
    let run = command.current_dir(directory).env("NO_COLOR", "1").arg("runs").args(arguments);
    let output = run.output().expect("the binary starts");
    let text = |bytes| String::from_utf8(bytes).expect("output is UTF-8");
    (output.status.code().expect("it exits"), text(output.stdout), text(output.stderr))
}

fn id(text: &str) -> RunId {
    RunId::try_from(text).expect("a name")
}

/// A folder with a finished private run, and one that was killed and had no privacy.
fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let store = Store::open(dir.path().join("results")).expect("an empty folder");
    let record = |run: &str, created, private| RunRecord {
        id: id(run),
        name: "pneumonia".to_owned(),
        created: Timestamp(created),
        config: json!({
            "config": { "model": { "name": "simple_cnn" }, "privacy": { "enabled": private } },
            "data": "ab",
        }),
        seed: Seed(7),
    };
    let round = |epsilon: Value| {
        json!({
            "round_num": 1, "status": "completed", "num_clients": 3, "train_loss": 0.612_34, "val_loss": 0.5,
            "accuracy": 0.75, "auc": 0.812_34, "test_auc": 0.8, "noise_multiplier": 1.1, "epsilon_total": epsilon,
        })
    };
    let (first, second) = (id("20260301-090507-1f3a"), id("20260302-090507-2b4c"));
    store.create_run(&record(first.as_str(), 1_772_355_907_000, true)).expect("it is new");
    store.append_round(&first, RoundId(1), &round(json!(1.230_01))).expect("it is running");
    let summary = json!({ "final_epsilon": 1.230_01, "test_auc": 0.91, "privacy_statement": "Protected." });
    let finished = Timestamp(1_772_356_000_000);
    store.finish_run(&first, RunStatus::Completed, finished, &summary).expect("it is running");
    store.create_run(&record(second.as_str(), 1_772_442_307_000, false)).expect("it is new");
    store.append_round(&second, RoundId(1), &round(Value::Null)).expect("it is running");
    dir
}

#[test]
fn runs_are_listed() {
    let dir = folder();
    let (code, out, err) = runs(dir.path(), &[]);
    assert_eq!((code, err.as_str()), (0, ""));
    insta::assert_snapshot!(out, @r"
    ID                    NAME       STARTED               STATUS       ROUNDS  MODEL       EPSILON     TEST AUC
    20260301-090507-1f3a  pneumonia  2026-03-01T09:05:07Z  completed    1       simple_cnn  1.231       0.9100
    20260302-090507-2b4c  pneumonia  2026-03-02T09:05:07Z  interrupted  1       simple_cnn  no privacy  0.8000
    ");
    let (code, out, _) = runs(
        dir.path().parent().expect("it is below /"),
        &["--json", "--results", dir.path().join("results").to_str().expect("it is UTF-8")],
    );
    let listed: Value = serde_json::from_str(&out).expect("it is JSON");
    assert_eq!((code, &listed[0]["epsilon"], &listed[0]["rounds"]), (0, &json!(1.230_01), &json!(1)));
    assert_eq!((&listed[1]["private"], &listed[1]["status"]), (&json!(false), &json!("interrupted")));
}

#[test]
fn a_run_is_shown_with_its_rounds() {
    let dir = folder();
    let (code, out, err) = runs(dir.path(), &["show", "20260301-090507-1f3a"]);
    assert_eq!((code, err.as_str()), (0, ""));
    insta::assert_snapshot!(out, @r#"
    run       20260301-090507-1f3a
    name      pneumonia
    started   2026-03-01T09:05:07Z
    finished  2026-03-01T09:06:40Z
    status    completed
    seed      7
    model     simple_cnn
    epsilon   1.231
    test AUC  0.9100
    privacy   Protected.

    ROUND  STATUS     HOSPITALS  TRAIN LOSS  VAL LOSS  ACCURACY  AUC     NOISE   EPSILON
    1      completed  3          0.6123      0.5000    0.7500    0.8123  1.1000  1.231

    configuration
    {
      "model": {
        "name": "simple_cnn"
      },
      "privacy": {
        "enabled": true
      }
    }
    "#);
    let (code, out, _) = runs(dir.path(), &["show", "20260301-090507-1f3a", "--json"]);
    let shown: Value = serde_json::from_str(&out).expect("it is JSON");
    assert_eq!((code, &shown["config"]["model"]["name"]), (0, &json!("simple_cnn")));
    assert_eq!(shown["round_reports"][0]["auc"], json!(0.812_34));
    assert_eq!(shown["summary"]["test_auc"], json!(0.91));
}

/// A killed run has paid for the round after its newest report: ε is what its ledgers say.
#[test]
fn epsilon_of_a_killed_run_counts_the_round_without_a_report() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let store = Store::open(dir.path().join("results")).expect("an empty folder");
    let run = id("20260301-090507-1f3a");
    let privacy = json!({ "enabled": true, "delta": 1e-5, "accountant": "rdp" });
    let record = RunRecord {
        id: run.clone(),
        name: "killed".to_owned(),
        created: Timestamp(1_772_355_907_000),
        config: json!({ "config": { "privacy": privacy } }),
        seed: Seed(7),
    };
    store.create_run(&record).expect("it is new");
    let delta = Delta::new(1e-5).expect("a delta");
    let plan = DpPlan::new(PlanTerms {
        unit: PrivacyUnit::Image,
        clip: ClipNorm::new(1.0).expect("a norm"),
        noise: NoiseMultiplier::new(1.0).expect("a noise multiplier"),
        rate: SamplingRate::new(0.05).expect("a rate"),
        expected_batch_size: ExpectedBatchSize::new(10.0).expect("a size"),
        secure_mode: false,
        delta,
        accountant: Accountant::Rdp,
        budget: Epsilon::new(8.0).expect("a budget"),
    })
    .expect("ordinary terms");
    let mut spent = Vec::new();
    for (name, rounds) in [("North", 2), ("South", 1)] {
        let site = SiteId::try_from(name).expect("a name");
        let storage = store.ledger_storage(&run, &site).expect("the run is there");
        let mut ledger = Ledger::open(run.clone(), site, storage).expect("it is empty");
        for round in 1..=rounds {
            let steps = std::num::NonZeroU64::new(20).expect("20 is above 0");
            let request = RoundRequest { round: RoundId(round), steps, inputs: [0; 32] };
            ledger.reserve(&plan, request).expect("it fits");
            spent.push(ledger.spent(delta).expect("it can be computed").rdp.get());
        }
    }
    store
        .append_round(&run, RoundId(1), &json!({ "round_num": 1, "epsilon_total": spent[0] }))
        .expect("it is running");
    drop(store);
    assert!(spent[1] > spent[0] && spent[0] == spent[2]);
    let (code, out, err) = runs(dir.path(), &["--json"]);
    let listed: Value = serde_json::from_str(&out).expect("it is JSON");
    assert_eq!((code, &listed[0]["epsilon"]), (0, &json!(spent[1])), "{err}");
}

#[test]
fn what_is_not_there_is_answered() {
    let dir = folder();
    let (code, out, err) = runs(dir.path(), &["show", "20260301-090507-1f3b"]);
    assert_eq!((code, out.as_str()), (1, ""));
    insta::assert_snapshot!(err, @r"
    error: there is no run 20260301-090507-1f3b
    hint: did you mean 20260301-090507-1f3a? `medfed runs` lists the runs of a folder; --results names another folder
    ");
    let (code, out, err) = runs(dir.path(), &["--results", "elsewhere"]);
    assert_eq!((code, out.as_str()), (1, ""));
    insta::assert_snapshot!(err, @r"
    error: elsewhere holds no runs
    hint: give the folder of a run with --results, or start one with `medfed simulate`
    ");
    let (code, _, err) = runs(dir.path(), &["show", "a/b"]);
    assert_eq!(code, 1, "{err}");
}

#[test]
fn an_interrupted_run_is_ended_and_loses_its_keys() {
    let dir = folder();
    let results = dir.path().join("results");
    let (run, site) = (id("20260302-090507-2b4c"), SiteId::try_from("north").expect("a name"));
    let kept = {
        let store = Store::open(&results).expect("it is there");
        *store.site_key(&run, &site, None).expect("it is resumable").expose()
    };
    let holds_key = || {
        let files = std::fs::read_dir(&results).expect("it is there");
        let mut files =
            files.map(|entry| std::fs::read(entry.expect("it is there").path()).unwrap_or_default());
        files.any(|bytes| bytes.windows(kept.len()).any(|window| window == kept))
    };
    assert!(holds_key());
    let (code, out, err) = runs(dir.path(), &["end", run.as_str()]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(out, "run 20260302-090507-2b4c has ended for good; its keys are gone\n");
    assert!(!holds_key());
    let (_, out, _) = runs(dir.path(), &["--json"]);
    let listed: Value = serde_json::from_str(&out).expect("it is JSON");
    assert_eq!((&listed[1]["status"], &listed[1]["rounds"]), (&json!("failed"), &json!(1)));
    for gone in [run.as_str(), "20260301-090507-1f3a"] {
        let (code, _, err) = runs(dir.path(), &["end", gone]);
        assert_eq!(code, 1);
        assert!(err.contains("there is nothing left to end"), "{err}");
    }
    let (code, _, _) = runs(dir.path(), &["end", "20260302-090507-0000", "--results", "nowhere"]);
    assert_eq!(code, 1);
    assert!(!dir.path().join("nowhere").exists());
}
