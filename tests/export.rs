//! Export and import: every formula with its digits and dates, across stores.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use common::{Call, Store, ask_until, numbered, queue_count, run, shared_data, sillage};

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary directories have plain names")
}

#[track_caller]
fn ok(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

/// The real formulas, else the samples.
fn formulas() -> PathBuf {
    let samples = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("data/samples/formulas.jsonl");
    shared_data("formulas-real.jsonl").unwrap_or_else(samples)
}

/// A store with these formulas, and what a server exports of it.
fn filled(path: &Path) -> (Store, String) {
    let store = Store::new();
    let server = store.serve();
    let url = format!("http://{}", server.address());
    ok(&run(["submit", text(path), "--url", &url]));
    let exported = ok(&run(["export", &url]));
    assert_eq!(server.terminate().code, Some(0));
    (store, exported)
}

/// The same formulas to the byte, but for what a store gives anew.
#[track_caller]
fn assert_same(lines: &str, others: &str) {
    assert_eq!(lines.lines().count(), others.lines().count());
    for (line, other) in lines.lines().zip(others.lines()) {
        assert_eq!(without_seq(line), without_seq(other));
    }
}

fn without_seq(line: &str) -> String {
    let (before, rest) = line.split_once(r#""seq":"#).expect("every line has a seq");
    let (_, after) = rest.split_once(',').expect("a seq is not the last member");
    format!("{before}{after}")
}

#[test]
fn exports_of_server_and_directory_are_the_same_and_keep_every_digit() {
    let path = formulas();
    let (store, exported) = filled(&path);
    let from_directory = ok(&run(["export", "--data", text(&store.data())]));
    assert_eq!(from_directory, exported);
    let sent = fs::read_to_string(&path).expect("the formulas");
    assert_eq!(exported.lines().count(), sent.lines().count());
    for (line, sent) in exported.lines().zip(sent.lines()) {
        assert_eq!(digits(line), digits(sent));
    }
}

/// The concentrations of a line as they are spelled.
fn digits(line: &str) -> Vec<&str> {
    let after = line.split(r#""concentration":"#).skip(1);
    after.map(|rest| rest.split(['}', ',']).next().expect("a part").trim()).collect()
}

#[test]
fn import_brings_every_formula_back_with_its_date() {
    let (_, exported) = filled(&formulas());
    let count = exported.lines().count();
    let there = Store::new();
    let file = there.beside("all.jsonl");
    fs::write(&file, &exported).expect("written");
    let import = || run(["import", text(&file), "--data", text(&there.data())]);
    let said = ok(&import());
    assert_eq!(said, format!("{}: {count} new, 0 duplicate, 0 invalid\n", text(&file)));
    let again = ok(&run(["export", "--data", text(&there.data())]));
    assert_same(&again, &exported);
    let said = ok(&import());
    assert_eq!(said, format!("{}: 0 new, {count} duplicate, 0 invalid\n", text(&file)));
    ok(&run(["check", text(&there.data())]));
    let server = there.serve();
    let mut client = server.client();
    assert_eq!(queue_count(&mut client, "ready"), count as u64, "each is announced");
    let url = format!("http://{}", server.address());
    assert_same(&ok(&run(["export", &url])), &exported);
}

#[test]
fn import_goes_on_where_another_one_stopped_and_reports_what_is_invalid() {
    let store = Store::new();
    let (good, bad) = (store.beside("good.jsonl"), store.beside("bad.jsonl"));
    let lines: Vec<String> = (0..2500).map(numbered).collect();
    fs::write(&good, lines[..1200].join("\n")).expect("written");
    ok(&run(["import", text(&good), "--data", text(&store.data())]));
    let id = "0".repeat(64);
    let strange = lines[0].replacen('{', &format!(r#"{{"id":"{id}","#), 1);
    let undated = lines[0].replacen('{', r#"{"accepted_at":"21.11.2026","#, 1);
    let all = [lines.join("\n"), "{".to_owned(), strange, undated].join("\n");
    fs::write(&bad, all).expect("written");
    let output = run(["import", text(&bad), "--data", text(&store.data())]);
    assert_eq!(output.status.code(), Some(65), "{output:?}");
    let said = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(said.contains("1300 new, 1200 duplicate, 3 invalid"), "{said}");
    assert!(said.contains("line 2501: Malformed"), "{said}");
    assert!(said.contains("line 2502: /id is not that of this make-up"), "{said}");
    assert!(said.contains("line 2503: /accepted_at is not a date"), "{said}");
}

#[test]
fn withdrawn_formulas_are_not_exported_and_a_leased_one_is() {
    let store = Store::new();
    let server = store.serve();
    let mut client = server.client();
    for number in 0..3 {
        client.post("/formulas", numbered(number)).expect(201);
    }
    let leased = common::lease(&mut client, 1, 600.0);
    let id = client.post("/formulas", numbered(9)).expect(201).json()["id"].clone();
    let withdraw = Call::new("DELETE", format!("/formulas/{}", id.as_str().expect("an id")));
    client.send(&withdraw).expect(204);
    server.kill();
    let lines = ok(&run(["export", "--data", text(&store.data())]));
    assert_eq!(lines.lines().count(), 3);
    assert!(lines.contains(&leased[0].formula.id));
}

#[test]
fn export_to_a_file_keeps_what_is_there_and_says_why_it_cannot() {
    let store = Store::new();
    let server = store.serve();
    server.client().post("/formulas", numbered(1)).expect(201);
    let url = format!("http://{}", server.address());
    let file = store.beside("x.jsonl");
    let said = ok(&run(["export", &url, text(&file)]));
    assert_eq!(said, format!("{}: 1 formulas\n", text(&file)));
    let before = fs::read_to_string(&file).expect("complete");
    server.client().post("/formulas", numbered(2)).expect(201);
    let refused = run(["export", &url, text(&file)]);
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    assert_eq!(fs::read_to_string(&file).expect("still there"), before);
    ok(&run(["export", &url, text(&file), "--force"]));
    assert_eq!(fs::read_to_string(&file).expect("complete").lines().count(), 2);
    let in_use = run(["export", "--data", text(&store.data())]);
    assert_eq!(in_use.status.code(), Some(75), "{in_use:?}");
    let in_use = run(["import", text(&file), "--data", text(&store.data())]);
    assert_eq!(in_use.status.code(), Some(75), "{in_use:?}");
    let none = run(["export", "--data", text(&store.beside("nowhere"))]);
    assert_eq!(none.status.code(), Some(2), "{none:?}");
    for wrong in
        [&["export"][..], &["export", &url, "a", "b"], &["export", "--data", "x", "a", "b"]]
    {
        assert_eq!(run(wrong.iter().copied()).status.code(), Some(2), "{wrong:?}");
    }
    drop(server);
    let gone = run(["export", &url, text(&store.beside("y.jsonl"))]);
    assert_eq!(gone.status.code(), Some(74), "{gone:?}");
    assert!(!store.beside("y.jsonl").exists() && !store.beside("y.jsonl.part").exists());
}

#[test]
fn input_that_is_not_there_makes_no_store() {
    let store = Store::new();
    let missing = store.beside("missing.jsonl");
    let output = run(["import", text(&missing), "--data", text(&store.data())]);
    assert_eq!(output.status.code(), Some(74), "{output:?}");
    assert!(!store.data().exists());
}

#[test]
fn import_that_is_killed_is_gone_on_with() {
    let store = Store::new();
    let file = store.beside("all.jsonl");
    let lines: Vec<String> = (0..20_000).map(numbered).collect();
    fs::write(&file, lines.join("\n")).expect("written");
    let data = store.data();
    let arguments = ["import", text(&file), "--data", text(&data)];
    let stored = || {
        let output = run(["export", "--data", text(&store.data())]);
        ok(&output).lines().count()
    };
    let mut before = 0;
    for _ in 0..4 {
        let mut child = sillage(arguments).stdout(Stdio::null()).spawn().expect("it runs");
        let log = store.data().join("log");
        ask_until("the log grows, or all is done", || {
            let grows = fs::read_dir(&log).is_ok_and(|entries| entries.count() > 1);
            grows || child.try_wait().expect("our own child").is_some()
        });
        child.kill().expect("our own child");
        child.wait().expect("our own child");
        ok(&run(["check", text(&store.data())]));
        let now = stored();
        assert!(now >= before && (now == lines.len() || now.is_multiple_of(1000)), "{now}");
        before = now;
    }
    let said = ok(&run(arguments));
    let new = lines.len() - before;
    assert!(said.contains(&format!("{new} new, {before} duplicate, 0 invalid")), "{said}");
    assert_eq!(stored(), lines.len());
}
