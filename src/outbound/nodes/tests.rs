//! The exact requests, and everything that a node may answer.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::limits::GROUP_ID_BYTES_MAX;
use crate::metrics::releases::ReleaseMetrics;
use crate::outbound::fault::Phase;
use crate::outbound::harness::{Reply as Play, Server, Told, answer, target};
use crate::time::{Timestamp, Uptime};

const KEY: &str = "0b5c/17/0/1";
const DEADLINE_MS: u64 = 5_000;
const NOW: Moment = Moment { wall: Timestamp(1_000_000), uptime: Uptime(50) };

fn client() -> NodeClient {
    let health = Health::new(&[], DEADLINE_MS, ReleaseMetrics::default());
    NodeClient::new(&Tls::public(), health, Arc::new(|| NOW))
}

fn group(text: &str) -> GroupId {
    text.parse().expect("a group's name")
}

fn plays(status: &str, body: &str) -> Play {
    Play::Send(answer(status, "", body))
}

async fn looked(play: Play) -> Result<Presence, NodeFault> {
    let server = Server::start(vec![play]).await;
    client().look(&server.url(""), &group("g"), DEADLINE_MS).await
}

async fn called(action: Action, play: Play) -> NodeAnswer {
    let server = Server::start(vec![play]).await;
    client().call(&server.url(""), action, &group("g"), KEY, DEADLINE_MS).await
}

fn reply(status: u16, said: &str) -> Reply {
    let status = StatusCode::from_u16(status).expect("a status");
    Reply { status, said: Said(said.to_owned()) }
}

#[tokio::test]
async fn the_requests_are_those_of_the_contract() {
    let server = Server::start(vec![plays("200 OK", "")]).await;
    let (client, node) = (client(), server.url(""));
    assert_eq!(client.look(&node, &group("g 1"), DEADLINE_MS).await, Ok(Presence::Present));
    for action in [Action::Create, Action::Delete] {
        client.call(&node, action, &group("g \"1\""), "a\"b\\c", DEADLINE_MS).await;
    }
    let requests = server.seen().requests;
    assert!(requests[0].starts_with("GET /v1/group/g%201/ HTTP/1.1\r\n"), "{}", requests[0]);
    assert!(requests[0].ends_with("\r\n\r\n"), "{}", requests[0]);
    assert!(!requests[0].contains("idempotency-key"), "{}", requests[0]);
    for (request, method) in requests[1..].iter().zip(["POST", "DELETE"]) {
        assert!(request.starts_with(&format!("{method} /v1/group/ HTTP/1.1\r\n")), "{request}");
        assert!(request.contains("\r\ncontent-type: application/json\r\n"), "{request}");
        assert!(request.contains("\r\nidempotency-key: \"a\\\"b\\\\c\"\r\n"), "{request}");
        assert!(request.ends_with("\r\n\r\n{\"groupId\":\"g \\\"1\\\"\"}"), "{request}");
    }
}

#[tokio::test]
async fn a_group_is_asked_for_whole_whatever_is_in_its_name() {
    let server = Server::start(vec![plays("404 Not Found", "")]).await;
    let (client, node) = (client(), server.url("/below/?not=this"));
    for (name, path) in [
        ("g", "g"),
        ("a/b", "a%2Fb"),
        ("../x", "..%2Fx"),
        ("...", "..."),
        ("a%2Fb", "a%252Fb"),
        ("a?b#c", "a%3Fb%23c"),
        ("a b+c", "a%20b%2Bc"),
        ("grün", "gr%C3%BCn"),
        ("\u{202e}🌹", "%E2%80%AE%F0%9F%8C%B9"),
        ("a\\b;c=d&e@f:g", "a%5Cb%3Bc%3Dd%26e%40f%3Ag"),
    ] {
        let seen = client.look(&node, &group(name), DEADLINE_MS).await;
        assert_eq!(seen, Ok(Presence::Absent), "{name}");
        let line = format!("GET /below/v1/group/{path}/ HTTP/1.1\r\n");
        let last = server.seen().requests.pop().expect("a request");
        assert!(last.starts_with(&line), "{name:?}: {last}");
    }
    for base in ["", "/", "/a", "/a/", "/a/b//"] {
        client.call(&server.url(base), Action::Create, &group("g"), KEY, DEADLINE_MS).await;
        let last = server.seen().requests.pop().expect("a request");
        let line = format!("POST {}/v1/group/ HTTP/1.1\r\n", base.trim_end_matches('/'));
        assert!(last.starts_with(&line), "{base:?}: {last}");
    }
}

