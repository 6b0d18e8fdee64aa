//! What every stage shares: identifiers, checked scalars, the parameter layout, batches of privacy
//! units, the image source, secrets and the two kinds of generator.
//!
//! Nothing here touches files, clocks or the network. Every type is parsed once, at the edge; holding
//! it proves that it is in range.

pub mod batch;
pub mod ids;
pub mod layout;
pub mod progress;
pub mod random;
pub mod scalar;

pub use batch::{Batch, BatchError, ImageShape, ImageSource};
pub use ids::{IdError, RoundId, RunId, SiteId};
pub use layout::{LayoutError, ParameterLayout, ParameterView};
pub use progress::Cancel;
pub use random::{SecretKey, SecretRng, Seed, SimulationRng};
pub use scalar::{ClipNorm, Delta, Epsilon, NoiseMultiplier, SamplingRate, ScalarError};
