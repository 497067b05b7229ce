//! Reading a segment from front to back, in one pass over a bounded window.

use super::disk::{DiskError, DiskFile};
use super::frame::{self, Chain, Flaw, Header, Kind, Seeds, StoreId};
use super::loss::Loss;
use super::segment::SealPayload;
use super::to_usize;
use super::watermark::Watermark;
use crate::ids::{Epoch, Lsn};
use crate::limits::{FRAME_ALIGN, FRAME_HEADER_BYTES, SCAN_CHUNK_BYTES};

/// A part of a file in memory, moved forward as later parts are asked for.
pub(super) struct Window<'a> {
    file: &'a dyn DiskFile,
    bytes: Vec<u8>,
    at: u64,
    /// Bytes before this offset may be let go.
    keep_from: u64,
    file_len: u64,
}

impl<'a> Window<'a> {
    pub(super) fn new(file: &'a dyn DiskFile, from: u64) -> Result<Window<'a>, DiskError> {
        let file_len = file.len()?;
        Ok(Window { file, bytes: Vec::new(), at: from, keep_from: from, file_len })
    }

    /// A second window on the same file, from `from` on.
    pub(super) fn restart(&self, from: u64) -> Window<'a> {
        let (file, file_len) = (self.file, self.file_len);
        Window { file, bytes: Vec::new(), at: from, keep_from: from, file_len }
    }

    /// Lets bytes before `at` go at the next read.
    pub(super) fn keep_from(&mut self, at: u64) {
        self.keep_from = at;
    }

    /// The `len` bytes at `at`, fewer only at the end of the file. `at` must not lie before
    /// what was let go.
    pub(super) fn get(&mut self, at: u64, len: usize) -> Result<&[u8], DiskError> {
        assert!(at >= self.keep_from, "the window only moves forward");
        let end = at.saturating_add(len as u64).min(self.file_len);
        if end > self.at + self.bytes.len() as u64 {
            self.read_to(end)?;
        }
        let from = to_usize(at - self.at).min(self.bytes.len());
        let to = to_usize(end.max(at) - self.at).min(self.bytes.len());
        Ok(&self.bytes[from..to])
    }

    fn read_to(&mut self, end: u64) -> Result<(), DiskError> {
        let gone = to_usize(self.keep_from - self.at).min(self.bytes.len());
        self.bytes.drain(..gone);
        // What is asked for may lie beyond all that was read: then the gap is not read at all.
        self.at = if self.bytes.is_empty() { self.keep_from } else { self.at + gone as u64 };
        let filled = self.bytes.len();
        let wanted = to_usize(end - self.at).max(filled + SCAN_CHUNK_BYTES);
        let wanted = wanted.min(to_usize(self.file_len - self.at));
        self.bytes.resize(wanted, 0);
        let read = self.file.read_full_at(&mut self.bytes[filled..], self.at + filled as u64)?;
        self.bytes.truncate(filled + read);
        Ok(())
    }

    /// The bytes from `at` on that are in memory or come with the next read; none at the end
    /// of the file.
    fn some(&mut self, at: u64) -> Result<&[u8], DiskError> {
        let buffered = self.at + self.bytes.len() as u64;
        let len = if at < buffered { to_usize(buffered - at) } else { SCAN_CHUNK_BYTES };
        self.keep_from(at);
        self.get(at, len)
    }

    /// The offset of the first byte at or after `at` that is not zero; `None`: there is none.
    pub(super) fn first_nonzero(&mut self, mut at: u64) -> Result<Option<u64>, DiskError> {
        loop {
            let chunk = self.some(at)?;
            if chunk.is_empty() {
                return Ok(None);
            }
            let zeros = chunk.chunks(ZEROS.len()).take_while(|part| is_zero(part)).count();
            let rest = chunk.get(zeros * ZEROS.len()..).unwrap_or_default();
            if let Some(first) = rest.iter().position(|&byte| byte != 0) {
                return Ok(Some(at + (zeros * ZEROS.len() + first) as u64));
            }
            at += chunk.len() as u64;
        }
    }

