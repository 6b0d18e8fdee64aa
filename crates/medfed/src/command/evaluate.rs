//! `medfed evaluate`: how good and how fair a trained model is on a data set.

use super::data::map_column;
use super::predict::{Model, privacy_in_words};
use crate::evaluation::{fairness, performance, plots};
use crate::failure::Failure;
use crate::output::{note, print};
use crate::run::data_failure;
use medfed_config::section::FairnessThresholds;
use medfed_data::{Dataset, LoadOptions, Split};
use medfed_eval::fairness::{FairnessReport, Thresholds};
use medfed_eval::{Details, OperatingPoint, Predictions, Resampling, threshold_at_sensitivity};
use medfed_federation::{Grouping, predict};
use medfed_types::Seed;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Measure a trained model on a data set: performance with intervals, and fairness between groups.
///
/// Reads what `medfed simulate --data` reads. Images are resized and normalised as the model file says.
/// The predicted class is the most probable one. Intervals resample patients, or images where patients
/// are not known. Groups are compared where the data have ages, sexes, sites or other columns.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  medfed evaluate --model results/best_model.safetensors --data pneumoniamnist.npz
  medfed evaluate --model best_model.safetensors --data cxr/metadata.csv --by sex --by view --out plots
  medfed evaluate --model best_model.safetensors --data pneumoniamnist.npz --sensitivity 0.95 --json

The images should be of patients that the model was not trained on; otherwise the numbers flatter it.")]
pub(crate) struct EvaluateCommand {
    /// Model file, as training writes it.
    #[arg(long, value_name = "FILE")]
    model: PathBuf,
    /// A .npz archive, a .csv manifest, or a folder of images.
    #[arg(long, value_name = "PATH")]
    data: PathBuf,
    /// Part of the data set to measure on [default: test where the data set has such a part, else all]
    #[arg(long, value_enum, value_name = "PART")]
    split: Option<Part>,
    /// Attribute whose groups are compared: age_group, sex, hospital or a column; repeatable
    /// [default: the first three, as far as the data have them]
    #[arg(long, value_name = "ATTRIBUTE")]
    by: Vec<String>,
    /// Patients that a group needs to be compared.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    min_group_size: u64,
    /// With two classes, also the threshold that finds this share of the positives among the data set's
    /// validation images, and how it does on the measured part.
    #[arg(long, value_name = "SHARE", value_parser = share)]
    sensitivity: Option<f64>,
    /// Name of a manifest's column, as in site=scanner; see `medfed data inspect --help`; repeatable.
    #[arg(long, value_name = "NAME=COLUMN")]
    column: Vec<String>,
    /// Seed of the resampling behind the intervals.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Folder for pictures (SVG) and evaluation.json.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// A part of a data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    Train,
    Val,
    Test,
    All,
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Self::Train => "training images",
            Self::Val => "validation images",
            Self::Test => "test images",
            Self::All => "images",
        }
    }

    fn images(self, dataset: &Dataset) -> Vec<u32> {
        let wanted = match self {
            Self::Train => Some(Split::Train),
            Self::Val => Some(Split::Validation),
            Self::Test => Some(Split::Test),
            Self::All => None,
        };
        let scans = dataset.scans().iter().zip(0..);
        scans.filter(|(scan, _)| wanted.is_none() || scan.split == wanted).map(|(_, index)| index).collect()
    }
}

/// Everything that was measured.
struct Measured {
    part: Part,
    details: Details,
    point: Option<OperatingPoint>,
    fairness: FairnessReport,
}

impl EvaluateCommand {
    /// Runs it.
    pub(crate) fn run(self) -> Result<(), Failure> {
        let model = Model::open(&self.model)?;
        let dataset = self.load(&model)?;
        for warning in dataset.warnings() {
            note(&format!("warning: {warning}"));
        }
        let measured = self.measure(&model, &dataset)?;
        let value = self.as_json(&model, &dataset, &measured);
        if let Some(folder) = &self.out {
            let images = measured.part.name();
            let mut pictures = plots::performance(&measured.details, dataset.classes(), images);
            pictures.extend(plots::fairness(&measured.fairness, images));
            plots::write(&pictures, folder)?;
            crate::run::replace_file(&folder.join("evaluation.json"), format!("{value:#}\n").as_bytes())?;
            note(&format!(
                "written: {} pictures and evaluation.json in {}",
                pictures.len(),
                folder.display()
            ));
        }
        if self.json {
            return print(&format!("{value:#}\n"));
        }
        let mut lines = vec![
            format!("{} on {} ({})", self.model.display(), dataset.name(), measured.part.name()),
            privacy_in_words(&model.metadata),
            String::new(),
        ];
        lines.extend(performance::lines(&measured.details, dataset.classes()));
        if let (Some(point), Some(wanted)) = (&measured.point, self.sensitivity) {
            lines.extend(performance::operating_point(point, wanted, "validation"));
        }
        if measured.fairness.demographic_fairness.is_empty() {
            lines.push("Fairness: no ages, sexes or sites are known in these data.".to_owned());
        } else {
            lines.extend(fairness::report_lines(&measured.fairness, measured.part.name()));
        }
        print(&(lines.join("\n") + "\n"))
    }

