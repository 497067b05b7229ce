//! Commands to facts: what a command amounts to in a given state. Pure.
//!
//! A decision takes a [`View`] of the state, the command and the [`Circumstances`] (moment, random
//! number, policy) and gives either facts to record with the reply they lead to, a reply that needs
//! no record, or a refusal, which changes nothing.

pub mod deaths;
pub mod formulas;
pub mod gate;
pub mod groups;
pub mod hooks;
pub mod plan;
pub mod queues;
pub mod releases;
pub mod seals;
#[cfg(test)]
mod tests;

use self::deaths::Death;
use self::groups::{GroupCall, GroupReply};
use self::hooks::HookCommand;
use crate::engine::command::releases::{Course, ReleaseCommand};
use crate::engine::command::seals::{
    Begun, CallBegin, SealBegin, SealEnd, SealEnded, SealSettle, SealWish,
};
use crate::engine::command::{
    Batch, Delivery, LeaseRequest, Settled, Settlement, StoredFormula, Submission,
};
use crate::engine::decide::gate::Gate;
use crate::engine::findings::View;
use crate::formula::Fingerprint;
use crate::ids::{Lsn, MessageId, QueueName, Receipt};
use crate::record::releases::Action;
use crate::record::seals::RequestedSeal;
use crate::record::{Fact, FlowStep, InGroup, Selection};
use crate::time::{Moment, Timestamp};

/// What a client asks the writer to do.
#[derive(Clone, Debug)]
pub enum Command {
    /// Store a formula.
    Accept(Submission),
    /// Store several.
    AcceptBatch(Batch),
    /// Withdraw a formula.
    Withdraw(Fingerprint),
    /// Lease messages.
    Lease(LeaseRequest),
    /// Ack, nack or extend leases.
    Settle(QueueName, Vec<Receipt>, Settlement),
    /// Put dead letters back to ready.
    Redrive(QueueName, Selection),
    /// Remove dead letters.
    Purge(QueueName, Selection),
    /// Tell of dead letters.
    AnnounceDeaths(QueueName, Vec<Death>),
    /// Whatever has to do with hooks.
    Hook(HookCommand),
    /// Create or delete a group here.
    ChangeGroup(GroupCall),
    /// Whatever has to do with releases.
    Release(ReleaseCommand),
    /// Have a text sealed.
    RequestSeal(SealWish),
    /// Call the authority for a message.
    BeginSeal(SealBegin),
    /// Such a call is over.
    EndSeal(Box<SealEnd>),
    /// Messages whose text is sealed already are done.
    SettleSealed(Box<SealSettle>),
    /// Callers who were to be told at once have left: they are told by hooks.
    OweAnswers {
        /// The record that seals their text.
        sealed: Lsn,
        /// Their requests; each has a `webhook_url`.
        requests: Vec<MessageId>,
    },
    /// Call the authority for something else.
    BeginCall(CallBegin),
    /// Such a call is over.
    EndCall {
        /// The record that began it.
        call: Lsn,
        /// The authority is left alone for so many milliseconds.
        pause_ms: u64,
    },
}

/// All that a decision may depend on besides state and command.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances {
    /// The present moment.
    pub now: Moment,
    /// A random number that nobody can guess, for receipts.
    pub token: u64,
    /// What the operator configured.
    pub policy: Policy,
}

/// Configuration that decisions depend on. Replay does not: it finds the results in the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Attempt after which a message is a dead letter, 1 to `ATTEMPTS_MAX`.
    pub attempts_max: u32,
    /// How long a spent idempotency key is remembered, in ms of uptime.
    pub retention_ms: u64,
    /// The steps that follow the acceptance of a formula, in order.
    pub flow: &'static [FlowStep],
}

/// What a command amounts to.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// Nothing needs to be recorded; this is the reply.
    Known(Reply),
    /// Record these facts as one group, then reply.
    Record(Vec<Fact>, Draft),
}

/// A reply as far as it is known before the facts have their LSNs.
#[derive(Clone, Debug)]
pub enum Draft {
    /// The one formula of the group.
    Accepted,
    /// What became of each item.
    Batch(Vec<ItemDraft>),
    /// The withdrawal.
    Withdrawn,
    /// The first record of the group, by its LSN.
    Recorded,
    /// The one request for a seal of the group.
    SealRequested,
    /// A lease and, after it, the call that was begun.
    SealBegun(Receipt),
    /// The call that was begun.
    CallBegun,
    /// The end of a call for a message.
    SealEnded(seals::EndDraft),
    /// The transaction that the group begins, which looks at all its nodes.
    ReleaseBegun,
    /// Complete already.
    Complete(Reply),
}

