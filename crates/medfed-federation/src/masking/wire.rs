//! The bytes of a masked round: one envelope for every step, then the message of [`medfed_secagg`].
//!
//! A call of the coordinator is `version, 'C', step, phase, attempt, round (4 bytes, little endian), body`;
//! an answer is the same with `'R'` and a verdict before its body. Lengths follow from the bytes that are
//! there, so no length field can make a reader allocate.

use super::MaskingError;
use super::error::Peer;
use super::selection::Prospect;
use medfed_secagg::{ClipRange, Digest, SessionId};
use medfed_types::{RoundId, SiteId};
use serde::{Deserialize, Serialize};

const VERSION: u8 = 1;
const CALL: u8 = b'C';
const ANSWER: u8 = b'R';
const HEAD: usize = 9;
/// The longest reason of a refusal that is read.
const LONGEST_REASON: usize = 400;

/// The steps of a masked round, in the order in which they come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
#[non_exhaustive]
pub enum Step {
    /// Whether the hospital has an update that fits.
    Invite = 1,
    /// A coin is committed to, for groups.
    Toss = 2,
    /// The coin is opened.
    Reveal = 3,
    /// Groups are drawn, and keys made for the own group.
    Draw = 4,
    /// Keys are made.
    Join = 5,
    /// Seeds are shared.
    Deal = 6,
    /// The input leaves under its masks.
    Mask = 7,
    /// Selection: shares of vectors are multiplied.
    Multiply = 8,
    /// Selection: inner products are opened, and one set of survivors is signed.
    Review = 9,
    /// One set of survivors is signed.
    Consent = 10,
    /// Shares that unmask the sum are released.
    Unmask = 11,
}

impl Step {
    fn of(byte: u8) -> Option<Self> {
        let all = [
            Self::Invite,
            Self::Toss,
            Self::Reveal,
            Self::Draw,
            Self::Join,
            Self::Deal,
            Self::Mask,
            Self::Multiply,
            Self::Review,
            Self::Consent,
            Self::Unmask,
        ];
        all.into_iter().find(|step| *step as u8 == byte)
    }
}

impl Step {
    /// Whether another answer to this step, after a restart that forgot the first, would harm a hospital:
    /// its [`Record`](super::Record) must be durable before the answer leaves.
    pub fn binds(self) -> bool {
        matches!(self, Self::Reveal | Self::Mask | Self::Multiply | Self::Review | Self::Consent)
    }
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Invite => "invitation",
            Self::Toss => "coin commitment",
            Self::Reveal => "coin",
            Self::Draw => "group",
            Self::Join => "keys",
            Self::Deal => "dealing",
            Self::Mask => "masked input",
            Self::Multiply => "product",
            Self::Review => "selection",
            Self::Consent => "consent",
            Self::Unmask => "unmasking",
        })
    }
}

/// What is summed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub(super) enum Phase {
    /// Numbers of samples.
    Counts = 0,
    /// Updates.
    Updates = 1,
}

/// Where in a run a message belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Place {
    pub(super) round: RoundId,
    pub(super) attempt: u8,
    pub(super) phase: Phase,
    pub(super) step: Step,
}

/// What is wrong with bytes that are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The bytes end too early.
    #[error("it ends too early")]
    Truncated,
    /// Bytes are left over.
    #[error("bytes are left over")]
    TrailingBytes,
    /// It is of another kind or version.
    #[error("it is of another kind or version")]
    Kind,
    /// A value is not in its range.
    #[error("a value is not in its range")]
    Value,
}

/// What a hospital answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict<'a> {
    /// The message of the step.
    Answer(&'a [u8]),
    /// Its update does not fit; nothing of it leaves.
    Withheld(Unfit),
    /// It leaves the session: a sentence, and whom it blames.
    Refused { reason: String, culprits: Vec<SiteId> },
}

/// Why an update does not fit. The value itself is not told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Unfit {
    Length = 1,
    Range = 2,
    NotFinite = 3,
    Norm = 4,
}

/// What the coordinator invites to.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Invitation {
    pub(super) configuration: Digest,
    pub(super) model: Digest,
    pub(super) parameters: usize,
    pub(super) range: ClipRange,
    /// What a selection goes by; at the end of the message.
    pub(super) prospect: Option<Prospect>,
}

/// What a session is called and who is in it; everything else each party knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Opened {
    pub(super) session: SessionId,
    /// The total of samples by which updates are scaled; 0 where there is none.
    pub(super) total: u32,
    pub(super) cohort: Vec<SiteId>,
    /// Hospitals that were invited and said that their update does not fit; a selection goes by their number.
    pub(super) withheld: u8,
}

