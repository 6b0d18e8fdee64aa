use super::*;
use crate::sample::{self, Hospitals, course, end, finished, go_on, opening, signer};
use crate::storage::memory::Memory;
use crate::verify::{Expectations, verify};

fn entries(memory: &Memory) -> Vec<Entry> {
    let (_, entries) = Log::open(&mut memory.clone(), signer().public()).unwrap();
    entries
}

/// One sitting of the run: begins or resumes, goes on as far as the machine lives.
fn sitting(memory: &mut Memory, hospitals: &mut Hospitals, done: &mut u32) -> Result<(), AuditError> {
    let begun = memory.files.contains_key("checkpoint") || memory.files.contains_key("pending");
    let mut trail = if begun {
        Trail::resume(&mut *memory, signer(), RoundId(*done))?
    } else {
        Trail::begin(&mut *memory, signer(), opening())?
    };
    if begun {
        trail.operator(Action::Resumed, 1_772_355_950)?;
    }
    trail.publish(|offer| hospitals.cosign(offer))?;
    while *done < 5 {
        go_on(&mut trail, hospitals, *done + 1, *done + 1)?;
        // The run's own state is durable after its log; a crash in between is that of the next number.
        *done += 1;
    }
    trail.finish(end())?;
    trail.publish(|offer| hospitals.cosign(offer))
}

/// The machine stops before any one of its writes, with the run's state behind its log or not.
#[test]
fn a_crash_at_any_write_leaves_a_log_that_holds_and_goes_on() {
    let mut writes = Memory { life: Some(usize::MAX), ..Memory::default() };
    sitting(&mut writes, &mut Hospitals::default(), &mut 0).unwrap();
    let total = usize::MAX - writes.life.unwrap();
    let whole = entries(&writes);
    assert!(total > 50);
    for life in 0..total {
        for state_behind in [false, true] {
            let mut memory = Memory { life: Some(life), ..Memory::default() };
            let (mut hospitals, mut done) = (Hospitals::default(), 0);
            sitting(&mut memory, &mut hospitals, &mut done).unwrap_err();
            memory.life = None;
            if memory.files.contains_key("checkpoint") {
                let verdict = verify(&memory, &Expectations::default()).unwrap();
                assert!(verdict.faults.is_empty(), "{life}: {:?}", verdict.faults);
            }
            if entries_end(&memory) {
                continue;
            }
            done -= u32::from(state_behind && done > 0 && newest_round(&memory) == done);
            sitting(&mut memory, &mut hospitals, &mut done).unwrap();
            let verdict = verify(&memory, &Expectations::default()).unwrap();
            assert!(verdict.faults.is_empty(), "{life}: {:?}", verdict.faults);
            assert_eq!((verdict.summary.rounds, verdict.summary.finished.is_some()), (5, true));
            // Nothing twice, nothing missing: but for the resumption the entries are those of a whole run.
            let mut entries = entries(&memory);
            entries.retain(|entry| !matches!(entry, Entry::Operator(_)));
            assert_eq!(entries, whole, "{life}");
        }
    }
}

fn entries_end(memory: &Memory) -> bool {
    let begun = memory.files.contains_key("checkpoint") || memory.files.contains_key("pending");
    begun && matches!(entries(memory).last(), Some(Entry::Finished(_)))
}

fn newest_round(memory: &Memory) -> u32 {
    let rounds = entries(memory).into_iter().filter_map(|entry| match entry {
        Entry::Round(round) => Some(round.round.0),
        _ => None,
    });
    rounds.max().unwrap_or(0)
}

#[test]
fn a_repeated_round_is_recorded_once_and_must_be_the_same() {
    let (mut memory, mut hospitals) = (Memory::default(), Hospitals::default());
    let mut trail = Trail::begin(&mut memory, signer(), opening()).unwrap();
    go_on(&mut trail, &mut hospitals, 1, 2).unwrap();
    go_on(&mut trail, &mut hospitals, 2, 2).unwrap();
    let mut other = course(2, |_| 9);
    other.after = sample::model(7);
    assert!(matches!(trail.round(other), Err(AuditError::RoundDiffers { round: RoundId(2) })));
    let skipped = trail.round(course(4, |_| 9));
    assert!(matches!(skipped, Err(AuditError::RoundOrder { last: RoundId(2), found: RoundId(4) })));
    let rounds = entries(&memory).iter().filter(|entry| matches!(entry, Entry::Round(_))).count();
    assert_eq!(rounds, 2);
}

