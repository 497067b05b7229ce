//! One queue: who may have which message, and when it comes back.
//!
//! ```text
//!            lease                ack
//!   ready ───────────► leased ───────────► gone
//!     ▲ ▲                │  │
//!     │ │ lapse, nack    │  │ lapse or nack of the last attempt
//!     │ └────────────────┤  └───────────► dead ──► purge: gone
//!     │ delay passed     │ nack with delay  │
//!     └──── delayed ◄────┘                  │ redrive
//!     ▲─────────────────────────────────────┘
//! ```
//!
//! A message stands in exactly one of four maps, each in the order of message ids, which is the
//! order of acceptance. So what comes back stands in front of everything newer, and every
//! operation costs O(log n) per message. The map of ready messages is mostly a bitmap (`ready`).
//! A queue is wholly in memory, with a snapshot beneath as without.
//!
//! **Lapses.** No record says that a lease lapsed; its deadline says it. `Queue::advance`
//! carries out what is due at the moment of each record, alike live and in replay. Between
//! records, questions take `now` and count what is due by then as having happened
//! (`Queue::due_by`); they change nothing.

use std::collections::{BTreeMap, BTreeSet};

use bincode::{Decode, Encode};

use super::digest::{Digest, Tag, entry};
use super::ready::Ready;
use crate::ids::{Epoch, Lsn, MessageId, Receipt};
use crate::limits::HISTORY_MAX;
use crate::time::{Moment, Timestamp, Uptime};

/// The messages of one queue.
///
/// Invariants: the four maps are disjoint; `due` holds exactly the deadlines of `leased` and
/// `delayed`.
#[derive(Clone, Debug, Default)]
pub struct Queue {
    pub(super) ready: Ready,
    pub(super) leased: BTreeMap<MessageId, Lease>,
    pub(super) delayed: BTreeMap<MessageId, Delay>,
    pub(super) dead: BTreeMap<MessageId, Past>,
    pub(super) due: BTreeSet<(Uptime, MessageId)>,
    /// Dead letters that nobody was told of yet. Not in the digest, because stores are replayed
    /// whose digests were stated before there was anybody to tell.
    pub(super) unannounced: BTreeSet<MessageId>,
    digest: Digest,
}

/// What a message has been through. Boxed, since most messages have none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Past(Option<Box<Attempts>>);

#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
struct Attempts {
    count: u32,
    ends: Vec<AttemptEnd>,
}

/// How an attempt that was not acked ended.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct AttemptEnd {
    /// Which attempt, from 1.
    pub attempt: u32,
    /// When it ended.
    pub at: Timestamp,
    /// The consumer's reason for a nack; `None` for a lapse.
    pub nack: Option<Box<str>>,
}

/// A message in a consumer's hands.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Lease {
    pub(super) past: Past,
    pub(super) terms: Terms,
    pub(super) deadline: Uptime,
    pub(super) epoch: Epoch,
    /// Its formula was withdrawn meanwhile: it does not come back.
    pub(super) cancelled: bool,
}

/// What a lease was granted under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Terms {
    /// Attempt after which the message is a dead letter.
    pub attempts_max: u32,
    /// Random part of the receipt.
    pub token: u64,
}

/// A message that waits for a delay to pass.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Delay {
    pub(super) past: Past,
    pub(super) until: Uptime,
}

/// How a lease ended without an ack.
#[derive(Clone, Debug)]
pub(super) struct GivenBack<'a> {
    pub(super) delay_ms: u64,
    pub(super) reason: &'a str,
}

impl Past {
    /// That of a message that was never leased.
    pub(super) const NONE: Past = Past(None);

