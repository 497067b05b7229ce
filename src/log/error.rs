//! What can go wrong, by boundary: refusing to open, appending, reading, repairing.

use std::fmt;
use std::ops::RangeInclusive;

use super::disk::DiskError;
use super::frame::Flaw;
use crate::ids::Lsn;

/// Why a log was not opened.
#[derive(Debug)]
pub enum OpenError<E> {
    /// The log is not fit to be opened.
    Refused(Refusal),
    /// The caller refused a record.
    Apply(E),
}

impl<E> From<Refusal> for OpenError<E> {
    fn from(refusal: Refusal) -> OpenError<E> {
        OpenError::Refused(refusal)
    }
}

impl<E> From<DiskError> for OpenError<E> {
    fn from(error: DiskError) -> OpenError<E> {
        OpenError::Refused(Refusal::Disk(error))
    }
}

impl<E: fmt::Display> fmt::Display for OpenError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Refused(refusal) => refusal.fmt(f),
            OpenError::Apply(error) => error.fmt(f),
        }
    }
}

impl<E: fmt::Debug + fmt::Display> std::error::Error for OpenError<E> {}

/// Why a data directory cannot be used as it is. Nothing but the epoch was changed in it.
#[derive(Debug)]
pub enum Refusal {
    /// Another process has it open. Try again when it has ended.
    Locked {
        /// That process, if it could be read.
        pid: Option<u32>,
    },
    /// The disk failed.
    Disk(DiskError),
    /// Written by a later program. Use that one.
    Newer {
        /// The file that says so.
        file: Box<str>,
        /// Its format.
        version: u32,
    },
    /// Another process began a reign although we hold the lock: the lock does not work here.
    Fenced,
    /// There is no store in the directory.
    NoStore,
    /// Data that may have been acknowledged is damaged. Look with `sillage check`.
    Damaged(Box<Damage>),
}

impl From<DiskError> for Refusal {
    fn from(error: DiskError) -> Refusal {
        Refusal::Disk(error)
    }
}

impl From<Damage> for Refusal {
    fn from(damage: Damage) -> Refusal {
        Refusal::Damaged(Box::new(damage))
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Locked { pid: Some(pid) } => write!(f, "in use by process {pid}"),
            Refusal::Locked { pid: None } => f.write_str("in use by another process"),
            Refusal::Disk(error) => error.fmt(f),
            Refusal::Newer { file, version } => {
                write!(f, "{file} has format {version}, written by a later sillage; use that one")
            }
            Refusal::Fenced => {
                f.write_str("another process has opened the store, in spite of LOCK")
            }
            Refusal::NoStore => f.write_str("there is no store here"),
            Refusal::Damaged(damage) => damage.fmt(f),
        }
    }
}

impl std::error::Error for Refusal {}

/// Damage to data that may have been acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub file: Box<str>,
    /// Where in it, in bytes.
    pub offset: u64,
    /// The LSNs that cannot be delivered, or whose fate is unknown, because of it.
    pub lsns: RangeInclusive<Lsn>,
    /// What is wrong.
    pub fault: Fault,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Damage { file, offset, lsns, fault } = self;
        let (first, last) = (lsns.start(), lsns.end());
        write!(f, "{file} at byte {offset}, LSN {first}..{last}: {fault}; nothing was changed; ")?;
        write!(f, "see `sillage check DIR`")?;
        if fault.is_beyond_repair() {
            return f.write_str(", then restore a backup");
        }
        write!(f, ", then `sillage repair DIR --accept-loss {first}..{last}`")
    }
}

impl std::error::Error for Damage {}

/// Kinds of damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Neither copy of SUPER is whole, but there are segments.
    SuperLost,
    /// SUPER names an older segment than there is, or an epoch below one in the log: it was
    /// put back from an older copy.
    SuperBehind,
    /// A segment is not there.
    SegmentMissing,
    /// A segment that should not be there: its LSNs are in another one.
    SegmentUnexpected,
    /// The segment's first page fails its checksum.
    SegmentHeader,
    /// The segment is of another store.
    SegmentForeign,
    /// The segment was made for another place in the log: copied or renamed.
    SegmentMisplaced,
    /// The segment does not go on from the one before it.
    SegmentDiverges,
    /// A frame is damaged.
    Frame(Flaw),
    /// The segment has no seal although another follows it.
    Seal,
    /// Something follows the seal.
    AfterSeal,
    /// The log ends before what was acknowledged.
    Short,
    /// Rubbish follows the last good frame, and nothing says whether it was ever acknowledged.
    Undecidable,
    /// A snapshot that SUPER names is not there.
    SnapshotMissing,
    /// A snapshot fails its checksums, or is not the one that SUPER names.
    SnapshotDamaged,
    /// The segments that the snapshot covers are of another history than the snapshot.
    SnapshotDiverges,
    /// No snapshot can be read, and the log does not go back to its beginning.
    SnapshotsLost,
}

