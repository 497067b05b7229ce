//! A pull reader for JSON: one token at a time, borrowed from the body wherever possible.
//!
//! Why not `serde_json`? Three things are needed at once that its deserialiser does not give:
//! it stops at the first fault, where all are wanted with their pointers; it turns numbers into
//! binary floats, or hands them out as raw text only through a second scan and an allocation;
//! and it takes arrays in place of structs and half surrogate pairs for broken JSON. The grammar
//! of RFC 8259 is small, and `serde_json` still has its say: a test holds the two against each
//! other on mutated bodies, and they must agree on what is JSON.
//!
//! The reader refuses what RFC 8259 lets a reader refuse: a byte order mark, text that is not
//! UTF-8, and nesting deeper than [`JSON_DEPTH_MAX`]. It does not look for repeated members;
//! `parse` does, where it knows the members.
//!
//! Every byte is looked at once, plus once for UTF-8, so a hostile body costs no more per byte
//! than a good one. [`Reader::skip`] recurses, but no deeper than `JSON_DEPTH_MAX`.

mod number;
mod syntax;

use std::borrow::Cow;
use std::fmt;

pub(super) use number::Number;
pub use syntax::{Expected, Malformed, Syntax};

use crate::limits::JSON_DEPTH_MAX;

/// The type of a JSON value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `{…}`
    Object,
    /// `[…]`
    Array,
    /// `"…"`
    Text,
    /// A number.
    Number,
    /// `true` or `false`.
    Boolean,
    /// `null`
    Null,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Object => "an object",
            Kind::Array => "an array",
            Kind::Text => "a string",
            Kind::Number => "a number",
            Kind::Boolean => "a boolean",
            Kind::Null => "null",
        })
    }
}

/// A string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Text<'a> {
    /// Its value; borrowed from the body if it has no escapes. Lone surrogates, which no Rust
    /// string can hold, are U+FFFD.
    pub(super) value: Cow<'a, str>,
    /// Whether there was a lone surrogate.
    pub(super) has_lone_surrogate: bool,
}

/// Reads a body from front to back.
///
/// The caller asks for the [`Kind`] of the next value and then reads or skips it. After an error
/// the reader stands anywhere and must be dropped.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    text: &'a str,
    /// Bytes read. Always on a character boundary.
    at: usize,
    /// Arrays and objects open now.
    depth: usize,
    /// Whether an array or object has just been opened and nothing of it was read.
    is_fresh: bool,
}

impl<'a> Reader<'a> {
    /// A reader at the start of the body.
    pub(super) fn new(body: &'a [u8]) -> Result<Reader<'a>, Malformed> {
        if body.starts_with("\u{feff}".as_bytes()) {
            return Err(Malformed { offset: 0, syntax: Syntax::ByteOrderMark });
        }
        let text = std::str::from_utf8(body)
            .map_err(|error| Malformed { offset: error.valid_up_to(), syntax: Syntax::NotUtf8 })?;
        Ok(Reader { text, at: 0, depth: 0, is_fresh: false })
    }

    /// The type of the value that comes next. Nothing is read but white space.
    pub(super) fn kind(&mut self) -> Result<Kind, Malformed> {
        match self.peek()? {
            b'{' => Ok(Kind::Object),
            b'[' => Ok(Kind::Array),
            b'"' => Ok(Kind::Text),
            b'-' | b'0'..=b'9' => Ok(Kind::Number),
            b't' | b'f' => Ok(Kind::Boolean),
            b'n' => Ok(Kind::Null),
            _ => Err(self.expected(Expected::Value)),
        }
    }

    /// Goes into the object or array that comes next.
    pub(super) fn open(&mut self) -> Result<(), Malformed> {
        if self.depth == JSON_DEPTH_MAX {
            return Err(self.malformed(Syntax::TooDeep));
        }
        self.depth += 1;
        self.at += 1;
        self.is_fresh = true;
        Ok(())
    }

    /// The name of the object's next member, whose value comes next; `None` leaves the object.
    pub(super) fn member(&mut self) -> Result<Option<Text<'a>>, Malformed> {
        if !self.goes_on(b'}', Expected::CommaOrBrace)? {
            return Ok(None);
        }
        if self.peek()? != b'"' {
            return Err(self.expected(Expected::MemberName));
        }
        let name = self.text()?;
        if self.peek()? != b':' {
            return Err(self.expected(Expected::Colon));
        }
        self.at += 1;
        Ok(Some(name))
    }

