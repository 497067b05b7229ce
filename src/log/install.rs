//! The log and its snapshots: cut the log where one may be taken, and put one in force.
//!
//! [`Log::rotate`] gives an LSN at which a segment ends. Another thread makes the snapshot of
//! all up to there, from the snapshot before and from sealed segments
//! ([`replay_sealed`](super::replay_sealed)). [`Log::install`] then names it in SUPER; only
//! after that is what comes before the older one let go.

use std::sync::{Arc, PoisonError};

use super::base::Covered;
use super::error::Error;
use super::retain::Obsolete;
use super::segment;
use super::snapshot::snapshot_path;
use super::superblock::{SnapshotRef, Super};
use super::writer::Log;
use crate::ids::Lsn;

/// The newest snapshot of an open log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// What it covers.
    pub lsn: Lsn,
    /// Size of its file.
    pub bytes: u64,
}

impl Log {
    /// Seals the current segment, however full, and goes on in the next one. All appended
    /// frames are durable afterwards. Returns the last LSN of the newest sealed segment: where
    /// a snapshot may be taken.
    ///
    /// Does nothing when the current segment holds no frame that is delivered; then the sealed
    /// segments, or a snapshot, hold them all.
    ///
    /// # Errors
    /// [`Error::NoSpace`] when the next segment cannot be had: nothing was changed. Any other
    /// error poisons the log.
    pub fn rotate(&mut self) -> Result<Lsn, Error> {
        self.check()?;
        if self.current.delivered > 0 {
            let turned = self.turn_over(0);
            self.poison_on_error(turned)?;
        }
        Ok(self.sealed_to())
    }

    /// The last LSN of the newest sealed segment; 0 when there is none.
    #[must_use]
    pub fn sealed_to(&self) -> Lsn {
        Lsn(self.current.first.0 - 1)
    }

    /// Bytes of a segment, as configured.
    #[must_use]
    pub fn segment_bytes(&self) -> u64 {
        self.spare.segment_bytes()
    }

    /// Bytes of durable frames that the newest snapshot does not cover.
    #[must_use]
    pub fn bytes_since_snapshot(&self) -> u64 {
        self.index.read().unwrap_or_else(PoisonError::into_inner).bytes()
    }

    /// The newest snapshot that is in force.
    #[must_use]
    pub fn snapshot(&self) -> Option<SnapshotInfo> {
        self.snapshot
    }

    /// SUPER as it is in force: which segments and snapshots the store consists of.
    #[must_use]
    pub fn super_block(&self) -> Super {
        *self.supers.current()
    }

    /// Puts a snapshot in force that was written, synced and verified. `bytes` is the size of
    /// its file. The one in force until now stays as the older one; what only the one before
    /// that needed is returned, to be removed.
    ///
    /// Afterwards readers find no frame at or below the snapshot's LSN: it is to be looked up in
    /// the snapshot. `take_over` is called before that and after SUPER names the snapshot, so
    /// that whoever reads finds a record in one of the two at any moment. It runs on this
    /// thread; what it gives is handed on.
    ///
    /// # Errors
    /// As [`Log::sync`].
    ///
    /// # Panics
    /// When the snapshot is not newer than the one in force, or ends where no segment does.
    pub fn install<T>(
        &mut self,
        named: SnapshotRef,
        bytes: u64,
        take_over: impl FnOnce() -> T,
    ) -> Result<(T, Obsolete), Error> {
        self.check()?;
        let before = *self.supers.current();
        assert!(named.lsn > before.snapshots[0].lsn, "snapshots go forward");
        assert!(named.lsn <= self.sealed_to(), "a snapshot covers sealed segments only");
        let updated = self.supers.update(|next| next.add_snapshot(named));
        self.poison_on_error(updated.map_err(Error::from))?;
        self.snapshot = Some(SnapshotInfo { lsn: named.lsn, bytes });
        let taken_over = take_over();

        let freed = self.index().drop_through(named.lsn);
        let covered = freed.into_iter().map(|(first, bytes)| Covered { first, bytes });
        self.covered.extend(covered);
        let oldest = self.supers.current().oldest;
        let needed = self.covered.partition_point(|segment| segment.first < oldest);
        let gone = self.covered.drain(..needed).map(|segment| segment::path(segment.first));
        let mut paths: Vec<Box<str>> = gone.map(Box::from).collect();
        let dropped = before.snapshots[1].lsn;
        if dropped > Lsn::ZERO {
            paths.push(snapshot_path(dropped).into());
        }
        Ok((taken_over, Obsolete { paths, keeper: Arc::clone(&self.keeper) }))
    }
}
