//! What comes from the network and from the log, before any signature is verified: the first byte says
//! which. Read or refused, never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use medfed_protocol::Packet;
use medfed_protocol::coordinator::CoordinatorEvent;
use medfed_protocol::message::{Offer, ToCoordinator, ToSite};
use medfed_protocol::policy::Policy;
use medfed_protocol::site::SiteEvent;

fuzz_target!(|data: &[u8]| {
    let Some((kind, bytes)) = data.split_first() else { return };
    match kind % 6 {
        0 => drop(Packet::peek::<ToCoordinator>(bytes)),
        1 => drop(Packet::peek::<ToSite>(bytes)),
        2 => drop(Offer::from_bytes(bytes)),
        3 => {
            if let Ok(event) = CoordinatorEvent::from_bytes(bytes) {
                assert!(CoordinatorEvent::from_bytes(&event.to_bytes()).is_ok());
            }
        }
        4 => {
            if let Ok(event) = SiteEvent::from_bytes(bytes) {
                assert!(SiteEvent::from_bytes(&event.to_bytes()).is_ok());
            }
        }
        _ => drop(std::str::from_utf8(bytes).map(|text| Policy::from_yaml(text, "policy.yaml"))),
    }
});
