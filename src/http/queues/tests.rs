//! The calls under `/queues`.

use std::sync::Arc;

use http_body_util::BodyExt;
use hyper::body::Body;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::*;
use crate::engine::command::Delivery;
use crate::http::budget::Budget;
use crate::http::connection::{Exchange, Link};
use crate::http::harness::{Answer, FIRST_SEQ, Server};
use crate::ids::{Epoch, Receipt};
use crate::limits::{MATERIALS_MAX, NAME_CHARS_MAX};
use crate::time::Timestamp;

/// Stores a formula named `f` and its concentration; gives its message.
async fn submit(server: &mut Server, concentration: u32) -> MessageId {
    let line = format!(r#"{{"name":"rose","concentration":{concentration}}}"#);
    submit_named(server, &format!("f{concentration}"), &line).await
}

async fn submit_named(server: &mut Server, name: &str, materials: &str) -> MessageId {
    let body = format!(r#"{{"name":"{name}","materials":[{materials}]}}"#);
    let answer = server.post("/formulas", &body).await;
    assert_eq!(answer.status, 201, "{:?}", answer.body);
    MessageId(Lsn(answer.json()["seq"].as_u64().unwrap()))
}

/// Stores a formula and damages it; gives its message.
async fn submit_and_damage(server: &mut Server) -> MessageId {
    let id = submit_named(server, "to be damaged", r#"{"name":"rose","concentration":9}"#).await;
    server.damage_formula("to be damaged");
    id
}

async fn lease(server: &mut Server, body: &str) -> Vec<Value> {
    let answer = server.post("/queues/formulas/lease", body).await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    answer.json()["messages"].as_array().unwrap().clone()
}

fn ids(answer: &Answer) -> Vec<String> {
    let json = answer.json();
    let messages = json["messages"].as_array().unwrap().iter();
    messages.map(|message| message["id"].as_str().unwrap().to_owned()).collect()
}

fn receipts(messages: &[Value]) -> String {
    json!({"receipts": messages.iter().map(|m| &m["receipt"]).collect::<Vec<_>>()}).to_string()
}

async fn counts(server: &mut Server) -> [u64; 4] {
    let json = server.get("/queues/formulas").await.json();
    ["ready", "leased", "delayed", "dead"].map(|state| json[state].as_u64().unwrap())
}

fn pointers(answer: &Answer) -> Vec<String> {
    let json = answer.json();
    let errors = json["errors"].as_array().unwrap().iter();
    errors.map(|error| error["pointer"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn messages_are_leased_in_order_and_acked_for_good() {
    let mut server = Server::start().await;
    submit(&mut server, 1).await;
    submit(&mut server, 2).await;
    assert_eq!(counts(&mut server).await, [2, 0, 0, 0]);
    let first = lease(&mut server, "").await;
    let second = lease(&mut server, r#"{"max":10}"#).await;
    assert_eq!([&first[0]["id"], &second[0]["id"]], ["2", "3"]);
    assert_eq!(first[0]["type"], "formula.accepted");
    assert_eq!(first[0]["formula"], server.get("/formulas/2").await.json());
    assert_eq!(counts(&mut server).await, [0, 2, 0, 0]);
    let acked = server.post("/queues/formulas/ack", &receipts(&first)).await;
    assert_eq!((acked.status, acked.json()), (200, json!({"done": ["2"], "stale": []})));
    assert_eq!(counts(&mut server).await, [0, 1, 0, 0]);
}

#[tokio::test]
async fn receipts_that_are_not_valid_are_stale_and_none_valid_is_a_conflict() {
    let mut server = Server::start().await;
    submit(&mut server, 1).await;
    let leased = lease(&mut server, "{}").await;
    let receipt = leased[0]["receipt"].as_str().unwrap();
    let never = "63-1-1-0000000000000001";
    let body = json!({"receipts": ["nonsense", receipt, never, receipt]}).to_string();
    let acked = server.post("/queues/formulas/ack", &body).await;
    assert_eq!(
        (acked.status, &acked.json()),
        (200, &json!({"done": ["2"], "stale": ["nonsense", never]}))
    );
    let again = server.post("/queues/formulas/ack", &body).await;
    assert_eq!(again.status, 409);
    assert_eq!(again.json()["type"], "/problems/stale-receipt");
    assert_eq!(again.json()["stale"], json!(["nonsense", receipt, never]));
    let nonsense = server.post("/queues/formulas/nack", r#"{"receipts":["x"]}"#).await;
    assert_eq!((nonsense.status, &nonsense.json()["stale"]), (409, &json!(["x"])));
}

#[tokio::test]
async fn nacked_messages_wait_and_extended_ones_are_held() {
    let mut server = Server::start().await;
    submit(&mut server, 1).await;
    submit(&mut server, 2).await;
    let leased = lease(&mut server, r#"{"max":2,"lease_s":0.5}"#).await;
    let nack = json!({"receipts": [leased[0]["receipt"]], "delay_s": 60.5, "reason": "busy"});
    assert_eq!(server.post("/queues/formulas/nack", &nack.to_string()).await.status, 200);
    let extend = json!({"receipts": [leased[1]["receipt"]], "lease_s": 120});
    assert_eq!(server.post("/queues/formulas/extend", &extend.to_string()).await.status, 200);
    assert_eq!(counts(&mut server).await, [0, 1, 1, 0]);
}

#[tokio::test]
async fn every_fault_of_a_body_is_named_by_pointer() {
    let mut server = Server::start().await;
    for (call, body, expected) in [
        ("lease", r#"{"max":0,"lease_s":0.009,"wait_s":20.5,"x":1}"#, "/max /lease_s /wait_s /x"),
        ("lease", r#"{"max":1001,"lease_s":43200.001,"wait_s":-1}"#, "/max /lease_s /wait_s"),
        ("lease", r#"{"max":1.5,"lease_s":"30"}"#, "/max /lease_s"),
        ("ack", "{}", "/receipts"),
        ("ack", r#"{"receipts":[1,"a",null]}"#, "/receipts/0 /receipts/2"),
        ("ack", r#"{"receipts":[]}"#, "/receipts"),
        ("ack", r#"{"receipts":["a"],"delay_s":1}"#, "/delay_s"),
        ("nack", r#"{"receipts":"a","delay_s":604801,"reason":7}"#, "/receipts /delay_s /reason"),
        ("extend", r#"{"receipts":["a"]}"#, "/lease_s"),
        ("redrive", r#"{"ids":["x","1"]}"#, "/ids/0"),
        ("lease", "[]", ""),
    ] {
        let refused = server.post(&format!("/queues/formulas/{call}"), body).await;
        assert_eq!(refused.status, 400, "{call} {body}");
        assert_eq!(pointers(&refused).join(" "), expected, "{call} {body}");
    }
    let malformed = server.post("/queues/formulas/lease", "{").await;
    assert_eq!(malformed.json()["type"], "/problems/malformed-body");
}

#[tokio::test]
async fn other_queues_are_looked_at_but_not_leased_and_strange_ones_unknown() {
    let mut server = Server::start().await;
    let all = server.get("/queues").await.json();
    let names: Vec<_> = all["queues"].as_array().unwrap().iter().map(|q| &q["name"]).collect();
    assert_eq!(names, ["formulas", "hooks", "releases", "seals"]);
    for call in ["lease", "ack", "nack", "extend"] {
        let reserved = server.post(&format!("/queues/seals/{call}"), "{}").await;
        assert_eq!(reserved.status, 403, "{call}");
        assert_eq!(reserved.json()["type"], "/problems/reserved-queue");
        assert_eq!(server.post(&format!("/queues/none/{call}"), "{}").await.status, 404);
        assert_eq!(server.post(&format!("/queues/No%20queue/{call}"), "{}").await.status, 404);
    }
    assert_eq!(server.get("/queues/seals").await.status, 200);
    assert_eq!(server.get("/queues/seals/messages").await.status, 200);
    for target in ["/queues/none", "/queues/none/messages"] {
        assert_eq!(server.get(target).await.status, 404);
    }
    assert_eq!(server.post("/queues/none/redrive", "").await.status, 404);
}

#[tokio::test]
async fn a_peek_shows_messages_page_by_page_and_changes_nothing() {
    let mut server = Server::start().await;
    for n in 1..=3 {
        submit(&mut server, n).await;
    }
    let page = server.get("/queues/formulas/messages?state=ready&limit=2").await;
    let json = page.json();
    assert_eq!(ids(&page), ["2", "3"]);
    assert_eq!(json["messages"][0]["state"], "ready");
    assert_eq!(json["messages"][0]["attempt"], 0);
    assert_eq!(json["messages"][0]["formula"]["seq"], FIRST_SEQ);
    let next = json["next"].as_str().unwrap();
    let target = format!("/queues/formulas/messages?state=ready&limit=2&after={next}");
    assert_eq!(page.header("link"), format!("<{target}>; rel=\"next\""));
    let last = server.get(&target).await.json();
    assert_eq!(last["messages"].as_array().unwrap().len(), 1);
    assert_eq!(last["next"], Value::Null);
    assert_eq!(counts(&mut server).await, [3, 0, 0, 0]);
    let wrong = server.get("/queues/formulas/messages?state=gone").await;
    assert_eq!(wrong.json()["errors"][0]["parameter"], "state");
}

#[tokio::test]
async fn dead_letters_are_redriven_and_purged() {
    let mut server = Server::start().await;
    submit(&mut server, 1).await;
    submit(&mut server, 2).await;
    for _ in 0..5 {
        let leased = lease(&mut server, r#"{"max":2}"#).await;
        assert_eq!(server.post("/queues/formulas/nack", &receipts(&leased)).await.status, 200);
    }
    assert_eq!(counts(&mut server).await, [0, 0, 0, 2]);
    let moved = server.post("/queues/formulas/redrive", r#"{"ids":["2","99"]}"#).await;
    assert_eq!((moved.status, moved.json()), (200, json!({"moved": 1})));
    assert_eq!(counts(&mut server).await, [1, 0, 0, 1]);
    let purged = server.call("DELETE", "/queues/formulas/dead", &[], "").await;
    assert_eq!((purged.status, purged.json()), (200, json!({"purged": 1})));
    assert_eq!(counts(&mut server).await, [1, 0, 0, 0]);
}

#[tokio::test]
async fn a_message_that_cannot_be_read_is_named_and_does_not_hide_the_others() {
    let mut server = Server::start().await;
    assert_eq!(submit_and_damage(&mut server).await.to_string(), "2");
    submit(&mut server, 1).await;
    let shown = server.post("/queues/formulas/lease", r#"{"max":2}"#).await;
    assert_eq!((shown.status, &shown.json()["unreadable"]), (200, &json!(["2"])));
    assert_eq!(ids(&shown), ["3"]);
    server.clock.advance_ms(LEASE_MS_DEFAULT);
    let alone = server.post("/queues/formulas/lease", r#"{"max":1}"#).await;
    assert_eq!((alone.status, &alone.json()["seq"]), (500, &json!(2)));
    assert_eq!(alone.json()["type"], "/problems/damaged-record");
}

#[tokio::test]
async fn a_damaged_message_lets_others_pass_and_ends_as_a_dead_letter_that_says_why() {
    let mut server = Server::start().await;
    let damaged = submit_and_damage(&mut server).await;
    submit(&mut server, 1).await;
    for attempt in 1..=5 {
        let refused = server.post("/queues/formulas/lease", r#"{"max":1}"#).await;
        assert_eq!((refused.status, &refused.json()["seq"]), (500, &json!(2)), "{attempt}");
        let delayed = u64::from(attempt < 5);
        assert_eq!(counts(&mut server).await, [1, 0, delayed, 1 - delayed], "{attempt}");
        if attempt == 1 {
            let next = lease(&mut server, r#"{"max":1}"#).await;
            assert_eq!(next[0]["id"], "3", "it is not at the head any more");
            let done = server.post("/queues/formulas/ack", &receipts(&next)).await;
            assert_eq!(done.status, 200);
            submit(&mut server, 2).await;
        }
        server.clock.advance_ms(LEASE_MS_DEFAULT);
    }
    assert_eq!(server.context().metrics.damaged_messages.get(), 5);
    let queue = "formulas".parse().unwrap();
    let engine = server.context().engine.clone();
    let dead = engine.peek(&queue, MessagePhase::Dead, None, 9).await.unwrap();
    assert_eq!((dead.len(), dead[0].id), (1, damaged));
    let reasons = dead[0].history.iter().map(|end| end.reason.as_deref());
    assert!(reasons.eq([Some(deliver::DAMAGED_REASON); 5]), "{:?}", dead[0].history);
}

#[tokio::test]
async fn a_page_of_messages_ends_before_a_damaged_one_and_the_next_says_how_to_get_past_it() {
    let mut server = Server::start().await;
    submit(&mut server, 1).await;
    let damaged = submit_and_damage(&mut server).await;
    submit(&mut server, 2).await;
    let first = server.get("/queues/formulas/messages").await;
    assert_eq!((first.status, ids(&first)), (200, vec!["2".to_owned()]));
    let next = first.json()["next"].as_str().unwrap().to_owned();
    let refused = server.get(&format!("/queues/formulas/messages?after={next}")).await;
    assert_eq!((refused.status, &refused.json()["seq"]), (500, &json!(damaged.0.0)));
    let behind = refused.json()["next"].as_str().unwrap().to_owned();
    let last = server.get(&format!("/queues/formulas/messages?after={behind}")).await;
    assert_eq!((last.status, ids(&last)), (200, vec!["4".to_owned()]));
}

#[tokio::test]
async fn a_lease_longer_than_a_piece_is_streamed_whole() {
    let mut server = Server::start().await;
    let filler = "x".repeat(NAME_CHARS_MAX - 4);
    let mut whole = Vec::new();
    for n in 0..3 {
        let material = |line| format!(r#"{{"name":"{filler}{line}","concentration":1}}"#);
        let lines: Vec<_> = (0..MATERIALS_MAX).map(|line| material(line * 3 + n)).collect();
        whole.push(submit_named(&mut server, "large", &lines.join(",")).await);
    }
    whole.push(submit(&mut server, 1).await);
    let damaged = submit_and_damage(&mut server).await;
    let budget = Arc::new(Budget::new(0));
    let whole = whole.repeat(3);
    let many = whole.iter().copied().chain([damaged]).map(delivery).collect();
    let (queue, charge) = ("formulas".parse().unwrap(), budget.open());
    let answer = deliver::respond(server.context(), queue, many, charge).await.unwrap();
    let mut body = answer.into_hyper(Exchange::begin(&link())).into_body();
    assert_eq!(body.size_hint().exact(), None, "it goes out in pieces");
    let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(budget.left(), -i64::try_from(first.len()).unwrap(), "until it is read");
    let rest = body.collect().await.unwrap().to_bytes();
    assert_eq!(budget.left(), 0, "all is given back");
    let shown: Value = serde_json::from_slice(&[first, rest].concat()).unwrap();
    let ids = shown["messages"].as_array().unwrap().iter().map(|m| m["id"].as_str().unwrap());
    assert!(ids.eq(whole.iter().map(MessageId::to_string)), "{whole:?}");
    assert_eq!(shown["messages"][2]["formula"]["materials"].as_array().unwrap().len(), 1000);
    assert_eq!(shown["unreadable"], json!([damaged.to_string()]));
}

fn delivery(message: MessageId) -> Delivery {
    let receipt = Receipt { message, attempt: 1, epoch: Epoch(1), token: 0 };
    Delivery { receipt, lease_until: Timestamp(0) }
}

fn link() -> Arc<Link> {
    Arc::default()
}

/// A long poll of the longest duration, on a task of its own.
fn long_poll(server: &Server, link: &Arc<Link>) -> JoinHandle<Vec<Delivery>> {
    let (service, hangup) = (server.service(), Exchange::begin(link).hangup());
    tokio::spawn(async move {
        let wish = LeaseRequest {
            queue: "formulas".parse().unwrap(),
            messages_max: 10,
            lease_ms: LEASE_MS_DEFAULT,
        };
        wait::lease(&service.context, &wish, LEASE_WAIT_MS_MAX, &hangup).await.unwrap()
    })
}

#[tokio::test]
async fn a_long_poll_ends_when_something_arrives() {
    let mut server = Server::start().await;
    let (first, second) = (long_poll(&server, &link()), long_poll(&server, &link()));
    tokio::task::yield_now().await;
    server.catch_up().await;
    assert!(!first.is_finished() && !second.is_finished());
    let message = submit(&mut server, 1).await;
    assert_eq!(first.await.unwrap()[0].receipt.message, message);
    server.catch_up().await;
    assert!(!second.is_finished(), "one message wakes one consumer for good");
    let message = submit(&mut server, 2).await;
    assert_eq!(second.await.unwrap()[0].receipt.message, message);
}

#[tokio::test]
async fn a_long_poll_ends_empty_when_the_server_stops() {
    let server = Server::start().await;
    let poll = long_poll(&server, &link());
    tokio::task::yield_now().await;
    server.catch_up().await;
    assert!(!poll.is_finished());
    server.trigger.advance();
    assert_eq!(poll.await.unwrap(), []);
}

#[tokio::test]
async fn a_long_poll_gets_a_message_whose_lease_lapses() {
    let mut server = Server::start().await;
    submit(&mut server, 1).await;
    assert_eq!(lease(&mut server, r#"{"lease_s":0.01}"#).await[0]["attempt"], 1);
    let poll = long_poll(&server, &link());
    tokio::task::yield_now().await;
    server.catch_up().await;
    assert!(!poll.is_finished(), "the lease still runs");
    server.clock.advance_ms(10);
    assert_eq!(poll.await.unwrap()[0].receipt.attempt, 2);
}

#[tokio::test]
async fn a_lease_that_lapses_after_a_poll_has_looked_is_not_waited_for() {
    let mut server = Server::start().await;
    submit(&mut server, 1).await;
    lease(&mut server, r#"{"lease_s":0.01}"#).await;
    let engine = &server.context().engine;
    let (queue, before) = ("formulas".parse().unwrap(), engine.uptime());
    assert_eq!(engine.next_due_ms(&queue, before), Some(10));
    server.clock.advance_ms(10);
    assert_eq!(engine.next_due_ms(&queue, before), Some(0));
    assert_eq!(engine.next_due_ms(&queue, engine.uptime()), None, "no busy loop");
}

#[tokio::test]
async fn a_long_poll_that_nothing_ends_is_empty_when_its_time_is_over() {
    let mut server = Server::start().await;
    assert_eq!(lease(&mut server, r#"{"wait_s":0.02}"#).await.len(), 0);
    assert_eq!(lease(&mut server, r#"{"wait_s":0}"#).await.len(), 0);
}

#[tokio::test]
async fn who_has_left_leases_nothing_that_arrives_later() {
    let mut server = Server::start().await;
    let link = link();
    let poll = long_poll(&server, &link);
    tokio::task::yield_now().await;
    link.hang_up();
    submit(&mut server, 1).await;
    assert_eq!(poll.await.unwrap(), []);
    assert_eq!(counts(&mut server).await, [1, 0, 0, 0]);
}

/// Whoever waits next is woken when a poll ends in this way without a message.
async fn assert_watch_is_passed_on(end: impl AsyncFnOnce(&Link, JoinHandle<Vec<Delivery>>)) {
    let server = Server::start().await;
    let link = link();
    let poll = long_poll(&server, &link);
    tokio::task::yield_now().await;
    server.catch_up().await;
    // Once more, so that the poll has heard that there is nothing and waits.
    tokio::task::yield_now().await;
    let queue = "formulas".parse().unwrap();
    let arrivals = server.context().engine.arrivals(&queue).unwrap();
    let mut next_in_line = Box::pin(arrivals.notified());
    assert!(!next_in_line.as_mut().enable(), "nothing has happened yet");
    end(&link, poll).await;
    assert!(next_in_line.as_mut().enable(), "the next one knows no lease that lapses");
}

#[tokio::test]
async fn who_leaves_a_long_poll_passes_the_watch_to_the_next_in_line() {
    assert_watch_is_passed_on(async |link, poll| {
        link.hang_up();
        assert_eq!(poll.await.unwrap(), []);
    })
    .await;
    assert_watch_is_passed_on(async |_, poll| {
        poll.abort();
        assert!(poll.await.unwrap_err().is_cancelled());
    })
    .await;
}
