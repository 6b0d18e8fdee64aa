//! What is wrong with a configuration, where, and what to do about it.

use crate::render;
use crate::tree::Place;

/// An override that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OverrideError {
    /// There is no `=`.
    #[error("--set {found}: expected key.path=value, found no `=`")]
    NoValue {
        /// The argument.
        found: String,
    },
    /// The path is empty or has an empty part.
    #[error("--set {found}: expected key.path=value, found an empty key")]
    Path {
        /// The argument.
        found: String,
    },
    /// The value is not YAML.
    #[error("--set {found}: the value is not YAML: {reason}")]
    Value {
        /// The argument.
        found: String,
        /// What the parser says.
        reason: String,
    },
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    /// Path of the key, `data.nodes.0.samples`; empty for the whole file.
    pub key: String,
    /// Where it was written.
    pub place: Place,
    /// What is wrong.
    pub kind: ProblemKind,
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ProblemKind {
    /// The file is too large to be a configuration.
    #[error("the file has {found} bytes, expected {limit} at the most")]
    TooLarge {
        /// Bytes found.
        found: usize,
        /// Bytes accepted.
        limit: usize,
    },
    /// The file has no key.
    #[error("the file is empty, expected sections such as `federated` and `privacy`")]
    Empty,
    /// The file is not YAML.
    #[error("not YAML: {reason}")]
    Syntax {
        /// What the parser says.
        reason: String,
    },
    /// A key that does not exist.
    #[error("unknown key `{found}`, expected one of {}", .expected.join(", "))]
    UnknownKey {
        /// The key.
        found: String,
        /// Keys that exist here.
        expected: Vec<String>,
        /// The nearest of all keys, as a whole path.
        nearest: Option<String>,
    },
    /// A key that is written twice in one mapping.
    #[error("the key `{found}` is written twice")]
    DuplicateKey {
        /// The key.
        found: String,
        /// Line of the first.
        first: Option<usize>,
    },
    /// A key that has to be there.
    #[error("the key `{expected}` is missing")]
    MissingKey {
        /// The key.
        expected: String,
    },
    /// A value of a wrong kind.
    #[error("expected {expected}, found {found}")]
    Type {
        /// What was expected, in words.
        expected: String,
        /// What was found, in words.
        found: String,
        /// What may have been meant.
        hint: Option<String>,
    },
    /// A value of the right kind that is not accepted.
    #[error("expected {expected}, found {found}")]
    Range {
        /// What was expected, in words.
        expected: String,
        /// What was found, in words.
        found: String,
        /// What may have been meant.
        hint: Option<String>,
    },
    /// An override goes through a list at an index that is not there.
    #[error("{}, found `{found}`", index_range(*len))]
    Index {
        /// The index.
        found: String,
        /// Length of the list.
        len: usize,
    },
    /// An override goes through a value that has no keys.
    #[error("expected a section or a list, found {found}")]
    NotASection {
        /// What was found, in words.
        found: String,
    },
    /// Values that do not go together.
    #[error(transparent)]
    Conflict(#[from] Conflict),
}

/// Values that are fine by themselves and do not go together.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Conflict {
    /// More hospitals are asked for than take part.
    #[error("expected {hospitals} at the most (`federated.num_clients`), found {found}")]
    MoreThanHospitals {
        /// Hospitals that take part.
        hospitals: u32,
        /// Hospitals asked for.
        found: u32,
    },
    /// `min_fit_clients` exceeds `min_available_clients`.
    #[error("expected at least `min_fit_clients`, {fit}, found {found}")]
    FewerThanFit {
        /// `min_fit_clients`.
        fit: u32,
        /// `min_available_clients`.
        found: u32,
    },
    /// `nodes` lists more hospitals than take part.
    #[error("expected {hospitals} hospitals at the most (`federated.num_clients`), found {found}")]
    TooManyNodes {
        /// Hospitals that take part.
        hospitals: u32,
        /// Hospitals listed.
        found: usize,
    },
    /// Two hospitals have one name.
    #[error("expected a name of its own for each hospital, found {name:?} twice")]
    SameName {
        /// The name.
        name: String,
    },
    /// The warning comes after what it warns of.
    #[error("expected less than `budget_critical_threshold`, {critical}, found {found}")]
    WarningNotBelowCritical {
        /// The critical share.
        critical: f64,
        /// The warning's share.
        found: f64,
    },
    /// Shares of groups add up to more than the whole.
    #[error("expected shares that add up to 1 at the most, found {found}")]
    SharesAboveOne {
        /// Their sum.
        found: f64,
    },
    /// `channels` is set for a model whose widths are fixed.
    #[error("expected `model.name: simple_cnn`, the only model with free widths, found {model}")]
    FixedWidths {
        /// The model.
        model: &'static str,
    },
    /// Both a split by site and a random split are asked for.
    #[error("expected one way to split the images, found both `split_by_site` and `non_iid.enabled`")]
    TwoSplits,
    /// A split by site is asked for where images have no site.
    #[error("expected `data.dataset: files`, synthetic images carry no site")]
    SplitWithoutSites,
    /// Synthetic images cannot be drawn at this size.
    #[error("expected 28 to 512 pixels for synthetic images, found {found}")]
    SyntheticSize {
        /// Pixels asked for.
        found: u32,
    },
    /// Synthetic images do not have that many classes.
    #[error("expected 2 or 3 classes for synthetic images, found {found}")]
    SyntheticClasses {
        /// Classes asked for.
        found: u32,
    },
    /// Masks for more hospitals than the protocol is made for.
    #[error("expected {most} hospitals at the most (`federated.num_clients`), found {found}")]
    TooManyMasked {
        /// The most hospitals.
        most: u32,
        /// Hospitals that take part.
        found: u32,
    },
    /// The aggregation rule does not work on masked updates in the configured mode.
    #[error("{problem}")]
    NotUnderMasks {
        /// Why, and what to choose.
        problem: String,
    },
    /// Sums of two are to be opened, and nothing but the masks hides an update.
    #[error(
        "expected 3 or more without `privacy.enabled`: each of two hospitals could derive the other's update"
    )]
    TwoWithoutPrivacy,
    /// Two different sums could each find enough hospitals to unmask it.
    #[error(
        "expected {least} or more of {hospitals} hospitals, found {found}: with fewer, two sets of hospitals could each open a sum"
    )]
    LowThreshold {
        /// Hospitals that take part.
        hospitals: u32,
        /// The least threshold.
        least: u32,
        /// The threshold asked for.
        found: u32,
    },
    /// More bad hospitals are to be withstood than any rule can.
    #[error("expected fewer than half of the {hospitals} hospitals (`federated.num_clients`), found {found}")]
    TooManyByzantine {
        /// Hospitals that take part.
        hospitals: u32,
        /// Bad hospitals.
        found: u32,
    },
}

