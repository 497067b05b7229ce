//! Crashes: whatever a loss of power or a failing call leaves, the log opens again, and what it
//! had called durable is there unchanged, with nothing invented and no group torn.
//!
//! Each run is a store that lives through several reigns on a simulated disk. A reign ends by a
//! planned fault or by a crash at a random call. `SILLAGE_SEED=n` repeats run n alone,
//! `SILLAGE_RUNS=n` makes n runs.

mod log_support;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use fastrand::Rng;
use log_support::{as_disk, open, open_with, options, payload, records};
use sillage::ids::Lsn;
use sillage::log::{
    Access, Disk, DiskError, DiskFile, Error, Kind, Log, Opened, SimDisk, SimFault,
};

/// What a store has promised so far.
#[derive(Clone, Default)]
struct Promise {
    /// Records that the log called durable.
    durable: BTreeMap<Lsn, Vec<u8>>,
    /// Records whose fate is open.
    open: BTreeMap<Lsn, Vec<u8>>,
    /// Groups whose fate was open at some time.
    groups: Vec<RangeInclusive<Lsn>>,
    /// The next payload's number.
    next: u64,
}

impl Promise {
    /// Checks what was delivered against what was promised.
    fn check(&self, delivered: &BTreeMap<Lsn, Vec<u8>>, what: &str) {
        for (lsn, bytes) in &self.durable {
            assert_eq!(delivered.get(lsn), Some(bytes), "{what}: LSN {lsn} was durable");
        }
        for (lsn, bytes) in delivered {
            let known = self.durable.get(lsn).or_else(|| self.open.get(lsn));
            assert_eq!(known, Some(bytes), "{what}: LSN {lsn} was never appended so");
        }
        for group in &self.groups {
            let there = delivered.range(group.clone()).count() as u64;
            let whole = group.end().0 - group.start().0 + 1;
            assert!(there == 0 || there == whole, "{what}: group {group:?} is torn");
        }
    }

    /// Takes the log's word for what is durable now.
    fn settle(&mut self, durable: Lsn) {
        let open = self.open.split_off(&durable.next());
        self.durable.append(&mut self.open);
        self.open = open;
    }

    /// A reign has begun: what was delivered is durable, all else is gone for good.
    fn begin(&mut self, delivered: BTreeMap<Lsn, Vec<u8>>) {
        self.durable = delivered;
        self.open.clear();
        self.groups.retain(|group| self.durable.contains_key(group.start()));
    }

    fn payload(&mut self, rng: &mut Rng) -> Vec<u8> {
        self.next += 1;
        let len = if rng.u8(..8) == 0 { rng.usize(..6000) } else { rng.usize(..500) };
        payload(self.next, len)
    }
}

/// One random step of a log's life.
fn step(log: &mut Log, promise: &mut Promise, rng: &mut Rng) -> Result<(), Error> {
    match rng.u8(..16) {
        0..8 => {
            let bytes = promise.payload(rng);
            let lsn = log.append(Kind::Record, &bytes)?;
            promise.open.insert(lsn, bytes);
        }
        8..11 => {
            let parts: Vec<Vec<u8>> = (0..rng.usize(1..12)).map(|_| promise.payload(rng)).collect();
            let first = log.append_group(parts.iter().map(Vec::as_slice))?;
            let last = Lsn(first.0 + parts.len() as u64 - 1);
            promise.groups.push(first..=last);
            promise.open.extend((first.0..).map(Lsn).zip(parts));
        }
        11..15 => drop(log.sync()?),
        _ => drop(log.mark()?),
    }
    Ok(())
}

/// Runs a reign to its end, which a fault may bring early.
fn reign(mut log: Log, promise: &mut Promise, rng: &mut Rng) {
    for _ in 0..rng.usize(..60) {
        let ended = step(&mut log, promise, rng);
        promise.settle(log.durable().lsn);
        if let Err(Error::NoSpace) = ended {
            assert!(!log.is_poisoned(), "nothing was appended, nothing is in doubt");
            log.retry_space();
        } else if ended.is_err() {
            assert!(log.is_poisoned(), "what is on the disk is in doubt");
            assert!(matches!(log.sync(), Err(Error::Poisoned)), "it stays poisoned");
            assert!(matches!(log.append(Kind::Record, b""), Err(Error::Poisoned)));
            return;
        }
    }
    if rng.u8(..4) == 0 {
        let last = log.next_lsn();
        if log.close().is_ok() {
            promise.settle(last);
        }
    }
}

fn plan_fault(disk: &SimDisk, rng: &mut Rng) {
    let at = disk.calls() + rng.u64(..80);
    let fault = match rng.u8(..9) {
        0..4 => SimFault::PowerOff,
        8 => SimFault::Enospc,
        4 => SimFault::Eio,
        5 => SimFault::Short,
        6 => SimFault::Interrupted,
        _ => return,
    };
    disk.fail_after(at, fault);
}

