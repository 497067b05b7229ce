//! What becomes of transactions: beginnings, news of nodes, ends. Pure.
//!
//! News are recorded together with what follows from them: the look that completes a pre-flight
//! and the intent to call, the last answer and the end. So each step costs one commit, and there
//! is no moment at which one is known without the other. What follows is found by asking the
//! [`plan`](super::plan) of the transaction as it will be when the news are applied, which is the
//! very code that applies them.

mod going;
#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

use self::going::{Follows, Going};
use super::formulas::{first_use, spend};
use super::hooks::owed;
use super::plan::backoff_ms;
use super::queues::{self, touched};
use super::{Circumstances, Draft, Refusal, Reply, Verdict};
use crate::engine::command::LeaseRequest;
use crate::engine::command::releases::{
    Course, NewTransaction, NewWithdrawal, Partners, ReleaseCommand, TakenRelease, Task,
};
use crate::engine::findings::View;
use crate::formula::Fingerprint;
use crate::ids::{GroupId, Lsn, MessageId, QueueName};
use crate::limits::{
    FLOW_TRIES_MAX, FLOWS_OPEN_MAX, RELEASE_BACKOFF_BASE_MS, RELEASE_BACKOFF_CAP_MS,
    TRANSACTIONS_OPEN_MAX, TRIES_MAX,
};
use crate::record::hooks::{Event, Happening};
use crate::record::releases::{
    AboutRelease, Action, BegunTransaction, End, EndedTransaction, NodeEnd, Origin,
};
use crate::record::{Fact, Touched};
use crate::state::State;
use crate::state::releases::Phase;
use crate::time::Uptime;

/// Decides a command.
///
/// # Errors
/// The refusal, if the command changes nothing.
pub fn decide(
    view: View<'_>,
    command: ReleaseCommand,
    circumstances: &Circumstances,
) -> Result<Verdict, Refusal> {
    match command {
        ReleaseCommand::Begin(new) => begin(view, new, circumstances),
        ReleaseCommand::Withdraw(withdrawal) => withdraw(view, withdrawal),
        ReleaseCommand::Lease { messages_max, flows_max, lease_ms } => {
            let now = circumstances.now.uptime;
            let ids = leasable(view.state, messages_max, flows_max, now);
            let request = LeaseRequest { queue: releases_queue(), messages_max, lease_ms };
            queues::lease_these(view.state, request, ids, u32::MAX, circumstances)
        }
        ReleaseCommand::Take(taken) => Ok(take(view, taken, circumstances)),
        ReleaseCommand::Advance { transaction, news } => {
            Ok(on(view, transaction, circumstances, |going| {
                news.into_iter().for_each(|news| going.hear(news));
            }))
        }
        ReleaseCommand::Heal(transaction) => Ok(heal(view, transaction, circumstances)),
        ReleaseCommand::Retry(transaction) => retry(view.state, transaction),
        ReleaseCommand::Answered { transaction, status, body } => {
            Ok(answered(view.state, Fact::TransactionAnswered { transaction, status, body }))
        }
    }
}

/// The messages that can be leased, oldest first. While formulas have to wait, those that
/// somebody asked for go past them.
fn leasable(state: &State, max: usize, flows_max: usize, now: Uptime) -> Vec<MessageId> {
    let queue = state.queue(QueueName::RELEASES).expect("a built-in queue");
    if flows_max >= max {
        return queue.leasable(now, max);
    }
    // By way of the transactions, which are bounded: the queue may be as long as the store.
    let releases = state.releases();
    let open = releases.open().filter(|id| releases.is_transaction(MessageId(*id)));
    let asked = open.map(MessageId).filter(|id| queue.is_leasable(*id, now)).take(max);
    let mut ids: Vec<MessageId> = asked.collect();
    let is_flow = |id: &MessageId| !releases.is_transaction(*id);
    let first = queue.leasable(now, max).into_iter().filter(is_flow);
    ids.extend(first.take(flows_max.min(max - ids.len())));
    ids.sort_unstable();
    ids
}

/// Begins a transaction that somebody asks for; under a spent key it is the first one again.
fn begin(
    view: View<'_>,
    new: NewTransaction,
    circumstances: &Circumstances,
) -> Result<Verdict, Refusal> {
    if let Some(spent) = first_use(view, new.key.as_ref(), circumstances.now.uptime)? {
        return Ok(Verdict::Known(Reply::RecordedBefore(spent.lsn)));
    }
    let NewTransaction { group, action, partners, key } = new;
    has_room_for(view.state, &group, TRANSACTIONS_OPEN_MAX)?;
    let mut begun = begun(group, action, partners, Origin::Client);
    begun.key = key.map(|key| spend(key, circumstances));
    Ok(Verdict::Record(vec![Fact::TransactionBegun(begun)], Draft::Recorded))
}

