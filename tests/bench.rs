//! `sillage bench` against the real server: what it says it did is what the server counted. No
//! time is asserted; the runs last a fraction of a second.

mod common;

use std::io::{BufRead as _, BufReader};
use std::process::{Output, Stdio};

use common::{Call, Server, Store, ask_until, run, sillage};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Runs for a moment and gives the report.
#[track_caller]
fn measure(arguments: &[&str]) -> Value {
    let brief = ["--seconds", "0.1", "--rounds", "1", "--json"];
    let output = run(["bench"].iter().chain(arguments).chain(&brief));
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("one JSON document")
}

#[track_caller]
fn assert_refused(output: &Output, code: i32, words: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert!(stderr.contains(words), "{words:?} in {stderr}");
}

fn url(server: &Server) -> String {
    format!("http://{}", server.address())
}

/// The sum of the samples of this name whose labels hold all of these texts.
fn metric(server: &Server, name: &str, labels: &[&str]) -> u64 {
    let answer = server.client().send(&Call::get("/metrics"));
    let samples = answer.text().lines().filter(|line| {
        let rest = line.strip_prefix(name);
        rest.is_some_and(|rest| rest.starts_with([' ', '{']))
            && labels.iter().all(|label| line.contains(label))
    });
    let value = |line: &str| line.rsplit(' ').next().and_then(|value| value.parse::<u64>().ok());
    samples.filter_map(value).sum()
}

fn total(report: &Value, name: &str) -> u64 {
    report["totals"][name].as_u64().expect("a count")
}

/// The figures of the server that is measured in the first scenario.
fn figures(report: &Value) -> &Value {
    &report["results"][0]["servers"]["sillage"]
}

#[test]
fn every_formula_that_it_counts_was_accepted_and_queued() {
    let store = Store::new();
    let server = store.serve();
    let report = measure(&[&url(&server), "--connections", "1,7"]);
    assert_eq!(report["results"].as_array().map(Vec::len), Some(2));
    let accepted = total(&report, "accepted");
    assert!(accepted > 0);
    assert_eq!(metric(&server, "sillage_formulas_accepted_total", &[]), accepted);
    let waiting = ["queue=\"formulas\"", "state=\"ready\""];
    assert_eq!(metric(&server, "sillage_queue_messages", &waiting), accepted);
}

#[test]
fn duplicates_reads_and_acks_are_what_the_server_counted() {
    let store = Store::new();
    let server = store.serve();
    let report = measure(&[
        &url(&server),
        "--workload=duplicates,get,lease,bulk",
        "--connections=5",
        "--stock=700",
        "--lines=300",
        "--batch=1,40",
    ]);
    assert_eq!(report["results"].as_array().map(Vec::len), Some(5));
    let count = |name, labels: &[&str]| metric(&server, name, labels);
    let accepted = total(&report, "accepted");
    // A stock for each workload that needs one, and the lines of the bulk load.
    assert!(accepted >= 3 * 700 + 300);
    assert_eq!(count("sillage_formulas_accepted_total", &[]), accepted);
    assert_eq!(count("sillage_formulas_duplicate_total", &[]), total(&report, "duplicates"));
    let read = ["route=\"formula_get\"", "status=\"200\""];
    assert_eq!(count("sillage_http_requests_total", &read), total(&report, "read"));
    let left = count("sillage_queue_messages", &["queue=\"formulas\""]);
    assert_eq!(left, accepted - total(&report, "acked"));
    for name in ["duplicates", "read", "acked"] {
        assert!(total(&report, name) > 0, "{name}");
    }
}

#[test]
fn acks_beyond_its_own_stock_are_of_messages_that_were_there_before() {
    let store = Store::new();
    let server = store.serve();
    let address = url(&server);
    let brought = 900;
    measure(&[&address, "--workload=bulk", "--lines=900", "--seed=1"]);
    let (mut accepted, mut acked, mut seed) = (0, 0, 1);
    // As when one run measures several workloads: each counts only what it brought itself.
    while acked <= accepted {
        seed += 1;
        let lease = ["--workload=lease", "--stock=10", "--batch=40", "--connections=5"];
        let report =
            measure(&[&[address.as_str(), &format!("--seed={seed}")], &lease[..]].concat());
        accepted += total(&report, "accepted");
        acked += total(&report, "acked");
        let left = metric(&server, "sillage_queue_messages", &["queue=\"formulas\""]);
        assert_eq!(left + acked, brought + accepted, "each message is acked once");
    }
}

#[test]
fn it_starts_its_own_server_and_references_and_leaves_nothing_behind() {
    let beside = tempfile::tempdir().expect("a temporary directory can be made");
    let path = beside.path().to_str().expect("a plain name");
    let report = measure(&["--connections=3", "--ceiling", "--beside", path]);
    let servers = report["results"][0]["servers"].as_object().expect("an object");
    for name in ["bare", "ceiling", "sillage"] {
        assert!(servers[name]["requests"].as_u64() > Some(0), "{name}");
        assert!(servers[name]["sillage_to_it"].as_f64() > Some(0.0), "{name}");
    }
    assert_eq!(std::fs::read_dir(beside.path()).expect("it is there").count(), 0);
}

