//! What a model file says about its model.

use std::collections::{BTreeMap, HashMap};

use medfed_types::{Delta, Epsilon, ImageShape, RoundId, RunId};
use serde::de::DeserializeOwned;

use super::CheckpointError;
use crate::{Architecture, ModelSpec};

/// Version of the metadata's meaning.
const VERSION: &str = "1";

/// How pixel values in `[0, 1]` become the network's input: `(value - mean) / std`, per channel.
#[derive(Debug, Clone, PartialEq)]
pub struct Normalization {
    /// One mean per channel.
    pub mean: Vec<f32>,
    /// One standard deviation per channel, above 0.
    pub std: Vec<f32>,
}

/// The privacy that a model's training data have.
#[derive(Debug, Clone, PartialEq)]
pub struct PrivacyStatement {
    /// The largest ε of any hospital.
    pub epsilon: Epsilon,
    /// The δ of that ε.
    pub delta: Delta,
    /// The accountant that computed it, `pld` or `rdp`.
    pub accountant: String,
    /// What is protected: `image` or `patient`.
    pub unit: String,
    /// Whether noise and samples followed from a seed: then ε holds only for whoever does not know it.
    pub reproducible_noise: bool,
}

/// Everything needed to use a model file, and where it comes from.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckpointMetadata {
    /// The network.
    pub model: ModelSpec,
    /// Names of the classes, in the order of the logits.
    pub classes: Vec<String>,
    /// How the input was normalised in training.
    pub normalization: Normalization,
    /// `None`: trained without privacy.
    pub privacy: Option<PrivacyStatement>,
    /// The run that made it.
    pub run: Option<RunId>,
    /// The last round that went into it.
    pub round: Option<RoundId>,
}

