//! One HTTP call: an answer or a fault, within its deadlines and bounds.
//!
//! HTTP/1.1 by hyper, over TLS by rustls. Connections that are in order after an answer are used
//! again for a few seconds (`CALL_KEEP_ALIVE_MS`). A call that finds such a one closed before a
//! byte of it was sent goes out on a new one, so the other side still sees it once. Redirects are
//! answers, proxies in the environment are not asked, cookies and compressed bodies do not exist
//! here.
//!
//! A call that is dropped is over: its connection is closed, not used again. What may have taken
//! effect by then only the other side knows.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{HeaderMap, HeaderValue, RETRY_AFTER, USER_AGENT};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::capture_connection;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use crate::limits::{
    ANSWER_HEADERS_MAX, CALL_IDLE_CONNECTIONS_MAX, CALL_KEEP_ALIVE_MS, CONNECTION_BUFFER_BYTES_MAX,
};
use crate::outbound::backoff;
use crate::outbound::dial::{Connector, Dialler};
use crate::outbound::fault::{CallFault, Phase};
use crate::outbound::lookup::{Lookup, SystemLookup};
use crate::outbound::target::{Target, UrlFault};
use crate::outbound::tls::Tls;
use crate::outbound::vet::{ECHO_PATH, Vet, Vetoed};
use crate::time::Timestamp;

const AGENT: HeaderValue = HeaderValue::from_static(concat!("sillage/", env!("CARGO_PKG_VERSION")));

/// Calls others over HTTP. Cheap to clone; clones share their connections.
#[derive(Clone, Debug)]
pub struct Client {
    /// For every path but one.
    usual: Line,
    /// For `ECHO_PATH` alone, which may be dialled where others may not. Its connections are
    /// its own: whoever calls another path must not find one of them open.
    echo: Line,
}

/// Connections, and who makes them.
#[derive(Clone, Debug)]
struct Line {
    http: legacy::Client<Connector, Full<Bytes>>,
    dialler: Dialler,
}

/// What to send where.
#[derive(Clone, Debug)]
pub struct Call<'a> {
    /// The method.
    pub method: Method,
    /// Where to.
    pub url: &'a Target,
    /// Headers beside `Host`, `User-Agent` and `Content-Length`, which are set. Mark secrets as
    /// sensitive.
    pub headers: HeaderMap,
    /// Empty for a call without a body.
    pub body: Bytes,
    /// How long it may take, and how much may come back.
    pub limits: CallLimits,
}

/// How long a call may take, and how much may come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallLimits {
    /// Until there is a connection: looking up, connecting, agreeing on keys. Above
    /// `CONNECT_MS_MAX` that counts.
    pub connect_ms: u64,
    /// From then until the answer's head is there.
    pub head_ms: u64,
    /// From then until the answer's body is there.
    pub body_ms: u64,
    /// All of it together.
    pub deadline_ms: u64,
    /// Bytes of the answer's body that are kept. What is longer is cut off there.
    pub answer_bytes_max: usize,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status; any.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, or its beginning if `is_cut`.
    pub body: Bytes,
    /// Whether the body had more than `answer_bytes_max`. The connection is closed then, unless
    /// the rest had come already.
    pub is_cut: bool,
}

impl Answer {
    /// What `Retry-After` asks for; see [`backoff::retry_after_ms`].
    #[must_use]
    pub fn retry_after_ms(&self, now: Timestamp) -> Option<u64> {
        backoff::retry_after_ms(self.headers.get(RETRY_AFTER)?.to_str().ok()?, now)
    }
}

impl Client {
    /// A client that calls what passes `vet` and asks the system what names stand for. Two
    /// clients share neither connections nor places for look-ups.
    #[must_use]
    pub fn new(vet: Vet, tls: &Tls) -> Client {
        Client::with_lookup(vet, tls, Arc::new(SystemLookup::new()))
    }

    /// A client that asks somebody else what names stand for.
    #[must_use]
    pub fn with_lookup(vet: Vet, tls: &Tls, lookup: Arc<dyn Lookup>) -> Client {
        Client::build(vet, tls, lookup, CALL_IDLE_CONNECTIONS_MAX)
    }

    /// A client that makes a connection for every call, which therefore is sent within the time
    /// for a connection or not at all. A call on a used connection may find that one closed, and
    /// be sent whenever there is another.
    #[must_use]
    pub fn without_reuse(vet: Vet, tls: &Tls, lookup: Arc<dyn Lookup>) -> Client {
        Client::build(vet, tls, lookup, 0)
    }

    fn build(vet: Vet, tls: &Tls, lookup: Arc<dyn Lookup>, idle_max: usize) -> Client {
        let echo = Dialler::new(vet.for_echo(), Arc::clone(&lookup));
        let usual = Dialler::new(vet, lookup);
        Client { usual: Line::new(usual, tls, idle_max), echo: Line::new(echo, tls, idle_max) }
    }

