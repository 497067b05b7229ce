//! The breaker along tables, and against a model that keeps all that happened.

use super::*;

const PROBE_MS: u64 = 700;

fn at(ms: u64) -> Uptime {
    Uptime(ms)
}

/// A breaker that opened at this time.
fn opened_at(ms: u64) -> Breaker {
    let mut breaker = Breaker::new(PROBE_MS);
    for _ in 0..NODE_FAILURES_MAX {
        breaker.note(Outcome::Failure, at(ms));
    }
    breaker
}

/// One step of a table.
enum Step {
    Admit(Admission),
    Note(Outcome),
    Is(BreakerState),
}

#[track_caller]
fn assert_goes(mut breaker: Breaker, steps: &[(u64, Step)]) {
    for (number, (ms, step)) in steps.iter().enumerate() {
        match step {
            Step::Admit(expected) => {
                assert_eq!(breaker.admit(at(*ms)), *expected, "step {number} at {ms}");
            }
            Step::Note(outcome) => breaker.note(*outcome, at(*ms)),
            Step::Is(expected) => {
                assert_eq!(breaker.state(at(*ms)), *expected, "step {number} at {ms}");
            }
        }
    }
}

use Admission::{Call, Probe, Refused};
use BreakerState::{Closed, HalfOpen, Open};
use Outcome::{Failure, Success};
use Step::{Admit, Is, Note};

#[test]
fn so_many_failures_in_a_row_open_it_and_one_fewer_do_not() {
    let mut breaker = Breaker::new(PROBE_MS);
    for round in 0..3 {
        for _ in 1..NODE_FAILURES_MAX {
            breaker.note(Failure, at(round));
            assert_eq!(breaker.admit(at(round)), Call);
        }
        breaker.note(Success, at(round));
        assert_eq!(breaker.failures_in_row(), 0);
    }
    for _ in 1..NODE_FAILURES_MAX {
        breaker.note(Failure, at(10));
    }
    assert_eq!(breaker.state(at(10)), Closed);
    breaker.note(Failure, at(20));
    let until = at(20 + BREAKER_OPEN_MS);
    assert_eq!(breaker.state(at(20)), Open { until });
    assert_eq!(breaker.admit(at(20)), Refused { until });
    assert_eq!(breaker.failures_in_row(), NODE_FAILURES_MAX);
}

#[test]
fn when_its_time_is_over_one_probe_goes_through_and_closes_it_or_opens_it_again() {
    let until = BREAKER_OPEN_MS;
    assert_goes(
        opened_at(0),
        &[
            (until - 1, Admit(Refused { until: at(until) })),
            (until - 1, Is(Open { until: at(until) })),
            (until, Is(HalfOpen)),
            (until, Admit(Probe)),
            (until, Admit(Refused { until: at(until + PROBE_MS) })),
            (until + 5, Note(Failure)),
            (until + 5, Is(Open { until: at(2 * until + 5) })),
            (2 * until + 4, Admit(Refused { until: at(2 * until + 5) })),
            (2 * until + 5, Admit(Probe)),
            (2 * until + 6, Note(Success)),
            (2 * until + 6, Is(Closed)),
            (2 * until + 6, Admit(Call)),
            (2 * until + 6, Admit(Call)),
        ],
    );
}

#[test]
fn a_probe_that_is_never_noted_blocks_no_longer_than_its_deadline() {
    let first = BREAKER_OPEN_MS;
    let second = first + 100 + PROBE_MS;
    assert_goes(
        opened_at(0),
        &[
            (first + 100, Admit(Probe)),
            (second - 1, Admit(Refused { until: at(second) })),
            (second, Is(HalfOpen)),
            (second, Admit(Probe)),
            (second, Admit(Refused { until: at(second + PROBE_MS) })),
            // The first one's end, after all: it says that the node is down now.
            (second + 1, Note(Failure)),
            (second + 1, Admit(Refused { until: at(second + 1 + BREAKER_OPEN_MS) })),
        ],
    );
}

#[test]
fn stragglers_that_fail_do_not_keep_it_open_and_one_that_succeeds_closes_it() {
    let until = BREAKER_OPEN_MS;
    let steps = [
        (until - 1, Note(Failure)),
        (until - 1, Is(Open { until: at(until) })),
        (until - 1, Note(Success)),
        (until - 1, Admit(Call)),
    ];
    assert_goes(opened_at(0), &steps);
}

