//! Whoever signs: the authority, or who plays it in tests.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::engine::decide::gate::Limit;
use crate::outbound::authority::{Authority, CallOutcome};
use crate::outbound::backoff::Backoff;
use crate::time::Timestamp;

/// A call that is under way.
pub type Calling<'a, T> = Pin<Box<dyn Future<Output = CallOutcome<T>> + Send + 'a>>;

/// Who can be asked to sign. Each method makes exactly one call, but for `verify_here`.
pub trait Signatory: Send + Sync {
    /// Has a text signed.
    fn sign<'a>(&'a self, text: &'a str, now: Timestamp) -> Calling<'a, String>;

    /// Asks whether a signature of a text is its own.
    fn verify<'a>(&'a self, text: &'a str, signature: &'a str, now: Timestamp)
    -> Calling<'a, bool>;

    /// Asks for a sign of life: the status of the answer.
    fn probe(&self, now: Timestamp) -> Calling<'_, u16>;

    /// Whether a signature of a text is its own, by its public key; `None` without one.
    fn verify_here(&self, text: &str, signature: &str) -> Option<Verdict>;
}

/// What a signature is found to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The authority's signature of the text.
    Valid,
    /// It is not.
    Invalid,
}

/// All that is to be known of the authority.
#[derive(Clone)]
pub struct Sealing {
    /// Who signs.
    pub signatory: Arc<dyn Signatory>,
    /// How often it may be called.
    pub limit: Limit,
    /// A call takes at most so many milliseconds.
    pub deadline_ms: u64,
    /// The attempt after which a message is a dead letter, at least 1.
    pub attempts_max: u32,
    /// How long to wait before the next attempt.
    pub backoff: Backoff,
}

impl fmt::Debug for Sealing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealing").field("limit", &self.limit).finish_non_exhaustive()
    }
}

impl From<bool> for Verdict {
    fn from(is_valid: bool) -> Verdict {
        if is_valid { Verdict::Valid } else { Verdict::Invalid }
    }
}

impl Signatory for Authority {
    fn sign<'a>(&'a self, text: &'a str, now: Timestamp) -> Calling<'a, String> {
        Box::pin(Authority::sign(self, text, now))
    }

    fn verify<'a>(
        &'a self,
        text: &'a str,
        signature: &'a str,
        now: Timestamp,
    ) -> Calling<'a, bool> {
        Box::pin(Authority::verify(self, text, signature, now))
    }

    fn probe(&self, now: Timestamp) -> Calling<'_, u16> {
        Box::pin(async move {
            match Authority::probe(self, now).await {
                CallOutcome::Done(status) => CallOutcome::Done(status.as_u16()),
                CallOutcome::Failed { reason, retry_after_ms } => {
                    CallOutcome::Failed { reason, retry_after_ms }
                }
                CallOutcome::TooMany { retry_after_ms } => CallOutcome::TooMany { retry_after_ms },
                CallOutcome::Unauthorised => CallOutcome::Unauthorised,
            }
        })
    }

    fn verify_here(&self, text: &str, signature: &str) -> Option<Verdict> {
        Authority::verify_here(self, text, signature).map(Verdict::from)
    }
}
