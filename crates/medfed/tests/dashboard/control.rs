//! Training as it is started, paused, resumed and stopped from the dashboard, and what becomes of it when
//! either process is killed.

use crate::server::{Dashboard, configure, medfed, small};
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Barrier;

fn kill(process: &str) {
    assert!(Command::new("kill").args(["-KILL", process]).status().unwrap().success());
}

/// A results file, and the model, without the name of the run.
fn result(folder: &Path, results: &str) -> (Value, Vec<u8>) {
    let text = std::fs::read_to_string(folder.join(results).join("results.json")).unwrap();
    let all: Value = serde_json::from_str(&text).unwrap();
    let id = all["run"]["id"].as_str().unwrap().as_bytes();
    let mut model = std::fs::read(folder.join(results).join("best_model.safetensors")).unwrap();
    for at in 0..model.len().saturating_sub(id.len()) {
        if model[at..].starts_with(id) {
            model[at..at + id.len()].fill(b'-');
        }
    }
    (json!({ "summary": all["summary"], "rounds": all["rounds"] }), model)
}

#[test]
fn a_run_goes_from_start_to_end_like_one_from_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let dashboard = small(folder.path(), 2, 3);
    let idle = dashboard.state();
    assert_eq!(
        (&idle["status"], &idle["is_running"], &idle["resumable"]),
        (&json!("idle"), &json!(false), &json!(false))
    );
    assert_eq!(dashboard.json("/api/data")["has_data"], json!(false));

    let started = dashboard.order("start", "");
    assert_eq!(started["is_running"], json!(true));
    let ended = dashboard.wait_for("completed");
    assert_eq!(ended["message"], json!("Completed 2 of 2 rounds"));
    assert_eq!(
        (&ended["current_round"], &ended["total_rounds"], &ended["error"]),
        (&json!(2), &json!(2), &Value::Null)
    );
    assert!(ended["live_metrics"]["epsilon_total"].as_f64() > Some(0.0), "{ended}");
    let data = dashboard.json("/api/data");
    assert_eq!(data["chart_data"]["rounds"], json!([1, 2]));
    assert_eq!(data["summary"]["status"], json!("completed"));
    assert!(dashboard.json("/api/training/logs?limit=5")["logs"].as_array().unwrap().len() <= 5);

    medfed(folder.path(), &["simulate", "--config", "config.yaml", "--out", "alone"]);
    let (here, alone) = (result(folder.path(), "results"), result(folder.path(), "alone"));
    assert_eq!(here.0, alone.0);
    assert!(here.1 == alone.1, "the model is another");
}

#[test]
fn two_starts_at_once_do_one_thing() {
    let folder = tempfile::tempdir().unwrap();
    let dashboard = small(folder.path(), 50, 10);
    let barrier = Barrier::new(4);
    let start = || {
        barrier.wait();
        dashboard.post("/api/training/start", "")
    };
    let mut answers = std::thread::scope(|scope| {
        let all: [_; 4] = std::array::from_fn(|_| scope.spawn(start));
        all.map(|answer| answer.join().unwrap())
    });
    answers.sort_by_key(|(status, _)| *status);
    assert_eq!(answers.each_ref().map(|(status, _)| *status), [200, 400, 400, 400], "{answers:?}");
    assert_eq!(answers[1].1["message"], json!("training is already running"));
    dashboard.wait_for_rounds(1);
    assert_eq!(dashboard.json("/api/runs")["runs"].as_array().unwrap().len(), 1);
    // A run that trains is neither reset nor resumed.
    assert_eq!(dashboard.post("/api/training/reset", "{\"clear_results\": true}").0, 400);
    assert_eq!(dashboard.post("/api/training/resume", "").0, 400);
    // Nor is one begun beside it from the command line.
    let beside = assert_cmd::Command::new(assert_cmd::cargo::cargo_bin!("medfed"))
        .args(["simulate", "--config", "config.yaml"])
        .current_dir(folder.path())
        .assert()
        .code(1);
    assert!(String::from_utf8_lossy(&beside.get_output().stderr).contains("error: "));
    dashboard.order("stop", "");
    assert_eq!(dashboard.wait_for("stopped")["resumable"], json!(true));
}

