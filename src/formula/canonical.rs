//! Canon 1: when two formulas are the same.
//!
//! A formula's fingerprint is the SHA-256 of its canonical make-up; all numbers big endian:
//! ```text
//! "canon1"                      6 bytes
//! count of lines                4
//! per line, by key bytes:
//!     length of key             4
//!     key, UTF-8                as many
//!     concentration × 10^30    16
//! ```
//! Lines with a concentration of zero are left out. The name of the formula, the order of lines
//! and the spelling of JSON play no part. Lengths stand in front, so there is no separator that
//! a name could contain.
//!
//! A material's **key** is its name after these steps:
//! 1. [`mark`]: ® ™ ℠ go; every hyphen, dash and minus sign becomes `-`; every single quote,
//!    apostrophe and prime becomes `'`;
//! 2. until nothing changes: default-ignorable code points go, NFKC, full case folding, NFKC;
//! 3. step 1 once more, for what step 2 brought out; then white space goes.
//!
//! Nothing else goes: accents, Greek letters, digits and punctuation tell materials apart.
//! Step 1 must come before step 2 because NFKC turns ™ into the letters `TM`. ASCII needs only
//! lower case and no blanks, and has a path of its own; a test holds the two together.
//!
//! Canon 1 never changes. A later canon gets a number and a function of its own; stored records
//! name the canon of their fingerprint. The Unicode tables come from crates whose versions
//! `Cargo.lock` pins. Unicode promises that assigned characters keep their normal form and case
//! folding, so a new table can move only names with characters that were unassigned before.

use icu_properties::props::DefaultIgnorableCodePoint;
use icu_properties::{CodePointSetData, CodePointSetDataBorrowed};
use sha2::{Digest, Sha256};
use unicase::UniCase;
use unicode_normalization::UnicodeNormalization;

use super::{Fingerprint, Formula, concentration};

/// The number of the canon under which fingerprints are computed.
pub const CANON: u8 = 1;

/// What is hashed first.
const HEADER: &[u8; 6] = b"canon1";
/// Bytes of a line beside its key: the key's length and the concentration.
const LINE_BYTES: usize = 4 + 16;
/// Rounds of step 2. No code point needs more than two (a test tries them all). Should a text
/// need more, it is hostile only to itself: its key is what the last round left.
const ROUNDS_MAX: usize = 4;

/// The fingerprint of a formula, as `parse` computed it on the way.
#[must_use]
pub fn fingerprint(formula: &Formula) -> Fingerprint {
    makeup(formula).fingerprint()
}

/// The canonical make-up for people: name key and concentration as the shortest plain decimal,
/// in the order in which they are hashed, lines of zero left out.
#[must_use]
pub fn canonical_lines(formula: &Formula) -> Vec<(String, String)> {
    let makeup = makeup(formula);
    let text = |line| {
        let key = String::from_utf8_lossy(makeup.key(line)).into_owned();
        (key, concentration::plain(line.concentration))
    };
    makeup.hashed_lines().map(text).collect()
}

/// The key of a name, by which names are compared. Empty if the name has only marks and blanks.
#[must_use]
pub fn name_key(name: &str) -> String {
    let mut key = Vec::with_capacity(name.len());
    push_key(&mut key, name);
    String::from_utf8(key).expect("keys are made of whole characters")
}

fn makeup(formula: &Formula) -> Makeup {
    let mut makeup = Makeup::with_capacity(formula.materials().len());
    for (index, line) in (0..).zip(formula.materials()) {
        let value = concentration::stored(line.concentration);
        makeup.push(index, line.name, value.expect("a formula holds decimals only"));
    }
    makeup.sort();
    makeup
}

/// The lines of one formula on their way to its fingerprint.
#[derive(Debug)]
pub(super) struct Makeup {
    /// The keys, one after the other in the order of the request.
    keys: Vec<u8>,
    lines: Vec<KeyedLine>,
}

/// One line: its key and value.
#[derive(Clone, Copy, Debug)]
struct KeyedLine {
    /// The key's first eight bytes as a big-endian number, so that most comparisons need no look
    /// at the key; shorter keys are filled with zeros.
    prefix: u64,
    /// Where the key begins in `keys`.
    start: u32,
    /// Bytes of the key.
    len: u32,
    /// The line's place in the request, from 0.
    index: u32,
    /// Percent times 10^30.
    concentration: u128,
}

