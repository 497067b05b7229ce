//! Why a copy of a store was not made, or not put back.

use std::fmt;
use std::path::PathBuf;

use crate::cli::archive::ArchiveFault;
use crate::cli::failure::{Exit, Failure};
use crate::cli::store_fault::{Damage, StoreFault};
use crate::ids::Lsn;

/// Why `backup` or `restore` did not do what was asked.
#[derive(Debug)]
pub(crate) enum CopyFault {
    /// Something is where the directory is to be made.
    InTheWay { path: PathBuf },
    /// The disk has less room than is needed.
    NoRoom { path: PathBuf, bytes: u64, available: u64 },
    /// The backup did not arrive whole.
    BadArrival { url: String, fault: ArchiveFault },
    /// The backup is not whole, or cannot be read.
    BadBackup { path: PathBuf, fault: ArchiveFault },
    /// The backup is whole, and the store in it is not sound.
    Unsound { path: PathBuf, fault: Box<StoreFault> },
    /// The store in the backup ends at another record than the backup says.
    OtherLsn { path: PathBuf, is: Lsn, should_be: Lsn },
    /// The backup was changed while it was read.
    Changed { path: PathBuf },
}

impl CopyFault {
    /// The exit code that goes with it.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            CopyFault::InTheWay { .. } => Exit::Usage,
            CopyFault::NoRoom { .. } | CopyFault::Changed { .. } => Exit::Io,
            CopyFault::BadArrival { fault, .. } | CopyFault::BadBackup { fault, .. } => match fault
            {
                ArchiveFault::Unreadable(_) | ArchiveFault::Unwritable(_) => Exit::Io,
                _ => Exit::Data,
            },
            CopyFault::Unsound { .. } | CopyFault::OtherLsn { .. } => Exit::Data,
        }
    }
}

impl From<CopyFault> for Failure {
    fn from(fault: CopyFault) -> Failure {
        Failure::Copy(fault)
    }
}

impl fmt::Display for CopyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CopyFault::InTheWay { path } => {
                let path = path.display();
                write!(f, "{path} exists and is not an empty directory; nothing was changed")
            }
            CopyFault::NoRoom { path, bytes, available } => {
                let path = path.display();
                write!(f, "{path} has room for {available} bytes, and {bytes} are needed; ")?;
                f.write_str("nothing was changed")
            }
            CopyFault::BadArrival { url, fault } => {
                write!(f, "the backup from {url} {fault}; nothing was kept")
            }
            CopyFault::BadBackup { path, fault } => {
                write!(f, "{} {fault}; nothing was restored", path.display())
            }
            CopyFault::Unsound { path, fault } => {
                match &**fault {
                    // What an operator may do with a damaged store cannot be done in an archive.
                    StoreFault::Damaged(damage) => {
                        let Damage { file, offset, what, .. } = &**damage;
                        let path = path.display();
                        write!(f, "the store in {path} is damaged: {file} at byte {offset}: {what}")
                    }
                    fault => fault.fmt_in(f, path),
                }?;
                f.write_str("; nothing was restored")
            }
            CopyFault::OtherLsn { path, is, should_be } => {
                let path = path.display();
                write!(
                    f,
                    "{path} says that it ends at LSN {should_be}, and the store in it ends "
                )?;
                write!(f, "at {is}; nothing was restored")
            }
            CopyFault::Changed { path } => {
                let path = path.display();
                write!(f, "{path} was changed while it was read; nothing was restored")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::archive::Flaw;

    #[test]
    fn damage_is_told_apart_from_a_failing_disk() {
        let path = || PathBuf::from("x.tar");
        let cut = CopyFault::BadBackup { path: path(), fault: ArchiveFault::Cut { at: 700 } };
        assert_eq!(cut.exit(), Exit::Data);
        let text =
            "x.tar is cut short: it ends in the middle, after 700 bytes; nothing was restored";
        assert_eq!(cut.to_string(), text);
        let flawed = ArchiveFault::Flawed { at: 512, flaw: Flaw::Sums };
        let text = CopyFault::BadBackup { path: path(), fault: flawed }.to_string();
        assert!(text.starts_with("x.tar was altered: at byte 512, SHA256SUMS"), "{text}");
        let fault = ArchiveFault::Unreadable(std::io::ErrorKind::PermissionDenied.into());
        assert_eq!(CopyFault::BadBackup { path: path(), fault }.exit(), Exit::Io);
    }
}
