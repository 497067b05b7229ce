//! The small part of a snapshot: everything that a state holds in memory while it rests on one.
//!
//! The tables of a snapshot stay on disk. An image is read whole: where the log stood, how many
//! formulas there are, all queues, the pins. Its bytes carry a version and are not compressed:
//! ready messages, by far the most, stand in them as bitmaps (see `lsn_set`).
//!
//! ```text
//! u8 version
//! head        Head, as all entries in bincode's standard configuration
//! pins        Head::pins times (Lsn, Pin)
//! queues      Head::queues times:
//!   head        QueueHead
//!   fresh       QueueHead::fresh_parts times (u32 upper half, u64 len), then len bytes
//!   returned    QueueHead::returned times (MessageId, Past)
//!   leased, delayed, dead: likewise
//! the rest    since version 2: see `outbound`; since version 3: see `partners`
//! ```
//!
//! Lengths are never believed: every entry is read from bytes that are there, one at a time, so
//! a hostile length ends in an error and not in memory without end. What is read is checked for
//! what it says of itself; that it is the image of this very store, the snapshot's CRCs say.

mod outbound;
mod partners;

use std::collections::BTreeMap;
use std::fmt;

use bincode::{Decode, Encode};

use super::calls::Calls;
use super::formulas::{self, Pin};
use super::groups::Groups;
use super::hooks::Hooks;
use super::idempotency::KeyTotals;
use super::queues::{Delay, Lease, Past, Queue};
use super::releases::Releases;
use super::seals::Seals;
use crate::ids::{Epoch, Lsn, MessageId, QueueName};
use crate::limits::IMAGE_ENTRY_BYTES_MAX;
use crate::time::Moment;

/// The latest version that this program writes and reads. It writes the
/// lowest that says all.
pub const VERSION: u8 = 3;

/// A state without what its snapshot has on disk.
#[derive(Clone, Debug)]
pub struct Image {
    pub(super) lsn: Lsn,
    pub(super) at: Moment,
    pub(super) epoch: Epoch,
    pub(super) records_since_hash: u64,
    pub(super) bereft_until: Option<Epoch>,
    pub(super) formulas: formulas::Base,
    pub(super) keys: KeyTotals,
    pub(super) queues: BTreeMap<QueueName, Queue>,
    pub(super) calls: Calls,
    pub(super) seals: Seals,
    pub(super) hooks: Hooks,
    pub(super) releases: Releases,
    pub(super) groups: Groups,
}

/// Why bytes are no image.
#[derive(Debug)]
pub enum ImageError {
    /// There are none.
    Empty,
    /// A later version wrote them.
    Newer {
        /// Its version byte.
        version: u8,
    },
    /// An entry does not decode, or bytes are missing.
    Undecodable(bincode::error::DecodeError),
    /// A set of messages is no bitmap.
    NotASet(std::io::Error),
    /// An entry stands where none like it can: twice, or with an LSN beyond the image's.
    Contradiction {
        /// The entry's LSN.
        lsn: Lsn,
    },
    /// Bytes follow the image.
    LeftOver {
        /// How many.
        bytes: usize,
    },
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ImageError::Empty => f.write_str("image is empty"),
            ImageError::Newer { version } => {
                write!(f, "image has version {version}, this program reads up to {VERSION}")
            }
            ImageError::Undecodable(why) => write!(f, "image does not decode: {why}"),
            ImageError::NotASet(why) => write!(f, "a set of messages does not decode: {why}"),
            ImageError::Contradiction { lsn } => {
                write!(f, "an entry with LSN {lsn} contradicts the rest of the image")
            }
            ImageError::LeftOver { bytes } => write!(f, "{bytes} bytes follow the image"),
        }
    }
}

impl std::error::Error for ImageError {}

