//! `medfed site enroll`: a hospital's key, and the certificate for it.

use crate::command::pki::certificate_json;
use crate::command::pki::enrolment::{self, date, pki_failure, pretty};
use crate::failure::Failure;
use crate::output::{note, print};
use crate::run::{replace_file, shell_word};
use medfed_net::{Certificate, Fingerprint, Holder, Party, clock};
use medfed_types::SiteId;
use std::path::PathBuf;

/// What a new site's policy says.
const POLICY: &str = "\
# What this hospital agrees to, whatever its coordinator asks. docs/network.md lists the keys; one that is not
# given here has its default. Changes take effect without restart.

# ε over all runs: what everyone outside may learn about a patient who is in the data. Agree on it in your house.
max_epsilon_total: 10
# Whom ε protects: single images, or with `patient` all images of a patient together.
unit: image
";

/// Make this hospital's key and ask the federation's authority for a certificate; install it; renew it.
///
/// The key is made here, in DIR/site.key, and never leaves the folder. It is the hospital's identity: in TLS,
/// in signed messages and in secure aggregation. The first call writes a signing request, the call with
/// --certificate installs and checks the answer. Without either it says how things stand.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  medfed site enroll --dir clinic --name \"North Clinic\"       makes the key and clinic/site.csr
  medfed site enroll --dir clinic --certificate clinic.pem    installs what the authority sent
  medfed site enroll --dir clinic --renew                     asks again, with the same key
  medfed site enroll --dir clinic --renew --new-key           asks again, with a new key
  medfed site enroll --dir clinic                             how long it is valid")]
pub(crate) struct Args {
    /// Folder of the site
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Name of the hospital in the federation
    #[arg(long, value_name = "NAME", value_parser = enrolment::site)]
    name: Option<SiteId>,
    /// Install the certificate that the authority sent
    #[arg(long, value_name = "FILE", conflicts_with_all = ["name", "renew", "new_key"])]
    certificate: Option<PathBuf>,
    /// Fingerprint of the authority, asked for over another way than its certificate came
    #[arg(long, value_name = "SHA256", requires = "certificate")]
    authority: Option<Fingerprint>,
    /// Ask for a new certificate before the old one ends
    #[arg(long)]
    renew: bool,
    /// Ask with a new key; the old one is used until the new certificate is installed
    #[arg(long, requires = "renew")]
    new_key: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let holder = Holder::site(&args.dir);
    let failed = |error| pki_failure(error, &format!("{} is not enrolled", args.dir.display()));
    if let Some(file) = &args.certificate {
        let certificate = enrolment::install(&holder, file, args.authority)?;
        let policy = args.dir.join("policy.yaml");
        if !policy.exists() {
            replace_file(&policy, POLICY.as_bytes())?;
        }
        show(&certificate, args.json)?;
        if !args.json {
            note(&format!(
                "Say in {} what the hospital agrees to. Then: medfed site doctor --dir {} --coordinator HOST",
                policy.display(),
                shell_word(&args.dir)
            ));
        }
        return Ok(());
    }
    let held = holder.holds().map_err(failed)?;
    if !args.renew && holder.certificate().map_err(failed)?.is_some() {
        if let (Some(asked), Some(found)) = (&args.name, &held)
            && found.site() != Some(asked)
        {
            let other = anyhow::anyhow!("{} belongs to {found}", args.dir.display());
            return Err(Failure::user(other).hint("choose another --dir: a folder holds one site"));
        }
        let identity = holder.load(clock::now()).map_err(failed)?;
        return show(identity.certificate(), args.json);
    }
    let party = match (args.name.clone().map(Party::Site), held) {
        (Some(named), _) => named,
        (None, Some(held)) => held,
        (None, None) => {
            return Err(Failure::user(anyhow::anyhow!("the hospital has no name yet"))
                .hint("give the name that the federation knows it by: --name \"North Clinic\""));
        }
    };
    let request = holder.request(&party, &[], args.new_key).map_err(failed)?;
    enrolment::show_request(&holder, &request, args.json)
}

fn show(certificate: &Certificate, json: bool) -> Result<(), Failure> {
    if json {
        return print(&pretty(&certificate_json(certificate)));
    }
    print(&format!(
        "{} is enrolled until {}\nfingerprint  {}\n",
        certificate.party(),
        date(certificate.not_after()),
        certificate.fingerprint()
    ))
}