proptest! {
    /// Whatever the name: a server that splits the path at slashes and decodes the last segment
    /// gets the name back, and so does one that reads the body.
    #[test]
    fn a_name_arrives_as_it_is(name in "\\PC{1,50}") {
        prop_assume!(name != "." && name != "..");
        let group = group(&name);
        let uri = look_uri(&target("http://node.example/base/"), &group).expect("short enough");
        let segments: Vec<&str> = uri.path().split('/').collect();
        prop_assert_eq!(&segments[..4], ["", "base", "v1", "group"]);
        prop_assert_eq!(segments.len(), 6);
        prop_assert_eq!(uri.query(), None);
        let decoded = percent_encoding::percent_decode_str(segments[4]).decode_utf8();
        prop_assert_eq!(decoded.expect("UTF-8"), name.as_str());
        let read: serde_json::Value = serde_json::from_slice(&body(&group)).expect("JSON");
        prop_assert_eq!(read["groupId"].as_str(), Some(name.as_str()));
    }

    /// What is said can be shown in a line of a log, a header, a terminal.
    #[test]
    fn what_a_body_says_is_one_short_line(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let said = Said::of(&bytes);
        let line = said.as_str();
        prop_assert!(line.len() <= NODE_SAID_BYTES_MAX);
        prop_assert_eq!(line.trim(), line);
        prop_assert!(!line.contains("  "));
        let is_shown = |c: char| c == ' ' || c.is_ascii_graphic() || c.is_alphanumeric();
        prop_assert!(line.chars().all(is_shown));
    }
}

#[tokio::test]
async fn what_cannot_be_sent_is_not_sent_and_says_nothing_of_the_node() {
    let server = Server::start(vec![plays("200 OK", "")]).await;
    let (client, node) = (client(), server.url(""));
    for key in ["", "a\nb", "ü", "a\0"] {
        let called = client.call(&node, Action::Create, &group("g"), key, DEADLINE_MS).await;
        assert_eq!(called, NodeAnswer::Unknown(NodeFault::Unsendable), "{key:?}");
    }
    assert!(NodeFault::Unsendable.is_before_sending());
    assert_eq!(server.seen().connections, 0);
    assert!(client.health().view(NOW.uptime).is_empty());
    let longest = group(&"🌹".repeat(GROUP_ID_BYTES_MAX / 4));
    assert_eq!(client.look(&node, &longest, DEADLINE_MS).await, Ok(Presence::Present));
}

#[tokio::test]
async fn every_status_of_a_call_has_its_meaning() {
    use NodeAnswer::{Already, Done, Refused, Unknown};
    let unknown = |status| Unknown(NodeFault::Answered(reply(status, "why")));
    for status in [200, 201, 202, 204, 206, 299] {
        let play = || plays(&format!("{status} Fine"), "");
        let create = called(Action::Create, play()).await;
        let delete = called(Action::Delete, play()).await;
        let silent = || Unknown(NodeFault::Answered(reply(status, "")));
        assert_eq!(create, if status == 201 { Done } else { silent() }, "{status}");
        assert_eq!(delete, if status == 200 { Done } else { silent() }, "{status}");
    }
    for status in [300, 301, 302, 307, 308, 399, 401, 403, 405, 410, 411, 413, 415, 422, 451, 499] {
        for action in [Action::Create, Action::Delete] {
            let came = called(action, plays(&format!("{status} No"), "why")).await;
            assert_eq!(came, Refused(reply(status, "why")), "{action:?} {status}");
        }
    }
    for status in [408, 425, 429, 500, 501, 502, 503, 504, 507, 599, 600, 999] {
        for action in [Action::Create, Action::Delete] {
            let came = called(action, plays(&format!("{status} Oh"), "why")).await;
            assert_eq!(came, unknown(status), "{action:?} {status}");
        }
    }
    for (action, status, is_already) in [
        (Action::Create, 400, true),
        (Action::Create, 409, true),
        (Action::Create, 404, false),
        (Action::Delete, 404, true),
        (Action::Delete, 400, false),
        (Action::Delete, 409, false),
    ] {
        let came = called(action, plays(&format!("{status} No"), "why")).await;
        let expected = reply(status, "why");
        let expected = if is_already { Already(expected) } else { Refused(expected) };
        assert_eq!(came, expected, "{action:?} {status}");
    }
}

