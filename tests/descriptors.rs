//! Descriptors are scarce, and clients want them all: the log still gets those it needs.

mod common;

use std::net::TcpStream;
use std::process::Command;

use common::{Client, Server, Store, numbered, sillage};
use sillage::limits::DESCRIPTORS_RESERVED;

/// The program under a limit of descriptors that it cannot raise.
fn limited(store: &Store, descriptors: usize) -> Command {
    let program = sillage::<&str>([]);
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit -n {descriptors}; exec \"$@\""), "sh"]);
    command.arg(program.get_program());
    command.args(["serve", "--listen", "127.0.0.1:0", "--segment-size", "64KiB"]);
    command.args(["--log-format", "json", "--data"]).arg(store.data());
    command
}

#[test]
fn log_goes_on_while_clients_hold_every_descriptor_they_can_get() {
    let store = Store::new();
    let server = Server::start(limited(&store, DESCRIPTORS_RESERVED + 8)).expect("it starts");
    let mut client = server.client();
    client.post("/formulas", numbered(0)).expect(201);
    let greedy = || TcpStream::connect(server.address()).expect("the kernel accepts");
    let held: Vec<TcpStream> = (0..2 * DESCRIPTORS_RESERVED).map(|_| greedy()).collect();
    // Enough for several new segments, each of which opens files.
    for batch in 0..20 {
        let formulas: Vec<String> = (1..=50).map(|n| numbered(batch * 50 + n)).collect();
        client.post("/formulas", format!("[{}]", formulas.join(","))).expect(201);
    }
    let segments = std::fs::read_dir(store.data().join("log")).expect("listed").count();
    assert!(segments > 3, "the log was to open files, it has {segments}");
    drop(held);
    Client::new(server.address()).get("/livez").expect(200);
}

#[test]
fn too_few_descriptors_for_the_log_are_refused_at_start() {
    let finished = Server::start(limited(&Store::new(), DESCRIPTORS_RESERVED)).expect_err("few");
    assert_eq!(finished.code, Some(74), "{finished:?}");
    assert!(finished.stderr.join("\n").contains("ulimit -n"), "{finished:?}");
}
