//! When the writer has a snapshot written, and what it does with it.
//!
//! One compaction runs at a time, on a thread of its own that gives way to all others. The
//! writer only begins it (a segment is sealed, what memory holds is set apart) and ends it (SUPER
//! names the new snapshot, what it holds is let go); both take as long as a rotation.
//!
//! A compaction that fails costs nothing but its time: the log is as long as before. It is told
//! to the operator and tried again when the log has grown by another window.

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::oneshot;

use super::compactor::{self, CompactError, Compacted, SnapshotReport, Task};
use super::core::Core;
use super::writer::Mail;
use crate::limits::{COMPACTOR_NICENESS, FREED_MEMORY_STAYS_MS};
use crate::log::{self, SnapshotInfo};
use crate::metrics::Metrics;

/// What became of a wish for a snapshot.
pub(super) type SnapshotAnswer = Result<SnapshotReport, SnapshotRefused>;

/// Why there is no new snapshot. The store goes on without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SnapshotRefused {
    /// The disk is too full.
    DiskFull,
    /// It failed; the event that was written says why.
    Failed,
}

/// The compaction under way, if one is, and who waits for one.
pub(super) struct Compaction {
    to_writer: SyncSender<Mail>,
    metrics: Arc<Metrics>,
    running: Option<Running>,
    /// Wishes that the next compaction fulfils.
    wishes: Vec<oneshot::Sender<SnapshotAnswer>>,
    /// After a failure: no new attempt of our own accord below so many bytes of log.
    not_below: u64,
}

struct Running {
    thread: JoinHandle<()>,
    stop: Arc<AtomicBool>,
    wishes: Vec<oneshot::Sender<SnapshotAnswer>>,
}

impl Compaction {
    pub(super) fn new(to_writer: SyncSender<Mail>, metrics: Arc<Metrics>) -> Compaction {
        Compaction { to_writer, metrics, running: None, wishes: Vec::new(), not_below: 0 }
    }

    /// Notes a wish for a snapshot that holds everything up to now. One under way does not.
    pub(super) fn want(&mut self, reply: oneshot::Sender<SnapshotAnswer>) {
        self.wishes.push(reply);
    }

