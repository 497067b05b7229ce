//! Who is owed a call when something happens, and what becomes of hooks and deliveries. Pure.
//!
//! What is owed is decided where the happening is: in the same group of records, so that there
//! is no moment at which one is there without the other.

use sha2::{Digest as _, Sha256};

use super::formulas::{first_use, spend};
use super::queues::{self, touched};
use super::{Circumstances, Draft, Refusal, Reply, Verdict};
use crate::engine::command::{LeaseRequest, RequestKey, Settled};
use crate::engine::findings::View;
use crate::ids::{Lsn, MessageId, QueueName, Receipt};
use crate::limits::HOOKS_MAX;
use crate::record::hooks::{
    CreatedHook, Event, Events, Happening, HookSecret, NamedFormula, OwedDelivery, Recipient, Told,
};
use crate::record::{Fact, Touched};
use crate::state::State;
use crate::time::Moment;

/// What can be asked about hooks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HookCommand {
    /// Subscribe.
    Create(NewHook),
    /// Call it no more. What is owed to it is dropped when its turn comes.
    Delete(Lsn),
    /// Sign with another secret, and for so many milliseconds more with the one before, too.
    ChangeSecret(Lsn, HookSecret, u64),
    /// Sign answers to single requests with this, unless there is a secret already.
    MakeOwnSecret(HookSecret),
    /// Call it, to see whether it can be reached.
    Ping(Lsn),
    /// Tell that the disk has so many bytes free, below the second number.
    TellDiskLow(u64, u64),
    /// Lease deliveries.
    Lease(DeliveryLease),
    /// Say how calls for leased deliveries ended.
    Settle(Vec<Receipt>, DeliveryOutcome),
    /// Make a delivery once more that was made or has failed for good.
    Redeliver(MessageId, Recipient),
}

/// A subscription to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewHook {
    /// Where to call; vetted.
    pub url: Box<str>,
    /// What of.
    pub events: Events,
    /// What calls are signed with.
    pub secret: HookSecret,
    /// The client's name for this attempt.
    pub key: Option<RequestKey>,
}

/// A wish for deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeliveryLease {
    /// No more than this many, 1 to `LEASE_MESSAGES_MAX`.
    pub deliveries_max: usize,
    /// For this long, `LEASE_MS_MIN` to `LEASE_MS_MAX`.
    pub lease_ms: u64,
    /// Attempts after which they are dead letters, at least 1.
    pub attempts_max: u32,
}

/// How calls for leased deliveries ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeliveryOutcome {
    /// The receiver took it.
    Delivered {
        /// The status of his answer.
        status: u16,
        /// How long it took.
        took_ms: u64,
        /// The formula that it told of, for that formula's trail.
        about: Option<AboutFormula>,
    },
    /// It may be taken later.
    Failed {
        /// Not before so many milliseconds.
        delay_ms: u64,
        /// Why; at most `REASON_BYTES_MAX` bytes.
        reason: Box<str>,
    },
    /// It will never be taken.
    Condemned {
        /// Why; at most `REASON_BYTES_MAX` bytes.
        reason: Box<str>,
    },
    /// The receiver says that he is gone: nobody calls this hook any more.
    Gone {
        /// The hook; `None` for the answer to a single request.
        hook: Option<Lsn>,
        /// Why; at most `REASON_BYTES_MAX` bytes.
        reason: Box<str>,
    },
    /// There was no call: the receiver has others to answer first. Does not count.
    Deferred {
        /// Not before so many milliseconds.
        delay_ms: u64,
    },
    /// Its hook was deleted: there is nobody to call.
    Dropped,
}

/// A stored formula that a call told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AboutFormula {
    /// The record that accepted it.
    pub seq: Lsn,
    /// Of what.
    pub event: Event,
    /// The hook's id.
    pub hook: Lsn,
}

impl HookCommand {
    /// Whether it takes in something new, so that a full disk refuses it.
    #[must_use]
    pub fn is_intake(&self) -> bool {
        matches!(self, HookCommand::Create(_))
    }
}

