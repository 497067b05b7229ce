//! The whole log as it is, damage included: what `check` prints and `repair` works from.
//!
//! [`open`](super::open) stops at the first damage. This goes on behind it: each hole, each
//! missing or foreign segment, and which LSNs they swallow. It only reads.
//!
//! Segments from the older snapshot on are read although the newest covers them: they are what
//! the store falls back on. Damage to them, or to one of two snapshots, costs nothing that was
//! acknowledged. So it is kept apart, as [`Examined::redundant`].

use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::base::{cursor_after, damage_of, reaches_back, read_header, unnamed};
use super::disk::{Access, Disk, DiskError, DiskFile};
use super::error::{Damage, Fault, Refusal};
use super::frame::{Flaw, Seeds, StoreId};
use super::page;
use super::recovery::{require_super, segment_names};
use super::retain::names;
use super::scan::{Cursor, Window};
use super::segment::{self, FRAMES_AT, SegmentHeader};
use super::snapshot::{self, SNAPSHOTS, Snapshot, SnapshotHead, snapshot_path};
use super::superblock::{self, SnapshotRef, Super, SuperCopy};
use super::survey::{Hole, Survey, survey};
use super::tail::Residue;
use super::watermark::{self, Slots};
use crate::ids::{Epoch, Lsn};
use crate::limits::SCAN_CHUNK_BYTES;

/// A log as it is.
pub(super) struct Examined {
    pub(super) copies: [SuperCopy; 2],
    pub(super) slots: Slots,
    /// SUPER as it is in force, or as far as the segments tell.
    pub(super) current: Super,
    /// What is and what should be in the directory of segments, in order.
    pub(super) parts: Vec<Part>,
    /// The snapshots that SUPER names, newest first.
    pub(super) snapshots: Vec<Seen>,
    /// The newest of them that is good, with what the log after it goes on from.
    pub(super) base: Option<SnapshotHead>,
    /// Damage that costs acknowledged data, in order of LSN.
    pub(super) damage: Vec<Damage>,
    /// Damage to what the base has too, or could do without.
    pub(super) redundant: Vec<Damage>,
    /// Highest LSN that is durable for certain.
    pub(super) durable: Lsn,
    /// After the last good frame, or the last lost one.
    pub(super) cursor: Cursor,
}

/// How closely to look at snapshots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scrutiny {
    /// As far as opening does: what is read at once.
    Heads,
    /// Every byte.
    Whole,
}

/// A snapshot that SUPER names.
pub(super) struct Seen {
    pub(super) named: SnapshotRef,
    /// `None`: it is damaged or missing.
    pub(super) good: Option<Snapshot>,
}

/// A segment, or the lack of one.
pub(super) enum Part {
    /// There, with what is good in it.
    Segment(Box<Segment>),
    /// Not there: its LSNs from the cursor's next up to this one are lost.
    Missing { before: Cursor, last: Lsn },
    /// There, but not a part of this log.
    Stranger { path: Box<str> },
}

/// A segment of this log.
pub(super) struct Segment {
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) first: Lsn,
    pub(super) seeds: Seeds,
    /// The cursor at its beginning.
    pub(super) before: Cursor,
    pub(super) survey: Survey,
    /// Whether its first page is good.
    pub(super) header: Option<SegmentHeader>,
    /// Whether it must be written anew.
    pub(super) is_damaged: bool,
}

impl Segment {
    /// After its last good frame.
    pub(super) fn end(&self) -> u64 {
        self.survey.runs.last().map_or(FRAMES_AT, |&(_, end)| end)
    }
}

