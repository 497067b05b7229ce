//! SUPER: what the store is, which reign it is in, and which files it must have.
//!
//! Two copies, `SUPER.a` and `SUPER.b`, of one page each. A change is written and synced to the
//! worse copy first and then to the other, and is in force only after that. So at any time one
//! copy is whole and says all that is in force: a copy that is damaged later is healed from its
//! twin and nothing is lost with it.

use std::sync::Arc;

use super::disk::{Access, Disk, DiskError};
use super::frame::{StoreId, array_at, u32_at, u64_at};
use super::page::{self, PAGE_BYTES};
use crate::ids::{Epoch, Lsn};

/// The copies' paths.
pub(super) const PATHS: [&str; 2] = ["SUPER.a", "SUPER.b"];
const NEW: &str = "SUPER.tmp";
const MAGIC: &[u8; 8] = b"SILLSUP\n";

/// The contents of SUPER.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Super {
    /// The store's identity.
    pub store: StoreId,
    /// Oldest format whose programs may read this store.
    pub reader_min: u32,
    /// Grows by one with each change.
    pub sequence: u64,
    /// The latest reign that was begun; 0 in a store just created.
    pub epoch: Epoch,
    /// First LSN of the oldest segment that is needed: one above the older snapshot's LSN; with
    /// fewer than two snapshots what it was before, 1 in a store that grew up here.
    pub oldest: Lsn,
    /// First LSN of the newest segment; 0 before there is one.
    pub newest: Lsn,
    /// The last LSN of a reign that ended in order; 0 otherwise.
    pub clean: Lsn,
    /// The two newest snapshots, newest first. There is no second one without a first.
    pub snapshots: [SnapshotRef; 2],
}

/// A snapshot that SUPER names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SnapshotRef {
    /// The LSN at which it was taken; 0: there is none.
    pub lsn: Lsn,
    /// Of the file.
    pub sha256: [u8; 32],
}

impl Super {
    /// What a store just created says.
    pub(super) fn new(store: StoreId) -> Super {
        Super {
            store,
            reader_min: page::FORMAT_OF_LOG,
            sequence: 1,
            epoch: Epoch(0),
            oldest: Lsn(1),
            newest: Lsn::ZERO,
            clean: Lsn::ZERO,
            snapshots: [SnapshotRef::default(); 2],
        }
    }

    /// The highest LSN that is durable if SUPER is right: a segment is named here only after
    /// all before it was synced, and a snapshot only covers what was.
    pub(super) fn durable(&self) -> Lsn {
        Lsn(self.newest.0.saturating_sub(1)).max(self.clean).max(self.snapshots[0].lsn)
    }

    /// The snapshots that there are, newest first.
    pub(super) fn named(&self) -> impl Iterator<Item = SnapshotRef> + use<> {
        self.snapshots.into_iter().filter(|named| named.lsn > Lsn::ZERO)
    }

    /// Adds a snapshot: the newest one until now becomes the older one, and what comes before
    /// that is no longer needed. From here on older programs, which know of no snapshots, must
    /// keep away.
    pub(super) fn add_snapshot(&mut self, newest: SnapshotRef) {
        let older = self.snapshots[0];
        if older.lsn > Lsn::ZERO {
            self.oldest = older.lsn.next();
        }
        self.snapshots = [newest, older];
        self.reader_min = self.reader_min.max(page::FORMAT);
    }

    /// Keeps only this snapshot, or none, and of the log what begins with `oldest`.
    pub(super) fn rest_on(&mut self, kept: Option<SnapshotRef>, oldest: Lsn) {
        self.snapshots = [kept.unwrap_or_default(), SnapshotRef::default()];
        self.oldest = oldest;
    }

    /// Both copies' contents. Of the format that the oldest reader knows: a store without
    /// snapshots is one that format 1 describes in full.
    pub(super) fn encode(&self) -> [u8; PAGE_BYTES] {
        let mut fields = page::Writer::default();
        fields.put(&self.store.0).u32(self.reader_min).u32(self.epoch.0).u64(self.sequence);
        fields.u64(self.oldest.0).u64(self.newest.0).u64(self.clean.0);
        for snapshot in &self.snapshots {
            fields.u64(snapshot.lsn.0).put(&snapshot.sha256);
        }
        page::encode_as(self.reader_min, MAGIC, fields.bytes())
    }

    fn decode(page: &[u8; PAGE_BYTES]) -> SuperCopy {
        let Some((version, fields)) = page::decode(MAGIC, page) else {
            return SuperCopy::Damaged;
        };
        let reader_min = u32_at(fields, 16);
        if reader_min > page::FORMAT {
            return SuperCopy::Newer { version };
        }
        let snapshot =
            |at| SnapshotRef { lsn: Lsn(u64_at(fields, at)), sha256: array_at(fields, at + 8) };
        SuperCopy::Good(Super {
            store: StoreId(array_at(fields, 0)),
            reader_min,
            epoch: Epoch(u32_at(fields, 20)),
            sequence: u64_at(fields, 24),
            oldest: Lsn(u64_at(fields, 32)),
            newest: Lsn(u64_at(fields, 40)),
            clean: Lsn(u64_at(fields, 48)),
            snapshots: [snapshot(56), snapshot(96)],
        })
    }
}

/// The state of one copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SuperCopy {
    /// No such file.
    Missing,
    /// There, but it fails its checksum.
    Damaged,
    /// Of a format that this program cannot read.
    Newer {
        /// Which one.
        version: u32,
    },
    /// Whole.
    Good(Super),
}

