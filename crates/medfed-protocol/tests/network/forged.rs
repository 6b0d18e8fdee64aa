//! Messages of one hospital under the name of another, and messages that were heard before.

use crate::world::{coordinator, key, name, run};
use crate::{ENDLESS, OPEN, config};
use medfed_dp::{Accountant, DpPlan, ExpectedBatchSize, PlanTerms, PrivacyUnit};
use medfed_federation::{Announcement, Snapshot};
use medfed_protocol::coordinator::{Admission, CoordinatorEffect, CoordinatorMachine, Notice};
use medfed_protocol::envelope::Party;
use medfed_protocol::message::{DeclineCode, ToCoordinator, ToSite};
use medfed_protocol::site::{SiteEffect, SiteEvent, SiteMachine};
use medfed_protocol::{CoordinatorEvent, Packet, Payload, Rejected, Signer};
use medfed_types::{ClipNorm, Delta, Epsilon, ImageShape, NoiseMultiplier, RoundId, SamplingRate};
use std::collections::BTreeMap;

/// A word of `speaker` that is signed with the key of `signer`.
fn word(speaker: usize, signer: usize, number: u64, answers: u64) -> Packet {
    let signer = Signer::new(Party::Site(name(speaker)), &key(signer));
    let message = ToCoordinator::Declined { round: None, code: DeclineCode::DryRun, reason: "no".to_owned() };
    signer.seal(&run(), Party::Coordinator, (number, answers), message, Payload::default())
}

/// A coordinator that has made its offer to three.
fn offered() -> CoordinatorMachine {
    let mut machine = coordinator(&config(3, 2, OPEN), 3, ENDLESS, false);
    machine.handle(0, CoordinatorEvent::Started).expect("a coordinator that can go on");
    machine
}

fn waits_for(machine: &CoordinatorMachine) -> usize {
    machine.waiting_for().count()
}

#[test]
fn a_hospital_cannot_speak_for_another() {
    let mut machine = offered();
    // Hospital 2 speaks as hospital 1: on its own connection and signed with its own key, ...
    let refused = machine.admit(&name(2), word(1, 2, 1, 1)).unwrap_err();
    let to = Party::Coordinator.to_string();
    assert_eq!(refused, Rejected::Address { from: Party::Site(name(1)).to_string(), to });
    assert!(refused.to_string().contains("Hospital 1"), "{refused}");
    // ... with what hospital 1 has signed, ...
    let refused = machine.admit(&name(2), word(1, 1, 1, 1)).unwrap_err();
    assert_eq!(refused, Rejected::Signature { from: Party::Site(name(1)).to_string() });
    // ... and, by way of a broker that puts it on the other connection, with its own key.
    let refused = machine.admit(&name(1), word(1, 2, 1, 1)).unwrap_err();
    assert_eq!(refused, Rejected::Signature { from: Party::Site(name(1)).to_string() });
    // Somebody outside the cohort.
    let refused = machine.admit(&name(4), word(4, 4, 1, 1)).unwrap_err();
    assert_eq!(refused, Rejected::Unknown { site: name(4) });
    // A log that was tampered with stops the machine: nothing of it is handled unverified.
    let event = CoordinatorEvent::Message { from: name(2), packet: word(1, 2, 1, 1) };
    assert!(machine.handle(1, event).is_err());
    // Nothing has changed: hospital 1 is heard.
    assert_eq!(waits_for(&machine), 3);
    assert!(matches!(machine.admit(&name(1), word(1, 1, 1, 1)), Ok(Admission::Fresh(_))));
}

#[test]
fn a_message_counts_once_and_its_number_has_one_content() {
    let mut machine = offered();
    let Ok(Admission::Fresh(event)) = machine.admit(&name(1), word(1, 1, 1, 1)) else { panic!("it is new") };
    let declined = |effects: &[CoordinatorEffect]| {
        let declined = |effect: &&CoordinatorEffect| {
            matches!(effect, CoordinatorEffect::Notice(Notice::Declined { .. }))
        };
        effects.iter().filter(declined).count()
    };
    assert_eq!(declined(&machine.handle(1, event.clone()).expect("it goes on")), 1);
    // Twice by the network, twice by the log.
    assert!(matches!(machine.admit(&name(1), word(1, 1, 1, 1)), Ok(Admission::Known(_))));
    assert!(machine.handle(2, event).expect("it goes on").is_empty());
    let refused = machine.admit(&name(1), word(1, 1, 1, 0)).unwrap_err();
    assert_eq!(refused, Rejected::Changed { from: name(1).to_string(), number: 1 });
    assert_eq!(waits_for(&machine), 2);
}

