//! What the facts about hooks say: who wants to be told of what, and what is owed to whom.

use std::fmt;
use std::str::FromStr;

use bincode::{Decode, Encode};

use super::releases::{Action, End};
use super::{SpentKey, Touched};
use crate::formula::Fingerprint;
use crate::ids::{GroupId, Lsn, MessageId, QueueName};

/// A subscription. Its id is the LSN of the record.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct CreatedHook {
    /// Where to call.
    pub url: Box<str>,
    /// What of.
    pub events: Events,
    /// What calls are signed with.
    pub secret: HookSecret,
    /// The idempotency key that the request spent.
    pub key: Option<SpentKey>,
}

/// The bytes that calls to a hook are signed with. Not shown by `Debug`.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct HookSecret(pub Box<[u8]>);

impl fmt::Debug for HookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HookSecret(..)")
    }
}

/// What can happen that hooks are told of. Stored by number: new ones go at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum Event {
    /// A formula was stored.
    FormulaAccepted,
    /// A formula was withdrawn.
    FormulaWithdrawn,
    /// The authority sealed a formula.
    FormulaSealed,
    /// A step of a formula's flow has failed for good; it waits for an operator.
    FormulaHeld,
    /// A text could not be sealed in as many attempts as there are.
    SealFailed,
    /// A message of any queue became a dead letter.
    MessageDead,
    /// A group is on all nodes, or on none, as was asked.
    TransactionSucceeded,
    /// Nothing of a transaction is left.
    TransactionRolledBack,
    /// A transaction could be neither carried out nor undone.
    TransactionFailed,
    /// The disk is nearly full.
    DiskLow,
    /// Somebody wants to see whether a hook can be reached. Not subscribed to.
    Ping,
    /// A formula is on all nodes.
    FormulaReleased,
}

impl Event {
    /// All that can be subscribed to, with their names.
    pub const NAMES: [(Event, &str); 11] = [
        (Event::FormulaAccepted, "formula.accepted"),
        (Event::FormulaWithdrawn, "formula.withdrawn"),
        (Event::FormulaSealed, "formula.sealed"),
        (Event::FormulaReleased, "formula.released"),
        (Event::FormulaHeld, "formula.held"),
        (Event::SealFailed, "seal.failed"),
        (Event::MessageDead, "message.dead"),
        (Event::TransactionSucceeded, "transaction.succeeded"),
        (Event::TransactionRolledBack, "transaction.rolled_back"),
        (Event::TransactionFailed, "transaction.failed"),
        (Event::DiskLow, "disk.low"),
    ];

    /// Its name, as hooks are called with.
    #[must_use]
    pub fn name(self) -> &'static str {
        let named = Event::NAMES.iter().find(|(event, _)| *event == self);
        named.map_or("ping", |(_, name)| name)
    }
}

/// A set of events: a bit for each, by its place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Events(pub u32);

impl Events {
    /// Whether `event` is one of them. [`Event::Ping`] never is.
    #[must_use]
    pub fn contains(self, event: Event) -> bool {
        event != Event::Ping && self.0 & bit(event) != 0
    }

    /// Adds one.
    pub fn add(&mut self, event: Event) {
        self.0 |= bit(event);
    }

    /// The names, in their order.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let all = Event::NAMES.iter();
        all.filter(move |(event, _)| self.contains(*event)).map(|(_, name)| *name)
    }
}

impl FromStr for Events {
    type Err = UnknownEvent;

    /// One name, `*` for all, or a family such as `formula.*`.
    fn from_str(text: &str) -> Result<Events, UnknownEvent> {
        let mut events = Events::default();
        let prefix = text.strip_suffix('*').filter(|p| p.is_empty() || p.ends_with('.'));
        for (event, name) in Event::NAMES {
            if name == text || prefix.is_some_and(|prefix| name.starts_with(prefix)) {
                events.add(event);
            }
        }
        if events == Events::default() { Err(UnknownEvent) } else { Ok(events) }
    }
}

/// No event has this name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownEvent;

impl fmt::Display for UnknownEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no such event")
    }
}

impl std::error::Error for UnknownEvent {}

fn bit(event: Event) -> u32 {
    1 << event as u32
}

/// A call that is owed to somebody. Its id is the LSN of the record, which is also the message
/// on the queue `hooks`.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct OwedDelivery {
    /// To whom.
    pub to: Recipient,
    /// What to tell.
    pub happening: Happening,
    /// Makes `webhook-id` one that no other store and no restored one gives to anything else.
    pub token: u64,
}

/// Who is to be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum Recipient {
    /// A subscription, by its id.
    Hook(Lsn),
    /// The `webhook_url` of this request for a seal.
    SealRequest(Lsn),
}

