//! What is JSON and what is not, beside another reader of it.

use serde::de::IgnoredAny;

use super::*;
use crate::tests::random;

fn skip_all(body: &[u8]) -> Result<(), Malformed> {
    let mut reader = Reader::new(body)?;
    reader.skip()?;
    reader.finish()
}

fn trouble(body: &str) -> String {
    skip_all(body.as_bytes()).expect_err(body).to_string()
}

#[test]
fn trouble_is_named_with_its_place() {
    for (body, text) in [
        ("", "byte 0: unexpected end"),
        ("  ", "byte 2: unexpected end"),
        (r#"{"name":"#, "byte 8: unexpected end"),
        (r#"{"name"#, "byte 6: unexpected end"),
        ("[1,", "byte 3: unexpected end"),
        ("[1,]", "byte 3: expected a value"),
        ("[1 2]", "byte 3: expected ',' or ']'"),
        (r#"{"a":1 "b":2}"#, "byte 7: expected ',' or '}'"),
        (r#"{"a" 1}"#, "byte 5: expected ':'"),
        (r#"{"a":1,}"#, "byte 7: expected a member name"),
        ("{a:1}", "byte 1: expected a member name"),
        ("{'a':1}", "byte 1: expected a member name"),
        ("[}", "byte 1: expected a value"),
        ("nul", "byte 0: expected a value"),
        ("NaN", "byte 0: expected a value"),
        ("Infinity", "byte 0: expected a value"),
        ("-Infinity", "byte 0: no valid number"),
        ("true false", "byte 5: text after the end of the value"),
        ("{}{}", "byte 2: text after the end of the value"),
        ("\u{feff}{}", "byte 0: byte order mark"),
        ("\"a\nb\"", "byte 2: control character in a string"),
        (r#""\x""#, "byte 2: unknown escape"),
        (r#""\u12g4""#, "byte 2: unknown escape"),
        (r#""\u123"#, "byte 2: unknown escape"),
        (r#""\ud800\u00""#, "byte 7: unknown escape"),
        (r#""\"#, "byte 2: unexpected end"),
    ] {
        assert_eq!(trouble(body), format!("malformed JSON at {text}"), "{body}");
    }
}

#[test]
fn numbers_outside_the_grammar_are_malformed() {
    for body in ["01", "-01", "1.", "1.e1", "1e", "1e+", "-", "00", "1.2.3", "0x1", "1_0", "-a"] {
        assert!(skip_all(body.as_bytes()).is_err(), "{body}");
        assert!(Number::whole_text(body).is_none(), "{body}");
    }
    for body in ["+1", ".5", "1 ", " 1", "", "1,5", "١"] {
        assert!(Number::whole_text(body).is_none(), "{body}");
    }
    for body in ["0", "-0", "10", "0.5", "-0.0", "1e5", "1E-05", "1.5e+10"] {
        assert_eq!(Number::whole_text(body).unwrap().text, body);
        assert_eq!(skip_all(body.as_bytes()), Ok(()), "{body}");
    }
}

#[test]
fn bytes_that_are_no_utf8_are_malformed() {
    let not_utf8 = |offset| Err(Malformed { offset, syntax: Syntax::NotUtf8 });
    assert_eq!(skip_all(b"\"\xff\""), not_utf8(1));
    assert_eq!(skip_all(b"\"\xc0\xaf\""), not_utf8(1));
    assert_eq!(skip_all(b"\"ab\xed\xa0\x80\""), not_utf8(3));
    assert_eq!(
        skip_all(b"{\x00}"),
        Err(Malformed { offset: 1, syntax: Syntax::Expected(Expected::MemberName) })
    );
}

#[test]
fn depth_is_bounded() {
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    assert_eq!(skip_all(nested(32).as_bytes()), Ok(()));
    assert_eq!(trouble(&nested(33)), "malformed JSON at byte 32: nested deeper than 32 levels");
    assert_eq!(
        trouble(&"[{\"a\":".repeat(100_000)),
        "malformed JSON at byte 96: nested deeper than 32 levels"
    );
    let siblings = format!("[{}[]]", "[[]],{},".repeat(1000));
    assert_eq!(skip_all(siblings.as_bytes()), Ok(()));
}

fn text_of(body: &str) -> Text<'_> {
    let mut reader = Reader::new(body.as_bytes()).unwrap();
    assert_eq!(reader.kind(), Ok(Kind::Text));
    let text = reader.text().unwrap();
    reader.finish().unwrap();
    text
}

#[test]
fn escapes_are_resolved() {
    let text = text_of(r#" "\"\\\/\b\f\n\r\t\u00e9\u00E9\ud83c\udf39é" "#);
    assert_eq!(text.value, "\"\\/\u{8}\u{c}\n\r\téé🌹é");
    assert!(!text.has_lone_surrogate);
    assert!(matches!(text_of("\"plain é\"").value, Cow::Borrowed("plain é")));
}

#[test]
fn lone_surrogates_are_marked() {
    for (body, value) in [
        (r#""\ud800""#, "\u{fffd}"),
        (r#""\udc00x""#, "\u{fffd}x"),
        (r#""\ud800\n""#, "\u{fffd}\n"),
        (r#""\ud800\ud83c\udf39""#, "\u{fffd}🌹"),
        (r#""\ud800\u0041""#, "\u{fffd}A"),
        (r#""\udf39\ud83c""#, "\u{fffd}\u{fffd}"),
    ] {
        let text = text_of(body);
        assert_eq!(text.value, value, "{body}");
        assert!(text.has_lone_surrogate, "{body}");
    }
}

#[test]
fn plain_len_stops_at_the_first_special_byte() {
    let mut random = random();
    for _ in 0..20_000 {
        let len = random.usize(0..40);
        let usual = |random: &mut fastrand::Rng| random.u8(b'0'..);
        let mut bytes: Vec<u8> = (0..len).map(|_| usual(&mut random)).collect();
        for _ in 0..random.usize(0..4) {
            if let Some(byte) = random.choice(&mut bytes) {
                *byte = random.u8(..);
            }
        }
        let is_special = |byte: &u8| *byte < b' ' || *byte == b'"' || *byte == b'\\';
        let expected = bytes.iter().position(is_special).unwrap_or(len);
        assert_eq!(plain_len(&bytes), expected, "{bytes:?}");
    }
}

/// Whether serde_json takes it for JSON. `IgnoredAny` looks at the grammar only.
fn is_json(body: &[u8]) -> bool {
    std::str::from_utf8(body).is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok())
}

#[test]
fn serde_json_agrees_on_what_is_json() {
    const TOKENS: [&str; 32] = [
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"a\"",
        "\"",
        "\\",
        "\\u00e9",
        "\\ud800",
        "\"\\n\"",
        "0",
        "1",
        "-",
        "-0",
        ".",
        "e",
        "E+",
        "1.5",
        "1e5",
        "true",
        "false",
        "null",
        " ",
        "\n",
        "\t",
        "\"b\":",
        "{\"c\":1}",
        "[2]",
        "é",
        "\u{1}",
    ];
    let mut random = random();
    let mut agreed_json = 0;
    for _ in 0..200_000 {
        let len = random.usize(1..9);
        let body: String = (0..len).map(|_| *random.choice(&TOKENS).unwrap()).collect();
        let ours = skip_all(body.as_bytes());
        assert_eq!(ours.is_ok(), is_json(body.as_bytes()), "{body} {ours:?}");
        agreed_json += usize::from(ours.is_ok());
    }
    assert!(agreed_json > 1000, "only {agreed_json} bodies were JSON");
}

#[test]
fn serde_json_agrees_on_mutated_bodies() {
    let good = br#"{"name":"\u00c9t\u00e9 \"1\"","materials":[{"name":"Ros\ud83c\udf39",
        "concentration":-1.5e+1},{"name":"a/b\\c","concentration":"0.10"},
        {"x":[null,true,false,{}],"concentration":0}]}"#;
    assert!(is_json(good));
    let mut random = random();
    for _ in 0..100_000 {
        let mut body = good.to_vec();
        for _ in 0..random.usize(1..4) {
            let at = random.usize(..body.len());
            match random.u8(..4) {
                0 => body[at] = random.u8(..),
                1 => body[at] = good[random.usize(..good.len())],
                2 => drop(body.remove(at)),
                _ => body.insert(at, good[random.usize(..good.len())]),
            }
        }
        let ours = skip_all(&body);
        assert_eq!(ours.is_ok(), is_json(&body), "{:?} {ours:?}", body.escape_ascii().to_string());
    }
}
