//! Everything an authority may answer, and what is made of it.

use std::time::Duration;

use super::*;
use crate::outbound::fault::Phase;
use crate::outbound::harness::{Reply, Server, answer, target};
use crate::outbound::tls::Tls;
use crate::outbound::vet::Vet;

const KEY: &str = "secret-key-of-the-operator";
const NOW: Timestamp = Timestamp(784_111_777_000);

fn authority(url: Target) -> Authority {
    let client = Client::new(Vet::none(), &Tls::public());
    Authority::new(client, url, KEY.parse().expect("a key"), None, 10_000)
}

async fn at(reply: Reply) -> (Server, Authority) {
    let server = Server::start(vec![reply]).await;
    let authority = authority(server.url(""));
    (server, authority)
}

async fn signed(reply: Reply) -> CallOutcome<String> {
    at(reply).await.1.sign("m", NOW).await
}

fn failed<T>(reason: Failure) -> CallOutcome<T> {
    CallOutcome::Failed { reason, retry_after_ms: None }
}

fn plain(body: &str) -> Reply {
    Reply::Send(answer("200 OK", "content-type: text/plain\r\n", body))
}

#[tokio::test]
async fn a_message_arrives_whole_with_the_key_and_the_signature_comes_back_verbatim() {
    let (server, authority) = at(plain("c2lnbmF0dXJl+/=\n")).await;
    let outcome = authority.sign("a&b=ü %\n", NOW).await;
    assert_eq!(outcome, CallOutcome::Done("c2lnbmF0dXJl+/=\n".to_owned()));
    let request = server.seen().requests.remove(0);
    let line = "GET /crypto/sign?message=a%26b%3D%C3%BC%20%25%0A HTTP/1.1\r\n";
    assert!(request.starts_with(line), "{request}");
    assert!(request.contains(&format!("\r\nauthorization: {KEY}\r\n")), "{request}");
}

#[tokio::test]
async fn every_status_has_its_consequence() {
    for (status, expected) in [
        ("401 Unauthorized", CallOutcome::Unauthorised),
        ("403 Forbidden", CallOutcome::Unauthorised),
        ("429 Too Many Requests", CallOutcome::TooMany { retry_after_ms: None }),
        ("201 Created", failed(Failure::Status(StatusCode::CREATED))),
        ("204 No Content", failed(Failure::Status(StatusCode::NO_CONTENT))),
        ("302 Found", failed(Failure::Status(StatusCode::FOUND))),
        ("400 Bad Request", failed(Failure::Status(StatusCode::BAD_REQUEST))),
        ("404 Not Found", failed(Failure::Status(StatusCode::NOT_FOUND))),
        ("407 Proxy", failed(Failure::Status(StatusCode::PROXY_AUTHENTICATION_REQUIRED))),
        ("500 Oh", failed(Failure::Status(StatusCode::INTERNAL_SERVER_ERROR))),
        ("502 Bad Gateway", failed(Failure::Status(StatusCode::BAD_GATEWAY))),
        ("503 Unavailable", failed(Failure::Status(StatusCode::SERVICE_UNAVAILABLE))),
    ] {
        let reply = Reply::Send(answer(status, "content-type: text/plain\r\n", ""));
        assert_eq!(signed(reply).await, expected, "{status}");
    }
}

#[tokio::test]
async fn the_wait_that_the_authority_asks_for_is_passed_on() {
    for (header, wait_ms) in [
        ("retry-after: 30\r\n", Some(30_000)),
        ("retry-after: Sun, 06 Nov 1994 08:50:07 GMT\r\n", Some(30_000)),
        ("retry-after: soon\r\n", None),
        ("", None),
    ] {
        let too_many = signed(Reply::Send(answer("429 Too Many", header, ""))).await;
        assert_eq!(too_many, CallOutcome::TooMany { retry_after_ms: wait_ms }, "{header}");
        let reason = Failure::Status(StatusCode::BAD_GATEWAY);
        let unwell = signed(Reply::Send(answer("502 Bad Gateway", header, ""))).await;
        assert_eq!(unwell, CallOutcome::Failed { reason, retry_after_ms: wait_ms }, "{header}");
    }
}

