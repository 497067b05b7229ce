//! Rows C9 and C10: what was done on some nodes only is undone, and nothing else is.

use serde_json::json;

use crate::support::*;

/// What nodes can do without having done what was asked.
const BEFORE: [&str; 4] = ["500", "timeout", "sever", "garbage"];
/// And having done it.
const AFTER: [&str; 4] = ["500-after", "timeout-after", "sever-after", "garbage-after"];

#[test]
fn c09_whatever_the_third_node_does_the_first_two_are_undone_unless_it_has_done_it() {
    let cluster = Cluster::start(3, &[]);
    let mut client = cluster.client();
    for faults in [BEFORE, AFTER] {
        let begun = faults.map(|fault| {
            cluster.script(2, fault, &[fault]);
            (fault, begin(&mut client, "create", fault))
        });
        for (fault, id) in begun {
            let end = await_end(&mut client, &id);
            if AFTER.contains(&fault) {
                assert_stands(&end, "succeeded", &["done"; 3]);
                assert_eq!(cluster.nodes.holders(fault), [0, 1, 2]);
                continue;
            }
            assert_stands(&end, "rolled_back", &["undone", "undone", "unchanged"]);
            assert!(cluster.nodes.holders(fault).is_empty(), "{fault}");
            for node in 0..2 {
                let calls = cluster.calls(node, fault);
                let methods: Vec<&str> = calls.iter().map(|call| &*call.method).collect();
                assert_eq!(methods, ["POST", "DELETE"], "{fault} on {node}");
                assert!(calls[0].key_number() < calls[1].key_number());
            }
            assert_eq!(cluster.methods(2, fault), ["POST"], "there is nothing to undo");
        }
    }
}

#[test]
fn c09_a_call_that_takes_effect_late_is_judged_late() {
    let cluster = Cluster::start(3, &[["--node-deadline", "1s"]]);
    let mut client = cluster.client();
    cluster.script(2, "g", &["late@400ms"]);
    let end = carry_out(&mut client, "create", "g");
    assert_stands(&end, "succeeded", &["done"; 3]);
    assert_eq!(cluster.nodes.holders("g"), [0, 1, 2]);
    assert_eq!(cluster.nodes.consistency().late, 0);
}

#[test]
fn c09_a_group_that_was_there_before_survives() {
    let cluster = Cluster::start(3, &[]);
    let mut client = cluster.client();
    for (group, fault) in [("refused", "403"), ("broken", "500"), ("hanging", "timeout")] {
        cluster.add(&[0], group);
        cluster.script(2, group, &[fault]);
        let end = carry_out(&mut client, "create", group);
        assert_eq!(end["state"], "rolled_back", "{end}");
        assert_eq!(outcomes(&end)[..2], ["already", "undone"], "{end}");
        assert_eq!(cluster.nodes.holders(group), [0], "{group}");
        assert!(!cluster.methods(0, group).contains(&"DELETE".to_owned()), "{group}");
        // Nor is one created where there was none when a delete is undone.
        let only = format!("only one had it: {group}");
        cluster.add(&[0], &only);
        cluster.script(2, &only, &[fault]);
        let end = carry_out(&mut client, "delete", &only);
        if fault == "403" {
            assert_eq!(end["state"], "rolled_back", "{end}");
            assert_eq!(cluster.nodes.holders(&only), [0]);
        } else {
            // The third has not got it, whatever it says: it is as it should be.
            assert_eq!(end["state"], "succeeded", "{end}");
            assert!(cluster.nodes.holders(&only).is_empty());
        }
        assert_eq!(cluster.methods(1, &only), ["DELETE"]);
    }
}

#[test]
fn c10_a_delete_that_some_nodes_did_not_do_is_undone_by_creating_again() {
    let cluster = Cluster::start(3, &[]);
    let mut client = cluster.client();
    let faults = ["500", "timeout", "sever", "403"];
    let begun = faults.map(|fault| {
        cluster.add(&[0, 1, 2], fault);
        cluster.script(2, fault, &[fault]);
        (fault, begin(&mut client, "delete", fault))
    });
    for (fault, id) in begun {
        let end = await_end(&mut client, &id);
        let third = if fault == "403" { "refused" } else { "unchanged" };
        assert_stands(&end, "rolled_back", &["undone", "undone", third]);
        assert_eq!(cluster.nodes.holders(fault), [0, 1, 2], "{fault}");
        assert_eq!(cluster.methods(0, fault), ["DELETE", "POST"]);
        assert_eq!(cluster.methods(2, fault), ["DELETE"]);
    }
}

