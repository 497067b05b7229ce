//! Archives as they are written, and everything that may have become of them since.

use super::*;
use crate::http::archive::tests::{archive, written};

const SEGMENT: &str = "log/00000000000000000001.seg";

/// Remembers what it got.
#[derive(Default)]
struct Kept(Vec<(String, Vec<u8>)>);

impl Sink for Kept {
    fn begin(&mut self, _manifest: &Manifest) -> Result<(), SinkFault> {
        Ok(())
    }

    fn open(&mut self, file: &ManifestFile) -> Result<(), SinkFault> {
        self.0.push((file.name.clone(), Vec::new()));
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), SinkFault> {
        self.0.last_mut().expect("a file is open").1.extend_from_slice(bytes);
        Ok(())
    }

    fn close(&mut self) -> Result<(), SinkFault> {
        Ok(())
    }
}

/// Bytes of an archive with one small segment.
fn sample() -> Vec<u8> {
    written(archive(&[
        ("SUPER.a", &[1; 600]),
        ("SUPER.b", &[2; 512]),
        ("WATERMARK", b""),
        (SEGMENT, b"frames"),
    ]))
}

fn flaw(bytes: &[u8]) -> Flaw {
    match read(bytes, &mut Discard) {
        Err(ArchiveFault::Flawed { flaw, .. }) => flaw,
        other => panic!("not flawed: {other:?}"),
    }
}

#[test]
fn what_was_written_is_read_whole_and_in_order() {
    let mut kept = Kept::default();
    let manifest = read(sample().as_slice(), &mut kept).expect("a whole archive");
    assert_eq!((manifest.lsn, manifest.bytes()), (Lsn(42), 600 + 512 + 6));
    let names: Vec<&str> = kept.0.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["SUPER.a", "SUPER.b", "WATERMARK", SEGMENT]);
    assert_eq!(kept.0[0].1, [1; 600]);
    assert_eq!(kept.0[3].1, b"frames");
}

#[test]
fn every_flipped_bit_is_noticed() {
    let bytes = sample();
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut altered = bytes.clone();
            altered[at] ^= 1 << bit;
            let fault = read(altered.as_slice(), &mut Discard);
            assert!(fault.is_err(), "bit {bit} of byte {at}");
        }
    }
}

#[test]
fn every_cut_is_noticed_and_so_is_anything_behind_the_end() {
    let bytes = sample();
    for len in 0..bytes.len() {
        let fault = read(&bytes[..len], &mut Discard).expect_err("it is cut short");
        match fault {
            ArchiveFault::Cut { at } => assert_eq!(at, len as u64),
            ArchiveFault::Flawed { flaw: Flaw::NotABackup, .. } => assert!(len < BLOCK_BYTES),
            other => panic!("{other:?} at {len}"),
        }
    }
    for more in [b"\0".as_slice(), &[0; 512], b"x"] {
        assert_eq!(flaw(&[bytes.as_slice(), more].concat()), Flaw::Trailing);
    }
}

#[test]
fn names_that_no_store_has_are_refused_however_they_are_spelled() {
    let whole: &[(&str, &[u8])] = &[("SUPER.a", b""), ("SUPER.b", b""), ("WATERMARK", b"")];
    for name in [
        "LOCK",
        "a",
        "../SUPER.a",
        "log/../../x",
        "log/1.seg",
        "log/0000000000000000001x.seg",
        "log/00000000000000000001.snap",
        "log/00000000000000000001.seg/x",
        "snapshots/00000000000000000001.seg",
        "quarantine/x",
        "./SUPER.a",
    ] {
        // A name with `..` cannot even be put in a header of ours, so it goes into the list only.
        let files = [whole, &[(SEGMENT, b"x".as_slice())]].concat();
        let written = written(archive(&files));
        let renamed = with_manifest(&written, |text| text.replace(SEGMENT, name));
        assert_eq!(flaw(&renamed), Flaw::ForeignFile(name.to_owned()), "{name}");
    }
    let absolute = with_manifest(&sample(), |text| text.replace(SEGMENT, "/etc/passwd"));
    assert_eq!(flaw(&absolute), Flaw::ForeignFile("/etc/passwd".to_owned()));
}

