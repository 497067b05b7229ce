//! A log that begins at a snapshot: it opens to the same state wherever a crash came, and
//! whatever is damaged is either stood in for or refused, never lost in silence.

mod log_support;

use log_support::{Records, as_disk, begin, compact, options, payload, state, write_snapshot};
use sillage::ids::Lsn;
use sillage::log::{
    Access, Backup, Error, Fault, Kind, Log, Refusal, SimDisk, SimFault, SnapshotError,
    SnapshotHead, SnapshotWriter, StoreId, prepare, snapshot_path,
};

/// Appends records and syncs them.
fn fill(log: &mut Log, records: &mut Records, count: u64) {
    for _ in 0..count {
        let bytes = payload(log.next_lsn().0, 700);
        records.insert(log.append(Kind::Record, &bytes).expect("appended"), bytes);
    }
    log.sync().expect("synced");
}

/// A store with so many snapshots, segments before and after each, and what it holds.
fn build(snapshots: u64) -> (SimDisk, Records, Vec<Lsn>) {
    let (disk, mut records, mut taken) = (SimDisk::new(3), Records::new(), Vec::new());
    let mut log = begin(&disk);
    fill(&mut log, &mut records, 120);
    for _ in 0..snapshots {
        taken.push(compact(&disk, &mut log));
        fill(&mut log, &mut records, 120);
    }
    log.close().expect("closed");
    (disk, records, taken)
}

fn segments(disk: &SimDisk) -> Vec<String> {
    let paths = disk.paths().into_iter().map(|path| path.to_string());
    paths.filter(|path| path.ends_with(".seg")).collect()
}

fn snapshots(disk: &SimDisk) -> Vec<String> {
    let paths = disk.paths().into_iter().map(|path| path.to_string());
    paths.filter(|path| path.starts_with("snapshots/")).collect()
}

fn first_lsn(path: &str) -> Lsn {
    let digits = path.trim_start_matches("log/").trim_end_matches(".seg");
    Lsn(digits.parse().expect("a segment's name"))
}

#[track_caller]
fn assert_holds(disk: &SimDisk, expected: &Records, what: &str) {
    match state(disk) {
        Ok((_, found)) => assert!(found == *expected, "{what}: another state"),
        Err(refusal) => panic!("{what}: {refusal}"),
    }
}

#[track_caller]
fn refused(disk: &SimDisk) -> sillage::log::Damage {
    match state(disk) {
        Err(Refusal::Damaged(damage)) => *damage,
        Err(other) => panic!("refused for another reason: {other}"),
        Ok(_) => panic!("it opened"),
    }
}

#[test]
fn log_begins_at_the_newest_snapshot_and_keeps_what_the_older_one_needs() {
    let (disk, expected, taken) = build(3);
    let (opened, found) = state(&disk).expect("opens");
    assert_eq!(found, expected);
    let report = opened.report();
    assert_eq!(report.snapshot, taken[2]);
    assert_eq!((&report.snapshot_fallback, &report.covered_missing), (&None, &None));
    assert_eq!(report.snapshot_older_damaged, None);
    assert!(report.clean_shutdown);
    assert!((120..130).contains(&report.delivered), "only what comes after it");
    assert_eq!(snapshots(&disk), [snapshot_path(taken[1]), snapshot_path(taken[2])]);
    assert_eq!(first_lsn(&segments(&disk)[0]), taken[1].next());
    let log = opened.begin(b"opened").expect("begins");
    assert_eq!(log.snapshot().map(|info| info.lsn), Some(taken[2]));
    let mut bytes = Vec::new();
    let newest = expected.keys().last().expect("records");
    assert_eq!(log.reader().read(*newest, &mut bytes).expect("read"), Kind::Record);
    assert_eq!(&bytes, &expected[newest]);
    log.reader().read(Lsn(2), &mut bytes).expect_err("the snapshot has it");
}

