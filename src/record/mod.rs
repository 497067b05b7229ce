//! The facts that the log holds: one variant per fact, and nothing but facts.
//!
//! A record says what was *decided*, never what was asked. So applying it needs no clock, no
//! random number and no configuration: whatever a decision drew from those is in the record.
//! Two kinds of things are deliberately no record: refusals, which change nothing, and the
//! lapse of a lease, whose deadline already stands in [`Fact::Leased`].

pub mod archive;
pub mod call_key;
pub mod codec;
pub mod hooks;
pub mod releases;
pub mod seals;

use bincode::{Decode, Encode};

use self::hooks::{CreatedHook, HookSecret, OwedDelivery, Told};
use self::releases::{
    BegunTransaction, ChangedGroup, Delayed, EndedTransaction, NodeAnswer, NodeSet, Seen, Step,
};
use self::seals::{CallPurpose, GivenSeal, RequestedSeal};
use crate::formula::{Fingerprint, Formula};
use crate::ids::{Epoch, Lsn, MessageId, QueueName};
use crate::time::{Moment, Timestamp, Uptime};

/// A fact and when it was decided.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Record {
    /// When. Never before the moment of the record in front of it.
    pub at: Moment,
    /// What.
    pub fact: Fact,
}

/// What was decided.
///
/// Variants are numbered by their place in the stored bytes: new ones go at the end, none is
/// ever removed or reordered. A changed meaning is a new variant.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Fact {
    /// A reign began. The first record of every reign.
    Opened {
        /// Its number.
        epoch: Epoch,
    },
    /// A formula was accepted: at once the stored formula, its place in the index, the answer
    /// to a repeated request, and the message on the queue `formulas`.
    FormulaAccepted(AcceptedFormula),
    /// A formula was withdrawn. This record is the message `formula.withdrawn`.
    FormulaWithdrawn {
        /// The record that accepted it.
        formula: Lsn,
        /// Its fingerprint, so that the index need not read the formula back.
        fingerprint: Fingerprint,
    },
    /// A batch was answered under an idempotency key. Stands behind the formulas of its group.
    BatchAnswered {
        /// The key that it spent.
        key: SpentKey,
        /// What the answer said of each item, in order.
        outcomes: Vec<ItemOutcome>,
        /// How many records of the group stand in front of this one.
        preceding: u32,
        /// The request id that the answer's problems name.
        request_id: Box<str>,
    },
    /// Messages were leased to one consumer.
    Leased {
        /// The queue.
        queue: QueueName,
        /// The messages, oldest first.
        messages: Vec<Touched>,
        /// The lease lapses this many milliseconds of uptime after the record's moment.
        lease_ms: u64,
        /// The attempt after which a message is a dead letter, at least 1.
        attempts_max: u32,
        /// Random part of the receipts.
        token: u64,
    },
    /// Leased messages were done for good.
    Acked {
        /// The queue.
        queue: QueueName,
        /// The messages.
        messages: Vec<Touched>,
    },
    /// Leased messages were given back, or died if this was their last attempt.
    Nacked {
        /// The queue.
        queue: QueueName,
        /// The messages.
        messages: Vec<Touched>,
        /// They are ready again after this many milliseconds of uptime.
        delay_ms: u64,
        /// Why, in the consumer's words; may be empty.
        reason: Box<str>,
    },
    /// Leases were given a new deadline.
    Extended {
        /// The queue.
        queue: QueueName,
        /// The messages.
        messages: Vec<MessageId>,
        /// The lease lapses this many milliseconds of uptime after the record's moment.
        lease_ms: u64,
    },
    /// Dead letters were put back to ready, their attempts counted anew.
    Redriven {
        /// The queue.
        queue: QueueName,
        /// Which.
        which: Selection,
    },
    /// Dead letters were removed for good.
    Purged {
        /// The queue.
        queue: QueueName,
        /// Which.
        which: Selection,
    },
    /// The digest of the state after the record in front of this one, as version 1 reckoned it:
    /// without the keys that had expired. Read and no longer written.
    StateHash {
        /// The sum.
        digest: u128,
    },
    /// The digest of the state after the record in front of this one.
    Digest {
        /// See `State::digest`.
        digest: u128,
    },
    /// A formula was accepted that has been stored elsewhere before: all that follows from
    /// `FormulaAccepted` follows from it too.
    FormulaImported {
        /// The formula.
        accepted: AcceptedFormula,
        /// When it was accepted there.
        accepted_at: Timestamp,
    },
    /// A text is to be sealed.
    SealRequested(RequestedSeal),
    /// A call to the authority was begun: written before the socket is.
    CallBegun {
        /// What for.
        purpose: CallPurpose,
        /// It ends at the latest so many milliseconds after it began.
        deadline_ms: u64,
    },
    /// A call to the authority ended, however.
    CallEnded {
        /// The record that says that it was begun.
        call: Lsn,
        /// The authority asked to be left alone for so many milliseconds; 0: it did not.
        pause_ms: u64,
    },
    /// The authority sealed a text: settles everything that waited for it.
    Sealed(GivenSeal),
    /// Leased messages were given back for a reason that is not theirs: the attempt does not
    /// count.
    Deferred {
        /// The queue.
        queue: QueueName,
        /// The messages.
        messages: Vec<Touched>,
        /// They are ready again after this many milliseconds of uptime.
        delay_ms: u64,
    },
    /// Leased messages became dead letters whatever attempts they had left.
    Condemned {
        /// The queue.
        queue: QueueName,
        /// The messages.
        messages: Vec<Touched>,
        /// Why.
        reason: Box<str>,
    },
    /// Dead letters were told of: whatever hooks want to know of them is owed in the same group.
    DeathsAnnounced {
        /// The queue.
        queue: QueueName,
        /// Which.
        messages: Vec<MessageId>,
    },
    /// Somebody wants to be told of events.
    HookCreated(CreatedHook),
    /// Nobody is called any more for this hook.
    HookDeleted {
        /// Its id.
        hook: Lsn,
    },
    /// The receiver said that it is gone.
    HookDisabled {
        /// Its id.
        hook: Lsn,
        /// Why.
        reason: Box<str>,
    },
    /// A hook has a new secret; for a while calls are signed with the one before, too.
    HookSecretChanged {
        /// Its id.
        hook: Lsn,
        /// The new one.
        secret: HookSecret,
        /// The one before is used for so many milliseconds more.
        overlap_ms: u64,
    },
    /// The secret that answers to single requests are signed with.
    OwnSecretMade {
        /// It.
        secret: HookSecret,
    },
    /// A call is owed. This record is the message on the queue `hooks`.
    HookOwed(OwedDelivery),
    /// A call was made and taken: the message is done.
    HookDelivered {
        /// The delivery.
        delivery: MessageId,
        /// The formula that it told of, for that formula's trail.
        about: Option<Told>,
        /// The status of the answer.
        status: u16,
        /// How long it took.
        took_ms: u64,
    },
    /// A delivery that was made, or has failed for good, is to be made once more.
    HookRedelivered {
        /// The delivery.
        delivery: MessageId,
    },
    /// A group is to be on all nodes or on none.
    TransactionBegun(BegunTransaction),
    /// Nodes were looked at.
    NodesSeen {
        /// For which transaction.
        transaction: Lsn,
        /// What they told.
        seen: Vec<Seen>,
    },
    /// Nodes are about to be called: written before a socket is.
    NodesCalled {
        /// For which transaction.
        transaction: Lsn,
        /// Which way.
        step: Step,
        /// Which nodes.
        nodes: NodeSet,
        /// An undo is not made again before so many milliseconds.
        again_ms: u64,
    },
    /// A call to a node has ended, however.
    NodeAnswered {
        /// For which transaction.
        transaction: Lsn,
        /// The node's place in the record of the transaction.
        node: u8,
        /// How.
        answer: NodeAnswer,
        /// Why it is not done, if so; at most `REASON_BYTES_MAX` bytes.
        reason: Box<str>,
    },
    /// A transaction waits before it is tried again. Nothing of it is left on any node.
    TransactionDelayed {
        /// Which.
        transaction: Lsn,
        /// Why.
        delayed: Delayed,
        /// In words, at most `REASON_BYTES_MAX` bytes.
        reason: Box<str>,
        /// Its message, if it is leased, is ready again after so many milliseconds of uptime.
        delay_ms: u64,
    },
    /// Somebody wants a transaction to be tried at once, and anew if it had failed.
    TransactionRetried {
        /// Which.
        transaction: Lsn,
    },
    /// What a failed transaction left is to be undone once more.
    HealBegun {
        /// Which.
        transaction: Lsn,
    },
    /// A transaction is at an end, and its message is done, or a dead letter.
    TransactionEnded(EndedTransaction),
    /// What a request under a key was answered, for when it is repeated.
    TransactionAnswered {
        /// Which transaction it began.
        transaction: Lsn,
        /// The status.
        status: u16,
        /// The body.
        body: Box<[u8]>,
    },
    /// A formula's turn has come to be released. Puts its message on the queue `releases`.
    ReleaseDue {
        /// The formula.
        formula: MessageId,
    },
    /// A group came or went on this server, which plays a node.
    GroupChanged(ChangedGroup),
}

