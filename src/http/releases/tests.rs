//! The calls under `/transactions`, with nodes that do as they are told.

mod withdrawals;

use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::http::KeyPolicy;
use crate::http::harness::{Answer, Mood, Nodes, Server, Setup};

const URLS: &[&str] = &["http://a.test", "http://b.test", "http://c.test"];
const JSON: (&str, &str) = ("content-type", "application/json");
const AT_ONCE: (&str, &str) = ("prefer", "wait=0");
const CREATE: &str = r#"{"groupId":"g","action":"create"}"#;
const DELETE: &str = r#"{"groupId":"g","action":"delete"}"#;

/// A server with three nodes; nobody carries out anything yet.
async fn idle(setup: Setup) -> (Server, Arc<Nodes>) {
    let nodes = Arc::new(Nodes::default());
    let setup = Setup { nodes: Some((URLS, Arc::clone(&nodes))), ..setup };
    (Server::start_as(setup).await, nodes)
}

/// A server with three nodes and the worker that calls them.
async fn working() -> (Server, Arc<Nodes>) {
    let (server, nodes) = idle(Setup::default()).await;
    server.start_releaser();
    (server, nodes)
}

async fn begin(server: &mut Server, headers: &[(&str, &str)], body: &str) -> Answer {
    let headers: Vec<_> = [JSON].iter().chain(headers).copied().collect();
    server.call("POST", "/transactions", &headers, body).await
}

async fn keyed(server: &mut Server, key: &str, body: &str) -> Answer {
    begin(server, &[("idempotency-key", key)], body).await
}

fn id(answer: &Answer) -> String {
    answer.json()["id"].as_str().expect("an id").to_owned()
}

fn kind(answer: &Answer) -> String {
    answer.json()["type"].as_str().expect("a problem").replace("/problems/", "")
}

/// What a transaction says of its nodes: outcomes, in their order.
fn outcomes(transaction: &Value) -> Vec<&str> {
    let nodes = transaction["nodes"].as_array().expect("nodes").iter();
    nodes.map(|node| node["outcome"].as_str().expect("an outcome")).collect()
}

/// The transaction at its end, for whoever was not there.
async fn ended(server: &mut Server, id: &str) -> Value {
    let watcher = server.context().engine.watch_transaction(Lsn(id.parse().unwrap()));
    watcher.ended().await.unwrap().expect("it is remembered");
    server.get(&format!("/transactions/{id}")).await.json()
}

#[tokio::test]
async fn a_group_is_created_on_all_nodes_and_deleted_from_all() {
    let (mut server, nodes) = working().await;
    let created = begin(&mut server, &[], CREATE).await;
    let date = "2026-11-18T11:06:40.000Z";
    let node =
        |url: &&str| json!({"url": url, "outcome": "done", "attempts": 1, "last_error": null});
    let expected = json!({
        "id": "2", "groupId": "g", "action": "create", "state": "succeeded", "State": "succeeded",
        "tries": 0, "begun_at": date, "changed_at": date,
        "nodes": URLS.iter().map(node).collect::<Vec<_>>(),
    });
    assert_eq!((created.status, created.json()), (200, expected));
    for header in ["location", "retry-after", "preference-applied", "idempotent-replayed"] {
        assert_eq!(created.header(header), "", "{header}");
    }
    assert_eq!(server.get("/transactions/2").await.body, created.body);
    assert!(URLS.iter().all(|url| nodes.has(url, "g")));
    let deleted = begin(&mut server, &[], DELETE).await;
    assert_eq!((deleted.status, &deleted.json()["state"]), (200, &json!("succeeded")));
    assert!(!URLS.iter().any(|url| nodes.has(url, "g")));
}

#[tokio::test]
async fn programs_from_before_find_their_path_and_the_word_they_read() {
    let (mut server, _) = working().await;
    for (path, body) in [("/dtc/", CREATE), ("/dtc", DELETE)] {
        let answer = server.post(path, body).await;
        assert_eq!((answer.status, &answer.json()["State"]), (200, &json!("succeeded")), "{path}");
    }
}

