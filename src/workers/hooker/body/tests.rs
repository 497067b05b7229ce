//! What hooks are told of releases, to the byte: receivers parse it.

use serde_json::{Value, json};

use super::*;
use crate::engine::releases::{Action, End};
use crate::formula::Fingerprint;
use crate::ids::QueueName;
use crate::record::hooks::OwedDelivery;
use crate::time::Timestamp;

fn told(happening: Happening) -> Value {
    let owed = OwedDelivery { to: Recipient::Hook(Lsn(3)), happening, token: 7 };
    let call = OwedCall { id: MessageId(Lsn(90)), at: Timestamp(1_795_250_000_250), owed };
    let body = event(&call).expect("an event");
    assert_eq!(event(&call), Some(body.clone()), "the same each time");
    let told: Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!(told["timestamp"], "2026-11-21T08:33:20.250Z");
    told
}

fn ended(end: End, reason: &str) -> Value {
    told(Happening::TransactionEnded {
        transaction: Lsn(42),
        group: "perfumers".parse().expect("a group's name"),
        action: Action::Create,
        end,
        reason: reason.into(),
    })
}

#[test]
fn the_end_of_a_transaction_names_the_group_and_why() {
    let failed = ended(End::Failed, "http://b:1: timed out");
    assert_eq!(failed["type"], "transaction.failed");
    let data = json!({
        "id": "42",
        "groupId": "perfumers",
        "action": "create",
        "state": "failed",
        "reason": "http://b:1: timed out",
        "url": "/transactions/42",
    });
    assert_eq!(failed["data"], data);
    let rolled_back = ended(End::RolledBack, "http://b:1: answered 403");
    assert_eq!(rolled_back["type"], "transaction.rolled_back");
    assert_eq!(rolled_back["data"]["state"], "rolled_back");
    let succeeded = ended(End::Succeeded, "");
    assert_eq!(succeeded["type"], "transaction.succeeded");
    assert_eq!(succeeded["data"].get("reason"), None, "there is nothing to give a reason for");
}

#[test]
fn a_released_formula_is_named_with_its_transaction() {
    let formula = Fingerprint([0xab; 32]);
    let (seq, transaction) = (Lsn(7), Lsn(42));
    let happening = Happening::FormulaReleased { formula, seq, transaction };
    assert_eq!(seq_of(MessageId(Lsn(90)), &happening), Some(seq), "its trail tells of the call");
    let told = told(happening);
    assert_eq!(told["type"], "formula.released");
    let id = "ab".repeat(32);
    let url = format!("/formulas/{id}");
    assert_eq!(told["data"], json!({ "id": id, "seq": 7, "transaction": "42", "url": url }));
}

#[test]
fn a_formula_that_is_held_on_releases_says_where_and_why() {
    let formula = Fingerprint([0xab; 32]);
    let queue = QueueName::RELEASES.parse().expect("a name of ours");
    let reason = "http://b:1: answered 403".into();
    let told = told(Happening::FormulaHeld { formula, seq: Lsn(7), queue, reason });
    assert_eq!(told["type"], "formula.held");
    let id = "ab".repeat(32);
    let url = format!("/formulas/{id}");
    let reason = "http://b:1: answered 403";
    let expected = json!({ "id": id, "seq": 7, "queue": "releases", "reason": reason, "url": url });
    assert_eq!(told["data"], expected);
}
