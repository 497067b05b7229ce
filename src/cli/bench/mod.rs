//! `sillage bench`: load with verified answers, latencies, and what they are to be compared with.
//!
//! ```text
//! arguments ─► plan: scenarios ─► contender: a server, its supply of formulas
//!                                     └► drive: works on connections, closed or open ─► tally
//!              rounds of all contenders by turns ─► report: median round, ratios within rounds
//! ```
//!
//! All contenders of a scenario are measured in each round, one after the other, so that a noisy
//! neighbour hits all alike; ratios are taken within a round. Servers of our own run in processes
//! of their own. Nothing here judges a figure: what a server must reach stands in
//! `docs/PERFORMANCE.md`.

mod bulk;
mod compaction;
mod connection;
mod consume;
mod contender;
mod drive;
mod fault;
mod fetch;
pub mod formulas;
pub mod machine;
mod metrics;
mod pace;
mod plan;
mod reference;
mod report;
mod server;
mod submit;
pub mod tally;
mod target;

use std::ffi::OsString;
use std::fmt;
use std::io::Write;
use std::str::FromStr;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use crate::cli::bench::pace::Pace;
use crate::cli::bench::plan::{Bench, Workload};
use crate::cli::bench::reference::Reference;
use crate::cli::failure::{Exit, Failure};
use crate::cli::http_client::Token;
use crate::cli::system;
use crate::limits::{BENCH_BATCH_MAX, BENCH_CONNECTIONS_MAX, BENCH_NUMBERS_MAX, BENCH_ROUNDS_MAX};

pub(crate) use fault::Fault;

/// Measure a server under load: rates, latencies, and every answer checked
///
/// Without URL it starts `sillage serve` itself, on a temporary directory that it removes. With
/// URL it measures that server; it STORES formulas there, and the workload `lease` takes and acks
/// whatever is on the queue, so do not point it at a server whose consumers miss messages.
///
/// Each request has a body of about 420 bytes with eight materials; no two make the same formula.
/// An answer that does not say what it must ends the run with exit code 65.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sillage bench                                     new formulas, 1 to 256 connections
  sillage bench --ceiling                           the same, beside servers that store nothing
  sillage bench --workload submit --connections 64 --rate 20000/s --seconds 30
                                                    open loop: latencies as independent clients
                                                    see them, stalls included
  sillage bench --workload duplicates,get,lease,bulk --stock 1000000
  sillage bench --during-compaction --connections 64 --stock 1000000
  sillage bench http://127.0.0.1:8080 --workload submit --seconds 10 --json
  sillage bench --connections 64 -- --segment-size 1GiB

Latencies are those of one request, in a closed loop from sending it, in an open loop from when it
was due. Rates count formulas, for lease acked messages. What is shown is the round with the median
rate; ratios are medians of ratios within rounds.

Exit codes: 0 measured and every answer was right, 2 wrong usage or token, 65 an answer was wrong
or a request was refused, 74 the server could not be reached or started.")]
pub(crate) struct BenchArgs {
    /// The server, such as http://127.0.0.1:8080; without it one is started for the purpose
    url: Option<String>,
    /// The bearer token. Better in the variable: others on this machine can read command lines
    #[arg(long, env = "SILLAGE_TOKEN", hide_env_values = true)]
    token: Option<Token>,
    /// What to ask
    #[arg(long, short, value_enum, value_delimiter = ',', default_value = "submit")]
    workload: Vec<Workload>,
    /// Connections at a time; each number is a measurement of its own
    #[arg(long, short, value_delimiter = ',', default_values_t = [1, 16, 64, 256])]
    #[arg(value_parser = number::<1, { BENCH_CONNECTIONS_MAX }>)]
    connections: Vec<usize>,
    /// Seconds of each run
    #[arg(long, default_value = "2")]
    seconds: Seconds,
    /// Rounds of each comparison; the one with the median rate is shown
    #[arg(long, default_value_t = 3, value_parser = number::<1, BENCH_ROUNDS_MAX>)]
    rounds: usize,
    /// Open loop: requests per second over all connections, such as 20000/s
    #[arg(long)]
    rate: Option<Rate>,
    /// Messages that one lease takes and one ack settles; each number is a measurement of its own
    #[arg(long, value_delimiter = ',', default_values_t = [1, 100])]
    #[arg(value_parser = number::<1, BENCH_BATCH_MAX>)]
    batch: Vec<usize>,
    /// Formulas of each stream in the workload `bulk`
    #[arg(long, default_value_t = 100_000)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..BENCH_NUMBERS_MAX))]
    lines: u64,
    /// Formulas that are stored before duplicates are sent, formulas read or messages leased
    #[arg(long, default_value_t = 100_000)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..BENCH_NUMBERS_MAX))]
    stock: u64,
    /// The server of the URL holds them already, by a run with the same --seed and --first
    #[arg(long, requires_all = ["url", "seed"])]
    stocked: bool,
    /// The seed that the formulas grow from; drawn and printed unless given
    #[arg(long)]
    seed: Option<u64>,
    /// The number of the first formula: goes on where a run with the same seed has ended
    #[arg(long, default_value_t = 0)]
    #[arg(value_parser = clap::value_parser!(u64).range(0..BENCH_NUMBERS_MAX))]
    first: u64,
    /// Measure reference servers in the same rounds: hyper alone (bare), and hyper that parses,
    /// canonicalises and fingerprints the same bodies and stores nothing (ceiling)
    #[arg(long)]
    ceiling: bool,
    /// Another build of this program, measured in the same rounds on a store of its own
    #[arg(long, value_name = "PROGRAM", conflicts_with = "url")]
    rival: Option<OsString>,
    /// Measure each workload by turns without and during a compaction, started by POST
    /// /admin/snapshot
    #[arg(long, conflicts_with_all = ["ceiling", "rival"])]
    during_compaction: bool,
    /// Where the temporary directory is made; on a disk, since in memory a sync costs nothing
    #[arg(long, value_name = "DIR", conflicts_with = "url")]
    beside: Option<OsString>,
    /// One JSON document instead of tables
    #[arg(long)]
    json: bool,
    /// Serve as a reference server: how this program starts those
    #[arg(long, hide = true)]
    reference_server: Option<Reference>,
    /// More arguments of the `serve` that is started
    #[arg(last = true, conflicts_with = "url")]
    serve_arguments: Vec<OsString>,
}

