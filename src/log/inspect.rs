//! Looking at a log without opening it: no lock, no epoch, nothing written, damage or not.

use std::ops::{ControlFlow, RangeInclusive};
use std::sync::Arc;

use super::disk::{Access, Disk, DiskError};
use super::error::{Damage, Refusal};
pub use super::examine::Scrutiny;
use super::examine::{Examined, Part, Seen, Segment, examine};
use super::frame::{self, Chain, Kind, Place, StoreId};
use super::loss::Loss;
use super::scan::{Window, frame_at};
use super::segment::SPARE;
use super::snapshot::{Snapshot, snapshot_path};
use super::superblock::{Super, SuperCopy};
use super::watermark::Watermark;
use crate::ids::{Epoch, Lsn};

/// A log as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// The store's identity.
    pub store: StoreId,
    /// SUPER as it is in force.
    pub current: Super,
    /// Both copies of it.
    pub supers: [SuperCopy; 2],
    /// Both slots of WATERMARK; `None` for one that is damaged.
    pub watermarks: [Option<Watermark>; 2],
    /// In order.
    pub segments: Vec<SegmentInfo>,
    /// Bytes of the segment that is prepared ahead; 0 if there is none.
    pub spare_bytes: u64,
    /// Highest LSN that is durable for certain.
    pub durable: Lsn,
    /// The last good frame.
    pub last: Lsn,
    /// LSNs that are on record as lost.
    pub losses: Vec<RangeInclusive<Lsn>>,
    /// The snapshots that SUPER names, newest first.
    pub snapshots: Vec<SnapshotSeen>,
    /// Damage that costs acknowledged data, in order of LSN. Empty: the log will open.
    pub damage: Vec<Damage>,
    /// Damage to what the store holds twice. The log opens, and nothing is lost, but there is
    /// less to fall back on: a repair moves it out of the way.
    pub redundant: Vec<Damage>,
}

/// One snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotSeen {
    /// The file's path.
    pub file: Box<str>,
    /// The last LSN that it covers.
    pub lsn: Lsn,
    /// Size of the file; `None`: it is damaged or missing.
    pub bytes: Option<u64>,
}

/// One segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentInfo {
    /// The file's path.
    pub file: Box<str>,
    /// Its first LSN.
    pub first: Lsn,
    /// Its last good frame; below `first` if there is none.
    pub last: Lsn,
    /// The reign that created it; `None`: its header is damaged.
    pub epoch: Option<Epoch>,
    /// Size of the file.
    pub bytes: u64,
    /// After its last good frame.
    pub frames_end: u64,
    /// Whether it ends in a seal.
    pub is_sealed: bool,
}

/// A good frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// First LSN of its segment.
    pub segment: Lsn,
    /// Where it stands in the segment.
    pub offset: u64,
    /// Its LSN.
    pub lsn: Lsn,
    /// The highest LSN that was durable when it was encoded.
    pub durable: Lsn,
    /// The reign that wrote it.
    pub epoch: Epoch,
    /// What it holds.
    pub kind: Kind,
    /// Its place in its group.
    pub place: Place,
    /// Its chain.
    pub chain: Chain,
    /// As it was appended.
    pub payload: &'a [u8],
}

/// What became of the record that a receipt was given for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It is there, unchanged.
    Present,
    /// A snapshot covers it, and its frame is gone: nothing is left that could prove it.
    Covered,
    /// No good frame has its LSN.
    Lost,
    /// Another record, or another history, has its LSN.
    Differs,
}

/// Looks at everything, at snapshots as closely as `scrutiny` says.
///
/// # Errors
/// [`Refusal`] when there is no store, it is of a later format, or the disk fails. Damage is no
/// error here, unless nothing is left to tell which store this was.
pub fn inspect(disk: &Arc<dyn Disk>, scrutiny: Scrutiny) -> Result<Inspection, Refusal> {
    let examined = examine(disk, scrutiny)?;
    let mut losses = Vec::new();
    each_frame(&examined, |frame| {
        let loss = Loss::decode(frame.lsn, frame.payload).filter(|_| frame.kind == Kind::Loss);
        losses.extend(loss.map(|loss| frame.lsn..=loss.last));
        ControlFlow::Continue(())
    })?;
    let spare_bytes = match disk.open(SPARE, Access::Read) {
        Ok(spare) => spare.len()?,
        Err(error) if error.is_not_found() => 0,
        Err(error) => return Err(error.into()),
    };
    let segments: Result<Vec<SegmentInfo>, DiskError> = segments(&examined).map(info).collect();
    let segments = segments?;
    Ok(Inspection {
        store: examined.store(),
        current: examined.current,
        supers: examined.copies,
        watermarks: examined.slots,
        spare_bytes,
        durable: examined.durable,
        last: segments.iter().fold(examined.covered_to(), |last, one| last.max(one.last)),
        snapshots: examined.snapshots.iter().map(SnapshotSeen::of).collect(),
        redundant: examined.redundant,
        losses,
        damage: examined.damage,
        segments,
    })
}