#[test]
fn an_answer_to_something_else_ends_no_waiting() {
    let mut machine = offered();
    for answers in [0, 2, u64::MAX] {
        let mut machine = offered();
        let Ok(Admission::Fresh(event)) = machine.admit(&name(1), word(1, 1, 1, answers)) else {
            panic!("it is new")
        };
        let effects = machine.handle(1, event).expect("it goes on");
        // What it is asked is said again.
        let offer = |effect: &CoordinatorEffect| matches!(effect, CoordinatorEffect::Send { to, .. } if *to == name(1));
        assert!(effects.iter().any(offer), "{effects:?}");
        assert_eq!(waits_for(&machine), 3);
    }
    let Ok(Admission::Fresh(event)) = machine.admit(&name(1), word(1, 1, 7, 1)) else { panic!("it is new") };
    machine.handle(1, event).expect("it goes on");
    assert_eq!(waits_for(&machine), 2);
}

/// A hospital whose policy has room for two rounds of its plan, restarted between rounds or not.
fn rounds_until_declined(restarted: bool) -> u32 {
    let policy =
        "delta: 1e-5\nmax_epsilon_total: 8.5\nmin_hospitals: 2\nrelease: { counts: true }\n".to_owned();
    let set = ["privacy.enabled=true", "privacy.epsilon_budget=50", "secure_aggregation.enabled=false"];
    let config = config(3, 9, &set);
    let plan = DpPlan::new(PlanTerms {
        unit: PrivacyUnit::Image,
        clip: ClipNorm::new(1.0).expect("positive"),
        noise: NoiseMultiplier::new(1.0).expect("positive"),
        rate: SamplingRate::new(0.2).expect("a share"),
        expected_batch_size: ExpectedBatchSize::new(4.0).expect("positive"),
        secure_mode: true,
        delta: Delta::new(1e-5).expect("a probability"),
        accountant: Accountant::Rdp,
        budget: Epsilon::new(50.0).expect("positive"),
    });
    let announcement = Announcement {
        shape: ImageShape { channels: 1, height: 8, width: 8 },
        classes: vec!["normal".to_owned(), "pneumonia".to_owned()],
        steps: 5,
        plan: Some(plan.expect("a plan")),
        validates: false,
        attributes: Vec::new(),
        counts: None,
    };
    let mut machine = crate::world::site(1);
    let past = Vec::new();
    machine.handle(0, SiteEvent::Policy { text: policy, past }).expect("a policy");
    let coordinator = Signer::new(Party::Coordinator, &key(0));
    let mut said = 0;
    let mut says = |machine: &mut SiteMachine, message: ToSite, attachment: Payload| {
        said += 1;
        let packet = coordinator.seal(&run(), Party::Site(name(1)), (said, 0), message, attachment);
        let Ok(Admission::Fresh(event)) = machine.admit(packet) else { panic!("it is new") };
        machine.handle(said, event).expect("a site that goes on")
    };
    let offer = crate::world::offer(&config, 3);
    says(&mut machine, ToSite::Offer, offer.to_bytes().into());
    let event = SiteEvent::Prepared { announcement: Box::new(announcement) };
    machine.handle(0, event).expect("a site that goes on");
    for round in 1..=9 {
        let noise = NoiseMultiplier::new(1.0).ok();
        let train = ToSite::Train { round: RoundId(round), attempt: 1, hospitals: 3, noise };
        let effects = says(&mut machine, train, Payload::of_values(&[0.0; 4]));
        if !effects.iter().any(|effect| matches!(effect, SiteEffect::Train(_))) {
            return round;
        }
        let state = Box::new(Snapshot {
            owner: "hospital".to_owned(),
            meta: serde_json::Value::Null,
            blobs: BTreeMap::new(),
        });
        machine.handle(u64::from(round), SiteEvent::Stopped { state }).expect("a site that goes on");
        let over = ToSite::RoundOver { round: RoundId(round), completed: true };
        let effects = says(&mut machine, over, Payload::default());
        let saved = effects.into_iter().find_map(|effect| match effect {
            SiteEffect::Commit { state } => Some(state),
            _ => None,
        });
        let saved = saved.expect("the round is over");
        if restarted {
            machine = crate::world::site(1);
            machine.restore(&saved).expect("its own state");
        }
    }
    panic!("nothing was declined")
}

#[test]
fn what_was_paid_for_is_remembered_over_restarts() {
    let declined = rounds_until_declined(false);
    assert!((2..9).contains(&declined), "{declined}");
    assert_eq!(rounds_until_declined(true), declined);
}
