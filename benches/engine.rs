//! Submissions through group commit, without HTTP. Resource: at few submitters the latency of
//! one sync; at many the writer thread.
//!
//! Expectation: one submitter pays two wake-ups of a thread (20 µs each) and one sync (95 µs)
//! per formula, 7,000 a second. With many, a batch forms while the last one syncs: at 64 in
//! flight, 64 formulas per (115 µs + 64 × the writer's 2 µs) would be 260,000 a second; the
//! thread of the submitters, which sends, is woken and compares, is then the bottleneck at
//! about 2 µs each.
//!
//! Submitters run on one current-thread runtime, as connections do in the server; formulas are
//! parsed beforehand; the log lies on the file system of the build.
//!
//! `cargo bench --bench engine`

#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock itself")]

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sillage::cli::bench::formulas::Formulas;
use sillage::cli::bench::machine;
use sillage::cli::bench::tally::{Figures, Tally};
use sillage::engine::command::Submission;
use sillage::engine::core::{CompactionPolicy, Setting};
use sillage::engine::decide::Policy;
use sillage::engine::{Engine, open};
use sillage::formula::{self, Rules};
use sillage::limits::IDEMPOTENCY_RETENTION_MS_DEFAULT;
use sillage::log::{Options, OsDisk, StoreId};
use sillage::metrics::Metrics;
use sillage::time::SystemClock;
use tokio::task::JoinSet;

/// Submitters at a time, and how many formulas they share in one round.
const LOADS: [(usize, u64); 5] =
    [(1, 10_000), (16, 100_000), (64, 200_000), (256, 200_000), (1024, 200_000)];
/// Rounds of each; the median counts.
const ROUNDS: usize = 3;

fn main() {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().build().expect("the machine has a poller");
    println!("| submitters | per s | p50 ms | p99 | p99.9 | CPU µs each | load |");
    println!("|---|---|---|---|---|---|---|");
    for (submitters, count) in LOADS {
        let round = |_| runtime.block_on(round(submitters, count));
        let figures = Figures::median(&(0..ROUNDS).map(round).collect::<Vec<_>>());
        println!("| {submitters} | {} | {} |", cells(&figures), machine::load());
    }
}

/// Cells of a table: rate, p50, p99, p99.9 in ms, processor time by thread in µs.
fn cells(figures: &Figures) -> String {
    let ms = |latency: Duration| latency.as_secs_f64() * 1e3;
    let (p50, p99, p999) = (ms(figures.p50), ms(figures.p99), ms(figures.p999));
    let cpu = figures.cpu_us.iter().map(|(name, us)| format!("{name} {us:.1}"));
    let cpu = cpu.collect::<Vec<_>>().join(", ");
    format!("{:.0} | {p50:.3} | {p99:.2} | {p999:.2} | {cpu}", figures.rate)
}

/// A fresh store takes `count` formulas from so many submitters.
async fn round(submitters: usize, count: u64) -> Figures {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"));
    let directory = directory.expect("a directory can be made beside the build");
    let disk = OsDisk::create(&directory.path().join("data")).expect("a directory can be made");
    let clock = Arc::new(SystemClock::new());
    let policy =
        Policy { attempts_max: 5, retention_ms: IDEMPOTENCY_RETENTION_MS_DEFAULT, flow: &[] };
    let setting =
        Setting { clock: clock.clone(), policy, compaction: CompactionPolicy::default(), seed: 1 };
    let (core, _) = open::open(Arc::new(disk), Options::new(StoreId([7; 16])), setting)
        .expect("a fresh store opens");
    let metrics = Arc::new(Metrics::new());
    let (engine, writer) = Engine::start(core, clock, metrics).expect("threads can be started");
    let submissions = Arc::new(Mutex::new(submissions(count)));
    let before = machine::threads(std::process::id());
    let tally = storm(&engine, &submissions, submitters).await;
    let after = machine::threads(std::process::id());
    drop(engine);
    writer.join().expect("the writer does not panic").expect("the log does not fail");
    assert_eq!(tally.units, count, "every formula was accepted");
    tally.figures(&machine::spent_between(&before, &after))
}

fn submissions(count: u64) -> Vec<Submission> {
    let (formulas, mut body) = (Formulas::new(), Vec::new());
    let submission = |number| {
        body.clear();
        formulas.write(number, &mut body);
        let checked = formula::parse(&body, &Rules::default());
        let checked = checked.expect("a generated body is valid");
        Submission { formula: checked.formula, fingerprint: checked.fingerprint, key: None }
    };
    (0..count).map(submission).collect()
}

async fn storm(
    engine: &Engine,
    submissions: &Arc<Mutex<Vec<Submission>>>,
    submitters: usize,
) -> Tally {
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..submitters {
        tasks.spawn(toil(engine.clone(), Arc::clone(submissions)));
    }
    let mut all = Tally::default();
    while let Some(done) = tasks.join_next().await {
        all.merge(&done.expect("a refusal ends the run"));
    }
    all.elapsed = began.elapsed();
    all
}

async fn toil(engine: Engine, submissions: Arc<Mutex<Vec<Submission>>>) -> Tally {
    let next = || submissions.lock().expect("no panic holds this lock").pop();
    let mut tally = Tally::default();
    while let Some(submission) = next() {
        let sent = Instant::now();
        engine.accept(submission).await.expect("a new formula is accepted");
        tally.note(sent.elapsed(), 1);
    }
    tally
}
