//! A results directory over its life: what was stored comes back, what is damaged is named.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use medfed_dp::LedgerStorage;
use medfed_store::{ModelHash, ProgressPart, RunRecord, RunStatus, Store, StoreError, Timestamp};
use medfed_types::{RoundId, RunId, SecretKey, Seed, SiteId};
use serde_json::json;
use std::fs;
use std::path::Path;
use tempfile::TempDir;

fn id(text: &str) -> RunId {
    RunId::try_from(text).unwrap()
}

fn site(text: &str) -> SiteId {
    SiteId::try_from(text).unwrap()
}

fn record(run: &str, created: i64) -> RunRecord {
    RunRecord {
        id: id(run),
        name: "pneumonia".to_owned(),
        created: Timestamp(created),
        config: json!({ "model": { "name": "simple_cnn" } }),
        seed: Seed(u64::MAX),
    }
}

/// A store with the running run "one".
fn store() -> (TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    store.create_run(&record("one", 1)).unwrap();
    (dir, store)
}

fn part(owner: &str, bytes: &[u8]) -> ProgressPart {
    ProgressPart { owner: owner.to_owned(), meta: json!({ "round": 2, "step": 7 }), bytes: bytes.to_vec() }
}

fn files(dir: &Path) -> usize {
    fs::read_dir(dir).map_or(0, Iterator::count)
}

#[test]
fn a_run_comes_back_as_it_was_stored() {
    let (dir, store) = store();
    let run = id("one");
    store.append_round(&run, RoundId(2), &json!({ "auc": 0.75 })).unwrap();
    store.append_round(&run, RoundId(1), &json!({ "auc": 0.5, "status": "ok" })).unwrap();
    store.append_round(&run, RoundId(2), &json!({ "auc": 0.8 })).unwrap();
    store.append_site_round(&run, RoundId(1), &site("North"), &json!({ "loss": 0.7 })).unwrap();
    store.event(&run, None, Timestamp(5), "started", &json!({})).unwrap();
    store.event(&run, Some(RoundId(1)), Timestamp(6), "budget_warning", &json!({ "spent": 2.1 })).unwrap();
    store.finish_run(&run, RunStatus::Completed, Timestamp(9), &json!({ "test_auc": 0.9 })).unwrap();
    drop(store);
    let reader = Store::read_only(dir.path()).unwrap();
    let found = reader.run(&run).unwrap();
    assert_eq!((found.status, found.rounds, found.finished), (RunStatus::Completed, 2, Some(Timestamp(9))));
    assert_eq!((found.config, found.seed), (record("one", 1).config, Seed(u64::MAX)));
    assert_eq!(found.summary, Some(json!({ "test_auc": 0.9 })));
    let rounds = reader.rounds(&run).unwrap();
    assert_eq!(rounds.iter().map(|round| round.round.0).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(rounds[1].report, json!({ "auc": 0.8 }));
    assert_eq!(reader.site_rounds(&run).unwrap()[0].site, site("North"));
    let events = reader.events(&run).unwrap();
    assert_eq!((events[1].kind.as_str(), events[1].round), ("budget_warning", Some(RoundId(1))));
}

#[test]
fn main_numbers_are_columns() {
    let (dir, store) = store();
    let report = json!({ "auc": 0.5, "epsilon_total": 1.5, "status": "ok", "train_loss": null });
    store.append_round(&id("one"), RoundId(1), &report).unwrap();
    let connection = rusqlite::Connection::open(dir.path().join("medfed.sqlite")).unwrap();
    let row: (f64, f64, String, Option<f64>) = connection
        .query_row("SELECT auc, epsilon, status, train_loss FROM rounds", (), |row| row.try_into())
        .unwrap();
    assert_eq!(row, (0.5, 1.5, "ok".to_owned(), None));
}

#[test]
fn one_process_writes_and_others_read() {
    let (dir, store) = store();
    assert!(matches!(Store::open(dir.path()), Err(StoreError::InUse { .. })));
    let reader = Store::read_only(dir.path()).unwrap();
    assert_eq!(reader.runs().unwrap()[0].status, RunStatus::Running);
    store.append_round(&id("one"), RoundId(1), &json!({})).unwrap();
    assert_eq!(reader.rounds(&id("one")).unwrap().len(), 1);
    drop(store);
    // The writer is gone without a word.
    assert_eq!(reader.runs().unwrap()[0].status, RunStatus::Interrupted);
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.runs().unwrap()[0].status, RunStatus::Interrupted);
}

