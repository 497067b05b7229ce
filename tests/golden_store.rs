//! Stores of format 2 as released versions left them, opened by the present one.
//!
//! `data/golden/v2/store` was cut off (`kill -9`) with two snapshots, a log behind them, and
//! something of every kind in them; `data/golden/v2/answers.json` is what its server said before.
//! `SILLAGE_GOLDEN=write cargo test --test golden_store` makes both where there are none.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{Call, Client, Store, assert_problem, lease, list_all, numbered, run, settle};
use serde_json::{Value, json};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data/golden/v2").join(name)
}

const KEYED: u64 = 7;
const SEGMENTS: [&str; 2] = ["--segment-size", "64KiB"];

fn keyed(body: String) -> Call {
    Call::post("/formulas", body).key("golden-key")
}

fn batch() -> Call {
    let array = format!("[{},{},{{}}]", numbered(200), numbered(3));
    Call::post("/formulas", array).key("golden-batch")
}

/// Copies the files that a store consists of. Directories without any may not be there: they
/// are not kept in the repository.
fn copy_files(from: &Path, to: &Path) {
    for directory in ["", "log", "snapshots"] {
        fs::create_dir_all(to.join(directory)).expect("made");
        for entry in fs::read_dir(from.join(directory)).expect("listed") {
            let path = entry.expect("listed").path();
            let is_kept = path.is_file() && !path.ends_with("LOCK") && !path.ends_with("next.tmp");
            if is_kept {
                let target = to.join(directory).join(path.file_name().expect("a name"));
                fs::copy(&path, target).expect("copied");
            }
        }
    }
}

/// What a store answers that does not depend on when it is asked.
fn answers(client: &mut Client) -> Value {
    let mut told = serde_json::Map::new();
    let mut ask = |client: &mut Client, target: String| {
        let mut answer: Value = client.get(&target).expect(200).json();
        let dated = answer.as_object_mut().expect("an object");
        dated.remove("oldest_age_s");
        let messages = dated.get_mut("messages").and_then(Value::as_array_mut);
        for message in messages.into_iter().flatten() {
            let message = message.as_object_mut().expect("an object");
            message.remove("lease_until");
            message.remove("due");
        }
        told.insert(target, answer);
    };
    for formula in list_all(client) {
        ask(client, format!("/formulas/{}", formula.id));
        ask(client, format!("/formulas/{}/trail", formula.id));
    }
    ask(client, "/formulas?limit=1000".into());
    ask(client, "/queues/formulas".into());
    for state in ["ready", "leased", "delayed", "dead"] {
        ask(client, format!("/queues/formulas/messages?state={state}&limit=1000"));
    }
    Value::Object(told)
}

/// Makes the store and what it said.
fn write() {
    let store = Store::new().with(&SEGMENTS).with(&["--max-attempts", "2"]);
    let server = store.serve();
    let mut client = server.client();
    let mut receipts = Vec::new();
    for part in 0..2 {
        for number in 0..20 {
            client.post("/formulas", numbered(part * 20 + number)).expect(201);
        }
        let held = lease(&mut client, 8, 40_000.0);
        let ours: Vec<&str> = held.iter().map(|message| message.receipt.as_str()).collect();
        settle(&mut client, "ack", &ours[..3], &json!({})).expect(200);
        let later = json!({"delay_s": 600_000, "reason": "no glass"});
        settle(&mut client, "nack", &ours[3..5], &later).expect(200);
        receipts.push(ours[7].to_owned());
        for at in [0, 6] {
            let path = format!("/formulas/{}", held[at].formula.id);
            client.send(&Call::new("DELETE", path)).expect(204);
        }
        for _ in 0..2 {
            let held = lease(&mut client, 1, 40_000.0);
            settle(&mut client, "nack", &[&held[0].receipt], &json!({"reason": "x"})).expect(200);
        }
        client.send(&Call::new("POST", "/admin/snapshot")).expect(200);
    }
    let first = client.send(&keyed(numbered(1000 + KEYED))).expect(201).text().to_owned();
    let first_batch = client.send(&batch()).expect(207).text().to_owned();
    // Keys stand in a snapshot, too, and in the log behind it.
    client.send(&Call::new("POST", "/admin/snapshot")).expect(200);
    client.post("/formulas", numbered(300)).expect(201);
    let said = json!({
        "receipts": receipts,
        "keyed": first,
        "batch": first_batch,
        "answers": answers(&mut client),
    });
    server.kill();
    copy_files(&store.data(), &golden("store"));
    let text = serde_json::to_string_pretty(&said).expect("JSON");
    fs::write(golden("answers.json"), text + "\n").expect("written");
}

