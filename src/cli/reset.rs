//! `sillage reset` and `serve --reset`: clear a store.
//!
//! Only what belongs to a store is removed, and only from a directory that is one. The
//! superblocks go last: a reset that is cut short leaves a directory that still shows that it
//! is a store, that does not open, and that can be reset again.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::cli::failure::{Exit, Failure};
use crate::cli::settings_args::SettingArgs;
use crate::cli::store_fault::StoreFault;
use crate::cli::store_files::{
    LOCK_FILE, LOG_DIRECTORY, LOG_EXTENSIONS, OTHER_DIRECTORIES, SUPER_FILES, StoreLock,
    WATERMARK_FILE,
};

/// Clear a store: remove every formula, message and quarantined copy in it
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  sillage reset --data ./sillage-data --yes")]
pub(crate) struct ResetArgs {
    /// The directory of the store [default: ./sillage-data] [env: SILLAGE_DATA]
    #[arg(long, value_name = "DIR")]
    data: Option<String>,
    /// A TOML file of settings that may name the directory [env: SILLAGE_CONFIG]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Really do it
    #[arg(long)]
    yes: bool,
}

/// Clears the store that the arguments name.
pub(crate) fn run(arguments: &ResetArgs, out: &mut impl Write) -> Result<Exit, Failure> {
    let settings =
        SettingArgs::of_directory(arguments.data.clone(), arguments.config.clone()).load()?;
    let directory = settings.config.data;
    if !arguments.yes {
        return Err(Failure::NotConfirmed { directory });
    }
    if !clear_if_any(&directory)? {
        return Err(Failure::of_store(&directory)(StoreFault::NoStore));
    }
    writeln!(out, "cleared {}", directory.display()).map_err(Failure::Output)?;
    Ok(Exit::Success)
}

/// Clears the store in the directory; gives whether there was anything to clear.
///
/// # Errors
/// If the directory holds something other than a store, is locked, or cannot be changed.
pub(crate) fn clear_if_any(directory: &Path) -> Result<bool, Failure> {
    match look_at(directory).map_err(io_fault(directory))? {
        Contents::Nothing => Ok(false),
        Contents::Other => Err(Failure::NotAStore { directory: directory.to_owned() }),
        Contents::Store => {
            let lock = StoreLock::take(directory).map_err(Failure::of_store(directory))?;
            clear(directory).map_err(io_fault(directory))?;
            drop(lock);
            Ok(true)
        }
    }
}

fn io_fault(directory: &Path) -> impl FnOnce(io::Error) -> Failure {
    let path = directory.to_owned();
    move |error| Failure::of_store(&path.clone())(StoreFault::Io { verb: "clear", path, error })
}

/// What a directory holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Contents {
    /// It does not exist, or holds no more than a lock file and an empty log.
    Nothing,
    /// A store, or what a broken start or reset left of one.
    Store,
    /// Something that is not ours.
    Other,
}

fn look_at(directory: &Path) -> io::Result<Contents> {
    let has_super = SUPER_FILES.iter().any(|name| directory.join(name).is_file());
    let log = entries(&directory.join(LOG_DIRECTORY))?;
    let is_of_a_log = |path: &PathBuf| {
        path.extension().is_some_and(|end| LOG_EXTENSIONS.iter().any(|ours| end == *ours))
    };
    if has_super || (!log.is_empty() && log.iter().all(is_of_a_log)) {
        return Ok(Contents::Store);
    }
    let is_lock = |path: &PathBuf| path.ends_with(LOCK_FILE);
    let is_empty_log = |path: &PathBuf| path.ends_with(LOG_DIRECTORY) && log.is_empty();
    let all = entries(directory)?;
    let is_bare = all.iter().all(|path| is_lock(path) || is_empty_log(path));
    Ok(if is_bare { Contents::Nothing } else { Contents::Other })
}

/// The paths in a directory; none if it does not exist.
fn entries(directory: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(directory) {
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Removes what belongs to the store. The lock file stays: whoever waits for it must find the
/// same file.
fn clear(directory: &Path) -> io::Result<()> {
    for name in [LOG_DIRECTORY].iter().chain(&OTHER_DIRECTORIES) {
        clear_directory(&directory.join(name))?;
    }
    remove_file_if_any(&directory.join(WATERMARK_FILE))?;
    // What was removed so far must be gone for good before the superblocks are.
    sync_directory(directory)?;
    for name in SUPER_FILES {
        remove_file_if_any(&directory.join(name))?;
    }
    sync_directory(directory)
}

fn clear_directory(directory: &Path) -> io::Result<()> {
    if !directory.is_dir() {
        return Ok(());
    }
    for path in entries(directory)? {
        if path.symlink_metadata()?.is_dir() {
            fs::remove_dir_all(&path)?;
        } else {
            fs::remove_file(&path)?;
        }
    }
    sync_directory(directory)?;
    // A mount point or a link cannot be removed like this; empty, it does no harm.
    let _stays = fs::remove_dir(directory);
    Ok(())
}

fn remove_file_if_any(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}
