//! Which snapshot the log begins at.
//!
//! The newest one that opens. A snapshot that does not is no loss while the older one does, as
//! the log goes back to that; and while there are fewer than two, the log goes back to LSN 1.
//! What is left is said in the report: the store has less to fall back on than it should.
//!
//! Segments that the newest snapshot covers are kept for this case only. They are not read
//! here; that they are there is checked as far as names and seals tell. `sillage check` reads
//! them.

use std::sync::Arc;

use super::disk::{Access, Disk, DiskError};
use super::error::{Damage, Fault, Refusal};
use super::frame::{self, Flaw, Kind, Seeds};
use super::install::SnapshotInfo;
use super::page::PAGE_BYTES;
use super::recovery::segment_names;
use super::scan::Cursor;
use super::segment::{self, SegmentHeader};
use super::snapshot::{Snapshot, SnapshotFault, SnapshotHead, snapshot_path};
use super::superblock::{SnapshotRef, Super};
use super::to_usize;
use super::watermark::{self, Watermark};
use super::writer::SEAL_BYTES;
use crate::ids::Lsn;

/// What the log goes on from.
pub(super) struct Base {
    /// `None`: the log is read from its first frame on.
    pub(super) snapshot: Option<Snapshot>,
    /// Snapshots that SUPER names and that do not open, with what is wrong, newest first.
    pub(super) damaged: Vec<(SnapshotRef, Damage)>,
    /// What is wrong with the older snapshot, if it does not open while the newest does. It is
    /// left where it is: nothing rests on it, and the next snapshot takes its place.
    pub(super) older_damaged: Option<Damage>,
}

impl Base {
    /// Picks the newest snapshot that opens.
    ///
    /// # Errors
    /// Damage when none does although the log does not go back to its beginning.
    pub(super) fn choose(disk: &Arc<dyn Disk>, current: &Super) -> Result<Base, Refusal> {
        let mut damaged = Vec::new();
        for named in current.named() {
            match Snapshot::open(disk, &named, current.store) {
                Ok(snapshot) => {
                    let older_damaged = damage_below(disk, current, named.lsn);
                    return Ok(Base { snapshot: Some(snapshot), damaged, older_damaged });
                }
                Err(fault) => damaged.push((named, damage_of(&named, fault)?)),
            }
        }
        if reaches_back(&**disk, current)? {
            return Ok(Base { snapshot: None, damaged, older_damaged: None });
        }
        let first = damaged.into_iter().next().map(|(_, damage)| damage);
        let lost = first.unwrap_or_else(|| unnamed(current));
        Err(Damage { fault: Fault::SnapshotsLost, ..lost }.into())
    }

    /// The cursor before the first frame that is to be read.
    pub(super) fn cursor(&self, current: &Super, witness: Option<Watermark>) -> Cursor {
        match &self.snapshot {
            Some(snapshot) => cursor_after(snapshot.head(), witness),
            None => Cursor::new(current.store, Lsn(1), witness),
        }
    }

    /// Whether an older snapshot, or none, stands in for one that does not open.
    pub(super) fn is_fallback(&self) -> bool {
        !self.damaged.is_empty()
    }

    /// The snapshot in short.
    pub(super) fn info(&self) -> Option<SnapshotInfo> {
        let snapshot = self.snapshot.as_ref()?;
        Some(SnapshotInfo { lsn: snapshot.head().lsn, bytes: snapshot.bytes() })
    }

    /// The snapshot's name in SUPER.
    pub(super) fn named(&self, current: &Super) -> Option<SnapshotRef> {
        let lsn = self.snapshot.as_ref()?.head().lsn;
        current.named().find(|named| named.lsn == lsn)
    }

    /// Checks what WATERMARK says of the last frame that the snapshot covers.
    pub(super) fn confirm(&self, witness: Option<Watermark>) -> Result<(), Refusal> {
        let (Some(snapshot), Some(witness)) = (&self.snapshot, witness) else {
            return Ok(());
        };
        let head = snapshot.head();
        if witness.lsn != head.lsn || witness.chain == head.chain {
            return Ok(());
        }
        let (file, lsns) = (watermark::PATH.into(), head.lsn..=head.lsn);
        let fault = Fault::Frame(Flaw::History);
        Err(Damage { file, offset: 0, lsns, fault }.into())
    }
}

/// What is wrong with the snapshot that is to stand in for the one at `lsn`, as far as opening it
/// tells. Whatever it is, it is no reason not to start.
fn damage_below(disk: &Arc<dyn Disk>, current: &Super, lsn: Lsn) -> Option<Damage> {
    let older = current.named().find(|named| named.lsn < lsn)?;
    let fault = Snapshot::open(disk, &older, current.store).err()?;
    Some(damage_of(&older, fault).unwrap_or_else(|_| {
        let (file, lsns) = (snapshot_path(older.lsn).into(), Lsn(1)..=older.lsn);
        Damage { file, offset: 0, lsns, fault: Fault::SnapshotDamaged }
    }))
}

