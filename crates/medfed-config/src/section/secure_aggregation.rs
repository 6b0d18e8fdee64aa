//! Sums of updates without a look at any single one.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{PreAggregation, RobustMethod, Sections};

/// Sums of updates without a look at any single one.
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own in the file")]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SecureAggregation {
    /// Adds up masked updates, so that the coordinator sees nothing but their sum.
    pub enabled: bool,
    /// What is opened: one sum of all, or the sums of random groups, which robust rules can compare.
    /// `auto` takes what the rule of `robust_aggregation` allows.
    pub mode: SecureMode,
    /// Hospitals whose updates a sum has to contain at the least. 2 is accepted with privacy only: each of
    /// two can derive the other's noised update.
    #[schemars(range(min = 2, max = 1000))]
    pub min_clients: u32,
    /// Hospitals that have to work together to remove the masks. Without this key two thirds of
    /// `federated.num_clients`, rounded down, plus 1.
    #[schemars(range(min = 2, max = 1000))]
    pub threshold: Option<u32>,
    /// Largest absolute value in an update; a hospital whose update has a larger one withholds it. Without
    /// this key it follows from the privacy plan, and is 4 without privacy.
    #[schemars(range(max = 1.0e6), extend("exclusiveMinimum" = 0))]
    pub clip_range: Option<f64>,
    /// Hides every update behind pairwise masks. Without masks the coordinator sees every update.
    pub use_masking: bool,
    /// Seals the shares of every hospital for their receivers. The name is that of the original
    /// project; the encryption is real.
    pub simulate_encryption: bool,
    /// Writes the audit log of the run, also without masking.
    pub audit_enabled: bool,
}

impl Default for SecureAggregation {
    fn default() -> Self {
        Self {
            enabled: false,
            mode: SecureMode::Auto,
            min_clients: 3,
            threshold: None,
            clip_range: None,
            use_masking: true,
            simulate_encryption: true,
            audit_enabled: true,
        }
    }
}

/// What secure aggregation opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SecureMode {
    /// What the rule allows: `sum` where it only adds up, `groups` otherwise.
    Auto,
    /// One sum over all hospitals.
    Sum,
    /// The sum of each of several random groups; the rule compares groups.
    Groups,
}

impl SecureMode {
    /// The name as the configuration writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Sum => "sum",
            Self::Groups => "groups",
        }
    }
}

impl SecureAggregation {
    /// Whether updates are masked.
    pub fn masks(&self) -> bool {
        self.enabled && self.use_masking
    }
}

impl Sections {
    /// Hospitals in a group at the least: 2 where each adds noise of its own, 3 otherwise.
    pub fn least_group(&self) -> u32 {
        if self.privacy.enabled { 2 } else { 3 }
    }

    /// The mode in which the configured rule works on masked updates, never [`SecureMode::Auto`]. The
    /// error says why there is none, and what to choose.
    pub fn secure_mode(&self) -> Result<SecureMode, String> {
        let Self { secure_aggregation, robust_aggregation: robust, federated, .. } = self;
        let (hospitals, rule) = (federated.num_clients, robust.method.as_str());
        if robust.enabled && robust.method == RobustMethod::Foolsgold {
            return Err(
                "foolsgold compares the updates of single hospitals, which masks hide; take another \
                        `robust_aggregation.method`, or `use_masking: false`"
                    .to_owned(),
            );
        }
        let adds_up = match robust.method {
            _ if !robust.enabled => true,
            _ if robust.pre != PreAggregation::None => false,
            RobustMethod::Fedavg => true,
            // What the user wrote in decimal counts: 0.29 · 100 is 28.999…96.
            RobustMethod::TrimmedMean => robust.trim_ratio * f64::from(hospitals) + 1e-9 < 1.0,
            _ => false,
        };
        match secure_aggregation.mode {
            SecureMode::Auto | SecureMode::Sum if adds_up => return Ok(SecureMode::Sum),
            SecureMode::Sum => {
                return Err(format!(
                    "{rule} does not work on one sum of {hospitals} hospitals; take `mode: groups`, the \
                     method fedavg, a trimmed_mean that trims nobody, or `use_masking: false`"
                ));
            }
            SecureMode::Auto | SecureMode::Groups => {}
        }
        let bad = robust.num_byzantine;
        let needed = match robust.method {
            _ if adds_up => 2,
            RobustMethod::Krum => 2 * bad + 3,
            RobustMethod::MultiKrum => (2 * bad + 3).max(bad + robust.multi_krum_k),
            RobustMethod::Bulyan => 4 * bad + 3,
            _ => 3,
        };
        let least = self.least_group();
        let needed =
            needed.max(if robust.enabled && robust.pre != PreAggregation::None { bad + 1 } else { 0 });
        if hospitals / least < needed {
            return Err(format!(
                "{rule} compares the sums of {needed} groups of {least} hospitals or more, which takes \
                 {} hospitals, and there are {hospitals}; take the method fedavg, or `use_masking: false`",
                needed * least
            ));
        }
        Ok(SecureMode::Groups)
    }
}
