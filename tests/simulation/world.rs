//! One simulated life of a store: reigns, commands, faults and crashes, all from one seed.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Arc, PoisonError};

use sillage::engine::command::{
    Batch, BatchMode, Item, LeaseRequest, RequestKey, Settlement, Submission,
};
use sillage::engine::compactor::Task;
use sillage::engine::core::{CompactionPolicy, Core, Decided, Setting};
use sillage::engine::decide::{Command, ItemRaw, Policy, Refusal, Reply};
use sillage::engine::findings::Findings;
use sillage::engine::open::{OpenError, open};
use sillage::ids::{Lsn, MessageId, QueueName, Receipt};
use sillage::limits::SEGMENT_BYTES_MIN;
use sillage::log::{Options, Preparer, SimDisk, SimFault, StoreId};
use sillage::record::Selection;
use sillage::time::{ManualClock, Uptime};

use crate::model::{MAKE_UPS, Model, checked};

const LEASE_MS: u64 = 400;

/// A store with everything that surrounds it.
pub struct World {
    pub(crate) random: fastrand::Rng,
    pub(crate) disk: SimDisk,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) model: Model,
    /// Digest of the live state after the record of each LSN.
    pub(crate) digests: BTreeMap<Lsn, u128>,
    pub(crate) tally: Tally,
    /// The log was durable this far at the last look.
    pub(crate) durable: Lsn,
    /// A compaction that was begun.
    pub(crate) compaction: Option<Task>,
    /// A fault is planned, so that opening or closing may fail.
    pub(crate) is_hindered: bool,
}

/// What a client asked, kept until the reply is known.
#[derive(Clone, Debug)]
enum Asked {
    Accept { make_up: u32, key: Option<u8> },
    Batch { make_ups: Vec<u32>, mode: BatchMode },
    Withdraw { make_up: u32 },
    Lease,
    Settle { receipts: Vec<Receipt>, how: Settlement },
    Redrive,
    Purge,
}

/// What happened, so that a simulation that no longer reaches its corners is noticed.
#[derive(Debug, Default)]
pub struct Tally {
    accepted: u64,
    duplicates: u64,
    replayed: u64,
    withdrawn: u64,
    leased: u64,
    acked: u64,
    stale: u64,
    disk_full: u64,
    crashes: u64,
    failed_calls: u64,
    crashes_in_recovery: u64,
    clean_closes: u64,
    pub(crate) compared_digests: u64,
    pub(crate) snapshots: u64,
    pub(crate) snapshots_failed: u64,
    pub(crate) resumed: u64,
    pub(crate) read_from_snapshot: u64,
    unreadable: u64,
}

impl Tally {
    fn numbers(&mut self) -> [&mut u64; 17] {
        [
            &mut self.accepted,
            &mut self.duplicates,
            &mut self.replayed,
            &mut self.withdrawn,
            &mut self.leased,
            &mut self.acked,
            &mut self.stale,
            &mut self.disk_full,
            &mut self.crashes,
            &mut self.failed_calls,
            &mut self.crashes_in_recovery,
            &mut self.clean_closes,
            &mut self.compared_digests,
            &mut self.snapshots,
            &mut self.snapshots_failed,
            &mut self.resumed,
            &mut self.read_from_snapshot,
        ]
    }

    pub fn add(&mut self, other: &Tally) {
        let mut other = Tally { ..*other };
        for (sum, number) in self.numbers().into_iter().zip(other.numbers()) {
            *sum += *number;
        }
    }

    pub fn assert_everything_happened(mut self) {
        let text = format!("{self:?}");
        for (place, number) in self.numbers().into_iter().enumerate() {
            assert!(*number >= 50, "number {place} of the tally is hardly reached: {text}");
        }
    }
}

impl World {
    pub fn new(seed: u64) -> World {
        World {
            random: fastrand::Rng::with_seed(seed),
            disk: SimDisk::new(seed),
            clock: Arc::new(ManualClock::at(1_795_000_000_000)),
            model: Model::default(),
            digests: BTreeMap::new(),
            tally: Tally::default(),
            durable: Lsn::ZERO,
            compaction: None,
            is_hindered: false,
        }
    }

    /// Several reigns, then a last look at what is left.
    pub fn run(mut self) -> Tally {
        for _ in 0..self.random.u32(3..7) {
            let core = self.open();
            self.check(&core);
            self.live(core);
        }
        let core = self.open();
        self.check(&core);
        self.check_bodies(&core);
        self.tally
    }

