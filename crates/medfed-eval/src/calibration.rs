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
