//! One frame: a record's bytes on disk with what proves them right.
//!
//! ```text
//!  0 u32 magic          8 u32 payload_len   16 u64 lsn       32 u64 link      44 u8  kind
//!  4 u32 header_crc    12 u32 payload_crc   24 u64 durable   40 u32 epoch     45 u8  version
//! 48 payload, then zeros up to a multiple of 8                                46 u16 flags
//! ```
//! Little endian. The header's checksum covers bytes 8..48 and is seeded with the store's id,
//! the segment and the frame's offset in the file: a frame that is stale, copied, misdirected
//! or of another store fails it. The payload's checksum is seeded with store, LSN and epoch;
//! it is separate so that a rotten payload does not hide what its header bears witness to.
//!
//! `durable` is the evidence on which recovery rests: the highest LSN that was known to be
//! synced when the frame was encoded. `link` is the first eight bytes of the [`Chain`] of the
//! frame before, so that each frame vouches for all that came before it.
//!
//! The flags' highest bit is always set. So a header never ends in a zero byte, and one that
//! was torn in the middle can be told from one that was damaged later.

use std::fmt;

use crc32fast::Hasher;
use sha2::{Digest, Sha256};

use crate::ids::{Epoch, Lsn};
use crate::limits::{FRAME_ALIGN, FRAME_HEADER_BYTES, PAYLOAD_BYTES_MAX};

const MAGIC: u32 = u32::from_le_bytes(*b"\xf1SiL");
/// Version of the frame's layout.
const VERSION: u8 = 1;

const FIRST: u16 = 1 << 0;
const LAST: u16 = 1 << 1;
const ALWAYS: u16 = 1 << 15;

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A record of the layer above.
    Record,
    /// Nothing but evidence, written when the log falls quiet: its header's `durable` covers
    /// all frames before it.
    Mark,
    /// The end of a segment: how many LSNs it has, and its chain.
    Seal,
    /// A digest of the state that the layer above has at this LSN.
    StateHash,
    /// The first record of a reign.
    Opened,
    /// LSNs from this frame's own on were lost, and the operator accepted it: see
    /// [`Loss`](super::Loss).
    Loss,
}

impl Kind {
    /// Whether frames of this kind are handed to the layer above.
    #[must_use]
    pub fn is_delivered(self) -> bool {
        matches!(self, Kind::Record | Kind::StateHash | Kind::Opened | Kind::Loss)
    }

    fn to_byte(self) -> u8 {
        match self {
            Kind::Record => 1,
            Kind::Mark => 2,
            Kind::Seal => 3,
            Kind::StateHash => 4,
            Kind::Opened => 5,
            Kind::Loss => 6,
        }
    }

    fn from_byte(byte: u8) -> Option<Kind> {
        let kinds =
            [Kind::Record, Kind::Mark, Kind::Seal, Kind::StateHash, Kind::Opened, Kind::Loss];
        kinds.into_iter().find(|kind| kind.to_byte() == byte)
    }
}

/// A frame's place in its group: frames that are all there after a crash, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A group of one.
    Alone,
    /// The first of several.
    First,
    /// Neither first nor last.
    Middle,
    /// The last of several.
    Last,
}

impl Place {
    /// The place of frame `index` in a group of `count`.
    pub(super) fn of(index: usize, count: usize) -> Place {
        match (index == 0, index + 1 == count) {
            (true, true) => Place::Alone,
            (true, false) => Place::First,
            (false, true) => Place::Last,
            (false, false) => Place::Middle,
        }
    }

    /// Whether a group begins here.
    #[must_use]
    pub fn is_first(self) -> bool {
        matches!(self, Place::Alone | Place::First)
    }

    /// Whether a group ends here.
    #[must_use]
    pub fn is_last(self) -> bool {
        matches!(self, Place::Alone | Place::Last)
    }

    fn to_flags(self) -> u16 {
        let first = if self.is_first() { FIRST } else { 0 };
        let last = if self.is_last() { LAST } else { 0 };
        ALWAYS | first | last
    }

    fn from_flags(flags: u16) -> Option<Place> {
        let places = [Place::Alone, Place::First, Place::Middle, Place::Last];
        places.into_iter().find(|place| place.to_flags() == flags)
    }
}