    /// Begins a compaction if one is due or wanted, and none runs.
    ///
    /// # Errors
    /// The log's error, after which nothing more can be appended.
    pub(super) fn begin_if_due(&mut self, core: &mut Core) -> Result<(), log::Error> {
        if self.running.is_some() {
            return Ok(());
        }
        let is_due = core.is_snapshot_due() && core.log().bytes_since_snapshot() >= self.not_below;
        if !is_due && self.wishes.is_empty() {
            return Ok(());
        }
        let stop = Arc::new(AtomicBool::new(false));
        match core.begin_compaction(Arc::clone(&stop)) {
            Ok(Some(task)) => self.spawn(core, task, stop),
            Ok(None) => answer(mem::take(&mut self.wishes), Ok(core.snapshot())),
            // Without a next segment the one at hand cannot be sealed.
            Err(log::Error::NoSpace) => self.postpone(core, SnapshotRefused::DiskFull),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn spawn(&mut self, core: &mut Core, task: Task, stop: Arc<AtomicBool>) {
        let to_writer = self.to_writer.clone();
        let work = move || {
            give_way();
            // It works on immutable files alone, so a panic leaves nothing half changed; but the
            // writer must learn that it is over.
            let outcome = catch_unwind(AssertUnwindSafe(|| compactor::compact(&task)));
            let outcome = outcome.unwrap_or(Err(CompactError::Panicked));
            drop(task);
            // The writer may have ended meanwhile; then nobody needs the outcome.
            drop(to_writer.send(Mail::Compacted(Box::new(outcome))));
        };
        match thread::Builder::new().name("compactor".into()).spawn(work) {
            Ok(thread) => {
                let wishes = mem::take(&mut self.wishes);
                self.running = Some(Running { thread, stop, wishes });
            }
            Err(error) => {
                tracing::error!(%error, "no thread for a snapshot");
                core.abandon();
                self.postpone(core, SnapshotRefused::Failed);
            }
        }
    }

    /// Ends the compaction that ran.
    ///
    /// # Errors
    /// The log's error, after which nothing more can be appended.
    pub(super) fn end(
        &mut self,
        core: &mut Core,
        outcome: Result<Compacted, CompactError>,
    ) -> Result<(), log::Error> {
        let Running { thread, wishes, .. } =
            self.running.take().expect("only a compaction that runs can end");
        // It has sent its outcome last of all.
        drop(thread.join());
        match outcome {
            Ok(compacted) => {
                let report = self.put_in_force(core, compacted)?;
                answer(wishes, Ok(report));
            }
            Err(error) => {
                self.metrics.compactions_failed.inc();
                let next = "if it is damage: stop the server, then `sillage check DIR`";
                tracing::error!(%error, next, "no new snapshot; the log stays as it is");
                core.abandon();
                let refused = match error.is_no_space() {
                    true => SnapshotRefused::DiskFull,
                    false => SnapshotRefused::Failed,
                };
                answer(wishes, Err(refused));
                self.postpone(core, refused);
            }
        }
        Ok(())
    }

    fn put_in_force(
        &mut self,
        core: &mut Core,
        compacted: Compacted,
    ) -> Result<SnapshotReport, log::Error> {
        let report = compacted.report;
        let (let_go, obsolete) = core.install(compacted)?;
        // Freeing gigabytes, in memory and on disk, takes a while. Without a thread the memory is
        // freed here, and the files stay until the next start.
        let tidy = move || {
            drop(let_go);
            if let Err(error) = obsolete.remove() {
                tracing::warn!(%error, "files that nobody needs could not be removed");
            }
            let_memory_go();
        };
        if let Err(error) = thread::Builder::new().name("compactor-tidy".into()).spawn(tidy) {
            tracing::warn!(%error, "no thread to remove old files; the next start does it");
        }
        let SnapshotReport { lsn, formulas, bytes, took_ms } = report;
        tracing::info!(lsn = lsn.0, formulas, bytes, took_ms, "snapshot written");
        self.metrics.compactions.inc();
        #[allow(clippy::cast_precision_loss, reason = "no compaction takes 2^52 ms")]
        self.metrics.compaction_seconds.observe(took_ms as f64 / 1000.0);
        show_snapshot(&self.metrics, SnapshotInfo { lsn, bytes });
        self.not_below = 0;
        Ok(report)
    }

    /// Tells all who wait, and waits with an attempt of our own until the log has grown by as
    /// much again as makes a snapshot due: so failing costs no more than succeeding.
    fn postpone(&mut self, core: &Core, refused: SnapshotRefused) {
        let window = core.snapshot_window_bytes();
        self.not_below = core.log().bytes_since_snapshot().saturating_add(window);
        answer(mem::take(&mut self.wishes), Err(refused));
    }

    /// Stops the compaction that runs and waits until it has.
    pub(super) fn stop(&mut self) {
        if let Some(Running { thread, stop, .. }) = self.running.take() {
            stop.store(true, Ordering::Relaxed);
            // It may be waiting for room in the inbox, which is about to go: then it ends, too.
            drop(thread.join());
        }
    }
}

/// Shows which snapshot is in force.
pub(super) fn show_snapshot(metrics: &Metrics, snapshot: SnapshotInfo) {
    metrics.snapshot_lsn.set(i64::try_from(snapshot.lsn.0).unwrap_or(i64::MAX));
    metrics.snapshot_bytes.set(i64::try_from(snapshot.bytes).unwrap_or(i64::MAX));
}

fn answer(wishes: Vec<oneshot::Sender<SnapshotAnswer>>, answer: SnapshotAnswer) {
    for wish in wishes {
        // Whoever has gone away needs no answer.
        let _gone = wish.send(answer);
    }
}

/// Has the allocator give back to the system what was freed before, by this thread and by the
/// compactor. It does so a while after memory was freed, and only when some thread comes by that
/// ends or asks for fresh pages: on a server that falls idle after a compaction nobody does, and
/// all of it would count as ours until somebody calls. So this thread ends that much later.
fn let_memory_go() {
    // Waking up early does no harm: then it is given back later, as if we had not waited.
    thread::park_timeout(Duration::from_millis(FREED_MEMORY_STAYS_MS));
}

/// Lets every other thread of the machine go first, as far as the system allows it.
fn give_way() {
    // Without the right to be modest the compactor is as loud as the others, and no more.
    let _modest = rustix::process::nice(COMPACTOR_NICENESS);
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, sync_channel};

    use super::*;
    use crate::engine::fixture::{Bench, WINDOW_BYTES};

    fn compaction() -> (Compaction, Receiver<Mail>) {
        let (to_writer, inbox) = sync_channel(1);
        (Compaction::new(to_writer, Arc::new(Metrics::new())), inbox)
    }

    fn want(compaction: &mut Compaction) -> oneshot::Receiver<SnapshotAnswer> {
        let (reply, answer) = oneshot::channel();
        compaction.want(reply);
        answer
    }

    /// Waits for the compactor.
    fn outcome(inbox: &Receiver<Mail>) -> Result<Compacted, CompactError> {
        match inbox.recv() {
            Ok(Mail::Compacted(outcome)) => *outcome,
            _ => panic!("the compactor sends its outcome and nothing else"),
        }
    }

    #[test]
    fn wish_that_comes_during_a_compaction_is_fulfilled_by_the_next_one() {
        let (mut bench, (mut compaction, inbox)) = (Bench::new(), compaction());
        bench.accept(1);
        let mut first = want(&mut compaction);
        compaction.begin_if_due(&mut bench.core).expect("the disk works");
        bench.accept(2);
        let mut second = want(&mut compaction);
        compaction.begin_if_due(&mut bench.core).expect("one runs already");
        compaction.end(&mut bench.core, outcome(&inbox)).expect("the disk works");
        let report = first.try_recv().expect("it is answered").expect("by a snapshot");
        assert_eq!(report.formulas, 1);
        assert!(second.try_recv().is_err(), "that one came too early for it");

        compaction.begin_if_due(&mut bench.core).expect("the disk works");
        compaction.end(&mut bench.core, outcome(&inbox)).expect("the disk works");
        let report = second.try_recv().expect("it is answered").expect("by a snapshot");
        assert_eq!(report.formulas, 2);

        let mut third = want(&mut compaction);
        compaction.begin_if_due(&mut bench.core).expect("the disk works");
        let again = third.try_recv().expect("nothing new: at once").expect("by a snapshot");
        assert_eq!(again, SnapshotReport { took_ms: 0, ..report });
        assert!(compaction.running.is_none());
    }

    #[test]
    fn failure_is_told_and_nothing_tried_again_before_the_log_has_grown_by_a_window() {
        let (mut bench, (mut compaction, inbox)) = (Bench::new(), compaction());
        bench.accept(1);
        let mut wish = want(&mut compaction);
        compaction.begin_if_due(&mut bench.core).expect("the disk works");
        drop(outcome(&inbox));
        let failed = Err(CompactError::Miscounted);
        compaction.end(&mut bench.core, failed).expect("the log is well");
        assert_eq!(wish.try_recv().expect("it is answered"), Err(SnapshotRefused::Failed));

        let bytes = bench.core.log().bytes_since_snapshot();
        let mut formulas = 1;
        while bench.core.log().bytes_since_snapshot() < bytes + WINDOW_BYTES {
            compaction.begin_if_due(&mut bench.core).expect("the disk works");
            assert!(compaction.running.is_none(), "too early");
            formulas += 1;
            bench.accept(formulas);
        }
        compaction.begin_if_due(&mut bench.core).expect("the disk works");
        compaction.end(&mut bench.core, outcome(&inbox)).expect("the disk works");
        assert_eq!(bench.core.snapshot().formulas, u64::from(formulas));
    }

    #[test]
    fn compactor_that_finds_no_room_for_its_mail_ends_when_the_inbox_goes() {
        let mut bench = Bench::new();
        let (to_writer, inbox) = sync_channel(0);
        let mut compaction = Compaction::new(to_writer, Arc::new(Metrics::new()));
        bench.accept(1);
        compaction.begin_if_due(&mut bench.core).expect("the disk works");
        drop(inbox);
        compaction.stop();
        assert!(compaction.running.is_none());
    }
}
