//! The harness of the black-box suites: the real program, a strict HTTP client, and the words
//! in which the suites speak of formulas and messages.
//!
//! Nothing here looks inside the program. What the suites know of it is what a client knows:
//! its arguments, its start-up event, its exit codes, and HTTP.
#![allow(dead_code, unused_imports, reason = "each suite uses its part of the harness")]
#![allow(clippy::disallowed_methods, reason = "tests read the clock and draw their own seeds")]

mod client;
mod doubles;
mod formulas;
mod messages;
mod nodes;
mod problems;
mod server;

use std::time::{Duration, Instant};

pub(crate) use client::{Call, Client, Response, Stream, raw_exchange};
pub(crate) use doubles::{
    Delivery, MessageStats, Receiver, ReceiverStats, SIGNER_KEY, Signer, SignerStats,
};
pub(crate) use formulas::{Formula, Material, body, list_all, numbered, shared_data};
pub(crate) use messages::{
    Message, Messages, Settled, lease, lease_waiting, queue_count, queue_status, settle,
};
pub(crate) use nodes::{Consistency, NodeRequest, NodeStats, Nodes};
pub(crate) use problems::assert_problem;
pub(crate) use server::{Finished, Server, Store, run, sillage};

/// How long anything may take before a test gives it up: far above what a loaded machine needs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Asks until `holds` says yes. For what the server does by itself, such as a lapse.
///
/// Each question is a request to the server, so that this loop rests on the network.
pub(crate) fn ask_until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "still not so after {PATIENCE:?}: {what}");
        std::thread::yield_now();
    }
}

/// The seed of a randomised test: `SILLAGE_SEED`, else a new one. Always printed.
pub(crate) fn seed() -> u64 {
    let named = std::env::var("SILLAGE_SEED").ok();
    let seed = named.map_or_else(
        || fastrand::u64(..),
        |text| text.parse().expect("SILLAGE_SEED is an unsigned 64-bit number"),
    );
    println!("seed: {seed} (run again with SILLAGE_SEED={seed})");
    seed
}

/// Runs `work` on this many threads that begin together, and gives back what each found.
pub(crate) fn together<T: Send>(threads: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let start = std::sync::Barrier::new(threads);
    let (start, work) = (&start, &work);
    std::thread::scope(|scope| {
        let started = (0..threads).map(|index| {
            scope.spawn(move || {
                start.wait();
                work(index)
            })
        });
        let started: Vec<_> = started.collect();
        started.into_iter().map(|thread| thread.join().expect("no thread panicked")).collect()
    })
}
