//! One keep-alive connection that spends as little as it can.
//!
//! Answers are read with `content-length` or in chunks. A connection that the server asks to
//! close is opened again before the next request. Nothing is pipelined.

use std::io;
use std::mem;
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::cli::bench::fault::{Fault, Mistake};
use crate::cli::bench::target::Target;
use crate::cli::retry::Problem;
use crate::limits::CLIENT_RESPONSE_BYTES_MAX;

/// Room for an answer; larger ones make it grow once.
const ANSWER_BYTES: usize = 16 << 10;
/// Header lines of an answer.
const HEADERS_MAX: usize = 32;

/// A connection with one request or answer under way.
pub(crate) struct Connection {
    target: Arc<Target>,
    stream: TcpStream,
    request: Vec<u8>,
    received: Vec<u8>,
    /// The body of a chunked answer, put together.
    gathered: Vec<u8>,
    location: Vec<u8>,
    after: After,
}

/// What becomes of the connection after the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    Kept,
    Closed,
}

/// An answer, until the next request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer<'a> {
    /// The status code.
    pub(crate) status: u16,
    /// The value of `Location`; empty without one.
    pub(crate) location: &'a [u8],
    /// The whole body.
    pub(crate) body: &'a [u8],
}

impl Answer<'_> {
    /// Whether the server has no room for it now.
    pub(crate) fn is_turned_away(&self) -> bool {
        matches!(self.status, 429 | 503)
    }

    /// Refuses an answer with another status than this.
    pub(crate) fn expect(&self, expected: u16) -> Result<(), Fault> {
        let given = self.status;
        if given == expected {
            return Ok(());
        }
        // Other successes are mistakes, and so is a conflict where there cannot be one.
        if given < 400 || given == 409 {
            return Err(Fault::wrong(Mistake::Status { expected, given }, self.body));
        }
        let problem: Problem = serde_json::from_slice(self.body).unwrap_or_default();
        let status = hyper::StatusCode::from_u16(given).unwrap_or_default();
        Err(Fault::Refused { status: given, detail: problem.describe(status) })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Length {
    Bytes(usize),
    Chunked,
}

struct Head {
    status: u16,
    bytes: usize,
    length: Length,
}

impl Connection {
    /// A new connection.
    pub(crate) async fn open(target: &Arc<Target>) -> Result<Connection, Fault> {
        Ok(Connection {
            target: Arc::clone(target),
            stream: connect(target).await?,
            request: Vec::with_capacity(ANSWER_BYTES),
            received: Vec::with_capacity(ANSWER_BYTES),
            gathered: Vec::new(),
            location: Vec::new(),
            after: After::Kept,
        })
    }

    /// An empty buffer for the next request.
    pub(crate) fn request(&mut self) -> &mut Vec<u8> {
        self.request.clear();
        &mut self.request
    }

    /// Asks for a path and gives the body.
    pub(crate) async fn get(&mut self, path: &str) -> Result<&[u8], Fault> {
        let target = Arc::clone(&self.target);
        target.get(path, self.request());
        let answer = self.exchange().await?;
        answer.expect(200)?;
        Ok(answer.body)
    }

    /// Sends the request and reads the answer to its end.
    pub(crate) async fn exchange(&mut self) -> Result<Answer<'_>, Fault> {
        if mem::replace(&mut self.after, After::Kept) == After::Closed {
            self.stream = connect(&self.target).await?;
        }
        let sent = self.stream.write_all(&self.request).await;
        sent.map_err(|error| self.broken(error))?;
        self.received.clear();
        let head = loop {
            self.read_more().await?;
            if let Some(head) = self.parse_head()? {
                break head;
            }
        };
        let body = match head.length {
            Length::Chunked => {
                self.gather_chunks(head.bytes).await?;
                &self.gathered[..]
            }
            Length::Bytes(bytes) => {
                self.read_up_to(head.bytes.saturating_add(bytes)).await?;
                &self.received[head.bytes..]
            }
        };
        Ok(Answer { status: head.status, location: &self.location, body })
    }

    /// Reads until so many bytes are there; more is an answer that nobody asked for.
    async fn read_up_to(&mut self, total: usize) -> Result<(), Fault> {
        if total > CLIENT_RESPONSE_BYTES_MAX || self.received.len() > total {
            return Err(self.not_http());
        }
        self.received.reserve(total - self.received.len());
        while self.received.len() < total {
            self.read_more().await?;
        }
        if self.received.len() == total { Ok(()) } else { Err(self.not_http()) }
    }

    /// Puts the chunks together that begin at `at`.
    async fn gather_chunks(&mut self, mut at: usize) -> Result<(), Fault> {
        self.gathered.clear();
        loop {
            let (line_bytes, chunk_bytes) = loop {
                match httparse::parse_chunk_size(&self.received[at..]) {
                    Ok(httparse::Status::Complete(parsed)) => break parsed,
                    Ok(httparse::Status::Partial) => self.read_more().await?,
                    Err(_) => return Err(self.not_http()),
                }
            };
            let chunk_bytes = usize::try_from(chunk_bytes).unwrap_or(usize::MAX);
            let start = at + line_bytes;
            // Each chunk ends in a line end, and so do the absent trailers after the last.
            at = start.saturating_add(chunk_bytes).saturating_add(b"\r\n".len());
            if at > CLIENT_RESPONSE_BYTES_MAX {
                return Err(self.not_http());
            }
            while self.received.len() < at {
                self.read_more().await?;
            }
            self.gathered.extend_from_slice(&self.received[start..start + chunk_bytes]);
            if chunk_bytes == 0 {
                return Ok(());
            }
        }
    }

    async fn read_more(&mut self) -> Result<(), Fault> {
        match self.stream.read_buf(&mut self.received).await {
            Ok(0) => Err(self.broken(io::ErrorKind::UnexpectedEof.into())),
            Ok(_) => Ok(()),
            Err(error) => Err(self.broken(error)),
        }
    }

    /// The head, if all of it is there.
    fn parse_head(&mut self) -> Result<Option<Head>, Fault> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut response = httparse::Response::new(&mut headers);
        let bytes = match response.parse(&self.received) {
            Ok(httparse::Status::Complete(bytes)) => bytes,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => return Err(self.not_http()),
        };
        let status = response.code.unwrap_or_default();
        let mut length = Some(Length::Bytes(0));
        self.location.clear();
        for header in response.headers {
            if header.name.eq_ignore_ascii_case("content-length") {
                let digits = std::str::from_utf8(header.value).ok();
                length = digits.and_then(|digits| digits.parse().ok()).map(Length::Bytes);
            } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
                length = Some(Length::Chunked);
            } else if header.name.eq_ignore_ascii_case("location") {
                self.location.extend_from_slice(header.value);
            } else if header.name.eq_ignore_ascii_case("connection")
                && header.value.eq_ignore_ascii_case(b"close")
            {
                self.after = After::Closed;
            }
        }
        let length = length.ok_or_else(|| self.not_http())?;
        Ok(Some(Head { status, bytes, length }))
    }

    fn broken(&self, error: io::Error) -> Fault {
        Fault::Broken { address: self.target.address(), error }
    }

    fn not_http(&self) -> Fault {
        Fault::NotHttp { address: self.target.address() }
    }
}

