//! The page that SUPER and each segment begin with: what it is, which version, and a checksum.
//!
//! ```text
//!  0 [u8; 8] magic    8 u32 format version    12 u32 crc over all other bytes of the page
//! 16 fields, then zeros to the page's end
//! ```
//! These sixteen bytes stay as they are in every format to come, so that an older program can
//! tell a newer format from damage.

use super::frame::{crc, u32_at};
use crate::limits::SEGMENT_HEADER_BYTES;

/// Bytes of a page.
pub(super) const PAGE_BYTES: usize = SEGMENT_HEADER_BYTES;
/// The newest format that this program reads and writes: that of stores with snapshots.
pub(super) const FORMAT: u32 = 2;
/// The format of a store without snapshots, and of every segment. What it holds has not changed
/// since; so a store can go back to an older program until its first snapshot is installed.
pub(super) const FORMAT_OF_LOG: u32 = 1;
/// Where the fields begin.
const FIELDS: usize = 16;

/// A page of format [`FORMAT`] with these fields.
pub(super) fn encode(magic: &[u8; 8], fields: &[u8]) -> [u8; PAGE_BYTES] {
    encode_as(FORMAT, magic, fields)
}

/// A page of this format with these fields.
pub(super) fn encode_as(format: u32, magic: &[u8; 8], fields: &[u8]) -> [u8; PAGE_BYTES] {
    let mut page = [0; PAGE_BYTES];
    page[..8].copy_from_slice(magic);
    page[8..12].copy_from_slice(&format.to_le_bytes());
    page[FIELDS..FIELDS + fields.len()].copy_from_slice(fields);
    let crc = page_crc(&page);
    page[12..16].copy_from_slice(&crc.to_le_bytes());
    page
}

/// The version and fields of a page. `None`: it is damaged, or another kind of file.
pub(super) fn decode<'a>(magic: &[u8; 8], page: &'a [u8; PAGE_BYTES]) -> Option<(u32, &'a [u8])> {
    let good = page[..8] == *magic && u32_at(page, 12) == page_crc(page);
    good.then(|| (u32_at(page, 8), &page[FIELDS..]))
}

fn page_crc(page: &[u8; PAGE_BYTES]) -> u32 {
    crc(crc(0, &page[..12]), &page[FIELDS..])
}

/// Puts fields one after the other.
#[derive(Default)]
pub(super) struct Writer(Vec<u8>);

impl Writer {
    pub(super) fn put(&mut self, bytes: &[u8]) -> &mut Writer {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(super) fn u64(&mut self, value: u64) -> &mut Writer {
        self.put(&value.to_le_bytes())
    }

    pub(super) fn u32(&mut self, value: u32) -> &mut Writer {
        self.put(&value.to_le_bytes())
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_reads_back_and_every_flipped_bit_is_noticed() {
        let page = encode(b"SILLTEST", b"fields");
        let (version, fields) = decode(b"SILLTEST", &page).expect("good page");
        assert_eq!((version, &fields[..6]), (FORMAT, &b"fields"[..]));
        assert!(decode(b"SILLELSE", &page).is_none());
        for bit in 0..page.len() * 8 {
            let mut bad = page;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(b"SILLTEST", &bad).is_none(), "bit {bit}");
        }
    }
}
