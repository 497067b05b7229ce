//! Pages of formulas, in order of acceptance: first those in the snapshot, then those in the log.
//!
//! A page looks at a bounded number of records, whatever the size of the store and however few
//! of them are wanted; the cursor goes on from there. It looks in pieces, so that other questions
//! that wait for the disk get their turn. A page ends before a record that cannot be read back;
//! a page that would begin with one says where the list goes on behind the damage.

use std::sync::PoisonError;

use super::base::{self, Base, Kept};
use super::bodies::Shelves;
use super::pending::Pending;
use crate::engine::Engine;
use crate::engine::command::{Rejection, StoredFormula};
use crate::formula::Formula;
use crate::ids::Lsn;
use crate::limits::{PAGE_SCAN_MAX, SCAN_PIECE_RECORDS};
use crate::log::Gap;
use crate::state::State;

/// A page of formulas.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FormulaPage {
    /// In order of acceptance.
    pub formulas: Vec<StoredFormula>,
    /// Where the next page begins: after this record. `None` at the end.
    pub next: Option<Lsn>,
    /// The page would begin with records that cannot be read back. It is empty then.
    pub damage: Option<Gap>,
}

/// What one piece of a scan found.
#[derive(Debug, Default, PartialEq, Eq)]
struct Piece {
    found: Vec<StoredFormula>,
    looked_at: usize,
    /// Where the next piece begins: after this record. `None`: there is nothing left.
    next: Option<Lsn>,
    /// What follows cannot be read back.
    damage: Option<Gap>,
}

/// Where a piece looks, and for how much.
#[derive(Clone, Copy)]
struct Range {
    after: Lsn,
    /// The log is read as far as it is durable. What stands behind was answered to nobody yet.
    durable: Lsn,
    found_max: usize,
}

/// Where the next records stand.
enum Place {
    /// In the snapshot.
    Base(Base),
    /// In the log: those of formulas that were stored when the state was at this LSN.
    Log(Vec<Lsn>, Lsn),
}

impl Place {
    /// In one look, lest a snapshot comes between two and what it took over is passed over.
    fn of(shelves: &Shelves, range: Range) -> Place {
        let store = shelves.store().read().unwrap_or_else(PoisonError::into_inner);
        match &store.base {
            Some(base) if range.after < base.lsn() => Place::Base(base.clone()),
            _ => {
                let after = store.state.formulas().after(range.after);
                let after = after.take_while(|lsn| *lsn <= range.durable);
                // One more, to know whether anything is left.
                let lsns = after.take(SCAN_PIECE_RECORDS + 1).collect();
                Place::Log(lsns, store.state.lsn())
            }
        }
    }
}

impl Engine {
    /// Formulas after the record `after` for which `wanted` holds, at most `limit`. Looks at no
    /// more than `PAGE_SCAN_MAX` records: a page may be empty and yet have a next one.
    ///
    /// # Errors
    /// `OutcomeUnknown`, `Overloaded`, `Damaged`.
    pub async fn formulas<F>(
        &self,
        after: Lsn,
        limit: usize,
        mut wanted: F,
    ) -> Result<FormulaPage, Rejection>
    where
        F: FnMut(&Formula) -> bool + Send + 'static,
    {
        let (mut page, mut from, mut looked_at) = (FormulaPage::default(), after, 0);
        loop {
            let durable = self.shared.durable.lsn().unwrap_or(Lsn::ZERO);
            let found_max = limit - page.formulas.len();
            let range = Range { after: from, durable, found_max };
            // What is wanted travels to the thread and back.
            let piece = self.bodies.on_disk_thread(move |shelves| {
                let piece = scan(shelves, range, &mut wanted);
                (piece, wanted)
            });
            let (piece, handed_back) = piece.await?;
            wanted = handed_back;
            let piece = self.shared.durable.wait(piece?).await?;
            looked_at += piece.looked_at;
            page.formulas.extend(piece.found);
            if let Some(gap) = piece.damage {
                // A page ends before damage, and only one that begins with it says so.
                let is_first = from == after && piece.looked_at == 0;
                page.damage = is_first.then_some(gap);
                page.next = piece.next.filter(|_| !is_first);
                return Ok(page);
            }
            match piece.next {
                Some(next) if page.formulas.len() < limit && looked_at < PAGE_SCAN_MAX => {
                    from = next;
                }
                next => {
                    page.next = next;
                    return self.without_needless_next(page).await;
                }
            }
        }
    }

