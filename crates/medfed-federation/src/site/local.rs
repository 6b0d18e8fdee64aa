//! Local training of one round, step by step, stoppable between two steps.

use super::{LocalOutcome, LocalReport, Protection, RawUpdate, Site, SiteReply, TrainRequest};
use crate::error::FederationError;
use crate::journal::to_bytes;
use crate::observer::{Observer, Progress};
use medfed_data::ShuffledBatches;
use medfed_dp::{
    DpError, DpPlan, ExpectedBatchSize, Grant, LedgerStorage, NoisedSum, RoundRequest, affordable_steps,
    danger,
};
use medfed_nn::DropoutStream;
use medfed_types::{Batch, Cancel, NoiseMultiplier, RoundId};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::num::{NonZeroU64, NonZeroUsize};

/// Where local training stands within its round.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LocalWork {
    pub(super) round: RoundId,
    pub(super) counts: Counts,
    /// What the round was paid for with; the optimiser's state changes under it.
    pub(super) inputs: [u8; 32],
    /// The local parameters after `counts.steps` steps.
    pub(super) parameters: Vec<f32>,
}

/// What adds up over the steps of a round.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Counts {
    pub(super) steps: u64,
    pub(super) loss_sum: f64,
    pub(super) images: u64,
    pub(super) units: u64,
    pub(super) clipped_units: u64,
    pub(super) non_finite_units: u64,
}

impl<S: LedgerStorage> Site<S> {
    /// Trains as requested.
    ///
    /// With privacy the round's steps are paid for before the first of them; a round that is paid for
    /// already (after a crash or an interruption) is not paid for again and repeats the same bits.
    /// Stops between two steps when `cancel` says so; calling again with the same request continues.
    /// Refuses a request for less noise than the plan's.
    #[expect(clippy::missing_panics_doc, reason = "the invariant holds for every site")]
    pub fn train(
        &mut self,
        request: &TrainRequest,
        cancel: &Cancel,
        observer: &dyn Observer,
    ) -> Result<LocalOutcome, FederationError> {
        let plan = self.announced(request.noise)?;
        let mut work = match self.paused.take().filter(|work| work.round == request.round) {
            Some(work) => work,
            None => LocalWork {
                round: request.round,
                counts: Counts::default(),
                inputs: self.inputs(&request.parameters),
                parameters: request.parameters.to_vec(),
            },
        };
        let paid = match self.pay(plan.as_ref(), &work)? {
            Payment::Grant(grant) => plan.map(|plan| Paid { plan, grant }),
            Payment::NotNeeded => None,
            Payment::Exhausted => {
                let privacy = self.spent()?.expect("only a private site can exhaust a budget");
                return Ok(LocalOutcome::Replied(SiteReply::BudgetExhausted { privacy }));
            }
        };
        let steps = paid.as_ref().map_or(self.training.steps, |paid| paid.grant.steps());
        while work.counts.steps < steps {
            if cancel.is_cancelled() {
                self.paused = Some(work);
                return Ok(LocalOutcome::Interrupted);
            }
            self.step(paid.as_ref(), &mut work)?;
            let (round, site, done) = (request.round, &self.id, work.counts.steps);
            observer.notice(&Progress::Step { round, site, done, of: steps });
        }
        let reply = self.reply(request, &work)?;
        // Until the round is over the same request may come again, and gets the same answer.
        self.paused = Some(work);
        Ok(LocalOutcome::Replied(reply))
    }

    /// The plan with the noise of the round, when there is privacy.
    fn announced(&self, noise: Option<NoiseMultiplier>) -> Result<Option<DpPlan>, FederationError> {
        let Some(plan) = self.plan() else { return Ok(None) };
        let least = plan.terms().noise;
        match noise {
            Some(asked) if asked < least => {
                Err(FederationError::LessNoise { site: self.id.clone(), asked, least })
            }
            Some(noise) => Ok(Some(plan.clone().with_noise(noise)?)),
            None => Ok(Some(plan.clone())),
        }
    }

