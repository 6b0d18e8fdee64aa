//! Names of sites, rounds and runs.

use serde::{Deserialize, Serialize};

/// A name that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdError {
    /// The name is empty or longer than 64 bytes.
    #[error("a name has 1 to 64 bytes, this one has {found}")]
    Length {
        /// Bytes found.
        found: usize,
    },
    /// The name has a character that is unsafe in files, logs or pages.
    #[error("{found:?} is not allowed in a name (letters, digits, space, '.', '_', '-')")]
    Character {
        /// The first character refused.
        found: char,
    },
}

fn checked(name: String) -> Result<String, IdError> {
    if name.is_empty() || name.len() > 64 || name.trim() != name {
        return Err(IdError::Length { found: name.len() });
    }
    match name.chars().find(|c| !(c.is_alphanumeric() || " ._-".contains(*c))) {
        Some(found) => Err(IdError::Character { found }),
        None => Ok(name),
    }
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(name: String) -> Result<Self, IdError> {
                checked(name).map(Self)
            }
        }

        impl TryFrom<&str> for $name {
            type Error = IdError;
            fn try_from(name: &str) -> Result<Self, IdError> {
                checked(name.to_owned()).map(Self)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name_type!(
    /// A hospital in the federation: letters, digits, space, `.`, `_`, `-`; at most 64 bytes.
    SiteId
);
name_type!(
    /// A training run.
    RunId
);

/// A federated round, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RoundId(pub u32);

impl RoundId {
    /// The round after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl std::fmt::Display for RoundId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        assert!(SiteId::try_from("St. Mary-1").is_ok());
        assert_eq!(SiteId::try_from(""), Err(IdError::Length { found: 0 }));
        assert_eq!(SiteId::try_from("a/b"), Err(IdError::Character { found: '/' }));
        assert_eq!(SiteId::try_from("a\n").unwrap_err(), IdError::Length { found: 2 });
        assert!(SiteId::try_from("x".repeat(65)).is_err());
    }
}