    fn line(&self, uri: &Uri) -> &Line {
        let is_echo = uri.path_and_query().is_some_and(|line| line == ECHO_PATH);
        if is_echo { &self.echo } else { &self.usual }
    }

    /// Calls once.
    ///
    /// # Errors
    /// There is no answer, or no whole one. An answer of any status is no fault.
    pub async fn call(&self, call: Call<'_>) -> Result<Answer, CallFault> {
        let uri = call.url.uri().clone();
        self.call_uri(uri, call).await
    }

    /// Calls once, at this URI instead of the target's own.
    pub(super) async fn call_uri(&self, uri: Uri, call: Call<'_>) -> Result<Answer, CallFault> {
        let limits = call.limits;
        let ends = Instant::now() + Duration::from_millis(limits.deadline_ms);
        let request = request(uri, call);
        let response = Box::pin(self.head(request, limits, ends)).await?;
        let late = CallFault::TimedOut { phase: Phase::Body };
        let ends = ends.min(Instant::now() + Duration::from_millis(limits.body_ms));
        let gathering = gather(response, limits.answer_bytes_max);
        timeout_at(ends, gathering).await.unwrap_or(Err(late))
    }

    async fn head(
        &self,
        mut request: Request<Full<Bytes>>,
        limits: CallLimits,
        ends: Instant,
    ) -> Result<Response<Incoming>, CallFault> {
        let mut connection = capture_connection(&mut request);
        let http = &self.line(request.uri()).http;
        let mut answering = std::pin::pin!(http.request(request));
        let connected = async { drop(connection.wait_for_connection_metadata().await) };
        let connect_ends = ends.min(Instant::now() + Duration::from_millis(limits.connect_ms));
        let early = tokio::select! {
            biased;
            answered = &mut answering => Some(answered),
            () = connected => None,
            () = sleep_until(connect_ends) => {
                return Err(CallFault::TimedOut { phase: Phase::Connect });
            }
        };
        let head_ends = ends.min(Instant::now() + Duration::from_millis(limits.head_ms));
        let late = CallFault::TimedOut { phase: Phase::Head };
        let answered = match early {
            Some(answered) => answered,
            None => timeout_at(head_ends, answering).await.map_err(|_| late)?,
        };
        answered.map_err(|error| CallFault::of_client(&error))
    }

    /// Whether the target could be called now: its name stands for at least one address that may
    /// be. For telling a mistake where it is made; each call looks again.
    ///
    /// # Errors
    /// `Vetoed`, `Unresolvable` or, after `deadline_ms`, `LookupTimedOut`.
    pub async fn resolve(&self, target: &Target, deadline_ms: u64) -> Result<(), UrlFault> {
        let dialler = &self.line(target.uri()).dialler;
        let looking = dialler.addresses(target.host(), target.port());
        match timeout(Duration::from_millis(deadline_ms), looking).await {
            Err(_) => Err(UrlFault::LookupTimedOut),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(CallFault::Vetoed(ip))) => Err(UrlFault::Vetoed(Vetoed(ip))),
            Ok(Err(_)) => Err(UrlFault::Unresolvable),
        }
    }
}

impl Line {
    /// `idle_max` connections to one host stay open unused.
    fn new(dialler: Dialler, tls: &Tls, idle_max: usize) -> Line {
        let connector = Connector::new(dialler.clone(), tls);
        let http = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_millis(CALL_KEEP_ALIVE_MS))
            .pool_max_idle_per_host(idle_max)
            .http1_max_buf_size(CONNECTION_BUFFER_BYTES_MAX)
            .http1_max_headers(ANSWER_HEADERS_MAX)
            .build(connector);
        Line { http, dialler }
    }
}

fn request(uri: Uri, call: Call<'_>) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(call.body));
    *request.method_mut() = call.method;
    *request.uri_mut() = uri;
    *request.headers_mut() = call.headers;
    request.headers_mut().insert(USER_AGENT, AGENT);
    request
}

/// Reads the body up to the bound. What is dropped half read takes its connection with it.
async fn gather(response: Response<Incoming>, bytes_max: usize) -> Result<Answer, CallFault> {
    let (head, mut incoming) = response.into_parts();
    let mut body = BytesMut::new();
    let mut is_cut = false;
    while let Some(frame) = incoming.frame().await {
        let Ok(data) = frame.map_err(|_| CallFault::CutOff)?.into_data() else { continue };
        let room = bytes_max - body.len();
        body.extend_from_slice(&data[..room.min(data.len())]);
        if data.len() > room {
            is_cut = true;
            break;
        }
    }
    Ok(Answer { status: head.status, headers: head.headers, body: body.freeze(), is_cut })
}

#[cfg(test)]
mod tests;
