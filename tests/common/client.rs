//! A small blocking HTTP/1.1 client that forgives nothing.
//!
//! It checks what a lenient client would let pass: exact line ends, one body length, no bytes
//! left over, `X-Request-Id` on every response. A fault of the server's framing is an error of
//! kind `InvalidData`; a broken connection keeps its own kind, so that the crash suite can tell
//! a killed server from a wrong one.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

use super::PATIENCE;

/// A request to be sent.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) method: &'static str,
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Option<Vec<u8>>,
}

impl Call {
    /// A request without a body.
    pub(crate) fn new(method: &'static str, target: impl Into<String>) -> Call {
        Call { method, target: target.into(), headers: Vec::new(), body: None }
    }

    /// A GET.
    pub(crate) fn get(target: impl Into<String>) -> Call {
        Call::new("GET", target)
    }

    /// A POST of JSON.
    pub(crate) fn post(target: impl Into<String>, body: impl Into<Vec<u8>>) -> Call {
        Call::post_as("application/json", target, body)
    }

    /// A POST of something else.
    pub(crate) fn post_as(
        content_type: &str,
        target: impl Into<String>,
        body: impl Into<Vec<u8>>,
    ) -> Call {
        let call = Call { body: Some(body.into()), ..Call::new("POST", target) };
        call.header("Content-Type", content_type)
    }

    /// With one more header.
    pub(crate) fn header(mut self, name: &str, value: impl Into<String>) -> Call {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Under an idempotency key.
    pub(crate) fn key(self, key: impl Into<String>) -> Call {
        self.header("Idempotency-Key", key)
    }

    /// On behalf of the owner of a token.
    pub(crate) fn token(self, token: &str) -> Call {
        self.header("Authorization", format!("Bearer {token}"))
    }

    fn head(&self, address: SocketAddr) -> String {
        let mut head = format!("{} {} HTTP/1.1\r\nHost: {address}\r\n", self.method, self.target);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head
    }
}

/// A response, read to its end.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    /// The value of a header that stands at most once.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(given, _)| given.eq_ignore_ascii_case(name));
        let value = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "header {name} stands twice: {self:?}");
        value
    }

    /// The body as text.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is UTF-8")
    }

    /// The body as JSON. Numbers lose digits here: for exact ones see `Formula`.
    pub(crate) fn json(&self) -> Value {
        match serde_json::from_slice(&self.body) {
            Ok(value) => value,
            Err(error) => panic!("not JSON ({error}): {}", self.text()),
        }
    }

    /// The body as a type that says what it must hold.
    pub(crate) fn parse<T: serde::de::DeserializeOwned>(&self) -> T {
        match serde_json::from_slice(&self.body) {
            Ok(value) => value,
            Err(error) => panic!("not what was expected ({error}): {}", self.text()),
        }
    }

    /// This response, which must have this status.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Response {
        let text = String::from_utf8_lossy(&self.body);
        assert_eq!(self.status, status, "headers: {:?}, body: {text}", self.headers);
        self
    }
}

/// A connection to the server, kept alive between requests, made again after an error.
#[derive(Debug)]
pub(crate) struct Client {
    address: SocketAddr,
    connection: Option<BufReader<TcpStream>>,
    is_head: bool,
}

impl Client {
    /// A client of the server at this address.
    pub(crate) fn new(address: SocketAddr) -> Client {
        Client { address, connection: None, is_head: false }
    }

    /// Where its server listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sends a request and reads the response.
    #[track_caller]
    pub(crate) fn send(&mut self, call: &Call) -> Response {
        match self.try_send(call) {
            Ok(response) => response,
            Err(error) => panic!("{} {}: {error}", call.method, call.target),
        }
    }

    /// GET.
    #[track_caller]
    pub(crate) fn get(&mut self, target: &str) -> Response {
        self.send(&Call::get(target))
    }

    /// POST of JSON.
    #[track_caller]
    pub(crate) fn post(&mut self, target: &str, body: impl Into<Vec<u8>>) -> Response {
        self.send(&Call::post(target, body))
    }