/// The numbers, and how many entries follow.
#[derive(Encode, Decode)]
struct Head {
    lsn: Lsn,
    at: Moment,
    epoch: Epoch,
    records_since_hash: u64,
    bereft_until: Option<Epoch>,
    base: Lsn,
    formula_count: u64,
    formula_digest: u128,
    keys: KeyTotals,
    pins: u64,
    queues: u64,
}

#[derive(Encode, Decode)]
struct QueueHead {
    name: QueueName,
    fresh_parts: u64,
    returned: u64,
    leased: u64,
    delayed: u64,
    dead: u64,
}

impl Image {
    /// The last record that the state had applied.
    #[must_use]
    pub fn lsn(&self) -> Lsn {
        self.lsn
    }

    /// The last LSN that the snapshot holds.
    #[must_use]
    pub fn base(&self) -> Lsn {
        self.formulas.lsn
    }

    /// Stored formulas.
    #[must_use]
    pub fn formula_count(&self) -> usize {
        self.formulas.count
    }

    /// Appends the image's bytes to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let version = match () {
            () if partners::are_there(self) => VERSION,
            () if outbound::is_there(self) => 2,
            () => 1,
        };
        out.push(version);
        let head = Head {
            lsn: self.lsn,
            at: self.at,
            epoch: self.epoch,
            records_since_hash: self.records_since_hash,
            bereft_until: self.bereft_until,
            base: self.formulas.lsn,
            formula_count: self.formulas.count as u64,
            formula_digest: self.formulas.digest,
            keys: self.keys,
            pins: self.formulas.pins.len() as u64,
            queues: self.queues.len() as u64,
        };
        put(out, &head);
        put_all(out, &self.formulas.pins);
        self.queues.iter().for_each(|(name, queue)| put_queue(out, name, queue));
        if version >= 2 {
            outbound::encode(self, out);
        }
        if version >= 3 {
            partners::encode(self, out);
        }
    }

    /// Reads an image back.
    ///
    /// # Errors
    /// See [`ImageError`].
    pub fn decode(bytes: &[u8]) -> Result<Image, ImageError> {
        let (&version, rest) = bytes.split_first().ok_or(ImageError::Empty)?;
        if !(1..=VERSION).contains(&version) {
            return Err(ImageError::Newer { version });
        }
        let mut source = Source { rest, lsn_max: Lsn(u64::MAX) };
        let head: Head = source.take()?;
        source.lsn_max = head.lsn;
        if head.base < head.lsn {
            return Err(ImageError::Contradiction { lsn: head.base });
        }
        let mut pins = BTreeMap::new();
        for _ in 0..head.pins {
            let (lsn, pin): (Lsn, Pin) = source.take()?;
            source.check(lsn, pins.insert(lsn, pin).is_none())?;
        }
        let mut queues = BTreeMap::new();
        for _ in 0..head.queues {
            let (name, queue) = source.queue()?;
            source.check(head.lsn, queues.insert(name, queue).is_none())?;
        }
        // A count beyond the address space is no count of ours.
        let count = usize::try_from(head.formula_count).unwrap_or(usize::MAX);
        let mut image = Image {
            lsn: head.lsn,
            at: head.at,
            epoch: head.epoch,
            records_since_hash: head.records_since_hash,
            bereft_until: head.bereft_until,
            formulas: formulas::Base::new(head.base, count, head.formula_digest, pins),
            keys: head.keys,
            queues,
            calls: Calls::default(),
            seals: Seals::default(),
            hooks: Hooks::default(),
            releases: Releases::default(),
            groups: Groups::default(),
        };
        match version {
            1 => outbound::assume(&mut image),
            _ => outbound::decode(&mut source, &mut image)?,
        }
        if version >= 3 {
            partners::decode(&mut source, &mut image)?;
        }
        match source.rest.len() {
            0 => Ok(image),
            bytes => Err(ImageError::LeftOver { bytes }),
        }
    }
}

