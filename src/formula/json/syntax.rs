//! What breaks the grammar of JSON, and where.

use std::fmt;

use crate::limits::JSON_DEPTH_MAX;

/// The body is not JSON that Sillage reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// Bytes of the body in front of the trouble.
    pub offset: usize,
    /// The trouble.
    pub syntax: Syntax,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "malformed JSON at byte {}: {}", self.offset, self.syntax)
    }
}

impl std::error::Error for Malformed {}

/// What breaks the grammar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Syntax {
    /// The body begins with a byte order mark.
    ByteOrderMark,
    /// The bytes are not UTF-8.
    NotUtf8,
    /// The body ends inside a value, or is empty.
    UnexpectedEnd,
    /// Something else should stand here.
    Expected(Expected),
    /// A number is not in the grammar, such as `01`, `1.` or `-`.
    Number,
    /// A control character stands in a string without being escaped.
    ControlCharacter,
    /// A backslash is followed by no known escape.
    Escape,
    /// Arrays and objects are nested too deep.
    TooDeep,
    /// Something follows the value.
    TrailingCharacters,
}

impl fmt::Display for Syntax {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Syntax::ByteOrderMark => f.write_str("byte order mark"),
            Syntax::NotUtf8 => f.write_str("not UTF-8"),
            Syntax::UnexpectedEnd => f.write_str("unexpected end"),
            Syntax::Expected(expected) => write!(f, "expected {expected}"),
            Syntax::Number => f.write_str("no valid number"),
            Syntax::ControlCharacter => f.write_str("control character in a string"),
            Syntax::Escape => f.write_str("unknown escape"),
            Syntax::TooDeep => write!(f, "nested deeper than {JSON_DEPTH_MAX} levels"),
            Syntax::TrailingCharacters => f.write_str("text after the end of the value"),
        }
    }
}

/// What should have stood in the place of something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// The begin of any value.
    Value,
    /// A member's name.
    MemberName,
    /// The colon after a member's name.
    Colon,
    /// A comma or the end of the object.
    CommaOrBrace,
    /// A comma or the end of the array.
    CommaOrBracket,
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Expected::Value => "a value",
            Expected::MemberName => "a member name",
            Expected::Colon => "':'",
            Expected::CommaOrBrace => "',' or '}'",
            Expected::CommaOrBracket => "',' or ']'",
        })
    }
}
