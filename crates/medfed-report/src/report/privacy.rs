//! What protects the patients, what was spent of it, and what attacks found.

use super::NOT_MEASURED;
use crate::document::Section;
use crate::fields::{Estimate, Fields};
use crate::number::{counted, epsilon, epsilon_below, interval, plain, rate, value};
use crate::record::RunRecord;
use medfed_chart::{Axis, Bar, BarChart, Ceiling, Curve, LineChart, RocChart, Series, Threshold, Width};
use medfed_dp::orchestrator::Reason;
use serde::Deserialize as _;

const MEMBERSHIP: &str = "mia_privacy_audit";

pub(super) fn section(record: &RunRecord) -> Section {
    let mut section = Section::new("Privacy");
    if let Some(statement) = record.summary().text("privacy_statement") {
        section.say(statement);
    } else if !record.is_private() {
        section
            .say("No privacy was applied: the model and every update are functions of the training images.");
    }
    if record.is_private() {
        budget(record, &mut section);
        projection(record, &mut section);
        orchestrator(record, &mut section);
    }
    membership(record, &mut section);
    measured(record, &mut section);
    section
}

fn budget(record: &RunRecord, section: &mut Section) {
    section.heading("Budget");
    let config = record.config().at("privacy");
    let (budget, delta) = (config.number("epsilon_budget"), config.number("delta"));
    let accountant = config.text("accountant").unwrap_or("pld").to_uppercase();
    let unit = config.text("unit").unwrap_or("image");
    section.say(format!(
        "Each hospital has a budget of ε = {} at δ = {} for its own patients. Neighbouring data sets differ in one {unit} of one hospital; {accountant} accounting decides, the other is shown for comparison. The last column is computed anew from the ledgers, which know of every step that was paid for.",
        plain_number(budget),
        delta.map_or_else(|| "–".to_owned(), |delta| format!("{delta:e}")),
    ));
    let rows = record.last_round().items("hospitals").map(|site| {
        let name = site.text("hospital").unwrap_or("–");
        let privacy = latest_privacy(record, name).unwrap_or_else(|| site.at("privacy"));
        let paid = record.paid.iter().find(|(paid, _)| paid.as_str() == name).map(|(_, paid)| *paid);
        [
            name.to_owned(),
            plain(privacy.number("sampling_rate")),
            plain(privacy.number("noise_multiplier")),
            epsilon(privacy.number("epsilon_pld")),
            epsilon(privacy.number("epsilon_rdp")),
            epsilon(paid),
        ]
    });
    let head = ["hospital", "sampling rate", "noise multiplier", "ε (PLD)", "ε (RDP)", "ε by ledger"];
    section.table("Privacy spent by hospital", head, rows.collect());
    let names: Vec<&str> =
        record.last_round().items("hospitals").filter_map(|site| site.text("hospital")).collect();
    let of = |name: &str, report: Fields<'_>| {
        report
            .items("hospitals")
            .find(|site| site.text("hospital") == Some(name))?
            .number("privacy.epsilon_total")
    };
    let points = |name: &str| -> Vec<(f64, Option<f64>)> {
        record
            .rounds
            .iter()
            .map(|round| (f64::from(round.round.0), of(name, Fields(&round.report))))
            .collect()
    };
    let series = if names.len() <= 12 {
        names.iter().map(|name| Series::new(*name, points(name))).collect()
    } else {
        let largest = record
            .rounds
            .iter()
            .map(|round| (f64::from(round.round.0), Fields(&round.report).number("epsilon_total")));
        vec![Series::new("largest at a hospital", largest)]
    };
    if !record.rounds.is_empty() {
        section.chart(
            LineChart {
                title: "Privacy spent after each round".to_owned(),
                x: Axis::new("round").whole(),
                y: Axis::new(format!(
                    "ε at δ = {}",
                    delta.map_or_else(|| "–".to_owned(), |delta| format!("{delta:e}"))
                )),
                series,
                thresholds: budget.map(|budget| Threshold::new("budget", budget)).into_iter().collect(),
            }
            .draw(Width::FULL),
        );
    }
}

/// What will be spent if nothing changes.
fn projection(record: &RunRecord, section: &mut Section) {
    if record.projected.is_empty() {
        return;
    }
    let budget = record.config().number("privacy.epsilon_budget");
    let bar = |(site, at_end): (&medfed_types::SiteId, &f64)| Bar {
        name: site.to_string(),
        value: Some(*at_end),
        note: None,
        interval: None,
        alert: budget.is_some_and(|budget| *at_end > budget),
    };
    let bars: Vec<Bar> = record.projected.iter().map(bar).collect();
    let beyond = bars.iter().filter(|bar| bar.alert).count() as u64;
    section.heading("Projection");
    section.say(match beyond {
        0 => "If the coming rounds are like those before, every hospital ends within its budget.".to_owned(),
        some => format!(
            "If the coming rounds are like those before, {} would need more than the budget: the ledger stops there before the last round, or the orchestrator adds noise.",
            counted(some, "hospital", "hospitals")
        ),
    });
    let chart = BarChart {
        title: "Privacy spent at the end of the run, projected".to_owned(),
        bar_title: "hospital".to_owned(),
        axis: Axis::new("ε at the end"),
        interval_title: String::new(),
        bars,
        thresholds: budget.map(|budget| Threshold::new("budget", budget)).into_iter().collect(),
    };
    section.chart(chart.draw(Width::FULL));
}

