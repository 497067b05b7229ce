//! Releases in virtual time: the real worker, on the real engine, against nodes that fail in
//! every way, on a disk that is cut off at any call.
//!
//! A whole life is one runtime whose time stands still while anybody has something to do. The
//! engine's writer is in hand, so what is done when follows from the seed alone. What was sent
//! goes on without us when we crash; all else is gone then.
//!
//! The nodes tell whether a rule is broken when a call reaches them, the log when a fact becomes
//! durable: at each end of a transaction its group is on all nodes or as it was. At the end
//! nothing fails any more, and everything is left to settle.

mod clients;
mod clock;
mod courier;
mod end;
mod fate;
mod tally;
mod tape;
mod world;

use std::collections::BTreeMap;
use std::future::pending;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sillage::engine::Engine;
use sillage::engine::core::Core;
use sillage::engine::decide::Policy;
use sillage::engine::decide::gate::{Limit, Mode};
use sillage::engine::in_hand::WriterInHand;
use sillage::engine::releases::Partners;
use sillage::ids::GroupId;
use sillage::metrics::Metrics;
use sillage::outbound::backoff::Backoff;
use sillage::record::FlowStep;
use sillage::workers::courier::Releasing;
use sillage::workers::releaser::Releaser;
use sillage::workers::sealer::Sealer;
use sillage::workers::signatory::Sealing;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet, yield_now};
use tokio::time::{Instant, sleep_until};

use crate::calls::machine::Machine;
use clock::VirtualClock;
use courier::{SimulatedCourier, SimulatedSignatory};
pub use tally::Tally;
use world::World;

/// Groups that are asked for by name: few, so that many ask for the same.
const GROUPS: u32 = 6;
/// Turns of the runtime in which whatever was cut off has ended.
const TURNS_MAX: u32 = 10_000;

/// A store, and all others.
struct Life {
    machine: Machine<VirtualClock>,
    world: World,
    groups: Vec<GroupId>,
    /// Nodes of the latest configuration.
    nodes: Vec<Box<str>>,
}

/// A process.
struct Reign {
    writer: WriterInHand,
    engine: Engine,
    courier: Arc<SimulatedCourier>,
    partners: Partners,
    workers: Vec<Worker>,
    clients: JoinSet<()>,
}

struct Worker {
    task: JoinHandle<()>,
    drain: Option<oneshot::Sender<()>>,
}

/// Lives through one seed.
pub fn live(seed: u64) -> Tally {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime without threads can be had");
    runtime.block_on(async {
        let life = Life::new(seed);
        Box::pin(life.run()).await
    })
}

impl Life {
    fn new(seed: u64) -> Life {
        let machine = Machine::on_clock(seed, VirtualClock::new());
        let groups = (0..GROUPS).map(|number| format!("group {number}").parse());
        let groups: Vec<GroupId> = groups.map(|group| group.expect("well formed")).collect();
        let all: Vec<GroupId> = groups.iter().cloned().chain(clients::formula_groups()).collect();
        let world = World::new(seed, Arc::clone(&machine.clock), &all);
        let nodes = world.lock().nodes.keys().cloned().collect();
        Life { machine, world, groups: all, nodes }
    }

    async fn run(mut self) -> Tally {
        for _ in 0..self.machine.random.u32(2..5) {
            self.reign().await;
        }
        self.settle().await;
        let mut tally = self.world.lock().tally;
        tally.snapshots = self.machine.snapshots;
        tally
    }

