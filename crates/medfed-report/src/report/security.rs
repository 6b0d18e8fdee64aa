//! What protects the model from hospitals that err or attack.

use crate::document::Section;
use crate::fields::Fields;
use crate::number::counted;
use crate::record::RunRecord;
use medfed_store::Event;
use serde_json::Value;
use std::collections::BTreeMap;

/// The attack that was simulated.
pub(super) fn simulated_attack(record: &RunRecord) -> Option<(String, Vec<String>)> {
    let found = record.summary().at("simulated_attack");
    let configured = record.config().text("simulation.attack").filter(|attack| *attack != "none");
    let attack = found.text("attack").or(configured)?;
    let attackers = found.items("attackers").filter_map(|site| site.0.as_str().map(str::to_owned)).collect();
    Some((attack.replace('_', " "), attackers))
}

/// Whether anything was wrong with an update in any round.
pub(super) fn anything(record: &RunRecord) -> bool {
    record.rounds.iter().any(|round| out_of_line(round))
}

/// Whether anything was wrong with an update in a round.
pub(super) fn out_of_line(round: &medfed_store::Round) -> bool {
    Fields(&round.report).flag("security.byzantine_detected") == Some(true)
}

pub(super) fn section(record: &RunRecord) -> Section {
    let mut section = Section::new("Security");
    let config = record.config();
    section.heading("Aggregation");
    let rule = record.last_round().text("security.aggregation_method").filter(|rule| !rule.is_empty());
    let configured = if config.flag("robust_aggregation.enabled") == Some(true) {
        config.text("robust_aggregation.method").unwrap_or("fedavg")
    } else {
        "fedavg"
    };
    section.say(format!("Updates were put together by this rule: {}.", rule.unwrap_or(configured)));
    section.say(if config.flag("robust_aggregation.enable_detection") == Some(true) && config.flag("robust_aggregation.enabled") == Some(true) {
        "Updates out of line were looked for in every round."
    } else {
        "Updates out of line were not looked for; those that are not finite, too long or too short are always refused."
    });
    for sentence in revealed(record) {
        section.say(sentence);
    }
    if let Some(selected) = not_selected(record) {
        section.say(selected);
    }
    let mut warnings: Vec<String> = Vec::new();
    for round in &record.rounds {
        for warning in
            Fields(&round.report).items("security.warnings").filter_map(|warning| warning.0.as_str())
        {
            if !warnings.iter().any(|known| known == warning) {
                warnings.push(warning.to_owned());
            }
        }
    }
    section.list(warnings);
    findings(record, &mut section);
    if let Some((attack, attackers)) = simulated_attack(record) {
        section.heading("Simulated attack");
        let by = if attackers.is_empty() { String::new() } else { format!(" by {}", attackers.join(", ")) };
        section.say(format!("This run simulated an attack{by}: {attack}. Its model must not be used."));
        let backdoor = record.summary().at("simulated_attack.backdoor");
        if let Some((with, without)) = backdoor.number("with_trigger").zip(backdoor.number("without_trigger"))
        {
            section.say(format!(
                "With the trigger in the image the model says what the attackers want in {:.0} of 100 cases, without it in {:.0}.",
                with * 100.0,
                without * 100.0
            ));
        }
    }
    events(record, &mut section);
    section
}

/// What was revealed of updates, as the rounds tell it.
fn revealed(record: &RunRecord) -> Vec<String> {
    let mut found: Vec<(&str, usize)> = Vec::new();
    for round in &record.rounds {
        let mode = Fields(&round.report).text("security.masking.mode").unwrap_or("open");
        match found.iter_mut().find(|(known, _)| *known == mode) {
            Some((_, rounds)) => *rounds += 1,
            None => found.push((mode, 1)),
        }
    }
    let sentence = |(mode, rounds): (&str, usize)| {
        let says = match mode {
            "open" => "Updates were not masked: the coordinator saw each hospital's update, with its noise",
            "sum" => "Updates were masked: the coordinator saw the sum of all and no single one",
            "selection" => {
                "Updates were masked: the coordinator and every hospital saw the inner products between them, so their norms, distances and directions; the coordinator saw the sum of the selected and no single update"
            }
            "groups" => {
                "Updates were masked: the coordinator saw the sums of random groups of hospitals and no single update"
            }
            other => return format!("Updates were masked ({other})."),
        };
        if rounds == record.rounds.len() {
            format!("{says}.")
        } else {
            format!("{says} (in {} of {}).", rounds, counted(record.rounds.len() as u64, "round", "rounds"))
        }
    };
    found.into_iter().map(sentence).collect()
}

