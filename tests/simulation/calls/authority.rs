//! The authority, in its own time: what reaches it, and whether that was too much.

use std::collections::BTreeMap;

use sillage::engine::command::seals::SealOutcome;
use sillage::engine::decide::gate::{Limit, Mode};
use sillage::ids::Lsn;

/// Longest window of a simulated limit, in ms.
const WINDOW_MS_MAX: u64 = 1500;

/// How the authority is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// It signs, mostly.
    Well,
    /// It fails as often as not, or asks to be left alone.
    Ill,
    /// Nothing comes back.
    Down,
}

/// Whom a call is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A text that it signs.
    Text,
    /// A text that it never signs.
    Hopeless,
}

/// When a call arrives and how it ends, in ms from when it is sent.
pub struct Fate {
    /// `None`: it is lost on the way.
    pub arrives_ms: Option<u64>,
    pub ends_ms: u64,
    pub came: Came,
}

/// What the caller sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Came {
    Signature,
    Failure,
    TooMany(u64),
}

/// A call that was sent.
#[derive(Clone, Copy)]
struct Sent {
    limit: Limit,
}

/// What was sent to the authority, and what has arrived.
///
/// **The rule.** Among calls that were begun no later than a given one, no window of the limit
/// that was in force when that one was begun, and in which it arrives, holds more arrivals than
/// this limit allows. If the limit never changes, this says that no window holds more at all: look
/// at the one that was begun last. If it becomes smaller, windows may hold more only by calls that
/// were begun before; whatever is begun under the smaller one counts those, too.
#[derive(Default)]
pub struct Authority {
    sent: BTreeMap<Lsn, Sent>,
    /// By time.
    arrived: Vec<(u64, Lsn)>,
    /// Arrivals at the very first moment at which a full window allowed one more.
    pub at_the_edge: u64,
}

impl Authority {
    /// A call is on its way; its record is durable.
    pub fn send(&mut self, call: Lsn, limit: Limit) {
        let before = self.sent.insert(call, Sent { limit });
        assert!(before.is_none(), "call {call} is sent twice");
    }

    /// A call arrives.
    pub fn arrive(&mut self, call: Lsn, at: u64) {
        self.arrived.push((at, call));
        let recent = self.arrived.iter().rev().take_while(|(then, _)| then + WINDOW_MS_MAX >= at);
        let recent: Vec<(u64, Lsn)> = recent.copied().collect();
        for &(then, judged) in &recent {
            let limit = self.sent[&judged].limit;
            let is_counted =
                |(other, order): &&(u64, Lsn)| other + limit.window_ms >= at && *order <= judged;
            if then + limit.window_ms < at {
                continue;
            }
            let count = recent.iter().filter(is_counted).count();
            let allowed = limit.calls as usize;
            assert!(
                count <= allowed,
                "{count} calls, up to the one begun by {judged}, arrive in a window of {limit:?} \
                 that ends at {at}: {recent:?}"
            );
        }
        let limit = self.sent[&call].limit;
        let first = self.arrived.len().checked_sub(limit.calls as usize + 1);
        let gap = first.map(|first| at - self.arrived[first].0);
        self.at_the_edge += u64::from(gap == Some(limit.window_ms + 1));
    }

    pub fn arrivals(&self) -> usize {
        self.arrived.len()
    }
}

/// A limit of few calls in a short window.
pub fn some_limit(random: &mut fastrand::Rng) -> Limit {
    Limit {
        calls: random.u32(1..6),
        window_ms: random.u64(100..=WINDOW_MS_MAX),
        mode: if random.u8(..4) == 0 { Mode::Paced } else { Mode::Window },
    }
}

/// What becomes of a call of at most `deadline_ms`.
pub fn fate(random: &mut fastrand::Rng, mood: Mood, what: Subject, deadline_ms: u64) -> Fate {
    let came = match (mood, random.u8(..10)) {
        (Mood::Down, _) => Came::Failure,
        (Mood::Well, 0) | (Mood::Ill, 0..=1) => Came::TooMany(random.u64(1..800)),
        (Mood::Well, 1) | (Mood::Ill, 2..=5) => Came::Failure,
        _ if what == Subject::Hopeless => Came::Failure,
        _ => Came::Signature,
    };
    // Silence up to the deadline is a failure like any other; so is an answer that is none.
    let hangs = came == Came::Failure && random.bool();
    let ends_ms = if hangs { deadline_ms } else { random.u64(0..=deadline_ms) };
    let is_lost = hangs && random.bool();
    // At both ends as often as in between: there the windows are widest.
    let arrives_ms = match random.u8(..4) {
        0 => 0,
        1 => ends_ms,
        _ => random.u64(0..=ends_ms),
    };
    Fate { arrives_ms: (!is_lost).then_some(arrives_ms), ends_ms, came }
}

/// What the worker makes of it.
pub fn outcome(random: &mut fastrand::Rng, came: Came, signature: &str) -> SealOutcome {
    match came {
        Came::Signature => SealOutcome::Signed(signature.into()),
        Came::Failure => SealOutcome::Failed { reason: "no".into(), delay_ms: random.u64(0..600) },
        Came::TooMany(pause_ms) => SealOutcome::Deferred { pause_ms },
    }
}
