//! Writes a snapshot from beginning to end, in pieces, and lets it go only when it reads back.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use sha2::{Digest, Sha256};

use crate::ids::Lsn;
use crate::limits::{SNAPSHOT_CHUNK_BYTES, SNAPSHOT_RECORD_BYTES_MAX};
use crate::log::disk::{Disk, DiskError, DiskFile};
use crate::log::page::PAGE_BYTES;
use crate::log::superblock::SnapshotRef;

use super::block::BlockBuilder;
use super::filter::Filter;
use super::layout::{
    self, FILTERS, Footer, SECTIONS, STATE, SectionPlace, Seed, TABLES, TablePlace,
};
use super::table::{BlockPlace, PageBuilder, Shape};
use super::view::Snapshot;
use super::{SNAPSHOTS, SnapshotError, SnapshotHead, TableName, snapshot_path, temporary_path};

/// Writes one snapshot. Calls come in this order: records by ascending LSN; each table with its
/// entries by ascending key, in the order of [`TableName::ALL`], any left out if empty; finish.
///
/// Memory is bounded but for what the snapshot will hold in memory when it is open, and 20 bytes
/// for each block of records. Dropping it removes the temporary file, if the disk lets it be.
pub struct SnapshotWriter {
    head: SnapshotHead,
    out: Output,
    block: BlockBuilder,
    places: Vec<BlockPlace>,
    records: u64,
    last: Lsn,
    /// The table whose entries are being written; `None`: records are.
    open_table: Option<usize>,
    tables: [TablePlace; TABLES],
    fences: [Vec<u64>; TABLES],
    filters: [Filter; TABLES - 1],
    pages: PageBuilder,
    stop: Arc<AtomicBool>,
}

impl SnapshotWriter {
    /// Begins the snapshot at `head.lsn`, in a temporary file; one left there is replaced.
    ///
    /// # Errors
    /// [`SnapshotError::NoSpace`] and [`SnapshotError::Disk`].
    ///
    /// # Panics
    /// When `head.lsn` is 0.
    pub fn begin(disk: Arc<dyn Disk>, head: SnapshotHead) -> Result<SnapshotWriter, SnapshotError> {
        assert!(head.lsn > Lsn::ZERO, "a snapshot covers something");
        // Creating it again is harmless, and its name must be durable before a snapshot's is.
        disk.create_dir(SNAPSHOTS)?;
        disk.sync_dir("")?;
        let mut out = Output::create(disk, head)?;
        out.put(&layout::encode_head(&head))?;
        Ok(SnapshotWriter {
            head,
            out,
            block: BlockBuilder::default(),
            places: Vec::new(),
            records: 0,
            last: Lsn::ZERO,
            open_table: None,
            tables: [TablePlace::default(); TABLES],
            fences: Default::default(),
            filters: std::array::from_fn(|_| Filter::with_room(0)),
            pages: PageBuilder::new(Shape::BLOCKS),
            stop: Arc::default(),
        })
    }

    /// From now on reading back ends early when `stop` is set.
    pub fn heed(&mut self, stop: Arc<AtomicBool>) {
        self.stop = stop;
    }

    /// From now on the disk counts as full when so many bytes are left: others need them.
    pub fn leave(&mut self, bytes: u64) {
        self.out.leave_bytes = bytes;
    }

    /// Adds a record, of at most `SNAPSHOT_RECORD_BYTES_MAX` bytes.
    ///
    /// # Errors
    /// [`SnapshotError::NoSpace`] and [`SnapshotError::Disk`]; then the writer is of no more use.
    ///
    /// # Panics
    /// When the LSN does not ascend or lies above the snapshot's, the record is too large, or
    /// tables have begun.
    pub fn record(&mut self, lsn: Lsn, bytes: &[u8]) -> Result<(), SnapshotError> {
        assert!(self.open_table.is_none(), "records come before tables");
        assert!(lsn > self.last && lsn <= self.head.lsn, "records ascend up to the snapshot's LSN");
        assert!(bytes.len() <= SNAPSHOT_RECORD_BYTES_MAX, "a record fits its limit");
        if !self.block.has_room(lsn, bytes) {
            self.end_block()?;
        }
        self.block.push(lsn, bytes);
        self.last = lsn;
        self.records += 1;
        Ok(())
    }

