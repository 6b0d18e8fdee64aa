//! A report as one HTML page: no script, no font, no picture from elsewhere; light, dark, and print.

use crate::document::{Block, Document, Section, Tone};
use medfed_chart::{Chart, Table, stylesheet};
use std::borrow::Cow;
use std::fmt::Write as _;

/// Rows of a chart's numbers that a page shows; a line over hundreds of rounds has more.
const MOST_ROWS: usize = 200;

impl Document {
    /// The report as an HTML page that needs nothing else.
    pub fn html(&self) -> String {
        let mut page = Page { out: String::new(), charts: 0 };
        page.whole(self);
        page.out
    }
}

struct Page {
    out: String,
    charts: usize,
}

impl Page {
    fn put(&mut self, text: &str) {
        self.out.push_str(text);
    }

    fn puts(&mut self, text: std::fmt::Arguments<'_>) {
        self.out.write_fmt(text).expect("a String takes every write");
    }

    fn whole(&mut self, document: &Document) {
        let title = escaped(&document.title);
        self.puts(format_args!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n<title>{title}</title>\n<style>\n{}{}</style>\n</head>\n<body>\n\
             <a class=\"skip\" href=\"#content\">Skip to the content</a>\n\
             <header>\n<h1>{title}</h1>\n<p>{}</p>\n<dl>\n",
            stylesheet(),
            include_str!("page.css"),
            escaped(&document.subtitle)
        ));
        for (name, value) in &document.facts {
            self.puts(format_args!("<div><dt>{}</dt><dd>{}</dd></div>\n", escaped(name), escaped(value)));
        }
        self.put("</dl>\n</header>\n<nav aria-label=\"Sections\">\n<ol>\n");
        for (index, section) in document.sections.iter().enumerate() {
            self.puts(format_args!("<li><a href=\"#s{}\">{}</a></li>\n", index + 1, escaped(&section.title)));
        }
        self.put("</ol>\n</nav>\n<main id=\"content\">\n");
        for (index, section) in document.sections.iter().enumerate() {
            self.section(index + 1, section);
        }
        self.put("</main>\n</body>\n</html>\n");
    }

    fn section(&mut self, number: usize, section: &Section) {
        let title = escaped(&section.title);
        self.puts(format_args!("<section id=\"s{number}\" aria-labelledby=\"h{number}\">\n<h2 id=\"h{number}\">{number}. {title}</h2>\n"));
        let mut narrow = false;
        for block in &section.blocks {
            // Narrow charts stand beside each other where there is room.
            let is_narrow = matches!(block, Block::Chart(chart) if chart.width <= 460.0);
            match (narrow, is_narrow) {
                (false, true) => self.put("<div class=\"pair\">\n"),
                (true, false) => self.put("</div>\n"),
                _ => {}
            }
            narrow = is_narrow;
            self.block(block);
        }
        if narrow {
            self.put("</div>\n");
        }
        self.put("</section>\n");
    }

    fn block(&mut self, block: &Block) {
        match block {
            Block::Heading(text) => self.puts(format_args!("<h3>{}</h3>\n", escaped(text))),
            Block::Paragraph(text) => self.puts(format_args!("<p>{}</p>\n", escaped(text))),
            Block::List(items) => self.list(items),
            Block::Verdict { tone, title, reasons } => {
                let (class, icon) = match tone {
                    Tone::Good => ("good", "M4 11l5 5L18 6"),
                    Tone::Caution => ("caution", "M11 4v9M11 16.5v1.5"),
                    Tone::Bad => ("bad", "M5 5l12 12M17 5L5 17"),
                };
                self.puts(format_args!(
                    "<div class=\"verdict {class}\">\n<svg viewBox=\"0 0 22 22\" width=\"44\" height=\"44\" aria-hidden=\"true\">\
                     <path d=\"{icon}\" fill=\"none\" stroke=\"currentColor\" stroke-width=\"2.6\" stroke-linecap=\"round\"/></svg>\n\
                     <div>\n<p class=\"word\">{}: {}</p>\n",
                    tone.word(),
                    escaped(title)
                ));
                self.list(reasons);
                self.put("</div>\n</div>\n");
            }
            Block::Table { caption, table } => {
                self.put("<div class=\"wide\" tabindex=\"0\" role=\"region\" aria-label=\"");
                self.puts(format_args!(
                    "{}\">\n<table>\n<caption>{}</caption>\n",
                    escaped(caption),
                    escaped(caption)
                ));
                self.table(table, usize::MAX);
                self.put("</table>\n</div>\n");
            }
            Block::Chart(chart) => self.chart(chart),
            Block::SignOff(names) => {
                self.put("<div class=\"signoff\">\n");
                for name in names {
                    self.puts(format_args!(
                        "<p><span class=\"line\"></span>{}<br>Name, date, signature</p>\n",
                        escaped(name)
                    ));
                }
                self.put("</div>\n");
            }
        }
    }

    fn list(&mut self, items: &[String]) {
        self.put("<ul>\n");
        for item in items {
            // What stands before a colon says what the item is about.
            match item.split_once(": ").filter(|(head, _)| head.len() < 24) {
                Some((head, rest)) => {
                    self.puts(format_args!(
                        "<li><strong>{}:</strong> {}</li>\n",
                        escaped(head),
                        escaped(rest)
                    ));
                }
                None => self.puts(format_args!("<li>{}</li>\n", escaped(item))),
            }
        }
        self.put("</ul>\n");
    }

    fn table(&mut self, table: &Table, most: usize) {
        self.put("<thead><tr>");
        for column in &table.columns {
            self.puts(format_args!("<th scope=\"col\">{}</th>", escaped(column)));
        }
        self.put("</tr></thead>\n<tbody>\n");
        for row in table.rows.iter().take(most) {
            self.put("<tr>");
            for (index, cell) in row.iter().enumerate() {
                let numeric =
                    cell.starts_with(|first: char| first.is_ascii_digit() || matches!(first, '−' | '–'));
                let class = if numeric { " class=\"n\"" } else { "" };
                match index {
                    0 => self.puts(format_args!("<th scope=\"row\">{}</th>", escaped(cell))),
                    _ => self.puts(format_args!("<td{class}>{}</td>", escaped(cell))),
                }
            }
            self.put("</tr>\n");
        }
        self.put("</tbody>\n");
    }

    fn chart(&mut self, chart: &Chart) {
        self.charts += 1;
        self.puts(format_args!(
            "<figure>\n{}\n<details>\n<summary>Numbers</summary>\n<div class=\"wide\">\n<table>\n<caption>{}</caption>\n",
            chart.inline(&format!("c{}", self.charts)),
            escaped(&chart.title)
        ));
        self.table(&chart.table, MOST_ROWS);
        self.put("</table>\n</div>\n");
        if let Some(more) = chart.table.rows.len().checked_sub(MOST_ROWS).filter(|more| *more > 0) {
            self.puts(format_args!("<p>And {more} rows more.</p>\n"));
        }
        self.put("</details>\n</figure>\n");
    }
}

/// Text as content of an element or value of an attribute.
fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(['&', '<', '>', '"', '\'']) {
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
            letter => out.push(letter),
        }
    }
    Cow::Owned(out)
}
