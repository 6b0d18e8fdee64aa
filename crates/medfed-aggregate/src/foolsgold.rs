//! FoolsGold (Fung, Yoon, Beschastnikh, "The limitations of federated learning in Sybil settings", RAID 2020,
//! algorithm 1; first as "Mitigating Sybils in federated learning poisoning", 2018).
//!
//! Sybils push the model in one direction, round after round, so the sums of their updates are more alike than
//! those of hospitals with different patients. The history of a hospital is the sum of its updates in single
//! precision, kept across rounds; hospitals that are absent from a round keep theirs and are not compared.
//! All features count as indicative. The paper adds the weighted gradients up; deltas are whole local steps,
//! so here the weights are divided by their sum.

use crate::distances::{Gram, add_products};
use crate::rows::{Rows, chunk, vectorised};
use medfed_types::SiteId;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Differences between 1 and a cosine that histories in single precision cannot tell from 0.
pub(crate) const INDISTINGUISHABLE: f64 = 1e-6;

/// The sums of each hospital's updates. Cloning is cheap.
pub(crate) type Histories = BTreeMap<SiteId, Arc<Vec<f32>>>;

/// The weight of every hospital in [0, 1], from the inner products of the histories.
///
/// A cosine below 0 counts as 0, and a hospital whose 1 − max cosine is below 10⁻⁶ gets the weight 0. All
/// weights are 0 where that holds for every hospital.
pub fn foolsgold_weights(products: &Gram) -> Vec<f64> {
    let weights = distinctness(products);
    let n = weights.len();
    let most = weights.iter().copied().fold(0.0, f64::max);
    if most < INDISTINGUISHABLE {
        return vec![0.0; n];
    }
    // The logit spreads what is near 0 and near 1; its confidence κ is 1.
    let logit = |weight: f64| {
        if weight < INDISTINGUISHABLE {
            return 0.0;
        }
        let scaled = weight / most;
        ((scaled / (1.0 - scaled)).ln() + 0.5).clamp(0.0, 1.0)
    };
    weights.into_iter().map(logit).collect()
}

/// 1 less the largest similarity of every hospital with another, those that resemble it more pardoned: the
/// weights before they are spread.
pub(crate) fn distinctness(products: &Gram) -> Vec<f64> {
    let n = products.rows();
    let cosine = |i: usize, j: usize| products.cosine(i, j).clamp(0.0, 1.0);
    let others = |i: usize| (0..n).filter(move |j| *j != i);
    // v_i: the largest similarity of i with another.
    let largest: Vec<f64> = (0..n).map(|i| others(i).map(|j| cosine(i, j)).fold(0.0, f64::max)).collect();
    // Pardoning: who resembles a hospital that resembles others still more is not the Sybil.
    let pardoned = |i: usize, j: usize| {
        if largest[j] > largest[i] { cosine(i, j) * largest[i] / largest[j] } else { cosine(i, j) }
    };
    let weight = |i: usize| 1.0 - others(i).map(|j| pardoned(i, j)).fold(0.0, f64::max);
    (0..n).map(weight).collect()
}

/// The share of each row in the step, or nothing if every weight is 0. `histories` are those before the round.
pub(crate) fn shares(rows: &Rows<'_>, histories: &[Option<&[f32]>]) -> Option<Vec<f64>> {
    let n = rows.len();
    let sums = rows.fold_columns(
        n * (n + 1) / 2,
        0,
        #[inline(always)]
        |tile, _, sums| {
            for (i, history) in histories.iter().enumerate() {
                let Some(history) = history.map(|history| tile.of(history)) else { continue };
                for (value, past) in tile.values[i * tile.width..].iter_mut().zip(history) {
                    *value = f64::from(longer(*past, *value as f32));
                }
            }
            add_products(&tile, n, sums);
        },
    );
    let weights = foolsgold_weights(&Gram::from_upper(n, sums));
    let total: f64 = weights.iter().sum();
    (total > 0.0).then(|| weights.iter().map(|weight| weight / total).collect())
}

/// Adds an update to its hospital's history.
pub(crate) fn remember(histories: &mut Histories, site: &SiteId, update: &[f32]) {
    let Some(history) = histories.get_mut(site) else {
        histories.insert(site.clone(), Arc::new(update.to_vec()));
        return;
    };
    let chunk = chunk(update.len());
    Arc::make_mut(history).par_chunks_mut(chunk).zip(update.par_chunks(chunk)).for_each(
        |(history, update)| {
            vectorised(
                #[inline(always)]
                || {
                    for (past, value) in history.iter_mut().zip(update) {
                        *past = longer(*past, *value);
                    }
                },
            );
        },
    );
}

/// A history after one more update. It ends at the largest finite number: direction is all that counts.
#[inline(always)]
fn longer(past: f32, value: f32) -> f32 {
    (past + value).clamp(f32::MIN, f32::MAX)
}
