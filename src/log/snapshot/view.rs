//! An open snapshot: what is kept of it in memory, and lookups.

use std::ops::Range;
use std::sync::Arc;

use crate::ids::Lsn;
use crate::limits::SNAPSHOT_BLOCK_BYTES_MAX;
use crate::log::disk::{Access, Disk, DiskFile};
use crate::log::error::ReadError;
use crate::log::frame::{StoreId, u64_at};
use crate::log::page::{self, PAGE_BYTES};
use crate::log::superblock::SnapshotRef;
use crate::log::to_usize;

use super::block::{self, Block};
use super::filter::Filter;
use super::layout::{self, FILTERS, Footer, STATE, SectionPlace, Seed, TABLES};
use super::places::Places;
use super::stream::{EntryStream, RecordStream};
use super::table::{self, BlockPlace, FENCE_BYTES, Shape};
use super::{Looked, Patience, SnapshotFault, SnapshotHead, TableName, snapshot_path};

/// An open snapshot. Cloning it is cheap; its file stays open, and readable even after it was
/// removed from the directory, until the last clone is dropped.
#[derive(Clone)]
pub struct Snapshot {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) file: Arc<dyn DiskFile>,
    head: SnapshotHead,
    pub(super) named: SnapshotRef,
    pub(super) seed: Seed,
    pub(super) footer: Footer,
    pub(super) fences: [Vec<u64>; TABLES],
    pub(super) filters: [Filter; TABLES - 1],
    pub(super) places: Places,
}

impl Snapshot {
    /// Opens the snapshot that SUPER names. Verifies head, footer, fences, filters, the table of
    /// blocks and the state's section; blocks and all other pages are verified whenever they are
    /// read.
    ///
    /// # Errors
    /// [`SnapshotFault`].
    pub fn open(
        disk: &Arc<dyn Disk>,
        named: &SnapshotRef,
        store: StoreId,
    ) -> Result<Snapshot, SnapshotFault> {
        Snapshot::open_at(disk, &snapshot_path(named.lsn), named, store)
    }

    pub(super) fn open_at(
        disk: &Arc<dyn Disk>,
        path: &str,
        named: &SnapshotRef,
        store: StoreId,
    ) -> Result<Snapshot, SnapshotFault> {
        let file = match disk.open(path, Access::Read) {
            Ok(file) => file,
            Err(error) if error.is_not_found() => {
                return Err(SnapshotFault::Missing { file: path.into() });
            }
            Err(error) => return Err(error.into()),
        };
        let head = read_head(&file)?;
        if head.store != store || head.lsn != named.lsn {
            return Err(SnapshotFault::Foreign { file: path.into() });
        }
        let footer = read_footer(&file, &head)?;
        let mut inner = Inner {
            file,
            head,
            named: *named,
            seed: Seed::new(store, head.lsn),
            footer,
            fences: Default::default(),
            filters: Default::default(),
            places: Places::default(),
        };
        inner.load()?;
        let mut snapshot = Snapshot { inner: Arc::new(inner) };
        let places = snapshot.read_places()?;
        Arc::get_mut(&mut snapshot.inner).expect("nobody else has it yet").places = places;
        Ok(snapshot)
    }

    /// Reads the table of blocks.
    fn read_places(&self) -> Result<Places, ReadError> {
        let mut places = Places::default();
        // Bounded by the file: the footer is sound, and every page that it counts has entries.
        let table = &self.inner.footer.tables[0];
        let room = table.pages.saturating_mul(Shape::BLOCKS.entries_per_page() as u64);
        places.reserve(to_usize(table.entries.min(room)));
        let mut entries = EntryStream::new(self.clone(), 0);
        while let Some(entry) = entries.next()? {
            let place = BlockPlace::decode(entry);
            self.inner.block_bytes(&place)?;
            places.push(&place).ok_or_else(|| self.inner.damaged(table.at))?;
        }
        Ok(places)
    }

    /// What it covers.
    #[must_use]
    pub fn head(&self) -> &SnapshotHead {
        &self.inner.head
    }

