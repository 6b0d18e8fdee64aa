//! Keys and signatures in the text form of C2SP's signed notes (<https://c2sp.org/signed-note>).
//!
//! A note is text, an empty line, and one line for each signature: `— NAME BASE64(id ‖ signature)`. The
//! log signs the text itself (type 0x01). A hospital signs it with the time at which it did (type 0x04,
//! <https://c2sp.org/tlog-cosignature>). Signatures are Ed25519 and are verified strictly: no key of small
//! order, one form for each signature.

use crate::error::FormatProblem;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use medfed_types::{RunId, SecretKey, SiteId};
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;

/// Bytes of a key's name at the most.
const MAX_NAME: usize = 400;
/// What begins a signature line: an em dash and a space.
const DASH: &str = "\u{2014} ";

/// The name of a key: printable, without space and plus sign.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyName(String);

impl KeyName {
    /// Checks the characters.
    pub fn new(name: impl Into<String>) -> Result<Self, FormatProblem> {
        let name = name.into();
        let good = |c: char| !c.is_whitespace() && !c.is_control() && c != '+';
        let fits = (1..=MAX_NAME).contains(&name.len()) && name.chars().all(good);
        if fits { Ok(Self(name)) } else { Err(FormatProblem::Name) }
    }

    /// The name of a run's log.
    pub fn of_log(run: &RunId) -> Self {
        Self(format!("medfed/{}", escaped(run.as_str())))
    }

    /// The name under which a hospital signs the checkpoints of a run.
    pub fn of_site(run: &RunId, site: &SiteId) -> Self {
        Self(format!("medfed/{}/{}", escaped(run.as_str()), escaped(site.as_str())))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for KeyName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Names of runs and sites have no percent sign, so no two give one result. White space is a space: other
/// names of it are no part of an id.
fn escaped(name: &str) -> String {
    name.replace(' ', "%20")
}

/// Who signs with a key, and what exactly is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyKind {
    /// The log signs a note's text.
    Log,
    /// A hospital signs a note's text and the time.
    Cosigner,
}

impl KeyKind {
    fn byte(self) -> u8 {
        match self {
            Self::Log => 0x01,
            Self::Cosigner => 0x04,
        }
    }
}

/// The key that verifies signatures of a log or of a hospital.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    name: KeyName,
    kind: KeyKind,
    key: VerifyingKey,
}

impl PublicKey {
    /// Checks that the bytes are a key under which nobody can forge without its secret half.
    pub fn new(name: KeyName, kind: KeyKind, bytes: &[u8; 32]) -> Result<Self, FormatProblem> {
        match VerifyingKey::from_bytes(bytes) {
            Ok(key) if !key.is_weak() => Ok(Self { name, kind, key }),
            _ => Err(FormatProblem::WeakKey { name }),
        }
    }

    /// Reads the text form `NAME+ID+BASE64`, as [`Display`](std::fmt::Display) writes it.
    pub fn parse(text: &str) -> Result<Self, FormatProblem> {
        let malformed = |part| FormatProblem::Malformed { part };
        let mut parts = text.trim().splitn(3, '+');
        let mut part = || parts.next().ok_or(malformed("key"));
        let (name, id, encoded) = (KeyName::new(part()?)?, part()?, part()?);
        let bytes = STANDARD.decode(encoded).map_err(|_| malformed("key"))?;
        let (kind, bytes) = match bytes.split_first() {
            Some((0x01, bytes)) => (KeyKind::Log, bytes),
            Some((0x04, bytes)) => (KeyKind::Cosigner, bytes),
            _ => return Err(malformed("key's type")),
        };
        let bytes = bytes.try_into().map_err(|_| malformed("key"))?;
        let key = Self::new(name, kind, bytes)?;
        if hex(key.id()) == id { Ok(key) } else { Err(FormatProblem::KeyId { name: key.name }) }
    }

    /// Its name.
    pub fn name(&self) -> &KeyName {
        &self.name
    }

