//! Expected calibration error.

use crate::predictions::{Predictions, most_likely};

const BINS: usize = 15;

/// The expected calibration error of the predicted class (Guo et al. 2017): images are binned by the
/// probability of their predicted class into 15 bins of equal width, open at the left; the error is the
/// mean over images of |accuracy − mean probability| of their bin.
pub(crate) fn expected_calibration_error(predictions: &Predictions) -> f64 {
    let mut gap = [0.0; BINS];
    for (row, label) in predictions.rows().zip(predictions.labels()) {
        let predicted = most_likely(row);
        let bin = ((row[predicted] * BINS as f64).ceil() as usize).clamp(1, BINS) - 1;
        gap[bin] += f64::from(predicted == *label as usize) - row[predicted];
    }
    gap.iter().map(|sum| sum.abs()).sum::<f64>() / predictions.len() as f64
}
