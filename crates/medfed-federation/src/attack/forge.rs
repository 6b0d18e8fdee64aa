//! Updates that attackers send in place of what they trained.
//!
//! h honest and f bad hospitals; sums and deviations run over the honest updates of the round, coordinate
//! by coordinate, each hospital counting once.

use super::SimulatedAttack;
use crate::site::RawUpdate;
use medfed_types::{RoundId, Seed};
use rand_distr::{Distribution as _, StandardNormal};
use statrs::function::erf::erf_inv;

/// Factor of `sign_flip`: two of ten hospitals outweigh the other eight.
const FLIP: f32 = -5.0;
/// Factor of `scaling`, and of the length of `gaussian`.
const SCALE: f64 = 100.0;
/// Factor of the images that `inflated_count` claims.
const INFLATION: f64 = 100.0;
/// Length of a free rider's update as a part of an honest one.
const IDLE: f64 = 1e-3;
/// How far `ipm` turns the mean of all beyond nought.
const TURN: f64 = 1.1;
/// Deviations by which `alie` moves at the least: the value of its paper's own experiments.
const ALIE_DEVIATIONS: f64 = 1.5;

/// Alters the updates of the attackers. Without honest updates an attack that builds on them has nothing
/// to go by and leaves the updates as they are.
pub(super) fn forge(
    attack: SimulatedAttack,
    honest: &[&[f32]],
    bad: &mut [&mut RawUpdate],
    seed: Seed,
    round: RoundId,
) {
    let scale = |update: &mut RawUpdate, factor: f32| update.delta.iter_mut().for_each(|v| *v *= factor);
    match attack {
        SimulatedAttack::None | SimulatedAttack::LabelFlip | SimulatedAttack::Backdoor => {}
        SimulatedAttack::SignFlip => bad.iter_mut().for_each(|update| scale(update, FLIP)),
        SimulatedAttack::Scaling => bad.iter_mut().for_each(|update| scale(update, SCALE as f32)),
        SimulatedAttack::InflatedCount => bad.iter_mut().for_each(|update| {
            scale(update, -1.0);
            update.weight *= INFLATION;
        }),
        SimulatedAttack::Nan => bad.iter_mut().for_each(|update| update.delta.fill(f32::NAN)),
        SimulatedAttack::Gaussian | SimulatedAttack::FreeRider => {
            let part = if attack == SimulatedAttack::Gaussian { SCALE } else { IDLE };
            let Some(length) = median_norm(honest) else { return };
            for (at, update) in bad.iter_mut().enumerate() {
                let deviation = part * length / (update.delta.len().max(1) as f64).sqrt();
                let mut rng = seed.generator("attack", &[u64::from(round.0), at as u64]);
                for value in &mut update.delta {
                    let normal: f64 = StandardNormal.sample(&mut rng);
                    *value = (deviation * normal) as f32;
                }
            }
        }
        SimulatedAttack::Alie => {
            let deviations = alie_deviations(honest.len(), bad.len());
            send(bad, honest, |mean, deviation| mean - deviations * deviation);
        }
        SimulatedAttack::Ipm => {
            let factor = TURN * honest.len() as f64 / bad.len().max(1) as f64;
            send(bad, honest, |mean, _| -factor * mean);
        }
        SimulatedAttack::Mimic => {
            if let Some(copied) = farthest(honest) {
                for update in bad {
                    update.delta.copy_from_slice(copied);
                }
            }
        }
        SimulatedAttack::Sybil => {
            if let Some((first, others)) = bad.split_first_mut() {
                for update in others {
                    update.delta.copy_from_slice(&first.delta);
                }
            }
        }
    }
}

/// Gives every attacker the same update: a function of the honest mean and (population) deviation of each
/// coordinate.
fn send(bad: &mut [&mut RawUpdate], honest: &[&[f32]], value: impl Fn(f64, f64) -> f64) {
    let Some((first, others)) = bad.split_first_mut() else { return };
    if honest.is_empty() {
        return;
    }
    let n = honest.len() as f64;
    for (at, sent) in first.delta.iter_mut().enumerate() {
        let values = || honest.iter().map(|delta| f64::from(delta[at]));
        let mean = values().sum::<f64>() / n;
        let variance = values().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
        *sent = value(mean, variance.sqrt()) as f32;
    }
    for update in others {
        update.delta.copy_from_slice(&first.delta);
    }
}

