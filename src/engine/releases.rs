//! What can be asked and done about releases: the handle's part for `http` and for the worker
//! that calls the nodes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::engine::Engine;
pub use crate::engine::command::releases::{
    Course, NewTransaction, NewWithdrawal, News, Partners, Task,
};
use crate::engine::command::releases::{ReleaseCommand, TakenRelease};
use crate::engine::command::{Answer, Delivery, Rejection};
use crate::engine::decide::{Command, Reply};
use crate::engine::findings::Wanted;
use crate::ids::{Lsn, MessageId, QueueName};
pub use crate::record::FlowStep;
pub use crate::record::releases::{
    Action, BegunTransaction, End, NodeAnswer, NodeEnd, NodeOutcome, NodeSet, Origin, Presence,
    Seen, Sight, Step,
};
pub use crate::state::releases::{GivenAnswer, Node, Phase, Transaction};

/// Callers who wait for the end of a transaction.
#[derive(Debug, Default)]
pub(super) struct EndWatch {
    waiting: Mutex<HashMap<Lsn, Watched>>,
}

#[derive(Debug)]
struct Watched {
    ended: Arc<Notify>,
    watchers: usize,
}

/// Somebody who waits for the end of a transaction.
pub struct Watcher {
    engine: Engine,
    transaction: Lsn,
    ended: Arc<Notify>,
}

impl EndWatch {
    fn register(&self, transaction: Lsn) -> Arc<Notify> {
        let mut waiting = self.lock();
        let new = || Watched { ended: Arc::default(), watchers: 0 };
        let watched = waiting.entry(transaction).or_insert_with(new);
        watched.watchers += 1;
        Arc::clone(&watched.ended)
    }

    fn leave(&self, transaction: Lsn) {
        let mut waiting = self.lock();
        if let Some(watched) = waiting.get_mut(&transaction) {
            watched.watchers -= 1;
            if watched.watchers == 0 {
                waiting.remove(&transaction);
            }
        }
    }

