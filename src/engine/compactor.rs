//! Compaction: the snapshot before and the sealed segments since, streamed into a new snapshot.
//!
//! The compactor is one more replayer. It holds no lock and nothing of the live state: it begins
//! where the snapshot before ends, applies the sealed segments by the same rules, and then goes
//! through both once more to write down what is left of them. In memory it holds what a start
//! would: the state above the snapshot before, never the whole.
//!
//! ```text
//! snapshot before ──┬─ state section ─► State ◄── apply ── segments up to S      (first pass)
//!                   │                     │
//!                   ├─ records ───────────┼─ is it kept? ──► records            (second pass)
//!                   ├─ table of formulas ─┼─ merge ────────► table of formulas
//!                   └─ table of keys ─────┴─ merge ────────► table of keys, state section
//! ```
//! What is written is checked against what was replayed: the formulas that stand in the new
//! snapshot must add up to the state's own count and digest. So neither a slip in the merge nor
//! memory that rots under it can become the truth.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::base::{Base, BaseError};
use super::merge::{merge_formulas, merge_keys};
use super::open::{OpenError, replay, resume};
use super::steps::Steps;
use crate::ids::{Lsn, MessageId, QueueName};
use crate::log::{
    self, Disk, Entry, Reader, Refusal, Snapshot, SnapshotError, SnapshotFault, SnapshotHead,
    SnapshotRef, SnapshotWriter, Super,
};
use crate::record::Fact;
use crate::record::archive::{self, Archived};
use crate::record::codec::{self, CodecError};
use crate::record::hooks::CreatedHook;
use crate::state::State;
use crate::state::formulas::Inventory;
use crate::state::image::Image;
use crate::time::Stopwatch;

/// What a compaction works on: nothing in it changes any more.
pub struct Task {
    /// Where the files are.
    pub disk: Arc<dyn Disk>,
    /// What the store consists of.
    pub current: Super,
    /// S: where a sealed segment ends.
    pub upto: Lsn,
    /// The snapshot before.
    pub base: Option<Base>,
    /// For the records that trails name.
    pub reader: Reader,
    /// Set by whoever wants the compaction to end early.
    pub stop: Arc<AtomicBool>,
    /// Bytes of the disk that the log needs: a snapshot that leaves less is given up.
    pub leave_bytes: u64,
}

/// A snapshot that is complete, verified and durable, but that SUPER does not name yet.
pub struct Compacted {
    /// As SUPER will name it.
    pub named: SnapshotRef,
    /// The snapshot, open.
    pub base: Base,
    /// Its state section.
    pub image: Image,
    /// What to tell the operator.
    pub report: SnapshotReport,
}

/// What a snapshot holds and what it cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotReport {
    /// Everything up to and including this record.
    pub lsn: Lsn,
    /// Formulas that are stored.
    pub formulas: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// Milliseconds that it took to write; 0 for one that was there already.
    pub took_ms: u64,
}

/// Why there is no new snapshot. The store goes on without.
#[derive(Debug)]
pub enum CompactError {
    /// It was asked to stop.
    Stopped,
    /// The log could not be replayed.
    Replay(OpenError),
    /// The snapshot before could not be read.
    Base(BaseError),
    /// The new file could not be written, or did not read back as written.
    Write(SnapshotError),
    /// A record's checksum holds, but its bytes are none of ours.
    Undecodable(Lsn, CodecError),
    /// What was written does not add up to what was replayed.
    Miscounted,
    /// The compactor panicked, which was reported where it happened.
    Panicked,
}

impl std::fmt::Display for CompactError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            CompactError::Stopped => f.write_str("it was asked to stop"),
            CompactError::Replay(error) => error.fmt(f),
            CompactError::Base(error) => error.fmt(f),
            CompactError::Write(error) => error.fmt(f),
            CompactError::Undecodable(lsn, why) => write!(f, "record {lsn}: {why}"),
            CompactError::Panicked => f.write_str("the compactor panicked"),
            CompactError::Miscounted => f.write_str(
                "the formulas written do not add up to the formulas replayed: \
                 this is a mistake of the program or of the machine's memory",
            ),
        }
    }
}

impl std::error::Error for CompactError {}

impl From<BaseError> for CompactError {
    fn from(error: BaseError) -> CompactError {
        CompactError::Base(error)
    }
}

impl From<log::ReadError> for CompactError {
    fn from(error: log::ReadError) -> CompactError {
        CompactError::Base(error.into())
    }
}

impl From<SnapshotFault> for CompactError {
    fn from(fault: SnapshotFault) -> CompactError {
        CompactError::Write(fault.into())
    }
}

impl From<SnapshotError> for CompactError {
    fn from(error: SnapshotError) -> CompactError {
        match error {
            SnapshotError::Stopped => CompactError::Stopped,
            error => CompactError::Write(error),
        }
    }
}

impl From<log::OpenError<CompactError>> for CompactError {
    fn from(error: log::OpenError<CompactError>) -> CompactError {
        match error {
            log::OpenError::Refused(refusal) => CompactError::refused(refusal),
            log::OpenError::Apply(error) => error,
        }
    }
}

impl CompactError {
    fn refused(refusal: Refusal) -> CompactError {
        CompactError::Replay(OpenError::Refused(refusal))
    }

    /// Whether the disk was too full.
    #[must_use]
    pub fn is_no_space(&self) -> bool {
        matches!(self, CompactError::Write(SnapshotError::NoSpace))
    }
}

