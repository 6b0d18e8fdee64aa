//! Krum and Multi-Krum (Blanchard, El Mhamdi, Guerraoui, Stainer, "Machine learning with adversaries:
//! Byzantine tolerant gradient descent", NIPS 2017).

use crate::distances::SquaredDistances;
use crate::error::AggregateError;
use crate::rule::Rule;

/// Krum's score s(i) of every update: the sum of the *squared* distances to its n−f−2 nearest others. The
/// lower, the better. Needs n ≥ 2f+3.
pub fn krum_scores(distances: &SquaredDistances, byzantine: usize) -> Result<Vec<f64>, AggregateError> {
    check(Rule::Krum { byzantine }, distances.rows())?;
    let everyone: Vec<usize> = (0..distances.rows()).collect();
    Ok(scores_among(&everyone, distances, everyone.len() - byzantine - 2))
}

/// The `selected` updates with the lowest Krum scores, best first; ties go to the lower index. With
/// `selected` = 1 this is Krum. Needs n ≥ 2f+3 and n ≥ f + `selected`.
pub fn krum_selection(
    distances: &SquaredDistances,
    byzantine: usize,
    selected: usize,
) -> Result<Vec<usize>, AggregateError> {
    let rule = Rule::MultiKrum { byzantine, selected };
    rule.check()?;
    check(rule, distances.rows())?;
    let scores = krum_scores(distances, byzantine)?;
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|a, b| scores[*a].total_cmp(&scores[*b]).then(a.cmp(b)));
    order.truncate(selected);
    Ok(order)
}

/// The sum of the squared distances from each of `members` to its `nearest` nearest other members.
pub(crate) fn scores_among(members: &[usize], distances: &SquaredDistances, nearest: usize) -> Vec<f64> {
    let score = |i: &usize| {
        let row = distances.row(*i);
        let mut others: Vec<f64> = members.iter().filter(|j| *j != i).map(|j| row[*j]).collect();
        // Summed from the least, the score does not depend on the order of the hospitals.
        others.sort_by(f64::total_cmp);
        others.iter().take(nearest).sum()
    };
    members.iter().map(score).collect()
}

pub(crate) fn check(rule: Rule, found: usize) -> Result<(), AggregateError> {
    let needed = rule.needed();
    if found < needed {
        Err(AggregateError::TooFew { rule: rule.to_string(), needed, found })
    } else {
        Ok(())
    }
}
