//! What can be asked of the engine. Questions change nothing, but they too obey the output
//! rule: an answer waits until the log is durable as far as the state that it was taken from.

use crate::engine::Engine;
use crate::engine::base::Kept;
use crate::engine::command::{
    AttemptView, FormulaRef, MessagePhase, MessageView, QueueStatus, Rejection, RequestKey,
    StoredFormula,
};
use crate::engine::core::Store;
use crate::engine::findings::{View, Wanted};
use crate::engine::pending::Pending;
use crate::formula::Fingerprint;
use crate::ids::{GroupId, Lsn, MessageId, QueueName};
use crate::record::hooks::Event;
use crate::record::releases::Action;
use crate::record::{Fact, FlowStep};
use crate::state::State;
use crate::state::formulas::Whereabouts;
use crate::state::outlook::{Phase, Seen};
use crate::state::queues::Queue;
use crate::state::releases::{Phase as TransactionPhase, Transaction};
use crate::time::{Moment, Timestamp, Uptime};

/// The content of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its id.
    pub id: MessageId,
    /// What happened.
    pub kind: MessageKind,
    /// When it was put on its queue.
    pub enqueued_at: Timestamp,
    /// What it is about.
    pub about: About,
}

/// What a message is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum About {
    /// A formula.
    Formula(StoredFormula),
    /// A text that is to be sealed.
    Text(Box<str>),
    /// An event that somebody is told of; `None`: the answer to a single request.
    Event(Option<Event>),
    /// A transaction.
    Transaction(AboutTransaction),
}

/// A transaction, as its message tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AboutTransaction {
    /// Its id.
    pub id: Lsn,
    /// Which group.
    pub group: GroupId,
    /// What is to become of it.
    pub action: Action,
    /// How it stands.
    pub phase: TransactionPhase,
}

/// What a message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageKind {
    /// A formula was accepted.
    FormulaAccepted,
    /// A formula was withdrawn.
    FormulaWithdrawn,
    /// A formula is to be sealed.
    FormulaSeal,
    /// A formula is to be released.
    FormulaRelease,
    /// Somebody wants a text to be sealed.
    SealRequested,
    /// Somebody is to be told of an event.
    HookOwed,
    /// A group is to be created or deleted on all nodes.
    Transaction,
}

impl Engine {
    /// The stored formula of this identity.
    ///
    /// # Errors
    /// `OutcomeUnknown`, `Damaged`.
    pub async fn find_duplicate(
        &self,
        fingerprint: &Fingerprint,
    ) -> Result<Option<StoredFormula>, Rejection> {
        self.formula(FormulaRef::Id(*fingerprint)).await
    }

    /// Whether the key was spent on another request than this one.
    ///
    /// # Errors
    /// `OutcomeUnknown`, `Damaged`.
    pub async fn is_key_reused(&self, key: &RequestKey) -> Result<bool, Rejection> {
        self.ask_view(
            |store| Wanted::by_key(key, store),
            |view, now| {
                let spent = view.key(&key.key, now.uptime);
                Pending::new(
                    view.state.lsn(),
                    spent.is_some_and(|spent| spent.request != key.request),
                )
            },
        )
        .await
    }

    /// A stored formula; `None` if there is none, or no longer.
    ///
    /// # Errors
    /// `OutcomeUnknown`, `Damaged`.
    pub async fn formula(&self, which: FormulaRef) -> Result<Option<StoredFormula>, Rejection> {
        let Some(lsn) = self.locate(which).await? else { return Ok(None) };
        let kept = self.bodies.find(lsn).await?;
        // A number may be any record's. And what was withdrawn long ago is gone for good.
        Ok(kept.and_then(|Kept { record, .. }| StoredFormula::of(lsn, record.fact, record.at.wall)))
    }

    /// The identity of a stored formula and the flow that it was accepted with; `None` if there
    /// is none, or no longer.
    ///
    /// # Errors
    /// `OutcomeUnknown`, `Damaged`.
    pub async fn flow(
        &self,
        which: FormulaRef,
    ) -> Result<Option<(Fingerprint, Vec<FlowStep>)>, Rejection> {
        let Some(lsn) = self.locate(which).await? else { return Ok(None) };
        let kept = self.bodies.find(lsn).await?;
        let accepted = kept.as_ref().and_then(|kept| kept.record.fact.acceptance());
        Ok(accepted.map(|accepted| (accepted.fingerprint, accepted.flow.clone())))
    }

