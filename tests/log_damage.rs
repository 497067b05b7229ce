//! Damage at rest: after it the log either delivers everything that was acknowledged, unchanged,
//! or refuses to open and names file, offset and LSNs. Nothing in between.

#![allow(clippy::cast_possible_truncation, reason = "offsets are small")]

mod log_support;

use std::collections::BTreeMap;
use std::ops::{Range, RangeInclusive};

use log_support::{begin, damage, open, payload, records};
use sillage::ids::Lsn;
use sillage::log::{Fault, Kind, Refusal, SimDisk};

/// Bytes of a segment's header.
const HEADER: u64 = sillage::limits::SEGMENT_HEADER_BYTES as u64;

/// A store of several segments, shut down in order or not, and what it has acknowledged.
struct Store {
    disk: SimDisk,
    records: Vec<(Lsn, Vec<u8>)>,
    segments: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// Shut down in order.
    Closed,
    /// Killed when it had fallen quiet.
    Marked,
    /// Killed right after the last sync; WATERMARK survived, as it does when only the process
    /// dies.
    Synced,
}

impl End {
    /// Of the places to damage, take each, or each seventh: seconds count.
    fn step(self) -> u64 {
        if self == End::Marked { 1 } else { 7 }
    }
}

impl Store {
    /// Two reigns, the last of which ends as `end` says.
    fn build(per_reign: u64, len: usize, end: End) -> Store {
        let disk = SimDisk::new(3);
        let mut records = Vec::new();
        for reign in 0..2 {
            let mut log = begin(&disk);
            for n in 0..per_reign {
                let bytes = payload(reign * per_reign + n, len);
                records.push((log.append(Kind::Record, &bytes).expect("appended"), bytes));
                if n % 5 == 0 {
                    log.sync().expect("synced");
                }
            }
            let parts = [payload(1, len), payload(2, len), payload(3, len)];
            let first = log.append_group(parts.iter().map(Vec::as_slice)).expect("appended");
            records.extend((first.0..).map(Lsn).zip(parts));
            log.sync().expect("synced");
            match end {
                End::Closed => log.close().expect("closed"),
                End::Marked => drop(log.mark().expect("marked")),
                End::Synced => drop(log),
            }
        }
        let segments: Vec<String> = disk.paths().iter().map(ToString::to_string).collect();
        let segments = segments.into_iter().filter(|path| path.ends_with(".seg")).collect();
        let store = Store { disk, records, segments };
        // Zeros after the last frame would only be read, over and over.
        let tail = store.segments.last().expect("two segments");
        store.disk.truncate(tail, store.used(tail));
        store
    }

    /// Checks that a damaged copy delivers everything or refuses because of `file`.
    fn check(&self, damaged: &SimDisk, file: &str, what: &str) -> Outcome {
        match open(damaged) {
            Ok((_, delivered)) => {
                assert_eq!(records(&delivered), self.records, "{what}: silent loss");
                Outcome::Delivered
            }
            Err(refusal) => {
                let (named, offset, lsns) = damage(&refusal);
                assert_eq!(named, file, "{what}: {refusal}");
                assert!(lsns.start() <= lsns.end(), "{what}: {refusal}");
                Outcome::Refused(offset, lsns)
            }
        }
    }

    /// After the last byte that is not zero.
    fn used(&self, path: &str) -> u64 {
        let bytes = self.disk.bytes(path).expect("there");
        bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last as u64 + 1)
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Delivered,
    Refused(u64, RangeInclusive<Lsn>),
}

/// Runs `check` for all numbers of a range, on all cores.
fn for_all(range: Range<u64>, check: impl Fn(u64) + Sync) {
    let threads = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let check = &check;
            let mine = (range.start + thread..range.end).step_by(threads as usize);
            scope.spawn(move || mine.for_each(check));
        }
    });
}

