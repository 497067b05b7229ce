//! What a store that nobody serves amounts to; changes nothing. For `check` and `export`.
//!
//! The longest way is taken, from the older snapshot or from the first record, so that the newest
//! snapshot is not believed but compared with what the log says.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use crate::cli::store_fault::StoreFault;
use crate::engine::base::Base;
use crate::engine::core::Store;
use crate::engine::open::{OpenError, replay, resume};
use crate::ids::{Epoch, Lsn};
use crate::log::inspect::{self, Frame};
use crate::log::{Disk, Entry, Kind, Place, Snapshot, SnapshotRef, Super};
use crate::state::State;

/// A store as it amounts to.
pub(crate) struct Replayed {
    pub(crate) store: Store,
    /// Frames that the log has.
    pub(crate) frames: u64,
}

/// Replays the store of which `current` is the sound SUPER.
pub(crate) fn replayed(
    directory: &Path,
    disk: &Arc<dyn Disk>,
    current: &Super,
) -> Result<Replayed, StoreFault> {
    let named: Vec<&SnapshotRef> =
        current.snapshots.iter().filter(|named| named.lsn > Lsn::ZERO).collect();
    let first = named.iter().find(|named| named.lsn.next() == current.oldest);
    let base = first.map(|named| open(disk, named, current)).transpose()?;
    let newest = named.first().filter(|named| Some(named) != first.as_ref());
    let claimed = newest.map(|named| open(disk, named, current)).transpose()?;
    let state = match &base {
        Some(base) => resumed(directory, base)?,
        None => State::default(),
    };
    let mut replaying = Replaying { base: base.as_ref(), state, frames: 0, group: Vec::new() };
    let mut failed = None;
    let mut unchecked = claimed.as_ref();
    let visit = |frame: Frame<'_>| {
        // The first record that the newest snapshot does not hold: what it holds is complete.
        let checked = match unchecked.take_if(|claimed| frame.lsn > claimed.lsn()) {
            Some(claimed) => compare(directory, claimed, &replaying.state),
            None => Ok(()),
        };
        let of_open = |error| StoreFault::of_open(directory, error);
        match checked.and_then(|()| replaying.visit(&frame).map_err(of_open)) {
            Ok(()) => ControlFlow::Continue(()),
            Err(fault) => {
                failed = Some(fault);
                ControlFlow::Break(())
            }
        }
    };
    inspect::frames(disk, visit).map_err(|error| StoreFault::of_refusal(directory, error))?;
    if let Some(fault) = failed {
        return Err(fault);
    }
    if let Some(claimed) = unchecked {
        compare(directory, claimed, &replaying.state)?;
    }
    let Replaying { state, frames, .. } = replaying;
    Ok(Replayed { store: Store { state, base }, frames })
}

struct Replaying<'a> {
    base: Option<&'a Base>,
    state: State,
    frames: u64,
    /// Of a group that is not complete yet.
    group: Vec<(Lsn, Epoch, Kind, Vec<u8>)>,
}

impl Replaying<'_> {
    fn visit(&mut self, frame: &Frame<'_>) -> Result<(), OpenError> {
        self.frames += 1;
        let is_held = self.base.is_some_and(|base| frame.lsn <= base.lsn());
        if !frame.kind.is_delivered() || is_held {
            return Ok(());
        }
        self.group.push((frame.lsn, frame.epoch, frame.kind, frame.payload.to_vec()));
        // A group counts as a whole: at the end of the log it may be cut short.
        if matches!(frame.place, Place::First | Place::Middle) {
            return Ok(());
        }
        for (lsn, epoch, kind, payload) in self.group.drain(..) {
            let entry = Entry { lsn, epoch, kind, place: Place::Alone, payload: &payload };
            replay(&mut self.state, self.base, &entry)?;
        }
        Ok(())
    }
}

fn open(disk: &Arc<dyn Disk>, named: &SnapshotRef, current: &Super) -> Result<Base, StoreFault> {
    let opened = Snapshot::open(disk, named, current.store);
    let unreadable = |fault: crate::log::SnapshotFault| StoreFault::Unreplayable {
        lsn: named.lsn,
        what: fault.to_string(),
    };
    opened.map(Base::new).map_err(unreadable)
}

fn resumed(directory: &Path, base: &Base) -> Result<State, StoreFault> {
    resume(base).map_err(|error| StoreFault::of_open(directory, error))
}

/// Compares what a snapshot claims with what the log amounts to.
fn compare(directory: &Path, claimed: &Base, state: &State) -> Result<(), StoreFault> {
    if resumed(directory, claimed)?.digest() == state.digest() {
        return Ok(());
    }
    let what = "the snapshot at this LSN holds another state than the log amounts to".to_owned();
    Err(StoreFault::Unreplayable { lsn: claimed.lsn(), what })
}
