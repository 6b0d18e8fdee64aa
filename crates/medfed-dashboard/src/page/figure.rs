//! A chart on a page: the picture, its numbers as a table, and ways to take both along.

use maud::{Markup, PreEscaped, html};
use medfed_chart::Chart;

/// A chart with its table. `id` tells the charts of a page apart: letters, digits and hyphens.
pub(crate) fn figure(id: &str, chart: &Chart) -> Markup {
    html! {
        figure.panel id={ "figure-" (id) } data-chart=(id) {
            div.picture tabindex="0" { (PreEscaped(chart.inline(id))) }
            // The script fills these in: without it the table below says the same.
            output.reading aria-live="off" hidden {}
            div.buttons.no-print data-script hidden {
                button.small type="button" data-save="svg" { "SVG" }
                button.small type="button" data-save="csv" { "CSV" }
            }
            details {
                summary { "Numbers" }
                div.scroll {
                    table {
                        caption { (chart.title) }
                        thead { tr { @for column in &chart.table.columns { th scope="col" { (column) } } } }
                        tbody {
                            @for row in &chart.table.rows {
                                tr { @for cell in row { td { (cell) } } }
                            }
                        }
                    }
                }
            }
        }
    }
}
