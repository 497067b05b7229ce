//! Checks that need no body: tokens, methods, types, request ids.

use std::path::Path;

use sillage::http::Bounds;
use sillage::http::auth::Tokens;

use crate::server::{Reply, Server, formula, post};

/// SHA-256 of `foo` with all scopes but admin, of `bar` with read.
const TOKENS: &str = "\
    all 2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae submit,read,consume\n\
    eye fcde2b2edba56bf408601fb721fe9b5c338d10ee429ea04fae5511b68fbf8fb9 read\n";

fn get(server: &Server, target: &str, headers: &str) -> Reply {
    server.ask(&format!("GET {target} HTTP/1.1\nHost: x\n{headers}\n"))
}

#[test]
fn tokens_open_their_scopes() {
    let tokens = Tokens::parse(Path::new("tokens"), TOKENS).unwrap();
    let server = Server::start_with(Bounds::default(), Some(tokens));
    let reply = server.ask(&post("", &formula(1)));
    reply.assert_problem(401, "unauthorized");
    assert!(reply.header("www-authenticate").unwrap().starts_with("Bearer"));
    get(&server, "/formulas", "Authorization: Bearer baz\n").assert_problem(401, "unauthorized");
    get(&server, "/formulas", "Authorization: Basic bar\n").assert_problem(401, "unauthorized");

    let reply = server.ask(&post("Authorization: Bearer bar\n", &formula(1)));
    reply.assert_problem(403, "missing-scope");
    assert!(reply.json()["detail"].as_str().unwrap().contains("submit"));
    assert_eq!(server.ask(&post("Authorization: Bearer foo\n", &formula(1))).status, 201);
    assert_eq!(get(&server, "/formulas", "Authorization: Bearer bar\n").status, 200);
    for open in ["/livez", "/readyz", "/version", "/problems", "/problems/overloaded", "/"] {
        assert_eq!(get(&server, open, "").status, 200, "{open}");
    }
    get(&server, "/metrics", "").assert_problem(401, "unauthorized");
}

#[test]
fn methods_are_told_and_options_agree() {
    let server = Server::start();
    for (path, allow) in [
        ("/formulas", "POST, GET, HEAD, OPTIONS"),
        ("/formulas/7", "GET, HEAD, DELETE, OPTIONS"),
        ("/queues/formulas/lease", "POST, OPTIONS"),
        ("/livez", "GET, HEAD, OPTIONS"),
    ] {
        let reply = server.ask(&format!("PATCH {path} HTTP/1.1\nHost: x\n\n"));
        reply.assert_problem(405, "method-not-allowed");
        assert_eq!(reply.header("allow"), Some(allow));
        let reply = server.ask(&format!("OPTIONS {path} HTTP/1.1\nHost: x\n\n"));
        assert_eq!((reply.status, reply.header("allow")), (204, Some(allow)));
    }
    let all = server.ask("OPTIONS * HTTP/1.1\nHost: x\n\n");
    assert_eq!(all.header("allow"), Some("POST, GET, HEAD, DELETE, OPTIONS"));
}

#[test]
fn strange_paths_and_methods_are_not_found_or_not_allowed() {
    let server = Server::start();
    for path in ["/nowhere", "/formulas/", "//formulas", "/formulas/7/8/9", "/Formulas", "/%ff"] {
        get(&server, path, "").assert_problem(404, "not-found");
    }
    server.ask("BREW /formulas HTTP/1.1\nHost: x\n\n").assert_problem(405, "method-not-allowed");
    server.ask("CONNECT x:80 HTTP/1.1\nHost: x\n\n").assert_problem(404, "not-found");
    server.ask("TRACE / HTTP/1.1\nHost: x\n\n").assert_problem(405, "method-not-allowed");
}

#[test]
fn query_parameters_are_known_and_single() {
    let server = Server::start();
    for query in ["x=1", "limit=1&limit=1", "limit=1&LIMIT=1", "name=%ff"] {
        get(&server, &format!("/formulas?{query}"), "").assert_problem(400, "invalid-query");
    }
    get(&server, "/livez?x", "").assert_problem(400, "invalid-query");
    assert_eq!(get(&server, "/formulas?limit=1&", "").status, 200);
}

#[test]
fn what_the_client_would_throw_away_is_not_sent() {
    let server = Server::start();
    get(&server, "/formulas", "Accept: text/html\n").assert_problem(406, "not-acceptable");
    get(&server, "/metrics", "Accept: application/json\n").assert_problem(406, "not-acceptable");
    for accept in ["*/*", "application/*;q=0.1", "text/html, application/json"] {
        let reply = get(&server, "/formulas", &format!("Accept: {accept}\n"));
        assert_eq!(reply.status, 200, "{accept}");
    }
}

#[test]
fn bodies_are_declared() {
    let server = Server::start();
    let none = "POST /formulas HTTP/1.1\nHost: x\nContent-Type: application/json\n\n";
    server.ask(none).assert_problem(411, "length-required");
    let typed = |content_type: &str| {
        server.ask(&format!(
            "POST /formulas HTTP/1.1\nHost: x\n{content_type}Content-Length: 2\n\n{{}}"
        ))
    };
    for line in [
        "",
        "Content-Type: text/plain\n",
        "Content-Type: application/x-www-form-urlencoded\n",
        "Content-Type: application/json; charset=latin1\n",
        "Content-Type: application/json\nContent-Encoding: gzip\n",
        "Content-Type: application/json\nContent-Type: application/json\n",
    ] {
        typed(line).assert_problem(415, "unsupported-media-type");
    }
    assert_eq!(typed("Content-Type: application/json; charset=UTF-8\n").status, 400);
    // Where a body may be left out, so may its length.
    assert_eq!(server.ask("POST /queues/formulas/lease HTTP/1.1\nHost: x\n\n").status, 200);
}

#[test]
fn every_response_carries_a_request_id() {
    let server = Server::start();
    let reply = get(&server, "/livez", "X-Request-Id: mine-1\n");
    assert_eq!(reply.header("x-request-id"), Some("mine-1"));
    let reply = get(&server, "/nowhere", "X-Request-Id: mine-2\n");
    assert_eq!(reply.header("x-request-id"), Some("mine-2"));
    reply.assert_problem(404, "not-found");

    let long = "x".repeat(129);
    let mut seen = vec![String::new()];
    for own in ["", "X-Request-Id: a b\n", "X-Request-Id:\n", &format!("X-Request-Id: {long}\n")] {
        let reply = get(&server, "/livez", own);
        let id = reply.header("x-request-id").unwrap();
        assert!(id.len() == 16 && !seen.iter().any(|seen| seen == id), "{id}");
        seen.push(id.to_owned());
    }
}
