//! Looks for the fault between a site and its coordinator, step by step.
//!
//! Each step of a connection is tried by itself, so that the first one that fails says where the fault is:
//! files, clock, name, TCP, proxy, TLS, admission. A proxy that opens TLS connections is named by the
//! certificate that it shows.

use crate::certificate::{self, Certificate, CertificateProblem};
use crate::clock;
use crate::dial::{self, Route};
use crate::grpc::call_check;
use crate::pki::{Holder, Identity, PkiError};
use crate::problem::LinkProblem;
use std::path::Path;
use std::time::{Duration, Instant};

/// Difference of clocks that is a warning, and one that is a fault, in milliseconds.
const SKEW: [u64; 2] = [5_000, 300_000];
/// Days before the end of a certificate from which on it should be renewed.
const RENEW: i64 = 30;
const DAY: i64 = 24 * 60 * 60;

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// As it should be.
    Ok,
    /// It works, but not for long or not well.
    Warning,
    /// It does not work.
    Failure,
    /// It was not looked at, since a step before it failed.
    Skipped,
}

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at.
    pub check: &'static str,
    /// How it ended.
    pub level: Level,
    /// What was found, in a sentence.
    pub found: String,
    /// What to do about it; empty when nothing is to be done.
    pub hint: String,
}

/// The steps, in order.
const STEPS: [&str; 8] = ["key", "certificate", "name", "proxy", "tcp", "tls", "admission", "clock"];

/// Looks at everything from the files of a site to the answer of its coordinator. Each step may take `limit`.
pub async fn examine(holder: &Holder, route: &Route, limit: Duration) -> Vec<Finding> {
    let mut findings = Findings(Vec::new());
    let identity = files(holder, &mut findings);
    network(identity.as_ref(), route, limit, &mut findings).await;
    for step in STEPS {
        if !findings.0.iter().any(|finding| finding.check == step) {
            findings.add(step, Level::Skipped, "not looked at: a step before it failed", "");
        }
    }
    findings.0.sort_by_key(|finding| STEPS.iter().position(|step| *step == finding.check));
    findings.0
}

/// How much room a folder has, against what one message needs.
pub fn disk(folder: &Path, needed: u64) -> Finding {
    let mut findings = Findings(Vec::new());
    // The folder may not be there yet.
    let there =
        folder.ancestors().find(|it| it.exists() && !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
    #[cfg(unix)]
    match rustix::fs::statvfs(there) {
        Ok(room) => {
            let free = room.f_bavail.saturating_mul(room.f_frsize);
            let found = format!("{} MiB are free in {}", free >> 20, there.display());
            if free < needed {
                let hint = format!("make room: {} MiB are needed", needed.div_ceil(1 << 20));
                findings.add("disk", Level::Failure, found, hint);
            } else if free < needed.saturating_mul(4) {
                findings.add("disk", Level::Warning, found, "make room before it is full");
            } else {
                findings.add("disk", Level::Ok, found, "");
            }
        }
        Err(error) => {
            let found = format!("the room in {} cannot be told: {error}", there.display());
            findings.add("disk", Level::Warning, found, "check the folder's owner and permissions");
        }
    }
    #[cfg(not(unix))]
    findings.add(
        "disk",
        Level::Skipped,
        format!("not looked at on this system ({} bytes are needed)", needed),
        "",
    );
    findings.0.remove(0)
}

struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, check: &'static str, level: Level, found: impl Into<String>, hint: impl Into<String>) {
        self.0.push(Finding { check, level, found: found.into(), hint: hint.into() });
    }

    fn problem(&mut self, check: &'static str, problem: &LinkProblem) {
        self.add(check, Level::Failure, problem.to_string(), problem.hint());
    }
}

/// Key and certificate on this machine.
fn files(holder: &Holder, findings: &mut Findings) -> Option<Identity> {
    let now = clock::now();
    let error = match holder.load(now) {
        Ok(identity) => {
            let fingerprint = identity.certificate().fingerprint();
            findings.add("key", Level::Ok, format!("{} is {fingerprint}", holder.key_file().display()), "");
            validity(identity.certificate(), now, findings);
            return Some(identity);
        }
        Err(error) => error,
    };
    let certificate = matches!(&error, PkiError::Certificate { .. } | PkiError::OtherKey { .. })
        || matches!(&error, PkiError::File(crate::FileError::Missing { path }) if *path != holder.key_file());
    if certificate {
        findings.add("key", Level::Ok, format!("{} is there", holder.key_file().display()), "");
    }
    let check = if certificate { "certificate" } else { "key" };
    findings.add(check, Level::Failure, error.to_string(), error.hint());
    None
}

fn validity(certificate: &Certificate, now: i64, findings: &mut Findings) {
    let days = (certificate.not_after() - now) / DAY;
    let until = certificate::date(certificate.not_after());
    let found = format!("for {}, valid until {until} ({days} days)", certificate.party());
    if days < RENEW {
        findings.add("certificate", Level::Warning, found, "renew it: `medfed site enroll --renew`");
    } else {
        findings.add("certificate", Level::Ok, found, "");
    }
}

