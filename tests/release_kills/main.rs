//! Releases under kills: the real server on its way through many transactions, killed with
//! SIGKILL again and again, on partner nodes that fail in every way or are killed themselves.
//!
//! Callers create and delete groups, each attempt under a key; what a kill left unanswered they
//! send again under the same key. Some groups are there before, on all nodes or on one. The server
//! is killed after a random number of transactions, while transactions are in all their phases. All
//! that callers were told is kept; once nothing fails any more and every transaction is at an end,
//! it is judged against what the server lists and against what the nodes list themselves:
//!
//! - every accepted transaction is there exactly once, and no other is there;
//! - an end that was told is still its end, and the same key is given the same answer, to the byte;
//! - each group is where its transactions, in their order, have put it: on all nodes after a create
//!   that succeeded, on none after a delete; one that was rolled back has left no trace, and has
//!   not taken away what was there before it;
//! - all of this is the same again after another restart.
//!
//! `SILLAGE_RELEASES` sets how many transactions there are, `SILLAGE_SEED` repeats a run's choices;
//! how its threads interleave is up to the machine.
#![allow(clippy::disallowed_methods, reason = "tests measure how long things take")]

mod caller;
#[path = "../common/mod.rs"]
mod common;
mod history;
mod meter;
mod servers;

use std::collections::BTreeMap;

use caller::{Accepted, Caller};
use common::{Nodes, Server, Store, seed};
use history::{Existing, Transaction, list_transactions, settle};
use meter::{Goal, Meter};
use rustix::process::{Signal, kill_process};
use serde_json::json;
use servers::Company;

const RELEASES_DEFAULT: u64 = 150;
const CALLERS: u64 = 24;
const NODES: usize = 3;
/// Requests that are sent between a transaction that was counted and a kill, at most: the kill
/// comes while any of them is under way.
const REQUESTS_MAX: u64 = 24;

/// How large a run is.
#[derive(Clone, Copy, Debug)]
struct Size {
    /// Transactions at least.
    transactions: u64,
    /// Kills of the server.
    kills: u64,
}

impl Size {
    /// One in so many of the transactions that were asked for.
    fn of_one_in(share: u64) -> Size {
        let all = std::env::var("SILLAGE_RELEASES")
            .map_or(RELEASES_DEFAULT, |text| text.parse().expect("SILLAGE_RELEASES is a number"));
        let transactions = all / share;
        Size { transactions, kills: (transactions / 100).max(3) }
    }

    /// How many groups there are: so many that most are free, so few that each is used often.
    fn groups(self) -> u64 {
        (self.transactions / 8).clamp(100, 250)
    }

    /// A random number of transactions before the next kill.
    fn transactions_to_kill(self, rng: &mut fastrand::Rng) -> u64 {
        rng.u64(1..2 * self.transactions / self.kills)
    }
}

#[test]
fn every_group_is_on_all_failing_nodes_or_none_whenever_the_server_is_killed() {
    let seed = seed();
    let mut rng = fastrand::Rng::with_seed(seed);
    let size = Size::of_one_in(1);
    let existing = Existing::draw(&mut rng, size.groups(), NODES);
    let (chance, groups) = (seed.to_string(), existing.argument());
    let faults = ["--seed", &chance, "--fail", "0.3", "--late-ms", "100", "--slow-ms", "20"];
    let nodes = Nodes::start(NODES, &[&faults[..], &["--existing", &groups]].concat());
    let store = nodes.of(Store::new()).with(&["--node-deadline", "300ms"]);
    let store = store.with(&["--heal-every", "200ms"]);
    let mut crowd = Crowd::new(&mut rng, size);
    for _ in 0..size.kills {
        let (server, transactions) = (store.serve(), size.transactions_to_kill(&mut rng));
        crowd.work(&server, Goal::Endless, |meter| {
            meter.await_more(transactions, rng.u64(..REQUESTS_MAX));
            kill(&server);
        });
    }
    let server = store.serve();
    crowd.work(&server, Goal::Accepted(size.transactions), |_| {});
    let met = |node| nodes.stats(node).faults.values().sum::<u64>();
    let faults: u64 = (0..NODES).map(met).sum();
    nodes.behave_all(&json!({"fail": 0, "fail_get": 0}));
    let told = crowd.judge(server, &store, &existing, &nodes);
    println!("{} kills, {faults} faults, {told}", size.kills);
}

