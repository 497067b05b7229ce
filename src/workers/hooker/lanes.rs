//! Whose turn it is, so that no destination holds up another. Pure.
//!
//! Leased deliveries wait in the lane of their destination (host and port). A lane makes few calls
//! at a time. As long as its calls are quick those behind wait in hand. When they are slow, or
//! the destination does not answer, what waits is given back to the queue until the lane may be
//! free, so that what stands behind it on the queue comes into view:
//!
//! ```text
//!   well ── no answer, some times in a row ──► paused ── time is over ──► tried by one call
//!    ▲                                           ▲                             │
//!    │                                           └──────── no answer ──────────┤
//!    └───────────────────────────── answer ────────────────────────────────────┘
//! ```
//! What a paused lane gives back comes again when the pause is over. What a slow lane gives back
//! is booked: each for the time when the lane will have seen to those before it, but not for long,
//! since the destination may become quick again.

use std::collections::{BTreeMap, VecDeque};

use crate::limits::{
    HOOK_CALLS_MAX, HOOK_LANE_BUSY_MS_MAX, HOOK_LANE_CALLS_MAX, HOOK_LANE_PAUSE_AFTER,
    HOOK_LANE_SLOW_MS, HOOK_LANE_WAITING_SLOW_MAX, HOOK_LANES_MAX, HOOK_PUT_OFF_MS_MAX,
    HOOK_PUT_OFF_MS_MIN,
};
use crate::outbound::backoff::Backoff;
use crate::time::Uptime;
use crate::workers::hooker::judge::Health;

/// All lanes. `T` is what waits in them.
#[derive(Debug)]
pub struct Lanes<T> {
    lanes: BTreeMap<Box<str>, Lane<T>>,
    backoff: Backoff,
    running: usize,
    waiting: usize,
}

#[derive(Debug)]
struct Lane<T> {
    waiting: VecDeque<T>,
    /// When the calls under way began.
    begun: Vec<Uptime>,
    /// How long a call takes, of late.
    average_ms: u64,
    /// Calls without an answer in a row.
    failures: u32,
    paused_until: Uptime,
    /// What was given back is booked up to here.
    booked_until: Uptime,
}

impl<T> Default for Lane<T> {
    fn default() -> Lane<T> {
        Lane {
            waiting: VecDeque::new(),
            begun: Vec::new(),
            average_ms: 0,
            failures: 0,
            paused_until: Uptime(0),
            booked_until: Uptime(0),
        }
    }
}

/// Deliveries that are given back, and for how many milliseconds.
pub type PutOff<T> = Vec<(T, u64)>;

impl<T> Lanes<T> {
    /// No lanes yet. Pauses follow `backoff`.
    #[must_use]
    pub fn new(backoff: Backoff) -> Lanes<T> {
        Lanes { lanes: BTreeMap::new(), backoff, running: 0, waiting: 0 }
    }

    /// Deliveries in hand: those that wait, and those that are being called for.
    #[must_use]
    pub fn in_hand(&self) -> usize {
        self.waiting + self.running
    }

    /// Takes a delivery in; gives it back, with a delay, if its lane has enough to do.
    pub fn offer(&mut self, destination: &str, delivery: T, now: Uptime) -> Option<(T, u64)> {
        self.retire(now);
        let lane = self.lanes.entry(destination.into()).or_default();
        let is_full = lane.waiting.len() >= HOOK_LANE_WAITING_SLOW_MAX && lane.is_slow(now);
        if lane.paused_until > now || is_full {
            let delay_ms = lane.book(now);
            return Some((delivery, delay_ms));
        }
        lane.waiting.push_back(delivery);
        self.waiting += 1;
        None
    }

    /// The next delivery that is to be called for, and its destination.
    pub fn next(&mut self, now: Uptime) -> Option<(Box<str>, T)> {
        if self.running >= HOOK_CALLS_MAX {
            return None;
        }
        let free = self.lanes.iter_mut().filter(|(_, lane)| lane.may_call(now));
        // That with the fewest calls under way: nobody is left out for long.
        let (name, lane) = free.min_by_key(|(_, lane)| lane.begun.len())?;
        let delivery = lane.waiting.pop_front()?;
        lane.begun.push(now);
        self.running += 1;
        self.waiting -= 1;
        Some((name.clone(), delivery))
    }