#[test]
fn a_payment_of_a_stopped_round_is_recorded_once() {
    let (mut memory, mut hospitals) = (Memory::default(), Hospitals::default());
    let mut trail = Trail::begin(&mut memory, signer(), opening()).unwrap();
    go_on(&mut trail, &mut hospitals, 1, 1).unwrap();
    let paid = course(2, |site| trail.payments_of(site)).payments;
    assert_eq!(paid.len(), 2);
    trail.payments(RoundId(2), paid).unwrap();
    trail.operator(Action::Stopped, 1).unwrap();
    trail.publish(|offer| hospitals.cosign(offer)).unwrap();
    let mut trail = Trail::resume(&mut memory, signer(), RoundId(1)).unwrap();
    trail.operator(Action::Resumed, 2).unwrap();
    go_on(&mut trail, &mut hospitals, 2, 5).unwrap();
    assert_eq!(sample::faults(&memory), Vec::<String>::new());
    let payments = |memory| entries(memory).iter().filter(|entry| matches!(entry, Entry::Payment(_))).count();
    assert_eq!(payments(&memory), payments(&finished()));
}

#[test]
fn a_log_that_was_rolled_back_does_not_go_on() {
    let (mut memory, mut hospitals) = (Memory::default(), Hospitals::default());
    let mut trail = Trail::begin(&mut memory, signer(), opening()).unwrap();
    go_on(&mut trail, &mut hospitals, 1, 2).unwrap();
    let early = memory.clone();
    let mut trail = Trail::resume(&mut memory, signer(), RoundId(2)).unwrap();
    go_on(&mut trail, &mut hospitals, 3, 4).unwrap();
    // The run's state knows more rounds than the log.
    let apart = Trail::resume(early.clone(), signer(), RoundId(4));
    let expected = (RoundId(2), RoundId(4));
    assert!(matches!(apart, Err(AuditError::Apart { logged, done }) if (logged, done) == expected));
    // With the state rolled back too, the hospitals still remember.
    let mut rolled = early.clone();
    let mut trail = Trail::resume(&mut rolled, signer(), RoundId(2)).unwrap();
    let refused = go_on(&mut trail, &mut hospitals, 3, 3);
    let rolled_back = crate::Refusal::RolledBack { seen: 19, found: 16 };
    assert!(
        matches!(&refused, Err(AuditError::Refused { refusal, .. }) if *refusal == rolled_back),
        "{refused:?}"
    );
    // And another course of the same length is a fork.
    let mut forked = early;
    let mut trail = Trail::resume(&mut forked, signer(), RoundId(2)).unwrap();
    for _ in 0..6 {
        trail.event("other".to_owned(), "{}".to_owned()).unwrap();
    }
    let refused = trail.publish(|offer| hospitals.cosign(offer));
    let refusal = crate::Refusal::Forked { seen: 19, found: 19 };
    assert!(
        matches!(&refused, Err(AuditError::Refused { refusal: found, .. }) if *found == refusal),
        "{refused:?}"
    );
}

#[test]
fn a_damaged_log_does_not_go_on() {
    let memory = finished();
    let opened = |path: &str, change: fn(&mut Vec<u8>)| {
        let mut memory = memory.clone();
        change(memory.files.get_mut(path).unwrap());
        Log::open(memory, signer().public()).map(|_| ()).unwrap_err()
    };
    let entries = memory.files.keys().find(|path| path.starts_with("tile/entries/")).unwrap();
    assert!(matches!(
        opened(entries, |bytes| bytes[40] ^= 1),
        AuditError::Unreadable { .. } | AuditError::Altered { .. }
    ));
    assert!(matches!(opened(entries, |bytes| bytes.truncate(bytes.len() - 1)), AuditError::Malformed { .. }));
    let unsigned =
        |bytes: &mut Vec<u8>| *bytes = String::from_utf8_lossy(bytes).replace("\n2", "\n3").into_bytes();
    let found = opened("checkpoint", unsigned);
    assert!(matches!(found, AuditError::Unsigned { .. }), "{found:?}");
    assert!(matches!(Trail::begin(memory, signer(), opening()), Err(AuditError::Exists)));
    let nothing = Log::open(Memory::default(), signer().public());
    assert!(matches!(nothing, Err(AuditError::Missing { .. })));
}
