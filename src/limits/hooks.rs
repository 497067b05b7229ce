//! Bounds of hooks and of the calls to them.

use super::{
    DRAIN_MS, HOOK_SECRET_BYTES, LEASE_MESSAGES_MAX, LEASE_MS_MAX, SNAPSHOT_LEAVES_SEGMENTS,
};

/// Calls to hooks that are under way at once.
pub const HOOK_CALLS_MAX: usize = 64;
/// Of these to one destination: enough to hide the way there and back, few for any server.
pub const HOOK_LANE_CALLS_MAX: usize = 4;
/// Deliveries in the worker's hands: those under way, and enough behind that none waits for the
/// next lease.
pub const HOOK_IN_HAND_MAX: usize = 256;
/// Deliveries that are leased at once.
pub const HOOK_LEASE_MAX: usize = 128;
/// A destination whose call takes longer than this is slow: what waits for it makes room.
pub const HOOK_LANE_SLOW_MS: u64 = 1000;
/// Deliveries that wait for a slow destination in the worker's hands; others are put off.
pub const HOOK_LANE_WAITING_SLOW_MAX: usize = 4;
/// Calls without an answer, one after the other, after which a destination is left alone.
pub const HOOK_LANE_PAUSE_AFTER: u32 = 3;
/// Longest time for which a destination is left alone because one call was asked to come later.
/// That delivery waits as long as it was asked to; but others go to the same host, on behalf of
/// others, and nobody with a path of his own there is to silence them for an hour.
pub const HOOK_LANE_BUSY_MS_MAX: u64 = 60_000;
/// Destinations of which is known how they are doing: a few hundred bytes each.
pub const HOOK_LANES_MAX: usize = 1024;
/// Shortest time for which a delivery is put off: below it the same ones come round and round.
pub const HOOK_PUT_OFF_MS_MIN: u64 = 1000;
/// Longest time for which a delivery is put off because its destination is slow: it may become
/// quick again. A million of them cost some 500 records a second to come round.
pub const HOOK_PUT_OFF_MS_MAX: u64 = 30_000;
/// Time that a lease of a delivery has beyond twice the deadline of its call: for waiting behind
/// others in hand, and for the record of the outcome.
pub const HOOK_LEASE_MARGIN_MS: u64 = 60_000;
/// Bytes of an answer that are read: nobody looks at them, but a short answer that is read to its
/// end leaves a connection that can be used again.
pub const HOOK_ANSWER_BYTES_MAX: usize = 4 << 10;
/// Attempts of a delivery unless `--webhook-attempts` says otherwise: with the usual back-off
/// these are a little over an hour.
pub const HOOK_ATTEMPTS_DEFAULT: u32 = 20;
/// Shortest and longest `--webhook-deadline`.
pub const HOOK_DEADLINE_MS_RANGE: std::ops::RangeInclusive<u64> = 100..=60_000;
/// Time for calls under way when the server stops. They are made again if it is too short.
pub const HOOK_DRAIN_MS: u64 = 5_000;
/// Bytes of a secret that the server makes: as many as its HMAC has.
pub const HOOK_SECRET_MADE_BYTES: usize = 32;
/// Longest time for which calls are signed with the secret before, too.
pub const HOOK_OVERLAP_MS_MAX: u64 = 30 * 24 * 3600 * 1000;
/// That time when the caller names none: a day to change it at the receiver.
pub const HOOK_OVERLAP_MS_DEFAULT: u64 = 24 * 3600 * 1000;
/// Bytes of a body about a hook: URL, secret, and all events many times over.
pub const HOOK_BODY_BYTES_MAX: usize = 16 << 10;
/// Bytes of a secret as text.
pub const HOOK_SECRET_TEXT_BYTES_MAX: usize = 128;
/// Events that a hook may name, wild cards and repetitions included.
pub const HOOK_EVENTS_MAX: usize = 32;
/// Longest wait for what becomes of a ping.
pub const HOOK_PING_WAIT_MS_MAX: u64 = 10_000;
/// Time to find out what the name in a hook's URL stands for.
pub const HOOK_LOOKUP_MS: u64 = 3_000;
/// Deliveries that are looked at for one page of a filtered list; the cursor goes on from there.
pub const HOOK_SCAN_MAX: usize = 2_000;
/// The disk is low when fewer bytes are free than for so many segments and another snapshot of
/// the size of the last: then the next compaction, which would free some, has just room to run.
pub const DISK_LOW_SEGMENTS: u64 = 2 * SNAPSHOT_LEAVES_SEGMENTS;

const _: () = assert!(HOOK_LANE_CALLS_MAX <= HOOK_CALLS_MAX);
const _: () = assert!(HOOK_CALLS_MAX <= HOOK_IN_HAND_MAX);
const _: () = assert!(HOOK_LEASE_MAX <= LEASE_MESSAGES_MAX);
const _: () = assert!(2 * *HOOK_DEADLINE_MS_RANGE.end() + HOOK_LEASE_MARGIN_MS <= LEASE_MS_MAX);
const _: () = assert!(HOOK_SECRET_MADE_BYTES >= *HOOK_SECRET_BYTES.start());
const _: () = assert!(HOOK_SECRET_MADE_BYTES <= *HOOK_SECRET_BYTES.end());
const _: () = assert!(HOOK_DRAIN_MS < DRAIN_MS);