    /// Opens the store, however often the power fails meanwhile.
    fn open(&mut self) -> Core {
        loop {
            self.is_hindered = self.random.u8(..4) == 0;
            if self.is_hindered && self.random.bool() {
                self.plan(120, SimFault::PowerOff);
            } else if self.is_hindered {
                self.fill_disk();
            }
            match self.try_open() {
                Ok(core) => return core,
                Err(error) => {
                    assert!(self.is_hindered, "a mere crash is refused: {error}");
                    self.tally.crashes_in_recovery += 1;
                    // What was not durable may have been cut, and its LSNs given anew.
                    let durable = self.durable;
                    self.digests.retain(|lsn, _| *lsn <= durable);
                    self.crash();
                }
            }
        }
    }

    /// Leaves room for one segment more, or not even that.
    fn fill_disk(&mut self) {
        let paths = self.disk.paths();
        let files = paths.iter().filter_map(|path| self.disk.bytes(path));
        let used: u64 = files.map(|bytes| bytes.len() as u64).sum();
        self.disk.set_capacity(used + self.random.u64(0..2 * SEGMENT_BYTES_MIN));
    }

    /// Something goes wrong at one of the next calls on the disk.
    fn plan(&mut self, calls: u64, fault: SimFault) {
        self.is_hindered = true;
        self.disk.fail_after(self.disk.calls() + self.random.u64(0..calls), fault);
    }

    fn try_open(&mut self) -> Result<Core, OpenError> {
        let policy = Policy { attempts_max: 3, retention_ms: 5_000, flow: &[] };
        let compaction = CompactionPolicy::default();
        let seed = self.random.u64(..);
        let setting = Setting { clock: self.clock.clone(), policy, compaction, seed };
        open(Arc::new(self.disk.handle()), options(), setting).map(|(core, _)| core)
    }

    fn crash(&mut self) {
        self.compaction = None;
        self.disk = self.disk.crash(self.random.u64(..));
        self.disk.set_capacity(u64::MAX);
        self.is_hindered = false;
        if self.random.u8(..8) == 0 {
            self.clock.jump_wall_to(self.random.u64(1_000_000_000_000..2_000_000_000_000));
        }
        self.clock.advance_ms(self.random.u64(0..2000));
    }

    /// Commands and faults, until the reign ends one way or the other.
    fn live(&mut self, mut core: Core) {
        for _ in 0..self.random.u32(2..40) {
            self.clock.advance_ms(self.random.u64(0..300));
            match self.random.u8(..40) {
                0 => self.plan(30, SimFault::Eio),
                1 => self.plan(30, SimFault::PowerOff),
                2 => self.fill_disk(),
                3..=5 => {
                    self.disk.set_capacity(u64::MAX);
                    core.retry_space();
                }
                6 => self.plan(30, SimFault::Interrupted),
                7 => self.plan(30, SimFault::Short),
                8 => self.clock.jump_wall_to(self.random.u64(0..2_000_000_000_000)),
                _ => {}
            }
            let is_compacting = self.random.u8(..8) == 0;
            if (is_compacting && self.compact(&mut core).is_break())
                || self.batch(&mut core).is_break()
            {
                self.tally.failed_calls += 1;
                drop(core);
                return self.crash();
            }
        }
        self.disk.set_capacity(u64::MAX);
        self.compaction = None;
        if self.random.bool() && !self.is_hindered {
            core.close().expect("nothing hinders the close");
            self.tally.clean_closes += 1;
        } else {
            drop(core);
            self.tally.crashes += 1;
            self.crash();
        }
    }

