//! The log as its one writer sees it: append to a buffer, sync, rotate, mark, close.

use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};

use super::base::Covered;
use super::disk::{Disk, DiskFile};
use super::error::Error;
use super::frame::{self, Chain, Kind, Place, Seeds, Stamp, StoreId};
use super::install::SnapshotInfo;
use super::reader::{Index, Offset, Reader, SegmentIndex};
use super::retain::Keeper;
use super::segment::{self, FRAMES_AT, SealPayload, SegmentHeader};
use super::spare::Spare;
use super::superblock::SuperFiles;
use super::watermark::{Watermark, WatermarkFile};
use crate::ids::{Epoch, Lsn};
use crate::limits::{FRAME_HEADER_BYTES, PAYLOAD_BYTES_MAX};

/// Bytes that every segment keeps free for its seal.
pub(super) const SEAL_BYTES: u64 = (FRAME_HEADER_BYTES + SealPayload::BYTES) as u64;

/// An open log. Owned by one thread; others use its [`Reader`].
///
/// Invariants: `next_lsn` is one above the last appended frame; `durable` never exceeds it, and
/// frames above `durable` are all in the buffer. After an error other than
/// [`Error::NoSpace`] the log is poisoned: whether buffered frames reached the disk is unknown,
/// and nothing can be appended or synced any more.
pub struct Log {
    pub(super) disk: Arc<dyn Disk>,
    /// Released when dropped.
    pub(super) _lock: Arc<dyn DiskFile>,
    pub(super) supers: SuperFiles,
    pub(super) watermark: WatermarkFile,
    pub(super) spare: Spare,
    pub(super) index: Arc<RwLock<Index>>,
    pub(super) current: Current,
    pub(super) store: StoreId,
    pub(super) epoch: Epoch,
    /// The last appended frame.
    pub(super) last: Watermark,
    /// The last durable frame.
    pub(super) durable: Watermark,
    /// What the last appended frame holds.
    pub(super) last_kind: Kind,
    pub(super) is_poisoned: bool,
    /// A frame was refused for want of space.
    pub(super) was_refused: bool,
    /// The newest snapshot in force.
    pub(super) snapshot: Option<SnapshotInfo>,
    /// Segments that it covers and that SUPER still asks for, in order.
    pub(super) covered: Vec<Covered>,
    pub(super) keeper: Arc<Keeper>,
}

/// The segment that is being written.
pub(super) struct Current {
    file: Arc<dyn DiskFile>,
    seeds: Seeds,
    pub(super) first: Lsn,
    /// Its frames so far that are handed to the layer above when the log is opened.
    pub(super) delivered: u64,
    /// Size of the file.
    bytes: u64,
    /// After the last frame written to the file.
    written: u64,
    /// Frames not yet written.
    buffer: Vec<u8>,
    /// Their offsets.
    offsets: Vec<Offset>,
}

impl Current {
    pub(super) fn new(file: Arc<dyn DiskFile>, seeds: Seeds, first: Lsn, bytes: u64) -> Current {
        let (written, buffer, offsets) = (FRAMES_AT, Vec::new(), Vec::new());
        let delivered = 0;
        Current { file, seeds, first, delivered, bytes, written, buffer, offsets }
    }

    /// Where the next frame will stand.
    fn end(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    fn has_room(&self, frames_bytes: u64) -> bool {
        self.end() + frames_bytes + SEAL_BYTES <= self.bytes
    }
}

/// How much can still be appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// The next segment is ready, or being prepared.
    Ample,
    /// The disk was too full to prepare the next segment. What frees space or work, such as
    /// acks, may use the rest of the current one; new work must wait.
    Reserved,
    /// The current segment is used up too.
    Full,
}

impl Log {
    /// Appends a frame to the buffer and returns its LSN. Not durable before [`Log::sync`].
    ///
    /// When the segment is full, seals and syncs it and begins the next one.
    ///
    /// # Errors
    /// [`Error::NoSpace`] when the next segment is needed and cannot be had: nothing was
    /// appended. Any other error poisons the log.
    ///
    /// # Panics
    /// When `kind` is one that the log itself writes, or the payload exceeds
    /// [`PAYLOAD_BYTES_MAX`].
    pub fn append(&mut self, kind: Kind, payload: &[u8]) -> Result<Lsn, Error> {
        assert!(matches!(kind, Kind::Record | Kind::StateHash), "other kinds are the log's own");
        assert!(payload.len() <= PAYLOAD_BYTES_MAX, "a payload fits its limit");
        self.make_room(frame::frame_bytes(payload.len()) as u64)?;
        Ok(self.push(kind, Place::Alone, payload))
    }

