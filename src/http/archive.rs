//! A backup as one stream of bytes: a tar archive that proves itself.
//!
//! ```text
//! sillage-backup.json    what this is: store, epoch, LSN, and every file with its length
//! SUPER.a SUPER.b WATERMARK snapshots/… log/…
//! SHA256SUMS             the sum of every member before it, as `sha256sum -c` reads it
//! ```
//!
//! The sums come last, so that the archive is written in one pass; an archive without them was
//! cut short. `tar xf` makes a data directory out of it, to which the two extra files do no harm.
//!
//! Every length is known before the first byte is written: the stream has a `Content-Length`,
//! and a file that turns out to be shorter breaks it off. Headers are a function of name, length
//! and date alone ([`header`]), so that a reader can tell a header that was tampered with.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};

use sha2::{Digest as _, Sha256};
use tar::{EntryType, Header};

use crate::engine::upkeep::{Backup, BackupFile};
use crate::http::render::{self, Object};
use crate::limits::{ARCHIVE_MEMBERS_MAX, BACKUP_CHUNK_BYTES};
use crate::time::Timestamp;

/// The first member.
pub(crate) const MANIFEST: &str = "sillage-backup.json";
/// The last member.
pub(crate) const SUMS: &str = "SHA256SUMS";
/// The version of what this page describes.
pub(crate) const FORMAT: u32 = 1;
/// Members are padded to multiples of this; a header is one of it, the end of an archive two.
pub(crate) const BLOCK_BYTES: usize = 512;
/// The length of that end, all zeros.
pub(crate) const END_BYTES: usize = 2 * BLOCK_BYTES;

/// Readable by its owner alone: formulas are trade secrets.
const MODE: u32 = 0o600;

/// The store has more than `ARCHIVE_MEMBERS_MAX` files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooManyFiles;

/// A file whose bytes are not those that the store knows of.
#[derive(Debug)]
struct Damaged {
    name: Box<str>,
}

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is damaged", self.name)
    }
}

impl std::error::Error for Damaged {}

/// An archive that is ready to be written.
pub(crate) struct Archive {
    files: Vec<BackupFile>,
    manifest: Vec<u8>,
    mtime_s: u64,
}

impl Archive {
    /// The archive of a backup that was taken at this date.
    pub(crate) fn new(backup: Backup, taken_at: Timestamp) -> Result<Archive, TooManyFiles> {
        if backup.files.len() > ARCHIVE_MEMBERS_MAX {
            return Err(TooManyFiles);
        }
        let (manifest, mtime_s) = (manifest(&backup, taken_at), taken_at.0 / 1000);
        Ok(Archive { manifest, files: backup.files, mtime_s })
    }

    /// Its length.
    pub(crate) fn bytes(&self) -> u64 {
        let names = self.files.iter().map(|file| &*file.name);
        let sums: usize = names.chain([MANIFEST]).map(|name| sum_line(&[0; 32], name).len()).sum();
        let files = self.files.iter().map(|file| file.bytes);
        let members = files.chain([self.manifest.len() as u64, sums as u64]);
        members.map(|bytes| BLOCK_BYTES as u64 + padded(bytes)).sum::<u64>() + END_BYTES as u64
    }

    /// Writes all of it; does not flush. Every file has been let go when it returns.
    ///
    /// # Errors
    /// When a file cannot be read, is damaged or shorter than it was, or `out` takes no more.
    pub(crate) fn write(self, out: &mut impl Write) -> io::Result<()> {
        let mut writer = Writer { out, mtime_s: self.mtime_s, sums: String::new() };
        writer.member(MANIFEST, self.manifest.len() as u64, &mut self.manifest.as_slice())?;
        for file in self.files {
            let mut source = (file.open)()?;
            let sum = writer.member(&file.name, file.bytes, &mut source)?;
            if file.sha256.is_some_and(|expected| expected != sum) {
                return Err(io::Error::new(ErrorKind::InvalidData, Damaged { name: file.name }));
            }
        }
        let sums = std::mem::take(&mut writer.sums);
        writer.member(SUMS, sums.len() as u64, &mut sums.as_bytes())?;
        out.write_all(&[0; END_BYTES])
    }
}

impl fmt::Debug for Archive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Archive({} files)", self.files.len())
    }
}

struct Writer<'a, W> {
    out: &'a mut W,
    mtime_s: u64,
    /// A line for each member so far.
    sums: String,
}

impl<W: Write> Writer<'_, W> {
    /// Writes a member and gives its sum.
    fn member(&mut self, name: &str, bytes: u64, source: &mut impl Read) -> io::Result<[u8; 32]> {
        self.out.write_all(header(name, bytes, self.mtime_s).as_bytes())?;
        let mut sha = Sha256::new();
        let mut buffer = vec![0; BACKUP_CHUNK_BYTES.min(to_usize(bytes))];
        let mut left = bytes;
        while left > 0 {
            let wanted = buffer.len().min(to_usize(left));
            let read = match source.read(&mut buffer[..wanted]) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            sha.update(&buffer[..read]);
            self.out.write_all(&buffer[..read])?;
            left -= read as u64;
        }
        self.out.write_all(&[0; BLOCK_BYTES][..to_usize(padded(bytes) - bytes)])?;
        let sum = sha.finalize().into();
        self.sums.push_str(&sum_line(&sum, name));
        Ok(sum)
    }
}

/// The one header that a member of this name, length and date has.
///
/// The names are our own and fit; lengths beyond eight gigabytes are written as GNU tar does.
pub(crate) fn header(name: &str, bytes: u64, mtime_s: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_path(name).expect("the names of a store's files are short and relative");
    header.set_size(bytes);
    header.set_mode(MODE);
    header.set_mtime(mtime_s);
    header.set_uid(0);
    header.set_gid(0);
    header.set_entry_type(EntryType::Regular);
    header.set_cksum();
    header
}

