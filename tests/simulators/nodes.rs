//! Simulated partner nodes: each fault shown by what the client sees and by what is there after.

use std::io;

use serde_json::{Value, json};

use super::common::{Call, Client, NodeRequest, NodeStats, Nodes, Response, ask_until, run};

/// Every connection that a test makes is its own: a fault may end it.
fn call(nodes: &Nodes, node: usize, call: &Call) -> io::Result<Response> {
    nodes.client(node).try_send(call)
}

fn create(group: &str) -> Call {
    Call::post("/v1/group/", json!({"groupId": group}).to_string())
}

fn delete(group: &str) -> Call {
    Call { method: "DELETE", ..create(group) }
}

fn look(group: &str) -> Call {
    Call::get(format!("/v1/group/{group}/"))
}

/// Sends a call that nobody answers, and hangs up once the node has it.
fn send_in_vain(nodes: &Nodes, node: usize, call: &Call) -> NodeRequest {
    let before = nodes.stats(node);
    let mut client: Client = nodes.client(node);
    client.begin(call).expect("it accepts connections");
    let stats = nodes.await_stats(node, "the call came", |stats| stats.seen > before.seen);
    assert_eq!(stats.under_way, 1, "nobody answers");
    drop(client);
    let stats = nodes.await_stats(node, "the client left", |stats| stats.under_way == 0);
    let left = |stats: &NodeStats| stats.by_status.get("left").copied().unwrap_or_default();
    assert_eq!(left(&stats), left(&before) + 1);
    let last = stats.requests.last().expect("it is kept").clone();
    assert_eq!(last.status, None);
    last
}

#[test]
fn groups_are_created_and_deleted_on_each_node_by_itself() {
    let nodes = Nodes::start(3, &[]);
    let mut client = nodes.client(1);
    let created = client.send(&create("a")).expect(201);
    assert_eq!(created.header("content-type"), Some("application/json"));
    assert_eq!(created.json(), json!({"groupId": "a"}));
    client.send(&create("a")).expect(400);
    assert_eq!(client.send(&look("a")).expect(200).json(), json!({"groupId": "a"}));
    nodes.client(0).send(&look("a")).expect(404);
    assert_eq!(nodes.holders("a"), [1]);
    let found = nodes.consistency();
    assert!(!found.agree);
    assert_eq!((found.partly, found.late), (vec!["a".to_owned()], 0));
    assert_eq!(client.send(&delete("a")).expect(200).json(), json!({"groupId": "a"}));
    client.send(&delete("a")).expect(404);
    assert!(nodes.consistency().agree);
    assert_eq!(nodes.holders("a"), [0; 0]);
}

#[test]
fn ids_are_taken_as_they_are() {
    let nodes = Nodes::start(1, &[]);
    let group = "a/b ü%2F\"\\";
    let mut client = nodes.client(0);
    client.send(&create(group)).expect(201);
    let found = client.send(&look("a%2Fb%20%C3%BC%252F%22%5C")).expect(200);
    assert_eq!(found.json(), json!({"groupId": group}));
    assert_eq!(nodes.groups(0), [group]);
    assert_eq!(nodes.requests(0)[1].group.as_deref(), Some(group));
    client.send(&look("a/b")).expect(404);
}

