//! `sillage restore`: a data directory from a backup, or nothing at all.
//!
//! ```text
//! FILE ── read to its end: whole? ──► FILE ── again ──► .DIR.restore-…/ ── check ──► DIR
//! ```
//!
//! Nothing is written before the whole archive was found to be sound. What is extracted then goes
//! into a directory beside DIR, where the store is checked as `sillage check` does; it becomes DIR
//! by a rename. So whatever happens, DIR is complete, or is as it was.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufReader, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use indicatif::ProgressBar;
use tempfile::TempDir;

use crate::cli::archive::{self, ArchiveFault, Discard, Manifest, ManifestFile, Sink, SinkFault};
use crate::cli::copy_fault::CopyFault;
use crate::cli::examine;
use crate::cli::failure::{Exit, Failure};
use crate::cli::part_file::sync_parent;
use crate::cli::progress;
use crate::limits::BACKUP_CHUNK_BYTES;
use crate::log::{Disk as _, OsDisk};

/// The store is its owner's alone.
const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// Make a data directory out of a backup
///
/// The whole backup is verified before anything is written, and the store in it is checked before
/// it gets its name: DIR is complete, or it is not there. DIR must not exist, or be empty. The
/// next `sillage serve --data DIR` begins a new epoch. Leases that stood when the backup was
/// taken go on with their receipts; receipts that the first store gave out later ack nothing here.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  sillage restore sillage-2026-11-21.tar /srv/sillage

A run that is killed may leave a directory `.DIR.restore-...` beside DIR, which can be removed.

Exit codes: 0 restored, 2 DIR is in the way, 65 the backup is damaged, 74 the disk failed.")]
pub(crate) struct RestoreArgs {
    /// The backup
    file: PathBuf,
    /// The directory to make
    directory: PathBuf,
}

/// Restores what the arguments name.
pub(crate) fn run(arguments: &RestoreArgs, out: &mut impl Write) -> Result<Exit, Failure> {
    let target = Target::of(&arguments.directory)?;
    let path = &arguments.file;
    let bad = |fault| match fault {
        ArchiveFault::Unwritable(SinkFault { path, error }) => Failure::Unwritable { path, error },
        fault => CopyFault::BadBackup { path: path.clone(), fault }.into(),
    };
    let manifest = read(path, &mut Discard).map_err(bad)?;
    let temporary = target.temporary(manifest.bytes())?;
    let mut extract = Extract { root: temporary.path(), file: None };
    let extracted = read(path, &mut extract).map_err(bad)?;
    if extracted != manifest {
        return Err(CopyFault::Changed { path: path.clone() }.into());
    }
    let root = temporary.path();
    let unsound = |fault| CopyFault::Unsound { path: path.clone(), fault: Box::new(fault) };
    let found = examine::check(root).map_err(unsound)?;
    if found.lsn != manifest.lsn {
        let (is, should_be) = (found.lsn, manifest.lsn);
        return Err(CopyFault::OtherLsn { path: path.clone(), is, should_be }.into());
    }
    target.put(temporary)?;
    let directory = arguments.directory.display();
    let (lsn, formulas, messages) = (found.lsn, found.formulas, found.messages);
    writeln!(
        out,
        "restored {directory}: store {} up to LSN {lsn}, {formulas} formulas, {messages} messages",
        manifest.store
    )
    .map_err(Failure::Output)?;
    Ok(Exit::Success)
}

fn read(path: &Path, sink: &mut impl Sink) -> Result<Manifest, ArchiveFault> {
    let file = File::open(path).map_err(ArchiveFault::Unreadable)?;
    let bytes = file.metadata().map_err(ArchiveFault::Unreadable)?.len();
    let bar: ProgressBar = progress::of_bytes(Some(bytes));
    let read =
        archive::read(bar.wrap_read(BufReader::with_capacity(BACKUP_CHUNK_BYTES, file)), sink);
    bar.finish_and_clear();
    read
}

