//! Reading a backup: every byte of it is accounted for, or it is refused.
//!
//! The first member lists the files with their lengths; from it follow all headers, to the byte,
//! and the order. The sums at the end cover the contents, padding must be zeros, and behind the
//! end of the archive there is nothing. So an archive that was cut short or altered anywhere is
//! noticed, and a name that is none of a store's files is never used, whatever a header says.
//!
//! Reading is one pass over a stream, so that a backup can be verified while it arrives.

use std::collections::HashSet;
use std::fmt;
use std::io::{self, ErrorKind, Read};
use std::path::PathBuf;

use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use tar::Header;

use crate::cli::store_files::{LOG_DIRECTORY, SUPER_FILES, WATERMARK_FILE};
use crate::http::archive::{
    BLOCK_BYTES, END_BYTES, FORMAT, MANIFEST, SUMS, header, padded, sum_line,
};
use crate::ids::Lsn;
use crate::limits::{
    ARCHIVE_MEMBERS_MAX, ARCHIVE_SMALL_FILE_BYTES_MAX, ARCHIVE_TEXT_BYTES_MAX, BACKUP_CHUNK_BYTES,
};
use crate::log::snapshot::SNAPSHOTS;

/// Digits of the LSN after which segments and snapshots are named.
const LSN_DIGITS: usize = 20;

/// What the first member says.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Manifest {
    /// The store's id.
    pub(crate) store: String,
    /// The last record in the backup.
    #[serde(deserialize_with = "lsn")]
    pub(crate) lsn: Lsn,
    /// The files in the order in which they follow.
    pub(crate) files: Vec<ManifestFile>,
}

/// A file of the store.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct ManifestFile {
    /// Its path in the data directory.
    pub(crate) name: String,
    /// Its length.
    pub(crate) bytes: u64,
}

impl Manifest {
    /// Bytes of all files.
    pub(crate) fn bytes(&self) -> u64 {
        self.files.iter().fold(0, |sum, file| sum.saturating_add(file.bytes))
    }
}

/// The one member that is looked at before the others: which format the rest has.
#[derive(Deserialize)]
struct Versioned {
    format: u32,
}

/// What becomes of the files. All calls come in the order of the archive.
pub(crate) trait Sink {
    /// All that follows is known, and nothing of it was read.
    fn begin(&mut self, manifest: &Manifest) -> Result<(), SinkFault>;
    /// A file begins. Its name is one of a store's.
    fn open(&mut self, file: &ManifestFile) -> Result<(), SinkFault>;
    /// Its next bytes.
    fn put(&mut self, bytes: &[u8]) -> Result<(), SinkFault>;
    /// It is complete. Whether its sum is right is known at the end of the archive.
    fn close(&mut self) -> Result<(), SinkFault>;
}

/// Why a sink takes no more.
#[derive(Debug)]
pub(crate) struct SinkFault {
    /// What it was writing.
    pub(crate) path: PathBuf,
    /// What the system said.
    pub(crate) error: io::Error,
}

/// For those who only want to know whether the archive is whole.
pub(crate) struct Discard;

impl Sink for Discard {
    fn begin(&mut self, _manifest: &Manifest) -> Result<(), SinkFault> {
        Ok(())
    }

    fn open(&mut self, _file: &ManifestFile) -> Result<(), SinkFault> {
        Ok(())
    }

    fn put(&mut self, _bytes: &[u8]) -> Result<(), SinkFault> {
        Ok(())
    }

    fn close(&mut self) -> Result<(), SinkFault> {
        Ok(())
    }
}

/// Why an archive was not read to its end.
#[derive(Debug)]
pub(crate) enum ArchiveFault {
    /// The file or the connection fails.
    Unreadable(io::Error),
    /// What was read cannot be written.
    Unwritable(SinkFault),
    /// It ends here, in the middle.
    Cut {
        /// Its length.
        at: u64,
    },
    /// It was altered, or is something else.
    Flawed {
        /// The byte at which the part begins that is not as it should be.
        at: u64,
        /// What is wrong with it.
        flaw: Flaw,
    },
    /// A later version of Sillage wrote it.
    Newer {
        /// Its format.
        format: u32,
    },
}

/// What is wrong with an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// It does not begin as a backup does.
    NotABackup,
    /// The list of files makes no sense.
    Manifest,
    /// The list names something that is no file of a store, or is too long for one.
    ForeignFile(String),
    /// The list names a file twice.
    Twice(String),
    /// The list lacks a file that every store has.
    Missing(&'static str),
    /// The header is not that of the file that follows by the list.
    Header(String),
    /// What fills up a file to whole blocks is not zeros.
    Padding,
    /// The sums are not those of the files.
    Sums,
    /// Something follows the end.
    Trailing,
}

