//! What arrives from one site: one blob at a time, a newer attempt in place of an older one.

use super::blob::BlobName;
use super::spool::Spool;
use crate::problem::LinkProblem;
use bytes::Bytes;
use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::{Mutex as Turn, MutexGuard as TurnGuard, Notify};
use tokio_util::sync::CancellationToken;

/// What arrives from one site.
#[derive(Debug)]
pub(super) struct Uploads {
    spool: Spool,
    /// Whoever writes has the turn.
    turn: Turn<()>,
    /// Ends the attempt that has it.
    newest: Mutex<CancellationToken>,
    /// Whole blobs whose message was not taken yet.
    waiting: Mutex<BTreeSet<BlobName>>,
    taken: Notify,
}

impl Uploads {
    pub(super) fn new(spool: Spool) -> Self {
        Self {
            spool,
            turn: Turn::default(),
            newest: Mutex::default(),
            waiting: Mutex::default(),
            taken: Notify::new(),
        }
    }

    /// Ends an older attempt and takes its turn; the token tells when a newer one comes.
    pub(super) async fn turn(&self) -> (TurnGuard<'_, ()>, CancellationToken) {
        let token = CancellationToken::new();
        std::mem::replace(&mut *locked(&self.newest), token.clone()).cancel();
        (self.turn.lock().await, token)
    }

    /// The files.
    pub(super) fn spool(&self) -> &Spool {
        &self.spool
    }

    /// Blobs that must stay. Waits until at most one is: the next one has to fit beside them.
    pub(super) async fn needed(&self) -> BTreeSet<BlobName> {
        loop {
            let taken = self.taken.notified();
            let waiting = locked(&self.waiting).clone();
            if waiting.len() <= 1 {
                return waiting;
            }
            taken.await;
        }
    }

    /// A message of the session is this blob; false when it is not whole.
    pub(super) async fn announce(&self, name: BlobName) -> Result<bool, LinkProblem> {
        let whole = self.spool.has(&name).await?;
        if whole {
            locked(&self.waiting).insert(name);
        }
        Ok(whole)
    }

    /// Reads an announced blob; from now on its file may make room for others. It stays until then, so a site
    /// that sends the same message again sends no content again.
    pub(super) async fn take(&self, name: &BlobName) -> Result<Bytes, LinkProblem> {
        let content = self.spool.read(name).await;
        locked(&self.waiting).remove(name);
        self.taken.notify_waiters();
        content
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing in here is left half done by a panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
