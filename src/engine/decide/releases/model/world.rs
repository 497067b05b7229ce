//! The world that the model explores: the transaction as it is on record, whoever carries it out,
//! the nodes, and the calls that are under way between them.
//!
//! Time is the records' own. It passes only where somebody waits, and then just as far as it has
//! to: whatever a call may do within its deadline is a step of its own, possible at each moment
//! until then. What lies behind it counts alike however long ago it was.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::engine::command::releases::{News, Task};
use crate::engine::decide::releases::going::{Follows, Going};
use crate::ids::Lsn;
use crate::record::Fact;
use crate::record::releases::{
    Action, BegunTransaction, End, EndedTransaction, NodeAnswer, NodeSet, Origin, Presence, Seen,
    Sight, Step,
};
use crate::state::releases::{Node, Phase, Standing, Transaction};
use crate::time::{Moment, Timestamp, Uptime};

/// The transaction's id.
const ID: Lsn = Lsn(7);
/// A node that is left alone is so for this long.
const SHUNNED_MS: u64 = 5_000;

/// What is explored.
#[derive(Clone, Debug)]
pub struct Setting {
    pub action: Action,
    /// Who has the group before; as many as there are nodes.
    pub had: Vec<bool>,
    pub deadline_ms: u64,
    pub origin: Origin,
    pub tries_max: u32,
    /// Whether nodes understand keys. Then calls are doubled at any later time as well.
    pub is_keyed: bool,
    /// How much may go wrong.
    pub faults: u8,
    pub crashes: u8,
    /// How often somebody tries again by hand.
    pub retries: u8,
}

/// Whoever carries the transaction out.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Driver {
    /// Nobody; the message can be leased from then on, if at all.
    None(Option<Uptime>),
    /// Looks at the nodes that are left, and has seen others.
    Look { left: Vec<u8>, seen: Vec<(u8, Glance)> },
    /// Has calls to send, and then awaits answers.
    Call { step: Step, unsent: Vec<u8>, round: u32 },
    /// Does nothing before then.
    Wait(Uptime),
}

/// A [`Sight`] that can be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Glance {
    Told(bool),
    Unseen,
    Shunned,
}

/// How a node treats what it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    Up,
    /// It cannot be reached, neither by calls nor by looks.
    Down,
    /// It refuses all calls.
    Refusing,
    /// It answers calls with 500 and does nothing. It can be looked at.
    Broken,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Peer {
    pub has: bool,
    pub mode: Mode,
    /// The highest number of a call, and its answer; only if it understands keys.
    pub known: u32,
    pub said: Option<bool>,
}

/// A call under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Flight {
    pub node: u8,
    pub step: Step,
    pub round: u32,
    /// It has no effect from then on; `None`: it may have one at any time.
    pub expires: Option<Uptime>,
    pub awaited: Awaited,
}

/// Whether somebody waits for the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Awaited {
    /// And it may come.
    Yes,
    /// It will not come.
    InVain,
    /// Nobody does.
    No,
}

/// All of it.
#[derive(Clone)]
pub struct World {
    pub it: Transaction,
    pub now: Uptime,
    pub driver: Driver,
    pub peers: Vec<Peer>,
    pub flights: Vec<Flight>,
    pub faults: u8,
    pub crashes: u8,
    pub retries: u8,
}

impl World {
    /// As it is when the transaction has just been begun.
    pub fn new(setting: &Setting) -> World {
        let begun = BegunTransaction {
            group: "g".parse().expect("a name"),
            action: setting.action,
            nodes: (0..setting.had.len()).map(|node| format!("node{node}").into()).collect(),
            deadline_ms: setting.deadline_ms,
            tries_max: setting.tries_max,
            origin: setting.origin,
            key: None,
        };
        let peer = |&has: &bool| Peer { has, mode: Mode::Up, known: 0, said: None };
        World {
            it: Transaction::new(begun, Timestamp(0)),
            now: Uptime(0),
            driver: Driver::None(Some(Uptime(0))),
            peers: setting.had.iter().map(peer).collect(),
            flights: Vec::new(),
            faults: setting.faults,
            crashes: setting.crashes,
            retries: setting.retries,
        }
    }

    fn moment(&self) -> Moment {
        Moment { wall: Timestamp(0), uptime: self.now }
    }

