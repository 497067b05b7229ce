//! Opening a log: verify everything, decide what its tail is, hand every record to the caller.
//!
//! Nothing but the epoch is written before the decision has been made, so opening is
//! idempotent: after a crash anywhere in it, it is simply done again. What follows from the
//! decision is written by [`Opened::begin`].

use std::ops::RangeInclusive;
use std::sync::Arc;

use super::disk::{Access, Disk, DiskError, DiskFile};
use super::error::{Damage, Fault, OpenError, Refusal};
use super::frame::{Chain, Kind, Place, StoreId};
use super::reader::Index;
use super::scan::Cursor;
use super::segment;
use super::superblock::{self, Super, SuperCopy, SuperFiles};
use super::walk::Walk;
use super::watermark::{self, Slots, Watermark, WatermarkFile};
use super::{LOCK, Opened, Preparer, QUARANTINE};
use crate::ids::{Epoch, Lsn};
use crate::limits::{SEGMENT_BYTES_DEFAULT, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN};

/// How to open a log.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Bytes of each new segment, [`SEGMENT_BYTES_MIN`] to [`SEGMENT_BYTES_MAX`].
    pub segment_bytes: u64,
    /// Sixteen random bytes: the identity of the store, should it be created.
    pub store_if_new: StoreId,
    /// What to do with a tail of unknown fate.
    pub tail: TailPolicy,
    /// Who prepares the next segment.
    pub preparer: Preparer,
}

impl Options {
    /// The defaults, with the identity that a new store is to get.
    #[must_use]
    pub fn new(store_if_new: StoreId) -> Options {
        Options {
            segment_bytes: SEGMENT_BYTES_DEFAULT,
            store_if_new,
            tail: TailPolicy::Refuse,
            preparer: Preparer::Thread,
        }
    }
}

/// What to do when nothing says whether the rubbish at the end was ever acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TailPolicy {
    /// Refuse to open.
    Refuse,
    /// Set it aside, and record in the log that its LSNs may be lost.
    Accept,
}

/// A frame that is handed to the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Its place in the log.
    pub lsn: Lsn,
    /// The reign that wrote it.
    pub epoch: Epoch,
    /// What it holds: a kind for which [`Kind::is_delivered`] holds.
    pub kind: Kind,
    /// Its place in its group. Groups are delivered whole or not at all.
    pub place: Place,
    /// As it was appended.
    pub payload: &'a [u8],
}

/// What was found while opening.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// The reign that this opening began.
    pub epoch: Epoch,
    /// Whether the reign before ended in order.
    pub clean_shutdown: bool,
    /// Segments read.
    pub segments: u64,
    /// Frames handed to the caller.
    pub delivered: u64,
    /// Bytes of good frames.
    pub bytes: u64,
    /// The last good frame.
    pub last: Lsn,
    /// The highest LSN that was durable for certain; at most `last`.
    pub durable: Lsn,
    /// Bytes after the last good frame that are set aside.
    pub quarantined_bytes: u64,
    /// Copies of SUPER and slots of WATERMARK that were damaged and are written anew.
    pub healed: u32,
    /// LSNs that were lost, now or in earlier reigns, with the operator's consent.
    pub losses: Vec<RangeInclusive<Lsn>>,
}

