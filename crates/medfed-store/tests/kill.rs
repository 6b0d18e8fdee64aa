//! A writer that is killed without warning: what it was told is durable is there, nothing is half there.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use medfed_dp::LedgerStorage;
use medfed_store::{ProgressPart, RunRecord, Store, StoreError, Timestamp};
use medfed_types::{RoundId, RunId, Seed, SiteId};
use serde_json::json;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

/// Set for the copy of this test that writes and is killed: the results directory.
const WRITER: &str = "MEDFED_TEST_WRITER";

fn run() -> RunId {
    RunId::try_from("run").unwrap()
}

fn site() -> SiteId {
    SiteId::try_from("North").unwrap()
}

fn part(owner: &str, position: usize) -> ProgressPart {
    let bytes = vec![position as u8; 10_000 + position];
    ProgressPart { owner: owner.to_owned(), meta: json!({ "position": position }), bytes }
}

/// Writes ledger entries, rounds and progress for ever and reports each to its parent once acknowledged.
fn write_for_ever(dir: &Path) -> Result<(), StoreError> {
    let store = Store::open(dir)?;
    let record = RunRecord {
        id: run(),
        name: "killed".to_owned(),
        created: Timestamp(0),
        config: json!({}),
        seed: Seed(1),
    };
    match store.create_run(&record) {
        Ok(()) | Err(StoreError::DuplicateRun { .. }) => {}
        Err(error) => return Err(error),
    }
    let mut ledger = store.ledger_storage(&run(), &site())?;
    // The round that the last kill interrupted may have its ledger entry already.
    let paid = ledger.records()?.len();
    for position in store.rounds(&run())?.len().. {
        if position >= paid {
            ledger.append(position, &(position as u64).to_le_bytes())?;
        }
        store.append_round(&run(), RoundId(position as u32), &json!({ "position": position }))?;
        store.save_progress(&run(), &[part("North", position), part("coordinator", position)])?;
        // The test harness captures print macros; the parent reads this line from the pipe.
        let mut out = std::io::stdout().lock();
        if writeln!(out, "\nstored {position}").and_then(|()| out.flush()).is_err() {
            break;
        }
    }
    Ok(())
}

#[test]
fn what_was_acknowledged_survives_sigkill() {
    if let Some(dir) = std::env::var_os(WRITER) {
        write_for_ever(Path::new(&dir)).unwrap();
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = 0;
    for lines in [1, 2, 5, 3, 9, 4] {
        let mut writer = Command::new(std::env::current_exe().unwrap())
            .args(["what_was_acknowledged_survives_sigkill", "--exact", "--nocapture"])
            .env(WRITER, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(writer.stdout.take().unwrap());
        // Lives until the kill: without a reader the writer would end by itself.
        let mut stored = output.lines().map_while(Result::ok).filter_map(|line| {
            line.strip_prefix("stored ").map(|position| position.parse::<usize>().unwrap() + 1)
        });
        acknowledged = stored.by_ref().take(lines).last().expect("the writer stores something");
        let taken = Store::open(dir.path());
        assert!(matches!(taken, Err(StoreError::InUse { .. })), "{taken:?}");
        writer.kill().unwrap();
        writer.wait().unwrap();
        drop(stored);

        let store = Store::open(dir.path()).unwrap();
        let records = store.ledger_storage(&run(), &site()).unwrap().records().unwrap();
        assert!(records.len() >= acknowledged, "{} of {acknowledged}", records.len());
        for (position, record) in records.iter().enumerate() {
            assert_eq!(record, &(position as u64).to_le_bytes());
        }
        // A round follows its ledger entry, progress follows the round: each is a prefix of the one before.
        let rounds = store.rounds(&run()).unwrap();
        assert!(rounds.len() >= acknowledged && rounds.len() <= records.len());
        for (position, round) in rounds.iter().enumerate() {
            assert_eq!(round.report, json!({ "position": position }));
        }
        let progress = store.load_progress(&run()).unwrap();
        let position = progress[0].meta["position"].as_u64().unwrap() as usize;
        assert!(position + 1 >= acknowledged && position < rounds.len());
        assert_eq!(progress, [part("North", position), part("coordinator", position)]);
        let blobs = std::fs::read_dir(dir.path().join("blobs")).unwrap().count();
        assert_eq!(blobs, 1, "both owners have equal bytes, and nothing else is left");
    }
    assert!(acknowledged >= 24);
}
