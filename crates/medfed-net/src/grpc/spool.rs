//! Blobs on their way in, as files: what has arrived stays there when a connection breaks, or the process.
//!
//! `SHA256.part` grows; when it has its length and its SHA-256, it becomes `SHA256.whole`. A folder never holds
//! more bytes than its quota; the oldest files that nobody needs make room.

use super::blob::BlobName;
use crate::problem::LinkProblem;
use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use tokio::fs::{self, File, OpenOptions};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _};

/// The blobs of one peer.
#[derive(Debug, Clone)]
pub(super) struct Spool {
    folder: PathBuf,
    quota: u64,
}

/// A blob that is arriving.
#[derive(Debug)]
pub(super) struct Part {
    name: BlobName,
    file: File,
    at: u64,
    growing: PathBuf,
    whole: PathBuf,
}

impl Spool {
    /// Blobs in `folder`, of `quota` bytes together.
    pub(super) fn new(folder: PathBuf, quota: u64) -> Self {
        Self { folder, quota }
    }

    /// Bytes of a blob that have arrived.
    pub(super) async fn present(&self, name: &BlobName) -> Result<u64, LinkProblem> {
        if length(&self.whole(name)).await? == Some(name.length) {
            return Ok(name.length);
        }
        match length(&self.part(name)).await? {
            // The last byte was written, but the content was not checked: the last chunk comes again.
            Some(present) if present >= name.length => {
                fs::remove_file(self.part(name)).await.map_err(|error| storage(&error))?;
                Ok(0)
            }
            present => Ok(present.unwrap_or(0)),
        }
    }

    /// Goes on with a blob at `offset`, which must be what is present. The files in `needed` stay.
    pub(super) async fn begin(
        &self,
        name: BlobName,
        offset: u64,
        needed: &BTreeSet<BlobName>,
    ) -> Result<Part, LinkProblem> {
        private(&self.folder).await.map_err(|error| storage(&error))?;
        let present = self.present(&name).await?;
        if present != offset || present == name.length {
            return Err(LinkProblem::Protocol {
                detail: format!("{present} bytes of the blob are here, it goes on at {offset}"),
            });
        }
        self.make_room(&name, needed).await?;
        let part = self.part(&name);
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true);
        #[cfg(unix)]
        options.mode(0o600);
        let opened = async {
            let mut file = options.open(&part).await?;
            file.seek(io::SeekFrom::Start(offset)).await?;
            Ok::<_, io::Error>(file)
        };
        let file = opened.await.map_err(|error| storage(&error))?;
        let whole = self.whole(&name);
        Ok(Part { name, file, at: offset, growing: part, whole })
    }

    /// The content of a blob that is whole.
    pub(super) async fn read(&self, name: &BlobName) -> Result<Bytes, LinkProblem> {
        let read = async {
            let file = File::open(self.whole(name)).await?;
            let mut content = Vec::new();
            file.take(name.length).read_to_end(&mut content).await?;
            Ok::<_, io::Error>(content)
        };
        let content = read.await.map_err(|error| storage(&error))?;
        if content.len() as u64 == name.length {
            Ok(content.into())
        } else {
            Err(LinkProblem::Storage { detail: "a file of the spool was cut".to_owned() })
        }
    }

    /// Whether a blob is whole.
    pub(super) async fn has(&self, name: &BlobName) -> Result<bool, LinkProblem> {
        Ok(length(&self.whole(name)).await? == Some(name.length))
    }

    /// Removes files, the oldest first, until `name` fits.
    async fn make_room(&self, name: &BlobName, needed: &BTreeSet<BlobName>) -> Result<(), LinkProblem> {
        let kept: BTreeSet<String> = needed.iter().chain([name]).map(BlobName::file).collect();
        let listed = async {
            let mut files = Vec::new();
            let mut folder = fs::read_dir(&self.folder).await?;
            while let Some(entry) = folder.next_entry().await? {
                let metadata = entry.metadata().await?;
                files.push((metadata.modified()?, metadata.len(), entry.path()));
            }
            Ok::<_, io::Error>(files)
        };
        let mut files = listed.await.map_err(|error| storage(&error))?;
        files.sort();
        let stem = |path: &Path| path.file_stem().and_then(|it| it.to_str()).unwrap_or_default().to_owned();
        files.retain(|(_, _, path)| stem(path) != name.file());
        let mut used: u64 = files.iter().map(|(_, length, _)| length).sum();
        for (_, length, path) in files {
            if used.saturating_add(name.length) <= self.quota {
                break;
            }
            if !kept.contains(&stem(&path)) {
                fs::remove_file(&path).await.map_err(|error| storage(&error))?;
                used -= length;
            }
        }
        let bytes = used.saturating_add(name.length);
        if bytes > self.quota { Err(LinkProblem::TooLarge { bytes, largest: self.quota }) } else { Ok(()) }
    }

    fn part(&self, name: &BlobName) -> PathBuf {
        self.folder.join(name.file() + ".part")
    }

    fn whole(&self, name: &BlobName) -> PathBuf {
        self.folder.join(name.file() + ".whole")
    }
}

