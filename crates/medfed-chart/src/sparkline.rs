//! A line the size of a word.

use crate::chart::Chart;
use crate::decimate::decimated;
use crate::mark::{Mark, Stroke, marker};
use crate::number::{drawable, optional, plain};
use crate::paint::Paint;
use crate::table::Table;

/// The course of one number, without axes.
#[derive(Debug, Clone, PartialEq)]
pub struct Sparkline {
    /// What the number is.
    pub title: String,
    /// Its values in order; a gap is left for what is not known.
    pub values: Vec<Option<f64>>,
}

impl Sparkline {
    /// Draws it, 140 pixels wide.
    pub fn draw(&self) -> Chart {
        const SIZE: (f64, f64) = (140.0, 32.0);
        const PAD: f64 = 5.0;
        let known: Vec<Option<f64>> = self.values.iter().map(|value| value.and_then(drawable)).collect();
        let ends = known.iter().flatten().fold(None, |ends: Option<(f64, f64)>, value| {
            Some(ends.map_or((*value, *value), |(low, high)| (low.min(*value), high.max(*value))))
        });
        let last = known.len().saturating_sub(1).max(1) as f64;
        let at = |index: usize, value: f64| {
            let (low, high) = ends.unwrap_or((0.0, 1.0));
            let share = if high > low { (value - low) / (high - low) } else { 0.5 };
            let x = (SIZE.0 - 2.0 * PAD).mul_add(index as f64 / last, PAD);
            (x, (SIZE.1 - 2.0 * PAD).mul_add(1.0 - share, PAD))
        };
        let mut marks = Vec::new();
        let places: Vec<_> = known.iter().enumerate().collect();
        let mut newest = None;
        for piece in places.chunk_by(|a, b| a.1.is_some() == b.1.is_some()) {
            let points: Vec<_> =
                piece.iter().filter_map(|(index, value)| Some(at(*index, (**value)?))).collect();
            if let Some(end) = points.last() {
                newest = Some(*end);
                marks.push(Mark::Line {
                    points: decimated(points),
                    stroke: Stroke::solid(Paint::Series(0), 1.6),
                    tip: None,
                });
            }
        }
        if let Some(newest) = newest {
            marks.push(marker(0, newest, None));
        }
        let table_row =
            |(index, value): (usize, &Option<f64>)| vec![(index + 1).to_string(), optional(*value)];
        let mut table = Table::new(["", "value"]);
        table.columns[1].clone_from(&self.title);
        table.rows = known.iter().enumerate().map(table_row).collect();
        Chart {
            title: self.title.clone(),
            description: description(&known, ends),
            width: SIZE.0,
            height: SIZE.1,
            plane: None,
            marks,
            table,
        }
    }
}

fn description(values: &[Option<f64>], ends: Option<(f64, f64)>) -> String {
    let mut known = values.iter().flatten();
    match (known.next(), ends) {
        (Some(first), Some((low, high))) => {
            let last = known.next_back().unwrap_or(first);
            let (first, last, low, high) = (plain(*first), plain(*last), plain(low), plain(high));
            format!("From {first} to {last}, between {low} and {high}.")
        }
        _ => "No data.".to_owned(),
    }
}
