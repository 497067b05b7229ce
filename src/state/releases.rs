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
//! it looks at. For each node three things are known: how it was before the first call, what the
//! latest call or look told, and whether this transaction may have changed it.

use std::collections::{BTreeMap, BTreeSet};

use bincode::{Decode, Encode};

use super::digest::{Digest, Tag, entry};
use crate::ids::{GroupId, Lsn, MessageId};
use crate::limits::TRANSACTIONS_KEPT_MAX;
use crate::record::Fact;
use crate::record::releases::{
    BegunTransaction, Delayed, End, EndedTransaction, NodeAnswer, NodeOutcome, NodeSet, Presence,
    Seen, Sight, Step,
};
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
    ended: BTreeSet<Lsn>,
    digest: Digest,
}

/// One transaction.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Transaction {
    /// What was begun.
    pub begun: BegunTransaction,
    /// When.
    pub begun_at: Timestamp,
    /// When the latest fact about it was recorded.
    pub changed_at: Timestamp,
    /// How it stands.
    pub phase: Phase,
    /// Which way it goes.
    pub heading: Heading,
    /// Tries that are over.
    pub tries: u32,
    /// Rounds of undo that were begun in this try.
    pub undos: u32,
    /// The next round of undo is not begun before this.
    pub undo_after: Uptime,
    /// Rounds of calls that were begun, over all tries: the number in the calls' keys.
    pub rounds: u32,
    /// Why it waits, or ended as it did; empty for none.
    pub reason: Box<str>,
    /// How its nodes stand, in the order of the record.
    pub nodes: Vec<Node>,
    /// What the request that began it was answered, if it came under a key.
    pub answered: Option<GivenAnswer>,
}

/// How a transaction stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum Phase {
    /// It is being carried out, or undone.
    Running,
    /// It has changed nothing and waits for its next try.
    ToBeRetried,
    /// It is at an end; or failed, and then held until it is healed.
    Ended(End),
}

impl Phase {
    /// All of them.
    pub const ALL: [Phase; 5] = [
        Phase::Running,
        Phase::ToBeRetried,
        Phase::Ended(End::Succeeded),
        Phase::Ended(End::RolledBack),
        Phase::Ended(End::Failed),
    ];

    /// Its name in the API.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Phase::Running => "running",
            Phase::ToBeRetried => "to_be_retried",
            Phase::Ended(end) => end.name(),
        }
    }

    /// Whether the transaction holds its group: nobody else may change it.
    #[must_use]
    pub fn is_held(self) -> bool {
        !matches!(self, Phase::Ended(End::Succeeded | End::RolledBack))
    }
}

/// Which way a transaction goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum Heading {
    /// To what was asked.
    Forward,
    /// Back to what was before.
    Backward,
}

/// One node of a transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Node {
    /// How it was before this transaction called it; `None`: not known yet, so it was not called.
    pub before: Option<Presence>,
    /// What is known of it.
    pub standing: Standing,
    /// Whether it was called to carry the action out: then it may be undone.
    pub is_touched: bool,
    /// How often it was called.
    pub calls: u32,
    /// Looks in a row that told nothing.
    pub unseen: u32,
    /// What was wrong with its latest answer that was no success.
    pub last_error: Option<Box<str>>,
}

/// What is known of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Standing {
    /// Not looked at in this try.
    #[default]
    Idle,
    /// Looked at, and to be called.
    Looked,
    /// A look told nothing.
    Unseen,
    /// It was left alone, because it has failed too often.
    Shunned {
        /// Until then.
        until: Uptime,
    },
    /// A call is intended and not answered.
    Called(Step),
    /// A call ended without telling what it did. A look from then on tells.
    Unknown {
        /// Which way the call went.
        step: Step,
        /// The call has no effect after this.
        settles_at: Uptime,
        /// What the node said of it.
        claim: Claim,
    },
    /// As was asked, by this transaction.
    Done,
    /// As was asked, and not by this transaction.
    Already,
    /// It refuses.
    Refused,
    /// A call has changed nothing.
    Unchanged,
    /// Seen as it was before.
    Clean,
}

/// What a node said of a call whose effect a look has to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Claim {
    /// Nothing that says what became of it.
    None,
    /// That it was so already, although it had not been when it was looked at. If it is not, the
    /// node means something else, and will say so each time.
    Already,
}

/// What a request under a key was answered.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct GivenAnswer {
    /// The status.
    pub status: u16,
    /// The body.
    pub body: Box<[u8]>,
}

