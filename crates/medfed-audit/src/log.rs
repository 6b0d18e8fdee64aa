//! Writing a log: entries, tiles, checkpoints, each durable before the next.
//!
//! [`Log::publish`] writes in this order: the entries and hashes that are new; `pending`, a checkpoint with
//! the log's signature alone; then, with the hospitals' signatures, `checkpoints/N` and `checkpoint`; last
//! it removes `pending` and the unfinished tiles that were replaced. A crash at any point leaves a log that
//! verifies up to `checkpoint`. Hospitals sign only what `pending` names, and `pending` names only entries
//! that are durable, so what a hospital has signed is never lost: [`Log::open`] goes on from `pending`.

use crate::checkpoint::{self, Checkpoint, SignedCheckpoint};
use crate::entry::Entry;
use crate::error::{AuditError, FormatProblem};
use crate::merkle::{Digest, Tree};
use crate::note::{KeyName, PublicKey, Signature, Signer};
use crate::storage::{Source, Storage};
use crate::tile::{self, Row, Tile};

/// The newest checkpoint.
pub(crate) const NEWEST: &str = "checkpoint";
/// A checkpoint that hospitals have not signed yet.
pub(crate) const PENDING: &str = "pending";
/// All checkpoints by their number of entries.
pub(crate) const CHECKPOINTS: &str = "checkpoints";

/// The path of the checkpoint of `size` entries.
pub(crate) fn checkpoint_path(size: u64) -> String {
    format!("{CHECKPOINTS}/{size:012}")
}

/// A log that is written.
#[derive(Debug)]
pub struct Log<S> {
    storage: S,
    origin: KeyName,
    tree: Tree,
    /// The entries after the last complete file of entries.
    tail: Vec<u8>,
    /// Complete files of entries that are not written yet.
    complete: Vec<Vec<u8>>,
    /// Entries that are in tiles.
    stored: u64,
    /// Entries of `checkpoint`; nothing before the first.
    published: Option<u64>,
}

/// A checkpoint that hospitals are asked to sign.
#[derive(Debug)]
pub struct Offer<'a> {
    signed: &'a SignedCheckpoint,
    tree: &'a Tree,
}

impl Offer<'_> {
    /// The checkpoint with the log's signature.
    pub fn signed(&self) -> &SignedCheckpoint {
        self.signed
    }

    /// The proof that it continues the first `size` entries; nothing when it has fewer.
    pub fn proof_since(&self, size: u64) -> Option<Vec<Digest>> {
        self.tree.consistency(size, self.tree.len())
    }
}

impl<S: Storage> Log<S> {
    /// Begins a log where there is none.
    pub fn create(storage: S, origin: KeyName) -> Result<Self, AuditError> {
        for path in [NEWEST, PENDING] {
            if read(&storage, path, checkpoint::MAX_BYTES)?.is_some() {
                return Err(AuditError::Exists);
            }
        }
        let (tree, tail, complete) = (Tree::default(), Vec::new(), Vec::new());
        Ok(Self { storage, origin, tree, tail, complete, stored: 0, published: None })
    }

    /// Goes on with a log after checking it, and gives its entries. Entries that no checkpoint names were
    /// never shown to anyone and are left out.
    pub fn open(storage: S, key: &PublicKey) -> Result<(Self, Vec<Entry>), AuditError> {
        let published = read_checkpoint(&storage, NEWEST)?;
        let pending = read_checkpoint(&storage, PENDING)?;
        let size = |signed: &SignedCheckpoint| signed.checkpoint().size;
        let newest = [&published, &pending].into_iter().flatten().max_by_key(|signed| size(signed));
        let newest = newest.ok_or_else(|| AuditError::Missing { path: NEWEST.to_owned() })?;
        if !newest.is_signed_by(key) || newest.checkpoint().origin != *key.name() {
            return Err(AuditError::Unsigned { log: key.name().clone(), size: size(newest) });
        }
        let Checkpoint { size: stored, root, .. } = *newest.checkpoint();
        let mut log = Self {
            storage,
            origin: key.name().clone(),
            tree: Tree::default(),
            tail: Vec::new(),
            complete: Vec::new(),
            stored,
            published: published.as_ref().map(size),
        };
        let mut entries = Vec::new();
        for tile in tile::of_row(Row::Entries, 0, stored) {
            let bytes = log.file(&tile)?;
            for entry in tile::read_entries(&bytes, tile.width)
                .map_err(|problem| AuditError::Malformed { path: tile.path(), problem })?
            {
                let index = log.tree.len();
                log.tree.push(Digest::of_leaf(entry));
                let entry =
                    Entry::decode(entry).map_err(|problem| AuditError::Unreadable { index, problem })?;
                entries.push(entry);
            }
            if tile.width < tile::WIDTH {
                log.tail = bytes;
            }
        }
        let found = log.tree.root();
        if found != root {
            return Err(AuditError::Altered { size: stored, signed: root, found });
        }
        Ok((log, entries))
    }

