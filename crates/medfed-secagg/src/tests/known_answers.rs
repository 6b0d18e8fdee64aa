//! Published answers of the primitives, and those of a second implementation for what is built from them.

use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{ChaCha20Poly1305, Nonce, Tag};
use hkdf::Hkdf;
use medfed_types::SecretKey;
use serde_json::Value;
use sha2::Sha256;

use super::federation::*;
use crate::agreement::{AgreementSecret, DerivedKey, derive};
use crate::field::Fe;
use crate::mask::{Sign, fold};
use crate::shamir::{Seed, point, rebuild, weights};
use crate::site::{pairwise, self_mask_key};
use crate::wire::Reader;
use crate::*;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(16)).collect();
    digits.chunks_exact(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
}

fn hex32(text: &str) -> [u8; 32] {
    hex(text).try_into().unwrap()
}

fn stored() -> Value {
    serde_json::from_str(include_str!("../../../../testdata/secagg.json")).unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn numbers(value: &Value) -> impl Iterator<Item = u64> {
    value.as_array().unwrap().iter().map(|it| it.as_u64().unwrap())
}

fn seed(value: &Value) -> Seed {
    let bytes: Vec<u8> = numbers(value).flat_map(u64::to_le_bytes).collect();
    Seed::read(&mut Reader::new(&bytes)).unwrap()
}

#[test]
fn x25519_of_rfc_7748() {
    // Section 6.1.
    let alice = AgreementSecret::from_bytes(hex32(
        "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a",
    ));
    let bob = AgreementSecret::from_bytes(hex32(
        "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb",
    ));
    let public = hex32("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a");
    assert_eq!(alice.public(), public);
    let shared = hex32("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742");
    assert_eq!(bob.agree(&public).unwrap().as_bytes(), &shared);
}

#[test]
fn ed25519_of_rfc_8032() {
    // Section 7.1, test 2.
    let key =
        SecretKey::from_bytes(hex32("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb"));
    let identity = Identity::new(name(0), &key);
    let public = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c";
    assert_eq!(identity.verifying_key(), hex32(public));
    let signature = hex("92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
         085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00");
    assert_eq!(identity.sign(&[0x72]).to_vec(), signature);
}

#[test]
fn hkdf_of_rfc_5869() {
    // Appendix A.1.
    let mut okm = [0; 42];
    let salt = hex("000102030405060708090a0b0c");
    let hkdf = Hkdf::<Sha256>::new(Some(&salt), &[0x0b; 22]);
    hkdf.expand(&hex("f0f1f2f3f4f5f6f7f8f9"), &mut okm).unwrap();
    let expected = "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865";
    assert_eq!(okm.to_vec(), hex(expected));
}

#[test]
fn chacha20_poly1305_of_rfc_8439() {
    // Section 2.8.2.
    let key = hex32("808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f");
    let mut message =
        *b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the \
        future, sunscreen would be it.";
    let plain = message;
    let nonce: [u8; 12] = hex("070000004041424344454647").try_into().unwrap();
    let aad = hex("50515253c0c1c2c3c4c5c6c7");
    let cipher = ChaCha20Poly1305::new(&key.into());
    let tag =
        cipher.encrypt_inout_detached(&Nonce::from(nonce), &aad, message.as_mut_slice().into()).unwrap();
    assert_eq!(message[..16], hex("d31a8d34648e60db7b86afbc53ef7ec2"));
    assert_eq!(tag, Tag::from(<[u8; 16]>::try_from(hex("1ae10b594f09e26a7e902ecbd0600691")).unwrap()));
    cipher.decrypt_inout_detached(&Nonce::from(nonce), &aad, message.as_mut_slice().into(), &tag).unwrap();
    assert_eq!(message, plain);
}

#[test]
fn shares_of_a_second_implementation_rebuild() {
    for sharing in stored()["shamir"].as_array().unwrap() {
        let threshold = sharing["threshold"].as_u64().unwrap() as usize;
        let holders: Vec<SiteIndex> = numbers(&sharing["holders"]).map(|it| index(it as usize)).collect();
        let shares: Vec<Seed> = sharing["shares"].as_array().unwrap().iter().map(seed).collect();
        let expected = seed(&sharing["seed"]).to_bytes();
        for start in 0..=holders.len() - threshold {
            let some: Vec<_> = holders.iter().copied().zip(&shares).skip(start).take(threshold).collect();
            let points: Vec<Fe> = some.iter().map(|(holder, _)| point(*holder)).collect();
            assert_eq!(rebuild(&some, &weights(&points, Fe::ZERO)).to_bytes(), expected);
            // One fewer rebuilds something else.
            let fewer = rebuild(&some[1..], &weights(&points[1..], Fe::ZERO));
            assert_ne!(fewer.to_bytes(), expected);
        }
    }
}

#[test]
fn keys_and_streams_of_a_second_implementation() {
    let stored = stored();
    let answer = &stored["derive"];
    let sites: Vec<SiteIndex> = numbers(&answer["sites"]).map(|it| index(it as usize)).collect();
    let transcript = Digest::of("keys", &[b"a", b""]);
    assert_eq!(transcript.as_bytes(), &hex32(text(&answer["transcript"])));
    let key = derive(&hex(text(&answer["secret"])), transcript, text(&answer["purpose"]), &sites);
    assert_eq!(key.expose(), &hex32(text(&answer["key"])));

    let answer = &stored["stream"];
    let mut words = vec![0; 5000];
    fold(&mut words, &[(DerivedKey::from_bytes(hex32(text(&answer["key"]))), Sign::Plus)]);
    assert!(numbers(&answer["first"]).eq(words[..8].iter().map(|word| u64::from(*word))));
    assert!(numbers(&answer["from_4996"]).eq(words[4996..].iter().map(|word| u64::from(*word))));
}

#[test]
fn masked_inputs_of_a_second_implementation() {
    let stored = stored();
    let answer = &stored["session"];
    let transcript = Digest::new(hex32(text(&answer["transcript"])));
    let context = Digest::new(hex32(text(&answer["context"])));
    let list = |key: &str| answer[key].as_array().unwrap().clone();
    let secrets: Vec<AgreementSecret> =
        list("mask_seeds").iter().map(|it| AgreementSecret::of_seed(&seed(it), context)).collect();
    for (secret, public) in secrets.iter().zip(list("public_mask_keys")) {
        assert_eq!(secret.public(), hex32(text(&public)));
    }
    let federation = Federation::new(3, updates(11));
    let mut sum = [0u32; 11];
    for (me, secret) in secrets.iter().enumerate() {
        let values: Vec<f32> =
            list("values")[me].as_array().unwrap().iter().map(|it| it.as_f64().unwrap() as f32).collect();
        let mut words = Input::Update(&values).quantise(&federation.context).unwrap();
        sum.iter_mut().zip(&words).for_each(|(sum, word)| *sum = sum.wrapping_add(*word));
        let own = self_mask_key(&seed(&list("self_seeds")[me]), transcript, index(me));
        let mut masks = vec![(own, Sign::Plus)];
        for (other, peer) in secrets.iter().enumerate().filter(|(other, _)| *other != me) {
            let shared = secret.agree(&peer.public()).unwrap();
            masks.push(pairwise(&shared, transcript, index(me), index(other)));
        }
        fold(&mut words, &masks);
        assert!(numbers(&list("masked")[me]).eq(words.iter().map(|word| u64::from(*word))), "site {me}");
    }
    let expected = list("sum");
    let sum = sum.iter().map(|word| i64::from(word.cast_signed()));
    assert!(expected.iter().map(|it| it.as_i64().unwrap()).eq(sum));
}
