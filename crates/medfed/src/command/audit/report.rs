//! What a log says, for people and for programs.

use super::location::Log;
use medfed_audit::Verdict;
use medfed_audit::entry::{Action, Entry, RosterNumber};
use medfed_store::Timestamp;
use medfed_types::Epsilon;
use serde_json::{Value, json};
use std::fmt::Write as _;

/// JSON for people who look into it too.
pub(super) fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

/// A verdict in one object.
pub(super) fn verdict_json(log: &Log, verdict: &Verdict, faults: &[(String, String)]) -> Value {
    let listed: Vec<Value> =
        faults.iter().map(|(place, problem)| json!({ "place": place, "problem": problem })).collect();
    json!({
        "path": log.path().display().to_string(),
        "sound": faults.is_empty(),
        "faults": listed,
        "notes": verdict.notes,
        "summary": verdict.summary,
    })
}

/// A verdict in a few lines.
pub(super) fn verdict_text(log: &Log, verdict: &Verdict, faults: &[(String, String)]) -> String {
    let summary = &verdict.summary;
    let name = match &summary.run {
        Some(run) => format!("run {run}"),
        None => log.path().display().to_string(),
    };
    let mut text = match faults.len() {
        0 => format!("{name}: the audit log is sound\n"),
        1 => format!("{name}: THE AUDIT LOG IS NOT SOUND, 1 fault\n"),
        count => format!("{name}: THE AUDIT LOG IS NOT SOUND, {count} faults\n"),
    };
    // Writing to a string cannot fail.
    for (place, problem) in faults {
        let _ = writeln!(text, "  fault: {place}: {problem}");
    }
    let _ = writeln!(
        text,
        "  {} entries, {} checkpoints, {} signatures by {} hospitals{}",
        summary.entries,
        summary.checkpoints,
        summary.cosignatures,
        summary.hospitals.len(),
        summary.signed.map_or(String::new(), |seconds| format!(", the last at {}", time(seconds))),
    );
    let ended = match &summary.finished {
        Some(finished) => finished.status.to_string(),
        None => "not ended".to_owned(),
    };
    let _ = writeln!(text, "  {} rounds, {ended}", summary.rounds);
    if let Some(rules) = &summary.rules {
        let _ =
            writeln!(text, "  aggregation: {}, at least {} updates", rules.aggregation, rules.min_updates);
        let _ = match &rules.privacy {
            Some(promise) => writeln!(
                text,
                "  promise: epsilon at most {} with delta {:e} for each {}, by the {} accountant",
                promise.budget,
                promise.delta.get(),
                promise.unit,
                promise.accountant,
            ),
            None => writeln!(text, "  promise: none"),
        };
        for hospital in &summary.hospitals {
            let spent = match &hospital.spent {
                Some(spent) => format!(
                    ", {} steps paid, epsilon {} (pld) and {} (rdp), recomputed",
                    hospital.steps,
                    rounded(spent.pld),
                    rounded(spent.rdp)
                ),
                None => String::new(),
            };
            let _ = writeln!(text, "  {}: {} rounds{spent}", hospital.site, hospital.rounds);
        }
        for disclosure in &rules.disclosures {
            let _ = writeln!(text, "  shown to {}: {}", disclosure.to, disclosure.what);
        }
        for escape in &rules.escapes {
            let _ = writeln!(text, "  given up: {escape}");
        }
    }
    for note in &verdict.notes {
        let _ = writeln!(text, "  note: {note}");
    }
    text
}

/// All entries in one object.
pub(super) fn entries_json(log: &Log, verdict: &Verdict) -> Value {
    let entry = |(index, entry): &(u64, Entry)| {
        let mut value = json!(entry);
        value["index"] = json!(index);
        // Logged as text of one form, shown as what it is.
        for key in ["json", "detail"] {
            if let Some(text) = value[key].as_str() {
                value[key] = serde_json::from_str(text).unwrap_or(Value::Null);
            }
        }
        value
    };
    let entries: Vec<Value> = verdict.entries.iter().map(entry).collect();
    let faults: Vec<String> = verdict.faults.iter().map(ToString::to_string).collect();
    json!({ "path": log.path().display().to_string(), "faults": faults, "entries": entries })
}

