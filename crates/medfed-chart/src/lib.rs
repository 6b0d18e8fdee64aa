//! Charts: numbers in, a picture and a table out.
//!
//! Each chart is a plain struct; `draw` lays it out as a [`Chart`]: marks at pixels, the numbers as a
//! [`Table`] for whoever does not see them, and a description. A [`Chart`] becomes an SVG file
//! ([`Chart::svg`]), an element of a page ([`Chart::inline`], with [`stylesheet`] once in the page), or
//! whatever draws [`Mark`]s.
//!
//! Nothing fails: a value that is not finite is a gap, a chart without values says so, more points than
//! pixels are thinned without losing peaks, long names are cut and told to a resting pointer. All text is
//! escaped. The same numbers give the same bytes.

mod axis;
mod bars;
mod calibration;
mod chart;
mod confusion;
mod curve;
mod decimate;
mod gauge;
mod heat_map;
mod line;
mod mark;
mod number;
mod paint;
mod plot;
mod sparkline;
mod svg;
mod table;
mod text;

pub use axis::{Axis, Scale};
pub use bars::{Bar, BarChart};
pub use calibration::{CalibrationBin, CalibrationChart};
pub use chart::{Chart, Plane, Span, Width};
pub use confusion::ConfusionMatrix;
pub use curve::{Ceiling, Curve, PrecisionRecallChart, RocChart};
pub use gauge::Gauge;
pub use heat_map::{Cell, HeatMap};
pub use line::{LineChart, Series, Threshold};
pub use mark::{Anchor, Mark, Stroke};
pub use paint::{Paint, SERIES, stylesheet};
pub use sparkline::Sparkline;
pub use table::Table;
