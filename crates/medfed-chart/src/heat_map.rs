//! Values in rows and columns, such as the accuracy of each rule under each attack.

use crate::chart::{Chart, Width};
use crate::mark::{Anchor, Mark, Stroke, bold, cut_text, rect, text};
use crate::number::{decimals, drawable, plain};
use crate::paint::Paint;
use crate::plot::{LABEL, PAD, SMALL, nothing, title};
use crate::table::Table;
use crate::text::{width as text_width, wrapped};

/// A matrix whose cells are coloured by value, with the values printed.
#[derive(Debug, Clone, PartialEq)]
pub struct HeatMap {
    /// What the chart shows.
    pub title: String,
    /// What the rows are, for the table.
    pub row_title: String,
    /// What the columns are.
    pub column_title: String,
    /// What the values are, with the unit.
    pub value_title: String,
    /// Names of the rows.
    pub rows: Vec<String>,
    /// Names of the columns.
    pub columns: Vec<String>,
    /// A cell for each column of each row; what is missing is `None`.
    pub cells: Vec<Vec<Cell>>,
    /// Values of the palest and the darkest colour; without them the smallest and the largest value.
    pub range: Option<(f64, f64)>,
    /// Decimals that are printed.
    pub decimals: usize,
    /// What an outline around a cell means.
    pub marked_means: Option<String>,
}

/// One cell of a [`HeatMap`].
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Cell {
    /// Its value; nothing when it is missing.
    pub value: Option<f64>,
    /// Whether it is outlined.
    pub marked: bool,
}

impl HeatMap {
    /// Draws it.
    pub fn draw(&self, width: Width) -> Chart {
        let whole = width.pixels();
        let mut marks = Vec::new();
        let below = title(&mut marks, &self.title, whole);
        let longest = self.rows.iter().map(|row| text_width(row, LABEL)).fold(0.0, f64::max);
        let left = PAD + longest.min(whole * 0.3) + 10.0;
        let column =
            if self.columns.is_empty() { 0.0 } else { (whole - PAD - left) / self.columns.len() as f64 };
        let heads: Vec<Vec<String>> =
            self.columns.iter().map(|name| wrapped(name, SMALL, column - 6.0, 3)).collect();
        let head_lines = heads.iter().map(Vec::len).max().unwrap_or(0);
        marks.push(cut_text(
            (left, below + LABEL),
            Anchor::Start,
            LABEL,
            Paint::Muted,
            &self.column_title,
            whole - PAD - left,
        ));
        let top = below + LABEL + 10.0 + head_lines as f64 * SMALL * 1.4 + 4.0;
        for (index, lines) in heads.iter().enumerate() {
            let centre = (index as f64 + 0.5).mul_add(column, left);
            for (line, each) in lines.iter().rev().enumerate() {
                let y = top - 7.0 - line as f64 * SMALL * 1.4;
                let tip = (lines.join(" ") != self.columns[index]).then(|| self.columns[index].clone());
                marks.push(Mark::Text {
                    x: centre,
                    y,
                    anchor: Anchor::Middle,
                    size: SMALL,
                    bold: false,
                    fill: Paint::Ink,
                    text: each.clone(),
                    tip,
                });
            }
        }

        let row = (column * 0.6).clamp(26.0, 40.0);
        let range = self.ends();
        for (index, name) in self.rows.iter().enumerate() {
            let y = (index as f64).mul_add(row, top);
            let place = (left - 8.0, y + row / 2.0 + LABEL * 0.36);
            marks.push(cut_text(place, Anchor::End, LABEL, Paint::Ink, name, left - 8.0 - PAD));
            for place in 0..self.columns.len() {
                let corner = ((place as f64).mul_add(column, left), y);
                self.cell(&mut marks, (index, place), corner, (column, row), range);
            }
        }
        // Outlines are above all cells.
        for (index, place) in self.marked() {
            let (x, y) = ((place as f64).mul_add(column, left), (index as f64).mul_add(row, top));
            marks.push(outline((x + 2.0, y + 2.0), (column - 4.0, row - 4.0)));
        }
        let mut bottom = (self.rows.len() as f64).mul_add(row, top);
        if self.rows.is_empty() || self.columns.is_empty() {
            nothing(&mut marks, (whole / 2.0, bottom + 20.0));
            bottom += 30.0;
        } else if let Some(range) = range {
            bottom = self.key(&mut marks, range, (left, bottom + 12.0), whole);
        }
        Chart {
            title: self.title.clone(),
            description: self.description(),
            width: whole,
            height: bottom + PAD,
            marks,
            plane: None,
            table: self.table(),
        }
    }

    fn at(&self, (row, column): (usize, usize)) -> Cell {
        self.cells.get(row).and_then(|cells| cells.get(column)).copied().unwrap_or_default()
    }

    fn value(&self, place: (usize, usize)) -> Option<f64> {
        self.at(place).value.and_then(drawable)
    }

    fn places(&self) -> impl Iterator<Item = (usize, usize)> {
        (0..self.rows.len()).flat_map(|row| (0..self.columns.len()).map(move |column| (row, column)))
    }

    fn marked(&self) -> impl Iterator<Item = (usize, usize)> {
        self.places().filter(|place| self.at(*place).marked)
    }

    /// Values of the palest and the darkest colour.
    fn ends(&self) -> Option<(f64, f64)> {
        let given = self
            .range
            .filter(|(low, high)| drawable(*low).is_some() && drawable(*high).is_some() && low < high);
        given.or_else(|| {
            self.places().filter_map(|place| self.value(place)).fold(
                None,
                |ends: Option<(f64, f64)>, value| {
                    Some(ends.map_or((value, value), |(low, high)| (low.min(value), high.max(value))))
                },
            )
        })
    }

