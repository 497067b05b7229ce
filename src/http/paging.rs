//! Lists in pages: the parameters `limit` and `after`, and the way to the next page.
//!
//! A cursor is the number of the last row looked at, spelled so that nobody takes it for one:
//! clients hand it back as it is, and what it means may change.

use std::fmt;
use std::str::FromStr;

use form_urlencoded::Serializer;
use hyper::StatusCode;

use crate::http::budget::{Charge, Exhausted};
use crate::http::problem::{Kind, Problem};
use crate::http::render;
use crate::http::response::Response;
use crate::ids::{Lsn, Malformed};
use crate::limits::{
    PAGE_BYTES_MAX, PAGE_DEFAULT, PAGE_MAX, RESPONSE_BYTES_FREE, RESPONSE_PIECE_BYTES,
};

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

/// The rows of a page while it is made.
///
/// A page ends early, with a cursor, at `PAGE_BYTES_MAX`; and when many clients have pages that
/// they do not read, as soon as those together leave no more room.
pub(super) struct Rows {
    json: Vec<u8>,
    count: usize,
    charge: Charge,
}

/// What became of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pushed {
    /// It is on the page.
    Shown,
    /// It is left to the next page: this one is full.
    Full,
}

impl Rows {
    /// A page whose rows are the array `name`.
    pub(super) fn open(name: &str, charge: Charge) -> Rows {
        Rows { json: format!("{{\"{name}\":[").into_bytes(), count: 0, charge }
    }

    /// Rows on the page.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Adds the row that `write` writes, if there is room for it.
    ///
    /// # Errors
    /// `Exhausted`, when there is not even room for one row.
    pub(super) fn push(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Result<Pushed, Exhausted> {
        let before = self.json.len();
        if self.count > 0 {
            self.json.push(b',');
        }
        write(&mut self.json);
        match self.charge_for(self.json.len()) {
            Ok(()) if self.count == 0 || self.json.len() <= PAGE_BYTES_MAX => {
                self.count += 1;
                Ok(Pushed::Shown)
            }
            Err(exhausted) if self.count == 0 => Err(exhausted),
            Ok(()) | Err(_) => {
                self.json.truncate(before);
                Ok(Pushed::Full)
            }
        }
    }

    /// Charged by pieces, so that few rows trouble the budget.
    fn charge_for(&mut self, bytes: usize) -> Result<(), Exhausted> {
        let wanted = bytes.saturating_sub(RESPONSE_BYTES_FREE);
        match wanted.checked_sub(self.charge.bytes()) {
            None | Some(0) => Ok(()),
            Some(more) => self.charge.take(more.next_multiple_of(RESPONSE_PIECE_BYTES)),
        }
    }

    /// The page as a response, with the cursor to the next one.
    pub(super) fn close(mut self, next: Option<impl fmt::Display>) -> Response {
        self.json.extend_from_slice(b"],\"next\":");
        render::scalar(&mut self.json, &next.map(|cursor| cursor.to_string()));
        self.json.push(b'}');
        Response::json(StatusCode::OK, self.json).charged(self.charge)
    }
}

/// Why there is no page: its first row cannot be read back. `next` is the way past the damage.
pub(super) fn damaged(seq: Lsn, next: Cursor) -> Problem {
    let detail = format!(
        "record {seq} cannot be read back unharmed; what follows it is listed after `next`"
    );
    Problem::new(Kind::DamagedRecord, detail)
        .member("seq", seq.to_string())
        .member("next", format!("\"{next}\""))
}

/// The value of `Link` that leads to the next page of `path`, with the parameters of this one.
pub(super) fn next_link(
    path: &str,
    parameters: &[(&str, Option<&str>)],
    next: impl fmt::Display,
) -> String {
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
    use std::sync::Arc;

    use super::*;
    use crate::http::budget::Budget;

    /// Rows that fit, of so many bytes each.
    fn fill(rows: &mut Rows, bytes: usize) -> usize {
        let row = |json: &mut Vec<u8>| json.resize(json.len() + bytes, b'0');
        while rows.push(row) == Ok(Pushed::Shown) {}
        rows.count()
    }

    #[test]
    fn a_page_ends_at_its_limit_and_before_all_pages_reach_theirs() {
        let budget = Arc::new(Budget::new(PAGE_BYTES_MAX + RESPONSE_PIECE_BYTES));
        let mut first = Rows::open("rows", budget.open());
        assert_eq!(fill(&mut first, 99_999), PAGE_BYTES_MAX / 100_000);
        let mut second = Rows::open("rows", budget.open());
        let fitting = fill(&mut second, 999);
        assert!((16..64).contains(&fitting), "{fitting}");
        let page = first.close(None::<Cursor>);
        let mut third = Rows::open("rows", budget.open());
        let row = |json: &mut Vec<u8>| json.resize(json.len() + PAGE_BYTES_MAX / 2, b'0');
        assert_eq!(third.push(row), Err(Exhausted), "not even one row");
        drop(page);
        let mut fourth = Rows::open("rows", budget.open());
        assert_eq!(fourth.push(row), Ok(Pushed::Shown));
    }

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
