//! When a node that fails is left alone. Pure: the time is an argument.
//!
//! ```text
//!   closed ── NODE_FAILURES_MAX failures in a row ──► open ── BREAKER_OPEN_MS ──► half-open
//!     ▲                                                 ▲                           │
//!     │                                                 └───────── failure ─────────┤
//!     └──────────────────────────── success ────────────────────────────────────────┘
//! ```
//! Half-open lets one call through at a time, the probe. What became of it may never be told: who
//! made it may have been stopped. So a probe counts only until its deadline; then there is
//! another.
//!
//! Whatever is noted counts, also of calls that were not asked for here or began long before. A
//! success proves that the node is there now. A failure while the breaker is open proves nothing
//! new, so that stragglers do not keep it open.
//!
//! This does not stop anybody: it says what it would do, and remembers nothing over a restart.

use crate::limits::{BREAKER_OPEN_MS, NODE_FAILURES_MAX};
use crate::time::Uptime;

/// What is known of one node, as far as it decides whether it is called.
///
/// Invariant: a probe is under way only while the breaker is not closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breaker {
    /// Failures since the last success.
    failures: u32,
    /// It is open until then, and half-open from then on; `None` while closed.
    open_until: Option<Uptime>,
    /// The probe under way counts until then; `None` without one.
    probe_until: Option<Uptime>,
    /// How long a probe counts.
    probe_ms: u64,
}

/// Whether a call may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It may.
    Call,
    /// It may, and no other may until it is noted, or its deadline has passed.
    Probe,
    /// It may not.
    Refused {
        /// Not before then; ask again.
        until: Uptime,
    },
}

/// What came of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The node answered, whatever it said.
    Success,
    /// It did not answer, or said that it is broken.
    Failure,
}

/// How a breaker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// Calls are made.
    Closed,
    /// No call is made.
    Open {
        /// From then on it is half-open.
        until: Uptime,
    },
    /// One call at a time is let through.
    HalfOpen,
}

impl Breaker {
    /// A closed one, whose probes count for `probe_ms`: as long as a call may take.
    #[must_use]
    pub fn new(probe_ms: u64) -> Breaker {
        Breaker { failures: 0, open_until: None, probe_until: None, probe_ms }
    }

    /// Whether a call may be made now. A probe that is let through is remembered.
    pub fn admit(&mut self, now: Uptime) -> Admission {
        let Some(open_until) = self.open_until else { return Admission::Call };
        let until = self.probe_until.map_or(open_until, |probe| probe.max(open_until));
        if now < until {
            return Admission::Refused { until };
        }
        self.probe_until = Some(now.plus_ms(self.probe_ms));
        Admission::Probe
    }

    /// What came of a call that ended now.
    pub fn note(&mut self, outcome: Outcome, now: Uptime) {
        match outcome {
            Outcome::Success => *self = Breaker::new(self.probe_ms),
            Outcome::Failure => self.fail(now),
        }
    }

    fn fail(&mut self, now: Uptime) {
        self.failures = self.failures.saturating_add(1);
        let opens = match self.state(now) {
            BreakerState::Closed => self.failures >= NODE_FAILURES_MAX,
            BreakerState::Open { .. } => false,
            BreakerState::HalfOpen => true,
        };
        if opens {
            self.open_until = Some(now.plus_ms(BREAKER_OPEN_MS));
            self.probe_until = None;
        }
    }

    /// How it stands now.
    #[must_use]
    pub fn state(&self, now: Uptime) -> BreakerState {
        match self.open_until {
            None => BreakerState::Closed,
            Some(until) if now < until => BreakerState::Open { until },
            Some(_) => BreakerState::HalfOpen,
        }
    }

    /// Failures since the last success.
    #[must_use]
    pub fn failures_in_row(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests;
