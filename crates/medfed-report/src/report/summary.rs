//! The executive summary: what to know without knowing the field.

use super::privacy::{is_refuted, membership_attacks};
use super::{fairness, performance, security};
use crate::document::{Block, Section, Tone};
use crate::fields::Estimate;
use crate::number::{counted, epsilon, of_hundred, whole};
use crate::record::RunRecord;
use medfed_chart::{Gauge, Width};
use medfed_store::RunStatus;

pub(super) fn section(record: &RunRecord) -> Section {
    let mut section = Section::new("Executive summary");
    section.blocks.push(verdict(record));
    section.list(
        [trained(record), quality(record), even(record), private(record), incidents(record)]
            .into_iter()
            .flatten()
            .collect(),
    );
    if let Some(chart) = performance::by_round(record) {
        section.chart(chart);
    }
    if let Some(chart) = budget(record) {
        section.chart(chart);
    }
    section.heading("Sign-off");
    section.say("By signing, the persons named confirm that they have read this report and its limits.");
    section.blocks.push(Block::SignOff(
        ["Clinical lead", "Data protection officer", "Responsible for the federation"]
            .map(str::to_owned)
            .to_vec(),
    ));
    section
}

/// What it comes to: the worst of all findings, with every reason.
pub(crate) fn verdict(record: &RunRecord) -> Block {
    let mut reasons: Vec<(Tone, String)> = Vec::new();
    let mut add = |tone, text: &str| reasons.push((tone, text.to_owned()));
    match record.run.status {
        RunStatus::Failed => match record.summary().text("reason") {
            Some(reason) => add(Tone::Bad, &format!("The run was stopped before its end: {reason}.")),
            None => add(Tone::Bad, "The run failed before its end."),
        },
        RunStatus::Running => add(Tone::Caution, "The run is still going on; these are its numbers so far."),
        RunStatus::Interrupted => {
            add(Tone::Caution, "The run was interrupted; these are its numbers so far.")
        }
        RunStatus::BudgetExhausted => {
            add(Tone::Caution, "The privacy budget ended the run before its last planned round.");
        }
        RunStatus::Completed => {}
    }
    if security::simulated_attack(record).is_some() {
        add(Tone::Bad, "An attack was simulated in this run. Its model is for study only.");
    }
    if !record.document("canary_coins").is_null() {
        add(
            Tone::Bad,
            "Test images (canaries) were planted among the training images to measure privacy. The model is for study only.",
        );
    }
    if record.config().text("data.dataset") == Some("synthetic") {
        add(
            Tone::Caution,
            "The images are synthetic: the run shows that the system works, and nothing about patients.",
        );
    }
    if !record.is_private() {
        add(
            Tone::Bad,
            "The model was trained without differential privacy. It may give away whose images it was trained on.",
        );
    }
    if record.summary().flag("reproducible_noise") == Some(true) {
        add(
            Tone::Caution,
            "The noise followed from a seed. The privacy guarantee holds only against those who do not know it.",
        );
    }
    match performance::test_auc(record) {
        None => add(Tone::Caution, "How well the model does on images of a test set was not measured."),
        Some(Estimate { interval: Some((low, _)), .. }) if low <= 0.5 => {
            add(Tone::Bad, "The model is not shown to be better than guessing.");
        }
        Some(Estimate { value, .. }) if value <= 0.5 => {
            add(Tone::Bad, "The model is no better than guessing.")
        }
        Some(_) => {}
    }
    if performance::one_class_for_all(record) {
        add(
            Tone::Bad,
            "The model says the same of every test image: it cannot be used at its threshold, and equal rates between groups mean nothing.",
        );
    }
    if fairness::groups_of(record).iter().all(|(.., group)| group.at("rates").is_null()) {
        add(Tone::Caution, "Whether the model serves groups of patients equally well was not measured.");
    }
    let violations = fairness::violations(record);
    if !violations.is_empty() {
        let confirmed = violations.iter().filter(|violation| violation.confirmed).count();
        let certain = match confirmed {
            0 => "by a margin that chance may explain".to_owned(),
            _ => format!("{confirmed} of them beyond doubt"),
        };
        let all = counted(
            violations.len() as u64,
            "threshold of fairness is violated",
            "thresholds of fairness are violated",
        );
        add(Tone::Caution, &format!("{all}, {certain}."));
    }
    if membership_attacks(record).next().is_none() {
        add(Tone::Caution, "Whether attacks can tell which images were trained on was not tested.");
    }
    if membership_attacks(record).any(|(_, attack)| attack.flag("is_vulnerable") == Some(true)) {
        add(Tone::Bad, "An attack could tell images that were trained on from others.");
    }
    if is_refuted(record) {
        add(Tone::Bad, "Measured privacy is worse than claimed: the guarantee does not hold.");
    }
    if security::anything(record) {
        add(Tone::Caution, "Updates of hospitals were out of line or left out; see Security.");
    }
    reasons.sort_by_key(|(tone, _)| std::cmp::Reverse(*tone));
    let tone = reasons.iter().map(|(tone, _)| *tone).max().unwrap_or(Tone::Good);
    let title = match tone {
        Tone::Good => "Ready for clinical review",
        Tone::Caution => "Review with caution",
        Tone::Bad => "Do not use",
    };
    let mut reasons: Vec<String> = reasons.into_iter().map(|(_, text)| text).collect();
    if reasons.is_empty() {
        reasons.push(
            "Nothing that was measured speaks against the model. Clinical use needs a validation of its own."
                .to_owned(),
        );
    }
    Block::Verdict { tone, title: title.to_owned(), reasons }
}

