//! `sillage compact`: a snapshot of a store that nobody serves, so that its log can go.

use std::io::Write;
use std::path::{Path, PathBuf};

use crate::cli::examine;
use crate::cli::failure::{Exit, Failure};
use crate::cli::settings_args::SettingArgs;
use crate::cli::store::{Store, StoreSettings};
use crate::cli::store_fault::StoreFault;
use crate::cli::store_files::SUPER_FILES;
use crate::cli::system;
use crate::engine::SnapshotReport;
use crate::engine::command::Rejection;

/// Take a snapshot of a store that nobody serves, and remove the log that it covers
///
/// A server does so by itself while it runs, when its log has grown; POST /admin/snapshot does it
/// at once. Two snapshots are kept, so what is removed is what the older one covers: space comes
/// back with the second run. Nothing that is stored is lost or changed.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  sillage compact ./sillage-data

It may be killed at any time: the store then opens from the snapshot before.

Exit codes: 0 done, 2 there is no store, 65 the store is damaged, 74 the disk failed or is full,
75 the store is in use.")]
pub(crate) struct CompactArgs {
    /// The directory of the store
    directory: PathBuf,
}

/// Compacts the store that the arguments name.
pub(crate) fn run(arguments: &CompactArgs, out: &mut impl Write) -> Result<Exit, Failure> {
    let directory = &arguments.directory;
    // Opening would make a store where there is none.
    if !SUPER_FILES.iter().any(|name| directory.join(name).is_file()) {
        return Err(Failure::of_store(directory)(StoreFault::NoStore));
    }
    let SnapshotReport { lsn, formulas, bytes, took_ms } = compacted(directory)?;
    let (directory, seconds) = (directory.display(), std::time::Duration::from_millis(took_ms));
    writeln!(
        out,
        "compacted {directory}: snapshot at LSN {lsn}, {formulas} formulas, {bytes} bytes, in \
         {seconds:.1?}"
    )
    .map_err(Failure::Output)?;
    Ok(Exit::Success)
}

fn compacted(directory: &Path) -> Result<SnapshotReport, Failure> {
    let data = directory.to_string_lossy().into_owned();
    let config = SettingArgs::of_directory(Some(data), None).load()?.config;
    let settings = StoreSettings::of(&config, system::fresh_seed()?);
    let store = Store::open(directory, settings).map_err(Failure::of_store(directory))?;
    let engine = store.engine();
    let report = system::runtime()?.block_on(engine.snapshot());
    // The log is closed when the last handle is gone.
    drop(engine);
    let closed = store.close(directory).map_err(Failure::of_store(directory));
    match report {
        Ok(report) => closed.map(|_| report),
        Err(Rejection::Unmade) => Err(why_unmade(directory)),
        Err(rejection) => Err(Failure::of_rejection(directory, rejection)),
    }
}

/// Nearly always what should go into the snapshot is damaged: then that is what to tell, with
/// file and remedy.
fn why_unmade(directory: &Path) -> Failure {
    let looked = examine::disk(directory).and_then(|disk| examine::sound(directory, &disk));
    let other = |_| StoreFault::Io {
        verb: "write a snapshot in",
        path: directory.to_owned(),
        error: std::io::ErrorKind::Other.into(),
    };
    Failure::of_store(directory)(looked.map_or_else(|fault| fault, other))
}
