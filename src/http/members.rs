//! Strict reading of the small JSON objects that queue calls take.
//!
//! Each call takes its members by name and then asks whether anything was wrong: a value of
//! the wrong type or out of its range, a member given twice, a member nobody asked for. All
//! faults are listed at once, each with its pointer. Derived `serde` structs would stop at the
//! first fault and take an array in place of the object.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::http::problem::{Fault, Kind, Place, Problem};
use crate::limits::FAULTS_MAX;

/// The members of an object that nobody has taken yet, and the faults found so far.
#[derive(Debug)]
pub(super) struct Members<'a> {
    /// By name, so that looking one up costs little however many a hostile body has.
    left: BTreeMap<Cow<'a, str>, &'a RawValue>,
    faults: Vec<Fault>,
    unlisted: usize,
}

impl<'a> Members<'a> {
    /// Reads the object in `body`. An empty body counts as an object without members.
    pub(super) fn parse(body: &'a [u8]) -> Result<Members<'a>, Problem> {
        let malformed = |detail| Problem::new(Kind::MalformedBody, detail);
        let text = std::str::from_utf8(body)
            .map_err(|error| malformed(format!("body is not UTF-8: {error}")))?;
        let mut members = Members { left: BTreeMap::new(), faults: Vec::new(), unlisted: 0 };
        if text.is_empty() {
            return Ok(members);
        }
        let not_json = |error| malformed(format!("body is not JSON: {error}"));
        let value: &RawValue = serde_json::from_str(text).map_err(not_json)?;
        if !value.get().starts_with('{') {
            members.fault(String::new(), "must be an object".into());
            return Err(members.refuse());
        }
        let pairs: Pairs<'a> = serde_json::from_str(value.get()).map_err(not_json)?;
        for (name, value) in pairs.0 {
            match members.left.entry(name) {
                Entry::Vacant(place) => {
                    place.insert(value);
                }
                Entry::Occupied(place) => {
                    let pointer = pointer_to(place.key());
                    members.fault(pointer, "appears more than once".into());
                }
            }
        }
        Ok(members)
    }

    fn take(&mut self, name: &str) -> Option<&'a RawValue> {
        self.left.remove(name)
    }

    fn fault(&mut self, pointer: String, detail: String) {
        if self.faults.len() < FAULTS_MAX {
            let place = Place::Pointer(pointer.into());
            self.faults.push(Fault { place, detail: detail.into() });
        } else {
            self.unlisted += 1;
        }
    }

    /// The whole number `name`, if it is there and within `range`.
    pub(super) fn whole(&mut self, name: &str, range: RangeInclusive<usize>) -> Option<usize> {
        let token = self.take(name)?.get();
        match token.parse() {
            Ok(number) if range.contains(&number) => return Some(number),
            _ => {
                let (least, most) = range.into_inner();
                let detail = format!("must be a whole number from {least} to {most}");
                self.fault(pointer_to(name), detail);
            }
        }
        None
    }

    /// The duration `name`, a number of seconds, in milliseconds and rounded to them, if it is
    /// there and within `range_ms`.
    pub(super) fn seconds_ms(&mut self, name: &str, range_ms: RangeInclusive<u64>) -> Option<u64> {
        let token = self.take(name)?.get();
        match milliseconds(token) {
            Some(ms) if range_ms.contains(&ms) => return Some(ms),
            _ => {
                let bound = |ms: u64| Duration::from_millis(ms).as_secs_f64();
                let (least, most) = (bound(*range_ms.start()), bound(*range_ms.end()));
                let detail = format!("must be a number of seconds from {least} to {most}");
                self.fault(pointer_to(name), detail);
            }
        }
        None
    }

    /// The string `name`, if it is there and no longer than `bytes_max`.
    pub(super) fn string(&mut self, name: &str, bytes_max: usize) -> Option<Box<str>> {
        let token = self.take(name)?.get();
        match serde_json::from_str::<Box<str>>(token) {
            Ok(text) if text.len() <= bytes_max => return Some(text),
            Ok(text) => {
                let detail = format!("is {} bytes, at most {bytes_max}", text.len());
                self.fault(pointer_to(name), detail);
            }
            Err(_) => self.fault(pointer_to(name), "must be a string".into()),
        }
        None
    }

    /// What the string `name` says, if it is there and no longer than `bytes_max`; `otherwise` is
    /// the fault of one that says nothing.
    pub(super) fn parsed<T: FromStr>(
        &mut self,
        name: &str,
        bytes_max: usize,
        otherwise: &str,
    ) -> Option<T> {
        let parsed = self.string(name, bytes_max)?.parse().ok();
        if parsed.is_none() {
            self.fault(pointer_to(name), otherwise.into());
        }
        parsed
    }