    /// Whose it is.
    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.key.as_bytes()
    }

    /// What stands in a signature line besides the name: the first 4 bytes of a hash of name and key.
    pub fn id(&self) -> [u8; 4] {
        let mut hash = Sha256::new_with_prefix(self.name.as_str());
        hash.update([b'\n', self.kind.byte()]);
        let hash = hash.chain_update(self.as_bytes()).finalize();
        let [a, b, c, d, ..] = <[u8; 32]>::from(hash);
        [a, b, c, d]
    }

    /// Whether `signature` is this key's over the text of a note.
    pub fn verifies(&self, text: &str, signature: &Signature) -> bool {
        let signed = match (self.kind, signature.time) {
            (KeyKind::Log, None) => text.to_owned(),
            (KeyKind::Cosigner, Some(time)) => timed(text, time),
            _ => return false,
        };
        let bytes = ed25519_dalek::Signature::from_bytes(&signature.bytes);
        self.is_named_by(signature) && self.key.verify_strict(signed.as_bytes(), &bytes).is_ok()
    }

    /// Whether the signature line names this key.
    pub fn is_named_by(&self, signature: &Signature) -> bool {
        signature.name == self.name && signature.id == self.id()
    }
}

/// `NAME+ID+BASE64`.
impl std::fmt::Display for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut bytes = vec![self.kind.byte()];
        bytes.extend_from_slice(self.as_bytes());
        write!(f, "{}+{}+{}", self.name, hex(self.id()), STANDARD.encode(bytes))
    }
}

/// The secret half of a key. Wiped on drop, never printed, not cloned.
pub struct Signer {
    public: PublicKey,
    secret: SigningKey,
}

impl Signer {
    /// The signer whose secret is `secret`.
    #[expect(clippy::missing_panics_doc, reason = "the invariant holds for every secret")]
    pub fn new(name: KeyName, kind: KeyKind, secret: &SecretKey) -> Self {
        let secret = SigningKey::from_bytes(secret.expose());
        let bytes = secret.verifying_key().to_bytes();
        let public = PublicKey::new(name, kind, &bytes)
            .expect("a clamped scalar times the base point is a point of large order");
        Self { public, secret }
    }

    /// The public half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Signs a note's text; a hospital with the time, in seconds since 1970.
    pub(crate) fn sign(&self, text: &str, now: u64) -> Signature {
        let time = (self.public.kind == KeyKind::Cosigner).then_some(now);
        let signed = time.map_or_else(|| text.to_owned(), |time| timed(text, time));
        let bytes = self.secret.sign(signed.as_bytes()).to_bytes();
        Signature { name: self.public.name.clone(), id: self.public.id(), time, bytes }
    }
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Signer({}, <redacted>)", self.public.name)
    }
}

/// A signature line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    name: KeyName,
    id: [u8; 4],
    /// Seconds since 1970; a hospital's signature has it.
    time: Option<u64>,
    bytes: [u8; 64],
}

impl Signature {
    /// Whose it claims to be.
    pub fn name(&self) -> &KeyName {
        &self.name
    }

    /// When a hospital signed, in seconds since 1970; the log's own signature has no time.
    pub fn time(&self) -> Option<u64> {
        self.time
    }

    /// Reads a signature line without its end.
    pub(crate) fn parse(line: &str) -> Result<Self, FormatProblem> {
        let malformed = FormatProblem::Malformed { part: "signature line" };
        let (name, encoded) =
            line.strip_prefix(DASH).and_then(|rest| rest.split_once(' ')).ok_or_else(|| malformed.clone())?;
        let name = KeyName::new(name)?;
        // 76 bytes at the most: longer text is not worth decoding.
        let bytes = (encoded.len() <= 104).then(|| STANDARD.decode(encoded).ok()).flatten();
        let bytes = bytes.ok_or_else(|| malformed.clone())?;
        let (id, rest) = bytes.split_first_chunk::<4>().ok_or_else(|| malformed.clone())?;
        let (time, rest) = match (rest.len(), rest.split_first_chunk::<8>()) {
            (72, Some((time, rest))) => (Some(u64::from_be_bytes(*time)), rest),
            _ => (None, rest),
        };
        let bytes = rest.try_into().map_err(|_| malformed)?;
        Ok(Self { name, id: *id, time, bytes })
    }
}

/// The line, without its end.
impl std::fmt::Display for Signature {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut bytes = self.id.to_vec();
        bytes.extend(self.time.iter().flat_map(|time| time.to_be_bytes()));
        bytes.extend_from_slice(&self.bytes);
        write!(f, "{DASH}{} {}", self.name, STANDARD.encode(bytes))
    }
}

