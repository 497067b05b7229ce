//! Files of a stopped store, cut short or with a bit turned over: the server starts with
//! everything it acknowledged, or it refuses and says where the damage is. Never anything else.
//!
//! A sample through the real program on real files; the log's own suite tries every offset and
//! every bit. `SILLAGE_DAMAGE_SAMPLES` sets how many, `SILLAGE_SEED` repeats a run.

mod common;

use std::path::{Path, PathBuf};

use common::{
    Call, Client, Finished, Response, Store, assert_problem, lease, list_all, numbered, run, seed,
    settle,
};
use serde_json::json;

const SAMPLES_DEFAULT: usize = 40;
/// Formulas in the store, a third of them from each reign.
const FORMULAS: u64 = 150;

/// What is done to a file.
#[derive(Clone, Debug)]
enum Damage {
    /// Everything from this offset on is gone.
    Cut(u64),
    /// One bit of the byte at this offset is turned over.
    Flip(u64, u8),
}

#[test]
fn damaged_store_starts_whole_or_says_where_it_is_damaged() {
    let samples = std::env::var("SILLAGE_DAMAGE_SAMPLES")
        .map_or(SAMPLES_DEFAULT, |text| text.parse().expect("a number of samples"));
    let mut rng = fastrand::Rng::with_seed(seed());
    for ending in [Ending::Clean, Ending::Killed] {
        let store = stopped_store(ending);
        let whole = contents(&store.copy());
        let (mut started, mut refused) = (0, 0);
        for _ in 0..samples / 2 {
            let (file, damage) = choose(&store, &mut rng);
            let copy = store.copy();
            apply(&copy.data().join(&file), &damage);
            match copy.try_serve() {
                Ok(server) => {
                    let found = server.client().get("/formulas?limit=1000").expect(200).body;
                    assert_eq!(found, whole, "silent loss after {damage:?} of {}", file.display());
                    started += 1;
                }
                Err(finished) => {
                    assert_names_the_damage(&finished, &file, &damage);
                    assert_check_agrees(&copy);
                    refused += 1;
                }
            }
        }
        println!("{ending:?}: {started} started whole, {refused} refused");
        assert!(refused > 0, "damage in the middle of the log cannot all be harmless");
    }
}

/// With two snapshots a store holds nearly everything twice: it starts whole, or it says of a
/// formula that it cannot be read. Then a repair brings everything back.
#[test]
fn damaged_store_with_snapshots_loses_nothing_that_it_holds_twice() {
    let samples = std::env::var("SILLAGE_DAMAGE_SAMPLES")
        .map_or(SAMPLES_DEFAULT, |text| text.parse().expect("a number of samples"));
    let mut rng = fastrand::Rng::with_seed(seed());
    let store = store_of_reigns(Ending::Killed, |client| {
        client.send(&Call::new("POST", "/admin/snapshot")).expect(200);
    });
    let whole = contents(&store.copy());
    let (mut started, mut unreadable, mut refused) = (0, 0, 0);
    for _ in 0..samples / 2 {
        let directory = ["snapshots", "snapshots", "log", ""][rng.usize(..4)];
        let (file, damage) = choose_in(&store, directory, &mut rng);
        let copy = store.copy();
        apply(&copy.data().join(&file), &damage);
        let server = match copy.try_serve() {
            Ok(server) => server,
            Err(finished) => {
                assert_ne!(directory, "snapshots", "the other one stands in: {finished:?}");
                assert_names_the_damage(&finished, &file, &damage);
                assert_check_agrees(&copy);
                refused += 1;
                continue;
            }
        };
        let found = last_page(&mut server.client());
        if found.status == 200 {
            let what = format!("silent loss after {damage:?} of {}", file.display());
            assert!(found.body == whole, "{what}");
            started += 1;
            continue;
        }
        assert_problem(&found, 500);
        assert_eq!(directory, "snapshots", "a segment is read as a whole at every start");
        server.kill();
        assert_check_agrees(&copy);
        let data = copy.data();
        let repaired = run(["repair", data.to_str().expect("a plain path")]);
        assert_eq!(repaired.status.code(), Some(0), "{repaired:?}");
        assert!(contents(&copy) == whole, "after {damage:?} of {}", file.display());
        unreadable += 1;
    }
    println!("{started} started whole, {unreadable} with damaged bodies, {refused} refused");
    assert!(started > 0, "nearly everything is there twice");
}

/// The page that a reader of all formulas comes to last: a page ends in front of what cannot be
/// read, and the next one says so.
fn last_page(client: &mut Client) -> Response {
    let mut page = client.get("/formulas?limit=1000");
    while page.status == 200
        && let Some(next) = page.json()["next"].as_str()
    {
        page = client.get(&format!("/formulas?limit=1000&after={next}"));
    }
    page
}

