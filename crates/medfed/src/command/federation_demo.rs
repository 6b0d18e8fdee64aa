//! `medfed federation-demo`: a coordinator and three hospitals, each a process of its own, on this machine.

use super::coordinator::results_dir;
use crate::failure::{Failure, INTERRUPTED};
use crate::output::note;
use crate::run::{interrupt, require_built, shell_word};
use medfed_config::{Config, Override};
use medfed_net::pki::Approval;
use medfed_net::{AuthorityFolder, Fingerprint, Holder, Party, PkiError, clock};
use medfed_types::SiteId;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// What the demo trains, as `config/demo.yaml` ships it.
const CONFIG: &str = include_str!("../../../../config/demo.yaml");
/// What every hospital of the demo agrees to.
const POLICY: &str = "\
# The hospitals of a demonstration: private runs of three or more, everything measured is released.
require_privacy: true
min_hospitals: 3
release:
  losses: true
  norms: true
  counts: true
  metrics: true
";
/// How often is looked whether a process has ended.
const PAUSE: Duration = Duration::from_millis(100);
/// Time for the hospitals to end after the coordinator has.
const FAREWELL: Duration = Duration::from_secs(20);
/// Days for which the certificates of a demonstration are valid.
const DAYS: u32 = 2;

/// Try a federation between machines on this one: a coordinator and three hospitals, over TLS, masks on.
///
/// Makes an authority, keys, certificates and policies, starts four processes that know of each other only
/// what the network tells them, and trains on synthetic radiographs. Everything is in one folder, which
/// stays where --out is given and is removed otherwise.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  medfed federation-demo
  medfed federation-demo --out fed            keep keys, stores, results and logs
  medfed federation-demo --seed 7 --rounds 2  a repeatable one
  medfed federation-demo --json | jq .summary")]
pub(crate) struct Args {
    /// Folder for everything; it must not hold a federation yet
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Number of rounds
    #[arg(long, value_name = "N")]
    rounds: Option<u32>,
    /// Set one key of the configuration; repeatable
    #[arg(long = "set", value_name = "KEY.PATH=VALUE")]
    set: Vec<String>,
    /// Seed of images, weights, samples and noise: the model is that of `medfed simulate` with this seed
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Print one JSON object, the same as results.json
    #[arg(long)]
    json: bool,
    /// Make the folder and print the commands, without starting them
    #[arg(long, requires = "out")]
    prepare: bool,
}

/// Runs it.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let kept = args.out.clone();
    let temporary = if kept.is_none() { Some(tempfile::tempdir().map_err(no_folder)?) } else { None };
    let dir = match (&kept, &temporary) {
        (Some(dir), _) => dir.clone(),
        (None, Some(temporary)) => temporary.path().to_owned(),
        (None, None) => unreachable!("a folder is made where none is given"),
    };
    let config = configuration(args)?;
    let sites: Vec<SiteId> = config.hospitals().into_iter().map(|hospital| hospital.name).collect();
    enrol(&dir, &config, &sites)?;
    let address = free_address()?;
    let federation = Federation { dir: &dir, address, args };
    if args.prepare {
        return crate::output::print(&federation.commands(&sites));
    }
    note(&format!("{} hospitals and a coordinator on {address}, in {}", sites.len(), dir.display()));
    let stop = tokio_util::sync::CancellationToken::new();
    interrupt::watch_with(note, stop.clone())?;
    let mut children = Children(Vec::new());
    children.start("coordinator", federation.coordinator(), None)?;
    for site in &sites {
        let log = federation.site_folder(site).join("site.log");
        children.start(site.as_str(), federation.site(site), Some(log))?;
    }
    children.wait(&stop)?;
    if !args.json {
        summary(&dir, &sites, kept.is_some());
    }
    Ok(())
}

