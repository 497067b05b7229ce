//! What hooks must not become: a way into the network behind the server, a leak of secrets, a
//! second subscription by a repeated request.

mod common;

use std::fs;

use common::{Call, Client, Receiver, Signer, Store, ask_until, assert_problem, numbered, run};
use serde_json::{Value, json};

#[track_caller]
fn refused(client: &mut Client, url: &str) {
    let answer = client.post("/hooks", json!({"url": url}).to_string());
    assert_eq!(answer.status, 400, "{url}: {}", answer.text());
    let problem = answer.json();
    assert_eq!(problem["errors"][0]["pointer"], "/url", "{url}: {problem}");
}

#[test]
fn nothing_behind_the_server_can_be_subscribed_in_any_spelling() {
    let store = Store::new();
    let server = store.serve();
    let mut client = server.client();
    for url in [
        "http://127.0.0.1/",
        "http://localhost/",
        "http://localhost./",
        "http://2130706433/",
        "http://0x7f.1/",
        "http://0177.0.0.1/",
        "http://127.1/",
        "http://%31%32%37.0.0.1/",
        "http://①②⑦.0.0.1/",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[::ffff:7f00:1]/",
        "http://[64:ff9b::7f00:1]/",
        "http://[2002:7f00:1::]/",
        "http://[fd00::1]/",
        "http://[fe80::1]/",
        "http://0.0.0.0/",
        "http://10.0.0.1/",
        "http://100.64.0.1/",
        "http://169.254.169.254/latest/meta-data/",
        "http://172.16.0.1/",
        "http://192.168.0.1/",
        "http://224.0.0.1/",
        "ftp://example.org/",
        "file:///etc/passwd",
        "http://user:password@example.org/",
        "http://example.org/#fragment",
        "http://example.org:0/",
        "http:///",
        "example.org",
        "",
    ] {
        refused(&mut client, url);
    }
    let hooks = client.get("/hooks").expect(200).json();
    assert_eq!(hooks["hooks"], json!([]));
}

#[test]
fn what_the_operator_opens_can_be_called_but_of_the_server_itself_only_the_echo() {
    let receiver = Receiver::start(&[]);
    let store = receiver.allowed_by(Store::new());
    let server = store.serve();
    let mut client = server.client();
    let made = client.post("/hooks", json!({"url": receiver.url("/a")}).to_string()).expect(201);
    assert_eq!(
        made.header("location"),
        Some(format!("/hooks/{}", text(&made.json(), "id")).as_str())
    );
    let port = server.address().port();
    for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "0.0.0.0"] {
        refused(&mut client, &format!("http://{host}:{port}/crypto/sign?message=round"));
        refused(&mut client, &format!("http://{host}:{port}/crypto/test-webhook?round=1"));
    }
    refused(&mut client, &format!("http://0.0.0.0:{port}/crypto/test-webhook"));
    let echo = json!({"url": format!("http://127.0.0.1:{port}/crypto/test-webhook")});
    let made = client.post("/hooks", echo.to_string()).expect(201).json();
    let ping = format!("/hooks/{}/ping", text(&made, "id"));
    assert_eq!(client.post(&ping, "{}").expect(200).json()["state"], "delivered");
    refused(&mut client, "http://10.0.0.1/");
}

#[test]
fn address_that_was_open_at_first_is_vetted_again_at_each_call() {
    let receiver = Receiver::start(&[]);
    let store = Store::new().with(&["--backoff-base", "20ms"]).with(&["--webhook-attempts", "2"]);
    let store = receiver.allowed_by(store);
    let server = store.serve();
    let mut client = server.client();
    client.post("/hooks", json!({"url": receiver.url("/a")}).to_string()).expect(201);
    server.kill();
    // The operator has closed the network.
    let store = store.with(&["--webhook-allow", "10.0.0.0/8"]);
    let server = store.serve();
    let mut client = server.client();
    client.post("/formulas", numbered(1)).expect(201);
    let dead = "/hooks/deliveries?state=dead";
    let count = |client: &mut Client| {
        client.get(dead).expect(200).json()["deliveries"].as_array().map_or(0, Vec::len)
    };
    ask_until("it is dead", || count(&mut client) == 1);
    assert_eq!(receiver.stats().calls, 0);
}

#[test]
fn repeated_request_gets_the_first_answer_and_makes_no_second_hook() {
    let receiver = Receiver::start(&[]);
    let store = receiver.allowed_by(Store::new());
    let server = store.serve();
    let mut client = server.client();
    let wish = json!({"url": receiver.url("/a"), "events": ["formula.*"]}).to_string();
    let call = Call::post("/hooks", wish).key("k");
    let first = client.send(&call).expect(201);
    drop(server);
    let server = store.serve();
    let mut client = server.client();
    let again = client.send(&call).expect(201);
    assert_eq!(again.text(), first.text(), "the secret, too");
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    let other = json!({"url": receiver.url("/b")}).to_string();
    client.send(&Call::post("/hooks", other).key("k")).expect(422);
    let hooks = client.get("/hooks").expect(200).json();
    assert_eq!(hooks["hooks"].as_array().map(Vec::len), Some(1));
}

