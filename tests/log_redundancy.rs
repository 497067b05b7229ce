//! Check and repair of a store with snapshots: what it holds twice is set aside without loss,
//! what it holds once is given up only with consent, and what is nowhere is refused.

mod log_support;

use log_support::{Records, as_disk, begin, compact, payload, state};
use sillage::ids::Lsn;
use sillage::log::inspect::{Inspection, Scrutiny, inspect};
use sillage::log::{
    Fault, Kind, RepairError, RepairReport, SimDisk, SimFault, repair, snapshot_path,
};

/// A store with three snapshots taken, the last two of which are there, and what it holds.
fn build() -> (SimDisk, Records, [Lsn; 2]) {
    let (disk, mut records, mut taken) = (SimDisk::new(3), Records::new(), Vec::new());
    let mut log = begin(&disk);
    for _ in 0..4 {
        for n in 0..150 {
            let bytes = payload(log.next_lsn().0, 700);
            records.insert(log.append(Kind::Record, &bytes).expect("appended"), bytes);
            if n % 9 == 0 {
                log.sync().expect("synced");
            }
        }
        log.sync().expect("synced");
        if taken.len() < 3 {
            taken.push(compact(&disk, &mut log));
        }
    }
    log.close().expect("closed");
    (disk, records, [taken[2], taken[1]])
}

fn segments(disk: &SimDisk, covered: impl Fn(Lsn) -> bool) -> Vec<String> {
    let paths = disk.paths().into_iter().map(|path| path.to_string());
    let first = |path: &str| path[4..24].parse().map(Lsn).expect("a segment's name");
    paths.filter(|path| path.ends_with(".seg") && covered(first(path))).collect()
}

fn look(disk: &SimDisk) -> Inspection {
    inspect(&as_disk(disk), Scrutiny::Whole).expect("inspected")
}

fn faults(found: &Inspection) -> (Vec<Fault>, Vec<Fault>) {
    let faults = |damage: &[sillage::log::Damage]| damage.iter().map(|one| one.fault).collect();
    (faults(&found.damage), faults(&found.redundant))
}

/// Repairs without giving anything up; checks that all is there and that nothing is left to do.
#[track_caller]
fn repair_for_free(disk: &SimDisk, expected: &Records) -> RepairReport {
    let report = repair(&as_disk(disk), None).expect("nothing is lost");
    assert!(report.lost.is_empty() && !report.mended.is_empty());
    assert_eq!(faults(&look(disk)), (vec![], vec![]));
    let again = repair(&as_disk(disk), None).expect("nothing to do");
    assert_eq!(again, RepairReport::default());
    let (opened, found) = state(disk).expect("opens");
    assert!(found == *expected, "another state");
    assert_eq!(opened.report().snapshot_fallback, None);
    assert_eq!(opened.report().covered_missing, None);
    let mut log = opened.begin(b"opened").expect("begins");
    compact(disk, &mut log);
    drop(log);
    assert_eq!(faults(&look(disk)), (vec![], vec![]));
    assert!(state(disk).expect("opens").1 == *expected);
    report
}

#[test]
fn sound_store_with_snapshots_is_sound_to_every_look() {
    let (disk, _, taken) = build();
    for scrutiny in [Scrutiny::Heads, Scrutiny::Whole] {
        let found = inspect(&as_disk(&disk), scrutiny).expect("inspected");
        assert_eq!(faults(&found), (vec![], vec![]));
        let shown: Vec<Lsn> = found.snapshots.iter().map(|one| one.lsn).collect();
        assert_eq!(shown, taken);
        assert!(found.snapshots.iter().all(|one| one.bytes.is_some()));
        assert_eq!(found.segments[0].first, taken[1].next(), "the covered ones are read too");
    }
    assert_eq!(repair(&as_disk(&disk), None).expect("nothing to do"), RepairReport::default());
}

#[test]
fn every_damage_to_either_snapshot_is_found_and_repaired_for_free() {
    let (disk, expected, taken) = build();
    for lsn in taken {
        let path = snapshot_path(lsn);
        let len = disk.bytes(&path).expect("there").len() as u64;
        for at in (0..len).step_by(4999).chain([len - 1]) {
            let damaged = disk.fork();
            damaged.flip(&path, at * 8 + at % 8);
            assert_eq!(faults(&look(&damaged)), (vec![], vec![Fault::SnapshotDamaged]), "{at}");
            let report = repair_for_free(&damaged, &expected);
            let aside = report.quarantined.iter().filter(|path| path.contains(".snap"));
            assert_eq!(aside.count(), 1, "{at}");
        }
        let missing = disk.fork();
        missing.lose(&path);
        assert_eq!(faults(&look(&missing)), (vec![], vec![Fault::SnapshotMissing]));
        repair_for_free(&missing, &expected);
    }
}

#[test]
fn damage_to_covered_segments_costs_nothing() {
    let (disk, expected, [newest, older]) = build();
    for path in segments(&disk, |first| first <= newest) {
        let len = disk.bytes(&path).expect("there").len() as u64;
        for at in (0..len).step_by(9973) {
            let damaged = disk.fork();
            damaged.damage(&path, at, &[0xa5; 16]);
            let (damage, redundant) = faults(&look(&damaged));
            assert!(damage.is_empty() && !redundant.is_empty(), "{path} at {at}");
            let report = repair_for_free(&damaged, &expected);
            let aside = format!("quarantine/{:020}.snap", older.0);
            assert!(report.quarantined.iter().any(|path| path.starts_with(&aside)));
        }
        let missing = disk.fork();
        missing.lose(&path);
        assert_eq!(faults(&look(&missing)), (vec![], vec![Fault::SegmentMissing]), "{path}");
        repair_for_free(&missing, &expected);
    }
    let all = disk.fork();
    segments(&disk, |first| first <= newest).iter().for_each(|path| all.lose(path));
    repair_for_free(&all, &expected);
}