    /// Pays for the round, when there is privacy.
    fn pay(&mut self, plan: Option<&DpPlan>, work: &LocalWork) -> Result<Payment, FederationError> {
        let (Some(plan), Protection::Private { ledger, .. }) = (plan, &mut self.protection) else {
            return Ok(Payment::NotNeeded);
        };
        let Some(steps) = NonZeroU64::new(self.training.steps) else {
            return Err(FederationError::Setting {
                key: "training.local_steps",
                problem: "a round needs at least one step".into(),
            });
        };
        match ledger.reserve(plan, RoundRequest { round: work.round, steps, inputs: work.inputs }) {
            Ok(grant) => Ok(Payment::Grant(grant)),
            Err(DpError::BudgetExhausted { .. }) => Ok(Payment::Exhausted),
            Err(error) => Err(error.into()),
        }
    }

    /// Everything besides the plan that decides the round's result.
    fn inputs(&self, parameters: &[f32]) -> [u8; 32] {
        let mut hash = Sha256::new_with_prefix(b"medfed round inputs v1\0");
        hash.update(self.training.configuration);
        hash.update(to_bytes(parameters));
        if let Some(optimizer) = &self.optimizer {
            hash.update(optimizer.to_bytes());
        }
        for unit in 0..self.images.train.len() {
            let images = self.images.train.unit(unit);
            hash.update((images.len() as u64).to_le_bytes());
            for index in images {
                hash.update(index.to_le_bytes());
            }
        }
        hash.finalize().into()
    }

    /// One step of local training.
    fn step(&mut self, paid: Option<&Paid>, work: &mut LocalWork) -> Result<(), FederationError> {
        let step = work.counts.steps;
        let sum = match paid {
            Some(paid) => self.private_sum(paid, work)?,
            None => self.plain_sum(work)?,
        };
        let mut gradient = sum.estimate();
        if let Some(limit) = self.training.grad_clip_norm {
            clip_to(&mut gradient, limit);
        }
        let done = u64::from(work.round.0 - 1) * self.training.steps + step;
        let rate = self.training.learning_rate.at(done);
        let optimizer =
            self.optimizer.get_or_insert_with(|| self.training.optimizer.start(work.parameters.len()));
        optimizer.step(&mut work.parameters, &gradient, rate, self.training.trainable.ranges())?;
        work.counts.steps += 1;
        Ok(())
    }

    /// A paid step: Poisson sample, clipped sum, noise.
    fn private_sum(
        &self,
        Paid { plan, grant }: &Paid,
        work: &mut LocalWork,
    ) -> Result<NoisedSum, FederationError> {
        let Protection::Private { key, .. } = &self.protection else {
            unreachable!("a grant comes from the ledger of a private site");
        };
        let paid = grant.step(work.counts.steps).expect("the loop stops at the granted steps");
        let batch = self.images.train.poisson(plan.terms().rate, &mut paid.sampling(key));
        let sum = self.executor.clipped_sum(
            &work.parameters,
            &*self.images.source,
            &batch,
            &self.training.trainable,
            plan.terms().clip,
            Some(DropoutStream::secret(paid.dropout(key))),
        )?;
        work.counts.loss_sum += sum.loss_sum();
        work.counts.images += batch.images().len() as u64;
        work.counts.units += sum.units() as u64;
        work.counts.clipped_units += sum.clipped_units() as u64;
        work.counts.non_finite_units += sum.non_finite_units() as u64;
        Ok(plan.add_noise(sum, paid, key)?)
    }

    /// A step without privacy: the next batch of the epoch, its mean gradient.
    fn plain_sum(&self, work: &mut LocalWork) -> Result<NoisedSum, FederationError> {
        let batch = self.shuffled_batch(work.round, work.counts.steps);
        let sum = self.executor.gradient_sum(
            &work.parameters,
            &*self.images.source,
            &batch,
            &self.training.trainable,
            Some(self.dropout(work)),
        )?;
        work.counts.loss_sum += sum.loss_sum();
        work.counts.images += sum.images() as u64;
        work.counts.units += batch.units() as u64;
        let divisor = ExpectedBatchSize::new(sum.images() as f64).map_err(DpError::from)?;
        Ok(danger::without_noise(sum, divisor))
    }

