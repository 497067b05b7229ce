//! Random histories: each fact is one that could have been decided on the state at hand.

mod groups;
pub mod outbound;
mod releases;

use std::collections::BTreeMap;

use crate::formula::{self, CANON, Fingerprint, Formula, Rules};
use crate::ids::{Epoch, Lsn, MessageId, QueueName};
use crate::record::{AcceptedFormula, Fact, FlowStep, Record, Selection, SpentKey, Touched};
use crate::state::State;
use crate::state::formulas::Whereabouts;
use crate::state::idempotency::KeyWhereabouts;
use crate::state::outlook::Phase;
use crate::time::{Moment, Timestamp, Uptime};

/// Few, so that they are withdrawn and come again.
pub const MAKE_UPS: u8 = 24;
/// Few, so that they expire and are spent again.
pub const KEYS: u8 = 10;

pub fn fingerprint(make_up: u8) -> Fingerprint {
    // Two shards, and the words of the digest differ.
    let mut bytes = [make_up; 32];
    bytes[0] = make_up % 2;
    Fingerprint(bytes)
}

pub fn key(name: u8) -> [u8; 32] {
    [name; 32]
}

/// What a log delivers.
#[derive(Clone)]
pub enum Entry {
    Record(Lsn, Box<Record>),
    Loss(Lsn, Epoch),
}

impl Entry {
    pub fn lsn(&self) -> Lsn {
        match self {
            Entry::Record(lsn, _) | Entry::Loss(lsn, _) => *lsn,
        }
    }
}

/// A history in the making.
pub struct History {
    pub random: fastrand::Rng,
    /// The state that the entries add up to, which never rests on a snapshot.
    pub whole: State,
    pub entries: Vec<Entry>,
    /// The state before records were lost, on which records go on to be decided until a reign
    /// begins that knows of the loss.
    unaware: Option<State>,
    lsn: Lsn,
    now: Moment,
    formula: Formula,
    has_losses: bool,
    /// Of all formulas ever accepted, those that were lost included.
    fingerprints: BTreeMap<Lsn, Fingerprint>,
}

impl History {
    pub fn new(seed: u64, has_losses: bool) -> History {
        let body = br#"{"name": "n", "materials": [{"name": "m", "concentration": 1}]}"#;
        let checked = formula::parse(body, &Rules { concentration_max: 100 });
        History {
            random: fastrand::Rng::with_seed(seed),
            whole: State::default(),
            entries: Vec::new(),
            unaware: None,
            lsn: Lsn::ZERO,
            now: Moment { wall: Timestamp(1_000_000), uptime: Uptime(0) },
            formula: checked.expect("valid").formula,
            has_losses,
            fingerprints: BTreeMap::new(),
        }
    }

    /// Some time passes and something is decided, or records are lost; the new entries.
    pub fn step(&mut self) -> Vec<Entry> {
        let from = self.entries.len();
        let ms = self.random.u64(..60);
        self.pass_ms(ms);
        if self.has_losses && self.unaware.is_none() && self.random.u8(..30) == 0 {
            self.lose();
        }
        self.facts().into_iter().for_each(|fact| self.record(fact));
        self.entries[from..].to_vec()
    }

    pub fn pass_ms(&mut self, ms: u64) {
        self.now.wall = self.now.wall.plus_ms(ms);
        self.now.uptime = self.now.uptime.plus_ms(ms);
    }

    /// A segment ends, whose seal takes an LSN too.
    pub fn seal(&mut self) -> Lsn {
        self.lsn = self.lsn.next();
        self.lsn
    }

    pub fn record(&mut self, fact: Fact) {
        self.lsn = self.lsn.next();
        self.note(self.lsn, &fact);
        let record = Box::new(Record { at: self.now, fact });
        if let Some(unaware) = &mut self.unaware {
            unaware.apply(self.lsn, &record);
        }
        self.whole.apply(self.lsn, &record);
        self.whole.check_invariants();
        self.entries.push(Entry::Record(self.lsn, record));
        self.unaware.take_if(|_| !self.whole.is_bereft());
    }

    pub fn spend_in_batch(&mut self, name: u8, expires: Uptime) {
        let key = SpentKey { key: key(name), request: key(name), expires };
        let (outcomes, request_id) = (Vec::new(), "r".into());
        self.record(Fact::BatchAnswered { key, outcomes, preceding: 0, request_id });
    }

    /// Some records are decided and applied, and then lost.
    fn lose(&mut self) {
        let mut unaware = self.whole.clone();
        for _ in 0..self.random.u8(1..12) {
            std::mem::swap(&mut unaware, &mut self.whole);
            let facts = self.facts();
            std::mem::swap(&mut unaware, &mut self.whole);
            for fact in facts {
                self.lsn = self.lsn.next();
                self.note(self.lsn, &fact);
                unaware.apply(self.lsn, &Record { at: self.now, fact });
            }
        }
        self.lsn = self.lsn.next();
        let known_from = Epoch(unaware.epoch().0 + 3);
        self.whole.note_loss(known_from);
        self.entries.push(Entry::Loss(self.lsn, known_from));
        self.unaware = Some(unaware);
    }

    fn note(&mut self, lsn: Lsn, fact: &Fact) {
        if let Some(accepted) = fact.acceptance() {
            self.fingerprints.insert(lsn, accepted.fingerprint);
        }
    }

    /// The state on which is decided.
    fn state(&self) -> &State {
        self.unaware.as_ref().unwrap_or(&self.whole)
    }

