//! A report as PDF: text that can be searched and selected, charts as vectors, an outline, and the structure
//! that screen readers need (PDF/UA-1).

mod font;
mod page;
mod table;

use crate::document::{Block, Document, Section, Tone};
use crate::error::ReportError;
use font::Fonts;
use medfed_chart::Chart;
use page::{Colour, Kind, Op, PAGE, Pages, Part};

const LEFT: f32 = 51.0;
const WIDTH: f32 = PAGE.0 - 2.0 * LEFT;
const TOP: f32 = 54.0;
const BOTTOM: f32 = PAGE.1 - 60.0;
const BODY: f32 = 9.5;

const INK: Colour = [0x1b, 0x1f, 0x24];
const MUTED: Colour = [0x57, 0x60, 0x6a];
const RULE: Colour = [0xc8, 0xcf, 0xd6];
const PANEL: Colour = [0xf4, 0xf6, 0xf8];

impl Document {
    /// The report as a PDF file.
    pub fn pdf(&self) -> Result<Vec<u8>, ReportError> {
        let mut layout = Layout { pages: Pages::default(), y: TOP };
        layout.pages.sheets.push(Vec::new());
        layout.head(self);
        for (index, section) in self.sections.iter().enumerate() {
            layout.section(index + 1, section);
        }
        layout.footers(&self.title);
        layout.pages.write(&self.title, &self.subtitle)
    }
}

/// Where the next thing goes.
struct Layout<'a> {
    pages: Pages<'a>,
    y: f32,
}

impl<'a> Layout<'a> {
    fn draw(&mut self, op: Op<'a>) {
        if let Some(page) = self.pages.sheets.last_mut() {
            page.push(op);
        }
    }

    fn break_page(&mut self) {
        self.pages.sheets.push(Vec::new());
        self.y = TOP;
    }

    /// Makes sure that so much fits on the page.
    fn need(&mut self, height: f32) {
        if self.y + height > BOTTOM && self.y > TOP {
            self.break_page();
        }
    }

    /// One line of text that is part of `part`.
    fn line(&mut self, text: &str, size: f32, bold: bool, colour: Colour, part: usize, indent: f32) {
        self.need(size * 1.4);
        let place = (LEFT + indent, self.y + size);
        self.draw(Op::Text { place, size, bold, colour, text: text.to_owned(), part: Part::Of(part) });
        self.y += size * 1.4;
    }

    fn head(&mut self, document: &Document) {
        let fonts = Fonts::get();
        let part = self.pages.part(Kind::Heading(1, document.title.clone()), None);
        for line in fonts.wrapped(&document.title, true, 20.0, WIDTH) {
            self.line(&line, 20.0, true, INK, part, 0.0);
        }
        self.paragraph(&document.subtitle, MUTED);
        let part = self.pages.part(Kind::Paragraph, None);
        let widest = document.facts.iter().map(|(name, _)| fonts.width(name, false, 8.5)).fold(0.0, f32::max);
        for (name, value) in &document.facts {
            let lines = fonts.wrapped(value, false, 8.5, WIDTH - widest - 12.0);
            let place = (LEFT, self.y + 8.5);
            let text = format!("{} ", fonts.known(name));
            self.draw(Op::Text { place, size: 8.5, bold: false, colour: MUTED, text, part: Part::Of(part) });
            for line in lines {
                self.line(&line, 8.5, false, INK, part, widest + 12.0);
            }
        }
        self.y += 8.0;
    }

    fn section(&mut self, number: usize, section: &'a Section) {
        self.y += 12.0;
        self.need(90.0);
        let title = format!("{number}. {}", section.title);
        self.pages.bookmark(&title, self.y);
        let part = self.pages.part(Kind::Heading(2, title.clone()), None);
        self.draw(Op::Rule { from: (LEFT, self.y), to: (LEFT + WIDTH, self.y), width: 1.2, colour: RULE });
        self.y += 8.0;
        self.line(&title, 14.0, true, INK, part, 0.0);
        self.y += 3.0;
        let mut blocks = section.blocks.iter().peekable();
        while let Some(block) = blocks.next() {
            match (block, blocks.peek()) {
                // A heading stays with what follows it.
                (Block::Heading(_), Some(Block::Chart(chart))) => {
                    self.need(chart.height as f32 * scale(chart) + 40.0);
                    self.block(block);
                }
                (Block::Chart(left), Some(Block::Chart(right))) if is_narrow(left) && is_narrow(right) => {
                    self.pair(left, right);
                    blocks.next();
                }
                _ => self.block(block),
            }
        }
    }

    /// Two narrow charts beside each other.
    fn pair(&mut self, left: &'a Chart, right: &'a Chart) {
        const GAP: f32 = 8.0;
        let scale = (WIDTH - GAP) / (left.width + right.width) as f32;
        let height = left.height.max(right.height) as f32 * scale;
        self.need(height);
        let mut x = LEFT;
        for chart in [left, right] {
            let part = self.figure(chart);
            self.draw(Op::Chart { chart, place: (x, self.y), scale, part });
            x += chart.width as f32 * scale + GAP;
        }
        self.y += height + 6.0;
    }

    /// The part of the structure that a chart is.
    fn figure(&mut self, chart: &Chart) -> usize {
        self.pages.part(Kind::Figure(format!("{}. {}", chart.title, chart.description)), None)
    }

