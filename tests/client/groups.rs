//! `sillage group`, `transactions` and `nodes`.

use serde_json::{Value, json};

use super::double::{Double, Received, Reply, run_against, said};

/// A transaction as the server shows it.
fn transaction(state: &str) -> Value {
    let ends = ["succeeded", "rolled_back", "failed"];
    let (outcome, reason) = match state {
        "succeeded" => ("done", Value::Null),
        _ => ("undone", json!("403 of http://b:1\u{1b}[2J")),
    };
    json!({
        "id": "42", "groupId": "lavender", "action": "create", "state": state, "State": state,
        "reason": reason, "tries": 1, "begun_at": "2026-11-21T08:30:00.250Z",
        "changed_at": "2026-11-21T08:30:01.250Z", "nodes": [
            { "url": "http://a:1", "outcome": outcome, "attempts": 2, "last_error": null },
            { "url": "http://b:1", "outcome": if ends.contains(&state) { "refused" } else {
                "calling" }, "attempts": 1, "last_error": "403 Forbidden" },
        ],
    })
}

fn reply(state: &str) -> Reply {
    let status = if matches!(state, "running" | "to_be_retried") { 202 } else { 200 };
    (status, transaction(state).to_string())
}

fn lines(requests: &[Received]) -> Vec<&str> {
    requests.iter().map(|request| request.line.as_str()).collect()
}

#[test]
fn group_is_created_under_a_key_and_each_node_has_its_line() {
    let double = Double::start(|_| reply("succeeded"));
    let text = said(&double.run(&["group", "create", "lavender"]), 0);
    let expected = "transaction 42: create lavender\n  http://a:1  done     2 calls\n  \
        http://b:1  refused  1 call   403 Forbidden\nsucceeded\n";
    assert_eq!(text, expected);
    double.run(&["group", "delete", "lavender"]);
    double.run(&["group", "create", "lavender"]);
    let requests = double.requests();
    assert_eq!(lines(&requests), ["POST /transactions"; 3]);
    let sent = |request: &Received| serde_json::from_str::<Value>(&request.body).expect("JSON");
    assert_eq!(sent(&requests[0]), json!({ "groupId": "lavender", "action": "create" }));
    assert_eq!(sent(&requests[1]), json!({ "groupId": "lavender", "action": "delete" }));
    assert_eq!(requests[0].headers["prefer"], "wait=10");
    assert_eq!(requests[0].headers["content-type"], "application/json");
    assert_eq!(requests[0].headers["authorization"], "Bearer s3cret");
    let mut keys: Vec<_> = requests.iter().map(|it| &it.headers["idempotency-key"]).collect();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 3, "each run is another transaction");
}

#[test]
fn every_state_has_an_exit_code_and_what_is_no_success_a_next_step() {
    for (state, code, next) in [
        ("succeeded", 0, "succeeded\n"),
        ("rolled_back", 1, "  sillage group create lavender\n"),
        ("running", 3, "  sillage transactions show 42 --wait 5m\n"),
        ("to_be_retried", 3, "  sillage transactions show 42 --wait 5m\n"),
        ("failed", 4, "  sillage transactions retry 42\n"),
    ] {
        let double = Double::start(move |_| reply(state));
        let text = said(&double.run(&["group", "create", "lavender", "--wait", "0"]), code);
        assert!(text.contains(next), "{next} in {text}");
        assert!(!text.contains('\u{1b}'), "{text}");
        let requests = double.requests();
        assert_eq!(lines(&requests), ["POST /transactions"], "nobody waits");
        assert_eq!(requests[0].headers["prefer"], "wait=0");
        let json = ["group", "create", "lavender", "--wait", "0s", "--json"];
        assert_eq!(said(&double.run(&json), code), format!("{}\n", transaction(state)));
    }
}

#[test]
fn what_is_not_at_an_end_is_asked_for_until_it_is() {
    let mut states = ["running", "to_be_retried", "running", "rolled_back"].into_iter();
    let double = Double::start(move |_| reply(states.next().expect("nobody asks after the end")));
    let text = said(&double.run(&["group", "create", "lavender", "--wait", "5m"]), 1);
    assert!(text.contains("\nrolled_back: 403 of http://b:1\\u{1b}[2J\n"), "{text}");
    let requests = double.requests();
    let look = "GET /transactions/42";
    assert_eq!(lines(&requests), ["POST /transactions", look, look, look]);
    assert_eq!(requests[0].headers["prefer"], "wait=30", "one call does not wait for ever");
}

#[test]
fn when_the_wait_is_over_the_latest_that_is_known_is_told_with_3() {
    let double = Double::start(|_| reply("to_be_retried"));
    let text = said(&double.run(&["group", "create", "lavender", "--wait", "250ms"]), 3);
    assert!(text.contains("\nto_be_retried: "), "{text}");
    let requests = double.requests();
    assert!(requests.len() >= 2, "it has asked again: {requests:?}");
}

