//! Whether a call to the authority may begin now, and whose turn it is. Pure.
//!
//! **The promise**: in *any* window of the limit, as the far side sees it, at most so many calls
//! arrive. A call arrives at some time between its beginning and its end. A slot is therefore
//! taken from the beginning of a call until one window after its *end*: then at any two arrivals
//! that are no further apart than a window, both slots are taken at the later one's beginning, so
//! the later one began while fewer than the limit were taken. A bucket that fills up again gives
//! twice the limit in one window; slots freed a window after the *beginning* give one too many
//! when a call was slow to arrive.

use std::cmp::Ordering;

use crate::limits::OTHER_CALLS_PERCENT;
use crate::state::calls::{Calls, Share};
use crate::time::Uptime;

/// So many calls in any window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// At most this many, 1 to `CALLS_KEPT_MAX`.
    pub calls: u32,
    /// In any stretch of so many milliseconds, 1 to `CALL_WINDOW_MS_MAX`.
    pub window_ms: u64,
    /// How they are spread.
    pub mode: Mode,
}

/// How calls are spread over the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// As soon as there is a slot: a burst, then a wait.
    Window,
    /// Evenly: also not before a window's share has passed since the call before began.
    Paced,
}

/// Whether a call may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// It may.
    Open,
    /// Not before this uptime.
    OpensAt(Uptime),
    /// Not before one of the calls under way ends.
    Full,
}

/// What waits for a slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Messages that were not tried before.
    pub has_fresh: Presence,
    /// Messages that are tried again.
    pub has_retried: Presence,
}

/// Whether there is anything of a kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Presence {
    /// Nothing.
    #[default]
    None,
    /// Something.
    Some,
}

impl Limit {
    /// Whether a call may begin at `now`.
    #[must_use]
    pub fn gate(&self, calls: &Calls, now: Uptime) -> Gate {
        let limit = self.calls as usize;
        let running = calls.running().count();
        if running >= limit {
            return Gate::Full;
        }
        // Latest ends first: the slot that must be free is that of the call by which the limit
        // would be reached.
        let blocking = calls.ended().nth(limit - running - 1);
        let free_at = blocking.map_or(Uptime(0), |ended| ended.at.plus_ms(self.window_ms));
        let paced_at = match (self.mode, calls.pace().last_begun) {
            (Mode::Paced, Some(begun)) => begun.plus_ms(self.step_ms()),
            _ => Uptime(0),
        };
        let opens_at = free_at.max(paced_at).max(calls.pace().paused_until);
        // At the very end of its window a call still counts.
        let is_open = opens_at < now || opens_at == Uptime(0);
        if is_open { Gate::Open } else { Gate::OpensAt(opens_at.plus_ms(1)) }
    }

    /// The same for calls that are for no message. While messages wait, they hold at most
    /// `OTHER_CALLS_PERCENT` of the slots, but one at least.
    #[must_use]
    pub fn gate_for_others(&self, calls: &Calls, messages: Presence, now: Uptime) -> Gate {
        let share = (u64::from(self.calls) * u64::from(OTHER_CALLS_PERCENT) / 100).max(1);
        let running = calls.running().map(|(_, running)| running.purpose.share());
        let running = running.filter(|share| *share == Share::Other).count() as u64;
        if messages == Presence::Some {
            if running >= share {
                return Gate::Full;
            }
            let mut ended = calls.ended().filter(|ended| ended.share == Share::Other);
            let blocking = usize::try_from(share - running - 1).ok().and_then(|it| ended.nth(it));
            let free_at = blocking.map_or(Uptime(0), |ended| ended.at.plus_ms(self.window_ms));
            if free_at >= now && blocking.is_some() {
                return Gate::OpensAt(free_at.plus_ms(1));
            }
        }
        self.gate(calls, now)
    }

    /// Milliseconds until the message at this place, from 1, has its turn, if calls take no time
    /// and all succeed.
    #[must_use]
    pub fn eta_ms(&self, calls: &Calls, position: u64, now: Uptime) -> u64 {
        let limit = u64::from(self.calls);
        let running = calls.running().map(|_| self.window_ms);
        let ended = calls.ended().map(|ended| ended.at.plus_ms(self.window_ms).since_ms(now));
        let mut waits: Vec<u64> = running.chain(ended.take_while(|wait| *wait > 0)).collect();
        waits.resize(self.calls as usize, 0);
        waits.sort_unstable();
        let place = position.saturating_sub(1);
        let slot = usize::try_from(place % limit).unwrap_or_default();
        let by_slots = waits[slot].saturating_add((place / limit).saturating_mul(self.window_ms));
        let by_pace = match self.mode {
            Mode::Window => 0,
            Mode::Paced => place.saturating_mul(self.step_ms()),
        };
        by_slots.max(by_pace).max(calls.pace().paused_until.since_ms(now))
    }

    /// Milliseconds between two calls that are spread evenly.
    fn step_ms(&self) -> u64 {
        self.window_ms.div_ceil(self.calls.into())
    }

    /// Whose turn it is: while both kinds wait, that of which fewer calls are in the window, and
    /// at a tie the one that did not have the latest call, fresh ones first of all. So neither
    /// takes more than its half, rounded up, of the slots that come free while the other waits;
    /// also where windows are so small, or calls so rare, that all are empty when one may begin.
    #[must_use]
    pub fn turn(&self, calls: &Calls, waiting: Waiting, now: Uptime) -> Option<Share> {
        match (waiting.has_fresh, waiting.has_retried) {
            (Presence::None, Presence::None) => None,
            (Presence::Some, Presence::None) => Some(Share::Fresh),
            (Presence::None, Presence::Some) => Some(Share::Retried),
            (Presence::Some, Presence::Some) => {
                let [fresh, retried] = self.used(calls, now);
                let is_fresh = match fresh.cmp(&retried) {
                    Ordering::Less => true,
                    Ordering::Equal => latest(calls) != Some(Share::Fresh),
                    Ordering::Greater => false,
                };
                Some(if is_fresh { Share::Fresh } else { Share::Retried })
            }
        }
    }

    /// Slots that fresh and retried messages hold at `now`.
    fn used(&self, calls: &Calls, now: Uptime) -> [usize; 2] {
        let running = calls.running().map(|(_, running)| running.purpose.share());
        let ended = calls.ended().take_while(|ended| ended.at.plus_ms(self.window_ms) >= now);
        let mut used = [0; 2];
        for share in running.chain(ended.map(|ended| ended.share)) {
            match share {
                Share::Fresh => used[0] += 1,
                Share::Retried => used[1] += 1,
                Share::Other => {}
            }
        }
        used
    }
}

/// Whose the latest call was that was made for a message, as far as is remembered.
fn latest(calls: &Calls) -> Option<Share> {
    let running = calls.running().map(|(call, running)| (call, running.purpose.share()));
    let all = running.chain(calls.ended().map(|ended| (ended.call, ended.share)));
    all.filter(|(_, share)| *share != Share::Other).max().map(|(_, share)| share)
}

#[cfg(test)]
mod tests;