    async fn reign(&mut self) {
        self.reconfigure();
        let mut reign = self.start().await;
        for _ in 0..self.machine.random.u32(3..40) {
            let pause_ms = match self.machine.random.u8(..10) {
                0 => self.machine.random.u64(0..20_000),
                1..=5 => self.machine.random.u64(0..1500),
                _ => self.machine.random.u64(0..50),
            };
            let until = Instant::now() + Duration::from_millis(pause_ms);
            if self.drive(&mut reign, until).await.is_break() {
                return self.crash(reign).await;
            }
            self.machine.hinder(reign.writer.core());
            let is_compacting = self.machine.random.u8(..10) == 0;
            if is_compacting && self.compact(&mut reign).is_break() {
                return self.crash(reign).await;
            }
            self.ask(&mut reign);
        }
        if self.machine.random.u8(..3) > 0 || self.machine.is_hindered() {
            return self.crash(reign).await;
        }
        self.stop(reign).await;
    }

    /// Operators add and remove nodes now and then.
    fn reconfigure(&mut self) {
        if self.machine.random.u8(..3) > 0 {
            return;
        }
        self.world.lock().tally.reconfigured += 1;
        let all: Vec<Box<str>> = self.world.lock().nodes.keys().cloned().collect();
        let random = &mut self.machine.random;
        self.nodes = all.iter().filter(|_| random.u8(..4) > 0).cloned().collect();
        random.shuffle(&mut self.nodes);
    }

    async fn start(&mut self) -> Reign {
        let flow: &[FlowStep] = match self.machine.random.u8(..3) {
            0 => &[FlowStep::Release],
            1 => &[FlowStep::Seal, FlowStep::Release],
            _ => &[],
        };
        // Keys are remembered for longer than a life takes.
        let policy = Policy { attempts_max: 2, retention_ms: 100_000_000, flow };
        let core = self.open(policy).await;
        let deadline_ms = self.machine.random.u64(50..2500);
        let heal_every_ms = self.machine.random.u64(500..20_000);
        let partners = Partners { nodes: self.nodes.clone(), deadline_ms };
        self.set_to_work(core, partners, heal_every_ms)
    }

    fn set_to_work(&mut self, core: Core, partners: Partners, heal_every_ms: u64) -> Reign {
        let metrics = Arc::new(Metrics::new());
        let started = Engine::in_hand(core, self.machine.clock.clone(), Arc::clone(&metrics));
        let (engine, writer) = started.expect("the machine has threads");
        let courier = Arc::new(SimulatedCourier {
            world: self.world.clone(),
            engine: engine.clone(),
            breakers: Mutex::new(BTreeMap::new()),
            probe_ms: partners.deadline_ms,
        });
        let releasing = Releasing {
            courier: courier.clone(),
            partners: partners.clone(),
            heal_every_ms,
            store: "store".into(),
        };
        let sealing = Sealing {
            signatory: Arc::new(SimulatedSignatory(self.world.clone())),
            limit: Limit { calls: 5, window_ms: 200, mode: Mode::Window },
            deadline_ms: 500,
            attempts_max: 3,
            backoff: Backoff { base_ms: 100, cap_ms: 1000 },
        };
        let seed = self.machine.random.u64(..);
        let releaser = Releaser::new(engine.clone(), releasing, Arc::clone(&metrics));
        let sealer = Sealer::new(engine.clone(), sealing, metrics, seed);
        let workers = vec![
            Worker::spawn(|drained| releaser.run(drained)),
            Worker::spawn(|drained| sealer.run(drained)),
        ];
        Reign { writer, engine, courier, partners, workers, clients: JoinSet::new() }
    }

    async fn open(&mut self, policy: Policy) -> Core {
        loop {
            let core = self.machine.open(policy);
            self.machine.check(&core);
            let read = self.world.lock().read(&core);
            self.judge();
            if read.is_ok() {
                return core;
            }
            assert!(self.machine.is_hindered(), "what is durable can be read");
            self.machine.crash();
        }
    }

    /// Lets everybody do what they have to do until then. Breaks if the log failed.
    async fn drive(&mut self, reign: &mut Reign, until: Instant) -> ControlFlow<()> {
        loop {
            self.judge();
            while let Some(ended) = reign.clients.try_join_next() {
                ended.expect("no client panics");
            }
            tokio::select! {
                biased;
                () = reign.writer.called() => self.work(reign).await?,
                () = sleep_until(until) => return ControlFlow::Continue(()),
            }
        }
    }

