//! A server with its nodes, and what the tests ask of both.

use serde_json::{Value, json};

use crate::common::{
    Call, Client, Finished, NodeRequest, Nodes, Response, Server, Store, ask_until,
};

/// How long whoever waits for an end waits for it: far above what any end takes.
const LONG_S: u64 = 50;
/// What surely lies between two tries, and two rounds of undo: half of the wait, because the one
/// before may have come late by the nodes' clock. In milliseconds.
pub(crate) const FIRST_WAIT_MS: f64 = 500.0;
/// The same before the third.
pub(crate) const SECOND_WAIT_MS: f64 = 1000.0;

/// A server and its nodes. Nodes are called for 500 ms and what failed is not healed, unless the
/// test says otherwise.
pub(crate) struct Cluster {
    pub(crate) nodes: Nodes,
    store: Store,
    server: Option<Server>,
}

impl Cluster {
    /// So many nodes, and a server with these settings: a flag and its value each.
    #[track_caller]
    pub(crate) fn start(count: usize, settings: &[[&str; 2]]) -> Cluster {
        let nodes = Nodes::start(count, &[]);
        let store = nodes.of(Store::new());
        let store = store.with(&["--node-deadline", "500ms"]).with(&["--heal-every", "1h"]);
        let store = settings.iter().fold(store, |store, setting| store.with(setting));
        let server = Some(store.serve());
        Cluster { nodes, store, server }
    }

    /// A new connection to the server.
    #[track_caller]
    pub(crate) fn client(&self) -> Client {
        self.server().client()
    }

