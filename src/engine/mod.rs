//! The engine: one writer owns log and state, everybody else holds an [`Engine`].
//!
//! ```text
//!   handle ── command ──► writer: decide → append → apply → … → sync ── reply ──► handle
//!   handle ── question ─► state (shared lock) ─► wait until durable ─► body from disk
//!   writer ── sealed segments ──► compactor: replay → merge → verify ── snapshot ──► writer
//! ```
//!
//! Below what the state holds is the snapshot ([`base`]). A command that may concern it brings
//! along what it holds ([`findings`]), so that the writer need not wait for the disk.
//!
//! Commands and questions obey the output rule ([`pending`]): what was computed from the state at
//! an LSN is handed out when the log is durable up to that LSN, not before. Refusals change
//! nothing, so those of single submissions are decided where the question is asked.

mod answers;
mod arrivals;
pub mod base;
mod bodies;
pub mod command;
mod compaction;
pub mod compactor;
pub mod coordinate;
pub mod core;
pub mod deaths;
pub mod decide;
pub mod findings;
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod golden;
pub mod groups;
pub mod hooks;
pub mod in_hand;
mod lists;
mod lookups;
mod merge;
pub mod open;
mod outbox;
pub mod pending;
mod postbox;
mod questions;
pub mod releases;
mod replay;
mod seals;
mod steps;
mod trails;
pub mod upkeep;
pub mod waiters;
mod writer;

use std::future::Future;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{TrySendError, sync_channel};
use std::sync::{Arc, PoisonError, RwLockReadGuard};
use std::thread::{self, JoinHandle};

use tokio::sync::{Notify, oneshot};

use self::bodies::{Bodies, Shelves};
use self::command::{Delivery, FormulaRef, LeaseRequest, Rejection, Settled, Settlement};
pub use self::compactor::SnapshotReport;
use self::core::{Core, Decided, SharedStore, Store};
use self::decide::{Command, Reply};
use self::findings::{Findings, Wanted};
pub use self::lists::FormulaPage;
use self::outbox::NotTaken;
use self::pending::Poisoned;
pub use self::questions::{About, AboutTransaction, Message, MessageKind};
use self::writer::{AbortOnPanic, Envelope, Inbox, Mail, Shared, Writer};
use crate::ids::{Epoch, Lsn, QueueName, Receipt};
use crate::limits::{COMMANDS_MAX, OVERLOAD_RETRY_AFTER_S};
use crate::log;
use crate::metrics::Metrics;
use crate::record::Selection;
use crate::time::{Clock, Moment, Timeline, Timestamp, Uptime};

/// A handle to the engine: cheap to clone, used from any thread.
#[derive(Clone)]
pub struct Engine {
    inbox: Arc<Inbox>,
    store: SharedStore,
    shared: Arc<Shared>,
    bodies: Bodies,
    clock: Arc<dyn Clock>,
    timeline: Timeline,
}

/// The writer thread; gives the log's error if that is what ended it.
pub type WriterThread = JoinHandle<Result<(), log::Error>>;

/// What kind of work a request will bring, for [`Engine::refuses`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Takes in something new.
    Intake,
    /// Moves messages along.
    Settle,
}

/// Whether the engine takes work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// All is well.
    Ready,
    /// Intake is refused until there is room; everything else goes on.
    DiskFull,
    /// The log has failed; the process is about to exit.
    Poisoned,
}