impl CheckpointMetadata {
    /// The file's `__metadata__`.
    pub(super) fn to_strings(&self) -> Result<BTreeMap<&'static str, String>, CheckpointError> {
        self.check()?;
        let model = &self.model;
        let shape = model.input;
        let mut out = BTreeMap::from([
            // Other readers of safetensors take this to mean PyTorch's layout of dimensions.
            ("format", "pt".to_owned()),
            ("medfed_version", VERSION.to_owned()),
            ("architecture", model.architecture.to_string()),
            ("input_shape", json(&[shape.channels, shape.height, shape.width])),
            ("classes", json(&self.classes)),
            ("normalization_mean", json(&self.normalization.mean)),
            ("normalization_std", json(&self.normalization.std)),
            ("dropout", model.dropout.to_string()),
        ]);
        if let Some(channels) = &model.channels {
            out.insert("channels", json(channels));
        }
        match &self.privacy {
            None => {
                out.insert("privacy", "none".to_owned());
            }
            Some(privacy) => {
                out.insert("privacy", "differential".to_owned());
                out.insert("epsilon", privacy.epsilon.to_string());
                out.insert("delta", privacy.delta.to_string());
                out.insert("accountant", privacy.accountant.clone());
                out.insert("privacy_unit", privacy.unit.clone());
                out.insert("reproducible_noise", privacy.reproducible_noise.to_string());
            }
        }
        if let Some(run) = &self.run {
            out.insert("run_id", run.to_string());
        }
        if let Some(round) = self.round {
            out.insert("round", round.to_string());
        }
        Ok(out)
    }

    /// Reads a file's `__metadata__`. Keys that are not known are left to others.
    pub(super) fn from_strings(strings: &HashMap<String, String>) -> Result<Self, CheckpointError> {
        let keys = Keys(strings);
        let version = keys.needed("medfed_version")?;
        if version != VERSION {
            return Err(invalid("medfed_version", version, "version 1: a newer medfed wrote the file"));
        }
        let architecture = keys.needed("architecture")?;
        let architecture: Architecture = architecture
            .parse()
            .map_err(|_| invalid("architecture", architecture, "simple_cnn, resnet18 or densenet121"))?;
        let [channels, height, width] =
            keys.json::<[usize; 3]>("input_shape", "[channels, height, width]")?;
        let classes: Vec<String> = keys.json("classes", "a list of names")?;
        let privacy = match keys.needed("privacy")? {
            "none" => None,
            "differential" => Some(PrivacyStatement {
                epsilon: keys.number("epsilon", "a number, 0 or more", Epsilon::new)?,
                delta: keys.number("delta", "a number above 0 and below 1", Delta::new)?,
                accountant: keys.needed("accountant")?.to_owned(),
                unit: keys.needed("privacy_unit")?.to_owned(),
                reproducible_noise: match keys.needed("reproducible_noise")? {
                    "true" => true,
                    "false" => false,
                    other => return Err(invalid("reproducible_noise", other, "true or false")),
                },
            }),
            other => return Err(invalid("privacy", other, "none or differential")),
        };
        let dropout = keys.needed("dropout")?;
        let metadata = Self {
            model: ModelSpec {
                architecture,
                input: ImageShape { channels, height, width },
                classes: classes.len(),
                dropout: dropout.parse().map_err(|_| invalid("dropout", dropout, "a number"))?,
                channels: match keys.optional("channels") {
                    Some(_) => Some(keys.json("channels", "a list of block widths")?),
                    None => None,
                },
            },
            classes,
            normalization: Normalization {
                mean: keys.json("normalization_mean", "a number per channel")?,
                std: keys.json("normalization_std", "a number per channel")?,
            },
            privacy,
            run: match keys.optional("run_id") {
                Some(id) => {
                    Some(RunId::try_from(id).map_err(|_| invalid("run_id", id, "the name of a run"))?)
                }
                None => None,
            },
            round: match keys.optional("round") {
                Some(n) => Some(RoundId(n.parse().map_err(|_| invalid("round", n, "a whole number"))?)),
                None => None,
            },
        };
        metadata.check()?;
        Ok(metadata)
    }

    /// What the types do not promise. The network's own settings are checked when it is built.
    fn check(&self) -> Result<(), CheckpointError> {
        let Normalization { mean, std } = &self.normalization;
        let channels = self.model.input.channels;
        if mean.len() != channels || !mean.iter().all(|v| v.is_finite()) {
            return Err(invalid("normalization_mean", &json(mean), "a finite number per channel"));
        }
        if std.len() != channels || !std.iter().all(|v| v.is_finite() && *v > 0.0) {
            return Err(invalid("normalization_std", &json(std), "a number above 0 per channel"));
        }
        if self.classes.is_empty() || self.classes.len() != self.model.classes {
            return Err(invalid("classes", &json(&self.classes), "a name for every output"));
        }
        Ok(())
    }
}

struct Keys<'a>(&'a HashMap<String, String>);

impl<'a> Keys<'a> {
    fn optional(&self, key: &str) -> Option<&'a str> {
        self.0.get(key).map(String::as_str)
    }

    fn needed(&self, key: &'static str) -> Result<&'a str, CheckpointError> {
        self.optional(key).ok_or(CheckpointError::MetadataMissing { key })
    }

    fn json<T: DeserializeOwned>(
        &self,
        key: &'static str,
        expected: &'static str,
    ) -> Result<T, CheckpointError> {
        let text = self.needed(key)?;
        serde_json::from_str(text).map_err(|_| invalid(key, text, expected))
    }

    fn number<T, E>(
        &self,
        key: &'static str,
        expected: &'static str,
        checked: impl FnOnce(f64) -> Result<T, E>,
    ) -> Result<T, CheckpointError> {
        let text = self.needed(key)?;
        text.parse().ok().and_then(|n| checked(n).ok()).ok_or_else(|| invalid(key, text, expected))
    }
}

fn invalid(key: &'static str, found: &str, expected: &'static str) -> CheckpointError {
    // A hostile file may hold megabytes here.
    CheckpointError::MetadataValue { key, found: found.chars().take(80).collect(), expected }
}

fn json<T: serde::Serialize + ?Sized>(value: &T) -> String {
    serde_json::to_string(value).expect("lists of numbers and strings are always JSON")
}
