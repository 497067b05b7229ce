//! What comes back from servers that behave, that are slow, and that are hostile.
//!
//! Where a deadline is to pass, time is stopped once the server has what it needs; from then on
//! it jumps to the next moment at which anything is due.

use proptest::prelude::*;

use super::*;
use crate::outbound::fault::Phase;
use crate::outbound::harness::{GENEROUS, Reply, Server, answer, get, target};

fn client() -> Client {
    Client::new(Vet::none(), &Tls::public())
}

/// What comes of a call to a server that does this.
async fn outcome(reply: Reply) -> Result<Answer, CallFault> {
    let server = Server::start(vec![reply]).await;
    client().call(get(&server.url("/"))).await
}

async fn fault(bytes: &[u8]) -> Option<CallFault> {
    outcome(Reply::Close(bytes.to_vec())).await.err()
}

#[tokio::test]
async fn a_call_carries_what_it_was_given_and_brings_back_the_answer() {
    let reply = answer("418 I'm a teapot", "retry-after: 7\r\nx-note: short\r\n", "and stout");
    let server = Server::start(vec![Reply::Send(reply)]).await;
    let url = server.url("/a%20b?c=%C3%BC");
    let mut call = get(&url);
    call.method = Method::POST;
    call.headers.insert("webhook-id", HeaderValue::from_static("msg_1"));
    call.body = Bytes::from_static(b"{\"id\":1}");
    let answer = client().call(call).await.expect("an answer");
    assert_eq!(answer.status.as_u16(), 418);
    assert_eq!((&answer.body[..], answer.is_cut), (&b"and stout"[..], false));
    assert_eq!(answer.headers["x-note"], "short");
    assert_eq!(answer.retry_after_ms(Timestamp(0)), Some(7000));
    let request = server.seen().requests.remove(0);
    assert!(request.starts_with("POST /a%20b?c=%C3%BC HTTP/1.1\r\n"), "{request}");
    assert!(request.ends_with("\r\n\r\n{\"id\":1}"), "{request}");
    let version = env!("CARGO_PKG_VERSION");
    for line in [
        format!("host: {}", server.address),
        format!("user-agent: sillage/{version}"),
        "content-length: 8".to_owned(),
        "webhook-id: msg_1".to_owned(),
    ] {
        assert!(request.contains(&format!("\r\n{line}\r\n")), "{line} in {request}");
    }
}

#[tokio::test]
async fn redirects_are_answers_and_nobody_is_called_for_them() {
    let elsewhere = Server::start(vec![Reply::Send(answer("200 OK", "", "caught"))]).await;
    for status in ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"] {
        let location = format!("location: http://{}/\r\n", elsewhere.address);
        let answer = outcome(Reply::Send(answer(status, &location, ""))).await.expect("an answer");
        assert!(answer.status.is_redirection(), "{status}");
    }
    assert_eq!(elsewhere.seen().connections, 0);
}

#[tokio::test]
async fn answers_end_where_they_say_or_where_the_connection_does() {
    for (bytes, body) in [
        (&b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokay"[..], "ok"),
        (b"HTTP/1.1 200 OK\r\n\r\nuntil the end", "until the end"),
        (b"HTTP/1.0 200 OK\r\n\r\nold", "old"),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n\
              3\r\nabc\r\n1;x=y\r\nd\r\n0\r\n\r\n",
            "abcd",
        ),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n\
              1\r\na\r\n0\r\nlate: header\r\n\r\n",
            "a",
        ),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\na", "a"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", ""),
        (b"HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n", ""),
    ] {
        let answer = outcome(Reply::Close(bytes.to_vec())).await.expect("an answer");
        assert_eq!(answer.body, body, "{}", String::from_utf8_lossy(bytes));
    }
}

