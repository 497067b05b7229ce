//! Opening a log: pick the snapshot it begins at, verify everything after that, hand it to the
//! caller, decide what the tail is.
//!
//! In two steps, since the caller's state rests on the snapshot: [`prepare`] gives that, then
//! [`Prepared::replay`] the frames after it.
//!
//! Nothing but the epoch is written before the decision has been made, so opening is
//! idempotent: after a crash anywhere in it, it is simply done again. What follows from the
//! decision is written by [`Opened::begin`].

use std::ops::RangeInclusive;
use std::sync::Arc;

use super::base::{Base, covered};
use super::disk::{Access, Disk, DiskError, DiskFile};
use super::error::{Damage, Fault, OpenError, Refusal};
use super::frame::{Chain, Kind, Place, StoreId};
use super::reader::Index;
use super::segment;
use super::snapshot::Snapshot;
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
    /// The snapshot that the log begins at; 0: it begins with its first frame.
    pub snapshot: Lsn,
    /// An alarm: this snapshot, newer than the one that was taken, could not be used. Nothing
    /// is lost, but what stood in for it cannot be replaced by anything.
    pub snapshot_fallback: Option<Damage>,
    /// An alarm: the older snapshot does not open. Nothing is lost, but there is nothing to fall
    /// back on should the one that was taken be damaged.
    pub snapshot_older_damaged: Option<Damage>,
    /// An alarm: segments are gone that the newest snapshot covers. Nothing is lost, but there
    /// is nothing to fall back on should that snapshot be damaged.
    pub covered_missing: Option<Damage>,
}

/// Opens the log on `disk` for a caller that needs nothing of what a snapshot covers: as
/// [`prepare`] and [`Prepared::replay`] in one step.
///
/// # Errors
/// As these two.
///
/// # Panics
/// When `options.segment_bytes` is out of its range.
pub fn open<E>(
    disk: Arc<dyn Disk>,
    options: Options,
    apply: impl FnMut(Entry<'_>) -> Result<(), E>,
) -> Result<Opened, OpenError<E>> {
    prepare(disk, options)?.replay(apply)
}

/// Locks the log on `disk`, creating it when there is none, begins the next epoch and picks the
/// snapshot to go on from. No segment has been read yet.
///
/// # Errors
/// When the log is in use, of a later format or unreadable, or neither snapshot opens although
/// the log does not go back to its beginning. The directory is as it was but for the epoch.
///
/// # Panics
/// When `options.segment_bytes` is out of its range.
pub fn prepare(disk: Arc<dyn Disk>, options: Options) -> Result<Prepared, Refusal> {
    let allowed = SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX;
    assert!(allowed.contains(&options.segment_bytes), "the size of segments is within limits");
    let lock = lock(&*disk)?;
    let (supers, found) = begin_reign(&disk, options.store_if_new)?;
    let current = *supers.current();
    // Of fixed width: on a full disk a file can be overwritten but not grow.
    let holder = format!("{:<10} {:<10}\n", std::process::id(), current.epoch.0);
    lock.write_all_at(holder.as_bytes(), 0)?;

    let slots = watermark::read(&*disk, current.store)?;
    let base = Base::choose(&disk, &current)?;
    base.confirm(watermark::best(&slots))?;
    let healed = count_damaged(&found, &slots);
    let report = RecoveryReport { epoch: current.epoch, healed, ..RecoveryReport::default() };
    Ok(Prepared { disk, lock, options, supers, slots, base, report })
}

/// A log that is locked, with the snapshot that it begins at. Its segments come next.
pub struct Prepared {
    disk: Arc<dyn Disk>,
    lock: Arc<dyn DiskFile>,
    options: Options,
    supers: SuperFiles,
    slots: Slots,
    base: Base,
    report: RecoveryReport,
}

impl Prepared {
    /// The snapshot to begin with; `None`: begin with nothing.
    #[must_use]
    pub fn snapshot(&self) -> Option<&Snapshot> {
        self.base.snapshot.as_ref()
    }

    /// The reign that begins.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.report.epoch
    }

    /// Verifies every frame after the snapshot and hands each record to `apply` once, in order
    /// of LSN, all of a group or none of it.
    ///
    /// # Errors
    /// [`OpenError::Refused`] when the log is damaged, of a later format or unreadable;
    /// [`OpenError::Apply`] when `apply` fails. Either way the directory is as it was but for
    /// the epoch.
    pub fn replay<E>(
        self,
        mut apply: impl FnMut(Entry<'_>) -> Result<(), E>,
    ) -> Result<Opened, OpenError<E>> {
        let Prepared { disk, lock, options, supers, slots, base, mut report } = self;
        let current = *supers.current();
        report.snapshot = base.snapshot.as_ref().map_or(Lsn::ZERO, |found| found.head().lsn);
        report.snapshot_fallback = base.damaged.first().map(|(_, damage)| damage.clone());
        report.snapshot_older_damaged.clone_from(&base.older_damaged);
        let (covered, missing) = covered(&*disk, &current, report.snapshot)?;
        report.covered_missing = missing;
        let mut walk = Walk {
            disk: &*disk,
            current,
            watermark: watermark::best(&slots),
            cursor: base.cursor(&current, watermark::best(&slots)),
            index: Index::default(),
            report,
            tail: None,
        };
        walk.segments(&mut apply)?;
        let tail = walk.decide(options.tail)?;
        let Walk { cursor, index, mut report, .. } = walk;
        report.clean_shutdown = current.clean == cursor.last() && current.clean > Lsn::ZERO;
        Ok(Opened {
            disk,
            lock,
            options,
            supers,
            slots,
            base,
            covered,
            index,
            tail,
            cursor,
            report,
        })
    }
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
