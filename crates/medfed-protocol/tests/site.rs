//! A site's machine and a coordinator that asks for what the policy does not allow, or allows no longer.

use medfed_config::{Config, Override};
use medfed_federation::{Announcement, Snapshot};
use medfed_protocol::coordinator::Admission;
use medfed_protocol::envelope::Party;
use medfed_protocol::message::{Certified, DeclineCode, Offer, ToCoordinator, ToSite};
use medfed_protocol::site::{Authority, SiteEffect, SiteEvent, SiteMachine, SiteTerms};
use medfed_protocol::{Packet, Payload, Signer};
use medfed_types::{ImageShape, RoundId, RunId, SecretKey, SiteId};

/// A certificate is the key itself.
struct Trusting;

impl Authority for Trusting {
    fn verify(&self, certified: &Certified, _: &[u8], _: u64) -> Result<[u8; 32], String> {
        certified.certificate.as_slice().try_into().map_err(|_| "it is no key".to_owned())
    }
}

fn name(number: u8) -> SiteId {
    SiteId::try_from(format!("Hospital {number}")).expect("a name")
}

fn key(number: u8) -> SecretKey {
    SecretKey::from_bytes([number + 1; 32])
}

fn public(number: u8) -> [u8; 32] {
    Signer::new(Party::Coordinator, &key(number)).verifying_key()
}

fn run() -> RunId {
    RunId::try_from("run-1").expect("a name")
}

/// The site and what the coordinator has said to it.
struct Talk {
    machine: SiteMachine,
    said: u64,
}

impl Talk {
    /// A site that has prepared for an offer under a policy.
    fn joined(policy: &str) -> Self {
        let terms = SiteTerms { run: run(), site: name(1), coordinator: public(0) };
        let secret = SecretKey::from_bytes([9; 32]);
        let machine = SiteMachine::new(terms, &key(1), secret, Box::new(Trusting)).expect("usable keys");
        let mut talk = Self { machine, said: 0 };
        talk.policy(policy);
        let set = ["privacy.enabled=false", "secure_aggregation.enabled=false", "model.channels=[2]"];
        let set: Vec<Override> = set.iter().map(|text| Override::parse(text).expect("an override")).collect();
        let config = Config::from_yaml("model: {}", "test", &set).expect("a configuration");
        let offer = Offer {
            configuration: config.to_yaml(),
            rounds: 3,
            cohort: (1..=3)
                .map(|number| Certified { site: name(number), certificate: public(number).to_vec() })
                .collect(),
            revocations: Vec::new(),
        };
        let effects = talk.says(ToSite::Offer, offer.to_bytes().into());
        assert!(matches!(effects[..], [SiteEffect::Prepare(_)]), "{effects:?}");
        let announcement = Box::new(Announcement {
            shape: ImageShape { channels: 1, height: 8, width: 8 },
            classes: vec!["normal".to_owned(), "pneumonia".to_owned()],
            steps: 5,
            plan: None,
            validates: true,
            attributes: Vec::new(),
            counts: None,
        });
        talk.machine.handle(1, SiteEvent::Prepared { announcement }).expect("a site that goes on");
        talk
    }

    fn policy(&mut self, text: &str) {
        let event = SiteEvent::Policy { text: text.to_owned(), past: Vec::new() };
        self.machine.handle(1, event).expect("a policy");
    }

    fn says(&mut self, message: ToSite, attachment: Payload) -> Vec<SiteEffect> {
        self.said += 1;
        let coordinator = Signer::new(Party::Coordinator, &key(0));
        let packet = coordinator.seal(&run(), Party::Site(name(1)), (self.said, 0), message, attachment);
        let packet = Packet::from_bytes(&packet.to_bytes()).expect("its own bytes");
        match self.machine.admit(packet).expect("the coordinator's") {
            Admission::Fresh(event) => self.machine.handle(1, event).expect("a site that goes on"),
            Admission::Known(_) => panic!("it is new"),
        }
    }

    fn trains(&mut self, round: u32) -> Vec<SiteEffect> {
        let message = ToSite::Train { round: RoundId(round), attempt: 1, hospitals: 3, noise: None };
        self.says(message, Payload::of_values(&[0.0; 4]))
    }

    fn evaluates(&mut self) -> Vec<SiteEffect> {
        self.says(ToSite::Evaluate { round: None }, Payload::of_values(&[0.0; 4]))
    }
}

/// What the site answers.
fn answer(effects: &[SiteEffect]) -> Option<ToCoordinator> {
    let site = ed25519_dalek::VerifyingKey::from_bytes(&public(1)).expect("a key");
    effects.iter().find_map(|effect| match effect {
        SiteEffect::Send(packet) => {
            Some(packet.open::<ToCoordinator>(&site).expect("the site's own").message)
        }
        _ => None,
    })
}

const POLICY: &str = "require_privacy: false\nrelease: { counts: true, metrics: true }\n";

#[test]
fn a_policy_that_changes_counts_for_the_next_round() {
    let mut talk = Talk::joined(POLICY);
    assert!(talk.trains(1).iter().any(|effect| matches!(effect, SiteEffect::Train(_))));
    let state = Box::new(Snapshot {
        owner: "hospital".to_owned(),
        meta: serde_json::Value::Null,
        blobs: std::collections::BTreeMap::new(),
    });
    talk.machine.handle(1, SiteEvent::Stopped { state }).expect("a site that goes on");
    for (more, expected) in [
        ("dry_run: true\n", DeclineCode::DryRun),
        ("protections: [sum]\n", DeclineCode::SecureMode),
        ("models: [resnet18]\n", DeclineCode::Model),
    ] {
        talk.policy(&format!("{POLICY}{more}"));
        let found = answer(&talk.trains(2));
        assert!(
            matches!(&found, Some(ToCoordinator::Declined { round: Some(RoundId(2)), code, .. })
                if *code == expected),
            "{more}: {found:?}"
        );
        assert_eq!(answer(&talk.evaluates()), Some(ToCoordinator::Evaluated { round: None }));
    }
    talk.policy(POLICY);
    assert!(talk.trains(2).iter().any(|effect| matches!(effect, SiteEffect::Train(_))));
}

#[test]
fn a_site_that_takes_no_part_measures_nothing() {
    let mut talk = Talk::joined(&format!("{POLICY}dry_run: true\n"));
    let effects = talk.evaluates();
    assert!(!effects.iter().any(|effect| matches!(effect, SiteEffect::Evaluate { .. })), "{effects:?}");
    assert_eq!(answer(&effects), Some(ToCoordinator::Evaluated { round: None }));
    let mut talk = Talk::joined(POLICY);
    assert!(talk.evaluates().iter().any(|effect| matches!(effect, SiteEffect::Evaluate { .. })));
}
