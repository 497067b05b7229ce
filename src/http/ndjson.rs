//! `POST /formulas` with a stream of lines: bulk load without an end.
//!
//! One result line answers each line, in order, while more lines come in. Nothing is gathered
//! but the chunk that is being made and the chunks that the log is about to sync:
//!
//! ```text
//! body ─► lines ─► parse ─► chunk ─► engine (one batch, one sync) ─► results ─► response
//!                           └─ at most NDJSON_CHUNKS_IN_FLIGHT ─┘
//! ```
//!
//! While one chunk is being synced the next is read, so that network and disk work at the same
//! time. The body is read only while the client takes results: one that sends everything
//! before it reads is held back by the connection, and has to read to go on.
//!
//! Each line is decided for itself and as soon as its chunk is full, or no more of the body is
//! there yet. A line that is too long is answered with 413, and the next one is read. When the
//! engine is overloaded the stream waits. When the log fails, the body breaks off or the
//! server stops, the first line without an answer gets the reason in its place, and the stream
//! ends: what was answered is durable, and under an `Idempotency-Key` the whole stream can be
//! sent again (see [`super::keys`]).

mod flight;
mod intake;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll, ready};

use bytes::Bytes;
use hyper::StatusCode;
use hyper::body::{Body, Frame};
use hyper::header::HeaderValue;

use crate::engine::Engine;
use crate::engine::command::{Batch, BatchMode};
use crate::http::keys::IdempotencyKey;
use crate::http::lines::LineSplitter;
use crate::http::ndjson::flight::{Call, Flight, Reply};
use crate::http::ndjson::intake::{Chunk, Intake, Verdict};
use crate::http::problem::{Kind, Problem};
use crate::http::request::{BodyReader, Request, RequestId};
use crate::http::response::Response;
use crate::http::{Context, batches};
use crate::limits::{NDJSON_CHUNKS_IN_FLIGHT, NDJSON_LINE_BYTES_MAX};

const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/x-ndjson");

/// Bytes of a usual result line: room is made for so many at once.
const RESULT_BYTES_USUAL: usize = 768;

/// Answers a stream of lines.
pub(super) async fn load(
    context: &Context,
    request: Request,
    key: Option<IdempotencyKey>,
    mode: BatchMode,
) -> Result<Response, Problem> {
    if mode == BatchMode::Atomic {
        return Err(Problem::parameter("atomic", "does not go with a stream of lines"));
    }
    let mut load = Load::new(context, request, key);
    // The head of the response is sent after the first bytes of the body have come: a client
    // that waits for `100 Continue` gets it only as long as no response has begun.
    if let Some(first) = std::future::poll_fn(|cx| load.body.poll_chunk(cx)).await {
        load.splitter.feed(first?);
    }
    Ok(Response::new(StatusCode::OK).stream(CONTENT_TYPE, load))
}

/// One stream under way: the body of its response.
struct Load {
    engine: Engine,
    intake: Intake,
    request_id: RequestId,
    body: BodyReader,
    splitter: LineSplitter,
    /// Chunks that are full, oldest first.
    in_flight: VecDeque<Flight>,
    input: Input,
    /// Completes when the server stops.
    draining: Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// Whether more lines may come.
#[derive(Debug)]
enum Input {
    /// They may.
    Open,
    /// No more, for this reason, which is yet to be told.
    Failed(Problem),
    /// No more.
    Ended,
}

impl Load {
    fn new(context: &Context, request: Request, key: Option<IdempotencyKey>) -> Load {
        let shutdown = context.shutdown.clone();
        Load {
            engine: context.engine.clone(),
            intake: Intake { rules: context.rules, caller: request.caller().clone(), key },
            request_id: request.id().clone(),
            body: request.into_body(),
            splitter: LineSplitter::new(NDJSON_LINE_BYTES_MAX),
            in_flight: VecDeque::with_capacity(NDJSON_CHUNKS_IN_FLIGHT),
            input: Input::Open,
            draining: Box::pin(async move { shutdown.draining().await }),
        }
    }

