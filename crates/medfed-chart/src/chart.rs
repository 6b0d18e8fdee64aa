//! A drawn chart.

use crate::axis::Scale;
use crate::mark::Mark;
use crate::svg;
use crate::table::Table;

/// A chart that was drawn: its marks, and the words for whoever does not see them.
#[derive(Debug, Clone, PartialEq)]
pub struct Chart {
    /// Its title, also part of the picture.
    pub title: String,
    /// One or two sentences that say what is to be seen.
    pub description: String,
    /// Width in pixels.
    pub width: f64,
    /// Height in pixels.
    pub height: f64,
    /// What is drawn, from back to front.
    pub marks: Vec<Mark>,
    /// The numbers.
    pub table: Table,
    /// Where values are, for charts with two axes.
    pub plane: Option<Plane>,
}

/// Where the values of a chart are in its picture, for whoever adds a crosshair. An SVG says it in the
/// attributes `data-x` and `data-y`: scale, two values, and the two pixels where they are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Plane {
    /// The horizontal axis.
    pub x: Span,
    /// The vertical axis.
    pub y: Span,
}

/// One axis of a [`Plane`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Span {
    /// How values are spread.
    pub scale: Scale,
    /// The values at its ends.
    pub values: (f64, f64),
    /// The pixels of these values.
    pub pixels: (f64, f64),
}

impl Chart {
    /// The chart as an SVG file that needs nothing else. It follows the light or dark mode of its viewer.
    pub fn svg(&self) -> String {
        svg::file(self)
    }

    /// The chart as an `<svg>` element for a page that holds [`stylesheet`](crate::stylesheet). `id` tells
    /// the charts of a page apart: letters, digits and hyphens; other characters are left out.
    pub fn inline(&self, id: &str) -> String {
        svg::element(self, id)
    }
}

/// How wide a chart is, in pixels. Its height follows from what it shows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Width(f64);

impl Width {
    /// Across a page.
    pub const FULL: Self = Self(720.0);
    /// Two beside each other.
    pub const HALF: Self = Self(440.0);

    /// Another width, brought to 240 at least and 2400 at most.
    pub fn new(pixels: u32) -> Self {
        Self(f64::from(pixels.clamp(240, 2400)))
    }

    pub(crate) fn pixels(self) -> f64 {
        self.0
    }
}
