//! Which idempotency keys are spent, on what, and until when.
//!
//! As with formulas, only the keys that were spent since the base are here, in layers. A key is
//! free again from its expiry on, and is so by the reading alone; memory gets rid of it when its
//! turn comes, which for keys of one retention is at once.

use std::collections::{HashMap, VecDeque};

use bincode::{Decode, Encode};

use super::digest::{Digest, Tag, entry, word};
use super::layers::{Layer, Layers};
use crate::ids::Lsn;
use crate::record::SpentKey;
use crate::record::seals::NEVER;
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

/// Where a key is to be looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyWhereabouts {
    /// It is spent.
    Spent(Spent),
    /// It was not spent above the base. The snapshot may know it; what it says holds unless the
    /// key has expired. Without a snapshot the key is free.
    Below,
}

/// The spent keys.
#[derive(Clone, Debug, Default)]
pub struct SpentKeys {
    layers: Layers<KeyLayer>,
    totals: KeyTotals,
}

/// What all keys that were ever spent add up to, those of the base included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub(super) struct KeyTotals {
    /// Sum over them. Expiry takes nothing off: a snapshot can carry the sum without the keys.
    pub(super) digest: Digest,
    /// The first expiry of all, `None` as long as no key was spent. Once it has come, the sum is
    /// not that of version 1 any more, which took expired keys off.
    pub(super) first_expiry: Option<Uptime>,
    /// No key spent so far outlives this uptime, but for those that are never forgotten.
    pub(super) latest_expiry: Uptime,
}

/// Keys that were spent between two freezes.
///
/// Invariant: each key of `by_key` that expires has an entry in `queue` with its expiry.
#[derive(Clone, Debug, Default)]
pub(super) struct KeyLayer {
    by_key: HashMap<[u8; 32], Spent>,
    /// In the order in which they were spent: by expiry too, unless the retention was changed.
    queue: VecDeque<(Uptime, [u8; 32])>,
}

impl Layer for KeyLayer {
    fn absorb(&mut self, newer: Self) {
        self.by_key.extend(newer.by_key);
        self.queue.extend(newer.queue);
    }
}

impl KeyLayer {
    /// Drops expired keys up to the first that still holds.
    fn advance(&mut self, now: Uptime) {
        while let Some((_, key)) = self.queue.pop_front_if(|(expires, _)| *expires <= now) {
            // Unless it was spent anew meanwhile.
            if self.by_key.get(&key).is_some_and(|spent| spent.expires <= now) {
                self.by_key.remove(&key);
            }
        }
    }
}

impl SpentKeys {
    /// Where `key` is, as of `now`.
    #[must_use]
    pub fn find(&self, key: &[u8; 32], now: Uptime) -> KeyWhereabouts {
        let mut layers = self.layers.newest_first();
        match layers.find_map(|layer| layer.by_key.get(key)) {
            Some(spent) if spent.expires > now => KeyWhereabouts::Spent(*spent),
            _ => KeyWhereabouts::Below,
        }
    }

    /// How many keys above the base are in memory.
    #[must_use]
    pub fn len(&self) -> usize {
        self.layers.newest_first().map(|layer| layer.by_key.len()).sum()
    }

    /// Whether no key above the base is in memory.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// No key spent so far, whether above the base or below, outlives this uptime, but for those
    /// that are never forgotten: sealed texts.
    #[must_use]
    pub fn latest_expiry(&self) -> Uptime {
        self.totals.latest_expiry
    }

    /// The keys that were spent above the base and hold at `now`, in their order. For the next
    /// snapshot; takes time and memory in proportion to them.
    #[must_use]
    pub fn sorted(&self, now: Uptime) -> Vec<([u8; 32], Spent)> {
        let layers = self.layers.oldest_first();
        // At most one entry of each key still holds: it is spent anew only after it expired.
        let holding = layers.flat_map(|layer| &layer.by_key).filter(|(_, s)| s.expires > now);
        let mut sorted: Vec<_> = holding.map(|(key, spent)| (*key, *spent)).collect();
        sorted.sort_unstable_by_key(|(key, _)| *key);
        sorted
    }

    pub(super) fn spend(&mut self, lsn: Lsn, spent: &SpentKey, now: Uptime) {
        assert_eq!(self.find(&spent.key, now), KeyWhereabouts::Below, "a key is spent once");
        let SpentKey { key, request, expires } = *spent;
        let value = Spent { lsn, request, expires };
        self.hold(key, value);
        let totals = &mut self.totals;
        totals.digest.add(key_hash(&key, &value));
        totals.first_expiry = Some(totals.first_expiry.map_or(expires, |it| it.min(expires)));
        if expires != NEVER {
            totals.latest_expiry = totals.latest_expiry.max(expires);
        }
    }

    /// Notes what the snapshot says of a key, for replay behind an accepted loss.
    pub(super) fn recall(&mut self, key: [u8; 32], spent: Spent, now: Uptime) {
        if self.find(&key, now) == KeyWhereabouts::Below {
            self.hold(key, spent);
        }
    }

    fn hold(&mut self, key: [u8; 32], spent: Spent) {
        let young = self.layers.young_mut();
        young.by_key.insert(key, spent);
        if spent.expires != NEVER {
            young.queue.push_back((spent.expires, key));
        }
    }

    /// Forgets keys whose time has come.
    pub(super) fn advance(&mut self, now: Uptime) {
        self.layers.young_mut().advance(now);
    }

    /// Whether the time of any key ever spent has come.
    pub(super) fn has_expired(&self, now: Uptime) -> bool {
        self.totals.first_expiry.is_some_and(|expiry| expiry <= now)
    }

    pub(super) fn totals(&self) -> KeyTotals {
        self.totals
    }

    pub(super) fn resume(totals: KeyTotals) -> SpentKeys {
        SpentKeys { totals, layers: Layers::default() }
    }

    pub(super) fn freeze(&mut self) {
        self.layers.freeze();
    }

    pub(super) fn thaw(&mut self) {
        self.layers.thaw();
    }

    /// The frozen layers, which the snapshot now holds.
    pub(super) fn rebase(&mut self) -> Vec<KeyLayer> {
        self.layers.take_frozen()
    }

    pub(super) fn digest(&self) -> u128 {
        self.totals.digest.value()
    }

    pub(super) fn check_invariants(&self) {
        for layer in self.layers.oldest_first() {
            let queued: HashMap<_, _> = layer.queue.iter().map(|(at, key)| (*key, *at)).collect();
            let expiring = layer.by_key.iter().filter(|(_, spent)| spent.expires != NEVER);
            for (key, spent) in expiring {
                assert_eq!(queued.get(key), Some(&spent.expires), "each key can expire");
                assert!(spent.expires <= self.totals.latest_expiry, "none outlives the latest");
            }
        }
    }
}

fn key_hash(key: &[u8; 32], spent: &Spent) -> u128 {
    entry(Tag::Key, &[word(key), spent.lsn.0, word(&spent.request), spent.expires.0])
}
