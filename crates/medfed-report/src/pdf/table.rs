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
        let columns = Columns::of(table);
        // The largest size at which no word has to be broken, if there is one.
        let fits = [8.5, 8.0, 7.5, 7.0, 6.5].into_iter().find(|size| columns.at(*size).1);
        // Few columns have room for words that are broken.
        let size = fits.unwrap_or(if table.columns.len() > 4 { 6.0 } else { 8.0 });
        let (widths, _) = columns.at(size);
        let whole = self.pages.part(Kind::Table, None);
        // A short table stays whole, a long one has at least a few rows on its first page.
        let rows = table.rows.iter().map(|cells| height(cells, &widths, size, false));
        let high: f32 = rows.take(16).sum::<f32>() + height(&table.columns, &widths, size, true) + 16.0;
        self.need(if high < 240.0 { high } else { 80.0 });
        let name = self.pages.part(Kind::Caption, Some(whole));
        for line in Fonts::get().wrapped(caption, true, 9.0, WIDTH) {
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
            for (line, text) in lines(cell, of.head, size, *width).into_iter().enumerate() {
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
    let lines = cells.iter().zip(widths).map(|(cell, width)| lines(cell, bold, size, *width).len());
    lines.max().unwrap_or(1) as f32 * size * 1.3 + 2.0 * PAD + 1.0
}

/// A cell in lines; what would not fit a page with its neighbours is cut.
fn lines(cell: &str, bold: bool, size: f32, width: f32) -> Vec<String> {
    const LETTERS: usize = 1000;
    const LINES: usize = 24;
    let end = cell.char_indices().nth(LETTERS).map_or(cell.len(), |(end, _)| end);
    let mut lines = Fonts::get().wrapped(&cell[..end], bold, size, width);
    if lines.len() > LINES || end < cell.len() {
        lines.truncate(LINES - 1);
        lines.push("…".to_owned());
    }
    lines
}

/// What the columns of a table want, at font size 1.
struct Columns {
    /// Widths at which no word is broken.
    least: Vec<f32>,
    /// Widths at which no line is broken.
    wish: Vec<f32>,
}

impl Columns {
    fn of(table: &Table) -> Self {
        let fonts = Fonts::get();
        let measure = |index: usize| {
            let head = table.columns.get(index).map(|head| (head, true));
            let cells = table.rows.iter().filter_map(|row| row.get(index)).map(|cell| (cell, false));
            head.into_iter().chain(cells).fold((0f32, 0f32), |(least, wish), (cell, bold)| {
                let cell = fonts.known(cell);
                let word = cell.split(' ').map(|word| fonts.width(word, bold, 1.0)).fold(least, f32::max);
                (word, wish.max(fonts.width(&cell, bold, 1.0)))
            })
        };
        let (least, wish) = (0..table.columns.len()).map(measure).unzip();
        Self { least, wish }
    }

    /// Widths at a font size, and whether no word has to be broken.
    fn at(&self, size: f32) -> (Vec<f32>, bool) {
        let room = WIDTH - GAP * self.wish.len().saturating_sub(1) as f32;
        // Sums of rounded numbers are a little off.
        let scaled = |widths: &[f32]| -> Vec<f32> { widths.iter().map(|width| width * size + 0.5).collect() };
        let (least, wish) = (scaled(&self.least), scaled(&self.wish));
        let (least_sum, wish_sum) = (least.iter().sum::<f32>(), wish.iter().sum::<f32>());
        if wish_sum <= room {
            return (wish, true);
        }
        if least_sum > room {
            // A column that wants little gets it; the others share what is left.
            let fair = room / least.len() as f32;
            let small: f32 = least.iter().filter(|width| **width <= fair).sum();
            let large: f32 = least.iter().filter(|width| **width > fair).sum();
            let share = (room - small) / large;
            return (
                least.iter().map(|width| if *width <= fair { *width } else { width * share }).collect(),
                false,
            );
        }
        // What is left goes to the columns that want more, as much as they want more.
        let share = (room - least_sum) / (wish_sum - least_sum);
        (least.iter().zip(&wish).map(|(least, wish)| (wish - least).mul_add(share, *least)).collect(), true)
    }
}