    /// How often the message was leased since it was put on the queue or redriven.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.0.as_ref().map_or(0, |past| past.count)
    }

    /// How its latest attempts ended, oldest first.
    #[must_use]
    pub fn ends(&self) -> &[AttemptEnd] {
        self.0.as_ref().map_or(&[], |past| &past.ends)
    }

    fn count_attempt(&mut self) {
        self.0.get_or_insert_default().count += 1;
    }

    pub(super) fn note_end(&mut self, at: Timestamp, nack: Option<Box<str>>) {
        let past = self.0.get_or_insert_default();
        if past.ends.len() == HISTORY_MAX {
            past.ends.remove(0);
        }
        past.ends.push(AttemptEnd { attempt: past.count, at, nack });
    }

    /// The latest attempt does not count.
    fn uncount_attempt(&mut self) {
        let past = self.0.get_or_insert_default();
        past.count = past.count.saturating_sub(1);
        if past.count == 0 && past.ends.is_empty() {
            self.0 = None;
        }
    }

    /// A redriven message starts anew but keeps its history.
    fn forget_count(&mut self) {
        self.0.get_or_insert_default().count = 0;
    }
}

impl Lease {
    /// Whether a message that comes back now is a dead letter.
    pub(super) fn is_last_attempt(&self) -> bool {
        self.past.attempts() >= self.terms.attempts_max
    }
}

impl Queue {
    pub(super) fn put(&mut self, id: MessageId) {
        self.insert_ready(id, Past::default());
    }

    /// Puts a message that is done, or a dead letter, on the queue once more. One that is still
    /// to be done stays where it is.
    pub(super) fn put_back(&mut self, id: MessageId) {
        if self.dead.contains_key(&id) {
            self.redrive(id);
        } else if !self.holds(id) {
            self.put(id);
        }
    }

    /// Ends the delay of a message, if it waits for one to pass.
    pub(super) fn hurry(&mut self, id: MessageId) {
        if self.delayed.contains_key(&id) {
            let delay = self.remove_delayed(id);
            self.insert_ready(id, delay.past);
        }
    }

    pub(super) fn lease(&mut self, id: MessageId, epoch: Epoch, deadline: Uptime, terms: Terms) {
        let mut past = self.remove_ready(id).expect("only a ready message is leased");
        past.count_attempt();
        let lease = Lease { past, terms, deadline, epoch, cancelled: false };
        self.insert_lease(id, lease);
    }

    pub(super) fn ack(&mut self, id: MessageId) {
        self.remove_lease(id);
    }

    pub(super) fn nack(&mut self, id: MessageId, at: Moment, back: &GivenBack<'_>) {
        let mut lease = self.remove_lease(id);
        lease.past.note_end(at.wall, Some(back.reason.into()));
        self.come_back(id, lease, at.uptime.plus_ms(back.delay_ms), at.uptime);
    }

    /// Gives back without counting the attempt.
    pub(super) fn defer(&mut self, id: MessageId, until: Uptime, now: Uptime) {
        let mut lease = self.remove_lease(id);
        lease.past.uncount_attempt();
        if lease.cancelled {
            return;
        }
        if until > now {
            self.insert_delayed(id, Delay { past: lease.past, until });
        } else {
            self.insert_ready(id, lease.past);
        }
    }

    /// Makes a leased message a dead letter.
    pub(super) fn condemn(&mut self, id: MessageId, at: Moment, reason: &str) {
        let mut lease = self.remove_lease(id);
        if !lease.cancelled {
            lease.past.note_end(at.wall, Some(reason.into()));
            self.insert_dead(id, lease.past);
        }
    }

    /// Makes a message a dead letter wherever it stands: its lease may have lapsed.
    pub(super) fn bury(&mut self, id: MessageId, at: Moment, reason: &str) {
        if self.leased.contains_key(&id) {
            return self.condemn(id, at, reason);
        }
        let past = match self.delayed.contains_key(&id) {
            true => Some(self.remove_delayed(id).past),
            false => self.remove_ready(id),
        };
        if let Some(mut past) = past {
            past.note_end(at.wall, Some(reason.into()));
            self.insert_dead(id, past);
        }
    }

    /// Takes a message off the queue wherever it stands, as one that is done.
    pub(super) fn finish(&mut self, id: MessageId) {
        if self.leased.contains_key(&id) {
            self.remove_lease(id);
        } else {
            self.cancel(id);
        }
    }

    /// Those who held leases are gone: everything comes back now.
    pub(super) fn recover_leases(&mut self, now: Moment) {
        while let Some(id) = self.leased.keys().next().copied() {
            let mut lease = self.remove_lease(id);
            lease.past.note_end(now.wall, None);
            self.come_back(id, lease, now.uptime, now.uptime);
        }
    }