fn index_range(len: usize) -> String {
    match len.checked_sub(1) {
        Some(last) => format!("expected an index from 0 to {last}"),
        None => "expected no index, the list is empty".to_owned(),
    }
}

impl Problem {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match &self.kind {
            ProblemKind::UnknownKey { nearest: Some(nearest), .. } => {
                Some(format!("the nearest known key is `{nearest}`"))
            }
            ProblemKind::DuplicateKey { first: Some(line), .. } => {
                Some(format!("the first is on line {line}; keep one of them"))
            }
            ProblemKind::Type { hint, .. } | ProblemKind::Range { hint, .. } => hint.clone(),
            ProblemKind::Empty => Some("`{}` is the configuration of defaults".to_owned()),
            ProblemKind::Syntax { reason } if reason.contains("tab") => {
                Some("indent with spaces, YAML accepts no tabs".to_owned())
            }
            ProblemKind::Conflict(Conflict::TooManyNodes { .. }) => {
                Some("raise `federated.num_clients`, or empty the list with `--set data.nodes=[]`".to_owned())
            }
            ProblemKind::Conflict(Conflict::TwoSplits) => {
                Some("`--set data.non_iid.enabled=false` keeps the split by site".to_owned())
            }
            _ => None,
        }
    }
}

/// Everything that is wrong with a configuration; at least one thing.
#[derive(Debug, Clone)]
pub struct ConfigErrors {
    pub(crate) origin: String,
    pub(crate) text: String,
    pub(crate) problems: Vec<Problem>,
}

impl ConfigErrors {
    /// The problems, in the order of their places.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// The problems as a compiler would show them: place, line, caret, hint. `colour` adds the escape
    /// sequences of a terminal.
    pub fn render(&self, colour: bool) -> String {
        render::problems(self, colour)
    }
}

impl std::fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for ConfigErrors {}