#[tokio::test]
async fn a_refusal_ends_as_rolled_back_and_the_reason_names_the_node() {
    let (mut server, nodes) = working().await;
    nodes.set(URLS[1], Mood::Refuses);
    let answer = begin(&mut server, &[], CREATE).await;
    let json = answer.json();
    assert_eq!((answer.status, &json["state"]), (200, &json!("rolled_back")));
    assert_eq!(outcomes(&json), ["undone", "refused", "undone"]);
    assert_eq!(json["reason"], "http://b.test: answered 403: \"no\"");
    assert_eq!(json["nodes"][1]["last_error"], "answered 403: \"no\"");
    assert!(!URLS.iter().any(|url| nodes.has(url, "g")));
}

#[tokio::test]
async fn whoever_does_not_wait_is_told_where_to_look() {
    let (mut server, nodes) = working().await;
    nodes.set(URLS[2], Mood::Hangs);
    let promise = begin(&mut server, &[AT_ONCE], CREATE).await;
    assert_eq!((promise.status, &promise.json()["state"]), (202, &json!("running")));
    assert_eq!(promise.header("preference-applied"), "wait=0");
    assert_eq!(promise.header("location"), format!("/transactions/{}", id(&promise)));
    assert_eq!(promise.header("retry-after"), TRANSACTION_RETRY_AFTER_S.to_string());
    nodes.called(3).await;
    let location = promise.header("location");
    let now = server.get(location).await;
    assert_eq!((now.status, outcomes(&now.json())[2]), (200, "calling"));
    nodes.set(URLS[2], Mood::Well);
    let end = ended(&mut server, &id(&promise)).await;
    assert_eq!(end["state"], "succeeded");
}

// Paused time passes as soon as all wait, so that no transaction is quick enough.
#[tokio::test(start_paused = true)]
async fn nobody_waits_for_ever_whatever_he_prefers() {
    let (mut server, _) = idle(Setup::default()).await;
    let promise = begin(&mut server, &[], CREATE).await;
    assert_eq!((promise.status, promise.header("preference-applied")), (202, ""));
    let long = format!("wait={}", TRANSACTION_WAIT_S_MAX + 1);
    let path = format!("/transactions/{}/retry", id(&promise));
    let promise = server.call("POST", &path, &[("prefer", &long)], "").await;
    let granted = format!("wait={TRANSACTION_WAIT_S_MAX}");
    assert_eq!((promise.status, promise.header("preference-applied")), (202, &*granted));
}

#[tokio::test]
async fn whoever_waits_is_answered_when_it_ends() {
    let (mut server, nodes) = working().await;
    nodes.set(URLS[0], Mood::Hangs);
    let let_go = async {
        nodes.called(3).await;
        nodes.set(URLS[0], Mood::Well);
    };
    let prefer = [("prefer", "wait=300")];
    let (answer, ()) = tokio::join!(begin(&mut server, &prefer, CREATE), let_go);
    assert_eq!((answer.status, &answer.json()["state"]), (200, &json!("succeeded")));
    assert_eq!(answer.header("preference-applied"), "wait=300");
}

#[tokio::test]
async fn a_server_that_stops_makes_nobody_wait() {
    let (mut server, nodes) = working().await;
    nodes.set(URLS[0], Mood::Hangs);
    let trigger = server.trigger.clone();
    let stop = async {
        nodes.called(3).await;
        trigger.advance();
    };
    let (promise, ()) = tokio::join!(begin(&mut server, &[("prefer", "wait=300")], CREATE), stop);
    assert_eq!((promise.status, &promise.json()["state"]), (202, &json!("running")));
}

#[tokio::test]
async fn a_client_that_leaves_does_not_stop_it() {
    let (mut server, nodes) = working().await;
    nodes.set(URLS[0], Mood::Hangs);
    let mut other = server.connected_anew().await;
    tokio::select! {
        answer = begin(&mut other, &[], CREATE) => panic!("{answer:?}"),
        () = nodes.called(3) => {}
    }
    drop(other);
    nodes.set(URLS[0], Mood::Well);
    assert_eq!(ended(&mut server, "2").await["state"], "succeeded");
}

