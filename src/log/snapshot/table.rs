//! Tables: entries of one width, ascending by key, in pages.
//!
//! ```text
//! 0 u32 crc over the rest of the page    4 u32 entries    8 entries, then zeros
//! ```
//! The first eight bytes of each page's first key are its *fence*, kept in memory: as all keys
//! of a table ascend, the fences tell which page to read. Only where several pages share a fence
//! with the key, which keys of SHA-256 never do by chance, more than one is read.
//!
//! The table of blocks has entries of 20 bytes: `u64` first LSN, big endian so that it sorts as
//! bytes; `u64` offset; `u32` bytes of the block.

use std::ops::Range;

use crate::ids::Lsn;
use crate::log::frame::{array_at, u32_at, u64_at};
use crate::log::page::PAGE_BYTES;
use crate::log::to_usize;

use super::TableName;
use super::layout::Seed;

/// Bytes in front of a page's entries.
pub(super) const PREFIX_BYTES: usize = 8;
/// Bytes of a fence.
pub(super) const FENCE_BYTES: usize = 8;

/// The form of a table's entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) entry_bytes: usize,
    pub(super) key_bytes: usize,
}

impl Shape {
    /// The shapes of all tables: blocks, formulas, keys.
    pub(super) const ALL: [Shape; 3] =
        [Shape::BLOCKS, Shape::of(TableName::Formulas), Shape::of(TableName::Keys)];
    pub(super) const BLOCKS: Shape = Shape { entry_bytes: 20, key_bytes: 8 };

    pub(super) const fn of(name: TableName) -> Shape {
        Shape { entry_bytes: name.entry_bytes(), key_bytes: TableName::KEY_BYTES }
    }

    pub(super) const fn entries_per_page(self) -> usize {
        (PAGE_BYTES - PREFIX_BYTES) / self.entry_bytes
    }

    /// The entries of the page that stands at `offset`. `None`: it is damaged.
    pub(super) fn open(self, seed: Seed, offset: u64, page: &[u8]) -> Option<&[u8]> {
        let entries = to_usize(u64::from(u32_at(page, 4)));
        let good = u32_at(page, 0) == seed.crc(offset, &page[4..]);
        let fits = (1..=self.entries_per_page()).contains(&entries);
        (good && fits).then(|| &page[PREFIX_BYTES..PREFIX_BYTES + entries * self.entry_bytes])
    }

    /// Where the last of these entries whose key is not above `key` begins.
    pub(super) fn floor(self, entries: &[u8], key: &[u8]) -> Option<usize> {
        let (mut low, mut high) = (0, entries.len() / self.entry_bytes);
        while low < high {
            let middle = low.midpoint(high);
            if entries[middle * self.entry_bytes..][..self.key_bytes] <= *key {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low.checked_sub(1).map(|index| index * self.entry_bytes)
    }

    pub(super) fn key(self, entry: &[u8]) -> &[u8] {
        &entry[..self.key_bytes]
    }
}

/// A key's fence.
pub(super) fn fence(key: &[u8]) -> u64 {
    u64::from_be_bytes(array_at(key, 0))
}

/// The pages that may hold the last key not above `key`, given all pages' fences: nearly always
/// one. To be tried from the last to the first.
pub(super) fn candidates(fences: &[u64], key: &[u8]) -> Range<usize> {
    let fence = fence(key);
    let end = fences.partition_point(|&it| it <= fence);
    let below = fences.partition_point(|&it| it < fence);
    below.saturating_sub(1)..end
}

/// Fills pages one after the other.
#[derive(Debug)]
pub(super) struct PageBuilder {
    shape: Shape,
    entries: Vec<u8>,
    last: Vec<u8>,
    pub(super) fences: Vec<u64>,
    pub(super) count: u64,
}

impl PageBuilder {
    pub(super) fn new(shape: Shape) -> PageBuilder {
        let (entries, last, fences) = (Vec::new(), Vec::new(), Vec::new());
        PageBuilder { shape, entries, last, fences, count: 0 }
    }

    pub(super) fn is_full(&self) -> bool {
        self.entries.len() == self.shape.entries_per_page() * self.shape.entry_bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn push(&mut self, entry: &[u8]) {
        let key = self.shape.key(entry);
        assert_eq!(entry.len(), self.shape.entry_bytes, "an entry has its table's width");
        assert!(self.count == 0 || *self.last < *key, "a table's keys ascend");
        if self.is_empty() {
            self.fences.push(fence(key));
        }
        self.last.clear();
        self.last.extend_from_slice(key);
        self.entries.extend_from_slice(entry);
        self.count += 1;
    }

    /// The page that will stand at `offset`. Then the builder begins the next one.
    pub(super) fn finish(&mut self, seed: Seed, offset: u64) -> [u8; PAGE_BYTES] {
        let mut page = [0; PAGE_BYTES];
        let count = u32::try_from(self.entries.len() / self.shape.entry_bytes)
            .expect("a page has few entries");
        page[4..8].copy_from_slice(&count.to_le_bytes());
        page[PREFIX_BYTES..PREFIX_BYTES + self.entries.len()].copy_from_slice(&self.entries);
        let crc = seed.crc(offset, &page[4..]);
        page[..4].copy_from_slice(&crc.to_le_bytes());
        self.entries.clear();
        page
    }
}

/// Where a block stands, as the table of blocks says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BlockPlace {
    pub(super) first: Lsn,
    pub(super) at: u64,
    pub(super) bytes: u32,
}

impl BlockPlace {
    pub(super) fn encode(&self) -> [u8; Shape::BLOCKS.entry_bytes] {
        let mut entry = [0; Shape::BLOCKS.entry_bytes];
        entry[..8].copy_from_slice(&self.first.0.to_be_bytes());
        entry[8..16].copy_from_slice(&self.at.to_le_bytes());
        entry[16..].copy_from_slice(&self.bytes.to_le_bytes());
        entry
    }

    pub(super) fn decode(entry: &[u8]) -> BlockPlace {
        let first = Lsn(u64::from_be_bytes(array_at(entry, 0)));
        BlockPlace { first, at: u64_at(entry, 8), bytes: u32_at(entry, 16) }
    }
}
