//! Sillage over HTTP with its log on a real disk, beside hyper without any of it.
//!
//! Resource: on two cores shared with the load generator, the one network thread, which reads
//! sockets, parses, fingerprints and answers. The writer works beside it; its sync is shared by
//! all who wait (group commit), so it costs each of them less the more they are.
//!
//! Expectation per POST at 64 connections: bare hyper 6 µs, of which the kernel's sockets are
//! most; parse and fingerprint 1 µs; answer, route and headers 1 µs; to the writer and back
//! 1 µs. So 9 µs on the network thread, about 0.75 of the ceiling. The writer needs 3 µs per
//! command and 120 µs per sync of some thirty commands. At one connection nothing is shared: a
//! request is a round trip (60 µs), two wake-ups of a thread (40 µs) and a sync (95 µs).
//!
//! The servers run as processes of their own. Each round measures all that are compared, one
//! after the other, so that a noisy neighbour hits all alike; ratios are taken within a round.
//! Figures are those of the median round.
//!
//! `cargo bench --bench http -- [submit|duplicates|get|lease|bulk|start]… [--help]`

#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock itself")]

mod load;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::{Parser, ValueEnum};
use tempfile::TempDir;

use load::client::Connection;
use load::formulas::Formulas;
use load::reference::{self, Reference};
use load::server::Server;
use load::tally::Figures;
use load::work::{Check, Consume, Fetch, Ids, Submit};
use load::{Work, bulk, storm};
use load::{files, machine};

/// Before each measured run: fills caches and buffers, and is not counted.
const WARM_UP: Duration = Duration::from_millis(300);
/// Connections that each scenario is run with, where the number is not part of it.
const CONNECTIONS: [usize; 4] = [1, 16, 64, 256];
/// Connections of the scenarios with one number.
const CONNECTIONS_USUAL: usize = 64;

#[derive(Debug, Parser)]
struct Arguments {
    /// What to measure; everything unless named.
    scenarios: Vec<Scenario>,
    /// Rounds of each comparison, odd, so that there is a median.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds of each run.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Formulas in the store that is read, leased from and started.
    #[arg(long, default_value_t = 1_000_000)]
    stock: u64,
    /// Connections for `submit` and `duplicates`.
    #[arg(long, value_delimiter = ',', default_values_t = CONNECTIONS)]
    connections: Vec<usize>,
    /// Another build of the program, measured in `submit` beside this one.
    #[arg(long)]
    rival: Option<PathBuf>,
    /// Measure Sillage alone in `submit`, for a profiler.
    #[arg(long)]
    alone: bool,
    /// Serve as a reference server: how this program starts those.
    #[arg(long, hide = true)]
    serve: Option<Reference>,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Scenario {
    /// POST of new formulas.
    Submit,
    /// POST of stored formulas.
    Duplicates,
    /// GET by id, at random.
    Get,
    /// Lease and ack, one by one and in hundreds.
    Lease,
    /// NDJSON.
    Bulk,
    /// Cold start from the log, and bytes on disk.
    Start,
}

fn main() {
    let arguments = Arguments::parse();
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().build().expect("the machine has a poller");
    match arguments.serve {
        Some(reference) => {
            let ended = runtime.block_on(reference::serve(reference));
            eprintln!("the reference server ended: {ended:?}");
        }
        None => runtime.block_on(measure(&Bench::new(arguments))),
    }
}

async fn measure(bench: &Bench) {
    use Scenario::{Bulk, Duplicates, Get, Lease, Start, Submit};
    if bench.wants(&[Submit]) {
        bench.submit().await;
    }
    if bench.wants(&[Duplicates, Get, Lease, Bulk, Start]) {
        let stock = bench.stock().await;
        // In this order: leasing uses the queue up, the others leave the store as it is.
        if bench.wants(&[Start]) {
            bench.start(&stock);
        }
        if bench.wants(&[Duplicates, Get, Lease]) {
            let (server, _) = Server::sillage(&stock.data());
            if bench.wants(&[Duplicates]) {
                bench.duplicates(&server).await;
            }
            if bench.wants(&[Get]) {
                bench.get(&server).await;
            }
            if bench.wants(&[Lease]) {
                bench.lease(&server).await;
            }
            server.terminate();
        }
    }
}

/// A data directory on the real file system, removed in the end.
struct Store(TempDir);

impl Store {
    fn new() -> Store {
        // Beside the build, since `/tmp` may be in memory and syncs there cost nothing.
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"));
        Store(directory.expect("a directory can be made beside the build"))
    }

    fn data(&self) -> PathBuf {
        self.0.path().join("data")
    }
}

struct Bench {
    arguments: Arguments,
    formulas: Arc<Formulas>,
}

impl Bench {
    fn new(arguments: Arguments) -> Bench {
        Bench { arguments, formulas: Arc::new(Formulas::new()) }
    }

