use super::*;
use crate::ids::{Epoch, Lsn, MessageId};
use crate::record::seals::CallPurpose;
use crate::record::{Fact, Record};
use crate::state::State;
use crate::time::{Moment, Timestamp};

/// Calls that a history makes.
const CALLS: usize = 300;

/// A random history of calls, driven through the records that the engine writes. The far side
/// counts each call at its arrival, some time between its beginning and its end.
struct History {
    state: State,
    now: u64,
    limit: Limit,
    deadline_ms: u64,
    random: fastrand::Rng,
    /// Calls under way: record, end.
    running: Vec<(Lsn, u64)>,
    arrivals: Vec<u64>,
}

impl History {
    fn new(seed: u64) -> History {
        let mut random = fastrand::Rng::with_seed(seed);
        let limit = Limit {
            calls: random.u32(1..=12),
            window_ms: random.u64(1..=5000),
            mode: if random.bool() { Mode::Window } else { Mode::Paced },
        };
        let deadline_ms = random.u64(1..=3000);
        let (running, arrivals) = (Vec::new(), Vec::new());
        let state = State::default();
        let mut history = History { state, now: 0, limit, deadline_ms, random, running, arrivals };
        history.reopen();
        history
    }

    fn apply(&mut self, fact: Fact) -> Lsn {
        let (lsn, uptime) = (self.state.lsn().next(), Uptime(self.now));
        let at = Moment { wall: Timestamp(self.now), uptime };
        self.state.apply(lsn, &Record { at, fact });
        lsn
    }

    /// The process dies and comes back. Uptime stood still meanwhile, while the far side's clock
    /// went on; that only puts more time between arrivals, so it is left out.
    fn reopen(&mut self) {
        self.running.clear();
        self.apply(Fact::Opened { epoch: Epoch(self.state.epoch().0 + 1) });
    }

    fn gate(&self) -> Gate {
        self.limit.gate(self.state.calls(), Uptime(self.now))
    }

    fn begin(&mut self) {
        let deadline_ms = self.deadline_ms;
        let message = MessageId(Lsn(1));
        let purpose = self.random.choice([
            CallPurpose::Fresh(message),
            CallPurpose::Retried(message),
            CallPurpose::Verify,
        ]);
        let purpose = purpose.expect("there are three");
        let call = self.apply(Fact::CallBegun { purpose, deadline_ms });
        let end = self.now + self.random.u64(0..=deadline_ms);
        // A call whose process dies may arrive as late as its deadline.
        let arrives = self.now + self.random.u64(0..=deadline_ms);
        self.running.push((call, end.max(arrives)));
        self.arrivals.push(arrives);
    }

    fn end_due(&mut self) {
        let now = self.now;
        let (due, left) = self.running.drain(..).partition(|(_, end)| *end <= now);
        self.running = left;
        let due: Vec<(Lsn, u64)> = due;
        for (call, _) in due {
            let pause_ms = if self.random.u8(..) < 5 { self.random.u64(0..2000) } else { 0 };
            self.apply(Fact::CallEnded { call, pause_ms });
        }
    }

    /// Goes on to the next moment at which something may happen; crashes now and then.
    fn step(&mut self) {
        match self.gate() {
            Gate::Open => self.begin(),
            Gate::OpensAt(at) => {
                let next_end = self.running.iter().map(|(_, end)| *end).min();
                self.now = at.0.min(next_end.unwrap_or(u64::MAX)).max(self.now);
            }
            Gate::Full => {
                let next = self.running.iter().map(|(_, end)| *end).min();
                self.now = next.expect("who is full has calls under way").max(self.now);
            }
        }
        if self.random.u8(..) < 6 {
            self.reopen();
        }
        self.end_due();
    }

    /// Any two arrivals of which one comes `calls` after the other are further apart than a
    /// window.
    fn check_arrivals(&mut self) {
        self.arrivals.sort_unstable();
        let Limit { calls, window_ms, .. } = self.limit;
        for pair in self.arrivals.windows(calls as usize + 1) {
            let apart = pair[calls as usize] - pair[0];
            assert!(apart > window_ms, "{apart} ms apart: {pair:?} under {:?}", self.limit);
        }
    }
}

#[test]
fn no_window_of_the_far_side_sees_more_calls_than_allowed_whatever_happens() {
    let mut random = crate::tests::random();
    for _ in 0..200 {
        let seed = random.u64(..);
        let mut history = History::new(seed);
        while history.arrivals.len() < CALLS {
            history.step();
        }
        history.check_arrivals();
    }
}

#[test]
fn a_slot_comes_back_one_window_after_the_end_and_not_a_moment_before() {
    let limit = Limit { calls: 1, window_ms: 100, mode: Mode::Window };
    let mut history = History { limit, deadline_ms: 50, ..History::new(1) };
    assert_eq!(history.gate(), Gate::Open);
    let call = history.apply(Fact::CallBegun { purpose: CallPurpose::Probe, deadline_ms: 50 });
    assert_eq!(history.gate(), Gate::Full);
    history.now = 30;
    history.apply(Fact::CallEnded { call, pause_ms: 0 });
    assert_eq!(history.gate(), Gate::OpensAt(Uptime(131)));
    history.now = 130;
    assert_eq!(history.gate(), Gate::OpensAt(Uptime(131)));
    history.now = 131;
    assert_eq!(history.gate(), Gate::Open);
}

