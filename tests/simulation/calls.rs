//! Seals and hooks in virtual time: the authority and the receivers play against the engine,
//! which is cut off at any call on its disk.
//!
//! The built-in workers are tasks on a runtime; here their steps are jobs of a [`Service`], each a
//! command with what follows from its reply, in an order that chance decides. What lasts is in
//! the [`tape::Tape`], what a crash takes is in [`Hands`], and what is on its way to others goes
//! on without us.
//!
//! At any time the authority gets no more calls than it allows. At the end everything is left to
//! run down, and then every request has its signature or has failed, everybody who was to be told
//! was told, and as often as was due.

mod authority;
mod clients;
mod end;
mod hooker;
pub(crate) mod machine;
mod receivers;
mod sealer;
mod tally;
mod tape;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use sillage::engine::command::seals::{
    Asked, CallBegin, SealBegin, SealEnd, SealSettle, SealSubject,
};
use sillage::engine::core::{Core, Decided};
use sillage::engine::decide::deaths::Death;
use sillage::engine::decide::gate::Limit;
use sillage::engine::decide::hooks::{DeliveryLease, DeliveryOutcome, HookCommand};
use sillage::engine::decide::{Command, Policy};
use sillage::engine::findings::Findings;
use sillage::ids::{Lsn, MessageId, QueueName, Receipt};
use sillage::limits::SEAL_TEXT_BYTES_MAX;
use sillage::record::FlowStep;
use sillage::time::Uptime;

use authority::{Authority, Mood, some_limit};
use machine::{Machine, ask};
use receivers::Receivers;
pub use tally::Tally;
use tape::Tape;

/// A store with its workers, and all others.
pub struct Service {
    machine: Machine,
    authority: Authority,
    receivers: Receivers,
    tape: Tape,
    terms: Terms,
    hands: Hands,
    /// What happens by itself, by time.
    events: BTreeMap<(u64, u64), Event>,
    event_number: u64,
    /// Requests that were answered 200 when their seal came, and those that were answered 202.
    answered: [BTreeSet<MessageId>; 2],
    /// Callers who were answered 202 while their seal was being recorded as given to them.
    left_late: BTreeSet<MessageId>,
    /// The authority wants no call up to then, by outside time.
    quiet_until: u64,
    /// Bytes that are added to texts: many, where the disk is to be full soon.
    text_bytes: usize,
    tally: Tally,
}

/// What is configured, for a reign.
#[derive(Clone, Copy)]
struct Terms {
    limit: Limit,
    deadline_ms: u64,
    lease_ms: u64,
    attempts_max: u32,
    mood: Mood,
    policy: Policy,
}

/// What is in the memory of the process.
#[derive(Default)]
struct Hands {
    jobs: Vec<Job>,
    /// Workers that wait for the reply to their command.
    beginning: bool,
    leasing: bool,
    announcing: bool,
    busy: BTreeSet<MessageId>,
    texts: BTreeSet<[u8; 32]>,
    waiting: BTreeMap<MessageId, Claim>,
    deliveries: usize,
    /// When the leases of messages lapse that are called for.
    lease_ends: BTreeMap<MessageId, Uptime>,
    /// How often in a row the other kind had its turn while one waited: fresh, retried.
    passed_over: [u32; 2],
}

/// Whether a caller who waits is being answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Claim {
    Free,
    Claimed,
}

/// A command that somebody sends, with what he needs to know when it is answered.
#[derive(Clone)]
enum Job {
    Request {
        text: Box<str>,
        webhook: bool,
        key: bool,
        waits: bool,
    },
    Begin {
        begin: SealBegin,
        subject: SealSubject,
        candidates: [bool; 2],
    },
    End {
        end: Box<SealEnd>,
        subject: SealSubject,
    },
    Settle {
        settle: SealSettle,
    },
    Owe {
        sealed: Lsn,
        requests: Vec<MessageId>,
    },
    BeginCall(CallBegin),
    EndCall {
        call: Lsn,
        pause_ms: u64,
    },
    Announce(QueueName, Vec<Death>),
    LeaseDeliveries(DeliveryLease),
    SettleDelivery(Receipt, DeliveryOutcome),
    /// One whose reply nobody needs.
    Other(Command),
}

/// What happens by itself.
enum Event {
    /// A call reaches the authority.
    Arrives(Lsn),
    /// The same, of a call that we were cut off from.
    ArrivesAlone(Lsn),
    /// A call for a message is over.
    Over(Box<sealer::Flight>),
    /// Any other call is over.
    OtherOver(Lsn, u64),
    /// A caller has waited long enough, or longer than that.
    Leaves(MessageId),
    LeavesAnyway(MessageId),
    /// A call to a hook is over.
    Told(Receipt, DeliveryOutcome),
    /// What the log did not take is tried again.
    Again(Job),
}

impl Event {
    /// Whether it happens outside, where no crash of ours stops it.
    fn is_outside(&self) -> bool {
        matches!(self, Event::Arrives(_) | Event::ArrivesAlone(_))
    }
}