    /// One group; empty if what was drawn is not possible now.
    fn facts(&mut self) -> Vec<Fact> {
        match self.random.u8(..5) {
            0 => return self.releases(),
            1..=2 => return self.outbound(),
            _ => {}
        }
        self.fact().into_iter().collect()
    }

    fn fact(&mut self) -> Option<Fact> {
        match self.random.u8(..24) {
            0..=6 => self.acceptance(),
            7..=8 => self.withdrawal(),
            9 => {
                let key = self.free_key()?;
                let (outcomes, request_id) = (Vec::new(), "r".into());
                Some(Fact::BatchAnswered { key, outcomes, preceding: 0, request_id })
            }
            10..=13 => self.lease(QueueName::FORMULAS, 5),
            14..=20 => self.settlement(),
            21 => Some(self.dead_letters()),
            22 => {
                let digest = self.state().digest();
                // Behind a loss nobody compares, so there it may say anything.
                Some(Fact::Digest { digest })
            }
            _ => Some(Fact::Opened { epoch: Epoch(self.state().epoch().0 + 1) }),
        }
    }

    fn acceptance(&mut self) -> Option<Fact> {
        let fingerprint = fingerprint(self.random.u8(..MAKE_UPS));
        if self.state().formulas().find(&fingerprint) != Whereabouts::Below {
            return None;
        }
        let key = if self.random.bool() { self.free_key() } else { None };
        let flow = if self.random.bool() { vec![FlowStep::Seal] } else { Vec::new() };
        let formula = self.formula.clone();
        let accepted = AcceptedFormula { canon: CANON, fingerprint, formula, key, flow };
        Some(match self.random.u8(..4) {
            0 => Fact::FormulaImported { accepted, accepted_at: Timestamp(7) },
            _ => Fact::FormulaAccepted(accepted),
        })
    }

    fn withdrawal(&mut self) -> Option<Fact> {
        let fingerprint = fingerprint(self.random.u8(..MAKE_UPS));
        match self.state().formulas().find(&fingerprint) {
            Whereabouts::Stored(formula) => Some(Fact::FormulaWithdrawn { formula, fingerprint }),
            Whereabouts::Below => None,
        }
    }

    fn free_key(&mut self) -> Option<SpentKey> {
        let key = key(self.random.u8(..KEYS));
        let is_free = self.state().keys().find(&key, self.now.uptime) == KeyWhereabouts::Below;
        // The retention is changed now and then, so keys do not expire in order.
        let expires = self.now.uptime.plus_ms(self.random.u64(1..1500));
        is_free.then_some(SpentKey { key, request: key, expires })
    }

    fn lease(&mut self, name: &'static str, max: usize) -> Option<Fact> {
        let (max, token) = (self.random.usize(1..=max), self.random.u64(..));
        let queue = self.state().queue(name).expect("built in");
        let messages = touched(queue.leasable(self.now.uptime, max));
        let lease_ms = self.random.u64(1..400);
        let queue = named(name);
        let lease = Fact::Leased { queue, messages, lease_ms, attempts_max: 2, token };
        let Fact::Leased { messages, .. } = &lease else { unreachable!("made above") };
        (!messages.is_empty()).then_some(lease)
    }

    fn settlement(&mut self) -> Option<Fact> {
        let queue = self.any_queue();
        let mut ids = self.held(queue);
        ids.retain(|_| self.random.bool());
        (!ids.is_empty()).then(|| self.settlement_of(queue, ids))
    }

    /// What consumers of a queue hold.
    fn held(&self, queue: &str) -> Vec<MessageId> {
        let queue = self.state().queue(queue).expect("built in");
        let held = queue.peek(Phase::Leased, self.now, None, usize::MAX);
        held.into_iter().map(|seen| seen.id).collect()
    }

    fn settlement_of(&mut self, queue: &'static str, ids: Vec<MessageId>) -> Fact {
        let (queue, messages) = (named(queue), touched(ids.clone()));
        let delay_ms = self.random.u64(..300);
        match self.random.u8(..9) {
            0..=2 => Fact::Acked { queue, messages },
            3..=4 => Fact::Nacked { queue, messages, delay_ms, reason: "no".into() },
            5..=6 => Fact::Deferred { queue, messages, delay_ms },
            7 => Fact::Condemned { queue, messages, reason: "never".into() },
            _ => Fact::Extended { queue, messages: ids, lease_ms: self.random.u64(1..400) },
        }
    }

    /// A queue on which messages come, mostly that of consumers outside.
    fn any_queue(&mut self) -> &'static str {
        let queues = [QueueName::FORMULAS, QueueName::FORMULAS, QueueName::SEALS, QueueName::HOOKS];
        queues[self.random.usize(..queues.len())]
    }

    fn dead_letters(&mut self) -> Fact {
        let name = self.any_queue();
        let queue = self.state().queue(name).expect("built in");
        let mut ids = queue.dead_letters(self.now.uptime);
        ids.retain(|_| self.random.bool());
        let which = if self.random.bool() { Selection::All } else { Selection::Ids(ids) };
        let queue = named(name);
        if self.random.bool() {
            Fact::Redriven { queue, which }
        } else {
            Fact::Purged { queue, which }
        }
    }
}

fn named(queue: &str) -> QueueName {
    queue.parse().expect("well formed")
}

fn touched(ids: Vec<MessageId>) -> Vec<Touched> {
    ids.into_iter().map(|message| Touched { message, before: message.0 }).collect()
}
