//! What is seen while a run works: bars on a terminal, a line per round elsewhere. All of it on stderr.

use super::prepare::Prepared;
use super::summary::rounds;
use console::style;
use indicatif::{
    FormattedDuration, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle,
};
use medfed_config::section::LogLevel;
use medfed_dp::orchestrator::{Action, Reason};
use medfed_federation::report::{RoundReport, RoundStatus, SiteDecision};
use medfed_federation::{Observer, Progress, Setup};
use medfed_types::{Epsilon, RoundId, SiteId};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Parts into which the bar of the rounds divides one round.
const FINENESS: u64 = 1000;

/// δ times the number of units from which on a warning is due.
const WEAK_DELTA: f64 = 0.1;

/// The live display of a run.
#[derive(Debug)]
pub(crate) struct Display {
    bars: MultiProgress,
    /// Bars only help people; a file or a pipe gets lines.
    live: bool,
    rounds_to_log: bool,
    /// Least severity of the orchestrator's decisions in the log.
    decisions_to_log: LogLevel,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    rounds: Option<ProgressBar>,
    sites: BTreeMap<SiteId, ProgressBar>,
    /// Rounds of the plan, and rounds done.
    planned: u32,
    done: u32,
    round_started: Option<Instant>,
}

impl Display {
    /// A display that also writes every round to the log, if `rounds_to_log`, and the orchestrator's
    /// decisions from the severity `decisions_to_log` on.
    pub(super) fn new(rounds_to_log: bool, decisions_to_log: LogLevel) -> Self {
        let live = std::io::stderr().is_terminal();
        let target = if live { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bars = MultiProgress::with_draw_target(target);
        Self { bars, live, rounds_to_log, decisions_to_log, state: Mutex::default() }
    }

    /// One line for people, also in the log.
    pub(super) fn say(&self, text: &str) {
        tracing::info!("{text}");
        self.line(text);
    }

    /// One line that people should not miss, also in the log.
    pub(super) fn warn(&self, text: &str) {
        tracing::warn!("{text}");
        self.line(&format!("{} {text}", style("warning:").yellow().bold().for_stderr()));
    }

    /// Says what is about to happen.
    pub(super) fn begin(&self, prepared: &Prepared, setup: &Setup) {
        let config = &prepared.config;
        let spec = setup.network().spec();
        let shape = spec.input;
        self.say(&format!(
            "{} with {} parameters on {}x{} images, {} classes; {}, {} test images",
            spec.architecture,
            thousands(setup.network().layout().len() as u64),
            shape.height,
            shape.width,
            spec.classes,
            rounds(config.federated.num_rounds),
            thousands(setup.test_images() as u64)
        ));
        let widest = setup.hospitals().iter().map(|hospital| hospital.id.as_str().len()).max().unwrap_or(0);
        for hospital in setup.hospitals() {
            let images = &hospital.images;
            let mut text = format!(
                "  {:<widest$}  {} images to train, {} to validate, {} steps a round",
                hospital.id.to_string(),
                thousands(images.announced_images()),
                thousands(images.validation.len() as u64),
                hospital.training.steps
            );
            if let Some(plan) = &hospital.plan {
                let terms = plan.terms();
                // Writing to a string cannot fail.
                let _ = write!(text, ", rate {:.3}, noise {:.3}", terms.rate.get(), terms.noise.get());
            }
            self.say(&text);
        }
        let exposed = setup.hospitals().iter().find(|hospital| {
            let units = hospital.images.train.len() as f64;
            hospital.plan.as_ref().is_some_and(|plan| plan.terms().delta.get() * units >= WEAK_DELTA)
        });
        if let Some(hospital) = exposed {
            self.warn(&format!(
                "delta {:e} is large for the {} units of {}: it allows giving one of them away whole; choose one far below 1 over their number",
                config.privacy.delta.get(),
                hospital.images.train.len(),
                hospital.id
            ));
        }
        if let Some(attackers) = setup.attackers() {
            let names: Vec<&str> = attackers.sites().iter().map(SiteId::as_str).collect();
            self.warn(&format!(
                "SIMULATED ATTACK {}: {} {} {}; do not use this model",
                attackers.attack(),
                names.join(", "),
                if names.len() == 1 { "sends" } else { "send" },
                attackers.attack().description()
            ));
        }
        for note in config.notes() {
            self.say(&format!("note: {}: {}", note.key, note.text));
        }
        if !config.privacy.enabled {
            self.warn("privacy is off: updates and model are functions of the images, nothing protects them");
        } else if prepared.reproducible_noise {
            self.warn(&format!(
                "noise follows from seed {}: repeatable, but whoever knows the seed can remove it; leave the seed out to protect real patients",
                prepared.seed.0
            ));
        }
        self.plan(config.federated.num_rounds);
    }

    /// Shows how many of `rounds` rounds are done from now on.
    pub(super) fn plan(&self, rounds: u32) {
        if self.live {
            let bar = self.bars.add(ProgressBar::new(u64::from(rounds) * FINENESS));
            bar.set_style(
                bar_style("{prefix:<14} [{bar:30.cyan/dim}] {msg}  {elapsed}{left}")
                    .with_key("left", time_left),
            );
            bar.set_prefix("training");
            bar.set_message(format!("round 1/{rounds}"));
            bar.enable_steady_tick(Duration::from_millis(250));
            self.state().rounds = Some(bar);
        }
        self.state().planned = rounds;
    }

    /// Says where a resumed run goes on.
    pub(super) fn resumed(&self, done: u32) {
        self.say(&format!("resuming after round {done}"));
        let mut state = self.state();
        state.done = done;
        if let Some(bar) = &state.rounds {
            bar.set_position(u64::from(done) * FINENESS);
            bar.reset_eta();
        }
    }

    /// A way to say something while bars are shown, for whoever outlives a borrow of the display.
    pub(super) fn announcer(&self) -> impl Fn(&str) + Send + 'static {
        let (bars, live) = (self.bars.clone(), self.live);
        move |text| print_line(&bars, live, text)
    }

