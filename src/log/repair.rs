//! Making a damaged store open again, at the price of what is lost, which is put on record.
//!
//! Every file that is changed or left out is first copied to `quarantine/`. A segment with
//! holes is written anew beside the old one and then renamed over it: its good frames keep
//! their LSN, payload and chain, so receipts for them stay valid; each hole becomes a
//! [`Kind::Loss`] frame that takes its LSNs, so that they are never given to other records and
//! every later replay knows.
//!
//! What is damaged and redundant costs nothing: a snapshot beside a good one, or segments that
//! the newest snapshot covers. It is moved to `quarantine/`, with what is of no use without it,
//! and SUPER no longer asks for it. Each step leaves a store on which repair can be run again.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

use super::QUARANTINE;
use super::disk::{Access, Disk, DiskError, DiskFile};
use super::error::{Damage, Refusal};
use super::examine::{Examined, Part, Scrutiny, Segment, examine};
use super::frame::{self, Kind, Place, Seeds, Stamp};
use super::loss::Loss;
use super::opened::{copy_bytes, set_aside};
use super::recovery::{lock, segment_names};
use super::scan::{Cursor, Window, frame_at};
use super::segment::{self, FRAMES_AT, SegmentHeader};
use super::snapshot::snapshot_path;
use super::superblock::{self, SuperFiles};
use crate::ids::{Epoch, Lsn};
use crate::limits::SCAN_CHUNK_BYTES;

const MEND: &str = "log/mend.tmp";

/// What a repair did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RepairReport {
    /// The LSNs that are lost, now on record.
    pub lost: Vec<RangeInclusive<Lsn>>,
    /// Files that were written anew or created.
    pub mended: Vec<Box<str>>,
    /// Copies of what was there before.
    pub quarantined: Vec<Box<str>>,
}

/// Why nothing was repaired.
#[derive(Debug)]
pub enum RepairError {
    /// The store cannot be worked on.
    Refused(Refusal),
    /// More is lost than was accepted: these LSNs.
    NotAccepted {
        /// All that is lost, in order.
        lost: Vec<RangeInclusive<Lsn>>,
    },
    /// Parts of different histories: which one is right is not for a program to decide.
    Ambiguous(Box<Damage>),
}

impl From<Refusal> for RepairError {
    fn from(refusal: Refusal) -> RepairError {
        RepairError::Refused(refusal)
    }
}

impl From<DiskError> for RepairError {
    fn from(error: DiskError) -> RepairError {
        RepairError::Refused(Refusal::Disk(error))
    }
}

impl fmt::Display for RepairError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RepairError::Refused(refusal) => refusal.fmt(f),
            RepairError::NotAccepted { lost } => {
                f.write_str("more is lost than was accepted: LSN")?;
                lost.iter().try_for_each(|lsns| write!(f, " {}..{}", lsns.start(), lsns.end()))
            }
            RepairError::Ambiguous(damage) => {
                write!(f, "{}: {}; restore from a backup", damage.file, damage.fault)
            }
        }
    }
}

impl std::error::Error for RepairError {}

/// Repairs the store on `disk`, if all that is lost lies within `accept_loss`.
///
/// A store that needs no repair is left as it is.
///
/// # Errors
/// [`RepairError::NotAccepted`] and [`RepairError::Ambiguous`] leave the store as it was. After
/// a failure of the disk, repair again.
pub fn repair(
    disk: &Arc<dyn Disk>,
    accept_loss: Option<RangeInclusive<Lsn>>,
) -> Result<RepairReport, RepairError> {
    let _lock = lock(&**disk)?;
    let examined = examine(disk, Scrutiny::Whole)?;
    if examined.damage.is_empty() && examined.redundant.is_empty() {
        return Ok(RepairReport::default());
    }
    refuse_ambiguity(&examined)?;
    let lost = lost(&examined);
    let is_accepted = |lsns: &RangeInclusive<Lsn>| {
        accept_loss
            .as_ref()
            .is_some_and(|all| all.contains(lsns.start()) && all.contains(lsns.end()))
    };
    if !lost.iter().all(is_accepted) {
        return Err(RepairError::NotAccepted { lost });
    }
    let (epoch, mut supers) = begin_epoch(disk, &examined)?;
    let mut report = RepairReport { lost, ..RepairReport::default() };
    if superblock::best(&examined.copies).is_none() {
        report.mended.extend(superblock::PATHS.map(Box::from));
    }
    let mut repair = Repair { disk: &**disk, examined: &examined, epoch, report };
    repair.set_aside_redundant(&mut supers)?;
    repair.run()?;
    Ok(repair.report)
}

fn refuse_ambiguity(examined: &Examined) -> Result<(), RepairError> {
    match examined.damage.iter().find(|damage| damage.fault.is_beyond_repair()) {
        Some(damage) => Err(RepairError::Ambiguous(Box::new(damage.clone()))),
        None => Ok(()),
    }
}