/// What became of one item of a batch, before LSNs are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ItemDraft {
    /// Accepted by this record of the group.
    Accepted(InGroup),
    /// Repeats the item that this record of the group accepts.
    Repeats(InGroup),
    /// Known without the group.
    Known(ItemRaw),
}

/// The reply to a command; LSNs stand for what has yet to be read from disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The formula was accepted.
    Accepted(StoredFormula),
    /// It was accepted before under the same key, by this record.
    Replayed(Lsn),
    /// The batch was carried out.
    Batch(Vec<ItemRaw>),
    /// It was carried out before under the same key; this record holds the answer.
    BatchReplayed(Lsn),
    /// The formula was withdrawn by this record.
    Withdrawn(Lsn),
    /// The leased messages, maybe none.
    Leased(Vec<Delivery>),
    /// The settled leases.
    Settled(Settled),
    /// So many dead letters were moved.
    Moved(u64),
    /// The record that makes what was asked for; its LSN is the id.
    Recorded(Lsn),
    /// It was made before under the same key, by this record.
    RecordedBefore(Lsn),
    /// The text was asked to be sealed by this record.
    SealRequested(Lsn, Box<RequestedSeal>),
    /// It was asked for before under the same key, by this record.
    SealReplayed(Lsn),
    /// Whether a call for a message was begun.
    SealBegun(Begun),
    /// What the end of a call for a message has led to.
    SealEnded(SealEnded),
    /// A call was begun by this record; or why not.
    CallBegun(Result<Lsn, Gate>),
    /// What became of a group here.
    Group(GroupReply),
    /// What a transaction does next.
    Course(Course),
    /// It was done.
    Done,
}

/// What became of one item of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ItemRaw {
    /// Accepted.
    Accepted(StoredFormula),
    /// Accepted before under the same key, by this record.
    Replayed(Lsn),
    /// The same make-up is stored by this record.
    Duplicate(Lsn),
    /// The key was spent on something else.
    KeyReused,
    /// Refused before the engine saw it.
    Invalid(Box<str>),
}

/// Why a command changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The same make-up is stored by this record.
    Duplicate(Lsn),
    /// Items that keep an atomic batch from being accepted: index, and whom each repeats.
    Culprits(Vec<(usize, Original)>),
    /// The key was spent on another request.
    KeyReused,
    /// No such formula.
    FormulaUnknown,
    /// No such queue.
    QueueUnknown,
    /// None of the receipts is valid.
    ReceiptsStale(Vec<Receipt>),
    /// No such hook.
    HookUnknown,
    /// The hook is called no more.
    HookDisabled,
    /// There are as many hooks as there may be.
    HooksFull,
    /// No such delivery, or no longer.
    DeliveryUnknown,
    /// The delivery is owed already.
    DeliveryWaiting,
    /// As many requests for a seal wait as may: the next is done after so many seconds.
    SealsFull {
        /// Seconds.
        retry_after_s: u64,
    },
    /// The call for a group was sent before one that was heard already.
    CallLate,
    /// There are as many groups as there may be.
    GroupsFull,
    /// Another transaction holds the group.
    GroupHeld {
        /// It.
        by: Lsn,
    },
    /// No such transaction, or not any more.
    TransactionUnknown,
    /// The transaction is at an end and cannot be tried again.
    TransactionOver,
    /// As many transactions are under way as may be.
    TransactionsFull,
    /// No room for more formulas.
    DiskFull,
    /// The snapshot is damaged where the answer stands.
    Unreadable,
}

/// Whom an item of an atomic batch repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Original {
    /// The formula that this record accepted.
    Stored(Lsn),
    /// The earlier item with this index.
    Item(usize),
}

