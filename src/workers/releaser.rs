//! Carries out transactions: calls the partner nodes, and says what they answered.
//!
//! ```text
//!   lease ─► take ─► what to do? ─┬─► look ──┐
//!                       ▲         ├─► call ──┤ what came of it (durable, with what follows)
//!                       │         └─► wait ──┤
//!                       └────────────────────┘ … until it is over
//! ```
//!
//! This decides nothing. What a transaction does next is found where its records are, together
//! with the record of what has happened; here are only the hands. So whoever is cut off at any
//! point leaves nothing behind that the next one would not find in the records.
//!
//! Each transaction is a task, and calls all its nodes at once. Failed ones are healed a few at a
//! time, every so often: while a node is left alone nothing is tried that needs it.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::engine::Engine;
use crate::engine::command::Rejection;
use crate::engine::releases::{
    BegunTransaction, Course, End, News, NodeAnswer, NodeSet, Phase, Seen, Sight, Step, Task,
};
use crate::ids::{Lsn, MessageId, QueueName};
use crate::limits::{
    HEALS_MAX, OVERLOAD_RETRY_AFTER_S, RELEASE_DRAIN_MS, RELEASE_HELD_BACK_MS,
    RELEASE_LEASE_DEADLINES, RELEASE_LEASE_MARGIN_MS, RELEASES_RUNNING_MAX,
};
use crate::metrics::Metrics;
use crate::metrics::releases::TransactionEnd;
use crate::outbound::breaker::{Admission, BreakerState};
use crate::workers::courier::{Answered, NodeCall, Releasing};

/// The worker.
pub struct Releaser {
    work: Arc<Work>,
    runs: JoinSet<()>,
}

/// What all runs share.
struct Work {
    engine: Engine,
    releasing: Releasing,
    metrics: Arc<Metrics>,
    in_hand: InHand,
}

/// Transactions that somebody carries out. A failed one may be healed just when it is tried again
/// by hand: then one waits for the other.
#[derive(Default)]
struct InHand {
    transactions: Mutex<BTreeSet<Lsn>>,
    left: Notify,
}

/// A transaction in hand, until this is dropped: also if its run panics or is cut off.
struct Held<'a> {
    in_hand: &'a InHand,
    transaction: Lsn,
}

/// What to do after a look at the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// Wait until something happens.
    Rest,
    /// Look again soon: formulas wait for a node that is left alone.
    HeldBack,
}

impl Releaser {
    /// A worker for these nodes.
    #[must_use]
    pub fn new(engine: Engine, releasing: Releasing, metrics: Arc<Metrics>) -> Releaser {
        let work = Work { engine, releasing, metrics, in_hand: InHand::default() };
        Releaser { work: Arc::new(work), runs: JoinSet::new() }
    }

    /// Works until `drain` completes, then lets runs under way end for a moment.
    pub async fn run(mut self, drain: impl Future<Output = ()>) {
        let releases: QueueName = QueueName::RELEASES.parse().expect("a name of ours");
        let arrivals = self.work.engine.arrivals(&releases).expect("a built-in queue");
        let mut healer = JoinSet::new();
        healer.spawn(Arc::clone(&self.work).heal_for_ever());
        let mut drain = pin!(drain);
        loop {
            // Registered before the queue is looked at, so that no arrival in between is missed.
            let mut arrival = pin!(arrivals.notified());
            arrival.as_mut().enable();
            let since = self.work.engine.uptime();
            let wait_ms = match self.turn().await {
                Ok(Turn::Rest) => {
                    self.work.engine.next_due_ms(&releases, since).map(|ms| ms.max(1))
                }
                Ok(Turn::HeldBack) => Some(RELEASE_HELD_BACK_MS),
                Err(Rejection::OutcomeUnknown) => return,
                Err(rejection) => {
                    tracing::warn!(?rejection, "releases wait for the log");
                    Some(OVERLOAD_RETRY_AFTER_S * 1000)
                }
            };
            tokio::select! {
                biased;
                () = &mut drain => break,
                Some(_) = self.runs.join_next() => {}
                () = arrival => {}
                () = rest(wait_ms) => {}
            }
        }
        healer.abort_all();
        let ending = async { while self.runs.join_next().await.is_some() {} };
        // Dropping the rest cuts them off.
        drop(timeout(Duration::from_millis(RELEASE_DRAIN_MS), ending).await);
    }

