//! Counts what callers do, so that what befalls the server does so after so many requests.

use std::sync::{Condvar, Mutex};

use super::common::PATIENCE;

/// How long callers go on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal {
    /// Until the server is gone.
    Endless,
    /// Until so many transactions were accepted, over the whole run.
    Accepted(u64),
}

/// What all callers have done so far.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    counts: Mutex<Counts>,
    grown: Condvar,
}

#[derive(Debug, Default)]
struct Counts {
    requests: u64,
    accepted: u64,
}

impl Meter {
    /// A request is on its way.
    pub(crate) fn count_request(&self) {
        self.counts.lock().expect("no panic holds this lock").requests += 1;
        self.grown.notify_all();
    }

    /// A transaction was accepted.
    pub(crate) fn count_accepted(&self) {
        self.counts.lock().expect("no panic holds this lock").accepted += 1;
        self.grown.notify_all();
    }

    /// Whether there is nothing left to do.
    pub(crate) fn is_reached(&self, goal: Goal) -> bool {
        match goal {
            Goal::Endless => false,
            Goal::Accepted(wanted) => {
                self.counts.lock().expect("no panic holds this lock").accepted >= wanted
            }
        }
    }

    /// Waits until so many more transactions were accepted, and then so many requests were sent.
    pub(crate) fn await_more(&self, accepted: u64, requests: u64) {
        let reached = |of: fn(&Counts) -> u64, more: u64| {
            let counts = self.counts.lock().expect("no panic holds this lock");
            let wanted = of(&counts) + more;
            let waited = self.grown.wait_timeout_while(counts, PATIENCE, |it| of(it) < wanted);
            let (counts, waited) = waited.expect("no panic holds this lock");
            // Callers that go on do not need to know.
            drop(counts);
            assert!(!waited.timed_out(), "callers are stuck: {more} more wanted");
        };
        reached(|counts| counts.accepted, accepted);
        reached(|counts| counts.requests, requests);
    }
}
