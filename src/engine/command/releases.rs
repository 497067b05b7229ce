//! What is asked of the engine about releases, and what it answers.

use crate::engine::command::RequestKey;
use crate::formula::Fingerprint;
use crate::ids::{GroupId, Lsn, MessageId};
use crate::record::releases::{Action, NodeAnswer, NodeSet, Seen, Step};
use crate::state::releases::Phase;
use crate::time::Uptime;

/// What can be asked about releases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReleaseCommand {
    /// Create or delete a group on all nodes.
    Begin(NewTransaction),
    /// Delete a formula from all nodes, then withdraw it.
    Withdraw(NewWithdrawal),
    /// Lease messages of the queue `releases`: at most so many, for so many milliseconds. However
    /// often that happens, none is a dead letter before its transaction has failed.
    Lease {
        /// Messages.
        messages_max: usize,
        /// Releases of formulas among them.
        flows_max: usize,
        /// Milliseconds.
        lease_ms: u64,
    },
    /// Go on with what a leased message of the queue `releases` stands for.
    Take(TakenRelease),
    /// Go on with a transaction.
    Advance {
        /// Which.
        transaction: Lsn,
        /// What has happened since.
        news: Vec<News>,
    },
    /// Try again at once, and anew if it has failed.
    Retry(Lsn),
    /// Undo what a failed one has left.
    Heal(Lsn),
    /// Keep what the request that began it was answered.
    Answered {
        /// Which.
        transaction: Lsn,
        /// The status.
        status: u16,
        /// The body, at most `TRANSACTION_ANSWER_BYTES_MAX`.
        body: Box<[u8]>,
    },
}

impl ReleaseCommand {
    /// Whether it takes in something new, so that a full disk refuses it.
    #[must_use]
    pub fn is_intake(&self) -> bool {
        matches!(self, ReleaseCommand::Begin(_) | ReleaseCommand::Withdraw(_))
    }
}

/// The partner nodes as they are configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partners {
    /// Their URLs, 1 to `NODES_MAX`; none: there are no partner nodes.
    pub nodes: Vec<Box<str>>,
    /// A call takes at most so many milliseconds.
    pub deadline_ms: u64,
}

/// A transaction to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTransaction {
    /// Which group.
    pub group: GroupId,
    /// What is to become of it.
    pub action: Action,
    /// On which nodes, at least one.
    pub partners: Partners,
    /// The client's name for this attempt.
    pub key: Option<RequestKey>,
}

/// A formula to be deleted from all nodes and withdrawn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewWithdrawal {
    /// Its identity.
    pub fingerprint: Fingerprint,
    /// From which nodes, at least one.
    pub partners: Partners,
}

/// A leased message of the queue `releases`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TakenRelease {
    /// It.
    pub message: MessageId,
    /// The formula that it stands for; `None` for a transaction's own.
    pub formula: Option<Fingerprint>,
    /// The nodes as they are configured now, for a transaction that is yet to begin.
    pub partners: Partners,
}

/// Something that happened to a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// Nodes were looked at. When those that told nothing are asked again is decided here,
    /// whatever their sight says.
    Seen(Vec<Seen>),
    /// A call to a node has ended.
    Answered {
        /// Its place in the record of the transaction.
        node: u8,
        /// How.
        answer: NodeAnswer,
        /// Why it is not done, if so; at most `REASON_BYTES_MAX` bytes.
        reason: Box<str>,
    },
}

/// What a transaction does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Course {
    /// Which.
    pub transaction: Lsn,
    /// What.
    pub task: Task,
}

/// What whoever carries out a transaction has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Look at these nodes.
    Look(NodeSet),
    /// Call these nodes. That they are called is on record.
    Call {
        /// Which way.
        step: Step,
        /// Which.
        nodes: NodeSet,
        /// The number for the keys of the calls.
        round: u32,
    },
    /// Answers are still to come; each is to be told as it comes.
    Await,
    /// Ask again when it is so late.
    Wait(Uptime),
    /// Nothing more: it waits for its next try, or is at an end.
    Over(Phase),
    /// There is nothing to be done with the message, or no such transaction.
    Gone,
}
