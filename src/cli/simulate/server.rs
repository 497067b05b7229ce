//! What the doubles have in common: an HTTP server on one thread that hands each call over whole,
//! can withhold an answer, and ends at a signal.
//!
//! It bears less than the service's own server: no deadlines, no budget of bytes. Whoever calls
//! it is Sillage, a test, or somebody at a terminal. What grows is bounded all the same.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tracing::info;

use crate::cli::failure::{Exit, Failure};
use crate::cli::system;
use crate::limits::{CONNECTION_BUFFER_BYTES_MAX, SIMULATE_BODY_BYTES_MAX, SIMULATE_STATS_WAIT_MS};

/// A call, read to its end.
#[derive(Debug)]
pub(super) struct Visit {
    /// Which of the part's addresses it came to, counted from 0.
    pub(super) place: usize,
    /// Counts all calls of this process, from 1. The answer's `X-Request-Id` says it, too.
    pub(super) number: u64,
    /// Microseconds after the start at which it had come whole. Never less than those of the
    /// call that was answered or begun before.
    pub(super) at_us: u64,
    /// The method.
    pub(super) method: Method,
    /// The path, as sent.
    pub(super) path: String,
    /// The pairs of the query, decoded.
    pub(super) query: Vec<(String, String)>,
    /// The headers.
    pub(super) headers: HeaderMap,
    /// The body, at most `SIMULATE_BODY_BYTES_MAX`.
    pub(super) body: Bytes,
}

impl Visit {
    /// The first value of this name in the query.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        let found = self.query.iter().find(|(given, _)| given == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The value of a header that is text.
    pub(super) fn header(&self, name: impl hyper::header::AsHeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// What a call is answered with.
pub(super) enum Reply {
    /// This.
    Answer(Response<Full<Bytes>>),
    /// Nothing: the connection is closed.
    Sever,
}

impl Reply {
    /// A status with a line of text.
    pub(super) fn text(status: StatusCode, text: impl Into<String>) -> Reply {
        Reply::of(status, "text/plain; charset=utf-8", text.into().into())
    }

    /// A status with a JSON document.
    pub(super) fn json(status: StatusCode, document: &impl Serialize) -> Reply {
        let body = serde_json::to_vec(document).expect("our documents have text as keys");
        Reply::of(status, "application/json", body.into())
    }

    /// A status with a body of this type.
    pub(super) fn of(status: StatusCode, content_type: &'static str, body: Bytes) -> Reply {
        let mut answer = Response::new(Full::new(body));
        *answer.status_mut() = status;
        answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        Reply::Answer(answer)
    }

    /// With one more header; left out if the value cannot stand in one.
    pub(super) fn with(mut self, name: HeaderName, value: &str) -> Reply {
        if let (Reply::Answer(answer), Ok(value)) = (&mut self, HeaderValue::from_str(value)) {
            answer.headers_mut().insert(name, value);
        }
        self
    }
}

/// Counts what happens, so that whoever waits for something to happen need not ask and ask.
#[derive(Debug)]
pub(super) struct Changes(watch::Sender<u64>);

impl Changes {
    /// Before the first one.
    pub(super) fn new() -> Changes {
        Changes(watch::Sender::new(0))
    }

    /// One more.
    pub(super) fn note(&self) {
        self.0.send_modify(|count| *count += 1);
    }

    /// How many there were. With `?after=N` it waits until there are more than N, or a while.
    pub(super) async fn count(&self, visit: &Visit) -> u64 {
        if let Some(seen) = visit.parameter("after").and_then(|text| text.parse().ok()) {
            let patience = Duration::from_millis(SIMULATE_STATS_WAIT_MS);
            let mut changes = self.0.subscribe();
            // That nothing happened is an answer, too.
            let _waited = timeout(patience, changes.wait_for(|count| *count > seen)).await;
        }
        *self.0.borrow()
    }
}

/// Microseconds as milliseconds with three decimals.
#[allow(clippy::cast_precision_loss, reason = "exact for three centuries")]
pub(super) fn ms(us: u64) -> f64 {
    us as f64 / 1000.0
}

/// A part that can be played.
pub(super) trait Double: Send + Sync + 'static {
    /// Its name in what is printed.
    const NAME: &str;

    /// Told, before the first call, where it listens.
    fn opened(&self, _addresses: &[SocketAddr]) {}

    /// Answers a call, or never does. Dropped when the client leaves.
    fn answer(&self, visit: Visit) -> impl Future<Output = Reply> + Send;

    /// Prints what it has seen, in a line.
    fn sum_up(&self);
}

/// Plays the part at these addresses until a signal. What is under way then is cut off: nobody is
/// to wait for an answer that was never to come.
pub(super) fn play<D: Double>(addresses: &[SocketAddr], double: Arc<D>) -> Result<Exit, Failure> {
    let connections_max = system::connections_max()?;
    system::runtime()?.block_on(async {
        let (listeners, addresses) = listen(addresses).await?;
        // Before the lines that say so: whoever reads them may send a signal at once.
        let ended = ended()?;
        for address in &addresses {
            let r#try = format_args!("curl http://{address}/stats");
            info!(%address, part = D::NAME, %r#try, "listening");
        }
        double.opened(&addresses);
        let serving = pin!(accept_all(listeners, Arc::clone(&double), connections_max));
        tokio::select! {
            served = serving => served.map_err(|error| Failure::System { what: "serving", error }),
            () = ended => Ok(()),
        }
    })?;
    double.sum_up();
    Ok(Exit::Success)
}

/// Listens on all of them, and says where that is.
async fn listen(addresses: &[SocketAddr]) -> Result<(Vec<TcpListener>, Vec<SocketAddr>), Failure> {
    let (mut listeners, mut opened) = (Vec::new(), Vec::new());
    for &address in addresses {
        let cannot_listen = |error| Failure::Listen { address, error };
        let listener = TcpListener::bind(address).await.map_err(cannot_listen)?;
        opened.push(listener.local_addr().map_err(cannot_listen)?);
        listeners.push(listener);
    }
    Ok((listeners, opened))
}

/// Resolves at the first signal that asks to end.
fn ended() -> Result<impl Future<Output = ()>, Failure> {
    let listen = || -> io::Result<_> {
        Ok((signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?))
    };
    let (mut terminate, mut interrupt) =
        listen().map_err(|error| Failure::System { what: "listening for signals", error })?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => (),
            _ = interrupt.recv() => (),
        }
    })
}

