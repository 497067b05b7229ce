//! Which queues got something, so that whoever waits for it is woken.

use std::collections::BTreeMap;

use crate::ids::QueueName;
use crate::limits::CONNECTIONS_MAX;
use crate::record::Fact;
use crate::state::State;
use crate::state::outlook::Phase;
use crate::time::Uptime;

/// Messages that became ready, by queue.
pub type Arrivals = BTreeMap<QueueName, usize>;

/// Counts the messages that come back by `now` because their lease lapsed or their delay passed.
///
/// Asked before a record of that moment is applied, which carries it out. Whoever waited for just
/// that deadline would find it gone when he asks how long he still has to wait, and nobody would
/// wake him: so he is woken like for any other arrival.
pub(super) fn note_returns(arrivals: &mut Arrivals, state: &State, now: Uptime) {
    for (name, queue) in state.queues() {
        if queue.first_due().is_none_or(|due| due > now) {
            continue;
        }
        let back = queue.due_by(now).filter(|(_, turns)| *turns == Some(Phase::Ready)).count();
        if let Some(total) = arrivals.get_mut(name) {
            *total = total.saturating_add(back);
        }
    }
}

/// Counts the messages that a fact makes ready, now or once their delay has passed.
pub(super) fn note_arrivals(arrivals: &mut Arrivals, fact: &Fact) {
    let mut note = |queue: &str, count: usize| {
        if let Some(total) = arrivals.get_mut(queue) {
            *total = total.saturating_add(count);
        }
    };
    match fact {
        Fact::FormulaAccepted(accepted) | Fact::FormulaImported { accepted, .. } => {
            note(QueueName::FORMULAS, 1);
            accepted.flow.first().iter().for_each(|first| note(first.queue(), 1));
        }
        Fact::FormulaWithdrawn { .. } => note(QueueName::FORMULAS, 1),
        Fact::SealRequested(_) => note(QueueName::SEALS, 1),
        // Whoever waits for a slot looks again.
        Fact::CallEnded { .. } => note(QueueName::SEALS, 1),
        Fact::HookOwed(_) | Fact::HookRedelivered { .. } => note(QueueName::HOOKS, 1),
        Fact::TransactionBegun(_)
        | Fact::TransactionDelayed { .. }
        | Fact::TransactionRetried { .. }
        | Fact::ReleaseDue { .. } => note(QueueName::RELEASES, 1),
        Fact::Nacked { queue, messages, .. } | Fact::Deferred { queue, messages, .. } => {
            note(queue.as_str(), messages.len());
        }
        // Nothing arrives, but one of those who poll must learn when this lease lapses.
        Fact::Leased { queue, .. } | Fact::Extended { queue, .. } => note(queue.as_str(), 1),
        // Whoever polls looks again and finds what there is.
        Fact::Redriven { queue, .. } => note(queue.as_str(), CONNECTIONS_MAX),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use crate::engine::command::Settlement;
    use crate::engine::fixture::{Bench, queue};

    #[test]
    fn what_comes_back_by_itself_wakes_who_waits_when_another_record_carries_it_out() {
        let mut bench = Bench::new();
        bench.accept(1);
        let receipts = bench.lease();
        bench.settle(receipts, Settlement::Nack { delay_ms: 1000, reason: "later".into() });
        bench.core.arrivals().values_mut().for_each(|count| *count = 0);
        bench.clock.advance_ms(2000);
        bench.accept(2);
        assert_eq!(bench.core.arrivals()[&queue()], 2, "the one that came back, and the new one");
    }
}
