//! Numbers as text, and the numbers that an axis shows.

/// What can be drawn: not NaN, not infinite, and not so large that differences vanish.
pub(crate) fn drawable(value: f64) -> Option<f64> {
    (value.is_finite() && value.abs() <= 1e15).then_some(value)
}

/// A number with at most four significant digits, for tables and labels.
pub(crate) fn plain(value: f64) -> String {
    if !value.is_finite() {
        return if value.is_nan() {
            "–".to_owned()
        } else if value > 0.0 {
            "∞".to_owned()
        } else {
            "−∞".to_owned()
        };
    }
    if value == 0.0 {
        return "0".to_owned();
    }
    let size = value.abs().log10().floor();
    if !(-5.0..7.0).contains(&size) {
        return scientific(value);
    }
    decimals(value, (3.0 - size).clamp(0.0, 8.0) as usize)
}

/// The same, or a dash for what is not known.
pub(crate) fn optional(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), plain)
}

/// A number rounded to so many decimals, without trailing zeros.
pub(crate) fn decimals(value: f64, places: usize) -> String {
    let places = places.min(12);
    let text = format!("{value:.places$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    let text = if text == "-0" { "0" } else { text };
    text.replacen('-', "−", 1)
}

fn scientific(value: f64) -> String {
    let text = format!("{value:.2e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let mantissa = mantissa.trim_end_matches('0').trim_end_matches('.');
    format!("{mantissa}e{exponent}").replace('-', "−")
}

/// A count with thin gaps between thousands.
pub(crate) fn count(value: u64) -> String {
    let digits = value.to_string();
    if digits.len() < 5 {
        return digits;
    }
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push('\u{202f}');
        }
        grouped.push(digit);
    }
    grouped
}

/// Steps of 1, 2 or 5 times a power of ten that cover `low` to `high` in about `wanted` ticks, at most a third more; `whole`
/// asks for whole numbers.
pub(crate) fn linear_ticks(low: f64, high: f64, wanted: f64, whole: bool) -> Ticks {
    let (low, high) = spread(low, high);
    let rough = (high - low) / wanted.max(1.0);
    let power = 10f64.powf(rough.log10().floor());
    let step =
        [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power).into_iter().find(|step| *step >= rough * 0.75);
    let mut step = step.unwrap_or(power * 10.0);
    if whole {
        step = step.max(1.0);
    }
    let places = (-step.log10().floor()).clamp(0.0, 12.0) as usize;
    let (first, last) = ((low / step).floor(), (high / step).ceil());
    let count = (last - first).min(100.0) as usize;
    let at = |index: usize| (first + index as f64) * step;
    let marks = (0..=count).map(at).map(|value| (value, tick_label(value, places))).collect();
    Ticks { low: first * step, high: first.mul_add(step, count as f64 * step), marks }
}

fn tick_label(value: f64, places: usize) -> String {
    if value != 0.0 && !(1e-5..1e7).contains(&value.abs()) {
        scientific(value)
    } else {
        decimals(value, places)
    }
}

/// Powers of ten from below `low` to above `high`, at most about `wanted` of them.
pub(crate) fn log_ticks(low: f64, high: f64, wanted: f64) -> Ticks {
    let (first, last) = (low.log10().floor(), high.log10().ceil());
    let last = if last > first { last } else { first + 1.0 };
    let stride = ((last - first) / wanted.max(1.0)).ceil().max(1.0);
    let count = ((last - first) / stride).floor() as usize;
    let exponents = (0..=count).map(|index| stride.mul_add(-(index as f64), last)).rev();
    let marks = exponents
        .map(|exponent| {
            let value = 10f64.powf(exponent);
            let label = if (-4.0..=5.0).contains(&exponent) {
                plain(value)
            } else {
                format!("1e{exponent}").replace('-', "−")
            };
            (value, label)
        })
        .collect();
    Ticks { low: 10f64.powf(first), high: 10f64.powf(last), marks }
}

/// What an axis shows.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Ticks {
    /// Its lower end.
    pub(crate) low: f64,
    /// Its upper end, above the lower one.
    pub(crate) high: f64,
    /// Values with their labels, ascending.
    pub(crate) marks: Vec<(f64, String)>,
}

/// A range that is wide enough to be divided.
fn spread(low: f64, high: f64) -> (f64, f64) {
    let (low, high) = if low <= high { (low, high) } else { (high, low) };
    let least = low.abs().max(high.abs()) * 1e-9;
    if high - low > least {
        (low, high)
    } else {
        let around = if low == 0.0 { 0.5 } else { low.abs() * 0.1 };
        (low - around, high + around)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_are_short() {
        for (value, shown) in [
            (0.0, "0"),
            (-0.0, "0"),
            (0.91234, "0.9123"),
            (12.0, "12"),
            (-3.5, "−3.5"),
            (1234.56, "1235"),
            (1e-5, "0.00001"),
            (2.5e-9, "2.5e−9"),
            (6.02e23, "6.02e23"),
            (f64::NAN, "–"),
            (f64::INFINITY, "∞"),
        ] {
            assert_eq!(plain(value), shown);
        }
        assert_eq!((count(1234).as_str(), count(1_234_567).as_str()), ("1234", "1\u{202f}234\u{202f}567"));
    }

    #[test]
    fn ticks_are_nice() {
        let labels = |ticks: Ticks| ticks.marks.into_iter().map(|mark| mark.1).collect::<Vec<_>>();
        assert_eq!(labels(linear_ticks(0.0, 1.0, 5.0, false)), ["0", "0.2", "0.4", "0.6", "0.8", "1"]);
        assert_eq!(labels(linear_ticks(1.0, 3.0, 8.0, true)), ["1", "2", "3"]);
        assert_eq!(labels(linear_ticks(0.5, 0.5, 4.0, false)).len(), 7);
        assert_eq!(labels(log_ticks(0.002, 1.0, 6.0)), ["0.001", "0.01", "0.1", "1"]);
    }

    proptest! {
        #[test]
        fn ticks_cover_their_range(low in -1e15f64..1e15, span in 0f64..1e15, wanted in 1f64..12.0, whole: bool) {
            let high = low + span;
            let ticks = linear_ticks(low, high, wanted, whole);
            let slack = low.abs().max(high.abs()) * 1e-6;
            prop_assert!(ticks.low <= low + slack && ticks.high >= high - slack, "{ticks:?}");
            prop_assert!(ticks.low < ticks.high && ticks.marks.len() <= 30, "{ticks:?}");
        }

        #[test]
        fn log_ticks_cover_their_range(low in -14f64..10.0, span in 0f64..4.0) {
            let (low, high) = (10f64.powf(low), 10f64.powf(low + span));
            let ticks = log_ticks(low, high, 6.0);
            prop_assert!(ticks.low <= low && ticks.high >= high * (1.0 - 1e-12), "{ticks:?}");
            prop_assert!(!ticks.marks.is_empty() && ticks.marks.len() <= 9);
        }
    }
}