    /// The data set in the shape that the model takes.
    fn load(&self, model: &Model) -> Result<Dataset, Failure> {
        let shape = model.metadata.model.input;
        if shape.height != shape.width {
            let error = anyhow::anyhow!("the model takes {} x {} pixels", shape.height, shape.width);
            return Err(Failure::user(error).hint("only models of square images can be evaluated"));
        }
        let mut options = LoadOptions {
            image_size: Some(shape.height),
            channels: Some(shape.channels),
            ..LoadOptions::default()
        };
        for mapping in &self.column {
            map_column(&mut options, mapping)?;
        }
        let dataset = Dataset::load(&self.data, &options).map_err(data_failure)?;
        let (ours, theirs) = (dataset.classes(), &model.metadata.classes);
        if ours != theirs {
            let error = anyhow::anyhow!(
                "the model knows the classes {}, the data have {}",
                theirs.join(", "),
                ours.join(", ")
            );
            return Err(Failure::user(error).hint(
                "classes have to be the same, in the same order; --column class_name=COLUMN names them",
            ));
        }
        dataset.with_normalisation(model.normalisation.clone()).map_err(data_failure)
    }

    fn measure(&self, model: &Model, dataset: &Dataset) -> Result<Measured, Failure> {
        let has_test = dataset.scans().iter().any(|scan| scan.split == Some(Split::Test));
        let part = self.split.unwrap_or(if has_test { Part::Test } else { Part::All });
        let images = part.images(dataset);
        let predictions = predictions(model, dataset, &images)?.ok_or_else(|| {
            let error = anyhow::anyhow!("{} has no {}", dataset.name(), part.name());
            Failure::user(error).hint("--split all measures on every image")
        })?;
        let grouping = self.grouping(dataset)?;
        let resampling = Resampling::new(Seed(self.seed));
        let attributes = grouping.measure(&predictions, &images, resampling).map_err(Failure::user)?;
        Ok(Measured {
            part,
            details: Details::of(&predictions, &grouping.patients(&images), resampling)
                .map_err(Failure::internal)?,
            point: self.operating_point(model, dataset, &predictions, part)?,
            fairness: FairnessReport::of(&[], false, attributes, &thresholds(), self.min_group_size),
        })
    }

    fn grouping(&self, dataset: &Dataset) -> Result<Grouping, Failure> {
        let usual = ["age_group", "sex", "hospital"].map(str::to_owned);
        if let Some(unknown) = self.by.iter().find(|name| dataset.groups_by(name).is_none()) {
            let known = dataset.group_attributes();
            let error = anyhow::anyhow!("{} has no attribute {unknown:?}", dataset.name());
            return Err(Failure::user(error).hint(if known.is_empty() {
                "these data have none; a manifest can name age, sex, site and other columns".to_owned()
            } else {
                format!("it has {}", known.join(", "))
            }));
        }
        let names = if self.by.is_empty() { &usual[..] } else { &self.by[..] };
        Grouping::new(dataset, names.iter().map(String::as_str), self.min_group_size)
            .map_err(|error| Failure::user(error).hint("name columns with few different values with --by"))
    }

    /// The threshold from the validation images on the measured ones.
    fn operating_point(
        &self,
        model: &Model,
        dataset: &Dataset,
        predictions: &Predictions,
        part: Part,
    ) -> Result<Option<OperatingPoint>, Failure> {
        let Some(wanted) = self.sensitivity else { return Ok(None) };
        let refused = |what: &str| {
            Failure::user(anyhow::anyhow!("--sensitivity needs {what}")).hint("leave --sensitivity out")
        };
        if dataset.classes().len() != 2 {
            return Err(refused("two classes"));
        }
        let chosen_on = Part::Val.images(dataset);
        if part != Part::Test || chosen_on.is_empty() {
            return Err(refused(
                "validation images to choose the threshold on and test images to measure it on",
            ));
        }
        let Some(validation) = self::predictions(model, dataset, &chosen_on)? else { return Ok(None) };
        let (scores, positive) = validation.against_rest(1);
        let threshold = threshold_at_sensitivity(&scores, &positive, wanted)
            .ok_or_else(|| refused("positive validation images"))?;
        let (scores, positive) = predictions.against_rest(1);
        Ok(Some(OperatingPoint::at(threshold, &scores, &positive)))
    }

    fn as_json(&self, model: &Model, dataset: &Dataset, measured: &Measured) -> Value {
        json!({
            "model": { "file": path_text(&self.model), "run_id": model.metadata.run, "round": model.metadata.round },
            "data": { "path": path_text(&self.data), "name": dataset.name(), "part": measured.part.name() },
            "classes": dataset.classes(),
            "seed": self.seed,
            "evaluation": measured.details,
            "operating_point": measured.point,
            "fairness": measured.fairness,
        })
    }
}

fn predictions(model: &Model, dataset: &Dataset, images: &[u32]) -> Result<Option<Predictions>, Failure> {
    predict(&model.executor, &model.parameters, dataset, images).map_err(|error| {
        Failure::user(error).hint("if its output is not finite, use the model of another round")
    })
}

/// The configuration's defaults.
fn thresholds() -> Thresholds {
    let FairnessThresholds {
        demographic_parity,
        equalized_odds,
        accuracy_parity,
        disparate_impact_min,
        disparate_impact_max,
        hospital_variance,
    } = FairnessThresholds::default();
    Thresholds {
        demographic_parity,
        equalized_odds,
        accuracy_parity,
        disparate_impact_min,
        disparate_impact_max,
        hospital_variance,
    }
}

fn path_text(path: &Path) -> String {
    path.display().to_string()
}

fn share(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if value > 0.0 && value <= 1.0 { Ok(value) } else { Err("a share is above 0 and at most 1".to_owned()) }
}
