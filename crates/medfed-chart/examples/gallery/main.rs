//! Writes one chart of each kind as SVG and PNG: `cargo run -p medfed-chart --example gallery -- FOLDER`.

mod charts;

use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args().nth(1).unwrap_or_else(|| "gallery".to_owned());
    std::fs::create_dir_all(&folder)?;
    let mut all = charts::ordinary();
    all.push(("long-line", charts::long_line()));
    for (name, chart) in all {
        let svg = chart.svg();
        std::fs::write(Path::new(&folder).join(format!("{name}.svg")), &svg)?;
        std::fs::write(Path::new(&folder).join(format!("{name}.png")), picture(&svg)?)?;
        std::fs::write(Path::new(&folder).join(format!("{name}.csv")), chart.table.csv())?;
    }
    if let Some((name, chart)) = charts::hostile().into_iter().last() {
        std::fs::write(Path::new(&folder).join(format!("hostile-{name}.svg")), chart.svg())?;
    }
    Ok(())
}

/// The chart in pixels, at twice its size.
fn picture(svg: &str) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let mut options = resvg::usvg::Options { font_family: "Noto Sans".to_owned(), ..Default::default() };
    options.fontdb_mut().load_font_data(notosans::REGULAR_TTF.to_vec());
    options.fontdb_mut().load_font_data(notosans::BOLD_TTF.to_vec());
    let tree = resvg::usvg::Tree::from_str(svg, &options)?;
    let size = tree.size().to_int_size().scale_by(2.0).ok_or("the chart is too large")?;
    let mut pixels =
        resvg::tiny_skia::Pixmap::new(size.width(), size.height()).ok_or("the chart is empty")?;
    resvg::render(&tree, resvg::tiny_skia::Transform::from_scale(2.0, 2.0), &mut pixels.as_mut());
    Ok(pixels.encode_png()?)
}
