//! The log's three costs, each with the resource that bounds it and what arithmetic expects.
//!
//! - `encode`: CPU. SHA-256 of 390 bytes with SHA extensions (7 blocks, ~0.2 µs), CRC of 410
//!   bytes and a copy (~0.05 µs): 0.3 µs a frame, no allocation.
//! - `open`: CPU. The same SHA-256 and CRC once more, so 0.35 s for a million records of 350
//!   bytes whose segments are in the page cache: about 1.1 GB/s.
//! - `append and sync`: the disk. One write and one fdatasync into a zero-filled segment: what
//!   `fio` shows for 512 bytes to 64 KiB, some 100 µs on a virtual NVMe disk.

#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock itself")]

use std::convert::Infallible;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sillage::log::{Disk, Kind, Log, OpenError, Options, OsDisk, Preparer, StoreId};

const PAYLOAD: [u8; 350] = [0x5a; 350];

fn open(dir: &std::path::Path) -> (Log, u64) {
    let disk: Arc<dyn Disk> = Arc::new(OsDisk::create(dir).expect("a directory"));
    let options = Options { preparer: Preparer::Thread, ..Options::new(StoreId([1; 16])) };
    let mut count = 0;
    let opened = sillage::log::open(disk, options, |entry| -> Result<(), Infallible> {
        count += entry.payload.len() as u64;
        Ok(())
    });
    let opened = opened.map_err(|error: OpenError<Infallible>| error.to_string());
    (opened.expect("opens").begin(b"opened").expect("begins"), count)
}

fn encode(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut log, _) = open(dir.path());
    let mut group = c.benchmark_group("log");
    group.throughput(Throughput::Elements(1000));
    group.bench_function("encode 1000 frames of 350 B", |b| {
        b.iter_custom(|rounds| {
            let mut spent = Duration::ZERO;
            for _ in 0..rounds {
                let began = Instant::now();
                for _ in 0..1000 {
                    log.append(Kind::Record, black_box(&PAYLOAD)).expect("appended");
                }
                spent += began.elapsed();
                log.sync().expect("synced");
            }
            spent
        });
    });
    group.finish();
}

fn scan(c: &mut Criterion) {
    const RECORDS: u64 = 200_000;
    let dir = tempfile::tempdir().expect("a directory");
    let (mut log, _) = open(dir.path());
    for n in 0..RECORDS {
        log.append(Kind::Record, &PAYLOAD).expect("appended");
        if n % 1000 == 0 {
            log.sync().expect("synced");
        }
    }
    log.close().expect("closed");
    let mut group = c.benchmark_group("log");
    group.sample_size(10);
    group.throughput(Throughput::Bytes(RECORDS * 400));
    let disk: Arc<dyn Disk> = Arc::new(OsDisk::open(dir.path()).expect("a directory"));
    group.bench_function("open with 200,000 records of 350 B", |b| {
        b.iter(|| {
            let mut count = 0_u64;
            let options = Options::new(StoreId([1; 16]));
            let opened = sillage::log::open(Arc::clone(&disk), options, |entry| {
                count += u64::from(entry.kind == Kind::Record);
                Ok::<(), Infallible>(())
            });
            assert!(opened.is_ok(), "it opens");
            assert_eq!(count, RECORDS);
        });
    });
    group.finish();
}

fn sync(c: &mut Criterion) {
    // Not in /tmp, which may be memory.
    let dir = tempfile::tempdir_in("target").expect("a directory");
    let (mut log, _) = open(dir.path());
    let mut group = c.benchmark_group("log");
    for frames in [1_u64, 10, 160] {
        group.throughput(Throughput::Elements(frames));
        group.bench_function(format!("append {frames} and sync"), |b| {
            b.iter(|| {
                for _ in 0..frames {
                    log.append(Kind::Record, &PAYLOAD).expect("appended");
                }
                log.sync().expect("synced")
            });
        });
    }
    group.finish();
}

criterion_group!(benches, encode, scan, sync);
criterion_main!(benches);
