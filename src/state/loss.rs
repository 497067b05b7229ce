//! Replay across a loss that the operator accepted.
//!
//! The records behind a hole were decided on a state that had what is lost, so some of them ask
//! for what this state cannot do: an ack of a message that nobody leased here, a second
//! acceptance of a make-up whose withdrawal is gone. Damage is often found reigns after it took
//! its records, so this goes on until the first reign begins that knew of the loss: each record
//! is cut down to what still makes sense. From then on decisions were made on this very state,
//! and a contradiction is a bug again.
//!
//! **With a snapshot beneath**, what counts as there is what the layers hold. So while a state is
//! bereft, whoever replays looks up in the snapshot what a fact names, its fingerprint and its
//! key, and has it recalled before the fact is applied ([`State::recall`],
//! [`State::recall_key`]). Then the state is the very one to which a replay from the first record
//! leads, and a digest that is stated later agrees whichever snapshot an opening begins with.
//! Without, a second acceptance would stand beside the first and be counted twice, and a
//! withdrawal of what only the snapshot knows would be dropped. Queues need nothing of the kind:
//! they are wholly in memory.

use super::formulas::Whereabouts;
use super::idempotency::{KeyWhereabouts, Spent};
use super::{QueueName, State};
use crate::formula::Fingerprint;
use crate::ids::{Epoch, Lsn, MessageId};
use crate::limits::LOST_CALLS_PAUSE_MS;
use crate::record::seals::{GivenSeal, RequestedSeal, index_of};
use crate::record::{AcceptedFormula, Fact, Selection, SpentKey, Touched};
use crate::time::Uptime;

impl State {
    /// Records are missing here, and reigns before `known_from` did not know it.
    pub fn note_loss(&mut self, known_from: Epoch) {
        self.bereft_until = self.bereft_until.max(Some(known_from));
    }

    /// A reign began. If it knew of the loss, what follows was decided on this very state. Which
    /// calls to the authority are among what is lost nobody can say, so it is left alone until it
    /// counts none of them any more. A store that is not known to have called anybody stays as
    /// it is: stores of before there were calls have stated the digests that follow.
    pub(super) fn end_loss(&mut self, epoch: Epoch, now: Uptime) {
        let ended = self.bereft_until.take_if(|known_from| epoch >= *known_from);
        if ended.is_some() && !self.calls.is_new() {
            self.calls.pause(now.plus_ms(LOST_CALLS_PAUSE_MS));
        }
    }

    /// Whether records are missing that later ones may build on, so that hashes stated in the
    /// log cannot be expected to agree.
    #[must_use]
    pub fn is_bereft(&self) -> bool {
        self.bereft_until.is_some()
    }

    /// The snapshot says that the formula of this identity is stored, accepted at `lsn`. Changes
    /// nothing that is seen from outside, and nothing if the layers know better. For replay while
    /// [`State::is_bereft`], before a fact that names this fingerprint is applied.
    ///
    /// # Panics
    /// If `lsn` is above the base.
    pub fn recall(&mut self, fingerprint: Fingerprint, lsn: Lsn) {
        self.formulas.recall(lsn, fingerprint);
    }

    /// The snapshot says that this key is spent. Else as [`State::recall`].
    pub fn recall_key(&mut self, key: [u8; 32], spent: Spent) {
        self.keys.recall(key, spent, self.at.uptime);
    }

