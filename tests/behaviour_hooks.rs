//! Hooks as their receivers see them (rows D10 to D12 of the behaviours): signed, at least once,
//! whatever happens to either side.

mod common;

use std::collections::BTreeSet;

use common::{Call, Client, Receiver, ReceiverStats, Store, ask_until, lease, numbered, settle};
use serde_json::{Value, json};

/// Waits between attempts short enough for a test, and calls that are given up soon.
const QUICK: [&str; 4] = ["--backoff-base", "20ms", "--backoff-cap", "200ms"];

fn quick(receiver: &Receiver) -> Store {
    let [base, base_ms, cap, cap_ms] = QUICK;
    let store = receiver.allowed_by(Store::new());
    store.with(&[base, base_ms]).with(&[cap, cap_ms]).with(&["--webhook-deadline", "2s"])
}

/// Subscribes; gives the id and the secret.
#[track_caller]
fn subscribe(client: &mut Client, url: &str, events: &[&str]) -> (String, String) {
    let wish = json!({"url": url, "events": events}).to_string();
    let made = client.post("/hooks", wish).expect(201).json();
    let text = |name: &str| made[name].as_str().expect("a text").to_owned();
    (text("id"), text("secret"))
}

#[track_caller]
fn accept(client: &mut Client, number: u64) -> Value {
    client.post("/formulas", numbered(number)).expect(201).json()
}

/// Deliveries in a state.
fn deliveries(client: &mut Client, state: &str) -> Vec<Value> {
    let page = client.get(&format!("/hooks/deliveries?limit=1000&state={state}")).expect(200);
    page.json()["deliveries"].as_array().expect("a list").clone()
}

fn accepted_ids(stats: &ReceiverStats, path: &str) -> BTreeSet<String> {
    let accepted = stats.at(path).into_iter().filter(|delivery| delivery.is_accepted());
    accepted.map(|delivery| delivery.webhook_id.clone().expect("it has an id")).collect()
}

#[test]
fn an_accepted_formula_is_told_of_once_signed_and_named() {
    let receiver = Receiver::start(&[]);
    let store = quick(&receiver);
    let server = store.serve();
    let mut client = server.client();
    let (hook, secret) = subscribe(&mut client, &receiver.url("/a"), &["formula.accepted"]);
    receiver.trust("/a", &[&secret]);
    let formula = accept(&mut client, 1);
    let stats = receiver.await_stats("the call", |stats| stats.accepted == 1);
    let call = stats.at("/a")[0].clone();
    assert_eq!((call.verdict.as_str(), stats.verified), ("good", 1));
    assert_eq!(call.content_type.as_deref(), Some("application/json"));
    let told = call.json();
    assert_eq!(told["type"], "formula.accepted");
    assert_eq!(told["timestamp"], formula["accepted_at"]);
    assert_eq!(told["data"]["id"], formula["id"]);
    assert_eq!(told["data"]["seq"], formula["seq"]);
    assert_eq!(told["data"]["name"], formula["name"]);
    ask_until("the delivery is settled", || deliveries(&mut client, "delivered").len() == 1);
    let delivery = deliveries(&mut client, "delivered").remove(0);
    assert_eq!(delivery["webhook_id"].as_str(), call.webhook_id.as_deref());
    assert_eq!((&delivery["hook"], &delivery["status"]), (&json!(hook), &json!(200)));
    let trail = client.get(formula["trail"].as_str().expect("a path")).expect(200).json();
    let steps = trail["steps"].as_array().expect("steps");
    let called = steps.iter().find(|step| step["step"] == "hook_called").expect("a step");
    assert_eq!((&called["event"], &called["hook"]), (&json!("formula.accepted"), &json!(hook)));
}