impl Fact {
    /// The formula that the fact accepts, if it accepts one.
    #[must_use]
    pub fn acceptance(&self) -> Option<&AcceptedFormula> {
        match self {
            Fact::FormulaAccepted(accepted) | Fact::FormulaImported { accepted, .. } => {
                Some(accepted)
            }
            _ => None,
        }
    }

    /// The identity that the decision looked up: of what the fact accepts or withdraws.
    #[must_use]
    pub fn fingerprint(&self) -> Option<&Fingerprint> {
        match self {
            Fact::FormulaWithdrawn { fingerprint, .. } => Some(fingerprint),
            _ => self.acceptance().map(|accepted| &accepted.fingerprint),
        }
    }

    /// The key that the fact puts into the index of keys: one that a request spent, or that of a
    /// text that was sealed.
    #[must_use]
    pub fn key(&self) -> Option<&SpentKey> {
        match self {
            Fact::BatchAnswered { key, .. } => Some(key),
            Fact::SealRequested(request) => request.key.as_ref(),
            Fact::Sealed(seal) => Some(&seal.index),
            Fact::HookCreated(hook) => hook.key.as_ref(),
            Fact::TransactionBegun(begun) => begun.key.as_ref(),
            _ => self.acceptance().and_then(|accepted| accepted.key.as_ref()),
        }
    }

