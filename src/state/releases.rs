//! Transactions: which groups are on their way to all nodes or to none, and how far each is.
//!
//! ```text
//!            ┌──────────────► succeeded
//!  running ──┼──────────────► rolled_back ◄───────┐
//!   ▲  │     └──────────────► failed ── healed ───┘
//!   │  ▼                        │
//!  to_be_retried ◄── by hand ───┘
//! ```
//!
//! What a transaction does next is not decided here but in `engine::decide::plan`; this is what
//! it looks at.

mod transaction;

use std::collections::{BTreeMap, BTreeSet};

pub use self::transaction::{Claim, GivenAnswer, Heading, Node, Phase, Standing, Transaction};
use super::digest::{Digest, Tag, entry};
use crate::ids::{GroupId, Lsn, MessageId};
use crate::limits::TRANSACTIONS_KEPT_MAX;
use crate::record::Fact;
use crate::record::releases::{BegunTransaction, End, Step};
use crate::time::{Moment, Timestamp, Uptime};

/// All transactions that are not at an end, and the latest that are.
///
/// Invariants: `groups` names exactly the transactions that hold their group; `ended` exactly
/// those that do not, at most `TRANSACTIONS_KEPT_MAX`; `flows` the latest of each formula.
#[derive(Clone, Debug, Default)]
pub struct Releases {
    pub(super) transactions: BTreeMap<Lsn, Transaction>,
    groups: BTreeMap<GroupId, Lsn>,
    flows: BTreeMap<MessageId, Lsn>,
    /// By when they ended.
    ended: BTreeSet<(Timestamp, Lsn)>,
    digest: Digest,
}

impl Releases {
    /// A transaction, by its id; `None` too when it ended long ago.
    #[must_use]
    pub fn get(&self, id: Lsn) -> Option<&Transaction> {
        self.transactions.get(&id)
    }

    /// All that are remembered, by id.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (Lsn, &Transaction)> {
        self.transactions.iter().map(|(id, transaction)| (*id, transaction))
    }

    /// Those after this id.
    pub fn after(&self, id: Lsn) -> impl Iterator<Item = (Lsn, &Transaction)> {
        let rest = self.transactions.range(id.next()..);
        rest.map(|(id, transaction)| (*id, transaction))
    }

    /// The transaction that holds a group.
    #[must_use]
    pub fn holder(&self, group: &GroupId) -> Option<Lsn> {
        self.groups.get(group).copied()
    }

    /// The transaction of a message on the queue `releases`: its own, or the latest for the
    /// formula that it stands for.
    #[must_use]
    pub fn of_message(&self, message: MessageId) -> Option<Lsn> {
        let own = self.transactions.contains_key(&message.0).then_some(message.0);
        own.or_else(|| self.flows.get(&message).copied())
    }

    /// Whether the message is a transaction's own, as opposed to a formula's.
    #[must_use]
    pub fn is_transaction(&self, message: MessageId) -> bool {
        self.transactions.contains_key(&message.0)
    }

    /// Those that hold their groups, in the order of their groups' names.
    pub fn open(&self) -> impl Iterator<Item = Lsn> + '_ {
        self.groups.values().copied()
    }

    /// How many hold their groups.
    #[must_use]
    pub fn open_len(&self) -> usize {
        self.groups.len()
    }

    /// Those that have failed and are not healed, in the order of their groups' names.
    pub fn failed(&self) -> impl Iterator<Item = Lsn> + '_ {
        let open = self.groups.values().copied();
        open.filter(|id| self.transactions[id].phase == Phase::Ended(End::Failed))
    }

    /// Whether there never was one.
    pub(super) fn is_new(&self) -> bool {
        self.transactions.is_empty()
    }

    pub(super) fn begin(&mut self, id: Lsn, begun: &BegunTransaction, at: Moment) {
        // The end of whoever holds the group still is among what was lost.
        if let Some(earlier) = self.holder(&begun.group) {
            self.change(earlier, |it| it.phase = Phase::Ended(End::RolledBack));
        }
        self.put(id, Transaction::new(begun.clone(), at.wall));
    }

    /// Changes a transaction by a fact about it. One that is not remembered stays so.
    pub(super) fn note(&mut self, id: Lsn, at: Moment, fact: &Fact) {
        self.change(id, |transaction| transaction.apply(at, fact));
    }

    /// Another reign began.
    pub(super) fn abandon(&mut self, now: Uptime) {
        let open: Vec<Lsn> = self.groups.values().copied().collect();
        open.into_iter().for_each(|id| self.change(id, |it| it.abandon(now)));
    }

    fn change(&mut self, id: Lsn, change: impl FnOnce(&mut Transaction)) {
        if let Some(mut transaction) = self.take(id) {
            change(&mut transaction);
            self.put(id, transaction);
        }
    }

    /// Puts a transaction in place, with all that follows from it. Also for images.
    pub(super) fn put(&mut self, id: Lsn, transaction: Transaction) {
        self.digest.add(transaction_hash(id, &transaction));
        let message = transaction.begun.message(id);
        if message.0 != id {
            self.flows.entry(message).and_modify(|latest| *latest = id.max(*latest)).or_insert(id);
        }
        if transaction.phase.is_held() {
            self.groups.insert(transaction.begun.group.clone(), id);
        } else {
            self.ended.insert((transaction.changed_at, id));
        }
        self.transactions.insert(id, transaction);
        if self.ended.len() > TRANSACTIONS_KEPT_MAX
            && let Some((_, oldest)) = self.ended.first().copied()
        {
            self.take(oldest);
        }
    }

    fn take(&mut self, id: Lsn) -> Option<Transaction> {
        let transaction = self.transactions.remove(&id)?;
        self.digest.remove(transaction_hash(id, &transaction));
        let message = transaction.begun.message(id);
        if self.flows.get(&message) == Some(&id) {
            self.flows.remove(&message);
        }
        if self.groups.get(&transaction.begun.group) == Some(&id) {
            self.groups.remove(&transaction.begun.group);
        }
        self.ended.remove(&(transaction.changed_at, id));
        Some(transaction)
    }

    pub(super) fn digest(&self) -> u128 {
        self.digest.value()
    }

    pub(super) fn check_invariants(&self) {
        let (mut digest, mut again) = (Digest::default(), Releases::default());
        for (&id, transaction) in &self.transactions {
            digest.add(transaction_hash(id, transaction));
            again.put(id, transaction.clone());
            let is_consistent = transaction.nodes.iter().all(Node::is_consistent);
            assert!(
                is_consistent,
                "a node is looked at before a call, and only calls leave anything"
            );
        }
        assert_eq!(again.groups, self.groups, "each open transaction holds its group");
        assert_eq!(again.flows, self.flows, "the latest transaction of each formula is known");
        assert_eq!(again.ended, self.ended, "the others are at an end");
        assert!(self.ended.len() <= TRANSACTIONS_KEPT_MAX, "only the latest are kept");
        assert_eq!(digest, self.digest, "the digest is the sum over the transactions");
    }
}

