//! `medfed predict`: the same numbers as the engine, and an answer for every unusable file.

use std::path::Path;
use std::sync::Arc;

use assert_cmd::Command;
use medfed_data::{Normalisation, decode_image};
use medfed_nn::checkpoint::{Checkpoint, CheckpointMetadata, Normalization, PrivacyStatement};
use medfed_nn::{Architecture, Executor, ModelSpec, PerformanceOptions};
use medfed_types::{Delta, Epsilon, ImageShape, ImageSource, RoundId, RunId, Seed};
use serde_json::Value;

const SHAPE: ImageShape = ImageShape { channels: 1, height: 8, width: 10 };

/// Exit code, standard output and standard error of `medfed predict ARGUMENTS`.
fn predict(directory: &Path, arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::cargo_bin("medfed").expect("cargo builds the binary");
    let output = command.current_dir(directory).env("NO_COLOR", "1").arg("predict").args(arguments).output();
    let output = output.expect("the binary starts");
    let text = |bytes| String::from_utf8(bytes).expect("output is UTF-8");
    (output.status.code().expect("it exits"), text(output.stdout), text(output.stderr))
}

fn metadata(privacy: Option<PrivacyStatement>) -> CheckpointMetadata {
    CheckpointMetadata {
        model: ModelSpec {
            architecture: Architecture::SimpleCnn,
            input: SHAPE,
            classes: 3,
            dropout: 0.5,
            channels: Some(vec![4, 6]),
        },
        classes: ["normal", "bacterial", "viral"].map(str::to_owned).to_vec(),
        normalization: Normalization { mean: vec![0.4], std: vec![0.25] },
        privacy,
        run: Some(RunId::try_from("run-1").expect("a name")),
        round: Some(RoundId(3)),
    }
}

fn private() -> PrivacyStatement {
    PrivacyStatement {
        epsilon: Epsilon::new(2.499_61).expect("in range"),
        delta: Delta::new(1e-5).expect("in range"),
        accountant: "pld".to_owned(),
        unit: "patient".to_owned(),
        reproducible_noise: true,
    }
}

/// Two grey images and a third that is cut in half.
fn images(directory: &Path) {
    for (name, slope) in [("a.png", 3u8), ("b.png", 11), ("cut.png", 7)] {
        let picture = image::GrayImage::from_fn(10, 8, |x, y| {
            image::Luma([slope.wrapping_mul(x as u8).wrapping_add(23u8.wrapping_mul(y as u8))])
        });
        picture.save(directory.join(name)).expect("a PNG");
    }
    let whole = std::fs::read(directory.join("cut.png")).expect("just written");
    std::fs::write(directory.join("cut.png"), &whole[..whole.len() / 2]).expect("writable");
}

/// A folder with images and `model.safetensors` of random parameters, which are returned.
fn folder(privacy: Option<PrivacyStatement>) -> (tempfile::TempDir, Vec<f32>) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    images(directory.path());
    let metadata = metadata(privacy);
    let network = metadata.model.build().expect("a small network");
    let parameters = network.initial_parameters(&mut Seed(5).generator("predict test", &[]));
    let bytes = Checkpoint::write(network.layout(), &parameters, &metadata).expect("finite parameters");
    std::fs::write(directory.path().join("model.safetensors"), bytes).expect("writable");
    (directory, parameters)
}

/// One image as the engine wants it.
struct One(Vec<f32>);

impl ImageSource for One {
    fn shape(&self) -> ImageShape {
        SHAPE
    }
    fn len(&self) -> usize {
        1
    }
    fn label(&self, _: usize) -> u32 {
        0
    }
    fn fill(&self, _: usize, out: &mut [f32]) {
        out.copy_from_slice(&self.0);
    }
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().expect("a list").iter().map(|v| v.as_f64().expect("a number")).collect()
}

