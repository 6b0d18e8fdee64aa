//! Noise without a plan or a payment, under a key that everybody knows: for `benches/noise.rs`, which holds the
//! clock. It protects nobody, and only the feature `measure` has it.

use super::{FastNoise, SecureNoise};
use medfed_types::{ClipNorm, SecretKey};

/// How noise is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// `secure_mode: false`.
    Fast,
    /// `secure_mode: true`.
    Secure,
}

/// Adds noise of unit clipping norm and unit noise multiplier.
#[expect(clippy::missing_panics_doc, reason = "1 is a clipping norm")]
pub fn add_noise(mode: Mode, values: &mut [f32]) {
    let clip = ClipNorm::new(1.0).expect("1 is a clipping norm");
    let key = SecretKey::from_bytes([0; 32]);
    match mode {
        Mode::Fast => FastNoise::new(clip, 1.0).add(values, &key),
        Mode::Secure => SecureNoise::new(clip, 1.0, values.len()).add(values, &key),
    }
}
