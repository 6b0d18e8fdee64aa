//! Performance metrics with intervals.
