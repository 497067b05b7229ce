//! From a verified log to one that takes frames: tidy the tail, seal it, begin a new segment.

use std::ops::RangeInclusive;
use std::sync::{Arc, RwLock};

use super::base::{Base, Covered};
use super::disk::{Access, Disk, DiskError, DiskFile};
use super::error::Error;
use super::frame::{self, Kind, Place, Seeds, Stamp};
use super::loss::Loss;
use super::reader::{Index, Offset, SegmentIndex};
use super::recovery::{Options, RecoveryReport};
use super::retain::{self, Keeper};
use super::scan::Cursor;
use super::segment::{self, FRAMES_AT, SealPayload, SegmentHeader};
use super::snapshot::{Snapshot, snapshot_path};
use super::spare::Spare;
use super::superblock::SuperFiles;
use super::walk::Tail;
use super::watermark::{Slots, Watermark, WatermarkFile};
use super::writer::{Current, Log, SEAL_BYTES};
use super::{QUARANTINE, to_usize};
use crate::ids::{Epoch, Lsn};
use crate::limits::SCAN_CHUNK_BYTES;

/// A log that was verified and read. Nothing was appended yet.
pub struct Opened {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) lock: Arc<dyn DiskFile>,
    pub(super) options: Options,
    pub(super) supers: SuperFiles,
    pub(super) slots: Slots,
    pub(super) base: Base,
    pub(super) covered: Vec<Covered>,
    pub(super) index: Index,
    /// `None` in a store without segments.
    pub(super) tail: Option<Tail>,
    /// After the last good frame.
    pub(super) cursor: Cursor,
    pub(super) report: RecoveryReport,
}

