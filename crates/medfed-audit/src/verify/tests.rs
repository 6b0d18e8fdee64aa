use super::*;
use crate::entry::{Event, Hospital, Payment, RosterNumber, Round};
use crate::sample::{
    self, Hospitals, faults, finished, go_on, hospital_signer, log_key, opening, signer, site, spent,
};
use crate::storage::memory::Memory;
use crate::{Bundle, InclusionProof, Log, Trail};
use medfed_types::{Epsilon, NoiseMultiplier, RoundId, SamplingRate};
use proptest::prelude::*;

/// Entries of the finished sample run: 6 of the opening, then 3, 4, 3, 3, 3 of rounds, and the end.
const SIZE: u64 = 23;

fn bundle_path(memory: &Memory) -> String {
    memory.files.keys().find(|path| path.starts_with("tile/entries/")).unwrap().clone()
}

fn entries(memory: &Memory) -> Vec<Vec<u8>> {
    let bytes = &memory.files[&bundle_path(memory)];
    tile::scan_entries(bytes, 256).0.into_iter().map(<[u8]>::to_vec).collect()
}

/// Puts other entries in their place; `also_hashes` when the tiles are made to fit.
fn replace(memory: &mut Memory, entries: &[Vec<u8>], also_hashes: bool) {
    let mut file = Vec::new();
    let mut tree = Tree::default();
    for entry in entries {
        tile::push_entry(&mut file, entry);
        tree.push(Digest::of_leaf(entry));
    }
    let path = bundle_path(memory);
    memory.files.insert(path, file);
    if also_hashes {
        for tile in tile::of_row(Row::Hashes(0), 0, tree.len()) {
            memory.files.insert(tile.path(), tile::hashes(&tree, tile));
        }
    }
}

fn tampered(change: impl FnOnce(&mut Vec<Vec<u8>>), also_hashes: bool) -> Vec<String> {
    let mut memory = finished();
    let mut entries = entries(&memory);
    change(&mut entries);
    replace(&mut memory, &entries, also_hashes);
    faults(&memory)
}

#[track_caller]
fn finds(faults: &[String], expected: &[&str]) {
    for part in expected {
        assert!(faults.iter().any(|fault| fault.contains(part)), "{part:?} is not in {faults:#?}");
    }
}

#[test]
fn a_sound_log_has_no_fault() {
    let memory = finished();
    let keys = String::from_utf8(memory.files["keys"].clone()).unwrap();
    let keys: Vec<PublicKey> = keys.lines().map(|line| PublicKey::parse(line).unwrap()).collect();
    assert_eq!(keys.len(), 4);
    let verdict = verify(&memory, &Expectations { keys, ..Expectations::default() }).unwrap();
    assert_eq!((verdict.faults, verdict.notes), (vec![], vec![]));
    let summary = verdict.summary;
    assert_eq!(
        (summary.entries, summary.checkpoints, summary.cosignatures, summary.rounds),
        (SIZE, 7, 21, 5)
    );
    let rounds: Vec<u32> = summary.hospitals.iter().map(|hospital| hospital.rounds).collect();
    assert_eq!(rounds, [4, 3, 3]);
    assert_eq!(summary.hospitals[0].spent, Some(spent(0, 5)));
    let unknown = verify(&memory, &Expectations::default()).unwrap();
    assert!(unknown.faults.is_empty() && unknown.notes[0].contains("taken from the log itself"));
}

#[test]
fn a_changed_entry_is_found_where_it_is() {
    let other = |entries: &mut Vec<Vec<u8>>| *entries[7].last_mut().unwrap() ^= 1;
    let found = tampered(other, false);
    finds(
        &found,
        &[
            "entry 7: not what was logged",
            "checkpoint of 9 entries: the entries are not those",
            "before entry 6 agree",
        ],
    );
    assert!(!found.iter().any(|fault| fault.contains("checkpoint of 6 entries")), "{found:#?}");
    // Whoever also makes the hashes fit still has no signature.
    finds(
        &tampered(other, true),
        &["checkpoint of 9 entries: the entries are not those", "none agrees either"],
    );
}

