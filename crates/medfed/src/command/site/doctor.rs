//! `medfed site doctor`: where the fault is between a hospital and its coordinator.

use crate::command::coordinator::no_transport;
use crate::command::pki::enrolment::pretty;
use crate::failure::Failure;
use crate::output::print;
use medfed_net::doctor::{Finding, Level, disk, examine};
use medfed_net::{CoordinatorAddress, Fingerprint, Holder, Proxy, Route};
use medfed_protocol::policy::Policy;
use serde_json::json;
use std::fmt::Write as _;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Room that a site needs at least, in bytes: models and updates on their way, its store.
const ROOM: u64 = 512 << 20;
/// Bytes of a policy that are read.
const LARGEST_POLICY: u64 = 1 << 20;

/// Look for the fault between this hospital and the coordinator: files, policy, disk, DNS, proxy, TLS, clock.
///
/// Every step of a connection is tried by itself, so that the first one that fails says where the fault is. A
/// device that opens TLS connections is named by the certificate that it shows. A site that runs meanwhile is
/// not disturbed. The exit code is 1 when anything fails.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  medfed site doctor --dir clinic --coordinator fed.example.org
  medfed site doctor --dir clinic --coordinator fed.example.org:8443 --proxy http://proxy.clinic.example:3128
  medfed site doctor --dir clinic --coordinator fed.example.org --json | jq '.checks[] | select(.level != \"ok\")'")]
pub(crate) struct Args {
    /// Folder of the site
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Where the coordinator is; port 443 unless given
    #[arg(long, value_name = "HOST:PORT")]
    coordinator: CoordinatorAddress,
    /// What the hospital agrees to [default: DIR/policy.yaml]
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Proxy on the way, as `http://[USER:PASSWORD@]HOST:PORT` [default: HTTPS_PROXY, unless NO_PROXY lists the
    /// coordinator]
    #[arg(long, value_name = "URL")]
    proxy: Option<Proxy>,
    /// Fingerprint of the key that the coordinator must have, besides a certificate of the authority
    #[arg(long, value_name = "SHA256")]
    pin: Option<Fingerprint>,
    /// Longest time for each step
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    timeout: u64,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let holder = Holder::site(&args.dir);
    let proxy = match &args.proxy {
        Some(proxy) => Some(proxy.clone()),
        None => Proxy::from_environment(&args.coordinator).map_err(no_transport)?,
    };
    let route = Route { address: args.coordinator.clone(), proxy, pinned: args.pin };
    let policy = args.policy.clone().unwrap_or_else(|| args.dir.join("policy.yaml"));
    let mut findings = vec![read_policy(&policy), disk(&args.dir, ROOM)];
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::internal)?;
    findings.extend(runtime.block_on(examine(&holder, &route, Duration::from_secs(args.timeout))));
    // A name that does not resolve keeps a thread of its own for a while.
    runtime.shutdown_background();
    let failed = findings.iter().filter(|finding| finding.level == Level::Failure).count();
    if args.json {
        let checks: Vec<_> = findings
            .iter()
            .map(|finding| {
                let hint = (!finding.hint.is_empty()).then_some(&finding.hint);
                json!({ "check": finding.check, "level": word(finding.level), "found": finding.found, "hint": hint })
            })
            .collect();
        print(&pretty(&json!({ "ok": failed == 0, "checks": checks })))?;
    } else {
        print(&text(&findings))?;
    }
    match failed {
        0 => Ok(()),
        failed => Err(Failure::user(anyhow::anyhow!("{failed} of {} checks failed", findings.len()))
            .hint("mend the first one that failed, then look again")),
    }
}

fn word(level: Level) -> &'static str {
    match level {
        Level::Ok => "ok",
        Level::Warning => "warn",
        Level::Failure => "fail",
        Level::Skipped => "skip",
    }
}

fn text(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let _ = writeln!(text, "{:4}  {:11}  {}", word(finding.level), finding.check, finding.found);
        if !finding.hint.is_empty() {
            let _ = writeln!(text, "{:19}hint: {}", "", finding.hint);
        }
    }
    text
}

fn read_policy(path: &Path) -> Finding {
    let finding =
        |level, found: String, hint: &str| Finding { check: "policy", level, found, hint: hint.to_owned() };
    let mut text = String::new();
    let file = std::fs::File::open(path);
    if let Err(error) = file.and_then(|file| file.take(LARGEST_POLICY + 1).read_to_string(&mut text)) {
        let found = format!("{} cannot be read: {error}", path.display());
        return finding(
            Level::Failure,
            found,
            "an empty file holds the defaults; docs/network.md lists the keys",
        );
    }
    match Policy::from_yaml(&text, &path.display().to_string()) {
        Ok(policy) if !policy.limits_epsilon() => finding(
            Level::Warning,
            format!("{} does not limit ε over several runs", path.display()),
            "say `max_epsilon_total: 10`, or as much as the hospital agrees to",
        ),
        Ok(_) => finding(Level::Ok, format!("{} can be read", path.display()), ""),
        Err(error) => {
            finding(Level::Failure, error.to_string(), "docs/network.md lists the keys of a policy")
        }
    }
}
