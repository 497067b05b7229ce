//! A directory of the operating system as a [`Disk`].
//!
//! Reads and writes go through the page cache, at explicit offsets, so that one handle serves
//! many threads. A sync is `fdatasync`, which also writes a changed length.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSliceMut};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::FlockOperation;
use rustix::io::{Errno, ReadWriteFlags};

use super::disk::{Access, Call, Disk, DiskError, DiskFile};

/// A data directory.
#[derive(Debug)]
pub struct OsDisk {
    root: PathBuf,
}

impl OsDisk {
    /// The directory at `root`, which must be there.
    ///
    /// # Errors
    /// When it is not there or not a directory.
    pub fn open(root: &Path) -> Result<OsDisk, DiskError> {
        let listed = fs::read_dir(root).map(drop);
        listed.map_err(|source| error(Call::Open, &root.to_string_lossy(), source))?;
        Ok(OsDisk { root: root.to_path_buf() })
    }

    /// The directory at `root`, created with its parents unless it is there.
    ///
    /// # Errors
    /// When it can be neither created nor made durable.
    pub fn create(root: &Path) -> Result<OsDisk, DiskError> {
        let failed = |source| error(Call::CreateDir, &root.to_string_lossy(), source);
        let root = std::path::absolute(root).map_err(failed)?;
        let there = root.ancestors().find(|above| above.is_dir()).unwrap_or(&root);
        fs::create_dir_all(&root).map_err(failed)?;
        // A new directory is durable once its name is, and that stands in its parent: sync
        // every directory that got a name, down from the lowest that was there before.
        for above in root.ancestors().skip(1).take_while(|above| above.starts_with(there)) {
            File::open(above).and_then(|dir| dir.sync_all()).map_err(failed)?;
        }
        OsDisk::open(&root)
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    fn file(path: &str, file: File) -> Arc<dyn DiskFile> {
        Arc::new(OsFile { file, path: path.into() })
    }
}

impl Disk for OsDisk {
    fn list(&self, dir: &str) -> Result<Vec<Box<str>>, DiskError> {
        let read = || -> io::Result<Vec<Box<str>>> {
            let mut names = Vec::new();
            for found in fs::read_dir(self.at(dir))? {
                names.push(found?.file_name().to_string_lossy().into());
            }
            names.sort_unstable();
            Ok(names)
        };
        read().map_err(|source| error(Call::List, dir, source))
    }

    fn open(&self, path: &str, access: Access) -> Result<Arc<dyn DiskFile>, DiskError> {
        let opened =
            OpenOptions::new().read(true).write(access == Access::Write).open(self.at(path));
        let file = opened.map_err(|source| error(Call::Open, path, source))?;
        Ok(OsDisk::file(path, file))
    }

    fn create(&self, path: &str) -> Result<Arc<dyn DiskFile>, DiskError> {
        let created = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(self.at(path));
        let file = created.map_err(|source| error(Call::Create, path, source))?;
        Ok(OsDisk::file(path, file))
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        fs::rename(self.at(from), self.at(to)).map_err(|source| error(Call::Rename, from, source))
    }

    fn remove(&self, path: &str) -> Result<(), DiskError> {
        fs::remove_file(self.at(path)).map_err(|source| error(Call::Remove, path, source))
    }

    fn create_dir(&self, path: &str) -> Result<(), DiskError> {
        match fs::create_dir(self.at(path)) {
            Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
                Err(error(Call::CreateDir, path, source))
            }
            _ => Ok(()),
        }
    }

    fn sync_dir(&self, dir: &str) -> Result<(), DiskError> {
        let synced = File::open(self.at(dir)).and_then(|open| open.sync_all());
        synced.map_err(|source| error(Call::SyncDir, dir, source))
    }

    fn try_lock(&self, path: &str) -> Result<Option<Arc<dyn DiskFile>>, DiskError> {
        let failed = |source| error(Call::Lock, path, source);
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(self.at(path));
        let file = opened.map_err(failed)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(OsDisk::file(path, file))),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(errno) => Err(failed(errno.into())),
        }
    }

    fn available_bytes(&self) -> Result<u64, DiskError> {
        match rustix::fs::statvfs(&self.root) {
            Ok(stat) => Ok(stat.f_bavail.saturating_mul(stat.f_frsize)),
            Err(errno) => Err(error(Call::Available, "", errno.into())),
        }
    }
}

struct OsFile {
    file: File,
    path: Box<str>,
}

impl OsFile {
    fn error(&self, call: Call) -> impl FnOnce(io::Error) -> DiskError {
        move |source| error(call, &self.path, source)
    }
}

impl DiskFile for OsFile {
    fn path(&self) -> &str {
        &self.path
    }

    fn read_at(&self, buf: &mut [u8], at: u64) -> Result<usize, DiskError> {
        self.file.read_at(buf, at).map_err(self.error(Call::Read))
    }

    fn read_at_cached(&self, buf: &mut [u8], at: u64) -> Result<Option<usize>, DiskError> {
        let mut into = [IoSliceMut::new(buf)];
        match rustix::io::preadv2(&self.file, &mut into, at, ReadWriteFlags::NOWAIT) {
            Ok(read) => Ok(Some(read)),
            // Some file systems do not know the flag: then every read may have to wait.
            Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::INTR | Errno::NOSYS) => Ok(None),
            Err(errno) => Err(self.error(Call::Read)(errno.into())),
        }
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> Result<usize, DiskError> {
        self.file.write_at(bytes, at).map_err(self.error(Call::Write))
    }

    fn sync_data(&self) -> Result<(), DiskError> {
        self.file.sync_data().map_err(self.error(Call::Sync))
    }

    fn set_len(&self, len: u64) -> Result<(), DiskError> {
        self.file.set_len(len).map_err(self.error(Call::SetLen))
    }

    fn len(&self) -> Result<u64, DiskError> {
        self.file.metadata().map(|found| found.len()).map_err(self.error(Call::Len))
    }
}

fn error(call: Call, path: &str, source: io::Error) -> DiskError {
    let path = if path.is_empty() { "the data directory" } else { path };
    DiskError { call, path: path.into(), source }
}