/// By how many deviations ALIE moves (Baruch et al. 2019, algorithm 3): so far that s = ⌊n/2 + 1⌋ − f honest
/// hospitals are still farther out, z = Φ⁻¹((n − f − s)/(n − f)). With few attackers that is nothing, and
/// the value of the paper's experiments is taken.
fn alie_deviations(honest: usize, bad: usize) -> f64 {
    let (h, f) = (honest as f64, bad as f64);
    let supporters = (f64::midpoint(h + f, 2.0).floor() - f).max(0.0);
    let part = ((h - supporters) / h.max(1.0)).clamp(0.0, 1.0 - 1e-9);
    let quantile = std::f64::consts::SQRT_2 * erf_inv(2.0 * part - 1.0);
    quantile.max(ALIE_DEVIATIONS)
}

/// The honest update that is farthest along the direction in which the honest updates differ most: the
/// one whose copies mislead most (Karimireddy, He and Jaggi 2022, section 3.2, with the direction taken
/// from the round at hand). The direction is the first eigenvector of the centred Gram matrix.
fn farthest<'a>(honest: &[&'a [f32]]) -> Option<&'a [f32]> {
    let n = honest.len();
    let mut gram = vec![vec![0.0; n]; n];
    for i in 0..n {
        for j in 0..=i {
            let dot: f64 = honest[i].iter().zip(honest[j]).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            (gram[i][j], gram[j][i]) = (dot, dot);
        }
    }
    let rows: Vec<f64> = gram.iter().map(|row| row.iter().sum::<f64>() / n as f64).collect();
    let all = rows.iter().sum::<f64>() / n as f64;
    // Power iteration from a start that no ordinary direction is orthogonal to.
    let mut vector: Vec<f64> = (0..n).map(|i| 1.0 / (1.0 + i as f64)).collect();
    for _ in 0..100 {
        let product =
            |i: usize| -> f64 { (0..n).map(|j| (gram[i][j] - rows[i] - rows[j] + all) * vector[j]).sum() };
        let next: Vec<f64> = (0..n).map(product).collect();
        let length = next.iter().map(|v| v * v).sum::<f64>().sqrt();
        if !(length > 0.0 && length.is_finite()) {
            break;
        }
        vector = next.iter().map(|v| v / length).collect();
    }
    // The entries of the eigenvector are the projections, up to a common factor.
    let best = (0..n).max_by(|a, b| vector[*a].abs().total_cmp(&vector[*b].abs()).then(b.cmp(a)))?;
    Some(honest[best])
}