impl Node {
    /// How it stands, as the API tells it.
    #[must_use]
    pub fn outcome(&self) -> NodeOutcome {
        match self.standing {
            Standing::Idle | Standing::Looked => NodeOutcome::Waiting,
            Standing::Unseen | Standing::Shunned { .. } => NodeOutcome::Unreachable,
            Standing::Called(_) => NodeOutcome::Calling,
            Standing::Unknown { .. } => NodeOutcome::Unknown,
            Standing::Done => NodeOutcome::Done,
            Standing::Already => NodeOutcome::Already,
            Standing::Refused => NodeOutcome::Refused,
            Standing::Unchanged => NodeOutcome::Unchanged,
            Standing::Clean => NodeOutcome::Undone,
        }
    }

    fn note_answer(&mut self, answer: NodeAnswer, aim: Presence, now: Uptime) {
        let Standing::Called(step) = self.standing else { return };
        let unknown = |settles_at, claim| Standing::Unknown { step, settles_at, claim };
        self.standing = match (step, answer) {
            (Step::Do, NodeAnswer::Done) => {
                self.before = Some(opposite(aim));
                Standing::Done
            }
            (Step::Do, NodeAnswer::Already) if self.before == Some(aim) => Standing::Already,
            (Step::Do, NodeAnswer::Already) => unknown(now, Claim::Already),
            (Step::Do, NodeAnswer::Refused { .. }) => Standing::Refused,
            // Undone or not, it is seen before it is believed.
            (Step::Undo, NodeAnswer::Done | NodeAnswer::Already) => unknown(now, Claim::None),
            (Step::Undo, NodeAnswer::Refused { .. }) => Standing::Done,
            (_, NodeAnswer::Unknown { settles_ms }) => {
                unknown(now.plus_ms(settles_ms), Claim::None)
            }
        };
    }

    fn note_sight(&mut self, sight: &Sight, aim: Presence, heading: Heading, now: Uptime) {
        match sight {
            Sight::Told(presence) => {
                self.unseen = 0;
                self.note_presence(*presence, aim, heading);
            }
            Sight::Unseen { reason, again_ms } => {
                self.last_error = Some(reason.clone());
                self.note_unseen(Standing::Unseen, now.plus_ms(*again_ms));
            }
            Sight::Shunned { again_ms } => {
                let until = now.plus_ms(*again_ms);
                self.note_unseen(Standing::Shunned { until }, until);
            }
        }
    }

    fn note_unseen(&mut self, untried: Standing, again_at: Uptime) {
        self.unseen += 1;
        self.standing = match self.standing {
            Standing::Unknown { step, claim, settles_at } => {
                Standing::Unknown { step, claim, settles_at: settles_at.max(again_at) }
            }
            Standing::Idle | Standing::Looked | Standing::Unseen | Standing::Shunned { .. } => {
                untried
            }
            other => other,
        };
    }

    fn note_presence(&mut self, seen: Presence, aim: Presence, heading: Heading) {
        let is_ours = self.is_touched && self.before.is_some_and(|before| before != seen);
        self.standing =
            match self.standing {
                // The effect came later than it should have.
                Standing::Idle | Standing::Unseen | Standing::Shunned { .. } | Standing::Looked
                    if is_ours && seen == aim =>
                {
                    Standing::Done
                }
                Standing::Idle | Standing::Unseen | Standing::Shunned { .. } | Standing::Looked => {
                    self.before = Some(seen);
                    match heading {
                        Heading::Forward => Standing::Looked,
                        Heading::Backward => Standing::Clean,
                    }
                }
                Standing::Unknown { step: Step::Do, .. } if seen == aim => {
                    if self.before == Some(aim) { Standing::Already } else { Standing::Done }
                }
                Standing::Unknown { step: Step::Do, claim, .. } => {
                    self.before = Some(seen);
                    match claim {
                        Claim::Already => Standing::Refused,
                        Claim::None => Standing::Unchanged,
                    }
                }
                Standing::Unknown { step: Step::Undo, .. } | Standing::Done => {
                    if self.before == Some(seen) { Standing::Clean } else { Standing::Done }
                }
                other => other,
            };
    }

    /// Before another try: it is looked at again, unless a call may still have an effect.
    fn begin_anew(&mut self, now: Uptime) {
        self.unseen = 0;
        match self.standing {
            Standing::Called(_) => {}
            Standing::Unknown { settles_at, .. } if settles_at > now => {}
            _ => self.standing = Standing::Idle,
        }
    }
}

fn opposite(presence: Presence) -> Presence {
    match presence {
        Presence::Absent => Presence::Present,
        Presence::Present => Presence::Absent,
    }
}

impl Transaction {
    /// As it is when it has just begun.
    #[must_use]
    pub fn new(begun: BegunTransaction, at: Timestamp) -> Transaction {
        let nodes = vec![Node::default(); begun.nodes.len()];
        Transaction {
            begun,
            begun_at: at,
            changed_at: at,
            phase: Phase::Running,
            heading: Heading::Forward,
            tries: 0,
            undos: 0,
            undo_after: Uptime(0),
            rounds: 0,
            reason: Box::default(),
            nodes,
            answered: None,
        }
    }