/// The cursor behind a snapshot.
pub(super) fn cursor_after(head: &SnapshotHead, witness: Option<Watermark>) -> Cursor {
    let SnapshotHead { store, lsn, epoch, chain } = *head;
    Cursor { chain, epoch, durable: lsn, ..Cursor::new(store, lsn.next(), witness) }
}

/// A snapshot's fault as damage.
///
/// # Errors
/// When the disk failed or the file is of a later format: that says nothing of the snapshot.
pub(super) fn damage_of(named: &SnapshotRef, fault: SnapshotFault) -> Result<Damage, Refusal> {
    let (file, offset, fault) = match fault {
        SnapshotFault::Missing { file } => (file, 0, Fault::SnapshotMissing),
        SnapshotFault::Damaged { file, offset } => (file, offset, Fault::SnapshotDamaged),
        SnapshotFault::Foreign { file } | SnapshotFault::Unexpected { file } => {
            (file, 0, Fault::SnapshotDamaged)
        }
        SnapshotFault::Newer { file, version } => return Err(Refusal::Newer { file, version }),
        SnapshotFault::Disk(error) => return Err(error.into()),
    };
    Ok(Damage { file, offset, lsns: Lsn(1)..=named.lsn, fault })
}

/// Whether the log still has its first segment. It may longer than SUPER asks for, when a crash
/// came before old segments were removed; the walk tells whether the others are there too.
pub(super) fn reaches_back(disk: &dyn Disk, current: &Super) -> Result<bool, DiskError> {
    Ok(current.oldest == Lsn(1) || segment_names(disk)?.first() == Some(&Lsn(1)))
}

/// SUPER asks for a part of the log only and names no snapshot before it.
pub(super) fn unnamed(current: &Super) -> Damage {
    let (file, lsns) = (super::superblock::PATHS[0].into(), Lsn(1)..=Lsn(current.oldest.0 - 1));
    Damage { file, offset: 0, lsns, fault: Fault::SnapshotsLost }
}

/// A segment all of which a snapshot covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Covered {
    pub(super) first: Lsn,
    /// Size of the file.
    pub(super) bytes: u64,
}

/// The segments that `upto` covers and that SUPER asks for, and the first of them that is not
/// there.
pub(super) fn covered(
    disk: &dyn Disk,
    current: &Super,
    upto: Lsn,
) -> Result<(Vec<Covered>, Option<Damage>), Refusal> {
    let (mut found, mut missing) = (Vec::new(), None);
    // Where the next one must begin; `None`: the one before does not tell.
    let mut next = Some(current.oldest);
    for first in segment_names(disk)? {
        if first < current.oldest || first > upto {
            continue;
        }
        if let Some(expected) = next.filter(|&expected| expected < first) {
            missing = missing.or(Some(gap(expected, Lsn(first.0 - 1))));
        }
        let file = disk.open(&segment::path(first), Access::Read)?;
        let bytes = file.len()?;
        next = sealed_end(&*file, bytes, Seeds::new(current.store, first))?;
        found.push(Covered { first, bytes });
    }
    if let Some(expected) = next.filter(|&expected| expected <= upto) {
        missing = missing.or(Some(gap(expected, upto)));
    }
    Ok((found, missing))
}

fn gap(first: Lsn, last: Lsn) -> Damage {
    let (file, lsns) = (segment::path(first).into(), first..=last);
    Damage { file, offset: 0, lsns, fault: Fault::SegmentMissing }
}

/// The LSN after the seal that a segment's file ends in; `None`: it does not end in one.
fn sealed_end(
    file: &dyn super::DiskFile,
    bytes: u64,
    seeds: Seeds,
) -> Result<Option<Lsn>, DiskError> {
    let Some(at) = bytes.checked_sub(SEAL_BYTES) else {
        return Ok(None);
    };
    let mut seal = vec![0; to_usize(SEAL_BYTES)];
    file.read_full_at(&mut seal, at)?;
    let header = frame::decode_header(&seal, seeds, at).ok();
    let header = header.filter(|header| header.stamp.kind == Kind::Seal);
    Ok(header.map(|header| header.stamp.lsn.next()))
}

/// The header of a segment, if its first page is good.
pub(super) fn read_header(
    file: &dyn super::DiskFile,
) -> Result<Option<(u32, SegmentHeader)>, DiskError> {
    let mut page = [0; PAGE_BYTES];
    file.read_full_at(&mut page, 0)?;
    Ok(SegmentHeader::decode(&page))
}
