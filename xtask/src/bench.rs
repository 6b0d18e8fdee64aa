//! Measurements against PyTorch and Opacus, and against the speed of memory. What is compared is interleaved,
//! because machines are shared and clocks drift.

mod aggregate;
mod dashboard;
mod secagg;
mod step;

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::Verdict;
use crate::workspace::Workspace;
use aggregate::RuleTimes;
use dashboard::DashboardTimes;
use secagg::SessionTimes;
use step::StepTimes;

/// What can be measured.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Bench {
    /// One training step: ours plain and private, PyTorch plain, Opacus by hooks and by ghost norms
    Step(StepTimes),
    /// One round of every aggregation rule, against the time to read the updates once from memory
    Aggregate(RuleTimes),
    /// The dashboard's pages of a large run, and what open event streams cost training
    Dashboard(DashboardTimes),
    /// Sessions of secure aggregation, against the speed of the cipher that makes the masks
    Secagg(SessionTimes),
}

impl Bench {
    /// Measures, and prints the table to stdout.
    pub(crate) fn run(self, workspace: &Workspace) -> anyhow::Result<Verdict> {
        match self {
            Self::Step(step) => step.run(workspace),
            Self::Aggregate(rules) => rules.run(workspace),
            Self::Dashboard(pages) => pages.run(workspace),
            Self::Secagg(sessions) => sessions.run(workspace),
        }
    }
}

/// Builds the release binary and says where it lies.
fn build(workspace: &Workspace) -> anyhow::Result<PathBuf> {
    program(workspace, &["build", "--release", "--package", "medfed"], "medfed")
}

/// Builds a program and says where it lies.
fn program(workspace: &Workspace, arguments: &[&str], name: &str) -> anyhow::Result<PathBuf> {
    let mut command = workspace.cargo();
    command.args(arguments).args(["--message-format", "json-render-diagnostics"]);
    let output = command.stderr(Stdio::inherit()).output().context("cannot start cargo")?;
    ensure!(output.status.success(), "{name} does not build");
    let text = String::from_utf8_lossy(&output.stdout);
    let built =
        text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).find_map(|message| {
            (message["target"]["name"] == name).then(|| message["executable"].as_str().map(PathBuf::from))?
        });
    built.with_context(|| format!("cargo names no program for {name}"))
}