    /// Clears the bars.
    pub(super) fn end(&self) {
        let mut state = self.state();
        for bar in state.sites.values().chain(&state.rounds) {
            bar.finish_and_clear();
        }
        *state = State::default();
    }

    fn line(&self, text: &str) {
        print_line(&self.bars, self.live, text);
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A decision of the orchestrator: to the log from the configured severity on, to people when there
    /// is anything to tell.
    fn decide(&self, round: RoundId, decision: &SiteDecision) {
        let severity = severity(decision);
        let text = format!("round {round}: {decision}");
        if severity >= self.decisions_to_log {
            match severity {
                LogLevel::Debug | LogLevel::Info => tracing::info!("orchestrator: {text}"),
                LogLevel::Warning => tracing::warn!("orchestrator: {text}"),
                LogLevel::Error => tracing::error!("orchestrator: {text}"),
            }
        }
        if severity >= LogLevel::Warning {
            self.line(&format!("{} {text}", style("warning:").yellow().bold().for_stderr()));
        } else if decision.decision.is_notable() {
            self.line(&text);
        }
    }

    fn start_round(&self, sites: &[(SiteId, u64)]) {
        self.state().round_started = Some(Instant::now());
        if !self.live {
            return;
        }
        let mut state = self.state();
        for bar in std::mem::take(&mut state.sites).into_values() {
            bar.finish_and_clear();
            self.bars.remove(&bar);
        }
        if let Some(bar) = &state.rounds {
            bar.set_message(format!("round {}/{}", state.done + 1, state.planned));
        }
        for (site, steps) in sites {
            let bar = self.bars.add(ProgressBar::new(*steps));
            bar.set_style(bar_style("  {prefix:<12} [{bar:30.green/dim}] {pos}/{len} steps"));
            bar.set_prefix(site.to_string());
            state.sites.insert(site.clone(), bar);
        }
    }

    fn finish_step(&self, site: &SiteId, done: u64) {
        let state = self.state();
        let Some(bar) = state.sites.get(site) else { return };
        bar.set_position(done);
        let sum = |value: fn(&ProgressBar) -> u64| state.sites.values().map(value).sum::<u64>();
        let (steps, of) = (sum(ProgressBar::position), sum(|bar| bar.length().unwrap_or(0)));
        if let Some(bar) = &state.rounds {
            bar.set_position(u64::from(state.done) * FINENESS + FINENESS * steps / of.max(1));
        }
    }

    fn finish_round(&self, report: &RoundReport) {
        let (planned, seconds) = {
            let mut state = self.state();
            state.done = report.round_num;
            if let Some(bar) = &state.rounds {
                bar.set_position(u64::from(report.round_num) * FINENESS);
            }
            (state.planned, state.round_started.map_or(0.0, |start| start.elapsed().as_secs_f64()))
        };
        if self.rounds_to_log {
            log_round(report, seconds);
        }
        self.line(&round_line(report, planned, seconds));
    }
}

/// Going on as before is for whoever looks for faults; to leave ends a hospital's part.
fn severity(SiteDecision { decision, .. }: &SiteDecision) -> LogLevel {
    match decision.action {
        Action::Leave => LogLevel::Error,
        Action::Raise => LogLevel::Warning,
        Action::Keep | Action::Lower if decision.reasons.iter().any(|r| !matches!(r, Reason::Room)) => {
            LogLevel::Warning
        }
        Action::Lower => LogLevel::Info,
        Action::Keep => LogLevel::Debug,
    }
}

fn log_round(report: &RoundReport, seconds: f64) {
    tracing::info!(
        round = report.round_num,
        hospitals = report.num_clients,
        train_loss = report.train_loss,
        val_loss = report.val_loss,
        accuracy = report.accuracy,
        auc = report.auc,
        epsilon = report.epsilon_total,
        seconds,
        "round finished"
    );
}

impl Observer for Display {
    fn notice(&self, progress: &Progress<'_>) {
        match progress {
            Progress::Budget { round, decision } => self.decide(*round, decision),
            Progress::RoundStarted { sites, .. } => self.start_round(sites),
            Progress::Step { site, done, .. } => self.finish_step(site, *done),
            Progress::RoundFinished { report } => self.finish_round(report),
            Progress::Notice { text } => self.warn(text),
            _ => {}
        }
    }
}

/// One round in one line.
fn round_line(report: &RoundReport, planned: u32, seconds: f64) -> String {
    let number = |value: Option<f64>| value.map_or_else(|| "n/a".to_owned(), |v| format!("{v:.3}"));
    let privacy = match report.epsilon_total {
        Some(spent) => format!("epsilon {}", epsilon(spent)),
        None => "no privacy".to_owned(),
    };
    let width = planned.to_string().len();
    let done = match report.status {
        RoundStatus::Completed => "",
        RoundStatus::Aborted => "  aborted",
    };
    format!(
        "round {:>width$}/{planned}  loss {}  val AUC {}  accuracy {}  test AUC {}  {privacy}  {} hospitals  {seconds:.1} s{done}",
        report.round_num,
        number(report.train_loss),
        number(report.auc),
        number(report.accuracy),
        number(report.test_auc),
        report.num_clients,
    )
}

/// Above the bars where there are any.
#[expect(clippy::print_stderr, reason = "the display is what people see of a run")]
fn print_line(bars: &MultiProgress, live: bool, text: &str) {
    if !live || bars.println(text).is_err() {
        eprintln!("{text}");
    }
}

/// How long it will take, once there is something to judge by.
fn time_left(state: &ProgressState, out: &mut dyn std::fmt::Write) {
    if state.pos() > 0 {
        // A display that cannot be written has nobody to tell.
        let _ = write!(out, ", about {} left", FormattedDuration(state.eta()));
    }
}

/// ε to three decimals, rounded up so that print never understates.
pub(super) fn epsilon(value: f64) -> String {
    Epsilon::new(value).map_or_else(|_| "without bound".to_owned(), |e| format!("{:.3}", e.rounded_up(3)))
}

fn bar_style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .expect("the templates are constants of this file")
        .progress_chars("=> ")
}

/// `12345` as `12,345`.
pub(super) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_grouped() {
        assert_eq!([0, 999, 1000, 1_234_567].map(thousands), ["0", "999", "1,000", "1,234,567"]);
    }
}
