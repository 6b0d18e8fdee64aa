//! The ledger: a round is recorded durably *before* any result of it can leave the hospital.
//!
//! [`Ledger::reserve`] writes one entry per round ahead of the work and hands out a [`Grant`] of as
//! many steps as fit the budget. What is granted counts as spent whether it is used or not, so after a
//! crash at any point the spent ε is never under-reported. Asking again for a round that is paid for
//! returns the same grant; asking for it with other terms, steps or inputs is refused, because the
//! noise of a paid step is a function of its entry and must never meet two different sums.
//!
//! Entries form a hash chain: each carries the SHA-256 of the one before it, the first that of the run
//! and the site, so an altered, missing, swapped or foreign entry is seen when the ledger is opened.
//! Entries cut off at the end are not seen here; a party that keeps [`Ledger::head`] sees them.
//!
//! Sans-IO: bytes go to a [`LedgerStorage`], which the owner of the files implements.

mod entry;

use crate::accountant::{History, Spent, affordable_steps};
use crate::error::{DpError, EntryProblem};
use crate::plan::{DpPlan, PlanTerms};
use entry::{Digest, Entry, PaidTerms};
use medfed_types::{Delta, RoundId, RunId, SecretKey, SecretRng, SiteId};
use std::num::NonZeroU64;

/// Where a ledger's records are kept, in order, for ever.
pub trait LedgerStorage {
    /// How storage fails.
    type Error: std::error::Error + Send + Sync + 'static;

    /// All records, oldest first.
    fn records(&mut self) -> Result<Vec<Vec<u8>>, Self::Error>;

    /// Adds `record` as number `position`, counted from 0. When this returns `Ok`, the record survives
    /// a crash and a loss of power. It fails when `position` is not the number of records, so that two
    /// writers cannot both succeed. When it returns an error the record may or may not have been kept.
    fn append(&mut self, position: usize, record: &[u8]) -> Result<(), Self::Error>;
}

/// A round that a site wants to pay for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoundRequest {
    /// The round; later than every round paid before.
    pub round: RoundId,
    /// Steps planned.
    pub steps: NonZeroU64,
    /// SHA-256 of everything besides the plan that decides the round's result: the parameters it
    /// starts from, the training settings and the site's own data. A repeated round with equal inputs
    /// repeats its result; one with other inputs would draw the same noise for another sum, and is
    /// refused.
    pub inputs: [u8; 32],
}

/// What was paid for one round. Steps are counted from 0.
#[derive(Debug, Clone, PartialEq)]
pub struct Grant {
    round: RoundId,
    steps: u64,
    terms: PaidTerms,
    work: Digest,
}

impl Grant {
    /// The round.
    pub fn round(&self) -> RoundId {
        self.round
    }

    /// Steps paid for: at least 1, at most what was asked.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Step number `step`, counted from 0; none beyond what was paid.
    pub fn step(&self, step: u64) -> Option<PaidStep> {
        let Self { round, terms, work, .. } = *self;
        (step < self.steps).then_some(PaidStep { round, step, terms, work })
    }
}

/// The right to release one noised sum.
///
/// Its batch and its noise are functions of the site's key and of what was paid for: plan, round, steps
/// and inputs. A step that is repeated after a crash gives the same bits and nothing new leaks, and two
/// different sums never meet the same noise. Only a [`Grant`] makes one, and
/// [`DpPlan::add_noise`](crate::DpPlan::add_noise) uses it up:
///
/// ```compile_fail,E0382
/// # use medfed_dp::{DpError, DpPlan, NoisedSum, PaidStep};
/// fn twice(
///     plan: &DpPlan,
///     step: PaidStep,
///     [one, two]: [medfed_nn::ClippedSum; 2],
///     site: &medfed_types::SecretKey,
/// ) -> Result<(NoisedSum, NoisedSum), DpError> {
///     Ok((plan.add_noise(one, step, site)?, plan.add_noise(two, step, site)?))
/// }
/// ```
///
/// ```compile_fail,E0451
/// fn unpaid(paid: &medfed_dp::PaidStep) -> medfed_dp::PaidStep {
///     medfed_dp::PaidStep { step: 1_000_000, ..*paid }
/// }
/// ```
#[derive(Debug, PartialEq)]
pub struct PaidStep {
    round: RoundId,
    step: u64,
    terms: PaidTerms,
    work: Digest,
}

impl PaidStep {
    /// The round.
    pub fn round(&self) -> RoundId {
        self.round
    }

    /// The step within the round, counted from 0.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// The generator for the step's Poisson sample.
    pub fn sampling(&self, site: &SecretKey) -> SecretRng {
        self.key(site).generator("poisson sample", &[])
    }

    /// The key of the step's dropout. Secret, because masks follow the places of images in the batch: if
    /// they were known, one unit more would change the gradients of the units behind it.
    #[must_use]
    pub fn dropout(&self, site: &SecretKey) -> SecretKey {
        self.key(site).subkey("dropout", &[])
    }

    /// The step's own key.
    pub(crate) fn key(&self, site: &SecretKey) -> SecretKey {
        let mut numbers = [0; 5];
        for (number, bytes) in numbers.iter_mut().zip(self.work.as_chunks().0) {
            *number = u64::from_le_bytes(*bytes);
        }
        numbers[4] = self.step;
        site.subkey("paid step", &numbers)
    }

