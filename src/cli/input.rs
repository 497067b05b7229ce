//! Formulas from a file or standard input, one at a time, however they are laid out.
//!
//! Three layouts are told apart by how the input begins:
//!
//! ```text
//! [                    array:   elements, each over any number of lines
//! {…}\n                lines:   NDJSON, one object per line
//! {\n …                objects: pretty-printed ones, one after another
//! ```
//!
//! Each formula comes out as one line of JSON, its digits untouched, with the line on which it
//! began. Nothing is judged here but the layout: whether a formula is valid is for the server
//! to say. In `lines` a broken line spoils only itself; in the others a missing bracket spoils
//! the rest, since nothing tells where the next formula begins.
//!
//! Memory is bounded by the longest formula that is taken, whatever the size of the input.

use std::fmt;
use std::io::{self, BufRead};

use crate::limits::NDJSON_LINE_BYTES_MAX;

/// One formula as found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// The line on which it begins, from 1.
    pub(crate) line: u64,
    /// Its JSON on one line, or why it cannot be sent.
    pub(crate) text: Result<Vec<u8>, Unsendable>,
}

/// Why a formula cannot even be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unsendable {
    /// Longer than is taken.
    TooLong {
        /// How long it may be.
        bytes_max: usize,
    },
    /// A line break inside a string, where JSON allows none.
    BrokenString,
}

impl fmt::Display for Unsendable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unsendable::TooLong { bytes_max } => write!(f, "longer than {bytes_max} bytes"),
            Unsendable::BrokenString => f.write_str("a line break inside a string"),
        }
    }
}

/// Why the input cannot be read on.
#[derive(Debug)]
pub(crate) enum InputError {
    /// The file or pipe fails.
    Unreadable(io::Error),
    /// The layout is broken here.
    Malformed {
        /// The line, from 1.
        line: u64,
        /// What was expected.
        expected: &'static str,
    },
}

impl fmt::Display for InputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InputError::Unreadable(error) => error.fmt(f),
            InputError::Malformed { line, expected } => {
                write!(f, "line {line}: expected {expected}")
            }
        }
    }
}

impl From<io::Error> for InputError {
    fn from(error: io::Error) -> InputError {
        InputError::Unreadable(error)
    }
}

/// How the formulas are laid out, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Nothing was read yet.
    Unknown,
    /// One per line.
    Lines,
    /// One after another, each over several lines.
    Objects,
    /// The elements of an array; `true` after the first.
    Array {
        /// Whether the next element needs a comma in front.
        has_elements: bool,
    },
    /// Nothing more comes.
    Ended,
}

/// The formulas of an input.
#[derive(Debug)]
pub(crate) struct Formulas<R> {
    input: R,
    layout: Layout,
    /// The line of the next byte, from 1.
    line: u64,
    is_begun: bool,
    /// The longest formula that is taken.
    bytes_max: usize,
}

/// Where a scan of one JSON value stands.
#[derive(Clone, Copy, Debug, Default)]
struct Scan {
    depth: u64,
    is_in_string: bool,
    is_escaped: bool,
}

/// What a byte means for the value being scanned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Part of the value.
    Part,
    /// Its last byte.
    Last,
    /// Not part of it any more.
    Behind,
}

impl Scan {
    fn step(&mut self, byte: u8) -> Step {
        if self.is_in_string {
            let ends = byte == b'"' && !self.is_escaped;
            self.is_escaped = byte == b'\\' && !self.is_escaped;
            self.is_in_string = !ends;
            return if ends && self.depth == 0 { Step::Last } else { Step::Part };
        }
        match byte {
            b'"' => self.is_in_string = true,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' if self.depth > 0 => {
                self.depth -= 1;
                return if self.depth == 0 { Step::Last } else { Step::Part };
            }
            // A bare word or number has no closing bracket: what cannot belong to it ends it.
            b',' | b'}' | b']' if self.depth == 0 => return Step::Behind,
            _ if self.depth == 0 && byte.is_ascii_whitespace() => return Step::Behind,
            _ => {}
        }
        Step::Part
    }
}

