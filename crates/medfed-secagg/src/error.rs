//! What can go wrong, who caused it, and what was expected.

use medfed_types::{RoundId, SiteId};

use crate::message::MessageKind;

/// A protocol step that was refused. [`culprits`](Self::culprits) names who is to blame, where that is known.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SecaggError {
    /// The cohort is too small or too large.
    #[error("a session has 2 to {most} sites, not {found}")]
    CohortSize {
        /// Sites named.
        found: usize,
        /// Sites that one session can have.
        most: usize,
    },
    /// A site is named twice.
    #[error("{site} is named twice")]
    Twice {
        /// The site.
        site: SiteId,
    },
    /// Two sites have the same key.
    #[error("{first} and {second} have the same key")]
    SharedKey {
        /// One of them.
        first: SiteId,
        /// The other.
        second: SiteId,
    },
    /// A site is not enrolled, or not in the cohort of this session.
    #[error("{site} is not enrolled in this session")]
    NotEnrolled {
        /// The site.
        site: SiteId,
    },
    /// A verifying key is not a point of large order.
    #[error("the verifying key of {site} is not a valid Ed25519 key")]
    VerifyingKey {
        /// The site.
        site: SiteId,
    },
    /// The site signs with another key than the one it is enrolled with.
    #[error("the signing key of {site} is not the one that it is enrolled with")]
    OtherIdentity {
        /// The site.
        site: SiteId,
    },
    /// The threshold does not protect.
    #[error("a threshold among {sites} sites is {lowest} to {sites}, not {found}")]
    Threshold {
        /// Sites in the cohort.
        sites: usize,
        /// The least threshold that is safe.
        lowest: usize,
        /// The threshold asked for.
        found: usize,
    },
    /// Too few sites would make up an opened sum.
    #[error("{}", min_clients(*sites, *lowest, *found))]
    MinClients {
        /// Sites in the cohort.
        sites: usize,
        /// The least number that is allowed.
        lowest: usize,
        /// The number asked for.
        found: usize,
    },
    /// A range, bound or size outside of what fixed-point numbers can carry.
    #[error("{what} must be {expected}, not {found}")]
    Terms {
        /// What was set.
        what: &'static str,
        /// What it may be.
        expected: &'static str,
        /// What it was.
        found: f64,
    },
    /// The input has another length than the session's.
    #[error("the input has {found} values, the session expects {expected}")]
    Length {
        /// Values expected.
        expected: usize,
        /// Values found.
        found: usize,
    },
    /// The input is for another kind of session.
    #[error("the session sums {expected}, not {found}")]
    OtherContribution {
        /// What the session sums.
        expected: &'static str,
        /// What was given.
        found: &'static str,
    },
    /// An input value is NaN or infinite.
    #[error("the input is not finite at position {index}")]
    NotFinite {
        /// The first such position.
        index: usize,
    },
    /// An input value is outside the clip range.
    #[error("the input is outside ±{range} at position {index}")]
    OutOfRange {
        /// The first such position.
        index: usize,
        /// The clip range.
        range: f64,
    },
    /// The input is longer than the agreed norm.
    #[error("the input has norm {found}, the session allows {bound}")]
    Norm {
        /// The bound.
        bound: f64,
        /// The norm of the input.
        found: f64,
    },
    /// A sample count that the session cannot carry.
    #[error("a sample count is 1 to {most} here, not {found}")]
    Count {
        /// The largest count.
        most: u64,
        /// The count given.
        found: u64,
    },
    /// Nobody weighs anything.
    #[error("the weights of the survivors add up to zero")]
    NoWeight,
    /// An input for this round has left already.
    #[error("an input for round {last} has left already, round {found} is refused")]
    Replayed {
        /// The last round in which an input left.
        last: RoundId,
        /// The round of the session.
        found: RoundId,
    },
    /// Bytes that are no message of this protocol.
    #[error("malformed {message} message: {fault}")]
    Malformed {
        /// The message that was expected.
        message: MessageKind,
        /// What is wrong with it.
        fault: Fault,
    },
    /// A message was made under other terms: another session, round, model, configuration, roster or
    /// threshold.
    #[error("the {message} message of {site} belongs to another session, or to other terms")]
    OtherContext {
        /// The message.
        message: MessageKind,
        /// Its sender.
        site: SiteId,
    },
    /// A signature does not verify.
    #[error("the signature on the {message} message of {site} does not verify")]
    Signature {
        /// The message.
        message: MessageKind,
        /// The sender that it names.
        site: SiteId,
    },
    /// A sender spoke twice in one protocol round.
    #[error("{site} sent a second {message} message")]
    Duplicate {
        /// The message.
        message: MessageKind,
        /// The culprit.
        site: SiteId,
    },
    /// A sender that has no part in this protocol round.
    #[error("{site} has no part in the {message} messages of this session")]
    Uninvited {
        /// The message.
        message: MessageKind,
        /// The sender.
        site: SiteId,
    },
    /// Too few sites remain.
    #[error("{found} sites remain after the {message} messages, at least {expected} are needed")]
    TooFew {
        /// The protocol round.
        message: MessageKind,
        /// Sites needed.
        expected: usize,
        /// Sites that remain.
        found: usize,
    },
    /// A site's own message did not come back as it was sent.
    #[error("the coordinator altered or left out this site's own {message} message")]
    OwnMessage {
        /// The message.
        message: MessageKind,
    },
    /// A public key of low order, which would make the agreed secret predictable.
    #[error("{site} sent a public key of low order")]
    LowOrderPoint {
        /// The culprit.
        site: SiteId,
    },
    /// The share that a dealer sealed does not open, or is not the one that it committed to. (A share of a
    /// vector is sealed but not signed: there, whoever relayed it may have altered it.)
    #[error("the sealed share from {dealer} is not the one it committed to")]
    DealtShare {
        /// The culprit.
        dealer: SiteId,
    },
    /// A released share is not the one that its dealer committed to.
    #[error("{site} released a share that {dealer} did not deal")]
    ReleasedShare {
        /// The culprit.
        site: SiteId,
        /// Whose secret the share belongs to.
        dealer: SiteId,
    },
    /// The rebuilt secret is not the one that its owner committed to.
    #[error("the shares that {dealer} dealt do not rebuild the secret it committed to")]
    RebuiltSecret {
        /// The culprit.
        dealer: SiteId,
    },
    /// This site was declared dropped although it is there.
    #[error("this site was declared dropped although its input was sent")]
    DeclaredDropped,
    /// A set of survivors names sites that never sent an input.
    #[error("the proposed sum includes sites that sent no input")]
    UnknownSurvivors {
        /// Those sites.
        sites: Vec<SiteId>,
    },
    /// A site agreed to another set of survivors.
    #[error("{site} agreed to another set of survivors")]
    OtherSurvivors {
        /// The site.
        site: SiteId,
    },
    /// The selection of the coordinator is not the one that follows from the opened distances.
    #[error("the proposed selection does not follow from the opened distances")]
    OtherSelection,
    /// Shares of products that do not fit together.
    #[error("the shares of inner products do not fit together")]
    Products {
        /// Who sent wrong shares, where it can be told.
        culprits: Vec<SiteId>,
    },
    /// The opened sum is not the sum of the vectors whose distances were opened.
    #[error("the opened sum is not that of the vectors whose distances were opened")]
    Linkage,
    /// A part of the coin is missing, or another than was committed to.
    #[error("the coin of {site} is missing or not the one that it committed to")]
    Coin {
        /// The culprit.
        site: SiteId,
    },
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
    /// A value is not in its canonical range.
    #[error("a value is not in its canonical range")]
    Value,
}

fn min_clients(sites: usize, lowest: usize, found: usize) -> String {
    if found > sites {
        format!("{sites} sites are left, and min_clients asks for {found}")
    } else {
        format!("min_clients is at least {lowest} here, not {found}")
    }
}

impl SecaggError {
    /// Who is to blame, where that is known: the sites that the next attempt leaves out.
    pub fn culprits(&self) -> Vec<SiteId> {
        match self {
            Self::NotEnrolled { site }
            | Self::VerifyingKey { site }
            | Self::Duplicate { site, .. }
            | Self::LowOrderPoint { site }
            | Self::ReleasedShare { site, .. }
            | Self::OtherSurvivors { site }
            | Self::Coin { site }
            | Self::DealtShare { dealer: site }
            | Self::RebuiltSecret { dealer: site } => vec![site.clone()],
            Self::SharedKey { first, second } => vec![first.clone(), second.clone()],
            Self::Products { culprits } => culprits.clone(),
            // Anyone may put a name on bytes that the named site never signed.
            _ => Vec::new(),
        }
    }
}
