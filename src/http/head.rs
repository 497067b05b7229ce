//! Vets the head of a request before hyper sees it. Pure.
//!
//! Hyper forgives what it can, and answers what it cannot with a bare status line. Both are
//! wrong here: what could be read in two ways is refused (it is how requests are smuggled past
//! a proxy), and every refusal is a problem document. So each head is parsed twice, with the
//! same parser (httparse) that hyper uses: here first, where it is judged, and in hyper, where
//! it is used. The price is some 150 ns per request.

use std::mem::MaybeUninit;

use crate::limits::{HEAD_BYTES_MAX, HEADERS_MAX, TARGET_BYTES_MAX};

/// Why a connection is not allowed to go on. Each becomes a problem document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Not a request line of HTTP.
    RequestLine,
    /// Neither HTTP/1.0 nor HTTP/1.1.
    Version,
    /// Not a path, an absolute URI, `*`, or a host to connect to; or characters not allowed.
    Target,
    /// More than `TARGET_BYTES_MAX`.
    TargetTooLong,
    /// A header line that is none.
    HeaderLine,
    /// More than `HEADERS_MAX` lines.
    TooManyHeaders,
    /// More than `HEAD_BYTES_MAX`.
    TooLarge,
    /// HTTP/1.1 without `Host`.
    HostMissing,
    /// Several `Host` lines, or one with something else than a host and port.
    HostInvalid,
    /// Several lines, or not a number.
    ContentLength,
    /// A length beyond any limit.
    ContentLengthHuge,
    /// Both `Transfer-Encoding` and `Content-Length`.
    FramedTwice,
    /// `Transfer-Encoding` where the last coding is not `chunked`, or in HTTP/1.0.
    TransferEncoding,
    /// `chunked` together with another coding.
    TransferCoding,
    /// The client closed its side in the middle of the head.
    Incomplete,
    /// The head did not arrive in time.
    HeadTimeout,
    /// No head was read: there are too many connections.
    Connections,
    /// No head was read: there are too many connections of this address.
    ConnectionsOfAddress,
}

/// How the body after a head is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// By its length; 0 when there is none.
    Length(u64),
    /// By its chunks.
    Chunked,
}

/// A head in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Vetted {
    /// Its bytes, the empty line included.
    pub(crate) bytes: usize,
    /// What follows it.
    pub(crate) framing: Framing,
}

/// Judges the head at the start of `input`; `None` when more of it has to come.
pub(crate) fn vet(input: &[u8]) -> Result<Option<Vetted>, Refusal> {
    let mut headers = [const { MaybeUninit::uninit() }; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut []);
    let parsed = request.parse_with_uninit_headers(input, &mut headers);
    let bytes = match parsed {
        Ok(httparse::Status::Complete(bytes)) => bytes,
        Ok(httparse::Status::Partial) => return still_small(input).map(|()| None),
        Err(error) => return Err(fault(error, &request, input)),
    };
    if bytes > HEAD_BYTES_MAX {
        return Err(too_large(input));
    }
    let is_1_1 = request.version == Some(1);
    vet_target(request.method.unwrap_or_default(), request.path.unwrap_or_default())?;
    let framing = vet_headers(request.headers, is_1_1)?;
    Ok(Some(Vetted { bytes, framing }))
}

/// A head of which more has to come may not have reached its limits.
fn still_small(input: &[u8]) -> Result<(), Refusal> {
    let line = input.iter().position(|b| *b == b'\n');
    let is_line_too_long = line.is_none() && input.len() > TARGET_BYTES_MAX + LINE_REST_BYTES;
    if is_line_too_long || input.len() >= HEAD_BYTES_MAX {
        return Err(too_large(input));
    }
    Ok(())
}

/// Room for method and version beside the target.
const LINE_REST_BYTES: usize = 64;

/// Tells a long target from long headers: the remedy differs.
fn too_large(input: &[u8]) -> Refusal {
    let line = input.iter().position(|b| *b == b'\n').unwrap_or(input.len());
    if line > TARGET_BYTES_MAX { Refusal::TargetTooLong } else { Refusal::TooLarge }
}

fn fault(error: httparse::Error, request: &httparse::Request<'_, '_>, input: &[u8]) -> Refusal {
    match error {
        httparse::Error::TooManyHeaders => Refusal::TooManyHeaders,
        httparse::Error::Version if request.path.is_some() => Refusal::Version,
        httparse::Error::Version | httparse::Error::Status => Refusal::RequestLine,
        httparse::Error::Token if request.method.is_none() => Refusal::RequestLine,
        httparse::Error::Token if request.path.is_none() => Refusal::Target,
        httparse::Error::NewLine if request.version.is_none() || !input.contains(&b'\n') => {
            Refusal::RequestLine
        }
        _ => Refusal::HeaderLine,
    }
}

