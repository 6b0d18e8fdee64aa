//! Relative links in Markdown lead somewhere, to the heading they name included.

use std::collections::BTreeMap;

use super::{Finding, has_extension};
use crate::workspace::Tree;

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.texts().filter(|(path, _)| has_extension(path, &["md"])) {
        for (line, prose) in prose(text) {
            for target in targets(&prose) {
                findings.extend(
                    fault(tree, path, target).map(|(what, hint)| Finding::new(path, line, what, hint)),
                );
            }
        }
    }
    findings
}

fn fault(tree: &Tree, from: &str, target: &str) -> Option<(String, &'static str)> {
    let scheme = target.split_once(':').is_some_and(|(head, _)| head.chars().all(char::is_alphanumeric));
    if scheme || target.starts_with("//") {
        return None;
    }
    let (file, heading) = target.split_once('#').unwrap_or((target, ""));
    let resolved = if file.is_empty() { Some(from.to_owned()) } else { resolve(from, file) };
    let Some(resolved) = resolved else {
        return Some((
            format!("the link to {target} leaves the repository"),
            "link to a file of this repository",
        ));
    };
    if !tree.contains(&resolved) {
        return Some((format!("the link to {target} leads nowhere"), "name a file that exists"));
    }
    let page = tree.text(&resolved).filter(|_| has_extension(&resolved, &["md"]) && !heading.is_empty())?;
    (!anchors(page).contains(&heading.to_owned())).then(|| {
        (format!("the link to {target} names no heading"), "write the heading in lower case with hyphens")
    })
}

/// The path that `target` means in the file `from`, unless it climbs out of the tree.
fn resolve(from: &str, target: &str) -> Option<String> {
    if target.starts_with('/') {
        return None;
    }
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

/// The lines outside code blocks, numbered from 1, without their code spans.
fn prose(text: &str) -> Vec<(usize, String)> {
    let mut fence: Option<&str> = None;
    let mut lines = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let start = line.trim_start();
        let mark = ["```", "~~~"].into_iter().find(|mark| start.starts_with(mark));
        match (fence, mark) {
            (None, Some(mark)) => fence = Some(mark),
            (Some(open), Some(mark)) if open == mark => fence = None,
            (None, None) => lines.push((index + 1, line.split('`').step_by(2).collect::<Vec<_>>().join("`"))),
            _ => {}
        }
    }
    lines
}

/// What the links, images and link definitions of one line point to.
fn targets(line: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for (opening, closing) in [("](", [')', ' ']), ("src=\"", ['"', '"']), ("href=\"", ['"', '"'])] {
        for (at, _) in line.match_indices(opening) {
            let rest = line[at + opening.len()..].trim_start_matches('<');
            found.push(rest.split(closing).next().unwrap_or(rest).trim_end_matches('>'));
        }
    }
    let definition = line.trim_start().strip_prefix('[').and_then(|line| line.split_once("]: "));
    found.extend(definition.and_then(|(_, target)| target.split_whitespace().next()));
    found
}

/// The names that a page gives to its headings, as Git forges derive them.
fn anchors(text: &str) -> Vec<String> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut anchors = Vec::new();
    // Code spans belong to a heading's name, so the text is read as it stands.
    let outside: Vec<usize> = prose(text).into_iter().map(|(line, _)| line).collect();
    for line in
        text.lines().enumerate().filter(|(index, _)| outside.contains(&(index + 1))).map(|(_, line)| line)
    {
        let level = line.chars().take_while(|c| *c == '#').count();
        let Some(title) = line.get(level..).filter(|_| (1..=6).contains(&level)) else { continue };
        if !title.starts_with(' ') {
            continue;
        }
        let kept = title.trim().chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        let name: String =
            kept.flat_map(char::to_lowercase).map(|c| if c == ' ' { '-' } else { c }).collect();
        let count = seen.entry(name.clone()).or_insert(0);
        anchors.push(if *count == 0 { name } else { format!("{name}-{count}") });
        *count += 1;
    }
    anchors
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<usize> {
        let tree = Tree::from([
            ("docs/a.md", text),
            ("docs/b.md", "# The `one` thing: now\n# Two\n# Two\n```\n# code\n```\n"),
            ("README.md", ""),
        ]);
        check(&tree).into_iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn links_to_nowhere_fail() {
        assert_eq!(lines("fine\n[x](c.md) and [y](../docs/b.md)"), [2]);
        assert_eq!(lines("![x](img/a.png \"title\")"), [1]);
        assert_eq!(lines("<img src=\"a.png\">"), [1]);
        assert_eq!(lines("[x]: c.md"), [1]);
    }

    #[test]
    fn links_out_of_the_repository_fail() {
        assert_eq!(lines("[x](../../other/a.md)\n[y](/etc/hosts)"), [1, 2]);
    }

    #[test]
    fn links_to_missing_headings_fail() {
        assert_eq!(lines("[x](b.md#three)\n[y](b.md#code)\n[z](#nothing)"), [1, 2, 3]);
        assert_eq!(lines("# Here\n[x](b.md#the-one-thing-now) [y](b.md#two-1) [z](#here)"), [0; 0]);
    }

    #[test]
    fn what_is_no_link_passes() {
        let text = "[x](https://a.org/b) [m](mailto:a@b.org) `[y](c.md)` [d](../docs) [r](../README.md)\n```\n[z](c.md)\n```";
        assert_eq!(lines(text), [0; 0]);
    }
}
