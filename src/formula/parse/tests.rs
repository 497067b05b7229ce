//! Which bodies are formulas, and every fault of those that are not.

mod bounds;
mod mutation;

use super::super::tests::accepted;
use super::*;

fn refused(body: impl AsRef<[u8]>) -> Invalid {
    parse(body.as_ref(), &Rules::default()).expect_err("the body has a fault")
}

/// Holds each body against the text of all its faults.
#[track_caller]
fn assert_faults(cases: &[(&str, &str)]) {
    for (body, text) in cases {
        let invalid = refused(body);
        assert_eq!(invalid.to_string(), *text, "{body}");
        assert!(!invalid.malformed, "{body}");
    }
}

/// A formula with one line `{"name":"a","concentration":…}`.
fn with_concentration(concentration: &str) -> String {
    format!(r#"{{"name":"A","materials":[{{"name":"a","concentration":{concentration}}}]}}"#)
}

/// A formula with a material of this name, which is a JSON string.
fn with_name(name: &str) -> String {
    format!(r#"{{"name":"A","materials":[{{"name":{name},"concentration":1}}]}}"#)
}

#[test]
fn all_faults_are_told_at_once() {
    assert_faults(&[
        (
            r#"{"name":"x","materials":[{"name":"a","concentration":"high"},
                {"name":"b","concentration":-5}]}"#,
            "/materials/0/concentration: concentration \"high\" is not a number; \
             /materials/1/concentration: concentration is below 0",
        ),
        (
            r#"{"name":" ","materials":[{"name":"","concentration":true},7,{"name":"c"}],
                "unit":"g"}"#,
            "/name: name is empty; /materials/0/name: material name is empty; \
             /materials/0/concentration: concentration is a boolean, \
             must be a number or a decimal string; \
             /materials/1: material is a number, must be an object; \
             /materials/2/concentration: concentration is missing; /unit: unknown member \"unit\"",
        ),
    ]);
}

#[test]
fn missing_members_are_named() {
    assert_faults(&[
        ("{}", "/name: name is missing; /materials: materials is missing"),
        (r#"{"materials":[{"name":"a","concentration":1}]}"#, "/name: name is missing"),
        (r#"{"name":"x"}"#, "/materials: materials is missing"),
        (
            r#"{"name":"x","materials":[{"concentration":1}]}"#,
            "/materials/0/name: material name is missing",
        ),
        (
            r#"{"name":"x","materials":[{"name":"a"}]}"#,
            "/materials/0/concentration: concentration is missing",
        ),
    ]);
}

#[test]
fn values_of_another_type_are_named() {
    assert_faults(&[
        (r#""x""#, "formula is a string, must be an object"),
        ("5", "formula is a number, must be an object"),
        ("null", "formula is null, must be an object"),
        (r#"["x",[["a",1]]]"#, "formula is an array, must be an object"),
        (
            r#"{"name":500,"materials":"not a list"}"#,
            "/name: name is a number, must be a string; \
             /materials: materials is a string, must be an array",
        ),
        (
            r#"{"name":null,"materials":{"name":"a"}}"#,
            "/name: name is null, must be a string; \
             /materials: materials is an object, must be an array",
        ),
        (
            r#"{"name":"x","materials":[["a",1]]}"#,
            "/materials/0: material is an array, must be an object",
        ),
        (
            r#"{"name":"x","materials":[{"name":["a"],"concentration":{"value":1}}]}"#,
            "/materials/0/name: material name is an array, must be a string; \
             /materials/0/concentration: concentration is an object, \
             must be a number or a decimal string",
        ),
        (
            &with_concentration("null"),
            "/materials/0/concentration: concentration is null, \
             must be a number or a decimal string",
        ),
    ]);
}

#[test]
fn members_that_a_formula_does_not_have_are_refused_by_name() {
    let long = "x".repeat(65);
    assert_faults(&[
        (
            r#"{"name":"x","materials":[{"name":"a","concentration":1,"unit":"g"}],
                "Name":{"a":[1]}}"#,
            "/materials/0/unit: unknown member \"unit\"; /Name: unknown member \"Name\"",
        ),
        (
            r#"{"name":"x","materials":[{"name":"a","concentration":1}],"~/\n":1}"#,
            "/~0~1\n: unknown member \"~/\\n\"",
        ),
        (
            &format!(r#"{{"name":"x","materials":[{{"name":"a","concentration":1,"{long}":1}}]}}"#),
            &format!("/materials/0: unknown member \"{}\"", &long[..64]),
        ),
    ]);
}

#[test]
fn members_that_come_twice_are_refused() {
    assert_faults(&[
        (
            r#"{"name":"x","materials":[{"name":"a","concentration":1}],"name":"x"}"#,
            "/name: name comes twice",
        ),
        (
            r#"{"name":"x","materials":[{"name":"a","concentration":1}],
                "materials":[{"name":"b"}]}"#,
            "/materials: materials comes twice",
        ),
        (
            r#"{"name":"x","materials":[{"name":"a","concentration":1,
                "name":"a","concentration":1}]}"#,
            "/materials/0/name: material name comes twice; \
             /materials/0/concentration: concentration comes twice",
        ),
        (
            r#"{"name":5,"n\u0061me":"x","materials":[{"name":"a","concentration":1}]}"#,
            "/name: name is a number, must be a string; /name: name comes twice",
        ),
    ]);
}

