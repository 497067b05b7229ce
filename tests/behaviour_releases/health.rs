//! Rows C12 and C13: nodes that are left alone, and a cluster that is down.

use serde_json::{Value, json};

use crate::common::{Client, Receiver, ask_until, lease, numbered};
use crate::support::*;

/// How a node is doing, by `GET /nodes`.
#[track_caller]
fn node(client: &mut Client, place: usize) -> Value {
    client.get("/nodes").expect(200).json()["nodes"][place].clone()
}

#[test]
fn c12_a_node_that_is_down_is_left_alone_until_one_call_finds_it_up() {
    let cluster = Cluster::start(3, &[["--node-deadline", "2s"]]);
    let mut client = cluster.client();
    carry_out(&mut client, "create", "before");
    let well = node(&mut client, 2);
    assert_eq!((&well["breaker"], &well["failures"]), (&json!("closed"), &json!(0)), "{well}");
    assert_eq!(well["url"], cluster.nodes.urls()[2].as_str());
    assert!(well["latency_s"].as_f64().is_some() && !well["last_success_at"].is_null(), "{well}");
    cluster.nodes.down(2);
    let mut begun = Vec::new();
    for number in 0..5 {
        let begun_now = begin(&mut client, "create", &format!("failing {number}"));
        await_state(&mut client, &begun_now, &["to_be_retried", "failed"]);
        begun.push(begun_now);
    }
    ask_until("the breaker is open", || node(&mut client, 2)["breaker"] == "open");
    let open = node(&mut client, 2);
    assert!(open["failures_in_row"].as_u64() >= Some(5), "{open}");
    assert!(open["last_error"].as_str().is_some_and(|text| !text.is_empty()), "{open}");
    let seen = cluster.nodes.stats(2).seen;
    for number in 0..5 {
        let shunned = begin(&mut client, "create", &format!("shunned {number}"));
        let stands = await_state(&mut client, &shunned, &["to_be_retried", "failed"]);
        let reason = stands["reason"].as_str().unwrap_or_default();
        assert!(reason.contains(&cluster.nodes.urls()[2]), "{stands}");
        (0..3).for_each(|node| assert_eq!(cluster.calls(node, "shunned 0").len(), 0));
        begun.push(shunned);
    }
    let shown = client.get("/groups/before").expect(200).json();
    assert_eq!(shown["nodes"][2]["present"], Value::Null, "{shown}");
    assert_eq!(node(&mut client, 0)["breaker"], "closed");
    if node(&mut client, 2)["breaker"] == "open" {
        let after = cluster.nodes.stats(2).seen;
        assert!(after <= seen + 1, "{after} after {seen}: it is left alone, but for a probe");
    }
    // Up again: the first call that is let through finds it so.
    cluster.nodes.up(2);
    for id in begun {
        let end = await_end(&mut client, &id);
        if end["state"] == "failed" {
            ask_until("it is let through", || retry(&mut client, &id)["state"] == "succeeded");
        }
    }
    assert_eq!(node(&mut client, 2)["breaker"], "closed");
    assert_eq!(node(&mut client, 2)["failures_in_row"], 0);
    let consistency = cluster.nodes.consistency();
    assert_eq!((consistency.partly.len(), consistency.groups.len()), (0, 11));
}

/// The value of a metric with these labels.
fn metric(client: &mut Client, name: &str, label: &str) -> Option<f64> {
    let text = client.get("/metrics").expect(200).text().to_owned();
    let mut lines = text.lines().filter(|line| line.starts_with(name) && line.contains(label));
    lines.next().and_then(|line| line.rsplit(' ').next()?.parse().ok())
}

#[test]
fn c13_intake_goes_on_while_the_cluster_is_down_and_somebody_is_told() {
    let receiver = Receiver::start(&[]);
    let settings =
        [["--flow", "release"], ["--webhook-allow", "127.0.0.0/8"], ["--backoff-base", "20ms"]];
    let cluster = Cluster::start(3, &settings);
    let mut client = cluster.client();
    let hook = json!({"url": receiver.url("/a"), "events": ["transaction.*"]}).to_string();
    client.post("/hooks", hook).expect(201);
    (0..3).for_each(|node| cluster.nodes.down(node));
    let begun = begin(&mut client, "create", "g");
    let mut formulas = Vec::new();
    for number in 0..20 {
        let formula = client.post("/formulas", numbered(number)).expect(201).json();
        formulas.push(formula["id"].as_str().expect("an id").to_owned());
    }
    assert_eq!(lease(&mut client, 100, 30.0).len(), 20);
    let failed = await_end(&mut client, &begun);
    assert_stands(&failed, "failed", &["unreachable"; 3]);
    let stats = receiver.await_stats("the failure is told", |stats| stats.accepted > 0);
    let told = stats.accepted_at("/a")[0].clone();
    assert_eq!(told["type"], "transaction.failed");
    assert_eq!((&told["data"]["id"], &told["data"]["groupId"]), (&json!(begun), &json!("g")));
    assert_eq!(metric(&mut client, "sillage_transactions_total", "failed"), Some(1.0));
    let dead = releases(&mut client, "dead");
    assert_eq!(dead.len(), 1, "formulas wait: {dead:?}");
    assert_eq!(dead[0]["transaction"]["id"], failed["id"]);
    // Somebody mends the nodes and tries it again by hand.
    (0..3).for_each(|node| cluster.nodes.up(node));
    ask_until("it is let through", || retry(&mut client, &begun)["state"] == "succeeded");
    assert_eq!(cluster.nodes.holders("g"), [0, 1, 2]);
    receiver.await_stats("the end is told", |stats| {
        stats.accepted_at("/a").iter().any(|told| told["type"] == "transaction.succeeded")
    });
    // Formulas that wait are released by themselves, or at once by hand.
    for formula in formulas {
        ask_until("the formula is released", || {
            let waiting = client.get("/transactions?state=to_be_retried").expect(200).json();
            for it in waiting["transactions"].as_array().expect("a list") {
                client.post(&format!("/transactions/{}/retry", id(it)), "");
            }
            cluster.nodes.holders(&formula).len() == 3
        });
    }
}
