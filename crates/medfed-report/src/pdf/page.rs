//! Pages before they are written: what is drawn where, and what it means.

use super::font::Fonts;
use crate::error::ReportError;
use krilla::Document;
use krilla::SerializeSettings;
use krilla::color::rgb;
use krilla::configure::{Accessibility, ConfigurationBuilder};
use krilla::destination::XyzDestination;
use krilla::geom::{PathBuilder, Point, Rect, Transform};
use krilla::metadata::Metadata;
use krilla::num::NormalizedF32;
use krilla::outline::{Outline, OutlineNode};
use krilla::page::PageSettings;
use krilla::paint::{Fill, Stroke, StrokeDash};
use krilla::surface::Surface;
use krilla::tagging::{
    Artifact, ArtifactType, ContentTag, Identifier, ListNumbering, Node as TagNode, SpanTag,
    TableHeaderScope, Tag, TagGroup, TagKind, TagTree,
};
use krilla::text::{Font, TextDirection};
use medfed_chart::{Anchor, Chart, Mark, Paint};
use std::num::NonZeroU16;

/// A4 in points.
pub(super) const PAGE: (f32, f32) = (595.28, 841.89);

/// Red, green, blue.
pub(super) type Colour = [u8; 3];

/// One thing on a page.
pub(super) enum Op<'a> {
    Text { place: (f32, f32), size: f32, bold: bool, colour: Colour, text: String, part: Part },
    Rect { place: (f32, f32), size: (f32, f32), colour: Colour },
    Rule { from: (f32, f32), to: (f32, f32), width: f32, colour: Colour },
    Chart { chart: &'a Chart, place: (f32, f32), scale: f32, part: usize },
}

/// What a text belongs to.
#[derive(Debug, Clone, Copy)]
pub(super) enum Part {
    /// A part of the structure, by number.
    Of(usize),
    /// The frame of the page.
    Frame,
}

/// What a part of the structure is.
#[derive(Debug, Clone)]
pub(super) enum Kind {
    Heading(u16, String),
    Paragraph,
    List,
    Item,
    ItemBody,
    Table,
    Row,
    ColumnHead,
    RowHead,
    Cell,
    Caption,
    Figure(String),
}

/// All pages and the structure of the document.
#[derive(Default)]
pub(super) struct Pages<'a> {
    pub(super) sheets: Vec<Vec<Op<'a>>>,
    parts: Vec<(Kind, Option<usize>)>,
    outline: Vec<(String, usize, f32)>,
}

impl Pages<'_> {
    /// Adds a part to the structure.
    pub(super) fn part(&mut self, kind: Kind, within: Option<usize>) -> usize {
        self.parts.push((kind, within));
        self.parts.len() - 1
    }

    /// Adds an entry to the outline that points to a height on the newest page.
    pub(super) fn bookmark(&mut self, title: &str, y: f32) {
        self.outline.push((title.to_owned(), self.sheets.len().saturating_sub(1), y));
    }

    /// Writes everything, as an accessible PDF (PDF/UA-1).
    pub(super) fn write(self, title: &str, description: &str) -> Result<Vec<u8>, ReportError> {
        let failed = |detail: String| ReportError::Pdf { detail };
        let configuration = ConfigurationBuilder::new()
            .with_accessibility_validator(Accessibility::UA1)
            .finish()
            .map_err(|error| failed(format!("{error:?}")))?;
        let mut document = Document::new_with(SerializeSettings { configuration, ..Default::default() });
        document.set_metadata(
            Metadata::new()
                .title(title.to_owned())
                .description(description.to_owned())
                .language("en".to_owned())
                .creator("MedFedAgent".to_owned()),
        );
        let fonts = Fonts::embedded();
        let mut content: Vec<Vec<Identifier>> = vec![Vec::new(); self.parts.len()];
        for page in &self.sheets {
            let settings =
                PageSettings::from_wh(PAGE.0, PAGE.1).ok_or_else(|| failed("no page size".to_owned()))?;
            let mut sheet = document.start_page_with(settings);
            let mut surface = sheet.surface();
            for op in page {
                draw(&mut surface, op, &fonts, &mut content);
            }
            surface.finish();
            sheet.finish();
        }
        let mut outline = Outline::new();
        for (title, page, y) in self.outline {
            outline.push_child(OutlineNode::new(title, XyzDestination::new(page, Point::from_xy(0.0, y))));
        }
        document.set_outline(outline);
        document.set_tag_tree(tree(&self.parts, content));
        document.finish().map_err(|error| failed(format!("{error:?}")))
    }
}

