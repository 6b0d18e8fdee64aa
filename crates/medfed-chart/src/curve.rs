//! Curves of a classifier: receiver operating characteristic, precision and recall.

use crate::axis::Axis;
use crate::chart::{Chart, Width};
use crate::decimate::decimated;
use crate::mark::{Mark, Stroke, dash, sparse_markers};
use crate::number::{drawable, plain};
use crate::paint::Paint;
use crate::plot::{Entry, Frame, Sample, Wanted};
use crate::table::Table;

/// Lowest rate on a logarithmic axis.
const FLOOR: f64 = 1e-4;

/// One curve: points of two rates from 0 to 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    /// Its name; the area is added to it in the legend.
    pub name: String,
    /// Points in any order: (false positive rate, true positive rate) or (recall, precision).
    pub points: Vec<(f64, f64)>,
    /// Area under it.
    pub area: Option<f64>,
}

/// Receiver operating characteristics.
#[derive(Debug, Clone, PartialEq)]
pub struct RocChart {
    /// What the chart shows.
    pub title: String,
    /// The curves.
    pub curves: Vec<Curve>,
    /// Whether both axes are logarithmic, as for attacks on the privacy of members, where only small false
    /// positive rates count.
    pub log: bool,
    /// What no attack on a private model can pass.
    pub ceiling: Option<Ceiling>,
}

/// What (ε, δ)-differential privacy leaves to any test of membership (Kairouz, Oh, Viswanath 2015): at a
/// false positive rate f the true positive rate is at most min(e^ε·f + δ, 1 − e^−ε·(1 − δ − f)).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ceiling {
    /// ε.
    pub epsilon: f64,
    /// δ.
    pub delta: f64,
}

impl Ceiling {
    /// The highest true positive rate at a false positive rate.
    pub fn at(self, false_positives: f64) -> f64 {
        let (epsilon, delta) = (self.epsilon.max(0.0), self.delta.clamp(0.0, 1.0));
        let low = epsilon.exp().mul_add(false_positives, delta);
        let high = 1.0 - (-epsilon).exp() * (1.0 - delta - false_positives);
        low.min(high).clamp(0.0, 1.0)
    }
}

/// Curves of precision over recall.
#[derive(Debug, Clone, PartialEq)]
pub struct PrecisionRecallChart {
    /// What the chart shows.
    pub title: String,
    /// The curves.
    pub curves: Vec<Curve>,
    /// Share of positives in the data: the precision of guessing.
    pub prevalence: Option<f64>,
}

impl RocChart {
    /// Draws it.
    pub fn draw(&self, width: Width) -> Chart {
        let scaled = |title: &str| {
            let axis = Axis::new(title);
            if self.log { axis.log().range(FLOOR, 1.0) } else { axis.range(0.0, 1.0) }
        };
        let mut lines =
            vec![Reference { name: "guessing".to_owned(), stroke: GUESSING, curve: Box::new(|x| x) }];
        let ceiling = self
            .ceiling
            .filter(|ceiling| drawable(ceiling.epsilon).is_some() && drawable(ceiling.delta).is_some());
        if let Some(ceiling) = ceiling {
            lines.push(Reference {
                name: format!("ceiling at ε = {}, δ = {}", plain(ceiling.epsilon), plain(ceiling.delta)),
                stroke: Stroke { paint: Paint::Alert, width: 2.0, dash: &[8.0, 3.0, 2.0, 3.0] },
                curve: Box::new(move |x| ceiling.at(x)),
            });
        }
        Rates {
            title: &self.title,
            x: scaled("false positive rate"),
            y: scaled("true positive rate"),
            curves: &self.curves,
            area: "AUC",
            lines,
        }
        .draw(width)
    }
}

impl PrecisionRecallChart {
    /// Draws it.
    pub fn draw(&self, width: Width) -> Chart {
        let prevalence = self.prevalence.filter(|share| (0.0..=1.0).contains(share));
        let line = prevalence.map(|share| Reference {
            name: format!("guessing ({} of the images are positive)", plain(share)),
            stroke: GUESSING,
            curve: Box::new(move |_| share),
        });
        Rates {
            title: &self.title,
            x: Axis::new("recall (sensitivity)").range(0.0, 1.0),
            y: Axis::new("precision (positive predictive value)").range(0.0, 1.0),
            curves: &self.curves,
            area: "AP",
            lines: line.into_iter().collect(),
        }
        .draw(width)
    }
}

const GUESSING: Stroke = Stroke { paint: Paint::Axis, width: 1.5, dash: &[4.0, 4.0] };

/// A line to compare the curves with.
struct Reference {
    name: String,
    stroke: Stroke,
    curve: Box<dyn Fn(f64) -> f64>,
}

/// Curves over two axes of rates.
struct Rates<'a> {
    title: &'a str,
    x: Axis,
    y: Axis,
    curves: &'a [Curve],
    /// What the area under a curve is called.
    area: &'static str,
    lines: Vec<Reference>,
}

