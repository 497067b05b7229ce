//! The log's everyday life on a disk that does what it is told.

mod log_support;

use std::sync::Arc;

use log_support::{as_disk, begin, open, open_with, options, payload, records};
use sillage::ids::{Epoch, Lsn};
use sillage::limits::SEGMENT_BYTES_MIN;
use sillage::log::{Kind, OpenError, OsDisk, ReadError, Refusal, SimDisk, Space};

#[test]
fn what_was_synced_is_delivered_in_order_after_reopening() {
    let disk = SimDisk::new(1);
    let mut log = begin(&disk);
    let mut expected = Vec::new();
    for n in 0..10 {
        let bytes = payload(n, 100);
        expected.push((log.append(Kind::Record, &bytes).expect("appended"), bytes));
    }
    assert_eq!(log.sync().expect("synced"), expected.last().expect("ten").0);
    drop(log);
    let (opened, delivered) = open(&disk).expect("opens");
    assert_eq!(records(&delivered), expected);
    assert_eq!(delivered[0].kind, Kind::Opened);
    assert_eq!(opened.epoch(), Epoch(2));
}

#[test]
fn frames_not_synced_are_not_durable_and_not_readable() {
    let disk = SimDisk::new(1);
    let mut log = begin(&disk);
    let lsn = log.append(Kind::Record, b"iris").expect("appended");
    let mut buf = Vec::new();
    assert!(log.durable().lsn < lsn);
    assert!(matches!(log.reader().read(lsn, &mut buf), Err(ReadError::NotFound)));
    log.sync().expect("synced");
    assert_eq!(log.reader().read(lsn, &mut buf).expect("read"), Kind::Record);
    assert_eq!(buf, b"iris");
    assert_eq!(log.reader().read_cached(lsn, &mut buf).expect("read"), Some(Kind::Record));
    assert!(matches!(log.reader().read(lsn.next(), &mut buf), Err(ReadError::NotFound)));
    assert!(matches!(log.reader().read(Lsn::ZERO, &mut buf), Err(ReadError::NotFound)));
}

#[test]
fn log_rotates_and_every_frame_of_every_segment_stays_readable() {
    let disk = SimDisk::new(1);
    let mut log = begin(&disk);
    let mut expected = Vec::new();
    for n in 0..600 {
        let bytes = payload(n, 500);
        expected.push((log.append(Kind::Record, &bytes).expect("appended"), bytes));
        if n % 7 == 0 {
            log.sync().expect("synced");
        }
    }
    log.sync().expect("synced");
    let reader = log.reader();
    let mut buf = Vec::new();
    for (lsn, bytes) in &expected {
        assert_eq!(reader.read(*lsn, &mut buf).expect("read"), Kind::Record);
        assert_eq!(&buf, bytes, "LSN {lsn}");
    }
    log.close().expect("closed");
    let segments = disk.paths().iter().filter(|path| path.ends_with(".seg")).count();
    assert!(segments >= 5, "{segments} segments");
    let (opened, delivered) = open(&disk).expect("opens");
    assert_eq!(records(&delivered), expected);
    assert!(opened.report().clean_shutdown);
    assert_eq!(opened.report().last, opened.report().durable);
    let log = opened.begin(b"opened").expect("begins");
    for (lsn, bytes) in &expected {
        log.reader().read(*lsn, &mut buf).expect("read");
        assert_eq!(&buf, bytes, "LSN {lsn} in a later reign");
    }
}

#[test]
fn group_larger_than_a_segment_gets_a_segment_made_to_fit() {
    let disk = SimDisk::new(1);
    let mut log = begin(&disk);
    let parts: Vec<Vec<u8>> = (0..200).map(|n| payload(n, 1000)).collect();
    let first = log.append_group(parts.iter().map(Vec::as_slice)).expect("appended");
    let after = log.append(Kind::Record, b"after").expect("appended");
    assert!(after.0 >= first.0 + 200, "a seal may come in between");
    log.sync().expect("synced");
    drop(log);
    let (_, delivered) = open(&disk).expect("opens");
    assert_eq!(records(&delivered).len(), 201);
    let larger = disk.paths().iter().filter_map(|path| disk.bytes(path)).map(|b| b.len()).max();
    assert!(larger.expect("files") > 200_000);
}