/// Begins to delete a formula from all nodes.
fn withdraw(view: View<'_>, withdrawal: NewWithdrawal) -> Result<Verdict, Refusal> {
    let NewWithdrawal { fingerprint, partners } = withdrawal;
    let formula = view.formula(&fingerprint).ok_or(Refusal::FormulaUnknown)?;
    let group = group_of(&fingerprint);
    has_room_for(view.state, &group, TRANSACTIONS_OPEN_MAX)?;
    let origin = Origin::Withdrawal { formula, fingerprint };
    let fact = Fact::TransactionBegun(begun(group, Action::Delete, partners, origin));
    Ok(Verdict::Record(vec![fact], Draft::Recorded))
}

fn has_room_for(state: &State, group: &GroupId, open_max: usize) -> Result<(), Refusal> {
    match state.releases().holder(group) {
        Some(by) => Err(Refusal::GroupHeld { by }),
        None if state.releases().open_len() >= open_max => Err(Refusal::TransactionsFull),
        None => Ok(()),
    }
}

fn begun(group: GroupId, action: Action, partners: Partners, origin: Origin) -> BegunTransaction {
    let Partners { nodes, deadline_ms } = partners;
    let tries_max = if origin == Origin::Client { TRIES_MAX } else { FLOW_TRIES_MAX };
    BegunTransaction { group, action, nodes, deadline_ms, tries_max, origin, key: None }
}

/// The group that stands for a formula: its id.
#[must_use]
pub fn group_of(fingerprint: &Fingerprint) -> GroupId {
    fingerprint.to_string().parse().expect("64 hexadecimal digits are a group's name")
}

/// Goes on with what a leased message stands for: a transaction, or a formula that needs one.
fn take(view: View<'_>, taken: TakenRelease, circumstances: &Circumstances) -> Verdict {
    let releases = view.state.releases();
    let known = releases.of_message(taken.message).and_then(|id| Some((id, releases.get(id)?)));
    match known {
        // Redriven: like a retry by hand.
        Some((id, it)) if it.phase == Phase::Ended(End::Failed) => {
            on(view, id, circumstances, |going| {
                going.record(Fact::TransactionRetried { transaction: id });
            })
        }
        Some((id, it)) if it.phase.is_held() => on(view, id, circumstances, |_| {}),
        // The lease has lapsed: whoever has it next takes it.
        _ if !is_leased(view.state, taken.message, circumstances) => over(Lsn::ZERO, Task::Gone),
        // Withdrawn while it was on its way from the queue to here: nobody may release it now.
        _ => match taken.formula.filter(|it| view.formula(it) == Some(taken.message.0)) {
            Some(fingerprint) => release(view.state, &taken, fingerprint, circumstances),
            None => gone(Fact::Acked {
                queue: releases_queue(),
                messages: vec![touched_release(view.state, taken.message)],
            }),
        },
    }
}

fn is_leased(state: &State, message: MessageId, circumstances: &Circumstances) -> bool {
    let queue = state.queue(QueueName::RELEASES).expect("a built-in queue");
    queue.is_leased(message, circumstances.now.uptime)
}

/// Begins the transaction for a formula whose turn has come, unless another holds its group.
fn release(
    state: &State,
    taken: &TakenRelease,
    fingerprint: Fingerprint,
    circumstances: &Circumstances,
) -> Verdict {
    let TakenRelease { message, partners, .. } = taken;
    let group = group_of(&fingerprint);
    if partners.nodes.is_empty() || has_room_for(state, &group, FLOWS_OPEN_MAX).is_err() {
        let delay_ms = match partners.nodes.is_empty() {
            true => RELEASE_BACKOFF_CAP_MS,
            false => backoff_ms(1, circumstances.token).max(RELEASE_BACKOFF_BASE_MS),
        };
        let messages = vec![touched_release(state, *message)];
        return gone(Fact::Deferred { queue: releases_queue(), messages, delay_ms });
    }
    let origin = Origin::Flow { formula: message.0, fingerprint };
    let begun = begun(group, Action::Create, partners.clone(), origin);
    Verdict::Record(vec![Fact::TransactionBegun(begun)], Draft::ReleaseBegun)
}

fn gone(fact: Fact) -> Verdict {
    let course = Course { transaction: Lsn::ZERO, task: Task::Gone };
    Verdict::Record(vec![fact], Draft::Complete(Reply::Course(course)))
}

/// What a transaction that the group begins does first.
pub(super) fn first_course(facts: &[Fact], first: Lsn) -> Course {
    match facts {
        [Fact::TransactionBegun(begun), ..] => {
            let nodes = (0..).zip(&begun.nodes).map(|(place, _)| place).collect();
            Course { transaction: first, task: Task::Look(nodes) }
        }
        other => unreachable!("a release is begun by {other:?}"),
    }
}

/// Begins to undo what a failed transaction has left.
fn heal(view: View<'_>, transaction: Lsn, circumstances: &Circumstances) -> Verdict {
    let found = view.state.releases().get(transaction);
    match found.map(|it| it.phase) {
        Some(Phase::Ended(End::Failed)) => on(view, transaction, circumstances, |going| {
            going.record(Fact::HealBegun { transaction });
        }),
        _ => over(transaction, Task::Gone),
    }
}

