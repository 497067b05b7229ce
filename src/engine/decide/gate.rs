//! Whether a call to the authority may begin now, and whose turn it is. Pure.
//!
//! **The promise**: in *any* window of the limit, as the far side sees it, at most so many calls
//! arrive. A call arrives at some time between its beginning and its end. A slot is therefore
//! taken from the beginning of a call until one window after its *end*: then at any two arrivals
//! that are no further apart than a window, both slots are taken at the later one's beginning, so
//! the later one began while fewer than the limit were taken. A bucket that fills up again gives
//! twice the limit in one window; slots freed a window after the *beginning* give one too many
//! when a call was slow to arrive.

use std::cmp::Reverse;

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
            (Mode::Paced, Some(begun)) => begun.plus_ms(self.window_ms.div_ceil(self.calls.into())),
            _ => Uptime(0),
        };
        let opens_at = free_at.max(paced_at).max(calls.pace().paused_until);
        // At the very end of its window a call still counts.
        let is_open = opens_at < now || opens_at == Uptime(0);
        if is_open { Gate::Open } else { Gate::OpensAt(opens_at.plus_ms(1)) }
    }

    /// Whose turn it is: while both kinds wait, that of which fewer calls are in the window, and
    /// at a tie fresh ones. So neither takes more than its half, rounded up, of the slots that
    /// come free while the other waits.
    #[must_use]
    pub fn turn(&self, calls: &Calls, waiting: Waiting, now: Uptime) -> Option<Share> {
        match (waiting.has_fresh, waiting.has_retried) {
            (Presence::None, Presence::None) => None,
            (Presence::Some, Presence::None) => Some(Share::Fresh),
            (Presence::None, Presence::Some) => Some(Share::Retried),
            (Presence::Some, Presence::Some) => {
                let [fresh, retried] = self.used(calls, now);
                let is_fresh = Reverse(fresh) >= Reverse(retried);
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
