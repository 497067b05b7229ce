//! What the facts about releases say: what was begun, seen, called, answered and ended.
//!
//! A call to a node is two records, that it was intended and what was answered. One that was
//! intended and never answered may have taken effect or not: whoever replays knows that it is to
//! be looked at, and nothing is forgotten.

use bincode::{Decode, Encode};

use super::{SpentKey, Touched};
use crate::formula::Fingerprint;
use crate::ids::{GroupId, Lsn, MessageId};

/// One create or delete of a group, on all nodes or on none. Its id is the LSN of the record.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct BegunTransaction {
    /// Which group.
    pub group: GroupId,
    /// What is to become of it.
    pub action: Action,
    /// The nodes' URLs, 1 to `NODES_MAX`. They count, whatever is configured later.
    pub nodes: Vec<Box<str>>,
    /// A call takes at most so many milliseconds, and has no effect later than that.
    pub deadline_ms: u64,
    /// Tries after which it is given up, at least 1.
    pub tries_max: u32,
    /// Who wants it.
    pub origin: Origin,
    /// The idempotency key that the request spent.
    pub key: Option<SpentKey>,
}

impl BegunTransaction {
    /// Its message on the queue `releases`: the formula's own, or the transaction's, `own`.
    #[must_use]
    pub fn message(&self, own: Lsn) -> MessageId {
        match self.origin {
            Origin::Flow { formula, .. } => MessageId(formula),
            Origin::Client | Origin::Withdrawal { .. } => MessageId(own),
        }
    }
}

/// What is to become of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum Action {
    /// It is to be on all nodes.
    Create,
    /// It is to be on none.
    Delete,
}

impl Action {
    /// How a node is when the action has been carried out there.
    #[must_use]
    pub fn aim(self) -> Presence {
        match self {
            Action::Create => Presence::Present,
            Action::Delete => Presence::Absent,
        }
    }

    /// The action that takes this one back.
    #[must_use]
    pub fn inverse(self) -> Action {
        match self {
            Action::Create => Action::Delete,
            Action::Delete => Action::Create,
        }
    }

    /// Its name in the API.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Action::Create => "create",
            Action::Delete => "delete",
        }
    }
}

/// Who wants a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Origin {
    /// Somebody who asked for it.
    Client,
    /// The flow of a formula, whose id is the group.
    Flow {
        /// The record that accepted it; its message on the queue `releases`.
        formula: Lsn,
        /// Its identity.
        fingerprint: Fingerprint,
    },
    /// Somebody who withdraws a formula: it is withdrawn when no node has it any more.
    Withdrawal {
        /// The record that accepted it.
        formula: Lsn,
        /// Its identity.
        fingerprint: Fingerprint,
    },
}

/// Whether a group is on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum Presence {
    /// It is not.
    Absent,
    /// It is.
    Present,
}

/// Which way a call goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum Step {
    /// Carries the action out.
    Do,
    /// Takes it back.
    Undo,
}

/// Some of a transaction's nodes: a bit for each, by its place in the record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Encode, Decode)]
pub struct NodeSet(pub u16);

impl NodeSet {
    /// None.
    pub const NONE: NodeSet = NodeSet(0);

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether the node at this place is one of them.
    #[must_use]
    pub fn contains(self, node: u8) -> bool {
        self.0.checked_shr(node.into()).is_some_and(|bits| bits & 1 == 1)
    }

    /// Their places, in order.
    pub fn iter(self) -> impl Iterator<Item = u8> {
        (0..16).filter(move |node| self.contains(*node))
    }
}

impl FromIterator<u8> for NodeSet {
    fn from_iter<T: IntoIterator<Item = u8>>(nodes: T) -> NodeSet {
        let bit = |node: u8| 1_u16.checked_shl(node.into()).unwrap_or(0);
        NodeSet(nodes.into_iter().fold(0, |all, node| all | bit(node)))
    }
}

/// What a look at a node told.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Seen {
    /// The node's place in the record.
    pub node: u8,
    /// What was seen.
    pub sight: Sight,
}