    /// Begins a table. Its filter has room for `entries_max` keys: with more it still holds them
    /// all, but lets more absent ones pass.
    ///
    /// # Errors
    /// As [`record`](SnapshotWriter::record).
    ///
    /// # Panics
    /// When this table or a later one was begun before.
    pub fn table(&mut self, name: TableName, entries_max: u64) -> Result<(), SnapshotError> {
        self.end_records()?;
        self.begin_table(name.index() + 1)?;
        self.filters[name.index()] = Filter::with_room(entries_max);
        Ok(())
    }

    /// Adds an entry to the table begun last.
    ///
    /// # Errors
    /// As [`record`](SnapshotWriter::record).
    ///
    /// # Panics
    /// When `name` is not the table begun last, the entry has another width, or its key does not
    /// ascend.
    pub fn entry(&mut self, name: TableName, entry: &[u8]) -> Result<(), SnapshotError> {
        assert_eq!(self.open_table, Some(name.index() + 1), "a table is begun before its entries");
        self.push_entry(entry)?;
        let key = entry.first_chunk().expect("an entry begins with its key");
        self.filters[name.index()].insert(key);
        Ok(())
    }

    /// Ends the snapshot: syncs it, reads all of it back, and only then gives it its name,
    /// durably. `state` is the state's own section.
    ///
    /// # Errors
    /// [`SnapshotError`]; then there is no file of the snapshot's name, unless it was the last
    /// sync of the directory that failed. `Stopped` only where [`heed`](SnapshotWriter::heed) was
    /// called.
    pub fn finish(mut self, state: &[u8]) -> Result<SnapshotRef, SnapshotError> {
        self.end_records()?;
        self.end_table()?;
        let sections = self.write_sections(state)?;
        self.out.pad()?;
        let SnapshotHead { store, lsn, .. } = self.head;
        let (at, records, tables) = (self.out.at(), self.records, self.tables);
        let footer = Footer { store, lsn, at, records, tables, sections };
        self.out.put(&footer.encode())?;
        let sha256 = self.out.end()?;
        let named = SnapshotRef { lsn, sha256 };
        let written = Snapshot::open_at(&self.out.disk, &temporary_path(lsn), &named, store)?;
        if !written.verify_unless(&self.stop, |_| {})? {
            return Err(SnapshotError::Stopped);
        }
        drop(written);
        self.out.install()?;
        Ok(named)
    }

    fn write_sections(&mut self, state: &[u8]) -> Result<[SectionPlace; SECTIONS], SnapshotError> {
        let mut places = [SectionPlace::default(); SECTIONS];
        for (place, fences) in places.iter_mut().zip(std::mem::take(&mut self.fences)) {
            let bytes: Vec<u8> = fences.iter().flat_map(|fence| fence.to_le_bytes()).collect();
            *place = self.out.section(&bytes)?;
        }
        for (place, filter) in places[FILTERS..].iter_mut().zip(&self.filters) {
            *place = self.out.section(&filter.to_bytes())?;
        }
        places[STATE] = self.out.section(state)?;
        Ok(places)
    }

    fn end_block(&mut self) -> Result<(), SnapshotError> {
        if self.block.is_empty() {
            return Ok(());
        }
        let (first, at) = (self.block.first(), self.out.at());
        let bytes = self.block.finish(self.out.seed, at, &mut self.out.buffer);
        self.places.push(BlockPlace { first, at, bytes });
        self.out.flush_full()
    }

    /// Ends the records with the table of their blocks, once.
    fn end_records(&mut self) -> Result<(), SnapshotError> {
        if self.open_table.is_some() {
            return Ok(());
        }
        self.end_block()?;
        self.begin_table(0)?;
        for place in std::mem::take(&mut self.places) {
            self.push_entry(&place.encode())?;
        }
        self.end_table()?;
        // Tables that the caller leaves out are empty, but have a place.
        self.tables[1..].fill(TablePlace { at: self.out.at(), ..TablePlace::default() });
        Ok(())
    }

    fn begin_table(&mut self, index: usize) -> Result<(), SnapshotError> {
        assert!(self.open_table.is_none_or(|open| open < index), "tables come in their order");
        self.end_table()?;
        self.out.pad()?;
        self.open_table = Some(index);
        self.tables[index].at = self.out.at();
        self.pages = PageBuilder::new(Shape::ALL[index]);
        Ok(())
    }

    fn push_entry(&mut self, entry: &[u8]) -> Result<(), SnapshotError> {
        if self.pages.is_full() {
            self.end_page()?;
        }
        self.pages.push(entry);
        Ok(())
    }

