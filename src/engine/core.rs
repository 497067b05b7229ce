//! Log and state in one pair of hands: decide, append, apply, sync, release.
//!
//! [`Core`] is the engine without threads, channels or sockets. The writer thread drives it with
//! real clocks and disks; the simulation drives the same code from a seed.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, PoisonError, RwLock};

use prometheus_client::metrics::counter::Counter;

pub use crate::engine::arrivals::Arrivals;
use crate::engine::arrivals::{note_arrivals, note_returns};
use crate::engine::base::{Base, BaseError, Kept};
use crate::engine::bodies::Shelves;
use crate::engine::compactor::{Compacted, SnapshotReport, Task};
use crate::engine::decide::{self, Circumstances, Command, Policy, Refusal, Reply, Verdict};
use crate::engine::findings::{Findings, View, Wanted};
use crate::engine::pending::Pending;
use crate::formula::Fingerprint;
use crate::ids::Lsn;
use crate::limits::{
    DISK_LOW_SEGMENTS, SNAPSHOT_LEAVES_SEGMENTS, SNAPSHOT_RATIO_PERCENT_DEFAULT,
    SNAPSHOT_WINDOW_BYTES_MIN, STATE_HASH_EVERY,
};
use crate::log::{Backup, Error, Kind, Log, Obsolete, Space};
use crate::record::{Fact, Record, codec};
use crate::state::State;
use crate::state::rest::{Base as Rest, Dropped};
use crate::time::{Clock, Moment, Timeline, Uptime};

/// The state with the snapshot beneath it.
pub struct Store {
    /// What the records above the snapshot add up to, and what of it fits in memory.
    pub state: State,
    /// The snapshot. `None`: everything is in memory.
    pub base: Option<Base>,
}

impl Store {
    /// The record that accepted the formula of this identity, if it is stored. Waits for the
    /// disk: for `check` and tests.
    ///
    /// # Errors
    /// See [`BaseError`].
    pub fn find(&self, fingerprint: &Fingerprint) -> Result<Option<Lsn>, BaseError> {
        let wanted = Wanted::by_formula(fingerprint, self);
        let findings = match &self.base {
            Some(base) => Findings::from_disk(base, &wanted)?,
            None => Findings::none(self.state.base()),
        };
        Ok(View::new(&self.state, &findings).formula(fingerprint))
    }
}

/// The store as writer and readers share it: the writer alone changes it.
pub type SharedStore = Arc<RwLock<Store>>;

/// What a command led to, or why it changes nothing.
pub type Decided = Result<Reply, Refusal>;

/// Owner of log and state.
pub struct Core {
    log: Log,
    store: SharedStore,
    compaction: CompactionPolicy,
    clock: Arc<dyn Clock>,
    timeline: Timeline,
    policy: Policy,
    /// Random numbers for receipts.
    random: fastrand::Rng,
    /// Encoded records of the group at hand; kept, so that no command allocates for them.
    scratch: Scratch,
    arrivals: Arrivals,
}

/// How full the disk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskRoom {
    /// Bytes that are free.
    pub free_bytes: u64,
    /// Bytes below which it is called low.
    pub low_bytes: u64,
}

/// What is to come of messages that nobody settles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outlook {
    /// There are dead letters that nobody was told of.
    pub has_unannounced: bool,
    /// The next deadline of a lease or a delay.
    pub first_due: Option<Uptime>,
}

#[derive(Default)]
struct Scratch {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Core {
    /// Puts a log that is open for appending and the state that it replayed to in one pair of
    /// hands.
    #[must_use]
    pub fn new(log: Log, store: Store, setting: Setting) -> Core {
        let Setting { clock, policy, compaction, seed } = setting;
        let state = &store.state;
        Core {
            log,
            timeline: Timeline::resume(state.at(), clock.as_ref()),
            arrivals: state.queues().map(|(name, _)| (name.clone(), 0)).collect(),
            store: Arc::new(RwLock::new(store)),
            compaction,
            clock,
            policy,
            random: fastrand::Rng::with_seed(seed),
            scratch: Scratch::default(),
        }
    }

    /// The store, for readers.
    #[must_use]
    pub fn store(&self) -> SharedStore {
        Arc::clone(&self.store)
    }