    /// Takes away a `next` behind which there is nothing.
    async fn without_needless_next(&self, mut page: FormulaPage) -> Result<FormulaPage, Rejection> {
        let Some(next) = page.next else { return Ok(page) };
        let is_end = |state: &State, _| {
            next >= state.base() && state.formulas().after(next).next().is_none()
        };
        if self.ask(is_end).await? {
            page.next = None;
        }
        Ok(page)
    }
}

/// Looks at the next records.
fn scan(
    shelves: &Shelves,
    range: Range,
    wanted: &mut impl FnMut(&Formula) -> bool,
) -> Result<Pending<Piece>, Rejection> {
    loop {
        let base = match Place::of(shelves, range) {
            Place::Base(base) => base,
            Place::Log(lsns, basis) => {
                let piece = scan_log(shelves, &lsns, range, wanted)?;
                return Ok(Pending::new(basis, piece));
            }
        };
        let mut piece = scan_base(shelves, &base, range, wanted);
        let store = shelves.store().read().unwrap_or_else(PoisonError::into_inner);
        // Once another snapshot is in force, what was withdrawn before it is forgotten above it,
        // while the one that was read has it still.
        if store.state.base() == base.lsn() {
            let formulas = store.state.formulas();
            piece.found.retain(|found| !formulas.is_withdrawn(found.lsn));
            return Ok(Pending::new(store.state.lsn(), piece));
        }
    }
}

/// Looks at records of the snapshot. What was withdrawn since is still among what is found.
fn scan_base(
    shelves: &Shelves,
    base: &Base,
    range: Range,
    wanted: &mut impl FnMut(&Formula) -> bool,
) -> Piece {
    let mut piece = Piece { next: Some(range.after), ..Piece::default() };
    let mut records = base.records_after(range.after);
    loop {
        let is_full = piece.found.len() == range.found_max;
        if is_full || piece.looked_at == SCAN_PIECE_RECORDS {
            // Lest a list seems to go on when nothing follows.
            if matches!(records.next(), Ok(None)) {
                piece.next = Some(base.lsn());
            }
            return piece;
        }
        let (lsn, record) = match records.next() {
            Ok(None) => {
                piece.next = Some(base.lsn());
                return piece;
            }
            Ok(Some((lsn, bytes))) => (lsn, base::decode(lsn, bytes)),
            Err(error) => {
                shelves.damaged(base.lsn(), &error);
                piece.damage = Some(records.gap());
                return piece;
            }
        };
        match record {
            Ok(Kept { record, .. }) => {
                let formula = StoredFormula::of(lsn, record.fact, record.at.wall);
                piece.found.extend(formula.filter(|found| wanted(&found.formula)));
            }
            Err(error) => {
                shelves.damaged(lsn, &error);
                piece.damage = Some(Gap { first: lsn, last: lsn });
                return piece;
            }
        }
        (piece.looked_at, piece.next) = (piece.looked_at + 1, Some(lsn));
    }
}

