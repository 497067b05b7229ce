//! A store on a disk that fails, and the clock beside it.

use std::ops::ControlFlow;
use std::sync::{Arc, PoisonError};

use sillage::engine::base::Base;
use sillage::engine::compactor::{Task, compact};
use sillage::engine::core::{CompactionPolicy, Core, Setting};
use sillage::engine::decide::Policy;
use sillage::engine::open::{OpenError, open, replay, resume};
use sillage::limits::SEGMENT_BYTES_MIN;
use sillage::log::{self, SimDisk, SimFault, prepare};
use sillage::state::State;
use sillage::time::{Clock, ManualClock, Moment};

use crate::world::options;

/// A clock that is moved by whoever simulates.
pub trait Movable: Clock + 'static {
    /// Lets time pass while the process is down.
    fn pass_ms(&self, ms: u64);
    /// Sets the wall clock alone.
    fn set_wall(&self, wall_ms: u64);
}

impl Movable for ManualClock {
    fn pass_ms(&self, ms: u64) {
        self.advance_ms(ms);
    }

    fn set_wall(&self, wall_ms: u64) {
        self.jump_wall_to(wall_ms);
    }
}

/// Disk, clock and what is planned to go wrong.
pub struct Machine<C = ManualClock> {
    pub random: fastrand::Rng,
    pub clock: Arc<C>,
    disk: SimDisk,
    compaction: Option<Task>,
    /// A fault is planned, so that opening or closing may fail.
    is_hindered: bool,
    /// The disk stays full for the rest of the reign.
    is_stuck: bool,
    /// Nothing goes wrong any more.
    has_peace: bool,
    pub snapshots: u64,
}

impl Machine {
    pub fn new(seed: u64) -> Machine {
        Machine::on_clock(seed, ManualClock::at(1_795_000_000_000))
    }
}

impl<C: Movable> Machine<C> {
    pub fn on_clock(seed: u64, clock: C) -> Machine<C> {
        Machine {
            random: fastrand::Rng::with_seed(seed),
            clock: Arc::new(clock),
            disk: SimDisk::new(seed),
            compaction: None,
            is_hindered: false,
            is_stuck: false,
            has_peace: false,
            snapshots: 0,
        }
    }

    /// Time as everybody outside sees it, which no crash stops.
    pub fn ms(&self) -> u64 {
        self.clock.monotonic_ms()
    }

    /// Opens the store, however often the power fails meanwhile.
    pub fn open(&mut self, policy: Policy) -> Core {
        self.is_stuck = false;
        loop {
            self.is_hindered = !self.has_peace && self.random.u8(..6) == 0;
            if self.is_hindered {
                self.plan(120, SimFault::PowerOff);
            }
            let (compaction, seed) = (CompactionPolicy::default(), self.random.u64(..));
            let clock: Arc<dyn Clock> = self.clock.clone();
            let setting = Setting { clock, policy, compaction, seed };
            match open(Arc::new(self.disk.handle()), options(), setting) {
                Ok((core, _)) => return core,
                Err(error) => {
                    assert!(self.is_hindered, "a mere crash is refused: {error}");
                    self.crash();
                }
            }
        }
    }

    /// The power fails; some time passes, and another start may be tried.
    pub fn crash(&mut self) {
        self.compaction = None;
        self.disk = self.disk.crash(self.random.u64(..));
        self.disk.set_capacity(u64::MAX);
        self.is_hindered = false;
        // Whoever restarts us is quick, or comes from far away.
        let down_ms = if self.random.bool() { 20 } else { 2000 };
        self.clock.pass_ms(self.random.u64(0..down_ms));
    }

    /// One last crash; nothing goes wrong from here on.
    pub fn make_peace(&mut self) {
        self.crash();
        self.has_peace = true;
    }

    /// What fails now can be explained by a fault that was planned.
    pub fn is_hindered(&self) -> bool {
        self.is_hindered
    }

