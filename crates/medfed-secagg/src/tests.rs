//! Whole sessions, and attacks on them.

mod attacks;
mod dropouts;
pub(crate) mod federation;
mod known_answers;
mod selection;
mod views;
mod wire;
