//! Rows A11–A13 of the behaviours: once is once, whoever asks, however often, at whatever time.

mod common;

use common::{
    Call, Formula, Response, Store, ask_until, assert_problem, body, lease, list_all, numbered,
    queue_count, together,
};
use serde_json::json;

fn post(key: &str, text: impl Into<Vec<u8>>) -> Call {
    Call::post("/formulas", text).key(key)
}

/// What a repeated answer has in common with the first one.
fn answer(response: &Response) -> (u16, Option<&str>, Option<&str>, &str) {
    let (location, etag) = (response.header("location"), response.header("etag"));
    (response.status, location, etag, response.text())
}

fn is_replayed(response: &Response) -> bool {
    response.header("idempotent-replayed") == Some("true")
}

#[test]
fn a11_same_key_and_body_give_the_first_answer_again_also_after_a_crash() {
    let store = Store::new();
    let server = store.serve();
    let mut client = server.client();
    let first = client.send(&post("k-1", numbered(1))).expect(201);
    assert!(!is_replayed(&first));
    let again = client.send(&post("k-1", numbered(1))).expect(201);
    assert_eq!(answer(&again), answer(&first));
    assert!(is_replayed(&again));
    let quoted = client.send(&post("\"k-1\"", numbered(1))).expect(201);
    assert_eq!(answer(&quoted), answer(&first), "a quoted key is the same key");

    server.kill();
    let server = store.serve();
    let mut client = server.client();
    let after = client.send(&post("k-1", numbered(1))).expect(201);
    assert_eq!(answer(&after), answer(&first));
    assert!(is_replayed(&after));
    assert_eq!(list_all(&mut client).len(), 1);
    assert_eq!(queue_count(&mut client, "ready"), 1);
}

#[test]
fn a11_same_key_with_another_body_is_422() {
    let store = Store::new();
    let server = store.serve();
    let mut client = server.client();
    client.send(&post("k-1", numbered(1))).expect(201);
    assert_problem(&client.send(&post("k-1", numbered(2))), 422);
    let same_to_a_reader = numbered(1) + " ";
    assert_problem(&client.send(&post("k-1", same_to_a_reader)), 422);
    for invalid in ["{", "{}", "[]", "[{}", ""] {
        let problem = assert_problem(&client.send(&post("k-1", invalid)), 422);
        assert_eq!(problem["type"], "/problems/idempotency-key-reused", "{invalid:?}");
    }
    let atomic = Call::post("/formulas?atomic=true", "[{}]").key("k-1");
    assert_problem(&client.send(&atomic), 422);
    server.kill();
    let server = store.serve();
    assert_problem(&server.client().send(&post("k-1", numbered(2))), 422);
    assert_eq!(list_all(&mut server.client()).len(), 1);
}

#[test]
fn a11_a_refusal_spends_no_key() {
    let store = Store::new();
    let server = store.serve();
    let mut client = server.client();
    let invalid = body("X", &[("A", "-1")]);
    assert_problem(&client.send(&post("k-1", invalid.as_str())), 400);
    assert_problem(&client.send(&post("k-1", "{")), 400);
    client.send(&post("other", numbered(1))).expect(201);
    let duplicate = client.send(&post("k-1", numbered(1)));
    assert_problem(&duplicate, 409);
    assert!(!is_replayed(&duplicate));
    let formula: Formula = client.send(&post("k-1", numbered(2))).expect(201).parse();
    assert_eq!(formula.name, "Formula 2");

    // A refusal is decided again, not remembered: the formula in the way may be gone.
    assert_problem(&client.send(&post("k-3", numbered(1))), 409);
    let in_the_way: Vec<Formula> = list_all(&mut client);
    let path = format!("/formulas/{}", in_the_way[0].id);
    client.send(&Call::new("DELETE", path)).expect(204);
    client.send(&post("k-3", numbered(1))).expect(201);
}