fn lost(examined: &Examined) -> Vec<RangeInclusive<Lsn>> {
    let covered_to = examined.covered_to();
    let lost = examined.parts.iter().flat_map(|part| match part {
        Part::Segment(segment) if segment.first <= covered_to => Vec::new(),
        Part::Segment(segment) => {
            segment.survey.holes.iter().map(|hole| hole.lsns.clone()).collect()
        }
        Part::Missing { before, last } => vec![before.next..=*last],
        Part::Stranger { .. } => Vec::new(),
    });
    lost.collect()
}

/// Puts the next epoch in force: a repair is a reign, though a short one.
fn begin_epoch(
    disk: &Arc<dyn Disk>,
    examined: &Examined,
) -> Result<(Epoch, SuperFiles), RepairError> {
    let epoch = Epoch(examined.epoch().0 + 1);
    if superblock::best(&examined.copies).is_none() {
        let first = superblock::Super { epoch, ..examined.current };
        superblock::create(&**disk, &first)?;
        return Ok((epoch, SuperFiles::new(Arc::clone(disk), first)));
    }
    let mut supers = SuperFiles::new(Arc::clone(disk), examined.current);
    supers.update(|next| next.epoch = epoch).map_err(Refusal::from)?;
    Ok((epoch, supers))
}

struct Repair<'a> {
    disk: &'a dyn Disk,
    examined: &'a Examined,
    epoch: Epoch,
    report: RepairReport,
}

impl Repair<'_> {
    /// Moves what is damaged and not needed out of the way, and everything that is of no use
    /// without it; then SUPER asks for what is left. Nothing acknowledged is lost with it.
    fn set_aside_redundant(&mut self, supers: &mut SuperFiles) -> Result<(), RepairError> {
        if self.examined.redundant.is_empty() {
            return Ok(());
        }
        let base = self.examined.base.map(|base| base.lsn);
        let mut paths = Vec::new();
        for seen in &self.examined.snapshots {
            if Some(seen.named.lsn) != base {
                paths.push(snapshot_path(seen.named.lsn));
            }
        }
        let covered_to = self.examined.covered_to();
        let covered = segment_names(self.disk)?.into_iter().filter(|first| *first <= covered_to);
        paths.extend(covered.map(segment::path));
        // SUPER comes last: while it asks for what was moved, a repair does this again.
        for path in paths {
            self.report.quarantined.extend(set_aside(self.disk, &path, self.epoch)?);
        }
        let kept = self.examined.snapshots.iter().map(|seen| seen.named);
        let kept = kept.into_iter().find(|named| Some(named.lsn) == base);
        let oldest = covered_to.next();
        supers.update(|next| next.rest_on(kept, oldest)).map_err(Refusal::from)?;
        self.report.mended.extend(superblock::PATHS.map(Box::from));
        Ok(())
    }

    fn run(&mut self) -> Result<(), DiskError> {
        self.disk.create_dir(QUARANTINE)?;
        self.disk.sync_dir("")?;
        // Strangers first: one may stand where a missing segment belongs.
        for part in &self.examined.parts {
            if let Part::Stranger { path } = part {
                let file = self.disk.open(path, Access::Read)?;
                self.quarantine(&*file)?;
                self.disk.remove(path)?;
                self.disk.sync_dir(segment::DIR)?;
            }
        }
        let covered_to = self.examined.covered_to();
        for part in &self.examined.parts {
            match part {
                Part::Segment(segment) if segment.first <= covered_to => {}
                Part::Segment(segment) if segment.is_damaged => self.mend(segment)?,
                Part::Missing { before, last } => self.replace_missing(before, *last)?,
                Part::Segment(_) | Part::Stranger { .. } => {}
            }
        }
        Ok(())
    }

    /// Copies a file to `quarantine/`, durably.
    fn quarantine(&mut self, file: &dyn DiskFile) -> Result<(), DiskError> {
        let name = file.path().rsplit('/').next().unwrap_or_default();
        let copy_path = format!("{QUARANTINE}/{name}.{}", self.epoch);
        let copy = self.disk.create(&copy_path)?;
        copy_bytes(file, 0..file.len()?, &*copy)?;
        copy.sync_data()?;
        self.disk.sync_dir(QUARANTINE)?;
        self.report.quarantined.push(copy_path.into());
        Ok(())
    }

    /// Writes a damaged segment anew.
    fn mend(&mut self, segment: &Segment) -> Result<(), DiskError> {
        self.quarantine(&*segment.file)?;
        let before = &segment.before;
        let header = segment.header.unwrap_or(SegmentHeader {
            store: self.examined.store(),
            first: segment.first,
            epoch: before.epoch,
            chain: before.chain,
        });
        let mut mended = self.begin(&header, before)?;
        let mut window = Window::new(&*segment.file, FRAMES_AT)?;
        let mut holes = segment.survey.holes.iter().peekable();
        for &(from, to) in &segment.survey.runs {
            while let Some(hole) = holes.next_if(|hole| hole.at < to) {
                mended.lose(&hole.lsns)?;
            }
            mended.copy(&mut window, segment.seeds, from..to)?;
        }
        for hole in holes {
            mended.lose(&hole.lsns)?;
        }
        self.install(mended, segment.first)
    }

    /// Makes a segment that says that all its LSNs are lost.
    fn replace_missing(&mut self, before: &Cursor, last: Lsn) -> Result<(), DiskError> {
        let header = SegmentHeader {
            store: self.examined.store(),
            first: before.next,
            epoch: before.epoch,
            chain: before.chain,
        };
        let mut mended = self.begin(&header, before)?;
        mended.lose(&(before.next..=last))?;
        self.install(mended, before.next)
    }

    fn begin(&self, header: &SegmentHeader, before: &Cursor) -> Result<Mended, DiskError> {
        // Nobody decides anything in the reign of a repair: the first to know is the one after.
        Mended::create(self.disk, header, before, Epoch(self.epoch.0 + 1))
    }

    fn install(&mut self, mended: Mended, first: Lsn) -> Result<(), DiskError> {
        let path = segment::path(first);
        mended.finish()?;
        self.disk.rename(MEND, &path)?;
        self.disk.sync_dir(segment::DIR)?;
        self.report.mended.push(path.into());
        Ok(())
    }
}

