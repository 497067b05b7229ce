//! The calls that look at the partner nodes.

use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::http::harness::{Mood, Nodes, Server, Setup};
use crate::outbound::fault::CallFault;
use crate::outbound::nodes::NodeFault;
use crate::outbound::nodes::health::{CallKind, Noted};
use crate::outbound::target::Target;
use crate::time::{Moment, Timestamp, Uptime};

const URLS: &[&str] = &["http://a.test", "http://b.test/x"];

async fn start() -> (Server, Arc<Nodes>) {
    let nodes = Arc::new(Nodes::default());
    let setup = Setup { nodes: Some((URLS, Arc::clone(&nodes))), ..Setup::default() };
    (Server::start_as(setup).await, nodes)
}

async fn agreement(server: &mut Server) -> (Vec<Value>, Value) {
    let json = server.get("/groups/g").await.json();
    let present = json["nodes"].as_array().unwrap().iter().map(|node| node["present"].clone());
    (present.collect(), json["agree"].clone())
}

#[tokio::test]
async fn a_group_is_shown_as_each_node_has_it_now() {
    let (mut server, nodes) = start().await;
    let told = |url, present| json!({"url": url, "present": present});
    let shown = server.get("/groups/g").await;
    let expected = json!({
        "groupId": "g",
        "nodes": [told(URLS[0], false), told(URLS[1], false)],
        "agree": true,
        "transaction": null,
    });
    assert_eq!((shown.status, shown.json()), (200, expected));
    nodes.put(URLS[0], "g");
    let body = r#"{"groupId":"g","action":"create"}"#;
    let headers = [("content-type", "application/json"), ("prefer", "wait=0")];
    let holder = server.call("POST", "/transactions", &headers, body).await.json();
    let expected = json!({
        "groupId": "g",
        "nodes": [told(URLS[0], true), told(URLS[1], false)],
        "agree": false,
        "transaction": holder["id"],
    });
    assert_eq!(server.get("/groups/g").await.json(), expected);
}

#[tokio::test]
async fn nodes_agree_only_when_all_tell_and_disagree_whoever_is_silent() {
    let (mut server, nodes) = start().await;
    nodes.put(URLS[0], "g");
    nodes.put(URLS[1], "g");
    assert_eq!(agreement(&mut server).await, (vec![json!(true), json!(true)], json!(true)));
    nodes.set(URLS[1], Mood::Mute);
    assert_eq!(agreement(&mut server).await, (vec![json!(true), json!(null)], json!(null)));
    nodes.set(URLS[0], Mood::Shunned);
    assert_eq!(agreement(&mut server).await, (vec![json!(null), json!(null)], json!(null)));
    let json = server.get("/groups/g").await.json();
    assert_eq!(json["nodes"][1]["error"], "answered 500");
    assert!(json["nodes"][0]["error"].as_str().unwrap().contains("left alone"));
}

#[test]
fn two_that_differ_disagree_though_a_third_does_not_tell() {
    let told = Sight::Told;
    let unseen = || Sight::Unseen { reason: Box::default(), again_ms: 0 };
    let (present, absent) = (|| told(Presence::Present), || told(Presence::Absent));
    assert_eq!(agree(&[unseen(), present(), absent()]), Some(false));
    assert_eq!(agree(&[present(), unseen(), present()]), None);
    assert_eq!(agree(&[absent(), absent(), absent()]), Some(true));
    assert_eq!(agree(&[absent()]), Some(true));
}

#[tokio::test]
async fn a_group_is_found_by_any_name_that_a_group_may_have() {
    let (mut server, nodes) = start().await;
    for (name, path) in [("a/b", "a%2Fb"), ("ü ?#%", "%C3%BC%20%3F%23%25"), ("...", "...")] {
        nodes.put(URLS[0], name);
        let json = server.get(&format!("/groups/{path}")).await.json();
        assert_eq!((&json["groupId"], &json["agree"]), (&json!(name), &json!(false)), "{name}");
    }
    let long = "x".repeat(crate::limits::GROUP_ID_BYTES_MAX + 1);
    for path in ["%2E", "%2e.", "a%0Ab", "%C2%85", &long] {
        let refused = server.get(&format!("/groups/{path}")).await;
        assert_eq!(
            (refused.status, &refused.json()["type"]),
            (400, &json!("/problems/bad-request"))
        );
    }
    assert_eq!(server.get("/groups/").await.status, 404);
}

#[tokio::test]
async fn without_nodes_there_is_nobody_to_ask() {
    let mut server = Server::start().await;
    let refused = server.get("/groups/g").await;
    assert_eq!(
        (refused.status, &refused.json()["type"]),
        (503, &json!("/problems/releases-unavailable"))
    );
    assert_eq!(server.get("/nodes").await.json(), json!({"nodes": []}));
}

#[tokio::test]
async fn nodes_are_shown_as_calls_have_found_them() {
    let (mut server, _) = start().await;
    let node = |url| {
        json!({
            "url": url, "configured": true, "breaker": "closed", "latency_s": null,
            "average_s": null, "calls": 0, "failures": 0, "failures_in_row": 0,
            "last_error": null, "last_error_at": null, "last_success_at": null,
        })
    };
    assert_eq!(server.get("/nodes").await.json(), json!({"nodes": [node(URLS[0]), node(URLS[1])]}));
    let health = server.context().node_health.clone();
    let at = |ms| Moment { wall: Timestamp(1_795_000_000_000 + ms), uptime: Uptime(ms) };
    let [well, broken] = [URLS[0], URLS[1]].map(|url| Target::parse(url).unwrap());
    health.note(&well, CallKind::Look, Noted::Well, 250, at(0));
    let refused = NodeFault::Call(CallFault::Refused);
    for _ in 0..crate::limits::NODE_FAILURES_MAX {
        health.note(&broken, CallKind::Create, Noted::Failed(&refused), 10, at(0));
    }
    let gone = Target::parse("http://gone.test").unwrap();
    health.note(&gone, CallKind::Delete, Noted::Well, 1, at(0));
    let nodes = server.get("/nodes").await.json()["nodes"].clone();
    assert_eq!([&nodes[0]["latency_s"], &nodes[0]["calls"]], [&json!(0.25), &json!(1)]);
    assert_eq!(nodes[0]["last_success_at"], "2026-11-18T11:06:40.000Z");
    assert_eq!([&nodes[1]["breaker"], &nodes[1]["last_error"]], ["open", &*refused.to_string()]);
    assert_eq!(nodes[1]["last_error_at"], "2026-11-18T11:06:40.000Z");
    assert_eq!([&nodes[1]["failures"], &nodes[1]["failures_in_row"]], [5, 5]);
    assert_eq!(
        [&nodes[2]["url"], &nodes[2]["configured"]],
        [&json!("http://gone.test"), &json!(false)]
    );
    server.clock.advance_ms(crate::limits::BREAKER_OPEN_MS);
    assert_eq!(server.get("/nodes").await.json()["nodes"][1]["breaker"], "half_open");
}
