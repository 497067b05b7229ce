//! Simulated partner nodes: `sillage simulate nodes`, with what they have seen as types.
//!
//! Nodes are counted from 0, as they listen. Each decides by what it was told (`behave`, see
//! `src/cli/simulate/nodes`), so that tests need no chance; with chances in the arguments of
//! `start`, what a call meets follows from `--seed`.
//!
//! ```text
//! nodes.script(1, &["500", "500"]);                 two calls of node 1 fail, then as it should
//! nodes.behave(2, &json!({"script": ["late@1h"]})); the effect waits …
//! nodes.release_late(2);                            … until now
//! ```

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::Deserialize;
use serde_json::{Value, json};

use super::doubles::{await_stats, start_double};
use super::{Client, Finished, Server, Store, sillage};

/// Independent partner nodes in one process.
#[derive(Debug)]
pub(crate) struct Nodes {
    server: Server,
    urls: Vec<String>,
}

/// What a node has seen.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct NodeStats {
    /// Grows with everything that happens at any node.
    changes: u64,
    /// Which node it is.
    pub(crate) node: usize,
    /// The groups that are on it, sorted.
    pub(crate) groups: Vec<String>,
    /// Requests of the node API: `calls` (POST, DELETE) + `looks` (GET) + those that are neither.
    pub(crate) seen: u64,
    pub(crate) calls: u64,
    pub(crate) looks: u64,
    /// Requests that are not answered yet.
    pub(crate) under_way: u64,
    /// Effects that are yet to take place.
    pub(crate) late: u64,
    /// Requests by the fault that they met, such as `500-after`; `down` while it was down.
    pub(crate) faults: BTreeMap<String, u64>,
    /// Requests by what became of them: a status, `severed`, or `left` when the client left first.
    pub(crate) by_status: BTreeMap<String, u64>,
    /// Requests that were counted and not kept.
    pub(crate) not_kept: u64,
    /// The first requests, in order of arrival.
    pub(crate) requests: Vec<NodeRequest>,
}

/// One request of a node.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct NodeRequest {
    /// When it came, in milliseconds with three decimals on a clock that all nodes share.
    pub(crate) at_ms: f64,
    pub(crate) method: String,
    /// As sent.
    pub(crate) path: String,
    /// Names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    /// As sent.
    pub(crate) body: String,
    pub(crate) idempotency_key: Option<String>,
    /// The group that it is about; `None` if that cannot be told.
    pub(crate) group: Option<String>,
    /// What it met: `right` if nothing befell it, else the fault, such as `500-after` or `late`.
    pub(crate) met: String,
    /// What it did: `created`, `deleted`, `nothing`, or `pending` until a late effect.
    pub(crate) did: String,
    /// When that took place; `None` if it did nothing, or not yet.
    pub(crate) did_at_ms: Option<f64>,
    /// `None` until it is answered, and if it never was.
    pub(crate) status: Option<u16>,
}

impl NodeRequest {
    /// Method and path, such as `POST /v1/group/`.
    pub(crate) fn line(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    /// The last part of its idempotency key.
    #[track_caller]
    pub(crate) fn key_number(&self) -> u64 {
        let key = self.idempotency_key.as_deref().expect("every call has a key");
        let number = key.trim_matches('"').rsplit('/').next().expect("a split has a part");
        number.parse().expect("a key ends with a number")
    }
}

impl NodeStats {
    /// The requests about a group, in order.
    pub(crate) fn about(&self, group: &str) -> Vec<&NodeRequest> {
        let is_about = |request: &&NodeRequest| request.group.as_deref() == Some(group);
        self.requests.iter().filter(is_about).collect()
    }

    /// The calls (POST and DELETE) about a group, in order.
    pub(crate) fn calls_about(&self, group: &str) -> Vec<&NodeRequest> {
        self.about(group).into_iter().filter(|request| request.method != "GET").collect()
    }

    /// How often this fault was met.
    pub(crate) fn fault(&self, name: &str) -> u64 {
        self.faults.get(name).copied().unwrap_or_default()
    }
}

/// Where groups are, at one moment.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Consistency {
    /// The nodes' URLs.
    pub(crate) nodes: Vec<String>,
    /// Whether each group is on all nodes or none.
    pub(crate) agree: bool,
    /// Effects that are yet to take place.
    pub(crate) late: u64,
    /// The nodes that each group is on. A group that is on none is not listed.
    pub(crate) groups: BTreeMap<String, Vec<usize>>,
    /// The groups that are on some nodes only.
    pub(crate) partly: Vec<String>,
}

impl Nodes {
    /// So many nodes, with these arguments besides the address, such as `["--fail", "0.3"]`.
    #[track_caller]
    pub(crate) fn start(count: usize, arguments: &[&str]) -> Nodes {
        let mut command = sillage(["simulate", "nodes", "--count"]);
        command.arg(count.to_string());
        let server = start_double(command, arguments);
        let found: Consistency = server.client().get("/consistency").expect(200).parse();
        assert_eq!(found.nodes.len(), count, "{:?}", found.nodes);
        Nodes { server, urls: found.nodes }
    }