/// One fact for each hook that wants to be told; none, and no work, if nobody does.
///
/// `happening` is given its place in the group: how many facts of the group stand in front of
/// the one that it makes, counted from the fact that it is about.
pub fn owed(
    state: &State,
    event: Event,
    token: u64,
    happening: impl Fn(u32) -> Happening,
) -> Vec<Fact> {
    let hooks = (1..).zip(state.hooks().subscribers(event));
    let owe = |(place, hook)| owed_to(Recipient::Hook(hook), happening(place), token);
    hooks.map(owe).collect()
}

/// The fact that a call is owed.
#[must_use]
pub fn owed_to(to: Recipient, happening: Happening, token: u64) -> Fact {
    Fact::HookOwed(OwedDelivery { to, happening, token: webhook_token(token) })
}

/// Adds to a group what is owed for the formulas that it accepts, behind everything else.
pub fn owe_acceptances(state: &State, facts: &mut Vec<Fact>, token: u64) {
    let hooks: Vec<Lsn> = state.hooks().subscribers(Event::FormulaAccepted).collect();
    if hooks.is_empty() {
        return;
    }
    for place in 0..facts.len() {
        for hook in &hooks {
            let Some(accepted) = facts[place].acceptance() else { break };
            let name = accepted.formula.name().into();
            let formula = NamedFormula { fingerprint: accepted.fingerprint, name };
            let back = u32::try_from(facts.len() - place).expect("a group is bounded");
            let happening = Happening::FormulaAccepted { formula, back };
            facts.push(owed_to(Recipient::Hook(*hook), happening, token));
        }
    }
}

/// The random part of a `webhook-id`. Not the number itself: receivers of hooks are strangers, and
/// from numbers of the same source receipts are made.
fn webhook_token(token: u64) -> u64 {
    let digest: [u8; 32] =
        Sha256::new_with_prefix(b"webhook-id").chain_update(token.to_le_bytes()).finalize().into();
    u64::from_le_bytes(digest[..8].try_into().expect("eight bytes"))
}

/// Decides a command.
///
/// # Errors
/// The refusal, if the command changes nothing.
pub fn decide(
    view: View<'_>,
    command: HookCommand,
    circumstances: &Circumstances,
) -> Result<Verdict, Refusal> {
    let (state, now) = (view.state, circumstances.now);
    match command {
        HookCommand::Create(hook) => create(view, hook, circumstances),
        HookCommand::Delete(hook) => {
            known(state, hook)?;
            Ok(done(Fact::HookDeleted { hook }))
        }
        HookCommand::ChangeSecret(hook, secret, overlap_ms) => {
            known(state, hook)?;
            Ok(done(Fact::HookSecretChanged { hook, secret, overlap_ms }))
        }
        HookCommand::MakeOwnSecret(secret) => match state.hooks().own_secret() {
            Some(_) => Ok(Verdict::Known(Reply::Done)),
            None => Ok(done(Fact::OwnSecretMade { secret })),
        },
        HookCommand::Ping(hook) => {
            called(state, Recipient::Hook(hook))?;
            let fact = owed_to(Recipient::Hook(hook), Happening::Ping, circumstances.token);
            Ok(Verdict::Record(vec![fact], Draft::Recorded))
        }
        HookCommand::TellDiskLow(free_bytes, low_bytes) => {
            let happening = |_| Happening::DiskLow { free_bytes, low_bytes };
            let facts = owed(state, Event::DiskLow, circumstances.token, happening);
            if facts.is_empty() {
                return Ok(Verdict::Known(Reply::Done));
            }
            Ok(Verdict::Record(facts, Draft::Complete(Reply::Done)))
        }
        HookCommand::Lease(lease) => {
            let DeliveryLease { deliveries_max, lease_ms, attempts_max } = lease;
            let request =
                LeaseRequest { queue: hooks_queue(), messages_max: deliveries_max, lease_ms };
            queues::lease(state, request, attempts_max, circumstances)
        }
        HookCommand::Settle(receipts, outcome) => settle(state, receipts, outcome, now),
        HookCommand::Redeliver(delivery, to) => {
            let queue = state.queue(QueueName::HOOKS).ok_or(Refusal::QueueUnknown)?;
            let is_dead = queue.is_dead(delivery, now.uptime);
            if queue.holds(delivery) && !is_dead {
                return Err(Refusal::DeliveryWaiting);
            }
            if !is_dead && !state.hooks().delivered().contains_key(&delivery) {
                return Err(Refusal::DeliveryUnknown);
            }
            called(state, to)?;
            Ok(done(Fact::HookRedelivered { delivery }))
        }
    }
}

