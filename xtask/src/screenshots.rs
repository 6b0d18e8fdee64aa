//! The pictures of the dashboard in the documentation, from a real run in a real browser.

use std::process::Command;

use anyhow::{Context, ensure};

use crate::Verdict;
use crate::workspace::Workspace;

/// Trains, then pictures the pages into `docs/images`. Needs Chromium and its driver.
pub(crate) fn run(workspace: &Workspace) -> anyhow::Result<Verdict> {
    let root = workspace.root();
    let folder = root.join("target").join("screenshots");
    if folder.exists() {
        std::fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    eprintln!("== a run to show");
    let mut train = workspace.cargo();
    train.args(["run", "--quiet", "--release", "--package", "medfed", "--", "simulate"]);
    // The demo with one more hospital, more and shorter rounds, masked, and fairness measured.
    train.arg("--config").arg(root.join("config").join("demo.yaml"));
    train.args(["--seed", "4", "--rounds", "12", "--set", "federated.num_clients=4"]);
    train.args(["--set", "training.local_steps=20", "--set", "fairness.enabled=true"]);
    train.args(["--set", "secure_aggregation.enabled=true", "--set", "secure_aggregation.use_masking=true"]);
    train.arg("--out").arg(folder.join("results"));
    succeeds(train)?;
    eprintln!("== its pages");
    let mut picture = workspace.cargo();
    picture.args(["test", "--quiet", "--package", "medfed", "--test", "browser", "pages_can_be_pictured"]);
    // A missing browser is an error here, not a reason to skip.
    picture.env("CI", "true").env("MEDFED_PICTURES_OF", &folder);
    picture.env("MEDFED_PICTURES", root.join("docs").join("images"));
    succeeds(picture)?;
    Ok(Verdict::Holds)
}

fn succeeds(mut command: Command) -> anyhow::Result<()> {
    let status = command.status().with_context(|| format!("cannot start {command:?}"))?;
    ensure!(status.success(), "{command:?} failed ({status})");
    Ok(())
}