impl Opened {
    /// The reign that begins.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.report.epoch
    }

    /// The snapshot that the log begins at.
    #[must_use]
    pub fn snapshot(&self) -> Option<&Snapshot> {
        self.base.snapshot.as_ref()
    }

    /// What was found.
    #[must_use]
    pub fn report(&self) -> &RecoveryReport {
        &self.report
    }

    /// Seals the old tail and begins a new segment with a [`Kind::Opened`] frame that holds
    /// `payload`. When it returns, that frame and all that was delivered are durable.
    ///
    /// The old tail is never appended to: what a failed sync left in the page cache must not be
    /// mistaken for what is on the disk.
    ///
    /// A snapshot that did not open is moved to `quarantine/`, and SUPER forgets it. Segments
    /// and snapshots that SUPER does not ask for are removed.
    ///
    /// # Errors
    /// [`Error::NoSpace`] when not even the smallest segment can be had; else as
    /// [`Log::sync`]. Open again after any of them.
    pub fn begin(mut self, payload: &[u8]) -> Result<Log, Error> {
        if let Some(tail) = self.tail.take() {
            self.settle(&tail)?;
        }
        let (store, epoch) = (self.supers.current().store, self.epoch());
        let durable = Watermark { lsn: self.cursor.last(), chain: self.cursor.chain, epoch };
        if self.slots.contains(&None) {
            WatermarkFile::create(&*self.disk, store, &durable)?;
            self.slots = [Some(durable); 2];
        }
        let watermark = WatermarkFile::open(&*self.disk, store, &self.slots)?;
        let disk = Arc::clone(&self.disk);
        let mut spare = Spare::new(disk, self.options.segment_bytes, self.options.preparer);
        let opened = frame::frame_bytes(payload.len()) as u64;
        let (file, bytes) = spare.take_any(FRAMES_AT + opened + SEAL_BYTES)?;
        let first = durable.lsn.next();
        let header = SegmentHeader { store, first, epoch, chain: durable.chain };
        let file = segment::install(&*self.disk, &*file, &header)?;
        self.set_aside_snapshots()?;
        let rests_on = self.base.is_fallback().then(|| self.base.named(self.supers.current()));
        let begins_at = self.report.snapshot.next();
        self.supers.update(|next| {
            next.newest = first;
            next.clean = Lsn::ZERO;
            if let Some(kept) = rests_on {
                next.rest_on(kept, begins_at);
            }
        })?;
        // Left by a crash: it was of no use then, and it is of none now. A disk that does not
        // let it go is no reason not to open.
        drop(retain::tidy(&*self.disk, self.supers.current()));
        spare.replenish();
        self.index.push(SegmentIndex::empty(&header, Arc::clone(&file)));
        let current = Current::new(file, Seeds::new(store, first), first, bytes);
        let mut log = self.into_log(watermark, durable, spare, current);
        log.push(Kind::Opened, Place::Alone, payload);
        log.sync()?;
        Ok(log)
    }

    /// The log, about to write its first frame into `current`.
    fn into_log(
        self,
        watermark: WatermarkFile,
        durable: Watermark,
        spare: Spare,
        current: Current,
    ) -> Log {
        Log {
            store: self.supers.current().store,
            epoch: self.report.epoch,
            snapshot: self.base.info(),
            keeper: Keeper::new(Arc::clone(&self.disk)),
            disk: self.disk,
            _lock: self.lock,
            supers: self.supers,
            watermark,
            spare,
            index: Arc::new(RwLock::new(self.index)),
            current,
            last: durable,
            durable,
            last_kind: Kind::Seal,
            is_poisoned: false,
            was_refused: false,
            covered: self.covered,
        }
    }

    /// Moves snapshots that do not open to `quarantine/`, before SUPER forgets them: so the
    /// next one that is installed has one beside it that does.
    fn set_aside_snapshots(&mut self) -> Result<(), DiskError> {
        for (named, _) in &self.base.damaged {
            let path = snapshot_path(named.lsn);
            set_aside(&*self.disk, &path, self.report.epoch)?;
        }
        Ok(())
    }

    /// Makes the tail what its verdict says, durably, and seals it.
    fn settle(&mut self, tail: &Tail) -> Result<(), Error> {
        let file = self.disk.open(&segment::path(tail.first), Access::Write)?;
        if tail.rubbish_end > tail.end {
            self.quarantine(&*file, tail)?;
            file.set_len(tail.end)?;
            // The cut before the seal: a torn seal amid old rubbish could not be told from
            // damage.
            file.sync_data()?;
        }
        // Frames above the highest durable LSN may be known to the page cache only, if the sync
        // of an earlier reign failed. Written again they are dirty again, so that this sync
        // reaches them. Reading past the cache (O_DIRECT) would show what the disk has, but
        // its rules for alignment differ by file system, and stale pages would stay behind.
        let mut bytes = vec![0; to_usize(tail.end - tail.proven)];
        file.read_full_at(&mut bytes, tail.proven)?;
        if !tail.sealed {
            if let Some(lsns) = &tail.loss {
                self.append_loss(tail, &mut bytes, lsns);
            }
            self.append_seal(tail, &mut bytes);
        }
        if !bytes.is_empty() {
            file.write_all_at(&bytes, tail.proven)?;
            file.sync_data()?;
        }
        let end = tail.proven + bytes.len() as u64;
        // Only now: what is cut off here is zeros, and a seal says that nothing follows it.
        file.set_len(end)?;
        let newest = self.index.newest().expect("the tail was indexed");
        newest.end = Offset::new(end);
        Ok(())
    }

    /// Copies what will be cut, durably.
    fn quarantine(&self, file: &dyn DiskFile, tail: &Tail) -> Result<(), DiskError> {
        self.disk.create_dir(QUARANTINE)?;
        self.disk.sync_dir("")?;
        let name = format!("{QUARANTINE}/{:020}.{}.tail", self.cursor.next.0, self.epoch());
        let copy = self.disk.create(&name)?;
        copy_bytes(file, tail.end..tail.rubbish_end, &*copy)?;
        copy.sync_data()?;
        self.disk.sync_dir(QUARANTINE)
    }

    fn append_loss(&mut self, tail: &Tail, out: &mut Vec<u8>, lsns: &RangeInclusive<Lsn>) {
        let loss = Loss { last: *lsns.end(), known_from: self.epoch() };
        self.append(tail, out, Kind::Loss, &loss.encode());
        let newest = self.index.newest().expect("the tail was indexed");
        let lost = to_usize(lsns.end().0 - lsns.start().0);
        newest.offsets.resize(newest.offsets.len() + lost, Offset::NONE);
        self.cursor.next = lsns.end().next();
        self.report.losses.push(lsns.clone());
    }

    fn append_seal(&mut self, tail: &Tail, out: &mut Vec<u8>) {
        let count = self.cursor.next.0 - tail.first.0;
        let seal = SealPayload { count, chain: self.cursor.chain };
        self.append(tail, out, Kind::Seal, &seal.encode());
    }

    fn append(&mut self, tail: &Tail, out: &mut Vec<u8>, kind: Kind, payload: &[u8]) {
        let stamp = Stamp {
            lsn: self.cursor.next,
            durable: self.report.durable,
            link: self.cursor.chain.link(),
            epoch: self.epoch(),
            kind,
            place: Place::Alone,
        };
        let at = tail.proven + out.len() as u64;
        let seeds = Seeds::new(self.supers.current().store, tail.first);
        self.cursor.chain = frame::encode(out, seeds, at, &stamp, payload);
        self.cursor.next = stamp.lsn.next();
        let newest = self.index.newest().expect("the tail was indexed");
        newest.offsets.push(Offset::new(at));
    }
}

/// Moves a file to `quarantine/`, durably, and gives its path there. `None`: it is not there.
pub(super) fn set_aside(
    disk: &dyn Disk,
    path: &str,
    epoch: Epoch,
) -> Result<Option<Box<str>>, DiskError> {
    let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
    let aside = format!("{QUARANTINE}/{name}.{epoch}");
    disk.create_dir(QUARANTINE)?;
    disk.sync_dir("")?;
    match disk.rename(path, &aside) {
        Err(error) if error.is_not_found() => return Ok(None),
        renamed => renamed?,
    }
    disk.sync_dir(QUARANTINE)?;
    disk.sync_dir(dir)?;
    Ok(Some(aside.into()))
}

/// Copies a part of one file to the beginning of another.
pub(super) fn copy_bytes(
    from: &dyn DiskFile,
    part: std::ops::Range<u64>,
    to: &dyn DiskFile,
) -> Result<(), DiskError> {
    let mut buffer = vec![0; to_usize(part.end - part.start).min(SCAN_CHUNK_BYTES)];
    let mut at = part.start;
    while at < part.end {
        let wanted = to_usize(part.end - at).min(buffer.len());
        let read = from.read_full_at(&mut buffer[..wanted], at)?;
        if read == 0 {
            break;
        }
        to.write_all_at(&buffer[..read], at - part.start)?;
        at += read as u64;
    }
    Ok(())
}