#[test]
fn pause_resume_stop_and_reset() {
    let folder = tempfile::tempdir().unwrap();
    let dashboard = small(folder.path(), 500, 10);
    let refused = |action: &str| {
        let (status, answer) = dashboard.post(&format!("/api/training/{action}"), "");
        assert_eq!((status, &answer["success"]), (400, &json!(false)), "{action}: {answer}");
    };
    for action in ["pause", "stop", "resume"] {
        refused(action);
    }
    dashboard.order("start", r#"{"num_rounds": 200}"#);
    dashboard.wait_for_rounds(1);
    assert_eq!(
        dashboard.state()["total_rounds"],
        json!(200),
        "the order changed the configuration of this run"
    );

    let pausing = dashboard.order("pause", "");
    assert!(["pausing", "paused"].contains(&pausing["status"].as_str().unwrap()), "{pausing}");
    // Asking again changes nothing.
    let _ = dashboard.post("/api/training/pause", "");
    let paused = dashboard.wait_for("paused");
    assert_eq!(
        (&paused["is_running"], &paused["resumable"], &paused["error"]),
        (&json!(false), &json!(true), &Value::Null)
    );
    let rounds = dashboard.rounds();
    assert!(medfed_store::writer(&folder.path().join("results")).is_none(), "no process trains");
    refused("pause");

    let run = paused["live_metrics"]["run"].clone();
    dashboard.order("resume", "");
    dashboard.wait_for_rounds(rounds + 1);
    let state = dashboard.state();
    assert_eq!((&state["status"], &state["live_metrics"]["run"]), (&json!("running"), &run));
    dashboard.order("pause", "");
    dashboard.wait_for("paused");
    // What is paused can be given up in words, and is still there.
    let stopped = dashboard.order("stop", "");
    assert_eq!((&stopped["status"], &stopped["resumable"]), (&json!("stopped"), &json!(true)));
    refused("stop");
    dashboard.order("resume", "");
    dashboard.wait(|state| state["status"] == "running");
    dashboard.order("stop", "");
    let stopped = dashboard.wait_for("stopped");
    assert!(stopped["message"].as_str().unwrap().starts_with("Stopped after "), "{stopped}");

    assert_eq!(dashboard.order("reset", "{}")["status"], json!("idle"));
    assert_eq!(dashboard.json("/api/runs")["runs"].as_array().unwrap().len(), 1, "nothing was removed");
    let (status, answer) = dashboard.post("/api/training/reset", r#"{"clear_results": true}"#);
    assert_eq!(status, 200, "{answer}");
    dashboard.wait(|_| dashboard.json("/api/runs")["runs"] == json!([]));
    let aside = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).find(|path| {
        path.file_name().unwrap().to_str().unwrap().starts_with("results-")
            && path.join("medfed.sqlite").is_file()
    });
    assert!(
        answer["message"].as_str().unwrap().contains(aside.unwrap().file_name().unwrap().to_str().unwrap())
    );
    refused("resume");
}

#[test]
fn a_dashboard_that_is_killed_finds_its_run_again() {
    let folder = tempfile::tempdir().unwrap();
    configure(folder.path(), 500, 10);
    let arguments = ["--config", "config.yaml"];
    let mut first = Dashboard::start(folder.path(), &arguments);
    first.order("start", "");
    first.wait_for_rounds(1);
    let (run, trainer) = (first.state()["live_metrics"]["run"].clone(), first.trainer());
    first.process.kill().unwrap();
    first.process.wait().unwrap();

    let second = Dashboard::start(folder.path(), &arguments);
    let state = second.wait_for("running");
    assert_eq!((&state["is_running"], &state["live_metrics"]["run"]), (&json!(true), &run));
    assert_eq!(second.trainer(), trainer, "the process went on");
    assert_eq!(second.post("/api/training/start", "").0, 400);
    second.wait_for_rounds(second.rounds() + 1);
    second.order("pause", "");
    second.wait_for("paused");

    // Both killed: what nobody has seen end is reported as interrupted.
    second.order("resume", "");
    second.wait(|state| state["status"] == "running");
    let trainer = second.trainer();
    let mut second = second;
    second.process.kill().unwrap();
    second.process.wait().unwrap();
    kill(&trainer);
    let third = Dashboard::start(folder.path(), &arguments);
    let state = third.wait_for("stopped");
    assert!(state["message"].as_str().unwrap().starts_with("Interrupted after "), "{state}");
    assert_eq!((&state["resumable"], &state["live_metrics"]["run"]), (&json!(true), &run));
    let rounds = third.rounds();
    third.order("resume", "");
    third.wait_for_rounds(rounds + 1);
    third.order("stop", "");
    third.wait_for("stopped");
}

#[test]
fn a_pause_is_remembered_until_somebody_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let first = small(folder.path(), 500, 10);
    first.order("start", "");
    first.wait_for_rounds(1);
    first.order("pause", "");
    let paused = first.wait_for("paused");
    drop(first);
    let arguments = ["--config", "config.yaml"];
    let second = Dashboard::start(folder.path(), &arguments);
    assert_eq!(second.wait_for("paused")["message"], paused["message"]);
    drop(second);

    let mut beside = Command::new(assert_cmd::cargo::cargo_bin!("medfed"))
        .args(["simulate", "--resume"])
        .current_dir(folder.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let process = beside.id();
    while medfed_store::writer(&folder.path().join("results")) != Some(Some(process)) {
        assert_eq!(beside.try_wait().unwrap(), None, "it goes on with the run");
        std::thread::yield_now();
    }
    assert!(Command::new("kill").args(["-INT", &process.to_string()]).status().unwrap().success());
    beside.wait().unwrap();
    let third = Dashboard::start(folder.path(), &arguments);
    assert_eq!(third.wait_for("stopped")["resumable"], json!(true));
}

#[test]
fn training_that_is_killed_has_failed_for_a_reason_and_can_be_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let dashboard = small(folder.path(), 500, 10);
    dashboard.order("start", "");
    dashboard.wait_for_rounds(1);
    kill(&dashboard.trainer());
    let failed = dashboard.wait(|state| state["status"] == "failed");
    assert!(failed["error"].as_str().unwrap().contains("was killed (signal 9)"), "{failed}");
    assert!(failed["message"].as_str().unwrap().ends_with("it can be resumed"), "{failed}");
    assert_eq!((&failed["is_running"], &failed["resumable"]), (&json!(false), &json!(true)));
    let rounds = dashboard.rounds();
    dashboard.order("resume", "");
    dashboard.wait_for_rounds(rounds + 1);
    let state = dashboard.state();
    assert_eq!((&state["status"], &state["error"]), (&json!("running"), &Value::Null));
    dashboard.order("stop", "");
    dashboard.wait_for("stopped");
}