/// Opens the log on `disk`, creating it when there is none.
///
/// Hands each record to `apply` once, in order of LSN, all of a group or none of it.
///
/// # Errors
/// [`OpenError::Refused`] when the log is in use, damaged, of a later format or unreadable;
/// [`OpenError::Apply`] when `apply` fails. Either way the directory is as it was but for the
/// epoch.
///
/// # Panics
/// When `options.segment_bytes` is out of its range.
pub fn open<E>(
    disk: Arc<dyn Disk>,
    options: Options,
    mut apply: impl FnMut(Entry<'_>) -> Result<(), E>,
) -> Result<Opened, OpenError<E>> {
    let allowed = SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX;
    assert!(allowed.contains(&options.segment_bytes), "the size of segments is within limits");
    let lock = lock(&*disk)?;
    let (supers, found) = begin_reign(&disk, options.store_if_new)?;
    let current = *supers.current();
    // Of fixed width: on a full disk a file can be overwritten but not grow.
    let holder = format!("{:<10} {:<10}\n", std::process::id(), current.epoch.0);
    lock.write_all_at(holder.as_bytes(), 0)?;

    let slots = watermark::read(&*disk, current.store)?;
    let mut walk = Walk {
        disk: &*disk,
        current,
        watermark: watermark::best(&slots),
        cursor: Cursor::new(current.store, current.oldest, watermark::best(&slots)),
        index: Index::default(),
        report: RecoveryReport { epoch: current.epoch, ..RecoveryReport::default() },
        tail: None,
    };
    walk.segments(&mut apply)?;
    let tail = walk.decide(options.tail)?;
    let Walk { cursor, index, mut report, .. } = walk;
    report.clean_shutdown = current.clean == cursor.last() && current.clean > Lsn::ZERO;
    report.healed = count_damaged(&found, &slots);
    Ok(Opened { disk, lock, options, supers, slots, index, tail, cursor, report })
}

/// Takes the lock on the data directory.
pub(super) fn lock(disk: &dyn Disk) -> Result<Arc<dyn DiskFile>, Refusal> {
    if let Some(lock) = disk.try_lock(LOCK)? {
        return Ok(lock);
    }
    let mut text = [0; 32];
    let file = disk.open(LOCK, Access::Read)?;
    let read = file.read_full_at(&mut text, 0)?;
    let text = String::from_utf8_lossy(&text[..read]);
    let pid = text.split_whitespace().next().and_then(|pid| pid.parse().ok());
    Err(Refusal::Locked { pid })
}

/// First LSNs of all segments that have a segment's name, in order.
pub(super) fn segment_names(disk: &dyn Disk) -> Result<Vec<Lsn>, DiskError> {
    match disk.list(segment::DIR) {
        Ok(names) => Ok(names.iter().filter_map(|name| segment::parse_name(name)).collect()),
        Err(error) if error.is_not_found() => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Finds SUPER, or creates the store, and puts the next epoch in force.
fn begin_reign(
    disk: &Arc<dyn Disk>,
    store_if_new: StoreId,
) -> Result<(SuperFiles, [SuperCopy; 2]), Refusal> {
    let mut copies = superblock::read(&**disk)?;
    if copies == [SuperCopy::Missing; 2] && segment_names(&**disk)?.is_empty() {
        create_store(&**disk, store_if_new)?;
        copies = superblock::read(&**disk)?;
    }
    let current = require_super(&**disk, &copies)?;
    let mut supers = SuperFiles::new(Arc::clone(disk), current);
    supers.update(|next| next.epoch = Epoch(next.epoch.0 + 1))?;
    Ok((supers, copies))
}

/// SUPER as it is in force.
pub(super) fn require_super(disk: &dyn Disk, copies: &[SuperCopy; 2]) -> Result<Super, Refusal> {
    for (copy, path) in copies.iter().zip(superblock::PATHS) {
        if let SuperCopy::Newer { version } = *copy {
            return Err(Refusal::Newer { file: path.into(), version });
        }
    }
    if let Some((_, found)) = superblock::best(copies) {
        return Ok(found);
    }
    let names = segment_names(disk)?;
    let (first, last) = (names.first().copied(), names.last().copied());
    Err(Refusal::from(Damage {
        file: superblock::PATHS[0].into(),
        offset: 0,
        lsns: first.unwrap_or(Lsn(1))..=last.unwrap_or(Lsn(1)),
        fault: Fault::SuperLost,
    }))
}

/// Makes an empty store. SUPER comes last: while it is not there, there is no store.
fn create_store(disk: &dyn Disk, store: StoreId) -> Result<(), DiskError> {
    disk.create_dir(segment::DIR)?;
    disk.create_dir(QUARANTINE)?;
    disk.sync_dir("")?;
    let nothing = Watermark { lsn: Lsn::ZERO, chain: Chain::genesis(store), epoch: Epoch(0) };
    WatermarkFile::create(disk, store, &nothing)?;
    superblock::create(disk, &Super::new(store))
}

fn count_damaged(copies: &[SuperCopy; 2], slots: &Slots) -> u32 {
    let supers = copies.iter().filter(|copy| !matches!(copy, SuperCopy::Good(_))).count();
    let missing = if *copies == [SuperCopy::Missing; 2] { 0 } else { supers };
    let marks = slots.iter().filter(|slot| slot.is_none()).count();
    u32::try_from(missing + marks).unwrap_or(u32::MAX)
}