    /// The log, for questions about it.
    #[must_use]
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// What the operator configured.
    #[must_use]
    pub fn policy(&self) -> Policy {
        self.policy
    }

    /// How moments are reckoned in this reign.
    #[must_use]
    pub fn timeline(&self) -> Timeline {
        self.timeline
    }

    /// Messages that became ready since whoever reads this set the numbers back to zero; every
    /// queue has its entry.
    pub fn arrivals(&mut self) -> &mut Arrivals {
        &mut self.arrivals
    }

    /// How full the disk is; `None` when it does not say.
    #[must_use]
    pub fn disk_room(&self) -> Option<DiskRoom> {
        let free_bytes = self.log.disk().available_bytes().ok()?;
        let snapshot_bytes = self.log.snapshot().map_or(0, |snapshot| snapshot.bytes);
        let low_bytes = DISK_LOW_SEGMENTS * self.log.segment_bytes() + snapshot_bytes;
        Some(DiskRoom { free_bytes, low_bytes })
    }

    /// What whoever tells of dead letters needs to know.
    #[must_use]
    pub fn outlook(&self) -> Outlook {
        let store = self.store.read().unwrap_or_else(PoisonError::into_inner);
        let has_unannounced = store.state.queues().any(|(_, queue)| queue.has_unannounced());
        let first_due = store.state.queues().filter_map(|(_, queue)| queue.first_due()).min();
        Outlook { has_unannounced, first_due }
    }

    /// Whether the log has room for new formulas. What only moves messages along may go on
    /// without, in the rest of the segment at hand.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.log.space() == Space::Ample
    }

    /// Decides a command, appends what it amounts to and applies it. The next command already
    /// sees it; the outside does not before [`Core::sync`].
    ///
    /// `findings` are what the sender has learnt from the snapshot; what is missing is asked here.
    ///
    /// # Errors
    /// The log's error, after which nothing more can be appended.
    pub fn execute(
        &mut self,
        command: Command,
        findings: Findings,
    ) -> Result<Pending<Decided>, Error> {
        let has_room = !command.is_intake() || self.has_room();
        // Only this thread changes the state, so it is the same when the facts are applied. In
        // between whoever asks need not wait: neither for the decision nor for the log, which
        // may be turning to its next segment.
        let (verdict, now) = {
            let store = self.store.read().unwrap_or_else(PoisonError::into_inner);
            let circumstances = Circumstances {
                now: self.timeline.now(store.state.at(), self.clock.as_ref()),
                token: self.random.u64(..),
                policy: self.policy,
            };
            let verdict = findings_for(&store, &command, findings).and_then(|findings| {
                decide::decide(View::new(&store.state, &findings), command, &circumstances)
            });
            (verdict, circumstances.now)
        };
        let decided = match verdict {
            // Only what would have to be recorded: a duplicate is one on a full disk, too.
            Ok(Verdict::Record(..)) if !has_room => Err(Refusal::DiskFull),
            Ok(Verdict::Record(facts, draft)) => match self.record(facts, now) {
                Ok((first, facts)) => Ok(draft.complete(facts, first, now.wall)),
                Err(Error::NoSpace) => Err(Refusal::DiskFull),
                Err(error) => return Err(error),
            },
            Ok(Verdict::Known(reply)) => Ok(reply),
            Err(refusal) => Err(refusal),
        };
        let lsn = self.store.read().unwrap_or_else(PoisonError::into_inner).state.lsn();
        Ok(Pending::new(lsn, decided))
    }

    /// Makes everything appended so far durable, and says how far that is.
    ///
    /// # Errors
    /// The log's error, after which nothing more can be appended.
    pub fn sync(&mut self) -> Result<Lsn, Error> {
        self.log.sync()
    }

    /// What a command led to, once it is durable.
    ///
    /// # Errors
    /// Gives the pending value back if it is not durable yet.
    pub fn release<T>(&self, pending: Pending<T>) -> Result<T, Pending<T>> {
        pending.open(self.log.durable().lsn)
    }

    /// Tries at once to get the room that the log lacks. Needed only where no thread does.
    pub fn retry_space(&mut self) {
        self.log.retry_space();
    }

    /// Lets the log note how far it is durable, in a quiet moment.
    ///
    /// # Errors
    /// The log's error, after which nothing more can be appended.
    pub fn mark(&mut self) -> Result<Lsn, Error> {
        self.log.mark()
    }

