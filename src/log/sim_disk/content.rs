//! A simulated file: its bytes as they are seen, as they are durable, and what lies between.

use std::sync::Arc;

use fastrand::Rng;

use crate::limits::SECTOR_BYTES;
use crate::log::to_usize;

const PAGE: usize = 4096;

/// Bytes in pages that are shared between copies until written to.
#[derive(Clone, Default)]
pub(super) struct Content {
    len: u64,
    /// `None`: zeros.
    pages: Vec<Option<Arc<[u8; PAGE]>>>,
}

impl Content {
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn read(&self, buf: &mut [u8], at: u64) -> usize {
        let len = to_usize(self.len.saturating_sub(at).min(buf.len() as u64));
        for (page, within, part) in pieces(at, len) {
            let to = &mut buf[part.clone()];
            match self.pages.get(page).and_then(Option::as_ref) {
                Some(page) => to.copy_from_slice(&page[within..within + part.len()]),
                None => to.fill(0),
            }
        }
        len
    }

    pub(super) fn write(&mut self, at: u64, bytes: &[u8]) {
        self.grow(at + bytes.len() as u64);
        for (page, within, part) in pieces(at, bytes.len()) {
            let from = &bytes[part];
            let page = &mut self.pages[page];
            if from.len() == PAGE && from.iter().all(|&byte| byte == 0) {
                *page = None;
                continue;
            }
            let page = page.get_or_insert_with(|| Arc::new([0; PAGE]));
            Arc::make_mut(page)[within..within + from.len()].copy_from_slice(from);
        }
    }

    pub(super) fn set_len(&mut self, len: u64) {
        if len >= self.len {
            return self.grow(len);
        }
        self.len = len;
        self.pages.truncate(to_usize(len.div_ceil(PAGE as u64)));
        let within = to_usize(len % PAGE as u64);
        if let (Some(Some(page)), 1..) = (self.pages.last_mut(), within) {
            // What a later growth uncovers is zeros, not what was cut.
            Arc::make_mut(page)[within..].fill(0);
        }
    }

    fn grow(&mut self, len: u64) {
        self.len = self.len.max(len);
        self.pages.resize(to_usize(self.len.div_ceil(PAGE as u64)), None);
    }
}

/// The parts of `len` bytes at `at` by page: page, offset within it, range of the bytes.
fn pieces(at: u64, len: usize) -> impl Iterator<Item = (usize, usize, std::ops::Range<usize>)> {
    let start = to_usize(at);
    let mut done = 0;
    std::iter::from_fn(move || {
        let (page, within) = ((start + done) / PAGE, (start + done) % PAGE);
        let part = done..len.min(done + PAGE - within);
        done = part.end;
        (!part.is_empty()).then_some((page, within, part))
    })
}

/// A file's contents.
#[derive(Clone, Default)]
pub(super) struct Inode {
    /// What reads see.
    pub(super) visible: Content,
    /// What is there for certain after power was lost.
    durable: Content,
    /// What was done since the last sync, in order.
    pending: Vec<Change>,
    /// A sync failed: what reads see may never reach the disk.
    is_stale: bool,
}

#[derive(Clone)]
enum Change {
    /// From the beginning of a sector on.
    Write(u64, Arc<[u8]>),
    SetLen(u64),
}

impl Inode {
    pub(super) fn write(&mut self, at: u64, bytes: &[u8]) {
        self.visible.write(at, bytes);
        // A disk is given whole sectors, with all that earlier writes put into them.
        let sector = SECTOR_BYTES as u64;
        let start = at - at % sector;
        let end = (at + bytes.len() as u64).next_multiple_of(sector).min(self.visible.len());
        let mut sectors = vec![0; to_usize(end - start)];
        self.visible.read(&mut sectors, start);
        self.pending.push(Change::Write(start, sectors.into()));
    }

    pub(super) fn set_len(&mut self, len: u64) {
        self.visible.set_len(len);
        self.pending.push(Change::SetLen(len));
    }

    pub(super) fn sync(&mut self) {
        for change in std::mem::take(&mut self.pending) {
            match change {
                Change::Write(at, bytes) => self.durable.write(at, &bytes),
                Change::SetLen(len) => self.durable.set_len(len),
            }
        }
    }

    /// The system gives up on what was to be written, and forgets that it was.
    pub(super) fn fail_sync(&mut self, rng: &mut Rng) {
        self.keep_some(rng);
        self.is_stale = true;
    }

    /// Whether there is nothing that a loss of power could change.
    pub(super) fn is_settled(&self) -> bool {
        self.pending.is_empty() && !self.is_stale
    }

    pub(super) fn lose_power(&mut self, rng: &mut Rng) {
        self.keep_some(rng);
        self.visible = self.durable.clone();
        self.is_stale = false;
    }

    /// Changes both what is seen and what is durable, as damage does.
    pub(super) fn both(&mut self, change: impl Fn(&mut Content)) {
        self.sync();
        change(&mut self.visible);
        change(&mut self.durable);
    }

    /// Of the pending changes, lets some reach the disk, sector by sector.
    fn keep_some(&mut self, rng: &mut Rng) {
        let fate = Fate::draw(rng);
        for change in std::mem::take(&mut self.pending) {
            match change {
                Change::Write(at, bytes) => self.keep_sectors(at, &bytes, fate, rng),
                Change::SetLen(len) if fate.keeps(rng) => self.durable.set_len(len),
                Change::SetLen(_) => {}
            }
        }
    }

    fn keep_sectors(&mut self, at: u64, bytes: &[u8], fate: Fate, rng: &mut Rng) {
        // A longer write may also be cut short at any byte, by the end of whoever wrote it.
        let cut = match fate {
            Fate::Prefix if bytes.len() > SECTOR_BYTES => rng.usize(..=bytes.len()),
            _ => bytes.len(),
        };
        let bytes = &bytes[..cut];
        let mut at = at;
        for sector in bytes.chunks(SECTOR_BYTES) {
            if fate.keeps(rng) {
                self.durable.write(at, sector);
            }
            at += sector.len() as u64;
        }
    }
}

/// What becomes of a file's pending changes.
#[derive(Clone, Copy)]
enum Fate {
    All,
    Nothing,
    /// Each sector by the toss of a coin.
    Some,
    /// Most sectors.
    Most,
    /// Each write up to some byte.
    Prefix,
}

impl Fate {
    fn draw(rng: &mut Rng) -> Fate {
        [Fate::All, Fate::Nothing, Fate::Some, Fate::Most, Fate::Prefix][rng.usize(..5)]
    }

    fn keeps(self, rng: &mut Rng) -> bool {
        match self {
            Fate::All | Fate::Prefix => true,
            Fate::Nothing => false,
            Fate::Some => rng.bool(),
            Fate::Most => rng.u8(..8) > 0,
        }
    }
}