impl Service {
    pub fn new(seed: u64) -> Service {
        let mut machine = Machine::new(seed);
        let terms = some_terms(&mut machine.random);
        let text_bytes = if machine.random.u8(..3) == 0 { SEAL_TEXT_BYTES_MAX / 2 } else { 0 };
        Service {
            machine,
            authority: Authority::default(),
            receivers: Receivers::default(),
            tape: Tape::default(),
            terms,
            hands: Hands::default(),
            events: BTreeMap::new(),
            event_number: 0,
            answered: Default::default(),
            left_late: BTreeSet::new(),
            quiet_until: 0,
            text_bytes,
            tally: Tally::default(),
        }
    }

    /// Several reigns, then peace, until nothing is left to do.
    pub fn run(mut self) -> Tally {
        for _ in 0..self.machine.random.u32(2..5) {
            self.reign();
        }
        self.run_down();
        self.tally()
    }

    fn reign(&mut self) {
        let limit = self.terms.limit;
        // Operators change their mind now and then.
        let limit =
            if self.machine.random.bool() { some_limit(&mut self.machine.random) } else { limit };
        let shrinks = limit.calls < self.terms.limit.calls;
        self.tally.limit_smaller += u64::from(shrinks);
        self.terms = Terms { limit, ..some_terms(&mut self.machine.random) };
        let mut core = self.open();
        for _ in 0..self.machine.random.u32(5..60) {
            // To the next moment at which something happens, or to any.
            let ms = match self.machine.random.u8(..3) {
                0 => self.next_ms(&core).unwrap_or(1).min(300),
                _ => self.machine.random.u64(0..200),
            };
            self.pass(ms, &core);
            self.machine.hinder(&mut core);
            let is_compacting = self.machine.random.u8(..12) == 0;
            if (is_compacting && self.machine.compact(&mut core).is_break())
                || self.batch(&mut core, clients::Eagerness::Usual).is_break()
            {
                drop(core);
                return self.crash();
            }
        }
        self.machine.end(core);
        self.let_go();
    }

    fn open(&mut self) -> Core {
        loop {
            let core = self.machine.open(self.terms.policy);
            self.machine.check(&core);
            if self.tape.read(&core).is_ok() {
                return core;
            }
            assert!(self.machine.is_hindered(), "what is durable can be read");
            self.machine.crash();
        }
    }

    fn crash(&mut self) {
        self.tally.crashes += 1;
        self.machine.crash();
        self.let_go();
    }

    /// The process is gone. What it had sent may still arrive, later than it would have, but by
    /// its deadline.
    fn let_go(&mut self) {
        self.hands = Hands::default();
        let now = self.machine.ms();
        for ((at, _), event) in std::mem::take(&mut self.events) {
            match event {
                Event::Arrives(call) => {
                    self.tally.arrive_alone += 1;
                    let latest = now + self.terms.deadline_ms;
                    let at = match self.machine.random.u8(..4) {
                        0..=1 => latest,
                        2 => self.machine.random.u64(now..=latest),
                        _ => at.min(latest),
                    };
                    self.at(at, Event::ArrivesAlone(call));
                }
                event if event.is_outside() => self.at(at, event),
                _ => {}
            }
        }
        // What should have arrived while we were down has.
        self.arrivals(now);
    }

    fn at(&mut self, ms: u64, event: Event) {
        self.event_number += 1;
        self.events.insert((ms, self.event_number), event);
    }

    /// Lets time pass, and what falls into it happen.
    fn pass(&mut self, ms: u64, core: &Core) {
        let until = self.machine.ms() + ms;
        while let Some((at, event)) = self.next_event(until) {
            let now = self.machine.ms();
            self.machine.clock.advance_ms(at.saturating_sub(now));
            self.happen(event, core);
        }
        let now = self.machine.ms();
        self.machine.clock.advance_ms(until.saturating_sub(now));
    }

    fn next_event(&mut self, until: u64) -> Option<(u64, Event)> {
        let first = self.events.first_entry().filter(|first| first.key().0 <= until)?;
        let ((at, _), event) = first.remove_entry();
        Some((at, event))
    }

    /// Lets the authority have what arrives up to `now` while nobody of us is there.
    fn arrivals(&mut self, now: u64) {
        while let Some((at, event)) = self.next_event(now) {
            if let Event::Arrives(call) | Event::ArrivesAlone(call) = event {
                self.authority.arrive(call, at);
            }
        }
    }

    fn happen(&mut self, event: Event, core: &Core) {
        match event {
            Event::Arrives(call) | Event::ArrivesAlone(call) => {
                let now = self.machine.ms();
                self.authority.arrive(call, now);
            }
            Event::Over(flight) => self.over(*flight, core),
            Event::OtherOver(call, pause_ms) => {
                self.hands.jobs.push(Job::EndCall { call, pause_ms });
            }
            Event::Leaves(request) => self.leaves(request),
            Event::LeavesAnyway(request) => self.leaves_anyway(request),
            Event::Told(receipt, outcome) => {
                self.hands.jobs.push(Job::SettleDelivery(receipt, outcome));
            }
            Event::Again(job) => self.hands.jobs.push(job),
        }
    }