#[tokio::test]
async fn a_look_believes_200_and_404_alone() {
    for body in ["", "{\"groupId\":\"g\"}", "{\"groupId\":\"other\"}", "a < b", "\0"] {
        assert_eq!(looked(plays("200 OK", body)).await, Ok(Presence::Present), "{body}");
        assert_eq!(looked(plays("404 Not Found", body)).await, Ok(Presence::Absent), "{body}");
    }
    assert_eq!(looked(plays("404 Not Found", "<html>")).await, Ok(Presence::Absent));
    for status in [201, 202, 204, 206, 301, 302, 304, 400, 401, 403, 408, 409, 410, 429, 500, 503] {
        // These two have no body.
        let said = if matches!(status, 204 | 304) { "" } else { "why" };
        let seen = looked(plays(&format!("{status} Oh"), said)).await;
        assert_eq!(seen, Err(NodeFault::Answered(reply(status, said))), "{status}");
    }
}

#[tokio::test]
async fn a_page_with_a_success_is_not_the_nodes() {
    for page in ["<html>", "<!doctype html><title>Login</title>", " \r\n\t<?xml version=\"1.0\"?>"]
    {
        let unknown = |status| {
            NodeFault::Answered(Reply { said: Said::of(page.as_bytes()), ..reply(status, "") })
        };
        assert_eq!(looked(plays("200 OK", page)).await, Err(unknown(200)), "{page}");
        let create = called(Action::Create, plays("201 Created", page)).await;
        assert_eq!(create, NodeAnswer::Unknown(unknown(201)), "{page}");
        let delete = called(Action::Delete, plays("200 OK", page)).await;
        assert_eq!(delete, NodeAnswer::Unknown(unknown(200)), "{page}");
    }
    for body in ["", "[]", "a < b", "&lt;"] {
        assert_eq!(called(Action::Delete, plays("200 OK", body)).await, NodeAnswer::Done, "{body}");
    }
}

#[tokio::test]
async fn looks_share_a_connection_and_each_call_has_its_own() {
    let server = Server::start(vec![plays("200 OK", "")]).await;
    let (client, node) = (client(), server.url(""));
    for _ in 0..3 {
        assert_eq!(client.look(&node, &group("g"), DEADLINE_MS).await, Ok(Presence::Present));
    }
    assert_eq!(server.seen().connections, 1);
    for calls in 1..=3 {
        client.call(&node, Action::Delete, &group("g"), KEY, DEADLINE_MS).await;
        assert_eq!(server.seen().connections, 1 + calls);
    }
    server.until(|seen| seen.closed == 3).await;
}

