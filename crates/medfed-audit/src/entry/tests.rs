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

fn selection() -> impl Strategy<Value = Entry> {
    let criterion = prop_oneof![
        Just(Criterion::Everyone),
        Just(Criterion::FoolsGold),
        (any::<u16>(), any::<u16>())
            .prop_map(|(byzantine, selected)| Criterion::MultiKrum { byzantine, selected }),
    ];
    let consequence =
        prop_oneof![Just(Consequence::Flag), Just(Consequence::Exclude), Just(Consequence::Halt)];
    let search = (any::<bool>(), 1e-3..1e3_f64, consequence)
        .prop_map(|(zscore, threshold, consequence)| Search { zscore, threshold, consequence });
    let norm = (1e-9..1e9_f64, prop::option::of(1e-9..1e9_f64))
        .prop_map(|(scale, least)| ExpectedNorm { scale, least });
    let compared = prop::collection::vec((any::<u16>(), prop::option::of(norm)), 0..7);
    let numbers = || prop::collection::btree_set(any::<u16>(), 0..5);
    let products = prop::collection::vec(any::<i64>(), 21..=21);
    let some = (any::<u32>(), criterion, prop::option::of(search), any::<u64>(), 1e-3..1e12_f64);
    let lists = (numbers(), numbers(), numbers(), any::<u16>());
    (some, compared, products, lists).prop_map(
        |((round, criterion, search, parameters, steps), compared, mut products, lists)| {
            let (too_long, withheld, selected, least) = lists;
            products.truncate(compared.len() * (compared.len() + 1) / 2);
            let compared = compared.into_iter().map(|(number, expected)| {
                let hospital = RosterNumber(number);
                Compared { hospital, expected }
            });
            Entry::Selection(Selection {
                round: RoundId(round),
                criterion,
                search,
                least,
                parameters,
                steps,
                compared: compared.collect(),
                products,
                withheld: withheld.into_iter().map(RosterNumber).collect(),
                too_long: too_long.into_iter().map(RosterNumber).collect(),
                selected: selected.into_iter().map(RosterNumber).collect(),
            })
        },
    )
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
    let some = prop_oneof![started(), configuration, hospital, rules(), payment()];
    prop_oneof![some, prop_oneof![event, round(), operator, finished, selection()]]
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
    let norm = ExpectedNorm { scale: 1.0, least: Some(0.5) };
    let compared = |number, expected| Compared { hospital: RosterNumber(number), expected };
    let selection = Entry::Selection(Selection {
        round: RoundId(3),
        criterion: Criterion::MultiKrum { byzantine: 1, selected: 3 },
        search: Some(Search { zscore: false, threshold: 3.0, consequence: Consequence::Exclude }),
        least: 3,
        parameters: 7,
        steps: 2.0,
        compared: vec![compared(1, None), compared(0, Some(norm))],
        products: vec![5, -1, 4],
        too_long: vec![RosterNumber(2)],
        withheld: vec![RosterNumber(4)],
        selected: vec![],
    });
    let expected = "010903000000".to_owned() // format, kind, round
        + "0101000300" // Multi-Krum, f, m
        + "0100000000000000084001" // a search by medians, its threshold, exclusion
        + "0300" // updates of a sum
        + "0700000000000000" // parameters
        + "0000000000000040" // steps to one
        + "0200" + "010000" + "000001000000000000f03f01000000000000e03f" // compared, with expected norms
        + "0500000000000000ffffffffffffffff0400000000000000" // inner products
        + "01000200" // too long
        + "01000400" // withheld
        + "0000"; // selected
    assert_eq!(hex(selection.encode().unwrap()), expected);
}

#[test]
fn a_commitment_needs_its_salt() {
    let one = commitment(&[1; 32], b"value");
    assert_eq!(one, commitment(&[1; 32], b"value"));
    assert!(one != commitment(&[2; 32], b"value") && one != commitment(&[1; 32], b"valuf"));
}
