//! Where the blocks stand, kept in memory: sixteen bytes a block, a byte or two a record.
//!
//! Whoever reads a record needs this of any block at any time, and what is read from the disk
//! instead costs a page of the file, its checksum, and at worst a wait. Blocks follow each other
//! without gaps, so where one ends is where the next begins.

use crate::ids::Lsn;
use crate::log::page::PAGE_BYTES;

use super::table::BlockPlace;

/// The places of all blocks, by ascending LSN.
///
/// Invariants: both lists are of one length and ascend; the first block begins after the head
/// page, every other where the one before it ends, and the last one ends at `end`.
#[derive(Debug)]
pub(super) struct Places {
    /// The first LSN of each block.
    firsts: Vec<Lsn>,
    /// The offset of each block in the file, in bytes.
    starts: Vec<u64>,
    end: u64,
}

impl Default for Places {
    fn default() -> Places {
        Places { firsts: Vec::new(), starts: Vec::new(), end: PAGE_BYTES as u64 }
    }
}

impl Places {
    /// Makes room for so many blocks and no more.
    pub(super) fn reserve(&mut self, blocks: usize) {
        self.firsts.reserve_exact(blocks);
        self.starts.reserve_exact(blocks);
    }

    /// Adds the next block. `None`: it does not go on where the one before it ends.
    pub(super) fn push(&mut self, place: &BlockPlace) -> Option<()> {
        let ascends = self.firsts.last().is_none_or(|last| *last < place.first);
        let end = place.at.checked_add(u64::from(place.bytes))?;
        if !ascends || place.at != self.end || place.bytes == 0 {
            return None;
        }
        self.firsts.push(place.first);
        self.starts.push(place.at);
        self.end = end;
        Some(())
    }

    /// The index of the block that holds `lsn`, or would. `None`: it is before all.
    pub(super) fn floor(&self, lsn: Lsn) -> Option<usize> {
        self.firsts.partition_point(|first| *first <= lsn).checked_sub(1)
    }

    /// The block of this index; `None` after the last.
    pub(super) fn get(&self, index: usize) -> Option<BlockPlace> {
        let (first, at) = (*self.firsts.get(index)?, *self.starts.get(index)?);
        let end = self.starts.get(index + 1).copied().unwrap_or(self.end);
        let bytes = u32::try_from(end - at).expect("it was put together from a u32");
        Some(BlockPlace { first, at, bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: u64 = PAGE_BYTES as u64;

    fn place(first: u64, at: u64, bytes: u32) -> BlockPlace {
        BlockPlace { first: Lsn(first), at, bytes }
    }

    #[test]
    fn blocks_are_found_by_any_lsn_that_they_may_hold() {
        let mut places = Places::default();
        assert_eq!((places.floor(Lsn(7)), places.get(0)), (None, None));
        let blocks = [place(5, HEAD, 10), place(9, HEAD + 10, 1), place(100, HEAD + 11, 40)];
        blocks.iter().for_each(|block| places.push(block).expect("it follows"));
        for (lsn, index) in [(4, None), (5, Some(0)), (8, Some(0)), (9, Some(1)), (99, Some(1))] {
            assert_eq!(places.floor(Lsn(lsn)), index, "{lsn}");
        }
        assert_eq!(places.floor(Lsn(u64::MAX)), Some(2));
        assert_eq!([0, 1, 2, 3].map(|index| places.get(index)), {
            let [first, second, third] = blocks.map(Some);
            [first, second, third, None]
        });
    }

    #[test]
    fn gap_overlap_and_wrong_order_are_refused_and_change_nothing() {
        let mut places = Places::default();
        places.push(&place(5, HEAD, 10)).expect("it follows");
        let bad = [
            place(5, HEAD + 10, 1),
            place(4, HEAD + 10, 1),
            place(6, HEAD + 9, 1),
            place(6, HEAD + 11, 1),
            place(6, HEAD + 10, 0),
            place(6, u64::MAX, u32::MAX),
        ];
        for block in bad {
            assert_eq!(places.push(&block), None, "{block:?}");
        }
        places.push(&place(6, HEAD + 10, 1)).expect("it follows");
        assert!(Places::default().push(&place(5, HEAD - 1, 10)).is_none());
    }
}