    /// Adds an entry and gives its number, counted from 0. It is durable after [`Log::publish`].
    pub fn append(&mut self, entry: &Entry) -> Result<u64, AuditError> {
        let bytes = entry.encode().map_err(|problem| AuditError::Unwritable { problem })?;
        let index = self.tree.len();
        self.tree.push(Digest::of_leaf(&bytes));
        tile::push_entry(&mut self.tail, &bytes);
        if self.tree.len().is_multiple_of(tile::WIDTH) {
            self.complete.push(std::mem::take(&mut self.tail));
        }
        Ok(index)
    }

    /// Makes everything appended durable and signed. `cosign` asks the hospitals for their signatures.
    ///
    /// Does nothing where nothing is new. After an error the log is opened again before it goes on.
    pub fn publish(
        &mut self,
        signer: &Signer,
        cosign: impl FnOnce(&Offer<'_>) -> Result<Vec<Signature>, AuditError>,
    ) -> Result<(), AuditError> {
        let size = self.tree.len();
        if self.published == Some(size) {
            return Ok(());
        }
        for tile in tile::added(self.stored, size) {
            let bytes = self.content(tile);
            write(&mut self.storage, &tile.path(), &bytes)?;
        }
        (self.stored, self.complete) = (size, Vec::new());
        let checkpoint = Checkpoint { origin: self.origin.clone(), size, root: self.tree.root() };
        let signed = checkpoint.sign(signer);
        write(&mut self.storage, PENDING, signed.to_text().as_bytes())?;
        let signatures = cosign(&Offer { signed: &signed, tree: &self.tree })?;
        let text = signed.with(signatures).to_text();
        write(&mut self.storage, &checkpoint_path(size), text.as_bytes())?;
        write(&mut self.storage, NEWEST, text.as_bytes())?;
        let before = self.published.replace(size);
        remove(&mut self.storage, PENDING)?;
        for tile in tile::added(0, before.unwrap_or(0)).into_iter().filter(|tile| tile.width < tile::WIDTH) {
            // Its row has grown: a wider file holds what it held.
            if size >> tile.row.height() > tile.first() + tile.width {
                remove(&mut self.storage, &tile.path())?;
            }
        }
        Ok(())
    }

    /// Puts a file beside the log's own.
    pub fn attach(&mut self, path: &str, bytes: &[u8]) -> Result<(), AuditError> {
        write(&mut self.storage, path, bytes)
    }

    /// The bytes of a tile that is about to be written.
    fn content(&self, tile: Tile) -> Vec<u8> {
        if tile.row != Row::Entries {
            return tile::hashes(&self.tree, tile);
        }
        let first = self.stored / tile::WIDTH;
        let complete = self.complete.get((tile.index - first) as usize);
        complete.unwrap_or(&self.tail).clone()
    }

    fn file(&self, tile: &Tile) -> Result<Vec<u8>, AuditError> {
        let path = tile.path();
        read(&self.storage, &path, tile::MAX_ENTRIES)?.ok_or(AuditError::Missing { path })
    }
}

/// Reads a whole file, if it is there.
pub(crate) fn read(source: &impl Source, path: &str, limit: usize) -> Result<Option<Vec<u8>>, AuditError> {
    let bytes = source.read(path, limit).map_err(AuditError::storage)?;
    match bytes {
        Some(bytes) if bytes.len() > limit => {
            let problem = FormatProblem::TooLarge { found: bytes.len() as u64, limit: limit as u64 };
            Err(AuditError::Malformed { path: path.to_owned(), problem })
        }
        bytes => Ok(bytes),
    }
}

fn read_checkpoint(source: &impl Source, path: &str) -> Result<Option<SignedCheckpoint>, AuditError> {
    let malformed = |problem| AuditError::Malformed { path: path.to_owned(), problem };
    let bytes = read(source, path, checkpoint::MAX_BYTES)?;
    bytes.map(|bytes| SignedCheckpoint::parse(&bytes).map_err(malformed)).transpose()
}

fn write(storage: &mut impl Storage, path: &str, bytes: &[u8]) -> Result<(), AuditError> {
    storage.write(path, bytes).map_err(AuditError::storage)
}

fn remove(storage: &mut impl Storage, path: &str) -> Result<(), AuditError> {
    storage.remove(path).map_err(AuditError::storage)
}
