//! The thread that owns the core: it drains, decides, appends, applies, syncs, releases.
//!
//! One sync serves every command that arrived while the last one ran (group commit), so the
//! busier the server is, the less a sync costs each client. A failed sync ends everything: the
//! replies of the batch are dropped, which their waiters read as "outcome unknown", and the
//! process exits. It is never tried again, since after a failure the disk may hold anything.
//!
//! To be woken costs tens of microseconds, which is much beside a sync. So after a batch that
//! served few the writer looks out for the next command a while before it goes to sleep.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::Duration;

use tokio::sync::{Notify, oneshot};

use crate::engine::compaction::{Compaction, SnapshotAnswer};
use crate::engine::compactor::{CompactError, Compacted};
use crate::engine::core::{Arrivals, Core, Decided, DiskRoom};
use crate::engine::deaths::DeathWatch;
use crate::engine::decide::Command;
use crate::engine::decide::hooks::HookCommand;
use crate::engine::findings::Findings;
use crate::engine::outbox::Outbox;
use crate::engine::pending::{Durable, Pending};
use crate::engine::postbox::Postbox;
use crate::engine::releases::EndWatch;
use crate::engine::waiters::Waiters;
use crate::ids::{Lsn, QueueName};
use crate::limits::{
    BATCH_COMMANDS_MAX, BATCH_LOG_BYTES_MAX, CONNECTIONS_MAX, IDLE_MARK_MS, SMALL_BATCH_COMMANDS,
    SPARE_RETRY_MS, WRITER_AWAKE_S,
};
use crate::log::{self, Backup, StoreId};
use crate::metrics::Metrics;
use crate::time::Stopwatch;

/// What is sent to the writer.
#[allow(clippy::large_enum_variant, reason = "nearly all mail is commands: none is allocated for")]
pub(super) enum Mail {
    /// A command.
    Command(Envelope),
    /// Somebody wants a snapshot of what is stored by now.
    Snapshot(oneshot::Sender<SnapshotAnswer>),
    /// Somebody wants a copy of what is durable by now.
    Backup(oneshot::Sender<Backup>),
    /// The compactor has ended.
    Compacted(Box<Result<Compacted, CompactError>>),
    /// The last handle is gone.
    Close,
}

/// A command on its way to the writer, and where its reply goes.
pub(super) struct Envelope {
    pub(super) command: Command,
    /// What the sender has learnt from the snapshot.
    pub(super) findings: Findings,
    pub(super) reply: oneshot::Sender<Decided>,
}

/// The writer's end of the way in; handles and the compactor hold the other.
pub(super) struct Inbox(pub(super) SyncSender<Mail>);

impl Drop for Inbox {
    /// The compactor sends, too, so the writer would not notice that the last handle has gone.
    fn drop(&mut self) {
        // A writer that has ended already needs no telling.
        drop(self.0.send(Mail::Close));
    }
}

/// What writer and handles share besides the state.
pub(super) struct Shared {
    pub(super) durable: Durable,
    /// Whether the log has room for more formulas.
    pub(super) has_room: AtomicBool,
    /// How commands get to the writer.
    pub(super) outbox: Arc<Outbox<Mail>>,
    /// How replies get to those who wait.
    pub(super) postbox: Arc<Postbox>,
    /// Wakes whoever tells of dead letters.
    pub(super) deaths: DeathWatch,
    /// Wakes all who wait for what becomes of a delivery.
    pub(super) settled: Notify,
    /// Long polls, woken one per message that arrives.
    pub(super) waiters: BTreeMap<QueueName, Arc<Notify>>,
    /// Those who wait for their seal.
    pub(super) seal_waiters: Arc<Waiters>,
    /// Those who wait for the end of a transaction.
    pub(super) transactions: EndWatch,
    pub(super) metrics: Arc<Metrics>,
    /// The store's identity.
    pub(super) store: StoreId,
    /// Configured attempts, for answers about queues.
    pub(super) attempts_max: u32,
    /// Commands on their way to the writer or in its hands.
    waiting: AtomicUsize,
}

impl Shared {
    pub(super) fn new(core: &mut Core, metrics: Arc<Metrics>) -> Shared {
        let durable = Durable::default();
        durable.advance(core.log().durable().lsn);
        Shared {
            durable,
            outbox: Arc::default(),
            postbox: Arc::default(),
            has_room: AtomicBool::new(core.has_room()),
            deaths: DeathWatch::default(),
            settled: Notify::new(),
            waiters: core.arrivals().keys().map(|name| (name.clone(), Arc::default())).collect(),
            seal_waiters: Arc::default(),
            transactions: EndWatch::default(),
            metrics,
            store: core.log().store(),
            attempts_max: core.policy().attempts_max,
            waiting: AtomicUsize::new(0),
        }
    }

