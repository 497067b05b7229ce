//! Bounds of releases, and of calls to partner nodes.

use std::ops::RangeInclusive;

use super::{
    IMAGE_ENTRY_BYTES_MAX, KEY_BYTES_MAX, NACK_DELAY_MS_MAX, PAYLOAD_BYTES_MAX, REASON_BYTES_MAX,
    SEAL_TARGET_BYTES_MAX, URL_BYTES_MAX,
};

/// Partner nodes. A set of them is a number of 16 bits in a record.
pub const NODES_MAX: usize = 16;
/// Bytes of a node's URL: each transaction and each trail names it.
pub const NODE_URL_BYTES_MAX: usize = 200;
/// Bytes of a group's name: it travels in a path, three bytes for one.
pub const GROUP_ID_BYTES_MAX: usize = 200;
/// Tries of a transaction that somebody asked for. He is told, and can ask again.
pub const TRIES_MAX: u32 = 3;
/// Tries of a formula's release or withdrawal: nobody waits for it, and nodes may be down for
/// minutes. With the waits between them these are some ten minutes.
pub const FLOW_TRIES_MAX: u32 = 15;
/// Rounds of undo before a transaction has failed.
pub const UNDO_ROUNDS_MAX: u32 = 3;
/// Looks in a row that may tell nothing before a node is undone without. One that is not made
/// because the node is left alone counts, too.
pub const LOOKS_MAX: u32 = 3;
/// The wait after a first try, look or round of undo; it doubles from one to the next.
pub const RELEASE_BACKOFF_BASE_MS: u64 = 1_000;
/// No such wait is longer.
pub const RELEASE_BACKOFF_CAP_MS: u64 = 60_000;
/// Transactions that are not at an end. Each is in memory, with its nodes.
pub const TRANSACTIONS_OPEN_MAX: usize = 10_000;
/// Of these, releases of formulas take no more than this: those that somebody asks for have room
/// while a cluster is down and formulas wait for it.
pub const FLOWS_OPEN_MAX: usize = 9_000;
/// Transactions at an end that are remembered, the latest. Read when a fact is applied: with
/// another number the replay of an old log comes to another state than its digests say.
pub const TRANSACTIONS_KEPT_MAX: usize = 10_000;
/// Bytes of the body that begins one: two members, each byte of a name written as six.
pub const TRANSACTION_BODY_BYTES_MAX: usize = 4 << 10;
/// Seconds for which the answer waits for the end, if the client names no other time.
pub const TRANSACTION_WAIT_S_DEFAULT: u64 = 10;
/// It waits no longer, whatever the client prefers: by then all tries of a transaction that
/// somebody asked for are over, unless nodes take their time for everything.
pub const TRANSACTION_WAIT_S_MAX: u64 = 300;
/// `Retry-After` of a transaction that goes on: less than a call takes that is not answered.
pub const TRANSACTION_RETRY_AFTER_S: u64 = 2;
/// Bytes of an answer that is kept for when its request is repeated: all nodes with a reason.
pub const TRANSACTION_ANSWER_BYTES_MAX: usize = 64 << 10;
/// A transaction's message is held for so many deadlines of a call, more than one run of it takes.
pub const RELEASE_LEASE_DEADLINES: u64 = 12;
/// And so much longer: waits between rounds of undo, and the log.
pub const RELEASE_LEASE_MARGIN_MS: u64 = 10 * 60_000;
/// Groups on this server, when it plays a node. Each is in memory, some 300 bytes.
pub const GROUPS_MAX: usize = 1_000_000;
/// Groups on this server that have gone and whose last calls are remembered. Read when a fact is
/// applied, like [`TRANSACTIONS_KEPT_MAX`].
pub const GROUPS_GONE_MAX: usize = 100_000;
/// Callers of whom a group's latest call is remembered: one store, and some that try things out.
/// Read when a fact is applied, too.
pub const GROUP_CALLERS_MAX: usize = 4;
/// Bytes of a body about a group: its name, each byte of it escaped.
pub const GROUP_BODY_BYTES_MAX: usize = 4 << 10;
/// Nodes of which is known how they are doing: the configured ones, and those that were configured
/// when transactions began that have yet to end.
pub const NODES_KNOWN_MAX: usize = 4 * NODES_MAX;
/// Shortest and longest `--node-deadline`. An unknown outcome is not judged before that time is
/// over, so that a long one makes every undo slow.
pub const NODE_DEADLINE_MS_RANGE: RangeInclusive<u64> = 50..=60_000;
/// Shortest and longest `--heal-every`.
pub const HEAL_EVERY_MS_RANGE: RangeInclusive<u64> = 100..=24 * 60 * 60 * 1000;
/// A connection to a node is there within one of so many parts of the deadline, or not at all: so
/// no call is sent late in its time, and its effect is not waited for much longer.
pub const NODE_CONNECT_SHARE: u64 = 5;
/// Connections to nodes at the same time. Nodes that hang must not take the descriptors that the
/// log needs; who wants one more waits for one of these to end.
pub const NODE_CONNECTIONS_MAX: usize = 128;
/// Failed transactions that are healed at the same time.
pub const HEALS_MAX: usize = 16;
/// Transactions that are carried out at the same time. Each calls all its nodes at once.
pub const RELEASES_RUNNING_MAX: usize = 128;
/// While formulas wait for a node that is left alone it is asked so often, in milliseconds, whether
/// it may be tried again.
pub const RELEASE_HELD_BACK_MS: u64 = 500;
/// A formula whose nodes are left alone waits so long, about.
pub const RELEASE_SHUNNED_DELAY_MS: u64 = 15_000;
/// Transactions under way when the server ends have so long to come to a point at which they rest.
/// What is cut off goes on at the next start.
pub const RELEASE_DRAIN_MS: u64 = 2_000;
/// Failures in a row after which a node is left alone: one lost packet must not do it, and five
/// deadlines are what it costs to find out.
pub const NODE_FAILURES_MAX: u32 = 5;
/// For so long it is left alone before one call tries it.
pub const BREAKER_OPEN_MS: u64 = 5_000;
/// Bytes of a node's answer that are read: nobody looks at them but those who ask why it refused,
/// but a short answer that is read to its end leaves a connection that can be used again.
pub const NODE_ANSWER_BYTES_MAX: usize = 4 << 10;
/// Bytes of a node's answer that are kept as its reason.
pub const NODE_SAID_BYTES_MAX: usize = 200;
/// A call's share in the moving average of a node's latency: one of so many.
pub const NODE_LATENCY_CALLS: u64 = 8;