    /// Some commands under one sync. Breaks if the log failed.
    fn batch(&mut self, core: &mut Core, eagerness: clients::Eagerness) -> ControlFlow<()> {
        if !self.tape.has_power(core) {
            assert!(self.machine.is_hindered(), "what is durable can be read");
            return ControlFlow::Break(());
        }
        self.workers(core);
        let mut waiting = Vec::new();
        for _ in 0..self.machine.random.usize(1..8) {
            let Some(job) = self.next_job(core, eagerness) else { break };
            let (command, before) = (self.command(&job), self.uptime(core));
            let Ok(pending) = core.execute(command, Findings::default()) else {
                return ControlFlow::Break(());
            };
            waiting.push((job, before, pending));
        }
        if core.sync().is_err() {
            return ControlFlow::Break(());
        }
        if self.tape.read(core).is_err() {
            assert!(self.machine.is_hindered(), "what is durable can be read");
            return ControlFlow::Break(());
        }
        for (job, before, pending) in waiting {
            let decided = core.release(pending).expect("everything is durable");
            self.told(job, decided, before, core);
        }
        if self.machine.random.u8(..4) == 0 && core.mark().is_err() {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }

    /// Each worker looks for something to do.
    fn workers(&mut self, core: &Core) {
        self.sealer(core);
        self.hooker(core);
        self.announcer(core);
    }

    fn next_job(&mut self, core: &Core, eagerness: clients::Eagerness) -> Option<Job> {
        let jobs = self.hands.jobs.len();
        let is_workers = jobs > 0 && self.machine.random.u8(..3) > 0;
        match eagerness.ask(self, core) {
            Some(asked) if !is_workers => Some(asked),
            _ if jobs > 0 => Some(self.hands.jobs.swap_remove(self.machine.random.usize(0..jobs))),
            asked => asked,
        }
    }

    fn command(&self, job: &Job) -> Command {
        match job.clone() {
            Job::Request { text, webhook, key, .. } => self.request(text, webhook, key),
            Job::Begin { begin, .. } => Command::BeginSeal(begin),
            Job::End { end, .. } => Command::EndSeal(end),
            Job::Settle { settle } => Command::SettleSealed(Box::new(settle)),
            Job::Owe { sealed, requests } => Command::OweAnswers { sealed, requests },
            Job::BeginCall(begin) => Command::BeginCall(begin),
            Job::EndCall { call, pause_ms } => Command::EndCall { call, pause_ms },
            Job::Announce(queue, deaths) => Command::AnnounceDeaths(queue, deaths),
            Job::LeaseDeliveries(lease) => Command::Hook(HookCommand::Lease(lease)),
            Job::SettleDelivery(receipt, outcome) => {
                Command::Hook(HookCommand::Settle(vec![receipt], outcome))
            }
            Job::Other(command) => command,
        }
    }

    fn told(&mut self, job: Job, decided: Decided, before: Uptime, core: &Core) {
        match job {
            Job::Request { text, waits, .. } => self.told_request(&text, waits, decided),
            Job::Begin { .. }
            | Job::End { .. }
            | Job::Settle { .. }
            | Job::Owe { .. }
            | Job::BeginCall(_)
            | Job::EndCall { .. } => self.told_sealer(job, decided, before, core),
            Job::Announce(..) | Job::LeaseDeliveries(_) | Job::SettleDelivery(..) => {
                self.told_hooker(job, decided, core);
            }
            Job::Other(command) => self.told_other(&command, decided),
        }
    }

    fn uptime(&self, core: &Core) -> Uptime {
        ask(core, &self.machine.clock, |_, now| now.uptime)
    }

    /// The log has no room: the worker tries again.
    fn again(&mut self, job: Job) {
        self.tally.disk_full += 1;
        let at = self.machine.ms() + self.machine.random.u64(1..300);
        self.at(at, Event::Again(job));
    }

    /// What a request's record says of whom to call.
    fn asked(&self, message: MessageId) -> Asked {
        use sillage::engine::command::seals::Telling;
        let request = &self.tape.requests[&message.0];
        let webhook = request.asked.webhook_url.as_ref();
        Asked { message, telling: webhook.map_or(Telling::Nothing, |_| Telling::Hook) }
    }
}

fn some_terms(random: &mut fastrand::Rng) -> Terms {
    let deadline_ms = random.u64(10..400);
    let flow: &[FlowStep] = if random.bool() { &[FlowStep::Seal] } else { &[] };
    let attempts_max = random.u32(2..6);
    Terms {
        limit: some_limit(random),
        deadline_ms,
        // Mostly longer than the call takes, but the end has yet to be recorded.
        lease_ms: deadline_ms + random.u64(0..500),
        attempts_max,
        mood: match random.u8(..6) {
            0 => Mood::Down,
            1..=2 => Mood::Ill,
            _ => Mood::Well,
        },
        policy: Policy { attempts_max: 2, retention_ms: 5_000, flow },
    }
}
