//! Checked predictions: what a network said about each image, and what was true.

use crate::EvalError;

/// Probabilities `[n, classes]` with the true classes `[n]`: finite, in 0 to 1, each row summing to 1,
/// at least one row, every label a class.
#[derive(Debug, Clone, PartialEq)]
pub struct Predictions {
    probabilities: Vec<f64>,
    labels: Vec<u32>,
    classes: usize,
}

impl Predictions {
    /// From the network's last layer, `[n, classes]`: the softmax of each row, in double precision.
    pub fn from_logits<T: Copy + Into<f64>>(
        logits: &[T],
        labels: &[u32],
        classes: usize,
    ) -> Result<Self, EvalError> {
        let mut probabilities = finite_scores(logits, labels, classes)?;
        probabilities.chunks_exact_mut(classes).for_each(softmax);
        Ok(Self { probabilities, labels: labels.to_vec(), classes })
    }

    /// From exact probabilities, for known answers with ties that a softmax would break.
    #[cfg(test)]
    pub(crate) fn from_probabilities(probabilities: &[f64], labels: &[u32], classes: usize) -> Self {
        let probabilities = finite_scores(probabilities, labels, classes).unwrap();
        Self { probabilities, labels: labels.to_vec(), classes }
    }

    /// Number of predictions, at least 1.
    pub(crate) fn len(&self) -> usize {
        self.labels.len()
    }

    /// Number of classes, at least 2.
    pub(crate) fn classes(&self) -> usize {
        self.classes
    }

    /// The true classes.
    pub(crate) fn labels(&self) -> &[u32] {
        &self.labels
    }

    /// The most likely class of each image; the first of equals.
    pub(crate) fn predicted(&self) -> impl Iterator<Item = u32> {
        self.rows().map(|row| most_likely(row) as u32)
    }

    /// The class probabilities of each image, image after image.
    pub(crate) fn rows(&self) -> impl ExactSizeIterator<Item = &[f64]> {
        self.probabilities.chunks_exact(self.classes)
    }

    /// The probability of `class` for each image, and whether the image is of it.
    pub fn against_rest(&self, class: usize) -> (Vec<f64>, Vec<bool>) {
        (self.column(class), self.labels.iter().map(|label| *label as usize == class).collect())
    }

    /// The probability of `class` for each image.
    pub(crate) fn column(&self, class: usize) -> Vec<f64> {
        self.rows().map(|row| row[class]).collect()
    }
}

/// The index of the largest probability; the first of equals.
pub(crate) fn most_likely(row: &[f64]) -> usize {
    row.iter()
        .enumerate()
        .fold((0, f64::NEG_INFINITY), |best, (k, &p)| if p > best.1 { (k, p) } else { best })
        .0
}

fn softmax(row: &mut [f64]) {
    // Subtracting the largest logit keeps every exponential in 0 to 1.
    let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    for x in row.iter_mut() {
        *x = (*x - largest).exp();
    }
    let sum: f64 = row.iter().sum();
    for x in row {
        *x /= sum;
    }
}

fn finite_scores<T: Copy + Into<f64>>(
    scores: &[T],
    labels: &[u32],
    classes: usize,
) -> Result<Vec<f64>, EvalError> {
    if classes < 2 {
        return Err(EvalError::Classes { found: classes });
    }
    if labels.is_empty() {
        return Err(EvalError::Empty);
    }
    if labels.len().checked_mul(classes) != Some(scores.len()) {
        return Err(EvalError::Shape { labels: labels.len(), classes, found: scores.len() });
    }
    if let Some((index, &found)) = labels.iter().enumerate().find(|(_, label)| **label as usize >= classes) {
        return Err(EvalError::Label { index, found, classes });
    }
    let scores: Vec<f64> = scores.iter().map(|score| (*score).into()).collect();
    match scores.iter().position(|score| !score.is_finite()) {
        Some(at) => Err(EvalError::NotFinite { index: at / classes, class: at % classes, found: scores[at] }),
        None => Ok(scores),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unusable_input_names_the_place() {
        let refused = |logits: &[f32], labels: &[u32], classes| {
            Predictions::from_logits(logits, labels, classes).unwrap_err()
        };
        assert_eq!(refused(&[], &[], 2), EvalError::Empty);
        assert_eq!(refused(&[0.5], &[0], 2), EvalError::Shape { labels: 1, classes: 2, found: 1 });
        assert_eq!(refused(&[0.5; 4], &[0, 2], 2), EvalError::Label { index: 1, found: 2, classes: 2 });
        assert_eq!(refused(&[1.0], &[0], 1), EvalError::Classes { found: 1 });
        let overflow = EvalError::Shape { labels: 2, classes: usize::MAX, found: 1 };
        assert_eq!(refused(&[1.0], &[0, 0], usize::MAX), overflow);
        let nan = Predictions::from_logits(&[0.0f32, 0.0, 1.0, f32::NAN], &[0, 0], 2).unwrap_err();
        assert!(matches!(nan, EvalError::NotFinite { index: 1, class: 1, found } if found.is_nan()));
        assert!(Predictions::from_logits(&[0.0f32, f32::INFINITY], &[0], 2).is_err());
    }

    #[test]
    fn softmax_survives_large_logits() {
        let logits = [1000.0f32, -1000.0, 3.0, 3.0];
        let predictions = Predictions::from_logits(&logits, &[0, 1], 2).unwrap();
        assert_eq!(predictions.rows().collect::<Vec<_>>(), [[1.0, 0.0], [0.5, 0.5]]);
    }

    #[test]
    fn ties_go_to_the_first_class() {
        assert_eq!(most_likely(&[0.25, 0.375, 0.375]), 1);
    }
}
