//! Heads: what is malformed, ambiguous, too large or too slow.

use sillage::http::Bounds;
use sillage::limits::{HEAD_BYTES_MAX, HEADERS_MAX, TARGET_BYTES_MAX};

use crate::server::{Server, formula, post};

const GET: &str = "GET /livez HTTP/1.1\nHost: x\n\n";

#[test]
fn every_bad_head_is_answered_with_a_problem_and_the_end() {
    let server = Server::start();
    let long_target = format!("GET /{} HTTP/1.1\nHost: x\n\n", "a".repeat(TARGET_BYTES_MAX));
    let longest_target = format!("GET /{} HTTP/1.1\n", "a".repeat(2 * HEAD_BYTES_MAX));
    let many = format!("GET / HTTP/1.1\nHost: x\n{}\n", "a: b\n".repeat(HEADERS_MAX));
    let large = format!("GET / HTTP/1.1\nHost: x\na: {}\n\n", "b".repeat(HEAD_BYTES_MAX));
    let both = "Content-Length: 5\nTransfer-Encoding: chunked\n\n0\n\n";
    for (head, status, slug) in [
        ("nonsense\n\n", 400, "bad-request"),
        ("\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\u{fc}\u{3}\u{3}", 400, "bad-request"),
        ("GET / HTTP/1.1\n\n", 400, "bad-request"),
        ("GET / HTTP/1.1\nHost: x\nHost: x\n\n", 400, "bad-request"),
        ("GET / HTTP/1.1\nHost: x\nno colon\n\n", 400, "bad-request"),
        ("GET / HTTP/1.1\nHost: x\na : b\n\n", 400, "bad-request"),
        ("GET / HTTP/1.1\nHost: x\na: b\n c\n\n", 400, "bad-request"),
        ("GET /<> HTTP/1.1\nHost: x\n\n", 400, "bad-request"),
        ("GET x HTTP/1.1\nHost: x\n\n", 400, "bad-request"),
        (&format!("POST /formulas HTTP/1.1\nHost: x\n{both}"), 400, "bad-request"),
        (
            "POST /formulas HTTP/1.1\nHost: x\nContent-Length: 1\nContent-Length: 1\n\n{",
            400,
            "bad-request",
        ),
        ("POST /formulas HTTP/1.1\nHost: x\nContent-Length: x\n\n", 400, "bad-request"),
        ("POST /formulas HTTP/1.1\nHost: x\nTransfer-Encoding: gzip\n\n", 400, "bad-request"),
        (
            "POST /formulas HTTP/1.1\nHost: x\nTransfer-Encoding: gzip, chunked\n\n",
            501,
            "not-implemented",
        ),
        (
            "POST /formulas HTTP/1.1\nHost: x\nContent-Length: 99999999999999999999\n\n",
            413,
            "body-too-large",
        ),
        ("GET / HTTP/3.7\nHost: x\n\n", 505, "http-version-not-supported"),
        ("PRI * HTTP/2.0\n\nSM\n\n", 505, "http-version-not-supported"),
        (&long_target, 414, "target-too-long"),
        (&longest_target, 414, "target-too-long"),
        (&many, 431, "head-too-large"),
        (&large, 431, "head-too-large"),
    ] {
        let mut client = server.connect();
        client.send(head);
        let shown: String = head.chars().take(60).collect();
        println!("{shown:?}");
        let reply = client.reply();
        reply.assert_problem(status, slug);
        assert_eq!(reply.header("connection"), Some("close"));
        assert!(client.is_closed());
    }
    let text = server.metrics.text();
    assert!(text.contains(r#"sillage_http_requests_total{route="none",status="431"} 2"#), "{text}");
}

#[test]
fn a_bad_head_is_answered_after_the_requests_in_front_of_it() {
    let server = Server::start();
    let mut client = server.connect();
    let body = formula(1);
    let chunked = format!(
        "POST /formulas HTTP/1.1\nHost: x\nContent-Type: application/json\n\
         Transfer-Encoding: chunked\n\n{:x}\n{body}\n0\n\n",
        body.len()
    );
    client.send(&format!("{GET}{chunked}{}bad\n\n{GET}", post("", &formula(2))));
    assert_eq!(client.reply().status, 200);
    assert_eq!(client.reply().status, 201);
    assert_eq!(client.reply().status, 201);
    client.reply().assert_problem(400, "bad-request");
    assert!(client.is_closed());
}

#[test]
fn bodies_are_never_taken_for_heads() {
    let server = Server::start();
    let mut client = server.connect();
    let inner = "bad\r\n\r\nbad";
    let head = format!("GET /livez HTTP/1.1\nHost: x\nContent-Length: {}\n\n", inner.len());
    client.send(&format!("{head}{}{GET}", inner.replace("\r\n", "\n")));
    assert_eq!(client.reply().status, 200);
    assert_eq!(client.reply().status, 200);
}

#[test]
fn a_head_may_come_byte_by_byte() {
    let server = Server::start();
    let mut client = server.connect();
    for byte in post("", &formula(1)).replace('\n', "\r\n").bytes() {
        client.send_bytes(&[byte]);
    }
    assert_eq!(client.reply().status, 201);
}

#[test]
fn a_head_at_its_limits_is_served() {
    let server = Server::start();
    let target = format!("/{}", "a".repeat(TARGET_BYTES_MAX - 1));
    server.ask(&format!("GET {target} HTTP/1.1\nHost: x\n\n")).assert_problem(404, "not-found");
    let many = "a: b\n".repeat(HEADERS_MAX - 1);
    assert_eq!(server.ask(&format!("GET /livez HTTP/1.1\nHost: x\n{many}\n")).status, 200);
}

#[test]
fn a_head_that_stops_coming_is_timed_out() {
    let server = Server::start_with(Bounds { head_deadline_ms: 50, ..Bounds::default() }, None);
    let mut client = server.connect();
    client.send("GET / HTTP/1.1\nHost:");
    client.reply().assert_problem(408, "request-timeout");
    assert!(client.is_closed());
}

#[test]
fn a_head_that_is_cut_off_is_a_bad_request() {
    let server = Server::start();
    let mut client = server.connect();
    client.send("GET / HTTP/1.1\nHost:");
    client.end();
    client.reply().assert_problem(400, "bad-request");
    assert!(client.is_closed());
}

#[test]
fn silent_and_idle_connections_are_closed_without_a_word() {
    let bounds = Bounds { head_deadline_ms: 50, keep_alive_ms: 60, ..Bounds::default() };
    let server = Server::start_with(bounds, None);
    assert!(server.connect().is_closed());
    let mut client = server.connect();
    client.send(GET);
    assert_eq!(client.reply().status, 200);
    assert!(client.is_closed());
}

#[test]
fn head_answers_as_get_does_without_the_body() {
    let server = Server::start();
    let get = server.ask("GET /problems HTTP/1.1\nHost: x\n\n");
    let mut client = server.connect();
    client.send("HEAD /problems HTTP/1.1\nHost: x\n\n");
    let head = client.head();
    assert_eq!(head.status, 200);
    assert_eq!(head.header("content-length"), get.header("content-length"));
    // The next response follows the head at once.
    client.send("HEAD /nowhere HTTP/1.1\nHost: x\n\n");
    assert_eq!(client.head().status, 404);
    client.send("HEAD /bad<> HTTP/1.1\nHost: x\n\n");
    assert_eq!(client.head().status, 400);
    assert!(client.is_closed());
}

#[test]
fn http_1_0_is_spoken() {
    let server = Server::start();
    let mut client = server.connect();
    client.send("GET /livez HTTP/1.0\n\n");
    assert_eq!(client.reply().line, "HTTP/1.0 200 OK");
    assert!(client.is_closed());

    let mut client = server.connect();
    for _ in 0..2 {
        client.send("GET /livez HTTP/1.0\nConnection: keep-alive\n\n");
        let reply = client.reply();
        assert_eq!(reply.status, 200);
        assert_eq!(reply.header("connection"), Some("keep-alive"));
    }
}

#[test]
fn absolute_targets_are_understood() {
    let server = Server::start();
    assert_eq!(server.ask("GET http://x/livez HTTP/1.1\nHost: x\n\n").status, 200);
}
