//! What must not change when a snapshot takes over from the log: everything that can be asked.

mod common;

use std::collections::BTreeMap;

use common::{
    Call, Client, Response, Store, assert_problem, body, lease, list_all, numbered, settle,
};
use serde_json::{Value, json};

/// Has the server write a snapshot; gives its answer.
#[track_caller]
fn snapshot(client: &mut Client) -> Value {
    client.send(&Call::new("POST", "/admin/snapshot")).expect(200).json()
}

/// Everything that can be asked without changing anything, by target.
fn everything(client: &mut Client) -> BTreeMap<String, String> {
    let mut answers = BTreeMap::new();
    let mut ask = |client: &mut Client, target: String| {
        let answer = client.get(&target).expect(200);
        answers.insert(target, without_deadlines(answer.text()));
    };
    for formula in list_all(client) {
        ask(client, format!("/formulas/{}", formula.id));
        ask(client, format!("/formulas/{}", formula.seq));
        ask(client, format!("/formulas/{}/trail", formula.id));
    }
    for target in [
        "/formulas?limit=7",
        "/formulas?limit=1000",
        "/formulas?name=Formula+3",
        "/formulas?material=hedione&limit=5",
        "/queues/formulas/messages?state=ready&limit=1000",
        "/queues/formulas/messages?state=leased&limit=1000",
        "/queues/formulas/messages?state=delayed&limit=1000",
        "/queues/formulas/messages?state=dead&limit=1000",
    ] {
        ask(client, target.into());
    }
    answers
}