    /// The content of a message of a queue; `None` if it is off the queue.
    ///
    /// # Errors
    /// `Damaged`, `OutcomeUnknown`.
    pub async fn message(
        &self,
        queue: &QueueName,
        id: MessageId,
    ) -> Result<Option<Message>, Rejection> {
        if queue.as_str() == QueueName::RELEASES
            && let Some(message) = self.ask(|state, _| transaction_message(state, id)).await?
        {
            return Ok(Some(message));
        }
        match self.content(queue, id).await {
            Err(Rejection::Forgotten(lsn)) => {
                // What is on the queue keeps its records from being forgotten.
                let is_queued = self.ask(|state, _| {
                    state.queue(queue.as_str()).is_some_and(|queue| queue.holds(id))
                });
                match is_queued.await? {
                    true => Err(self.bodies.shelves().damaged(lsn, &"it is not there")),
                    false => Ok(None),
                }
            }
            found => found.map(Some),
        }
    }

    async fn content(&self, queue: &QueueName, id: MessageId) -> Result<Message, Rejection> {
        let record = self.bodies.find(id.0).await?.ok_or(Rejection::Forgotten(id.0))?.record;
        let enqueued_at = record.at.wall;
        let (kind, about) = match record.fact {
            Fact::FormulaWithdrawn { formula, .. } => {
                let formula = self.bodies.named(formula).await?;
                (MessageKind::FormulaWithdrawn, About::Formula(formula))
            }
            Fact::SealRequested(request) => (MessageKind::SealRequested, About::Text(request.text)),
            Fact::HookOwed(owed) => (MessageKind::HookOwed, About::Event(owed.happening.event())),
            // The state does not know it any more, so it has ended and its message is done.
            Fact::TransactionBegun(_) => return Err(Rejection::Forgotten(id.0)),
            // Read already: the message is the record.
            _ => {
                let stored = self.bodies.shelves().stored(id.0, record)?;
                (kind_on(queue), About::Formula(stored))
            }
        };
        Ok(Message { id, kind, enqueued_at, about })
    }

    /// How all queues stand.
    ///
    /// # Errors
    /// `OutcomeUnknown`.
    pub async fn queues(&self) -> Result<Vec<QueueStatus>, Rejection> {
        let attempts_max = self.shared.attempts_max;
        self.ask(|state, now| {
            state.queues().map(|(name, queue)| status(name, queue, now, attempts_max)).collect()
        })
        .await
    }

    /// How a queue stands.
    ///
    /// # Errors
    /// `QueueUnknown`, `OutcomeUnknown`.
    pub async fn queue(&self, name: &QueueName) -> Result<QueueStatus, Rejection> {
        let attempts_max = self.shared.attempts_max;
        let found = self.ask(|state, now| {
            state.queue(name.as_str()).map(|queue| status(name, queue, now, attempts_max))
        });
        found.await?.ok_or(Rejection::QueueUnknown)
    }

    /// Messages of a queue, oldest first, at most `limit`, without changing anything.
    ///
    /// # Errors
    /// `QueueUnknown`, `OutcomeUnknown`.
    pub async fn peek(
        &self,
        queue: &QueueName,
        phase: MessagePhase,
        after: Option<MessageId>,
        limit: usize,
    ) -> Result<Vec<MessageView>, Rejection> {
        let found = self.ask(|state, now| {
            let queue = state.queue(queue.as_str())?;
            let seen = queue.peek(to_state(phase), now, after, limit);
            Some(seen.into_iter().map(|seen| view(seen, phase, now)).collect())
        });
        found.await?.ok_or(Rejection::QueueUnknown)
    }

    /// Milliseconds until the next lease of the queue lapses or delay passes, of those that still
    /// ran at `since`: 0 if it has come to pass meanwhile. `None` when none runs.
    ///
    /// Who found the queue empty asks with a moment before he looked, lest he misses what ended
    /// between his look and this question.
    #[must_use]
    pub fn next_due_ms(&self, queue: &QueueName, since: Uptime) -> Option<u64> {
        let (store, now) = self.look();
        let due = store.state.queue(queue.as_str())?.next_due(since)?;
        Some(due.since_ms(now.uptime))
    }

    /// How many formulas are stored.
    #[must_use]
    pub fn formula_count(&self) -> usize {
        self.look().0.state.formulas().len()
    }

