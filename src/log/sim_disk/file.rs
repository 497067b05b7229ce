//! An open file of a simulated disk.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::SimFault;
use super::state::{Effect, Outcome, State, failure};
use crate::log::disk::{Call, DiskError, DiskFile};

pub(super) struct SimFile {
    pub(super) shared: Arc<Mutex<State>>,
    pub(super) path: Arc<str>,
    pub(super) inode: u64,
    /// Whether dropping it releases the lock.
    pub(super) is_lock: bool,
}

impl SimFile {
    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fail<T>(&self, call: Call, fault: SimFault) -> Result<T, DiskError> {
        Err(failure(call, &self.path, fault))
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        if self.is_lock {
            self.state().locked = false;
        }
    }
}

impl DiskFile for SimFile {
    fn path(&self) -> &str {
        &self.path
    }

    fn read_at(&self, buf: &mut [u8], at: u64) -> Result<usize, DiskError> {
        let state = self.state();
        state.check_readable(Call::Read, &self.path)?;
        let end = at.saturating_add(buf.len() as u64);
        let hits = |(path, bytes): &(Arc<str>, Range<u64>)| {
            **path == *self.path && bytes.start < end && at < bytes.end
        };
        if state.unreadable.iter().any(hits) {
            return self.fail(Call::Read, SimFault::Eio);
        }
        Ok(state.inodes[&self.inode].visible.read(buf, at))
    }

    fn read_at_cached(&self, buf: &mut [u8], at: u64) -> Result<Option<usize>, DiskError> {
        self.read_at(buf, at).map(Some)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> Result<usize, DiskError> {
        let mut state = self.state();
        let outcome = state.count();
        let bytes = match outcome {
            Outcome::Short => &bytes[..state.rng.usize(1..=bytes.len())],
            Outcome::Fail(fault, Effect::None) => return self.fail(Call::Write, fault),
            _ => bytes,
        };
        let len = state.inodes[&self.inode].visible.len();
        let growth = (at + bytes.len() as u64).saturating_sub(len);
        if growth > 0 && state.used().saturating_add(growth) > state.capacity {
            return self.fail(Call::Write, SimFault::Enospc);
        }
        state.inode(self.inode).write(at, bytes);
        match outcome {
            Outcome::Fail(fault, _) => self.fail(Call::Write, fault),
            _ => Ok(bytes.len()),
        }
    }

    fn sync_data(&self) -> Result<(), DiskError> {
        let mut state = self.state();
        match state.count() {
            Outcome::Fail(SimFault::PowerOff, Effect::Done) => {
                state.inode(self.inode).sync();
                self.fail(Call::Sync, SimFault::PowerOff)
            }
            Outcome::Fail(SimFault::Eio, _) => {
                let mut rng = state.rng.fork();
                state.inode(self.inode).fail_sync(&mut rng);
                self.fail(Call::Sync, SimFault::Eio)
            }
            Outcome::Fail(fault, _) => self.fail(Call::Sync, fault),
            Outcome::Go | Outcome::Short => {
                state.inode(self.inode).sync();
                Ok(())
            }
        }
    }

    fn set_len(&self, len: u64) -> Result<(), DiskError> {
        let mut state = self.state();
        let outcome = state.count();
        if !matches!(outcome, Outcome::Fail(_, Effect::None)) {
            state.inode(self.inode).set_len(len);
        }
        match outcome {
            Outcome::Fail(fault, _) => self.fail(Call::SetLen, fault),
            _ => Ok(()),
        }
    }

    fn len(&self) -> Result<u64, DiskError> {
        let state = self.state();
        state.check_readable(Call::Len, &self.path)?;
        Ok(state.inodes[&self.inode].visible.len())
    }
}
