//! What a coordinator and fewer than t sites see says nothing of the others but their sum.

use super::federation::*;
use crate::agreement::DerivedKey;
use crate::agreement::{AgreementSecret, SharedSecret};
use crate::mask::{Sign, fold};
use crate::roster::Identity;
use crate::selection::HeldShare;
use crate::shamir::Seed;
use crate::site::Participation;
use crate::*;
use zeroize::ZeroizeOnDrop;

const SITES: usize = 5;
const LENGTH: usize = 512;

/// Everything that is on the wire of a session without the masked inputs; then those; then the sum.
fn view(inputs: &[Vec<f32>]) -> (Vec<Vec<u8>>, Vec<Vec<u32>>, Vec<i32>) {
    let federation = Federation::new(SITES, updates(LENGTH));
    let (mut others, mut masked) = (Vec::new(), Vec::new());
    let (_, _, keys) = federation.keys(&[]).unwrap();
    others.push(keys.encode(&federation.context));
    let (states, collecting) = federation.dealings(&Drops::default()).unwrap();
    let (mut collecting, dealings) = collecting.close().unwrap();
    others.push(dealings.encode(&federation.context));
    let mut waiting = Vec::new();
    for (site, state) in states {
        let input = Input::Update(&inputs[site.get()]);
        let (state, message) = state.mask(&dealings, input, &mut Participation::default()).unwrap();
        masked.push(message.body().words.clone());
        collecting.receive(message).unwrap();
        waiting.push(state);
    }
    let (mut collecting, proposal) = collecting.close().unwrap();
    let mut agreed = Vec::new();
    for state in waiting {
        let (state, message) = state.consent(proposal).unwrap();
        others.push(message.encode());
        collecting.receive(message).unwrap();
        agreed.push(state);
    }
    let (mut collecting, agreement) = collecting.close().unwrap();
    for state in agreed {
        let message = state.unmask(&agreement).unwrap();
        others.push(message.encode());
        collecting.receive(message).unwrap();
    }
    (others, masked, collecting.close().unwrap().integers().to_vec())
}

/// Sites 3 and 4 collude with the coordinator. Sites 0, 1 and 2 have other inputs with the same sum.
fn two_worlds() -> [Vec<Vec<f32>>; 2] {
    // Steps that are exact in fixed point.
    let value = |site: usize, at: usize| ((site * 31 + at * 7) % 17) as f32 / 64.0 - 0.125;
    let inputs: Vec<Vec<f32>> =
        (0..SITES).map(|site| (0..LENGTH).map(|at| value(site, at)).collect()).collect();
    let mut rotated = inputs.clone();
    rotated[..3].rotate_left(1);
    [inputs, rotated]
}

#[test]
fn only_masked_inputs_depend_on_inputs() {
    let [one, other] = two_worlds().map(|inputs| view(&inputs));
    assert_eq!(one.0, other.0, "keys, dealings, consents and released shares are the same bytes");
    assert_eq!(one.2, other.2, "and so is the opened sum");
    assert_eq!(one.1[3..], other.1[3..]);
    assert_ne!(one.1[0], other.1[0]);
}

#[test]
fn the_view_of_one_world_is_a_view_of_the_other() {
    // What the colluders miss of the masks of sites 0, 1 and 2 are the masks between these three. The
    // masked inputs of one world are those of the other under other such masks: m01 + d0, m02 and
    // m12 + d0 + d1, where d is what the inputs differ by. Uniform masks are as likely as shifted ones,
    // so the view tells nothing but d0 + d1 + d2 = 0.
    let federation = Federation::new(SITES, updates(LENGTH));
    let worlds = two_worlds();
    let (_, masked, _) = view(&worlds[0]);
    let words = |world: usize, site: usize| {
        Input::Update(&worlds[world][site]).quantise(&federation.context).unwrap()
    };
    let difference = |site: usize| {
        let (before, after) = (words(0, site), words(1, site));
        before.into_iter().zip(after).map(|(a, b)| a.wrapping_sub(b)).collect::<Vec<u32>>()
    };
    let (d0, d1, d2) = (difference(0), difference(1), difference(2));
    let mask = |site: usize| -> Vec<u32> {
        masked[site].iter().zip(words(0, site)).map(|(word, value)| word.wrapping_sub(value)).collect()
    };
    let (m0, m1, m2) = (mask(0), mask(1), mask(2));
    for at in 0..LENGTH {
        let shift01 = d0[at];
        let shift12 = d0[at].wrapping_add(d1[at]);
        let world = |site: usize| words(1, site)[at];
        assert_eq!(world(0).wrapping_add(m0[at]).wrapping_add(shift01), masked[0][at]);
        let shifted = m1[at].wrapping_sub(shift01).wrapping_add(shift12);
        assert_eq!(world(1).wrapping_add(shifted), masked[1][at]);
        assert_eq!(world(2).wrapping_add(m2[at].wrapping_sub(shift12)), masked[2][at]);
        assert_eq!(d2[at], 0u32.wrapping_sub(shift12));
    }
}

