//! What can be wrong with a body, where, and in which words.
//!
//! A fault points at its place by RFC 6901 and says what the limit is. Texts are made here only,
//! so that the API speaks with one voice. Pointers are built only for faults, never for good
//! bodies.

mod collector;

use std::fmt;

pub(super) use collector::{Faults, Place, quote};

use super::json::{Kind, Malformed};
use crate::limits::{
    BATCH_ITEMS_MAX, CONCENTRATION_BYTES_MAX, CONCENTRATION_DECIMALS_MAX, MATERIALS_MAX,
    NAME_CHARS_MAX,
};

/// Why a body is refused: all its faults at once.
///
/// There is at least one fault. They stand in the order of the body; what concerns a whole
/// formula follows its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// Whether the body is not JSON at all, and so could not be looked into. Then there is one
    /// fault, and it points at the whole body.
    pub malformed: bool,
    /// The first faults, at most [`FAULTS_MAX`](crate::limits::FAULTS_MAX).
    pub faults: Vec<Fault>,
    /// How many more were found.
    pub unlisted: usize,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.faults.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{fault}")?;
        }
        if self.unlisted > 0 {
            write!(f, "; and {} more", self.unlisted)?;
        }
        Ok(())
    }
}

impl std::error::Error for Invalid {}

impl From<Malformed> for Invalid {
    fn from(malformed: Malformed) -> Invalid {
        let fault = Fault { pointer: String::new(), kind: FaultKind::Malformed(malformed) };
        Invalid { malformed: true, faults: vec![fault], unlisted: 0 }
    }
}

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// RFC 6901 pointer into the formula, such as `/materials/1/concentration`. Of a missing
    /// member it is the place where the member should be.
    pub pointer: String,
    /// What is wrong there.
    pub kind: FaultKind,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.pointer.is_empty() {
            write!(f, "{}: ", self.pointer)?;
        }
        self.kind.fmt(f)
    }
}

/// What is wrong. `Display` gives the text for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// The body is not JSON.
    Malformed(Malformed),
    /// A value of another JSON type is needed here.
    WrongKind {
        /// What the value is for.
        field: Field,
        /// What it is.
        found: Kind,
    },
    /// A member that must be there is not.
    Missing(Field),
    /// A member that a formula does not have. It is refused, never dropped: a dropped `unit`
    /// would change the formula. Cut to 64 characters; if cut, the pointer is its object's.
    UnknownMember(Box<str>),
    /// A member comes twice in one object.
    DuplicateMember(Field),
    /// A name has no character besides white space.
    NameEmpty(Field),
    /// A name is too long.
    NameTooLong {
        /// Formula or material.
        field: Field,
        /// Characters after trimming.
        chars: usize,
    },
    /// A name has a control character other than tab and line breaks.
    NameControl {
        /// Formula or material.
        field: Field,
        /// The first one.
        character: char,
    },
    /// A name has half of a surrogate pair, which no Unicode text can hold.
    NameLoneSurrogate(Field),
    /// Nothing of a material's name is left once marks and blanks are taken away.
    NameKeyEmpty,
    /// A concentration is a string that is not a JSON number. Cut to 64 characters.
    NotANumber(Box<str>),
    /// A concentration has too many bytes.
    ConcentrationTooLong {
        /// How many.
        bytes: usize,
    },
    /// A concentration has more decimals than are kept, trailing zeros aside.
    ConcentrationTooFine,
    /// A concentration is below zero.
    ConcentrationNegative,
    /// A concentration is above the highest that is configured.
    ConcentrationTooHigh {
        /// The highest, in percent.
        max: u32,
    },
    /// A formula has no lines.
    NoMaterials,
    /// A formula has too many lines.
    TooManyMaterials {
        /// How many.
        lines: usize,
    },
    /// A material stands in the formula already.
    Repeat {
        /// The first line with this material, counted from 0.
        first: u32,
    },
    /// No line has a concentration above zero.
    AllZero,
    /// An array of formulas is empty.
    NoFormulas,
    /// An array has too many formulas.
    TooManyFormulas {
        /// How many.
        items: usize,
    },
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(malformed) => malformed.fmt(f),
            Self::WrongKind { field, found } => {
                write!(f, "{field} is {found}, must be {}", field.wanted())
            }
            Self::Missing(field) => write!(f, "{field} is missing"),
            Self::UnknownMember(name) => write!(f, "unknown member {name:?}"),
            Self::DuplicateMember(field) => write!(f, "{field} comes twice"),
            Self::NameEmpty(field) => write!(f, "{field} is empty"),
            Self::NameTooLong { field, chars } => {
                write!(f, "{field} is {chars} characters, at most {NAME_CHARS_MAX}")
            }
            Self::NameControl { field, character } => {
                let code = u32::from(*character);
                write!(f, "{field} has the control character U+{code:04X}")
            }
            Self::NameLoneSurrogate(field) => write!(f, "{field} has a lone surrogate"),
            Self::NameKeyEmpty => f.write_str("material name has only marks and blanks"),
            Self::NotANumber(text) => write!(f, "concentration {text:?} is not a number"),
            Self::ConcentrationTooLong { bytes } => {
                write!(f, "concentration is {bytes} bytes, at most {CONCENTRATION_BYTES_MAX}")
            }
            Self::ConcentrationTooFine => {
                write!(f, "concentration has more than {CONCENTRATION_DECIMALS_MAX} decimals")
            }
            Self::ConcentrationNegative => f.write_str("concentration is below 0"),
            Self::ConcentrationTooHigh { max } => write!(f, "concentration is above {max}"),
            Self::NoMaterials => f.write_str("materials is empty, at least 1 line"),
            Self::TooManyMaterials { lines } => {
                write!(f, "materials has {lines} lines, at most {MATERIALS_MAX}")
            }
            Self::Repeat { first } => write!(f, "same material as /materials/{first}/name"),
            Self::AllZero => f.write_str("every concentration is 0"),
            Self::NoFormulas => f.write_str("the array is empty, at least 1 formula"),
            Self::TooManyFormulas { items } => {
                write!(f, "the array has {items} formulas, at most {BATCH_ITEMS_MAX}")
            }
        }
    }
}

/// What a value is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// An array of formulas.
    Batch,
    /// A formula.
    Formula,
    /// A formula's name.
    Name,
    /// The lines of a formula.
    Materials,
    /// One line.
    Material,
    /// The name in a line.
    MaterialName,
    /// The concentration in a line.
    Concentration,
}

impl Field {
    /// The JSON type that it must have.
    fn wanted(self) -> &'static str {
        match self {
            Field::Batch | Field::Materials => "an array",
            Field::Formula | Field::Material => "an object",
            Field::Name | Field::MaterialName => "a string",
            Field::Concentration => "a number or a decimal string",
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Field::Batch => "body",
            Field::Formula => "formula",
            Field::Name => "name",
            Field::Materials => "materials",
            Field::Material => "material",
            Field::MaterialName => "material name",
            Field::Concentration => "concentration",
        })
    }
}
