//! What a hospital agrees to: a file of its own that no coordinator can override.
//!
//! A request that breaks the policy is refused with a [`DeclineCode`] and a sentence; nothing is computed for
//! it. ε is that of everything the hospital paid for, in all runs, at the policy's δ: in total, and within the
//! period that ends with the request. A round is counted when it is asked for, with every step that it may
//! take, so a limit is never passed by work under way.

mod file;

pub use file::PolicyError;

use crate::message::DeclineCode;
use file::{Protection, Unit};
use medfed_config::Config;
use medfed_config::section::{ModelName, PrivacyUnit, RobustMethod, SecureMode};
use medfed_dp::{Accountant, DpError, DpPlan, History, Phase};
use medfed_federation::Announcement;
use medfed_federation::site::LocalReport;
use medfed_types::{Delta, Epsilon};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

const DAY_MS: u64 = 24 * 60 * 60 * 1000;
/// DER of an Ed25519 key up to the key itself (RFC 8410, section 4).
const KEY_INFO: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// A checked policy.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    require_privacy: bool,
    unit: Unit,
    delta: Delta,
    max_epsilon_per_run: Option<Epsilon>,
    max_epsilon_total: Option<Epsilon>,
    period: Option<Period>,
    min_hospitals: u32,
    models: Option<Vec<ModelName>>,
    rules: Option<Vec<RobustMethod>>,
    protections: Option<Vec<Protection>>,
    coordinators: Option<Vec<[u8; 32]>>,
    release: Release,
    dry_run: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Period {
    ms: u64,
    most: Epsilon,
}

/// What leaves the hospital beside updates. Nothing of it is covered by differential privacy.
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own in the file")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Release {
    /// The mean training loss of a round.
    pub losses: bool,
    /// The share of gradients that were clipped.
    pub norms: bool,
    /// Numbers of images and units. The number of privacy units follows from the plan, which is public.
    pub counts: bool,
    /// Measurements of models on validation images.
    pub metrics: bool,
}

/// Steps that a hospital paid for.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Paid {
    /// When, in milliseconds.
    pub at_ms: u64,
    /// The steps.
    pub phase: Phase,
}

/// A request that the policy refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The code that the coordinator gets.
    pub code: DeclineCode,
    /// Why, in a sentence without full stop.
    pub reason: String,
}

impl Policy {
    /// Checks what is known before the site looks at its data: who asks, for what.
    pub fn check_offer(&self, coordinator: &[u8; 32], cohort: usize, config: &Config) -> Result<(), Refusal> {
        let refuse = |code, reason: String| Err(Refusal { code, reason });
        let fingerprint: [u8; 32] =
            Sha256::new().chain_update(KEY_INFO).chain_update(coordinator).finalize().into();
        if self.coordinators.as_ref().is_some_and(|known| !known.contains(&fingerprint)) {
            let reason = "the coordinator's key is not one of `coordinators`".to_owned();
            return refuse(DeclineCode::Coordinator, reason);
        }
        let least = self.min_hospitals;
        if cohort < least as usize {
            let reason = format!("{cohort} hospitals may take part, the policy asks for {least}");
            return refuse(DeclineCode::FewHospitals, reason);
        }
        let model = config.model.name;
        if self.models.as_ref().is_some_and(|allowed| !allowed.contains(&model)) {
            return refuse(DeclineCode::Model, format!("the model {} is not allowed", model.as_str()));
        }
        let robust = &config.robust_aggregation;
        let rule = if robust.enabled { robust.method } else { RobustMethod::Fedavg };
        if self.rules.as_ref().is_some_and(|allowed| !allowed.contains(&rule)) {
            return refuse(DeclineCode::Rule, format!("the rule {} is not allowed", rule.as_str()));
        }
        self.check_protection(config)?;
        let privacy = &config.privacy;
        if self.require_privacy && !privacy.enabled {
            return refuse(DeclineCode::Privacy, "the run has no differential privacy".to_owned());
        }
        if privacy.enabled && self.unit == Unit::Patient && privacy.unit != PrivacyUnit::Patient {
            let reason = "ε would protect single images, the policy asks for patients".to_owned();
            return refuse(DeclineCode::Privacy, reason);
        }
        if privacy.enabled && privacy.delta > self.delta {
            let (delta, most) = (privacy.delta.get(), self.delta.get());
            return refuse(DeclineCode::Privacy, format!("δ is {delta}, the policy allows {most}"));
        }
        match self.max_epsilon_per_run {
            Some(most) if privacy.enabled && privacy.epsilon_budget > most => {
                let (budget, most) = (privacy.epsilon_budget.get(), most.get());
                refuse(DeclineCode::Budget, format!("the run may spend ε {budget}, the policy allows {most}"))
            }
            _ => Ok(()),
        }
    }

