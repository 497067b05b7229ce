//! A running digest of the state: a sum of one number per entry.
//!
//! Two replayers that hold the same entries have the same sum, in whatever order the entries
//! came and went. Adding and removing an entry cost the same few nanoseconds however large the
//! state is. It notices divergence by mistake; it is no defence against malice.

use bincode::{Decode, Encode};

/// Sum of the hashes of all entries, modulo 2^128.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub(super) struct Digest(u128);

impl From<u128> for Digest {
    /// Goes on from a sum that was carried over.
    fn from(sum: u128) -> Self {
        Digest(sum)
    }
}

impl Digest {
    /// An entry came into being.
    pub(super) fn add(&mut self, entry: u128) {
        self.0 = self.0.wrapping_add(entry);
    }

    /// An entry ceased to be.
    pub(super) fn remove(&mut self, entry: u128) {
        self.0 = self.0.wrapping_sub(entry);
    }

    /// The sum so far.
    pub(super) fn value(self) -> u128 {
        self.0
    }
}

/// What kind of entry a hash stands for, so that equal numbers of two kinds differ.
#[derive(Clone, Copy)]
pub(super) enum Tag {
    Formula = 1,
    Key = 2,
    Ready = 3,
    Leased = 4,
    Delayed = 5,
    Dead = 6,
    Queue = 7,
    Clock = 8,
    Call = 9,
    CallEnd = 10,
    Pace = 11,
    SealRequest = 12,
    Hook = 13,
    Delivered = 14,
    OwnSecret = 15,
    Transaction = 16,
    Group = 17,
}

/// Hash of one entry: multiply and fold per word, as in wyhash.
pub(super) fn entry(tag: Tag, words: &[u64]) -> u128 {
    let mut hash = 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835_u128 ^ tag as u128;
    for &word in words {
        hash = (hash ^ u128::from(word)).wrapping_mul(0x2360_ed05_1fc6_5da4_4385_df64_9fcc_f645);
        hash ^= hash >> 67;
    }
    hash
}

/// The first eight bytes of a hash, as a word for [`entry`].
pub(super) fn word(bytes: &[u8; 32]) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *bytes;
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

/// Bytes as one word for [`entry`], FNV-1a.
pub(super) fn fold(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_plays_no_part_and_removal_undoes() {
        let entries: Vec<u128> = (0..100).map(|n| entry(Tag::Ready, &[n, n * n])).collect();
        let (mut forward, mut backward) = (Digest::default(), Digest::default());
        entries.iter().for_each(|&e| forward.add(e));
        entries.iter().rev().for_each(|&e| backward.add(e));
        assert_eq!(forward, backward);
        entries.iter().for_each(|&e| forward.remove(e));
        assert_eq!(forward, Digest::default());
    }

    #[test]
    fn every_word_and_the_tag_count() {
        let base = entry(Tag::Leased, &[1, 2, 3]);
        assert_ne!(base, entry(Tag::Ready, &[1, 2, 3]));
        assert_ne!(base, entry(Tag::Leased, &[1, 2, 4]));
        assert_ne!(base, entry(Tag::Leased, &[2, 1, 3]));
        assert_ne!(base, entry(Tag::Leased, &[1, 2]));
    }
}
