//! The walk over all segments after the snapshot, oldest first: each must be there, whole, and
//! go on from the one before it; the newest one's end is judged.

use std::ops::RangeInclusive;

use super::disk::{Access, Disk, DiskError, DiskFile};
use super::error::{Damage, Fault, OpenError, Refusal};
use super::page::{self, PAGE_BYTES};
use super::reader::Index;
use super::recovery::{Entry, RecoveryReport, TailPolicy, segment_names};
use super::replay::{Replay, Scanned};
use super::scan::{Cursor, Window};
use super::segment::{self, FRAMES_AT, SegmentHeader};
use super::superblock::{self, Super};
use super::survey::survey;
use super::tail::{Evidence, Residue, Verdict, WatermarkState, judge};
use super::watermark::Watermark;
use crate::ids::Lsn;

/// Where the newest segment ends, and what is to be done there.
pub(super) struct Tail {
    /// The segment's first LSN.
    pub(super) first: Lsn,
    /// After the last good frame.
    pub(super) end: u64,
    /// Whether that is a seal.
    pub(super) sealed: bool,
    /// Frames before this offset are durable for certain; from it on they may be in the page
    /// cache only.
    pub(super) proven: u64,
    /// Up to where rubbish follows; equal to `end` if there is none.
    pub(super) rubbish_end: u64,
    /// LSNs to be recorded as lost.
    pub(super) loss: Option<RangeInclusive<Lsn>>,
}

/// The walk over all segments.
pub(super) struct Walk<'a> {
    pub(super) disk: &'a dyn Disk,
    pub(super) current: Super,
    pub(super) watermark: Option<Watermark>,
    pub(super) cursor: Cursor,
    pub(super) index: Index,
    pub(super) report: RecoveryReport,
    /// The newest segment, when it has been read.
    pub(super) tail: Option<Scanned>,
}

