//! A TCP relay that makes a good link bad: delay, little bandwidth, cuts in mid-chunk, silence.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// What is wrong with the link, and what went over it.
#[derive(Debug, Default)]
pub(crate) struct Link {
    /// Added to every byte's way, in milliseconds.
    pub(crate) delay_ms: AtomicU64,
    /// Bytes in a second each way; 0 for no limit.
    pub(crate) bandwidth: AtomicU64,
    /// Bytes each way after which a connection is cut; 0 for never.
    pub(crate) cut_after: AtomicU64,
    /// Whether bytes are swallowed.
    pub(crate) silent: AtomicBool,
    /// Bytes that went from the site to the coordinator.
    pub(crate) up: AtomicU64,
    /// Bytes that went from the coordinator to the site.
    pub(crate) down: AtomicU64,
    /// Connections.
    pub(crate) connections: AtomicU64,
    cut: Notify,
}

impl Link {
    /// Cuts every connection that is open now.
    pub(crate) fn cut(&self) {
        self.cut.notify_waiters();
    }
}

/// Relays to `to` until the runtime ends.
pub(crate) async fn relay(to: SocketAddr) -> (SocketAddr, Arc<Link>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let link = Arc::new(Link::default());
    let shared = link.clone();
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let link = shared.clone();
            tokio::spawn(async move {
                let Ok(far) = TcpStream::connect(to).await else { return };
                link.connections.fetch_add(1, Ordering::Relaxed);
                let (near_read, near_write) = near.into_split();
                let (far_read, far_write) = far.into_split();
                tokio::select! {
                    () = carry(near_read, far_write, &link, &link.up) => {}
                    () = carry(far_read, near_write, &link, &link.down) => {}
                    () = link.cut.notified() => {}
                }
            });
        }
    });
    (address, link)
}

async fn carry(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    link: &Link,
    counted: &AtomicU64,
) {
    let mut buffer = vec![0; 16 << 10];
    let (mut carried, mut free) = (0_u64, Instant::now());
    loop {
        let Ok(read @ 1..) = from.read(&mut buffer).await else { return };
        let limit = link.cut_after.load(Ordering::Relaxed);
        if limit > 0 && carried + read as u64 > limit {
            return;
        }
        carried += read as u64;
        let bandwidth = link.bandwidth.load(Ordering::Relaxed);
        let sending = Duration::from_nanos((read as u64 * 1_000_000_000).checked_div(bandwidth).unwrap_or(0));
        free = free.max(Instant::now()) + sending;
        sleep_until(free + Duration::from_millis(link.delay_ms.load(Ordering::Relaxed))).await;
        if link.silent.load(Ordering::Relaxed) {
            continue;
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
        counted.fetch_add(read as u64, Ordering::Relaxed);
    }
}