    /// Leases what there is room for, and sets runs going. While a node is left alone formulas
    /// wait: what would come to nothing is not tried, and nothing is recorded for it. When it is
    /// to be tried again one formula goes first. What somebody asked for goes on: he is told.
    async fn turn(&mut self) -> Result<Turn, Rejection> {
        while self.runs.try_join_next().is_some() {}
        let Releasing { partners, courier, .. } = &self.work.releasing;
        let room = RELEASES_RUNNING_MAX.saturating_sub(self.runs.len());
        if room == 0 {
            return Ok(Turn::Rest);
        }
        let breakers: Vec<BreakerState> =
            partners.nodes.iter().map(|node| courier.breaker(node)).collect();
        let is_open = |it: &BreakerState| matches!(it, BreakerState::Open { .. });
        let flows_max = match () {
            () if partners.nodes.is_empty() || breakers.iter().any(is_open) => 0,
            () if breakers.iter().any(|it| *it != BreakerState::Closed) => 1,
            () => room,
        };
        let deadline_ms = partners.deadline_ms;
        let lease_ms = RELEASE_LEASE_DEADLINES * deadline_ms + RELEASE_LEASE_MARGIN_MS;
        for delivery in self.work.engine.lease_releases(room, flows_max, lease_ms).await? {
            self.runs.spawn(Arc::clone(&self.work).run(delivery.receipt.message));
        }
        let is_held_back = !partners.nodes.is_empty() && flows_max < room;
        if is_held_back && self.work.engine.has_ready_releases().await? {
            return Ok(Turn::HeldBack);
        }
        Ok(Turn::Rest)
    }
}

impl Work {
    /// Goes on with what a leased message stands for, until it rests.
    async fn run(self: Arc<Self>, message: MessageId) {
        if let Err(rejection) = self.try_run(message).await {
            tracing::error!(%message, ?rejection, "a release goes on when its lease lapses");
        }
    }

    async fn try_run(self: &Arc<Self>, message: MessageId) -> Result<(), Rejection> {
        let partners = &self.releasing.partners;
        let take = || self.engine.take_release(message, partners.clone());
        let mut course = insist(take).await?;
        if course.task == Task::Gone {
            return Ok(());
        }
        let (held, waited) = self.in_hand.hold(course.transaction).await;
        if waited {
            // Whoever had it has gone on.
            course = self.tell(course.transaction, Vec::new()).await?;
        }
        let over = self.carry_out(course).await;
        drop(held);
        over
    }

    async fn carry_out(self: &Arc<Self>, mut course: Course) -> Result<(), Rejection> {
        let id = course.transaction;
        self.metrics.releases.running.inc();
        let _running = Running(&self.metrics);
        let Some(found) = self.engine.transaction(id).await? else { return Ok(()) };
        let (before, begun) = (found.phase, Arc::new(found.begun));
        loop {
            course = match course.task {
                Task::Look(nodes) => {
                    let seen = self.look(&begun, nodes).await;
                    self.tell(id, vec![News::Seen(seen)]).await?
                }
                Task::Call { step, nodes, round } => {
                    self.call(id, &begun, Round { step, nodes, round }).await?
                }
                Task::Wait(until) => {
                    let ms = until.since_ms(self.engine.uptime());
                    sleep(Duration::from_millis(ms)).await;
                    self.tell(id, Vec::new()).await?
                }
                Task::Await => self.give_up_on_answers(id, begun.deadline_ms).await?,
                // One that could not be healed was told of before.
                Task::Over(phase) if phase != before => {
                    self.note(id, phase);
                    return Ok(());
                }
                Task::Over(_) | Task::Gone => return Ok(()),
            };
        }
    }

