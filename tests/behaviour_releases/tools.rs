//! Rows C14 and C15: the command line, and one writer on a data directory.

use std::process::Output;

use crate::common::run;
use crate::support::*;

/// Runs the program against the cluster's server; gives its exit code and what it said.
fn tool(cluster: &Cluster, arguments: &[&str]) -> (Option<i32>, String) {
    let url = format!("http://{}", cluster.server().address());
    let arguments = arguments.iter().copied().chain(["--url", &url]);
    let Output { status, stdout, stderr } = run(arguments);
    let text = String::from_utf8_lossy(&stdout) + String::from_utf8_lossy(&stderr);
    (status.code(), text.into_owned())
}

#[test]
fn c14_the_command_line_says_by_its_exit_code_how_it_ended() {
    let cluster = Cluster::start(3, &[]);
    let expect = |arguments: &[&str], code: i32, said: &str| {
        let (found, text) = tool(&cluster, arguments);
        assert_eq!(found, Some(code), "{arguments:?}: {text}");
        assert!(text.contains(said), "{arguments:?}: {said} in {text}");
    };
    expect(&["group", "create", "g"], 0, "succeeded");
    assert_eq!(cluster.nodes.holders("g"), [0, 1, 2]);
    expect(&["group", "show", "g"], 0, "");
    expect(&["group", "delete", "g"], 0, "succeeded");
    assert!(cluster.nodes.holders("g").is_empty());
    cluster.script(1, "refused", &["403"]);
    expect(&["group", "create", "refused"], 1, "403");
    cluster.script(0, "stuck", &["201", "403", "403", "403"]);
    cluster.script(1, "stuck", &["403"]);
    expect(&["group", "create", "stuck", "--wait", "50s"], 4, "failed");
    expect(&["group", "show", "stuck"], 5, "");
    expect(&["group", "create", "stuck"], 65, "409");
    expect(&["transactions", "--state", "failed"], 0, "stuck");
    (0..3).for_each(|node| cluster.script(node, "slow", &["late@1h"]));
    expect(&["group", "create", "slow", "--wait", "0"], 3, "running");
    expect(&["group", "drop", "g"], 2, "");
    expect(&["group", "create", ""], 2, "");
    expect(&["nodes"], 0, &cluster.nodes.urls()[2]);
    let (code, _) = {
        let output = run(["group", "create", "g", "--url", "http://127.0.0.1:9", "--wait", "0"]);
        (output.status.code(), output.stdout)
    };
    assert_eq!(code, Some(74));
}

#[test]
fn c15_a_second_process_on_the_same_directory_refuses_to_start_and_disturbs_nothing() {
    let cluster = Cluster::start(3, &[]);
    let mut client = cluster.client();
    cluster.script(2, "g", &["timeout"]);
    let begun = begin(&mut client, "create", "g");
    let refused = cluster.store().try_serve().expect_err("the directory is taken");
    assert_eq!(refused.code, Some(75), "{:?}", refused.stderr);
    client.get("/readyz").expect(200);
    assert_eq!(await_end(&mut client, &begun)["state"], "rolled_back");
    assert_eq!(cluster.methods(0, "g"), ["POST", "DELETE"], "nobody else has called");
}
