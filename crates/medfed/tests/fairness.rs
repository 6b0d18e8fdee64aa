//! Fairness at the end of a run, and `medfed evaluate`.

use std::path::Path;

use assert_cmd::Command;
use serde_json::Value;

/// Exit code, standard output and standard error of `medfed ARGUMENTS`.
fn medfed(directory: &Path, arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::cargo_bin("medfed").expect("cargo builds the binary");
    let output = command.current_dir(directory).env("NO_COLOR", "1").args(arguments).output();
    let output = output.expect("the binary starts");
    let text = |bytes| String::from_utf8(bytes).expect("output is UTF-8");
    (output.status.code().expect("it exits"), text(output.stdout), text(output.stderr))
}

/// A folder with 120 pictures of two classes and a manifest: bright ones are ill. Women's are brighter.
fn pictures(directory: &Path) {
    let mut manifest = "file,label,class_name,patient_id,age,sex,ward,split\n".to_owned();
    for index in 0..120u32 {
        let ill = index % 2;
        let sex = if index % 3 == 0 { "F" } else { "M" };
        let level = 60 + 90 * ill + if sex == "F" { 40 } else { 0 } + index % 7 * 5;
        let picture = image::GrayImage::from_fn(16, 16, |x, y| {
            image::Luma([(level + (x * 7 + y * 13 + index) % 30) as u8])
        });
        picture.save(directory.join(format!("{index}.png"))).expect("a PNG");
        let split = ["train", "train", "val", "test"][(index / 6 % 4) as usize];
        let class = ["well", "ill"][ill as usize];
        let (age, ward) = (20 + index % 60, ["north", "south"][(index / 12 % 2) as usize]);
        let line = format!("{index}.png,{ill},{class},p{},{age},{sex},{ward},{split}\n", index / 2);
        manifest.push_str(&line);
    }
    std::fs::write(directory.join("metadata.csv"), manifest).expect("writable");
}

const RUN: &str = "federated: {num_clients: 2, num_rounds: 2}
model: {channels: [4, 8]}
training: {batch_size: 16, local_epochs: 2, learning_rate: 0.05}
privacy: {enabled: false}
data: {dataset: files, data_dir: ., image_size: 16, non_iid: {enabled: false}}
fairness: {enabled: true, min_group_size: 3, demographic_groups: [sex, ward, hospital]}
experiment: {seed: 4}
";

fn json(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).expect("the run wrote it");
    serde_json::from_str(&text).expect("JSON")
}

#[test]
fn a_run_reports_fairness_and_its_model_can_be_evaluated() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let here = directory.path();
    pictures(here);
    std::fs::write(here.join("run.yaml"), RUN).expect("writable");
    let (code, out, err) = medfed(here, &["simulate", "--config", "run.yaml", "--out", "out"]);
    assert_eq!(code, 0, "{err}");
    for expected in ["FAIRNESS REPORT", "--- HOSPITALS", "--- SEX", "--- WARD", "Fairness Score (test)"] {
        assert!(out.contains(expected), "{expected} is missing in {out}");
    }
    let report = json(&here.join("out/fairness_report.json"));
    assert_eq!(report["measured_on"], "validation");
    assert_eq!(report["rounds"].as_array().map(Vec::len), Some(2));
    assert!(report["hospital_fairness"]["accuracy_variance"].is_number());
    let names: Vec<&str> = report["demographic_fairness"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|a| a["attribute"].as_str())
        .collect();
    assert_eq!(names, ["sex", "ward", "hospital"]);
    assert!(report["test"]["fairness_score"].is_number());
    let results = json(&here.join("out/results.json"));
    assert!(results["rounds"][1]["fairness"]["is_fair"].is_boolean());
    assert_eq!(results["evaluation"]["hospitals"].as_array().map(Vec::len), Some(2));
    for picture in
        ["roc", "precision_recall", "calibration", "confusion", "fairness_sex", "fairness_hospitals"]
    {
        let svg = std::fs::read_to_string(here.join(format!("out/plots/{picture}.svg"))).expect(picture);
        assert!(svg.starts_with("<svg") || svg.starts_with("<?xml"), "{picture}");
    }

    let model = ["evaluate", "--model", "out/best_model.safetensors", "--data", "metadata.csv"];
    let evaluate = |more: &[&str]| medfed(here, &[&model[..], more].concat());
    let (code, out, err) =
        evaluate(&["--by", "sex", "--by", "ward", "--min-group-size", "3", "--sensitivity", "0.9"]);
    assert_eq!(code, 0, "{err}");
    for expected in ["30 images of 15 patients", "average precision", "--- WARD", "negative pred. value"] {
        assert!(out.contains(expected), "{expected} is missing in {out}");
    }
    // The same images, the same model: the same numbers as in the run.
    let (_, out, _) = evaluate(&["--json", "--min-group-size", "3"]);
    let measured: Value = serde_json::from_str(&out).expect("JSON");
    let (ours, theirs) =
        (&measured["evaluation"]["performance"], &results["evaluation"]["test"]["performance"]);
    assert_eq!(ours["confusion"], theirs["confusion"]);
    assert_eq!(ours["auc"]["estimate"], theirs["auc"]["estimate"]);
    let (code, _, err) = evaluate(&["--split", "train", "--out", "pictures"]);
    assert_eq!(code, 0, "{err}");
    assert!(here.join("pictures/roc.svg").is_file() && here.join("pictures/evaluation.json").is_file());

    for (more, expected) in [
        (&["--by", "race"][..], "has no attribute \"race\""),
        (&["--split", "val", "--sensitivity", "0.9"][..], "--sensitivity needs validation images"),
        (&["--column", "class_name=ward"][..], "the model knows the classes"),
    ] {
        let (code, out, err) = evaluate(more);
        assert_eq!((code, out.as_str()), (1, ""));
        assert!(err.contains(expected) && err.contains("hint: "), "{err}");
    }
}

#[test]
fn an_unfair_model_ends_the_run_with_code_1_where_that_is_asked() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let here = directory.path();
    pictures(here);
    std::fs::write(here.join("run.yaml"), RUN).expect("writable");
    let halt = "fairness.on_violation.halt_training=true";
    let strict = "fairness.thresholds={equalized_odds: 0.0, demographic_parity: 0.0}";
    let arguments = ["simulate", "--config", "run.yaml", "--out", "out", "--set", halt, "--set", strict];
    let (code, out, err) = medfed(here, &arguments);
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("the model is unfair by the configured thresholds"), "{err}");
    assert!(out.contains("stopped the run after round 1"), "{out}");
    let results = json(&here.join("out/results.json"));
    assert_eq!(
        (&results["summary"]["status"], &results["summary"]["total_rounds"]),
        (&"halted".into(), &1.into())
    );
    let (code, _, err) =
        medfed(here, &["simulate", "--config", "run.yaml", "--set", "fairness.demographic_groups=[race]"]);
    assert_eq!(code, 1);
    assert!(
        err.contains("fairness.demographic_groups: the data have no attribute `race`; they have"),
        "{err}"
    );
}
