//! Which formulas are stored: identity to record, and back in order of acceptance.
//!
//! Bodies stay on disk; here is only where to find them. The index by fingerprint is cut into
//! shards, because a hash table that grows moves all its entries at once: at a million formulas
//! that would stop every client for tens of milliseconds, a shard stops them for a tenth of one.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

use super::digest::{Digest, Tag, entry, word};
use crate::formula::Fingerprint;
use crate::ids::Lsn;

const SHARDS: usize = 256;

/// The index of stored formulas.
///
/// Invariant: both maps hold exactly the accepted formulas that were not withdrawn.
#[derive(Clone, Debug)]
pub struct Formulas {
    by_fingerprint: Box<[HashMap<Fingerprint, Lsn>]>,
    /// Accepting record → the last record that touched the formula's message: its trail.
    trails: BTreeMap<Lsn, Lsn>,
    digest: Digest,
}

impl Default for Formulas {
    fn default() -> Self {
        Formulas {
            by_fingerprint: (0..SHARDS).map(|_| HashMap::new()).collect(),
            trails: BTreeMap::new(),
            digest: Digest::default(),
        }
    }
}

impl Formulas {
    /// The record that accepted the formula of this identity.
    #[must_use]
    pub fn find(&self, fingerprint: &Fingerprint) -> Option<Lsn> {
        self.by_fingerprint[shard(fingerprint)].get(fingerprint).copied()
    }

    /// Whether this record accepted a formula that is still stored.
    #[must_use]
    pub fn holds(&self, lsn: Lsn) -> bool {
        self.trails.contains_key(&lsn)
    }

    /// The last record that touched the message of the formula accepted at `lsn`.
    #[must_use]
    pub fn trail(&self, lsn: Lsn) -> Option<Lsn> {
        self.trails.get(&lsn).copied()
    }

    /// Accepting records after `lsn`, in order.
    pub fn after(&self, lsn: Lsn) -> impl Iterator<Item = Lsn> + '_ {
        self.trails.range((Bound::Excluded(lsn), Bound::Unbounded)).map(|(&lsn, _)| lsn)
    }

    /// How many formulas are stored.
    #[must_use]
    pub fn len(&self) -> usize {
        self.trails.len()
    }

    /// Whether none is stored.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.trails.is_empty()
    }

    pub(super) fn accept(&mut self, lsn: Lsn, fingerprint: Fingerprint) {
        let before = self.by_fingerprint[shard(&fingerprint)].insert(fingerprint, lsn);
        assert_eq!(before, None, "one make-up is stored once");
        self.trails.insert(lsn, lsn);
        self.digest.add(formula_hash(lsn, &fingerprint));
    }

    pub(super) fn withdraw(&mut self, lsn: Lsn, fingerprint: &Fingerprint) {
        let stored = self.by_fingerprint[shard(fingerprint)].remove(fingerprint);
        assert_eq!(stored, Some(lsn), "only a stored formula is withdrawn");
        self.trails.remove(&lsn);
        self.digest.remove(formula_hash(lsn, fingerprint));
    }

    /// Notes that the record `by` touched the message of the formula accepted at `lsn`, if that
    /// is a stored formula.
    pub(super) fn touch(&mut self, lsn: Lsn, by: Lsn) {
        if let Some(last) = self.trails.get_mut(&lsn) {
            *last = by;
        }
    }

    pub(super) fn digest(&self) -> u128 {
        self.digest.value()
    }

    pub(super) fn check_invariants(&self) {
        let mut digest = Digest::default();
        let mut count = 0;
        for (fingerprint, &lsn) in self.by_fingerprint.iter().flatten() {
            let last = self.trails.get(&lsn).expect("each indexed formula has a trail");
            assert!(*last >= lsn, "a trail does not end before it begins");
            digest.add(formula_hash(lsn, fingerprint));
            count += 1;
        }
        assert_eq!(count, self.trails.len(), "each trail belongs to an indexed formula");
        assert_eq!(digest, self.digest, "the digest is the sum over the formulas");
    }
}

fn shard(fingerprint: &Fingerprint) -> usize {
    usize::from(fingerprint.0[0])
}

fn formula_hash(lsn: Lsn, fingerprint: &Fingerprint) -> u128 {
    entry(Tag::Formula, &[lsn.0, word(&fingerprint.0)])
}
