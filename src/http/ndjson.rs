//! `POST /formulas` with a stream of lines: bulk load without an end.
//!
//! One result line answers each line, in order, while more lines come in. Nothing is gathered
//! but the chunk that is being made and the chunks that the log is about to sync, and all of it
//! is charged to the budget of bodies:
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
use crate::http::budget::Charge;
use crate::http::keys::IdempotencyKey;
use crate::http::lines::{Line, LineSplitter};
use crate::http::ndjson::flight::{Call, Flight, Landed};
use crate::http::ndjson::intake::{Checked, Chunk, Intake, Verdict, refuse_too_long};
use crate::http::offload::{Offloaded, is_long, offload};
use crate::http::problem::{Kind, Problem};
use crate::http::request::{BodyReader, Request, RequestId, no_room};
use crate::http::response::Response;
use crate::http::{Context, batches};
use crate::limits::{
    NDJSON_BEGUN_BYTES_FREE, NDJSON_CHUNKS_IN_FLIGHT, NDJSON_LINE_BYTES_MAX, RESPONSE_PIECE_BYTES,
};

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
    /// A long line that is being read on the other thread; the lines behind it wait.
    long_line: Option<Offloaded<(Checked, Charge)>>,
    request_id: RequestId,
    body: BodyReader,
    splitter: LineSplitter,
    /// Chunks that are full, oldest first.
    in_flight: VecDeque<Flight>,
    room: Room,
    /// What is being sent.
    results: Option<Results>,
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

/// Result lines of a chunk, or what is left of them.
struct Results {
    json: Bytes,
    _charge: Charge,
}

/// Whether the budget has room for more of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    Ample,
    Scarce,
}

impl Room {
    fn chunks_in_flight(self) -> usize {
        match self {
            Room::Ample => NDJSON_CHUNKS_IN_FLIGHT,
            Room::Scarce => 1,
        }
    }
}

impl Load {
    fn new(context: &Context, request: Request, key: Option<IdempotencyKey>) -> Load {
        let shutdown = context.shutdown.clone();
        Load {
            engine: context.engine.clone(),
            intake: Intake { rules: context.rules, caller: request.caller().clone(), key },
            long_line: None,
            request_id: request.id().clone(),
            body: request.into_body(),
            splitter: LineSplitter::new(NDJSON_LINE_BYTES_MAX),
            in_flight: VecDeque::with_capacity(NDJSON_CHUNKS_IN_FLIGHT),
            room: Room::Ample,
            results: None,
            input: Input::Open,
            draining: Box::pin(async move { shutdown.draining().await }),
        }
    }

    /// The results of the next chunk; `None` at the end of the stream.
    fn poll_results(&mut self, cx: &mut TaskContext<'_>) -> Poll<Option<Results>> {
        loop {
            if let Some(landed) = self.poll_engine(cx) {
                return Poll::Ready(Some(self.results(landed)));
            }
            let is_open = matches!(self.input, Input::Open) || self.long_line.is_some();
            if is_open && self.in_flight.len() < self.room.chunks_in_flight() {
                let chunk = ready!(self.poll_chunk(cx));
                if !chunk.lines.is_empty() {
                    self.launch(chunk);
                }
            } else if self.in_flight.is_empty() {
                return Poll::Ready(self.last_word());
            } else {
                return Poll::Pending;
            }
        }
    }

    fn launch(&mut self, chunk: Chunk) {
        let begun = self.begun_bytes_charged();
        self.body.charge().shrink_to(begun);
        let mut charge = self.body.charge().another();
        charge.hold(chunk.bytes_held());
        let call = |batch| call(&self.engine, batch);
        let flight = Flight::launch((chunk, charge), &self.request_id, call);
        self.in_flight.push_back(flight);
    }

    /// Drives the chunks in flight; gives the first one when it is answered.
    fn poll_engine(&mut self, cx: &mut TaskContext<'_>) -> Option<Landed> {
        for flight in &mut self.in_flight {
            flight.poll(cx, |batch| call(&self.engine, batch));
            // Chunks behind one that is held up wait with it, so that lines are decided in the
            // order in which they came.
            if flight.is_held_up() {
                break;
            }
        }
        let landed = self.in_flight.pop_front_if(|first| first.is_done())?.land();
        self.room = Room::Ample;
        landed
    }

