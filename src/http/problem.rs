//! Every error the API can answer: its status, its texts, its page.
//!
//! An error is a [`Problem`] (RFC 9457): a [`Kind`] from the one table of this file, a detail
//! for this occurrence, and members that a program can act on. All wording is here, so that
//! one reader can keep it consistent and a client meets the same words whatever layer refused.
//!
//! `type` is `/problems/<slug>`, relative to the server; the page behind it is written from
//! the same table (see [`page()`] and [`index_page`]).

mod kinds;
mod page;
mod refusals;

use std::borrow::Cow;
use std::fmt;

use hyper::StatusCode;
use hyper::header::{ALLOW, CONNECTION, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};

pub use kinds::{Kind, Text};
pub use page::{index_page, page};
pub use refusals::{existing, stale};

use crate::http::request::RequestId;
use crate::http::response::{Response, push_json_str};

/// The media type of every error.
pub const CONTENT_TYPE_PROBLEM: HeaderValue = HeaderValue::from_static("application/problem+json");

/// Room for the usual document, so that it is written without growing.
const DOCUMENT_BYTES_USUAL: usize = 512;

/// One error on its way to the client.
///
/// Boxed, so that a `Result<_, Problem>` is as small as a success.
#[derive(Debug)]
pub struct Problem(Box<Parts>);

#[derive(Debug)]
struct Parts {
    kind: Kind,
    detail: Cow<'static, str>,
    /// Further members, each a name and its value as JSON text, in order.
    members: Vec<(&'static str, Vec<u8>)>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// One fault of an invalid request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What it is about.
    pub place: Place,
    /// Lower case, no full stop; names the thing and the limit.
    pub detail: Cow<'static, str>,
}

/// Where a fault was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the body, by RFC 6901 pointer.
    Pointer(Cow<'static, str>),
    /// In the query, by parameter.
    Parameter(Cow<'static, str>),
    /// In the head, by header.
    Header(&'static str),
}

impl Problem {
    /// A problem of this kind. The detail is lower case without a full stop.
    #[must_use]
    pub fn new(kind: Kind, detail: impl Into<Cow<'static, str>>) -> Problem {
        let detail = detail.into();
        Problem(Box::new(Parts { kind, detail, members: Vec::new(), headers: Vec::new() }))
    }

    /// A 400 for a request whose faults are listed as `errors`, with how many more there are.
    ///
    /// The detail is that of the first fault with its place, and the number of the others.
    #[must_use]
    pub fn invalid(kind: Kind, faults: &[Fault], unlisted: usize) -> Problem {
        let problem = Problem::new(kind, summary(faults, unlisted)).member("errors", list(faults));
        if unlisted == 0 {
            return problem;
        }
        problem.member("errors_unlisted", unlisted.to_string())
    }

    /// A 400 for one fault of the query.
    #[must_use]
    pub fn parameter(name: &'static str, detail: impl Into<Cow<'static, str>>) -> Problem {
        let place = Place::Parameter(Cow::Borrowed(name));
        Problem::invalid(Kind::InvalidQuery, &[Fault { place, detail: detail.into() }], 0)
    }

    /// A 400 for one fault of a header.
    #[must_use]
    pub fn header(name: &'static str, detail: impl Into<Cow<'static, str>>) -> Problem {
        let fault = Fault { place: Place::Header(name), detail: detail.into() };
        Problem::invalid(Kind::BadRequest, &[fault], 0)
    }

    /// A 400 for a header that stands there twice.
    #[must_use]
    pub fn repeated_header(name: &HeaderName) -> Problem {
        Problem::new(Kind::BadRequest, format!("header {name}: is given twice"))
    }

    /// A 401: no token, or none we know.
    #[must_use]
    pub fn unauthorized(detail: &'static str) -> Problem {
        let challenge = HeaderValue::from_static("Bearer realm=\"sillage\"");
        Problem::new(Kind::Unauthorized, detail).with_header(WWW_AUTHENTICATE, challenge)
    }

    /// A 405 for a path that has other methods.
    #[must_use]
    pub fn method_not_allowed(method: &hyper::Method, allow: HeaderValue) -> Problem {
        let detail = format!("{method} is not one of this path's methods");
        Problem::new(Kind::MethodNotAllowed, detail).with_header(ALLOW, allow)
    }

    /// A 503 for load, to be tried again after `retry_after_s` seconds.
    #[must_use]
    pub fn overloaded(detail: &'static str, retry_after_s: u64) -> Problem {
        Problem::new(Kind::Overloaded, detail).retry_after(retry_after_s)
    }

    /// The same problem with one more member; `json` is its value as JSON text.
    #[must_use]
    pub fn member(mut self, name: &'static str, json: impl Into<Vec<u8>>) -> Problem {
        self.0.members.push((name, json.into()));
        self
    }

    /// The same problem with one more header.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Problem {
        self.0.headers.push((name, value));
        self
    }

    /// The same problem with `Retry-After` in seconds.
    #[must_use]
    pub fn retry_after(self, seconds: u64) -> Problem {
        self.with_header(RETRY_AFTER, HeaderValue::from(seconds))
    }

    /// The same problem; the connection is closed after it, because the rest of the request
    /// was not read or cannot be.
    #[must_use]
    pub fn closing(self) -> Problem {
        self.with_header(CONNECTION, HeaderValue::from_static("close"))
    }

    /// Which problem it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// What is wrong with this request.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.0.detail
    }

    /// Its status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.0.kind.text().status
    }

