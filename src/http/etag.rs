//! Entity tags: `ETag` of a stored formula and the `If-None-Match` that asks about it.
//!
//! A stored formula never changes, but it may be withdrawn and accepted again under the same
//! id, so the tag names both id and seq. The whole answer follows from these two: the tag is
//! strong.

use std::io::Write;

use bytes::Bytes;
use hyper::header::{HeaderMap, HeaderValue, IF_NONE_MATCH};

use crate::engine::command::StoredFormula;

/// Bytes of the longest entity tag: quotes, an id, a dash and the digits of the greatest seq.
const TAG_BYTES_MAX: usize = 64 + 20 + 3;

/// The entity tag of a formula, quotes included.
pub(super) fn of(stored: &StoredFormula) -> HeaderValue {
    let mut tag = Vec::with_capacity(TAG_BYTES_MAX);
    tag.push(b'"');
    tag.extend_from_slice(&stored.fingerprint.to_hex());
    write!(tag, "-{}\"", stored.lsn).expect("a buffer takes every write");
    HeaderValue::from_maybe_shared(Bytes::from(tag)).expect("digits between quotes")
}

/// Whether the caller's `If-None-Match` names `etag`, so that he has the answer already.
pub(super) fn is_current(headers: &HeaderMap, etag: &HeaderValue) -> bool {
    let values = headers.get_all(IF_NONE_MATCH).iter().map(HeaderValue::as_bytes);
    is_named(values, etag.as_bytes())
}

/// Compares weakly, as RFC 9110 demands for this header; what is no list of entity tags names
/// nothing.
fn is_named<'a>(mut values: impl Iterator<Item = &'a [u8]>, etag: &[u8]) -> bool {
    values.any(|value| value.trim_ascii() == b"*" || list_names(value, etag))
}

fn list_names(mut list: &[u8], etag: &[u8]) -> bool {
    loop {
        list = skip_separators(list);
        let tag = list.strip_prefix(b"W/").unwrap_or(list);
        // A tag may hold commas, so the list is cut at quotes.
        let Some(inner) = tag.strip_prefix(b"\"") else { return false };
        let Some(len) = inner.iter().position(|byte| *byte == b'"') else { return false };
        let (tag, rest) = tag.split_at(len + 2);
        if tag == etag {
            return true;
        }
        list = rest;
    }
}

fn skip_separators(list: &[u8]) -> &[u8] {
    let blanks = list.iter().take_while(|byte| b" \t,".contains(byte)).count();
    &list[blanks..]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(values: &[&str]) -> bool {
        is_named(values.iter().map(|value| value.as_bytes()), b"\"ab-1\"")
    }

    #[test]
    fn lists_weak_forms_and_the_star_name_the_tag() {
        assert!(named(&["\"ab-1\""]));
        assert!(named(&["W/\"ab-1\""]));
        assert!(named(&["*"]));
        assert!(named(&["\"x\", \"y,z\" ,,W/\"w\",\"ab-1\", \"v\""]));
        assert!(named(&["\"x\"", "\"ab-1\""]));
    }

    #[test]
    fn other_tags_and_malformed_lists_name_nothing() {
        assert!(!named(&[]));
        for other in ["", "\"ab-2\"", "ab-1", "\"ab-1", "w/\"ab-1\"", "x, \"ab-1\"", "\"x,\"ab-1"] {
            assert!(!named(&[other]), "{other}");
        }
    }
}
