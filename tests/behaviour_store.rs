//! Rows B1–B4, B14 and B16 of the behaviours: what the disk keeps, and what it does when it fails.
//!
//! Two tests make the disk fail under the real program: a small file system of its own that
//! fills up, and a tracer that lets its next sync fail. Both need rights that not every machine
//! gives; where they are missing the test says that it was skipped.

mod common;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use common::{
    Call, Client, Server, Store, ask_until, assert_problem, body, lease, lease_waiting, list_all,
    numbered, queue_count, run, settle, sillage, together,
};
use serde_json::json;

/// Every formula has its message and every message its formula.
#[track_caller]
fn assert_formulas_are_messages(client: &mut Client) -> usize {
    let stored: BTreeSet<u64> = list_all(client).iter().map(|formula| formula.seq).collect();
    let mut announced = BTreeSet::new();
    loop {
        let messages = lease(client, 1000, 600.0);
        if messages.is_empty() {
            break;
        }
        for message in messages {
            assert!(announced.insert(message.formula.seq), "announced twice: {message:?}");
        }
    }
    assert_eq!(announced, stored);
    stored.len()
}

#[test]
fn b01_killed_at_once_both_the_formula_and_its_message_are_there() {
    let store = Store::new();
    let server = store.serve();
    let accepted: usize = together(4, |thread| {
        let mut client = server.client();
        for number in 0..25 {
            client.post("/formulas", numbered(thread as u64 * 100 + number)).expect(201);
        }
        let items: Vec<String> = (25..35).map(|n| numbered(thread as u64 * 100 + n)).collect();
        let atomic = Call::post("/formulas?atomic=true", format!("[{}]", items.join(",")));
        client.send(&atomic).expect(201);
        25 + items.len()
    })
    .into_iter()
    .sum();
    server.kill();
    let server = store.serve();
    assert_eq!(assert_formulas_are_messages(&mut server.client()), accepted);
}

#[test]
fn b02_full_disk_is_507_and_intake_resumes_by_itself() {
    let store = Store::new();
    let Some(server) = serve_on_small_file_system(&store) else { return };
    let mut client = server.client();
    client.post("/formulas", large(0)).expect(201);
    let keyed = Call::post("/formulas", format!("[{},{}]", large(0), numbered(0))).key("before");
    let first_answer = client.send(&keyed).expect(207);
    let filler = Path::new("/proc")
        .join(server.pid().as_raw_nonzero().to_string())
        .join("root")
        .join(store.data().strip_prefix("/").expect("an absolute path"))
        .with_file_name("small/filler");
    fill(&filler);

    let refused = (1..1000).find(|&n| client.post("/formulas", large(n)).status != 201);
    let first_refused = refused.expect("a full disk refuses at last");
    assert_problem(&client.post("/formulas", large(first_refused)), 507);
    assert_problem(&client.post("/formulas", large(0)), 409);
    assert_eq!(client.send(&keyed).body, first_answer.body, "neither needs any room");
    assert_eq!(list_all(&mut client).len() as u64, first_refused + 1, "reads go on");
    let held = lease(&mut client, 1, 30.0);
    settle(&mut client, "ack", &[&held[0].receipt], &json!({})).expect(200);
    let snapshot = Call::new("POST", "/admin/snapshot");
    assert_problem(&client.send(&snapshot), 507);
    let snapshots = store_beside(&filler, "data/snapshots");
    assert_eq!(snapshots, Vec::<String>::new(), "nothing half written takes up room");

    std::fs::remove_file(&filler).expect("our own file can be removed");
    ask_until("intake resumes", || {
        let answer = client.post("/formulas", large(first_refused));
        assert!([201, 507].contains(&answer.status), "{answer:?}");
        answer.status == 201
    });
    assert_eq!(list_all(&mut client).len() as u64, first_refused + 2);
    let waiting = queue_count(&mut client, "ready");
    assert_eq!(waiting, first_refused + 1, "one message each, one of them acked");
    client.send(&snapshot).expect(200);
    assert_eq!(store_beside(&filler, "data/snapshots").len(), 1);
    assert_eq!(list_all(&mut client).len() as u64, first_refused + 2);
}

/// The names of the files in a directory beside `filler`; none when it is not there.
fn store_beside(filler: &Path, directory: &str) -> Vec<String> {
    let Ok(listed) = std::fs::read_dir(filler.with_file_name(directory)) else {
        return Vec::new();
    };
    let names = listed.map(|entry| entry.expect("it can be listed").file_name());
    names.map(|name| name.to_string_lossy().into_owned()).collect()
}

