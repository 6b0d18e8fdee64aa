//! A link problem as a gRPC status and back: the other side learns it by a code, and from its own view.

use crate::certificate::{Certificate, CertificateProblem};
use crate::problem::LinkProblem;
use tonic::metadata::MetadataValue;
use tonic::{Code, Status};

/// Name of the metadata with the code.
const KEY: &str = "medfed-problem";

/// What a peer is told.
pub(super) fn status(problem: &LinkProblem) -> Status {
    let (code, word) = match problem {
        LinkProblem::Peer(CertificateProblem::Expired { .. }) => (Code::Unauthenticated, "expired"),
        LinkProblem::Peer(CertificateProblem::NotYetValid { .. }) => (Code::Unauthenticated, "not-yet-valid"),
        LinkProblem::Peer(CertificateProblem::Revoked) => (Code::Unauthenticated, "revoked"),
        LinkProblem::Peer(CertificateProblem::NotOnRoster) => (Code::Unauthenticated, "not-on-roster"),
        LinkProblem::Peer(_) => (Code::Unauthenticated, "certificate"),
        LinkProblem::Replaced => (Code::Aborted, "replaced"),
        LinkProblem::Version { .. } => (Code::FailedPrecondition, "version"),
        LinkProblem::Protocol { .. } => (Code::InvalidArgument, "protocol"),
        LinkProblem::TooLarge { .. } => (Code::ResourceExhausted, "too-large"),
        LinkProblem::Storage { .. } => (Code::Internal, "storage"),
        LinkProblem::TimedOut { .. } => (Code::DeadlineExceeded, "silent"),
        _ => (Code::Unavailable, "ended"),
    };
    // What the system says about our files is for our log alone.
    let sentence = match problem {
        LinkProblem::Storage { .. } => "storing failed".to_owned(),
        problem => problem.to_string(),
    };
    let mut status = Status::new(code, sentence);
    status.metadata_mut().insert(KEY, MetadataValue::from_static(word));
    if let LinkProblem::Version { ours, .. } = problem {
        status.metadata_mut().insert("medfed-version", MetadataValue::from(*ours));
    }
    if let LinkProblem::TooLarge { bytes, largest } = problem {
        status.metadata_mut().insert("medfed-bytes", MetadataValue::from(*bytes));
        status.metadata_mut().insert("medfed-largest", MetadataValue::from(*largest));
    }
    status
}

/// What a peer told, seen from here; nothing when the status is not one of [`status`].
pub(super) fn problem(status: &Status, own: &Certificate) -> Option<LinkProblem> {
    let number = |key: &str| status.metadata().get(key)?.to_str().ok()?.parse::<u64>().ok();
    let sentence = || status.message().chars().filter(|it| !it.is_control()).take(300).collect::<String>();
    Some(match status.metadata().get(KEY)?.to_str().ok()? {
        "expired" => LinkProblem::Own(CertificateProblem::Expired { not_after: own.not_after() }),
        "not-yet-valid" => LinkProblem::Own(CertificateProblem::NotYetValid { not_before: own.not_before() }),
        "revoked" => LinkProblem::Own(CertificateProblem::Revoked),
        "not-on-roster" => LinkProblem::Own(CertificateProblem::NotOnRoster),
        "certificate" => LinkProblem::Own(CertificateProblem::Refused { detail: sentence() }),
        "replaced" => LinkProblem::Replaced,
        "version" => LinkProblem::Version {
            found: number("medfed-version").unwrap_or_default() as u32,
            ours: super::PROTOCOL,
        },
        "protocol" => LinkProblem::Protocol { detail: sentence() },
        "too-large" => LinkProblem::TooLarge {
            bytes: number("medfed-bytes").unwrap_or_default(),
            largest: number("medfed-largest").unwrap_or_default(),
        },
        "storage" => LinkProblem::Storage { detail: sentence() },
        _ => LinkProblem::Ended,
    })
}
