//! Who a certificate stands for: `urn:medfed:site:NAME` or `urn:medfed:coordinator`.

use medfed_types::SiteId;
use std::fmt::{self, Write as _};

const COORDINATOR: &str = "urn:medfed:coordinator";
const SITE: &str = "urn:medfed:site:";

/// One side of a connection, as the URI in its certificate names it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Party {
    /// The coordinator of the federation.
    Coordinator,
    /// A hospital.
    Site(SiteId),
}

/// Not the URI of a party.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{uri:?} names no coordinator and no site")]
pub struct PartyError {
    /// The URI.
    pub uri: String,
}

impl Party {
    /// The URI. Bytes of a name that a URN cannot hold are written as `%` and two hexadecimal digits.
    pub fn uri(&self) -> String {
        match self {
            Self::Coordinator => COORDINATOR.to_owned(),
            Self::Site(site) => site.as_str().bytes().fold(SITE.to_owned(), |mut uri, byte| {
                if byte.is_ascii_alphanumeric() || b"._-".contains(&byte) {
                    uri.push(char::from(byte));
                } else {
                    // Writing to a string does not fail.
                    let _ = write!(uri, "%{byte:02X}");
                }
                uri
            }),
        }
    }

    /// Reads a URI. Only the spelling that [`Party::uri`] writes is accepted.
    pub fn parse(uri: &str) -> Result<Self, PartyError> {
        let wrong = || PartyError { uri: uri.to_owned() };
        if uri == COORDINATOR {
            return Ok(Self::Coordinator);
        }
        let name = decoded(uri.strip_prefix(SITE).ok_or_else(wrong)?).ok_or_else(wrong)?;
        let party = Self::Site(SiteId::try_from(name).map_err(|_| wrong())?);
        if party.uri() == uri { Ok(party) } else { Err(wrong()) }
    }

    /// The site, if it is one.
    pub fn site(&self) -> Option<&SiteId> {
        match self {
            Self::Coordinator => None,
            Self::Site(site) => Some(site),
        }
    }
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Coordinator => f.write_str("the coordinator"),
            Self::Site(site) => write!(f, "site {site}"),
        }
    }
}

impl TryFrom<String> for Party {
    type Error = PartyError;
    fn try_from(uri: String) -> Result<Self, PartyError> {
        Self::parse(&uri)
    }
}

impl From<Party> for String {
    fn from(party: Party) -> Self {
        party.uri()
    }
}

fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|it| char::from(it).to_digit(16));
        let (high, low) = (digit()?, digit()?);
        bytes.push((high * 16 + low) as u8);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_the_written_spelling_is_read() {
        let saint = Party::Site(SiteId::try_from("St. Märy-1").unwrap());
        assert_eq!(saint.uri(), "urn:medfed:site:St.%20M%C3%A4ry-1");
        assert_eq!(Party::parse(&saint.uri()), Ok(saint));
        for wrong in [
            "",
            "urn:medfed:site:",
            "urn:medfed:site:a/b",
            "urn:medfed:site:%41",
            "urn:medfed:site:a%2",
            "urn:medfed:site:a%c3%a4",
            "urn:medfed:site:%ff",
            "urn:medfed:coordinator2",
            "URN:medfed:coordinator",
        ] {
            assert!(Party::parse(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn every_name_comes_back(name in "[\\p{L}\\p{N} ._-]{1,16}") {
            if let Ok(site) = SiteId::try_from(name) {
                let party = Party::Site(site);
                prop_assert_eq!(Party::parse(&party.uri()), Ok(party));
            }
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,40}") {
            let _ = Party::parse(&format!("urn:medfed:site:{text}"));
        }
    }
}
