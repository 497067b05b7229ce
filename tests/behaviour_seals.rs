//! Rows D1 to D9, D14 to D16 and D18 to D20 of the behaviours: seals, with a simulated authority.
//!
//! The limit is scaled down, so that windows pass while a test waits. Nothing sleeps: tests wait
//! for what the authority has seen or what the server says.

mod common;

use common::{
    Call, Client, Response, SIGNER_KEY, Signer, Store, ask_until, assert_problem, numbered, run,
    together,
};
use serde_json::{Value, json};
use sillage::time::Stopwatch;

/// What the product promises. Measured at the client, on a loaded machine.
const ANSWER_WITHIN_MS: u64 = 2000;

/// A store whose servers call this authority, often, and try again soon.
fn store_of(signer: &Signer, arguments: &[&str]) -> Store {
    let store = signer.of(Store::new()).with(&["--backoff-base", "20ms", "--backoff-cap", "200ms"]);
    store.with(arguments)
}

fn ask(client: &mut Client, message: &str) -> Response {
    client.post("/crypto/sign", json!({ "message": message }).to_string())
}

/// Messages of the queue `seals` in this state.
fn seals(client: &mut Client, state: &str) -> u64 {
    client.get("/queues/seals").expect(200).json()[state].as_u64().expect("a number")
}

/// Checks that a refusal is a problem of this kind.
#[track_caller]
fn assert_kind(response: &Response, slug: &str) {
    let problem = assert_problem(response, response.status);
    assert_eq!(problem["type"], format!("/problems/{slug}"));
}

/// Asks until the request is at an end, and gives how it stands.
#[track_caller]
fn await_end(client: &mut Client, asked: &Value) -> Value {
    let target = format!("/crypto/requests/{}", asked["id"].as_str().expect("an id"));
    let mut last = Value::Null;
    ask_until("the request is at an end", || {
        last = client.get(&target).json();
        last["status"] != "PENDING"
    });
    last
}

#[test]
fn d01_the_message_arrives_as_it_was_sent_by_query_and_by_body() {
    let signer = Signer::start(&["--rate", "100/s"]);
    let server = store_of(&signer, &["--seal-rate", "50/s"]).serve();
    let mut client = server.client();
    for message in ["a&b=ü %", "+ /?#;\u{0}\n", "🌹"] {
        let asked = ask(&mut client, message).json();
        assert_eq!(await_end(&mut client, &asked)["message"], message);
        assert_eq!(signer.stats().of(message).signed, 1, "{message:?}");
    }
    let by_query = client.get("/crypto/sign?message=%C3%BC%26x%3D1+2").expect(200).json();
    assert_eq!(by_query["message"], "ü&x=1 2");
    assert_eq!(signer.stats().of("ü&x=1 2").signed, 1);
}

#[test]
fn d02_the_signature_is_passed_on_as_it_came_and_verifies() {
    let signer = Signer::start(&["--rate", "100/s"]);
    let store = store_of(&signer, &["--seal-rate", "50/s"]);
    let key = store.beside("authority.pem");
    std::fs::write(&key, signer.public_key()).expect("the directory is ours");
    let store = store.with(&["--seal-public-key", key.to_str().expect("UTF-8")]);
    let server = store.serve();
    let mut client = server.client();
    let answer = ask(&mut client, "hello").expect(200).json();
    let members: Vec<&String> = answer.as_object().expect("an object").keys().collect();
    assert_eq!(members.len(), 5, "{members:?}");
    assert_eq!(answer["status"], "SUCCESS");
    assert_eq!(answer["webhook_url"], Value::Null);
    let signature = answer["signature"].as_str().expect("a text").replace('+', "%2B");
    // d15: locally, with the public key, at no cost.
    let calls = signer.stats().calls;
    let verify = |message: &str| format!("/crypto/verify?message={message}&signature={signature}");
    assert_eq!(client.get(&verify("hello")).expect(200).json(), json!({"valid": true}));
    assert_eq!(client.get(&verify("hullo")).expect(200).json(), json!({"valid": false}));
    assert_eq!(signer.stats().calls, calls);
    // Sealed once, sealed for good: without a call, under another id.
    let again = ask(&mut client, "hello").expect(200).json();
    assert_eq!(again["signature"], answer["signature"]);
    assert_ne!(again["id"], answer["id"]);
    assert_eq!(signer.stats().of("hello").calls, 1);
}