#[test]
fn c10_restored_by_somebody_else_counts_as_restored() {
    let cluster = Cluster::start(3, &[["--node-deadline", "1s"]]);
    let mut client = cluster.client();
    cluster.add(&[0, 1, 2], "g");
    cluster.script(2, "g", &["timeout"]);
    let id = begin(&mut client, "delete", "g");
    cluster.await_calls(0, "g", 1);
    cluster.await_calls(1, "g", 1);
    cluster.add(&[0], "g");
    let end = await_end(&mut client, &id);
    assert_stands(&end, "rolled_back", &["undone", "undone", "unchanged"]);
    let undo = &cluster.calls(0, "g")[1];
    assert_eq!((&*undo.method, undo.status), ("POST", Some(400)));
    assert_eq!(cluster.nodes.holders("g"), [0, 1, 2]);
}

#[test]
fn c09_undo_is_tried_three_times_with_waits_and_blocks_nobody() {
    let cluster = Cluster::start(3, &[]);
    let mut client = cluster.client();
    cluster.script(0, "g", &["201", "500", "sever", "500"]);
    cluster.script(2, "g", &["403"]);
    let first = begin(&mut client, "create", "g");
    cluster.await_calls(0, "g", 2);
    // While that goes on others are served.
    for number in 0..5 {
        let other = carry_out(&mut client, "create", &format!("other {number}"));
        assert_eq!(other["state"], "succeeded");
    }
    assert_eq!(look_at(&mut client, &first)["state"], "running");
    let failed = await_end(&mut client, &first);
    assert_stands(&failed, "failed", &["done", "undone", "refused"]);
    let calls = cluster.calls(0, "g");
    let methods: Vec<&str> = calls.iter().map(|call| &*call.method).collect();
    assert_eq!(methods, ["POST", "DELETE", "DELETE", "DELETE"]);
    assert_spaced(&calls[1..], &[FIRST_WAIT_MS, SECOND_WAIT_MS]);
    let numbers: Vec<u64> = calls.iter().map(|call| call.key_number()).collect();
    assert!(numbers.is_sorted_by(|one, next| one < next), "{numbers:?}");
    assert_eq!(cluster.nodes.holders("g"), [0], "and the state names it");
    // By hand: forward again, to what was asked.
    let end = retry(&mut client, &first);
    assert_eq!(end["state"], "succeeded", "{end}");
    assert_eq!(cluster.nodes.holders("g"), [0, 1, 2]);
}

#[test]
fn c09_what_has_failed_is_healed_in_the_background_when_the_node_lets_it() {
    let cluster = Cluster::start(3, &[["--heal-every", "200ms"]]);
    let mut client = cluster.client();
    cluster.nodes.behave(0, &json!({"script": ["201"]}));
    cluster.nodes.always(0, "403");
    cluster.script(2, "g", &["403"]);
    let failed = carry_out(&mut client, "create", "g");
    assert_stands(&failed, "failed", &["done", "undone", "refused"]);
    // It is tried again, and stays failed while it is.
    cluster.await_calls(0, "g", 5);
    assert_eq!(look_at(&mut client, &id(&failed))["state"], "failed");
    assert_eq!(releases(&mut client, "dead").len(), 1);
    refusal(&ask(&mut client, "create", "g", 0), 409, "group-held");
    cluster.nodes.mend(0);
    let healed = await_state(&mut client, &id(&failed), &["rolled_back"]);
    assert_eq!(outcomes(&healed)[0], "undone", "{healed}");
    assert!(cluster.nodes.holders("g").is_empty());
    assert_eq!(releases(&mut client, "dead").len(), 0, "there is nothing left to do about it");
    // Nobody holds the group any more.
    assert_eq!(carry_out(&mut client, "create", "g")["state"], "succeeded");
}

#[test]
fn c09_of_sixteen_nodes_fifteen_are_undone_when_one_refuses() {
    let cluster = Cluster::start(16, &[["--node-deadline", "5s"]]);
    let mut client = cluster.client();
    cluster.script(7, "g", &["403"]);
    let end = carry_out(&mut client, "create", "g");
    assert_eq!(end["state"], "rolled_back", "{end}");
    assert_eq!(outcomes(&end).iter().filter(|it| **it == "undone").count(), 15);
    assert_eq!(outcomes(&end)[7], "refused");
    assert!(cluster.nodes.holders("g").is_empty());
}

#[test]
fn c09_a_node_that_flaps_is_undone_in_the_end() {
    let cluster = Cluster::start(3, &[["--heal-every", "200ms"]]);
    let mut client = cluster.client();
    cluster.nodes.always(2, "403");
    cluster.nodes.behave(0, &json!({"flap_ms": 300}));
    let begun: Vec<String> =
        (0..4).map(|number| begin(&mut client, "create", &format!("g{number}"))).collect();
    for id in &begun {
        await_state(&mut client, id, &["rolled_back"]);
    }
    assert!(cluster.nodes.consistency().groups.is_empty());
    assert!(releases(&mut client, "dead").is_empty());
}
