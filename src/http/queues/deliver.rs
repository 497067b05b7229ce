//! The answer to a lease: the messages with their formulas.
//!
//! A thousand leased messages may hold the largest formulas there are. They are read one after
//! the other; what exceeds a piece is sent while the rest is read, so that no lease is ever
//! gathered in memory. What a client leaves unread is charged like a page.
//!
//! One message that cannot be read back must not take with it the others, which are leased as
//! well: it is named under `unreadable`. Only when there is no other does the call fail. If it is
//! damaged it is given back with a delay and with [`DAMAGED_REASON`]: so it does not stay at the
//! head of the queue, and ends as a dead letter that says why.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, ready};

use bytes::Bytes;
use hyper::StatusCode;
use hyper::body::{Body, Frame};

use crate::engine::Engine;
use crate::engine::command::{Delivery, Rejection, Settlement};
use crate::http::Context;
use crate::http::budget::Charge;
use crate::http::problem::Problem;
use crate::http::render;
use crate::http::response::{CONTENT_TYPE_JSON, Response};
use crate::ids::{MessageId, QueueName, Receipt};
use crate::limits::{DAMAGED_DELAY_MS, LEASE_PIECE_BYTES};
use crate::metrics::Metrics;

/// The reason with which a damaged message is given back.
pub(super) const DAMAGED_REASON: &str = "damaged";

/// Answers with these messages of a queue. `charge` is for what the client leaves unread.
pub(super) async fn respond(
    context: &Context,
    queue: QueueName,
    deliveries: Vec<Delivery>,
    charge: Charge,
) -> Result<Response, Problem> {
    let mut writer = Writer::new(context, queue, deliveries).fill().await;
    if writer.stage == Stage::Messages {
        let rest = Rest { next: Some(Box::pin(async { writer })), charge };
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
    metrics: Arc<Metrics>,
    queue: QueueName,
    left: std::vec::IntoIter<Delivery>,
    /// Written and not yet sent.
    piece: Vec<u8>,
    stage: Stage,
    /// Messages written.
    shown: usize,
    unreadable: Vec<MessageId>,
    /// Those of them that are damaged.
    damaged: Vec<Receipt>,
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
    fn new(context: &Context, queue: QueueName, deliveries: Vec<Delivery>) -> Writer {
        Writer {
            engine: context.engine.clone(),
            metrics: Arc::clone(&context.metrics),
            queue,
            left: deliveries.into_iter(),
            piece: b"{\"messages\":[".to_vec(),
            stage: Stage::Messages,
            shown: 0,
            unreadable: Vec::new(),
            damaged: Vec::new(),
            refusal: None,
        }
    }

    /// Goes on until the piece is full or the document complete.
    async fn fill(mut self) -> Writer {
        while self.piece.len() < LEASE_PIECE_BYTES {
            let Some(delivery) = self.left.next() else {
                self.give_back().await;
                self.end();
                break;
            };
            self.message(&delivery).await;
        }
        self
    }

    async fn message(&mut self, delivery: &Delivery) {
        let id = delivery.receipt.message;
        match self.engine.message(&self.queue, id).await {
            Ok(Some(message)) => {
                if self.shown > 0 {
                    self.piece.push(b',');
                }
                self.shown += 1;
                render::message(&mut self.piece, delivery, &message);
            }
            // The lease has lapsed meanwhile, and the message was done or withdrawn since.
            Ok(None) => {}
            Err(rejection) => {
                tracing::error!(message = %id, ?rejection, "leased message cannot be read");
                if matches!(rejection, Rejection::Damaged(_)) {
                    self.metrics.damaged_messages.inc();
                    self.damaged.push(delivery.receipt);
                }
                self.unreadable.push(id);
                self.refusal = Some(rejection);
            }
        }
    }

    /// Gives damaged messages back. Where that fails their leases lapse, which takes longer.
    async fn give_back(&mut self) {
        if self.damaged.is_empty() {
            return;
        }
        let (queue, receipts) = (self.queue.clone(), std::mem::take(&mut self.damaged));
        let reason = DAMAGED_REASON.into();
        let nack = Settlement::Nack { delay_ms: DAMAGED_DELAY_MS, reason };
        if let Err(rejection) = self.engine.settle(queue, receipts, nack).await {
            tracing::warn!(?rejection, "damaged messages stay leased until that lapses");
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
    /// For the piece that was handed out last, and that hyper has not sent before it asks for
    /// the next one.
    charge: Charge,
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
        // The messages are leased, so it is too late to refuse them for want of room.
        self.charge.shrink_to(0);
        self.charge.hold(piece.len());
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
