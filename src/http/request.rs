//! A request as the handlers see it, after the dispatcher has checked all that needs no body.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use hyper::Method;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};

mod body;
mod query;

pub use body::BodyReader;
pub(crate) use body::{Pace, no_room, too_large};
pub use query::Query;

use crate::http::budget::{Budget, Charge};
use crate::http::connection::Hangup;
use crate::http::offload::{is_long, offload};
use crate::http::problem::Problem;
use crate::limits::REQUEST_ID_BYTES_MAX;

/// A request whose route is known, whose caller may make it, and whose head is in order.
#[derive(Debug)]
pub struct Request {
    pub(crate) method: Method,
    pub(crate) target: hyper::Uri,
    pub(crate) headers: HeaderMap,
    /// The decoded variable segment of the path; empty when the route has none.
    pub(crate) parameter: Box<str>,
    pub(crate) query: Query,
    pub(crate) id: RequestId,
    pub(crate) caller: Caller,
    pub(crate) body: BodyReader,
    pub(crate) hangup: Hangup,
    /// Memory for pages that clients have not read yet.
    pub(crate) pages: Arc<Budget>,
}

impl Request {
    /// The method as sent: `HEAD` is handled as `GET`, its body is left out later.
    #[must_use]
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// The path as sent.
    #[must_use]
    pub fn path(&self) -> &str {
        self.target.path()
    }

    /// The variable segment of the path, decoded; empty when the route has none.
    #[must_use]
    pub fn parameter(&self) -> &str {
        &self.parameter
    }

    /// The query's parameters: each one known to the route, none twice.
    #[must_use]
    pub fn query(&self) -> &Query {
        &self.query
    }

    /// The query as sent, without `?`; empty when there is none.
    #[must_use]
    pub fn query_text(&self) -> &str {
        self.target.query().unwrap_or_default()
    }

    /// The headers.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The value of a header that may stand there once.
    ///
    /// # Errors
    /// A 400 when it stands there twice.
    pub fn header_once(&self, name: &HeaderName) -> Result<Option<&HeaderValue>, Problem> {
        let mut values = self.headers.get_all(name).iter();
        let first = values.next();
        match values.next() {
            None => Ok(first),
            Some(_) => Err(Problem::repeated_header(name)),
        }
    }

    /// What this request is called in events, problems and `X-Request-Id`.
    #[must_use]
    pub fn id(&self) -> &RequestId {
        &self.id
    }

    /// Who makes it.
    #[must_use]
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// The whole body.
    ///
    /// # Errors
    /// 413 when it has more than `bytes_max` bytes, 408 when it does not arrive in time, 400
    /// when it breaks off. A second call gives an empty body.
    pub async fn body(&mut self, bytes_max: usize) -> Result<Bytes, Problem> {
        self.body.read_all(bytes_max).await
    }

    /// What `read` makes of a body that came with this request. A large one is read on another
    /// thread; what it is charged stays charged even if the request is dropped meanwhile.
    pub(crate) async fn read<T: Send + 'static>(
        &mut self,
        body: Bytes,
        read: impl FnOnce(&[u8]) -> T + Send + 'static,
    ) -> T {
        if !is_long(body.len()) {
            return read(&body);
        }
        let charge = self.body.charge().split();
        let (made, charge) = Box::pin(offload(move || (read(&body), charge))).await;
        *self.body.charge() = charge;
        made
    }

    /// A charge for the page that is made for this request.
    pub(crate) fn page_charge(&self) -> Charge {
        self.pages.open()
    }

    /// The body piece by piece, to be read while the response is made.
    #[must_use]
    pub fn into_body(self) -> BodyReader {
        self.body
    }

    /// Completes when the client has closed its side of the connection.
    ///
    /// A client may do so after its last request and still read the answer, so only what is
    /// useless to somebody who has left should end by it: waiting for a message, say.
    #[must_use]
    pub fn hangup(&self) -> Hangup {
        self.hangup.clone()
    }
}

/// Who makes a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Somebody, on a server without tokens or a path that needs none.
    Anonymous,
    /// The holder of the token of this name.
    Token(Arc<str>),
}

impl Caller {
    /// The token's name; empty for anonymous callers, which no token's name is.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Caller::Anonymous => "",
            Caller::Token(name) => name,
        }
    }
}

/// Names a request: 1 to 128 visible ASCII characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(HeaderValue);

impl RequestId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.to_str().expect("only visible ASCII is taken over")
    }

    /// The id as a header's value.
    pub(crate) fn header_value(&self) -> HeaderValue {
        self.0.clone()
    }

    /// The client's id, if it is sane.
    pub(crate) fn taken_over(value: &HeaderValue) -> Option<RequestId> {
        let bytes = value.as_bytes();
        let sane = (1..=REQUEST_ID_BYTES_MAX).contains(&bytes.len())
            && bytes.iter().all(u8::is_ascii_graphic);
        sane.then(|| RequestId(value.clone()))
    }

    /// A new id: 16 hexadecimal digits.
    pub(crate) fn new(number: u64) -> RequestId {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0; 16];
        for (pair, byte) in text.chunks_exact_mut(2).zip(number.to_be_bytes()) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        RequestId(HeaderValue::from_bytes(&text).expect("hexadecimal digits are a header's value"))
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_ids_are_sixteen_digits_and_sane() {
        let id = RequestId::new(0x0123_4567_89ab_cdef);
        assert_eq!(id.as_str(), "0123456789abcdef");
        assert_eq!(RequestId::taken_over(&id.header_value()), Some(id));
    }

    #[test]
    fn only_short_visible_ids_are_taken_over() {
        let taken = |text: &str| {
            RequestId::taken_over(&HeaderValue::from_bytes(text.as_bytes()).expect("a value"))
        };
        assert!(taken("a").is_some());
        assert!(taken(&"x".repeat(REQUEST_ID_BYTES_MAX)).is_some());
        assert!(taken(&"x".repeat(REQUEST_ID_BYTES_MAX + 1)).is_none());
        for bad in ["", "a b", "é", "a\tb"] {
            assert!(taken(bad).is_none(), "{bad:?}");
        }
    }
}
