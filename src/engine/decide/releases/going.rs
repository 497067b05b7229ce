//! A transaction while something is decided about it: news change it at once, and what follows
//! from them is found by asking the [`plan`] of what it has become. Pure, and of nothing but the
//! transaction: what its end means for others is added by who knows them.

use crate::engine::command::releases::{News, Task};
use crate::engine::decide::plan::{Next, backoff_ms, plan, spread_ms};
use crate::ids::Lsn;
use crate::limits::{REASON_BYTES_MAX, RELEASE_SHUNNED_DELAY_MS};
use crate::record::Fact;
use crate::record::releases::{
    Action, BegunTransaction, Delayed, End, NodeOutcome, NodeSet, Seen, Sight, Step,
};
use crate::state::releases::{Node, Phase, Standing, Transaction};
use crate::time::Moment;

/// A transaction as it will be when the facts are applied.
pub(super) struct Going {
    /// Which.
    pub(super) id: Lsn,
    /// It.
    pub(super) transaction: Transaction,
    /// What is to be recorded.
    pub(super) facts: Vec<Fact>,
    now: Moment,
    token: u64,
}

/// What follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Follows {
    /// Something is to be done, or nothing.
    Task(Task),
    /// The transaction ends; that is yet to be recorded.
    End(End),
}

impl Going {
    /// Nothing has happened to it yet. `token` is a random number.
    pub(super) fn new(id: Lsn, transaction: Transaction, now: Moment, token: u64) -> Going {
        Going { id, transaction, facts: Vec::new(), now, token }
    }

    /// Has a fact happen to it.
    pub(super) fn record(&mut self, fact: Fact) {
        self.transaction.apply(self.now, &fact);
        self.facts.push(fact);
    }

    /// Has news happen to it.
    pub(super) fn hear(&mut self, news: News) {
        let transaction = self.id;
        if !self.transaction.phase.is_held() {
            return;
        }
        match news {
            News::Seen(seen) => {
                let seen = seen.into_iter().map(|seen| self.dated(seen)).collect();
                self.record(Fact::NodesSeen { transaction, seen });
            }
            News::Answered { node, answer, reason } => {
                self.record(Fact::NodeAnswered { transaction, node, answer, reason });
            }
        }
    }

    /// Records what follows, unless it is the end, and gives what is to be done then.
    pub(super) fn follow(&mut self) -> Follows {
        let transaction = self.id;
        Follows::Task(match plan(&self.transaction, self.now.uptime) {
            Next::Look(nodes) => Task::Look(nodes),
            Next::Await => Task::Await,
            Next::Wait(until) => Task::Wait(until),
            Next::Nothing => Task::Over(self.transaction.phase),
            Next::Call(step, nodes) => self.call(step, nodes),
            Next::Delay(delayed) => {
                let (delay_ms, reason) = (self.delay_ms(delayed), self.reason());
                let fact = Fact::TransactionDelayed { transaction, delayed, reason, delay_ms };
                self.record(fact);
                Task::Over(self.transaction.phase)
            }
            // One that could not be healed is as it was.
            Next::End(end) if self.transaction.phase == Phase::Ended(end) => {
                Task::Over(self.transaction.phase)
            }
            Next::End(end) => return Follows::End(end),
        })
    }

    /// Which nodes stand in the way, and why; those that do not tell why only by their outcome.
    pub(super) fn reason(&self) -> Box<str> {
        let BegunTransaction { nodes: urls, action, .. } = &self.transaction.begun;
        let is_in_the_way = |node: &Node| match node.standing {
            Standing::Done | Standing::Already | Standing::Looked | Standing::Idle => false,
            Standing::Clean => node.last_error.is_some(),
            _ => true,
        };
        let mut text = String::new();
        // First those that are not as they were, or may not be: the end may be cut off.
        let mut nodes: Vec<_> = urls.iter().zip(&self.transaction.nodes).collect();
        nodes.retain(|(_, node)| node.is_left || is_in_the_way(node));
        nodes.sort_by_key(|(_, node)| !node.is_left);
        for (url, node) in nodes {
            if !text.is_empty() {
                text.push_str("; ");
            }
            text.push_str(url);
            text.push_str(": ");
            let why = node.last_error.as_deref().unwrap_or(node.outcome().name());
            text.push_str(why);
            if node.is_left {
                text.push_str(match (node.outcome(), action) {
                    (NodeOutcome::Unknown | NodeOutcome::Unreachable, _) => {
                        " (not known whether the group is there)"
                    }
                    (_, Action::Create) => " (the group is still there)",
                    (_, Action::Delete) => " (the group is still gone)",
                });
            }
        }
        cut(text)
    }

    /// Says when a node that told nothing is asked again.
    fn dated(&self, seen: Seen) -> Seen {
        let Seen { node, sight } = seen;
        let Sight::Unseen { reason, .. } = sight else { return Seen { node, sight } };
        let unseen = self.transaction.nodes.get(usize::from(node)).map_or(0, |it| it.unseen);
        let again_ms = backoff_ms(unseen + 1, self.token);
        Seen { node, sight: Sight::Unseen { reason, again_ms } }
    }

    fn call(&mut self, step: Step, nodes: NodeSet) -> Task {
        let again_ms = match step {
            Step::Do => 0,
            Step::Undo => backoff_ms(self.transaction.undos + 1, self.token),
        };
        let fact = Fact::NodesCalled { transaction: self.id, step, nodes, again_ms };
        self.record(fact);
        Task::Call { step, nodes, round: self.transaction.rounds }
    }

    /// Until the next try; longer while nodes are left alone.
    fn delay_ms(&self, delayed: Delayed) -> u64 {
        let now = self.now.uptime;
        let token = self.token;
        let even_ms = match delayed {
            Delayed::TryOver => backoff_ms(self.transaction.tries + 1, token),
            Delayed::Shunned => spread_ms(RELEASE_SHUNNED_DELAY_MS, token),
        };
        let shunned_ms = |node: &Node| match node.standing {
            Standing::Shunned { until } => until.since_ms(now),
            _ => 0,
        };
        let shunned_ms = self.transaction.nodes.iter().map(shunned_ms).max().unwrap_or(0);
        even_ms.max(shunned_ms)
    }
}

/// At most `REASON_BYTES_MAX` bytes of a text.
fn cut(mut text: String) -> Box<str> {
    text.truncate(text.floor_char_boundary(REASON_BYTES_MAX));
    text.into()
}
