//! The watch over what hospitals report of their training: the classical z-score.
//!
//! It compares each hospital's value with the mean of all, in sample standard deviations. That distance
//! is never more than (n−1)/√n with n hospitals, 2.85 with 10 of them: where the threshold lies above,
//! nothing can be found, and the watch says so. It decides nothing.

use crate::report::{Deviation, Measurement};
use medfed_types::SiteId;

/// Deviations among `values`, in the order given, or why none can be found.
pub(super) fn deviations(
    measurement: Measurement,
    values: &[(SiteId, f64)],
    threshold: f64,
) -> Result<Vec<Deviation>, String> {
    let n = values.len() as f64;
    let largest = if values.len() < 2 { 0.0 } else { (n - 1.0) / n.sqrt() };
    if largest <= threshold {
        return Err(format!(
            "what {} hospitals report of their training cannot be compared: their z-score is never above {largest:.2}, the threshold is {threshold}",
            values.len()
        ));
    }
    let mean = values.iter().map(|(_, value)| value).sum::<f64>() / n;
    let variance = values.iter().map(|(_, value)| (value - mean).powi(2)).sum::<f64>() / (n - 1.0);
    let deviation = variance.sqrt();
    // Equal values, and values without a mean, have no deviation to speak of.
    if !(deviation.is_finite() && deviation > 1e-12 * mean.abs()) {
        return Ok(Vec::new());
    }
    let score = |(hospital, value): &(SiteId, f64)| {
        let z_score = (value - mean) / deviation;
        let hospital = hospital.clone();
        (z_score.abs() > threshold).then_some(Deviation {
            hospital,
            measurement,
            value: *value,
            mean,
            z_score,
            threshold,
        })
    };
    Ok(values.iter().filter_map(score).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(of: &[f64]) -> Vec<(SiteId, f64)> {
        let name = |i: usize| SiteId::try_from(format!("Hospital {i:02}")).unwrap();
        of.iter().enumerate().map(|(i, value)| (name(i), *value)).collect()
    }

    #[test]
    fn the_odd_one_is_found_where_that_is_possible() {
        let mut losses = [0.5; 12];
        losses[..4].copy_from_slice(&[0.52, 0.49, 0.51, 0.48]);
        losses[7] = 3.0;
        let found = deviations(Measurement::TrainLoss, &values(&losses), 3.0).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].hospital.as_str(), "Hospital 07");
        assert!(found[0].z_score > 3.0 && found[0].to_string().contains("above the mean"), "{}", found[0]);
        assert_eq!(deviations(Measurement::TrainLoss, &values(&[0.5; 12]), 3.0), Ok(Vec::new()));
    }

    #[test]
    fn what_cannot_be_found_is_said() {
        // (n − 1)/√n passes 3 from 11 hospitals on.
        let mut losses = vec![0.5; 10];
        losses[0] = 1e9;
        let blind = deviations(Measurement::UpdateNorm, &values(&losses), 3.0).unwrap_err();
        assert!(blind.contains("what 10 hospitals report") && blind.contains("never above 2.85"), "{blind}");
        losses.push(0.5);
        assert_eq!(deviations(Measurement::UpdateNorm, &values(&losses), 3.0).unwrap().len(), 1);
        assert!(deviations(Measurement::UpdateNorm, &[], 3.0).is_err());
    }
}
