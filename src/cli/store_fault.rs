//! Why a store cannot be used, in terms of what an operator can do about it.

use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use crate::engine::open::OpenError;
use crate::ids::Lsn;
use crate::log::{DiskError, Error, Fault, Refusal};

/// Why a store cannot be opened, read or changed.
#[derive(Debug)]
pub(crate) enum StoreFault {
    /// There is none in the directory.
    NoStore,
    /// Another process holds it; its pid if the lock file tells.
    Locked { pid: Option<u32> },
    /// Another process began a reign in spite of the lock.
    Fenced,
    /// Acknowledged data is damaged.
    Damaged(Box<Damage>),
    /// A repair whose accepted loss does not cover the damage.
    RangeTooSmall(RangeInclusive<Lsn>),
    /// A file of a later version.
    NewerFormat { file: String },
    /// A whole record that cannot be replayed: of a later version, or replay computed another
    /// state than the one recorded.
    Unreplayable { lsn: Lsn, what: String },
    /// The file system refuses.
    Io {
        /// What was tried, to stand after `cannot` and before the path.
        verb: &'static str,
        path: PathBuf,
        error: io::Error,
    },
}

/// Where a log is damaged.
#[derive(Debug)]
pub(crate) struct Damage {
    /// The file, relative to the store's directory.
    pub(crate) file: String,
    /// The byte in the file at which the damage begins.
    pub(crate) offset: u64,
    /// The records that cannot be read, or cannot be told to be whole.
    pub(crate) lsns: RangeInclusive<Lsn>,
    /// What is wrong, lower case, no full stop.
    pub(crate) what: String,
    /// What an operator may accept to go on.
    pub(crate) remedy: Remedy,
}

/// How a damaged store can be made to open again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Remedy {
    /// By giving up the affected records.
    AcceptLoss,
    /// By cutting off an end of which nothing says whether it was ever acknowledged.
    AcceptTail,
    /// By moving out of the way what the store holds twice; nothing is given up.
    SetAside,
    /// Not at all: what is gone as a whole was held nowhere else.
    Backup,
    /// Not at all: good frames contradict each other, and a repair would have to choose.
    Restore,
}

impl StoreFault {
    /// What recovery of the store in `directory` said.
    pub(crate) fn of_open(directory: &Path, error: OpenError) -> StoreFault {
        match error {
            OpenError::Refused(refusal) => StoreFault::of_refusal(directory, refusal),
            OpenError::Begin(error) => StoreFault::of_log(directory, error),
            OpenError::Undecodable { lsn, why } => {
                StoreFault::Unreplayable { lsn, what: why.to_string() }
            }
            OpenError::NoImage { lsn, why } => {
                StoreFault::Unreplayable { lsn, what: why.to_string() }
            }
            OpenError::Unreadable(error) => {
                StoreFault::Unreplayable { lsn: Lsn::ZERO, what: error.to_string() }
            }
            OpenError::Diverged { lsn } => {
                let what = "replay computes another state than the one recorded".to_owned();
                StoreFault::Unreplayable { lsn, what }
            }
        }
    }

    /// Why the log refused to be opened, read or repaired.
    pub(crate) fn of_refusal(directory: &Path, refusal: Refusal) -> StoreFault {
        match refusal {
            Refusal::NoStore => StoreFault::NoStore,
            Refusal::Locked { pid } => StoreFault::Locked { pid },
            Refusal::Fenced => StoreFault::Fenced,
            Refusal::Newer { file, .. } => StoreFault::NewerFormat { file: file.into() },
            Refusal::Disk(error) => StoreFault::of_disk(directory, error),
            Refusal::Damaged(damage) => StoreFault::Damaged(Box::new((*damage).into())),
        }
    }

    /// Why the log takes no more.
    pub(crate) fn of_log(directory: &Path, error: Error) -> StoreFault {
        let io = |kind: io::ErrorKind| {
            let (path, error) = (directory.to_owned(), kind.into());
            StoreFault::Io { verb: "write the log in", path, error }
        };
        match error {
            Error::NoSpace => io(io::ErrorKind::StorageFull),
            Error::Disk(error) => StoreFault::of_disk(directory, error),
            Error::Fenced => StoreFault::Fenced,
            Error::Poisoned => io(io::ErrorKind::Other),
        }
    }

    /// A call on the disk that failed.
    pub(crate) fn of_disk(directory: &Path, error: DiskError) -> StoreFault {
        let path = directory.join(&*error.path);
        StoreFault::Io { verb: error.call.verb(), path, error: error.source }
    }
}

impl Damage {
    /// Damage to what the store holds twice.
    pub(crate) fn redundant(damage: crate::log::Damage) -> Damage {
        Damage { remedy: Remedy::SetAside, ..Damage::from(damage) }
    }
}

impl From<crate::log::Damage> for Damage {
    fn from(damage: crate::log::Damage) -> Damage {
        let remedy = match damage.fault {
            Fault::Undecidable => Remedy::AcceptTail,
            Fault::SnapshotsLost => Remedy::Backup,
            fault if fault.is_contradiction() => Remedy::Restore,
            _ => Remedy::AcceptLoss,
        };
        Damage {
            file: damage.file.into(),
            offset: damage.offset,
            what: damage.fault.to_string(),
            lsns: damage.lsns,
            remedy,
        }
    }
}
