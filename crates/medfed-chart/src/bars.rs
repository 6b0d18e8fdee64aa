//! Horizontal bars with intervals, such as a metric for each group of patients.

use crate::axis::Axis;
use crate::chart::{Chart, Width};
use crate::line::Threshold;
use crate::mark::{Anchor, Mark, Stroke, cut_text, line, rect, text};
use crate::number::{drawable, optional, plain};
use crate::paint::Paint;
use crate::plot::{Entry, LABEL, PAD, SMALL, Sample, legend, nothing, title};
use crate::table::Table;
use crate::text::width as text_width;

/// A bar for each of several things, with its interval.
#[derive(Debug, Clone, PartialEq)]
pub struct BarChart {
    /// What the chart shows.
    pub title: String,
    /// What the bars are, for the table.
    pub bar_title: String,
    /// The axis of the values. Without a range it includes 0.
    pub axis: Axis,
    /// What the intervals are, for the legend: "95 % interval".
    pub interval_title: String,
    /// The bars, from the top down.
    pub bars: Vec<Bar>,
    /// Lines at values that matter.
    pub thresholds: Vec<Threshold>,
}

/// One bar.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Bar {
    /// Its name.
    pub name: String,
    /// Its value; nothing when it is not defined.
    pub value: Option<f64>,
    /// Lower and upper end of the interval around it.
    pub interval: Option<(f64, f64)>,
    /// What is said instead of or after the value: "too small", "n = 12".
    pub note: Option<String>,
    /// Whether it passes a threshold on the wrong side; then it is drawn in the colour of an alert.
    pub alert: bool,
}

impl BarChart {
    /// Draws it.
    pub fn draw(&self, width: Width) -> Chart {
        const ROW: f64 = 26.0;
        let whole = width.pixels();
        let mut marks = Vec::new();
        let below = title(&mut marks, &self.title, whole);
        let below = legend(&mut marks, &self.entries(), below, whole);

        let longest = self.bars.iter().map(|bar| text_width(&bar.name, LABEL)).fold(0.0, f64::max);
        let left = PAD + longest.min(whole * 0.34) + 8.0;
        let values: Vec<String> = self.bars.iter().map(Bar::shown).collect();
        let widest = values.iter().map(|value| text_width(value, SMALL)).fold(0.0, f64::max).min(whole * 0.3);
        let right = (whole - PAD - widest - 10.0).max(left + 60.0);
        let wanted = ((right - left) / 70.0).clamp(2.0, 8.0);
        let axis = self.axis.fit(self.extent().into_iter(), (left, right), wanted);
        let high = ROW * self.bars.len().max(1) as f64;
        let (top, bottom) = (below + 2.0, below + 2.0 + high);

        for (value, _) in &axis.ticks.marks {
            let x = axis.at(*value);
            marks.push(line((x, top), (x, bottom), Stroke::solid(Paint::Grid, 1.0)));
        }
        if self.bars.is_empty() {
            nothing(&mut marks, (f64::midpoint(left, right), f64::midpoint(top, bottom)));
        }
        let base = axis.at(if self.axis.takes(0.0) { 0.0 } else { axis.ticks.low });
        for (index, bar) in self.bars.iter().enumerate() {
            let y = (index as f64).mul_add(ROW, top);
            let middle = y + ROW / 2.0;
            let place = (left - 8.0, middle + LABEL * 0.36);
            marks.push(cut_text(place, Anchor::End, LABEL, Paint::Ink, &bar.name, left - 8.0 - PAD));
            if let Some(value) = bar.value.filter(|value| self.axis.takes(*value)) {
                let end = axis.at(value);
                let fill = if bar.alert { Paint::Series(1) } else { Paint::Series(0) };
                marks.push(Mark::Rect {
                    x: base.min(end),
                    y: y + 5.0,
                    width: (base - end).abs().max(1.0),
                    height: ROW - 10.0,
                    fill,
                    tip: Some(format!("{}: {}", bar.name, bar.shown())),
                });
            }
            if let Some((low, high)) =
                bar.ends().filter(|ends| self.axis.takes(ends.0) && self.axis.takes(ends.1))
            {
                whisker(&mut marks, (axis.at(low), axis.at(high)), middle);
            }
            let place = (right + 8.0, middle + SMALL * 0.36);
            let fill = if bar.alert { Paint::Alert } else { Paint::Muted };
            marks.push(cut_text(
                place,
                Anchor::Start,
                SMALL,
                fill,
                &values[index],
                whole - PAD - right - 8.0,
            ));
        }
        for threshold in self.thresholds.iter().filter(|threshold| self.axis.takes(threshold.value)) {
            let x = axis.at(threshold.value);
            marks.push(line((x, top - 2.0), (x, bottom + 2.0), Threshold::stroke()));
        }
        marks.push(line((left, bottom), (right, bottom), Stroke::solid(Paint::Axis, 1.0)));
        let mut free = f64::NEG_INFINITY;
        for (value, label) in &axis.ticks.marks {
            let (x, half) = (axis.at(*value), text_width(label, SMALL) / 2.0);
            if x - half > free && x + half < whole {
                marks.push(text((x, bottom + 16.0), Anchor::Middle, SMALL, Paint::Muted, label.clone()));
                free = x + half + 6.0;
            }
        }
        let middle = f64::midpoint(left, right);
        let room = 2.0 * (middle - PAD).min(whole - PAD - middle);
        let place = (middle, bottom + 34.0);
        marks.push(cut_text(place, Anchor::Middle, LABEL, Paint::Muted, &self.axis.title, room));
        Chart {
            title: self.title.clone(),
            description: self.description(),
            width: whole,
            height: bottom + 34.0 + PAD,
            marks,
            plane: None,
            table: self.table(),
        }
    }

