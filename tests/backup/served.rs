//! `GET /admin/backup` and `sillage backup`: taken while the store is served.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::ops::ControlFlow;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::Value;
use sha2::{Digest, Sha256};
use sillage::engine::open::replay;
use sillage::log::inspect::{self, Frame};
use sillage::log::{Disk, Entry, OsDisk, Place};
use sillage::state::State;

use super::archive::{members, pack};
use super::common::{
    Call, Server, Store, ask_until, assert_problem, lease, list_all, numbered, queue_count, run,
    settle,
};
use super::{check, closed_store, lsn, names, refusal, restored, text};

/// A server that answers one call with these bytes, and says that so many will come.
fn double(body: Vec<u8>, announced: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client comes");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("a whole head");
            head.extend_from_slice(&byte);
        }
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/x-tar\r\nx-request-id: 1\r\n\
             content-length: {announced}\r\nconnection: close\r\n\r\n"
        );
        // A client that has seen enough may have left.
        let _sent = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
    });
    address
}

fn backed_up(address: SocketAddr, file: &Path) -> std::process::Output {
    run(["backup", &format!("http://{address}"), text(file)])
}

#[test]
fn what_arrives_altered_or_cut_short_is_not_kept() {
    let bytes = pack(&members(&closed_store(100).data()), 1);
    let home = tempfile::tempdir().expect("a directory");
    let file = home.path().join("b.tar");
    for at in (0..bytes.len()).step_by(bytes.len() / 12) {
        let mut altered = bytes.clone();
        altered[at] ^= 4;
        let said = refusal(&backed_up(double(altered, bytes.len()), &file), 65);
        assert!(said.contains("nothing was kept"), "{said}");
        assert_eq!(names(home.path()), [""; 0], "byte {at}");
        // A server that ends in good order, but too early.
        let said = refusal(&backed_up(double(bytes[..at].to_vec(), at), &file), 65);
        assert!(said.contains("nothing was kept"), "{said}");
        // A connection that breaks.
        let said = refusal(&backed_up(double(bytes[..at].to_vec(), bytes.len()), &file), 74);
        assert!(said.contains("broke off"), "{said}");
        assert_eq!(names(home.path()), [""; 0], "cut at {at}");
    }
    let whole = backed_up(double(bytes.clone(), bytes.len()), &file);
    assert_eq!(whole.status.code(), Some(0), "{whole:?}");
    assert_eq!(std::fs::read(&file).expect("it is there"), bytes);
}

