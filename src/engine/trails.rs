//! The trail of a formula: what has happened to it, and what keeps it where it is.
//!
//! Most of it is told by records ([`super::steps`]), which the log holds, and what is older a
//! snapshot. Three things are told by no record of the trail: that a formula was put on a queue,
//! which is what the record before it says for whoever knows its flow; and that it is held, which
//! may be a lapse and ends without a word when an operator has it tried again. So that is asked of
//! the state.

use crate::engine::Engine;
use crate::engine::command::{
    FormulaRef, Held, Rejection, Remedy, StoredFormula, TrailKind, TrailStep,
};
use crate::engine::steps::step_kind;
use crate::ids::{Lsn, MessageId, QueueName};
use crate::limits::TRAIL_STEPS_MAX;
use crate::record::archive::{Step, StepKind};
use crate::record::releases::{End, Origin};
use crate::record::{AcceptedFormula, FlowStep};
use crate::state::State;
use crate::state::outlook::Phase;
use crate::state::releases::Phase as TransactionPhase;
use crate::time::{Moment, Timestamp};

impl Engine {
    /// The dated steps of a formula, oldest first: the latest `TRAIL_STEPS_MAX`, acceptance, and
    /// why it is held, if it is.
    ///
    /// # Errors
    /// `OutcomeUnknown`, `Damaged`.
    pub async fn trail(
        &self,
        which: FormulaRef,
    ) -> Result<Option<(StoredFormula, Vec<TrailStep>)>, Rejection> {
        let Some(own) = self.locate(which).await? else { return Ok(None) };
        loop {
            let (last, base, held) = self
                .ask(|state, now| {
                    (state.formulas().trail(own), state.base(), held(state, own, now))
                })
                .await?;
            let Some(kept) = self.bodies.find(own).await? else { return Ok(None) };
            let (steps, before) = (self.steps_since(own, last, base).await?, kept.steps);
            let superfluous = (before.len() + steps.len()).saturating_sub(TRAIL_STEPS_MAX);
            // While we walked, a new snapshot may have taken over records that we then missed.
            if self.ask(|state, _| state.base()).await? != base {
                continue;
            }
            let steps = before.into_iter().chain(steps).skip(superfluous);
            let announced_at = kept.record.at.wall;
            let Some(accepted) = kept.record.fact.acceptance() else { return Ok(None) };
            let mut all = announced(accepted, own, announced_at);
            steps.for_each(|step| tell(accepted, step, &mut all));
            let formula = StoredFormula::of(own, kept.record.fact, announced_at);
            let Some(formula) = formula else { return Ok(None) };
            // An imported formula keeps its date, but was announced when it came here.
            let (at, kind) = (formula.accepted_at, TrailKind::Accepted);
            all.insert(0, TrailStep { at, lsn: own, kind });
            held.into_iter().for_each(|(at, held)| hold(at, held, &mut all));
            return Ok(Some((formula, all)));
        }
    }

    /// The steps that the log tells of the formula `own`, from `last` back to the snapshot at
    /// `base`; oldest first. One that was lost ends the walk.
    async fn steps_since(&self, own: Lsn, last: Lsn, base: Lsn) -> Result<Vec<Step>, Rejection> {
        let (mut steps, mut at) = (Vec::new(), last);
        while at > base && at != own && steps.len() < TRAIL_STEPS_MAX {
            let Some(kept) = self.bodies.find(at).await? else { break };
            let date = kept.record.at.wall;
            let Some((kind, touched)) = step_kind(kept.record.fact) else { break };
            let Some(touched) = touched.iter().find(|touched| touched.message.0 == own) else {
                break;
            };
            steps.push(Step { at: date, lsn: at, kind });
            at = touched.before;
        }
        steps.reverse();
        Ok(steps)
    }
}

/// The queues on which acceptance puts a formula.
fn announced(accepted: &AcceptedFormula, own: Lsn, at: Timestamp) -> Vec<TrailStep> {
    let first = accepted.flow.first().map(|step| step.queue());
    let queues = std::iter::once(QueueName::FORMULAS).chain(first);
    queues.map(|queue| TrailStep { at, lsn: own, kind: announced_on(queue) }).collect()
}