/// A store's identity: random bytes drawn when it was created.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StoreId(pub [u8; 16]);

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(f, &self.0)
    }
}

/// SHA-256 of a frame, of which the link to the frame before is a part: so it stands for that
/// frame and, through the links, for every frame before it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Chain(pub [u8; 32]);

impl Chain {
    /// What the first frame of a store links to.
    #[must_use]
    pub fn genesis(store: StoreId) -> Chain {
        Chain(Sha256::digest(store.0).into())
    }

    fn of(header: &[u8; FRAME_HEADER_BYTES], payload: &[u8]) -> Chain {
        Chain(Sha256::new().chain_update(&header[8..]).chain_update(payload).finalize().into())
    }

    pub(super) fn link(self) -> u64 {
        u64_at(&self.0, 0)
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(f, &self.0)
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(f, &self.0)
    }
}

/// Where frames stand, as the part of their checksums that a segment's frames share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seeds {
    store: u32,
    segment: u32,
}

impl Seeds {
    pub(super) fn new(store: StoreId, segment: Lsn) -> Seeds {
        let store = crc(0, &store.0);
        Seeds { store, segment: crc(store, &segment.0.to_le_bytes()) }
    }

    fn header_crc(self, offset: u64, header: &[u8; FRAME_HEADER_BYTES]) -> u32 {
        // One call over offset and header costs half of two calls.
        let mut seeded = [0; FRAME_HEADER_BYTES];
        seeded[..8].copy_from_slice(&offset.to_le_bytes());
        seeded[8..].copy_from_slice(&header[8..]);
        crc(self.segment, &seeded)
    }

    fn payload_crc(self, lsn: Lsn, epoch: Epoch, payload: &[u8]) -> u32 {
        let mut seed = [0; 12];
        seed[..8].copy_from_slice(&lsn.0.to_le_bytes());
        seed[8..].copy_from_slice(&epoch.0.to_le_bytes());
        crc(crc(self.store, &seed), payload)
    }
}

/// What a frame says of itself, but for its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) lsn: Lsn,
    /// Highest LSN known to be synced when the frame was encoded; below `lsn`.
    pub(super) durable: Lsn,
    /// [`Chain::link`] of the frame before.
    pub(super) link: u64,
    pub(super) epoch: Epoch,
    pub(super) kind: Kind,
    pub(super) place: Place,
}

/// A decoded header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) stamp: Stamp,
    /// At most [`PAYLOAD_BYTES_MAX`].
    pub(super) payload_len: usize,
    payload_crc: u32,
}

impl Header {
    /// Bytes of the whole frame, padding included.
    pub(super) fn frame_bytes(&self) -> usize {
        frame_bytes(self.payload_len)
    }
}

/// Bytes of a frame with a payload of `payload_len` bytes.
pub(super) fn frame_bytes(payload_len: usize) -> usize {
    (FRAME_HEADER_BYTES + payload_len).next_multiple_of(FRAME_ALIGN)
}

/// Appends a frame that will stand at `offset` of its segment to `out`.
pub(super) fn encode(
    out: &mut Vec<u8>,
    seeds: Seeds,
    offset: u64,
    stamp: &Stamp,
    payload: &[u8],
) -> Chain {
    assert!(payload.len() <= PAYLOAD_BYTES_MAX, "a payload fits its limit");
    assert!(stamp.durable < stamp.lsn, "a frame is not durable before it is written");
    let payload_len = u32::try_from(payload.len()).expect("the limit fits u32");
    let mut header = [0; FRAME_HEADER_BYTES];
    header[0..4].copy_from_slice(&MAGIC.to_le_bytes());
    header[8..12].copy_from_slice(&payload_len.to_le_bytes());
    let payload_crc = seeds.payload_crc(stamp.lsn, stamp.epoch, payload);
    header[12..16].copy_from_slice(&payload_crc.to_le_bytes());
    header[16..24].copy_from_slice(&stamp.lsn.0.to_le_bytes());
    header[24..32].copy_from_slice(&stamp.durable.0.to_le_bytes());
    header[32..40].copy_from_slice(&stamp.link.to_le_bytes());
    header[40..44].copy_from_slice(&stamp.epoch.0.to_le_bytes());
    header[44] = stamp.kind.to_byte();
    header[45] = VERSION;
    header[46..48].copy_from_slice(&stamp.place.to_flags().to_le_bytes());
    let header_crc = seeds.header_crc(offset, &header);
    header[4..8].copy_from_slice(&header_crc.to_le_bytes());
    out.extend_from_slice(&header);
    out.extend_from_slice(payload);
    out.resize(out.len().next_multiple_of(FRAME_ALIGN), 0);
    Chain::of(&header, payload)
}

