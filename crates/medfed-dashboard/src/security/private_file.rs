//! Files that nobody but their owner may read: password hashes and the key of the certificate.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

/// Largest file that is read.
const LARGEST: u64 = 1 << 20;

/// Why a private file cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PrivateFileError {
    /// Reading or writing failed.
    #[error("{} cannot be {action}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// `read`, `written` or `locked`.
        action: &'static str,
        /// Why.
        source: io::Error,
    },
    /// Others can read it or write to it.
    #[error("{} can be read by others (mode {mode:03o}): it needs mode 600", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It is larger than such a file can be.
    #[error("{} is larger than {LARGEST} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
}

/// Reads a file that only its owner may read; nothing where there is none.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, PrivateFileError> {
    let failed = |source| PrivateFileError::Io { path: path.to_owned(), action: "read", source };
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(failed)?,
    };
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(PrivateFileError::Open { path: path.to_owned(), mode });
        }
    }
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > LARGEST {
        return Err(PrivateFileError::TooLarge { path: path.to_owned() });
    }
    Ok(Some(bytes))
}

/// Waits until nobody else changes a file, and keeps others from it until the result is dropped. Its folder
/// is made where it is missing.
pub(super) fn lock(path: &Path) -> Result<File, PrivateFileError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".lock");
    let lock = path.with_file_name(name);
    let failed = |source| PrivateFileError::Io { path: lock.clone(), action: "locked", source };
    make_folder_of(path).map_err(failed)?;
    let mut options = OpenOptions::new();
    // Not removed afterwards: somebody may be waiting for this very file.
    options.write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(&lock).map_err(failed)?;
    file.lock().map_err(failed)?;
    Ok(file)
}

fn make_folder_of(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder.map_or(Ok(()), fs::create_dir_all)
}

/// Replaces a file in one step; only its owner may read it. Its folder is made where it is missing.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), PrivateFileError> {
    let failed = |source| PrivateFileError::Io { path: path.to_owned(), action: "written", source };
    make_folder_of(path).map_err(failed)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let beside = path.with_file_name(name);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written = options.open(&beside).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    let replaced = written.and_then(|()| fs::rename(&beside, path));
    if replaced.is_err() {
        // What is left of a failed attempt would stand in the way of the next one.
        let _ = fs::remove_file(&beside);
    }
    replaced.map_err(failed)
}
