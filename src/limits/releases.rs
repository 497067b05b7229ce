//! Bounds of releases, and of calls to partner nodes.

use super::{IMAGE_ENTRY_BYTES_MAX, NACK_DELAY_MS_MAX, PAYLOAD_BYTES_MAX, REASON_BYTES_MAX};

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
/// Looks in a row that may tell nothing before a node is undone without.
pub const LOOKS_MAX: u32 = 3;
/// The wait after a first try, look or round of undo; it doubles from one to the next.
pub const RELEASE_BACKOFF_BASE_MS: u64 = 1_000;
/// No such wait is longer.
pub const RELEASE_BACKOFF_CAP_MS: u64 = 60_000;
/// Transactions that are not at an end. Each is in memory, with its nodes.
pub const TRANSACTIONS_OPEN_MAX: usize = 10_000;
/// Transactions at an end that are remembered, the latest.
pub const TRANSACTIONS_KEPT_MAX: usize = 10_000;
/// Bytes of an answer that is kept for when its request is repeated: all nodes with a reason.
pub const TRANSACTION_ANSWER_BYTES_MAX: usize = 64 << 10;
/// A transaction's message is held for so many deadlines of a call, more than one run of it takes.
pub const RELEASE_LEASE_DEADLINES: u64 = 12;
/// And so much longer: waits between rounds of undo, and the log.
pub const RELEASE_LEASE_MARGIN_MS: u64 = 10 * 60_000;
/// Groups on this server, when it plays a node, that have gone and whose last call is remembered.
pub const GROUPS_GONE_MAX: usize = 100_000;

const _: () = assert!(RELEASE_BACKOFF_CAP_MS <= NACK_DELAY_MS_MAX);
const _: () = assert!(NODES_MAX <= u16::BITS as usize);
const _: () = assert!(
    TRANSACTION_ANSWER_BYTES_MAX + NODES_MAX * (2 * NODE_URL_BYTES_MAX + REASON_BYTES_MAX)
        < IMAGE_ENTRY_BYTES_MAX
);
const _: () = assert!(TRANSACTION_ANSWER_BYTES_MAX < PAYLOAD_BYTES_MAX);