#[test]
fn all_faults_of_a_request_are_told_at_once() {
    let store = Store::new();
    let server = store.serve();
    let mut client = server.client();
    let wish = json!({
        "url": "ftp://example.org",
        "events": ["formula.accepted", "formula.eaten"],
        "secret": "whsec_AAAA",
        "colour": "blue",
    });
    let problem = client.post("/hooks", wish.to_string()).expect(400).json();
    let mut pointers: Vec<&str> = problem["errors"]
        .as_array()
        .expect("errors")
        .iter()
        .map(|error| error["pointer"].as_str().expect("a pointer"))
        .collect();
    pointers.sort_unstable();
    assert_eq!(pointers, ["/colour", "/events/1", "/secret", "/url"]);
    let problem = client.post("/hooks", "{}").expect(400).json();
    assert_eq!(problem["errors"], json!([{"pointer": "/url", "detail": "is missing"}]));
    for (method, path) in [("GET", "/hooks/7"), ("DELETE", "/hooks/7"), ("POST", "/hooks/7/ping")] {
        client.send(&Call::new(method, path)).expect(404);
    }
}

#[test]
fn there_are_only_so_many_hooks() {
    let receiver = Receiver::start(&[]);
    let store = receiver.allowed_by(Store::new());
    let server = store.serve();
    let mut client = server.client();
    let wish = json!({"url": receiver.url("/a"), "events": ["disk.low"]}).to_string();
    for _ in 0..100 {
        client.post("/hooks", wish.clone()).expect(201);
    }
    let full = client.post("/hooks", wish);
    assert_eq!(full.json()["type"], "/problems/too-many-hooks");
}

#[test]
fn secrets_are_shown_once_and_nowhere_else() {
    let receiver = Receiver::start(&[]);
    let own = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let store = receiver.allowed_by(Store::new()).with(&["--webhook-secret", own]);
    let store = store.with(&["--log-level", "trace"]);
    let server = store.serve();
    let mut client = server.client();
    let wish = json!({"url": receiver.url("/a")}).to_string();
    let made = client.post("/hooks", wish).expect(201).json();
    let hook = text(&made, "id");
    let path = format!("/hooks/{hook}/secret");
    let rotated = client.post(&path, "").expect(200).json();
    client.post("/formulas", numbered(1)).expect(201);
    receiver.await_stats("the call", |stats| stats.accepted == 1);
    let mut seen: Vec<String> = ["/hooks", "/metrics", "/hooks/deliveries", "/queues", "/"]
        .into_iter()
        .map(|path| client.get(path).expect(200).text().to_owned())
        .collect();
    seen.push(client.get(&format!("/hooks/{hook}")).expect(200).text().to_owned());
    seen.extend(server.transcript());
    seen.extend(server.terminate().stderr);
    let data = store.data();
    let directory = data.to_str().expect("a plain name");
    let dump = run(["inspect", "dump", directory]);
    seen.push(String::from_utf8_lossy(&dump.stdout).into_owned());
    let config = run(["config", "--webhook-secret", own]);
    seen.push(String::from_utf8_lossy(&config.stdout).into_owned());
    for secret in [text(&made, "secret"), text(&rotated, "secret"), own.to_owned()] {
        let bare = secret.trim_start_matches("whsec_");
        assert!(seen.iter().all(|text| !text.contains(bare)), "a secret is shown");
    }
}

#[test]
fn answer_to_a_request_for_a_seal_is_signed_with_the_own_secret() {
    let (signer, receiver) = (Signer::start(&["--rate", "1000/s"]), Receiver::start(&[]));
    let own = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    receiver.trust("/a", &[own]);
    let store = receiver.allowed_by(signer.of(Store::new())).with(&["--webhook-secret", own]);
    let store = store.with(&["--seal-rate", "1000/s"]).with(&["--backoff-base", "20ms"]);
    let store = store.with(&["--seal-attempts", "2"]);
    let server = store.serve();
    let mut client = server.client();
    signer.answer("bitter", 502);
    let wish = json!({"message": "bitter", "webhook_url": receiver.url("/a")});
    let asked = client.post("/crypto/sign", wish.to_string());
    let asked = asked.json();
    let stats = receiver.await_stats("the answer", |stats| stats.accepted == 1);
    assert_eq!(stats.verified, 1);
    let told = stats.accepted_at("/a").remove(0);
    assert_eq!(told["id"], asked["id"]);
    assert_eq!((&told["status"], &told["signature"]), (&json!("FAIL"), &json!("")));
    assert_eq!(told["message"], "bitter");
}

#[test]
fn scope_that_hooks_need_is_that_of_operators() {
    let store = Store::new();
    let tokens = store.beside("tokens");
    // SHA-256 of `reader-token`.
    let digest = "ba5005a40cf5212e4ac0190104cc127edab013294bb71279a975b27a80982d45";
    fs::write(&tokens, format!("reader {digest} read\n")).expect("the disk works");
    let store = store.with(&["--tokens", tokens.to_str().expect("a plain name")]);
    let server = store.serve();
    let mut client = server.client();
    assert_problem(&client.get("/hooks"), 401);
    let reader = |method, path| Call::new(method, path).token("reader-token");
    for (method, path) in [
        ("GET", "/hooks"),
        ("GET", "/hooks/1"),
        ("DELETE", "/hooks/1"),
        ("POST", "/hooks/1/ping"),
        ("GET", "/hooks/deliveries"),
        ("GET", "/hooks/deliveries/1"),
        ("POST", "/hooks/deliveries/1/redeliver"),
    ] {
        assert_problem(&client.send(&reader(method, path)), 403);
    }
    client.send(&reader("GET", "/queues")).expect(200);
}

fn text(value: &Value, name: &str) -> String {
    value[name].as_str().expect("a text").to_owned()
}