/// What was seen of a group on a node.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Sight {
    /// It is there, or is not.
    Told(Presence),
    /// The node did not tell.
    Unseen {
        /// Why, at most `REASON_BYTES_MAX` bytes.
        reason: Box<str>,
        /// It is not asked again before so many milliseconds.
        again_ms: u64,
    },
    /// The node was not asked: it has failed too often, and is left alone for a while.
    Shunned {
        /// So many milliseconds more.
        again_ms: u64,
    },
}

/// How a node answered a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum NodeAnswer {
    /// It did what it was asked.
    Done,
    /// It says that it was so already.
    Already,
    /// It refuses for good.
    Refused {
        /// The status of its answer.
        status: u16,
    },
    /// Nobody knows: the call may have taken effect, or may yet.
    Unknown {
        /// Not later than so many milliseconds from now.
        settles_ms: u64,
    },
}

/// Why a transaction waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Delayed {
    /// A try is over and has changed nothing.
    TryOver,
    /// The try could not be made: nodes are left alone. It does not count.
    Shunned,
}

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum End {
    /// All nodes are as was asked.
    Succeeded,
    /// All nodes are as they were.
    RolledBack,
    /// Neither could be reached: it is held until all nodes are as they were.
    Failed,
}

impl End {
    /// Its name in the API.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            End::Succeeded => "succeeded",
            End::RolledBack => "rolled_back",
            End::Failed => "failed",
        }
    }
}

/// The end of a transaction; not the last word when it failed.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct EndedTransaction {
    /// Which.
    pub transaction: Lsn,
    /// How.
    pub end: End,
    /// Why, unless it succeeded; at most `REASON_BYTES_MAX` bytes.
    pub reason: Box<str>,
    /// What the trail of a formula tells of it.
    pub about: Option<AboutRelease>,
}

/// A release of a formula, or its withdrawal from the nodes, as the formula's trail tells it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct AboutRelease {
    /// The formula, as a message of its own trail.
    pub formula: Touched,
    /// What was to be done.
    pub action: Action,
    /// How each node stands.
    pub nodes: Vec<NodeEnd>,
}

/// How a node stands at the end of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct NodeEnd {
    /// Its URL.
    pub url: Box<str>,
    /// How it stands.
    pub outcome: NodeOutcome,
}

/// How a node stands within a transaction, as the API tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum NodeOutcome {
    /// Not called in this try.
    Waiting,
    /// Not reached in this try.
    Unreachable,
    /// A call is under way.
    Calling,
    /// A call ended without telling what it did.
    Unknown,
    /// As was asked, by this transaction.
    Done,
    /// As was asked before this transaction.
    Already,
    /// It refuses.
    Refused,
    /// A call has changed nothing.
    Unchanged,
    /// As it was before, seen after an undo.
    Undone,
}

impl NodeOutcome {
    /// Whether a call is under way.
    #[must_use]
    pub fn is_calling(self) -> bool {
        self == NodeOutcome::Calling
    }

    /// Its name in the API.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            NodeOutcome::Waiting => "waiting",
            NodeOutcome::Unreachable => "unreachable",
            NodeOutcome::Calling => "calling",
            NodeOutcome::Unknown => "unknown",
            NodeOutcome::Done => "done",
            NodeOutcome::Already => "already",
            NodeOutcome::Refused => "refused",
            NodeOutcome::Unchanged => "unchanged",
            NodeOutcome::Undone => "undone",
        }
    }
}

/// A group came or went on this server, which plays a node.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ChangedGroup {
    /// Which.
    pub group: GroupId,
    /// What it is now.
    pub presence: Presence,
    /// The call that did it, if it had a key.
    pub by: Option<CallKey>,
}

/// The key of a call to a node. A node that knows a later call of the same transaction does
/// nothing when this one arrives.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct CallKey {
    /// Store, transaction and node.
    pub transaction: Box<str>,
    /// Grows from call to call of the transaction.
    pub number: u32,
}
