//! Idempotency keys: reading the header, and the two digests that the engine compares.
//!
//! The header carries either the bare key or an RFC 8941 string (`"…"` with `\"` and `\\`);
//! both spellings of one key are the same key. Keys are scoped to the caller: two callers may
//! use the same one without meeting.
//!
//! A streamed load gives each line the header's key and the line's number, so that sending the
//! same stream again goes on where the first was cut: lines stored before are answered again,
//! the others are new.

use std::borrow::Cow;
use std::fmt;

use hyper::header::{HeaderMap, HeaderName};
use sha2::{Digest, Sha256};

use crate::engine::command::RequestKey;
use crate::http::problem::Problem;
use crate::limits::KEY_BYTES_MAX;

/// Header names are lower case on the inside; clients may spell them as they like.
const HEADER: HeaderName = HeaderName::from_static("idempotency-key");

/// The key that a client sent, without its quotes: 1 to `KEY_BYTES_MAX` bytes of ASCII.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct IdempotencyKey(Box<[u8]>);

/// Why an `Idempotency-Key` header cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BadKey {
    /// More than one header: it is not clear which is meant.
    Repeated,
    /// Nothing in it.
    Empty,
    /// More than `KEY_BYTES_MAX` bytes.
    TooLong,
    /// A byte that is not visible ASCII (inside quotes a space may stand, too).
    Unprintable,
    /// It begins with a quote but is no RFC 8941 string.
    Unbalanced,
}

impl fmt::Display for BadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadKey::Repeated => f.write_str("stands there more than once"),
            BadKey::Empty => f.write_str("is empty"),
            BadKey::TooLong => write!(f, "is longer than {KEY_BYTES_MAX} bytes"),
            BadKey::Unprintable => f.write_str("may hold visible ASCII only"),
            BadKey::Unbalanced => f.write_str("is not one quoted string"),
        }
    }
}

impl IdempotencyKey {
    /// The key among the headers of a request; `None` when there is none.
    pub(super) fn of(headers: &HeaderMap) -> Result<Option<IdempotencyKey>, Problem> {
        let values = headers.get_all(HEADER).iter().map(|value| value.as_bytes());
        IdempotencyKey::read(values)
            .map_err(|bad| Problem::header("Idempotency-Key", bad.to_string()))
    }

    /// Reads the values of all `Idempotency-Key` headers of a request.
    fn read<'a>(
        mut values: impl Iterator<Item = &'a [u8]>,
    ) -> Result<Option<IdempotencyKey>, BadKey> {
        let Some(value) = values.next() else { return Ok(None) };
        if values.next().is_some() {
            return Err(BadKey::Repeated);
        }
        let key = match value.trim_ascii().strip_prefix(b"\"") {
            Some(quoted) => unquote(quoted)?,
            None => bare(value.trim_ascii())?,
        };
        match key.len() {
            0 => Err(BadKey::Empty),
            1..=KEY_BYTES_MAX => Ok(Some(IdempotencyKey(key.into()))),
            _ => Err(BadKey::TooLong),
        }
    }

    /// The key as text.
    pub(super) fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.0)
    }

    /// What the engine compares for a whole request.
    pub(super) fn of_request(&self, caller: &str, request: RequestDigest) -> RequestKey {
        RequestKey { key: self.digest(caller).finalize().into(), request: request.0 }
    }

    /// What the engine compares for line `number`, from 1, of a streamed load.
    pub(super) fn of_line(&self, caller: &str, number: u64, line: RequestDigest) -> RequestKey {
        let digest = self.digest(caller).chain_update([0]).chain_update(number.to_string());
        RequestKey { key: digest.finalize().into(), request: line.0 }
    }

    /// Neither caller nor key holds a zero byte, so no two pairs run together.
    fn digest(&self, caller: &str) -> Sha256 {
        Sha256::new_with_prefix(caller).chain_update([0]).chain_update(&self.0)
    }
}

/// SHA-256 of what a request asks for: route, query and body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RequestDigest([u8; 32]);

impl RequestDigest {
    /// Of these parts. Route and query hold no zero byte.
    pub(super) fn of(route: &str, query: &str, body: &[u8]) -> RequestDigest {
        let digest = Sha256::new_with_prefix(route)
            .chain_update([0])
            .chain_update(query)
            .chain_update([0])
            .chain_update(body);
        RequestDigest(digest.finalize().into())
    }
}

