//! Federations of real processes on loopback: their model is a simulation's, also when they are killed.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "federation/processes.rs"]
mod processes;

use processes::{Federation, Outcome, medfed};
use std::time::Duration;

/// Points on both sides of durable writes at which a process is made to die. A run has fewer of them for a
/// site than for the coordinator; a point that is not reached is no fault.
const POINTS: [u32; 6] = [3, 8, 13, 20, 27, 38];

#[test]
fn the_demo_ends_like_a_simulation_of_the_same_seed() {
    let federation = Federation::new(&[]);
    let expected = federation.simulated();
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("demo");
    let output = medfed()
        .args(["federation-demo", "--json", "--seed", "7", "--out"])
        .arg(&out)
        .args(processes::settings(&[]))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(Outcome::parse(&output.stdout), expected);
    for folder in ["coordinator", "sites/hospital_1"] {
        let output = medfed()
            .args(["federation", "status", "--json", "--dir"])
            .arg(out.join(folder))
            .output()
            .unwrap();
        let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(status["status"], "completed", "{status}");
    }
    assert!(out.join("sites/hospital_2/best_model.safetensors").is_file());
    // Folders of keys are not written over.
    let again = medfed().args(["federation-demo", "--out"]).arg(&out).output().unwrap();
    assert_eq!(again.status.code(), Some(1));
}

#[test]
fn a_demo_that_keeps_nothing_names_no_file() {
    let output = medfed().arg("federation-demo").args(processes::settings(&[])).output().unwrap();
    let (said, told) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{told}");
    assert!(said.contains("Finished") && said.contains("Privacy"), "{said}");
    let temporary = std::env::temp_dir();
    for file in ["results.json", "medfed report", temporary.to_str().unwrap()] {
        assert!(!said.contains(file), "{file} is in: {said}");
    }
    assert!(told.contains("--out DIR"), "{told}");
}

#[test]
fn a_coordinator_that_dies_at_a_durable_write_goes_on_to_the_same_model() {
    let expected = Federation::new(&[]).simulated();
    let mut deaths = 0;
    for point in POINTS {
        let mut federation = Federation::new(&[]);
        federation.start_coordinator(Some(point));
        federation.start_sites(None);
        federation.restart_what_dies(Duration::from_mins(2));
        assert_eq!(federation.outcome(), expected, "killed at point {point}");
        deaths += federation.deaths();
    }
    assert!(deaths >= 5, "{deaths} points were reached");
}

#[test]
fn a_hospital_that_dies_at_a_durable_write_goes_on_to_the_same_model() {
    let expected = Federation::new(&[]).simulated();
    let mut deaths = 0;
    for point in POINTS {
        let mut federation = Federation::new(&[]);
        federation.start_coordinator(None);
        // All three at once.
        federation.start_sites(Some(point));
        federation.restart_what_dies(Duration::from_mins(2));
        assert_eq!(federation.outcome(), expected, "killed at point {point}");
        deaths += federation.deaths();
    }
    assert!(deaths >= 12, "{deaths} points were reached");
}

#[test]
fn killed_at_any_instant_a_run_goes_on_to_the_same_model() {
    let rounds = ["federated.num_rounds=4"];
    let mut federation = Federation::new(&rounds);
    let expected = federation.simulated();
    federation.start_coordinator(None);
    federation.start_sites(None);
    // Instants and victims follow from a fixed seed; what they hit depends on the machine.
    let mut state = 0x9e37_79b9_u32;
    for _ in 0..8 {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        if !federation.run_for(Duration::from_millis(u64::from(state >> 8) % 900 + 100)) {
            break;
        }
        federation.kill((state >> 28) as usize % 4);
    }
    federation.restart_what_dies(Duration::from_mins(2));
    assert_eq!(federation.outcome(), expected);
}

#[test]
fn what_is_wrong_is_said_before_anything_runs() {
    let mut federation = Federation::new(&[]);
    let refused = |mut command: std::process::Command, words: &[&str]| {
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        for word in words {
            assert!(said.contains(word), "{word} is not in: {said}");
        }
    };
    // A second process on one store.
    let store = medfed_store::Store::open(federation.site_folder(1).join("store")).unwrap();
    refused(federation.site_command(1), &["another medfed process"]);
    drop(store);
    let store = medfed_store::Store::open(federation.folder("coordinator/results")).unwrap();
    refused(federation.coordinator_command(), &["another medfed process"]);
    drop(store);
    // A policy with a mistake names its line.
    let policy = federation.site_folder(1).join("policy.yaml");
    let good = std::fs::read(&policy).unwrap();
    std::fs::write(&policy, "require_privacy: true\nmin_hopsitals: 3\n").unwrap();
    refused(federation.site_command(1), &["policy.yaml:2", "min_hopsitals", "hint:"]);
    std::fs::remove_file(&policy).unwrap();
    refused(federation.site_command(1), &["policy.yaml", "hint:"]);
    std::fs::write(&policy, good).unwrap();
    // What only a simulation can do.
    let mut attacked = federation.coordinator_command();
    attacked.args(["--set", "simulation.attack=sign_flip"]);
    refused(attacked, &["simulation.attack", "hint:"]);
    // What hospitals cannot sign over a network.
    let mut demo = medfed();
    demo.arg("federation-demo");
    for mut audited in [federation.coordinator_command(), demo] {
        audited.args(["--set", "secure_aggregation.audit_enabled=true"]);
        refused(audited, &["secure_aggregation.audit_enabled", "audit_enabled=false", "hint:"]);
    }
    // Somebody else's settings.
    let mut foreign = federation.site_command(1);
    foreign.args(["--set", "privacy.delta=0.1"]);
    refused(foreign, &["privacy.delta", "hint:"]);
    // Folders that are none.
    let mut nobody = medfed();
    nobody.args(["coordinator", "--dir"]).arg(federation.folder("nobody"));
    refused(nobody, &["pki", "hint:"]);
    let mut nothing = medfed();
    nothing.args(["federation", "status", "--dir"]).arg(federation.folder("nobody"));
    refused(nothing, &["no folder of a federation", "hint:"]);
    federation.stop();
}

#[test]
fn a_hospital_whose_policy_asks_for_more_is_left_out_by_name() {
    let mut federation = Federation::new(&["federated.num_clients=4"]);
    let policy = "min_hospitals: 2\nmax_epsilon_per_run: 0.01\n";
    std::fs::write(federation.site_folder(4).join("policy.yaml"), policy).unwrap();
    federation.start_coordinator(None);
    federation.start_sites(None);
    federation.restart_what_dies(Duration::from_mins(2));
    let results = federation.results();
    let hospitals = results["rounds"][0]["hospitals"].as_array().unwrap();
    assert_eq!(hospitals.len(), 3, "{hospitals:?}");
    let events = medfed()
        .args(["federation", "status", "--json", "--dir"])
        .arg(federation.folder("coordinator"))
        .output()
        .unwrap();
    let status: serde_json::Value = serde_json::from_slice(&events.stdout).unwrap();
    let declined = status["events"].as_array().unwrap().iter().find(|event| event["kind"] == "declined");
    assert_eq!(declined.unwrap()["detail"]["site"], "hospital_4", "{status}");
}