impl<R: BufRead> Formulas<R> {
    /// Formulas laid out as `layout` says; `Layout::Unknown` looks at how the input begins. Each
    /// has at most `NDJSON_LINE_BYTES_MAX` bytes.
    pub(crate) fn new(input: R, layout: Layout) -> Formulas<R> {
        Formulas { input, layout, line: 1, is_begun: false, bytes_max: NDJSON_LINE_BYTES_MAX }
    }

    /// The same, with formulas of up to so many bytes.
    pub(crate) fn of_at_most(self, bytes_max: usize) -> Formulas<R> {
        Formulas { bytes_max, ..self }
    }

    /// The next formula; `None` at the end.
    ///
    /// # Errors
    /// If the input cannot be read or its layout is broken. Nothing comes after an error.
    pub(crate) fn next(&mut self) -> Result<Option<Found>, InputError> {
        if !self.is_begun {
            self.is_begun = true;
            self.skip_byte_order_mark()?;
        }
        let next = match self.layout {
            Layout::Unknown => self.first(),
            Layout::Lines => self.next_line(),
            Layout::Objects => self.next_object(),
            Layout::Array { has_elements } => self.next_element(has_elements),
            Layout::Ended => Ok(None),
        };
        if !matches!(next, Ok(Some(_))) {
            self.layout = Layout::Ended;
        }
        next
    }

    fn first(&mut self) -> Result<Option<Found>, InputError> {
        match self.skip_blank()? {
            None => Ok(None),
            Some(b'[') => {
                self.take_byte()?;
                self.layout = Layout::Array { has_elements: false };
                self.next()
            }
            Some(b'{') => {
                let began = self.line;
                let found = self.value()?;
                let is_one_line = self.line == began;
                self.layout = if is_one_line { Layout::Lines } else { Layout::Objects };
                if is_one_line { self.rest_of_line(found) } else { Ok(Some(found)) }
            }
            Some(_) => Err(self.malformed("a JSON object, an array of them, or one per line")),
        }
    }

    /// Editors on some systems put a byte order mark in front. It is no JSON, and no data.
    fn skip_byte_order_mark(&mut self) -> Result<(), InputError> {
        if self.peek_byte()? == Some(0xef) {
            for expected in *b"\xef\xbb\xbf" {
                if self.take_byte()? != Some(expected) {
                    return Err(self.malformed("UTF-8"));
                }
            }
        }
        Ok(())
    }

    /// The first line of NDJSON was scanned as a value; whatever follows on the line belongs to
    /// it, so that the server sees, and refuses, the line as it is.
    fn rest_of_line(&mut self, mut found: Found) -> Result<Option<Found>, InputError> {
        if let Some(rest) = self.next_raw_line()?
            && !rest.text.as_ref().is_ok_and(|text| text.is_empty())
        {
            found.text = match (found.text, rest.text) {
                (Ok(mut text), Ok(rest)) if text.len() + rest.len() <= self.bytes_max => {
                    text.extend_from_slice(&rest);
                    Ok(text)
                }
                _ => Err(Unsendable::TooLong { bytes_max: self.bytes_max }),
            };
        }
        Ok(Some(found))
    }

    fn next_line(&mut self) -> Result<Option<Found>, InputError> {
        loop {
            match self.next_raw_line()? {
                Some(found) if found.text.as_ref().is_ok_and(|text| text.is_empty()) => {}
                next => return Ok(next),
            }
        }
    }

    /// The rest of the present line without its end and blanks around it.
    fn next_raw_line(&mut self) -> Result<Option<Found>, InputError> {
        if self.peek_byte()?.is_none() {
            return Ok(None);
        }
        let mut found = Found { line: self.line, text: Ok(Vec::new()) };
        // Byte by byte would do, but most input comes this way: take what is buffered at once.
        while self.peek_byte()?.is_some() {
            let buffer = self.input.fill_buf()?;
            let end = buffer.iter().position(|&byte| byte == b'\n');
            push(&mut found.text, &buffer[..end.unwrap_or(buffer.len())], self.bytes_max);
            let taken = end.map_or(buffer.len(), |end| end + 1);
            self.input.consume(taken);
            if end.is_some() {
                self.line += 1;
                break;
            }
        }
        if let Ok(text) = &mut found.text {
            text.truncate(text.trim_ascii_end().len());
            text.drain(..text.len() - text.trim_ascii_start().len());
        }
        Ok(Some(found))
    }