#[test]
fn store_of_format_2_opens_for_ever_and_says_what_it_said() {
    if std::env::var("SILLAGE_GOLDEN").is_ok_and(|what| what == "write") {
        assert!(!golden("store").exists(), "released bytes are never rewritten");
        write();
    }
    let said: Value =
        serde_json::from_slice(&fs::read(golden("answers.json")).expect("read")).expect("JSON");
    let store = Store::new().with(&SEGMENTS);
    copy_files(&golden("store"), &store.data());
    let data = store.data();
    let checked = run(["check", data.to_str().expect("a plain path")]);
    assert!(checked.status.success(), "{checked:?}");

    for round in 0..2 {
        let server = store.serve();
        assert!(!server.transcript().iter().any(|line| line.contains("WARN")));
        let mut client = server.client();
        let now = answers(&mut client);
        let (was, is) = (said["answers"].as_object(), now.as_object());
        let (was, is) = (was.expect("an object"), is.expect("an object"));
        assert_eq!(was.len(), is.len());
        for (target, answer) in was {
            let mut expected = answer.clone();
            // The one setting among the answers; the store was made with another.
            if target == "/queues/formulas" {
                expected["settings"] = is[target]["settings"].clone();
            }
            assert_eq!(is[target], expected, "{target}, round {round}");
        }
        // What the first answers were about, byte for byte, through the snapshot's tables.
        let again = client.send(&keyed(numbered(1000 + KEYED))).expect(201);
        assert_eq!(
            (again.text(), again.header("Idempotent-Replayed")),
            (text(&said["keyed"]), Some("true"))
        );
        assert_eq!(client.send(&batch()).expect(207).text(), text(&said["batch"]));
        assert_problem(&client.send(&keyed(numbered(1))), 422);
        assert_problem(&client.post("/formulas", numbered(18)), 409);
        assert_problem(&client.post("/formulas", numbered(300)), 409);
        // And a snapshot of this version on top of it says the same.
        client.send(&Call::new("POST", "/admin/snapshot")).expect(200);
        server.kill();
    }
    let server = store.serve();
    let receipts: Vec<&str> = said["receipts"].as_array().expect("two").iter().map(text).collect();
    settle(&mut server.client(), "ack", &receipts, &json!({})).expect(200);
}

/// The one that `engine::golden` opens.
#[test]
fn store_with_seals_and_hooks_is_checked_shown_and_exported_and_its_secrets_are_not() {
    let store = Store::new();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/golden/v3/store");
    copy_files(&golden, &store.data());
    let data = store.data();
    let data = data.to_str().expect("a plain path");
    let says = |arguments: &[&str]| {
        let output = run(arguments.iter().copied());
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    let checked = says(&["check", data]);
    let dumped = says(&["inspect", data, "dump", "--json"]);
    let frames: Vec<Value> =
        dumped.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    for fact in [
        "seal_requested",
        "call_begun",
        "condemned",
        "hook_created",
        "hook_secret_changed",
        "hook_disabled",
        "hook_owed",
        "hook_delivered",
        "hook_redelivered",
    ] {
        assert!(frames.iter().any(|frame| frame["fact"] == fact), "{fact} is shown");
    }
    // 0x44, as numbers, in hex and in base 64.
    let plain = says(&["inspect", data, "dump"]);
    for secret in ["68,68", "68, 68", "444444", "RERE"] {
        assert!(!plain.contains(secret) && !dumped.contains(secret), "{secret}");
    }
    let last = frames.iter().rev().find_map(|frame| frame["receipt"].as_str());
    let receipt = last.expect("a record has one");
    assert!(says(&["inspect", data, "verify", "--receipt", receipt]).starts_with("present"));
    // Formulas only: of four, one was withdrawn.
    assert_eq!(says(&["export", "--data", data]).lines().count(), 3);
    assert_eq!(says(&["check", data]), checked, "nothing has changed");
    says(&["reset", "--data", data, "--yes"]);
    assert!(!run(["check", data]).status.success(), "there is no store any more");
}

fn text(value: &Value) -> &str {
    value.as_str().expect("text")
}