    #[track_caller]
    pub(crate) fn server(&self) -> &Server {
        self.server.as_ref().expect("the server runs")
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Ends the server as a power cut would.
    #[track_caller]
    pub(crate) fn kill(&mut self) {
        self.server.take().expect("the server runs").kill();
    }

    /// Asks it to end and waits until it has.
    #[track_caller]
    pub(crate) fn terminate(&mut self) -> Finished {
        self.server.take().expect("the server runs").terminate()
    }

    /// Starts it again; gives a connection to it.
    #[track_caller]
    pub(crate) fn serve(&mut self) -> Client {
        self.server = Some(self.store.serve());
        self.client()
    }

    /// Both.
    #[track_caller]
    pub(crate) fn crash(&mut self) -> Client {
        self.kill();
        self.serve()
    }

    /// With another setting from the next start on.
    pub(crate) fn with(self, setting: [&str; 2]) -> Cluster {
        Cluster { store: self.store.with(&setting), ..self }
    }

    /// What the next calls of a node about this group meet, in order.
    #[track_caller]
    pub(crate) fn script(&self, node: usize, group: &str, steps: &[&str]) {
        self.nodes.behave(node, &json!({"group": group, "script": steps}));
    }

    /// Somebody else creates the group on these nodes.
    #[track_caller]
    pub(crate) fn add(&self, nodes: &[usize], group: &str) {
        nodes.iter().for_each(|&node| self.nodes.behave(node, &json!({"add": [group]})));
    }

    /// Waits until a node has read so many calls (POST and DELETE) about the group.
    #[track_caller]
    pub(crate) fn await_calls(&self, node: usize, group: &str, count: usize) {
        self.nodes.await_stats(node, "calls of the group", |stats| {
            stats.calls_about(group).len() >= count
        });
    }

    /// The calls (POST and DELETE) of a node about the group.
    #[track_caller]
    pub(crate) fn calls(&self, node: usize, group: &str) -> Vec<NodeRequest> {
        self.nodes.stats(node).calls_about(group).into_iter().cloned().collect()
    }

    /// Their methods.
    #[track_caller]
    pub(crate) fn methods(&self, node: usize, group: &str) -> Vec<String> {
        self.calls(node, group).into_iter().map(|call| call.method).collect()
    }
}

/// What asks for a group to be created or deleted.
pub(crate) fn wish(action: &str, group: &str) -> String {
    json!({"groupId": group, "action": action}).to_string()
}

/// Asks for it, and waits at most so long for its end.
#[track_caller]
pub(crate) fn ask(client: &mut Client, action: &str, group: &str, wait_s: u64) -> Response {
    let call = Call::post("/transactions", wish(action, group));
    client.send(&call.header("Prefer", format!("wait={wait_s}")))
}

/// Asks for it and does not wait; gives the transaction's id.
#[track_caller]
pub(crate) fn begin(client: &mut Client, action: &str, group: &str) -> String {
    let response = ask(client, action, group, 0);
    assert!(matches!(response.status, 200 | 202), "{}: {}", response.status, response.text());
    id(&response.json())
}

/// Asks for it; gives the transaction at its end.
#[track_caller]
pub(crate) fn carry_out(client: &mut Client, action: &str, group: &str) -> Value {
    ask(client, action, group, LONG_S).expect(200).json()
}

#[track_caller]
pub(crate) fn id(transaction: &Value) -> String {
    transaction["id"].as_str().expect("an id").to_owned()
}

/// A transaction as it stands.
#[track_caller]
pub(crate) fn look_at(client: &mut Client, id: &str) -> Value {
    client.get(&format!("/transactions/{id}")).expect(200).json()
}

/// Asks until the transaction is in one of these states.
#[track_caller]
pub(crate) fn await_state(client: &mut Client, id: &str, states: &[&str]) -> Value {
    let mut last = Value::Null;
    ask_until(&format!("transaction {id} is {states:?}"), || {
        last = look_at(client, id);
        states.contains(&last["state"].as_str().expect("a state"))
    });
    last
}

/// Asks until it is at an end.
#[track_caller]
pub(crate) fn await_end(client: &mut Client, id: &str) -> Value {
    await_state(client, id, &["succeeded", "rolled_back", "failed"])
}

/// What a transaction says of each node.
pub(crate) fn outcomes(transaction: &Value) -> Vec<&str> {
    let nodes = transaction["nodes"].as_array().expect("nodes").iter();
    nodes.map(|node| node["outcome"].as_str().expect("an outcome")).collect()
}

/// Checks how a transaction stands, and its nodes.
#[track_caller]
pub(crate) fn assert_stands(transaction: &Value, state: &str, nodes: &[&str]) {
    assert_eq!(transaction["state"], state, "{transaction}");
    assert_eq!(transaction["State"], state, "{transaction}");
    assert_eq!(outcomes(transaction), nodes, "{transaction}");
}

/// Tries a transaction again by hand and waits for its end.
#[track_caller]
pub(crate) fn retry(client: &mut Client, id: &str) -> Value {
    let call = Call::new("POST", format!("/transactions/{id}/retry"));
    client.send(&call.header("Prefer", format!("wait={LONG_S}"))).expect(200).json()
}

/// Messages of the queue `releases` in this state.
#[track_caller]
pub(crate) fn releases(client: &mut Client, state: &str) -> Vec<Value> {
    let target = format!("/queues/releases/messages?state={state}");
    client.get(&target).expect(200).json()["messages"].as_array().expect("a list").clone()
}

/// Checks that a refusal is a problem of this kind; gives it.
#[track_caller]
pub(crate) fn refusal(response: &Response, status: u16, slug: &str) -> Value {
    let problem = crate::common::assert_problem(response, status);
    assert_eq!(problem["type"], format!("/problems/{slug}"));
    problem
}

/// Checks that what came again came again no sooner than this, by the nodes' clock.
#[track_caller]
pub(crate) fn assert_spaced(calls: &[NodeRequest], waits_ms: &[f64]) {
    let gaps: Vec<f64> = calls.windows(2).map(|pair| pair[1].at_ms - pair[0].at_ms).collect();
    let is_spaced =
        gaps.len() == waits_ms.len() && gaps.iter().zip(waits_ms).all(|(gap, wait)| gap >= wait);
    assert!(is_spaced, "{gaps:?}, at least {waits_ms:?}");
}