/// The bytes of nearly all targets; any others are left to the parser of URIs.
const PLAIN_IN_TARGET: [bool; 256] = alphanumeric_and(b"/-_.~?=&%+");
/// The bytes of a host and port, an IPv6 address among them.
const PLAIN_IN_HOST: [bool; 256] = alphanumeric_and(b"-_.~:[]%!$&'()*+;=");

const fn alphanumeric_and(others: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = 0u8;
    while byte < 128 {
        table[byte as usize] = byte.is_ascii_alphanumeric();
        byte += 1;
    }
    let mut at = 0;
    while at < others.len() {
        table[others[at] as usize] = true;
        at += 1;
    }
    table
}

fn vet_target(method: &str, target: &str) -> Result<(), Refusal> {
    if target.len() > TARGET_BYTES_MAX {
        return Err(Refusal::TargetTooLong);
    }
    if target.starts_with('/') && target.bytes().all(|b| PLAIN_IN_TARGET[usize::from(b)]) {
        return Ok(());
    }
    let has_form = target.starts_with('/')
        || target == "*"
        || method == "CONNECT"
        || target.starts_with("http://")
        || target.starts_with("https://");
    if has_form && target.parse::<hyper::Uri>().is_ok() { Ok(()) } else { Err(Refusal::Target) }
}

/// What the headers say about the body.
#[derive(Default)]
struct Announced {
    hosts: u32,
    length: Option<u64>,
    chunked: bool,
}

fn vet_headers(headers: &[httparse::Header<'_>], is_1_1: bool) -> Result<Framing, Refusal> {
    let mut announced = Announced::default();
    for header in headers {
        // Most names are told apart by their length alone.
        match header.name.len() {
            4 if header.name.eq_ignore_ascii_case("host") => announced.host(header.value)?,
            14 if header.name.eq_ignore_ascii_case("content-length") => {
                announced.length(header.value)?;
            }
            17 if header.name.eq_ignore_ascii_case("transfer-encoding") => {
                announced.transfer_encoding(header.value, is_1_1)?;
            }
            _ => {}
        }
    }
    if is_1_1 && announced.hosts == 0 {
        return Err(Refusal::HostMissing);
    }
    match (announced.chunked, announced.length) {
        (true, Some(_)) => Err(Refusal::FramedTwice),
        (true, None) => Ok(Framing::Chunked),
        (false, length) => Ok(Framing::Length(length.unwrap_or(0))),
    }
}

impl Announced {
    fn host(&mut self, value: &[u8]) -> Result<(), Refusal> {
        self.hosts += 1;
        if self.hosts == 1 && value.iter().all(|b| PLAIN_IN_HOST[usize::from(*b)]) {
            Ok(())
        } else {
            Err(Refusal::HostInvalid)
        }
    }

    /// Digits only: `+5`, `5, 5` and a second line are read differently by different readers.
    fn length(&mut self, value: &[u8]) -> Result<(), Refusal> {
        let is_number = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
        if self.length.is_some() || !is_number {
            return Err(Refusal::ContentLength);
        }
        let text = str::from_utf8(value).map_err(|_| Refusal::ContentLength)?;
        let length: u64 = text.parse().map_err(|_| Refusal::ContentLengthHuge)?;
        // Hyper keeps the two highest numbers for other uses.
        if length > u64::MAX - 2 {
            return Err(Refusal::ContentLengthHuge);
        }
        self.length = Some(length);
        Ok(())
    }

    fn transfer_encoding(&mut self, value: &[u8], is_1_1: bool) -> Result<(), Refusal> {
        let value = value.trim_ascii();
        if is_1_1 && !self.chunked && value.eq_ignore_ascii_case(b"chunked") {
            self.chunked = true;
            return Ok(());
        }
        let last = value.rsplit(|b| *b == b',').next().unwrap_or_default().trim_ascii();
        let is_last_chunked = last.eq_ignore_ascii_case(b"chunked");
        Err(if is_1_1 && is_last_chunked && !self.chunked {
            Refusal::TransferCoding
        } else {
            Refusal::TransferEncoding
        })
    }
}

#[cfg(test)]
mod tests;