/// Decodes the header that stands at `offset` of its segment.
pub(super) fn decode_header(bytes: &[u8], seeds: Seeds, offset: u64) -> Result<Header, Flaw> {
    let Some(header) = bytes.first_chunk::<FRAME_HEADER_BYTES>() else {
        return Err(Flaw::Header);
    };
    if u32_at(header, 0) != MAGIC || u32_at(header, 4) != seeds.header_crc(offset, header) {
        return Err(Flaw::Header);
    }
    trusted_header(header)
}

/// The header of a frame that [`verify`] has already found good.
pub(super) fn verified_header(bytes: &[u8]) -> Header {
    let header = bytes.first_chunk().expect("a verified frame has a header");
    trusted_header(header).expect("a verified header decodes")
}

/// Decodes a header whose checksum is right. Only a later version can then be unknown.
fn trusted_header(header: &[u8; FRAME_HEADER_BYTES]) -> Result<Header, Flaw> {
    if header[45] > VERSION {
        return Err(Flaw::Newer { version: header[45] });
    }
    let known = (Kind::from_byte(header[44]), Place::from_flags(u16_at(header, 46)));
    let (Some(kind), Some(place)) = known else {
        return Err(Flaw::Header);
    };
    let payload_len = u32_at(header, 8) as usize;
    let stamp = Stamp {
        lsn: Lsn(u64_at(header, 16)),
        durable: Lsn(u64_at(header, 24)),
        link: u64_at(header, 32),
        epoch: Epoch(u32_at(header, 40)),
        kind,
        place,
    };
    if payload_len > PAYLOAD_BYTES_MAX || stamp.durable >= stamp.lsn {
        return Err(Flaw::Header);
    }
    Ok(Header { stamp, payload_len, payload_crc: u32_at(header, 12) })
}

/// Checks the rest of a frame whose header is `header`: its payload and its padding.
pub(super) fn verify(bytes: &[u8], header: &Header, seeds: Seeds) -> Result<(), Flaw> {
    let Some(frame) = bytes.get(..header.frame_bytes()) else {
        return Err(Flaw::Payload);
    };
    let (payload, padding) = frame[FRAME_HEADER_BYTES..].split_at(header.payload_len);
    let stamp = &header.stamp;
    let right = seeds.payload_crc(stamp.lsn, stamp.epoch, payload) == header.payload_crc;
    if right && padding.iter().all(|&byte| byte == 0) { Ok(()) } else { Err(Flaw::Payload) }
}

/// The chain of a verified frame.
pub(super) fn chain(bytes: &[u8], header: &Header) -> Chain {
    let head = bytes.first_chunk().expect("a verified frame has a header");
    Chain::of(head, payload(bytes, header))
}

/// The payload of a verified frame.
pub(super) fn payload<'a>(bytes: &'a [u8], header: &Header) -> &'a [u8] {
    &bytes[FRAME_HEADER_BYTES..FRAME_HEADER_BYTES + header.payload_len]
}

/// Why bytes are not a good frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// No header, or one that fails its checksum.
    Header,
    /// The header is good, the payload is not.
    Payload,
    /// The frame is good in itself but does not follow the one before it.
    OutOfOrder,
    /// A seal that does not agree with the frames before it.
    Seal,
    /// The frame is not the one that WATERMARK knows by this LSN.
    History,
    /// The frame is of a later format.
    Newer {
        /// Which one.
        version: u8,
    },
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(array_at(bytes, at))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, at))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array_at(bytes, at))
}

pub(super) fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    *bytes[at..].first_chunk().expect("fields lie within their fixed layout")
}

