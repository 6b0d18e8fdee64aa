//! A drawn chart.

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
}

impl Chart {
    /// The chart as an SVG file that needs nothing else. It follows the light or dark mode of its viewer.
    pub fn svg(&self) -> String {
        svg::file(self)
    }

    /// The chart as an `<svg>` element for a page that holds [`STYLESHEET`](crate::STYLESHEET). `id` tells
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
