//! Which formulas are stored: identity to record, and back in order of acceptance.
//!
//! Bodies stay on disk; here is only where to find them. What a snapshot holds, the *base*, is
//! not here either: of it the state knows how many formulas there are and what they add up to.
//! What came since stands in layers (see `layers`). So a question has one of two answers: here it
//! is, or ask the snapshot, and then whether what it names was withdrawn since.
//!
//! The index by fingerprint is cut into shards, because a hash table that grows moves all its
//! entries at once: at a million formulas that would stop every client for tens of milliseconds,
//! a shard stops them for a tenth of one.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bincode::{Decode, Encode};

use super::digest::{Digest, Tag, entry, word};
use super::layers::{Layer, Layers};
use super::lsn_set::LsnSet;
use crate::formula::Fingerprint;
use crate::ids::{Lsn, MessageId};
use crate::time::Uptime;

const SHARDS: usize = 256;

/// Where a formula is to be looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whereabouts {
    /// It is stored, and this record accepted it.
    Stored(Lsn),
    /// Nothing above the base says that it is stored. The snapshot may; what it names is stored
    /// unless [`Formulas::is_withdrawn`]. Without a snapshot it is not stored.
    Below,
}

/// Why the body of a withdrawn formula may still be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Pin {
    /// The withdrawal's message, which shows the formula for as long as it is on the queue.
    pub message: MessageId,
    /// A key that was spent before the withdrawal may give the formula as its answer up to this
    /// uptime.
    pub until: Uptime,
}

/// The index of stored formulas.
///
/// Invariants: an LSN above the base is stored if and only if a layer accepted it and no layer
/// withdrew it; one at or below the base, if the snapshot says so and no layer withdrew it.
#[derive(Clone, Debug, Default)]
pub struct Formulas {
    base: Base,
    layers: Layers<FormulaLayer>,
    /// Stored formulas, those of the base included.
    count: usize,
    /// Sum over the stored formulas, those of the base included.
    digest: Digest,
}

/// What the state keeps of the formulas that are in the snapshot.
#[derive(Clone, Debug, Default)]
pub(super) struct Base {
    /// The last LSN that the snapshot holds; zero for none.
    pub(super) lsn: Lsn,
    /// Stored formulas.
    pub(super) count: usize,
    /// Sum over them.
    pub(super) digest: u128,
    /// Withdrawn formulas whose bodies the snapshot keeps.
    pub(super) pins: BTreeMap<Lsn, Pin>,
    /// The messages of `pins`.
    pub(super) announcements: BTreeSet<MessageId>,
}

impl Base {
    pub(super) fn new(lsn: Lsn, count: usize, digest: u128, pins: BTreeMap<Lsn, Pin>) -> Base {
        let announcements = pins.values().map(|pin| pin.message).collect();
        Base { lsn, count, digest, pins, announcements }
    }
}

/// What happened between two freezes.
#[derive(Clone, Debug)]
pub(super) struct FormulaLayer {
    /// Formulas accepted here, and not withdrawn here.
    by_fingerprint: Box<[HashMap<Fingerprint, Lsn>]>,
    /// The same, in order.
    accepted: LsnSet,
    /// Formula → the last record that touched its message, if one did: the end of its trail.
    touched: BTreeMap<Lsn, Lsn>,
    /// Formulas that were withdrawn here, wherever they were accepted.
    withdrawn: BTreeMap<Lsn, Pin>,
}

impl Default for FormulaLayer {
    fn default() -> Self {
        FormulaLayer {
            by_fingerprint: (0..SHARDS).map(|_| HashMap::new()).collect(),
            accepted: LsnSet::default(),
            touched: BTreeMap::new(),
            withdrawn: BTreeMap::new(),
        }
    }
}

impl Layer for FormulaLayer {
    fn absorb(&mut self, newer: Self) {
        for (&lsn, pin) in &newer.withdrawn {
            self.accepted.remove(lsn);
            self.touched.remove(&lsn);
            self.withdrawn.insert(lsn, *pin);
        }
        for (mine, newer) in self.by_fingerprint.iter_mut().zip(newer.by_fingerprint) {
            mine.retain(|_, lsn| !self.withdrawn.contains_key(lsn));
            mine.extend(newer);
        }
        self.accepted.extend(newer.accepted);
        self.touched.extend(newer.touched);
    }
}

/// Formulas counted one by one: equal for the same formulas, in whatever order they come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    count: usize,
    digest: Digest,
}

impl Inventory {
    /// Counts a formula.
    pub fn add(&mut self, lsn: Lsn, fingerprint: &Fingerprint) {
        self.count += 1;
        self.digest.add(formula_hash(lsn, fingerprint));
    }
}

