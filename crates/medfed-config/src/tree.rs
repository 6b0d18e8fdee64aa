//! A configuration as it was written: values with the place each comes from.

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::options::{AliasLimits, DuplicateKeyPolicy, NonFiniteFloatPolicy};
use serde_saphyr::{Location, Spanned};

/// Where a value was written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Place {
    /// Nowhere: it is a default.
    #[default]
    Default,
    /// In the file.
    File {
        /// Line, counted from 1.
        line: usize,
        /// Column in characters, counted from 1.
        column: usize,
        /// Length in characters.
        len: usize,
    },
    /// In this `--set`.
    Override {
        /// `key.path=value` as it was given.
        text: String,
    },
}

impl From<Location> for Place {
    fn from(location: Location) -> Self {
        if location == Location::UNKNOWN {
            return Self::Default;
        }
        Self::File {
            line: location.line() as usize,
            column: location.column() as usize,
            len: location.span().len() as usize,
        }
    }
}

/// A value and its place.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tree {
    pub(crate) place: Place,
    pub(crate) value: Value,
}

/// A YAML value.
#[derive(Debug, Clone, Default)]
pub(crate) enum Value {
    #[default]
    Null,
    Bool(bool),
    Integer(i128),
    Float(f64),
    Text(String),
    List(Vec<Tree>),
    Map(Vec<Entry>),
}

/// A key of a mapping and its value.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) place: Place,
    pub(crate) tree: Tree,
}

impl Tree {
    /// Reads one YAML document. Keys that are written twice are kept twice, for the check to report.
    pub(crate) fn parse(text: &str) -> Result<Self, serde_saphyr::Error> {
        let mut aliases = AliasLimits::default();
        // A configuration has about a hundred values; anchors may repeat some of them, not millions.
        aliases.max_total_replayed_events = 10_000;
        aliases.max_replay_stack_depth = 8;
        let options = serde_saphyr::options! {
            alias_limits: aliases,
            budget: serde_saphyr::budget! { max_depth: 32, max_nodes: 100_000, max_events: 200_000 },
            duplicate_keys: DuplicateKeyPolicy::PassThrough,
            strict_booleans: true,
            non_finite_float_policy: NonFiniteFloatPolicy::PassThrough,
            with_snippet: false,
        };
        serde_saphyr::from_str_with_options(text, options)
    }

    /// The value at a path of keys and list indices.
    pub(crate) fn find<'t>(&'t self, path: &[&str]) -> Option<&'t Self> {
        let Some((first, rest)) = path.split_first() else { return Some(self) };
        match &self.value {
            Value::Map(entries) => entries.iter().find(|entry| entry.key == *first)?.tree.find(rest),
            Value::List(items) => items.get(first.parse::<usize>().ok()?)?.find(rest),
            _ => None,
        }
    }

    /// Gives every value in the tree the same place.
    pub(crate) fn place_all(&mut self, place: &Place) {
        self.place = place.clone();
        match &mut self.value {
            Value::List(items) => items.iter_mut().for_each(|item| item.place_all(place)),
            Value::Map(entries) => {
                for entry in entries {
                    entry.place = place.clone();
                    entry.tree.place_all(place);
                }
            }
            _ => {}
        }
    }

    /// The bare value. Numbers that are not finite become null; the check refuses them before.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        match &self.value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(value) => (*value).into(),
            Value::Integer(value) => match (u64::try_from(*value), i64::try_from(*value)) {
                (Ok(value), _) => value.into(),
                (_, Ok(value)) => value.into(),
                _ => (*value as f64).into(),
            },
            Value::Float(value) => (*value).into(),
            Value::Text(value) => value.as_str().into(),
            Value::List(items) => items.iter().map(Self::to_json).collect(),
            Value::Map(entries) => {
                entries.iter().map(|entry| (entry.key.clone(), entry.tree.to_json())).collect()
            }
        }
    }

    /// The value in words, for messages.
    pub(crate) fn describe(&self) -> String {
        match &self.value {
            Value::Null => "nothing".to_owned(),
            Value::Bool(value) => value.to_string(),
            Value::Integer(value) => value.to_string(),
            Value::Float(value) => format!("{value:?}"),
            Value::Text(value) if value.chars().count() > 40 => {
                format!("the text {:?}...", value.chars().take(40).collect::<String>())
            }
            Value::Text(value) => format!("the text {value:?}"),
            Value::List(items) => format!("a list of {}", items.len()),
            Value::Map(_) => "a mapping".to_owned(),
        }
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Value>::deserialize(deserializer)?;
        Ok(Self { place: spanned.referenced.into(), value: spanned.value })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Integer(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Integer(value.into()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Value, E> {
        Ok(Value::Integer(value))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Value, E> {
        Ok(i128::try_from(value).map_or(Value::Float(value as f64), Value::Integer))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some((key, tree)) = map.next_entry::<Spanned<String>, Tree>()? {
            entries.push(Entry { key: key.value, place: key.referenced.into(), tree });
        }
        Ok(Value::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    #[test]
    fn values_and_keys_know_their_places() {
        let tree = Tree::parse("a:\n  bé: [1, x]\n  c: 1e-5\n").unwrap();
        let file = |line, column, len| Place::File { line, column, len };
        let Value::Map(root) = &tree.value else { panic!("{tree:?}") };
        assert_eq!(root[0].place, file(1, 1, 1));
        let Value::Map(inner) = &root[0].tree.value else { panic!("{tree:?}") };
        assert_eq!((inner[0].key.as_str(), &inner[0].place), ("bé", &file(2, 3, 2)));
        assert_eq!(tree.find(&["a", "bé", "1"]).unwrap().place, file(2, 11, 1));
        assert!(matches!(tree.find(&["a", "c"]).unwrap().value, Value::Float(v) if v == 1e-5));
        assert!(tree.find(&["a", "bé", "2"]).is_none());
    }

    #[test]
    fn yaml_1_2_types() {
        let kinds = "[yes, 'true', true, ~, 0x10, 1_0, 1., .inf, 18446744073709551615, -3]";
        let tree = Tree::parse(kinds).unwrap();
        let Value::List(items) = &tree.value else { panic!("{tree:?}") };
        let found: Vec<_> = items.iter().map(Tree::describe).collect();
        assert_eq!(
            found,
            [
                "the text \"yes\"",
                "the text \"true\"",
                "true",
                "nothing",
                "16",
                "10",
                "1.0",
                "inf",
                "18446744073709551615",
                "-3"
            ]
        );
    }

    #[test]
    fn bombs_are_refused() {
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..9 {
            let alias = format!("*a{}, ", level - 1).repeat(10);
            writeln!(bomb, "a{level}: &a{level} [{alias}]").unwrap();
        }
        assert!(Tree::parse(&bomb).is_err());
        assert!(Tree::parse(&"[".repeat(100_000)).is_err());
        assert!(Tree::parse(&"- ".repeat(100_000)).is_err());
    }
}
