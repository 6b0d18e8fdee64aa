//! A small federation for tests: three hospitals, of which one sits out every third round.

use crate::checkpoint::Checkpoint;
use crate::entry::{Audience, Disclosure, Escape, Finished, Matter, Promise, Rules, Status};
use crate::error::AuditError;
use crate::merkle::Digest;
use crate::note::{PublicKey, Signature, Signer};
use crate::storage::Storage;
use crate::storage::memory::Memory;
use crate::trail::{Course, Opening, PaidSteps, Trail, log_signer, site_signer};
use crate::witness::Witness;
use crate::{Offer, verify};
use medfed_dp::{Accountant, History, Phase, PrivacyUnit, Spent};
use medfed_types::{
    ClipNorm, Delta, Epsilon, NoiseMultiplier, RoundId, RunId, SamplingRate, SecretKey, SiteId,
};
use std::collections::BTreeMap;

pub(crate) const NAMES: [&str; 3] = ["East", "North Clinic", "South"];

pub(crate) fn run() -> RunId {
    RunId::try_from("20260301-090507-1f3a").unwrap()
}

pub(crate) fn site(name: &str) -> SiteId {
    SiteId::try_from(name).unwrap()
}

pub(crate) fn model(round: u32) -> Digest {
    Digest::of(format!("model {round}").as_bytes())
}

pub(crate) fn signer() -> Signer {
    log_signer(&run(), &SecretKey::from_bytes([9; 32]))
}

pub(crate) fn hospital_signer(index: u8) -> Signer {
    site_signer(&run(), &site(NAMES[usize::from(index)]), &SecretKey::from_bytes([index + 1; 32]))
}

pub(crate) fn log_key() -> PublicKey {
    signer().public().clone()
}

pub(crate) fn promise() -> Promise {
    Promise {
        unit: PrivacyUnit::Image,
        clip: ClipNorm::new(1.0).unwrap(),
        delta: Delta::new(1e-5).unwrap(),
        accountant: Accountant::Pld,
        budget: Epsilon::new(8.0).unwrap(),
        secure_mode: false,
    }
}

pub(crate) fn rules() -> Rules {
    Rules {
        aggregation: "fedavg".to_owned(),
        min_updates: 2,
        privacy: Some(promise()),
        disclosures: vec![Disclosure { what: Matter::NoisedUpdate, to: Audience::Coordinator }],
        escapes: vec![Escape::Simulation],
        warnings: vec![],
    }
}

pub(crate) fn opening() -> Opening {
    let hospitals = (0..3).map(|index| (site(NAMES[usize::from(index)]), hospital_signer(index)));
    Opening {
        run: run(),
        time: 1_772_355_907,
        program: "medfed 0.1.0".to_owned(),
        model: model(0),
        averaged: false,
        configuration: Digest::of(b"configuration"),
        data: Digest::of(b"data"),
        public_configuration: r#"{"federated":{"num_rounds":5}}"#.to_owned(),
        hospitals: hospitals.map(|(site, signer)| (site, signer.public().clone())).collect(),
        rules: rules(),
    }
}

fn takes_part(index: u32, round: u32) -> bool {
    !(index + round).is_multiple_of(3)
}

fn history(index: u32, round: u32) -> History {
    let rate = SamplingRate::new(0.05 + 0.01 * f64::from(index)).unwrap();
    let noise = NoiseMultiplier::new(1.2).unwrap();
    let steps = 10 * (1..=round).filter(|round| takes_part(index, *round)).count() as u64;
    [Phase { rate, noise, steps }].into_iter().collect()
}

/// What the hospital has spent after the round; computed once, it takes a moment.
pub(crate) fn spent(index: u32, round: u32) -> Spent {
    thread_local!(static KNOWN: std::cell::RefCell<BTreeMap<(u32, u64), Spent>> = const { std::cell::RefCell::new(BTreeMap::new()) });
    let history = history(index, round);
    KNOWN.with_borrow_mut(|known| {
        let compute = || Spent::of(&history, Delta::new(1e-5).unwrap()).unwrap();
        *known.entry((index, history.steps())).or_insert_with(compute)
    })
}

/// What happens in a round; `logged` says how many payments of a hospital are recorded.
pub(crate) fn course(round: u32, logged: impl Fn(&SiteId) -> usize) -> Course {
    let (mut payments, mut participants, mut excluded) = (vec![], vec![], vec![]);
    for (index, name) in (0..).zip(NAMES) {
        let site = site(name);
        if !takes_part(index, round) {
            excluded.push((site, "not selected".to_owned()));
            continue;
        }
        let due = (1..=round).filter(|round| takes_part(index, *round)).count();
        if logged(&site) < due {
            let Phase { rate, noise, .. } = history(index, round).phases()[0];
            payments.push(PaidSteps {
                site: site.clone(),
                rate,
                noise,
                steps: 10,
                spent: spent(index, round),
            });
        }
        participants.push(site);
    }
    let events =
        if round == 2 { vec![("noise_raised".to_owned(), r#"{"to":1.2}"#.to_owned())] } else { vec![] };
    let (round, after) = (RoundId(round), model(round));
    Course { round, payments, events, selection: None, participants, excluded, after }
}

pub(crate) fn end() -> Finished {
    let (time, status) = (1_772_356_000, Status::Completed);
    Finished { time, status, best_round: Some(RoundId(5)), model: model(5), file: Some(Digest::of(b"file")) }
}

/// The hospitals, which outlive a crash of the coordinator: what they have signed.
#[derive(Debug, Default, Clone)]
pub(crate) struct Hospitals(pub(crate) Vec<Option<Checkpoint>>);

impl Hospitals {
    pub(crate) fn cosign(&mut self, offer: &Offer<'_>) -> Result<Vec<Signature>, AuditError> {
        self.0.resize(3, None);
        let mut signatures = Vec::new();
        for (index, seen) in (0..3).zip(&mut self.0) {
            let mut witness = Witness::new(hospital_signer(index), log_key(), seen.clone());
            let proof = offer.proof_since(witness.seen()).unwrap_or_default();
            let refused = |refusal| AuditError::Refused { site: site(NAMES[usize::from(index)]), refusal };
            let approval = witness.check(offer.signed(), &proof).map_err(refused)?;
            *seen = Some(approval.checkpoint().clone());
            signatures.push(approval.sign(1_772_355_908));
        }
        Ok(signatures)
    }
}

/// Writes rounds `from` to 5 and the end.
pub(crate) fn go_on<S: Storage>(
    trail: &mut Trail<S>,
    hospitals: &mut Hospitals,
    from: u32,
    to: u32,
) -> Result<(), AuditError> {
    for round in from..=to {
        let course = course(round, |site| trail.payments_of(site));
        trail.round(course)?;
        trail.publish(|offer| hospitals.cosign(offer))?;
    }
    Ok(())
}

/// The folder of a finished run of five rounds.
pub(crate) fn finished() -> Memory {
    let mut memory = Memory::default();
    let mut hospitals = Hospitals::default();
    let mut trail = Trail::begin(&mut memory, signer(), opening()).unwrap();
    trail.publish(|offer| hospitals.cosign(offer)).unwrap();
    go_on(&mut trail, &mut hospitals, 1, 5).unwrap();
    trail.finish(end()).unwrap();
    trail.publish(|offer| hospitals.cosign(offer)).unwrap();
    memory
}

/// What is wrong with a log, as people read it.
pub(crate) fn faults(memory: &Memory) -> Vec<String> {
    let verdict = verify(memory, &verify::Expectations::default()).unwrap();
    verdict.faults.iter().map(ToString::to_string).collect()
}
