//! The stored formulas of a store that nobody serves, one after the other; changes nothing.
//!
//! Two passes: one over everything, to know what is still stored, and one over the bodies. In
//! between only the state is in memory.

use std::ops::ControlFlow;
use std::path::Path;

use crate::cli::examine;
use crate::cli::replayed::replayed;
use crate::cli::store_fault::StoreFault;
use crate::cli::store_files::StoreLock;
use crate::engine::base::Base;
use crate::engine::command::StoredFormula;
use crate::engine::core::Store;
use crate::ids::Lsn;
use crate::log::inspect;
use crate::record::Record;
use crate::record::archive::Archived;
use crate::record::codec::{self, CodecError};
use crate::state::formulas::Whereabouts;

/// Calls `visit` for each stored formula in the order of acceptance, with how many there are in
/// all, until it fails.
///
/// # Errors
/// If the store is in use, or damaged anywhere: an export that is not complete is none.
pub(crate) fn formulas<E>(
    directory: &Path,
    mut visit: impl FnMut(&StoredFormula, u64) -> Result<(), E>,
) -> Result<Result<(), E>, StoreFault> {
    let disk = examine::disk(directory)?;
    let _lock = StoreLock::take_to_read(directory)?;
    let current = examine::sound(directory, &disk)?.current;
    let Store { state, base } = replayed(directory, &disk, &current)?.store;
    let count = state.formulas().len() as u64;
    if let Some(base) = &base {
        let is_stored = |lsn| !state.formulas().is_withdrawn(lsn);
        if let Err(stop) = below(base, is_stored, |formula| visit(formula, count))? {
            return Ok(Err(stop));
        }
    }
    let (mut visited, mut undecodable) = (Ok(()), None);
    let each = |frame: inspect::Frame<'_>| {
        let is_stored = state.formulas().holds(frame.lsn) == Whereabouts::Stored(frame.lsn);
        if !frame.kind.is_delivered() || !is_stored {
            return ControlFlow::Continue(());
        }
        match codec::decode(frame.payload) {
            Ok(record) => {
                if let Some(formula) = formula_of(frame.lsn, record) {
                    visited = visit(&formula, count);
                }
            }
            Err(why) => undecodable = Some((frame.lsn, why)),
        }
        match visited.is_ok() && undecodable.is_none() {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        }
    };
    let read = inspect::frames(&disk, each);
    read.map_err(|error| StoreFault::of_refusal(directory, error))?;
    match undecodable {
        Some((lsn, why)) => Err(unreplayable(lsn, &why)),
        None => Ok(visited),
    }
}

/// The formulas of the snapshot.
fn below<E>(
    base: &Base,
    is_stored: impl Fn(Lsn) -> bool,
    mut visit: impl FnMut(&StoredFormula) -> Result<(), E>,
) -> Result<Result<(), E>, StoreFault> {
    let mut records = base.records_after(Lsn::ZERO);
    let next = |error: crate::log::ReadError| unreplayable(base.lsn(), &error);
    while let Some((lsn, kept)) = records.next().map_err(next)? {
        let decode =
            || -> Result<Record, CodecError> { codec::decode(Archived::split(kept)?.payload) };
        let record = decode().map_err(|why| unreplayable(lsn, &why))?;
        if let Some(formula) = formula_of(lsn, record).filter(|_| is_stored(lsn))
            && let Err(stop) = visit(&formula)
        {
            return Ok(Err(stop));
        }
    }
    Ok(Ok(()))
}

fn unreplayable(lsn: Lsn, why: &dyn std::fmt::Display) -> StoreFault {
    StoreFault::Unreplayable { lsn, what: why.to_string() }
}

fn formula_of(lsn: Lsn, record: Record) -> Option<StoredFormula> {
    StoredFormula::of(lsn, record.fact, record.at.wall)
}
