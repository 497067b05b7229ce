//! One connection: its task, and what its wire, its service and its handlers know of one another.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;

use super::head::Refusal;
use super::service::Service;
use super::wire::Wire;
use crate::limits::CONNECTION_BUFFER_BYTES_MAX;

/// Serves one connection until the client leaves or the server drains.
///
/// With a refusal the client is told why, and nothing else is served.
pub(crate) async fn serve<S>(socket: S, service: Arc<Service>, refusal: Option<Refusal>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let link = Arc::new(Link::default());
    let metrics = Arc::clone(&service.context.metrics);
    let mut wire = Wire::new(socket, Arc::clone(&link), metrics, service.patience());
    if let Some(refusal) = refusal {
        wire.refuse(refusal);
    }
    let answer = service_fn(|request| {
        let (service, exchange) = (Arc::clone(&service), Exchange::begin(&link));
        async move { Ok::<_, Infallible>(service.answer(exchange, request).await) }
    });
    let mut connection = pin!(builder().serve_connection(TokioIo::new(wire), answer));
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        () = service.context.shutdown.draining() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection broke off");
    }
}

/// Hyper's deadline for a head stays off: the wire has its own, which costs no timer per
/// request. So does flushing per pipeline: it lets the buffer of a response grow without bound
/// while another request waits behind it.
fn builder() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder.header_read_timeout(None).max_buf_size(CONNECTION_BUFFER_BYTES_MAX).writev(false);
    builder
}

/// What the parts of one connection share.
#[derive(Debug, Default)]
pub(crate) struct Link {
    /// Whether a request is being answered.
    busy: AtomicBool,
    /// Whether the client has closed its side.
    hung_up: AtomicBool,
    left: Notify,
    /// Whether a request's body was dropped before its end: the connection cannot be used
    /// for another one.
    unread: AtomicBool,
    /// Requests begun.
    begun: AtomicU64,
    /// The request, counted from 1, whose head was refused and replaced, and why.
    refused: OnceLock<(u64, Refusal)>,
}

impl Link {
    pub(crate) fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Relaxed)
    }

    /// Says that the head of the request of this number was refused. The first refusal stands:
    /// nothing is read after it.
    pub(crate) fn refuse(&self, request: u64, refusal: Refusal) {
        self.refused.get_or_init(|| (request, refusal));
    }

    pub(crate) fn hang_up(&self) {
        self.hung_up.store(true, Ordering::Relaxed);
        self.left.notify_waiters();
    }
}

/// One request and its response; over when this is dropped.
#[derive(Debug)]
pub(crate) struct Exchange {
    link: Arc<Link>,
    /// Which of the connection's requests it is, from 1.
    pub(crate) number: u64,
}

impl Exchange {
    pub(crate) fn begin(link: &Arc<Link>) -> Exchange {
        link.busy.store(true, Ordering::Relaxed);
        let number = link.begun.fetch_add(1, Ordering::Relaxed) + 1;
        Exchange { link: Arc::clone(link), number }
    }

    /// Why the request's head was refused, if it was.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        let (number, refusal) = self.link.refused.get()?;
        (*number == self.number).then_some(*refusal)
    }

    /// Whether the rest of the connection is a body that nobody will read.
    pub(crate) fn is_unread(&self) -> bool {
        self.link.unread.load(Ordering::Relaxed)
    }

    pub(crate) fn hangup(&self) -> Hangup {
        Hangup(Arc::clone(&self.link))
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.link.busy.store(false, Ordering::Relaxed);
    }
}

/// Tells when the client has closed its side of the connection.
#[derive(Clone, Debug, Default)]
pub struct Hangup(Arc<Link>);

impl Hangup {
    /// Says that the rest of the request's body will not be read.
    pub(crate) fn leave_unread(&self) {
        self.0.unread.store(true, Ordering::Relaxed);
    }

    /// Completes when the client has closed its side.
    pub async fn wait(&self) {
        let left = self.0.left.notified();
        // Registered as a waiter before the flag is read: a hang-up in between is not missed.
        let mut left = std::pin::pin!(left);
        left.as_mut().enable();
        if !self.0.hung_up.load(Ordering::Relaxed) {
            left.await;
        }
    }
}

#[cfg(test)]
mod tests;
