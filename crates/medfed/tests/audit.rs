//! The audit log of a run as a user meets it: written, verified, tampered with, handed on, interrupted.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Settings that make a run small, with hospitals that pay for different rates.
const TINY: [&str; 12] = [
    "--set",
    "model.channels=[8,8]",
    "--set",
    "data.image_size=28",
    "--set",
    "data.samples_per_client=61",
    "--set",
    "training.batch_size=16",
    "--set",
    "training.local_steps=3",
    "--set",
    "privacy.noise_multiplier=2",
];

fn command(directory: &Path, arguments: &[&[&str]]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_medfed"));
    command.current_dir(directory).env("NO_COLOR", "1").env_remove("MEDFED_LOG").args(arguments.concat());
    command
}

/// Runs `medfed` to its end: code, stdout, stderr.
fn medfed(directory: &Path, arguments: &[&[&str]]) -> (Option<i32>, String, String) {
    let output = command(directory, arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn audit(directory: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    medfed(directory, &[&["audit"], arguments])
}

/// A run of two rounds in the folder `results`; the folder of its log.
fn run(directory: &Path) -> PathBuf {
    let (code, _, err) = medfed(directory, &[&["simulate", "--rounds", "2"], &TINY]);
    assert_eq!(code, Some(0), "{err}");
    log_of(&directory.join("results"))
}

fn log_of(results: &Path) -> PathBuf {
    let logs: Vec<_> =
        fs::read_dir(results.join("audit")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(logs.len(), 1);
    logs.into_iter().next().unwrap()
}

fn entries(directory: &Path, log: &Path) -> Vec<Value> {
    let (code, out, err) = audit(directory, &["show", log.to_str().unwrap(), "--json"]);
    assert_eq!(code, Some(0), "{err}");
    let shown: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(shown["faults"], Value::Array(vec![]));
    shown["entries"].as_array().unwrap().clone()
}

/// The first line of the list of faults that has all these words.
#[track_caller]
fn finds(directory: &Path, arguments: &[&str], faults: &[&str]) {
    let (code, out, err) = audit(directory, arguments);
    assert_eq!(code, Some(1), "{out}");
    assert!(err.contains("error: the audit log is not sound") && err.contains("hint: "), "{err}");
    for fault in faults {
        let named = out.lines().any(|line| line.starts_with("  fault: ") && line.contains(fault));
        assert!(named, "{fault:?} is not in {out}");
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn file_in(folder: &Path) -> PathBuf {
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.pop().unwrap()
}

fn edit(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_run_is_written_down_and_verified() {
    let dir = tempfile::tempdir().unwrap();
    let log = run(dir.path());
    let (code, out, err) = audit(dir.path(), &["verify"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    for line in [
        ": the audit log is sound",
        "15 entries, 4 checkpoints, 12 signatures by 3 hospitals",
        "2 rounds, completed",
        "promise: epsilon at most 8 with delta 1e-5 for each image, by the pld accountant",
        "shown to the coordinator: each hospital's noised update",
        "given up: simulation",
        "note: the keys were taken from the log itself",
    ] {
        assert!(out.contains(line), "{line:?} is not in {out}");
    }
    let entries = entries(dir.path(), &log);
    let kinds: Vec<&str> = entries.iter().map(|entry| entry["kind"].as_str().unwrap()).collect();
    let round = ["payment", "payment", "payment", "round"];
    let opening = ["started", "configuration", "hospital", "hospital", "hospital", "rules"];
    assert_eq!(kinds, [&opening[..], &round, &round, &["finished"]].concat());

    // What the log says is what the run's results say.
    let results: Value =
        serde_json::from_str(&fs::read_to_string(dir.path().join("results/results.json")).unwrap()).unwrap();
    for (number, entry) in [(0, &entries[9]), (1, &entries[13])] {
        assert_eq!(entry["after"], results["rounds"][number]["model_hash"]);
    }
    let hospital = &results["rounds"][1]["hospitals"][0];
    assert_eq!(entries[10]["spent"]["pld"], hospital["privacy"]["epsilon_pld"]);
    assert_eq!(entries[10]["rate"], hospital["privacy"]["sampling_rate"]);
    let finished = &entries[14];
    assert_eq!(finished["best_round"], results["summary"]["best_round"]);
    let (code, _, err) = audit(dir.path(), &["verify", "--model", "results/best_model.safetensors"]);
    assert_eq!(code, Some(0), "{err}");

    // No numbers of images, no paths, no seed, no metrics.
    let public = &entries[1]["json"];
    for section in ["data", "experiment", "output"] {
        assert_eq!(public[section], Value::Null);
    }
    let mut raw = Vec::new();
    for file in [file_in(&log.join("tile/entries/000.p")), log.join("checkpoint")] {
        raw.extend(fs::read(file).unwrap());
    }
    let raw = String::from_utf8_lossy(&raw).into_owned();
    for private in ["samples", "train_loss", "accuracy\":", "\"seed\"", "results_dir", "images\":"] {
        assert!(!raw.contains(private), "{private}");
    }
}

#[test]
fn a_run_without_privacy_and_one_from_a_seed_say_so() {
    let dir = tempfile::tempdir().unwrap();
    let settings = ["simulate", "--rounds", "1", "--set", "privacy.enabled=false", "--out", "a"];
    assert_eq!(medfed(dir.path(), &[&settings, &TINY]).0, Some(0));
    let (code, out, _) = audit(dir.path(), &["verify", "a"]);
    assert_eq!(code, Some(0));
    assert!(out.contains("promise: none") && out.contains("given up: no differential privacy"), "{out}");
    assert!(out.contains("each hospital's update, without noise"), "{out}");
    let settings = ["simulate", "--rounds", "1", "--seed", "3", "--attack", "sign_flip", "--out", "b"];
    assert_eq!(medfed(dir.path(), &[&settings, &TINY]).0, Some(0));
    let (code, out, _) = audit(dir.path(), &["verify", "b"]);
    assert_eq!(code, Some(0));
    assert!(
        out.contains("given up: noise follows from the seed") && out.contains("attack on purpose"),
        "{out}"
    );
    let settings =
        ["simulate", "--rounds", "1", "--set", "secure_aggregation.audit_enabled=false", "--out", "c"];
    assert_eq!(medfed(dir.path(), &[&settings, &TINY]).0, Some(0));
    assert!(!dir.path().join("c/audit").exists());
    let (code, out, err) = audit(dir.path(), &["verify", "c"]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(err.contains("error: c holds no audit log") && err.contains("hint: "), "{err}");
}

#[test]
fn tampering_is_found_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let original = run(dir.path());
    let name = original.file_name().unwrap().to_owned();
    let results = dir.path().join("results");
    let tampered = |number: u32, change: &dyn Fn(&Path, &Path)| {
        let copied = dir.path().join(format!("copy{number}"));
        copy(&results, &copied);
        change(&copied, &copied.join("audit").join(&name));
        format!("copy{number}")
    };
    let in_entries = |log: &Path, change: &dyn Fn(&mut Vec<u8>)| {
        edit(&file_in(&log.join("tile/entries/000.p")), change);
    };
    let position = |bytes: &[u8], text: &[u8]| bytes.windows(text.len()).position(|it| it == text).unwrap();

    let path = tampered(1, &|_, log| {
        in_entries(log, &|bytes| {
            let at = position(bytes, b"hospital_2");
            bytes[at] = b'H';
        });
    });
    finds(dir.path(), &["verify", &path], &["entry 3: not what was logged", "checkpoint of 6 entries"]);
    let path = tampered(2, &|_, log| in_entries(log, &|bytes| bytes.truncate(bytes.len() - 60)));
    finds(
        dir.path(),
        &["verify", &path],
        &["number of entries", "checkpoint of 15 entries: entries are missing"],
    );
    let path = tampered(3, &|_, log| edit(&log.join("tile/0/000.p/15"), |bytes| bytes[3 * 32] ^= 1));
    finds(dir.path(), &["verify", &path], &["tile/0/000.p/15: hash 3 is not that of the entries"]);
    let path = tampered(4, &|_, log| {
        for file in ["checkpoint", "checkpoints/000000000015"] {
            edit(&log.join(file), |bytes| {
                // The last character before the padding of the last signature.
                let at = bytes.len() - 9;
                bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            });
        }
    });
    finds(dir.path(), &["verify", &path], &["checkpoint of 15 entries: the signature of", "is forged"]);
    let path = tampered(5, &|_, log| {
        let (one, two) = (log.join("checkpoints/000000000006"), log.join("checkpoints/000000000010"));
        let (first, second) = (fs::read(&one).unwrap(), fs::read(&two).unwrap());
        fs::write(one, second).unwrap();
        fs::write(two, first).unwrap();
    });
    finds(
        dir.path(),
        &["verify", &path],
        &["000000000006: it holds the checkpoint of 10 entries: checkpoints were swapped"],
    );
    let path = tampered(6, &|_, log| fs::remove_dir_all(log).unwrap());
    finds(dir.path(), &["verify", &path], &["the log is missing"]);
    let path = tampered(7, &|results, _| edit(&file_in(&results.join("models")), |bytes| bytes.push(0)));
    finds(dir.path(), &["verify", &path], &["the saved model"]);
    let model = dir.path().join("other.safetensors");
    fs::write(&model, b"another model").unwrap();
    finds(dir.path(), &["verify", "--model", "other.safetensors"], &["other.safetensors: its SHA-256 is"]);

    // The whole log exchanged for a sound one of another run.
    let other = dir.path().join("other");
    fs::create_dir(&other).unwrap();
    let foreign = run(&other);
    let path = tampered(8, &|_, log| {
        fs::remove_dir_all(log).unwrap();
        copy(&foreign, log);
    });
    finds(dir.path(), &["verify", &path], &["kept checkpoint of 15 entries: the log does not continue it"]);
}

/// Cuts a log off at a checkpoint, as the keeper of all its files could.
fn cut_off(log: &Path, size: usize) {
    let newest = log.join(format!("checkpoints/{size:012}"));
    fs::copy(&newest, log.join("checkpoint")).unwrap();
    for entry in fs::read_dir(log.join("checkpoints")).unwrap().map(|entry| entry.unwrap().path()) {
        if entry > newest {
            fs::remove_file(entry).unwrap();
        }
    }
    let (entries, hashes) = (file_in(&log.join("tile/entries/000.p")), file_in(&log.join("tile/0/000.p")));
    let (bytes, tile) = (fs::read(&entries).unwrap(), fs::read(&hashes).unwrap());
    let mut end = 0;
    for _ in 0..size {
        end += 2 + usize::from(u16::from_be_bytes([bytes[end], bytes[end + 1]]));
    }
    fs::write(entries.with_file_name(size.to_string()), &bytes[..end]).unwrap();
    fs::write(hashes.with_file_name(size.to_string()), &tile[..32 * size]).unwrap();
}

#[test]
fn a_rollback_shows_to_whoever_kept_a_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let log = run(dir.path());
    fs::copy(log.join("checkpoint"), dir.path().join("kept")).unwrap();
    fs::copy(log.join("keys"), dir.path().join("keys")).unwrap();
    assert_eq!(audit(dir.path(), &["verify", "--since", "kept", "--key", "keys"]).0, Some(0));
    cut_off(&log, 10);
    // The hospitals of the simulation remember.
    finds(dir.path(), &["verify"], &["kept checkpoint of 15 entries: the log has only 10 entries"]);
    copy(&log, &dir.path().join("alone"));
    let (code, out, _) = audit(dir.path(), &["verify", "alone"]);
    assert_eq!(code, Some(0));
    assert!(out.contains("note: the log does not end with the end of its run"), "{out}");
    finds(dir.path(), &["verify", "alone", "--since", "kept"], &["it was rolled back or cut off"]);
}

#[test]
fn a_log_and_a_proof_are_handed_on() {
    let dir = tempfile::tempdir().unwrap();
    let log = run(dir.path());
    fs::copy(log.join("keys"), dir.path().join("keys")).unwrap();
    assert_eq!(audit(dir.path(), &["export", "--out", "run.audit"]).0, Some(0));
    assert_eq!(audit(dir.path(), &["prove", "10", "--out", "entry.proof"]).0, Some(0));
    fs::remove_dir_all(dir.path().join("results")).unwrap();

    let (code, out, err) = audit(dir.path(), &["verify", "run.audit", "--key", "keys", "--json"]);
    let verdict: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert_eq!(
        (&verdict["logs"][0]["sound"], &verdict["logs"][0]["notes"]),
        (&Value::Bool(true), &Value::Array(vec![]))
    );
    assert_eq!(verdict["logs"][0]["summary"]["rounds"], 2);
    let (code, out, err) = audit(dir.path(), &["verify", "entry.proof", "--key", "keys"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.starts_with("entry.proof: entry 10 is in the log of 15 entries\nsigned by medfed/"), "{out}");
    let (code, _, err) = audit(dir.path(), &["verify", "entry.proof"]);
    assert!(code == Some(1) && err.contains("hint: give the log's public key with --key FILE"), "{err}");

    // Someone else's keys.
    let other = dir.path().join("other");
    fs::create_dir(&other).unwrap();
    let foreign = run(&other).join("keys");
    let foreign = foreign.to_str().unwrap();
    finds(dir.path(), &["verify", "run.audit", "--key", foreign], &["that was given is not in it"]);
    assert_eq!(audit(dir.path(), &["verify", "entry.proof", "--key", foreign]).0, Some(1));

    edit(&dir.path().join("run.audit"), |bytes| {
        let at = bytes.len() - 1;
        bytes[at] ^= 1;
    });
    finds(dir.path(), &["verify", "run.audit"], &["not what was logged"]);
    edit(&dir.path().join("entry.proof"), |bytes| {
        let text = String::from_utf8(bytes.clone()).unwrap().replace("index 10", "index 11");
        *bytes = text.into_bytes();
    });
    let (code, _, err) = audit(dir.path(), &["verify", "entry.proof", "--key", "keys"]);
    assert!(code == Some(1) && err.contains("entry 11 is not in the checkpoint of 15 entries"), "{err}");
    for (arguments, expected) in [
        (vec!["verify", "keys"], "keys is neither an exported audit log nor a proof"),
        (vec!["verify", "nothing"], "nothing cannot be read"),
        (vec!["show", "entry.proof"], "is a proof of one entry, not a log"),
        (vec!["prove", "99", "run.audit"], "there is no entry 99"),
        (vec!["verify", "run.audit", "--since", "keys"], "keys is not a signed checkpoint"),
        (vec!["verify", "run.audit", "--key", "entry.proof"], "entry.proof:1: not a public key"),
    ] {
        let (code, out, err) = audit(dir.path(), &arguments);
        assert_eq!((code, out.as_str()), (Some(1), ""), "{err}");
        assert!(err.contains(expected) && (err.contains("hint: ") || arguments[1] == "nothing"), "{err}");
    }
}

/// Killed again and again at any moment, the log verifies each time and in the end has every round once.
#[cfg(unix)]
#[test]
fn a_killed_run_leaves_a_log_that_holds_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let results = dir.path().join("results");
    let mut start: Vec<&str> = [&["simulate", "--rounds", "6", "--seed", "5"][..], &TINY].concat();
    for pause in [1, 2, 1, 2] {
        let mut child =
            command(dir.path(), &[&start]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let rounds = lines.filter(|line| line.contains("round ") && line.contains("/6")).take(pause);
        assert!(rounds.count() > 0, "it ended before it could be killed");
        child.kill().unwrap();
        child.wait().unwrap();
        let (code, out, err) = audit(dir.path(), &["verify"]);
        assert_eq!(code, Some(0), "{out}{err}");
        assert!(out.contains("not ended"), "{out}");
        start = vec!["simulate", "--resume"];
        if out.contains("6 rounds") {
            break;
        }
    }
    let (code, _, err) = medfed(dir.path(), &[&["simulate", "--resume"]]);
    assert_eq!(code, Some(0), "{err}");
    let (code, out, _) = audit(dir.path(), &["verify"]);
    assert_eq!(code, Some(0), "{out}");
    assert!(out.contains("6 rounds, completed"), "{out}");
    let entries = entries(dir.path(), &log_of(&results));
    let of_kind = |kind: &str| entries.iter().filter(|entry| entry["kind"] == kind).count();
    assert_eq!(
        (of_kind("round"), of_kind("payment"), of_kind("started"), of_kind("finished")),
        (6, 18, 1, 1)
    );
    assert!(of_kind("operator") >= 1);
}

#[cfg(unix)]
#[test]
fn a_stopped_run_says_when_and_goes_on_with_its_own_log_only() {
    let dir = tempfile::tempdir().unwrap();
    let start = [&["simulate", "--rounds", "6", "--set", "training.local_steps=40"][..], &TINY].concat();
    let mut child =
        command(dir.path(), &[&start]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("round 1/6")));
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    lines.for_each(drop);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let log = log_of(&dir.path().join("results"));
    let last = entries(dir.path(), &log).pop().unwrap();
    assert_eq!((&last["kind"], &last["action"]), (&"operator".into(), &"stopped".into()));
    assert_eq!(audit(dir.path(), &["verify"]).0, Some(0));

    // Rolled back while the run was stopped: it does not go on.
    let whole = dir.path().join("whole");
    copy(&log, &whole);
    cut_off(&log, 6);
    let (code, _, err) = medfed(dir.path(), &[&["simulate", "--resume"]]);
    assert_eq!(code, Some(1), "{err}");
    assert!(
        err.contains("error: the log ends with round 0") && err.contains("hint: the log was changed"),
        "{err}"
    );
    fs::remove_dir_all(&log).unwrap();
    let (code, _, err) = medfed(dir.path(), &[&["simulate", "--resume"]]);
    assert!(code == Some(1) && err.contains("checkpoint is missing"), "{err}");
    copy(&whole, &log);
    assert_eq!(medfed(dir.path(), &[&["simulate", "--resume"]]).0, Some(0));
    let (code, out, _) = audit(dir.path(), &["verify"]);
    assert_eq!(code, Some(0), "{out}");
    let actions: Vec<Value> = entries(dir.path(), &log)
        .into_iter()
        .filter(|it| it["kind"] == "operator")
        .map(|it| it["action"].clone())
        .collect();
    assert_eq!(actions, ["stopped", "resumed"]);
}
