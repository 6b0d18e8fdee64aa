//! Changing a configuration file without losing what people wrote between the keys.
//!
//! Values are replaced, and new keys added, line by line. Whether that worked is not assumed: the new text
//! is read, and has to mean exactly what the old text means with the overrides. Where it does not (a value
//! inside a list, a section written in braces), the whole configuration is written anew, without comments.

use crate::error::ConfigErrors;
use crate::overriding::Override;
use crate::{Config, MAX_BYTES};

/// A configuration file after a change.
#[derive(Debug, Clone, PartialEq)]
pub struct Edited {
    /// Its text.
    pub text: String,
    /// Whether the comments and the order of the old text are still there.
    pub kept_comments: bool,
    /// What it says.
    pub config: Config,
}

impl Config {
    /// The text of a configuration file with `overrides` written into it. `origin` names it in messages.
    pub fn edit(text: &str, origin: &str, overrides: &[Override]) -> Result<Edited, ConfigErrors> {
        let config = Self::from_yaml(text, origin, overrides)?;
        let edited = overrides.iter().try_fold(text.to_owned(), |text, set| set_line(&text, set));
        let same = |text: &String| {
            text.len() <= MAX_BYTES && Self::from_yaml(text, origin, &[]).is_ok_and(|read| read == config)
        };
        Ok(match edited.filter(same) {
            Some(text) => Edited { text, kept_comments: true, config },
            None => Edited { text: config.to_yaml(), kept_comments: false, config },
        })
    }
}

/// One line of a block mapping.
struct Line<'a> {
    indent: usize,
    /// Without indent and line break.
    content: &'a str,
}

impl<'a> Line<'a> {
    fn of(line: &'a str) -> Self {
        let content = line.trim_start_matches(' ');
        Self { indent: line.len() - content.len(), content: content.trim_end() }
    }

    fn says_nothing(&self) -> bool {
        self.content.is_empty() || self.content.starts_with('#')
    }

    /// What follows `key:`, if this line begins with it.
    fn after(&self, key: &str) -> Option<&'a str> {
        let rest = self.content.strip_prefix(key)?.strip_prefix(':')?;
        (rest.is_empty() || rest.starts_with(' ')).then_some(rest)
    }
}

/// The text with one value set, or nothing where that takes more than one line.
fn set_line(text: &str, set: &Override) -> Option<String> {
    let value = set.value_in_one_line();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let (mut from, mut to, mut indent) = (0, lines.len(), 0);
    let path = set.path();
    for (depth, key) in path.iter().enumerate() {
        let is_last = depth + 1 == path.len();
        let found = (from..to).find(|at| {
            let line = Line::of(&lines[*at]);
            line.indent == indent && line.after(key).is_some()
        });
        let Some(at) = found else {
            // After the last line that says something, so that what follows keeps its comments.
            let end =
                (from..to).rev().find(|at| !Line::of(&lines[*at]).says_nothing()).map_or(from, |at| at + 1);
            let mut added: Vec<String> = Vec::new();
            for (deeper, key) in path[depth..].iter().enumerate() {
                let spaces = " ".repeat(indent + 2 * deeper);
                let is_last = depth + deeper + 1 == path.len();
                added.push(if is_last {
                    format!("{spaces}{key}: {value}")
                } else {
                    format!("{spaces}{key}:")
                });
            }
            lines.splice(end..end, added);
            return Some(lines.join("\n") + "\n");
        };
        let rest = Line::of(&lines[at]).after(key)?.to_owned();
        let (old, comment) = split_comment(&rest);
        let is_block = old.is_empty();
        if is_last {
            let followed = (at + 1..to).map(|at| Line::of(&lines[at])).find(|line| !line.says_nothing());
            if is_block && followed.is_some_and(|line| line.indent > indent || line.content.starts_with('-'))
            {
                return None;
            }
            let start = " ".repeat(indent) + key + ": " + &value;
            // Comments stay in their column where the new value leaves room.
            let column = (lines[at].len() - comment.len()).max(start.len() + 1);
            lines[at] = if comment.is_empty() { start } else { format!("{start:<column$}{comment}") };
            return Some(lines.join("\n") + "\n");
        }
        if !is_block {
            return None;
        }
        let inside = |at: &usize| {
            let line = Line::of(&lines[*at]);
            !line.says_nothing() && line.indent <= indent
        };
        (from, to) = (at + 1, (at + 1..to).find(inside).unwrap_or(to));
        let first = (from..to).map(|at| Line::of(&lines[at])).find(|line| !line.says_nothing());
        indent = first.map_or(indent + 2, |line| line.indent);
    }
    None
}

