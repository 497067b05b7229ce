//! From a body to a formula, or to everything that is wrong with it.
//!
//! One pass over the tokens. A fault does not end it: the value is skipped, the fault noted, and
//! the reading goes on, so that a caller hears of all faults at once. Only a body that is no JSON
//! ends it, because from there on nothing has a meaning.
//!
//! Checked here: the shape (objects where objects belong, known members only, each once), the
//! lengths and characters of names, the range of concentrations, repeats, and that some line is
//! above zero. Not checked: the total, since real formulas miss 100 by rounding or by solvent.

use std::borrow::Cow;

use super::canonical::{HasKey, Makeup};
use super::fault::{FaultKind, Faults, Field, Invalid, Place, quote};
use super::json::{Kind, Malformed, Number, Reader, Text};
use super::{Checked, Formula, Rules, concentration};
use crate::limits::{BATCH_ITEMS_MAX, FAULTS_MAX, MATERIALS_MAX, NAME_BYTES_MAX, NAME_CHARS_MAX};

// A name of at most so many characters cannot have more bytes, so characters alone are counted.
const _: () = assert!(NAME_BYTES_MAX >= 4 * NAME_CHARS_MAX);

/// Reads one formula.
///
/// # Errors
/// All faults of the body: see [`Invalid`].
pub fn parse(body: &[u8], rules: &Rules) -> Result<Checked, Invalid> {
    let mut parser = Parser::new(body, rules)?;
    let checked = parser.formula()?;
    let Parser { reader, faults, .. } = parser;
    reader.finish()?;
    checked.ok_or_else(|| faults.into_invalid())
}

/// Reads an array of formulas, each for itself: one that is invalid does not spoil the others,
/// and its pointers begin at itself. Equal formulas in one array are none of its business.
///
/// Over all items together at most [`FAULTS_MAX`] faults are listed, but each refused item lists
/// at least one.
///
/// # Errors
/// The body is no JSON, no array, empty, or has more than [`BATCH_ITEMS_MAX`] items.
pub fn parse_array(body: &[u8], rules: &Rules) -> Result<Vec<Result<Checked, Invalid>>, Invalid> {
    let mut parser = Parser::new(body, rules)?;
    let items = parser.batch()?;
    let Parser { reader, faults, .. } = parser;
    reader.finish()?;
    items.ok_or_else(|| faults.into_invalid())
}

/// One line as sent, checked.
#[derive(Debug)]
pub(super) struct Line<'a> {
    /// Trimmed at both ends.
    pub(super) name: Cow<'a, str>,
    /// A JSON number.
    pub(super) concentration: Cow<'a, str>,
}

/// The lines of one formula, checked but for what concerns all of them.
struct Lines<'a> {
    lines: Vec<Line<'a>>,
    makeup: Makeup,
    /// Whether a line is above zero.
    has_content: bool,
}

/// A concentration, checked.
struct Concentration<'a> {
    text: Cow<'a, str>,
    /// Times 10^30.
    scaled: u128,
}

/// A member of an object while the object is read.
enum Member<T> {
    /// Not seen yet.
    Missing,
    /// Seen, and its faults noted.
    Faulty,
    /// Seen and found good.
    Good(T),
}

impl<T> Member<T> {
    fn good(self) -> Option<T> {
        if let Member::Good(value) = self { Some(value) } else { None }
    }
}

/// Reads and checks. Its functions give `None` after they have noted at least one fault.
struct Parser<'a, 'r> {
    reader: Reader<'a>,
    rules: &'r Rules,
    faults: Faults,
}

impl<'a, 'r> Parser<'a, 'r> {
    fn new(body: &'a [u8], rules: &'r Rules) -> Result<Self, Malformed> {
        let (reader, faults) = (Reader::new(body)?, Faults::with_room(FAULTS_MAX));
        Ok(Parser { reader, rules, faults })
    }

    fn batch(&mut self) -> Result<Option<Vec<Result<Checked, Invalid>>>, Malformed> {
        if !self.is_kind(Kind::Array, Place::Batch)? {
            return Ok(None);
        }
        self.reader.open()?;
        let mut items = Vec::new();
        let mut count = 0;
        let mut room = FAULTS_MAX;
        while self.reader.has_item()? {
            count += 1;
            if count > BATCH_ITEMS_MAX {
                self.reader.skip()?;
                continue;
            }
            self.faults = Faults::with_room(room.max(1));
            let checked = self.formula()?;
            let faults = std::mem::replace(&mut self.faults, Faults::with_room(1));
            room = room.saturating_sub(faults.listed());
            items.push(checked.ok_or_else(|| faults.into_invalid()));
        }
        match count {
            0 => self.faults.push(Place::Batch, FaultKind::NoFormulas),
            1..=BATCH_ITEMS_MAX => return Ok(Some(items)),
            items => self.faults.push(Place::Batch, FaultKind::TooManyFormulas { items }),
        }
        Ok(None)
    }