fn put_queue(out: &mut Vec<u8>, name: &QueueName, queue: &Queue) {
    let head = QueueHead {
        name: name.clone(),
        fresh_parts: queue.ready.fresh.part_count() as u64,
        returned: queue.ready.returned.len() as u64,
        leased: queue.leased.len() as u64,
        delayed: queue.delayed.len() as u64,
        dead: queue.dead.len() as u64,
    };
    put(out, &head);
    for (high, bytes) in queue.ready.fresh.to_parts() {
        put(out, &(high, bytes.len() as u64));
        out.extend_from_slice(&bytes);
    }
    put_all(out, &queue.ready.returned);
    put_all(out, &queue.leased);
    put_all(out, &queue.delayed);
    put_all(out, &queue.dead);
}

fn put_all<'a, K: Encode + 'a, V: Encode + 'a>(
    out: &mut Vec<u8>,
    entries: impl IntoIterator<Item = (&'a K, &'a V)>,
) {
    entries.into_iter().for_each(|entry| put(out, &entry));
}

fn put(out: &mut Vec<u8>, entry: &impl Encode) {
    bincode::encode_into_std_write(entry, out, bincode::config::standard())
        .expect("writing to memory cannot fail");
}

/// The bytes that are left to read.
struct Source<'a> {
    rest: &'a [u8],
    /// No entry names a later record.
    lsn_max: Lsn,
}

impl Source<'_> {
    fn take<T: Decode<()>>(&mut self) -> Result<T, ImageError> {
        let config = bincode::config::standard().with_limit::<IMAGE_ENTRY_BYTES_MAX>();
        let decoded = bincode::decode_from_slice(self.rest, config);
        let (entry, used) = decoded.map_err(ImageError::Undecodable)?;
        self.rest = &self.rest[used..];
        Ok(entry)
    }

    fn check(&self, lsn: Lsn, is_fit: bool) -> Result<(), ImageError> {
        let is_fit = is_fit && lsn <= self.lsn_max;
        is_fit.then_some(()).ok_or(ImageError::Contradiction { lsn })
    }

    fn queue(&mut self) -> Result<(QueueName, Queue), ImageError> {
        let head: QueueHead = self.take()?;
        let mut queue = Queue::default();
        for _ in 0..head.fresh_parts {
            let (high, len): (u32, u64) = self.take()?;
            let len = usize::try_from(len).unwrap_or(usize::MAX);
            let Some((bytes, rest)) = self.rest.split_at_checked(len) else {
                return Err(ImageError::NotASet(std::io::ErrorKind::UnexpectedEof.into()));
            };
            self.rest = rest;
            queue.ready.fresh.add_part(high, bytes).map_err(ImageError::NotASet)?;
        }
        let last = queue.ready.fresh.last();
        last.map_or(Ok(()), |last| self.check(last, true))?;
        self.entries(&mut queue, head.returned, |queue, id, past: Past| {
            queue.ready.insert(id, past)
        })?;
        self.entries(&mut queue, head.leased, |queue, id, lease: Lease| {
            queue.due.insert((lease.deadline, id)) && queue.leased.insert(id, lease).is_none()
        })?;
        self.entries(&mut queue, head.delayed, |queue, id, delay: Delay| {
            queue.due.insert((delay.until, id)) && queue.delayed.insert(id, delay).is_none()
        })?;
        self.entries(&mut queue, head.dead, |queue, id, past: Past| {
            queue.dead.insert(id, past).is_none()
        })?;
        queue.reckon();
        Ok((head.name, queue))
    }

    fn entries<V: Decode<()>>(
        &mut self,
        queue: &mut Queue,
        count: u64,
        mut put: impl FnMut(&mut Queue, MessageId, V) -> bool,
    ) -> Result<(), ImageError> {
        for _ in 0..count {
            let (id, entry): (MessageId, V) = self.take()?;
            let is_new = !queue.holds(id);
            self.check(id.0, is_new && put(queue, id, entry))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