impl fmt::Display for ArchiveFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ArchiveFault::Unreadable(error) => write!(f, "cannot be read: {error}"),
            ArchiveFault::Unwritable(SinkFault { path, error }) => {
                write!(f, "is not taken: cannot write {}: {error}", path.display())
            }
            ArchiveFault::Cut { at } => {
                write!(f, "is cut short: it ends in the middle, after {at} bytes")
            }
            ArchiveFault::Flawed { at: 0, flaw: Flaw::NotABackup } => Flaw::NotABackup.fmt(f),
            ArchiveFault::Flawed { at, flaw } => write!(f, "was altered: at byte {at}, {flaw}"),
            ArchiveFault::Newer { format } => write!(
                f,
                "is of format {format}, and this program reads up to {FORMAT}: use the version \
                 of Sillage that wrote it, or a later one"
            ),
        }
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Flaw::NotABackup => f.write_str("is no backup of Sillage"),
            Flaw::Manifest => f.write_str("the list of files makes no sense"),
            Flaw::ForeignFile(name) => write!(f, "the list has {name:?}, which no store has"),
            Flaw::Twice(name) => write!(f, "the list has {name} twice"),
            Flaw::Missing(name) => write!(f, "the list lacks {name}"),
            Flaw::Header(name) => write!(f, "the header is not that of {name}"),
            Flaw::Padding => f.write_str("there should be nothing but zeros"),
            Flaw::Sums => write!(f, "{SUMS} does not agree with the files before it"),
            Flaw::Trailing => f.write_str("something follows the end"),
        }
    }
}

/// Reads an archive to its end and hands its files to `sink`.
///
/// # Errors
/// See [`ArchiveFault`]. The files handed over so far are to be thrown away.
pub(crate) fn read(source: impl Read, sink: &mut impl Sink) -> Result<Manifest, ArchiveFault> {
    let mut reader = Reader { source, at: 0, sums: String::new() };
    let (text, mtime_s) = reader.first_member()?;
    let manifest = parse(&text).map_err(|fault| fault.at(BLOCK_BYTES as u64))?;
    sink.begin(&manifest).map_err(ArchiveFault::Unwritable)?;
    for file in &manifest.files {
        reader.header(&file.name, file.bytes, mtime_s)?;
        sink.open(file).map_err(ArchiveFault::Unwritable)?;
        reader.content(&file.name, file.bytes, |bytes| sink.put(bytes))?;
        sink.close().map_err(ArchiveFault::Unwritable)?;
    }
    reader.sums(mtime_s)?;
    reader.end()?;
    Ok(manifest)
}

/// What is wrong with a manifest.
enum BadManifest {
    Flaw(Flaw),
    Newer(u32),
}

impl BadManifest {
    fn at(self, at: u64) -> ArchiveFault {
        match self {
            BadManifest::Flaw(flaw) => ArchiveFault::Flawed { at, flaw },
            BadManifest::Newer(format) => ArchiveFault::Newer { format },
        }
    }
}

fn parse(text: &[u8]) -> Result<Manifest, BadManifest> {
    let flaw = |flaw| Err(BadManifest::Flaw(flaw));
    match serde_json::from_slice(text) {
        Ok(Versioned { format: FORMAT }) => {}
        Ok(Versioned { format }) if format > FORMAT => return Err(BadManifest::Newer(format)),
        _ => return flaw(Flaw::Manifest),
    }
    let Ok(manifest) = serde_json::from_slice::<Manifest>(text) else {
        return flaw(Flaw::Manifest);
    };
    if manifest.files.len() > ARCHIVE_MEMBERS_MAX {
        return flaw(Flaw::Manifest);
    }
    let mut names = HashSet::new();
    for file in &manifest.files {
        if !is_of_a_store(file) {
            return flaw(Flaw::ForeignFile(file.name.clone()));
        }
        if !names.insert(file.name.as_str()) {
            return flaw(Flaw::Twice(file.name.clone()));
        }
    }
    let [first, second] = SUPER_FILES;
    match [first, second, WATERMARK_FILE].into_iter().find(|name| !names.contains(name)) {
        Some(name) => flaw(Flaw::Missing(name)),
        None => Ok(manifest),
    }
}

/// Whether a store has such a file: the name can then be used as a path, and the length believed.
fn is_of_a_store(file: &ManifestFile) -> bool {
    let name = file.name.as_str();
    if SUPER_FILES.contains(&name) || name == WATERMARK_FILE {
        return file.bytes <= ARCHIVE_SMALL_FILE_BYTES_MAX;
    }
    let is_named_by_lsn = |directory: &str, end: &str| {
        let rest = name.strip_prefix(directory).and_then(|rest| rest.strip_prefix('/'));
        let digits = rest.and_then(|rest| rest.strip_suffix(end));
        digits.is_some_and(|digits| {
            digits.len() == LSN_DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit())
        })
    };
    is_named_by_lsn(LOG_DIRECTORY, ".seg") || is_named_by_lsn(SNAPSHOTS, ".snap")
}

struct Reader<R> {
    source: R,
    /// Bytes read so far.
    at: u64,
    /// A line for each member so far.
    sums: String,
}

