//! Many points, few pixels.

/// Leaves of a line in pixels what can be seen: in each column of a pixel the first and the last point, the
/// highest and the lowest (Jugel et al., M4, 2014). Points must ascend in x; short lines stay as they are.
pub(crate) fn decimated(points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    const SHORT: usize = 400;
    if points.len() <= SHORT {
        return points;
    }
    let mut kept = Vec::new();
    for column in points.chunk_by(|a, b| a.0.floor() == b.0.floor()) {
        let extreme = |sign: f64| {
            (0..column.len())
                .max_by(|a, b| (sign * column[*a].1).total_cmp(&(sign * column[*b].1)))
                .unwrap_or(0)
        };
        let mut chosen = [0, extreme(1.0), extreme(-1.0), column.len() - 1];
        chosen.sort_unstable();
        let mut last = None;
        for index in chosen {
            if last != Some(index) {
                kept.push(column[index]);
            }
            last = Some(index);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peaks_stay() {
        let wave = |i: usize| (i as f64 / 20.0, if i == 7777 { 1e3 } else { (i as f64 / 50.0).sin() });
        let kept = decimated((0..10_000).map(wave).collect());
        assert!(kept.len() <= 4 * 500, "{}", kept.len());
        assert!(kept.iter().any(|point| point.1 == 1e3));
        assert_eq!((kept[0], kept[kept.len() - 1]), (wave(0), wave(9999)));
        assert!(kept.is_sorted_by(|a, b| a.0 <= b.0));
    }
}