    /// How many commands wait for the writer.
    pub(super) fn waiting_commands(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Counts one more, until what it gives is dropped.
    pub(super) fn count_waiting(&self) -> Counted<'_> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Counted(&self.waiting)
    }
}

/// One command that is counted as waiting.
pub(super) struct Counted<'a>(&'a AtomicUsize);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A reply that waits for the sync.
type Waiting = (Pending<Decided>, oneshot::Sender<Decided>);

pub(super) struct Writer {
    core: Core,
    inbox: Receiver<Mail>,
    shared: Arc<Shared>,
    waiting: Vec<Waiting>,
    compaction: Compaction,
    commits: u64,
    /// Commands that the last commit answered.
    last_batch: usize,
    /// Whether it was told that the disk is low.
    is_disk_low: bool,
}

/// Commits between two looks at what a gauge shows: under load nothing is ever idle.
const MEASURE_EVERY: u64 = 64;

/// Whether the writer goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Course {
    On,
    /// The last handle is gone.
    Over,
}

impl Writer {
    pub(super) fn new(
        core: Core,
        inbox: Receiver<Mail>,
        to_writer: SyncSender<Mail>,
        shared: Arc<Shared>,
    ) -> Writer {
        let waiting = Vec::with_capacity(BATCH_COMMANDS_MAX);
        let compaction = Compaction::new(to_writer, Arc::clone(&shared.metrics));
        let (commits, last_batch, is_disk_low) = (0, 0, false);
        Writer { core, inbox, shared, waiting, compaction, commits, last_batch, is_disk_low }
    }

    /// Runs until the last handle is gone, then closes the log; or until the log fails.
    pub(super) fn run(mut self) -> Result<(), log::Error> {
        let ended = self.serve();
        let Writer { core, inbox, shared, waiting, mut compaction, .. } = self;
        if ended.is_err() {
            shared.durable.poison();
        }
        // A compactor that waits for room in the inbox learns so that nobody reads it any more.
        drop((inbox, waiting));
        compaction.stop();
        let result = ended.and_then(|()| core.close());
        if result.is_err() {
            shared.durable.poison();
        }
        result
    }

    /// Carries out these commands under one sync. After an error nothing is carried out any more.
    pub(super) fn carry_out(&mut self, commands: Vec<Mail>) -> Result<(), log::Error> {
        let serve = || {
            for mail in commands {
                let Mail::Command(Envelope { command, findings, reply }) = mail else { continue };
                self.waiting.push((self.core.execute(command, findings)?, reply));
            }
            self.commit()
        };
        let served = serve();
        if served.is_err() {
            self.shared.durable.poison();
            self.waiting.clear();
        }
        served
    }

    /// Log and state, for whoever has the writer in hand.
    pub(super) fn core(&mut self) -> &mut Core {
        &mut self.core
    }

    /// Log and state, from a writer that is not needed any more.
    pub(super) fn into_core(self) -> Core {
        self.core
    }

    fn serve(&mut self) -> Result<(), log::Error> {
        while let Some(first) = self.next()? {
            let course = self.gather(first)?;
            self.commit()?;
            if self.commits.is_multiple_of(MEASURE_EVERY) {
                self.watch_disk()?;
            }
            if course == Course::Over {
                break;
            }
            self.compaction.begin_if_due(&mut self.core)?;
        }
        Ok(())
    }

    /// The next piece of mail. When none comes for a while the log is marked first.
    fn next(&mut self) -> Result<Option<Mail>, log::Error> {
        if let Some(mail) = self.look_out() {
            return Ok(Some(mail));
        }
        match self.inbox.recv_timeout(Duration::from_millis(IDLE_MARK_MS)) {
            Ok(mail) => return Ok(Some(mail)),
            Err(RecvTimeoutError::Disconnected) => return Ok(None),
            Err(RecvTimeoutError::Timeout) => {}
        }
        let durable = self.core.mark()?;
        self.shared.durable.advance(durable);
        self.note_room();
        self.measure();
        self.watch_disk()?;
        if self.core.has_room() {
            return Ok(self.inbox.recv().ok());
        }
        // Intake is refused at the door, so nobody may come to wake us when space is back.
        self.next_while_full()
    }

    /// Mail that comes while the writer would only just have gone to sleep.
    fn look_out(&self) -> Option<Mail> {
        if !(1..=SMALL_BATCH_COMMANDS).contains(&self.last_batch) {
            return None;
        }
        let watch = Stopwatch::start();
        while watch.seconds() < WRITER_AWAKE_S {
            if let Ok(mail) = self.inbox.try_recv() {
                return Some(mail);
            }
            // The one that is to send the next command may need this very processor.
            thread::yield_now();
        }
        None
    }

    fn next_while_full(&mut self) -> Result<Option<Mail>, log::Error> {
        loop {
            match self.inbox.recv_timeout(Duration::from_millis(SPARE_RETRY_MS)) {
                Err(RecvTimeoutError::Timeout) => {
                    self.note_room();
                    self.watch_disk()?;
                }
                received => return Ok(received.ok()),
            }
        }
    }

