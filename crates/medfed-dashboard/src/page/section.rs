//! A section of the report as part of a page.

use super::figure::figure;
use maud::{Markup, html};
use medfed_chart::Table;
use medfed_report::{Block, Section, Tone};

/// How deep the headings within a section are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    /// The section is the whole page.
    Page,
    /// The section has a title of its own.
    Section,
}

/// The section without its title. `id` tells the sections of a page apart.
pub(crate) fn blocks(id: &str, section: &Section, depth: Depth) -> Markup {
    let numbered: Vec<(usize, &Block)> = section.blocks.iter().enumerate().collect();
    let is_chart = |block: &Block| matches!(block, Block::Chart(_));
    html! {
        // Charts that follow each other stand beside each other.
        @for neighbours in numbered.chunk_by(|a, b| is_chart(a.1) && is_chart(b.1)) {
            @if is_chart(neighbours[0].1) {
                div.columns { @for (number, block) in neighbours { (self::block(&format!("{id}-{number}"), block, depth)) } }
            } @else {
                @for (number, block) in neighbours { (self::block(&format!("{id}-{number}"), block, depth)) }
            }
        }
    }
}

/// The section as a live part of the page, under its title.
pub(crate) fn section(id: &str, section: &Section) -> Markup {
    html! {
        section id=(id) data-live aria-labelledby={ (id) "-title" } {
            h2 #{ (id) "-title" } { (section.title) }
            (blocks(id, section, Depth::Section))
        }
    }
}

fn block(id: &str, block: &Block, depth: Depth) -> Markup {
    match block {
        Block::Heading(text) if depth == Depth::Page => html! { h2 { (text) } },
        Block::Heading(text) => html! { h3 { (text) } },
        Block::Paragraph(text) => html! { p { (text) } },
        Block::List(items) => html! { ul { @for item in items { li { (item) } } } },
        Block::Verdict { tone, title, reasons } => {
            let (class, mark) = match tone {
                Tone::Good => ("good", "✓"),
                Tone::Caution => ("warn", "!"),
                Tone::Bad => ("bad", "✗"),
            };
            html! {
                div.notice.(class) {
                    p.verdict.lead { span.mark.(class) aria-hidden="true" { (mark) } strong { (tone.word()) ": " (title) } }
                    ul { @for reason in reasons { li { (reason) } } }
                }
            }
        }
        Block::Table { caption, table } => rows(caption, table),
        Block::Chart(chart) => figure(id, chart),
        Block::SignOff(names) => html! {
            div.signoff {
                @for name in names { p { span.line {} (name) br; "Name, date, signature" } }
            }
        },
    }
}

fn rows(caption: &str, table: &Table) -> Markup {
    html! {
        div.scroll.panel tabindex="0" role="group" aria-label=(caption) {
            table {
                caption { (caption) }
                thead {
                    tr {
                        @for (at, column) in table.columns.iter().enumerate() {
                            @let numbers = at > 0 && !table.rows.is_empty()
                                && table.rows.iter().all(|row| row.get(at).is_some_and(|cell| is_number(cell)));
                            th.number[numbers] scope="col" { (column) }
                        }
                    }
                }
                tbody {
                    @for row in &table.rows {
                        tr {
                            @for (column, cell) in row.iter().enumerate() {
                                @if column == 0 { th scope="row" { (cell) } } @else { td.number[is_number(cell)] { (cell) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Whether a cell is aligned as numbers are: a number, an interval of two, or the lack of one.
fn is_number(cell: &str) -> bool {
    let unsigned = cell.trim_start_matches(['-', '−', '≥', '≤', '<', '>', ' ']);
    cell == "not defined"
        || cell == "–"
        || (unsigned.starts_with(|first: char| first.is_ascii_digit()) && !cell.contains(" – "))
}

#[cfg(test)]
mod tests {
    use super::is_number;

    #[test]
    fn numbers_intervals_and_gaps_are_told_from_names() {
        for cell in ["1", "0.5", "-0.117 to 0.064", "−3", "≥ 0.2", "100 %", "–", "not defined"] {
            assert!(is_number(cell), "{cell}");
        }
        for cell in ["", "hospital_1", "18-40 – 40-60", "F – M", "not measured"] {
            assert!(!is_number(cell), "{cell}");
        }
    }
}
