//! Licences and sources of the dependencies.
//!
//! Every outside crate comes from crates.io and lets itself be used under a licence of the list below; some
//! crates are refused by name.

use serde_json::Value;

use super::{Finding, line_of};
use crate::workspace::Tree;

/// Licences that ask for no more than a notice.
const ALLOWED: [&str; 12] = [
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Crates that must not enter the graph, and why.
const REFUSED: [(&str, &str); 8] = [
    ("aws-lc-sys", "a second TLS provider, and it needs cmake"),
    ("bindgen", "it needs libclang to build"),
    ("cmake", "only Rust and a C compiler are needed to build"),
    ("native-tls", "a second TLS stack"),
    ("openssl-sys", "a second TLS stack, and a system library"),
    ("serde_yaml", "it is no longer maintained"),
    ("sharks", "RUSTSEC-2024-0398: its polynomials have biased coefficients"),
    ("sqlx", "it links SQLite a second time"),
];

const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

pub(super) fn check(metadata: &Value, tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let name = package["name"].as_str().unwrap_or_default();
        let line = line_of(tree.text("Cargo.lock"), &format!("name = \"{name}\""));
        let mut fault = |what, hint| findings.push(Finding::new("Cargo.lock", line, what, hint));
        let manifest = package["manifest_path"].as_str().unwrap_or_default();
        let root = metadata["workspace_root"].as_str().unwrap_or_default();
        match package["source"].as_str() {
            // Our own crates carry the licence of the workspace.
            None if manifest.starts_with(root) => continue,
            None => fault(format!("{name} comes from outside the checkout"), "use a release on crates.io"),
            Some(CRATES_IO) => {}
            Some(source) => fault(format!("{name} comes from {source}"), "use a release on crates.io"),
        }
        if let Some((_, why)) = REFUSED.iter().find(|(refused, _)| *refused == name) {
            fault(format!("{name} is refused: {why}"), "find what pulls it in with cargo tree --invert");
        }
        match package["license"].as_str() {
            Some(licence) if is_allowed(licence) => {}
            Some(licence) => {
                fault(
                    format!("{name} is licensed as {licence}"),
                    "take another crate, or extend the list with reason",
                );
            }
            None => fault(format!("{name} names no licence"), "take another crate"),
        }
    }
    findings
}

/// Whether an SPDX expression can be met with licences of the list alone. An expression that cannot be read
/// is not met.
fn is_allowed(expression: &str) -> bool {
    // Before SPDX expressions, crates separated alternatives by a slash.
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let mut words = spaced.split_whitespace().peekable();
    let met = any(&mut words);
    met == Some(true) && words.next().is_none()
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

/// `all (OR all)*`
fn any(words: &mut Words<'_>) -> Option<bool> {
    let mut met = all(words)?;
    while words.next_if_eq(&"OR").is_some() {
        met |= all(words)?;
    }
    Some(met)
}

/// `one (AND one)*`
fn all(words: &mut Words<'_>) -> Option<bool> {
    let mut met = one(words)?;
    while words.next_if_eq(&"AND").is_some() {
        met &= one(words)?;
    }
    Some(met)
}

/// `( any )`, or a licence with or without an exception.
fn one(words: &mut Words<'_>) -> Option<bool> {
    let word = words.next()?;
    if word == "(" {
        let met = any(words)?;
        return (words.next()? == ")").then_some(met);
    }
    if words.next_if_eq(&"WITH").is_none() {
        return Some(ALLOWED.contains(&word));
    }
    Some(ALLOWED.contains(&format!("{word} WITH {}", words.next()?).as_str()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn faults(package: &Value) -> usize {
        let metadata = json!({"workspace_root": "/a", "packages": [package]});
        check(&metadata, &Tree::from([("Cargo.lock", "")])).len()
    }

    #[test]
    fn expressions_are_read() {
        for met in [
            "MIT",
            "MIT/GPL-3.0",
            "(Apache-2.0 OR MIT) AND BSD-3-Clause",
            "Apache-2.0 WITH LLVM-exception",
            "MIT OR Apache-2.0 OR LGPL-2.1-or-later",
            "GPL-3.0-only AND MPL-2.0 OR Zlib",
        ] {
            assert!(is_allowed(met), "{met}");
        }
        for unmet in [
            "GPL-3.0",
            "MIT AND GPL-3.0",
            "(MIT OR Zlib) AND (MPL-2.0)",
            "MIT WITH Nothing-exception",
            "",
            "MIT OR",
            "(MIT",
            "MIT MIT",
            "MIT )",
        ] {
            assert!(!is_allowed(unmet), "{unmet}");
        }
    }

    #[test]
    fn strange_licences_fail() {
        assert_eq!(faults(&json!({"name": "a", "source": CRATES_IO, "license": "MIT"})), 0);
        assert_eq!(faults(&json!({"name": "a", "source": CRATES_IO, "license": "AGPL-3.0-only"})), 1);
        assert_eq!(faults(&json!({"name": "a", "source": CRATES_IO, "license": null})), 1);
    }

    #[test]
    fn strange_sources_fail() {
        assert_eq!(faults(&json!({"name": "a", "source": "git+https://example.org/a", "license": "MIT"})), 1);
        let outside =
            json!({"name": "a", "source": null, "manifest_path": "/b/Cargo.toml", "license": "MIT"});
        assert_eq!(faults(&outside), 1);
        assert_eq!(faults(&json!({"name": "a", "source": null, "manifest_path": "/a/x/Cargo.toml"})), 0);
    }

    #[test]
    fn refused_crates_fail() {
        assert_eq!(faults(&json!({"name": "openssl-sys", "source": CRATES_IO, "license": "MIT"})), 1);
    }
}
