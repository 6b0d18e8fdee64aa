//! `medfed config`, and how every command reads a configuration file.

use std::fmt::Write as _;
use std::io::Read;
use std::path::{Path, PathBuf};

use medfed_config::section::PrivacyUnit;
use medfed_config::{Config, ConfigErrors, MAX_BYTES, Override, Place};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::output::print;

/// Check a configuration, show its effective values, or print its schema.
#[derive(Debug, clap::Args)]
pub(crate) struct ConfigCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Check a file and say what a run with it would do.
    Check {
        #[command(flatten)]
        source: Source,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Print every key with its value, defaults included, as YAML.
    Show {
        #[command(flatten)]
        source: Source,
    },
    /// Print the JSON Schema of the configuration.
    Schema,
}

/// A configuration file and changes to it.
#[derive(Debug, clap::Args)]
struct Source {
    /// Configuration file.
    file: PathBuf,
    /// Set a key, as in privacy.delta=1e-6 or data.nodes.0.samples=500; repeatable.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl ConfigCommand {
    /// Runs it.
    pub(crate) fn run(self) -> Result<(), Failure> {
        match self.action {
            Action::Check { source, json } => check(&source, json),
            Action::Show { source } => print(&load(&source.file, &source.set)?.to_yaml()),
            Action::Schema => print(&pretty(&Config::schema())),
        }
    }
}

/// Reads a configuration file and applies `--set` arguments to it.
fn load(file: &Path, set: &[String]) -> Result<Config, Failure> {
    read_config(file, &overrides(set)?)
}

/// Reads a configuration file and applies overrides to it.
pub(crate) fn read_config(file: &Path, overrides: &[Override]) -> Result<Config, Failure> {
    parse(file, overrides)?.map_err(invalid)
}

/// Reads `--set` arguments.
pub(crate) fn overrides(set: &[String]) -> Result<Vec<Override>, Failure> {
    let overrides: Result<Vec<_>, _> = set.iter().map(|set| Override::parse(set)).collect();
    overrides.map_err(|error| {
        Failure::user(error)
            .hint("for example --set privacy.delta=1e-6; `medfed config schema` lists all keys")
    })
}

/// The outer error: there is no text to check. The inner one: the text is no configuration.
fn parse(file: &Path, overrides: &[Override]) -> Result<Result<Config, ConfigErrors>, Failure> {
    let text = read(file)?;
    Ok(Config::from_yaml(&text, &file.display().to_string(), overrides))
}

fn read(file: &Path) -> Result<String, Failure> {
    let failed = |error: std::io::Error| {
        Failure::user(anyhow::Error::new(error).context(format!("cannot read {}", file.display())))
    };
    let mut bytes = Vec::new();
    // One byte beyond the limit is enough for the check to refuse the file.
    let opened = std::fs::File::open(file).map_err(failed)?;
    opened.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > MAX_BYTES {
        return Err(Failure::user(anyhow::anyhow!(
            "{} has more than {MAX_BYTES} bytes, a configuration has fewer",
            file.display()
        )));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = valid.split(|byte| *byte == b'\n').count();
        Failure::user(anyhow::anyhow!("{}:{line}: expected UTF-8 text, found other bytes", file.display()))
    })
}

/// What a wrong configuration asks of the user.
pub(crate) fn invalid(errors: ConfigErrors) -> Failure {
    let colour = console::colors_enabled_stderr();
    if colour { Failure::user(anyhow::Error::msg(errors.render(true))) } else { Failure::user(errors) }
}

fn check(source: &Source, json: bool) -> Result<(), Failure> {
    let file = source.file.display();
    let config = match parse(&source.file, &overrides(&source.set)?)? {
        Ok(config) => config,
        Err(errors) => {
            if json {
                print(&pretty(&json!({
                    "file": file.to_string(),
                    "valid": false,
                    "problems": errors.problems().iter().map(problem).collect::<Vec<_>>(),
                })))?;
            }
            return Err(invalid(errors));
        }
    };
    let (unavailable, notes) = (config.unavailable(), config.notes());
    if json {
        return print(&pretty(&json!({
            "file": file.to_string(),
            "valid": true,
            "runs": unavailable.is_empty(),
            "unavailable": unavailable,
            "notes": notes,
            "hash": config.hash(),
            "config": config.to_json(),
        })));
    }
    let mut out = format!("{file} is valid\n{}", highlights(&config));
    if !unavailable.is_empty() {
        out += "\naccepted, but a run is refused until this is switched off:\n";
    }
    // Writing to a string cannot fail.
    for refused in unavailable {
        let _ = writeln!(out, "  {}: {}\n    {}", refused.key, refused.reason, refused.hint);
    }
    for (index, note) in notes.iter().enumerate() {
        let gap = if index == 0 { "\n" } else { "" };
        let _ = writeln!(out, "{gap}note: {}: {}", note.key, note.text);
    }
    print(&out)
}

fn problem(problem: &medfed_config::Problem) -> Value {
    let mut value = json!({
        "key": problem.key,
        "message": problem.kind.to_string(),
        "hint": problem.hint(),
    });
    match &problem.place {
        Place::File { line, column, .. } => {
            value["line"] = json!(line);
            value["column"] = json!(column);
        }
        Place::Override { text } => value["set"] = json!(text),
        Place::Default => {}
    }
    value
}

/// What a run would do, in a few lines.
fn highlights(config: &Config) -> String {
    let federated = &config.federated;
    let training = match config.training.local_steps {
        Some(steps) => format!("{steps} local steps"),
        None => format!("{} local epochs", config.training.local_epochs),
    };
    let classes = match config.model.num_classes {
        Some(classes) => format!(", {classes} classes"),
        None => String::new(),
    };
    let data = if config.data.is_synthetic() {
        let images: u64 = config.hospitals().iter().map(|hospital| u64::from(hospital.samples)).sum();
        format!("{images} synthetic chest radiographs")
    } else {
        config.data.data_dir.display().to_string()
    };
    let privacy = &config.privacy;
    let protection = if privacy.enabled {
        let noise = match privacy.noise_multiplier.fixed() {
            Some(noise) => format!("noise multiplier {noise}"),
            None => "noise that spends exactly the budget".to_owned(),
        };
        let unit = match privacy.unit {
            PrivacyUnit::Image => "image",
            PrivacyUnit::Patient => "patient",
        };
        format!(
            "ε ≤ {} at δ = {:e} for every {unit}, {noise}, clipping norm {}",
            privacy.epsilon_budget,
            privacy.delta.get(),
            privacy.max_grad_norm
        )
    } else {
        "none".to_owned()
    };
    format!(
        "  hospitals  {}\n  rounds     {}, {training}\n  model      {}{classes}\n  data       {data}\n  \
         privacy    {protection}\n",
        federated.num_clients,
        federated.num_rounds,
        config.model.name.as_str(),
    )
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}
