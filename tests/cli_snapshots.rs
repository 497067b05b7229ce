//! What operators see of snapshots: `inspect`, metrics, and what each command says and does when
//! a snapshot, or the log that it covers, is damaged.

mod common;

use std::path::{Path, PathBuf};
use std::process::Output;

use common::{Call, Client, Store, assert_problem, list_all, numbered, run};
use serde_json::Value;

#[track_caller]
fn snapshot(client: &mut Client) -> u64 {
    let report = client.send(&Call::new("POST", "/admin/snapshot")).expect(200).json();
    report["lsn"].as_u64().expect("a number")
}

/// A store with two snapshots and a formula after them; nobody serves it.
fn stopped() -> Store {
    let store = Store::new().with(&["--segment-size", "64KiB"]);
    let server = store.serve();
    let mut client = server.client();
    for part in 0..2 {
        for number in 0..50 {
            client.post("/formulas", numbered(part * 50 + number)).expect(201);
        }
        snapshot(&mut client);
    }
    client.post("/formulas", numbered(100)).expect(201);
    server.kill();
    store
}

const FORMULAS: usize = 101;

/// The program's answer about the data directory.
fn about(store: &Store, before: &[&str], after: &[&str]) -> Output {
    let data = store.data();
    let data = data.to_str().expect("a plain path");
    run(before.iter().copied().chain([data]).chain(after.iter().copied()))
}

#[track_caller]
fn says(output: &Output, code: i32) -> String {
    let text = [&*output.stdout, &*output.stderr].concat();
    let text = String::from_utf8(text).expect("UTF-8");
    assert_eq!(output.status.code(), Some(code), "{text}");
    text
}

/// The files of a directory in the store, in order.
fn files(store: &Store, directory: &str, ending: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(store.data().join(directory)).expect("listed");
    let paths = entries.map(|entry| entry.expect("listed").path());
    let mut files: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|end| end == ending)).collect();
    files.sort();
    files
}

fn name(file: &Path) -> String {
    file.file_name().expect("a name").to_string_lossy().into_owned()
}

fn flip(file: &Path, at: usize) {
    let mut bytes = std::fs::read(file).expect("read");
    bytes[at] ^= 4;
    std::fs::write(file, bytes).expect("written");
}

fn metric(client: &mut Client, name: &str) -> u64 {
    let text = client.get("/metrics").expect(200).text().to_owned();
    let value = text.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
    value.expect("there is such a metric").parse().expect("a whole number")
}

/// The receipt of the record at this LSN, as `inspect dump` tells it.
fn receipt(store: &Store, lsn: u64) -> String {
    let text = says(&about(store, &["inspect"], &["dump", "--json"]), 0);
    let frames = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let frame = frames.into_iter().find(|frame| frame["lsn"] == lsn).expect("a frame");
    frame["receipt"].as_str().expect("text").to_owned()
}

#[test]
fn stat_lists_snapshots_newest_first_also_while_served() {
    let store = Store::new().with(&["--segment-size", "64KiB"]);
    let server = store.serve();
    let mut client = server.client();
    let plain = |store: &Store| says(&about(store, &["inspect"], &["stat"]), 0);
    assert!(!plain(&store).contains(".snap"));
    let mut lsns = Vec::new();
    for number in 0..3 {
        client.post("/formulas", numbered(number)).expect(201);
        lsns.push(snapshot(&mut client));
    }
    let text = plain(&store);
    let lines: Vec<&str> = text.lines().filter(|line| line.contains(".snap")).collect();
    assert_eq!(lines.len(), 2, "{text}");
    for (line, lsn) in lines.iter().zip([lsns[2], lsns[1]]) {
        let start = format!("snapshots/{lsn:020}.snap  up to LSN {lsn}  ");
        assert!(line.starts_with(&start) && line.ends_with(" bytes"), "{text}");
    }
    let json = says(&about(&store, &["inspect"], &["stat", "--json"]), 0);
    let stat: Value = serde_json::from_str(&json).expect("JSON");
    let listed = stat["snapshots"].as_array().expect("an array");
    for (shown, file) in listed.iter().zip(files(&store, "snapshots", "snap").iter().rev()) {
        assert_eq!(shown["file"], format!("snapshots/{}", name(file)));
        assert_eq!(shown["bytes"], std::fs::metadata(file).expect("there").len());
    }
    assert_eq!((&listed[0]["lsn"], &listed[1]["lsn"]), (&lsns[2].into(), &lsns[1].into()));
    server.kill();

    flip(&files(&store, "snapshots", "snap")[1], 20);
    assert!(plain(&store).contains(&format!("up to LSN {}  damaged", lsns[2])));
}

