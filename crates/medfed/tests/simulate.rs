//! `medfed simulate` from start to end, as a user runs it: what it writes, how it stops and goes on.

#[path = "simulate/pictures.rs"]
mod pictures;

use medfed_nn::checkpoint::Checkpoint;
use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
const BINARY: &str = env!("CARGO_BIN_EXE_medfed");
/// Settings that make a run small.
const TINY: [&str; 10] = [
    "--set",
    "model.channels=[8,8]",
    "--set",
    "data.image_size=28",
    "--set",
    "data.samples_per_client=60",
    "--set",
    "federated.num_rounds=2",
    "--set",
    "training.local_steps=3",
];
/// Settings of a run that is long enough to be stopped after its first round.
const LONG: [&str; 4] = ["--set", "federated.num_rounds=8", "--set", "training.local_steps=30"];

/// What a finished process left.
struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Ran {
    /// The object on stdout of a run that went well.
    fn json(&self) -> Value {
        assert_eq!(self.code, Some(0), "{}", self.err);
        serde_json::from_str(&self.out).expect("stdout is one JSON object")
    }
}

fn command(directory: &Path, arguments: &[&[&str]]) -> Command {
    let mut command = Command::new(BINARY);
    command.current_dir(directory).env("NO_COLOR", "1").env_remove("MEDFED_LOG").args(arguments.concat());
    command
}

