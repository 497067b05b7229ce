//! The only door to files: what the log asks of a disk, and no more.
//!
//! Two disks stand behind it: [`OsDisk`](super::OsDisk), a directory, and
//! [`SimDisk`](super::SimDisk), which lives in memory and loses, tears and reorders what was
//! not synced. Paths are relative to the data directory and written with `/`.
//!
//! What the log may rely on, and nothing else:
//! - bytes are durable once `sync_data` on their file has returned `Ok`;
//! - names are durable once `sync_dir` on their directory has returned `Ok`;
//! - a rename replaces its target in one step: at no time is neither file there;
//! - a sector ([`SECTOR_BYTES`](crate::limits::SECTOR_BYTES)) is written whole or not at all.

use std::fmt;
use std::io;
use std::sync::Arc;

/// A directory of files.
pub trait Disk: Send + Sync {
    /// The names in `dir`, sorted. The data directory itself is `""`.
    fn list(&self, dir: &str) -> Result<Vec<Box<str>>, DiskError>;
    /// Opens a file that is there.
    fn open(&self, path: &str, access: Access) -> Result<Arc<dyn DiskFile>, DiskError>;
    /// Creates a file for reading and writing, empty: what was there is lost.
    fn create(&self, path: &str) -> Result<Arc<dyn DiskFile>, DiskError>;
    /// Renames a file; one that already has the new name is replaced.
    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError>;
    /// Removes a file.
    fn remove(&self, path: &str) -> Result<(), DiskError>;
    /// Creates a directory unless it is there.
    fn create_dir(&self, path: &str) -> Result<(), DiskError>;
    /// Makes the names in `dir` durable.
    fn sync_dir(&self, dir: &str) -> Result<(), DiskError>;
    /// Opens or creates a file and locks it against other processes until the handle is
    /// dropped. `None`: another process holds it.
    fn try_lock(&self, path: &str) -> Result<Option<Arc<dyn DiskFile>>, DiskError>;
    /// Bytes that may still be written.
    fn available_bytes(&self) -> Result<u64, DiskError>;
}

/// An open file.
pub trait DiskFile: Send + Sync {
    /// Its path, for messages.
    fn path(&self) -> &str;
    /// Reads up to `buf.len()` bytes from `at`; 0 at the end of the file. May be short.
    fn read_at(&self, buf: &mut [u8], at: u64) -> Result<usize, DiskError>;
    /// As [`read_at`](DiskFile::read_at), but only what needs no waiting for the disk. `None`:
    /// nothing there can be read without waiting.
    fn read_at_cached(&self, buf: &mut [u8], at: u64) -> Result<Option<usize>, DiskError>;
    /// Writes up to `bytes.len()` bytes at `at`, growing the file as needed. May be short.
    fn write_at(&self, bytes: &[u8], at: u64) -> Result<usize, DiskError>;
    /// Makes the file's bytes and its length durable.
    fn sync_data(&self) -> Result<(), DiskError>;
    /// Cuts the file, or grows it with zeros.
    fn set_len(&self, len: u64) -> Result<(), DiskError>;
    /// The file's length in bytes.
    fn len(&self) -> Result<u64, DiskError>;
    /// Whether the file has no bytes.
    fn is_empty(&self) -> Result<bool, DiskError> {
        Ok(self.len()? == 0)
    }
}

impl dyn DiskFile + '_ {
    /// Reads until `buf` is full or the file ends; returns the bytes read.
    ///
    /// # Errors
    /// As [`DiskFile::read_at`]; an interrupted call is made again.
    pub fn read_full_at(&self, buf: &mut [u8], at: u64) -> Result<usize, DiskError> {
        let mut done = 0;
        while done < buf.len() {
            match self.read_at(&mut buf[done..], at + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(error) if error.is_interrupted() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    /// Writes all of `bytes`.
    ///
    /// # Errors
    /// As [`DiskFile::write_at`]; an interrupted call is made again, a short one is continued.
    pub fn write_all_at(&self, bytes: &[u8], at: u64) -> Result<(), DiskError> {
        let mut done = 0;
        while done < bytes.len() {
            match self.write_at(&bytes[done..], at + done as u64) {
                Ok(0) => {
                    let source = io::ErrorKind::WriteZero.into();
                    return Err(DiskError { call: Call::Write, path: self.path().into(), source });
                }
                Ok(n) => done += n,
                Err(error) if error.is_interrupted() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// What an opened file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reading only.
    Read,
    /// Reading and writing.
    Write,
}

/// A call on the disk that failed.
#[derive(Debug)]
pub struct DiskError {
    /// What was asked.
    pub call: Call,
    /// Of which file or directory.
    pub path: Box<str>,
    /// What the system said.
    pub source: io::Error,
}

impl DiskError {
    /// Whether there is no file of that name.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }

    /// Whether the disk is full, or the quota used up.
    #[must_use]
    pub fn is_no_space(&self) -> bool {
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        matches!(self.source.kind(), StorageFull | QuotaExceeded)
    }

    fn is_interrupted(&self) -> bool {
        self.source.kind() == io::ErrorKind::Interrupted
    }
}

impl fmt::Display for DiskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {} {}: {}", self.call.verb(), self.path, self.source)
    }
}

impl std::error::Error for DiskError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// The calls of [`Disk`] and [`DiskFile`], for messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// List a directory.
    List,
    /// Open a file.
    Open,
    /// Create a file.
    Create,
    /// Read bytes.
    Read,
    /// Write bytes.
    Write,
    /// Sync a file.
    Sync,
    /// Cut or grow a file.
    SetLen,
    /// Ask for a file's length.
    Len,
    /// Rename a file.
    Rename,
    /// Remove a file.
    Remove,
    /// Create a directory.
    CreateDir,
    /// Sync a directory.
    SyncDir,
    /// Lock a file.
    Lock,
    /// Ask for the free space.
    Available,
}

impl Call {
    /// What was tried, to stand after `cannot` and before the path.
    #[must_use]
    pub fn verb(self) -> &'static str {
        match self {
            Call::List => "list",
            Call::Open => "open",
            Call::Create => "create",
            Call::Read => "read",
            Call::Write => "write",
            Call::Sync => "sync",
            Call::SetLen => "resize",
            Call::Len => "ask for the length of",
            Call::Rename => "rename",
            Call::Remove => "remove",
            Call::CreateDir => "create directory",
            Call::SyncDir => "sync directory",
            Call::Lock => "lock",
            Call::Available => "ask for the free space of",
        }
    }
}
