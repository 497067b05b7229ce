//! Records read back from disk by LSN: from the snapshot up to where it ends, and from there on
//! from the log.
//!
//! What the page cache holds is read on the spot, which takes a microsecond or few. What would
//! make the network thread wait for the disk goes to threads that may wait: several, because a
//! disk answers many at once in the time that it takes for one.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use prometheus_client::metrics::counter::Counter;
use tokio::sync::oneshot;

use crate::engine::base::{Base, BaseError, Kept};
use crate::engine::command::{Rejection, StoredFormula};
use crate::engine::core::SharedStore;
use crate::engine::findings::{Findings, MustWait, Wanted};
use crate::ids::Lsn;
use crate::limits::{COMMANDS_MAX, OVERLOAD_RETRY_AFTER_S, READER_THREADS};
use crate::log::{Kind, Looked, Patience, ReadError, Reader};
use crate::record::{Record, codec};

type Job = Box<dyn FnOnce(&Shelves) + Send>;

/// Access to stored records.
#[derive(Clone)]
pub(super) struct Bodies {
    shelves: Shelves,
    disk_threads: SyncSender<Job>,
}

/// Where records stand.
#[derive(Clone)]
pub(super) struct Shelves {
    reader: Reader,
    store: SharedStore,
    /// Reads that found damage.
    damaged_reads: Counter,
}

/// Why a record cannot be had.
enum Missing {
    /// There is none of this LSN, or no longer.
    Gone,
    /// It is there, but cannot be read.
    Unreadable(BaseError),
}

impl Bodies {
    /// Starts the threads that wait for the disk. They end with the last clone of this.
    pub(super) fn start(shelves: Shelves) -> std::io::Result<Bodies> {
        let (disk_threads, jobs) = sync_channel::<Job>(COMMANDS_MAX);
        let jobs = Arc::new(Mutex::new(jobs));
        for _ in 0..READER_THREADS {
            let (shelves, jobs) = (shelves.clone(), Arc::clone(&jobs));
            let work = move || {
                while let Some(job) = next(&jobs) {
                    job(&shelves)
                }
            };
            thread::Builder::new().name("sillage-reader".into()).spawn(work)?;
        }
        Ok(Bodies { shelves, disk_threads })
    }

    /// The record at `lsn`, which must be durable, with the steps that are kept beside it;
    /// `None` if there is none, or no longer.
    pub(super) async fn find(&self, lsn: Lsn) -> Result<Option<Kept>, Rejection> {
        match self.shelves.kept(lsn, Patience::Cached) {
            Ok(Looked::NotCached) => {}
            found => return self.shelves.flatten(lsn, found),
        }
        // Boxed, since it is rare and would make the future of every request larger.
        let read = move |shelves: &Shelves| shelves.flatten(lsn, shelves.kept(lsn, Patience::Wait));
        Box::pin(self.on_disk_thread(read)).await?
    }

    /// The record at `lsn`, which must be durable and there.
    pub(super) async fn record(&self, lsn: Lsn) -> Result<Record, Rejection> {
        let found = self.find(lsn).await?;
        let missing = || self.shelves.damaged(lsn, &"it is not there");
        found.map(|kept| kept.record).ok_or_else(missing)
    }

    /// The formula that the record at `lsn` accepted, and that was stored a moment ago.
    /// `Forgotten`: it was withdrawn meanwhile, and a snapshot has taken over without it.
    pub(super) async fn formula(&self, lsn: Lsn) -> Result<StoredFormula, Rejection> {
        match self.named(lsn).await {
            // The log forgets nothing.
            Err(Rejection::Forgotten(_)) if self.shelves.base_of(lsn).is_none() => {
                Err(self.shelves.damaged(lsn, &"it is not there"))
            }
            found => found,
        }
    }

    /// The formula that the record at `lsn` accepted. `Forgotten`: it was lost with a part of the
    /// log, or withdrawn, and a snapshot has taken over without it.
    pub(super) async fn named(&self, lsn: Lsn) -> Result<StoredFormula, Rejection> {
        let kept = self.find(lsn).await?.ok_or(Rejection::Forgotten(lsn))?;
        self.shelves.stored(lsn, kept.record)
    }

    /// Where the records stand.
    pub(super) fn shelves(&self) -> &Shelves {
        &self.shelves
    }

    /// What a snapshot holds of some identities.
    pub(super) async fn findings(&self, base: Base, wanted: Wanted) -> Result<Findings, Rejection> {
        let at_hand = Findings::at_hand(&base, &wanted);
        match at_hand.map_err(|error| self.shelves.damaged(base.lsn(), &error))? {
            Ok(findings) => Ok(findings),
            Err(MustWait) => {
                let read = move |shelves: &Shelves| {
                    let findings = Findings::from_disk(&base, &wanted);
                    findings.map_err(|error| shelves.damaged(base.lsn(), &error))
                };
                Box::pin(self.on_disk_thread(read)).await?
            }
        }
    }

