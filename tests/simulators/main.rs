//! The doubles themselves: what other suites rely on when they say what an authority, a receiver
//! or a node has seen.

#[path = "../common/mod.rs"]
mod common;
mod nodes;

use std::io::Read as _;
use std::net::TcpStream;

use common::{Call, Client, Receiver, SIGNER_KEY, Signer, run, together};
use serde_json::json;

fn sign(client: &mut Client, message: &str) -> common::Response {
    let target = format!("/crypto/sign?message={message}");
    client.send(&Call::get(target).header("Authorization", SIGNER_KEY))
}

#[test]
fn a_signature_verifies_for_its_message_only() {
    let mut signer = Signer::start(&[]);
    let mut client = signer.server().client();
    let answer = sign(&mut client, "a%26b%3D%C3%BC%20%25").expect(200);
    assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
    let signature = answer.text().replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
    let mut verify = |message: &str| {
        let target = format!("/crypto/verify?message={message}&signature={signature}");
        client.send(&Call::get(target).header("Authorization", SIGNER_KEY))
    };
    assert_eq!(verify("a%26b%3D%C3%BC%20%25").expect(200).json(), json!({"valid": true}));
    assert_eq!(verify("a%26b%3D%C3%BC%20").expect(400).json(), json!({"valid": false}));
    let stats = signer.stats();
    assert_eq!((stats.calls, stats.signs, stats.verifies), (3, 1, 2));
    assert_eq!(stats.of("a&b=ü %").signed, 1);
    assert!(signer.public_key().starts_with("-----BEGIN PUBLIC KEY-----\n"));
}

#[test]
fn a_call_without_the_key_is_not_counted_towards_the_rate() {
    let mut signer = Signer::start(&["--rate", "1/h"]);
    let mut client = signer.server().client();
    for target in ["/crypto/sign?message=A", "/crypto/verify?message=A&signature=B", "/"] {
        client.get(target).expect(401);
        client.send(&Call::get(target).header("Authorization", "sesam")).expect(401);
    }
    sign(&mut client, "A").expect(200);
    let stats = signer.stats();
    assert_eq!((stats.calls, stats.unauthorised, stats.violations), (1, 6, 0));
    signer.behave(&json!({"key": "another"}));
    sign(&mut client, "A").expect(401);
}

#[test]
fn calls_beyond_the_rate_are_refused_and_counted_whatever_they_ask_for() {
    let mut signer = Signer::start(&["--rate", "3/h"]);
    let address = signer.server().address();
    let statuses = together(8, |index| {
        let targets = ["/crypto/sign?message=A", "/crypto/verify?message=A&signature=B", "/"];
        let call = Call::get(targets[index % 3]).header("Authorization", SIGNER_KEY);
        let answer = Client::new(address).send(&call);
        let wait_s = answer.header("retry-after").map(|text| text.parse::<u64>());
        assert_eq!(wait_s.is_some(), answer.status == 429);
        assert!(wait_s.is_none_or(|wait_s| (1..=3600).contains(&wait_s.expect("seconds"))));
        answer.status
    });
    assert_eq!(statuses.iter().filter(|status| **status == 429).count(), 5);
    let stats = signer.stats();
    assert_eq!((stats.calls, stats.max_in_window, stats.violations), (8, 8, 5));
    assert_eq!((stats.allowed, stats.window_ms), (3, 3_600_000));
    assert_eq!(stats.arrivals_ms.len(), 8);
    assert!(stats.arrivals_ms.is_sorted());
}

