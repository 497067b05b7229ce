//! A set of LSNs in compressed bitmaps.
//!
//! LSNs are dense, and so are the sets that we keep of them: what is ready on a queue, what was
//! accepted. A bitmap holds such a set in about a bit per member, where a tree needs tens of
//! bytes. The bitmaps are of 32 bits; the upper half of an LSN says which one. Ids of messages
//! are LSNs too.

use std::collections::BTreeMap;
use std::io;

use roaring::RoaringBitmap;

use crate::ids::Lsn;

/// LSNs, each at most once, in order.
///
/// Invariants: no part is empty; `len` is the number of members of all parts.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct LsnSet {
    /// Upper half of the LSN → the lower halves.
    parts: BTreeMap<u32, RoaringBitmap>,
    /// Kept, since counting goes through all containers.
    len: usize,
}

impl LsnSet {
    /// Takes `lsn` in; `false` if it was in the set already.
    pub(super) fn insert(&mut self, lsn: Lsn) -> bool {
        let (high, low) = split(lsn);
        let is_new = self.parts.entry(high).or_default().insert(low);
        self.len += usize::from(is_new);
        is_new
    }

    /// Takes `lsn` out; `false` if it was not in the set.
    pub(super) fn remove(&mut self, lsn: Lsn) -> bool {
        let (high, low) = split(lsn);
        let Some(part) = self.parts.get_mut(&high) else { return false };
        let was_there = part.remove(low);
        self.len -= usize::from(was_there);
        if part.is_empty() {
            self.parts.remove(&high);
        }
        was_there
    }

    /// Whether `lsn` is in the set.
    pub(super) fn contains(&self, lsn: Lsn) -> bool {
        let (high, low) = split(lsn);
        self.parts.get(&high).is_some_and(|part| part.contains(low))
    }

    /// How many LSNs there are.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The lowest.
    pub(super) fn first(&self) -> Option<Lsn> {
        let (&high, part) = self.parts.first_key_value()?;
        part.min().map(|low| join(high, low))
    }

    /// The highest.
    pub(super) fn last(&self) -> Option<Lsn> {
        let (&high, part) = self.parts.last_key_value()?;
        part.max().map(|low| join(high, low))
    }

    /// All, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = Lsn> + '_ {
        self.from(Lsn::ZERO)
    }

    /// Those after `lsn`, in order.
    pub(super) fn after(&self, lsn: Lsn) -> impl Iterator<Item = Lsn> + '_ {
        // Nothing comes after the highest; what is then asked for twice is filtered out.
        let next = Lsn(lsn.0.saturating_add(1));
        self.from(next).filter(move |found| *found > lsn)
    }

    /// Takes in all of `other`.
    pub(super) fn extend(&mut self, other: LsnSet) {
        for (high, part) in other.parts {
            *self.parts.entry(high).or_default() |= part;
        }
        let lens = self.parts.values().map(RoaringBitmap::len);
        self.len = lens.map(|len| usize::try_from(len).unwrap_or(usize::MAX)).sum();
    }

    fn from(&self, first: Lsn) -> impl Iterator<Item = Lsn> + '_ {
        let (first_high, first_low) = split(first);
        self.parts.range(first_high..).flat_map(move |(&high, part)| {
            let low = if high == first_high { first_low } else { 0 };
            part.range(low..).map(move |low| join(high, low))
        })
    }

    /// The bitmaps as bytes, in the portable format of Roaring bitmaps, each with the upper half
    /// that its LSNs have in common. Runs are stored as such, so a full range takes a few bytes.
    pub(super) fn to_parts(&self) -> impl Iterator<Item = (u32, Vec<u8>)> + '_ {
        self.parts.iter().map(|(&high, part)| {
            let mut part = part.clone();
            part.optimize();
            let mut bytes = Vec::with_capacity(part.serialized_size());
            part.serialize_into(&mut bytes).expect("writing to memory cannot fail");
            (high, bytes)
        })
    }

    /// How many pairs [`LsnSet::to_parts`] gives.
    pub(super) fn part_count(&self) -> usize {
        self.parts.len()
    }

    /// Adds a part that [`LsnSet::to_parts`] gave.
    ///
    /// # Errors
    /// If the bytes are no bitmap, are too many, or the part is empty or there already.
    pub(super) fn add_part(&mut self, high: u32, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        let mut part = RoaringBitmap::deserialize_from(&mut rest)?;
        // Stored runs are small; in memory a bitmap is what takes single removals well.
        part.remove_run_compression();
        let is_fit = rest.is_empty() && !part.is_empty() && !self.parts.contains_key(&high);
        let len = usize::try_from(part.len()).ok().filter(|_| is_fit);
        self.len += len.ok_or(io::ErrorKind::InvalidData)?;
        self.parts.insert(high, part);
        Ok(())
    }

    pub(super) fn check_invariants(&self) {
        assert_eq!(self.iter().count(), self.len, "the length is the number of members");
        assert!(self.parts.values().all(|part| !part.is_empty()), "no part is empty");
    }
}

