//! Formulas that go to the nodes by themselves, and leave them again; and who is told.

use serde_json::{Value, json};

use crate::common::{Call, Client, Receiver, Signer, ask_until, numbered};
use crate::support::*;

#[track_caller]
fn subscribe(client: &mut Client, receiver: &Receiver, events: &[&str]) {
    let hook = json!({"url": receiver.url("/a"), "events": events}).to_string();
    client.post("/hooks", hook).expect(201);
}

/// Submits a formula; gives its id.
#[track_caller]
fn submit(client: &mut Client, number: u64) -> String {
    let formula = client.post("/formulas", numbered(number)).expect(201).json();
    formula["id"].as_str().expect("an id").to_owned()
}

#[track_caller]
fn steps(client: &mut Client, formula: &str) -> Vec<Value> {
    let trail = client.get(&format!("/formulas/{formula}/trail")).expect(200).json();
    trail["steps"].as_array().expect("a list").clone()
}

/// Asks until the trail has this step, and gives the latest such.
#[track_caller]
fn await_step(client: &mut Client, formula: &str, name: &str) -> Value {
    let mut found = None;
    ask_until(&format!("the trail has {name}"), || {
        found = steps(client, formula).into_iter().rfind(|step| step["step"] == name);
        found.is_some()
    });
    found.expect("found above")
}

/// What was accepted by the receiver, by type.
#[track_caller]
fn await_told(receiver: &Receiver, event: &str) -> Value {
    let stats = receiver.await_stats(event, |stats| {
        stats.accepted_at("/a").iter().any(|told| told["type"] == event)
    });
    let told = stats.accepted_at("/a").into_iter().find(|told| told["type"] == event);
    told.expect("seen above")
}

const HOOKS: [[&str; 2]; 3] =
    [["--webhook-allow", "127.0.0.0/8"], ["--backoff-base", "20ms"], ["--backoff-cap", "200ms"]];

#[test]
fn a_formula_is_sealed_and_released_and_a_withdrawal_takes_it_off_all_nodes() {
    let (receiver, signer) = (Receiver::start(&[]), Signer::start(&["--rate", "100/s"]));
    let url = signer.url();
    let [allow, base, cap] = HOOKS;
    let seals = [["--seal-url", &*url], ["--seal-key", crate::common::SIGNER_KEY]];
    let flow = [["--flow", "seal,release"], ["--seal-rate", "50/s"]];
    let settings = [allow, base, cap, seals[0], seals[1], flow[0], flow[1]];
    let mut cluster = Cluster::start(3, &settings);
    let mut client = cluster.client();
    subscribe(&mut client, &receiver, &["formula.*"]);
    let formula = submit(&mut client, 1);
    let released = await_step(&mut client, &formula, "released");
    assert_eq!(cluster.nodes.holders(&formula), [0, 1, 2], "under its id");
    let nodes = released["nodes"].as_array().expect("each node");
    for (node, url) in nodes.iter().zip(cluster.nodes.urls()) {
        assert_eq!((&node["url"], &node["outcome"]), (&json!(url), &json!("done")));
    }
    let names: Vec<String> = steps(&mut client, &formula)
        .iter()
        .map(|step| step["step"].as_str().expect("a name").to_owned())
        .collect();
    let place = |name: &str| names.iter().position(|it| it == name);
    assert!(
        place("accepted") < place("sealed") && place("sealed") < place("released"),
        "{names:?}"
    );
    let told = await_told(&receiver, "formula.released");
    assert_eq!(told["data"]["id"], formula);
    assert_eq!(told["data"]["transaction"], released["transaction"]);
    // A crash takes nothing of it.
    let mut client = cluster.crash();
    assert_eq!(await_step(&mut client, &formula, "released"), released);
    // Withdrawn: first from the nodes, then from the store.
    cluster.script(2, &formula, &["200@400ms"]);
    let path = format!("/formulas/{formula}");
    let promise = client.send(&Call::new("DELETE", &*path)).expect(202);
    let location = promise.header("location").expect("where to look").to_owned();
    assert_eq!(
        (&promise.json()["action"], &promise.json()["formula"]),
        (&json!("delete"), &json!(path))
    );
    client.get(&path).expect(200);
    assert_eq!(client.get(&location).expect(200).json()["groupId"], formula);
    assert_eq!(await_end(&mut client, &id(&promise.json()))["state"], "succeeded");
    assert!(cluster.nodes.holders(&formula).is_empty());
    client.get(&path).expect(404);
    await_told(&receiver, "formula.withdrawn");
    // The same again is another formula.
    assert_eq!(submit(&mut client, 1), formula);
    ask_until("it is on the nodes", || cluster.nodes.holders(&formula).len() == 3);
}

