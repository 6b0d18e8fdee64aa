//! Sums of updates without a look at any single one.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{PreAggregation, RobustMethod, Sections};

/// The fewest hospitals among which inner products can be computed on shares.
const LEAST_FOR_SELECTION: u32 = 4;
/// The fewest updates whose sum is opened after a selection.
const LEAST_SELECTED: u32 = 3;

/// Sums of updates without a look at any single one.
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own in the file")]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SecureAggregation {
    /// Adds up masked updates, so that the coordinator sees nothing but their sum.
    pub enabled: bool,
    /// What is opened: one sum of all, the distances between updates and then the sum of those that the
    /// rule selects, or the sums of random groups, which robust rules can compare. `auto` takes what the
    /// rule of `robust_aggregation` allows.
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
    /// Largest L2 norm of an update in the mode `selection`; a hospital whose update is longer withholds it.
    /// Without this key it follows from the privacy plan, and is 64 without privacy.
    #[schemars(range(max = 1.0e6), extend("exclusiveMinimum" = 0))]
    pub norm_bound: Option<f64>,
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
            norm_bound: None,
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
    /// What the rule allows: `sum` where it only adds up, `selection` for `multi_krum` and `foolsgold`
    /// where there are hospitals enough, `groups` otherwise.
    Auto,
    /// One sum over all hospitals.
    Sum,
    /// The inner products between updates, then the sum of those that the rule selects.
    Selection,
    /// The sum of each of several random groups; the rule compares groups.
    Groups,
}

impl SecureMode {
    /// The name as the configuration writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Sum => "sum",
            Self::Selection => "selection",
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
        let adds_up = match robust.method {
            _ if !robust.enabled => true,
            _ if robust.pre != PreAggregation::None => false,
            RobustMethod::Fedavg => true,
            // What the user wrote in decimal counts: 0.29 · 100 is 28.999…96.
            RobustMethod::TrimmedMean => robust.trim_ratio * f64::from(hospitals) + 1e-9 < 1.0,
            _ => false,
        };
        let selects =
            robust.enabled && matches!(robust.method, RobustMethod::MultiKrum | RobustMethod::Foolsgold);
        match secure_aggregation.mode {
            SecureMode::Auto | SecureMode::Sum if adds_up => return Ok(SecureMode::Sum),
            SecureMode::Sum => {
                let other = if selects { "`mode: selection`" } else { "`mode: groups`" };
                return Err(format!(
                    "{rule} does not work on one sum of {hospitals} hospitals; take {other}, the \
                     method fedavg, a trimmed_mean that trims nobody, or `use_masking: false`"
                ));
            }
            SecureMode::Selection => return self.selection().map(|()| SecureMode::Selection),
            SecureMode::Auto if selects => match self.selection() {
                Ok(()) => return Ok(SecureMode::Selection),
                // Groups may do for multi_krum; foolsgold has no other way.
                Err(problem) if robust.method == RobustMethod::Foolsgold => return Err(problem),
                Err(_) => {}
            },
            SecureMode::Groups if robust.enabled && robust.method == RobustMethod::Foolsgold => {
                return Err(
                    "foolsgold compares the updates of single hospitals, which the sums of groups hide; \
                            take `mode: selection`, another `robust_aggregation.method`, or \
                            `use_masking: false`"
                        .to_owned(),
                );
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
            let selection = match (secure_aggregation.mode, selects, self.selection()) {
                // Where selection would do, or nearly.
                (_, true, Err(problem)) => format!(" (and for `mode: selection`, {problem})"),
                (SecureMode::Groups, true, Ok(())) => ", `mode: selection`".to_owned(),
                _ => String::new(),
            };
            return Err(format!(
                "{rule} compares the sums of {needed} groups of {least} hospitals or more, which takes \
                 {} hospitals, and there are {hospitals}{selection}; take the method fedavg, or \
                 `use_masking: false`",
                needed * least
            ));
        }
        Ok(SecureMode::Groups)
    }

    /// Whether the configured rule can select updates by their distances. The error says why not, and what
    /// to choose.
    fn selection(&self) -> Result<(), String> {
        let Self { robust_aggregation: robust, federated, .. } = self;
        let (hospitals, rule) = (federated.num_clients, robust.method.as_str());
        if hospitals < LEAST_FOR_SELECTION {
            return Err(format!(
                "distances are computed among {LEAST_FOR_SELECTION} hospitals or more, and there are \
                 {hospitals}; take the method fedavg with `mode: sum`, or `use_masking: false`"
            ));
        }
        if robust.enabled && robust.pre != PreAggregation::None {
            return Err("mixing neighbours (`robust_aggregation.pre: nnm`) makes other sums of the updates \
                        than the one that is opened; take `pre: none`, `mode: groups`, or \
                        `use_masking: false`"
                .to_owned());
        }
        match robust.method {
            RobustMethod::MultiKrum if robust.enabled => {
                let (bad, selected) = (robust.num_byzantine, robust.multi_krum_k);
                let least = LEAST_SELECTED.max(self.secure_aggregation.min_clients);
                if selected < least {
                    return Err(format!(
                        "multi_krum would open the sum of {selected} updates, and a sum of fewer than {least} \
                         is not opened (3, and `secure_aggregation.min_clients`); set \
                         `robust_aggregation.multi_krum_k` to {least} or more, take `mode: groups`, or \
                         `use_masking: false`"
                    ));
                }
                let needed = (2 * bad + 3).max(bad + selected);
                if hospitals < needed {
                    return Err(format!(
                        "multi_krum with `num_byzantine: {bad}` and `multi_krum_k: {selected}` needs {needed} \
                         hospitals, and there are {hospitals}; lower one of the two, take another \
                         `robust_aggregation.method`, or `use_masking: false`"
                    ));
                }
                Ok(())
            }
            RobustMethod::Foolsgold if robust.enabled => Ok(()),
            RobustMethod::Fedavg if robust.enabled && robust.enable_detection => Ok(()),
            RobustMethod::Krum if robust.enabled => Err("the result of krum is a single hospital's update, \
                                                         which masks hide; take multi_krum with \
                                                         `multi_krum_k: 3` or more, `mode: groups`, or \
                                                         `use_masking: false`"
                .to_owned()),
            RobustMethod::Fedavg => {
                Err("without a rule that selects or a search for updates that are out of line \
                                         (`robust_aggregation.enable_detection`) everyone is selected, and \
                                         distances would be shown for nothing; take `mode: sum`"
                    .to_owned())
            }
            _ if !robust.enabled => {
                Err("`robust_aggregation` is off, so everyone is selected, and distances would \
                                         be shown for nothing; take `mode: sum`"
                    .to_owned())
            }
            _ => Err(format!(
                "{rule} needs the values of updates and not only their distances; take multi_krum, \
                 foolsgold, `mode: groups`, or `use_masking: false`"
            )),
        }
    }
}