#[test]
fn a_removed_added_or_moved_entry_is_found() {
    finds(
        &tampered(|entries| drop(entries.remove(8)), false),
        &["entries 8 to 21: not what was logged", "it cannot be used"],
    );
    finds(
        &tampered(|entries| entries.insert(8, entries[6].clone()), false),
        &["entries 8 to 22: not what was logged"],
    );
    finds(
        &tampered(|entries| entries.swap(6, 7), false),
        &["entries 6 to 7: not what was logged", "before entry 6 agree"],
    );
    finds(&tampered(|entries| entries.swap(6, 12), false), &["entry 6: not what", "entry 12: not what"]);
    finds(
        &tampered(|entries| entries.truncate(20), false),
        &["number of entries", "checkpoint of 22 entries: entries are missing: 20"],
    );
    let mut memory = finished();
    memory.files.remove(&bundle_path(&memory));
    finds(
        &faults(&memory),
        &["tile/entries/000.p/23: it is missing", "checkpoint of 6 entries: entries are missing: 0"],
    );
}

#[test]
fn a_changed_hash_or_missing_tile_is_found() {
    let mut memory = finished();
    memory.files.get_mut("tile/0/000.p/23").unwrap()[5 * 32] ^= 1;
    assert_eq!(faults(&memory), ["tile/0/000.p/23: hash 5 is not that of the entries: the tile was changed"]);
    memory.files.remove("tile/0/000.p/23");
    assert_eq!(faults(&memory), ["tile/0/000.p/23: it is missing"]);
}

fn edit(memory: &mut Memory, path: &str, change: impl FnOnce(String) -> String) {
    let file = memory.files.get_mut(path).unwrap();
    *file = change(String::from_utf8(file.clone()).unwrap()).into_bytes();
}

#[test]
fn forged_stripped_and_strange_signatures_are_found() {
    let of_line = |text: &str, name: &str, change: &dyn Fn(&str) -> String| -> String {
        text.lines()
            .map(|line| if line.contains(name) { change(line) } else { format!("{line}\n") })
            .collect()
    };
    let path = "checkpoints/000000000009";
    let with = |name: &str, change: &dyn Fn(&str) -> String| {
        let mut memory = finished();
        edit(&mut memory, path, |text| of_line(&text, name, change));
        faults(&memory)
    };
    // One character of the signature, past the key's id.
    let forge = |line: &str| {
        let (head, tail) = line.split_at(line.len() - 20);
        let other = if tail.starts_with('A') { 'B' } else { 'A' };
        format!("{head}{other}{}\n", &tail[1..])
    };
    let south = "medfed/20260301-090507-1f3a/South";
    let expected = format!("checkpoint of 9 entries: the signature of {south} is forged");
    finds(
        &with("/South ", &forge),
        &[&expected, "2 hospitals have signed, 3 have to; missing: medfed/20260301-090507-1f3a/South"],
    );
    finds(&with("-1f3a ", &forge), &["checkpoint of 9 entries: it does not have the log's signature"]);
    finds(&with("/South ", &|_| String::new()), &["checkpoint of 9 entries: 2 hospitals have signed"]);
    let renamed = |line: &str| format!("{}\n", line.replace("South", "West"));
    finds(&with("/South ", &renamed), &["1f3a/West has signed and is not on the roster"]);
    // A sound signature of another checkpoint.
    let mut memory = finished();
    let other = String::from_utf8(memory.files["checkpoints/000000000013"].clone()).unwrap();
    let line = other.lines().find(|line| line.contains("/South ")).unwrap().to_owned() + "\n";
    edit(&mut memory, path, |text| of_line(&text, "/South ", &|_| line.clone()));
    finds(&faults(&memory), &[&expected]);
}

#[test]
fn swapped_and_missing_checkpoints_are_found() {
    let (one, two) = ("checkpoints/000000000009", "checkpoints/000000000013");
    let mut memory = finished();
    let (first, second) = (memory.files[one].clone(), memory.files[two].clone());
    memory.files.insert(one.to_owned(), second);
    memory.files.insert(two.to_owned(), first.clone());
    finds(
        &faults(&memory),
        &[
            &format!("{one}: it holds the checkpoint of 13 entries"),
            &format!("{two}: it holds the checkpoint of 9"),
        ],
    );
    let mut memory = finished();
    memory.files.insert("checkpoint".to_owned(), first);
    assert_eq!(faults(&memory), ["checkpoint: it has 9 entries, and there is a checkpoint of 23"]);
    let mut memory = finished();
    memory.files.remove("checkpoint");
    assert_eq!(faults(&memory), ["checkpoint: it is missing"]);
    let mut memory = finished();
    memory.files.remove("checkpoints/000000000023");
    assert_eq!(faults(&memory), ["checkpoints/000000000023: it is missing"]);
    assert!(matches!(verify(&Memory::default(), &Expectations::default()), Err(AuditError::Missing { .. })));
}

