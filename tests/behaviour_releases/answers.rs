//! What whoever asks is answered: one transaction at a time on a group, the same answer under the
//! same key, waiting as long as is preferred, and where a group is.

use serde_json::{Value, json};

use crate::common::{Call, Response, ask_until, together};
use crate::support::*;

#[test]
fn of_many_at_once_on_one_group_one_is_begun_and_named_to_the_others() {
    let cluster = Cluster::start(3, &[["--node-deadline", "20s"]]);
    // Nobody is done before all have asked.
    cluster.script(0, "g", &["late@1h"]);
    let answers = together(20, |number| {
        let action = if number % 2 == 0 { "create" } else { "delete" };
        ask(&mut cluster.client(), action, "g", 0)
    });
    let (begun, refused): (Vec<&Response>, Vec<&Response>) =
        answers.iter().partition(|answer| answer.status == 202);
    assert_eq!((begun.len(), refused.len()), (1, 19));
    let location = begun[0].header("location").expect("where to look");
    for answer in refused {
        let problem = refusal(answer, 409, "group-held");
        let existing = json!({"id": begun[0].json()["id"], "url": location});
        assert_eq!(problem["existing"], existing);
    }
    let mut client = cluster.client();
    let holder = client.get("/groups/g").expect(200).json()["transaction"].clone();
    assert_eq!(holder, begun[0].json()["id"]);
    // Others are free meanwhile, one after the other and all at once.
    let others = together(20, |number| {
        carry_out(&mut cluster.client(), "create", &format!("other {number}"))
    });
    assert!(others.iter().all(|it| it["state"] == "succeeded"), "{others:?}");
    cluster.await_calls(1, "g", 1);
    assert_eq!(cluster.calls(1, "g").len(), 1);
}

fn keyed(action: &str, group: &str, key: &str) -> Call {
    Call::post("/transactions", wish(action, group)).key(key).header("Prefer", "wait=40")
}

#[test]
fn a_key_brings_the_same_answer_to_the_byte_also_after_a_crash() {
    let mut cluster = Cluster::start(3, &[]);
    let mut client = cluster.client();
    cluster.script(1, "refused", &["403"]);
    cluster.script(0, "promised", &["200@400ms"]);
    let promised = Call::post("/transactions", wish("create", "promised")).key("p");
    let calls = [
        keyed("create", "good", "g"),
        keyed("create", "refused", "r"),
        promised.header("Prefer", "wait=0"),
    ];
    let first: Vec<Response> = calls.iter().map(|call| client.send(call)).collect();
    let statuses: Vec<u16> = first.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, [200, 200, 202]);
    assert_eq!(first[0].header("idempotent-replayed"), None);
    await_end(&mut client, &id(&first[2].json()));
    for round in 0..2 {
        for (call, first) in calls.iter().zip(&first) {
            let again = client.send(call).expect(first.status);
            assert_eq!(again.text(), first.text(), "round {round}");
            assert_eq!(again.header("idempotent-replayed"), Some("true"));
            assert_eq!(again.header("location"), first.header("location"));
        }
        for other in [keyed("delete", "good", "g"), keyed("create", "other", "g")] {
            refusal(&client.send(&other), 422, "idempotency-key-reused");
        }
        client = cluster.crash();
    }
    (0..3).for_each(|node| assert_eq!(cluster.methods(node, "good"), ["POST"]));
}

#[test]
fn a_request_repeated_after_the_crash_that_cut_it_off_waits_for_the_same_transaction() {
    let mut cluster = Cluster::start(3, &[]);
    let mut client = cluster.client();
    cluster.script(2, "g", &["timeout"]);
    let call = keyed("create", "g", "k");
    client.begin(&call).expect("the server reads");
    cluster.await_calls(2, "g", 1);
    cluster.kill();
    assert!(client.finish().is_err(), "nobody was answered");
    let mut client = cluster.serve();
    let answer = client.send(&call).expect(200);
    assert_eq!(answer.header("idempotent-replayed"), Some("true"));
    assert_stands(&answer.json(), "rolled_back", &["undone", "undone", "unchanged"]);
    assert_eq!(client.send(&call).expect(200).text(), answer.text());
    let all = client.get("/transactions").expect(200).json();
    assert_eq!(all["transactions"].as_array().map(Vec::len), Some(1), "{all}");
}