    fn end_page(&mut self) -> Result<(), SnapshotError> {
        let page = self.pages.finish(self.out.seed, self.out.at());
        self.out.put(&page)
    }

    fn end_table(&mut self) -> Result<(), SnapshotError> {
        let Some(index) = self.open_table else {
            return Ok(());
        };
        if !self.pages.is_empty() {
            self.end_page()?;
        }
        // Ended twice, by the next table and by the end, it is what it was.
        if self.pages.count > 0 {
            self.fences[index] = std::mem::take(&mut self.pages.fences);
            self.tables[index].pages = self.fences[index].len() as u64;
            self.tables[index].entries = std::mem::take(&mut self.pages.count);
        }
        Ok(())
    }
}

/// The temporary file, as it grows.
struct Output {
    disk: Arc<dyn Disk>,
    file: Arc<dyn DiskFile>,
    lsn: Lsn,
    seed: Seed,
    sha256: Sha256,
    buffer: Vec<u8>,
    /// Bytes of the file before the buffer's.
    flushed: u64,
    /// Bytes that are to be left free on the disk.
    leave_bytes: u64,
    is_installed: bool,
}

impl Output {
    fn create(disk: Arc<dyn Disk>, head: SnapshotHead) -> Result<Output, DiskError> {
        let file = disk.create(&temporary_path(head.lsn))?;
        let seed = Seed::new(head.store, head.lsn);
        let (lsn, sha256, buffer) = (head.lsn, Sha256::new(), Vec::new());
        let (flushed, leave_bytes, is_installed) = (0, 0, false);
        Ok(Output { disk, file, lsn, seed, sha256, buffer, flushed, leave_bytes, is_installed })
    }

    /// Where the next byte will stand.
    fn at(&self) -> u64 {
        self.flushed + self.buffer.len() as u64
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        for piece in bytes.chunks(SNAPSHOT_CHUNK_BYTES) {
            self.buffer.extend_from_slice(piece);
            self.flush_full()?;
        }
        Ok(())
    }

    /// Zeros up to the next page.
    fn pad(&mut self) -> Result<(), SnapshotError> {
        let gap = self.at().next_multiple_of(PAGE_BYTES as u64) - self.at();
        self.put(&[0; PAGE_BYTES][..crate::log::to_usize(gap)])
    }

    fn section(&mut self, bytes: &[u8]) -> Result<SectionPlace, SnapshotError> {
        let at = self.at();
        self.put(bytes)?;
        Ok(SectionPlace { at, bytes: bytes.len() as u64, crc: self.seed.crc(at, bytes) })
    }

    /// Writes whole chunks, each synced before the next: a sync of the log that comes at the
    /// same time waits for one of them at most.
    fn flush_full(&mut self) -> Result<(), SnapshotError> {
        let mut done = 0;
        while self.buffer.len() - done >= SNAPSHOT_CHUNK_BYTES {
            self.flush(done..done + SNAPSHOT_CHUNK_BYTES)?;
            done += SNAPSHOT_CHUNK_BYTES;
        }
        self.buffer.drain(..done);
        Ok(())
    }

    fn flush(&mut self, range: std::ops::Range<usize>) -> Result<(), SnapshotError> {
        let bytes = &self.buffer[range];
        let needed = self.leave_bytes.saturating_add(bytes.len() as u64);
        if self.leave_bytes > 0 && self.disk.available_bytes()? < needed {
            return Err(SnapshotError::NoSpace);
        }
        self.file.write_all_at(bytes, self.flushed)?;
        self.file.sync_data()?;
        self.sha256.update(bytes);
        self.flushed += bytes.len() as u64;
        Ok(())
    }

    /// Writes the rest; returns the SHA-256 of the whole file.
    fn end(&mut self) -> Result<[u8; 32], SnapshotError> {
        self.flush(0..self.buffer.len())?;
        self.buffer.clear();
        Ok(std::mem::take(&mut self.sha256).finalize().into())
    }

    fn install(&mut self) -> Result<(), SnapshotError> {
        self.disk.rename(&temporary_path(self.lsn), &snapshot_path(self.lsn))?;
        self.is_installed = true;
        self.disk.sync_dir(SNAPSHOTS)?;
        Ok(())
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if !self.is_installed {
            // What cannot be removed now is removed when the store is opened next.
            let _ = self.disk.remove(&temporary_path(self.lsn));
        }
    }
}