/// Decides one command.
///
/// # Errors
/// The refusal, if the command changes nothing.
pub fn decide(
    view: View<'_>,
    command: Command,
    circumstances: &Circumstances,
) -> Result<Verdict, Refusal> {
    let state = view.state;
    match command {
        Command::Accept(submission) => formulas::accept(view, submission, circumstances),
        Command::AcceptBatch(batch) => formulas::accept_batch(view, batch, circumstances),
        Command::Withdraw(fingerprint) => formulas::withdraw(view, fingerprint, circumstances),
        Command::Lease(request) => {
            // What is left on the nodes has to be carried on, however often we end meanwhile.
            let attempts_max = match request.queue.as_str() {
                QueueName::RELEASES => u32::MAX,
                _ => circumstances.policy.attempts_max,
            };
            queues::lease(state, request, attempts_max, circumstances)
        }
        Command::AnnounceDeaths(queue, deaths) => {
            deaths::announce(state, queue, deaths, circumstances)
        }
        Command::Hook(command) => hooks::decide(view, command, circumstances),
        Command::Settle(queue, receipts, settlement) => {
            queues::settle(state, queue, &receipts, settlement, circumstances.now)
        }
        Command::Redrive(queue, which) => {
            queues::select_dead(state, queue, which, circumstances.now, |queue, which| {
                Fact::Redriven { queue, which }
            })
        }
        Command::Purge(queue, which) => {
            queues::select_dead(state, queue, which, circumstances.now, |queue, which| {
                Fact::Purged { queue, which }
            })
        }
        Command::ChangeGroup(call) => groups::decide(state, call),
        Command::Release(command) => releases::decide(view, command, circumstances),
        Command::RequestSeal(wish) => seals::request(view, wish, circumstances),
        Command::BeginSeal(begin) => Ok(seals::begin(view, &begin, circumstances)),
        Command::EndSeal(end) => Ok(seals::end(view, *end, circumstances)),
        Command::SettleSealed(settle) => Ok(seals::settle(view, *settle, circumstances)),
        Command::OweAnswers { sealed, requests } => {
            Ok(seals::owe_answers(sealed, &requests, circumstances))
        }
        Command::BeginCall(begin) => Ok(seals::begin_call(state, &begin, circumstances)),
        Command::EndCall { call, pause_ms } => Ok(seals::end_call(call, pause_ms)),
    }
}

impl Command {
    /// Whether the command takes in something new, so that a full disk refuses it. What only
    /// moves messages along goes on, in the room that the log keeps for it.
    #[must_use]
    pub fn is_intake(&self) -> bool {
        match self {
            Command::Accept(_) | Command::AcceptBatch(_) | Command::RequestSeal(_) => true,
            Command::Hook(command) => command.is_intake(),
            Command::ChangeGroup(call) => call.action == Action::Create,
            Command::Release(command) => command.is_intake(),
            _ => false,
        }
    }
}

impl Draft {
    /// The reply, now that the group stands in the log from `first` on.
    pub(super) fn complete(self, facts: Vec<Fact>, first: Lsn, at: Timestamp) -> Reply {
        match self {
            Draft::Accepted => {
                let mut stored = stored_formulas(facts, first, at);
                Reply::Accepted(stored.next().expect("an acceptance is one formula"))
            }
            Draft::Batch(items) => {
                let mut stored = stored_formulas(facts, first, at);
                let mut accepted = || stored.next().expect("each accepted item is one formula");
                let complete = |item| match item {
                    ItemDraft::Accepted(_) => ItemRaw::Accepted(accepted()),
                    ItemDraft::Repeats(at) => ItemRaw::Duplicate(in_group(first, at)),
                    ItemDraft::Known(raw) => raw,
                };
                Reply::Batch(items.into_iter().map(complete).collect())
            }
            Draft::Withdrawn => Reply::Withdrawn(first),
            Draft::Recorded => Reply::Recorded(first),
            Draft::SealRequested => match facts.into_iter().next() {
                Some(Fact::SealRequested(request)) => {
                    Reply::SealRequested(first, Box::new(request))
                }
                other => unreachable!("a request for a seal is recorded as {other:?}"),
            },
            Draft::SealBegun(receipt) => {
                Reply::SealBegun(Begun::Call { call: first.next(), receipt })
            }
            Draft::CallBegun => Reply::CallBegun(Ok(first)),
            Draft::SealEnded(seals::EndDraft { sealed, settled }) => {
                let sealed = sealed.map(|place| in_group(first, place));
                Reply::SealEnded(SealEnded { sealed, settled })
            }
            Draft::ReleaseBegun => Reply::Course(releases::first_course(&facts, first)),
            Draft::Complete(reply) => reply,
        }
    }
}

/// The LSN of a record of the group that begins at `first`.
pub(super) fn in_group(first: Lsn, place: InGroup) -> Lsn {
    Lsn(first.0 + u64::from(place.0))
}

/// The formulas that the group accepted, in order, taken out of their records without a copy.
fn stored_formulas(
    facts: Vec<Fact>,
    first: Lsn,
    at: Timestamp,
) -> impl Iterator<Item = StoredFormula> {
    let lsns = (first.0..).map(Lsn);
    lsns.zip(facts).filter_map(move |(lsn, fact)| StoredFormula::of(lsn, fact, at))
}
