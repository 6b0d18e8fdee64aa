//! Numbers as people read them.

use medfed_store::Timestamp;
use medfed_types::Epsilon;

/// A measurement between 0 and 1, or a dash where it is not defined.
pub(crate) fn share(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.3}"))
}

/// A count; a dash where it is not released.
pub(crate) fn count(value: Option<u64>) -> String {
    value.map_or_else(|| "–".to_owned(), |value| value.to_string())
}

/// A point in time, to the second, in UTC.
pub(crate) fn moment(time: Timestamp) -> String {
    let text = time.to_string();
    let (day, clock) = text.split_once('T').unwrap_or((&text, ""));
    format!("{day} {} UTC", clock.get(..8).unwrap_or(clock))
}

/// A loss or a norm.
pub(crate) fn number(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.4}"))
}

/// ε, rounded up: what is shown is never less than what was spent.
pub(crate) fn epsilon(value: Option<f64>) -> String {
    value
        .and_then(|value| Epsilon::new(value).ok())
        .map_or_else(|| "–".to_owned(), |value| format!("{:.2}", value.rounded_up(2)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_by_people() {
        assert_eq!(moment(Timestamp(0)), "1970-01-01 00:00:00 UTC");
    }
}