/// Runs `medfed` to its end.
fn medfed(directory: &Path, arguments: &[&[&str]]) -> Ran {
    let output = command(directory, arguments).output().expect("the binary starts");
    let text = |bytes| String::from_utf8(bytes).expect("output is UTF-8");
    Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// Runs `medfed`, which must refuse, and gives what it said.
fn refused(directory: &Path, arguments: &[&str]) -> String {
    let Ran { code, out, err } = medfed(directory, &[arguments]);
    assert_eq!((code, out.as_str()), (Some(1), ""), "{err}");
    assert!(err.lines().any(|line| line.starts_with("error: ")), "{err}");
    err
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The text of the only log under `out`.
fn log(out: &Path) -> String {
    let logs: Vec<_> = out.join("logs").read_dir().expect("there are logs").collect();
    assert_eq!(logs.len(), 1);
    let path = logs[0].as_ref().expect("it can be listed").path();
    let name = path.file_name().and_then(|name| name.to_str()).expect("it is UTF-8");
    let is_named = name.strip_prefix("simulation_").and_then(|name| name.strip_suffix(".log"));
    assert!(is_named.is_some_and(|id| !id.is_empty()), "{name}");
    read(&path)
}

/// Asserts that `value` has all these keys.
fn has(value: &Value, keys: &[&str]) {
    for key in keys {
        assert!(value.get(key).is_some(), "{key} is missing in {value:#}");
    }
}

#[test]
fn one_seed_gives_one_result_whatever_the_threads() {
    let dir = folder();
    let run = |out: &str, threads: &str| {
        let arguments = ["simulate", "--json", "--seed", "5", "--out", out, "--threads", threads];
        medfed(dir.path(), &[&arguments, &TINY])
    };
    let (one, two) = (run("one", "1"), run("two", "2"));
    assert_eq!(one.out, read(&dir.path().join("one/results.json")));
    assert!(one.err.contains("round 2/2") && !one.err.contains('\u{1b}'), "{}", one.err);
    let (first, second) = (one.json(), two.json());
    assert_eq!((&first["summary"], &first["rounds"]), (&second["summary"], &second["rounds"]));

    has(&first, &["run", "summary", "rounds", "timing", "config"]);
    has(
        &first["summary"],
        &[
            "total_rounds",
            "best_auc",
            "final_accuracy",
            "test_auc",
            "test_accuracy",
            "final_epsilon",
            "epsilon_budget",
            "delta",
            "accountant",
            "noise_multiplier",
            "status",
            "privacy_statement",
        ],
    );
    assert_eq!(first["rounds"].as_array().map(Vec::len), Some(2));
    for round in first["rounds"].as_array().into_iter().flatten() {
        has(
            round,
            &[
                "round_num",
                "epsilon_round",
                "epsilon_total",
                "noise_multiplier",
                "num_clients",
                "train_loss",
                "val_loss",
                "accuracy",
                "auc",
                "status",
            ],
        );
        assert_eq!((&round["status"], &round["num_clients"]), (&"completed".into(), &3.into()));
        for hospital in round["hospitals"].as_array().into_iter().flatten() {
            has(hospital, &["hospital", "status", "train_images", "val_loss", "accuracy", "auc", "privacy"]);
        }
        assert_eq!(round["hospitals"].as_array().map(Vec::len), Some(3));
    }
    let summary = &first["summary"];
    assert_eq!((&summary["total_rounds"], &summary["accountant"]), (&2.into(), &"pld".into()));
    let (spent, budget) = (summary["final_epsilon"].as_f64(), summary["epsilon_budget"].as_f64());
    assert!(spent > Some(0.0) && spent <= budget, "{spent:?} of {budget:?}");

    // The files differ in the name of the run alone, which is as long as any other.
    let model =
        |out: &str| std::fs::read(dir.path().join(out).join("best_model.safetensors")).expect("a model");
    let id = |results: &Value| results["run"]["id"].as_str().expect("a name").to_owned();
    let (a, b) = (model("one"), model("two"));
    assert_eq!(replaced(&a, &id(&first), &id(&second)), b);
    let metadata = Checkpoint::read(&a).expect("it is a model").metadata().clone();
    assert_eq!(metadata.run.expect("a run made it").as_str(), id(&first));
    let log = log(&dir.path().join("one"));
    assert!(log.contains("round finished round=2") && log.contains("run closed"), "{log}");

    let image = dir.path().join("chest.png");
    pictures::grey(28, 100).save(&image).expect("the folder is ours");
    let predicted =
        medfed(dir.path(), &[&["predict", "--json", "--model", "one/best_model.safetensors", "chest.png"]]);
    let predicted = predicted.json();
    assert_eq!(predicted["model"]["run_id"], first["run"]["id"]);
    assert_eq!(predicted["predictions"][0]["probabilities"].as_array().map(Vec::len), Some(2));
    let listed = medfed(dir.path(), &[&["runs", "--results", "one", "--json"]]).json();
    assert_eq!((&listed[0]["id"], &listed[0]["epsilon"]), (&first["run"]["id"], &summary["final_epsilon"]));
}

/// `bytes` with every `from` replaced by `to`, which is as long.
fn replaced(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    assert_eq!(from.len(), to.len());
    let starts: Vec<usize> = bytes
        .windows(from.len())
        .enumerate()
        .filter(|(_, w)| *w == from.as_bytes())
        .map(|(i, _)| i)
        .collect();
    assert!(!starts.is_empty());
    for start in starts {
        bytes[start..start + to.len()].copy_from_slice(to.as_bytes());
    }
    bytes
}

/// A process whose stderr is read as it comes.
struct Running {
    child: Child,
    err: BufReader<ChildStderr>,
    said: String,
}

impl Running {
    fn start(mut command: Command) -> Self {
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts");
        let err = BufReader::new(child.stderr.take().expect("it is piped"));
        Self { child, err, said: String::new() }
    }

    /// Waits for a line that starts with `text`.
    fn wait_for(&mut self, text: &str) {
        loop {
            let start = self.said.len();
            let read = self.err.read_line(&mut self.said).expect("stderr is UTF-8");
            assert!(read > 0, "it ended before {text:?}: {}", self.said);
            if self.said[start..].starts_with(text) {
                return;
            }
        }
    }

    /// Sends a signal and waits for the end.
    fn signal(mut self, signal: &str) -> Ran {
        let id = self.child.id().to_string();
        assert!(
            Command::new("kill").args([signal, &id]).status().expect("there is a kill command").success()
        );
        self.err.read_to_string(&mut self.said).expect("stderr is UTF-8");
        let mut out = String::new();
        self.child.stdout.take().expect("it is piped").read_to_string(&mut out).expect("stdout is UTF-8");
        Ran { code: self.child.wait().expect("it is our child").code(), out, err: self.said }
    }
}

#[cfg(unix)]
#[test]
fn a_stopped_run_goes_on_to_the_same_result() {
    let dir = folder();
    let whole =
        medfed(dir.path(), &[&["simulate", "--json", "--seed", "5", "--out", "whole"], &TINY, &LONG]).json();

    let start = |out| {
        let arguments: [&[&str]; 3] = [&["simulate", "--json", "--seed", "5", "--out", out], &TINY, &LONG];
        let mut running = Running::start(command(dir.path(), &arguments));
        running.wait_for("round 1/8");
        running
    };
    let resume = |out| medfed(dir.path(), &[&["simulate", "--resume", "--json", "--out", out]]);
    let same = |resumed: &Value| {
        assert_eq!((&resumed["summary"], &resumed["rounds"]), (&whole["summary"], &whole["rounds"]));
    };

    let running = start("my run");
    let second = refused(dir.path(), &[&["simulate", "--out", "my run"], &TINY[..]].concat());
    assert!(second.contains("another medfed process is using my run"), "{second}");
    let stopped = running.signal("-INT");
    assert_eq!(stopped.code, Some(130), "{}", stopped.err);
    assert!(
        stopped.err.contains("hint: continue with `medfed simulate --resume --out 'my run'`"),
        "{}",
        stopped.err
    );
    let partial: Value = serde_json::from_str(&stopped.out).expect("stdout is one JSON object");
    assert_eq!(
        (&partial["summary"]["status"], &partial["rounds"][0]),
        (&"interrupted".into(), &whole["rounds"][0])
    );
    let changed = ["simulate", "--resume", "--out", "my run", "--rounds", "9", "--set", "privacy.delta=1e-6"];
    let changed = refused(dir.path(), &changed);
    assert!(changed.contains("federated.num_rounds is 9 now and was 8"), "{changed}");
    assert!(changed.contains("privacy.delta is"), "{changed}");
    same(&resume("my run").json());
    let log = log(&dir.path().join("my run"));
    assert_eq!(log.matches("round finished round=1").count(), 1, "{log}");
    assert!(log.contains("continue with `medfed simulate --resume") && log.contains("run closed"), "{log}");

    let killed = start("killed").signal("-KILL");
    assert_eq!((killed.code, killed.out.as_str()), (None, ""));
    let listed = medfed(dir.path(), &[&["runs", "--results", "killed", "--json"]]).json();
    assert_eq!(listed[0]["status"], "interrupted");
    same(&resume("killed").json());
    let over = refused(dir.path(), &["simulate", "--resume", "--out", "killed"]);
    assert!(over.contains("killed holds no unfinished run"), "{over}");
}

#[test]
fn a_run_without_privacy_says_so_everywhere() {
    let dir = folder();
    let run = medfed(dir.path(), &[&["simulate", "--set", "privacy.enabled=false"], &TINY]);
    assert_eq!(run.code, Some(0), "{}", run.err);
    assert!(run.err.contains("warning: privacy is off"), "{}", run.err);
    assert!(run.out.contains("No privacy was applied"), "{}", run.out);
    let results: Value =
        serde_json::from_str(&read(&dir.path().join("results/results.json"))).expect("it is JSON");
    let summary = &results["summary"];
    for key in ["final_epsilon", "epsilon_budget", "delta", "accountant", "noise_multiplier", "privacy_unit"]
    {
        assert_eq!(summary.get(key), Some(&Value::Null), "{key}");
    }
    assert!(
        summary["privacy_statement"].as_str().is_some_and(|text| text.starts_with("No privacy was applied"))
    );
    assert!(results["rounds"][0]["epsilon_total"].is_null());
    assert!(log(dir.path()).contains("No privacy was applied"));
}

#[test]
fn folders_of_pictures_and_archives_are_trained_on() {
    let dir = folder();
    pictures::class_folders(&dir.path().join("classes"), 2, 30);
    let run = ["simulate", "--json", "--data", "classes", "--out", "a", "--set", "federated.num_clients=2"];
    let results = medfed(dir.path(), &[&run, &TINY]).json();
    assert_eq!(results["summary"]["test"]["per_class"].as_array().map(Vec::len), Some(2));
    assert_eq!(results["rounds"][1]["num_clients"], 2);

    pictures::archive(&dir.path().join("three.npz"), 3, 40);
    let run = ["simulate", "--json", "--data", "three.npz", "--out", "b", "--set", "federated.num_clients=2"];
    let results = medfed(dir.path(), &[&run, &TINY]).json();
    assert_eq!(results["summary"]["test"]["per_class"].as_array().map(Vec::len), Some(3));
    let model = std::fs::read(dir.path().join("b/best_model.safetensors")).expect("there is a model");
    let model = Checkpoint::read(&model).expect("it is a model").metadata().model.clone();
    assert_eq!((model.classes, model.input.channels), (3, 3));
}

#[test]
fn patients_are_units() {
    let dir = folder();
    pictures::manifest(&dir.path().join("patients"), 48, 2);
    let run = ["simulate", "--json", "--data", "patients", "--out", "a", "--set", "privacy.unit=patient"];
    let results = medfed(dir.path(), &[&run, &["--set", "federated.num_clients=2"], &TINY]).json();
    assert_eq!(results["summary"]["privacy_unit"], "patient");
    for hospital in results["rounds"][0]["hospitals"].as_array().into_iter().flatten() {
        let number = |key: &str| hospital[key].as_u64().expect("it is a number");
        assert_eq!(number("train_images"), 2 * number("train_units"), "{hospital:#}");
    }
    // The manifest's own hospitals, under the name that it gives the column.
    let columns = ["--set", "data.split_by_site=true", "--set", "data.columns.site=scanner"];
    let run = ["simulate", "--json", "--data", "patients/metadata.csv", "--out", "b"];
    let results = medfed(dir.path(), &[&run, &columns, &TINY]).json();
    let hospitals = results["rounds"][0]["hospitals"].as_array().expect("there are hospitals");
    assert_eq!(hospitals.iter().map(|h| &h["hospital"]).collect::<Vec<_>>(), ["east", "west"]);
}

#[test]
fn what_cannot_run_is_refused() {
    let dir = folder();
    let dir = dir.path();
    let unknown = refused(dir, &["simulate", "--set", "model.nam=resnet18"]);
    assert!(unknown.contains("the nearest known key is `model.name`"), "{unknown}");
    assert!(refused(dir, &["simulate", "--set", "model.name=vgg"]).contains("`densenet121`"));
    assert!(refused(dir, &["simulate", "--set", "model.name"]).contains("key.path=value"));
    assert!(refused(dir, &["simulate", "--rounds", "0"]).contains("federated.num_rounds"));
    let many = [
        "robust_aggregation={enabled: true, method: multi_krum, multi_krum_k: 9}",
        "federated.num_clients=4",
    ];
    let many = refused(dir, &["simulate", "--set", many[0], "--set", many[1]]);
    assert!(
        many.contains("needs 9 hospitals") && many.contains("lower robust_aggregation.multi_krum_k"),
        "{many}"
    );
    let missing = refused(dir, &["simulate", "--data", "nowhere.npz"]);
    assert!(missing.contains("nowhere.npz does not exist") && missing.contains("hint: "), "{missing}");
    let weights = refused(dir, &["simulate", "--set", "model.pretrained=weights.pth"]);
    assert!(weights.contains("weights.pth cannot be used"), "{weights}");
    let nothing = refused(dir, &["simulate", "--resume", "--out", "nothing"]);
    assert!(
        nothing.contains("nothing holds no unfinished run") && !dir.join("nothing").exists(),
        "{nothing}"
    );
    assert!(refused(dir, &["simulate", "--frobnicate"]).contains("--help"));
    let help = medfed(dir, &[&["simulate", "--help"]]);
    assert_eq!((help.code, help.err.as_str()), (Some(0), ""));
    assert!(help.out.contains("Examples:"), "{}", help.out);
    let script = medfed(dir, &[&["completions", "bash"]]);
    assert!(script.code == Some(0) && script.out.contains("simulate"));
}

#[test]
fn features_that_are_missing_are_refused() {
    let dir = folder();
    let seed = Path::new(ROOT).join("testdata/seed_config.yaml");
    let seed = seed.to_str().expect("it is UTF-8");
    assert_eq!(medfed(dir.path(), &[&["config", "check", seed]]).code, Some(0));
    let err = refused(dir.path(), &["simulate", "--config", seed, "--set", "model.pretrained=true"]);
    assert!(err.contains("hint: --set model.pretrained="), "{err}");
    assert!(!dir.path().join("results").exists(), "a refused run leaves nothing");
}

#[test]
fn what_cannot_be_written_is_named() {
    let dir = folder();
    let dir = dir.path();
    let run = |out: &str| refused(dir, &[&["simulate", "--out", out], &TINY[..]].concat());
    std::fs::write(dir.join("file"), "").expect("the folder is ours");
    assert!(run("file").contains("error: file cannot be used"));
    assert!(run("file/inside").contains("error: file/inside cannot be written"));
    std::fs::create_dir(dir.join("a")).expect("the folder is ours");
    std::fs::write(dir.join("a/logs"), "").expect("the folder is ours");
    assert!(run("a").contains("a/logs"));
    std::fs::create_dir_all(dir.join("b/results.json")).expect("the folder is ours");
    let last = medfed(dir, &[&["simulate", "--out", "b"], &TINY]);
    assert_eq!((last.code, last.out.as_str()), (Some(1), ""));
    assert!(last.err.contains("error: b/results.json cannot be written"), "{}", last.err);
    assert!(log(&dir.join("b")).contains("b/results.json cannot be written"));
}

/// A budget that five rounds would pass, so that the orchestrator has something to decide.
const TIGHT: [&str; 12] = [
    "--set",
    "federated.num_rounds=5",
    "--set",
    "privacy.epsilon_budget=4",
    "--set",
    "privacy.noise_multiplier=0.8",
    "--set",
    "orchestrator.enabled=true",
    "--set",
    "training.batch_size=16",
    "--set",
    "experiment.seed=3",
];

#[test]
fn the_orchestrator_says_what_it_decides() {
    let dir = folder();
    let run = |out: &str, more: &[&str]| {
        let ran = medfed(dir.path(), &[&["simulate", "--json", "--out", out], &TINY[..], &TIGHT[..], more]);
        let results = ran.json();
        let text = read(&dir.path().join(out).join("logs/orchestrator_logs.json"));
        (results, serde_json::from_str::<Value>(&text).expect("the log is JSON"), ran.err)
    };
    let (results, log, err) = run("fit", &[]);
    assert_eq!(results["summary"]["status"], "completed");
    let (summary, history) = (&log["summary"], log["round_history"].as_array().expect("rounds"));
    assert_eq!((&summary["strategy"], &summary["rounds_done"]), (&"fit".into(), &5.into()));
    assert_eq!((&summary["status"], &summary["budget_status"]), (&"completed".into(), &"critical".into()));
    assert_eq!(history.len(), 5);
    for (round, reported) in history.iter().zip(results["rounds"].as_array().expect("rounds")) {
        assert_eq!(round["decisions"], reported["orchestrator"]["decisions"]);
        for (made, hospital) in round["decisions"]
            .as_array()
            .expect("decisions")
            .iter()
            .zip(reported["hospitals"].as_array().expect("hospitals"))
        {
            let privacy = &hospital["privacy"];
            assert_eq!(made["noise_multiplier"], privacy["noise_multiplier"]);
            assert_eq!(made["epsilon_after_round"], privacy["epsilon_total"]);
            assert!(privacy["epsilon_total"].as_f64().expect("a number") <= 4.0);
        }
    }
    assert_eq!(history[0]["decisions"][0]["action"], "raise");
    assert_eq!(history[0]["decisions"][0]["reasons"][0]["reason"], "plan_passes_budget");
    assert!(err.contains("raised from 0.8000: the rounds that are left would lead to epsilon"), "{err}");

    let step = ["--set", "orchestrator.strategy=step", "--set", "orchestrator.noise_increase_limit=1.5"];
    let (results, log, err) = run("step", &step);
    assert_eq!(results["summary"]["status"], "budget_exhausted");
    assert!(results["summary"]["reason"].as_str().expect("a reason").contains("budget of 3 of 3 hospitals"));
    assert_eq!(log["summary"]["strategy"], "step");
    assert_eq!(log["summary"]["hospitals_left"].as_array().expect("hospitals").len(), 3);
    assert_eq!(log["last_decisions"][0]["action"], "leave");
    assert!(err.contains("leaves: epsilon"), "{err}");
    let calibrated = run("calibrated", &["--set", "orchestrator.strategy=calibrated"]).1;
    assert_eq!(calibrated["summary"]["noise_adjustments"], 0);
}

#[test]
fn a_budget_that_pays_for_no_round_is_a_failure() {
    let dir = folder();
    for orchestrator in ["orchestrator.enabled=true", "orchestrator.enabled=false"] {
        let little = ["--set", "privacy.epsilon_budget=0.001", "--set", orchestrator];
        let ran = medfed(dir.path(), &[&["simulate", "--out", "out"], &TINY[..], &TIGHT[..], &little]);
        assert_eq!(ran.code, Some(1), "{}", ran.err);
        assert!(ran.out.contains("Ended after 0 rounds"), "{}", ran.out);
        assert!(ran.err.contains("does not pay for one round") && ran.err.contains("hint: "), "{}", ran.err);
    }
}

#[test]
fn hospitals_are_shown_with_the_model_that_is_saved() {
    let dir = folder();
    // At this learning rate the first model is soon a worse one.
    let more = ["--set", "federated.num_rounds=6", "--set", "privacy.enabled=false", "--seed", "4"];
    let fast = ["--set", "training.learning_rate=0.3"];
    let ran = medfed(dir.path(), &[&["simulate", "--out", "out"], &TINY[..], &more, &fast]);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    let results: Value = serde_json::from_str(&read(&dir.path().join("out/results.json"))).expect("JSON");
    let best = results["summary"]["best_round"].as_u64().expect("a round") as usize;
    let shown = |round: usize| -> Vec<String> {
        let hospitals = results["rounds"][round - 1]["hospitals"].as_array().expect("hospitals");
        let number = |value: &Value| value.as_f64().map_or("n/a".to_owned(), |v| format!("{v:.3}"));
        hospitals
            .iter()
            .map(|h| format!("validation AUC {}, accuracy {}", number(&h["auc"]), number(&h["accuracy"])))
            .collect()
    };
    assert!(best < 6 && shown(best) != shown(6), "the test needs a model that gets worse: {best}");
    assert!(shown(best).iter().all(|text| ran.out.contains(text)), "{}", ran.out);
}

#[test]
fn a_resumed_run_writes_the_log_of_an_uninterrupted_one() {
    let dir = folder();
    let settings = [&TINY[..], &TIGHT[..], &["--set", "training.local_steps=20"]].concat();
    let log = |out: &str| {
        let text = read(&dir.path().join(out).join("logs/orchestrator_logs.json"));
        let mut log: Value = serde_json::from_str(&text).expect("the log is JSON");
        log["run"].take();
        log
    };
    assert_eq!(medfed(dir.path(), &[&["simulate", "--out", "whole"], &settings]).code, Some(0));
    let mut child = command(dir.path(), &[&["simulate", "--out", "killed"], &settings])
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("the binary starts");
    let mut lines = BufReader::new(child.stderr.take().expect("it is piped")).lines();
    assert!(lines.any(|line| line.expect("it is UTF-8").starts_with("round 2/5")));
    child.kill().expect("it can be killed");
    child.wait().expect("it ends");
    assert_eq!(log("killed")["summary"]["status"], Value::Null);
    assert_eq!(medfed(dir.path(), &[&["simulate", "--resume", "--out", "killed"]]).code, Some(0));
    assert_eq!(log("killed"), log("whole"));
}

#[test]
fn bad_updates_are_reported() {
    let dir = folder();
    let attacked = ["--attack", "nan", "--set", "federated.num_clients=4", "--set", "privacy.enabled=false"];
    let ran = medfed(dir.path(), &[&["simulate", "--out", "out"], &TINY[..], &attacked]);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert!(ran.err.contains("round 1: hospital_4 was left out: the update of hospital_4 is not finite"));
    assert!(ran.out.contains("left out           hospital_4 in 2 rounds"), "{}", ran.out);
    let results: Value = serde_json::from_str(&read(&dir.path().join("out/results.json"))).expect("JSON");
    let security = &results["rounds"][0]["security"];
    assert_eq!(security["byzantine_detected"], true);
    assert_eq!(security["excluded_clients"], serde_json::json!(["hospital_4"]));
    assert_eq!(security["anomalies"][0]["statistic"], "not_finite");
    assert_eq!(security["aggregation_method"], "fedavg");
    assert_eq!(results["summary"]["security"]["excluded_clients"]["hospital_4"], 2);

    let krum = ["--attack", "nan", "--set", "robust_aggregation={enabled: true, method: krum}"];
    let ran = medfed(dir.path(), &[&["simulate", "--out", "few"], &TINY[..], &krum]);
    assert_eq!(ran.code, Some(1));
    assert!(
        ran.err.contains("error: the run was aborted: round 1: krum (f = 0) needs 3 hospitals, there are 2")
    );
    let results: Value = serde_json::from_str(&read(&dir.path().join("few/results.json"))).expect("JSON");
    assert_eq!(results["summary"]["security"]["aborted_round"]["excluded_clients"][0], "hospital_3");
}
