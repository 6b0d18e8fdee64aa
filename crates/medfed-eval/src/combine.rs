//! One number for several hospitals.

/// The mean of the values that are defined, each with its weight (for example the number of images it
/// was measured on). `None` where no value with a weight above 0 is defined.
pub fn weighted_mean(values: impl IntoIterator<Item = (Option<f64>, f64)>) -> Option<f64> {
    let (mut sum, mut total) = (0.0, 0.0);
    for (value, weight) in values {
        if let Some(value) = value.filter(|_| weight > 0.0) {
            sum += weight * value;
            total += weight;
        }
    }
    (total > 0.0).then(|| sum / total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn undefined_values_are_left_out() {
        assert_eq!(weighted_mean([(Some(0.5), 1.0), (None, 100.0), (Some(1.0), 3.0)]), Some(0.875));
        assert_eq!(weighted_mean([(None, 1.0), (Some(0.3), 0.0)]), None);
        assert_eq!(weighted_mean([]), None);
    }
}
