//! Answers one request: everything between its head and its handler, and after it.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use hyper::StatusCode;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONNECTION, HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use tokio::time::Instant;

use super::Context;
use super::admission;
use super::budget::Budget;
use super::connection::Exchange;
use super::problem::{Kind, Problem};
use super::request::{BodyReader, Pace, Request, RequestId};
use super::response::{Body, Response};
use super::routes::{Destination, Route};
use super::wire::Patience;
use crate::limits::RESPONSE_BYTES_FREE;
use crate::metrics::RouteMetrics;

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const CLOSE: HeaderValue = HeaderValue::from_static("close");

/// The label of requests that reach no route.
const NO_ROUTE: &str = "none";

/// What all connections share.
pub(crate) struct Service {
    pub(crate) context: Context,
    /// By the index of the route.
    routes: Vec<RouteMetrics>,
    no_route: RouteMetrics,
    bodies: Arc<Budget>,
    pages: Arc<Budget>,
    ids: AtomicU64,
}

/// A request that was answered, for metrics and events.
struct Outcome<'a> {
    id: &'a RequestId,
    head: &'a Line,
    route: Option<usize>,
    status: StatusCode,
    took: Duration,
}

/// The request line, kept for the event.
struct Line {
    method: hyper::Method,
    target: hyper::Uri,
}

impl Service {
    pub(crate) fn new(context: Context) -> Service {
        let metrics = &context.metrics;
        Service {
            routes: context.served.iter().map(|route| metrics.route(route.label)).collect(),
            no_route: metrics.route(NO_ROUTE),
            bodies: Arc::new(Budget::new(context.bounds.bodies_bytes_max)),
            pages: Arc::new(Budget::new(context.bounds.pages_bytes_max)),
            ids: AtomicU64::new(0),
            context,
        }
    }

    pub(crate) fn patience(&self) -> Patience {
        let bounds = &self.context.bounds;
        Patience {
            head: Duration::from_millis(bounds.head_deadline_ms),
            keep_alive: Duration::from_millis(bounds.keep_alive_ms),
            write: Duration::from_millis(bounds.write_deadline_ms),
            linger: Duration::from_millis(bounds.linger_ms),
        }
    }

    /// The response to a request, whatever happens.
    pub(crate) async fn answer(
        &self,
        exchange: Exchange,
        request: hyper::Request<Incoming>,
    ) -> hyper::Response<Body> {
        let began = Instant::now();
        let (head, body) = request.into_parts();
        let id = self.request_id(&head.headers);
        let line = Line { method: head.method.clone(), target: head.uri.clone() };
        let (route, result) = match exchange.refusal() {
            Some(refusal) => (None, Err(Problem::from(refusal))),
            None => self.respond(&exchange, &id, head, self.reader(&exchange, body)).await,
        };
        let response = match result.and_then(|response| self.charge(&line.method, response)) {
            Ok(response) => response,
            Err(problem) => problem.into_response(&id),
        };
        let response = response.header(X_REQUEST_ID, id.header_value());
        let (status, took) = (response.status(), began.elapsed());
        self.note(&Outcome { id: &id, head: &line, route, status, took });
        self.close_if_due(&exchange, response).into_hyper(exchange)
    }

    fn reader(&self, exchange: &Exchange, body: Incoming) -> BodyReader {
        let pace = Pace { deadline: Duration::from_millis(self.context.bounds.body_deadline_ms) };
        BodyReader::new(body, pace, Arc::clone(&self.bodies), exchange.hangup())
    }

    /// Finds the route and runs it. The index of the route, if there is one, and its result.
    async fn respond(
        &self,
        exchange: &Exchange,
        id: &RequestId,
        head: Parts,
        body: BodyReader,
    ) -> (Option<usize>, Result<Response, Problem>) {
        match self.context.served.find(&head.method, head.uri.path()) {
            Destination::Route(index, parameter) => {
                let route = self.context.served.get(index);
                let request = self.admit(route, exchange, id, head, body, parameter);
                let result = match request {
                    Ok(request) => self.call(route, request).await,
                    Err(problem) => Err(problem),
                };
                (Some(index), result)
            }
            Destination::Options(allow) => {
                (None, Ok(Response::new(StatusCode::NO_CONTENT).header(ALLOW, allow)))
            }
            Destination::MethodUnknown(allow) => {
                (None, Err(Problem::method_not_allowed(&head.method, allow)))
            }
            Destination::PathUnknown => {
                (None, Err(Problem::new(Kind::NotFound, "nothing is served at this path")))
            }
        }
    }