#[test]
fn every_group_is_on_all_servers_or_none_whichever_of_them_is_killed() {
    let mut rng = fastrand::Rng::with_seed(seed());
    let size = Size::of_one_in(4);
    let existing = Existing::draw(&mut rng, size.groups(), NODES);
    let mut company = Company::start(NODES, &existing, &mut rng);
    let store = Store::new().with(&["--nodes", &company.urls()]);
    let store = store.with(&["--node-deadline", "500ms"]).with(&["--heal-every", "200ms"]);
    let mut crowd = Crowd::new(&mut rng, size);
    for _ in 0..size.kills {
        let (server, transactions) = (store.serve(), size.transactions_to_kill(&mut rng));
        crowd.work(&server, Goal::Endless, |meter| {
            company.suffer(meter, transactions);
            kill(&server);
        });
    }
    company.restart_all();
    let server = store.serve();
    crowd.work(&server, Goal::Accepted(size.transactions), |_| {});
    let told = crowd.judge(server, &store, &existing, &company);
    println!("{} kills of the server, {} of nodes, {told}", size.kills, company.kills);
}

/// Partner nodes that were called, of either kind.
trait Cluster {
    /// The groups that each lists, now that nothing is under way.
    fn groups(&self) -> Vec<Vec<String>>;

    /// What they know of a group, for whoever has to find out what went wrong.
    fn trail(&self, group: &str) -> String;
}

impl Cluster for Nodes {
    fn groups(&self) -> Vec<Vec<String>> {
        common::ask_until("no effect is late", || self.consistency().late == 0);
        (0..NODES).map(|node| self.groups(node)).collect()
    }

    fn trail(&self, group: &str) -> String {
        let of = |node: usize| {
            let mut client = self.client(node);
            let stats = client.get(&format!("/stats?group={group}")).expect(200).json();
            let requests = stats["requests"].as_array().expect("a list").clone();
            requests.into_iter().map(move |mut it| {
                it["headers"].take();
                format!("{node}: {it}\n")
            })
        };
        (0..NODES).flat_map(of).collect()
    }
}

/// Ends it as a power cut would. It is waited for when it is dropped.
fn kill(server: &Server) {
    kill_process(server.pid(), Signal::KILL).expect("our own child can be killed");
}

/// All callers.
struct Crowd {
    callers: Vec<Caller>,
    meter: Meter,
}

impl Crowd {
    fn new(rng: &mut fastrand::Rng, size: Size) -> Crowd {
        let caller = |number| Caller::new(number, size.groups(), rng.fork());
        Crowd { callers: (0..CALLERS).map(caller).collect(), meter: Meter::default() }
    }

    /// Has all of them work until the server is gone or the goal is reached.
    fn work(&mut self, server: &Server, goal: Goal, meanwhile: impl FnOnce(&Meter)) {
        let meter = &self.meter;
        std::thread::scope(|scope| {
            for caller in &mut self.callers {
                let client = server.client();
                scope.spawn(move || caller.work(client, meter, goal));
            }
            meanwhile(meter);
        });
    }

    /// Waits until all transactions are at an end, and judges. Nothing fails any more.
    fn judge(
        &mut self,
        server: Server,
        store: &Store,
        existing: &Existing,
        cluster: &impl Cluster,
    ) -> String {
        self.callers.iter_mut().for_each(|caller| caller.finish(server.client(), &self.meter));
        let ended = settle(&mut server.client());
        self.check_accepted(&ended);
        existing.check(&ended, cluster);
        self.check_answers(&server);
        assert_eq!(server.terminate().code, Some(0));
        let server = store.serve();
        assert_eq!(list_transactions(&mut server.client()), ended, "the same after a restart");
        self.check_answers(&server);
        existing.check(&ended, cluster);
        self.told(&ended)
    }

    /// Each accepted transaction is there, once, as it was asked for; and no other.
    fn check_accepted(&self, ended: &[Transaction]) {
        let mut accepted: BTreeMap<u64, &Accepted> = BTreeMap::new();
        for one in self.callers.iter().flat_map(|caller| &caller.accepted) {
            if let Some(other) = accepted.insert(one.id, one) {
                panic!("two attempts were told of the same transaction: {one:?}, {other:?}");
            }
        }
        let listed: Vec<u64> = ended.iter().map(Transaction::number).collect();
        let told: Vec<u64> = accepted.keys().copied().collect();
        assert_eq!(listed, told, "listed, and told when they were accepted");
        for (found, accepted) in ended.iter().zip(accepted.values()) {
            accepted.check(found);
        }
    }

    /// The same key is given the same answer.
    fn check_answers(&mut self, server: &Server) {
        for caller in &self.callers {
            caller.check_answers(server.client());
        }
    }

    fn told(&self, ended: &[Transaction]) -> String {
        let mut ends: BTreeMap<&str, u64> = BTreeMap::new();
        ended.iter().for_each(|it| *ends.entry(&it.state).or_default() += 1);
        assert!(ends.contains_key("succeeded"), "a run in which nothing happens shows nothing");
        let sum = |count: fn(&Caller) -> u64| self.callers.iter().map(count).sum::<u64>();
        let held = sum(|caller| caller.held);
        let retried = sum(|caller| caller.retried);
        let again = sum(|caller| caller.repeated);
        format!(
            "{} transactions: {ends:?}; {held} requests found the group held, {retried} retried \
             by hand, {again} were sent again",
            ended.len()
        )
    }
}