#[test]
fn file_that_is_there_is_kept_unless_forced() {
    let bytes = pack(&members(&closed_store(1).data()), 1);
    let home = tempfile::tempdir().expect("a directory");
    let file = home.path().join("b.tar");
    std::fs::write(&file, "mine").expect("written");
    let said = refusal(&backed_up(double(bytes.clone(), bytes.len()), &file), 2);
    assert!(said.contains("--force"), "{said}");
    let url = format!("http://{}", double(bytes[..9].to_vec(), 9));
    refusal(&run(["backup", &url, text(&file), "--force"]), 65);
    assert_eq!(std::fs::read(&file).expect("it is there"), b"mine");
    let url = format!("http://{}", double(bytes.clone(), bytes.len()));
    let output = run(["backup", &url, text(&file), "--force"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(std::fs::read(&file).expect("it is there"), bytes);
    assert_eq!(names(home.path()), ["b.tar"]);
    let nobody = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let nobody = nobody.expect("a port that is free again");
    let said = refusal(&backed_up(nobody, &home.path().join("c.tar")), 74);
    assert!(said.contains("cannot reach"), "{said}");
    let nowhere = home.path().join("nowhere/b.tar");
    let said = refusal(&backed_up(nobody, &nowhere), 74);
    assert!(said.contains("cannot write"), "{said}");
    assert_eq!(names(home.path()), ["b.tar"]);
}

#[test]
fn server_that_knows_no_backups_is_told() {
    let store = Store::new();
    let server = store.serve();
    let url = format!("http://{}/livez", server.address());
    let said = refusal(&run(["backup", &url, text(&store.beside("b.tar"))]), 65);
    assert!(said.contains("404"), "{said}");
    assert!(!store.beside("b.tar.part").exists());
}

/// Posts formulas on some threads until it is dropped, and remembers what was acknowledged.
struct Load {
    acknowledged: Arc<Mutex<Vec<String>>>,
    is_over: Arc<AtomicBool>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Load {
    fn on(server: &Server) -> Load {
        let acknowledged = Arc::new(Mutex::new(Vec::new()));
        let is_over = Arc::new(AtomicBool::new(false));
        let post = |thread: u64| {
            let mut client = server.client();
            let (acknowledged, is_over) = (Arc::clone(&acknowledged), Arc::clone(&is_over));
            thread::spawn(move || {
                for number in 0.. {
                    if is_over.load(Ordering::Relaxed) {
                        return;
                    }
                    let formula = numbered(thread * 100_000 + number);
                    let call = Call::post("/formulas", formula).key(format!("{thread}/{number}"));
                    let answer = client.send(&call).expect(201).json();
                    let id = answer["id"].as_str().expect("an id").to_owned();
                    acknowledged.lock().expect("no panic").push(id);
                    if number % 20 == 0 {
                        let leased = lease(&mut client, 3, 600.0);
                        let receipts: Vec<&str> =
                            leased.iter().map(|message| message.receipt.as_str()).take(2).collect();
                        settle(&mut client, "ack", &receipts, &Value::Null);
                    }
                }
            })
        };
        let threads = (0..4).map(post).collect();
        Load { acknowledged, is_over, threads }
    }

    fn count(&self) -> usize {
        self.acknowledged.lock().expect("no panic").len()
    }

    /// What was acknowledged by now, once it is this many.
    fn reaches(&self, count: usize) -> Vec<String> {
        ask_until("formulas are acknowledged", || self.count() >= count);
        self.acknowledged.lock().expect("no panic").clone()
    }

    fn end(self) -> Vec<String> {
        self.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("every formula was accepted");
        }
        self.acknowledged.lock().expect("no panic").clone()
    }
}

/// The digest of the state to which the log in a directory replays up to a record.
fn replayed(data: &Path, last: u64) -> u128 {
    let disk: Arc<dyn Disk> = Arc::new(OsDisk::open(data).expect("a directory"));
    let mut state = State::default();
    let visit = |frame: Frame<'_>| {
        if frame.lsn.0 > last {
            return ControlFlow::Break(());
        }
        if frame.kind.is_delivered() {
            let Frame { lsn, epoch, kind, payload, .. } = frame;
            let entry = Entry { lsn, epoch, kind, place: Place::Alone, payload };
            replay(&mut state, None, &entry).expect("a record of ours");
        }
        ControlFlow::Continue(())
    };
    inspect::frames(&disk, visit).expect("a sound log");
    state.digest()
}

#[test]
fn backup_under_full_load_restores_to_the_state_at_one_record() {
    let store = Store::new().with(&["--segment-size", "64KiB"]);
    let server = store.serve();
    let load = Load::on(&server);
    let home = tempfile::tempdir().expect("a directory");
    let mut backups = Vec::new();
    for round in 1..=3 {
        let before = load.reaches(round * 300);
        let file = home.path().join(format!("{round}.tar"));
        let output = backed_up(server.address(), &file);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        backups.push((before, file));
    }
    load.reaches(backups.last().map_or(0, |(before, _)| before.len()) + 100);
    let all: BTreeSet<String> = load.end().into_iter().collect();
    let of_server = list_all(&mut server.client());
    assert_eq!(server.terminate().code, Some(0));
    for (before, file) in backups {
        let target = home.path().join("restored");
        let output = restored(&file, &target);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let last = lsn(&check(&target));
        assert_eq!(replayed(&target, last), replayed(&store.data(), last));
        let there = Store::new().with(&["--data", text(&target)]).serve();
        let formulas = list_all(&mut there.client());
        let ids: BTreeSet<String> = formulas.iter().map(|formula| formula.id.clone()).collect();
        assert!(before.iter().all(|id| ids.contains(id)), "acknowledged before, and not in it");
        assert!(ids.is_subset(&all), "in it, and never acknowledged");
        let prefix = of_server.iter().filter(|formula| formula.seq <= last);
        let prefix: Vec<String> = prefix.map(|formula| format!("{formula:?}")).collect();
        assert_eq!(formulas.len(), prefix.len());
        assert!(formulas.iter().zip(&prefix).all(|(one, other)| format!("{one:?}") == *other));
        drop(there);
        std::fs::remove_dir_all(&target).expect("it can be removed");
    }
}

#[test]
fn backup_is_for_admins_and_says_what_it_is() {
    let store = Store::new();
    let tokens = store.beside("tokens");
    let line = |name: &str, scopes: &str| {
        let sum: String = Sha256::digest(name).iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{name} {sum} {scopes}\n")
    };
    let text_of = line("all", "submit,read,consume,admin") + &line("most", "submit,read,consume");
    std::fs::write(&tokens, text_of).expect("written");
    let store = store.with(&["--tokens", text(&tokens)]);
    let server = store.serve();
    let mut client = server.client();
    client.send(&Call::post("/formulas", numbered(1)).token("all")).expect(201);
    for (method, path) in [("GET", "/admin/backup"), ("POST", "/admin/snapshot")] {
        assert_problem(&client.send(&Call::new(method, path)), 401);
        let refused = client.send(&Call::new(method, path).token("most"));
        assert_problem(&refused, 403);
    }
    let call = Call::get("/admin/backup").token("all");
    let refused = client.send(&call.clone().header("Accept", "application/json"));
    assert_problem(&refused, 406);
    let answer = client.send(&call).expect(200);
    assert_eq!(answer.header("content-type"), Some("application/x-tar"));
    let name = answer.header("content-disposition").expect("it has a name");
    assert!(name.starts_with("attachment; filename=\"sillage-") && name.ends_with(".tar\""));
    let head = client.send(&Call::new("HEAD", "/admin/backup").token("all")).expect(200);
    assert_eq!(head.header("content-length"), answer.header("content-length"));
    assert_eq!(client.send(&call).expect(200).body.len(), answer.body.len());
    let url = format!("http://{}", server.address());
    let file = store.beside("b.tar");
    let said = refusal(&run(["backup", &url, text(&file)]), 2);
    assert!(said.contains("401"), "{said}");
    let output = run(["backup", &url, text(&file), "--token", "all"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[test]
fn tools_that_every_system_has_read_and_verify_it() {
    let store = closed_store(30);
    let server = store.serve();
    let archive = store.beside("b.tar");
    assert_eq!(backed_up(server.address(), &archive).status.code(), Some(0));
    let target = store.beside("unpacked");
    std::fs::create_dir(&target).expect("made");
    for (program, arguments) in
        [("tar", ["xf", text(&archive)]), ("sha256sum", ["--check", "SHA256SUMS"])]
    {
        let run = Command::new(program).args(arguments).current_dir(&target).output();
        let Ok(output) = run else {
            eprintln!("skipped: there is no {program}");
            return;
        };
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    }
    check(&target);
    let there = Store::new().with(&["--data", text(&target)]).serve();
    let shown = |server: &Server| format!("{:?}", list_all(&mut server.client()));
    assert_eq!(shown(&there), shown(&server));
}

#[test]
fn backup_holds_snapshots_and_what_came_after_them() {
    let store = closed_store(400);
    let server = store.serve();
    let mut client = server.client();
    let home = tempfile::tempdir().expect("a directory");
    for round in 0..3 {
        client.post("/formulas", numbered(1000 + round)).expect(201);
        let report = client.send(&Call::new("POST", "/admin/snapshot")).expect(200).json();
        assert_eq!(report["formulas"], 400 + 2 * round, "{report}");
        assert!(report["lsn"].as_u64() > Some(400) && report["bytes"].as_u64() > Some(0));
        assert!(report["took_s"].is_number(), "{report}");
        client.post("/formulas", numbered(2000 + round)).expect(201);
        let file = home.path().join(format!("{round}.tar"));
        assert_eq!(backed_up(server.address(), &file).status.code(), Some(0));
        let target = home.path().join(format!("{round}"));
        let output = restored(&file, &target);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert_eq!(names(&target.join("snapshots")).len(), 1, "the newest is enough");
        let there = Store::new().with(&["--data", text(&target)]).serve();
        let shown = |server: &Server| format!("{:?}", list_all(&mut server.client()));
        assert_eq!(shown(&there), shown(&server));
        for phase in ["ready", "leased", "dead"] {
            let one = queue_count(&mut there.client(), phase);
            assert_eq!(one, queue_count(&mut client, phase), "{phase}");
        }
        let exported = run(["export", &format!("http://{}", there.address())]);
        assert_eq!(there.terminate().code, Some(0));
        let offline = run(["export", "--data", text(&target)]);
        assert_eq!(offline.status.code(), Some(0), "{offline:?}");
        assert_eq!(offline.stdout, exported.stdout);
    }
}

#[test]
fn compact_takes_a_snapshot_of_a_store_that_nobody_serves() {
    let store = closed_store(300);
    let before = run(["export", "--data", text(&store.data())]);
    for _ in 0..3 {
        let output = run(["compact", text(&store.data())]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let said = String::from_utf8(output.stdout).expect("UTF-8");
        assert!(said.contains("299 formulas"), "{said}");
        check(&store.data());
        assert_eq!(run(["export", "--data", text(&store.data())]).stdout, before.stdout);
    }
    assert!(names(&store.data().join("snapshots")).len() <= 2);
    let nowhere = store.beside("nowhere");
    refusal(&run(["compact", text(&nowhere)]), 2);
    assert!(!nowhere.exists());
    let server = store.serve();
    refusal(&run(["compact", text(&store.data())]), 75);
    assert_eq!(list_all(&mut server.client()).len(), 299);
}