    fn formula(&mut self) -> Result<Option<Checked>, Malformed> {
        if !self.is_kind(Kind::Object, Place::Formula)? {
            return Ok(None);
        }
        self.reader.open()?;
        let (mut name, mut materials) = (Member::Missing, Member::Missing);
        while let Some(member) = self.reader.member()? {
            match &*member.value {
                "name" => self.once(&mut name, Place::Name, Self::name)?,
                "materials" => self.once(&mut materials, Place::Materials, Self::materials)?,
                unknown => self.unknown(Place::Formula, unknown)?,
            }
        }
        let name = self.required(name, Place::Name);
        let lines = self.required(materials, Place::Materials);
        let (Some(name), Some(lines), true) = (name, lines, self.faults.is_empty()) else {
            return Ok(None);
        };
        let formula = Formula::new(&name, &lines.lines);
        Ok(Some(Checked { formula, fingerprint: lines.makeup.fingerprint() }))
    }

    fn materials(&mut self, place: Place) -> Result<Option<Lines<'a>>, Malformed> {
        if !self.is_kind(Kind::Array, place)? {
            return Ok(None);
        }
        self.reader.open()?;
        let mut lines = Lines::new();
        let mut count = 0;
        while self.reader.has_item()? {
            match u32::try_from(count) {
                Ok(index) if count < MATERIALS_MAX => self.material(index, &mut lines)?,
                _ => self.reader.skip()?,
            }
            count += 1;
        }
        Ok(self.check_lines(lines, count))
    }

    /// Checks what concerns all lines of a formula, which has `count` of them.
    fn check_lines(&mut self, mut lines: Lines<'a>, count: usize) -> Option<Lines<'a>> {
        lines.makeup.sort();
        for repeat in lines.makeup.repeats() {
            let kind = FaultKind::Repeat { first: repeat.first };
            self.faults.push(Place::MaterialName(repeat.index), kind);
        }
        let fault = match count {
            0 => FaultKind::NoMaterials,
            1..=MATERIALS_MAX if lines.lines.len() < count => return None,
            1..=MATERIALS_MAX if lines.has_content => return Some(lines),
            1..=MATERIALS_MAX => FaultKind::AllZero,
            lines => FaultKind::TooManyMaterials { lines },
        };
        self.faults.push(Place::Materials, fault);
        None
    }

    /// Reads one line and adds it to the others if it is good.
    fn material(&mut self, index: u32, lines: &mut Lines<'a>) -> Result<(), Malformed> {
        let place = Place::Material(index);
        if !self.is_kind(Kind::Object, place)? {
            return Ok(());
        }
        self.reader.open()?;
        let (mut name, mut concentration) = (Member::Missing, Member::Missing);
        let (name_at, concentration_at) = (Place::MaterialName(index), Place::Concentration(index));
        while let Some(member) = self.reader.member()? {
            match &*member.value {
                "name" => self.once(&mut name, name_at, Self::name)?,
                "concentration" => {
                    self.once(&mut concentration, concentration_at, Self::concentration)?;
                }
                unknown => self.unknown(place, unknown)?,
            }
        }
        let name = self.required(name, name_at);
        let concentration = self.required(concentration, concentration_at);
        if let Some(name) = name {
            self.add_line(index, name, concentration, lines);
        }
        Ok(())
    }

    /// Adds a line with a good name. Without a good concentration it still counts for repeats.
    fn add_line(
        &mut self,
        index: u32,
        name: Cow<'a, str>,
        concentration: Option<Concentration<'a>>,
        lines: &mut Lines<'a>,
    ) {
        let scaled = concentration.as_ref().map_or(0, |concentration| concentration.scaled);
        if lines.makeup.push(index, &name, scaled) == HasKey::No {
            self.faults.push(Place::MaterialName(index), FaultKind::NameKeyEmpty);
        } else if let Some(Concentration { text, scaled }) = concentration {
            lines.has_content |= scaled > 0;
            lines.lines.push(Line { name, concentration: text });
        }
    }

    /// Reads a name of a formula or material.
    fn name(&mut self, place: Place) -> Result<Option<Cow<'a, str>>, Malformed> {
        if !self.is_kind(Kind::Text, place)? {
            return Ok(None);
        }
        let Text { value, has_lone_surrogate } = self.reader.text()?;
        let name = trim(value);
        let field = place.field();
        if has_lone_surrogate {
            self.faults.push(place, FaultKind::NameLoneSurrogate(field));
            return Ok(None);
        }
        if let Some(kind) = name_fault(field, &name) {
            self.faults.push(place, kind);
            return Ok(None);
        }
        Ok(Some(name))
    }

    fn concentration(&mut self, place: Place) -> Result<Option<Concentration<'a>>, Malformed> {
        match self.reader.kind()? {
            Kind::Number => {
                let number = self.reader.number()?;
                Ok(self.in_range(place, &number, Cow::Borrowed(number.text)))
            }
            Kind::Text => {
                let Text { value, .. } = self.reader.text()?;
                let Some(number) = Number::whole_text(&value) else {
                    self.faults.push(place, FaultKind::NotANumber(quote(&value)));
                    return Ok(None);
                };
                Ok(self.in_range(place, &number, value.clone()))
            }
            found => {
                self.faults.push(place, FaultKind::WrongKind { field: place.field(), found });
                self.reader.skip()?;
                Ok(None)
            }
        }
    }

    fn in_range(
        &mut self,
        place: Place,
        number: &Number<'_>,
        text: Cow<'a, str>,
    ) -> Option<Concentration<'a>> {
        match concentration::scaled(number, self.rules.concentration_max) {
            Ok(scaled) => Some(Concentration { text, scaled }),
            Err(kind) => {
                self.faults.push(place, kind);
                None
            }
        }
    }

    /// Whether the next value is of this kind. If not, it is skipped.
    fn is_kind(&mut self, wanted: Kind, place: Place) -> Result<bool, Malformed> {
        let found = self.reader.kind()?;
        if found == wanted {
            return Ok(true);
        }
        self.faults.push(place, FaultKind::WrongKind { field: place.field(), found });
        self.reader.skip()?;
        Ok(false)
    }

    /// Reads a member's value the first time; later ones are skipped.
    fn once<T>(
        &mut self,
        member: &mut Member<T>,
        place: Place,
        read: impl FnOnce(&mut Self, Place) -> Result<Option<T>, Malformed>,
    ) -> Result<(), Malformed> {
        if let Member::Missing = member {
            *member = read(self, place)?.map_or(Member::Faulty, Member::Good);
            return Ok(());
        }
        self.faults.push(place, FaultKind::DuplicateMember(place.field()));
        self.reader.skip()
    }

    fn unknown(&mut self, object: Place, member: &str) -> Result<(), Malformed> {
        self.faults.push_unknown(object, member);
        self.reader.skip()
    }

    /// The value of a member that must be there.
    fn required<T>(&mut self, member: Member<T>, place: Place) -> Option<T> {
        if let Member::Missing = member {
            self.faults.push(place, FaultKind::Missing(place.field()));
        }
        member.good()
    }
}