#[test]
fn an_open_loop_sends_what_is_due_and_no_more() {
    let store = Store::new();
    let server = store.serve();
    let rate = ["--rate=500/s", "--connections=4", "--seconds=0.4"];
    let report = run(["bench", &url(&server), "--json", "--rounds=1"].iter().chain(&rate));
    let report: Value = serde_json::from_slice(&report.stdout).expect("one JSON document");
    let (sent, unsent) = (&figures(&report)["requests"], &figures(&report)["unsent"]);
    // Requests 0 to 199 are due within 0.4 s.
    assert_eq!(sent.as_u64().zip(unsent.as_u64()).map(|(a, b)| a + b), Some(200));
    assert_eq!(report["results"][0]["open_rate_per_s"], 500.0);
}

#[test]
fn the_same_seed_makes_the_same_formulas() {
    let store = Store::new();
    let server = store.serve();
    let address = url(&server);
    let seeded = ["--seed=42", "--connections=2"];
    let loaded = measure(&[&address, "--workload=bulk", "--lines=500", "--seed=42"]);
    assert_eq!(loaded["seed"], 42);
    let stocked = ["--workload=duplicates", "--stocked", "--stock=500"];
    let again = measure(&[&[address.as_str()], &stocked[..], &seeded].concat());
    assert!(total(&again, "duplicates") > 0);
    assert_eq!(total(&again, "accepted"), 0);
    // What is stored is no new formula: the first answer that says so ends the run.
    let output = run(["bench", &address, "--seconds=0.1"].iter().chain(&seeded));
    assert_refused(&output, 65, "status 409 instead of 201");
    let on = measure(&[&[address.as_str(), "--first=500"], &seeded[..]].concat());
    assert!(total(&on, "accepted") > 0);
}

#[test]
fn a_token_is_sent_and_a_wrong_one_is_told() {
    let token = "let-me-in";
    let digest: String = sha256(token).iter().map(|byte| format!("{byte:02x}")).collect();
    let store = Store::new();
    let tokens = store.beside("tokens");
    std::fs::write(&tokens, format!("bench {digest} submit,read,consume,admin\n"))
        .expect("a file can be written");
    let store = store.with(&["--tokens", tokens.to_str().expect("a plain name")]);
    let server = store.serve();
    let address = url(&server);
    let with_token = [&address, "--token", token, "--connections=2", "--workload=submit,bulk"];
    assert!(total(&measure(&with_token), "accepted") > 0);
    for wrong in [&["--token", "other"][..], &[]] {
        let output = run(["bench", &address, "--connections=1"].iter().chain(wrong));
        assert_refused(&output, 2, "the server answered 401");
    }
}

fn sha256(text: &str) -> [u8; 32] {
    use sha2::Digest as _;
    sha2::Sha256::digest(text).into()
}

#[test]
fn a_server_that_is_not_there_and_one_that_is_no_sillage_are_told() {
    let store = Store::new();
    let gone = store.serve();
    let address = url(&gone);
    gone.kill();
    assert_refused(&run(["bench", &address, "--connections=1"]), 74, "cannot reach");
    assert_refused(&run(["bench", "ftp://127.0.0.1"]), 2, "not the address of a server");
    assert_refused(&run(["bench", "--rate=0"]), 2, "not a rate");
    assert_refused(&run(["bench", "--connections=1001"]), 2, "not a number from 1 to 1000");
    assert_refused(&run(["bench", "--seconds=0.1", "--", "--no-such-flag"]), 74, "ended");
}

#[test]
fn a_signal_ends_it_and_leaves_nothing_behind() {
    let beside = tempfile::tempdir().expect("a temporary directory can be made");
    let mut command = sillage(["bench", "--connections=2", "--seconds=600", "--beside"]);
    command.arg(beside.path()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().expect("the program can be started");
    let stdout = child.stdout.take().expect("standard output is piped");
    // Once the seed is told it listens for signals.
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line).expect("it prints");
    assert!(line.starts_with("seed "), "{line}");
    let has_server = || std::fs::read_dir(beside.path()).expect("it is there").count() > 0;
    ask_until("it starts a server", has_server);
    kill_process(Pid::from_child(&child), Signal::TERM).expect("our own child can be signalled");
    assert_eq!(child.wait().expect("our own child can be waited for").code(), Some(74));
    assert_eq!(std::fs::read_dir(beside.path()).expect("it is there").count(), 0);
}

#[test]
fn tables_are_for_people_and_name_the_seed() {
    let output = run(["bench", "--connections=2", "--seconds=0.1", "--rounds=1", "--seed=9"]);
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    for words in ["seed 9 ", "### submit, 2 connections, closed loop", "| sillage ", "commits of"] {
        assert!(text.contains(words), "{words:?} in {text}");
    }
}
