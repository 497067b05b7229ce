//! What follows from the facts about releases, and about groups on this server.
//!
//! A transaction settles its message itself when it ends, wherever the message stands: also as a
//! dead letter, when what had failed was healed. Facts about a transaction that is not remembered
//! change nothing: then its beginning is among what was lost.

use super::State;
use crate::ids::{Lsn, MessageId, QueueName};
use crate::record::Fact;
use crate::record::releases::{BegunTransaction, End, EndedTransaction, Origin};
use crate::state::queues::Queue;
use crate::time::Moment;

impl State {
    /// # Panics
    /// If the fact is about something else.
    pub(super) fn apply_release(&mut self, lsn: Lsn, at: Moment, fact: &Fact) {
        match fact {
            Fact::TransactionBegun(begun) => self.begin_transaction(lsn, begun, at),
            Fact::NodesSeen { transaction, .. }
            | Fact::NodesCalled { transaction, .. }
            | Fact::NodeAnswered { transaction, .. }
            | Fact::HealBegun { transaction }
            | Fact::TransactionAnswered { transaction, .. } => {
                self.releases.note(*transaction, at, fact);
            }
            Fact::TransactionDelayed { transaction, delay_ms, .. } => {
                self.releases.note(*transaction, at, fact);
                let until = at.uptime.plus_ms(*delay_ms);
                if let Some((message, queue)) = self.held_release(*transaction) {
                    queue.defer(message, until, at.uptime);
                }
            }
            Fact::TransactionRetried { transaction } => {
                self.releases.note(*transaction, at, fact);
                self.hurry(*transaction);
            }
            Fact::TransactionEnded(ended) => self.end_transaction(lsn, ended, at, fact),
            Fact::ReleaseDue { formula } => {
                self.queue_mut(QueueName::RELEASES).put_back(*formula);
            }
            Fact::GroupChanged(changed) => self.groups.change(lsn, changed),
            _ => unreachable!("all other facts are applied before"),
        }
    }

    fn begin_transaction(&mut self, lsn: Lsn, begun: &BegunTransaction, at: Moment) {
        begun.key.iter().for_each(|key| self.keys.spend(lsn, key, at.uptime));
        self.releases.begin(lsn, begun, at);
        if !matches!(begun.origin, Origin::Flow { .. }) {
            self.queue_mut(QueueName::RELEASES).put(MessageId(lsn));
        }
    }

    /// The message of a transaction can be leased at once.
    fn hurry(&mut self, transaction: Lsn) {
        let Some(found) = self.releases.get(transaction) else { return };
        let (message, is_held) = (found.begun.message(transaction), found.phase.is_held());
        let queue = self.queue_mut(QueueName::RELEASES);
        if is_held {
            queue.put_back(message);
            queue.hurry(message);
        }
    }

    fn end_transaction(&mut self, lsn: Lsn, ended: &EndedTransaction, at: Moment, fact: &Fact) {
        let EndedTransaction { transaction, end, reason, about } = ended;
        about.iter().for_each(|about| self.formulas.touch(about.formula.message.0, lsn));
        // Before it is noted: a transaction at an end may be forgotten at once.
        let Some(found) = self.releases.get(*transaction) else { return };
        let message = found.begun.message(*transaction);
        let is_flow = matches!(found.begun.origin, Origin::Flow { .. });
        self.releases.note(*transaction, at, fact);
        let queue = self.queue_mut(QueueName::RELEASES);
        match end {
            // A formula that was not released is held: its message stays, as a dead letter.
            End::Failed | End::RolledBack if is_flow || *end == End::Failed => {
                queue.bury(message, at, reason);
            }
            _ => queue.finish(message),
        }
    }

    /// The message of a transaction and its queue, if it is leased.
    fn held_release(&mut self, transaction: Lsn) -> Option<(MessageId, &mut Queue)> {
        let message = self.releases.get(transaction)?.begun.message(transaction);
        let queue = self.queue_mut(QueueName::RELEASES);
        queue.leased.contains_key(&message).then_some((message, queue))
    }
}