const _: () = assert!(6 * GROUP_ID_BYTES_MAX < GROUP_BODY_BYTES_MAX);
const _: () =
    assert!(GROUP_ID_BYTES_MAX + GROUP_CALLERS_MAX * 2 * KEY_BYTES_MAX < IMAGE_ENTRY_BYTES_MAX);
const _: () = assert!(FLOWS_OPEN_MAX < TRANSACTIONS_OPEN_MAX);
const _: () = assert!(RELEASE_BACKOFF_CAP_MS <= NACK_DELAY_MS_MAX);
const _: () = assert!(NODES_MAX <= u16::BITS as usize);
const _: () = assert!(6 * GROUP_ID_BYTES_MAX + 256 <= TRANSACTION_BODY_BYTES_MAX);
const _: () = assert!(TRANSACTION_WAIT_S_DEFAULT <= TRANSACTION_WAIT_S_MAX);
const _: () = assert!(
    TRANSACTION_ANSWER_BYTES_MAX + NODES_MAX * (2 * NODE_URL_BYTES_MAX + REASON_BYTES_MAX)
        < IMAGE_ENTRY_BYTES_MAX
);
const _: () = assert!(TRANSACTION_ANSWER_BYTES_MAX < PAYLOAD_BYTES_MAX);
const _: () = assert!(NODES_MAX <= NODES_KNOWN_MAX);
const _: () = assert!(NODE_SAID_BYTES_MAX <= NODE_ANSWER_BYTES_MAX);
const _: () = assert!(NODE_SAID_BYTES_MAX < REASON_BYTES_MAX);
const _: () = assert!(NODE_FAILURES_MAX > 0);
// Every byte of a group's name escaped, the line of a look can still be sent.
const _: () = assert!(3 * GROUP_ID_BYTES_MAX + URL_BYTES_MAX < SEAL_TARGET_BYTES_MAX);
const _: () = assert!(NODE_URL_BYTES_MAX <= URL_BYTES_MAX);
const _: () = assert!(*NODE_DEADLINE_MS_RANGE.start() >= NODE_CONNECT_SHARE);
