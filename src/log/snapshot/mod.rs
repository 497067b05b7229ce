//! Snapshots: one immutable file each, holding what is still needed of all records up to an LSN.
//!
//! ```text
//! head page        store, LSN, reign and chain of the last frame covered      (layout)
//! blocks           records in LSN order, compressed                           (block)
//! zeros            up to a multiple of 4096
//! pages            blocks by LSN, formulas by fingerprint, spent keys         (table)
//! sections         fences and filters, kept in memory; the state's own bytes  (layout, filter)
//! zeros            up to a multiple of 4096
//! footer page      where all that stands, how much it is, checksums           (layout)
//! ```
//! Every block and page has a checksum that is seeded with store, snapshot and its own offset:
//! what is stale, copied or misdirected fails it. A lookup asks the filter, then the fences,
//! which are both in memory, and reads one page. Where the blocks stand is in memory, too (see
//! `places`), so a record costs the reading of one block. Whatever does not verify is an error
//! with its place, never a missing answer.
//!
//! **Writing** ([`SnapshotWriter`]): aside, in bounded pieces that are each synced; then read
//! back and verified as a whole; only then renamed. A file of a snapshot's name is therefore
//! whole, and was at least once readable.
//!
//! Which records are kept, and what the state's section means, is the engine's affair. SUPER
//! names the snapshots that are in force; nothing here reads or writes it.

mod block;
mod filter;
mod layout;
mod places;
mod stream;
mod table;
mod verify;
mod view;
mod writer;

pub use stream::{EntryStream, Gap, RecordStream};
pub use view::Snapshot;
pub use writer::SnapshotWriter;

use std::fmt;

use super::disk::DiskError;
use super::error::ReadError;
use super::frame::{Chain, StoreId};
use crate::ids::{Epoch, Lsn};

/// The directory of the snapshots.
pub const SNAPSHOTS: &str = "snapshots";

/// The path of the snapshot taken at `lsn`.
#[must_use]
pub fn snapshot_path(lsn: Lsn) -> String {
    format!("{SNAPSHOTS}/{:020}.snap", lsn.0)
}

/// The path under which the snapshot taken at `lsn` is written.
fn temporary_path(lsn: Lsn) -> String {
    format!("{SNAPSHOTS}/{:020}.tmp", lsn.0)
}

/// The LSN of the snapshot with this file name, which is without its directory. `None`: not a
/// snapshot's name.
#[must_use]
pub fn parse_name(name: &str) -> Option<Lsn> {
    let digits = name.strip_suffix(".snap")?;
    let plain = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    let lsn = if plain { digits.parse().ok()? } else { 0 };
    (lsn > 0).then_some(Lsn(lsn))
}

/// What a snapshot covers, and what the next segment must go on from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotHead {
    /// The store.
    pub store: StoreId,
    /// The last LSN covered; at least 1.
    pub lsn: Lsn,
    /// The reign of that LSN's frame.
    pub epoch: Epoch,
    /// The chain of that LSN's frame.
    pub chain: Chain,
}

/// The tables of a snapshot, in the order in which they are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TableName {
    /// Stored formulas: fingerprint, then the LSN of the record that stored it (u64).
    Formulas,
    /// Spent idempotency keys: key, SHA-256 of the request, LSN (u64), expiry (u64).
    Keys,
}

impl TableName {
    /// All tables, in the order in which they are written.
    pub const ALL: [TableName; 2] = [TableName::Formulas, TableName::Keys];
    /// Bytes of the key that each entry of each table begins with.
    pub const KEY_BYTES: usize = 32;

    /// Bytes of one entry, its key included.
    #[must_use]
    pub const fn entry_bytes(self) -> usize {
        match self {
            TableName::Formulas => 40,
            TableName::Keys => 80,
        }
    }

    fn index(self) -> usize {
        match self {
            TableName::Formulas => 0,
            TableName::Keys => 1,
        }
    }
}

/// How long a lookup may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// Only what needs no waiting for the disk.
    Cached,
    /// As long as the disk takes.
    Wait,
}

