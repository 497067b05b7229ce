//! Reading a snapshot from one end to the other, in large pieces, with everything verified.

use std::cmp::Ordering;

use crate::ids::Lsn;
use crate::limits::{SCAN_CHUNK_BYTES, SNAPSHOT_PIECE_BYTES_MIN};
use crate::log::error::ReadError;
use crate::log::page::PAGE_BYTES;
use crate::log::to_usize;

use super::block::Block;
use super::table::{self, Shape};
use super::view::{Inner, Snapshot};

/// Records by ascending LSN.
pub struct RecordStream {
    snapshot: Snapshot,
    /// The index of the block to be read next.
    next: usize,
    window: Window,
    block: Block,
    /// Where in the block the next record begins.
    at: usize,
    /// The last LSN passed.
    last: Lsn,
    /// Records seen from the snapshot's first on; `None`: the stream began further on.
    seen: Option<u64>,
    /// The first LSN of the block read last; `None` before the first and after the last.
    block_first: Option<Lsn>,
}

/// Records that cannot be read back: any of these LSNs may have been kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The first of them.
    pub first: Lsn,
    /// The last.
    pub last: Lsn,
}

impl RecordStream {
    pub(super) fn new(snapshot: Snapshot, after: Lsn) -> RecordStream {
        // Not at the block of `after` itself if that ends there: it may be damaged.
        let next = snapshot.inner.places.floor(after.next()).unwrap_or(0);
        let (window, block) = (Window::default(), Block::default());
        let seen = (after == Lsn::ZERO).then_some(0);
        let block_first = None;
        RecordStream { snapshot, next, window, block, at: 0, last: after, seen, block_first }
    }

    /// The next record; `None` after the last.
    ///
    /// # Errors
    /// [`ReadError::Damaged`], also when the snapshot holds another number of records than it
    /// says, and [`ReadError::Disk`]. The stream is of no more use then.
    #[expect(clippy::should_implement_trait, reason = "it lends what it returns")]
    pub fn next(&mut self) -> Result<Option<(Lsn, &[u8])>, ReadError> {
        let start = loop {
            let start = self.at;
            let found = self.block.record_at(&mut self.at).map(|(lsn, _)| lsn);
            match found {
                Some(lsn) if lsn > self.last => {
                    self.last = lsn;
                    break start;
                }
                Some(_) => {}
                None => {
                    if !self.next_block()? {
                        return Ok(None);
                    }
                }
            }
        };
        self.seen = self.seen.map(|seen| seen + 1);
        let mut start = start;
        Ok(self.block.record_at(&mut start))
    }

    /// What cannot be read, after [`next`](RecordStream::next) has failed: from the first LSN that
    /// it would have given, or earlier, to the last before the next block, readable or not.
    #[must_use]
    pub fn gap(self) -> Gap {
        let first = self.block_first.unwrap_or(self.last).max(self.last.next());
        let behind = self.snapshot.inner.places.get(self.next + 1).map(|place| place.first);
        let end = self.snapshot.head().lsn;
        let last = behind.map_or(end, |behind| Lsn(behind.0 - 1).min(end));
        Gap { first: first.min(last), last }
    }

    fn next_block(&mut self) -> Result<bool, ReadError> {
        let inner = &self.snapshot.inner;
        self.block_first = None;
        let Some(place) = inner.places.get(self.next) else {
            let all = self.seen.is_none_or(|seen| seen == inner.footer.records);
            return if all { Ok(false) } else { Err(inner.damaged(inner.footer.at)) };
        };
        self.block_first = Some(place.first);
        let bytes = inner.block_bytes(&place)?;
        let bytes = self.window.get(inner, place.at, bytes, inner.footer.tables[0].at)?;
        inner.unpack(&place, bytes, &mut self.block)?;
        (self.at, self.next) = (0, self.next + 1);
        Ok(true)
    }
}

/// Entries of a table by ascending key.
pub struct EntryStream {
    snapshot: Snapshot,
    table: usize,
    window: Window,
    /// The page to be read next.
    page: usize,
    /// The entries of the page read last.
    entries: Vec<u8>,
    /// Where among them the next begins.
    at: usize,
    last: Vec<u8>,
    /// Entries seen.
    seen: u64,
}

impl EntryStream {
    pub(super) fn new(snapshot: Snapshot, table: usize) -> EntryStream {
        let (window, entries, last) = (Window::default(), Vec::new(), Vec::new());
        EntryStream { snapshot, table, window, page: 0, entries, at: 0, last, seen: 0 }
    }

    /// The next entry, whole; `None` after the last.
    ///
    /// # Errors
    /// [`ReadError::Damaged`], also when the table holds another number of entries than it says
    /// or they do not ascend, and [`ReadError::Disk`]. The stream is of no more use then.
    #[expect(clippy::should_implement_trait, reason = "it lends what it returns")]
    pub fn next(&mut self) -> Result<Option<&[u8]>, ReadError> {
        if self.at == self.entries.len() && !self.next_page()? {
            return Ok(None);
        }
        let shape = Shape::ALL[self.table];
        let entry = &self.entries[self.at..][..shape.entry_bytes];
        let key = shape.key(entry);
        if !self.last.is_empty() && self.last.as_slice().cmp(key) != Ordering::Less {
            let inner = &self.snapshot.inner;
            return Err(inner.damaged(inner.page_at(self.table, self.page - 1)));
        }
        self.last.clear();
        self.last.extend_from_slice(key);
        self.at += shape.entry_bytes;
        self.seen += 1;
        Ok(Some(entry))
    }

    fn next_page(&mut self) -> Result<bool, ReadError> {
        let inner = &self.snapshot.inner;
        let (place, shape) = (&inner.footer.tables[self.table], Shape::ALL[self.table]);
        let end = inner.page_at(self.table, to_usize(place.pages));
        if self.page as u64 == place.pages {
            return if self.seen == place.entries { Ok(false) } else { Err(inner.damaged(end)) };
        }
        let at = inner.page_at(self.table, self.page);
        let page = self.window.get(inner, at, PAGE_BYTES, end)?;
        let entries = shape.open(inner.seed, at, page).ok_or_else(|| inner.damaged(at))?;
        if table::fence(entries) != inner.fences[self.table][self.page] {
            return Err(inner.damaged(at));
        }
        self.entries.clear();
        self.entries.extend_from_slice(entries);
        (self.at, self.page) = (0, self.page + 1);
        Ok(true)
    }
}

/// The piece of the file that was read last. Pieces double from one to the next: a page of a
/// list reads little more than it shows, and a whole snapshot is read in large pieces.
#[derive(Default)]
struct Window {
    start: u64,
    bytes: Vec<u8>,
}

impl Window {
    /// `len` bytes from `at`, which lie before `end`. Reads ahead, but not past `end`.
    fn get(&mut self, inner: &Inner, at: u64, len: usize, end: u64) -> Result<&[u8], ReadError> {
        let have = at.checked_sub(self.start).map(to_usize);
        let held = have.filter(|from| from + len <= self.bytes.len());
        let from = match held {
            Some(from) => from,
            None => {
                let piece =
                    (self.bytes.len() * 2).clamp(SNAPSHOT_PIECE_BYTES_MIN, SCAN_CHUNK_BYTES);
                let ahead = to_usize(end - at).min(piece.max(len));
                self.bytes.resize(ahead, 0);
                self.start = at;
                let read = inner.file.read_full_at(&mut self.bytes, at)?;
                self.bytes.truncate(read);
                0
            }
        };
        self.bytes.get(from..from + len).ok_or_else(|| inner.damaged(at))
    }
}
