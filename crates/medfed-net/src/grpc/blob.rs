//! The name of a blob: its SHA-256 and its length.

use crate::certificate::hex;
use crate::problem::LinkProblem;
use crate::wire;
use bytes::Bytes;
use sha2::{Digest as _, Sha256};

/// A blob by its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct BlobName {
    pub(super) sha256: [u8; 32],
    pub(super) length: u64,
}

impl BlobName {
    /// Of a content.
    pub(super) fn of(content: &[u8]) -> Self {
        Self { sha256: Sha256::digest(content).into(), length: content.len() as u64 }
    }

    /// Reads the name that a peer sent; a blob is larger than a frame and not larger than `largest`.
    pub(super) fn read(blob: &wire::Blob, largest: u64) -> Result<Self, LinkProblem> {
        let wrong = |detail: &str| LinkProblem::Protocol { detail: detail.to_owned() };
        let sha256 = blob.sha256.as_ref().try_into().map_err(|_| wrong("a SHA-256 has 32 bytes"))?;
        if blob.length > largest {
            return Err(LinkProblem::TooLarge { bytes: blob.length, largest });
        }
        if blob.length <= super::INLINE as u64 {
            return Err(wrong("a blob fits into a frame"));
        }
        Ok(Self { sha256, length: blob.length })
    }

    /// As a peer reads it.
    pub(super) fn wire(&self) -> wire::Blob {
        wire::Blob { sha256: Bytes::copy_from_slice(&self.sha256), length: self.length }
    }

    /// Name of its file.
    pub(super) fn file(&self) -> String {
        hex(&self.sha256)
    }
}

/// The chunks of a blob from an offset on; they share the content's memory.
pub(super) fn chunks(name: BlobName, content: Bytes, offset: u64) -> impl Iterator<Item = wire::BlobChunk> {
    let first = offset as usize;
    (first..content.len()).step_by(super::CHUNK).map(move |at| wire::BlobChunk {
        begin: (at == first).then(|| wire::BlobRange { blob: Some(name.wire()), offset }),
        data: content.slice(at..content.len().min(at + super::CHUNK)),
    })
}
