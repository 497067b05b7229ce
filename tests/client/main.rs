//! The commands that talk to a server, against a double that says what each test needs.

mod double;
mod groups;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::value::RawValue;
use serde_json::{Value, json};

use double::{Double, Received, Reply, run_against, said};

/// What the double looks at: not through numbers, which would make near make-ups equal.
#[derive(serde::Deserialize)]
struct Formula {
    materials: Box<RawValue>,
}

/// Answers NDJSON as a store would: by make-up, here the text behind `"materials"`.
fn intake() -> impl FnMut(&Received) -> Reply + Send {
    let mut stored: BTreeMap<String, usize> = BTreeMap::new();
    move |received: &Received| {
        let mut results = String::new();
        for line in received.body.lines() {
            let formula: Option<Formula> = serde_json::from_str(line).ok();
            let result = match formula.map(|formula| formula.materials.get().to_owned()) {
                None => json!({ "status": 400, "problem": {
                    "detail": "not a formula",
                    "errors": [{ "pointer": "/materials", "detail": "is missing" }],
                } }),
                Some(make_up) if stored.contains_key(&make_up) => {
                    json!({ "status": 409, "problem": { "detail": "duplicate" } })
                }
                Some(make_up) => {
                    stored.insert(make_up, stored.len());
                    json!({ "status": 201, "formula": {} })
                }
            };
            results.push_str(&format!("{result}\n"));
        }
        (200, results)
    }
}

fn sample(name: &str) -> String {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/samples");
    samples.join(name).to_str().expect("a plain path").to_owned()
}

#[test]
fn file_is_submitted_once_and_then_known() {
    let double = Double::start(intake());
    let file = sample("formulas.jsonl");
    let lines = std::fs::read_to_string(&file).expect("the sample is there").lines().count();
    let first = said(&double.run(&["submit", &file]), 0);
    assert!(first.contains(&format!("{lines} new, 0 duplicate, 0 invalid")), "{first}");
    let second = said(&double.run(&["submit", &file]), 0);
    assert!(second.contains(&format!("0 new, {lines} duplicate, 0 invalid")), "{second}");
    let requests = double.requests();
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[0].line, "POST /formulas");
    assert_eq!(requests[0].headers["content-type"], "application/x-ndjson");
    assert_eq!(requests[0].headers["authorization"], "Bearer s3cret");
    assert_eq!(requests[0].body, requests[1].body);
    let keys: Vec<&str> = requests.iter().map(|r| r.headers["idempotency-key"].as_str()).collect();
    assert_ne!(keys[0], keys[1], "another run is another attempt");
}

#[test]
fn every_layout_is_told_apart_and_digits_are_left_alone() {
    let formula = r#"{"name": "A", "materials": [{"name": "x", "concentration": 15.500}]}"#;
    let pretty = formula.replace(": [", ": [\n").replace("}]", "\n}]");
    let inputs =
        [formula.to_owned(), format!("[\n{pretty}]"), pretty.clone(), format!("\n{formula}\n")];
    for input in inputs {
        let double = Double::start(intake());
        let text = said(&double.run_with_input(&["submit", "-"], input.as_bytes()), 0);
        assert!(text.contains("1 new, 0 duplicate, 0 invalid"), "{input}: {text}");
        let requests = double.requests();
        assert_eq!(requests[0].body.lines().count(), 1, "{requests:?}");
        assert!(requests[0].body.contains("15.500"), "{requests:?}");
    }
}

#[test]
fn invalid_formulas_are_listed_by_line_and_exit_65() {
    let double = Double::start(intake());
    let input = "{\"materials\": [1]}\n\nbroken\n{\"materials\": [1]}\n{}\n{\"materials\": [2]}";
    let output = double.run_with_input(&["submit", "-"], input.as_bytes());
    let text = said(&output, 65);
    assert!(text.contains("2 new, 1 duplicate, 2 invalid"), "{text}");
    assert!(text.contains("line 3: not a formula: /materials is missing"), "{text}");
    assert!(text.contains("line 5: not a formula: /materials is missing"), "{text}");
}

#[test]
fn chunks_are_bounded_and_each_has_its_own_key() {
    let double = Double::start(intake());
    let lines: Vec<String> = (0..2500).map(|n| format!("{{\"materials\": [{n}]}}")).collect();
    let output = double.run_with_input(&["submit", "-"], lines.join("\n").as_bytes());
    assert!(said(&output, 0).contains("2500 new"), "{output:?}");
    let requests = double.requests();
    let sizes: Vec<usize> = requests.iter().map(|r| r.body.lines().count()).collect();
    assert_eq!(sizes, [1024, 1024, 452]);
    let mut keys: Vec<_> = requests.iter().map(|r| &r.headers["idempotency-key"]).collect();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 3);
}

