//! Lines over a common axis, such as a metric over the rounds.

use crate::axis::Axis;
use crate::chart::{Chart, Width};
use crate::decimate::decimated;
use crate::mark::{Mark, Stroke, dash, line, marker, sparse_markers};
use crate::number::{optional, plain};
use crate::paint::Paint;
use crate::plot::{Entry, Frame, Sample, Wanted};
use crate::table::Table;

/// Points of a series that are marked each; of more only some are.
const MARKED: usize = 40;

/// Several series over one axis.
#[derive(Debug, Clone, PartialEq)]
pub struct LineChart {
    /// What the chart shows.
    pub title: String,
    /// The horizontal axis.
    pub x: Axis,
    /// The vertical axis.
    pub y: Axis,
    /// The series.
    pub series: Vec<Series>,
    /// Horizontal lines at values that matter.
    pub thresholds: Vec<Threshold>,
}

/// One series.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Its name.
    pub name: String,
    /// Points in any order. A gap is left where a value is `None`, not finite, or has no place on the axis.
    pub points: Vec<(f64, Option<f64>)>,
}

impl Series {
    /// A series from its points.
    pub fn new(name: impl Into<String>, points: impl IntoIterator<Item = (f64, Option<f64>)>) -> Self {
        Self { name: name.into(), points: points.into_iter().collect() }
    }
}

/// A value that was agreed on.
#[derive(Debug, Clone, PartialEq)]
pub struct Threshold {
    /// What it is.
    pub name: String,
    /// Where it is.
    pub value: f64,
}

impl Threshold {
    /// A threshold.
    pub fn new(name: impl Into<String>, value: f64) -> Self {
        Self { name: name.into(), value }
    }

    pub(crate) fn stroke() -> Stroke {
        Stroke { paint: Paint::Alert, width: 1.5, dash: &[6.0, 4.0] }
    }

    pub(crate) fn entry(&self) -> Entry {
        Entry { name: format!("{} {}", self.name, plain(self.value)), sample: Sample::Line(Self::stroke()) }
    }
}

impl LineChart {
    /// Draws it.
    pub fn draw(&self, width: Width) -> Chart {
        let mut legend: Vec<Entry> = if self.series.len() > 1 || !self.thresholds.is_empty() {
            let entry = |(index, series): (usize, &Series)| Entry {
                name: series.name.clone(),
                sample: Sample::Series(index),
            };
            self.series.iter().enumerate().map(entry).collect()
        } else {
            Vec::new()
        };
        let thresholds = self.thresholds.iter().filter(|threshold| self.y.takes(threshold.value));
        legend.extend(thresholds.clone().map(Threshold::entry));

        let pieces: Vec<Vec<Vec<(f64, f64)>>> =
            self.series.iter().map(|series| self.pieces(series)).collect();
        let mut seen: Vec<(f64, f64)> = pieces.iter().flatten().flatten().copied().collect();
        let some = !seen.is_empty();
        if let Some((x, _)) = seen.first().copied() {
            seen.extend(thresholds.clone().map(|threshold| (x, threshold.value)));
        }
        let wanted = Wanted {
            title: &self.title,
            x: &self.x,
            y: &self.y,
            legend: &legend,
            width: width.pixels(),
            aspect: 0.45,
        };
        let mut frame = Frame::new(&wanted, &seen);
        if some {
            for threshold in thresholds {
                let at = frame.y.at(threshold.value);
                frame.marks.push(line((frame.left, at), (frame.right, at), Threshold::stroke()));
            }
        } else {
            frame.nothing();
        }
        for (index, pieces) in pieces.into_iter().enumerate() {
            let marks = self.draw_series(&frame, index, pieces);
            frame.marks.push(Mark::Series { index, marks });
        }
        Chart {
            title: self.title.clone(),
            description: self.description(),
            width: width.pixels(),
            plane: Some(frame.plane()),
            height: frame.height,
            marks: frame.marks,
            table: self.table(),
        }
    }

    /// The stretches of a series between its gaps, ascending.
    fn pieces(&self, series: &Series) -> Vec<Vec<(f64, f64)>> {
        let mut points: Vec<_> = series.points.iter().filter(|(x, _)| self.x.takes(*x)).copied().collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        let there = |y: &Option<f64>| y.filter(|y| self.y.takes(*y));
        points
            .chunk_by(|a, b| there(&a.1).is_some() == there(&b.1).is_some())
            .map(|piece| piece.iter().filter_map(|(x, y)| Some((*x, there(y)?))).collect::<Vec<_>>())
            .filter(|piece| !piece.is_empty())
            .collect()
    }

    fn draw_series(&self, frame: &Frame, index: usize, pieces: Vec<Vec<(f64, f64)>>) -> Vec<Mark> {
        let stroke = Stroke { paint: Paint::Series(index), width: 2.0, dash: dash(index) };
        let all_marked = pieces.iter().map(Vec::len).sum::<usize>() <= MARKED;
        let name = &self.series[index].name;
        let (mut lines, mut markers) = (Vec::new(), Vec::new());
        for piece in pieces {
            if all_marked || piece.len() == 1 {
                markers.extend(piece.iter().map(|point| {
                    let tip = format!("{name}: {} at {}", plain(point.1), plain(point.0));
                    marker(index, frame.at(*point), Some(tip))
                }));
            }
            if piece.len() > 1 {
                let points = decimated(piece.into_iter().map(|point| frame.at(point)).collect());
                if !all_marked {
                    markers.append(&mut sparse_markers(index, &points));
                }
                lines.push(Mark::Line { points, stroke, tip: None });
            }
        }
        lines.append(&mut markers);
        lines
    }

    fn description(&self) -> String {
        const NAMED: usize = 6;
        let last = |series: &Series| {
            let known =
                series.points.iter().filter(|(x, y)| self.x.takes(*x) && y.is_some_and(|y| self.y.takes(y)));
            let last = known.max_by(|a, b| a.0.total_cmp(&b.0));
            last.map(|(x, y)| format!("{} ends with {} at {}", series.name, optional(*y), plain(*x)))
        };
        let ends: Vec<String> = self.series.iter().filter_map(last).collect();
        let what = format!("{} over {}.", self.y.title, self.x.title);
        if ends.is_empty() {
            return format!("{what} No data.");
        }
        let more =
            if ends.len() > NAMED { format!("; and {} more", ends.len() - NAMED) } else { String::new() };
        format!("{what} {}{more}.", ends[..ends.len().min(NAMED)].join("; "))
    }

    fn table(&self) -> Table {
        let mut places: Vec<f64> =
            self.series.iter().flat_map(|series| series.points.iter().map(|point| point.0)).collect();
        places.sort_by(f64::total_cmp);
        places.dedup_by(|a, b| a.total_cmp(b).is_eq());
        let mut rows: Vec<Vec<String>> = places.iter().map(|x| vec![plain(*x)]).collect();
        for series in &self.series {
            let mut cells = vec![None; places.len()];
            for (x, y) in &series.points {
                if let Ok(index) = places.binary_search_by(|place| place.total_cmp(x)) {
                    cells[index] = *y;
                }
            }
            for (row, cell) in rows.iter_mut().zip(cells) {
                row.push(optional(cell));
            }
        }
        let names = self.series.iter().map(|series| series.name.clone());
        Table { columns: std::iter::once(self.x.title.clone()).chain(names).collect(), rows }
    }
}
