//! Rows C9 and B4: a server that dies at any point goes on where it was, and all ends consistent.

use serde_json::json;

use crate::common::{Client, Server, sillage};
use crate::support::*;

/// Waits until the transaction says this of its nodes.
#[track_caller]
fn await_outcomes(client: &mut Client, id: &str, expected: &[&str]) {
    crate::common::ask_until(&format!("nodes of {id} are {expected:?}"), || {
        outcomes(&look_at(client, id)) == expected
    });
}

#[test]
fn a_server_killed_while_a_node_hangs_settles_what_that_node_did() {
    let mut cluster = Cluster::start(3, &[["--node-deadline", "3s"]]);
    let mut client = cluster.client();
    let faults = ["timeout", "timeout-after", "late@1h"];
    let begun = faults.map(|fault| {
        cluster.script(2, fault, &[fault]);
        begin(&mut client, "create", fault)
    });
    for id in &begun {
        await_outcomes(&mut client, id, &["done", "done", "calling"]);
    }
    let mut client = cluster.crash();
    for id in &begun {
        assert_stands(&look_at(&mut client, id), "running", &["done", "done", "unknown"]);
    }
    cluster.nodes.release_late(2);
    let [undone, done, late] = begun.map(|id| await_end(&mut client, &id));
    assert_stands(&undone, "rolled_back", &["undone", "undone", "unchanged"]);
    assert_stands(&done, "succeeded", &["done"; 3]);
    assert_stands(&late, "succeeded", &["done"; 3]);
    assert!(cluster.nodes.consistency().partly.is_empty());
    assert_eq!(cluster.methods(0, "timeout"), ["POST", "DELETE"]);
    for (group, node) in
        [("timeout", 2), ("timeout-after", 0), ("timeout-after", 2), ("late@1h", 2)]
    {
        assert_eq!(cluster.methods(node, group), ["POST"], "{group} on {node}: never sent twice");
    }
}

#[test]
fn a_server_killed_before_any_node_has_answered_undoes_or_ends_what_it_began() {
    let mut cluster = Cluster::start(3, &[]);
    let mut client = cluster.client();
    let (mut groups, actions) = (Vec::new(), ["create", "delete"]);
    for (action, fault) in
        actions.into_iter().flat_map(|it| [(it, "timeout"), (it, "timeout-after")])
    {
        let group = format!("{action} {fault}");
        if action == "delete" {
            cluster.add(&[0, 1, 2], &group);
        }
        // The first does it and tells nobody; the others may not do it.
        cluster.script(0, &group, &["timeout-after"]);
        (1..3).for_each(|node| cluster.script(node, &group, &[fault]));
        let id = begin(&mut client, action, &group);
        groups.push((action, fault, group, id));
    }
    for (_, _, group, _) in &groups {
        (0..3).for_each(|node| cluster.await_calls(node, group, 1));
    }
    let mut client = cluster.crash();
    for (action, fault, group, id) in &groups {
        let end = await_end(&mut client, id);
        let is_done = *fault == "timeout-after";
        assert_eq!(end["state"], if is_done { "succeeded" } else { "rolled_back" }, "{end}");
        let is_there = is_done == (*action == "create");
        assert_eq!(cluster.nodes.holders(group).len(), if is_there { 3 } else { 0 }, "{group}");
    }
}

#[test]
fn a_server_killed_in_undo_undoes_what_is_left_under_higher_numbers() {
    let mut cluster = Cluster::start(3, &[["--node-deadline", "1s"]]);
    let mut client = cluster.client();
    let begun = ["timeout", "timeout-after"].map(|fault| {
        cluster.script(0, fault, &["201", fault]);
        cluster.script(2, fault, &["403"]);
        let id = begin(&mut client, "create", fault);
        (fault, id)
    });
    for (fault, _) in &begun {
        cluster.await_calls(0, fault, 2);
    }
    let mut client = cluster.crash();
    for (fault, id) in begun {
        let end = await_end(&mut client, &id);
        assert_stands(&end, "rolled_back", &["undone", "undone", "refused"]);
        assert!(cluster.nodes.holders(fault).is_empty(), "{fault}");
        let calls = cluster.calls(0, fault);
        let expected = if fault == "timeout" { 2 } else { 1 };
        assert_eq!(calls[1..].iter().filter(|call| call.method == "DELETE").count(), expected);
        let numbers: Vec<u64> = calls.iter().map(|call| call.key_number()).collect();
        assert!(numbers.is_sorted_by(|one, next| one < next), "{numbers:?}");
    }
}

