//! Bulyan (El Mhamdi, Guerraoui, Rouault, "The hidden vulnerability of distributed learning in Byzantium",
//! ICML 2018, section 4), over Krum.

use crate::distances::SquaredDistances;
use crate::error::AggregateError;
use crate::krum::{check, scores_among};
use crate::rule::Rule;

/// Step 1: the θ = n−2f updates that Krum picks one after the other, each time among those that are left,
/// with new scores; ties go to the lower index. Needs n ≥ 4f+3.
///
/// With r updates left the score sums r−f−2 distances. The last picks of the paper's procedure leave fewer
/// than Krum asks for by itself (r ≥ 2f+1 instead of 2f+3); where r−f−2 would be below 1, the score is the
/// distance to the nearest one.
pub fn bulyan_selection(
    distances: &SquaredDistances,
    byzantine: usize,
) -> Result<Vec<usize>, AggregateError> {
    check(Rule::Bulyan { byzantine }, distances.rows())?;
    let mut left: Vec<usize> = (0..distances.rows()).collect();
    let mut selection = Vec::new();
    while selection.len() < distances.rows() - 2 * byzantine {
        let nearest = left.len().saturating_sub(byzantine + 2).max(1);
        let scores = scores_among(&left, distances, nearest);
        let best = (1..left.len()).fold(0, |best, i| if scores[i] < scores[best] { i } else { best });
        selection.push(left.remove(best));
    }
    Ok(selection)
}
