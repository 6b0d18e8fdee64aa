//! Training models for comparison, with a bar, and so that an interrupted audit goes on where it stopped.

use super::Targets;
use crate::failure::Failure;
use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use medfed_config::Config;
use medfed_data::Dataset;
use medfed_federation::reference::{Reference, ReferenceTraining};
use medfed_federation::{Observer, Progress};
use medfed_types::{Cancel, Seed};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, IsTerminal as _, Write as _};
use std::path::Path;
use std::sync::Arc;

/// What is kept of finished models.
const FILE: &str = "mia_references.jsonl";
/// Parts into which the bar divides one model.
const FINENESS: u64 = 1000;

/// How models for comparison are trained.
#[derive(Debug)]
pub(crate) struct ReferenceOrder<'a> {
    /// As the attacked model was.
    pub(crate) config: &'a Config,
    /// Parameters to start from, unless fresh.
    pub(crate) initial: Option<Vec<f32>>,
    /// How many; an odd number is rounded up.
    pub(crate) number: u32,
    pub(crate) seed: Seed,
    /// Where finished models' answers are kept.
    pub(crate) folder: &'a Path,
    /// How to go on after an interruption.
    pub(crate) again: String,
}

/// The first line of the file: what its models were trained for.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Heading {
    audit: String,
}

/// A finished model.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    number: u32,
    logits: Vec<f32>,
}

impl ReferenceOrder<'_> {
    /// Trains what is not there yet.
    pub(super) fn train(
        &self,
        dataset: &Arc<Dataset>,
        targets: &Targets,
        cancel: &Cancel,
    ) -> Result<Vec<Reference>, Failure> {
        let Some(list) = targets.for_references() else {
            return Err(Failure::user(anyhow::anyhow!("no hospitals are known for these images"))
                .hint("attacks that compare models need the model's run: leave out --members"));
        };
        let number = self.number + self.number % 2;
        let expected = list.len() * dataset.classes().len();
        let heading = Heading { audit: self.digest(dataset, targets) };
        let training = ReferenceTraining::new(self.config, dataset, list, self.initial.clone(), self.seed)?;
        let path = self.folder.join(FILE);
        let mut done = kept(&path, &heading, expected);
        std::fs::create_dir_all(self.folder)
            .with_context(|| format!("{} cannot be made", self.folder.display()))
            .map_err(Failure::user)?;
        let unwritable = |error: std::io::Error| {
            Failure::user(anyhow::Error::new(error).context(format!("{} cannot be written", path.display())))
                .hint("check the folder's permissions and free space, or choose another with --out")
        };
        // A line that was cut off by a kill must not be continued: what is whole is written again.
        let mut file = File::create(&path).map_err(unwritable)?;
        let mut add = |value: &str| file.write_all(value.as_bytes()).and_then(|()| file.write_all(b"\n"));
        let line = |reference: &Line| serde_json::to_string(reference).map_err(Failure::internal);
        add(&serde_json::to_string(&heading).map_err(Failure::internal)?).map_err(unwritable)?;
        for reference in &done {
            add(&line(reference)?).map_err(unwritable)?;
        }
        let bar = Bar::new(number, done.len() as u32, self.config.federated.num_rounds);
        for next in 0..number {
            if done.iter().any(|line| line.number == next) {
                continue;
            }
            let Some(reference) = training.train(next, &bar, cancel)? else {
                bar.0.finish_and_clear();
                let stopped =
                    anyhow::anyhow!("interrupted after {} of {number} models for comparison", done.len());
                return Err(Failure::interrupted(stopped).hint(self.again.clone()));
            };
            let kept = Line { number: next, logits: reference.logits };
            add(&line(&kept)?).map_err(unwritable)?;
            done.push(kept);
            bar.finished(done.len() as u32);
        }
        bar.0.finish_and_clear();
        done.sort_by_key(|line| line.number);
        done.truncate(number as usize);
        Ok(done
            .into_iter()
            .map(|line| Reference { included: training.included(line.number), logits: line.logits })
            .collect())
    }

    /// Everything that decides what the models say.
    fn digest(&self, dataset: &Dataset, targets: &Targets) -> String {
        let mut hash = Sha256::new_with_prefix(b"medfed reference models v1\0");
        hash.update(self.config.hash());
        hash.update(self.seed.0.to_le_bytes());
        for (image, site) in targets.images.iter().zip(&targets.sites) {
            hash.update(image.to_le_bytes());
            hash.update(dataset.pixels(*image as usize));
            hash.update(dataset.scans()[*image as usize].label.to_le_bytes());
            hash.update(site.as_ref().map_or("", |site| site.as_str()));
            hash.update([0]);
        }
        for value in self.initial.iter().flatten() {
            hash.update(value.to_le_bytes());
        }
        crate::run::hex(&hash.finalize())
    }
}

/// The models that an earlier audit of the same kind has finished. A file that cannot be read is one without
/// models.
fn kept(path: &Path, heading: &Heading, expected: usize) -> Vec<Line> {
    let Ok(file) = OpenOptions::new().read(true).open(path) else { return Vec::new() };
    let mut lines = BufReader::new(file).lines().map_while(Result::ok);
    let first = lines.next().and_then(|line| serde_json::from_str::<Heading>(&line).ok());
    if first.as_ref() != Some(heading) {
        return Vec::new();
    }
    let mut found: Vec<Line> = Vec::new();
    for line in lines.map_while(|line| serde_json::from_str::<Line>(&line).ok()) {
        if line.logits.len() == expected && found.iter().all(|other| other.number != line.number) {
            found.push(line);
        }
    }
    found
}

/// Models done, in parts of a model.
struct Bar(ProgressBar, u32);

impl Bar {
    fn new(number: u32, done: u32, rounds: u32) -> Self {
        let bar = if std::io::stderr().is_terminal() {
            ProgressBar::new(u64::from(number) * FINENESS)
        } else {
            ProgressBar::hidden()
        };
        let style = ProgressStyle::with_template(
            "{prefix:<14} [{bar:30.cyan/dim}] {msg}  {elapsed}, about {eta} left",
        )
        .expect("the template is a constant of this file")
        .progress_chars("=> ");
        bar.set_style(style);
        bar.set_prefix("references");
        let bar = Self(bar, rounds);
        bar.finished(done);
        bar.0.reset_eta();
        bar
    }

    fn finished(&self, done: u32) {
        self.0.set_position(u64::from(done) * FINENESS);
        self.0.set_message(format!("{done}/{} models", self.0.length().unwrap_or(0) / FINENESS));
    }
}

impl Observer for Bar {
    fn notice(&self, progress: &Progress<'_>) {
        if let Progress::RoundFinished { .. } = progress {
            self.0.inc(FINENESS / u64::from(self.1.max(1)));
        }
    }
}