/// A hospital's newest privacy entry; a hospital that has left has none in the last rounds.
fn latest_privacy<'a>(record: &'a RunRecord, hospital: &str) -> Option<Fields<'a>> {
    record.rounds.iter().rev().find_map(|round| {
        let mut sites = Fields(&round.report).items("hospitals");
        let site = sites.find(|site| site.text("hospital") == Some(hospital))?;
        Some(site.at("privacy")).filter(|privacy| !privacy.is_null())
    })
}

fn orchestrator(record: &RunRecord, section: &mut Section) {
    section.heading("Budget orchestrator");
    if record.config().flag("orchestrator.enabled") != Some(true) {
        section.say("Off in this run: the noise stayed as planned, and the ledgers kept the budget.");
        return;
    }
    let rows: Vec<[String; 6]> = record
        .rounds
        .iter()
        .flat_map(|round| {
            Fields(&round.report).items("orchestrator.decisions").map(move |decision| {
                let reasons: Vec<String> = decision.items("reasons").map(in_words).collect();
                (round.round.0, decision, reasons)
            })
        })
        .filter(|(_, decision, reasons)| {
            !reasons.is_empty() || decision.text("action").is_some_and(|action| action != "keep")
        })
        .map(|(round, decision, reasons)| {
            [
                round.to_string(),
                decision.text("hospital").unwrap_or("–").to_owned(),
                decision.text("action").unwrap_or("–").to_owned(),
                plain(decision.number("noise_multiplier")),
                epsilon(decision.number("epsilon_at_end")),
                reasons.join(", "),
            ]
        })
        .collect();
    let strategy = record.config().text("orchestrator.strategy").unwrap_or("fit");
    let decided = if rows.is_empty() {
        "It never had to act."
    } else {
        "These are its decisions other than to go on as planned."
    };
    section.say(format!("Strategy {strategy}. {decided}"));
    let head = ["round", "hospital", "action", "noise", "projected ε at the end", "reasons"];
    section.table("Decisions of the orchestrator", head, rows);
    let rows: Vec<[String; 5]> = record
        .rounds
        .iter()
        .flat_map(|round| {
            Fields(&round.report).items("orchestrator.anomalies").map(move |found| (round.round.0, found))
        })
        .map(|(round, found)| {
            [
                round.to_string(),
                found.text("hospital").unwrap_or("–").to_owned(),
                found.text("measurement").unwrap_or("–").replace('_', " "),
                plain(found.number("value")),
                rate(found.number("z_score")),
            ]
        })
        .collect();
    let head = ["round", "hospital", "measurement", "value", "standard deviations from the mean"];
    section.table("Measurements out of line", head, rows);
}

/// A reason of the orchestrator.
fn in_words(reason: Fields<'_>) -> String {
    match Reason::deserialize(reason.0) {
        Ok(known) => known.to_string(),
        Err(_) => reason.text("reason").unwrap_or("not known").replace('_', " "),
    }
}

/// The attacks of the membership audit by name.
pub(super) fn membership_attacks(record: &RunRecord) -> impl Iterator<Item = (&str, Fields<'_>)> {
    record.document(MEMBERSHIP).entries("attacks")
}

fn auc(attack: Fields<'_>) -> Option<Estimate> {
    let ends: Vec<f64> = attack.items("auc_interval").filter_map(|end| end.0.as_f64()).collect();
    let interval = <[f64; 2]>::try_from(ends).ok().map(|[low, high]| (low, high));
    attack.number("auc_roc").map(|value| Estimate { value, interval })
}

/// Whether canaries proved that the claim does not hold.
pub(super) fn is_refuted(record: &RunRecord) -> bool {
    record.document(MEMBERSHIP).flag("measured_privacy.refuted") == Some(true)
}

