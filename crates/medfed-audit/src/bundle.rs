//! A log in one file: what another hospital gets and verifies with the program alone.
//!
//! The file begins with [`MAGIC`]. For each file of the log there follow the length of its path (16 bits,
//! big-endian), the path, the length of its bytes (32 bits, big-endian) and the bytes, in ascending order of
//! paths. It holds the newest checkpoint, all checkpoints, and the tiles that the newest one needs.

use crate::checkpoint::{self, SignedCheckpoint};
use crate::error::{AuditError, FormatProblem};
use crate::log::{CHECKPOINTS, NEWEST, read};
use crate::storage::Source;
use crate::tile;
use std::collections::BTreeMap;
use std::convert::Infallible;

/// What a bundle begins with.
pub const MAGIC: &[u8] = b"medfed audit bundle v1\n";
/// Bytes of a path at the most.
const MAX_PATH: usize = 256;

/// The files of a log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Bundle(BTreeMap<String, Vec<u8>>);

impl Bundle {
    /// Takes the files of a log as they are; whether they are sound is for [`verify`](crate::verify()) to
    /// say.
    pub fn of(source: &impl Source) -> Result<Self, AuditError> {
        let missing = |path: &str| AuditError::Missing { path: path.to_owned() };
        let newest = read(source, NEWEST, checkpoint::MAX_BYTES)?.ok_or_else(|| missing(NEWEST))?;
        let signed = SignedCheckpoint::parse(&newest)
            .map_err(|problem| AuditError::Malformed { path: NEWEST.to_owned(), problem })?;
        let mut files = BTreeMap::from([(NEWEST.to_owned(), newest)]);
        for name in source.list(CHECKPOINTS).map_err(AuditError::storage)? {
            let path = format!("{CHECKPOINTS}/{name}");
            if let Some(bytes) = read(source, &path, checkpoint::MAX_BYTES)? {
                files.insert(path, bytes);
            }
        }
        let size = signed.checkpoint().size;
        // A checkpoint may claim any number of entries: the first file that is not there ends it.
        for tile in tile::rows(size).flat_map(|row| tile::of_row(row, 0, size)) {
            let path = tile.path();
            let bytes = read(source, &path, tile::MAX_ENTRIES)?.ok_or_else(|| missing(&path))?;
            files.insert(path, bytes);
        }
        Ok(Self(files))
    }

    /// Whether the bytes begin like a bundle.
    pub fn is_one(bytes: &[u8]) -> bool {
        bytes.starts_with(MAGIC)
    }

    /// Reads a bundle's file.
    pub fn parse(bytes: &[u8]) -> Result<Self, FormatProblem> {
        let malformed = |part| FormatProblem::Malformed { part };
        let mut rest = bytes.strip_prefix(MAGIC).ok_or(malformed("beginning"))?;
        let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        while let Some((length, after)) = rest.split_first_chunk::<2>() {
            let length = usize::from(u16::from_be_bytes(*length));
            let (path, after) = after.split_at_checked(length).ok_or(malformed("path"))?;
            let path =
                std::str::from_utf8(path).ok().filter(|path| path.len() <= MAX_PATH && has_place(path));
            let path = path.ok_or(malformed("path"))?;
            let (length, after) = after.split_first_chunk::<4>().ok_or(malformed("length"))?;
            let length = u32::from_be_bytes(*length) as usize;
            let (content, after) = after.split_at_checked(length).ok_or(malformed("length"))?;
            if files.last_key_value().is_some_and(|(last, _)| last.as_str() >= path) {
                return Err(malformed("order"));
            }
            files.insert(path.to_owned(), content.to_vec());
            rest = after;
        }
        if rest.is_empty() { Ok(Self(files)) } else { Err(malformed("end")) }
    }

    /// The bundle's file.
    pub fn to_bytes(&self) -> Result<Vec<u8>, FormatProblem> {
        let mut bytes = MAGIC.to_vec();
        for (path, content) in &self.0 {
            let length = u16::try_from(path.len()).ok().filter(|length| usize::from(*length) <= MAX_PATH);
            bytes.extend_from_slice(&length.ok_or(FormatProblem::Malformed { part: "path" })?.to_be_bytes());
            bytes.extend_from_slice(path.as_bytes());
            let length = u32::try_from(content.len()).map_err(|_| FormatProblem::TooLarge {
                found: content.len() as u64,
                limit: u64::from(u32::MAX),
            })?;
            bytes.extend_from_slice(&length.to_be_bytes());
            bytes.extend_from_slice(content);
        }
        Ok(bytes)
    }
}

/// Whether a bundle has files of this path: a file that nobody reads would be one that nobody misses.
fn has_place(path: &str) -> bool {
    let folder = |name: &str| path.strip_prefix(name).is_some_and(|rest| rest.starts_with('/'));
    path == NEWEST || folder(CHECKPOINTS) || folder("tile")
}

impl Source for Bundle {
    type Error = Infallible;

    fn read(&self, path: &str, limit: usize) -> Result<Option<Vec<u8>>, Infallible> {
        Ok(self.0.get(path).map(|bytes| bytes[..bytes.len().min(limit.saturating_add(1))].to_vec()))
    }

    fn list(&self, folder: &str) -> Result<Vec<String>, Infallible> {
        let inside = |path: &String| path.strip_prefix(folder)?.strip_prefix('/').map(str::to_owned);
        Ok(self.0.keys().filter_map(inside).filter(|name| !name.contains('/')).collect())
    }
}
