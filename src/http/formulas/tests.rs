//! The calls under `/formulas`, one formula at a time.

use serde_json::{Value, json};

use super::*;
use crate::http::harness::{FIRST_SEQ, REQUEST_ID, Server};

const SUMMER_BREEZE: &str = r#"{"name":"Summer Breeze","materials":[
    {"name":"Bergamot oil","concentration":15.5},{"name":"Iso E Super","concentration":"0.10"}]}"#;
/// The same make-up under another name, in other words.
const SUMMER_DELIGHT: &str = r#"{"name":"Summer Delight","materials":[
    {"name":"isoesuper","concentration":0.1},{"name":"BERGAMOT  oil","concentration":1.55e1}]}"#;
const JSON: (&str, &str) = ("content-type", "application/json");

fn formula(name: &str, concentration: &str) -> String {
    format!(
        r#"{{"name":"{name}","materials":[{{"name":"rose","concentration":{concentration}}}]}}"#
    )
}

#[tokio::test]
async fn a_new_formula_is_created_and_found_under_its_location() {
    let mut server = Server::start().await;
    let created = server.post("/formulas", SUMMER_BREEZE).await;
    assert_eq!(created.status, 201);
    let shown = created.json();
    assert_eq!(shown["seq"], FIRST_SEQ);
    assert_eq!(created.header("location"), format!("/formulas/{}", shown["id"].as_str().unwrap()));
    assert_eq!(created.header("idempotent-replayed"), "");
    let location = created.header("location").to_owned();
    for target in [location.as_str(), "/formulas/2"] {
        let found = server.get(target).await;
        assert_eq!((found.status, &found.body), (200, &created.body));
        assert_eq!(found.header("etag"), created.header("etag"));
    }
}

#[tokio::test]
async fn the_same_make_up_is_refused_and_the_stored_formula_named() {
    let mut server = Server::start().await;
    let id = server.post("/formulas", SUMMER_BREEZE).await.json()["id"].clone();
    let refused = server.post("/formulas", SUMMER_DELIGHT).await;
    assert_eq!(refused.status, 409);
    assert_eq!(refused.header("content-type"), "application/problem+json");
    let problem = refused.json();
    let url = format!("/formulas/{}", id.as_str().unwrap());
    let existing = json!({"id": id, "seq": FIRST_SEQ, "name": "Summer Breeze", "url": url});
    assert_eq!(problem["existing"], existing);
    assert_eq!(problem["request_id"], REQUEST_ID);
}

#[tokio::test]
async fn every_fault_of_a_formula_is_listed() {
    let mut server = Server::start().await;
    let body = r#"{"name":"","materials":[{"name":"a","concentration":-5}]}"#;
    let refused = server.post("/formulas", body).await;
    assert_eq!(refused.status, 400);
    let pointers: Vec<Value> =
        refused.json()["errors"].as_array().unwrap().iter().map(|e| e["pointer"].clone()).collect();
    assert_eq!(pointers, ["/name", "/materials/0/concentration"]);
    let malformed = server.post("/formulas", "{\"name\":").await;
    assert_eq!(malformed.json()["type"], "/problems/malformed-body");
    assert_eq!(server.get("/formulas").await.json(), json!({"formulas": [], "next": null}));
}

#[tokio::test]
async fn a_formula_over_the_limit_is_too_large_though_an_array_is_not() {
    let mut server = Server::start().await;
    let one = format!("{}{}", formula("x", "1"), " ".repeat(BODY_BYTES_MAX));
    assert_eq!(server.post("/formulas", &one).await.status, 413);
    let array = format!("[{one}]");
    assert_eq!(server.post("/formulas", &array).await.status, 201);
}