    /// Whether the log has grown so far that a new snapshot is due.
    #[must_use]
    pub fn is_snapshot_due(&self) -> bool {
        self.log.bytes_since_snapshot() >= self.snapshot_window_bytes()
    }

    /// Bytes of log after the newest snapshot from which the next one is due.
    #[must_use]
    pub fn snapshot_window_bytes(&self) -> u64 {
        let snapshot_bytes = self.log.snapshot().map_or(0, |snapshot| snapshot.bytes);
        self.compaction.window_bytes(snapshot_bytes)
    }

    /// Begins a compaction: seals the segment at hand and sets what is applied so far apart.
    /// Ends by [`Core::install`] or [`Core::abandon`], with commands in between. `None`: nothing
    /// was recorded since the last snapshot.
    ///
    /// # Errors
    /// The log's error, after which nothing more can be appended; but for `NoSpace`, after which
    /// everything is as before.
    pub fn begin_compaction(&mut self, stop: Arc<AtomicBool>) -> Result<Option<Task>, Error> {
        let upto = self.log.rotate()?;
        let mut store = self.store.write().unwrap_or_else(PoisonError::into_inner);
        if upto <= store.state.base() {
            return Ok(None);
        }
        store.state.freeze();
        let (current, base) = (self.log.super_block(), store.base.clone());
        let (disk, reader) = (self.log.disk(), self.log.reader());
        let leave_bytes = SNAPSHOT_LEAVES_SEGMENTS * self.log.segment_bytes();
        Ok(Some(Task { disk, current, upto, base, reader, stop, leave_bytes }))
    }

    /// Ends a compaction: puts the new snapshot in force and lets go what is in it. Gives what
    /// the caller should drop, and the files that nobody needs any more, where it holds nobody
    /// up.
    ///
    /// # Errors
    /// The log's error, after which nothing more can be appended.
    pub fn install(&mut self, compacted: Compacted) -> Result<(LetGo, Obsolete), Error> {
        let Compacted { named, base, image, .. } = compacted;
        let (rest, bytes) = (Rest::of(&image), base.snapshot().bytes());
        let store = Arc::clone(&self.store);
        // After SUPER: once readers rest on the snapshot, a start must find it, too.
        self.log.install(named, bytes, || {
            let mut store = store.write().unwrap_or_else(PoisonError::into_inner);
            let layer = store.state.rebase(rest);
            LetGo { _layer: layer, _before: store.base.replace(base) }
        })
    }

    /// Ends a compaction that came to nothing.
    pub fn abandon(&mut self) {
        self.store.write().unwrap_or_else(PoisonError::into_inner).state.thaw();
    }

    /// What the snapshot in force holds.
    #[must_use]
    pub fn snapshot(&self) -> SnapshotReport {
        let store = self.store.read().unwrap_or_else(PoisonError::into_inner);
        SnapshotReport {
            lsn: store.state.base(),
            formulas: store.state.formulas().len() as u64,
            bytes: self.log.snapshot().map_or(0, |snapshot| snapshot.bytes),
            took_ms: 0,
        }
    }

    /// The record at `lsn` with the steps that are kept beside it, wherever it stands, if it is
    /// durable and was kept.
    ///
    /// # Errors
    /// The LSN of a record that is there but cannot be read; the event that is written says why.
    pub fn read(&self, lsn: Lsn) -> Result<Option<Kept>, Lsn> {
        Shelves::new(self.log.reader(), self.store(), Counter::default()).kept_or_none(lsn)
    }

    /// A consistent copy of the store, as far as it is durable.
    #[must_use]
    pub fn backup(&self) -> Backup {
        self.log.backup()
    }

    /// Closes the log cleanly.
    ///
    /// # Errors
    /// The log's error. What was synced is durable all the same.
    pub fn close(self) -> Result<(), Error> {
        self.log.close()
    }

    /// Records facts as if they had been decided, for tests of what follows from them.
    #[cfg(test)]
    pub(super) fn put(&mut self, facts: Vec<Fact>) -> Lsn {
        let at = self.store.read().unwrap_or_else(PoisonError::into_inner).state.at();
        let now = self.timeline.now(at, self.clock.as_ref());
        self.record(facts, now).expect("the log takes them").0
    }

