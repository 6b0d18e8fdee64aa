//! Which classes are taken for which.

use crate::chart::{Chart, Width};
use crate::mark::{Anchor, Mark, bold, cut_text, text};
use crate::number::count;
use crate::paint::Paint;
use crate::plot::{LABEL, PAD, SMALL, nothing, title};
use crate::table::Table;
use crate::text::width as text_width;

/// Counts of predicted classes by true class, coloured by their share of the true class.
#[derive(Debug, Clone, PartialEq)]
pub struct ConfusionMatrix {
    /// What the chart shows.
    pub title: String,
    /// Names of the classes.
    pub classes: Vec<String>,
    /// `counts[true class][predicted class]`; what is missing is 0.
    pub counts: Vec<Vec<u64>>,
}

impl ConfusionMatrix {
    /// Draws it.
    pub fn draw(&self, width: Width) -> Chart {
        let whole = width.pixels();
        let mut marks = Vec::new();
        let below = title(&mut marks, &self.title, whole);
        let classes = self.classes.len();
        let longest = self.classes.iter().map(|class| text_width(class, LABEL)).fold(0.0, f64::max);
        let left = PAD + longest.clamp(60.0, whole * 0.3) + 10.0;
        let cell = ((whole - PAD - left) / classes.max(1) as f64).min(130.0);
        let high = (cell * 0.6).clamp(24.0, 60.0);
        let room = whole - PAD - left;
        let place = (left, below + LABEL);
        marks.push(cut_text(place, Anchor::Start, LABEL, Paint::Muted, "predicted class", room));
        marks.push(cut_text(
            (PAD, below + LABEL + 20.0),
            Anchor::Start,
            LABEL,
            Paint::Muted,
            "true class",
            left - PAD - 8.0,
        ));
        let top = below + LABEL + 28.0;
        for (index, class) in self.classes.iter().enumerate() {
            let centre = (index as f64 + 0.5).mul_add(cell, left);
            marks.push(cut_text((centre, top - 8.0), Anchor::Middle, LABEL, Paint::Ink, class, cell - 4.0));
            let middle = (index as f64 + 0.5).mul_add(high, top) + LABEL * 0.36;
            marks.push(cut_text(
                (left - 8.0, middle),
                Anchor::End,
                LABEL,
                Paint::Ink,
                class,
                left - 8.0 - PAD,
            ));
        }
        for row in 0..classes {
            let all = self.of_class(row);
            for column in 0..classes {
                let (x, y) = ((column as f64).mul_add(cell, left), (row as f64).mul_add(high, top));
                let found = self.at(row, column);
                let share = if all == 0 { 0.0 } else { found as f64 / all as f64 };
                let tip = format!(
                    "{} taken for {}: {} of {}",
                    self.classes[row],
                    self.classes[column],
                    count(found),
                    count(all)
                );
                marks.push(Mark::Rect {
                    x: x + 1.0,
                    y: y + 1.0,
                    width: cell - 2.0,
                    height: high - 2.0,
                    fill: Paint::Heat(share),
                    tip: Some(tip),
                });
                let number = count(found);
                let size = if text_width(&number, 13.0) > cell - 4.0 { 9.0 } else { 13.0 };
                let number = crate::text::shortened(&number, size, cell - 2.0).into_owned();
                let (centre, ink) = (x + cell / 2.0, Paint::OnHeat(share));
                let middle = y + high / 2.0;
                let write = if row == column { bold } else { text };
                if high < 36.0 || all == 0 {
                    marks.push(write((centre, middle + size * 0.36), Anchor::Middle, size, ink, number));
                } else {
                    marks.push(write((centre, middle - 1.0), Anchor::Middle, size, ink, number));
                    let percent = format!("{:.0} %", share * 100.0);
                    if text_width(&percent, SMALL) <= cell - 4.0 {
                        marks.push(text((centre, middle + 15.0), Anchor::Middle, SMALL, ink, percent));
                    }
                }
            }
        }
        let mut bottom = (classes as f64).mul_add(high, top);
        if classes == 0 {
            nothing(&mut marks, (whole / 2.0, bottom + 10.0));
            bottom += 24.0;
        } else {
            let words = "Colour and per cent: share of the true class.";
            let room = whole - 2.0 * PAD;
            marks.push(cut_text((PAD, bottom + 20.0), Anchor::Start, SMALL, Paint::Muted, words, room));
            bottom += 24.0;
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

    fn at(&self, row: usize, column: usize) -> u64 {
        self.counts.get(row).and_then(|counts| counts.get(column)).copied().unwrap_or(0)
    }

    fn of_class(&self, row: usize) -> u64 {
        (0..self.classes.len()).fold(0u64, |sum, column| sum.saturating_add(self.at(row, column)))
    }

    fn description(&self) -> String {
        let class = |row: usize| {
            format!(
                "of {} {} {} are found",
                count(self.of_class(row)),
                self.classes[row],
                count(self.at(row, row))
            )
        };
        let classes: Vec<String> = (0..self.classes.len().min(6)).map(class).collect();
        if classes.is_empty() { "No data.".to_owned() } else { format!("{}.", classes.join("; ")) }
    }

    fn table(&self) -> Table {
        let row = |index: usize| {
            let counts = (0..self.classes.len()).map(|column| count(self.at(index, column)));
            std::iter::once(self.classes[index].clone()).chain(counts).collect()
        };
        let heads = self.classes.iter().map(|class| format!("predicted {class}"));
        Table {
            columns: std::iter::once("true class".to_owned()).chain(heads).collect(),
            rows: (0..self.classes.len()).map(row).collect(),
        }
    }
}