async fn connect(target: &Target) -> Result<TcpStream, Fault> {
    let address = target.address();
    let connected = async {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    };
    connected.await.map_err(|error| Fault::Unreachable { address, error })
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// Answers one request on each new connection with these bytes, piece by piece.
    async fn double(answers: &'static [&'static [&'static [u8]]]) -> Arc<Target> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            for pieces in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 1024];
                let _ = stream.read(&mut request).await.unwrap();
                for piece in *pieces {
                    stream.write_all(piece).await.unwrap();
                    tokio::task::yield_now().await;
                }
            }
        });
        Arc::new(Target::at(address))
    }

    #[tokio::test]
    async fn chunks_are_put_together_wherever_they_are_cut() {
        let target = double(&[&[
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chu",
            b"nked\r\n\r\n5\r",
            b"\nhel",
            b"lo\r\n6;x=y\r\n world\r\n0\r\n",
            b"\r\n",
        ]]);
        let mut connection = Connection::open(&target.await).await.unwrap();
        assert_eq!(connection.get("/").await.unwrap(), b"hello world");
    }

    #[tokio::test]
    async fn a_connection_that_the_server_closes_is_opened_again() {
        const CLOSING: &[&[u8]] =
            &[b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\nconnection: close\r\n\r\nx"];
        let target = double(&[CLOSING, CLOSING]).await;
        let mut connection = Connection::open(&target).await.unwrap();
        assert_eq!(connection.get("/").await.unwrap(), b"x");
        assert_eq!(connection.get("/").await.unwrap(), b"x");
    }

    #[tokio::test]
    async fn what_is_no_answer_is_refused() {
        for answer in [
            "SSH-2.0-OpenSSH\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nxHTTP/1.1 200 OK",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nfffffffffffffff0\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nx",
        ] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let target = Arc::new(Target::at(listener.local_addr().unwrap()));
            let mut connection = Connection::open(&target).await.unwrap();
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
            drop(stream);
            let refused = connection.get("/").await.unwrap_err();
            let is_told = matches!(refused, Fault::NotHttp { .. } | Fault::Broken { .. });
            assert!(is_told, "{refused}");
        }
    }
}