/// Tells a step, and what it leads to by the formula's flow.
fn tell(accepted: &AcceptedFormula, step: Step, all: &mut Vec<TrailStep>) {
    let step = TrailStep::from(step);
    let next = match step.kind {
        TrailKind::Sealed => accepted.step_after(FlowStep::Seal),
        _ => None,
    };
    let (at, lsn) = (step.at, step.lsn);
    all.push(step);
    all.extend(next.map(|next| TrailStep { at, lsn, kind: announced_on(next.queue()) }));
}

fn announced_on(queue: &str) -> TrailKind {
    TrailKind::Announced(queue.parse().expect("a name of ours"))
}

/// Tells that the formula is held: unless the last record of the trail says so, then what to do.
fn hold(at: Timestamp, held: Held, all: &mut Vec<TrailStep>) {
    // By the last step, not by what the state knows of: a snapshot leaves only that to be known.
    let lsn = all.last().map_or(Lsn::ZERO, |step| step.lsn);
    match all.last_mut() {
        Some(TrailStep { kind: TrailKind::Held(told), .. }) if told.queue == held.queue => {
            told.remedy = held.remedy;
        }
        _ => all.push(TrailStep { at, lsn, kind: TrailKind::Held(held) }),
    }
}

/// When and why the formula is held, if it is: a step of its flow is a dead letter, or its
/// withdrawal from the nodes has failed.
fn held(state: &State, own: Lsn, now: Moment) -> Option<(Timestamp, Held)> {
    let in_flow = [QueueName::SEALS, QueueName::RELEASES];
    let dead = in_flow.into_iter().find_map(|queue| dead_letter(state, queue, own, now));
    dead.or_else(|| failed_withdrawal(state, own))
}

fn dead_letter(state: &State, name: &str, own: Lsn, now: Moment) -> Option<(Timestamp, Held)> {
    let (message, before) = (MessageId(own), MessageId(Lsn(own.0.saturating_sub(1))));
    let queue = state.queue(name)?;
    if !queue.is_dead(message, now.uptime) {
        return None;
    }
    let dead = queue.peek(Phase::Dead, now, Some(before), 1).into_iter().next()?;
    let end = dead.past.ends().last()?.clone();
    let held = Held {
        queue: name.parse().expect("a name of ours"),
        reason: end.nack.unwrap_or_else(|| "the lease lapsed".into()),
        remedy: Some(Remedy::Redrive(message)),
    };
    Some((end.at, held))
}

fn failed_withdrawal(state: &State, own: Lsn) -> Option<(Timestamp, Held)> {
    let is_of_it = |id: &Lsn| {
        let origin = state.releases().get(*id).map(|it| it.begun.origin);
        matches!(origin, Some(Origin::Withdrawal { formula, .. }) if formula == own)
    };
    let id = state.releases().failed().find(is_of_it)?;
    let transaction = state.releases().get(id)?;
    debug_assert_eq!(transaction.phase, TransactionPhase::Ended(End::Failed));
    let held = Held {
        queue: QueueName::RELEASES.parse().expect("a name of ours"),
        reason: transaction.reason.clone(),
        remedy: Some(Remedy::Retry(id)),
    };
    Some((transaction.changed_at, held))
}

impl From<Step> for TrailStep {
    fn from(step: Step) -> TrailStep {
        let Step { at, lsn, kind } = step;
        let kind = match kind {
            StepKind::Leased(queue) => TrailKind::Leased(queue),
            // Settled without a call, because its text had been sealed before.
            StepKind::Acked(queue) if queue.as_str() == QueueName::SEALS => TrailKind::Sealed,
            StepKind::Acked(queue) => TrailKind::Acked(queue),
            StepKind::Nacked(queue, reason) => TrailKind::Nacked(queue, reason),
            StepKind::Deferred(queue) => TrailKind::Deferred(queue),
            StepKind::Condemned(queue, reason) => {
                TrailKind::Held(Held { queue, reason, remedy: None })
            }
            StepKind::Sealed => TrailKind::Sealed,
            StepKind::Told { event, hook } => TrailKind::Told { event, hook },
            StepKind::ReleaseEnded(ended) => TrailKind::ReleaseEnded(ended),
        };
        TrailStep { at, lsn, kind }
    }
}

#[cfg(test)]
mod tests;
