//! Blocks: some records in LSN order, compressed together.
//!
//! ```text
//!  0 u32 crc over all that follows     4 u32 stored_len      8 u32 raw_len
//! 12 u32 records                      16 u64 first LSN      24 stored bytes
//! raw bytes, per record:  u32 LSN minus the block's first   u32 len   bytes
//! ```
//! The stored bytes are the raw ones in lz4's block format; when that would be no shorter, they
//! are the raw ones as they are, and `stored_len` equals `raw_len`.

use crate::ids::Lsn;
use crate::limits::{SNAPSHOT_BLOCK_BYTES, SNAPSHOT_BLOCK_BYTES_MAX};
use crate::log::frame::{u32_at, u64_at};
use crate::log::to_usize;

use super::layout::Seed;

/// Bytes of a block's header.
pub(super) const HEADER_BYTES: usize = 24;
/// Bytes in front of each record.
const PREFIX_BYTES: usize = 8;

/// Gathers the records of one block.
#[derive(Debug, Default)]
pub(super) struct BlockBuilder {
    first: Lsn,
    records: u32,
    raw: Vec<u8>,
    packed: Vec<u8>,
}

impl BlockBuilder {
    pub(super) fn is_empty(&self) -> bool {
        self.records == 0
    }

    pub(super) fn first(&self) -> Lsn {
        self.first
    }

    /// Whether a record still belongs into this block. The first always does.
    pub(super) fn has_room(&self, lsn: Lsn, bytes: &[u8]) -> bool {
        let near = u32::try_from(lsn.0 - self.first.0).is_ok();
        let short = self.raw.len() + PREFIX_BYTES + bytes.len() <= SNAPSHOT_BLOCK_BYTES;
        self.is_empty() || near && short
    }

    pub(super) fn push(&mut self, lsn: Lsn, bytes: &[u8]) {
        if self.is_empty() {
            self.first = lsn;
        }
        let delta = u32::try_from(lsn.0 - self.first.0).expect("a far record opens a new block");
        let len = u32::try_from(bytes.len()).expect("a record's limit fits u32");
        self.raw.extend_from_slice(&delta.to_le_bytes());
        self.raw.extend_from_slice(&len.to_le_bytes());
        self.raw.extend_from_slice(bytes);
        self.records += 1;
    }

    /// Appends the block, which will stand at `offset`, to `out`; returns its bytes. Then the
    /// builder is empty again.
    pub(super) fn finish(&mut self, seed: Seed, offset: u64, out: &mut Vec<u8>) -> u32 {
        self.packed.resize(lz4_flex::block::get_maximum_output_size(self.raw.len()), 0);
        let packed_len = lz4_flex::block::compress_into(&self.raw, &mut self.packed)
            .expect("the buffer has the largest size that lz4 asks for");
        let is_shorter = packed_len < self.raw.len();
        let stored = if is_shorter { &self.packed[..packed_len] } else { &self.raw[..] };
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        for len in [stored.len(), self.raw.len()] {
            let len = u32::try_from(len).expect("a block's limit fits u32");
            out.extend_from_slice(&len.to_le_bytes());
        }
        out.extend_from_slice(&self.records.to_le_bytes());
        out.extend_from_slice(&self.first.0.to_le_bytes());
        out.extend_from_slice(stored);
        let crc = seed.crc(offset, &out[start + 4..]);
        out[start..start + 4].copy_from_slice(&crc.to_le_bytes());
        self.raw.clear();
        self.records = 0;
        u32::try_from(out.len() - start).expect("a block's limit fits u32")
    }
}

/// A block that has been verified and unpacked.
#[derive(Debug, Default)]
pub(super) struct Block {
    first: Lsn,
    raw: Vec<u8>,
}

impl Block {
    /// Unpacks the block that stands at `offset`. `None`: it is damaged.
    pub(super) fn unpack(&mut self, seed: Seed, offset: u64, bytes: &[u8]) -> Option<()> {
        let (header, stored) = bytes.split_first_chunk::<HEADER_BYTES>()?;
        if u32_at(header, 0) != seed.crc(offset, &bytes[4..]) {
            return None;
        }
        let [stored_len, raw_len] = [4, 8].map(|at| to_usize(u64::from(u32_at(header, at))));
        if stored_len != stored.len() || raw_len > SNAPSHOT_BLOCK_BYTES_MAX {
            return None;
        }
        self.first = Lsn(u64_at(header, 16));
        if stored_len == raw_len {
            self.raw.clear();
            self.raw.extend_from_slice(stored);
        } else {
            self.raw.resize(raw_len, 0);
            let unpacked = lz4_flex::block::decompress_into(stored, &mut self.raw).ok()?;
            if unpacked != raw_len {
                return None;
            }
        }
        self.is_ordered(u32_at(header, 12)).then_some(())
    }

    /// The LSN of its first record.
    pub(super) fn first(&self) -> Lsn {
        self.first
    }

    /// The record with this LSN.
    pub(super) fn find(&self, lsn: Lsn) -> Option<&[u8]> {
        let mut at = 0;
        while let Some((found, bytes)) = self.record_at(&mut at) {
            if found >= lsn {
                return (found == lsn).then_some(bytes);
            }
        }
        None
    }

    /// The record that begins at `at`, which then moves behind it. `None`: the block ends there.
    pub(super) fn record_at(&self, at: &mut usize) -> Option<(Lsn, &[u8])> {
        let (prefix, rest) = self.raw.get(*at..)?.split_first_chunk::<PREFIX_BYTES>()?;
        let len = to_usize(u64::from(u32_at(prefix, 4)));
        let bytes = rest.get(..len)?;
        *at += PREFIX_BYTES + len;
        Some((Lsn(self.first.0.checked_add(u64::from(u32_at(prefix, 0)))?), bytes))
    }

    /// Whether it is filled by `records` records with ascending LSNs, the first its own.
    fn is_ordered(&self, records: u32) -> bool {
        let (mut at, mut count, mut last) = (0, 0, None);
        while let Some((lsn, _)) = self.record_at(&mut at) {
            let follows = last.map_or(lsn == self.first, |last| lsn > last);
            if !follows {
                return false;
            }
            (count, last) = (count + 1, Some(lsn));
        }
        at == self.raw.len() && count == records && records > 0
    }
}
