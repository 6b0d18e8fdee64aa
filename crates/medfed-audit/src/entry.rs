//! What is written down: the entries, each a bounded sequence of bytes with one meaning.
//!
//! Byte 0 is the format, byte 1 the kind; the fields follow in the order of the structures here, numbers
//! little-endian, text and lists behind a count of 16 bits. Reading refuses everything that writing would
//! not give.
//!
//! *Not in any entry*: images, patients, numbers of images or patients, values of updates or of
//! parameters, losses and metrics. A sampling rate is in the entries, because ε cannot be recomputed
//! without it; where it was computed from the number of units, it gives that number away. A run that selects
//! among masked updates opens their inner products to every hospital; they are in its log, so that anyone can
//! select again.

mod fields;
mod selection;

use crate::error::EntryProblem;
use crate::merkle::Digest;
use crate::wire::{Reader, Writer};
use medfed_dp::{Accountant, PrivacyUnit, Spent};
use medfed_types::{ClipNorm, Delta, Epsilon, NoiseMultiplier, RoundId, RunId, SamplingRate, SiteId};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

pub use fields::{Audience, Escape, Matter, Status};
pub use selection::{Compared, Consequence, Criterion, ExpectedNorm, Search, Selection};

const FORMAT: u8 = 1;

/// A hospital's place on the roster, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct RosterNumber(pub u16);

/// One entry.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Entry {
    /// The run begins: always entry 0.
    Started(Started),
    /// The configuration, as far as it is public.
    Configuration(Configuration),
    /// A hospital takes part.
    Hospital(Hospital),
    /// The rules of the run.
    Rules(Rules),
    /// A hospital's ledger has paid for steps.
    Payment(Payment),
    /// Something was decided or happened within a round.
    Event(Event),
    /// A round is over and the global model moved.
    Round(Round),
    /// The operator stopped the run or took it up again.
    Operator(Operator),
    /// The run is over.
    Finished(Finished),
    /// Inner products were opened, and hospitals selected by them.
    Selection(Selection),
}

/// The run begins.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Started {
    /// The run.
    pub run: RunId,
    /// When, in seconds since 1970.
    pub time: u64,
    /// The program and its version.
    pub program: String,
    /// The Ed25519 key of the log.
    pub log_key: Digest,
    /// Hospitals that have to sign each checkpoint at the least.
    pub cosignatures: u16,
    /// SHA-256 of the first global parameters.
    pub model: Digest,
    /// Whether the saved model is an average over rounds, which no round's hash describes.
    pub averaged: bool,
    /// Commitment to the whole configuration.
    pub configuration: Digest,
    /// Commitment to the data and their division between the hospitals.
    pub data: Digest,
}

/// The configuration, as far as it is public.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Configuration {
    /// A JSON object with its keys in order and without white space.
    pub json: String,
}

/// A hospital takes part.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Hospital {
    /// Its place on the roster.
    pub number: RosterNumber,
    /// Its name.
    pub site: SiteId,
    /// The Ed25519 key with which it signs checkpoints.
    pub key: Digest,
}

/// The rules of the run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Rules {
    /// How updates become one step of the global model.
    pub aggregation: String,
    /// Fewest updates that make a round.
    pub min_updates: u32,
    /// What is promised to the patients; nothing without differential privacy.
    pub privacy: Option<Promise>,
    /// What is shown to whom in every round.
    pub disclosures: Vec<Disclosure>,
    /// Protections that were given up.
    pub escapes: Vec<Escape>,
    /// What the run warned about, in sentences.
    pub warnings: Vec<String>,
}

/// What is promised to each hospital's patients.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Promise {
    /// What is protected.
    pub unit: PrivacyUnit,
    /// The clipping norm.
    pub clip: ClipNorm,
    /// The δ of the guarantee.
    pub delta: Delta,
    /// The accountant whose ε is the official one.
    pub accountant: Accountant,
    /// ε that is never passed.
    pub budget: Epsilon,
    /// Whether noise is an exact discrete Gaussian.
    pub secure_mode: bool,
}

/// Something that is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Disclosure {
    /// What.
    pub what: Matter,
    /// To whom.
    pub to: Audience,
}

/// A hospital's ledger has paid for steps.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Payment {
    /// The round.
    pub round: RoundId,
    /// The hospital.
    pub hospital: RosterNumber,
    /// Probability with which each unit joins a step.
    pub rate: SamplingRate,
    /// Noise of each step.
    pub noise: NoiseMultiplier,
    /// Steps paid for.
    pub steps: u64,
    /// ε of everything paid so far, by both accountants.
    pub spent: Spent,
}

/// Something was decided or happened.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Event {
    /// The round.
    pub round: RoundId,
    /// What: a word or several with underscores.
    pub what: String,
    /// A JSON object with its keys in order and without white space.
    pub detail: String,
}

/// A round is over.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Round {
    /// The round.
    pub round: RoundId,
    /// Hospitals whose updates moved the model, ascending.
    pub participants: Vec<RosterNumber>,
    /// The others, ascending.
    pub excluded: Vec<Excluded>,
    /// SHA-256 of the global parameters before.
    pub before: Digest,
    /// SHA-256 of the global parameters after.
    pub after: Digest,
}

/// A hospital whose update did not move the model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Excluded {
    /// The hospital.
    pub hospital: RosterNumber,
    /// Why, in words.
    pub reason: String,
}

/// The operator stopped the run or took it up again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Operator {
    /// What the operator did.
    pub action: Action,
    /// When, in seconds since 1970.
    pub time: u64,
}