impl Engine {
    /// Sets a core to work on a thread of its own. When the last clone of the handle is dropped
    /// the thread closes the log and ends.
    ///
    /// # Errors
    /// If the machine has no thread to give.
    pub fn start(
        core: Core,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> std::io::Result<(Engine, WriterThread)> {
        let (engine, writer) = Engine::assemble(core, clock, metrics)?;
        let thread = thread::Builder::new().name("sillage-writer".into()).spawn(move || {
            let _abort = AbortOnPanic;
            writer.run()
        })?;
        Ok((engine, thread))
    }

    /// The handle, and the writer with nothing to run it yet.
    fn assemble(
        mut core: Core,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> std::io::Result<(Engine, Writer)> {
        let (inbox, envelopes) = sync_channel(COMMANDS_MAX);
        let store = core.store();
        if let Some(snapshot) = core.log().snapshot() {
            compaction::show_snapshot(&metrics, snapshot);
        }
        let shared = Arc::new(Shared::new(&mut core, metrics));
        let damaged_reads = shared.metrics.damaged_reads.clone();
        let shelves = Shelves::new(core.log().reader(), Arc::clone(&store), damaged_reads);
        let to_writer = inbox.clone();
        let engine = Engine {
            inbox: Arc::new(Inbox(inbox)),
            store,
            shared: Arc::clone(&shared),
            bodies: Bodies::start(shelves)?,
            clock,
            timeline: core.timeline(),
        };
        Ok((engine, Writer::new(core, envelopes, to_writer, shared)))
    }

    /// Why work of this kind would be refused, if it would: asked before a body is read. A full
    /// disk refuses of the intake only what is new.
    #[must_use]
    pub fn refuses(&self, work: Work) -> Option<Rejection> {
        match self.health() {
            Health::Poisoned => Some(Rejection::OutcomeUnknown),
            Health::DiskFull if work == Work::Intake => Some(Rejection::DiskFull),
            Health::Ready | Health::DiskFull => {
                let is_full = self.shared.waiting_commands() >= COMMANDS_MAX;
                is_full.then_some(Rejection::Overloaded { retry_after_s: OVERLOAD_RETRY_AFTER_S })
            }
        }
    }

    /// Withdraws a formula; gives the record of the withdrawal.
    ///
    /// # Errors
    /// `FormulaUnknown`, `Overloaded`, `OutcomeUnknown`, `Damaged`.
    pub async fn withdraw(&self, which: FormulaRef) -> Result<Lsn, Rejection> {
        let stored = self.formula(which).await?.ok_or(Rejection::FormulaUnknown)?;
        let findings = self.findings(|store| Wanted::by_formula(&stored.fingerprint, store));
        let findings = findings.await?;
        let decided = self.execute(Command::Withdraw(stored.fingerprint), findings).await?;
        match self.resolve(decided).await? {
            Reply::Withdrawn(lsn) => Ok(lsn),
            other => unreachable!("a withdrawal is not answered by {other:?}"),
        }
    }

    /// Leases messages. Does not wait: the answer may be empty.
    ///
    /// # Errors
    /// `QueueUnknown`, `Overloaded`, `OutcomeUnknown`.
    pub async fn lease(&self, request: LeaseRequest) -> Result<Vec<Delivery>, Rejection> {
        let decided = self.execute(Command::Lease(request), Findings::default()).await?;
        match self.resolve(decided).await? {
            Reply::Leased(deliveries) => Ok(deliveries),
            other => unreachable!("a lease is not answered by {other:?}"),
        }
    }

    /// Acks, nacks or extends leases.
    ///
    /// # Errors
    /// `QueueUnknown`, `ReceiptsStale`, `Overloaded`, `OutcomeUnknown`.
    pub async fn settle(
        &self,
        queue: QueueName,
        receipts: Vec<Receipt>,
        settlement: Settlement,
    ) -> Result<Settled, Rejection> {
        let decided =
            self.execute(Command::Settle(queue, receipts, settlement), Findings::default()).await?;
        match self.resolve(decided).await? {
            Reply::Settled(settled) => Ok(settled),
            other => unreachable!("a settlement is not answered by {other:?}"),
        }
    }

    /// Puts dead letters back to ready; gives how many.
    ///
    /// # Errors
    /// `QueueUnknown`, `Overloaded`, `OutcomeUnknown`.
    pub async fn redrive(&self, queue: QueueName, which: Selection) -> Result<u64, Rejection> {
        self.move_dead(Command::Redrive(queue, which)).await
    }

    /// Removes dead letters for good; gives how many.
    ///
    /// # Errors
    /// `QueueUnknown`, `Overloaded`, `OutcomeUnknown`.
    pub async fn purge(&self, queue: QueueName, which: Selection) -> Result<u64, Rejection> {
        self.move_dead(Command::Purge(queue, which)).await
    }

    /// For long polls: wakes one waiter per message that arrives, in the order in which they
    /// began to wait. `None`: no such queue.
    #[must_use]
    pub fn arrivals(&self, queue: &QueueName) -> Option<Arc<Notify>> {
        self.shared.waiters.get(queue).cloned()
    }

    /// Whether the engine takes work.
    #[must_use]
    pub fn health(&self) -> Health {
        match self.shared.durable.lsn() {
            Err(Poisoned) => Health::Poisoned,
            Ok(_) if self.shared.has_room.load(Ordering::Relaxed) => Health::Ready,
            Ok(_) => Health::DiskFull,
        }
    }

    /// How far the log is durable; zero once it has failed.
    #[must_use]
    pub fn durable_lsn(&self) -> Lsn {
        self.shared.durable.lsn().unwrap_or(Lsn::ZERO)
    }

    /// The present reign.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.look().0.state.epoch()
    }

    /// The store's identity: no other store has it.
    #[must_use]
    pub fn store_id(&self) -> log::StoreId {
        self.shared.store
    }

    /// The engine's moment.
    #[must_use]
    pub fn moment(&self) -> Moment {
        self.look().1
    }

    /// The engine's date.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.look().1.wall
    }

