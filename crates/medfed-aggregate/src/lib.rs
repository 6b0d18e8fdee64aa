//! Site updates in, one global step out.
//!
//! An update is a *delta*: the site's parameters after local training minus the global parameters it
//! started from, one `f32` per parameter. [`SiteUpdate::new`] is the only way to make one; it refuses
//! anything that is not finite, so a rule never sees NaN. Sums run in double precision, in the order
//! of the site names, so the result does not depend on the order of arrival.
//!
//! Not protected here: a site may claim any weight and send any finite delta. Rules that withstand
//! such sites are not part of this crate yet.

pub mod fedavg;
mod update;

pub use update::{AggregateError, SiteUpdate};
