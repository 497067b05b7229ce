//! Bounds of what the program brings along to be measured and tried: the load generator and the
//! doubles.

use super::{CONNECTIONS_PER_ADDRESS_MAX, LEASE_MESSAGES_MAX, LEASE_MS_MAX};

// ---- load generator -----------------------------------------------------------------------

/// Connections of one measured run. The server takes `CONNECTIONS_PER_ADDRESS_MAX` from one
/// address, and some are needed beside.
pub const BENCH_CONNECTIONS_MAX: usize = 1000;
/// Formulas that one seed makes: as many as the digits that are written into a template.
pub const BENCH_NUMBERS_MAX: u64 = 1_000_000_000;
/// Ids known beforehand for reading at random: more than any page cache of records keeps close.
pub const BENCH_IDS_MAX: u64 = 1 << 20;
/// Ids that one connection keeps to be verified after the run, 72 bytes each; more are verified
/// at once.
pub const BENCH_EVIDENCE_MAX: usize = 1 << 18;
/// Of a bulk load every so many lines' ids are computed again: all of them would take a fifth of
/// the machine from the server.
pub const BENCH_LINES_PER_CHECK: u64 = 64;
/// Before each measured run: fills caches and buffers, and is not counted.
pub const BENCH_WARM_UP_MS: u64 = 300;
/// Lease of the messages that are taken: they are acked at once, and none may lapse meanwhile.
pub const BENCH_LEASE_S: u64 = 120;
/// Time after an open loop for the requests that are due and were not sent.
pub const BENCH_BACKLOG_MS_MAX: u64 = 5_000;
/// Time between two looks at how many of them are left.
pub const BENCH_BACKLOG_CHECK_MS: u64 = 1;
/// A server of our own that takes longer to start has failed.
pub const BENCH_START_MS_MAX: u64 = 300_000;
/// Time between two looks at whether a new server still fills its first segments.
pub const BENCH_SETTLE_CHECK_MS: u64 = 100;
/// Time after which it is measured all the same.
pub const BENCH_SETTLE_MS_MAX: u64 = 10_000;
/// Wait before a compaction is asked for again because the server is overloaded.
pub const BENCH_COMPACTION_RETRY_MS: u64 = 50;
/// Messages that one call leases and acks.
pub const BENCH_BATCH_MAX: usize = LEASE_MESSAGES_MAX;
/// Rounds of one comparison.
pub const BENCH_ROUNDS_MAX: usize = 1000;

// ---- doubles ------------------------------------------------------------------------------

/// Calls of one rate: beyond it a window is no longer counted call by call in no time.
pub const SIMULATE_RATE_CALLS_MAX: usize = 10_000;
/// Longest window of a rate: a day.
pub const SIMULATE_WINDOW_MS_MAX: u64 = 24 * 3600 * 1000;
/// Arrivals that the simulated authority remembers and shows: those of any one window, and of a
/// long test. Eight bytes each.
pub const SIMULATE_ARRIVALS_MAX: usize = 100_000;
/// Messages that the simulated authority tells apart; the one heard of first is forgotten.
pub const SIMULATE_MESSAGES_MAX: usize = 20_000;
/// Arrivals shown of each message: more than the attempts that a request has by default.
pub const SIMULATE_MESSAGE_ARRIVALS_MAX: usize = 64;
/// Rules for single messages or paths, and steps of a script.
pub const SIMULATE_RULES_MAX: usize = 10_000;
/// Longest delay of a simulated answer: an hour is longer than anybody's deadline.
pub const SIMULATE_DELAY_MS_MAX: u64 = 3600 * 1000;
/// Longest degradation on average: a day.
pub const SIMULATE_DEGRADED_S_MAX: u64 = 24 * 3600;
/// Bytes of a body that a double reads: hooks are thin.
pub const SIMULATE_BODY_BYTES_MAX: usize = 64 << 10;
/// Deliveries that the simulated receiver remembers whole; later ones are counted only.
pub const SIMULATE_DELIVERIES_MAX: usize = 8192;
/// Ids of deliveries that the simulated receiver tells apart; the first one is forgotten.
pub const SIMULATE_IDS_MAX: usize = 100_000;
/// Secrets that a simulated receiver is told of at a time: two while one is replaced, and room to
/// try more.
pub const SIMULATE_SECRETS_MAX: usize = 16;
/// Longest wait of `GET /stats?after=` for something to happen: whoever asks may give up, too.
pub const SIMULATE_STATS_WAIT_MS: u64 = 1000;
/// Characters of a message that a double prints.
pub const SIMULATE_SHOWN_CHARS: usize = 60;
/// Simulated nodes: as many as a server may be told of.
pub const SIMULATE_NODES_MAX: usize = 16;
/// Groups on a simulated node: those of a long test, in a listing that still can be read.
pub const SIMULATE_GROUPS_MAX: usize = 100_000;
/// Requests that a simulated node remembers whole; later ones are counted only. Some 500 bytes
/// each.
pub const SIMULATE_REQUESTS_MAX: usize = 16_384;
/// Late effects that wait at a simulated node, with a timer each.
pub const SIMULATE_LATE_MAX: usize = 10_000;
/// Groups that are on some nodes only and are named in one line.
pub const SIMULATE_PARTLY_SHOWN: usize = 20;

const _: () = assert!(BENCH_CONNECTIONS_MAX < CONNECTIONS_PER_ADDRESS_MAX);
const _: () = assert!(BENCH_LEASE_S * 1000 <= LEASE_MS_MAX);
const _: () = assert!(SIMULATE_RATE_CALLS_MAX < SIMULATE_ARRIVALS_MAX);