    /// The request for the handler, if it passes all checks that need no body.
    fn admit(
        &self,
        route: &'static Route,
        exchange: &Exchange,
        id: &RequestId,
        head: Parts,
        body: BodyReader,
        parameter: Box<str>,
    ) -> Result<Request, Problem> {
        let (caller, query) = admission::check(&self.context, route, &head, &body)?;
        Ok(Request {
            method: head.method,
            target: head.uri,
            headers: head.headers,
            parameter,
            query,
            id: id.clone(),
            caller,
            body,
            hangup: exchange.hangup(),
            pages: Arc::clone(&self.pages),
        })
    }

    /// Runs the handler. A panic in it is the end of this request alone.
    async fn call(&self, route: &Route, request: Request) -> Result<Response, Problem> {
        let handler = pin!(route.endpoint.call(&self.context, request));
        catch_panic(handler).await.unwrap_or_else(|panic| Err(self.panicked(route, &*panic)))
    }

    /// Charges what the client may leave unread. An answer that changes nothing is refused when
    /// there is no room for it; any other stands, and keeps further large bodies out.
    fn charge(&self, method: &hyper::Method, response: Response) -> Result<Response, Problem> {
        let bytes = response.uncharged_bytes();
        if bytes <= RESPONSE_BYTES_FREE {
            return Ok(response);
        }
        let charge = if method.is_safe() {
            let mut charge = self.pages.open();
            charge.take(bytes)?;
            charge
        } else {
            let mut charge = self.bodies.open();
            charge.hold(bytes);
            charge
        };
        Ok(response.charged(charge))
    }

    fn panicked(&self, route: &Route, panic: &(dyn Any + Send)) -> Problem {
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        tracing::error!(route = route.label, panic = text.unwrap_or("?"), "a handler panicked");
        self.context.metrics.panics.inc();
        Problem::new(Kind::Internal, "the server failed while it handled this request")
    }

    /// The caller's id if it is sane, else a new one.
    fn request_id(&self, headers: &HeaderMap) -> RequestId {
        headers.get(X_REQUEST_ID).and_then(RequestId::taken_over).unwrap_or_else(|| {
            // An odd factor keeps the numbers distinct and makes them look it.
            let count = self.ids.fetch_add(1, Ordering::Relaxed);
            RequestId::new(count.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ self.context.id_seed)
        })
    }

    fn close_if_due(&self, exchange: &Exchange, response: Response) -> Response {
        let is_last = exchange.number >= self.context.bounds.requests_per_connection_max
            || exchange.is_unread()
            || self.context.shutdown.is_draining();
        if is_last { response.header(CONNECTION, CLOSE) } else { response }
    }

    fn note(&self, outcome: &Outcome<'_>) {
        let Outcome { id, head, route, status, took } = outcome;
        let metrics = route.map_or(&self.no_route, |index| &self.routes[index]);
        metrics.count(status.as_u16(), *took);
        // The query is left out: it may name what is confidential.
        let path = head.target.path();
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let (method, status) = (head.method.as_str(), status.as_u16());
        if is_remarkable(status) {
            tracing::warn!(%id, method, path, status, took_us, "request refused");
        } else {
            tracing::debug!(%id, method, path, status, took_us, "request answered");
        }
    }
}

/// The future's output, or what it panicked with. It is not polled again after that.
async fn catch_panic<F: Future>(mut future: Pin<&mut F>) -> std::thread::Result<F::Output> {
    std::future::poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(polled) => polled.map(Ok),
        Err(panic) => Poll::Ready(Err(panic)),
    })
    .await
}

/// Whether an operator should hear of it: faults of the server, load, and strangers.
fn is_remarkable(status: u16) -> bool {
    status >= 500 || matches!(status, 401 | 403 | 408 | 429)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_ends_only_its_own_future() {
        let calm = catch_panic(pin!(async { 7 })).await;
        assert_eq!(calm.expect("it does not panic"), 7);
        let panicking = pin!(async {
            tokio::task::yield_now().await;
            panic!("on purpose")
        });
        let panic = catch_panic(panicking).await.expect_err("it panics");
        assert_eq!(panic.downcast_ref::<&str>(), Some(&"on purpose"));
    }
}
