//! Restoring: all of it, or nothing.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use tar::EntryType;

use super::archive::{Member, header, members, pack, pack_with};
use super::common::{Store, ask_until, list_all, queue_count, sillage};
use super::{check, closed_store, lsn, names, refusal, restored, text, with_archive};

/// An archive of the store.
fn packed(store: &Store) -> Vec<u8> {
    pack(&members(&store.data()), lsn(&check(&store.data())))
}

#[test]
fn restored_store_is_the_one_that_was_packed() {
    let store = closed_store(700);
    let (home, file) = with_archive(&packed(&store));
    let target = home.path().join("deep/er/store");
    let output = restored(&file, &target);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let said = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(said.contains("699 formulas, 698 messages"), "{said}");
    assert_eq!(check(&target), check(&store.data()));
    assert_eq!(names(&home.path().join("deep/er")), ["store"]);
    let there = Store::new().with(&["--data", text(&target)]);
    let (one, other) = (there.serve(), store.serve());
    let (mut one_client, mut other_client) = (one.client(), other.client());
    let shown = |formulas: Vec<super::common::Formula>| format!("{formulas:?}");
    assert_eq!(shown(list_all(&mut one_client)), shown(list_all(&mut other_client)));
    for state in ["ready", "leased", "dead"] {
        assert_eq!(queue_count(&mut one_client, state), queue_count(&mut other_client, state));
    }
    let epoch = one_client.get("/version").expect(200).json()["epoch"].clone();
    assert_eq!(epoch, 2, "a restored store is served in an epoch of its own");
}

#[test]
fn altered_and_truncated_archives_are_refused_and_leave_nothing() {
    let bytes = packed(&closed_store(120));
    let step = bytes.len() / 60;
    for at in (0..bytes.len()).step_by(step).chain([bytes.len() - 1]) {
        let mut altered = bytes.clone();
        altered[at] ^= 0x10;
        assert_refused(&altered, &format!("byte {at} altered"));
        if at > 0 {
            assert_refused(&bytes[..at], &format!("cut at {at}"));
        }
    }
    assert_refused(&[bytes.as_slice(), b"more"].concat(), "something behind the end");
    assert_refused(b"", "nothing");
}

#[track_caller]
fn assert_refused(bytes: &[u8], what: &str) -> String {
    let (home, file) = with_archive(bytes);
    let said = refusal(&restored(&file, &home.path().join("store")), 65);
    assert!(said.contains("b.tar") && said.contains("nothing was restored"), "{what}: {said}");
    assert_eq!(names(home.path()), ["b.tar"], "{what}");
    said
}

#[test]
fn archives_that_reach_outside_are_refused() {
    let good = members(&closed_store(1).data());
    for name in ["../evil", "/tmp/evil", "log/../../evil", "log/00000000000000000001.seg/../x"] {
        let mut bad = good.clone();
        bad.push(Member { name: name.to_owned(), content: b"x".to_vec() });
        let said = assert_refused(&pack(&bad, 2), name);
        assert!(said.contains("which no store has"), "{said}");
    }
    // The list is harmless, but what follows is not what it says.
    let honest = pack(&good, 2);
    let second = 512 + (first_length(&honest)).next_multiple_of(512);
    for (name, kind) in [
        ("../evil", EntryType::Regular),
        ("SUPER.a", EntryType::Symlink),
        ("SUPER.a", EntryType::Link),
        ("SUPER.a", EntryType::Directory),
        ("SUPER.a", EntryType::GNULongName),
        ("SUPER.a", EntryType::XHeader),
    ] {
        let mut bytes = honest.clone();
        let head = header(name, good[0].content.len(), kind);
        bytes[second..second + 512].copy_from_slice(head.as_bytes());
        let said = assert_refused(&bytes, name);
        assert!(said.contains("the header is not that of SUPER.a"), "{said}");
    }
    let mut twice = good.clone();
    twice.push(good[3].clone());
    assert!(assert_refused(&pack(&twice, 2), "twice").contains("twice"));
    let foreign = assert_refused(&pack_with("{}", &good), "no list");
    assert!(foreign.contains("makes no sense"), "{foreign}");
}

