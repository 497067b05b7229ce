//! Looking at a store that nobody serves, and repairing it.

use std::ops::{ControlFlow, RangeInclusive};
use std::path::Path;
use std::sync::Arc;

use crate::cli::replayed::{Replayed, replayed};
use crate::cli::store_fault::{Damage, StoreFault};
use crate::cli::store_files::StoreLock;
use crate::ids::{Epoch, Lsn};
use crate::log::inspect::{self, Inspection, Presence, Scrutiny};
use crate::log::{self, Disk, Fault, Kind, OsDisk, Preparer, RepairError, TailPolicy};

/// What an operator accepts in a repair.
#[derive(Clone, Debug)]
pub(crate) enum Acceptance {
    /// The loss of these records.
    Loss(RangeInclusive<Lsn>),
    /// That what follows the last whole frame is cut off.
    Tail,
    /// Nothing: only what the store holds twice may be set aside.
    Nothing,
}

/// One segment, as `inspect stat` shows it.
#[derive(Debug)]
pub(crate) struct SegmentStat {
    pub(crate) file: String,
    pub(crate) first: Lsn,
    /// The last whole record; `None` if there is none.
    pub(crate) last: Option<Lsn>,
    pub(crate) bytes: u64,
    pub(crate) is_sealed: bool,
}

/// One snapshot, as `inspect stat` shows it.
#[derive(Debug)]
pub(crate) struct SnapshotStat {
    pub(crate) file: String,
    /// The last LSN that it covers.
    pub(crate) lsn: Lsn,
    /// `None`: it is damaged or missing.
    pub(crate) bytes: Option<u64>,
}

/// A store, as `inspect stat` shows it.
#[derive(Debug)]
pub(crate) struct Stat {
    /// The store's uuid, 32 hex digits.
    pub(crate) uuid: String,
    pub(crate) epoch: Epoch,
    /// Highest LSN known to have been durable.
    pub(crate) durable: Lsn,
    /// Whether the store was closed by an orderly end.
    pub(crate) is_closed: bool,
    /// Newest first.
    pub(crate) snapshots: Vec<SnapshotStat>,
    pub(crate) segments: Vec<SegmentStat>,
}

/// One frame, as `inspect dump` shows it.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) lsn: Lsn,
    pub(crate) epoch: Epoch,
    pub(crate) kind: Kind,
    /// First LSN of its segment, after which the file is named.
    pub(crate) segment: Lsn,
    pub(crate) offset: u64,
    /// First eight bytes of its chain, 16 hex digits: with the LSN, a receipt.
    pub(crate) chain: String,
    pub(crate) payload: Vec<u8>,
}

/// What the log says of a receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The record is there, and so is everything before it.
    Present,
    /// A snapshot covers it and its frame is gone: it can be neither proven nor refuted.
    Covered,
    /// The log ends before it, or it was given up in a repair.
    Lost,
    /// The log has another history.
    ChainDiffers,
}

/// What `check` found in a sound store.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CheckSummary {
    pub(crate) segments: u64,
    pub(crate) frames: u64,
    pub(crate) bytes: u64,
    pub(crate) formulas: u64,
    pub(crate) messages: u64,
    pub(crate) lsn: Lsn,
}

/// What a repair did.
#[derive(Debug)]
pub(crate) struct RepairSummary {
    /// The records given up.
    pub(crate) lost: Vec<RangeInclusive<Lsn>>,
    /// Whether any file was written; not if the store needed no repair.
    pub(crate) has_written: bool,
    /// Whether there are copies of what was there before.
    pub(crate) has_copies: bool,
    /// Snapshots among them.
    pub(crate) snapshots_aside: usize,
}

