//! The model card of a run (Mitchell et al., Model Cards for Model Reporting, 2019), as Markdown.

use crate::document::Block;
use crate::fields::Fields;
use crate::number::{counted, epsilon, interval, value, whole};
use crate::record::{DATA, RunRecord};
use crate::report::{measured, verdict};
use std::fmt::Write as _;

impl RunRecord {
    /// The model card: for whoever gets the model file and was not there.
    pub fn model_card(&self) -> String {
        let mut card = Card(String::new());
        let name = if self.run.name.is_empty() { self.run.id.as_str() } else { self.run.name.as_str() };
        card.line(format_args!("# Model card: {}", inline(name)));
        self.details(&mut card);
        self.intended_use(&mut card);
        self.factors(&mut card);
        self.metrics(&mut card);
        card.heading("Evaluation data");
        let test = self.test();
        match test.count("n") {
            Some(n) => card.say(&format!("{} that no hospital trained on, of the same data set. The round of the model was chosen on validation images, not on these.", counted(n, "image", "images"))),
            None => card.say("No test set was measured."),
        }
        card.heading("Training data");
        card.list(crate::report::data_sentences(self));
        self.analyses(&mut card);
        self.privacy_part(&mut card);
        card.heading("Ethical considerations");
        card.list(vec![
            "Errors of the model fall on patients: a missed finding delays treatment, a false alarm leads to needless examinations.".to_owned(),
            "Where groups of patients are not compared above, nothing is known about how differently it serves them.".to_owned(),
            "The numbers on this card are exact functions of images of the hospitals and are not covered by ε, unless stated.".to_owned(),
        ]);
        card.heading("Caveats and recommendations");
        card.list(crate::report::limits(self));
        card.0
    }

    fn details(&self, card: &mut Card) {
        card.heading("Model details");
        let config = self.config();
        let size = config
            .count("data.image_size")
            .map_or_else(String::new, |size| format!(" on {size} × {size} pixels"));
        card.list(vec![
            format!("Model: {}{size}, trained with MedFedAgent.", config.text("model.name").unwrap_or("–")),
            format!(
                "Run: {} of {}, {}.",
                self.run.id,
                self.run.created,
                self.run.status.to_string().replace('_', " ")
            ),
            format!("Parameters (SHA-256): {}", self.best_round().text("model_hash").unwrap_or("–")),
            format!(
                "Training: {} by {}; aggregation {}; {}, learning rate {}.",
                counted(u64::from(self.run.rounds), "round", "rounds"),
                counted(self.last_round().items("hospitals").count() as u64, "hospital", "hospitals"),
                self.last_round().text("security.aggregation_method").unwrap_or("fedavg"),
                config.text("training.optimizer").unwrap_or("–"),
                config
                    .number("training.learning_rate")
                    .map_or_else(|| "–".to_owned(), |rate| rate.to_string()),
            ),
        ]);
        if let Block::Verdict { tone, title, reasons } = verdict(self) {
            card.say(&format!("**{}: {title}.**", tone.word()));
            card.list(reasons);
        }
    }

    fn intended_use(&self, card: &mut Card) {
        card.heading("Intended use");
        let classes: Vec<&str> =
            self.document(DATA).items("classes").filter_map(|class| class.0.as_str()).collect();
        let what = if classes.is_empty() {
            String::new()
        } else {
            format!(" It tells {} apart.", classes.join(", "))
        };
        card.list(vec![
            format!("Primary use: research on federated learning for diagnostic imaging.{what}"),
            "Primary users: researchers and engineers at the hospitals of the federation.".to_owned(),
            "Out of scope: diagnosis or triage of patients. The model is no medical device. Images from other scanners, other views or other populations than those of the training data.".to_owned(),
        ]);
    }

    fn factors(&self, card: &mut Card) {
        card.heading("Factors");
        let groups = self.fairness_groups();
        if groups.is_empty() {
            card.say(
                "Performance was broken down by hospital and class. Groups of patients were not compared.",
            );
        } else {
            let mut names: Vec<&str> = groups.iter().map(|(attribute, ..)| attribute.as_str()).collect();
            names.dedup();
            card.say(&format!("Performance was broken down by hospital, class, and {}.", names.join(", ")));
        }
    }

    fn metrics(&self, card: &mut Card) {
        card.heading("Metrics");
        card.say("The predicted class is the most likely one (with two classes: threshold 0.5). Intervals at 95 % come from resampling patients; where a run did not do that, AUC has DeLong's and accuracy Wilson's.");
        let test = self.test();
        if test.is_null() {
            card.say("Not measured in this run.");
            return;
        }
        let row = |name: &str, key: &str| -> Option<[String; 3]> {
            let found = measured(self, key)?;
            Some([name.to_owned(), value(Some(found)), interval(Some(found))])
        };
        let rows = [
            row("AUC", "auc"),
            row("accuracy", "accuracy"),
            row("balanced accuracy", "balanced_accuracy"),
            row("sensitivity", "sensitivity"),
            row("specificity", "specificity"),
            row("precision", "precision"),
            row("F1", "f1"),
            row("expected calibration error", "calibration_error"),
        ];
        card.table(["measure", "value", "95 % interval"], rows.into_iter().flatten());
    }

