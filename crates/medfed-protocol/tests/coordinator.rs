//! A coordinator's machine and a site that says what it was not asked for.

use medfed_config::{Config, Override};
use medfed_federation::report::PrivacySpent;
use medfed_federation::{Announcement, Counts};
use medfed_protocol::coordinator::{Admission, Configured, Notice};
use medfed_protocol::envelope::Party;
use medfed_protocol::message::{Certified, Offer, ToCoordinator, Trained};
use medfed_protocol::{
    CoordinatorEffect, CoordinatorEvent, CoordinatorMachine, CoordinatorTerms, Packet, Patience, Payload,
    Signer,
};
use medfed_types::{ImageShape, RoundId, RunId, SecretKey, Seed, SiteId};

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

fn machine() -> CoordinatorMachine {
    let set = [
        "privacy.enabled=false",
        "secure_aggregation.enabled=false",
        "robust_aggregation.enabled=false",
        "orchestrator.enabled=false",
        "model.channels=[2]",
        "training.local_steps=5",
        "federated.num_clients=4",
        "federated.min_available_clients=3",
        "federated.min_fit_clients=3",
    ];
    let set: Vec<Override> = set.iter().map(|text| Override::parse(text).expect("an override")).collect();
    let config = Config::from_yaml("model: {}", "test", &set).expect("a configuration");
    let minute = 60_000;
    let terms = CoordinatorTerms {
        run: run(),
        offer: Offer {
            configuration: config.to_yaml(),
            rounds: 2,
            cohort: (1..=4)
                .map(|number| Certified { site: name(number), certificate: public(number).to_vec() })
                .collect(),
            revocations: Vec::new(),
        },
        keys: (1..=4).map(|number| (name(number), public(number))).collect(),
        patience: Patience {
            join_ms: minute,
            train_ms: minute,
            phase_ms: minute,
            return_ms: minute,
            attempts: 2,
            lost_rounds: 2,
        },
        audited: false,
    };
    let founding = Configured { config, seed: Seed(7), parameters: None };
    CoordinatorMachine::new(terms, &key(0), SecretKey::from_bytes([99; 32]), Box::new(founding))
        .expect("a cohort that can work")
}

/// What a site says, in its message `number` as an answer to message `answers`.
fn says(
    machine: &mut CoordinatorMachine,
    site: u8,
    (number, answers): (u64, u64),
    message: ToCoordinator,
    attachment: Payload,
) -> Vec<CoordinatorEffect> {
    let signer = Signer::new(Party::Site(name(site)), &key(site));
    let packet = signer.seal(&run(), Party::Coordinator, (number, answers), message, attachment);
    let packet = Packet::from_bytes(&packet.to_bytes()).expect("its own bytes");
    match machine.admit(&name(site), packet).expect("the site's") {
        Admission::Fresh(event) => machine.handle(2, event).expect("a coordinator that goes on"),
        Admission::Known(_) => panic!("it is new"),
    }
}

/// What a site with images of this side announces.
fn announcement(side: usize) -> Payload {
    let announcement = Announcement {
        shape: ImageShape { channels: 1, height: side, width: side },
        classes: vec!["normal".to_owned(), "pneumonia".to_owned()],
        steps: 5,
        plan: None,
        validates: false,
        attributes: Vec::new(),
        counts: Some(Counts { train_images: 20, train_units: 20, validation_images: 0 }),
    };
    Payload::from(postcard::to_allocvec(&announcement).expect("known lengths"))
}

#[test]
fn a_site_that_was_refused_cannot_end_the_run() {
    let mut machine = machine();
    machine.handle(1, CoordinatorEvent::Started).expect("a coordinator that goes on");
    for site in 1..=3 {
        says(&mut machine, site, (1, 1), ToCoordinator::Join, announcement(8));
    }
    // Images of another shape: it is asked for its last word while the others train.
    let effects = says(&mut machine, 4, (1, 1), ToCoordinator::Join, announcement(16));
    let started = |effect: &CoordinatorEffect| matches!(effect, CoordinatorEffect::Notice(Notice::RoundStarted { sites, .. }) if sites.len() == 3);
    assert!(effects.iter().any(started), "{effects:?}");
    let privacy = PrivacySpent {
        sampling_rate: 0.1,
        noise_multiplier: 1.0,
        epsilon_total: 1.0,
        epsilon_pld: 1.0,
        epsilon_rdp: 1.0,
    };
    let message = ToCoordinator::Trained { round: RoundId(1), result: Trained::BudgetExhausted { privacy } };
    let effects = says(&mut machine, 4, (2, 2), message, Payload::default());
    let refused = |effect: &CoordinatorEffect| matches!(effect, CoordinatorEffect::Notice(Notice::Refused { site, .. }) if *site == name(4));
    assert!(effects.iter().any(refused), "{effects:?}");
    assert_eq!(machine.waiting_for().count(), 3);
}
