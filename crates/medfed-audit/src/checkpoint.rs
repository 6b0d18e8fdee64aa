//! Checkpoints: how many entries a log has and their Merkle root, signed by the log and by hospitals.
//!
//! The text is C2SP's (<https://c2sp.org/tlog-checkpoint>): the log's name, the number of entries, the
//! root in base64, each on a line. No extension lines are written or read.

use crate::error::FormatProblem;
use crate::merkle::Digest;
use crate::note::{KeyName, PublicKey, Signature, Signer};

/// Bytes of a signed checkpoint at the most: room for 1 000 hospitals with long names.
pub const MAX_BYTES: usize = 512 * 1024;
/// Signature lines at the most.
const MAX_SIGNATURES: usize = 1_100;

/// The state of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log.
    pub origin: KeyName,
    /// Its entries.
    pub size: u64,
    /// The Merkle root over them.
    pub root: Digest,
}

impl Checkpoint {
    /// The text that is signed.
    pub fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, self.root.to_base64())
    }

    /// Signs it as the log.
    #[must_use]
    pub fn sign(self, log: &Signer) -> SignedCheckpoint {
        // The log's signature has no time.
        let signatures = vec![log.sign(&self.text(), 0)];
        SignedCheckpoint { checkpoint: self, signatures }
    }

    /// Reads the text that is signed.
    pub fn parse(text: &str) -> Result<Self, FormatProblem> {
        let malformed = |part| FormatProblem::Malformed { part };
        let mut lines = text.split('\n');
        let mut line = || lines.next().ok_or(malformed("checkpoint"));
        let origin = KeyName::new(line()?)?;
        let digits = line()?;
        let size: u64 = digits.parse().map_err(|_| malformed("number of entries"))?;
        let root = Digest::from_base64(line()?).ok_or(malformed("root"))?;
        let checkpoint = Self { origin, size, root };
        // One form only: no sign, no leading zero, nothing after the root.
        if checkpoint.text() == text { Ok(checkpoint) } else { Err(malformed("checkpoint")) }
    }
}

/// A checkpoint with signatures, of which nothing is known yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedCheckpoint {
    checkpoint: Checkpoint,
    signatures: Vec<Signature>,
}

impl SignedCheckpoint {
    /// Reads the text form.
    pub fn parse(bytes: &[u8]) -> Result<Self, FormatProblem> {
        let malformed = |part| FormatProblem::Malformed { part };
        if bytes.len() > MAX_BYTES {
            return Err(FormatProblem::TooLarge { found: bytes.len() as u64, limit: MAX_BYTES as u64 });
        }
        let text = std::str::from_utf8(bytes).map_err(|_| malformed("text"))?;
        let end = text.rfind("\n\n").ok_or(malformed("empty line before the signatures"))?;
        let (note, lines) = (&text[..=end], &text[end + 2..]);
        let checkpoint = Checkpoint::parse(note)?;
        let lines = lines.strip_suffix('\n').ok_or(malformed("end"))?;
        let signatures = lines.split('\n').map(Signature::parse).collect::<Result<Vec<_>, _>>()?;
        if signatures.len() > MAX_SIGNATURES {
            let (found, limit) = (signatures.len() as u64, MAX_SIGNATURES as u64);
            return Err(FormatProblem::TooLarge { found, limit });
        }
        Ok(Self { checkpoint, signatures })
    }

    /// What is signed.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The signature lines.
    pub fn signatures(&self) -> &[Signature] {
        &self.signatures
    }

    /// Whether the key has signed it.
    pub fn is_signed_by(&self, key: &PublicKey) -> bool {
        let text = self.checkpoint.text();
        self.signatures.iter().any(|signature| key.verifies(&text, signature))
    }

    /// Adds signatures of hospitals.
    #[must_use]
    pub fn with(mut self, signatures: impl IntoIterator<Item = Signature>) -> Self {
        self.signatures.extend(signatures);
        self
    }

    /// The text form.
    pub fn to_text(&self) -> String {
        format!("{}\n{}", self.checkpoint.text(), lines(&self.signatures))
    }
}

/// Each item on a line of its own.
pub(crate) fn lines(items: impl IntoIterator<Item: ToString>) -> String {
    items.into_iter().flat_map(|item| [item.to_string(), "\n".to_owned()]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::note::{KeyKind, KeyName};
    use medfed_types::SecretKey;
    use proptest::prelude::*;

    fn signed() -> SignedCheckpoint {
        let name = |name: &str| KeyName::new(name).unwrap();
        let log = Signer::new(name("log"), KeyKind::Log, &SecretKey::from_bytes([1; 32]));
        let north = Signer::new(name("log/north"), KeyKind::Cosigner, &SecretKey::from_bytes([2; 32]));
        let checkpoint = Checkpoint { origin: name("log"), size: 17, root: Digest::of(b"root") };
        let cosignature = north.sign(&checkpoint.text(), 1_772_355_907);
        checkpoint.sign(&log).with([cosignature])
    }

    #[test]
    fn checkpoints_are_read_strictly() {
        let signed = signed();
        let text = signed.to_text();
        assert_eq!(SignedCheckpoint::parse(text.as_bytes()).unwrap(), signed);
        let root = signed.checkpoint.root.to_base64();
        assert!(text.starts_with(&format!("log\n17\n{root}\n\n— log ")), "{text}");
        for (from, to) in [
            ("\n17\n", "\n017\n"),
            ("\n17\n", "\n+17\n"),
            ("\n17\n", "\n17 \n"),
            ("\n17\n", "\n18446744073709551616\n"),
            ("\n\n", "\nextension\n\n"),
            ("\n\n", "\n"),
            ("log\n", "lo g\n"),
            ("— log ", "- log "),
        ] {
            let bad = text.replacen(from, to, 1);
            assert!(bad != text && SignedCheckpoint::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(SignedCheckpoint::parse(text.trim_end().as_bytes()).is_err());
        assert!(SignedCheckpoint::parse(&vec![b'\n'; MAX_BYTES + 1]).is_err());
    }

    proptest! {
        #[test]
        fn damaged_checkpoints_never_panic(at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()) {
            let signed = signed();
            let mut bytes = signed.to_text().into_bytes();
            let at = at.index(bytes.len());
            if cut { bytes.truncate(at) } else { bytes[at] = byte }
            if let Ok(read) = SignedCheckpoint::parse(&bytes) {
                prop_assert!(read.to_text().into_bytes() == bytes);
            }
        }
    }
}
