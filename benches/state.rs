//! What the records cost once they are in memory. Resource: one core and its cache misses;
//! nothing here waits for a disk but `replay/open`.
//!
//! Expectation at a million formulas, where index and queue no longer fit the caches (a miss is
//! about 80 ns, a SipHash of 32 bytes 20 ns, an append at the right edge of a B-tree 30 ns):
//! - apply an acceptance: one hash and one or two misses for the index, two appends (trail,
//!   ready), two digests of a few multiplications → 0.3 µs, 3 million records/s;
//! - replay one: the same and decoding 330 bytes with two allocations and eight decimals to
//!   check (0.4 µs) → 0.7 µs, 1.4 million records/s, 0.7 s for the million;
//! - lease and ack one message: six B-tree changes, most of them warm at the left edge, two
//!   trails, four digests, two decisions with their vectors → 1 µs;
//! - in hundreds: the same without decisions and records → 0.6 µs per message;
//! - the digest: a constant number of multiplications → below 0.1 µs, whatever the size.
//!
//! `cargo bench --bench state`

#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock itself")]

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Bencher, Criterion, Throughput, criterion_group, criterion_main};
use sillage::cli::bench::formulas::Formulas;
use sillage::engine::command::{Delivery, LeaseRequest, Settlement, Submission};
use sillage::engine::core::{CompactionPolicy, Core, Setting};
use sillage::engine::decide::{self, Circumstances, Command, Policy, Reply, Verdict};
use sillage::engine::findings::{Findings, View};
use sillage::engine::open::{self, replay};
use sillage::formula::{self, CANON, Rules};
use sillage::ids::{Epoch, Lsn, QueueName, Receipt};
use sillage::limits::{IDEMPOTENCY_RETENTION_MS_DEFAULT, LEASE_MS_DEFAULT};
use sillage::log::{Entry, Kind, Options, OsDisk, Place, StoreId};
use sillage::record::{AcceptedFormula, Fact, Record, codec};
use sillage::state::State;
use sillage::time::{Moment, SystemClock, Timestamp, Uptime};

/// Formulas in the store.
const STORED: u64 = 1_000_000;
/// Records built at a time, outside the measured time.
const CHUNK: u64 = 10_000;

const POLICY: Policy =
    Policy { attempts_max: 5, retention_ms: IDEMPOTENCY_RETENTION_MS_DEFAULT, flow: &[] };

/// A state with what is needed to go on from it.
struct Store {
    state: State,
    formulas: Formulas,
    accepted: u64,
}

impl Store {
    fn empty() -> Store {
        let mut state = State::default();
        let fact = Fact::Opened { epoch: Epoch(1) };
        state.apply(Lsn(1), &Record { at: Moment::default(), fact });
        Store { state, formulas: Formulas::new(), accepted: 0 }
    }

    /// A store of `STORED` formulas, all of them ready on the queue.
    fn full() -> Store {
        let mut store = Store::empty();
        store.accept(STORED);
        store
    }

    /// Accepts `count` more formulas; gives the time that applying their records took.
    fn accept(&mut self, count: u64) -> Duration {
        let (mut spent, mut left) = (Duration::ZERO, count);
        while left > 0 {
            let records: Vec<Record> = (0..left.min(CHUNK)).map(|_| self.next_record()).collect();
            left -= records.len() as u64;
            let began = Instant::now();
            for record in &records {
                self.state.apply(self.state.lsn().next(), record);
            }
            spent += began.elapsed();
        }
        spent
    }

    fn next_record(&mut self) -> Record {
        let record = acceptance(&self.formulas, self.accepted);
        self.accepted += 1;
        record
    }

    /// Decides a command, applies what it amounts to and gives the reply.
    fn execute(&mut self, command: Command) -> Reply {
        let at = self.state.at();
        let circumstances = Circumstances { now: at, token: 7, policy: POLICY };
        let findings = Findings::default();
        let view = View::new(&self.state, &findings);
        let verdict = decide::decide(view, command, &circumstances);
        match verdict.expect("leases and acks of ready messages are granted") {
            Verdict::Known(reply) => reply,
            Verdict::Record(facts, decide::Draft::Complete(reply)) => {
                for fact in facts {
                    self.state.apply(self.state.lsn().next(), &Record { at, fact });
                }
                reply
            }
            Verdict::Record(_, draft) => unreachable!("leases and acks are complete: {draft:?}"),
        }
    }

    fn lease(&mut self, queue: &QueueName, messages_max: usize) -> Vec<Delivery> {
        let queue = queue.clone();
        let request = LeaseRequest { queue, messages_max, lease_ms: LEASE_MS_DEFAULT };
        match self.execute(Command::Lease(request)) {
            Reply::Leased(deliveries) => deliveries,
            other => unreachable!("a lease is not answered by {other:?}"),
        }
    }

    fn ack(&mut self, queue: &QueueName, deliveries: &[Delivery]) {
        let receipts: Vec<Receipt> = deliveries.iter().map(|each| each.receipt).collect();
        let reply = self.execute(Command::Settle(queue.clone(), receipts, Settlement::Ack));
        let Reply::Settled(settled) = reply else { unreachable!("an ack settles") };
        assert_eq!(settled.done.len(), deliveries.len(), "every lease was held");
    }
}

