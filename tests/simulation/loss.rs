//! Damage, an accepted loss, and life after it: whatever is left must be a store like any other.
//!
//! Unlike the crashes, damage is found when it pleases: often reigns after it took its records,
//! whose consequences are all still there. After each repair the store opens, its invariants
//! hold, what it says it has can be read, and every later replay leads to the same state. So it
//! is with snapshots in between: a compaction of what is left succeeds, and what it makes is
//! damaged like the rest.

use std::sync::{Arc, PoisonError};

use sillage::engine::base::Base;
use sillage::engine::command::{
    Batch, BatchMode, Item, LeaseRequest, RequestKey, Settlement, Submission,
};
use sillage::engine::compactor::{Task, compact};
use sillage::engine::core::{CompactionPolicy, Core, Setting};
use sillage::engine::decide::{Command, Policy, Reply};
use sillage::engine::findings::Findings;
use sillage::engine::open::{OpenError, open, replay, resume};
use sillage::ids::{Lsn, QueueName, Receipt};
use sillage::limits::SEGMENT_BYTES_MIN;
use sillage::log::{
    self, Disk, Fault, Options, Preparer, RepairError, SimDisk, StoreId, prepare, repair,
};
use sillage::record::{Fact, Selection};
use sillage::state::State;
use sillage::state::outlook::Phase;
use sillage::time::ManualClock;

use crate::model::checked;

/// Few, so that make-ups come again after they were withdrawn.
const MAKE_UPS: u32 = 40;
const EVERYTHING: std::ops::RangeInclusive<Lsn> = Lsn(1)..=Lsn(u64::MAX - 1);

/// How often a damaged store was repaired, and how often that was refused.
#[derive(Debug, Default)]
pub struct Tally {
    pub repaired: u64,
    pub lost: u64,
    pub refused: u64,
    /// Snapshots written, and those written where records of the store had been lost before.
    pub snapshots: u64,
    pub snapshots_after_loss: u64,
    /// Openings from a snapshot.
    pub resumed: u64,
    /// Snapshots damaged, and repairs that took nothing acknowledged with it.
    pub snapshots_damaged: u64,
    pub healed: u64,
    /// Stores given up since no snapshot was left: only a backup helps.
    pub snapshots_lost: u64,
}

/// A store that is damaged time and again.
pub struct Damaged {
    random: fastrand::Rng,
    disk: SimDisk,
    clock: Arc<ManualClock>,
    receipts: Vec<Receipt>,
    has_lost: bool,
}

impl Damaged {
    pub fn new(seed: u64) -> Damaged {
        Damaged {
            random: fastrand::Rng::with_seed(seed),
            disk: SimDisk::new(seed),
            clock: Arc::new(ManualClock::at(1_795_000_000_000)),
            receipts: Vec::new(),
            has_lost: false,
        }
    }

    /// Some rounds of several reigns, damage and repair.
    pub fn run(mut self, tally: &mut Tally) {
        for _ in 0..self.random.u32(1..4) {
            for _ in 0..self.random.u32(1..4) {
                self.reign(tally);
            }
            for _ in 0..self.random.u32(1..4) {
                self.damage(tally);
            }
            match repair(&self.handle(), Some(EVERYTHING)) {
                Ok(report) => {
                    tally.repaired += 1;
                    tally.lost += report.lost.len() as u64;
                    tally.healed += u64::from(report.lost.is_empty() && !report.mended.is_empty());
                    self.has_lost |= !report.lost.is_empty();
                }
                // Which history is right, or which store it was, nothing tells any more.
                // Without a snapshot and without the log before it, most of the store is gone.
                Err(RepairError::Ambiguous(damage)) if damage.fault == Fault::SnapshotsLost => {
                    tally.snapshots_lost += 1;
                    return;
                }
                Err(RepairError::Ambiguous(_) | RepairError::Refused(_)) => {
                    tally.refused += 1;
                    return;
                }
                Err(other) => panic!("a damaged store is not repaired: {other}"),
            }
        }
        self.reign(tally);
        let core = self.open();
        self.check(&core);
    }

    fn handle(&self) -> Arc<dyn Disk> {
        Arc::new(self.disk.handle())
    }

