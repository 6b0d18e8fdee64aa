use super::*;
use proptest::prelude::*;

fn digest() -> impl Strategy<Value = Digest> {
    any::<[u8; 32]>().prop_map(Digest::new)
}

fn site() -> impl Strategy<Value = SiteId> {
    "[a-zA-Z0-9._-]{1,20}".prop_map(|name| SiteId::try_from(name).unwrap())
}

fn object() -> impl Strategy<Value = String> {
    prop::collection::btree_map("[a-z]{1,8}", any::<i32>(), 0..4).prop_map(|map| {
        canonical_json(&map.into_iter().map(|(key, value)| (key, serde_json::json!(value))).collect())
    })
}

fn promise() -> impl Strategy<Value = Promise> {
    (any::<bool>(), any::<bool>(), any::<bool>(), 1e-9..1e9_f64, 1e-9..0.5_f64, 0.0..1e3_f64).prop_map(
        |(unit, accountant, secure_mode, clip, delta, budget)| Promise {
            unit: if unit { PrivacyUnit::Image } else { PrivacyUnit::Patient },
            clip: ClipNorm::new(clip).unwrap(),
            delta: Delta::new(delta).unwrap(),
            accountant: if accountant { Accountant::Pld } else { Accountant::Rdp },
            budget: Epsilon::new(budget).unwrap(),
            secure_mode,
        },
    )
}

fn rules() -> impl Strategy<Value = Entry> {
    let escapes = prop::sample::subsequence(
        vec![Escape::NoPrivacy, Escape::ReproducibleNoise, Escape::Simulation, Escape::SimulatedAttack],
        0..=4,
    );
    let matters = vec![Matter::Update, Matter::NoisedUpdate, Matter::Model, Matter::Measurements];
    let disclosures = prop::sample::subsequence(matters, 0..=4).prop_map(|matters| {
        matters.into_iter().map(|what| Disclosure { what, to: Audience::Coordinator }).collect()
    });
    let warnings = prop::collection::vec(".{0,30}", 0..3);
    ("[a-z_]{1,12}", any::<u32>(), prop::option::of(promise()), disclosures, escapes, warnings).prop_map(
        |(aggregation, min_updates, privacy, disclosures, escapes, warnings)| {
            Entry::Rules(Rules { aggregation, min_updates, privacy, disclosures, escapes, warnings })
        },
    )
}

fn started() -> impl Strategy<Value = Entry> {
    (site(), any::<u64>(), any::<u16>(), prop::array::uniform4(digest()), any::<bool>()).prop_map(
        |(run, time, cosignatures, [log_key, model, configuration, data], averaged)| {
            let run = RunId::try_from(run.as_str()).unwrap();
            let program = "medfed 0".to_owned();
            Entry::Started(Started {
                run,
                time,
                program,
                log_key,
                cosignatures,
                model,
                averaged,
                configuration,
                data,
            })
        },
    )
}

fn round() -> impl Strategy<Value = Entry> {
    let hospitals = prop::collection::btree_map(any::<u16>(), prop::option::of(".{0,20}"), 0..12);
    (any::<u32>(), hospitals, digest(), digest()).prop_map(|(round, hospitals, before, after)| {
        let mut entry =
            Round { round: RoundId(round), participants: vec![], excluded: vec![], before, after };
        for (number, reason) in hospitals {
            let hospital = RosterNumber(number);
            match reason {
                None => entry.participants.push(hospital),
                Some(reason) => entry.excluded.push(Excluded { hospital, reason }),
            }
        }
        Entry::Round(entry)
    })
}

fn payment() -> impl Strategy<Value = Entry> {
    (any::<u32>(), any::<u16>(), 1e-9..1.0_f64, 1e-3..1e6_f64, 1..u64::MAX, 0.0..1e4_f64, 0.0..1e4_f64)
        .prop_map(|(round, hospital, rate, noise, steps, pld, rdp)| {
            let spent = Spent { pld: Epsilon::new(pld).unwrap(), rdp: Epsilon::new(rdp).unwrap() };
            let (rate, noise) = (SamplingRate::new(rate).unwrap(), NoiseMultiplier::new(noise).unwrap());
            let hospital = RosterNumber(hospital);
            Entry::Payment(Payment { round: RoundId(round), hospital, rate, noise, steps, spent })
        })
}

