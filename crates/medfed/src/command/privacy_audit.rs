//! `medfed privacy-audit`: what a trained model gives away about whom it was trained on.

use super::predict::Model;
use crate::failure::Failure;
use crate::output::{note, print};
use crate::privacy_audit::{
    Claim, DOCUMENT, MeasuredPrivacy, NonMembers, Order, ReferenceOrder, Report, Subject, Targets, attack,
    write,
};
use crate::run::{self, data_failure, store_failure};
use clap::ValueEnum;
use medfed_config::section::Attack;
use medfed_config::{Config, Override};
use medfed_data::{Dataset, LoadOptions, Sites, Split};
use medfed_federation::Setup;
use medfed_federation::canary::Canaries;
use medfed_store::{Run, Store, StoreError};
use medfed_types::{Cancel, ImageSource, RunId, Seed};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Attack a trained model: can one tell whom it was trained on?
///
/// Members are the training images of the model's run, others its held-out images whose patients were not
/// trained on. The run is looked up in the results folder beside the model file (medfed.sqlite), the images
/// where the run found them or in --data. Models of other origin need --data and --member-split.
///
/// threshold and loss_based ask the model once. shadow, lira, lira_offline and rmia train models for
/// comparison the way the run did, each about as long as the run itself; Ctrl-C keeps those that are done.
///
/// Writes mia_privacy_audit.json and mia_roc.svg. Fails with exit code 1 when canaries in the run
/// (privacy_audit.canaries) prove a larger epsilon than was accounted.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  medfed privacy-audit --model results/best_model.safetensors
  medfed privacy-audit --model results/best_model.safetensors --attack lira --attack rmia --references 32
  medfed privacy-audit --model model.safetensors --data pneumoniamnist.npz --member-split train --other-split val

A small AUC shows that these attacks failed, not that all would; docs/privacy-audit.md says how to read it.")]
pub(crate) struct PrivacyAuditCommand {
    /// Model file, as training writes it.
    #[arg(long, value_name = "FILE")]
    model: PathBuf,
    /// The images of the run [default: where the run found them]
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    /// Attack to carry out; repeatable [default: those of the run's configuration]
    #[arg(long = "attack", value_enum, value_name = "NAME")]
    attacks: Vec<AttackName>,
    /// Models trained for comparison, 2 to 512; an odd number is rounded up [default: as the run is
    /// configured, 16]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=512))]
    references: Option<u32>,
    /// Images that were not trained on
    #[arg(long, value_enum, value_name = "WHICH", default_value = "auto")]
    non_members: NonMembers,
    /// Results folder with the model's run [default: the folder of the model file]
    #[arg(long, value_name = "DIR")]
    results: Option<PathBuf>,
    /// Split of --data that the model was trained on, for a model without a run
    #[arg(long, value_enum, value_name = "SPLIT", requires = "data", requires = "other_split", conflicts_with_all = ["results", "non_members"])]
    member_split: Option<SplitName>,
    /// Split of --data that it was not trained on
    #[arg(long, value_enum, value_name = "SPLIT", requires = "member_split")]
    other_split: Option<SplitName>,
    /// Folder for the report, the picture and what is kept of models for comparison [default: the folder
    /// of the model file]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print the report as one JSON object, the same as mia_privacy_audit.json
    #[arg(long)]
    json: bool,
    /// Threads [default: one per core]; the result does not depend on it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
}

/// An attack by the name that the configuration gives it.
#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
enum AttackName {
    /// By the confidence of the prediction
    Threshold,
    /// By the loss
    LossBased,
    /// By a classifier that has learned from models trained for comparison (Shokri et al. 2017)
    Shadow,
    /// By the likelihood ratio over models trained with and without the image (Carlini et al. 2022)
    Lira,
    /// The same with models trained without it only
    LiraOffline,
    /// By the ratio to the mean probability over such models (Zarifzadeh et al. 2024)
    Rmia,
}