/// The value and the comment after it.
fn split_comment(rest: &str) -> (&str, &str) {
    let mut quote = None;
    let mut before = ' ';
    for (at, c) in rest.char_indices() {
        match (quote, c) {
            (None, '#') if before == ' ' => return (rest[..at].trim(), &rest[at..]),
            (None, '"' | '\'') if matches!(before, ' ' | '[' | ',' | '{') => quote = Some(c),
            (Some(open), _) if c == open && before != '\\' => quote = None,
            _ => {}
        }
        before = c;
    }
    (rest.trim(), "")
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "\
# A federation.
federated:
  num_clients: 3              # Number of hospital nodes
  num_rounds: 10

# Privacy
privacy:
  enabled: true
  # The budget is per hospital.
  epsilon_budget: 50.0        # Total

data: {dataset: synthetic}
";

    fn edit(sets: &[&str]) -> Edited {
        let sets: Vec<Override> = sets.iter().map(|set| Override::parse(set).unwrap()).collect();
        Config::edit(FILE, "file", &sets).unwrap()
    }

    #[test]
    fn values_change_and_comments_stay_in_their_column() {
        let edited =
            edit(&["federated.num_rounds=7", "federated.num_clients=12", "privacy.epsilon_budget=8"]);
        assert!(edited.kept_comments);
        let expected = FILE
            .replace("num_clients: 3 ", "num_clients: 12")
            .replace("num_rounds: 10", "num_rounds: 7")
            .replace("budget: 50.0", "budget: 8   ");
        assert_eq!(edited.text, expected);
    }

    #[test]
    fn new_keys_and_sections_are_added_where_they_belong() {
        let edited =
            edit(&["privacy.delta=1e-6", "federated.min_fit_clients=2", "experiment.description='a # b'"]);
        assert!(edited.kept_comments);
        let at = |text: &str| edited.text.find(text).unwrap();
        assert!(at("num_rounds") < at("min_fit_clients") && at("min_fit_clients") < at("# Privacy"));
        assert!(at("epsilon_budget") < at("delta") && at("delta") < at("data:"));
        assert!(at("data:") < at("experiment:"));
        assert_eq!(edited.config.experiment.description, "a # b");
    }

    #[test]
    fn what_takes_more_than_a_line_is_written_anew_and_says_so() {
        let edited = edit(&["data.image_size=64"]);
        assert!(!edited.kept_comments && !edited.text.contains("# A federation"));
        assert_eq!(Config::from_yaml(&edited.text, "new", &[]).unwrap(), edited.config);
        assert_eq!(edited.config.federated.num_rounds, 10);
    }

    #[test]
    fn bad_values_leave_everything_as_it_was() {
        let set = Override::parse("federated.num_rounds=-1").unwrap();
        let errors = Config::edit(FILE, "file", &[set]).unwrap_err();
        assert_eq!(errors.problems[0].key, "federated.num_rounds");
    }

    #[test]
    fn comments_begin_outside_quotes() {
        assert_eq!(split_comment(" 'a # b'  # c"), ("'a # b'", "# c"));
        assert_eq!(split_comment(" a#b"), ("a#b", ""));
        assert_eq!(split_comment(""), ("", ""));
    }
}
