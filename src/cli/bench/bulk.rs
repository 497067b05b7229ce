//! One NDJSON stream: lines out as fast as the server takes them, results checked as they come.
//!
//! Every line must be accepted. Of each `BENCH_LINES_PER_CHECK`th the id is computed again and
//! compared, which also notices results that are not in the order of the lines.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;

use hyper::body::{Body, Frame};
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::cli::bench::connection::Answer;
use crate::cli::bench::fault::{Fault, Mistake};
use crate::cli::bench::submit::{HexId, Supply};
use crate::cli::bench::target::Target;
use crate::limits::BENCH_LINES_PER_CHECK;

/// Bytes handed to the connection at a time.
const FRAME_BYTES: usize = 64 << 10;
/// Room in it for the line that goes over.
const LINE_BYTES: usize = 1 << 10;

/// What a bulk load came to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Loaded {
    /// Bytes of the lines, newlines left out.
    pub(crate) json_bytes: u64,
    /// From the first byte sent to the last result.
    pub(crate) elapsed: Duration,
}

/// Loads `count` formulas from the number `first` on; each must be accepted.
pub(crate) async fn load(
    target: &Target,
    supply: &Arc<Supply>,
    (first, count): (u64, u64),
) -> Result<Loaded, Fault> {
    let address = target.address();
    let stream = TcpStream::connect(address).await;
    let stream = stream.map_err(|error| Fault::Unreachable { address, error })?;
    let broken = |error: hyper::Error| Fault::Broken { address, error: io::Error::other(error) };
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let driver = tokio::spawn(connection);
    let json_bytes = Arc::new(AtomicU64::new(0));
    let lines = Lines {
        supply: Arc::clone(supply),
        next: first,
        end: first + count,
        json_bytes: Arc::clone(&json_bytes),
    };
    let mut request = Request::post(target.path("/formulas"))
        .header(HOST, target.host())
        .header(CONTENT_TYPE, "application/x-ndjson");
    if let Some(authorization) = target.authorization() {
        request = request.header(AUTHORIZATION, authorization);
    }
    let request = request.body(lines).expect("host, path and token were parsed");
    let began = Instant::now();
    let response = sender.send_request(request).await.map_err(broken)?;
    if response.status() != StatusCode::OK {
        let status = response.status().as_u16();
        let refusal = response.into_body().collect().await.map_err(broken)?.to_bytes();
        let refusal = Answer { status, location: b"", body: &refusal };
        return Err(refusal.expect(200).err().unwrap_or(Fault::NotHttp { address }));
    }
    let mut body = response.into_body();
    let mut results = Results { supply, next: first, start: Vec::new(), body: Vec::new() };
    while let Some(frame) = body.frame().await {
        if let Some(data) = frame.map_err(broken)?.data_ref() {
            results.take(data)?;
        }
    }
    if results.next != first + count {
        return Err(Fault::wrong(Mistake::Results, b""));
    }
    let elapsed = began.elapsed();
    driver.abort();
    Ok(Loaded { json_bytes: json_bytes.load(Ordering::Relaxed), elapsed })
}

/// The body of the request, made as it is sent.
struct Lines {
    supply: Arc<Supply>,
    next: u64,
    end: u64,
    json_bytes: Arc<AtomicU64>,
}

impl Body for Lines {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let mut lines = Vec::with_capacity(FRAME_BYTES + LINE_BYTES);
        let first = self.next;
        while self.next < self.end && lines.len() < FRAME_BYTES {
            self.supply.formulas.write(self.next, &mut lines);
            lines.push(b'\n');
            self.next += 1;
        }
        let newlines = self.next - first;
        self.json_bytes.fetch_add(lines.len() as u64 - newlines, Ordering::Relaxed);
        let frame = (!lines.is_empty()).then(|| Ok(Frame::data(Bytes::from(lines))));
        Poll::Ready(frame)
    }
}

/// Checks result lines, which may be cut anywhere.
struct Results<'a> {
    supply: &'a Supply,
    /// The number of the formula whose result comes next.
    next: u64,
    /// The beginning of the line at hand, as far as the id.
    start: Vec<u8>,
    body: Vec<u8>,
}

impl Results<'_> {
    const ACCEPTED: &'static [u8] = b"{\"status\":201,\"formula\":{\"id\":\"";
    const START_BYTES: usize = Self::ACCEPTED.len() + size_of::<HexId>();

    fn take(&mut self, mut data: &[u8]) -> Result<(), Fault> {
        while !data.is_empty() {
            let newline = memchr::memchr(b'\n', data);
            let line = &data[..newline.unwrap_or(data.len())];
            let missing = Self::START_BYTES - self.start.len();
            self.start.extend_from_slice(&line[..line.len().min(missing)]);
            if newline.is_some() {
                self.end_line()?;
            }
            data = newline.map_or(&[], |end| &data[end + 1..]);
        }
        Ok(())
    }

    fn end_line(&mut self) -> Result<(), Fault> {
        let Some(id) = self.start.strip_prefix(Self::ACCEPTED) else {
            return Err(Fault::wrong(Mistake::Content, &self.start));
        };
        if self.next.is_multiple_of(BENCH_LINES_PER_CHECK)
            && *id != self.supply.formulas.id(self.next, &mut self.body)
        {
            return Err(Fault::wrong(Mistake::Id, id));
        }
        self.next += 1;
        self.start.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(supply: &Supply, number: u64) -> String {
        let id = supply.formulas.id(number, &mut Vec::new());
        let id = std::str::from_utf8(&id).unwrap();
        format!("{{\"status\":201,\"formula\":{{\"id\":\"{id}\",\"seq\":3}}}}\n")
    }

    #[test]
    fn results_are_counted_wherever_they_are_cut() {
        let supply = Supply::new(1, 0);
        let text: String = (0..3).map(|number| line(&supply, number)).collect();
        for size in [1, 7, 100, text.len()] {
            let mut results =
                Results { supply: &supply, next: 0, start: Vec::new(), body: Vec::new() };
            text.as_bytes().chunks(size).for_each(|piece| results.take(piece).unwrap());
            assert_eq!(results.next, 3);
        }
    }

    #[test]
    fn a_refused_line_and_a_foreign_id_are_noticed() {
        let supply = Supply::new(1, 0);
        for wrong in ["{\"status\":409,\"problem\":{}}\n".to_owned(), line(&supply, 1)] {
            let mut results =
                Results { supply: &supply, next: 0, start: Vec::new(), body: Vec::new() };
            assert!(results.take(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