    /// Some commands under one sync, after what the disk takes for the last.
    async fn work(&mut self, reign: &mut Reign) -> ControlFlow<()> {
        let disk_ms = if self.machine.random.u8(..20) == 0 { 60 } else { 3 };
        courier::rest(self.machine.random.u64(0..disk_ms)).await;
        if !self.world.lock().has_power(reign.writer.core()) {
            assert!(self.machine.is_hindered(), "what is durable can be read");
            return ControlFlow::Break(());
        }
        if reign.writer.work(self.machine.random.usize(1..16)).is_err() {
            return ControlFlow::Break(());
        }
        self.world.lock().tally.disk_full += u64::from(!reign.writer.core().has_room());
        self.read(reign)
    }

    fn read(&mut self, reign: &mut Reign) -> ControlFlow<()> {
        let read = self.world.lock().read(reign.writer.core());
        self.judge();
        match read {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => {
                assert!(self.machine.is_hindered(), "what is durable can be read");
                ControlFlow::Break(())
            }
        }
    }

    fn compact(&mut self, reign: &mut Reign) -> ControlFlow<()> {
        // What is read from the log must not have gone from it.
        self.machine.compact(reign.writer.core())?;
        self.read(reign)
    }

    /// Whether a rule was broken by now.
    fn judge(&self) {
        let broken = self.world.lock().broken.take();
        assert!(broken.is_none(), "{}", broken.unwrap_or_default());
    }

    /// The process is gone. What it had sent may still arrive.
    async fn crash(&mut self, reign: Reign) {
        drop(reign.cut_off().await);
        {
            let mut world = self.world.lock();
            world.tally.crashes += 1;
            world.cut_off();
        }
        self.machine.crash();
        let down_ms = if self.machine.random.bool() { 20 } else { 4000 };
        courier::rest(self.machine.random.u64(0..down_ms)).await;
    }

    /// Calls under way get a moment to end, then the log is closed, or not.
    async fn stop(&mut self, mut reign: Reign) {
        for worker in &mut reign.workers {
            // It may have ended by itself.
            worker.drain.take().into_iter().for_each(|drain| drain.send(()).unwrap_or_default());
        }
        while let Some(worker) = reign.workers.last_mut() {
            tokio::select! {
                biased;
                ended = &mut worker.task => {
                    ended.expect("no worker panics");
                    drop(reign.workers.pop());
                }
                () = reign.writer.called() => {
                    if self.work(&mut reign).await.is_break() {
                        return self.crash(reign).await;
                    }
                }
            }
        }
        let core = reign.cut_off().await.into_core();
        {
            let mut world = self.world.lock();
            world.tally.closed += 1;
            world.cut_off();
        }
        self.machine.end(core);
        self.judge();
    }
}

impl Reign {
    /// Ends all tasks at once, wherever they are.
    async fn cut_off(self) -> WriterInHand {
        let Reign { writer, courier, workers, mut clients, .. } = self;
        workers.iter().for_each(|worker| worker.task.abort());
        clients.abort_all();
        for worker in workers {
            drop(worker.task.await);
        }
        for _ in 0..TURNS_MAX {
            if Arc::strong_count(&courier) == 1 {
                return writer;
            }
            yield_now().await;
        }
        panic!("a call goes on after its process has ended");
    }
}

impl Worker {
    fn spawn<F>(run: impl FnOnce(std::pin::Pin<Box<dyn Future<Output = ()> + Send>>) -> F) -> Worker
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (drain, drained) = oneshot::channel();
        let drained = async move {
            // A process that only crashes never asks to drain.
            if drained.await.is_err() {
                pending::<()>().await;
            }
        };
        Worker { task: tokio::spawn(run(Box::pin(drained))), drain: Some(drain) }
    }
}