#[tokio::test]
async fn what_is_no_signature_fails_though_it_comes_with_200() {
    let typed = |kind: &str, body: &str| {
        Reply::Send(answer("200 OK", &format!("content-type: {kind}\r\n"), body))
    };
    let longest = "x".repeat(SEAL_ANSWER_BYTES_MAX);
    for (reply, expected) in [
        (plain(""), Failure::Empty),
        (plain(" \r\n"), Failure::Empty),
        (plain(&format!("{longest}x")), Failure::TooLong),
        (typed("text/html", "<!doctype html><title>Hotel Wi-Fi</title>"), Failure::NotText),
        (typed("text/html", "<html>"), Failure::NotText),
        (typed("text/html", "Service is starting"), Failure::NotText),
        (typed("text/html", "c2ln\nbmF0"), Failure::NotText),
        (typed("application/json", "{\"error\":1}"), Failure::NotText),
        (typed("application/json", "\"c2ln\""), Failure::NotText),
        (Reply::Close(b"HTTP/1.1 200 OK\r\n\r\n\xff\xfe".to_vec()), Failure::NotText),
    ] {
        let shown = format!("{reply:?}");
        assert_eq!(signed(reply).await, failed(expected), "{shown:.200}");
    }
    for (reply, signature) in [
        (plain(&longest), longest.as_str()),
        (plain("two words\nand lines"), "two words\nand lines"),
        (typed("text/plain; charset=utf-8", "é"), "é"),
        (typed("TEXT/PLAIN", "s"), "s"),
        // What frameworks say of a text when nobody told them.
        (typed("text/html; charset=utf-8", "c2ln+/=="), "c2ln+/=="),
        (typed("application/octet-stream", "c2ln-_"), "c2ln-_"),
        (Reply::Send(answer("200 OK", "", "c2ln")), "c2ln"),
    ] {
        assert_eq!(signed(reply).await, CallOutcome::Done(signature.to_owned()));
    }
}

#[tokio::test]
async fn faults_of_the_connection_are_failed_calls() {
    let fault = |fault| failed(Failure::Fault(fault));
    assert_eq!(signed(Reply::Close(Vec::new())).await, fault(CallFault::Closed));
    assert_eq!(signed(Reply::Close(b"garbage\r\n\r\n".to_vec())).await, fault(CallFault::Broken));
    let half = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf".to_vec();
    assert_eq!(signed(Reply::Close(half)).await, fault(CallFault::CutOff));
}