    /// Somebody was told of a dead letter.
    pub(super) fn note_announced(&mut self, id: MessageId) {
        self.unannounced.remove(&id);
    }

    pub(super) fn extend(&mut self, id: MessageId, deadline: Uptime) {
        let lease = self.remove_lease(id);
        self.insert_lease(id, Lease { deadline, ..lease });
    }

    pub(super) fn redrive(&mut self, id: MessageId) {
        let mut past = self.remove_dead(id).expect("only a dead letter is redriven");
        past.forget_count();
        self.insert_ready(id, past);
    }

    pub(super) fn purge(&mut self, id: MessageId) {
        self.remove_dead(id).expect("only a dead letter is purged");
    }

    /// The message's formula was withdrawn: nobody gets it any more. Who holds it may finish.
    pub(super) fn cancel(&mut self, id: MessageId) {
        if self.leased.contains_key(&id) {
            let lease = self.remove_lease(id);
            self.insert_lease(id, Lease { cancelled: true, ..lease });
        } else if self.delayed.contains_key(&id) {
            self.remove_delayed(id);
        } else if self.remove_ready(id).is_none() {
            self.remove_dead(id);
        }
    }

    /// Carries out what is due by `now`: lapses leases and ends delays.
    pub(super) fn advance(&mut self, now: Moment) {
        while let Some(&(deadline, id)) = self.due.first()
            && deadline <= now.uptime
        {
            if self.leased.contains_key(&id) {
                let mut lease = self.remove_lease(id);
                lease.past.note_end(date_of_past(deadline, now), None);
                self.come_back(id, lease, now.uptime, now.uptime);
            } else {
                let delay = self.remove_delayed(id);
                self.insert_ready(id, delay.past);
            }
        }
    }

    fn come_back(&mut self, id: MessageId, lease: Lease, until: Uptime, now: Uptime) {
        if lease.cancelled {
            return;
        }
        if lease.is_last_attempt() {
            self.insert_dead(id, lease.past);
        } else if until > now {
            self.insert_delayed(id, Delay { past: lease.past, until });
        } else {
            self.insert_ready(id, lease.past);
        }
    }

    /// Whether the message is on the queue, wherever it stands; also one that is cancelled while
    /// a consumer holds it.
    #[must_use]
    pub fn holds(&self, id: MessageId) -> bool {
        self.ready.contains(id)
            || self.leased.contains_key(&id)
            || self.delayed.contains_key(&id)
            || self.dead.contains_key(&id)
    }

    /// Whether the receipt stands for a lease that runs at `now`.
    #[must_use]
    pub fn is_held(&self, receipt: &Receipt, now: Uptime) -> bool {
        self.leased.get(&receipt.message).is_some_and(|lease| {
            lease.deadline > now
                && lease.epoch == receipt.epoch
                && lease.terms.token == receipt.token
                && lease.past.attempts() == receipt.attempt
        })
    }

    pub(super) fn digest(&self) -> u128 {
        self.digest.value()
    }

    /// Sums up the digest of messages that were put in place one by one.
    pub(super) fn reckon(&mut self) {
        self.digest = self.sum();
    }

    fn sum(&self) -> Digest {
        let mut digest = Digest::default();
        for (id, past) in self.ready.iter(None) {
            digest.add(waiting_hash(Tag::Ready, id, past, Uptime(0)));
        }
        for (&id, lease) in &self.leased {
            digest.add(lease_hash(id, lease));
        }
        for (&id, delay) in &self.delayed {
            digest.add(waiting_hash(Tag::Delayed, id, &delay.past, delay.until));
        }
        for (&id, past) in &self.dead {
            digest.add(waiting_hash(Tag::Dead, id, past, Uptime(0)));
        }
        digest
    }

