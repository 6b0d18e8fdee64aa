//! Whole sessions, and attacks on them.

mod attacks;
mod dropouts;
mod federation;
mod selection;
mod views;
mod wire;