fn create(
    view: View<'_>,
    hook: NewHook,
    circumstances: &Circumstances,
) -> Result<Verdict, Refusal> {
    if let Some(spent) = first_use(view, hook.key.as_ref(), circumstances.now.uptime)? {
        return Ok(Verdict::Known(Reply::RecordedBefore(spent.lsn)));
    }
    if view.state.hooks().len() >= HOOKS_MAX {
        return Err(Refusal::HooksFull);
    }
    let NewHook { url, events, secret, key } = hook;
    let key = key.map(|key| spend(key, circumstances));
    let created = CreatedHook { url, events, secret, key };
    Ok(Verdict::Record(vec![Fact::HookCreated(created)], Draft::Recorded))
}

/// What becomes of leased deliveries; receipts that are no longer valid are named.
fn settle(
    state: &State,
    receipts: Vec<Receipt>,
    outcome: DeliveryOutcome,
    now: Moment,
) -> Result<Verdict, Refusal> {
    let queue = state.queue(QueueName::HOOKS).ok_or(Refusal::QueueUnknown)?;
    let (held, stale): (Vec<Receipt>, Vec<Receipt>) =
        receipts.into_iter().partition(|receipt| queue.is_held(receipt, now.uptime));
    let done: Vec<MessageId> = held.iter().map(|receipt| receipt.message).collect();
    let Some(&first) = done.first() else { return Err(Refusal::ReceiptsStale(stale)) };
    let (queue, messages) = (hooks_queue(), || touch_all(&done));
    let facts = match outcome {
        DeliveryOutcome::Delivered { status, took_ms, about } => {
            let about = about.map(|about| told(state, about));
            vec![Fact::HookDelivered { delivery: first, about, status, took_ms }]
        }
        DeliveryOutcome::Failed { delay_ms, reason } => {
            vec![Fact::Nacked { queue, messages: messages(), delay_ms, reason }]
        }
        DeliveryOutcome::Condemned { reason } => {
            vec![Fact::Condemned { queue, messages: messages(), reason }]
        }
        DeliveryOutcome::Gone { hook, reason } => {
            let is_called =
                |id: &Lsn| state.hooks().get(*id).is_some_and(|hook| hook.disabled.is_none());
            let disabled = hook.filter(is_called);
            let disable = |hook| Fact::HookDisabled { hook, reason: reason.clone() };
            let disable = disabled.map(disable);
            let condemn = Fact::Condemned { queue, messages: messages(), reason };
            std::iter::once(condemn).chain(disable).collect()
        }
        DeliveryOutcome::Deferred { delay_ms } => {
            vec![Fact::Deferred { queue, messages: messages(), delay_ms }]
        }
        DeliveryOutcome::Dropped => vec![Fact::Acked { queue, messages: messages() }],
    };
    Ok(Verdict::Record(facts, Draft::Complete(Reply::Settled(Settled { done, stale }))))
}

/// No trail is kept of deliveries: they are touched for the first time each time.
fn touch_all(messages: &[MessageId]) -> Vec<Touched> {
    messages.iter().map(|&message| Touched { message, before: message.0 }).collect()
}

fn told(state: &State, about: AboutFormula) -> Told {
    let AboutFormula { seq, event, hook } = about;
    let formulas = QueueName::FORMULAS.parse().expect("a name of ours");
    Told { formula: touched(state, &formulas, MessageId(seq)), event, hook }
}

fn known(state: &State, hook: Lsn) -> Result<(), Refusal> {
    state.hooks().get(hook).map(|_| ()).ok_or(Refusal::HookUnknown)
}

/// Whether whoever is to be called would be.
fn called(state: &State, to: Recipient) -> Result<(), Refusal> {
    let Recipient::Hook(hook) = to else { return Ok(()) };
    match state.hooks().get(hook) {
        None => Err(Refusal::HookUnknown),
        Some(hook) if hook.disabled.is_some() => Err(Refusal::HookDisabled),
        Some(_) => Ok(()),
    }
}

fn done(fact: Fact) -> Verdict {
    Verdict::Record(vec![fact], Draft::Complete(Reply::Done))
}

fn hooks_queue() -> QueueName {
    QueueName::HOOKS.parse().expect("a name of ours")
}

#[cfg(test)]
mod tests;