/// Verifies every frame, replays and checks the invariants; changes nothing.
pub(crate) fn check(directory: &Path) -> Result<CheckSummary, StoreFault> {
    let disk = disk(directory)?;
    let _lock = StoreLock::take_to_read(directory)?;
    let inspection = sound(directory, &disk)?;
    let Replayed { store, frames } = replayed(directory, &disk, &inspection.current)?;
    let state = store.state;
    state.check_invariants();
    let queues = state.queues().map(|(_, queue)| queue.counts(state.at().uptime));
    let messages = queues.map(|c| c.ready + c.leased + c.delayed + c.dead).sum::<usize>();
    Ok(CheckSummary {
        segments: inspection.segments.len() as u64,
        frames,
        bytes: inspection.segments.iter().map(|segment| segment.frames_end).sum(),
        formulas: state.formulas().len() as u64,
        messages: messages as u64,
        lsn: inspection.last,
    })
}

/// What is known of a store of which every byte that is read is whole.
///
/// # Errors
/// If anything is damaged, also what the store holds twice.
pub(crate) fn sound(directory: &Path, disk: &Arc<dyn Disk>) -> Result<Inspection, StoreFault> {
    let inspection = inspected(directory, disk, Scrutiny::Whole)?;
    if let Some(damage) = inspection.damage.first() {
        return Err(StoreFault::Damaged(Box::new(damage.clone().into())));
    }
    if let Some(damage) = inspection.redundant.first() {
        return Err(StoreFault::Damaged(Box::new(Damage::redundant(damage.clone()))));
    }
    Ok(inspection)
}

/// Reads what the store says of itself; works while it is damaged, or served.
pub(crate) fn stat(directory: &Path) -> Result<Stat, StoreFault> {
    let found = inspected(directory, &disk(directory)?, Scrutiny::Heads)?;
    let segments = found.segments.iter().map(|segment| SegmentStat {
        file: segment.file.to_string(),
        first: segment.first,
        last: Some(segment.last).filter(|&last| last >= segment.first),
        bytes: segment.bytes,
        is_sealed: segment.is_sealed,
    });
    let snapshots = found.snapshots.iter().map(|snapshot| SnapshotStat {
        file: snapshot.file.to_string(),
        lsn: snapshot.lsn,
        bytes: snapshot.bytes,
    });
    Ok(Stat {
        uuid: found.store.to_string(),
        epoch: found.current.epoch,
        durable: found.durable,
        is_closed: found.current.clean != Lsn::ZERO && found.current.clean == found.last,
        snapshots: snapshots.collect(),
        segments: segments.collect(),
    })
}

/// Calls `visit` for each whole frame with an LSN in the range, until it fails.
pub(crate) fn frames<E>(
    directory: &Path,
    lsns: RangeInclusive<Lsn>,
    mut visit: impl FnMut(Frame) -> Result<(), E>,
) -> Result<Result<(), E>, StoreFault> {
    let mut visited = Ok(());
    let each = |frame: inspect::Frame<'_>| {
        if frame.lsn > *lsns.end() {
            return ControlFlow::Break(());
        }
        if frame.lsn >= *lsns.start() {
            visited = visit(Frame::from(frame));
        }
        if visited.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    };
    let read = inspect::frames(&disk(directory)?, each);
    read.map_err(|error| StoreFault::of_refusal(directory, error))?;
    Ok(visited)
}

impl From<inspect::Frame<'_>> for Frame {
    fn from(frame: inspect::Frame<'_>) -> Frame {
        let mut chain = frame.chain.to_string();
        chain.truncate(16);
        Frame {
            lsn: frame.lsn,
            epoch: frame.epoch,
            kind: frame.kind,
            segment: frame.segment,
            offset: frame.offset,
            chain,
            payload: frame.payload.to_vec(),
        }
    }
}

/// Looks for the record of a receipt.
pub(crate) fn verify_receipt(
    directory: &Path,
    lsn: Lsn,
    chain: u64,
) -> Result<Verdict, StoreFault> {
    let presence = inspect::verify_receipt(&disk(directory)?, lsn, chain.to_be_bytes());
    let presence = presence.map_err(|error| StoreFault::of_refusal(directory, error))?;
    Ok(match presence {
        Presence::Present => Verdict::Present,
        Presence::Covered => Verdict::Covered,
        Presence::Lost => Verdict::Lost,
        Presence::Differs => Verdict::ChainDiffers,
    })
}

