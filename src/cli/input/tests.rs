//! Layouts of submitted files, told apart and taken apart.

use std::io::BufReader;

use proptest::prelude::*;

use super::*;

/// Reads everything through a buffer of `buffer` bytes: line, and text or fault.
fn read(text: &str, layout: Layout, buffer: usize) -> Result<Vec<(u64, String)>, String> {
    let mut formulas = Formulas::new(BufReader::with_capacity(buffer, text.as_bytes()), layout);
    let mut all = Vec::new();
    while let Some(found) = formulas.next().map_err(|error| error.to_string())? {
        let text = found.text.map(|text| String::from_utf8(text).expect("UTF-8"));
        all.push((found.line, text.unwrap_or_else(|fault| format!("! {fault}"))));
    }
    assert!(formulas.next().expect("a sound layout").is_none(), "nothing comes after the end");
    Ok(all)
}

fn detect(text: &str) -> Vec<(u64, String)> {
    let all = read(text, Layout::Unknown, 8192).expect("a sound layout");
    assert_eq!(read(text, Layout::Unknown, 1).as_ref(), Ok(&all), "independent of buffering");
    all
}

fn found(rows: &[(u64, &str)]) -> Vec<(u64, String)> {
    rows.iter().map(|(line, text)| (*line, (*text).to_owned())).collect()
}

#[test]
fn one_object_per_line_with_blank_lines_and_any_line_end() {
    let text = "\u{feff}\n {\"a\":1}\r\n\n{\"b\":\"}{\\\"\"}  \n{\"c\":3}";
    let expected = [(2, "{\"a\":1}"), (4, "{\"b\":\"}{\\\"\"}"), (5, "{\"c\":3}")];
    assert_eq!(detect(text), found(&expected));
}

#[test]
fn broken_line_spoils_only_itself() {
    let text = "{\"a\":1}\n{\"b\":\n{\"c\":3}\nx\n";
    let expected = [(1, "{\"a\":1}"), (2, "{\"b\":"), (3, "{\"c\":3}"), (4, "x")];
    assert_eq!(detect(text), found(&expected));
}

#[test]
fn rubbish_behind_the_first_line_stays_with_it() {
    assert_eq!(detect("{\"a\":1} {\"b\":2}\n{}"), found(&[(1, "{\"a\":1}{\"b\":2}"), (2, "{}")]));
}

#[test]
fn layout_by_name_lets_even_the_first_line_be_broken() {
    let lines = read("\u{feff}{\"a\":\n{\"b\":2}\n", Layout::Lines, 8192).expect("a sound layout");
    assert_eq!(lines, found(&[(1, "{\"a\":"), (2, "{\"b\":2}")]));
}

#[test]
fn pretty_printed_objects_come_out_on_one_line_each() {
    let text = "{\n  \"a\": [1,\n 2]\n}\n{\n}";
    assert_eq!(detect(text), found(&[(1, "{   \"a\": [1,  2] }"), (5, "{ }")]));
}

#[test]
fn elements_of_an_array_with_their_lines() {
    let text = "[\n{\"a\":\n 1},\n {\"b\":\"]\"}, 5 ,\"x\",[[]] ]\n\n";
    let expected = [(2, "{\"a\":  1}"), (4, "{\"b\":\"]\"}"), (4, "5"), (4, "\"x\""), (4, "[[]]")];
    assert_eq!(detect(text), found(&expected));
    assert_eq!(detect(" [ ] "), found(&[]));
    assert_eq!(detect(""), found(&[]));
}

#[test]
fn line_break_between_digits_does_not_join_them() {
    assert_eq!(detect("[{\"a\":1\n2}]"), found(&[(1, "{\"a\":1 2}")]));
}

#[test]
fn line_break_in_a_string_is_refused_here_since_it_would_be_two_lines() {
    let expected = [(1, "! a line break inside a string"), (2, "{\"b\":2}")];
    assert_eq!(detect("[{\"a\":\"x\ny\"},{\"b\":2}]"), found(&expected));
}

#[test]
fn broken_layout_is_named_with_its_line() {
    let fault = |text: &str| read(text, Layout::Unknown, 8192).expect_err("a broken layout");
    assert_eq!(fault("[{}\n{}]"), "line 2: expected `,` or `]`");
    assert_eq!(fault("[{},\n]"), "line 2: expected a formula");
    assert_eq!(fault("[,{}]"), "line 1: expected a formula");
    assert_eq!(fault("[{},,{}]"), "line 1: expected a formula");
    assert_eq!(fault("[{}"), "line 1: expected `,` or `]`");
    assert_eq!(fault("[{\n"), "line 2: expected a closing bracket");
    assert_eq!(fault("[{}]\n{}"), "line 2: expected nothing after the array");
    assert_eq!(fault("{\n}\nx"), "line 3: expected `{` or the end");
    assert!(fault("name,concentration\n").starts_with("line 1: expected a JSON object"));
}

#[test]
fn formula_of_the_greatest_length_passes_and_one_byte_more_does_not() {
    let filled = |bytes: usize| format!("\"{}\"", "x".repeat(bytes - 2));
    let text =
        format!("[{},\n{}]", filled(NDJSON_LINE_BYTES_MAX), filled(NDJSON_LINE_BYTES_MAX + 1));
    let all = read(&text, Layout::Unknown, 8192).expect("a sound layout");
    assert_eq!(all[0].1.len(), NDJSON_LINE_BYTES_MAX);
    assert_eq!(all[1], (2, format!("! longer than {NDJSON_LINE_BYTES_MAX} bytes")));
}

proptest! {
    /// The seed of a failing case is printed and kept by proptest.
    #[test]
    fn any_values_come_out_of_array_and_lines_as_they_went_in(
        names in prop::collection::vec(any::<String>(), 1..20),
        buffer in 1_usize..64,
    ) {
        let object = |name| serde_json::json!({ "name": name, "x": [1, {}] }).to_string();
        let objects: Vec<String> = names.iter().map(object).collect();
        let array = format!("[{}]", objects.join(" ,\n"));
        for (text, layout) in [(array, Layout::Unknown), (objects.join("\n"), Layout::Unknown)] {
            let all = read(&text, layout, buffer).expect("a sound layout");
            let texts: Vec<&str> = all.iter().map(|(_, text)| text.as_str()).collect();
            prop_assert_eq!(&texts, &objects);
            prop_assert!(all.iter().map(|(line, _)| *line).eq(1..=objects.len() as u64));
        }
    }

    #[test]
    fn rubbish_neither_panics_nor_hangs(text in "[\\[\\]{},\"\\\\ax1 \n\r]{0,60}") {
        let _whatever = read(&text, Layout::Unknown, 3);
    }
}