/// The structure as the PDF library wants it: children in the order in which they were made.
fn tree(parts: &[(Kind, Option<usize>)], mut content: Vec<Vec<Identifier>>) -> TagTree {
    let mut children: Vec<Vec<usize>> = vec![Vec::new(); parts.len()];
    let mut roots = Vec::new();
    for (index, (_, within)) in parts.iter().enumerate() {
        match within {
            Some(parent) => children[*parent].push(index),
            None => roots.push(index),
        }
    }
    let mut tree = TagTree::new().with_lang(Some("en".to_owned()));
    for root in roots {
        tree.push(group(root, parts, &children, &mut content));
    }
    tree
}

fn group(
    index: usize,
    parts: &[(Kind, Option<usize>)],
    children: &[Vec<usize>],
    content: &mut [Vec<Identifier>],
) -> TagGroup {
    let mut group = TagGroup::new(tag(&parts[index].0));
    for id in content[index].drain(..) {
        group.push(TagNode::Leaf(id));
    }
    for child in &children[index] {
        // At most four levels: table, row, cell.
        let child = self::group(*child, parts, children, content);
        group.push(child);
    }
    group
}

fn tag(kind: &Kind) -> TagKind {
    match kind {
        Kind::Heading(level, title) => {
            Tag::Hn(NonZeroU16::new(*level).unwrap_or(NonZeroU16::MIN), Some(title.clone())).into()
        }
        Kind::Paragraph => Tag::P.into(),
        Kind::List => Tag::L(ListNumbering::Disc).into(),
        Kind::Item => Tag::LI.into(),
        Kind::ItemBody => Tag::LBody.into(),
        Kind::Table => Tag::Table.into(),
        Kind::Row => Tag::TR.into(),
        Kind::ColumnHead => Tag::TH(TableHeaderScope::Column).into(),
        Kind::RowHead => Tag::TH(TableHeaderScope::Row).into(),
        Kind::Cell => Tag::TD.into(),
        Kind::Caption => Tag::Caption.into(),
        Kind::Figure(description) => Tag::Figure(Some(description.clone())).into(),
    }
}

fn draw(surface: &mut Surface<'_>, op: &Op<'_>, fonts: &[Font; 2], content: &mut [Vec<Identifier>]) {
    let frame = || ContentTag::Artifact(Artifact::with_kind(ArtifactType::Other));
    match op {
        Op::Text { text, .. } if text.trim().is_empty() => {}
        Op::Text { place, size, bold, colour, text, part } => {
            let id = match part {
                Part::Of(_) => surface.start_tagged(ContentTag::Span(SpanTag::empty())),
                Part::Frame => surface.start_tagged(frame()),
            };
            words(surface, *place, &fonts[usize::from(*bold)], *size, *colour, text);
            surface.end_tagged();
            if let Part::Of(index) = part {
                content[*index].push(id);
            }
        }
        Op::Rect { place, size, colour } => {
            surface.start_tagged(frame());
            area(surface, *place, *size, *colour);
            surface.end_tagged();
        }
        Op::Rule { from, to, width, colour } => {
            surface.start_tagged(frame());
            let mut path = PathBuilder::new();
            path.move_to(from.0, from.1);
            path.line_to(to.0, to.1);
            stroke(surface, path, *width, &[], *colour);
            surface.end_tagged();
        }
        Op::Chart { chart, place, scale, part } => {
            let id = surface.start_tagged(ContentTag::Other);
            surface.push_transform(&Transform::from_row(*scale, 0.0, 0.0, *scale, place.0, place.1));
            for mark in &chart.marks {
                draw_mark(surface, mark, fonts);
            }
            surface.pop();
            surface.end_tagged();
            content[*part].push(id);
        }
    }
}