#[test]
fn damage_after_the_snapshot_needs_consent_as_ever() {
    let (disk, expected, [newest, _]) = build();
    let after = segments(&disk, |first| first > newest);
    let covered = segments(&disk, |first| first <= newest);
    // Alone, and with damage beside it that costs nothing.
    for beside in [None, Some(&covered[0])] {
        let damaged = disk.fork();
        damaged.damage(&after[0], 9000, &[0xa5; 16]);
        beside.iter().for_each(|path| damaged.lose(path));
        let Err(RepairError::NotAccepted { lost }) = repair(&as_disk(&damaged), None) else {
            panic!("something is lost");
        };
        assert_eq!(lost.len(), 1);
        assert!(*lost[0].start() > newest);
        let report = repair(&as_disk(&damaged), Some(lost[0].clone())).expect("repaired");
        assert_eq!(report.lost, lost);
        let left = expected.iter().filter(|(lsn, _)| !lost[0].contains(lsn));
        let left: Records = left.map(|(lsn, bytes)| (*lsn, bytes.clone())).collect();
        let (opened, found) = state(&damaged).expect("opens");
        assert!(found == left);
        assert_eq!(opened.report().losses, lost);
        let mut log = opened.begin(b"opened").expect("begins");
        compact(&damaged, &mut log);
        drop(log);
        assert!(state(&damaged).expect("opens").1 == left);
    }
}

#[test]
fn segments_lost_on_both_sides_of_the_snapshot_are_told_apart() {
    let (disk, _, [newest, _]) = build();
    let all = segments(&disk, |_| true);
    let place = all.iter().position(|path| *path > format!("log/{:020}.seg", newest.0));
    let place = place.expect("there is one after it");
    disk.lose(&all[place]);
    disk.lose(&all[place - 1]);
    let found = look(&disk);
    assert_eq!(faults(&found), (vec![Fault::SegmentMissing], vec![Fault::SegmentMissing]));
    assert_eq!(*found.damage[0].lsns.start(), newest.next());
    assert_eq!(*found.redundant[0].lsns.end(), newest);
}

#[test]
fn damaged_newest_snapshot_and_a_damaged_log_before_it_need_consent() {
    let (disk, expected, [newest, _]) = build();
    disk.flip(&snapshot_path(newest), 8 * 20);
    disk.damage(&segments(&disk, |first| first <= newest)[0], 9000, &[0xa5; 16]);
    let Err(RepairError::NotAccepted { lost }) = repair(&as_disk(&disk), None) else {
        panic!("something is lost");
    };
    repair(&as_disk(&disk), Some(lost[0].clone())).expect("repaired");
    let left = expected.iter().filter(|(lsn, _)| !lost[0].contains(lsn));
    let left: Records = left.map(|(lsn, bytes)| (*lsn, bytes.clone())).collect();
    assert!(state(&disk).expect("opens").1 == left);
}

#[test]
fn without_snapshots_and_beginning_there_is_no_repair() {
    let (disk, _, taken) = build();
    taken.iter().for_each(|lsn| disk.flip(&snapshot_path(*lsn), 8 * 20));
    assert!(look(&disk).damage.iter().any(|damage| damage.fault == Fault::SnapshotsLost));
    let all = Lsn(1)..=Lsn(u64::MAX);
    let Err(RepairError::Ambiguous(damage)) = repair(&as_disk(&disk), Some(all)) else {
        panic!("repaired from nothing");
    };
    assert_eq!(damage.fault, Fault::SnapshotsLost);
}

#[test]
fn lost_super_is_made_anew_with_its_snapshots() {
    let (disk, expected, taken) = build();
    ["SUPER.a", "SUPER.b"].iter().for_each(|path| disk.flip(path, 700));
    repair(&as_disk(&disk), None).expect("repaired");
    let (opened, found) = state(&disk).expect("opens");
    assert!(found == expected);
    assert_eq!(opened.report().snapshot, taken[0]);
    assert_eq!(opened.report().covered_missing, None);
}

#[test]
fn power_may_fail_at_each_call_of_a_repair_that_sets_aside() {
    let (disk, expected, [newest, _]) = build();
    let snapshot = disk.fork();
    snapshot.flip(&snapshot_path(newest), 8 * 9000);
    let segment = disk.fork();
    segment.damage(&segments(&disk, |first| first <= newest)[0], 9000, &[0xa5; 16]);
    for damaged in [snapshot, segment] {
        for call in 0.. {
            let crashing = damaged.fork();
            crashing.fail_after(crashing.calls() + call, SimFault::PowerOff);
            let ended = repair(&as_disk(&crashing), None);
            for seed in 0..4 {
                let after = crashing.crash(seed);
                repair(&as_disk(&after), None).expect("repaired in the end");
                assert!(state(&after).expect("opens").1 == expected, "call {call}, crash {seed}");
                assert_eq!(faults(&look(&after)), (vec![], vec![]));
            }
            if ended.is_ok() {
                break;
            }
        }
    }
}
