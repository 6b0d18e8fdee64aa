//! One scan: its label and what is known about it. The pixels are in the
//! [`Dataset`](crate::Dataset).

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The part of a published data set that an image belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// For training.
    Train,
    /// For choosing between models while training.
    Validation,
    /// For the final measurement.
    Test,
}

impl Split {
    /// All three, in order.
    pub const ALL: [Self; 3] = [Self::Train, Self::Validation, Self::Test];

    /// Reads `train`, `training`, `val`, `valid`, `validation`, `dev`, `test` or `testing`, in any case.
    pub fn parse(text: &str) -> Option<Self> {
        match text.trim().to_ascii_lowercase().as_str() {
            "train" | "training" => Some(Self::Train),
            "val" | "valid" | "validation" | "dev" => Some(Self::Validation),
            "test" | "testing" => Some(Self::Test),
            _ => None,
        }
    }

    /// `train`, `validation` or `test`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Validation => "validation",
            Self::Test => "test",
        }
    }
}

impl std::fmt::Display for Split {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A patient's sex as recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sex {
    /// `F`, `female`.
    Female,
    /// `M`, `male`.
    Male,
    /// `O`, `other`: DICOM's third value.
    Other,
}

impl Sex {
    /// Reads the first letter or the word, in any case; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        match text.trim().to_ascii_lowercase().as_str() {
            "f" | "female" => Some(Self::Female),
            "m" | "male" => Some(Self::Male),
            "o" | "other" => Some(Self::Other),
            _ => None,
        }
    }

    /// `female`, `male` or `other`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Female => "female",
            Self::Male => "male",
            Self::Other => "other",
        }
    }
}

impl std::fmt::Display for Sex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Where a scan came from, for messages.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Origin {
    /// A file, relative to the data set's folder.
    File(Box<Path>),
    /// Element `index` of an archive's `{split}_images`.
    Element {
        /// The split in whose array it lies.
        split: Split,
        /// Its position there, counted from 0.
        index: u32,
    },
    /// Drawn, not read; counted from 0.
    Drawn(u32),
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Element { split, index } => {
                let key = if *split == Split::Validation { "val" } else { split.name() };
                write!(f, "{key}_images[{index}]")
            }
            Self::Drawn(index) => write!(f, "drawn[{index}]"),
        }
    }
}

/// One scan without its pixels.
#[derive(Debug, Clone, PartialEq)]
pub struct Scan {
    /// Class, counted from 0; an index into [`Dataset::classes`](crate::Dataset::classes).
    pub label: u32,
    /// The patient, if known. Equal text means the same person.
    pub patient: Option<Arc<str>>,
    /// The hospital or scanner, if known.
    pub site: Option<Arc<str>>,
    /// The published split, if there is one.
    pub split: Option<Split>,
    /// Sex, if known.
    pub sex: Option<Sex>,
    /// Age in years, if known.
    pub age: Option<f32>,
    /// Where it came from.
    pub origin: Origin,
}

impl Scan {
    /// A scan of which only the class and the origin are known.
    pub fn new(label: u32, origin: Origin) -> Self {
        Self { label, patient: None, site: None, split: None, sex: None, age: None, origin }
    }
}

/// Reads an age in years: a number, or DICOM's age string (`034Y`, `018M`, `006W`, `010D`).
/// `None` if it is neither, negative or not finite.
pub(crate) fn parse_age(text: &str) -> Option<f32> {
    let text = text.trim();
    let (number, per_year) = match text.as_bytes().last()? {
        b'Y' | b'y' => (&text[..text.len() - 1], 1.0),
        b'M' | b'm' => (&text[..text.len() - 1], 12.0),
        b'W' | b'w' => (&text[..text.len() - 1], 52.18),
        b'D' | b'd' => (&text[..text.len() - 1], 365.25),
        _ => (text, 1.0),
    };
    number.trim().parse::<f32>().ok().map(|n| n / per_year).filter(|age| age.is_finite() && *age >= 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_numbers_or_dicom_age_strings() {
        assert_eq!(parse_age("58"), Some(58.0));
        assert_eq!(parse_age(" 058Y "), Some(58.0));
        assert_eq!(parse_age("018M"), Some(1.5));
        for bad in ["", "Y", "old", "-3", "nan", "inf", "5Z", "é"] {
            assert_eq!(parse_age(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn origins_read_like_the_file() {
        assert_eq!(Origin::Element { split: Split::Validation, index: 3 }.to_string(), "val_images[3]");
        assert_eq!(Origin::File(Path::new("a/b.png").into()).to_string(), "a/b.png");
    }
}