#[tokio::test]
async fn a_call_has_one_deadline_for_head_and_body() {
    for (reply, phase) in [
        (Reply::Hang(Vec::new()), Phase::Head),
        (Reply::Hang(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n".to_vec()), Phase::Body),
    ] {
        let (server, authority) = at(reply).await;
        let stop = async {
            server.until(|seen| seen.requests.len() == 1).await;
            tokio::time::pause();
            tokio::time::Instant::now()
        };
        let (outcome, began) = tokio::join!(authority.sign("m", NOW), stop);
        assert!(began.elapsed() <= Duration::from_millis(10_000 + 1));
        assert_eq!(outcome, failed(Failure::Fault(CallFault::TimedOut { phase })));
        tokio::time::resume();
    }
}

#[tokio::test]
async fn a_message_that_no_call_can_carry_fails_without_one() {
    let (server, authority) = at(plain("s")).await;
    let longest = "x".repeat(crate::limits::SEAL_TARGET_BYTES_MAX - "/crypto/sign?message=".len());
    assert_eq!(authority.sign(&longest, NOW).await, CallOutcome::Done("s".to_owned()));
    let longer = format!("{longest}x");
    assert_eq!(authority.sign(&longer, NOW).await, failed(Failure::Unsendable));
    assert_eq!(server.seen().requests.len(), 1);
}

#[tokio::test]
async fn with_a_public_key_only_its_signatures_are_signatures() {
    use aws_lc_rs::encoding::AsDer as _;
    use aws_lc_rs::rsa::{KeyPair, KeySize};
    use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    let pair = KeyPair::generate(KeySize::Rsa2048).expect("a key");
    let der = pair.public_key().as_der();
    let base64 = STANDARD.encode(der.expect("a key").as_ref());
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{base64}\n-----END PUBLIC KEY-----\n");
    let public = AuthorityKey::from_pem(pem.as_bytes()).expect("a key");
    let random = aws_lc_rs::rand::SystemRandom::new();
    let mut signature = vec![0; 256];
    pair.sign(&RSA_PKCS1_SHA256, &random, b"m", &mut signature).expect("a signature");
    let signature = format!("{}\n", STANDARD.encode(&signature));

    let server = Server::start(vec![plain(&signature)]).await;
    let key = || KEY.parse().expect("a key");
    let client = Client::new(Vet::none(), &Tls::public());
    let authority = Authority::new(client, server.url(""), key(), Some(public), 10_000);
    assert_eq!(authority.sign("m", NOW).await, CallOutcome::Done(signature.clone()));
    assert_eq!(authority.sign("n", NOW).await, failed(Failure::WrongSignature));
    assert_eq!(authority.verify_here("m", &signature), Some(true));
    assert_eq!(authority.verify_here("n", &signature), Some(false));
    assert_eq!(at(plain("s")).await.1.verify_here("m", &signature), None);
}

#[tokio::test]
async fn the_authority_is_asked_whether_a_signature_is_its_own() {
    for (status, expected) in [
        ("200 OK", CallOutcome::Done(true)),
        ("400 Bad Request", CallOutcome::Done(false)),
        ("422 Unprocessable", CallOutcome::Done(false)),
        ("404 Not Found", failed(Failure::Status(StatusCode::NOT_FOUND))),
        ("500 Oh", failed(Failure::Status(StatusCode::INTERNAL_SERVER_ERROR))),
        ("429 Too Many", CallOutcome::TooMany { retry_after_ms: None }),
        ("401 Unauthorized", CallOutcome::Unauthorised),
    ] {
        let (server, authority) = at(Reply::Send(answer(status, "", "text"))).await;
        assert_eq!(authority.verify("a b", "c+/=", NOW).await, expected, "{status}");
        let request = server.seen().requests.remove(0);
        let line = "GET /crypto/verify?message=a%20b&signature=c%2B%2F%3D HTTP/1.1\r\n";
        assert!(request.starts_with(line), "{request}");
    }
}

#[tokio::test]
async fn no_signature_is_valid_because_a_page_or_a_denial_came_with_200() {
    for (kind, body, expected) in [
        ("text/html", "<title>Hotel Wi-Fi</title>", failed(Failure::NotText)),
        ("application/xhtml+xml", "hello", failed(Failure::NotText)),
        ("text/plain", " <!doctype html>", failed(Failure::NotText)),
        ("application/json", "{\"valid\": false}", CallOutcome::Done(false)),
        ("application/json", "{\"valid\": true}", CallOutcome::Done(true)),
        ("text/plain", "", CallOutcome::Done(true)),
    ] {
        let reply = answer("200 OK", &format!("content-type: {kind}\r\n"), body);
        let (_server, authority) = at(Reply::Send(reply)).await;
        assert_eq!(authority.verify("m", "s", NOW).await, expected, "{kind} {body}");
    }
}

#[tokio::test]
async fn a_probe_tells_whether_somebody_is_there_who_accepts_the_key() {
    for (status, expected) in [
        ("200 OK", CallOutcome::Done(StatusCode::OK)),
        ("404 Not Found", CallOutcome::Done(StatusCode::NOT_FOUND)),
        ("403 Forbidden", CallOutcome::Unauthorised),
        ("502 Bad Gateway", failed(Failure::Status(StatusCode::BAD_GATEWAY))),
    ] {
        let (server, authority) = at(Reply::Send(answer(status, "", "hello"))).await;
        assert_eq!(authority.probe(NOW).await, expected, "{status}");
        assert!(server.seen().requests[0].starts_with("GET / HTTP/1.1\r\n"));
        assert!(server.seen().requests[0].contains(KEY));
    }
}

#[tokio::test]
async fn the_key_goes_to_nobody_else_and_is_never_shown() {
    let elsewhere = Server::start(vec![plain("caught")]).await;
    let location = format!("location: http://{}/\r\n", elsewhere.address);
    let (_server, authority) = at(Reply::Send(answer("307 Elsewhere", &location, ""))).await;
    let outcome = authority.sign("m", NOW).await;
    assert_eq!(elsewhere.seen().connections, 0);
    assert!(!format!("{authority:?} {outcome:?}").contains(KEY));
}

#[test]
fn a_key_is_what_can_stand_in_a_header() {
    for good in ["k", "Bearer abc.def-ghi", &"x".repeat(1000)] {
        assert!(good.parse::<SealKey>().is_ok(), "{good}");
    }
    for wrong in ["", " ", " k", "k ", "k\n", "k\r\nx: y", "schlüssel", "k\0", "\u{200b}k"] {
        assert_eq!(wrong.parse::<SealKey>().err(), Some(MalformedKey), "{wrong:?}");
    }
    let key: SealKey = KEY.parse().expect("a key");
    assert!(key.0.is_sensitive());
    assert_eq!(format!("{key:?}"), "SealKey(…)");
}

#[tokio::test]
async fn a_base_with_a_path_is_kept_and_its_query_left_out() {
    let server = Server::start(vec![plain("s")]).await;
    let authority = authority(target(&format!("http://{}/v1/?x=y", server.address)));
    assert_eq!(authority.sign("m", NOW).await, CallOutcome::Done("s".to_owned()));
    assert_eq!(authority.probe(NOW).await, CallOutcome::Done(StatusCode::OK));
    let requests = server.seen().requests;
    assert!(requests[0].starts_with("GET /v1/crypto/sign?message=m HTTP/1.1\r\n"));
    assert!(requests[1].starts_with("GET /v1/ HTTP/1.1\r\n"));
}
