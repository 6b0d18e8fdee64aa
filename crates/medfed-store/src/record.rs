//! What is stored about runs, rounds and events.

use medfed_types::{RoundId, RunId, Seed, SiteId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Milliseconds since 1970-01-01 00:00 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The time by the system's clock.
    pub fn now() -> Self {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Self(since.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX)))
    }
}

/// RFC 3339 to the second: `2026-03-01T09:05:07Z`.
impl std::fmt::Display for Timestamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seconds = self.0.div_euclid(1000);
        let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        // Days since 0000-03-01, so that a leap day is the last of its year; 146 097 days are 400 years.
        let days = days + 719_468;
        let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
        let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let month = (5 * day + 2) / 153;
        let (day, month) = (day - (153 * month + 2) / 5 + 1, (month + 2) % 12 + 1);
        let year = year + 400 * era + i64::from(month <= 2);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

/// How a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// A process is at work on it.
    Running,
    /// Stopped before its end; it can be resumed.
    Interrupted,
    /// Did what it was asked.
    Completed,
    /// Ended by an error.
    Failed,
    /// Ended because no further step fits the privacy budget.
    BudgetExhausted,
}

impl RunStatus {
    pub(crate) const ALL: [Self; 5] =
        [Self::Running, Self::Interrupted, Self::Completed, Self::Failed, Self::BudgetExhausted];

    /// The word that is stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Interrupted => "interrupted",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::BudgetExhausted => "budget_exhausted",
        }
    }

    /// Whether the run can go on.
    pub fn is_resumable(self) -> bool {
        matches!(self, Self::Running | Self::Interrupted)
    }
}

impl std::fmt::Display for RunStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// A run at its start.
#[derive(Debug, Clone, PartialEq)]
pub struct RunRecord {
    /// Its id.
    pub id: RunId,
    /// The experiment's name.
    pub name: String,
    /// When it started.
    pub created: Timestamp,
    /// Its whole configuration.
    pub config: Value,
    /// The seed of its simulation.
    pub seed: Seed,
}

/// A run as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Run {
    /// Its id.
    pub id: RunId,
    /// The experiment's name.
    pub name: String,
    /// When it started.
    pub created: Timestamp,
    /// When it ended.
    pub finished: Option<Timestamp>,
    /// How it stands.
    pub status: RunStatus,
    /// The seed of its simulation.
    pub seed: Seed,
    /// Rounds stored.
    pub rounds: u32,
    /// Its whole configuration.
    pub config: Value,
    /// Its summary, once it has ended.
    pub summary: Option<Value>,
}

/// A stored round.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Round {
    /// The round.
    pub round: RoundId,
    /// Its report.
    pub report: Value,
}

/// What one site did in a round.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SiteRound {
    /// The round.
    pub round: RoundId,
    /// The site.
    pub site: SiteId,
    /// Its report.
    pub report: Value,
}

/// Something that happened in a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Event {
    /// When.
    pub time: Timestamp,
    /// In which round, if in one.
    pub round: Option<RoundId>,
    /// What kind of event.
    pub kind: String,
    /// Its particulars.
    pub detail: Value,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_in_utc() {
        for (milliseconds, shown) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399_999, "2000-02-28T23:59:59Z"),
            (951_782_400_000, "2000-02-29T00:00:00Z"),
            (1_772_355_907_123, "2026-03-01T09:05:07Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
        ] {
            assert_eq!(Timestamp(milliseconds).to_string(), shown);
        }
    }

    #[test]
    fn a_status_is_stored_as_its_serde_name() {
        for status in RunStatus::ALL {
            assert_eq!(serde_json::to_value(status).unwrap(), status.as_str());
        }
    }
}