#[test]
fn metrics_tell_of_the_snapshot_after_a_restart_too() {
    let store = Store::new();
    let server = store.serve();
    let mut client = server.client();
    assert_eq!(metric(&mut client, "sillage_snapshot_lsn"), 0);
    client.post("/formulas", numbered(1)).expect(201);
    let lsn = snapshot(&mut client);
    let bytes = metric(&mut client, "sillage_snapshot_bytes");
    assert_eq!(metric(&mut client, "sillage_snapshot_lsn"), lsn);
    server.kill();
    let server = store.serve();
    let mut client = server.client();
    assert_eq!(metric(&mut client, "sillage_snapshot_lsn"), lsn);
    assert_eq!(metric(&mut client, "sillage_snapshot_bytes"), bytes);
    assert_eq!(metric(&mut client, "sillage_recovery_alarms"), 0);
}

#[test]
fn receipt_below_the_log_is_not_provable_and_never_called_lost() {
    let store = Store::new().with(&["--segment-size", "64KiB"]);
    let server = store.serve();
    let mut client = server.client();
    let verify = |receipt: &str, code| {
        says(&about(&store, &["inspect"], &["verify", "--receipt", receipt]), code)
    };
    client.post("/formulas", numbered(1)).expect(201);
    let first = client.get("/formulas").expect(200).json();
    let seq = first["formulas"][0]["seq"].as_u64().expect("a number");
    let old = receipt(&store, seq);
    assert!(verify(&old, 0).starts_with("present"));
    snapshot(&mut client);
    assert!(verify(&old, 0).starts_with("present"), "one snapshot: the log is still there");
    client.post("/formulas", numbered(2)).expect(201);
    let newest = snapshot(&mut client);
    let text = verify(&old, 65);
    assert!(text.starts_with("not provable") && text.contains("snapshot"), "{text}");
    let kept = receipt(&store, newest);
    assert!(verify(&kept, 0).starts_with("present"));
    let other = format!("{newest}:{}", "0".repeat(16));
    assert!(verify(&other, 65).starts_with("chain differs"));
    let beyond = format!("{}:{}", newest + 1000, "0".repeat(16));
    assert!(verify(&beyond, 65).starts_with("lost"));
}

/// The warning that names this file, with the next step that it tells.
#[track_caller]
fn warned_of(store: &Store, file: &str) {
    let server = store.serve();
    let told = server.transcript();
    let warning = told.iter().find(|line| line.contains(file)).expect("a warning names the file");
    let warning: Value = serde_json::from_str(warning).expect("JSON");
    assert_eq!(warning["level"], "WARN", "{warning}");
    let next = format!("curl -X POST http://{}/admin/snapshot", server.address());
    assert_eq!(warning["next"], next);
    let mut client = server.client();
    assert_eq!(metric(&mut client, "sillage_recovery_alarms"), 1);
    assert_eq!(list_all(&mut client).len(), FORMULAS);
    snapshot(&mut client);
    server.kill();

    // The next step has cured it.
    let server = store.serve();
    assert!(!server.transcript().iter().any(|line| line.contains("WARN")));
    assert_eq!(metric(&mut server.client(), "sillage_recovery_alarms"), 0);
    assert_eq!(list_all(&mut server.client()).len(), FORMULAS);
    server.terminate();
    says(&about(store, &["check"], &[]), 0);
}