#[test]
fn failure_that_passes_is_tried_again_under_the_same_key() {
    let mut calls = 0;
    let mut intake = intake();
    let double = Double::start(move |received| {
        calls += 1;
        // The first answer is lost after one of two formulas was decided.
        if calls == 1 {
            (200, "{\"status\": 201}\n{\"status\": 503}\n".to_owned())
        } else {
            intake(received)
        }
    });
    let input = b"{\"materials\": [1]}\n{\"materials\": [2]}\n";
    let output = double.run_with_input(&["submit", "-"], input);
    assert!(said(&output, 0).contains("2 new, 0 duplicate, 0 invalid"), "{output:?}");
    let requests = double.requests();
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[0].headers["idempotency-key"], requests[1].headers["idempotency-key"]);
    assert_eq!(requests[0].body, requests[1].body);
}

#[test]
fn patience_ends_after_three_attempts_with_74() {
    let double = Double::start(|_| (503, "{\"detail\": \"overloaded\"}".to_owned()));
    let text = said(&double.run_with_input(&["submit", "-"], b"{\"materials\": [1]}"), 74);
    assert!(text.contains("0 new") && text.contains("503: overloaded"), "{text}");
    assert_eq!(double.requests().len(), 3);
}

#[test]
fn refusal_of_the_caller_is_not_tried_again_and_the_token_never_shows() {
    for (status, code) in [(401, 2), (403, 2), (415, 65)] {
        let double = Double::start(move |_| (status, "{\"title\": \"no\"}".to_owned()));
        let text = said(&double.run_with_input(&["submit", "-"], b"{\"materials\": [1]}"), code);
        assert!(text.contains(&format!("{status}: no")) && !text.contains("s3cret"), "{text}");
        assert_eq!(double.requests().len(), 1);
    }
    let help = run_against("http://127.0.0.1:1", &["list", "--help"], b"");
    assert!(!said(&help, 0).contains("s3cret"));
}

#[test]
fn broken_layout_submits_what_stands_before_it() {
    let double = Double::start(intake());
    let output = double.run_with_input(&["submit", "-"], b"[{\"materials\": [1]},\n;]");
    let text = said(&output, 65);
    assert!(text.contains("1 new") || text.contains("line 2"), "{text}");
    let output = double.run_with_input(&["submit", "-"], b"[{\"materials\": [3]}\n{}]");
    let text = said(&output, 65);
    assert!(text.contains("1 new") && text.contains("line 2: expected `,` or `]`"), "{text}");
    assert_eq!(run_against("http://x", &["submit", "no-such-file"], b"").status.code(), Some(74));
}

#[test]
fn server_that_cannot_be_reached_exits_74_and_a_bad_address_2() {
    let text = said(&run_against("http://127.0.0.1:1", &["ack", "formulas", "r"], b""), 74);
    assert!(text.contains("cannot reach http://127.0.0.1:1"), "{text}");
    let text = said(&run_against("https://127.0.0.1:1", &["get", "1"], b""), 2);
    assert!(text.contains("https is not supported"), "{text}");
}

#[test]
fn answer_of_another_program_is_not_taken_for_ours() {
    for arguments in [&["list"][..], &["lease", "formulas"], &["ack", "formulas", "r"]] {
        let double = Double::start(|_| (200, "<html>".to_owned()));
        let text = said(&double.run(arguments), 74);
        assert!(text.contains("does not answer as a Sillage server"), "{text}");
    }
}

/// Two pages of formulas; the first leads to the second.
fn pages(received: &Received) -> Reply {
    let formula = |seq: u64, name: &str| {
        format!(
            "{{\"id\": \"{seq:064x}\", \"seq\": {seq}, \"name\": {}, \"accepted_at\": \
             \"2026-11-21T08:30:00.250Z\", \"materials\": [{{\"name\": \"x\", \
             \"concentration\": 1.50}}], \"trail\": \"/\"}}",
            json!(name)
        )
    };
    let (formulas, next) = if received.line.contains("after=") {
        (formula(3, "C\u{1b}[2J\n"), "null".to_owned())
    } else {
        (format!("{}, {}", formula(1, "A"), formula(2, "B")), "\"c/=+\"".to_owned())
    };
    (200, format!("{{\"formulas\": [{formulas}], \"next\": {next}}}"))
}