impl From<AttackName> for Attack {
    fn from(name: AttackName) -> Self {
        match name {
            AttackName::Threshold => Self::Threshold,
            AttackName::LossBased => Self::LossBased,
            AttackName::Shadow => Self::Shadow,
            AttackName::Lira => Self::Lira,
            AttackName::LiraOffline => Self::LiraOffline,
            AttackName::Rmia => Self::Rmia,
        }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum SplitName {
    Train,
    Val,
    Test,
}

impl From<SplitName> for Split {
    fn from(name: SplitName) -> Self {
        match name {
            SplitName::Train => Self::Train,
            SplitName::Val => Self::Validation,
            SplitName::Test => Self::Test,
        }
    }
}

/// The run that made the model, with its images divided as it divided them.
struct Origin {
    id: RunId,
    config: Config,
    seed: Seed,
    sites: Sites,
    canaries: Option<Canaries>,
}

impl PrivacyAuditCommand {
    /// Runs it.
    pub(crate) fn run(self) -> Result<(), Failure> {
        if let Some(threads) = self.threads {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(usize::from(threads));
            pool.build_global().map_err(Failure::internal)?;
        }
        let model = Model::open(&self.model)?;
        let beside = self.model.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let folder = self.out.as_deref().unwrap_or(beside).to_owned();
        let results = self.results.as_deref().unwrap_or(beside);
        let (dataset, origin) = if self.member_split.is_some() {
            (Arc::new(self.plain_data(&model)?), None)
        } else {
            let (dataset, origin) = self.origin(&model, results)?;
            (dataset, Some(origin))
        };
        check_fit(&dataset, &model)?;
        let targets = match (&origin, self.member_split, self.other_split) {
            (Some(origin), ..) => Targets::of_run(&dataset, &origin.sites, self.non_members, origin.seed)?,
            (None, Some(members), Some(others)) => {
                Targets::of_splits(&dataset, members.into(), others.into())?
            }
            (None, ..) => return Err(no_run(&self.model)),
        };
        let cancel = run::interrupt::watch(note)?;
        let report = self.attacked(&model, &dataset, &targets, origin.as_ref(), &folder, &cancel)?;
        let claim = claim(&model);
        let measured = match origin.as_ref().and_then(|origin| Some((origin, origin.canaries.as_ref()?))) {
            Some((origin, canaries)) => {
                let delta = claim.as_ref().map_or(0.0, |claim| claim.delta);
                let audit = canaries.audit(&model.executor, &model.parameters, delta)?;
                let kind = origin.config.privacy_audit.canary_kind;
                Some(MeasuredPrivacy::new(audit, kind, claim.as_ref()))
            }
            None => None,
        };
        let run = model.metadata.run.clone();
        let report = report.about(run, claim).with_measured(measured.clone());
        report.warnings().iter().for_each(|warning| note(&format!("warning: {warning}")));
        let [path, picture] = write(&report, &folder)?;
        if let Some(origin) = &origin {
            keep(&report, &origin.id, results);
        }
        print(&if self.json { report.to_json()? } else { report.text() })?;
        note(&format!("written: {}, {}", path.display(), picture.display()));
        measured.map_or(Ok(()), |measured| measured.verdict())
    }

    fn attacked(
        &self,
        model: &Model,
        dataset: &Arc<Dataset>,
        targets: &Targets,
        origin: Option<&Origin>,
        folder: &Path,
        cancel: &Cancel,
    ) -> Result<Report, Failure> {
        let attacks: Vec<Attack> = if self.attacks.is_empty() {
            let configured = origin.map(|origin| origin.config.privacy_audit.attack_types.clone());
            configured.unwrap_or_else(|| vec![Attack::Threshold, Attack::LossBased])
        } else {
            self.attacks.iter().map(|name| Attack::from(*name)).collect()
        };
        let references = match origin {
            Some(origin) if attacks.iter().any(|attack| attack.needs_references()) => Some(ReferenceOrder {
                config: &origin.config,
                initial: initial(origin, dataset)?,
                number: self.references.unwrap_or(origin.config.privacy_audit.references),
                seed: origin.seed,
                folder,
                again: "those that are done are kept; the same command goes on from there".to_owned(),
            }),
            _ => None,
        };
        let subject = Subject { executor: &model.executor, parameters: &model.parameters, dataset };
        attack(subject, &Order { attacks: &attacks, targets, references, cancel })
    }

    /// Images without a run.
    fn plain_data(&self, model: &Model) -> Result<Dataset, Failure> {
        let Some(data) = &self.data else { return Err(no_run(&self.model)) };
        let shape = model.metadata.model.input;
        if shape.height != shape.width {
            return Err(Failure::user(anyhow::anyhow!("the model's images are not square")));
        }
        let options = LoadOptions {
            image_size: Some(shape.width),
            channels: Some(shape.channels),
            ..LoadOptions::default()
        };
        let dataset = Dataset::load(data, &options).map_err(data_failure)?;
        dataset.with_normalisation(model.normalisation.clone()).map_err(data_failure)
    }

    /// The run of the model by its store, and its images.
    fn origin(&self, model: &Model, results: &Path) -> Result<(Arc<Dataset>, Origin), Failure> {
        let Some(id) = &model.metadata.run else { return Err(no_run(&self.model)) };
        let reader = match Store::read_only(results) {
            Err(StoreError::Missing { .. }) => return Err(no_run(&self.model)),
            other => other.map_err(store_failure)?,
        };
        let run = match reader.run(id) {
            Err(StoreError::UnknownRun { .. }) => return Err(no_run(&self.model)),
            other => other.map_err(store_failure)?,
        };
        let (config, recorded) = self.terms(&run)?;
        note(&format!("run {id}: {}", run::describe(&config)));
        let dataset = Arc::new(run::load(&config, run.seed)?);
        let mut sites = run::divide(&config, &dataset, run.seed)?;
        if run::hex(&run::fingerprint(&dataset, &sites)) != recorded {
            return Err(Failure::user(anyhow::anyhow!(
                "these are not the images that run {id} was trained on: pixels, labels or their division differ"
            ))
            .hint("--data takes the data set that the run used, with everything that lay beside it"));
        }
        let canaries = run::replant(&reader, id, &config, &dataset, &mut sites, run.seed)?;
        Ok((dataset, Origin { id: id.clone(), config, seed: run.seed, sites, canaries }))
    }

    /// The run's configuration, reading from `--data` where it is given, and the digest of its images.
    fn terms(&self, run: &Run) -> Result<(Config, String), Failure> {
        let unreadable = |error: anyhow::Error| {
            Failure::user(error.context(format!("run {} cannot be read", run.id)))
                .hint("use the version of medfed that wrote it")
        };
        let terms: run::Terms =
            serde_json::from_value(run.config.clone()).map_err(|error| unreadable(error.into()))?;
        let mut set: Vec<Override> = Vec::new();
        if let Some(data) = &self.data {
            set.push(Override::text("data.dataset", "files").map_err(Failure::internal)?);
            set.push(super::set_path("data.data_dir", data)?);
        }
        let config = Config::from_yaml(&terms.config.to_string(), "the stored configuration", &set)
            .map_err(|errors| unreadable(anyhow::anyhow!("{}", errors.render(false))))?;
        Ok((config, terms.data))
    }
}

/// Keeps the report with the run, unless another process writes there.
fn keep(report: &Report, run: &RunId, results: &Path) {
    let kept = Store::open(results)
        .map_err(store_failure)
        .and_then(|store| store.put_document(run, DOCUMENT, &report.to_json()?).map_err(store_failure));
    if kept.is_err() {
        note("warning: the report could not be kept with the run; the file has it");
    }
}

/// Refuses images that the model cannot be asked about.
fn check_fit(dataset: &Dataset, model: &Model) -> Result<(), Failure> {
    let (expected, found) = (model.metadata.model.input, dataset.shape());
    if expected != found {
        return Err(Failure::user(anyhow::anyhow!(
            "the model takes images of {} x {} pixels in {} channels, these have {} x {} in {}",
            expected.height,
            expected.width,
            expected.channels,
            found.height,
            found.width,
            found.channels
        ))
        .hint("audit it on the data set that it was trained on"));
    }
    if dataset.classes().len() != model.metadata.classes.len() {
        return Err(Failure::user(anyhow::anyhow!(
            "the model has the classes {}, the data have {}",
            model.metadata.classes.join(", "),
            dataset.classes().join(", ")
        ))
        .hint("audit it on the data set that it was trained on"));
    }
    Ok(())
}

/// What the model file says about its privacy, where a bound is known.
fn claim(model: &Model) -> Option<Claim> {
    let privacy = model.metadata.privacy.as_ref()?;
    privacy.epsilon.get().is_finite().then(|| Claim {
        epsilon: privacy.epsilon.get(),
        delta: privacy.delta.get(),
        unit: privacy.unit.clone(),
        reproducible_noise: privacy.reproducible_noise,
    })
}

/// The parameters that the run began with, where they came from a file.
fn initial(origin: &Origin, dataset: &Arc<Dataset>) -> Result<Option<Vec<f32>>, Failure> {
    let setup = Setup::new(&origin.config, dataset, &origin.sites, origin.seed, [0; 32])?;
    Ok(run::pretrained(&origin.config, &setup)?.map(|(parameters, _)| parameters))
}

fn no_run(model: &Path) -> Failure {
    Failure::user(anyhow::anyhow!("it is not known which images {} was trained on", model.display())).hint(
        "the model's run lies in the results folder it was written to: name that with --results; for a model of other origin say which part of the data was trained on: --data PATH --member-split train --other-split val",
    )
}