#[test]
fn mark_is_written_once_when_the_log_falls_quiet() {
    let disk = SimDisk::new(1);
    let mut log = begin(&disk);
    log.append(Kind::Record, b"musk").expect("appended");
    let marked = log.mark().expect("marked");
    assert_eq!(marked, Lsn(3), "opened, record, mark");
    assert_eq!(log.mark().expect("marked"), marked, "there is nothing new to mark");
}

#[test]
fn store_in_use_is_refused_with_the_holders_pid() {
    let disk = SimDisk::new(1);
    let log = begin(&disk);
    match open(&disk) {
        Err(Refusal::Locked { pid }) => assert_eq!(pid, Some(std::process::id())),
        other => panic!("not refused: {:?}", other.map(|(_, delivered)| delivered)),
    }
    drop(log);
    open(&disk).expect("opens when the holder is gone");
}

#[test]
fn callers_refusal_stops_the_opening() {
    let disk = SimDisk::new(1);
    drop(begin(&disk));
    let refused = sillage::log::open(as_disk(&disk), options(), |_| Err("state differs"));
    assert!(matches!(refused, Err(OpenError::Apply("state differs"))));
}

#[test]
fn full_disk_stops_intake_and_space_that_returns_resumes_it() {
    let disk = SimDisk::new(1);
    let mut log = begin(&disk);
    assert_eq!(log.space(), Space::Ample);
    disk.set_capacity(200 << 10);
    let bytes = payload(1, 1000);
    while log.space() == Space::Ample {
        log.append(Kind::Record, &bytes).expect("appended");
    }
    assert_eq!(log.space(), Space::Reserved);
    let refused = loop {
        if let Err(error) = log.append(Kind::Record, &bytes) {
            break error;
        }
    };
    assert!(matches!(refused, sillage::log::Error::NoSpace));
    assert_eq!((log.space(), log.is_poisoned()), (Space::Full, false));
    let durable = log.sync().expect("what was appended is synced");
    log.retry_space();
    assert_eq!(log.space(), Space::Full);
    disk.set_capacity(1 << 20);
    log.retry_space();
    assert_eq!(log.space(), Space::Ample);
    let lsn = log.append(Kind::Record, &bytes).expect("appended");
    assert!(lsn > durable);
    log.close().expect("closed");
    assert!(open(&disk).expect("opens").1.iter().any(|one| one.lsn == lsn));
}

#[test]
fn store_opens_on_a_full_disk_with_a_smaller_segment() {
    let disk = SimDisk::new(1);
    let wide = sillage::log::Options { segment_bytes: 16 * SEGMENT_BYTES_MIN, ..options() };
    let (opened, _) = open_with(&as_disk(&disk), wide).expect("opens");
    let mut log = opened.begin(b"opened").expect("begins");
    log.append(Kind::Record, b"neroli").expect("appended");
    log.close().expect("closed");
    disk.lose("log/next.tmp");
    let used =
        disk.paths().into_iter().filter_map(|path| disk.bytes(&path)).map(|b| b.len() as u64);
    disk.set_capacity(used.sum());
    let (opened, delivered) = open_with(&as_disk(&disk), wide).expect("opens");
    assert_eq!(records(&delivered).len(), 1);
    let mut log = opened.begin(b"opened").expect("begins");
    assert_eq!(log.space(), Space::Reserved);
    log.append(Kind::Record, b"ack").expect("there is room for an ack");
    log.sync().expect("synced");
}

#[test]
fn log_on_a_real_directory_is_read_back_with_the_preparing_thread() {
    let dir = tempfile::tempdir().expect("a directory");
    let disk: Arc<dyn sillage::log::Disk> =
        Arc::new(OsDisk::create(&dir.path().join("a/b")).expect("created"));
    let threaded = sillage::log::Options { preparer: sillage::log::Preparer::Thread, ..options() };
    let mut expected = Vec::new();
    for reign in 0..3 {
        let (opened, delivered) = open_with(&disk, threaded).expect("opens");
        assert_eq!(records(&delivered), expected, "reign {reign}");
        let mut log = opened.begin(b"opened").expect("begins");
        assert!(open_with(&disk, threaded).is_err(), "it is locked");
        for n in 0..300 {
            let bytes = payload(n, 700);
            expected.push((log.append(Kind::Record, &bytes).expect("appended"), bytes));
        }
        log.sync().expect("synced");
        let mut buf = Vec::new();
        for (lsn, bytes) in expected.iter().rev().take(500) {
            log.reader().read(*lsn, &mut buf).expect("read");
            assert_eq!(&buf, bytes);
        }
        if reign % 2 == 0 {
            log.close().expect("closed");
        }
    }
}
