//! A chunk between the network and the disk.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Sleep;

use crate::engine::command::{Answer, Batch, BatchMode, BatchReply, Rejection};
use crate::http::budget::Charge;
use crate::http::ndjson::intake::{Chunk, Verdict};
use crate::http::request::RequestId;
use crate::limits::NDJSON_OVERLOAD_WAIT_MS;

/// What the engine says to a batch.
pub(super) type Reply = Result<BatchReply, Rejection>;
/// A batch on its way through the engine.
pub(super) type Call = Pin<Box<dyn Future<Output = Reply> + Send>>;

/// A chunk that the engine decides.
pub(super) struct Flight {
    lines: Vec<Verdict>,
    /// Kept so that it can be handed over again.
    batch: Batch,
    step: Step,
    /// For what it keeps in memory.
    charge: Charge,
}

/// A chunk that the engine has answered.
pub(super) struct Landed {
    pub(super) lines: Vec<Verdict>,
    pub(super) reply: Reply,
    /// Of the chunk; its results take over.
    pub(super) charge: Charge,
}

enum Step {
    /// The engine has the batch.
    Called(Call),
    /// The engine had no room for the batch; it is handed over again after this.
    Waiting(Pin<Box<Sleep>>),
    /// The engine has answered.
    Done(Reply),
}

impl Flight {
    /// Hands a chunk over to the engine, by `call`.
    pub(super) fn launch(
        (chunk, charge): (Chunk, Charge),
        request_id: &RequestId,
        call: impl Fn(Batch) -> Call,
    ) -> Flight {
        let request_id: Box<str> = request_id.as_str().into();
        let batch = Batch { items: chunk.items, mode: BatchMode::PerItem, key: None, request_id };
        let step = if batch.items.is_empty() {
            // Every line was refused: there is nothing to decide.
            let request_id = batch.request_id.clone();
            Step::Done(Ok(BatchReply { items: Vec::new(), answer: Answer::First, request_id }))
        } else {
            Step::Called(call(batch.clone()))
        };
        Flight { lines: chunk.lines, batch, step, charge }
    }

    /// Drives it as far as it goes. What the engine had no room for is handed over again.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, call: impl Fn(Batch) -> Call) {
        loop {
            self.step = match &mut self.step {
                Step::Called(called) => match called.as_mut().poll(cx) {
                    Poll::Ready(Err(Rejection::Overloaded { .. })) => {
                        let wait = Duration::from_millis(NDJSON_OVERLOAD_WAIT_MS);
                        Step::Waiting(Box::pin(tokio::time::sleep(wait)))
                    }
                    Poll::Ready(reply) => Step::Done(reply),
                    Poll::Pending => return,
                },
                Step::Waiting(sleep) => match sleep.as_mut().poll(cx) {
                    Poll::Ready(()) => Step::Called(call(self.batch.clone())),
                    Poll::Pending => return,
                },
                Step::Done(_) => return,
            }
        }
    }

    /// Whether it waits for the engine to have room.
    pub(super) fn is_held_up(&self) -> bool {
        matches!(self.step, Step::Waiting(_))
    }

    /// Whether the engine has answered.
    pub(super) fn is_done(&self) -> bool {
        matches!(self.step, Step::Done(_))
    }

    /// What came of it, if the engine has answered.
    pub(super) fn land(self) -> Option<Landed> {
        let Flight { lines, charge, .. } = self;
        match self.step {
            Step::Done(reply) => Some(Landed { lines, reply, charge }),
            Step::Called(_) | Step::Waiting(_) => None,
        }
    }
}

impl fmt::Debug for Flight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Flight({} lines)", self.lines.len())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::Arc;

    use super::*;
    use crate::engine::command::{Item, Submission};
    use crate::formula::{Rules, parse};
    use crate::http::budget::Budget;

    fn chunk() -> (Chunk, Charge) {
        let body = br#"{"name":"a","materials":[{"name":"rose","concentration":1}]}"#;
        let checked = parse(body, &Rules { concentration_max: 100 }).unwrap();
        let (formula, fingerprint) = (checked.formula, checked.fingerprint);
        let item = Item::Valid(Submission { formula, fingerprint, key: None });
        let mut chunk = Chunk::default();
        chunk.lines.push(Verdict::Engine);
        chunk.items.push(item);
        (chunk, Arc::new(Budget::new(0)).open())
    }

    #[tokio::test]
    async fn a_chunk_that_finds_no_room_is_handed_over_until_it_does() {
        let calls = Cell::new(0);
        let call = |batch: Batch| -> Call {
            calls.set(calls.get() + 1);
            assert_eq!(batch.items.len(), 1);
            let reply = match calls.get() {
                1..=3 => Err(Rejection::Overloaded { retry_after_s: 1 }),
                _ => Err(Rejection::DiskFull),
            };
            Box::pin(std::future::ready(reply))
        };
        let mut flight = Flight::launch(chunk(), &RequestId::new(1), call);
        let was_held_up = std::future::poll_fn(|cx| {
            let before = flight.is_held_up();
            flight.poll(cx, call);
            if flight.is_done() { Poll::Ready(before) } else { Poll::Pending }
        });
        assert!(was_held_up.await);
        assert_eq!(calls.get(), 4);
        let Landed { lines, reply, .. } = flight.land().unwrap();
        assert_eq!((lines.len(), reply), (1, Err(Rejection::DiskFull)));
    }

    #[test]
    fn a_chunk_of_refused_lines_needs_no_engine() {
        let (mut chunk, charge) = chunk();
        chunk.items.clear();
        let flight =
            Flight::launch((chunk, charge), &RequestId::new(1), |_| unreachable!("nothing to ask"));
        assert!(flight.is_done());
    }
}
