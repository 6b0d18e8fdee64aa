//! Reports of stored runs: what the store knows is there, what it does not is said to be so.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use medfed_report::{Block, Document, RunRecord, Section, Tone};
use medfed_store::{RunRecord as NewRun, RunStatus, Store, Timestamp};
use medfed_types::{RoundId, RunId, Seed};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A store with one run.
struct Stored {
    _dir: TempDir,
    store: Store,
    id: RunId,
}

impl Stored {
    fn new(config: &Value) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let id = RunId::try_from("20260301-090507-1f3a").unwrap();
        let name = "pneumonia <b>&\"'".to_owned();
        let config = json!({ "config": config });
        let created = Timestamp(1_772_355_907_000);
        store.create_run(&NewRun { id: id.clone(), name, created, config, seed: Seed(7) }).unwrap();
        Self { _dir: dir, store, id }
    }

    fn document(self, name: &str, value: &Value) -> Self {
        self.store.put_document(&self.id, name, &value.to_string()).unwrap();
        self
    }

    fn round(self, round: u32, report: &Value) -> Self {
        self.store.append_round(&self.id, RoundId(round), report).unwrap();
        self
    }

    fn finished(self, status: RunStatus, summary: &Value) -> Self {
        self.store.finish_run(&self.id, status, Timestamp(1_772_355_997_000), summary).unwrap();
        self
    }

    fn record(&self) -> RunRecord {
        RunRecord::read(&self.store, &self.id).unwrap()
    }
}

fn config() -> Value {
    json!({
        "data": { "dataset": "pneumoniamnist", "image_size": 28 },
        "model": { "name": "simple_cnn" },
        "federated": { "num_rounds": 2 },
        "privacy": { "enabled": true, "epsilon_budget": 8.0, "delta": 1e-5, "accountant": "pld", "unit": "image" },
        "orchestrator": { "enabled": true, "strategy": "fit" },
        "robust_aggregation": { "enabled": true, "method": "median", "enable_detection": true },
    })
}

fn round(number: u32) -> Value {
    let site = |name: &str, accuracy: f64| {
        json!({ "hospital": name, "status": "trained", "train_images": 500, "train_units": 500, "validation_images": 60,
            "auc": 0.9, "accuracy": accuracy, "val_loss": 0.4,
            "privacy": { "sampling_rate": 0.1, "noise_multiplier": 1.2, "epsilon_round": 2.0, "epsilon_total": 2.0 * f64::from(number),
                "epsilon_pld": 2.0 * f64::from(number), "epsilon_rdp": 2.2 * f64::from(number) } })
    };
    json!({ "round_num": number, "status": "completed", "num_clients": 2, "train_loss": 0.5, "val_loss": 0.4, "accuracy": 0.85,
        "auc": 0.9, "test_auc": 0.91, "epsilon_total": 2.0 * f64::from(number), "noise_multiplier": 1.2,
        "model_hash": "ab".repeat(32), "hospitals": [site("North", 0.9), site("South", 0.8)] })
}

fn interval(estimate: f64) -> Value {
    json!({ "estimate": estimate, "lower": estimate - 0.02, "upper": estimate + 0.02 })
}

fn summary() -> Value {
    let class = json!({ "n": 300, "auc": interval(0.91), "sensitivity": 0.9, "specificity": 0.8, "precision": 0.85, "f1": 0.87 });
    json!({ "status": "completed", "best_round": 2, "test_auc": 0.91, "final_epsilon": 4.0,
        "privacy_statement": "Protected by (4, 1e-5)-differential privacy.",
        "test": { "n": 600, "auc": interval(0.91), "accuracy": interval(0.86), "sensitivity": 0.9, "specificity": 0.8,
            "precision": null, "f1": 0.87, "balanced_accuracy": 0.85, "calibration_error": 0.03, "log_loss": 0.35,
            "confusion": [[240, 60], [30, 270]], "per_class": [class, class] } })
}

