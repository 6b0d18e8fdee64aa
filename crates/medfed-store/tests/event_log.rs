//! The log of events: what was acknowledged comes back in order, what is damaged is named.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use medfed_store::event_log::INLINE;
use medfed_store::{
    Commit, LoggedEvent, ProgressPart, RoundReports, RunRecord, RunStatus, Store, StoreError, Timestamp,
};
use medfed_types::{RoundId, RunId, Seed, SiteId};
use serde_json::json;
use std::path::Path;
use tempfile::TempDir;

fn run() -> RunId {
    RunId::try_from("run").unwrap()
}

fn store() -> (TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let (name, created, config) = (String::new(), Timestamp(0), json!({}));
    store.create_run(&RunRecord { id: run(), name, created, config, seed: Seed(1) }).unwrap();
    (dir, store)
}

fn events(store: &Store) -> Result<Vec<LoggedEvent>, StoreError> {
    let mut found = Vec::new();
    store.logged_events::<StoreError>(&run(), |event| {
        found.push(event);
        Ok(())
    })?;
    Ok(found)
}

fn log(store: &Store, bytes: &[u8]) -> u64 {
    store.log_event(&run(), Timestamp(bytes.len().try_into().unwrap()), bytes).unwrap()
}

fn blobs(dir: &Path) -> usize {
    std::fs::read_dir(dir.join("blobs")).map_or(0, Iterator::count)
}

fn commit(through: u64) -> Commit {
    let state = ProgressPart { owner: "coordinator".into(), meta: json!({}), bytes: b"state".to_vec() };
    Commit {
        round: Some(RoundReports {
            round: RoundId(1),
            report: json!({ "auc": 0.5 }),
            sites: vec![(SiteId::try_from("North").unwrap(), json!({ "steps": 3 }))],
        }),
        documents: vec![("timing".into(), "{}".into())],
        state: vec![state],
        through,
    }
}

#[test]
fn events_come_back_in_order_after_a_restart_and_a_commit_forgets_them() {
    let (dir, store) = store();
    assert_eq!(store.newest_event(&run()).unwrap(), 0);
    let large = vec![7; INLINE + 1];
    assert_eq!([log(&store, b"a"), log(&store, &large), log(&store, b"")], [1, 2, 3]);
    assert_eq!(blobs(dir.path()), 1);
    drop(store);
    let store = Store::open(dir.path()).unwrap();
    let found = events(&store).unwrap();
    assert_eq!(
        found.iter().map(|e| (e.number, e.time.0)).collect::<Vec<_>>(),
        [(1, 1), (2, i64::try_from(INLINE).unwrap() + 1), (3, 0)]
    );
    assert!(found[0].bytes == b"a" && found[1].bytes == large && found[2].bytes.is_empty());
    store.commit_logged(&run(), &commit(2)).unwrap();
    assert_eq!(events(&store).unwrap(), found[2..]);
    assert_eq!(blobs(dir.path()), 1, "the state's file alone is left");
    assert_eq!(store.rounds(&run()).unwrap().len(), 1);
    assert_eq!(store.document(&run(), "timing").unwrap().as_deref(), Some("{}"));
    assert_eq!(store.load_progress(&run()).unwrap()[0].bytes, b"state");
    store.commit_logged(&run(), &commit(3)).unwrap();
    assert!(events(&store).unwrap().is_empty());
    // Numbers go on; a commit twice changes nothing.
    store.commit_logged(&run(), &commit(3)).unwrap();
    assert_eq!(log(&store, b"b"), 4);
    assert_eq!(events(&store).unwrap()[0].number, 4);
}

#[test]
fn a_record_that_is_not_as_it_was_written_is_named() {
    let changes: [(&str, u64, &str); 7] = [
        ("UPDATE event_log SET event = x'62' WHERE number = 3", 3, "its checksum is wrong"),
        ("UPDATE event_log SET time = 9 WHERE number = 1", 1, "its checksum is wrong"),
        ("UPDATE event_log SET event = NULL WHERE number = 3", 3, "it has no content"),
        ("DELETE FROM event_log WHERE number = 4", 1, ""),
        ("DELETE FROM event_log WHERE number = 2", 1, ""),
        ("DELETE FROM event_log", 4, "it is missing"),
        ("UPDATE event_log SET file = 'ab' WHERE number = 2", 2, "its file has no name"),
    ];
    for (sql, expected, problem) in changes {
        let (dir, store) = store();
        log(&store, b"a");
        log(&store, &vec![1; INLINE + 1]);
        log(&store, b"c");
        log(&store, b"d");
        drop(store);
        let path = dir.path().join("medfed.sqlite");
        assert!(rusqlite::Connection::open(path).unwrap().execute(sql, ()).unwrap() > 0);
        let store = Store::open(dir.path()).unwrap();
        match events(&store) {
            Err(StoreError::EventLog { number, problem: found, .. }) if problem.is_empty() => {
                assert!(number <= 4, "{sql}: {found}");
            }
            Err(StoreError::EventLog { number, problem: found, .. }) => {
                assert_eq!((number, found), (expected, problem), "{sql}");
            }
            other => panic!("{sql}: {other:?}"),
        }
    }
}

#[test]
fn a_lost_or_changed_file_is_named() {
    for (change, missing) in [(None, true), (Some(b"other".as_slice()), false)] {
        let (dir, store) = store();
        log(&store, &vec![1; INLINE + 1]);
        let file = std::fs::read_dir(dir.path().join("blobs")).unwrap().next().unwrap().unwrap().path();
        match change {
            Some(bytes) => std::fs::write(&file, bytes).unwrap(),
            None => std::fs::remove_file(&file).unwrap(),
        }
        match events(&store) {
            Err(StoreError::EventLog { number: 1, problem: "its file is missing", .. }) => assert!(missing),
            Err(StoreError::Damaged { path, .. }) => assert!(!missing && path == file),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn the_secrets_and_events_of_a_run_end_with_it() {
    let (dir, store) = store();
    let secret = store.run_secret(&run(), "session").unwrap();
    assert_eq!(store.run_secret(&run(), "session").unwrap().expose(), secret.expose());
    assert_ne!(store.run_secret(&run(), "other").unwrap().expose(), secret.expose());
    log(&store, b"an event of this run");
    store.finish_run(&run(), RunStatus::Completed, Timestamp(1), &json!({})).unwrap();
    assert!(events(&store).unwrap().is_empty());
    drop(store);
    let bytes = std::fs::read(dir.path().join("medfed.sqlite")).unwrap();
    for gone in [secret.expose().as_slice(), b"an event of this run"] {
        assert!(!bytes.windows(gone.len()).any(|window| window == gone));
    }
}