#[test]
fn missing_segment_is_a_refusal() {
    let store = stopped_store(Ending::Clean);
    let segments = files(&store.data().join("log"));
    let segments: Vec<&PathBuf> =
        segments.iter().filter(|file| file.extension().is_some_and(|end| end == "seg")).collect();
    assert!(!segments.is_empty());
    for segment in segments {
        let copy = store.copy();
        let name = segment.file_name().expect("a file has a name");
        std::fs::remove_file(copy.data().join("log").join(name)).expect("a file can be removed");
        let finished = copy.try_serve().expect_err("a segment is missing");
        assert_eq!(finished.code, Some(65), "{finished:?}");
    }
}

#[derive(Clone, Copy, Debug)]
enum Ending {
    Clean,
    Killed,
}

/// A store with formulas, leases and acks over several reigns.
fn stopped_store(ending: Ending) -> Store {
    store_of_reigns(ending, |_| ())
}

/// The same, with something more done at the end of each reign's work.
fn store_of_reigns(ending: Ending, finish: impl Fn(&mut Client)) -> Store {
    let store = Store::new().with(&["--segment-size", "64KiB"]);
    for reign in 0..3 {
        let server = store.serve();
        let mut client = server.client();
        for number in 0..FORMULAS / 3 {
            client.post("/formulas", numbered(reign * FORMULAS + number)).expect(201);
        }
        let held = lease(&mut client, 20, 3600.0);
        let receipts: Vec<&str> = held.iter().map(|message| message.receipt.as_str()).collect();
        settle(&mut client, "ack", &receipts, &json!({})).expect(200);
        finish(&mut client);
        match ending {
            Ending::Clean => assert_eq!(server.terminate().code, Some(0)),
            Ending::Killed => server.kill(),
        }
    }
    store
}

fn contents(store: &Store) -> Vec<u8> {
    let server = store.serve();
    assert_eq!(list_all(&mut server.client()).len() as u64, FORMULAS / 3 * 3);
    server.client().get("/formulas?limit=1000").expect(200).body
}

/// A place in a file: mostly in the part of a segment that is in use.
fn choose(store: &Store, rng: &mut fastrand::Rng) -> (PathBuf, Damage) {
    let directory = if rng.u8(..4) == 0 { "" } else { "log" };
    choose_in(store, directory, rng)
}

/// A place in a file right in this directory of the store.
fn choose_in(store: &Store, directory: &str, rng: &mut fastrand::Rng) -> (PathBuf, Damage) {
    let data = store.data();
    let mut candidates = files(&data.join(directory));
    candidates.retain(|file| file.file_name().is_some_and(|name| name != "LOCK"));
    candidates.retain(|file| used_bytes(file) > 0);
    let file = &candidates[rng.usize(..candidates.len())];
    let at = rng.u64(..used_bytes(file));
    let damage = if rng.bool() { Damage::Cut(at) } else { Damage::Flip(at, rng.u8(..8)) };
    (file.strip_prefix(&data).expect("a file of the store").to_owned(), damage)
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).expect("a directory can be listed");
    let paths = entries.map(|entry| entry.expect("a directory can be listed").path());
    let mut files: Vec<PathBuf> = paths.filter(|path| path.is_file()).collect();
    files.sort();
    files
}

fn used_bytes(file: &Path) -> u64 {
    let bytes = std::fs::read(file).expect("a file can be read");
    bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last as u64 + 1)
}

fn apply(file: &Path, damage: &Damage) {
    let mut bytes = std::fs::read(file).expect("a file can be read");
    match *damage {
        Damage::Cut(at) => bytes.truncate(usize::try_from(at).expect("small files")),
        Damage::Flip(at, bit) => bytes[usize::try_from(at).expect("small files")] ^= 1 << bit,
    }
    std::fs::write(file, bytes).expect("a file can be written");
}

#[track_caller]
fn assert_names_the_damage(finished: &Finished, file: &Path, damage: &Damage) {
    let said = finished.stderr.join("\n");
    assert_eq!(finished.code, Some(65), "{damage:?} of {}: {said}", file.display());
    let segment = file.file_name().expect("a file has a name").to_string_lossy().into_owned();
    assert!(said.contains(&segment), "the refusal names {segment}: {said}");
    let said = said.to_lowercase();
    assert!(said.contains("offset") || said.contains("byte"), "the refusal names a place: {said}");
    assert!(said.contains("lsn"), "the refusal names the records: {said}");
    assert!(said.contains("sillage check"), "the refusal says what to do next: {said}");
}

fn assert_check_agrees(store: &Store) {
    let data = store.data();
    let checked = run(["check", data.to_str().expect("a plain path")]);
    assert_eq!(checked.status.code(), Some(65), "{checked:?}");
}