    /// Appends the document; without a request id it can be completed by [`push_request_id`].
    pub fn render(&self, json: &mut Vec<u8>, request_id: Option<&str>) {
        let Parts { kind, detail, members, .. } = &*self.0;
        let Text { slug, status, title, .. } = kind.text();
        json.extend_from_slice(b"{\"type\":\"/problems/");
        json.extend_from_slice(slug.as_bytes());
        json.extend_from_slice(b"\",\"title\":\"");
        json.extend_from_slice(title.as_bytes());
        json.extend_from_slice(b"\",\"status\":");
        json.extend_from_slice(status.as_str().as_bytes());
        json.extend_from_slice(b",\"detail\":");
        push_json_str(json, detail);
        for (name, value) in members {
            json.extend_from_slice(b",\"");
            json.extend_from_slice(name.as_bytes());
            json.extend_from_slice(b"\":");
            json.extend_from_slice(value);
        }
        json.push(b'}');
        if let Some(id) = request_id {
            push_request_id(json, id);
        }
    }

    /// The response.
    #[must_use]
    pub fn into_response(self, id: &RequestId) -> Response {
        let mut json = Vec::with_capacity(DOCUMENT_BYTES_USUAL);
        self.render(&mut json, Some(id.as_str()));
        let response = Response::new(self.status()).body(CONTENT_TYPE_PROBLEM, json);
        self.0.headers.into_iter().fold(response, |r, (name, value)| r.header(name, value))
    }
}

/// Adds `request_id` as last member to a document that [`Problem::render`] wrote without.
pub fn push_request_id(json: &mut Vec<u8>, id: &str) {
    let end = json.pop();
    debug_assert_eq!(end, Some(b'}'), "a problem document is an object");
    json.extend_from_slice(b",\"request_id\":");
    push_json_str(json, id);
    json.push(b'}');
}

fn summary(faults: &[Fault], unlisted: usize) -> String {
    let others = faults.len().saturating_sub(1) + unlisted;
    match (faults.first(), others) {
        (None, _) => String::from("the request is invalid"),
        (Some(first), 0) => first.to_string(),
        (Some(first), 1) => format!("{first}; and 1 more fault"),
        (Some(first), others) => format!("{first}; and {others} more faults"),
    }
}

fn list(faults: &[Fault]) -> Vec<u8> {
    array(faults, |json, fault| {
        let (member, place) = match &fault.place {
            Place::Pointer(pointer) => ("pointer", &**pointer),
            Place::Parameter(name) => ("parameter", &**name),
            Place::Header(name) => ("header", *name),
        };
        json.extend_from_slice(format!("{{\"{member}\":").as_bytes());
        push_json_str(json, place);
        json.extend_from_slice(b",\"detail\":");
        push_json_str(json, &fault.detail);
        json.push(b'}');
    })
}

/// A JSON array whose elements `push` writes.
fn array<T>(items: &[T], push: impl Fn(&mut Vec<u8>, &T)) -> Vec<u8> {
    let mut json = vec![b'['];
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            json.push(b',');
        }
        push(&mut json, item);
    }
    json.push(b']');
    json
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Pointer(pointer) if pointer.is_empty() => write!(f, "{}", self.detail),
            Place::Pointer(pointer) => write!(f, "{pointer}: {}", self.detail),
            Place::Parameter(name) => write!(f, "parameter {name}: {}", self.detail),
            Place::Header(name) => write!(f, "header {name}: {}", self.detail),
        }
    }
}
