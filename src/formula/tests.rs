//! Golden fingerprints, and what a formula keeps.

use serde_json::Value;

use super::*;

pub(super) fn accepted(body: &str) -> Checked {
    parse(body.as_bytes(), &Rules::default()).unwrap_or_else(|invalid| panic!("{body}: {invalid}"))
}

fn golden_cases() -> Vec<Value> {
    let text = include_str!("../../data/golden/v1/fingerprints.json");
    let golden: Value = serde_json::from_str(text).unwrap();
    assert_eq!(golden["canon"], CANON);
    golden["cases"].as_array().unwrap().clone()
}

#[test]
fn fingerprints_are_those_of_the_second_implementation() {
    let cases = golden_cases();
    assert_eq!(cases.len(), 20);
    for case in cases {
        let checked = accepted(case["body"].as_str().unwrap());
        assert_eq!(checked.fingerprint.to_string(), case["fingerprint"], "{}", case["why"]);
        assert_eq!(fingerprint(&checked.formula), checked.fingerprint, "{}", case["why"]);
    }
}

#[test]
fn canonical_lines_are_what_is_hashed() {
    for case in golden_cases() {
        let checked = accepted(case["body"].as_str().unwrap());
        let lines = canonical_lines(&checked.formula);
        let mut bytes = b"canon1".to_vec();
        bytes.extend(u32::try_from(lines.len()).unwrap().to_be_bytes());
        for (key, concentration) in &lines {
            bytes.extend(u32::try_from(key.len()).unwrap().to_be_bytes());
            bytes.extend(key.as_bytes());
            bytes.extend(concentration::stored(concentration).unwrap().to_be_bytes());
        }
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, case["canonical"], "{}", case["why"]);
    }
}

#[test]
fn fingerprint_reads_back_only_its_own_spelling() {
    let fingerprint = Fingerprint(std::array::from_fn(|index| u8::try_from(index * 8).unwrap()));
    let text = fingerprint.to_string();
    assert_eq!(text, "0008101820283038404850586068707880889098a0a8b0b8c0c8d0d8e0e8f0f8");
    assert_eq!(format!("{fingerprint:?}"), text);
    assert_eq!(text.parse(), Ok(fingerprint));
    for wrong in
        ["", &text[1..], &format!("{text}0"), &text.to_uppercase(), &text.replace('a', "g")]
    {
        assert_eq!(wrong.parse::<Fingerprint>(), Err(MalformedFingerprint), "{wrong}");
    }
}

#[test]
fn formula_keeps_names_and_digits_as_sent() {
    let body = r#"{"materials":[{"concentration":"1.50e1","name":"\t Ros\u00e9 absolute\u00a0"},
        {"name":"Iso  E Super®","concentration":-0.0}],"name":"  Été  🌹 "}"#;
    let formula = accepted(body).formula;
    assert_eq!(formula.name(), "Été  🌹");
    let expected = [("Rosé absolute", "1.50e1"), ("Iso  E Super®", "-0.0")];
    assert_eq!(formula.materials().len(), 2);
    for (line, (name, concentration)) in formula.materials().zip(expected) {
        assert_eq!(line, Material { name, concentration });
    }
}

fn decode(text: &str, ends: &[u32]) -> Result<Formula, DecodeError> {
    let config = bincode::config::standard();
    let bytes = bincode::encode_to_vec((text, ends), config).unwrap();
    bincode::decode_from_slice(&bytes, config).map(|(formula, _)| formula)
}

#[test]
fn formula_survives_its_stored_form() {
    let formula =
        accepted(r#"{"name":"é","materials":[{"name":"α","concentration":1e1}]}"#).formula;
    assert_eq!(formula, decode("éα1e1", &[2, 4, 7]).unwrap());
    let config = bincode::config::standard();
    let bytes = bincode::encode_to_vec(&formula, config).unwrap();
    assert_eq!(bytes, b"\x07\xc3\xa9\xce\xb11e1\x03\x02\x04\x07");
}

#[test]
fn stored_form_that_breaks_an_invariant_is_refused() {
    let broken: [(&str, &[u32]); 10] = [
        ("éα1", &[]),
        ("éα1", &[5]),
        ("éα1", &[4, 5]),
        ("éα11", &[2, 4, 5, 6]),
        ("éα1", &[1, 4, 5]),
        ("éα1", &[4, 2, 5]),
        ("éα1", &[2, 4, 4]),
        ("éα1", &[2, 4, 6]),
        ("éα1", &[2, 4, u32::MAX]),
        ("éα1", &[2, 3, 5]),
    ];
    for (text, ends) in broken {
        assert!(decode(text, ends).is_err(), "{text} {ends:?}");
    }
    for concentration in ["", "x", "-1", "1000001", "01", "1.", "1e-31", " 1", "NaN"] {
        let end = u32::try_from(2 + concentration.len()).unwrap();
        assert!(decode(&format!("ab{concentration}"), &[1, 2, end]).is_err(), "{concentration}");
    }
}
