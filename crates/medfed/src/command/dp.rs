//! `medfed dp`: what noised steps cost, and the noise that a budget buys, before anything is trained.

mod plan;

use crate::failure::Failure;
use medfed_dp::{Accountant, DpError, History, Phase, Spent, calibrate};
use medfed_types::{Delta, Epsilon, NoiseMultiplier, SamplingRate, ScalarError};
use serde_json::{Value, json};
use std::io::Write;

/// Accounts for differential privacy without training anything.
#[derive(Debug, clap::Args)]
pub(crate) struct DpCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    Epsilon(EpsilonArgs),
    Delta(DeltaArgs),
    Calibrate(CalibrateArgs),
    Plan(plan::PlanArgs),
}

/// Prints the epsilon that noised steps cost, by both accountants, rounded up.
///
/// Every step sums the clipped gradients of a Poisson sample and adds Gaussian noise. Epsilon holds for
/// adding or removing one unit (an image or a patient). PLD is the tight number, RDP a looser one that is
/// computed independently.
#[derive(Debug, clap::Args)]
#[command(
    allow_negative_numbers = true,
    after_help = "Examples:\n  \
        medfed dp epsilon --sampling-rate 0.01 --noise-multiplier 1.0 --steps 1000 --delta 1e-5\n  \
        medfed dp epsilon --phase 0.05,0.8,100 --phase 0.05,1.2,50 --delta 1e-5 --json"
)]
struct EpsilonArgs {
    #[command(flatten)]
    taken: StepsArgs,
    /// Probability with which the guarantee may fail: far below one over the number of units
    #[arg(long, value_name = "D")]
    delta: f64,
    /// Print one JSON object, epsilon unrounded
    #[arg(long)]
    json: bool,
}

/// Prints the delta that noised steps cost at an epsilon, by both accountants, rounded up.
///
/// The same guarantee read the other way: with which probability may the loss pass this epsilon?
#[derive(Debug, clap::Args)]
#[command(
    allow_negative_numbers = true,
    after_help = "Example:\n  \
        medfed dp delta --sampling-rate 0.01 --noise-multiplier 1.0 --steps 1000 --epsilon 3"
)]
struct DeltaArgs {
    #[command(flatten)]
    taken: StepsArgs,
    /// Epsilon that is held with probability 1 - delta
    #[arg(long, value_name = "E")]
    epsilon: f64,
    /// Print one JSON object, delta unrounded
    #[arg(long)]
    json: bool,
}

/// Steps that were or will be taken.
#[derive(Debug, clap::Args)]
struct StepsArgs {
    /// Probability with which each unit joins a batch: expected batch size / number of units, above 0, at most 1
    #[arg(long, value_name = "Q", requires_all = ["noise_multiplier", "steps"], required_unless_present = "phases")]
    sampling_rate: Option<f64>,
    /// Standard deviation of the noise / clipping norm, above 0
    #[arg(long, value_name = "S", requires = "sampling_rate")]
    noise_multiplier: Option<f64>,
    /// Number of noised steps: rounds times steps a round
    #[arg(long, value_name = "T", requires = "sampling_rate")]
    steps: Option<u64>,
    /// Steps with terms of their own: sampling rate, noise multiplier, steps (repeatable, in any order)
    #[arg(long = "phase", value_name = "Q,S,T")]
    phases: Vec<String>,
}

/// Prints the smallest noise multiplier with which the steps stay within an epsilon, rounded up.
#[derive(Debug, clap::Args)]
#[command(
    allow_negative_numbers = true,
    after_help = "Examples:\n  \
        medfed dp calibrate --target-epsilon 3 --sampling-rate 0.01 --steps 1000 --delta 1e-5\n  \
        medfed dp calibrate --target-epsilon 8 --sampling-rate 0.05 --steps 200 --delta 1e-5 --phase 0.05,0.8,100"
)]
struct CalibrateArgs {
    /// Epsilon to stay within, above 0
    #[arg(long, value_name = "E")]
    target_epsilon: f64,
    /// Probability with which each unit joins a batch: expected batch size / number of units, above 0, at most 1
    #[arg(long, value_name = "Q")]
    sampling_rate: f64,
    /// Number of steps to come: rounds times steps a round
    #[arg(long, value_name = "T")]
    steps: u64,
    /// Probability with which the guarantee may fail: far below one over the number of units
    #[arg(long, value_name = "D")]
    delta: f64,
    /// Accountant that has to stay within the target: pld (tight) or rdp (looser)
    #[arg(long, value_name = "NAME", default_value = "pld")]
    accountant: String,
    /// Steps already taken, which count too: sampling rate, noise multiplier, steps (repeatable)
    #[arg(long = "phase", value_name = "Q,S,T")]
    phases: Vec<String>,
    /// Print one JSON object, unrounded
    #[arg(long)]
    json: bool,
}

