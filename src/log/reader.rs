//! Reading single frames by LSN, beside the writer.
//!
//! An [`Index`] holds where each durable frame stands: four bytes a frame. The writer publishes
//! to it once per sync, so that a reader can never see what a crash could take back. Each read
//! verifies both checksums again: a disk that rots while we run is noticed here.

use std::sync::{Arc, PoisonError, RwLock};

use super::disk::{Access, Disk, DiskFile};
use super::error::ReadError;
use super::frame::{self, Kind, Seeds};
use super::{segment, to_usize};
use crate::ids::Lsn;
use crate::limits::{FRAME_ALIGN, SEGMENT_FILES_OPEN_MAX};

/// Where the frames of a log stand that no snapshot covers.
#[derive(Default)]
pub(super) struct Index {
    /// In order.
    segments: Vec<SegmentIndex>,
}

/// Where the frames of one segment stand.
pub(super) struct SegmentIndex {
    pub(super) first: Lsn,
    pub(super) seeds: Seeds,
    /// Of each LSN from `first` on; [`Offset::NONE`] for one that was lost.
    pub(super) offsets: Vec<Offset>,
    /// After the last frame.
    pub(super) end: Offset,
    /// `None`: to be opened for each read.
    pub(super) file: Option<Arc<dyn DiskFile>>,
}

/// A frame's offset in its segment, in units of [`FRAME_ALIGN`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Offset(u32);

impl Offset {
    /// No frame: where each segment has its header.
    pub(super) const NONE: Offset = Offset(0);

    pub(super) fn new(at: u64) -> Offset {
        Offset(u32::try_from(at / FRAME_ALIGN as u64).expect("segments are below 32 GiB"))
    }

    pub(super) fn bytes(self) -> u64 {
        u64::from(self.0) * FRAME_ALIGN as u64
    }
}

impl Index {
    /// Adds a segment after all others, and closes the file of one that has grown old.
    pub(super) fn push(&mut self, segment: SegmentIndex) {
        self.segments.push(segment);
        if let Some(old) = self.segments.len().checked_sub(SEGMENT_FILES_OPEN_MAX + 1) {
            self.segments[old].file = None;
        }
    }

    /// The newest segment.
    pub(super) fn newest(&mut self) -> Option<&mut SegmentIndex> {
        self.segments.last_mut()
    }

    /// Drops the segments that end at or before `lsn`, and gives their first LSNs and the bytes
    /// of their files. The newest segment always stays.
    pub(super) fn drop_through(&mut self, lsn: Lsn) -> Vec<(Lsn, u64)> {
        let after = self.segments.partition_point(|segment| segment.first <= lsn);
        assert!(after < self.segments.len(), "the newest segment is not covered by a snapshot");
        let dropped = self.segments.drain(..after);
        let dropped = dropped.map(|segment| (segment.first, segment.end.bytes())).collect();
        // Files that are open count from the newest on, so nothing else changes.
        self.segments.shrink_to_fit();
        dropped
    }

    /// First LSN of each segment, and where its durable frames end.
    pub(super) fn extents(&self) -> impl Iterator<Item = (Lsn, u64)> {
        self.segments.iter().map(|segment| (segment.first, segment.end.bytes()))
    }

    /// Bytes of all segments, as far as they hold frames.
    pub(super) fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.end.bytes()).sum()
    }

    fn find(&self, lsn: Lsn) -> Option<Found> {
        let after = self.segments.partition_point(|segment| segment.first <= lsn);
        let segment = self.segments.get(after.checked_sub(1)?)?;
        let place = to_usize(lsn.0 - segment.first.0);
        let at = *segment.offsets.get(place)?;
        if at == Offset::NONE {
            return None;
        }
        let end = match segment.offsets.get(place + 1) {
            None => segment.end,
            // The frame before a loss is followed by the loss's own frame, so what is followed by
            // none is a loss of several LSNs: trails lead to it.
            Some(&Offset::NONE) => return None,
            Some(&end) => end,
        };
        Some(Found {
            first: segment.first,
            seeds: segment.seeds,
            file: segment.file.clone(),
            at: at.bytes(),
            len: to_usize(end.bytes() - at.bytes()),
        })
    }
}