    fn entries(&self) -> Vec<Entry> {
        let mut entries: Vec<Entry> = self.thresholds.iter().map(Threshold::entry).collect();
        if self.bars.iter().any(|bar| bar.ends().is_some()) {
            let sample = Sample::Line(Stroke::solid(Paint::Ink, 1.5));
            entries.push(Entry { name: self.interval_title.clone(), sample });
        }
        entries
    }

    /// Values that the axis must hold.
    fn extent(&self) -> Vec<f64> {
        let ends = self.bars.iter().filter_map(Bar::ends).flat_map(|(low, high)| [low, high]);
        let values = self.bars.iter().filter_map(|bar| bar.value);
        let thresholds = self.thresholds.iter().map(|threshold| threshold.value);
        values.chain(ends).chain(thresholds).chain([0.0]).collect()
    }

    fn description(&self) -> String {
        let known = || self.bars.iter().filter_map(|bar| Some((bar.value.and_then(drawable)?, &bar.name)));
        let lowest = known().min_by(|a, b| a.0.total_cmp(&b.0));
        let highest = known().max_by(|a, b| a.0.total_cmp(&b.0));
        let what = format!("{} for each of {} ({}).", self.axis.title, self.bar_title, self.bars.len());
        let Some(((low, lowest), (high, highest))) = lowest.zip(highest) else {
            return format!("{what} No data.");
        };
        format!("{what} Lowest {} ({lowest}), highest {} ({highest}).", plain(low), plain(high))
    }

    fn table(&self) -> Table {
        let mut table = Table::new(["", "", "lower end", "upper end", "note"]);
        table.columns[0].clone_from(&self.bar_title);
        table.columns[1].clone_from(&self.axis.title);
        table.rows = self
            .bars
            .iter()
            .map(|bar| {
                let (low, high) = bar.ends().unzip();
                let note = bar.note.clone().unwrap_or_default();
                vec![bar.name.clone(), optional(bar.value), optional(low), optional(high), note]
            })
            .collect();
        table
    }
}

impl Bar {
    /// The interval, when it is one.
    fn ends(&self) -> Option<(f64, f64)> {
        let (low, high) = self.interval?;
        let (low, high) = (drawable(low)?, drawable(high)?);
        (low <= high).then_some((low, high))
    }

    fn shown(&self) -> String {
        match (self.value, &self.note) {
            (Some(value), None) => plain(value),
            (Some(value), Some(note)) => format!("{} ({note})", plain(value)),
            (None, Some(note)) => note.clone(),
            (None, None) => "not defined".to_owned(),
        }
    }
}

fn whisker(marks: &mut Vec<Mark>, (low, high): (f64, f64), middle: f64) {
    // A light line beneath keeps the interval visible on the bar.
    let halo = Stroke::solid(Paint::Surface, 3.5);
    marks.push(line((low, middle), (high, middle), halo));
    // In one stroke, ends included: charts of many bars stay small.
    let (above, below) = (middle - 4.0, middle + 4.0);
    let points =
        vec![(low, above), (low, below), (low, middle), (high, middle), (high, above), (high, below)];
    marks.push(Mark::Line { points, stroke: Stroke::solid(Paint::Ink, 1.5), tip: None });
}

/// A thin bar that fills from the left, for a share of a whole.
pub(crate) fn track(marks: &mut Vec<Mark>, place: (f64, f64), size: (f64, f64), share: f64, fill: Paint) {
    marks.push(rect(place, size, Paint::Track));
    marks.push(rect(place, (size.0 * share.clamp(0.0, 1.0), size.1), fill));
}