fn draw_mark(surface: &mut Surface<'_>, mark: &Mark, fonts: &[Font; 2]) {
    match mark {
        Mark::Rect { x, y, width, height, fill, .. } => {
            area(surface, (*x as f32, *y as f32), (*width as f32, *height as f32), colour(*fill));
        }
        Mark::Line { points, stroke: with, .. } => {
            let dash: Vec<f32> = with.dash.iter().map(|length| *length as f32).collect();
            stroke(surface, path(points), with.width as f32, &dash, colour(with.paint));
        }
        Mark::Area { points, fill, opacity, .. } => {
            let mut path = path(points);
            path.close();
            let opacity = NormalizedF32::new(*opacity as f32).unwrap_or(NormalizedF32::ONE);
            filled(surface, path, colour(*fill), opacity);
        }
        Mark::Text { x, y, anchor, size, bold, fill, text, .. } => {
            let text = Fonts::get().known(text);
            let width = Fonts::get().width(&text, *bold, *size as f32);
            let left = match anchor {
                Anchor::Start => 0.0,
                Anchor::Middle => width / 2.0,
                Anchor::End => width,
            };
            let place = (*x as f32 - left, *y as f32);
            words(surface, place, &fonts[usize::from(*bold)], *size as f32, colour(*fill), &text);
        }
        Mark::Series { marks, .. } => marks.iter().for_each(|mark| draw_mark(surface, mark, fonts)),
    }
}

fn path(points: &[(f64, f64)]) -> PathBuilder {
    let mut path = PathBuilder::new();
    for (index, (x, y)) in points.iter().enumerate() {
        if index == 0 {
            path.move_to(*x as f32, *y as f32);
        } else {
            path.line_to(*x as f32, *y as f32);
        }
    }
    path
}

fn words(surface: &mut Surface<'_>, place: (f32, f32), font: &Font, size: f32, colour: Colour, text: &str) {
    surface.set_stroke(None);
    surface.set_fill(Some(fill(colour, NormalizedF32::ONE)));
    let place = Point::from_xy(place.0, place.1);
    surface.draw_text(place, font.clone(), size, text, false, TextDirection::Auto);
}

fn area(surface: &mut Surface<'_>, place: (f32, f32), size: (f32, f32), colour: Colour) {
    if let Some(rect) = Rect::from_xywh(place.0, place.1, size.0, size.1) {
        let mut path = PathBuilder::new();
        path.push_rect(rect);
        filled(surface, path, colour, NormalizedF32::ONE);
    }
}

fn filled(surface: &mut Surface<'_>, path: PathBuilder, colour: Colour, opacity: NormalizedF32) {
    // A path without extent is none.
    if let Some(path) = path.finish() {
        surface.set_stroke(None);
        surface.set_fill(Some(fill(colour, opacity)));
        surface.draw_path(&path);
    }
}

fn stroke(surface: &mut Surface<'_>, path: PathBuilder, width: f32, dash: &[f32], colour: Colour) {
    if let Some(path) = path.finish() {
        surface.set_fill(None);
        surface.set_stroke(Some(Stroke {
            paint: rgb(colour).into(),
            width,
            dash: (!dash.is_empty()).then(|| StrokeDash { array: dash.to_vec(), offset: 0.0 }),
            ..Stroke::default()
        }));
        surface.draw_path(&path);
    }
}

fn fill(colour: Colour, opacity: NormalizedF32) -> Fill {
    Fill { paint: rgb(colour).into(), opacity, ..Fill::default() }
}

fn rgb([red, green, blue]: Colour) -> rgb::Color {
    rgb::Color::new(red, green, blue)
}

/// The colour of a mark on white.
fn colour(paint: Paint) -> Colour {
    let hex = paint.colour();
    let channel = |at: usize| hex.get(at..at + 2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
    [1, 3, 5].map(|at| channel(at).unwrap_or(0))
}
