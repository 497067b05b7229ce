//! The nodes, and what reaches them: whatever no crash of ours takes.
//!
//! The rules for calls are checked here, as each is sent: it was intended on record, and once; an
//! undo goes only where this transaction has been, takes back only what was not so before, and
//! comes when no other call of the transaction can have its effect there any more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sillage::engine::releases::{Action, Presence, Step};
use sillage::ids::{GroupId, Lsn};
use sillage::time::Clock;
use sillage::workers::courier::NodeCall;

use super::clock::VirtualClock;
use super::fate::{Fate, Given, Keys, Weather};
use super::tally::Tally;
use super::tape::Tape;

/// All that is outside, and what is known of the log; shared by those who play it.
#[derive(Clone)]
pub struct World(Arc<Mutex<Inside>>);

/// What is in it.
pub struct Inside {
    pub random: fastrand::Rng,
    pub clock: Arc<VirtualClock>,
    pub nodes: BTreeMap<Box<str>, Node>,
    pub tape: Tape,
    pub tally: Tally,
    /// The first rule that was broken.
    pub broken: Option<String>,
    /// Nodes are well from here on.
    pub has_peace: bool,
    is_stormy: bool,
    /// Until when a call of a transaction may have its effect on a node, and which way it went.
    active: BTreeMap<(Lsn, Box<str>), (Step, u64)>,
    /// Calls that were sent and have not ended.
    pub under_way: usize,
    /// Crashes so far.
    pub reign: u32,
}

/// A node.
pub struct Node {
    pub groups: BTreeSet<GroupId>,
    keys: Keys,
    /// By transaction: the latest call and what it was answered.
    latest: BTreeMap<Box<str>, (u32, Did)>,
    weather: Weather,
    weather_until: u64,
}

/// What a node did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Did {
    /// What it was asked.
    Done,
    /// Nothing: it was so.
    Already,
    /// Nothing: it knows a later call of the same transaction.
    Outdated,
}

/// A call that is on its way, as the nodes see it.
#[derive(Clone, Debug)]
pub struct Sent {
    pub node: Box<str>,
    pub action: Action,
    pub group: GroupId,
    pub transaction: Lsn,
    prefix: Box<str>,
    number: u32,
    until: u64,
    reign: u32,
    /// The caller has given up, or has an answer.
    is_over: Arc<AtomicBool>,
}

impl World {
    pub fn new(seed: u64, clock: Arc<VirtualClock>, groups: &[GroupId]) -> World {
        // Not the seed of the machine: their choices are to have nothing in common.
        let mut random = fastrand::Rng::with_seed(!seed);
        let is_stormy = random.bool();
        let count = random.usize(1..=5);
        let keys = if random.u8(..3) == 0 { Keys::Honoured } else { Keys::Ignored };
        // Where all have what is asked for, nothing is to be done.
        let share = random.u8(0..5);
        let nodes = (0..count).map(|number| {
            let had = groups.iter().filter(|_| random.u8(..8) < share);
            let node = Node {
                groups: had.cloned().collect(),
                keys,
                latest: BTreeMap::new(),
                weather: Weather::Well,
                weather_until: 0,
            };
            (format!("http://node-{number}.example/").into(), node)
        });
        let nodes: BTreeMap<Box<str>, Node> = nodes.collect();
        let mut tape = Tape::default();
        for (url, node) in &nodes {
            for group in groups {
                tape.expected.insert((url.clone(), group.clone()), node.has(group));
            }
        }
        World(Arc::new(Mutex::new(Inside {
            random,
            clock,
            nodes,
            tape,
            tally: Tally::default(),
            broken: None,
            has_peace: false,
            is_stormy,
            active: BTreeMap::new(),
            under_way: 0,
            reign: 0,
        })))
    }

    pub fn lock(&self) -> MutexGuard<'_, Inside> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Node {
    pub fn has(&self, group: &GroupId) -> Presence {
        if self.groups.contains(group) { Presence::Present } else { Presence::Absent }
    }

    fn act(&mut self, sent: &Sent) -> Did {
        let latest = self.latest.get(&sent.prefix).filter(|_| self.keys == Keys::Honoured);
        match latest {
            Some((number, _)) if *number > sent.number => return Did::Outdated,
            Some((number, did)) if *number == sent.number => return *did,
            _ => {}
        }
        let has_changed = match sent.action {
            Action::Create => self.groups.insert(sent.group.clone()),
            Action::Delete => self.groups.remove(&sent.group),
        };
        let did = if has_changed { Did::Done } else { Did::Already };
        self.latest.insert(sent.prefix.clone(), (sent.number, did));
        did
    }
}

