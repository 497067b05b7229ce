//! Formulas that are withdrawn from the nodes first.

use serde_json::{Value, json};

use super::{AT_ONCE, URLS, begin, ended, id, idle, kind};
use crate::engine::releases::FlowStep;
use crate::http::harness::{Answer, Mood, Server, Setup};

/// A formula that goes to the nodes when it is accepted; gives its path.
async fn submit(server: &mut Server) -> String {
    let formula = r#"{"name":"a","materials":[{"name":"rose","concentration":1}]}"#;
    let created = server.post("/formulas", formula).await;
    assert_eq!(created.status, 201, "{:?}", created.body);
    created.header("location").to_owned()
}

async fn withdraw(server: &mut Server, path: &str, headers: &[(&str, &str)]) -> Answer {
    server.call("DELETE", path, headers, "").await
}

fn releasing() -> Setup {
    Setup { flow: &[FlowStep::Release], ..Setup::default() }
}

#[tokio::test]
async fn a_formula_that_nodes_may_have_is_withdrawn_when_they_have_it_no_more() {
    let (mut server, nodes) = idle(releasing()).await;
    let path = submit(&mut server).await;
    let group = path.replace("/formulas/", "");
    for url in URLS {
        nodes.put(url, &group);
    }
    let promise = withdraw(&mut server, &path, &[]).await;
    let json = promise.json();
    assert_eq!((promise.status, &json["formula"]), (202, &json!(path)));
    assert_eq!([&json["action"], &json["groupId"]], ["delete", &group]);
    assert_eq!(promise.header("location"), format!("/transactions/{}", id(&promise)));
    assert_eq!(server.get(&path).await.status, 200, "it is there until then");
    let again = withdraw(&mut server, &path, &[]).await;
    assert_eq!((again.status, &again.body), (202, &promise.body), "it is the same withdrawal");
    server.start_releaser();
    assert_eq!(ended(&mut server, &id(&promise)).await["state"], "succeeded");
    assert!(!URLS.iter().any(|url| nodes.has(url, &group)));
    assert_eq!(server.get(&path).await.status, 404);
    assert_eq!(kind(&withdraw(&mut server, &path, &[]).await), "unknown-formula");
}

#[tokio::test]
async fn whoever_waits_for_the_withdrawal_is_told_how_it_ended() {
    let (mut server, nodes) = idle(releasing()).await;
    server.start_releaser();
    let path = submit(&mut server).await;
    while server.get("/transactions?state=succeeded").await.json()["transactions"] == json!([]) {
        tokio::task::yield_now().await;
    }
    nodes.set(URLS[2], Mood::Refuses);
    let wait = [("prefer", "wait=300")];
    let refused = withdraw(&mut server, &path, &wait).await;
    assert_eq!((refused.status, &refused.json()["state"]), (200, &json!("rolled_back")));
    assert_eq!(server.get(&path).await.status, 200, "it stays");
    nodes.set(URLS[2], Mood::Well);
    let done = withdraw(&mut server, &path, &wait).await;
    assert_eq!((done.status, &done.json()["state"]), (200, &json!("succeeded")));
    assert_eq!(done.header("preference-applied"), "wait=300");
    assert_eq!(server.get(&path).await.status, 404);
}

#[tokio::test]
async fn a_formula_whose_group_somebody_else_holds_is_not_withdrawn() {
    let (mut server, _) = idle(releasing()).await;
    let path = submit(&mut server).await;
    let group = path.replace("/formulas/", "");
    let body = json!({"groupId": group, "action": "delete"}).to_string();
    let other = begin(&mut server, &[AT_ONCE], &body).await;
    assert_eq!(other.json()["formula"], Value::Null);
    let refused = withdraw(&mut server, &path, &[]).await;
    assert_eq!((refused.status, kind(&refused).as_str()), (409, "group-held"));
    assert_eq!(refused.json()["existing"]["id"], id(&other));
}

#[tokio::test]
async fn a_formula_that_nodes_may_have_is_kept_while_there_are_none_to_ask() {
    let mut server = Server::start_as(releasing()).await;
    let path = submit(&mut server).await;
    let refused = withdraw(&mut server, &path, &[]).await;
    assert_eq!((refused.status, kind(&refused).as_str()), (503, "releases-unavailable"));
    assert_eq!(server.get(&path).await.status, 200);
}

#[tokio::test]
async fn a_formula_that_no_node_has_is_withdrawn_at_once_also_beside_nodes() {
    let (mut server, nodes) = idle(Setup::default()).await;
    let path = submit(&mut server).await;
    assert_eq!(withdraw(&mut server, &path, &[]).await.status, 204);
    assert_eq!(nodes.calls(), 0);
}