    /// Some commands under one sync. Breaks if the log failed.
    fn batch(&mut self, core: &mut Core) -> ControlFlow<()> {
        let mut waiting = Vec::new();
        for _ in 0..self.random.u32(1..9) {
            let (asked, command) = self.ask();
            let executed = core.execute(command, Findings::default());
            let uptime = self.note_digest(core);
            let failed = executed.is_err();
            waiting.push((asked, uptime, executed.ok()));
            if failed {
                return self.give_up(waiting);
            }
        }
        if core.sync().is_err() {
            return self.give_up(waiting);
        }
        self.durable = core.log().durable().lsn;
        for (asked, uptime, pending) in waiting {
            let pending = pending.expect("every command was carried out");
            let decided = core.release(pending).expect("everything is durable");
            self.told(asked, decided, uptime);
        }
        if self.random.u8(..6) == 0 && core.mark().is_err() {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }

    fn note_digest(&mut self, core: &Core) -> Uptime {
        let shared = core.store();
        let state = &shared.read().unwrap_or_else(PoisonError::into_inner).state;
        self.digests.insert(state.lsn(), state.digest());
        core.timeline().now(state.at(), self.clock.as_ref()).uptime
    }

    /// Nobody learns what became of these.
    fn give_up<T>(&mut self, waiting: Vec<(Asked, Uptime, T)>) -> ControlFlow<()> {
        for (asked, ..) in waiting {
            let (make_ups, messages) = match asked {
                Asked::Accept { make_up, key } => {
                    if let Some(key) = key {
                        self.model.keys.remove(&key);
                    }
                    (vec![make_up], vec![])
                }
                Asked::Withdraw { make_up } => {
                    let message = self.model.formulas.get(&make_up).map(|&lsn| MessageId(lsn));
                    (vec![make_up], message.into_iter().collect())
                }
                Asked::Batch { make_ups, .. } => (make_ups, vec![]),
                Asked::Settle { receipts, .. } => {
                    (vec![], receipts.iter().map(|receipt| receipt.message).collect())
                }
                Asked::Lease | Asked::Redrive | Asked::Purge => {
                    // May have been any message that is not gone.
                    let all = self.model.formulas.values().map(|&lsn| MessageId(lsn));
                    (vec![], all.collect())
                }
            };
            self.model.unsure_formulas.extend(make_ups);
            self.model.unsure_messages.extend(messages);
        }
        ControlFlow::Break(())
    }

    fn ask(&mut self) -> (Asked, Command) {
        let asked = match self.random.u8(..20) {
            0..=7 => {
                let make_up = self.make_up();
                Asked::Accept { make_up, key: self.key(make_up) }
            }
            8..=9 => Asked::Batch {
                make_ups: (0..self.random.u32(1..6)).map(|_| self.make_up()).collect(),
                mode: if self.random.bool() { BatchMode::Atomic } else { BatchMode::PerItem },
            },
            10 => Asked::Withdraw { make_up: self.make_up() },
            11..=14 => Asked::Lease,
            15..=18 => Asked::Settle { receipts: self.receipts(), how: self.settlement() },
            _ if self.random.bool() => Asked::Redrive,
            _ => Asked::Purge,
        };
        let command = self.command(&asked);
        (asked, command)
    }

    fn command(&mut self, asked: &Asked) -> Command {
        let queue = || QueueName::FORMULAS.parse().expect("well formed");
        match asked {
            Asked::Accept { make_up, key } => Command::Accept(submission(*make_up, *key)),
            Asked::Batch { make_ups, mode } => Command::AcceptBatch(Batch {
                items: make_ups.iter().map(|&n| Item::Valid(submission(n, None))).collect(),
                mode: *mode,
                key: None,
                request_id: "r".into(),
            }),
            Asked::Withdraw { make_up } => Command::Withdraw(checked(*make_up).fingerprint),
            Asked::Lease => Command::Lease(LeaseRequest {
                queue: queue(),
                messages_max: self.random.usize(1..6),
                lease_ms: LEASE_MS,
            }),
            Asked::Settle { receipts, how } => {
                Command::Settle(queue(), receipts.clone(), how.clone())
            }
            Asked::Redrive => Command::Redrive(queue(), Selection::All),
            Asked::Purge => Command::Purge(queue(), Selection::All),
        }
    }

    /// A client learns what became of its command.
    fn told(&mut self, asked: Asked, decided: Decided, now: Uptime) {
        match (asked, decided) {
            (Asked::Accept { make_up, key }, Ok(Reply::Accepted(stored))) => {
                self.accepted(make_up, stored.lsn);
                if let Some(key) = key {
                    self.model.keys.insert(key, (make_up, stored.lsn));
                }
            }
            (Asked::Accept { make_up, key }, Ok(Reply::Replayed(lsn))) => {
                self.tally.replayed += 1;
                let key = key.expect("only a keyed request is answered again");
                if let Some(first) = self.model.keys.get(&key) {
                    assert_eq!(*first, (make_up, lsn), "the first answer comes again");
                }
            }
            (Asked::Accept { make_up, .. }, Err(Refusal::Duplicate(lsn))) => {
                self.duplicate(make_up, lsn);
            }
            (Asked::Batch { make_ups, .. }, Ok(Reply::Batch(items))) => {
                for (make_up, item) in make_ups.into_iter().zip(items) {
                    match item {
                        ItemRaw::Accepted(stored) => self.accepted(make_up, stored.lsn),
                        ItemRaw::Duplicate(lsn) => self.duplicate(make_up, lsn),
                        other => panic!("an item without a key becomes {other:?}"),
                    }
                }
            }
            (Asked::Withdraw { make_up }, Ok(Reply::Withdrawn(_))) => {
                self.tally.withdrawn += 1;
                let lsn = self.model.formulas.remove(&make_up).expect("it was stored");
                // Never again, except to who holds it now.
                self.model.unsure_messages.insert(MessageId(lsn));
            }
            (Asked::Lease, Ok(Reply::Leased(deliveries))) => {
                self.tally.leased += deliveries.len() as u64;
                self.model.leased(&deliveries, now, LEASE_MS);
            }
            (Asked::Settle { how, .. }, Ok(Reply::Settled(settled))) => {
                self.tally.acked += settled.done.len() as u64;
                self.model.settled(&settled.done, &how, now);
                // A receipt that stands twice in a request counts once.
                let twice = |receipt: &&Receipt| settled.done.contains(&receipt.message);
                let stale = settled.stale.iter().filter(|receipt| !twice(receipt));
                stale.for_each(|receipt| self.model.stale(receipt, now));
            }
            (Asked::Settle { .. }, Err(Refusal::ReceiptsStale(stale))) => {
                self.tally.stale += 1;
                stale.iter().for_each(|receipt| self.model.stale(receipt, now));
            }
            (Asked::Accept { .. } | Asked::Batch { .. }, Err(Refusal::DiskFull)) => {
                self.tally.disk_full += 1;
            }
            // The disk failed while the snapshot was asked: nothing was changed.
            (_, Err(Refusal::Unreadable)) if self.is_hindered => self.tally.unreadable += 1,
            (Asked::Purge, Ok(Reply::Moved(count))) if count > 0 => {
                let all = self.model.formulas.values().map(|&lsn| MessageId(lsn));
                self.model.unsure_messages.extend(all);
            }
            (Asked::Purge | Asked::Redrive, Ok(Reply::Moved(_)))
            | (Asked::Withdraw { .. }, Err(Refusal::FormulaUnknown))
            | (Asked::Batch { .. }, Err(Refusal::Culprits(_)))
            | (Asked::Accept { .. }, Err(Refusal::KeyReused)) => {}
            (asked, decided) => panic!("{asked:?} is answered by {decided:?}"),
        }
    }

    fn accepted(&mut self, make_up: u32, lsn: Lsn) {
        self.tally.accepted += 1;
        let before = self.model.formulas.insert(make_up, lsn);
        assert_eq!(before, None, "make-up {make_up} is accepted twice");
    }

    fn duplicate(&mut self, make_up: u32, lsn: Lsn) {
        self.tally.duplicates += 1;
        let stored = self.model.formulas.get(&make_up);
        assert_eq!(stored, Some(&lsn), "a duplicate names the stored formula");
    }

    fn make_up(&mut self) -> u32 {
        self.random.u32(0..MAKE_UPS)
    }

    /// Mostly a key of the make-up's own, so that requests are repeated; else one that may be
    /// spent on another.
    fn key(&mut self, make_up: u32) -> Option<u8> {
        match self.random.u8(..4) {
            0 => None,
            1 => Some(self.random.u8(..)),
            _ => u8::try_from(make_up).ok(),
        }
    }

    /// Mostly receipts that are held, some that no longer are, one forged now and then.
    fn receipts(&mut self) -> Vec<Receipt> {
        let held: Vec<Receipt> = self.model.leases.values().map(|(receipt, _)| *receipt).collect();
        let mut chosen: Vec<Receipt> = Vec::new();
        for _ in 0..self.random.u32(1..4) {
            chosen.extend(self.random.choice(&held));
        }
        if self.random.u8(..4) == 0 {
            chosen.extend(self.random.choice(&self.model.spent));
        }
        if self.random.u8(..8) == 0 {
            chosen.extend(self.random.choice(&held).map(|r| Receipt { token: !r.token, ..*r }));
        }
        chosen
    }

    fn settlement(&mut self) -> Settlement {
        match self.random.u8(..4) {
            0 => Settlement::Nack { delay_ms: self.random.u64(0..500), reason: "busy".into() },
            1 => Settlement::Extend { lease_ms: LEASE_MS },
            _ => Settlement::Ack,
        }
    }
}

/// Small segments, so that a short life sees many.
pub(crate) fn options() -> Options {
    let segment_bytes = SEGMENT_BYTES_MIN;
    let preparer = Preparer::Inline;
    Options { segment_bytes, preparer, ..Options::new(StoreId([7; 16])) }
}

fn submission(make_up: u32, key: Option<u8>) -> Submission {
    let checked = checked(make_up);
    let [a, b, c, d] = make_up.to_le_bytes();
    let request = std::array::from_fn(|at| [a, b, c, d][at % 4]);
    let key = key.map(|key| RequestKey { key: [key; 32], request });
    Submission { formula: checked.formula, fingerprint: checked.fingerprint, key }
}