#[tokio::test]
async fn every_fault_of_a_body_is_named() {
    let (mut server, _) = idle(Setup::default()).await;
    let long = "x".repeat(GROUP_ID_BYTES_MAX + 1);
    let faults_of = |group: &str, action: &str| json!({"groupId": group, "action": action});
    let action = "must be \"create\" or \"delete\"";
    let cases = [
        (json!({}), vec![("/groupId", "is missing"), ("/action", "is missing")]),
        (faults_of("", "drop"), vec![("/groupId", "is empty"), ("/action", action)]),
        (faults_of(".", "create"), vec![("/groupId", "cannot stand in a path")]),
        (faults_of("..", "create"), vec![("/groupId", "cannot stand in a path")]),
        (faults_of("a\nb", "create"), vec![("/groupId", "holds control characters")]),
        (faults_of("a\u{85}b", "create"), vec![("/groupId", "holds control characters")]),
        (faults_of(&long, "create"), vec![("/groupId", "is 201 bytes, at most 200")]),
        (faults_of("g", "Create"), vec![("/action", action)]),
        (
            json!({"groupId": 7, "action": null, "nodes": []}),
            vec![
                ("/groupId", "must be a string"),
                ("/action", "must be a string"),
                ("/nodes", "is not a member of this request"),
            ],
        ),
    ];
    for (body, expected) in cases {
        let answer = begin(&mut server, &[], &body.to_string()).await;
        assert_eq!((answer.status, kind(&answer).as_str()), (400, "invalid-body"), "{body}");
        let expected: Vec<_> = expected
            .into_iter()
            .map(|(pointer, detail)| json!({"pointer": pointer, "detail": detail}))
            .collect();
        assert_eq!(answer.json()["errors"], json!(expected), "{body}");
    }
    assert_eq!(kind(&begin(&mut server, &[], "{").await), "malformed-body");
    let huge = format!("{}{}", CREATE, " ".repeat(TRANSACTION_BODY_BYTES_MAX));
    // The rest of what is refused unread closes the connection.
    let mut other = server.connected_anew().await;
    assert_eq!(begin(&mut other, &[], &huge).await.status, 413);
    let mut other = server.connected_anew().await;
    let text = other.call("POST", "/transactions", &[("content-type", "text/plain")], CREATE);
    assert_eq!(text.await.status, 415);
    let none = json!({"transactions": [], "next": null});
    assert_eq!(server.get("/transactions").await.json(), none, "nothing was begun");
}

#[tokio::test]
async fn names_at_the_edge_of_what_a_group_is_called_are_taken() {
    let (mut server, nodes) = working().await;
    for group in ["x".repeat(GROUP_ID_BYTES_MAX), "...".into(), "a/b %?#ü".into(), " ".into()] {
        let body = json!({"groupId": group, "action": "create"}).to_string();
        let answer = begin(&mut server, &[], &body).await;
        assert_eq!((answer.status, &answer.json()["groupId"]), (200, &json!(group)), "{group}");
        assert!(nodes.has(URLS[0], &group), "{group}");
    }
}