#[test]
fn rotation_seals_what_is_there_and_nothing_twice() {
    let disk = SimDisk::new(1);
    let mut log = begin(&disk);
    let first = log.rotate().expect("rotated");
    assert_eq!(first, Lsn(2), "the first frame of the reign, and the seal");
    assert_eq!(log.rotate().expect("rotated"), first);
    log.mark().expect("marked");
    assert_eq!(log.rotate().expect("rotated"), first, "a mark is nothing to take along");
    log.append(Kind::Record, b"one").expect("appended");
    let second = log.rotate().expect("rotated");
    assert_eq!(log.durable().lsn, second, "what was buffered is durable");
    assert!(second > first && log.sealed_to() == second);
    log.append(Kind::Record, b"two").expect("appended");
    disk.set_capacity(1);
    let third = log.rotate().expect("the next segment was ready");
    log.append(Kind::Record, b"three").expect("appended");
    assert!(matches!(log.rotate(), Err(Error::NoSpace)));
    assert!(!log.is_poisoned() && log.sealed_to() == third, "nothing was changed");
    log.sync().expect("synced");
}

#[test]
fn bytes_since_the_snapshot_and_the_index_shrink_when_it_is_installed() {
    let disk = SimDisk::new(1);
    let (mut log, mut records) = (begin(&disk), Records::new());
    fill(&mut log, &mut records, 300);
    let (before, on_disk) = (log.bytes_since_snapshot(), log.bytes_on_disk());
    compact(&disk, &mut log);
    assert!(log.bytes_since_snapshot() * 10 < before);
    assert!(log.bytes_on_disk() >= on_disk, "the covered segments are still there");
    fill(&mut log, &mut records, 1);
    compact(&disk, &mut log);
    assert!(log.bytes_on_disk() < on_disk, "now they are gone");
}

#[test]
fn store_stays_readable_for_older_programs_until_it_has_a_snapshot() {
    let version = |disk: &SimDisk| disk.bytes("SUPER.a").expect("there")[8];
    let (disk, ..) = build(0);
    assert_eq!(version(&disk), 1);
    let (disk, ..) = build(1);
    assert_eq!(version(&disk), 2);
    assert_eq!(disk.bytes("SUPER.a").expect("there")[32], 2, "the oldest reader");
}

#[test]
fn readers_find_every_frame_until_they_can_find_it_in_the_snapshot() {
    let (disk, mut expected, _) = build(1);
    let mut log = begin(&disk);
    fill(&mut log, &mut expected, 5);
    let upto = log.rotate().expect("rotated");
    let (named, bytes) = write_snapshot(&disk, &log, upto).expect("written");
    let (reader, last) = (log.reader(), *expected.keys().next_back().expect("filled"));
    let is_there = || reader.read(last, &mut Vec::new()).is_ok();
    let (was_there, _) = log.install(named, bytes, is_there).expect("installed");
    assert!(was_there, "it is let go only when the snapshot has been taken over");
    assert!(!is_there());
}

/// The steps of a compaction, up to the first that fails.
fn try_compact(disk: &SimDisk, log: &mut Log) -> Result<(), ()> {
    let upto = log.rotate().map_err(drop)?;
    let (named, bytes) = write_snapshot(disk, log, upto).map_err(drop)?;
    log.install(named, bytes, || ()).map_err(drop)?.1.remove().map_err(drop)
}

#[test]
fn power_may_fail_at_each_call_of_a_compaction() {
    for taken in [0, 1, 2] {
        let (disk, mut expected, _) = build(taken);
        let mut log = begin(&disk);
        fill(&mut log, &mut expected, 40);
        drop(log);
        for call in 0.. {
            let crashing = disk.fork();
            let mut log = begin(&crashing);
            crashing.fail_after(crashing.calls() + call, SimFault::PowerOff);
            let ended = try_compact(&crashing, &mut log);
            for seed in 0..6 {
                let what = format!("{taken} snapshots, call {call}, crash {seed}");
                let crashed = crashing.crash(seed);
                assert_holds(&crashed, &expected, &what);
                // Begun, the store is tidy and can go on.
                let mut log = begin(&crashed);
                assert!(snapshots(&crashed).len() <= 2, "{what}: {:?}", snapshots(&crashed));
                let oldest = log.super_block().oldest;
                let all = segments(&crashed);
                assert!(all.iter().all(|path| first_lsn(path) >= oldest), "{what}");
                try_compact(&crashed, &mut log).expect("goes on");
                drop(log);
                assert_holds(&crashed, &expected, &what);
            }
            if ended.is_ok() {
                assert!(call > 15, "a compaction makes more calls than {call}");
                break;
            }
        }
    }
}