#[test]
fn failure_that_passes_is_tried_again_under_the_same_key_and_refusals_are_not() {
    let mut calls = 0;
    let double = Double::start(move |_| {
        calls += 1;
        if calls == 1 { (503, "{\"detail\": \"overloaded\"}".to_owned()) } else { reply("failed") }
    });
    said(&double.run(&["group", "create", "lavender"]), 4);
    let requests = double.requests();
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[0].headers["idempotency-key"], requests[1].headers["idempotency-key"]);
    assert_eq!(requests[0].body, requests[1].body);

    for (status, code) in [(400, 65), (401, 2), (403, 2), (409, 65), (422, 65)] {
        let body = "{\"detail\": \"transaction 7 on this group is not at an end\"}";
        let double = Double::start(move |_| (status, body.to_owned()));
        let text = said(&double.run(&["group", "create", "lavender"]), code);
        assert!(text.contains(&format!("{status}: transaction 7 on this group")), "{text}");
        assert_eq!(double.requests().len(), 1);
    }
}

#[test]
fn what_is_known_is_told_even_if_the_server_forgets_the_rest() {
    let mut calls = 0;
    let double = Double::start(move |_| {
        calls += 1;
        if calls == 1 { reply("running") } else { (404, "{\"detail\": \"no such\"}".to_owned()) }
    });
    let text = said(&double.run(&["group", "create", "lavender"]), 65);
    assert!(text.contains("transaction 42: create lavender\n"), "{text}");
    assert!(text.contains("404: no such"), "{text}");
}

#[test]
fn names_that_no_group_can_have_are_refused_before_anything_is_sent() {
    let double = Double::start(|_| reply("succeeded"));
    let long = "x".repeat(201);
    for part in ["create", "delete", "show"] {
        for name in ["", ".", "..", "a\nb", long.as_str()] {
            assert_eq!(double.run(&["group", part, name]).status.code(), Some(2), "{name:?}");
        }
    }
    assert_eq!(double.run(&["group", "create", "a", "--wait", "10"]).status.code(), Some(2));
    assert_eq!(double.run(&["transactions", "--state", "lost"]).status.code(), Some(2));
    assert!(double.requests().is_empty());
}

#[test]
fn a_group_is_shown_node_by_node_and_disagreement_is_5() {
    for (agree, present, code, verdict) in [
        (json!(true), [json!(true), json!(true)], 0, "on all nodes\n"),
        (json!(true), [json!(false), json!(false)], 0, "on no node\n"),
        (json!(false), [json!(true), json!(false)], 5, "the nodes disagree\n"),
        (Value::Null, [json!(true), Value::Null], 3, "a node does not tell\n"),
    ] {
        let [first, second] = present;
        let body = json!({ "groupId": "a b/c", "agree": agree, "transaction": null, "nodes": [
            { "url": "http://a:1", "present": first },
            { "url": "http://b:1", "present": second, "error": "no answer in 5 s" },
        ] });
        let body = body.to_string();
        let answer = body.clone();
        let double = Double::start(move |_| (200, answer.clone()));
        let text = said(&double.run(&["group", "show", "a b/c"]), code);
        assert!(
            text.starts_with("group a b/c\n  http://a:1  ") && text.ends_with(verdict),
            "{text}"
        );
        assert_eq!(double.requests()[0].line, "GET /groups/a%20b%2Fc");
        let json = said(&double.run(&["group", "show", "a b/c", "--json"]), code);
        assert_eq!(json, format!("{body}\n"));
    }
}

#[test]
fn a_group_that_is_held_names_its_transaction() {
    let body = json!({ "groupId": "a", "agree": false, "transaction": "42", "nodes": [
        { "url": "http://a:1", "present": true }, { "url": "http://b:1", "present": false },
    ] });
    let double = Double::start(move |_| (200, body.to_string()));
    let text = said(&double.run(&["group", "show", "a"]), 5);
    assert!(text.ends_with("  sillage transactions show 42\n"), "{text}");
}

/// Two pages of transactions; the first leads to the second.
fn pages(received: &Received) -> Reply {
    let mut first = transaction("failed");
    first["id"] = json!("7");
    let (transactions, next) = match received.line.contains("after=") {
        true => (json!([transaction("failed")]), Value::Null),
        false => (json!([first]), json!("c/=+")),
    };
    (200, json!({ "transactions": transactions, "next": next }).to_string())
}