#[test]
fn list_follows_pages_and_hides_control_characters() {
    let double = Double::start(pages);
    let text = said(&double.run(&["list", "--name", "a & b", "--material", "Iso E Super"]), 0);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert!(lines[0].ends_with("   1 materials  A"), "{text}");
    assert!(lines[2].ends_with("C\\u{1b}[2J\\n"), "{text}");
    let requests: Vec<String> = double.requests().into_iter().map(|r| r.line).collect();
    let filters = "name=a+%26+b&material=Iso+E+Super";
    let first = format!("GET /formulas?limit=100&{filters}");
    let second = format!("GET /formulas?limit=98&{filters}&after=c%2F%3D%2B");
    assert_eq!(requests, [first, second]);
}

#[test]
fn list_as_json_keeps_digits_and_stops_at_the_limit() {
    let double = Double::start(pages);
    let text = said(&double.run(&["list", "--json", "--limit", "1"]), 0);
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.contains("\"concentration\": 1.50"), "{text}");
    assert_eq!(double.requests().len(), 1);
}

#[test]
fn get_prints_what_the_server_sends_and_a_missing_formula_exits_65() {
    let body = "{\"seq\": 42, \"x\": 1.500}";
    let double = Double::start(move |_| (200, body.to_owned()));
    assert_eq!(said(&double.run(&["get", "42"]), 0), format!("{body}\n"));
    assert_eq!(double.requests()[0].line, "GET /formulas/42");
    let double = Double::start(|_| (404, "{\"detail\": \"no such formula\"}".to_owned()));
    let text = said(&double.run(&["get", "a/../b?c"]), 65);
    assert!(text.contains("404: no such formula"), "{text}");
    assert_eq!(double.requests()[0].line, "GET /formulas/a%2F%2E%2E%2Fb%3Fc");
}

#[test]
fn lease_prints_a_message_per_line() {
    let body = "{\"messages\": [{\"id\": \"1\", \"receipt\": \"r-1\"}, {\"id\": \"2\"}]}";
    let double = Double::start(move |_| (200, body.to_owned()));
    let arguments = ["lease", "formulas", "--max", "2", "--lease", "50ms", "--wait", "20s"];
    let text = said(&double.run(&arguments), 0);
    assert_eq!(text, "{\"id\": \"1\", \"receipt\": \"r-1\"}\n{\"id\": \"2\"}\n");
    let request = &double.requests()[0];
    assert_eq!(request.line, "POST /queues/formulas/lease");
    assert_eq!(request.headers["content-type"], "application/json");
    let sent: Value = serde_json::from_str(&request.body).expect("JSON");
    assert_eq!(sent, json!({ "max": 2, "lease_s": 0.05, "wait_s": 20.0 }));
    assert_eq!(double.run(&["lease", "No Queue"]).status.code(), Some(2));
    assert_eq!(double.run(&["lease", "formulas", "--lease", "30"]).status.code(), Some(2));
}

#[test]
fn ack_and_nack_tell_done_from_stale() {
    let double = Double::start(|_| (200, "{\"done\": [\"7\"], \"stale\": []}".to_owned()));
    assert_eq!(said(&double.run(&["ack", "formulas", "r1"]), 0), "acked 7\n");
    let nack = ["nack", "formulas", "r1", "r2", "--delay", "1500ms", "--reason", "scale \"down\""];
    assert_eq!(said(&double.run(&nack), 0), "nacked 7\n");
    let requests = double.requests();
    let sent =
        |index: usize| -> Value { serde_json::from_str(&requests[index].body).expect("JSON") };
    assert_eq!(sent(0), json!({ "receipts": ["r1"] }));
    let expected = json!({ "receipts": ["r1", "r2"], "delay_s": 1.5, "reason": "scale \"down\"" });
    assert_eq!(sent(1), expected);

    let double = Double::start(|_| (200, "{\"done\": [\"7\"], \"stale\": [\"r2\"]}".to_owned()));
    assert_eq!(said(&double.run(&["ack", "formulas", "r1", "r2"]), 65), "acked 7\nstale r2\n");
    let double = Double::start(|_| (409, "{\"detail\": \"stale receipt\"}".to_owned()));
    assert!(said(&double.run(&["ack", "formulas", "r2"]), 65).contains("409: stale receipt"));
    assert_eq!(double.requests().len(), 1);
}

#[test]
fn file_by_name_is_read_as_lines_even_if_the_first_is_broken() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file: PathBuf = directory.path().join("lab.ndjson");
    std::fs::write(&file, "{\"materials\":\n{\"materials\": [2]}\n")
        .expect("the directory is ours");
    let double = Double::start(intake());
    let text = said(&double.run(&["submit", file.to_str().expect("a plain path")]), 65);
    assert!(text.contains("1 new, 0 duplicate, 1 invalid"), "{text}");
}