impl Fault {
    /// Whether frames are good but contradict each other: no crash leaves that, and no program
    /// can tell which of them is right. Such a log is not repaired.
    #[must_use]
    pub fn is_contradiction(self) -> bool {
        let frames = matches!(self, Fault::Frame(Flaw::Seal | Flaw::History));
        frames || matches!(self, Fault::Seal | Fault::SegmentDiverges | Fault::SuperBehind)
    }

    /// Whether only a backup helps: parts of the store contradict each other, or what nothing
    /// else holds is gone as a whole.
    #[must_use]
    pub fn is_beyond_repair(self) -> bool {
        self.is_contradiction() || self == Fault::SnapshotsLost
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Fault::SuperLost => "neither SUPER.a nor SUPER.b can be read, but there are segments",
            Fault::SuperBehind => "SUPER is older than the log",
            Fault::SegmentMissing => "the segment is missing",
            Fault::SegmentUnexpected => "the segment overlaps another one",
            Fault::SegmentHeader => "the segment's header is damaged",
            Fault::SegmentForeign => "the segment belongs to another store",
            Fault::SegmentMisplaced => "the segment was copied or renamed",
            Fault::SegmentDiverges => "the segment does not continue the one before it",
            Fault::Frame(Flaw::Header) => "a frame's header is damaged",
            Fault::Frame(Flaw::Payload) => "a frame's payload is damaged",
            Fault::Frame(Flaw::OutOfOrder) => "a frame does not follow the one before it",
            Fault::Frame(Flaw::Seal) => "the segment's seal does not agree with its frames",
            Fault::Frame(Flaw::History) => "the log is not the one that WATERMARK was written for",
            Fault::Frame(Flaw::Newer { .. }) => "a frame is of a later format",
            Fault::Seal => "the segment's seal is missing",
            Fault::AfterSeal => "data follows the segment's seal",
            Fault::Short => "the log ends before what was acknowledged",
            Fault::Undecidable => "the end is damaged in a way no crash explains",
            Fault::SnapshotMissing => "the snapshot is missing",
            Fault::SnapshotDamaged => "the snapshot is damaged",
            Fault::SnapshotDiverges => "the segments before the snapshot do not lead to it",
            Fault::SnapshotsLost => {
                "no snapshot can be read, and the log before them is no longer kept"
            }
        })
    }
}

/// Why a frame was not appended or made durable.
#[derive(Debug)]
pub enum Error {
    /// The next segment cannot be had: the disk is full. Nothing was appended; the log is good.
    NoSpace,
    /// A write or a sync failed. What was not yet durable has an unknown fate, and the log
    /// takes no more.
    Disk(DiskError),
    /// Another process has opened the store: this one must end. The log takes no more.
    Fenced,
    /// An earlier call failed: the log takes no more.
    Poisoned,
}

impl From<DiskError> for Error {
    fn from(error: DiskError) -> Error {
        Error::Disk(error)
    }
}

impl From<super::superblock::UpdateError> for Error {
    fn from(error: super::superblock::UpdateError) -> Error {
        match error {
            super::superblock::UpdateError::Disk(error) => Error::Disk(error),
            super::superblock::UpdateError::Fenced => Error::Fenced,
        }
    }
}

impl From<super::superblock::UpdateError> for Refusal {
    fn from(error: super::superblock::UpdateError) -> Refusal {
        match error {
            super::superblock::UpdateError::Disk(error) => Refusal::Disk(error),
            super::superblock::UpdateError::Fenced => Refusal::Fenced,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::NoSpace => f.write_str("no space for the next segment"),
            Error::Disk(error) => error.fmt(f),
            Error::Fenced => f.write_str("another process has opened the store"),
            Error::Poisoned => f.write_str("an earlier write failed; the outcome is unknown"),
        }
    }
}

impl std::error::Error for Error {}

/// Why a frame was not read.
#[derive(Debug)]
pub enum ReadError {
    /// No durable frame has this LSN, or it was lost.
    NotFound,
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

impl From<DiskError> for ReadError {
    fn from(error: DiskError) -> ReadError {
        ReadError::Disk(error)
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::NotFound => f.write_str("no durable frame has this LSN"),
            ReadError::Damaged { file, offset } => write!(f, "{file} is damaged at byte {offset}"),
            ReadError::Disk(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ReadError {}
