//! Nearest-neighbour mixing (Allouah, Farhadkhani, Guerraoui, Gupta, Pinot, Stephan, "Fixing by mixing: a
//! recipe for optimal Byzantine ML under heterogeneity", AISTATS 2023, algorithm 2).

use crate::distances::SquaredDistances;
use crate::error::AggregateError;
use crate::rule::PreStep;

/// For every update the n−f nearest, itself among them, in ascending order; ties go to the lower index.
/// Their mean takes its place. Needs n ≥ 2f+1.
pub fn nearest_neighbours(
    distances: &SquaredDistances,
    byzantine: usize,
) -> Result<Vec<Vec<usize>>, AggregateError> {
    let step = PreStep::NearestNeighbourMixing { byzantine };
    let (needed, found) = (step.needed(), distances.rows());
    if found < needed {
        return Err(AggregateError::TooFew { rule: step.to_string(), needed, found });
    }
    let neighbours = |i: usize| {
        let row = distances.row(i);
        let mut order: Vec<usize> = (0..found).collect();
        // An update is its own nearest neighbour even where others coincide with it.
        order.sort_by(|a, b| row[*a].total_cmp(&row[*b]).then((*a != i).cmp(&(*b != i))).then(a.cmp(b)));
        order.truncate(found - byzantine);
        order.sort_unstable();
        order
    };
    Ok((0..found).map(neighbours).collect())
}
