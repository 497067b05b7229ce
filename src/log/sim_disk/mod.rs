//! A disk in memory that is as unkind as disks may be: for simulation and tests.
//!
//! What was not synced may be lost, torn at sectors or reordered by [`SimDisk::crash`]; names
//! that no directory sync made durable may be lost too. Any call can be made to fail, to be
//! short or to be the machine's last. Bytes at rest can be flipped. All of it follows from
//! seeds and call numbers, so that every run can be repeated.
//!
//! [`SimDisk::fork`] copies a disk in microseconds: contents are shared until written to.

mod content;
mod file;
mod state;

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fastrand::Rng;

use self::content::Inode;
use self::file::SimFile;
use self::state::{Effect, NameChange, Outcome, State, dir_of, failure, not_found};
use super::disk::{Access, Call, Disk, DiskError, DiskFile};

/// A simulated disk.
pub struct SimDisk {
    shared: Arc<Mutex<State>>,
}

/// What can be made to happen at a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SimFault {
    /// The call fails with EIO. A failed sync loses what it should have written, for good,
    /// while reads go on to show it: as the page cache does.
    Eio,
    /// The call fails with ENOSPC.
    Enospc,
    /// The call fails with EINTR and has no effect.
    Interrupted,
    /// A write takes only a part of the bytes; other calls are as always.
    Short,
    /// The call may or may not take effect, fails, and so does every call after it.
    PowerOff,
}

impl SimDisk {
    /// An empty disk with room without end. `seed` decides what failing calls leave behind.
    #[must_use]
    pub fn new(seed: u64) -> SimDisk {
        let state = State::new(seed);
        SimDisk { shared: Arc::new(Mutex::new(state)) }
    }

    /// Another handle to this same disk.
    #[must_use]
    pub fn handle(&self) -> SimDisk {
        SimDisk { shared: Arc::clone(&self.shared) }
    }

    /// A copy as a process started later would find it: what was written is there whether
    /// synced or not, nothing is locked, no fault is planned.
    #[must_use]
    pub fn fork(&self) -> SimDisk {
        let mut state = self.state().clone();
        (state.locked, state.is_off) = (false, false);
        state.faults.clear();
        SimDisk { shared: Arc::new(Mutex::new(state)) }
    }

    /// A copy as it may be after power was lost: of what was not synced, any part may be there.
    #[must_use]
    pub fn crash(&self, seed: u64) -> SimDisk {
        let survivor = self.fork();
        survivor.state().lose_power(&mut Rng::with_seed(seed));
        survivor
    }

    /// How many calls were made that can change the disk.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.state().calls
    }

    /// Plans a fault for the call after `calls` such calls in all, as [`SimDisk::calls`] counts.
    pub fn fail_after(&self, calls: u64, fault: SimFault) {
        self.state().faults.insert(calls, fault);
    }

    /// Sets how many bytes all files together may have.
    pub fn set_capacity(&self, bytes: u64) {
        self.state().capacity = bytes;
    }

    /// Makes reads of these bytes of a file fail with EIO.
    pub fn make_unreadable(&self, path: &str, bytes: Range<u64>) {
        self.state().unreadable.push((path.into(), bytes));
    }

    /// The paths of all files, sorted.
    #[must_use]
    pub fn paths(&self) -> Vec<Arc<str>> {
        self.state().names.keys().cloned().collect()
    }

    /// All bytes of a file; `None` when it is not there.
    #[must_use]
    pub fn bytes(&self, path: &str) -> Option<Vec<u8>> {
        let state = self.state();
        let inode = state.inodes.get(state.names.get(path)?)?;
        let mut bytes = vec![0; super::to_usize(inode.visible.len())];
        inode.visible.read(&mut bytes, 0);
        Some(bytes)
    }

    /// Overwrites a file's bytes at rest, as damage does; grows it if need be.
    ///
    /// # Panics
    /// When the file is not there.
    pub fn damage(&self, path: &str, at: u64, bytes: &[u8]) {
        self.at_rest(path, |inode| inode.both(|content| content.write(at, bytes)));
    }

    /// Flips one bit of a file at rest.
    ///
    /// # Panics
    /// When the file is not there.
    pub fn flip(&self, path: &str, bit: u64) {
        self.at_rest(path, |inode| {
            inode.both(|content| {
                let mut byte = [0];
                content.read(&mut byte, bit / 8);
                content.write(bit / 8, &[byte[0] ^ (1 << (bit % 8))]);
            });
        });
    }

    /// Cuts or grows a file at rest.
    ///
    /// # Panics
    /// When the file is not there.
    pub fn truncate(&self, path: &str, len: u64) {
        self.at_rest(path, |inode| inode.both(|content| content.set_len(len)));
    }

    /// Puts a whole file there, durably, in place of any other of that name.
    pub fn put(&self, path: &str, bytes: &[u8]) {
        let mut state = self.state();
        let inode = state.add_inode();
        state.inode(inode).both(|content| content.write(0, bytes));
        state.names.insert(path.into(), inode);
        state.durable_names.insert(path.into(), inode);
    }

    /// Removes a file at rest, durably.
    pub fn lose(&self, path: &str) {
        let mut state = self.state();
        state.names.remove(path);
        state.durable_names.remove(path);
    }

    fn at_rest(&self, path: &str, change: impl FnOnce(&mut Inode)) {
        let mut state = self.state();
        let inode = *state.names.get(path).expect("damage is done to files that are there");
        change(state.inode(inode));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self, path: &str, inode: u64) -> Arc<dyn DiskFile> {
        let (shared, is_lock) = (Arc::clone(&self.shared), false);
        Arc::new(SimFile { shared, path: path.into(), inode, is_lock })
    }
}