    /// Appends records as one group: after a crash all of them are there, or none. Returns the
    /// LSN of the first; the others follow it.
    ///
    /// A group never spans segments. One that is larger than a segment gets a larger segment.
    ///
    /// # Errors
    /// As [`Log::append`].
    ///
    /// # Panics
    /// When there are no payloads, or one exceeds [`PAYLOAD_BYTES_MAX`].
    pub fn append_group<'a, P>(&mut self, payloads: P) -> Result<Lsn, Error>
    where
        P: IntoIterator<Item = &'a [u8], IntoIter: ExactSizeIterator + Clone>,
    {
        let payloads = payloads.into_iter();
        let count = payloads.len();
        assert!(count > 0, "a group has at least one record");
        assert!(payloads.clone().all(|one| one.len() <= PAYLOAD_BYTES_MAX), "payloads fit");
        let bytes = payloads.clone().map(|one| frame::frame_bytes(one.len()) as u64).sum();
        self.make_room(bytes)?;
        let first = self.next_lsn();
        for (place, payload) in payloads.enumerate() {
            self.push(Kind::Record, Place::of(place, count), payload);
        }
        Ok(first)
    }

    /// Makes all appended frames durable; returns the last one's LSN.
    ///
    /// One positioned write and one sync. Then readers see the frames, and WATERMARK is written
    /// without waiting for it.
    ///
    /// # Errors
    /// When the disk fails. It is never tried again: after a failed sync the system may have
    /// thrown the data away and call it clean. The log is poisoned.
    pub fn sync(&mut self) -> Result<Lsn, Error> {
        self.check()?;
        if self.durable.lsn < self.last.lsn {
            let flushed = self.flush();
            self.poison_on_error(flushed)?;
        }
        Ok(self.durable.lsn)
    }

    /// Writes a [`Kind::Mark`] and syncs it, unless the last frame is one already.
    ///
    /// To be called when the log has fallen quiet: the last batch's own headers cannot say that
    /// it became durable, a frame after it can. Skipped when there is no room for it.
    ///
    /// # Errors
    /// As [`Log::sync`].
    pub fn mark(&mut self) -> Result<Lsn, Error> {
        self.sync()?;
        if self.last_kind == Kind::Mark {
            return Ok(self.durable.lsn);
        }
        match self.make_room(FRAME_HEADER_BYTES as u64) {
            Err(Error::NoSpace) => return Ok(self.durable.lsn),
            made => made?,
        }
        self.push(Kind::Mark, Place::Alone, &[]);
        self.sync()
    }

    /// Ends the reign in order: all frames durable, and SUPER says so. The lock is released.
    ///
    /// # Errors
    /// As [`Log::sync`]; then the next opening finds a reign that did not end in order, which
    /// does no harm.
    pub fn close(mut self) -> Result<(), Error> {
        let last = self.mark()?;
        self.supers.update(|next| next.clean = last)?;
        Ok(())
    }

    /// The LSN that the next frame gets. A rotation in between may take one for its seal.
    #[must_use]
    pub fn next_lsn(&self) -> Lsn {
        self.last.lsn.next()
    }

    /// The chain of the last appended frame: with its LSN, a receipt for it.
    #[must_use]
    pub fn chain(&self) -> Chain {
        self.last.chain
    }

