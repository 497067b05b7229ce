//! Streams of lines, over a pipe that holds little.

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::Value;

use crate::http::Bounds;
use crate::http::harness::{FIRST_SEQ, REQUEST_ID, Server, whole};
use crate::limits::{
    NDJSON_BEGUN_BYTES_FREE, NDJSON_CHUNK_LINES, NDJSON_LINE_BYTES_MAX, PARSE_INLINE_BYTES_MAX,
};

fn line(number: usize) -> String {
    let (whole, rest) = (number / 10_000, number % 10_000);
    let line = format!(r#"{{"name":"rose","concentration":{whole}.{rest:04}}}"#);
    format!("{{\"name\":\"f{number}\",\"materials\":[{line}]}}\n")
}

/// The next result line of a response.
async fn next(response: &mut hyper::Response<Incoming>) -> Option<Value> {
    let bytes = response.frame().await?.unwrap().into_data().unwrap();
    Some(serde_json::from_slice(&bytes).unwrap())
}

/// How many formulas are stored once everything waits for the client.
async fn stored_at_rest(server: &Server) -> usize {
    let mut stored = None;
    loop {
        // All of the server but its engine runs on this thread. So after these turns everything
        // is asked of the engine that can be without a further answer of it.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        server.catch_up().await;
        let now = server.context().engine.formula_count();
        if stored.replace(now) == Some(now) {
            return now;
        }
    }
}

fn statuses(lines: &[Value]) -> Vec<u64> {
    lines.iter().map(|line| line["status"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn results_come_while_lines_are_still_sent() {
    let mut server = Server::start().await;
    let (pieces, mut response) = server.stream(&[], &line(1)).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "application/x-ndjson");
    let first = next(&mut response).await.unwrap();
    assert_eq!((&first["status"], &first["formula"]["name"]), (&201.into(), &"f1".into()));
    pieces.send(line(1).into()).unwrap();
    let second = next(&mut response).await.unwrap();
    assert_eq!(second["status"], 409);
    assert_eq!(second["problem"]["existing"]["seq"], FIRST_SEQ);
    assert_eq!(second["problem"]["request_id"], REQUEST_ID);
    drop(pieces);
    assert_eq!(next(&mut response).await, None);
}

#[tokio::test]
async fn every_line_has_its_result_in_order_over_many_chunks() {
    let mut server = Server::start().await;
    let count = 5 * NDJSON_CHUNK_LINES + 7;
    let all: String = (1..=count).map(line).collect();
    let (first, rest) = all.split_at(500);
    let (pieces, response) = server.stream(&[], first).await;
    for piece in rest.as_bytes().chunks(1000) {
        pieces.send(Bytes::copy_from_slice(piece)).unwrap();
    }
    drop(pieces);
    let lines = whole(response).await.lines();
    let names: Vec<_> = lines.iter().map(|line| line["formula"]["name"].clone()).collect();
    assert_eq!(names, (1..=count).map(|n| format!("f{n}")).collect::<Vec<_>>());
    let seqs: Vec<_> = lines.iter().map(|line| line["formula"]["seq"].as_u64().unwrap()).collect();
    assert!(seqs.is_sorted(), "lines are decided in order");
}

#[tokio::test]
async fn a_client_that_does_not_read_is_held_back_and_loses_nothing() {
    let mut server = Server::start().await;
    let count = 40 * NDJSON_CHUNK_LINES;
    let (pieces, response) = server.stream(&[], &line(1)).await;
    pieces.send((2..=count).map(line).collect::<String>().into()).unwrap();
    drop(pieces);
    let engine = server.context().engine.clone();
    let stored = stored_at_rest(&server).await;
    assert!(stored < count, "{stored} lines were stored for a client that reads none");
    assert_eq!(whole(response).await.lines().len(), count);
    assert_eq!(engine.formula_count(), count);
}

#[tokio::test]
async fn faulty_lines_are_answered_in_their_place_and_blank_ones_not_at_all() {
    let mut server = Server::start().await;
    let (pieces, response) = server.stream(&[], &line(1)).await;
    pieces.send("\n{\"name\":\r\n[1]\n\n".into()).unwrap();
    pieces.send(" ".repeat(NDJSON_LINE_BYTES_MAX + 1).into()).unwrap();
    pieces.send("and more\n".into()).unwrap();
    pieces.send(line(2).trim_end().to_owned().into()).unwrap();
    drop(pieces);
    let lines = whole(response).await.lines();
    assert_eq!(statuses(&lines), [201, 400, 400, 413, 201]);
    assert_eq!(lines[1]["problem"]["type"], "/problems/malformed-body");
    assert_eq!(lines[2]["problem"]["type"], "/problems/invalid-formula");
    assert!(lines[3]["problem"]["detail"].as_str().unwrap().starts_with("line 6 has"));
}

#[tokio::test]
async fn the_same_stream_under_the_same_key_goes_on_where_it_was_cut() {
    let mut server = Server::start().await;
    let keyed = [("idempotency-key", "load-1")];
    let (pieces, response) = server.stream(&keyed, &line(1)).await;
    drop(pieces);
    let first = whole(response).await.lines();
    let (pieces, response) = server.stream(&keyed, &format!("{}{}", line(1), line(2))).await;
    drop(pieces);
    let again = whole(response).await.lines();
    assert_eq!(statuses(&again), [201, 201]);
    assert_eq!(again[0], first[0]);
    let (pieces, response) = server.stream(&keyed, &line(3)).await;
    drop(pieces);
    assert_eq!(statuses(&whole(response).await.lines()), [422]);
}

#[tokio::test]
async fn a_stopping_server_ends_the_stream_with_the_reason() {
    let mut server = Server::start().await;
    let (pieces, mut response) = server.stream(&[], &line(1)).await;
    assert_eq!(next(&mut response).await.unwrap()["status"], 201);
    server.trigger.advance();
    let last = next(&mut response).await.unwrap();
    assert_eq!(
        (&last["status"], &last["problem"]["type"]),
        (&503.into(), &"/problems/not-ready".into())
    );
    assert_eq!(next(&mut response).await, None);
    drop(pieces);
}

#[tokio::test]
async fn a_stream_of_blank_lines_has_no_results_and_atomic_does_not_go_with_any() {
    let mut server = Server::start().await;
    let ndjson = [("content-type", "Application/X-NDJSON; charset=utf-8")];
    let answer = server.call("POST", "/formulas", &ndjson, "\n \n").await;
    assert_eq!((answer.status, answer.body.len()), (200, 0));
    let answer = server.call("POST", "/formulas?atomic=true", &ndjson, &line(1)).await;
    assert_eq!(answer.json()["errors"][0]["parameter"], "atomic");
}

/// A line of so many bytes that is no formula.
fn long_line(bytes: usize) -> String {
    format!("\"{}\"\n", "x".repeat(bytes - 3))
}

#[tokio::test]
async fn long_lines_are_answered_in_their_place() {
    let mut server = Server::start().await;
    let mut lines = String::new();
    for n in [1, 4] {
        lines.push_str(&line(n));
        lines.push_str(&long_line(PARSE_INLINE_BYTES_MAX + 2));
        lines.push_str(&line(n + 1));
        lines.push_str(&line(n + 2));
    }
    lines.push_str(long_line(PARSE_INLINE_BYTES_MAX + 2).trim_end());
    let headers = [("content-type", "application/x-ndjson")];
    let answer = server.call("POST", "/formulas", &headers, &lines).await;
    assert_eq!(statuses(&answer.lines()), [201, 400, 201, 201, 201, 400, 201, 201, 400]);
}

#[tokio::test]
async fn a_line_that_finds_no_room_ends_its_stream_and_only_that() {
    let bytes_max = 100_000;
    let bounds = Bounds { bodies_bytes_max: bytes_max, ..Bounds::default() };
    let mut server = Server::start_bounded(bounds).await;
    let (pieces, mut response) = server.stream(&[], &line(1)).await;
    assert_eq!(next(&mut response).await.unwrap()["status"], 201);
    // No more than the server reads, which closes the connection behind its last word.
    pieces.send("x".repeat(NDJSON_BEGUN_BYTES_FREE + bytes_max + 1).into()).unwrap();
    let refused = next(&mut response).await.unwrap();
    assert_eq!(
        (&refused["status"], &refused["problem"]["type"]),
        (&503.into(), &"/problems/overloaded".into())
    );
    assert_eq!(next(&mut response).await, None);
    drop(pieces);
}

#[tokio::test]
async fn a_stream_whose_chunks_fill_the_room_goes_on_chunk_by_chunk() {
    let bounds = Bounds { bodies_bytes_max: 0, ..Bounds::default() };
    let mut server = Server::start_bounded(bounds).await;
    let lines: String = (1..=2000).map(line).collect();
    let headers = [("content-type", "application/x-ndjson")];
    let answer = server.call("POST", "/formulas", &headers, &lines).await;
    let statuses = statuses(&answer.lines());
    assert_eq!(statuses, vec![201; 2000], "{}", statuses.len());
}