    fn wants(&self, any: &[Scenario]) -> bool {
        let wanted = &self.arguments.scenarios;
        wanted.is_empty() || any.iter().any(|each| wanted.contains(each))
    }

    fn rounds(&self) -> std::ops::Range<usize> {
        0..self.arguments.rounds
    }

    /// Runs the works on the server, first unmeasured, then measured.
    async fn run<W: Work>(
        &self,
        server: &Server,
        work: impl Fn(u64) -> W,
        count: usize,
    ) -> Figures {
        let works = || (0..count as u64).map(&work);
        storm(server.address(), works(), WARM_UP).await;
        let before = server.threads();
        let time = Duration::from_secs_f64(self.arguments.seconds);
        let tally = storm(server.address(), works(), time).await;
        tally.figures(&machine::spent_between(&before, &server.threads()))
    }

    /// New formulas: bare hyper, the ceiling and Sillage, at each number of connections.
    async fn submit(&self) {
        let bare = Server::reference(Reference::Bare);
        let ceiling = Server::reference(Reference::Ceiling);
        for &connections in &self.arguments.connections {
            let store = Store::new();
            let (ours, _) = Server::sillage(&store.data());
            let rival_store = Store::new();
            let rival = self.arguments.rival.as_ref();
            let rival = rival.map(|program| Server::start(program, &rival_store.data()).0);
            // The reference servers store nothing, so what they get need not be new.
            let [any, next, rivals] = [(); 3].map(|()| Arc::new(AtomicU64::new(0)));
            let mut rounds = Rounds::default();
            for _ in self.rounds() {
                if !self.arguments.alone {
                    let submit = |_| Submit::new(&self.formulas, &any);
                    rounds.bare.push(self.run(&bare, submit, connections).await);
                    rounds.ceiling.push(self.run(&ceiling, submit, connections).await);
                }
                let submit = |_| Submit::new(&self.formulas, &next);
                rounds.ours.push(self.run(&ours, submit, connections).await);
                if let Some(rival) = &rival {
                    let submit = |_| Submit::new(&self.formulas, &rivals);
                    rounds.rival.push(self.run(rival, submit, connections).await);
                }
            }
            rounds.print(&format!("POST new, {connections} connections"));
            commits(&ours).await;
            let (accepted, mib) = (next.load(Ordering::Relaxed), ours.resident_mib());
            println!("{accepted} formulas accepted, server resident {mib} MiB\n");
            assert_eq!(queue_length(&ours).await, accepted, "each formula is one message");
            ours.terminate();
        }
    }

    /// A store of `stock` formulas, loaded as NDJSON; the rate is measured on the way.
    async fn stock(&self) -> Store {
        let count = self.arguments.stock;
        let mut rates = Vec::new();
        let mut last = None;
        for _ in self.rounds() {
            let store = Store::new();
            let (server, _) = Server::sillage(&store.data());
            let before = server.threads();
            let loaded = bulk::load(server.address(), &self.formulas, count).await;
            let rate = count as f64 / loaded.elapsed.as_secs_f64();
            let spent = machine::spent_between(&before, &server.threads());
            let each = |(name, time): &(String, Duration)| {
                format!("{name} {:.2}", time.as_secs_f64() * 1e6 / count as f64)
            };
            let threads: Vec<String> = spent.iter().map(each).collect();
            println!("NDJSON: {rate:.0} formulas/s, CPU µs each: {}", threads.join(", "));
            rates.push(rate);
            server.terminate();
            last = Some((store, loaded));
        }
        rates.sort_by(f64::total_cmp);
        println!(
            "NDJSON median: {:.0} formulas/s (load {})",
            rates[rates.len() / 2],
            machine::load()
        );
        let (store, loaded) = last.expect("there is at least one round");
        let disk = files::disk_bytes(&store.data());
        let ratio = disk as f64 / loaded.json_bytes as f64;
        println!("on disk: {disk} bytes for {} of JSON: {ratio:.3}\n", loaded.json_bytes);
        store
    }

    /// Formulas that are stored already, which must be refused; the ceiling gets the same.
    async fn duplicates(&self, ours: &Server) {
        let ceiling = Server::reference(Reference::Ceiling);
        for &connections in &self.arguments.connections {
            let mut rounds = Rounds::default();
            let again = |status| {
                move |seed| Submit::again(&self.formulas, self.arguments.stock, status, seed)
            };
            for _ in self.rounds() {
                rounds.ceiling.push(self.run(&ceiling, again(201), connections).await);
                rounds.ours.push(self.run(ours, again(409), connections).await);
            }
            rounds.print(&format!("POST duplicate, {connections} connections"));
        }
    }

