//! `medfed pki`: the federation's authority, which says which key belongs to which hospital.

pub(super) mod enrolment;

use crate::failure::Failure;
use crate::output::{note, print};
use crate::run::{replace_file, shell_word};
use enrolment::{confirm, date, pki_failure, pretty, read_bounded};
use medfed_net::pki::{Approval, Entry, Request};
use medfed_net::{AuthorityFolder, Certificate, Fingerprint, Holder, Party, PkiError, Roster, clock};
use medfed_types::SiteId;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Keep the federation's authority: certify the keys of hospitals and of the coordinator, and take back.
///
/// The authority is a key in DIR/authority, on the coordinator's machine or on one without a network. What the
/// coordinator reads lies in DIR: authority.crt, roster.json, crl.pem; where the authority is elsewhere, these
/// three files are copied to the coordinator after every change, which takes effect without restart.
/// docs/deploy.md goes through it step by step.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  medfed pki init --dir federation --name \"Lung federation\"
  medfed pki coordinator --dir federation --dns fed.example.org
  medfed site enroll --dir clinic --name \"North Clinic\"      at the hospital; it sends clinic/site.csr
  medfed pki approve site.csr --dir federation               compares the fingerprint, writes the certificate
  medfed pki list --dir federation
  medfed pki revoke \"North Clinic\" --dir federation          the coordinator lets it in no more")]
pub(crate) struct PkiCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    Init(InitArgs),
    Coordinator(CoordinatorArgs),
    Approve(ApproveArgs),
    Revoke(RevokeArgs),
    List(ListArgs),
}

