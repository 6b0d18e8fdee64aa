//! The executive summary: what to know without knowing the field.

use super::verdict::verdict;
use super::{fairness, performance, security};
use crate::document::{Block, Section};
use crate::fields::Estimate;
use crate::number::{counted, epsilon, of_hundred, whole};
use crate::record::RunRecord;
use medfed_chart::{Gauge, Width};

pub(super) fn section(record: &RunRecord) -> Section {
    let mut section = Section::new("Executive summary");
    section.blocks.push(verdict(record));
    section.list(
        [Some(trained(record)), quality(record), even(record), private(record), Some(incidents(record))]
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

fn trained(record: &RunRecord) -> String {
    let last = record.last_round();
    let images: u64 = last.items("hospitals").filter_map(|site| site.count("train_images")).sum();
    let hospitals = last.items("hospitals").count() as u64;
    if hospitals == 0 {
        return "No round has been finished yet.".to_owned();
    }
    let model = record.config().text("model.name").unwrap_or("network");
    let (hospitals, images) =
        (counted(hospitals, "hospital", "hospitals"), counted(images, "image", "images"));
    let rounds = counted(u64::from(record.run.rounds), "round", "rounds");
    format!(
        "What was done: {hospitals} trained one model ({model}) together for {rounds}, on {images}. Images stayed where they were; hospitals sent updates of the model."
    )
}

fn quality(record: &RunRecord) -> Option<String> {
    let test = performance::test(record);
    let auc = performance::measured(record, "auc")?;
    let n = whole(test.count("n").unwrap_or(0));
    let range = |found: Estimate| {
        found.interval.map_or_else(String::new, |(low, high)| {
            format!(" (95 % interval {} to {})", of_hundred(low), of_hundred(high))
        })
    };
    let ranking = format!(
        "How good: on {n} test images, of one image with the finding and one without, the model ranks the right one higher in {} of 100 cases{}; guessing gives 50.",
        of_hundred(auc.value),
        range(auc)
    );
    let accuracy = performance::measured(record, "accuracy").map_or_else(String::new, |accuracy| {
        let (of, range) = (of_hundred(accuracy.value), range(accuracy));
        format!(" It classifies {of} of 100 images correctly{range}.")
    });
    Some(ranking + &accuracy)
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
    let hospitals = format!(
        "For whom: accuracy on the hospitals' own validation images lies between {} of 100 ({}) and {} of 100 ({}).",
        of_hundred(worst.1),
        worst.0,
        of_hundred(best.1),
        best.0
    );
    let groups = match fairness::worst_group(record) {
        Some((group, accuracy)) => {
            let of = of_hundred(accuracy);
            format!(" The group of patients served worst is {group}, with {of} of 100.")
        }
        None => " Groups of patients were not compared.".to_owned(),
    };
    Some(hospitals + &groups)
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

fn incidents(record: &RunRecord) -> String {
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
    if incidents.is_empty() {
        "Incidents: none recorded.".to_owned()
    } else {
        format!("Incidents: {}; the section on security lists them.", incidents.join(", "))
    }
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
