//! Dead letters that nobody was told of yet.
//!
//! Also those whose last lease has lapsed by now, although no record has carried that out.

use super::outlook::Phase;
use super::queues::Queue;
use crate::ids::MessageId;
use crate::time::{Moment, Uptime};

/// How a message became a dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Died {
    /// How many attempts were made.
    pub attempts: u32,
    /// How the last one ended, in the words of who gave the message back, if he had any; `None`:
    /// its lease lapsed.
    pub reason: Option<Box<str>>,
}

impl Queue {
    /// How the message died, if it did by `now` and nobody was told.
    #[must_use]
    pub fn unannounced(&self, id: MessageId, now: Moment) -> Option<Died> {
        let past = if self.unannounced.contains(&id) {
            self.dead.get(&id)?.clone()
        } else if !self.dead.contains_key(&id) && self.is_dead(id, now.uptime) {
            self.turned(id, now).past
        } else {
            return None;
        };
        let reason = past.ends().last().and_then(|end| end.nack.clone());
        Some(Died { attempts: past.attempts(), reason })
    }

    /// The first `max` dead letters at `now` that nobody was told of.
    #[must_use]
    pub fn unannounced_by(&self, now: Uptime, max: usize) -> Vec<MessageId> {
        let died = self.due_by(now).filter(|(_, turns)| *turns == Some(Phase::Dead));
        self.unannounced.iter().copied().chain(died.map(|(id, _)| id)).take(max).collect()
    }

    /// Whether there are dead letters that nobody was told of, lapses aside.
    #[must_use]
    pub fn has_unannounced(&self) -> bool {
        !self.unannounced.is_empty()
    }

    /// The next deadline of a lease or a delay, past ones included.
    #[must_use]
    pub fn first_due(&self) -> Option<Uptime> {
        self.due.first().map(|(deadline, _)| *deadline)
    }
}
