//! Format 1, byte for byte: what is in `data/golden/v1/log` opens for ever, and the same calls
//! still write the same bytes. `SILLAGE_GOLDEN=write` writes a missing directory.

mod log_support;

use std::path::{Path, PathBuf};

use log_support::{Delivered, as_disk, begin, open, payload};
use sillage::ids::{Epoch, Lsn};
use sillage::log::{Kind, SimDisk, repair};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data/golden/v1/log")
}

/// A store with a frame of every kind: two reigns, a group, a rotation, a loss.
fn written() -> SimDisk {
    let disk = SimDisk::new(1);
    let mut log = begin(&disk);
    log.append(Kind::Record, b"bergamot 12.5").expect("appended");
    let group: [&[u8]; 3] = [b"rose 1", b"rose 2", b"rose 3"];
    log.append_group(group).expect("appended");
    log.append(Kind::StateHash, &[0x5a; 16]).expect("appended");
    log.append(Kind::Record, b"lost to damage").expect("appended");
    log.append(Kind::Record, &payload(1, 3000)).expect("appended");
    log.close().expect("closed");
    let first = "log/00000000000000000001.seg";
    let at = find(&disk.bytes(first).expect("there"), b"lost to damage");
    disk.flip(first, at * 8);
    repair(&as_disk(&disk), Some(Lsn(7)..=Lsn(7))).expect("repaired");
    let mut log = begin(&disk);
    log.append(Kind::Record, b"").expect("appended");
    log.mark().expect("marked");
    drop(log);
    let last = disk.paths().iter().rfind(|path| path.ends_with(".seg")).expect("there").clone();
    let used = disk.bytes(&last).expect("there").iter().rposition(|&byte| byte != 0);
    disk.truncate(&last, used.expect("used") as u64 + 1);
    disk
}

fn find(bytes: &[u8], wanted: &[u8]) -> u64 {
    bytes.windows(wanted.len()).position(|part| part == wanted).expect("there") as u64
}

fn kept(disk: &SimDisk) -> Vec<String> {
    let paths = disk.paths().into_iter().map(|path| path.to_string());
    let is_kept = |path: &String| path.starts_with("SUPER") || path == "WATERMARK";
    paths.filter(|path| is_kept(path) || path.ends_with(".seg")).collect()
}

fn delivered(epoch: u32, lsn: u64, kind: Kind, payload: &[u8]) -> Delivered {
    Delivered { lsn: Lsn(lsn), epoch: Epoch(epoch), kind, payload: payload.to_vec() }
}

#[test]
fn stored_log_of_format_1_opens_and_delivers_what_was_written() {
    let disk = SimDisk::new(1);
    let mut count = 0;
    for dir in ["", "log/"] {
        for found in std::fs::read_dir(golden().join(dir)).expect("the golden directory") {
            let found = found.expect("an entry");
            if found.path().is_file() {
                let name = format!("{dir}{}", found.file_name().to_string_lossy());
                disk.put(&name, &std::fs::read(found.path()).expect("read"));
                count += 1;
            }
        }
    }
    assert_eq!(count, 5);
    let (opened, found) = open(&disk).expect("opens");
    let expected = [
        delivered(1, 1, Kind::Opened, b"opened"),
        delivered(1, 2, Kind::Record, b"bergamot 12.5"),
        delivered(1, 3, Kind::Record, b"rose 1"),
        delivered(1, 4, Kind::Record, b"rose 2"),
        delivered(1, 5, Kind::Record, b"rose 3"),
        delivered(1, 6, Kind::StateHash, &[0x5a; 16]),
        delivered(1, 7, Kind::Loss, &[7, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0]),
        delivered(1, 8, Kind::Record, &payload(1, 3000)),
        delivered(3, 11, Kind::Opened, b"opened"),
        delivered(3, 12, Kind::Record, b""),
    ];
    assert_eq!(found, expected);
    assert_eq!(opened.epoch(), Epoch(4));
    assert_eq!(opened.report().losses, [Lsn(7)..=Lsn(7)]);
}

#[test]
fn same_calls_still_write_the_same_bytes() {
    let disk = written();
    if std::env::var("SILLAGE_GOLDEN").is_ok_and(|what| what == "write") {
        std::fs::create_dir_all(golden().join("log")).expect("created");
        for path in kept(&disk) {
            let file = golden().join(&path);
            assert!(!file.exists(), "{path}: released bytes are never rewritten");
            std::fs::write(file, disk.bytes(&path).expect("there")).expect("written");
        }
    }
    for path in kept(&disk) {
        let stored = std::fs::read(golden().join(&path)).expect("golden file");
        assert!(disk.bytes(&path).expect("there") == stored, "{path} differs");
    }
}