/// The length of the first member.
fn first_length(archive: &[u8]) -> usize {
    let length = tar::Header::from_byte_slice(&archive[..512]).size().expect("a length");
    usize::try_from(length).expect("small")
}

#[test]
fn whole_archive_of_a_damaged_store_is_refused() {
    let store = closed_store(50);
    let said = check(&store.data());
    let good = members(&store.data());
    let mut damaged = good.clone();
    let segment = damaged.last_mut().expect("a segment");
    segment.content[5000] ^= 1;
    let refused = assert_refused(&pack(&damaged, lsn(&said)), "a flipped bit in a frame");
    assert!(refused.contains("log/"), "{refused}");
    let refused = assert_refused(&pack(&good, lsn(&said) + 1), "another LSN");
    assert!(refused.contains("says that it ends at"), "{refused}");
    assert_refused(&pack(&good[..good.len() - 1], lsn(&said)), "a segment is missing");
}

#[test]
fn nothing_that_is_there_is_touched() {
    let store = closed_store(3);
    let bytes = packed(&store);
    let before = check(&store.data());
    let (home, file) = with_archive(&bytes);
    let said = refusal(&restored(&file, &store.data()), 2);
    assert!(said.contains("exists and is not an empty directory"), "{said}");
    assert_eq!(check(&store.data()), before);
    let other = home.path().join("other");
    fs::write(&other, "x").expect("written");
    refusal(&restored(&file, &other), 2);
    assert_eq!(fs::read_to_string(&other).expect("still there"), "x");
    let dangling = home.path().join("link");
    std::os::unix::fs::symlink("nowhere", &dangling).expect("a link");
    refusal(&restored(&file, &dangling), 2);
    // An empty directory is what a mount or an operator may have made ready.
    let empty = home.path().join("empty");
    fs::create_dir(&empty).expect("made");
    assert_eq!(restored(&file, &empty).status.code(), Some(0));
    assert_eq!(check(&empty), before);
    refusal(&restored(&file, &empty), 2);
    let missing = refusal(&restored(Path::new("/nowhere/b.tar"), &home.path().join("new")), 74);
    assert!(missing.contains("/nowhere/b.tar cannot be read"), "{missing}");
}

#[test]
fn plain_tar_makes_a_data_directory_of_it() {
    let store = closed_store(20);
    let bytes = packed(&store);
    let target = store.beside("unpacked");
    tar::Archive::new(bytes.as_slice()).unpack(&target).expect("any tar reads it");
    assert_eq!(check(&target), check(&store.data()));
    let served = Store::new().with(&["--data", text(&target)]);
    assert_eq!(list_all(&mut served.serve().client()).len(), 19);
}

#[test]
fn restore_that_is_killed_leaves_nothing_half_made() {
    let (home, file) = with_archive(&packed(&closed_store(3000)));
    let target = home.path().join("store");
    let is_under_way = || names(home.path()).iter().any(|name| name.starts_with(".store.restore-"));
    for round in 0..8 {
        let mut command = sillage(["restore", text(&file), text(&target)]);
        let mut child = command.stdout(Stdio::null()).spawn().expect("the program runs");
        if round > 0 {
            ask_until("files are extracted, or all is done", || {
                is_under_way() || child.try_wait().expect("our own child").is_some()
            });
        }
        child.kill().expect("our own child");
        child.wait().expect("our own child");
        if target.exists() {
            check(&target);
            fs::remove_dir_all(&target).expect("it can be removed");
        }
        for left in names(home.path()).iter().filter(|name| name.starts_with('.')) {
            fs::remove_dir_all(home.path().join(left)).expect("as the help says");
        }
    }
    assert_eq!(restored(&file, &target).status.code(), Some(0));
    check(&target);
}
