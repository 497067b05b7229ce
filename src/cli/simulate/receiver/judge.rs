//! What the receiver finds of a delivery's signature.

use serde::Serialize;

use crate::cli::simulate::server::Visit;
use crate::outbound::signature::{Forged, Secret, WEBHOOK_SIGNATURE, verify};

/// What is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    /// It was signed by the owner of a secret, just now.
    Good,
    /// It was signed by somebody else, or changed since, or says wrongly that it is signed.
    Bad,
    /// It says nothing of a signature.
    Unsigned,
    /// It was signed too long ago or in the future: somebody repeats it, or a clock is wrong.
    Old,
    /// There is no secret to verify with.
    Unchecked,
}

impl Verdict {
    /// What is said of it.
    pub(super) fn words(self) -> &'static str {
        match self {
            Verdict::Good => "signature good",
            Verdict::Bad => "signature BAD",
            Verdict::Unsigned => "NOT SIGNED",
            Verdict::Old => "signature OLD",
            Verdict::Unchecked => "signature not checked",
        }
    }

    /// Whether a receiver must not take it.
    pub(super) fn is_refused(self) -> bool {
        matches!(self, Verdict::Bad | Verdict::Unsigned | Verdict::Old)
    }
}

/// Judges a delivery that arrived at `now_s`, in seconds since 1970.
pub(super) fn judge(secrets: &[Secret], visit: &Visit, now_s: u64, tolerance_s: u64) -> Verdict {
    if secrets.is_empty() {
        return Verdict::Unchecked;
    }
    match verify(secrets, &visit.headers, &visit.body, now_s, tolerance_s) {
        Ok(()) => Verdict::Good,
        Err(Forged::TooOld | Forged::TooNew) => Verdict::Old,
        Err(_) if !visit.headers.contains_key(WEBHOOK_SIGNATURE) => Verdict::Unsigned,
        Err(_) => Verdict::Bad,
    }
}