impl SegmentIndex {
    /// The offset of the first frame at or after `lsn`; the end if there is none.
    pub(super) fn offset_from(&self, lsn: Lsn) -> u64 {
        let skipped = to_usize(lsn.0.saturating_sub(self.first.0));
        let mut rest = self.offsets.iter().skip(skipped);
        rest.find(|&&at| at != Offset::NONE).unwrap_or(&self.end).bytes()
    }
}

struct Found {
    first: Lsn,
    seeds: Seeds,
    file: Option<Arc<dyn DiskFile>>,
    at: u64,
    len: usize,
}

/// Reads durable frames. Cheap to clone; used from any thread, also after the log is closed.
#[derive(Clone)]
pub struct Reader {
    disk: Arc<dyn Disk>,
    index: Arc<RwLock<Index>>,
}

impl Reader {
    pub(super) fn new(disk: Arc<dyn Disk>, index: Arc<RwLock<Index>>) -> Reader {
        Reader { disk, index }
    }

    /// Reads the payload of frame `lsn` into `payload`, replacing what was there.
    ///
    /// # Errors
    /// [`ReadError::NotFound`] unless the frame is durable, was not lost and stands above the
    /// newest snapshot;
    /// [`ReadError::Damaged`] when a checksum fails; what `payload` holds then is undefined.
    pub fn read(&self, lsn: Lsn, payload: &mut Vec<u8>) -> Result<Kind, ReadError> {
        let found = self.find(lsn)?;
        let file = match &found.file {
            Some(file) => Arc::clone(file),
            None => self.open(found.first)?,
        };
        payload.resize(found.len, 0);
        let read = file.read_full_at(payload, found.at)?;
        payload.truncate(read);
        found.unwrap_payload(lsn, payload)
    }

    /// As [`read`](Reader::read), but only what needs no waiting for the disk. `None`: use
    /// [`read`](Reader::read), where waiting does no harm.
    ///
    /// # Errors
    /// As [`read`](Reader::read).
    pub fn read_cached(&self, lsn: Lsn, payload: &mut Vec<u8>) -> Result<Option<Kind>, ReadError> {
        let found = self.find(lsn)?;
        let Some(file) = &found.file else {
            return Ok(None);
        };
        payload.resize(found.len, 0);
        match file.read_at_cached(payload, found.at)? {
            Some(read) if read == found.len => found.unwrap_payload(lsn, payload).map(Some),
            _ => Ok(None),
        }
    }

    /// Opens an old segment. One that is gone was covered by a snapshot since we looked.
    fn open(&self, first: Lsn) -> Result<Arc<dyn DiskFile>, ReadError> {
        match self.disk.open(&segment::path(first), Access::Read) {
            Err(error) if error.is_not_found() => Err(ReadError::NotFound),
            opened => Ok(opened?),
        }
    }

    fn find(&self, lsn: Lsn) -> Result<Found, ReadError> {
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        index.find(lsn).ok_or(ReadError::NotFound)
    }
}

impl Found {
    /// Verifies the frame in `bytes` and leaves only its payload there.
    fn unwrap_payload(&self, lsn: Lsn, bytes: &mut Vec<u8>) -> Result<Kind, ReadError> {
        let header = frame::decode_header(bytes, self.seeds, self.at);
        let header = header.and_then(|header| {
            frame::verify(bytes, &header, self.seeds)?;
            if header.stamp.lsn == lsn { Ok(header) } else { Err(frame::Flaw::OutOfOrder) }
        });
        let header = header.map_err(|_| ReadError::Damaged {
            file: segment::path(self.first).into(),
            offset: self.at,
        })?;
        if header.stamp.kind == Kind::Loss {
            return Err(ReadError::NotFound);
        }
        bytes.copy_within(crate::limits::FRAME_HEADER_BYTES.., 0);
        bytes.truncate(header.payload_len);
        Ok(header.stamp.kind)
    }
}
