//! Bounds of seals, and of calls to the outside.

use super::{
    CONNECT_MS_MAX, DIAL_ADDRESSES_MAX, DIAL_STAGGER_MS, DRAIN_MS, HOOK_URL_BYTES_MAX,
    NACK_DELAY_MS_MAX, PAYLOAD_BYTES_MAX, URL_BYTES_MAX,
};

/// Bytes of a text that the authority is to sign. It travels in a URL, three bytes for one.
pub const SEAL_TEXT_BYTES_MAX: usize = 8 << 10;
/// Bytes of a signature: far above the largest RSA key's in base64.
pub const SIGNATURE_BYTES_MAX: usize = 16 << 10;
/// Requests for a seal that may wait. At ten a minute these are a week.
pub const SEALS_WAITING_MAX: usize = 100_000;
/// Requests for one text that one record settles: a group of the log stays small.
pub const SEALS_SHARED_MAX: usize = 1000;
/// A caller is answered within two seconds: what comes later than this is answered by a hook.
pub const SEAL_ANSWER_MS: u64 = 1800;
/// When something is being recorded for him at that moment, he waits up to this for it.
pub const SEAL_ANSWER_LATEST_MS: u64 = 1950;
/// A message is held so much longer than its call may take: the end has yet to be recorded.
pub const SEAL_LEASE_MARGIN_MS: u64 = 60_000;
/// Bytes of a body that asks for a seal: the text with every byte escaped, and the URL.
pub const SEAL_BODY_BYTES_MAX: usize = 64 << 10;
/// Time to find out whether the name in a `webhook_url` stands for anything, out of the time for
/// the answer.
pub const SEAL_LOOKUP_MS: u64 = 700;
/// A question to the authority is answered by then, or not at all: above the usual deadline.
pub const ENQUIRY_ANSWER_MS: u64 = 12_000;
/// Shortest `--seal-deadline`.
pub const SEAL_DEADLINE_MS_MIN: u64 = 50;
/// Longest `--seal-deadline`: nobody else signs while a call hangs.
pub const SEAL_DEADLINE_MS_MAX: u64 = 300_000;
/// Shortest `--backoff-base` and `--backoff-cap`.
pub const BACKOFF_MS_MIN: u64 = 1;
/// Longest `--backoff-base` and `--backoff-cap`: a day.
pub const BACKOFF_MS_MAX: u64 = 24 * 60 * 60 * 1000;
/// Calls for seals that are under way when the server ends have so long to come to theirs. What
/// is cut off is called for again.
pub const SEAL_DRAIN_MS: u64 = 2000;
/// Calls of one hundred that verify and probe may use while messages wait.
pub const OTHER_CALLS_PERCENT: u32 = 40;
/// Calls per window that may be allowed, and so the ended calls that are remembered.
pub const CALLS_KEPT_MAX: usize = 10_000;
/// No call begins for so long after a loss that the operator accepted: calls may be among what is
/// lost. The usual window, a minute, and five for calls that were still under way.
pub const LOST_CALLS_PAUSE_MS: u64 = 6 * 60 * 1000;
/// Longest window of a limit on calls: a day.
pub const CALL_WINDOW_MS_MAX: u64 = 24 * 60 * 60 * 1000;
/// Bytes of path and query of a call to the authority, which carries the message in it: 16 KiB
/// of which every byte is escaped. The HTTP library takes no more than 64 KiB.
pub const SEAL_TARGET_BYTES_MAX: usize = 52 << 10;
/// Time for a connection to the authority.
pub const SEAL_CONNECT_MS: u64 = 5_000;
/// Bytes of an answer of the authority. The signature of the largest RSA key in use (16,384
/// bits) has 4 KiB as hex.
pub const SEAL_ANSWER_BYTES_MAX: usize = 16 << 10;
/// A connection that is not used is closed after this: before the other side does it, which for
/// the usual servers (Node, uvicorn) is after 5 s, so that no call is lost in between.
pub const CALL_KEEP_ALIVE_MS: u64 = 4_000;
/// Connections to one host that stay open unused: deliveries to one hook come in bursts.
pub const CALL_IDLE_CONNECTIONS_MAX: usize = 4;

const _: () = assert!(URL_BYTES_MAX < SEAL_TARGET_BYTES_MAX);
const _: () = assert!(SEAL_TARGET_BYTES_MAX < u16::MAX as usize);
const _: () = assert!(DIAL_ADDRESSES_MAX as u64 * DIAL_STAGGER_MS < SEAL_CONNECT_MS);
const _: () = assert!(SEAL_CONNECT_MS <= CONNECT_MS_MAX);
const _: () = assert!(SEAL_LOOKUP_MS < SEAL_ANSWER_MS);
const _: () = assert!(SEAL_BODY_BYTES_MAX >= 6 * SEAL_TEXT_BYTES_MAX + 2 * HOOK_URL_BYTES_MAX);
const _: () = assert!(BACKOFF_MS_MAX <= NACK_DELAY_MS_MAX);
const _: () = assert!(SEAL_DRAIN_MS < DRAIN_MS);
const _: () = assert!(SEAL_ANSWER_MS < SEAL_ANSWER_LATEST_MS);
const _: () = assert!(4 * SEAL_TEXT_BYTES_MAX + HOOK_URL_BYTES_MAX < PAYLOAD_BYTES_MAX);
