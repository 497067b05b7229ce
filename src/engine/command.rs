//! What clients ask of the engine, what they get, and why they may be refused.

pub mod releases;
pub mod seals;

use crate::formula::{Fingerprint, Formula};
use crate::ids::{Lsn, MessageId, QueueName, Receipt};
pub use crate::record::Selection;
pub use crate::record::archive::EndedRelease;
pub use crate::record::hooks::Event;
use crate::record::{AcceptedFormula, Fact};
use crate::time::Timestamp;

/// A formula that passed every check, on its way to the writer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submission {
    /// Name and digits as sent.
    pub formula: Formula,
    /// Its identity.
    pub fingerprint: Fingerprint,
    /// The client's name for this attempt.
    pub key: Option<RequestKey>,
}

/// An idempotency key with the request it stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestKey {
    /// SHA-256 of caller and key.
    pub key: [u8; 32],
    /// SHA-256 of the request (route, query and body).
    pub request: [u8; 32],
}

/// One item of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A checked formula. Its own key is used by NDJSON lines only.
    Valid(Submission),
    /// A checked formula that another store accepted at this date.
    Imported(Submission, Timestamp),
    /// Refused already: the problem document as JSON without `request_id`.
    Invalid(Box<str>),
}

/// Several formulas in one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The items in order; at most `BATCH_ITEMS_MAX`.
    pub items: Vec<Item>,
    /// Whether each is decided for itself or all together.
    pub mode: BatchMode,
    /// The key of the whole request.
    pub key: Option<RequestKey>,
    /// The request id, stored with a keyed answer so that a replay is the same to the byte.
    pub request_id: Box<str>,
}

/// How the items of a batch hang together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchMode {
    /// Each is accepted or refused for itself.
    PerItem,
    /// All are accepted in one durable group, or none is. Takes no invalid items.
    Atomic,
}

/// A formula as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredFormula {
    /// Its record: the `seq` of the API and its message's id.
    pub lsn: Lsn,
    /// When it was accepted.
    pub accepted_at: Timestamp,
    /// Its identity.
    pub fingerprint: Fingerprint,
    /// Name and digits as sent.
    pub formula: Formula,
}

impl StoredFormula {
    /// The formula that the record at `lsn` accepted, if it did: its fact, decided at `wall`.
    #[must_use]
    pub fn of(lsn: Lsn, fact: Fact, wall: Timestamp) -> Option<StoredFormula> {
        let (accepted, accepted_at) = fact.into_acceptance(wall)?;
        let AcceptedFormula { fingerprint, formula, .. } = accepted;
        Some(StoredFormula { lsn, accepted_at, fingerprint, formula })
    }
}

/// The answer to a submission that was accepted, now or before under the same key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The formula as stored.
    pub stored: StoredFormula,
    /// Whether this is the first answer or its repetition.
    pub answer: Answer,
}

/// Whether an answer is given for the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// For the first time.
    First,
    /// Again, under a spent idempotency key.
    Replayed,
}

/// What became of one item of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ItemReply {
    /// Accepted; with NDJSON keys perhaps before.
    Accepted(Accepted),
    /// The same make-up is stored already.
    Duplicate(StoredFormula),
    /// The NDJSON line's key was spent on another line.
    KeyReused,
    /// Refused before the engine saw it.
    Invalid(Box<str>),
    /// Not stored: it repeats the formula of this record, which was withdrawn and forgotten
    /// before it could be shown. To be sent again.
    Forgotten(Lsn),
}

/// The answer to a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchReply {
    /// One for each item, in order.
    pub items: Vec<ItemReply>,
    /// Whether this is the first answer or its repetition.
    pub answer: Answer,
    /// The request id of the first answer.
    pub request_id: Box<str>,
}

/// Names a formula in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FormulaRef {
    /// By identity.
    Id(Fingerprint),
    /// By the record that accepted it.
    Seq(Lsn),
}

/// A wish for messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseRequest {
    /// From this queue.
    pub queue: QueueName,
    /// No more than this many, 1 to `LEASE_MESSAGES_MAX`.
    pub messages_max: usize,
    /// For this long, `LEASE_MS_MIN` to `LEASE_MS_MAX`.
    pub lease_ms: u64,
}

/// A leased message. Its content is the record of the same LSN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Proof of the lease; names message and attempt.
    pub receipt: Receipt,
    /// When the lease lapses, if time runs on evenly.
    pub lease_until: Timestamp,
}

/// What a consumer does with leases it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// Done for good.
    Ack,
    /// Give back after a delay.
    Nack {
        /// Delay in ms, 0 to `NACK_DELAY_MS_MAX`.
        delay_ms: u64,
        /// Why; at most `REASON_BYTES_MAX` bytes, may be empty.
        reason: Box<str>,
    },
    /// Hold for this long from now.
    Extend {
        /// In ms, `LEASE_MS_MIN` to `LEASE_MS_MAX`.
        lease_ms: u64,
    },
}

/// The answer to an ack, nack or extend.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// Messages it took effect on.
    pub done: Vec<MessageId>,
    /// Receipts that are not, or no longer, valid.
    pub stale: Vec<Receipt>,
}

