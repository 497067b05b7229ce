//! A consistent copy of the store while it is written.
//!
//! What the copy needs is all on the disk already: the newest snapshot, the sealed segments
//! after it, and the newest segment up to the last durable frame. None of it changes any more;
//! a [`Retain`] keeps it from being removed. Only SUPER and WATERMARK are made for the copy, as
//! they would be had the power failed right after that frame became durable. So whoever puts
//! the files into an empty directory has a store that opens to just that LSN.

use std::sync::Arc;

use super::disk::{Access, Disk, DiskFile};
use super::error::ReadError;
use super::frame::{Seeds, StoreId};
use super::install::SnapshotInfo;
use super::retain::Retain;
use super::scan::{Window, frame_at};
use super::segment::{self, FRAMES_AT};
use super::snapshot::snapshot_path;
use super::superblock::{self, Super};
use super::watermark::{self, Watermark, WatermarkFile};
use super::writer::Log;
use crate::ids::{Epoch, Lsn};

/// A copy that is to be made. While it is alive, none of its files is removed.
pub struct Backup {
    disk: Arc<dyn Disk>,
    retain: Retain,
    current: Super,
    durable: Watermark,
    files: Vec<BackupFile>,
}

/// A file that is to be copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupFile {
    /// Its path in the data directory, here and in the copy.
    pub path: Box<str>,
    /// How much of it is to be copied, from its beginning on. The rest, if any, is not part of
    /// the copy.
    pub bytes: u64,
    /// The first LSN of the segment; `None`: it is the snapshot.
    segment: Option<Lsn>,
}

impl Log {
    /// A copy of the store as it is after the last durable frame. Takes no time: the files are
    /// read later, by whoever copies them.
    #[must_use]
    pub fn backup(&self) -> Backup {
        let current = *self.supers.current();
        let snapshot = self.snapshot.map(|SnapshotInfo { lsn, bytes }| BackupFile {
            path: snapshot_path(lsn).into(),
            bytes,
            segment: None,
        });
        let index = self.index.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let segments = index.extents();
        let segments = segments.map(|(first, bytes)| BackupFile {
            path: segment::path(first).into(),
            bytes,
            segment: Some(first),
        });
        let files = snapshot.into_iter().chain(segments).collect();
        drop(index);
        let mut kept = Super { clean: Lsn::ZERO, ..current };
        let newest = current.named().next();
        kept.rest_on(newest, newest.map_or(current.oldest, |named| named.lsn.next()));
        let (disk, retain) = (Arc::clone(&self.disk), self.keeper.retain());
        Backup { disk, retain, current: kept, durable: self.durable, files }
    }
}

impl Backup {
    /// The store.
    #[must_use]
    pub fn store(&self) -> StoreId {
        self.current.store
    }

    /// The last frame of the copy.
    #[must_use]
    pub fn lsn(&self) -> Lsn {
        self.durable.lsn
    }

    /// The reign that it was made in.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.current.epoch
    }

    /// The snapshot and the segments, in the order of what they hold. Besides them the copy
    /// needs [`made`](Backup::made).
    #[must_use]
    pub fn files(&self) -> &[BackupFile] {
        &self.files
    }

    /// SUPER, twice, and WATERMARK: paths and contents.
    #[must_use]
    pub fn made(&self) -> [(&'static str, Vec<u8>); 3] {
        let page = self.current.encode().to_vec();
        let mark = WatermarkFile::bytes(self.current.store, &self.durable);
        let [a, b] = superblock::PATHS;
        [(a, page.clone()), (b, page), (watermark::PATH, mark)]
    }

    /// Opens one of [`files`](Backup::files) for reading. Of a segment every frame has been
    /// verified; of the snapshot, [`sha256`](Backup::sha256) says what its bytes must add up to.
    /// A copy of damaged files would be worse than none: whoever has it looks no further.
    ///
    /// # Errors
    /// When the disk fails, or a segment is damaged.
    pub fn open(&self, file: &BackupFile) -> Result<Arc<dyn DiskFile>, ReadError> {
        let opened = self.disk.open(&file.path, Access::Read)?;
        if let Some(first) = file.segment {
            self.verify(&*opened, first, file.bytes)?;
        }
        Ok(opened)
    }

    /// What the bytes of this file add up to, if SUPER says.
    #[must_use]
    pub fn sha256(&self, file: &BackupFile) -> Option<[u8; 32]> {
        let newest = self.current.named().next();
        newest.filter(|_| file.segment.is_none()).map(|named| named.sha256)
    }

    fn verify(&self, segment: &dyn DiskFile, first: Lsn, bytes: u64) -> Result<(), ReadError> {
        let (seeds, mut at) = (Seeds::new(self.current.store, first), FRAMES_AT);
        let mut window = Window::new(segment, at)?;
        while at < bytes {
            window.keep_from(at);
            let Ok((header, _)) = frame_at(&mut window, at, seeds)? else {
                return Err(ReadError::Damaged { file: segment.path().into(), offset: at });
            };
            at += header.frame_bytes() as u64;
        }
        Ok(())
    }

    /// A guard of its own, for a reader that outlives this description.
    #[must_use]
    pub fn retain(&self) -> Retain {
        self.retain.again()
    }
}
