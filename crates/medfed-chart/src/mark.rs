//! What a picture consists of.
//!
//! A chart is a short list of marks, so that every backend (SVG here, PDF elsewhere) draws the same
//! picture. Coordinates are pixels from the top left corner.

use crate::paint::Paint;

/// One mark.
#[derive(Debug, Clone, PartialEq)]
pub enum Mark {
    /// A filled rectangle.
    Rect {
        /// Left edge.
        x: f64,
        /// Upper edge.
        y: f64,
        /// Width.
        width: f64,
        /// Height.
        height: f64,
        /// What it is filled with.
        fill: Paint,
        /// What a pointer that rests on it is told.
        tip: Option<String>,
    },
    /// A line through points.
    Line {
        /// At least one point.
        points: Vec<(f64, f64)>,
        /// How it is drawn.
        stroke: Stroke,
        /// What a pointer that rests on it is told.
        tip: Option<String>,
    },
    /// A filled polygon.
    Area {
        /// Its corners.
        points: Vec<(f64, f64)>,
        /// What it is filled with.
        fill: Paint,
        /// From 0 (invisible) to 1.
        opacity: f64,
        /// What a pointer that rests on it is told.
        tip: Option<String>,
    },
    /// One line of text.
    Text {
        /// Where the anchor is.
        x: f64,
        /// The base line.
        y: f64,
        /// Which end of the text is at `x`.
        anchor: Anchor,
        /// Font size in pixels.
        size: f64,
        /// Whether it is bold.
        bold: bool,
        /// Its colour.
        fill: Paint,
        /// The text.
        text: String,
        /// The whole text when `text` is cut.
        tip: Option<String>,
    },
    /// What belongs to one series.
    Series {
        /// Number of the series, counted from 0.
        index: usize,
        /// Its marks.
        marks: Vec<Mark>,
    },
}

/// How a line is drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stroke {
    /// Its colour.
    pub paint: Paint,
    /// Its width in pixels.
    pub width: f64,
    /// Lengths of dash and gap in pixels, repeated; empty for a solid line.
    pub dash: &'static [f64],
}

impl Stroke {
    /// A solid line.
    pub(crate) fn solid(paint: Paint, width: f64) -> Self {
        Self { paint, width, dash: &[] }
    }
}

/// Which end of a text is at its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchor {
    /// Its start.
    Start,
    /// Its middle.
    Middle,
    /// Its end.
    End,
}

/// Dashes of the series, counted from 0; a different one for each turn through the colours too.
pub(crate) fn dash(index: usize) -> &'static [f64] {
    const DASHES: [&[f64]; 6] =
        [&[], &[7.0, 3.0], &[2.0, 3.0], &[9.0, 3.0, 2.0, 3.0], &[4.0, 2.0], &[12.0, 4.0]];
    DASHES[(index + index / crate::paint::SERIES) % DASHES.len()]
}

/// The marker of a series around a point, about 7 pixels wide.
pub(crate) fn marker(index: usize, (x, y): (f64, f64), tip: Option<String>) -> Mark {
    const SHAPES: [&[(f64, f64)]; 5] = [
        &[
            (-2.4, -2.4),
            (0.0, -3.4),
            (2.4, -2.4),
            (3.4, 0.0),
            (2.4, 2.4),
            (0.0, 3.4),
            (-2.4, 2.4),
            (-3.4, 0.0),
        ],
        &[(-3.0, -3.0), (3.0, -3.0), (3.0, 3.0), (-3.0, 3.0)],
        &[(0.0, -4.0), (3.8, 3.0), (-3.8, 3.0)],
        &[(0.0, -4.2), (4.2, 0.0), (0.0, 4.2), (-4.2, 0.0)],
        &[(-3.8, -3.0), (3.8, -3.0), (0.0, 4.0)],
    ];
    let points = SHAPES[index % SHAPES.len()].iter().map(|(dx, dy)| (x + dx, y + dy)).collect();
    Mark::Area { points, fill: Paint::Series(index), opacity: 1.0, tip }
}

/// Markers along an ascending line of many points, one in about 90 pixels, at other places for each series.
pub(crate) fn sparse_markers(index: usize, points: &[(f64, f64)]) -> Vec<Mark> {
    const APART: f64 = 90.0;
    let mut next = points.first().map_or(0.0, |point| point.0) + 20.0 + (index % 5) as f64 * APART / 5.0;
    let mut marks = Vec::new();
    for point in points {
        if point.0 >= next {
            marks.push(marker(index, *point, None));
            next = point.0 + APART;
        }
    }
    marks
}

/// Text at a place; [`Mark::Text`] with fewer words.
pub(crate) fn text(
    place: (f64, f64),
    anchor: Anchor,
    size: f64,
    fill: Paint,
    text: impl Into<String>,
) -> Mark {
    Mark::Text { x: place.0, y: place.1, anchor, size, bold: false, fill, text: text.into(), tip: None }
}

/// Bold text at a place.
pub(crate) fn bold(
    place: (f64, f64),
    anchor: Anchor,
    size: f64,
    fill: Paint,
    text: impl Into<String>,
) -> Mark {
    Mark::Text { x: place.0, y: place.1, anchor, size, bold: true, fill, text: text.into(), tip: None }
}

/// Text that is cut to `room` pixels and then says the whole to a pointer.
pub(crate) fn cut_text(
    place: (f64, f64),
    anchor: Anchor,
    size: f64,
    fill: Paint,
    whole: &str,
    room: f64,
) -> Mark {
    let shown = crate::text::shortened(whole, size, room).into_owned();
    let tip = (shown != whole).then(|| whole.to_owned());
    Mark::Text { x: place.0, y: place.1, anchor, size, bold: false, fill, text: shown, tip }
}

/// A straight line.
pub(crate) fn line(from: (f64, f64), to: (f64, f64), stroke: Stroke) -> Mark {
    Mark::Line { points: vec![from, to], stroke, tip: None }
}

/// A rectangle without a tip.
pub(crate) fn rect(place: (f64, f64), size: (f64, f64), fill: Paint) -> Mark {
    Mark::Rect { x: place.0, y: place.1, width: size.0.max(0.0), height: size.1.max(0.0), fill, tip: None }
}
