//! The state machines of coordinator and site, and the simulation that runs them in one process.
//!
//! ```text
//!                 ┌──────────────── Coordinator (between rounds) ◄───────────────┐
//!                 │ select                                                        │ commit
//!                 ▼                     aggregate                                 │
//!   TrainRequest ◄── Training ── SiteReply ──────────► Evaluating ── evaluations ─┘
//!        │              ▲                │ too few usable updates
//!        ▼              │                ▼
//!      Site ────────────┘             Aborted (the last good model stays)
//! ```
//!
//! A phase is a type: it is consumed by the call that ends it. Nothing here opens a file, reads a clock
//! for a decision or knows a network: durable state goes through [`Journal`] and
//! [`medfed_dp::LedgerStorage`], what people watch through [`Observer`].

pub mod attack;
pub mod canary;
pub mod coordinator;
mod error;
mod evaluation;
mod grouping;
mod journal;
pub mod masking;
mod observer;
pub mod reference;
pub mod report;
mod setup;
mod simulation;
pub mod site;
mod volatile;

pub use coordinator::{Coordinator, CoordinatorSettings};
pub use error::FederationError;
pub use evaluation::{SiteEvaluation, evaluate, predict};
pub use grouping::Grouping;
pub use journal::{Journal, Snapshot};
pub use observer::{Observer, Progress, Silent};
pub use setup::{
    Announcement, CoordinatorSetup, Counts, Forecast, ForecastRound, Hospital, HospitalSetup, Setup,
};
pub use simulation::{Outcome, Simulation};
pub use site::Site;
pub use volatile::{VolatileJournal, VolatileLedger};
