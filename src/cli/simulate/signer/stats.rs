//! What the authority has seen, as `GET /stats` shows it.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::cli::simulate::chance::Health;
use crate::cli::simulate::outcome::Outcome;
use crate::cli::simulate::recent::Recent;
use crate::cli::simulate::server::ms;
use crate::cli::simulate::window::Window;
use crate::limits::{SIMULATE_MESSAGE_ARRIVALS_MAX, SIMULATE_MESSAGES_MAX};

/// What is asked of the authority. Each counts towards its rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    /// A signature.
    Sign,
    /// Whether a signature is right.
    Verify,
    /// Whether it is there.
    Probe,
}

/// Everything that is counted.
#[derive(Debug)]
pub(super) struct Stats {
    counts: Counts,
    by_status: BTreeMap<String, u64>,
    messages: Recent<Message>,
}

impl Default for Stats {
    fn default() -> Stats {
        let messages = Recent::new(SIMULATE_MESSAGES_MAX);
        Stats { counts: Counts::default(), by_status: BTreeMap::new(), messages }
    }
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Counts {
    /// Authorised calls, those beyond the rate among them.
    calls: u64,
    signs: u64,
    verifies: u64,
    probes: u64,
    /// Calls that are in none of the counts above.
    unauthorised: u64,
    /// Calls that are not answered yet.
    under_way: u64,
    /// The most that were at a time.
    max_under_way: u64,
}

/// What is known of a message.
#[derive(Debug, Default)]
struct Message {
    health: Health,
    calls: u64,
    signed: u64,
    failed: u64,
    under_way: u64,
    arrivals_us: Vec<u64>,
}

impl Stats {
    /// Authorised calls.
    pub(super) fn calls(&self) -> u64 {
        self.counts.calls
    }

    /// Counts a call that was refused for its key.
    pub(super) fn unauthorised(&mut self) {
        self.counts.unauthorised += 1;
        *self.by_status.entry("401".to_owned()).or_default() += 1;
    }

    /// Counts an authorised call at its arrival. Each is followed by one `end`.
    pub(super) fn begin(&mut self, call: Call, message: &str, at_us: u64) {
        let counts = &mut self.counts;
        counts.calls += 1;
        match call {
            Call::Sign => counts.signs += 1,
            Call::Verify => counts.verifies += 1,
            Call::Probe => counts.probes += 1,
        }
        counts.under_way += 1;
        counts.max_under_way = counts.max_under_way.max(counts.under_way);
        if call != Call::Sign {
            return;
        }
        let message = self.messages.of(message);
        message.calls += 1;
        message.under_way += 1;
        if message.arrivals_us.len() < SIMULATE_MESSAGE_ARRIVALS_MAX {
            message.arrivals_us.push(at_us);
        }
    }

    /// Counts what became of it.
    pub(super) fn end(&mut self, call: Call, message: &str, outcome: Outcome) {
        self.counts.under_way -= 1;
        *self.by_status.entry(outcome.name()).or_default() += 1;
        // A message may have been forgotten while its call was under way.
        let known = self.messages.get_mut(message).filter(|known| known.under_way > 0);
        let Some(message) = known.filter(|_| call == Call::Sign) else {
            return;
        };
        message.under_way -= 1;
        match outcome {
            Outcome::Status(200) => message.signed += 1,
            _ => message.failed += 1,
        }
    }

    /// What chance has had in store for the message.
    pub(super) fn health(&mut self, message: &str) -> &mut Health {
        &mut self.messages.of(message).health
    }

    /// What `GET /stats` shows.
    pub(super) fn report(&self, window: &Window, changes: u64) -> impl Serialize {
        let shown = |(name, message): (&String, &Message)| (name.clone(), message.report());
        Report {
            changes,
            counts: self.counts,
            by_status: self.by_status.clone(),
            allowed: window.rate().calls,
            window_ms: window.rate().window_ms,
            max_in_window: window.max_in_window(),
            violations: window.violations(),
            arrivals_ms: window.arrivals_us().map(ms).collect(),
            per_message: self.messages.iter().map(shown).collect(),
        }
    }
}

#[derive(Debug, Serialize)]
struct Report {
    changes: u64,
    #[serde(flatten)]
    counts: Counts,
    by_status: BTreeMap<String, u64>,
    allowed: usize,
    window_ms: u64,
    max_in_window: usize,
    violations: u64,
    arrivals_ms: Vec<f64>,
    per_message: BTreeMap<String, MessageReport>,
}

#[derive(Debug, Serialize)]
struct MessageReport {
    calls: u64,
    signed: u64,
    failed: u64,
    under_way: u64,
    arrivals_ms: Vec<f64>,
}

impl Message {
    fn report(&self) -> MessageReport {
        MessageReport {
            calls: self.calls,
            signed: self.signed,
            failed: self.failed,
            under_way: self.under_way,
            arrivals_ms: self.arrivals_us.iter().copied().map(ms).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_heard_of_first_is_forgotten_and_its_call_may_still_end() {
        let mut stats = Stats::default();
        for number in 0..=SIMULATE_MESSAGES_MAX {
            stats.begin(Call::Sign, &number.to_string(), 0);
        }
        assert_eq!(stats.messages.iter().count(), SIMULATE_MESSAGES_MAX);
        assert!(stats.messages.get_mut("0").is_none());
        for number in 0..=SIMULATE_MESSAGES_MAX {
            stats.end(Call::Sign, &number.to_string(), Outcome::Status(200));
        }
        assert_eq!(stats.counts.under_way, 0);
        assert_eq!(stats.by_status["200"], SIMULATE_MESSAGES_MAX as u64 + 1);
    }

    #[test]
    fn the_report_adds_up() {
        let mut stats = Stats::default();
        let mut window = Window::new("2/min".parse().expect("a rate"));
        let calls = [(Call::Sign, "A"), (Call::Verify, "A"), (Call::Probe, "")];
        for (at_us, (call, message)) in (1500..).zip(calls) {
            window.arrive(at_us);
            stats.begin(call, message, at_us);
        }
        stats.end(Call::Probe, "", Outcome::Status(200));
        stats.end(Call::Sign, "A", Outcome::Left);
        stats.unauthorised();
        let report = serde_json::to_value(stats.report(&window, 0)).expect("JSON");
        assert_eq!(report["calls"], 3);
        assert_eq!(report["under_way"], 1);
        assert_eq!(report["by_status"], serde_json::json!({"200": 1, "401": 1, "left": 1}));
        assert_eq!(report["arrivals_ms"], serde_json::json!([1.5, 1.501, 1.502]));
        assert_eq!((&report["max_in_window"], &report["violations"]), (&3.into(), &1.into()));
        let message = serde_json::json!(
            {"calls": 1, "signed": 0, "failed": 1, "under_way": 0, "arrivals_ms": [1.5]});
        assert_eq!(report["per_message"], serde_json::json!({ "A": message }));
    }
}
