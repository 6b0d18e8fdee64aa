//! Sums of updates without a look at any single one.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Sums of updates without a look at any single one.
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own in the file")]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SecureAggregation {
    /// Adds up masked updates, so that the coordinator sees nothing but their sum.
    pub enabled: bool,
    /// Hospitals whose updates a sum has to contain at the least.
    #[schemars(range(min = 2, max = 1000))]
    pub min_clients: u32,
    /// Hospitals that have to work together to remove the masks. Without this key two thirds of
    /// `federated.num_clients`, rounded down, plus 1.
    #[schemars(range(min = 2, max = 1000))]
    pub threshold: Option<u32>,
    /// Hides every update behind pairwise masks.
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
            min_clients: 3,
            threshold: None,
            use_masking: true,
            simulate_encryption: true,
            audit_enabled: true,
        }
    }
}
