//! What can be asked of the engine. Questions change nothing, but they too obey the output
//! rule: an answer waits until the log is durable as far as the state that it was taken from.

use crate::engine::command::{
    AttemptView, FormulaRef, MessagePhase, MessageView, QueueStatus, Rejection, RequestKey,
    StoredFormula, TrailKind, TrailStep,
};
use crate::engine::pending::Pending;
use crate::engine::{Engine, bodies};
use crate::formula::{Fingerprint, Formula};
use crate::ids::{Lsn, MessageId, QueueName};
use crate::limits::PAGE_SCAN_MAX;
use crate::record::{Fact, Record, Touched};
use crate::state::State;
use crate::state::formulas::Whereabouts;
use crate::state::idempotency::KeyWhereabouts;
use crate::state::outlook::{Phase, Seen};
use crate::state::queues::Queue;
use crate::time::{Moment, Timestamp, Uptime};

/// Records looked at in one go for a filtered list.
const SCAN_CHUNK: usize = 512;

/// A page of formulas.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FormulaPage {
    /// In order of acceptance.
    pub formulas: Vec<StoredFormula>,
    /// Where the next page begins: after this record. `None` at the end.
    pub next: Option<Lsn>,
}

/// The content of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its id.
    pub id: MessageId,
    /// What happened.
    pub kind: MessageKind,
    /// When it was put on its queue.
    pub enqueued_at: Timestamp,
    /// The formula it is about.
    pub formula: StoredFormula,
}

