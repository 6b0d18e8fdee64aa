//! `medfed data`: what is in a data set, in numbers and to look at.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use medfed_data::contact_sheet::ContactSheet;
use medfed_data::inspect::{Part, Summary};
use medfed_data::synthetic::{self, SyntheticOptions};
use medfed_data::{DataWarning, Dataset, LoadOptions};
use medfed_types::Seed;
use serde_json::Value;

use crate::failure::Failure;
use crate::output::print;
use crate::run::data_failure;

/// Classes up to which a table has a column for each.
const MOST_COLUMNS: usize = 6;
/// Hospitals and images of each in the synthetic data set.
const SYNTHETIC: (usize, usize) = (3, 200);

/// Show what is in a data set, in numbers or as a contact sheet.
///
/// Read are: MedMNIST archives (.npz); folders of PNG and JPEG images, CLASS/ or {train,val,test}/CLASS/;
/// manifests (.csv, or a folder with metadata.csv) with the columns file and label and optionally
/// patient_id, site, split, age and sex. The word `synthetic` stands for the drawn chest radiographs.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  medfed data inspect pneumoniamnist.npz
  medfed data inspect cxr-nih --column site=view
  medfed data preview synthetic --out sheet.png")]
pub(crate) struct DataCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Count images per split, class, hospital and patient, and warn of what is suspicious.
    Inspect {
        #[command(flatten)]
        source: Source,
        /// Seed of the synthetic radiographs.
        #[arg(long, default_value_t = 42)]
        seed: u64,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Write a contact sheet: some images of every class, as the model sees them.
    Preview {
        #[command(flatten)]
        source: Source,
        /// PNG file to write; an existing file is replaced.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// Images of each class, 1 to 64.
        #[arg(long, default_value_t = 16)]
        count: usize,
        /// Choose the images, and draw the synthetic radiographs.
        #[arg(long, default_value_t = 42)]
        seed: u64,
    },
}

/// A data set and how to read it.
#[derive(Debug, clap::Args)]
struct Source {
    /// A .npz archive, a .csv manifest, a folder of images, or the word `synthetic`.
    path: PathBuf,
    /// Rows and columns to which images are resized.
    #[arg(long, value_name = "PIXELS")]
    image_size: Option<usize>,
    /// Name of a manifest's column, as in label=target; the columns are file, label, class_name,
    /// patient_id, site, split, age, sex; repeatable.
    #[arg(long, value_name = "NAME=COLUMN")]
    column: Vec<String>,
}

impl DataCommand {
    /// Runs it.
    pub(crate) fn run(self) -> Result<(), Failure> {
        match self.action {
            Action::Inspect { source, seed, json } => {
                let summary = Summary::of(&source.load(Seed(seed))?);
                let text = if json { as_json(&summary)? } else { as_text(&summary) };
                print(&text)
            }
            Action::Preview { source, out, count, seed } => {
                let dataset = source.load(Seed(seed))?;
                let sheet = ContactSheet::draw(&dataset, count, Seed(seed)).map_err(data_failure)?;
                sheet.write_png(&out).map_err(data_failure)?;
                let (width, height) = sheet.size();
                print(&format!("{} ({width}x{height} pixels)\n", out.display()))
            }
        }
    }
}

impl Source {
    fn load(&self, seed: Seed) -> Result<Dataset, Failure> {
        let mut options = LoadOptions { image_size: self.image_size, ..LoadOptions::default() };
        for mapping in &self.column {
            map_column(&mut options, mapping)?;
        }
        if self.path == Path::new("synthetic") {
            let (hospitals, images) = SYNTHETIC;
            let mut synthetic = SyntheticOptions::hospitals(hospitals, images);
            synthetic.image_size = self.image_size.unwrap_or(synthetic.image_size);
            return synthetic::generate(&synthetic, seed).map_err(data_failure);
        }
        Dataset::load(&self.path, &options).map_err(data_failure)
    }
}

/// Applies one `NAME=COLUMN`.
pub(super) fn map_column(options: &mut LoadOptions, mapping: &str) -> Result<(), Failure> {
    let hint = "for example --column label=target --column patient_id=subject";
    let refused = |what: String| Failure::user(anyhow::anyhow!(what)).hint(hint);
    let (name, column) = mapping
        .split_once('=')
        .filter(|(_, column)| !column.is_empty())
        .ok_or_else(|| refused(format!("--column {mapping:?} is not of the form NAME=COLUMN")))?;
    let columns = &mut options.columns;
    let slot = match name {
        "file" => &mut columns.file,
        "label" => &mut columns.label,
        "class_name" => &mut columns.class_name,
        "patient_id" => &mut columns.patient_id,
        "site" => &mut columns.site,
        "split" => &mut columns.split,
        "age" => &mut columns.age,
        "sex" => &mut columns.sex,
        _ => {
            let known = "file, label, class_name, patient_id, site, split, age, sex";
            return Err(refused(format!("--column {name:?} is not one of {known}")));
        }
    };
    *slot = Some(column.to_owned());
    Ok(())
}