/// A formula as events name it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct NamedFormula {
    /// Its identity.
    pub fingerprint: Fingerprint,
    /// Its name as sent.
    pub name: Box<str>,
}

/// A call that told of a formula, for that formula's trail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Told {
    /// The formula, as a message of its own trail.
    pub formula: Touched,
    /// Of what.
    pub event: Event,
    /// The hook's id.
    pub hook: Lsn,
}

/// Which record `Sealed` holds a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum SealedBy {
    /// One of the same group, so many records in front of this one. Relative, because a group's
    /// LSNs are given only when it is appended.
    Back(u32),
    /// One of an earlier group.
    Record(Lsn),
}

impl SealedBy {
    /// The record, as named by the one at `own`.
    #[must_use]
    pub fn lsn(self, own: Lsn) -> Lsn {
        match self {
            SealedBy::Back(back) => Lsn(own.0.saturating_sub(back.into())),
            SealedBy::Record(lsn) => lsn,
        }
    }
}

/// What happened: all that a call tells, so that no other record is needed to tell it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Happening {
    /// [`Event::FormulaAccepted`].
    FormulaAccepted {
        /// Which.
        formula: NamedFormula,
        /// The record that accepted it stands so many records in front of this one.
        back: u32,
    },
    /// [`Event::FormulaWithdrawn`].
    FormulaWithdrawn {
        /// Which.
        formula: Fingerprint,
        /// The record that had accepted it.
        seq: Lsn,
    },
    /// [`Event::FormulaSealed`].
    FormulaSealed {
        /// Which.
        formula: Fingerprint,
        /// The record that accepted it.
        seq: Lsn,
        /// As the authority gave it.
        signature: Box<str>,
    },
    /// [`Event::FormulaHeld`].
    FormulaHeld {
        /// Which.
        formula: Fingerprint,
        /// The record that accepted it.
        seq: Lsn,
        /// The queue on which it is a dead letter.
        queue: QueueName,
        /// How its last attempt ended.
        reason: Box<str>,
    },
    /// [`Event::SealFailed`].
    SealFailed {
        /// The message on the queue `seals`.
        message: MessageId,
        /// How many attempts were made.
        attempts: u32,
        /// How the last one ended.
        reason: Box<str>,
    },
    /// [`Event::MessageDead`].
    MessageDead {
        /// The queue.
        queue: QueueName,
        /// Which.
        message: MessageId,
        /// How many attempts were made.
        attempts: u32,
        /// How the last one ended.
        reason: Box<str>,
    },
    /// The answer to a request for a seal, for its `webhook_url`.
    SealAnswered {
        /// Where the signature stands; `None` when all attempts have failed.
        sealed: Option<SealedBy>,
    },
    /// [`Event::DiskLow`].
    DiskLow {
        /// Bytes that are free.
        free_bytes: u64,
        /// Bytes below which it is called low.
        low_bytes: u64,
    },
    /// [`Event::Ping`].
    Ping,
    /// [`Event::TransactionSucceeded`], [`Event::TransactionRolledBack`],
    /// [`Event::TransactionFailed`].
    TransactionEnded {
        /// Which.
        transaction: Lsn,
        /// Its group.
        group: GroupId,
        /// What was to be done.
        action: Action,
        /// How it ended.
        end: End,
        /// Why, unless it succeeded.
        reason: Box<str>,
    },
    /// [`Event::FormulaReleased`].
    FormulaReleased {
        /// Which.
        formula: Fingerprint,
        /// The record that accepted it.
        seq: Lsn,
        /// The transaction that released it.
        transaction: Lsn,
    },
}

impl Happening {
    /// The kind of event; `None` for the answer to a single request, which is no event.
    #[must_use]
    pub fn event(&self) -> Option<Event> {
        Some(match self {
            Happening::FormulaAccepted { .. } => Event::FormulaAccepted,
            Happening::FormulaWithdrawn { .. } => Event::FormulaWithdrawn,
            Happening::FormulaSealed { .. } => Event::FormulaSealed,
            Happening::FormulaHeld { .. } => Event::FormulaHeld,
            Happening::SealFailed { .. } => Event::SealFailed,
            Happening::MessageDead { .. } => Event::MessageDead,
            Happening::SealAnswered { .. } => return None,
            Happening::DiskLow { .. } => Event::DiskLow,
            Happening::Ping => Event::Ping,
            Happening::TransactionEnded { end, .. } => match end {
                End::Succeeded => Event::TransactionSucceeded,
                End::RolledBack => Event::TransactionRolledBack,
                End::Failed => Event::TransactionFailed,
            },
            Happening::FormulaReleased { .. } => Event::FormulaReleased,
        })
    }
}
