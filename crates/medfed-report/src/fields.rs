//! Stored JSON, read leniently: a store may be older or newer than this program, and what a run did not
//! measure is not there.

use serde_json::Value;

/// A value of a stored record. What is missing is null.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fields<'a>(pub(crate) &'a Value);

/// An estimate with the ends of its interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Estimate {
    pub(crate) value: f64,
    pub(crate) interval: Option<(f64, f64)>,
}

impl<'a> Fields<'a> {
    /// The value under keys that are separated by dots; without keys the value itself.
    pub(crate) fn at(self, path: &str) -> Self {
        if path.is_empty() {
            return self;
        }
        Self(path.split('.').fold(self.0, |value, key| value.get(key).unwrap_or(&Value::Null)))
    }

    pub(crate) fn is_null(self) -> bool {
        self.0.is_null()
    }

    pub(crate) fn number(self, path: &str) -> Option<f64> {
        self.at(path).0.as_f64()
    }

    pub(crate) fn count(self, path: &str) -> Option<u64> {
        self.at(path).0.as_u64()
    }

    pub(crate) fn text(self, path: &str) -> Option<&'a str> {
        self.at(path).0.as_str()
    }

    pub(crate) fn flag(self, path: &str) -> Option<bool> {
        self.at(path).0.as_bool()
    }

    /// The elements of an array; nothing when it is none.
    pub(crate) fn items(self, path: &str) -> impl Iterator<Item = Self> + use<'a> {
        self.at(path).0.as_array().map(Vec::as_slice).unwrap_or_default().iter().map(Fields)
    }

    /// The entries of an object, in order of keys; nothing when it is none.
    pub(crate) fn entries(self, path: &str) -> impl Iterator<Item = (&'a str, Self)> + use<'a> {
        let entries = self.at(path).0.as_object();
        entries.into_iter().flatten().map(|(key, value)| (key.as_str(), Fields(value)))
    }

    /// An estimate: a bare number, or an object with `estimate` or `value` and an interval as `lower` and
    /// `upper` or as `interval`.
    pub(crate) fn estimate(self, path: &str) -> Option<Estimate> {
        let found = self.at(path);
        if let Some(value) = found.0.as_f64() {
            return Some(Estimate { value, interval: None });
        }
        let value = found.number("estimate").or_else(|| found.number("value"))?;
        let ends = found.number("lower").zip(found.number("upper"));
        let pair = || {
            let ends: Vec<f64> = found.items("interval").filter_map(|end| end.0.as_f64()).collect();
            <[f64; 2]>::try_from(ends).ok().map(|[low, high]| (low, high))
        };
        Some(Estimate { value, interval: ends.or_else(pair) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_missing_is_nothing() {
        let value = json!({ "a": { "b": 1.5, "list": [1, 2] }, "auc": { "estimate": 0.9, "lower": 0.8, "upper": 1.0 },
            "gap": { "value": 0.1, "interval": [0.0, 0.2] }, "bare": 0.5 });
        let fields = Fields(&value);
        assert_eq!(
            (fields.number("a.b"), fields.number("a.b.c"), fields.number("x")),
            (Some(1.5), None, None)
        );
        assert_eq!((fields.items("a.list").count(), fields.items("a.b").count()), (2, 0));
        let estimate = |path| fields.estimate(path).map(|found| (found.value, found.interval));
        assert_eq!(estimate("auc"), Some((0.9, Some((0.8, 1.0)))));
        assert_eq!(estimate("gap"), Some((0.1, Some((0.0, 0.2)))));
        assert_eq!((estimate("bare"), estimate("a")), (Some((0.5, None)), None));
    }
}
