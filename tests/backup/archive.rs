//! Archives written by hand, good ones and bad ones.

use std::fs;
use std::path::Path;

use serde_json::json;
use sha2::{Digest, Sha256};
use tar::{EntryType, Header};

const DATE_S: u64 = 1_795_000_000;

/// A member of an archive.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) content: Vec<u8>,
}

/// The files of a closed store in the order in which a backup has them.
pub(crate) fn members(data: &Path) -> Vec<Member> {
    let member = |name: String| {
        let content = fs::read(data.join(&name)).expect("a file of the store");
        Member { name, content }
    };
    let mut names: Vec<String> = ["SUPER.a", "SUPER.b", "WATERMARK"].map(String::from).into();
    for directory in ["snapshots", "log"] {
        let Ok(entries) = fs::read_dir(data.join(directory)) else { continue };
        let mut found: Vec<String> = entries
            .map(|entry| entry.expect("listed").file_name().to_string_lossy().into_owned())
            .filter(|name| name.ends_with(".seg") || name.ends_with(".snap"))
            .map(|name| format!("{directory}/{name}"))
            .collect();
        found.sort();
        names.extend(found);
    }
    names.into_iter().map(member).collect()
}

/// An archive of these members, as a server would send it of a store that ends at this LSN.
pub(crate) fn pack(members: &[Member], lsn: u64) -> Vec<u8> {
    let files = members.iter().map(|it| json!({ "name": it.name, "bytes": it.content.len() }));
    let manifest = json!({
        "format": 1, "version": "0.1.0", "store": "0123456789abcdef0123456789abcdef", "epoch": 1,
        "lsn": lsn, "taken_at": "2026-11-18T16:26:40.000Z", "files": files.collect::<Vec<_>>(),
    });
    pack_with(&manifest.to_string(), members)
}

/// The same with a manifest of the caller's.
pub(crate) fn pack_with(manifest: &str, members: &[Member]) -> Vec<u8> {
    let (mut out, mut sums) = (Vec::new(), String::new());
    let manifest =
        Member { name: "sillage-backup.json".into(), content: manifest.as_bytes().to_vec() };
    for member in [&manifest].into_iter().chain(members) {
        push(&mut out, &member.name, &member.content);
        let sum: String =
            Sha256::digest(&member.content).iter().map(|byte| format!("{byte:02x}")).collect();
        sums.push_str(&format!("{sum}  {}\n", member.name));
    }
    push(&mut out, "SHA256SUMS", sums.as_bytes());
    out.extend_from_slice(&[0; 1024]);
    out
}

fn push(out: &mut Vec<u8>, name: &str, content: &[u8]) {
    out.extend_from_slice(header(name, content.len(), EntryType::Regular).as_bytes());
    out.extend_from_slice(content);
    out.resize(out.len().next_multiple_of(512), 0);
}

/// A header with any name: the library that writes it refuses some.
pub(crate) fn header(name: &str, bytes: usize, kind: EntryType) -> Header {
    let mut header = Header::new_gnu();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_size(bytes as u64);
    header.set_mode(0o600);
    header.set_mtime(DATE_S);
    header.set_uid(0);
    header.set_gid(0);
    header.set_entry_type(kind);
    header.set_cksum();
    header
}
