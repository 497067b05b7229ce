//! Arrays: per item and atomic.

use serde_json::{Value, json};

use crate::http::harness::{Answer, FIRST_SEQ, REQUEST_ID, Server};
use crate::limits::BATCH_ITEMS_MAX;

const INVALID: &str = r#"{"name":"bad","materials":[{"name":"rose","concentration":-1}]}"#;

fn formula(concentration: u32) -> String {
    let line = format!(r#"{{"name":"rose","concentration":{concentration}}}"#);
    format!(r#"{{"name":"f{concentration}","materials":[{line}]}}"#)
}

fn array(items: &[&str]) -> String {
    format!("[{}]", items.join(","))
}

fn statuses(answer: &Answer) -> Vec<u64> {
    let json = answer.json();
    json["results"].as_array().unwrap().iter().map(|r| r["status"].as_u64().unwrap()).collect()
}

async fn count(server: &mut Server) -> usize {
    server.get("/formulas").await.json()["formulas"].as_array().unwrap().len()
}

#[tokio::test]
async fn an_array_of_new_formulas_is_created() {
    let mut server = Server::start().await;
    let answer = server.post("/formulas", &array(&[&formula(1), &formula(2)])).await;
    assert_eq!(answer.status, 201);
    assert_eq!(statuses(&answer), [201, 201]);
    let second = server.get("/formulas/3").await.json();
    assert_eq!(answer.json()["results"][1]["formula"], second);
}

#[tokio::test]
async fn each_formula_is_decided_for_itself_and_in_order() {
    let mut server = Server::start().await;
    server.post("/formulas", &formula(1)).await;
    let body = array(&[&formula(2), &formula(1), INVALID, &formula(2), "7"]);
    let answer = server.post("/formulas", &body).await;
    assert_eq!(answer.status, 207);
    assert_eq!(statuses(&answer), [201, 409, 400, 409, 400]);
    let results = &answer.json()["results"];
    assert_eq!(results[1]["problem"]["existing"]["seq"], FIRST_SEQ);
    assert_eq!(results[3]["problem"]["existing"]["seq"], results[0]["formula"]["seq"]);
    assert_eq!(results[2]["problem"]["errors"][0]["pointer"], "/materials/0/concentration");
    for refused in [1, 2, 3, 4] {
        assert_eq!(results[refused]["problem"]["request_id"], REQUEST_ID);
    }
    assert_eq!(count(&mut server).await, 2);
}

#[tokio::test]
async fn an_array_of_which_nothing_is_new_is_a_207_and_an_empty_one_a_400() {
    let mut server = Server::start().await;
    let answer = server.post("/formulas", &array(&[INVALID])).await;
    assert_eq!((answer.status, statuses(&answer)), (207, vec![400]));
    assert_eq!(server.post("/formulas", "[]").await.status, 400);
    let many = vec![INVALID; BATCH_ITEMS_MAX + 1];
    assert_eq!(server.post("/formulas", &array(&many)).await.status, 400);
    assert_eq!(server.post("/formulas", &array(&many[1..])).await.status, 207);
}

#[tokio::test]
async fn an_atomic_batch_names_every_duplicate_and_stores_nothing() {
    let mut server = Server::start().await;
    server.post("/formulas", &formula(1)).await;
    let body = array(&[&formula(2), &formula(1), &formula(3), &formula(2)]);
    let refused = server.post("/formulas?atomic=true", &body).await;
    assert_eq!(refused.status, 409);
    let errors = refused.json()["errors"].clone();
    let pointers: Vec<&Value> = errors.as_array().unwrap().iter().map(|e| &e["pointer"]).collect();
    assert_eq!(pointers, ["/1", "/3"]);
    assert_eq!(errors[0]["existing"]["seq"], FIRST_SEQ);
    assert_eq!(count(&mut server).await, 1);
    let body = array(&[&formula(2), &formula(3)]);
    let stored = server.post("/formulas?atomic=true", &body).await;
    assert_eq!((stored.status, statuses(&stored)), (201, vec![201, 201]));
}

#[tokio::test]
async fn an_atomic_batch_lists_the_faults_of_all_its_formulas() {
    let mut server = Server::start().await;
    let body = array(&[&formula(1), INVALID, r#"{"name":"x"}"#]);
    let refused = server.post("/formulas?atomic=true", &body).await;
    assert_eq!(refused.status, 400);
    let errors = refused.json()["errors"].clone();
    let pointers: Vec<&Value> = errors.as_array().unwrap().iter().map(|e| &e["pointer"]).collect();
    assert_eq!(pointers, ["/1/materials/0/concentration", "/2/materials"]);
    assert_eq!(count(&mut server).await, 0);
}

#[tokio::test]
async fn atomic_is_true_or_false() {
    let mut server = Server::start().await;
    for wrong in ["", "1", "yes", "TRUE"] {
        let refused = server.post(&format!("/formulas?atomic={wrong}"), "[]").await;
        assert_eq!(refused.json()["errors"][0]["parameter"], "atomic");
    }
    let answer = server.post("/formulas?atomic=false", &array(&[&formula(1), INVALID])).await;
    assert_eq!(answer.status, 207);
}

#[tokio::test]
async fn a_keyed_batch_is_answered_again_to_the_byte() {
    let mut server = Server::start().await;
    let keyed = [("content-type", "application/json"), ("idempotency-key", "b1")];
    let body = array(&[&formula(1), INVALID, &formula(1)]);
    let first = server.call("POST", "/formulas", &keyed, &body).await;
    let again = server.call("POST", "/formulas", &keyed, &body).await;
    assert_eq!((first.status, again.status), (207, 207));
    assert_eq!(first.body, again.body);
    assert_eq!(again.header("idempotent-replayed"), "true");
    let atomic = server.call("POST", "/formulas?atomic=true", &keyed, &array(&[&formula(9)])).await;
    assert_eq!(atomic.status, 422);
    assert_eq!(atomic.json()["type"], json!("/problems/idempotency-key-reused"));
}
