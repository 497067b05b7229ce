//! Records read back from disk by LSN.
//!
//! What the page cache holds is read on the spot, which takes a microsecond. What would make
//! the network thread wait for the disk goes to a thread of its own.

use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread;

use tokio::sync::oneshot;

use crate::engine::command::{Rejection, StoredFormula};
use crate::ids::Lsn;
use crate::limits::{COMMANDS_MAX, OVERLOAD_RETRY_AFTER_S};
use crate::log::Reader;
use crate::record::{AcceptedFormula, Record, codec};

type Job = Box<dyn FnOnce(&Reader) + Send>;

/// Access to stored records.
#[derive(Clone)]
pub(super) struct Bodies {
    reader: Reader,
    disk_thread: SyncSender<Job>,
}

impl Bodies {
    /// Starts the thread that waits for the disk. It ends with the last clone of this.
    pub(super) fn start(reader: Reader) -> std::io::Result<Bodies> {
        let (disk_thread, jobs) = sync_channel::<Job>(COMMANDS_MAX);
        let for_thread = reader.clone();
        thread::Builder::new().name("sillage-reader".into()).spawn(move || {
            for job in jobs {
                job(&for_thread);
            }
        })?;
        Ok(Bodies { reader, disk_thread })
    }

    /// The record at `lsn`, which must be durable.
    pub(super) async fn record(&self, lsn: Lsn) -> Result<Record, Rejection> {
        let mut payload = Vec::new();
        match self.reader.read_cached(lsn, &mut payload) {
            Ok(Some(_)) => decode(lsn, &payload),
            Err(error) => Err(damaged(lsn, &error)),
            // Boxed, since it is rare and would make the future of every request larger.
            Ok(None) => Box::pin(self.on_disk_thread(move |reader| record(reader, lsn))).await?,
        }
    }

    /// The formula that the record at `lsn` accepted.
    pub(super) async fn formula(&self, lsn: Lsn) -> Result<StoredFormula, Rejection> {
        stored(lsn, self.record(lsn).await?)
    }

    /// The formulas that these records accepted, as far as `wanted` holds, at most `max`; and
    /// how many records were looked at.
    pub(super) async fn formulas<F>(
        &self,
        lsns: Vec<Lsn>,
        max: usize,
        mut wanted: F,
    ) -> Result<(Vec<StoredFormula>, usize, F), Rejection>
    where
        F: FnMut(&crate::formula::Formula) -> bool + Send + 'static,
    {
        let read = move |reader: &Reader| {
            let (mut found, mut looked_at) = (Vec::new(), 0);
            for lsn in lsns {
                let formula = stored(lsn, record(reader, lsn)?)?;
                looked_at += 1;
                if wanted(&formula.formula) {
                    found.push(formula);
                }
                if found.len() == max {
                    break;
                }
            }
            Ok((found, looked_at, wanted))
        };
        self.on_disk_thread(read).await?
    }

    async fn on_disk_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Reader) -> T + Send + 'static,
    ) -> Result<T, Rejection> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |reader| drop(answer.send(work(reader))));
        match self.disk_thread.try_send(job) {
            Ok(()) => answered.await.map_err(|_| Rejection::OutcomeUnknown),
            Err(TrySendError::Full(_)) => {
                Err(Rejection::Overloaded { retry_after_s: OVERLOAD_RETRY_AFTER_S })
            }
            Err(TrySendError::Disconnected(_)) => Err(Rejection::OutcomeUnknown),
        }
    }
}

fn record(reader: &Reader, lsn: Lsn) -> Result<Record, Rejection> {
    let mut payload = Vec::new();
    reader.read(lsn, &mut payload).map_err(|error| damaged(lsn, &error))?;
    decode(lsn, &payload)
}

fn decode(lsn: Lsn, payload: &[u8]) -> Result<Record, Rejection> {
    codec::decode(payload).map_err(|error| damaged(lsn, &error))
}

/// The formula that `record`, at `lsn`, accepted.
pub(super) fn stored(lsn: Lsn, record: Record) -> Result<StoredFormula, Rejection> {
    match record.fact.into_acceptance(record.at.wall) {
        Some((AcceptedFormula { fingerprint, formula, .. }, accepted_at)) => {
            Ok(StoredFormula { lsn, accepted_at, fingerprint, formula })
        }
        None => Err(damaged(lsn, &"the index names it as a formula, but it is none")),
    }
}

/// Tells the operator what is wrong and the client that it is not its fault.
fn damaged(lsn: Lsn, why: &dyn std::fmt::Display) -> Rejection {
    tracing::error!(%lsn, %why, "a stored record cannot be read back");
    Rejection::Damaged(lsn)
}