    /// Appends the facts as one group and applies them.
    fn record(&mut self, facts: Vec<Fact>, at: Moment) -> Result<(Lsn, Vec<Fact>), Error> {
        let records: Vec<Record> = facts.into_iter().map(|fact| Record { at, fact }).collect();
        let first = self.append(&records)?;
        let shared = Arc::clone(&self.store);
        let mut store = shared.write().unwrap_or_else(PoisonError::into_inner);
        note_returns(&mut self.arrivals, &store.state, at.uptime);
        for (lsn, record) in (first.0..).map(Lsn).zip(&records) {
            store.state.apply(lsn, record);
            note_arrivals(&mut self.arrivals, &record.fact);
        }
        self.state_hash(&mut store.state, at)?;
        Ok((first, records.into_iter().map(|record| record.fact).collect()))
    }

    /// States the digest in the log when it is time.
    fn state_hash(&mut self, state: &mut State, at: Moment) -> Result<(), Error> {
        if state.records_since_hash() < STATE_HASH_EVERY {
            return Ok(());
        }
        let hash = Record { at, fact: Fact::Digest { digest: state.digest() } };
        match self.append(std::slice::from_ref(&hash)) {
            Ok(lsn) => state.apply(lsn, &hash),
            // The next record tries again.
            Err(Error::NoSpace) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn append(&mut self, records: &[Record]) -> Result<Lsn, Error> {
        let Scratch { bytes, ends } = &mut self.scratch;
        bytes.clear();
        ends.clear();
        for record in records {
            codec::encode(record, bytes);
            ends.push(bytes.len());
        }
        if let [record] = records {
            return self.log.append(kind(&record.fact), bytes);
        }
        let payload = |at: usize| {
            let start = if at == 0 { 0 } else { ends[at - 1] };
            &bytes[start..ends[at]]
        };
        self.log.append_group((0..ends.len()).map(payload))
    }
}

/// What a new snapshot has made superfluous in memory: large, so to be dropped by a thread that
/// nobody waits for.
pub struct LetGo {
    _layer: Dropped,
    _before: Option<Base>,
}

/// What a core needs besides log and state.
pub struct Setting {
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
    /// What the operator configured.
    pub policy: Policy,
    /// When a new snapshot is due.
    pub compaction: CompactionPolicy,
    /// Seed of the random part of receipts: unguessable when serving, chosen in simulation.
    pub seed: u64,
}

/// When a new snapshot is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompactionPolicy {
    /// Not before the log has grown by this many bytes since the last one.
    pub window_bytes_min: u64,
    /// Not before the log has grown to this many percent of the last one's bytes.
    pub ratio_percent: u32,
}

impl CompactionPolicy {
    /// Bytes of log after which a snapshot of `snapshot_bytes` is due for replacement.
    #[must_use]
    pub fn window_bytes(&self, snapshot_bytes: u64) -> u64 {
        let by_ratio = (snapshot_bytes / 100).saturating_mul(self.ratio_percent.into());
        self.window_bytes_min.max(by_ratio)
    }
}

impl Default for CompactionPolicy {
    fn default() -> CompactionPolicy {
        CompactionPolicy {
            window_bytes_min: SNAPSHOT_WINDOW_BYTES_MIN,
            ratio_percent: SNAPSHOT_RATIO_PERCENT_DEFAULT,
        }
    }
}

/// What the snapshot holds of the identities that `command` names: as far as the sender knows it,
/// and else from the disk.
fn findings_for(store: &Store, command: &Command, known: Findings) -> Result<Findings, Refusal> {
    let Some(base) = &store.base else { return Ok(Findings::none(store.state.base())) };
    if known.are_of(base.lsn()) {
        return Ok(known);
    }
    let wanted = Wanted::by_command(command, store);
    Findings::from_disk(base, &wanted).map_err(|error| {
        tracing::error!(lsn = %base.lsn(), %error, "the snapshot cannot be read");
        Refusal::Unreadable
    })
}

/// The kind of frame that holds a fact.
fn kind(fact: &Fact) -> Kind {
    match fact {
        Fact::StateHash { .. } | Fact::Digest { .. } => Kind::StateHash,
        _ => Kind::Record,
    }
}
