//! What the calls of a node answer, besides what the suite `node_role` asks of the real program.

use crate::http::harness::{Answer as Answered, Server};

const JSON: (&str, &str) = ("content-type", "application/json");

async fn call(server: &mut Server, method: &str, group: &str, key: Option<&str>) -> Answered {
    let body = format!(r#"{{"groupId":"{group}"}}"#);
    let mut headers = vec![JSON];
    headers.extend(key.map(|key| ("idempotency-key", key)));
    server.call(method, "/v1/group/", &headers, &body).await
}

fn kind(answer: &Answered) -> (u16, String, &str) {
    let kind = answer.json()["type"].as_str().unwrap_or_default().to_owned();
    (answer.status, kind, answer.header("idempotent-replayed"))
}

#[tokio::test]
async fn a_node_wants_no_keys_also_where_formulas_do() {
    let mut server = Server::start_node().await;
    assert_eq!(call(&mut server, "POST", "g", None).await.status, 201);
    assert_eq!(call(&mut server, "DELETE", "g", None).await.status, 200);
    assert_eq!(server.post("/formulas", "{}").await.status, 400, "formulas want them here");
}

#[tokio::test]
async fn refusals_are_given_again_and_say_so() {
    let mut server = Server::start_node().await;
    assert_eq!(call(&mut server, "POST", "g", None).await.status, 201);
    let exists = "/problems/group-exists".to_owned();
    let first = call(&mut server, "POST", "g", Some("k")).await;
    assert_eq!(kind(&first), (400, exists.clone(), ""));
    assert_eq!(call(&mut server, "DELETE", "g", None).await.status, 200);
    let again = call(&mut server, "POST", "g", Some("k")).await;
    assert_eq!(kind(&again), (400, exists, "true"));
    let unknown = "/problems/unknown-group".to_owned();
    let first = call(&mut server, "DELETE", "h", Some("k")).await;
    assert_eq!(kind(&first), (404, unknown.clone(), ""));
    let again = call(&mut server, "DELETE", "h", Some("\"k\"")).await;
    assert_eq!(kind(&again), (404, unknown, "true"));
    let other = call(&mut server, "POST", "h", Some("k")).await;
    assert_eq!(kind(&other).1, "/problems/idempotency-key-reused");
    assert_eq!(other.status, 422);
}

#[tokio::test]
async fn a_key_that_is_none_is_refused_before_anything_is_changed() {
    let mut server = Server::start_node().await;
    let long = "k".repeat(256);
    for key in ["", "a b", "\"", &long] {
        let answer = call(&mut server, "POST", "g", Some(key)).await;
        assert_eq!(kind(&answer).1, "/problems/bad-request", "{key:?}");
    }
    assert_eq!(server.get("/v1/group/g/").await.status, 404);
    assert_eq!(call(&mut server, "POST", "g", Some(&long[1..])).await.status, 201);
}

#[tokio::test]
async fn the_index_lists_the_calls_of_a_node_that_is_played() {
    let mut server = Server::start_node().await;
    let index = server.get("/").await.json();
    let routes = index["routes"].as_array().expect("a list");
    let calls = routes.iter().filter_map(|route| route["path"].as_str());
    assert_eq!(calls.filter(|path| path.starts_with("/v1/group/")).count(), 4);
}