impl<R: Read> Reader<R> {
    /// The manifest, and the date that all members have.
    fn first_member(&mut self) -> Result<(Vec<u8>, u64), ArchiveFault> {
        let not_a_backup = ArchiveFault::Flawed { at: 0, flaw: Flaw::NotABackup };
        let mut block = [0; BLOCK_BYTES];
        if let Err(fault) = self.fill(&mut block) {
            // What is shorter than a header is nothing at all.
            return Err(if matches!(fault, ArchiveFault::Cut { .. }) {
                not_a_backup
            } else {
                fault
            });
        }
        let found = Header::from_byte_slice(&block);
        if *found.path_bytes() != *MANIFEST.as_bytes() {
            return Err(not_a_backup);
        }
        let (Ok(bytes @ 0..=ARCHIVE_TEXT_BYTES_MAX), Ok(mtime_s)) = (found.size(), found.mtime())
        else {
            return Err(ArchiveFault::Flawed { at: 0, flaw: Flaw::Header(MANIFEST.to_owned()) });
        };
        expect_header(&block, 0, MANIFEST, bytes, mtime_s)?;
        let mut text = Vec::new();
        self.content(MANIFEST, bytes, |piece| {
            text.extend_from_slice(piece);
            Ok(())
        })?;
        Ok((text, mtime_s))
    }

    fn header(&mut self, name: &str, bytes: u64, mtime_s: u64) -> Result<(), ArchiveFault> {
        let at = self.at;
        let mut block = [0; BLOCK_BYTES];
        self.fill(&mut block)?;
        expect_header(&block, at, name, bytes, mtime_s)
    }

    /// Hands the content of a member to `put`, notes its sum, and skips what pads it.
    fn content(
        &mut self,
        name: &str,
        bytes: u64,
        mut put: impl FnMut(&[u8]) -> Result<(), SinkFault>,
    ) -> Result<(), ArchiveFault> {
        let mut sha = Sha256::new();
        let mut buffer = vec![0; BACKUP_CHUNK_BYTES];
        let mut left = bytes;
        while left > 0 {
            let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            let piece = &mut buffer[..wanted];
            self.fill(piece)?;
            sha.update(&*piece);
            put(piece).map_err(ArchiveFault::Unwritable)?;
            left -= wanted as u64;
        }
        let padding = usize::try_from(padded(bytes) - bytes).expect("less than a block");
        self.zeros(padding, Flaw::Padding)?;
        self.sums.push_str(&sum_line(&sha.finalize().into(), name));
        Ok(())
    }

    /// The last member, of which every byte is known.
    fn sums(&mut self, mtime_s: u64) -> Result<(), ArchiveFault> {
        let expected = std::mem::take(&mut self.sums).into_bytes();
        self.header(SUMS, expected.len() as u64, mtime_s)?;
        let at = self.at;
        let mut found = Vec::new();
        self.content(SUMS, expected.len() as u64, |piece| {
            found.extend_from_slice(piece);
            Ok(())
        })?;
        if found == expected { Ok(()) } else { Err(ArchiveFault::Flawed { at, flaw: Flaw::Sums }) }
    }

    fn end(&mut self) -> Result<(), ArchiveFault> {
        self.zeros(END_BYTES, Flaw::Padding)?;
        let at = self.at;
        match self.fill(&mut [0; 1]) {
            Err(ArchiveFault::Cut { .. }) => Ok(()),
            Err(fault) => Err(fault),
            Ok(()) => Err(ArchiveFault::Flawed { at, flaw: Flaw::Trailing }),
        }
    }

    fn zeros(&mut self, bytes: usize, flaw: Flaw) -> Result<(), ArchiveFault> {
        let at = self.at;
        let mut block = [0; END_BYTES];
        self.fill(&mut block[..bytes])?;
        let is_zero = block.iter().all(|byte| *byte == 0);
        if is_zero { Ok(()) } else { Err(ArchiveFault::Flawed { at, flaw }) }
    }

    fn fill(&mut self, mut buffer: &mut [u8]) -> Result<(), ArchiveFault> {
        while !buffer.is_empty() {
            match self.source.read(buffer) {
                Ok(0) => return Err(ArchiveFault::Cut { at: self.at }),
                Ok(read) => {
                    self.at += read as u64;
                    buffer = &mut buffer[read..];
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(ArchiveFault::Unreadable(error)),
            }
        }
        Ok(())
    }
}

fn expect_header(
    block: &[u8; BLOCK_BYTES],
    at: u64,
    name: &str,
    bytes: u64,
    mtime_s: u64,
) -> Result<(), ArchiveFault> {
    if block == header(name, bytes, mtime_s).as_bytes() {
        return Ok(());
    }
    Err(ArchiveFault::Flawed { at, flaw: Flaw::Header(name.to_owned()) })
}

fn lsn<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Lsn, D::Error> {
    u64::deserialize(deserializer).map(Lsn)
}

#[cfg(test)]
mod tests;
