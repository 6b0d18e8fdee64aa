//! Fuzz targets of `fuzz/`, built with the stable compiler and run with libFuzzer.

use anyhow::{Context, ensure};

use crate::Verdict;
use crate::workspace::Workspace;

/// Coverage counters and comparisons, as libFuzzer reads them.
const INSTRUMENTATION: &str = "--cfg fuzzing -Cpasses=sancov-module -Ccodegen-units=1 \
    -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares";
const TARGETS: [&str; 7] =
    ["secagg_messages", "network_messages", "audit_bundle", "configuration", "images", "archives", "models"];

/// Throws mutated input at every decoder; what a run finds is kept in target/fuzz.
#[derive(Debug, clap::Args)]
pub(crate) struct Fuzz {
    /// Targets to run; all by default
    #[arg(value_name = "TARGET", value_parser = TARGETS)]
    targets: Vec<String>,
    /// Seconds for each target
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
}

impl Fuzz {
    /// Builds and runs the targets; fails at the first input that breaks one.
    pub(crate) fn run(&self, workspace: &Workspace) -> anyhow::Result<Verdict> {
        let folder = workspace.root().join("target/fuzz");
        let triple = host(workspace)?;
        // With a target of their own, build scripts are not instrumented.
        let status = workspace
            .cargo()
            .args(["build", "--release", "--manifest-path", "fuzz/Cargo.toml", "--target", &triple])
            .arg("--target-dir")
            .arg(&folder)
            .env("RUSTFLAGS", INSTRUMENTATION)
            .status()
            .context("cannot start cargo")?;
        ensure!(status.success(), "the fuzz targets do not build ({status})");
        let all: Vec<&str> = TARGETS.to_vec();
        let chosen: Vec<&str> = self.targets.iter().map(String::as_str).collect();
        for target in if chosen.is_empty() { all } else { chosen } {
            eprintln!("== fuzz: {target} for {} s", self.seconds);
            let (corpus, found) = (folder.join("corpus").join(target), folder.join("found").join(target));
            for folder in [&corpus, &found] {
                std::fs::create_dir_all(folder)
                    .with_context(|| format!("cannot create {}", folder.display()))?;
            }
            let program = folder.join(&triple).join("release").join(target);
            let mut command = std::process::Command::new(&program);
            command.arg(&corpus);
            let seeds = workspace.root().join("fuzz/seeds").join(target);
            if seeds.is_dir() {
                command.arg(seeds);
            }
            let status = command
                .arg(format!("-max_total_time={}", self.seconds))
                .arg(format!("-artifact_prefix={}/", found.display()))
                .args(["-max_len=65536", "-timeout=10", "-rss_limit_mb=2048", "-verbosity=0"])
                .status()
                .with_context(|| format!("cannot start {}", program.display()))?;
            if !status.success() {
                eprintln!("xtask: {target} broke ({status}); the input is in {}", found.display());
                return Ok(Verdict::Fails);
            }
        }
        Ok(Verdict::Holds)
    }
}

/// The triple of this machine.
fn host(workspace: &Workspace) -> anyhow::Result<String> {
    let output = workspace.cargo().arg("-vV").output().context("cannot start cargo")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(line.context("cargo -vV does not name its host")?.to_owned())
}
