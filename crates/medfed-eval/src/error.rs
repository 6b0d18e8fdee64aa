//! What makes scores unusable.

/// Scores and labels from which nothing can be measured.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum EvalError {
    /// There is no image to measure on.
    #[error("there is no prediction to evaluate")]
    Empty,
    /// A classifier has two classes or more.
    #[error("predictions have at least 2 classes, not {found}")]
    Classes {
        /// Classes found.
        found: usize,
    },
    /// Scores and labels do not belong together.
    #[error("{labels} labels of {classes} classes need {labels} × {classes} scores, not {found}")]
    Shape {
        /// Number of labels.
        labels: usize,
        /// Number of classes.
        classes: usize,
        /// Scores found.
        found: usize,
    },
    /// A label that names no class.
    #[error("label {found} of prediction {index} is not one of the {classes} classes")]
    Label {
        /// Position of the prediction.
        index: usize,
        /// The label.
        found: u32,
        /// Number of classes.
        classes: usize,
    },
    /// A score is NaN or infinite: the network has diverged.
    #[error("the score of class {class} in prediction {index} is {found}, not a finite number")]
    NotFinite {
        /// Position of the prediction.
        index: usize,
        /// The class.
        class: usize,
        /// The score.
        found: f64,
    },
    /// Lists that should have one entry per image.
    #[error("{expected} images need {expected} {what}, not {found}")]
    Lengths {
        /// What is listed.
        what: &'static str,
        /// Images.
        expected: usize,
        /// Entries found.
        found: usize,
    },
    /// A column that names no groups.
    #[error("`{attribute}` has {found} different values, groups are compared up to {most}")]
    TooManyGroups {
        /// The attribute.
        attribute: String,
        /// Values found.
        found: usize,
        /// The most that is compared.
        most: usize,
    },
    /// Counts that are not those of a group of this problem.
    #[error("the counts of {group:?} in `{attribute}` contradict each other")]
    Counts {
        /// The attribute.
        attribute: String,
        /// The group.
        group: String,
    },
    /// Something that an audit cannot be made of.
    #[error("{what} must be {expected}, not {found}")]
    Audit {
        /// The quantity, in words.
        what: &'static str,
        /// Its range, in words.
        expected: &'static str,
        /// The value found.
        found: f64,
    },
}
