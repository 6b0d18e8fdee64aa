//! Whether a hospital's update points where the others point.

use crate::distances::Gram;
use crate::update::SiteUpdate;

/// Coordinates that are looked at in one go: a block of the sum stays in the first-level cache.
const BLOCK: usize = 2048;

/// The cosine between each update and the mean of all *other* updates, each scaled to length 1 first so
/// that a long one does not decide what the others' direction is. Nothing for an update of length 0, and
/// where the others cancel.
///
/// `updates` have one length; `norms` are their L2 norms. With h_i the scaled updates and S their sum,
/// ⟨h_i, S − h_i⟩ = ⟨h_i, S⟩ − 1 and ‖S − h_i‖² = ‖S‖² − 2⟨h_i, S⟩ + 1, so one pass over the updates does.
pub(super) fn cosines(updates: &[&SiteUpdate], norms: &[f64]) -> Vec<Option<f64>> {
    let parameters = updates.first().map_or(0, |update| update.delta().len());
    let scales: Vec<f64> = norms.iter().map(|norm| if *norm > 0.0 { 1.0 / norm } else { 0.0 }).collect();
    let mut with_sum = vec![0.0; updates.len()];
    let mut sum = [0.0; BLOCK];
    for start in (0..parameters).step_by(BLOCK) {
        let end = (start + BLOCK).min(parameters);
        let sum = &mut sum[..end - start];
        sum.fill(0.0);
        for (update, scale) in updates.iter().zip(&scales) {
            for (total, value) in sum.iter_mut().zip(&update.delta()[start..end]) {
                *total += scale * f64::from(*value);
            }
        }
        for ((update, scale), product) in updates.iter().zip(&scales).zip(&mut with_sum) {
            let block = &update.delta()[start..end];
            let dot: f64 = sum.iter().zip(block).map(|(total, value)| total * f64::from(*value)).sum();
            *product += scale * dot;
        }
    }
    to_the_others(&with_sum, |at| norms[at] > 0.0)
}

/// The same from the inner products of the updates.
pub(super) fn cosines_of(products: &Gram) -> Vec<Option<f64>> {
    let n = products.rows();
    // An update of length 0 has the cosine 0 to all, itself included, and adds nothing to the sum.
    let with_sum: Vec<f64> = (0..n).map(|i| (0..n).map(|j| products.cosine(i, j)).sum()).collect();
    to_the_others(&with_sum, |at| products.get(at, at) > 0.0)
}

/// From ⟨h_i, S⟩ for every update.
fn to_the_others(with_sum: &[f64], has_length: impl Fn(usize) -> bool) -> Vec<Option<f64>> {
    let length: f64 = with_sum.iter().sum();
    let cosine = |(at, product): (usize, &f64)| {
        let others = length - 2.0 * product + 1.0;
        // Below this the others cancel up to rounding, and have no direction.
        (has_length(at) && others > 1e-9).then(|| ((product - 1.0) / others.sqrt()).clamp(-1.0, 1.0))
    };
    with_sum.iter().enumerate().map(cosine).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use medfed_types::{RoundId, SiteId};

    fn updates(deltas: &[Vec<f32>]) -> Vec<SiteUpdate> {
        let update = |(i, delta): (usize, &Vec<f32>)| {
            let site = SiteId::try_from(format!("h{i}")).unwrap();
            SiteUpdate::new(site, RoundId(1), delta.clone(), 1.0).unwrap()
        };
        deltas.iter().enumerate().map(update).collect()
    }

    #[test]
    fn the_short_formula_is_the_definition() {
        let delta = |seed: u32| -> Vec<f32> {
            (0..5000u32).map(|i| (i.wrapping_mul(0x9e37_79b1 ^ seed) >> 8) as f32 / 1e6 - 8.0).collect()
        };
        let updates = updates(&[delta(1), delta(77), delta(12_345), vec![0.0; 5000]]);
        let updates: Vec<&SiteUpdate> = updates.iter().collect();
        let norms: Vec<f64> = updates.iter().map(|update| update.norm()).collect();
        let found = cosines(&updates, &norms);
        let product = |k: usize| -> f64 {
            let pair = updates[k / 4].delta().iter().zip(updates[k % 4].delta());
            pair.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
        };
        let of_products = cosines_of(&Gram::new(4, (0..16).map(product).collect()).unwrap());
        for (a, b) in found.iter().zip(of_products) {
            assert!(a.zip(b).is_none_or(|(a, b)| (a - b).abs() < 1e-12) && a.is_some() == b.is_some());
        }
        assert_eq!(found[3], None);
        for i in 0..3 {
            let mut others = vec![0.0; 5000];
            for j in (0..3).filter(|j| *j != i) {
                for (sum, value) in others.iter_mut().zip(updates[j].delta()) {
                    *sum += f64::from(*value) / norms[j];
                }
            }
            let dot: f64 = others.iter().zip(updates[i].delta()).map(|(a, b)| a * f64::from(*b)).sum();
            let length = others.iter().map(|v| v * v).sum::<f64>().sqrt();
            assert!((found[i].unwrap() - dot / length / norms[i]).abs() < 1e-12);
        }
    }

    #[test]
    fn others_that_cancel_have_no_direction() {
        let updates = updates(&[vec![1.0, 0.0], vec![0.0, 2.0], vec![0.0, -3.0]]);
        let updates: Vec<&SiteUpdate> = updates.iter().collect();
        let norms: Vec<f64> = updates.iter().map(|update| update.norm()).collect();
        assert_eq!(cosines(&updates, &norms)[0], None);
        assert_eq!(cosines(&[], &[]), []);
    }
}
