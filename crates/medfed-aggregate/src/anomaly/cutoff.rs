//! Cut-offs of robust scores: how far out the most extreme of n honest hospitals lies.
//!
//! The values are quantiles of a simulation (`testdata/generators/anomaly_cutoffs.py`): n numbers from
//! one normal distribution, each scored by its distance from their median in units of 1.4826 times the
//! median distance. The most extreme score passes the cut-off in one of 300 draws. With three hospitals
//! the median distance is that to the nearer of two neighbours, which may be tiny by chance, so the
//! cut-off is far out: so few hospitals cannot tell an outlier from their own spread.

/// Chance that a cut-off is passed in a round without a bad hospital: a third of 1 %, because a round is
/// searched in three ways.
pub(super) const RATE: f64 = 0.01 / 3.0;

/// Fewest hospitals among which one can be out of line.
pub(super) const FEWEST: usize = 3;

/// Hospitals, cut-off for scores of either sign, cut-off for the lowest score.
#[rustfmt::skip]
const CUTOFFS: [(usize, f64, f64); 47] = [
    (3, 338.19, 167.37), (4, 27.94, 19.69), (5, 32.43, 24.18), (6, 14.98, 12.00), (7, 15.77, 12.82),
    (8, 10.80, 9.11), (9, 11.22, 9.53), (10, 8.93, 7.73), (11, 9.16, 7.98), (12, 7.89, 6.93),
    (13, 8.02, 7.12), (14, 7.22, 6.45), (15, 7.29, 6.53), (16, 6.73, 6.06), (17, 6.82, 6.14),
    (18, 6.42, 5.82), (19, 6.47, 5.87), (20, 6.14, 5.59), (21, 6.20, 5.65), (22, 5.96, 5.45),
    (23, 5.98, 5.49), (24, 5.78, 5.31), (25, 5.80, 5.34), (26, 5.67, 5.21), (27, 5.68, 5.25),
    (28, 5.53, 5.12), (29, 5.57, 5.15), (30, 5.44, 5.04), (31, 5.45, 5.07), (32, 5.35, 4.98),
    (33, 5.37, 4.99), (34, 5.29, 4.93), (35, 5.30, 4.93), (36, 5.23, 4.88), (37, 5.25, 4.90),
    (38, 5.17, 4.84), (39, 5.20, 4.85), (40, 5.13, 4.80), (50, 4.96, 4.67), (60, 4.85, 4.58),
    (80, 4.73, 4.49), (100, 4.66, 4.45), (150, 4.60, 4.40), (200, 4.59, 4.41), (300, 4.58, 4.41),
    (500, 4.62, 4.47), (1000, 4.72, 4.57),
];

/// Whether both sides of the median are searched, or the low one alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sides {
    Both,
    Low,
}

/// The cut-off among `hospitals`; nothing below [`FEWEST`]. Between two rows of the table, and beyond its
/// end, the cut-off of the row below holds where it is larger, so that alarms are not more frequent than
/// stated.
pub(super) fn cutoff(hospitals: usize, sides: Sides) -> Option<f64> {
    let value = |row: &(usize, f64, f64)| if sides == Sides::Both { row.1 } else { row.2 };
    let after = CUTOFFS.partition_point(|row| row.0 <= hospitals);
    let below = CUTOFFS[..after].last()?;
    let between = below.0 < hospitals;
    let above = CUTOFFS.get(after).filter(|_| between).map_or(0.0, value);
    Some(value(below).max(above))
}

/// 1.4826 times the median distance from the median is the standard deviation of a normal sample.
const TO_DEVIATION: f64 = 1.4826;

/// The median, and the standard deviation estimated from the median distance to it.
///
/// `values` are finite and at least one.
pub(super) fn center_and_spread(values: &[f64]) -> (f64, f64) {
    let center = median(values.to_vec());
    let distances = values.iter().map(|value| (value - center).abs()).collect();
    (center, TO_DEVIATION * median(distances))
}

/// The middle value, or the mean of the two middle ones; 0 of nothing.
pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => 0.0,
        n if n % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table is the one that the generator wrote, rounded to two decimals.
    #[test]
    fn the_table_is_the_simulated_one() {
        let file = include_str!("../../../../testdata/anomaly_cutoffs.json");
        let stored: serde_json::Value = serde_json::from_str(file).unwrap();
        assert!((stored["rate"].as_f64().unwrap() - RATE).abs() < 1e-12);
        let rows = stored["cutoffs"].as_array().unwrap();
        assert_eq!(rows.len(), CUTOFFS.len());
        for (row, (hospitals, both, low)) in rows.iter().zip(CUTOFFS) {
            assert_eq!(row["hospitals"], hospitals);
            assert!((row["either"].as_f64().unwrap() - both).abs() <= 0.0051, "{hospitals}");
            assert!((row["low"].as_f64().unwrap() - low).abs() <= 0.0051, "{hospitals}");
        }
    }

    #[test]
    fn sizes_between_rows_take_the_larger_neighbour() {
        assert_eq!(cutoff(2, Sides::Both), None);
        assert_eq!(cutoff(10, Sides::Both), Some(8.93));
        assert_eq!(cutoff(55, Sides::Both), Some(4.96));
        assert_eq!(cutoff(700, Sides::Both), Some(4.72));
        assert_eq!(cutoff(5000, Sides::Low), Some(4.57));
    }

    #[test]
    fn the_median_ignores_one_wild_value() {
        let (center, spread) = center_and_spread(&[1.0, 2.0, 3.0, 4.0, 1e300]);
        assert_eq!((center, spread), (3.0, 1.4826));
        assert_eq!(center_and_spread(&[5.0, 7.0]).0, 6.0);
    }
}