fn configuration(args: &Args) -> Result<Config, Failure> {
    // Hospitals between machines sign no audit log.
    let fixed = ["secure_aggregation.enabled=true", "secure_aggregation.audit_enabled=false"];
    let mut set: Vec<String> = fixed.map(str::to_owned).into();
    set.extend(args.rounds.map(|rounds| format!("federated.num_rounds={rounds}")));
    set.extend(args.seed.map(|seed| format!("experiment.seed={seed}")));
    set.extend(args.set.iter().cloned());
    let set: Vec<Override> = super::config::overrides(&set)?;
    let config = Config::from_yaml(CONFIG, "config/demo.yaml", &set).map_err(super::config::invalid)?;
    if !config.data.is_synthetic() {
        return Err(Failure::user(anyhow::anyhow!("the hospitals of the demo draw synthetic images"))
            .hint("docs/deploy.md goes through a federation on images of your own"));
    }
    require_built(&config)?;
    Ok(config)
}

/// Makes the authority, certifies everybody, and writes configuration and policies.
fn enrol(dir: &Path, config: &Config, sites: &[SiteId]) -> Result<(), Failure> {
    let now = clock::now();
    let coordinator = dir.join("coordinator");
    std::fs::create_dir_all(dir).map_err(no_folder)?;
    let mut authority = AuthorityFolder::create(&coordinator, "Demonstration", DAYS, now).map_err(no_keys)?;
    let fingerprint = authority.authority().fingerprint();
    let hosts = ["127.0.0.1".to_owned(), "localhost".to_owned()];
    certify(
        &mut authority,
        &Holder::coordinator(&coordinator),
        &Party::Coordinator,
        &hosts,
        fingerprint,
        now,
    )?;
    for site in sites {
        let folder = site_folder(dir, site);
        let party = Party::Site(site.clone());
        certify(&mut authority, &Holder::site(&folder), &party, &[], fingerprint, now)?;
        std::fs::write(folder.join("policy.yaml"), POLICY).map_err(no_folder)?;
    }
    std::fs::write(dir.join("federation.yaml"), config.to_yaml()).map_err(no_folder)
}

fn certify(
    authority: &mut AuthorityFolder,
    holder: &Holder,
    party: &Party,
    hosts: &[String],
    issuer: Fingerprint,
    now: i64,
) -> Result<(), Failure> {
    let request = holder.request(party, hosts, false).map_err(no_keys)?;
    let approval = Approval { valid_days: DAYS, fingerprint: Some(request.fingerprint()), replace: false };
    let certificate = authority.approve(&request, &approval, now).map_err(no_keys)?;
    let bundle = authority.bundle(&certificate);
    holder.install(bundle.as_bytes(), Some(issuer), now).map_err(no_keys)?;
    Ok(())
}

/// The processes' folders and arguments.
struct Federation<'a> {
    dir: &'a Path,
    address: SocketAddr,
    args: &'a Args,
}

impl Federation<'_> {
    fn site_folder(&self, site: &SiteId) -> PathBuf {
        site_folder(self.dir, site)
    }

    fn coordinator(&self) -> Vec<String> {
        let mut arguments = vec![
            "coordinator".to_owned(),
            "--dir".to_owned(),
            self.dir.join("coordinator").display().to_string(),
            "--config".to_owned(),
            self.dir.join("federation.yaml").display().to_string(),
            "--listen".to_owned(),
            self.address.to_string(),
        ];
        arguments.extend(self.args.json.then(|| "--json".to_owned()));
        arguments.extend(self.args.out.is_none().then(|| "--temporary".to_owned()));
        arguments.extend(self.args.seed.map(|_| "--reproducible-noise".to_owned()));
        arguments
    }

    fn site(&self, site: &SiteId) -> Vec<String> {
        let mut arguments = vec![
            "site".to_owned(),
            "run".to_owned(),
            "--dir".to_owned(),
            self.site_folder(site).display().to_string(),
            "--coordinator".to_owned(),
            self.address.to_string(),
            "--once".to_owned(),
        ];
        arguments.extend(self.args.seed.map(|seed| format!("--reproducible-noise={seed}")));
        arguments
    }

    fn commands(&self, sites: &[SiteId]) -> String {
        let line = |arguments: Vec<String>| {
            let words = arguments.iter().map(|word| shell_word(Path::new(word)));
            format!("medfed {}\n", words.collect::<Vec<_>>().join(" "))
        };
        let mut text = line(self.coordinator());
        text.extend(sites.iter().map(|site| line(self.site(site))));
        text
    }
}

