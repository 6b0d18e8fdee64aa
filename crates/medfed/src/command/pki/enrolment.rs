//! What a site and the coordinator have in common when they are certified.

use crate::failure::Failure;
use crate::output::{note, print};
use crate::run::shell_word;
use medfed_net::pki::Request;
use medfed_net::{Authority, Certificate, FileError, Fingerprint, Holder, Party, PkiError, clock};
use medfed_types::SiteId;
use serde_json::{Value, json};
use std::io::{self, BufRead as _, IsTerminal as _, Read as _, Write as _};
use std::path::Path;

pub(in crate::command) use medfed_net::certificate::date;

/// Largest file of a request or certificates that is read, in bytes.
const LARGEST: u64 = 64 << 10;

/// A name, as the command line reads it.
pub(in crate::command) fn site(text: &str) -> Result<SiteId, medfed_types::IdError> {
    SiteId::try_from(text)
}

/// A failure with what failed before the error, and the error's hint.
pub(in crate::command) fn pki_failure(error: PkiError, failed: &str) -> Failure {
    let hint = error.hint();
    let ours = matches!(error, PkiError::Make(_) | PkiError::Random(_));
    let error = anyhow::Error::new(error).context(failed.to_owned());
    if ours { Failure::internal(error).hint(hint) } else { Failure::user(error).hint(hint) }
}

/// Reads a file that a person named.
pub(in crate::command) fn read_bounded(path: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes));
    read.map_err(|error| {
        Failure::user(anyhow::Error::new(error).context(format!("{} cannot be read", path.display())))
            .hint("give the path of the file")
    })?;
    if bytes.len() as u64 > LARGEST {
        let large = anyhow::anyhow!("{} has more than {LARGEST} bytes", path.display());
        return Err(Failure::user(large).hint("this is neither a signing request nor a certificate"));
    }
    Ok(bytes)
}

/// Asks a person. Where nobody is there to ask, the answer is no.
pub(in crate::command) fn confirm(question: &str) -> Result<bool, Failure> {
    if !io::stdin().is_terminal() {
        return Ok(false);
    }
    let mut err = io::stderr().lock();
    let asked = write!(err, "{question} [y/N] ").and_then(|()| err.flush());
    let mut answer = String::new();
    asked
        .and_then(|()| io::stdin().lock().take(100).read_line(&mut answer))
        .map_err(|error| Failure::user(anyhow::Error::new(error).context("the answer cannot be read")))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Shows what was asked for, and what happens next.
pub(in crate::command) fn show_request(
    holder: &Holder,
    request: &Request,
    json: bool,
) -> Result<(), Failure> {
    let (file, fingerprint) = (holder.request_file(), request.fingerprint());
    if json {
        return print(&pretty(&json!({
            "name": request.party().site().map(SiteId::as_str),
            "request": file,
            "fingerprint": fingerprint,
        })));
    }
    print(&format!(
        "{}: signing request in {}\nfingerprint  {fingerprint}\n",
        request.party(),
        file.display()
    ))?;
    let next = match request.party() {
        Party::Coordinator => "medfed pki coordinator",
        Party::Site(_) => "medfed site enroll",
    };
    note(&format!(
        "Send the file to the federation's authority; it is no secret. Read the fingerprint to them over the \
         telephone.\nWith the file that they send back: {next} --dir {} --certificate FILE",
        shell_word(holder.folder())
    ));
    Ok(())
}

/// Installs what the authority sent. An authority that is new to this folder is trusted only by its
/// fingerprint: given, or compared by a person.
pub(in crate::command) fn install(
    holder: &Holder,
    file: &Path,
    authority: Option<Fingerprint>,
) -> Result<Certificate, Failure> {
    let failed = format!("{} was not installed", file.display());
    let bundle = read_bounded(file)?;
    let known = match holder.authority() {
        Ok(_) => true,
        Err(PkiError::File(FileError::Missing { .. })) => false,
        Err(error) => return Err(pki_failure(error, &failed)),
    };
    if !known && authority.is_none() {
        let sent = Authority::parse_pem(&bundle).map_err(|problem| {
            let path = file.to_owned();
            pki_failure(PkiError::Certificate { path, problem }, &failed)
        })?;
        note(&format!(
            "The authority of {} certifies this key.\nfingerprint  {}",
            sent.name(),
            sent.fingerprint()
        ));
        if !confirm("Has the authority told you the same fingerprint over another way?")? {
            return Err(Failure::user(anyhow::anyhow!(failed)).hint(
                "ask the authority for its fingerprint over the telephone, then give it with --authority",
            ));
        }
    }
    holder.install(&bundle, authority, clock::now()).map_err(|error| pki_failure(error, &failed))
}

/// JSON for people too.
pub(in crate::command) fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}