/// The summary as an object; every warning also in words.
fn as_json(summary: &Summary) -> Result<String, Failure> {
    let mut value = serde_json::to_value(summary).map_err(Failure::internal)?;
    if let Some(warnings) = value["warnings"].as_array_mut() {
        for (value, warning) in warnings.iter_mut().zip(&summary.warnings) {
            value["message"] = Value::from(warning.to_string());
        }
    }
    Ok(format!("{value:#}\n"))
}

fn as_text(summary: &Summary) -> String {
    let shape = summary.shape;
    let colour = if shape.channels == 3 { "colour" } else { "grey" };
    let mut text = format!(
        "{}: {} images, {} x {} pixels, {colour}, {} classes\n\n",
        summary.name,
        summary.images,
        shape.height,
        shape.width,
        summary.classes.len()
    );
    text.push_str(&table(summary));
    if summary.classes.len() > MOST_COLUMNS {
        text.push('\n');
        for (class, images) in summary.classes.iter().zip(&summary.images_per_class) {
            write_line(&mut text, &format!("class {class}: {images}"));
        }
    }
    text.push('\n');
    match &summary.patients {
        Some(patients) => write_line(
            &mut text,
            &format!(
                "patients: {} known, at most {} images each; {} images without a patient",
                patients.known, patients.most_images, patients.images_without
            ),
        ),
        None => write_line(&mut text, "patients: none known"),
    }
    if let Some(ages) = &summary.ages {
        let line = format!(
            "age: {:.0} to {:.0} years, median {:.0} ({} images)",
            ages.youngest, ages.oldest, ages.median, ages.images
        );
        write_line(&mut text, &line);
    }
    for attribute in &summary.attributes {
        let values: Vec<String> =
            attribute.values.iter().map(|(value, images)| format!("{value} {images}")).collect();
        let counted = if values.is_empty() { String::new() } else { format!(": {}", values.join(", ")) };
        let blank = if attribute.blank > 0 { format!(", {} blank", attribute.blank) } else { String::new() };
        let line = format!("column {}: {} values{blank}{counted}", attribute.name, attribute.distinct);
        write_line(&mut text, &line);
    }
    if !summary.warnings.is_empty() {
        text.push('\n');
    }
    for warning in &summary.warnings {
        let word = if matches!(warning, DataWarning::PatientTable { .. }) { "note" } else { "warning" };
        write_line(&mut text, &format!("{word}: {warning}"));
    }
    text
}

fn write_line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

/// One line per split, hospital and sex, with a column per class while these are few.
fn table(summary: &Summary) -> String {
    let all = Part {
        name: "all".to_owned(),
        images: summary.images,
        images_per_class: summary.images_per_class.clone(),
        patients: summary.patients.as_ref().map_or(0, |patients| patients.known),
    };
    let mut lines = vec![(all.name.clone(), &all)];
    lines.extend(summary.splits.iter().map(|part| (format!("split {}", part.name), part)));
    lines.extend(summary.sites.iter().map(|part| (format!("site {}", part.name), part)));
    lines.extend(summary.sexes.iter().map(|part| (format!("sex {}", part.name), part)));
    let classes: &[String] = if summary.classes.len() > MOST_COLUMNS { &[] } else { &summary.classes };
    let mut heads: Vec<String> = vec!["images".to_owned()];
    heads.extend(classes.iter().cloned());
    if summary.patients.is_some() {
        heads.push("patients".to_owned());
    }
    let first = lines.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let mut text = " ".repeat(first);
    for head in &heads {
        let _ = write!(text, "  {head:>7}");
    }
    text.push('\n');
    for (name, part) in lines {
        let _ = write!(text, "{name:first$}");
        let mut numbers = vec![part.images];
        numbers.extend(&part.images_per_class[..classes.len()]);
        if summary.patients.is_some() {
            numbers.push(part.patients);
        }
        for (number, head) in numbers.iter().zip(&heads) {
            let width = head.chars().count().max(7);
            let _ = write!(text, "  {number:>width$}");
        }
        text.push('\n');
    }
    text
}
