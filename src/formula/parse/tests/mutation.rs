//! Hostile bodies: nothing panics, and what is accepted is sound.

use super::super::super::Material;
use super::*;
use crate::tests::random;

/// What holds of every accepted formula.
fn check(checked: &Checked, rules: &Rules) {
    let Checked { formula, fingerprint } = checked;
    assert_eq!(*fingerprint, super::super::super::fingerprint(formula));
    let line = |material: Material<'_>| {
        let name = serde_json::to_string(material.name).unwrap();
        format!(r#"{{"name":{name},"concentration":{}}}"#, material.concentration)
    };
    let lines: Vec<String> = formula.materials().map(line).collect();
    let name = serde_json::to_string(formula.name()).unwrap();
    let echo = format!(r#"{{"name":{name},"materials":[{}]}}"#, lines.join(","));
    assert_eq!(
        parse(echo.as_bytes(), rules).as_ref(),
        Ok(checked),
        "the echo is the formula again"
    );
}

#[test]
fn mutated_bodies_never_panic_and_what_is_accepted_is_sound() {
    const TOKENS: [&str; 24] = [
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "\\",
        "\"name\"",
        "\"materials\"",
        "\"concentration\"",
        "0",
        "-",
        "1e9",
        "e-31",
        ".",
        "null",
        "\\ud800",
        "\\u0000",
        "é",
        "™",
        "\u{301}",
        " ",
        "a",
    ];
    let good = r#"{"name":"Été \u00e9","materials":[{"name":"Rose®","concentration":10.50},
        {"concentration":"1e-3","name":"a\\b"},{"name":"cde","concentration":0}]}"#;
    let rules = Rules::default();
    let mut random = random();
    let mut accepted = 0;
    for _ in 0..100_000 {
        let mut body = good.as_bytes().to_vec();
        for _ in 0..random.usize(1..4) {
            let from = random.usize(..body.len());
            let to = (from + random.usize(..4)).min(body.len());
            let token = random.choice(&TOKENS).unwrap().bytes();
            if random.bool() {
                body.splice(from..to, token);
            } else {
                body[from] = random.u8(..);
            }
        }
        if let Ok(checked) = parse(&body, &rules) {
            accepted += 1;
            check(&checked, &rules);
        }
        let array = [b"[", &*body, b",", good.as_bytes(), b"]"].concat();
        if let Ok(items) = parse_array(&array, &rules) {
            assert!(items.last().unwrap().is_ok());
        }
    }
    assert!(accepted > 1000, "only {accepted} bodies were accepted");
}

#[test]
fn random_bytes_never_panic() {
    let mut random = random();
    for _ in 0..100_000 {
        let len = random.usize(..64);
        let body: Vec<u8> = (0..len).map(|_| random.u8(..)).collect();
        assert!(parse(&body, &Rules::default()).is_err());
    }
}