    /// The nodes for which `is_meant` holds.
    pub fn nodes_where(&self, is_meant: impl Fn(&Node) -> bool) -> NodeSet {
        let all = (0..).zip(&self.nodes);
        all.filter(|(_, node)| is_meant(node)).map(|(place, _)| place).collect()
    }

    /// Changes it by a fact about it; other facts change nothing. One that was ended by a fact
    /// that is lost is not changed any more.
    pub fn apply(&mut self, at: Moment, fact: &Fact) {
        if !self.phase.is_held() && !matches!(fact, Fact::TransactionAnswered { .. }) {
            return;
        }
        let aim = self.begun.action.aim();
        self.changed_at = at.wall;
        match fact {
            Fact::NodesSeen { seen, .. } => {
                self.run();
                let heading = self.heading;
                for Seen { node, sight } in seen {
                    let node = self.nodes.get_mut(usize::from(*node));
                    node.into_iter().for_each(|it| it.note_sight(sight, aim, heading, at.uptime));
                }
            }
            Fact::NodesCalled { step, nodes, again_ms, .. } => {
                self.run();
                self.call(*step, *nodes, at.uptime.plus_ms(*again_ms));
            }
            Fact::NodeAnswered { node, answer, reason, .. } => {
                let node = self.nodes.get_mut(usize::from(*node));
                node.into_iter().for_each(|node| {
                    node.note_answer(*answer, aim, at.uptime);
                    if !reason.is_empty() {
                        node.last_error = Some(reason.clone());
                    }
                });
            }
            Fact::TransactionDelayed { delayed, reason, .. } => {
                self.phase = Phase::ToBeRetried;
                self.tries += u32::from(*delayed == Delayed::TryOver);
                self.reason = reason.clone();
                self.begin_anew(Heading::Forward, at.uptime);
            }
            Fact::TransactionRetried { .. } => {
                self.phase = Phase::Running;
                self.tries = 0;
                self.begin_anew(Heading::Forward, at.uptime);
            }
            Fact::HealBegun { .. } => self.begin_anew(Heading::Backward, at.uptime),
            Fact::TransactionEnded(EndedTransaction { end, reason, .. }) => {
                self.phase = Phase::Ended(*end);
                self.reason = reason.clone();
            }
            Fact::TransactionAnswered { status, body, .. } => {
                self.answered = Some(GivenAnswer { status: *status, body: body.clone() });
            }
            _ => {}
        }
    }

    /// Another reign began. A call without an answer was perhaps sent at its very end.
    pub fn abandon(&mut self, now: Uptime) {
        let settles_at = now.plus_ms(self.begun.deadline_ms);
        for node in &mut self.nodes {
            if let Standing::Called(step) = node.standing {
                node.standing = Standing::Unknown { step, settles_at, claim: Claim::None };
            }
        }
    }

    /// One that has failed stays so while it is healed.
    fn run(&mut self) {
        if self.phase == Phase::ToBeRetried {
            self.phase = Phase::Running;
        }
    }

    fn call(&mut self, step: Step, called: NodeSet, undo_after: Uptime) {
        self.rounds += 1;
        if step == Step::Undo {
            self.heading = Heading::Backward;
            self.undos += 1;
            self.undo_after = undo_after;
        }
        for (place, node) in (0..).zip(&mut self.nodes) {
            if called.contains(place) {
                node.standing = Standing::Called(step);
                node.is_touched |= step == Step::Do;
                node.calls += 1;
                node.unseen = 0;
            }
        }
    }

    fn begin_anew(&mut self, heading: Heading, now: Uptime) {
        self.heading = heading;
        self.undos = 0;
        self.nodes.iter_mut().for_each(|node| node.begin_anew(now));
    }
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

    /// How many hold their groups.
    #[must_use]
    pub fn open_len(&self) -> usize {
        self.groups.len()
    }

    /// Those that have failed and are not healed, by id.
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
            self.ended.insert(id);
        }
        self.transactions.insert(id, transaction);
        if self.ended.len() > TRANSACTIONS_KEPT_MAX
            && let Some(oldest) = self.ended.first().copied()
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
        self.ended.remove(&id);
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
            let is_known = |node: &Node| !node.is_touched || node.before.is_some();
            assert!(transaction.nodes.iter().all(is_known), "a node is looked at before a call");
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
    let flags = before << 1 | u64::from(node.is_touched);
    let counts = u64::from(node.calls) << 32 | u64::from(node.unseen);
    let error = node.last_error.as_ref().map_or(0, |error| error.len() as u64 + 1);
    [standing, until.0, flags, counts, error]
}
