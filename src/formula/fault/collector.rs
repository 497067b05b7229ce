//! Gathers the faults of one body. Pointers are built here, and only for faults that are listed.

use super::{Fault, FaultKind, Field, Invalid};
use crate::limits::FAULT_QUOTE_CHARS_MAX;

/// Where a value stands: a pointer that costs nothing until it is needed. Lines count from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::formula) enum Place {
    Batch,
    Formula,
    Name,
    Materials,
    Material(u32),
    MaterialName(u32),
    Concentration(u32),
}

impl Place {
    /// What the value is for.
    pub(in crate::formula) fn field(self) -> Field {
        match self {
            Place::Batch => Field::Batch,
            Place::Formula => Field::Formula,
            Place::Name => Field::Name,
            Place::Materials => Field::Materials,
            Place::Material(_) => Field::Material,
            Place::MaterialName(_) => Field::MaterialName,
            Place::Concentration(_) => Field::Concentration,
        }
    }

    fn pointer(self) -> String {
        match self {
            Place::Batch | Place::Formula => String::new(),
            Place::Name => "/name".to_owned(),
            Place::Materials => "/materials".to_owned(),
            Place::Material(line) => format!("/materials/{line}"),
            Place::MaterialName(line) => format!("/materials/{line}/name"),
            Place::Concentration(line) => format!("/materials/{line}/concentration"),
        }
    }
}

/// Collects faults: the first ones are listed, the rest counted, so that a hostile body cannot
/// make the answer larger than itself many times over.
#[derive(Debug)]
pub(in crate::formula) struct Faults {
    listed: Vec<Fault>,
    unlisted: usize,
    room: usize,
}

impl Faults {
    /// No faults yet, and room to list so many.
    pub(in crate::formula) fn with_room(room: usize) -> Faults {
        Faults { listed: Vec::new(), unlisted: 0, room }
    }

    /// Whether nothing is wrong so far.
    pub(in crate::formula) fn is_empty(&self) -> bool {
        self.listed.is_empty() && self.unlisted == 0
    }

    /// How many are listed.
    pub(in crate::formula) fn listed(&self) -> usize {
        self.listed.len()
    }

    /// Notes a fault at a place.
    pub(in crate::formula) fn push(&mut self, place: Place, kind: FaultKind) {
        if self.has_room() {
            self.listed.push(Fault { pointer: place.pointer(), kind });
        }
    }

    /// Notes a member that the object at this place does not have.
    pub(in crate::formula) fn push_unknown(&mut self, object: Place, member: &str) {
        if !self.has_room() {
            return;
        }
        let quote = quote(member);
        let mut pointer = object.pointer();
        if quote.len() == member.len() {
            pointer.push('/');
            // RFC 6901, section 3: `~` first, lest the tilde of `~1` be escaped again.
            pointer.push_str(&member.replace('~', "~0").replace('/', "~1"));
        }
        self.listed.push(Fault { pointer, kind: FaultKind::UnknownMember(quote) });
    }

    /// Ends the collection, which must not be empty.
    pub(in crate::formula) fn into_invalid(self) -> Invalid {
        assert!(!self.listed.is_empty(), "a refused body has at least one fault");
        Invalid { malformed: false, faults: self.listed, unlisted: self.unlisted }
    }

    /// Whether one more is listed. If not, it is counted.
    fn has_room(&mut self) -> bool {
        let has_room = self.listed.len() < self.room;
        if !has_room {
            self.unlisted += 1;
        }
        has_room
    }
}

/// The beginning of a text from the body, short enough to be repeated in an answer.
pub(in crate::formula) fn quote(text: &str) -> Box<str> {
    let cut = text.char_indices().nth(FAULT_QUOTE_CHARS_MAX).map_or(text.len(), |(at, _)| at);
    text[..cut].into()
}
