//! Messages on the wire: their bytes, what is refused, what hostile bytes do.

use medfed_federation::report::{PrivacySpent, RunStatus};
use medfed_federation::site::LocalReport;
use medfed_protocol::envelope::{MOST_HEAD_BYTES, Party};
use medfed_protocol::message::{Certified, DeclineCode, Offer, RefusalCode, ToCoordinator, ToSite, Trained};
use medfed_protocol::site::{LocalResult, SiteEvent};
use medfed_protocol::{CoordinatorEvent, DecodeError, Packet, Payload, Rejected, Signer};
use medfed_types::{NoiseMultiplier, RoundId, RunId, SecretKey, SiteId};
use proptest::prelude::*;
use std::fmt::Write as _;

fn site() -> SiteId {
    SiteId::try_from("North").expect("it is valid")
}

fn signer(party: Party) -> Signer {
    Signer::new(party, &SecretKey::from_bytes([7; 32]))
}

fn run() -> RunId {
    RunId::try_from("run-1").expect("it is valid")
}

fn key(signer: &Signer) -> ed25519_dalek::VerifyingKey {
    ed25519_dalek::VerifyingKey::from_bytes(&signer.verifying_key()).expect("it is valid")
}

fn report() -> LocalReport {
    LocalReport {
        steps: 5,
        train_loss: Some(0.5),
        images: None,
        units: None,
        clipped_fraction: None,
        non_finite_units: None,
        privacy: Some(PrivacySpent {
            sampling_rate: 0.25,
            noise_multiplier: 1.0,
            epsilon_total: 2.0,
            epsilon_pld: 2.0,
            epsilon_rdp: 2.5,
        }),
        can_continue: true,
    }
}

fn to_site() -> Vec<(&'static str, ToSite, Payload)> {
    let round = RoundId(3);
    let offer = Offer {
        configuration: "model: {}\n".to_owned(),
        rounds: 10,
        cohort: vec![Certified { site: site(), certificate: vec![1, 2, 3] }],
        revocations: vec![4],
    };
    let noise = NoiseMultiplier::new(1.5).ok();
    let model = Payload::of_values(&[0.5, -1.0]);
    vec![
        ("offer", ToSite::Offer, offer.to_bytes().into()),
        ("train", ToSite::Train { round, attempt: 1, hospitals: 4, noise }, model.clone()),
        ("masking", ToSite::Masking { round }, vec![9].into()),
        ("evaluate", ToSite::Evaluate { round: Some(round) }, model.clone()),
        ("cosign", ToSite::Cosign { round }, vec![8].into()),
        ("round over", ToSite::RoundOver { round, completed: true }, Payload::default()),
        ("ended", ToSite::Ended { status: RunStatus::Completed, reason: None, best_round: Some(2) }, model),
        (
            "refused",
            ToSite::Refused { code: RefusalCode::TooLate, reason: "the run has begun".to_owned() },
            Payload::default(),
        ),
    ]
}