/// The record that accepts the formula with this number.
fn acceptance(formulas: &Formulas, number: u64) -> Record {
    let mut body = Vec::new();
    formulas.write(number, &mut body);
    let checked = formula::parse(&body, &Rules::default()).expect("a generated body is valid");
    // About a hundred thousand a second, as when they come over HTTP.
    let ms = number / 100;
    Record {
        at: Moment { wall: Timestamp(1_790_000_000_000 + ms), uptime: Uptime(ms) },
        fact: Fact::FormulaAccepted(AcceptedFormula {
            canon: CANON,
            fingerprint: checked.fingerprint,
            formula: checked.formula,
            key: None,
            flow: Vec::new(),
        }),
    }
}

fn apply(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("apply");
    group.throughput(Throughput::Elements(1));
    let mut store = Store::full();
    group.bench_function("acceptance_at_1M", |b| b.iter_custom(|count| store.accept(count)));
    group.bench_function("digest_at_1M", |b| b.iter(|| black_box(&store.state).digest()));
    group.finish();
}

/// The payloads of a million acceptances, one after the other, as a log would hand them over.
struct Payloads {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Payloads {
    fn encode(count: u64) -> Payloads {
        let formulas = Formulas::new();
        let mut payloads = Payloads { bytes: Vec::new(), ends: Vec::new() };
        for number in 0..count {
            codec::encode(&acceptance(&formulas, number), &mut payloads.bytes);
            payloads.ends.push(payloads.bytes.len());
        }
        payloads
    }

    fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        let mut start = 0;
        (1..).map(Lsn).zip(&self.ends).map(move |(lsn, &end)| {
            let payload = &self.bytes[start..end];
            start = end;
            Entry { lsn, epoch: Epoch(1), kind: Kind::Record, place: Place::Alone, payload }
        })
    }
}

fn replay_memory(criterion: &mut Criterion) {
    let payloads = Payloads::encode(STORED);
    let mut group = criterion.benchmark_group("replay");
    let bytes = payloads.bytes.len() as u64;
    group.throughput(Throughput::ElementsAndBytes { elements: STORED, bytes });
    group.sample_size(10);
    group.bench_function("memory_1M", |b| {
        b.iter_with_large_drop(|| {
            let mut state = State::default();
            for entry in payloads.entries() {
                replay(&mut state, None, &entry).expect("what was encoded replays");
            }
            assert_eq!(state.formulas().len() as u64, STORED, "every formula was replayed");
            state
        });
    });
    group.finish();
}

fn replay_disk(criterion: &mut Criterion) {
    // Beside the build, since `/tmp` may be in memory.
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"));
    let directory = directory.expect("a directory can be made beside the build");
    let mut core = open_core(directory.path());
    let (formulas, mut body) = (Formulas::new(), Vec::new());
    for number in 0..STORED {
        body.clear();
        formulas.write(number, &mut body);
        let checked = formula::parse(&body, &Rules::default()).expect("a generated body is valid");
        let (formula, fingerprint) = (checked.formula, checked.fingerprint);
        let command = Command::Accept(Submission { formula, fingerprint, key: None });
        let _pending = core.execute(command, Findings::default()).expect("the disk takes it");
        if number % CHUNK == 0 {
            core.sync().expect("the disk syncs");
        }
    }
    let bytes = core.log().bytes_on_disk();
    core.close().expect("the log closes");
    let mut group = criterion.benchmark_group("replay");
    group.throughput(Throughput::ElementsAndBytes { elements: STORED, bytes });
    group.sample_size(10);
    group.bench_function("open_1M", |b| {
        b.iter_custom(|count| (0..count).map(|_| timed_open(directory.path())).sum());
    });
    group.finish();
}

/// The time from a directory to a store that can be written.
fn timed_open(directory: &Path) -> Duration {
    let began = Instant::now();
    let core = open_core(directory);
    let spent = began.elapsed();
    let stored = core.store().read().expect("nobody panics with it").state.formulas().len();
    assert_eq!(stored as u64, STORED, "every formula was replayed");
    core.close().expect("the log closes");
    spent
}

fn open_core(directory: &Path) -> Core {
    let disk = Arc::new(OsDisk::create(directory).expect("a directory can be made"));
    let clock = Arc::new(SystemClock::new());
    let setting =
        Setting { clock, policy: POLICY, compaction: CompactionPolicy::default(), seed: 1 };
    let options = Options::new(StoreId([7; 16]));
    open::open(disk, options, setting).expect("a sound store opens").0
}

fn queue(criterion: &mut Criterion) {
    let mut store = Store::full();
    let mut group = criterion.benchmark_group("queue");
    for (name, messages) in [("lease_ack_one_at_1M", 1), ("lease_ack_hundred_at_1M", 100)] {
        group.throughput(Throughput::Elements(messages));
        group.bench_function(name, |b| lease_and_ack(b, &mut store, messages));
    }
    group.finish();
}

/// Leases and acks `messages` at a time. The queue is filled up again between samples.
fn lease_and_ack(bencher: &mut Bencher<'_>, store: &mut Store, messages: u64) {
    let queue: QueueName = QueueName::FORMULAS.parse().expect("a built-in name is well formed");
    let messages_max = usize::try_from(messages).expect("a batch is small");
    bencher.iter_custom(|count| {
        let began = Instant::now();
        for _ in 0..count {
            let deliveries = store.lease(&queue, messages_max);
            assert_eq!(deliveries.len(), messages_max, "the queue is full");
            store.ack(&queue, &deliveries);
        }
        let spent = began.elapsed();
        store.accept(count * messages);
        spent
    });
}

criterion_group!(benches, apply, replay_memory, replay_disk, queue);
criterion_main!(benches);