#[tokio::test]
async fn a_key_brings_the_first_answer_again_to_the_byte() {
    let mut server = Server::start().await;
    let first =
        server.call("POST", "/formulas", &[JSON, ("idempotency-key", "k1")], SUMMER_BREEZE).await;
    let again = server
        .call("POST", "/formulas", &[JSON, ("Idempotency-Key", "\"k1\"")], SUMMER_BREEZE)
        .await;
    assert_eq!((again.status, &again.body), (201, &first.body));
    assert_eq!(again.header("etag"), first.header("etag"));
    assert_eq!(again.header("location"), first.header("location"));
    assert_eq!(first.header("idempotent-replayed"), "");
    assert_eq!(again.header("idempotent-replayed"), "true");

    let other = formula("other", "1");
    let reused = server.call("POST", "/formulas", &[JSON, ("idempotency-key", "k1")], &other).await;
    assert_eq!(reused.status, 422);
    let new_key = [JSON, ("idempotency-key", "k2")];
    let duplicate = server.call("POST", "/formulas", &new_key, SUMMER_BREEZE).await;
    assert_eq!(duplicate.status, 409);
}

#[tokio::test]
async fn a_server_that_wants_keys_says_so() {
    let mut server = Server::start_with(KeyPolicy::Required).await;
    let refused = server.post("/formulas", SUMMER_BREEZE).await;
    assert_eq!(refused.status, 400);
    assert_eq!(refused.json()["detail"], "missing Idempotency-Key header");
    let keyed = [JSON, ("idempotency-key", "k")];
    assert_eq!(server.call("POST", "/formulas", &keyed, SUMMER_BREEZE).await.status, 201);
    let twice = [JSON, ("idempotency-key", "a"), ("idempotency-key", "b")];
    assert_eq!(server.call("POST", "/formulas", &twice, SUMMER_BREEZE).await.status, 400);
}

#[tokio::test]
async fn a_check_tells_id_make_up_and_duplicate_and_stores_nothing() {
    let mut server = Server::start().await;
    let checked = server.post("/formulas/check", SUMMER_DELIGHT).await;
    assert_eq!(checked.status, 200);
    let checked = checked.json();
    assert_eq!(checked["duplicate_of"], Value::Null);
    let canonical = json!([{"name": "bergamotoil", "concentration": 15.5},
        {"name": "isoesuper", "concentration": 0.1}]);
    assert_eq!(checked["canonical"], canonical);
    let created = server.post("/formulas", SUMMER_BREEZE).await.json();
    assert_eq!(created["id"], checked["id"]);
    let again = server.post("/formulas/check", SUMMER_DELIGHT).await.json();
    assert_eq!(again["duplicate_of"]["name"], "Summer Breeze");
    assert_eq!(server.post("/formulas/check", "[]").await.status, 400);
}