    fn next_object(&mut self) -> Result<Option<Found>, InputError> {
        match self.skip_blank()? {
            None => Ok(None),
            Some(b'{') => self.value().map(Some),
            Some(_) => Err(self.malformed("`{` or the end")),
        }
    }

    fn next_element(&mut self, has_elements: bool) -> Result<Option<Found>, InputError> {
        match (self.skip_blank()?, has_elements) {
            (Some(b']'), _) => return self.end_of_array(),
            (Some(b','), true) => {
                self.take_byte()?;
                self.skip_blank()?;
            }
            (Some(_), false) => {}
            _ => return Err(self.malformed("`,` or `]`")),
        }
        match self.skip_blank()? {
            None | Some(b',' | b']' | b'}') => Err(self.malformed("a formula")),
            Some(_) => {
                let found = self.value()?;
                self.layout = Layout::Array { has_elements: true };
                Ok(Some(found))
            }
        }
    }

    fn end_of_array(&mut self) -> Result<Option<Found>, InputError> {
        self.take_byte()?;
        match self.skip_blank()? {
            None => Ok(None),
            Some(_) => Err(self.malformed("nothing after the array")),
        }
    }

    /// Scans the value that begins at the next byte.
    fn value(&mut self) -> Result<Found, InputError> {
        let mut found = Found { line: self.line, text: Ok(Vec::new()) };
        let mut scan = Scan::default();
        loop {
            let was_in_string = scan.is_in_string;
            let Some(byte) = self.peek_byte()? else {
                // A bare word may stand at the end; a bracket or quote must be closed.
                let is_open = scan.depth > 0 || scan.is_in_string;
                return if is_open { Err(self.malformed("a closing bracket")) } else { Ok(found) };
            };
            let step = scan.step(byte);
            if step == Step::Behind {
                return Ok(found);
            }
            self.take_byte()?;
            let is_line_break = matches!(byte, b'\n' | b'\r');
            if is_line_break && was_in_string {
                found.text = Err(Unsendable::BrokenString);
            }
            // Between tokens a blank serves as well as a line break.
            push(&mut found.text, &[if is_line_break { b' ' } else { byte }], self.bytes_max);
            if step == Step::Last {
                return Ok(found);
            }
        }
    }

    /// Skips blanks; gives the byte after them without taking it.
    fn skip_blank(&mut self) -> Result<Option<u8>, InputError> {
        while let Some(byte) = self.peek_byte()? {
            if !byte.is_ascii_whitespace() {
                return Ok(Some(byte));
            }
            self.take_byte()?;
        }
        Ok(None)
    }

    fn peek_byte(&mut self) -> Result<Option<u8>, InputError> {
        loop {
            match self.input.fill_buf() {
                Ok(buffer) => return Ok(buffer.first().copied()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn take_byte(&mut self) -> Result<Option<u8>, InputError> {
        let byte = self.peek_byte()?;
        if let Some(byte) = byte {
            self.input.consume(1);
            self.line += u64::from(byte == b'\n');
        }
        Ok(byte)
    }

    fn malformed(&self, expected: &'static str) -> InputError {
        InputError::Malformed { line: self.line, expected }
    }
}

/// Appends bytes unless the text grows too long or cannot be sent anyway.
fn push(text: &mut Result<Vec<u8>, Unsendable>, more: &[u8], bytes_max: usize) {
    if let Ok(bytes) = text {
        if bytes.len() + more.len() <= bytes_max {
            bytes.extend_from_slice(more);
        } else {
            *text = Err(Unsendable::TooLong { bytes_max });
        }
    }
}

#[cfg(test)]
mod tests;