    /// What of a fact can be applied; `None`: nothing.
    pub(super) fn reconcile(&mut self, fact: &Fact) -> Option<Fact> {
        match fact {
            Fact::Opened { .. } | Fact::StateHash { .. } | Fact::Digest { .. } => {
                Some(fact.clone())
            }
            Fact::FormulaAccepted(accepted) => {
                Some(Fact::FormulaAccepted(self.reconcile_acceptance(accepted)))
            }
            Fact::FormulaImported { accepted, accepted_at } => Some(Fact::FormulaImported {
                accepted: self.reconcile_acceptance(accepted),
                accepted_at: *accepted_at,
            }),
            Fact::FormulaWithdrawn { formula, fingerprint } => {
                let is_stored = self.formulas.find(fingerprint) == Whereabouts::Stored(*formula);
                is_stored.then(|| fact.clone())
            }
            Fact::BatchAnswered { key, .. } => self.is_free(key).then(|| fact.clone()),
            Fact::SealRequested(request) => Some(self.reconcile_request(request)),
            Fact::HookCreated(created) => {
                let mut created = created.clone();
                created.key.take_if(|key| !self.is_free(key));
                Some(Fact::HookCreated(created))
            }
            Fact::TransactionBegun(begun) => {
                let mut begun = begun.clone();
                begun.key.take_if(|key| !self.is_free(key));
                Some(Fact::TransactionBegun(begun))
            }
            Fact::Sealed(seal) if !self.is_free(&seal.index) => {
                // What waits for the text is settled all the same.
                let GivenSeal { message, shared, .. } = seal;
                let settled = std::iter::once(&message.message).chain(shared);
                settled.for_each(|&id| self.finish_seal(id));
                None
            }
            // These say of themselves what they change, and find nothing to change elsewhere.
            Fact::Sealed(_)
            | Fact::CallBegun { .. }
            | Fact::CallEnded { .. }
            | Fact::DeathsAnnounced { .. }
            | Fact::HookDeleted { .. }
            | Fact::HookDisabled { .. }
            | Fact::HookSecretChanged { .. }
            | Fact::OwnSecretMade { .. }
            | Fact::HookOwed(_)
            | Fact::HookDelivered { .. }
            | Fact::HookRedelivered { .. }
            | Fact::NodesSeen { .. }
            | Fact::NodesCalled { .. }
            | Fact::NodeAnswered { .. }
            | Fact::TransactionDelayed { .. }
            | Fact::TransactionRetried { .. }
            | Fact::HealBegun { .. }
            | Fact::TransactionEnded(_)
            | Fact::TransactionAnswered { .. }
            | Fact::ReleaseDue { .. }
            | Fact::GroupChanged(_) => Some(fact.clone()),
            _ => self.reconcile_queue(fact.clone()),
        }
    }

    /// A request whose seal is among what was lost waits for another one.
    fn reconcile_request(&mut self, request: &RequestedSeal) -> Fact {
        let mut request = request.clone();
        request.key.take_if(|key| !self.is_free(key));
        let is_sealed = !self.is_free(&index_of(request.text_key));
        request.sealed.take_if(|_| !is_sealed);
        Fact::SealRequested(request)
    }

    /// The later acceptance of a make-up stands: between the two it must have been withdrawn.
    fn reconcile_acceptance(&mut self, accepted: &AcceptedFormula) -> AcceptedFormula {
        if let Whereabouts::Stored(earlier) = self.formulas.find(&accepted.fingerprint) {
            // The message of the withdrawal is lost, so nothing but a key asks for the body.
            let pin = self.pin(MessageId(earlier));
            self.formulas.withdraw(earlier, &accepted.fingerprint, pin);
            self.queue_mut(QueueName::FORMULAS).cancel(MessageId(earlier));
            self.queue_mut(QueueName::SEALS).cancel(MessageId(earlier));
            self.queue_mut(QueueName::RELEASES).cancel(MessageId(earlier));
        }
        let mut accepted = accepted.clone();
        accepted.key.take_if(|key| !self.is_free(key));
        accepted
    }

    fn is_free(&self, key: &SpentKey) -> bool {
        self.keys.find(&key.key, self.at.uptime) == KeyWhereabouts::Below
    }

    fn reconcile_queue(&mut self, mut fact: Fact) -> Option<Fact> {
        let is_left = match &mut fact {
            Fact::Leased { queue, messages, .. } => {
                let queue = self.queue_mut(queue.as_str());
                keep(messages, |id| queue.ready.contains(id))
            }
            Fact::Acked { queue, messages } => {
                let (is_seals, queue) =
                    (queue.as_str() == QueueName::SEALS, self.queue_mut(queue.as_str()));
                // Done is done, also where the lease is lost.
                let is_lost = |touched: &&Touched| !queue.leased.contains_key(&touched.message);
                let lost: Vec<MessageId> =
                    messages.iter().filter(is_lost).map(|touched| touched.message).collect();
                lost.iter().for_each(|&id| queue.cancel(id));
                let is_left = keep(messages, |id| queue.leased.contains_key(&id));
                if is_seals {
                    lost.iter().for_each(|&id| self.seals.leave(id));
                }
                is_left
            }
            Fact::Nacked { queue, messages, .. }
            | Fact::Deferred { queue, messages, .. }
            | Fact::Condemned { queue, messages, .. } => {
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