impl BenchArgs {
    fn pace(&self) -> Pace {
        self.rate.map_or(Pace::Closed, |rate| Pace::Open { per_s: rate.0 })
    }
}

/// Measures what the arguments name and prints what it came to.
pub(crate) fn run(arguments: &BenchArgs, out: &mut impl Write) -> Result<Exit, Failure> {
    let runtime = system::runtime()?;
    if let Some(reference) = arguments.reference_server {
        let served = runtime.block_on(reference::serve(reference, out));
        return served.map(|()| Exit::Success).map_err(Failure::Output);
    }
    let seed = arguments.seed.map_or_else(system::fresh_seed, Ok)?;
    runtime.block_on(async {
        let bench = Bench::new(arguments, seed);
        let listen = |kind| signal(kind).map_err(Fault::Signals);
        let mut terminate = listen(SignalKind::terminate())?;
        let mut interrupt = listen(SignalKind::interrupt())?;
        // Servers and directories of ours go when the measurement is dropped.
        tokio::select! {
            measured = bench.measure(out) => measured,
            _ = terminate.recv() => Err(Fault::Interrupted.into()),
            _ = interrupt.recv() => Err(Fault::Interrupted.into()),
        }
    })?;
    Ok(Exit::Success)
}

/// A number from `MIN` to `MAX`.
fn number<const MIN: usize, const MAX: usize>(text: &str) -> Result<usize, OutOfRange> {
    let number = text.parse().ok().filter(|number| (MIN..=MAX).contains(number));
    number.ok_or(OutOfRange { min: MIN, max: MAX })
}

/// The text is no number in the range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct OutOfRange {
    min: usize,
    max: usize,
}

impl fmt::Display for OutOfRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a number from {} to {}", self.min, self.max)
    }
}

impl std::error::Error for OutOfRange {}

/// A length of time that is not zero, in seconds, fractions allowed.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Seconds(Duration);

/// Requests per second, not zero.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Rate(f64);

/// Highest rate: a request per microsecond, more than one thread can send.
const RATE_MAX: f64 = 1e6;
/// Longest run, in seconds: a week.
const SECONDS_MAX: f64 = 7.0 * 86_400.0;
/// Shortest run, and the lowest rate's interval in reverse: a millisecond.
const SMALLEST: f64 = 1e-3;

impl FromStr for Seconds {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Seconds, Malformed> {
        let seconds: f64 = text.parse().map_err(|_| Malformed::Seconds)?;
        let is_sound = (SMALLEST..=SECONDS_MAX).contains(&seconds);
        is_sound.then(|| Seconds(Duration::from_secs_f64(seconds))).ok_or(Malformed::Seconds)
    }
}

impl FromStr for Rate {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Rate, Malformed> {
        let digits = text.strip_suffix("/s").unwrap_or(text);
        let per_s: f64 = digits.parse().map_err(|_| Malformed::Rate)?;
        let is_sound = (SMALLEST..=RATE_MAX).contains(&per_s);
        is_sound.then_some(Rate(per_s)).ok_or(Malformed::Rate)
    }
}

/// What the text is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Malformed {
    Seconds,
    Rate,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Malformed::Seconds => "not seconds from 0.001 to 604800, such as 2 or 0.5",
            Malformed::Rate => "not a rate from 0.001 to 1000000 per second, such as 20000/s",
        })
    }
}

impl std::error::Error for Malformed {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_times_are_bounded() {
        assert_eq!("20000/s".parse(), Ok(Rate(20_000.0)));
        assert_eq!("0.5".parse(), Ok(Rate(0.5)));
        assert_eq!("0.25".parse(), Ok(Seconds(Duration::from_millis(250))));
        for wrong in ["", "0", "-1", "nan", "inf", "1e7/s", "5/min"] {
            assert_eq!(wrong.parse::<Rate>(), Err(Malformed::Rate), "{wrong}");
        }
        for wrong in ["", "0", "-1", "nan", "inf", "1e6", "1s"] {
            assert_eq!(wrong.parse::<Seconds>(), Err(Malformed::Seconds), "{wrong}");
        }
        assert_eq!(number::<1, 3>("3"), Ok(3));
        assert!(number::<1, 3>("4").is_err() && number::<1, 3>("0").is_err());
    }
}
