//! Reading sealed segments beside the live log: what a new snapshot is made from.
//!
//! A sealed segment never changes, so it is read as when the log is opened: every frame is
//! verified, whole groups are delivered, losses too. The segment that is being written is not
//! touched but for its first page, which never changes either.

use super::base::{cursor_after, read_header};
use super::disk::{Access, Disk};
use super::error::{Damage, Fault, OpenError, Refusal};
use super::reader::Index;
use super::recovery::{Entry, RecoveryReport, segment_names};
use super::scan::Cursor;
use super::segment;
use super::snapshot::{Snapshot, SnapshotHead};
use super::superblock::Super;
use super::walk::Walk;
use crate::ids::Lsn;

/// Hands every record after `from` and up to `upto` to `apply`, in order of LSN, and gives the
/// head that a snapshot at `upto` must have. `from` is `None` for a log that is read from its
/// first frame on; `upto` is where a sealed segment ends, as
/// [`Log::rotate`](super::Log::rotate) gives it; `current` is the log's SUPER.
///
/// May be called any number of times; the files must not be removed meanwhile.
///
/// # Errors
/// [`OpenError::Refused`] when a segment is damaged, missing or unreadable;
/// [`OpenError::Apply`] when `apply` fails.
///
/// # Panics
/// When `upto` is not after `from`.
pub fn replay_sealed<E>(
    disk: &dyn Disk,
    current: &Super,
    from: Option<&Snapshot>,
    upto: Lsn,
    mut apply: impl FnMut(Entry<'_>) -> Result<(), E>,
) -> Result<SnapshotHead, OpenError<E>> {
    let cursor = match from {
        Some(snapshot) => cursor_after(snapshot.head(), None),
        None => Cursor::new(current.store, Lsn(1), None),
    };
    assert!(cursor.next <= upto, "a snapshot goes on from the one before");
    let mut walk = Walk {
        disk,
        // No segment up to there is the newest: each must be whole.
        current: Super { newest: upto.next(), ..*current },
        watermark: None,
        cursor,
        index: Index::default(),
        report: RecoveryReport::default(),
        tail: None,
    };
    walk.sealed(upto, &mut apply)?;
    Ok(head_at(disk, current, &walk.cursor, upto)?)
}

impl Walk<'_> {
    /// Reads the segments up to the one that ends with `upto`.
    fn sealed<E>(
        &mut self,
        upto: Lsn,
        apply: &mut impl FnMut(Entry<'_>) -> Result<(), E>,
    ) -> Result<(), OpenError<E>> {
        let begin = self.cursor.next;
        let mut names = segment_names(self.disk)?;
        names.retain(|&first| begin <= first && first <= upto);
        for (place, &first) in names.iter().enumerate() {
            self.expect_segment(first)?;
            let next = names.get(place + 1).copied().unwrap_or(upto.next());
            self.segment(first, Lsn(next.0 - 1), apply)?;
            // Nobody will look these frames up here.
            self.index = Index::default();
        }
        let next = self.cursor.next;
        if next == upto.next() {
            return Ok(());
        }
        let (file, lsns) = (segment::path(next).into(), next..=upto.max(next));
        let fault = Fault::SegmentMissing;
        Err(Refusal::from(Damage { file, offset: 0, lsns, fault }).into())
    }
}

/// What the segment after `upto` goes on from.
fn head_at(
    disk: &dyn Disk,
    current: &Super,
    cursor: &Cursor,
    upto: Lsn,
) -> Result<SnapshotHead, Refusal> {
    let path = segment::path(upto.next());
    let file = disk.open(&path, Access::Read)?;
    let damage = |fault| Damage {
        file: path.clone().into(),
        offset: 0,
        lsns: upto.next()..=upto.next(),
        fault,
    };
    let (_, header) = read_header(&*file)?.ok_or_else(|| damage(Fault::SegmentHeader))?;
    // After a loss only that segment's header knows the chain of the last frame that was lost.
    if header.chain != cursor.chain && !cursor.after_loss {
        return Err(damage(Fault::SegmentDiverges).into());
    }
    let (store, epoch) = (current.store, cursor.epoch);
    Ok(SnapshotHead { store, lsn: upto, epoch, chain: header.chain })
}
