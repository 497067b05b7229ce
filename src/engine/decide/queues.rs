//! What becomes of leases and dead letters: one set of rules for every queue.

use std::collections::BTreeSet;

use super::{Circumstances, Draft, Refusal, Reply, Verdict};
use crate::engine::command::{Delivery, LeaseRequest, Settled, Settlement};
use crate::ids::{MessageId, QueueName, Receipt};
use crate::record::{Fact, Selection, Touched};
use crate::state::State;
use crate::state::queues::Queue;
use crate::time::Moment;

/// Leases the oldest messages, as many as there are up to the wish. They are dead letters after
/// `attempts_max` attempts.
///
/// # Errors
/// `QueueUnknown`.
pub fn lease(
    state: &State,
    request: LeaseRequest,
    attempts_max: u32,
    circumstances: &Circumstances,
) -> Result<Verdict, Refusal> {
    let queue = find(state, &request.queue)?;
    let ids = queue.leasable(circumstances.now.uptime, request.messages_max);
    lease_these(state, request, ids, attempts_max, circumstances)
}

/// Leases these messages, which can be leased.
///
/// # Errors
/// `QueueUnknown`.
pub(super) fn lease_these(
    state: &State,
    request: LeaseRequest,
    ids: Vec<MessageId>,
    attempts_max: u32,
    circumstances: &Circumstances,
) -> Result<Verdict, Refusal> {
    let Circumstances { now, token, .. } = *circumstances;
    let queue = find(state, &request.queue)?;
    if ids.is_empty() {
        return Ok(Verdict::Known(Reply::Leased(Vec::new())));
    }
    let lease_until = now.wall.plus_ms(request.lease_ms);
    let deliver = |&message: &MessageId| {
        let attempt = queue.attempts(message) + 1;
        let receipt = Receipt { message, attempt, epoch: state.epoch(), token };
        Delivery { receipt, lease_until }
    };
    let deliveries = ids.iter().map(deliver).collect();
    let fact = Fact::Leased {
        messages: ids.into_iter().map(|id| touched(state, &request.queue, id)).collect(),
        queue: request.queue,
        lease_ms: request.lease_ms,
        attempts_max,
        token,
    };
    Ok(Verdict::Record(vec![fact], Draft::Complete(Reply::Leased(deliveries))))
}

/// Acks, nacks or extends the leases whose receipts are valid, and names those that are not.
///
/// # Errors
/// `QueueUnknown`; `ReceiptsStale` if none is valid.
pub fn settle(
    state: &State,
    name: QueueName,
    receipts: &[Receipt],
    settlement: Settlement,
    now: Moment,
) -> Result<Verdict, Refusal> {
    let queue = find(state, &name)?;
    let mut seen = BTreeSet::new();
    let (held, stale): (Vec<Receipt>, Vec<Receipt>) = receipts
        .iter()
        .partition(|receipt| queue.is_held(receipt, now.uptime) && seen.insert(**receipt));
    if held.is_empty() {
        return Err(Refusal::ReceiptsStale(stale));
    }
    let done: Vec<MessageId> = held.iter().map(|receipt| receipt.message).collect();
    let messages = || done.iter().map(|&id| touched(state, &name, id)).collect();
    let fact = match settlement {
        Settlement::Ack => Fact::Acked { messages: messages(), queue: name },
        Settlement::Nack { delay_ms, reason } => {
            Fact::Nacked { messages: messages(), queue: name, delay_ms, reason }
        }
        Settlement::Extend { lease_ms } => {
            Fact::Extended { messages: done.clone(), queue: name, lease_ms }
        }
    };
    let reply = Reply::Settled(Settled { done, stale });
    Ok(Verdict::Record(vec![fact], Draft::Complete(reply)))
}

/// Redrives or purges: `fact` says which. Ids that are no dead letters are passed over.
///
/// # Errors
/// `QueueUnknown`.
pub fn select_dead(
    state: &State,
    name: QueueName,
    which: Selection,
    now: Moment,
    fact: impl Fn(QueueName, Selection) -> Fact,
) -> Result<Verdict, Refusal> {
    let queue = find(state, &name)?;
    let (which, count) = match which {
        Selection::All => (Selection::All, queue.dead_letters(now.uptime).len()),
        Selection::Ids(ids) => {
            let ids: BTreeSet<MessageId> = ids.into_iter().collect();
            let dead = ids.into_iter().filter(|&id| queue.is_dead(id, now.uptime));
            let dead: Vec<MessageId> = dead.collect();
            let count = dead.len();
            (Selection::Ids(dead), count)
        }
    };
    let reply = Reply::Moved(count as u64);
    if count == 0 {
        return Ok(Verdict::Known(reply));
    }
    Ok(Verdict::Record(vec![fact(name, which)], Draft::Complete(reply)))
}

fn find<'a>(state: &'a State, name: &QueueName) -> Result<&'a Queue, Refusal> {
    state.queue(name.as_str()).ok_or(Refusal::QueueUnknown)
}

/// The message with the record that touched it last, where a trail is kept.
pub(in crate::engine) fn touched(state: &State, queue: &QueueName, message: MessageId) -> Touched {
    let MessageId(own) = message;
    let is_formula = state.keeps_trail(queue.as_str(), message);
    let before = if is_formula { state.formulas().trail(own) } else { own };
    Touched { message, before }
}
