//! The configuration: parsing, checking, overriding, schema.
//!
//! YAML text and overrides enter, a [`Config`] leaves, or everything that is wrong with them at once
//! ([`ConfigErrors`]), each with file, line, column, key, what was expected and what was found.
//!
//! 1. The text becomes a tree of values that know their places.
//! 2. Overrides take the place of values in the tree.
//! 3. The tree is held against the schema derived from the [`section`]s: their documentation, ranges
//!    and defaults are the one list of what is accepted.
//! 4. The tree becomes typed; values that do not go together are refused.
//!
//! A key may be accepted while this version cannot deliver what it asks for. Whoever runs a
//! configuration calls [`Sections::require_available`] first. No file is read here.

mod availability;
mod check;
mod conflict;
mod edit;
mod error;
mod hospital;
mod overriding;
mod render;
mod schema;
pub mod section;
mod tree;

pub use availability::{Note, Unavailable, UnavailableError};
pub use edit::Edited;
pub use error::{ConfigErrors, Conflict, OverrideError, Problem, ProblemKind};
pub use hospital::Hospital;
pub use overriding::Override;
pub use section::Sections;
pub use tree::Place;

use std::fmt::Write as _;

use serde_json::Value;
use sha2::{Digest, Sha256};
use tree::Tree;

/// Bytes of the largest file that is read as a configuration.
pub const MAX_BYTES: usize = 1 << 20;

/// A configuration whose values are all in range and go together. It reads like its [`Sections`] and
/// cannot be changed: a change is an [`Override`] and is checked again.
#[derive(Debug, Clone, Default)]
pub struct Config {
    sections: Sections,
    /// Sections that are written and off, though nothing there says so.
    idle: Vec<&'static str>,
}

impl PartialEq for Config {
    fn eq(&self, other: &Self) -> bool {
        self.sections == other.sections
    }
}

impl std::ops::Deref for Config {
    type Target = Sections;

    fn deref(&self) -> &Sections {
        &self.sections
    }
}

impl Config {
    /// Reads YAML (or JSON, which is YAML), applies `overrides` in their order, and checks everything.
    /// `origin` names the text in messages.
    pub fn from_yaml(text: &str, origin: &str, overrides: &[Override]) -> Result<Self, ConfigErrors> {
        read(text, overrides).map_err(|mut problems| {
            problems.sort_by_key(|problem| match problem.place {
                Place::File { line, column, .. } => (line, column),
                Place::Override { .. } => (usize::MAX - 1, 0),
                Place::Default => (usize::MAX, 0),
            });
            ConfigErrors { origin: origin.to_owned(), text: text.to_owned(), problems }
        })
    }

    /// Keys that have no effect, and settings that protect little.
    pub fn notes(&self) -> Vec<Note> {
        availability::notes(&self.sections, &self.idle)
    }

    /// Every key with its value, defaults included.
    #[expect(clippy::missing_panics_doc, reason = "the invariant holds for every configuration")]
    pub fn to_json(&self) -> Value {
        serde_json::to_value(&self.sections).expect("keys are text, numbers finite and paths UTF-8")
    }

    /// Every key with its value, defaults included, as YAML that [`Config::from_yaml`] reads back.
    #[expect(clippy::missing_panics_doc, reason = "the invariant holds for every configuration")]
    pub fn to_yaml(&self) -> String {
        let mut yaml =
            serde_saphyr::to_string(&self.sections).expect("keys are text, numbers finite and paths UTF-8");
        yaml.push('\n');
        yaml
    }

    /// The JSON Schema of the configuration.
    pub fn schema() -> Value {
        schema::schema()
    }

    /// SHA-256, in hexadecimal digits, of everything that bears on the result: all but `output`,
    /// `dashboard`, `network`, and the run's name and description. Equal configurations train equal models.
    pub fn hash(&self) -> String {
        hash_of(self.to_json())
    }
}

/// [`Config::hash`] of a configuration that was stored as [`Config::to_json`] gave it. Keys that were added to
/// the schema since then do not change it.
pub fn hash_of(mut config: Value) -> String {
    if let Some(sections) = config.as_object_mut() {
        sections.remove("output");
        sections.remove("dashboard");
        sections.remove("network");
        if let Some(experiment) = sections.get_mut("experiment").and_then(Value::as_object_mut) {
            experiment.remove("name");
            experiment.remove("description");
        }
    }
    config.sort_all_objects();
    let digest = Sha256::digest(config.to_string());
    digest.iter().fold(String::with_capacity(64), |mut digits, byte| {
        // Writing to a string cannot fail.
        let _ = write!(digits, "{byte:02x}");
        digits
    })
}

fn read(text: &str, overrides: &[Override]) -> Result<Config, Vec<Problem>> {
    let whole = |kind| vec![Problem { key: String::new(), place: Place::Default, kind }];
    if text.len() > MAX_BYTES {
        return Err(whole(ProblemKind::TooLarge { found: text.len(), limit: MAX_BYTES }));
    }
    let mut tree = Tree::parse(text).map_err(|error| vec![syntax(&error)])?;
    if matches!(tree.value, tree::Value::Null) {
        return Err(whole(ProblemKind::Empty));
    }
    let mut problems: Vec<_> =
        overrides.iter().filter_map(|set| set.apply(&mut tree).err()).map(|problem| *problem).collect();
    problems.extend(check::problems(&tree, &schema::schema()));
    if !problems.is_empty() {
        return Err(problems);
    }
    let mut sections: Sections = serde_json::from_value(tree.to_json())
        .map_err(|error| whole(ProblemKind::Syntax { reason: error.to_string() }))?;
    conflict::resolve(&mut sections, &tree);
    let conflicts = conflict::conflicts(&sections);
    if conflicts.is_empty() {
        return Ok(Config { sections, idle: availability::idle(&tree) });
    }
    Err(conflicts
        .into_iter()
        .map(|(key, conflict)| Problem { place: place_of(&tree, &key), key, kind: conflict.into() })
        .collect())
}

fn syntax(error: &serde_saphyr::Error) -> Problem {
    let place = error.location().map(Place::from).unwrap_or_default();
    Problem { key: String::new(), place, kind: ProblemKind::Syntax { reason: reason(error) } }
}

/// What the parser says, without the place, and without the names of its functions.
fn reason(error: &serde_saphyr::Error) -> String {
    match error.without_snippet() {
        serde_saphyr::Error::MultipleDocuments { .. } => "expected one document, found another".to_owned(),
        serde_saphyr::Error::AliasReplayLimitExceeded { .. } => "aliases repeat too many values".to_owned(),
        serde_saphyr::Error::RecursiveReferencesRequireWeakTypes { .. } => {
            "an alias refers to a value that contains it".to_owned()
        }
        other => {
            let text = other.to_string();
            text.split_once(" at line ").map_or(text.clone(), |(reason, _)| reason.to_owned())
        }
    }
}

/// Where the key was written, or the section that would have it.
fn place_of(tree: &Tree, key: &str) -> Place {
    let path: Vec<_> = key.split('.').collect();
    (1..=path.len())
        .rev()
        .find_map(|depth| tree.find(&path[..depth]))
        .map(|found| found.place.clone())
        .unwrap_or_default()
}