impl Lines<'_> {
    fn new() -> Self {
        const LINES_TYPICAL: usize = 12;
        let makeup = Makeup::with_capacity(LINES_TYPICAL);
        Lines { lines: Vec::with_capacity(LINES_TYPICAL), makeup, has_content: false }
    }
}

/// The text without white space at both ends.
fn trim(text: Cow<'_, str>) -> Cow<'_, str> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.trim()),
        Cow::Owned(text) => Cow::Owned(text.trim().to_owned()),
    }
}

/// What is wrong with a trimmed name.
fn name_fault(field: Field, name: &str) -> Option<FaultKind> {
    if name.is_empty() {
        return Some(FaultKind::NameEmpty(field));
    }
    if let Some(character) = name.chars().find(|character| is_refused(*character)) {
        return Some(FaultKind::NameControl { field, character });
    }
    // Characters are counted only of a name that may have too many.
    if name.len() > NAME_CHARS_MAX {
        let chars = name.chars().count();
        return (chars > NAME_CHARS_MAX).then_some(FaultKind::NameTooLong { field, chars });
    }
    None
}

/// Whether it is a control character that a name must not have: all but tab and line breaks,
/// among which is U+0085, the "next line" of older character sets.
fn is_refused(character: char) -> bool {
    character.is_control() && !matches!(character, '\t' | '\n' | '\r' | '\u{85}')
}

#[cfg(test)]
mod tests;
