//! What charts have in common: title, legend, and a frame with two axes.

use crate::axis::{Axis, Fitted};
use crate::chart::Plane;
use crate::mark::{Anchor, Mark, Stroke, bold, cut_text, dash, line, marker, rect, text};
use crate::paint::Paint;
use crate::text::{width, wrapped};

/// Space around everything, in pixels.
pub(crate) const PAD: f64 = 16.0;
/// Font size of labels.
pub(crate) const LABEL: f64 = 12.0;
/// Font size of ticks and notes.
pub(crate) const SMALL: f64 = 11.0;
const TITLE: f64 = 15.0;

/// Draws the title; returns where the rest begins.
pub(crate) fn title(marks: &mut Vec<Mark>, title: &str, whole_width: f64) -> f64 {
    let mut y = PAD;
    for each in wrapped(title, TITLE, whole_width - 2.0 * PAD, 2) {
        marks.push(bold((PAD, y + TITLE * 0.8), Anchor::Start, TITLE, Paint::Ink, each));
        y += TITLE * 1.35;
    }
    y + 4.0
}

/// Says that there is nothing to be seen.
pub(crate) fn nothing(marks: &mut Vec<Mark>, centre: (f64, f64)) {
    marks.push(text(centre, Anchor::Middle, LABEL, Paint::Muted, "no data"));
}

/// One entry of a legend.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) sample: Sample,
}

/// What stands before the name in a legend.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Sample {
    /// Line and marker of a series.
    Series(usize),
    /// Another line.
    Line(Stroke),
    /// A filled square.
    Square(Paint),
}

/// Draws a legend in as many rows as it takes; returns where the rest begins.
pub(crate) fn legend(marks: &mut Vec<Mark>, entries: &[Entry], top: f64, whole_width: f64) -> f64 {
    const SAMPLE: f64 = 28.0;
    const ROW: f64 = 18.0;
    let room = whole_width - 2.0 * PAD;
    let (mut x, mut y) = (PAD, top);
    for entry in entries {
        let names = width(&entry.name, LABEL).min(room - SAMPLE);
        if x > PAD && x + SAMPLE + names > PAD + room {
            (x, y) = (PAD, y + ROW);
        }
        let middle = y + ROW / 2.0;
        let mut own = Vec::new();
        match entry.sample {
            Sample::Series(index) => {
                let stroke = Stroke { paint: Paint::Series(index), width: 2.0, dash: dash(index) };
                own.push(line((x, middle), (x + 22.0, middle), stroke));
                own.push(marker(index, (x + 11.0, middle), None));
            }
            Sample::Line(stroke) => own.push(line((x, middle), (x + 22.0, middle), stroke)),
            Sample::Square(paint) => own.push(rect((x + 9.0, middle - 6.0), (12.0, 12.0), paint)),
        }
        own.push(cut_text(
            (x + SAMPLE, middle + LABEL * 0.35),
            Anchor::Start,
            LABEL,
            Paint::Ink,
            &entry.name,
            room - SAMPLE,
        ));
        match entry.sample {
            Sample::Series(index) => marks.push(Mark::Series { index, marks: own }),
            _ => marks.append(&mut own),
        }
        x += SAMPLE + names + 18.0;
    }
    if entries.is_empty() { top } else { y + ROW + 6.0 }
}

/// A frame with two axes, ready for what goes into it.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) marks: Vec<Mark>,
    pub(crate) x: Fitted,
    pub(crate) y: Fitted,
    pub(crate) left: f64,
    pub(crate) right: f64,
    pub(crate) top: f64,
    pub(crate) bottom: f64,
    /// Height of the whole picture.
    pub(crate) height: f64,
}

/// What a frame is made for.
pub(crate) struct Wanted<'a> {
    pub(crate) title: &'a str,
    pub(crate) x: &'a Axis,
    pub(crate) y: &'a Axis,
    pub(crate) legend: &'a [Entry],
    pub(crate) width: f64,
    /// Height of the frame over its width.
    pub(crate) aspect: f64,
}

impl Frame {
    /// Draws title, legend, grid and axes, wide enough for the points.
    pub(crate) fn new(wanted: &Wanted<'_>, points: &[(f64, f64)]) -> Self {
        let whole = wanted.width;
        let mut marks = Vec::new();
        let below = title(&mut marks, wanted.title, whole);
        let below = legend(&mut marks, wanted.legend, below, whole);
        marks.push(cut_text(
            (PAD, below + LABEL),
            Anchor::Start,
            LABEL,
            Paint::Muted,
            &wanted.y.title,
            whole - 2.0 * PAD,
        ));
        let top = below + LABEL + 12.0;

        let high = ((whole - 70.0) * wanted.aspect).max(80.0);
        let bottom = top + high;
        let y = wanted.y.fit(points.iter().map(|point| point.1), (bottom, top), (high / 45.0).max(2.0));
        let widest = y.ticks.marks.iter().map(|(_, label)| width(label, SMALL)).fold(0.0, f64::max);
        let left = PAD + widest + 8.0;
        let across = |right: f64| {
            let wanted_ticks = ((right - left) / 70.0).clamp(2.0, 12.0);
            wanted.x.fit(points.iter().map(|point| point.0), (left, right), wanted_ticks)
        };
        let x = across(whole - PAD);
        let last = x.ticks.marks.last().map_or(0.0, |(_, label)| width(label, SMALL) / 2.0);
        let right = whole - PAD.max(last + 4.0);
        let x = across(right);

        for (value, label) in &y.ticks.marks {
            let at = y.at(*value);
            marks.push(line((left, at), (right, at), Stroke::solid(Paint::Grid, 1.0)));
            marks.push(text(
                (left - 6.0, at + SMALL * 0.36),
                Anchor::End,
                SMALL,
                Paint::Muted,
                label.clone(),
            ));
        }
        let axis = Stroke::solid(Paint::Axis, 1.0);
        marks.push(line((left, bottom), (right, bottom), axis));
        let mut free = f64::NEG_INFINITY;
        for (value, label) in &x.ticks.marks {
            let at = x.at(*value);
            marks.push(line((at, bottom), (at, bottom + 4.0), axis));
            let half = width(label, SMALL) / 2.0;
            if at - half > free {
                marks.push(text((at, bottom + 20.0), Anchor::Middle, SMALL, Paint::Muted, label.clone()));
                free = at + half + 6.0;
            }
        }
        let middle = f64::midpoint(left, right);
        let room = 2.0 * (middle - PAD).min(whole - PAD - middle);
        let place = (middle, bottom + 38.0);
        marks.push(cut_text(place, Anchor::Middle, LABEL, Paint::Muted, &wanted.x.title, room));
        Self { marks, x, y, left, right, top, bottom, height: bottom + 38.0 + PAD }
    }

    /// Where values are.
    pub(crate) fn plane(&self) -> Plane {
        Plane { x: self.x.span(), y: self.y.span() }
    }

    /// A point in pixels.
    pub(crate) fn at(&self, (x, y): (f64, f64)) -> (f64, f64) {
        (self.x.at(x), self.y.at(y))
    }

    /// Says that there is nothing to be seen.
    pub(crate) fn nothing(&mut self) {
        let centre = (f64::midpoint(self.left, self.right), f64::midpoint(self.top, self.bottom));
        nothing(&mut self.marks, centre);
    }
}
