//! Names and sizes of files.

use super::{Finding, has_extension};
use crate::workspace::Tree;

/// The most lines that one source file may have.
const LONGEST: usize = 800;

/// Words that say nothing about what a file holds.
const EMPTY_WORDS: [&str; 9] =
    ["util", "utils", "common", "base", "manager", "managers", "helper", "helpers", "misc"];

const NAME_HINT: &str = "name it after the domain noun that it holds";

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings: Vec<Finding> = tree.paths().filter(|path| is_source(path)).filter_map(name).collect();
    for (path, text) in tree.texts().filter(|(path, _)| is_source(path)) {
        let lines = text.lines().count();
        if lines > LONGEST {
            let what = format!("{lines} lines, more than {LONGEST}");
            findings.push(Finding::new(path, lines, what, "split the file along its ideas"));
        }
    }
    findings
}

/// Whether `word` is one of the names that say nothing; words are joined by `_` or `-`.
pub(super) fn is_empty_name(name: &str) -> bool {
    name.split(['_', '-']).any(|word| EMPTY_WORDS.contains(&word))
}

fn is_source(path: &str) -> bool {
    has_extension(path, &["rs", "py", "sh", "js", "css", "proto"])
}

fn name(path: &str) -> Option<Finding> {
    let file = path.rsplit('/').next()?;
    if file == "mod.rs" {
        let what = "mod.rs hides the name of its module";
        return Some(Finding::new(path, 1, what, "write foo.rs beside the folder foo"));
    }
    let bare = |part: &str| part.split('.').next().unwrap_or(part).to_owned();
    let empty = path.split('/').map(bare).find(|part| is_empty_name(part))?;
    Some(Finding::new(path, 1, format!("the name {empty} says nothing"), NAME_HINT))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(path: &str, text: &str) -> usize {
        check(&Tree::from([(path, text)])).len()
    }

    #[test]
    fn long_files_fail() {
        assert_eq!(findings("crates/a/src/clip.rs", &"x\n".repeat(800)), 0);
        assert_eq!(findings("crates/a/src/clip.rs", &"x\n".repeat(801)), 1);
        assert_eq!(findings("testdata/clip.json", &"x\n".repeat(801)), 0);
    }

    #[test]
    fn empty_names_fail() {
        for path in ["a/utils.rs", "a/budget_manager.rs", "tests/common/site.rs", "medfed-base/src/lib.rs"] {
            assert_eq!(findings(path, ""), 1, "{path}");
        }
        assert_eq!(findings("a/src/base64.rs", ""), 0);
    }

    #[test]
    fn mod_rs_fails() {
        assert_eq!(findings("a/src/clip/mod.rs", ""), 1);
        assert_eq!(findings("a/src/clip.rs", ""), 0);
    }
}
