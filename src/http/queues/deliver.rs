//! The answer to a lease: the messages with their formulas.
//!
//! A thousand leased messages may hold the largest formulas there are. They are read one after
//! the other; what exceeds a piece is sent while the rest is read, so that no lease is ever
//! gathered in memory.
//!
//! One message that cannot be read back must not take with it the others, which are leased as
//! well: it is named under `unreadable`. Only when there is no other does the call fail.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll, ready};

use bytes::Bytes;
use hyper::StatusCode;
use hyper::body::{Body, Frame};

use crate::engine::Engine;
use crate::engine::command::{Delivery, Rejection};
use crate::http::problem::Problem;
use crate::http::render;
use crate::http::response::{CONTENT_TYPE_JSON, Response};
use crate::ids::MessageId;
use crate::limits::LEASE_PIECE_BYTES;

/// Answers with these messages.
pub(super) async fn respond(
    engine: &Engine,
    deliveries: Vec<Delivery>,
) -> Result<Response, Problem> {
    let mut writer = Writer::new(engine.clone(), deliveries).fill().await;
    if writer.stage == Stage::Messages {
        let rest = Rest { next: Some(Box::pin(async { writer })) };
        return Ok(Response::new(StatusCode::OK).stream(CONTENT_TYPE_JSON, rest));
    }
    match writer.refusal.take() {
        Some(rejection) if writer.shown == 0 => Err(rejection.into()),
        _ => Ok(Response::json(StatusCode::OK, writer.piece)),
    }
}

/// Writes the document piece by piece.
struct Writer {
    engine: Engine,
    left: std::vec::IntoIter<Delivery>,
    /// Written and not yet sent.
    piece: Vec<u8>,
    stage: Stage,
    /// Messages written.
    shown: usize,
    unreadable: Vec<MessageId>,
    /// Why the last of them could not be read.
    refusal: Option<Rejection>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// More messages may follow.
    Messages,
    /// The document is complete.
    Done,
}

impl Writer {
    fn new(engine: Engine, deliveries: Vec<Delivery>) -> Writer {
        Writer {
            engine,
            left: deliveries.into_iter(),
            piece: b"{\"messages\":[".to_vec(),
            stage: Stage::Messages,
            shown: 0,
            unreadable: Vec::new(),
            refusal: None,
        }
    }

    /// Goes on until the piece is full or the document complete.
    async fn fill(mut self) -> Writer {
        while self.piece.len() < LEASE_PIECE_BYTES {
            let Some(delivery) = self.left.next() else {
                self.end();
                break;
            };
            self.message(&delivery).await;
        }
        self
    }

    async fn message(&mut self, delivery: &Delivery) {
        let id = delivery.receipt.message;
        match self.engine.message(id).await {
            Ok(message) => {
                if self.shown > 0 {
                    self.piece.push(b',');
                }
                self.shown += 1;
                render::message(&mut self.piece, delivery, &message);
            }
            Err(rejection) => {
                tracing::error!(message = %id, ?rejection, "leased message cannot be read");
                self.unreadable.push(id);
                self.refusal = Some(rejection);
            }
        }
    }

    fn end(&mut self) {
        self.piece.push(b']');
        if !self.unreadable.is_empty() {
            self.piece.extend_from_slice(b",\"unreadable\":");
            render::message_ids(&mut self.piece, &self.unreadable);
        }
        self.piece.push(b'}');
        self.stage = Stage::Done;
    }
}

/// The pieces of a document that is too long for one.
struct Rest {
    /// Completes with the next piece; `None` after the last.
    next: Option<Pin<Box<dyn Future<Output = Writer> + Send>>>,
}

impl Body for Rest {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(next) = &mut self.next else { return Poll::Ready(None) };
        let mut writer = ready!(next.as_mut().poll(cx));
        let piece = std::mem::take(&mut writer.piece);
        self.next = match writer.stage {
            Stage::Messages => Some(Box::pin(writer.fill())),
            Stage::Done => None,
        };
        Poll::Ready(Some(Ok(Frame::data(piece.into()))))
    }
}

impl fmt::Debug for Rest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Rest")
    }
}
