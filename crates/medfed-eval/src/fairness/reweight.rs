//! Weights that hospitals gain while the model serves them badly.

use medfed_types::SiteId;
use std::collections::BTreeMap;

/// How fast weights move: a hospital 10 points of accuracy below the mean gains about 22 % in a round.
const RATE: f64 = 2.0;
/// The most and, inverted, the least factor on a hospital's weight.
const MOST: f64 = 2.0;

/// The next round's factors on the hospitals' aggregation weights.
///
/// After a violation each evaluated hospital's factor is multiplied by exp(2·(mean accuracy − its accuracy)):
/// the exponentiated-gradient ascent on the mixture of hospitals of agnostic federated learning (Mohri,
/// Sivek, Suresh 2019), with the error as the loss, and bounded to 1/2 … 2 so that no hospital's patients
/// and no hospital's lies decide the model. Without a violation factors go back half of their way to 1, on
/// the logarithmic scale. A hospital without a factor has 1, and a factor of 1 is not kept.
pub fn reweighted(
    factors: &BTreeMap<SiteId, f64>,
    accuracies: &[(SiteId, f64)],
    violated: bool,
) -> BTreeMap<SiteId, f64> {
    let mean = accuracies.iter().map(|(_, accuracy)| accuracy).sum::<f64>() / accuracies.len().max(1) as f64;
    let mut next = factors.clone();
    if violated {
        for (site, accuracy) in accuracies {
            let factor = next.entry(site.clone()).or_insert(1.0);
            *factor = (*factor * (RATE * (mean - accuracy)).exp()).clamp(1.0 / MOST, MOST);
        }
    } else {
        for factor in next.values_mut() {
            *factor = factor.sqrt();
        }
    }
    next.retain(|_, factor| factor.ln().abs() > 1e-3);
    next
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(name: &str) -> SiteId {
        SiteId::try_from(name).unwrap()
    }

    #[test]
    fn the_badly_served_gain_within_bounds_and_factors_fade() {
        let accuracies = [(site("a"), 0.6), (site("b"), 0.9), (site("c"), 0.75)];
        let mut factors = reweighted(&BTreeMap::new(), &accuracies, true);
        assert!((factors[&site("a")] - 0.3f64.exp()).abs() < 1e-12);
        assert!((factors[&site("b")] - (-0.3f64).exp()).abs() < 1e-12);
        assert_eq!(factors.get(&site("c")), None);
        for _ in 0..20 {
            factors = reweighted(&factors, &accuracies, true);
        }
        assert_eq!((factors[&site("a")], factors[&site("b")]), (2.0, 0.5));
        factors = reweighted(&factors, &accuracies, false);
        assert_eq!(factors[&site("a")], 2f64.sqrt());
        for _ in 0..20 {
            factors = reweighted(&factors, &accuracies, false);
        }
        assert!(factors.is_empty() && reweighted(&factors, &[], true).is_empty());
    }
}