/// Makes the store open again without what is accepted to be lost.
pub(crate) fn repair(
    directory: &Path,
    acceptance: Acceptance,
) -> Result<RepairSummary, StoreFault> {
    let disk = disk(directory)?;
    match acceptance {
        Acceptance::Loss(lsns) => give_up(directory, &disk, Some(lsns)),
        Acceptance::Nothing => give_up(directory, &disk, None),
        Acceptance::Tail => cut_tail(directory, disk),
    }
}

fn give_up(
    directory: &Path,
    disk: &Arc<dyn Disk>,
    lsns: Option<RangeInclusive<Lsn>>,
) -> Result<RepairSummary, StoreFault> {
    let report = log::repair(disk, lsns).map_err(|error| match error {
        RepairError::Refused(refusal) => StoreFault::of_refusal(directory, refusal),
        RepairError::NotAccepted { lost } => {
            let first = lost.first().map_or(Lsn::ZERO, |lsns| *lsns.start());
            let last = lost.last().map_or(Lsn::ZERO, |lsns| *lsns.end());
            StoreFault::RangeTooSmall(first..=last)
        }
        RepairError::Ambiguous(damage) => StoreFault::Damaged(Box::new((*damage).into())),
    })?;
    Ok(RepairSummary {
        has_written: !report.mended.is_empty() || !report.quarantined.is_empty(),
        has_copies: !report.quarantined.is_empty(),
        snapshots_aside: report.quarantined.iter().filter(|it| it.contains(".snap")).count(),
        lost: report.lost,
    })
}

/// Opens the store once with its undecidable end set aside, and closes it again.
fn cut_tail(directory: &Path, disk: Arc<dyn Disk>) -> Result<RepairSummary, StoreFault> {
    use crate::engine::core::{CompactionPolicy, Setting};
    use crate::engine::decide::Policy;
    use crate::time::SystemClock;

    let inspection = inspect::inspect(&disk, Scrutiny::Whole)
        .map_err(|error| StoreFault::of_refusal(directory, error))?;
    let other = inspection.damage.iter().find(|damage| damage.fault != Fault::Undecidable);
    if let Some(damage) = other {
        return Err(StoreFault::Damaged(Box::new(damage.clone().into())));
    }
    if inspection.damage.is_empty() {
        return Ok(RepairSummary {
            lost: Vec::new(),
            has_written: false,
            has_copies: false,
            snapshots_aside: 0,
        });
    }
    let options = log::Options {
        tail: TailPolicy::Accept,
        preparer: Preparer::Inline,
        segment_bytes: crate::limits::SEGMENT_BYTES_MIN,
        ..log::Options::new(inspection.store)
    };
    // No command is carried out, so neither policy nor seed plays a part.
    let policy = Policy { attempts_max: 1, retention_ms: 1, flow: &[] };
    let compaction = CompactionPolicy::default();
    let setting = Setting { clock: Arc::new(SystemClock::new()), policy, compaction, seed: 0 };
    let (core, _) = crate::engine::open::open(disk, options, setting)
        .map_err(|error| StoreFault::of_open(directory, error))?;
    core.close().map_err(|error| StoreFault::of_log(directory, error))?;
    // Not those of the report, which also has the losses of earlier repairs.
    let lost = inspection.damage.iter().map(|damage| damage.lsns.clone()).collect();
    Ok(RepairSummary { lost, has_written: true, has_copies: true, snapshots_aside: 0 })
}

/// The directory of a store that is there.
pub(crate) fn disk(directory: &Path) -> Result<Arc<dyn Disk>, StoreFault> {
    let opened = OsDisk::open(directory).map_err(|error| match error.is_not_found() {
        true => StoreFault::NoStore,
        false => StoreFault::of_disk(directory, error),
    })?;
    Ok(Arc::new(opened))
}

fn inspected(
    directory: &Path,
    disk: &Arc<dyn Disk>,
    scrutiny: Scrutiny,
) -> Result<Inspection, StoreFault> {
    inspect::inspect(disk, scrutiny).map_err(|error| StoreFault::of_refusal(directory, error))
}