    /// Bytes of the file.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.inner.footer.at + PAGE_BYTES as u64
    }

    /// Records kept.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.inner.footer.records
    }

    /// Entries of a table.
    #[must_use]
    pub fn entries_in(&self, name: TableName) -> u64 {
        self.inner.footer.tables[name.index() + 1].entries
    }

    /// The state's own section.
    ///
    /// # Errors
    /// [`ReadError::Damaged`] and [`ReadError::Disk`].
    pub fn state(&self) -> Result<Vec<u8>, ReadError> {
        self.inner.section(&self.inner.footer.sections[STATE])
    }

    /// Whether a table may have an entry with this key; `false` is certain. Asks memory only.
    #[must_use]
    pub fn may_hold(&self, name: TableName, key: &[u8; 32]) -> bool {
        self.inner.filters[name.index()].may_hold(key)
    }

    /// The entry of a table with this key, whole. Asks the filter first, then reads one page.
    ///
    /// # Errors
    /// [`ReadError::Damaged`] and [`ReadError::Disk`].
    pub fn find(
        &self,
        name: TableName,
        key: &[u8; 32],
        patience: Patience,
    ) -> Result<Looked<Vec<u8>>, ReadError> {
        if !self.may_hold(name, key) {
            return Ok(Looked::Absent);
        }
        let mut page = [0; PAGE_BYTES];
        Ok(match self.inner.floor(name.index() + 1, key, patience, &mut page)? {
            Looked::Found(entry) if page[entry.clone()].starts_with(key) => {
                Looked::Found(page[entry].to_vec())
            }
            Looked::NotCached => Looked::NotCached,
            Looked::Found(_) | Looked::Absent => Looked::Absent,
        })
    }

    /// Puts the record with this LSN into `out`, in place of what was there. Reads one block.
    ///
    /// # Errors
    /// [`ReadError::Damaged`] and [`ReadError::Disk`].
    pub fn record(
        &self,
        lsn: Lsn,
        patience: Patience,
        out: &mut Vec<u8>,
    ) -> Result<Looked<()>, ReadError> {
        out.clear();
        let places = &self.inner.places;
        let Some(place) = places.floor(lsn).and_then(|index| places.get(index)) else {
            return Ok(Looked::Absent);
        };
        // The packed block is read into `out` too: a caller that uses it again spares memory.
        out.resize(self.inner.block_bytes(&place)?, 0);
        let is_read = self.inner.read(place.at, out, patience)?;
        let mut block = Block::default();
        if is_read {
            self.inner.unpack(&place, out, &mut block)?;
        }
        out.clear();
        if !is_read {
            return Ok(Looked::NotCached);
        }
        let Some(found) = block.find(lsn) else {
            return Ok(Looked::Absent);
        };
        out.extend_from_slice(found);
        Ok(Looked::Found(()))
    }

    /// All records above `after`, by ascending LSN.
    #[must_use]
    pub fn records_after(&self, after: Lsn) -> RecordStream {
        RecordStream::new(self.clone(), after)
    }

    /// All entries of a table, by ascending key.
    #[must_use]
    pub fn entries(&self, name: TableName) -> EntryStream {
        EntryStream::new(self.clone(), name.index() + 1)
    }
}

impl Inner {
    /// Reads what is kept in memory, and checks the rest of the sections.
    fn load(&mut self) -> Result<(), ReadError> {
        for index in 0..TABLES {
            let place = self.footer.sections[index];
            let bytes = self.section(&place)?;
            let (fences, rest) = bytes.as_chunks::<FENCE_BYTES>();
            let fences: Vec<u64> = fences.iter().map(|fence| u64_at(fence, 0)).collect();
            let fits = rest.is_empty() && fences.len() as u64 == self.footer.tables[index].pages;
            if !fits || !fences.is_sorted() {
                return Err(self.damaged(place.at));
            }
            self.fences[index] = fences;
        }
        for index in 0..self.filters.len() {
            let place = self.footer.sections[FILTERS + index];
            let filter = Filter::from_bytes(&self.section(&place)?);
            self.filters[index] = filter.ok_or_else(|| self.damaged(place.at))?;
        }
        self.section(&self.footer.sections[STATE]).map(drop)
    }