impl Makeup {
    /// An empty make-up with room for so many lines.
    pub(super) fn with_capacity(lines: usize) -> Makeup {
        const KEY_BYTES_TYPICAL: usize = 24;
        let keys = Vec::with_capacity(lines * KEY_BYTES_TYPICAL);
        Makeup { keys, lines: Vec::with_capacity(lines) }
    }

    /// Adds a line, `index` of the request. Says whether the name has a key.
    pub(super) fn push(&mut self, index: u32, name: &str, concentration: u128) -> HasKey {
        let start = self.keys.len();
        push_key(&mut self.keys, name);
        let key = &self.keys[start..];
        if key.is_empty() {
            return HasKey::No;
        }
        let as_u32 = |bytes: usize| u32::try_from(bytes).expect("limits keep keys below 4 GiB");
        let (prefix, len) = (prefix(key), as_u32(key.len()));
        self.lines.push(KeyedLine { prefix, start: as_u32(start), len, index, concentration });
        HasKey::Yes
    }

    /// Puts the lines in order of their keys, and equal keys in order of the request.
    pub(super) fn sort(&mut self) {
        let Makeup { keys, lines } = self;
        lines.sort_unstable_by(|a, b| {
            let prefixes = a.prefix.cmp(&b.prefix);
            prefixes.then_with(|| (a.key(keys), a.index).cmp(&(b.key(keys), b.index)))
        });
    }

    /// The lines whose key an earlier line has too, each with the first such line. Sort first.
    pub(super) fn repeats(&self) -> impl Iterator<Item = Repeat> {
        let chunks = self.lines.chunk_by(|a, b| a.prefix == b.prefix && self.key(a) == self.key(b));
        chunks.flat_map(|equal| {
            let first = equal[0].index;
            equal[1..].iter().map(move |line| Repeat { first, index: line.index })
        })
    }

    /// The SHA-256 of the make-up. Sort first.
    pub(super) fn fingerprint(&self) -> Fingerprint {
        let count = u32::try_from(self.hashed_lines().count()).expect("limits bound the lines");
        let lines_bytes = self.lines.len() * LINE_BYTES + self.keys.len();
        let mut bytes = Vec::with_capacity(HEADER.len() + 4 + lines_bytes);
        bytes.extend_from_slice(HEADER);
        bytes.extend_from_slice(&count.to_be_bytes());
        for line in self.hashed_lines() {
            bytes.extend_from_slice(&line.len.to_be_bytes());
            bytes.extend_from_slice(self.key(line));
            bytes.extend_from_slice(&line.concentration.to_be_bytes());
        }
        Fingerprint(Sha256::digest(&bytes).into())
    }

    fn hashed_lines(&self) -> impl Iterator<Item = &KeyedLine> {
        self.lines.iter().filter(|line| line.concentration > 0)
    }

    fn key(&self, line: &KeyedLine) -> &[u8] {
        line.key(&self.keys)
    }
}

impl KeyedLine {
    fn key<'k>(&self, keys: &'k [u8]) -> &'k [u8] {
        &keys[self.start as usize..][..self.len as usize]
    }
}

/// Whether anything is left of a name in its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HasKey {
    Yes,
    No,
}

/// A line whose key an earlier line has too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Repeat {
    /// The first line with the key.
    pub(super) first: u32,
    /// The later line.
    pub(super) index: u32,
}

fn prefix(key: &[u8]) -> u64 {
    let mut first = [0; 8];
    let len = key.len().min(8);
    first[..len].copy_from_slice(&key[..len]);
    u64::from_be_bytes(first)
}

/// Adds the key of a name at the end of `keys`.
fn push_key(keys: &mut Vec<u8>, name: &str) {
    if name.is_ascii() {
        return push_ascii_key(keys, name.as_bytes());
    }
    let marked: String = name.chars().filter_map(mark).collect();
    if marked.is_ascii() {
        // Of ® and ’ alone nothing is left that the longer path would treat otherwise.
        push_ascii_key(keys, marked.as_bytes());
    } else {
        keys.extend_from_slice(unicode_key(&marked).as_bytes());
    }
}

