//! What follows from the facts about seals, calls and hooks.
//!
//! Whoever was called has acted on it, so an outcome settles its message wherever it stands: also
//! after the lease lapsed, as a dead letter, or when it is gone.

use super::State;
use super::calls::Running;
use super::hooks::Delivered;
use crate::ids::{Lsn, MessageId, QueueName};
use crate::record::Fact;
use crate::record::seals::{GivenSeal, RequestedSeal};
use crate::time::Moment;

impl State {
    /// # Panics
    /// If the fact is about something else.
    pub(super) fn apply_outbound(&mut self, lsn: Lsn, at: Moment, fact: &Fact) {
        match fact {
            Fact::SealRequested(request) => self.request_seal(lsn, request, at),
            Fact::Sealed(seal) => self.seal(lsn, seal, at),
            Fact::CallBegun { purpose, deadline_ms } => {
                let running = Running { purpose: *purpose, deadline_ms: *deadline_ms };
                self.calls.begin(lsn, running, at.uptime);
            }
            Fact::CallEnded { call, pause_ms } => self.calls.end(*call, at.uptime, *pause_ms),
            Fact::HookCreated(created) => {
                created.key.iter().for_each(|key| self.keys.spend(lsn, key, at.uptime));
                self.hooks.create(lsn, created, at);
            }
            Fact::HookDeleted { hook } => self.hooks.delete(*hook),
            Fact::HookDisabled { hook, reason } => self.hooks.disable(*hook, reason),
            Fact::HookSecretChanged { hook, secret, overlap_ms } => {
                self.hooks.change_secret(*hook, secret, at.uptime.plus_ms(*overlap_ms));
            }
            Fact::OwnSecretMade { secret } => self.hooks.set_own_secret(secret),
            Fact::HookOwed(_) => self.queue_mut(QueueName::HOOKS).put(MessageId(lsn)),
            Fact::HookDelivered { delivery, about, status, took_ms } => {
                let told =
                    Delivered { at: at.wall, status: *status, took_ms: *took_ms, attempt: 0 };
                self.deliver(*delivery, told);
                about.iter().for_each(|told| self.formulas.touch(told.formula.message.0, lsn));
            }
            Fact::HookRedelivered { delivery } => {
                // Also where it is gone for good: nobody could say any more what it told.
                let was_delivered = self.hooks.forget_delivered(*delivery);
                let queue = self.queue_mut(QueueName::HOOKS);
                if was_delivered || queue.dead.contains_key(delivery) {
                    queue.put_back(*delivery);
                }
            }
            _ => self.apply_release(lsn, at, fact),
        }
    }

    fn request_seal(&mut self, lsn: Lsn, request: &RequestedSeal, at: Moment) {
        request.key.iter().for_each(|key| self.keys.spend(lsn, key, at.uptime));
        if request.sealed.is_none() {
            self.seals.wait(MessageId(lsn), request.text_key);
            self.queue_mut(QueueName::SEALS).put(MessageId(lsn));
        }
    }

    /// Settles the message that was sealed and all that wait for the same text, and remembers
    /// the text for good.
    fn seal(&mut self, lsn: Lsn, seal: &GivenSeal, at: Moment) {
        let GivenSeal { message, shared, index, .. } = seal;
        self.keys.spend(lsn, index, at.uptime);
        let is_waiting = self.queues[QueueName::SEALS].holds(message.message);
        if is_waiting && !self.seals.is_request(message.message) {
            self.formulas.touch(message.message.0, lsn);
        }
        std::iter::once(&message.message).chain(shared).for_each(|&id| self.finish_seal(id));
    }

    /// A message is sealed, wherever it stands: the answer may have come after its lease lapsed.
    pub(super) fn finish_seal(&mut self, message: MessageId) {
        self.queue_mut(QueueName::SEALS).finish(message);
        self.seals.leave(message);
    }

    /// A call to a hook was taken: its message is done wherever it stands, as with seals.
    fn deliver(&mut self, delivery: MessageId, told: Delivered) {
        let queue = self.queue_mut(QueueName::HOOKS);
        if queue.holds(delivery) {
            let attempt = queue.attempts(delivery);
            queue.finish(delivery);
            self.hooks.note_delivered(delivery, Delivered { attempt, ..told });
        }
    }

    /// Lets go of a request for a seal that is off its queue.
    pub(super) fn drop_left_request(&mut self, message: MessageId) {
        if !self.queues[QueueName::SEALS].holds(message) {
            self.seals.leave(message);
        }
    }

    /// The same for all of them, after dead letters of `queue` were removed.
    pub(super) fn drop_left_requests(&mut self, queue: &QueueName) {
        if queue.as_str() == QueueName::SEALS {
            let requests: Vec<MessageId> = self.seals.texts.keys().copied().collect();
            requests.into_iter().for_each(|message| self.drop_left_request(message));
        }
    }
}