    /// The array of strings `name`, if it is there, with a number of items within `counts`.
    pub(super) fn strings(
        &mut self,
        name: &str,
        counts: RangeInclusive<usize>,
    ) -> Option<Vec<Cow<'a, str>>> {
        let token = self.take(name)?.get();
        let Ok(items) = serde_json::from_str::<Vec<&'a RawValue>>(token) else {
            self.fault(pointer_to(name), "must be an array of strings".into());
            return None;
        };
        if !counts.contains(&items.len()) {
            let (least, most) = counts.into_inner();
            let detail = format!("has {} items, must have {least} to {most}", items.len());
            self.fault(pointer_to(name), detail);
            return None;
        }
        let mut texts = Vec::with_capacity(items.len());
        for (index, item) in items.into_iter().enumerate() {
            match serde_json::from_str::<Text<'a>>(item.get()) {
                Ok(text) => texts.push(text.0),
                Err(_) => self.fault(format!("/{name}/{index}"), "must be a string".into()),
            }
        }
        Some(texts)
    }

    /// What the strings of the member `name` say; those that say nothing are faults.
    pub(super) fn parse_items<T: FromStr>(
        &mut self,
        name: &str,
        texts: &[Cow<'_, str>],
        otherwise: &str,
    ) -> Vec<T> {
        let mut items = Vec::with_capacity(texts.len());
        for (index, text) in texts.iter().enumerate() {
            match text.parse() {
                Ok(item) => items.push(item),
                Err(_) => self.fault(format!("/{name}/{index}"), otherwise.into()),
            }
        }
        items
    }

    /// Notes a fault if the member `name` is not there.
    pub(super) fn require(&mut self, name: &str) {
        if !self.left.contains_key(name) {
            self.fault(pointer_to(name), "is missing".into());
        }
    }

    /// The string `name`; `null` counts as not there.
    pub(super) fn nullable_string(&mut self, name: &str, bytes_max: usize) -> Option<Box<str>> {
        if self.left.get(name).is_some_and(|token| token.get() == "null") {
            self.left.remove(name);
            return None;
        }
        self.string(name, bytes_max)
    }

    /// All faults, those of members that nobody asked for among them.
    pub(super) fn into_faults(mut self) -> Vec<Fault> {
        self.note_left_over();
        self.faults
    }

    /// Refuses the body if anything was wrong or a member is left that nobody asked for.
    pub(super) fn finish(mut self) -> Result<(), Problem> {
        self.note_left_over();
        if self.faults.is_empty() { Ok(()) } else { Err(self.refuse()) }
    }

    fn note_left_over(&mut self) {
        for (name, _) in std::mem::take(&mut self.left) {
            self.fault(pointer_to(&name), "is not a member of this request".into());
        }
    }

    fn refuse(&self) -> Problem {
        Problem::invalid(Kind::InvalidBody, &self.faults, self.unlisted)
    }
}

/// A pointer to the member `name` of the body, escaped after RFC 6901.
fn pointer_to(name: &str) -> String {
    format!("/{}", name.replace('~', "~0").replace('/', "~1"))
}

/// Milliseconds in a JSON number of seconds; `None` for anything else, negative or huge.
fn milliseconds(token: &str) -> Option<u64> {
    // Other JSON values never begin with these, and `f64` alone would take `inf` or `nan`.
    if !token.starts_with(|first: char| first == '-' || first.is_ascii_digit()) {
        return None;
    }
    // Exact after rounding: durations have at most seven digits before the point and an f64
    // holds fifteen.
    let duration = Duration::try_from_secs_f64(token.parse().ok()?).ok()?;
    let rounded = duration.checked_add(Duration::from_micros(500))?;
    u64::try_from(rounded.as_millis()).ok()
}

/// The members of an object in order, repeated names included.
struct Pairs<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Pairs<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(PairsVisitor)
    }
}

struct PairsVisitor;

impl<'de> Visitor<'de> for PairsVisitor {
    type Value = Pairs<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs<'de>, A::Error> {
        let mut pairs = Vec::new();
        while let Some((name, value)) = map.next_entry::<Text<'de>, &'de RawValue>()? {
            pairs.push((name.0, value));
        }
        Ok(Pairs(pairs))
    }
}

