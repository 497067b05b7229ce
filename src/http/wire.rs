//! The bytes of one connection, between the socket and hyper.
//!
//! Hyper gets to see whole, vetted heads only, so it never has a reason to answer by itself:
//!
//! ```text
//! socket ──► inbox ──► vet each head ──► hyper
//!                        └─ refused ──► a harmless head in its place; the service, told by
//!                                       the [`Link`], answers that one with the problem
//! ```
//!
//! In this way a refusal takes the same road as every other response: after the responses of
//! the requests in front of it, with a request id, counted and logged.
//!
//! All deadlines of a connection but that of a body (see [`super::request::BodyReader`]) are
//! kept here, with one timer: for a head to arrive, for an idle connection, for a client that
//! does not read, and for lingering: a connection closed with unread bytes in it is reset, and
//! the client may lose the response that says why. So what a refused client still sends is
//! read and dropped for a while.
//!
//! A client that closes its side still gets its answer: hyper hears of it only when no request
//! is under way. Handlers that want to know sooner ask the [`Link`].

mod alarm;
mod inbox;
mod outflow;

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use alarm::Alarm;
use inbox::Inbox;
use outflow::Outflow;

use super::chunks::{Chunks, Found};
use super::connection::Link;
use super::head::{Framing, Refusal, Vetted, vet};
use crate::limits::HEAD_BYTES_MAX;
use crate::metrics::Metrics;

/// How long the wire waits for what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// For a head, from its first byte or the connection's begin.
    pub(crate) head: Duration,
    /// For the next request.
    pub(crate) keep_alive: Duration,
    /// For a client to read on: each single wait, and all waits of a response together beyond
    /// what its bytes so far take at the minimum rate.
    pub(crate) write: Duration,
    /// For a refused client to fall silent.
    pub(crate) linger: Duration,
}

/// One connection's socket with all that is known of its bytes.
pub(crate) struct Wire<S> {
    socket: S,
    link: Arc<Link>,
    metrics: Arc<Metrics>,
    patience: Patience,
    inbox: Inbox,
    stage: Stage,
    /// Heads passed on to hyper so far.
    heads: u64,
    /// Whether the client has closed its side.
    is_ended: bool,
    /// Since when the client owes us a head, or nothing at all has happened.
    quiet_since: Option<Instant>,
    /// How the client takes what it is sent.
    outflow: Outflow,
    /// Since when the closing connection is read empty.
    lingering_since: Option<Instant>,
    alarm: Alarm,
}

/// What the next unseen byte belongs to.
enum Stage {
    /// A head. `seen` bytes of it were found to be incomplete.
    Head { seen: usize },
    /// A body of which so many bytes are unseen.
    Body(u64),
    /// A chunked body.
    Chunked(Chunks),
    /// A body whose end cannot be found; hyper will close after it.
    Broken,
    /// Nothing: a head was refused, and nothing is read after it.
    Refused,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub(crate) fn new(
        socket: S,
        link: Arc<Link>,
        metrics: Arc<Metrics>,
        patience: Patience,
    ) -> Wire<S> {
        let now = Instant::now();
        Wire {
            socket,
            link,
            metrics,
            patience,
            inbox: Inbox::new(),
            stage: Stage::Head { seen: 0 },
            heads: 0,
            is_ended: false,
            quiet_since: Some(now),
            outflow: Outflow::default(),
            lingering_since: None,
            alarm: Alarm::new(now + patience.head),
        }
    }

    /// Refuses the connection before anything is read.
    pub(crate) fn refuse(&mut self, refusal: Refusal) {
        self.link.refuse(self.heads + 1, refusal);
        self.heads += 1;
        // A client that asked for no body must not be sent one.
        let method = if self.inbox.unseen().starts_with(b"HEAD ") { "HEAD" } else { "GET" };
        self.inbox.replace_unseen(method.as_bytes());
        self.inbox.append_seen(b" / HTTP/1.1\r\nhost: -\r\nconnection: close\r\n\r\n");
        self.stage = Stage::Refused;
        self.quiet_since = None;
    }

    /// Looks at what has come and was not seen yet, as far as it can be judged.
    fn look(&mut self) {
        loop {
            let unseen = self.inbox.unseen();
            if unseen.is_empty() {
                return;
            }
            match &mut self.stage {
                Stage::Head { seen } => match judge(unseen, *seen) {
                    Ok(None) => {
                        *seen = unseen.len();
                        return;
                    }
                    Ok(Some(vetted)) => {
                        self.heads += 1;
                        self.stage = Stage::of(vetted.framing);
                        self.inbox.see(vetted.bytes);
                    }
                    Err(refusal) => return self.refuse(refusal),
                },
                Stage::Body(left) => {
                    let here = usize::try_from(*left).unwrap_or(usize::MAX).min(unseen.len());
                    *left -= here as u64;
                    if *left == 0 {
                        self.stage = Stage::Head { seen: 0 };
                    }
                    self.inbox.see(here);
                }
                Stage::Chunked(chunks) => match chunks.advance(unseen) {
                    Found::More => self.inbox.see_all(),
                    Found::End(bytes) => {
                        self.stage = Stage::Head { seen: 0 };
                        self.inbox.see(bytes);
                    }
                    Found::Fault => self.stage = Stage::Broken,
                },
                Stage::Broken => self.inbox.see_all(),
                Stage::Refused => self.inbox.drop_unseen(),
            }
        }
    }

