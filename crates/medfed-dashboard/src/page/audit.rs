//! `/audit`: the audit log of a run, its checkpoint, and whether it can be believed.

use super::answer::{Tone, answer};
use super::{Selection, error, format, layout};
use crate::app::App;
use crate::audit::{AuditLog, Verified, verified};
use crate::view::RunView;
use axum::extract::{Query, State};
use axum::response::Response;
use maud::{Markup, html};
use medfed_audit::entry::{Action, RosterNumber};
use medfed_audit::{AuditError, Entry, SignedCheckpoint};
use medfed_store::Timestamp;
use medfed_types::{Epsilon, RunId};
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinError;

/// Entries that are shown; the newest.
const SHOWN: usize = 200;
/// How long the page waits for a log to be checked. Every signature is, and a long run has ten thousand.
const PATIENCE: Duration = Duration::from_millis(25);

/// Whether the log is to be verified.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Wish {
    verify: Option<String>,
}

/// The page.
pub(crate) async fn page(
    State(app): State<App>,
    Query(selection): Query<Selection>,
    Query(wish): Query<Wish>,
) -> Result<Markup, Response> {
    let Some(run) = selection.find(&app).await? else {
        let content = html! {
            section.empty #empty data-live { h2 { "No run yet" } p { "A run writes its audit log as it goes." } }
        };
        return Ok(layout::page(&app, "/audit", "Audit log", None, &content));
    };
    let read = look(&app, &run.run.id, wish.verify.is_some()).await;
    let read = read.map_err(|failure| error::broken(&app, &failure))?;
    let checked = match (&read, wish.verify.is_some()) {
        (Ok(Look::Checked(_)), true) => Some(check(&app, &run).await),
        _ => None,
    };
    let content = match read {
        Ok(Look::Nothing) => html! {
            (answer(Tone::Open, "This run has no audit log."))
            div #audit data-live {
                p { "A run writes one while " code { "secure_aggregation.audit_enabled" } " is true: set it on the " a href="/training" { "training page" } "." }
            }
        },
        // A log that cannot be read is a finding, not a fault of this program.
        Err(failure) => html! {
            (answer(Tone::Bad, "The audit log cannot be read."))
            div #audit data-live { p.notice.bad { (failure.to_string()) } }
        },
        Ok(Look::Checked(log)) => {
            html! { (head(&log, checked.as_ref())) (whole(&run, &log, checked.as_ref())) }
        }
        Ok(Look::Checking(newest, None)) => html! {
            (answer(Tone::Open, &format!("The {} entries of the audit log are being checked.", newest.checkpoint().size)))
            (later())
            (verify(&run))
            (checkpoint(&newest))
        },
        Ok(Look::Checking(newest, Some(log))) => html! {
            (head_of_earlier(&log, &newest))
            (later())
            (whole(&run, &log, None))
        },
    };
    Ok(layout::page(&app, "/audit", "Audit log", Some(&run), &content))
}

/// What is known of a log.
enum Look {
    /// There is none.
    Nothing,
    /// Nothing has changed since it was checked.
    Checked(Arc<AuditLog>),
    /// It is being checked: its newest checkpoint, and what checking found the last time.
    Checking(SignedCheckpoint, Option<Arc<AuditLog>>),
}

/// Looks at a log. Checking takes its time, and unless the visitor asked for it, the page does not wait: an
/// event tells when it is done.
async fn look(app: &App, run: &RunId, waits: bool) -> Result<Result<Look, AuditError>, JoinError> {
    let known = app.source.audited(run);
    if let Some((log, true)) = known {
        return Ok(Ok(Look::Checked(log)));
    }
    let checked = |log: Option<Arc<AuditLog>>| log.map_or(Look::Nothing, Look::Checked);
    if waits || !app.source.is_auditing() {
        let (reading, id) = (app.clone(), run.clone());
        let mut checking = tokio::task::spawn_blocking(move || reading.source.audit(&id));
        if waits {
            return Ok(checking.await?.map(checked));
        }
        if let Ok(done) = tokio::time::timeout(PATIENCE, &mut checking).await {
            return Ok(done?.map(checked));
        }
        let (telling, id) = (app.clone(), run.clone());
        tokio::spawn(async move {
            // What was found, also a failure, is what the page shows when it asks again.
            let _ = checking.await;
            telling.hub.send("audit", &json!({ "run": id }));
        });
    }
    let (reading, id) = (app.clone(), run.clone());
    let newest = move || crate::audit::newest(reading.source.dir(), &id);
    let newest = tokio::task::spawn_blocking(newest).await?;
    let earlier = known.map(|(log, _)| log);
    Ok(newest.map(|newest| newest.map_or(Look::Nothing, |newest| Look::Checking(newest, earlier))))
}

