//! What an operator asks of the engine: a snapshot now, a copy of the store.

use std::io::{self, Cursor, Read};
use std::sync::Arc;

use tokio::sync::oneshot;

use super::compaction::SnapshotRefused;
use super::compactor::SnapshotReport;
use super::writer::Mail;
use crate::engine::Engine;
use crate::engine::command::Rejection;
use crate::ids::{Epoch, Lsn};
use crate::log::{self, DiskFile};

/// A copy of the store at one record, as files.
pub struct Backup {
    /// The store's id, 32 hexadecimal digits.
    pub store: String,
    /// The reign.
    pub epoch: Epoch,
    /// The last record in it.
    pub lsn: Lsn,
    /// The files. Those of the store stay on the disk as long as one of these is alive.
    pub files: Vec<BackupFile>,
}

/// One file of it.
pub struct BackupFile {
    /// Its path in the data directory.
    pub name: Box<str>,
    /// How many of its bytes belong to the copy, from its beginning on.
    pub bytes: u64,
    /// The SHA-256 that they must have; `None`: they were verified otherwise.
    pub sha256: Option<[u8; 32]>,
    /// Opens it.
    pub open: OpenFile,
}

/// Opens a file when its turn has come.
pub type OpenFile = Box<dyn FnOnce() -> io::Result<Box<dyn Read + Send>> + Send>;

impl Engine {
    /// Has a snapshot written of everything that is stored by now. Takes as long as that takes.
    ///
    /// # Errors
    /// `Overloaded`, `OutcomeUnknown`, `DiskFull`, `Unmade`.
    pub async fn snapshot(&self) -> Result<SnapshotReport, Rejection> {
        let (reply, replied) = oneshot::channel();
        self.send(Mail::Snapshot(reply))?;
        let answer = replied.await.map_err(|_| Rejection::OutcomeUnknown)?;
        answer.map_err(|refused| match refused {
            SnapshotRefused::DiskFull => Rejection::DiskFull,
            SnapshotRefused::Failed => Rejection::Unmade,
        })
    }

    /// A consistent copy of the store as far as it is durable: files, and how much of each.
    ///
    /// # Errors
    /// `Overloaded`, `OutcomeUnknown`.
    pub async fn backup(&self) -> Result<Backup, Rejection> {
        let (reply, replied) = oneshot::channel();
        self.send(Mail::Backup(reply))?;
        let backup = replied.await.map_err(|_| Rejection::OutcomeUnknown)?;
        Ok(Backup::from(backup))
    }
}

impl From<log::Backup> for Backup {
    fn from(backup: log::Backup) -> Backup {
        let backup = Arc::new(backup);
        let made = backup.made().into_iter().map(|(name, bytes)| BackupFile {
            name: name.into(),
            bytes: bytes.len() as u64,
            sha256: None,
            open: Box::new(move || Ok(Box::new(Cursor::new(bytes)) as Box<dyn Read + Send>)),
        });
        let stored = backup.files().iter().cloned().map(|file| {
            let (from, name, bytes) = (Arc::clone(&backup), file.path.clone(), file.bytes);
            let sha256 = backup.sha256(&file);
            let open: OpenFile = Box::new(move || {
                let opened = from.open(&file).map_err(io::Error::other)?;
                Ok(Box::new(Reading { file: opened, at: 0, _backup: from }))
            });
            BackupFile { name, bytes, sha256, open }
        });
        let files = made.chain(stored).collect();
        let (store, epoch, lsn) = (backup.store().to_string(), backup.epoch(), backup.lsn());
        Backup { store, epoch, lsn, files }
    }
}

/// A file of the store that is read from front to back.
struct Reading {
    file: Arc<dyn DiskFile>,
    at: u64,
    /// Keeps the file from being removed.
    _backup: Arc<log::Backup>,
}

impl Read for Reading {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buf, self.at).map_err(io::Error::other)?;
        self.at += read as u64;
        Ok(read)
    }
}
