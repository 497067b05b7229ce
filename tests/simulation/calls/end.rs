//! The end: everything is left to run down, and then it is counted what became of whom.

use std::sync::Arc;

use sillage::engine::core::Core;
use sillage::engine::decide::gate::Gate;
use sillage::ids::{MessageId, QueueName};
use sillage::record::hooks::Recipient;
use sillage::state::State;
use sillage::time::Moment;

use super::authority::Mood;
use super::clients::Eagerness;
use super::machine::ask;
use super::tape::Request;
use super::{Service, sealer, some_terms};

/// Calls that are for no message, while things run down.
const VERIFICATIONS: u32 = 30;
/// Turns after which things should have run down. Each has some command or lets time pass to
/// the next event.
const TURNS_MAX: u32 = 20_000;

impl Service {
    /// Goes on without faults and new requests until nothing is left to do.
    pub(super) fn run_down(&mut self) {
        self.machine.make_peace();
        self.let_go();
        let terms = some_terms(&mut self.machine.random);
        self.terms = super::Terms { mood: Mood::Ill, attempts_max: 4, ..terms };
        let mut core = self.open();
        let began = self.machine.ms();
        let bound_ms = self.bound_ms(&core);
        let mut verifications = VERIFICATIONS;
        for turn in 0.. {
            assert!(turn < TURNS_MAX, "it never comes to rest");
            let eagerness = match self.machine.random.u8(..8) == 0 && verifications > 0 {
                true => Eagerness::Verifying,
                false => Eagerness::Nothing,
            };
            verifications -= u32::from(eagerness == Eagerness::Verifying);
            self.workers(&core);
            if !self.hands.jobs.is_empty() || eagerness == Eagerness::Verifying {
                assert!(self.batch(&mut core, eagerness).is_continue(), "nothing hinders the log");
                continue;
            }
            let Some(ms) = self.next_ms(&core) else { break };
            self.pass(ms, &core);
        }
        let took_ms = self.machine.ms() - began;
        assert!(took_ms <= bound_ms, "{took_ms} ms for what takes {bound_ms} at the most");
        self.machine.check(&core);
        let clock = Arc::clone(&self.machine.clock);
        ask(&core, &clock, |state, now| self.judge(state, now));
        core.close().expect("nothing hinders the close");
    }

    /// Milliseconds until something happens; `None`: nothing will.
    pub(super) fn next_ms(&mut self, core: &Core) -> Option<u64> {
        let event = self.events.keys().next().map(|(at, _)| at.saturating_sub(self.machine.ms()));
        let inner = ask(core, &self.machine.clock, |state, now| {
            let queues = state.queues().filter(|(name, _)| name.as_str() != "releases");
            let due = queues.filter_map(|(_, queue)| queue.next_due(now.uptime)).min();
            let gate = match self.terms.limit.gate(state.calls(), now.uptime) {
                Gate::OpensAt(at) if alive(state, QueueName::SEALS, now) > 0 => Some(at),
                _ => None,
            };
            due.into_iter().chain(gate).min().map(|at| at.since_ms(now.uptime))
        });
        let first = event.into_iter().chain(inner).min()?;
        // Often a moment too early, when nothing may happen yet.
        let early_ms = if self.machine.random.bool() { 1 } else { 0 };
        Some(first.saturating_sub(early_ms).max(1))
    }

    /// However the calls fall, each message has had its attempts by then.
    fn bound_ms(&self, core: &Core) -> u64 {
        let super::Terms { limit, deadline_ms, lease_ms, attempts_max, .. } = self.terms;
        let messages = ask(core, &self.machine.clock, |state, now| {
            let hooks = alive(state, QueueName::HOOKS, now);
            (alive(state, QueueName::SEALS, now) as u64, hooks as u64)
        });
        let attempts = u64::from(attempts_max) + 1;
        // One in five attempts does not count; twice as many are a rare run of bad luck.
        let calls = 2 * messages.0 * attempts + u64::from(VERIFICATIONS);
        let windows = calls / u64::from(limit.calls) + 2;
        let seals_ms = windows * (limit.window_ms + deadline_ms + lease_ms + 2000);
        let deliveries = messages.1 + 12 * messages.0 + 40;
        30_000 + seals_ms + deliveries * 8_000
    }

