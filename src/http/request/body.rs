//! Reading a request's body within bounds of size and time.
//!
//! Two clocks bound a body. Each single wait for more ends after the body deadline; and all
//! waits together may take the body deadline plus the time that what has come so far takes at
//! the minimum rate. Only waiting counts: time in which the server does not read, because its
//! log is busy, is not the client's fault. No timer is armed for a body that is already there.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hyper::body::{Body, Incoming};
use tokio::time::{Instant, Sleep};

use crate::http::budget::{Budget, Charge, Exhausted};
use crate::http::connection::Hangup;
use crate::http::problem::{Kind, Problem};
use crate::limits::BODY_BYTES_PER_S_MIN;

/// Reads a body. Nothing is lost when a future that waits for it is dropped.
pub struct BodyReader {
    source: Source,
    /// Bytes read so far.
    received: u64,
    /// Time spent waiting, this wait excluded.
    waited: Duration,
    wait: Option<Wait>,
    pace: Pace,
    /// For what is kept of it until it is whole, or a line of it is.
    charge: Charge,
    connection: Hangup,
}

enum Source {
    /// Nothing (any more).
    Empty,
    /// The connection.
    Incoming(Incoming),
}

struct Wait {
    since: Instant,
    deadline: Pin<Box<Sleep>>,
}

/// How slow a body may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Longest single wait, and the allowance for the whole body beyond the minimum rate.
    pub(crate) deadline: Duration,
}

impl BodyReader {
    pub(crate) fn new(
        incoming: Incoming,
        pace: Pace,
        budget: Arc<Budget>,
        connection: Hangup,
    ) -> BodyReader {
        let source =
            if incoming.is_end_stream() { Source::Empty } else { Source::Incoming(incoming) };
        BodyReader {
            source,
            received: 0,
            waited: Duration::ZERO,
            wait: None,
            pace,
            charge: budget.open(),
            connection,
        }
    }

    /// The announced length; `None` when the body is chunked.
    #[must_use]
    pub fn announced(&self) -> Option<u64> {
        match &self.source {
            Source::Empty => Some(0),
            Source::Incoming(incoming) => incoming.size_hint().exact(),
        }
    }

    /// What is charged for the part of the body that is in memory.
    pub(crate) fn charge(&mut self) -> &mut Charge {
        &mut self.charge
    }

    /// The next piece, never empty; `None` at the end, and again after an error.
    pub fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Problem>>> {
        loop {
            let Source::Incoming(incoming) = &mut self.source else { return Poll::Ready(None) };
            match Pin::new(incoming).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(piece) if !piece.is_empty() => {
                        self.end_wait(piece.len());
                        return Poll::Ready(Some(Ok(piece)));
                    }
                    // Trailers carry nothing that we use.
                    Ok(_) | Err(_) => {}
                },
                Poll::Ready(Some(Err(error))) => return self.fail(broken(&error)),
                Poll::Ready(None) => {
                    self.source = Source::Empty;
                    return Poll::Ready(None);
                }
                Poll::Pending => return self.poll_deadline(cx),
            }
        }
    }

    /// The whole rest of the body.
    pub(crate) async fn read_all(&mut self, bytes_max: usize) -> Result<Bytes, Problem> {
        let announced = self.announced();
        if announced.is_some_and(|bytes| bytes > bytes_max as u64) {
            return Err(too_large(bytes_max));
        }
        let Some(first) = self.chunk().await? else { return Ok(Bytes::new()) };
        if announced == Some(first.len() as u64) {
            return Ok(first);
        }
        self.gather(first, bytes_max).await
    }

    /// Joins the pieces. Room is made as they come: an announced length costs its sender
    /// nothing, so nothing is reserved on the strength of it.
    async fn gather(&mut self, first: Bytes, bytes_max: usize) -> Result<Bytes, Problem> {
        let mut whole = BytesMut::new();
        let mut next = Some(first);
        while let Some(piece) = next {
            if whole.len() + piece.len() > bytes_max {
                self.source = Source::Empty;
                return Err(too_large(bytes_max));
            }
            self.charge.take(piece.len()).map_err(no_room)?;
            whole.extend_from_slice(&piece);
            next = self.chunk().await?;
        }
        Ok(whole.freeze())
    }

    async fn chunk(&mut self) -> Result<Option<Bytes>, Problem> {
        std::future::poll_fn(|cx| self.poll_chunk(cx)).await.transpose()
    }

    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Problem>>> {
        let allowance = self.allowance();
        let wait = self.wait.get_or_insert_with(|| {
            let since = Instant::now();
            Wait { since, deadline: Box::pin(tokio::time::sleep_until(since + allowance)) }
        });
        match wait.deadline.as_mut().poll(cx) {
            Poll::Ready(()) => self.fail(too_slow()),
            Poll::Pending => Poll::Pending,
        }
    }

    /// How long this wait may take.
    fn allowance(&self) -> Duration {
        let at_minimum_rate = Duration::from_secs(self.received / BODY_BYTES_PER_S_MIN);
        let altogether = self.pace.deadline.saturating_add(at_minimum_rate);
        altogether.saturating_sub(self.waited).min(self.pace.deadline)
    }

    fn end_wait(&mut self, bytes: usize) {
        self.received += bytes as u64;
        if let Some(wait) = self.wait.take() {
            self.waited += wait.since.elapsed();
        }
    }

    fn fail<T>(&mut self, problem: Problem) -> Poll<Option<Result<T, Problem>>> {
        self.source = Source::Empty;
        Poll::Ready(Some(Err(problem)))
    }
}

impl Drop for BodyReader {
    /// Drops what has come already. If that is not all, the connection ends with this request,
    /// and its response is to say so.
    fn drop(&mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        while let Source::Incoming(incoming) = &mut self.source {
            match Pin::new(incoming).poll_frame(&mut cx) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(None) => self.source = Source::Empty,
                Poll::Ready(Some(Err(_))) | Poll::Pending => {
                    return self.connection.leave_unread();
                }
            }
        }
    }
}

impl fmt::Debug for BodyReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BodyReader({} bytes received)", self.received)
    }
}

/// A 413 that names the limit.
pub(crate) fn too_large(bytes_max: usize) -> Problem {
    Problem::new(Kind::BodyTooLarge, format!("the body has more than {bytes_max} bytes"))
        .member("bytes_max", bytes_max.to_string())
        .closing()
}

fn too_slow() -> Problem {
    Problem::new(Kind::RequestTimeout, "the body stopped coming or came too slowly").closing()
}

pub(crate) fn no_room(why: Exhausted) -> Problem {
    Problem::from(why).closing()
}

fn broken(error: &hyper::Error) -> Problem {
    let detail = if error.is_incomplete_message() {
        "the body ended before its announced length"
    } else {
        "the body's framing is broken"
    };
    Problem::new(Kind::BadRequest, detail).closing()
}

#[cfg(test)]
mod tests;