    async fn tell(&self, id: Lsn, news: Vec<News>) -> Result<Course, Rejection> {
        insist(|| self.engine.advance_transaction(id, news.clone())).await
    }

    /// Looks at nodes, all at once; those that are left alone are not asked.
    async fn look(self: &Arc<Self>, begun: &Arc<BegunTransaction>, nodes: NodeSet) -> Vec<Seen> {
        let mut looks = JoinSet::new();
        let mut seen = Vec::new();
        for node in nodes.iter() {
            let admission = self.releasing.courier.admit(&begun.nodes[usize::from(node)]);
            if let Admission::Refused { until } = admission {
                let again_ms = until.since_ms(self.engine.uptime());
                seen.push(Seen { node, sight: Sight::Shunned { again_ms } });
                continue;
            }
            let (work, begun) = (Arc::clone(self), Arc::clone(begun));
            looks.spawn(async move {
                let url = &begun.nodes[usize::from(node)];
                let courier = &work.releasing.courier;
                let sight = courier.look(url, &begun.group, begun.deadline_ms).await;
                Seen { node, sight }
            });
        }
        while let Some(looked) = looks.join_next().await {
            seen.push(looked.expect("a look neither panics nor is cut off while it is waited for"));
        }
        seen.sort_unstable_by_key(|seen| seen.node);
        seen
    }

    /// Calls nodes, all at once, and tells each answer as it comes: an end of this process between
    /// two of them must not lose the first.
    async fn call(
        self: &Arc<Self>,
        id: Lsn,
        begun: &Arc<BegunTransaction>,
        round: Round,
    ) -> Result<Course, Rejection> {
        let mut calls = JoinSet::new();
        for node in round.nodes.iter() {
            let (work, begun) = (Arc::clone(self), Arc::clone(begun));
            calls.spawn(async move { work.call_one(id, &begun, node, round).await });
        }
        let mut course = Course { transaction: id, task: Task::Await };
        while let Some(ended) = calls.join_next().await {
            let mut news = vec![ended];
            // What has come together is told together.
            while let Some(ended) = calls.try_join_next() {
                news.push(ended);
            }
            let news = news.into_iter().map(|ended| {
                ended.expect("a call neither panics nor is cut off while it is waited for")
            });
            course = self.tell(id, news.collect()).await?;
        }
        Ok(course)
    }

    async fn call_one(&self, id: Lsn, begun: &BegunTransaction, node: u8, round: Round) -> News {
        let Round { step, round, .. } = round;
        let key = format!("{}/{id}/{node}/{round}", self.releasing.store);
        let call = NodeCall {
            node: &begun.nodes[usize::from(node)],
            action: match step {
                Step::Do => begun.action,
                Step::Undo => begun.action.inverse(),
            },
            group: &begun.group,
            key: &key,
            deadline_ms: begun.deadline_ms,
        };
        let Answered { answer, reason } = self.releasing.courier.call(call).await;
        tracing::debug!(transaction = %id, node, ?step, ?answer, %reason, "a node was called");
        News::Answered { node, answer, reason }
    }

    /// Answers are awaited that nobody will give: whoever called was cut off within this reign.
    async fn give_up_on_answers(&self, id: Lsn, deadline_ms: u64) -> Result<Course, Rejection> {
        let found = self.engine.transaction(id).await?;
        let called = found.map(|it| it.nodes_where(|node| node.outcome().is_calling()));
        let answer = NodeAnswer::Unknown { settles_ms: deadline_ms };
        let reason: Box<str> = "the call was cut off".into();
        let answered = |node: u8| News::Answered { node, answer, reason: reason.clone() };
        let news = called.unwrap_or_default().iter().map(answered).collect();
        self.tell(id, news).await
    }