    /// Facts and news happen to the transaction, and what follows is recorded with them.
    pub fn go_on(&mut self, facts: Vec<Fact>, news: Vec<News>) {
        let mut going = Going::new(ID, self.it.clone(), self.moment(), 0);
        facts.into_iter().for_each(|fact| going.record(fact));
        news.into_iter().for_each(|news| going.hear(news));
        let task = match going.follow() {
            Follows::Task(task) => task,
            Follows::End(end) => {
                let reason = going.reason();
                let ended = EndedTransaction { transaction: ID, end, reason, about: None };
                going.record(Fact::TransactionEnded(ended));
                Task::Over(going.transaction.phase)
            }
        };
        // Replay and live traffic pass through the same states.
        let mut replayed = self.it.clone();
        going.facts.iter().for_each(|fact| replayed.apply(self.moment(), fact));
        assert_eq!(replayed, going.transaction, "replay leads to the same transaction");
        let delay_ms = going.facts.iter().find_map(|fact| match fact {
            Fact::TransactionDelayed { delay_ms, .. } => Some(*delay_ms),
            _ => None,
        });
        self.it = going.transaction;
        let due = delay_ms.map(|delay_ms| self.now.plus_ms(delay_ms));
        self.driver = match task {
            Task::Look(nodes) => Driver::Look { left: nodes.iter().collect(), seen: Vec::new() },
            Task::Call { step, nodes, round } => {
                Driver::Call { step, unsent: nodes.iter().collect(), round }
            }
            Task::Wait(until) => Driver::Wait(until),
            Task::Over(Phase::Running) | Task::Gone => Driver::None(Some(self.now)),
            Task::Over(_) => Driver::None(due),
            Task::Await => match &self.driver {
                Driver::Call { .. } => self.driver.clone(),
                other => panic!("nobody gives the answers that {other:?} is to await"),
            },
        };
    }

    pub fn begin_heal(&mut self) {
        self.go_on(vec![Fact::HealBegun { transaction: ID }], Vec::new());
    }

    /// Somebody tries again by hand, whoever is at it just now.
    pub fn retry(&mut self) {
        let (at, fact) = (self.moment(), Fact::TransactionRetried { transaction: ID });
        self.it.apply(at, &fact);
        if let Driver::None(due) = &mut self.driver {
            *due = Some(self.now);
        }
    }

    /// The coordinator ends at once and comes back.
    pub fn crash(&mut self) {
        self.flights.iter_mut().for_each(|flight| flight.awaited = Awaited::No);
        self.it.abandon(self.now);
        self.driver = match (self.it.phase, &self.driver) {
            (Phase::Ended(_), _) => Driver::None(None),
            (_, Driver::None(due)) => Driver::None(*due),
            _ => Driver::None(Some(self.now)),
        };
    }

    /// Notes a look, and tells of all when it is the last.
    pub fn look(&mut self, glance: Glance) {
        let Driver::Look { left, seen } = &mut self.driver else { panic!("nobody looks") };
        seen.push((left.remove(0), glance));
        if !left.is_empty() {
            return;
        }
        let seen = seen.iter().map(|&(node, glance)| Seen { node, sight: glance.sight() });
        let news = News::Seen(seen.collect());
        self.go_on(Vec::new(), vec![news]);
    }

    /// Sends the next call.
    pub fn send(&mut self) -> Flight {
        let expires = Some(self.now.plus_ms(self.it.begun.deadline_ms));
        let Driver::Call { step, unsent, round } = &mut self.driver else { panic!("no calls") };
        let node = unsent.remove(0);
        let flight = Flight { node, step: *step, round: *round, expires, awaited: Awaited::Yes };
        self.flights.push(flight.clone());
        flight
    }

    /// The answer of a call reaches who waits for it.
    pub fn answer(&mut self, node: u8, answer: NodeAnswer) {
        let reason: Box<str> = match answer {
            NodeAnswer::Done => Box::default(),
            _ => "said something".into(),
        };
        self.go_on(Vec::new(), vec![News::Answered { node, answer, reason }]);
    }

    /// A call reaches its node, and does what it does there.
    pub fn arrive(&mut self, flight: &Flight, is_keyed: bool) -> NodeAnswer {
        let action = match flight.step {
            Step::Do => self.it.begun.action,
            Step::Undo => self.it.begun.action.inverse(),
        };
        let peer = &mut self.peers[usize::from(flight.node)];
        if is_keyed && flight.round < peer.known {
            return NodeAnswer::Refused { status: 409 };
        }
        let wanted = action == Action::Create;
        let said = match peer.said {
            Some(said) if is_keyed && flight.round == peer.known => said,
            _ => peer.has != wanted,
        };
        if !(is_keyed && flight.round == peer.known) {
            peer.has = wanted;
        }
        if is_keyed {
            (peer.known, peer.said) = (flight.round, Some(said));
        }
        if said { NodeAnswer::Done } else { NodeAnswer::Already }
    }

