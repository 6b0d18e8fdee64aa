//! What a hospital has paid for, as far as the coordinator can tell. Never less than it paid.
//!
//! A hospital reports the steps of each round and the ε of everything that it has paid for. A round whose
//! reply was lost is missing among the steps and shows in the next ε; until then it counts as paid.

use super::Member;
use crate::error::FederationError;
use crate::report::{RoundReport, SitePrivacy, SiteStatus};
use medfed_dp::{Accountant, DpError, DpPlan, History, Phase};
use medfed_types::{NoiseMultiplier, SamplingRate, SiteId};

/// Two values of ε that differ by less, relatively, are one.
const TOLERANCE: f64 = 1e-9;

/// What is known of one hospital in one round.
#[derive(Debug, Clone, Copy)]
struct Told {
    status: SiteStatus,
    steps: u64,
    privacy: Option<SitePrivacy>,
    /// The noise that was announced to it; nothing where its plan's held.
    announced: Option<NoiseMultiplier>,
}

impl Told {
    fn of(site: &SiteId, report: &RoundReport) -> Option<Self> {
        let hospital = report.hospitals.iter().find(|hospital| hospital.hospital == *site)?;
        let decisions = report.orchestrator.iter().flat_map(|orchestrator| &orchestrator.decisions);
        let decision = decisions.into_iter().find(|decision| decision.hospital == *site);
        Some(Self {
            status: hospital.status,
            steps: hospital.steps,
            privacy: hospital.privacy,
            announced: decision.map(|decision| decision.decision.noise),
        })
    }
}

/// What `member` has paid for under its plan, by the reports of the rounds done.
pub(super) fn paid(
    member: &Member,
    plan: &DpPlan,
    reports: &[RoundReport],
) -> Result<History, FederationError> {
    let told: Vec<Told> = reports.iter().filter_map(|report| Told::of(&member.site, report)).collect();
    Ok(history(plan, member.training.steps, &told)?)
}

fn history(plan: &DpPlan, steps: u64, told: &[Told]) -> Result<History, DpError> {
    let terms = plan.terms();
    let planned = |noise: Option<NoiseMultiplier>| Phase {
        rate: terms.rate,
        noise: noise.map_or(terms.noise, |noise| if noise < terms.noise { terms.noise } else { noise }),
        steps,
    };
    let (mut history, mut phases, mut spent, mut unanswered) = (History::default(), 0, None, Vec::new());
    for Told { status, steps, privacy, announced } in told {
        match (status, privacy) {
            (SiteStatus::Absent, _) => unanswered.push(planned(*announced)),
            (SiteStatus::NotSelected, _) | (_, None) => {}
            (_, Some(SitePrivacy { spent: said, .. })) => {
                history.push(Phase {
                    rate: SamplingRate::new(said.sampling_rate)?,
                    noise: NoiseMultiplier::new(said.noise_multiplier)?,
                    steps: *steps,
                });
                phases += usize::from(*steps > 0);
                spent = Some(said.epsilon_rdp);
                unanswered.clear();
            }
        }
    }
    // A hospital pays once for a round, so that is how many of its payments were not reported at the most.
    let missing = told.len().saturating_sub(phases + unanswered.len());
    for _ in 0..missing {
        let known = Accountant::Rdp.epsilon(&history, terms.delta)?.get();
        if !spent.is_some_and(|spent| spent > known * (1.0 + TOLERANCE)) {
            break;
        }
        history.push(planned(None));
    }
    for phase in unanswered {
        history.push(phase);
    }
    Ok(history)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::PrivacySpent;
    use medfed_dp::{ExpectedBatchSize, PlanTerms, PrivacyUnit, Spent};
    use medfed_types::{ClipNorm, Delta, Epsilon};

    fn plan() -> DpPlan {
        DpPlan::new(PlanTerms {
            unit: PrivacyUnit::Image,
            clip: ClipNorm::new(1.0).unwrap(),
            noise: NoiseMultiplier::new(1.2).unwrap(),
            rate: SamplingRate::new(0.1).unwrap(),
            expected_batch_size: ExpectedBatchSize::new(10.0).unwrap(),
            secure_mode: false,
            delta: Delta::new(1e-5).unwrap(),
            accountant: Accountant::Rdp,
            budget: Epsilon::new(8.0).unwrap(),
        })
        .unwrap()
    }

    /// What a hospital says that has paid for so many steps in all.
    fn told(status: SiteStatus, steps: u64, paid: u64) -> Told {
        let terms = plan().terms().clone();
        let all: History =
            [Phase { rate: terms.rate, noise: terms.noise, steps: paid }].into_iter().collect();
        let spent = Spent::of(&all, terms.delta).unwrap();
        let spent = PrivacySpent {
            sampling_rate: terms.rate.get(),
            noise_multiplier: terms.noise.get(),
            epsilon_total: spent.rdp.get(),
            epsilon_pld: spent.pld.get(),
            epsilon_rdp: spent.rdp.get(),
        };
        let privacy = Some(SitePrivacy { epsilon_round: 0.0, spent });
        Told { status, steps, privacy, announced: None }
    }

    #[test]
    fn what_is_told_is_counted_once() {
        let trained = |steps, paid| told(SiteStatus::Trained, steps, paid);
        let steps = |told: &[Told]| history(&plan(), 10, told).unwrap().steps();
        assert_eq!(steps(&[]), 0);
        assert_eq!(steps(&[trained(10, 10), trained(10, 20)]), 20);
        assert_eq!(steps(&[trained(10, 10), told(SiteStatus::NotSelected, 0, 10), trained(10, 20)]), 20);
        assert_eq!(steps(&[trained(10, 10), told(SiteStatus::Failed, 10, 20)]), 20);
    }

    #[test]
    fn a_payment_whose_reply_was_lost_is_counted() {
        let trained = |steps, paid| told(SiteStatus::Trained, steps, paid);
        let absent = |paid| told(SiteStatus::Absent, 0, paid);
        let steps = |told: &[Told]| history(&plan(), 10, told).unwrap().steps();
        // Silent in the second round: it may have paid.
        assert_eq!(steps(&[trained(10, 10), absent(10)]), 20);
        // In the third round it says that it had, or had not.
        assert_eq!(steps(&[trained(10, 10), absent(10), trained(10, 30)]), 30);
        assert_eq!(steps(&[trained(10, 10), absent(10), trained(10, 20)]), 20);
        // Nobody pays for more rounds than there were, whatever is said.
        assert_eq!(steps(&[trained(10, 10), absent(10), trained(10, 1000)]), 30);
        // The noise of a round without an answer is the announced one, and never less than the plan's.
        let mut quiet = absent(10);
        quiet.announced = Some(NoiseMultiplier::new(0.5).unwrap());
        let noise = history(&plan(), 10, &[quiet]).unwrap().phases()[0].noise;
        assert_eq!(noise, plan().terms().noise);
        quiet.announced = Some(NoiseMultiplier::new(2.0).unwrap());
        assert_eq!(history(&plan(), 10, &[quiet]).unwrap().phases()[0].noise.get(), 2.0);
    }
}
