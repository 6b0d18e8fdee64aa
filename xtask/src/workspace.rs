//! The checkout: where it is, what is in it, and what cargo says about it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use serde_json::Value;

/// The root folder of the checkout.
#[derive(Debug)]
pub(crate) struct Workspace {
    root: PathBuf,
}

impl Workspace {
    /// The workspace that this program was built from.
    pub(crate) fn locate() -> anyhow::Result<Self> {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = manifest.parent().context("xtask has to lie one folder below the workspace root")?;
        ensure!(root.join("Cargo.lock").is_file(), "no Cargo.lock in {}", root.display());
        Ok(Self { root: root.to_owned() })
    }

    /// The root folder.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// A cargo command in the root folder, with the cargo that started this program.
    pub(crate) fn cargo(&self) -> Command {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.current_dir(&self.root);
        command
    }

    /// `cargo metadata`, with every dependency of every platform.
    pub(crate) fn metadata(&self) -> anyhow::Result<Value> {
        let output = self
            .cargo()
            .args(["metadata", "--format-version", "1", "--all-features"])
            .output()
            .context("cannot start cargo metadata")?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "cargo metadata failed: {}", complaint.trim());
        serde_json::from_slice(&output.stdout).context("cargo metadata printed no JSON")
    }

    /// Every file of the checkout but what `.gitignore` excludes at the root.
    pub(crate) fn tree(&self) -> anyhow::Result<Tree> {
        let ignored = fs::read_to_string(self.root.join(".gitignore")).context("cannot read .gitignore")?;
        let excluded: Vec<&str> = ignored.lines().filter_map(|line| line.trim().strip_prefix('/')).collect();
        let mut tree = Tree::default();
        let mut folders = vec![self.root.clone()];
        while let Some(folder) = folders.pop() {
            let entries =
                fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?;
            for entry in entries {
                let entry = entry?;
                let path = entry.path();
                let name = path
                    .strip_prefix(&self.root)
                    .context("a listed file lies outside the root")?
                    .to_string_lossy()
                    .replace('\\', "/");
                if name == ".git" || excluded.contains(&name.as_str()) || name.ends_with("__pycache__") {
                    continue;
                }
                if entry.file_type()?.is_dir() {
                    folders.push(path);
                } else {
                    let bytes = fs::read(&path).with_context(|| format!("cannot read {name}"))?;
                    tree.files.insert(name, String::from_utf8(bytes).ok());
                }
            }
        }
        Ok(tree)
    }
}

/// The files of a checkout: relative path with forward slashes to text, or to `None` where it is not text.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    files: BTreeMap<String, Option<String>>,
}

impl Tree {
    /// Every path, in order.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    /// Every text file with its text, in order.
    pub(crate) fn texts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().filter_map(|(path, text)| Some((path.as_str(), text.as_deref()?)))
    }

    /// The text of one file, if it is there and is text.
    pub(crate) fn text(&self, path: &str) -> Option<&str> {
        self.files.get(path)?.as_deref()
    }

    /// Whether there is a file or a folder of this name.
    pub(crate) fn contains(&self, path: &str) -> bool {
        let below = format!("{path}/");
        path.is_empty()
            || self.files.contains_key(path)
            || self.files.range(below.clone()..).next().is_some_and(|(name, _)| name.starts_with(&below))
    }
}

#[cfg(test)]
impl<const N: usize> From<[(&str, &str); N]> for Tree {
    fn from(files: [(&str, &str); N]) -> Self {
        let own = |(path, text): (&str, &str)| (path.to_owned(), Some(text.to_owned()));
        Self { files: files.into_iter().map(own).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_knows_files_and_folders() {
        let tree = Tree::from([("docs/a.md", ""), ("docs-old.md", "")]);
        assert!(tree.contains("docs") && tree.contains("docs/a.md") && tree.contains(""));
        assert!(!tree.contains("doc") && !tree.contains("docs/a"));
    }

    #[test]
    fn the_checkout_is_read_without_its_build_folder() {
        let tree =
            Workspace::locate().and_then(|workspace| workspace.tree()).expect("the checkout is readable");
        assert!(tree.text("xtask/Cargo.toml").is_some());
        assert!(tree.paths().all(|path| !path.starts_with("target/") && !path.starts_with(".git/")));
    }
}