    fn block(&mut self, block: &'a Block) {
        match block {
            Block::Heading(text) => {
                self.y += 6.0;
                self.need(70.0);
                let part = self.pages.part(Kind::Heading(3, text.clone()), None);
                for line in Fonts::get().wrapped(text, true, 11.0, WIDTH) {
                    self.line(&line, 11.0, true, INK, part, 0.0);
                }
                self.y += 2.0;
            }
            Block::Paragraph(text) => self.paragraph(text, INK),
            Block::List(items) => self.list(items, LEFT, WIDTH, INK),
            Block::Verdict { tone, title, reasons } => self.verdict(*tone, title, reasons),
            Block::Table { caption, table } => self.table(caption, table),
            Block::Chart(chart) => self.chart(chart),
            Block::SignOff(names) => self.sign_off(names),
        }
    }

    fn paragraph(&mut self, text: &str, colour: Colour) {
        let part = self.pages.part(Kind::Paragraph, None);
        for line in Fonts::get().wrapped(text, false, BODY, WIDTH) {
            self.line(&line, BODY, false, colour, part, 0.0);
        }
        self.y += 4.0;
    }

    fn list(&mut self, items: &[String], left: f32, width: f32, colour: Colour) {
        const INDENT: f32 = 12.0;
        let list = self.pages.part(Kind::List, None);
        for item in items {
            let part = self.pages.part(Kind::Item, Some(list));
            let body = self.pages.part(Kind::ItemBody, Some(part));
            self.need(BODY * 1.4);
            let place = (left + 2.0, self.y + BODY);
            self.draw(Op::Text {
                place,
                size: BODY,
                bold: false,
                colour: MUTED,
                text: "•".to_owned(),
                part: Part::Frame,
            });
            for line in Fonts::get().wrapped(item, false, BODY, width - INDENT) {
                self.line(&line, BODY, false, colour, body, left - LEFT + INDENT);
            }
            self.y += 2.0;
        }
        self.y += 3.0;
    }

    fn verdict(&mut self, tone: Tone, title: &str, reasons: &[String]) {
        let colour = match tone {
            Tone::Good => [0x00, 0x69, 0x4e],
            Tone::Caution => [0x8a, 0x5a, 0x00],
            Tone::Bad => [0xb0, 0x2a, 0x00],
        };
        let inside = WIDTH - 36.0;
        let lines =
            reasons.iter().map(|reason| Fonts::get().wrapped(reason, false, BODY, inside - 12.0).len());
        let lines = lines.sum::<usize>() as f32;
        let height = lines * BODY * 1.4 + reasons.len() as f32 * 2.0 + 45.0;
        self.need(height.min(BOTTOM - TOP));
        let top = self.y;
        self.draw(Op::Rect { place: (LEFT, top), size: (WIDTH, height - 6.0), colour: PANEL });
        self.draw(Op::Rect { place: (LEFT, top), size: (6.0, height - 6.0), colour });
        self.y += 10.0;
        let part = self.pages.part(Kind::Paragraph, None);
        self.line(&format!("{}: {title}", tone.word()), 14.0, true, colour, part, 20.0);
        self.y += 3.0;
        self.list(reasons, LEFT + 18.0, inside, INK);
        self.y = self.y.max(top + height);
    }

    fn chart(&mut self, chart: &'a Chart) {
        let mut scale = scale(chart);
        // Rather a little smaller than on the next page.
        let left = (BOTTOM - self.y) / (chart.height as f32 * scale);
        if (0.75..1.0).contains(&left) {
            scale *= left;
        }
        let height = chart.height as f32 * scale;
        self.need(height - 1.0);
        let part = self.figure(chart);
        self.draw(Op::Chart { chart, place: (LEFT, self.y), scale, part });
        self.y += height + 6.0;
    }

    fn sign_off(&mut self, names: &[String]) {
        self.need(80.0);
        let wide = WIDTH / names.len().max(1) as f32;
        self.y += 42.0;
        for (index, name) in names.iter().enumerate() {
            let x = LEFT + index as f32 * wide;
            self.draw(Op::Rule { from: (x, self.y), to: (x + wide - 16.0, self.y), width: 0.7, colour: INK });
            let part = Part::Of(self.pages.part(Kind::Paragraph, None));
            for (line, text) in [name.as_str(), "Name, date, signature"].into_iter().enumerate() {
                let place = (x, self.y + 12.0 + 11.0 * line as f32);
                let text = Fonts::get().known(text);
                self.draw(Op::Text { place, size: 8.0, bold: false, colour: MUTED, text, part });
            }
        }
        self.y += 36.0;
    }

    fn footers(&mut self, title: &str) {
        let fonts = Fonts::get();
        let all = self.pages.sheets.len();
        let y = PAGE.1 - 34.0;
        let title = fonts.wrapped(title, false, 8.0, WIDTH - 90.0).swap_remove(0);
        for (index, page) in self.pages.sheets.iter_mut().enumerate() {
            let number = format!("Page {} of {all}", index + 1);
            let right = LEFT + WIDTH - fonts.width(&number, false, 8.0);
            for (x, text) in [(LEFT, title.clone()), (right, number)] {
                page.push(Op::Text {
                    place: (x, y),
                    size: 8.0,
                    bold: false,
                    colour: MUTED,
                    text,
                    part: Part::Frame,
                });
            }
        }
    }
}

/// Points for each pixel of a chart: small charts keep their size, one that is higher than a page is made
/// smaller.
fn scale(chart: &Chart) -> f32 {
    (WIDTH / chart.width as f32).min(0.72).min((BOTTOM - TOP - 40.0) / chart.height as f32)
}

/// Whether two such charts fit beside each other.
fn is_narrow(chart: &Chart) -> bool {
    chart.width <= 460.0
}