#[test]
fn what_is_not_the_api_is_refused_and_kept_as_it_came() {
    let nodes = Nodes::start(1, &["--fail", "1"]);
    let mut client = nodes.client(0);
    let body = r#"{"groupId": "a"}"#;
    client.send(&Call::post("/v1/group", body)).expect(404);
    client.send(&Call { method: "DELETE", ..Call::new("DELETE", "/v1/group/a/") }).expect(404);
    client.send(&Call::get("/v1/group/a")).expect(404);
    client.send(&Call { method: "PUT", ..Call::post("/v1/group/", body) }).expect(405);
    client.send(&Call::new("DELETE", "/v1/group/")).expect(400);
    client.send(&Call::post("/v1/group/", r#"{"groupId": 7}"#)).expect(400);
    let stats = nodes.stats(0);
    assert_eq!((stats.seen, stats.calls, stats.looks), (6, 0, 0));
    let lines: Vec<_> = stats.requests.iter().map(NodeRequest::line).collect();
    let paths = ["/v1/group", "/v1/group/a/", "/v1/group/a", "/v1/group/"];
    let wanted = [("POST", 0), ("DELETE", 1), ("GET", 2), ("PUT", 3), ("DELETE", 3), ("POST", 3)];
    assert_eq!(lines, wanted.map(|(method, path)| format!("{method} {}", paths[path])));
    assert!(nodes.groups(0).is_empty());
}

#[test]
fn a_request_is_kept_to_the_letter() {
    let nodes = Nodes::start(2, &[]);
    let body = "{\"groupId\":\t\"a\"}\n";
    let key = "\"store/7/0/12\"";
    let sent = Call::post("/v1/group/", body).key(key).header("X-Odd", "1");
    nodes.client(0).send(&sent).expect(201);
    nodes.client(1).send(&look("a")).expect(404);
    let stats = nodes.stats(0);
    let [kept] = stats.about("a")[..] else { panic!("one request: {stats:?}") };
    assert_eq!((kept.line(), kept.body.as_str()), ("POST /v1/group/".to_owned(), body));
    assert_eq!((kept.idempotency_key.as_deref(), kept.key_number()), (Some(key), 12));
    assert_eq!(kept.headers["content-type"], "application/json");
    assert_eq!(kept.headers["content-length"], body.len().to_string());
    assert_eq!(kept.headers["x-odd"], "1");
    assert_eq!((kept.met.as_str(), kept.did.as_str()), ("right", "created"));
    assert_eq!((kept.status, kept.did_at_ms), (Some(201), Some(kept.at_ms)));
    let elsewhere = &nodes.requests(1)[0];
    assert!(elsewhere.at_ms >= kept.at_ms, "all nodes share a clock");
    assert_eq!((elsewhere.did.as_str(), elsewhere.did_at_ms), ("nothing", None));
}

#[test]
fn a_failure_is_before_the_effect_or_after_it() {
    let nodes = Nodes::start(1, &[]);
    let told = ["500", "500-after", "403", "403-after", "408", "garbage", "garbage-after"];
    for (number, word) in told.into_iter().enumerate() {
        let group = format!("g{number}");
        nodes.script(0, &[word]);
        let answer = call(&nodes, 0, &create(&group)).expect("an answer");
        match word.strip_suffix("-after").unwrap_or(word) {
            "garbage" => {
                assert_eq!(
                    (answer.status, answer.header("content-type")),
                    (200, Some("text/html"))
                );
            }
            status => assert_eq!(answer.status.to_string(), status),
        }
        let is_there = nodes.groups(0).contains(&group);
        assert_eq!(is_there, word.ends_with("-after"), "{word}");
        assert_eq!(nodes.stats(0).fault(word), 1);
        // Only one call was to fail.
        let again = call(&nodes, 0, &create(&group)).expect("an answer");
        assert_eq!(again.status, if is_there { 400 } else { 201 });
        nodes.script(0, &[word]);
        call(&nodes, 0, &delete(&group)).expect("an answer");
        assert_eq!(!nodes.groups(0).contains(&group), word.ends_with("-after"), "{word}");
    }
}

#[test]
fn a_closed_connection_is_before_the_effect_or_after_it() {
    let nodes = Nodes::start(1, &[]);
    nodes.script(0, &["sever", "sever-after"]);
    call(&nodes, 0, &create("a")).expect_err("the connection is closed");
    assert!(nodes.groups(0).is_empty());
    call(&nodes, 0, &create("a")).expect_err("the connection is closed");
    assert_eq!(nodes.groups(0), ["a"]);
    let stats = nodes.stats(0);
    assert_eq!((stats.by_status["severed"], stats.under_way), (2, 0));
    assert!(stats.requests.iter().all(|request| request.status.is_none()));
}

#[test]
fn a_timeout_is_before_the_effect_or_after_it() {
    let nodes = Nodes::start(1, &[]);
    nodes.script(0, &["timeout", "timeout-after"]);
    let kept = send_in_vain(&nodes, 0, &create("a"));
    assert_eq!((kept.met.as_str(), kept.did.as_str()), ("timeout", "nothing"));
    assert!(nodes.groups(0).is_empty());
    let kept = send_in_vain(&nodes, 0, &create("a"));
    assert_eq!((kept.met.as_str(), kept.did.as_str()), ("timeout-after", "created"));
    assert_eq!(nodes.groups(0), ["a"]);
}

#[test]
fn a_late_call_takes_effect_after_its_undo() {
    let nodes = Nodes::start(2, &[]);
    nodes.script(1, &["late@1h", "late@1h"]);
    let kept = send_in_vain(&nodes, 1, &create("a"));
    assert_eq!((kept.met.as_str(), kept.did.as_str()), ("late", "pending"));
    send_in_vain(&nodes, 1, &create("b"));
    assert_eq!((nodes.stats(1).late, nodes.consistency().late), (2, 2));
    nodes.client(1).send(&delete("a")).expect(404);
    assert!(nodes.groups(1).is_empty());
    nodes.release_late(0);
    assert!(nodes.groups(1).is_empty(), "it is another node that was told");
    nodes.release_late(1);
    assert_eq!(nodes.groups(1), ["a", "b"]);
    let stats = nodes.stats(1);
    assert_eq!(stats.late, 0);
    let [late, undo] = stats.about("a")[..] else { panic!("two requests: {stats:?}") };
    assert_eq!(late.did, "created");
    assert!(late.did_at_ms.expect("it was done") >= undo.at_ms, "{stats:?}");
}

#[test]
fn a_late_effect_takes_place_by_itself_when_its_time_has_come() {
    let nodes = Nodes::start(1, &["--fail-late", "1", "--late-ms", "20"]);
    let mut client = nodes.client(0);
    client.begin(&create("a")).expect("it accepts connections");
    let stats = nodes.await_stats(0, "the effect", |stats| !stats.groups.is_empty());
    assert_eq!((stats.late, stats.under_way), (0, 1));
    let kept = &stats.requests[0];
    assert_eq!((kept.did.as_str(), kept.status), ("created", None));
    let after_ms = kept.did_at_ms.expect("it was done") - kept.at_ms;
    assert!((0.0..=20.0).contains(&after_ms), "{after_ms}");
}

#[test]
fn a_node_that_honours_keys_refuses_what_comes_after_its_undo() {
    let nodes = Nodes::start(1, &["--honour-keys"]);
    nodes.script(0, &["late@1h"]);
    send_in_vain(&nodes, 0, &create("a").key("s/7/0/1"));
    nodes.client(0).send(&delete("a").key("s/7/0/2")).expect(404);
    nodes.release_late(0);
    assert!(nodes.groups(0).is_empty(), "the undo came first");
    assert_eq!(nodes.requests(0)[0].did, "nothing");
    nodes.client(0).send(&create("a").key("s/7/0/1")).expect(409);
    nodes.client(0).send(&create("a").key("s/7/0/3")).expect(201);
    nodes.client(0).send(&create("a").key("s/7/0/3")).expect(201);
    nodes.client(0).send(&create("a").key("s/8/0/1")).expect(400);
    nodes.behave(0, &json!({"honour_keys": false}));
    nodes.client(0).send(&create("a").key("s/7/0/3")).expect(400);
}

#[test]
fn a_slow_answer_comes_after_the_effect() {
    let nodes = Nodes::start(1, &["--fail-slow", "1", "--slow-ms", "1"]);
    call(&nodes, 0, &create("a")).expect("an answer").expect(201);
    nodes.script(0, &["slow@1h"]);
    let kept = send_in_vain(&nodes, 0, &delete("a"));
    assert_eq!((kept.met.as_str(), kept.did.as_str()), ("slow", "deleted"));
    nodes.script(0, &["503@5ms"]);
    call(&nodes, 0, &create("a")).expect("an answer").expect(503);
    assert!(nodes.groups(0).is_empty());
}

#[test]
fn looks_have_a_script_of_their_own_and_may_lie() {
    let nodes = Nodes::start(1, &["--existing", "a"]);
    nodes.script_looks(0, &["500", "404", "garbage", "sever", "200"]);
    nodes.client(0).send(&create("b")).expect(201);
    assert_eq!(call(&nodes, 0, &look("a")).expect("an answer").status, 500);
    assert_eq!(call(&nodes, 0, &look("a")).expect("an answer").status, 404);
    let page = call(&nodes, 0, &look("a")).expect("an answer").expect(200);
    assert_eq!(page.header("content-type"), Some("text/html"));
    call(&nodes, 0, &look("a")).expect_err("the connection is closed");
    call(&nodes, 0, &look("a")).expect("an answer").expect(200);
    let stats = nodes.stats(0);
    assert_eq!((stats.looks, stats.calls), (5, 1));
    nodes.script_looks(0, &["timeout"]);
    send_in_vain(&nodes, 0, &look("a"));
}

#[test]
fn scripts_can_be_for_one_group() {
    let nodes = Nodes::start(1, &[]);
    nodes.behave(0, &json!({"group": "b", "script": ["403"], "script_get": ["503"]}));
    let mut client = nodes.client(0);
    client.send(&create("a")).expect(201);
    client.send(&look("b")).expect(503);
    client.send(&create("b")).expect(403);
    client.send(&create("b")).expect(201);
    client.send(&look("b")).expect(200);
}

#[test]
fn a_node_that_is_down_answers_nobody_but_can_be_told_to_come_up() {
    let nodes = Nodes::start(2, &[]);
    nodes.script(0, &["500"]);
    nodes.down(0);
    for sent in [create("a"), delete("a"), look("a")] {
        call(&nodes, 0, &sent).expect_err("it is down");
    }
    call(&nodes, 1, &create("a")).expect("the other one is up").expect(201);
    let stats = nodes.stats(0);
    assert_eq!((stats.fault("down"), stats.by_status["severed"]), (3, 3));
    nodes.up(0);
    call(&nodes, 0, &create("a")).expect("it is up").expect(500);
    call(&nodes, 0, &create("a")).expect("it is up").expect(201);
    assert!(nodes.consistency().agree);
}

#[test]
fn a_node_can_fail_until_it_is_mended() {
    let nodes = Nodes::start(1, &["--fail-slow", "1", "--slow-ms", "0"]);
    nodes.always_looks(0, "503");
    nodes.always(0, "403");
    for _ in 0..2 {
        call(&nodes, 0, &create("a")).expect("an answer").expect(403);
        call(&nodes, 0, &look("a")).expect("an answer").expect(503);
    }
    nodes.script(0, &["500"]);
    nodes.down(0);
    nodes.mend(0);
    call(&nodes, 0, &create("a")).expect("an answer").expect(201);
    call(&nodes, 0, &look("a")).expect("an answer").expect(200);
    assert_eq!(nodes.requests(0).last().expect("the look").met, "right");
}

#[test]
fn a_flapping_node_goes_down_and_comes_up_by_itself() {
    let nodes = Nodes::start(1, &["--flap-ms", "10"]);
    for is_up in [true, false, true, false] {
        ask_until("it goes up and down", || call(&nodes, 0, &look("a")).is_ok() == is_up);
    }
    nodes.behave(0, &json!({"flap_ms": 0}));
    call(&nodes, 0, &look("a")).expect("it stays up").expect(404);
}

#[test]
fn groups_can_be_there_before_and_be_changed_by_others() {
    let nodes = Nodes::start(3, &["--existing", "a,b@1"]);
    assert_eq!((nodes.holders("a"), nodes.holders("b")), (vec![0, 1, 2], vec![1]));
    nodes.behave(1, &json!({"remove": ["a", "x"], "add": ["c", "b"]}));
    assert_eq!(nodes.groups(1), ["b", "c"]);
    assert_eq!(nodes.stats(1).seen, 0, "nobody called");
    assert_eq!(nodes.consistency().partly, ["a", "b", "c"]);
}

/// The statuses of two calls about each of 30 groups, on two nodes; groups in the order given.
fn fates(seed: &str, order: impl Iterator<Item = usize>) -> Vec<(usize, Vec<u16>)> {
    let shares = ["--fail-500", "0.2", "--fail-403", "0.2", "--fail-500-after", "0.2"];
    let arguments = [&shares[..], &["--fail-get", "0", "--seed", seed]].concat();
    let nodes = Nodes::start(2, &arguments);
    let mut clients = [nodes.client(0), nodes.client(1)];
    let mut met: Vec<(usize, Vec<u16>)> = order
        .map(|number| {
            let sent = create(&format!("g{number}"));
            let statuses = [0, 1, 1, 0].map(|node: usize| clients[node].send(&sent).status);
            (number, statuses.to_vec())
        })
        .collect();
    met.sort();
    met
}

#[test]
fn the_same_seed_and_requests_meet_the_same_fate_in_any_order() {
    let found = fates("7", 0..30);
    assert_eq!(found, fates("7", (0..30).rev()));
    assert_ne!(found, fates("8", 0..30));
    let statuses: Vec<u16> = found.iter().flat_map(|(_, statuses)| statuses.clone()).collect();
    assert!([201, 400, 403, 500].iter().all(|status| statuses.contains(status)), "{statuses:?}");
    assert!(found.iter().any(|(_, met)| met[0] != met[1]), "nodes fail independently");
}

#[test]
fn chance_has_every_fault_in_store() {
    const REQUESTS: u64 = 200;
    let nodes =
        Nodes::start(1, &["--fail", "1", "--late-ms", "0", "--slow-ms", "0", "--seed", "1"]);
    let begun = (0..REQUESTS).map(|number| {
        let group = format!("g{number}");
        let sent = if number % 2 == 0 { create(&group) } else { look(&group) };
        let mut client = nodes.client(0);
        client.begin(&sent).expect("it accepts connections");
        client
    });
    let begun: Vec<Client> = begun.collect();
    nodes.await_stats(0, "all have come", |stats| stats.seen == REQUESTS);
    drop(begun);
    let is_over = |stats: &NodeStats| stats.under_way == 0 && stats.late == 0;
    let stats = nodes.await_stats(0, "everybody left", is_over);
    let met: Vec<&str> = stats.faults.keys().map(String::as_str).collect();
    let of_calls = ["403", "500", "500-after", "garbage", "late", "sever", "sever-after", "slow"];
    assert_eq!(met, [&of_calls[..], &["timeout", "timeout-after"]].concat());
    assert_eq!(stats.faults.values().sum::<u64>(), REQUESTS);
    let of_looks = stats.requests.iter().filter(|request| request.method == "GET");
    let mut of_looks: Vec<&str> = of_looks.map(|request| request.met.as_str()).collect();
    of_looks.sort_unstable();
    of_looks.dedup();
    assert_eq!(of_looks, ["403", "500", "garbage", "sever", "slow", "timeout"]);
}

#[test]
fn what_is_asked_of_the_stats_can_be_chosen() {
    let nodes = Nodes::start(1, &[]);
    let mut client = nodes.client(0);
    for group in ["a", "b", "a", "c"] {
        client.send(&create(group));
    }
    let mut chosen = |query: &str| {
        let stats = client.get(&format!("/stats?{query}")).expect(200).json();
        let requests = stats["requests"].as_array().expect("an array").clone();
        assert_eq!(stats["seen"], 4);
        requests.iter().map(|request| request["group"].clone()).collect::<Vec<Value>>()
    };
    assert_eq!(chosen("group=a"), ["a", "a"]);
    assert_eq!(chosen("last=3"), ["b", "a", "c"]);
    assert_eq!(chosen("group=a&last=1"), ["a"]);
    assert!(chosen("last=0").is_empty());
}

#[test]
fn what_is_not_understood_is_refused_and_changes_nothing() {
    let nodes = Nodes::start(1, &[]);
    let mut client = nodes.client(0);
    for told in [r#"{"down": true, "script": ["302"]}"#, r#"{"dwon": true}"#, "[]", ""] {
        let answer = client.post("/behave", told).expect(400);
        assert!(!answer.text().trim().is_empty());
    }
    client.send(&create("a")).expect(201);
}

#[test]
fn nodes_end_at_a_signal_and_say_where_groups_are() {
    let mut nodes = Nodes::start(3, &["--existing", "a", "--report"]);
    let own = nodes.server().address();
    assert_eq!(nodes.urls()[0], format!("http://{own}"));
    let output = run(["simulate", "nodes", "--count", "1", "--listen", &own.to_string()]);
    assert_eq!(output.status.code(), Some(74), "the port is in use");
    let ready = format!("--nodes {}", nodes.urls().join(","));
    assert!(nodes.server().transcript().iter().any(|line| line.contains(&ready)));
    nodes.client(2).send(&create("b")).expect(201);
    nodes.client(2).send(&look("b")).expect(200);
    let finished = nodes.terminate();
    assert_eq!(finished.code, Some(0), "{finished:?}");
    let last = finished.stderr.last().expect("it has said something");
    let words = "ended after 1 calls and 1 looks: 2 groups, 1 ON SOME NODES ONLY: b";
    assert!(last.contains(words), "{last}");
}

#[test]
fn nodes_that_cannot_be_are_refused_with_what_would_be_right() {
    let refused = [
        (["--count", "0"], "1..=16"),
        (["--count", "17"], "1..=16"),
        (["--fail", "1.5"], "from 0 to 1"),
        (["--existing", "a@3"], "there is no node 3"),
        (["--existing", "a@"], "such as `a`"),
        (["--listen", "127.0.0.1:65534"], "the last port is 65535"),
        (["--late-ms", "3600001"], "3600000"),
    ];
    for (arguments, words) in refused {
        let output = run(["simulate", "nodes"].iter().chain(&arguments));
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(stderr.contains(words), "{words:?} in {stderr}");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
    let both = ["--fail-late", "0.6", "--fail-500", "0.6"];
    let output = run(["simulate", "nodes"].iter().chain(&both));
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}