impl DpCommand {
    /// Runs it.
    pub(crate) fn run(self) -> Result<(), Failure> {
        let text = match self.action {
            Action::Epsilon(args) => args.answer(),
            Action::Delta(args) => args.answer(),
            Action::Calibrate(args) => args.answer(),
            Action::Plan(args) => args.answer(),
        }?;
        let mut out = std::io::stdout().lock();
        match writeln!(out, "{text}").and_then(|()| out.flush()) {
            // Whoever reads has seen enough.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            written => written.map_err(Failure::internal),
        }
    }
}

impl StepsArgs {
    fn history(&self) -> Result<History, Failure> {
        let mut history = read_phases(&self.phases)?;
        if let (Some(rate), Some(noise), Some(steps)) =
            (self.sampling_rate, self.noise_multiplier, self.steps)
        {
            history.push(phase(rate, noise, steps).map_err(refused)?);
        }
        Ok(history)
    }
}

impl EpsilonArgs {
    fn answer(&self) -> Result<String, Failure> {
        let history = self.taken.history()?;
        let delta = Delta::new(self.delta).map_err(scalar)?;
        let spent = Spent::of(&history, delta).map_err(refused)?;
        if self.json {
            let object = json!({ "pld": spent.pld, "rdp": spent.rdp, "delta": delta });
            return Ok(with_terms(object, &history));
        }
        let mut lines = vec![
            format!("epsilon {} by PLD, privacy loss distributions", rounded_up(spent.pld)),
            format!("epsilon {} by RDP, Rényi differential privacy", rounded_up(spent.rdp)),
            format!("at delta {:e} after", delta.get()),
        ];
        lines.extend(taken(&history));
        Ok(lines.join("\n"))
    }
}

impl DeltaArgs {
    fn answer(&self) -> Result<String, Failure> {
        let history = self.taken.history()?;
        let epsilon = Epsilon::new(self.epsilon).map_err(scalar)?;
        let of = |accountant: Accountant| accountant.delta(&history, epsilon).map_err(refused);
        let (pld, rdp) = (of(Accountant::Pld)?, of(Accountant::Rdp)?);
        if self.json {
            let object = json!({ "pld": pld, "rdp": rdp, "epsilon": epsilon });
            return Ok(with_terms(object, &history));
        }
        let mut lines = vec![
            format!("delta {} by PLD, privacy loss distributions", three_digits_up(pld)),
            format!("delta {} by RDP, Rényi differential privacy", three_digits_up(rdp)),
            format!("at epsilon {} after", epsilon.get()),
        ];
        lines.extend(taken(&history));
        Ok(lines.join("\n"))
    }
}

impl CalibrateArgs {
    fn answer(&self) -> Result<String, Failure> {
        let accountant: Accountant = self.accountant.parse().map_err(refused)?;
        let target = Epsilon::new(self.target_epsilon).ok().filter(|e| e.get() > 0.0 && e.get().is_finite());
        let target = target.ok_or(ScalarError {
            what: "the target epsilon",
            expected: "finite and above 0",
            found: self.target_epsilon,
        });
        let target = target.map_err(scalar)?;
        let rate = SamplingRate::new(self.sampling_rate).map_err(scalar)?;
        let delta = Delta::new(self.delta).map_err(scalar)?;
        let already = read_phases(&self.phases)?;
        let noise = calibrate(accountant, target, rate, self.steps, delta, &already).map_err(refused)?;
        let phase = Phase { rate, noise, steps: self.steps };
        let epsilon = accountant.epsilon(&already.with(phase), delta).map_err(refused)?;
        if self.json {
            let object = json!({
                "noise_multiplier": noise,
                "epsilon": epsilon,
                "accountant": accountant,
                "target_epsilon": target,
                "sampling_rate": rate,
                "steps": self.steps,
                "delta": delta,
                "already": already.phases().iter().map(terms).collect::<Value>(),
            });
            return Ok(format!("{object:#}"));
        }
        let mut lines = vec![
            format!("noise multiplier {}", (noise.get() * 1e4).ceil() / 1e4),
            format!("epsilon {} by {}", rounded_up(epsilon), accountant.to_string().to_uppercase()),
            format!("at delta {:e} after", delta.get()),
        ];
        lines.extend(already.phases().iter().map(describe));
        lines.push(format!("  {} steps at sampling rate {rate} with that noise", self.steps));
        Ok(lines.join("\n"))
    }
}