#[test]
fn every_flipped_bit_of_the_log_is_noticed_and_refused() {
    // Many small stores instead of a large one: each flip costs a whole recovery.
    let stores: Vec<Store> = (0..12).map(|n| Store::build(6 + n, 200, End::Marked)).collect();
    let frames = |store: &Store, path: &String| store.used(path) - HEADER;
    let sizes = stores.iter().flat_map(|one| one.segments.iter().map(|path| frames(one, path)));
    assert!(sizes.sum::<u64>() >= 64 << 10);
    for (n, store) in stores.iter().enumerate() {
        for path in &store.segments {
            let from = if n == 0 { 0 } else { HEADER * 8 };
            for_all(from..store.used(path) * 8, |bit| {
                let damaged = store.disk.fork();
                damaged.flip(path, bit);
                let what = format!("store {n}, bit {bit} of {path}");
                let Outcome::Refused(offset, _) = store.check(&damaged, path, &what) else {
                    panic!("{what}: not even noticed");
                };
                assert!(offset <= bit / 8, "{what}: {offset} named");
                assert!(bit / 8 - offset < HEADER, "{what}: {offset} named");
            });
        }
    }
}

#[test]
fn every_flipped_bit_of_super_and_watermark_is_healed_from_its_twin() {
    for end in [End::Closed, End::Marked, End::Synced] {
        let store = Store::build(12, 200, end);
        for path in ["SUPER.a", "SUPER.b", "WATERMARK"] {
            // Of WATERMARK only the slots are read, but no other byte may do harm either.
            for_all(0..store.disk.bytes(path).expect("there").len() as u64 * 8 / end.step(), |n| {
                let bit = n * end.step();
                let damaged = store.disk.fork();
                damaged.flip(path, bit);
                let (opened, delivered) = open(&damaged).expect("opens");
                assert_eq!(records(&delivered), store.records, "bit {bit} of {path}");
                if path != "WATERMARK" {
                    assert_eq!(opened.report().healed, 1, "bit {bit} of {path}");
                }
                if bit % 499 == 0 {
                    drop(opened.begin(b"opened").expect("begins"));
                    let (opened, _) = open(&damaged).expect("opens again");
                    assert_eq!(opened.report().healed, 0, "bit {bit} of {path}");
                }
            });
        }
    }
}

#[test]
fn both_copies_of_super_lost_is_refused() {
    let store = Store::build(12, 200, End::Closed);
    for (a, b) in [(true, true), (false, true), (true, false)] {
        let damaged = store.disk.fork();
        for (path, gone) in [("SUPER.a", a), ("SUPER.b", b)] {
            if gone { damaged.lose(path) } else { damaged.flip(path, 333) }
        }
        let outcome = store.check(&damaged, "SUPER.a", "no SUPER");
        assert_eq!(outcome, Outcome::Refused(0, Lsn(1)..=last_first(&store)));
    }
}

fn last_first(store: &Store) -> Lsn {
    let name = store.segments.last().expect("segments");
    Lsn(name["log/".len().."log/".len() + 20].parse().expect("digits"))
}

#[test]
fn log_of_two_hundred_records_may_be_cut_at_every_offset() {
    for end in [End::Closed, End::Marked, End::Synced] {
        let store = Store::build(100, 60, end);
        for path in &store.segments {
            for_all(0..store.used(path) / end.step(), |n| {
                let at = n * end.step();
                for how in ["truncated", "zeroed"] {
                    let damaged = store.disk.fork();
                    if how == "truncated" {
                        damaged.truncate(path, at);
                    } else {
                        let rest = (store.used(path) - at) as usize;
                        damaged.damage(path, at, &vec![0; rest]);
                    }
                    let what = format!("{path} {how} at {at}");
                    assert_ne!(store.check(&damaged, path, &what), Outcome::Delivered, "{what}");
                }
            });
        }
    }
}

#[test]
fn zeroed_blocks_are_never_taken_for_the_end() {
    let store = Store::build(60, 300, End::Marked);
    for path in &store.segments {
        for block in [8, 512, 4096] {
            let step = if block == 8 { 8 } else { block / 4 };
            for_all(0..store.used(path) / step, |n| {
                let (at, damaged) = (n * step, store.disk.fork());
                let before = store.disk.bytes(path).expect("there");
                let len = block.min(before.len() as u64 - at) as usize;
                damaged.damage(path, at, &vec![0; len]);
                let what = format!("{block} bytes of {path} zeroed at {at}");
                let outcome = store.check(&damaged, path, &what);
                let same = before[at as usize..at as usize + len].iter().all(|&byte| byte == 0);
                assert_eq!(outcome == Outcome::Delivered, same, "{what}");
            });
        }
    }
}

