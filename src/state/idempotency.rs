//! Which idempotency keys are spent, on what, and until when.

use std::collections::{BTreeSet, HashMap};

use super::digest::{Digest, Tag, entry, word};
use crate::ids::Lsn;
use crate::record::SpentKey;
use crate::time::Uptime;

/// What a key was spent on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spent {
    /// The record that holds the answer: `FormulaAccepted` or `BatchAnswered`.
    pub lsn: Lsn,
    /// SHA-256 of the request.
    pub request: [u8; 32],
    /// The key is free again at this uptime.
    pub expires: Uptime,
}

/// The spent keys.
///
/// Invariant: `by_expiry` holds exactly the keys of `by_key` under their expiry.
#[derive(Clone, Debug, Default)]
pub struct SpentKeys {
    by_key: HashMap<[u8; 32], Spent>,
    by_expiry: BTreeSet<(Uptime, [u8; 32])>,
    digest: Digest,
}

impl SpentKeys {
    /// What `key` was spent on, unless it was forgotten by `now`.
    #[must_use]
    pub fn find(&self, key: &[u8; 32], now: Uptime) -> Option<&Spent> {
        self.by_key.get(key).filter(|spent| spent.expires > now)
    }

    /// How many keys are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Whether none is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    pub(super) fn spend(&mut self, lsn: Lsn, spent: &SpentKey) {
        let value = Spent { lsn, request: spent.request, expires: spent.expires };
        let before = self.by_key.insert(spent.key, value);
        assert_eq!(before, None, "a key is spent once");
        self.by_expiry.insert((spent.expires, spent.key));
        self.digest.add(key_hash(&spent.key, &value));
    }

    /// Forgets the keys whose time has come.
    pub(super) fn advance(&mut self, now: Uptime) {
        while let Some(&(expires, key)) = self.by_expiry.first()
            && expires <= now
        {
            self.by_expiry.pop_first();
            let spent = self.by_key.remove(&key).expect("both maps hold the same keys");
            self.digest.remove(key_hash(&key, &spent));
        }
    }

    pub(super) fn digest(&self) -> u128 {
        self.digest.value()
    }

    pub(super) fn check_invariants(&self) {
        assert_eq!(self.by_key.len(), self.by_expiry.len(), "both maps are of one size");
        let mut digest = Digest::default();
        for (key, spent) in &self.by_key {
            assert!(self.by_expiry.contains(&(spent.expires, *key)), "each key can expire");
            digest.add(key_hash(key, spent));
        }
        assert_eq!(digest, self.digest, "the digest is the sum over the keys");
    }
}

fn key_hash(key: &[u8; 32], spent: &Spent) -> u128 {
    entry(Tag::Key, &[word(key), spent.lsn.0, word(&spent.request), spent.expires.0])
}