/// Whether a log that was checked can be believed.
fn head(log: &AuditLog, checked: Option<&Result<Verified, String>>) -> Markup {
    let (verdict, summary) = (&log.verdict, &log.verdict.summary);
    let refuted = matches!(checked, Some(Ok(found)) if found.logs.iter().any(|log| !log.sound));
    match (verdict.faults.is_empty() && !refuted, &summary.finished) {
        (false, _) => answer(Tone::Bad, UNSOUND),
        (true, Some(_)) => answer(Tone::Good, "The audit log is sound and ends with the end of the run."),
        (true, None) => answer(Tone::Good, "The audit log is sound so far; the run has not ended."),
    }
}

/// Whether a log that has changed since it was checked could be believed then.
fn head_of_earlier(log: &AuditLog, newest: &SignedCheckpoint) -> Markup {
    let (known, now) = (log.newest.checkpoint().size, newest.checkpoint().size);
    if !log.verdict.faults.is_empty() {
        answer(Tone::Bad, UNSOUND)
    } else if now > known {
        let newer = now - known;
        let entries = if newer == 1 { "entry is" } else { "entries are" };
        answer(
            Tone::Good,
            &format!(
                "The first {known} entries of the audit log are sound; {newer} newer {entries} being checked."
            ),
        )
    } else {
        answer(
            Tone::Good,
            &format!(
                "The {known} entries of the audit log were sound when they were last checked; they are being checked again."
            ),
        )
    }
}

const UNSOUND: &str = "The audit log is not sound; below is what is wrong.";

fn later() -> Markup {
    html! { noscript { p.note { "Load the page again to see what was found." } } }
}

fn verify(run: &RunView) -> Markup {
    html! {
        form.no-print method="get" action="/audit" {
            input type="hidden" name="run" value=(run.run.id);
            input type="hidden" name="verify" value="yes";
            div.buttons { button.primary #verify type="submit" { "Verify against ledgers and model" } }
        }
    }
}

fn checkpoint(newest: &SignedCheckpoint) -> Markup {
    html! {
        section #newest.panel data-live aria-label="Newest checkpoint" {
            h2 { "Newest checkpoint" }
            p.note { "Keep a copy: whoever has one can prove that nothing before it was changed since." }
            pre tabindex="0" { (newest.to_text()) }
        }
    }
}

async fn check(app: &App, run: &RunView) -> Result<Verified, String> {
    verified(app, &run.run.id).await.map_err(|failure| failure.to_string())
}

fn whole(run: &RunView, log: &Arc<AuditLog>, checked: Option<&Result<Verified, String>>) -> Markup {
    let (verdict, summary) = (&log.verdict, &log.verdict.summary);
    html! {
        (verify(run))
        @if let Some(checked) = checked { (outcome(checked)) }
        @if !verdict.faults.is_empty() {
            section #faults data-live aria-label="Faults" {
                h2 { "What is wrong" }
                ul { @for fault in &verdict.faults { li { (fault.place.to_string()) ": " (fault.problem.to_string()) } } }
            }
        }
        section #checkpoint.cards data-live aria-label="In short" {
            div.card { h2 { "Entries" } p.figure { (summary.entries) } p.note { (log.payments()) " payments for privacy, " (summary.rounds) " rounds" } }
            div.card { h2 { "Checkpoints" } p.figure { (summary.checkpoints) } p.note { "each continues the one before" } }
            div.card { h2 { "Signatures of hospitals" } p.figure { (summary.cosignatures) }
                p.note { "by " (summary.hospitals.len()) " hospitals" @if let Some(signed) = summary.signed { ", last at " (time(signed)) } } }
        }
        (checkpoint(&log.newest))
        section #audited-hospitals data-live {
            div.scroll.panel tabindex="0" role="group" aria-label="Hospitals" {
                table {
                    caption { "What the log says about each hospital; ε is computed anew from the payments" }
                    thead { tr { th scope="col" { "Hospital" } th.number scope="col" { "Rounds" } th.number scope="col" { "Steps paid" } th.number scope="col" { "ε (PLD)" } th.number scope="col" { "ε (RDP)" } } }
                    tbody {
                        @for hospital in &summary.hospitals {
                            tr {
                                th scope="row" { (hospital.site) } td.number { (hospital.rounds) } td.number { (hospital.steps) }
                                @match &hospital.spent {
                                    Some(spent) => { td.number { (rounded(spent.pld)) } td.number { (rounded(spent.rdp)) } }
                                    None => { td.number { "–" } td.number { "–" } }
                                }
                            }
                        }
                    }
                }
            }
        }
        (entries(log))
        @if !verdict.notes.is_empty() {
            section #notes data-live aria-label="Notes" { h2 { "Notes" } ul { @for note in &verdict.notes { li { (note) } } } }
        }
    }
}

