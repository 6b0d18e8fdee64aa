//! The messages of the protocol, one file for each.

mod consent;
mod dealing;
mod keys;
mod masked_input;
mod products;
mod proposal;
mod unmasking;
mod vector_share;

pub use consent::Consent;
pub use dealing::Dealing;
pub use keys::Keys;
pub use masked_input::MaskedInput;
pub use products::Products;
pub use proposal::Proposal;
pub use unmasking::Unmasking;
pub use vector_share::VectorShare;

pub(crate) use dealing::{Committed, SEALED_BYTES, Sealed, share_commitment};

/// The kinds of message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum MessageKind {
    /// Round 0: public keys.
    Keys = 1,
    /// Round 1: sealed shares and commitments.
    Dealing = 2,
    /// Round 2: the masked input.
    MaskedInput = 3,
    /// Selection: a sealed share of a vector.
    VectorShare = 4,
    /// Selection: shares of inner products.
    Products = 5,
    /// The set of survivors that the coordinator proposes.
    Proposal = 6,
    /// Round 3: agreement to one set of survivors.
    Consent = 7,
    /// Round 4: shares that unmask the sum.
    Unmasking = 8,
    /// Groups: a commitment to a coin.
    CoinCommitment = 9,
    /// Groups: the coin.
    Coin = 10,
}

impl std::fmt::Display for MessageKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Keys => "keys",
            Self::Dealing => "dealing",
            Self::MaskedInput => "masked input",
            Self::VectorShare => "vector share",
            Self::Products => "products",
            Self::Proposal => "proposal",
            Self::Consent => "consent",
            Self::Unmasking => "unmasking",
            Self::CoinCommitment => "coin commitment",
            Self::Coin => "coin",
        })
    }
}
