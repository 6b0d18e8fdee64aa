//! A chart on a page: the picture, its numbers as a table, and ways to take both along.

use maud::{Markup, PreEscaped, html};
use medfed_chart::{Chart, Table};

/// Cells of a table that a page holds; of more rows only every second, third and so on is shown.
const CELLS: usize = 240;

/// A chart with its table. `id` tells the charts of a page apart: letters, digits and hyphens.
pub(crate) fn figure(id: &str, chart: &Chart) -> Markup {
    let step = step(&chart.table);
    html! {
        figure.panel id={ "figure-" (id) } data-chart=(id) {
            div.picture tabindex="0" role="group" aria-label={ (chart.title) ". Arrow keys read the values." } {
                (PreEscaped(chart.inline(id)))
            }
            // The script fills these in: without it the table below says the same.
            output.reading aria-live="polite" {}
            div.legend.buttons.no-print {}
            details.no-print {
                summary { "Numbers" }
                div.buttons data-script hidden {
                    button.small type="button" data-save="svg" { "Save picture (SVG)" }
                    button.small type="button" data-save="csv" { "Save numbers (CSV)" }
                }
                @if step > 1 {
                    p.note { "Every " (ordinal(step)) " row of " (chart.table.rows.len()) "; the report in HTML has them all." }
                }
                div.scroll tabindex="0" role="group" aria-label={ "Numbers: " (chart.title) } { (table(&chart.table, step)) }
            }
        }
    }
}

/// How many rows lie between two that are shown.
fn step(table: &Table) -> usize {
    (table.rows.len() * table.columns.len().max(1)).div_ceil(CELLS).max(1)
}

/// Every `step`th row, the last one always. Browsers add the closing tags.
fn table(table: &Table, step: usize) -> Markup {
    let last = table.rows.len().saturating_sub(1);
    let shown = table.rows.iter().enumerate().filter(|(at, _)| at % step == 0 || *at == last);
    let mut rows = String::new();
    for (_, row) in shown {
        rows.push_str("<tr>");
        for cell in row {
            rows.push_str("<td>");
            rows.push_str(&html! { (cell) }.into_string());
        }
    }
    html! {
        table.numbers {
            thead { tr { @for column in &table.columns { th scope="col" { (column) } } } }
            tbody { (PreEscaped(rows)) }
        }
    }
}

fn ordinal(number: usize) -> String {
    match number {
        2 => "second".to_owned(),
        3 => "third".to_owned(),
        other => format!("{other}th"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_tables_are_thinned_and_keep_their_ends() {
        let rows: Vec<Vec<String>> = (0..2000).map(|row| vec![row.to_string(), "<b>".to_owned()]).collect();
        let long = Table { columns: vec!["round".to_owned(), "loss".to_owned()], rows };
        let step = step(&long);
        let html = table(&long, step).into_string();
        assert_eq!(step, 17);
        assert!(html.matches("<tr>").count() <= CELLS / 2 + 2);
        assert!(html.contains("<td>0<td>&lt;b&gt;") && html.contains("<td>1999<td>"));
        let short = Table { columns: vec!["round".to_owned()], rows: vec![vec!["1".to_owned()]] };
        assert_eq!(self::step(&short), 1);
    }
}
