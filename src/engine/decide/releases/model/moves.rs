//! What can happen next in the world of the model.

use super::world::{Awaited, Driver, Flight, Glance, Mode, Setting, World, called};
use crate::record::releases::{End, NodeAnswer, Presence, Step};
use crate::state::releases::{Phase, Standing};
use crate::time::Uptime;

/// Something that happens. What it is about is shown when it breaks a rule.
#[allow(dead_code, reason = "only shown")]
#[derive(Clone, Copy, Debug)]
pub enum Move {
    Take,
    Heal,
    Retry,
    Pass(Uptime),
    Look(u8, Glance),
    Send(u8, Step),
    Deliver(u8, NodeAnswer),
    /// The answer is lost, or says nothing. What the call does, and when, is open.
    Cut(u8),
    /// No answer comes, and none is expected to fail.
    Hang(u8),
    Refuse(u8),
    /// The node is called twice in a row, and the second answer counts.
    Double(u8),
    /// The node says that it was undone, and has done nothing.
    Lie(u8),
    /// A copy of the call is delivered, too, no matter when.
    Copy(u8),
    /// A call that nobody waits for takes effect.
    Effect(u8, Step),
    Becomes(u8, Mode),
    Crash,
}

/// A move, where it leads, and whether it was a fault.
pub struct Moved {
    pub by: Move,
    pub is_fault: bool,
    pub to: World,
}

/// All that can happen now.
pub fn moves(world: &World, setting: &Setting) -> Vec<Moved> {
    let mut all = Moves { from: world, all: Vec::new() };
    all.drive();
    all.answer(setting);
    all.strike();
    all.all
}

struct Moves<'a> {
    from: &'a World,
    all: Vec<Moved>,
}

impl Moves<'_> {
    fn free(&mut self, by: Move, change: impl FnOnce(&mut World)) {
        let mut to = self.from.clone();
        change(&mut to);
        self.all.push(Moved { by, is_fault: false, to });
    }

    fn fault(&mut self, by: Move, change: impl FnOnce(&mut World)) {
        if self.from.faults > 0 {
            let mut to = self.from.clone();
            to.faults -= 1;
            change(&mut to);
            self.all.push(Moved { by, is_fault: true, to });
        }
    }

    /// What whoever carries the transaction out does, or would do if it was his turn.
    fn drive(&mut self) {
        let from = self.from;
        match &from.driver {
            Driver::None(Some(due)) if *due > from.now => {
                self.free(Move::Pass(*due), |to| to.pass(*due));
            }
            Driver::None(Some(_)) => self.free(Move::Take, |to| to.go_on(vec![], vec![])),
            Driver::None(None) if from.it.phase == Phase::Ended(End::Failed) => {
                self.free(Move::Heal, World::begin_heal);
            }
            Driver::None(None) => {}
            Driver::Look { left, .. } => {
                let peer = &from.peers[usize::from(left[0])];
                let truth = match peer.mode {
                    Mode::Down => Glance::Unseen,
                    _ => Glance::Told(peer.has),
                };
                self.free(Move::Look(left[0], truth), |to| to.look(truth));
                for glance in [Glance::Unseen, Glance::Shunned] {
                    if glance != truth {
                        self.fault(Move::Look(left[0], glance), |to| to.look(glance));
                    }
                }
            }
            Driver::Call { step, unsent, .. } if !unsent.is_empty() => {
                self.free(Move::Send(unsent[0], *step), |to| {
                    to.send();
                });
            }
            Driver::Call { .. } => {}
            Driver::Wait(until) => self.free(Move::Pass(*until), |to| {
                to.pass(*until);
                to.go_on(vec![], vec![]);
            }),
        }
        let is_failed = from.it.phase == Phase::Ended(End::Failed);
        if from.retries > 0 && (is_failed || from.it.phase == Phase::ToBeRetried) {
            self.free(Move::Retry, |to| {
                to.retries -= 1;
                to.retry();
            });
        }
    }

    /// What becomes of calls under way.
    fn answer(&mut self, setting: &Setting) {
        let is_sending =
            matches!(&self.from.driver, Driver::Call { unsent, .. } if !unsent.is_empty());
        for (place, flight) in self.from.flights.iter().enumerate() {
            match flight.awaited {
                Awaited::Yes if is_sending => {}
                Awaited::Yes => self.deliver(place, flight, setting),
                Awaited::InVain | Awaited::No => {
                    self.free(Move::Effect(flight.node, flight.step), |to| {
                        to.arrive(flight, setting.is_keyed);
                        match flight.awaited {
                            // Its waiter goes on waiting.
                            Awaited::InVain => to.flights[place].expires = flight.expires,
                            _ => drop(to.flights.remove(place)),
                        }
                    });
                }
            }
        }
        let awaits = |flight: &&Flight| flight.awaited == Awaited::InVain;
        let is_awaited = self.from.flights.iter().any(|flight| flight.awaited == Awaited::Yes);
        let expires = self.from.flights.iter().filter(awaits).filter_map(|it| it.expires).min();
        if let Some(expires) = expires
            && !is_awaited
        {
            self.free(Move::Pass(expires), |to| to.pass(expires));
        }
    }

    fn deliver(&mut self, place: usize, flight: &Flight, setting: &Setting) {
        let node = flight.node;
        let settles_ms = flight.expires.map_or(0, |expires| expires.since_ms(self.from.now));
        let unknown = NodeAnswer::Unknown { settles_ms };
        let refused = NodeAnswer::Refused { status: 403 };
        let said = match self.from.peers[usize::from(node)].mode {
            Mode::Up => self.from.clone().arrive(flight, setting.is_keyed),
            Mode::Down | Mode::Broken => unknown,
            Mode::Refusing => refused,
        };
        let is_up = self.from.peers[usize::from(node)].mode == Mode::Up;
        self.free(Move::Deliver(node, said), |to| {
            let flight = to.flights.remove(place);
            if is_up {
                to.arrive(&flight, setting.is_keyed);
            }
            to.answer(node, said);
        });
        if !is_up {
            return;
        }
        self.fault(Move::Cut(node), |to| {
            to.flights[place].awaited = Awaited::No;
            to.answer(node, unknown);
        });
        self.fault(Move::Hang(node), |to| to.flights[place].awaited = Awaited::InVain);
        self.fault(Move::Refuse(node), |to| {
            to.flights.remove(place);
            to.answer(node, refused);
        });
        self.fault(Move::Double(node), |to| {
            let flight = to.flights.remove(place);
            to.arrive(&flight, setting.is_keyed);
            let said = to.arrive(&flight, setting.is_keyed);
            to.answer(node, said);
        });
        if flight.step == Step::Undo {
            self.fault(Move::Lie(node), |to| {
                to.flights.remove(place);
                to.answer(node, NodeAnswer::Done);
            });
        }
        if setting.is_keyed {
            self.fault(Move::Copy(node), |to| {
                let copy = Flight { expires: None, awaited: Awaited::No, ..flight.clone() };
                to.flights.push(copy);
                let flight = to.flights.remove(place);
                let said = to.arrive(&flight, setting.is_keyed);
                to.answer(node, said);
            });
        }
    }

    /// What goes wrong for a while: with nodes, which come back whenever they like, and with us.
    fn strike(&mut self) {
        let is_over = matches!(self.from.driver, Driver::None(None));
        for (place, peer) in (0..).zip(&self.from.peers) {
            let node = usize::from(place);
            if peer.mode != Mode::Up {
                self.free(Move::Becomes(place, Mode::Up), |to| to.peers[node].mode = Mode::Up);
            } else if !is_over {
                for mode in [Mode::Down, Mode::Refusing, Mode::Broken] {
                    self.fault(Move::Becomes(place, mode), |to| to.peers[node].mode = mode);
                }
            }
        }
        if self.from.crashes > 0 && !is_over {
            let mut to = self.from.clone();
            to.crashes -= 1;
            to.crash();
            self.all.push(Moved { by: Move::Crash, is_fault: true, to });
        }
    }
}