    /// Gathers lines until the chunk is full, the body has ended or no more is there yet.
    /// Not ready while there is no line at all.
    fn poll_chunk(&mut self, cx: &mut TaskContext<'_>) -> Poll<Chunk> {
        let mut chunk = Chunk::default();
        loop {
            ready!(self.poll_lines(&mut chunk, cx));
            self.charge(&chunk);
            if chunk.is_full() || self.long_line.is_some() || self.room == Room::Scarce {
                return Poll::Ready(chunk);
            }
            if !matches!(self.input, Input::Open) {
                break;
            }
            if self.poll_input(cx).is_pending() {
                return if chunk.lines.is_empty() { Poll::Pending } else { Poll::Ready(chunk) };
            }
        }
        if matches!(self.input, Input::Ended)
            && let Some(line) = self.splitter.finish()
        {
            self.take(line, &mut chunk);
        }
        Poll::Ready(chunk)
    }

    /// Takes the lines that are there, up to one that is long. Waits for that one only when
    /// there is no other in the chunk.
    fn poll_lines(&mut self, chunk: &mut Chunk, cx: &mut TaskContext<'_>) -> Poll<()> {
        loop {
            if let Some(long_line) = &mut self.long_line
                && chunk.lines.is_empty()
            {
                let (checked, _charge) = ready!(Pin::new(long_line).poll(cx));
                chunk.push(checked);
                self.long_line = None;
            }
            if chunk.is_full() || self.long_line.is_some() {
                return Poll::Ready(());
            }
            let Some(line) = self.splitter.next_line() else { return Poll::Ready(()) };
            self.take(line, chunk);
        }
    }

    /// Charges the chunk and what has begun behind it. Without room for it the stream takes in
    /// no more until what it has in flight has landed; one that has nothing ends.
    fn charge(&mut self, chunk: &Chunk) {
        let bytes = self.begun_bytes_charged() + chunk.bytes_held();
        if let Err(exhausted) = self.body.charge().level(bytes) {
            if chunk.lines.is_empty() && self.in_flight.is_empty() && self.long_line.is_none() {
                self.input = Input::Failed(no_room(exhausted));
            } else {
                self.room = Room::Scarce;
            }
        }
    }

    /// Bytes to be charged for a line that has begun.
    fn begun_bytes_charged(&self) -> usize {
        self.splitter.begun_bytes().saturating_sub(NDJSON_BEGUN_BYTES_FREE)
    }

    /// Has a line read, at once or by the other thread.
    fn take(&mut self, line: Line, chunk: &mut Chunk) {
        let Line { number, content } = line;
        match content {
            None => chunk.push(refuse_too_long(number)),
            Some(content) if is_long(content.len()) => {
                let (intake, mut charge) = (self.intake.clone(), self.body.charge().another());
                charge.hold(content.len());
                let work = move || (intake.check(number, &content), charge);
                self.long_line = Some(offload(work));
            }
            Some(content) => chunk.push(self.intake.check(number, &content)),
        }
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
    fn results(&mut self, landed: Landed) -> Results {
        let Landed { lines, reply, mut charge } = landed;
        let request_id = self.request_id.as_str();
        let mut out = Vec::with_capacity(RESULT_BYTES_USUAL * lines.len());
        let (mut decided, failure) = match reply {
            Ok(reply) => (reply.items.into_iter(), None),
            Err(rejection) => (Vec::new().into_iter(), Some(Problem::from(rejection))),
        };
        for line in &lines {
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
        charge.hold(out.len().saturating_sub(charge.bytes()));
        Results { json: out.into(), _charge: charge }
    }

    /// Why the stream ended early, if it did.
    fn last_word(&mut self) -> Option<Results> {
        let input = std::mem::replace(&mut self.input, Input::Ended);
        let Input::Failed(problem) = input else { return None };
        let mut out = Vec::new();
        batches::refusal(&mut out, &problem, self.request_id.as_str());
        out.push(b'\n');
        Some(Results { json: out.into(), _charge: self.body.charge().another() })
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
        loop {
            if let Some(results) = self.results.as_mut().filter(|left| !left.json.is_empty()) {
                let json = &mut results.json;
                let piece = json.split_to(json.len().min(RESPONSE_PIECE_BYTES));
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            // What is sent is given back before more is waited for.
            self.results = None;
            self.results = ready!(self.poll_results(cx));
            if self.results.is_none() {
                return Poll::Ready(None);
            }
        }
    }
}

impl fmt::Debug for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Load({}, {} chunks in flight)", self.request_id, self.in_flight.len())
    }
}

#[cfg(test)]
mod tests;