    /// Bytes appended and not yet synced.
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        self.current.buffer.len()
    }

    /// The last durable frame: its LSN and chain.
    #[must_use]
    pub fn durable(&self) -> Watermark {
        self.durable
    }

    /// This reign.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The store's identity.
    #[must_use]
    pub fn store(&self) -> StoreId {
        self.store
    }

    /// Whether an earlier call failed, so that nothing can be appended any more.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.is_poisoned
    }

    /// How much can still be appended. Changes by itself when space comes back.
    #[must_use]
    pub fn space(&self) -> Space {
        match (self.spare.is_out_of_space(), self.was_refused) {
            (false, _) => Space::Ample,
            (true, false) => Space::Reserved,
            (true, true) => Space::Full,
        }
    }

    /// Tries at once to prepare the next segment if the disk was too full for it. Needed only
    /// with [`Preparer::Inline`](super::Preparer::Inline); a thread tries once a second.
    pub fn retry_space(&mut self) {
        self.spare.retry();
    }

    /// Where its files are.
    #[must_use]
    pub fn disk(&self) -> Arc<dyn Disk> {
        Arc::clone(&self.disk)
    }

    /// A reader of durable frames.
    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader::new(Arc::clone(&self.disk), Arc::clone(&self.index))
    }

    /// Bytes of the segments on the disk, covered or not, with what is prepared ahead.
    #[must_use]
    pub fn bytes_on_disk(&self) -> u64 {
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        let ahead = self.current.bytes - self.current.written;
        let covered: u64 = self.covered.iter().map(|segment| segment.bytes).sum();
        covered + index.bytes() + ahead + self.spare.bytes()
    }

    /// Encodes a frame into the buffer. There must be room for it.
    pub(super) fn push(&mut self, kind: Kind, place: Place, payload: &[u8]) -> Lsn {
        let at = self.current.end();
        let stamp = Stamp {
            lsn: self.last.lsn.next(),
            durable: self.durable.lsn,
            link: self.last.chain.link(),
            epoch: self.epoch,
            kind,
            place,
        };
        let Current { seeds, buffer, offsets, .. } = &mut self.current;
        let chain = frame::encode(buffer, *seeds, at, &stamp, payload);
        offsets.push(Offset::new(at));
        self.last = Watermark { lsn: stamp.lsn, chain, epoch: self.epoch };
        self.last_kind = kind;
        self.current.delivered += u64::from(kind.is_delivered());
        assert!(self.current.end() <= self.current.bytes, "frames stay within their segment");
        stamp.lsn
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        if self.is_poisoned { Err(Error::Poisoned) } else { Ok(()) }
    }

    pub(super) fn poison_on_error<T>(&mut self, result: Result<T, Error>) -> Result<T, Error> {
        self.is_poisoned |= !matches!(result, Ok(_) | Err(Error::NoSpace));
        result
    }

    /// Makes sure that frames of this many bytes fit the current segment.
    fn make_room(&mut self, frames_bytes: u64) -> Result<(), Error> {
        self.check()?;
        if self.current.has_room(frames_bytes) {
            return Ok(());
        }
        let rotated = self.turn_over(frames_bytes);
        self.was_refused = matches!(rotated, Err(Error::NoSpace));
        self.poison_on_error(rotated)
    }

    /// Seals the current segment and goes on in the next one.
    pub(super) fn turn_over(&mut self, frames_bytes: u64) -> Result<(), Error> {
        // First what may fail without harm: without a next segment this one stays open.
        let (spare, bytes) = self.spare.take(FRAMES_AT + frames_bytes + SEAL_BYTES)?;
        let count = self.next_lsn().0 - self.current.first.0;
        let seal = SealPayload { count, chain: self.last.chain };
        self.push(Kind::Seal, Place::Alone, &seal.encode());
        self.flush()?;

        let (store, epoch) = (self.store, self.epoch);
        let first = self.next_lsn();
        let header = SegmentHeader { store, first, epoch, chain: self.last.chain };
        let file = segment::install(&*self.disk, &*spare, &header)?;
        self.supers.update(|next| next.newest = first)?;
        self.spare.replenish();
        let next = Current::new(Arc::clone(&file), Seeds::new(store, first), first, bytes);
        let sealed = std::mem::replace(&mut self.current, next);
        self.index().push(SegmentIndex::empty(&header, file));
        // The seal is durable and SUPER names the next segment: the zeros left over are of no
        // use to anyone. A crash before this leaves them, which recovery allows.
        sealed.file.set_len(sealed.written)?;
        Ok(())
    }

    /// Writes and syncs the buffer and tells everybody.
    fn flush(&mut self) -> Result<(), Error> {
        let current = &mut self.current;
        current.file.write_all_at(&current.buffer, current.written)?;
        current.file.sync_data()?;
        current.written = current.end();
        current.buffer.clear();
        self.durable = self.last;
        self.publish();
        self.watermark.write(&self.durable)?;
        Ok(())
    }

    fn publish(&mut self) {
        let offsets = std::mem::take(&mut self.current.offsets);
        let end = Offset::new(self.current.written);
        let mut index = self.index();
        let newest = index.newest().expect("the current segment is in the index");
        newest.offsets.extend_from_slice(&offsets);
        newest.end = end;
        drop(index);
        // Its memory is used again: appending must not allocate.
        self.current.offsets = offsets;
        self.current.offsets.clear();
    }

    pub(super) fn index(&self) -> RwLockWriteGuard<'_, Index> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SegmentIndex {
    /// A segment without frames.
    pub(super) fn empty(header: &SegmentHeader, file: Arc<dyn DiskFile>) -> SegmentIndex {
        SegmentIndex {
            first: header.first,
            seeds: Seeds::new(header.store, header.first),
            offsets: Vec::new(),
            end: Offset::new(FRAMES_AT),
            file: Some(file),
        }
    }
}