/// A call that went out again by itself when its connection had gone would be sent at a time that
/// nobody knows.
#[tokio::test]
async fn a_call_is_sent_once_however_its_connection_ends() {
    let server = Server::start(vec![Play::Close(Vec::new())]).await;
    let (client, node) = (client(), server.url(""));
    let came = client.call(&node, Action::Create, &group("g"), KEY, DEADLINE_MS).await;
    assert_eq!(came, NodeAnswer::Unknown(NodeFault::Call(CallFault::Closed)));
    assert_eq!((server.seen().connections, server.seen().requests.len()), (1, 1));
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = Server::start(vec![plays("201 Created", "")]).await;
    let location = format!("location: http://{}/\r\n", elsewhere.address);
    let play = || Play::Send(answer("307 Elsewhere", &location, ""));
    assert_eq!(called(Action::Create, play()).await, NodeAnswer::Refused(reply(307, "")));
    assert_eq!(looked(play()).await, Err(NodeFault::Answered(reply(307, ""))));
    assert_eq!(elsewhere.seen().connections, 0);
}

#[tokio::test]
async fn what_is_no_answer_is_unknown() {
    for (play, fault) in [
        (Play::Close(b"".to_vec()), CallFault::Closed),
        (Play::Close(b"HTTP/1.1 201 Cre".to_vec()), CallFault::Closed),
        (Play::Close(b"SSH-2.0-OpenSSH_9.6\r\n\r\n".to_vec()), CallFault::Broken),
        (Play::Close(b"\0\0\0\0\r\n\r\n".to_vec()), CallFault::Broken),
        (
            Play::Close(b"HTTP/1.1 201 Created\r\ncontent-length: 9\r\n\r\nx".to_vec()),
            CallFault::CutOff,
        ),
    ] {
        let came = called(Action::Create, play.clone()).await;
        assert_eq!(came, NodeAnswer::Unknown(NodeFault::Call(fault)), "{play:?}");
        assert_eq!(looked(play).await, Err(NodeFault::Call(fault)));
        assert!(!NodeFault::Call(fault).is_before_sending());
    }
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let node = target(&format!("http://{}", listener.local_addr().expect("bound")));
    drop(listener);
    let refused = NodeFault::Call(CallFault::Refused);
    assert!(refused.is_before_sending());
    let came = client().call(&node, Action::Delete, &group("g"), KEY, DEADLINE_MS).await;
    assert_eq!(came, NodeAnswer::Unknown(refused.clone()));
    assert_eq!(client().look(&node, &group("g"), DEADLINE_MS).await, Err(refused));
}

/// Runs a call to a node that does this, with time stopped once the node has the request.
async fn with_time_stopped(play: Play) -> (NodeAnswer, Duration) {
    let server = Server::start(vec![play]).await;
    let (client, node) = (client(), server.url(""));
    let calling = tokio::spawn(async move {
        client.call(&node, Action::Create, &group("g"), KEY, DEADLINE_MS).await
    });
    server.until(|seen| !seen.requests.is_empty()).await;
    tokio::time::pause();
    let began = tokio::time::Instant::now();
    let came = calling.await.expect("no panic");
    let took = began.elapsed();
    // Who gave up has closed the connection, so that the rest of the answer is nobody's.
    server.until(|seen| seen.closed == 1).await;
    tokio::time::resume();
    (came, took)
}