#[test]
fn every_way_in_is_told_of_and_nobody_counts_wrong_for_it() {
    let receiver = Receiver::start(&[]);
    let store = quick(&receiver);
    let server = store.serve();
    let mut client = server.client();
    subscribe(&mut client, &receiver.url("/a"), &["formula.*"]);
    subscribe(&mut client, &receiver.url("/b"), &["formula.accepted"]);
    let batch = format!("[{},{},{}]", numbered(1), numbered(2), numbered(1));
    let call = Call::post("/formulas", batch).key("batch");
    let first = client.send(&call).expect(207);
    let atomic = format!("[{},{}]", numbered(3), numbered(4));
    let call_atomic = Call::post("/formulas?atomic=true", atomic).key("atomic");
    let first_atomic = client.send(&call_atomic).expect(201);
    let lines = format!("{}\n{}\n", numbered(5), numbered(6));
    client.send(&Call::post_as("application/x-ndjson", "/formulas", lines)).expect(200);
    // Also after a restart the places in the group are right.
    drop(server);
    let server = store.serve();
    let mut client = server.client();
    assert_eq!(client.send(&call).expect(207).text(), first.text());
    assert_eq!(client.send(&call_atomic).expect(201).text(), first_atomic.text());
    let gone = accept(&mut client, 7);
    let path = format!("/formulas/{}", gone["id"].as_str().expect("an id"));
    client.send(&Call::new("DELETE", path)).expect(204);
    let listed = client.get("/formulas").expect(200).json();
    let stats = receiver.await_stats("all calls", |stats| {
        accepted_ids(stats, "/a").len() == 8 && accepted_ids(stats, "/b").len() == 7
    });
    let mut told: Vec<Value> = stats.accepted_at("/b");
    told.sort_by_key(|told| told["data"]["seq"].as_u64());
    told.dedup_by_key(|told| told["data"]["seq"].as_u64());
    let formulas = listed["formulas"].as_array().expect("a list");
    assert_eq!(formulas.len(), 6);
    for (told, formula) in told.iter().zip(formulas) {
        for name in ["id", "seq", "name"] {
            assert_eq!(told["data"][name], formula[name]);
        }
    }
    let withdrawn = stats.accepted_at("/a");
    let withdrawn = withdrawn.iter().find(|told| told["type"] == "formula.withdrawn");
    assert_eq!(withdrawn.expect("told")["data"]["seq"], gone["seq"]);
}

#[test]
fn receiver_that_fails_three_times_gets_the_same_call_a_fourth_time() {
    let receiver = Receiver::start(&[]);
    receiver.behave(&json!({"fail_first": 3, "fail_status": 500}));
    let store = quick(&receiver);
    let server = store.serve();
    let mut client = server.client();
    let (_, secret) = subscribe(&mut client, &receiver.url("/a"), &["*"]);
    receiver.trust("/a", &[&secret]);
    accept(&mut client, 1);
    let stats = receiver.await_stats("the fourth call", |stats| stats.accepted == 1);
    let calls = stats.at("/a");
    assert_eq!(calls.len(), 4);
    assert!(calls.iter().all(|call| call.webhook_id == calls[0].webhook_id));
    assert!(calls.iter().all(|call| call.body == calls[0].body && call.verified));
    ask_until("the delivery is settled", || deliveries(&mut client, "delivered").len() == 1);
    assert_eq!(deliveries(&mut client, "delivered")[0]["attempts"], 4);
}

#[test]
fn receiver_that_is_down_over_restarts_and_kills_gets_everything() {
    let receiver = Receiver::start(&["--mode", "sever"]);
    let store = quick(&receiver).with(&["--webhook-attempts", "1000"]);
    let server = store.serve();
    let mut client = server.client();
    subscribe(&mut client, &receiver.url("/a"), &["formula.accepted"]);
    (0..10).for_each(|number| drop(accept(&mut client, number)));
    receiver.await_stats("a call in vain", |stats| stats.calls >= 1);
    server.kill();
    let server = store.serve();
    let mut client = server.client();
    (10..20).for_each(|number| drop(accept(&mut client, number)));
    let calls = receiver.stats().calls;
    receiver.await_stats("another call in vain", |stats| stats.calls > calls);
    server.kill();
    let server = store.serve();
    receiver.mode("/a", "success");
    let stats = receiver.await_stats("all", |stats| accepted_ids(stats, "/a").len() == 20);
    let seqs: BTreeSet<u64> = stats
        .accepted_at("/a")
        .iter()
        .map(|told| told["data"]["seq"].as_u64().expect("a number"))
        .collect();
    assert_eq!(seqs.len(), 20, "each formula under one webhook-id");
    let mut client = server.client();
    ask_until("nothing is owed", || deliveries(&mut client, "waiting").is_empty());
}