impl Formulas {
    /// What counting all stored formulas, those in the snapshot included, would give.
    #[must_use]
    pub fn inventory(&self) -> Inventory {
        Inventory { count: self.count, digest: self.digest }
    }

    /// Where the formula of this identity is.
    #[must_use]
    pub fn find(&self, fingerprint: &Fingerprint) -> Whereabouts {
        let shard = shard(fingerprint);
        let mut found = self.layers.newest_first().map(|l| &l.by_fingerprint[shard]);
        match found.find_map(|shard| shard.get(fingerprint)) {
            Some(&lsn) if !self.is_withdrawn(lsn) => Whereabouts::Stored(lsn),
            _ => Whereabouts::Below,
        }
    }

    /// Where the formula is that this record accepted, if it accepted one.
    #[must_use]
    pub fn holds(&self, lsn: Lsn) -> Whereabouts {
        let is_above = self.layers.newest_first().any(|layer| layer.accepted.contains(lsn));
        if is_above && !self.is_withdrawn(lsn) {
            Whereabouts::Stored(lsn)
        } else {
            Whereabouts::Below
        }
    }

    /// Whether the formula that this record accepted was withdrawn, as far as the layers and the
    /// pins of the base know. `false` for one that the base has forgotten.
    #[must_use]
    pub fn is_withdrawn(&self, lsn: Lsn) -> bool {
        self.pin(lsn).is_some()
    }

    /// The last record above the base that touched the message of the formula accepted at `lsn`;
    /// `lsn` itself if none did.
    #[must_use]
    pub fn trail(&self, lsn: Lsn) -> Lsn {
        let mut touched = self.layers.newest_first().map(|layer| layer.touched.get(&lsn));
        touched.find_map(|by| by.copied()).unwrap_or(lsn)
    }