fn site_folder(dir: &Path, site: &SiteId) -> PathBuf {
    dir.join("sites").join(site.as_str())
}

/// Processes that end with this one, however it ends.
struct Children(Vec<(String, Option<PathBuf>, Child)>);

impl Children {
    fn start(&mut self, name: &str, arguments: Vec<String>, log: Option<PathBuf>) -> Result<(), Failure> {
        let program = std::env::current_exe().map_err(Failure::internal)?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null());
        if let Some(log) = &log {
            let file = File::create(log).map_err(no_folder)?;
            command.stdout(Stdio::null()).stderr(file);
        }
        let child = command.spawn().map_err(Failure::internal)?;
        self.0.push((name.to_owned(), log, child));
        Ok(())
    }

    /// Until every process has done its part. The first that fails ends all.
    fn wait(&mut self, stop: &tokio_util::sync::CancellationToken) -> Result<(), Failure> {
        let mut left = None;
        loop {
            if stop.is_cancelled() {
                return Err(Failure::interrupted(anyhow::anyhow!("the demo was interrupted")));
            }
            let mut running = Vec::new();
            for (name, log, mut child) in std::mem::take(&mut self.0) {
                match child.try_wait().map_err(Failure::internal)? {
                    None => running.push((name, log, child)),
                    Some(status) if status.success() => {
                        if name == "coordinator" {
                            left = Some(std::time::Instant::now() + FAREWELL);
                        }
                    }
                    Some(status) => {
                        self.0.extend(running);
                        return Err(broken(&name, log.as_deref(), status.code()));
                    }
                }
            }
            self.0 = running;
            if self.0.is_empty() {
                return Ok(());
            }
            if left.is_some_and(|left| std::time::Instant::now() > left) {
                let names: Vec<&str> = self.0.iter().map(|(name, _, _)| name.as_str()).collect();
                return Err(Failure::internal(anyhow::anyhow!(
                    "the run is over and {} did not end",
                    names.join(", ")
                )));
            }
            std::thread::sleep(PAUSE);
        }
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        for (_, _, child) in &mut self.0 {
            // One that has ended needs neither.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn broken(name: &str, log: Option<&Path>, code: Option<i32>) -> Failure {
    if code == Some(i32::from(INTERRUPTED)) {
        return Failure::interrupted(anyhow::anyhow!("the demo was interrupted"));
    }
    let said = log.and_then(|log| std::fs::read_to_string(log).ok()).unwrap_or_default();
    let last: Vec<&str> = said.lines().rev().take(6).collect();
    let last: Vec<&str> = last.into_iter().rev().collect();
    let text = if last.is_empty() { String::new() } else { format!(": {}", last.join(" | ")) };
    Failure::user(anyhow::anyhow!("{name} failed{text}"))
        .hint("--out DIR keeps every process's folder and log")
}

fn summary(dir: &Path, sites: &[SiteId], kept: bool) {
    note("");
    note(&format!(
        "{} processes took part, each with keys of its own; updates left the hospitals under masks only.",
        sites.len() + 1
    ));
    if kept {
        let results = shell_word(&results_dir(&dir.join("coordinator")));
        note(&format!("  medfed runs --results {results}"));
        note(&format!("  medfed dashboard --results {results}"));
    } else {
        note(
            "Keys, stores, results and logs were in a temporary folder, which is removed; --out DIR keeps them.",
        );
    }
}

/// An address of this machine that nobody listens on.
fn free_address() -> Result<SocketAddr, Failure> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(Failure::user)?;
    listener.local_addr().map_err(Failure::internal)
}

fn no_folder(error: std::io::Error) -> Failure {
    Failure::user(anyhow::Error::new(error).context("the folder of the demo cannot be written"))
        .hint("choose another with --out")
}

fn no_keys(error: PkiError) -> Failure {
    match error {
        PkiError::Exists { .. } => Failure::user(error).hint("choose a new folder with --out"),
        error => Failure::user(error),
    }
}
