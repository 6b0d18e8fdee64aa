//! Damaged messages at every step: no panic, the sender is named, and what opens is right.

use super::*;
use proptest::prelude::*;

/// What happens to a message.
#[derive(Debug, Clone)]
enum Damage {
    Flip(prop::sample::Index, u8),
    Cut(prop::sample::Index),
    Longer(Vec<u8>),
    Other(Vec<u8>),
}

fn damage() -> impl Strategy<Value = Damage> {
    let some = || prop::collection::vec(any::<u8>(), 1..40);
    prop_oneof![
        4 => (any::<prop::sample::Index>(), 0u8..8).prop_map(|(at, bit)| Damage::Flip(at, bit)),
        1 => any::<prop::sample::Index>().prop_map(Damage::Cut),
        1 => some().prop_map(Damage::Longer),
        1 => some().prop_map(Damage::Other),
    ]
}

fn damaged(bytes: &[u8], damage: &Damage) -> Arc<[u8]> {
    let mut bytes = bytes.to_vec();
    match damage {
        Damage::Flip(at, bit) => {
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
        }
        Damage::Cut(at) => bytes.truncate(at.index(bytes.len())),
        Damage::Longer(more) => bytes.extend_from_slice(more),
        Damage::Other(other) => bytes.clone_from(other),
    }
    bytes.into()
}

/// Plays a round of five, or of three groups, in which one message of the first hospital, or to it, is damaged.
fn play(mode: MaskingMode, by_samples: bool, at: usize, to: bool, damage: &Damage) {
    let order = order(plan(mode, by_samples));
    let many = if mode == MaskingMode::Groups { 7 } else { 5 };
    let mut hospitals = Hospitals::new(&order, updates(many));
    let (mut opening, mut calls) = hospitals.start();
    let mut step = 0;
    let unmasked = loop {
        for call in &calls {
            let first = step == at && call.to == site(0);
            if first && to {
                let bytes = damaged(&call.bytes, damage);
                let same = bytes == call.bytes;
                match hospitals.handle(&Message { to: call.to.clone(), bytes }) {
                    // Whatever it makes of it, the coordinator can read.
                    Ok(answer) => {
                        let _ = opening.receive(&call.to, &answer);
                    }
                    Err(error) => {
                        assert!(error.to_string().contains("the coordinator") && !same, "{error}");
                        // It changed nothing.
                        let answer = hospitals.handle(call).unwrap();
                        opening.receive(&call.to, &answer).unwrap();
                    }
                }
                continue;
            }
            let Ok(answer) = hospitals.handle(call) else {
                assert_eq!(call.to, site(0));
                continue;
            };
            if !first {
                let _ = opening.receive(&call.to, &answer);
                continue;
            }
            if let Err(error) = opening.receive(&call.to, &damaged(&answer, damage)) {
                assert!(error.to_string().contains("hospital 0"), "{error}");
            }
        }
        step += 1;
        match opening.close() {
            Turn::Ask(next, messages) => (opening, calls) = (next, messages),
            Turn::Done(unmasked) => break unmasked,
        }
    };
    let opened = unmasked.opened.expect("the others are enough");
    for mean in &opened {
        assert_mean(mean, &updates(many), by_samples);
    }
    // A group of two is lost with one of them.
    let lost = (1..many).filter(|index| !unmasked.report.survivors.contains(&site(*index))).count();
    assert!(lost <= usize::from(mode == MaskingMode::Groups), "{:?}", unmasked.report);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(250))]
    #[test]
    fn damaged_messages_name_their_sender_and_harm_nobody_else(
        which in 0usize..3,
        at in 0usize..11,
        to in any::<bool>(),
        damage in damage(),
    ) {
        let (mode, by_samples) =
            [(MaskingMode::Sum, false), (MaskingMode::Sum, true), (MaskingMode::Groups, false)][which];
        play(mode, by_samples, at, to, &damage);
    }

    #[test]
    fn arbitrary_bytes_are_no_message(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut hospitals = Hospitals::new(&order(plan(MaskingMode::Sum, false)), updates(3));
        let (mut opening, _) = hospitals.start();
        let call = Message { to: site(0), bytes: bytes.clone().into() };
        prop_assert!(hospitals.handle(&call).is_err());
        let error = opening.receive(&site(0), &bytes).unwrap_err();
        prop_assert!(error.to_string().contains("hospital 0"), "{}", error);
    }
}
