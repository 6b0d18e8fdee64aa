//! Numbers as a report says them.

use crate::fields::Estimate;
use medfed_types::Epsilon;

/// To three decimals, the precision that an interval over hundreds of images supports.
pub(crate) fn rate(value: Option<f64>) -> String {
    value
        .filter(|value| value.is_finite())
        .map_or_else(|| "not defined".to_owned(), |value| format!("{value:.3}"))
}

/// The interval of an estimate.
pub(crate) fn interval(found: Option<Estimate>) -> String {
    found
        .and_then(|found| found.interval)
        .map_or_else(|| "–".to_owned(), |(low, high)| format!("{low:.3} to {high:.3}"))
}

/// The value of an estimate.
pub(crate) fn value(found: Option<Estimate>) -> String {
    rate(found.map(|found| found.value))
}

/// ε, rounded up so that print never understates.
pub(crate) fn epsilon(value: Option<f64>) -> String {
    value
        .and_then(|value| Epsilon::new(value).ok())
        .map_or_else(|| "–".to_owned(), |value| format!("{:.3}", value.rounded_up(3)))
}

/// A lower bound on ε, rounded down.
pub(crate) fn epsilon_below(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{:.3}", (value * 1000.0).floor() / 1000.0))
}

/// A number that is not a rate.
pub(crate) fn plain(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.4}"))
}

/// A count.
pub(crate) fn count(value: Option<u64>) -> String {
    value.map_or_else(|| "–".to_owned(), whole)
}

/// A count with narrow gaps between thousands.
pub(crate) fn whole(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && digits.len() > 4 && (digits.len() - index).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// So many of a hundred, for readers who do not think in rates.
pub(crate) fn of_hundred(value: f64) -> String {
    format!("{:.0}", value * 100.0)
}

/// A noun with its count.
pub(crate) fn counted(n: u64, one: &str, many: &str) -> String {
    format!("{} {}", whole(n), if n == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epsilon_is_never_understated_nor_a_bound_overstated() {
        assert_eq!(epsilon(Some(7.9991)), "8.000");
        assert_eq!(epsilon_below(Some(1.2399)), "1.239");
        assert_eq!(
            (epsilon(None), rate(Some(f64::NAN)), whole(1_234_567)),
            ("–".into(), "not defined".into(), "1\u{202f}234\u{202f}567".into())
        );
    }
}