/// A string that is borrowed from the body unless it holds escapes.
struct Text<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(TextVisitor)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
        Ok(Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
        Ok(Text(Cow::Owned(text.to_owned())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::SETTLE_BYTES_MAX;

    /// The faults found in the end, each as pointer and detail.
    fn faults(members: &mut Members<'_>) -> Vec<String> {
        members.note_left_over();
        members.faults.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn members_are_taken_by_name_and_absent_ones_are_none() {
        let mut members = Members::parse(br#"{"lease_s": 2.5, "max": 7}"#).unwrap();
        assert_eq!(members.whole("max", 1..=1000), Some(7));
        assert_eq!(members.seconds_ms("lease_s", 10..=60_000), Some(2500));
        assert_eq!(members.seconds_ms("wait_s", 0..=20_000), None);
        assert!(members.finish().is_ok());
    }

    #[test]
    fn an_empty_body_has_no_members() {
        assert!(Members::parse(b"").unwrap().finish().is_ok());
    }

    #[test]
    fn every_fault_is_listed_with_its_pointer() {
        let body = br#"{"max":0,"lease_s":"x","receipts":["a",1],"a/b":1,"max":2,"reason":[]}"#;
        let mut members = Members::parse(body).unwrap();
        assert_eq!(members.whole("max", 1..=1000), None);
        assert_eq!(members.seconds_ms("lease_s", 10..=1000), None);
        assert_eq!(members.string("reason", 10), None);
        members.strings("receipts", 1..=9);
        members.require("ids");
        let expected = [
            "/max: appears more than once",
            "/max: must be a whole number from 1 to 1000",
            "/lease_s: must be a number of seconds from 0.01 to 1",
            "/reason: must be a string",
            "/receipts/1: must be a string",
            "/ids: is missing",
            "/a~1b: is not a member of this request",
        ];
        assert_eq!(faults(&mut members), expected);
    }

    /// Compared with one another by pairs, the names of this body would cost a thousand million
    /// comparisons.
    #[test]
    fn as_many_members_as_fit_are_read_and_counted() {
        let pairs = (0..SETTLE_BYTES_MAX / 12).map(|n| format!("\"{n:x}\":0"));
        let body = format!("{{{},\"0\":1}}", pairs.collect::<Vec<_>>().join(","));
        assert!(body.len() <= SETTLE_BYTES_MAX);
        let mut members = Members::parse(body.as_bytes()).unwrap();
        assert_eq!(faults(&mut members)[0], "/0: appears more than once");
        assert_eq!(members.faults.len() + members.unlisted, SETTLE_BYTES_MAX / 12 + 1);
    }

    #[test]
    fn what_is_no_object_is_refused_by_kind() {
        for malformed in ["{", "{\"a\":1,}", "\u{feff}{}", "{} {}", "nul"] {
            let problem = Members::parse(malformed.as_bytes()).unwrap_err();
            assert_eq!(problem.kind(), Kind::MalformedBody, "{malformed}");
        }
        assert_eq!(Members::parse(b"\xff").unwrap_err().kind(), Kind::MalformedBody);
        for other in ["[]", "1", "null", " [\"max\"]"] {
            let problem = Members::parse(other.as_bytes()).unwrap_err();
            assert_eq!(problem.kind(), Kind::InvalidBody, "{other}");
            assert_eq!(problem.detail(), "must be an object");
        }
    }

    #[test]
    fn seconds_are_exact_to_the_millisecond() {
        let cases = [
            ("0", 0),
            ("0.001", 1),
            ("0.29", 290),
            ("1.005", 1005),
            ("30", 30_000),
            ("1e1", 10_000),
            ("2.5E-2", 25),
            ("604799.999", 604_799_999),
            ("0.0004", 0),
            ("0.0006", 1),
            ("-0", 0),
        ];
        for (token, ms) in cases {
            assert_eq!(milliseconds(token), Some(ms), "{token}");
        }
        for token in ["-1", "-0.001", "1e400", "\"1\"", "null", "true", "[]", "inf"] {
            assert_eq!(milliseconds(token), None, "{token}");
        }
    }

    #[test]
    fn limits_hold_at_their_edges() {
        for (text, wanted) in [("10", Some(10)), ("9", None), ("1000", Some(1000)), ("1001", None)]
        {
            let body = format!("{{\"lease_s\":{}}}", text.parse::<f64>().unwrap() / 1000.0);
            let mut members = Members::parse(body.as_bytes()).unwrap();
            assert_eq!(members.seconds_ms("lease_s", 10..=1000), wanted, "{body}");
        }
        for token in ["1.0", "-1", "1e1", "\"5\"", "18446744073709551616", "true"] {
            let body = format!("{{\"max\":{token}}}");
            let mut members = Members::parse(body.as_bytes()).unwrap();
            assert_eq!(members.whole("max", 0..=1000), None, "{token}");
            assert_eq!(faults(&mut members).len(), 1, "{token}");
        }
        let mut members = Members::parse(br#"{"reason":"1234567890!"}"#).unwrap();
        assert_eq!(members.string("reason", 10), None);
        assert_eq!(faults(&mut members)[0], "/reason: is 11 bytes, at most 10");
        let mut members = Members::parse(br#"{"receipts":[]}"#).unwrap();
        assert_eq!(members.strings("receipts", 1..=2), None);
        assert_eq!(faults(&mut members)[0], "/receipts: has 0 items, must have 1 to 2");
    }

    #[test]
    fn strings_with_escapes_are_read() {
        let mut members = Members::parse(br#"{"receipts":["a\u0062","c"]}"#).unwrap();
        let texts = members.strings("receipts", 1..=2).unwrap();
        assert_eq!(texts, ["ab", "c"]);
    }
}