/// An action of the operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// The run was stopped before its end.
    Stopped,
    /// The run was taken up again.
    Resumed,
}

/// The run is over.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finished {
    /// When, in seconds since 1970.
    pub time: u64,
    /// How.
    pub status: Status,
    /// The round of the saved model; nothing when no round was done.
    pub best_round: Option<RoundId>,
    /// SHA-256 of the saved parameters.
    pub model: Digest,
    /// SHA-256 of the model file.
    pub file: Option<Digest>,
}

/// A commitment to `value`: whoever has the salt can show what was committed to, and once the salt is gone
/// nobody can find out.
pub fn commitment(salt: &[u8; 32], value: &[u8]) -> Digest {
    let hash = Sha256::new_with_prefix(b"medfed audit commitment v1\0").chain_update(salt);
    Digest::new(hash.chain_update(value).finalize().into())
}

impl Entry {
    /// The bytes that are logged.
    pub fn encode(&self) -> Result<Vec<u8>, EntryProblem> {
        let mut out = Writer::default();
        out.byte(FORMAT);
        out.byte(self.kind());
        match self {
            Self::Started(it) => it.write(&mut out)?,
            Self::Configuration(it) => {
                canonical("the configuration", &it.json)?;
                out.text("the configuration", &it.json)?;
            }
            Self::Hospital(it) => {
                out.short(it.number.0);
                out.text("the hospital's name", it.site.as_str())?;
                out.digest(it.key);
            }
            Self::Rules(it) => it.write(&mut out)?,
            Self::Payment(it) => it.write(&mut out),
            Self::Event(it) => {
                canonical("the detail", &it.detail)?;
                out.int(it.round.0);
                out.text("the event", word("the event", &it.what)?)?;
                out.text("the detail", &it.detail)?;
            }
            Self::Round(it) => it.write(&mut out)?,
            Self::Operator(it) => {
                out.byte(it.action as u8);
                out.long(it.time);
            }
            Self::Finished(it) => it.write(&mut out)?,
            Self::Selection(it) => it.write(&mut out)?,
        }
        let bytes = out.finish();
        let (field, found, limit) = ("the entry", bytes.len(), crate::tile::MAX_ENTRY);
        if found > limit { Err(EntryProblem::Long { field, found, limit }) } else { Ok(bytes) }
    }

    /// Reads logged bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, EntryProblem> {
        let mut fields = Reader::new(bytes);
        match fields.byte("the format")? {
            FORMAT => {}
            found => return Err(EntryProblem::Unknown { what: "format", found }),
        }
        let entry = match fields.byte("the kind")? {
            0 => Self::Started(Started::read(&mut fields)?),
            1 => {
                let json = fields.text("the configuration")?.to_owned();
                canonical("the configuration", &json)?;
                Self::Configuration(Configuration { json })
            }
            2 => Self::Hospital(Hospital {
                number: RosterNumber(fields.short("the number")?),
                site: name("the hospital's name", fields.text("the hospital's name")?)?,
                key: fields.digest("the key")?,
            }),
            3 => Self::Rules(Rules::read(&mut fields)?),
            4 => Self::Payment(Payment::read(&mut fields)?),
            5 => {
                let round = RoundId(fields.int("the round")?);
                let what = word("the event", fields.text("the event")?)?.to_owned();
                let detail = fields.text("the detail")?.to_owned();
                canonical("the detail", &detail)?;
                Self::Event(Event { round, what, detail })
            }
            6 => Self::Round(Round::read(&mut fields)?),
            7 => {
                let action = match fields.byte("the action")? {
                    0 => Action::Stopped,
                    1 => Action::Resumed,
                    _ => return Err(EntryProblem::Range { field: "the action" }),
                };
                Self::Operator(Operator { action, time: fields.long("the time")? })
            }
            8 => Self::Finished(Finished::read(&mut fields)?),
            9 => Self::Selection(Selection::read(&mut fields)?),
            found => return Err(EntryProblem::Unknown { what: "kind", found }),
        };
        fields.finish()?;
        Ok(entry)
    }

    fn kind(&self) -> u8 {
        match self {
            Self::Started(_) => 0,
            Self::Configuration(_) => 1,
            Self::Hospital(_) => 2,
            Self::Rules(_) => 3,
            Self::Payment(_) => 4,
            Self::Event(_) => 5,
            Self::Round(_) => 6,
            Self::Operator(_) => 7,
            Self::Finished(_) => 8,
            Self::Selection(_) => 9,
        }
    }
}

/// A JSON object as text of one form: keys in order, no white space.
pub fn canonical_json(object: &serde_json::Map<String, serde_json::Value>) -> String {
    let mut value = serde_json::Value::Object(object.clone());
    value.sort_all_objects();
    value.to_string()
}

/// Refuses text that is not a JSON object in its one form.
fn canonical(field: &'static str, text: &str) -> Result<(), EntryProblem> {
    match serde_json::from_str(text) {
        Ok(serde_json::Value::Object(object)) if canonical_json(&object) == text => Ok(()),
        _ => Err(EntryProblem::Text { field }),
    }
}

fn name<'a, T: TryFrom<&'a str>>(field: &'static str, text: &'a str) -> Result<T, EntryProblem> {
    T::try_from(text).map_err(|_| EntryProblem::Text { field })
}

/// 1 to 64 lower-case letters and underscores.
fn word<'a>(field: &'static str, text: &'a str) -> Result<&'a str, EntryProblem> {
    let good = text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    if good && (1..=64).contains(&text.len()) { Ok(text) } else { Err(EntryProblem::Text { field }) }
}

#[cfg(test)]
#[path = "entry/tests.rs"]
mod tests;
