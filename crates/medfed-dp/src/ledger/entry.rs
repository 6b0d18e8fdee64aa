//! One entry: fixed-length binary, little endian, so that its digest has one meaning.
//!
//! `format ‖ previous ‖ round ‖ steps asked ‖ steps granted ‖ accountant ‖ unit ‖ secure ‖ rate ‖ noise ‖
//! clip ‖ expected batch size ‖ delta ‖ budget ‖ inputs ‖ digest`, where the digest is the SHA-256 of all
//! bytes before it.

use crate::accountant::{Accountant, Phase};
use crate::error::EntryProblem;
use crate::ledger::RoundRequest;
use crate::plan::{ExpectedBatchSize, PlanTerms, PrivacyUnit};
use medfed_types::{ClipNorm, Delta, Epsilon, NoiseMultiplier, RoundId, RunId, SamplingRate, SiteId};
use sha2::{Digest as _, Sha256};

pub(crate) type Digest = [u8; 32];

const FORMAT: u8 = 1;
/// Bytes of format and previous digest, which stand first.
const CHAIN: usize = 1 + 32;
const BODY: usize = CHAIN + 4 + 8 + 8 + 3 + 6 * 8 + 32;
/// Bytes of an encoded entry.
pub(crate) const LENGTH: usize = BODY + 32;

/// What the first entry of a run's and site's ledger continues.
pub(crate) fn genesis(run: &RunId, site: &SiteId) -> Digest {
    let mut hash = Sha256::new_with_prefix(b"medfed ledger v1\0");
    for name in [run.as_str(), site.as_str()] {
        hash.update((name.len() as u64).to_le_bytes());
        hash.update(name);
    }
    hash.finalize().into()
}

/// The terms of a plan that decide a step's sum and its noise.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct PaidTerms {
    pub(crate) unit: PrivacyUnit,
    pub(crate) rate: SamplingRate,
    pub(crate) noise: NoiseMultiplier,
    pub(crate) clip: ClipNorm,
    pub(crate) expected_batch_size: ExpectedBatchSize,
    pub(crate) secure_mode: bool,
}

impl PaidTerms {
    pub(crate) fn of(terms: &PlanTerms) -> Self {
        let PlanTerms { unit, rate, noise, clip, expected_batch_size, secure_mode, .. } = *terms;
        Self { unit, rate, noise, clip, expected_batch_size, secure_mode }
    }
}

/// A paid round.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) previous: Digest,
    pub(crate) round: RoundId,
    pub(crate) asked: u64,
    pub(crate) granted: u64,
    pub(crate) terms: PaidTerms,
    pub(crate) accountant: Accountant,
    pub(crate) delta: Delta,
    pub(crate) budget: Epsilon,
    pub(crate) inputs: [u8; 32],
    pub(crate) digest: Digest,
}

impl Entry {
    /// The entry after `previous`.
    pub(crate) fn new(previous: Digest, terms: &PlanTerms, request: RoundRequest, granted: u64) -> Self {
        let mut entry = Self {
            previous,
            round: request.round,
            asked: request.steps.get(),
            granted,
            terms: PaidTerms::of(terms),
            accountant: terms.accountant,
            delta: terms.delta,
            budget: terms.budget,
            inputs: request.inputs,
            digest: [0; 32],
        };
        entry.digest = Sha256::digest(entry.body()).into();
        entry
    }

    /// What the entry adds to the history.
    pub(crate) fn phase(&self) -> Phase {
        Phase { rate: self.terms.rate, noise: self.terms.noise, steps: self.granted }
    }

