//! A blocked Bloom filter: says of most absent keys that they are absent, from memory alone.
//!
//! Keys are SHA-256, hence uniform, and their own bytes serve as the hash: bytes 8..16 choose a
//! line of 512 bits, so that a question touches one cache line; bytes 16..32 choose
//! [`FILTER_PROBES`] bits in it. Bytes 0..8 are left to the fences.

use crate::limits::{FILTER_BITS_PER_ENTRY, FILTER_PROBES};

/// Words of a line.
const LINE_WORDS: usize = 8;
/// Bits of a probe: enough for a bit of a line.
const PROBE_BITS: usize = 9;

/// Bits, in lines of eight words.
#[derive(Debug, Default)]
pub(super) struct Filter(Vec<[u64; LINE_WORDS]>);

impl Filter {
    /// An empty filter that is at its best with up to `entries_max` keys.
    pub(super) fn with_room(entries_max: u64) -> Filter {
        let bits = entries_max.saturating_mul(FILTER_BITS_PER_ENTRY);
        let lines = bits.div_ceil(u64::from(u64::BITS) * LINE_WORDS as u64);
        Filter(vec![[0; LINE_WORDS]; crate::log::to_usize(lines.max(1))])
    }

    pub(super) fn insert(&mut self, key: &[u8; 32]) {
        let line = self.line(key);
        for bit in probes(key) {
            self.0[line][bit / 64] |= 1 << (bit % 64);
        }
    }

    /// Whether the key may have been inserted; `false` is certain.
    pub(super) fn may_hold(&self, key: &[u8; 32]) -> bool {
        let line = &self.0[self.line(key)];
        probes(key).all(|bit| line[bit / 64] & (1 << (bit % 64)) != 0)
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        self.0.iter().flatten().flat_map(|word| word.to_le_bytes()).collect()
    }

    /// `None`: no whole number of lines, or none at all.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Filter> {
        let (words, rest) = bytes.as_chunks::<8>();
        let words: Vec<u64> = words.iter().map(|word| u64::from_le_bytes(*word)).collect();
        let (lines, over) = words.as_chunks::<LINE_WORDS>();
        let whole = rest.is_empty() && over.is_empty() && !lines.is_empty();
        whole.then(|| Filter(lines.to_vec()))
    }

    fn line(&self, key: &[u8; 32]) -> usize {
        let hash = u128::from(crate::log::frame::u64_at(key, 8));
        let line = (hash * self.0.len() as u128) >> u64::BITS;
        usize::try_from(line).expect("a line's index is below their number")
    }
}

/// The bits of a line that stand for a key.
fn probes(key: &[u8; 32]) -> impl Iterator<Item = usize> {
    let bits = u128::from_le_bytes(crate::log::frame::array_at(key, 16));
    let mask = (1 << PROBE_BITS) - 1;
    (0..FILTER_PROBES).map(move |probe| {
        usize::try_from((bits >> (probe * PROBE_BITS)) & mask).expect("a probe has nine bits")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(rng: &mut fastrand::Rng) -> [u8; 32] {
        std::array::from_fn(|_| rng.u8(..))
    }

    #[test]
    fn inserted_keys_are_held_and_few_others_seem_to_be() {
        let mut rng = fastrand::Rng::with_seed(7);
        let keys: Vec<_> = (0..100_000).map(|_| key(&mut rng)).collect();
        let mut filter = Filter::with_room(keys.len() as u64);
        keys.iter().for_each(|key| filter.insert(key));
        let filter = Filter::from_bytes(&filter.to_bytes()).expect("whole lines");
        assert!(keys.iter().all(|key| filter.may_hold(key)));
        let wrong = (0..100_000).filter(|_| filter.may_hold(&key(&mut rng))).count();
        println!("{wrong} of 100000 absent keys pass");
        assert!(wrong < 1_500, "{wrong} of 100000 absent keys pass, expected below 1.5 %");
    }

    #[test]
    fn bytes_of_another_length_are_no_filter() {
        for bytes in [0, 1, 63, 65, 72] {
            assert!(Filter::from_bytes(&vec![0; bytes]).is_none(), "{bytes} bytes");
        }
    }
}
