//! What the coordinator's machine asks of whoever runs it.

use crate::envelope::Packet;
use crate::message::DeclineCode;
use crate::payload::Payload;
use medfed_federation::Snapshot;
use medfed_federation::coordinator::Best;
use medfed_federation::report::{FinalEvaluation, RoundReport, RunStatus, SecurityReport, SiteDecision};
use medfed_types::{RoundId, SiteId};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What is to be done, in the order given.
#[derive(Debug)]
pub enum CoordinatorEffect {
    /// Send a packet.
    Send {
        /// To whom.
        to: SiteId,
        /// What.
        packet: Packet,
    },
    /// Write the round into the audit log and answer with
    /// [`CoordinatorEvent::Sealed`](super::CoordinatorEvent::Sealed).
    Seal {
        /// The round.
        report: Box<RoundReport>,
    },
    /// In one transaction: keep the report, replace all earlier state by this one, and empty the log up to
    /// and including the event that led here.
    Commit {
        /// The round.
        report: Box<RoundReport>,
        /// The state from which [`CoordinatorMachine::restore`](super::CoordinatorMachine::restore) goes on.
        state: Vec<Snapshot>,
        /// The sites' signatures on the round's checkpoint, where there is an audit log.
        cosignatures: BTreeMap<SiteId, Payload>,
    },
    /// Tell whoever watches.
    Notice(Notice),
    /// The run is over. Sites that have not heard of it may still ask.
    Finished(Box<Finished>),
}

/// How a run ended and what it leaves.
#[derive(Debug, Clone, PartialEq)]
pub struct Finished {
    /// How.
    pub status: RunStatus,
    /// Why, where that needs a sentence.
    pub reason: Option<String>,
    /// The best model; nothing when no round was done.
    pub best: Option<Best>,
    /// The parameters of the best model, or the newest ones.
    pub parameters: Arc<Vec<f32>>,
    /// What the sites measured about the best model and released.
    pub evaluation: Option<FinalEvaluation>,
    /// The decisions by which hospitals left before a round that did not come.
    pub last_decisions: Vec<SiteDecision>,
    /// What was wrong with the updates of the round that ended the run, if one did.
    pub aborted: Option<SecurityReport>,
}

/// Something that happened, for people and for the run's events.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Notice {
    /// A site takes part.
    Joined {
        /// The site.
        site: SiteId,
    },
    /// A site does not take part in the run or in a round.
    Declined {
        /// The site.
        site: SiteId,
        /// The round, where it declined a round.
        round: Option<RoundId>,
        /// Its code.
        code: DeclineCode,
        /// Its reason.
        reason: String,
    },
    /// A site was refused.
    Refused {
        /// The site.
        site: SiteId,
        /// Why.
        reason: String,
    },
    /// A site answered after its phase had ended.
    Late {
        /// The site.
        site: SiteId,
    },
    /// A site gave no answer in time; rounds go on without it until it returns.
    Silent {
        /// The site.
        site: SiteId,
        /// What it was asked.
        phase: &'static str,
        /// Seconds that it had.
        seconds: u64,
    },
    /// A silent site is back, from the next round on.
    Returned {
        /// The site.
        site: SiteId,
    },
    /// What the orchestrator decided about a site.
    Decided {
        /// The round.
        round: RoundId,
        /// The decision.
        decision: SiteDecision,
    },
    /// Sites train.
    RoundStarted {
        /// The round.
        round: RoundId,
        /// Counts the attempts from 1.
        attempt: u32,
        /// The sites.
        sites: Vec<SiteId>,
    },
    /// A site trained.
    Trained {
        /// The round.
        round: RoundId,
        /// The site.
        site: SiteId,
    },
    /// Updates are being added up under masks.
    Masking {
        /// The round.
        round: RoundId,
        /// The sites whose updates they are.
        sites: Vec<SiteId>,
    },
    /// Sites measure the new model.
    Evaluating {
        /// The round.
        round: RoundId,
    },
    /// A hospital's update was not used.
    UpdateRefused {
        /// The round.
        round: RoundId,
        /// The hospital.
        site: SiteId,
        /// Why.
        reason: String,
    },
    /// Something about the updates was out of line, or the rule could not do all that it promises.
    Security {
        /// The round.
        round: RoundId,
        /// In a sentence.
        text: String,
    },
    /// An attempt at a round came to nothing.
    RoundAborted {
        /// The round.
        round: RoundId,
        /// Counts the attempts from 1.
        attempt: u32,
        /// Why.
        reason: String,
        /// What follows.
        next: AfterAbort,
    },
    /// Too few sites are there for a round.
    Waiting {
        /// Sites that are away.
        missing: Vec<SiteId>,
        /// Sites that a round needs.
        needed: usize,
        /// Seconds until the run gives up.
        seconds: u64,
    },
}

/// What follows an attempt at a round that came to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AfterAbort {
    /// The same round again. Sites that trained answer with the same update and pay nothing.
    Again,
    /// The next round, from the same model.
    NextRound,
    /// The run ends.
    End,
}

impl std::fmt::Display for Notice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Joined { site } => write!(f, "{site} takes part"),
            Self::Declined { site, round: None, code, reason } => {
                write!(f, "{site} does not take part ({code}): {reason}")
            }
            Self::Declined { site, round: Some(round), code, reason } => {
                write!(f, "round {round}: {site} declines ({code}): {reason}")
            }
            Self::Refused { site, reason } => write!(f, "{site} was refused: {reason}"),
            Self::Late { site } => write!(f, "{site} answered too late and joins the next round"),
            Self::Silent { site, phase, seconds } => {
                write!(f, "{site} gave no answer to {phase} within {seconds} s; rounds go on without it")
            }
            Self::Returned { site } => write!(f, "{site} is back"),
            Self::Decided { round, decision } => write!(f, "round {round}: {decision}"),
            Self::RoundStarted { round, attempt: 1, sites } => {
                write!(f, "round {round}: {} hospitals train", sites.len())
            }
            Self::RoundStarted { round, attempt, sites } => {
                write!(f, "round {round}, attempt {attempt}: {} hospitals train", sites.len())
            }
            Self::Trained { round, site } => write!(f, "round {round}: {site} has trained"),
            Self::Masking { round, sites } => {
                write!(f, "round {round}: the updates of {} hospitals are added up under masks", sites.len())
            }
            Self::Evaluating { round } => write!(f, "round {round}: hospitals measure the new model"),
            Self::UpdateRefused { round, site, reason } => {
                write!(f, "round {round}: the update of {site} was not used: {reason}")
            }
            Self::Security { round, text } => write!(f, "round {round}: {text}"),
            Self::RoundAborted { round, attempt, reason, next } => {
                let next = match next {
                    AfterAbort::Again => "it is tried again",
                    AfterAbort::NextRound => "the next round goes on from the same model",
                    AfterAbort::End => "the run ends",
                };
                write!(f, "round {round}, attempt {attempt}, came to nothing: {reason}; {next}")
            }
            Self::Waiting { missing, needed, seconds } => {
                let names: Vec<&str> = missing.iter().map(SiteId::as_str).collect();
                write!(
                    f,
                    "a round needs {needed} hospitals; waiting {seconds} s at the most for {}",
                    names.join(", ")
                )
            }
        }
    }
}
