//! What is asked of the engine about seals, and what it answers.

use crate::engine::command::{Answer, RequestKey};
use crate::engine::decide::gate::{Gate, Limit};
use crate::formula::Fingerprint;
use crate::ids::{Lsn, MessageId, Receipt};
use crate::record::FlowStep;
use crate::record::seals::CallPurpose;

/// A wish to have a text sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealWish {
    /// The text, 1 to `SEAL_TEXT_BYTES_MAX` bytes.
    pub text: Box<str>,
    /// Called when the seal was not there at once.
    pub webhook_url: Option<Box<str>>,
    /// The client's name for this attempt.
    pub key: Option<RequestKey>,
    /// What the authority allows, for telling how long it may take.
    pub limit: Limit,
}

/// A request for a seal, by the record that holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealTicket {
    /// The record: id of the request and of its message on the queue `seals`.
    pub id: Lsn,
    /// The text.
    pub text: Box<str>,
    /// Called when the seal was not there at once.
    pub webhook_url: Option<Box<str>>,
    /// What the first answer says, or said.
    pub first: FirstAnswer,
    /// Whether this is asked for the first time or again, under a spent key.
    pub answer: Answer,
}

/// The first answer to a request for a seal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FirstAnswer {
    /// The signature: the text was sealed before, or while the caller waited.
    Sealed(Box<str>),
    /// It has to wait.
    Waits(Outlook),
}

/// When a request has its turn, as reckoned when it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outlook {
    /// Its place on the queue, from 1.
    pub position: u64,
    /// Seconds until its turn.
    pub eta_s: u64,
}

/// How a request for a seal stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealView {
    /// The record: id of the request.
    pub id: Lsn,
    /// The text.
    pub text: Box<str>,
    /// Called when the seal was not there at once.
    pub webhook_url: Option<Box<str>>,
    /// How it stands.
    pub standing: SealStanding,
}

/// How a request for a seal stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SealStanding {
    /// The authority's signature.
    Sealed(Box<str>),
    /// It waits.
    Waits(Outlook),
    /// All attempts have failed, or an operator has removed it.
    Failed,
}

/// What a message on the queue `seals` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealSubject {
    /// The message.
    pub message: MessageId,
    /// The text that is to be signed.
    pub text: Box<str>,
    /// Identity of the text.
    pub text_key: [u8; 32],
    /// The formula whose flow asks for it; `None`: a request does.
    pub formula: Option<FlowSeal>,
    /// How the caller of a request wants to be told.
    pub telling: Telling,
}

/// A formula that has its id sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowSeal {
    /// Its identity.
    pub fingerprint: Fingerprint,
    /// The step of its flow that comes after the seal.
    pub next: Option<FlowStep>,
}

/// How the caller of a request is told of its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Telling {
    /// By the answer that he waits for.
    Inline,
    /// By a call to his `webhook_url`.
    Hook,
    /// Not at all: he asks.
    Nothing,
}

/// A request that waits, and how its caller is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The request.
    pub message: MessageId,
    /// How its caller is told.
    pub telling: Telling,
}

/// A wish to call the authority for a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealBegin {
    /// The message.
    pub message: MessageId,
    /// Identity of its text.
    pub text_key: [u8; 32],
    /// What the authority allows.
    pub limit: Limit,
    /// The call takes at most so many milliseconds.
    pub deadline_ms: u64,
    /// The message is held for so many milliseconds, more than the call takes.
    pub lease_ms: u64,
    /// The attempt after which it is a dead letter, at least 1.
    pub attempts_max: u32,
}

/// Whether a call to the authority was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begun {
    /// It was, by this record; the message is held by this receipt.
    Call {
        /// The record.
        call: Lsn,
        /// Proof of the lease.
        receipt: Receipt,
    },
    /// The limit forbids it now.
    Closed(Gate),
    /// The text is sealed by this record.
    Sealed(Lsn),
    /// The message cannot be had any more.
    Gone,
}

/// A wish to call the authority for something else than a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallBegin {
    /// What for.
    pub purpose: Purpose,
    /// What the authority allows.
    pub limit: Limit,
    /// The call takes at most so many milliseconds.
    pub deadline_ms: u64,
}

/// What a call to the authority is for, if for no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To verify a signature.
    Verify,
    /// To see whether it is there.
    Probe,
}

impl From<Purpose> for CallPurpose {
    fn from(purpose: Purpose) -> CallPurpose {
        match purpose {
            Purpose::Verify => CallPurpose::Verify,
            Purpose::Probe => CallPurpose::Probe,
        }
    }
}

/// The end of a call that was made for a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealEnd {
    /// The record that began the call.
    pub call: Lsn,
    /// Proof of the lease of the message.
    pub receipt: Receipt,
    /// Identity of the text.
    pub text_key: [u8; 32],
    /// The formula whose flow asked for it.
    pub formula: Option<FlowSeal>,
    /// The requests that wait for the text, that of the call included; at most
    /// `SEALS_SHARED_MAX`. What came since is settled later.
    pub asked: Vec<Asked>,
    /// The attempt after which a message is a dead letter.
    pub attempts_max: u32,
    /// What came of the call.
    pub outcome: SealOutcome,
}

/// What came of a call for a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SealOutcome {
    /// The signature, at most `SIGNATURE_BYTES_MAX` bytes.
    Signed(Box<str>),
    /// It failed.
    Failed {
        /// Why, at most `REASON_BYTES_MAX` bytes.
        reason: Box<str>,
        /// It is tried again after so many milliseconds.
        delay_ms: u64,
    },
    /// It failed for a reason that is not the message's: the attempt does not count.
    Deferred {
        /// The authority is left alone for so many milliseconds.
        pause_ms: u64,
    },
}

/// What the end of a call has led to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SealEnded {
    /// The record that seals the text.
    pub sealed: Option<Lsn>,
    /// The requests that are at an end.
    pub settled: Vec<MessageId>,
}

/// Messages whose text is sealed already, to be settled without a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealSettle {
    /// Identity of the text.
    pub text_key: [u8; 32],
    /// The requests, at most `SEALS_SHARED_MAX`.
    pub asked: Vec<Asked>,
    /// The formula whose flow asks for it.
    pub formula: Option<SealedFormula>,
}

/// A formula whose id was sealed before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedFormula {
    /// Its message.
    pub message: MessageId,
    /// It, and what comes next.
    pub formula: FlowSeal,
    /// The signature.
    pub signature: Box<str>,
}

/// What the queue `seals` has for whoever calls the authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextSeal {
    /// Whether a call may begin.
    pub opening: Opening,
    /// The message whose turn it is; `None` also while no call may begin.
    pub message: Option<MessageId>,
    /// Milliseconds until a delay passes or a lease lapses; `None` when none runs.
    pub due_ms: Option<u64>,
}

/// Whether a call to the authority may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// It may.
    Open,
    /// Not for so many milliseconds.
    InMs(u64),
    /// Not before one of the calls under way ends.
    Full,
}

/// How the calls to the authority stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallCounts {
    /// Under way.
    pub running: u64,
    /// Over, but still in the window.
    pub in_window: u64,
    /// Requests that wait, those that have failed included.
    pub requests: u64,
}