/// Who was not selected among masked updates, and how often.
fn not_selected(record: &RunRecord) -> Option<String> {
    let mut times: BTreeMap<String, u64> = BTreeMap::new();
    let mut selections = 0;
    for round in &record.rounds {
        let report = Fields(&round.report);
        selections += usize::from(!report.at("security.masking.selection").is_null());
        for passed in report.items("security.masking.selection.passed_over") {
            *times.entry(passed.text("hospital").unwrap_or("–").to_owned()).or_default() += 1;
        }
    }
    if selections == 0 {
        return None;
    }
    let each = times.iter().map(|(site, times)| format!("{site} in {}", counted(*times, "round", "rounds")));
    let each: Vec<String> = each.collect();
    Some(if each.is_empty() {
        "Everyone's update was selected in every round.".to_owned()
    } else {
        format!("Not selected: {}.", each.join(", "))
    })
}

fn findings(record: &RunRecord, section: &mut Section) {
    const MOST: usize = 60;
    let mut rows = Vec::new();
    for round in &record.rounds {
        let report = Fields(&round.report);
        for left_out in report.items("security.exclusions") {
            let hospital = left_out.text("hospital").unwrap_or("–").to_owned();
            rows.push([
                round.round.to_string(),
                hospital,
                "left out".to_owned(),
                left_out.text("reason").unwrap_or("–").to_owned(),
            ]);
        }
        for anomaly in report.items("security.anomalies") {
            let hospital =
                anomaly.text("site").or_else(|| anomaly.text("hospital")).unwrap_or("–").to_owned();
            rows.push([round.round.to_string(), hospital, "out of line".to_owned(), finding(anomaly)]);
        }
    }
    section.heading("Findings");
    if rows.is_empty() {
        section.say("No update was left out or found out of line.");
        return;
    }
    let more = rows.len().saturating_sub(MOST);
    rows.truncate(MOST);
    section.table("Updates left out or out of line", ["round", "hospital", "what", "detail"], rows);
    if more > 0 {
        section.say(format!("And {} more in the store.", counted(more as u64, "finding", "findings")));
    }
}

/// A finding of the detector in words.
fn finding(anomaly: Fields<'_>) -> String {
    let told = |key: &str| ["site", "hospital"].contains(&key);
    let said = anomaly.entries("").filter(|(key, value)| !told(key) && !value.is_null());
    said.map(|(key, value)| format!("{} {}", key.replace('_', " "), words(value)))
        .collect::<Vec<_>>()
        .join(", ")
}

/// A stored value in words.
fn words(value: Fields<'_>) -> String {
    match value.0 {
        Value::Null => "none".to_owned(),
        Value::Bool(flag) => if *flag { "yes" } else { "no" }.to_owned(),
        Value::Number(number) => match number.as_u64() {
            Some(whole) => crate::number::whole(whole),
            None => number.as_f64().map_or_else(|| number.to_string(), |number| format!("{number:.3}")),
        },
        Value::String(text) => text.replace('_', " "),
        Value::Array(_) => value.items("").map(words).collect::<Vec<_>>().join(", "),
        Value::Object(_) => {
            let entries =
                value.entries("").map(|(key, value)| format!("{} {}", key.replace('_', " "), words(value)));
            entries.collect::<Vec<_>>().join("; ")
        }
    }
}

/// What happened, violations of fairness aside: they have their own section.
pub(super) fn incidents(record: &RunRecord) -> Vec<&Event> {
    record.events.iter().filter(|event| !event.kind.starts_with("fairness")).collect()
}

fn events(record: &RunRecord, section: &mut Section) {
    const MOST: usize = 100;
    section.heading("Events");
    let events = incidents(record);
    if events.is_empty() {
        section.say("None recorded.");
        return;
    }
    let row = |event: &&Event| {
        [
            event.time.to_string(),
            event.round.map_or_else(|| "–".to_owned(), |round| round.to_string()),
            event.kind.replace('_', " "),
            detail(&event.detail),
        ]
    };
    let more = events.len().saturating_sub(MOST);
    let rows = events.iter().take(MOST).map(row).collect();
    section.table("Recorded events", ["time (UTC)", "round", "event", "detail"], rows);
    if more > 0 {
        section.say(format!("And {} more in the store.", counted(more as u64, "event", "events")));
    }
}

/// The particulars of an event in one line.
fn detail(value: &Value) -> String {
    let fields = Fields(value);
    let sentence = ["message", "reason", "text"].into_iter().find_map(|key| fields.text(key));
    sentence.map_or_else(|| words(fields), str::to_owned)
}
