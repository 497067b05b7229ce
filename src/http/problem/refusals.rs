//! What the engine and the wire refuse, in words.

use std::borrow::Cow;

use super::{Kind, Problem, array};
use crate::engine::command::{Culprit, Rejection, Repeated, StoredFormula};
use crate::http::head::Refusal;
use crate::http::response::push_json_str;
use crate::ids::Lsn;
use crate::limits::{
    BATCH_BYTES_MAX, GROUPS_MAX, HEAD_BYTES_MAX, HEADERS_MAX, HOOKS_MAX, OVERLOAD_RETRY_AFTER_S,
    TARGET_BYTES_MAX, TRANSACTIONS_OPEN_MAX,
};

impl From<Rejection> for Problem {
    fn from(rejection: Rejection) -> Problem {
        match rejection {
            Rejection::Duplicate(stored) => duplicate(&stored),
            Rejection::Culprits(culprits) => atomic_refused(&culprits),
            Rejection::KeyReused => Problem::new(
                Kind::KeyReused,
                "this Idempotency-Key was spent on a request with another body or query",
            ),
            Rejection::FormulaUnknown => {
                Problem::new(Kind::FormulaUnknown, "no formula has this id or seq")
            }
            Rejection::QueueUnknown => Problem::new(Kind::QueueUnknown, "no queue has this name"),
            Rejection::ReceiptsStale(receipts) => {
                let receipts: Vec<_> = receipts.iter().map(ToString::to_string).collect();
                stale(&receipts)
            }
            Rejection::HookUnknown => Problem::new(Kind::HookUnknown, "no hook has this id"),
            Rejection::HookDisabled => {
                Problem::new(Kind::HookDisabled, "the hook's receiver said that he is gone")
            }
            Rejection::HooksFull => {
                Problem::new(Kind::HooksFull, format!("there are {HOOKS_MAX} hooks already"))
            }
            Rejection::DeliveryUnknown => {
                Problem::new(Kind::DeliveryUnknown, "no delivery has this id")
            }
            Rejection::DeliveryWaiting => {
                Problem::new(Kind::DeliveryWaiting, "the delivery has not ended yet")
            }
            Rejection::CallLate => Problem::new(
                Kind::StaleCall,
                "a later call for this group was answered already; nothing was changed",
            ),
            Rejection::GroupsFull => {
                Problem::new(Kind::GroupsFull, format!("there are {GROUPS_MAX} groups already"))
            }
            Rejection::SealsFull { retry_after_s } => {
                Problem::new(Kind::SealsFull, "too many requests for a seal wait, or have failed")
                    .retry_after(retry_after_s)
            }
            Rejection::GroupHeld { by } => group_held(by),
            Rejection::TransactionUnknown => {
                Problem::new(Kind::TransactionUnknown, "no transaction has this id")
            }
            Rejection::TransactionOver => {
                Problem::new(Kind::TransactionOver, "the transaction is at an end")
            }
            Rejection::TransactionsFull => {
                let detail = format!("{TRANSACTIONS_OPEN_MAX} transactions are not at an end");
                Problem::new(Kind::TransactionsFull, detail).retry_after(OVERLOAD_RETRY_AFTER_S)
            }
            Rejection::Overloaded { retry_after_s } => {
                Problem::overloaded("too many requests are waiting for the log", retry_after_s)
            }
            Rejection::DiskFull => Problem::new(
                Kind::DiskFull,
                "the disk is full; intake resumes by itself when there is room",
            ),
            Rejection::OutcomeUnknown => outcome_unknown(),
            Rejection::Damaged(lsn) => damaged(lsn),
            Rejection::Forgotten(lsn) => {
                let detail = format!("formula {lsn} was withdrawn while this was answered");
                Problem::new(Kind::Overloaded, detail).retry_after(OVERLOAD_RETRY_AFTER_S)
            }
            Rejection::Unmade => {
                Problem::new(Kind::Internal, "it could not be made; the server's events say why")
            }
        }
    }
}

