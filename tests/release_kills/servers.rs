//! Real servers that play partner nodes, killed and started again on their own stores.

use std::net::Ipv4Addr;

use serde_json::json;

use super::common::{Call, Client, Server, Store};
use super::history::Existing;
use super::meter::Meter;
use super::{Cluster, REQUESTS_MAX, kill};

/// Groups in one page.
const PAGE: usize = 100;
/// Transactions that are accepted while all nodes are up, at most.
const UP_TRANSACTIONS_MAX: u64 = 40;
/// Requests of callers while one of them is down, at most. Transactions are no measure: sooner or
/// later all groups are held by some that wait for the node.
const DOWN_REQUESTS_MAX: u64 = 60;

/// Servers that are nodes.
#[derive(Debug)]
pub(crate) struct Company {
    members: Vec<Member>,
    rng: fastrand::Rng,
    /// How many of them were killed, one by one.
    pub(crate) kills: u64,
}

/// One of them. Its address is the same in all its lives.
#[derive(Debug)]
struct Member {
    store: Store,
    address: String,
    /// `None` while it is down.
    server: Option<Server>,
}

impl Member {
    fn start(rng: &mut fastrand::Rng) -> Member {
        let store = Store::new().with(&["--serve-groups"]);
        // A host of its own, so that nothing else takes its port while it is down.
        let host = Ipv4Addr::new(127, rng.u8(1..=254), rng.u8(1..=254), rng.u8(1..=254));
        let server = store.try_serve_at(&format!("{host}:0")).expect("it starts");
        Member { store, address: server.address().to_string(), server: Some(server) }
    }

    fn kill(&mut self) {
        kill(self.server.as_ref().expect("it is up"));
        self.server = None;
    }

    fn restart(&mut self) {
        if self.server.is_none() {
            self.server = Some(self.store.try_serve_at(&self.address).expect("it starts"));
        }
    }

    fn client(&self) -> Client {
        self.server.as_ref().expect("it is up").client()
    }
}

impl Company {
    /// So many nodes, with the groups that exist on each.
    pub(crate) fn start(count: usize, existing: &Existing, rng: &mut fastrand::Rng) -> Company {
        let members: Vec<Member> = (0..count).map(|_| Member::start(rng)).collect();
        for (node, member) in members.iter().enumerate() {
            let mut client = member.client();
            for group in existing.on(node) {
                client.post("/v1/group/", json!({"groupId": group}).to_string()).expect(201);
            }
        }
        Company { members, rng: rng.fork(), kills: 0 }
    }

    /// As a server is told of them.
    pub(crate) fn urls(&self) -> String {
        let urls = self.members.iter().map(|member| format!("http://{}", member.address));
        urls.collect::<Vec<_>>().join(",")
    }

    /// Until so many transactions were accepted, nodes are killed and come back, one by one. The
    /// last may be down in the end.
    pub(crate) fn suffer(&mut self, meter: &Meter, transactions: u64) {
        let mut left = transactions;
        while left > 0 {
            meter.await_more(0, self.rng.u64(..DOWN_REQUESTS_MAX));
            self.restart_all();
            let up = self.rng.u64(1..=left.min(UP_TRANSACTIONS_MAX));
            meter.await_more(up, self.rng.u64(..REQUESTS_MAX));
            left -= up;
            let victim = self.rng.usize(..self.members.len());
            self.members[victim].kill();
            self.kills += 1;
        }
        if self.rng.bool() {
            meter.await_more(0, self.rng.u64(..DOWN_REQUESTS_MAX));
            self.restart_all();
        }
    }

    /// All of them are up again.
    pub(crate) fn restart_all(&mut self) {
        self.members.iter_mut().for_each(Member::restart);
    }
}

impl Cluster for Company {
    fn groups(&self) -> Vec<Vec<String>> {
        self.members.iter().map(|member| groups(&mut member.client())).collect()
    }

    fn trail(&self, _: &str) -> String {
        "these nodes keep none".to_owned()
    }
}

/// All groups of a node, by pages.
fn groups(client: &mut Client) -> Vec<String> {
    let (mut names, mut target) = (Vec::new(), format!("/v1/group/?limit={PAGE}"));
    loop {
        let page = client.send(&Call::get(target)).expect(200).json();
        let rows = page["groups"].as_array().expect("a list");
        names.extend(rows.iter().map(|row| row["groupId"].as_str().expect("a name").to_owned()));
        let Some(next) = page["next"].as_str() else { return names };
        target = format!("/v1/group/?limit={PAGE}&after={next}");
    }
}
