//! Bodies: bounded in size and time, read only when they may be.

use sillage::http::Bounds;
use sillage::limits::BATCH_BYTES_MAX;

use crate::server::{Client, Server, formula, post};

fn announce(client: &mut Client, len: usize, headers: &str) {
    client.send(&format!(
        "POST /formulas HTTP/1.1\nHost: x\nContent-Type: application/json\n\
         Content-Length: {len}\n{headers}\n"
    ));
}

fn announce_chunked(client: &mut Client) {
    client.send(
        "POST /formulas HTTP/1.1\nHost: x\nContent-Type: application/json\n\
         Transfer-Encoding: chunked\n\n",
    );
}

#[test]
fn a_large_body_is_refused_before_it_is_read() {
    let server = Server::start();
    let mut client = server.connect();
    announce(&mut client, BATCH_BYTES_MAX + 1, "");
    let reply = client.reply();
    reply.assert_problem(413, "body-too-large");
    assert_eq!(reply.header("connection"), Some("close"));
}

#[test]
fn a_client_that_sends_a_large_body_all_the_same_can_read_why() {
    let server = Server::start();
    let mut client = server.connect();
    announce(&mut client, 2 * BATCH_BYTES_MAX, "");
    client.send_bytes(&vec![b' '; 2 * BATCH_BYTES_MAX]);
    client.reply().assert_problem(413, "body-too-large");
}

#[test]
fn a_chunked_body_is_bounded_while_it_is_read() {
    let server = Server::start();
    let mut client = server.connect();
    announce_chunked(&mut client);
    let chunk = [b"10000\r\n".as_slice(), &[b' '; 0x10000], b"\r\n"].concat();
    for _ in 0..=BATCH_BYTES_MAX / 0x10000 {
        client.try_send_bytes(&chunk);
    }
    client.reply().assert_problem(413, "body-too-large");
}

#[test]
fn a_body_at_the_limit_is_read() {
    let server = Server::start();
    let mut client = server.connect();
    announce(&mut client, BATCH_BYTES_MAX, "");
    let mut body = format!("[{}]", formula(1)).into_bytes();
    body.resize(BATCH_BYTES_MAX, b' ');
    client.send_bytes(&body);
    assert_eq!(client.reply().status, 201);
}

#[test]
fn a_body_that_stops_coming_is_timed_out() {
    let server = Server::start_with(Bounds { body_deadline_ms: 50, ..Bounds::default() }, None);
    for sent in ["", "{"] {
        let mut client = server.connect();
        announce(&mut client, 100, "");
        client.send(sent);
        client.reply().assert_problem(408, "request-timeout");
    }
    let mut client = server.connect();
    announce_chunked(&mut client);
    client.send("5\nhe");
    client.reply().assert_problem(408, "request-timeout");
}

#[test]
fn a_body_that_breaks_off_is_a_bad_request() {
    let server = Server::start();
    let mut client = server.connect();
    announce(&mut client, 100, "");
    client.send("{");
    client.end();
    client.reply().assert_problem(400, "bad-request");

    let mut client = server.connect();
    announce_chunked(&mut client);
    client.send("zz\n");
    client.reply().assert_problem(400, "bad-request");
    assert!(client.is_closed());
}

#[test]
fn a_client_that_closes_its_side_gets_its_answer() {
    let server = Server::start();
    let mut client = server.connect();
    client.send(&post("", &formula(1)));
    client.end();
    assert_eq!(client.reply().status, 201);
    assert!(client.is_closed());
}

#[test]
fn a_client_that_waits_is_told_to_continue() {
    let server = Server::start();
    let mut client = server.connect();
    let body = formula(1);
    announce(&mut client, body.len(), "Expect: 100-continue\n");
    assert_eq!(client.head().status, 100);
    client.send_bytes(body.as_bytes());
    assert_eq!(client.reply().status, 201);
}

#[test]
fn a_client_that_waits_is_told_of_a_refusal_instead() {
    let server = Server::start();
    let ask = |head: &str| {
        let mut client = server.connect();
        client.send(&format!("{head}\nHost: x\nExpect: 100-continue\n\n"));
        client.reply()
    };
    let json = "Content-Type: application/json";
    ask(&format!("POST /formulas HTTP/1.1\n{json}\nContent-Length: 99999999"))
        .assert_problem(413, "body-too-large");
    ask("POST /formulas HTTP/1.1\nContent-Type: text/plain\nContent-Length: 5")
        .assert_problem(415, "unsupported-media-type");
    ask(&format!("POST /nowhere HTTP/1.1\n{json}\nContent-Length: 5"))
        .assert_problem(404, "not-found");
    ask(&format!("POST /formulas?x=1 HTTP/1.1\n{json}\nContent-Length: 5"))
        .assert_problem(400, "invalid-query");
    server.while_overloaded(|| {
        let reply = ask(&format!("POST /formulas HTTP/1.1\n{json}\nContent-Length: 5"));
        reply.assert_problem(503, "overloaded");
        assert_eq!(reply.header("retry-after"), Some("1"));
    });
}

#[test]
fn a_full_disk_refuses_intake_and_nothing_else() {
    let server = Server::start_full();
    server.ask(&post("", &formula(1))).assert_problem(507, "disk-full");
    // Who asks first need not send the body.
    server.ask(&post("Expect: 100-continue\n", &formula(1))).assert_problem(507, "disk-full");
    assert_eq!(server.ask("GET /queues HTTP/1.1\nHost: x\n\n").status, 200);
}

#[test]
fn another_expectation_fails() {
    let server = Server::start();
    let reply = server.ask(&post("Expect: tea\n", &formula(1)));
    reply.assert_problem(417, "expectation-failed");
}

#[test]
fn a_body_that_nobody_reads_does_not_spoil_the_connection() {
    let server = Server::start();
    let mut client = server.connect();
    client.send("POST /nowhere HTTP/1.1\nHost: x\nContent-Length: 5\n\nhello");
    let reply = client.reply();
    reply.assert_problem(404, "not-found");
    assert_eq!(reply.header("connection"), None);
    client.send("GET /livez HTTP/1.1\nHost: x\n\n");
    assert_eq!(client.reply().status, 200);
}

#[test]
fn a_body_that_nobody_waits_for_ends_the_connection_and_is_said_to() {
    let server = Server::start();
    for head in [
        "POST /nowhere HTTP/1.1\nContent-Length: 5",
        "POST /nowhere HTTP/1.1\nTransfer-Encoding: chunked",
        "GET /livez HTTP/1.1\nContent-Length: 5",
        "POST /formulas HTTP/1.1\nContent-Type: text/plain\nContent-Length: 5",
        "POST /formulas HTTP/1.1\nContent-Type: application/json\nContent-Length: 5\n\
         Expect: 100-continue\nIdempotency-Key: a\nIdempotency-Key: b",
    ] {
        let mut client = server.connect();
        client.send(&format!("{head}\nHost: x\n\n"));
        let reply = client.reply();
        assert_ne!(reply.status, 100, "{head}");
        assert_eq!(reply.header("connection"), Some("close"), "{head}");
        client.end();
        assert!(client.is_closed());
    }
}
