//! Nodes that do not tell, or tell what is not so, when they are looked at.

use serde_json::{Value, json};

use crate::common::{Call, ask_until};
use crate::support::*;

/// What a node answers when it is looked at: before the call, and then no more for long.
const TELLS_ONCE: [&str; 7] = ["200", "500", "500", "500", "500", "500", "500"];

#[test]
fn a_node_that_does_not_tell_is_undone_if_it_may_have_been_changed_and_else_never_touched() {
    let cluster = Cluster::start(4, &[]);
    let mut client = cluster.client();
    // Each is about another node, so that none is left alone for what another test has it do.
    let cases = [
        ("create", "done", "timeout-after"),
        ("create", "not done", "timeout"),
        ("create", "there before", "timeout"),
        ("delete", "not there before", "timeout"),
    ];
    cluster.add(&[2], "there before");
    cluster.add(&[0, 1, 2], "not there before");
    let mut begun = Vec::new();
    for (node, (action, group, fault)) in cases.into_iter().enumerate() {
        let looks = if node < 2 { &TELLS_ONCE[..4] } else { &TELLS_ONCE };
        let told = json!({"group": group, "script": [fault], "script_get": looks});
        cluster.nodes.behave(node, &told);
        begun.push(begin(&mut client, action, group));
    }
    let ends: Vec<Value> = begun.iter().map(|id| await_end(&mut client, id)).collect();
    for node in 0..2 {
        assert_stands(&ends[node], "rolled_back", &["undone"; 4]);
        assert_eq!(cluster.methods(node, cases[node].1), ["POST", "DELETE"]);
        assert!(cluster.nodes.holders(cases[node].1).is_empty());
    }
    assert_eq!(cluster.methods(2, "there before"), ["POST"], "not ours to remove: {}", ends[2]);
    assert_eq!(cluster.nodes.holders("there before"), [2], "{}", ends[2]);
    assert_eq!(cluster.methods(3, "not there before"), ["DELETE"], "nor to make: {}", ends[3]);
    assert_eq!(cluster.nodes.holders("not there before"), [0, 1, 2], "{}", ends[3]);
}

#[test]
fn a_page_in_place_of_an_answer_is_not_taken_for_a_delete() {
    let cluster = Cluster::start(3, &[]);
    let mut client = cluster.client();
    cluster.add(&[0, 1, 2], "g");
    cluster.script(2, "g", &["garbage"]);
    let end = carry_out(&mut client, "delete", "g");
    let expected = if end["state"] == "succeeded" { 0 } else { 3 };
    assert_eq!(cluster.nodes.holders("g").len(), expected, "{end}");
}

#[test]
fn nodes_that_cannot_be_looked_at_are_not_called() {
    let cluster = Cluster::start(3, &[]);
    let mut client = cluster.client();
    let hang = json!({"group": "g", "script_get": ["timeout", "sever"]});
    cluster.nodes.behave(1, &hang);
    let end = carry_out(&mut client, "create", "g");
    assert_stands(&end, "succeeded", &["done"; 3]);
    assert_eq!(end["tries"], 2, "{end}");
    for node in 0..3 {
        assert_eq!(cluster.methods(node, "g"), ["POST"], "not before all could be looked at");
    }
}

#[test]
fn a_formula_can_be_withdrawn_while_its_release_waits_and_is_gone_for_good() {
    let cluster = Cluster::start(3, &[["--flow", "release"]]);
    let mut client = cluster.client();
    cluster.nodes.always(1, "403");
    let formula = crate::common::numbered(1);
    let formula = client.post("/formulas", formula).expect(201).json();
    let formula = formula["id"].as_str().expect("an id").to_owned();
    ask_until("it is held", || releases(&mut client, "dead").len() == 1);
    cluster.nodes.mend(1);
    let path = format!("/formulas/{formula}");
    let withdraw = Call::new("DELETE", &*path).header("Prefer", "wait=40");
    let end = client.send(&withdraw);
    assert!(matches!(end.status, 200 | 204), "{}: {}", end.status, end.text());
    client.get(&path).expect(404);
    assert!(cluster.nodes.holders(&formula).is_empty());
    assert!(releases(&mut client, "dead").is_empty(), "nobody can release it any more");
}

#[test]
fn a_formula_is_not_withdrawn_past_a_release_that_is_under_way() {
    let cluster = Cluster::start(3, &[["--flow", "release"], ["--node-deadline", "2s"]]);
    let mut client = cluster.client();
    cluster.nodes.script(2, &["200@700ms"]);
    let formula = client.post("/formulas", crate::common::numbered(1)).expect(201).json();
    let formula = formula["id"].as_str().expect("an id").to_owned();
    cluster.await_calls(2, &formula, 1);
    let path = format!("/formulas/{formula}");
    let withdraw = Call::new("DELETE", &*path).header("Prefer", "wait=40");
    let mut answer = client.send(&withdraw);
    ask_until("the release is over", || {
        if answer.status == 409 {
            answer = client.send(&withdraw);
        }
        answer.status != 409
    });
    assert_eq!(answer.status, 200, "{}", answer.text());
    client.get(&path).expect(404);
    assert!(cluster.nodes.holders(&formula).is_empty(), "neither left behind nor made again");
}