impl Disk for SimDisk {
    fn list(&self, dir: &str) -> Result<Vec<Box<str>>, DiskError> {
        let state = self.state();
        state.check_readable(Call::List, dir)?;
        let inside = state.names.keys().filter(|path| dir_of(path) == dir);
        Ok(inside.map(|path| path.rsplit('/').next().unwrap_or(path).into()).collect())
    }

    fn open(&self, path: &str, _access: Access) -> Result<Arc<dyn DiskFile>, DiskError> {
        let state = self.state();
        state.check_readable(Call::Open, path)?;
        let inode = state.names.get(path).copied();
        drop(state);
        inode.map(|inode| self.file(path, inode)).ok_or_else(|| not_found(Call::Open, path))
    }

    fn create(&self, path: &str) -> Result<Arc<dyn DiskFile>, DiskError> {
        let mut state = self.state();
        let inode = state.add_inode();
        let (dir, set) = (dir_of(path).into(), Some((path.into(), inode)));
        state.change(Call::Create, path, NameChange { dir, unset: None, set })?;
        drop(state);
        Ok(self.file(path, inode))
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        let mut state = self.state();
        let inode = *state.names.get(from).ok_or_else(|| not_found(Call::Rename, from))?;
        let (dir, set) = (dir_of(to).into(), Some((to.into(), inode)));
        state.change(Call::Rename, from, NameChange { dir, unset: Some(from.into()), set })
    }

    fn remove(&self, path: &str) -> Result<(), DiskError> {
        let mut state = self.state();
        state.names.get(path).ok_or_else(|| not_found(Call::Remove, path))?;
        let (dir, unset) = (dir_of(path).into(), Some(path.into()));
        state.change(Call::Remove, path, NameChange { dir, unset, set: None })
    }

    fn create_dir(&self, path: &str) -> Result<(), DiskError> {
        // Directories are no more than parts of paths here.
        self.state().check_readable(Call::CreateDir, path)
    }

    fn sync_dir(&self, dir: &str) -> Result<(), DiskError> {
        let mut state = self.state();
        match state.count() {
            Outcome::Fail(fault, Effect::None) => Err(failure(Call::SyncDir, dir, fault)),
            outcome => {
                let State { pending_names, durable_names, .. } = &mut *state;
                pending_names.retain(|change| {
                    if *change.dir == *dir {
                        change.apply(durable_names);
                    }
                    *change.dir != *dir
                });
                match outcome {
                    Outcome::Fail(fault, _) => Err(failure(Call::SyncDir, dir, fault)),
                    _ => Ok(()),
                }
            }
        }
    }

    fn try_lock(&self, path: &str) -> Result<Option<Arc<dyn DiskFile>>, DiskError> {
        let mut state = self.state();
        state.check_readable(Call::Lock, path)?;
        if state.locked {
            return Ok(None);
        }
        state.locked = true;
        let found = state.names.get(path).copied();
        let inode = found.unwrap_or_else(|| state.add_inode());
        state.names.insert(path.into(), inode);
        drop(state);
        let (shared, is_lock) = (Arc::clone(&self.shared), true);
        Ok(Some(Arc::new(SimFile { shared, path: path.into(), inode, is_lock })))
    }

    fn available_bytes(&self) -> Result<u64, DiskError> {
        let state = self.state();
        state.check_readable(Call::Available, "")?;
        Ok(state.capacity.saturating_sub(state.used()))
    }
}