    /// The first part in which another request for the same round differs, in words.
    pub(crate) fn difference(&self, terms: &PlanTerms, request: RoundRequest) -> Option<&'static str> {
        let (paid, asked) = (self.terms, PaidTerms::of(terms));
        [
            (paid.unit != asked.unit, "privacy unit"),
            (paid.rate != asked.rate, "sampling rate"),
            (paid.noise != asked.noise, "noise multiplier"),
            (paid.clip != asked.clip, "clipping norm"),
            (paid.expected_batch_size != asked.expected_batch_size, "expected batch size"),
            (paid.secure_mode != asked.secure_mode, "secure mode"),
            (self.asked != request.steps.get(), "number of steps"),
            (self.inputs != request.inputs, "start (parameters, settings or data)"),
        ]
        .iter()
        .find_map(|(differs, what)| differs.then_some(*what))
    }

    /// The record that is stored.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut record = self.body();
        record.extend_from_slice(&self.digest);
        record
    }

    /// Digest of what the entry pays for, wherever it stands in the chain: two runs with one key and one
    /// piece of work draw the same noise for the same sum.
    pub(crate) fn work(&self) -> Digest {
        let body = self.body();
        Sha256::new_with_prefix(b"medfed paid work v1\0").chain_update(&body[CHAIN..]).finalize().into()
    }

    /// Reads a record and checks its digest and every range.
    pub(crate) fn decode(record: &[u8]) -> Result<Self, EntryProblem> {
        if let Some(found) = record.first().copied().filter(|format| *format != FORMAT) {
            return Err(EntryProblem::Format { found });
        }
        let length = || EntryProblem::Length { expected: LENGTH, found: record.len() };
        let (body, digest) = record.split_at_checked(BODY).ok_or_else(length)?;
        let digest: Digest = digest.try_into().map_err(|_| length())?;
        if Digest::from(Sha256::digest(body)) != digest {
            return Err(EntryProblem::Digest);
        }
        let range = |field| EntryProblem::Range { field };
        let mut fields = Fields(&body[1..]);
        let entry = Self {
            previous: fields.take(),
            round: RoundId(u32::from_le_bytes(fields.take())),
            asked: u64::from_le_bytes(fields.take()),
            granted: u64::from_le_bytes(fields.take()),
            accountant: match fields.take() {
                [0] => Accountant::Pld,
                [1] => Accountant::Rdp,
                _ => return Err(range("its accountant")),
            },
            terms: PaidTerms {
                unit: match fields.take() {
                    [0] => PrivacyUnit::Image,
                    [1] => PrivacyUnit::Patient,
                    _ => return Err(range("its unit")),
                },
                secure_mode: match fields.take() {
                    [0] => false,
                    [1] => true,
                    _ => return Err(range("its secure mode")),
                },
                rate: SamplingRate::new(fields.real()).map_err(|_| range("its sampling rate"))?,
                noise: NoiseMultiplier::new(fields.real()).map_err(|_| range("its noise multiplier"))?,
                clip: ClipNorm::new(fields.real()).map_err(|_| range("its clipping norm"))?,
                expected_batch_size: ExpectedBatchSize::new(fields.real())
                    .map_err(|_| range("its expected batch size"))?,
            },
            delta: Delta::new(fields.real()).map_err(|_| range("its delta"))?,
            budget: Epsilon::new(fields.real()).map_err(|_| range("its budget"))?,
            inputs: fields.take(),
            digest,
        };
        if entry.granted == 0 || entry.granted > entry.asked {
            return Err(range("its steps"));
        }
        Ok(entry)
    }

    /// Everything before the digest.
    fn body(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(LENGTH);
        body.push(FORMAT);
        body.extend_from_slice(&self.previous);
        body.extend_from_slice(&self.round.0.to_le_bytes());
        body.extend_from_slice(&self.asked.to_le_bytes());
        body.extend_from_slice(&self.granted.to_le_bytes());
        body.push(match self.accountant {
            Accountant::Pld => 0,
            Accountant::Rdp => 1,
        });
        body.push(match self.terms.unit {
            PrivacyUnit::Image => 0,
            PrivacyUnit::Patient => 1,
        });
        body.push(u8::from(self.terms.secure_mode));
        for real in [
            self.terms.rate.get(),
            self.terms.noise.get(),
            self.terms.clip.get(),
            self.terms.expected_batch_size.get(),
            self.delta.get(),
            self.budget.get(),
        ] {
            body.extend_from_slice(&real.to_le_bytes());
        }
        body.extend_from_slice(&self.inputs);
        body
    }
}

/// The rest of a body whose length was checked.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (field, rest) = self.0.split_first_chunk().expect("BODY is the sum of all fields' lengths");
        self.0 = rest;
        *field
    }

    fn real(&mut self) -> f64 {
        f64::from_le_bytes(self.take())
    }
}
