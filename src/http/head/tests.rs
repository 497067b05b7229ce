//! Heads, to the letter and at random.

use super::*;
use crate::tests::random;

fn vet_text(head: &str) -> Result<Option<Vetted>, Refusal> {
    vet(head.replace('\n', "\r\n").as_bytes())
}

fn framing(lines: &str) -> Result<Framing, Refusal> {
    let vetted = vet_text(&format!("POST /formulas HTTP/1.1\nHost: x\n{lines}\n"))?;
    Ok(vetted.expect("the head is complete").framing)
}

#[test]
fn a_plain_head_is_in_order() {
    let text = b"GET /formulas?limit=1 HTTP/1.1\r\nHost: localhost:8080\r\n\r\nrest";
    let vetted = Vetted { bytes: text.len() - 4, framing: Framing::Length(0) };
    assert_eq!(vet(text), Ok(Some(vetted)));
}

#[test]
fn every_prefix_of_a_head_waits_for_more() {
    let text = b"POST http://x/formulas HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n";
    for len in 0..text.len() {
        assert_eq!(vet(&text[..len]), Ok(None), "{len} bytes");
    }
}

#[test]
fn bodies_are_framed_by_length_or_chunks() {
    assert_eq!(framing(""), Ok(Framing::Length(0)));
    assert_eq!(framing("Content-Length: 42\n"), Ok(Framing::Length(42)));
    assert_eq!(framing("Transfer-Encoding: Chunked\n"), Ok(Framing::Chunked));
}

#[test]
fn ambiguous_framing_is_refused() {
    for (lines, refusal) in [
        ("Content-Length: 5\nTransfer-Encoding: chunked\n", Refusal::FramedTwice),
        ("Transfer-Encoding: chunked\nContent-Length: 5\n", Refusal::FramedTwice),
        ("Content-Length: 5\nContent-Length: 5\n", Refusal::ContentLength),
        ("Content-Length: 5, 5\n", Refusal::ContentLength),
        ("Content-Length: +5\n", Refusal::ContentLength),
        ("Content-Length: -1\n", Refusal::ContentLength),
        ("Content-Length:\n", Refusal::ContentLength),
        ("Content-Length: 18446744073709551616\n", Refusal::ContentLengthHuge),
        ("Content-Length: 18446744073709551615\n", Refusal::ContentLengthHuge),
        ("Transfer-Encoding: gzip\n", Refusal::TransferEncoding),
        ("Transfer-Encoding: chunked, gzip\n", Refusal::TransferEncoding),
        ("Transfer-Encoding: gzip, chunked\n", Refusal::TransferCoding),
        ("Transfer-Encoding: chunked\nTransfer-Encoding: chunked\n", Refusal::TransferEncoding),
    ] {
        assert_eq!(framing(lines), Err(refusal), "{lines}");
    }
    let old = vet_text("POST / HTTP/1.0\nTransfer-Encoding: chunked\n\n");
    assert_eq!(old, Err(Refusal::TransferEncoding));
}

#[test]
fn hosts_are_counted() {
    assert_eq!(vet_text("GET / HTTP/1.1\n\n"), Err(Refusal::HostMissing));
    assert_eq!(vet_text("GET / HTTP/1.1\nHost: a\nHost: a\n\n"), Err(Refusal::HostInvalid));
    assert_eq!(vet_text("GET / HTTP/1.1\nHost: a/b\n\n"), Err(Refusal::HostInvalid));
    assert!(vet_text("GET / HTTP/1.0\n\n").is_ok_and(|vetted| vetted.is_some()));
}

#[test]
fn request_lines_and_targets_are_judged() {
    for (line, refusal) in [
        ("\u{16}\u{3}\u{1}", Refusal::RequestLine),
        ("GET", Refusal::RequestLine),
        ("GET /a b HTTP/1.1", Refusal::Version),
        ("GET / HTTP/2.0", Refusal::Version),
        ("GET formulas HTTP/1.1", Refusal::Target),
        ("GET /a\u{7f} HTTP/1.1", Refusal::Target),
        ("GET /<> HTTP/1.1", Refusal::Target),
    ] {
        let found = vet_text(&format!("{line}\nHost: x\n\n"));
        assert_eq!(found, Err(refusal), "{line:?}");
    }
    for line in ["OPTIONS * HTTP/1.1", "GET http://x/ HTTP/1.1", "GET /a;b,c:d@e HTTP/1.1"] {
        assert!(vet_text(&format!("{line}\nHost: x\n\n")).is_ok_and(|v| v.is_some()), "{line}");
    }
}

#[test]
fn header_lines_are_judged() {
    for lines in ["a b: c\n", "x : y\n", ": y\n", "no colon\n", "a: b\n folded\n", "a: \u{1}\n"] {
        assert_eq!(framing(lines), Err(Refusal::HeaderLine), "{lines:?}");
    }
}

#[test]
fn limits_hold_at_their_edge() {
    let headers = |count: usize| framing(&"a: b\n".repeat(count - 1));
    assert!(headers(HEADERS_MAX).is_ok());
    assert_eq!(headers(HEADERS_MAX + 1), Err(Refusal::TooManyHeaders));

    let target =
        |len: usize| vet_text(&format!("GET /{} HTTP/1.1\nHost: x\n\n", "a".repeat(len - 1)));
    assert!(target(TARGET_BYTES_MAX).is_ok());
    assert_eq!(target(TARGET_BYTES_MAX + 1), Err(Refusal::TargetTooLong));
    assert_eq!(target(2 * HEAD_BYTES_MAX), Err(Refusal::TargetTooLong));

    let head = |bytes: usize| {
        let frame = "GET / HTTP/1.1\r\nHost: x\r\na: \r\n\r\n".len();
        vet_text(&format!("GET / HTTP/1.1\nHost: x\na: {}\n\n", "b".repeat(bytes - frame)))
    };
    assert!(head(HEAD_BYTES_MAX).is_ok());
    assert_eq!(head(HEAD_BYTES_MAX + 1), Err(Refusal::TooLarge));
    let endless = format!("GET / HTTP/1.1\r\na: {}", "b".repeat(HEAD_BYTES_MAX));
    assert_eq!(vet(endless.as_bytes()), Err(Refusal::TooLarge));
}

/// Whatever is vetted, hyper must accept: its own refusals carry no problem document.
#[test]
fn a_vetted_head_is_made_of_what_hyper_accepts() {
    let mut random = random();
    let base =
        b"POST /formulas/7?a=b%20c HTTP/1.1\r\nHost: x:1\r\nContent-Length: 5\r\nX: y\r\n\r\n";
    for _ in 0..100_000 {
        let mut head = base.to_vec();
        for _ in 0..random.usize(1..4) {
            let at = random.usize(..head.len());
            head[at] = if random.bool() { random.u8(..) } else { base[random.usize(..base.len())] };
        }
        if let Ok(Some(vetted)) = vet(&head) {
            assert_hyper_accepts(&head[..vetted.bytes]);
        }
    }
}

/// The steps of hyper's own parser that can fail after httparse.
fn assert_hyper_accepts(head: &[u8]) {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    request.parse(head).expect("httparse accepts it");
    let method = request.method.expect("it is complete").as_bytes();
    hyper::Method::from_bytes(method).expect("a method");
    request.path.expect("it is complete").parse::<hyper::Uri>().expect("a target");
    for header in request.headers {
        hyper::header::HeaderName::from_bytes(header.name.as_bytes()).expect("a name");
        hyper::header::HeaderValue::from_bytes(header.value).expect("a value");
    }
}