#[test]
fn an_unknown_run_is_answered_with_the_nearest() {
    let (_dir, store) = store();
    store.create_run(&record("twenty", 2)).unwrap();
    match store.run(&id("onee")) {
        Err(StoreError::UnknownRun { nearest, .. }) => assert_eq!(nearest, Some(id("one"))),
        other => panic!("{other:?}"),
    }
    let error = store.append_round(&id("zzz"), RoundId(1), &json!({})).unwrap_err();
    assert!(matches!(error, StoreError::UnknownRun { nearest: None, .. }));
    assert!(matches!(store.create_run(&record("one", 3)), Err(StoreError::DuplicateRun { .. })));
    assert!(matches!(store.ledger_storage(&id("x"), &site("North")), Err(StoreError::UnknownRun { .. })));
}

#[test]
fn one_field_of_progress_is_amended_and_the_rest_stays() {
    let (_dir, store) = store();
    let run = id("one");
    let parts = [part("North", b"n1"), part("South's", b"s1")];
    store.save_progress(&run, &parts).unwrap();
    let answers = json!({ "calls": [[1, "a'b"], null] });
    store.amend_progress(&run, "masked", &[("South's".to_owned(), answers.clone())]).unwrap();
    let mut expected = parts.to_vec();
    expected[1].meta["masked"] = answers;
    assert_eq!(store.load_progress(&run).unwrap(), expected);
    // All or none.
    let some = ["North", "West"].map(|owner| (owner.to_owned(), json!(7)));
    assert!(store.amend_progress(&run, "masked", &some).is_err());
    assert_eq!(store.load_progress(&run).unwrap(), expected);
}

#[test]
fn progress_is_replaced_as_a_whole_and_its_files_follow() {
    let (dir, store) = store();
    let (run, blobs) = (id("one"), dir.path().join("blobs"));
    assert!(store.load_progress(&run).unwrap().is_empty());
    assert!(store.latest_resumable().unwrap().is_none());
    let first = [part("North", b"n1"), part("coordinator", b"c1")];
    store.save_progress(&run, &first).unwrap();
    assert_eq!(store.load_progress(&run).unwrap(), first);
    // A part that cannot be stored leaves the old state.
    let twice = [part("North", b"n2"), part("North", b"n3")];
    assert!(store.save_progress(&run, &twice).is_err());
    assert_eq!(store.load_progress(&run).unwrap(), first);
    let second = [part("South", b"s2"), part("coordinator", b"c1")];
    store.save_progress(&run, &second).unwrap();
    assert_eq!(store.load_progress(&run).unwrap(), second);
    assert_eq!(files(&blobs), 2);
    store.create_run(&record("two", 2)).unwrap();
    assert_eq!(store.latest_resumable().unwrap().unwrap().id, run);
    fs::write(blobs.join(ModelHash::of(b"lost").to_string()), b"lost").unwrap();
    fs::write(blobs.join(format!("{}.partial", ModelHash::of(b"c1"))), b"c").unwrap();
    drop(store);
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(files(&blobs), 2);
    assert_eq!(store.load_progress(&run).unwrap(), second);
    let summary = json!({ "test_auc": 0.7 });
    store.finish_run(&run, RunStatus::Interrupted, Timestamp(3), &summary).unwrap();
    assert_eq!(store.latest_resumable().unwrap().unwrap().id, run);
    store.resume_run(&run).unwrap();
    let resumed = store.run(&run).unwrap();
    assert_eq!((resumed.status, resumed.finished, resumed.summary), (RunStatus::Running, None, None));
    store.finish_run(&run, RunStatus::Completed, Timestamp(4), &summary).unwrap();
    assert_eq!(files(&blobs), 0);
    assert!(store.latest_resumable().unwrap().is_none());
    assert!(matches!(store.resume_run(&run), Err(StoreError::Ended { status: RunStatus::Completed, .. })));
}

