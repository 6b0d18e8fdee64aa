//! What is compared: rules, attacks, and the settings in which they meet.

use super::Shape;
use crate::command::config::{invalid, overrides};
use crate::command::set_path;
use crate::failure::Failure;
use medfed_config::section::SimulatedAttack;
use medfed_config::{Config, Override};
use std::path::Path;

/// Hospitals that attack.
pub(super) const ATTACKERS: u32 = 2;
/// Channels of the network: small, so that the whole comparison takes less than an hour on two cores.
pub(super) const CHANNELS: [u32; 3] = [8, 16, 32];

/// A rule as it is configured, and what it claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rule {
    /// Its row.
    pub(super) name: &'static str,
    /// Hospitals of the federation: as many as the rule needs to withstand [`ATTACKERS`], at least 10.
    pub(super) hospitals: u32,
    /// Keys of `robust_aggregation`.
    keys: &'static [&'static str],
    claims: Claims,
}

/// The attacks under which a rule says that the model stays good, if its preconditions hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Claims {
    /// Only those that the coordinator refuses at the door.
    Door,
    /// Also those that leave the spread of the honest updates.
    Outliers,
    /// Also those in which attackers send alike updates.
    Sybils,
    /// All that this number of attackers can do.
    All,
}

const fn rule(name: &'static str, hospitals: u32, claims: Claims, keys: &'static [&'static str]) -> Rule {
    Rule { name, hospitals, keys, claims }
}

/// Every row, top to bottom.
pub(super) const RULES: [Rule; 13] = [
    rule("fedavg", 10, Claims::Door, &["method=fedavg"]),
    rule("fedavg+exclude", 10, Claims::Outliers, &["method=fedavg", "on_detection=exclude"]),
    rule("median", 10, Claims::All, &["method=median"]),
    rule("trimmed_mean", 10, Claims::All, &["method=trimmed_mean", "trim_ratio=0.2"]),
    rule("krum", 10, Claims::All, &["method=krum"]),
    rule("multi_krum", 10, Claims::All, &["method=multi_krum", "multi_krum_k=8"]),
    rule("foolsgold", 10, Claims::Sybils, &["method=foolsgold"]),
    rule("geometric_median", 10, Claims::All, &["method=geometric_median"]),
    rule("centered_clipping", 10, Claims::All, &["method=centered_clipping"]),
    rule("nnm+median", 10, Claims::All, &["method=median", "pre=nnm"]),
    rule("nnm+trimmed_mean", 10, Claims::All, &["method=trimmed_mean", "trim_ratio=0.2", "pre=nnm"]),
    rule("fedavg-11", 11, Claims::Door, &["method=fedavg"]),
    rule("bulyan-11", 11, Claims::All, &["method=bulyan"]),
];

/// Every column, left to right: first without an attack.
pub(super) fn attacks() -> Vec<SimulatedAttack> {
    std::iter::once(SimulatedAttack::None).chain(SimulatedAttack::ALL).collect()
}

impl Rule {
    /// Whether the rule says that the model stays good under the attack.
    pub(super) fn claims(self, attack: SimulatedAttack) -> bool {
        use SimulatedAttack as A;
        let at_the_door = matches!(attack, A::Nan | A::InflatedCount);
        match self.claims {
            _ if attack == A::None => false,
            Claims::Door => at_the_door,
            Claims::Outliers => {
                at_the_door
                    || matches!(attack, A::SignFlip | A::Scaling | A::Gaussian | A::Ipm | A::FreeRider)
            }
            Claims::Sybils => {
                at_the_door || matches!(attack, A::LabelFlip | A::Backdoor | A::Sybil | A::Alie | A::Ipm)
            }
            Claims::All => true,
        }
    }
}

/// How the hospitals' images are divided, and whether they train with privacy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Setting {
    /// Whether a Dirichlet draw divides the classes.
    pub(super) skewed: bool,
    /// Whether there is differential privacy.
    pub(super) private: bool,
}

/// All settings, in the order of the document.
pub(super) const SETTINGS: [Setting; 4] = [
    Setting { skewed: false, private: false },
    Setting { skewed: false, private: true },
    Setting { skewed: true, private: false },
    Setting { skewed: true, private: true },
];

impl Setting {
    /// The name in results and file names.
    pub(super) fn name(self) -> &'static str {
        match (self.skewed, self.private) {
            (false, false) => "iid",
            (false, true) => "iid-private",
            (true, false) => "dirichlet",
            (true, true) => "dirichlet-private",
        }
    }

    /// Images of a batch and learning rate, chosen without an attack. Noise asks for large batches, and
    /// clipped gradients for a large rate.
    pub(super) fn training(self) -> (u32, f64) {
        if self.private { (64, 0.5) } else { (32, 0.1) }
    }

    /// The heading in the document.
    pub(super) fn title(self) -> &'static str {
        match (self.skewed, self.private) {
            (false, false) => "Alike hospitals, no privacy",
            (false, true) => "Alike hospitals, differential privacy",
            (true, false) => "Different hospitals (Dirichlet 0.5), no privacy",
            (true, true) => "Different hospitals (Dirichlet 0.5), differential privacy",
        }
    }
}

/// One run of the comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cell {
    pub(super) setting: Setting,
    pub(super) rule: Rule,
    pub(super) attack: SimulatedAttack,
    pub(super) seed: u64,
}

impl Cell {
    /// The keys of the run, as `medfed simulate --set` takes them.
    pub(super) fn keys(&self, shape: Shape) -> Vec<String> {
        let Setting { skewed, private } = self.setting;
        let (batch_size, learning_rate) = self.setting.training();
        let mut keys = vec![
            format!("experiment.seed={}", self.seed),
            format!("federated.num_clients={}", self.rule.hospitals),
            format!("federated.num_rounds={}", shape.rounds),
            format!("model.channels={CHANNELS:?}"),
            format!("training.batch_size={batch_size}"),
            "training.local_epochs=1".to_owned(),
            format!("training.learning_rate={learning_rate}"),
            "training.scheduler=cosine".to_owned(),
            format!("privacy.enabled={private}"),
            format!("data.non_iid.enabled={skewed}"),
            "robust_aggregation.enabled=true".to_owned(),
            "robust_aggregation.enable_detection=true".to_owned(),
            format!("robust_aggregation.num_byzantine={ATTACKERS}"),
        ];
        keys.extend(self.rule.keys.iter().map(|key| format!("robust_aggregation.{key}")));
        if self.attack != SimulatedAttack::None {
            keys.push(format!("simulation.attack={}", self.attack));
            keys.push(format!("simulation.attackers={ATTACKERS}"));
        }
        keys
    }

    /// The configuration of the run.
    pub(super) fn config(&self, data: &Path, shape: Shape) -> Result<Config, Failure> {
        let mut changes = overrides(&self.keys(shape))?;
        changes.push(Override::text("data.dataset", "files").map_err(Failure::internal)?);
        changes.push(set_path("data.data_dir", data)?);
        Config::from_yaml("{}", "the benchmark", &changes).map_err(invalid)
    }

    /// The command that repeats the run and shows all of it.
    pub(super) fn command(&self, shape: Shape) -> String {
        let set = |key: &String| {
            if key.contains([' ', '[']) { format!(" --set '{key}'") } else { format!(" --set {key}") }
        };
        let keys: String = self.keys(shape).iter().map(set).collect();
        format!("medfed simulate --config defaults.yaml --data pneumoniamnist.npz{keys}")
    }
}