#[test]
fn b02_failed_sync_is_503_unknown_and_the_retry_ends_in_one_formula() {
    let store = Store::new();
    let mut server = store.serve();
    server.client().post("/formulas", numbered(1)).expect(201);
    let Some(mut tracer) = let_every_sync_fail(&server) else { return };
    let call = Call::post("/formulas", numbered(2)).key("once");
    let answer = server.client().send(&call);
    let problem = assert_problem(&answer, 503);
    assert_eq!(problem["outcome"], "unknown");
    let finished = server.finished();
    assert_eq!(finished.code, Some(74), "never serve from a state that the disk may not have");
    tracer.wait().expect("the tracer ends with the traced");

    let server = store.serve();
    let mut client = server.client();
    client.send(&call).expect(201);
    client.send(&call).expect(201);
    assert_eq!(assert_formulas_are_messages(&mut client), 2);
}

#[test]
fn b03_torn_tail_is_cut_kept_aside_and_everything_acknowledged_is_there() {
    let store = Store::new();
    let server = store.serve();
    let mut client = server.client();
    for number in 1..=20 {
        client.post("/formulas", numbered(number)).expect(201);
    }
    let acknowledged = client.get("/formulas?limit=1000").expect(200).body;
    // What the disk would hold had the power gone while the next record was written: the log up
    // to here and a part of that record.
    let torn = store.copy_of_running();
    client.post("/formulas", numbered(21)).expect(201);
    server.kill();
    let whole = std::fs::read(last_segment(&store.data())).expect("a segment can be read");
    let end = end_of_frames(&whole);
    let tail = last_segment(&torn.data());
    let mut bytes = std::fs::read(&tail).expect("a segment can be read");
    let begin = end_of_frames(&bytes);
    assert!(begin < end, "the copy lacks the last record");
    bytes[begin..end - 40].copy_from_slice(&whole[begin..end - 40]);
    std::fs::write(&tail, bytes).expect("a segment can be written");

    let server = torn.serve();
    let mut client = server.client();
    assert_eq!(client.get("/formulas?limit=1000").expect(200).body, acknowledged);
    let quarantine = std::fs::read_dir(torn.data().join("quarantine"));
    assert!(quarantine.expect("what was cut is kept").next().is_some());
    client.post("/formulas", numbered(21)).expect(201);
    assert_eq!(assert_formulas_are_messages(&mut client), 21);
}

#[test]
fn b04_work_under_way_at_a_crash_is_found_again() {
    let store = Store::new().with(&["--max-attempts", "2"]);
    let server = store.serve();
    let mut client = server.client();
    for number in 1..=3 {
        client.post("/formulas", numbered(number)).expect(201);
    }
    let held = lease(&mut client, 2, 0.2);
    let delayed = lease(&mut client, 1, 30.0);
    let delay = json!({"delay_s": 0.2});
    settle(&mut client, "nack", &[&delayed[0].receipt], &delay).expect(200);
    server.kill();
    let server = store.serve();
    let mut client = server.client();
    let mut found = BTreeSet::new();
    while found.len() < 3 {
        let messages = lease_waiting(&mut client, json!({"max": 3, "lease_s": 60, "wait_s": 20}));
        assert!(!messages.is_empty(), "only {found:?} came back");
        assert!(messages.iter().all(|message| message.attempt == 2), "{messages:?}");
        found.extend(messages.into_iter().map(|message| message.id));
    }
    let known = held.iter().chain(&delayed).map(|message| message.id.clone());
    assert_eq!(found, known.collect());
}

#[test]
fn b14_a_restart_keeps_everything_and_ephemeral_nothing() {
    let store = Store::new();
    let server = store.serve();
    for number in 1..=5 {
        server.client().post("/formulas", numbered(number)).expect(201);
    }
    let before = server.client().get("/formulas").expect(200).body;
    assert_eq!(server.terminate().code, Some(0));
    let server = store.serve();
    assert_eq!(server.client().get("/formulas").expect(200).body, before);
    assert_eq!(assert_formulas_are_messages(&mut server.client()), 5);

    let nothing = Store::ephemeral();
    let server = nothing.serve();
    server.client().post("/formulas", numbered(1)).expect(201);
    assert_eq!(list_all(&mut server.client()).len(), 1);
    assert_eq!(server.terminate().code, Some(0));
    let server = nothing.serve();
    assert!(list_all(&mut server.client()).is_empty());
    assert!(!nothing.data().exists(), "no directory of ours was touched");
}

#[test]
fn b14_many_restarts_leave_a_store_that_the_checker_accepts() {
    let store = Store::new();
    for round in 1..=8 {
        let server = store.serve();
        let mut client = server.client();
        for number in 0..5 {
            client.post("/formulas", numbered(round * 5 + number)).expect(201);
        }
        let held = lease(&mut client, 2, 600.0);
        settle(&mut client, "ack", &[&held[0].receipt], &json!({})).expect(200);
        assert_eq!(list_all(&mut client).len() as u64, round * 5);
        if round % 2 == 0 {
            server.kill();
        } else {
            assert_eq!(server.terminate().code, Some(0));
        }
    }
    let data = store.data();
    let checked = run(["check", data.to_str().expect("a plain path")]);
    assert_eq!(checked.status.code(), Some(0), "{checked:?}");
}