#[test]
fn models_are_checked_and_replaced_by_label() {
    let (dir, store) = store();
    let run = id("one");
    let best = store.put_model(&run, "best", b"weights").unwrap();
    let last = store.put_model(&run, "last", b"weights").unwrap();
    assert_eq!(best, last);
    let better = store.put_model(&run, "best", b"better").unwrap();
    assert_eq!(store.models(&run).unwrap(), [("best".to_owned(), better), ("last".to_owned(), last)]);
    assert_eq!(store.get_model(last).unwrap(), b"weights");
    store.put_model(&run, "last", b"better").unwrap();
    assert!(matches!(store.get_model(last), Err(StoreError::MissingModel { .. })));
    let path = dir.path().join(format!("models/{better}.safetensors"));
    fs::write(&path, b"bitter").unwrap();
    match store.get_model(better) {
        Err(StoreError::Damaged { path: named, .. }) => assert_eq!(named, path),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_site_key_stays_until_the_run_ends() {
    let (dir, store) = store();
    let run = id("one");
    let drawn = store.site_key(&run, &site("North"), None).unwrap();
    let given = [0x5a; 32];
    let kept = store.site_key(&run, &site("South"), Some(SecretKey::from_bytes(given))).unwrap();
    assert_eq!(kept.expose(), &given);
    assert_ne!(drawn.expose(), kept.expose());
    drop(store);
    let store = Store::open(dir.path()).unwrap();
    let again = store.site_key(&run, &site("South"), Some(SecretKey::from_bytes([1; 32]))).unwrap();
    assert_eq!(again.expose(), &given);
    assert_eq!(store.site_key(&run, &site("North"), None).unwrap().expose(), drawn.expose());
    store.finish_run(&run, RunStatus::Completed, Timestamp(2), &json!({})).unwrap();
    for entry in fs::read_dir(dir.path()).unwrap() {
        let path = entry.unwrap().path();
        let bytes = if path.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
        for key in [&given, drawn.expose()] {
            assert!(!bytes.windows(32).any(|window| window == key), "a key stays in {}", path.display());
        }
    }
    assert!(matches!(store.site_key(&run, &site("North"), None), Err(StoreError::Ended { .. })));
}

#[cfg(unix)]
#[test]
fn the_database_is_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let (dir, store) = store();
    store.event(&id("one"), None, Timestamp(1), "x", &()).unwrap();
    for name in ["medfed.sqlite", "medfed.sqlite-wal", "medfed.sqlite-shm"] {
        let mode = fs::metadata(dir.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[test]
fn ledger_records_keep_their_order_and_refuse_a_second_writer() {
    let (dir, store) = store();
    let mut north = store.ledger_storage(&id("one"), &site("North")).unwrap();
    let mut other = store.ledger_storage(&id("one"), &site("North")).unwrap();
    let mut south = store.ledger_storage(&id("one"), &site("South")).unwrap();
    north.append(0, b"a").unwrap();
    south.append(0, b"s").unwrap();
    north.append(1, b"b").unwrap();
    assert!(matches!(other.append(1, b"c"), Err(StoreError::LedgerPosition { position: 1, found: 2 })));
    assert!(matches!(other.append(5, b"c"), Err(StoreError::LedgerPosition { position: 5, found: 2 })));
    drop((north, other, south, store));
    let ledgers = Store::read_only(dir.path()).unwrap().ledgers(&id("one")).unwrap();
    let records = |bytes: &[&[u8; 1]]| bytes.iter().map(|record| record.to_vec()).collect::<Vec<_>>();
    let expected = [(site("North"), records(&[b"a", b"b"])), (site("South"), records(&[b"s"]))];
    assert_eq!(ledgers, expected.into());
    let store = Store::open(dir.path()).unwrap();
    let mut north = store.ledger_storage(&id("one"), &site("North")).unwrap();
    assert_eq!(north.records().unwrap(), [b"a", b"b"]);
    store.finish_run(&id("one"), RunStatus::Failed, Timestamp(2), &()).unwrap();
    assert!(matches!(north.append(2, b"c"), Err(StoreError::Ended { .. })));
    assert_eq!(north.records().unwrap().len(), 2);
}

#[test]
fn what_is_not_a_results_directory_is_named() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(Store::read_only(dir.path()), Err(StoreError::Missing { .. })));
    assert!(matches!(Store::read_only(dir.path().join("none")), Err(StoreError::Missing { .. })));
    let database = dir.path().join("medfed.sqlite");
    fs::write(&database, "This is a text file, and a rather long one, so that it has a header.".repeat(40))
        .unwrap();
    for opened in [Store::open(dir.path()).map(drop), Store::read_only(dir.path()).map(drop)] {
        assert!(matches!(opened, Err(StoreError::Corrupt { .. })), "{opened:?}");
    }
    fs::remove_file(&database).unwrap();
    let foreign = rusqlite::Connection::open(&database).unwrap();
    foreign.execute_batch("CREATE TABLE recipes (name TEXT)").unwrap();
    drop(foreign);
    assert!(matches!(Store::open(dir.path()), Err(StoreError::Corrupt { .. })));
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let error = Store::open(file.join("results")).unwrap_err();
    assert!(matches!(error, StoreError::Unwritable { .. } | StoreError::Io { .. }), "{error:?}");
}

#[test]
fn a_newer_or_damaged_database_is_refused_and_stays_as_it_is() {
    let (dir, store) = store();
    let rounds = (1..200).map(RoundId);
    rounds.for_each(|round| {
        store.append_round(&id("one"), round, &json!({ "note": "x".repeat(500) })).unwrap();
    });
    drop(store);
    let database = dir.path().join("medfed.sqlite");
    let sound = fs::read(&database).unwrap();
    let connection = rusqlite::Connection::open(&database).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    drop(connection);
    for opened in [Store::open(dir.path()).map(drop), Store::read_only(dir.path()).map(drop)] {
        assert!(matches!(opened, Err(StoreError::NewerVersion { found: 99, .. })), "{opened:?}");
    }
    let mut damaged = sound.clone();
    let middle = damaged.len() / 2;
    damaged[middle..middle + 4096].fill(0xa5);
    fs::write(&database, &damaged).unwrap();
    for opened in [Store::open(dir.path()).map(drop), Store::read_only(dir.path()).map(drop)] {
        assert!(matches!(opened, Err(StoreError::Corrupt { .. })), "{opened:?}");
    }
    fs::write(&database, &sound[..sound.len() / 2]).unwrap();
    assert!(matches!(Store::open(dir.path()), Err(StoreError::Corrupt { .. })));
    fs::write(&database, sound).unwrap();
    assert_eq!(Store::open(dir.path()).unwrap().rounds(&id("one")).unwrap().len(), 199);
}

#[test]
fn documents_are_kept_by_name_also_after_the_end() {
    let (dir, store) = store();
    let run = id("one");
    assert_eq!(store.document(&run, "fairness_report").unwrap(), None);
    store.put_document(&run, "fairness_report", r#"{"score":0.5}"#).unwrap();
    store.finish_run(&run, RunStatus::Completed, Timestamp(2), &json!({})).unwrap();
    store.put_document(&run, "fairness_report", r#"{"score":0.75}"#).unwrap();
    store.put_document(&run, "mia_privacy_audit", "{}").unwrap();
    let reader = Store::read_only(dir.path()).unwrap();
    assert_eq!(reader.document(&run, "fairness_report").unwrap().unwrap(), r#"{"score":0.75}"#);
    assert_eq!(reader.documents(&run).unwrap(), ["fairness_report", "mia_privacy_audit"]);
    assert!(matches!(store.put_document(&run, "broken", "{"), Err(StoreError::Json { .. })));
    assert!(matches!(store.put_document(&id("two"), "any", "{}"), Err(StoreError::UnknownRun { .. })));
}

#[test]
fn a_database_of_the_first_format_is_read_as_it_is_and_migrated_by_a_writer() {
    let (dir, store) = store();
    store.append_round(&id("one"), RoundId(1), &json!({ "auc": 0.5 })).unwrap();
    drop(store);
    let connection = rusqlite::Connection::open(dir.path().join("medfed.sqlite")).unwrap();
    connection.execute_batch("DROP TABLE documents; DROP TABLE audit_keys; DROP TABLE audit_salts; DROP TABLE signed_checkpoints; DROP TABLE event_log; DROP TABLE event_log_heads; DROP TABLE run_secrets; ALTER TABLE ledger DROP COLUMN paid; PRAGMA user_version = 1").unwrap();
    drop(connection);
    let reader = Store::read_only(dir.path()).unwrap();
    assert_eq!(reader.document(&id("one"), "fairness_report").unwrap(), None);
    assert!(reader.documents(&id("one")).unwrap().is_empty());
    let store = Store::open(dir.path()).unwrap();
    store.put_document(&id("one"), "fairness_report", "{}").unwrap();
    assert_eq!(reader.document(&id("one"), "fairness_report").unwrap().unwrap(), "{}");
    assert_eq!(store.rounds(&id("one")).unwrap().len(), 1);
}

#[test]
fn clones_write_from_several_threads() {
    let (_dir, store) = store();
    std::thread::scope(|scope| {
        for name in ["North", "South", "West"] {
            let store = &store;
            scope.spawn(move || {
                let mut ledger = store.ledger_storage(&id("one"), &site(name)).unwrap();
                for position in 0..20 {
                    ledger.append(position, name.as_bytes()).unwrap();
                    let report = json!({ "position": position });
                    store
                        .append_site_round(&id("one"), RoundId(position as u32), &site(name), &report)
                        .unwrap();
                }
            });
        }
    });
    assert_eq!(store.site_rounds(&id("one")).unwrap().len(), 60);
}