#[test]
fn runs_from_the_command_line_are_seen_and_controlled_and_their_end_is_theirs() {
    let folder = tempfile::tempdir().unwrap();
    let dashboard = small(folder.path(), 500, 10);
    let from_command_line = |arguments: &[&str]| {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("medfed"));
        command.arg("simulate").args(arguments).current_dir(folder.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    // A start that fails here says nothing about a run that comes to its end elsewhere.
    std::fs::write(folder.path().join("config.yaml"), "data: {dataset: files, data_dir: nowhere.npz}\n")
        .unwrap();
    let _ = dashboard.post("/api/training/start", "");
    dashboard.wait(|state| state["status"] == "failed");
    configure(folder.path(), 500, 10);
    let mut first = from_command_line(&["--config", "config.yaml", "--rounds", "2"]);
    let ended = dashboard.wait(|state| state["status"] == "completed");
    assert_eq!((&ended["error"], &ended["current_round"]), (&Value::Null, &json!(2)));
    assert!(first.wait().unwrap().success());

    // One that is paused here and taken up again there runs, and can be paused again.
    let mut second = from_command_line(&["--config", "config.yaml"]);
    for _ in 0..2 {
        let running = dashboard.wait(|state| state["status"] == "running");
        assert_eq!(running["is_running"], json!(true));
        dashboard.order("pause", "");
        dashboard.wait_for("paused");
        assert_eq!(second.wait().unwrap().code(), Some(130));
        second = from_command_line(&["--resume"]);
    }
    dashboard.wait(|state| state["status"] == "running");
    dashboard.order("stop", "");
    dashboard.wait_for("stopped");
    assert_eq!(second.wait().unwrap().code(), Some(130));
}

#[test]
fn a_start_that_cannot_be_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let dashboard = small(folder.path(), 2, 3);
    let (status, answer) = dashboard.post("/api/training/start", r#"{"num_rounds": 0}"#);
    assert_eq!((status, &answer["key"]), (422, &json!("federated.num_rounds")), "{answer}");
    assert_eq!(dashboard.post("/api/training/start", r#"{"rounds": 3}"#).0, 422);
    for body in ["{", "[3]", "7"] {
        assert_eq!(dashboard.post("/api/training/start", body).0, 400, "{body}");
        assert_eq!(dashboard.post("/api/training/reset", body).0, 400, "{body}");
    }
    // What only the run itself can see: its data are not there.
    let text = "data: {dataset: files, data_dir: nowhere.npz}\n";
    std::fs::write(folder.path().join("config.yaml"), text).unwrap();
    let (status, answer) = dashboard.post("/api/training/start", "");
    // A machine that is busy may need longer to say so than the answer waits.
    assert!(
        status == 200 || answer["message"].as_str().unwrap().contains("nowhere.npz"),
        "{status}: {answer}"
    );
    let failed = dashboard.wait(|state| state["status"] == "failed");
    assert_eq!((&failed["is_running"], &failed["resumable"]), (&json!(false), &json!(false)));
    assert!(failed["error"].as_str().unwrap().contains("nowhere.npz"), "{failed}");
    assert_eq!(dashboard.order("reset", "")["status"], json!("idle"));
}
