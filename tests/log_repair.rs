//! Repair: a damaged store opens again, what was good is all there, what is lost is on record.

mod log_support;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use log_support::{Delivered, Records, as_disk, begin, damage, open, payload, records};
use sillage::ids::Lsn;
use sillage::log::inspect::{Presence, Scrutiny, frames, inspect, verify_receipt};
use sillage::log::{Chain, Fault, Kind, Loss, RepairError, SimDisk, SimFault, repair};

/// A store of several segments, with a receipt for each record.
fn build() -> (SimDisk, Records, BTreeMap<Lsn, Chain>) {
    let disk = SimDisk::new(3);
    let (mut records, mut receipts) = (Records::new(), BTreeMap::new());
    for reign in 0..2 {
        let mut log = begin(&disk);
        for n in 0..150 {
            let bytes = payload(reign * 1000 + n, 700);
            let lsn = log.append(Kind::Record, &bytes).expect("appended");
            records.insert(lsn, bytes);
            receipts.insert(lsn, log.chain());
            if n % 9 == 0 {
                let parts = [payload(1, 40), payload(2, 40), payload(3, 40)];
                let first = log.append_group(parts.iter().map(Vec::as_slice)).expect("appended");
                records.extend((first.0..).map(Lsn).zip(parts));
                log.sync().expect("synced");
            }
        }
        log.mark().expect("marked");
    }
    (disk, records, receipts)
}

fn segments(disk: &SimDisk) -> Vec<String> {
    let paths: Vec<String> = disk.paths().iter().map(ToString::to_string).collect();
    paths.into_iter().filter(|path| path.ends_with(".seg")).collect()
}

/// What a receipt shows of a chain.
fn head(chain: Chain) -> [u8; 8] {
    *chain.0.first_chunk().expect("a chain has 32 bytes")
}

fn hull(lost: &[RangeInclusive<Lsn>]) -> RangeInclusive<Lsn> {
    let (first, last) = (lost.first().expect("a loss"), lost.last().expect("a loss"));
    *first.start()..=*last.end()
}

/// Repairs a damaged store, accepting just what is lost, and checks all that must hold after.
fn check_repair(disk: &SimDisk, expected: &Records, what: &str) -> Vec<RangeInclusive<Lsn>> {
    let lost = match repair(&as_disk(disk), None) {
        Err(RepairError::NotAccepted { lost }) => {
            let short = *hull(&lost).start()..=Lsn(hull(&lost).end().0 - 1);
            let refused = repair(&as_disk(disk), Some(short));
            assert!(matches!(refused, Err(RepairError::NotAccepted { .. })), "{what}");
            let report = repair(&as_disk(disk), Some(hull(&lost))).expect("repaired");
            assert_eq!(report.lost, lost, "{what}");
            assert!(!report.mended.is_empty(), "{what}");
            lost
        }
        Ok(report) => {
            assert!(report.lost.is_empty(), "{what}");
            Vec::new()
        }
        Err(other) => panic!("{what}: {other}"),
    };
    check_repaired(disk, expected, &lost, what);
    lost
}

fn check_repaired(disk: &SimDisk, expected: &Records, lost: &[RangeInclusive<Lsn>], what: &str) {
    let is_lost = |lsn: &Lsn| lost.iter().any(|lsns| lsns.contains(lsn));
    let left: Records =
        expected.iter().filter(|(lsn, _)| !is_lost(lsn)).map(|(l, b)| (*l, b.clone())).collect();
    // Twice, and with a reign in between: the loss stays on record, the LSNs stay taken.
    for _ in 0..2 {
        let (opened, delivered) = open(disk).unwrap_or_else(|refusal| panic!("{what}: {refusal}"));
        let found: Records = records(&delivered).into_iter().collect();
        let old: Records = found.into_iter().filter(|(_, bytes)| bytes != b"later").collect();
        assert_eq!(old, left, "{what}");
        assert_eq!(opened.report().losses, lost, "{what}");
        assert_eq!(losses(&delivered), lost, "{what}");
        let mut log = opened.begin(b"opened").expect("begins");
        let lsn = log.append(Kind::Record, b"later").expect("appended");
        assert!(expected.keys().all(|old| *old < lsn), "{what}: LSN {lsn} was given out again");
        log.close().expect("closed");
    }
}

fn losses(delivered: &[Delivered]) -> Vec<RangeInclusive<Lsn>> {
    let losses = delivered.iter().filter(|one| one.kind == Kind::Loss);
    let loss = |one: &Delivered| Loss::decode(one.lsn, &one.payload).expect("a loss");
    losses.map(|one| one.lsn..=loss(one).last).collect()
}