#[tokio::test]
async fn a_node_that_says_nothing_or_never_ends_is_given_up_at_the_deadline() {
    let late = |phase| NodeAnswer::Unknown(NodeFault::Call(CallFault::TimedOut { phase }));
    let head = b"HTTP/1.1 201 Created\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    for (play, phase) in [
        (Play::Hang(Vec::new()), Phase::Head),
        (Play::Hang(b"HTTP/1.1 201 Created\r\nx: ".to_vec()), Phase::Head),
        (Play::Hang(head.clone()), Phase::Body),
        (Play::Trickle(head, b"1\r\nx\r\n".to_vec()), Phase::Body),
    ] {
        let (came, took) = with_time_stopped(play.clone()).await;
        assert_eq!(came, late(phase), "{play:?}");
        assert!(took <= Duration::from_millis(DEADLINE_MS + 1), "{took:?} for {play:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_not_connected_soon_is_not_called_at_all() {
    let health = Health::new(&[], DEADLINE_MS, ReleaseMetrics::default());
    let lookup = Told::new([None]);
    let client = NodeClient::with_lookup(&Tls::public(), lookup, health, Arc::new(|| NOW));
    let began = tokio::time::Instant::now();
    let node = target("http://node.example/");
    let came = client.call(&node, Action::Create, &group("g"), KEY, DEADLINE_MS).await;
    let fault = NodeFault::Call(CallFault::TimedOut { phase: Phase::Connect });
    assert!(fault.is_before_sending());
    assert_eq!(came, NodeAnswer::Unknown(fault));
    let share = Duration::from_millis(DEADLINE_MS / NODE_CONNECT_SHARE);
    assert!(began.elapsed() <= share + Duration::from_millis(1), "{:?}", began.elapsed());
}

#[tokio::test]
async fn an_endless_body_is_read_to_the_bound_and_the_status_counts() {
    let head = b"HTTP/1.1 201 Created\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    let chunk = format!("400\r\n{}\r\n", "x".repeat(0x400)).into_bytes();
    let server = Server::start(vec![Play::Flood(head, chunk)]).await;
    let came = client().call(&server.url(""), Action::Create, &group("g"), KEY, DEADLINE_MS).await;
    assert_eq!(came, NodeAnswer::Done);
    server.until(|seen| seen.closed == 1).await;
}

#[tokio::test]
async fn what_a_refusal_says_is_kept_short_and_printable() {
    let long = "x".repeat(NODE_ANSWER_BYTES_MAX * 2);
    for (body, said) in [
        ("  no  room\r\n\tat all \n", "no room at all"),
        ("\x1b[31mred\x1b[0m\u{202e}evil", "[31mred [0m evil"),
        ("{\"detail\":\"verrückt\"}", "{\"detail\":\"verrückt\"}"),
        (&long, &long[..NODE_SAID_BYTES_MAX]),
        (&"ü".repeat(300), &"ü".repeat(100)),
        (&format!("x{}", "ü".repeat(300)), &format!("x{}", "ü".repeat(99))),
    ] {
        let came = called(Action::Create, plays("403 Forbidden", body)).await;
        assert_eq!(came, NodeAnswer::Refused(reply(403, said)));
    }
    assert_eq!(Said::of(b"\xff\xfe\0 \x80").as_str(), "");
    assert_eq!(NodeAnswer::Refused(reply(403, "no")).to_string(), "answered 403: no");
    assert_eq!(NodeFault::Answered(reply(500, "")).to_string(), "answered 500");
}

#[tokio::test]
async fn every_call_is_noted_without_anybody_asking() {
    let plays = vec![
        plays("404 Not Found", ""),
        plays("201 Created", ""),
        plays("403 Forbidden", "not you"),
        plays("503 Unavailable", "later"),
    ];
    let server = Server::start(plays).await;
    let (client, node) = (client(), server.url(""));
    let _ = client.look(&node, &group("g"), DEADLINE_MS).await;
    client.call(&node, Action::Create, &group("g"), KEY, DEADLINE_MS).await;
    client.call(&node, Action::Delete, &group("g"), KEY, DEADLINE_MS).await;
    let view = |client: &NodeClient| client.health().view(NOW.uptime).remove(0);
    let error = |client: &NodeClient| view(client).last_error.expect("an error").text;
    assert_eq!((view(&client).calls, view(&client).failures), (3, 0));
    assert_eq!(error(&client), "answered 403: not you");
    assert_eq!(view(&client).last_success, Some(NOW.wall));
    for _ in 0..crate::limits::NODE_FAILURES_MAX {
        assert_eq!(client.admit(&node), Admission::Call);
        let _ = client.clone().look(&node, &group("g"), DEADLINE_MS).await;
    }
    assert_eq!(error(&client), "answered 503: later");
    assert!(matches!(client.admit(&node), Admission::Refused { .. }));
    assert!(matches!(view(&client).breaker, BreakerState::Open { .. }));
    // Who does not ask is not stopped.
    let before = server.seen().requests.len();
    client.call(&node, Action::Delete, &group("g"), KEY, DEADLINE_MS).await;
    assert_eq!(server.seen().requests.len(), before + 1);
}