#[test]
fn dead_receiver_does_not_hold_up_another() {
    let (hanging, well) = (Receiver::start(&["--mode", "hang"]), Receiver::start(&[]));
    let store = quick(&well);
    let server = store.serve();
    let mut client = server.client();
    subscribe(&mut client, &hanging.url("/a"), &["formula.accepted"]);
    subscribe(&mut client, &well.url("/b"), &["formula.accepted"]);
    let lines: String = (0..500).map(|number| numbered(number) + "\n").collect();
    client.send(&Call::post_as("application/x-ndjson", "/formulas", lines)).expect(200);
    well.await_stats("all calls", |stats| accepted_ids(stats, "/b").len() == 500);
    let stats = hanging.stats();
    assert_eq!(stats.accepted, 0);
    assert!(stats.under_way <= 4, "no more than four at once: {}", stats.under_way);
}

#[test]
fn ten_thousand_owed_deliveries_are_drained_across_a_compaction_and_a_kill() {
    let receiver = Receiver::start(&["--mode", "sever"]);
    let store = quick(&receiver).with(&["--webhook-attempts", "1000"]);
    let server = store.serve();
    let mut client = server.client();
    subscribe(&mut client, &receiver.url("/a"), &["formula.accepted"]);
    for chunk in 0..10 {
        let lines: String =
            (0..1000).map(|number| numbered(1000 * chunk + number) + "\n").collect();
        client.send(&Call::post_as("application/x-ndjson", "/formulas", lines)).expect(200);
    }
    client.post("/admin/snapshot", "").expect(200);
    server.kill();
    let server = store.serve();
    receiver.mode("/a", "success");
    let mut client = server.client();
    ask_until("all are delivered", || {
        let queue = client.get("/queues/hooks").expect(200).json();
        let count = |name: &str| queue[name].as_u64().expect("a number");
        assert_eq!(count("dead"), 0);
        count("ready") + count("leased") + count("delayed") == 0
    });
    let by_id = receiver.stats().by_id.len();
    assert_eq!(by_id, 10_000);
}

#[test]
fn gone_disables_a_hook_and_what_was_owed_says_so() {
    let receiver = Receiver::start(&["--mode", "gone"]);
    let store = quick(&receiver);
    let server = store.serve();
    let mut client = server.client();
    let (hook, _) = subscribe(&mut client, &receiver.url("/a"), &["formula.accepted"]);
    accept(&mut client, 1);
    let shown = |client: &mut Client| client.get(&format!("/hooks/{hook}")).expect(200).json();
    ask_until("the hook is disabled", || shown(&mut client)["disabled"].is_string());
    accept(&mut client, 2);
    let dead = deliveries(&mut client, "dead");
    assert_eq!(dead.len(), 1, "what happens later is not owed");
    assert_eq!(dead[0]["last_failure"]["reason"], "answered 410: the receiver is gone");
    client.post(&format!("/hooks/{hook}/ping"), "").expect(409);
    let id = dead[0]["id"].as_str().expect("an id");
    client.post(&format!("/hooks/deliveries/{id}/redeliver"), "").expect(409);
    assert_eq!(receiver.stats().calls, 1);
}

