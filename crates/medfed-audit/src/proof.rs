//! The proof that one entry is in a log, in one file that is verified without the log.
//!
//! The text form is C2SP's (<https://c2sp.org/tlog-proof>): a header, the entry in base64 as the extra
//! data, its number, the audit path, and a signed checkpoint.

use crate::checkpoint::{self, SignedCheckpoint, lines};
use crate::entry::Entry;
use crate::error::{AuditError, EntryProblem, FormatProblem};
use crate::log::{NEWEST, read};
use crate::merkle::{self, Digest, Tree};
use crate::note::{KeyKind, KeyName, PublicKey};
use crate::storage::Source;
use crate::tile::{self, Row};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// What a proof begins with.
pub const HEADER: &str = "c2sp.org/tlog-proof@v1\n";
/// Bytes of a proof at the most.
pub const MAX_BYTES: usize = checkpoint::MAX_BYTES + 128 * 1024;

/// An entry with the proof that it is in a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InclusionProof {
    entry: Vec<u8>,
    index: u64,
    path: Vec<Digest>,
    checkpoint: SignedCheckpoint,
}

/// What a proof shows.
#[derive(Debug, Clone, PartialEq)]
pub struct Shown {
    /// The entry.
    pub entry: Entry,
    /// Its number, counted from 0.
    pub index: u64,
    /// Entries of the checkpoint.
    pub size: u64,
    /// The keys among those given whose signatures it bears.
    pub signers: Vec<KeyName>,
}

/// Why a proof shows nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProofProblem {
    /// The path does not lead from the entry to the root.
    #[error("entry {index} is not in the checkpoint of {size} entries")]
    NotIncluded {
        /// The entry.
        index: u64,
        /// Entries of the checkpoint.
        size: u64,
    },
    /// No key of the log was given.
    #[error("no key of {log} was given")]
    NoKey {
        /// The log.
        log: KeyName,
    },
    /// A key of the log that has not signed.
    #[error("the checkpoint of {size} entries is not signed by {name}")]
    Unsigned {
        /// The key.
        name: KeyName,
        /// Entries of the checkpoint.
        size: u64,
    },
    /// The entry cannot be read.
    #[error("entry {index} cannot be read: {problem}")]
    Entry {
        /// The entry.
        index: u64,
        /// Why.
        problem: EntryProblem,
    },
}

impl InclusionProof {
    /// Proves that entry `index` is in the newest checkpoint.
    pub fn of(source: &impl Source, index: u64) -> Result<Self, AuditError> {
        let missing = |path: String| AuditError::Missing { path };
        let bytes = read(source, NEWEST, checkpoint::MAX_BYTES)?.ok_or_else(|| missing(NEWEST.into()))?;
        let checkpoint = SignedCheckpoint::parse(&bytes)
            .map_err(|problem| AuditError::Malformed { path: NEWEST.to_owned(), problem })?;
        let size = checkpoint.checkpoint().size;
        if index >= size {
            return Err(AuditError::NoEntry { index, size });
        }
        let (mut tree, mut found) = (Tree::default(), None);
        for tile in tile::of_row(Row::Entries, 0, size) {
            let path = tile.path();
            let bytes = read(source, &path, tile::MAX_ENTRIES)?.ok_or_else(|| missing(path.clone()))?;
            let entries = tile::read_entries(&bytes, tile.width)
                .map_err(|problem| AuditError::Malformed { path, problem })?;
            for entry in entries {
                if tree.len() == index {
                    found = Some(entry.to_vec());
                }
                tree.push(Digest::of_leaf(entry));
            }
        }
        let (signed, root) = (checkpoint.checkpoint().root, tree.root());
        match (found, tree.inclusion(index, size)) {
            (Some(entry), Some(path)) if root == signed => Ok(Self { entry, index, path, checkpoint }),
            _ => Err(AuditError::Altered { size, signed, found: root }),
        }
    }

    /// Whether the bytes begin like a proof.
    pub fn is_one(bytes: &[u8]) -> bool {
        bytes.starts_with(HEADER.as_bytes())
    }

    /// Reads the text form.
    pub fn parse(bytes: &[u8]) -> Result<Self, FormatProblem> {
        let malformed = |part| FormatProblem::Malformed { part };
        if bytes.len() > MAX_BYTES {
            return Err(FormatProblem::TooLarge { found: bytes.len() as u64, limit: MAX_BYTES as u64 });
        }
        let text = std::str::from_utf8(bytes).map_err(|_| malformed("text"))?;
        let rest = text.strip_prefix(HEADER).ok_or(malformed("header"))?;
        let (head, checkpoint) = rest.split_once("\n\n").ok_or(malformed("empty line"))?;
        let mut lines = head.split('\n');
        let entry = lines.next().and_then(|line| line.strip_prefix("extra ")).ok_or(malformed("entry"))?;
        let entry = STANDARD.decode(entry).map_err(|_| malformed("entry"))?;
        let index = lines.next().and_then(|line| line.strip_prefix("index ")).ok_or(malformed("index"))?;
        let index = index.parse().map_err(|_| malformed("index"))?;
        let path = lines.map(Digest::from_base64).collect::<Option<Vec<_>>>().ok_or(malformed("path"))?;
        let checkpoint = SignedCheckpoint::parse(checkpoint.as_bytes())?;
        let proof = Self { entry, index, path, checkpoint };
        if proof.to_text() == text { Ok(proof) } else { Err(malformed("text")) }
    }

    /// The text form.
    pub fn to_text(&self) -> String {
        let path = lines(self.path.iter().map(|node| node.to_base64()));
        let entry = STANDARD.encode(&self.entry);
        format!("{HEADER}extra {entry}\nindex {}\n{path}\n{}", self.index, self.checkpoint.to_text())
    }

    /// Checks the path and the signatures by `keys`, of which one at the least is the log's. Every key of
    /// the log that is given must have signed.
    pub fn verify(&self, keys: &[PublicKey]) -> Result<Shown, ProofProblem> {
        let checkpoint = self.checkpoint.checkpoint();
        let (index, size) = (self.index, checkpoint.size);
        if !merkle::includes(Digest::of_leaf(&self.entry), index, size, &self.path, checkpoint.root) {
            return Err(ProofProblem::NotIncluded { index, size });
        }
        let entry = Entry::decode(&self.entry).map_err(|problem| ProofProblem::Entry { index, problem })?;
        let of_log = |key: &&PublicKey| key.kind() == KeyKind::Log && *key.name() == checkpoint.origin;
        if !keys.iter().any(|key| of_log(&key)) {
            return Err(ProofProblem::NoKey { log: checkpoint.origin.clone() });
        }
        let mut signers = Vec::new();
        for key in keys {
            if self.checkpoint.is_signed_by(key) {
                signers.push(key.name().clone());
            } else if of_log(&key) {
                return Err(ProofProblem::Unsigned { name: key.name().clone(), size });
            }
        }
        Ok(Shown { entry, index, size, signers })
    }
}