/// Reads `Q,S,T` triples.
fn read_phases(texts: &[String]) -> Result<History, Failure> {
    let read = |text: &String| {
        let parts: Vec<&str> = text.split(',').map(str::trim).collect();
        let numbers = match parts[..] {
            [rate, noise, steps] => rate.parse().ok().zip(noise.parse().ok()).zip(steps.parse().ok()),
            _ => None,
        };
        let ((rate, noise), steps) = numbers.ok_or_else(|| {
            Failure::user(anyhow::anyhow!(
                "--phase {text:?} is not a sampling rate, a noise multiplier and a number of steps"
            ))
            .hint("separate them by commas, for example --phase 0.05,0.8,100")
        })?;
        phase(rate, noise, steps).map_err(refused)
    };
    texts.iter().map(read).collect()
}

fn phase(rate: f64, noise: f64, steps: u64) -> Result<Phase, DpError> {
    Ok(Phase { rate: SamplingRate::new(rate)?, noise: NoiseMultiplier::new(noise)?, steps })
}

fn terms(phase: &Phase) -> Value {
    json!({ "sampling_rate": phase.rate, "noise_multiplier": phase.noise, "steps": phase.steps })
}

fn describe(phase: &Phase) -> String {
    format!("  {} steps at sampling rate {} with noise multiplier {}", phase.steps, phase.rate, phase.noise)
}

/// The object with the steps it speaks of.
fn with_terms(mut object: Value, history: &History) -> String {
    object["history"] = history.phases().iter().map(terms).collect();
    // One run of steps reads easier without a list.
    if let [only] = history.phases() {
        for (key, value) in terms(only).as_object().into_iter().flatten() {
            object[key] = value.clone();
        }
    }
    format!("{object:#}")
}

/// A line for each phase.
fn taken(history: &History) -> Vec<String> {
    match history.phases() {
        [] => vec!["  no step".to_owned()],
        phases => phases.iter().map(describe).collect(),
    }
}

/// Three significant digits, never less than the value.
fn three_digits_up(delta: Delta) -> String {
    let value = delta.get();
    let unit = 10f64.powf(value.log10().floor() - 2.0);
    format!("{:.2e}", if unit > 0.0 { (value / unit).ceil() * unit } else { value })
}

/// Four decimals, six where four would say little.
fn rounded_up(epsilon: Epsilon) -> f64 {
    epsilon.rounded_up(if epsilon.get() < 0.1 { 6 } else { 4 })
}

fn scalar(error: ScalarError) -> Failure {
    refused(DpError::Scalar(error))
}

/// What a refusal asks of the user.
fn refused(error: DpError) -> Failure {
    let hint = match &error {
        DpError::Scalar(scalar) if scalar.what.contains("rate") => {
            "the sampling rate is the expected batch size divided by the number of units: 64 of 6400 is 0.01"
        }
        DpError::Scalar(scalar) if scalar.what.contains("noise") => {
            "the noise multiplier is the noise's standard deviation divided by the clipping norm, for example 1.1"
        }
        DpError::Scalar(scalar) if scalar.what.contains("delta") => {
            "choose a delta far below one over the number of units, for example 1e-5"
        }
        DpError::Scalar(scalar) if scalar.what.contains("steps") => {
            "the number of steps is the number of rounds times the steps of a round"
        }
        DpError::Scalar(_) => "an epsilon from 1 to 10 is usual",
        DpError::UnknownAccountant { .. } => "pld is the tight accountant, rdp the looser one",
        DpError::Unreachable { .. } => {
            "raise the target or delta, or take fewer steps; steps already taken cannot be undone"
        }
        _ => return Failure::internal(error),
    };
    Failure::user(error).hint(hint)
}
