//! `medfed predict`: what a trained model says about images.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use medfed_data::{DataError, ImageFault, Normalisation, decode_image};
use medfed_nn::checkpoint::{Checkpoint, CheckpointError, CheckpointMetadata};
use medfed_nn::{Executor, PerformanceOptions};
use medfed_types::{ImageShape, ImageSource};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::output::print;

/// Images that are in memory together.
const TOGETHER: usize = 64;
/// Unusable images that are named one by one.
const MOST_NAMED: usize = 20;
/// Largest model file accepted, in bytes.
const MOST_MODEL_BYTES: u64 = 2 << 30;

/// Give the class, the probabilities and the logits of images by a trained model.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  medfed predict --model results/best_model.safetensors chest.png\n  medfed predict --model best_model.safetensors scans/*.jpeg --json\n\nImages are resized and normalised as the model file says. Files that cannot be used are named, the others are still predicted, and the exit code is 1."
)]
pub(crate) struct PredictCommand {
    /// Model file, as training writes it.
    #[arg(long, value_name = "FILE")]
    model: PathBuf,
    /// PNG or JPEG files.
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

impl PredictCommand {
    /// Runs it.
    pub(crate) fn run(self) -> Result<(), Failure> {
        let model = Model::open(&self.model)?;
        let mut predictions = Vec::new();
        let mut faults = Vec::new();
        for paths in self.images.chunks(TOGETHER) {
            let batch = Pictures::read(paths, &model, &mut faults)?;
            predictions.extend(model.predict(&batch)?);
        }
        let text = if self.json {
            format!("{:#}\n", as_json(&self.model, &model.metadata, &predictions, &faults))
        } else {
            as_text(&self.model, &model.metadata, &predictions)
        };
        print(&text)?;
        if faults.is_empty() {
            return Ok(());
        }
        let total = faults.len();
        faults.truncate(MOST_NAMED);
        Err(Failure::user(DataError::Images { images: faults, total, of: self.images.len() })
            .hint("images are whole PNG or JPEG files"))
    }
}

/// A model ready to predict.
pub(super) struct Model {
    pub(super) metadata: CheckpointMetadata,
    pub(super) normalisation: Normalisation,
    pub(super) executor: Executor,
    pub(super) parameters: Vec<f32>,
}

impl Model {
    /// Reads the model file.
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        let refused = |error: anyhow::Error| {
            Failure::user(error.context(format!("{} is not a usable model", path.display()))).hint(
                "a model file is what training writes, results/best_model.safetensors; other weights can be a start for training with model.pretrained",
            )
        };
        let bytes = read(path)
            .with_context(|| format!("cannot read {}", path.display()))
            .map_err(|error| Failure::user(error).hint("a model file is what training writes"))?;
        let checkpoint = Checkpoint::read(&bytes).map_err(|error| refused(error.into()))?;
        drop(bytes);
        let metadata = checkpoint.metadata().clone();
        let network = metadata.model.build().map_err(|error| refused(error.into()))?;
        let parameters =
            checkpoint.into_parameters(network.layout()).map_err(|error| refused(error.into()))?;
        let normalisation =
            Normalisation::new(metadata.normalization.mean.clone(), metadata.normalization.std.clone())
                .map_err(|error| refused(error.into()))?;
        let executor = Executor::new(Arc::new(network), PerformanceOptions::default());
        Ok(Self { metadata, normalisation, executor, parameters })
    }

    fn predict<'a>(&self, batch: &Pictures<'a>) -> Result<Vec<Prediction<'a>>, Failure> {
        let classes = self.metadata.classes.len();
        let indices: Vec<u32> = (0..batch.paths.len() as u32).collect();
        let logits = self.executor.logits(&self.parameters, batch, &indices).map_err(Failure::internal)?;
        let predictions = batch.paths.iter().zip(logits.chunks_exact(classes));
        predictions
            .map(|(image, logits)| {
                if logits.iter().all(|logit| logit.is_finite()) {
                    return Ok(Prediction::of(image, logits));
                }
                let image = image.display();
                Err(Failure::user(anyhow::anyhow!("the model's output for {image} is not finite"))
                    .hint("its weights are out of all proportion; use the model of another round"))
            })
            .collect()
    }
}

/// The file's bytes, of which there must not be too many.
fn read(path: &Path) -> Result<Vec<u8>, CheckpointError> {
    let file = File::open(path)?;
    let found = file.metadata()?.len();
    if found > MOST_MODEL_BYTES {
        let what = "the file".to_owned();
        return Err(CheckpointError::Oversized { what, found, limit: MOST_MODEL_BYTES });
    }
    let mut bytes = Vec::with_capacity(found as usize);
    file.take(MOST_MODEL_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Images of one shape in memory, normalised.
struct Pictures<'a> {
    shape: ImageShape,
    paths: Vec<&'a Path>,
    /// `[image, channel, height, width]`.
    values: Vec<f32>,
}

impl<'a> Pictures<'a> {
    /// Those of the files that are images; what is wrong with the others goes to `faults`.
    fn read(
        paths: &'a [PathBuf],
        model: &Model,
        faults: &mut Vec<(PathBuf, ImageFault)>,
    ) -> Result<Self, Failure> {
        let shape = model.metadata.model.input;
        let mut pictures = Self { shape, paths: Vec::new(), values: Vec::new() };
        for path in paths {
            match decode_image(path, shape) {
                Ok(pixels) => {
                    let start = pictures.values.len();
                    pictures.values.resize(start + pixels.len(), 0.0);
                    model.normalisation.apply(&pixels, &mut pictures.values[start..]);
                    pictures.paths.push(path);
                }
                Err(DataError::Images { images, .. }) => faults.extend(images),
                Err(other) => return Err(Failure::user(other)),
            }
        }
        Ok(pictures)
    }
}

impl ImageSource for Pictures<'_> {
    fn shape(&self) -> ImageShape {
        self.shape
    }

    fn len(&self) -> usize {
        self.paths.len()
    }

    /// Nobody knows it; evaluation does not ask.
    fn label(&self, _: usize) -> u32 {
        0
    }

    fn fill(&self, index: usize, out: &mut [f32]) {
        let size = self.shape.len();
        out.copy_from_slice(&self.values[index * size..][..size]);
    }
}

