//! Rows C1 to C8 and C11: what is asked of the nodes, and what their answers lead to.

use serde_json::json;

use crate::common::{Call, Response};
use crate::support::*;

#[test]
fn c01_one_node_or_sixteen_have_a_group_and_have_it_no_more() {
    for count in [1, 3, 5, 16] {
        let cluster = Cluster::start(count, &[["--node-deadline", "5s"]]);
        let mut client = cluster.client();
        let created = carry_out(&mut client, "create", "g");
        assert_stands(&created, "succeeded", &vec!["done"; count]);
        let urls: Vec<&str> =
            (0..count).filter_map(|node| created["nodes"][node]["url"].as_str()).collect();
        assert_eq!(urls, cluster.nodes.urls());
        assert_eq!(cluster.nodes.holders("g"), (0..count).collect::<Vec<_>>());
        let deleted = carry_out(&mut client, "delete", "g");
        assert_stands(&deleted, "succeeded", &vec!["done"; count]);
        assert!(cluster.nodes.holders("g").is_empty());
    }
}

#[test]
fn c02_nodes_are_sent_exactly_what_their_contract_says() {
    let cluster = Cluster::start(3, &[["--node-deadline", "5s"]]);
    let mut client = cluster.client();
    let names = [
        ("g", "g"),
        ("a/b", "a%2Fb"),
        ("50%", "50%25"),
        ("für dich", "f%C3%BCr%20dich"),
        ("?x=1#y", "%3Fx%3D1%23y"),
        ("\"", "%22"),
    ];
    for (group, path) in names {
        let created = carry_out(&mut client, "create", group);
        assert_stands(&created, "succeeded", &["done"; 3]);
        assert_eq!(created["groupId"], group);
        let deleted = carry_out(&mut client, "delete", group);
        for node in 0..3 {
            let stats = cluster.nodes.stats(node);
            let requests = stats.about(group);
            let lines: Vec<String> = requests.iter().map(|it| it.line()).collect();
            let look = format!("GET /v1/group/{path}/");
            assert_eq!(lines, [&*look, "POST /v1/group/", &look, "DELETE /v1/group/"]);
            let address = cluster.nodes.urls()[node].replace("http://", "");
            for (request, transaction) in
                requests.iter().zip([&created, &created, &deleted, &deleted])
            {
                assert_eq!(request.headers["host"], address);
                for never in ["authorization", "cookie", "transfer-encoding", "expect"] {
                    assert!(!request.headers.contains_key(never), "{request:?}");
                }
                if request.method == "GET" {
                    assert_eq!((&*request.body, &request.idempotency_key), ("", &None));
                    continue;
                }
                assert_eq!(request.headers["content-type"], "application/json");
                let length = request.body.len().to_string();
                assert_eq!(request.headers["content-length"], length);
                let body: serde_json::Value = serde_json::from_str(&request.body).expect("JSON");
                assert_eq!(body, json!({"groupId": group}));
                let key = request.idempotency_key.as_deref().expect("a key").trim_matches('"');
                let parts: Vec<&str> = key.split('/').collect();
                assert_eq!(parts[1..3], [&*id(transaction), &*node.to_string()], "{key}");
                assert_eq!((parts.len(), parts[0].len()), (4, 32), "the store is a UUID: {key}");
            }
        }
    }
}

#[test]
fn c03_all_nodes_are_called_at_once_and_before_any_has_answered() {
    let cluster = Cluster::start(5, &[["--node-deadline", "20s"]]);
    let mut client = cluster.client();
    for action in ["create", "delete"] {
        (0..5).for_each(|node| cluster.script(node, "g", &["200@700ms"]));
        assert_stands(&carry_out(&mut client, action, "g"), "succeeded", &["done"; 5]);
    }
    for round in 0..2 {
        let came: Vec<f64> = (0..5).map(|node| cluster.calls(node, "g")[round].at_ms).collect();
        let first = came.iter().copied().fold(f64::MAX, f64::min);
        let last = came.iter().copied().fold(0.0, f64::max);
        assert!(last < first + 700.0, "the first was answered before the last came: {came:?}");
    }
}