impl SnapshotSeen {
    fn of(seen: &Seen) -> SnapshotSeen {
        let (file, lsn) = (snapshot_path(seen.named.lsn).into(), seen.named.lsn);
        SnapshotSeen { file, lsn, bytes: seen.good.as_ref().map(Snapshot::bytes) }
    }
}

/// Hands every good frame that the log still has to `visit`, in order of LSN, until it breaks
/// off.
///
/// # Errors
/// As [`inspect`].
pub fn frames(
    disk: &Arc<dyn Disk>,
    visit: impl FnMut(Frame<'_>) -> ControlFlow<()>,
) -> Result<(), Refusal> {
    Ok(each_frame(&examine(disk, Scrutiny::Heads)?, visit)?)
}

/// Says what became of the record for which a receipt names this LSN, and the first eight bytes
/// of its chain.
///
/// # Errors
/// As [`inspect`].
pub fn verify_receipt(disk: &Arc<dyn Disk>, lsn: Lsn, chain: [u8; 8]) -> Result<Presence, Refusal> {
    let examined = examine(disk, Scrutiny::Heads)?;
    let is_covered = lsn != Lsn::ZERO && lsn <= examined.covered_to();
    let mut presence = if is_covered { Presence::Covered } else { Presence::Lost };
    each_frame(&examined, |frame| {
        let loss = Loss::decode(frame.lsn, frame.payload).filter(|_| frame.kind == Kind::Loss);
        if loss.is_some_and(|loss| (frame.lsn..=loss.last).contains(&lsn)) {
            presence = Presence::Lost;
        } else if frame.lsn == lsn {
            let same = frame.chain.0.starts_with(&chain);
            presence = if same { Presence::Present } else { Presence::Differs };
        }
        if frame.lsn < lsn { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    Ok(presence)
}

fn segments(examined: &Examined) -> impl Iterator<Item = &Segment> {
    examined.parts.iter().filter_map(|part| match part {
        Part::Segment(segment) => Some(&**segment),
        Part::Missing { .. } | Part::Stranger { .. } => None,
    })
}

fn info(segment: &Segment) -> Result<SegmentInfo, DiskError> {
    let mut last = Lsn(segment.first.0 - 1);
    let walked = each_frame_of(segment, &mut |frame| {
        last = frame.lsn;
        ControlFlow::Continue(())
    })?;
    assert!(walked.is_continue(), "nothing broke the walk off");
    Ok(SegmentInfo {
        file: segment.file.path().into(),
        first: segment.first,
        last,
        epoch: segment.header.map(|header| header.epoch),
        bytes: segment.file.len()?,
        frames_end: segment.end(),
        is_sealed: segment.survey.sealed,
    })
}

fn each_frame(
    examined: &Examined,
    mut visit: impl FnMut(Frame<'_>) -> ControlFlow<()>,
) -> Result<(), DiskError> {
    for segment in segments(examined) {
        if each_frame_of(segment, &mut visit)?.is_break() {
            break;
        }
    }
    Ok(())
}

fn each_frame_of(
    segment: &Segment,
    visit: &mut impl FnMut(Frame<'_>) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, DiskError> {
    for &(from, to) in &segment.survey.runs {
        let mut window = Window::new(&*segment.file, from)?;
        let mut at = from;
        while at < to {
            window.keep_from(at);
            // A file that changes while we look may be another one by now: look no further.
            let Ok((header, chain)) = frame_at(&mut window, at, segment.seeds)? else {
                return Ok(ControlFlow::Continue(()));
            };
            let bytes = window.get(at, header.frame_bytes())?;
            let (stamp, payload) = (&header.stamp, frame::payload(bytes, &header));
            let frame = Frame {
                segment: segment.first,
                offset: at,
                lsn: stamp.lsn,
                durable: stamp.durable,
                epoch: stamp.epoch,
                kind: stamp.kind,
                place: stamp.place,
                chain,
                payload,
            };
            if visit(frame).is_break() {
                return Ok(ControlFlow::Break(()));
            }
            at += header.frame_bytes() as u64;
        }
    }
    Ok(ControlFlow::Continue(()))
}