    fn open(&mut self) -> Core {
        let policy = Policy { attempts_max: 2, retention_ms: 3_000, flow: &[] };
        let (compaction, seed) = (CompactionPolicy::default(), self.random.u64(..));
        let setting = Setting { clock: self.clock.clone(), policy, compaction, seed };
        match open(self.handle(), options(), setting) {
            Ok((core, _)) => core,
            Err(error) => panic!("a repaired store is refused: {error}"),
        }
    }

    fn reign(&mut self, tally: &mut Tally) {
        let mut core = self.open();
        self.check(&core);
        tally.resumed += u64::from(core.snapshot().lsn > Lsn::ZERO);
        let mut compaction = None;
        for _ in 0..self.random.u32(5..60) {
            self.clock.advance_ms(self.random.u64(0..150));
            if self.random.u8(..12) == 0 {
                compaction = self.compact(&mut core, compaction, tally);
            }
            let command = self.command();
            let pending =
                core.execute(command, Findings::default()).expect("nothing hinders the disk");
            core.sync().expect("nothing hinders the disk");
            if let Ok(Reply::Leased(deliveries)) = core.release(pending).expect("it was synced") {
                self.receipts.extend(deliveries.iter().map(|delivery| delivery.receipt));
            }
        }
        core.store().read().unwrap_or_else(PoisonError::into_inner).state.check_invariants();
        if self.random.bool() {
            core.close().expect("nothing hinders the disk");
        }
    }

    /// Begins a compaction, or ends the one that was begun.
    fn compact(&self, core: &mut Core, begun: Option<Task>, tally: &mut Tally) -> Option<Task> {
        let Some(task) = begun else {
            return core.begin_compaction(Arc::default()).expect("nothing hinders the disk");
        };
        let compacted = compact(&task).unwrap_or_else(|error| panic!("no snapshot: {error}"));
        let (let_go, obsolete) = core.install(compacted).expect("nothing hinders the disk");
        drop(let_go);
        obsolete.remove().expect("nothing hinders the disk");
        tally.snapshots += 1;
        tally.snapshots_after_loss += u64::from(self.has_lost);
        self.check(core);
        None
    }

    /// Invariants hold, another replay leads to the same state, and what the state names can be
    /// read.
    fn check(&self, core: &Core) {
        let shared = core.store();
        let live = &shared.read().unwrap_or_else(PoisonError::into_inner).state;
        live.check_invariants();
        let prepared = prepare(Arc::new(self.disk.fork()), options()).expect("it can be read");
        let base = prepared.snapshot().cloned().map(Base::new);
        let mut replayed = match &base {
            Some(base) => resume(base).expect("it can be read"),
            None => State::default(),
        };
        let reopened = prepared.replay(|entry| replay(&mut replayed, base.as_ref(), &entry));
        assert!(reopened.is_ok(), "an open store opens: {:?}", reopened.err().map(describe));
        assert_eq!(replayed.digest(), live.digest(), "replay leads to the live state");

        let fact = |lsn: Lsn| {
            let kept = core.read(lsn).unwrap_or_else(|_| panic!("record {lsn} cannot be read"));
            kept.unwrap_or_else(|| panic!("record {lsn} is not there")).record.fact
        };
        let is_formula = |lsn| matches!(fact(lsn), Fact::FormulaAccepted(_));
        assert!(live.formulas().after(Lsn::ZERO).all(is_formula), "formulas are formulas");
        let queue = live.queue(QueueName::FORMULAS).expect("built in");
        for phase in [Phase::Ready, Phase::Leased, Phase::Delayed, Phase::Dead] {
            for seen in queue.peek(phase, live.at(), None, usize::MAX) {
                let about = match fact(seen.id.0) {
                    Fact::FormulaWithdrawn { formula, .. } => formula,
                    _ => seen.id.0,
                };
                assert!(is_formula(about), "message {} is about a formula", seen.id);
            }
        }
    }

    fn command(&mut self) -> Command {
        let queue = || QueueName::FORMULAS.parse().expect("well formed");
        match self.random.u8(..20) {
            0..=5 => Command::Accept(self.submission()),
            6 => Command::AcceptBatch(Batch {
                items: (0..self.random.u32(1..5)).map(|_| Item::Valid(self.bare())).collect(),
                mode: if self.random.bool() { BatchMode::Atomic } else { BatchMode::PerItem },
                key: self.key(),
                request_id: "r".into(),
            }),
            7..=8 => Command::Withdraw(self.bare().fingerprint),
            9..=12 => Command::Lease(LeaseRequest {
                queue: queue(),
                messages_max: self.random.usize(1..5),
                lease_ms: 400,
            }),
            13..=17 => Command::Settle(queue(), self.some_receipts(), self.settlement()),
            18 => Command::Redrive(queue(), Selection::All),
            _ => Command::Purge(queue(), Selection::All),
        }
    }