/// What must hold wherever the world goes.
///
/// # Errors
/// The rule that is broken.
pub fn check(world: &World, setting: &Setting) -> Result<(), &'static str> {
    let it = &world.it;
    let aim = it.begun.action.aim() == Presence::Present;
    let is_as_before = |node: usize| world.peers[node].has == setting.had[node];
    let all = 0..setting.had.len();
    match it.phase {
        Phase::Ended(End::Succeeded) if world.peers.iter().any(|peer| peer.has != aim) => {
            Err("succeeded: all nodes are as was asked")
        }
        Phase::Ended(End::RolledBack) if !all.clone().all(is_as_before) => {
            Err("rolled back: all nodes are as they were")
        }
        Phase::ToBeRetried if !all.clone().all(is_as_before) => {
            Err("to be retried: nothing is left of the try")
        }
        Phase::Ended(End::Failed)
            if !all
                .clone()
                .all(|node| is_as_before(node) || it.reason.contains(&*it.begun.nodes[node])) =>
        {
            Err("failed: every node that is not as it was is named")
        }
        _ => Ok(()),
    }?;
    let is_called = !called(it).is_empty();
    let is_awaited = matches!(world.driver, Driver::Call { .. });
    match is_called == is_awaited {
        true => Ok(()),
        false => Err("calls are on record exactly while their answers are awaited"),
    }
}

/// What must hold when a call is sent.
///
/// # Errors
/// The rule that is broken.
pub fn check_sending(world: &World, setting: &Setting) -> Result<(), &'static str> {
    let Some(sent) = world.flights.last() else { return Ok(()) };
    let node = usize::from(sent.node);
    if world.it.nodes[node].standing != Standing::Called(sent.step) || world.it.rounds != sent.round
    {
        return Err("a call is on record before it is sent");
    }
    if sent.step == Step::Do {
        return Ok(());
    }
    let aim = world.it.begun.action.aim() == Presence::Present;
    if setting.had[node] == aim {
        return Err("what was as asked before is not undone");
    }
    let may_come = |flight: &Flight| flight.step == Step::Do && flight.expires.is_some();
    if world.flights.iter().any(may_come) {
        return Err("nothing is undone while a call to do it may take effect");
    }
    Ok(())
}