impl Rates<'_> {
    fn draw(self, width: Width) -> Chart {
        let named = |curve: &Curve| match curve.area.and_then(drawable) {
            Some(area) => format!("{} ({} {area:.3})", curve.name, self.area),
            None => curve.name.clone(),
        };
        let entry = |(index, curve)| Entry { name: named(curve), sample: Sample::Series(index) };
        let mut legend: Vec<Entry> = self.curves.iter().enumerate().map(entry).collect();
        legend.extend(
            self.lines
                .iter()
                .map(|line| Entry { name: line.name.clone(), sample: Sample::Line(line.stroke) }),
        );
        let wanted = Wanted {
            title: self.title,
            x: &self.x,
            y: &self.y,
            legend: &legend,
            width: width.pixels(),
            aspect: if width.pixels() > 560.0 { 0.62 } else { 0.9 },
        };
        let mut frame = Frame::new(&wanted, &[]);
        for line in &self.lines {
            let points = frame.x.spread(121).map(|x| frame.at((x, (line.curve)(x)))).collect();
            frame.marks.push(Mark::Line { points, stroke: line.stroke, tip: Some(line.name.clone()) });
        }
        let mut empty = true;
        for (index, curve) in self.curves.iter().enumerate() {
            let points = decimated(sorted(curve).into_iter().map(|point| frame.at(point)).collect());
            empty &= points.is_empty();
            if !points.is_empty() {
                let stroke = Stroke { paint: Paint::Series(index), width: 2.0, dash: dash(index) };
                let mut marks = sparse_markers(index, &points);
                marks.push(Mark::Line { points, stroke, tip: Some(named(curve)) });
                frame.marks.push(Mark::Series { index, marks });
            }
        }
        if empty {
            frame.nothing();
        }
        let names: Vec<String> = legend.iter().map(|entry| entry.name.clone()).collect();
        Chart {
            title: self.title.to_owned(),
            description: format!("{} over {}: {}.", self.y.title, self.x.title, names.join("; ")),
            width: width.pixels(),
            plane: Some(frame.plane()),
            height: frame.height,
            table: self.table(),
            marks: frame.marks,
        }
    }

    /// Every curve at a few places of the horizontal axis.
    fn table(&self) -> Table {
        let log = self.x.scale == crate::axis::Scale::Log;
        let places: &[f64] = if log {
            &[0.0001, 0.001, 0.01, 0.1, 0.5, 1.0]
        } else {
            &[0.0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
        };
        let curves: Vec<Vec<(f64, f64)>> = self.curves.iter().map(sorted).collect();
        let row = |x: &f64| {
            let lines = self.lines.iter().map(|line| plain((line.curve)(*x)));
            let heights = curves.iter().map(|points| crate::number::optional(height(points, *x)));
            std::iter::once(plain(*x)).chain(heights).chain(lines).collect()
        };
        let heads = self.curves.iter().map(|curve| curve.name.clone());
        let lines = self.lines.iter().map(|line| line.name.clone());
        Table {
            columns: std::iter::once(self.x.title.clone()).chain(heads).chain(lines).collect(),
            rows: places.iter().map(row).collect(),
        }
    }
}

/// The points of a curve that are rates, ascending.
fn sorted(curve: &Curve) -> Vec<(f64, f64)> {
    let rate = |value: f64| (0.0..=1.0).contains(&value);
    let mut points: Vec<(f64, f64)> =
        curve.points.iter().copied().filter(|(x, y)| rate(*x) && rate(*y)).collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    points
}

/// Height of an ascending curve at `x`, between two points on the straight line through them.
fn height(points: &[(f64, f64)], x: f64) -> Option<f64> {
    let after = points.partition_point(|point| point.0 <= x);
    let before = points.get(after.checked_sub(1)?)?;
    match points.get(after) {
        Some(next) => {
            let share = (x - before.0) / (next.0 - before.0);
            Some((next.1 - before.1).mul_add(share, before.1))
        }
        None => (before.0 == x).then_some(before.1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ceiling_is_the_lower_of_both_bounds() {
        let ceiling = Ceiling { epsilon: 1.0, delta: 1e-5 };
        assert!((ceiling.at(0.01) - (0.01f64.mul_add(1f64.exp(), 1e-5))).abs() < 1e-12);
        assert!((ceiling.at(0.9) - (1.0 - (-1f64).exp() * (0.1 - 1e-5))).abs() < 1e-12);
        assert_eq!(ceiling.at(1.0), 1.0);
        // Without privacy loss nothing is better than guessing.
        assert_eq!(Ceiling { epsilon: 0.0, delta: 0.0 }.at(0.3), 0.3);
        assert_eq!(Ceiling { epsilon: 800.0, delta: 0.0 }.at(0.5), 1.0);
    }

    #[test]
    fn a_curve_is_read_between_its_points() {
        let points = [(0.0, 0.0), (0.0, 0.5), (0.5, 1.0), (1.0, 1.0)];
        for (x, y) in [(0.0, Some(0.5)), (0.25, Some(0.75)), (1.0, Some(1.0))] {
            assert_eq!(height(&points, x), y);
        }
        assert_eq!((height(&[], 0.5), height(&points[2..], 0.1)), (None, None));
    }
}