#[test]
fn power_may_fail_at_each_call_of_an_opening_that_falls_back() {
    let (disk, expected, taken) = build(3);
    disk.flip(&snapshot_path(taken[2]), 8 * 20);
    for call in 0.. {
        let crashing = disk.fork();
        crashing.fail_after(crashing.calls() + call, SimFault::PowerOff);
        let begun = state(&crashing).map(|(opened, _)| opened.begin(b"opened"));
        for seed in 0..8 {
            let crashed = crashing.crash(seed);
            let what = format!("call {call}, crash {seed}");
            assert_holds(&crashed, &expected, &what);
            drop(begin(&crashed));
            assert_holds(&crashed, &expected, &what);
        }
        if matches!(begun, Ok(Ok(_))) {
            break;
        }
    }
}

#[test]
fn damaged_newest_snapshot_is_stood_in_for_set_aside_and_replaced() {
    let (disk, mut expected, taken) = build(3);
    let newest = snapshot_path(taken[2]);
    disk.flip(&newest, 8 * 20);
    let (opened, found) = state(&disk).expect("opens");
    assert_eq!(found, expected);
    assert_eq!(opened.report().snapshot, taken[1]);
    let alarm = opened.report().snapshot_fallback.clone().expect("an alarm");
    assert_eq!((&*alarm.file, alarm.fault), (&*newest, Fault::SnapshotDamaged));
    let mut log = opened.begin(b"opened").expect("begins");
    assert_eq!(log.super_block().snapshots[0].lsn, taken[1]);
    assert!(disk.bytes(&newest).is_none());
    assert!(
        disk.paths().iter().any(|path| path.starts_with("quarantine/") && path.contains("snap"))
    );
    fill(&mut log, &mut expected, 5);
    compact(&disk, &mut log);
    assert_eq!(log.super_block().oldest, taken[1].next());
    drop(log);
    let (opened, found) = state(&disk).expect("opens");
    assert_eq!(found, expected);
    assert_eq!(opened.report().snapshot_fallback, None);
}

#[test]
fn snapshot_that_the_disk_did_not_keep_as_written_gets_no_name() {
    let (disk, _, taken) = build(1);
    let prepared = prepare(as_disk(&disk), options()).expect("it can be read");
    let head = *prepared.snapshot().expect("there is one").head();
    drop(prepared);
    let mut written = 0;
    // The first whole chunk is on the disk long before the end, and rots there.
    for flipped in [None, Some(8 * 5000), Some(8 * 60_000)] {
        let head = SnapshotHead { lsn: taken[0].next(), ..head };
        let mut out = SnapshotWriter::begin(as_disk(&disk), head).expect("begun");
        let mut random = fastrand::Rng::with_seed(1);
        for lsn in 1..=head.lsn.0.min(100) {
            let bytes: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(30_000).collect();
            out.record(Lsn(lsn), &bytes).expect("written");
        }
        let is_begun =
            |path: &std::sync::Arc<str>| path.starts_with("snapshots/") && path.ends_with(".tmp");
        let path = disk.paths().into_iter().find(is_begun).expect("begun");
        written = written.max(disk.bytes(&path).expect("it is there").len());
        assert!(written > 60_000, "{written} bytes are on the disk already");
        flipped.into_iter().for_each(|bit| disk.flip(&path, bit));
        let ended = out.finish(b"state");
        let is_named = disk.bytes(&snapshot_path(head.lsn)).is_some();
        match flipped {
            None => {
                assert!(ended.is_ok() && is_named);
                disk.lose(&snapshot_path(head.lsn));
            }
            Some(bit) => {
                let is_told = matches!(ended, Err(SnapshotError::Unverified(_)));
                assert!(is_told && !is_named, "bit {bit}: {ended:?}");
            }
        }
        let left: Vec<_> = disk.paths().into_iter().filter(is_begun).collect();
        assert!(left.is_empty(), "{flipped:?} leaves {left:?}");
    }
}