#[test]
fn json_holds_the_engines_logits() {
    let (directory, parameters) = folder(Some(private()));
    let (code, out, err) =
        predict(directory.path(), &["--model", "model.safetensors", "a.png", "b.png", "--json"]);
    assert_eq!((code, err.as_str()), (0, ""));
    let out: Value = serde_json::from_str(&out).expect("one JSON object");
    assert_eq!(out["classes"], serde_json::json!(["normal", "bacterial", "viral"]));
    assert_eq!(out["model"]["privacy"]["epsilon"], 2.499_61);
    assert_eq!(out["model"]["privacy"]["unit"], "patient");
    assert_eq!(out["errors"], serde_json::json!([]));
    let network = Arc::new(metadata(None).model.build().expect("a small network"));
    let executor = Executor::new(network, PerformanceOptions::default());
    let normalisation = Normalisation::new(vec![0.4], vec![0.25]).expect("sound");
    let predictions = out["predictions"].as_array().expect("a list");
    assert_eq!(predictions.len(), 2);
    for (prediction, name) in predictions.iter().zip(["a.png", "b.png"]) {
        assert_eq!(prediction["image"], name);
        let pixels = decode_image(&directory.path().join(name), SHAPE).expect("a PNG");
        let mut image = vec![0.0; SHAPE.len()];
        normalisation.apply(&pixels, &mut image);
        let expected = executor.logits(&parameters, &One(image), &[0]).expect("they fit");
        let (logits, probabilities) = (numbers(&prediction["logits"]), numbers(&prediction["probabilities"]));
        for (found, expected) in logits.iter().zip(&expected) {
            assert!((found - f64::from(*expected)).abs() < 1e-5, "{found} {expected}");
        }
        assert!((probabilities.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        let class = prediction["class_index"].as_u64().expect("an index") as usize;
        assert!(logits.iter().all(|logit| *logit <= logits[class]));
        assert_eq!(prediction["class"], out["classes"][class]);
        // Odds are exponentials of differences of logits.
        let odds = (probabilities[0] / probabilities[1]).ln();
        assert!((odds - (logits[0] - logits[1])).abs() < 1e-5);
    }
}

#[test]
fn text_names_class_and_privacy() {
    let (directory, _) = folder(Some(private()));
    let (code, out, err) = predict(directory.path(), &["--model", "model.safetensors", "a.png"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(
        out.starts_with("model.safetensors: simple_cnn, 8 x 10 pixels, grey, run run-1, round 3\n"),
        "{out}"
    );
    // Rounded up.
    assert!(
        out.contains(
            "privacy: ε = 2.5, δ = 1e-5 per patient (accountant pld); the noise followed from a seed"
        ),
        "{out}"
    );
    assert!(out.contains("\na.png: "), "{out}");
    assert!(
        ["normal   ", "bacterial", "viral    "].iter().all(|class| out.contains(&format!("\n  {class}  0.")))
    );

    let (directory, _) = folder(None);
    let (_, out, _) = predict(directory.path(), &["--model", "model.safetensors", "a.png"]);
    assert!(out.contains("privacy: none"), "{out}");
}

#[test]
fn a_bad_image_is_named_and_the_others_predicted() {
    let (directory, _) = folder(None);
    std::fs::write(directory.path().join("text.png"), "not an image").expect("writable");
    let images = ["a.png", "cut.png", "text.png", "gone.png", "b.png"];
    let arguments: Vec<&str> = ["--model", "model.safetensors"].into_iter().chain(images).collect();
    let (code, out, err) = predict(directory.path(), &arguments);
    assert_eq!(code, 1);
    assert!(out.contains("\na.png: ") && out.contains("\nb.png: ") && !out.contains("cut.png"), "{out}");
    assert!(err.contains("3 of 5 images"), "{err}");
    assert!(["cut.png", "text.png", "gone.png"].iter().all(|name| err.contains(name)), "{err}");

    let arguments: Vec<&str> = arguments.into_iter().chain(["--json"]).collect();
    let (code, out, _) = predict(directory.path(), &arguments);
    assert_eq!(code, 1);
    let out: Value = serde_json::from_str(&out).expect("one JSON object");
    assert_eq!(out["predictions"].as_array().map(Vec::len), Some(2));
    let bad: Vec<_> = out["errors"].as_array().expect("a list").iter().map(|e| e["image"].clone()).collect();
    assert_eq!(bad, ["cut.png", "text.png", "gone.png"]);
}

#[test]
fn a_model_that_is_none_is_named() {
    let (directory, _) = folder(None);
    let whole = std::fs::read(directory.path().join("model.safetensors")).expect("just written");
    std::fs::write(directory.path().join("half.safetensors"), &whole[..whole.len() / 2]).expect("writable");
    // Four classes where the head has three.
    let text = String::from_utf8_lossy(&whole).into_owned();
    let at = text.find("bacterial").expect("a class name");
    let mut lied = whole.clone();
    lied[at..at + 9].copy_from_slice(br#"b\",\"cde"#);
    std::fs::write(directory.path().join("lied.safetensors"), &lied).expect("writable");
    for model in ["gone.safetensors", "a.png", "half.safetensors", "lied.safetensors", "."] {
        let (code, out, err) = predict(directory.path(), &["--model", model, "a.png"]);
        assert_eq!((code, out.as_str()), (1, ""), "{model}: {err}");
        assert!(err.starts_with("error: ") && err.contains(model) && err.contains("hint: "), "{err}");
    }
}