#[test]
fn c04_the_old_path_creates_and_deletes_and_refuses_what_is_no_action() {
    let cluster = Cluster::start(3, &[["--node-deadline", "5s"]]);
    let mut client = cluster.client();
    for (path, action) in
        [("/dtc/", "create"), ("/dtc/", "delete"), ("/dtc", "create"), ("/transactions", "delete")]
    {
        let answer = client.post(path, wish(action, "g")).expect(200).json();
        assert_stands(&answer, "succeeded", &["done"; 3]);
        assert_eq!((&answer["groupId"], &answer["action"]), (&json!("g"), &json!(action)));
        assert_eq!(answer["nodes"][0]["attempts"], 1);
        assert_eq!(look_at(&mut client, &id(&answer)), answer);
        assert_eq!(cluster.nodes.holders("g").len(), if action == "create" { 3 } else { 0 });
    }
    let seen = cluster.nodes.stats(0).seen;
    for body in [
        json!({"groupId": "g", "action": "drop"}),
        json!({"groupId": "g", "action": ""}),
        json!({"groupId": "g", "action": "Create"}),
        json!({"groupId": "g", "action": null}),
        json!({"groupId": "g", "action": ["create"]}),
        json!({"groupId": "g"}),
        json!({"groupId": "", "action": "create"}),
        json!({"groupId": "..", "action": "create"}),
        json!({"groupId": "x".repeat(201), "action": "create"}),
        json!({"action": "create"}),
    ] {
        let problem = refusal(&client.post("/dtc/", body.to_string()), 400, "invalid-body");
        assert!(!problem["errors"].as_array().expect("a list").is_empty(), "{problem}");
    }
    refusal(&client.post("/dtc/", "{\"groupId\":"), 400, "malformed-body");
    let as_form = Call::post_as("application/x-www-form-urlencoded", "/dtc/", "groupId=g");
    assert_eq!(client.send(&as_form).status, 415);
    assert_eq!(client.get("/dtc/").status, 405, "there is nothing to look at");
    assert_eq!(cluster.nodes.stats(0).seen, seen, "nothing was begun");
}

/// The groups in this state, by the list.
fn listed(client: &mut crate::common::Client, state: &str) -> Vec<String> {
    let page = client.get(&format!("/transactions?state={state}")).expect(200).json();
    let rows = page["transactions"].as_array().expect("a list").iter();
    rows.map(|row| row["groupId"].as_str().expect("a name").to_owned()).collect()
}

#[test]
fn c05_every_state_is_reached_listed_and_survives_a_crash() {
    let mut cluster = Cluster::start(3, &[["--node-deadline", "3s"]]);
    let mut client = cluster.client();
    assert_eq!(carry_out(&mut client, "create", "good")["state"], "succeeded");
    cluster.script(1, "refused", &["403"]);
    let refused = carry_out(&mut client, "create", "refused");
    assert_stands(&refused, "rolled_back", &["undone", "refused", "undone"]);
    // It is on one node, which does not let go of it.
    cluster.script(0, "stuck", &["201", "403", "403", "403"]);
    cluster.script(1, "stuck", &["403"]);
    let stuck = carry_out(&mut client, "create", "stuck");
    assert_stands(&stuck, "failed", &["done", "refused", "undone"]);
    (0..3).for_each(|node| cluster.script(node, "hanging", &["timeout"]));
    (0..3).for_each(|node| {
        cluster.nodes.behave(node, &json!({"group": "waiting", "script_get": ["503", "503"]}))
    });
    let waiting = begin(&mut client, "create", "waiting");
    let hanging = begin(&mut client, "create", "hanging");
    let promised = await_state(&mut client, &waiting, &["to_be_retried"]);
    assert_stands(&promised, "to_be_retried", &["waiting"; 3]);
    assert!(promised["reason"].as_str().is_some_and(|it| it.contains("503")), "{promised}");
    cluster.await_calls(2, "hanging", 1);
    assert_stands(&look_at(&mut client, &hanging), "running", &["calling"; 3]);
    assert_eq!(listed(&mut client, "running"), ["hanging"]);
    assert_eq!(listed(&mut client, "succeeded"), ["good"]);
    assert_eq!(listed(&mut client, "rolled_back"), ["refused"]);
    assert_eq!(listed(&mut client, "failed"), ["stuck"]);
    // What a snapshot holds, and what is behind it.
    client.post("/admin/snapshot", "").expect(200);
    let late = carry_out(&mut client, "create", "late");
    let mut client = cluster.crash();
    assert_eq!(look_at(&mut client, &id(&late)), late);
    assert_eq!(look_at(&mut client, &id(&refused)), refused);
    assert_eq!(look_at(&mut client, &id(&stuck)), stuck);
    assert_eq!(await_end(&mut client, &waiting)["state"], "succeeded");
    assert_eq!(await_end(&mut client, &hanging)["state"], "succeeded");
    assert_eq!(cluster.nodes.holders("waiting"), [0, 1, 2]);
    assert_eq!(cluster.nodes.consistency().partly, ["stuck"], "and its state says so");
}