/// CRC-32 of `bytes`, going on from `seed`.
pub(super) fn crc(seed: u32, bytes: &[u8]) -> u32 {
    let mut hasher = Hasher::new_with_initial(seed);
    hasher.update(bytes);
    hasher.finalize()
}

fn hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORE: StoreId = StoreId([7; 16]);

    fn stamp() -> Stamp {
        Stamp {
            lsn: Lsn(9),
            durable: Lsn(8),
            link: 0x1122_3344_5566_7788,
            epoch: Epoch(3),
            kind: Kind::Record,
            place: Place::Alone,
        }
    }

    fn encoded(payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        encode(&mut out, Seeds::new(STORE, Lsn(1)), 4096, &stamp(), payload);
        out
    }

    fn read(bytes: &[u8], seeds: Seeds, offset: u64) -> Result<Chain, Flaw> {
        let header = decode_header(bytes, seeds, offset)?;
        verify(bytes, &header, seeds)?;
        Ok(super::chain(bytes, &header))
    }

    #[test]
    fn frame_reads_back_with_its_stamp_and_chain() {
        let mut out = Vec::new();
        let seeds = Seeds::new(STORE, Lsn(1));
        let chain = encode(&mut out, seeds, 4096, &stamp(), b"vetiver");
        assert_eq!(out.len(), 56);
        let header = decode_header(&out, seeds, 4096).expect("good header");
        assert_eq!(header.stamp, stamp());
        assert_eq!(payload(&out, &header), b"vetiver");
        assert_eq!(verify(&out, &header, seeds), Ok(()));
        assert_eq!(super::chain(&out, &header), chain);
        assert_eq!(verified_header(&out), header);
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let good = encoded(b"oakmoss 12.5");
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(read(&bad, Seeds::new(STORE, Lsn(1)), 4096).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn frame_of_another_store_segment_or_offset_fails() {
        let good = encoded(b"x");
        assert!(read(&good, Seeds::new(STORE, Lsn(1)), 4096).is_ok());
        let moved = read(&good, Seeds::new(STORE, Lsn(1)), 4104);
        let copied = read(&good, Seeds::new(STORE, Lsn(2)), 4096);
        let foreign = read(&good, Seeds::new(StoreId([8; 16]), Lsn(1)), 4096);
        assert_eq!([moved, copied, foreign], [Err(Flaw::Header); 3]);
    }

    #[test]
    fn payloads_cannot_be_swapped() {
        let seeds = Seeds::new(STORE, Lsn(1));
        let (mut one, mut two) = (Vec::new(), Vec::new());
        encode(&mut one, seeds, 4096, &stamp(), b"bergamot");
        encode(&mut two, seeds, 4096, &Stamp { lsn: Lsn(10), ..stamp() }, b"bergamot");
        assert_ne!(one[12..16], two[12..16]);
        two.splice(48.., one[48..].iter().copied());
        one.splice(48.., b"labdanum".iter().copied());
        assert!(read(&two, seeds, 4096).is_ok(), "equal payloads are equal");
        assert_eq!(read(&one, seeds, 4096), Err(Flaw::Payload));
    }

    #[test]
    fn cut_frame_is_a_flaw_not_a_panic() {
        let good = encoded(b"galbanum");
        for len in 0..good.len() {
            assert!(read(&good[..len], Seeds::new(STORE, Lsn(1)), 4096).is_err(), "{len} bytes");
        }
    }

    #[test]
    fn later_version_is_told_from_damage() {
        let seeds = Seeds::new(STORE, Lsn(1));
        let mut later = encoded(b"x");
        later[45] = VERSION + 1;
        let header: [u8; FRAME_HEADER_BYTES] = array_at(&later, 0);
        later[4..8].copy_from_slice(&seeds.header_crc(4096, &header).to_le_bytes());
        assert_eq!(read(&later, seeds, 4096), Err(Flaw::Newer { version: VERSION + 1 }));
    }

    #[test]
    fn header_never_ends_in_a_zero_byte() {
        for place in [Place::Alone, Place::First, Place::Middle, Place::Last] {
            assert_ne!(place.to_flags().to_le_bytes()[1], 0);
        }
    }
}
