//! Data flows one way: which crate may depend on which, and who alone knows an outside technology.

use serde_json::Value;

use super::{Finding, line_of};
use crate::workspace::Tree;

/// A crate and the crates of this workspace that it may depend on. Dev-dependencies count too: a test that
/// needs a later stage belongs to that stage.
const ARROWS: &[(&str, &[&str])] = &[
    ("medfed-types", &[]),
    ("medfed-config", &["medfed-types"]),
    ("medfed-data", &["medfed-types"]),
    ("medfed-nn", &["medfed-types"]),
    ("medfed-dp", &["medfed-types", "medfed-nn"]),
    ("medfed-secagg", &["medfed-types", "medfed-dp"]),
    ("medfed-aggregate", &["medfed-types", "medfed-secagg"]),
    ("medfed-eval", &["medfed-types"]),
    ("medfed-chart", &[]),
    ("medfed-audit", &["medfed-types", "medfed-dp", "medfed-aggregate"]),
    ("medfed-store", &["medfed-types", "medfed-dp", "medfed-audit"]),
    ("medfed-report", &["medfed-types", "medfed-dp", "medfed-store", "medfed-chart"]),
    ("medfed-federation", FEDERATION),
    ("medfed-protocol", PROTOCOL),
    ("medfed-net", NET),
    (
        "medfed-dashboard",
        &[
            "medfed-types",
            "medfed-config",
            "medfed-chart",
            "medfed-store",
            "medfed-eval",
            "medfed-audit",
            "medfed-federation",
            "medfed-report",
        ],
    ),
    ("medfed", EVERYTHING),
    ("xtask", &[]),
];

const FEDERATION: &[&str] = &[
    "medfed-types",
    "medfed-config",
    "medfed-data",
    "medfed-nn",
    "medfed-dp",
    "medfed-secagg",
    "medfed-aggregate",
    "medfed-eval",
    "medfed-audit",
];

const PROTOCOL: &[&str] = &[
    "medfed-types",
    "medfed-config",
    "medfed-data",
    "medfed-nn",
    "medfed-dp",
    "medfed-secagg",
    "medfed-aggregate",
    "medfed-eval",
    "medfed-audit",
    "medfed-federation",
];

const NET: &[&str] = &[
    "medfed-types",
    "medfed-config",
    "medfed-data",
    "medfed-nn",
    "medfed-dp",
    "medfed-secagg",
    "medfed-aggregate",
    "medfed-eval",
    "medfed-audit",
    "medfed-store",
    "medfed-federation",
    "medfed-protocol",
];

const EVERYTHING: &[&str] = &[
    "medfed-types",
    "medfed-config",
    "medfed-data",
    "medfed-nn",
    "medfed-dp",
    "medfed-secagg",
    "medfed-aggregate",
    "medfed-eval",
    "medfed-audit",
    "medfed-chart",
    "medfed-store",
    "medfed-report",
    "medfed-federation",
    "medfed-protocol",
    "medfed-net",
    "medfed-dashboard",
];

/// Outside crates that only some of ours may name.
const FENCES: &[(&[&str], &[&str])] = &[
    // `bench dashboard` writes to a store beside the one that reads it.
    (&["rusqlite"], &["medfed-store", "xtask"]),
    (&["tonic", "tonic-prost", "prost"], &["medfed-net"]),
    (&["maud", "rust-embed", "utoipa"], &["medfed-dashboard"]),
    (&["axum", "axum-server", "tower-http", "tokio"], &["medfed-net", "medfed-dashboard", "medfed"]),
    (&["clap", "anyhow", "miette"], &["medfed", "xtask"]),
];

/// Checks the manifests of the workspace members in the output of `cargo metadata`.
pub(super) fn check(metadata: &Value, tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let root = metadata["workspace_root"].as_str().unwrap_or_default();
    let members = metadata["packages"].as_array().into_iter().flatten().filter(|it| it["source"].is_null());
    for package in members {
        let name = package["name"].as_str().unwrap_or_default();
        let manifest = package["manifest_path"].as_str().unwrap_or_default();
        let manifest = manifest.strip_prefix(root).unwrap_or(manifest).trim_start_matches('/');
        let Some((_, allowed)) = ARROWS.iter().find(|(known, _)| *known == name) else {
            let hint = "add it to the arrows in xtask/src/tidy/arrows.rs and to the crate map";
            findings.push(Finding::new(
                manifest,
                1,
                format!("{name} has no place in the flow of data"),
                hint,
            ));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let on = dependency["name"].as_str().unwrap_or_default();
            let line = line_of(tree.text(manifest), on);
            if dependency["path"].is_string() && !allowed.contains(&on) {
                let hint = "consumers depend on producers: move the shared type to the earlier crate";
                findings.push(Finding::new(manifest, line, format!("{name} may not depend on {on}"), hint));
            }
            // A test may use a tool that the product may not.
            let fence = FENCES.iter().find(|(fenced, _)| fenced.contains(&on));
            if dependency["kind"] != "dev" && fence.is_some_and(|(_, inside)| !inside.contains(&name)) {
                let hint = "leave it to the crate that wraps it";
                findings.push(Finding::new(manifest, line, format!("{name} may not know {on}"), hint));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn faults(name: &str, dependency: &Value) -> Vec<Finding> {
        let manifest = "/a/crates/x/Cargo.toml";
        let package =
            json!({"name": name, "source": null, "manifest_path": manifest, "dependencies": [dependency]});
        let foreign = json!({"name": "other", "source": "registry", "dependencies": [{"name": "medfed"}]});
        let metadata = json!({"workspace_root": "/a", "packages": [package, foreign]});
        check(
            &metadata,
            &Tree::from([("crates/x/Cargo.toml", "[dependencies]\nmedfed-nn.workspace = true\n")]),
        )
    }

    #[test]
    fn an_arrow_backwards_fails() {
        let found = faults("medfed-data", &json!({"name": "medfed-nn", "path": "/a/b", "kind": "dev"}));
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].path.as_str(), found[0].line), ("crates/x/Cargo.toml", 2));
        assert!(faults("medfed-dp", &json!({"name": "medfed-nn", "path": "/a/b", "kind": null})).is_empty());
    }

    #[test]
    fn an_unknown_crate_fails() {
        assert_eq!(faults("medfed-new", &json!({"name": "serde", "kind": null})).len(), 1);
    }

    #[test]
    fn an_outside_crate_behind_a_fence_fails() {
        assert_eq!(faults("medfed-dp", &json!({"name": "rusqlite", "kind": null})).len(), 1);
        assert!(faults("medfed-store", &json!({"name": "rusqlite", "kind": null})).is_empty());
        assert!(faults("medfed-dp", &json!({"name": "anyhow", "kind": "dev"})).is_empty());
    }

    #[test]
    fn the_arrows_have_no_cycle() {
        // Every arrow points to a crate that can be built before it.
        let mut built: Vec<&str> = Vec::new();
        while built.len() < ARROWS.len() {
            let ready = |(name, on): &&(&str, &[&str])| {
                !built.contains(name) && on.iter().all(|it| built.contains(it))
            };
            let next = ARROWS.iter().find(ready).expect("some crate depends only on crates already built");
            built.push(next.0);
        }
    }
}