#[test]
fn the_authority_answers_as_it_is_told() {
    let mut signer = Signer::start(&["--rate", "100/h", "--answer", "502", "--answer", "garbage"]);
    let mut client = signer.server().client();
    sign(&mut client, "A").expect(502);
    assert_eq!(sign(&mut client, "A").expect(200).header("content-type"), Some("text/html"));
    let right = sign(&mut client, "A").expect(200).body;
    signer.answer("A", "wrong");
    assert_ne!(sign(&mut client, "A").expect(200).body, right);
    assert_eq!(sign(&mut client, "B").expect(200).body.len(), right.len());
    let told = json!({"message": "A", "answer": 503, "retry_after_s": 7, "body": "", "times": 1});
    signer.behave(&told);
    let answer = sign(&mut client, "A").expect(503);
    assert_eq!((answer.header("retry-after"), answer.text()), (Some("7"), ""));
    assert_eq!(sign(&mut client, "A").expect(200).body, right);
    signer.answer_all("sever");
    let call = Call::get("/crypto/sign?message=A").header("Authorization", SIGNER_KEY);
    client.try_send(&call).expect_err("the connection is closed");
    assert_eq!(signer.stats().by_status["severed"], 1);
    client.post("/behave", r#"{"default": {"answer": "sever", "tmies": 1}}"#).expect(400);
}

#[test]
fn a_client_that_leaves_a_call_without_an_answer_is_noticed() {
    let mut signer = Signer::start(&[]);
    signer.answer("A", "hang");
    let mut client = signer.server().client();
    let call = Call::get("/crypto/sign?message=A").header("Authorization", SIGNER_KEY);
    client.begin(&call).expect("it accepts connections");
    let stats = signer.await_stats("the call is there", |stats| stats.under_way == 1);
    assert_eq!((stats.calls, stats.of("A").under_way), (1, 1));
    drop(client);
    let stats = signer.await_stats("the client left", |stats| stats.under_way == 0);
    assert_eq!((stats.by_status["left"], stats.of("A").failed), (1, 1));
}

#[test]
fn the_same_seed_and_calls_meet_the_same_fate() {
    let statuses = |seed: &str| {
        let chances = ["--rate", "1000/h", "--fail", "0.5", "--latency-ms", "0..3", "--seed", seed];
        let mut signer = Signer::start(&chances);
        let mut client = signer.server().client();
        let calls = (0..40).map(|number| format!("m{}", number % 20));
        calls.map(|message| sign(&mut client, &message).status).collect::<Vec<_>>()
    };
    let found = statuses("7");
    assert_eq!(found, statuses("7"));
    assert_ne!(found, statuses("8"));
    // What fails goes on failing: a degradation takes minutes.
    assert!((0..20).all(|at| (found[at] == 200) || found[at + 20] != 200));
    assert!(found.contains(&200) && found.contains(&502));
}

#[test]
fn a_double_ends_at_a_signal_with_a_summary_and_cuts_off_who_waits() {
    let mut signer = Signer::start(&[]);
    signer.answer("A", "hang");
    let mut client = signer.server().client();
    let call = Call::get("/crypto/sign?message=A").header("Authorization", SIGNER_KEY);
    client.begin(&call).expect("it accepts connections");
    signer.await_stats("the call is there", |stats| stats.under_way == 1);
    let mut idle = TcpStream::connect(signer.server().address()).expect("it accepts connections");
    let finished = signer.terminate();
    assert_eq!(finished.code, Some(0), "{finished:?}");
    let last = finished.stderr.last().expect("it has said something");
    assert!(last.contains("ended after 1 calls, at most 1 in any 60000 ms"), "{last}");
    assert_eq!(idle.read(&mut [0; 1]).unwrap_or(0), 0);
    client.finish().expect_err("nobody answers any more");
}

#[test]
fn wrong_arguments_are_refused_with_what_would_be_right() {
    let refused = [
        (["signer", "--rate", "10"], "such as 10/min"),
        (["signer", "--fail", "2"], "from 0 to 1"),
        (["signer", "--latency-ms", "9..1"], "such as 50..3000"),
        (["signer", "--answer", "302"], "an answer is"),
        (["signer", "--script", "/nowhere"], "cannot read /nowhere"),
        (["receiver", "--mode", "odd"], "a mode is"),
        (["receiver", "--secret", "x"], "whsec_"),
    ];
    for (arguments, words) in refused {
        let output = run(["simulate"].iter().chain(&arguments));
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(stderr.contains(words), "{words:?} in {stderr}");
        let code = if arguments[1] == "--script" { 74 } else { 2 };
        assert_eq!(output.status.code(), Some(code), "{arguments:?}");
    }
}

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

#[test]
fn what_is_not_signed_well_and_just_now_is_refused() {
    let mut receiver = Receiver::start(&["--secret", SECRET]);
    let mut client = receiver.server().client();
    let body = r#"{"test": 2432232314}"#;
    client.post("/a", body).expect(401);
    // The example of the specification: a good signature, years ago.
    let signed = |timestamp: &str| {
        Call::post("/a", body)
            .header("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek")
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=")
    };
    client.send(&signed("1614265330")).expect(401);
    client.send(&signed("99999999999")).expect(401);
    client.send(&signed("now")).expect(401);
    let stats = receiver.stats();
    assert_eq!((stats.calls, stats.accepted, stats.verified), (4, 0, 0));
    assert_eq!((stats.unsigned, stats.old, stats.bad_signature), (1, 2, 1));
    let verdicts: Vec<_> = stats.deliveries.iter().map(|it| it.verdict.as_str()).collect();
    assert_eq!(verdicts, ["unsigned", "old", "old", "bad"]);
    assert_eq!(stats.by_id["msg_p5jXN8AQM9LWM0D4loKWxJek"], 3);
}

#[test]
fn the_example_of_the_specification_verifies_at_its_time() {
    let century = (100 * 365 * 24 * 3600_u64).to_string();
    let mut receiver = Receiver::start(&["--secret", SECRET, "--tolerance-s", &century]);
    let call = Call::post("/a", r#"{"test": 2432232314}"#)
        .header("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek")
        .header("webhook-timestamp", "1614265330")
        .header("webhook-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    let mut client = receiver.server().client();
    client.send(&call).expect(200);
    client.send(&call).expect(200);
    let stats = receiver.stats();
    assert_eq!((stats.verified, stats.accepted, stats.duplicates), (2, 2, 1));
    receiver.trust("/b", &["whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="]);
    let elsewhere = Call { target: "/b".to_owned(), ..call };
    client.send(&elsewhere).expect(401);
    assert_eq!(receiver.stats().bad_signature, 1);
}

#[test]
fn paths_are_receivers_of_their_own() {
    let mut receiver = Receiver::start(&["--mode", "gone"]);
    let mut client = receiver.server().client();
    receiver.mode("/a", "success");
    receiver.behave(&json!({"path": "/b", "mode": "redirect:307"}));
    receiver.behave(&json!({"path": "/c", "mode": "success", "fail_first": 2, "retry_after_s": 3}));
    client.post("/other", "{}").expect(410);
    client.post("/a", "{}").expect(200);
    assert_eq!(client.post("/b", "{}").expect(307).header("location"), Some("/redirected"));
    client.post("/redirected", "{}").expect(200);
    let call = Call::post("/c", "{}").header("webhook-id", "msg_1");
    assert_eq!(client.send(&call).expect(503).header("retry-after"), Some("3"));
    client.send(&call).expect(503);
    assert_eq!(client.send(&call).expect(200).header("retry-after"), None);
    let stats = receiver.stats();
    assert_eq!((stats.calls, stats.accepted, stats.redirected), (6, 2, 1));
    assert_eq!(stats.by_path["/c"], 3);
    let attempts: Vec<_> = stats.at("/c").iter().map(|it| (it.attempt, it.status)).collect();
    assert_eq!(attempts, [(1, Some(503)), (2, Some(503)), (3, Some(200))]);
    assert_eq!(stats.accepted_at("/a"), [json!({})]);
    client.post("/behave", r#"{"mode": "odd"}"#).expect(400);
}

#[test]
fn a_body_that_is_too_long_is_refused_and_no_delivery() {
    const BODY_BYTES_MAX: usize = 64 << 10;
    let mut receiver = Receiver::start(&[]);
    let mut client = receiver.server().client();
    client.post("/a", vec![b'x'; BODY_BYTES_MAX]).expect(200);
    client.post("/a", vec![b'x'; BODY_BYTES_MAX + 1]).expect(413);
    let stats = receiver.stats();
    assert_eq!((stats.calls, stats.deliveries[0].body.len()), (1, BODY_BYTES_MAX));
}

#[test]
fn hanging_and_severed_deliveries_are_counted_as_such() {
    let mut receiver = Receiver::start(&[]);
    receiver.mode("/a", "hang");
    receiver.mode("/b", "sever");
    let mut client = receiver.server().client();
    client.begin(&Call::post("/a", "{}")).expect("it accepts connections");
    receiver.await_stats("the delivery is there", |stats| stats.under_way == 1);
    drop(client);
    let stats = receiver.await_stats("the client left", |stats| stats.under_way == 0);
    assert_eq!((stats.by_status["left"], stats.deliveries[0].status), (1, None));
    let mut client = receiver.server().client();
    client.try_send(&Call::post("/b", "{}")).expect_err("the connection is closed");
    assert_eq!(receiver.stats().by_status["severed"], 1);
    let finished = receiver.terminate();
    assert_eq!(finished.code, Some(0));
    let last = finished.stderr.last().expect("it has said something");
    assert!(last.contains("ended after 2 deliveries: 0 accepted"), "{last}");
}
