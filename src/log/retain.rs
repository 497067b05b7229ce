//! Removing what is no longer needed, unless somebody still reads it.
//!
//! After a snapshot is installed, SUPER asks for fewer files. [`Obsolete`] names those it does
//! not ask for any more; a thread that may wait for the disk removes them. A backup holds a
//! [`Retain`] while it reads: files are then removed when the last one is dropped. What is left
//! behind by a crash in between is removed by the next opening.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::disk::{Disk, DiskError};
use super::recovery::segment_names;
use super::segment;
use super::snapshot::{self, SNAPSHOTS};
use super::superblock::Super;

/// Keeps files while they are read.
pub(super) struct Keeper {
    disk: Arc<dyn Disk>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    holders: usize,
    /// To be removed by the last of them.
    paths: Vec<Box<str>>,
}

impl Keeper {
    pub(super) fn new(disk: Arc<dyn Disk>) -> Arc<Keeper> {
        Arc::new(Keeper { disk, state: Mutex::default() })
    }

    /// From now on nothing is removed, until the guard is dropped.
    pub(super) fn retain(self: &Arc<Keeper>) -> Retain {
        self.state().holders += 1;
        Retain { keeper: Arc::clone(self) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// While it is alive, no file that was part of the store when it was made is removed.
pub struct Retain {
    keeper: Arc<Keeper>,
}

impl Retain {
    /// Another guard for the same files.
    pub(super) fn again(&self) -> Retain {
        self.keeper.retain()
    }
}

impl Drop for Retain {
    fn drop(&mut self) {
        let mut state = self.keeper.state();
        state.holders -= 1;
        if state.holders > 0 {
            return;
        }
        let paths = std::mem::take(&mut state.paths);
        drop(state);
        // Nobody is left to tell. What could not be removed is found by the next opening.
        drop(remove_all(&*self.keeper.disk, &paths));
    }
}

/// Files that the store does not need any more. Dropping it leaves them to the next opening.
#[must_use = "the files stay until they are removed"]
pub struct Obsolete {
    pub(super) paths: Vec<Box<str>>,
    pub(super) keeper: Arc<Keeper>,
}

impl Obsolete {
    /// The files, relative to the data directory.
    #[must_use]
    pub fn paths(&self) -> &[Box<str>] {
        &self.paths
    }

    /// Removes the files, or leaves that to the last [`Retain`] that is alive. May take a
    /// while: not for the thread that writes the log.
    ///
    /// # Errors
    /// When the disk fails. The store is as good as before, only larger.
    pub fn remove(self) -> Result<(), DiskError> {
        let mut state = self.keeper.state();
        // A backup that begins after this look does not read these files: SUPER had let go of
        // them before we came to exist. So the lock need not be held while they are removed.
        if state.holders > 0 {
            state.paths.extend(self.paths);
            return Ok(());
        }
        drop(state);
        remove_all(&*self.keeper.disk, &self.paths)
    }
}

/// Removes what SUPER does not ask for: left by a crash before it was removed, or half written.
/// What cannot be removed stays for the next time.
pub(super) fn tidy(disk: &dyn Disk, current: &Super) -> Result<(), DiskError> {
    let segments = segment_names(disk)?.into_iter().filter(|first| *first < current.oldest);
    let mut paths: Vec<Box<str>> = segments.map(|first| segment::path(first).into()).collect();
    for name in names(disk, SNAPSHOTS)? {
        let lsn = snapshot::parse_name(&name);
        let is_named = lsn.is_some_and(|lsn| current.named().any(|named| named.lsn == lsn));
        // Other names are not ours to remove.
        if name.ends_with(".tmp") || (lsn.is_some() && !is_named) {
            paths.push(format!("{SNAPSHOTS}/{name}").into());
        }
    }
    remove_all(disk, &paths)
}

/// The names in a directory; none when it is not there.
pub(super) fn names(disk: &dyn Disk, dir: &str) -> Result<Vec<Box<str>>, DiskError> {
    match disk.list(dir) {
        Err(error) if error.is_not_found() => Ok(Vec::new()),
        listed => listed,
    }
}

/// Removes all that can be removed; the first failure is the one that is told.
fn remove_all(disk: &dyn Disk, paths: &[Box<str>]) -> Result<(), DiskError> {
    let mut ended = Ok(());
    for path in paths {
        match disk.remove(path) {
            Err(error) if error.is_not_found() => {}
            removed => ended = ended.and(removed),
        }
    }
    for dir in [segment::DIR, SNAPSHOTS] {
        if paths.iter().any(|path| path.starts_with(dir)) {
            ended = ended.and(disk.sync_dir(dir));
        }
    }
    ended
}