fn entry() -> impl Strategy<Value = Entry> {
    let operator = (any::<bool>(), any::<u64>()).prop_map(|(stopped, time)| {
        let action = if stopped { Action::Stopped } else { Action::Resumed };
        Entry::Operator(Operator { action, time })
    });
    let hospital = (any::<u16>(), site(), digest()).prop_map(|(number, site, key)| {
        Entry::Hospital(Hospital { number: RosterNumber(number), site, key })
    });
    let event = (any::<u32>(), "[a-z_]{1,64}", object())
        .prop_map(|(round, what, detail)| Entry::Event(Event { round: RoundId(round), what, detail }));
    let finished = (any::<u64>(), prop::option::of(any::<u32>()), digest(), prop::option::of(digest()));
    let finished = finished.prop_map(|(time, best, model, file)| {
        let (status, best_round) = (Status::BudgetExhausted, best.map(RoundId));
        Entry::Finished(Finished { time, status, best_round, model, file })
    });
    let configuration = object().prop_map(|json| Entry::Configuration(Configuration { json }));
    prop_oneof![started(), configuration, hospital, rules(), payment(), event, round(), operator, finished]
}

proptest! {
    #[test]
    fn entries_come_back(entry in entry()) {
        let bytes = entry.encode().unwrap();
        prop_assert_eq!(Entry::decode(&bytes).unwrap(), entry);
    }

    /// Damaged bytes are refused, or are the one form of another entry.
    #[test]
    fn damaged_entries_never_panic_and_have_one_form(
        entry in entry(),
        at in any::<prop::sample::Index>(),
        value in any::<u8>(),
        how in 0_u8..4,
    ) {
        let mut bytes = entry.encode().unwrap();
        let at = at.index(bytes.len());
        match how {
            0 => bytes[at] = value,
            1 => bytes.truncate(at),
            2 => bytes.insert(at, value),
            _ => drop(bytes.remove(at)),
        }
        if let Ok(decoded) = Entry::decode(&bytes) {
            prop_assert_eq!(decoded.encode().unwrap(), bytes);
        }
    }

    #[test]
    fn noise_is_no_entry_or_has_one_form(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(decoded) = Entry::decode(&bytes) {
            prop_assert_eq!(decoded.encode().unwrap(), bytes);
        }
    }
}

#[test]
fn what_is_too_long_or_out_of_order_is_not_written() {
    let json = |text: String| Entry::Configuration(Configuration { json: text }).encode();
    let long = format!("{{\"a\":\"{}\"}}", "x".repeat(60_000));
    assert!(matches!(json(long), Err(EntryProblem::Long { limit: 60_000, .. })));
    for loose in ["{ }", "{\"b\":1,\"a\":1}", "[]", "{\"a\":1}x", ""] {
        assert!(matches!(json(loose.to_owned()), Err(EntryProblem::Text { .. })), "{loose}");
    }
    let warnings = vec!["x".repeat(40_000), "y".repeat(40_000)];
    let rules = |warnings, escapes| {
        let (aggregation, disclosures) = ("fedavg".to_owned(), Vec::new());
        Entry::Rules(Rules { aggregation, min_updates: 1, privacy: None, disclosures, escapes, warnings })
    };
    assert!(matches!(rules(warnings, vec![]).encode(), Err(EntryProblem::Long { limit: 65_535, .. })));
    let escapes = vec![Escape::Simulation, Escape::NoPrivacy];
    assert!(matches!(rules(vec![], escapes).encode(), Err(EntryProblem::Order { .. })));
}

/// The bytes of format 1 must not change: logs outlive programs.
#[test]
fn bytes_of_the_format_stay() {
    let payment = Entry::Payment(Payment {
        round: RoundId(3),
        hospital: RosterNumber(2),
        rate: SamplingRate::new(0.25).unwrap(),
        noise: NoiseMultiplier::new(1.5).unwrap(),
        steps: 7,
        spent: Spent { pld: Epsilon::new(0.5).unwrap(), rdp: Epsilon::new(1.0).unwrap() },
    });
    let digit = |value: u8| char::from_digit(u32::from(value), 16).unwrap();
    let hex = |bytes: Vec<u8>| -> String {
        bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
    };
    let expected = "010403000000".to_owned() // format, kind, round
        + "0200" // hospital
        + "000000000000d03f" // rate
        + "000000000000f83f" // noise
        + "0700000000000000" // steps
        + "000000000000e03f" // epsilon by privacy loss distributions
        + "000000000000f03f"; // and by Rényi divergences
    assert_eq!(hex(payment.encode().unwrap()), expected);
    let operator = Entry::Operator(Operator { action: Action::Resumed, time: 1 });
    assert_eq!(hex(operator.encode().unwrap()), "0107010100000000000000");
}

#[test]
fn a_commitment_needs_its_salt() {
    let one = commitment(&[1; 32], b"value");
    assert_eq!(one, commitment(&[1; 32], b"value"));
    assert!(one != commitment(&[2; 32], b"value") && one != commitment(&[1; 32], b"valuf"));
}
