//! Bytes of every message: kept as a snapshot, refused when damaged, canonical otherwise.

use std::fmt::Write as _;

use medfed_types::SecretKey;
use rand::Rng;

use super::federation::*;
use crate::context::*;
use crate::groups::{Coin, CoinCommitment, CollectingCommitments, toss};
use crate::message::*;
use crate::site::*;
use crate::*;

/// One message: its name, its bytes, and what reads bytes and writes them again.
type Sample = (&'static str, Vec<u8>, Box<dyn Fn(&[u8]) -> Option<Vec<u8>>>);

macro_rules! signed {
    ($samples:ident, $context:expr, $kind:ty, $message:expr) => {
        let context = $context.clone();
        let again = move |bytes: &[u8]| Signed::<$kind>::decode(bytes, &context).ok().map(|it| it.encode());
        $samples.push((stringify!($kind), $message.encode(), Box::new(again)));
    };
}

macro_rules! broadcast {
    ($samples:ident, $context:expr, $kind:ty, $message:expr) => {
        let context = $context.clone();
        let bytes = $message.encode(&context);
        let again = move |bytes: &[u8]| {
            Broadcast::<$kind>::decode(bytes, &context).ok().map(|it| it.encode(&context))
        };
        $samples.push((concat!("all ", stringify!($kind)), bytes, Box::new(again)));
    };
}

/// Every message of a selection among four sites with two values each.
fn samples() -> Vec<Sample> {
    let range = ClipRange::new(1.0).unwrap();
    let norm = NormBound::new(2.0).unwrap();
    let federation = Federation::new(4, Contribution::Selection { parameters: 2, range, norm });
    let context = &federation.context;
    let mut samples: Vec<Sample> = Vec::new();

    let (states, collecting, keys) = federation.keys(&[]).unwrap();
    signed!(samples, context, Keys, keys.messages()[0]);
    broadcast!(samples, context, Keys, keys);
    drop((states, collecting));
    let (states, collecting) = federation.dealings(&Drops::default()).unwrap();
    let (mut collecting, dealings) = collecting.close_for_selection().unwrap();
    signed!(samples, context, Dealing, dealings.messages()[1]);
    broadcast!(samples, context, Dealing, dealings);

    let mut waiting = States::new();
    for (site, state) in states {
        let mut rng = federation.rng(site.get());
        let mut participation = Participation::default();
        let (state, input, shares) =
            state.share(&dealings, &[0.5, -1.0], &mut participation, &mut rng).unwrap();
        if site == index(2) {
            signed!(samples, context, MaskedInput, input);
            let own = context.clone();
            let again = move |bytes: &[u8]| VectorShare::decode(bytes, &own).ok().map(|it| it.encode(&own));
            samples.push(("VectorShare", shares[0].encode(context), Box::new(again)));
        }
        collecting.receive(input, shares).unwrap();
        waiting.insert(site, state);
    }
    let (mut collecting, deliveries) = collecting.close().unwrap();
    let mut multiplied = Vec::new();
    for (site, shares) in deliveries {
        let (state, message) = waiting.remove(&site).unwrap().multiply(shares).unwrap();
        signed!(samples, context, Products, message);
        collecting.receive(message).unwrap();
        multiplied.push(state);
    }
    let (selecting, products) = collecting.close().unwrap();
    broadcast!(samples, context, Products, products);
    let selected = [index(0), index(1), index(3)].into_iter().collect();
    let (mut collecting, proposal) = selecting.select(selected).unwrap();
    let own = context.clone();
    let again = move |bytes: &[u8]| Proposal::decode(bytes, &own).ok().map(|it| it.encode(&own));
    samples.push(("Proposal", proposal.encode(context), Box::new(again)));
    let mut consented = Vec::new();
    for state in multiplied {
        let (state, _) = state.review(&products).unwrap();
        let (state, message) = state.consent(proposal, selected).unwrap();
        signed!(samples, context, Consent, message);
        collecting.receive(message).unwrap();
        consented.push(state);
    }
    let (_, agreement) = collecting.close().unwrap();
    broadcast!(samples, context, Consent, agreement);
    let unmasking = consented.remove(0).unmask(&agreement).unwrap();
    signed!(samples, context, Unmasking, unmasking);

    let mut collecting = CollectingCommitments::new(context.clone());
    let (state, commitment) = toss(context, &federation.identities[0], &mut federation.rng(0)).unwrap();
    signed!(samples, context, CoinCommitment, commitment);
    collecting.receive(commitment).unwrap();
    let (_, commitments) = collecting.close();
    let (_, coin) = state.reveal(&commitments).unwrap();
    signed!(samples, context, Coin, coin);
    samples
}

#[test]
fn the_bytes_of_every_message() {
    let mut text = String::new();
    let mut seen = Vec::new();
    for (name, bytes, _) in samples() {
        if seen.contains(&name) {
            continue;
        }
        seen.push(name);
        writeln!(text, "{name}, {} bytes", bytes.len()).unwrap();
        // Version, kind, terms; then the rest, which a change anywhere moves.
        let hash = Digest::of("snapshot", &[&bytes]);
        let hex = |bytes: &[u8]| bytes.iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
        writeln!(text, "  {}", hex(&bytes[..bytes.len().min(72)])).unwrap();
        writeln!(text, "  {}", hex(hash.as_bytes())).unwrap();
    }
    insta::assert_snapshot!(text);
}

#[test]
fn messages_read_back_as_they_were_written() {
    for (name, bytes, again) in samples() {
        assert_eq!(again(&bytes).as_ref(), Some(&bytes), "{name}");
    }
}

#[test]
fn damaged_messages_never_panic_and_are_canonical_or_refused() {
    let mut rng = SecretKey::from_bytes([6; 32]).generator("mutations", &[]);
    for (name, bytes, again) in samples() {
        let check = |damaged: &[u8]| {
            if let Some(written) = again(damaged) {
                assert_eq!(written, damaged, "{name} has a second encoding");
            }
        };
        for cut in 0..bytes.len() {
            assert_eq!(again(&bytes[..cut]), None, "{name} cut to {cut}");
        }
        let mut longer = bytes.clone();
        longer.push(0);
        assert_eq!(again(&longer), None, "{name} with a byte more");
        for at in 0..bytes.len() {
            for change in [0x01, 0x80, 0xff] {
                let mut damaged = bytes.clone();
                damaged[at] ^= change;
                check(&damaged);
            }
        }
        for _ in 0..200 {
            let mut damaged = bytes.clone();
            for _ in 0..=rng.next_u32() % 8 {
                let at = rng.next_u32() as usize % damaged.len();
                damaged[at] = rng.next_u32() as u8;
            }
            check(&damaged);
            let mut noise = vec![0; rng.next_u32() as usize % 400];
            rng.fill_bytes(&mut noise);
            check(&noise);
        }
    }
}

#[test]
fn a_damaged_message_is_never_taken() {
    // Whatever bit of a message is flipped, it is malformed, of other terms, or badly signed.
    let federation = Federation::new(3, updates(4));
    let (_, _, keys) = federation.keys(&[]).unwrap();
    let bytes = keys.messages()[0].encode();
    for bit in 0..8 * bytes.len() {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let taken = Signed::<Keys>::decode(&damaged, &federation.context).and_then(|message| {
            coordinator::CollectingKeys::new(federation.context.clone()).receive(message)
        });
        assert!(taken.is_err(), "bit {bit}");
    }
}

#[test]
fn a_value_costs_four_bytes() {
    let federation = Federation::new(3, updates(10_000));
    let (states, collecting) = federation.dealings(&Drops::default()).unwrap();
    let (_, dealings) = collecting.close().unwrap();
    let (_, state) = states.into_iter().next().unwrap();
    let input = vec![0.5; 10_000];
    let (_, message) = state.mask(&dealings, Input::Update(&input), &mut Participation::default()).unwrap();
    assert_eq!(message.encode().len(), 4 * 10_000 + 99);
}
