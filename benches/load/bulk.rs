//! One NDJSON stream: lines out as fast as the server takes them, results counted as they come.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::Request;
use hyper::body::{Body, Frame};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::formulas::Formulas;

/// Bytes handed to the connection at a time.
const FRAME_BYTES: usize = 64 << 10;

/// What a bulk load came to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Loaded {
    /// Bytes of the lines, newlines left out.
    pub(crate) json_bytes: u64,
    /// From the first byte sent to the last result.
    pub(crate) elapsed: Duration,
}

/// Loads the formulas with the numbers below `count`; each must be accepted.
pub(crate) async fn load(address: SocketAddr, formulas: &Arc<Formulas>, count: u64) -> Loaded {
    let json_bytes = json_bytes(formulas, count);
    let stream = TcpStream::connect(address).await.expect("the server accepts connections");
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.expect("a fresh connection can be used");
    let driver = tokio::spawn(connection);
    let lines = Lines { formulas: Arc::clone(formulas), next: 0, count };
    let request = Request::post("/formulas")
        .header("host", "127.0.0.1")
        .header("content-type", "application/x-ndjson")
        .body(lines)
        .expect("the request is well formed");
    let began = Instant::now();
    let response = sender.send_request(request).await.expect("the server answers");
    let mut body = response.into_body();
    let mut results = Results::default();
    while let Some(frame) = body.frame().await {
        let frame = frame.expect("the server goes on to the end");
        results.take(frame.data_ref().expect("results are data"));
    }
    assert_eq!(results.accepted, count, "every line was accepted");
    let elapsed = began.elapsed();
    driver.abort();
    Loaded { json_bytes, elapsed }
}

fn json_bytes(formulas: &Formulas, count: u64) -> u64 {
    let mut line = Vec::new();
    let bytes = |number| {
        line.clear();
        formulas.write(number, &mut line);
        line.len() as u64
    };
    (0..count).map(bytes).sum()
}

/// The body of the request, made as it is sent.
struct Lines {
    formulas: Arc<Formulas>,
    next: u64,
    count: u64,
}

impl Body for Lines {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let mut lines = Vec::with_capacity(FRAME_BYTES + 1024);
        while self.next < self.count && lines.len() < FRAME_BYTES {
            self.formulas.write(self.next, &mut lines);
            lines.push(b'\n');
            self.next += 1;
        }
        let frame = (!lines.is_empty()).then(|| Ok(Frame::data(Bytes::from(lines))));
        Poll::Ready(frame)
    }
}

/// Counts result lines, which may be cut anywhere.
#[derive(Default)]
struct Results {
    accepted: u64,
    /// The beginning of the line at hand, as far as the status shows.
    start: Vec<u8>,
}

impl Results {
    const ACCEPTED: &[u8] = b"{\"status\":201,";

    fn take(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            let newline = memchr::memchr(b'\n', data);
            let line = &data[..newline.unwrap_or(data.len())];
            let missing = Self::ACCEPTED.len() - self.start.len();
            self.start.extend_from_slice(&line[..line.len().min(missing)]);
            if newline.is_some() {
                let start = String::from_utf8_lossy(&self.start);
                assert_eq!(self.start, Self::ACCEPTED, "a line was refused: {start}");
                self.accepted += 1;
                self.start.clear();
            }
            data = newline.map_or(&[], |end| &data[end + 1..]);
        }
    }
}
