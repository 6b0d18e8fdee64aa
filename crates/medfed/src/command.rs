//! The subcommands, one file each.

mod audit;
mod bench;
mod broker;
pub(crate) mod config;
mod coordinator;
mod dashboard;
mod data;
mod demo;
mod dp;
mod evaluate;
mod federation;
mod federation_demo;
mod pki;
mod predict;
mod privacy_audit;
mod report;
mod runs;
mod simulate;
mod site;

use crate::failure::Failure;
use crate::output;
use crate::run::{Order, Start};
use clap::CommandFactory as _;
use medfed_config::{Config, Override};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

/// What the user asks for.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    Demo(demo::Args),
    Simulate(simulate::Args),
    Dashboard(dashboard::Args),
    Coordinator(coordinator::Args),
    Site(Box<site::SiteCommand>),
    Pki(pki::PkiCommand),
    Federation(federation::FederationCommand),
    FederationDemo(federation_demo::Args),
    Config(config::ConfigCommand),
    Data(data::DataCommand),
    Predict(predict::PredictCommand),
    PrivacyAudit(privacy_audit::PrivacyAuditCommand),
    Evaluate(evaluate::EvaluateCommand),
    /// Account for differential privacy without training: epsilon of steps, noise for a budget.
    Dp(dp::DpCommand),
    /// Measure how fast this machine trains, and what each aggregation rule withstands.
    Bench(bench::BenchCommand),
    Runs(runs::RunsCommand),
    Audit(audit::AuditCommand),
    Report(report::ReportCommand),
    /// Print a script that completes commands and options in a shell.
    #[command(
        after_help = "Examples:\n  medfed completions bash > ~/.local/share/bash-completion/completions/medfed\n  medfed completions fish > ~/.config/fish/completions/medfed.fish"
    )]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

impl Command {
    /// Runs it.
    pub(crate) fn run(self) -> Result<(), Failure> {
        match self {
            Self::Demo(args) => demo::run(&args),
            Self::Simulate(args) => simulate::run(&args),
            Self::Dashboard(args) => dashboard::run(args),
            Self::Coordinator(args) => coordinator::run(&args),
            Self::Federation(command) => command.run(),
            Self::FederationDemo(args) => federation_demo::run(&args),
            Self::Site(command) => command.run(),
            Self::Pki(command) => command.run(),
            Self::Config(command) => command.run(),
            Self::Data(command) => command.run(),
            Self::Predict(command) => command.run(),
            Self::PrivacyAudit(command) => command.run(),
            Self::Evaluate(command) => command.run(),
            Self::Dp(command) => command.run(),
            Self::Bench(command) => command.run(),
            Self::Runs(command) => command.run(),
            Self::Audit(command) => command.run(),
            Self::Report(command) => command.run(),
            Self::Completions { shell } => completions(shell),
        }
    }
}

/// What `demo` and `simulate` have in common.
#[derive(Debug, clap::Args)]
struct RunArgs {
    /// Folder for everything the run writes [default: results/ and logs/, or as configured]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Continue the newest unfinished run in the folder, to the same result as without interruption
    #[arg(long)]
    resume: bool,
    /// Print one JSON object, the same as results.json
    #[arg(long)]
    json: bool,
    /// Threads [default: one per core]; the result does not depend on it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
}

impl RunArgs {
    /// What `--out` sets in the configuration.
    fn overrides(&self) -> Result<Vec<Override>, Failure> {
        let Some(out) = &self.out else { return Ok(Vec::new()) };
        [
            ("results_dir", out.clone()),
            ("logs_dir", out.join("logs")),
            ("checkpoints_dir", out.join("checkpoints")),
        ]
        .iter()
        .map(|(key, dir)| set_path(&format!("output.{key}"), dir))
        .collect()
    }

    /// The order to run `config`, or to resume a run; `changed` when settings were given besides.
    fn order(&self, command: &'static str, config: Config, changed: bool) -> Order {
        let start = match (self.resume, changed) {
            (false, _) => Start::New,
            (true, false) => Start::Resume,
            (true, true) => Start::ResumeSame,
        };
        Order { command, config, start, json: self.json, threads: self.threads.map(usize::from) }
    }
}

/// Warnings and errors go to stderr; `MEDFED_LOG` asks for more.
fn log() {
    let level = std::env::var("MEDFED_LOG").unwrap_or_else(|_| "warn".to_owned());
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new(level))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .finish();
    // There is one already only when a test made it.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// Sets a key of the configuration to a path.
fn set_path(key: &str, path: &Path) -> Result<Override, Failure> {
    let text = path.to_str().ok_or_else(|| {
        Failure::user(anyhow::anyhow!("{} is not valid UTF-8", path.display())).hint("rename the path")
    })?;
    Override::text(key, text).map_err(Failure::internal)
}

/// The script that completes `medfed` in a shell.
fn completions(shell: clap_complete::Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut crate::Cli::command(), "medfed", &mut script);
    output::print(&String::from_utf8_lossy(&script))
}