#[test]
fn damaged_older_snapshot_is_an_alarm_until_the_next_takes_its_place() {
    for is_lost in [false, true] {
        let (disk, mut expected, taken) = build(3);
        let older = snapshot_path(taken[1]);
        if is_lost {
            disk.lose(&older)
        } else {
            disk.flip(&older, 8 * 20)
        }
        let (opened, found) = state(&disk).expect("opens");
        assert_eq!(found, expected);
        assert_eq!(opened.report().snapshot, taken[2]);
        assert_eq!(opened.report().snapshot_fallback, None);
        let alarm = opened.report().snapshot_older_damaged.clone().expect("an alarm");
        let fault = if is_lost { Fault::SnapshotMissing } else { Fault::SnapshotDamaged };
        assert_eq!((&*alarm.file, alarm.fault), (&*older, fault));
        let mut log = opened.begin(b"opened").expect("begins");
        fill(&mut log, &mut expected, 5);
        compact(&disk, &mut log);
        drop(log);
        let (opened, found) = state(&disk).expect("opens");
        assert_eq!(found, expected);
        assert_eq!(opened.report().snapshot_older_damaged, None);
    }
}

#[test]
fn newest_snapshot_flipped_anywhere_never_gives_another_state() {
    let (disk, expected, taken) = build(2);
    let path = snapshot_path(taken[1]);
    let bits = disk.bytes(&path).expect("there").len() as u64 * 8;
    let mut fallbacks = 0;
    for bit in (0..bits).step_by(1009) {
        let damaged = disk.fork();
        damaged.flip(&path, bit);
        let prepared = sillage::log::prepare(as_disk(&damaged), options());
        let prepared = prepared.expect("one of the two opens");
        let snapshot = prepared.snapshot().expect("one of the two");
        if snapshot.head().lsn == taken[0] {
            fallbacks += 1;
            drop(prepared);
            assert_holds(&damaged, &expected, &format!("bit {bit}"));
            continue;
        }
        // It opens although it is damaged: then reading what is damaged says so.
        let mut stream = snapshot.records_after(Lsn::ZERO);
        loop {
            match stream.next() {
                Ok(Some((lsn, bytes))) => assert_eq!(expected[&lsn], bytes, "bit {bit}"),
                Ok(None) | Err(sillage::log::ReadError::Damaged { .. }) => break,
                Err(other) => panic!("bit {bit}: {other}"),
            }
        }
    }
    assert!(fallbacks > 0);
}

#[test]
fn missing_snapshot_is_as_good_as_a_damaged_one() {
    let (disk, expected, taken) = build(2);
    disk.lose(&snapshot_path(taken[1]));
    let (opened, found) = state(&disk).expect("opens");
    assert_eq!(found, expected);
    let alarm = opened.report().snapshot_fallback.clone().expect("an alarm");
    assert_eq!(alarm.fault, Fault::SnapshotMissing);
}

#[test]
fn without_any_snapshot_the_log_must_go_back_to_its_beginning() {
    let (disk, expected, taken) = build(1);
    disk.flip(&snapshot_path(taken[0]), 8 * 20);
    let (opened, found) = state(&disk).expect("opens");
    assert_eq!((found, opened.report().snapshot), (expected, Lsn::ZERO));
    assert!(opened.report().snapshot_fallback.is_some());
    let log = opened.begin(b"opened").expect("begins");
    assert_eq!((log.super_block().oldest, log.snapshot()), (Lsn(1), None));

    let (disk, _, taken) = build(2);
    taken.iter().for_each(|lsn| disk.flip(&snapshot_path(*lsn), 8 * 20));
    let found = refused(&disk);
    assert_eq!((&*found.file, found.fault), (&*snapshot_path(taken[1]), Fault::SnapshotsLost));
    assert!(found.to_string().contains("restore a backup"), "{found}");
}

#[test]
fn segments_not_yet_removed_save_a_store_whose_snapshots_are_both_damaged() {
    let (disk, mut expected, _) = build(1);
    let mut log = begin(&disk);
    fill(&mut log, &mut expected, 10);
    let upto = log.rotate().expect("rotated");
    let (named, bytes) = write_snapshot(&disk, &log, upto).expect("written");
    drop(log.install(named, bytes, || ()).expect("installed"));
    drop(log);
    snapshots(&disk).iter().for_each(|path| disk.flip(path, 8 * 20));
    for _ in 0..2 {
        let (opened, found) = state(&disk).expect("opens");
        assert_eq!(found, expected);
        drop(opened.begin(b"opened").expect("begins"));
        assert_eq!(first_lsn(&segments(&disk)[0]), Lsn(1), "the only copy is kept");
    }
}