#[allow(clippy::cast_possible_truncation, reason = "the two halves are what is asked for")]
fn split(Lsn(lsn): Lsn) -> (u32, u32) {
    ((lsn >> 32) as u32, lsn as u32)
}

fn join(high: u32, low: u32) -> Lsn {
    Lsn(u64::from(high) << 32 | u64::from(low))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn agrees_with_a_tree_around_the_edges_of_parts() {
        let mut random = fastrand::Rng::with_seed(7);
        let (mut set, mut tree) = (LsnSet::default(), BTreeSet::new());
        let edges = [0, 1 << 16, 1 << 32, (1 << 32) + 65_000, u64::MAX - 300];
        for _ in 0..20_000 {
            let lsn = Lsn(edges[random.usize(..edges.len())] + random.u64(..300));
            if random.u8(..3) > 0 {
                assert_eq!(set.insert(lsn), tree.insert(lsn));
            } else {
                assert_eq!(set.remove(lsn), tree.remove(&lsn));
            }
            assert_eq!(set.contains(lsn), tree.contains(&lsn));
            assert_eq!((set.len(), set.first()), (tree.len(), tree.first().copied()));
        }
        set.check_invariants();
        assert_eq!(set.last(), tree.last().copied());
        for after in tree.iter().copied().chain([Lsn(0), Lsn(1 << 20), Lsn(u64::MAX)]) {
            let found: Vec<Lsn> = set.after(after).take(5).collect();
            let above = tree.iter().copied().filter(|lsn| *lsn > after);
            assert_eq!(found, above.take(5).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_full_range_takes_a_few_bytes_and_reads_back_as_bitmaps() {
        let mut set = LsnSet::default();
        (1..=1_000_000).for_each(|lsn| assert!(set.insert(Lsn(lsn))));
        set.remove(Lsn(500_000));
        let parts: Vec<(u32, Vec<u8>)> = set.to_parts().collect();
        assert!(parts.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() < 1000);
        let mut read = LsnSet::default();
        for (high, bytes) in &parts {
            read.add_part(*high, bytes).expect("what was written reads back");
            assert!(read.add_part(*high, bytes).is_err(), "once");
        }
        assert_eq!(read, set);
        read.check_invariants();
    }

    #[test]
    fn bytes_that_are_no_bitmap_are_an_error() {
        let mut set = LsnSet::default();
        for lsn in [3, 4, 5, 70_000, 200_000] {
            set.insert(Lsn(lsn));
        }
        let (high, bytes) = set.to_parts().next().expect("one part");
        for len in 0..bytes.len() {
            assert!(LsnSet::default().add_part(high, &bytes[..len]).is_err(), "cut to {len}");
        }
        let longer = [bytes.as_slice(), &[0]].concat();
        assert!(LsnSet::default().add_part(high, &longer).is_err());
        for at in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[at / 8] ^= 1 << (at % 8);
            let mut read = LsnSet::default();
            if read.add_part(high, &flipped).is_ok() {
                read.check_invariants();
            }
        }
    }
}