/// All entries, one a line.
pub(super) fn entries_text(log: &Log, verdict: &Verdict) -> String {
    let mut text = format!("{}\n", log.path().display());
    let sites: Vec<&str> = verdict.summary.hospitals.iter().map(|hospital| hospital.site.as_str()).collect();
    for (index, entry) in &verdict.entries {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{index:>6}  {}", line(entry, &sites));
    }
    if !verdict.faults.is_empty() {
        let _ = writeln!(
            text,
            "THIS LOG IS NOT SOUND: {} faults, which `medfed audit verify` names",
            verdict.faults.len()
        );
    }
    text
}

fn line(entry: &Entry, sites: &[&str]) -> String {
    let site =
        |number: &RosterNumber| sites.get(usize::from(number.0)).copied().unwrap_or("unknown hospital");
    match entry {
        Entry::Started(it) => format!(
            "start of run {} at {} by {}; first model {}; {} hospitals sign",
            it.run,
            time(it.time),
            it.program,
            short(&it.model.to_string()),
            it.cosignatures
        ),
        Entry::Configuration(it) => format!("configuration {}", it.json),
        Entry::Hospital(it) => {
            format!("hospital {}: {}, key {}", it.number.0, it.site, short(&it.key.to_string()))
        }
        Entry::Rules(it) => format!(
            "rules: {}, at least {} updates{}",
            it.aggregation,
            it.min_updates,
            it.privacy.as_ref().map_or(", no privacy".to_owned(), |promise| format!(
                ", epsilon at most {} with delta {:e} for each {}",
                promise.budget,
                promise.delta.get(),
                promise.unit
            ))
        ),
        Entry::Payment(it) => format!(
            "round {}: {} pays for {} steps, rate {:.6}, noise {:.6}; epsilon {} (pld), {} (rdp)",
            it.round,
            site(&it.hospital),
            it.steps,
            it.rate.get(),
            it.noise.get(),
            rounded(it.spent.pld),
            rounded(it.spent.rdp)
        ),
        Entry::Event(it) => format!("round {}: {} {}", it.round, it.what.replace('_', " "), it.detail),
        Entry::Selection(it) => {
            let names = |numbers: &mut dyn Iterator<Item = RosterNumber>| match numbers
                .map(|number| site(&number))
                .collect::<Vec<_>>()
            {
                names if names.is_empty() => "nobody".to_owned(),
                names => names.join(", "),
            };
            format!(
                "round {}: inner products of {} opened; selected: {}; longer than agreed: {}",
                it.round,
                names(&mut it.compared.iter().map(|compared| compared.hospital)),
                names(&mut it.selected.iter().copied()),
                names(&mut it.too_long.iter().copied())
            )
        }
        Entry::Round(it) => {
            let took: Vec<&str> = it.participants.iter().map(site).collect();
            let not: Vec<String> = it
                .excluded
                .iter()
                .map(|other| format!("; not {}: {}", site(&other.hospital), other.reason))
                .collect();
            let (before, after) = (it.before.to_string(), it.after.to_string());
            format!(
                "round {}: {}{}; model {} to {}",
                it.round,
                took.join(", "),
                not.concat(),
                short(&before),
                short(&after)
            )
        }
        Entry::Operator(it) => {
            let action = match it.action {
                Action::Stopped => "stopped",
                Action::Resumed => "taken up again",
            };
            format!("{action} by the operator at {}", time(it.time))
        }
        Entry::Finished(it) => format!(
            "end at {}: {}; model of {} {}",
            time(it.time),
            it.status,
            it.best_round.map_or("the start".to_owned(), |round| format!("round {round}")),
            short(&it.model.to_string())
        ),
        // The library knows no kind that this program does not.
        other => pretty(&json!(other)),
    }
}

/// Seconds since 1970, for people.
fn time(seconds: u64) -> String {
    // A forged time may be any number; the year 9999 is late enough.
    Timestamp(1000 * seconds.min(253_402_300_799).cast_signed()).to_string()
}

/// The first digits of a hash.
fn short(hash: &str) -> &str {
    hash.get(..12).unwrap_or(hash)
}

/// Rounded up, so that print never understates.
fn rounded(epsilon: Epsilon) -> String {
    format!("{:.4}", epsilon.rounded_up(4))
}