    /// Does work that waits for the disk.
    pub(super) async fn on_disk_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shelves) -> T + Send + 'static,
    ) -> Result<T, Rejection> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |shelves| drop(answer.send(work(shelves))));
        match self.disk_threads.try_send(job) {
            Ok(()) => answered.await.map_err(|_| Rejection::OutcomeUnknown),
            Err(TrySendError::Full(_)) => {
                Err(Rejection::Overloaded { retry_after_s: OVERLOAD_RETRY_AFTER_S })
            }
            Err(TrySendError::Disconnected(_)) => Err(Rejection::OutcomeUnknown),
        }
    }
}

/// The next job, for whichever thread is free; `None` at the end.
fn next(jobs: &Mutex<Receiver<Job>>) -> Option<Job> {
    jobs.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}

impl Shelves {
    /// Records of the log that `reader` reads and of the snapshot beneath `store`.
    /// `damaged_reads` counts those that found damage.
    pub(super) fn new(reader: Reader, store: SharedStore, damaged_reads: Counter) -> Shelves {
        Shelves { reader, store, damaged_reads }
    }

    /// The record at `lsn`, however long that takes.
    pub(super) fn kept_or_none(&self, lsn: Lsn) -> Result<Option<Kept>, Lsn> {
        self.flatten(lsn, self.kept(lsn, Patience::Wait)).map_err(|_| lsn)
    }

    /// The store.
    pub(super) fn store(&self) -> &SharedStore {
        &self.store
    }

    /// The formula that the record at `lsn` accepted, which the log held a moment ago. `None`: it
    /// was withdrawn meanwhile, and a snapshot has taken over without it.
    pub(super) fn formula_or_none(&self, lsn: Lsn) -> Result<Option<StoredFormula>, Rejection> {
        match self.flatten(lsn, self.kept(lsn, Patience::Wait))? {
            Some(kept) => self.stored(lsn, kept.record).map(Some),
            None if self.base_of(lsn).is_some() => Ok(None),
            None => Err(self.damaged(lsn, &"it is not there")),
        }
    }

    /// The formula that `record`, at `lsn`, accepted.
    pub(super) fn stored(&self, lsn: Lsn, record: Record) -> Result<StoredFormula, Rejection> {
        StoredFormula::of(lsn, record.fact, record.at.wall)
            .ok_or_else(|| self.damaged(lsn, &"the index names it as a formula, but it is none"))
    }

    /// Tells the operator what is wrong and the client that it is not its fault.
    pub(super) fn damaged(&self, lsn: Lsn, why: &dyn std::fmt::Display) -> Rejection {
        self.damaged_reads.inc();
        let next = "stop the server, then `sillage check DIR`";
        tracing::error!(%lsn, %why, next, "a stored record cannot be read back");
        Rejection::Damaged(lsn)
    }

    fn flatten(
        &self,
        lsn: Lsn,
        found: Result<Looked<Kept>, Missing>,
    ) -> Result<Option<Kept>, Rejection> {
        match found {
            Ok(Looked::Found(kept)) => Ok(Some(kept)),
            Ok(Looked::Absent | Looked::NotCached) | Err(Missing::Gone) => Ok(None),
            Err(Missing::Unreadable(error)) => Err(self.damaged(lsn, &error)),
        }
    }

    /// The snapshot in force, if it reaches as far as `lsn`.
    fn base_of(&self, lsn: Lsn) -> Option<Base> {
        let store = self.store.read().unwrap_or_else(PoisonError::into_inner);
        store.base.clone().filter(|base| lsn <= base.lsn())
    }

    fn kept(&self, lsn: Lsn, patience: Patience) -> Result<Looked<Kept>, Missing> {
        if let Some(base) = self.base_of(lsn) {
            return from_base(&base, lsn, patience);
        }
        match self.logged(lsn, patience) {
            // A snapshot that was put in force meanwhile has taken over what the log had.
            Err(Missing::Gone) => match self.base_of(lsn) {
                Some(base) => from_base(&base, lsn, patience),
                None => Err(Missing::Gone),
            },
            found => found,
        }
    }

    fn logged(&self, lsn: Lsn, patience: Patience) -> Result<Looked<Kept>, Missing> {
        let mut payload = Vec::new();
        let read = match patience {
            Patience::Cached => self.reader.read_cached(lsn, &mut payload),
            Patience::Wait => self.reader.read(lsn, &mut payload).map(Some),
        };
        match read {
            Ok(Some(Kind::Record | Kind::Opened | Kind::StateHash)) => {}
            // The log's own frames have LSNs, too: who asks for one asks for what never was.
            Ok(Some(_)) => return Err(Missing::Gone),
            Ok(None) => return Ok(Looked::NotCached),
            Err(ReadError::NotFound) => return Err(Missing::Gone),
            Err(error) => return Err(Missing::Unreadable(error.into())),
        }
        let record = codec::decode(&payload);
        let record = record.map_err(|why| Missing::Unreadable(BaseError::Undecodable(lsn, why)))?;
        Ok(Looked::Found(Kept { record, steps: Vec::new() }))
    }
}

fn from_base(base: &Base, lsn: Lsn, patience: Patience) -> Result<Looked<Kept>, Missing> {
    match base.record(lsn, patience) {
        Ok(Looked::Absent) => Err(Missing::Gone),
        Ok(found) => Ok(found),
        Err(error) => Err(Missing::Unreadable(error)),
    }
}
