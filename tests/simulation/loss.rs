//! Damage, an accepted loss, and life after it: whatever is left must be a store like any other.
//!
//! Unlike the crashes, damage is found when it pleases: often reigns after it took its records,
//! whose consequences are all still there. After each repair the store opens, its invariants
//! hold, what it says it has can be read, and every later replay leads to the same state.

use std::sync::{Arc, PoisonError};

use sillage::engine::command::{
    Batch, BatchMode, Item, LeaseRequest, RequestKey, Settlement, Submission,
};
use sillage::engine::core::{Core, Setting};
use sillage::engine::decide::{Command, Policy, Reply};
use sillage::engine::open::{OpenError, open, replay};
use sillage::ids::{Lsn, QueueName, Receipt};
use sillage::limits::SEGMENT_BYTES_MIN;
use sillage::log::{self, Disk, Options, Preparer, RepairError, SimDisk, StoreId, repair};
use sillage::record::{Fact, Selection, codec};
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
}

/// A store that is damaged time and again.
pub struct Damaged {
    random: fastrand::Rng,
    disk: SimDisk,
    clock: Arc<ManualClock>,
    receipts: Vec<Receipt>,
}

impl Damaged {
    pub fn new(seed: u64) -> Damaged {
        Damaged {
            random: fastrand::Rng::with_seed(seed),
            disk: SimDisk::new(seed),
            clock: Arc::new(ManualClock::at(1_795_000_000_000)),
            receipts: Vec::new(),
        }
    }

    /// Some rounds of several reigns, damage and repair.
    pub fn run(mut self, tally: &mut Tally) {
        for _ in 0..self.random.u32(1..4) {
            for _ in 0..self.random.u32(1..4) {
                self.reign();
            }
            for _ in 0..self.random.u32(1..4) {
                self.damage();
            }
            match repair(&self.handle(), Some(EVERYTHING)) {
                Ok(report) => {
                    tally.repaired += 1;
                    tally.lost += report.lost.len() as u64;
                }
                // Which history is right, or which store it was, nothing tells any more.
                Err(RepairError::Ambiguous(_) | RepairError::Refused(_)) => {
                    tally.refused += 1;
                    return;
                }
                Err(other) => panic!("a damaged store is not repaired: {other}"),
            }
        }
        self.reign();
        let core = self.open();
        self.check(&core);
    }

    fn handle(&self) -> Arc<dyn Disk> {
        Arc::new(self.disk.handle())
    }

    fn open(&mut self) -> Core {
        let policy = Policy { attempts_max: 2, retention_ms: 3_000 };
        let setting = Setting { clock: self.clock.clone(), policy, seed: self.random.u64(..) };
        match open(self.handle(), options(), setting) {
            Ok((core, _)) => core,
            Err(error) => panic!("a repaired store is refused: {error}"),
        }
    }

    fn reign(&mut self) {
        let mut core = self.open();
        self.check(&core);
        for _ in 0..self.random.u32(5..60) {
            self.clock.advance_ms(self.random.u64(0..150));
            let command = self.command();
            let pending = core.execute(command).expect("nothing hinders the disk");
            core.sync().expect("nothing hinders the disk");
            if let Ok(Reply::Leased(deliveries)) = core.release(pending).expect("it was synced") {
                self.receipts.extend(deliveries.iter().map(|delivery| delivery.receipt));
            }
        }
        core.state().read().unwrap_or_else(PoisonError::into_inner).check_invariants();
        if self.random.bool() {
            core.close().expect("nothing hinders the disk");
        }
    }

    /// Invariants hold, another replay leads to the same state, and what the state names can be
    /// read.
    fn check(&self, core: &Core) {
        let shared = core.state();
        let live = shared.read().unwrap_or_else(PoisonError::into_inner);
        live.check_invariants();
        let mut replayed = State::default();
        let copy: Arc<dyn Disk> = Arc::new(self.disk.fork());
        let reopened = log::open(copy, options(), |entry| replay(&mut replayed, &entry));
        assert!(reopened.is_ok(), "an open store opens: {:?}", reopened.err().map(describe));
        assert_eq!(replayed.digest(), live.digest(), "replay leads to the live state");

        let reader = core.log().reader();
        let fact = |lsn: Lsn| {
            let mut payload = Vec::new();
            reader.read(lsn, &mut payload).unwrap_or_else(|error| panic!("record {lsn}: {error}"));
            codec::decode(&payload).expect("a record").fact
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

    fn damage(&mut self) {
        let paths = self.disk.paths();
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