/// How a queue stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueStatus {
    /// Its name.
    pub name: QueueName,
    /// Messages that can be leased now.
    pub ready: u64,
    /// Messages held by consumers.
    pub leased: u64,
    /// Messages waiting for their delay to pass.
    pub delayed: u64,
    /// Dead letters.
    pub dead: u64,
    /// The message that waits the longest (ready, leased or delayed; not dead).
    pub oldest: Option<MessageId>,
    /// Attempts after which a message is a dead letter.
    pub attempts_max: u32,
}

/// Where a message stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessagePhase {
    /// Can be leased.
    Ready,
    /// Held by a consumer.
    Leased,
    /// Waits for its delay to pass.
    Delayed,
    /// Past its attempts, kept.
    Dead,
}

/// A message as seen by a peek.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageView {
    /// Its id, the LSN of its record.
    pub id: MessageId,
    /// Where it stands.
    pub phase: MessagePhase,
    /// How often it was leased since it was last put on the queue.
    pub attempts: u32,
    /// When its lease lapses or its delay passes; `None` when neither runs.
    pub due: Option<Timestamp>,
    /// How its latest attempts ended, oldest first; at most `HISTORY_MAX`.
    pub history: Vec<AttemptView>,
}

/// How one attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptView {
    /// Which attempt, from 1.
    pub attempt: u32,
    /// When it ended.
    pub ended_at: Timestamp,
    /// The reason of the consumer who nacked, empty when he gave none; `None` when the lease
    /// lapsed.
    pub reason: Option<Box<str>>,
}

/// One dated step of a formula's trail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrailStep {
    /// When.
    pub at: Timestamp,
    /// The record that says so.
    pub lsn: Lsn,
    /// What happened.
    pub kind: TrailKind,
}

/// What happened to a formula.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrailKind {
    /// Stored.
    Accepted,
    /// Put on a queue, by the same record.
    Announced(QueueName),
    /// Leased by a consumer of a queue.
    Leased(QueueName),
    /// Given back by the consumer, with its reason.
    Nacked(QueueName, Box<str>),
    /// Done.
    Acked(QueueName),
    /// Given back for a reason that is not the message's own.
    Deferred(QueueName),
    /// Sealed by the authority.
    Sealed,
    /// Released to the partner nodes, or not; or deleted from them for a withdrawal, or not.
    ReleaseEnded(Box<EndedRelease>),
    /// A step of the flow has failed for good: a dead letter of this queue, and why.
    Held(Held),
    /// A hook was told of an event.
    Told {
        /// Of what.
        event: Event,
        /// The hook's id.
        hook: Lsn,
    },
}

/// Why a formula is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The queue of the step that has failed for good.
    pub queue: QueueName,
    /// Why it has.
    pub reason: Box<str>,
    /// What has it tried again; `None` for what was tried again since.
    pub remedy: Option<Remedy>,
}

/// What has a held formula tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// To redrive its message on the queue that it is held on.
    Redrive(MessageId),
    /// To retry the transaction that deletes it from the nodes.
    Retry(Lsn),
}

/// A refusal. It changes nothing and leaves no trace in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// The same make-up is stored already, as this formula.
    Duplicate(StoredFormula),
    /// Items of an atomic batch whose make-up is stored already or stands earlier in the batch.
    Culprits(Vec<Culprit>),
    /// The idempotency key was spent on another request.
    KeyReused,
    /// No such formula.
    FormulaUnknown,
    /// No such queue.
    QueueUnknown,
    /// None of the receipts is valid.
    ReceiptsStale(Vec<Receipt>),
    /// No such hook.
    HookUnknown,
    /// The hook is called no more, since its receiver said that he is gone.
    HookDisabled,
    /// There are `HOOKS_MAX` hooks already.
    HooksFull,
    /// No such delivery, or no longer.
    DeliveryUnknown,
    /// The delivery is owed already.
    DeliveryWaiting,
    /// The call for a group was sent before one that was heard already.
    CallLate,
    /// There are `GROUPS_MAX` groups here already.
    GroupsFull,
    /// As many requests for a seal wait as may; try again after this many seconds.
    SealsFull {
        /// For `Retry-After`.
        retry_after_s: u64,
    },
    /// Another transaction holds the group.
    GroupHeld {
        /// It.
        by: Lsn,
    },
    /// No such transaction, or not any more.
    TransactionUnknown,
    /// The transaction is at an end and cannot be tried again.
    TransactionOver,
    /// There are `TRANSACTIONS_OPEN_MAX` transactions that are not at an end.
    TransactionsFull,
    /// Too many commands wait; try again after this many seconds.
    Overloaded {
        /// For `Retry-After`.
        retry_after_s: u64,
    },
    /// The disk is full; intake resumes by itself when there is room.
    DiskFull,
    /// The log failed while this was under way: it may or may not have happened. Ask again
    /// with the same key after the restart.
    OutcomeUnknown,
    /// The record exists but cannot be read back unharmed.
    Damaged(Lsn),
    /// Nothing was changed: the formula of this record, on which the answer rests, was withdrawn
    /// and forgotten before it could be shown. Ask again.
    Forgotten(Lsn),
    /// What an operator asked for could not be made; the event that was written says why.
    Unmade,
}

/// An item that kept an atomic batch from being accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Culprit {
    /// Its index in the batch.
    pub index: usize,
    /// Whom it repeats.
    pub repeats: Repeated,
}

/// What an item of an atomic batch repeats.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Repeated {
    /// A stored formula.
    Stored(StoredFormula),
    /// An earlier item of the same batch, by index.
    Item(usize),
}