impl Walk<'_> {
    /// Reads every segment that SUPER knows and the snapshot does not cover, oldest first.
    pub(super) fn segments<E>(
        &mut self,
        apply: &mut impl FnMut(Entry<'_>) -> Result<(), E>,
    ) -> Result<(), OpenError<E>> {
        let mut names = segment_names(self.disk)?;
        // What comes before is in the snapshot.
        let begin = self.cursor.next;
        names.retain(|&first| first >= begin);
        for (place, &first) in names.iter().enumerate() {
            if first > self.current.newest {
                break;
            }
            self.expect_segment(first)?;
            // What must be there is known from the segment after it, or for want of that from
            // SUPER.
            let next = names.get(place + 1).copied().unwrap_or(self.current.newest);
            self.segment(first, Lsn(next.0 - 1), apply)?;
        }
        let read_to = self.tail.as_ref().map_or(Lsn::ZERO, |tail| tail.first);
        if read_to != self.current.newest {
            let last = self.current.newest.max(self.durable());
            let file = segment::path(self.cursor.next);
            return Err(Refusal::from(self.damage(file, 0, last, Fault::SegmentMissing)).into());
        }
        self.unknown_segments(&names)?;
        if self.cursor.epoch >= self.current.epoch {
            let (file, lsns) =
                (superblock::PATHS[0].into(), self.current.oldest..=self.cursor.last());
            return Err(
                Refusal::from(Damage { file, offset: 0, lsns, fault: Fault::SuperBehind }).into()
            );
        }
        Ok(())
    }

    /// Checks that the segment that is there is the one that must come next.
    pub(super) fn expect_segment(&self, first: Lsn) -> Result<(), Refusal> {
        let next = self.cursor.next;
        if first > next {
            let (file, last) = (segment::path(next), Lsn(first.0 - 1));
            return Err(self.damage(file, 0, last, Fault::SegmentMissing).into());
        }
        if first < next {
            let (file, lsns) = (segment::path(first).into(), first..=self.cursor.last());
            let fault = Fault::SegmentUnexpected;
            return Err(Damage { file, offset: 0, lsns, fault }.into());
        }
        Ok(())
    }

    /// Reads one segment, the newest or one before it.
    pub(super) fn segment<E>(
        &mut self,
        first: Lsn,
        last: Lsn,
        apply: &mut impl FnMut(Entry<'_>) -> Result<(), E>,
    ) -> Result<(), OpenError<E>> {
        let file = self.disk.open(&segment::path(first), Access::Read)?;
        self.header(&*file, first, last)?;
        let mut replay = Replay::new(&*file, self.current.store, self.cursor)?;
        replay.run(&mut self.cursor, &mut self.report, apply)?;
        let mut scanned = replay.finish();
        self.report.segments += 1;
        self.report.bytes += scanned.end - FRAMES_AT;
        if let Some(fault) = scanned.fault.filter(|fault| fault.is_contradiction()) {
            let last = last.max(self.cursor.next);
            return Err(Refusal::from(self.hole(&*file, &scanned, last, fault)?).into());
        }
        if first != self.current.newest {
            self.require_whole(&*file, &scanned, last)?;
        }
        self.index.push(scanned.take_index(file));
        self.tail = Some(scanned);
        Ok(())
    }

    /// Checks a segment's first page.
    fn header(&mut self, file: &dyn DiskFile, first: Lsn, last: Lsn) -> Result<(), Refusal> {
        let mut page = [0; PAGE_BYTES];
        file.read_full_at(&mut page, 0)?;
        let fault = match SegmentHeader::decode(&page) {
            None => Fault::SegmentHeader,
            Some((version, _)) if version > page::FORMAT => {
                return Err(Refusal::Newer { file: file.path().into(), version });
            }
            Some((_, header)) if header.store != self.current.store => Fault::SegmentForeign,
            Some((_, header)) if header.first != first => Fault::SegmentMisplaced,
            Some((_, header)) => {
                let known = header.chain == self.cursor.chain || self.cursor.after_loss;
                if known && header.epoch >= self.cursor.epoch {
                    self.cursor.chain = header.chain;
                    return Ok(());
                }
                Fault::SegmentDiverges
            }
        };
        Err(self.damage(file.path().into(), 0, last.max(first), fault).into())
    }

    /// A segment that is not the newest must reach `last` or end in a seal, and end there. A
    /// seal before `last` is right: then the segment after it is missing.
    fn require_whole(
        &self,
        file: &dyn DiskFile,
        scanned: &Scanned,
        last: Lsn,
    ) -> Result<(), Refusal> {
        if self.cursor.next <= last && !scanned.sealed {
            let fault = scanned.fault.unwrap_or(Fault::Seal);
            return Err(self.hole(file, scanned, last, fault)?.into());
        }
        let follows = Window::new(file, scanned.end)?.first_nonzero(scanned.end)?;
        let fault = match follows {
            Some(_) => Fault::AfterSeal,
            None if !scanned.sealed && !self.cursor.after_loss => Fault::Seal,
            None => return Ok(()),
        };
        let lsns = scanned.first..=self.cursor.last();
        let offset = follows.unwrap_or(scanned.end);
        Err(Damage { file: file.path().into(), offset, lsns, fault }.into())
    }

    /// Segments that SUPER does not know: a crash while one was added leaves one at most, right
    /// after the sealed tail, without a frame.
    fn unknown_segments(&self, names: &[Lsn]) -> Result<(), Refusal> {
        let newest = self.current.newest;
        for &first in names.iter().filter(|&&first| first > newest) {
            let file = self.disk.open(&segment::path(first), Access::Read)?;
            let ended = newest == Lsn::ZERO || self.tail.as_ref().is_some_and(|tail| tail.sealed);
            let used = Window::new(&*file, FRAMES_AT)?.first_nonzero(FRAMES_AT)?;
            if first != self.cursor.next || !ended || used.is_some() {
                let (path, last) = (file.path().into(), first);
                let at = used.unwrap_or(0);
                return Err(self.damage(path, at, last, Fault::SuperBehind).into());
            }
        }
        Ok(())
    }

    /// Decides what the tail is.
    pub(super) fn decide(&mut self, policy: TailPolicy) -> Result<Option<Tail>, Refusal> {
        let mut durable = self.durable();
        let Some(scanned) = self.tail.take() else {
            self.report.durable = durable;
            return Ok(None);
        };
        let file = self.disk.open(&segment::path(scanned.first), Access::Read)?;
        let mut window = Window::new(&*file, scanned.end)?;
        let residue = Residue::read(&mut window, scanned.seeds, scanned.end, scanned.bad)?;
        if let Some(residue) = &residue {
            durable = durable.max(residue.durable);
        }
        let last = self.cursor.last();
        let watermark = match self.watermark {
            Some(_) => WatermarkState::Readable,
            None => WatermarkState::Lost,
        };
        // Nothing is ever acknowledged behind a seal: rubbish there is no loss.
        let residue = residue.map(|found| Residue { torn: found.torn || scanned.sealed, ..found });
        let verdict = judge(&Evidence { last, durable, residue: residue.as_ref(), watermark });
        let highest = residue.map_or(last, |residue| residue.highest).max(last.next());
        let loss = match verdict {
            Verdict::Damaged => {
                let fault = residue.and(scanned.fault).unwrap_or(Fault::Short);
                return Err(self.hole(&*file, &scanned, durable, fault)?.into());
            }
            Verdict::Undecidable if policy == TailPolicy::Refuse => {
                let (path, at) = (file.path().into(), scanned.bad);
                return Err(self.damage(path, at, highest, Fault::Undecidable).into());
            }
            Verdict::Undecidable => Some(last.next()..=highest),
            Verdict::Clean | Verdict::Torn => None,
        };
        let rubbish_end = residue.map_or(scanned.end, |residue| residue.end);
        self.report.last = last;
        self.report.durable = durable;
        self.report.quarantined_bytes = rubbish_end - scanned.end;
        let newest = self.index.newest().expect("the tail was indexed");
        let proven = newest.offset_from(durable.next());
        let Scanned { first, end, sealed, .. } = scanned;
        Ok(Some(Tail { first, end, sealed, proven, rubbish_end, loss }))
    }

    /// The highest LSN that is durable for certain, by all but the tail's residue.
    fn durable(&self) -> Lsn {
        let watermark = self.watermark.map_or(Lsn::ZERO, |watermark| watermark.lsn);
        self.cursor.durable.max(self.current.durable()).max(watermark)
    }

    /// Damage from the cursor up to `last`.
    fn damage(&self, file: String, offset: u64, last: Lsn, fault: Fault) -> Damage {
        Damage {
            file: file.into(),
            offset,
            lsns: self.cursor.next..=last.max(self.cursor.next),
            fault,
        }
    }

    /// Damage at the place where a segment stopped being good, with the LSNs it swallows.
    fn hole(
        &self,
        file: &dyn DiskFile,
        scanned: &Scanned,
        last: Lsn,
        fault: Fault,
    ) -> Result<Damage, DiskError> {
        let mut window = Window::new(file, FRAMES_AT)?;
        let survey = survey(&mut window, scanned.seeds, scanned.before, last)?;
        let hole = survey.holes.into_iter().next();
        let lsns = hole.map_or(self.cursor.next..=last, |hole| hole.lsns);
        Ok(Damage { file: file.path().into(), offset: scanned.bad, lsns, fault })
    }
}
