//! The sequences of checks behind `cargo xtask test` and `cargo xtask ci`.
//!
//! Cheap checks come first and the tests last, so that a log ends with their closing lines.

use std::time::Instant;

use anyhow::Context;

use crate::workspace::Workspace;
use crate::{Verdict, tidy};

/// One cargo command whose success is required.
struct Step {
    name: &'static str,
    arguments: &'static [&'static str],
    /// An environment variable that the command needs.
    variable: Option<(&'static str, &'static str)>,
    hint: &'static str,
}

const FORMAT: Step = Step {
    name: "format",
    arguments: &["fmt", "--all", "--check"],
    variable: None,
    hint: "run cargo fmt --all",
};
const CLIPPY: Step = Step {
    name: "clippy",
    arguments: &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"],
    variable: None,
    hint: "mend each warning, or expect it with a reason",
};
const DOCUMENTATION: Step = Step {
    name: "documentation",
    arguments: &["doc", "--workspace", "--no-deps", "--document-private-items"],
    // Private items are documented for the reader of the code, so public pages may refer to them.
    variable: Some(("RUSTDOCFLAGS", "-D warnings -A rustdoc::private_intra_doc_links")),
    hint: "mend the documentation comments named above",
};
const TESTS: Step = Step {
    name: "tests",
    arguments: &["test", "--workspace", "--no-fail-fast"],
    variable: None,
    hint: "cargo test --package CRATE runs one crate alone",
};
/// A command of its own: in one build of the workspace another crate turns the widest units on for all.
const NARROW: Step = Step {
    name: "tests without AVX-512",
    arguments: &[
        "test",
        "--package",
        "medfed-nn",
        "--no-default-features",
        "--lib",
        "--test",
        "naive_networks",
    ],
    variable: None,
    hint: "the kernels' code for narrower vector units is at fault if the tests with AVX-512 hold",
};

/// Format, tidiness, lints, documentation, tests; stops at the first that fails.
pub(crate) fn test(workspace: &Workspace) -> anyhow::Result<Verdict> {
    if FORMAT.run(workspace)? == Verdict::Fails || tidy::run(workspace)? == Verdict::Fails {
        return Ok(Verdict::Fails);
    }
    for step in [CLIPPY, DOCUMENTATION, NARROW, TESTS] {
        if step.run(workspace)? == Verdict::Fails {
            return Ok(Verdict::Fails);
        }
    }
    Ok(Verdict::Holds)
}

/// Everything that must hold before a change is merged.
pub(crate) fn ci(workspace: &Workspace) -> anyhow::Result<Verdict> {
    if tidy::licences(workspace)? == Verdict::Fails {
        return Ok(Verdict::Fails);
    }
    test(workspace)
}

impl Step {
    fn run(&self, workspace: &Workspace) -> anyhow::Result<Verdict> {
        eprintln!("== {}: cargo {}", self.name, self.arguments.join(" "));
        let begun = Instant::now();
        let status = workspace
            .cargo()
            .args(self.arguments)
            .envs(self.variable)
            .status()
            .with_context(|| format!("cannot start cargo for {}", self.name))?;
        let seconds = begun.elapsed().as_secs();
        if status.success() {
            eprintln!("== {}: holds after {seconds} s", self.name);
            return Ok(Verdict::Holds);
        }
        eprintln!("xtask: {} failed after {seconds} s ({status}), {}", self.name, self.hint);
        Ok(Verdict::Fails)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_takes_its_verdict_from_cargo() {
        let workspace = Workspace::locate().expect("the workspace is around this test");
        let step = |arguments| Step { name: "sample", arguments, variable: None, hint: "none" };
        assert_eq!(step(&["--version"]).run(&workspace).expect("cargo starts"), Verdict::Holds);
        assert_eq!(step(&["no-such-command"]).run(&workspace).expect("cargo starts"), Verdict::Fails);
    }
}