/// What the model says about one image.
#[derive(Debug)]
struct Prediction<'a> {
    image: &'a Path,
    /// The most probable class, the first of equals.
    class: usize,
    logits: Vec<f32>,
    probabilities: Vec<f64>,
}

impl<'a> Prediction<'a> {
    fn of(image: &'a Path, logits: &[f32]) -> Self {
        let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let odds: Vec<f64> = logits.iter().map(|logit| f64::from(logit - top).exp()).collect();
        let sum: f64 = odds.iter().sum();
        Self {
            image,
            class: logits.iter().position(|logit| *logit == top).unwrap_or(0),
            logits: logits.to_vec(),
            probabilities: odds.iter().map(|odds| odds / sum).collect(),
        }
    }
}

fn as_json(
    path: &Path,
    metadata: &CheckpointMetadata,
    predictions: &[Prediction<'_>],
    faults: &[(PathBuf, ImageFault)],
) -> Value {
    let shape = metadata.model.input;
    let privacy = metadata.privacy.as_ref().map(|privacy| {
        json!({
            // JSON has no infinity.
            "epsilon": privacy.epsilon.get().is_finite().then(|| privacy.epsilon.get()),
            "delta": privacy.delta,
            "accountant": privacy.accountant,
            "unit": privacy.unit,
            "reproducible_noise": privacy.reproducible_noise,
        })
    });
    json!({
        "model": {
            "file": path.display().to_string(),
            "architecture": metadata.model.architecture,
            "input_shape": [shape.channels, shape.height, shape.width],
            "run_id": metadata.run,
            "round": metadata.round,
            "privacy": privacy,
        },
        "classes": metadata.classes,
        "predictions": predictions.iter().map(|prediction| json!({
            "image": prediction.image.display().to_string(),
            "class": metadata.classes[prediction.class],
            "class_index": prediction.class,
            "probabilities": prediction.probabilities,
            "logits": prediction.logits,
        })).collect::<Vec<_>>(),
        "errors": faults.iter().map(|(image, fault)| json!({
            "image": image.display().to_string(),
            "error": fault.to_string(),
        })).collect::<Vec<_>>(),
    })
}

fn as_text(path: &Path, metadata: &CheckpointMetadata, predictions: &[Prediction<'_>]) -> String {
    let model = &metadata.model;
    let colour = if model.input.channels == 3 { "colour" } else { "grey" };
    let (height, width) = (model.input.height, model.input.width);
    let mut text = format!("{}: {}, {height} x {width} pixels, {colour}", path.display(), model.architecture);
    if let Some(run) = &metadata.run {
        let _ = write!(text, ", run {run}");
    }
    if let Some(round) = metadata.round {
        let _ = write!(text, ", round {round}");
    }
    let _ = writeln!(text, "\n{}\n", privacy_in_words(metadata));
    let names = metadata.classes.iter().map(|class| class.chars().count()).max().unwrap_or(0);
    for prediction in predictions {
        let class = &metadata.classes[prediction.class];
        let probability = 100.0 * prediction.probabilities[prediction.class];
        let _ = writeln!(text, "{}: {class} ({probability:.1} %)", prediction.image.display());
        let scores = prediction.probabilities.iter().zip(&prediction.logits);
        for (class, (probability, logit)) in metadata.classes.iter().zip(scores) {
            let _ = writeln!(text, "  {class:names$}  {probability:.4}  logit {logit:+.4}");
        }
    }
    text
}

/// What the model file says about the privacy of whom it was trained on.
pub(super) fn privacy_in_words(metadata: &CheckpointMetadata) -> String {
    let Some(privacy) = &metadata.privacy else {
        return "privacy: none; the model may give away images it was trained on".to_owned();
    };
    let (delta, unit) = (privacy.delta, &privacy.unit);
    if !privacy.epsilon.get().is_finite() {
        return format!("privacy: noise was added, but no bound on ε is known (δ = {delta}, per {unit})");
    }
    let epsilon = privacy.epsilon.rounded_up(3);
    let but = if privacy.reproducible_noise {
        "; the noise followed from a seed, so only against those who do not know it"
    } else {
        ""
    };
    format!(
        "privacy: ε = {epsilon}, δ = {delta:e} per {unit} (accountant {}){but}",
        privacy.accountant,
        delta = delta.get()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_survive_extreme_logits() {
        let prediction = Prediction::of(Path::new("x.png"), &[-3e38, 3e38, 3e38]);
        assert_eq!(prediction.class, 1);
        assert_eq!(prediction.probabilities, [0.0, 0.5, 0.5]);
        let even = Prediction::of(Path::new("x.png"), &[1.0, 1.0 + 3f32.ln()]);
        assert!((even.probabilities[1] - 0.75).abs() < 1e-6);
    }
}
