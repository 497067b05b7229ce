//! The steps of a trail, walked backwards through the log.
//!
//! `Leased`, `Acked` and `Nacked` name for each message the record that touched it before, so a
//! trail is a list in the log that begins at its end. One record may have touched a thousand
//! messages whose trails are asked for one after the other: the latest records are kept, taken
//! apart.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::compactor::{CompactError, Task};
use crate::ids::{Lsn, MessageId};
use crate::limits::{STEP_RECORDS_MAX, TRAIL_STEPS_MAX};
use crate::log::ReadError;
use crate::record::archive::{EndedRelease, Step, StepKind};
use crate::record::hooks::Told;
use crate::record::releases::{AboutRelease, EndedTransaction};
use crate::record::{Fact, Record, Touched, codec};
use crate::time::Timestamp;

/// A reader of steps.
pub(super) struct Steps<'a> {
    task: &'a Task,
    records: HashMap<Lsn, Arc<Touches>>,
    /// The order in which they came, for letting the oldest go.
    order: VecDeque<Lsn>,
    payload: Vec<u8>,
}

/// A record that touched messages, taken apart.
struct Touches {
    at: Timestamp,
    kind: StepKind,
    before: HashMap<MessageId, Lsn>,
}

impl<'a> Steps<'a> {
    pub(super) fn new(task: &'a Task) -> Steps<'a> {
        let (records, order, payload) = (HashMap::new(), VecDeque::new(), Vec::new());
        Steps { task, records, order, payload }
    }

    /// The steps of the formula `own` from `last` back to, but not including, what the snapshot
    /// at `base` keeps; oldest first. A step that was lost ends the walk.
    pub(super) fn since(
        &mut self,
        own: Lsn,
        last: Lsn,
        base: Lsn,
    ) -> Result<Vec<Step>, CompactError> {
        let (mut steps, mut at) = (Vec::new(), last);
        while at > base && at != own && steps.len() < TRAIL_STEPS_MAX {
            let Some(touches) = self.touches(at)? else { break };
            let Some(&before) = touches.before.get(&MessageId(own)) else { break };
            steps.push(Step { at: touches.at, lsn: at, kind: touches.kind.clone() });
            at = before;
        }
        steps.reverse();
        Ok(steps)
    }

    fn touches(&mut self, lsn: Lsn) -> Result<Option<Arc<Touches>>, CompactError> {
        if let Some(known) = self.records.get(&lsn) {
            return Ok(Some(Arc::clone(known)));
        }
        match self.task.reader.read(lsn, &mut self.payload) {
            Ok(_) => {}
            Err(ReadError::NotFound) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        let record = codec::decode(&self.payload);
        let record = record.map_err(|why| CompactError::Undecodable(lsn, why))?;
        let Some(touches) = Touches::of(record).map(Arc::new) else { return Ok(None) };
        if self.order.len() == STEP_RECORDS_MAX {
            self.order.pop_front().iter().for_each(|oldest| drop(self.records.remove(oldest)));
        }
        self.order.push_back(lsn);
        self.records.insert(lsn, Arc::clone(&touches));
        Ok(Some(touches))
    }
}

impl Touches {
    fn of(record: Record) -> Option<Touches> {
        let at = record.at.wall;
        let (kind, messages) = step_kind(record.fact)?;
        let before = messages.into_iter().map(|touched| (touched.message, touched.before));
        Some(Touches { at, kind, before: before.collect() })
    }
}

/// What a fact did to messages, and to which; `None` if it is no step.
pub(super) fn step_kind(fact: Fact) -> Option<(StepKind, Vec<Touched>)> {
    match fact {
        Fact::Leased { queue, messages, .. } => Some((StepKind::Leased(queue), messages)),
        Fact::Acked { queue, messages } => Some((StepKind::Acked(queue), messages)),
        Fact::Nacked { queue, messages, reason, .. } => {
            Some((StepKind::Nacked(queue, reason), messages))
        }
        Fact::Deferred { queue, messages, .. } => Some((StepKind::Deferred(queue), messages)),
        Fact::Condemned { queue, messages, reason } => {
            Some((StepKind::Condemned(queue, reason), messages))
        }
        Fact::Sealed(seal) => Some((StepKind::Sealed, vec![seal.message])),
        Fact::HookDelivered { about: Some(Told { formula, event, hook }), .. } => {
            Some((StepKind::Told { event, hook }, vec![formula]))
        }
        Fact::TransactionEnded(EndedTransaction { transaction, end, reason, about }) => {
            let AboutRelease { formula, action, nodes } = about?;
            let ended = EndedRelease { transaction, action, end, reason, nodes };
            Some((StepKind::ReleaseEnded(Box::new(ended)), vec![formula]))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::command::Settlement;
    use crate::engine::fixture::{Bench, queue};

    fn kept(bench: &Bench, lsn: Lsn) -> Vec<Step> {
        let kept = bench.core.read(lsn).expect("it can be read");
        kept.expect("it is stored").steps
    }

    #[test]
    fn each_snapshot_adds_the_steps_since_the_one_before() {
        let mut bench = Bench::new();
        let lsn = bench.accept(1);
        let other = bench.accept(2);
        let receipts = bench.lease();
        let nack = Settlement::Nack { delay_ms: 0, reason: "later".into() };
        bench.settle(receipts, nack);
        bench.compact();
        let (leased, nacked) =
            (StepKind::Leased(queue()), StepKind::Nacked(queue(), "later".into()));
        let kinds = |steps: &[Step]| steps.iter().map(|step| step.kind.clone()).collect::<Vec<_>>();
        assert_eq!(kinds(&kept(&bench, lsn)), [leased.clone(), nacked.clone()]);

        let before = kept(&bench, lsn);
        let mut receipts = bench.lease();
        receipts.retain(|receipt| receipt.message == MessageId(lsn));
        bench.settle(receipts, Settlement::Ack);
        bench.compact();
        let after = kept(&bench, lsn);
        assert_eq!(after[..2], before, "what was told stays as it was told");
        assert_eq!(kinds(&after[2..]), [leased.clone(), StepKind::Acked(queue())]);
        assert!(after.is_sorted_by_key(|step| step.lsn));
        assert_eq!(kinds(&kept(&bench, other)), [leased.clone(), nacked, leased]);
    }

    #[test]
    fn no_more_than_the_latest_steps_are_kept() {
        let mut bench = Bench::new();
        let lsn = bench.accept(1);
        for round in 0..TRAIL_STEPS_MAX {
            let receipts = bench.lease();
            bench.settle(receipts, Settlement::Extend { lease_ms: 1000 });
            bench.clock.advance_ms(2000);
            // A lapse uses up an attempt.
            if round % 3 == 2 {
                bench.compact();
                let all = crate::record::Selection::All;
                let redriven = bench.run(crate::engine::decide::Command::Redrive(queue(), all));
                assert!(redriven.is_ok());
            }
        }
        let last = bench.lease();
        assert_eq!(last.len(), 1);
        bench.compact();
        let steps = kept(&bench, lsn);
        assert_eq!(steps.len(), TRAIL_STEPS_MAX);
        assert!(steps.is_sorted_by_key(|step| step.lsn));
    }
}