#[test]
fn d03_a_failed_call_is_answered_by_a_promise_and_tried_again() {
    let signer = Signer::start(&["--rate", "100/s"]);
    let server = store_of(&signer, &["--seal-rate", "50/s", "--seal-attempts", "1000"]).serve();
    let mut client = server.client();
    signer.answer("later", 502);
    let response = ask(&mut client, "later").expect(202);
    let asked = response.json();
    assert_eq!((&asked["status"], &asked["signature"]), (&json!("PENDING"), &json!("")));
    assert!(asked["position"].as_u64() >= Some(1), "{asked}");
    let location = format!("/crypto/requests/{}", asked["id"].as_str().expect("an id"));
    assert_eq!(response.header("location"), Some(&*location));
    assert!(response.header("retry-after").is_some_and(|it| it.parse::<u64>().is_ok()));
    client.get(&location).expect(202);
    signer.answer("later", "usual");
    assert_eq!(await_end(&mut client, &asked)["status"], "SUCCESS");
}

#[test]
fn d04_every_answer_comes_within_two_seconds_and_a_late_signature_is_used() {
    let signer = Signer::start(&["--rate", "100/s"]);
    let server = store_of(&signer, &["--seal-rate", "50/s"]).serve();
    let mut client = server.client();
    signer.behave(&json!({"message": "slow", "answer": 200, "delay_ms": 3000}));
    let began = Stopwatch::start();
    let asked = ask(&mut client, "slow").expect(202).json();
    assert!(began.ms() < ANSWER_WITHIN_MS, "{} ms", began.ms());
    assert_eq!(await_end(&mut client, &asked)["status"], "SUCCESS");
    assert_eq!(signer.stats().of("slow").calls, 1, "the one call was not wasted");
}

