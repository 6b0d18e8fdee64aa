//! What the numbers do not say.

use crate::document::Section;
use crate::record::RunRecord;

pub(super) fn section(record: &RunRecord) -> Section {
    let mut section = Section::new("Limits");
    section.list(sentences(record));
    section
}

/// Each limit in a sentence or two.
pub(crate) fn sentences(record: &RunRecord) -> Vec<String> {
    let mut limits = vec![
        "The model is for research. It is no medical device and was not validated for diagnosis.".to_owned(),
        "Intervals (95 %) cover the chance of which images were drawn for the test. They do not cover other scanners, hospitals, years or patients than those of the test images.".to_owned(),
        "One run is one draw of noise, weights and order. Another run with the same settings gives other numbers.".to_owned(),
    ];
    if record.is_private() {
        limits.push("ε covers the updates and the model. Training losses, counts, validation and fairness numbers of this report are exact functions of the hospitals' data and are not covered.".to_owned());
        limits.push(
            "The choice of the best round looked at the validation images, whose patients ε does not cover."
                .to_owned(),
        );
        if record.config().text("privacy.unit") == Some("image") {
            limits.push("The unit of protection is one image: a patient with k images has up to about k times this ε.".to_owned());
        }
        limits.push("ε is counted for each hospital's own patients. Who was a patient of two hospitals has the sum of both.".to_owned());
    }
    if record.config().text("data.dataset") == Some("synthetic") {
        limits
            .push("The images are synthetic: no number of this report carries over to patients.".to_owned());
    }
    if record.document("evaluation").is_null() && record.document("fairness_report").is_null() {
        limits.push("Fairness between groups of patients was not measured.".to_owned());
    }
    limits
}