#[test]
fn a_formula_that_a_node_refuses_is_held_with_a_reason_and_released_after_a_redrive() {
    let receiver = Receiver::start(&[]);
    let [allow, base, cap] = HOOKS;
    let cluster = Cluster::start(3, &[["--flow", "release"], allow, base, cap]);
    let mut client = cluster.client();
    subscribe(&mut client, &receiver, &["formula.held", "formula.released"]);
    cluster.nodes.always(1, "403");
    let formula = submit(&mut client, 1);
    let held = await_step(&mut client, &formula, "held");
    assert_eq!(held["queue"], "releases");
    assert!(held["reason"].as_str().is_some_and(|reason| reason.contains("403")), "{held}");
    let ended = await_step(&mut client, &formula, "release_rolled_back");
    let outcomes: Vec<&Value> = (0..3).map(|node| &ended["nodes"][node]["outcome"]).collect();
    assert_eq!(outcomes, ["undone", "refused", "undone"]);
    assert!(cluster.nodes.holders(&formula).is_empty());
    let told = await_told(&receiver, "formula.held");
    assert_eq!(
        (&told["data"]["id"], &told["data"]["queue"]),
        (&json!(formula), &json!("releases"))
    );
    let dead = releases(&mut client, "dead");
    assert_eq!((dead.len(), &dead[0]["formula"]["id"]), (1, &json!(formula)));
    cluster.nodes.mend(1);
    let moved = client.post("/queues/releases/redrive", "{}").expect(200).json();
    assert_eq!(moved["moved"], 1);
    await_step(&mut client, &formula, "released");
    assert_eq!(cluster.nodes.holders(&formula), [0, 1, 2]);
    await_told(&receiver, "formula.released");
    assert!(releases(&mut client, "dead").is_empty());
}

#[test]
fn a_partly_released_formula_is_taken_back_and_tried_again() {
    let cluster = Cluster::start(3, &[["--flow", "release"]]);
    let mut client = cluster.client();
    cluster.nodes.script(2, &["500"]);
    let formula = submit(&mut client, 1);
    await_step(&mut client, &formula, "released");
    assert_eq!(cluster.nodes.holders(&formula), [0, 1, 2]);
    assert_eq!(cluster.methods(0, &formula), ["POST", "DELETE", "POST"]);
    assert_spaced(&cluster.calls(2, &formula), &[FIRST_WAIT_MS]);
}

#[test]
fn a_withdrawal_that_a_node_refuses_leaves_the_formula_where_it_was() {
    let cluster = Cluster::start(3, &[["--flow", "release"]]);
    let mut client = cluster.client();
    let formula = submit(&mut client, 1);
    await_step(&mut client, &formula, "released");
    cluster.script(2, &formula, &["403"]);
    let path = format!("/formulas/{formula}");
    let withdraw = Call::new("DELETE", &*path).header("Prefer", "wait=40");
    let refused = client.send(&withdraw).expect(200).json();
    assert_stands(&refused, "rolled_back", &["undone", "undone", "refused"]);
    assert_eq!(cluster.nodes.holders(&formula), [0, 1, 2]);
    client.get(&path).expect(200);
    await_step(&mut client, &formula, "withdrawal_rolled_back");
    let done = client.send(&withdraw).expect(200).json();
    assert_stands(&done, "succeeded", &["done"; 3]);
    client.get(&path).expect(404);
    assert!(cluster.nodes.holders(&formula).is_empty());
}

#[test]
fn hooks_are_told_how_each_transaction_ends_once() {
    let receiver = Receiver::start(&[]);
    let [allow, base, cap] = HOOKS;
    let cluster = Cluster::start(3, &[allow, base, cap]);
    let mut client = cluster.client();
    subscribe(&mut client, &receiver, &["transaction.*"]);
    cluster.script(1, "refused", &["403"]);
    cluster.script(0, "stuck", &["201", "403", "403", "403"]);
    cluster.script(1, "stuck", &["403"]);
    let ends = [("good", "succeeded"), ("refused", "rolled_back"), ("stuck", "failed")];
    for (group, end) in ends {
        let transaction = carry_out(&mut client, "create", group);
        assert_eq!(transaction["state"], end, "{transaction}");
        let told = await_told(&receiver, &format!("transaction.{end}"));
        let data = &told["data"];
        assert_eq!((&data["id"], &data["groupId"]), (&transaction["id"], &json!(group)));
        assert_eq!((&data["action"], &data["state"]), (&json!("create"), &json!(end)));
        assert_eq!(data.get("reason"), transaction.get("reason"));
    }
    assert_eq!(receiver.stats().accepted_at("/a").len(), 3);
}