#[test]
fn b16_the_log_is_the_outbox() {
    // What an outbox is for: a consumer that was away at the time misses nothing, and the store
    // never holds what no consumer is told of. Killed without a chance to publish anything.
    let store = Store::new();
    let server = store.serve();
    server.client().post("/formulas", numbered(1)).expect(201);
    server.kill();
    let server = store.serve();
    let messages = lease(&mut server.client(), 10, 30.0);
    assert_eq!(messages.len(), 1);
    let path = format!("/formulas/{}", messages[0].formula.id);
    server.client().get(&path).expect(200);
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = std::fs::read_to_string(readme).expect("there is a README");
    assert!(readme.contains("outbox"), "the README explains the log as outbox");
}

/// A formula whose record takes some tens of kilobytes.
fn large(number: u64) -> String {
    let names: Vec<String> = (0..300).map(|n| format!("{n} {}", "long name ".repeat(12))).collect();
    let digits = format!("0.{:05}", number + 1);
    let lines: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), &*digits)).collect();
    body(&format!("Large {number}"), &lines)
}

/// A server whose data directory is a file system of a few megabytes, seen by it alone.
fn serve_on_small_file_system(store: &Store) -> Option<Server> {
    let small = store.beside("small");
    std::fs::create_dir(&small).expect("a directory can be made");
    let script = r#"mount -t tmpfs -o size=8m none "$1" && shift && exec "$@""#;
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"]).arg(&small);
    if let Err(why) = can_mount(&small) {
        eprintln!("skipped: no file system of our own can be mounted here: {why}");
        return None;
    }
    let program = sillage(["serve", "--listen", "127.0.0.1:0", "--segment-size", "1MiB"]);
    command.arg(program.get_program()).args(program.get_args());
    command.args(["--log-format", "json", "--data"]).arg(small.join("data"));
    Some(Server::start(command).expect("the server starts on a small file system"))
}

fn can_mount(at: &Path) -> Result<(), String> {
    let script = r#"mount -t tmpfs -o size=1m none "$1""#;
    let mut attempt = Command::new("unshare");
    attempt.args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"]).arg(at);
    match attempt.output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Writes until the file system is full, down to its last block.
fn fill(filler: &Path) {
    let mut file = File::create(filler).expect("a file can be made");
    let zeros = vec![0; 4096];
    while file.write_all(&zeros).is_ok() {}
}

/// Attaches a tracer that answers each sync of the server with EIO.
fn let_every_sync_fail(server: &Server) -> Option<Child> {
    let mut command = Command::new("strace");
    command.args(["-f", "-o", "/dev/null", "-e", "trace=fdatasync,fsync,sync_file_range"]);
    command.args(["-e", "inject=fdatasync,fsync,sync_file_range:error=EIO"]);
    command.args(["-p", &server.pid().as_raw_nonzero().to_string()]);
    let spawned = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn();
    let mut tracer = match spawned {
        Ok(tracer) => tracer,
        Err(error) => {
            eprintln!("skipped: strace cannot be run here: {error}");
            return None;
        }
    };
    let mut said = BufReader::new(tracer.stderr.take().expect("stderr is piped"));
    let mut line = String::new();
    said.read_line(&mut line).expect("strace says whether it is attached");
    // The rest of what it says is read away, so that it never waits for us.
    std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
    if line.contains("attached") {
        return Some(tracer);
    }
    eprintln!("skipped: strace cannot attach here: {}", line.trim());
    tracer.wait().expect("our own child can be waited for");
    None
}

fn last_segment(data: &Path) -> PathBuf {
    let files = std::fs::read_dir(data.join("log")).expect("a store has a log");
    let paths = files.map(|file| file.expect("a directory can be listed").path());
    let segments = paths.filter(|path| path.extension().is_some_and(|end| end == "seg"));
    segments.max().expect("a log has segments")
}

/// Where the zeros behind the last frame begin, by docs/FORMAT.md: frames stand behind the
/// first page; each is a header of 48 bytes with the length of its payload at 8, and padding.
fn end_of_frames(segment: &[u8]) -> usize {
    let u32_at = |at: usize| {
        let bytes = segment[at..at + 4].try_into().expect("four bytes");
        u32::from_le_bytes(bytes)
    };
    let mut end = 4096;
    while u32_at(end) != 0 {
        let payload = usize::try_from(u32_at(end + 8)).expect("at most 4 GiB");
        end += (48 + payload).next_multiple_of(8);
    }
    end
}
