//! Expected calibration error and Brier score.

use crate::predictions::{Predictions, most_likely};

/// Bins of the expected calibration error.
pub(crate) const BINS: usize = 15;

/// The expected calibration error of the predicted class (Guo et al. 2017): images are binned by the
/// probability of their predicted class into 15 bins of equal width, open at the left; the error is the
/// mean over images of |accuracy − mean probability| of their bin.
pub(crate) fn expected_calibration_error(predictions: &Predictions) -> f64 {
    let mut gap = [0.0; BINS];
    for (row, label) in predictions.rows().zip(predictions.labels()) {
        let (bin, confidence) = confidence(row);
        gap[bin] += f64::from(most_likely(row) == *label as usize) - confidence;
    }
    gap.iter().map(|sum| sum.abs()).sum::<f64>() / predictions.len() as f64
}

/// The probability of the predicted class, and its bin.
pub(crate) fn confidence(row: &[f64]) -> (usize, f64) {
    let confidence = row[most_likely(row)];
    (((confidence * BINS as f64).ceil() as usize).clamp(1, BINS) - 1, confidence)
}

/// The mean over images of [`squared_error`] (Brier 1950).
pub(crate) fn brier(predictions: &Predictions) -> f64 {
    let errors = predictions.rows().zip(predictions.labels()).map(|(row, label)| squared_error(row, *label));
    errors.sum::<f64>() / predictions.len() as f64
}

/// With two classes the squared distance of class 1's probability from 0 or 1; with more the sum of those of
/// all classes, up to 2.
pub(crate) fn squared_error(row: &[f64], label: u32) -> f64 {
    let of = |class: usize| (row[class] - f64::from(class == label as usize)).powi(2);
    if row.len() == 2 { of(1) } else { (0..row.len()).map(of).sum() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn confident_mistakes_count_in_full_and_bins_are_open_at_the_left() {
        let error = |rows: &[f64], labels: &[u32]| {
            expected_calibration_error(&Predictions::from_probabilities(rows, labels, 2))
        };
        assert_eq!(error(&[1.0, 0.0], &[1]), 1.0);
        assert_eq!(error(&[1.0, 0.0], &[0]), 0.0);
        // 0.8 = 12/15 belongs to the bin that ends there, together with 0.75; 0.85 does not.
        let one_right = [0.8, 0.2, 0.75, 0.25];
        assert!((error(&one_right, &[0, 1]) - 0.275).abs() < 1e-12);
        let apart = [0.8, 0.2, 0.85, 0.15];
        assert!((error(&apart, &[0, 1]) - 0.525).abs() < 1e-12);
    }
}