    /// What became of whom.
    fn judge(&mut self, state: &State, now: Moment) {
        for name in [QueueName::SEALS, QueueName::HOOKS] {
            assert_eq!(alive(state, name, now), 0, "nobody on {name} waits any more");
        }
        for (name, queue) in state.queues() {
            assert!(queue.unannounced_by(now.uptime, 1).is_empty(), "all of {name} are told of");
            for id in queue.dead_letters(now.uptime) {
                let is_told = self.tape.announced.contains(&(name.as_str().into(), id));
                assert!(is_told, "message {id} of {name} is a dead letter that was told of");
            }
        }
        assert!(self.tape.running.is_empty(), "every call of the last reign has ended");
        let mut unheard = 0;
        for (lsn, request) in &self.tape.requests {
            unheard += self.judge_request(state, MessageId(*lsn), request, now);
        }
        self.tally.unheard += unheard;
        self.judge_formulas(state, now);
        self.judge_deliveries(state, now);
    }

    /// Gives 1 if the caller left while his seal was recorded as given to him, and the process
    /// ended before a call to him was owed: then only asking tells him.
    fn judge_request(&self, state: &State, id: MessageId, request: &Request, now: Moment) -> u64 {
        let queue = state.queue(QueueName::SEALS).expect("built in");
        let (is_dead, is_settled) =
            (queue.is_dead(id, now.uptime), self.tape.settled.contains(&id));
        let seal = self.tape.sealed.get(&request.asked.text_key);
        if request.asked.sealed.is_some() {
            assert_eq!(request.answers, [0; 2], "request {id} was answered at once");
            return 0;
        }
        assert!(!(is_dead && is_settled), "request {id} has an end, and only one");
        let has_end = is_dead || is_settled || self.tape.purged.contains(&id);
        assert!(has_end, "request {id} is lost");
        if let Some((_, seal)) = seal {
            assert_eq!(*seal.signature, *sealer::signature(&request.asked.text));
        }
        let [with, without] = request.answers;
        if request.asked.webhook_url.is_none() {
            return 0;
        }
        assert_eq!(without, request.deaths, "each death of request {id} is told to its caller");
        if !is_settled {
            assert_eq!(with, 0, "request {id} has no signature to tell of");
            return 0;
        }
        let (_, seal) = seal.expect("what is settled is sealed");
        if !seal.inline.contains(&id) {
            assert!(!self.answered[0].contains(&id), "request {id} was told by a call");
            assert_eq!(with, 1, "the caller of request {id} is told once");
            return 0;
        }
        if self.answered[0].contains(&id) {
            assert_eq!(with, 0, "the caller of request {id} was answered and is called, too");
        }
        assert!(with <= 1, "the caller of request {id} is told once");
        u64::from(self.left_late.contains(&id) && with == 0)
    }

    fn judge_formulas(&self, state: &State, now: Moment) {
        let queue = state.queue(QueueName::SEALS).expect("built in");
        for (lsn, text) in &self.tape.formulas {
            let id = MessageId(*lsn);
            let has_end = self.tape.seal_of(text).is_some() && !queue.is_dead(id, now.uptime)
                || queue.is_dead(id, now.uptime)
                || self.tape.withdrawn.contains(lsn)
                || self.tape.purged.contains(&id);
            assert!(has_end, "formula {lsn} waits for its seal for ever");
        }
    }

    fn judge_deliveries(&self, state: &State, now: Moment) {
        let queue = state.queue(QueueName::HOOKS).expect("built in");
        for (id, owed) in &self.tape.owed {
            if self.tape.delivered.contains(id) {
                assert!(self.receivers.has(*id, owed), "delivery {id} was taken by somebody");
                continue;
            }
            let is_dropped = match owed.to {
                Recipient::Hook(hook) => {
                    self.tape.dropped.contains(id) && self.tape.hooks_deleted.contains(&hook)
                }
                Recipient::SealRequest(_) => false,
            };
            let is_dead = queue.is_dead(*id, now.uptime);
            assert!(is_dead || is_dropped, "delivery {id} to {:?} is lost", owed.to);
        }
    }
}

/// Messages that have not come to an end.
fn alive(state: &State, name: &str, now: Moment) -> usize {
    let counts = state.queue(name).expect("built in").counts(now.uptime);
    counts.ready + counts.leased + counts.delayed
}