/// Reads everything.
pub(super) fn examine(disk: &Arc<dyn Disk>, scrutiny: Scrutiny) -> Result<Examined, Refusal> {
    let (handle, disk) = (disk, &**disk);
    let copies = superblock::read(disk)?;
    let segments = segment_names(disk)?;
    let (current, damage) = match require_super(disk, &copies) {
        Ok(found) => (found, Vec::new()),
        Err(Refusal::Damaged(lost)) if segments.is_empty() && copies == [SuperCopy::Missing; 2] => {
            drop(lost);
            return Err(Refusal::NoStore);
        }
        Err(Refusal::Damaged(lost)) => match infer_super(disk, &segments)? {
            Some(inferred) => (inferred, vec![*lost]),
            None => return Err(Refusal::Damaged(lost)),
        },
        Err(other) => return Err(other),
    };
    let slots = watermark::read(disk, current.store)?;
    let marked = watermark::best(&slots).map_or(Lsn::ZERO, |mark| mark.lsn);
    let cursor = Cursor::new(current.store, current.oldest, watermark::best(&slots));
    let durable = current.durable().max(marked);
    let mut examined = Examined {
        copies,
        slots,
        current,
        parts: Vec::new(),
        snapshots: Vec::new(),
        base: None,
        damage,
        redundant: Vec::new(),
        durable,
        cursor,
    };
    examined.look_at_snapshots(handle, scrutiny)?;
    examined.cursor = examined.begin(disk)?;
    examined.segments(disk, &segments)?;
    Ok(examined)
}

/// What the segments' headers tell of SUPER; `None` when no header is whole.
fn infer_super(disk: &dyn Disk, names: &[Lsn]) -> Result<Option<Super>, DiskError> {
    let mut inferred: Option<Super> = None;
    for &first in names {
        let file = disk.open(&segment::path(first), Access::Read)?;
        if let Some((_, header)) = read_header(&*file)? {
            let found = inferred.get_or_insert_with(|| Super::new(header.store));
            found.epoch = found.epoch.max(header.epoch);
            found.newest = first;
        }
    }
    let Some(mut inferred) = inferred else {
        return Ok(None);
    };
    inferred.oldest = names[0];
    // Whether the older one was still needed is not known; whatever is left of it helps.
    for snapshot in snapshot_files(disk)? {
        inferred.add_snapshot(snapshot);
    }
    let before = inferred.snapshots[1].lsn.max(inferred.snapshots[0].lsn.min(names[0]));
    inferred.oldest = if names[0] == Lsn(1) { Lsn(1) } else { before.next().min(names[0]) };
    Ok(Some(inferred))
}

/// The files that have a snapshot's name, oldest first.
fn snapshot_files(disk: &dyn Disk) -> Result<Vec<SnapshotRef>, DiskError> {
    let mut found = Vec::new();
    for lsn in names(disk, SNAPSHOTS)?.iter().filter_map(|name| snapshot::parse_name(name)) {
        let file = disk.open(&snapshot_path(lsn), Access::Read)?;
        found.push(SnapshotRef { lsn, sha256: sha256(&*file)? });
    }
    Ok(found)
}

fn sha256(file: &dyn DiskFile) -> Result<[u8; 32], DiskError> {
    let (mut hasher, mut at) = (Sha256::new(), 0);
    let mut chunk = vec![0; SCAN_CHUNK_BYTES];
    loop {
        let read = file.read_full_at(&mut chunk, at)?;
        hasher.update(&chunk[..read]);
        at += read as u64;
        if read < chunk.len() {
            return Ok(hasher.finalize().into());
        }
    }
}

impl Examined {
    /// Opens the snapshots, and reads them too if asked to.
    fn look_at_snapshots(
        &mut self,
        disk: &Arc<dyn Disk>,
        scrutiny: Scrutiny,
    ) -> Result<(), Refusal> {
        for named in self.current.named() {
            let opened = Snapshot::open(disk, &named, self.current.store);
            let verified = opened.and_then(|snapshot| match scrutiny {
                Scrutiny::Heads => Ok(snapshot),
                Scrutiny::Whole => snapshot.verify(|_| ()).map(|()| snapshot),
            });
            let good = match verified {
                Ok(snapshot) => Some(snapshot),
                Err(fault) => {
                    self.redundant.push(damage_of(&named, fault)?);
                    None
                }
            };
            self.snapshots.push(Seen { named, good });
        }
        let good = self.snapshots.iter().find_map(|seen| seen.good.as_ref());
        self.base = good.map(|snapshot| *snapshot.head());
        Ok(())
    }

