//! One segment's frames, verified and delivered in one pass.

use std::sync::Arc;

use super::disk::{DiskError, DiskFile};
use super::error::{Fault, OpenError, Refusal};
use super::frame::{self, Flaw, Header, Kind, Seeds, StoreId};
use super::loss::Loss;
use super::reader::{Offset, SegmentIndex};
use super::recovery::{Entry, RecoveryReport};
use super::scan::{Cursor, Window, frame_at};
use super::segment::FRAMES_AT;
use super::to_usize;
use crate::ids::Lsn;
use crate::limits::FRAME_HEADER_BYTES;

/// What became of a segment's frames.
pub(super) struct Scanned {
    /// The segment's first LSN.
    pub(super) first: Lsn,
    pub(super) seeds: Seeds,
    /// The cursor at the segment's beginning.
    pub(super) before: Cursor,
    /// Of each LSN up to the last whole group.
    pub(super) offsets: Vec<Offset>,
    /// After the last whole group.
    pub(super) end: u64,
    /// The first frame that is not good; after `end` when a group is incomplete.
    pub(super) bad: u64,
    /// What is wrong with it; `None` after a seal.
    pub(super) fault: Option<Fault>,
    /// Whether the last frame is a seal.
    pub(super) sealed: bool,
}

impl Scanned {
    /// The index of these frames, moved out.
    pub(super) fn take_index(&mut self, file: Arc<dyn DiskFile>) -> SegmentIndex {
        SegmentIndex {
            first: self.first,
            seeds: self.seeds,
            offsets: std::mem::take(&mut self.offsets),
            end: Offset::new(self.end),
            file: Some(file),
        }
    }
}

/// A pass over a segment.
pub(super) struct Replay<'a> {
    window: Window<'a>,
    file: &'a dyn DiskFile,
    scanned: Scanned,
}

impl<'a> Replay<'a> {
    /// A pass over the segment in `file` that begins at `before`.
    pub(super) fn new(
        file: &'a dyn DiskFile,
        store: StoreId,
        before: Cursor,
    ) -> Result<Replay<'a>, DiskError> {
        let scanned = Scanned {
            first: before.next,
            seeds: Seeds::new(store, before.next),
            before,
            offsets: Vec::new(),
            end: FRAMES_AT,
            bad: FRAMES_AT,
            fault: None,
            sealed: false,
        };
        Ok(Replay { window: Window::new(file, FRAMES_AT)?, file, scanned })
    }

    /// What the pass found.
    pub(super) fn finish(self) -> Scanned {
        self.scanned
    }

    /// Verifies frames up to the seal or the first that is not good, and delivers whole groups.
    /// Leaves `cursor` after the last whole group.
    pub(super) fn run<E>(
        &mut self,
        cursor: &mut Cursor,
        report: &mut RecoveryReport,
        apply: &mut impl FnMut(Entry<'_>) -> Result<(), E>,
    ) -> Result<(), OpenError<E>> {
        // Ahead of `cursor` within a group, of which nobody hears before it is whole.
        let mut ahead = *cursor;
        let mut delivered = 0;
        let fault = loop {
            let header = match self.step(&mut ahead)? {
                Ok(header) => header,
                Err(fault) => break Some(fault),
            };
            if !header.stamp.place.is_last() {
                continue;
            }
            self.deliver(report, apply)?;
            *cursor = ahead;
            delivered = self.scanned.offsets.len();
            self.scanned.end = self.scanned.bad;
            if header.stamp.kind == Kind::Seal {
                self.scanned.sealed = true;
                break None;
            }
        };
        self.scanned.offsets.truncate(delivered);
        self.scanned.fault = fault;
        Ok(())
    }

    /// Steps over one frame.
    fn step(&mut self, ahead: &mut Cursor) -> Result<Result<Header, Fault>, Refusal> {
        let Scanned { first, seeds, bad: at, end, .. } = self.scanned;
        self.window.keep_from(end);
        let (header, chain) = match frame_at(&mut self.window, at, seeds)? {
            Ok(found) => found,
            Err(Flaw::Newer { version }) => {
                let (file, version) = (self.file.path().into(), u32::from(version));
                return Err(Refusal::Newer { file, version });
            }
            Err(flaw) => return Ok(Err(Fault::Frame(flaw))),
        };
        let stamp = &header.stamp;
        let bytes = self.window.get(at, header.frame_bytes())?;
        let payload = frame::payload(bytes, &header);
        if stamp.place.is_first() != (at == end) {
            return Ok(Err(Fault::Frame(Flaw::OutOfOrder)));
        }
        if let Err(flaw) = ahead.step(first, &header, chain, payload) {
            return Ok(Err(Fault::Frame(flaw)));
        }
        self.scanned.offsets.push(Offset::new(at));
        let lost = to_usize(ahead.next.0 - stamp.lsn.0) - 1;
        let offsets = &mut self.scanned.offsets;
        offsets.resize(offsets.len() + lost, Offset::NONE);
        self.scanned.bad = at + header.frame_bytes() as u64;
        Ok(Ok(header))
    }

    /// Hands the group between `end` and `bad` to the caller.
    fn deliver<E>(
        &mut self,
        report: &mut RecoveryReport,
        apply: &mut impl FnMut(Entry<'_>) -> Result<(), E>,
    ) -> Result<(), OpenError<E>> {
        let mut at = self.scanned.end;
        while at < self.scanned.bad {
            let header = frame::verified_header(self.window.get(at, FRAME_HEADER_BYTES)?);
            let bytes = self.window.get(at, header.frame_bytes())?;
            let (stamp, payload) = (&header.stamp, frame::payload(bytes, &header));
            if stamp.kind == Kind::Loss {
                let loss = Loss::decode(stamp.lsn, payload).expect("the cursor has read it");
                report.losses.push(stamp.lsn..=loss.last);
            }
            if stamp.kind.is_delivered() {
                let (lsn, epoch, kind, place) = (stamp.lsn, stamp.epoch, stamp.kind, stamp.place);
                apply(Entry { lsn, epoch, kind, place, payload }).map_err(OpenError::Apply)?;
                report.delivered += 1;
            }
            at += header.frame_bytes() as u64;
        }
        Ok(())
    }
}