    /// Reads from the socket; `Ready` when something came, the client closed, or time is up.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.inbox.poll_fill(&mut self.socket, cx) {
            Poll::Ready(Ok(0)) => {
                self.is_ended = true;
                self.link.hang_up();
                if self.is_within_head() {
                    self.refuse(Refusal::Incomplete);
                }
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Ok(bytes)) => {
                self.metrics.received_bytes.inc_by(bytes as u64);
                let (heads, had_begun) = (self.heads, self.is_within_head());
                self.look();
                // The clock of a head runs from its first byte, whatever comes later.
                if !had_begun || heads != self.heads {
                    self.quiet_since = None;
                }
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => self.poll_quiet(cx),
        }
    }

    fn is_within_head(&self) -> bool {
        matches!(self.stage, Stage::Head { seen: 1.. })
    }

    /// Nothing comes; is it time to give up?
    fn poll_quiet(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let is_first = self.heads == 0;
        let patience = match self.stage {
            Stage::Head { seen: 1.. } => self.patience.head,
            Stage::Head { .. } if self.link.is_busy() || self.outflow.is_blocked() => {
                // Somebody waits for us, not we for them.
                self.quiet_since = None;
                return Poll::Pending;
            }
            Stage::Head { .. } if is_first => self.patience.head,
            Stage::Head { .. } => self.patience.keep_alive,
            _ => return Poll::Pending,
        };
        let since = *self.quiet_since.get_or_insert_with(Instant::now);
        ready!(self.alarm.poll(since + patience, cx));
        if self.is_within_head() {
            self.refuse(Refusal::HeadTimeout);
        } else {
            self.is_ended = true;
        }
        Poll::Ready(Ok(()))
    }

    /// Begins to wait for the next request. Hyper does not read again after a response when its
    /// last read was pending, so the wire has to see to it that it wakes.
    fn after_response(&mut self, cx: &mut Context<'_>) {
        if self.link.is_busy() {
            return;
        }
        self.outflow = Outflow::default();
        if self.quiet_since.is_some() {
            return;
        }
        if self.is_ended || self.poll_quiet(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
    }

    /// Whether hyper may hear that the client has closed its side.
    fn is_end_due(&self) -> bool {
        match self.stage {
            // In a body it breaks off: the handler is to know at once.
            Stage::Body(_) | Stage::Chunked(_) | Stage::Broken => true,
            Stage::Head { .. } | Stage::Refused => {
                !self.link.is_busy() && !self.outflow.is_blocked()
            }
        }
    }

    /// Whether the client may still be sending what nobody will read.
    fn is_unread(&self) -> bool {
        !matches!(self.stage, Stage::Head { seen: 0 }) || !self.inbox.is_empty()
    }

    /// Reads and drops until the client closes its side or patience ends.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let since = *self.lingering_since.get_or_insert_with(Instant::now);
        while !self.is_ended {
            self.inbox.clear();
            match self.inbox.poll_fill(&mut self.socket, cx) {
                Poll::Ready(Ok(bytes)) if bytes > 0 => {
                    if Instant::now() > since + self.patience.linger {
                        return Poll::Ready(());
                    }
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return self.alarm.poll(since + self.patience.linger, cx),
            }
        }
        Poll::Ready(())
    }
}

impl Stage {
    fn of(framing: Framing) -> Stage {
        match framing {
            Framing::Length(0) => Stage::Head { seen: 0 },
            Framing::Length(bytes) => Stage::Body(bytes),
            Framing::Chunked => Stage::Chunked(Chunks::Begin),
        }
    }
}

/// Vets a head of which `seen` bytes were incomplete. It can only have become complete by a
/// line's end, so that a head that comes byte by byte is not parsed for every byte.
fn judge(unseen: &[u8], seen: usize) -> Result<Option<Vetted>, Refusal> {
    let news = &unseen[seen..];
    if seen > 0 && memchr::memchr(b'\n', news).is_none() && unseen.len() < HEAD_BYTES_MAX {
        return Ok(None);
    }
    vet(unseen)
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Wire<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let wire = &mut *self;
        loop {
            if wire.inbox.pass_on(buffer) {
                return Poll::Ready(Ok(()));
            }
            if wire.is_ended || matches!(wire.stage, Stage::Refused) {
                // Pending without a waker: `after_response` wakes the task.
                return if wire.is_end_due() { Poll::Ready(Ok(())) } else { Poll::Pending };
            }
            ready!(wire.poll_fill(cx))?;
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let wire = &mut *self;
        match Pin::new(&mut wire.socket).poll_write(cx, bytes) {
            Poll::Ready(written) => {
                let bytes = *written.as_ref().unwrap_or(&0) as u64;
                wire.outflow.note_sent(bytes);
                wire.metrics.sent_bytes.inc_by(bytes);
                Poll::Ready(written)
            }
            Poll::Pending => {
                let deadline = wire.outflow.deadline(wire.patience.write);
                ready!(wire.alarm.poll(deadline, cx));
                tracing::debug!("the client does not read its response");
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.socket).poll_flush(cx))?;
        self.after_response(cx);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.lingering_since.is_none() {
            ready!(Pin::new(&mut self.socket).poll_shutdown(cx))?;
        }
        if self.is_unread() {
            ready!(self.poll_linger(cx));
        }
        Poll::Ready(Ok(()))
    }
}
