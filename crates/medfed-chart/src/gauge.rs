//! How much of a budget is spent.

use crate::bars::track;
use crate::chart::{Chart, Width};
use crate::mark::{Anchor, Mark, Stroke, bold, cut_text, line, text};
use crate::number::{drawable, plain};
use crate::paint::Paint;
use crate::plot::{LABEL, PAD, SMALL, nothing, title};
use crate::table::Table;
use crate::text::width as text_width;

/// Parts of equal budgets that are spent, such as ε at each hospital.
#[derive(Debug, Clone, PartialEq)]
pub struct Gauge {
    /// What the chart shows.
    pub title: String,
    /// What is spent, with the unit: "ε at δ = 1e-5".
    pub quantity: String,
    /// The budget.
    pub budget: f64,
    /// Share of the budget from which spending is a warning, from 0 to 1.
    pub warning: Option<f64>,
    /// Share from which it is critical.
    pub critical: Option<f64>,
    /// What was spent by whom, from the top down.
    pub spent: Vec<(String, Option<f64>)>,
}

impl Gauge {
    /// Draws it: a semicircle for one spender, bars for several.
    pub fn draw(&self, width: Width) -> Chart {
        let whole = width.pixels();
        let mut marks = Vec::new();
        let below = title(&mut marks, &self.title, whole);
        let height = match self.spent.as_slice() {
            [] => {
                nothing(&mut marks, (whole / 2.0, below + 20.0));
                below + 40.0
            }
            [(name, value)] => self.dial(&mut marks, name, *value, below, whole),
            _ => self.bars(&mut marks, below, whole),
        };
        Chart {
            title: self.title.clone(),
            description: self.description(),
            width: whole,
            height: height + PAD,
            marks,
            plane: None,
            table: self.table(),
        }
    }

    /// Spent over budget; nothing when one of them is not known.
    fn share(&self, value: Option<f64>) -> Option<f64> {
        let budget = drawable(self.budget).filter(|budget| *budget > 0.0)?;
        Some((value.and_then(drawable)? / budget).max(0.0))
    }

    fn paint(&self, share: f64) -> Paint {
        let beyond = |limit: Option<f64>| limit.is_some_and(|limit| share >= limit);
        match (share > 1.0 || beyond(self.critical), beyond(self.warning)) {
            (true, _) => Paint::Alert,
            (false, true) => Paint::Warning,
            (false, false) => Paint::Series(0),
        }
    }

    fn limits(&self) -> impl Iterator<Item = f64> {
        self.warning.into_iter().chain(self.critical).filter(|limit| (0.0..1.0).contains(limit))
    }

    fn dial(&self, marks: &mut Vec<Mark>, name: &str, value: Option<f64>, top: f64, whole: f64) -> f64 {
        let outer = (whole / 2.0 - PAD).min(130.0);
        let inner = outer * 0.72;
        let centre = (whole / 2.0, top + outer + 6.0);
        let at = |share: f64, radius: f64| {
            let angle = std::f64::consts::PI * (1.0 - share);
            (radius.mul_add(angle.cos(), centre.0), radius.mul_add(-angle.sin(), centre.1))
        };
        let ring = |share: f64, fill: Paint, tip: Option<String>| {
            const STEPS: usize = 60;
            let part = |index: usize| share * index as f64 / STEPS as f64;
            let out = (0..=STEPS).map(|index| at(part(index), outer));
            let back = (0..=STEPS).rev().map(|index| at(part(index), inner));
            Mark::Area { points: out.chain(back).collect(), fill, opacity: 1.0, tip }
        };
        marks.push(ring(1.0, Paint::Track, None));
        let share = self.share(value);
        if let Some(share) = share {
            let tip = Some(self.words(name, value));
            marks.push(ring(share.min(1.0), self.paint(share), tip));
        }
        for limit in self.limits() {
            marks.push(line(at(limit, inner - 3.0), at(limit, outer + 3.0), Stroke::solid(Paint::Ink, 1.5)));
        }
        let shown = value.and_then(drawable).map_or("–".to_owned(), plain);
        marks.push(bold((centre.0, centre.1 - 26.0), Anchor::Middle, 28.0, Paint::Ink, shown));
        let of = format!("of {}", plain(self.budget));
        marks.push(text((centre.0, centre.1 - 3.0), Anchor::Middle, LABEL, Paint::Muted, of));
        let room = whole - 2.0 * PAD;
        let place = (centre.0, centre.1 + 20.0);
        let words =
            if name.is_empty() { self.quantity.clone() } else { format!("{name}: {}", self.quantity) };
        marks.push(cut_text(place, Anchor::Middle, LABEL, Paint::Muted, &words, room));
        centre.1 + 24.0
    }