#[test]
fn store_without_damage_is_left_alone() {
    let (disk, ..) = build();
    let before: Vec<_> = disk.paths().iter().map(|path| disk.bytes(path)).collect();
    let report = repair(&as_disk(&disk), Some(Lsn(1)..=Lsn(99))).expect("nothing to do");
    assert_eq!(report, sillage::log::RepairReport::default());
    let after: Vec<_> = disk
        .paths()
        .iter()
        .filter(|path| &***path != "LOCK")
        .collect::<Vec<_>>()
        .iter()
        .map(|path| disk.bytes(path))
        .collect();
    assert!(after.iter().all(|file| before.contains(file)));
}

#[test]
fn damage_anywhere_in_a_segment_costs_only_what_it_hit() {
    let (disk, expected, _) = build();
    for path in segments(&disk) {
        let len = disk.bytes(&path).expect("there").iter().rposition(|&b| b != 0).expect("used");
        for at in (0..len as u64).step_by(997) {
            let damaged = disk.fork();
            damaged.damage(&path, at, &[0xa5; 16]);
            let what = format!("{path} damaged at {at}");
            let lost = check_repair(&damaged, &expected, &what);
            let count: u64 = lost.iter().map(|l| l.end().0 - l.start().0 + 1).sum();
            assert!(count <= 4, "{what}: {lost:?}");
            assert!(at >= 4096 || lost.is_empty(), "{what}: a header can be made anew");
        }
    }
}

#[test]
fn missing_and_cut_segments_are_replaced_by_a_record_of_their_loss() {
    let (disk, expected, _) = build();
    let all = segments(&disk);
    for (place, path) in all.iter().enumerate() {
        let missing = disk.fork();
        missing.lose(path);
        let lost = check_repair(&missing, &expected, &format!("{path} missing"));
        assert_eq!(lost.len(), 1, "segment {place}");
        for at in [0, 100, 4096, 4100, 9000] {
            let cut = disk.fork();
            cut.truncate(path, at);
            check_repair(&cut, &expected, &format!("{path} cut at {at}"));
        }
    }
    // The last segment is missing, and the one before it is cut: the two losses meet.
    let both = disk.fork();
    both.lose(&all[all.len() - 1]);
    both.truncate(&all[all.len() - 2], 9000);
    check_repair(&both, &expected, "the newest missing, the one before it cut");
    let none = disk.fork();
    all.iter().for_each(|path| none.lose(path));
    check_repair(&none, &expected, "all segments missing");
}

#[test]
fn strangers_are_moved_out_of_the_way() {
    let (disk, expected, _) = build();
    let all = segments(&disk);
    let copied = disk.fork();
    copied.put("log/00000000000000000017.seg", &disk.bytes(&all[0]).expect("there"));
    assert!(check_repair(&copied, &expected, "a copy").is_empty());
    let replaced = disk.fork();
    replaced.put(&all[1], &disk.bytes(&all[0]).expect("there"));
    assert_eq!(check_repair(&replaced, &expected, "a copy over another").len(), 1);
}

#[test]
fn lost_super_is_made_anew_from_the_segments() {
    let (disk, expected, _) = build();
    disk.flip("SUPER.a", 700);
    disk.flip("SUPER.b", 700);
    assert!(check_repair(&disk, &expected, "SUPER lost").is_empty());
}

#[test]
fn several_damages_need_one_range_that_covers_them_all() {
    let (disk, expected, _) = build();
    let all = segments(&disk);
    disk.damage(&all[0], 9000, &[0xa5; 16]);
    disk.damage(&all[0], 30_000, &[0xa5; 600]);
    disk.damage(&all[1], 20_000, &[0; 512]);
    assert_eq!(check_repair(&disk, &expected, "three places").len(), 3);
}

#[test]
fn different_histories_are_not_merged() {
    let (disk, ..) = build();
    let fork = disk.fork();
    for (disk, bytes) in [(&disk, b"aaaa"), (&fork, b"bbbb")] {
        let mut log = begin(disk);
        log.append(Kind::Record, bytes).expect("appended");
        log.close().expect("closed");
        drop(begin(disk));
    }
    let all = segments(&disk);
    let third = &all[all.len() - 2];
    disk.put(third, &fork.bytes(third).expect("there"));
    let refused = repair(&as_disk(&disk), Some(Lsn(1)..=Lsn(u64::MAX)));
    let Err(RepairError::Ambiguous(found)) = refused else {
        panic!("merged: {refused:?}");
    };
    assert_eq!(found.fault, Fault::SegmentDiverges);
}