    /// Asks the state, and gives the answer once it is durable.
    pub(super) async fn ask<T>(
        &self,
        question: impl FnOnce(&State, Moment) -> T,
    ) -> Result<T, Rejection> {
        let pending = {
            let (store, now) = self.look();
            Pending::new(store.state.lsn(), question(&store.state, now))
        };
        Ok(self.shared.durable.wait(pending).await?)
    }

    /// Asks the state and the snapshot beneath it, and gives the answer once it is durable.
    pub(super) async fn ask_view<T>(
        &self,
        wanted: impl Fn(&Store) -> Wanted,
        question: impl Fn(View<'_>, Moment) -> Pending<T>,
    ) -> Result<T, Rejection> {
        loop {
            let findings = self.findings(&wanted).await?;
            let pending = {
                let (store, now) = self.look();
                // Another snapshot has come meanwhile: it is asked, too.
                if !findings.are_of(store.state.base()) {
                    continue;
                }
                question(View::new(&store.state, &findings), now)
            };
            return Ok(self.shared.durable.wait(pending).await?);
        }
    }

    /// The record that should have accepted a formula that is stored. By its number that is only
    /// certain once the record is read.
    pub(super) async fn locate(&self, which: FormulaRef) -> Result<Option<Lsn>, Rejection> {
        self.ask_view(
            |store| match which {
                FormulaRef::Id(fingerprint) => Wanted::by_formula(&fingerprint, store),
                FormulaRef::Seq(_) => Wanted::default(),
            },
            |view, _| {
                let found = match which {
                    FormulaRef::Id(fingerprint) => view.formula(&fingerprint),
                    FormulaRef::Seq(lsn) => Some(lsn).filter(|&lsn| may_be_stored(view.state, lsn)),
                };
                // That a formula is there rests on its own record alone; that it is not may rest
                // on the latest. A number beyond the end is no record of ours yet.
                let basis = found.filter(|&lsn| lsn <= view.state.lsn());
                Pending::new(basis.unwrap_or(view.state.lsn()), found)
            },
        )
        .await
    }
}

/// Whether the record at `lsn` may be the acceptance of a stored formula: above the base that is
/// certain, below it takes a look at the record.
fn may_be_stored(state: &State, lsn: Lsn) -> bool {
    let formulas = state.formulas();
    formulas.holds(lsn) == Whereabouts::Stored(lsn)
        || lsn <= state.base() && !formulas.is_withdrawn(lsn)
}

/// What a formula's own message says on a queue.
fn kind_on(queue: &QueueName) -> MessageKind {
    match queue.as_str() {
        QueueName::SEALS => MessageKind::FormulaSeal,
        QueueName::RELEASES => MessageKind::FormulaRelease,
        _ => MessageKind::FormulaAccepted,
    }
}

/// The message of a transaction, if it is one's own. Told by the state, not by the record, which
/// a snapshot does not keep.
fn transaction_message(state: &State, id: MessageId) -> Option<Message> {
    let Transaction { begun, begun_at, phase, .. } = state.releases().get(id.0)?;
    let is_own = begun.message(id.0) == id;
    let (group, action) = (begun.group.clone(), begun.action);
    let about = AboutTransaction { id: id.0, group, action, phase: *phase };
    is_own.then_some(Message {
        id,
        kind: MessageKind::Transaction,
        enqueued_at: *begun_at,
        about: About::Transaction(about),
    })
}

fn status(name: &QueueName, queue: &Queue, now: Moment, attempts_max: u32) -> QueueStatus {
    let counts = queue.counts(now.uptime);
    QueueStatus {
        name: name.clone(),
        ready: counts.ready as u64,
        leased: counts.leased as u64,
        delayed: counts.delayed as u64,
        dead: counts.dead as u64,
        oldest: queue.oldest(),
        attempts_max,
    }
}

fn to_state(phase: MessagePhase) -> Phase {
    match phase {
        MessagePhase::Ready => Phase::Ready,
        MessagePhase::Leased => Phase::Leased,
        MessagePhase::Delayed => Phase::Delayed,
        MessagePhase::Dead => Phase::Dead,
    }
}

fn view(seen: Seen, phase: MessagePhase, now: Moment) -> MessageView {
    let ends = seen.past.ends().iter();
    MessageView {
        id: seen.id,
        phase,
        attempts: seen.past.attempts(),
        due: seen.due.map(|due| now.date_of(due)),
        history: ends
            .map(|end| AttemptView {
                attempt: end.attempt,
                ended_at: end.at,
                reason: end.nack.clone(),
            })
            .collect(),
    }
}