    /// The cursor before the first segment that is looked at.
    fn begin(&mut self, disk: &dyn Disk) -> Result<Cursor, DiskError> {
        let (store, witness) = (self.current.store, self.cursor.witness);
        let older = self.snapshots.get(1).and_then(|seen| seen.good.as_ref());
        Ok(match (older, self.base) {
            (Some(older), _) => cursor_after(older.head(), witness),
            _ if self.current.oldest == Lsn(1) => Cursor::new(store, Lsn(1), witness),
            (None, Some(base)) => cursor_after(&base, witness),
            (None, None) if reaches_back(disk, &self.current)? => {
                Cursor::new(store, Lsn(1), witness)
            }
            (None, None) => {
                let lost = std::mem::take(&mut self.redundant).into_iter().next();
                let lost = lost.unwrap_or_else(|| unnamed(&self.current));
                self.damage.push(Damage { fault: Fault::SnapshotsLost, ..lost });
                Cursor { after_loss: true, ..Cursor::new(store, self.current.oldest, witness) }
            }
        })
    }

    /// The last LSN that the base covers.
    pub(super) fn covered_to(&self) -> Lsn {
        self.base.map_or(Lsn::ZERO, |base| base.lsn)
    }

    /// Puts damage where it belongs.
    fn note(&mut self, damage: Damage) {
        if *damage.lsns.end() <= self.covered_to() {
            self.redundant.push(damage);
        } else {
            self.damage.push(damage);
        }
    }

    /// Goes on from the base, whatever became of the segments that it covers.
    fn pass_base(&mut self) {
        let Some(base) = self.base.filter(|base| base.lsn.next() == self.cursor.next) else {
            return;
        };
        if self.cursor.chain != base.chain && !self.cursor.after_loss {
            let (file, lsns) = (snapshot_path(base.lsn).into(), base.lsn..=base.lsn);
            self.note(Damage { file, offset: 0, lsns, fault: Fault::SnapshotDiverges });
        }
        self.cursor = cursor_after(&base, self.cursor.witness);
    }

    fn segments(&mut self, disk: &dyn Disk, names: &[Lsn]) -> Result<(), Refusal> {
        let (mut ours, begin) = (Vec::new(), self.cursor.next);
        for &first in names.iter().filter(|&&first| first >= begin) {
            let file = disk.open(&segment::path(first), Access::Read)?;
            match self.stranger(&*file, first)? {
                None => ours.push((first, file)),
                Some(fault) => self.strange(&*file, first, fault),
            }
        }
        self.skip_unused(&mut ours)?;
        for (place, (first, file)) in ours.iter().enumerate() {
            // Before a newest segment that is missing, the last one there is must be whole too.
            let missing = (*first < self.current.newest).then_some(self.current.newest);
            let next = ours.get(place + 1).map(|(next, _)| *next).or(missing);
            // The base ends where a segment does. A hole at the end of that one must not swallow
            // a missing one behind it, which nothing covers.
            let after_base = self.covered_to().next();
            let next =
                next.map(|next| if *first < after_base { next.min(after_base) } else { next });
            self.segment(*first, Arc::clone(file), next)?;
        }
        let newest = ours.last().map_or(Lsn::ZERO, |(first, _)| *first);
        if newest < self.current.newest {
            // In two parts: SUPER will go on asking for a segment of the newest one's name.
            if self.cursor.next < self.current.newest {
                self.missing(Lsn(self.current.newest.0 - 1));
            }
            self.missing(self.current.newest.max(self.durable));
        }
        // Without SUPER nothing names the newest segment, but WATERMARK tells how far it went.
        if self.cursor.next <= self.durable {
            self.current.newest = self.cursor.next;
            self.missing(self.durable);
        }
        if self.cursor.epoch > self.current.epoch {
            let (file, offset) = (superblock::PATHS[0].into(), 0);
            let (lsns, fault) = (self.current.oldest..=self.cursor.last(), Fault::SuperBehind);
            self.damage.push(Damage { file, offset, lsns, fault });
        }
        self.pass_base();
        self.damage.sort_by_key(|damage| *damage.lsns.start());
        Ok(())
    }