impl Part {
    /// Adds a chunk.
    pub(super) async fn add(&mut self, data: &[u8]) -> Result<(), LinkProblem> {
        let wrong = |detail: &str| LinkProblem::Protocol { detail: detail.to_owned() };
        if data.is_empty() || data.len() > super::CHUNK {
            return Err(wrong("a chunk has 1 byte to 1 MiB"));
        }
        if data.len() as u64 > self.name.length - self.at {
            return Err(wrong("a blob is longer than announced"));
        }
        let written = async {
            self.file.write_all(data).await?;
            // Whoever asks what is present reads the length of the file.
            self.file.flush().await
        };
        written.await.map_err(|error| storage(&error))?;
        self.at += data.len() as u64;
        Ok(())
    }

    /// Ends the arrival: whole and as announced, or still a part. Tells how much is present.
    pub(super) async fn end(self) -> Result<u64, LinkProblem> {
        let Self { name, file, at, growing, whole } = self;
        if at < name.length {
            return Ok(at);
        }
        drop(file);
        if sha256(&growing).await.map_err(|error| storage(&error))? != name.sha256 {
            fs::remove_file(&growing).await.map_err(|error| storage(&error))?;
            return Err(LinkProblem::Protocol { detail: "a blob is not what was announced".to_owned() });
        }
        fs::rename(&growing, &whole).await.map_err(|error| storage(&error))?;
        Ok(at)
    }
}

async fn sha256(path: &Path) -> io::Result<[u8; 32]> {
    let mut file = File::open(path).await?;
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; 256 << 10]);
    loop {
        match file.read(&mut buffer).await? {
            0 => return Ok(hash.finalize().into()),
            read => hash.update(&buffer[..read]),
        }
    }
}

async fn length(path: &Path) -> Result<Option<u64>, LinkProblem> {
    match fs::metadata(path).await {
        Ok(metadata) => Ok(Some(metadata.len())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(storage(&error)),
    }
}

/// Makes a folder for its owner alone.
pub(super) async fn private(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    builder.mode(0o700);
    builder.create(folder).await
}

fn storage(error: &io::Error) -> LinkProblem {
    LinkProblem::Storage { detail: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    #[test]
    fn a_blob_goes_on_where_it_was_cut_and_is_checked() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::new(folder.path().join("in"), 1 << 20);
        let content: Vec<u8> = (0..200_000_u32).map(|it| it as u8).collect();
        let name = BlobName::of(&content);
        run(async {
            let none = BTreeSet::new();
            assert_eq!(spool.present(&name).await, Ok(0));
            let mut part = spool.begin(name, 0, &none).await.unwrap();
            part.add(&content[..70_000]).await.unwrap();
            assert_eq!(part.end().await, Ok(70_000));
            assert_eq!(spool.present(&name).await, Ok(70_000));
            assert!(matches!(spool.begin(name, 0, &none).await, Err(LinkProblem::Protocol { .. })));
            let mut part = spool.begin(name, 70_000, &none).await.unwrap();
            assert!(matches!(part.add(&[]).await, Err(LinkProblem::Protocol { .. })));
            part.add(&content[70_000..]).await.unwrap();
            assert!(matches!(part.add(&[1]).await, Err(LinkProblem::Protocol { .. })));
            assert_eq!(part.end().await, Ok(200_000));
            assert_eq!(spool.read(&name).await.as_deref(), Ok(&content[..]));
            assert_eq!(spool.present(&name).await, Ok(200_000));
        });
    }

    #[test]
    fn another_content_is_refused_and_begins_anew() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::new(folder.path().to_owned(), 1 << 20);
        let name = BlobName { sha256: [1; 32], length: 70_000 };
        run(async {
            let mut part = spool.begin(name, 0, &BTreeSet::new()).await.unwrap();
            part.add(&vec![0; 70_000]).await.unwrap();
            assert!(matches!(part.end().await, Err(LinkProblem::Protocol { .. })));
            assert_eq!(spool.present(&name).await, Ok(0));
        });
    }

    #[test]
    fn the_quota_holds_and_what_is_needed_stays() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::new(folder.path().to_owned(), 250_000);
        let contents: Vec<Vec<u8>> = (0..3).map(|it| vec![it; 100_000]).collect();
        let names: Vec<BlobName> = contents.iter().map(|it| BlobName::of(it)).collect();
        run(async {
            for (name, content) in names.iter().zip(&contents).take(2) {
                let mut part = spool.begin(*name, 0, &BTreeSet::new()).await.unwrap();
                part.add(content).await.unwrap();
                part.end().await.unwrap();
            }
            let both: BTreeSet<BlobName> = names[..2].iter().copied().collect();
            let full = spool.begin(names[2], 0, &both).await.map(drop);
            assert_eq!(full, Err(LinkProblem::TooLarge { bytes: 300_000, largest: 250_000 }));
            let first: BTreeSet<BlobName> = names[..1].iter().copied().collect();
            spool.begin(names[2], 0, &first).await.map(drop).unwrap();
            assert_eq!(spool.has(&names[0]).await, Ok(true));
            assert_eq!(spool.has(&names[1]).await, Ok(false));
        });
    }
}