    fn cell(
        &self,
        marks: &mut Vec<Mark>,
        place: (usize, usize),
        (x, y): (f64, f64),
        (wide, high): (f64, f64),
        range: Option<(f64, f64)>,
    ) {
        let value = self.value(place);
        let name = format!("{}, {}", self.rows[place.0], self.columns[place.1]);
        let centre = (x + wide / 2.0, y + high / 2.0 + LABEL * 0.36);
        let (Some(value), Some((low, high_end))) = (value, range) else {
            let fill = Paint::Track;
            let tip = Some(format!("{name}: missing"));
            marks.push(Mark::Rect {
                x: x + 1.0,
                y: y + 1.0,
                width: wide - 2.0,
                height: high - 2.0,
                fill,
                tip,
            });
            marks.push(text(centre, Anchor::Middle, LABEL, Paint::Muted, "–"));
            return;
        };
        let heat = if high_end > low { ((value - low) / (high_end - low)).clamp(0.0, 1.0) } else { 0.5 };
        let tip = Some(format!("{name}: {}", plain(value)));
        let fill = Paint::Heat(heat);
        marks.push(Mark::Rect { x: x + 1.0, y: y + 1.0, width: wide - 2.0, height: high - 2.0, fill, tip });
        let shown = decimals_kept(value, self.decimals);
        let size = if text_width(&shown, LABEL) > wide - 6.0 { 9.0 } else { LABEL };
        let shown = crate::text::shortened(&shown, size, wide - 4.0).into_owned();
        let write = if self.at(place).marked { bold } else { text };
        marks.push(write(centre, Anchor::Middle, size, Paint::OnHeat(heat), shown));
    }

    /// Draws the scale of colours and what an outline means; returns where it ends.
    fn key(
        &self,
        marks: &mut Vec<Mark>,
        (low, high): (f64, f64),
        (left, top): (f64, f64),
        whole: f64,
    ) -> f64 {
        const STEPS: usize = 24;
        let ends = [low, high].map(|end| decimals(end, self.decimals));
        let bar = 120.0;
        let mut x = left;
        marks.push(text((x, top + 10.0), Anchor::Start, SMALL, Paint::Muted, ends[0].clone()));
        x += text_width(&ends[0], SMALL) + 6.0;
        for step in 0..STEPS {
            let part = bar / STEPS as f64;
            let fill = Paint::Heat(if high > low { step as f64 / (STEPS - 1) as f64 } else { 0.5 });
            marks.push(rect(((step as f64).mul_add(part, x), top), (part + 0.3, 12.0), fill));
        }
        x += bar + 6.0;
        marks.push(text((x, top + 10.0), Anchor::Start, SMALL, Paint::Muted, ends[1].clone()));
        x += text_width(&ends[1], SMALL) + 12.0;
        let mut y = top;
        let room = whole - PAD - x;
        let (place, room) = if text_width(&self.value_title, SMALL) <= room {
            (x, room)
        } else {
            y += 18.0;
            (left, whole - PAD - left)
        };
        marks.push(cut_text((place, y + 10.0), Anchor::Start, SMALL, Paint::Muted, &self.value_title, room));
        if let Some(meaning) = self.marked_means.as_deref().filter(|_| self.marked().next().is_some()) {
            y += 20.0;
            marks.push(outline((left, y), (16.0, 12.0)));
            let room = whole - PAD - left - 24.0;
            marks.push(cut_text((left + 24.0, y + 10.0), Anchor::Start, SMALL, Paint::Muted, meaning, room));
        }
        y + 14.0
    }

    fn description(&self) -> String {
        let known = || self.places().filter_map(|place| Some((self.value(place)?, place)));
        let lowest = known().min_by(|a, b| a.0.total_cmp(&b.0));
        let highest = known().max_by(|a, b| a.0.total_cmp(&b.0));
        let what = format!("{} for each of {} by {}.", self.value_title, self.row_title, self.column_title);
        let Some((lowest, highest)) = lowest.zip(highest) else { return format!("{what} No data.") };
        let name = |(value, (row, column)): (f64, (usize, usize))| {
            format!("{} for {} and {}", plain(value), self.rows[row], self.columns[column])
        };
        format!("{what} Lowest {}; highest {}.", name(lowest), name(highest))
    }

    fn table(&self) -> Table {
        let cell = |place: (usize, usize)| {
            let value =
                self.value(place).map_or_else(|| "–".to_owned(), |value| decimals_kept(value, self.decimals));
            if self.at(place).marked { format!("{value} *") } else { value }
        };
        let row = |index: usize| {
            let cells = (0..self.columns.len()).map(|column| cell((index, column)));
            std::iter::once(self.rows[index].clone()).chain(cells).collect()
        };
        let head = std::iter::once(self.row_title.clone()).chain(self.columns.iter().cloned());
        Table { columns: head.collect(), rows: (0..self.rows.len()).map(row).collect() }
    }
}

/// Printed with as many decimals as its neighbours, also where they are zeros.
fn decimals_kept(value: f64, places: usize) -> String {
    if value.abs() >= 1e7 {
        plain(value)
    } else {
        format!("{value:.*}", places.min(8)).replacen('-', "−", 1)
    }
}

fn outline((x, y): (f64, f64), (width, height): (f64, f64)) -> Mark {
    let points = vec![(x, y), (x + width, y), (x + width, y + height), (x, y + height), (x, y)];
    Mark::Line { points, stroke: Stroke::solid(Paint::Alert, 2.5), tip: None }
}
