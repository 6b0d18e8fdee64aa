//! Site updates in, one global step out.
//!
//! An update is a *delta*: the site's parameters after local training minus the global parameters it
//! started from, one `f32` per parameter. [`SiteUpdate::new`] is the only way to make one; it refuses
//! anything that is not finite, so a rule never sees NaN. [`Aggregator`] holds a [`Rule`], checks that the
//! updates belong together and that there are as many as the rule's guarantee needs, and returns an
//! [`Aggregate`]. n is the number of hospitals with an update, f the number of bad ones among them, d the
//! number of parameters.
//!
//! | rule | step | needs n ≥ | sample counts |
//! |---|---|---|---|
//! | [`Rule::FedAvg`] | weighted mean | 1 | weigh, capped at [`WEIGHT_CAP`] medians |
//! | [`Rule::Median`] | median of every coordinate | 1 | ignored |
//! | [`Rule::TrimmedMean`] | mean of every coordinate without its ⌊βn⌋ smallest and largest values | 1 | ignored |
//! | [`Rule::Krum`] | the update nearest to its n−f−2 nearest others | 2f+3 | ignored |
//! | [`Rule::MultiKrum`] | mean of the m best by Krum's score | 2f+3, f+m | ignored |
//! | [`Rule::Bulyan`] | Krum n−2f times, then per coordinate the mean of the n−4f values nearest the median | 4f+3 | ignored |
//! | [`Rule::FoolsGold`] | mean weighted by how little a hospital's history resembles another's | 2 | ignored |
//! | [`Rule::GeometricMedian`] | the point with the least sum of distances | 1 | ignored |
//! | [`Rule::CenteredClipping`] | the last step plus clipped differences to it | 1 | ignored |
//!
//! Only FedAvg looks at sample counts: a hospital states its own, and the guarantees of the other rules count
//! hospitals. [`PreStep::NearestNeighbourMixing`] may come before any rule but FoolsGold.
//!
//! Arithmetic is in double precision over values in single precision. The largest finite `f32` squared and
//! summed over any number of parameters is far below the largest `f64`, so no finite update makes a distance
//! infinite or NaN. Work is divided by parameters in a way that depends on n and d alone, and sums run in the
//! order of the site names: the same bits for any number of threads and any order of arrival. Ties between
//! hospitals go to the name that sorts first.
//!
//! Not protected here: a rule withstands at most the f that it was told, and no rule sees whether a finite
//! delta was honest. More bad hospitals than f, or bad hospitals that stay within the spread of the good
//! ones, move the model.

#![expect(
    clippy::inline_always,
    reason = "kernels are compiled for the vector unit at hand only if they are inlined into its dispatcher"
)]

mod aggregator;
pub mod anomaly;
mod bulyan;
mod centered_clipping;
mod combination;
mod coordinate;
mod distances;
mod error;
mod fedavg;
mod foolsgold;
mod geometric_median;
mod krum;
mod mixing;
mod rows;
mod rule;
pub mod selection;
mod sorting_network;
mod state;
mod update;

pub use aggregator::{Aggregate, Aggregator};
pub use bulyan::bulyan_selection;
pub use distances::{Gram, SquaredDistances};
pub use error::{AggregateError, StateFault};
pub use fedavg::WEIGHT_CAP;
pub use foolsgold::foolsgold_weights;
pub use krum::{krum_scores, krum_selection};
pub use mixing::nearest_neighbours;
pub use rule::{PreStep, Rule, RuleWarning, TrimRatio};
pub use update::SiteUpdate;