#[test]
fn c06_c07_what_is_so_already_on_all_nodes_has_succeeded_and_is_not_believed_unseen() {
    let cluster = Cluster::start(3, &[]);
    let mut client = cluster.client();
    cluster.add(&[0, 1, 2], "old");
    assert_stands(&carry_out(&mut client, "create", "old"), "succeeded", &["already"; 3]);
    assert_stands(&carry_out(&mut client, "delete", "none"), "succeeded", &["already"; 3]);
    // Some have it and some have not: each is brought to what was asked.
    cluster.add(&[1], "some");
    let created = carry_out(&mut client, "create", "some");
    assert_stands(&created, "succeeded", &["done", "already", "done"]);
    // 400 to create and 404 to delete mean something else to a node where it is not so.
    (0..3).for_each(|node| cluster.script(node, "liar", &["400"]));
    let created = carry_out(&mut client, "create", "liar");
    assert_stands(&created, "rolled_back", &["refused"; 3]);
    cluster.add(&[0, 1, 2], "kept");
    (0..3).for_each(|node| cluster.script(node, "kept", &["404"]));
    let deleted = carry_out(&mut client, "delete", "kept");
    assert_stands(&deleted, "rolled_back", &["refused"; 3]);
    assert_eq!(cluster.nodes.holders("kept"), [0, 1, 2]);
    for group in ["old", "none", "liar", "kept"] {
        for node in 0..3 {
            assert_eq!(cluster.methods(node, group).len(), 1, "{group} on {node}");
        }
    }
}

#[test]
fn c08_what_changed_nothing_is_tried_again_after_a_while() {
    let cluster = Cluster::start(3, &[]);
    let mut client = cluster.client();
    cluster.add(&[0, 1, 2], "gone");
    (0..3).for_each(|node| cluster.script(node, "new", &["500"]));
    (0..3).for_each(|node| cluster.script(node, "gone", &["503"]));
    let tried = [begin(&mut client, "create", "new"), begin(&mut client, "delete", "gone")];
    for id in &tried {
        let end = await_end(&mut client, id);
        assert_stands(&end, "succeeded", &["done"; 3]);
        assert_eq!(end["tries"], 1, "one was over before: {end}");
        assert_eq!(end["nodes"][0]["attempts"], 2);
    }
    for node in 0..3 {
        assert_spaced(&cluster.calls(node, "new"), &[FIRST_WAIT_MS]);
        assert_spaced(&cluster.calls(node, "gone"), &[FIRST_WAIT_MS]);
    }
}

#[test]
fn c08_what_changes_nothing_three_times_has_failed_and_is_a_dead_letter() {
    let cluster = Cluster::start(3, &[]);
    let mut client = cluster.client();
    (0..3).for_each(|node| cluster.script(node, "g", &["500", "500", "500"]));
    let failed = carry_out(&mut client, "create", "g");
    assert_stands(&failed, "failed", &["unchanged"; 3]);
    for node in 0..3 {
        assert_spaced(&cluster.calls(node, "g"), &[FIRST_WAIT_MS, SECOND_WAIT_MS]);
        let last_error = failed["nodes"][node]["last_error"].as_str().unwrap_or_default();
        assert!(last_error.contains("500"), "{failed}");
    }
    let dead = releases(&mut client, "dead");
    assert_eq!(dead.len(), 1, "{dead:?}");
    let transaction = &dead[0]["transaction"];
    assert_eq!((&transaction["id"], &transaction["state"]), (&failed["id"], &json!("failed")));
    let holder = refusal(&ask(&mut client, "delete", "g", 0), 409, "group-held");
    assert_eq!(holder["existing"]["id"], failed["id"]);
    // The nodes work again: what is put back from the dead letters has all its tries.
    let moved = client.post("/queues/releases/redrive", "{}").expect(200).json();
    assert_eq!(moved["moved"], 1);
    assert_stands(
        &await_state(&mut client, &id(&failed), &["succeeded"]),
        "succeeded",
        &["done"; 3],
    );
    assert_eq!(cluster.nodes.holders("g"), [0, 1, 2]);
    assert!(releases(&mut client, "dead").is_empty());
}

#[test]
fn c11_a_refusal_is_never_tried_again() {
    let cluster = Cluster::start(3, &[]);
    let mut client = cluster.client();
    for status in ["401", "403", "404", "405", "410", "413", "422", "451"] {
        let group = format!("refused with {status}");
        (0..3).for_each(|node| cluster.script(node, &group, &[status]));
        let end = carry_out(&mut client, "create", &group);
        assert_stands(&end, "rolled_back", &["refused"; 3]);
        assert!(end["reason"].as_str().is_some_and(|reason| reason.contains(status)), "{end}");
        (0..3).for_each(|node| assert_eq!(cluster.methods(node, &group), ["POST"]));
        let over: Response = client.post(&format!("/transactions/{}/retry", id(&end)), "");
        refusal(&over, 409, "transaction-over");
    }
    assert_eq!(releases(&mut client, "dead").len(), 0);
    assert_eq!(cluster.nodes.consistency().groups.len(), 0);
}

#[test]
fn c11_an_answer_that_asks_to_come_back_later_is_no_refusal() {
    let cluster = Cluster::start(3, &[]);
    let mut client = cluster.client();
    let tried: Vec<String> = ["408", "425", "429"]
        .map(|status| {
            (0..3).for_each(|node| cluster.script(node, status, &[status]));
            begin(&mut client, "create", status)
        })
        .into();
    for id in &tried {
        assert_stands(&await_end(&mut client, id), "succeeded", &["done"; 3]);
    }
}
