//! Tables on pages: widths of columns, rows that stay whole, heads that return.

use super::Layout;
use super::font::Fonts;
use super::page::{Kind, Op, Part};
use super::{INK, LEFT, MUTED, RULE, WIDTH};
use medfed_chart::Table;

/// Between two columns, in points.
const GAP: f32 = 8.0;
const PAD: f32 = 2.5;

impl Layout<'_> {
    pub(super) fn table(&mut self, caption: &str, table: &Table) {
        let fonts = Fonts::get();
        // The largest size at which no word has to be broken, if there is one.
        let size = [8.5, 8.0, 7.5, 7.0, 6.5, 6.0]
            .into_iter()
            .find(|size| columns(table, *size, fonts).1)
            .unwrap_or(6.0);
        let (widths, _) = columns(table, size, fonts);
        let whole = self.pages.part(Kind::Table, None);
        self.need(4.0 * size * 2.0);
        let name = self.pages.part(Kind::Caption, Some(whole));
        for line in fonts.wrapped(caption, true, 9.0, WIDTH) {
            self.line(&line, 9.0, true, INK, name, 0.0);
        }
        self.y += 2.0;
        let head = self.pages.part(Kind::Row, Some(whole));
        self.row(&table.columns, &widths, size, RowOf { part: head, head: true, again: false });
        for cells in &table.rows {
            let height = height(cells, &widths, size, false);
            if self.y + height > super::BOTTOM {
                self.break_page();
                self.row(&table.columns, &widths, size, RowOf { part: head, head: true, again: true });
            }
            let part = self.pages.part(Kind::Row, Some(whole));
            self.row(cells, &widths, size, RowOf { part, head: false, again: false });
        }
        self.y += 8.0;
    }

    fn row(&mut self, cells: &[String], widths: &[f32], size: f32, of: RowOf) {
        let fonts = Fonts::get();
        let top = self.y + PAD;
        let mut x = LEFT;
        for (index, (cell, width)) in cells.iter().zip(widths).enumerate() {
            let kind = match (of.head, index) {
                (true, _) => Kind::ColumnHead,
                (false, 0) => Kind::RowHead,
                (false, _) => Kind::Cell,
            };
            // A head that returns on the next page is no second head.
            let part = if of.again { Part::Frame } else { Part::Of(self.pages.part(kind, Some(of.part))) };
            for (line, text) in fonts.wrapped(cell, of.head, size, *width).into_iter().enumerate() {
                let y = top + size + line as f32 * size * 1.3;
                let colour = if of.head { MUTED } else { INK };
                self.draw(Op::Text { place: (x, y), size, bold: of.head, colour, text, part });
            }
            x += width + GAP;
        }
        self.y += height(cells, widths, size, of.head);
        let right = LEFT + widths.iter().sum::<f32>() + GAP * widths.len().saturating_sub(1) as f32;
        let width = if of.head { 0.8 } else { 0.4 };
        self.draw(Op::Rule { from: (LEFT, self.y), to: (right, self.y), width, colour: RULE });
    }
}

#[derive(Debug, Clone, Copy)]
struct RowOf {
    part: usize,
    head: bool,
    /// Whether it only repeats the head of the table.
    again: bool,
}

fn height(cells: &[String], widths: &[f32], size: f32, bold: bool) -> f32 {
    let lines =
        cells.iter().zip(widths).map(|(cell, width)| Fonts::get().wrapped(cell, bold, size, *width).len());
    lines.max().unwrap_or(1) as f32 * size * 1.3 + 2.0 * PAD + 1.0
}

/// Widths of the columns, and whether every word fits its column.
fn columns(table: &Table, size: f32, fonts: &Fonts) -> (Vec<f32>, bool) {
    let count = table.columns.len().max(1);
    let room = WIDTH - GAP * (count - 1) as f32;
    let over = |index: usize, measure: &dyn Fn(&str, bool) -> f32| {
        let head = table.columns.get(index).map_or(0.0, |head| measure(head, true));
        let cells = table.rows.iter().filter_map(|row| row.get(index)).map(|cell| measure(cell, false));
        cells.fold(head, f32::max) + 0.5
    };
    let least: Vec<f32> =
        (0..count).map(|index| over(index, &|text, bold| fonts.widest_word(text, bold, size))).collect();
    let wish: Vec<f32> = (0..count)
        .map(|index| over(index, &|text, bold| fonts.width(&fonts.known(text), bold, size)))
        .collect();
    let (least_sum, wish_sum) = (least.iter().sum::<f32>(), wish.iter().sum::<f32>());
    if wish_sum <= room {
        return (wish, true);
    }
    if least_sum > room {
        return (least.iter().map(|width| width / least_sum * room).collect(), false);
    }
    // What is left goes to the columns that want more, as much as they want more.
    let share = (room - least_sum) / (wish_sum - least_sum);
    (least.iter().zip(&wish).map(|(least, wish)| (wish - least).mul_add(share, *least)).collect(), true)
}
