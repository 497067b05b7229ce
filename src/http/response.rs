//! What goes back to a client: status, headers, and a body that is whole or made as it goes.
//!
//! A whole body, too, is handed on in pieces: hyper copies each into its buffer, and no client
//! that does not read gets more than a piece into there. What waits for him is charged to a
//! budget until it is sent or he is given up.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::StatusCode;
use hyper::body::{Frame, SizeHint};
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};

use crate::http::budget::Charge;
use crate::http::connection::Exchange;
use crate::limits::RESPONSE_PIECE_BYTES;

/// The media type of every success that says nothing else.
pub const CONTENT_TYPE_JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A response on its way to the client.
#[derive(Debug)]
pub struct Response(hyper::Response<Body>);

impl Response {
    /// A response without a body.
    #[must_use]
    pub fn new(status: StatusCode) -> Response {
        let mut response = hyper::Response::new(Body::new(Content::Whole(Bytes::new())));
        *response.status_mut() = status;
        Response(response)
    }

    /// A response with a JSON document.
    #[must_use]
    pub fn json(status: StatusCode, json: impl Into<Bytes>) -> Response {
        Response::new(status).body(CONTENT_TYPE_JSON, json)
    }

    /// The same response with a body of this type.
    #[must_use]
    pub fn body(mut self, content_type: HeaderValue, body: impl Into<Bytes>) -> Response {
        *self.0.body_mut() = Body::new(Content::Whole(body.into()));
        self.header(CONTENT_TYPE, content_type)
    }

    /// The same response with a body that is made as it is sent.
    ///
    /// It is polled inside the connection's task, only while the client reads, and dropped when
    /// the client goes away.
    #[must_use]
    pub fn stream<B>(mut self, content_type: HeaderValue, body: B) -> Response
    where
        B: hyper::body::Body<Data = Bytes, Error = Infallible> + Send + 'static,
    {
        *self.0.body_mut() = Body::new(Content::Stream(Box::pin(body)));
        self.header(CONTENT_TYPE, content_type)
    }

    /// The same response with a header; replaces one of the same name.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Response {
        self.0.headers_mut().insert(name, value);
        self
    }

    /// The same response with what its body was charged, to be given back when it is over.
    pub(crate) fn charged(mut self, charge: Charge) -> Response {
        self.0.body_mut().charge = Some(charge);
        self
    }

    /// Bytes of its body that are in memory and not charged to anybody.
    pub(crate) fn uncharged_bytes(&self) -> usize {
        let body = self.0.body();
        let charged = body.charge.as_ref().map_or(0, Charge::bytes);
        match &body.content {
            Content::Whole(bytes) => bytes.len().saturating_sub(charged),
            Content::Stream(_) => 0,
        }
    }

    /// Its status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.0.status()
    }

    /// Its headers.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        self.0.headers()
    }

    /// What hyper sends. The exchange ends when the body is dropped.
    pub(crate) fn into_hyper(mut self, exchange: Exchange) -> hyper::Response<Body> {
        self.0.body_mut().exchange = Some(exchange);
        self.0
    }
}

/// The body of a response.
#[derive(Debug)]
pub struct Body {
    content: Content,
    /// Tells the connection, when it is dropped, that the response is over.
    exchange: Option<Exchange>,
    /// For `content`.
    charge: Option<Charge>,
}

enum Content {
    /// All of it; empty when it was sent or there is none.
    Whole(Bytes),
    /// As it comes.
    Stream(Pin<Box<dyn hyper::body::Body<Data = Bytes, Error = Infallible> + Send>>),
}

impl Body {
    fn new(content: Content) -> Body {
        Body { content, exchange: None, charge: None }
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut self.content {
            Content::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Content::Whole(bytes) => {
                let piece = bytes.split_to(bytes.len().min(RESPONSE_PIECE_BYTES));
                Poll::Ready(Some(Ok(Frame::data(piece))))
            }
            Content::Stream(stream) => stream.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Whole(bytes) => bytes.is_empty(),
            Content::Stream(stream) => stream.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Content::Stream(stream) => stream.size_hint(),
        }
    }
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Content::Whole(bytes) => write!(f, "Whole({} bytes)", bytes.len()),
            Content::Stream(_) => f.write_str("Stream"),
        }
    }
}

/// Appends `text` as a JSON string.
pub fn push_json_str(json: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(json, text).expect("a Vec takes every byte of a string");
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http_body_util::BodyExt;
    use hyper::body::Body as _;

    use super::*;
    use crate::http::budget::Budget;
    use crate::http::connection::Link;

    #[tokio::test]
    async fn a_large_body_goes_out_in_pieces_and_is_charged_until_it_is_dropped() {
        let budget = Arc::new(Budget::new(3 * RESPONSE_PIECE_BYTES));
        let mut charge = budget.open();
        charge.hold(2 * RESPONSE_PIECE_BYTES);
        let text = vec![b'x'; 2 * RESPONSE_PIECE_BYTES + 1];
        let response = Response::json(StatusCode::OK, text).charged(charge);
        assert_eq!(response.uncharged_bytes(), 1);
        let mut body = response.into_hyper(Exchange::begin(&Arc::<Link>::default())).into_body();
        let mut pieces = Vec::new();
        while let Some(frame) = body.frame().await {
            pieces.push(frame.unwrap().into_data().unwrap().len());
        }
        assert_eq!(pieces, [RESPONSE_PIECE_BYTES, RESPONSE_PIECE_BYTES, 1]);
        assert!(body.is_end_stream());
        assert_eq!(budget.left(), RESPONSE_PIECE_BYTES as i64, "somebody may still hold it");
        drop(body);
        assert_eq!(budget.left(), 3 * RESPONSE_PIECE_BYTES as i64);
    }
}
