//! The tables of a new snapshot: those of the one before, without what is gone, merged with what
//! the segments since have added. Both come sorted, so one pass and no memory will do.

use std::iter::Peekable;

use super::base::{formula_entry, formula_of_entry, key_entry, key_of_entry};
use super::compactor::{CompactError, Task};
use crate::log::{SnapshotWriter, TableName};
use crate::state::State;

/// Writes the table of formulas. Those that were withdrawn are left out.
pub(super) fn merge_formulas(
    task: &Task,
    state: &State,
    out: &mut SnapshotWriter,
) -> Result<(), CompactError> {
    let added = state.formulas().fingerprints();
    let added = added.iter().map(|(fingerprint, lsn)| formula_entry(fingerprint, *lsn));
    let is_left = |entry: &[u8]| !state.formulas().is_withdrawn(formula_of_entry(entry).1);
    merge(task, TableName::Formulas, added, is_left, out)
}

/// Writes the table of keys. Those whose time is over are left out.
pub(super) fn merge_keys(
    task: &Task,
    state: &State,
    out: &mut SnapshotWriter,
) -> Result<(), CompactError> {
    let now = state.at().uptime;
    let added = state.keys().sorted(now);
    let added = added.iter().map(|(key, spent)| key_entry(key, spent));
    let is_left = |entry: &[u8]| key_of_entry(entry).1.expires > now;
    merge(task, TableName::Keys, added, is_left, out)
}

/// Writes a table: of the one before what is left, and what was added.
///
/// An added entry stands in place of the one before that has its key: a key that was spent again
/// after its time was over; or, behind a loss, a make-up whose withdrawal is among what was lost.
fn merge<const BYTES: usize>(
    task: &Task,
    name: TableName,
    added: impl ExactSizeIterator<Item = [u8; BYTES]>,
    is_left: impl Fn(&[u8]) -> bool,
    out: &mut SnapshotWriter,
) -> Result<(), CompactError> {
    let before = task.base.as_ref().map(|base| base.snapshot());
    let entries_max = before.map_or(0, |before| before.entries_in(name)) + added.len() as u64;
    out.table(name, entries_max)?;
    let mut added = added.peekable();
    if let Some(mut before) = before.map(|before| before.entries(name)) {
        while let Some(entry) = before.next()? {
            task.check_stop()?;
            let is_replaced = pass(&mut added, entry, |added| out.entry(name, added))?;
            if !is_replaced && is_left(entry) {
                out.entry(name, entry)?;
            }
        }
    }
    added.try_for_each(|entry| out.entry(name, &entry))?;
    Ok(())
}

/// Hands on the added entries up to the key of `end`; whether the last of them has that very key.
fn pass<const BYTES: usize, E>(
    added: &mut Peekable<impl Iterator<Item = [u8; BYTES]>>,
    end: &[u8],
    mut put: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<bool, E> {
    let (end, mut is_same) = (&end[..TableName::KEY_BYTES], false);
    while let Some(entry) = added.next_if(|entry| entry[..TableName::KEY_BYTES] <= *end) {
        is_same = entry[..TableName::KEY_BYTES] == *end;
        put(&entry)?;
    }
    Ok(is_same)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;
    use crate::engine::fixture::{Bench, fingerprint};
    use crate::formula::Fingerprint;
    use crate::ids::Lsn;

    fn entry(key: u8, lsn: u64) -> [u8; 40] {
        formula_entry(&Fingerprint([key; 32]), Lsn(lsn))
    }

    #[test]
    fn added_entries_pass_up_to_the_next_one_of_before_whatever_stands_behind_their_keys() {
        let mut added = [entry(1, 90), entry(3, 91), entry(5, 92)].into_iter().peekable();
        let mut passed = Vec::new();
        let mut pass_to = |end: &[u8]| {
            let put = |added: &[u8]| {
                passed.push(formula_of_entry(added).1);
                Ok::<(), Infallible>(())
            };
            pass(&mut added, end, put).expect("nothing fails")
        };
        assert!(!pass_to(&entry(0, 7)), "nothing comes before it");
        assert!(!pass_to(&entry(2, 7)), "one comes before it");
        // The one before has the lower LSN and so the lower bytes.
        assert!(pass_to(&entry(3, 7)), "one stands in its place");
        assert!(!pass_to(&entry(4, 7)));
        assert_eq!(passed, [Lsn(90), Lsn(91)]);
        assert_eq!(added.next(), Some(entry(5, 92)), "it waits for its turn");
    }

    #[test]
    fn filters_of_a_snapshot_have_room_for_all_that_it_holds() {
        let mut bench = Bench::new();
        for part in 0..2 {
            for make_up in 1..=300 {
                bench.accept(300 * part + make_up);
            }
            bench.compact();
        }
        bench.ask(|store| {
            let base = store.base.as_ref().expect("there is a snapshot");
            assert!((1..=600).all(|it| base.may_hold_formula(&fingerprint(it))));
            let pass = (601..=1000).filter(|it| base.may_hold_formula(&fingerprint(*it))).count();
            assert!(pass < 20, "{pass} of 400 absent formulas would be asked of the disk");
        });
    }
}