#[test]
fn redirects_are_failures_that_nobody_follows() {
    let receiver = Receiver::start(&["--mode", "redirect"]);
    let store = quick(&receiver).with(&["--webhook-attempts", "3"]);
    let server = store.serve();
    let mut client = server.client();
    subscribe(&mut client, &receiver.url("/a"), &["formula.accepted"]);
    accept(&mut client, 1);
    ask_until("it is dead", || deliveries(&mut client, "dead").len() == 1);
    let stats = receiver.stats();
    assert_eq!((stats.calls, stats.redirected), (3, 0));
    let reason = &deliveries(&mut client, "dead")[0]["last_failure"]["reason"];
    assert_eq!(reason, "answered 302, and redirects are not followed");
}

#[test]
fn refusal_is_dead_at_once_and_can_be_delivered_again_under_its_name() {
    let receiver = Receiver::start(&["--mode", "status:404"]);
    let store = quick(&receiver);
    let server = store.serve();
    let mut client = server.client();
    subscribe(&mut client, &receiver.url("/a"), &["formula.accepted"]);
    accept(&mut client, 1);
    ask_until("it is dead", || deliveries(&mut client, "dead").len() == 1);
    receiver.mode("/a", "success");
    let id = deliveries(&mut client, "dead")[0]["id"].as_str().expect("an id").to_owned();
    let again = format!("/hooks/deliveries/{id}/redeliver");
    let redelivered = client.post(&again, "").expect(202);
    assert_eq!(redelivered.header("location"), Some(format!("/hooks/deliveries/{id}").as_str()));
    ask_until("it is delivered", || deliveries(&mut client, "delivered").len() == 1);
    // And what was taken, too: its receiver may have lost it.
    client.post(&again, "").expect(202);
    let stats = receiver.await_stats("the third call", |stats| stats.calls == 3);
    assert_eq!(stats.by_id.len(), 1, "one name for all of them: {:?}", stats.by_id);
    ask_until("it is delivered", || deliveries(&mut client, "delivered").len() == 1);
    client.post("/hooks/deliveries/1/redeliver", "").expect(404);
    client.post("/hooks/deliveries/x/redeliver", "").expect(404);
}