    /// Hands out the writer's replies on the thread that polls it, for as long as it lives. A
    /// server that runs its tasks on one thread runs this as one of them: then a group commit
    /// costs one wake-up from thread to thread and not one per reply.
    pub fn hand_out_replies(&self) -> impl Future<Output = ()> + Send + 'static {
        Arc::clone(&self.shared.postbox).hand_out_forever()
    }

    /// Carries commands to the writer on the thread that polls it, for as long as it lives: the
    /// counterpart of [`hand_out_replies`](Engine::hand_out_replies), so that one commit serves
    /// all tasks that had a command in the same turn.
    pub fn carry_commands(&self) -> impl Future<Output = ()> + Send + 'static {
        let (outbox, durable) = (Arc::clone(&self.shared.outbox), self.shared.durable.clone());
        let inbox = Arc::clone(&self.inbox);
        // The inbox is kept until the carrier has gone: its end is the last mail of all.
        async move { outbox.carry_forever(inbox.0.clone(), durable).await }
    }

    /// The engine's uptime, by which leases and delays end.
    #[must_use]
    pub fn uptime(&self) -> Uptime {
        self.look().1.uptime
    }

    /// Completes when the log has failed; else never.
    pub async fn failed(&self) {
        self.shared.durable.poisoned().await;
    }

    async fn move_dead(&self, command: Command) -> Result<u64, Rejection> {
        let decided = self.execute(command, Findings::default()).await?;
        match self.resolve(decided).await? {
            Reply::Moved(count) => Ok(count),
            other => unreachable!("a move is not answered by {other:?}"),
        }
    }

    /// Has the writer carry out a command; the reply comes when the log is durable.
    async fn execute(&self, command: Command, findings: Findings) -> Result<Decided, Rejection> {
        let (reply, replied) = oneshot::channel();
        let _waiting = self.shared.count_waiting();
        let mail = Mail::Command(Envelope { command, findings, reply });
        match self.shared.outbox.post(&self.inbox.0, mail) {
            Ok(()) => replied.await.map_err(|_| Rejection::OutcomeUnknown),
            Err(NotTaken::Full) => {
                Err(Rejection::Overloaded { retry_after_s: OVERLOAD_RETRY_AFTER_S })
            }
            Err(NotTaken::Ended) => Err(Rejection::OutcomeUnknown),
        }
    }

    fn send(&self, mail: Mail) -> Result<(), Rejection> {
        self.inbox.0.try_send(mail).map_err(|error| match error {
            TrySendError::Full(_) => {
                Rejection::Overloaded { retry_after_s: OVERLOAD_RETRY_AFTER_S }
            }
            TrySendError::Disconnected(_) => Rejection::OutcomeUnknown,
        })
    }

    /// The store, and the present moment.
    fn look(&self) -> (RwLockReadGuard<'_, Store>, Moment) {
        let store = self.store.read().unwrap_or_else(PoisonError::into_inner);
        let now = self.timeline.now(store.state.at(), self.clock.as_ref());
        (store, now)
    }
}

impl From<Poisoned> for Rejection {
    fn from(_: Poisoned) -> Rejection {
        Rejection::OutcomeUnknown
    }
}