fn entries(log: &AuditLog) -> Markup {
    let verdict = &log.verdict;
    let sites: Vec<&str> = verdict.summary.hospitals.iter().map(|hospital| hospital.site.as_str()).collect();
    let more = verdict.entries.len().saturating_sub(SHOWN);
    html! {
        section #entries data-live {
            div.scroll.panel tabindex="0" role="group" aria-label="Entries" {
                table {
                    caption {
                        "Entries, newest first"
                        @if more > 0 { "; " (more) " older ones: " code { "medfed audit show" } }
                    }
                    thead { tr { th.number scope="col" { "Number" } th scope="col" { "Kind" } th scope="col" { "What" } } }
                    tbody {
                        @for (number, entry) in verdict.entries.iter().rev().take(SHOWN) {
                            @let (kind, text) = in_words(entry, &sites);
                            tr { td.number { (number) } td { (kind) } td { (text) } }
                        }
                    }
                }
            }
        }
    }
}

fn outcome(checked: &Result<Verified, String>) -> Markup {
    html! {
        section #verified aria-label="Verification" role="status" {
            @match checked {
                Err(problem) => div.notice.bad { h2 { "It could not be verified" } p { (problem) } },
                Ok(verified) => {
                    @for log in &verified.logs {
                        div.notice.(if log.sound { "good" } else { "bad" }) {
                            @if log.sound {
                                p.verdict.lead { span.mark.good aria-hidden="true" { "✓" } strong { "Verified: the log is sound." } }
                                p.note { "Signatures, entries, ε, the hospitals' ledgers and the saved model agree." }
                            } @else {
                                p.verdict.lead { span.mark.bad aria-hidden="true" { "✗" } strong { "Not sound: do not rely on this run." } }
                                ul { @for fault in &log.faults { li { (fault.place) ": " (fault.problem) } } }
                            }
                            @for note in &log.notes { p.note { (note) } }
                        }
                    }
                }
            }
        }
    }
}

/// An entry: its kind and a sentence.
fn in_words(entry: &Entry, sites: &[&str]) -> (&'static str, String) {
    let site =
        |number: &RosterNumber| sites.get(usize::from(number.0)).copied().unwrap_or("unknown hospital");
    match entry {
        Entry::Started(it) => {
            ("start", format!("{} at {}, first model {}", it.program, time(it.time), short(&it.model)))
        }
        Entry::Configuration(_) => ("configuration", "what of it is public; /technical shows it".to_owned()),
        Entry::Hospital(it) => ("hospital", format!("{}, key {}", it.site, short(&it.key))),
        Entry::Rules(it) => {
            let promise = it.privacy.as_ref().map_or_else(
                || "no privacy".to_owned(),
                |promise| {
                    format!(
                        "ε at most {} with δ = {:e} for each {}",
                        promise.budget,
                        promise.delta.get(),
                        promise.unit
                    )
                },
            );
            ("rules", format!("{}, at least {} updates; {promise}", it.aggregation, it.min_updates))
        }
        Entry::Payment(it) => (
            "payment",
            format!(
                "round {}: {} pays for {} steps; ε now {} (PLD)",
                it.round,
                site(&it.hospital),
                it.steps,
                rounded(it.spent.pld)
            ),
        ),
        Entry::Event(it) => {
            ("event", format!("round {}: {} {}", it.round, it.what.replace('_', " "), it.detail))
        }
        Entry::Selection(it) => {
            let selected: Vec<&str> = it.selected.iter().map(site).collect();
            let selected = if selected.is_empty() { "nobody".to_owned() } else { selected.join(", ") };
            (
                "selection",
                format!(
                    "round {}: distances between {} updates opened; selected: {selected}",
                    it.round,
                    it.compared.len()
                ),
            )
        }
        Entry::Round(it) => {
            let took: Vec<&str> = it.participants.iter().map(site).collect();
            let left: Vec<String> = it
                .excluded
                .iter()
                .map(|out| format!("; not {}: {}", site(&out.hospital), out.reason))
                .collect();
            (
                "round",
                format!(
                    "round {}: {}{}; model {} became {}",
                    it.round,
                    took.join(", "),
                    left.concat(),
                    short(&it.before),
                    short(&it.after)
                ),
            )
        }
        Entry::Operator(it) => {
            let action = if it.action == Action::Stopped { "stopped" } else { "taken up again" };
            ("operator", format!("{action} at {}", time(it.time)))
        }
        Entry::Finished(it) => {
            ("end", format!("{} at {}; model {}", it.status, time(it.time), short(&it.model)))
        }
        // The library knows no kind that this program does not.
        other => ("other", format!("{other:?}")),
    }
}

/// Seconds since 1970, for people. A forged time may be any number; the year 9999 is late enough.
fn time(seconds: u64) -> String {
    format::moment(Timestamp(1000 * seconds.min(253_402_300_799).cast_signed()))
}

/// The first digits of a hash.
fn short(hash: &medfed_audit::Digest) -> String {
    hash.to_string().chars().take(12).collect()
}

/// Rounded up, so that the page never understates.
fn rounded(epsilon: Epsilon) -> String {
    format!("{:.4}", epsilon.rounded_up(4))
}