/// The way to the coordinator.
async fn network(identity: Option<&Identity>, route: &Route, limit: Duration, findings: &mut Findings) {
    let (host, port) = match &route.proxy {
        Some(proxy) => (proxy.host(), proxy.port()),
        None => (route.address.host(), route.address.port()),
    };
    match dial::resolve(host, port, limit).await {
        Ok(addresses) => {
            let addresses: Vec<String> = addresses.iter().map(|it| it.ip().to_string()).collect();
            findings.add("name", Level::Ok, format!("{host} is {}", addresses.join(", ")), "");
        }
        Err(problem) => return findings.problem("name", &problem),
    }
    let begun = Instant::now();
    let stream = match dial::connect(route, limit).await {
        Ok(stream) => stream,
        Err(problem @ LinkProblem::Proxy { .. }) => return findings.problem("proxy", &problem),
        Err(problem) => return findings.problem("tcp", &problem),
    };
    let took = begun.elapsed().as_millis();
    match &route.proxy {
        Some(proxy) => findings.add("proxy", Level::Ok, format!("{proxy} connects to {}", route.address), ""),
        None => findings.add("proxy", Level::Ok, "none is used", ""),
    }
    findings.add("tcp", Level::Ok, format!("{} answers after {took} ms", route.address), "");
    let Some(identity) = identity else { return };
    let (dialled, seen) = dial::handshake(stream, identity, route, limit).await;
    let dialled = match dialled {
        Ok(dialled) => dialled,
        Err(LinkProblem::Peer(CertificateProblem::WrongAuthority { .. })) => {
            let issuer = seen.shown.as_deref().map_or_else(String::new, certificate::issuer);
            let found = format!(
                "the certificate seen was issued by {issuer}, not by this federation's authority ({}): something between here and the coordinator opens TLS connections, or the address is another server's",
                identity.authority().name()
            );
            let hint =
                "ask the network's administrators to exempt the coordinator's address from TLS inspection";
            return findings.add("tls", Level::Failure, found, hint);
        }
        Err(problem) => return findings.problem("tls", &problem),
    };
    let coordinator = &dialled.coordinator;
    let until = certificate::date(coordinator.not_after());
    let found = format!(
        "TLS 1.3; the coordinator's key is {}, its certificate is valid until {until}",
        coordinator.fingerprint()
    );
    findings.add("tls", Level::Ok, found, "");
    let asked = clock::now_ms();
    match call_check(dialled, identity, limit).await {
        Ok(answer) => {
            let answered = clock::now_ms();
            let caller: String = answer.caller.chars().filter(|it| !it.is_control()).take(64).collect();
            findings.add("admission", Level::Ok, format!("the coordinator admits us as site {caller}"), "");
            skew(answer.unix_ms, asked, answered, findings);
        }
        Err(problem) => findings.problem("admission", &problem),
    }
}

/// Compares the coordinator's clock with the middle of asking it.
fn skew(theirs: u64, asked: u64, answered: u64, findings: &mut Findings) {
    let ours = asked + answered.saturating_sub(asked) / 2;
    let apart = ours.abs_diff(theirs).saturating_sub(answered.saturating_sub(asked) / 2);
    let word = if ours > theirs { "ahead of" } else { "behind" };
    let (level, hint) = match apart {
        0 => return findings.add("clock", Level::Ok, "the same as the coordinator's", ""),
        apart if apart < SKEW[0] => (Level::Ok, ""),
        apart if apart < SKEW[1] => (Level::Warning, "set the clock by NTP on both machines"),
        _ => (Level::Failure, "set the clock by NTP on both machines: certificates are judged by it"),
    };
    let found = format!("{:.1} s {word} the coordinator's", apart as f64 / 1000.0);
    findings.add("clock", level, found, hint);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_are_judged_by_their_difference() {
        let judged = |theirs, asked, answered| {
            let mut findings = Findings(Vec::new());
            skew(theirs, asked, answered, &mut findings);
            (findings.0[0].level, findings.0[0].found.clone())
        };
        // Half of the time of asking is no difference.
        assert_eq!(judged(1_000_000, 999_000, 1_000_900).0, Level::Ok);
        assert_eq!(
            judged(1_000_000, 1_010_000, 1_010_000),
            (Level::Warning, "10.0 s ahead of the coordinator's".into())
        );
        assert_eq!(
            judged(1_000_000, 600_000, 600_000),
            (Level::Failure, "400.0 s behind the coordinator's".into())
        );
    }

    #[test]
    fn room_is_judged_by_what_is_needed() {
        let folder = tempfile::tempdir().unwrap();
        let later = folder.path().join("not/yet");
        assert_eq!(disk(&later, 1).level, Level::Ok);
        assert_eq!(disk(&later, u64::MAX).level, Level::Failure);
    }
}