    /// Whether the plan is the one under which the step was paid for.
    pub(crate) fn is_under(&self, terms: &PlanTerms) -> bool {
        self.terms == PaidTerms::of(terms)
    }
}

/// One site's ledger of one run.
#[derive(Debug)]
pub struct Ledger<S> {
    run: RunId,
    site: SiteId,
    storage: S,
    entries: Vec<Entry>,
    history: History,
    /// The last append failed: what the storage holds is unknown until it is read again.
    unsure: bool,
}

impl<S: LedgerStorage> Ledger<S> {
    /// Reads and checks all entries.
    pub fn open(run: RunId, site: SiteId, storage: S) -> Result<Self, DpError> {
        let (entries, history) = (Vec::new(), History::default());
        let mut ledger = Self { run, site, storage, entries, history, unsure: true };
        ledger.reload()?;
        Ok(ledger)
    }

    /// Pays for a round, durably, before it starts.
    ///
    /// Grants the steps asked for, or as many as fit the budget beside everything recorded. A round
    /// that is paid for already returns its grant again without a second payment. Refused are: a round
    /// paid for with another request ([`DpError::AlreadyPaid`]), a round before the newest
    /// ([`DpError::RoundOrder`]), another privacy unit than recorded ([`DpError::UnitChanged`]) and a
    /// round of which no step fits ([`DpError::BudgetExhausted`]). After an error nothing was granted.
    pub fn reserve(&mut self, plan: &DpPlan, request: RoundRequest) -> Result<Grant, DpError> {
        if self.unsure {
            self.reload()?;
        }
        let terms = plan.terms();
        if let Some(entry) = self.entries.iter().find(|entry| entry.round == request.round) {
            return match entry.difference(terms, request) {
                None => Ok(grant(entry)),
                Some(what) => {
                    Err(DpError::AlreadyPaid { site: self.site.clone(), round: request.round, what })
                }
            };
        }
        if let Some(last) = self.entries.last() {
            let site = self.site.clone();
            if last.round > request.round {
                return Err(DpError::RoundOrder { site, round: request.round, newest: last.round });
            }
            let (recorded, asked) = (last.terms.unit, terms.unit);
            if recorded != asked {
                return Err(DpError::UnitChanged { site, recorded, asked });
            }
        }
        let steps = affordable_steps(
            terms.accountant,
            &self.history,
            terms.rate,
            terms.noise,
            terms.delta,
            terms.budget,
            request.steps.get(),
        )?;
        if steps == 0 {
            let spent = terms.accountant.epsilon(&self.history, terms.delta)?;
            return Err(DpError::BudgetExhausted { site: self.site.clone(), spent, budget: terms.budget });
        }
        let entry = Entry::new(self.head(), terms, request, steps);
        self.unsure = true;
        self.storage.append(self.entries.len(), &entry.encode()).map_err(storage)?;
        self.unsure = false;
        self.history.push(entry.phase());
        let granted = grant(&entry);
        self.entries.push(entry);
        Ok(granted)
    }

    /// Everything recorded, as the accountants read it.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// ε spent so far by both accountants; more may not have left the hospital, less may have.
    pub fn spent(&self, delta: Delta) -> Result<Spent, DpError> {
        Spent::of(&self.history, delta)
    }

    /// Digest of the newest entry, or of the empty ledger of this run and site.
    pub fn head(&self) -> [u8; 32] {
        self.entries.last().map_or_else(|| entry::genesis(&self.run, &self.site), |entry| entry.digest)
    }

    /// Reads everything from the storage and replays it.
    fn reload(&mut self) -> Result<(), DpError> {
        let records = self.storage.records().map_err(storage)?;
        self.entries = read(&self.run, &self.site, &records)?;
        self.history = self.entries.iter().map(Entry::phase).collect();
        self.unsure = false;
        Ok(())
    }
}

/// What a site has paid for in a run, by its ledger's records: for whoever reads a ledger without the
/// right to write to it.
pub fn replay(run: &RunId, site: &SiteId, records: &[Vec<u8>]) -> Result<History, DpError> {
    Ok(read(run, site, records)?.iter().map(Entry::phase).collect())
}

/// Checks every record and that each continues the one before it.
fn read(run: &RunId, site: &SiteId, records: &[Vec<u8>]) -> Result<Vec<Entry>, DpError> {
    let mut entries: Vec<Entry> = Vec::with_capacity(records.len());
    let mut head = entry::genesis(run, site);
    for (position, record) in records.iter().enumerate() {
        let refused = |problem| DpError::LedgerEntry { site: site.clone(), position, problem };
        let entry = Entry::decode(record).map_err(refused)?;
        if entry.previous != head {
            return Err(refused(EntryProblem::Chain));
        }
        if entries.last().is_some_and(|last| last.round >= entry.round) {
            return Err(refused(EntryProblem::RoundOrder));
        }
        head = entry.digest;
        entries.push(entry);
    }
    Ok(entries)
}

fn grant(entry: &Entry) -> Grant {
    Grant { round: entry.round, steps: entry.granted, terms: entry.terms, work: entry.work() }
}

fn storage(error: impl std::error::Error + Send + Sync + 'static) -> DpError {
    DpError::Storage(Box::new(error))
}

#[cfg(test)]
mod tests;