/// The median of the L2 norms; nothing of nothing.
fn median_norm(updates: &[&[f32]]) -> Option<f64> {
    let norm = |delta: &&[f32]| delta.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
    let mut norms: Vec<f64> = updates.iter().map(norm).collect();
    norms.sort_by(f64::total_cmp);
    norms.get(norms.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HONEST: [[f32; 4]; 4] =
        [[1.0, 0.0, 2.0, -1.0], [1.0, 2.0, 2.0, -3.0], [1.0, 0.0, 2.0, -1.0], [1.0, 2.0, 2.0, -3.0]];

    fn forged(attack: SimulatedAttack, honest: &[[f32; 4]], round: u32) -> Vec<RawUpdate> {
        let mut bad: Vec<RawUpdate> = [[0.5f32, 1.0, 0.0, 2.0], [0.25, 0.0, 1.0, 1.0]]
            .map(|delta| RawUpdate { round: RoundId(round), delta: delta.to_vec(), weight: 10.0 })
            .to_vec();
        let honest: Vec<&[f32]> = honest.iter().map(<[f32; 4]>::as_slice).collect();
        forge(attack, &honest, &mut bad.iter_mut().collect::<Vec<_>>(), Seed(3), RoundId(round));
        bad
    }

    fn first(attack: SimulatedAttack) -> Vec<f32> {
        forged(attack, &HONEST, 1)[0].delta.clone()
    }

    #[test]
    fn each_attack_sends_what_it_says() {
        assert_eq!(first(SimulatedAttack::LabelFlip), [0.5, 1.0, 0.0, 2.0]);
        assert_eq!(first(SimulatedAttack::SignFlip), [-2.5, -5.0, 0.0, -10.0]);
        assert_eq!(first(SimulatedAttack::Scaling), [50.0, 100.0, 0.0, 200.0]);
        assert!(first(SimulatedAttack::Nan).iter().all(|value| value.is_nan()));
        // Mean (1, 1, 2, -2), deviation (0, 1, 0, 1).
        assert_eq!(first(SimulatedAttack::Alie), [1.0, -0.5, 2.0, -3.5]);
        assert_eq!(first(SimulatedAttack::Ipm), [-2.2, -2.2, -4.4, 4.4]);
        let inflated = forged(SimulatedAttack::InflatedCount, &HONEST, 1);
        assert_eq!((inflated[0].delta[3], inflated[0].weight), (-2.0, 1000.0));
        let sybils = forged(SimulatedAttack::Sybil, &HONEST, 1);
        assert_eq!(sybils[1].delta, sybils[0].delta);
        assert_eq!(sybils[0].delta, [0.5, 1.0, 0.0, 2.0]);
    }

    /// The mean of all then points against the mean of the honest.
    #[test]
    fn inner_products_of_the_mean_turn_negative() {
        let bad = forged(SimulatedAttack::Ipm, &HONEST, 1);
        let total = |at: usize| {
            let honest: f32 = HONEST.iter().map(|delta| delta[at]).sum();
            (honest, honest + bad.iter().map(|update| update.delta[at]).sum::<f32>())
        };
        let product: f32 = (0..4).map(|at| total(at).0 * total(at).1).sum();
        assert!(product < 0.0 && product > -20.0, "{product}");
    }

    #[test]
    fn random_updates_have_the_stated_length_and_differ() {
        for (attack, part) in [(SimulatedAttack::Gaussian, 100.0), (SimulatedAttack::FreeRider, 1e-3)] {
            let delta = vec![1.0f32; 10_000];
            let mut bad =
                [(); 2].map(|()| RawUpdate { round: RoundId(1), delta: delta.clone(), weight: 1.0 });
            let honest = [delta.as_slice(); 3];
            forge(attack, &honest, &mut bad.iter_mut().collect::<Vec<_>>(), Seed(1), RoundId(1));
            for update in &bad {
                let norm = median_norm(&[&update.delta]).unwrap();
                assert!((norm / (part * 100.0) - 1.0).abs() < 0.05, "{norm}");
            }
            assert_ne!(bad[0].delta, bad[1].delta);
        }
        let draw = |round| forged(SimulatedAttack::Gaussian, &HONEST, round)[0].delta.clone();
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }

    #[test]
    fn copies_are_of_the_update_that_stands_out() {
        let mut honest = HONEST;
        honest[2] = [1.0, 0.0, 2.0, 30.0];
        assert!(forged(SimulatedAttack::Mimic, &honest, 1).iter().all(|bad| bad.delta == honest[2]));
        // All alike: any copy is the same.
        let alike = [[1.0f32, 2.0, 3.0, 4.0]; 3];
        assert_eq!(forged(SimulatedAttack::Mimic, &alike, 1)[0].delta, alike[0]);
    }

    /// n = 50, f = 24: s = 2, z = Φ⁻¹(24/26) = 1.426, below the least; n = 50, f = 25: s = 1, 24/25: 1.751.
    #[test]
    fn alie_moves_as_far_as_the_supporters_allow() {
        assert_eq!(alie_deviations(8, 2), 1.5);
        assert_eq!(alie_deviations(26, 24), 1.5);
        assert!((alie_deviations(25, 25) - 1.7507).abs() < 1e-3);
        assert!(alie_deviations(1, 20).is_finite());
        assert!(alie_deviations(0, 3).is_finite());
    }

    #[test]
    fn without_honest_updates_nothing_is_invented() {
        for attack in SimulatedAttack::ALL {
            let bad = forged(attack, &[], 1);
            assert_eq!(bad[0].delta.len(), 4, "{attack}");
        }
        assert_eq!(forged(SimulatedAttack::Mimic, &[], 1)[0].delta, [0.5, 1.0, 0.0, 2.0]);
    }
}