#[test]
fn bodies_that_are_no_json_have_one_fault() {
    let line = r#"{"name":"a","concentration":1}"#;
    let good = format!(r#"{{"name":"x","materials":[{line}]}}"#);
    let bodies = [
        String::new(),
        r#"{"name":"#.to_owned(),
        format!("{good}x"),
        format!("{good}{good}"),
        format!("\u{feff}{good}"),
        format!(r#"{{"name":5,"materials":[{line},]}}"#),
        with_concentration("NaN"),
        with_concentration("Infinity"),
        with_concentration("01"),
        with_concentration("+1"),
        with_concentration(".5"),
        with_concentration("1."),
        with_concentration("1e"),
        with_name("\"a\u{1}\""),
        format!(r#"{{"x":{}1{}}}"#, "[".repeat(32), "]".repeat(32)),
    ];
    for body in bodies {
        let invalid = refused(&body);
        assert!(invalid.malformed, "{body}");
        assert_eq!(invalid.faults.len(), 1, "{body}");
        assert_eq!(invalid.faults[0].pointer, "", "{body}");
        assert!(matches!(invalid.faults[0].kind, FaultKind::Malformed(_)), "{body}");
    }
    assert!(refused(b"{\"name\":\"\xff\"}").malformed);
    assert_eq!(refused(b"{\"name\"").to_string(), "malformed JSON at byte 7: unexpected end");
}

#[test]
fn concentrations_are_kept_digit_for_digit() {
    for digits in
        ["0.1", "0.3", "15.500000000000000001", "-0", "-0.0", "1e1", "1E+01", "1e-30", "100.000"]
    {
        let other = r#"{"name":"b","concentration":1}"#;
        for sent in [digits.to_owned(), format!("\"{digits}\"")] {
            let body = with_concentration(&sent).replace("]}", &format!(",{other}]}}"));
            let line = accepted(&body).formula;
            assert_eq!(line.materials().next().unwrap().concentration, digits);
        }
    }
    let line = accepted(&with_concentration(r#""\u0031.5""#)).formula;
    assert_eq!(line.materials().next().unwrap().concentration, "1.5");
}

#[test]
fn strings_that_are_no_json_number_are_refused() {
    let strings = [
        "", " 1", "1 ", "1,5", "+1", ".5", "1.", "01", "0x10", "NaN", "Infinity", "1e", "１", "--1",
    ];
    for text in strings {
        let text_of_fault =
            format!("/materials/0/concentration: concentration {text:?} is not a number");
        assert_eq!(refused(with_concentration(&format!("{text:?}"))).to_string(), text_of_fault);
    }
    let long = "x".repeat(1000);
    let kind = &refused(with_concentration(&format!("{long:?}"))).faults[0].kind;
    assert_eq!(*kind, FaultKind::NotANumber(long[..64].into()));
    assert!(!refused(with_concentration(r#""1\ud800""#)).malformed);
}

#[test]
fn concentrations_out_of_range_are_refused_as_number_and_as_string() {
    let too_long = format!("1.{}", "0".repeat(63));
    for (digits, text) in [
        ("-5", "concentration is below 0"),
        ("100.000000000000000000000000000001", "concentration is above 100"),
        ("1e400000000", "concentration is above 100"),
        ("1e-31", "concentration has more than 30 decimals"),
        (&too_long, "concentration is 65 bytes, at most 64"),
    ] {
        let text = format!("/materials/0/concentration: {text}");
        assert_eq!(refused(with_concentration(digits)).to_string(), text);
        assert_eq!(refused(with_concentration(&format!("\"{digits}\""))).to_string(), text);
    }
    let rules = Rules { concentration_max: 1000 };
    assert!(parse(with_concentration("1000").as_bytes(), &rules).is_ok());
    let above = parse(with_concentration("1000.1").as_bytes(), &rules).unwrap_err();
    assert_eq!(above.faults[0].kind, FaultKind::ConcentrationTooHigh { max: 1000 });
}

#[test]
fn names_have_1_to_256_characters_after_trimming() {
    for unit in ["a", "é", "香", "🌹"] {
        let name = unit.repeat(256);
        let padded = format!("\"\u{a0} {name}\\t\\n\"");
        let formula = accepted(&with_name(&padded)).formula;
        assert_eq!(formula.materials().next().unwrap().name, name);
        let too_long = format!("\"{name}{unit}\"");
        let text = "/materials/0/name: material name is 257 characters, at most 256";
        assert_eq!(refused(with_name(&too_long)).to_string(), text);
        let of_formula = with_name("\"a\"").replace("\"A\"", &too_long);
        let text = "/name: name is 257 characters, at most 256";
        assert_eq!(refused(of_formula).to_string(), text);
    }
    for empty in [r#""""#, r#"" ""#, "\"\u{a0}\u{3000}\"", r#""\n\t\u0085\u000b""#] {
        let text = "/materials/0/name: material name is empty";
        assert_eq!(refused(with_name(empty)).to_string(), text);
    }
    assert_eq!(accepted(&with_name("\"a\"").replace("\"A\"", "\"™\"")).formula.name(), "™");
}

#[test]
fn names_without_a_key_are_refused() {
    for name in ["\"™\"", "\"® ℠\"", "\"\u{200b}\"", r#""\ufeff\u00ad""#, "\"\u{3164}\""] {
        let text = "/materials/0/name: material name has only marks and blanks";
        assert_eq!(refused(with_name(name)).to_string(), text, "{name}");
    }
}

#[test]
fn control_characters_other_than_tab_and_line_breaks_are_refused() {
    for (escape, code) in [
        (r"\u0000", "0000"),
        (r"\b", "0008"),
        (r"\u000b", "000B"),
        (r"\f", "000C"),
        (r"\u001b", "001B"),
        ("\u{7f}", "007F"),
        ("\u{9f}", "009F"),
    ] {
        let name = format!("\"a{escape}b\"");
        let text = format!("/materials/0/name: material name has the control character U+{code}");
        assert_eq!(refused(with_name(&name)).to_string(), text);
    }
    for good in [r"\t", r"\n", r"\r\n", r"\u0085", "\u{2028}", "\u{200b}"] {
        let name = accepted(&with_name(&format!("\"a{good}b\""))).fingerprint;
        assert_eq!(name, accepted(&with_name("\"ab\"")).fingerprint, "{good}");
    }
}

#[test]
fn lone_surrogates_are_refused() {
    for name in [r#""\ud800""#, r#""a\udfff""#, r#""\udf39\ud83c""#] {
        let invalid = refused(with_name(name));
        let text = "/materials/0/name: material name has a lone surrogate";
        assert_eq!(invalid.to_string(), text);
        assert!(!invalid.malformed);
    }
    let member = with_name("\"a\"").replace("\"concentration\"", r#""concentration\ud800""#);
    assert!(!refused(member).malformed);
}

#[test]
fn names_that_must_not_be_refused_are_not() {
    for name in
        ["Iso E Super®", "α-Pinene 10% @ DPG/IPM (nat.) d'Or", "香水", "🌹", "-", "0", "a\\\\b"]
    {
        accepted(&with_name(&format!("\"{name}\"")));
    }
}

#[test]
fn repeats_name_both_places() {
    let invalid = refused(
        r#"{"name":"x","materials":[{"name":"Rose","concentration":1},
        {"name":"b","concentration":0},{"name":" ROSE","concentration":2},
        {"name":"B™","concentration":"x"},{"name":"ro se","concentration":0}]}"#,
    );
    assert_eq!(
        invalid.to_string(),
        "/materials/3/concentration: concentration \"x\" is not a number; \
         /materials/3/name: same material as /materials/1/name; \
         /materials/2/name: same material as /materials/0/name; \
         /materials/4/name: same material as /materials/0/name"
    );
}

#[test]
fn some_line_must_be_above_zero() {
    let zero = r#"{"name":"x","materials":[{"name":"a","concentration":0},
        {"name":"b","concentration":-0.0}]}"#;
    assert_eq!(refused(zero).to_string(), "/materials: every concentration is 0");
    let with_zero = r#"{"name":"x","materials":[{"name":"a","concentration":1},
        {"name":"b","concentration":0e9}]}"#;
    let checked = accepted(with_zero);
    assert_eq!(checked.formula.materials().len(), 2);
    assert_eq!(checked.fingerprint, accepted(&with_concentration("1")).fingerprint);
    // Of a line with a fault nobody knows what it is, so nothing is said of the whole.
    let unknown = r#"{"name":"x","materials":[{"name":"a","concentration":0},{"name":"b"}]}"#;
    let text = "/materials/1/concentration: concentration is missing";
    assert_eq!(refused(unknown).to_string(), text);
}

#[test]
fn totals_are_not_checked() {
    accepted(
        r#"{"name":"x","materials":[{"name":"a","concentration":100},
        {"name":"b","concentration":100}]}"#,
    );
    accepted(r#"{"name":"x","materials":[{"name":"a","concentration":0.0000025}]}"#);
}

#[test]
fn order_of_members_and_white_space_do_not_matter() {
    let one = accepted(
        r#"{"name":"x","materials":[{"name":"a","concentration":1},{"name":"b",
        "concentration":2}]}"#,
    );
    let other = accepted(
        "\r\n{ \"materials\" :\t[ { \"concentration\" : 1 , \"name\" : \"a\" } ,\n\
        {\"concentration\":2,\"name\":\"b\"} ] , \"name\" : \"x\" } ",
    );
    assert_eq!(one, other);
}