    fn check_protection(&self, config: &Config) -> Result<(), Refusal> {
        let secure = &config.secure_aggregation;
        let protection = if secure.masks() {
            match config.secure_mode() {
                Ok(SecureMode::Groups) => Protection::Groups,
                Ok(SecureMode::Selection) => Protection::Selection,
                Ok(SecureMode::Auto | SecureMode::Sum) => Protection::Sum,
                Err(reason) => return Err(Refusal { code: DeclineCode::Configuration, reason }),
            }
        } else {
            Protection::Open
        };
        if self.protections.as_ref().is_some_and(|allowed| !allowed.contains(&protection)) {
            let reason = format!("updates would leave as `{}`, which is not allowed", protection.as_str());
            return Err(Refusal { code: DeclineCode::SecureMode, reason });
        }
        let least = self.min_hospitals;
        // Of groups each has its sum opened, however many hospitals the round needs.
        let opened = if protection == Protection::Groups { config.least_group() } else { secure.min_clients };
        if secure.masks() && opened < least {
            let reason = format!("a sum of {opened} hospitals may be opened, the policy asks for {least}");
            return Err(Refusal { code: DeclineCode::FewHospitals, reason });
        }
        if !secure.masks() && !self.release.counts {
            let reason = "open updates carry the number of images, which is not released".to_owned();
            return Err(Refusal { code: DeclineCode::Counts, reason });
        }
        Ok(())
    }

    /// Checks the plan that the site made of the offer. The last check: a dry run ends here.
    pub fn check_plan(&self, plan: Option<&DpPlan>) -> Result<(), Refusal> {
        if plan.is_none() && self.require_privacy {
            let reason = "the run has no differential privacy".to_owned();
            return Err(Refusal { code: DeclineCode::Privacy, reason });
        }
        if !self.dry_run {
            return Ok(());
        }
        let how = plan.map_or("without privacy".to_owned(), |plan| {
            let (noise, budget) = (plan.terms().noise.get(), plan.terms().budget.get());
            format!("with noise {noise:.4} up to ε {budget}")
        });
        let reason = format!("`dry_run` is on; the hospital would train {how}");
        Err(Refusal { code: DeclineCode::DryRun, reason })
    }

    /// Checks a request for a round of `hospitals`. `paid` is everything that was paid for before; `asked`
    /// are the steps of the round, where there is privacy. With open updates the number of hospitals is what
    /// the coordinator says; under masks no sum of fewer is opened.
    pub fn check_round(
        &self,
        now_ms: u64,
        hospitals: u32,
        paid: &[Paid],
        asked: Option<(Accountant, Phase)>,
    ) -> Result<(), Refusal> {
        let least = self.min_hospitals;
        if hospitals < least {
            let reason = format!("{hospitals} hospitals train in the round, the policy asks for {least}");
            return Err(Refusal { code: DeclineCode::FewHospitals, reason });
        }
        let Some((accountant, asked)) = asked else { return Ok(()) };
        let spent = |since: u64| {
            let before = paid.iter().filter(|paid| paid.at_ms >= since).map(|paid| paid.phase);
            let history: History = before.chain([asked]).collect();
            accountant.epsilon(&history, self.delta)
        };
        let check = |found: Result<Epsilon, DpError>, most: Epsilon, what: &str| match found {
            Ok(found) if found <= most => Ok(()),
            Ok(found) => Err(Refusal {
                code: DeclineCode::Budget,
                reason: format!("ε {what} would be {:.4}, the policy allows {}", found.get(), most.get()),
            }),
            Err(error) => Err(Refusal { code: DeclineCode::Budget, reason: error.to_string() }),
        };
        if let Some(most) = self.max_epsilon_total {
            check(spent(0), most, "over all runs")?;
        }
        if let Some(Period { ms, most }) = self.period {
            let days = ms / DAY_MS;
            check(spent(now_ms.saturating_sub(ms)), most, &format!("within {days} days"))?;
        }
        Ok(())
    }

    /// Whether ε is limited over all runs, or in a period.
    pub fn limits_epsilon(&self) -> bool {
        self.max_epsilon_total.is_some() || self.period.is_some()
    }

    /// What the policy releases.
    pub fn release(&self) -> Release {
        self.release
    }
}

impl Release {
    /// What leaves of what a site says about its training.
    pub fn of_report(self, report: &LocalReport) -> LocalReport {
        let keep = |value: Option<f64>, released: bool| value.filter(|_| released);
        let count = |value: Option<u64>| value.filter(|_| self.counts);
        LocalReport {
            steps: report.steps,
            train_loss: keep(report.train_loss, self.losses),
            images: count(report.images),
            units: count(report.units),
            clipped_fraction: keep(report.clipped_fraction, self.norms),
            non_finite_units: count(report.non_finite_units),
            privacy: report.privacy,
            can_continue: report.can_continue,
        }
    }

    /// What leaves of what a site announces.
    pub fn of_announcement(self, announcement: &Announcement) -> Announcement {
        let counts = announcement.counts.filter(|_| self.counts);
        let validates = announcement.validates && self.metrics;
        Announcement { counts, validates, ..announcement.clone() }
    }
}
