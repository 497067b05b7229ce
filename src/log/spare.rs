//! The segment to come, filled with zeros before it is needed.
//!
//! The writer must never wait for 64 MiB of zeros, so a thread prepares the next segment while
//! the current one fills. When the disk is too full for that, it says so and tries again about
//! once a second: that is how intake stops early, while acks still have the rest of the current
//! segment, and how it resumes when space is back.
//!
//! In [`Preparer::Inline`] the same work is done within the caller's calls, so that simulations
//! are repeatable; the caller then plays the clock with [`Spare::retry`].

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::disk::{Access, Disk, DiskError, DiskFile};
use super::error::Error;
use super::scan::Window;
use super::segment::SPARE;
use super::to_usize;
use crate::limits::{FILL_CHUNK_BYTES, SEGMENT_BYTES_MIN, SPARE_RETRY_MS};

/// Who prepares the next segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preparer {
    /// A thread of its own.
    Thread,
    /// The caller of the log, within its calls: for simulation and tests.
    Inline,
}

/// Zero-filled segments, one at a time.
pub(super) struct Spare {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    disk: Arc<dyn Disk>,
    /// Size of a segment.
    bytes: u64,
    state: Mutex<State>,
    changed: Condvar,
}

enum State {
    /// The file may be in use under its temporary name: do nothing.
    Idle,
    /// To be prepared.
    Wanted,
    /// Filled and synced.
    Ready(Arc<dyn DiskFile>),
    /// To be prepared, but the disk was too full.
    NoSpace,
    /// The disk failed; told to the writer when it needs the segment.
    Failed(DiskError),
    /// The log is gone.
    Stopped,
}

impl Spare {
    /// Prepares nothing until [`replenish`](Spare::replenish).
    pub(super) fn new(disk: Arc<dyn Disk>, bytes: u64, preparer: Preparer) -> Spare {
        let (state, changed) = (Mutex::new(State::Idle), Condvar::new());
        let shared = Arc::new(Shared { disk, bytes, state, changed });
        let thread = (preparer == Preparer::Thread).then(|| {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new().name("log-spare".into()).spawn(move || shared.run())
        });
        // A system that has no thread left for us still gets its segments, only inline.
        Spare { shared, thread: thread.and_then(Result::ok) }
    }