    fn section(&self, place: &SectionPlace) -> Result<Vec<u8>, ReadError> {
        let mut bytes = vec![0; to_usize(place.bytes)];
        self.read(place.at, &mut bytes, Patience::Wait)?;
        if self.seed.crc(place.at, &bytes) != place.crc {
            return Err(self.damaged(place.at));
        }
        Ok(bytes)
    }

    /// Reads the page with the last entry of a table whose key is not above `key`, and says
    /// where in it that entry stands.
    fn floor(
        &self,
        table: usize,
        key: &[u8],
        patience: Patience,
        page: &mut [u8; PAGE_BYTES],
    ) -> Result<Looked<Range<usize>>, ReadError> {
        let shape = Shape::ALL[table];
        for index in table::candidates(&self.fences[table], key).rev() {
            let at = self.page_at(table, index);
            if !self.read(at, page, patience)? {
                return Ok(Looked::NotCached);
            }
            let entries = shape.open(self.seed, at, page).ok_or_else(|| self.damaged(at))?;
            if let Some(start) = shape.floor(entries, key) {
                let start = table::PREFIX_BYTES + start;
                return Ok(Looked::Found(start..start + shape.entry_bytes));
            }
        }
        Ok(Looked::Absent)
    }

    pub(super) fn page_at(&self, table: usize, index: usize) -> u64 {
        self.footer.tables[table].at + (index * PAGE_BYTES) as u64
    }

    /// Fills `buf`; `false`: the disk would have to be waited for.
    fn read(&self, at: u64, buf: &mut [u8], patience: Patience) -> Result<bool, ReadError> {
        match patience {
            // What is cached in part is left to those who wait, who also notice a short file.
            Patience::Cached => Ok(self.file.read_at_cached(buf, at)? == Some(buf.len())),
            Patience::Wait if self.file.read_full_at(buf, at)? < buf.len() => Err(self.damaged(at)),
            Patience::Wait => Ok(true),
        }
    }

    /// Bytes of a block, checked before memory is asked for.
    pub(super) fn block_bytes(&self, place: &BlockPlace) -> Result<usize, ReadError> {
        let bytes = to_usize(u64::from(place.bytes));
        let ends = place.at.checked_add(u64::from(place.bytes));
        let fits = ends.is_some_and(|end| end <= self.footer.tables[0].at);
        let bounded = bytes <= block::HEADER_BYTES + SNAPSHOT_BLOCK_BYTES_MAX;
        if fits && bounded { Ok(bytes) } else { Err(self.damaged(place.at)) }
    }

    pub(super) fn unpack(
        &self,
        place: &BlockPlace,
        bytes: &[u8],
        block: &mut Block,
    ) -> Result<(), ReadError> {
        let good = block.unpack(self.seed, place.at, bytes);
        good.filter(|()| block.first() == place.first).ok_or_else(|| self.damaged(place.at))
    }

    pub(super) fn damaged(&self, offset: u64) -> ReadError {
        ReadError::Damaged { file: self.file.path().into(), offset }
    }
}

fn read_page(file: &Arc<dyn DiskFile>, at: u64) -> Result<[u8; PAGE_BYTES], SnapshotFault> {
    let mut page = [0; PAGE_BYTES];
    if file.read_full_at(&mut page, at)? < PAGE_BYTES {
        return Err(SnapshotFault::Damaged { file: file.path().into(), offset: at });
    }
    Ok(page)
}

fn read_head(file: &Arc<dyn DiskFile>) -> Result<SnapshotHead, SnapshotFault> {
    let file_name = || file.path().into();
    match layout::decode_head(&read_page(file, 0)?) {
        None => Err(SnapshotFault::Damaged { file: file_name(), offset: 0 }),
        Some((version, _)) if version > page::FORMAT => {
            Err(SnapshotFault::Newer { file: file_name(), version })
        }
        Some((_, head)) => Ok(head),
    }
}

fn read_footer(file: &Arc<dyn DiskFile>, head: &SnapshotHead) -> Result<Footer, SnapshotFault> {
    let len = file.len()?;
    let at = len.saturating_sub(PAGE_BYTES as u64);
    Footer::decode(&read_page(file, at)?, at)
        .filter(|footer| footer.store == head.store && footer.lsn == head.lsn)
        .ok_or_else(|| SnapshotFault::Damaged { file: file.path().into(), offset: at })
}