    /// Leaves out a segment that SUPER does not know yet; one that holds frames is damage.
    fn skip_unused(&mut self, ours: &mut Vec<(Lsn, Arc<dyn DiskFile>)>) -> Result<(), DiskError> {
        while let Some((first, file)) = ours.pop_if(|(first, _)| *first > self.current.newest) {
            if let Some(offset) = Window::new(&*file, FRAMES_AT)?.first_nonzero(FRAMES_AT)? {
                let (file, fault) = (file.path().into(), Fault::SuperBehind);
                self.damage.push(Damage { file, offset, lsns: first..=first, fault });
            }
        }
        Ok(())
    }

    /// Why a file that has a segment's name is none of this log.
    fn stranger(&self, file: &dyn DiskFile, first: Lsn) -> Result<Option<Fault>, Refusal> {
        let Some((version, header)) = read_header(file)? else {
            return Ok(None);
        };
        if version > page::FORMAT {
            return Err(Refusal::Newer { file: file.path().into(), version });
        }
        let foreign = (header.store != self.current.store).then_some(Fault::SegmentForeign);
        Ok(foreign.or((header.first != first).then_some(Fault::SegmentMisplaced)))
    }

    fn strange(&mut self, file: &dyn DiskFile, first: Lsn, fault: Fault) {
        if first > self.covered_to() {
            self.parts.push(Part::Stranger { path: file.path().into() });
        }
        let file = file.path().into();
        self.note(Damage { file, offset: 0, lsns: first..=first, fault });
    }

    fn missing(&mut self, last: Lsn) {
        let covered_to = self.covered_to();
        if self.cursor.next <= covered_to && covered_to < last {
            self.missing(covered_to);
        }
        // What the base covers may be all gone: what is lost behind it goes on from the base.
        self.pass_base();
        let before = self.cursor;
        let file = segment::path(before.next).into();
        let (lsns, fault) = (before.next..=last, Fault::SegmentMissing);
        self.note(Damage { file, offset: 0, lsns, fault });
        if last > covered_to {
            self.parts.push(Part::Missing { before, last });
        }
        self.cursor.next = last.next();
        self.cursor.after_loss = true;
    }

    /// Surveys one segment; `next` is the first LSN of the one after it.
    fn segment(
        &mut self,
        first: Lsn,
        file: Arc<dyn DiskFile>,
        next: Option<Lsn>,
    ) -> Result<(), Refusal> {
        if first < self.cursor.next {
            self.strange(&*file, first, Fault::SegmentUnexpected);
            return Ok(());
        }
        if first > self.cursor.next {
            self.missing(Lsn(first.0 - 1));
        }
        self.pass_base();
        let header = read_header(&*file)?.map(|(_, header)| header);
        let before = self.cursor;
        let diverges = header.is_some_and(|header| {
            let linked = header.chain == before.chain || before.after_loss;
            !linked || header.epoch < before.epoch
        });
        if let Some(header) = header {
            self.cursor.chain = header.chain;
        }
        let seeds = Seeds::new(self.current.store, first);
        let mut window = Window::new(&*file, FRAMES_AT)?;
        let last = match next {
            Some(next) => Lsn(next.0 - 1),
            None => self.needed(&*file, seeds)?,
        };
        let survey = survey(&mut window, seeds, self.cursor, last)?;
        self.cursor = survey.cursor;
        self.durable = self.durable.max(self.cursor.durable);
        let is_damaged = header.is_none() || diverges || !survey.holes.is_empty();
        let mut segment = Segment { file, first, seeds, before, survey, header, is_damaged };
        self.note_damage(&segment, diverges);
        match next {
            Some(_) => self.check_end(&mut segment)?,
            None => self.judge_tail(&mut segment)?,
        }
        self.parts.push(Part::Segment(Box::new(segment)));
        Ok(())
    }

