//! Marks as SVG 1.1.
//!
//! Every mark carries its colour on white as an attribute and a class beside it: a file brings the style
//! sheet for dark viewers along, a page has it once for all its charts, and programs that know no style
//! sheets draw it right as well. No attribute is a `style`, so that a strict content security policy holds.

use crate::axis::Scale;
use crate::chart::{Chart, Span};
use crate::mark::{Anchor, Mark, Stroke};
use crate::paint::{Paint, dark_rules};
use std::borrow::Cow;
use std::fmt::Write as _;

const FONTS: &str = "'Noto Sans',system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif";

/// A file of its own.
pub(crate) fn file(chart: &Chart) -> String {
    let ground = Mark::Rect {
        x: 0.0,
        y: 0.0,
        width: chart.width,
        height: chart.height,
        fill: Paint::Surface,
        tip: None,
    };
    let mut ground_text = String::new();
    mark(&mut ground_text, &ground);
    let head = format!("<style>{}</style>", dark_rules());
    let svg = whole(chart, "chart", " xmlns=\"http://www.w3.org/2000/svg\"", &format!("{head}{ground_text}"));
    format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{svg}\n")
}

/// An element of a page.
pub(crate) fn element(chart: &Chart, id: &str) -> String {
    let id: String = id.chars().filter(|letter| letter.is_ascii_alphanumeric() || *letter == '-').collect();
    whole(chart, &id, "", "")
}

fn whole(chart: &Chart, id: &str, namespace: &str, head: &str) -> String {
    let (width, height) = (Length(chart.width), Length(chart.height));
    let span = |axis: &str, span: Span| {
        let scale = if span.scale == Scale::Log { "log" } else { "linear" };
        let ((low, high), (from, to)) = (span.values, span.pixels);
        format!("data-{axis}=\"{scale} {low} {high} {} {}\" ", Length(from), Length(to))
    };
    let data = chart.plane.map(|plane| span("x", plane.x) + &span("y", plane.y)).unwrap_or_default();
    let mut out = format!(
        "<svg{namespace} class=\"chart\" role=\"img\" aria-labelledby=\"{id}-title {id}-desc\" \
         {data}width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" font-family=\"{FONTS}\" stroke-linejoin=\"round\">\
         <title id=\"{id}-title\">{}</title><desc id=\"{id}-desc\">{}</desc>{head}",
        escaped(&chart.title),
        escaped(&chart.description)
    );
    for each in &chart.marks {
        mark(&mut out, each);
    }
    out.push_str("</svg>");
    out
}

fn mark(out: &mut String, mark_: &Mark) {
    match mark_ {
        Mark::Rect { x, y, width, height, fill, tip } => {
            let shape = format!(
                "rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"{}",
                Length(*x),
                Length(*y),
                Length(*width),
                Length(*height),
                filled(*fill)
            );
            closed(out, &shape, tip.as_deref());
        }
        Mark::Line { points, stroke, tip } => {
            let shape = format!("path d=\"{}\" fill=\"none\"{}", path(points), stroked(stroke));
            closed(out, &shape, tip.as_deref());
        }
        Mark::Area { points, fill, opacity, tip } => {
            let opacity = if *opacity < 1.0 {
                format!(" fill-opacity=\"{}\"", Length(*opacity))
            } else {
                String::new()
            };
            let shape = format!("path d=\"{}Z\"{}{opacity}", path(points), filled(*fill));
            closed(out, &shape, tip.as_deref());
        }
        Mark::Text { x, y, anchor, size, bold, fill, text, tip } => {
            let anchor = match anchor {
                Anchor::Start => "",
                Anchor::Middle => " text-anchor=\"middle\"",
                Anchor::End => " text-anchor=\"end\"",
            };
            let weight = if *bold { " font-weight=\"bold\"" } else { "" };
            let tip =
                tip.as_deref().map(|tip| format!("<title>{}</title>", escaped(tip))).unwrap_or_default();
            push(
                out,
                format_args!(
                    "<text x=\"{}\" y=\"{}\" font-size=\"{}\"{anchor}{weight}{}>{}{tip}</text>",
                    Length(*x),
                    Length(*y),
                    Length(*size),
                    filled(*fill),
                    escaped(text)
                ),
            );
        }
        Mark::Series { index, marks } => {
            push(out, format_args!("<g data-series=\"{index}\">"));
            for each in marks {
                mark(out, each);
            }
            out.push_str("</g>");
        }
    }
}

fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a String takes every write");
}

fn closed(out: &mut String, shape: &str, tip: Option<&str>) {
    match tip {
        None => push(out, format_args!("<{shape}/>")),
        Some(tip) => {
            let name = shape.split(' ').next().unwrap_or(shape);
            push(out, format_args!("<{shape}><title>{}</title></{name}>", escaped(tip)));
        }
    }
}

fn filled(paint: Paint) -> String {
    let class = paint.class().map(|class| format!(" class=\"f-{class}\"")).unwrap_or_default();
    format!("{class} fill=\"{}\"", paint.colour())
}

fn stroked(stroke: &Stroke) -> String {
    let class = stroke.paint.class().map(|class| format!(" class=\"l-{class}\"")).unwrap_or_default();
    let mut text =
        format!("{class} stroke=\"{}\" stroke-width=\"{}\"", stroke.paint.colour(), Length(stroke.width));
    if !stroke.dash.is_empty() {
        let lengths: Vec<String> = stroke.dash.iter().map(|length| Length(*length).to_string()).collect();
        push(&mut text, format_args!(" stroke-dasharray=\"{}\"", lengths.join(" ")));
    }
    text
}

fn path(points: &[(f64, f64)]) -> String {
    let mut text = String::with_capacity(points.len() * 12);
    for (index, (x, y)) in points.iter().enumerate() {
        let command = if index == 0 { 'M' } else { 'L' };
        push(&mut text, format_args!("{command}{} {}", Length(*x), Length(*y)));
    }
    // A line of no length shows its round end.
    if let [(x, y)] = points {
        push(&mut text, format_args!("L{} {}", Length(*x), Length(*y)));
    }
    text
}

/// A length to a hundredth of a pixel.
struct Length(f64);

impl std::fmt::Display for Length {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let hundredths = (self.0 * 100.0).round();
        let text = format!("{:.2}", if hundredths == 0.0 { 0.0 } else { hundredths / 100.0 });
        f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

/// Text as content of an element or value of an attribute. What XML does not allow becomes U+FFFD.
pub(crate) fn escaped(text: &str) -> Cow<'_, str> {
    let special = |letter: char| matches!(letter, '&' | '<' | '>' | '"' | '\'') || !is_xml(letter);
    if !text.contains(special) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            letter if is_xml(letter) => out.push(letter),
            _ => out.push('\u{fffd}'),
        }
    }
    Cow::Owned(out)
}

/// Char of XML 1.0.
fn is_xml(letter: char) -> bool {
    matches!(letter, '\t' | '\n' | '\r' | '\u{20}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_leave_its_element() {
        assert_eq!(escaped("</text><script>\u{1}"), "&lt;/text&gt;&lt;script&gt;\u{fffd}");
        assert_eq!(escaped("a\"b'c&"), "a&quot;b&#39;c&amp;");
        assert!(matches!(escaped("Klinikum Süd"), Cow::Borrowed(_)));
    }

    #[test]
    fn lengths_are_short() {
        for (length, shown) in [(1.0, "1"), (1.005, "1"), (-0.001, "0"), (12.345, "12.35"), (100.0, "100")] {
            assert_eq!(Length(length).to_string(), shown);
        }
    }
}
