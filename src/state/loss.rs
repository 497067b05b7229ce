//! Replay across a loss that the operator accepted.
//!
//! The records behind a hole were decided on a state that had what is lost, so some of them ask
//! for what this state cannot do: an ack of a message that nobody leased here, a second
//! acceptance of a make-up whose withdrawal is gone. Damage is often found reigns after it took
//! its records, so this goes on until the first reign begins that knew of the loss: each record
//! is cut down to what still makes sense. From then on decisions were made on this very state,
//! and a contradiction is a bug again.

use super::{QueueName, State};
use crate::ids::{Epoch, MessageId};
use crate::record::{AcceptedFormula, Fact, Selection, Touched};

impl State {
    /// Records are missing here, and reigns before `known_from` did not know it.
    pub fn note_loss(&mut self, known_from: Epoch) {
        self.bereft_until = self.bereft_until.max(Some(known_from));
    }

    /// Whether records are missing that later ones may build on, so that hashes stated in the
    /// log cannot be expected to agree.
    #[must_use]
    pub fn is_bereft(&self) -> bool {
        self.bereft_until.is_some()
    }

    /// What of a fact can be applied; `None`: nothing.
    pub(super) fn reconcile(&mut self, fact: &Fact) -> Option<Fact> {
        match fact {
            Fact::Opened { .. } | Fact::StateHash { .. } => Some(fact.clone()),
            Fact::FormulaAccepted(accepted) => Some(self.reconcile_acceptance(accepted)),
            Fact::FormulaWithdrawn { formula, fingerprint } => {
                let is_stored = self.formulas.find(fingerprint) == Some(*formula);
                is_stored.then(|| fact.clone())
            }
            Fact::BatchAnswered { key, .. } => {
                let is_free = self.keys.find(&key.key, self.at.uptime).is_none();
                is_free.then(|| fact.clone())
            }
            _ => self.reconcile_queue(fact.clone()),
        }
    }

    /// The later acceptance of a make-up stands: between the two it must have been withdrawn.
    fn reconcile_acceptance(&mut self, accepted: &AcceptedFormula) -> Fact {
        if let Some(earlier) = self.formulas.find(&accepted.fingerprint) {
            self.formulas.withdraw(earlier, &accepted.fingerprint);
            self.queue_mut(QueueName::FORMULAS).cancel(MessageId(earlier));
        }
        let mut accepted = accepted.clone();
        accepted.key.take_if(|key| self.keys.find(&key.key, self.at.uptime).is_some());
        Fact::FormulaAccepted(accepted)
    }

    fn reconcile_queue(&mut self, mut fact: Fact) -> Option<Fact> {
        let is_left = match &mut fact {
            Fact::Leased { queue, messages, .. } => {
                let queue = self.queue_mut(queue.as_str());
                keep(messages, |id| queue.ready.contains_key(&id))
            }
            Fact::Acked { queue, messages } => {
                let queue = self.queue_mut(queue.as_str());
                // Done is done, also where the lease is lost.
                for Touched { message, .. } in messages.iter() {
                    if !queue.leased.contains_key(message) {
                        queue.cancel(*message);
                    }
                }
                keep(messages, |id| queue.leased.contains_key(&id))
            }
            Fact::Nacked { queue, messages, .. } => {
                let queue = self.queue_mut(queue.as_str());
                keep(messages, |id| queue.leased.contains_key(&id))
            }
            Fact::Extended { queue, messages, .. } => {
                let queue = self.queue_mut(queue.as_str());
                messages.retain(|id| queue.leased.contains_key(id));
                !messages.is_empty()
            }
            Fact::Redriven { queue, which } | Fact::Purged { queue, which } => {
                let queue = self.queue_mut(queue.as_str());
                match which {
                    Selection::All => true,
                    Selection::Ids(ids) => {
                        ids.retain(|id| queue.dead.contains_key(id));
                        !ids.is_empty()
                    }
                }
            }
            _ => unreachable!("all other facts are no queue's"),
        };
        is_left.then_some(fact)
    }
}

/// Keeps the messages for which `is_fit` holds; whether any is left.
fn keep(messages: &mut Vec<Touched>, is_fit: impl Fn(MessageId) -> bool) -> bool {
    messages.retain(|touched| is_fit(touched.message));
    !messages.is_empty()
}