    /// The offset after the last byte at or after `at` that is not zero; `at`: there is none.
    pub(super) fn last_nonzero(&mut self, from: u64) -> Result<u64, DiskError> {
        let (mut at, mut end) = (from, from);
        while let Some(nonzero) = self.first_nonzero(at)? {
            let chunk = self.some(nonzero)?;
            let zeros = chunk.rchunks(ZEROS.len()).take_while(|part| is_zero(part)).count();
            let rest = &chunk[..chunk.len() - zeros * ZEROS.len()];
            let last = rest.iter().rposition(|&byte| byte != 0).unwrap_or(0);
            end = nonzero + last as u64 + 1;
            at = nonzero + chunk.len() as u64;
        }
        Ok(end)
    }

    /// The next good header at or after `at`, whatever its frame's payload.
    pub(super) fn next_header(
        &mut self,
        mut at: u64,
        seeds: Seeds,
    ) -> Result<Option<(u64, Header)>, DiskError> {
        at = at.next_multiple_of(FRAME_ALIGN as u64);
        while let Some(nonzero) = self.first_nonzero(at)? {
            at = nonzero - nonzero % FRAME_ALIGN as u64;
            let bytes = self.get(at, FRAME_HEADER_BYTES)?;
            if let Ok(header) = frame::decode_header(bytes, seeds, at) {
                return Ok(Some((at, header)));
            }
            at += FRAME_ALIGN as u64;
        }
        Ok(None)
    }
}

const ZEROS: [u8; 4096] = [0; 4096];

/// Whether all of `bytes` are zero.
fn is_zero(bytes: &[u8]) -> bool {
    bytes.chunks(ZEROS.len()).all(|chunk| *chunk == ZEROS[..chunk.len()])
}

/// What the next frame must agree with, and the evidence so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cursor {
    /// The next frame's LSN.
    pub(super) next: Lsn,
    /// The chain of the frame before.
    pub(super) chain: Chain,
    /// The epoch of the frame before: the next one's is not lower.
    pub(super) epoch: Epoch,
    /// Highest LSN that a header said is durable.
    pub(super) durable: Lsn,
    /// The frame before was a [`Kind::Loss`]: the chain of the frames lost is not known.
    pub(super) after_loss: bool,
    /// What WATERMARK says of a frame on the way.
    pub(super) witness: Option<Watermark>,
}

impl Cursor {
    /// Before the first frame of a store, whose history must agree with `witness`.
    pub(super) fn new(store: StoreId, oldest: Lsn, witness: Option<Watermark>) -> Cursor {
        let (chain, epoch, durable) = (Chain::genesis(store), Epoch(0), Lsn::ZERO);
        Cursor { next: oldest, chain, epoch, durable, after_loss: false, witness }
    }

    /// The LSN of the frame before.
    pub(super) fn last(&self) -> Lsn {
        Lsn(self.next.0 - 1)
    }

    /// Steps over a good frame of the segment that begins with `first`, if it belongs here.
    pub(super) fn step(
        &mut self,
        first: Lsn,
        header: &Header,
        chain: Chain,
        payload: &[u8],
    ) -> Result<(), Flaw> {
        let stamp = &header.stamp;
        let linked = stamp.link == self.chain.link() || self.after_loss;
        if stamp.lsn != self.next || stamp.epoch < self.epoch || !linked {
            return Err(Flaw::OutOfOrder);
        }
        let last = match stamp.kind {
            Kind::Loss => Loss::decode(stamp.lsn, payload).ok_or(Flaw::OutOfOrder)?.last,
            Kind::Seal if !self.is_sealed_by(first, payload) => return Err(Flaw::Seal),
            _ if self.is_contradicted(stamp.lsn, chain) => return Err(Flaw::History),
            _ => stamp.lsn,
        };
        self.next = last.next();
        self.chain = chain;
        self.epoch = stamp.epoch;
        self.durable = self.durable.max(stamp.durable);
        self.after_loss = stamp.kind == Kind::Loss;
        Ok(())
    }