#[test]
fn while_a_secret_is_rotated_both_sign() {
    let receiver = Receiver::start(&[]);
    let store = quick(&receiver);
    let server = store.serve();
    let mut client = server.client();
    let (hook, old) = subscribe(&mut client, &receiver.url("/a"), &["formula.accepted"]);
    let path = format!("/hooks/{hook}/secret");
    let rotated = client.post(&path, r#"{"overlap_s": 3600}"#).expect(200).json();
    let new = rotated["secret"].as_str().expect("a secret").to_owned();
    assert_ne!(old, new);
    for (number, secret) in [(1, &old), (2, &new)] {
        receiver.trust("/a", &[secret]);
        accept(&mut client, number);
        let stats = receiver.await_stats("the call", |stats| stats.accepted == number);
        let signature = stats.at("/a").last().expect("a call").signature.clone();
        assert_eq!(signature.expect("signed").split(' ').count(), 2);
    }
    client.post(&path, r#"{"overlap_s": 0}"#).expect(200);
    accept(&mut client, 3);
    ask_until("the old secrets are of no use", || deliveries(&mut client, "dead").len() == 1);
    assert_eq!(receiver.stats().bad_signature, 1);
}

#[test]
fn ping_tells_at_once_what_came_of_it() {
    let receiver = Receiver::start(&[]);
    let store = quick(&receiver);
    let server = store.serve();
    let mut client = server.client();
    let (hook, _) = subscribe(&mut client, &receiver.url("/a"), &["formula.accepted"]);
    let ping = format!("/hooks/{hook}/ping");
    let well = client.post(&ping, "").expect(200).json();
    assert_eq!((&well["event"], &well["state"]), (&json!("ping"), &json!("delivered")));
    assert_eq!(receiver.stats().accepted_at("/a")[0]["data"]["hook"], json!(hook));
    let patient = client.send(&Call::post(&ping, "").header("Prefer", "wait=99")).expect(200);
    assert_eq!(patient.header("preference-applied"), Some("wait=10"));
    receiver.mode("/a", "status:503");
    let ill = client.post(&ping, "").expect(200).json();
    assert_eq!((&ill["state"], &ill["attempts"]), (&json!("dead"), &json!(1)));
    assert_eq!(ill["last_failure"]["reason"], "answered 503");
    receiver.mode("/a", "hang");
    let unknown = client.send(&Call::post(&ping, "").header("Prefer", "wait=0")).expect(202);
    assert_eq!(unknown.header("preference-applied"), Some("wait=0"));
    let location = unknown.header("location").expect("a place to ask").to_owned();
    ask_until("it is over", || client.get(&location).expect(200).json()["state"] == "dead");
}

#[test]
fn dead_letters_are_told_of_however_they_died_and_never_in_circles() {
    let (well, ill) = (Receiver::start(&[]), Receiver::start(&["--mode", "status:404"]));
    let store = quick(&well).with(&["--max-attempts", "1"]);
    let server = store.serve();
    let mut client = server.client();
    subscribe(&mut client, &well.url("/well"), &["message.dead"]);
    subscribe(&mut client, &ill.url("/ill"), &["message.dead"]);
    let (nacked, lapsed) = (accept(&mut client, 1), accept(&mut client, 2));
    let messages = lease(&mut client, 1, 30.0);
    settle(&mut client, "nack", &[&messages[0].receipt], &json!({"reason": "too sweet"}));
    assert_eq!(lease(&mut client, 1, 0.05).len(), 1);
    // The lapse is no record, and nobody asks for the queue: the server notices by itself.
    let is_news = |told: &Value| told["data"]["queue"] == "formulas";
    let stats = well.await_stats("both deaths and those of the refused calls", |stats| {
        let told = stats.accepted_at("/well");
        told.len() == 2 && told.iter().all(is_news)
    });
    let told = stats.accepted_at("/well");
    let reason_of = |formula: &Value| {
        let id = formula["seq"].to_string();
        let about = told.iter().find(|told| told["data"]["id"] == id.as_str());
        about.expect("told")["data"]["reason"].as_str().map(str::to_owned)
    };
    assert_eq!(reason_of(&nacked).as_deref(), Some("too sweet"));
    assert_eq!(reason_of(&lapsed).as_deref(), Some("its lease lapsed"));
    // The refused calls told of dead letters, so nobody is told of them.
    ask_until("the refused calls are dead", || deliveries(&mut client, "dead").len() == 2);
    accept(&mut client, 3);
    assert!(deliveries(&mut client, "waiting").is_empty());
    assert_eq!(well.stats().calls, 2);
}

#[test]
fn deleted_hook_is_called_no_more_and_owes_nothing() {
    let receiver = Receiver::start(&["--mode", "status:503"]);
    let store = quick(&receiver);
    let server = store.serve();
    let mut client = server.client();
    let (hook, _) = subscribe(&mut client, &receiver.url("/a"), &["formula.accepted"]);
    accept(&mut client, 1);
    receiver.await_stats("a call in vain", |stats| stats.calls >= 1);
    client.send(&Call::new("DELETE", format!("/hooks/{hook}"))).expect(204);
    client.send(&Call::new("DELETE", format!("/hooks/{hook}"))).expect(404);
    ask_until("nothing is owed", || deliveries(&mut client, "waiting").is_empty());
    assert!(deliveries(&mut client, "dead").is_empty());
    accept(&mut client, 2);
    assert!(deliveries(&mut client, "waiting").is_empty());
}

#[test]
fn secret_of_answers_to_single_requests_can_be_read_and_stays() {
    let store = Store::new();
    let server = store.serve();
    let first = server.client().get("/hooks/own-secret").expect(200).json();
    let secret = first["secret"].as_str().expect("a secret").to_owned();
    assert!(secret.starts_with("whsec_"), "{secret}");
    server.kill();
    let server = store.serve();
    assert_eq!(server.client().get("/hooks/own-secret").expect(200).json(), first);
    server.kill();
    let named = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
    let store = store.with(&["--webhook-secret", named]);
    let server = store.serve();
    assert_eq!(server.client().get("/hooks/own-secret").expect(200).json()["secret"], named);
}
