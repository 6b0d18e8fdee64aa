//! Network descriptions and the CPU executor: forward, backward, per-unit norms, clipped sums.

pub mod optimizer;
pub mod schedule;
