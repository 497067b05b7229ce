//! What the files of a store occupy, and how to start without a page cache.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{Advice, fadvise};

/// Bytes that the files below `directory` occupy on disk.
pub(crate) fn disk_bytes(directory: &Path) -> u64 {
    let mut total = 0;
    walk(directory, &mut |file| {
        total += fs::metadata(file)?.blocks() * 512;
        Ok(())
    })
    .expect("a data directory can be walked through");
    total
}

/// Lets the page cache forget the files below `directory`, so that the next reader waits for
/// the disk.
pub(crate) fn forget_cached(directory: &Path) {
    walk(directory, &mut |file| {
        let file = fs::File::open(file)?;
        file.sync_all()?;
        Ok(fadvise(&file, 0, None, Advice::DontNeed)?)
    })
    .expect("a data directory can be walked through");
}

/// Calls `visit` for every file below `directory`.
fn walk(directory: &Path, visit: &mut impl FnMut(&Path) -> io::Result<()>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            walk(&entry.path(), visit)?;
        } else {
            visit(&entry.path())?;
        }
    }
    Ok(())
}
