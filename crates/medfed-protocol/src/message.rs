//! What coordinator and sites say to each other: one enum for each direction, small values only.
//!
//! Whatever is large (a model, an update, the messages of secure aggregation, the offer) is the
//! attachment of a message: its hash is signed with it, and it may travel by another way. The comments say
//! what is attached.

use crate::error::DecodeError;
use medfed_federation::report::{PrivacySpent, RunStatus};
use medfed_federation::site::LocalReport;
use medfed_types::{NoiseMultiplier, RoundId, SiteId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Bytes of the largest message without its attachment.
pub const MOST_MESSAGE_BYTES: usize = 64 * 1024;
/// Bytes of the largest offer.
pub const MOST_OFFER_BYTES: usize = 4 << 20;

/// Coordinator to site. Each replaces the one before: a site works on the newest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ToSite {
    /// What the run is. Attached: [`Offer`]. Answered by [`ToCoordinator::Join`] or a refusal.
    Offer,
    /// Train on from the attached model. Answered by [`ToCoordinator::Trained`] or a refusal.
    Train {
        /// The round.
        round: RoundId,
        /// Counts the attempts at this round from 1.
        attempt: u32,
        /// Hospitals that train in this round.
        hospitals: u32,
        /// The noise of the round; the plan's without.
        noise: Option<NoiseMultiplier>,
    },
    /// The next step of secure aggregation. Attached: the driver's message. Answered by
    /// [`ToCoordinator::Masking`].
    Masking {
        /// The round.
        round: RoundId,
    },
    /// Measure the attached model on validation images. Answered by [`ToCoordinator::Evaluated`].
    Evaluate {
        /// The round that made it; nothing for the model that the run leaves.
        round: Option<RoundId>,
    },
    /// Sign the attached checkpoint of the audit log. Answered by [`ToCoordinator::Cosigned`].
    Cosign {
        /// The round that it ends.
        round: RoundId,
    },
    /// A round is over. Not answered: what comes next says the same.
    RoundOver {
        /// The round.
        round: RoundId,
        /// Whether the model moved.
        completed: bool,
    },
    /// The run is over. Attached: the best model, if there is one. Answered by [`ToCoordinator::Left`].
    Ended {
        /// How, in a word.
        status: RunStatus,
        /// Why, where that needs a sentence.
        reason: Option<String>,
        /// The round of the best model.
        best_round: Option<u32>,
    },
    /// The site takes no part in this run. Answered by [`ToCoordinator::Left`].
    Refused {
        /// Why.
        code: RefusalCode,
        /// In a sentence without full stop.
        reason: String,
    },
}

/// Why a coordinator goes on without a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalCode {
    /// It came after the run had begun.
    TooLate,
    /// What it announced does not fit the run.
    Announcement,
    /// It declined.
    Declined,
}

/// The attachment of [`ToSite::Offer`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// The configuration, as YAML.
    pub configuration: String,
    /// Rounds planned.
    pub rounds: u32,
    /// Every site that may take part, with its certificate, in the order of names.
    pub cohort: Vec<Certified>,
    /// The authority's list of revoked certificates.
    #[serde(with = "serde_bytes")]
    pub revocations: Vec<u8>,
}

/// A site and the certificate by which the authority binds its name to its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certified {
    /// The site.
    pub site: SiteId,
    /// DER.
    #[serde(with = "serde_bytes")]
    pub certificate: Vec<u8>,
}

/// Site to coordinator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ToCoordinator {
    /// It takes part. Attached: what it announces.
    Join,
    /// It trained.
    Trained {
        /// The round.
        round: RoundId,
        /// What came of it.
        result: Trained,
    },
    /// Its answer to a step of secure aggregation. Attached: the driver's message.
    Masking {
        /// The round.
        round: RoundId,
    },
    /// It measured. Attached: [`SiteEvaluation`](medfed_federation::SiteEvaluation), where it has validation
    /// images and its policy releases metrics.
    Evaluated {
        /// As it was asked.
        round: Option<RoundId>,
    },
    /// It signed. Attached: the signed note.
    Cosigned {
        /// The round.
        round: RoundId,
    },
    /// It does not do what it was asked.
    Declined {
        /// The round, where it was asked something of a round.
        round: Option<RoundId>,
        /// Why.
        code: DeclineCode,
        /// In a sentence without full stop, and without anything about patients.
        reason: String,
    },
    /// It has heard that its part is over.
    Left,
}

/// What local training came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Trained {
    /// An update. Attached where updates are open: its values.
    Update {
        /// Images it comes from; absent under masks.
        weight: Option<f64>,
        /// What the site says about it: what its policy releases.
        report: LocalReport,
    },
    /// Its budget allows no step.
    BudgetExhausted {
        /// What was spent before.
        privacy: PrivacySpent,
    },
    /// Training gave something that is no update.
    Failed {
        /// Why.
        reason: String,
        /// What the site says about it.
        report: LocalReport,
    },
}

/// Why a site does not do what it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DeclineCode {
    /// The coordinator's key is not one that the policy names.
    Coordinator,
    /// A certificate of the cohort is not the authority's, or is revoked.
    Cohort,
    /// The configuration cannot be read or does not fit the site's data.
    Configuration,
    /// The model is not one that the policy allows.
    Model,
    /// The aggregation rule is not one that the policy allows.
    Rule,
    /// The way in which updates are protected is not one that the policy allows.
    SecureMode,
    /// The run would promise patients less privacy than the policy asks for.
    Privacy,
    /// ε of the period or in total would pass the policy's limit.
    Budget,
    /// Fewer hospitals than the policy asks for.
    FewHospitals,
    /// The policy says to try out and not to take part.
    DryRun,
    /// Open updates carry counts, and the policy does not release counts.
    Counts,
    /// A step of secure aggregation was refused.
    Masking,
    /// The request does not fit what went before.
    Order,
    /// The site could not do it.
    Failed,
}

impl DeclineCode {
    /// The code as logs and messages write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Coordinator => "coordinator",
            Self::Cohort => "cohort",
            Self::Configuration => "configuration",
            Self::Model => "model",
            Self::Rule => "rule",
            Self::SecureMode => "secure_mode",
            Self::Privacy => "privacy",
            Self::Budget => "budget",
            Self::FewHospitals => "few_hospitals",
            Self::DryRun => "dry_run",
            Self::Counts => "counts",
            Self::Masking => "masking",
            Self::Order => "order",
            Self::Failed => "failed",
        }
    }
}

impl std::fmt::Display for DeclineCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Bytes of a value that has a place in a message, an event or saved state.
pub(crate) fn encode(value: &impl Serialize) -> Vec<u8> {
    postcard::to_allocvec(value).expect("values of the protocol have known lengths")
}

/// The value that `bytes` are all of. Lengths within are bounded by the bytes that are there.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8], what: &'static str) -> Result<T, DecodeError> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        _ => Err(DecodeError::Malformed { what }),
    }
}

impl Offer {
    /// The bytes that are attached to [`ToSite::Offer`].
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(self)
    }

    /// The offer whose bytes these are.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() > MOST_OFFER_BYTES {
            return Err(DecodeError::TooLong {
                what: "an offer",
                found: bytes.len(),
                most: MOST_OFFER_BYTES,
            });
        }
        decode(bytes, "the offer")
    }
}
