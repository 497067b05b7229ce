//! What the facts about seals and about calls to the outside say.
//!
//! A call is two records: that it was begun, durable before the socket is written, and that it
//! ended. A crash in between leaves the first without the second, so a call can be counted
//! twice against the limit but never not at all.

use bincode::{Decode, Encode};
use sha2::{Digest as _, Sha256};

use super::{SpentKey, Touched};
use crate::ids::{Lsn, MessageId};
use crate::time::Uptime;

/// Somebody asked for a text to be sealed. This record is the message on the queue `seals`,
/// unless the text was sealed before.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct RequestedSeal {
    /// The text as sent, 1 to `SEAL_TEXT_BYTES_MAX` bytes.
    pub text: Box<str>,
    /// Identity of the text, see [`text_key`].
    pub text_key: [u8; 32],
    /// Called when the seal was not there at once.
    pub webhook_url: Option<Box<str>>,
    /// The idempotency key that the request spent.
    pub key: Option<SpentKey>,
    /// Its place on the queue when it was asked for, from 1; 0 for a text sealed before.
    pub position: u64,
    /// Seconds until its turn, as reckoned then; 0 for a text sealed before.
    pub eta_s: u64,
    /// The record [`GivenSeal`] that sealed the text before.
    pub sealed: Option<Lsn>,
}

/// The authority's signature of a text.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct GivenSeal {
    /// The message that the call was made for.
    pub message: Touched,
    /// Requests for the same text that waited, and are settled by this one.
    pub shared: Vec<MessageId>,
    /// Those of all these requests whose callers were still there and are answered `200`.
    /// Everybody else was answered `202` and gets a hook.
    pub inline: Vec<MessageId>,
    /// As the authority gave it.
    pub signature: Box<str>,
    /// Puts the text into the index of keys, for good: `key` is its [`text_key`].
    pub index: SpentKey,
}

/// What a call to the authority is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum CallPurpose {
    /// To seal a message that was not tried before.
    Fresh(MessageId),
    /// To seal a message once more.
    Retried(MessageId),
    /// To verify a signature.
    Verify,
    /// To see whether the authority is there.
    Probe,
}

/// A text was sealed: never forgotten.
pub const NEVER: Uptime = Uptime(u64::MAX);

/// Identity of a text to be sealed: SHA-256 of the seven bytes `sealed1` and the text. It stands
/// in the same index as idempotency keys, which are SHA-256 of something else.
#[must_use]
pub fn text_key(text: &str) -> [u8; 32] {
    Sha256::new().chain_update(b"sealed1").chain_update(text).finalize().into()
}

/// The entry of a sealed text in the index of keys.
#[must_use]
pub fn index_of(text_key: [u8; 32]) -> SpentKey {
    SpentKey { key: text_key, request: [0; 32], expires: NEVER }
}