fn to_coordinator() -> Vec<(&'static str, ToCoordinator, Payload)> {
    let round = RoundId(3);
    let update = Trained::Update { weight: Some(20.0), report: report() };
    let declined = ToCoordinator::Declined {
        round: Some(round),
        code: DeclineCode::Budget,
        reason: "enough".to_owned(),
    };
    vec![
        ("join", ToCoordinator::Join, vec![1].into()),
        ("trained", ToCoordinator::Trained { round, result: update }, Payload::of_values(&[0.25])),
        ("masking", ToCoordinator::Masking { round }, vec![9].into()),
        ("evaluated", ToCoordinator::Evaluated { round: None }, Payload::default()),
        ("cosigned", ToCoordinator::Cosigned { round }, vec![8].into()),
        ("declined", declined, Payload::default()),
        ("left", ToCoordinator::Left, Payload::default()),
    ]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[test]
fn the_bytes_of_messages_stay_as_they_are() {
    let coordinator = signer(Party::Coordinator);
    let north = signer(Party::Site(site()));
    let mut lines = String::new();
    for (name, message, attachment) in to_site() {
        let packet = coordinator.seal(&run(), Party::Site(site()), (1, 0), message, attachment);
        let _ = writeln!(lines, "to site, {name}: {}", hex(&packet.to_bytes()));
    }
    for (name, message, attachment) in to_coordinator() {
        let packet = north.seal(&run(), Party::Coordinator, (2, 1), message, attachment);
        let _ = writeln!(lines, "to coordinator, {name}: {}", hex(&packet.to_bytes()));
    }
    insta::assert_snapshot!(lines);
}

#[test]
fn what_was_said_is_read() {
    let coordinator = signer(Party::Coordinator);
    for (name, message, attachment) in to_site() {
        let packet =
            coordinator.seal(&run(), Party::Site(site()), (5, 0), message.clone(), attachment.clone());
        let packet = Packet::from_bytes(&packet.to_bytes()).unwrap();
        let envelope = packet.open::<ToSite>(&key(&coordinator)).unwrap();
        assert_eq!(
            (envelope.message, envelope.number, packet.attachment()),
            (message, 5, &attachment),
            "{name}"
        );
        assert!(packet.head().len() < 512, "{name} is small");
    }
}

#[test]
fn what_was_not_signed_is_refused() {
    let coordinator = signer(Party::Coordinator);
    let message = || ToSite::Masking { round: RoundId(1) };
    let packet = coordinator.seal(&run(), Party::Site(site()), (1, 0), message(), vec![1, 2].into());
    let other = Signer::new(Party::Coordinator, &SecretKey::from_bytes([8; 32]));
    assert!(matches!(packet.open::<ToSite>(&key(&other)), Err(Rejected::Signature { .. })));
    let swapped = Packet::new(packet.head().clone(), vec![1, 3].into());
    assert!(matches!(swapped.open::<ToSite>(&key(&coordinator)), Err(Rejected::Attachment { .. })));
    let cut = Packet::new(packet.head().clone(), vec![1].into());
    assert!(matches!(cut.open::<ToSite>(&key(&coordinator)), Err(Rejected::Attachment { .. })));
    let mut newer = packet.head().as_bytes().to_vec();
    newer[0] = 2;
    let newer = Packet::new(newer.into(), Payload::default());
    let expected = DecodeError::Version { found: 2, expected: 1 };
    assert_eq!(newer.open::<ToSite>(&key(&coordinator)), Err(Rejected::Unreadable(expected)));
    let huge = Packet::new(vec![1; MOST_HEAD_BYTES + 1].into(), Payload::default());
    let found = huge.open::<ToSite>(&key(&coordinator));
    assert!(matches!(found, Err(Rejected::Unreadable(DecodeError::TooLong { .. }))));
    let claimed = [&u32::MAX.to_le_bytes()[..], &[0; 8]].concat();
    assert!(matches!(Packet::from_bytes(&claimed), Err(DecodeError::TooLong { .. })));
}

#[test]
fn signers_do_not_print_their_keys() {
    assert_eq!(format!("{:?}", signer(Party::Coordinator)), "Signer(the coordinator, <redacted>)");
}

#[test]
fn events_read_back() {
    let coordinator = signer(Party::Coordinator);
    let packet = coordinator.seal(&run(), Party::Site(site()), (1, 0), ToSite::Offer, vec![1].into());
    for event in [
        CoordinatorEvent::Started,
        CoordinatorEvent::Message { from: site(), packet: packet.clone() },
        CoordinatorEvent::Sealed { checkpoint: vec![1, 2].into() },
        CoordinatorEvent::Wake,
    ] {
        assert_eq!(CoordinatorEvent::from_bytes(&event.to_bytes()).as_ref(), Ok(&event));
    }
    let state = || {
        Box::new(medfed_federation::Snapshot {
            owner: "site North".to_owned(),
            meta: serde_json::json!({ "momentum": 3, "rate": 0.1 }),
            blobs: [("optimizer".to_owned(), vec![0, 255])].into(),
        })
    };
    let update = |delta| LocalResult::Update { delta, weight: 3.0, report: report() };
    for event in [
        SiteEvent::Policy { text: "dry_run: true".to_owned(), past: Vec::new() },
        SiteEvent::Message { packet },
        SiteEvent::Trained { round: RoundId(1), result: update(Payload::of_values(&[1.0])), state: state() },
        SiteEvent::Stopped { state: state() },
        SiteEvent::Evaluated { evaluation: None },
        SiteEvent::Cosigned { note: vec![5].into() },
        SiteEvent::Unable { code: DeclineCode::Failed, reason: "disk full".to_owned(), state: Some(state()) },
    ] {
        assert_eq!(SiteEvent::from_bytes(&event.to_bytes()).as_ref(), Ok(&event));
    }
}

proptest! {
    #[test]
    fn changed_packets_are_refused_or_the_same(
        which in 0usize..7, place in any::<prop::sample::Index>(), bit in 0u8..8, cut in any::<bool>(),
    ) {
        let north = signer(Party::Site(site()));
        let (_, message, attachment) = to_coordinator().swap_remove(which);
        let mut bytes = north.seal(&run(), Party::Coordinator, (2, 1), message, attachment).to_bytes();
        let place = place.index(bytes.len());
        if cut { bytes.truncate(place) } else { bytes[place] ^= 1 << bit }
        let opened = Packet::from_bytes(&bytes).map(|packet| packet.open::<ToCoordinator>(&key(&north)));
        prop_assert!(!matches!(opened, Ok(Ok(_))));
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..400), tag in 0u8..6) {
        let _ = Packet::from_bytes(&bytes);
        let _ = Packet::peek::<ToSite>(&bytes);
        let _ = Packet::peek::<ToCoordinator>(&bytes);
        let _ = Offer::from_bytes(&bytes);
        let tagged = [&[tag], &bytes[..]].concat();
        let _ = CoordinatorEvent::from_bytes(&tagged);
        let _ = SiteEvent::from_bytes(&tagged);
    }
}