    pub(super) fn check_invariants(&self) {
        self.ready.check_invariants();
        let mut due = BTreeSet::new();
        for (&id, lease) in &self.leased {
            due.insert((lease.deadline, id));
            assert!(lease.past.attempts() >= 1, "a lease is an attempt");
            assert!(!self.ready.contains(id), "a leased message is not ready");
            assert!(!self.delayed.contains_key(&id), "a leased message is not delayed");
            assert!(!self.dead.contains_key(&id), "a leased message is not dead");
        }
        for (&id, delay) in &self.delayed {
            due.insert((delay.until, id));
            assert!(!self.ready.contains(id), "a delayed message is not ready");
            assert!(!self.dead.contains_key(&id), "a delayed message is not dead");
        }
        let is_dead = self.unannounced.iter().all(|id| self.dead.contains_key(id));
        assert!(is_dead, "only dead letters are to be told of");
        let is_both = self.dead.keys().any(|&id| self.ready.contains(id));
        assert!(!is_both, "a dead message is not ready");
        assert_eq!(due, self.due, "each lease and delay has its deadline, and nothing else");
        assert_eq!(self.sum(), self.digest, "the digest is the sum over the messages");
    }

    fn insert_ready(&mut self, id: MessageId, past: Past) {
        self.digest.add(waiting_hash(Tag::Ready, id, &past, Uptime(0)));
        assert!(self.ready.insert(id, past), "a message is on its queue once");
    }

    fn remove_ready(&mut self, id: MessageId) -> Option<Past> {
        let past = self.ready.remove(id)?;
        self.digest.remove(waiting_hash(Tag::Ready, id, &past, Uptime(0)));
        Some(past)
    }

    fn insert_lease(&mut self, id: MessageId, lease: Lease) {
        self.digest.add(lease_hash(id, &lease));
        self.due.insert((lease.deadline, id));
        self.leased.insert(id, lease);
    }

    fn remove_lease(&mut self, id: MessageId) -> Lease {
        let lease = self.leased.remove(&id).expect("only a leased message is settled");
        self.due.remove(&(lease.deadline, id));
        self.digest.remove(lease_hash(id, &lease));
        lease
    }

    fn insert_delayed(&mut self, id: MessageId, delay: Delay) {
        self.digest.add(waiting_hash(Tag::Delayed, id, &delay.past, delay.until));
        self.due.insert((delay.until, id));
        self.delayed.insert(id, delay);
    }

    fn remove_delayed(&mut self, id: MessageId) -> Delay {
        let delay = self.delayed.remove(&id).expect("only a delayed message ends its delay");
        self.due.remove(&(delay.until, id));
        self.digest.remove(waiting_hash(Tag::Delayed, id, &delay.past, delay.until));
        delay
    }

    fn insert_dead(&mut self, id: MessageId, past: Past) {
        self.digest.add(waiting_hash(Tag::Dead, id, &past, Uptime(0)));
        self.dead.insert(id, past);
        self.unannounced.insert(id);
    }

    fn remove_dead(&mut self, id: MessageId) -> Option<Past> {
        let past = self.dead.remove(&id)?;
        self.unannounced.remove(&id);
        self.digest.remove(waiting_hash(Tag::Dead, id, &past, Uptime(0)));
        Some(past)
    }
}

/// The date of a deadline that has passed.
pub(super) fn date_of_past(deadline: Uptime, now: Moment) -> Timestamp {
    Timestamp(now.wall.0.saturating_sub(now.uptime.since_ms(deadline)))
}

fn waiting_hash(tag: Tag, id: MessageId, past: &Past, until: Uptime) -> u128 {
    let MessageId(Lsn(id)) = id;
    entry(tag, &[id, u64::from(past.attempts()), past.ends().len() as u64, until.0])
}

fn lease_hash(id: MessageId, lease: &Lease) -> u128 {
    let attempts = u64::from(lease.past.attempts());
    let ends = lease.past.ends().len() as u64;
    let MessageId(Lsn(id)) = id;
    let Terms { attempts_max, token } = lease.terms;
    let whose = u64::from(lease.epoch.0) << 1 | u64::from(lease.cancelled);
    let attempts_max = u64::from(attempts_max);
    entry(Tag::Leased, &[id, attempts, ends, lease.deadline.0, token, attempts_max, whose])
}