    /// A zero-filled file of at least `needed` bytes at [`SPARE`], and its size. The caller
    /// renames it and then calls [`replenish`](Spare::replenish).
    pub(super) fn take(&mut self, needed: u64) -> Result<(Arc<dyn DiskFile>, u64), Error> {
        let file = self.wait_ready()?;
        if needed <= self.shared.bytes {
            return Ok((file, self.shared.bytes));
        }
        match self.shared.grow(&file, needed) {
            Ok(true) => Ok((file, needed)),
            Ok(false) => {
                self.shared.set(State::Ready(file));
                Err(Error::NoSpace)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// As [`take`](Spare::take), but on a full disk a smaller segment will do: a store must
    /// open even then, so that what it holds can be read and acknowledged away.
    pub(super) fn take_any(&mut self, needed: u64) -> Result<(Arc<dyn DiskFile>, u64), Error> {
        let mut bytes = self.shared.bytes.max(needed);
        loop {
            let least = needed.max(SEGMENT_BYTES_MIN);
            match self.shared.fill(bytes)? {
                Some(file) => return Ok((file, bytes)),
                None if bytes <= least => return Err(Error::NoSpace),
                None => bytes = (bytes / 2).max(least),
            }
        }
    }

    /// Asks for the next segment.
    pub(super) fn replenish(&mut self) {
        self.shared.set(State::Wanted);
        self.work_inline();
    }

    /// Tries again now, after the disk was too full, instead of at the next second.
    pub(super) fn retry(&mut self) {
        if self.is_out_of_space() {
            self.replenish();
        }
    }

    pub(super) fn is_out_of_space(&self) -> bool {
        matches!(*self.shared.state(), State::NoSpace)
    }

    /// Bytes of each segment that is prepared.
    pub(super) fn segment_bytes(&self) -> u64 {
        self.shared.bytes
    }

    /// Bytes that the spare takes on the disk.
    pub(super) fn bytes(&self) -> u64 {
        match *self.shared.state() {
            State::Ready(_) => self.shared.bytes,
            _ => 0,
        }
    }

    fn work_inline(&self) {
        if self.thread.is_none() {
            self.shared.work();
        }
    }

    fn wait_ready(&mut self) -> Result<Arc<dyn DiskFile>, Error> {
        let mut state = self.shared.state();
        loop {
            match std::mem::replace(&mut *state, State::Idle) {
                State::Ready(file) => return Ok(file),
                State::Failed(error) => return Err(error.into()),
                State::Wanted => *state = State::Wanted,
                State::NoSpace => {
                    *state = State::NoSpace;
                    return Err(Error::NoSpace);
                }
                State::Idle | State::Stopped => unreachable!("the next segment was asked for"),
            }
            state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        self.shared.set(State::Stopped);
        if let Some(thread) = self.thread.take() {
            // It can only have ended by a panic, and that is reported where it happened.
            drop(thread.join());
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, state: State) {
        *self.state() = state;
        self.changed.notify_all();
    }

    /// The thread: prepares whenever asked to, until the log is gone.
    fn run(&self) {
        loop {
            let state = self.state();
            let state = match *state {
                State::Stopped => return,
                State::Wanted => {
                    drop(state);
                    self.work();
                    continue;
                }
                State::NoSpace => {
                    let pause = Duration::from_millis(SPARE_RETRY_MS);
                    let waited = self.changed.wait_timeout(state, pause);
                    let (mut state, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
                    if timeout.timed_out() && matches!(*state, State::NoSpace) {
                        *state = State::Wanted;
                    }
                    continue;
                }
                _ => state,
            };
            drop(self.changed.wait(state));
        }
    }

    /// Prepares the segment that is wanted and says how it went.
    fn work(&self) {
        let done = match self.fill(self.bytes) {
            Ok(Some(file)) => State::Ready(file),
            Ok(None) => State::NoSpace,
            Err(error) => State::Failed(error),
        };
        let mut state = self.state();
        if matches!(*state, State::Wanted) {
            *state = done;
        }
        self.changed.notify_all();
    }

    /// A synced file of `bytes` zeros. `None`: the disk is too full.
    fn fill(&self, bytes: u64) -> Result<Option<Arc<dyn DiskFile>>, DiskError> {
        let file = match self.disk.open(SPARE, Access::Write) {
            // A spare that an earlier reign left is as good as new if it is nothing but zeros.
            Ok(file) if file.len()? <= bytes && all_zero(&*file)? => Ok(file),
            Ok(_) => self.disk.create(SPARE),
            Err(error) if error.is_not_found() => self.disk.create(SPARE),
            Err(error) => Err(error),
        };
        let file = match file {
            // A name takes up room, too.
            Err(error) if error.is_no_space() => return Ok(None),
            file => file?,
        };
        Ok(self.grow(&file, bytes)?.then_some(file))
    }

    /// Fills the file with zeros up to `bytes` and syncs it. `false`: the disk is too full, and
    /// the file is as long as before.
    fn grow(&self, file: &Arc<dyn DiskFile>, bytes: u64) -> Result<bool, DiskError> {
        let before = file.len()?;
        // Asking first: what we would fill up in vain is space that others need.
        if self.disk.available_bytes()? < bytes.saturating_sub(before) {
            return Ok(false);
        }
        match self.write_zeros(&**file, before, bytes) {
            Ok(()) => Ok(true),
            Err(error) if error.is_no_space() => {
                file.set_len(before)?;
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Writes zeros from `from` to `to`, durably unless the log ends meanwhile.
    fn write_zeros(&self, file: &dyn DiskFile, from: u64, to: u64) -> Result<(), DiskError> {
        let zeros = vec![0; to_usize(to.saturating_sub(from)).min(FILL_CHUNK_BYTES)];
        let mut at = from;
        while at < to && !matches!(*self.state(), State::Stopped) {
            let part = to_usize(to - at).min(zeros.len());
            file.write_all_at(&zeros[..part], at)?;
            at += part as u64;
            // Piece by piece: 64 MiB at once would keep the disk from the log's own syncs, and
            // so the clients from their replies, for tens of milliseconds.
            file.sync_data()?;
        }
        // Also when nothing was missing: an earlier reign may not have come to it.
        file.sync_data()
    }
}

fn all_zero(file: &dyn DiskFile) -> Result<bool, DiskError> {
    Ok(Window::new(file, 0)?.first_nonzero(0)?.is_none())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::SimDisk;

    const BYTES: u64 = SEGMENT_BYTES_MIN;

    fn spare(disk: &SimDisk, preparer: Preparer) -> Spare {
        let mut spare = Spare::new(Arc::new(disk.handle()), BYTES, preparer);
        spare.replenish();
        spare
    }

    #[test]
    fn thread_prepares_ahead_and_what_an_earlier_reign_left_is_used_again() {
        let disk = SimDisk::new(1);
        let (file, bytes) = spare(&disk, Preparer::Thread).take(1).expect("prepared");
        assert_eq!((file.len().expect("len"), bytes), (BYTES, BYTES));
        let calls = disk.calls();
        spare(&disk, Preparer::Inline).take(1).expect("prepared");
        assert_eq!(disk.calls(), calls + 1, "nothing is filled again, only synced");
    }

    #[test]
    fn spare_that_is_not_all_zeros_is_filled_anew() {
        let disk = SimDisk::new(1);
        drop(spare(&disk, Preparer::Inline));
        disk.flip(SPARE, 8 * 50_000);
        spare(&disk, Preparer::Inline).take(1).expect("prepared");
        assert_eq!(disk.bytes(SPARE), Some(vec![0; to_usize(BYTES)]));
    }

    #[test]
    fn larger_need_grows_the_spare_or_leaves_it_ready() {
        let disk = SimDisk::new(1);
        let mut spare = spare(&disk, Preparer::Inline);
        disk.set_capacity(2 * BYTES);
        assert!(matches!(spare.take(3 * BYTES), Err(Error::NoSpace)));
        let (file, bytes) = spare.take(2 * BYTES).expect("it fits");
        assert_eq!((file.len().expect("len"), bytes), (2 * BYTES, 2 * BYTES));
    }

    #[test]
    fn full_disk_is_left_as_full_as_it_was_and_tried_again() {
        let disk = SimDisk::new(1);
        disk.set_capacity(BYTES - 1);
        let mut spare = spare(&disk, Preparer::Inline);
        assert!(spare.is_out_of_space());
        assert_eq!(disk.bytes(SPARE), Some(Vec::new()));
        assert!(matches!(spare.take(1), Err(Error::NoSpace)));
        disk.set_capacity(BYTES);
        spare.retry();
        assert!(!spare.is_out_of_space());
        spare.take(1).expect("prepared");
    }
}