    /// A call that began at `begun` has ended. Gives back what waits if the lane is paused now.
    pub fn end(
        &mut self,
        destination: &str,
        begun: Uptime,
        health: Option<Health>,
        now: Uptime,
        random: u64,
    ) -> PutOff<T> {
        self.running -= 1;
        let Some(lane) = self.lanes.get_mut(destination) else { return Vec::new() };
        if let Some(place) = lane.begun.iter().position(|it| *it == begun) {
            lane.begun.swap_remove(place);
        }
        if let Some(health) = health {
            // Four fifths of what was known, one of what is new.
            lane.average_ms = (4 * lane.average_ms + now.since_ms(begun)) / 5;
            lane.note(health, self.backoff, now, random);
        }
        if lane.paused_until <= now {
            return Vec::new();
        }
        let put_off: PutOff<T> = lane.drain_after(0, now);
        self.waiting -= put_off.len();
        put_off
    }

    /// Gives back what waits in lanes that have become slow.
    pub fn overdue(&mut self, now: Uptime) -> PutOff<T> {
        let mut put_off = Vec::new();
        for lane in self.lanes.values_mut().filter(|lane| lane.is_slow(now)) {
            put_off.extend(lane.drain_after(HOOK_LANE_WAITING_SLOW_MAX, now));
        }
        self.waiting -= put_off.len();
        put_off
    }

    /// Milliseconds until a lane becomes slow in which too many wait; `None`: in none.
    #[must_use]
    pub fn next_overdue_ms(&self, now: Uptime) -> Option<u64> {
        let crowded =
            self.lanes.values().filter(|lane| lane.waiting.len() > HOOK_LANE_WAITING_SLOW_MAX);
        let slow_at = crowded.filter_map(|lane| lane.begun.iter().min());
        slow_at.min().map(|begun| begun.plus_ms(HOOK_LANE_SLOW_MS).since_ms(now))
    }

    /// Everything that waits, at the end.
    pub fn take_waiting(&mut self) -> Vec<T> {
        self.waiting = 0;
        self.lanes.values_mut().flat_map(|lane| lane.waiting.drain(..)).collect()
    }

    /// Forgets lanes that have nothing to do and nothing to remember; and, when there are too
    /// many, those that have nothing to do.
    fn retire(&mut self, now: Uptime) {
        if self.lanes.len() < HOOK_LANES_MAX {
            return;
        }
        let is_idle = |lane: &Lane<T>| lane.waiting.is_empty() && lane.begun.is_empty();
        self.lanes.retain(|_, lane| !is_idle(lane) || lane.paused_until > now);
        if self.lanes.len() >= HOOK_LANES_MAX {
            self.lanes.retain(|_, lane| !is_idle(lane));
        }
    }
}

impl<T> Lane<T> {
    fn may_call(&self, now: Uptime) -> bool {
        let is_tried = self.failures >= HOOK_LANE_PAUSE_AFTER;
        let calls_max = if is_tried { 1 } else { HOOK_LANE_CALLS_MAX };
        !self.waiting.is_empty() && self.begun.len() < calls_max && self.paused_until <= now
    }

    fn is_slow(&self, now: Uptime) -> bool {
        self.begun.iter().any(|begun| now.since_ms(*begun) >= HOOK_LANE_SLOW_MS)
    }

    /// The delay of one more that is given back: until the pause is over, when all may come at
    /// once; or until the lane will have seen to those before it.
    fn book(&mut self, now: Uptime) -> u64 {
        if self.paused_until > now {
            return self.paused_until.since_ms(now).max(HOOK_PUT_OFF_MS_MIN);
        }
        let free_at = self.booked_until.max(now);
        let per_call_ms = (self.average_ms / HOOK_LANE_CALLS_MAX as u64).max(1);
        self.booked_until = free_at.plus_ms(per_call_ms);
        let delay_ms = self.booked_until.since_ms(now);
        delay_ms.clamp(HOOK_PUT_OFF_MS_MIN, HOOK_PUT_OFF_MS_MAX)
    }

    fn drain_after(&mut self, keep: usize, now: Uptime) -> PutOff<T> {
        let rest = self.waiting.split_off(keep.min(self.waiting.len()));
        rest.into_iter().map(|delivery| (delivery, self.book(now))).collect()
    }

    fn note(&mut self, health: Health, backoff: Backoff, now: Uptime, random: u64) {
        match health {
            Health::Well => {
                self.failures = 0;
                self.booked_until = now;
            }
            Health::Busy(ms) => {
                let pause_ms = ms.min(HOOK_LANE_BUSY_MS_MAX);
                self.paused_until = self.paused_until.max(now.plus_ms(pause_ms));
            }
            Health::Unwell => {
                self.failures += 1;
                if let Some(pauses) = self.failures.checked_sub(HOOK_LANE_PAUSE_AFTER) {
                    let pause_ms = backoff.delay_ms(pauses + 1, random);
                    self.paused_until = self.paused_until.max(now.plus_ms(pause_ms));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
