//! WATERMARK: the last LSN that was synced, noted beside the log.
//!
//! Written after each sync and never waited for, into two slots in turn, so that a torn write
//! spoils at most the older claim. After a crash it may be behind, never ahead: it only ever
//! names what was durable before it was written. It is what tells a torn last batch, which
//! nobody was promised, from a damaged one.
//!
//! ```text
//! slot (at 0 and at 4096)
//!  0 u32 magic    4 u32 crc of 8..64, seeded with the store    8 u64 lsn    16 [u8; 32] chain
//! 48 u32 epoch   52 zeros
//! ```

use std::sync::Arc;

use super::disk::{Access, Disk, DiskError, DiskFile};
use super::frame::{Chain, StoreId, array_at, crc, u32_at, u64_at};
use crate::ids::{Epoch, Lsn};

/// The file's path.
pub(super) const PATH: &str = "WATERMARK";
const NEW: &str = "WATERMARK.tmp";
const MAGIC: u32 = u32::from_le_bytes(*b"SWMK");
const SLOT_BYTES: usize = 64;
/// Slots lie on pages of their own: a page is what the system writes at once.
const SLOTS_AT: [u64; 2] = [0, 4096];

/// One claim of what is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watermark {
    /// All frames up to this one are durable.
    pub lsn: Lsn,
    /// The chain of that frame.
    pub chain: Chain,
    /// The reign that wrote the claim.
    pub epoch: Epoch,
}

impl Watermark {
    fn encode(&self, store: StoreId) -> [u8; SLOT_BYTES] {
        let mut slot = [0; SLOT_BYTES];
        slot[..4].copy_from_slice(&MAGIC.to_le_bytes());
        slot[8..16].copy_from_slice(&self.lsn.0.to_le_bytes());
        slot[16..48].copy_from_slice(&self.chain.0);
        slot[48..52].copy_from_slice(&self.epoch.0.to_le_bytes());
        let crc = slot_crc(store, &slot);
        slot[4..8].copy_from_slice(&crc.to_le_bytes());
        slot
    }

    fn decode(slot: &[u8; SLOT_BYTES], store: StoreId) -> Option<Watermark> {
        let good = u32_at(slot, 0) == MAGIC && u32_at(slot, 4) == slot_crc(store, slot);
        good.then(|| Watermark {
            lsn: Lsn(u64_at(slot, 8)),
            chain: Chain(array_at(slot, 16)),
            epoch: Epoch(u32_at(slot, 48)),
        })
    }
}

fn slot_crc(store: StoreId, slot: &[u8; SLOT_BYTES]) -> u32 {
    crc(crc(0, &store.0), &slot[8..])
}

/// The two slots; `None` for one that is damaged.
pub(super) type Slots = [Option<Watermark>; 2];

/// Reads both slots. A missing file is as two damaged slots.
pub(super) fn read(disk: &dyn Disk, store: StoreId) -> Result<Slots, DiskError> {
    let file = match disk.open(PATH, Access::Read) {
        Ok(file) => file,
        Err(error) if error.is_not_found() => return Ok([None; 2]),
        Err(error) => return Err(error),
    };
    let mut slots = [None; 2];
    for (slot, at) in slots.iter_mut().zip(SLOTS_AT) {
        let mut bytes = [0; SLOT_BYTES];
        file.read_full_at(&mut bytes, at)?;
        *slot = Watermark::decode(&bytes, store);
    }
    Ok(slots)
}

/// The higher claim.
pub(super) fn best(slots: &Slots) -> Option<Watermark> {
    slots.iter().flatten().max_by_key(|found| found.lsn).copied()
}

/// The writer of WATERMARK.
pub(super) struct WatermarkFile {
    file: Arc<dyn DiskFile>,
    store: StoreId,
    turn: usize,
}

impl WatermarkFile {
    /// The bytes of a file both slots of which say `claim`.
    pub(super) fn bytes(store: StoreId, claim: &Watermark) -> Vec<u8> {
        let mut bytes = Vec::new();
        for at in SLOTS_AT {
            bytes.resize(super::to_usize(at), 0);
            bytes.extend_from_slice(&claim.encode(store));
        }
        bytes
    }

    /// Creates or replaces the file with both slots saying `first`, durably.
    pub(super) fn create(
        disk: &dyn Disk,
        store: StoreId,
        first: &Watermark,
    ) -> Result<(), DiskError> {
        let file = disk.create(NEW)?;
        for at in SLOTS_AT {
            file.write_all_at(&first.encode(store), at)?;
        }
        file.sync_data()?;
        disk.rename(NEW, PATH)?;
        disk.sync_dir("")
    }

    /// Opens the file to write on from `slots`, what it holds now.
    pub(super) fn open(
        disk: &dyn Disk,
        store: StoreId,
        slots: &Slots,
    ) -> Result<WatermarkFile, DiskError> {
        let worse = usize::from(slots[0].map(|slot| slot.lsn) > slots[1].map(|slot| slot.lsn));
        let file = disk.open(PATH, Access::Write)?;
        Ok(WatermarkFile { file, store, turn: worse })
    }

    /// Notes a claim over the older one. Does not wait for the disk.
    pub(super) fn write(&mut self, claim: &Watermark) -> Result<(), DiskError> {
        self.file.write_all_at(&claim.encode(self.store), SLOTS_AT[self.turn])?;
        self.turn = 1 - self.turn;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::SimDisk;

    const STORE: StoreId = StoreId([5; 16]);

    fn claim(lsn: u64) -> Watermark {
        Watermark { lsn: Lsn(lsn), chain: Chain([9; 32]), epoch: Epoch(2) }
    }

    #[test]
    fn claims_take_turns_so_that_a_torn_one_leaves_the_one_before() {
        let disk = SimDisk::new(1);
        WatermarkFile::create(&disk, STORE, &claim(0)).expect("created");
        let slots = read(&disk, STORE).expect("read");
        let mut file = WatermarkFile::open(&disk, STORE, &slots).expect("opened");
        for lsn in 1..5 {
            file.write(&claim(lsn)).expect("written");
            let slots = read(&disk, STORE).expect("read");
            assert_eq!(best(&slots), Some(claim(lsn)));
            assert!(slots.contains(&Some(claim(lsn - 1))));
        }
        let slots = read(&disk, STORE).expect("read");
        let mut file = WatermarkFile::open(&disk, STORE, &slots).expect("opened");
        file.write(&claim(5)).expect("written");
        assert!(read(&disk, STORE).expect("read").contains(&Some(claim(4))));
    }

    #[test]
    fn slot_of_another_store_or_with_a_flipped_bit_is_no_claim() {
        let slot = claim(7).encode(STORE);
        assert_eq!(Watermark::decode(&slot, STORE), Some(claim(7)));
        assert_eq!(Watermark::decode(&slot, StoreId([6; 16])), None);
        for bit in 0..slot.len() * 8 {
            let mut bad = slot;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Watermark::decode(&bad, STORE), None, "bit {bit}");
        }
    }

    #[test]
    fn missing_file_is_two_damaged_slots() {
        assert_eq!(read(&SimDisk::new(1), STORE).expect("read"), [None; 2]);
    }
}
