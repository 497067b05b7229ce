//! Verifies a snapshot as a whole.

use std::sync::atomic::{AtomicBool, Ordering};

use sha2::{Digest, Sha256};

use crate::ids::Lsn;
use crate::limits::SCAN_CHUNK_BYTES;
use crate::log::error::ReadError;
use crate::log::to_usize;

use super::view::Snapshot;
use super::{SnapshotFault, TableName};

impl Snapshot {
    /// Reads and verifies everything: each block and page, order, counts, that the filters hold
    /// every key, and at last the file's SHA-256 against the one that SUPER names. Blocks and
    /// pages come first, since they tell the place of damage. `progress` is told the bytes of
    /// the file that have been hashed so far.
    ///
    /// # Errors
    /// [`SnapshotFault`].
    pub fn verify(&self, progress: impl FnMut(u64)) -> Result<(), SnapshotFault> {
        self.verify_unless(&AtomicBool::new(false), progress).map(|_| ())
    }

    /// As [`verify`](Snapshot::verify), until `stop` is set: then `false`, and nothing is known.
    pub(super) fn verify_unless(
        &self,
        stop: &AtomicBool,
        progress: impl FnMut(u64),
    ) -> Result<bool, SnapshotFault> {
        let mut records = self.records_after(Lsn::ZERO);
        while let Some((lsn, _)) = records.next()? {
            if lsn > self.head().lsn {
                return Err(self.inner.damaged(0).into());
            }
            if stop.load(Ordering::Relaxed) {
                return Ok(false);
            }
        }
        for name in TableName::ALL {
            self.verify_table(name, stop)?;
        }
        self.verify_sha256(stop, progress)?;
        Ok(!stop.load(Ordering::Relaxed))
    }

    fn verify_table(&self, name: TableName, stop: &AtomicBool) -> Result<(), ReadError> {
        let mut entries = self.entries(name);
        while let Some(entry) = entries.next()? {
            if stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            let key = entry.first_chunk().expect("an entry begins with its key");
            if !self.may_hold(name, key) {
                let place = self.inner.footer.sections[super::layout::FILTERS + name.index()];
                return Err(self.inner.damaged(place.at));
            }
        }
        Ok(())
    }

    fn verify_sha256(
        &self,
        stop: &AtomicBool,
        mut progress: impl FnMut(u64),
    ) -> Result<(), SnapshotFault> {
        let (mut sha256, mut at) = (Sha256::new(), 0);
        let mut chunk = vec![0; SCAN_CHUNK_BYTES];
        while at < self.bytes() {
            if stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            let len = to_usize(self.bytes() - at).min(SCAN_CHUNK_BYTES);
            if self.inner.file.read_full_at(&mut chunk[..len], at)? < len {
                return Err(self.inner.damaged(at).into());
            }
            sha256.update(&chunk[..len]);
            at += len as u64;
            progress(at);
        }
        let good = <[u8; 32]>::from(sha256.finalize()) == self.inner.named.sha256;
        let file = || self.inner.file.path().into();
        if good { Ok(()) } else { Err(SnapshotFault::Unexpected { file: file() }) }
    }
}