/// What a message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageKind {
    /// A formula was accepted.
    FormulaAccepted,
    /// A formula was withdrawn.
    FormulaWithdrawn,
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
    /// `OutcomeUnknown`.
    pub async fn is_key_reused(&self, key: &RequestKey) -> Result<bool, Rejection> {
        self.ask(|state, now| match state.keys().find(&key.key, now.uptime) {
            KeyWhereabouts::Spent(spent) => spent.request != key.request,
            KeyWhereabouts::Below => false,
        })
        .await
    }

    /// A stored formula; `None` if there is none, or no longer.
    ///
    /// # Errors
    /// `OutcomeUnknown`, `Damaged`.
    pub async fn formula(&self, which: FormulaRef) -> Result<Option<StoredFormula>, Rejection> {
        let pending = {
            let (state, _) = self.look();
            let found = locate(&state, which);
            // That a formula is there rests on its own record alone; that it is not may rest on
            // the latest.
            Pending::new(found.unwrap_or(state.lsn()), found)
        };
        match self.shared.durable.wait(pending).await? {
            Some(lsn) => self.bodies.formula(lsn).await.map(Some),
            None => Ok(None),
        }
    }

    /// Formulas after the record `after` for which `wanted` holds, at most `limit`. Looks at no
    /// more than `PAGE_SCAN_MAX` records: a page may be empty and yet have a next one.
    ///
    /// # Errors
    /// `OutcomeUnknown`, `Overloaded`, `Damaged`.
    pub async fn formulas<F>(
        &self,
        after: Lsn,
        limit: usize,
        mut wanted: F,
    ) -> Result<FormulaPage, Rejection>
    where
        F: FnMut(&Formula) -> bool + Send + 'static,
    {
        let (mut page, mut from, mut looked_at) = (FormulaPage::default(), after, 0);
        loop {
            let chunk = |state: &State, _| -> Vec<Lsn> {
                state.formulas().after(from).take(SCAN_CHUNK).collect()
            };
            let lsns = self.ask(chunk).await?;
            let asked = lsns.len();
            let rest = limit - page.formulas.len();
            let last_of_chunk = lsns.last().copied();
            let (found, looked, back) = self.bodies.formulas(lsns, rest, wanted).await?;
            wanted = back;
            looked_at += looked;
            page.formulas.extend(found);
            if page.formulas.len() == limit {
                page.next = page.formulas.last().map(|formula| formula.lsn);
            } else if asked == SCAN_CHUNK && looked_at < PAGE_SCAN_MAX {
                from = last_of_chunk.unwrap_or(from);
                continue;
            } else if asked == SCAN_CHUNK {
                page.next = last_of_chunk;
            }
            return self.without_needless_next(page).await;
        }
    }

    /// The dated steps of a formula, oldest first.
    ///
    /// # Errors
    /// `OutcomeUnknown`, `Damaged`.
    pub async fn trail(
        &self,
        which: FormulaRef,
    ) -> Result<Option<(StoredFormula, Vec<TrailStep>)>, Rejection> {
        let ends = |state: &State, _| {
            let own = locate(state, which)?;
            Some((own, state.formulas().trail(own)))
        };
        let Some((own, mut last)) = self.ask(ends).await? else {
            return Ok(None);
        };
        let formula = self.bodies.formula(own).await?;
        let mut steps = Vec::new();
        while last != own {
            let record = self.bodies.record(last).await?;
            let (step, before) = step(last, &record, own).ok_or(Rejection::Damaged(last))?;
            steps.push(step);
            last = before;
        }
        let queue = QueueName::FORMULAS.parse().expect("a built-in name is well formed");
        for kind in [TrailKind::Announced(queue), TrailKind::Accepted] {
            steps.push(TrailStep { at: formula.accepted_at, lsn: own, kind });
        }
        steps.reverse();
        Ok(Some((formula, steps)))
    }

    /// The content of a message.
    ///
    /// # Errors
    /// `Damaged`, also for an id that is no message's.
    pub async fn message(&self, id: MessageId) -> Result<Message, Rejection> {
        let record = self.bodies.record(id.0).await?;
        let enqueued_at = record.at.wall;
        let (kind, formula) = match record.fact {
            Fact::FormulaWithdrawn { formula, .. } => {
                (MessageKind::FormulaWithdrawn, self.bodies.formula(formula).await?)
            }
            // Read already: the message is the record.
            _ => (MessageKind::FormulaAccepted, bodies::stored(id.0, record)?),
        };
        Ok(Message { id, kind, enqueued_at, formula })
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
        let (state, now) = self.look();
        let due = state.queue(queue.as_str())?.next_due(since)?;
        Some(due.since_ms(now.uptime))
    }

    /// How many formulas are stored.
    #[must_use]
    pub fn formula_count(&self) -> usize {
        self.look().0.formulas().len()
    }

    /// Asks the state, and gives the answer once it is durable.
    async fn ask<T>(&self, question: impl FnOnce(&State, Moment) -> T) -> Result<T, Rejection> {
        let pending = {
            let (state, now) = self.look();
            Pending::new(state.lsn(), question(&state, now))
        };
        Ok(self.shared.durable.wait(pending).await?)
    }

    /// Takes away a `next` behind which there is nothing.
    async fn without_needless_next(&self, mut page: FormulaPage) -> Result<FormulaPage, Rejection> {
        if let Some(next) = page.next
            && self.ask(|state, _| state.formulas().after(next).next().is_none()).await?
        {
            page.next = None;
        }
        Ok(page)
    }
}

fn locate(state: &State, which: FormulaRef) -> Option<Lsn> {
    let whereabouts = match which {
        FormulaRef::Id(fingerprint) => state.formulas().find(&fingerprint),
        FormulaRef::Seq(lsn) => state.formulas().holds(lsn),
    };
    match whereabouts {
        Whereabouts::Stored(lsn) => Some(lsn),
        Whereabouts::Below => None,
    }
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

/// What the record at `lsn` did to the message `own`, and the record that touched it before.
fn step(lsn: Lsn, record: &Record, own: Lsn) -> Option<(TrailStep, Lsn)> {
    let (kind, messages) = match &record.fact {
        Fact::Leased { queue, messages, .. } => (TrailKind::Leased(queue.clone()), messages),
        Fact::Acked { queue, messages } => (TrailKind::Acked(queue.clone()), messages),
        Fact::Nacked { queue, messages, reason, .. } => {
            (TrailKind::Nacked(queue.clone(), reason.clone()), messages)
        }
        _ => return None,
    };
    let Touched { before, .. } = messages.iter().find(|touched| touched.message.0 == own)?;
    Some((TrailStep { at: record.at.wall, lsn, kind }, *before))
}