    fn analyses(&self, card: &mut Card) {
        card.heading("Quantitative analyses");
        let classes = self.test();
        let rows = classes.items("per_class").enumerate().map(|(class, found)| {
            let cell = |key: &str| value(found.estimate(key));
            let n = found.count("n").map_or_else(|| "–".to_owned(), whole);
            [
                self.class_name(class),
                n,
                cell("auc"),
                interval(found.estimate("auc")),
                cell("sensitivity"),
                cell("specificity"),
            ]
        });
        card.table(["class", "images", "AUC", "95 % interval", "sensitivity", "specificity"], rows);
        let evaluated = self.document("evaluation");
        let rows = evaluated.items("hospitals").map(|site| {
            let found = site.at("performance");
            let name = site.text("hospital").unwrap_or("–").to_owned();
            let (auc, accuracy) = (found.estimate("auc"), found.estimate("accuracy"));
            [name, value(auc), interval(auc), value(accuracy), interval(accuracy)]
        });
        let rows: Vec<[String; 5]> = rows.collect();
        let rows = if rows.is_empty() { self.hospitals_of_best_round() } else { rows };
        card.table(
            ["hospital (validation)", "AUC", "95 % interval", "accuracy", "95 % interval"],
            rows.into_iter(),
        );
        let groups = self.fairness_groups().into_iter();
        card.table(
            ["attribute", "group", "patients", "accuracy", "95 % interval"],
            groups.map(|(attribute, group, found)| {
                let accuracy = found.estimate("rates.accuracy");
                let patients = found.count("patients").map_or_else(|| "–".to_owned(), whole);
                [
                    attribute,
                    group,
                    patients,
                    accuracy.map_or_else(|| "too few patients".to_owned(), |found| value(Some(found))),
                    interval(accuracy),
                ]
            }),
        );
    }

    fn hospitals_of_best_round(&self) -> Vec<[String; 5]> {
        let row = |site: Fields<'_>| {
            let name = site.text("hospital").unwrap_or("–").to_owned();
            [
                name,
                value(site.estimate("auc")),
                "–".to_owned(),
                value(site.estimate("accuracy")),
                "–".to_owned(),
            ]
        };
        self.best_round().items("hospitals").map(row).collect()
    }

    fn privacy_part(&self, card: &mut Card) {
        card.heading("Privacy");
        if !self.is_private() {
            card.say("The model was trained without differential privacy.");
            return;
        }
        let privacy = self.config().at("privacy");
        let unit = privacy.text("unit").unwrap_or("image");
        card.list(vec![
            format!(
                "ε = {} at the hospital that spent most, δ = {}.",
                epsilon(self.epsilon()),
                privacy.number("delta").map_or_else(|| "–".to_owned(), |delta| format!("{delta:e}"))
            ),
            format!("Unit of protection: one {unit} of one hospital, added or removed."),
            format!("Accountant: {}.", privacy.text("accountant").unwrap_or("pld").to_uppercase()),
        ]);
        if let Some(statement) = self.summary().text("privacy_statement") {
            card.say(statement);
        }
    }

    fn test(&self) -> Fields<'_> {
        crate::report::test(self)
    }

    /// Attribute, group, and what was measured about it.
    fn fairness_groups(&self) -> Vec<(String, String, Fields<'_>)> {
        crate::report::groups(self)
    }
}

struct Card(String);

impl Card {
    fn line(&mut self, text: std::fmt::Arguments<'_>) {
        writeln!(self.0, "{text}").expect("a String takes every write");
    }

    fn heading(&mut self, text: &str) {
        self.line(format_args!("\n## {text}"));
    }

    fn say(&mut self, text: &str) {
        self.line(format_args!("\n{}", inline(text)));
    }

    fn list(&mut self, items: Vec<String>) {
        self.0.push('\n');
        for item in items {
            self.line(format_args!("- {}", inline(&item)));
        }
    }

    /// A table; nothing without rows.
    fn table<const N: usize>(&mut self, head: [&str; N], rows: impl Iterator<Item = [String; N]>) {
        let mut rows = rows.peekable();
        if rows.peek().is_none() {
            return;
        }
        self.line(format_args!("\n| {} |\n|{}", head.join(" | "), "---|".repeat(N)));
        for row in rows {
            let cells = row.map(|cell| inline(&cell).replace('|', "\\|"));
            self.line(format_args!("| {} |", cells.join(" | ")));
        }
    }
}

/// Text on one line that is no markup; emphasis of our own stays.
fn inline(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\n' | '\r' => out.push(' '),
            '<' => out.push_str("&lt;"),
            '&' => out.push_str("&amp;"),
            '[' | ']' | '`' | '_' | '\\' => {
                out.push('\\');
                out.push(letter);
            }
            letter => out.push(letter),
        }
    }
    out
}
