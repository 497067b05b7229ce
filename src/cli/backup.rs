//! `sillage backup`: a consistent copy of a store that is being served, in one file.
//!
//! The archive is verified while it arrives, by the reader that `restore` uses: a thread of its
//! own writes and checks what the network brings. Only an archive that is whole, and synced, gets
//! the name that was asked for.

use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use bytes::{Buf as _, Bytes};
use indicatif::ProgressBar;

use crate::cli::archive::{self, ArchiveFault, Discard, Manifest};
use crate::cli::copy_fault::CopyFault;
use crate::cli::failure::{Exit, Failure};
use crate::cli::http_client::download::{Begun, Download};
use crate::cli::http_client::{Call, CallError, Credential, HttpClient, Server};
use crate::cli::part_file::{Existing, PartFile};
use crate::cli::retry::refusal;
use crate::cli::{progress, system};
use crate::limits::BACKUP_CHUNKS_MAX;

/// Copy a store, while it is served, into one file
///
/// The file is a tar archive with a consistent copy of the store: everything that was
/// acknowledged before the backup began, and nothing half. It is verified while it arrives. Put
/// it back with `sillage restore`; `tar xf` makes a data directory out of it as well.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sillage backup http://127.0.0.1:8080 sillage-2026-11-21.tar
  SILLAGE_TOKEN=... sillage backup http://10.0.0.5:8080 /backup/sillage.tar --force

The token needs the scope `admin`. While the backup arrives it stands in FILE.part.

Exit codes: 0 FILE is complete and verified, 2 FILE exists or the call is not allowed, 65 what
arrived is not whole, 74 the server or the disk failed.")]
pub(crate) struct BackupArgs {
    /// The server's address
    url: String,
    /// The file to write
    file: PathBuf,
    /// Replace FILE if it exists, once the new one is complete
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    credential: Credential,
}

/// Makes the backup that the arguments name.
pub(crate) fn run(arguments: &BackupArgs, out: &mut impl Write) -> Result<Exit, Failure> {
    let path = &arguments.file;
    let client = HttpClient::new(&Server::at(&arguments.url, &arguments.credential))?;
    let existing = if arguments.force { Existing::Replace } else { Existing::Keep };
    let unwritable = |error| Failure::Unwritable { path: path.clone(), error };
    let part = PartFile::begin(path, existing).map_err(unwritable)?;
    let (manifest, bytes) = system::runtime()?.block_on(fetch(&client, &part, path))?;
    part.complete().map_err(unwritable)?;
    let (store, lsn, files) = (&manifest.store, manifest.lsn, manifest.files.len());
    writeln!(
        out,
        "{}: store {store} up to LSN {lsn}, {files} files, {bytes} bytes, verified",
        path.display()
    )
    .map_err(Failure::Output)?;
    Ok(Exit::Success)
}

/// Fetches and verifies; gives what the archive says of itself, and its length.
async fn fetch(
    client: &HttpClient,
    part: &PartFile,
    path: &Path,
) -> Result<(Manifest, u64), Failure> {
    let call = Call::get("/admin/backup".to_owned());
    let mut download = match client.download(&call, "application/x-tar").await? {
        Begun::Download(download) => download,
        Begun::Refused(answer) => return Err(refusal(&answer)),
    };
    let bar = progress::of_bytes(download.bytes());
    let (pieces, inbox) = sync_channel(BACKUP_CHUNKS_MAX);
    let file = part.file().try_clone();
    let file = file.map_err(|error| Failure::Unwritable { path: path.to_owned(), error })?;
    let verifier = thread::spawn(move || verify(Arriving::new(inbox, file)));
    let arrived = pass_on(&mut download, &pieces, &bar).await;
    drop(pieces);
    let (verified, unwritten) = match verifier.join() {
        Ok(ended) => ended,
        Err(panic) => std::panic::resume_unwind(panic),
    };
    bar.finish_and_clear();
    // The first cause comes first: a download that breaks off leaves an archive that is cut
    // short, and a disk that is full ends the download.
    if let Some(error) = unwritten {
        return Err(Failure::Unwritable { path: path.to_owned(), error });
    }
    let bytes = arrived?;
    match verified {
        Ok(manifest) => Ok((manifest, bytes)),
        Err(fault) => Err(CopyFault::BadArrival { url: client.base().to_owned(), fault }.into()),
    }
}

/// Hands the pieces over until the end, or until nobody takes them.
async fn pass_on(
    download: &mut Download,
    pieces: &SyncSender<Bytes>,
    bar: &ProgressBar,
) -> Result<u64, CallError> {
    let mut bytes = 0;
    while let Some(piece) = download.next().await? {
        bytes += piece.len() as u64;
        bar.inc(piece.len() as u64);
        // Waits for the disk. Nothing else runs on this thread than the download itself.
        if pieces.send(piece).is_err() {
            break;
        }
    }
    Ok(bytes)
}

/// What the archive is, and why it could not be written if it could not.
fn verify(
    mut arriving: Arriving<impl Write>,
) -> (Result<Manifest, ArchiveFault>, Option<io::Error>) {
    let verified = archive::read(&mut arriving, &mut Discard);
    (verified, arriving.unwritten)
}

/// What arrives: written to the file as it is read.
struct Arriving<W> {
    inbox: Receiver<Bytes>,
    piece: Bytes,
    file: W,
    /// Why the file takes no more.
    unwritten: Option<io::Error>,
}

impl<W: Write> Arriving<W> {
    fn new(inbox: Receiver<Bytes>, file: W) -> Arriving<W> {
        Arriving { inbox, piece: Bytes::new(), file, unwritten: None }
    }
}

impl<W: Write> Read for Arriving<W> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.inbox.recv() {
                Ok(piece) => {
                    if let Err(error) = self.file.write_all(&piece) {
                        self.unwritten = Some(error);
                        return Err(ErrorKind::Other.into());
                    }
                    self.piece = piece;
                }
                Err(_) => return Ok(0),
            }
        }
        let bytes = buffer.len().min(self.piece.len());
        self.piece.copy_to_slice(&mut buffer[..bytes]);
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::archive::tests::{archive, written};

    fn arrive(bytes: &[u8], file: impl Write) -> (bool, Option<io::Error>) {
        let (pieces, inbox) = sync_channel(bytes.len() / 100 + 1);
        for piece in bytes.chunks(100) {
            pieces.send(Bytes::copy_from_slice(piece)).expect("there is room");
        }
        drop(pieces);
        let (verified, unwritten) = verify(Arriving::new(inbox, file));
        (verified.is_ok(), unwritten)
    }

    #[test]
    fn what_arrives_is_written_as_it_is_and_verified() {
        let empty = [("SUPER.a", b"".as_slice()), ("SUPER.b", b""), ("WATERMARK", b"x")];
        let bytes = written(archive(&empty));
        let mut file = Vec::new();
        assert!(arrive(&bytes, &mut file).0);
        assert_eq!(file, bytes);
        assert!(!arrive(&bytes[..bytes.len() - 1], &mut Vec::new()).0);
    }

    #[test]
    fn file_that_takes_no_more_is_told_apart_from_a_bad_archive() {
        let bytes = written(archive(&[("SUPER.a", &[1; 5000])]));
        let mut small = [0; 300];
        let (is_whole, unwritten) = arrive(&bytes, small.as_mut_slice());
        assert!(!is_whole);
        assert_eq!(unwritten.map(|error| error.kind()), Some(ErrorKind::WriteZero));
    }
}
