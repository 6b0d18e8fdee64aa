//! Values from the command line that take the place of those in the file.

use crate::error::{OverrideError, Problem, ProblemKind};
use crate::tree::{Entry, Place, Tree, Value};

/// One `--set key.path=value`.
#[derive(Debug, Clone)]
pub struct Override {
    text: String,
    path: Vec<String>,
    tree: Tree,
}

impl Override {
    /// Reads `key.path=value`. The value is YAML (`5`, `[a, b]`, `{name: A}`), and a path may go
    /// through a list (`data.nodes.0.samples=5`).
    pub fn parse(text: &str) -> Result<Self, OverrideError> {
        let Some((path, value)) = text.split_once('=') else {
            return Err(OverrideError::NoValue { found: text.to_owned() });
        };
        let mut tree = Tree::parse(value).map_err(|error| OverrideError::Value {
            found: text.to_owned(),
            reason: crate::reason(&error),
        })?;
        tree.place_all(&Place::Override { text: text.to_owned() });
        Self::of(text.to_owned(), path, tree)
    }

    /// Sets the key at `path` to this very text, whatever it would mean in YAML.
    pub fn text(path: &str, value: &str) -> Result<Self, OverrideError> {
        let text = format!("{path}={value}");
        let place = Place::Override { text: text.clone() };
        Self::of(text, path, Tree { place, value: Value::Text(value.to_owned()) })
    }

    fn of(text: String, path: &str, tree: Tree) -> Result<Self, OverrideError> {
        let path: Vec<String> = path.trim().split('.').map(str::to_owned).collect();
        if path.iter().any(String::is_empty) {
            return Err(OverrideError::Path { found: text });
        }
        Ok(Self { text, path, tree })
    }

    /// The keys that lead to the value.
    pub(crate) fn path(&self) -> &[String] {
        &self.path
    }

    /// The value as YAML in one line: JSON is.
    pub(crate) fn value_in_one_line(&self) -> String {
        self.tree.to_json().to_string()
    }

    /// Puts the value where it belongs.
    pub(crate) fn apply(&self, root: &mut Tree) -> Result<(), Box<Problem>> {
        let place = Place::Override { text: self.text.clone() };
        let mut tree = root;
        for (depth, segment) in self.path.iter().enumerate() {
            let problem = |kind| {
                let key = self.path[..=depth].join(".");
                Box::new(Problem { key, place: place.clone(), kind })
            };
            if matches!(tree.value, Value::Null) {
                let is_index = segment.bytes().all(|byte| byte.is_ascii_digit());
                let value = if is_index { Value::List(Vec::new()) } else { Value::Map(Vec::new()) };
                *tree = Tree { place: place.clone(), value };
            }
            let found = tree.describe();
            tree = match &mut tree.value {
                Value::Map(entries) => {
                    let index = entries.iter().position(|entry| entry.key == *segment);
                    let index = index.unwrap_or_else(|| {
                        let entry =
                            Entry { key: segment.clone(), place: place.clone(), tree: Tree::default() };
                        entries.push(entry);
                        entries.len() - 1
                    });
                    &mut entries[index].tree
                }
                Value::List(items) => {
                    let len = items.len();
                    let index = segment.parse::<usize>().ok().filter(|index| *index < len);
                    match index {
                        Some(index) => &mut items[index],
                        None => return Err(problem(ProblemKind::Index { found: segment.clone(), len })),
                    }
                }
                _ => return Err(problem(ProblemKind::NotASection { found })),
            };
        }
        *tree = self.tree.clone();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(file: &str, set: &str) -> Result<String, String> {
        let mut tree = Tree::parse(file).unwrap();
        let set = Override::parse(set).map_err(|error| error.to_string())?;
        set.apply(&mut tree).map_err(|problem| problem.kind.to_string())?;
        Ok(tree.to_json().to_string())
    }

    #[test]
    fn values_are_set_in_mappings_and_lists() {
        assert_eq!(after("a: {b: 1}", "a.b=2").unwrap(), r#"{"a":{"b":2}}"#);
        assert_eq!(after("a:", "a.b.c=[x, 1]").unwrap(), r#"{"a":{"b":{"c":["x",1]}}}"#);
        assert_eq!(after("a: [{b: 1}]", "a.0.b=x=y").unwrap(), r#"{"a":[{"b":"x=y"}]}"#);
        assert_eq!(after("a: 1", "a=").unwrap(), r#"{"a":null}"#);
    }

    #[test]
    fn paths_that_lead_nowhere_are_refused() {
        assert!(after("a: [1]", "a.1=2").unwrap_err().contains("0 to 0"));
        assert!(after("{}", "a.0.b=2").unwrap_err().contains("empty"));
        assert!(after("a: []", "a.x=2").unwrap_err().contains("empty"));
        assert!(after("a: 1", "a.b=2").unwrap_err().contains("found 1"));
        for bad in ["a", "=1", "a..b=1", "a=[", "a=: :"] {
            assert!(Override::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn text_stays_text() {
        let mut tree = Tree::default();
        Override::text("data.data_dir", "1e5: [").unwrap().apply(&mut tree).unwrap();
        assert_eq!(tree.to_json().to_string(), r#"{"data":{"data_dir":"1e5: ["}}"#);
    }
}
