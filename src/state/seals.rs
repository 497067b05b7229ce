//! Requests for a seal that wait: which message asks for which text.
//!
//! Formulas that wait for their seal are not here: their text is their identity, which their
//! record tells. What is sealed is not here either, but in the index of keys, under the text's
//! identity, for good.

use std::collections::{BTreeMap, BTreeSet};

use super::digest::{Digest, Tag, entry, word};
use crate::ids::{Lsn, MessageId};

/// Requests on the queue `seals`, dead letters included.
///
/// Invariant: the two indexes hold the same requests.
#[derive(Clone, Debug, Default)]
pub struct Seals {
    pub(super) texts: BTreeMap<MessageId, [u8; 32]>,
    by_text: BTreeSet<([u8; 32], MessageId)>,
    digest: Digest,
}

impl Seals {
    /// Whether the message is a request that waits, as opposed to a formula.
    #[must_use]
    pub fn is_request(&self, message: MessageId) -> bool {
        self.texts.contains_key(&message)
    }

    /// The identity of the text that a waiting request asks for.
    #[must_use]
    pub fn text_key(&self, message: MessageId) -> Option<&[u8; 32]> {
        self.texts.get(&message)
    }

    /// The requests that wait for a text, oldest first.
    pub fn waiting(&self, text_key: &[u8; 32]) -> impl Iterator<Item = MessageId> + '_ {
        let text_key = *text_key;
        let (lowest, highest) = (MessageId(Lsn::ZERO), MessageId(Lsn(u64::MAX)));
        self.by_text.range((text_key, lowest)..=(text_key, highest)).map(|(_, message)| *message)
    }

    /// How many requests wait, dead letters included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.texts.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    pub(super) fn wait(&mut self, message: MessageId, text_key: [u8; 32]) {
        self.digest.add(request_hash(message, &text_key));
        self.by_text.insert((text_key, message));
        self.texts.insert(message, text_key);
    }

    /// The message is off the queue. Nothing happens if it is no request.
    pub(super) fn leave(&mut self, message: MessageId) {
        if let Some(text_key) = self.texts.remove(&message) {
            self.digest.remove(request_hash(message, &text_key));
            self.by_text.remove(&(text_key, message));
        }
    }

    pub(super) fn digest(&self) -> u128 {
        self.digest.value()
    }

    pub(super) fn check_invariants(&self) {
        let (mut digest, mut by_text) = (Digest::default(), BTreeSet::new());
        for (&message, text_key) in &self.texts {
            digest.add(request_hash(message, text_key));
            by_text.insert((*text_key, message));
        }
        assert_eq!(by_text, self.by_text, "both indexes hold the same requests");
        assert_eq!(digest, self.digest, "the digest is the sum over the requests");
    }
}

fn request_hash(message: MessageId, text_key: &[u8; 32]) -> u128 {
    entry(Tag::SealRequest, &[message.0.0, word(text_key)])
}
