//! The policy's file: YAML, every key known, every mistake with its line.

use super::{DAY_MS, Period, Policy, Release};
use medfed_config::section::{ModelName, RobustMethod};
use medfed_types::{Delta, Epsilon};
use serde::{Deserialize, Serialize};

/// Bytes of the largest file that is read as a policy.
const MOST_BYTES: usize = 64 * 1024;

/// A policy that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// The file is too large to be a policy.
    #[error("{origin} has {found} bytes, a policy has {most} at the most")]
    TooLarge {
        /// The file.
        origin: String,
        /// Bytes found.
        found: usize,
        /// Bytes taken.
        most: usize,
    },
    /// A key or a value that is not accepted.
    #[error("{origin}:{line}:{column}: {problem}")]
    Content {
        /// The file.
        origin: String,
        /// Counted from 1; 0 where the problem has no place.
        line: u64,
        /// Counted from 1; 0 where the problem has no place.
        column: u64,
        /// What is wrong.
        problem: String,
    },
    /// Values that do not go together.
    #[error("{origin}: {problem}")]
    Conflict {
        /// The file.
        origin: String,
        /// What does not go together.
        problem: String,
    },
}

/// The file. Without a key its default holds.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct File {
    require_privacy: bool,
    unit: Unit,
    delta: Delta,
    max_epsilon_per_run: Option<Epsilon>,
    max_epsilon_total: Option<Epsilon>,
    max_epsilon_per_period: Option<Epsilon>,
    period_days: Option<u32>,
    min_hospitals: u32,
    models: Option<Vec<ModelName>>,
    rules: Option<Vec<RobustMethod>>,
    protections: Option<Vec<Protection>>,
    coordinators: Option<Vec<Fingerprint>>,
    release: Release,
    dry_run: bool,
}

impl Default for File {
    fn default() -> Self {
        Self {
            require_privacy: true,
            unit: Unit::Image,
            delta: Delta::new(1e-5).expect("1e-5 is a probability"),
            max_epsilon_per_run: None,
            max_epsilon_total: None,
            max_epsilon_per_period: None,
            period_days: None,
            min_hospitals: 3,
            models: None,
            rules: None,
            protections: None,
            coordinators: None,
            release: Release::default(),
            dry_run: false,
        }
    }
}

/// Whom ε has to protect at the least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Unit {
    /// Single images, or patients.
    Image,
    /// All images of a patient together.
    Patient,
}

/// How updates leave a hospital.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Protection {
    /// As they are.
    Open,
    /// In one masked sum.
    Sum,
    /// In masked sums of groups.
    Groups,
    /// In a masked sum of those that are selected by opened inner products.
    Selection,
}

impl Protection {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Sum => "sum",
            Self::Groups => "groups",
            Self::Selection => "selection",
        }
    }
}

/// SHA-256 of a public key, as hexadecimal digits with or without colons.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
struct Fingerprint([u8; 32]);

impl TryFrom<String> for Fingerprint {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b':').collect();
        let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
        let byte = |pair: &[u8; 2]| Some(digit(pair[0])? * 16 + digit(pair[1])?);
        let (pairs, odd) = digits.as_chunks::<2>();
        let bytes: Option<Vec<u8>> = pairs.iter().map(byte).collect();
        let bytes = bytes.filter(|_| odd.is_empty()).and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| {
            "expected a fingerprint: 64 hexadecimal digits, with or without colons between pairs".to_owned()
        })
    }
}

impl Policy {
    /// Reads a policy. `origin` names the file in messages.
    pub fn from_yaml(text: &str, origin: &str) -> Result<Self, PolicyError> {
        let origin = || origin.to_owned();
        if text.len() > MOST_BYTES {
            return Err(PolicyError::TooLarge { origin: origin(), found: text.len(), most: MOST_BYTES });
        }
        let empty = text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'));
        let options = serde_saphyr::options! {
            budget: serde_saphyr::budget! { max_depth: 8, max_nodes: 4_000, max_events: 8_000 },
            strict_booleans: true,
            with_snippet: false,
        };
        let file = if empty {
            File::default()
        } else {
            serde_saphyr::from_str_with_options(text, options).map_err(|error| {
                let place = error.location();
                let text = error.without_snippet().to_string();
                PolicyError::Content {
                    origin: origin(),
                    line: place.as_ref().map_or(0, serde_saphyr::Location::line),
                    column: place.as_ref().map_or(0, serde_saphyr::Location::column),
                    problem: text.split_once(" at line ").map_or(text.clone(), |(head, _)| head.to_owned()),
                }
            })?
        };
        file.check().map_err(|problem| PolicyError::Conflict { origin: origin(), problem })
    }
}

impl File {
    fn check(self) -> Result<Policy, String> {
        let period = match (self.max_epsilon_per_period, self.period_days) {
            (None, None) => None,
            (Some(_), None) => return Err("`max_epsilon_per_period` needs `period_days`".to_owned()),
            (None, Some(_)) => return Err("`period_days` needs `max_epsilon_per_period`".to_owned()),
            (Some(_), Some(0)) => return Err("`period_days`: expected 1 at the least, found 0".to_owned()),
            (Some(most), Some(days)) => Some(Period { ms: u64::from(days) * DAY_MS, most }),
        };
        if self.min_hospitals < 2 {
            let found = self.min_hospitals;
            return Err(format!("`min_hospitals`: expected 2 at the least, found {found}"));
        }
        for (key, list) in [
            ("models", self.models.as_ref().map(Vec::len)),
            ("rules", self.rules.as_ref().map(Vec::len)),
            ("protections", self.protections.as_ref().map(Vec::len)),
            ("coordinators", self.coordinators.as_ref().map(Vec::len)),
        ] {
            if list == Some(0) {
                return Err(format!("`{key}` allows nothing; leave the key out to allow everything"));
            }
        }
        Ok(Policy {
            require_privacy: self.require_privacy,
            unit: self.unit,
            delta: self.delta,
            max_epsilon_per_run: self.max_epsilon_per_run,
            max_epsilon_total: self.max_epsilon_total,
            period,
            min_hospitals: self.min_hospitals,
            models: self.models,
            rules: self.rules,
            protections: self.protections,
            coordinators: self.coordinators.map(|list| list.into_iter().map(|it| it.0).collect()),
            release: self.release,
            dry_run: self.dry_run,
        })
    }
}
