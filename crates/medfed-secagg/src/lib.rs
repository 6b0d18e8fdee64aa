//! Secure aggregation: a coordinator learns the sum of the sites' updates and no update.
//!
//! The protocol is that of Bonawitz et al. 2017 ("Practical Secure Aggregation for Privacy-Preserving
//! Machine Learning"), against a coordinator that deviates, on the complete graph, for 2 to 100 sites:
//!
//! | round | site | coordinator |
//! |---|---|---|
//! | 0 | [`site::join`]: fresh keys | [`CollectingKeys`](coordinator::CollectingKeys): passes them on |
//! | 1 | [`deal`](site::AwaitingKeys::deal): seeds shared t-of-n, sealed | [`CollectingDealings`](coordinator::CollectingDealings): passes them on |
//! | 2 | [`mask`](site::AwaitingDealings::mask): input + self-mask ± pairwise masks | [`CollectingInputs`](coordinator::CollectingInputs): adds them up |
//! | 3 | [`consent`](site::AwaitingProposal::consent): signs one set of survivors | [`CollectingConsents`](coordinator::CollectingConsents) |
//! | 4 | [`unmask`](site::AwaitingAgreement::unmask): one share of each dealer | [`CollectingUnmaskings`](coordinator::CollectingUnmaskings): opens the sum |
//!
//! Messages are values with canonical bytes; nothing here knows a socket, a clock or a file, and
//! randomness is an argument. Every signature covers the [`SessionContext`] and the transcript so far.
//! Sums are exact: see [`FixedPoint`] for ranges and errors. [`selection`] opens inner products first and
//! sums only the selected; [`groups`] draws random groups whose sums a robust rule can compare.
//!
//! **Not protected.** Whoever runs t sites and the coordinator opens what it likes. A site may put any
//! vector within the words under its masks, and any count: sums hide what single sites send. Sums over
//! sets that differ by one site, in rounds where inputs barely change, differ by about that site's input:
//! the noise of differential privacy is what protects it there. `docs/security.md` says more.

mod agreement;
mod context;
pub mod coordinator;
mod decoding;
mod digest;
mod error;
mod field;
mod fixed_point;
pub mod groups;
mod input;
mod keyring;
mod mask;
pub mod message;
mod roster;
pub mod selection;
mod shamir;
mod signed;
pub mod site;
mod wire;

pub use context::{
    Contribution, NormBound, SessionContext, SessionId, SessionTerms, SiteNoise, Warning, Weighting,
};
pub use digest::Digest;
pub use error::{Fault, SecaggError};
pub use fixed_point::{ClipRange, FixedPoint};
pub use input::Input;
pub use message::MessageKind;
pub use roster::{Identity, MOST_SITES, Members, Roster, SiteIndex};
pub use signed::{Broadcast, Signed};

#[cfg(test)]
mod tests;
