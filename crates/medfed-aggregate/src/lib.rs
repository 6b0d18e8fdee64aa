//! Aggregation of site updates into a global model.
