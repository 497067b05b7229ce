//! What becomes of transactions: beginnings, news of nodes, ends. Pure.
//!
//! News are recorded together with what follows from them: the look that completes a pre-flight
//! and the intent to call, the last answer and the end. So each step costs one commit, and there
//! is no moment at which one is known without the other. What follows is found by asking the
//! [`plan`](super::plan) of the transaction as it will be when the news are applied, which is the
//! very code that applies them.

use super::formulas::{first_use, spend};
use super::hooks::owed;
use super::plan::{Next, backoff_ms, plan, spread_ms};
use super::queues::{self, touched};
use super::{Circumstances, Draft, Refusal, Reply, Verdict};
use crate::engine::command::LeaseRequest;
use crate::engine::command::releases::{
    Course, NewTransaction, NewWithdrawal, News, Partners, ReleaseCommand, TakenRelease, Task,
};
use crate::engine::findings::View;
use crate::formula::Fingerprint;
use crate::ids::{GroupId, Lsn, MessageId, QueueName};
use crate::limits::{
    FLOW_TRIES_MAX, REASON_BYTES_MAX, RELEASE_BACKOFF_BASE_MS, RELEASE_BACKOFF_CAP_MS,
    RELEASE_SHUNNED_DELAY_MS, TRANSACTIONS_OPEN_MAX, TRIES_MAX,
};
use crate::record::hooks::{Event, Happening};
use crate::record::releases::{
    AboutRelease, Action, BegunTransaction, Delayed, End, EndedTransaction, NodeEnd, NodeOutcome,
    NodeSet, Origin, Seen, Sight, Step,
};
use crate::record::{Fact, Touched};
use crate::state::State;
use crate::state::releases::{Node, Phase, Standing, Transaction};

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
        ReleaseCommand::Lease { messages_max, lease_ms } => {
            let request = LeaseRequest { queue: releases_queue(), messages_max, lease_ms };
            queues::lease(view.state, request, u32::MAX, circumstances)
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
    has_room_for(view.state, &group)?;
    let mut begun = begun(group, action, partners, Origin::Client);
    begun.key = key.map(|key| spend(key, circumstances));
    Ok(Verdict::Record(vec![Fact::TransactionBegun(begun)], Draft::Recorded))
}

/// Begins to delete a formula from all nodes.
fn withdraw(view: View<'_>, withdrawal: NewWithdrawal) -> Result<Verdict, Refusal> {
    let NewWithdrawal { fingerprint, partners } = withdrawal;
    let formula = view.formula(&fingerprint).ok_or(Refusal::FormulaUnknown)?;
    let group = group_of(&fingerprint);
    has_room_for(view.state, &group)?;
    let origin = Origin::Withdrawal { formula, fingerprint };
    let fact = Fact::TransactionBegun(begun(group, Action::Delete, partners, origin));
    Ok(Verdict::Record(vec![fact], Draft::Recorded))
}