#[test]
fn transactions_are_listed_page_by_page_and_hide_control_characters() {
    let double = Double::start(pages);
    let text = said(&double.run(&["transactions", "--state", "failed"]), 0);
    let rows: Vec<&str> = text.lines().collect();
    let row =
        "failed  create  1      2026-11-21T08:30:01.250Z  lavender  403 of http://b:1\\u{1b}[2J";
    assert_eq!(rows[0], "id  state   action  tries  changed at                group");
    assert_eq!(rows[1..], [format!("7   {row}"), format!("42  {row}")]);
    let (first, second) =
        ("GET /transactions?limit=100&state=failed", "&after=c%2F%3D%2B".to_owned());
    let second = format!("GET /transactions?limit=99&state=failed{second}");
    assert_eq!(lines(&double.requests()), [first, &second]);

    let text = said(&double.run(&["transactions", "--json", "--limit", "1"]), 0);
    assert_eq!(text.lines().count(), 1, "{text}");
    assert_eq!(lines(&double.requests()), ["GET /transactions?limit=1"]);
}

#[test]
fn one_transaction_is_shown_and_waited_for() {
    let mut states = ["running", "succeeded"].into_iter();
    let double = Double::start(move |_| reply(states.next().expect("nobody asks after the end")));
    let text = said(&double.run(&["transactions", "show", "42"]), 0);
    assert!(text.ends_with("\nsucceeded\n"), "{text}");
    assert_eq!(lines(&double.requests()), ["GET /transactions/42"; 2]);
    let double = Double::start(|_| (404, "{\"detail\": \"no transaction\"}".to_owned()));
    said(&double.run(&["transactions", "show", "../x"]), 65);
    assert_eq!(lines(&double.requests()), ["GET /transactions/%2E%2E%2Fx"]);
}

#[test]
fn a_transaction_is_retried_by_one_call() {
    let double = Double::start(|_| reply("succeeded"));
    said(&double.run(&["transactions", "retry", "42", "--wait", "1m"]), 0);
    let requests = double.requests();
    assert_eq!(lines(&requests), ["POST /transactions/42/retry"]);
    assert_eq!(requests[0].headers["prefer"], "wait=30");
    for (status, code) in [(503, 74), (409, 65)] {
        let double = Double::start(move |_| (status, "{\"detail\": \"it is over\"}".to_owned()));
        let text = said(&double.run(&["transactions", "retry", "42"]), code);
        assert!(text.contains(&format!("{status}: it is over")), "{text}");
        assert_eq!(double.requests().len(), 1, "a second one might meet what the first has done");
    }
}

#[test]
fn nodes_are_listed_with_breaker_latency_and_last_error() {
    let body = json!({ "nodes": [
        { "url": "http://a:1", "configured": true, "breaker": "closed", "latency_s": 0.012,
          "average_s": 0.0149, "calls": 1200, "failures": 0, "failures_in_row": 0,
          "last_error": null, "last_error_at": null,
          "last_success_at": "2026-11-21T08:30:01.250Z" },
        { "url": "http://b:1", "configured": false, "breaker": "open", "latency_s": null,
          "average_s": null, "calls": 5, "failures": 5, "failures_in_row": 5,
          "last_error": "no connection\n", "last_error_at": "2026-11-21T08:30:02.000Z",
          "last_success_at": null },
    ] });
    let body = body.to_string();
    let answer = body.clone();
    let double = Double::start(move |_| (200, answer.clone()));
    let text = said(&double.run(&["nodes"]), 0);
    let rows: Vec<Vec<&str>> =
        text.lines().map(|line| line.split("  ").filter(|it| !it.is_empty()).collect()).collect();
    let cells = |row: &Vec<&str>| row.iter().map(|it| it.trim().to_owned()).collect::<Vec<_>>();
    assert_eq!(cells(&rows[0])[..4], ["node", "breaker", "latest", "average"]);
    let well = ["http://a:1", "closed", "12 ms", "15 ms", "1200", "0", "2026-11-21T08:30:01.250Z"];
    assert_eq!(cells(&rows[1]), well);
    let gone = "http://b:1 (not configured now)";
    let error = "2026-11-21T08:30:02.000Z no connection\\n";
    assert_eq!(cells(&rows[2]), [gone, "open", "-", "-", "5", "5", "never", error]);
    assert_eq!(said(&double.run(&["nodes", "--json"]), 0), format!("{body}\n"));
    assert_eq!(lines(&double.requests()), ["GET /nodes"; 2]);
}

#[test]
fn answers_of_another_program_and_silence_are_74() {
    for arguments in [
        &["group", "create", "a"][..],
        &["group", "show", "a"],
        &["transactions"],
        &["transactions", "show", "1"],
        &["transactions", "retry", "1"],
        &["nodes"],
    ] {
        let double = Double::start(|_| (200, "{\"state\": \"lost\"}".to_owned()));
        let text = said(&double.run(arguments), 74);
        assert!(text.contains("does not answer as a Sillage server"), "{arguments:?}: {text}");
    }
    let text = said(&run_against("http://127.0.0.1:1", &["transactions", "retry", "1"], b""), 74);
    assert!(text.contains("cannot reach http://127.0.0.1:1"), "{text}");
}
