//! Questions to a queue at a given moment. They change nothing.
//!
//! What is due by `now` counts as having happened, although no record has carried it out yet.

use std::ops::Bound;

use super::queues::{Lease, Past, Queue, date_of_past};
use crate::ids::MessageId;
use crate::time::{Moment, Uptime};

/// Where a message stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Can be leased.
    Ready,
    /// Held by a consumer.
    Leased,
    /// Waits for its delay to pass.
    Delayed,
    /// Past its attempts, kept.
    Dead,
}

/// How many messages stand where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// That can be leased.
    pub ready: usize,
    /// That consumers hold.
    pub leased: usize,
    /// That wait for a delay to pass.
    pub delayed: usize,
    /// Dead letters.
    pub dead: usize,
}

/// A message as a peek shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The message.
    pub id: MessageId,
    /// What it has been through.
    pub past: Past,
    /// When its lease lapses or its delay passes.
    pub due: Option<Uptime>,
}

impl Queue {
    /// The first `max` messages that can be leased at `now`, oldest first.
    #[must_use]
    pub fn leasable(&self, now: Uptime, max: usize) -> Vec<MessageId> {
        let mut back: Vec<MessageId> = self
            .due_by(now)
            .filter(|(_, turns)| *turns == Some(Phase::Ready))
            .map(|d| d.0)
            .collect();
        if back.is_empty() {
            return self.ready.iter(None).take(max).map(|(id, _)| id).collect();
        }
        back.extend(self.ready.iter(None).take(max).map(|(id, _)| id));
        back.sort_unstable();
        back.truncate(max);
        back
    }

    /// Whether the message can be leased at `now`.
    #[must_use]
    pub fn is_leasable(&self, id: MessageId, now: Uptime) -> bool {
        let comes_back =
            |lease: &Lease| lease.deadline <= now && !lease.cancelled && !lease.is_last_attempt();
        self.ready.contains(id)
            || self.delayed.get(&id).is_some_and(|delay| delay.until <= now)
            || self.leased.get(&id).is_some_and(comes_back)
    }

