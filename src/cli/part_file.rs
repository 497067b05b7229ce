//! A file that appears under its name only when it is complete.
//!
//! It is written as `NAME.part` beside its place, synced, renamed, and the directory synced: so
//! whoever finds `NAME` finds all of it, and a run that was interrupted leaves a part, which the
//! next one writes over.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FlockOperation, RenameFlags, flock, renameat_with};
use rustix::io::Errno;

/// Readable by its owner alone: formulas are trade secrets.
const MODE: u32 = 0o600;

/// What to do with a file that has the name already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Existing {
    /// Leave it as it is and fail.
    Keep,
    /// Put the new one in its place.
    Replace,
}

/// A file under way. Dropped before it is complete, it is removed.
#[derive(Debug)]
pub(crate) struct PartFile {
    path: PathBuf,
    part: PathBuf,
    existing: Existing,
    /// Locked, so that two runs do not write into one part.
    file: File,
    is_complete: bool,
}

impl PartFile {
    /// Begins a file that is to stand at `path`.
    ///
    /// # Errors
    /// `AlreadyExists` if there is one that is to be kept, `WouldBlock` if another run writes it
    /// right now, and whatever the system says.
    pub(crate) fn begin(path: &Path, existing: Existing) -> io::Result<PartFile> {
        if path.is_dir() {
            return Err(ErrorKind::IsADirectory.into());
        }
        if existing == Existing::Keep && path.symlink_metadata().is_ok() {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let mut name = path.file_name().map_or_else(OsString::new, OsString::from);
        name.push(".part");
        let part = path.with_file_name(name);
        let mut options = OpenOptions::new();
        let options = options.write(true).create(true).truncate(false).mode(MODE);
        let file = options.open(&part)?;
        // Locked before it is emptied: it may be somebody else's.
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        if !is_at(&file, &part)? {
            // Whoever had the lock has completed it, and it stands elsewhere now.
            return Err(ErrorKind::WouldBlock.into());
        }
        file.set_len(0)?;
        Ok(PartFile { path: path.to_owned(), part, existing, file, is_complete: false })
    }

    /// Where to write.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Makes it durable under its name.
    ///
    /// # Errors
    /// As [`PartFile::begin`]: somebody may have put a file there meanwhile.
    pub(crate) fn complete(mut self) -> io::Result<()> {
        self.file.sync_all()?;
        match self.existing {
            Existing::Replace => fs::rename(&self.part, &self.path)?,
            Existing::Keep => rename_if_free(&self.part, &self.path)?,
        }
        self.is_complete = true;
        sync_parent(&self.path)
    }
}

impl Drop for PartFile {
    fn drop(&mut self) {
        if !self.is_complete {
            // It is of no use to anybody, and the next run would write over it.
            let _removed = fs::remove_file(&self.part);
        }
    }
}

/// Whether this very file has the name.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let (open, named) = (file.metadata()?, path.symlink_metadata()?);
    Ok((open.dev(), open.ino()) == (named.dev(), named.ino()))
}

fn rename_if_free(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // Some file systems cannot do it in one step.
        Err(Errno::INVAL | Errno::NOSYS) if to.symlink_metadata().is_err() => fs::rename(from, to),
        renamed => Ok(renamed?),
    }
}

/// Makes the names in the directory of `path` durable.
///
/// # Errors
/// Whatever the system says.
pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn content(path: &Path) -> Option<String> {
        fs::read_to_string(path).ok()
    }

    #[test]
    fn file_appears_when_it_is_complete_and_not_before() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("x.tar");
        let part = PartFile::begin(&path, Existing::Keep).expect("nothing is there");
        part.file().write_all(b"one").expect("written");
        assert_eq!(content(&path), None);
        part.complete().expect("completed");
        assert_eq!(content(&path), Some("one".to_owned()));
        assert_eq!(fs::read_dir(directory.path()).expect("listed").count(), 1);
    }

    #[test]
    fn what_is_there_is_kept_unless_it_is_to_be_replaced() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("x.tar");
        let early = PartFile::begin(&path, Existing::Keep).expect("nothing is there");
        fs::write(&path, "old").expect("written");
        let error = early.complete().expect_err("somebody was faster");
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        let error = PartFile::begin(&path, Existing::Keep).expect_err("it is there");
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        assert_eq!(content(&path), Some("old".to_owned()));
        let part = PartFile::begin(&path, Existing::Replace).expect("begun");
        part.file().write_all(b"new").expect("written");
        part.complete().expect("completed");
        assert_eq!(content(&path), Some("new".to_owned()));
    }

    #[test]
    fn two_runs_do_not_write_into_one_part() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("x.tar");
        let first = PartFile::begin(&path, Existing::Replace).expect("begun");
        let error = PartFile::begin(&path, Existing::Replace).expect_err("the first is at it");
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        drop(first);
        assert_eq!(fs::read_dir(directory.path()).expect("listed").count(), 0);
    }
}
