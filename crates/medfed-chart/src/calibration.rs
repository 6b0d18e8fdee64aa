//! Whether probabilities mean what they say.

use crate::axis::Axis;
use crate::chart::{Chart, Width};
use crate::mark::{Anchor, Mark, Stroke, cut_text, dash, line, marker, text};
use crate::number::{count, drawable, optional, plain};
use crate::paint::Paint;
use crate::plot::{Entry, Frame, LABEL, PAD, SMALL, Sample, Wanted};
use crate::table::Table;

/// Observed frequencies over predicted probabilities, with the number of images in each bin beneath.
#[derive(Debug, Clone, PartialEq)]
pub struct CalibrationChart {
    /// What the chart shows.
    pub title: String,
    /// What is counted beneath: "images".
    pub counted: String,
    /// The bins, ascending.
    pub bins: Vec<CalibrationBin>,
}

/// One bin of predictions.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct CalibrationBin {
    /// Lower and upper end of the probabilities in it.
    pub range: (f64, f64),
    /// Mean predicted probability; nothing in an empty bin.
    pub predicted: Option<f64>,
    /// Share that was right.
    pub observed: Option<f64>,
    /// Interval around that share.
    pub interval: Option<(f64, f64)>,
    /// Predictions in it.
    pub count: u64,
}

impl CalibrationChart {
    /// Draws it.
    pub fn draw(&self, width: Width) -> Chart {
        const COUNTS: f64 = 64.0;
        let diagonal = Stroke { paint: Paint::Axis, width: 1.5, dash: &[4.0, 4.0] };
        let legend = [
            Entry { name: "observed".to_owned(), sample: Sample::Series(0) },
            Entry { name: "perfectly calibrated".to_owned(), sample: Sample::Line(diagonal) },
            Entry { name: format!("{} in the bin", self.counted), sample: Sample::Square(Paint::Series(5)) },
        ];
        let x = Axis::new("mean predicted probability").range(0.0, 1.0);
        let y = Axis::new("observed frequency").range(0.0, 1.0);
        let aspect = if width.pixels() > 560.0 { 0.5 } else { 0.8 };
        let wanted =
            Wanted { title: &self.title, x: &x, y: &y, legend: &legend, width: width.pixels(), aspect };
        let mut frame = Frame::new(&wanted, &[]);
        frame.marks.push(line(frame.at((0.0, 0.0)), frame.at((1.0, 1.0)), diagonal));

        let rate = |value: f64| (0.0..=1.0).contains(&value).then_some(value);
        let point = |bin: &CalibrationBin| {
            Some((bin.predicted.and_then(rate)?, bin.observed.and_then(rate)?, bin.interval, bin.count))
        };
        let points: Vec<_> = self.bins.iter().filter_map(point).collect();
        let mut marks = Vec::new();
        for (x, _, interval, _) in &points {
            if let Some((low, high)) = interval.and_then(|(low, high)| rate(low).zip(rate(high))) {
                let stroke = Stroke::solid(Paint::Series(0), 1.2);
                marks.push(line(frame.at((*x, low)), frame.at((*x, high)), stroke));
            }
        }
        if points.is_empty() {
            frame.nothing();
        } else {
            let stroke = Stroke { paint: Paint::Series(0), width: 2.0, dash: dash(0) };
            let path = points.iter().map(|(x, y, ..)| frame.at((*x, *y))).collect();
            marks.push(Mark::Line { points: path, stroke, tip: None });
        }
        marks.extend(points.iter().map(|(x, y, _, n)| {
            let tip =
                format!("predicted {}, observed {}, {} {}", plain(*x), plain(*y), count(*n), self.counted);
            marker(0, frame.at((*x, *y)), Some(tip))
        }));
        frame.marks.push(Mark::Series { index: 0, marks });

        let most = self.bins.iter().map(|bin| bin.count).max().unwrap_or(0);
        let top = frame.height + 8.0;
        let base = top + COUNTS;
        for bin in &self.bins {
            let (low, high) = (frame.x.at(bin.range.0), frame.x.at(bin.range.1));
            let share = if most == 0 { 0.0 } else { bin.count as f64 / most as f64 };
            let tip = format!(
                "{} to {}: {} {}",
                plain(bin.range.0),
                plain(bin.range.1),
                count(bin.count),
                self.counted
            );
            if drawable(bin.range.0).is_some() && drawable(bin.range.1).is_some() && bin.count > 0 {
                frame.marks.push(Mark::Rect {
                    x: low.min(high) + 1.0,
                    y: COUNTS.mul_add(-share, base),
                    width: ((high - low).abs() - 2.0).max(1.0),
                    height: (COUNTS * share).max(1.0),
                    fill: Paint::Series(5),
                    tip: Some(tip),
                });
            }
        }
        frame.marks.push(line((frame.left, base), (frame.right, base), Stroke::solid(Paint::Axis, 1.0)));
        let most_label = crate::text::shortened(&count(most), SMALL, frame.left - 8.0).into_owned();
        let place = (frame.left - 6.0, top + SMALL * 0.8);
        frame.marks.push(text(place, Anchor::End, SMALL, Paint::Muted, most_label));
        let place = (frame.left - 6.0, base);
        frame.marks.push(text(place, Anchor::End, SMALL, Paint::Muted, "0"));
        let place = (f64::midpoint(frame.left, frame.right), base + 18.0);
        let words = format!("{} in each bin", self.counted);
        let room = 2.0 * (place.0 - PAD).min(width.pixels() - PAD - place.0);
        frame.marks.push(cut_text(place, Anchor::Middle, LABEL, Paint::Muted, &words, room));
        Chart {
            title: self.title.clone(),
            description: self.description(),
            width: width.pixels(),
            height: base + 18.0 + PAD,
            plane: Some(frame.plane()),
            marks: frame.marks,
            table: self.table(),
        }
    }

    fn description(&self) -> String {
        let gap = |bin: &CalibrationBin| Some((bin.observed? - bin.predicted?, bin.predicted?));
        let gaps = self.bins.iter().filter_map(gap).filter(|gap| gap.0.is_finite());
        let what = "Observed frequency over predicted probability.";
        match gaps.max_by(|a, b| a.0.abs().total_cmp(&b.0.abs())) {
            None => format!("{what} No data."),
            Some((gap, at)) => {
                format!(
                    "{what} The largest gap is {} at a predicted probability of {}.",
                    plain(gap),
                    plain(at)
                )
            }
        }
    }

    fn table(&self) -> Table {
        let mut table = Table::new(["bin", "predicted", "observed", "lower end", "upper end", ""]);
        table.columns[5].clone_from(&self.counted);
        table.rows = self
            .bins
            .iter()
            .map(|bin| {
                let (low, high) = bin.interval.unzip();
                vec![
                    format!("{} to {}", plain(bin.range.0), plain(bin.range.1)),
                    optional(bin.predicted),
                    optional(bin.observed),
                    optional(low),
                    optional(high),
                    count(bin.count),
                ]
            })
            .collect();
        table
    }
}