#[test]
fn missing_covered_segment_is_an_alarm_and_with_the_fallback_a_refusal() {
    let (disk, expected, taken) = build(3);
    let all = segments(&disk);
    let covered: Vec<_> = all.iter().filter(|path| first_lsn(path) <= taken[2]).collect();
    assert!(covered.len() >= 2, "{all:?}");
    for path in &covered {
        let missing = disk.fork();
        missing.lose(path);
        let (opened, found) = state(&missing).expect("opens");
        assert_eq!(found, expected);
        let alarm = opened.report().covered_missing.clone().expect("an alarm");
        assert_eq!((&*alarm.file, alarm.fault), (&***path, Fault::SegmentMissing));
        drop(opened);
        missing.flip(&snapshot_path(taken[2]), 8 * 20);
        assert_eq!(*refused(&missing).file, ***path);
    }
    let after = all.iter().find(|path| first_lsn(path) > taken[2]).expect("there is one");
    disk.lose(after);
    assert_eq!(*refused(&disk).file, **after);
}

#[test]
fn snapshot_of_another_store_or_another_place_is_not_taken() {
    let (disk, expected, taken) = build(2);
    let newest = snapshot_path(taken[1]);
    let other = SimDisk::new(9);
    let options = sillage::log::Options { store_if_new: StoreId([7; 16]), ..options() };
    let (opened, _) = log_support::open_with(&as_disk(&other), options).expect("opens");
    let mut log = opened.begin(b"opened").expect("begins");
    fill(&mut log, &mut Records::new(), 30);
    compact(&other, &mut log);
    let foreign = other.bytes(&snapshots(&other)[0]).expect("there");
    let older = disk.bytes(&snapshot_path(taken[0])).expect("there");
    for stranger in [foreign, older] {
        let swapped = disk.fork();
        swapped.put(&newest, &stranger);
        let (opened, found) = state(&swapped).expect("opens");
        assert_eq!(found, expected);
        assert!(opened.report().snapshot_fallback.is_some());
    }
}

/// Puts the files of a backup on an empty disk.
fn restored(backup: &Backup) -> SimDisk {
    let copy = SimDisk::new(1);
    for file in backup.files() {
        let mut bytes = vec![0; usize::try_from(file.bytes).expect("small")];
        let read = backup.open(file).expect("there").read_full_at(&mut bytes, 0).expect("read");
        assert_eq!(read as u64, file.bytes, "{}", file.path);
        copy.put(&file.path, &bytes);
    }
    backup.made().iter().for_each(|(path, bytes)| copy.put(path, bytes));
    copy
}

#[test]
fn backup_opens_to_the_lsn_it_was_made_at_whatever_happens_meanwhile() {
    for taken in 0..3 {
        let (disk, mut expected, _) = build(taken);
        let mut log = begin(&disk);
        fill(&mut log, &mut expected, 7);
        let (at, backup) = (log.durable().lsn, log.backup());
        assert_eq!(backup.lsn(), at);
        let mut after = expected.clone();
        for _ in 0..3 {
            fill(&mut log, &mut after, 100);
            compact(&disk, &mut log);
        }
        let copy = restored(&backup);
        let (opened, found) = state(&copy).expect("opens");
        assert_eq!((found, opened.report().last), (expected.clone(), at), "{taken} snapshots");
        assert_eq!((opened.report().quarantined_bytes, opened.report().healed), (0, 0));
        assert_eq!(opened.report().covered_missing, None);
        let mut copied = opened.begin(b"opened").expect("begins");
        fill(&mut copied, &mut expected, 3);
        compact(&copy, &mut copied);
        drop(copied);
        assert_holds(&copy, &expected, "the copy goes on");
        let before = disk.paths().len();
        drop(backup);
        assert!(disk.paths().len() < before, "what it held is removed with it");
        drop(log);
        assert_holds(&disk, &after, "the store goes on");
    }
}

#[test]
fn removal_waits_for_the_last_reader() {
    let (disk, mut expected, taken) = build(2);
    let mut log = begin(&disk);
    let (one, two) = (log.backup(), log.backup().retain());
    fill(&mut log, &mut expected, 1);
    compact(&disk, &mut log);
    let oldest = snapshot_path(taken[0]);
    assert!(as_disk(&disk).open(&oldest, Access::Read).is_ok());
    drop(one);
    assert!(as_disk(&disk).open(&oldest, Access::Read).is_ok());
    drop(two);
    assert!(as_disk(&disk).open(&oldest, Access::Read).is_err());
}