#[test]
fn a11_fifty_concurrent_twins_get_one_answer() {
    let store = Store::new();
    let server = store.serve();
    let call = post("shared", numbered(1));
    let answers = together(50, |_| server.client().send(&call).expect(201));
    let first = answers.iter().filter(|response| !is_replayed(response)).count();
    assert_eq!(first, 1, "one is the first, all others replay it");
    assert!(answers.iter().all(|one| answer(one) == answer(&answers[0])));

    server.kill();
    let server = store.serve();
    let mut client = server.client();
    let replayed = client.send(&call).expect(201);
    assert_eq!(answer(&replayed), answer(&answers[0]));
    assert_eq!(list_all(&mut client).len(), 1);
    assert_eq!(lease(&mut client, 1000, 30.0).len(), 1);
}

#[test]
fn a11_a_batch_is_answered_again_to_the_byte() {
    let store = Store::new();
    let server = store.serve();
    let mut client = server.client();
    client.post("/formulas", numbered(1)).expect(201);
    let mixed = format!("[{},{},{{}}]", numbered(1), numbered(2));
    let first = client.send(&post("mixed", mixed.as_str())).expect(207);
    let whole = format!("[{},{}]", numbered(3), numbered(4));
    let atomic = Call::post("/formulas?atomic=true", whole.as_str()).key("atomic");
    let first_atomic = client.send(&atomic).expect(201);
    let refused = format!("[{},{{}}]", numbered(1));
    client.send(&post("refused", refused.as_str())).expect(207);
    client.send(&post("refused", numbered(5))).expect(201);

    server.kill();
    let server = store.serve();
    let mut client = server.client();
    let again = client.send(&post("mixed", mixed)).expect(207);
    assert_eq!(answer(&again), answer(&first));
    let again_atomic = client.send(&atomic).expect(201);
    assert_eq!(answer(&again_atomic), answer(&first_atomic));
    assert!(is_replayed(&again) && is_replayed(&again_atomic));
    assert_problem(&client.send(&post("atomic", whole)), 422);
    assert_eq!(list_all(&mut client).len(), 5);
}

#[test]
fn a11_a_resent_stream_resumes_under_its_key() {
    let store = Store::new();
    let server = store.serve();
    let lines = |count: u64| (1..=count).map(|n| numbered(n) + "\n").collect::<String>();
    let stream =
        |text: String| Call::post_as("application/x-ndjson", "/formulas", text).key("load");
    let statuses = |response: &Response| -> Vec<u16> {
        let status = |line: &str| {
            let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
            line["status"].as_u64().and_then(|n| n.try_into().ok()).expect("a status")
        };
        response.text().lines().map(status).collect()
    };
    let first = server.client().send(&stream(lines(300))).expect(200);
    assert_eq!(statuses(&first), [201; 300]);
    server.kill();
    let server = store.serve();
    let all = server.client().send(&stream(lines(500))).expect(200);
    assert_eq!(statuses(&all), [201; 500], "no line that was accepted turns into a duplicate");
    let of_first: Vec<&str> = first.text().lines().collect();
    assert_eq!(all.text().lines().take(300).collect::<Vec<_>>(), of_first);
    assert_eq!(list_all(&mut server.client()).len(), 500);
}

#[test]
fn a11_a_key_is_forgotten_after_its_retention() {
    let store = Store::new().with(&["--idempotency-retention", "200ms"]);
    let server = store.serve();
    let mut client = server.client();
    client.send(&post("short", numbered(1))).expect(201);
    ask_until("the key can be used again", || {
        let response = client.send(&post("short", numbered(2)));
        assert!([201, 422].contains(&response.status), "{response:?}");
        response.status == 201
    });
    assert_eq!(list_all(&mut client).len(), 2);
}