/// The line of [`SUMS`] for a member.
pub(crate) fn sum_line(sum: &[u8; 32], name: &str) -> String {
    let mut line = String::with_capacity(2 * sum.len() + name.len() + 3);
    for byte in sum {
        line.push_str(&format!("{byte:02x}"));
    }
    line.push_str("  ");
    line.push_str(name);
    line.push('\n');
    line
}

/// The bytes that a member of this length takes up.
pub(crate) fn padded(bytes: u64) -> u64 {
    bytes.next_multiple_of(BLOCK_BYTES as u64)
}

fn manifest(backup: &Backup, taken_at: Timestamp) -> Vec<u8> {
    let mut json = Vec::new();
    let mut object = Object::open(&mut json);
    render::scalar(object.member("format"), &FORMAT);
    render::scalar(object.member("version"), env!("CARGO_PKG_VERSION"));
    render::scalar(object.member("store"), &backup.store);
    render::scalar(object.member("epoch"), &backup.epoch.0);
    render::scalar(object.member("lsn"), &backup.lsn.0);
    render::quoted(object.member("taken_at"), taken_at);
    render::array(object.member("files"), &backup.files, |out, file| {
        let mut object = Object::open(out);
        render::scalar(object.member("name"), &*file.name);
        render::scalar(object.member("bytes"), &file.bytes);
        object.close();
    });
    object.close();
    json.push(b'\n');
    json
}

fn to_usize(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::ids::{Epoch, Lsn};

    /// An archive of these files.
    pub(crate) fn archive(files: &[(&str, &[u8])]) -> Archive {
        let member = |(name, bytes): &(&str, &[u8])| {
            let content = io::Cursor::new(bytes.to_vec());
            let open = move || Ok(Box::new(content) as Box<dyn Read + Send>);
            let (name, bytes) = ((*name).into(), bytes.len() as u64);
            BackupFile { name, bytes, sha256: None, open: Box::new(open) }
        };
        let backup = Backup {
            store: "0123456789abcdef0123456789abcdef".to_owned(),
            epoch: Epoch(3),
            lsn: Lsn(42),
            files: files.iter().map(member).collect(),
        };
        Archive::new(backup, Timestamp(1_795_000_000_000)).expect("few files")
    }

    /// Its bytes.
    pub(crate) fn written(archive: Archive) -> Vec<u8> {
        let mut bytes = Vec::new();
        archive.write(&mut bytes).expect("memory takes all");
        bytes
    }

    #[test]
    fn length_is_known_before_anything_is_written() {
        for len in [0, 1, 511, 512, 513, 4096] {
            let content = vec![7; len];
            let archive = archive(&[("SUPER.a", &content), ("log/1.seg", b"x")]);
            let bytes = archive.bytes();
            assert_eq!(written(archive).len() as u64, bytes, "{len}");
        }
    }

    #[test]
    fn members_are_what_any_tar_reads_and_sums_are_those_of_their_bytes() {
        let bytes = written(archive(&[("SUPER.a", b"one"), ("log/1.seg", &[5; 1000])]));
        let mut reader = tar::Archive::new(bytes.as_slice());
        let mut members = Vec::new();
        for entry in reader.entries().expect("an archive") {
            let mut entry = entry.expect("a member");
            let name = entry.path().expect("a name").to_string_lossy().into_owned();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).expect("its bytes");
            members.push((name, content));
        }
        let names: Vec<&str> = members.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, [MANIFEST, "SUPER.a", "log/1.seg", SUMS]);
        assert_eq!(members[1].1, b"one");
        let sums: String = members[..3]
            .iter()
            .map(|(name, content)| sum_line(&Sha256::digest(content).into(), name))
            .collect();
        assert_eq!(members[3].1, sums.as_bytes());
        let manifest: serde_json::Value = serde_json::from_slice(&members[0].1).expect("JSON");
        assert_eq!((&manifest["lsn"], &manifest["epoch"]), (&42.into(), &3.into()));
        assert_eq!(manifest["files"][1], serde_json::json!({ "name": "log/1.seg", "bytes": 1000 }));
    }

    #[test]
    fn file_that_became_shorter_breaks_the_archive_off() {
        let mut archive = archive(&[("SUPER.a", b"one")]);
        archive.files[0].bytes = 4;
        let error = archive.write(&mut Vec::new()).expect_err("a byte is missing");
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    }

    #[test]
    fn file_that_is_not_what_the_store_knows_breaks_the_archive_off() {
        let mut good = archive(&[("snapshots/1.snap", b"one")]);
        good.files[0].sha256 = Some(Sha256::digest(b"one").into());
        good.write(&mut Vec::new()).expect("as it should be");
        let mut bad = archive(&[("snapshots/1.snap", b"one")]);
        bad.files[0].sha256 = Some(Sha256::digest(b"two").into());
        let mut bytes = Vec::new();
        let error = bad.write(&mut bytes).expect_err("damaged");
        assert_eq!(error.kind(), ErrorKind::InvalidData);
        assert_eq!(error.to_string(), "snapshots/1.snap is damaged");
        assert!(!bytes.windows(SUMS.len()).any(|part| part == SUMS.as_bytes()));
    }

    #[test]
    fn lengths_beyond_octal_digits_are_kept() {
        for bytes in [(8 << 30) - 1, 8 << 30, 1 << 40] {
            let header = header("snapshots/00000000000000000001.snap", bytes, 1);
            assert_eq!(header.size().expect("a number"), bytes);
        }
    }
}