#[test]
fn misdirected_stale_and_copied_frames_are_refused() {
    let store = Store::build(60, 300, End::Marked);
    let (first, second) = (&store.segments[0], &store.segments[1]);
    let (one, two) =
        (store.disk.bytes(first).expect("there"), store.disk.bytes(second).expect("there"));
    // The frames of these tests are equally long: a copy lands exactly on another frame.
    let frame = sillage::limits::FRAME_HEADER_BYTES + 304;
    let at = HEADER as usize + 56;
    let cases: [(&str, usize, &[u8]); 4] = [
        ("misdirected within its segment", at + 5 * frame, &one[at + 9 * frame..][..frame]),
        ("from another segment", at + 5 * frame, &two[at + 5 * frame..][..frame]),
        ("shifted by eight bytes", at + 8, &one[at..][..4 * frame]),
        ("an older state of the same place", at + 5 * frame, &one[at + 4 * frame..][..frame]),
    ];
    for (what, at, bytes) in cases {
        let damaged = store.disk.fork();
        damaged.damage(first, at as u64, bytes);
        assert_ne!(store.check(&damaged, first, what), Outcome::Delivered, "{what}");
    }
}

#[test]
fn missing_segments_are_noticed_wherever_they_were() {
    let store = Store::build(200, 500, End::Closed);
    assert!(store.segments.len() >= 4);
    for (place, path) in store.segments.iter().enumerate() {
        let damaged = store.disk.fork();
        damaged.lose(path);
        let Err(Refusal::Damaged(found)) = open(&damaged).map(drop) else {
            panic!("segment {place} is missing and nobody noticed");
        };
        assert_eq!((&*found.file, found.fault), (path.as_str(), Fault::SegmentMissing));
    }
}

#[test]
fn copied_renamed_and_foreign_segments_are_refused() {
    let store = Store::build(200, 500, End::Closed);
    let bytes = |n: usize| store.disk.bytes(&store.segments[n]).expect("there");
    let refused = |damaged: &SimDisk, fault| {
        let Err(Refusal::Damaged(found)) = open(damaged).map(drop) else {
            panic!("{fault:?} was not noticed");
        };
        assert_eq!(found.fault, fault);
    };
    let copied = store.disk.fork();
    copied.put("log/00000000000000000017.seg", &bytes(0));
    refused(&copied, Fault::SegmentUnexpected);
    let replaced = store.disk.fork();
    replaced.put(&store.segments[1], &bytes(2));
    refused(&replaced, Fault::SegmentMisplaced);
    let beyond = store.disk.fork();
    beyond.put("log/00000000000000009999.seg", &bytes(2));
    refused(&beyond, Fault::SuperBehind);

    let other = SimDisk::new(9);
    let stranger = sillage::log::StoreId([1; 16]);
    let options = sillage::log::Options { store_if_new: stranger, ..log_support::options() };
    let (opened, _) =
        log_support::open_with(&log_support::as_disk(&other), options).expect("opens");
    drop(opened.begin(b"opened").expect("begins"));
    let foreign = store.disk.fork();
    foreign.put(&store.segments[0], &other.bytes(&store.segments[0]).expect("there"));
    refused(&foreign, Fault::SegmentForeign);
}

#[test]
fn super_put_back_from_an_older_copy_is_refused() {
    let disk = SimDisk::new(1);
    drop(begin(&disk));
    let old: Vec<_> = ["SUPER.a", "SUPER.b"].map(|path| (path, disk.bytes(path))).into();
    let mut log = begin(&disk);
    log.append(Kind::Record, b"myrrh").expect("appended");
    log.close().expect("closed");
    for (path, bytes) in old {
        disk.put(path, &bytes.expect("there"));
    }
    let Err(Refusal::Damaged(found)) = open(&disk).map(drop) else {
        panic!("an old SUPER was not noticed");
    };
    assert_eq!(found.fault, Fault::SuperBehind);
}

