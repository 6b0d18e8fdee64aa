//! The rules of this repository that no compiler knows.
//!
//! A file tree and `cargo metadata` enter, findings leave, each printed as `tidy: path:line: what, hint`.

mod arrows;
mod code;
mod layout;
mod licences;
mod links;
mod rust_text;
mod vectors;

use std::fmt;

use crate::Verdict;
use crate::workspace::Workspace;

/// One place that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    path: String,
    /// Counted from 1.
    line: usize,
    what: String,
    hint: &'static str,
}

impl Finding {
    fn new(path: &str, line: usize, what: impl Into<String>, hint: &'static str) -> Self {
        Self { path: path.to_owned(), line, what: what.into(), hint }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, line, what, hint } = self;
        write!(f, "tidy: {path}:{line}: {what}, {hint}")
    }
}

/// Checks names, sizes, code, links, test vectors and crate arrows.
pub(crate) fn run(workspace: &Workspace) -> anyhow::Result<Verdict> {
    let tree = workspace.tree()?;
    let mut findings = arrows::check(&workspace.metadata()?, &tree);
    for check in [layout::check, code::check, links::check, vectors::check] {
        findings.extend(check(&tree));
    }
    Ok(report("tidy", findings))
}

/// Checks the licence and the source of every dependency.
pub(crate) fn licences(workspace: &Workspace) -> anyhow::Result<Verdict> {
    Ok(report("licences", licences::check(&workspace.metadata()?, &workspace.tree()?)))
}

fn report(name: &str, mut findings: Vec<Finding>) -> Verdict {
    findings.sort();
    for finding in &findings {
        println!("{finding}");
    }
    if findings.is_empty() {
        eprintln!("== {name}: holds");
        return Verdict::Holds;
    }
    eprintln!("xtask: {name} failed with {} findings", findings.len());
    Verdict::Fails
}

/// The line, counted from 1, on which `needle` first stands; 1 where it does not.
fn line_of(text: Option<&str>, needle: &str) -> usize {
    text.and_then(|text| text.lines().position(|line| line.contains(needle))).map_or(1, |index| index + 1)
}

/// Whether the path ends in a dot and one of these.
fn has_extension(path: &str, extensions: &[&str]) -> bool {
    path.rsplit_once('.').is_some_and(|(_, extension)| extensions.contains(&extension))
}

/// Where `word` stands in `text` with no letter, digit or underscore on either side.
fn find_word(text: &str, word: &str) -> Option<usize> {
    let joins = |neighbour: Option<char>| neighbour.is_some_and(|c| c.is_alphanumeric() || c == '_');
    text.match_indices(word)
        .map(|(at, _)| at)
        .find(|&at| !joins(text[..at].chars().next_back()) && !joins(text[at + word.len()..].chars().next()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_names_place_fault_and_remedy() {
        let finding = Finding::new("a/b.rs", 7, "something is off", "put it right");
        assert_eq!(finding.to_string(), "tidy: a/b.rs:7: something is off, put it right");
    }

    #[test]
    fn any_finding_fails() {
        assert_eq!(report("sample", Vec::new()), Verdict::Holds);
        assert_eq!(report("sample", vec![Finding::new("a", 1, "b", "c")]), Verdict::Fails);
    }

    #[test]
    fn words_are_whole() {
        assert_eq!(find_word("unsafe_code unsafe {", "unsafe"), Some(12));
        assert_eq!(find_word("unsafe_code", "unsafe"), None);
        assert_eq!(line_of(Some("a\nb c\n"), "c"), 2);
        assert_eq!(line_of(None, "c"), 1);
    }
}
