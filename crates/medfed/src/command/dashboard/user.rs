//! `medfed dashboard user`: who may log in.

use crate::failure::Failure;
use crate::output;
use medfed_dashboard::{Role, UserName, Users, UsersError};
use std::io::{self, IsTerminal as _, Read as _};
use std::path::PathBuf;

/// Name of the file of users.
pub(super) const FILE: &str = "users.json";
/// Most that is read as a password.
const LONGEST: u64 = 4096;

/// Add, remove and list those who may log in.
#[derive(Debug, clap::Subcommand)]
pub(super) enum UserCommand {
    /// Add a user, or give one another password and role; the password comes from the terminal or stdin.
    Add {
        /// Name to log in with
        name: String,
        /// What the user may do: read (viewer), or also start, stop and edit (operator)
        #[arg(long, value_parser = ["viewer", "operator"])]
        role: String,
        #[command(flatten)]
        file: UsersFile,
    },
    /// Remove a user; open sessions end at once.
    Remove {
        /// Name of the user
        name: String,
        #[command(flatten)]
        file: UsersFile,
    },
    /// List names and roles.
    List {
        #[command(flatten)]
        file: UsersFile,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// Where the users are.
#[derive(Debug, clap::Args)]
pub(super) struct UsersFile {
    /// File of users
    #[arg(long, value_name = "FILE", default_value = "dashboard/users.json")]
    users: PathBuf,
}

impl UserCommand {
    /// Runs it.
    pub(super) fn run(self) -> Result<(), Failure> {
        match self {
            Self::Add { name, role, file } => {
                let name = UserName::try_from(name).map_err(failed)?;
                let role = if role == "operator" { Role::Operator } else { Role::Viewer };
                // What is wrong with the file shows before anybody types a password.
                Users::read(&file.users).map_err(failed)?;
                let password = password()?;
                let replaced = Users::change(&file.users, |users| users.add(name.clone(), role, &password))
                    .map_err(failed)?;
                let done = if replaced { "changed" } else { "added" };
                output::note(&format!(
                    "{} {} {done} in {}",
                    role.name(),
                    name.as_str(),
                    file.users.display()
                ));
                Ok(())
            }
            Self::Remove { name, file } => {
                let name = UserName::try_from(name).map_err(failed)?;
                Users::change(&file.users, |users| users.remove(&name)).map_err(failed)?;
                output::note(&format!("{} removed from {}", name.as_str(), file.users.display()));
                Ok(())
            }
            Self::List { file, json } => {
                let users = Users::read(&file.users).map_err(failed)?;
                let text = if json {
                    let list: Vec<_> = users
                        .list()
                        .map(|(name, role)| serde_json::json!({"name": name, "role": role}))
                        .collect();
                    serde_json::to_string_pretty(&list).map_err(Failure::internal)? + "\n"
                } else {
                    let lines: Vec<_> = users
                        .list()
                        .map(|(name, role)| format!("{:8}  {}\n", role.name(), name.as_str()))
                        .collect();
                    lines.concat()
                };
                output::print(&text)
            }
        }
    }
}

/// The password: typed twice and not shown, or a line of stdin.
fn password() -> Result<String, Failure> {
    let unread = |error: io::Error| Failure::user(error).hint("type the password, or pipe it in");
    if io::stdin().is_terminal() {
        let terminal = console::Term::stderr();
        let ask = |prompt: &str| {
            terminal.write_str(prompt)?;
            terminal.read_secure_line()
        };
        let first = ask("password: ").map_err(unread)?;
        if ask("the same again: ").map_err(unread)? != first {
            return Err(Failure::user(anyhow::anyhow!("the two passwords differ")).hint("try again"));
        }
        return Ok(first);
    }
    let mut text = String::new();
    io::stdin().take(LONGEST).read_to_string(&mut text).map_err(unread)?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

/// What is wrong with the users, and what to do about it.
pub(super) fn failed(error: UsersError) -> Failure {
    let hint = match &error {
        UsersError::Unknown { .. } => "medfed dashboard user list shows who is there",
        UsersError::Password { .. } => "a sentence of several words is easy to remember",
        UsersError::File(_) => "the file must belong to you, with mode 600: chmod 600 FILE",
        UsersError::Malformed { .. } => "restore it, or remove it and add the users again",
        _ => return Failure::user(error),
    };
    Failure::user(error).hint(hint)
}