#[test]
fn log_replaced_by_another_history_of_the_same_store_is_refused() {
    let disk = SimDisk::new(1);
    drop(begin(&disk));
    let histories = ["cade", "birch"].map(|text| {
        let disk = disk.fork();
        let mut log = begin(&disk);
        let lsn = log.append(Kind::Record, text.as_bytes()).expect("appended");
        log.sync().expect("synced");
        (disk, lsn)
    });
    let [(one, _), (two, _)] = histories;
    let newest = one.paths().iter().rfind(|path| path.ends_with(".seg")).expect("there").clone();
    two.put(&newest, &one.bytes(&newest).expect("there"));
    let Err(Refusal::Damaged(found)) = open(&two).map(drop) else {
        panic!("another history was not noticed");
    };
    assert_eq!(found.fault, Fault::Frame(sillage::log::Flaw::History));
}

#[test]
fn damage_to_the_last_batch_is_not_taken_for_a_torn_write() {
    // The machine lost power right after a sync: WATERMARK and the idle mark are not there.
    let store = Store::build(12, 2000, End::Synced);
    let path = store.segments.last().expect("segments");
    let bare = store.disk.fork();
    let zeroed: BTreeMap<u64, [u8; 64]> = [(0, [0; 64]), (4096, [0; 64])].into();
    let nothing = SimDisk::new(1);
    drop(open(&nothing).expect("a store without frames"));
    for at in zeroed.keys() {
        let empty = nothing.bytes("WATERMARK").expect("there");
        bare.damage("WATERMARK", *at, &empty[*at as usize..*at as usize + 64]);
    }
    assert_eq!(store.check(&bare, path, "bare"), Outcome::Delivered);
    let (used, mut silent) = (store.used(path), 0);
    let last_frame = used - 2000..used - 8;
    for bit in last_frame.start * 8..last_frame.end * 8 {
        let damaged = bare.fork();
        damaged.flip(path, bit);
        match open(&damaged) {
            // A flip that leaves a zero where a sector ends looks like a tear.
            Ok(_) => {
                assert_eq!(damaged.bytes(path).expect("there")[bit as usize / 8], 0);
                silent += 1;
            }
            Err(Refusal::Damaged(found)) => assert_eq!(found.fault, Fault::Undecidable),
            Err(other) => panic!("{other}"),
        }
    }
    assert!(silent < 8, "{silent} of 16,000 flips were not noticed");
}

#[test]
fn unreadable_bytes_are_an_error_not_an_end() {
    let store = Store::build(12, 200, End::Marked);
    for path in &store.segments {
        let damaged = store.disk.fork();
        damaged.make_unreadable(path, 5000..5001);
        let refused = open(&damaged).map(drop);
        assert!(matches!(refused, Err(Refusal::Disk(_))), "{path}");
    }
}

#[test]
fn rot_that_comes_while_the_log_is_open_is_never_served() {
    let disk = SimDisk::new(1);
    let mut log = begin(&disk);
    let lsn = log.append(Kind::Record, b"opopanax").expect("appended");
    log.sync().expect("synced");
    let path = disk.paths().iter().find(|path| path.ends_with(".seg")).expect("there").clone();
    let reader = log.reader();
    for bit in 0..8 * 56 {
        let at = HEADER * 8 + 56 * 8 + bit;
        disk.flip(&path, at);
        let mut buf = Vec::new();
        let read = reader.read(lsn, &mut buf);
        assert!(matches!(read, Err(sillage::log::ReadError::Damaged { .. })), "bit {bit}");
        disk.flip(&path, at);
    }
    reader.read(lsn, &mut Vec::new()).expect("healthy again");
}

#[test]
fn later_format_is_refused_clearly_and_left_alone() {
    let store = Store::build(12, 200, End::Closed);
    let mut page = store.disk.bytes("SUPER.a").expect("there");
    page[8..12].copy_from_slice(&3_u32.to_le_bytes());
    page[32..36].copy_from_slice(&3_u32.to_le_bytes());
    let mut crc = crc32fast::Hasher::new();
    crc.update(&page[..12]);
    crc.update(&page[16..]);
    page[12..16].copy_from_slice(&crc.finalize().to_le_bytes());
    let later = store.disk.fork();
    later.put("SUPER.a", &page);
    let before = later.bytes("SUPER.b");
    let refused = open(&later).map(drop);
    assert!(matches!(refused, Err(Refusal::Newer { version: 3, .. })), "{refused:?}");
    assert_eq!((later.bytes("SUPER.a"), later.bytes("SUPER.b")), (Some(page), before));
}