#[test]
fn start_warns_of_what_stands_in_for_something_damaged_and_says_how_to_cure_it() {
    let store = stopped();
    let copy = store.copy();
    let newest = files(&copy, "snapshots", "snap").pop().expect("two");
    flip(&newest, 20);
    let text = says(&about(&copy, &["check"], &[]), 65);
    assert!(text.contains(&name(&newest)) && text.contains("No record is lost"), "{text}");
    warned_of(&copy, &name(&newest));

    let copy = store.copy();
    let newest = files(&copy, "snapshots", "snap").pop().expect("two");
    std::fs::remove_file(&newest).expect("removed");
    warned_of(&copy, &name(&newest));

    let copy = store.copy();
    let older = files(&copy, "snapshots", "snap").swap_remove(0);
    flip(&older, 20);
    warned_of(&copy, &name(&older));

    let copy = store.copy();
    let covered = files(&copy, "log", "seg").swap_remove(0);
    std::fs::remove_file(&covered).expect("removed");
    warned_of(&copy, &name(&covered));
}

#[test]
fn store_without_any_good_snapshot_is_refused_and_left_alone() {
    let store = stopped();
    files(&store, "snapshots", "snap").iter().for_each(|file| flip(file, 20));
    let finished = store.try_serve().expect_err("nothing holds what the snapshots held");
    assert_eq!(finished.code, Some(65), "{finished:?}");
    assert!(finished.stderr.join("\n").contains(".snap"), "{finished:?}");
    assert_eq!(files(&store, "snapshots", "snap").len(), 2);
    assert_eq!(std::fs::read_dir(store.data().join("quarantine")).expect("listed").count(), 0);
}

#[test]
fn damaged_bodies_are_called_damaged_and_never_get_into_a_backup_or_a_snapshot() {
    let store = stopped();
    let newest = files(&store, "snapshots", "snap").pop().expect("two");
    // In the first block: nothing reads it before somebody asks for a formula in it.
    flip(&newest, 4096 + 100);
    let server = store.serve();
    let mut client = server.client();
    assert_problem(&client.get("/formulas/3"), 500);
    // The list goes on behind the block.
    let refused = client.get("/formulas");
    assert_problem(&refused, 500);
    let behind = refused.json()["next"].as_str().expect("a cursor").to_owned();
    let rest = client.get(&format!("/formulas?after={behind}")).expect(200).json();
    assert_eq!(rest["formulas"][0]["seq"], {
        let last = u64::from_str_radix(&behind[1..], 16).expect("a number");
        last + 1
    });
    assert_problem(&client.post("/formulas", numbered(0)), 500);
    client.post("/formulas", numbered(500)).expect(201);
    assert_problem(&client.send(&Call::new("POST", "/admin/snapshot")), 500);
    assert_eq!(metric(&mut client, "sillage_compactions_failed_total"), 1);
    assert!(metric(&mut client, "sillage_damaged_reads_total") >= 3);
    let backup = store.beside("backup.tar");
    let url = format!("http://{}", server.address());
    let output = run(["backup", &url, backup.to_str().expect("plain")]);
    assert!(!output.status.success(), "{output:?}");
    assert!(!backup.exists(), "what has no whole source gets no name");
    assert_eq!(metric(&mut client, "sillage_backups_failed_total"), 1);
    server.terminate();

    let text = says(&about(&store, &["compact"], &[]), 65);
    assert!(text.contains(&name(&newest)) && text.contains("sillage repair"), "{text}");
    let text = says(&about(&store, &["repair"], &[]), 0);
    assert!(text.contains("sillage compact"), "it rests on one snapshot until then: {text}");
    says(&about(&store, &["compact"], &[]), 0);
    says(&about(&store, &["check"], &[]), 0);
    let server = store.serve();
    assert_eq!(list_all(&mut server.client()).len(), FORMULAS + 1);
    let output =
        run(["backup", &format!("http://{}", server.address()), backup.to_str().expect("plain")]);
    says(&output, 0);
}

#[test]
fn damaged_log_never_gets_into_a_backup() {
    let store = stopped();
    let server = store.serve();
    let url = format!("http://{}", server.address());
    // Behind the newest snapshot, and read when the server started: it went bad since then.
    let segment = files(&store, "log", "seg").swap_remove(1);
    flip(&segment, 4096 + 60);
    let backup = store.beside("backup.tar");
    let output = run(["backup", &url, backup.to_str().expect("plain")]);
    assert!(!output.status.success(), "{output:?}");
    assert!(!backup.exists());
    let told = server.transcript();
    assert!(told.iter().any(|line| line.contains("backup broken off")), "{told:?}");
}
