//! The report of a run: for hospital leadership first, then for those who check it.

mod data;
mod fairness;
mod limits;
mod performance;
mod privacy;
mod security;
mod summary;
mod verdict;

use crate::document::{Document, Section};
use crate::fields::Fields;
use crate::number::{epsilon, plain, rate};
use crate::record::RunRecord;

pub(crate) use data::sentences as data_sentences;
pub(crate) use fairness::groups_of as groups;
pub(crate) use limits::sentences as limits;
pub(crate) use performance::{measured, test};
pub(crate) use verdict::verdict;

/// Parts of the configuration that say where things are, not what was done.
const PLACES: [&str; 2] = ["output", "dashboard"];

/// What a section says about something that a run did not measure.
const NOT_MEASURED: &str = "Not measured in this run.";

/// A section of the report, for whoever shows sections one by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// For hospital leadership, in plain words.
    Summary,
    /// How good the model is.
    Performance,
    /// Whether it serves everybody alike.
    Fairness,
    /// What protects the patients, and what was spent of it.
    Privacy,
    /// What was wrong with updates.
    Security,
    /// What was trained on.
    Data,
    /// What cannot be concluded.
    Limits,
    /// Rounds and configuration.
    Appendix,
}

impl RunRecord {
    /// One section of the report.
    pub fn section(&self, part: Part) -> Section {
        match part {
            Part::Summary => summary::section(self),
            Part::Performance => performance::section(self),
            Part::Fairness => fairness::section(self),
            Part::Privacy => privacy::section(self),
            Part::Security => security::section(self),
            Part::Data => data::section(self),
            Part::Limits => limits::section(self),
            Part::Appendix => self.appendix(),
        }
    }

    /// The whole report.
    pub fn report(&self) -> Document {
        let name = if self.run.name.is_empty() { self.run.id.as_str() } else { self.run.name.as_str() };
        Document {
            title: format!("Training report: {name}"),
            subtitle:
                "Federated training of a diagnostic imaging model. Every number comes from the run's store."
                    .to_owned(),
            facts: self.facts(),
            sections: [
                Part::Summary,
                Part::Performance,
                Part::Fairness,
                Part::Privacy,
                Part::Security,
                Part::Data,
                Part::Limits,
                Part::Appendix,
            ]
            .map(|part| self.section(part))
            .to_vec(),
        }
    }

    /// Which run, and how it stands.
    pub(crate) fn facts(&self) -> Vec<(String, String)> {
        let run = &self.run;
        let mut facts = vec![
            ("run", run.id.to_string()),
            ("started", run.created.to_string()),
            ("ended", run.finished.map_or_else(|| "not yet".to_owned(), |time| time.to_string())),
            ("status", run.status.to_string().replace('_', " ")),
            (
                "rounds",
                format!("{} of {}", run.rounds, self.config().count("federated.num_rounds").unwrap_or(0)),
            ),
            ("model", self.config().text("model.name").unwrap_or("–").to_owned()),
        ];
        if let Some(hash) = self.best_round().text("model_hash") {
            facts.push(("parameters (SHA-256)", hash.to_owned()));
        }
        facts.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// Every round in a row, and the configuration.
    fn appendix(&self) -> Section {
        let mut section = Section::new("Rounds and configuration");
        let rows = self.rounds.iter().map(|round| {
            let report = Fields(&round.report);
            [
                round.round.to_string(),
                report.text("status").unwrap_or("–").to_owned(),
                crate::number::count(report.count("num_clients")),
                plain(report.number("train_loss")),
                plain(report.number("val_loss")),
                rate(report.number("accuracy")),
                rate(report.number("auc")),
                rate(report.number("test_auc")),
                plain(report.number("noise_multiplier")),
                epsilon(report.number("epsilon_total")),
            ]
        });
        let head = [
            "round",
            "status",
            "hospitals",
            "training loss",
            "validation loss",
            "accuracy",
            "AUC",
            "test AUC",
            "noise",
            "ε",
        ];
        section.table("Rounds", head, rows.collect());
        section.say(format!("The seed of weights, splits and order is {}.", self.run.seed.0));
        let parts = self.config().entries("").filter(|(name, _)| !PLACES.contains(name));
        let rows = parts.map(|(name, part)| {
            let mut keys = Vec::new();
            settings("", part, &mut keys);
            [name.to_owned(), keys.join("; ")]
        });
        section.table("Configuration", ["section", "keys and values"], rows.collect());
        section
    }
}

/// Keys of the configuration with their values.
fn settings(key: &str, value: Fields<'_>, keys: &mut Vec<String>) {
    let mut inside = value.entries("").peekable();
    if inside.peek().is_some() {
        let of = |name: &str| if key.is_empty() { name.to_owned() } else { format!("{key}.{name}") };
        inside.for_each(|(name, value)| settings(&of(name), value, keys));
    } else {
        let text = value.text("").map_or_else(|| value.0.to_string(), str::to_owned);
        keys.push(format!("{key} = {text}"));
    }
}