/// Writes a new snapshot of everything up to the end of the sealed segments.
///
/// # Errors
/// See [`CompactError`]. Nothing but a temporary file was written then.
pub fn compact(task: &Task) -> Result<Compacted, CompactError> {
    let watch = Stopwatch::start();
    let (state, head) = replayed(task)?;
    let mut out = SnapshotWriter::begin(Arc::clone(&task.disk), head)?;
    out.heed(Arc::clone(&task.stop));
    out.leave(task.leave_bytes);
    let mut writing =
        Writing { task, state: &state, out: &mut out, inventory: Inventory::default() };
    writing.records_before()?;
    writing.records_since()?;
    if writing.inventory != state.formulas().inventory() {
        return Err(CompactError::Miscounted);
    }
    merge_formulas(task, &state, &mut out)?;
    merge_keys(task, &state, &mut out)?;
    let image = state.image(head.lsn);
    let mut bytes = Vec::new();
    image.encode(&mut bytes);
    let named = out.finish(&bytes)?;
    let snapshot = Snapshot::open(&task.disk, &named, head.store)?;
    let report = SnapshotReport {
        lsn: head.lsn,
        formulas: state.formulas().len() as u64,
        bytes: snapshot.bytes(),
        took_ms: watch.ms(),
    };
    Ok(Compacted { named, base: Base::new(snapshot), image, report })
}

/// The state at S, with the snapshot before as its base.
fn replayed(task: &Task) -> Result<(State, SnapshotHead), CompactError> {
    let mut state = match &task.base {
        Some(base) => resume(base).map_err(CompactError::Replay)?,
        None => State::default(),
    };
    let head = task.each_entry(|entry| {
        task.check_stop()?;
        replay(&mut state, task.base.as_ref(), &entry).map_err(CompactError::Replay)
    })?;
    Ok((state, head))
}

impl Task {
    /// Hands every entry of the sealed segments after the snapshot before to `apply`.
    fn each_entry(
        &self,
        apply: impl FnMut(Entry<'_>) -> Result<(), CompactError>,
    ) -> Result<SnapshotHead, CompactError> {
        let from = self.base.as_ref().map(Base::snapshot);
        Ok(log::replay_sealed(&*self.disk, &self.current, from, self.upto, apply)?)
    }

    pub(super) fn check_stop(&self) -> Result<(), CompactError> {
        if self.stop.load(Ordering::Relaxed) { Err(CompactError::Stopped) } else { Ok(()) }
    }

    /// Where the snapshot before ends.
    fn base_lsn(&self) -> Lsn {
        self.base.as_ref().map_or(Lsn::ZERO, Base::lsn)
    }
}

/// The second pass: what is left of the records.
struct Writing<'a> {
    task: &'a Task,
    state: &'a State,
    out: &'a mut SnapshotWriter,
    /// Of the stored formulas written so far.
    inventory: Inventory,
}

impl Writing<'_> {
    /// What the snapshot before kept and this one keeps, too.
    fn records_before(&mut self) -> Result<(), CompactError> {
        let Some(base) = &self.task.base else { return Ok(()) };
        let (mut steps, mut bytes) = (Steps::new(self.task), Vec::new());
        let mut records = base.records_after(Lsn::ZERO);
        while let Some((lsn, kept)) = records.next()? {
            self.task.check_stop()?;
            let undecodable = |why| CompactError::Undecodable(lsn, why);
            let archived = Archived::split(kept).map_err(undecodable)?;
            let record = codec::decode(archived.payload).map_err(undecodable)?;
            if !self.is_kept(lsn, &record.fact) {
                continue;
            }
            bytes.clear();
            let last = self.state.formulas().trail(lsn);
            if last == lsn {
                archive::encode_again(&archived, &mut bytes);
            } else {
                let mut trail = archived.steps().map_err(undecodable)?;
                trail.extend(steps.since(lsn, last, base.lsn())?);
                archive::encode(archived.payload, &trail, &mut bytes);
            }
            self.out.record(lsn, &bytes)?;
        }
        Ok(())
    }

    /// What the segments since add.
    fn records_since(&mut self) -> Result<(), CompactError> {
        let (task, base) = (self.task, self.task.base_lsn());
        let (mut steps, mut bytes) = (Steps::new(task), Vec::new());
        task.each_entry(|entry| {
            task.check_stop()?;
            if entry.kind != log::Kind::Record {
                return Ok(());
            }
            let lsn = entry.lsn;
            let record = codec::decode(entry.payload);
            let record = record.map_err(|why| CompactError::Undecodable(lsn, why))?;
            if !self.is_kept(lsn, &record.fact) {
                return Ok(());
            }
            let trail = match self.state.formulas().trail(lsn) {
                last if last == lsn => Vec::new(),
                last => steps.since(lsn, last, base)?,
            };
            bytes.clear();
            archive::encode(entry.payload, &trail, &mut bytes);
            Ok(self.out.record(lsn, &bytes)?)
        })?;
        Ok(())
    }

    /// Whether anybody may still ask for the record; and if it is a stored formula, counts it.
    fn is_kept(&mut self, lsn: Lsn, fact: &Fact) -> bool {
        if let Some(accepted) = fact.acceptance() {
            if self.state.formulas().is_withdrawn(lsn) {
                return self.state.is_kept(lsn);
            }
            self.inventory.add(lsn, &accepted.fingerprint);
            return true;
        }
        match fact {
            Fact::FormulaWithdrawn { .. } => {
                let queue = self.state.queue(QueueName::FORMULAS);
                queue.is_some_and(|queue| queue.holds(MessageId(lsn)))
            }
            Fact::BatchAnswered { key, .. } => key.expires > self.state.at().uptime,
            // Whoever has the id of a request may ask for it, and for the signature, for good.
            Fact::SealRequested(_) | Fact::Sealed(_) => true,
            Fact::HookCreated(CreatedHook { key: Some(key), .. }) => {
                key.expires > self.state.at().uptime
            }
            Fact::HookOwed(_) => self.state.is_delivery_kept(MessageId(lsn)),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests;