fn bare(value: &[u8]) -> Result<Vec<u8>, BadKey> {
    if value.iter().all(u8::is_ascii_graphic) {
        Ok(value.to_vec())
    } else {
        Err(BadKey::Unprintable)
    }
}

/// The content of an RFC 8941 string whose first quote is gone already.
fn unquote(rest: &[u8]) -> Result<Vec<u8>, BadKey> {
    let mut key = Vec::with_capacity(rest.len());
    let mut bytes = rest.iter().copied();
    loop {
        match bytes.next() {
            Some(b'"') if bytes.next().is_none() => return Ok(key),
            Some(b'\\') => match bytes.next() {
                Some(escaped @ (b'"' | b'\\')) => key.push(escaped),
                _ => return Err(BadKey::Unbalanced),
            },
            None | Some(b'"') => return Err(BadKey::Unbalanced),
            Some(plain @ b' '..=b'~') => key.push(plain),
            Some(_) => return Err(BadKey::Unprintable),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[&str]) -> Result<Option<String>, BadKey> {
        let key = IdempotencyKey::read(values.iter().map(|value| value.as_bytes()))?;
        Ok(key.map(|key| String::from_utf8(key.0.into()).unwrap()))
    }

    #[test]
    fn a_bare_key_and_its_quoted_spelling_are_the_same() {
        assert_eq!(read(&["abc-1"]), Ok(Some("abc-1".into())));
        assert_eq!(read(&["\"abc-1\""]), Ok(Some("abc-1".into())));
        assert_eq!(read(&[r#""a\"b\\c""#]), Ok(Some(r#"a"b\c"#.into())));
        assert_eq!(read(&["\"two words\""]), Ok(Some("two words".into())));
        assert_eq!(read(&[]), Ok(None));
    }

    #[test]
    fn headers_that_name_no_single_key_are_refused() {
        assert_eq!(read(&["a", "b"]), Err(BadKey::Repeated));
        assert_eq!(read(&["a", "a"]), Err(BadKey::Repeated));
        assert_eq!(read(&[""]), Err(BadKey::Empty));
        assert_eq!(read(&["\"\""]), Err(BadKey::Empty));
        assert_eq!(read(&["a b"]), Err(BadKey::Unprintable));
        assert_eq!(read(&["ä"]), Err(BadKey::Unprintable));
        assert_eq!(read(&["\"ä\""]), Err(BadKey::Unprintable));
        for unbalanced in ["\"", "\"a", "\"a\"b", "\"a\\\"", "\"a\\n\"", "\"a\";q=1"] {
            assert_eq!(read(&[unbalanced]), Err(BadKey::Unbalanced), "{unbalanced}");
        }
    }

    #[test]
    fn the_longest_key_has_255_bytes_without_its_quotes() {
        let longest = "k".repeat(KEY_BYTES_MAX);
        assert_eq!(read(&[&longest]), Ok(Some(longest.clone())));
        assert_eq!(read(&[&format!("\"{longest}\"")]), Ok(Some(longest.clone())));
        assert_eq!(read(&[&format!("{longest}k")]), Err(BadKey::TooLong));
    }

    #[test]
    fn digests_differ_by_caller_key_line_route_query_and_body() {
        let key = |text: &str| IdempotencyKey(text.as_bytes().into());
        let request = RequestDigest::of("/formulas", "", b"{}");
        let digests = [
            key("k").of_request("ann", request).key,
            key("k").of_request("bob", request).key,
            key("l").of_request("ann", request).key,
            key("k").of_line("ann", 1, request).key,
            key("k").of_line("ann", 2, request).key,
            key("k1").of_request("ann", request).key,
            RequestDigest::of("/formulas", "", b"{}").0,
            RequestDigest::of("/formulas", "atomic=true", b"{}").0,
            RequestDigest::of("/hooks", "", b"{}").0,
            RequestDigest::of("/formulas", "", b"{} ").0,
        ];
        let distinct: std::collections::HashSet<_> = digests.iter().collect();
        assert_eq!(distinct.len(), digests.len());
    }
}