    /// Whether the array has one more item, which comes next; if not, the array is left.
    pub(super) fn has_item(&mut self) -> Result<bool, Malformed> {
        self.goes_on(b']', Expected::CommaOrBracket)
    }

    /// The string that comes next.
    pub(super) fn text(&mut self) -> Result<Text<'a>, Malformed> {
        let start = self.at + 1;
        self.at = start;
        match self.plain_run()? {
            (run, b'"') => Ok(Text { value: Cow::Borrowed(run), has_lone_surrogate: false }),
            (run, _) => self.escaped_text(run),
        }
    }

    /// The number that comes next.
    pub(super) fn number(&mut self) -> Result<Number<'a>, Malformed> {
        let number = Number::at_start(&self.text[self.at..])
            .ok_or_else(|| self.malformed(Syntax::Number))?;
        self.at += number.text.len();
        // `01` would otherwise be told as a missing comma.
        if self.text.as_bytes().get(self.at).is_some_and(u8::is_ascii_digit) {
            return Err(self.malformed(Syntax::Number));
        }
        Ok(number)
    }

    /// Passes over the value that comes next, whatever it is.
    pub(super) fn skip(&mut self) -> Result<(), Malformed> {
        match self.kind()? {
            Kind::Object => {
                self.open()?;
                while self.member()?.is_some() {
                    self.skip()?;
                }
                Ok(())
            }
            Kind::Array => {
                self.open()?;
                while self.has_item()? {
                    self.skip()?;
                }
                Ok(())
            }
            Kind::Text => self.text().map(drop),
            Kind::Number => self.number().map(drop),
            Kind::Boolean | Kind::Null => self.literal(),
        }
    }

    /// Makes sure that nothing follows the value.
    pub(super) fn finish(mut self) -> Result<(), Malformed> {
        self.skip_blanks();
        if self.at < self.text.len() {
            return Err(self.malformed(Syntax::TrailingCharacters));
        }
        Ok(())
    }

    fn malformed(&self, syntax: Syntax) -> Malformed {
        Malformed { offset: self.at, syntax }
    }

    fn expected(&self, expected: Expected) -> Malformed {
        self.malformed(Syntax::Expected(expected))
    }

    fn skip_blanks(&mut self) {
        let rest = &self.text.as_bytes()[self.at..];
        let is_blank = |byte: &&u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
        self.at += rest.iter().take_while(is_blank).count();
    }

    /// The next byte that is no white space, without reading it.
    fn peek(&mut self) -> Result<u8, Malformed> {
        self.skip_blanks();
        let next = self.text.as_bytes().get(self.at);
        next.copied().ok_or_else(|| self.malformed(Syntax::UnexpectedEnd))
    }

    /// Reads up to the next member or item, or past the end of the object or array.
    fn goes_on(&mut self, close: u8, expected: Expected) -> Result<bool, Malformed> {
        let is_first = std::mem::take(&mut self.is_fresh);
        let next = self.peek()?;
        if next == close {
            self.at += 1;
            self.depth -= 1;
            return Ok(false);
        }
        if !is_first {
            if next != b',' {
                return Err(self.expected(expected));
            }
            self.at += 1;
        }
        Ok(true)
    }

    fn literal(&mut self) -> Result<(), Malformed> {
        let rest = &self.text[self.at..];
        let literal = ["true", "false", "null"].into_iter().find(|word| rest.starts_with(word));
        self.at += literal.ok_or_else(|| self.expected(Expected::Value))?.len();
        Ok(())
    }

    /// Reads a string's characters up to a quote or backslash, and that too.
    fn plain_run(&mut self) -> Result<(&'a str, u8), Malformed> {
        let start = self.at;
        let rest = &self.text.as_bytes()[start..];
        let len = plain_len(rest);
        self.at = start + len;
        match rest.get(len) {
            Some(&stop @ (b'"' | b'\\')) => {
                self.at += 1;
                Ok((&self.text[start..start + len], stop))
            }
            Some(_) => Err(self.malformed(Syntax::ControlCharacter)),
            None => Err(self.malformed(Syntax::UnexpectedEnd)),
        }
    }

    /// Goes on with a string whose first backslash has been read.
    #[cold]
    fn escaped_text(&mut self, first_run: &str) -> Result<Text<'a>, Malformed> {
        let mut value = first_run.to_owned();
        let mut has_lone_surrogate = false;
        loop {
            match self.escape()? {
                Some(character) => value.push(character),
                None => {
                    has_lone_surrogate = true;
                    value.push(char::REPLACEMENT_CHARACTER);
                }
            }
            let (run, stop) = self.plain_run()?;
            value.push_str(run);
            if stop == b'"' {
                return Ok(Text { value: Cow::Owned(value), has_lone_surrogate });
            }
        }
    }

    /// Reads what follows a backslash; `None` is a lone surrogate.
    fn escape(&mut self) -> Result<Option<char>, Malformed> {
        let next = self.text.as_bytes().get(self.at).copied();
        let character = match next.ok_or_else(|| self.malformed(Syntax::UnexpectedEnd))? {
            byte @ (b'"' | b'\\' | b'/') => char::from(byte),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.unicode_escape(),
            _ => return Err(self.malformed(Syntax::Escape)),
        };
        self.at += 1;
        Ok(Some(character))
    }

    /// Reads `uXXXX`, and the other half if it is the first half of a surrogate pair.
    fn unicode_escape(&mut self) -> Result<Option<char>, Malformed> {
        let unit = self.code_unit(self.at + 1).ok_or_else(|| self.malformed(Syntax::Escape))?;
        self.at += 5;
        let is_high = (0xd800..0xdc00).contains(&unit);
        if is_high && self.text[self.at..].starts_with("\\u") {
            let low = self.code_unit(self.at + 2).ok_or_else(|| self.malformed(Syntax::Escape))?;
            if (0xdc00..0xe000).contains(&low) {
                self.at += 6;
                return Ok(char::from_u32(0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00)));
            }
        }
        Ok(char::from_u32(unit))
    }

    /// The value of the four hexadecimal digits there.
    fn code_unit(&self, at: usize) -> Option<u32> {
        let digits = self.text.as_bytes().get(at..at + 4)?;
        digits.iter().try_fold(0, |unit, digit| Some(unit << 4 | char::from(*digit).to_digit(16)?))
    }
}

/// Bytes in front of the first quote, backslash or control character.
///
/// Eight bytes at a time, since strings make up most of a body: 1.41 µs instead of 1.52 µs for
/// the formula of `benches/formula.rs`. In each lane, subtracting borrows into the high bit
/// exactly if the lane was smaller. A borrow can mislead only the lanes behind the first hit,
/// and only that counts.
fn plain_len(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    let below = |lanes: u64, limit: u8| lanes.wrapping_sub(ONES * u64::from(limit)) & !lanes;
    let equal = |lanes: u64, byte: u8| below(lanes ^ (ONES * u64::from(byte)), 1);
    let (chunks, rest) = bytes.as_chunks::<8>();
    for (index, chunk) in chunks.iter().enumerate() {
        let lanes = u64::from_le_bytes(*chunk);
        let hits = below(lanes, b' ') | equal(lanes, b'"') | equal(lanes, b'\\');
        let hits = hits & (ONES << 7);
        if hits != 0 {
            return 8 * index + hits.trailing_zeros() as usize / 8;
        }
    }
    let is_special = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..=0x1f);
    8 * chunks.len() + rest.iter().position(is_special).unwrap_or(rest.len())
}

#[cfg(test)]
mod tests;