#[tokio::test]
async fn what_is_no_http_is_a_fault() {
    for bytes in [
        &b"SSH-2.0-OpenSSH_9.2\r\n"[..],
        b"220 mail.example ESMTP\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"<html></html>\r\n\r\n",
        b"HTTP/9.9 200 OK\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nname : value\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nname: a\0b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
    ] {
        let found = fault(bytes).await;
        assert_eq!(found, Some(CallFault::Broken), "{}", String::from_utf8_lossy(bytes));
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_a_fault() {
    for bytes in [&b""[..], b"HTTP/1.1", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\na: b\r\n"] {
        let found = fault(bytes).await;
        assert_eq!(found, Some(CallFault::Closed), "{}", String::from_utf8_lossy(bytes));
    }
    for bytes in [
        &b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf"[..],
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhalf",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nlong\r\nhalf\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
    ] {
        let found = fault(bytes).await;
        assert_eq!(found, Some(CallFault::CutOff), "{}", String::from_utf8_lossy(bytes));
    }
}

#[tokio::test]
async fn heads_are_bounded_in_bytes_and_lines() {
    let head = |lines: usize, bytes: usize| {
        let line = format!("a: {}\r\n", "x".repeat(bytes));
        format!("HTTP/1.1 204 No Content\r\n{}\r\n", line.repeat(lines)).into_bytes()
    };
    assert!(outcome(Reply::Close(head(ANSWER_HEADERS_MAX, 100))).await.is_ok());
    let broken = Some(CallFault::Broken);
    assert_eq!(fault(&head(ANSWER_HEADERS_MAX + 1, 1)).await, broken);
    assert_eq!(fault(&head(8, CONNECTION_BUFFER_BYTES_MAX / 2)).await, broken);
    let endless = Reply::Flood(b"HTTP/1.1 200 OK\r\na: ".to_vec(), vec![b'x'; 4096]);
    assert_eq!(outcome(endless).await.err(), broken);
    let lines = Reply::Flood(b"HTTP/1.1 200 OK\r\n".to_vec(), b"a: b\r\n".repeat(100));
    assert_eq!(outcome(lines).await.err(), broken);
}

#[tokio::test]
async fn a_body_is_kept_up_to_the_bound_and_an_endless_one_ends_with_its_connection() {
    let long = answer("200 OK", "", &"x".repeat(1001));
    let endless = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
    for (reply, is_cut) in [
        (Reply::Send(answer("200 OK", "", &"x".repeat(1000))), false),
        (Reply::Hang(long), true),
        (Reply::Flood(endless, vec![b'x'; 4096]), true),
    ] {
        let is_endless = matches!(reply, Reply::Flood(..));
        let server = Server::start(vec![reply]).await;
        let (client, url) = (client(), server.url("/"));
        let mut call = get(&url);
        call.limits.answer_bytes_max = 1000;
        let answer = client.call(call).await.expect("an answer");
        assert_eq!((answer.body, answer.is_cut), (Bytes::from("x".repeat(1000)), is_cut));
        if is_endless {
            server.until(|seen| seen.closed == 1).await;
        }
    }
}

/// Calls a server that does this, stops time when the request is there, and tells what came of
/// the call and whether the connection was closed.
async fn timed_out(reply: Reply, limits: CallLimits) -> Option<CallFault> {
    let server = Server::start(vec![reply]).await;
    let (client, url) = (client(), server.url("/"));
    let call = Call { limits, ..get(&url) };
    let stop = async {
        server.until(|seen| seen.requests.len() == 1).await;
        tokio::time::pause();
    };
    let (outcome, ()) = tokio::join!(client.call(call), stop);
    server.until(|seen| seen.closed == 1).await;
    tokio::time::resume();
    outcome.err()
}

#[tokio::test]
async fn a_server_that_never_answers_is_waited_for_so_long_and_left() {
    let head = Some(CallFault::TimedOut { phase: Phase::Head });
    for reply in [
        Reply::Hang(Vec::new()),
        Reply::Hang(b"HTTP/1.1 200".to_vec()),
        Reply::Trickle(b"HTTP/1.1 200 OK\r\na: ".to_vec(), b"x".to_vec()),
        Reply::Trickle(Vec::new(), b"HTTP/1.1 100 Continue\r\n\r\n".to_vec()),
    ] {
        assert_eq!(timed_out(reply, GENEROUS).await, head);
    }
    let total = CallLimits { head_ms: 1_000_000, deadline_ms: 20_000, ..GENEROUS };
    assert_eq!(timed_out(Reply::Hang(Vec::new()), total).await, head);
}

#[tokio::test]
async fn a_body_that_never_ends_is_waited_for_so_long_and_left() {
    let body = Some(CallFault::TimedOut { phase: Phase::Body });
    let begun = b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n".to_vec();
    for reply in [
        Reply::Hang(begun.clone()),
        Reply::Trickle(begun.clone(), b"x".to_vec()),
        Reply::Trickle(b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), b"x".to_vec()),
    ] {
        assert_eq!(timed_out(reply, GENEROUS).await, body);
    }
    let total = CallLimits { body_ms: 1_000_000, deadline_ms: 20_000, ..GENEROUS };
    assert_eq!(timed_out(Reply::Hang(begun), total).await, body);
}

#[tokio::test]
async fn answers_before_the_answer_do_not_hold_a_call_for_ever() {
    let reply = Reply::Flood(Vec::new(), b"HTTP/1.1 100 Continue\r\n\r\n".repeat(100));
    let server = Server::start(vec![reply]).await;
    let url = server.url("/");
    // In real time: it does not jump while bytes come in.
    let call = Call { limits: CallLimits { head_ms: 50, ..GENEROUS }, ..get(&url) };
    let late = CallFault::TimedOut { phase: Phase::Head };
    assert_eq!(client().call(call).await.err(), Some(late));
}

#[tokio::test]
async fn a_connection_in_order_is_used_again_and_no_other_is() {
    let ok = || answer("200 OK", "", "ok");
    let close = answer("200 OK", "connection: close\r\n", "ok");
    for (first, connections) in [
        (Reply::Send(ok()), 1),
        (Reply::Send(answer("500 Oh", "", "no")), 1),
        (Reply::Send(close), 2),
        (Reply::Close(ok()), 2),
        (Reply::Send([ok(), b"HTTP/1.1 200 OK\r\n\r\nsmuggled".to_vec()].concat()), 2),
        // What is cut off may still be read to its end if all of it is there.
        (Reply::Send(answer("200 OK", "", &"x".repeat(2000))), 1),
    ] {
        let server = Server::start(vec![first.clone(), Reply::Send(ok())]).await;
        let (client, url) = (client(), server.url("/"));
        for _ in 0..2 {
            let mut call = get(&url);
            call.limits.answer_bytes_max = 1000;
            client.call(call).await.expect("an answer");
            // So that the end of a connection is noticed before the next call.
            tokio::task::yield_now().await;
        }
        assert_eq!(server.seen().connections, connections, "after {first:?}");
    }
}

#[tokio::test]
async fn clones_share_connections_and_other_clients_do_not() {
    let server = Server::start(vec![Reply::Send(answer("200 OK", "", "ok"))]).await;
    let (one, url) = (client(), server.url("/"));
    let clone = one.clone();
    for client in [&one, &clone, &one] {
        client.call(get(&url)).await.expect("an answer");
    }
    assert_eq!(server.seen().connections, 1);
    client().call(get(&url)).await.expect("an answer");
    assert_eq!(server.seen().connections, 2);
}

#[tokio::test]
async fn connections_that_nobody_uses_are_closed_before_the_server_does_it() {
    let server = Server::start(vec![Reply::Send(answer("200 OK", "", "ok"))]).await;
    let (client, url) = (client(), server.url("/"));
    client.call(get(&url)).await.expect("an answer");
    tokio::time::pause();
    server.until(|seen| seen.closed == 1).await;
    tokio::time::resume();
    client.call(get(&url)).await.expect("an answer");
    assert_eq!(server.seen().connections, 2);
}

#[tokio::test]
async fn calls_at_once_are_kept_apart() {
    let server = Server::start(vec![Reply::Send(answer("200 OK", "", "ok"))]).await;
    let client = client();
    let urls: Vec<Target> = (0..20).map(|n| server.url(&format!("/{n}"))).collect();
    let mut calls = tokio::task::JoinSet::new();
    for url in urls {
        let client = client.clone();
        calls.spawn(async move { client.call(get(&url)).await.map(|answer| answer.status) });
    }
    while let Some(ended) = calls.join_next().await {
        assert_eq!(ended.expect("no panic"), Ok(StatusCode::OK));
    }
    let mut seen = server.seen().requests;
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 20);
}

