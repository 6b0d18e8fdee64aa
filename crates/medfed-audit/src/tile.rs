//! Entries and hashes in files of 256, as C2SP's tiled logs (<https://c2sp.org/tlog-tiles>).
//!
//! `tile/entries/N` holds entries 256·N to 256·N + 255, each behind its length (16 bits, big-endian).
//! `tile/L/N` holds the hashes of the complete subtrees number 256·N to 256·N + 255 over 256^L entries
//! each. The last file of a row ends with `.p/W`, where W is the number of its items. A complete file
//! never changes.

use crate::error::FormatProblem;
use crate::merkle::{Digest, Tree};

/// Items of a complete file.
pub(crate) const WIDTH: u64 = 256;
/// Bytes of a hash tile at the most.
pub(crate) const MAX_HASHES: usize = 32 * WIDTH as usize;
/// Bytes of an entry at the most.
pub(crate) const MAX_ENTRY: usize = u16::MAX as usize;
/// Bytes of a file of entries at the most.
pub(crate) const MAX_ENTRIES: usize = WIDTH as usize * (2 + MAX_ENTRY);
/// Rows of hashes that a log of 2^63 entries can have.
const LEVELS: u32 = 8;

/// A row of files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Row {
    /// Entries.
    Entries,
    /// Hashes over 256^level entries each.
    Hashes(u32),
}

impl Row {
    /// Height in the Merkle tree of what its items stand for.
    pub(crate) fn height(self) -> u32 {
        match self {
            Self::Entries => 0,
            Self::Hashes(level) => 8 * level,
        }
    }
}

/// One file of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tile {
    pub(crate) row: Row,
    pub(crate) index: u64,
    /// Items: 1 to 256.
    pub(crate) width: u64,
}

impl Tile {
    /// The path in the log's folder.
    pub(crate) fn path(&self) -> String {
        let row = match self.row {
            Row::Entries => "entries".to_owned(),
            Row::Hashes(level) => level.to_string(),
        };
        let mut number = format!("{:03}", self.index % 1000);
        let mut rest = self.index / 1000;
        while rest > 0 {
            number = format!("x{:03}/{number}", rest % 1000);
            rest /= 1000;
        }
        let partial = if self.width < WIDTH { format!(".p/{}", self.width) } else { String::new() };
        format!("tile/{row}/{number}{partial}")
    }

    /// The number of its first item.
    pub(crate) fn first(&self) -> u64 {
        self.index * WIDTH
    }
}

/// The files of a log of `size` entries that a log of `old` entries does not have, in the order in which
/// they are written: each row of hashes after what it is made of.
pub(crate) fn added(old: u64, size: u64) -> Vec<Tile> {
    rows(size).flat_map(|row| of_row(row, old, size)).collect()
}

/// The rows of a log of `size` entries: entries first, then hashes from the lowest.
pub(crate) fn rows(size: u64) -> impl Iterator<Item = Row> {
    let levels = (0..LEVELS).take_while(move |level| size >> (8 * level) > 0);
    std::iter::once(Row::Entries).chain(levels.map(Row::Hashes))
}

/// The files of a row that a log of `old` entries does not have. The size may be a claim: nothing is
/// allocated for it.
pub(crate) fn of_row(row: Row, old: u64, size: u64) -> impl Iterator<Item = Tile> {
    let (old, size) = (old >> row.height(), size >> row.height());
    let indices = if size > old { old / WIDTH..size.div_ceil(WIDTH) } else { 0..0 };
    indices.map(move |index| Tile { row, index, width: (size - index * WIDTH).min(WIDTH) })
}

/// The hashes of a tile.
pub(crate) fn hashes(tree: &Tree, tile: Tile) -> Vec<u8> {
    let height = tile.row.height();
    let nodes = (tile.first()..tile.first() + tile.width).filter_map(|index| tree.node(height, index));
    nodes.flat_map(|node| *node.as_bytes()).collect()
}

