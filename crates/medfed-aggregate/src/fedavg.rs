//! Federated averaging (McMahan et al. 2017, algorithm 1): the mean of the deltas, weighted by the
//! sites' numbers of training images.

use crate::update::{AggregateError, SiteUpdate};
use medfed_types::RoundId;

/// The weighted mean of `updates`, one value per parameter.
///
/// Every update must belong to `round`, have `parameters` values and come from a site of its own.
/// The result is the same whatever the order of `updates`.
pub fn aggregate(
    updates: &[SiteUpdate],
    round: RoundId,
    parameters: usize,
) -> Result<Vec<f32>, AggregateError> {
    let mut updates: Vec<&SiteUpdate> = updates.iter().collect();
    updates.sort_by(|a, b| a.site().cmp(b.site()));
    for update in &updates {
        if update.round() != round {
            let (site, found) = (update.site().clone(), update.round());
            return Err(AggregateError::Round { site, expected: round, found });
        }
        if update.delta().len() != parameters {
            let (site, found) = (update.site().clone(), update.delta().len());
            return Err(AggregateError::Length { site, expected: parameters, found });
        }
    }
    if let Some(pair) = updates.windows(2).find(|pair| pair[0].site() == pair[1].site()) {
        return Err(AggregateError::Duplicate { site: pair[0].site().clone() });
    }
    let total: f64 = updates.iter().map(|update| update.weight()).sum();
    if updates.is_empty() {
        return Err(AggregateError::Empty);
    }
    let shares: Vec<f64> = updates.iter().map(|update| update.weight() / total).collect();
    Ok((0..parameters)
        .map(|i| {
            updates.iter().zip(&shares).map(|(u, share)| share * f64::from(u.delta()[i])).sum::<f64>() as f32
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use medfed_types::SiteId;
    use proptest::prelude::*;

    fn update(name: &str, delta: &[f32], weight: f64) -> SiteUpdate {
        SiteUpdate::new(SiteId::try_from(name).unwrap(), RoundId(1), delta.to_vec(), weight).unwrap()
    }

    #[test]
    fn weights_are_shares() {
        let updates = [update("a", &[1.0, 0.0], 1.0), update("b", &[5.0, 4.0], 3.0)];
        assert_eq!(aggregate(&updates, RoundId(1), 2).unwrap(), [4.0, 3.0]);
    }

    #[test]
    fn what_does_not_fit_names_its_site() {
        let good = update("a", &[1.0], 1.0);
        let site = SiteId::try_from("b").unwrap();
        assert!(matches!(
            SiteUpdate::new(site.clone(), RoundId(1), vec![0.0, f32::NAN], 1.0),
            Err(AggregateError::NotFinite { index: 1, .. })
        ));
        for weight in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(SiteUpdate::new(site.clone(), RoundId(1), vec![0.0], weight).is_err());
        }
        let late = SiteUpdate::new(site.clone(), RoundId(2), vec![0.0], 1.0).unwrap();
        assert!(matches!(
            aggregate(&[good.clone(), late], RoundId(1), 1),
            Err(AggregateError::Round { site: s, .. }) if s == site
        ));
        let long = update("b", &[0.0, 1.0], 1.0);
        assert!(matches!(
            aggregate(&[good.clone(), long], RoundId(1), 1),
            Err(AggregateError::Length { site: s, .. }) if s == site
        ));
        assert!(matches!(
            aggregate(&[good.clone(), good], RoundId(1), 1),
            Err(AggregateError::Duplicate { .. })
        ));
        assert_eq!(aggregate(&[], RoundId(1), 1), Err(AggregateError::Empty));
    }

    proptest! {
        #[test]
        fn order_does_not_matter_and_the_mean_stays_inside(
            deltas in prop::collection::vec((prop::collection::vec(-1e3f32..1e3, 4), 1.0f64..1e6), 1..8),
            rotation in 0usize..8,
        ) {
            let mut updates: Vec<SiteUpdate> =
                deltas.iter().enumerate().map(|(i, (d, w))| update(&format!("site {i}"), d, *w)).collect();
            let mean = aggregate(&updates, RoundId(1), 4).unwrap();
            let by = rotation % updates.len();
            updates.rotate_left(by);
            prop_assert_eq!(&mean, &aggregate(&updates, RoundId(1), 4).unwrap());
            for (i, value) in mean.iter().enumerate() {
                let of = |f: fn(f32, f32) -> f32, start| deltas.iter().map(|(d, _)| d[i]).fold(start, f);
                prop_assert!(*value >= of(f32::min, f32::INFINITY) - 1e-3);
                prop_assert!(*value <= of(f32::max, f32::NEG_INFINITY) + 1e-3);
            }
        }
    }
}