fn has_room_for(state: &State, group: &GroupId) -> Result<(), Refusal> {
    match state.releases().holder(group) {
        Some(by) => Err(Refusal::GroupHeld { by }),
        None if state.releases().open_len() >= TRANSACTIONS_OPEN_MAX => {
            Err(Refusal::TransactionsFull)
        }
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
    if partners.nodes.is_empty() || has_room_for(state, &group).is_err() {
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
    news: impl FnOnce(&mut Going<'_>),
) -> Verdict {
    let Some(found) = view.state.releases().get(id) else { return over(id, Task::Gone) };
    let mut going =
        Going { view, circumstances, id, transaction: found.clone(), facts: Vec::new() };
    news(&mut going);
    let task = going.follow();
    match going.facts.is_empty() {
        true => over(id, task),
        false => {
            let reply = Reply::Course(Course { transaction: id, task });
            Verdict::Record(going.facts, Draft::Complete(reply))
        }
    }
}

/// A transaction as it will be when the facts are applied.
struct Going<'a> {
    view: View<'a>,
    circumstances: &'a Circumstances,
    id: Lsn,
    transaction: Transaction,
    facts: Vec<Fact>,
}

impl Going<'_> {
    fn record(&mut self, fact: Fact) {
        self.transaction.apply(self.circumstances.now, &fact);
        self.facts.push(fact);
    }

    fn hear(&mut self, news: News) {
        let transaction = self.id;
        if !self.transaction.phase.is_held() {
            return;
        }
        match news {
            News::Seen(seen) => {
                let seen = seen.into_iter().map(|seen| self.dated(seen)).collect();
                self.record(Fact::NodesSeen { transaction, seen });
            }
            News::Answered { node, answer, reason } => {
                self.record(Fact::NodeAnswered { transaction, node, answer, reason });
            }
        }
    }

    /// Says when a node that told nothing is asked again.
    fn dated(&self, seen: Seen) -> Seen {
        let Seen { node, sight } = seen;
        let Sight::Unseen { reason, .. } = sight else { return Seen { node, sight } };
        let unseen = self.transaction.nodes.get(usize::from(node)).map_or(0, |it| it.unseen);
        let again_ms = backoff_ms(unseen + 1, self.circumstances.token);
        Seen { node, sight: Sight::Unseen { reason, again_ms } }
    }

    /// Records what follows, and gives what is to be done then.
    fn follow(&mut self) -> Task {
        let transaction = self.id;
        match plan(&self.transaction, self.circumstances.now.uptime) {
            Next::Look(nodes) => Task::Look(nodes),
            Next::Await => Task::Await,
            Next::Wait(until) => Task::Wait(until),
            Next::Nothing => Task::Over(self.transaction.phase),
            Next::Call(step, nodes) => self.call(step, nodes),
            Next::Delay(delayed) => {
                let (delay_ms, reason) = (self.delay_ms(delayed), self.reason());
                let fact = Fact::TransactionDelayed { transaction, delayed, reason, delay_ms };
                self.record(fact);
                Task::Over(self.transaction.phase)
            }
            Next::End(end) => {
                // One that could not be healed is as it was.
                if self.transaction.phase != Phase::Ended(end) {
                    self.end(end);
                }
                Task::Over(self.transaction.phase)
            }
        }
    }

    fn call(&mut self, step: Step, nodes: NodeSet) -> Task {
        let again_ms = match step {
            Step::Do => 0,
            Step::Undo => backoff_ms(self.transaction.undos + 1, self.circumstances.token),
        };
        let fact = Fact::NodesCalled { transaction: self.id, step, nodes, again_ms };
        self.record(fact);
        Task::Call { step, nodes, round: self.transaction.rounds }
    }

    /// Until the next try; longer while nodes are left alone.
    fn delay_ms(&self, delayed: Delayed) -> u64 {
        let now = self.circumstances.now.uptime;
        let token = self.circumstances.token;
        let even_ms = match delayed {
            Delayed::TryOver => backoff_ms(self.transaction.tries + 1, token),
            Delayed::Shunned => spread_ms(RELEASE_SHUNNED_DELAY_MS, token),
        };
        let shunned_ms = |node: &Node| match node.standing {
            Standing::Shunned { until } => until.since_ms(now),
            _ => 0,
        };
        let shunned_ms = self.transaction.nodes.iter().map(shunned_ms).max().unwrap_or(0);
        even_ms.max(shunned_ms)
    }

    fn end(&mut self, end: End) {
        let (token, state) = (self.circumstances.token, self.view.state);
        let reason = if end == End::Succeeded { Box::default() } else { self.reason() };
        let about = self.about();
        let ended = EndedTransaction { transaction: self.id, end, reason: reason.clone(), about };
        self.record(Fact::TransactionEnded(ended));
        let BegunTransaction { group, action, origin, .. } = &self.transaction.begun;
        let (group, action, origin) = (group.clone(), *action, *origin);
        let event = match end {
            End::Succeeded => Event::TransactionSucceeded,
            End::RolledBack => Event::TransactionRolledBack,
            End::Failed => Event::TransactionFailed,
        };
        self.facts.extend(owed(state, event, token, |_| Happening::TransactionEnded {
            transaction: self.id,
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
        let (token, state, transaction) = (self.circumstances.token, self.view.state, self.id);
        match origin {
            Origin::Client => {}
            Origin::Flow { formula: seq, fingerprint: formula } => {
                let released = |_| Happening::FormulaReleased { formula, seq, transaction };
                self.facts.extend(owed(state, Event::FormulaReleased, token, released));
            }
            Origin::Withdrawal { formula, fingerprint } => {
                if self.view.formula(&fingerprint) != Some(formula) {
                    return;
                }
                self.facts.push(Fact::FormulaWithdrawn { formula, fingerprint });
                let withdrawn =
                    |_| Happening::FormulaWithdrawn { formula: fingerprint, seq: formula };
                self.facts.extend(owed(state, Event::FormulaWithdrawn, token, withdrawn));
            }
        }
    }

    /// What the trail of the formula tells, if the transaction was made for one.
    fn about(&self) -> Option<AboutRelease> {
        let BegunTransaction { action, nodes: urls, origin, .. } = &self.transaction.begun;
        let (Origin::Flow { formula, .. } | Origin::Withdrawal { formula, .. }) = origin else {
            return None;
        };
        let formula = Touched {
            message: MessageId(*formula),
            before: self.view.state.formulas().trail(*formula),
        };
        let nodes = urls.iter().zip(&self.transaction.nodes);
        let nodes = nodes.map(|(url, node)| NodeEnd { url: url.clone(), outcome: node.outcome() });
        Some(AboutRelease { formula, action: *action, nodes: nodes.collect() })
    }

    /// Which nodes stand in the way, and why; those that do not tell why only by their outcome.
    fn reason(&self) -> Box<str> {
        let BegunTransaction { nodes: urls, action, .. } = &self.transaction.begun;
        let is_in_the_way = |node: &Node| match node.standing {
            Standing::Done | Standing::Already | Standing::Looked | Standing::Idle => false,
            Standing::Clean => node.last_error.is_some(),
            _ => true,
        };
        let mut text = String::new();
        for (url, node) in urls.iter().zip(&self.transaction.nodes) {
            if !is_in_the_way(node) && !self.is_left(node) {
                continue;
            }
            if !text.is_empty() {
                text.push_str("; ");
            }
            text.push_str(url);
            text.push_str(": ");
            let why = node.last_error.as_deref().unwrap_or(node.outcome().name());
            text.push_str(why);
            if self.is_left(node) {
                text.push_str(match (node.outcome(), action) {
                    (NodeOutcome::Unknown, _) => " (not known whether the group is there)",
                    (_, Action::Create) => " (the group is still there)",
                    (_, Action::Delete) => " (the group is still gone)",
                });
            }
        }
        cut(text)
    }

    /// Whether the node is not as it was, or may not be.
    fn is_left(&self, node: &Node) -> bool {
        self.transaction.undos > 0
            && matches!(node.standing, Standing::Done | Standing::Unknown { .. })
    }
}

/// At most `REASON_BYTES_MAX` bytes of a text.
fn cut(mut text: String) -> Box<str> {
    text.truncate(text.floor_char_boundary(REASON_BYTES_MAX));
    text.into()
}

fn touched_release(state: &State, message: MessageId) -> Touched {
    touched(state, &releases_queue(), message)
}

fn releases_queue() -> QueueName {
    QueueName::RELEASES.parse().expect("a name of ours")
}
