//! Every message of secure aggregation: the first byte says which, the rest follows a head that fits. What
//! is read is written again to the same bytes: there is no second encoding.
#![no_main]

use libfuzzer_sys::fuzz_target;
use medfed_secagg::groups::{Coin, CoinCommitment};
use medfed_secagg::message::{
    Consent, Dealing, Keys, MaskedInput, Products, Proposal, Unmasking, VectorShare,
};
use medfed_secagg::{
    Broadcast, ClipRange, Contribution, Digest, Identity, MessageKind, NormBound, Roster, SessionContext,
    SessionId, SessionTerms, Signed, SiteNoise,
};
use medfed_types::{RoundId, SecretKey, SiteId};
use std::sync::LazyLock;

/// A selection among four sites with two values each.
static CONTEXT: LazyLock<SessionContext> = LazyLock::new(|| {
    let names: Vec<SiteId> = ["a", "b", "c", "d"].map(|name| SiteId::try_from(name).unwrap()).into();
    let key = SecretKey::from_bytes([1; 32]);
    let identity = |name: &SiteId| Identity::new(name.clone(), &key.subkey(&name.to_string(), &[]));
    let keys = names.iter().map(|name| (name.clone(), identity(name).verifying_key()));
    let roster = Roster::new(keys).unwrap();
    let terms = SessionTerms {
        session: SessionId([1; 16]),
        round: RoundId(1),
        configuration: Digest::new([1; 32]),
        model: Digest::new([2; 32]),
        threshold: SessionTerms::least_threshold(4),
        cohort: names,
        min_clients: 3,
        noise: SiteNoise::Private,
        contribution: Contribution::Selection {
            parameters: 2,
            range: ClipRange::new(1.0).unwrap(),
            norm: NormBound::new(2.0).unwrap(),
        },
    };
    SessionContext::new(terms, &roster).unwrap()
});

/// Version, kind and digest of the terms, which no fuzzer finds by chance.
fn with_head(kind: MessageKind, many: u8, rest: &[u8]) -> Vec<u8> {
    let digest = CONTEXT.digest();
    [&[1, kind as u8 | many], digest.as_bytes().as_slice(), rest].concat()
}

macro_rules! signed {
    ($kind:ident, $bytes:expr) => {{
        let bytes = with_head(MessageKind::$kind, 0, $bytes);
        if let Ok(message) = Signed::<$kind>::decode(&bytes, &CONTEXT) {
            assert_eq!(message.encode(), bytes);
        }
        let bytes = with_head(MessageKind::$kind, 0x80, $bytes);
        if let Ok(messages) = Broadcast::<$kind>::decode(&bytes, &CONTEXT) {
            assert_eq!(messages.encode(&CONTEXT), bytes);
        }
    }};
}

macro_rules! plain {
    ($kind:ident, $bytes:expr) => {{
        let bytes = with_head(MessageKind::$kind, 0, $bytes);
        if let Ok(message) = $kind::decode(&bytes, &CONTEXT) {
            assert_eq!(message.encode(&CONTEXT), bytes);
        }
    }};
}

fuzz_target!(|data: &[u8]| {
    let Some((kind, bytes)) = data.split_first() else { return };
    match kind % 10 {
        0 => signed!(Keys, bytes),
        1 => signed!(Dealing, bytes),
        2 => signed!(MaskedInput, bytes),
        3 => signed!(Consent, bytes),
        4 => signed!(Unmasking, bytes),
        5 => signed!(Products, bytes),
        6 => signed!(CoinCommitment, bytes),
        7 => signed!(Coin, bytes),
        8 => plain!(Proposal, bytes),
        _ => plain!(VectorShare, bytes),
    }
});