#[test]
fn power_may_fail_at_each_call_of_a_repair() {
    let (disk, expected, _) = build();
    let all = segments(&disk);
    disk.damage(&all[0], 9000, &[0xa5; 16]);
    disk.lose(&all[1]);
    let Err(RepairError::NotAccepted { lost }) = repair(&as_disk(&disk), None) else {
        panic!("there is damage");
    };
    for call in 0.. {
        let crashing = disk.fork();
        crashing.fail_after(crashing.calls() + call, SimFault::PowerOff);
        let ended = repair(&as_disk(&crashing), Some(hull(&lost)));
        for seed in 0..4 {
            let after = crashing.crash(seed);
            repair(&as_disk(&after), Some(hull(&lost))).expect("repaired in the end");
            check_repaired(&after, &expected, &lost, &format!("call {call}, crash {seed}"));
        }
        if ended.is_ok() {
            assert!(call > 10, "a repair makes more calls than {call}");
            break;
        }
    }
}

#[test]
fn undecidable_tail_is_accepted_on_record() {
    let (disk, expected, _) = build();
    let path = segments(&disk).pop().expect("segments");
    let end = disk.bytes(&path).expect("there").iter().rposition(|&b| b != 0).expect("used");
    // Bytes that no crash leaves, right behind the last frame.
    disk.damage(&path, end as u64 + 1, &[0x77; 700]);
    let Err(refusal) = open(&disk) else { panic!("it was not noticed") };
    let (file, _, lsns) = damage(&refusal);
    assert_eq!((file, lsns.start() == lsns.end()), (path, true));
    let options =
        sillage::log::Options { tail: sillage::log::TailPolicy::Accept, ..log_support::options() };
    let by_flag = disk.fork();
    let (opened, _) = log_support::open_with(&as_disk(&by_flag), options).expect("accepted");
    opened.begin(b"opened").expect("begins").close().expect("closed");
    check_repaired(&by_flag, &expected, std::slice::from_ref(&lsns), "accepted by the flag");
    assert!(by_flag.paths().iter().any(|path| path.starts_with("quarantine/")));
    assert_eq!(check_repair(&disk, &expected, "accepted by repair"), [lsns]);
}

#[test]
fn inspection_works_on_a_damaged_store_and_changes_nothing() {
    let (disk, expected, receipts) = build();
    let all = segments(&disk);
    disk.damage(&all[0], 9000, &[0xa5; 16]);
    let before: Vec<_> = disk.paths().iter().map(|path| disk.bytes(path)).collect();
    let found = inspect(&as_disk(&disk), Scrutiny::Whole).expect("inspected");
    assert_eq!(found.segments.len(), all.len());
    assert_eq!(found.damage.len(), 1);
    assert_eq!(*found.damage[0].file, *all[0]);
    assert_eq!(found.losses, []);
    let lost = found.damage[0].lsns.clone();
    let mut seen = Records::new();
    let walked = frames(&as_disk(&disk), |frame| {
        if frame.kind == Kind::Record {
            seen.insert(frame.lsn, frame.payload.to_vec());
        }
        std::ops::ControlFlow::Continue(())
    });
    walked.expect("walked");
    assert!(expected.iter().all(|(lsn, bytes)| seen.get(lsn) == Some(bytes) || lost.contains(lsn)));
    for (lsn, chain) in receipts {
        let presence = verify_receipt(&as_disk(&disk), lsn, head(chain)).expect("verified");
        let expected = if lost.contains(&lsn) { Presence::Lost } else { Presence::Present };
        assert_eq!(presence, expected, "LSN {lsn}");
    }
    let differs = verify_receipt(&as_disk(&disk), Lsn(2), [7; 8]).expect("verified");
    assert_eq!(differs, Presence::Differs);
    let after: Vec<_> = disk.paths().iter().map(|path| disk.bytes(path)).collect();
    assert_eq!(before, after);
}

#[test]
fn receipts_outlive_a_repair() {
    let (disk, _, receipts) = build();
    disk.damage(&segments(&disk)[0], 9000, &[0xa5; 16]);
    let Err(RepairError::NotAccepted { lost }) = repair(&as_disk(&disk), None) else {
        panic!("there is damage");
    };
    repair(&as_disk(&disk), Some(hull(&lost))).expect("repaired");
    for (lsn, chain) in receipts.iter().step_by(7) {
        let presence = verify_receipt(&as_disk(&disk), *lsn, head(*chain)).expect("verified");
        let is_lost = lost.iter().any(|lsns| lsns.contains(lsn));
        assert_eq!(presence == Presence::Lost, is_lost, "LSN {lsn}");
        assert_ne!(presence, Presence::Differs, "LSN {lsn}");
    }
}