    /// All entries of the index of keys that the decision looked up.
    pub fn keys(&self) -> impl Iterator<Item = &[u8; 32]> {
        let known_text = match self {
            Fact::SealRequested(request) if request.sealed.is_some() => Some(&request.text_key),
            _ => None,
        };
        self.key().map(|key| &key.key).into_iter().chain(known_text)
    }

    /// The formula that the fact, decided at `wall`, accepts, and when it was accepted first.
    #[must_use]
    pub fn into_acceptance(self, wall: Timestamp) -> Option<(AcceptedFormula, Timestamp)> {
        match self {
            Fact::FormulaAccepted(accepted) => Some((accepted, wall)),
            Fact::FormulaImported { accepted, accepted_at } => Some((accepted, accepted_at)),
            _ => None,
        }
    }
}

/// An accepted formula with all that follows from it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct AcceptedFormula {
    /// The canon under which the fingerprint was computed: 1.
    pub canon: u8,
    /// The formula's identity.
    pub fingerprint: Fingerprint,
    /// The formula with name and digits as sent.
    pub formula: Formula,
    /// The idempotency key that the request spent, if it had one of its own.
    pub key: Option<SpentKey>,
    /// The steps that follow acceptance, in order; empty for none. They stand in the record so
    /// that replay never depends on today's configuration.
    pub flow: Vec<FlowStep>,
}

impl AcceptedFormula {
    /// The step of its flow that comes after this one.
    #[must_use]
    pub fn step_after(&self, step: FlowStep) -> Option<FlowStep> {
        let mut rest = self.flow.iter().skip_while(|taken| **taken != step);
        rest.nth(1).copied()
    }
}

/// A step that follows acceptance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum FlowStep {
    /// Sealed by the outside authority.
    Seal,
    /// Released to the partner nodes.
    Release,
}

impl FlowStep {
    /// The queue on which a formula waits for it.
    #[must_use]
    pub fn queue(self) -> &'static str {
        match self {
            FlowStep::Seal => QueueName::SEALS,
            FlowStep::Release => QueueName::RELEASES,
        }
    }
}

/// An idempotency key that an accepted request used up.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct SpentKey {
    /// SHA-256 of caller and key.
    pub key: [u8; 32],
    /// SHA-256 of the request: the same key with another request is refused.
    pub request: [u8; 32],
    /// The key is forgotten at this uptime.
    pub expires: Uptime,
}

/// What became of one item of a batch.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum ItemOutcome {
    /// Accepted, by a record of the same group.
    Accepted(InGroup),
    /// The same make-up was stored before, by this record.
    Duplicate(Lsn),
    /// The same make-up stands earlier in the batch.
    Repeats(InGroup),
    /// Refused before the engine saw it: the problem document, as JSON without `request_id`.
    Invalid(Box<str>),
}

/// A record of the same group, counted from the group's first, which is 0.
///
/// Relative, because a group's LSNs are given only when it is appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct InGroup(pub u32);

/// A message in a record, and the last record before this one that touched it.
///
/// So the log holds each message's trail as a list that is walked backwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Touched {
    /// The message.
    pub message: MessageId,
    /// The record that touched it before; the message's own for the first.
    pub before: Lsn,
}

/// Which dead letters.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Selection {
    /// All there are.
    All,
    /// These.
    Ids(Vec<MessageId>),
}
