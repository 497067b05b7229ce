//! The messages of a queue that can be leased.
//!
//! Nearly all of them were never leased, and all that is to be known of such a message is that
//! it is there: those stand in a bitmap, so that ten million take a few megabytes. The few that
//! came back stand in a map with what they have been through.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::lsn_set::LsnSet;
use super::queues::Past;
use crate::ids::MessageId;

/// Messages that can be leased, in order of their ids.
///
/// Invariants: no message is in both; each of `returned` has a past.
#[derive(Clone, Debug, Default)]
pub(super) struct Ready {
    pub(super) fresh: LsnSet,
    pub(super) returned: BTreeMap<MessageId, Past>,
}

static NO_PAST: Past = Past::NONE;

impl Ready {
    /// Takes a message in; `false` if it was there already.
    pub(super) fn insert(&mut self, id: MessageId, past: Past) -> bool {
        if past == NO_PAST {
            return !self.returned.contains_key(&id) && self.fresh.insert(id.0);
        }
        !self.fresh.contains(id.0) && self.returned.insert(id, past).is_none()
    }

    /// Takes a message out, with what it has been through.
    pub(super) fn remove(&mut self, id: MessageId) -> Option<Past> {
        if self.fresh.remove(id.0) {
            return Some(Past::NONE);
        }
        self.returned.remove(&id)
    }

    /// What the message has been through, if it is there.
    pub(super) fn get(&self, id: MessageId) -> Option<&Past> {
        if self.fresh.contains(id.0) {
            return Some(&NO_PAST);
        }
        self.returned.get(&id)
    }

    /// Whether the message is there.
    pub(super) fn contains(&self, id: MessageId) -> bool {
        self.get(id).is_some()
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.fresh.len() + self.returned.len()
    }

    /// The oldest.
    pub(super) fn first(&self) -> Option<MessageId> {
        let returned = self.returned.keys().next().copied();
        [self.fresh.first().map(MessageId), returned].into_iter().flatten().min()
    }

    /// All, or all after the message `after`, oldest first.
    pub(super) fn iter(
        &self,
        after: Option<MessageId>,
    ) -> impl Iterator<Item = (MessageId, &Past)> + '_ {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let after = after.map_or(crate::ids::Lsn::ZERO, |id| id.0);
        let mut fresh = self.fresh.after(after).map(MessageId).peekable();
        let mut returned = self.returned.range((from, Bound::Unbounded)).peekable();
        std::iter::from_fn(move || {
            let is_returned_next = match (fresh.peek(), returned.peek()) {
                (Some(fresh), Some((returned, _))) => *returned < fresh,
                (None, Some(_)) => true,
                (_, None) => false,
            };
            if is_returned_next {
                return returned.next().map(|(&id, past)| (id, past));
            }
            fresh.next().map(|id| (id, &NO_PAST))
        })
    }

    pub(super) fn check_invariants(&self) {
        self.fresh.check_invariants();
        for (id, past) in &self.returned {
            assert!(!self.fresh.contains(id.0), "a message is ready once");
            assert!(*past != NO_PAST, "a message that came back has a past");
        }
    }
}
