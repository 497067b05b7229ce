//! What a formula is, when it is valid, and when two formulas are the same.
//!
//! ```text
//! body ─► json ─► parse ─► Formula (as sent)       ┐
//!                   │                              ├─► Checked
//!                   └────► canonical ─► Fingerprint┘
//! ```
//! - `json` turns bytes into tokens, one at a time, without building a tree.
//! - `parse` turns tokens into a [`Formula`] or into *all* [`Fault`]s of the body at once.
//! - `concentration` turns a number token into an exact decimal, never a binary float.
//! - `canonical` turns names and values into the bytes whose SHA-256 is the [`Fingerprint`].
//!
//! Everything here is pure. What is kept is what was sent: names trimmed but otherwise
//! untouched, concentrations digit for digit. The canonical form is only ever hashed, shown and
//! compared, never stored in place of the original.

mod canonical;
mod concentration;
mod fault;
mod json;
mod parse;

use std::fmt;
use std::str::FromStr;

use bincode::error::DecodeError;
use bincode::{Decode, Encode};

pub use canonical::{CANON, canonical_lines, fingerprint, name_key};
pub use fault::{Fault, FaultKind, Field, Invalid};
pub use json::{Expected, Kind, Malformed, Syntax};
pub use parse::{parse, parse_array};

use crate::limits::{CONCENTRATION_BYTES_MAX, MATERIALS_MAX, NAME_BYTES_MAX};

/// SHA-256 of a formula's canonical make-up: the formula's identity.
///
/// As text it is 64 lower-case hexadecimal digits and nothing else, so that one formula has one
/// URL.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// Its 64 lower-case hexadecimal digits, in ASCII.
    #[must_use]
    pub fn to_hex(self) -> [u8; 64] {
        // Every answer shows it up to four times. Computed rather than looked up, so that the
        // compiler does sixteen digits at once.
        let digit = |half: u8| half + b'0' + u8::from(half > 9) * (b'a' - b'0' - 10);
        let mut text = [0; 64];
        for (pair, byte) in text.chunks_exact_mut(2).zip(self.0) {
            pair[0] = digit(byte >> 4);
            pair[1] = digit(byte & 15);
        }
        text
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(std::str::from_utf8(&self.to_hex()).expect("hexadecimal digits are ASCII"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not a fingerprint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MalformedFingerprint;

impl fmt::Display for MalformedFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not 64 lower-case hexadecimal digits")
    }
}

impl std::error::Error for MalformedFingerprint {}

impl FromStr for Fingerprint {
    type Err = MalformedFingerprint;

    /// Accepts exactly what `Display` writes.
    fn from_str(text: &str) -> Result<Self, MalformedFingerprint> {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Ok(byte - b'0'),
            b'a'..=b'f' => Ok(byte - b'a' + 10),
            _ => Err(MalformedFingerprint),
        };
        let digits: &[u8; 64] = text.as_bytes().try_into().map_err(|_| MalformedFingerprint)?;
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Ok(Fingerprint(bytes))
    }
}

/// A formula as sent: the name, then the materials in the order of the request.
///
/// All pieces lie in one text, `name material concentration material concentration …`, without
/// separators: two allocations whatever the number of lines, and the stored form is the form in
/// memory.
///
/// Invariants, checked on decode as well:
/// - `ends` has the end of each piece in bytes, ascending, on character boundaries;
/// - there is a name and at least one material, so `ends` is odd in number and at least 3;
/// - the last end is the length of the text;
/// - each concentration is a JSON number, not negative, at most
///   [`CONCENTRATION_VALUE_MAX`](crate::limits::CONCENTRATION_VALUE_MAX), with at most 30
///   decimals by value.
#[derive(Clone, Debug, PartialEq, Eq, Encode)]
pub struct Formula {
    text: String,
    ends: Vec<u32>,
}

const _: () = assert!(
    NAME_BYTES_MAX + MATERIALS_MAX * (NAME_BYTES_MAX + CONCENTRATION_BYTES_MAX) < u32::MAX as usize
);

/// One line of a formula.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Material<'a> {
    /// Name as sent, trimmed at both ends; 1 to 256 characters.
    pub name: &'a str,
    /// Percent of the formula, digits as sent: a JSON number.
    pub concentration: &'a str,
}

impl Formula {
    /// The formula of these pieces. The caller has checked each of them.
    fn new(name: &str, lines: &[parse::Line<'_>]) -> Formula {
        let pieces = || {
            let of_lines = lines.iter().flat_map(|line| [&*line.name, &*line.concentration]);
            std::iter::once(name).chain(of_lines)
        };
        let mut text = String::with_capacity(pieces().map(str::len).sum());
        let mut ends = Vec::with_capacity(1 + 2 * lines.len());
        for piece in pieces() {
            text.push_str(piece);
            ends.push(u32::try_from(text.len()).expect("limits keep a formula below 4 GiB"));
        }
        Formula { text, ends }
    }

    /// The formula's name, trimmed at both ends; 1 to 256 characters. No part of its identity.
    #[must_use]
    pub fn name(&self) -> &str {
        self.ends.first().map_or("", |end| &self.text[..*end as usize])
    }

    /// The lines in the order of the request; at least one.
    pub fn materials(&self) -> impl ExactSizeIterator<Item = Material<'_>> {
        self.ends.array_windows().step_by(2).map(|&[start, middle, end]| Material {
            name: &self.text[start as usize..middle as usize],
            concentration: &self.text[middle as usize..end as usize],
        })
    }

    /// Whether `ends` cuts `text` as the invariants say.
    fn is_well_cut(&self) -> bool {
        self.ends.len() % 2 == 1
            && self.ends.len() >= 3
            && self.ends.is_sorted()
            && self.ends.last().is_some_and(|end| *end as usize == self.text.len())
            && self.ends.iter().all(|end| self.text.is_char_boundary(*end as usize))
    }
}

impl<C> Decode<C> for Formula {
    fn decode<D: bincode::de::Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let text = <String as Decode<C>>::decode(decoder)?;
        let ends = <Vec<u32> as Decode<C>>::decode(decoder)?;
        let formula = Formula { text, ends };
        // The order matters: lines can only be looked at once the cuts are known to be sound.
        if !formula.is_well_cut() {
            return Err(DecodeError::Other("a formula's ends do not fit its text"));
        }
        if formula.materials().any(|line| concentration::stored(line.concentration).is_none()) {
            return Err(DecodeError::Other("a formula's concentration is not a decimal"));
        }
        Ok(formula)
    }
}
bincode::impl_borrow_decode!(Formula);

/// What configuration may change about the checks.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Highest concentration of one line in percent (`--max-concentration`), at most
    /// [`CONCENTRATION_VALUE_MAX`](crate::limits::CONCENTRATION_VALUE_MAX).
    pub concentration_max: u32,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules { concentration_max: 100 }
    }
}

/// A formula that passed every check, with its identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// As sent.
    pub formula: Formula,
    /// Under canon 1, see [`CANON`].
    pub fingerprint: Fingerprint,
}

#[cfg(test)]
mod tests;