/// Looks at records of the log.
fn scan_log(
    shelves: &Shelves,
    lsns: &[Lsn],
    range: Range,
    wanted: &mut impl FnMut(&Formula) -> bool,
) -> Result<Piece, Rejection> {
    let mut piece = Piece::default();
    for (place, &lsn) in lsns.iter().enumerate() {
        let before = place.checked_sub(1).map_or(range.after, |place| lsns[place]);
        if piece.found.len() == range.found_max || piece.looked_at == SCAN_PIECE_RECORDS {
            piece.next = Some(before);
            break;
        }
        match shelves.formula_or_none(lsn) {
            Ok(formula) => piece.found.extend(formula.filter(|found| wanted(&found.formula))),
            Err(Rejection::Damaged(_)) => {
                piece.damage = Some(Gap { first: lsn, last: lsn });
                piece.next = Some(before);
                break;
            }
            Err(rejection) => return Err(rejection),
        }
        piece.looked_at += 1;
    }
    Ok(piece)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::fixture::Bench;
    use crate::log::{SimDisk, snapshot_path};

    const ALL: Range = Range { after: Lsn::ZERO, durable: Lsn(u64::MAX), found_max: 100 };

    /// The records that one piece after `after` finds, and where the next begins.
    fn look(shelves: &Shelves, after: Lsn, found_max: usize) -> (Vec<Lsn>, Option<Lsn>) {
        look_for(shelves, Range { after, found_max, ..ALL }, |_| true)
    }

    fn look_for(
        shelves: &Shelves,
        range: Range,
        mut wanted: impl FnMut(&Formula) -> bool,
    ) -> (Vec<Lsn>, Option<Lsn>) {
        let pending = scan(shelves, range, &mut wanted).expect("the disk works");
        let piece = pending.open(Lsn(u64::MAX)).expect("everything is durable");
        (piece.found.iter().map(|found| found.lsn).collect(), piece.next)
    }

    #[test]
    fn pieces_go_from_the_snapshot_over_to_the_log() {
        let mut bench = Bench::new();
        let mut stored: Vec<Lsn> = (1..=5).map(|make_up| bench.accept(make_up)).collect();
        bench.compact();
        let base = bench.core.snapshot().lsn;
        stored.extend((6..=8).map(|make_up| bench.accept(make_up)));
        bench.withdraw(2);
        bench.withdraw(7);
        let shelves = bench.shelves();
        assert_eq!(look(&shelves, Lsn::ZERO, 2), (vec![stored[0]], Some(stored[1])));
        assert_eq!(look(&shelves, stored[1], 2), (stored[2..4].to_vec(), Some(stored[3])));
        assert_eq!(look(&shelves, stored[3], 2), (vec![stored[4]], Some(base)));
        assert_eq!(look(&shelves, stored[3], 1), (vec![stored[4]], Some(base)), "it is the last");
        assert_eq!(look(&shelves, base, 1), (vec![stored[5]], Some(stored[5])));
        assert_eq!(look(&shelves, stored[5], 1), (vec![stored[7]], None));
    }

    #[test]
    fn snapshot_that_comes_meanwhile_brings_back_nothing_withdrawn() {
        let mut bench = Bench::new();
        let stored: Vec<Lsn> = (1..=3).map(|make_up| bench.accept(make_up)).collect();
        bench.compact();
        bench.withdraw(2);
        // Its withdrawal is consumed, so that the next snapshot keeps nothing of it.
        let receipts = bench.lease();
        bench.settle(receipts, crate::engine::command::Settlement::Ack);
        let (shelves, mut next) = (bench.shelves(), Some(bench.begin()));
        let (found, _) = look_for(&shelves, ALL, |_| {
            next.take().into_iter().for_each(|next| bench.install(next));
            true
        });
        assert_eq!(found, [stored[0], stored[2]]);
    }

    #[test]
    fn formula_that_is_withdrawn_and_forgotten_meanwhile_is_passed_over() {
        let mut bench = Bench::new();
        let stored: Vec<Lsn> = (1..=3).map(|make_up| bench.accept(make_up)).collect();
        let (shelves, mut is_first) = (bench.shelves(), true);
        let (found, next) = look_for(&shelves, ALL, |_| {
            if std::mem::take(&mut is_first) {
                bench.withdraw(2);
                let receipts = bench.lease();
                bench.settle(receipts, crate::engine::command::Settlement::Ack);
                bench.compact();
            }
            true
        });
        assert_eq!((found, next), (vec![stored[0], stored[2]], None));
    }

    #[test]
    fn list_goes_on_behind_whatever_block_is_damaged() {
        let disk = SimDisk::new(1);
        let mut bench = Bench::on_disk(disk.handle());
        let stored: Vec<Lsn> = (1..=400).map(|make_up| bench.accept(make_up)).collect();
        bench.compact();
        let base = bench.core.snapshot().lsn;
        let path = snapshot_path(base);
        let shelves = bench.shelves();
        let mut is_amid = false;
        // Records begin behind the head's page and end long before the file does.
        for at in (4096..16_384).step_by(797) {
            disk.flip(&path, at * 8);
            let (mut found, mut gaps, mut after) = (Vec::new(), Vec::new(), Lsn::ZERO);
            while after < base {
                let range = Range { after, found_max: 64, ..ALL };
                let pending = scan(&shelves, range, &mut |_: &Formula| true).expect("no error");
                let piece = pending.open(Lsn(u64::MAX)).expect("everything is durable");
                found.extend(piece.found.iter().map(|found| found.lsn));
                let next = piece.damage.map_or(piece.next.expect("the base"), |gap| gap.last);
                assert!(next > after, "it goes forward");
                (gaps, after) = (gaps.into_iter().chain(piece.damage).collect(), next);
            }
            let is_lost = |lsn: &Lsn| gaps.iter().any(|gap| (gap.first..=gap.last).contains(lsn));
            let (lost, left): (Vec<Lsn>, Vec<Lsn>) = stored.iter().partition(|lsn| is_lost(lsn));
            assert_eq!(found, left, "offset {at}: what is not damaged is shown");
            assert!(gaps.len() <= 1 && lost.len() < 200, "offset {at}: {gaps:?}");
            is_amid |= !lost.is_empty() && lost[0] > stored[0];
            disk.flip(&path, at * 8);
        }
        assert!(is_amid, "a block in the middle was damaged");
    }
}
