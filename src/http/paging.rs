//! Lists in pages: the parameters `limit` and `after`, and the way to the next page.
//!
//! A cursor is the number of the last row looked at, spelled so that nobody takes it for one:
//! clients hand it back as it is, and what it means may change.

use std::fmt;
use std::str::FromStr;

use form_urlencoded::Serializer;

use crate::http::problem::Problem;
use crate::ids::Malformed;
use crate::limits::{PAGE_DEFAULT, PAGE_MAX};

/// Where a page ends and the next one goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cursor(pub(super) u64);

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "c{:016x}", self.0)
    }
}

impl FromStr for Cursor {
    type Err = Malformed;

    /// Accepts exactly what `Display` writes.
    fn from_str(text: &str) -> Result<Self, Malformed> {
        let digits = text.strip_prefix('c').ok_or(Malformed)?;
        let cursor = Cursor(u64::from_str_radix(digits, 16).map_err(|_| Malformed)?);
        if cursor.to_string() == text { Ok(cursor) } else { Err(Malformed) }
    }
}

/// Which part of a list is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Page {
    /// Rows, 1 to `PAGE_MAX`.
    pub(super) limit: usize,
    /// After this; `None` from the start.
    pub(super) after: Option<Cursor>,
}

impl Page {
    /// Reads the parameters `limit` and `after`.
    pub(super) fn read(limit: Option<&str>, after: Option<&str>) -> Result<Page, Problem> {
        let limit = match limit.map(str::parse) {
            None => PAGE_DEFAULT,
            Some(Ok(limit @ 1..=PAGE_MAX)) => limit,
            Some(_) => {
                let detail = format!("must be a whole number from 1 to {PAGE_MAX}");
                return Err(Problem::parameter("limit", detail));
            }
        };
        let after = after.map(str::parse).transpose();
        let after =
            after.map_err(|_| Problem::parameter("after", "must be the `next` of a page"))?;
        Ok(Page { limit, after })
    }
}

/// The value of `Link` that leads to the next page of `path`, with the parameters of this one.
pub(super) fn next_link(path: &str, parameters: &[(&str, Option<&str>)], next: Cursor) -> String {
    let mut query = Serializer::new(String::new());
    for (name, value) in parameters {
        if let Some(value) = value {
            query.append_pair(name, value);
        }
    }
    query.append_pair("after", &next.to_string());
    format!("<{path}?{}>; rel=\"next\"", query.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_read_back_only_their_own_spelling() {
        for number in [0, 1, 0xabc, u64::MAX] {
            assert_eq!(Cursor(number).to_string().parse(), Ok(Cursor(number)));
        }
        let wrong = ["", "1", "c1", "C0000000000000001", "c000000000000000G", "c+00000000000001"];
        for text in wrong {
            assert_eq!(text.parse::<Cursor>(), Err(Malformed), "{text}");
        }
    }

    #[test]
    fn limits_outside_1_to_1000_are_refused_by_name() {
        assert_eq!(Page::read(None, None).unwrap(), Page { limit: 100, after: None });
        assert_eq!(Page::read(Some("1"), None).unwrap().limit, 1);
        assert_eq!(Page::read(Some("1000"), None).unwrap().limit, 1000);
        for limit in ["0", "1001", "-1", "1.0", "", "ten", "99999999999999999999"] {
            let problem = Page::read(Some(limit), None).unwrap_err();
            assert!(problem.detail().contains("limit"), "{limit}");
        }
        let problem = Page::read(None, Some("42")).unwrap_err();
        assert!(problem.detail().contains("after"));
    }

    #[test]
    fn the_next_link_keeps_the_filters() {
        let parameters = [("limit", Some("2")), ("name", Some("Rosé & Co")), ("material", None)];
        assert_eq!(
            next_link("/formulas", &parameters, Cursor(10)),
            "</formulas?limit=2&name=Ros%C3%A9+%26+Co&after=c000000000000000a>; rel=\"next\""
        );
    }
}