    /// The highest LSN that the newest segment must hold.
    fn needed(&mut self, file: &dyn DiskFile, seeds: Seeds) -> Result<Lsn, DiskError> {
        let mut window = Window::new(file, FRAMES_AT)?;
        let mut at = FRAMES_AT;
        while let Some((found, header)) = window.next_header(at, seeds)? {
            self.durable = self.durable.max(header.stamp.durable);
            at = found + crate::limits::FRAME_HEADER_BYTES as u64;
        }
        Ok(self.durable)
    }

    fn note_damage(&mut self, segment: &Segment, diverges: bool) {
        let path: Box<str> = segment.file.path().into();
        let whole = segment.first..=self.cursor.last().max(segment.first);
        let fault = match segment.header {
            None => Some(Fault::SegmentHeader),
            Some(_) => diverges.then_some(Fault::SegmentDiverges),
        };
        if let Some(fault) = fault {
            self.note(Damage { file: path.clone(), offset: 0, lsns: whole, fault });
        }
        for hole in &segment.survey.holes {
            let (offset, lsns, fault) = (hole.at, hole.lsns.clone(), Fault::Frame(hole.flaw));
            self.note(Damage { file: path.clone(), offset, lsns, fault });
        }
    }

    /// A segment with another after it ends in a seal, or a loss, and then in zeros.
    fn check_end(&mut self, segment: &mut Segment) -> Result<(), DiskError> {
        let end = segment.end();
        if segment.is_damaged {
            return Ok(());
        }
        let follows = Window::new(&*segment.file, end)?.first_nonzero(end)?;
        let fault = match follows {
            Some(_) => Fault::AfterSeal,
            None if !segment.survey.sealed && !self.cursor.after_loss => Fault::Seal,
            None => return Ok(()),
        };
        segment.is_damaged = true;
        let (file, lsns) = (segment.file.path().into(), segment.first..=self.cursor.last());
        self.note(Damage { file, offset: follows.unwrap_or(end), lsns, fault });
        Ok(())
    }

    /// Adds the hole that a tail of unknown fate is.
    fn judge_tail(&mut self, segment: &mut Segment) -> Result<(), DiskError> {
        if segment.is_damaged || segment.survey.sealed {
            return Ok(());
        }
        let (end, bad) = (segment.end(), segment.survey.bad);
        let mut window = Window::new(&*segment.file, end)?;
        let Some(residue) = Residue::read(&mut window, segment.seeds, end, bad)? else {
            return Ok(());
        };
        if residue.torn && self.slots.iter().any(Option::is_some) {
            return Ok(());
        }
        let lsns = self.cursor.next..=residue.highest.max(self.cursor.next);
        let (file, fault) = (segment.file.path().into(), Fault::Undecidable);
        self.damage.push(Damage { file, offset: bad, lsns: lsns.clone(), fault });
        self.cursor.next = lsns.end().next();
        segment.survey.holes.push(Hole { at: end, lsns, flaw: Flaw::Header });
        segment.is_damaged = true;
        Ok(())
    }

    /// The store that the log belongs to.
    pub(super) fn store(&self) -> StoreId {
        self.current.store
    }

    /// The highest epoch that anything in the log names.
    pub(super) fn epoch(&self) -> Epoch {
        self.current.epoch.max(self.cursor.epoch)
    }
}