    /// Batch number `step` of the round: epochs follow one another, each a permutation of its own.
    fn shuffled_batch(&self, round: RoundId, step: u64) -> Batch {
        let size = NonZeroUsize::new(self.training.batch_size).unwrap_or(NonZeroUsize::MIN);
        let per_epoch = self.images.train.len().div_ceil(size.get()).max(1) as u64;
        let done = u64::from(round.0 - 1) * self.training.steps + step;
        let domain = format!("shuffle {}", self.id);
        let mut rng = self.training.seed.generator(&domain, &[done / per_epoch]);
        ShuffledBatches::new(&self.images.train, size, &mut rng)
            .nth((done % per_epoch) as usize)
            .unwrap_or_default()
    }

    /// The dropout stream of a step without privacy.
    fn dropout(&self, work: &LocalWork) -> DropoutStream {
        let domain = format!("dropout {}", self.id);
        let numbers = [u64::from(work.round.0), work.counts.steps];
        DropoutStream::new(self.training.seed, &domain, &numbers)
    }

    /// The answer after the last step.
    fn reply(&mut self, request: &TrainRequest, work: &LocalWork) -> Result<SiteReply, FederationError> {
        let LocalWork { counts, parameters, .. } = work;
        let report = LocalReport {
            steps: counts.steps,
            train_loss: (counts.images > 0).then(|| counts.loss_sum / counts.images as f64),
            images: Some(counts.images),
            units: Some(counts.units),
            clipped_fraction: (counts.units > 0 && self.plan().is_some())
                .then(|| counts.clipped_units as f64 / counts.units as f64),
            non_finite_units: Some(counts.non_finite_units),
            privacy: self.spent()?,
            can_continue: self.can_continue()?,
        };
        let delta: Vec<f32> =
            parameters.iter().zip(request.parameters.iter()).map(|(new, old)| new - old).collect();
        if let Some(index) = delta.iter().position(|value| !value.is_finite()) {
            // Its moments are as unusable as its parameters.
            self.optimizer = None;
            let reason = format!("training diverged: the update is not finite at parameter {index}");
            return Ok(SiteReply::Failed { reason, report });
        }
        let weight = self.images.announced_images() as f64;
        Ok(SiteReply::Trained { update: RawUpdate { round: request.round, delta, weight }, report })
    }

    /// Whether the budget allows another step.
    fn can_continue(&self) -> Result<bool, FederationError> {
        let Protection::Private { plan, ledger, .. } = &self.protection else { return Ok(true) };
        let terms = plan.terms();
        let (rate, noise, delta, budget) = (terms.rate, terms.noise, terms.delta, terms.budget);
        Ok(affordable_steps(terms.accountant, ledger.history(), rate, noise, delta, budget, 1)? > 0)
    }
}

/// A paid round and the plan that it was paid under.
struct Paid {
    plan: DpPlan,
    grant: Grant,
}

enum Payment {
    Grant(Grant),
    NotNeeded,
    Exhausted,
}

/// Scales `gradient` down to the L2 norm `limit`, if it is longer.
fn clip_to(gradient: &mut [f32], limit: f64) {
    let norm = gradient.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
    if norm > limit {
        let scale = limit / norm;
        for value in gradient {
            *value = (f64::from(*value) * scale) as f32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gradients_are_clipped_to_the_norm_and_short_ones_left_alone() {
        let mut long = [3.0f32, 4.0];
        clip_to(&mut long, 1.0);
        assert!((f64::from(long[0]).hypot(f64::from(long[1])) - 1.0).abs() < 1e-6);
        let mut short = [0.3f32, 0.4];
        clip_to(&mut short, 1.0);
        assert_eq!(short, [0.3, 0.4]);
    }
}
