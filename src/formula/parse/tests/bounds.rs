//! Counts at their maximum and one above, and arrays of formulas.

use super::*;

fn with_lines(count: usize) -> String {
    let lines: Vec<String> =
        (0..count).map(|n| format!(r#"{{"name":"m{n}","concentration":0.1}}"#)).collect();
    format!(r#"{{"name":"x","materials":[{}]}}"#, lines.join(","))
}

#[test]
fn a_formula_has_1_to_1000_lines() {
    assert_eq!(accepted(&with_lines(1)).formula.materials().len(), 1);
    assert_eq!(accepted(&with_lines(1000)).formula.materials().len(), 1000);
    assert_eq!(
        refused(with_lines(0)).to_string(),
        "/materials: materials is empty, at least 1 line"
    );
    let text = "/materials: materials has 1001 lines, at most 1000";
    assert_eq!(refused(with_lines(1001)).to_string(), text);
}

#[test]
fn faults_beyond_the_listed_ones_are_counted() {
    let invalid = refused(with_lines(1000).replace("0.1", "-1"));
    assert_eq!((invalid.faults.len(), invalid.unlisted), (FAULTS_MAX, 900));
    assert!(
        invalid
            .to_string()
            .ends_with("/materials/99/concentration: concentration is below 0; and 900 more")
    );
    let invalid = refused(with_lines(FAULTS_MAX).replace("0.1", "-1"));
    assert_eq!((invalid.faults.len(), invalid.unlisted), (FAULTS_MAX, 0));
}

#[test]
fn items_of_an_array_are_judged_one_by_one() {
    let good = with_concentration("1");
    let body = format!(" [{good},5,{},{good}] ", with_concentration("-1"));
    let items = parse_array(body.as_bytes(), &Rules::default()).unwrap();
    let texts: Vec<String> = items
        .iter()
        .map(|item| item.as_ref().map_or_else(Invalid::to_string, |_| "good".into()))
        .collect();
    let bad = "/materials/0/concentration: concentration is below 0";
    assert_eq!(texts, ["good", "formula is a number, must be an object", bad, "good"]);
    assert_eq!(items[0], Ok(accepted(&good)));
}

#[test]
fn an_array_has_1_to_1000_formulas_and_is_an_array() {
    let good = with_concentration("1");
    let array = |count: usize| format!("[{}]", vec![&*good; count].join(","));
    let parse = |body: &str| parse_array(body.as_bytes(), &Rules::default());
    assert_eq!(parse(&array(1000)).unwrap().len(), 1000);
    for (body, malformed, text) in [
        (array(1001), false, "the array has 1001 formulas, at most 1000"),
        ("[]".to_owned(), false, "the array is empty, at least 1 formula"),
        (good.clone(), false, "body is an object, must be an array"),
        ("null".to_owned(), false, "body is null, must be an array"),
        (format!("[{good},"), true, "malformed JSON at byte 59: unexpected end"),
        (format!("[{good}]]"), true, "malformed JSON at byte 59: text after the end of the value"),
        (
            format!("{}1", array(1000)),
            true,
            "malformed JSON at byte 58001: text after the end of the value",
        ),
    ] {
        let invalid = parse(&body).unwrap_err();
        assert_eq!((invalid.malformed, &*invalid.to_string()), (malformed, text));
    }
}

#[test]
fn faults_of_an_array_are_bounded_but_each_refused_item_has_one() {
    let bad = with_lines(60).replace("0.1", "-1");
    let body = format!("[{}]", vec![&*bad; 1000].join(","));
    let items = parse_array(body.as_bytes(), &Rules::default()).unwrap();
    let listed: Vec<usize> =
        items.iter().map(|item| item.as_ref().unwrap_err().faults.len()).collect();
    assert_eq!(listed[..4], [60, 40, 1, 1]);
    assert_eq!(listed.iter().sum::<usize>(), FAULTS_MAX + 998);
    assert!(items.iter().all(|item| {
        let invalid = item.as_ref().unwrap_err();
        invalid.faults.len() + invalid.unlisted == 60
    }));
}