/// The answer without dates that are reckoned from the moment of the question.
fn without_deadlines(text: &str) -> String {
    let without = |text: String, member: &str| {
        let mut parts = text.split(member);
        let first = parts.next().unwrap_or_default().to_owned();
        parts.fold(first, |text, part| text + part.split_once(',').map_or("", |(_, rest)| rest))
    };
    [r#""due":"#, r#""lease_until":"#].into_iter().fold(text.to_owned(), without)
}

/// Compares answer by answer, so that a failure says which differs.
#[track_caller]
fn assert_told_as_before(client: &mut Client, before: &BTreeMap<String, String>) {
    let after = everything(client);
    let (mut was, mut is) = (before.iter(), after.iter());
    loop {
        let (was, is) = (was.next(), is.next());
        assert_eq!(is, was);
        if is.is_none() {
            return;
        }
    }
}

fn counts(client: &mut Client) -> Value {
    let mut status = client.get("/queues/formulas").expect(200).json();
    status.as_object_mut().expect("an object").remove("oldest_age_s");
    status
}

/// A store with something of every kind: new, withdrawn, acked, leased, delayed and dead.
fn fill(client: &mut Client, first: u64) {
    for number in first..first + 40 {
        client.post("/formulas", numbered(number)).expect(201);
    }
    let messages = lease(client, 20, 3600.0);
    let receipts: Vec<&str> = messages.iter().map(|message| message.receipt.as_str()).collect();
    settle(client, "ack", &receipts[..8], &json!({})).expect(200);
    let members = json!({"reason": "no glass", "delay_s": 3600});
    settle(client, "nack", &receipts[8..10], &members).expect(200);
    let ids: Vec<&str> = messages.iter().map(|message| message.formula.id.as_str()).collect();
    // One that was acked, one that waits, one that is leased.
    for id in [ids[0], ids[9], ids[12]] {
        client.send(&Call::new("DELETE", format!("/formulas/{id}"))).expect(204);
    }
    for _ in 0..2 {
        let messages = lease(client, 2, 3600.0);
        let receipts: Vec<&str> = messages.iter().map(|m| m.receipt.as_str()).collect();
        settle(client, "nack", &receipts, &json!({"reason": "broken"})).expect(200);
    }
}

#[test]
fn snapshot_changes_no_answer_nor_does_a_restart_from_it() {
    let store = Store::new().with(&["--max-attempts", "2"]);
    let server = store.serve();
    let mut client = server.client();
    fill(&mut client, 0);
    let (before, queue) = (everything(&mut client), counts(&mut client));
    assert!(queue["dead"].as_u64() > Some(0), "{queue}");
    let report = snapshot(&mut client);
    assert!(report["lsn"].as_u64() > Some(40), "{report}");
    assert_eq!(report["formulas"], 37);
    assert_told_as_before(&mut client, &before);
    assert_eq!(counts(&mut client), queue);
    server.kill();

    let server = store.serve();
    let mut client = server.client();
    assert_told_as_before(&mut client, &before);
    assert_eq!(counts(&mut client), queue);

    // On top of it the same again: now answers come from both sides, and then from a snapshot
    // that was made of a snapshot.
    fill(&mut client, 1000);
    let (before, queue) = (everything(&mut client), counts(&mut client));
    snapshot(&mut client);
    assert_told_as_before(&mut client, &before);
    assert_eq!(counts(&mut client), queue);
    server.kill();
    let server = store.serve();
    let mut client = server.client();
    assert_told_as_before(&mut client, &before);
    assert_eq!(counts(&mut client), queue);
}

#[test]
fn what_the_snapshot_holds_is_known_to_every_decision() {
    let store = Store::new();
    let server = store.serve();
    let mut client = server.client();
    let keyed = |n: u64| Call::post("/formulas", numbered(n)).key(format!("key-{n}"));
    let first: Vec<Response> = (0..10).map(|n| client.send(&keyed(n)).expect(201)).collect();
    let array = format!("[{},{},{}]", numbered(100), numbered(3), r#"{"name":""}"#);
    let batch = Call::post("/formulas", array).key("batch");
    let first_batch = client.send(&batch).expect(207);
    snapshot(&mut client);

    for n in 0..10 {
        // The same request under its key: the first answer, to the byte.
        let again = client.send(&keyed(n)).expect(201);
        let number = usize::try_from(n).expect("small");
        assert_eq!(again.body, first[number].body);
        assert_eq!(again.header("Idempotent-Replayed"), Some("true"));
        // Another body under the key is refused; the make-up without a key is a duplicate.
        let other = Call::post("/formulas", numbered(n + 500)).key(format!("key-{n}"));
        assert_problem(&client.send(&other), 422);
        let duplicate = client.post("/formulas", numbered(n));
        assert_problem(&duplicate, 409);
        let named: Value = first[number].json();
        assert_eq!(duplicate.json()["existing"]["id"], named["id"]);
        assert_eq!(duplicate.json()["existing"]["seq"], named["seq"]);
    }
    assert_eq!(client.send(&batch).expect(207).body, first_batch.body);
    // Batches look beneath, too.
    let mixed = format!("[{},{}]", numbered(2), numbered(900));
    let answer = client.post("/formulas", mixed.clone()).expect(207).json();
    assert_eq!(answer["results"][0]["status"], 409);
    assert_eq!(answer["results"][1]["status"], 201);
    assert_problem(&client.post("/formulas?atomic=true", mixed), 409);
    let check = client.post("/formulas/check", numbered(5)).expect(200).json();
    assert_eq!(check["duplicate_of"]["id"], first[5].json()["id"], "{check}");

    // Withdrawn above, stored below: it is new again, and then a duplicate of the new one.
    let id = first[7].json()["id"].as_str().expect("text").to_owned();
    client.send(&Call::new("DELETE", format!("/formulas/{id}"))).expect(204);
    client.get(&format!("/formulas/{id}")).expect(404);
    client.get(&format!("/formulas/{}", first[7].json()["seq"])).expect(404);
    assert_eq!(client.send(&keyed(7)).expect(201).body, first[7].body);
    let anew = client.post("/formulas", numbered(7)).expect(201).json();
    snapshot(&mut client);
    let duplicate = client.post("/formulas", numbered(7));
    assert_problem(&duplicate, 409);
    assert_eq!(duplicate.json()["existing"]["seq"], anew["seq"]);
    // The key still gives the first answer, about a formula that is gone.
    assert_eq!(client.send(&keyed(7)).expect(201).body, first[7].body);
    assert_eq!(client.send(&batch).expect(207).body, first_batch.body);
}

#[test]
fn messages_outlive_the_records_that_made_them() {
    let store = Store::new();
    let server = store.serve();
    let mut client = server.client();
    let made = |n: u64| body(&format!("No. {n}"), &[("Musk", &format!("{n}.25"))]);
    let ids: Vec<String> = (1..=6)
        .map(|n| client.post("/formulas", made(n)).expect(201).json()["id"].to_string())
        .collect();
    let ids: Vec<&str> = ids.iter().map(|id| id.trim_matches('"')).collect();
    let held = lease(&mut client, 2, 3600.0);
    client.send(&Call::new("DELETE", format!("/formulas/{}", ids[4]))).expect(204);
    snapshot(&mut client);
    snapshot(&mut client);
    server.kill();
    let server = store.serve();
    let mut client = server.client();

    // Receipts are good as ever; what is left comes in order, the withdrawal with its formula.
    let receipts: Vec<&str> = held.iter().map(|message| message.receipt.as_str()).collect();
    settle(&mut client, "ack", &receipts, &json!({})).expect(200);
    let rest = lease(&mut client, 10, 3600.0);
    let told: Vec<(&str, &str)> =
        rest.iter().map(|message| (message.kind.as_str(), message.formula.id.as_str())).collect();
    let expected = [
        ("formula.accepted", ids[2]),
        ("formula.accepted", ids[3]),
        ("formula.accepted", ids[5]),
        ("formula.withdrawn", ids[4]),
    ];
    assert_eq!(told, expected);
    let receipts: Vec<&str> = rest.iter().map(|message| message.receipt.as_str()).collect();
    settle(&mut client, "ack", &receipts, &json!({})).expect(200);
    snapshot(&mut client);
    let trail = client.get(&format!("/formulas/{}/trail", ids[2])).expect(200).json();
    let steps: Vec<&str> = trail["steps"]
        .as_array()
        .expect("an array of steps")
        .iter()
        .filter_map(|step| step["step"].as_str())
        .collect();
    assert_eq!(steps, ["accepted", "announced", "leased", "acked"], "{trail}");
}