    /// Whether a seal is right here for the segment that began with `first`.
    fn is_sealed_by(&self, first: Lsn, seal: &[u8]) -> bool {
        SealPayload::decode(seal).is_some_and(|seal| {
            let counted = Some(seal.count) == self.next.0.checked_sub(first.0);
            counted && (seal.chain == self.chain || self.after_loss)
        })
    }

    fn is_contradicted(&self, lsn: Lsn, chain: Chain) -> bool {
        self.witness.is_some_and(|witness| witness.lsn == lsn && witness.chain != chain)
    }
}

/// The good frame at `at` and its chain.
pub(super) fn frame_at(
    window: &mut Window<'_>,
    at: u64,
    seeds: Seeds,
) -> Result<Result<(Header, Chain), Flaw>, DiskError> {
    let header = match frame::decode_header(window.get(at, FRAME_HEADER_BYTES)?, seeds, at) {
        Ok(header) => header,
        Err(flaw) => return Ok(Err(flaw)),
    };
    let bytes = window.get(at, header.frame_bytes())?;
    let verified = frame::verify(bytes, &header, seeds);
    Ok(verified.map(|()| (header, frame::chain(bytes, &header))))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::log::{Access, Disk, SimDisk};

    fn file(bytes: &[u8]) -> Arc<dyn DiskFile> {
        let disk = SimDisk::new(1);
        disk.put("file", bytes);
        disk.open("file", Access::Read).expect("there")
    }

    #[test]
    fn first_and_last_byte_that_is_not_zero_are_found_across_chunks() {
        let mut bytes = vec![0; 2 * SCAN_CHUNK_BYTES + 777];
        let window = |bytes: &[u8]| file(bytes);
        let zeros = window(&bytes);
        let mut empty = Window::new(&*zeros, 0).expect("opened");
        assert_eq!(empty.first_nonzero(0).expect("read"), None);
        assert_eq!(empty.restart(5).last_nonzero(5).expect("read"), 5);
        for place in [0, 4095, SCAN_CHUNK_BYTES - 1, SCAN_CHUNK_BYTES, bytes.len() - 1] {
            bytes[place] = 1;
            let one = window(&bytes);
            let mut found = Window::new(&*one, 0).expect("opened");
            let at = place as u64;
            assert_eq!(found.first_nonzero(0).expect("read"), Some(at));
            assert_eq!(found.restart(0).last_nonzero(0).expect("read"), at + 1);
            assert_eq!(found.restart(at).first_nonzero(at).expect("read"), Some(at));
            assert_eq!(found.restart(at + 1).first_nonzero(at + 1).expect("read"), None);
            bytes[place] = 0;
        }
    }

    #[test]
    fn window_gives_what_it_kept_and_what_comes_and_ends_with_the_file() {
        let bytes: Vec<u8> = (0..=255).cycle().take(3 * SCAN_CHUNK_BYTES / 2).collect();
        let file = file(&bytes);
        let mut window = Window::new(&*file, 0).expect("opened");
        let (chunk, end) = (SCAN_CHUNK_BYTES as u64, bytes.len() as u64);
        assert_eq!(window.get(10, 3).expect("read"), [10, 11, 12]);
        window.keep_from(chunk - 6);
        let across = window.get(chunk - 6, 12).expect("read").to_vec();
        assert_eq!(across, &bytes[SCAN_CHUNK_BYTES - 6..SCAN_CHUNK_BYTES + 6]);
        assert_eq!(window.get(end - 2, 9).expect("read").len(), 2);
        assert_eq!(window.get(end, 9).expect("read").len(), 0);
        assert_eq!(window.get(end + 100, 9).expect("read").len(), 0);
    }
}
