//! Descriptors run out: the server waits for one, and serves again when there is.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sillage::limits::ACCEPT_BACKOFF_MS;

use crate::server::Server;

/// Set in the process of its own that the test runs in: the limit is the whole process's.
const CHILD: &str = "SILLAGE_TEST_DESCRIPTORS";

#[test]
fn the_server_survives_running_out_of_descriptors() {
    if std::env::var_os(CHILD).is_some() {
        return run_out();
    }
    let name = "descriptors::the_server_survives_running_out_of_descriptors";
    let child = Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture"])
        .env(CHILD, "1")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stderr));
}

fn run_out() {
    const GET: &[u8] = b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let server = Server::start();
    assert_eq!(server.ask("GET /livez HTTP/1.1\nHost: x\n\n").status, 200);
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(64), ..limit }).unwrap();
    // Client and server share the limit: at some point one of them has none left.
    let mut held: Vec<TcpStream> = Vec::new();
    while let Ok(client) = TcpStream::connect(server.address) {
        held.push(client);
    }
    // The accept loop fails, but neither spins nor ends.
    let began = Instant::now();
    let failures = || server.metrics.accept_failures.get();
    let before = failures();
    while failures() < before + 3 {
        std::thread::yield_now();
    }
    assert!(began.elapsed() >= Duration::from_millis(2 * ACCEPT_BACKOFF_MS));
    let mut last = held.pop().unwrap();
    last.write_all(GET).unwrap();
    held.clear();
    let mut answer = String::new();
    last.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(server.ask("GET /livez HTTP/1.1\nHost: x\n\n").status, 200);
}