    /// Like `send`, for a server that may be killed at any moment.
    pub(crate) fn try_send(&mut self, call: &Call) -> io::Result<Response> {
        self.begin(call)?;
        self.finish()
    }

    /// Writes a request; `finish` reads its response.
    pub(crate) fn begin(&mut self, call: &Call) -> io::Result<()> {
        let mut bytes = call.head(self.address);
        if let Some(body) = &call.body {
            bytes.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        bytes.push_str("\r\n");
        let mut bytes = bytes.into_bytes();
        bytes.extend_from_slice(call.body.as_deref().unwrap_or_default());
        self.is_head = call.method == "HEAD";
        self.connect()?.get_mut().write_all(&bytes).inspect_err(|_| self.connection = None)
    }

    /// Reads the response to the request written last.
    pub(crate) fn finish(&mut self) -> io::Result<Response> {
        let mut connection = self.connection.take().ok_or(io::ErrorKind::NotConnected)?;
        let response = read_response(&mut connection, self.is_head)?;
        let closes = response.header("connection").is_some_and(|v| v.eq_ignore_ascii_case("close"));
        if !connection.buffer().is_empty() {
            return Err(wrong("bytes behind the end of the response"));
        }
        if !closes {
            self.connection = Some(connection);
        }
        Ok(response)
    }

    /// Begins a request whose body is sent piece by piece while the response is read.
    pub(crate) fn stream(&mut self, call: &Call) -> Stream {
        let head = call.head(self.address) + "Transfer-Encoding: chunked\r\n\r\n";
        let connection = self.connect().expect("the server accepts connections");
        let mut writer = connection.get_ref().try_clone().expect("a socket can be cloned");
        writer.write_all(head.as_bytes()).expect("the head can be sent");
        Stream { writer, reader: self.connection.take(), lines: None }
    }

    fn connect(&mut self) -> io::Result<&mut BufReader<TcpStream>> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => open(self.address)?,
        };
        Ok(self.connection.insert(connection))
    }
}

/// A request and its response under way at the same time.
#[derive(Debug)]
pub(crate) struct Stream {
    writer: TcpStream,
    reader: Option<BufReader<TcpStream>>,
    lines: Option<BufReader<Chunked<BufReader<TcpStream>>>>,
}

impl Stream {
    /// Sends a piece of the body.
    pub(crate) fn write(&mut self, piece: &str) {
        let chunk = format!("{:x}\r\n{piece}\r\n", piece.len());
        self.writer.write_all(chunk.as_bytes()).expect("the server reads on");
    }

    /// Ends the body.
    pub(crate) fn end(&mut self) {
        self.writer.write_all(b"0\r\n\r\n").expect("the server reads on");
    }

    /// The next line of the response's body; `None` at its end.
    pub(crate) fn line(&mut self) -> Option<String> {
        if let Some(mut reader) = self.reader.take() {
            let (status, headers) = read_head(&mut reader).expect("a response begins");
            assert_eq!(status, 200, "{headers:?}");
            assert_eq!(framing(&headers).expect("a clear length"), Framing::Chunked);
            self.lines = Some(BufReader::new(Chunked::new(reader)));
        }
        let mut line = String::new();
        let lines = self.lines.as_mut().expect("made above");
        let read = lines.read_line(&mut line).expect("the body is whole");
        (read > 0).then(|| line.trim_end_matches('\n').to_owned())
    }
}

/// Sends bytes as they are on a connection of their own and reads one response.
pub(crate) fn raw_exchange(address: SocketAddr, bytes: &[u8]) -> Response {
    let mut connection = open(address).expect("the server accepts connections");
    connection.get_mut().write_all(bytes).expect("the bytes can be sent");
    read_response(&mut connection, false).expect("a whole response comes")
}

fn open(address: SocketAddr) -> io::Result<BufReader<TcpStream>> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(BufReader::new(stream))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Length(usize),
    Chunked,
}

