//! What the model was trained on.

use crate::document::Section;
use crate::fields::Fields;
use crate::number::{count, counted};
use crate::record::{DATA, RunRecord};

pub(super) fn section(record: &RunRecord) -> Section {
    let mut section = Section::new("Data");
    section.list(sentences(record));
    let rows = record.last_round().items("hospitals").map(|site| {
        [
            site.text("hospital").unwrap_or("–").to_owned(),
            count(site.count("train_images")),
            count(site.count("train_units")),
            count(site.count("validation_images")),
        ]
    });
    let units =
        format!("training {}s (privacy units)", record.config().text("privacy.unit").unwrap_or("unit"));
    section.table(
        "Images by hospital",
        ["hospital", "training images", &units, "validation images"],
        rows.collect(),
    );
    section
}

/// Data set, classes, preparation and division in sentences.
pub(crate) fn sentences(record: &RunRecord) -> Vec<String> {
    let data = record.config().at("data");
    let name = data.text("dataset").unwrap_or("not named");
    let mut sentences = vec![if name == "synthetic" {
        "Synthetic chest radiographs, drawn by the program. They show that the system works and say nothing about patients.".to_owned()
    } else {
        format!("Data set: {name}.")
    }];
    let described = record.document(DATA);
    let classes: Vec<&str> = described.items("classes").filter_map(|class| class.0.as_str()).collect();
    if !classes.is_empty() {
        sentences.push(format!("Classes: {}.", classes.join(", ")));
    }
    if let Some(size) = data.count("image_size") {
        sentences.push(format!("Images are brought to {size} × {size} pixels."));
    }
    let last = record.last_round();
    let sum = |key: &str| last.items("hospitals").filter_map(|site| site.count(key)).sum::<u64>();
    let hospitals = last.items("hospitals").count() as u64;
    if hospitals > 0 {
        let test = record
            .summary()
            .count("test.n")
            .map_or_else(String::new, |n| format!("; {} for the test", counted(n, "image", "images")));
        sentences.push(format!(
            "{} for training and {} for validation at {}{test}.",
            counted(sum("train_images"), "image", "images"),
            counted(sum("validation_images"), "image", "images"),
            counted(hospitals, "hospital", "hospitals"),
        ));
    }
    sentences.push(division(data));
    sentences.push(if data.flag("keep_patients_together").unwrap_or(true) {
        "All images of a patient are in one part of one hospital, where the data name patients.".to_owned()
    } else {
        "Images of one patient may be in several parts: performance may look better than it is.".to_owned()
    });
    sentences.extend(described.items("warnings").filter_map(|warning| warning.0.as_str().map(str::to_owned)));
    sentences
}

fn division(data: Fields<'_>) -> String {
    if data.items("nodes").next().is_some() {
        return "Hospitals have data of their own.".to_owned();
    }
    if data.flag("split_by_site") == Some(true) {
        return "Images are with the hospital that the data name.".to_owned();
    }
    match (data.flag("non_iid.enabled"), data.number("non_iid.alpha")) {
        (Some(true), Some(alpha)) => format!(
            "One pool of images was divided among simulated hospitals, unevenly by class (Dirichlet, α = {alpha})."
        ),
        _ => "One pool of images was divided among simulated hospitals at random.".to_owned(),
    }
}
