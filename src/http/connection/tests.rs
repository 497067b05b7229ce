//! Whatever bytes come, what goes out is whole responses with request ids, and an end.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::http::KeyPolicy;
use crate::http::harness;
use crate::tests::random;

/// What requests are made of.
const PIECES: &[&[u8]] = &[
    b"GET /livez HTTP/1.1\r\n",
    b"POST /formulas HTTP/1.1\r\n",
    b"HEAD / HTTP/1.1\r\n",
    b"GET / HTTP/1.0\r\n",
    b"DELETE /formulas/1 HTTP/1.1\r\n",
    b"OPTIONS * HTTP/1.1\r\n",
    b"CONNECT x:1 HTTP/1.1\r\n",
    b"GET /problems HTTP/1.1\r\n",
    b"Host: x\r\n",
    b"Host: x\r\n",
    b"Host: x\r\n",
    b"Content-Type: application/json\r\n",
    b"Content-Length: 2\r\n",
    b"Content-Length: 0\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Connection: close\r\n",
    b"Connection: keep-alive\r\n",
    b"Connection: upgrade\r\nUpgrade: h2c\r\n",
    b"Expect: 100-continue\r\n",
    b"Accept: */*\r\n",
    b"\r\n",
    b"\r\n",
    b"\r\n",
    b"{}",
    b"[]",
    b"2\r\n{}\r\n",
    b"0\r\n\r\n",
    b"\n",
    b"\r",
    b" ",
    b"\0",
    b":",
    b"\xff",
    b"a: b\r\n c\r\n",
];

/// Responses to any bytes, one after the other, until the connection ends.
async fn responses_to(input: &[u8], cut: usize) -> Vec<u8> {
    let (context, _trigger) = harness::context(KeyPolicy::Optional);
    let (mut client, socket) = tokio::io::duplex(1 << 20);
    let server = tokio::spawn(serve(socket, Arc::new(Service::new(context)), None));
    client.write_all(&input[..cut]).await.expect("the pipe is wide");
    tokio::task::yield_now().await;
    // The server may have closed by now.
    drop(client.write_all(&input[cut..]).await);
    drop(client.shutdown().await);
    let mut output = Vec::new();
    client.read_to_end(&mut output).await.expect("the server ends");
    server.await.expect("the connection does not panic");
    output
}

/// Asserts that `output` is nothing but responses, each with its id.
fn assert_whole(output: &[u8], input: &[u8]) {
    let text = String::from_utf8_lossy(output);
    let shown = String::from_utf8_lossy(input);
    let starts = text.match_indices("HTTP/1.").map(|(at, _)| &text[at..]);
    for head in starts.filter_map(|rest| rest.split("\r\n\r\n").next()) {
        let Some(status) = status(head) else { continue };
        assert!(status == 100 || head.contains("x-request-id: "), "{shown:?} got {text}");
        let is_problem = head.contains("application/problem+json");
        assert!(status < 400 || is_problem, "{shown:?} got {text}");
    }
    assert!(output.is_empty() || text.starts_with("HTTP/1."), "{shown:?} got {text}");
}

/// The status if `head` is one; `HTTP/1.1` also stands in texts.
fn status(head: &str) -> Option<u16> {
    head.split(' ').nth(1)?.parse().ok()
}

#[tokio::test(start_paused = true)]
async fn any_bytes_get_whole_responses_and_an_end() {
    let mut random = random();
    for _ in 0..5_000 {
        let pieces = random.usize(1..20);
        let input: Vec<u8> =
            (0..pieces).flat_map(|_| PIECES[random.usize(..PIECES.len())]).copied().collect();
        let cut = random.usize(..=input.len());
        assert_whole(&responses_to(&input, cut).await, &input);
    }
}

#[tokio::test]
async fn an_upgrade_that_is_not_taken_leaves_the_connection_in_use() {
    let request = b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n";
    let output = responses_to(&request.repeat(2), request.len()).await;
    let text = String::from_utf8_lossy(&output);
    assert_eq!(text.matches("HTTP/1.1 200 OK").count(), 2, "{text}");
}
