//! The plan binds everything that decides what is promised: unit, clipping, sampling, noise, budget.
//!
//! **Neighbouring relation.** Two data sets of one hospital are neighbours when one has one more
//! privacy unit than the other: one image with everything known about it ([`PrivacyUnit::Image`]), or
//! all images of one patient ([`PrivacyUnit::Patient`]). Add or remove, not replace: a replaced unit is
//! one removed and one added, at about twice the ε.
//!
//! **Guarantee.** Whatever one hospital sends out over a run is (ε, δ)-differentially private for its
//! own units, against everyone outside the hospital, the coordinator included, who may know all other
//! units. ε is what [`Ledger::spent`](crate::Ledger::spent) reports and never passes the budget.
//!
//! **Not protected.** What all images of a unit's group have in common (a finding that most patients
//! of the hospital share is learned, that is the purpose); the fact that the hospital takes part; its
//! divisor and sampling rate, which are public; a patient beyond the sum over the hospitals that know
//! the patient; anything derived from the data outside this plan, such as metrics on the validation
//! images. `docs/pitfalls.md` lists and grades them all.

use crate::accountant::{Accountant, Phase};
use crate::error::DpError;
use medfed_types::{ClipNorm, Delta, Epsilon, NoiseMultiplier, SamplingRate, ScalarError};
use serde::{Deserialize, Serialize};

/// What one privacy unit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PrivacyUnit {
    /// Each image is protected. A patient with k images gets about k times the ε.
    Image,
    /// All images of a patient together are protected.
    Patient,
}

impl std::fmt::Display for PrivacyUnit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Image => "image",
            Self::Patient => "patient",
        })
    }
}

/// The public number by which a sum of units becomes an estimate of the mean: the sampling rate times
/// the number of units that was announced. Never the batch's actual size, which depends on the data.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct ExpectedBatchSize(f64);

impl ExpectedBatchSize {
    /// Checks that it is finite and above 0.
    pub fn new(value: f64) -> Result<Self, ScalarError> {
        within("the expected batch size", "finite and above 0", value, f64::MIN_POSITIVE, f64::MAX)?;
        Ok(Self(value))
    }

    /// The number of units.
    pub fn get(self) -> f64 {
        self.0
    }
}

impl TryFrom<f64> for ExpectedBatchSize {
    type Error = ScalarError;
    fn try_from(value: f64) -> Result<Self, ScalarError> {
        Self::new(value)
    }
}

impl From<ExpectedBatchSize> for f64 {
    fn from(value: ExpectedBatchSize) -> f64 {
        value.0
    }
}

/// The terms of a plan, by name. [`DpPlan::new`] makes a plan of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanTerms {
    /// What is protected.
    pub unit: PrivacyUnit,
    /// L2 norm to which each unit's gradient is clipped: the sensitivity of the sum.
    pub clip: ClipNorm,
    /// Standard deviation of the noise in multiples of the clipping norm.
    pub noise: NoiseMultiplier,
    /// Probability with which each unit joins a batch, independently of all others.
    pub rate: SamplingRate,
    /// Public divisor of the noised sum.
    pub expected_batch_size: ExpectedBatchSize,
    /// Exact discrete Gaussian noise instead of a double-precision Gaussian.
    pub secure_mode: bool,
    /// The δ of the guarantee: far below one over the number of units.
    pub delta: Delta,
    /// The accountant whose ε is the official one.
    pub accountant: Accountant,
    /// ε that is never passed.
    pub budget: Epsilon,
}

/// A checked plan. Everything that can change ε is in it, and nothing else is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "PlanTerms", into = "PlanTerms")]
pub struct DpPlan(PlanTerms);

impl DpPlan {
    /// Checks the terms against what the mechanisms support: a clipping norm from 1e-9 to 1e9 and a
    /// noise multiplier from 1e-3 to 1e6, so that the noise and its grid are ordinary numbers, and a
    /// budget that is finite and above 0.
    pub fn new(terms: PlanTerms) -> Result<Self, DpError> {
        within("the clipping norm of a plan", "from 1e-9 to 1e9", terms.clip.get(), 1e-9, 1e9)?;
        within("the noise multiplier of a plan", "from 0.001 to 1e6", terms.noise.get(), 1e-3, 1e6)?;
        let budget = terms.budget.get();
        within("the privacy budget", "finite and above 0", budget, f64::MIN_POSITIVE, f64::MAX)?;
        Ok(Self(terms))
    }

    /// The same plan with another noise multiplier, for the rounds to come.
    pub fn with_noise(self, noise: NoiseMultiplier) -> Result<Self, DpError> {
        Self::new(PlanTerms { noise, ..self.0 })
    }

    /// The terms.
    pub fn terms(&self) -> &PlanTerms {
        &self.0
    }

    /// What `steps` steps of the plan add to a history.
    pub fn phase(&self, steps: u64) -> Phase {
        Phase { rate: self.0.rate, noise: self.0.noise, steps }
    }
}

impl TryFrom<PlanTerms> for DpPlan {
    type Error = DpError;
    fn try_from(terms: PlanTerms) -> Result<Self, DpError> {
        Self::new(terms)
    }
}

impl From<DpPlan> for PlanTerms {
    fn from(plan: DpPlan) -> PlanTerms {
        plan.0
    }
}

/// Refuses `found` outside `low..=high` (NaN is outside).
fn within(
    what: &'static str,
    expected: &'static str,
    found: f64,
    low: f64,
    high: f64,
) -> Result<(), ScalarError> {
    if (low..=high).contains(&found) { Ok(()) } else { Err(ScalarError { what, expected, found }) }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Terms of an ordinary plan.
    pub(crate) fn terms() -> PlanTerms {
        PlanTerms {
            unit: PrivacyUnit::Image,
            clip: ClipNorm::new(1.5).unwrap(),
            noise: NoiseMultiplier::new(1.1).unwrap(),
            rate: SamplingRate::new(0.05).unwrap(),
            expected_batch_size: ExpectedBatchSize::new(64.0).unwrap(),
            secure_mode: false,
            delta: Delta::new(1e-5).unwrap(),
            accountant: Accountant::Rdp,
            budget: Epsilon::new(3.0).unwrap(),
        }
    }

    #[test]
    fn terms_are_checked_also_when_read() {
        let plan = DpPlan::new(terms()).unwrap();
        let json = serde_json::to_string(&plan).unwrap();
        assert_eq!(serde_json::from_str::<DpPlan>(&json).unwrap(), plan);
        for (from, to) in [
            (r#""clip":1.5"#, r#""clip":1e12"#),
            (r#""clip":1.5"#, r#""clip":-1"#),
            (r#""noise":1.1"#, r#""noise":1e-5"#),
            (r#""rate":0.05"#, r#""rate":0"#),
            (r#""budget":3.0"#, r#""budget":0"#),
            (r#""expected_batch_size":64.0"#, r#""expected_batch_size":0"#),
            (r#""unit":"image""#, r#""unit":"pixel""#),
        ] {
            assert!(json.contains(from), "{json}");
            assert!(serde_json::from_str::<DpPlan>(&json.replace(from, to)).is_err(), "{to}");
        }
        let infinite = Epsilon::new(f64::INFINITY).unwrap();
        assert!(DpPlan::new(PlanTerms { budget: infinite, ..terms() }).is_err());
        assert!(plan.with_noise(NoiseMultiplier::new(1e7).unwrap()).is_err());
    }
}
