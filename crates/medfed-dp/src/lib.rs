//! The differential privacy plan: noise, accountants, the durable ledger.
//!
//! A clipped sum enters, a noised sum leaves, and in between a step of it is paid for:
//! [`DpPlan`] binds what is protected, the clipping, the sampling, the noise and the budget; a
//! [`Ledger`] records a round durably and hands out one [`PaidStep`] for each step that fits the
//! budget; [`DpPlan::add_noise`] consumes a clipped sum and a paid step and returns a [`NoisedSum`],
//! the only sum that may leave the hospital. Before each round an [`Orchestrator`] may say with how much
//! noise the hospital pays for it.

pub mod accountant;
pub mod danger;
pub mod error;
pub mod ledger;
pub mod noise;
pub mod orchestrator;
pub mod plan;

pub use accountant::{Accountant, History, Phase, Spent, affordable_steps, calibrate};
pub use error::{DpError, EntryProblem};
pub use ledger::{Grant, Ledger, LedgerStorage, PaidStep, RoundRequest, replay};
pub use noise::NoisedSum;
#[cfg(feature = "measure")]
pub use noise::measure;
pub use orchestrator::{Decision, Orchestrator, OrchestratorTerms, Outlook, Strategy};
pub use plan::{DpPlan, ExpectedBatchSize, PlanTerms, PrivacyUnit};
