//! The durable side of a run's audit log: its folder, the keys that sign it, and what the hospitals have
//! signed.
//!
//! The log of a run lies in `audit/<run>` of the results directory, as files that anyone may read and copy.
//! The signing keys are in the database, like the other keys, and are overwritten when the run ends: from
//! then on nobody can sign for it. What each hospital signed last stays, and so does the salt of the
//! commitments, by which the operator can show what was committed to.

use crate::error::StoreError;
use crate::files::sync_directory;
use crate::reader::Reader;
use crate::store::{Failed, Store};
use medfed_audit::{Source, Storage};
use medfed_types::{RunId, SecretKey, SiteId};
use rusqlite::OptionalExtension;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use zeroize::Zeroize;

/// The folder of the logs in a results directory.
pub const AUDIT: &str = "audit";
/// What a file is called until it is complete.
const PARTIAL: &str = ".partial";

impl Reader {
    /// The folder of the run's audit log, there or not.
    pub fn audit_folder(&self, run: &RunId) -> AuditFolder {
        AuditFolder::at(self.dir().join(AUDIT).join(run.as_str()))
    }

    /// The checkpoints that the hospitals of a run signed last, each as its text.
    pub fn signed_checkpoints(&self, run: &RunId) -> Result<BTreeMap<SiteId, String>, StoreError> {
        if !self.has_audit_tables()? {
            return Ok(BTreeMap::new());
        }
        let sql = "SELECT site, checkpoint FROM signed_checkpoints WHERE run = ? ORDER BY site";
        let rows =
            self.select(sql, [run.as_str()], |row| Ok((self.parsed(row, 0)?, self.column(row, 1)?)))?;
        Ok(rows.into_iter().collect())
    }

    /// The salt of the commitments in a run's log, while it is there.
    pub fn kept_audit_salt(&self, run: &RunId) -> Result<Option<SecretKey>, StoreError> {
        if !self.has_audit_tables()? {
            return Ok(None);
        }
        let sql = "SELECT secret FROM audit_salts WHERE run = ?";
        let found = self.select(sql, [run.as_str()], |row| self.column::<Vec<u8>>(row, 0))?;
        let key = |bytes: Vec<u8>| <[u8; 32]>::try_from(bytes).ok().map(SecretKey::from_bytes);
        Ok(found.into_iter().next().and_then(key))
    }

    /// Not in a database that nobody has written to since there are audit logs: a reader does not migrate.
    fn has_audit_tables(&self) -> Result<bool, StoreError> {
        let sql = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'signed_checkpoints'";
        Ok(!self.select(sql, (), |_| Ok(()))?.is_empty())
    }
}

impl Store {
    /// The key that signs the log of a run, or with which `site` signs it: the same until the run ends,
    /// from the operating system at first.
    pub fn audit_key(&self, run: &RunId, site: Option<&SiteId>) -> Result<SecretKey, StoreError> {
        // No site has an empty name.
        let owner = site.map_or("", SiteId::as_str);
        self.secret(run, "audit_keys", owner)
    }

    /// The salt of the commitments in a run's log, from the operating system at first.
    pub fn audit_salt(&self, run: &RunId) -> Result<SecretKey, StoreError> {
        self.secret(run, "audit_salts", "")
    }

    /// Keeps the checkpoints that hospitals are about to sign, in place of their last ones, all or none.
    pub fn keep_signed_checkpoints(
        &self,
        run: &RunId,
        signed: &[(SiteId, String)],
    ) -> Result<(), StoreError> {
        self.change(run, |transaction, _| {
            let sql = "INSERT OR REPLACE INTO signed_checkpoints (run, site, checkpoint) VALUES (?, ?, ?)";
            for (site, checkpoint) in signed {
                transaction.execute(sql, (run.as_str(), site.as_str(), checkpoint))?;
            }
            Ok(())
        })
    }

    /// A secret of a run under a name: the same until the run ends, from the operating system at first.
    pub fn run_secret(&self, run: &RunId, name: &str) -> Result<SecretKey, StoreError> {
        self.secret(run, "run_secrets", name)
    }

    /// 32 secret bytes of one of these tables, made when they are first asked for.
    fn secret(&self, run: &RunId, table: &'static str, owner: &str) -> Result<SecretKey, StoreError> {
        self.change(run, |transaction, store| {
            let sql = format!("SELECT secret FROM {table} WHERE run = ? AND owner = ?");
            let kept: Option<Vec<u8>> =
                transaction.query_row(&sql, (run.as_str(), owner), |row| row.get(0)).optional()?;
            if let Some(mut kept) = kept {
                let key = <[u8; 32]>::try_from(kept.as_slice()).map(SecretKey::from_bytes);
                kept.zeroize();
                return key.map_err(|_| {
                    let detail = format!("a secret in {table} does not have 32 bytes");
                    Failed::Store(StoreError::Corrupt { path: store.path.clone(), detail })
                });
            }
            let key = SecretKey::generate().map_err(StoreError::from)?;
            let sql = format!("INSERT INTO {table} (run, owner, secret) VALUES (?, ?, ?)");
            transaction.execute(&sql, (run.as_str(), owner, key.expose()))?;
            Ok(key)
        })
    }
}

