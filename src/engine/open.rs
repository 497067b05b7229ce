//! From a data directory to a state: recovery, replay, and the first record of a new reign.

use std::fmt;
use std::sync::Arc;

use crate::engine::base::{Base, BaseError};
use crate::engine::core::{Core, Setting};
use crate::engine::findings::{Findings, Wanted};
use crate::engine::replay::recover;
use crate::ids::Lsn;
use crate::log::{self, Disk, Entry, Kind, Loss, Options, RecoveryReport, Refusal};
use crate::record::{Fact, Record, codec};
use crate::state::State;
use crate::state::image::{Image, ImageError};
use crate::time::Timeline;

/// Why a store cannot be opened.
#[derive(Debug)]
pub enum OpenError {
    /// The log is damaged, locked, of a newer format, or cannot be read.
    Refused(Refusal),
    /// The new reign cannot be begun: the disk fails or is full.
    Begin(log::Error),
    /// A record's CRC holds but its bytes are none of ours.
    Undecodable {
        /// The record.
        lsn: Lsn,
        /// What is wrong.
        why: codec::CodecError,
    },
    /// The snapshot cannot be read.
    Unreadable(BaseError),
    /// The checksum of the snapshot's state holds, but its bytes are none of ours.
    NoImage {
        /// The snapshot.
        lsn: Lsn,
        /// What is wrong.
        why: ImageError,
    },
    /// Replay computes something else than what was computed when the log was written.
    Diverged {
        /// The `StateHash` record that noticed.
        lsn: Lsn,
    },
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Refused(refusal) => refusal.fmt(f),
            OpenError::Begin(error) => error.fmt(f),
            OpenError::Unreadable(error) => error.fmt(f),
            OpenError::NoImage { lsn, why } => write!(f, "snapshot {lsn}: {why}"),
            OpenError::Undecodable { lsn, why } => write!(f, "record {lsn}: {why}"),
            OpenError::Diverged { lsn } => write!(
                f,
                "replay disagrees with the state hash in record {lsn}: \
                 this program computes another state than the one that wrote the log"
            ),
        }
    }
}

impl std::error::Error for OpenError {}

/// Opens the store on `disk`, making it if there is none, and begins a new reign.
///
/// # Errors
/// See [`OpenError`]. A refused store is left as it was.
pub fn open(
    disk: Arc<dyn Disk>,
    options: Options,
    setting: Setting,
) -> Result<(Core, RecoveryReport), OpenError> {
    let (opened, mut store) = recover(disk, options)?;
    let report = opened.report().clone();
    let timeline = Timeline::resume(store.state.at(), setting.clock.as_ref());
    let at = timeline.now(store.state.at(), setting.clock.as_ref());
    let record = Record { at, fact: Fact::Opened { epoch: opened.epoch() } };
    let mut payload = Vec::new();
    codec::encode(&record, &mut payload);
    let log = opened.begin(&payload).map_err(OpenError::Begin)?;
    store.state.apply(log.durable().lsn, &record);
    Ok((Core::new(log, store, setting), report))
}

/// The state that a snapshot holds, before anything that came after it.
///
/// # Errors
/// `Refused`, `Undecodable`.
pub fn resume(base: &Base) -> Result<State, OpenError> {
    let bytes = base.snapshot().state().map_err(|error| OpenError::Unreadable(error.into()))?;
    let image = Image::decode(&bytes);
    image.map(State::resume).map_err(|why| OpenError::NoImage { lsn: base.lsn(), why })
}

/// Applies one entry of the log, and checks the state where the log says what it should be.
///
/// # Errors
/// `Undecodable`, `Diverged`.
pub fn replay(state: &mut State, base: Option<&Base>, entry: &Entry<'_>) -> Result<(), OpenError> {
    let lsn = entry.lsn;
    if entry.kind == Kind::Loss {
        let loss = Loss::decode(lsn, entry.payload).expect("the log has read it");
        state.note_loss(loss.known_from);
        return Ok(());
    }
    let record = codec::decode(entry.payload).map_err(|why| OpenError::Undecodable { lsn, why })?;
    if state.is_denied_by(&record.fact) {
        return Err(OpenError::Diverged { lsn });
    }
    if state.is_bereft() {
        base.iter().try_for_each(|base| recall(state, base, &record.fact))?;
    }
    state.apply(lsn, &record);
    Ok(())
}

/// Tells a state behind an accepted loss what the snapshot knows of what a record names, as
/// applying it there asks for more than records of a whole log do.
fn recall(state: &mut State, base: &Base, fact: &Fact) -> Result<(), OpenError> {
    let findings = Findings::from_disk(base, &Wanted::by_fact(fact, base));
    let findings = findings.map_err(OpenError::Unreadable)?;
    findings.formulas().iter().for_each(|&(fingerprint, lsn)| state.recall(fingerprint, lsn));
    findings.keys().iter().for_each(|&(key, spent)| state.recall_key(key, spent));
    Ok(())
}