#[tokio::test]
async fn a_call_that_is_dropped_closes_its_connection() {
    let server = Server::start(vec![Reply::Hang(Vec::new())]).await;
    let (client, url) = (client(), server.url("/"));
    tokio::select! {
        _ = client.call(get(&url)) => unreachable!("the server never answers"),
        () = server.until(|seen| seen.requests.len() == 1) => {}
    }
    server.until(|seen| seen.closed == 1).await;
}

#[tokio::test]
async fn nobody_at_the_port_is_told_from_silence() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = target(&format!("http://{}/", listener.local_addr().expect("bound")));
    drop(listener);
    assert_eq!(client().call(get(&url)).await.err(), Some(CallFault::Refused));
}

/// Pieces of answers, in order and out of it.
const PIECES: [&[u8]; 20] = [
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 101 Switching\r\n\r\n",
    b"HTTP/1.0 500 \r\n",
    b"HTTP/1.1 204 No\r\n\r\n",
    b"content-length: 5\r\n",
    b"content-length: 99999999999999999999\r\n",
    b"transfer-encoding: chunked\r\n",
    b"transfer-encoding: gzip\r\n",
    b"connection: close\r\n",
    b"connection: keep-alive\r\n",
    b"\r\n",
    b"\n",
    b"5\r\nhello\r\n",
    b"0\r\n\r\n",
    b"ffffffff\r\n",
    b" folded\r\n",
    b"hello",
    b"\0\xff",
    b": ",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn whatever_a_server_sends_ends_in_an_answer_or_a_fault(
        picked in prop::collection::vec(0..PIECES.len(), 0..12),
    ) {
        let bytes: Vec<u8> = picked.into_iter().flat_map(|piece| PIECES[piece]).copied().collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let server = Server::start(vec![Reply::Close(bytes)]).await;
            let (client, url) = (client(), server.url("/"));
            for _ in 0..2 {
                let mut call = get(&url);
                call.limits.answer_bytes_max = 8;
                if let Ok(answer) = client.call(call).await {
                    assert!(answer.body.len() <= 8);
                }
            }
        });
    }
}