/// A segment that is being written anew.
struct Mended {
    file: Arc<dyn DiskFile>,
    first: Lsn,
    seeds: Seeds,
    /// Frames not yet written, and where they will stand.
    buffer: Vec<u8>,
    at: u64,
    cursor: Cursor,
    /// The first reign that knows of the losses.
    known_from: Epoch,
}

impl Mended {
    fn create(
        disk: &dyn Disk,
        header: &SegmentHeader,
        before: &Cursor,
        known_from: Epoch,
    ) -> Result<Mended, DiskError> {
        let file = disk.create(MEND)?;
        file.write_all_at(&header.encode(), 0)?;
        let seeds = Seeds::new(header.store, header.first);
        let cursor = Cursor { chain: header.chain, ..*before };
        let first = header.first;
        let (buffer, at) = (Vec::new(), FRAMES_AT);
        Ok(Mended { file, first, seeds, buffer, at, cursor, known_from })
    }

    /// Takes over good frames. Only their checksums change, with their offsets.
    fn copy(
        &mut self,
        window: &mut Window<'_>,
        seeds: Seeds,
        run: std::ops::Range<u64>,
    ) -> Result<(), DiskError> {
        let mut at = run.start;
        while at < run.end {
            window.keep_from(at);
            let (header, _) = frame_at(window, at, seeds)?.expect("the survey found it good");
            let bytes = window.get(at, header.frame_bytes())?;
            let payload = frame::payload(bytes, &header);
            let offset = self.at + self.buffer.len() as u64;
            let chain = frame::encode(&mut self.buffer, self.seeds, offset, &header.stamp, payload);
            let stepped = self.cursor.step(self.first, &header, chain, payload);
            assert!(stepped.is_ok(), "good frames follow each other, or a loss");
            at += header.frame_bytes() as u64;
            self.flush_above(SCAN_CHUNK_BYTES)?;
        }
        Ok(())
    }

    /// Puts a loss on record.
    fn lose(&mut self, lsns: &RangeInclusive<Lsn>) -> Result<(), DiskError> {
        let stamp = Stamp {
            lsn: *lsns.start(),
            // What was lost was durable, so what came before it was too.
            durable: Lsn(lsns.start().0 - 1),
            link: self.cursor.chain.link(),
            // Of the frame before: epochs never go back, and frames that follow are older than
            // the repair.
            epoch: self.cursor.epoch,
            kind: Kind::Loss,
            place: Place::Alone,
        };
        let payload = Loss { last: *lsns.end(), known_from: self.known_from }.encode();
        let at = self.at + self.buffer.len() as u64;
        self.cursor.chain = frame::encode(&mut self.buffer, self.seeds, at, &stamp, &payload);
        self.cursor.next = lsns.end().next();
        self.cursor.after_loss = true;
        self.flush_above(SCAN_CHUNK_BYTES)
    }

    fn flush_above(&mut self, bytes: usize) -> Result<(), DiskError> {
        if self.buffer.len() > bytes {
            self.file.write_all_at(&self.buffer, self.at)?;
            self.at += self.buffer.len() as u64;
            self.buffer.clear();
        }
        Ok(())
    }

    fn finish(mut self) -> Result<(), DiskError> {
        self.flush_above(0)?;
        self.file.sync_data()
    }
}
