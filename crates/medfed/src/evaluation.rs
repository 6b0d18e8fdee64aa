//! What the command line says and draws about a measured model; `simulate`, `demo` and `evaluate` share it.

pub(crate) mod fairness;
pub(crate) mod performance;
pub(crate) mod plots;

/// Width of the reports' rules, in columns.
const WIDTH: usize = 70;
/// Columns for the name of a value.
const NAME: usize = 24;

/// One value with its name.
fn row(name: &str, value: &str) -> String {
    format!("  {:<NAME$}{value}", format!("{name}:"))
}

/// A number to `digits` decimals, or that it is not defined.
fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "n/a".to_owned(), |value| format!("{value:.digits$}"))
}