#[test]
fn d05_what_cannot_be_used_is_refused_with_all_that_is_wrong() {
    let signer = Signer::start(&[]);
    let server = store_of(&signer, &[]).serve();
    let mut client = server.client();
    let long = "x".repeat(8 * 1024 + 1);
    for message in [json!(null), json!(""), json!(7), json!(long)] {
        let body = json!({"message": message, "webhook_url": "foo://bar"}).to_string();
        let problem = client.post("/crypto/sign", body).expect(422);
        assert_kind(&problem, "invalid-seal-request");
        let errors = problem.json()["errors"].clone();
        let pointers: Vec<&str> = errors
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|it| it["pointer"].as_str())
            .collect();
        assert_eq!(pointers, ["/message", "/webhook_url"], "{errors}");
    }
    for url in ["http://127.0.0.1:9/x", "http://[::1]/", "ftp://example.com/", "http://no.invalid/"]
    {
        let body = json!({"message": "m", "webhook_url": url}).to_string();
        let problem = client.post("/crypto/sign", body).expect(422);
        assert_kind(&problem, "invalid-seal-request");
    }
    client.post("/crypto/sign", r#"{"message":"m","colour":"red"}"#).expect(422);
    client.post("/crypto/sign", r#"{"message":"#).expect(400);
    client.get("/crypto/sign").expect(422);
    client.get("/crypto/requests/1").expect(404);
    client.get("/crypto/requests/x").expect(404);
    assert_eq!(signer.stats().calls, 0);
    let unsealed = Store::new().serve();
    let problem = ask(&mut unsealed.client(), "m").expect(503);
    assert_kind(&problem, "seals-unavailable");
}

#[test]
fn d06_d07_d20_a_thousand_at_once_are_all_sealed_and_no_window_is_overrun_however_often_we_die() {
    let signer = Signer::start(&["--rate", "100/s"]);
    let arguments = ["--seal-rate", "100/s", "--seal-deadline", "500ms"];
    let store = store_of(&signer, &arguments);
    let server = store.serve();
    let asked = together(1000, |index| {
        let mut client = server.client();
        let began = Stopwatch::start();
        let response = ask(&mut client, &format!("message {index}"));
        (response.status, response.json(), began.ms())
    });
    let mut ids = std::collections::BTreeSet::new();
    for (status, answer, _) in &asked {
        assert!(matches!(status, 200 | 202), "{status} {answer}");
        assert!(ids.insert(answer["id"].to_string()), "each request has an id of its own");
    }
    let slowest = asked.iter().map(|(_, _, took)| *took).max().expect("a thousand");
    assert!(slowest < 2 * ANSWER_WITHIN_MS, "{slowest} ms with a thousand threads on this machine");
    let mut server = server;
    for _ in 0..3 {
        let before = signer.stats().signs;
        signer.await_stats("some more calls", |stats| stats.signs >= (before + 30).min(1000));
        server.kill();
        server = store.serve();
    }
    let mut client = server.client();
    for (_, answer, _) in &asked {
        let end = await_end(&mut client, answer);
        assert_eq!(end["status"], "SUCCESS", "{end}");
        assert_eq!(end["message"], answer["message"]);
    }
    let stats = signer.stats();
    assert_eq!(stats.violations, 0, "at most {} in a window", stats.max_in_window);
    assert!(stats.max_in_window <= 100);
}

#[test]
fn equal_messages_share_one_call_and_each_has_its_own_id() {
    let signer = Signer::start(&["--rate", "100/s"]);
    let server = store_of(&signer, &["--seal-rate", "50/s"]).serve();
    signer.behave(&json!({"message": "same", "answer": 200, "delay_ms": 600}));
    let answers = together(20, |_| ask(&mut server.client(), "same"));
    let ids: std::collections::BTreeSet<String> =
        answers.iter().map(|answer| answer.json()["id"].to_string()).collect();
    assert_eq!(ids.len(), 20);
    let mut client = server.client();
    for answer in &answers {
        assert_eq!(await_end(&mut client, &answer.json())["status"], "SUCCESS");
    }
    assert_eq!(signer.stats().of("same").calls, 1);
    assert!(answers.iter().any(|answer| answer.status == 200), "some had it in time");
}

#[test]
fn d08_a_message_that_always_fails_blocks_no_other() {
    let signer = Signer::start(&["--rate", "20/s"]);
    let server = store_of(&signer, &["--seal-rate", "10/s", "--seal-attempts", "1000"]).serve();
    let mut client = server.client();
    signer.answer("A", 502);
    let bad = ask(&mut client, "A").expect(202).json();
    let good = ask(&mut client, "B").json();
    assert_eq!(await_end(&mut client, &good)["status"], "SUCCESS");
    signer.await_stats("it is tried again", |stats| stats.of("A").calls >= 3);
    let location = format!("/crypto/requests/{}", bad["id"].as_str().expect("an id"));
    client.get(&location).expect(202);
    assert_eq!(signer.stats().violations, 0);
}

#[test]
fn d09_after_the_last_attempt_a_request_has_failed_and_can_be_redriven() {
    let signer = Signer::start(&["--rate", "100/s"]);
    let server = store_of(&signer, &["--seal-rate", "50/s", "--seal-attempts", "2"]).serve();
    let mut client = server.client();
    signer.answer("A", 400);
    let asked = ask(&mut client, "A").expect(202).json();
    let end = await_end(&mut client, &asked);
    assert_eq!((&end["status"], &end["signature"]), (&json!("FAIL"), &json!("")));
    assert_eq!(signer.stats().of("A").calls, 2);
    let dead = client.get("/queues/seals/messages?state=dead").expect(200).json();
    let message = &dead["messages"][0];
    assert_eq!((&message["id"], &message["message"]), (&asked["id"], &json!("A")));
    assert_eq!(message["history"].as_array().map(Vec::len), Some(2), "{message}");
    signer.answer("A", "usual");
    client.post("/queues/seals/redrive", "").expect(200);
    ask_until("it is sealed", || {
        let target = format!("/crypto/requests/{}", asked["id"].as_str().expect("an id"));
        client.get(&target).json()["status"] == "SUCCESS"
    });
}

#[test]
fn a_wrong_signature_is_a_failed_call() {
    let signer = Signer::start(&["--rate", "100/s"]);
    let store = store_of(&signer, &["--seal-rate", "50/s", "--seal-attempts", "1000"]);
    let key = store.beside("authority.pem");
    std::fs::write(&key, signer.public_key()).expect("the directory is ours");
    let server = store.with(&["--seal-public-key", key.to_str().expect("UTF-8")]).serve();
    let mut client = server.client();
    signer.answer("A", "wrong");
    let asked = ask(&mut client, "A").expect(202).json();
    signer.await_stats("it is tried again", |stats| stats.of("A").calls >= 2);
    signer.answer("A", "usual");
    assert_eq!(await_end(&mut client, &asked)["status"], "SUCCESS");
}

#[test]
fn when_the_authority_has_too_many_calls_no_attempt_is_counted() {
    let signer = Signer::start(&["--rate", "100/s"]);
    let server = store_of(&signer, &["--seal-rate", "50/s", "--seal-attempts", "1"]).serve();
    let mut client = server.client();
    signer.answer("A", 429);
    let asked = ask(&mut client, "A").expect(202).json();
    signer.await_stats("it is tried again", |stats| stats.of("A").calls >= 2);
    signer.answer("A", "usual");
    assert_eq!(await_end(&mut client, &asked)["status"], "SUCCESS");
}

#[test]
fn a_key_that_is_not_accepted_raises_the_alarm_and_no_message_is_blamed() {
    let signer = Signer::start(&["--rate", "100/s"]);
    let store = Store::new().with(&["--seal-url", &signer.url(), "--seal-key", "wrong"]);
    let store = store.with(&["--backoff-base", "20ms", "--backoff-cap", "50ms"]);
    let arguments = ["--seal-rate", "50/s", "--seal-attempts", "1"];
    let server = store.with(&arguments).serve();
    let mut client = server.client();
    let asked = ask(&mut client, "A").expect(202).json();
    signer.await_stats("it is tried again", |stats| stats.unauthorised >= 3);
    let metrics = client.get("/metrics").expect(200);
    assert!(metrics.text().contains("sillage_seal_authority_unauthorised 1"));
    let location = format!("/crypto/requests/{}", asked["id"].as_str().expect("an id"));
    client.get(&location).expect(202);
}

#[test]
fn d14_d15_probe_and_upstream_verification_go_through_the_gate() {
    let signer = Signer::start(&["--rate", "3/h"]);
    let server = store_of(&signer, &["--seal-rate", "3/h"]).serve();
    let mut client = server.client();
    let signature = ask(&mut client, "m").expect(200).json()["signature"].clone();
    assert_eq!(client.get("/crypto/").expect(200).json()["calls_in_window"], 2);
    let signature = signature.as_str().expect("a text").replace('+', "%2B");
    let verify = |message: &str| format!("/crypto/verify?message={message}&signature={signature}");
    assert_eq!(client.get(&verify("m")).expect(200).json(), json!({"valid": true}));
    assert_eq!(client.get(&verify("n")).expect(200).json(), json!({"valid": false}));
    let closed = client.get(&verify("o")).expect(503);
    assert_kind(&closed, "authority-busy");
    assert!(closed.header("retry-after").is_some());
    let stats = signer.stats();
    assert_eq!((stats.signs, stats.probes, stats.verifies), (1, 1, 1));
    let waiting = ask(&mut client, "p").expect(202).json();
    assert!(waiting["eta_s"].as_u64() > Some(3000), "{waiting}");
    let echo = json!({"any": ["thing"]}).to_string();
    assert_eq!(client.post("/crypto/test-webhook", echo.clone()).expect(200).text(), echo);
}

#[test]
fn queues_of_the_workers_show_how_often_these_try() {
    let signer = Signer::start(&["--rate", "100/s"]);
    let server = store_of(&signer, &["--seal-attempts", "7", "--webhook-attempts", "8"]).serve();
    let mut client = server.client();
    for (queue, attempts) in [("formulas", 5), ("seals", 7), ("hooks", 8)] {
        let shown = client.get(&format!("/queues/{queue}")).expect(200).json();
        assert_eq!(shown["settings"]["max_attempts"], attempts, "{queue}");
    }
}

#[test]
fn d16_what_was_promised_is_kept_by_the_next_process() {
    let signer = Signer::start(&["--rate", "100/s"]);
    let arguments = ["--seal-rate", "50/s", "--seal-deadline", "300ms", "--seal-attempts", "1000"];
    let store = store_of(&signer, &arguments);
    signer.answer_all(502);
    let server = store.serve();
    let asked = ask(&mut server.client(), "kept").expect(202).json();
    server.kill();
    signer.answer_all("usual");
    let server = store.serve();
    assert_eq!(await_end(&mut server.client(), &asked)["status"], "SUCCESS");
}

/// The log's own frames have LSNs as requests have. Who asks for one asks for nothing damaged.
#[test]
fn whatever_id_is_asked_for_nothing_is_called_damaged() {
    let signer = Signer::start(&["--rate", "100/s"]);
    let store = store_of(&signer, &["--seal-rate", "50/s"]);
    let server = store.serve();
    let asked = ask(&mut server.client(), "first").expect(200).json();
    server.terminate();
    let server = store.serve();
    let mut client = server.client();
    let last: u64 = ask(&mut client, "last").expect(200).json()["id"]
        .as_str()
        .and_then(|id| id.parse().ok())
        .expect("a number");
    let found = (0..=last).map(|id| client.get(&format!("/crypto/requests/{id}")));
    let (found, rest): (Vec<_>, Vec<_>) = found.partition(|response| response.status == 200);
    assert_eq!(found.len(), 2, "of {asked} and {last}");
    rest.iter().for_each(|response| assert_eq!(response.status, 404, "{}", response.text()));
}

#[test]
fn d18_fresh_requests_get_their_share_while_many_are_tried_again() {
    let signer = Signer::start(&["--rate", "10/s"]);
    let server = store_of(&signer, &["--seal-rate", "10/s", "--seal-attempts", "1000"]).serve();
    let mut client = server.client();
    signer.answer_all(502);
    let target = |index: usize| format!("/crypto/sign?message=bad{index}");
    together(40, |index| server.client().get(&target(index)).expect(202).json());
    signer.await_stats("all are tried again", |stats| stats.per_message.len() == 40);
    signer.answer("fresh", 200);
    let before = signer.stats().signs;
    let asked = ask(&mut client, "fresh").json();
    assert_eq!(await_end(&mut client, &asked)["status"], "SUCCESS");
    // Its turn comes in the window that follows, whatever else waits.
    assert!(signer.stats().signs - before <= 20, "it waited for {}", signer.stats().signs - before);
    assert_eq!(signer.stats().violations, 0);
}

#[test]
fn a_request_under_a_key_is_answered_the_same_again() {
    let signer = Signer::start(&["--rate", "100/s"]);
    let arguments = ["--seal-rate", "50/s", "--seal-attempts", "1000"];
    let store = store_of(&signer, &arguments);
    let server = store.serve();
    let send = |client: &mut Client, key: &str, message: &str| {
        let body = json!({ "message": message }).to_string();
        client.send(&Call::post("/crypto/sign", body).key(key))
    };
    let mut client = server.client();
    let sealed = send(&mut client, "one", "quick").expect(200);
    signer.answer("slow", 502);
    let twins = together(4, |_| send(&mut server.client(), "two", "slow"));
    let promised = twins[0].body.clone();
    assert!(twins.iter().all(|twin| twin.status == 202 && twin.body == promised));
    signer.answer("slow", "usual");
    let asked: Value = serde_json::from_slice(&promised).expect("JSON");
    await_end(&mut client, &asked);
    send(&mut client, "two", "other").expect(422);
    server.kill();
    let server = store.serve();
    let mut client = server.client();
    for (key, message, first, status) in
        [("one", "quick", &sealed.body, 200), ("two", "slow", &promised, 202)]
    {
        let again = send(&mut client, key, message).expect(status);
        assert_eq!(&again.body, first);
        assert_eq!(again.header("idempotent-replayed"), Some("true"));
    }
}

#[test]
fn formulas_whose_flow_has_seal_get_their_id_sealed() {
    let signer = Signer::start(&["--rate", "100/s"]);
    let arguments = ["--seal-rate", "50/s", "--flow", "seal", "--seal-attempts", "2"];
    let server = store_of(&signer, &arguments).serve();
    let mut client = server.client();
    let stored = client.post("/formulas", numbered(1)).expect(201).json();
    let steps = |client: &mut Client, stored: &Value| {
        let trail = client.get(stored["trail"].as_str().expect("a path")).expect(200);
        trail.text().to_owned()
    };
    ask_until("it is sealed", || steps(&mut client, &stored).contains("\"sealed\""));
    let id = stored["id"].as_str().expect("an id");
    assert_eq!(signer.stats().of(id).calls, 1);
    assert!(steps(&mut client, &stored).contains(r#""queue":"seals""#));
    assert_eq!(seals(&mut client, "ready"), 0);
    signer.answer_all(502);
    let failing = client.post("/formulas", numbered(2)).expect(201).json();
    ask_until("it is a dead letter", || seals(&mut client, "dead") == 1);
    let trail = steps(&mut client, &failing);
    assert!(trail.contains("answered 502") && trail.contains("\"held\""), "{trail}");
    let dead = client.get("/queues/seals/messages?state=dead").expect(200).json();
    assert_eq!(dead["messages"][0]["formula"]["id"], failing["id"]);
    client.post("/queues/seals/lease", "").expect(403);
    client.post("/queues/hooks/lease", "").expect(403);
    client.post("/queues/releases/lease", "").expect(403);
}

#[test]
fn d19_settings_are_checked_and_the_key_is_never_shown() {
    let refused = |arguments: &[&str], expected: &str| {
        let output = run(["config"].iter().chain(arguments));
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(stderr.contains(expected) && !stderr.contains("sesame"), "{stderr}");
    };
    refused(&["--seal-rate", "10/m"], "--seal-rate: `10/m` is not a rate");
    refused(&["--seal-rate", "0/s"], "--seal-rate");
    refused(&["--seal-rate", "10001/s"], "--seal-rate");
    refused(&["--seal-mode", "burst"], "window, paced");
    refused(&["--seal-attempts", "0"], "--seal-attempts");
    refused(&["--seal-deadline", "1ms"], "--seal-deadline");
    refused(&["--seal-url", "ftp://x", "--seal-key", SIGNER_KEY], "--seal-url");
    refused(&["--seal-url", "http://x"], "--seal-url: cannot be set without --seal-key");
    refused(&["--flow", "seal"], "--flow: cannot be set without --seal-url");
    refused(&["--backoff-base", "10m", "--backoff-cap", "1s"], "--backoff-base");
    let output = run(["config", "--seal-url", "http://x", "--seal-key", SIGNER_KEY]);
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && !shown.contains(SIGNER_KEY), "{shown}");
}
