//! What runs the machines of [`medfed_protocol`]: their messages over a transport, their events into a log on
//! the disk, their deadlines by a clock.
//!
//! ```text
//! transport ──packets──► engine: admit ─► log (durable) ─► handle ─► effects ──packets──► transport
//!                          ▲ (a thread of its own)                    └─ commit, notices, the end
//!                        timer
//! ```
//!
//! An event is durable before its machine hears of it, and what a machine wants to be kept is kept before
//! anything that follows is sent. A process that is killed anywhere starts again from the state of the last
//! commit, replays the log, and sends again what was not answered: the same messages, bit by bit.
//!
//! Machines train and add up vectors, which takes long: they work on a thread of their own, so that the
//! transport keeps its connections alive meanwhile.

mod clock;
mod coordinator;
mod error;
mod site;
mod state;

pub use coordinator::{CoordinatorKeeper, CoordinatorRuntime, CoordinatorStatus};
pub use error::{KeeperError, RuntimeError};
pub use site::{Hospital, SiteEnd, SiteIdentity, SiteKeeper, SiteRuntime, SiteStatus, Trouble};
pub use state::{from_parts, to_parts};