/// Reads the hashes of a tile of `width`.
pub(crate) fn read_hashes(bytes: &[u8], width: u64) -> Result<Vec<Digest>, FormatProblem> {
    let (hashes, odd) = bytes.as_chunks::<32>();
    if !odd.is_empty() || hashes.len() as u64 != width {
        return Err(FormatProblem::Malformed { part: "number of hashes" });
    }
    Ok(hashes.iter().copied().map(Digest::new).collect())
}

/// Adds an entry, of [`MAX_ENTRY`] bytes at the most, to a file of entries.
pub(crate) fn push_entry(file: &mut Vec<u8>, entry: &[u8]) {
    let length = u16::try_from(entry.len()).expect("entries are checked against MAX_ENTRY");
    file.extend_from_slice(&length.to_be_bytes());
    file.extend_from_slice(entry);
}

/// Reads the entries of a file of `width`.
pub(crate) fn read_entries(bytes: &[u8], width: u64) -> Result<Vec<&[u8]>, FormatProblem> {
    let (entries, problem) = scan_entries(bytes, width);
    problem.map_or(Ok(entries), Err)
}

/// Reads the entries of a file of `width` as far as possible, and says what stopped it.
pub(crate) fn scan_entries(mut bytes: &[u8], width: u64) -> (Vec<&[u8]>, Option<FormatProblem>) {
    let mut entries = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<2>().filter(|_| (entries.len() as u64) < width)
    {
        let length = usize::from(u16::from_be_bytes(*length));
        let Some((entry, rest)) = rest.split_at_checked(length) else { break };
        entries.push(entry);
        bytes = rest;
    }
    let whole = bytes.is_empty() && entries.len() as u64 == width;
    let problem = (!whole).then_some(FormatProblem::Malformed { part: "number of entries" });
    (entries, problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of the specification.
    #[test]
    fn paths_are_those_of_the_specification() {
        let path = |row, index, width| Tile { row, index, width }.path();
        assert_eq!(path(Row::Hashes(0), 1_234_067, 256), "tile/0/x001/x234/067");
        assert_eq!(path(Row::Entries, 0, 256), "tile/entries/000");
        let last = |size: u64| -> Vec<String> {
            rows(size).filter_map(|row| of_row(row, 0, size).last()).map(|tile| tile.path()).collect()
        };
        let expected = ["tile/entries/273.p/112", "tile/0/273.p/112", "tile/1/001.p/17", "tile/2/000.p/1"];
        assert_eq!(last(70_000), expected);
        assert_eq!(added(0, 70_000).len(), 274 + 274 + 2 + 1);
        assert_eq!(last(256), ["tile/entries/000", "tile/0/000", "tile/1/000.p/1"]);
        assert!(added(5, 5).is_empty() && added(0, 0).is_empty());
        let grown: Vec<String> = added(255, 257).iter().map(Tile::path).collect();
        let expected =
            ["tile/entries/000", "tile/entries/001.p/1", "tile/0/000", "tile/0/001.p/1", "tile/1/000.p/1"];
        assert_eq!(grown, expected);
    }

    #[test]
    fn files_of_entries_are_read_strictly() {
        let mut file = Vec::new();
        for entry in [&b"one"[..], b"", b"three"] {
            push_entry(&mut file, entry);
        }
        assert_eq!(read_entries(&file, 3).unwrap(), [&b"one"[..], b"", b"three"]);
        assert!(read_entries(&file, 2).is_err() && read_entries(&file, 4).is_err());
        for end in 0..file.len() {
            assert!(read_entries(&file[..end], 3).is_err());
        }
        assert_eq!(scan_entries(&file[..6], 3).0, [&b"one"[..]]);
        assert!(read_hashes(&[0; 64], 2).is_ok() && read_hashes(&[0; 64], 3).is_err());
        assert!(read_hashes(&[0; 63], 2).is_err());
    }
}