/// Make the authority of a new federation.
#[derive(Debug, clap::Args)]
struct InitArgs {
    /// Folder of the federation.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Name of the federation, as its certificates show it.
    #[arg(long, value_name = "NAME", value_parser = enrolment::site)]
    name: SiteId,
    /// Days until the authority ends.
    #[arg(long, value_name = "DAYS", default_value_t = 3650, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    valid_days: u32,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Make or renew the coordinator's key and certificate.
///
/// Where DIR holds the authority, the certificate is made at once. Where it does not, a signing request is
/// written to DIR/coordinator.csr for `medfed pki approve`, and --certificate installs the answer.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  medfed pki coordinator --dir federation --dns fed.example.org --ip 192.0.2.7
  medfed pki coordinator --dir federation                    renews it, for the same names
  medfed pki coordinator --dir federation --certificate coordinator.pem")]
struct CoordinatorArgs {
    /// Folder of the coordinator.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Name under which hospitals dial the coordinator (repeatable) [default: as before].
    #[arg(long, value_name = "NAME")]
    dns: Vec<String>,
    /// Address under which hospitals dial the coordinator (repeatable) [default: as before].
    #[arg(long, value_name = "ADDRESS")]
    ip: Vec<std::net::IpAddr>,
    /// Days until the certificate ends.
    #[arg(long, value_name = "DAYS", default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    valid_days: u32,
    /// Make a new key; the certificates of the old one are revoked.
    #[arg(long)]
    new_key: bool,
    /// Install the certificate that the authority sent.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["dns", "ip", "new_key"])]
    certificate: Option<PathBuf>,
    /// Fingerprint of the authority, asked for over another way than its certificate came.
    #[arg(long, value_name = "SHA256", requires = "certificate")]
    authority: Option<Fingerprint>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Certify the key of a signing request, after its fingerprint was compared.
///
/// A request can be forged on its way. Ask the hospital over the telephone for the fingerprint that
/// `medfed site enroll` printed: give it with --fingerprint, or compare it when you are asked.
#[derive(Debug, clap::Args)]
struct ApproveArgs {
    /// The signing request.
    #[arg(value_name = "REQUEST")]
    request: PathBuf,
    /// Folder of the federation.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Fingerprint that the hospital read out [default: asks].
    #[arg(long, value_name = "SHA256")]
    fingerprint: Option<Fingerprint>,
    /// Days until the certificate ends.
    #[arg(long, value_name = "DAYS", default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    valid_days: u32,
    /// Revoke the certificates that the name has for another key.
    #[arg(long)]
    replace: bool,
    /// File for the certificate, to be sent back [default: NAME.pem].
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Take every certificate of a hospital back, or the coordinator's.
#[derive(Debug, clap::Args)]
struct RevokeArgs {
    /// Name of the hospital.
    #[arg(value_name = "NAME", value_parser = enrolment::site, required_unless_present = "coordinator", conflicts_with = "coordinator")]
    name: Option<SiteId>,
    /// The coordinator's certificates instead of a hospital's.
    #[arg(long)]
    coordinator: bool,
    /// Folder of the federation.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// List every certificate that the authority issued.
#[derive(Debug, clap::Args)]
struct ListArgs {
    /// Folder of the federation.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

impl PkiCommand {
    /// Runs it.
    pub(crate) fn run(self) -> Result<(), Failure> {
        match self.action {
            Action::Init(args) => init(&args),
            Action::Coordinator(args) => coordinator(&args),
            Action::Approve(args) => approve(&args),
            Action::Revoke(args) => revoke(&args),
            Action::List(args) => list(&args),
        }
    }
}

fn init(args: &InitArgs) -> Result<(), Failure> {
    let made = AuthorityFolder::create(&args.dir, args.name.as_str(), args.valid_days, clock::now());
    let made = made.map_err(|error| pki_failure(error, "the authority was not made"))?;
    let authority = made.authority();
    let (fingerprint, until) = (authority.fingerprint(), date(authority.not_after()));
    if args.json {
        let object = json!({ "name": authority.name(), "fingerprint": fingerprint, "valid_until": until });
        return print(&pretty(&object));
    }
    print(&format!("authority of {}, valid until {until}\nfingerprint  {fingerprint}\n", authority.name()))?;
    note(&format!(
        "Tell the hospitals this fingerprint over another way than files. Keep a copy of {} where only you can \
         read it: without it no hospital can be certified or revoked.\nNext: medfed pki coordinator --dir {} \
         --dns NAME",
        args.dir.join("authority").display(),
        shell_word(&args.dir)
    ));
    Ok(())
}

fn coordinator(args: &CoordinatorArgs) -> Result<(), Failure> {
    let holder = Holder::coordinator(&args.dir);
    let now = clock::now();
    if let Some(file) = &args.certificate {
        let installed = enrolment::install(&holder, file, args.authority)?;
        return show_coordinator(&installed, args.json);
    }
    let failed = |error| pki_failure(error, "the coordinator's certificate was not made");
    let mut hosts: Vec<String> = args.dns.clone();
    hosts.extend(args.ip.iter().map(ToString::to_string));
    if hosts.is_empty() {
        let before = holder.certificate().map_err(failed)?;
        hosts = before.map(|certificate| certificate.hosts().to_vec()).unwrap_or_default();
    }
    if hosts.is_empty() {
        return Err(Failure::user(anyhow::anyhow!(
            "the coordinator's certificate needs a name or an address"
        ))
        .hint("give what hospitals dial: --dns fed.example.org, or --ip 192.0.2.7"));
    }
    let request = holder.request(&Party::Coordinator, &hosts, args.new_key).map_err(failed)?;
    if !AuthorityFolder::is_in(&args.dir) {
        return enrolment::show_request(&holder, &request, args.json);
    }
    let mut authority = AuthorityFolder::open(&args.dir).map_err(failed)?;
    let approval = Approval { valid_days: args.valid_days, fingerprint: None, replace: args.new_key };
    let certificate = authority.approve(&request, &approval, now).map_err(failed)?;
    holder.install(authority.bundle(&certificate).as_bytes(), None, now).map_err(failed)?;
    show_coordinator(&certificate, args.json)
}

fn show_coordinator(certificate: &Certificate, json: bool) -> Result<(), Failure> {
    if json {
        return print(&pretty(&certificate_json(certificate)));
    }
    print(&format!(
        "{}, for {}, valid until {}\nfingerprint  {}\n",
        certificate.party(),
        certificate.hosts().join(", "),
        date(certificate.not_after()),
        certificate.fingerprint()
    ))?;
    note("Hospitals may name this fingerprint in their policy (coordinators), or give it with --pin.");
    Ok(())
}

fn approve(args: &ApproveArgs) -> Result<(), Failure> {
    let place = args.request.display();
    let request = Request::parse(&read_bounded(&args.request)?)
        .map_err(|error| pki_failure(error, &format!("{place} was not approved")))?;
    if args.fingerprint.is_none() {
        note(&format!(
            "{place} asks for a certificate for {}\nfingerprint  {}",
            request.party(),
            request.fingerprint()
        ));
        if !confirm("Has the hospital read the same fingerprint to you?")? {
            return Err(Failure::user(anyhow::anyhow!("{place} was not approved"))
                .hint("ask for the fingerprint over the telephone, then give it with --fingerprint"));
        }
    }
    let failed = |error| pki_failure(error, &format!("{place} was not approved"));
    let mut authority = AuthorityFolder::open(&args.dir).map_err(failed)?;
    let approval =
        Approval { valid_days: args.valid_days, fingerprint: args.fingerprint, replace: args.replace };
    let certificate = authority.approve(&request, &approval, clock::now()).map_err(failed)?;
    let out = args.out.clone().unwrap_or_else(|| {
        let name = certificate.party().site().map_or("coordinator", SiteId::as_str);
        PathBuf::from(format!("{name}.pem"))
    });
    replace_file(&out, authority.bundle(&certificate).as_bytes())?;
    if args.json {
        let mut object = certificate_json(&certificate);
        object["file"] = json!(out);
        return print(&pretty(&object));
    }
    print(&format!(
        "{} is certified until {}: {}\n",
        certificate.party(),
        date(certificate.not_after()),
        out.display()
    ))?;
    let install = match certificate.party() {
        Party::Coordinator => "medfed pki coordinator --dir DIR --certificate",
        Party::Site(_) => "medfed site enroll --dir DIR --certificate",
    };
    note(&format!(
        "Send the file back; it is no secret. There: {install} {}\nWhere the coordinator is on another machine, \
         copy authority.crt, roster.json and crl.pem of {} to it.",
        shell_word(&out),
        args.dir.display()
    ));
    Ok(())
}

fn revoke(args: &RevokeArgs) -> Result<(), Failure> {
    let party = args.name.clone().map_or(Party::Coordinator, Party::Site);
    let failed = |error| pki_failure(error, &format!("{party} was not revoked"));
    let mut authority = AuthorityFolder::open(&args.dir).map_err(failed)?;
    let revoked = authority.revoke(&party, clock::now()).map_err(|error| match &error {
        PkiError::Unknown { known, .. } if !known.is_empty() => {
            let hint = format!("on the roster are: {}", known.join(", "));
            failed(error).hint(hint)
        }
        _ => failed(error),
    })?;
    if args.json {
        return print(&pretty(&json!({ "party": party.to_string(), "revoked": revoked })));
    }
    print(&match revoked {
        0 => format!("{party} had no certificate left; the list of revocations was written again\n"),
        1 => format!("{party}: its certificate is revoked\n"),
        many => format!("{party}: its {many} certificates are revoked\n"),
    })?;
    note(&format!(
        "A coordinator in {} refuses it from its next message on. Elsewhere, copy crl.pem and roster.json to it.",
        args.dir.display()
    ));
    Ok(())
}

fn list(args: &ListArgs) -> Result<(), Failure> {
    let entries = roster(&args.dir)?;
    let now = clock::now();
    let state = |entry: &Entry| match entry {
        Entry { revoked: Some(at), .. } => format!("revoked {}", date(*at)),
        entry if entry.certificate.not_after() < now => "expired".to_owned(),
        _ => "valid".to_owned(),
    };
    if args.json {
        let objects: Vec<Value> = entries
            .iter()
            .map(|entry| {
                let mut object = certificate_json(&entry.certificate);
                object["state"] = json!(state(entry).split(' ').next());
                object["revoked_at"] = json!(entry.revoked.map(date));
                object
            })
            .collect();
        return print(&pretty(&json!({ "certificates": objects })));
    }
    let mut text = String::new();
    let wide = entries.iter().map(|entry| name(&entry.certificate).chars().count()).max().unwrap_or(0).max(4);
    if entries.is_empty() {
        note("The authority has certified nobody yet: `medfed pki coordinator`, `medfed pki approve`.");
        return Ok(());
    }
    let _ = writeln!(text, "{:wide$}  {:20}  {:28}  fingerprint", "name", "until", "state");
    for entry in &entries {
        let certificate = &entry.certificate;
        let (name, until) = (name(certificate), date(certificate.not_after()));
        let _ =
            writeln!(text, "{name:wide$}  {until:20}  {:28}  {}", state(entry), certificate.fingerprint());
    }
    print(&text)
}

/// The roster of an authority's folder, or of a coordinator's that has a copy.
fn roster(dir: &Path) -> Result<Vec<Entry>, Failure> {
    let failed = |error| pki_failure(error, "the roster cannot be listed");
    if AuthorityFolder::is_in(dir) {
        return Ok(AuthorityFolder::open(dir).map_err(failed)?.roster().entries().to_vec());
    }
    Ok(Roster::read(&dir.join("roster.json")).map_err(failed)?.entries().to_vec())
}

fn name(certificate: &Certificate) -> String {
    certificate.party().site().map_or_else(|| "(coordinator)".to_owned(), ToString::to_string)
}

/// A certificate for programs.
pub(super) fn certificate_json(certificate: &Certificate) -> Value {
    json!({
        "name": certificate.party().site().map(SiteId::as_str),
        "role": if certificate.party().site().is_some() { "site" } else { "coordinator" },
        "uri": certificate.party().uri(),
        "hosts": certificate.hosts(),
        "fingerprint": certificate.fingerprint(),
        "serial": certificate.serial(),
        "valid_from": date(certificate.not_before()),
        "valid_until": date(certificate.not_after()),
    })
}