#[test]
fn a12_a_key_is_optional_unless_the_server_requires_it() {
    let store = Store::new();
    let server = store.serve();
    server.client().post("/formulas", numbered(1)).expect(201);
    server.terminate();

    let store = store.with(&["--require-idempotency-key"]);
    let server = store.serve();
    let mut client = server.client();
    let refused = client.post("/formulas", numbered(2));
    let problem = assert_problem(&refused, 400);
    let detail = problem["detail"].as_str().expect("checked");
    assert!(detail.contains("missing Idempotency-Key header"), "{detail}");
    client.send(&post("k", numbered(2))).expect(201);
    let too_long = client.send(&post(&"k".repeat(256), numbered(3)));
    assert_problem(&too_long, 400);
    client.send(&post(&"k".repeat(255), numbered(3))).expect(201);
    assert_problem(&client.send(&post("a", numbered(4)).key("b")), 400);
    assert_problem(&client.send(&post("", numbered(4))), 400);
    client.get("/formulas").expect(200);
}

#[test]
fn a13_of_two_hundred_equal_posts_one_wins() {
    let store = Store::new();
    let server = store.serve();
    let answers = together(200, |index| {
        let text = body(&format!("Racer {index}"), &[("Ambrox", "1.5"), ("Musk", "2")]);
        server.client().send(&post(&format!("racer-{index}"), text))
    });
    let with_status = |status: u16| {
        answers.iter().filter(|response| response.status == status).collect::<Vec<_>>()
    };
    let (won, lost) = (with_status(201), with_status(409));
    assert_eq!((won.len(), lost.len()), (1, 199), "never a 500");
    let winner: Formula = won[0].parse();
    for response in lost {
        assert_eq!(assert_problem(response, 409)["existing"]["id"], winner.id);
    }
    let mut client = server.client();
    let messages = lease(&mut client, 1000, 30.0);
    assert_eq!(messages.len(), 1);
    assert_eq!(messages[0].formula.name, winner.name);
    assert_eq!(list_all(&mut client).len(), 1);
}

#[test]
fn faults_of_theirs_a_batch_never_leaves_a_formula_without_its_message() {
    let store = Store::new();
    let server = store.serve();
    let mut client = server.client();
    client.post("/formulas", numbered(3)).expect(201);
    // Their batch stopped at the duplicate in its middle and kept what stood before it.
    let items: Vec<String> = (1..=5).map(numbered).collect();
    let list = format!("[{}]", items.join(","));
    assert_problem(&client.post("/formulas?atomic=true", list.as_str()), 409);
    assert_eq!(list_all(&mut client).len(), 1);
    client.post("/formulas", list).expect(207);
    let stored: Vec<u64> = list_all(&mut client).iter().map(|formula| formula.seq).collect();
    let messages = lease(&mut client, 1000, 30.0);
    let announced: Vec<u64> = messages.iter().map(|message| message.formula.seq).collect();
    assert_eq!(announced, stored);
    assert_eq!(stored.len(), 5);
}

#[test]
fn faults_of_theirs_a_key_belongs_to_its_caller() {
    let store = Store::new();
    let tokens = store.beside("tokens");
    let lines = ["ann", "ben"].map(|name| {
        use sha2::Digest;
        let hash = sha2::Sha256::digest(name);
        let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{name} {hash} submit,read\n")
    });
    std::fs::write(&tokens, lines.concat()).expect("a file can be written");
    let store = store.with(&["--tokens", tokens.to_str().expect("a plain path")]);
    let server = store.serve();
    let mut client = server.client();
    client.send(&post("k", numbered(1)).token("ann")).expect(201);
    let other = client.send(&post("k", numbered(2)).token("ben")).expect(201);
    assert!(!is_replayed(&other), "the same key of another caller is another key");
    assert_problem(&client.send(&post("k", numbered(2)).token("ann")), 422);
}

#[test]
fn faults_of_theirs_nothing_depends_on_the_process_that_computed_it() {
    let store = Store::new();
    let server = store.serve();
    let first: Formula = server.client().post("/formulas", numbered(1)).expect(201).parse();
    server.kill();
    let server = store.serve();
    let problem = assert_problem(&server.client().post("/formulas", numbered(1)), 409);
    assert_eq!(problem["existing"]["id"], first.id);
    let elsewhere = Store::new();
    let other = elsewhere.serve();
    let same: Formula = other.client().post("/formulas", numbered(1)).expect(201).parse();
    assert_eq!(json!(same.id), json!(first.id), "the same id everywhere");
}