fn trained(record: &RunRecord) -> Option<String> {
    let last = record.last_round();
    let images: u64 = last.items("hospitals").filter_map(|site| site.count("train_images")).sum();
    let hospitals = last.items("hospitals").count() as u64;
    if hospitals == 0 {
        return Some("No round has been finished yet.".to_owned());
    }
    let model = record.config().text("model.name").unwrap_or("network");
    let (hospitals, images) =
        (counted(hospitals, "hospital", "hospitals"), counted(images, "image", "images"));
    let rounds = counted(u64::from(record.run.rounds), "round", "rounds");
    Some(format!(
        "What was done: {hospitals} trained one model ({model}) together for {rounds}, on {images}. Images stayed where they were; hospitals sent updates of the model."
    ))
}

fn quality(record: &RunRecord) -> Option<String> {
    let test = performance::test(record);
    let auc = test.estimate("auc")?;
    let n = whole(test.count("n").unwrap_or(0));
    let range = |found: Estimate| {
        found.interval.map_or_else(String::new, |(low, high)| {
            format!(" (95 % interval {} to {})", of_hundred(low), of_hundred(high))
        })
    };
    let mut text = format!(
        "How good: on {n} test images, of one image with the finding and one without, the model ranks the right one higher in {} of 100 cases{}; guessing gives 50.",
        of_hundred(auc.value),
        range(auc)
    );
    if let Some(accuracy) = test.estimate("accuracy") {
        text += &format!(
            " It classifies {} of 100 images correctly{}.",
            of_hundred(accuracy.value),
            range(accuracy)
        );
    }
    Some(text)
}

fn even(record: &RunRecord) -> Option<String> {
    let rates: Vec<(String, f64)> = record
        .best_round()
        .items("hospitals")
        .filter_map(|site| {
            let images = counted(site.count("validation_images")?, "image", "images");
            Some((format!("{}, {images}", site.text("hospital")?), site.number("accuracy")?))
        })
        .collect();
    let worst = rates.iter().min_by(|a, b| a.1.total_cmp(&b.1))?;
    let best = rates.iter().max_by(|a, b| a.1.total_cmp(&b.1))?;
    let mut text = format!(
        "For whom: accuracy on the hospitals' own validation images lies between {} of 100 ({}) and {} of 100 ({}).",
        of_hundred(worst.1),
        worst.0,
        of_hundred(best.1),
        best.0
    );
    match fairness::worst_group(record) {
        Some((group, accuracy)) => {
            text += &format!(
                " The group of patients served worst is {group}, with {} of 100.",
                of_hundred(accuracy)
            );
        }
        None => text += " Groups of patients were not compared.",
    }
    Some(text)
}

fn private(record: &RunRecord) -> Option<String> {
    if !record.is_private() {
        return Some("How private: no noise was added. Nothing limits what the model remembers of its training images.".to_owned());
    }
    let spent = record.epsilon()?;
    let unit = record.config().text("privacy.unit").unwrap_or("image");
    let budget = record.config().number("privacy.epsilon_budget");
    let of = budget.map_or_else(String::new, |budget| format!(" of {budget} allowed"));
    let factor = spent.exp();
    // Rounded up, as ε is.
    let factor = match factor {
        factor if factor < 100.0 => format!("{:.1}", (factor * 10.0).ceil() / 10.0),
        factor if factor < 1e7 => whole(factor.ceil() as u64),
        _ => "more than ten million".to_owned(),
    };
    Some(format!(
        "How private: the hospital that spent most spent ε = {}{of}. Whoever sees everything that left the hospitals, and guesses whether one {unit} was among the training images, can improve the odds by a factor of at most {factor} (but for a chance of δ); without any leak it is 1.",
        epsilon(Some(spent)),
    ))
}

fn incidents(record: &RunRecord) -> Option<String> {
    let events = security::incidents(record).len() as u64;
    let found = record.rounds.iter().filter(|round| security::out_of_line(round)).count() as u64;
    let mut incidents = Vec::new();
    if events > 0 {
        incidents.push(counted(events, "event is recorded", "events are recorded"));
    }
    if found > 0 {
        incidents
            .push(format!("updates were left out or out of line in {}", counted(found, "round", "rounds")));
    }
    Some(if incidents.is_empty() {
        "Incidents: none recorded.".to_owned()
    } else {
        format!("Incidents: {}; the section on security lists them.", incidents.join(", "))
    })
}

fn budget(record: &RunRecord) -> Option<medfed_chart::Chart> {
    let budget = record.config().number("privacy.epsilon_budget").filter(|_| record.is_private())?;
    let delta = record.config().number("privacy.delta")?;
    let spent: Vec<(String, Option<f64>)> =
        record.paid.iter().map(|(site, spent)| (site.to_string(), Some(*spent))).collect();
    let limit = |key: &str| {
        record.config().number(key).filter(|_| record.config().flag("orchestrator.enabled") == Some(true))
    };
    (!spent.is_empty()).then(|| {
        Gauge {
            title: "Privacy budget spent".to_owned(),
            quantity: format!("ε at δ = {delta:e}"),
            budget,
            warning: limit("orchestrator.budget_warning_threshold"),
            critical: limit("orchestrator.budget_critical_threshold"),
            spent,
        }
        .draw(Width::FULL)
    })
}