fn membership(record: &RunRecord, section: &mut Section) {
    section.heading("Membership inference");
    let attacks: Vec<(&str, Fields<'_>)> = membership_attacks(record).collect();
    if attacks.is_empty() {
        section.say(NOT_MEASURED);
        return;
    }
    let audit = record.document(MEMBERSHIP);
    let count = |key: &str| crate::number::count(audit.count(key));
    section.say(format!(
        "Attacks that guess whether an image was trained on: {} that were, {} that were not ({}). An AUC of 0.5 is guessing. A small value shows that these attacks fail, not that every attack would.",
        count("members"),
        count("non_members"),
        audit.text("non_members_from").unwrap_or("source not named"),
    ));
    let at = |attack: &Fields<'_>, target: f64| {
        let rates = attack.items("low_false_positives").find(|found| found.number("target") == Some(target));
        match rates.map(|found| found.estimate("measured.true_positive_rate")) {
            Some(Some(found)) => format!("{} ({})", rate(Some(found.value)), interval(Some(found))),
            Some(None) => "too few images".to_owned(),
            None => "–".to_owned(),
        }
    };
    let row = |(name, attack): &(&str, Fields<'_>)| {
        [
            name.replace('_', " "),
            rate(attack.number("accuracy")),
            value(auc(*attack)),
            interval(auc(*attack)),
            attack.text("privacy_grade").unwrap_or("–").to_owned(),
            match attack.flag("is_vulnerable") {
                Some(true) => "yes".to_owned(),
                Some(false) => "no".to_owned(),
                None => "–".to_owned(),
            },
            at(attack, 0.01),
            at(attack, 0.001),
        ]
    };
    let head = [
        "attack",
        "accuracy",
        "AUC",
        "95 % interval",
        "grade",
        "vulnerable",
        "TPR at 1 % FPR",
        "TPR at 0.1 % FPR",
    ];
    section.table("Membership inference attacks", head, attacks.iter().map(row).collect());
    let worst: Vec<String> = attacks.iter().flat_map(|(name, attack)| worst(name, *attack)).collect();
    section.list(worst);
    let curves: Vec<Curve> = attacks
        .iter()
        .filter_map(|(name, attack)| {
            let points: Vec<(f64, f64)> = attack
                .items("roc")
                .filter_map(|point| match point.0.as_array()?.as_slice() {
                    [x, y] => x.as_f64().zip(y.as_f64()),
                    _ => None,
                })
                .collect();
            let area = attack.number("auc_roc");
            (!points.is_empty()).then(|| Curve { name: name.replace('_', " "), points, area })
        })
        .collect();
    if !curves.is_empty() {
        let delta = record.config().number("privacy.delta");
        let ceiling = record.epsilon().zip(delta).map(|(epsilon, delta)| Ceiling { epsilon, delta });
        let title = "Membership inference attacks".to_owned();
        section.chart(RocChart { title, curves, log: true, ceiling }.draw(Width::FULL));
    }
}

/// The class and the hospital whose members an attack finds most easily.
fn worst(name: &str, attack: Fields<'_>) -> Vec<String> {
    let name = name.replace('_', " ");
    let group = |what: &str, key: &str| {
        let found = attack.at(key);
        let (group, auc) = found.text("name").zip(found.number("auc_roc"))?;
        Some(format!("{name}, {what} told apart best: {group}, AUC {auc:.3}."))
    };
    [group("class", "worst_class"), group("hospital", "worst_hospital")].into_iter().flatten().collect()
}

fn measured(record: &RunRecord, section: &mut Section) {
    let audit = record.document(MEMBERSHIP);
    let found = audit.at("measured_privacy");
    section.heading("Measured privacy");
    if found.is_null() {
        section.say(NOT_MEASURED);
    } else {
        let confidence = found
            .number("confidence")
            .map_or_else(|| "–".to_owned(), |confidence| format!("{:.0} %", confidence * 100.0));
        let verdict = match (is_refuted(record), found.number("claimed_epsilon")) {
            (true, _) => "The bound is above the claim: the guarantee does not hold.",
            (false, Some(_)) => {
                "The bound does not contradict the claim. A low bound does not prove privacy; the accounted ε does."
            }
            (false, None) => "Nothing was claimed: the model was trained without privacy.",
        };
        section.say(format!(
            "{} were planted, each by the toss of a coin. {} of {} guesses about the coins were right, which proves that ε is at least {} (confidence {confidence}); accounted for was {}. {verdict}",
            counted(found.count("canaries").unwrap_or(0), "canary", "canaries"),
            crate::number::count(found.count("correct")),
            crate::number::count(found.count("guesses")),
            epsilon_below(found.number("epsilon_lower_bound")),
            epsilon(found.number("claimed_epsilon")),
        ));
        let bar = |name: &str, key: &str| Bar {
            name: name.to_owned(),
            value: found.number(key),
            interval: None,
            note: None,
            alert: is_refuted(record) && key == "epsilon_lower_bound",
        };
        let chart = BarChart {
            title: "Lower bound against upper bound".to_owned(),
            bar_title: "bound".to_owned(),
            axis: Axis::new("ε"),
            interval_title: String::new(),
            bars: vec![
                bar("at least, as attacked", "epsilon_lower_bound"),
                bar("at most, as accounted", "claimed_epsilon"),
            ],
            thresholds: Vec::new(),
        };
        section.chart(chart.draw(Width::FULL));
    }
    section
        .list(audit.items("warnings").filter_map(|warning| warning.0.as_str().map(str::to_owned)).collect());
}

fn plain_number(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), |value| value.to_string())
}