/// Stands in [`ASCII_KEY`] for a byte that goes. No ASCII byte has this value.
const GONE: u8 = 0xff;
/// What becomes of each ASCII byte.
const ASCII_KEY: [u8; 128] = {
    let mut table = [GONE; 128];
    let mut byte: u8 = 0;
    while byte < 128 {
        // The ASCII part of White_Space: blank, tab, line feed, vertical tab, form feed, return.
        if !matches!(byte, b' ' | 0x09..=0x0d) {
            table[byte as usize] = byte.to_ascii_lowercase();
        }
        byte += 1;
    }
    table
};

fn push_ascii_key(keys: &mut Vec<u8>, name: &[u8]) {
    let start = keys.len();
    keys.resize(start + name.len(), 0);
    let mut end = start;
    for byte in name {
        // Every byte is written and some are then written over: no branch to mispredict.
        let folded = ASCII_KEY[usize::from(byte & 0x7f)];
        keys[end] = folded;
        end += usize::from(folded != GONE);
    }
    keys.truncate(end);
}

/// Steps 2 and 3, on what step 1 left.
fn unicode_key(marked: &str) -> String {
    let settled = settle(marked);
    settled.chars().filter_map(mark).filter(|character| !character.is_whitespace()).collect()
}

/// Step 2: remove, NFKC, fold, NFKC, until nothing changes.
///
/// NFKC of NFKC is the same text, so it is taken only after a step that changed something: once
/// or twice for nearly all names, where each full round takes it twice and one more round would
/// have to see that nothing changes. The tests have the plain loop and hold the two together.
fn settle(marked: &str) -> String {
    let mut text: String = marked.chars().filter(is_visible).nfkc().collect();
    for _ in 0..ROUNDS_MAX {
        let folded = UniCase::unicode(&text).to_folded_case();
        let is_folded = folded == text;
        if !is_folded {
            text = folded.nfkc().collect();
        }
        let is_clean = text.chars().all(|character| is_visible(&character));
        if !is_clean {
            text = text.chars().filter(is_visible).nfkc().collect();
        }
        if is_folded && is_clean {
            break;
        }
    }
    text
}

/// Whether it is no default-ignorable code point, such as a soft hyphen or a zero-width joiner.
fn is_visible(character: &char) -> bool {
    const IGNORABLE: CodePointSetDataBorrowed<'static> =
        CodePointSetData::new::<DefaultIgnorableCodePoint>();
    character.is_ascii() || !IGNORABLE.contains(*character)
}

/// Step 1: what becomes of a character.
///
/// Dashes are the general category Dash_Punctuation of Unicode 16 and the minus sign. The list
/// is spelled out so that a new Unicode version cannot add to it.
fn mark(character: char) -> Option<char> {
    match character {
        '®' | '™' | '℠' => None,
        '-' | '\u{58a}' | '\u{5be}' | '\u{1400}' | '\u{1806}' | '\u{2010}'..='\u{2015}' => {
            Some('-')
        }
        '\u{2e17}' | '\u{2e1a}' | '\u{2e3a}' | '\u{2e3b}' | '\u{2e40}' | '\u{2e5d}' => Some('-'),
        '\u{301c}' | '\u{3030}' | '\u{30a0}' | '\u{fe31}' | '\u{fe32}' | '\u{fe58}' => Some('-'),
        '\u{fe63}' | '\u{ff0d}' | '\u{10d6e}' | '\u{10ead}' | '\u{2212}' => Some('-'),
        // Single quotation marks, also low, reversed, angled and fullwidth.
        '\'' | '\u{2018}'..='\u{201b}' | '\u{2039}' | '\u{203a}' | '\u{ff07}' => Some('\''),
        // Modifier letters that stand for an apostrophe or prime; single prime and its reverse.
        // Double primes come apart into these under NFKC.
        '\u{2b9}' | '\u{2bb}'..='\u{2bd}' | '\u{2032}' | '\u{2035}' => Some('\''),
        // Apostrophes of other scripts.
        '\u{55a}' | '\u{7f4}' | '\u{7f5}' | '\u{a78b}' | '\u{a78c}' => Some('\''),
        other => Some(other),
    }
}

#[cfg(test)]
mod tests;
