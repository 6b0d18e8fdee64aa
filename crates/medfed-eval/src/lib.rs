//! Scores in, performance out: accuracy, AUROC, log loss, confusion and the rates derived from it,
//! calibration; intervals at 95 %.
//!
//! ```text
//! logits [n, classes] + labels [n] → Predictions (probabilities) → Performance
//! ```
//!
//! Nothing here reads a file. A metric that the labels do not define (the AUROC of a set without one of
//! the classes, the precision of a class that was never predicted) is `None`, never 0 and never NaN, so
//! that a mean over hospitals leaves it out instead of being dragged down by it ([`weighted_mean`]).
//!
//! With two classes, class 1 is the finding: sensitivity, specificity, precision and F1 are those of
//! class 1. With more, they are the unweighted means over the classes in which they are defined.
//!
//! Intervals treat images as independent. Several images of one patient are not, so there the true
//! uncertainty is larger than the interval says.

mod auroc;
mod bootstrap;
mod calibration;
mod combine;
mod curve;
mod details;
mod error;
pub mod fairness;
mod interval;
pub mod membership;
pub mod one_run;
mod performance;
mod predictions;

pub use auroc::auroc;
pub use bootstrap::Resampling;
pub use combine::weighted_mean;
pub use curve::{
    CalibrationBin, MOST_POINTS, OperatingPoint, PrPoint, RocPoint, average_precision, calibration_curve,
    pr_curve, roc_curve, threshold_at_sensitivity,
};
pub use details::{ClassCurves, Details, PerformanceIntervals};
pub use error::EvalError;
pub use interval::Interval;
pub use performance::{ClassPerformance, Performance};
pub use predictions::Predictions;
