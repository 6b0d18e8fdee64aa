//! Files named by the SHA-256 of their content: written whole or not at all, checked when read.

use crate::error::StoreError;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::HashSet;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

/// SHA-256 of a stored file; 64 hexadecimal digits as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ModelHash([u8; 32]);

impl ModelHash {
    /// The hash of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The digest.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl std::fmt::Display for ModelHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Text that is not 64 lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a model hash is 64 lower-case hexadecimal digits, not {found:?}")]
pub struct ModelHashError {
    /// The text.
    pub found: String,
}

impl TryFrom<String> for ModelHash {
    type Error = ModelHashError;
    fn try_from(text: String) -> Result<Self, ModelHashError> {
        let digit = |byte: u8| char::from(byte).to_digit(16).filter(|_| !byte.is_ascii_uppercase());
        let mut hash = [0; 32];
        let well_formed = text.len() == 64
            && hash.iter_mut().zip(text.as_bytes().as_chunks().0).all(|(byte, [high, low])| {
                digit(*high).zip(digit(*low)).map(|(high, low)| *byte = (high << 4 | low) as u8).is_some()
            });
        if well_formed { Ok(Self(hash)) } else { Err(ModelHashError { found: text }) }
    }
}

impl From<ModelHash> for String {
    fn from(hash: ModelHash) -> String {
        hash.to_string()
    }
}

/// A directory of content-addressed files.
#[derive(Debug)]
pub(crate) struct Files {
    dir: PathBuf,
    extension: &'static str,
}

impl Files {
    pub(crate) fn models(results: &Path) -> Self {
        Self { dir: results.join("models"), extension: ".safetensors" }
    }

    pub(crate) fn blobs(results: &Path) -> Self {
        Self { dir: results.join("blobs"), extension: "" }
    }

    pub(crate) fn path(&self, hash: ModelHash) -> PathBuf {
        self.dir.join(format!("{hash}{}", self.extension))
    }

    /// Stores `bytes` durably. Only the holder of the directory's lock calls this, one at a time.
    pub(crate) fn put(&self, bytes: &[u8]) -> Result<ModelHash, StoreError> {
        let hash = ModelHash::of(bytes);
        let path = self.path(hash);
        // A file under its final name was complete when it got the name.
        if fs::metadata(&path).is_ok_and(|found| found.len() == bytes.len() as u64) {
            return Ok(hash);
        }
        fs::create_dir_all(&self.dir).map_err(|error| StoreError::io(&self.dir, error))?;
        let temporary = self.dir.join(format!("{hash}.partial"));
        let written = File::create(&temporary)
            .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
            .and_then(|()| fs::rename(&temporary, &path));
        if let Err(error) = written {
            // Best effort: whatever stays is removed when the store is opened next.
            let _ = fs::remove_file(&temporary);
            return Err(StoreError::io(&path, error));
        }
        sync_directory(&self.dir)?;
        Ok(hash)
    }

    /// Reads a file and checks its content; `None` when it is not there.
    pub(crate) fn get(&self, hash: ModelHash) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.path(hash);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StoreError::io(&path, error)),
        };
        let found = ModelHash::of(&bytes);
        if found == hash { Ok(Some(bytes)) } else { Err(StoreError::Damaged { path, found }) }
    }

    /// Removes every file that `keep` does not name.
    pub(crate) fn sweep(&self, keep: &HashSet<String>) -> Result<(), StoreError> {
        let failed = |error| StoreError::io(&self.dir, error);
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(failed(error)),
        };
        for entry in entries {
            let name = entry.map_err(failed)?.file_name();
            // Files of other names are not ours to remove.
            let Some(name) = name.to_str() else { continue };
            let stem = name.strip_suffix(".partial").or_else(|| name.strip_suffix(self.extension));
            let ours = stem.is_some_and(|stem| ModelHash::try_from(stem.to_owned()).is_ok());
            if ours && (name.ends_with(".partial") || !stem.is_some_and(|stem| keep.contains(stem))) {
                let path = self.dir.join(name);
                fs::remove_file(&path).map_err(|error| StoreError::io(&path, error))?;
            }
        }
        Ok(())
    }
}

/// Makes the directory's entries durable.
pub(crate) fn sync_directory(dir: &Path) -> Result<(), StoreError> {
    if cfg!(unix) {
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(|error| StoreError::io(dir, error))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_read_strictly() {
        let hash = ModelHash::of(b"abc");
        assert_eq!(hash.to_string(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(ModelHash::try_from(hash.to_string()), Ok(hash));
        for bad in ["", "ba", &hash.to_string().to_uppercase(), &"zz".repeat(32), &"é".repeat(32)] {
            assert!(ModelHash::try_from((*bad).to_owned()).is_err(), "{bad}");
        }
    }

    #[test]
    fn files_come_back_whole_or_are_reported() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::models(dir.path());
        let hash = files.put(b"weights").unwrap();
        assert_eq!(files.put(b"weights").unwrap(), hash);
        assert_eq!(files.get(hash).unwrap().unwrap(), b"weights");
        assert!(files.get(ModelHash::of(b"other")).unwrap().is_none());
        fs::write(files.path(hash), b"w_ights").unwrap();
        assert!(matches!(files.get(hash), Err(StoreError::Damaged { .. })));
    }

    #[test]
    fn a_sweep_leaves_what_is_kept_and_what_is_foreign() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::models(dir.path());
        let (kept, lost) = (files.put(b"1").unwrap(), files.put(b"2").unwrap());
        let partial = dir.path().join("models").join(format!("{kept}.partial"));
        let foreign = dir.path().join("models/notes.txt");
        for path in [&partial, &foreign] {
            fs::write(path, "x").unwrap();
        }
        files.sweep(&HashSet::from([kept.to_string()])).unwrap();
        assert!(files.path(kept).exists() && foreign.exists());
        assert!(!files.path(lost).exists() && !partial.exists());
    }
}