fn retry(state: &State, transaction: Lsn) -> Result<Verdict, Refusal> {
    let found = state.releases().get(transaction).ok_or(Refusal::TransactionUnknown)?;
    match found.phase {
        Phase::Ended(End::Succeeded | End::RolledBack) => Err(Refusal::TransactionOver),
        Phase::Running => Ok(Verdict::Known(Reply::Done)),
        Phase::ToBeRetried | Phase::Ended(End::Failed) => {
            let fact = Fact::TransactionRetried { transaction };
            Ok(Verdict::Record(vec![fact], Draft::Complete(Reply::Done)))
        }
    }
}

fn answered(state: &State, fact: Fact) -> Verdict {
    let Fact::TransactionAnswered { transaction, .. } = &fact else {
        unreachable!("made by the caller")
    };
    match state.releases().get(*transaction) {
        Some(it) if it.answered.is_none() => {
            Verdict::Record(vec![fact], Draft::Complete(Reply::Done))
        }
        _ => Verdict::Known(Reply::Done),
    }
}

fn over(transaction: Lsn, task: Task) -> Verdict {
    Verdict::Known(Reply::Course(Course { transaction, task }))
}

/// Has `news` happen to a transaction, and decides what follows.
fn on(
    view: View<'_>,
    id: Lsn,
    circumstances: &Circumstances,
    news: impl FnOnce(&mut Going),
) -> Verdict {
    let Some(found) = view.state.releases().get(id) else { return over(id, Task::Gone) };
    let Circumstances { now, token, .. } = *circumstances;
    let mut going = Going::new(id, found.clone(), now, token);
    news(&mut going);
    let task = match going.follow() {
        Follows::Task(task) => task,
        Follows::End(end) => {
            Ending { view, token, going: &mut going }.end(end);
            Task::Over(going.transaction.phase)
        }
    };
    match going.facts.is_empty() {
        true => over(id, task),
        false => {
            let reply = Reply::Course(Course { transaction: id, task });
            Verdict::Record(going.facts, Draft::Complete(reply))
        }
    }
}

/// The end of a transaction, with what it means for others.
struct Ending<'a> {
    view: View<'a>,
    token: u64,
    going: &'a mut Going,
}

impl Ending<'_> {
    fn end(&mut self, end: End) {
        let (id, token, state) = (self.going.id, self.token, self.view.state);
        let reason = if end == End::Succeeded { Box::default() } else { self.going.reason() };
        let about = self.about();
        let ended = EndedTransaction { transaction: id, end, reason: reason.clone(), about };
        self.going.record(Fact::TransactionEnded(ended));
        let BegunTransaction { group, action, origin, .. } = &self.going.transaction.begun;
        let (group, action, origin) = (group.clone(), *action, *origin);
        let event = match end {
            End::Succeeded => Event::TransactionSucceeded,
            End::RolledBack => Event::TransactionRolledBack,
            End::Failed => Event::TransactionFailed,
        };
        self.going.facts.extend(owed(state, event, token, |_| Happening::TransactionEnded {
            transaction: id,
            group: group.clone(),
            action,
            end,
            reason: reason.clone(),
        }));
        if end == End::Succeeded {
            self.succeed(origin);
        }
    }

    /// What follows for the formula that the transaction was made for.
    fn succeed(&mut self, origin: Origin) {
        let (token, state, transaction) = (self.token, self.view.state, self.going.id);
        match origin {
            Origin::Client => {}
            Origin::Flow { formula: seq, fingerprint: formula } => {
                let released = |_| Happening::FormulaReleased { formula, seq, transaction };
                self.going.facts.extend(owed(state, Event::FormulaReleased, token, released));
            }
            Origin::Withdrawal { formula, fingerprint } => {
                if self.view.formula(&fingerprint) != Some(formula) {
                    return;
                }
                self.going.facts.push(Fact::FormulaWithdrawn { formula, fingerprint });
                let withdrawn =
                    |_| Happening::FormulaWithdrawn { formula: fingerprint, seq: formula };
                self.going.facts.extend(owed(state, Event::FormulaWithdrawn, token, withdrawn));
            }
        }
    }

    /// What the trail of the formula tells, if the transaction was made for one.
    fn about(&self) -> Option<AboutRelease> {
        let BegunTransaction { action, nodes: urls, origin, .. } = &self.going.transaction.begun;
        let (Origin::Flow { formula, .. } | Origin::Withdrawal { formula, .. }) = origin else {
            return None;
        };
        let formula = Touched {
            message: MessageId(*formula),
            before: self.view.state.formulas().trail(*formula),
        };
        let nodes = urls.iter().zip(&self.going.transaction.nodes);
        let nodes = nodes.map(|(url, node)| NodeEnd { url: url.clone(), outcome: node.outcome() });
        Some(AboutRelease { formula, action: *action, nodes: nodes.collect() })
    }
}

fn touched_release(state: &State, message: MessageId) -> Touched {
    touched(state, &releases_queue(), message)
}

fn releases_queue() -> QueueName {
    QueueName::RELEASES.parse().expect("a name of ours")
}
