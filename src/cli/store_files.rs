//! The files of a store by name, and the lock on its directory.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::cli::store_fault::StoreFault;

/// The name of the lock file in the directory of a store.
pub(crate) const LOCK_FILE: &str = "LOCK";
/// The alternating superblocks.
pub(crate) const SUPER_FILES: [&str; 2] = ["SUPER.a", "SUPER.b"];
/// The watermark.
pub(crate) const WATERMARK_FILE: &str = "WATERMARK";
/// The directory of the segments.
pub(crate) const LOG_DIRECTORY: &str = "log";
/// The extensions of files in it: segments, and the one that is being prepared.
pub(crate) const LOG_EXTENSIONS: [&str; 2] = ["seg", "tmp"];
/// The directories that belong to the store besides the log's.
pub(crate) const OTHER_DIRECTORIES: [&str; 2] = ["snapshots", "quarantine"];

/// The exclusive right to a store's directory, held until it is dropped.
#[derive(Debug)]
pub(crate) struct StoreLock {
    _held: File,
}

impl StoreLock {
    /// Takes the lock to change the store, or says at once who has it.
    pub(crate) fn take(directory: &Path) -> Result<StoreLock, StoreFault> {
        let path = directory.join(LOCK_FILE);
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false);
        let file = options.open(&path).map_err(fault(&path))?;
        StoreLock::hold(file, &path, Holder::Named)
    }

    /// Takes the lock to read the store, or says at once who has it. Creates nothing, and works
    /// on a file system that has become read-only, as they do when their disk fails.
    ///
    /// `None`: there is no lock file, so that nobody has had this copy of a store open.
    pub(crate) fn take_to_read(directory: &Path) -> Result<Option<StoreLock>, StoreFault> {
        let path = directory.join(LOCK_FILE);
        let (opened, holder) = match OpenOptions::new().read(true).write(true).open(&path) {
            Err(error) if is_read_only(&error) => (File::open(&path), Holder::Nameless),
            opened => (opened, Holder::Named),
        };
        match opened {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(fault(&path)(error)),
            Ok(file) => StoreLock::hold(file, &path, holder).map(Some),
        }
    }

    fn hold(mut file: File, path: &Path, holder: Holder) -> Result<StoreLock, StoreFault> {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                if holder == Holder::Named {
                    // As wide as what `serve` writes, so that nothing of that stays behind it.
                    let (pid, no_epoch) = (std::process::id(), "");
                    writeln!(file, "{pid:<10} {no_epoch:<10}").map_err(fault(path))?;
                }
                Ok(StoreLock { _held: file })
            }
            Err(Errno::WOULDBLOCK) => {
                let mut text = String::new();
                let read = file.read_to_string(&mut text).is_ok();
                let pid = text.split_whitespace().next().filter(|_| read);
                Err(StoreFault::Locked { pid: pid.and_then(|pid| pid.parse().ok()) })
            }
            Err(error) => Err(fault(path)(error.into())),
        }
    }
}

/// Whether whoever holds the lock can write down who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holder {
    Named,
    Nameless,
}

fn is_read_only(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem)
}

fn fault(path: &Path) -> impl Fn(io::Error) -> StoreFault {
    move |error| StoreFault::Io { verb: "lock", path: path.to_owned(), error }
}
