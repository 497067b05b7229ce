//! Replays a log on two threads: one reads and verifies, the other decodes and applies.
//!
//! Each takes about half of the time, and the machine has nothing else to do while a store
//! opens. What is handed over are whole batches of payloads, copied into one buffer, so that
//! the threads meet a few times per second and not once per record.

use std::ops::Range;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use crate::engine::base::Base;
use crate::engine::core::Store;
use crate::engine::open::{OpenError, replay, resume};
use crate::ids::{Epoch, Lsn};
use crate::limits::{REPLAY_BATCH_BYTES, REPLAY_BATCHES_MAX};
use crate::log::{self, Disk, Entry, Kind, Opened, Options, Place, Prepared};
use crate::state::State;

/// Opens the log and gives the store that snapshot and records add up to. Nothing is cut or begun
/// yet.
pub(super) fn recover(disk: Arc<dyn Disk>, options: Options) -> Result<(Opened, Store), OpenError> {
    let prepared = log::prepare(disk, options).map_err(OpenError::Refused)?;
    let base = prepared.snapshot().cloned().map(Base::new);
    let before = match &base {
        Some(base) => resume(base)?,
        None => State::default(),
    };
    let (opened, applied) = thread::scope(|scope| {
        let (batches, inbox) = sync_channel(REPLAY_BATCHES_MAX);
        let below = base.as_ref();
        let applier = scope.spawn(move || apply(before, below, &inbox));
        let opened = read(prepared, batches);
        (opened, applier.join().unwrap_or_else(|panic| resume_unwind(panic)))
    });
    // What the applier says comes first: it concerns an earlier record than whatever the
    // reader found, and the reader may only have stopped because of it.
    let state = applied?;
    match opened {
        Ok(opened) => Ok((opened, Store { state, base })),
        Err(log::OpenError::Refused(refusal)) => Err(OpenError::Refused(refusal)),
        Err(log::OpenError::Apply(ApplierGone)) => unreachable!("it ends early by an error only"),
    }
}

/// The applier takes no more.
#[derive(Debug)]
struct ApplierGone;

/// Verifies the log and hands its entries over.
fn read(
    prepared: Prepared,
    batches: SyncSender<Batch>,
) -> Result<Opened, log::OpenError<ApplierGone>> {
    let mut batch = Batch::default();
    let send = |batch: &mut Batch| batches.send(std::mem::take(batch)).map_err(|_| ApplierGone);
    let opened = prepared.replay(|entry| {
        batch.push(&entry);
        if batch.payloads.len() < REPLAY_BATCH_BYTES { Ok(()) } else { send(&mut batch) }
    })?;
    send(&mut batch).map_err(log::OpenError::Apply)?;
    Ok(opened)
}

fn apply(
    mut state: State,
    base: Option<&Base>,
    batches: &Receiver<Batch>,
) -> Result<State, OpenError> {
    for batch in batches {
        for entry in batch.entries() {
            replay(&mut state, base, &entry)?;
        }
    }
    Ok(state)
}

/// Entries on their way from one thread to the other.
#[derive(Default)]
struct Batch {
    payloads: Vec<u8>,
    heads: Vec<Head>,
}

/// An entry without its payload.
struct Head {
    lsn: Lsn,
    epoch: Epoch,
    kind: Kind,
    place: Place,
    payload: Range<usize>,
}

impl Batch {
    fn push(&mut self, entry: &Entry<'_>) {
        let start = self.payloads.len();
        self.payloads.extend_from_slice(entry.payload);
        let Entry { lsn, epoch, kind, place, .. } = *entry;
        self.heads.push(Head { lsn, epoch, kind, place, payload: start..self.payloads.len() });
    }

    fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        self.heads.iter().map(|head| Entry {
            lsn: head.lsn,
            epoch: head.epoch,
            kind: head.kind,
            place: head.place,
            payload: &self.payloads[head.payload.clone()],
        })
    }
}