    /// Stored formulas that were accepted above the base and after `lsn`, in order.
    pub fn after(&self, lsn: Lsn) -> impl Iterator<Item = Lsn> + '_ {
        let accepted = self.layers.oldest_first().flat_map(move |l| l.accepted.after(lsn));
        accepted.filter(|lsn| !self.is_withdrawn(*lsn))
    }

    /// How many formulas are stored, those in the snapshot included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether none is stored.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The stored formulas above the base, in the order of their fingerprints. For the next
    /// snapshot; takes time and memory in proportion to them.
    #[must_use]
    pub fn fingerprints(&self) -> Vec<(Fingerprint, Lsn)> {
        let layers = self.layers.oldest_first();
        let all = layers.flat_map(|layer| layer.by_fingerprint.iter().flatten());
        let stored = all.filter(|(_, lsn)| **lsn > self.base.lsn && !self.is_withdrawn(**lsn));
        let mut sorted: Vec<_> = stored.map(|(fingerprint, lsn)| (*fingerprint, *lsn)).collect();
        sorted.sort_unstable();
        sorted
    }

    /// Stored formulas whose message was touched since the base, each with the last record that
    /// did, in order. For the next snapshot.
    #[must_use]
    pub fn touched(&self) -> BTreeMap<Lsn, Lsn> {
        let layers = self.layers.oldest_first();
        let all = layers.flat_map(|layer| &layer.touched).map(|(lsn, by)| (*lsn, *by));
        all.filter(|(lsn, _)| !self.is_withdrawn(*lsn)).collect()
    }

    /// All withdrawn formulas that the layers and the pins of the base know, in order.
    #[must_use]
    pub fn withdrawn(&self) -> BTreeMap<Lsn, Pin> {
        let layers = self.layers.oldest_first().flat_map(|layer| &layer.withdrawn);
        self.base.pins.iter().chain(layers).map(|(lsn, pin)| (*lsn, *pin)).collect()
    }

    /// The last LSN that is looked up in the snapshot; zero if there is none.
    #[must_use]
    pub fn base(&self) -> Lsn {
        self.base.lsn
    }

    pub(super) fn pin(&self, lsn: Lsn) -> Option<Pin> {
        let mut layers = self.layers.newest_first();
        let above = layers.find_map(|layer| layer.withdrawn.get(&lsn));
        above.or_else(|| self.base.pins.get(&lsn)).copied()
    }

    pub(super) fn accept(&mut self, lsn: Lsn, fingerprint: Fingerprint) {
        assert_eq!(self.find(&fingerprint), Whereabouts::Below, "one make-up is stored once");
        let young = self.layers.young_mut();
        young.by_fingerprint[shard(&fingerprint)].insert(fingerprint, lsn);
        young.accepted.insert(lsn);
        self.count += 1;
        self.digest.add(formula_hash(lsn, &fingerprint));
    }

    pub(super) fn withdraw(&mut self, lsn: Lsn, fingerprint: &Fingerprint, pin: Pin) {
        let is_stored = match self.find(fingerprint) {
            Whereabouts::Stored(stored) => stored == lsn,
            Whereabouts::Below => self.may_be_below(lsn),
        };
        assert!(is_stored, "only a stored formula is withdrawn");
        let young = self.layers.young_mut();
        young.by_fingerprint[shard(fingerprint)].remove(fingerprint);
        young.accepted.remove(lsn);
        young.touched.remove(&lsn);
        young.withdrawn.insert(lsn, pin);
        self.count -= 1;
        self.digest.remove(formula_hash(lsn, fingerprint));
    }

    /// Whether `lsn` may be a stored formula of the snapshot.
    fn may_be_below(&self, lsn: Lsn) -> bool {
        lsn <= self.base.lsn && !self.is_withdrawn(lsn)
    }

    /// Notes that the snapshot has this formula, for replay behind an accepted loss.
    pub(super) fn recall(&mut self, lsn: Lsn, fingerprint: Fingerprint) {
        assert!(lsn <= self.base.lsn, "what is recalled is in the snapshot");
        let is_news = self.find(&fingerprint) == Whereabouts::Below && !self.is_withdrawn(lsn);
        if is_news {
            self.layers.young_mut().by_fingerprint[shard(&fingerprint)].insert(fingerprint, lsn);
        }
    }

    /// Notes that the record `by` touched the message of the formula accepted at `lsn`, if that
    /// is a stored formula and not a withdrawal, which has no trail.
    pub(super) fn touch(&mut self, lsn: Lsn, by: Lsn) {
        let is_formula = self.holds(lsn) != Whereabouts::Below
            || self.may_be_below(lsn) && !self.base.announcements.contains(&MessageId(lsn));
        if is_formula {
            self.layers.young_mut().touched.insert(lsn, by);
        }
    }

    pub(super) fn resume(base: Base) -> Formulas {
        let digest = Digest::from(base.digest);
        Formulas { count: base.count, digest, base, layers: Layers::default() }
    }

    pub(super) fn freeze(&mut self) {
        self.layers.freeze();
    }

    pub(super) fn thaw(&mut self) {
        self.layers.thaw();
    }

    /// The frozen layers are in the snapshot that `base` stands for.
    pub(super) fn rebase(&mut self, base: Base) -> (Base, Vec<FormulaLayer>) {
        (std::mem::replace(&mut self.base, base), self.layers.take_frozen())
    }

    pub(super) fn digest(&self) -> u128 {
        self.digest.value()
    }

    pub(super) fn check_invariants(&self) {
        let mut digest = Digest::from(self.base.digest);
        for layer in self.layers.oldest_first() {
            layer.accepted.check_invariants();
            let indexed = layer.by_fingerprint.iter().flatten();
            let indexed: BTreeSet<Lsn> = indexed.map(|(_, lsn)| *lsn).collect();
            let above: Vec<Lsn> = indexed.into_iter().filter(|l| *l > self.base.lsn).collect();
            let accepted: Vec<Lsn> = layer.accepted.iter().collect();
            assert_eq!(above, accepted, "index and order hold the same formulas");
            assert!(layer.touched.iter().all(|(lsn, by)| by > lsn), "a trail goes forward");
        }
        let stored = self.fingerprints();
        for (fingerprint, lsn) in &stored {
            digest.add(formula_hash(*lsn, fingerprint));
            assert_eq!(self.find(fingerprint), Whereabouts::Stored(*lsn), "one make-up, once");
        }
        assert_eq!(self.after(Lsn::ZERO).count(), stored.len(), "each is found in order too");
        let layers = self.layers.oldest_first().flat_map(|layer| layer.withdrawn.keys());
        let gone = layers.filter(|lsn| **lsn <= self.base.lsn).count();
        assert_eq!(
            self.base.count + stored.len(),
            self.count + gone,
            "the count is that of base and layers"
        );
        // What was withdrawn out of the base has left its fingerprint only in the log.
        if gone == 0 {
            assert_eq!(digest, self.digest, "the digest is the sum over the formulas");
        }
    }
}

fn shard(fingerprint: &Fingerprint) -> usize {
    usize::from(fingerprint.0[0])
}

fn formula_hash(lsn: Lsn, fingerprint: &Fingerprint) -> u128 {
    entry(Tag::Formula, &[lsn.0, word(&fingerprint.0)])
}