#[test]
fn masked_inputs_look_uniform() {
    // All inputs are zero, and every masked word still is any word: the counts of byte values pass a
    // chi-square test with 255 degrees of freedom; 366 is passed by chance once in 200 000.
    let zeros = vec![vec![0.0; LENGTH]; SITES];
    let (_, masked, sum) = view(&zeros);
    assert!(sum.iter().all(|value| *value == 0));
    let mut counts = [0.0_f64; 256];
    for byte in masked.iter().flatten().flat_map(|word| word.to_le_bytes()) {
        counts[usize::from(byte)] += 1.0;
    }
    let expected = (SITES * LENGTH * 4) as f64 / 256.0;
    let statistic: f64 = counts.iter().map(|count| (count - expected).powi(2) / expected).sum();
    assert!(statistic < 366.0, "{statistic}");
}

#[test]
fn every_mask_is_missed_by_whoever_lacks_its_key() {
    // With all but one of a site's masks taken away, the input is still under a whole stream.
    let key = |byte| DerivedKey::from_bytes([byte; 32]);
    let mut words = vec![5; 64];
    fold(&mut words, &[(key(1), Sign::Plus), (key(2), Sign::Minus), (key(3), Sign::Plus)]);
    fold(&mut words, &[(key(1), Sign::Minus), (key(3), Sign::Minus)]);
    let mut stream = vec![5; 64];
    fold(&mut stream, &[(key(2), Sign::Minus)]);
    assert_eq!(words, stream);
    assert!(words.iter().all(|word| *word != 5));
}

/// Does not compile for a type that has the trait: two implementations would fit.
macro_rules! lacks {
    ($kind:ty, $trait:path) => {{
        trait Lacks<A> {
            fn holds() {}
        }
        impl<T: ?Sized> Lacks<()> for T {}
        // Only makes the choice ambiguous.
        struct Has;
        impl<T: ?Sized + $trait> Lacks<Has> for T {}
        <$kind as Lacks<_>>::holds();
    }};
}

#[test]
fn secrets_are_wiped_never_copied_and_never_printed() {
    fn wiped<T: ZeroizeOnDrop>() {}
    wiped::<Seed>();
    wiped::<DerivedKey>();
    wiped::<x25519_dalek::StaticSecret>();
    wiped::<x25519_dalek::SharedSecret>();
    wiped::<ed25519_dalek::SigningKey>();
    lacks!(Seed, Clone);
    lacks!(DerivedKey, Clone);
    lacks!(AgreementSecret, Clone);
    lacks!(SharedSecret, Clone);
    lacks!(SharedSecret, std::fmt::Debug);
    lacks!(Identity, Clone);
    lacks!(site::AwaitingKeys, Clone);
    lacks!(site::AwaitingDealings, Clone);
    lacks!(site::AwaitingProposal, Clone);
    lacks!(site::AwaitingAgreement, Clone);
    lacks!(site::AwaitingShares, Clone);

    let federation = Federation::new(3, updates(4));
    let (states, _) = federation.dealings(&Drops::default()).unwrap();
    let printed = format!("{:?}", states.values().next().unwrap());
    for field in ["encryption", "mask", "self_seed", "self_mask", "mask_key"] {
        assert!(printed.contains(&format!("{field}: <redacted>")), "{field} in {printed}");
    }
    assert_eq!(format!("{:?}", Input::Update(&[0.125])), "updates of equal weight <redacted>");
    let bytes = [1; 16];
    assert_eq!(format!("{:?}", HeldShare::read(&bytes, 2).unwrap()), "<redacted>");
    assert!(HeldShare::read(&bytes, 1).is_none() && HeldShare::read(&bytes, 3).is_none());
}
