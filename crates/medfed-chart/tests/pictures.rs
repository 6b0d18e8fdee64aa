//! Every chart is a sound picture: a strict parser takes it, its text stays inside and does not overlap.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../examples/gallery/charts.rs"]
mod charts;

use medfed_chart::{Chart, Sparkline};
use resvg::usvg::{Group, Node, Options, Rect, Tree};
use std::sync::{Arc, OnceLock};

fn parsed(chart: &Chart) -> Tree {
    static OPTIONS: OnceLock<Options<'static>> = OnceLock::new();
    let options = OPTIONS.get_or_init(|| {
        let mut options = Options { font_family: "Noto Sans".to_owned(), ..Options::default() };
        let fonts = Arc::get_mut(&mut options.fontdb).unwrap();
        fonts.load_font_data(notosans::REGULAR_TTF.to_vec());
        fonts.load_font_data(notosans::BOLD_TTF.to_vec());
        options
    });
    Tree::from_str(&chart.svg(), options).unwrap()
}

/// The boxes of all text.
fn texts(group: &Group, found: &mut Vec<(String, Rect)>) {
    for node in group.children() {
        match node {
            Node::Group(group) => texts(group, found),
            Node::Text(text) => {
                let words = text.chunks().iter().map(|chunk| chunk.text().to_owned()).collect();
                found.push((words, text.abs_bounding_box()));
            }
            _ => {}
        }
    }
}

fn outside(boxes: &[(String, Rect)], chart: &Chart) -> Vec<String> {
    let inside = |place: &Rect| {
        place.left() >= 0.0
            && place.top() >= 0.0
            && f64::from(place.right()) <= chart.width
            && f64::from(place.bottom()) <= chart.height
    };
    boxes.iter().filter(|(_, place)| !inside(place)).map(|(words, _)| words.clone()).collect()
}

#[test]
fn text_stays_inside_and_never_overlaps() {
    let mut all = charts::ordinary();
    all.push(("long-line", charts::long_line()));
    for (name, chart) in all {
        let mut found = Vec::new();
        texts(parsed(&chart).root(), &mut found);
        assert!(outside(&found, &chart).is_empty(), "{name}: {:?}", outside(&found, &chart));
        for (index, (words, place)) in found.iter().enumerate() {
            for (other, second) in &found[..index] {
                let apart = place.right() <= second.left()
                    || second.right() <= place.left()
                    || place.bottom() <= second.top()
                    || second.bottom() <= place.top();
                assert!(apart, "{name}: {words:?} overlaps {other:?}");
            }
        }
        assert!(!chart.description.is_empty() && !chart.table.rows.is_empty(), "{name} has no words");
        let widths = chart.table.rows.iter().map(Vec::len);
        assert!(widths.into_iter().all(|width| width == chart.table.columns.len()), "{name}: ragged table");
    }
}

#[test]
fn hostile_numbers_and_names_give_sound_pictures() {
    for (name, chart) in charts::hostile() {
        let svg = chart.svg();
        assert!(!svg.contains("<script") && !svg.contains("NaN") && !svg.contains("inf"), "{name}: {svg}");
        assert!(svg.len() < 200_000, "{name}: {} bytes", svg.len());
        let tree = parsed(&chart);
        let whole = tree.root().abs_stroke_bounding_box();
        let beyond =
            f64::from(whole.right()) > chart.width + 1.0 || f64::from(whole.bottom()) > chart.height + 1.0;
        assert!(
            !beyond && whole.left() >= -1.0 && whole.top() >= -1.0,
            "{name} at {}: {whole:?}",
            chart.width
        );
    }
}

#[test]
fn many_points_are_few_bytes() {
    let svg = charts::long_line().svg();
    assert!(svg.len() < 50_000, "{} bytes", svg.len());
    assert_eq!(svg, charts::long_line().svg());
}

#[test]
fn an_element_has_the_id_that_its_page_gives() {
    let (_, chart) = charts::ordinary().remove(0);
    let element = chart.inline("auc\"><script>");
    assert!(
        element.starts_with(
            "<svg class=\"chart\" role=\"img\" aria-labelledby=\"aucscript-title aucscript-desc\""
        )
    );
    assert!(element.contains("<title id=\"aucscript-title\">AUC after each round</title>"));
    assert!(!element.contains("style=") && !element.contains("<style") && !element.contains("xmlns"));
    assert!(element.contains("data-x=\"linear 1 20 ") && element.contains("data-y=\"linear 0.4 1 "));
}

#[test]
fn a_small_chart_as_a_file() {
    let values = vec![Some(0.5), Some(0.75), None, Some(f64::NAN), Some(1.0)];
    let chart = Sparkline { title: "AUC of <North> & South".to_owned(), values }.draw();
    let svg = chart.svg();
    let start = svg.find("<style>").unwrap();
    let end = svg.find("</style>").unwrap();
    let without_style = format!("{}{}", &svg[..start], &svg[end + 8..]);
    insta::assert_snapshot!(without_style.replace("><", ">\n<"));
    insta::assert_snapshot!(chart.table.csv().replace('\r', ""), @r"
    ,AUC of <North> & South
    1,0.5
    2,0.75
    3,
    4,
    5,1
    ");
}
