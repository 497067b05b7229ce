//! What a snapshot costs, each with the resource that bounds it and what arithmetic expects.
//!
//! - `find`: CPU. One page from the page cache (0.6 µs), its CRC (4 KiB at 12 GB/s, 0.3 µs),
//!   seven steps through it: about 1 µs. An absent key asks the filter, one cache miss: 0.1 µs.
//! - `record`: CPU. A page as above, then a packed block of some 2.5 KiB from the page cache,
//!   its CRC, and lz4 at 2 GB/s or more for 4 KiB: 2 µs in all, more where lz4 finds many short
//!   repetitions, as among names of materials.
//! - `write`: the disk and CPU by turns. lz4 at 300 MB/s, then one sync for each MiB, and all of
//!   it is read back, verified and hashed once more: some 2 µs a record.
//!
//! Measured on a loaded machine: 1.2 µs to find, 5.2 µs to read a record: lz4 takes 3 µs for it.
//! Writing took 2.1 to 4.1 µs a record.
//!
//! Prints the size of the file against the JSON of its formulas, too.
//!
//! `cargo bench --bench snapshot`

#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock itself")]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sillage::cli::bench::formulas::Formulas;
use sillage::formula::{Checked, Rules, parse};
use sillage::ids::{Epoch, Lsn};
use sillage::log::{
    Chain, Disk, Looked, OsDisk, Patience, Snapshot, SnapshotHead, SnapshotRef, SnapshotWriter,
    StoreId, TableName,
};
use sillage::record::{AcceptedFormula, Fact, Record, codec};
use sillage::time::{Moment, Timestamp, Uptime};

const STORE: StoreId = StoreId([1; 16]);
const RECORDS: u64 = 100_000;

/// Records and their fingerprints.
struct Stock {
    records: Vec<Vec<u8>>,
    table: BTreeMap<[u8; 32], u64>,
    json_bytes: u64,
}

impl Stock {
    fn new() -> Stock {
        let source = Formulas::new();
        let mut stock = Stock { records: Vec::new(), table: BTreeMap::new(), json_bytes: 0 };
        let mut json = Vec::new();
        for number in 0..RECORDS {
            json.clear();
            source.write(number, &mut json);
            stock.json_bytes += json.len() as u64;
            let checked = parse(&json, &Rules::default()).expect("a valid formula");
            stock.table.insert(checked.fingerprint.0, number + 1);
            stock.records.push(encode(number, checked));
        }
        stock
    }

    fn write(&self, disk: &Arc<dyn Disk>) -> SnapshotRef {
        let (lsn, epoch, chain) = (Lsn(RECORDS), Epoch(1), Chain([0; 32]));
        let head = SnapshotHead { store: STORE, lsn, epoch, chain };
        let mut writer = SnapshotWriter::begin(Arc::clone(disk), head).expect("begun");
        for (lsn, record) in (1..).zip(&self.records) {
            writer.record(Lsn(lsn), record).expect("written");
        }
        writer.table(TableName::Formulas, RECORDS).expect("begun");
        let mut entry = [0; TableName::Formulas.entry_bytes()];
        for (key, lsn) in &self.table {
            entry[..32].copy_from_slice(key);
            entry[32..].copy_from_slice(&lsn.to_be_bytes());
            writer.entry(TableName::Formulas, &entry).expect("written");
        }
        writer.finish(b"").expect("finished")
    }
}

fn encode(number: u64, checked: Checked) -> Vec<u8> {
    let Checked { formula, fingerprint } = checked;
    let wall = Timestamp(1_700_000_000_000 + number);
    let accepted = AcceptedFormula { canon: 1, fingerprint, formula, key: None, flow: Vec::new() };
    let at = Moment { wall, uptime: Uptime(number) };
    let mut out = Vec::new();
    codec::encode(&Record { at, fact: Fact::FormulaAccepted(accepted) }, &mut out);
    out
}

fn snapshot(c: &mut Criterion) {
    // Not in /tmp, which may be memory.
    let dir = tempfile::tempdir_in("target").expect("a directory");
    let disk: Arc<dyn Disk> = Arc::new(OsDisk::create(dir.path()).expect("a directory"));
    let stock = Stock::new();
    let named = stock.write(&disk);
    let snapshot = Snapshot::open(&disk, &named, STORE).expect("opens");
    let share = snapshot.bytes() as f64 / stock.json_bytes as f64;
    println!("{RECORDS} records: {} bytes, {share:.3} of their JSON", snapshot.bytes());
    lookups(c, &stock, &snapshot);
    write(c, &stock, &disk);
}

fn lookups(c: &mut Criterion, stock: &Stock, snapshot: &Snapshot) {
    let mut rng = fastrand::Rng::with_seed(1);
    let keys: Vec<[u8; 32]> = stock.table.keys().copied().collect();
    let mut group = c.benchmark_group("snapshot");
    group.bench_function("find a formula", |b| {
        b.iter(|| {
            let key = &keys[rng.usize(..keys.len())];
            let found = snapshot.find(TableName::Formulas, key, Patience::Cached);
            assert!(matches!(found, Ok(Looked::Found(_))), "it is there and cached");
        });
    });
    group.bench_function("find an absent formula", |b| {
        b.iter(|| {
            let key = std::array::from_fn(|_| rng.u8(..));
            black_box(snapshot.find(TableName::Formulas, &key, Patience::Cached)).expect("read")
        });
    });
    let mut out = Vec::new();
    group.bench_function("read a record", |b| {
        b.iter(|| {
            let read = snapshot.record(Lsn(rng.u64(1..=RECORDS)), Patience::Cached, &mut out);
            assert!(matches!(read, Ok(Looked::Found(()))), "it is there and cached");
        });
    });
    group.bench_function("list 100 records", |b| {
        b.iter(|| {
            let mut records = snapshot.records_after(Lsn(rng.u64(0..RECORDS - 100)));
            (0..100).for_each(|_| assert!(records.next().expect("read").is_some(), "100 are left"));
        });
    });
    group.finish();
}

fn write(c: &mut Criterion, stock: &Stock, disk: &Arc<dyn Disk>) {
    let mut group = c.benchmark_group("snapshot");
    group.sample_size(10).measurement_time(Duration::from_secs(10));
    group.throughput(Throughput::Elements(RECORDS));
    group.bench_function("write 100,000 records", |b| {
        b.iter_custom(|rounds| {
            let began = Instant::now();
            for _ in 0..rounds {
                black_box(stock.write(disk));
            }
            began.elapsed()
        });
    });
    group.finish();
}

criterion_group!(benches, snapshot);
criterion_main!(benches);
