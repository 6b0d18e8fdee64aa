//! A TLS connection that remembers why it broke, and that can be cut from outside.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// The first fault of a connection. HTTP/2 keeps no cause, so it is remembered here.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fault(Arc<Mutex<Option<Cause>>>);

#[derive(Debug, Clone)]
pub(crate) enum Cause {
    /// TLS itself, for one an alert of the other side.
    Tls(rustls::Error),
    /// The connection below it.
    Io(String),
}

impl Fault {
    /// What it was.
    pub(crate) fn cause(&self) -> Option<Cause> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, error: &io::Error) {
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        let cause = tls.map_or_else(|| Cause::Io(error.to_string()), |tls| Cause::Tls(tls.clone()));
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(cause);
    }
}

/// A stream that notes its first fault and ends when `cut` is cancelled.
#[derive(Debug)]
pub(crate) struct Watched<S> {
    inner: S,
    fault: Fault,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl<S> Watched<S> {
    pub(crate) fn new(inner: S, fault: Fault, cut: CancellationToken) -> Self {
        Self { inner, fault, cut: Box::pin(cut.cancelled_owned()) }
    }

    fn poll_cut(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.cut.as_mut().poll(context) {
            Poll::Ready(()) => {
                Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the connection was cut"))
            }
            Poll::Pending => Ok(()),
        }
    }

    fn noted<T>(&self, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if let Poll::Ready(Err(error)) = &polled {
            self.fault.note(error);
        }
        polled
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_cut(context)?;
        let polled = Pin::new(&mut self.inner).poll_read(context, buffer);
        self.noted(polled)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_cut(context)?;
        let polled = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.noted(polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.inner).poll_flush(context);
        self.noted(polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}