#[test]
fn a_call_that_nobody_saw_the_end_of_counts_from_the_restart_and_its_deadline() {
    let limit = Limit { calls: 1, window_ms: 100, mode: Mode::Window };
    let mut history = History { limit, ..History::new(1) };
    history.apply(Fact::CallBegun { purpose: CallPurpose::Probe, deadline_ms: 50 });
    history.now = 10;
    history.reopen();
    assert_eq!(history.gate(), Gate::OpensAt(Uptime(161)));
    history.now = 161;
    assert_eq!(history.gate(), Gate::Open, "no slot is lost for ever");
}

#[test]
fn a_pause_closes_the_gate_though_slots_are_free() {
    let limit = Limit { calls: 5, window_ms: 100, mode: Mode::Window };
    let mut history = History { limit, ..History::new(1) };
    let call = history.apply(Fact::CallBegun { purpose: CallPurpose::Probe, deadline_ms: 50 });
    history.apply(Fact::CallEnded { call, pause_ms: 1000 });
    assert_eq!(history.gate(), Gate::OpensAt(Uptime(1001)));
}

#[test]
fn paced_calls_are_a_share_of_the_window_apart() {
    let limit = Limit { calls: 10, window_ms: 1000, mode: Mode::Paced };
    let mut history = History { limit, ..History::new(1) };
    history.now = 5;
    let call = history.apply(Fact::CallBegun { purpose: CallPurpose::Probe, deadline_ms: 50 });
    history.apply(Fact::CallEnded { call, pause_ms: 0 });
    assert_eq!(history.gate(), Gate::OpensAt(Uptime(106)));
}

#[test]
fn while_both_kinds_wait_neither_takes_more_than_six_of_ten() {
    let limit = Limit { calls: 10, window_ms: 1000, mode: Mode::Window };
    let both = Waiting { has_fresh: Presence::Some, has_retried: Presence::Some };
    let mut history = History { limit, deadline_ms: 10, ..History::new(1) };
    let mut shares = Vec::new();
    for _ in 0..100 {
        while history.gate() != Gate::Open {
            let Gate::OpensAt(at) = history.gate() else { panic!("no call is under way") };
            history.now = at.0;
        }
        let share = limit.turn(history.state.calls(), both, Uptime(history.now));
        let share = share.expect("both wait");
        let message = MessageId(Lsn(1));
        let purpose = match share {
            Share::Fresh => CallPurpose::Fresh(message),
            _ => CallPurpose::Retried(message),
        };
        let call = history.apply(Fact::CallBegun { purpose, deadline_ms: 10 });
        history.now += 1;
        history.apply(Fact::CallEnded { call, pause_ms: 0 });
        shares.push(share);
    }
    for ten in shares.chunks(10) {
        let fresh = ten.iter().filter(|share| **share == Share::Fresh).count();
        assert!((4..=6).contains(&fresh), "{ten:?}");
    }
}

#[test]
fn enquiries_leave_most_slots_to_messages_that_wait() {
    let limit = Limit { calls: 10, window_ms: 1000, mode: Mode::Window };
    let mut history = History { limit, ..History::new(1) };
    for _ in 0..4 {
        let gate = |messages| limit.gate_for_others(history.state.calls(), messages, Uptime(0));
        assert_eq!(gate(Presence::Some), Gate::Open);
        let call = history.apply(Fact::CallBegun { purpose: CallPurpose::Verify, deadline_ms: 9 });
        history.apply(Fact::CallEnded { call, pause_ms: 0 });
    }
    let gate = |messages| limit.gate_for_others(history.state.calls(), messages, Uptime(0));
    assert_eq!(gate(Presence::Some), Gate::OpensAt(Uptime(1001)));
    assert_eq!(gate(Presence::None), Gate::Open);
}

#[test]
fn the_time_until_a_turn_is_reckoned_from_the_slots_that_are_taken() {
    let limit = Limit { calls: 2, window_ms: 1000, mode: Mode::Window };
    let mut history = History { limit, ..History::new(1) };
    let eta = |history: &History, position| {
        limit.eta_ms(history.state.calls(), position, Uptime(history.now))
    };
    assert_eq!([1, 2, 3, 5].map(|position| eta(&history, position)), [0, 0, 1000, 2000]);
    let call = history.apply(Fact::CallBegun { purpose: CallPurpose::Probe, deadline_ms: 9 });
    history.apply(Fact::CallEnded { call, pause_ms: 0 });
    history.now = 400;
    assert_eq!([1, 2, 3].map(|position| eta(&history, position)), [0, 600, 1000]);
}
