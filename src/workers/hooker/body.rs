//! What a hook is told. Pure.
//!
//! Made of the record of what is owed and of nothing that can change, so that every attempt
//! sends the same bytes. It names things rather than to copy them: whoever wants more asks, and
//! gets what is true then.

use std::fmt::Display;

use serde::Serialize;

use crate::engine::hooks::{Happening, Recipient};
use crate::engine::hooks::{OwedCall, SealAnswer};
use crate::ids::{Lsn, MessageId};

/// An event as hooks are told of it.
#[derive(Serialize)]
struct Envelope<'a> {
    r#type: &'static str,
    timestamp: String,
    data: Data<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Data<'a> {
    Formula(AboutFormula<'a>),
    Message {
        queue: &'a str,
        id: String,
        attempts: u32,
        reason: &'a str,
    },
    Disk {
        free_bytes: u64,
        low_bytes: u64,
    },
    Ping {
        hook: String,
    },
    Transaction {
        id: String,
        #[serde(rename = "groupId")]
        group: &'a str,
        action: &'static str,
        state: &'static str,
        #[serde(skip_serializing_if = "str::is_empty")]
        reason: &'a str,
        url: String,
    },
    Released {
        id: String,
        seq: u64,
        transaction: String,
        url: String,
    },
}

#[derive(Default, Serialize)]
struct AboutFormula<'a> {
    id: String,
    seq: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signature: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
}

#[derive(Serialize)]
struct Seal<'a> {
    id: String,
    webhook_url: &'a str,
    message: &'a str,
    status: &'static str,
    signature: &'a str,
}

/// The formula that a happening is about, by the record that accepted it; `None` if it is about
/// none, or about one that is not stored any more.
#[must_use]
pub fn seq_of(id: MessageId, happening: &Happening) -> Option<Lsn> {
    match happening {
        Happening::FormulaAccepted { back, .. } => Some(accepted_at(id, *back)),
        Happening::FormulaSealed { seq, .. }
        | Happening::FormulaHeld { seq, .. }
        | Happening::FormulaReleased { seq, .. } => Some(*seq),
        _ => None,
    }
}

/// The body of a call that tells of an event; `None` for the answer to a single request.
#[must_use]
pub fn event(call: &OwedCall) -> Option<Vec<u8>> {
    let happening = &call.owed.happening;
    let data = data(call)?;
    let r#type = happening.event()?.name();
    let envelope = Envelope { r#type, timestamp: call.at.to_string(), data };
    Some(serde_json::to_vec(&envelope).expect("a tree of texts and numbers is JSON"))
}

/// The body of a call that answers a request for a seal.
#[must_use]
pub fn answer(answer: &SealAnswer) -> Vec<u8> {
    let seal = Seal {
        id: answer.id.to_string(),
        webhook_url: &answer.webhook_url,
        message: &answer.text,
        status: if answer.signature.is_some() { "SUCCESS" } else { "FAIL" },
        signature: answer.signature.as_deref().unwrap_or_default(),
    };
    serde_json::to_vec(&seal).expect("a tree of texts is JSON")
}

fn data(call: &OwedCall) -> Option<Data<'_>> {
    Some(match &call.owed.happening {
        Happening::FormulaAccepted { .. }
        | Happening::FormulaWithdrawn { .. }
        | Happening::FormulaSealed { .. }
        | Happening::FormulaHeld { .. } => return about_formula(call),
        Happening::SealFailed { message, attempts, reason } => Data::Message {
            queue: crate::ids::QueueName::SEALS,
            id: message.to_string(),
            attempts: *attempts,
            reason,
        },
        Happening::MessageDead { queue, message, attempts, reason } => Data::Message {
            queue: queue.as_str(),
            id: message.to_string(),
            attempts: *attempts,
            reason,
        },
        Happening::DiskLow { free_bytes, low_bytes } => {
            Data::Disk { free_bytes: *free_bytes, low_bytes: *low_bytes }
        }
        Happening::Ping => match call.owed.to {
            Recipient::Hook(hook) | Recipient::SealRequest(hook) => {
                Data::Ping { hook: hook.to_string() }
            }
        },
        Happening::TransactionEnded { transaction, group, action, end, reason } => {
            Data::Transaction {
                id: transaction.to_string(),
                group: group.as_str(),
                action: action.name(),
                state: end.name(),
                reason,
                url: format!("/transactions/{transaction}"),
            }
        }
        Happening::FormulaReleased { formula, seq, transaction } => Data::Released {
            id: formula.to_string(),
            seq: seq.0,
            transaction: transaction.to_string(),
            url: format!("/formulas/{formula}"),
        },
        Happening::SealAnswered { .. } => return None,
    })
}

/// What became of a formula; `None` if the happening is none of those.
fn about_formula(call: &OwedCall) -> Option<Data<'_>> {
    let told = |formula: &dyn Display, seq: Lsn| AboutFormula {
        id: formula.to_string(),
        seq: seq.0,
        url: Some(format!("/formulas/{formula}")),
        ..AboutFormula::default()
    };
    Some(Data::Formula(match &call.owed.happening {
        Happening::FormulaAccepted { formula, back } => {
            let name = Some(&*formula.name);
            AboutFormula { name, ..told(&formula.fingerprint, accepted_at(call.id, *back)) }
        }
        // There is nothing to be had there any more.
        Happening::FormulaWithdrawn { formula, seq } => {
            AboutFormula { url: None, ..told(formula, *seq) }
        }
        Happening::FormulaSealed { formula, seq, signature } => {
            AboutFormula { signature: Some(signature), ..told(formula, *seq) }
        }
        Happening::FormulaHeld { formula, seq, queue, reason } => {
            let (queue, reason) = (Some(queue.as_str()), Some(&**reason));
            AboutFormula { queue, reason, ..told(formula, *seq) }
        }
        _ => return None,
    }))
}

fn accepted_at(id: MessageId, back: u32) -> Lsn {
    Lsn(id.0.0 - u64::from(back))
}

#[cfg(test)]
mod tests;