#[tokio::test]
async fn a_group_that_is_held_is_refused_and_its_holder_named() {
    let (mut server, _) = idle(Setup::default()).await;
    let first = begin(&mut server, &[AT_ONCE], CREATE).await;
    for body in [CREATE, DELETE] {
        let refused = begin(&mut server, &[], body).await;
        assert_eq!((refused.status, kind(&refused).as_str()), (409, "group-held"));
        let existing = json!({"id": id(&first), "url": first.header("location")});
        assert_eq!(refused.json()["existing"], existing);
    }
    let other = begin(&mut server, &[AT_ONCE], r#"{"groupId":"G","action":"delete"}"#).await;
    assert_eq!(other.status, 202, "another group is free");
}

#[tokio::test]
async fn without_nodes_nothing_is_begun() {
    let mut server = Server::start().await;
    let refused = begin(&mut server, &[], CREATE).await;
    assert_eq!((refused.status, kind(&refused).as_str()), (503, "releases-unavailable"));
    assert_eq!(server.get("/transactions").await.status, 200);
    assert_eq!(server.get("/transactions/1").await.status, 404);
}

#[tokio::test]
async fn a_key_brings_the_answer_at_the_end_again_to_the_byte() {
    let (mut server, nodes) = working().await;
    let first = keyed(&mut server, "k", CREATE).await;
    assert_eq!((first.status, first.header("idempotent-replayed")), (200, ""));
    server.clock.advance_ms(1000);
    nodes.set(URLS[0], Mood::Refuses);
    // By any of its paths: it is one call.
    for path in ["/transactions", "/dtc/", "/dtc"] {
        let again = server.call("POST", path, &[JSON, ("idempotency-key", "\"k\"")], CREATE).await;
        assert_eq!((again.status, &again.body), (200, &first.body), "{path}");
        assert_eq!(again.header("idempotent-replayed"), "true");
    }
    assert_eq!(nodes.calls(), 3);
    let other = keyed(&mut server, "k", DELETE).await;
    assert_eq!((other.status, kind(&other).as_str()), (422, "idempotency-key-reused"));
    let faulty = keyed(&mut server, "k", "{}").await;
    assert_eq!((faulty.status, kind(&faulty).as_str()), (422, "idempotency-key-reused"));
}

#[tokio::test]
async fn a_key_brings_the_promise_again_though_it_has_been_kept() {
    let (mut server, nodes) = working().await;
    nodes.set(URLS[0], Mood::Hangs);
    let headers = [("idempotency-key", "k"), AT_ONCE];
    let first = begin(&mut server, &headers, CREATE).await;
    assert_eq!(first.status, 202);
    nodes.set(URLS[0], Mood::Well);
    assert_eq!(ended(&mut server, &id(&first)).await["state"], "succeeded");
    let again = keyed(&mut server, "k", CREATE).await;
    assert_eq!((again.status, &again.body), (202, &first.body));
    for header in ["location", "retry-after"] {
        assert_eq!(again.header(header), first.header(header));
    }
    assert_eq!(again.header("idempotent-replayed"), "true");
}

#[tokio::test]
async fn twins_under_one_key_are_one_transaction_with_one_answer() {
    let (mut server, nodes) = working().await;
    nodes.set(URLS[0], Mood::Hangs);
    let mut other = server.connected_anew().await;
    let let_go = async {
        nodes.called(3).await;
        nodes.set(URLS[0], Mood::Well);
    };
    let twin = [("idempotency-key", "k"), ("prefer", "wait=1")];
    let (one, two, ()) =
        tokio::join!(keyed(&mut server, "k", CREATE), begin(&mut other, &twin, CREATE), let_go);
    assert_eq!((one.status, &one.body), (two.status, &two.body));
    let replayed = [one, two].map(|answer| answer.header("idempotent-replayed").len());
    assert_eq!(replayed.iter().sum::<usize>(), "true".len());
    assert_eq!(nodes.calls(), 3);
}

#[tokio::test]
async fn whoever_was_cut_off_before_the_answer_was_kept_is_answered_when_he_repeats() {
    let (mut server, nodes) = working().await;
    nodes.set(URLS[0], Mood::Hangs);
    let mut other = server.connected_anew().await;
    tokio::select! {
        answer = keyed(&mut other, "k", CREATE) => panic!("{answer:?}"),
        () = nodes.called(3) => {}
    }
    drop(other);
    let let_go = async { nodes.set(URLS[0], Mood::Well) };
    let mut next = server.connected_anew().await;
    let (answer, ()) = tokio::join!(keyed(&mut next, "k", CREATE), let_go);
    assert_eq!((answer.status, &answer.json()["state"]), (200, &json!("succeeded")));
    assert_eq!(answer.header("idempotent-replayed"), "true");
    let again = keyed(&mut server, "k", CREATE).await;
    assert_eq!((again.status, &again.body), (200, &answer.body));
}

#[tokio::test]
async fn refusals_spend_no_key() {
    let (mut server, _) = working().await;
    assert_eq!(keyed(&mut server, "k", "{}").await.status, 400);
    let taken = keyed(&mut server, "k", CREATE).await;
    assert_eq!((taken.status, taken.header("idempotent-replayed")), (200, ""));
}

#[tokio::test]
async fn a_server_that_wants_keys_wants_one_here_too() {
    let (mut server, _) = idle(Setup { key_policy: KeyPolicy::Required, ..Setup::default() }).await;
    let refused = begin(&mut server, &[], CREATE).await;
    assert_eq!((refused.status, kind(&refused).as_str()), (400, "missing-idempotency-key"));
    let taken = begin(&mut server, &[("idempotency-key", "k"), AT_ONCE], CREATE).await;
    assert_eq!(taken.status, 202);
    let retried = server.post("/transactions/2/retry", "").await;
    assert_eq!(retried.status, 202, "a retry creates nothing");
}

#[tokio::test]
async fn transactions_are_listed_page_by_page_and_by_state() {
    let (mut server, nodes) = working().await;
    nodes.set(URLS[0], Mood::Refuses);
    for number in 0..5 {
        if number == 3 {
            nodes.set(URLS[0], Mood::Well);
        }
        let body = json!({"groupId": format!("g{number}"), "action": "create"}).to_string();
        assert_eq!(begin(&mut server, &[], &body).await.status, 200);
    }
    let groups = |answer: &Answer| -> Vec<String> {
        let json = answer.json();
        let rows = json["transactions"].as_array().unwrap().iter();
        rows.map(|row| row["groupId"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(groups(&server.get("/transactions").await), ["g0", "g1", "g2", "g3", "g4"]);
    let first = server.get("/transactions?state=rolled_back&limit=2").await;
    assert_eq!(groups(&first), ["g0", "g1"]);
    let next = first.json()["next"].as_str().unwrap().to_owned();
    let target = format!("/transactions?state=rolled_back&limit=2&after={next}");
    assert_eq!(first.header("link"), format!("<{target}>; rel=\"next\""));
    let last = server.get(&target).await;
    assert_eq!((groups(&last), &last.json()["next"]), (vec!["g2".into()], &Value::Null));
    assert_eq!(last.header("link"), "");
    assert_eq!(groups(&server.get("/transactions?state=succeeded").await), ["g3", "g4"]);
    let none = json!({"transactions": [], "next": null});
    assert_eq!(server.get("/transactions?state=failed").await.json(), none);
    let whole = server.get("/transactions?limit=1").await.json();
    let id = whole["transactions"][0]["id"].as_str().unwrap();
    assert_eq!(whole["transactions"][0], server.get(&format!("/transactions/{id}")).await.json());
}

#[tokio::test]
async fn a_state_that_is_none_is_refused_and_the_states_are_named() {
    let mut server = Server::start().await;
    for state in ["", "Failed", "done"] {
        let refused = server.get(&format!("/transactions?state={state}")).await;
        assert_eq!((refused.status, kind(&refused).as_str()), (400, "invalid-query"));
        let detail = "must be one of running, to_be_retried, succeeded, rolled_back, failed";
        let errors = json!([{"parameter": "state", "detail": detail}]);
        assert_eq!(refused.json()["errors"], errors);
    }
    for wrong in ["limit=0", "limit=1001", "after=2", "group=g"] {
        assert_eq!(server.get(&format!("/transactions?{wrong}")).await.status, 400, "{wrong}");
    }
}

#[tokio::test]
async fn what_is_no_transaction_is_unknown_however_it_is_spelt() {
    let (mut server, _) = idle(Setup::default()).await;
    begin(&mut server, &[AT_ONCE], CREATE).await;
    for id in ["0", "1", "3", "02", "+2", "2%20", "x", "18446744073709551616", "%ff"] {
        for (method, path) in [("GET", String::new()), ("POST", "/retry".to_owned())] {
            let answer = server.call(method, &format!("/transactions/{id}{path}"), &[], "").await;
            assert_eq!(answer.status, 404, "{method} {id}");
        }
    }
    assert_eq!(kind(&server.get("/transactions/3").await), "unknown-transaction");
}

#[tokio::test]
async fn what_waits_for_its_next_try_is_tried_at_once_by_hand() {
    let (mut server, nodes) = working().await;
    for url in URLS {
        nodes.set(url, Mood::Fails);
    }
    let promise = begin(&mut server, &[AT_ONCE], CREATE).await;
    let path = format!("/transactions/{}", id(&promise));
    while server.get(&path).await.json()["state"] != "to_be_retried" {
        tokio::task::yield_now().await;
    }
    for url in URLS {
        nodes.set(url, Mood::Well);
    }
    let retry = format!("{path}/retry");
    let answer = server.call("POST", &retry, &[("prefer", "wait=300")], "").await;
    assert_eq!((answer.status, &answer.json()["state"]), (200, &json!("succeeded")));
    assert_eq!(answer.header("preference-applied"), "wait=300");
    let over = server.post(&retry, "").await;
    assert_eq!((over.status, kind(&over).as_str()), (409, "transaction-over"));
}

#[tokio::test]
async fn a_retry_of_what_runs_changes_nothing_and_does_not_wait() {
    let (mut server, _) = idle(Setup::default()).await;
    let first = begin(&mut server, &[AT_ONCE], CREATE).await;
    let path = format!("/transactions/{}/retry", id(&first));
    let answer = server.post(&path, "").await;
    assert_eq!((answer.status, &answer.body), (202, &first.body));
    assert_eq!(answer.header("location"), first.header("location"));
    assert_eq!(answer.header("preference-applied"), "");
}
