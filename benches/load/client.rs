//! One keep-alive connection that spends as little as it can.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Room for an answer; larger ones make it grow once.
const ANSWER_BYTES: usize = 16 << 10;
/// Header lines of an answer.
const HEADERS_MAX: usize = 32;

/// A connection with one request or answer under way.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    request: Vec<u8>,
    received: Vec<u8>,
}

/// An answer, until the next request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer<'a> {
    /// The status code.
    pub(crate) status: u16,
    /// The whole body.
    pub(crate) body: &'a [u8],
}

impl Answer<'_> {
    /// Stops the run unless the status is the one that must come.
    pub(crate) fn assert_status(&self, status: u16) {
        let body = String::from_utf8_lossy(self.body);
        assert_eq!(self.status, status, "{body}");
    }
}

struct Head {
    status: u16,
    bytes: usize,
    body_bytes: usize,
}

impl Connection {
    /// A new connection.
    pub(crate) async fn open(address: SocketAddr) -> Connection {
        let stream = TcpStream::connect(address).await.expect("the server accepts connections");
        stream.set_nodelay(true).expect("a fresh socket takes options");
        let received = Vec::with_capacity(ANSWER_BYTES);
        Connection { stream, request: Vec::with_capacity(ANSWER_BYTES), received }
    }

    /// An empty buffer for the next request.
    pub(crate) fn request(&mut self) -> &mut Vec<u8> {
        self.request.clear();
        &mut self.request
    }

    /// Sends the request and reads the answer to its end.
    pub(crate) async fn exchange(&mut self) -> Answer<'_> {
        self.stream.write_all(&self.request).await.expect("the server reads");
        self.received.clear();
        let head = loop {
            self.read_more().await;
            if let Some(head) = parse_head(&self.received) {
                break head;
            }
        };
        let total = head.bytes + head.body_bytes;
        self.received.reserve(total.saturating_sub(self.received.len()));
        while self.received.len() < total {
            self.read_more().await;
        }
        assert_eq!(self.received.len(), total, "one request has one answer");
        Answer { status: head.status, body: &self.received[head.bytes..] }
    }

    async fn read_more(&mut self) {
        let count = self.stream.read_buf(&mut self.received).await.expect("the server answers");
        assert!(count > 0, "the server keeps the connection");
    }
}

/// The head, if all of it is there.
fn parse_head(received: &[u8]) -> Option<Head> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let parsed = response.parse(received).expect("the server speaks HTTP");
    let httparse::Status::Complete(bytes) = parsed else { return None };
    let length = response.headers.iter().find(|h| h.name.eq_ignore_ascii_case("content-length"));
    let body_bytes = length.map_or(0, |header| {
        let digits = std::str::from_utf8(header.value).expect("a length is ASCII");
        digits.parse().expect("a length is a number")
    });
    Some(Head { status: response.code.expect("a complete head has a status"), bytes, body_bytes })
}
