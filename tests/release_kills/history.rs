//! What the server lists in the end, and what must therefore be on the nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use serde::Deserialize;

use super::Cluster;
use super::common::{Call, Client, PATIENCE, ask_until};

/// Transactions in one page: several pages make the list.
const PAGE: usize = 500;
/// Groups are there before on all nodes, on one or on none: one in so many each.
const EXISTING_SHARE: u64 = 4;

/// A transaction as the server tells of it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(crate) struct Transaction {
    id: String,
    #[serde(rename = "groupId")]
    pub(crate) group: String,
    pub(crate) action: String,
    pub(crate) state: String,
    reason: Option<String>,
    tries: u32,
    begun_at: String,
    changed_at: String,
    nodes: Vec<Node>,
}

/// How it went on one node.
#[derive(Clone, Debug, PartialEq, Deserialize)]
struct Node {
    url: String,
    outcome: String,
    attempts: u32,
    last_error: Option<String>,
}

impl Transaction {
    pub(crate) fn number(&self) -> u64 {
        self.id.parse().expect("ids are numbers")
    }

    pub(crate) fn is_under_way(&self) -> bool {
        matches!(self.state.as_str(), "running" | "to_be_retried")
    }

    /// Whether it is at an end for ever. One that has failed is healed, or tried again by hand.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.state.as_str(), "succeeded" | "rolled_back")
    }
}

/// All transactions, in the order in which they were begun.
pub(crate) fn list_transactions(client: &mut Client) -> Vec<Transaction> {
    #[derive(Deserialize)]
    struct Page {
        transactions: Vec<Transaction>,
        next: Option<String>,
    }
    let (mut all, mut target) = (Vec::new(), format!("/transactions?limit={PAGE}"));
    loop {
        let page: Page = client.get(&target).expect(200).parse();
        all.extend(page.transactions);
        let Some(next) = page.next else { break };
        target = format!("/transactions?limit={PAGE}&after={next}");
    }
    assert!(all.is_sorted_by_key(Transaction::number), "in order, and each once");
    all
}

/// Waits until all transactions are at an end, and lists them.
pub(crate) fn settle(client: &mut Client) -> Vec<Transaction> {
    let began = Instant::now();
    let open = list_transactions(client).into_iter().filter(|it| !it.is_over());
    for transaction in open.collect::<Vec<_>>() {
        let call = Call::get(format!("/transactions/{}", transaction.id));
        ask_until("a transaction is at an end", || {
            let found: Transaction = client.send(&call).expect(200).parse();
            assert!(began.elapsed() < PATIENCE, "still not at an end: {found:#?}");
            found.is_over()
        });
    }
    let ended = list_transactions(client);
    assert!(ended.iter().all(Transaction::is_over), "what is over is over");
    ended
}

/// Which nodes each group is on before the first transaction.
#[derive(Debug)]
pub(crate) struct Existing {
    nodes: usize,
    groups: BTreeMap<String, BTreeSet<usize>>,
}

impl Existing {
    /// Some groups on all nodes, some on one; at least one of each.
    pub(crate) fn draw(rng: &mut fastrand::Rng, groups: u64, nodes: usize) -> Existing {
        let mut existing = Existing { nodes, groups: BTreeMap::new() };
        for number in 0..groups {
            let holders = match number % EXISTING_SHARE {
                0 => (0..nodes).collect(),
                1 => BTreeSet::from([rng.usize(..nodes)]),
                _ => continue,
            };
            existing.groups.insert(format!("group-{number}"), holders);
        }
        existing
    }

    /// As simulated nodes are told of them.
    pub(crate) fn argument(&self) -> String {
        let on = |group: &String, node: &usize| format!("{group}@{node}");
        let each =
            self.groups.iter().flat_map(|(group, nodes)| nodes.iter().map(move |n| on(group, n)));
        each.collect::<Vec<_>>().join(",")
    }

    /// The groups that are on this node.
    pub(crate) fn on(&self, node: usize) -> impl Iterator<Item = &str> {
        let here = self.groups.iter().filter(move |(_, nodes)| nodes.contains(&node));
        here.map(|(group, _)| group.as_str())
    }

    /// That each group is where its transactions have put it.
    pub(crate) fn check(&self, ended: &[Transaction], cluster: &impl Cluster) {
        let listed = cluster.groups();
        let mut wanted = self.groups.clone();
        for transaction in ended.iter().filter(|it| it.state == "succeeded") {
            let holders = match transaction.action.as_str() {
                "create" => (0..self.nodes).collect(),
                _ => BTreeSet::new(),
            };
            wanted.insert(transaction.group.clone(), holders);
        }
        let mut found: BTreeMap<&str, BTreeSet<usize>> = BTreeMap::new();
        for (node, groups) in listed.iter().enumerate() {
            for group in groups {
                assert!(found.entry(group).or_default().insert(node), "{group} twice on {node}");
            }
        }
        let empty = BTreeSet::new();
        let names: BTreeSet<&str> =
            wanted.keys().map(String::as_str).chain(found.keys().copied()).collect();
        for group in names {
            let (wanted, found) =
                (wanted.get(group).unwrap_or(&empty), found.get(group).unwrap_or(&empty));
            if wanted == found {
                continue;
            }
            let of_group = ended.iter().filter(|it| it.group == group);
            let history: Vec<String> = of_group.map(|it| format!("{it:?}")).collect();
            let (history, trail) = (history.join("\n"), cluster.trail(group));
            assert_eq!(found, wanted, "{group} is elsewhere after\n{history}\n{trail}");
        }
    }
}
