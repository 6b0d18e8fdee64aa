//! What a hospital tells the coordinator when it joins, and what the coordinator takes for true.

use super::hospital::announced;
use super::{network, trainable};
use crate::coordinator::Member;
use crate::error::FederationError;
use medfed_config::Config;
use medfed_dp::{DpPlan, PlanTerms};
use medfed_nn::Network;
use medfed_types::{ImageShape, SiteId};
use serde::{Deserialize, Serialize};

/// More steps in a round than anybody trains: what is worked out for each of them stays small.
const MOST_STEPS: u64 = 1_000_000;
/// More noise than any budget asks for.
const LARGEST_NOISE: f64 = 1e4;
/// More classes than a model has.
const MOST_CLASSES: usize = 1000;

/// What a hospital tells the coordinator when it joins. Nothing in it depends on a single image; sampling
/// rate and divisor of the plan are public, so that everybody can account for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Announcement {
    /// Shape of its images.
    pub shape: ImageShape,
    /// Its classes, in the order of their numbers.
    pub classes: Vec<String>,
    /// Steps that it takes in a round.
    pub steps: u64,
    /// Its plan, when there is privacy; the plan's noise is the least that it adds.
    pub plan: Option<DpPlan>,
    /// Whether it has images to validate on.
    pub validates: bool,
    /// Attributes of patients by which it counts, when fairness is measured.
    pub attributes: Vec<String>,
    /// How many images it has; nothing where its policy does not release that.
    pub counts: Option<Counts>,
}

/// How many images a hospital has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// To train on.
    pub train_images: u64,
    /// Privacy units among them.
    pub train_units: u64,
    /// To validate on.
    pub validation_images: u64,
}

impl Announcement {
    /// Refuses an announcement that does not fit the configuration, or the images of a hospital that has
    /// joined before, or that promises its patients less than the configuration does.
    ///
    /// Said by the hospital and not to be checked here: that its numbers are those of its images. A plan that
    /// a hospital announces and does not follow harms its own patients alone.
    pub fn check(&self, config: &Config, joined: Option<&Self>) -> Result<(), FederationError> {
        if self.classes.len() > MOST_CLASSES {
            return Err(differs("number of classes", format!("at most {MOST_CLASSES}"), self.classes.len()));
        }
        if let Some(first) = joined {
            same("image shape", shape(first.shape), shape(self.shape))?;
            same("classes", first.classes.join(", "), self.classes.join(", "))?;
        }
        // Shapes that no model takes are refused before anything is made of them.
        super::model_spec(config, self.shape, &self.classes)?.build()?;
        self.check_plan(config)?;
        self.check_steps(config)
    }

    /// The hospital as the coordinator knows it.
    pub(super) fn member(
        &self,
        site: &SiteId,
        config: &Config,
        network: &Network,
    ) -> Result<Member, FederationError> {
        let counts = self.counts.unwrap_or(Counts {
            train_images: 0,
            train_units: 0,
            validation_images: u64::from(self.validates),
        });
        let moving = trainable(config, network);
        Ok(Member {
            site: site.clone(),
            train_images: counts.train_images,
            train_units: counts.train_units,
            validation_images: counts.validation_images,
            training: announced(config, &moving, self.steps, self.plan.clone())?,
        })
    }

    /// The network that fits the images.
    pub(super) fn network(&self, config: &Config) -> Result<std::sync::Arc<Network>, FederationError> {
        network(config, self.shape, &self.classes)
    }

    fn check_plan(&self, config: &Config) -> Result<(), FederationError> {
        let privacy = &config.privacy;
        let terms = match (&self.plan, privacy.enabled) {
            (None, false) => return Ok(()),
            (Some(plan), true) => plan.terms(),
            (found, _) => {
                let word = |there: bool| if there { "a privacy plan" } else { "no privacy" };
                return Err(differs("plan", word(privacy.enabled), word(found.is_some())));
            }
        };
        let PlanTerms {
            unit,
            clip,
            noise,
            rate,
            secure_mode,
            delta,
            accountant,
            budget,
            expected_batch_size,
        } = terms;
        let configured = super::hospital::fixed_terms(privacy);
        same("privacy unit", configured.unit.to_string(), unit.to_string())?;
        same("clipping norm", configured.clip.get(), clip.get())?;
        same("accountant", configured.accountant.to_string(), accountant.to_string())?;
        same("secure mode", privacy.secure_mode, *secure_mode)?;
        at_most("delta", privacy.delta.get(), delta.get())?;
        at_most("privacy budget", privacy.epsilon_budget.get(), budget.get())?;
        if let Some(fixed) = privacy.noise_multiplier.fixed()
            && *noise < fixed
        {
            return Err(differs("noise multiplier", format!("at least {fixed}"), noise));
        }
        if let Some(configured) = privacy.sampling_rate {
            same("sampling rate", configured.get(), rate.get())?;
        }
        // The common range of masked values follows from these two: a hospital must not make it what it likes.
        at_most("noise multiplier", LARGEST_NOISE, noise.get())?;
        let (batch, configured) = (expected_batch_size.get(), f64::from(config.training.batch_size));
        let fits = match privacy.sampling_rate {
            // One unit at the least.
            Some(rate) => batch >= rate.get() * (1.0 - 1e-6),
            None if rate.get() < 1.0 => (batch - configured).abs() <= 1e-6 * configured,
            None => batch >= 1.0 && batch <= configured * (1.0 + 1e-6),
        };
        if !fits {
            return Err(differs("expected batch size", configured, batch));
        }
        if let Some(counts) = &self.counts {
            let units = batch / rate.get();
            if (units - counts.train_units as f64).abs() > 1e-6 * units.max(1.0) {
                return Err(differs(
                    "number of units",
                    format!("{units:.0}, by its plan"),
                    counts.train_units,
                ));
            }
        }
        Ok(())
    }

    fn check_steps(&self, config: &Config) -> Result<(), FederationError> {
        let rate = self.plan.as_ref().map(|plan| plan.terms().rate);
        let units = self.counts.map(|counts| counts.train_units);
        if let Some(expected) = super::hospital::steps(config, rate, units) {
            return same("steps in a round", expected, self.steps);
        }
        if self.steps == 0 || self.steps > MOST_STEPS {
            return Err(differs("steps in a round", format!("1 to {MOST_STEPS}"), self.steps));
        }
        Ok(())
    }
}

fn shape(shape: ImageShape) -> String {
    format!("{} channels of {}x{} pixels", shape.channels, shape.height, shape.width)
}

fn same<T: PartialEq + std::fmt::Display>(
    what: &'static str,
    expected: T,
    found: T,
) -> Result<(), FederationError> {
    if expected == found { Ok(()) } else { Err(differs(what, expected, found)) }
}

fn at_most(what: &'static str, limit: f64, found: f64) -> Result<(), FederationError> {
    if found <= limit { Ok(()) } else { Err(differs(what, format!("at most {limit}"), found)) }
}

fn differs(
    what: &'static str,
    expected: impl std::fmt::Display,
    found: impl std::fmt::Display,
) -> FederationError {
    FederationError::Announcement { what, expected: expected.to_string(), found: found.to_string() }
}
