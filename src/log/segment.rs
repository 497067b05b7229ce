//! Segments: the files that frames stand in, one after the other.
//!
//! A segment is named by its first LSN. Its first page says so again, with the store, the reign
//! that created it and the chain at its beginning; frames follow from [`FRAMES_AT`] on. It is
//! filled with zeros to its full size before it is used: overwriting is half as dear to sync as
//! growing. Its last frame is a seal, after which it never changes.
//!
//! A new segment appears in this order: fill a temporary file with zeros, write the page, sync,
//! rename, sync the directory, name it in SUPER, append. So a file of a segment's name always
//! holds a good page, and a segment that SUPER does not know holds no frame.

use std::sync::Arc;

use super::disk::{Access, Disk, DiskError, DiskFile};
use super::frame::{Chain, StoreId, array_at, u32_at, u64_at};
use super::page::{self, PAGE_BYTES};
use crate::ids::{Epoch, Lsn};

/// The directory of the segments.
pub(super) const DIR: &str = "log";
/// The segment to come, while it has no LSN.
pub(super) const SPARE: &str = "log/next.tmp";
/// Where a segment's frames begin.
pub(super) const FRAMES_AT: u64 = PAGE_BYTES as u64;

const MAGIC: &[u8; 8] = b"SILLSEG\n";

/// The path of the segment that begins with `first`.
pub(super) fn path(first: Lsn) -> String {
    format!("{DIR}/{first:020}.seg", first = first.0)
}

/// The first LSN of the segment with this file name. `None`: not a segment's name.
pub(super) fn parse_name(name: &str) -> Option<Lsn> {
    let digits = name.strip_suffix(".seg")?;
    let plain = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    let first = if plain { digits.parse().ok()? } else { 0 };
    (first > 0).then_some(Lsn(first))
}

/// What a segment's first page says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) store: StoreId,
    pub(super) first: Lsn,
    /// The reign that created the segment.
    pub(super) epoch: Epoch,
    /// The chain of the frame before the first.
    pub(super) chain: Chain,
}

impl SegmentHeader {
    pub(super) fn encode(&self) -> [u8; PAGE_BYTES] {
        let mut fields = page::Writer::default();
        fields.put(&self.store.0).u64(self.first.0).put(&self.chain.0).u32(self.epoch.0);
        page::encode_as(page::FORMAT_OF_LOG, MAGIC, fields.bytes())
    }

    /// The header and the version of its format. `None`: it is damaged.
    pub(super) fn decode(page: &[u8; PAGE_BYTES]) -> Option<(u32, SegmentHeader)> {
        let (version, fields) = page::decode(MAGIC, page)?;
        let header = SegmentHeader {
            store: StoreId(array_at(fields, 0)),
            first: Lsn(u64_at(fields, 16)),
            chain: Chain(array_at(fields, 24)),
            epoch: Epoch(u32_at(fields, 56)),
        };
        Some((version, header))
    }
}

/// Turns the synced, zero-filled [`SPARE`] into a segment, durably.
pub(super) fn install(
    disk: &dyn Disk,
    spare: &dyn DiskFile,
    header: &SegmentHeader,
) -> Result<Arc<dyn DiskFile>, DiskError> {
    spare.write_all_at(&header.encode(), 0)?;
    // The page before the name: a file of a segment's name must hold a good page.
    spare.sync_data()?;
    let path = path(header.first);
    disk.rename(SPARE, &path)?;
    disk.sync_dir(DIR)?;
    disk.open(&path, Access::Write)
}

/// What a seal says of its segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SealPayload {
    /// LSNs of the segment before the seal.
    pub(super) count: u64,
    /// The chain of the frame before the seal; SHA-256, so it stands for the whole segment.
    pub(super) chain: Chain,
}

impl SealPayload {
    pub(super) const BYTES: usize = 40;

    pub(super) fn encode(&self) -> [u8; SealPayload::BYTES] {
        let mut bytes = [0; SealPayload::BYTES];
        bytes[..8].copy_from_slice(&self.count.to_le_bytes());
        bytes[8..].copy_from_slice(&self.chain.0);
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<SealPayload> {
        let bytes: &[u8; SealPayload::BYTES] = bytes.try_into().ok()?;
        Some(SealPayload { count: u64_at(bytes, 0), chain: Chain(array_at(bytes, 8)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_by_lsn_and_only_their_own_spelling_parses() {
        assert_eq!(path(Lsn(42)), "log/00000000000000000042.seg");
        assert_eq!(parse_name("00000000000000000042.seg"), Some(Lsn(42)));
        let wrong = ["42.seg", "+0000000000000000042.seg", "00000000000000000042.seg~", "x.seg"];
        for name in wrong.into_iter().chain(["00000000000000000000.seg", "next.tmp"]) {
            assert_eq!(parse_name(name), None, "{name}");
        }
        assert_eq!(parse_name("99999999999999999999.seg"), None, "more than u64");
    }

    #[test]
    fn header_and_seal_read_back() {
        let chain = Chain([9; 32]);
        let header =
            SegmentHeader { store: StoreId([1; 16]), first: Lsn(5), epoch: Epoch(2), chain };
        assert_eq!(SegmentHeader::decode(&header.encode()), Some((page::FORMAT_OF_LOG, header)));
        let seal = SealPayload { count: 12, chain };
        assert_eq!(SealPayload::decode(&seal.encode()), Some(seal));
        assert_eq!(SealPayload::decode(&[0; 39]), None);
    }
}
