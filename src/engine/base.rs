//! The snapshot beneath the state, as the engine reads it: formulas, keys and records again
//! where the log has bytes under keys.
//!
//! Everything here may have to wait for the disk, so who must not wait asks with
//! [`Patience::Cached`] and goes elsewhere with what is not at hand.

use std::fmt;

use crate::formula::Fingerprint;
use crate::ids::Lsn;
use crate::log::{Looked, Patience, ReadError, RecordStream, Snapshot, TableName};
use crate::record::Record;
use crate::record::archive::{Archived, Step};
use crate::record::codec::{self, CodecError};
use crate::state::idempotency::Spent;
use crate::time::Uptime;

/// Bytes of an entry of the table of formulas: fingerprint, LSN.
const FORMULA_ENTRY_BYTES: usize = TableName::Formulas.entry_bytes();
/// Bytes of an entry of the table of keys: key, request, LSN, expiry.
const KEY_ENTRY_BYTES: usize = TableName::Keys.entry_bytes();

/// A snapshot whose tables and records are read when somebody asks. Cheap to clone.
#[derive(Clone)]
pub struct Base {
    snapshot: Snapshot,
}

/// A record with the steps of its trail that the snapshot keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The record.
    pub record: Record,
    /// The steps that records told of which are gone, oldest first.
    pub steps: Vec<Step>,
}

/// Why something could not be read back from the snapshot.
#[derive(Debug)]
pub enum BaseError {
    /// A block or page is damaged, or the disk failed.
    Unreadable(ReadError),
    /// A record's checksum holds, but its bytes are none of ours.
    Undecodable(Lsn, CodecError),
}

impl fmt::Display for BaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BaseError::Unreadable(error) => error.fmt(f),
            BaseError::Undecodable(lsn, why) => write!(f, "record {lsn}: {why}"),
        }
    }
}

impl From<ReadError> for BaseError {
    fn from(error: ReadError) -> BaseError {
        BaseError::Unreadable(error)
    }
}

impl Base {
    /// Reads the snapshot as the engine's.
    #[must_use]
    pub fn new(snapshot: Snapshot) -> Base {
        Base { snapshot }
    }

    /// Everything up to and including this record is in it.
    #[must_use]
    pub fn lsn(&self) -> Lsn {
        self.snapshot.head().lsn
    }

    /// The file itself.
    #[must_use]
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Whether the table of formulas may hold `fingerprint`: no is certain. Memory only.
    #[must_use]
    pub fn may_hold_formula(&self, fingerprint: &Fingerprint) -> bool {
        self.snapshot.may_hold(TableName::Formulas, &fingerprint.0)
    }

    /// Whether the table of keys may hold `key`: no is certain. Memory only.
    #[must_use]
    pub fn may_hold_key(&self, key: &[u8; 32]) -> bool {
        self.snapshot.may_hold(TableName::Keys, key)
    }

    /// The record that accepted the formula of this identity, withdrawn since or not.
    ///
    /// # Errors
    /// See [`BaseError`].
    pub fn formula(
        &self,
        fingerprint: &Fingerprint,
        patience: Patience,
    ) -> Result<Looked<Lsn>, BaseError> {
        let entry = self.snapshot.find(TableName::Formulas, &fingerprint.0, patience)?;
        Ok(entry.map(|entry| formula_of_entry(&entry).1))
    }

    /// What this key was spent on, expired since or not.
    ///
    /// # Errors
    /// See [`BaseError`].
    pub fn key(&self, key: &[u8; 32], patience: Patience) -> Result<Looked<Spent>, BaseError> {
        let entry = self.snapshot.find(TableName::Keys, key, patience)?;
        Ok(entry.map(|entry| key_of_entry(&entry).1))
    }

    /// The record at `lsn`, if it was kept.
    ///
    /// # Errors
    /// See [`BaseError`].
    pub fn record(&self, lsn: Lsn, patience: Patience) -> Result<Looked<Kept>, BaseError> {
        let mut bytes = Vec::new();
        match self.snapshot.record(lsn, patience, &mut bytes)? {
            Looked::Found(()) => decode(lsn, &bytes).map(Looked::Found),
            Looked::Absent => Ok(Looked::Absent),
            Looked::NotCached => Ok(Looked::NotCached),
        }
    }

    /// The kept records after `lsn`, in order.
    #[must_use]
    pub fn records_after(&self, lsn: Lsn) -> RecordStream {
        self.snapshot.records_after(lsn)
    }
}

/// A kept record from the bytes of its block.
pub(super) fn decode(lsn: Lsn, bytes: &[u8]) -> Result<Kept, BaseError> {
    let read = || {
        let archived = Archived::split(bytes)?;
        let steps = archived.steps()?;
        Ok(Kept { record: codec::decode(archived.payload)?, steps })
    };
    read().map_err(|why| BaseError::Undecodable(lsn, why))
}

/// An entry of the table of formulas. The LSN is big endian, as all keys that are sorted.
pub(super) fn formula_entry(fingerprint: &Fingerprint, lsn: Lsn) -> [u8; FORMULA_ENTRY_BYTES] {
    let mut entry = [0; FORMULA_ENTRY_BYTES];
    entry[..32].copy_from_slice(&fingerprint.0);
    entry[32..].copy_from_slice(&lsn.0.to_be_bytes());
    entry
}

/// The formula that an entry stands for.
pub(super) fn formula_of_entry(entry: &[u8]) -> (Fingerprint, Lsn) {
    (Fingerprint(bytes_at(entry, 0)), Lsn(word_at(entry, 32)))
}

/// An entry of the table of keys.
pub(super) fn key_entry(key: &[u8; 32], spent: &Spent) -> [u8; KEY_ENTRY_BYTES] {
    let mut entry = [0; KEY_ENTRY_BYTES];
    entry[..32].copy_from_slice(key);
    entry[32..64].copy_from_slice(&spent.request);
    entry[64..72].copy_from_slice(&spent.lsn.0.to_be_bytes());
    entry[72..].copy_from_slice(&spent.expires.0.to_be_bytes());
    entry
}

/// The key that an entry stands for, and what it was spent on.
pub(super) fn key_of_entry(entry: &[u8]) -> ([u8; 32], Spent) {
    let spent = Spent {
        request: bytes_at(entry, 32),
        lsn: Lsn(word_at(entry, 64)),
        expires: Uptime(word_at(entry, 72)),
    };
    (bytes_at(entry, 0), spent)
}

fn bytes_at(entry: &[u8], at: usize) -> [u8; 32] {
    entry[at..at + 32].try_into().expect("entries have the width of their table")
}

fn word_at(entry: &[u8], at: usize) -> u64 {
    let bytes = entry[at..at + 8].try_into().expect("entries have the width of their table");
    u64::from_be_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_read_back_and_sort_by_their_key() {
        let formula = (Fingerprint([7; 32]), Lsn(0x0102_0304_0506_0708));
        assert_eq!(formula_of_entry(&formula_entry(&formula.0, formula.1)), formula);
        let spent = Spent { lsn: Lsn(9), request: [2; 32], expires: Uptime(u64::MAX) };
        assert_eq!(key_of_entry(&key_entry(&[1; 32], &spent)), ([1; 32], spent));
        assert!(formula_entry(&Fingerprint([1; 32]), Lsn(9)) < formula_entry(&formula.0, Lsn(1)));
    }
}