/// A 409 that names the transaction that is in the way.
fn group_held(by: Lsn) -> Problem {
    let detail = format!("transaction {by} on this group is not at an end");
    let existing = format!(r#"{{"id":"{by}","url":"/transactions/{by}"}}"#);
    Problem::new(Kind::GroupHeld, detail).member("existing", existing)
}

fn damaged(lsn: Lsn) -> Problem {
    let detail = format!("record {lsn} cannot be read back unharmed");
    Problem::new(Kind::DamagedRecord, detail).member("seq", lsn.to_string())
}

/// A 409 that names the stored formula.
fn duplicate(stored: &StoredFormula) -> Problem {
    Problem::new(Kind::DuplicateFormula, duplicate_detail(stored))
        .member("existing", existing(stored))
}

fn duplicate_detail(stored: &StoredFormula) -> String {
    format!("the same make-up is stored as {:?}, seq {}", stored.formula.name(), stored.lsn)
}

/// A 409 for an atomic batch: each culprit by pointer, with whom it repeats.
fn atomic_refused(culprits: &[Culprit]) -> Problem {
    let errors = array(culprits, |json, culprit| {
        json.extend_from_slice(format!(r#"{{"pointer":"/{}","detail":"#, culprit.index).as_bytes());
        match &culprit.repeats {
            Repeated::Stored(stored) => {
                push_json_str(json, &duplicate_detail(stored));
                json.extend_from_slice(b",\"existing\":");
                push_existing(json, stored);
            }
            Repeated::Item(index) => {
                push_json_str(json, &format!("the same make-up as item /{index}"));
                json.extend_from_slice(format!(r#","repeats":"/{index}""#).as_bytes());
            }
        }
        json.push(b'}');
    });
    let detail = match culprits.len() {
        1 => Cow::Borrowed("one formula of the batch is a duplicate; none is stored"),
        n => Cow::Owned(format!("{n} formulas of the batch are duplicates; none is stored")),
    };
    Problem::new(Kind::DuplicateFormula, detail).member("errors", errors)
}

/// A 409 for receipts of which none is valid, as the caller spelled them.
#[must_use]
pub fn stale<S: AsRef<str>>(receipts: &[S]) -> Problem {
    let list = array(receipts, |json, receipt| push_json_str(json, receipt.as_ref()));
    Problem::new(
        Kind::StaleReceipt,
        "none of the receipts is valid any more: the lease lapsed or was ended",
    )
    .member("stale", list)
}

fn outcome_unknown() -> Problem {
    Problem::new(
        Kind::OutcomeUnknown,
        "the log failed while this was under way; it may or may not have happened",
    )
    .member("outcome", *b"\"unknown\"")
    .retry_after(OVERLOAD_RETRY_AFTER_S)
}

/// The member `existing`: the formula that is in the way.
#[must_use]
pub fn existing(stored: &StoredFormula) -> Vec<u8> {
    let mut json = Vec::new();
    push_existing(&mut json, stored);
    json
}

fn push_existing(json: &mut Vec<u8>, stored: &StoredFormula) {
    let (id, seq) = (stored.fingerprint, stored.lsn);
    json.extend_from_slice(format!(r#"{{"id":"{id}","seq":{seq},"name":"#).as_bytes());
    push_json_str(json, stored.formula.name());
    json.extend_from_slice(format!(r#","url":"/formulas/{id}"}}"#).as_bytes());
}

impl From<Refusal> for Problem {
    /// The connection is closed after it: where the next request would begin is not known.
    fn from(refusal: Refusal) -> Problem {
        let (kind, detail) = refused_head(refusal);
        let problem = Problem::new(kind, detail).closing();
        match refusal {
            Refusal::Connections | Refusal::ConnectionsOfAddress => {
                problem.retry_after(OVERLOAD_RETRY_AFTER_S)
            }
            _ => problem,
        }
    }
}

fn refused_head(refusal: Refusal) -> (Kind, Cow<'static, str>) {
    let (kind, detail) = match refusal {
        Refusal::TargetTooLong => {
            let detail = format!("the request target has more than {TARGET_BYTES_MAX} bytes");
            return (Kind::TargetTooLong, detail.into());
        }
        Refusal::TooManyHeaders => {
            let detail = format!("the request has more than {HEADERS_MAX} header lines");
            return (Kind::HeadTooLarge, detail.into());
        }
        Refusal::TooLarge => {
            let detail = format!("the request's head has more than {HEAD_BYTES_MAX} bytes");
            return (Kind::HeadTooLarge, detail.into());
        }
        Refusal::ContentLengthHuge => {
            let detail = format!("the body has more than {BATCH_BYTES_MAX} bytes");
            return (Kind::BodyTooLarge, detail.into());
        }
        Refusal::RequestLine => (Kind::BadRequest, "the request line is malformed"),
        Refusal::Version => {
            (Kind::VersionUnsupported, "the request line ends in neither HTTP/1.0 nor HTTP/1.1")
        }
        Refusal::Target => (Kind::BadRequest, "the request target is malformed"),
        Refusal::HeaderLine => (Kind::BadRequest, "a header line is malformed"),
        Refusal::HostMissing => (Kind::BadRequest, "header host: is missing"),
        Refusal::HostInvalid => (Kind::BadRequest, "header host: is malformed or given twice"),
        Refusal::ContentLength => {
            (Kind::BadRequest, "header content-length: is not one decimal number")
        }
        Refusal::FramedTwice => {
            (Kind::BadRequest, "content-length and transfer-encoding exclude each other")
        }
        Refusal::TransferEncoding => {
            (Kind::BadRequest, "header transfer-encoding: does not end in chunked, or is HTTP/1.0")
        }
        Refusal::TransferCoding => {
            (Kind::NotImplemented, "header transfer-encoding: names another coding than chunked")
        }
        Refusal::Incomplete => (Kind::BadRequest, "the request ended within its head"),
        Refusal::HeadTimeout => (Kind::RequestTimeout, "the request's head did not arrive in time"),
        Refusal::Connections => (Kind::Overloaded, "too many connections are open"),
        Refusal::ConnectionsOfAddress => {
            (Kind::Overloaded, "too many connections of this address are open")
        }
    };
    (kind, Cow::Borrowed(detail))
}