/// The disk that the next process finds: after a loss of power, or of the process only.
fn survivor(disk: &SimDisk, rng: &mut Rng) -> SimDisk {
    if rng.u8(..4) == 0 { disk.fork() } else { disk.crash(rng.u64(..)) }
}

/// How a disk is shown to the log: as it is, or by a mutant that leaves something out.
type Show = fn(&SimDisk) -> Arc<dyn Disk>;

/// Lives through several reigns; returns how many crash states were checked.
fn run(seed: u64, show: Show) -> u64 {
    let mut rng = Rng::with_seed(seed);
    let mut disk = SimDisk::new(rng.u64(..));
    let (mut promise, mut checked) = (Promise::default(), 0);
    for n in 0..8 {
        plan_fault(&disk, &mut rng);
        if let Ok((opened, delivered)) = open_with(&show(&disk), options()) {
            let delivered: BTreeMap<_, _> = records(&delivered).into_iter().collect();
            promise.check(&delivered, &format!("seed {seed}, reign {n}"));
            if let Ok(log) = opened.begin(b"opened") {
                promise.begin(delivered);
                reign(log, &mut promise, &mut rng);
            }
        }
        for m in 0..8 {
            let crashed = disk.crash(rng.u64(..));
            let what = format!("seed {seed}, reign {n}, crash {m}");
            check_opens(&crashed, &promise, show, &what);
            checked += 1;
        }
        disk = survivor(&disk, &mut rng);
    }
    checked
}

fn check_opens(disk: &SimDisk, promise: &Promise, show: Show, what: &str) -> Opened {
    match open_with(&show(disk), options()) {
        Ok((opened, delivered)) => {
            promise.check(&records(&delivered).into_iter().collect(), what);
            opened
        }
        Err(refusal) => panic!("{what}: refused after a mere crash: {refusal}"),
    }
}

fn seeds(count: u64) -> std::ops::Range<u64> {
    let number = |name| std::env::var(name).ok().map(|n| n.parse().expect("a number"));
    match number("SILLAGE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SILLAGE_RUNS").unwrap_or(count),
    }
}

#[test]
fn ten_thousand_crash_states_open_again_with_all_that_was_durable() {
    let checked: u64 = seeds(200).map(|seed| run(seed, as_disk)).sum();
    println!("{checked} crash states");
    assert!(checked >= 10_000 || seeds(200) != (0..200), "{checked} states");
}

#[test]
fn power_may_fail_at_each_call_of_opening_and_again_in_the_next_opening() {
    let (disk, promise) = torn_store();
    for first in 0.. {
        let crashing = disk.fork();
        crashing.fail_after(crashing.calls() + first, SimFault::PowerOff);
        if open_and_begin(&crashing).is_ok() {
            assert!(first > 15, "opening makes more calls than {first}");
            break;
        }
        for second in 0.. {
            let nested = crashing.crash(first * 1000 + second);
            nested.fail_after(nested.calls() + second, SimFault::PowerOff);
            let ended = open_and_begin(&nested);
            let what = format!("power failed at calls {first} and {second}");
            let after = nested.crash(second);
            check_opens(&after, &promise, as_disk, &what).begin(b"opened").expect("begins");
            if ended.is_ok() {
                break;
            }
        }
    }
}

#[test]
fn power_may_fail_at_each_call_of_rotation_and_of_closing() {
    let (disk, promise) = torn_store();
    for call in 0.. {
        let (crashing, mut promise) = (disk.fork(), promise.clone());
        let (opened, delivered) = open(&crashing).expect("opens");
        let mut log = opened.begin(b"opened").expect("begins");
        promise.begin(records(&delivered).into_iter().collect());
        crashing.fail_after(crashing.calls() + call, SimFault::PowerOff);
        let lived = rotate_twice_and_close(log_life(&mut log, &mut promise), log);
        for seed in 0..16 {
            let what = format!("power failed at call {call}, crash {seed}");
            check_opens(&crashing.crash(seed), &promise, as_disk, &what);
        }
        if lived {
            assert!(call > 30, "two rotations and a close make more calls than {call}");
            break;
        }
    }
}

/// Appends enough for two rotations; whether all went well.
fn log_life(log: &mut Log, promise: &mut Promise) -> bool {
    for n in 0..150 {
        let bytes = payload(n, 1000);
        let Ok(lsn) = log.append(Kind::Record, &bytes) else {
            return false;
        };
        promise.open.insert(lsn, bytes);
        promise.settle(log.durable().lsn);
    }
    let synced = log.sync().is_ok();
    promise.settle(log.durable().lsn);
    synced
}

fn rotate_twice_and_close(lived: bool, log: Log) -> bool {
    lived && log.close().is_ok()
}

fn open_and_begin(disk: &SimDisk) -> Result<Log, ()> {
    let (opened, _) = open(disk).map_err(drop)?;
    opened.begin(b"opened").map_err(drop)
}

