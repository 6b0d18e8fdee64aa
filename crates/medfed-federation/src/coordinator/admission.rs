//! The door: what a hospital sent becomes an update, or the hospital is left out by name.

use super::Member;
use crate::report::SecurityReport;
use crate::site::RawUpdate;
use medfed_aggregate::anomaly::{AnnouncedNoise, AnnouncedTraining, Expected, Finding, Statistic};
use medfed_aggregate::{AggregateError, SiteUpdate};
use medfed_types::{NoiseMultiplier, RoundId};

/// The update of `member`, if it is for `round`, has a finite value for each of `parameters` parameters
/// and claims the number of images that the hospital enrolled with. Otherwise the report says what is
/// wrong with it.
pub(super) fn admit(
    member: &Member,
    raw: RawUpdate,
    round: RoundId,
    parameters: usize,
    security: &mut SecurityReport,
) -> Option<SiteUpdate> {
    let site = member.site.clone();
    let enrolled = member.train_images as f64;
    let (claimed, found) = (raw.weight, raw.delta.len());
    let error = if raw.round != round {
        AggregateError::Round { site, expected: round, found: raw.round }
    } else if found != parameters {
        AggregateError::Length { site, expected: parameters, found }
    } else {
        match SiteUpdate::new(site.clone(), round, raw.delta, claimed) {
            Ok(update) if claimed == enrolled => return Some(update),
            Ok(_) => {
                let finding = Finding {
                    site: site.clone(),
                    statistic: Statistic::SampleCount,
                    value: claimed,
                    threshold: enrolled,
                    power: None,
                };
                let reason = format!("it claims {claimed} images and enrolled with {enrolled}");
                security.exclude(site, reason);
                security.find([finding]);
                return None;
            }
            Err(error) => error,
        }
    };
    security.exclude(member.site.clone(), error.to_string());
    security.find(Finding::of_refusal(&error));
    None
}

/// What an honest update of `member` looks like in `round`, when its steps carry `noise`.
pub(super) fn expected(member: &Member, round: RoundId, noise: Option<NoiseMultiplier>) -> Expected {
    let training = &member.training;
    let first = u64::from(round.0 - 1) * training.steps;
    let rates: Vec<f64> =
        (first..first + training.steps).map(|step| training.learning_rate.at(step)).collect();
    let noise = training.plan.as_ref().map(|plan| {
        let terms = plan.terms();
        let multiplier = noise.unwrap_or(terms.noise).get();
        AnnouncedNoise {
            deviation: multiplier * terms.clip.get() / terms.expected_batch_size.get(),
            clip: terms.clip.get(),
            parameters: training.parameters,
        }
    });
    Expected::of(&AnnouncedTraining {
        rates: &rates,
        earlier_steps: first,
        momentum: training.momentum,
        weight_decay: training.weight_decay,
        noise,
        samples: Some(member.train_images as f64),
    })
}
