//! A store on a simulated disk for unit tests, driven by hand through commands and compactions.

pub(super) mod flow;
pub(super) mod outbound;

use std::sync::{Arc, PoisonError};

use prometheus_client::metrics::counter::Counter;

use super::Engine;
use super::bodies::Shelves;
use super::command::{LeaseRequest, RequestKey, Settlement, Submission};
use super::compactor::{Compacted, Task, compact};
use super::core::{CompactionPolicy, Core, Decided, Setting, Store};
use super::decide::{Command, Policy, Reply};
use super::findings::Findings;
use super::open::open;
use crate::formula::{self, Checked, Fingerprint, Rules};
use crate::ids::{Lsn, QueueName, Receipt};
use crate::limits::SEGMENT_BYTES_MIN;
use crate::log::{Disk, Options, Preparer, SimDisk, StoreId};
use crate::record::{Fact, FlowStep};
use crate::time::ManualClock;

/// How long keys are remembered here.
pub(super) const RETENTION_MS: u64 = 10_000;

/// A snapshot is due after so many bytes of log: the head of a segment is that much already.
pub(super) const WINDOW_BYTES: u64 = 1000;

/// A store in its first reign.
pub(super) struct Bench {
    pub(super) clock: Arc<ManualClock>,
    pub(super) core: Core,
    disk: Arc<dyn Disk>,
}

impl Bench {
    pub(super) fn new() -> Bench {
        Bench::with_flow(&[])
    }

    /// A store whose formulas take these steps.
    pub(super) fn with_flow(flow: &'static [FlowStep]) -> Bench {
        let clock = Arc::new(ManualClock::at(1_795_000_000_000));
        Bench::on(Arc::new(SimDisk::new(1)), clock, flow)
    }

    /// A store on this disk.
    pub(super) fn on_disk(disk: SimDisk) -> Bench {
        Bench::on(Arc::new(disk), Arc::new(ManualClock::at(1_795_000_000_000)), &[])
    }

    /// Opens the store on `disk`, or makes one there.
    pub(super) fn on(
        disk: Arc<dyn Disk>,
        clock: Arc<ManualClock>,
        flow: &'static [FlowStep],
    ) -> Bench {
        let options = Options {
            segment_bytes: SEGMENT_BYTES_MIN,
            preparer: Preparer::Inline,
            ..Options::new(StoreId([7; 16]))
        };
        let policy = Policy { attempts_max: 3, retention_ms: RETENTION_MS, flow };
        let compaction = CompactionPolicy { window_bytes_min: WINDOW_BYTES, ratio_percent: 0 };
        let setting = Setting { clock: clock.clone(), policy, compaction, seed: 1 };
        let opened = open(Arc::clone(&disk), options, setting);
        let (core, _) = opened.expect("an empty disk takes a new store, and a store opens");
        Bench { clock, core, disk }
    }

    /// Another reign, as if the process had been killed when all was durable.
    pub(super) fn reopen(self) -> Bench {
        let Bench { clock, core, disk } = self;
        drop(core);
        Bench::on(disk, clock, &[])
    }

    /// Records facts as one group, whatever decided them, and gives the first one's LSN.
    pub(super) fn put(&mut self, facts: Vec<Fact>) -> Lsn {
        let first = self.core.put(facts);
        self.core.sync().expect("the disk works");
        first
    }

    /// Carries out a command that comes without findings.
    pub(super) fn run(&mut self, command: Command) -> Decided {
        self.run_with(command, Findings::default())
    }

    pub(super) fn run_with(&mut self, command: Command, findings: Findings) -> Decided {
        let pending = self.core.execute(command, findings).expect("the log takes it");
        self.core.sync().expect("the disk works");
        self.core.release(pending).unwrap_or_else(|_| panic!("it is durable"))
    }

    /// Stores a make-up that is not stored.
    pub(super) fn accept(&mut self, make_up: u32) -> Lsn {
        self.accept_under(make_up, None)
    }

    pub(super) fn accept_under(&mut self, make_up: u32, key: Option<RequestKey>) -> Lsn {
        match self.run(submit(make_up, key)) {
            Ok(Reply::Accepted(stored)) => stored.lsn,
            other => panic!("a new formula is answered by {other:?}"),
        }
    }

    /// Withdraws a make-up that is stored.
    pub(super) fn withdraw(&mut self, make_up: u32) {
        let reply = self.run(Command::Withdraw(fingerprint(make_up)));
        assert!(matches!(reply, Ok(Reply::Withdrawn(_))), "{reply:?}");
    }

    /// Leases everything that is ready.
    pub(super) fn lease(&mut self) -> Vec<Receipt> {
        let request = LeaseRequest { queue: queue(), messages_max: 100, lease_ms: 1000 };
        match self.run(Command::Lease(request)) {
            Ok(Reply::Leased(deliveries)) => deliveries.iter().map(|it| it.receipt).collect(),
            other => panic!("a lease is answered by {other:?}"),
        }
    }

    pub(super) fn settle(&mut self, receipts: Vec<Receipt>, how: Settlement) {
        let reply = self.run(Command::Settle(queue(), receipts, how));
        assert!(matches!(reply, Ok(Reply::Settled(_))), "{reply:?}");
    }

    /// Begins a compaction and writes the snapshot.
    pub(super) fn begin(&mut self) -> Compacted {
        let task = self.core.begin_compaction(Arc::default()).expect("the log turns over");
        let task: Task = task.expect("there is something to write down");
        compact(&task).expect("the disk works")
    }

    /// Puts a snapshot in force and lets go of what it replaces.
    pub(super) fn install(&mut self, compacted: Compacted) {
        let (let_go, obsolete) = self.core.install(compacted).expect("the disk works");
        drop(let_go);
        obsolete.remove().expect("the disk works");
    }

    /// A whole compaction.
    pub(super) fn compact(&mut self) {
        let compacted = self.begin();
        self.install(compacted);
    }

    /// Sets it to work on a thread of its own.
    pub(super) fn start(self) -> Engine {
        let engine = Engine::start(self.core, self.clock, Arc::default());
        engine.expect("threads can be had").0
    }

    pub(super) fn shelves(&self) -> Shelves {
        Shelves::new(self.core.log().reader(), self.core.store(), Counter::default())
    }

    /// Asks the store.
    pub(super) fn ask<T>(&self, question: impl FnOnce(&Store) -> T) -> T {
        question(&self.core.store().read().unwrap_or_else(PoisonError::into_inner))
    }
}

pub(super) fn submit(make_up: u32, key: Option<RequestKey>) -> Command {
    Command::Accept(submission(make_up, key))
}

pub(super) fn submission(make_up: u32, key: Option<RequestKey>) -> Submission {
    let Checked { formula, fingerprint, .. } = checked(make_up);
    Submission { formula, fingerprint, key }
}

pub(super) fn fingerprint(make_up: u32) -> Fingerprint {
    checked(make_up).fingerprint
}

/// A make-up with its identity.
pub(super) fn checked(make_up: u32) -> Checked {
    let body = format!(
        r#"{{"name":"No. {make_up}","materials":[{{"name":"a","concentration":{make_up}}}]}}"#
    );
    formula::parse(body.as_bytes(), &Rules { concentration_max: 1000 }).expect("valid")
}

pub(super) fn queue() -> QueueName {
    QueueName::FORMULAS.parse().expect("well formed")
}