#[test]
fn a_server_killed_while_it_waits_for_the_next_try_tries_again_and_counts_on() {
    let mut cluster = Cluster::start(3, &[]);
    let mut client = cluster.client();
    (0..3).for_each(|node| cluster.script(node, "g", &["500"]));
    let waiting = begin(&mut client, "create", "g");
    await_state(&mut client, &waiting, &["to_be_retried"]);
    let mut client = cluster.crash();
    let end = await_end(&mut client, &waiting);
    assert_stands(&end, "succeeded", &["done"; 3]);
    assert_eq!((&end["tries"], &end["nodes"][0]["attempts"]), (&json!(1), &json!(2)));
}

#[test]
fn what_has_failed_is_failed_after_a_crash_and_healed_by_the_next_server() {
    let mut cluster = Cluster::start(3, &[]);
    let mut client = cluster.client();
    cluster.script(0, "g", &["201", "403", "403", "403"]);
    cluster.script(2, "g", &["403"]);
    let failed = carry_out(&mut client, "create", "g");
    assert_eq!(failed["state"], "failed", "{failed}");
    let mut client = cluster.crash();
    assert_eq!(look_at(&mut client, &id(&failed)), failed);
    refusal(&ask(&mut client, "delete", "g", 0), 409, "group-held");
    assert_eq!(releases(&mut client, "dead").len(), 1);
    cluster = cluster.with(["--heal-every", "200ms"]);
    let mut client = cluster.crash();
    let healed = await_state(&mut client, &id(&failed), &["rolled_back"]);
    assert_eq!(outcomes(&healed)[0], "undone");
    assert!(cluster.nodes.holders("g").is_empty());
}

#[test]
fn a_transaction_ends_on_the_nodes_that_it_began_with_whatever_is_configured_by_then() {
    let mut cluster = Cluster::start(4, &[["--node-deadline", "1s"]]);
    cluster.kill();
    let urls = cluster.nodes.urls().to_vec();
    let mut cluster = cluster.with(["--nodes", &urls[..3].join(",")]);
    let mut client = cluster.serve();
    cluster.script(1, "g", &["403"]);
    cluster.script(2, "g", &["timeout-after"]);
    let begun = begin(&mut client, "create", "g");
    await_outcomes(&mut client, &begun, &["done", "refused", "calling"]);
    cluster.kill();
    // The third goes, another comes.
    let mut cluster = cluster.with(["--nodes", &[&*urls[0], &urls[1], &urls[3]].join(",")]);
    let mut client = cluster.serve();
    let end = await_end(&mut client, &begun);
    assert_stands(&end, "rolled_back", &["undone", "refused", "undone"]);
    assert_eq!(end["nodes"][2]["url"], urls[2].as_str());
    assert_eq!(cluster.methods(2, "g"), ["POST", "DELETE"]);
    assert!(cluster.nodes.holders("g").is_empty());
    assert_eq!(cluster.nodes.stats(3).seen, 0, "the new one has nothing to do with it");
    let next = carry_out(&mut client, "create", "g");
    assert_stands(&next, "succeeded", &["done"; 3]);
    assert_eq!(cluster.nodes.holders("g"), [0, 1, 3]);
    let known = client.get("/nodes").expect(200).json();
    let configured = |url: &str| {
        let nodes = known["nodes"].as_array().expect("a list");
        nodes.iter().find(|node| node["url"] == url).map(|node| node["configured"].clone())
    };
    assert_eq!(configured(&urls[3]), Some(json!(true)), "{known}");
    assert_ne!(configured(&urls[2]), Some(json!(true)), "{known}");
}

#[test]
fn a_transaction_ends_also_when_no_nodes_are_configured_any_more() {
    let mut cluster = Cluster::start(3, &[]);
    let mut client = cluster.client();
    cluster.script(1, "g", &["403"]);
    cluster.script(2, "g", &["timeout-after"]);
    let begun = begin(&mut client, "create", "g");
    await_outcomes(&mut client, &begun, &["done", "refused", "calling"]);
    cluster.kill();
    let mut command = sillage(["serve", "--listen", "127.0.0.1:0", "--log-format", "json"]);
    command.arg("--data").arg(cluster.store().data());
    let server = Server::start(command).expect("it starts without nodes");
    let mut client = server.client();
    refusal(&client.post("/transactions", wish("create", "h")), 503, "releases-unavailable");
    assert_eq!(await_end(&mut client, &begun)["state"], "rolled_back");
    assert!(cluster.nodes.holders("g").is_empty());
}

#[test]
fn a_server_asked_to_stop_leaves_what_is_under_way_to_the_next() {
    let mut cluster = Cluster::start(3, &[["--node-deadline", "3s"]]);
    let mut client = cluster.client();
    cluster.script(2, "g", &["timeout"]);
    let begun = begin(&mut client, "create", "g");
    cluster.await_calls(2, "g", 1);
    assert_eq!(cluster.terminate().code, Some(0));
    let mut client = cluster.serve();
    assert_eq!(await_end(&mut client, &begun)["state"], "rolled_back");
    assert!(cluster.nodes.holders("g").is_empty());
}