    /// Something may go wrong from here on, or a full disk be emptied.
    pub fn hinder(&mut self, core: &mut Core) {
        match self.random.u8(..60) {
            0 => self.plan(40, SimFault::Eio),
            1 => self.plan(40, SimFault::PowerOff),
            2 => self.plan(40, SimFault::Interrupted),
            3 => self.plan(40, SimFault::Short),
            4..=6 => self.fill(),
            7..=12 if !self.is_stuck => {
                self.disk.set_capacity(u64::MAX);
                core.retry_space();
            }
            13 => self.clock.set_wall(self.random.u64(0..2_000_000_000_000)),
            _ => {}
        }
    }

    /// Closes cleanly if nothing hinders that and chance has it so, else crashes.
    pub fn end(&mut self, core: Core) {
        self.disk.set_capacity(u64::MAX);
        if self.random.bool() && !self.is_hindered {
            self.compaction = None;
            core.close().expect("nothing hinders the close");
        } else {
            drop(core);
            self.crash();
        }
    }

    /// Begins a compaction, or ends the one that was begun. Breaks if the log failed.
    pub fn compact(&mut self, core: &mut Core) -> ControlFlow<()> {
        let Some(task) = self.compaction.take() else {
            return match core.begin_compaction(Arc::default()) {
                Ok(task) => {
                    self.compaction = task;
                    ControlFlow::Continue(())
                }
                Err(log::Error::NoSpace) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            };
        };
        let Ok(compacted) = compact(&task) else {
            core.abandon();
            return has_power(core);
        };
        let Ok((let_go, obsolete)) = core.install(compacted) else { return ControlFlow::Break(()) };
        drop(let_go);
        self.snapshots += 1;
        // A failure only leaves files that the next start removes.
        drop(obsolete.remove());
        has_power(core)
    }

    /// The state of a copy of the disk, replayed, is the live one.
    pub fn check(&self, core: &Core) {
        let shared = core.store();
        let live = &shared.read().unwrap_or_else(PoisonError::into_inner).state;
        live.check_invariants();
        let prepared = prepare(Arc::new(self.disk.fork()), options()).expect("it can be read");
        let base = prepared.snapshot().cloned().map(Base::new);
        let mut replayed = match &base {
            Some(base) => resume(base).expect("it can be read"),
            None => State::default(),
        };
        let see = |entry: log::Entry<'_>| {
            replay(&mut replayed, base.as_ref(), &entry)?;
            Ok::<(), OpenError>(())
        };
        assert!(prepared.replay(see).is_ok(), "a copy of an open store can be opened");
        assert_eq!(replayed.digest(), live.digest(), "replay leads to the live state");
        replayed.check_invariants();
    }

    fn plan(&mut self, calls: u64, fault: SimFault) {
        self.is_hindered = true;
        self.disk.fail_after(self.disk.calls() + self.random.u64(0..calls), fault);
    }

    /// Leaves room for one segment more, or not even that.
    fn fill(&mut self) {
        let paths = self.disk.paths();
        let files = paths.iter().filter_map(|path| self.disk.bytes(path));
        let used: u64 = files.map(|bytes| bytes.len() as u64).sum();
        self.is_stuck = self.random.bool();
        self.disk.set_capacity(used + self.random.u64(0..2 * SEGMENT_BYTES_MIN));
    }
}

/// Breaks if the power went off without the log being told: nothing can be read any more.
fn has_power(core: &mut Core) -> ControlFlow<()> {
    match core.mark() {
        Ok(_) => ControlFlow::Continue(()),
        Err(_) => ControlFlow::Break(()),
    }
}

/// Asks the state, and with it the moment.
pub fn ask<T>(core: &Core, clock: &ManualClock, question: impl FnOnce(&State, Moment) -> T) -> T {
    let shared = core.store();
    let state = &shared.read().unwrap_or_else(PoisonError::into_inner).state;
    question(state, core.timeline().now(state.at(), clock))
}