    /// Time passes up to then. Calls that are awaited in vain are given up when they expire.
    pub fn pass(&mut self, until: Uptime) {
        self.now = self.now.max(until);
        let now = self.now;
        let is_over = |flight: &Flight| flight.expires.is_some_and(|expires| expires <= now);
        let over: Vec<Flight> = self.flights.iter().filter(|it| is_over(it)).cloned().collect();
        self.flights.retain(|flight| !is_over(flight));
        for flight in over.into_iter().filter(|flight| flight.awaited != Awaited::No) {
            self.answer(flight.node, NodeAnswer::Unknown { settles_ms: 0 });
        }
    }

    /// What makes it another world than one that looks like it, times taken from now on.
    pub fn key(&self) -> u128 {
        let half = |salt: u64| {
            let mut hasher = DefaultHasher::new();
            salt.hash(&mut hasher);
            self.hash_into(&mut hasher);
            hasher.finish()
        };
        u128::from(half(1)) << 64 | u128::from(half(2))
    }

    fn hash_into(&self, into: &mut impl Hasher) {
        let since = |at: Uptime| at.since_ms(self.now);
        let it = &self.it;
        (it.phase, it.heading, it.tries, it.undos, since(it.undo_after)).hash(into);
        for (place, node) in it.nodes.iter().enumerate() {
            let mut node = node.clone();
            node.calls = 0;
            let is_named = it.reason.contains(&*it.begun.nodes[place]);
            node.last_error = None;
            match &mut node.standing {
                Standing::Unknown { settles_at: at, .. } | Standing::Shunned { until: at } => {
                    *at = Uptime(since(*at));
                }
                _ => {}
            }
            (node, is_named).hash(into);
        }
        match &self.driver {
            Driver::None(due) => (0, due.map(since)).hash(into),
            Driver::Wait(until) => (1, since(*until)).hash(into),
            Driver::Look { left, seen } => (2, left, seen).hash(into),
            Driver::Call { step, unsent, .. } => (3, *step, unsent).hash(into),
        }
        // Of numbers only their order counts.
        let numbers = self.peers.iter().map(|peer| peer.known);
        let numbers: BTreeSet<u32> =
            numbers.chain(self.flights.iter().map(|flight| flight.round)).collect();
        let rank = |number: u32| numbers.range(..number).count();
        for peer in &self.peers {
            (peer.has, peer.mode, (peer.known > 0).then(|| rank(peer.known)), peer.said).hash(into);
        }
        let mut flights: Vec<_> = (self.flights.iter())
            .map(|it| (it.node, it.step, rank(it.round), it.expires.map(since), it.awaited))
            .collect();
        flights.sort_unstable();
        flights.hash(into);
        (self.faults, self.crashes, self.retries).hash(into);
    }
}

impl Glance {
    fn sight(self) -> Sight {
        match self {
            Glance::Told(true) => Sight::Told(Presence::Present),
            Glance::Told(false) => Sight::Told(Presence::Absent),
            Glance::Unseen => Sight::Unseen { reason: "unseen".into(), again_ms: 0 },
            Glance::Shunned => Sight::Shunned { again_ms: SHUNNED_MS },
        }
    }
}

/// The nodes whose calls are on record and not answered.
pub fn called(it: &Transaction) -> NodeSet {
    it.nodes_where(|node| matches!(node.standing, Standing::Called(_)))
}

/// Whether it has come to a good end.
pub fn is_settled(it: &Transaction) -> bool {
    matches!(it.phase, Phase::Ended(End::Succeeded | End::RolledBack))
}

/// What is known of a node.
pub fn standing_name(node: &Node) -> &'static str {
    match node.standing {
        Standing::Idle => "idle",
        Standing::Looked => "looked",
        Standing::Unseen => "unseen",
        Standing::Shunned { .. } => "shunned",
        Standing::Called(Step::Do) => "called",
        Standing::Called(Step::Undo) => "called to undo",
        Standing::Unknown { step: Step::Do, .. } => "unknown",
        Standing::Unknown { step: Step::Undo, .. } => "unknown whether undone",
        Standing::Done => "done",
        Standing::Already => "already",
        Standing::Refused => "refused",
        Standing::Unchanged => "unchanged",
        Standing::Clean => "clean",
    }
}