/// Fairness, attacks, canaries, exclusions: everything that a run can measure.
fn everything() -> Stored {
    let gap =
        json!({ "value": 0.12, "interval": [0.05, 0.2], "chance": 0.07, "high": "female", "low": "male" });
    let group = |name: &str, accuracy: f64| {
        json!({ "group": name, "patients": 120, "images": 130, "rates": { "accuracy": interval(accuracy),
            "selection_rate": interval(0.5), "true_positive_rate": interval(0.9), "false_positive_rate": null } })
    };
    let small = json!({ "group": "other", "patients": 3, "images": 3, "rates": null });
    let fairness = json!({
        "fairness_score": 0.62, "is_fair": false,
        "hospital_fairness": { "accuracy_variance": 0.002, "accuracy_parity": gap },
        "demographic_fairness": [{ "attribute": "sex", "groups": [group("female", 0.9), group("male", 0.78), small],
            "demographic_parity_difference": gap, "disparate_impact": null }],
        "violations": [{ "criterion": "equalized_odds", "attribute": "sex", "value": 0.12, "threshold": 0.1,
            "interval": [0.11, 0.2], "confirmed": true, "groups": ["female", "male"] }],
    });
    let point = |x: f64, y: f64| json!({ "false_positive_rate": x, "true_positive_rate": y });
    let bin = json!({ "from": 0.0, "to": 0.5, "images": 300, "mean_probability": 0.2, "positive_share": interval(0.25) });
    let curves = json!([{ "class": 0 }, { "class": 1, "roc": [point(0.0, 0.0), point(0.1, 0.9), point(1.0, 1.0)],
        "pr": [{ "recall": 1.0, "precision": 0.5 }, { "recall": 0.2, "precision": 1.0 }], "calibration": [bin] }]);
    let hospital = json!({ "hospital": "North", "patients": 50, "performance": { "n": 60, "auc": interval(0.9),
        "accuracy": interval(0.9), "sensitivity": 0.9, "specificity": 0.9, "calibration_error": 0.05 } });
    let evaluation = json!({ "hospitals": [hospital], "fairness": { "test": fairness, "validation": null },
        "test": { "performance": summary()["test"], "intervals": { "sensitivity": interval(0.9) }, "curves": curves } });
    let attack = json!({ "accuracy": 0.53, "auc_roc": 0.52, "auc_interval": [0.48, 0.56], "privacy_grade": "A (Excellent)",
        "is_vulnerable": false, "roc": [[0.0, 0.0], [0.01, 0.02], [1.0, 1.0]], "worst_class": { "name": "pneumonia", "auc_roc": 0.55 },
        "low_false_positives": [{ "target": 0.01, "measured": { "true_positive_rate": interval(0.03), "false_positive_rate": interval(0.02) } },
            { "target": 0.001, "measured": null }] });
    let audit = json!({ "members": 1000, "non_members": 120, "non_members_from": "validation images", "attacks": { "loss_based": attack },
        "measured_privacy": { "canaries": 200, "guesses": 50, "correct": 28, "confidence": 0.95, "epsilon_lower_bound": 0.0321,
            "claimed_epsilon": 4.0, "refuted": false }, "warnings": ["few images"] });
    let mut last = round(2);
    last["security"] = json!({ "byzantine_detected": true, "excluded_clients": ["South"], "aggregation_method": "median",
        "exclusions": [{ "hospital": "South", "reason": "its update is not finite" }],
        "anomalies": [{ "hospital": "North", "statistic": "norm", "value": 9.5, "threshold": 4.0, "power": null }], "warnings": ["too few hospitals"] });
    last["orchestrator"] = json!({ "strategy": "fit", "warnings": [], "anomalies": [], "decisions": [{ "hospital": "North", "action": "raise",
        "noise_multiplier": 1.4, "epsilon_at_end": 8.0, "reasons": [{ "reason": "made_up" }] }] });
    Stored::new(&config())
        .document("data_description", &json!({ "classes": ["normal", "pneumonia"], "warnings": [] }))
        .round(1, &round(1))
        .round(2, &last)
        .document("evaluation", &evaluation)
        .document("mia_privacy_audit", &audit)
        .finished(RunStatus::Completed, &summary())
}

fn section<'a>(document: &'a Document, title: &str) -> &'a Section {
    document.sections.iter().find(|section| section.title == title).unwrap()
}

