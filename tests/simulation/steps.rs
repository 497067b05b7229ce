//! One fault at each call on the disk that a compaction makes, from the rotation to the removal
//! of old files: none is left out by chance.

use std::sync::Arc;

use sillage::engine::command::Submission;
use sillage::engine::compactor::compact;
use sillage::engine::core::{CompactionPolicy, Core, Setting};
use sillage::engine::decide::{Command, Policy, Reply};
use sillage::engine::findings::Findings;
use sillage::engine::open::open;
use sillage::ids::Lsn;
use sillage::log::{SimDisk, SimFault};
use sillage::record::Fact;
use sillage::time::ManualClock;

use crate::model::checked;
use crate::world::options;

/// Formulas between two snapshots.
const FORMULAS: u32 = 20;

/// How far a compaction came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// To its end; files may be left that the next start removes.
    Done,
    /// It came to nothing, and the store goes on.
    Abandoned,
    /// The log failed.
    Poisoned,
}

fn begin(disk: &SimDisk) -> Core {
    let policy = Policy { attempts_max: 3, retention_ms: 5_000, flow: &[] };
    let clock = Arc::new(ManualClock::at(1_795_000_000_000));
    let setting = Setting { clock, policy, compaction: CompactionPolicy::default(), seed: 1 };
    let opened = open(Arc::new(disk.handle()), options(), setting);
    opened.unwrap_or_else(|error| panic!("a mere fault is no damage: {error}")).0
}

/// Stores a make-up that is not there yet.
fn store(core: &mut Core, make_up: u32) -> Lsn {
    let checked = checked(make_up);
    let (formula, fingerprint) = (checked.formula, checked.fingerprint);
    let command = Command::Accept(Submission { formula, fingerprint, key: None });
    let pending = core.execute(command, Findings::default()).expect("the log is sound");
    core.sync().expect("the log is sound");
    match core.release(pending).expect("it was synced") {
        Ok(Reply::Accepted(stored)) => stored.lsn,
        other => panic!("make-up {make_up}: {other:?}"),
    }
}

fn fill(core: &mut Core, first: u32) -> Vec<(u32, Lsn)> {
    (first..first + FORMULAS).map(|make_up| (make_up, store(core, make_up))).collect()
}

fn try_compact(core: &mut Core) -> Ended {
    let task = match core.begin_compaction(Arc::default()) {
        Ok(task) => task.expect("there is something new"),
        Err(sillage::log::Error::NoSpace) => return Ended::Abandoned,
        Err(_) => return Ended::Poisoned,
    };
    let Ok(compacted) = compact(&task) else {
        core.abandon();
        return Ended::Abandoned;
    };
    let Ok((let_go, obsolete)) = core.install(compacted) else { return Ended::Poisoned };
    drop(let_go);
    // What cannot be removed is left to the next start.
    drop(obsolete.remove());
    Ended::Done
}

fn assert_holds(core: &Core, expected: &[(u32, Lsn)], what: &str) {
    let shared = core.store();
    let store = shared.read().expect("no panic holds this lock");
    store.state.check_invariants();
    assert_eq!(store.state.formulas().len(), expected.len(), "{what}");
    for &(make_up, lsn) in expected {
        let checked = checked(make_up);
        let found = store.find(&checked.fingerprint).expect("it can be read");
        assert_eq!(found, Some(lsn), "{what}: make-up {make_up}");
        let kept = core.read(lsn).expect("it can be read").expect("it is there");
        let Fact::FormulaAccepted(accepted) = kept.record.fact else { panic!("{what}: {lsn}") };
        assert_eq!(accepted.formula, checked.formula, "{what}");
    }
}

fn is_half_snapshot(path: &str) -> bool {
    path.starts_with("snapshots/") && path.ends_with(".tmp")
}

/// A store with two snapshots and more on top.
fn two_snapshots() -> (SimDisk, Vec<(u32, Lsn)>) {
    let disk = SimDisk::new(5);
    let mut core = begin(&disk);
    let mut expected = Vec::new();
    for first in [0, FORMULAS] {
        expected.extend(fill(&mut core, first));
        assert_eq!(try_compact(&mut core), Ended::Done);
    }
    expected.extend(fill(&mut core, 2 * FORMULAS));
    drop(core);
    (disk, expected)
}

#[test]
fn compaction_that_fails_at_any_call_costs_nothing() {
    let (disk, stored) = two_snapshots();
    for fault in [SimFault::PowerOff, SimFault::Eio, SimFault::Enospc, SimFault::Short] {
        let (mut seen, mut found_later) = (Vec::new(), 0);
        for call in 0.. {
            let (failing, mut expected) = (disk.fork(), stored.clone());
            let mut core = begin(&failing);
            failing.fail_after(failing.calls() + call, fault);
            let last = failing.calls() + call;
            let ended = try_compact(&mut core);
            let what = format!("{fault:?} at call {call}: {ended:?}");
            let was_reached = failing.calls() > last;
            seen.push(ended);
            if was_reached && fault != SimFault::PowerOff && ended != Ended::Poisoned {
                // Here the store goes on, and the next attempt succeeds.
                assert_holds(&core, &expected, &what);
                core.retry_space();
                expected.extend([(3 * FORMULAS, store(&mut core, 3 * FORMULAS))]);
                // Unless it was the next segment whose preparation failed: that shows only now.
                match try_compact(&mut core) {
                    Ended::Poisoned if fault == SimFault::Eio => found_later += 1,
                    again => assert_eq!(again, Ended::Done, "{what}"),
                }
                assert_holds(&core, &expected, &what);
            }
            drop(core);
            for seed in 0..3 {
                let crashed = failing.crash(seed);
                let mut core = begin(&crashed);
                assert_holds(&core, &expected, &what);
                let tmp = crashed.paths().into_iter().filter(|path| is_half_snapshot(path));
                assert_eq!(tmp.count(), 0, "{what}");
                expected.extend([(4 * FORMULAS, store(&mut core, 4 * FORMULAS))]);
                assert_eq!(try_compact(&mut core), Ended::Done, "{what}");
                assert_holds(&core, &expected, &what);
                expected.pop();
            }
            if !was_reached {
                assert!(call > 15, "a compaction makes more calls than {call}");
                break;
            }
        }
        assert!(found_later < 8, "a segment is prepared in a few calls, not in {found_later}");
        let abandoned = seen.iter().filter(|ended| **ended == Ended::Abandoned).count();
        assert!(abandoned > 5 || fault == SimFault::Short, "{fault:?}: {seen:?}");
    }
}