    fn note(&self, id: Lsn, phase: Phase) {
        let Phase::Ended(end) = phase else { return };
        self.metrics.releases.note_end(match end {
            End::Succeeded => TransactionEnd::Succeeded,
            End::RolledBack => TransactionEnd::RolledBack,
            End::Failed => TransactionEnd::Failed,
        });
        match end {
            End::Failed => tracing::error!(
                transaction = %id,
                next = %format_args!("sillage transactions retry {id}"),
                "a transaction could be neither carried out nor undone; its group is held until \
                 every node is as it was"
            ),
            End::Succeeded | End::RolledBack => {
                tracing::debug!(transaction = %id, end = end.name(), "a transaction has ended");
            }
        }
    }

    /// Undoes, every so often, what failed transactions have left.
    async fn heal_for_ever(self: Arc<Self>) {
        let every = Duration::from_millis(self.releasing.heal_every_ms);
        let mut next = Instant::now() + every;
        loop {
            sleep_until(next).await;
            if let Err(rejection) = self.heal_all().await {
                tracing::warn!(?rejection, "failed transactions are healed later");
            }
            next = Instant::now() + every;
        }
    }

    async fn heal_all(self: &Arc<Self>) -> Result<(), Rejection> {
        let mut heals = JoinSet::new();
        for id in self.engine.failed_transactions().await? {
            if heals.len() == HEALS_MAX {
                heals.join_next().await;
            }
            heals.spawn(Arc::clone(self).heal(id));
        }
        while heals.join_next().await.is_some() {}
        Ok(())
    }

    async fn heal(self: Arc<Self>, id: Lsn) {
        if let Err(rejection) = self.try_heal(id).await {
            tracing::warn!(transaction = %id, ?rejection, "it is healed later");
        }
    }

    async fn try_heal(self: &Arc<Self>, id: Lsn) -> Result<(), Rejection> {
        let Some(found) = self.engine.transaction(id).await? else { return Ok(()) };
        let courier = &self.releasing.courier;
        // One that cannot be seen whole is not healed, so nothing is recorded for it.
        let mut nodes = found.begun.nodes.iter().map(|node| courier.breaker(node));
        if nodes.any(|breaker| matches!(breaker, BreakerState::Open { .. })) {
            return Ok(());
        }
        let Some(_held) = self.in_hand.try_hold(id) else { return Ok(()) };
        let course = self.engine.heal_transaction(id).await?;
        self.carry_out(course).await
    }
}

/// A round of calls.
#[derive(Clone, Copy)]
struct Round {
    step: Step,
    nodes: NodeSet,
    round: u32,
}

/// A run that is counted until this is dropped.
struct Running<'a>(&'a Metrics);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.releases.running.dec();
    }
}

impl InHand {
    /// Takes a transaction in hand, once nobody else has it; and whether somebody had.
    async fn hold(&self, transaction: Lsn) -> (Held<'_>, bool) {
        let mut has_waited = false;
        loop {
            let mut left = pin!(self.left.notified());
            left.as_mut().enable();
            if let Some(held) = self.try_hold(transaction) {
                return (held, has_waited);
            }
            has_waited = true;
            left.await;
        }
    }

    fn try_hold(&self, transaction: Lsn) -> Option<Held<'_>> {
        let is_free = self.lock().insert(transaction);
        is_free.then(|| Held { in_hand: self, transaction })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<Lsn>> {
        self.transactions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.in_hand.lock().remove(&self.transaction);
        self.in_hand.left.notify_waiters();
    }
}

/// Has something recorded however long the log takes no more: what a node has answered must not
/// be lost.
async fn insist<T, F>(ask: impl Fn() -> F) -> Result<T, Rejection>
where
    F: Future<Output = Result<T, Rejection>>,
{
    loop {
        match ask().await {
            Err(Rejection::Overloaded { .. } | Rejection::DiskFull) => {
                sleep(Duration::from_secs(OVERLOAD_RETRY_AFTER_S)).await;
            }
            recorded => return recorded,
        }
    }
}

async fn rest(wait_ms: Option<u64>) {
    match wait_ms {
        Some(ms) => sleep(Duration::from_millis(ms)).await,
        None => std::future::pending().await,
    }
}