    /// Formulas at random; bare hyper answers as many bytes.
    async fn get(&self, ours: &Server) {
        let bare = Server::reference(Reference::Bare);
        let ids = Arc::new(Ids::of(&self.formulas, self.arguments.stock));
        let mut rounds = Rounds::default();
        for _ in self.rounds() {
            let fetch = |check| {
                let ids = &ids;
                move |seed| Fetch::new(ids, check, seed)
            };
            rounds.bare.push(self.run(&bare, fetch(Check::Status), CONNECTIONS_USUAL).await);
            rounds.ours.push(self.run(ours, fetch(Check::Content), CONNECTIONS_USUAL).await);
        }
        rounds.print(&format!("GET by id, {CONNECTIONS_USUAL} connections"));
    }

    /// Lease and ack; a unit is an acked message, a latency that of one call.
    async fn lease(&self, ours: &Server) {
        for (messages, connections) in [(1, CONNECTIONS_USUAL), (100, 4), (100, 16)] {
            let mut rounds = Rounds::default();
            for _ in self.rounds() {
                let consume = |_| Consume::new(messages);
                rounds.ours.push(self.run(ours, consume, connections).await);
            }
            rounds.print(&format!("lease + ack, {messages} each, {connections} connections"));
        }
    }

    /// From `exec` to ready: after an orderly end and after a kill, files in the page cache or
    /// not.
    fn start(&self, stock: &Store) {
        let data = stock.data();
        for (end, end_by) in [("an orderly end", End::Terminate), ("a kill", End::Kill)] {
            let (mut warm, mut cold) = (Vec::new(), Vec::new());
            for _ in self.rounds() {
                finish(Server::sillage(&data).0, end_by);
                files::forget_cached(&data);
                let (server, time) = Server::sillage(&data);
                cold.push(time);
                finish(server, end_by);
                let (server, time) = Server::sillage(&data);
                warm.push(time);
                finish(server, End::Terminate);
            }
            let (warm, cold) = (median_time(warm), median_time(cold));
            println!("start after {end}: {warm:.3} s cached, {cold:.3} s from the disk");
        }
        println!("(load {})\n", machine::load());
    }
}

/// How a server is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Terminate,
    Kill,
}

fn finish(server: Server, end: End) {
    match end {
        End::Terminate => server.terminate(),
        End::Kill => drop(server),
    }
}

fn median_time(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64()
}

/// Messages that wait on the queue of formulas.
async fn queue_length(server: &Server) -> u64 {
    let body = fetch(server, "/queues/formulas").await;
    let status: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    status["ready"].as_u64().expect("a count")
}

/// Prints what the server's own metrics say of its commits.
async fn commits(server: &Server) {
    let text = fetch(server, "/metrics").await;
    let metric = |name: &str| -> f64 {
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.and_then(|value| value.trim().parse().ok()).unwrap_or(f64::NAN)
    };
    let syncs = metric("sillage_sync_seconds_count");
    let mean_us = metric("sillage_sync_seconds_sum") / syncs * 1e6;
    let records = metric("sillage_commit_records_sum") / syncs;
    println!("{syncs} commits of {records:.1} records and {mean_us:.0} µs on average");
}

/// The body of the answer to a GET.
async fn fetch(server: &Server, path: &str) -> String {
    let mut connection = Connection::open(server.address()).await;
    let ask = format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n");
    connection.request().extend_from_slice(ask.as_bytes());
    let answer = connection.exchange().await;
    answer.assert_status(200);
    String::from_utf8_lossy(answer.body).into_owned()
}

/// The rounds of one comparison.
#[derive(Default)]
struct Rounds {
    bare: Vec<Figures>,
    ceiling: Vec<Figures>,
    ours: Vec<Figures>,
    rival: Vec<Figures>,
}

impl Rounds {
    /// Prints one table: each server's median round, and our median ratio to it.
    fn print(&self, title: &str) {
        println!("### {title} (load {})\n", machine::load());
        println!("| server | per s | p50 ms | p99 | p99.9 | CPU µs per request | Sillage : it |");
        println!("|---|---|---|---|---|---|---|");
        let servers = [
            ("bare hyper", &self.bare),
            ("ceiling", &self.ceiling),
            ("Sillage", &self.ours),
            ("rival", &self.rival),
        ];
        for (name, rounds) in servers.into_iter().filter(|(_, rounds)| !rounds.is_empty()) {
            let ratio = median_ratio(&self.ours, rounds);
            println!("| {name} | {} | {ratio:.2} |", Figures::median(rounds.clone()));
        }
        println!();
    }
}

/// The median of ratios, each taken within one round, so that noise hits both sides alike.
fn median_ratio(ours: &[Figures], theirs: &[Figures]) -> f64 {
    let mut ratios: Vec<f64> = ours.iter().zip(theirs).map(|(a, b)| a.rate / b.rate).collect();
    ratios.sort_by(f64::total_cmp);
    ratios[ratios.len() / 2]
}