/// What a lookup came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Looked<T> {
    /// It is there.
    Found(T),
    /// It is certainly not in the snapshot.
    Absent,
    /// The disk would have to be waited for; only with [`Patience::Cached`].
    NotCached,
}

impl<T> Looked<T> {
    /// What is made of it if it is there.
    pub fn map<U>(self, make: impl FnOnce(T) -> U) -> Looked<U> {
        match self {
            Looked::Found(found) => Looked::Found(make(found)),
            Looked::Absent => Looked::Absent,
            Looked::NotCached => Looked::NotCached,
        }
    }
}

/// Why a snapshot cannot be used.
#[derive(Debug)]
pub enum SnapshotFault {
    /// There is no such file.
    Missing {
        /// Its path.
        file: Box<str>,
    },
    /// Written by a later program. Use that one.
    Newer {
        /// The file.
        file: Box<str>,
        /// Its format.
        version: u32,
    },
    /// Whole, but of another store, or of another LSN than its name says.
    Foreign {
        /// The file.
        file: Box<str>,
    },
    /// Not the file that SUPER names: its SHA-256 is another.
    Unexpected {
        /// The file.
        file: Box<str>,
    },
    /// The bytes on the disk are not what was written.
    Damaged {
        /// The file.
        file: Box<str>,
        /// Where in it, in bytes.
        offset: u64,
    },
    /// The disk failed.
    Disk(DiskError),
}

impl From<DiskError> for SnapshotFault {
    fn from(error: DiskError) -> SnapshotFault {
        SnapshotFault::Disk(error)
    }
}

impl fmt::Display for SnapshotFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SnapshotFault::Missing { file } => write!(f, "{file} is missing"),
            SnapshotFault::Newer { file, version } => {
                write!(f, "{file} has format {version}, written by a later sillage; use that one")
            }
            SnapshotFault::Foreign { file } => {
                write!(f, "{file} is of another store, or was copied or renamed")
            }
            SnapshotFault::Unexpected { file } => {
                write!(f, "{file} is not the file that SUPER names")
            }
            SnapshotFault::Damaged { file, offset } => {
                write!(f, "{file} is damaged at byte {offset}")
            }
            SnapshotFault::Disk(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for SnapshotFault {}

/// Why a snapshot was not written. Its temporary file is removed if the disk lets it be.
#[derive(Debug)]
pub enum SnapshotError {
    /// The disk is full. Try again when there is room.
    NoSpace,
    /// The disk failed.
    Disk(DiskError),
    /// What was written does not read back as it was written.
    Unverified(SnapshotFault),
    /// Whoever wanted it does not any more.
    Stopped,
}

impl From<DiskError> for SnapshotError {
    fn from(error: DiskError) -> SnapshotError {
        if error.is_no_space() { SnapshotError::NoSpace } else { SnapshotError::Disk(error) }
    }
}

impl From<SnapshotFault> for SnapshotError {
    fn from(fault: SnapshotFault) -> SnapshotError {
        match fault {
            SnapshotFault::Disk(error) => SnapshotError::from(error),
            fault => SnapshotError::Unverified(fault),
        }
    }
}

impl fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SnapshotError::NoSpace => f.write_str("no space for the snapshot"),
            SnapshotError::Disk(error) => error.fmt(f),
            SnapshotError::Stopped => f.write_str("the snapshot was given up"),
            SnapshotError::Unverified(fault) => {
                write!(f, "the snapshot does not read back as it was written: {fault}")
            }
        }
    }
}

impl std::error::Error for SnapshotError {}

impl From<ReadError> for SnapshotFault {
    fn from(error: ReadError) -> SnapshotFault {
        match error {
            ReadError::Damaged { file, offset } => SnapshotFault::Damaged { file, offset },
            ReadError::Disk(error) => SnapshotFault::Disk(error),
            ReadError::NotFound => unreachable!("snapshots say Absent, never NotFound"),
        }
    }
}
