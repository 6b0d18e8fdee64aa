//! Charts in pixels.

use crate::error::ReportError;
use medfed_chart::Chart;
use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{Options, Tree};
use std::sync::LazyLock;

/// Pixels for each pixel of the chart.
const SCALE: f32 = 2.0;

/// Noto Sans, so that a picture is the same on every machine.
static OPTIONS: LazyLock<Options<'static>> = LazyLock::new(|| {
    let mut options = Options { font_family: "Noto Sans".to_owned(), ..Options::default() };
    options.fontdb_mut().load_font_data(notosans::REGULAR_TTF.to_vec());
    options.fontdb_mut().load_font_data(notosans::BOLD_TTF.to_vec());
    options
});

/// The chart as a PNG file in light colours, at twice its size.
pub fn png(chart: &Chart) -> Result<Vec<u8>, ReportError> {
    let failed = |detail: String| ReportError::Png { title: chart.title.clone(), detail };
    let tree = Tree::from_str(&chart.svg(), &OPTIONS).map_err(|error| failed(error.to_string()))?;
    let size = tree.size().to_int_size().scale_by(SCALE);
    let mut pixels = size
        .and_then(|size| Pixmap::new(size.width(), size.height()))
        .ok_or_else(|| failed("it has no size".to_owned()))?;
    resvg::render(&tree, Transform::from_scale(SCALE, SCALE), &mut pixels.as_mut());
    pixels.encode_png().map_err(|error| failed(error.to_string()))
}
