//! The specification's reference vector, and everything that must not pass for it.

use super::*;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
const SIGNED_S: u64 = 1_614_265_330;
const BODY: &[u8] = br#"{"test": 2432232314}"#;
const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

fn secret(text: &str) -> Secret {
    Secret::parse(text).expect("a secret")
}

/// The key pair of RFC 8032, section 7.1, test 1.
fn private() -> (Secret, &'static str) {
    let seed = "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=";
    (secret(&format!("whsk_{seed}")), "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=")
}

fn with(headers: &HeaderMap, name: &HeaderName, value: &str) -> HeaderMap {
    let mut headers = headers.clone();
    headers.insert(name.clone(), HeaderValue::from_str(value).expect("a value"));
    headers
}

fn verify_now(secrets: &[Secret], headers: &HeaderMap, body: &[u8]) -> Result<(), Forged> {
    verify(secrets, headers, body, SIGNED_S, 300)
}

#[test]
fn the_reference_vector_is_signed_as_everywhere() {
    let secrets = [secret(SECRET)];
    assert_eq!(sign(&secrets, ID, SIGNED_S, BODY), SIGNATURE);
    let headers = headers(&secrets, ID, SIGNED_S, BODY);
    assert_eq!(headers[WEBHOOK_ID], ID);
    assert_eq!(headers[WEBHOOK_TIMESTAMP], "1614265330");
    assert_eq!(headers[WEBHOOK_SIGNATURE], SIGNATURE);
    assert_eq!(verify_now(&secrets, &headers, BODY), Ok(()));
}

#[test]
fn whatever_is_changed_is_noticed() {
    let secrets = [secret(SECRET)];
    let good = headers(&secrets, ID, SIGNED_S, BODY);
    let forged = Err(Forged::Signature);
    assert_eq!(verify_now(&secrets, &good, b"{\"test\": 2432232315}"), forged);
    assert_eq!(verify_now(&secrets, &good, b""), forged);
    assert_eq!(verify_now(&secrets, &with(&good, &WEBHOOK_ID, "msg_other"), BODY), forged);
    assert_eq!(verify_now(&secrets, &with(&good, &WEBHOOK_TIMESTAMP, "1614265331"), BODY), forged);
    let other = [Secret::shared(&[7; 24]).expect("long enough")];
    assert_eq!(verify_now(&other, &good, BODY), forged);
    assert_eq!(verify_now(&[], &good, BODY), forged);
    for wrong in [
        "",
        "v1",
        "v1,",
        "v1,????",
        "v2,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        "v1a,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1A==",
        "v1,g0hM9SsE",
    ] {
        let headers = with(&good, &WEBHOOK_SIGNATURE, wrong);
        assert_eq!(verify_now(&secrets, &headers, BODY), forged, "{wrong}");
    }
}

#[test]
fn one_good_signature_among_others_is_enough_but_not_behind_any_number() {
    let secrets = [secret(SECRET)];
    let good = headers(&secrets, ID, SIGNED_S, BODY);
    let behind = |others: usize| {
        let value = format!("{}{SIGNATURE}", "v1,AAAA ".repeat(others));
        verify_now(&secrets, &with(&good, &WEBHOOK_SIGNATURE, &value), BODY)
    };
    assert_eq!(behind(HOOK_SIGNATURES_MAX - 1), Ok(()));
    assert_eq!(behind(HOOK_SIGNATURES_MAX), Err(Forged::Signature));
}

#[test]
fn while_a_secret_is_rotated_both_the_old_and_the_new_one_verify() {
    let (old, new) = (secret(SECRET), Secret::shared(&[9; 64]).expect("short enough"));
    let headers = headers(&[new.clone(), old.clone()], ID, SIGNED_S, BODY);
    let value = headers[WEBHOOK_SIGNATURE].to_str().expect("text");
    assert_eq!(value.split(' ').count(), 2);
    assert!(value.ends_with(SIGNATURE));
    assert_eq!(verify_now(&[old], &headers, BODY), Ok(()));
    assert_eq!(verify_now(&[new], &headers, BODY), Ok(()));
}

#[test]
fn a_delivery_is_trusted_as_long_as_the_clocks_may_differ_and_no_longer() {
    let secrets = [secret(SECRET)];
    let headers = headers(&secrets, ID, SIGNED_S, BODY);
    let at = |now_s| verify(&secrets, &headers, BODY, now_s, 300);
    assert_eq!(at(SIGNED_S + 300), Ok(()));
    assert_eq!(at(SIGNED_S + 301), Err(Forged::TooOld));
    assert_eq!(at(SIGNED_S - 300), Ok(()));
    assert_eq!(at(SIGNED_S - 301), Err(Forged::TooNew));
    assert_eq!(at(0), Err(Forged::TooNew));
    assert_eq!(at(u64::MAX), Err(Forged::TooOld));
    for wrong in ["", "-1", "1.5", "soon", "99999999999999999999", " 1614265330x"] {
        let headers = with(&headers, &WEBHOOK_TIMESTAMP, wrong);
        assert_eq!(verify_now(&secrets, &headers, BODY), Err(Forged::Timestamp), "{wrong}");
    }
    // Another spelling of the same number is not what was signed.
    let spelt = with(&headers, &WEBHOOK_TIMESTAMP, "01614265330");
    assert_eq!(verify_now(&secrets, &spelt, BODY), Err(Forged::Signature));
}