fn read_response(reader: &mut impl BufRead, is_head: bool) -> io::Result<Response> {
    let (status, headers) = loop {
        let (status, headers) = read_head(reader)?;
        if status >= 200 {
            break (status, headers);
        }
    };
    if !headers.iter().any(|(name, value)| name == "x-request-id" && !value.is_empty()) {
        return Err(wrong(&format!("{status} without X-Request-Id: {headers:?}")));
    }
    let mut body = Vec::new();
    if !is_head && status != 204 && status != 304 {
        match framing(&headers)? {
            Framing::Length(length) => {
                body.resize(length, 0);
                reader.read_exact(&mut body)?;
            }
            Framing::Chunked => {
                Chunked::new(reader).read_to_end(&mut body)?;
            }
        }
    }
    Ok(Response { status, headers, body })
}

/// Status and headers, the names in lower case.
fn read_head(reader: &mut impl BufRead) -> io::Result<(u16, Vec<(String, String)>)> {
    let line = read_line(reader)?;
    let status = line
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3))
        .and_then(|digits| digits.parse().ok())
        .ok_or_else(|| wrong(&format!("status line {line:?}")))?;
    let mut headers = Vec::new();
    loop {
        let line = read_line(reader)?;
        if line.is_empty() {
            return Ok((status, headers));
        }
        let (name, value) =
            line.split_once(':').ok_or_else(|| wrong(&format!("header line {line:?}")))?;
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            return Err(wrong(&format!("header name {name:?}")));
        }
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
}

fn framing(headers: &[(String, String)]) -> io::Result<Framing> {
    let values = |wanted: &str| -> Vec<&str> {
        let of_name = headers.iter().filter(|(name, _)| name == wanted);
        of_name.map(|(_, value)| value.as_str()).collect()
    };
    match (values("content-length").as_slice(), values("transfer-encoding").as_slice()) {
        ([length], []) => {
            length.parse().map(Framing::Length).map_err(|_| wrong("a length that is no number"))
        }
        ([], ["chunked"]) => Ok(Framing::Chunked),
        (lengths, encodings) => Err(wrong(&format!("body length {lengths:?} {encodings:?}"))),
    }
}

fn read_line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut line = Vec::new();
    reader.read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let line = line.strip_suffix(b"\r\n").ok_or_else(|| {
        // A line that the end of the connection cuts off is the kill of the server, no fault.
        if line.ends_with(b"\n") { wrong("bare line feed") } else { cut_off() }
    })?;
    String::from_utf8(line.to_vec()).map_err(|_| wrong("a head that is not UTF-8"))
}

/// The content of a chunked body.
#[derive(Debug)]
struct Chunked<R> {
    reader: R,
    left_in_chunk: usize,
    is_done: bool,
}

impl<R: BufRead> Chunked<R> {
    fn new(reader: R) -> Chunked<R> {
        Chunked { reader, left_in_chunk: 0, is_done: false }
    }

    fn next_chunk(&mut self) -> io::Result<()> {
        let size = read_line(&mut self.reader)?;
        self.left_in_chunk =
            usize::from_str_radix(&size, 16).map_err(|_| wrong(&format!("chunk size {size:?}")))?;
        if self.left_in_chunk == 0 {
            self.is_done = true;
            self.expect_empty_line()?;
        }
        Ok(())
    }

    fn expect_empty_line(&mut self) -> io::Result<()> {
        let line = read_line(&mut self.reader)?;
        if line.is_empty() { Ok(()) } else { Err(wrong(&format!("{line:?} behind a chunk"))) }
    }
}

impl<R: BufRead> Read for Chunked<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() || self.is_done {
            return Ok(0);
        }
        if self.left_in_chunk == 0 {
            self.next_chunk()?;
            if self.is_done {
                return Ok(0);
            }
        }
        let wanted = into.len().min(self.left_in_chunk);
        let read = self.reader.read(&mut into[..wanted])?;
        if read == 0 {
            return Err(cut_off());
        }
        self.left_in_chunk -= read;
        if self.left_in_chunk == 0 {
            self.expect_empty_line()?;
        }
        Ok(read)
    }
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("malformed response: {what}"))
}

fn cut_off() -> io::Error {
    io::ErrorKind::UnexpectedEof.into()
}
