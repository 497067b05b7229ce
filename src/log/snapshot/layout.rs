//! The two pages that a snapshot begins and ends with, and the seed of its checksums.
//!
//! ```text
//! head     [u8; 16] store   u64 lsn   [u8; 32] chain   u32 epoch
//! footer   [u8; 16] store   u64 lsn   u64 at   u64 records
//!          3 × table: u64 at   u64 pages   u64 entries       blocks, formulas, keys
//!          6 × section: u64 at   u64 bytes   u32 crc         fences of blocks, formulas, keys;
//!                                                            filters of formulas, keys; state
//! ```
//! Both are pages as `page` has them. `at` of the footer is its own offset in the file, which
//! makes the length of the file known: it ends one page behind it.

use crate::ids::{Epoch, Lsn};
use crate::log::frame::{Chain, StoreId, array_at, crc, u32_at, u64_at};
use crate::log::page::{self, PAGE_BYTES};

use super::SnapshotHead;

const HEAD_MAGIC: &[u8; 8] = b"SILLSNP\n";
const FOOT_MAGIC: &[u8; 8] = b"SILLSNF\n";
/// Tables of a snapshot: blocks, formulas, keys.
pub(super) const TABLES: usize = 3;
/// Sections of a snapshot.
pub(super) const SECTIONS: usize = 6;
/// The filters' first section.
pub(super) const FILTERS: usize = TABLES;
/// The state's section.
pub(super) const STATE: usize = SECTIONS - 1;
const TABLE_BYTES: usize = 24;
const SECTION_BYTES: usize = 20;
const TABLES_AT: usize = 40;
const SECTIONS_AT: usize = TABLES_AT + TABLES * TABLE_BYTES;

/// What the checksums of one snapshot have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seed(u32);

impl Seed {
    pub(super) fn new(store: StoreId, lsn: Lsn) -> Seed {
        Seed(crc(crc(0, &store.0), &lsn.0.to_le_bytes()))
    }

    /// The checksum of `bytes` that stand at `offset` of the file.
    pub(super) fn crc(self, offset: u64, bytes: &[u8]) -> u32 {
        crc(crc(self.0, &offset.to_le_bytes()), bytes)
    }
}

pub(super) fn encode_head(head: &SnapshotHead) -> [u8; PAGE_BYTES] {
    let mut fields = page::Writer::default();
    fields.put(&head.store.0).u64(head.lsn.0).put(&head.chain.0).u32(head.epoch.0);
    page::encode(HEAD_MAGIC, fields.bytes())
}

/// The head and the version of its format. `None`: it is damaged.
pub(super) fn decode_head(page: &[u8; PAGE_BYTES]) -> Option<(u32, SnapshotHead)> {
    let (version, fields) = page::decode(HEAD_MAGIC, page)?;
    let head = SnapshotHead {
        store: StoreId(array_at(fields, 0)),
        lsn: Lsn(u64_at(fields, 16)),
        chain: Chain(array_at(fields, 24)),
        epoch: Epoch(u32_at(fields, 56)),
    };
    Some((version, head))
}

/// Where a table's pages stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct TablePlace {
    pub(super) at: u64,
    pub(super) pages: u64,
    pub(super) entries: u64,
}

/// Where a section stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SectionPlace {
    pub(super) at: u64,
    pub(super) bytes: u64,
    pub(super) crc: u32,
}

/// What the last page says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Footer {
    pub(super) store: StoreId,
    pub(super) lsn: Lsn,
    /// The footer's own offset.
    pub(super) at: u64,
    pub(super) records: u64,
    pub(super) tables: [TablePlace; TABLES],
    pub(super) sections: [SectionPlace; SECTIONS],
}

impl Footer {
    pub(super) fn encode(&self) -> [u8; PAGE_BYTES] {
        let mut fields = page::Writer::default();
        fields.put(&self.store.0).u64(self.lsn.0).u64(self.at).u64(self.records);
        for table in &self.tables {
            fields.u64(table.at).u64(table.pages).u64(table.entries);
        }
        for section in &self.sections {
            fields.u64(section.at).u64(section.bytes).u32(section.crc);
        }
        page::encode(FOOT_MAGIC, fields.bytes())
    }

    /// The footer that stands at `at`. `None`: it is damaged, or made for another place.
    pub(super) fn decode(page: &[u8; PAGE_BYTES], at: u64) -> Option<Footer> {
        let (_, fields) = page::decode(FOOT_MAGIC, page)?;
        let table = |index: usize| {
            let field = TABLES_AT + index * TABLE_BYTES;
            let [at, pages, entries] = [0, 8, 16].map(|byte| u64_at(fields, field + byte));
            TablePlace { at, pages, entries }
        };
        let section = |index: usize| {
            let field = SECTIONS_AT + index * SECTION_BYTES;
            let [at, bytes] = [0, 8].map(|byte| u64_at(fields, field + byte));
            SectionPlace { at, bytes, crc: u32_at(fields, field + 16) }
        };
        let footer = Footer {
            store: StoreId(array_at(fields, 0)),
            lsn: Lsn(u64_at(fields, 16)),
            at: u64_at(fields, 24),
            records: u64_at(fields, 32),
            tables: std::array::from_fn(table),
            sections: std::array::from_fn(section),
        };
        footer.is_sound(at).then_some(footer)
    }

    /// Whether all that it names lies before it, so that no length from it can ask for more
    /// memory than the file has bytes.
    fn is_sound(&self, at: u64) -> bool {
        let page = PAGE_BYTES as u64;
        let ends_within = |from: u64, bytes: Option<u64>| {
            let end = bytes.and_then(|bytes| from.checked_add(bytes));
            from >= page && end.is_some_and(|end| end <= at)
        };
        let tables = self.tables.iter().all(|it| ends_within(it.at, it.pages.checked_mul(page)));
        let sections = self.sections.iter().all(|it| ends_within(it.at, Some(it.bytes)));
        self.at == at && tables && sections
    }
}