    fn tell(&self, transaction: Lsn) {
        if let Some(watched) = self.lock().get(&transaction) {
            watched.ended.notify_waiters();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Lsn, Watched>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watcher {
    /// Waits for the end of the transaction, and gives it as it is then; `None` if it is not
    /// remembered.
    ///
    /// # Errors
    /// `OutcomeUnknown`.
    pub async fn ended(&self) -> Result<Option<Transaction>, Rejection> {
        loop {
            let mut ended = std::pin::pin!(self.ended.notified());
            ended.as_mut().enable();
            match self.engine.transaction(self.transaction).await? {
                Some(found) if !matches!(found.phase, Phase::Ended(_)) => ended.await,
                found => return Ok(found),
            }
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.engine.shared.transactions.leave(self.transaction);
    }
}

impl Engine {
    /// Begins a transaction; under a spent key it is the first one again.
    ///
    /// # Errors
    /// `KeyReused`, `GroupHeld`, `TransactionsFull`, `Overloaded`, `DiskFull`, `OutcomeUnknown`,
    /// `Damaged`.
    pub async fn begin_transaction(&self, new: NewTransaction) -> Result<(Lsn, Answer), Rejection> {
        let key = new.key;
        let findings = self.findings(|store| {
            key.iter().fold(Wanted::default(), |wanted, key| wanted.and_key(&key.key, store))
        });
        let findings = findings.await?;
        let command = Command::Release(ReleaseCommand::Begin(new));
        let decided = self.execute(command, findings).await?;
        match self.resolve(decided).await? {
            Reply::Recorded(id) => Ok((id, Answer::First)),
            Reply::RecordedBefore(id) => Ok((id, Answer::Replayed)),
            other => unreachable!("a transaction is not answered by {other:?}"),
        }
    }

    /// Begins to delete a formula from all nodes; it is withdrawn when that has succeeded.
    ///
    /// # Errors
    /// `FormulaUnknown`, `GroupHeld`, `TransactionsFull`, `Overloaded`, `DiskFull`,
    /// `OutcomeUnknown`, `Damaged`.
    pub async fn begin_withdrawal(&self, withdrawal: NewWithdrawal) -> Result<Lsn, Rejection> {
        let fingerprint = withdrawal.fingerprint;
        let findings = self.findings(|store| Wanted::by_formula(&fingerprint, store)).await?;
        let command = Command::Release(ReleaseCommand::Withdraw(withdrawal));
        let decided = self.execute(command, findings).await?;
        match self.resolve(decided).await? {
            Reply::Recorded(id) => Ok(id),
            other => unreachable!("a withdrawal is not answered by {other:?}"),
        }
    }

    /// Has a transaction tried again at once, and anew if it has failed.
    ///
    /// # Errors
    /// `TransactionUnknown`, `TransactionOver`, `Overloaded`, `OutcomeUnknown`.
    pub async fn retry_transaction(&self, transaction: Lsn) -> Result<(), Rejection> {
        self.release_command(ReleaseCommand::Retry(transaction)).await.map(|_| ())
    }

    /// Keeps what the request that began a transaction was answered, for when it is repeated.
    ///
    /// # Errors
    /// `Overloaded`, `OutcomeUnknown`.
    pub async fn keep_answer(
        &self,
        transaction: Lsn,
        status: u16,
        body: &[u8],
    ) -> Result<(), Rejection> {
        let body = body.into();
        let answered = ReleaseCommand::Answered { transaction, status, body };
        self.release_command(answered).await.map(|_| ())
    }

    /// A transaction; `None` if there is none of this id, or not any more.
    ///
    /// # Errors
    /// `OutcomeUnknown`.
    pub async fn transaction(&self, id: Lsn) -> Result<Option<Transaction>, Rejection> {
        self.ask(|state, _| state.releases().get(id).cloned()).await
    }

    /// Who waits for the end of a transaction.
    #[must_use]
    pub fn watch_transaction(&self, transaction: Lsn) -> Watcher {
        let ended = self.shared.transactions.register(transaction);
        Watcher { engine: self.clone(), transaction, ended }
    }

    /// Transactions after an id, in the order in which they were begun; of one phase or of all.
    ///
    /// # Errors
    /// `OutcomeUnknown`.
    pub async fn transactions(
        &self,
        phase: Option<Phase>,
        after: Option<Lsn>,
        max: usize,
    ) -> Result<Vec<(Lsn, Transaction)>, Rejection> {
        self.ask(|state, _| {
            let all = state.releases().after(after.unwrap_or(Lsn::ZERO));
            let meant = all.filter(|(_, it)| phase.is_none_or(|phase| it.phase == phase));
            meant.take(max).map(|(id, it)| (id, it.clone())).collect()
        })
        .await
    }

    /// The transaction that holds a group.
    ///
    /// # Errors
    /// `OutcomeUnknown`.
    pub async fn group_holder(
        &self,
        group: &crate::ids::GroupId,
    ) -> Result<Option<Lsn>, Rejection> {
        self.ask(|state, _| state.releases().holder(group)).await
    }

    /// Leases messages of the queue `releases`; of formulas no more than `flows_max`.
    ///
    /// # Errors
    /// `Overloaded`, `OutcomeUnknown`.
    pub async fn lease_releases(
        &self,
        messages_max: usize,
        flows_max: usize,
        lease_ms: u64,
    ) -> Result<Vec<Delivery>, Rejection> {
        match self
            .release_command(ReleaseCommand::Lease { messages_max, flows_max, lease_ms })
            .await?
        {
            Reply::Leased(deliveries) => Ok(deliveries),
            other => unreachable!("a lease is not answered by {other:?}"),
        }
    }

    /// Whether messages of the queue `releases` can be leased.
    ///
    /// # Errors
    /// `OutcomeUnknown`.
    pub async fn has_ready_releases(&self) -> Result<bool, Rejection> {
        self.ask(|state, now| {
            let queue = state.queue(QueueName::RELEASES);
            queue.is_some_and(|queue| queue.counts(now.uptime).ready > 0)
        })
        .await
    }

    /// Goes on with what a leased message stands for.
    ///
    /// # Errors
    /// `Overloaded`, `OutcomeUnknown`, `Damaged`.
    pub async fn take_release(
        &self,
        message: MessageId,
        partners: Partners,
    ) -> Result<Course, Rejection> {
        let is_transaction = self.ask(|state, _| state.releases().is_transaction(message)).await?;
        let formula = match is_transaction {
            true => None,
            // One that is nowhere stands for nothing any more.
            false => {
                let kept = self.bodies.find(message.0).await?;
                let fact = kept.map(|kept| kept.record.fact);
                fact.and_then(|fact| fact.acceptance().map(|it| it.fingerprint))
            }
        };
        self.course(ReleaseCommand::Take(TakenRelease { message, formula, partners })).await
    }

    /// Tells what has happened to a transaction, and gives what is to be done next.
    ///
    /// # Errors
    /// `Overloaded`, `OutcomeUnknown`, `Damaged`.
    pub async fn advance_transaction(
        &self,
        transaction: Lsn,
        news: Vec<News>,
    ) -> Result<Course, Rejection> {
        self.course(ReleaseCommand::Advance { transaction, news }).await
    }

    /// Begins to undo what a failed transaction has left.
    ///
    /// # Errors
    /// `Overloaded`, `OutcomeUnknown`.
    pub async fn heal_transaction(&self, transaction: Lsn) -> Result<Course, Rejection> {
        self.course(ReleaseCommand::Heal(transaction)).await
    }

    /// Transactions that have failed and are not healed.
    ///
    /// # Errors
    /// `OutcomeUnknown`.
    pub async fn failed_transactions(&self) -> Result<Vec<Lsn>, Rejection> {
        self.ask(|state, _| state.releases().failed().collect()).await
    }

    async fn course(&self, command: ReleaseCommand) -> Result<Course, Rejection> {
        match self.release_command(command).await? {
            Reply::Course(course) => {
                if let Task::Over(Phase::Ended(_)) = course.task {
                    self.shared.transactions.tell(course.transaction);
                }
                Ok(course)
            }
            other => unreachable!("news of a transaction are not answered by {other:?}"),
        }
    }

    async fn release_command(&self, command: ReleaseCommand) -> Result<Reply, Rejection> {
        let findings = self.findings(|store| Wanted::by_release(&command, store)).await?;
        let decided = self.execute(Command::Release(command), findings).await?;
        self.resolve(decided).await
    }
}
