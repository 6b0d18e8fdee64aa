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
}
