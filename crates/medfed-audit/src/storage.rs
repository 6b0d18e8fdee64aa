//! Where a log's files are, without saying how: a folder, a bundle, a server.

/// Files that can be read.
pub trait Source {
    /// How reading fails.
    type Error: std::error::Error + Send + Sync + 'static;

    /// The first `limit` + 1 bytes of a file, or nothing where there is no such file. Paths have `/` between
    /// their parts.
    fn read(&self, path: &str, limit: usize) -> Result<Option<Vec<u8>>, Self::Error>;

    /// The names of the files in a folder, in any order; none where there is no such folder.
    fn list(&self, folder: &str) -> Result<Vec<String>, Self::Error>;
}

/// Files that one process can also write.
pub trait Storage: Source {
    /// Puts a file in place of what is there, if anything. After a crash there is the old file or the new
    /// one, and when this returns `Ok` the new one survives a loss of power.
    fn write(&mut self, path: &str, bytes: &[u8]) -> Result<(), Self::Error>;

    /// Removes a file; that there is none is no failure.
    fn remove(&mut self, path: &str) -> Result<(), Self::Error>;
}

impl<S: Source + ?Sized> Source for &mut S {
    type Error = S::Error;

    fn read(&self, path: &str, limit: usize) -> Result<Option<Vec<u8>>, S::Error> {
        (**self).read(path, limit)
    }

    fn list(&self, folder: &str) -> Result<Vec<String>, S::Error> {
        (**self).list(folder)
    }
}

impl<S: Storage + ?Sized> Storage for &mut S {
    fn write(&mut self, path: &str, bytes: &[u8]) -> Result<(), S::Error> {
        (**self).write(path, bytes)
    }

    fn remove(&mut self, path: &str) -> Result<(), S::Error> {
        (**self).remove(path)
    }
}

#[cfg(test)]
pub(crate) mod memory {
    //! A folder in memory that can stop working after any number of writes.

    use super::{Source, Storage};
    use std::collections::BTreeMap;

    #[derive(Debug, Clone, Default)]
    pub(crate) struct Memory {
        pub(crate) files: BTreeMap<String, Vec<u8>>,
        /// Writes and removals until everything fails.
        pub(crate) life: Option<usize>,
    }

    #[derive(Debug, thiserror::Error)]
    #[error("the machine is off")]
    pub(crate) struct Off;

    impl Memory {
        fn act(&mut self) -> Result<(), Off> {
            match &mut self.life {
                Some(0) => Err(Off),
                Some(left) => {
                    *left -= 1;
                    Ok(())
                }
                None => Ok(()),
            }
        }
    }

    impl Source for Memory {
        type Error = Off;

        fn read(&self, path: &str, limit: usize) -> Result<Option<Vec<u8>>, Off> {
            Ok(self.files.get(path).map(|bytes| bytes[..bytes.len().min(limit + 1)].to_vec()))
        }

        fn list(&self, folder: &str) -> Result<Vec<String>, Off> {
            let inside = |path: &String| path.strip_prefix(folder)?.strip_prefix('/').map(str::to_owned);
            Ok(self.files.keys().filter_map(inside).filter(|name| !name.contains('/')).collect())
        }
    }

    impl Storage for Memory {
        fn write(&mut self, path: &str, bytes: &[u8]) -> Result<(), Off> {
            self.act()?;
            self.files.insert(path.to_owned(), bytes.to_vec());
            Ok(())
        }

        fn remove(&mut self, path: &str) -> Result<(), Off> {
            self.act()?;
            self.files.remove(path);
            Ok(())
        }
    }
}
