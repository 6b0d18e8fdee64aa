//! A section of the report as part of a page.

use super::figure::figure;
use maud::{Markup, html};
use medfed_chart::Table;
use medfed_report::{Block, Section, Tone};

/// The section without its title. `id` tells the sections of a page apart.
pub(crate) fn blocks(id: &str, section: &Section) -> Markup {
    let numbered: Vec<(usize, &Block)> = section.blocks.iter().enumerate().collect();
    let is_chart = |block: &Block| matches!(block, Block::Chart(_));
    html! {
        // Charts that follow each other stand beside each other.
        @for neighbours in numbered.chunk_by(|a, b| is_chart(a.1) && is_chart(b.1)) {
            @if is_chart(neighbours[0].1) {
                div.columns { @for (number, block) in neighbours { (self::block(&format!("{id}-{number}"), block)) } }
            } @else {
                @for (number, block) in neighbours { (self::block(&format!("{id}-{number}"), block)) }
            }
        }
    }
}

/// The section as a live part of the page, under its title.
pub(crate) fn section(id: &str, section: &Section) -> Markup {
    html! {
        section id=(id) data-live aria-labelledby={ (id) "-title" } {
            h2 #{ (id) "-title" } { (section.title) }
            (blocks(id, section))
        }
    }
}

fn block(id: &str, block: &Block) -> Markup {
    match block {
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
        div.scroll.panel tabindex="0" role="region" aria-label=(caption) {
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

fn is_number(cell: &str) -> bool {
    cell.starts_with(|first: char| first.is_ascii_digit() || matches!(first, '−' | '–'))
}