    /// The URL of each: `http://127.0.0.1:…`.
    pub(crate) fn urls(&self) -> &[String] {
        &self.urls
    }

    /// The store with these nodes for each server to come.
    pub(crate) fn of(&self, store: Store) -> Store {
        store.with(&["--nodes", &self.urls.join(",")])
    }

    /// A new connection to a node.
    #[track_caller]
    pub(crate) fn client(&self, node: usize) -> Client {
        Client::new(self.address(node))
    }

    /// Tells a node how to behave from now on.
    #[track_caller]
    pub(crate) fn behave(&self, node: usize, told: &Value) {
        self.client(node).post("/behave", told.to_string()).expect(204);
    }

    /// Tells all of them.
    #[track_caller]
    pub(crate) fn behave_all(&self, told: &Value) {
        (0..self.urls.len()).for_each(|node| self.behave(node, told));
    }

    /// What its next calls (POST and DELETE) meet, in order: `201` as it should, `usual` as chance
    /// has it, a status without the effect, such as `500`, or with it, `500-after`; likewise
    /// `timeout`, `sever` and `garbage`; `late`, `slow`. `@300ms` behind it delays the answer, and
    /// of `late` the effect.
    #[track_caller]
    pub(crate) fn script(&self, node: usize, steps: &[&str]) {
        self.behave(node, &json!({"script": steps}));
    }

    /// The same for its next looks (GET): a status is answered without a look.
    #[track_caller]
    pub(crate) fn script_looks(&self, node: usize, steps: &[&str]) {
        self.behave(node, &json!({"script_get": steps}));
    }

    /// All its calls meet this fault until `mend`, such as `403`; steps of scripts come first.
    #[track_caller]
    pub(crate) fn always(&self, node: usize, fault: &str) {
        self.behave(node, &json!({"fail": 0, "shares": {fault: 1}}));
    }

    /// All its looks meet this fault until `mend`.
    #[track_caller]
    pub(crate) fn always_looks(&self, node: usize, fault: &str) {
        self.behave(node, &json!({"fail_get": 0, "shares_get": {fault: 1}}));
    }

    /// Nothing befalls its requests from now on; scripts of single groups remain.
    #[track_caller]
    pub(crate) fn mend(&self, node: usize) {
        let nothing = json!({
            "fail": 0, "fail_get": 0, "script": [], "script_get": [], "down": false, "flap_ms": 0
        });
        self.behave(node, &nothing);
    }

    /// Every connection is closed without an answer until `up`.
    #[track_caller]
    pub(crate) fn down(&self, node: usize) {
        self.behave(node, &json!({"down": true}));
    }

    /// Ends `down`.
    #[track_caller]
    pub(crate) fn up(&self, node: usize) {
        self.behave(node, &json!({"down": false}));
    }

    /// All effects that are yet to take place take place now, in the order of their calls.
    #[track_caller]
    pub(crate) fn release_late(&self, node: usize) {
        self.behave(node, &json!({"release_late": true}));
    }

    /// What a node has seen.
    #[track_caller]
    pub(crate) fn stats(&self, node: usize) -> NodeStats {
        self.client(node).get("/stats").expect(200).parse()
    }

    /// The groups on a node, sorted.
    #[track_caller]
    pub(crate) fn groups(&self, node: usize) -> Vec<String> {
        let stats: NodeStats = self.client(node).get("/stats?last=0").expect(200).parse();
        stats.groups
    }

    /// The first requests of a node, in order of arrival.
    #[track_caller]
    pub(crate) fn requests(&self, node: usize) -> Vec<NodeRequest> {
        self.stats(node).requests
    }

    /// Where all groups are.
    #[track_caller]
    pub(crate) fn consistency(&self) -> Consistency {
        self.client(0).get("/consistency").expect(200).parse()
    }

    /// The nodes that a group is on.
    #[track_caller]
    pub(crate) fn holders(&self, group: &str) -> Vec<usize> {
        self.consistency().groups.remove(group).unwrap_or_default()
    }

    /// Asks until a node has seen what is waited for.
    #[track_caller]
    pub(crate) fn await_stats(
        &self,
        node: usize,
        what: &str,
        holds: impl FnMut(&NodeStats) -> bool,
    ) -> NodeStats {
        await_stats(self.client(node), what, |stats: &NodeStats| stats.changes, holds)
    }

    /// The double as a server, to signal or read it. Its address is that of node 0.
    pub(crate) fn server(&mut self) -> &mut Server {
        &mut self.server
    }

    /// Asks it to end and waits until it has.
    pub(crate) fn terminate(self) -> Finished {
        self.server.terminate()
    }

    #[track_caller]
    fn address(&self, node: usize) -> SocketAddr {
        let address = self.urls[node].strip_prefix("http://").expect("a plain URL");
        address.parse().expect("host and port")
    }
}