impl Place {
    fn write(self, kind: u8, room: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEAD + 1 + room);
        out.extend([VERSION, kind, self.step as u8, self.phase as u8, self.attempt]);
        out.extend(self.round.0.to_le_bytes());
        out
    }

    /// A call of the coordinator.
    pub(super) fn call(self, body: &[u8]) -> Vec<u8> {
        let mut out = self.write(CALL, body.len());
        out.extend_from_slice(body);
        out
    }

    /// An answer of a hospital.
    pub(super) fn answer(self, verdict: &Verdict<'_>) -> Vec<u8> {
        match verdict {
            Verdict::Answer(body) => {
                let mut out = self.write(ANSWER, body.len());
                out.push(0);
                out.extend_from_slice(body);
                out
            }
            Verdict::Withheld(unfit) => {
                let mut out = self.write(ANSWER, 1);
                out.extend([1, *unfit as u8]);
                out
            }
            Verdict::Refused { reason, culprits } => {
                let mut out = self.write(ANSWER, reason.len());
                out.push(2);
                put_names(&mut out, culprits);
                out.extend_from_slice(&reason.as_bytes()[..reason.floor_char_boundary(LONGEST_REASON)]);
                out
            }
        }
    }

    /// Reads a call.
    pub(super) fn of_call(bytes: &[u8]) -> Result<(Self, &[u8]), MaskingError> {
        Self::read(bytes, CALL).map_err(|fault| MaskingError::Malformed { from: Peer::Coordinator, fault })
    }

    /// Reads an answer of `site`.
    pub(super) fn of_answer<'a>(bytes: &'a [u8], site: &SiteId) -> Result<(Self, Verdict<'a>), MaskingError> {
        let read = || {
            let (place, rest) = Self::read(bytes, ANSWER)?;
            let (verdict, body) = rest.split_first().ok_or(Fault::Truncated)?;
            let verdict = match (verdict, body) {
                (0, body) => Verdict::Answer(body),
                (1, [1]) => Verdict::Withheld(Unfit::Length),
                (1, [2]) => Verdict::Withheld(Unfit::Range),
                (1, [3]) => Verdict::Withheld(Unfit::NotFinite),
                (1, [4]) => Verdict::Withheld(Unfit::Norm),
                (2, body) => {
                    let mut reader = Reader(body);
                    let culprits = reader.names()?;
                    let reason = reader.0;
                    if reason.len() > LONGEST_REASON {
                        return Err(Fault::TrailingBytes);
                    }
                    // Nothing that a terminal would obey.
                    let reason = String::from_utf8_lossy(reason).replace(char::is_control, " ");
                    Verdict::Refused { reason, culprits }
                }
                _ => return Err(Fault::Value),
            };
            Ok((place, verdict))
        };
        read().map_err(|fault| MaskingError::Malformed { from: Peer::Site(site.clone()), fault })
    }

    fn read(bytes: &[u8], kind: u8) -> Result<(Self, &[u8]), Fault> {
        let mut reader = Reader(bytes);
        let [version, found, step, phase, attempt] = reader.array()?;
        if (version, found) != (VERSION, kind) {
            return Err(Fault::Kind);
        }
        let phase = match phase {
            0 => Phase::Counts,
            1 => Phase::Updates,
            _ => return Err(Fault::Value),
        };
        let step = Step::of(step).ok_or(Fault::Value)?;
        let round = RoundId(u32::from_le_bytes(reader.array()?));
        Ok((Self { round, attempt, phase, step }, reader.0))
    }
}

impl Invitation {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(80);
        out.extend_from_slice(self.configuration.as_bytes());
        out.extend_from_slice(self.model.as_bytes());
        out.extend((self.parameters as u64).to_le_bytes());
        out.extend(self.range.get().to_le_bytes());
        if let Some(prospect) = &self.prospect {
            out.extend(prospect.encode());
        }
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Fault> {
        let mut reader = Reader(bytes);
        let (configuration, model) = (Digest::new(reader.array()?), Digest::new(reader.array()?));
        let parameters = usize::try_from(u64::from_le_bytes(reader.array()?)).map_err(|_| Fault::Value)?;
        let range = ClipRange::new(f64::from_le_bytes(reader.array()?)).map_err(|_| Fault::Value)?;
        let prospect = if reader.0.is_empty() { None } else { Some(Prospect::decode(reader.0)?) };
        Ok(Self { configuration, model, parameters, range, prospect })
    }
}

impl Opened {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(21 + 32 * self.cohort.len());
        out.extend(self.session.0);
        out.extend(self.total.to_le_bytes());
        put_names(&mut out, &self.cohort);
        out.push(self.withheld);
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Fault> {
        let mut reader = Reader(bytes);
        let session = SessionId(reader.array()?);
        let total = u32::from_le_bytes(reader.array()?);
        let cohort = reader.names()?;
        let [withheld] = reader.array()?;
        reader.finish()?;
        Ok(Self { session, total, cohort, withheld })
    }
}

/// A list of at most 255 names of at most 255 bytes.
fn put_names(out: &mut Vec<u8>, names: &[SiteId]) {
    // A cohort has at most 100 hospitals, and a name at most 64 bytes.
    out.push(names.len() as u8);
    for name in names {
        out.push(name.as_str().len() as u8);
        out.extend_from_slice(name.as_str().as_bytes());
    }
}

/// Takes values off the front of a message.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Fault::Truncated)?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(super) fn bytes(&mut self, length: usize) -> Result<&'a [u8], Fault> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Fault::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    fn names(&mut self) -> Result<Vec<SiteId>, Fault> {
        let [count] = self.array()?;
        let mut names = Vec::new();
        for _ in 0..count {
            let [length] = self.array()?;
            let name = std::str::from_utf8(self.bytes(usize::from(length))?).map_err(|_| Fault::Value)?;
            names.push(SiteId::try_from(name).map_err(|_| Fault::Value)?);
        }
        Ok(names)
    }

    pub(super) fn finish(self) -> Result<(), Fault> {
        if self.0.is_empty() { Ok(()) } else { Err(Fault::TrailingBytes) }
    }
}
