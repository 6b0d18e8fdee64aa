//! The audit log over the API: paged, proven, verified, and found out when it was changed.

use crate::server::{Dashboard, configure, medfed};
use serde_json::{Value, json};
use std::fs;

#[test]
fn the_audit_log_is_read_proven_and_verified() {
    let folder = tempfile::tempdir().unwrap();
    configure(folder.path(), 2, 3);
    medfed(folder.path(), &["simulate", "--config", "config.yaml"]);
    let dashboard = Dashboard::start(folder.path(), &[]);
    dashboard.wait(|state| state["status"] == "completed");

    let log = dashboard.json("/api/audit");
    assert_eq!(
        (&log["sound"], &log["faults"], &log["summary"]["rounds"]),
        (&json!(true), &json!([]), &json!(2))
    );
    let (run, size) = (log["run"].as_str().unwrap(), log["tree_size"].as_u64().unwrap());
    let audit = folder.path().join("results/audit").join(run);
    assert_eq!(log["checkpoint"].as_str().unwrap(), fs::read_to_string(audit.join("checkpoint")).unwrap());
    assert_eq!(log["keys"].as_str().unwrap(), fs::read_to_string(audit.join("keys")).unwrap());

    // The page waits for the verdict only when it is asked to verify; without it, an event tells.
    let (page, verified) = ("/audit", format!("/audit?run={run}&verify=yes"));
    let ask = |path: &str| {
        let answer = dashboard.send("GET", path, &[], "");
        assert_eq!(answer.0, 200, "{path}");
        answer.2
    };
    assert!(ask(&verified).contains("Verified: the log is sound."));
    assert!(ask(page).contains("The audit log is sound and ends with the end of the run."));

    // Page by page it is what the command line shows.
    let shown: Value = serde_json::from_str(&medfed(folder.path(), &["audit", "show", "--json"])).unwrap();
    let mut entries = Vec::new();
    while (entries.len() as u64) < size {
        let page = dashboard.json(&format!("/api/audit/entries?run={run}&offset={}&limit=4", entries.len()));
        assert_eq!((&page["total"], &page["offset"]), (&json!(size), &json!(entries.len())));
        let page = page["entries"].as_array().unwrap();
        assert!(!page.is_empty() && page.len() <= 4);
        entries.extend(page.iter().cloned());
    }
    assert_eq!(json!(entries), shown["entries"]);
    assert_eq!(dashboard.json("/api/audit/entries?offset=9007199254740991")["entries"], json!([]));

    let checkpoints = dashboard.json("/api/audit/checkpoints");
    let all = checkpoints["checkpoints"].as_array().unwrap();
    assert_eq!(
        (checkpoints["total"].as_u64(), all.len()),
        (log["summary"]["checkpoints"].as_u64(), all.len())
    );
    assert_eq!(
        (&all[all.len() - 1]["text"], &all[all.len() - 1]["root"]),
        (&log["checkpoint"], &log["root"])
    );
    let second = dashboard.json("/api/audit/checkpoints?offset=1&limit=1");
    assert_eq!(second["checkpoints"], json!([all[1]]));

    // A proof is one that the program verifies without the log.
    let proven = dashboard.json("/api/audit/entry/5");
    assert_eq!((&proven["entry"], &proven["tree_size"]), (&entries[5], &json!(size)));
    fs::write(folder.path().join("proof"), proven["proof"].as_str().unwrap()).unwrap();
    fs::write(folder.path().join("keys"), log["keys"].as_str().unwrap()).unwrap();
    medfed(folder.path(), &["audit", "verify", "proof", "--key", "keys"]);
    assert_eq!(dashboard.get(&format!("/api/audit/entry/{size}"), &[]), 404);

    let verified = dashboard.json("/api/audit/verify");
    assert_eq!((&verified["sound"], &verified["faults"]), (&json!(true), &json!([])));

    // One byte of an entry changed: the fault is named, and nothing can be proven.
    let tile = audit.join("tile/entries");
    let mut files: Vec<_> = walk(&tile);
    files.sort();
    let path = files.last().unwrap();
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
    let verified = dashboard.json("/api/audit/verify");
    assert_eq!(verified["sound"], json!(false));
    let faults = verified["faults"].as_array().unwrap();
    assert!(
        faults.iter().all(|fault| fault["place"].is_string() && fault["problem"].is_string()),
        "{verified}"
    );
    assert!(!faults.is_empty());
    assert_eq!(dashboard.get("/api/audit/entry/5", &[]), 409);

    // The model that the run saved is another.
    fs::remove_dir_all(&audit).unwrap();
    let (status, _, body) = dashboard.send("GET", "/api/audit/entry/5", &[], "");
    assert_eq!(status, 404, "{body}");
    let verified = dashboard.json("/api/audit/verify");
    assert_eq!(verified["sound"], json!(false), "a log that was taken away is missed: {verified}");
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            found.extend(walk(&entry));
        } else {
            found.push(entry);
        }
    }
    found
}