/// Where the store is to stand.
struct Target {
    directory: PathBuf,
    parent: PathBuf,
}

impl Target {
    /// # Errors
    /// If there is something already.
    fn of(directory: &Path) -> Result<Target, Failure> {
        let unwritable = |error| Failure::Unwritable { path: directory.to_owned(), error };
        let in_the_way = || CopyFault::InTheWay { path: directory.to_owned() }.into();
        match fs::read_dir(directory).map(|mut entries| entries.next().is_none()) {
            Ok(true) => {}
            Ok(false) => return Err(in_the_way()),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                if directory.symlink_metadata().is_ok() {
                    return Err(in_the_way());
                }
            }
            Err(error) if error.kind() == ErrorKind::NotADirectory => {
                return Err(in_the_way());
            }
            Err(error) => return Err(unwritable(error)),
        }
        let absolute = std::path::absolute(directory).map_err(unwritable)?;
        let Some(parent) = absolute.parent().map(Path::to_owned) else {
            return Err(in_the_way());
        };
        Ok(Target { directory: absolute, parent })
    }

    /// A directory beside it with room for this many bytes; removed when it is dropped.
    fn temporary(&self, bytes: u64) -> Result<TempDir, Failure> {
        let unwritable = |error| Failure::Unwritable { path: self.parent.clone(), error };
        let disk = OsDisk::create(&self.parent).map_err(|error| unwritable(error.source))?;
        let available = disk.available_bytes().map_err(|error| unwritable(error.source))?;
        if available < bytes {
            return Err(CopyFault::NoRoom { path: self.parent.clone(), bytes, available }.into());
        }
        let name = self.directory.file_name().unwrap_or_default().to_string_lossy();
        let prefix = format!(".{name}.restore-");
        tempfile::Builder::new().prefix(&prefix).tempdir_in(&self.parent).map_err(unwritable)
    }

    /// Gives the complete directory its name, for good.
    fn put(&self, temporary: TempDir) -> Result<(), Failure> {
        let unwritable = |error| Failure::Unwritable { path: self.directory.clone(), error };
        sync_tree(temporary.path()).map_err(unwritable)?;
        // Takes the place of an empty directory, and of nothing else.
        fs::rename(temporary.path(), &self.directory).map_err(unwritable)?;
        // It has gone: there is nothing to be removed.
        let _moved = temporary.keep();
        sync_parent(&self.directory).map_err(unwritable)
    }
}

/// Makes the names below a directory durable. The files themselves were synced when closed.
fn sync_tree(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_tree(&entry.path())?;
        }
    }
    File::open(directory)?.sync_all()
}

/// Writes the files of an archive below a directory. Their names were vetted.
struct Extract<'a> {
    root: &'a Path,
    file: Option<(PathBuf, File)>,
}

impl Extract<'_> {
    fn open_file(&self) -> (&PathBuf, &File) {
        let (path, file) = self.file.as_ref().expect("a file is open while its bytes come");
        (path, file)
    }
}

impl Sink for Extract<'_> {
    fn begin(&mut self, _manifest: &Manifest) -> Result<(), SinkFault> {
        Ok(())
    }

    fn open(&mut self, file: &ManifestFile) -> Result<(), SinkFault> {
        let path = self.root.join(&file.name);
        let fault = |error| SinkFault { path: path.clone(), error };
        let parent = path.parent().unwrap_or(self.root);
        DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(parent).map_err(fault)?;
        let mut options = OpenOptions::new();
        let options = options.write(true).create_new(true).mode(FILE_MODE);
        let opened = options.open(&path).map_err(fault)?;
        self.file = Some((path, opened));
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), SinkFault> {
        let (path, mut file) = self.open_file();
        file.write_all(bytes).map_err(|error| SinkFault { path: path.clone(), error })
    }

    fn close(&mut self) -> Result<(), SinkFault> {
        let (path, file) = self.open_file();
        file.sync_all().map_err(|error| SinkFault { path: path.clone(), error })?;
        self.file = None;
        Ok(())
    }
}