/// Reads both copies.
pub(super) fn read(disk: &dyn Disk) -> Result<[SuperCopy; 2], DiskError> {
    Ok([read_copy(disk, PATHS[0])?, read_copy(disk, PATHS[1])?])
}

fn read_copy(disk: &dyn Disk, path: &str) -> Result<SuperCopy, DiskError> {
    let file = match disk.open(path, Access::Read) {
        Ok(file) => file,
        Err(error) if error.is_not_found() => return Ok(SuperCopy::Missing),
        Err(error) => return Err(error),
    };
    let mut page = [0; PAGE_BYTES];
    file.read_full_at(&mut page, 0)?;
    Ok(Super::decode(&page))
}

/// The copy that is in force, and its place. `None`: neither is whole.
pub(super) fn best(copies: &[SuperCopy; 2]) -> Option<(usize, Super)> {
    let good = copies.iter().enumerate().filter_map(|(place, copy)| match copy {
        SuperCopy::Good(found) => Some((place, *found)),
        _ => None,
    });
    good.max_by_key(|(_, found)| found.sequence)
}

/// The writer of SUPER.
pub(super) struct SuperFiles {
    disk: Arc<dyn Disk>,
    current: Super,
}

impl SuperFiles {
    /// Goes on from `current`, which [`best`] found on `disk`.
    pub(super) fn new(disk: Arc<dyn Disk>, current: Super) -> SuperFiles {
        SuperFiles { disk, current }
    }

    pub(super) fn current(&self) -> &Super {
        &self.current
    }

    /// Puts a change in force. On an error it may be or not be.
    pub(super) fn update(&mut self, change: impl FnOnce(&mut Super)) -> Result<(), UpdateError> {
        let copies = read(&*self.disk)?;
        let place = match best(&copies) {
            Some((place, found)) if found == self.current => place,
            // Nobody else may write while we hold the lock. If somebody does, the lock is no
            // lock, as on some network file systems, and the later reign owns the store.
            _ => return Err(UpdateError::Fenced),
        };
        let mut changed = self.current;
        change(&mut changed);
        changed.sequence += 1;
        let page = changed.encode();
        // Equal copies are as good as each other: any may be first. Otherwise the whole one in
        // force must stay until the other is whole.
        for place in [1 - place, place] {
            write_copy(&*self.disk, place, copies[place], &page)?;
        }
        self.current = changed;
        Ok(())
    }
}

/// Creates both copies, each complete from the moment its name is there.
pub(super) fn create(disk: &dyn Disk, first: &Super) -> Result<(), DiskError> {
    for place in 0..2 {
        write_copy(disk, place, SuperCopy::Missing, &first.encode())?;
    }
    Ok(())
}

fn write_copy(
    disk: &dyn Disk,
    place: usize,
    before: SuperCopy,
    page: &[u8; PAGE_BYTES],
) -> Result<(), DiskError> {
    if before != SuperCopy::Missing {
        let file = disk.open(PATHS[place], Access::Write)?;
        file.write_all_at(page, 0)?;
        return file.sync_data();
    }
    let file = disk.create(NEW)?;
    file.write_all_at(page, 0)?;
    file.sync_data()?;
    disk.rename(NEW, PATHS[place])?;
    disk.sync_dir("")
}

/// Why SUPER was not changed.
#[derive(Debug)]
pub(super) enum UpdateError {
    /// The disk failed.
    Disk(DiskError),
    /// Another process has begun a reign of its own.
    Fenced,
}

impl From<DiskError> for UpdateError {
    fn from(error: DiskError) -> UpdateError {
        UpdateError::Disk(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{SimDisk, SimFault};

    fn created() -> (SimDisk, Super) {
        let (disk, first) = (SimDisk::new(1), Super::new(StoreId([5; 16])));
        create(&disk, &first).expect("created");
        (disk, first)
    }

    fn in_force(disk: &SimDisk) -> Super {
        best(&read(disk).expect("read")).expect("one copy is whole").1
    }

    #[test]
    fn super_reads_back_from_both_copies() {
        let (disk, first) = created();
        let snapshots = [SnapshotRef { lsn: Lsn(4), sha256: [1; 32] }, SnapshotRef::default()];
        let changed = Super { snapshots, clean: Lsn(9), newest: Lsn(7), ..first };
        let mut files = SuperFiles::new(Arc::new(disk.handle()), first);
        files.update(|next| *next = changed).expect("updated");
        let changed = Super { sequence: 2, ..changed };
        assert_eq!(read(&disk).expect("read"), [SuperCopy::Good(changed); 2]);
        assert_eq!(changed.durable(), Lsn(9));
    }

    #[test]
    fn old_or_new_super_is_in_force_wherever_power_fails() {
        for call in 0..4 {
            for seed in 0..20 {
                let (disk, first) = created();
                let mut files = SuperFiles::new(Arc::new(disk.handle()), first);
                disk.fail_after(disk.calls() + call, SimFault::PowerOff);
                assert!(files.update(|next| next.epoch = Epoch(1)).is_err());
                let found = in_force(&disk.crash(seed));
                assert!(found == first || found.epoch == Epoch(1), "call {call}, seed {seed}");
            }
        }
    }

    #[test]
    fn later_reign_fences_the_earlier_one() {
        let (disk, first) = created();
        let mut one = SuperFiles::new(Arc::new(disk.handle()), first);
        let mut two = SuperFiles::new(Arc::new(disk.handle()), first);
        two.update(|next| next.epoch = Epoch(1)).expect("updated");
        let fenced = one.update(|next| next.epoch = Epoch(1));
        assert!(matches!(fenced, Err(UpdateError::Fenced)));
    }
}