fn until(round: u32) -> Memory {
    let (mut memory, mut hospitals) = (Memory::default(), Hospitals::default());
    let mut trail = Trail::begin(&mut memory, signer(), opening()).unwrap();
    go_on(&mut trail, &mut hospitals, 1, round).unwrap();
    memory
}

fn newest(memory: &Memory) -> SignedCheckpoint {
    SignedCheckpoint::parse(&memory.files["checkpoint"]).unwrap()
}

/// A log that was cut off at a checkpoint is sound by itself: a kept checkpoint shows it.
#[test]
fn a_kept_checkpoint_shows_rollback_and_fork() {
    let (short, long) = (until(2), until(4));
    let judged = |memory: &Memory, since: SignedCheckpoint| {
        let expected = Expectations { keys: vec![log_key()], since: vec![since], ..Expectations::default() };
        let found = verify(memory, &expected).unwrap().faults;
        found.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert!(faults(&short).is_empty());
    assert!(verify(&short, &Expectations::default()).unwrap().notes[0].contains("does not end with the end"));
    assert!(judged(&long, newest(&short)).is_empty() && judged(&long, newest(&long)).is_empty());
    finds(
        &judged(&short, newest(&long)),
        &["kept checkpoint of 19 entries: the log has only 13 entries: it was rolled back"],
    );
    let mut fork = until(1);
    let mut trail = Trail::resume(&mut fork, signer(), RoundId(1)).unwrap();
    for _ in 0..10 {
        trail.event("other".to_owned(), "{}".to_owned()).unwrap();
    }
    trail.publish(|offer| Hospitals::default().cosign(offer)).unwrap();
    assert!(faults(&fork).is_empty());
    finds(&judged(&fork, newest(&long)), &["kept checkpoint of 19 entries: the log does not continue it"]);
    assert!(judged(&fork, newest(&until(1))).is_empty());
    let mut forged = newest(&long).to_text();
    forged = forged.replace("\n19\n", "\n18\n");
    finds(
        &judged(&long, SignedCheckpoint::parse(forged.as_bytes()).unwrap()),
        &["kept checkpoint of 18 entries: it does not have the log's signature"],
    );
}

/// A log that was cut off is not excused by a checkpoint that claims to be pending.
#[test]
fn a_pending_checkpoint_excuses_only_what_is_there() {
    let long = finished();
    let seen = newest(&long).checkpoint().clone();
    let mut memory = until(5);
    let expected = Expectations { seen: vec![seen], ..Expectations::default() };
    let rolled_back = |memory: &Memory| {
        let found = verify(memory, &expected).unwrap().faults;
        found.iter().any(|fault| fault.to_string().contains("it was rolled back"))
    };
    assert!(rolled_back(&memory));
    memory.files.insert("pending".to_owned(), long.files["checkpoint"].clone());
    assert!(rolled_back(&memory));
    // With its entries nothing is lost, and the run goes on from there.
    memory.files.insert(bundle_path(&long), long.files[&bundle_path(&long)].clone());
    assert!(!rolled_back(&memory));
    assert!(
        verify(&memory, &expected).unwrap().notes[0].starts_with("1 entries after the newest checkpoint")
    );
}

#[test]
fn keys_from_elsewhere_must_be_those_of_the_log() {
    let with = |key: PublicKey| {
        let expected = Expectations { keys: vec![key], ..Expectations::default() };
        let found = verify(&finished(), &expected).unwrap().faults;
        found.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert!(with(log_key()).is_empty() && with(hospital_signer(2).public().clone()).is_empty());
    let other =
        |name: KeyName, kind| Signer::new(name, kind, &SecretKey::from_bytes([77; 32])).public().clone();
    finds(
        &with(other(KeyName::of_log(&sample::run()), KeyKind::Log)),
        &["entry 0: the key of", "checkpoint of 6 entries: it does not have the log's signature"],
    );
    let name = KeyName::of_site(&sample::run(), &site("South"));
    finds(
        &with(other(name, KeyKind::Cosigner)),
        &["entry 4: the key of", "the signature of medfed/20260301-090507-1f3a/South is forged"],
    );
    finds(
        &with(other(KeyName::new("x").unwrap(), KeyKind::Log)),
        &["the log: the key of x that was given is not in it"],
    );
}

use crate::note::Signer;
use medfed_types::SecretKey;

/// A log that is signed by everyone and tells what cannot be.
fn told(change: impl FnOnce(&mut Vec<Entry>)) -> Vec<String> {
    let mut told: Vec<Entry> =
        entries(&finished()).iter().map(|bytes| Entry::decode(bytes).unwrap()).collect();
    change(&mut told);
    let mut memory = Memory::default();
    let mut log = Log::create(&mut memory, log_key().name().clone()).unwrap();
    for entry in &told {
        log.append(entry).unwrap();
    }
    log.publish(&signer(), |offer| Hospitals::default().cosign(offer)).unwrap();
    faults(&memory)
}

fn payment(entry: &mut Entry) -> &mut Payment {
    match entry {
        Entry::Payment(payment) => payment,
        other => panic!("{other:?}"),
    }
}

fn round(entry: &mut Entry) -> &mut Round {
    match entry {
        Entry::Round(round) => round,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_course_that_cannot_be_is_found() {
    assert_eq!(told(|_| {}), Vec::<String>::new());
    let epsilon = |value| Epsilon::new(value).unwrap();
    // Entries 6 and 7 pay for round 1, entry 8 is round 1; 9 and 10 pay, 11 is an event, 12 is round 2.
    finds(
        &told(|told| payment(&mut told[6]).spent.pld = epsilon(0.01)),
        &["entry 6: East claims epsilon 0.01 (pld)"],
    );
    finds(
        &told(|told| payment(&mut told[6]).spent.rdp = epsilon(0.01)),
        &["entry 6: East claims epsilon 0.01 (rdp)"],
    );
    finds(&told(|told| payment(&mut told[6]).steps = 9), &["entry 6: East claims epsilon"]);
    finds(
        &told(|told| payment(&mut told[6]).noise = NoiseMultiplier::new(0.3).unwrap()),
        &["entry 6: East has spent epsilon", "its budget is 8"],
    );
    finds(
        &told(|told| payment(&mut told[6]).hospital = RosterNumber(9)),
        &["there is no hospital 9", "entry 8: East took part and has not paid for round 1"],
    );
    finds(
        &told(|told| payment(&mut told[6]).round = RoundId(2)),
        &["entry 6: it is of round 2, after round 0"],
    );
    finds(&told(|told| told.insert(7, told[6].clone())), &["entry 7: East has paid for round 1 already"]);
    finds(&told(|told| drop(told.remove(6))), &["entry 7: East took part and has not paid for round 1"]);
    finds(
        &told(|told| round(&mut told[8]).after = sample::model(9)),
        &["entry 12: round 2 does not begin with the model that was there"],
    );
    finds(
        &told(|told| round(&mut told[12]).before = sample::model(9)),
        &["entry 12: round 2 does not begin with"],
    );
    finds(&told(|told| round(&mut told[8]).excluded.clear()), &["entry 8: it does not say what South did"]);
    finds(
        &told(|told| round(&mut told[8]).participants.truncate(1)),
        &["entry 8: 1 hospitals took part, at least 2", "what North Clinic did"],
    );
    finds(&told(|told| drop(told.drain(9..=12))), &["entry 11: it is of round 3, after round 1"]);
    finds(&told(|told| drop(told.remove(0))), &["entry 0: a log begins with the start of its run"]);
    finds(&told(|told| told.swap(1, 6)), &["the configuration and the rules come first"]);
    finds(&told(|told| told.swap(21, 22)), &["entry 22: nothing follows the end of a run"]);
    finds(
        &told(|told| told.insert(5, told[4].clone())),
        &["entry 5: South is on the roster twice", "not consecutive"],
    );
    finds(
        &told(|told| {
            if let Entry::Finished(finished) = &mut told[22] {
                finished.model = sample::model(4);
            }
        }),
        &["entry 22: the saved model is not the one that round 5 left"],
    );
    finds(
        &told(|told| {
            if let Entry::Rules(rules) = &mut told[5] {
                rules.privacy = None;
            }
        }),
        &["entry 6: it pays for privacy that the run does not promise"],
    );
    finds(
        &told(|told| {
            let event = Event { round: RoundId(7), what: "x".to_owned(), detail: "{}".to_owned() };
            told.insert(9, Entry::Event(event));
        }),
        &["entry 9: it is of round 7, after round 1"],
    );
    let weak = Hospital { number: RosterNumber(2), site: site("South"), key: Digest::new([0; 32]) };
    finds(
        &told(|told| told[4] = Entry::Hospital(weak)),
        &["entry 4: it cannot be used", "2 hospitals have signed, 3 have to"],
    );
}

/// A payment of any size is answered, and soon.
#[test]
fn absurd_payments_are_answered() {
    let largest = f64::MAX;
    for (rate, noise, steps, expected) in [
        (1.0, 1e-300, 1, "no plan has"),
        (5e-324, 1.0, 1, "no plan has"),
        (1.0, largest, 1, "no plan has"),
        (0.05, 1.0, u64::MAX, "no plan has"),
        (1.0, 1e-3, 1, "has spent epsilon"),
        (1e-12, 1e6, 1_000_000_000_000_000, "claims epsilon"),
    ] {
        let found = told(|told| {
            let payment = payment(&mut told[6]);
            payment.rate = SamplingRate::new(rate).unwrap();
            payment.noise = NoiseMultiplier::new(noise).unwrap();
            payment.steps = steps;
        });
        assert!(found.iter().any(|it| it.contains("entry 6: East ") && it.contains(expected)), "{found:#?}");
    }
}

#[test]
fn a_bundle_and_a_proof_hold_by_themselves() {
    let memory = finished();
    let bundle = Bundle::of(&memory).unwrap();
    let bytes = bundle.to_bytes().unwrap();
    let again = Bundle::parse(&bytes).unwrap();
    assert!(Bundle::is_one(&bytes) && again == bundle);
    let expected = Expectations { keys: vec![log_key()], ..Expectations::default() };
    let verdict = verify(&again, &expected).unwrap();
    assert!(verdict.faults.is_empty() && verdict.summary.entries == SIZE);
    let keys = [log_key(), hospital_signer(1).public().clone()];
    for index in 0..SIZE {
        let text = InclusionProof::of(&memory, index).unwrap().to_text();
        let proof = InclusionProof::parse(text.as_bytes()).unwrap();
        let shown = proof.verify(&keys).unwrap();
        assert_eq!((shown.index, shown.size, shown.signers.len()), (index, SIZE, 2));
        assert_eq!(shown.entry.encode().unwrap(), entries(&memory)[index as usize]);
        let moved = text.replace(&format!("\nindex {index}\n"), &format!("\nindex {}\n", (index + 1) % SIZE));
        assert!(InclusionProof::parse(moved.as_bytes()).unwrap().verify(&keys).is_err());
        assert!(proof.verify(&keys[1..]).is_err());
    }
    assert!(matches!(
        InclusionProof::of(&memory, SIZE),
        Err(AuditError::NoEntry { index: SIZE, size: SIZE })
    ));
    let mut changed = memory;
    replace(&mut changed, &entries(&until(5)), false);
    assert!(InclusionProof::of(&changed, 3).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// One changed byte anywhere in a bundle is found, or is not part of the log's meaning.
    #[test]
    fn no_byte_of_a_bundle_can_be_changed(at in any::<prop::sample::Index>(), bit in 0_u8..8) {
        thread_local!(static BYTES: Vec<u8> = Bundle::of(&finished()).unwrap().to_bytes().unwrap());
        let mut bytes = BYTES.with(Clone::clone);
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        if let Ok(bundle) = Bundle::parse(&bytes) {
            let expected = Expectations { keys: vec![log_key()], ..Expectations::default() };
            match verify(&bundle, &expected) {
                Ok(verdict) => prop_assert!(!verdict.faults.is_empty(), "byte {at}"),
                Err(error) => prop_assert!(matches!(error, AuditError::Missing { .. }), "{error}"),
            }
        }
    }

    #[test]
    fn damaged_proofs_are_refused(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        thread_local!(static TEXT: String = InclusionProof::of(&finished(), 7).unwrap().to_text());
        let mut bytes = TEXT.with(|text| text.clone().into_bytes());
        let at = at.index(bytes.len());
        prop_assume!(bytes[at] != byte);
        bytes[at] = byte;
        let keys = String::from_utf8(finished().files["keys"].clone()).unwrap();
        let keys: Vec<PublicKey> = keys.lines().map(|line| PublicKey::parse(line).unwrap()).collect();
        if let Ok(proof) = InclusionProof::parse(&bytes) {
            // A hospital's line may be damaged; then its key is not among those that signed.
            let signers = proof.verify(&keys).map_or(0, |shown| shown.signers.len());
            prop_assert!(signers < keys.len(), "byte {at}");
        }
    }
}