    /// Gauges that need not be exact to the record.
    fn measure(&self) {
        let Metrics { log_bytes, .. } = self.shared.metrics.as_ref();
        log_bytes.set(i64::try_from(self.core.log().bytes_on_disk()).unwrap_or(i64::MAX));
    }

    /// Tells of a disk that has become low: once, until it has plenty of room again.
    fn watch_disk(&mut self) -> Result<(), log::Error> {
        let Some(DiskRoom { free_bytes, low_bytes }) = self.core.disk_room() else {
            return Ok(());
        };
        let plenty_bytes = low_bytes.saturating_add(low_bytes / 4);
        if self.is_disk_low || free_bytes >= low_bytes {
            self.is_disk_low &= free_bytes < plenty_bytes;
            return Ok(());
        }
        self.is_disk_low = true;
        tracing::warn!(free_bytes, low_bytes, "the disk is nearly full");
        let tell = Command::Hook(HookCommand::TellDiskLow(free_bytes, low_bytes));
        // Nobody waits for the reply.
        drop(self.core.execute(tell, Findings::default())?);
        self.commit()
    }

    fn note_room(&self) {
        let has_room = self.core.has_room();
        if self.shared.has_room.swap(has_room, Ordering::Relaxed) != has_room {
            if has_room {
                tracing::info!("the disk has room again: intake goes on");
            } else {
                tracing::warn!("the disk is full: new formulas are refused, the rest goes on");
            }
        }
    }

    /// Carries out `first` and what else has arrived, as far as one batch goes.
    fn gather(&mut self, first: Mail) -> Result<Course, log::Error> {
        let mut next = Some(first);
        while let Some(mail) = next {
            match mail {
                Mail::Command(Envelope { command, findings, reply }) => {
                    self.waiting.push((self.core.execute(command, findings)?, reply));
                }
                Mail::Close => return Ok(Course::Over),
                other => {
                    self.attend(other)?;
                    return Ok(Course::On);
                }
            }
            let is_full = self.waiting.len() >= BATCH_COMMANDS_MAX
                || self.core.log().buffered_bytes() >= BATCH_LOG_BYTES_MAX;
            next = if is_full { None } else { self.inbox.try_recv().ok() };
        }
        Ok(Course::On)
    }

    /// Mail that is no command. What is gathered so far is committed first: a copy holds what is
    /// durable, and a snapshot ends with a whole batch.
    fn attend(&mut self, mail: Mail) -> Result<(), log::Error> {
        self.commit()?;
        match mail {
            Mail::Snapshot(reply) => self.compaction.want(reply),
            Mail::Backup(reply) => drop(reply.send(self.core.backup())),
            Mail::Compacted(outcome) => self.compaction.end(&mut self.core, *outcome)?,
            Mail::Command(_) | Mail::Close => unreachable!("the caller has seen to these"),
        }
        Ok(())
    }

    /// Syncs, then lets the replies go: in this order, always.
    fn commit(&mut self) -> Result<(), log::Error> {
        let before = self.shared.durable.lsn().unwrap_or(Lsn::ZERO);
        let watch = Stopwatch::start();
        let durable = self.core.sync()?;
        if durable > before {
            self.shared.metrics.sync_seconds.observe(watch.seconds());
            #[allow(clippy::cast_precision_loss, reason = "a batch is far below 2^52 records")]
            self.shared.metrics.commit_records.observe((durable.0 - before.0) as f64);
        }
        self.shared.durable.advance(durable);
        self.note_room();
        self.last_batch = self.waiting.len();
        self.shared.postbox.post(self.waiting.drain(..).map(|(pending, reply)| {
            (self.core.release(pending).expect("the sync covered the batch"), reply)
        }));
        wake_consumers(&self.shared.waiters, self.core.arrivals());
        self.shared.deaths.note(self.core.outlook());
        self.commits += 1;
        if self.commits.is_multiple_of(MEASURE_EVERY) {
            self.measure();
        }
        Ok(())
    }
}

/// Wakes one long poll for each message that became ready.
fn wake_consumers(waiters: &BTreeMap<QueueName, Arc<Notify>>, arrivals: &mut Arrivals) {
    for (queue, count) in arrivals.iter_mut().filter(|(_, count)| **count > 0) {
        if let Some(waiters) = waiters.get(queue) {
            // More waiters than connections there cannot be.
            (0..(*count).min(CONNECTIONS_MAX)).for_each(|_| waiters.notify_one());
        }
        *count = 0;
    }
}

/// Ends the process when the writer panics: its state may be half changed, so nobody may be
/// served from it, and replay is the cure.
pub(super) struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            std::process::abort();
        }
    }
}