#[test]
fn each_header_is_needed_once() {
    let secrets = [secret(SECRET)];
    let good = headers(&secrets, ID, SIGNED_S, BODY);
    for name in [WEBHOOK_ID, WEBHOOK_TIMESTAMP, WEBHOOK_SIGNATURE] {
        let mut missing = good.clone();
        missing.remove(&name);
        assert_eq!(verify_now(&secrets, &missing, BODY), Err(Forged::Headers), "{name}");
        let mut twice = good.clone();
        twice.append(&name, good[&name].clone());
        assert_eq!(verify_now(&secrets, &twice, BODY), Err(Forged::Headers), "{name}");
    }
    let mut opaque = good.clone();
    opaque.insert(WEBHOOK_ID, HeaderValue::from_bytes(b"\xff").expect("opaque"));
    assert_eq!(verify_now(&secrets, &opaque, BODY), Err(Forged::Headers));
}

#[test]
fn a_private_key_signs_what_its_public_key_verifies() {
    let (private, public) = private();
    assert_eq!(private.public_key(), Some(format!("whpk_{public}")));
    let headers = headers(&[private.clone(), secret(SECRET)], ID, SIGNED_S, BODY);
    let value = headers[WEBHOOK_SIGNATURE].to_str().expect("text");
    assert!(value.starts_with("v1a,") && value.ends_with(SIGNATURE), "{value}");
    assert_eq!(verify_now(std::slice::from_ref(&private), &headers, BODY), Ok(()));
    let tampered = verify_now(&[private], &headers, b"{}");
    assert_eq!(tampered, Err(Forged::Signature));
}

#[test]
fn a_signature_of_rfc_8032_is_the_same_here() {
    // Section 7.1, test 2: one byte, 0x72.
    let seed = "TM0Imyj/ltqdtsNG7BFOD1uKMZ81q6Yk2oz27U+4pvs=";
    let signed = "kqAJqfDUyrhyDoILX2QlQKKye1QWUD+Ps3YiI+vbadoIWsHkPhWZbkWPNhPQ8R2MOHsurrQwKu6wDSkW\
                  ErsMAA==";
    assert_eq!(secret(&format!("whsk_{seed}")).sign(b"\x72"), format!("v1a,{signed}"));
}

#[test]
fn secrets_are_read_as_they_are_written_and_nothing_else_is() {
    for text in [SECRET, &format!("whsec_{}", BASE64.encode([1; 64]))] {
        assert_eq!(secret(text).reveal(), text);
    }
    let (private, public) = private();
    assert_eq!(secret(&private.reveal()), private);
    assert!(secret(SECRET).public_key().is_none());
    // Base64 without its padding, and a private key with its public one behind it.
    assert_eq!(secret(&format!("whsec_{}", "A".repeat(34))).bytes.len(), 25);
    let pair = [&private.bytes[..], &BASE64.decode(public).expect("base64")].concat();
    assert_eq!(secret(&format!("whsk_{}", BASE64.encode(&pair))), private);

    let shared = |bytes: usize| format!("whsec_{}", BASE64.encode(vec![1; bytes]));
    let wrong_pair = [[1; 32], [2; 32]].concat();
    for (text, fault) in [
        (String::new(), SecretFault::Prefix),
        ("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned(), SecretFault::Prefix),
        ("WHSEC_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned(), SecretFault::Prefix),
        ("whpk_11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=".to_owned(), SecretFault::Prefix),
        ("whsec_not base64".to_owned(), SecretFault::NotBase64),
        (format!("{SECRET}\n"), SecretFault::NotBase64),
        ("whsec_".to_owned(), SecretFault::Length(0)),
        (shared(23), SecretFault::Length(23)),
        (shared(65), SecretFault::Length(65)),
        ("whsk_".to_owned(), SecretFault::KeyPair),
        (format!("whsk_{}", BASE64.encode([1; 31])), SecretFault::KeyPair),
        (format!("whsk_{}", BASE64.encode([1; 33])), SecretFault::KeyPair),
        (format!("whsk_{}", BASE64.encode(wrong_pair)), SecretFault::KeyPair),
    ] {
        assert_eq!(Secret::parse(&text).err(), Some(fault), "{text:?}");
    }
    assert!(Secret::parse(&shared(24)).is_ok() && Secret::parse(&shared(64)).is_ok());
}

#[test]
fn secrets_are_compared_whole_and_never_shown() {
    assert_eq!(secret(SECRET), secret(SECRET));
    assert_ne!(secret(SECRET), Secret::shared(&[1; 24]).expect("long enough"));
    let bytes = [3; 32];
    let private = secret(&format!("whsk_{}", BASE64.encode(bytes)));
    assert_ne!(Secret::shared(&bytes).expect("long enough"), private);
    assert_eq!(format!("{:?}", [secret(SECRET), private]), "[Secret(…), Secret(…)]");
}