/// A store whose last batch is torn, so that opening has everything to do.
fn torn_store() -> (SimDisk, Promise) {
    let (disk, mut promise) = (SimDisk::new(7), Promise::default());
    let mut log = log_support::begin(&disk);
    for n in 0..200 {
        let bytes = payload(n, 700);
        let lsn = log.append(Kind::Record, &bytes).expect("appended");
        promise.open.insert(lsn, bytes);
        if n % 9 == 0 {
            log.sync().expect("synced");
            promise.settle(log.durable().lsn);
        }
    }
    disk.fail_after(disk.calls() + 1, SimFault::PowerOff);
    assert!(log.sync().is_err(), "the sync is the second call");
    promise.settle(log.durable().lsn);
    drop(log);
    let torn = (0..).map(|seed| disk.crash(seed)).find(|torn| {
        let (opened, _) = open(&torn.fork()).expect("opens");
        opened.report().quarantined_bytes > 0
    });
    (torn.expect("some crash tears the batch"), promise)
}

#[test]
fn what_a_failed_sync_left_in_the_cache_is_written_again_before_it_is_trusted() {
    for seed in 0..200 {
        let disk = SimDisk::new(seed);
        let mut log = log_support::begin(&disk);
        let lsn = log.append(Kind::Record, &payload(seed, 3000)).expect("appended");
        disk.fail_after(disk.calls() + 1, SimFault::Eio);
        assert!(matches!(log.sync(), Err(Error::Disk(_))));
        drop(log);
        // The process starts again; the page cache still shows the record.
        let disk = disk.fork();
        let (opened, delivered) = open(&disk).expect("opens");
        assert!(delivered.iter().any(|one| one.lsn == lsn), "seed {seed}");
        drop(opened.begin(b"opened").expect("begins"));
        let (_, after) = open(&disk.crash(seed)).expect("opens");
        assert!(after.iter().any(|one| one.lsn == lsn), "seed {seed}: served, then lost");
    }
}

/// A disk that leaves one kind of call out, as a careless program would.
struct Mutant {
    disk: SimDisk,
    skips: Skip,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Skip {
    DirSync,
    FileSync,
}

struct MutantFile(Arc<dyn DiskFile>, Skip);

impl Mutant {
    fn file(
        &self,
        file: Result<Arc<dyn DiskFile>, DiskError>,
    ) -> Result<Arc<dyn DiskFile>, DiskError> {
        Ok(Arc::new(MutantFile(file?, self.skips)))
    }
}

impl Disk for Mutant {
    fn list(&self, dir: &str) -> Result<Vec<Box<str>>, DiskError> {
        self.disk.list(dir)
    }
    fn open(&self, path: &str, access: Access) -> Result<Arc<dyn DiskFile>, DiskError> {
        self.file(self.disk.open(path, access))
    }
    fn create(&self, path: &str) -> Result<Arc<dyn DiskFile>, DiskError> {
        self.file(self.disk.create(path))
    }
    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        self.disk.rename(from, to)
    }
    fn remove(&self, path: &str) -> Result<(), DiskError> {
        self.disk.remove(path)
    }
    fn create_dir(&self, path: &str) -> Result<(), DiskError> {
        self.disk.create_dir(path)
    }
    fn sync_dir(&self, dir: &str) -> Result<(), DiskError> {
        if self.skips == Skip::DirSync { Ok(()) } else { self.disk.sync_dir(dir) }
    }
    fn try_lock(&self, path: &str) -> Result<Option<Arc<dyn DiskFile>>, DiskError> {
        self.disk.try_lock(path)
    }
    fn available_bytes(&self) -> Result<u64, DiskError> {
        self.disk.available_bytes()
    }
}

impl DiskFile for MutantFile {
    fn path(&self) -> &str {
        self.0.path()
    }
    fn read_at(&self, buf: &mut [u8], at: u64) -> Result<usize, DiskError> {
        self.0.read_at(buf, at)
    }
    fn read_at_cached(&self, buf: &mut [u8], at: u64) -> Result<Option<usize>, DiskError> {
        self.0.read_at_cached(buf, at)
    }
    fn write_at(&self, bytes: &[u8], at: u64) -> Result<usize, DiskError> {
        self.0.write_at(bytes, at)
    }
    fn sync_data(&self) -> Result<(), DiskError> {
        if self.1 == Skip::FileSync { Ok(()) } else { self.0.sync_data() }
    }
    fn set_len(&self, len: u64) -> Result<(), DiskError> {
        self.0.set_len(len)
    }
    fn len(&self) -> Result<u64, DiskError> {
        self.0.len()
    }
}

/// Whether some run notices what the mutant leaves out.
fn is_caught(show: Show) -> bool {
    // The panics are what is hoped for: they need not be printed.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let caught = (0..50).any(|seed| std::panic::catch_unwind(|| run(seed, show)).is_err());
    std::panic::set_hook(hook);
    caught
}

#[test]
fn mutants_that_forget_a_sync_are_caught() {
    assert!(is_caught(|disk| Arc::new(Mutant { disk: disk.handle(), skips: Skip::DirSync })));
    assert!(is_caught(|disk| Arc::new(Mutant { disk: disk.handle(), skips: Skip::FileSync })));
}