    fn bars(&self, marks: &mut Vec<Mark>, top: f64, whole: f64) -> f64 {
        const ROW: f64 = 28.0;
        let longest = self.spent.iter().map(|(name, _)| text_width(name, LABEL)).fold(0.0, f64::max);
        let left = PAD + longest.min(whole * 0.34) + 8.0;
        let shown: Vec<String> = self.spent.iter().map(|(_, value)| self.shown(*value)).collect();
        let widest = shown.iter().map(|shown| text_width(shown, SMALL)).fold(0.0, f64::max).min(whole * 0.34);
        let right = (whole - PAD - widest - 10.0).max(left + 40.0);
        let wide = right - left;
        for (index, (name, value)) in self.spent.iter().enumerate() {
            let y = (index as f64).mul_add(ROW, top);
            let middle = y + ROW / 2.0;
            let place = (left - 8.0, middle + LABEL * 0.36);
            marks.push(cut_text(place, Anchor::End, LABEL, Paint::Ink, name, left - 8.0 - PAD));
            let share = self.share(*value).unwrap_or(0.0);
            track(marks, (left, y + 7.0), (wide, ROW - 14.0), share, self.paint(share));
            let place = (right + 8.0, middle + SMALL * 0.36);
            marks.push(cut_text(
                place,
                Anchor::Start,
                SMALL,
                Paint::Muted,
                &shown[index],
                whole - PAD - right - 8.0,
            ));
        }
        let bottom = (self.spent.len() as f64).mul_add(ROW, top);
        for limit in self.limits() {
            let x = wide.mul_add(limit, left);
            marks.push(line((x, top + 2.0), (x, bottom - 2.0), Stroke::solid(Paint::Ink, 1.2)));
        }
        let limits: Vec<String> = self.limits().map(|limit| format!("{:.0} %", limit * 100.0)).collect();
        let lines =
            if limits.is_empty() { String::new() } else { format!("; lines at {}", limits.join(" and ")) };
        let words = format!("{}, budget {}{lines}", self.quantity, plain(self.budget));
        let place = (PAD, bottom + 14.0);
        marks.push(cut_text(place, Anchor::Start, SMALL, Paint::Muted, &words, whole - 2.0 * PAD));
        bottom + 16.0
    }

    fn shown(&self, value: Option<f64>) -> String {
        match (value.and_then(drawable), self.share(value)) {
            (Some(value), Some(share)) => format!("{} ({:.0} %)", plain(value), share * 100.0),
            (Some(value), None) => plain(value),
            (None, _) => "not known".to_owned(),
        }
    }

    fn words(&self, name: &str, value: Option<f64>) -> String {
        let name = if name.is_empty() { String::new() } else { format!("{name}: ") };
        format!("{name}{} of {}", self.shown(value), plain(self.budget))
    }

    fn description(&self) -> String {
        const NAMED: usize = 8;
        let spent: Vec<String> =
            self.spent.iter().take(NAMED).map(|(name, value)| self.words(name, *value)).collect();
        let more = self.spent.len().saturating_sub(NAMED);
        let more = if more > 0 { format!("; and {more} more") } else { String::new() };
        format!("{} spent: {}{more}.", self.quantity, spent.join("; "))
    }

    fn table(&self) -> Table {
        let mut table = Table::new(["name", "", "budget", "share"]);
        table.columns[1].clone_from(&self.quantity);
        let row = |(name, value): &(String, Option<f64>)| {
            let share =
                self.share(*value).map_or("–".to_owned(), |share| format!("{:.1} %", share * 100.0));
            vec![name.clone(), crate::number::optional(*value), plain(self.budget), share]
        };
        table.rows = self.spent.iter().map(row).collect();
        table
    }
}