fn transaction_hash(id: Lsn, transaction: &Transaction) -> u128 {
    let Transaction { tries, undos, undo_after, rounds, .. } = transaction;
    let phase = match transaction.phase {
        Phase::Running => 0,
        Phase::ToBeRetried => 1,
        Phase::Ended(end) => 2 + end as u64,
    };
    let whole = [id.0, phase, transaction.heading as u64, u64::from(*tries), u64::from(*undos)];
    let times = [undo_after.0, u64::from(*rounds), transaction.changed_at.0];
    let answer = transaction.answered.as_ref().map_or(0, |it| it.body.len() as u64 + 1);
    let mut words: Vec<u64> = whole.into_iter().chain(times).collect();
    words.extend([answer, transaction.reason.len() as u64]);
    transaction.nodes.iter().for_each(|node| words.extend(node_words(node)));
    entry(Tag::Transaction, &words)
}

fn node_words(node: &Node) -> [u64; 5] {
    let step = |step: Step| step as u64;
    let (standing, until) = match node.standing {
        Standing::Idle => (0, Uptime(0)),
        Standing::Looked => (1, Uptime(0)),
        Standing::Unseen => (2, Uptime(0)),
        Standing::Shunned { until } => (3, until),
        Standing::Called(way) => (4 + step(way), Uptime(0)),
        Standing::Unknown { step: way, settles_at, claim } => {
            (6 + 2 * step(way) + claim as u64, settles_at)
        }
        Standing::Done => (10, Uptime(0)),
        Standing::Already => (11, Uptime(0)),
        Standing::Refused => (12, Uptime(0)),
        Standing::Unchanged => (13, Uptime(0)),
        Standing::Clean => (14, Uptime(0)),
    };
    let before = node.before.map_or(0, |before| 1 + before as u64);
    let flags = before << 2 | u64::from(node.is_left) << 1 | u64::from(node.is_touched);
    let counts = u64::from(node.calls) << 32 | u64::from(node.unseen);
    let error = node.last_error.as_ref().map_or(0, |error| error.len() as u64 + 1);
    [standing, until.0, flags, counts, error]
}