    /// Messages that can be leased and never were, oldest first.
    pub fn fresh(&self) -> impl Iterator<Item = MessageId> + '_ {
        self.ready.fresh.iter().map(MessageId)
    }

    /// Messages that can be leased at `now` and were before, with how often.
    pub fn returned(&self, now: Uptime) -> impl Iterator<Item = (MessageId, u32)> + '_ {
        let ready = self.ready.returned.iter().map(|(&id, past)| (id, past.attempts()));
        let due = self.due_by(now).filter(|(_, turns)| *turns == Some(Phase::Ready));
        ready.chain(due.map(|(id, _)| (id, self.attempts(id))))
    }

    /// Messages that consumers hold at `now`, or that wait for a delay to pass.
    pub fn held_back(&self, now: Uptime) -> impl Iterator<Item = MessageId> + '_ {
        self.due.range((now.plus_ms(1), LOWEST)..).map(|&(_, id)| id)
    }

    /// How often the message was leased so far; 0 for one that is not on the queue.
    #[must_use]
    pub fn attempts(&self, id: MessageId) -> u32 {
        let past = self.ready.get(id).or_else(|| self.leased.get(&id).map(|l| &l.past));
        let past = past.or_else(|| self.delayed.get(&id).map(|d| &d.past));
        past.or_else(|| self.dead.get(&id)).map_or(0, Past::attempts)
    }

    /// How many messages stand where at `now`.
    #[must_use]
    pub fn counts(&self, now: Uptime) -> Counts {
        let mut counts = Counts {
            ready: self.ready.len(),
            leased: self.leased.len(),
            delayed: self.delayed.len(),
            dead: self.dead.len(),
        };
        for (id, turns) in self.due_by(now) {
            if self.leased.contains_key(&id) {
                counts.leased -= 1;
            } else {
                counts.delayed -= 1;
            }
            match turns {
                Some(Phase::Ready) => counts.ready += 1,
                Some(Phase::Dead) => counts.dead += 1,
                _ => {}
            }
        }
        counts
    }

    /// The message that is on the queue for the longest time, dead letters left out.
    #[must_use]
    pub fn oldest(&self) -> Option<MessageId> {
        let leased = self.leased.keys().next().copied();
        let delayed = self.delayed.keys().next().copied();
        [self.ready.first(), leased, delayed].into_iter().flatten().min()
    }

    /// The next deadline after `now` of a lease or a delay.
    #[must_use]
    pub fn next_due(&self, now: Uptime) -> Option<Uptime> {
        self.due.range((now.plus_ms(1), LOWEST)..).next().map(|&(deadline, _)| deadline)
    }

    /// The dead letters at `now`.
    #[must_use]
    pub fn dead_letters(&self, now: Uptime) -> Vec<MessageId> {
        let died = self.due_by(now).filter(|(_, turns)| *turns == Some(Phase::Dead));
        let mut dead: Vec<MessageId> = self.dead.keys().copied().chain(died.map(|d| d.0)).collect();
        dead.sort_unstable();
        dead
    }

    /// Whether somebody holds the message at `now`; also one that was cancelled since.
    #[must_use]
    pub fn is_leased(&self, id: MessageId, now: Uptime) -> bool {
        self.leased.get(&id).is_some_and(|lease| lease.deadline > now)
    }

    /// Whether the message is a dead letter at `now`.
    #[must_use]
    pub fn is_dead(&self, id: MessageId, now: Uptime) -> bool {
        self.dead.contains_key(&id)
            || self.leased.get(&id).is_some_and(|lease| {
                lease.deadline <= now && lease.is_last_attempt() && !lease.cancelled
            })
    }

    /// Messages in `phase` at `now` after the message `after`, at most `max`, oldest first.
    #[must_use]
    pub fn peek(
        &self,
        phase: Phase,
        now: Moment,
        after: Option<MessageId>,
        max: usize,
    ) -> Vec<Seen> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let range = (from, Bound::Unbounded);
        let mut seen: Vec<Seen> = match phase {
            Phase::Ready => self.ready.iter(after).take(max).map(waiting).collect(),
            Phase::Dead => {
                let dead = self.dead.range(range).take(max);
                dead.map(|(&id, past)| waiting((id, past))).collect()
            }
            Phase::Leased => self
                .leased
                .range(range)
                .filter(|(_, lease)| lease.deadline > now.uptime)
                .map(|(&id, l)| Seen { id, past: l.past.clone(), due: Some(l.deadline) })
                .take(max)
                .collect(),
            Phase::Delayed => self
                .delayed
                .range(range)
                .filter(|(_, delay)| delay.until > now.uptime)
                .map(|(&id, d)| Seen { id, past: d.past.clone(), due: Some(d.until) })
                .take(max)
                .collect(),
        };
        let turned = self
            .due_by(now.uptime)
            .filter(|(id, turns)| *turns == Some(phase) && after.is_none_or(|after| *id > after));
        seen.extend(turned.map(|(id, _)| self.turned(id, now)));
        seen.sort_unstable_by_key(|seen| seen.id);
        seen.truncate(max);
        seen
    }

    /// Messages whose lease or delay is over by `now`, and what each turns into: `None` for one
    /// that is cancelled.
    pub fn due_by(&self, now: Uptime) -> impl Iterator<Item = (MessageId, Option<Phase>)> + '_ {
        self.due.range(..=(now, HIGHEST)).map(|&(_, id)| {
            let turns = match self.leased.get(&id) {
                Some(lease) if lease.cancelled => None,
                Some(lease) if lease.is_last_attempt() => Some(Phase::Dead),
                Some(_) | None => Some(Phase::Ready),
            };
            (id, turns)
        })
    }

    /// A message that is due, as it will be once a record carries that out.
    pub(super) fn turned(&self, id: MessageId, now: Moment) -> Seen {
        let past = match self.leased.get(&id) {
            Some(lease) => {
                let mut past = lease.past.clone();
                past.note_end(date_of_past(lease.deadline, now), None);
                past
            }
            None => self.delayed[&id].past.clone(),
        };
        Seen { id, past, due: None }
    }
}

const LOWEST: MessageId = MessageId(crate::ids::Lsn(0));
const HIGHEST: MessageId = MessageId(crate::ids::Lsn(u64::MAX));

fn waiting((id, past): (MessageId, &Past)) -> Seen {
    Seen { id, past: past.clone(), due: None }
}