/// Accepts at all of them. Ends only when one of them cannot any more.
async fn accept_all<D: Double>(
    listeners: Vec<TcpListener>,
    double: Arc<D>,
    connections_max: usize,
) -> io::Result<()> {
    let reception = Arc::new(Reception {
        double,
        begun: Instant::now(),
        calls: AtomicU64::new(0),
        seats: Arc::new(Semaphore::new(connections_max)),
    });
    let mut accepting = JoinSet::new();
    for (place, listener) in listeners.into_iter().enumerate() {
        accepting.spawn(accept(place, listener, Arc::clone(&reception)));
    }
    let ended = accepting.join_next().await.expect("a part has an address");
    ended.unwrap_or_else(|fault| Err(io::Error::other(fault)))
}

async fn accept<D: Double>(
    place: usize,
    listener: TcpListener,
    reception: Arc<Reception<D>>,
) -> io::Result<()> {
    loop {
        let seats = Arc::clone(&reception.seats);
        let seat = seats.acquire_owned().await.expect("it is never closed");
        let (stream, _) = listener.accept().await?;
        if stream.set_nodelay(true).is_err() {
            // Whoever came has gone already.
            continue;
        }
        let reception = Arc::clone(&reception);
        tokio::spawn(async move {
            reception.converse(place, stream).await;
            drop(seat);
        });
    }
}

/// Numbers and dates the calls of all connections.
struct Reception<D> {
    double: Arc<D>,
    begun: Instant,
    calls: AtomicU64,
    /// One for each connection that may be open.
    seats: Arc<Semaphore>,
}

/// Makes hyper close the connection without an answer.
#[derive(Debug)]
struct Severed;

impl std::fmt::Display for Severed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("severed, as told")
    }
}

impl std::error::Error for Severed {}

impl<D: Double> Reception<D> {
    async fn converse(self: Arc<Self>, place: usize, stream: TcpStream) {
        let service = service_fn(|request| self.receive(place, request));
        let connection = http1::Builder::new()
            .max_buf_size(CONNECTION_BUFFER_BYTES_MAX)
            .serve_connection(TokioIo::new(stream), service);
        // A client that goes away ends its connection with an error, which concerns nobody.
        drop(connection.await);
    }

    async fn receive(
        &self,
        place: usize,
        request: Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>, Severed> {
        let number = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
        let (head, body) = request.into_parts();
        let reply = match Limited::new(body, SIMULATE_BODY_BYTES_MAX).collect().await {
            Err(_) => Reply::text(StatusCode::PAYLOAD_TOO_LARGE, "the body is too long or broken"),
            Ok(body) => {
                let query = head.uri.query().unwrap_or_default().as_bytes();
                let elapsed_us = self.begun.elapsed().as_micros();
                let visit = Visit {
                    place,
                    number,
                    at_us: u64::try_from(elapsed_us).unwrap_or(u64::MAX),
                    method: head.method,
                    path: head.uri.path().to_owned(),
                    query: form_urlencoded::parse(query).into_owned().collect(),
                    headers: head.headers,
                    body: body.to_bytes(),
                };
                self.double.answer(visit).await
            }
        };
        let name = HeaderName::from_static("x-request-id");
        match reply.with(name, &format!("{}-{number}", D::NAME)) {
            Reply::Answer(answer) => Ok(answer),
            Reply::Sever => Err(Severed),
        }
    }
}