#[test]
fn twins_under_one_key_are_one_transaction() {
    let cluster = Cluster::start(3, &[["--node-deadline", "20s"]]);
    cluster.script(0, "g", &["200@300ms"]);
    let call = keyed("create", "g", "k");
    let answers = together(10, |_| cluster.client().send(&call).expect(200));
    for answer in &answers {
        assert_eq!(answer.text(), answers[0].text());
    }
    let is_replayed = |it: &&Response| it.header("idempotent-replayed") == Some("true");
    assert_eq!(answers.iter().filter(is_replayed).count(), 9);
    (0..3).for_each(|node| assert_eq!(cluster.methods(node, "g"), ["POST"]));
}

#[test]
fn whoever_waits_waits_as_long_as_he_prefers() {
    let cluster = Cluster::start(3, &[["--node-deadline", "30s"]]);
    let mut client = cluster.client();
    for (wait_s, group) in [(0, "none"), (1, "one")] {
        cluster.script(1, group, &["late@1h"]);
        let promise = ask(&mut client, "create", group, wait_s).expect(202);
        let transaction = promise.json();
        assert_eq!(transaction["state"], "running");
        let location = format!("/transactions/{}", id(&transaction));
        assert_eq!(promise.header("location"), Some(&*location));
        assert_eq!(promise.header("preference-applied"), Some(&*format!("wait={wait_s}")));
        assert!(promise.header("retry-after").is_some_and(|it| it.parse::<u64>().is_ok()));
        let state = look_at(&mut client, &id(&transaction))["state"].clone();
        assert_eq!(state, "running", "it goes on whether anybody waits or not");
    }
    // It ends before that: no longer is waited.
    cluster.script(1, "quick", &["200@200ms"]);
    let end = ask(&mut client, "create", "quick", 40).expect(200);
    assert_eq!(end.header("location"), None);
    assert_eq!(end.json()["state"], "succeeded");
}

#[test]
fn where_a_group_is_is_asked_of_the_nodes_now() {
    let cluster = Cluster::start(3, &[["--node-deadline", "5s"]]);
    let mut client = cluster.client();
    let mut ask = |path: &str| {
        let shown = client.get(&format!("/groups/{path}")).expect(200).json();
        let nodes = shown["nodes"].as_array().expect("a list").clone();
        let present: Vec<Value> = nodes.iter().map(|node| node["present"].clone()).collect();
        (present, shown["agree"].clone(), shown["groupId"].clone())
    };
    let told =
        |present: [Value; 3], agree: Value, group: &str| (present.to_vec(), agree, json!(group));
    let (yes, no, null) = (json!(true), json!(false), Value::Null);
    let expected = told([no.clone(), no.clone(), no.clone()], yes.clone(), "g");
    assert_eq!(ask("g"), expected);
    cluster.add(&[0, 1], "a/b ü%");
    let expected = told([yes.clone(), yes.clone(), no.clone()], no.clone(), "a/b ü%");
    assert_eq!(ask("a%2Fb%20%C3%BC%25"), expected);
    cluster.nodes.down(2);
    let expected = told([yes.clone(), yes.clone(), null.clone()], null.clone(), "a/b ü%");
    assert_eq!(ask("a%2Fb%20%C3%BC%25"), expected, "the third may differ");
    cluster.nodes.behave(1, &json!({"remove": ["a/b ü%"]}));
    let expected = told([yes, no.clone(), null], no, "a/b ü%");
    assert_eq!(ask("a%2Fb%20%C3%BC%25"), expected, "whatever the third has, two differ");
    cluster.nodes.up(2);
    let mut client = cluster.client();
    let long = format!("/groups/{}", "x".repeat(201));
    refusal(&client.get(&long), 400, "bad-request");
}

#[test]
fn what_is_no_transaction_is_not_found_and_without_nodes_nothing_is_begun() {
    let cluster = Cluster::start(1, &[]);
    let mut client = cluster.client();
    for path in ["/transactions/999999", "/transactions/x", "/transactions/01"] {
        refusal(&client.get(path), 404, "unknown-transaction");
        refusal(&client.post(&format!("{path}/retry"), ""), 404, "unknown-transaction");
    }
    let server = crate::common::Store::new().serve();
    let mut client = server.client();
    for (path, body) in [("/transactions", wish("create", "g")), ("/dtc/", wish("delete", "g"))] {
        refusal(&client.post(path, body), 503, "releases-unavailable");
    }
    refusal(&client.get("/groups/g"), 503, "releases-unavailable");
    assert_eq!(client.get("/nodes").expect(200).json()["nodes"], json!([]));
    ask_until("it is ready", || client.get("/readyz").status == 200);
}