#[test]
fn lists_that_make_no_sense_are_refused() {
    let twice = with_manifest(&sample(), |text| text.replace("SUPER.b", "SUPER.a"));
    assert_eq!(flaw(&twice), Flaw::Twice("SUPER.a".to_owned()));
    let without = written(archive(&[("SUPER.a", b""), ("SUPER.b", b"")]));
    assert_eq!(flaw(&without), Flaw::Missing("WATERMARK"));
    let huge = with_manifest(&sample(), |text| text.replace(":600}", ":600000000}"));
    assert_eq!(flaw(&huge), Flaw::ForeignFile("SUPER.a".to_owned()));
    let other = with_manifest(&sample(), |text| text.replace(":600}", ":601}"));
    assert_eq!(flaw(&other), Flaw::Header("SUPER.a".to_owned()));
    for wrong in ["", "{}", "[]", "{\"format\":0}", "{\"format\":1}"] {
        assert_eq!(
            flaw(&with_manifest(&sample(), |_| wrong.to_owned())),
            Flaw::Manifest,
            "{wrong}"
        );
    }
    let newer = with_manifest(&sample(), |text| text.replace("\"format\":1", "\"format\":2"));
    let newer = read(newer.as_slice(), &mut Discard);
    assert!(matches!(newer, Err(ArchiveFault::Newer { format: 2 })), "{newer:?}");
}

#[test]
fn links_and_other_types_of_members_are_refused() {
    let bytes = sample();
    let manifest_bytes = Header::from_byte_slice(&bytes[..BLOCK_BYTES]).size().expect("a length");
    let at = BLOCK_BYTES + usize::try_from(padded(manifest_bytes)).expect("small");
    for kind in [tar::EntryType::Symlink, tar::EntryType::Link, tar::EntryType::Directory] {
        let mut altered = bytes.clone();
        let mut block = Header::from_byte_slice(&bytes[at..at + BLOCK_BYTES]).clone();
        block.set_entry_type(kind);
        block.set_cksum();
        altered[at..at + BLOCK_BYTES].copy_from_slice(block.as_bytes());
        assert_eq!(flaw(&altered), Flaw::Header("SUPER.a".to_owned()), "{kind:?}");
    }
}

#[test]
fn other_files_are_no_backup() {
    for other in [b"".as_slice(), b"hello", &[0; 2048], &[0xff; 2048]] {
        assert_eq!(flaw(other), Flaw::NotABackup);
    }
}

#[test]
fn a_sink_that_takes_no_more_ends_it() {
    struct Full;
    impl Sink for Full {
        fn begin(&mut self, _manifest: &Manifest) -> Result<(), SinkFault> {
            Err(SinkFault { path: "there".into(), error: ErrorKind::StorageFull.into() })
        }
        fn open(&mut self, _file: &ManifestFile) -> Result<(), SinkFault> {
            unreachable!("it did not begin")
        }
        fn put(&mut self, _bytes: &[u8]) -> Result<(), SinkFault> {
            unreachable!("it did not begin")
        }
        fn close(&mut self) -> Result<(), SinkFault> {
            unreachable!("it did not begin")
        }
    }
    let fault = read(sample().as_slice(), &mut Full).expect_err("the sink is full");
    assert!(matches!(fault, ArchiveFault::Unwritable(_)), "{fault:?}");
}

/// The archive with another list of files, its header and the sums as they should be for it.
fn with_manifest(bytes: &[u8], change: impl Fn(&str) -> String) -> Vec<u8> {
    let head = Header::from_byte_slice(&bytes[..BLOCK_BYTES]);
    let (len, mtime_s) = (head.size().expect("a length"), head.mtime().expect("a date"));
    let text = &bytes[BLOCK_BYTES..][..usize::try_from(len).expect("small")];
    let changed = change(std::str::from_utf8(text).expect("UTF-8")).into_bytes();
    let mut out = header(MANIFEST, changed.len() as u64, mtime_s).as_bytes().to_vec();
    out.extend_from_slice(&changed);
    out.resize(BLOCK_BYTES + usize::try_from(padded(changed.len() as u64)).expect("small"), 0);
    let rest = BLOCK_BYTES + usize::try_from(padded(len)).expect("small");
    out.extend_from_slice(&bytes[rest..]);
    out
}