impl Inside {
    /// Notes a rule that was broken, unless one was before. Nothing panics here: whoever calls
    /// may be a task whose panic nobody hears.
    pub fn demand(&mut self, holds: bool, rule: impl FnOnce() -> String) {
        if !holds && self.broken.is_none() {
            self.broken = Some(rule());
        }
    }

    pub fn now(&self) -> u64 {
        self.clock.monotonic_ms()
    }

    /// How a node is for the call that is about to be made.
    pub fn weather(&mut self, url: &str) -> Weather {
        let now = self.now();
        if self.has_peace {
            return Weather::Well;
        }
        let Inside { random, nodes, is_stormy, .. } = self;
        let node = nodes.get_mut(url).expect("only known nodes are called");
        if node.weather_until <= now {
            let (weather, ms) = Weather::some(random, *is_stormy);
            (node.weather, node.weather_until) = (weather, now + ms);
        }
        node.weather.now(random)
    }

    /// What becomes of the call that is about to be made.
    pub fn fate(&mut self, url: &str, deadline_ms: u64) -> Fate {
        let weather = self.weather(url);
        let keys = self.nodes[url].keys;
        let keys = if self.has_peace { Keys::Ignored } else { keys };
        self.tally.note_weather(weather);
        Fate::some(&mut self.random, weather, keys, deadline_ms)
    }

    /// A call is sent; checks that it may be.
    pub fn send(&mut self, call: &NodeCall<'_>, fate: &Fate) -> Option<Sent> {
        let mut parts = call.key.split('/').skip(1).map(|part| part.parse::<u64>().ok());
        let (transaction, place, number) = (parts.next()??, parts.next()??, parts.next()??);
        let (transaction, now) = (Lsn(transaction), self.now());
        let number = u32::try_from(number).ok()?;
        let place = usize::try_from(place).ok()?;
        let step = match self.tape.intend(transaction, place, number, call) {
            Ok(step) => step,
            Err(rule) => {
                self.demand(false, || format!("{rule}: {call:?}"));
                return None;
            }
        };
        let site = (transaction, Box::<str>::from(call.node));
        if let Some((before, until)) = self.active.get(&site) {
            let (before, until) = (*before, *until);
            self.demand(step == before || until <= now, || {
                format!("at {now} {step:?} follows {before:?} that may act until {until}: {call:?}")
            });
        }
        if step == Step::Undo && self.nodes[call.node].has(call.group) == call.action.aim() {
            self.tally.blind_undos += 1;
        }
        let until = now + call.deadline_ms;
        let until = if fate.given == Given::Unsent { now } else { until };
        self.active.insert(site, (step, until));
        self.under_way += 1;
        Some(Sent {
            node: call.node.into(),
            action: call.action,
            group: call.group.clone(),
            transaction,
            prefix: call.key.rsplit_once('/').map_or("", |(prefix, _)| prefix).into(),
            number,
            until,
            reign: self.reign,
            is_over: Arc::default(),
        })
    }

    /// A call reaches its node.
    pub fn arrive(&mut self, sent: &Sent) -> Did {
        let (now, is_alone) = (self.now(), self.reign != sent.reign);
        let node = self.nodes.get_mut(&sent.node).expect("only known nodes are called");
        if now >= sent.until {
            // Too late to do anything; only a node that knows better may be told.
            let latest = node.latest.get(&sent.prefix).map_or(0, |(number, _)| *number);
            if latest <= sent.number {
                return Did::Outdated;
            }
            let did = node.act(sent);
            self.tally.sorted_out += 1;
            self.demand(did == Did::Outdated, || format!("a late call is carried out: {sent:?}"));
            return did;
        }
        self.tally.arrive_alone += u64::from(is_alone);
        let is_late = sent.is_over.load(Ordering::Relaxed);
        self.tally.late_effects += u64::from(is_late);
        node.act(sent)
    }

    /// Whoever was calling is gone.
    pub fn cut_off(&mut self) {
        self.tally.cut_off += self.under_way as u64;
        self.under_way = 0;
        self.reign += 1;
    }

    /// The caller has an answer, or none. Nothing more comes of a call that was answered.
    pub fn ended(&mut self, sent: &Sent, is_definite: bool) {
        let now = self.now();
        self.under_way -= 1;
        sent.is_over.store(true, Ordering::Relaxed);
        let site = (sent.transaction, sent.node.clone());
        if let (true, Some((_, until))) = (is_definite, self.active.get_mut(&site)) {
            *until = now;
        }
    }
}