    /// The results of the next chunk; `None` at the end of the stream.
    fn poll_results(&mut self, cx: &mut TaskContext<'_>) -> Poll<Option<Vec<u8>>> {
        loop {
            if let Some((lines, reply)) = self.poll_engine(cx) {
                return Poll::Ready(Some(self.results(&lines, reply)));
            }
            let is_open = matches!(self.input, Input::Open);
            if is_open && self.in_flight.len() < NDJSON_CHUNKS_IN_FLIGHT {
                let chunk = ready!(self.poll_chunk(cx));
                if !chunk.lines.is_empty() {
                    let call = |batch| call(&self.engine, batch);
                    self.in_flight.push_back(Flight::launch(chunk, &self.request_id, call));
                }
            } else if self.in_flight.is_empty() {
                return Poll::Ready(self.last_word());
            } else {
                return Poll::Pending;
            }
        }
    }

    /// Drives the chunks in flight; gives the first one when it is answered.
    fn poll_engine(&mut self, cx: &mut TaskContext<'_>) -> Option<(Vec<Verdict>, Reply)> {
        for flight in &mut self.in_flight {
            flight.poll(cx, |batch| call(&self.engine, batch));
            // Chunks behind one that is held up wait with it, so that lines are decided in the
            // order in which they came.
            if flight.is_held_up() {
                break;
            }
        }
        self.in_flight.pop_front_if(|first| first.is_done())?.land()
    }

    /// Gathers lines until the chunk is full, the body has ended or no more is there yet.
    /// Not ready while there is no line at all.
    fn poll_chunk(&mut self, cx: &mut TaskContext<'_>) -> Poll<Chunk> {
        let mut chunk = Chunk::default();
        loop {
            while let Some(line) = self.splitter.next_line() {
                self.intake.take(line, &mut chunk);
                if chunk.is_full() {
                    return Poll::Ready(chunk);
                }
            }
            match self.poll_input(cx) {
                Poll::Ready(()) if matches!(self.input, Input::Open) => {}
                Poll::Pending if chunk.lines.is_empty() => return Poll::Pending,
                Poll::Ready(()) | Poll::Pending => break,
            }
        }
        if matches!(self.input, Input::Ended)
            && let Some(line) = self.splitter.finish()
        {
            self.intake.take(line, &mut chunk);
        }
        Poll::Ready(chunk)
    }

    /// Feeds the splitter, or notes that there is no more to feed it.
    fn poll_input(&mut self, cx: &mut TaskContext<'_>) -> Poll<()> {
        if self.draining.as_mut().poll(cx).is_ready() {
            let detail = "the server is stopping; send the lines without an answer again";
            self.input = Input::Failed(Problem::new(Kind::NotReady, detail));
            return Poll::Ready(());
        }
        match ready!(self.body.poll_chunk(cx)) {
            Some(Ok(bytes)) => self.splitter.feed(bytes),
            Some(Err(problem)) => self.input = Input::Failed(problem),
            None => self.input = Input::Ended,
        }
        Poll::Ready(())
    }

    /// The result lines of a chunk. When the engine failed: of its lines up to the first that
    /// the engine was to decide, which gets the failure; the stream ends there.
    fn results(&mut self, lines: &[Verdict], reply: Reply) -> Vec<u8> {
        let request_id = self.request_id.as_str();
        let mut out = Vec::with_capacity(RESULT_BYTES_USUAL * lines.len());
        let (mut decided, failure) = match reply {
            Ok(reply) => (reply.items.into_iter(), None),
            Err(rejection) => (Vec::new().into_iter(), Some(Problem::from(rejection))),
        };
        for line in lines {
            match line {
                Verdict::Refused(problem) => batches::refusal(&mut out, problem, request_id),
                Verdict::Engine => match decided.next() {
                    Some(item) => batches::result(&mut out, &item, request_id),
                    None => break,
                },
            }
            out.push(b'\n');
        }
        if let Some(problem) = failure {
            self.input = Input::Failed(problem);
            self.in_flight.clear();
        }
        out
    }

    /// Why the stream ended early, if it did.
    fn last_word(&mut self) -> Option<Vec<u8>> {
        let input = std::mem::replace(&mut self.input, Input::Ended);
        let Input::Failed(problem) = input else { return None };
        let mut out = Vec::new();
        batches::refusal(&mut out, &problem, self.request_id.as_str());
        out.push(b'\n');
        Some(out)
    }
}

fn call(engine: &Engine, batch: Batch) -> Call {
    let engine = engine.clone();
    Box::pin(async move { engine.accept_batch(batch).await })
}

impl Body for Load {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.poll_results(cx).map(|results| results.map(|bytes| Ok(Frame::data(bytes.into()))))
    }
}

impl fmt::Debug for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Load({}, {} chunks in flight)", self.request_id, self.in_flight.len())
    }
}

#[cfg(test)]
mod tests;