/// What a hospital signs.
fn timed(text: &str, time: u64) -> String {
    format!("cosignature/v1\ntime {time}\n{text}")
}

fn hex(id: [u8; 4]) -> String {
    id.iter().fold(String::with_capacity(8), |mut digits, byte| {
        // Writing to a string cannot fail.
        let _ = write!(digits, "{byte:02x}");
        digits
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of Go's `golang.org/x/mod/sumdb/note`.
    #[test]
    fn a_published_note_is_verified() {
        let key = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
        let text = "If you think cryptography is the answer to your problem,\n\
                    then you don't know what your problem is.\n";
        let line = "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=";
        let (public, signature) = (PublicKey::parse(key).unwrap(), Signature::parse(line).unwrap());
        assert!(public.verifies(text, &signature));
        assert!(!public.verifies(&text.replace('Y', "y"), &signature) || !text.contains('Y'));
        assert!(!public.verifies(&text[1..], &signature));
        assert_eq!((public.to_string().as_str(), signature.to_string().as_str()), (key, line));
    }

    fn signer(name: &str, kind: KeyKind, secret: u8) -> Signer {
        Signer::new(KeyName::new(name).unwrap(), kind, &SecretKey::from_bytes([secret; 32]))
    }

    #[test]
    fn a_signature_is_of_one_key_one_kind_one_time_and_one_text() {
        let (log, north) = (signer("log", KeyKind::Log, 1), signer("north", KeyKind::Cosigner, 1));
        let (by_log, by_north) = (log.sign("text\n", 0), north.sign("text\n", 12));
        assert!(log.public().verifies("text\n", &by_log) && north.public().verifies("text\n", &by_north));
        assert!(!log.public().verifies("text\n", &by_north) && !north.public().verifies("text\n", &by_log));
        assert!(!log.public().verifies("texu\n", &by_log));
        let later = Signature { time: Some(13), ..by_north.clone() };
        let renamed = Signature { name: KeyName::new("south").unwrap(), ..by_north.clone() };
        let without = Signature { time: None, ..by_north.clone() };
        for forged in [later, renamed, without] {
            assert!(!north.public().verifies("text\n", &forged), "{forged}");
        }
        assert!(!signer("north", KeyKind::Cosigner, 2).public().verifies("text\n", &by_north));
        for signature in [by_log, by_north] {
            assert_eq!(Signature::parse(&signature.to_string()).unwrap(), signature);
        }
        assert_eq!(format!("{log:?}"), "Signer(log, <redacted>)");
    }

    #[test]
    fn keys_are_read_strictly() {
        let key = signer("medfed/run/North%20Clinic", KeyKind::Cosigner, 3).public().clone();
        assert_eq!(PublicKey::parse(&format!("{key}\n")).unwrap(), key);
        let text = key.to_string();
        let other_id = text.replacen(&hex(key.id()), "00000000", 1);
        assert!(matches!(PublicKey::parse(&other_id), Err(FormatProblem::KeyId { .. })));
        for bad in ["", "a", "a+b", "a+00000000+", "a b+00000000+AQ==", &text[..text.len() - 4], "+00+AQ=="] {
            assert!(PublicKey::parse(bad).is_err(), "{bad}");
        }
        // Points of order 1, 2 and 4: anyone can forge under them.
        let mut one = [0; 32];
        one[0] = 1;
        let mut two = [0xff; 32];
        (two[0], two[31]) = (0xec, 0x7f);
        for weak in [one, two, [0; 32]] {
            let refused = PublicKey::new(KeyName::new("x").unwrap(), KeyKind::Log, &weak);
            assert!(matches!(refused, Err(FormatProblem::WeakKey { .. })), "{weak:?}");
        }
    }

    #[test]
    fn names_of_different_sites_differ() {
        let (run, id) = (RunId::try_from("run 1").unwrap(), |name: &str| SiteId::try_from(name).unwrap());
        let spaced = KeyName::of_site(&run, &id("North Clinic"));
        assert_eq!(spaced.as_str(), "medfed/run%201/North%20Clinic");
        assert!(KeyName::new(spaced.as_str()).is_ok());
        assert!(SiteId::try_from("North%20Clinic").is_err());
        let widest = KeyName::of_site(&run, &id(&format!("a{}b", " ".repeat(62))));
        assert!(KeyName::new(widest.as_str()).is_ok());
    }
}
