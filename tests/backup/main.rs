//! Backups: a copy of a served store that is whole or refused, and comes back whole or not at all.
//!
//! `archive` writes archives by the description in docs/FORMAT.md and not by the program's code,
//! so that the two hold each other to it.

mod archive;
#[path = "../common/mod.rs"]
mod common;
mod restore;
mod served;

use std::path::{Path, PathBuf};
use std::process::Output;

use common::{Store, numbered, run};

/// A store of some formulas with several segments, some of them leased, acked and withdrawn, that
/// was closed in order.
fn closed_store(formulas: u64) -> Store {
    let store = Store::new().with(&["--segment-size", "64KiB"]);
    let server = store.serve();
    let mut client = server.client();
    let lines: String = (0..formulas).map(|number| numbered(number) + "\n").collect();
    let call = common::Call::post_as("application/x-ndjson", "/formulas", lines);
    client.send(&call).expect(200);
    let leased = common::lease(&mut client, 5, 600.0);
    let receipts: Vec<&str> = leased.iter().map(|message| message.receipt.as_str()).collect();
    let acked = receipts.len().min(3);
    common::settle(&mut client, "ack", &receipts[..acked], &serde_json::Value::Null).expect(200);
    let withdrawn = &leased[0].formula.id;
    client.send(&common::Call::new("DELETE", format!("/formulas/{withdrawn}"))).expect(204);
    assert_eq!(server.terminate().code, Some(0));
    store
}

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary directories have plain names")
}

fn restored(file: &Path, directory: &Path) -> Output {
    run(["restore", text(file), text(directory)])
}

/// What `check` says of a sound store, after its name.
#[track_caller]
fn check(directory: &Path) -> String {
    let output = run(["check", text(directory)]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let said = String::from_utf8(output.stdout).expect("UTF-8");
    let said = said.strip_prefix(text(directory)).expect("the store is named first");
    said.trim().to_owned()
}

/// The LSN in what `check` says.
fn lsn(said: &str) -> u64 {
    let after = said.split("up to LSN ").nth(1).expect("check names the LSN");
    after.split(' ').next().and_then(|digits| digits.parse().ok()).expect("a number")
}

/// The one line on stderr of a command that failed with this code.
#[track_caller]
fn refusal(output: &Output, code: i32) -> String {
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    let said = String::from_utf8(output.stderr.clone()).expect("UTF-8");
    assert_eq!(said.lines().count(), 1, "one line: {said}");
    said
}

/// What stands in a directory, sorted.
fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).expect("it can be listed");
    let name = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.expect("it can be listed").file_name().to_string_lossy().into_owned()
    };
    let mut names: Vec<String> = entries.map(name).collect();
    names.sort();
    names
}

/// A directory of its own with this archive in it.
fn with_archive(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("b.tar");
    std::fs::write(&file, bytes).expect("written");
    (directory, file)
}