#[tokio::test]
async fn a_caller_who_has_the_formula_is_told_so() {
    let mut server = Server::start().await;
    let created = server.post("/formulas", SUMMER_BREEZE).await;
    let etag = created.header("etag").to_owned();
    for condition in [&etag, "*", &format!("\"x\", W/{etag}")] {
        let answer = server.call("GET", "/formulas/2", &[("if-none-match", condition)], "").await;
        assert_eq!((answer.status, answer.body.len()), (304, 0), "{condition}");
        assert_eq!(answer.header("etag"), etag);
    }
    let answer = server.call("GET", "/formulas/2", &[("if-none-match", "\"x\"")], "").await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn only_the_one_spelling_of_an_id_or_seq_names_a_formula() {
    let mut server = Server::start().await;
    let id = server.post("/formulas", SUMMER_BREEZE).await.json()["id"].clone();
    let upper = id.as_str().unwrap().to_uppercase();
    for wrong in ["0", "1", "3", "02", "+2", "-2", "x", "18446744073709551616", &upper] {
        let answer = server.get(&format!("/formulas/{wrong}")).await;
        assert_eq!(answer.status, 404, "{wrong}");
        assert_eq!(answer.json()["type"], "/problems/unknown-formula");
        assert_eq!(server.get(&format!("/formulas/{wrong}/trail")).await.status, 404);
        assert_eq!(server.call("DELETE", &format!("/formulas/{wrong}"), &[], "").await.status, 404);
    }
}

#[tokio::test]
async fn a_withdrawn_formula_is_gone_and_may_come_again() {
    let mut server = Server::start().await;
    let created = server.post("/formulas", SUMMER_BREEZE).await;
    let trail = server.get(created.json()["trail"].as_str().unwrap()).await;
    assert_eq!(trail.json()["steps"][0]["step"], "accepted");
    let gone = server.call("DELETE", created.header("location"), &[], "").await;
    assert_eq!((gone.status, gone.body.len()), (204, 0));
    assert_eq!(server.get(created.header("location")).await.status, 404);
    let again = server.post("/formulas", SUMMER_BREEZE).await;
    assert_eq!(again.status, 201);
    assert_ne!(again.header("etag"), created.header("etag"));
}

#[tokio::test]
async fn pages_follow_one_another_in_order_and_end_with_null() {
    let mut server = Server::start().await;
    for n in 1..=70 {
        assert_eq!(server.post("/formulas", &formula("x", &n.to_string())).await.status, 201);
    }
    let mut target = String::from("/formulas?limit=33");
    let mut seqs = Vec::new();
    for rows in [33, 33, 4] {
        let page = server.get(&target).await;
        let json = page.json();
        let formulas = json["formulas"].as_array().unwrap();
        assert_eq!(formulas.len(), rows);
        seqs.extend(formulas.iter().map(|f| f["seq"].as_u64().unwrap()));
        let Some(next) = json["next"].as_str() else {
            assert_eq!(page.header("link"), "");
            break;
        };
        target = format!("/formulas?limit=33&after={next}");
        assert_eq!(page.header("link"), format!("<{target}>; rel=\"next\""));
    }
    assert_eq!(seqs, (FIRST_SEQ..FIRST_SEQ + 70).collect::<Vec<_>>());
    assert_eq!(server.get("/formulas?limit=70").await.json()["next"], Value::Null);
}

#[tokio::test]
async fn lists_are_filtered_by_name_keys() {
    let mut server = Server::start().await;
    server.post("/formulas", SUMMER_BREEZE).await;
    server.post("/formulas", &formula("Winter", "1")).await;
    for (query, names) in [
        ("name=SUMMER+breeze", vec!["Summer Breeze"]),
        ("material=iso%20e%20super", vec!["Summer Breeze"]),
        ("material=ROSE", vec!["Winter"]),
        ("material=rose&name=summer", vec![]),
        ("name=Summer", vec![]),
    ] {
        let json = server.get(&format!("/formulas?{query}")).await.json();
        let shown: Vec<_> =
            json["formulas"].as_array().unwrap().iter().map(|f| &f["name"]).collect();
        assert_eq!(shown, names, "{query}");
    }
}

#[tokio::test]
async fn parameters_out_of_range_are_refused_by_name() {
    let mut server = Server::start().await;
    for (query, parameter) in [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=ten", "limit"),
        ("after=1", "after"),
        ("name=", "name"),
        ("material=%20", "material"),
        ("colour=red", "colour"),
    ] {
        let refused = server.get(&format!("/formulas?{query}")).await;
        assert_eq!(refused.status, 400, "{query}");
        assert_eq!(refused.json()["errors"][0]["parameter"], parameter, "{query}");
    }
}

/// A formula of about 100 KB.
fn large_formula(name: &str) -> String {
    let filler = "x".repeat(90);
    let line = |n: usize| format!(r#"{{"name":"{filler}{name}{n}","concentration":1}}"#);
    let lines: Vec<_> = (0..900).map(line).collect();
    format!(r#"{{"name":"{name}","materials":[{}]}}"#, lines.join(","))
}

#[tokio::test]
async fn without_room_for_pages_they_end_early_and_what_is_larger_is_refused() {
    let bounds = crate::http::Bounds { pages_bytes_max: 0, ..Default::default() };
    let mut server = Server::start_bounded(bounds).await;
    for n in 1..=100 {
        let body = formula(&format!("{n:0250}"), &n.to_string());
        assert_eq!(server.post("/formulas", &body).await.status, 201);
    }
    let mut target = "/formulas?limit=1000".to_owned();
    let mut names = Vec::new();
    loop {
        let page = server.get(&target).await;
        assert!(page.body.len() <= crate::limits::RESPONSE_BYTES_FREE + 64);
        let json = page.json();
        names.extend(json["formulas"].as_array().unwrap().iter().map(|f| f["name"].clone()));
        let Some(next) = json["next"].as_str() else { break };
        target = format!("/formulas?limit=1000&after={next}");
        assert_eq!(page.header("link"), format!("<{target}>; rel=\"next\""));
    }
    assert_eq!(names.len(), 100);
    let created = server.post("/formulas", &large_formula("l")).await;
    assert_eq!(created.status, 201, "what is stored is answered");
    let seq = created.json()["seq"].as_u64().unwrap();
    for target in [format!("/formulas/{seq}"), format!("/formulas?after={}", Cursor(seq - 1))] {
        let refused = server.get(&target).await;
        assert_eq!(refused.status, 503, "{target}");
        assert_eq!(refused.header("retry-after"), "1");
    }
}

#[tokio::test]
async fn large_bodies_are_read_beside_and_answered_as_small_ones_are() {
    let mut server = Server::start().await;
    let large = large_formula("a");
    assert!(large.len() > crate::limits::PARSE_INLINE_BYTES_MAX);
    let created = server.post("/formulas", &large).await;
    assert_eq!((created.status, created.json()["name"].as_str()), (201, Some("a")));
    assert_eq!(server.post("/formulas", &large).await.status, 409);
    assert_eq!(server.post("/formulas/check", &large).await.status, 200);
    let array = format!("[{large},{}]", large_formula("b"));
    let results = server.post("/formulas", &array).await.json();
    assert_eq!(results["results"][0]["status"], 409);
    assert_eq!(results["results"][1]["status"], 201);
    let broken = server.post("/formulas", &large[1..]).await;
    assert_eq!(broken.json()["type"], "/problems/malformed-body");
}

#[tokio::test]
async fn a_list_ends_before_a_damaged_formula_and_says_how_to_get_past_it() {
    let mut server = Server::start().await;
    for name in ["one", "to be damaged", "three", "four"] {
        let concentration = name.len().to_string();
        let body = formula(name, &concentration).replace("rose", name);
        assert_eq!(server.post("/formulas", &body).await.status, 201);
    }
    server.damage_formula("to be damaged");
    let names = |answer: &crate::http::harness::Answer| -> Vec<Value> {
        let shown = answer.json();
        shown["formulas"].as_array().unwrap().iter().map(|it| it["name"].clone()).collect()
    };
    let first = server.get("/formulas").await;
    assert_eq!((first.status, names(&first)), (200, vec![json!("one")]));
    let next = first.json()["next"].as_str().unwrap().to_owned();
    let refused = server.get(&format!("/formulas?after={next}")).await;
    assert_eq!((refused.status, &refused.json()["seq"]), (500, &json!(FIRST_SEQ + 1)));
    assert_eq!(refused.json()["type"], "/problems/damaged-record");
    let behind = refused.json()["next"].as_str().unwrap().to_owned();
    let last = server.get(&format!("/formulas?after={behind}")).await;
    assert_eq!((last.status, names(&last)), (200, vec![json!("three"), json!("four")]));
    assert_eq!(last.json()["next"], Value::Null);
    let name = server.get(&format!("/formulas?name=four&after={behind}")).await;
    assert_eq!(names(&name), ["four"]);
    assert!(server.context().metrics.damaged_reads.get() > 0);
}
