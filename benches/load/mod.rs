//! The load generator: one thread, one connection per worker, every answer checked.
//!
//! ```text
//! storm ─► N tasks: Work::ask ─► Connection::exchange ─► Work::take ─► Tally
//! ```
//!
//! It is closed: each connection has one request under way and sends the next when the answer
//! is there. So its rate is what the server sustains, and its latencies are those of a server
//! that is always busy; an open-loop generator would show longer tails beyond saturation.
//!
//! Generator and servers share two cores. What the generator spends is taken from the server,
//! so requests are copied from templates, answers are scanned rather than parsed, and the same
//! generator drives every server that is compared.

pub(crate) mod bulk;
pub(crate) mod client;
pub(crate) mod files;
pub(crate) mod formulas;
pub(crate) mod machine;
pub(crate) mod reference;
pub(crate) mod server;
pub(crate) mod tally;
pub(crate) mod work;

use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use client::{Answer, Connection};
use tally::Tally;

/// What one connection asks, again and again.
pub(crate) trait Work: Send + 'static {
    /// Appends the next request; breaks when there is nothing more to ask.
    fn ask(&mut self, request: &mut Vec<u8>) -> ControlFlow<()>;

    /// Checks the answer and gives how many units of work it completes.
    ///
    /// # Panics
    /// If the answer is not what it must be: a wrong answer has no speed.
    fn take(&mut self, answer: Answer<'_>) -> u64;
}

/// Runs each work on a connection of its own for `time`; all are connected before the first
/// request is sent.
pub(crate) async fn storm<W: Work>(
    address: SocketAddr,
    works: impl IntoIterator<Item = W>,
    time: Duration,
) -> Tally {
    let mut connected = Vec::new();
    for work in works {
        connected.push((Connection::open(address).await, work));
    }
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for (connection, work) in connected {
        tasks.spawn(toil(connection, work, began + time));
    }
    let mut all = Tally::default();
    while let Some(done) = tasks.join_next().await {
        all.merge(done.expect("a wrong answer ends the run"));
    }
    all.elapsed = began.elapsed();
    all
}

async fn toil<W: Work>(mut connection: Connection, mut work: W, end: Instant) -> Tally {
    let mut tally = Tally::default();
    let mut sent = Instant::now();
    while sent < end {
        if work.ask(connection.request()).is_break() {
            break;
        }
        let answer = connection.exchange().await;
        let now = Instant::now();
        tally.note(now - sent, work.take(answer));
        sent = now;
    }
    tally
}