#[test]
fn after_it_has_closed_it_takes_all_failures_again_to_open_it() {
    let mut breaker = opened_at(0);
    breaker.note(Success, at(1));
    for _ in 1..NODE_FAILURES_MAX {
        breaker.note(Failure, at(2));
    }
    assert_eq!(breaker.state(at(2)), Closed);
}

#[test]
fn neither_the_end_of_time_nor_countless_failures_overflow() {
    let mut breaker = opened_at(u64::MAX);
    breaker.failures = u32::MAX;
    breaker.note(Failure, at(u64::MAX));
    assert_eq!(breaker.failures_in_row(), u32::MAX);
    assert_eq!(breaker.admit(at(u64::MAX)), Probe);
    // A probe that counts for no time at all leaves room for the next.
    let mut hasty = opened_at(0);
    hasty.probe_ms = 0;
    assert_eq!(hasty.admit(at(BREAKER_OPEN_MS)), Probe);
    assert_eq!(hasty.admit(at(BREAKER_OPEN_MS)), Probe);
}

/// The rule in one sentence over all that has happened, with nothing carried from step to step
/// but the list of it.
#[derive(Default)]
struct Model {
    /// When it opened, each time since the last success.
    openings: Vec<u64>,
    /// Failures since the last success.
    failures: u32,
    /// When a probe was let through since it last opened.
    probes: Vec<u64>,
}

impl Model {
    fn admit(&mut self, now: u64) -> Admission {
        let Some(opened) = self.openings.last() else { return Call };
        let probe = self.probes.last().map_or(0, |began| began + PROBE_MS);
        let until = probe.max(opened + BREAKER_OPEN_MS);
        if now < until {
            return Refused { until: at(until) };
        }
        self.probes.push(now);
        Probe
    }

    fn note(&mut self, outcome: Outcome, now: u64) {
        match outcome {
            Success => *self = Model::default(),
            Failure => {
                self.failures += 1;
                let opens = match self.openings.last() {
                    None => self.failures >= NODE_FAILURES_MAX,
                    Some(opened) => now >= opened + BREAKER_OPEN_MS,
                };
                if opens {
                    self.openings.push(now);
                    self.probes.clear();
                }
            }
        }
    }
}

#[test]
fn whatever_happens_it_does_what_the_model_does() {
    let mut random = crate::tests::random();
    for _ in 0..300 {
        let (mut breaker, mut model, mut now) = (Breaker::new(PROBE_MS), Model::default(), 0);
        let failing = random.u8(1..=9);
        for _ in 0..200 {
            now += match random.u8(0..4) {
                0 => 0,
                1 => random.u64(0..PROBE_MS + 2),
                2 => [PROBE_MS - 1, PROBE_MS, BREAKER_OPEN_MS - 1, BREAKER_OPEN_MS]
                    [random.usize(0..4)],
                _ => random.u64(0..2 * BREAKER_OPEN_MS),
            };
            if random.bool() {
                assert_eq!(breaker.admit(at(now)), model.admit(now));
            } else {
                let outcome = if random.u8(0..10) < failing { Failure } else { Success };
                breaker.note(outcome, at(now));
                model.note(outcome, now);
            }
            assert_eq!(breaker.failures_in_row(), model.failures);
            assert_eq!(breaker.state(at(now)) == Closed, model.openings.is_empty());
        }
    }
}

/// What it is for: a node that is down costs one call each time, and one that is back is found
/// within one opening.
#[test]
fn a_dead_node_is_called_seldom_and_one_that_is_back_is_soon_found() {
    let mut random = crate::tests::random();
    for _ in 0..100 {
        let back_at = random.u64(0..60_000);
        let (mut breaker, mut calls, mut now) = (Breaker::new(PROBE_MS), Vec::new(), 0);
        while now < 2 * 60_000 {
            now += random.u64(0..50);
            if let Refused { until } = breaker.admit(at(now)) {
                assert!(until > at(now));
                continue;
            }
            calls.push(now);
            breaker.note(if now < back_at { Failure } else { Success }, at(now));
        }
        let dead = calls.iter().filter(|called| **called < back_at).count() as u64;
        assert!(dead <= u64::from(NODE_FAILURES_MAX) + back_at / BREAKER_OPEN_MS + 1, "{dead}");
        let found = calls.iter().find(|called| **called >= back_at).expect("it was tried again");
        assert!(*found <= back_at + BREAKER_OPEN_MS + PROBE_MS + 50, "{found} after {back_at}");
    }
}
