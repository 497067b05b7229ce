//! Backups: a client that does not take its copy holds nobody up for long.

use sillage::http::Bounds;
use sillage::limits::BACKUPS_MAX;
use socket2::{Domain, Socket, Type};

use crate::server::{Client, Server, post};

const BACKUP: &str = "GET /admin/backup HTTP/1.1\nHost: x\nConnection: close\n\n";

/// A formula of some 280 kilobytes.
fn large(number: u32) -> String {
    let name = "n".repeat(240);
    let line =
        |line| format!(r#"{{"name":"{name} {number} {line}","concentration":0.0{number:02}1}}"#);
    let lines: Vec<String> = (0..1000).map(line).collect();
    format!(r#"{{"name":"F","materials":[{}]}}"#, lines.join(","))
}

#[test]
fn a_client_that_does_not_read_its_backup_is_given_up_and_its_place_is_free_again() {
    let server = Server::start_with(Bounds { write_deadline_ms: 100, ..Bounds::default() }, None);
    for number in 0..40 {
        assert_eq!(server.ask(&post("Connection: close\n", &large(number))).status, 201);
    }
    let stuck = || {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        socket.connect(&server.address.into()).unwrap();
        let mut client = Client::new(socket.into());
        client.send(BACKUP);
        client
    };
    let stuck: Vec<Client> = (0..BACKUPS_MAX).map(|_| stuck()).collect();
    // They are still there, and take nothing. Sooner or later others get theirs.
    let whole = loop {
        let reply = server.ask(BACKUP);
        if reply.status == 200 {
            break reply.body.len();
        }
        reply.assert_problem(503, "overloaded");
    };
    assert!(whole > 10 << 20, "{whole} bytes");
    for mut client in stuck {
        assert!(client.rest().len() < whole, "it was cut off");
    }
}