/// The files of an audit log.
#[derive(Debug, Clone)]
pub struct AuditFolder {
    dir: PathBuf,
}

impl AuditFolder {
    /// The log in a folder, there or not.
    pub fn at(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Makes a folder and makes its name durable in the one above it, and so on upwards.
    fn make(dir: &Path) -> Result<(), StoreError> {
        if dir.is_dir() {
            return Ok(());
        }
        let above = dir.parent().filter(|above| !above.as_os_str().is_empty());
        if let Some(above) = above {
            Self::make(above)?;
        }
        match fs::create_dir(dir) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(StoreError::io(dir, error)),
            _ => sync_directory(above.unwrap_or(Path::new("."))),
        }
    }
}

impl Source for AuditFolder {
    type Error = StoreError;

    fn read(&self, path: &str, limit: usize) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.dir.join(path);
        let mut bytes = Vec::new();
        let read = File::open(&path).and_then(|file| file.take(limit as u64 + 1).read_to_end(&mut bytes));
        match read {
            Ok(_) => Ok(Some(bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::io(&path, error)),
        }
    }

    fn list(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        let path = self.dir.join(folder);
        let failed = |error| StoreError::io(&path, error);
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let name = entry.map_err(failed)?.file_name();
            // What a crash left half written is no file of the log.
            let name = name.to_str().filter(|name| !name.ends_with(PARTIAL));
            names.extend(name.map(str::to_owned));
        }
        Ok(names)
    }
}

impl Storage for AuditFolder {
    fn write(&mut self, path: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let path = self.dir.join(path);
        let folder = path.parent().unwrap_or(&self.dir);
        Self::make(folder)?;
        let mut temporary = path.clone().into_os_string();
        temporary.push(PARTIAL);
        let written = File::create(&temporary)
            .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
            .and_then(|()| fs::rename(&temporary, &path));
        if let Err(error) = written {
            // Best effort: a file of this name is never read.
            let _ = fs::remove_file(&temporary);
            return Err(StoreError::io(&path, error));
        }
        sync_directory(folder)
    }

    fn remove(&mut self, path: &str) -> Result<(), StoreError> {
        let path = self.dir.join(path);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(StoreError::io(&path, error)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{RunRecord, RunStatus, Timestamp};
    use serde_json::json;

    fn run() -> RunId {
        RunId::try_from("run").unwrap()
    }

    fn store(dir: &Path) -> Store {
        let store = Store::open(dir).unwrap();
        let (name, seed) = (String::new(), medfed_types::Seed(1));
        let record = RunRecord { id: run(), name, created: Timestamp(0), config: json!({}), seed };
        store.create_run(&record).unwrap();
        store
    }

    #[test]
    fn keys_stay_until_the_run_ends_and_are_overwritten_then() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        let site = SiteId::try_from("North").unwrap();
        let log = *store.audit_key(&run(), None).unwrap().expose();
        let north = *store.audit_key(&run(), Some(&site)).unwrap().expose();
        let salt = *store.audit_salt(&run()).unwrap().expose();
        assert!(log != north && north != salt && salt != log);
        assert_eq!(store.audit_key(&run(), None).unwrap().expose(), &log);
        for text in ["one", "two"] {
            store.keep_signed_checkpoints(&run(), &[(site.clone(), text.to_owned())]).unwrap();
        }
        let database = || fs::read(dir.path().join("medfed.sqlite")).unwrap();
        let holds = |secret: &[u8; 32]| database().windows(32).any(|window| window == secret);
        store.finish_run(&run(), RunStatus::Completed, Timestamp(1), &json!({})).unwrap();
        assert!(!holds(&log) && !holds(&north) && holds(&salt));
        assert!(matches!(store.audit_key(&run(), None), Err(StoreError::Ended { .. })));
        assert_eq!(store.signed_checkpoints(&run()).unwrap(), BTreeMap::from([(site, "two".to_owned())]));
    }

    #[test]
    fn files_are_replaced_whole_and_listed_without_leftovers() {
        let dir = tempfile::tempdir().unwrap();
        let mut folder = AuditFolder::at(dir.path().join("a/b"));
        assert!(folder.read("x", 10).unwrap().is_none() && folder.list("tile").unwrap().is_empty());
        folder.write("tile/0/000", b"one").unwrap();
        folder.write("tile/0/000", b"three").unwrap();
        fs::write(folder.dir().join("tile/0/001.partial"), b"half").unwrap();
        assert_eq!(folder.read("tile/0/000", 10).unwrap().unwrap(), b"three");
        assert_eq!(folder.read("tile/0/000", 2).unwrap().unwrap(), b"thr");
        assert_eq!(folder.list("tile/0").unwrap(), ["000"]);
        folder.remove("tile/0/000").unwrap();
        folder.remove("tile/0/000").unwrap();
        assert!(folder.read("tile/0/000", 10).unwrap().is_none());
    }
}