/// Everything that a section says, without its charts.
fn words(section: &Section) -> String {
    let lines = section.blocks.iter().map(|block| match block {
        Block::Heading(text) | Block::Paragraph(text) => text.clone(),
        Block::List(items) | Block::SignOff(items) => items.join("\n"),
        Block::Verdict { title, reasons, .. } => format!("{title}\n{}", reasons.join("\n")),
        Block::Table { caption, table } => {
            let rows = table.rows.iter().map(|row| row.join(" | "));
            std::iter::once(caption.clone()).chain(rows).collect::<Vec<_>>().join("\n")
        }
        Block::Chart(chart) => format!("[{}]", chart.title),
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn verdict(document: &Document) -> (Tone, String) {
    let found = document.sections[0].blocks.iter().find_map(|block| match block {
        Block::Verdict { tone, reasons, .. } => Some((*tone, reasons.join(" "))),
        _ => None,
    });
    found.unwrap()
}

#[test]
fn everything_that_was_measured_is_reported() {
    let report = everything().record().report();
    let sections: Vec<String> = report
        .sections
        .iter()
        .map(|section| format!("# {}\n{}\n\n", section.title, words(section)))
        .collect();
    let all = sections.concat();
    insta::assert_snapshot!(all);
    assert!(!all.contains("Not measured"));
    assert_eq!(verdict(&report).0, Tone::Caution);
}

#[test]
fn a_run_that_has_just_begun_has_a_report() {
    let stored = Stored::new(&json!({}));
    let report = stored.record().report();
    assert!(words(section(&report, "Fairness")).contains("Not measured in this run."));
    assert!(words(section(&report, "Performance")).contains("Not measured in this run."));
    assert_eq!(verdict(&report).0, Tone::Caution);
    assert!(report.html().contains("No round has been finished yet."));
    assert!(report.pdf().unwrap().starts_with(b"%PDF-"));
    assert!(stored.record().model_card().contains("## Intended use"));
}

/// What makes a run a bad one: a change of its configuration or summary.
type Change = fn(&mut Value, &mut Value);

#[test]
fn each_reason_against_a_model_is_said() {
    let with = |change: Change| {
        let (mut config, mut summary) = (config(), summary());
        change(&mut config, &mut summary);
        let stored = Stored::new(&config).round(2, &round(2)).finished(RunStatus::Completed, &summary);
        verdict(&stored.record().report())
    };
    let cases: [(Change, &str); 4] = [
        (|config, _| config["privacy"]["enabled"] = json!(false), "without differential privacy"),
        (
            |_, summary| summary["test"]["auc"] = json!({ "estimate": 0.52, "lower": 0.48, "upper": 0.56 }),
            "not shown to be better than guessing",
        ),
        (
            |_, summary| {
                summary["simulated_attack"] = json!({ "attack": "sign_flip", "attackers": ["South"] });
            },
            "An attack was simulated",
        ),
        (
            |_, summary| summary["simulated_attack"] = json!({ "attack": "backdoor", "attackers": [] }),
            "for study only",
        ),
    ];
    for (change, said) in cases {
        let (tone, reasons) = with(change);
        assert_eq!(tone, Tone::Bad, "{said}");
        assert!(reasons.contains(said), "{reasons}");
    }
    let audit = json!({ "attacks": { "lira": { "auc_roc": 0.9, "is_vulnerable": true } }, "measured_privacy": { "refuted": true } });
    let stored = Stored::new(&config())
        .round(2, &round(2))
        .document("mia_privacy_audit", &audit)
        .document("canary_coins", &json!({}));
    let (tone, reasons) = verdict(&stored.finished(RunStatus::Failed, &summary()).record().report());
    assert_eq!(tone, Tone::Bad);
    for said in [
        "guarantee does not hold",
        "could tell images that were trained on",
        "Canaries",
        "failed before its end",
    ] {
        assert!(reasons.contains(said), "{said}: {reasons}");
    }
}

#[test]
fn the_page_needs_nothing_and_cannot_be_broken_by_names() {
    let page = everything().record().report().html();
    for absent in ["<script", "http:", "https:", "src=", "@import", "url(", "<b>"] {
        assert!(!page.contains(absent), "{absent}");
    }
    assert!(page.contains("pneumonia &lt;b&gt;&amp;&quot;&#39;"));
    // Every id is there once.
    let mut ids: Vec<&str> = page.split(" id=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    let all = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), all);
    for tag in ["section", "table", "figure", "svg", "ul", "div", "details"] {
        assert_eq!(
            page.matches(&format!("<{tag}")).count(),
            page.matches(&format!("</{tag}>")).count(),
            "{tag}"
        );
    }
}

#[test]
fn the_pdf_is_accessible_and_repeats_its_bytes() {
    let stored = everything();
    let report = stored.record().report();
    let pdf = report.pdf().unwrap();
    assert_eq!(pdf, report.pdf().unwrap());
    let has = |word: &[u8]| pdf.windows(word.len()).any(|window| window == word);
    assert!(has(b"/StructTreeRoot") && has(b"/Outlines") && has(b"pdfuaid:part"));
}

#[test]
fn hostile_text_and_endless_tables_fit_on_pages() {
    let long = "x".repeat(5000);
    let rows: Vec<Value> = (0..400)
        .map(|index| json!({ "hospital": format!("{long}{index}"), "auc": 0.5, "train_images": u64::MAX, "privacy": null }))
        .collect();
    let mut report = round(1);
    report["hospitals"] = json!([{ "hospital": "\u{1}\u{202e}東京 🏥 <b>", "auc": 1e300, "accuracy": -5, "train_images": "many" }]);
    report["security"] =
        json!({ "byzantine_detected": true, "exclusions": rows, "warnings": [1, null, long] });
    let record = Stored::new(&json!({ "data": { "nodes": [[], {}], "dataset": long } })).round(1, &report);
    let report = record.record().report();
    assert!(report.pdf().unwrap().len() > 10_000);
    assert!(report.html().len() > 10_000);
}

#[test]
fn a_model_card_has_the_headings_of_its_field_and_no_foreign_markup() {
    let card = everything().record().model_card();
    insta::assert_snapshot!(card);
    assert!(!card.contains("<b>"));
}

#[test]
fn charts_become_pixels() {
    for chart in everything().record().report().charts() {
        let png = medfed_report::png(chart).unwrap();
        assert!(png.starts_with(b"\x89PNG"), "{}", chart.title);
    }
}