    fn bare(&mut self) -> Submission {
        let checked = checked(self.random.u32(1..=MAKE_UPS));
        Submission { formula: checked.formula, fingerprint: checked.fingerprint, key: None }
    }

    fn submission(&mut self) -> Submission {
        let submission = self.bare();
        // The body decides the key, so that a key never comes with another body.
        let bytes = submission.fingerprint.0;
        let key = self.random.bool().then_some(RequestKey { key: bytes, request: bytes });
        Submission { key, ..submission }
    }

    fn key(&mut self) -> Option<RequestKey> {
        let bytes = [self.random.u8(..4); 32];
        self.random.bool().then_some(RequestKey { key: bytes, request: bytes })
    }

    fn some_receipts(&mut self) -> Vec<Receipt> {
        let from = self.receipts.len().saturating_sub(6);
        let mut some = self.receipts[from..].to_vec();
        some.retain(|_| self.random.bool());
        some
    }

    fn settlement(&mut self) -> Settlement {
        match self.random.u8(..5) {
            0..=1 => Settlement::Ack,
            2..=3 => Settlement::Nack { delay_ms: self.random.u64(0..300), reason: "no".into() },
            _ => Settlement::Extend { lease_ms: self.random.u64(10..800) },
        }
    }

    fn damage(&mut self, tally: &mut Tally) {
        let paths = self.disk.paths();
        let snapshots: Vec<_> = paths.iter().filter(|path| path.ends_with(".snap")).collect();
        if let Some(path) = self.random.choice(&snapshots).filter(|_| self.random.u8(..4) == 0) {
            tally.snapshots_damaged += 1;
            return self.damage_snapshot(path);
        }
        let segments: Vec<_> = paths.iter().filter(|path| path.ends_with(".seg")).collect();
        let Some(path) = self.random.choice(&segments) else { return };
        let at = self.random.u64(..self.used(path));
        match self.random.u8(..12) {
            0..=4 => self.disk.flip(path, at * 8 + self.random.u64(..8)),
            5..=6 => self.disk.damage(path, at, &[0; 512]),
            7 => self.disk.truncate(path, at),
            8 => self.disk.lose(path),
            9 => {
                let other = self.random.choice(&segments).expect("there is one");
                self.disk.put(path, &self.disk.bytes(other).expect("it is there"));
            }
            10 => self.disk.lose(self.random.choice(["SUPER.a", "SUPER.b"]).expect("one of two")),
            _ => {
                let path = self.random.choice(["SUPER.a", "SUPER.b", "WATERMARK"]);
                let path = path.expect("one of three");
                if self.disk.bytes(path).is_some() {
                    self.disk.flip(path, self.random.u64(..self.used(path)) * 8);
                }
            }
        }
    }

    fn damage_snapshot(&mut self, path: &str) {
        let at = self.random.u64(..self.used(path));
        match self.random.u8(..6) {
            0..=2 => self.disk.flip(path, at * 8 + self.random.u64(..8)),
            3 => self.disk.damage(path, at, &[0; 512]),
            4 => self.disk.truncate(path, at),
            _ => self.disk.lose(path),
        }
    }

    /// Bytes of a file up to its last that is not zero.
    fn used(&self, path: &str) -> u64 {
        let bytes = self.disk.bytes(path).expect("it is there");
        bytes.iter().rposition(|&byte| byte != 0).map_or(1, |last| last as u64 + 1)
    }
}

fn describe(error: log::OpenError<OpenError>) -> String {
    match error {
        log::OpenError::Refused(refusal) => refusal.to_string(),
        log::OpenError::Apply(error) => error.to_string(),
    }
}

fn options() -> Options {
    Options {
        segment_bytes: SEGMENT_BYTES_MIN,
        preparer: Preparer::Inline,
        ..Options::new(StoreId([7; 16]))
    }
}
