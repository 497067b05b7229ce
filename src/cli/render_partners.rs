//! How `inspect dump` shows the facts about releases.
//!
//! A node is shown as its place among those of the record that began the transaction, which names
//! their URLs. Of an answer that is kept under a key only the length is shown: it repeats what
//! the transaction's other records say.

use serde_json::{Value, json};

use super::render::key_members;
use crate::record::Fact;
use crate::record::releases::{
    AboutRelease, BegunTransaction, CallKey, ChangedGroup, Delayed, EndedTransaction, NodeAnswer,
    NodeSet, Origin, Presence, Seen, Sight, Step,
};

/// Kind and members of a fact about releases; `None` for all others.
pub(super) fn members(fact: &Fact) -> Option<(&'static str, Value)> {
    Some(match fact {
        Fact::TransactionBegun(transaction) => ("transaction_begun", begun(transaction)),
        Fact::NodesSeen { transaction, seen } => {
            let seen: Vec<Value> = seen.iter().map(sight).collect();
            ("nodes_seen", json!({ "transaction": transaction.0, "seen": seen }))
        }
        Fact::NodesCalled { transaction, step, nodes, again_ms } => (
            "nodes_called",
            json!({
                "transaction": transaction.0, "step": step_name(*step), "nodes": places(*nodes),
                "again_ms": again_ms,
            }),
        ),
        Fact::NodeAnswered { transaction, node, answer, reason } => {
            let mut members = answer_members(*answer);
            members["transaction"] = json!(transaction.0);
            members["node"] = json!(node);
            members["reason"] = json!(reason);
            ("node_answered", members)
        }
        Fact::TransactionDelayed { transaction, delayed, reason, delay_ms } => (
            "transaction_delayed",
            json!({
                "transaction": transaction.0, "delayed": delayed_name(*delayed), "reason": reason,
                "delay_ms": delay_ms,
            }),
        ),
        Fact::TransactionRetried { transaction } => {
            ("transaction_retried", json!({ "transaction": transaction.0 }))
        }
        Fact::HealBegun { transaction } => ("heal_begun", json!({ "transaction": transaction.0 })),
        Fact::TransactionEnded(transaction) => ("transaction_ended", ended(transaction)),
        Fact::TransactionAnswered { transaction, status, body } => (
            "transaction_answered",
            json!({ "transaction": transaction.0, "status": status, "body_bytes": body.len() }),
        ),
        Fact::ReleaseDue { formula } => ("release_due", json!({ "formula": formula.0.0 })),
        Fact::GroupChanged(changed) => ("group_changed", group(changed)),
        _ => return None,
    })
}

fn begun(transaction: &BegunTransaction) -> Value {
    let BegunTransaction { group, action, nodes, deadline_ms, tries_max, origin, key } =
        transaction;
    json!({
        "group": group.as_str(), "action": action.name(), "nodes": nodes,
        "deadline_ms": deadline_ms, "tries_max": tries_max, "origin": origin_members(origin),
        "key": key.as_ref().map(key_members),
    })
}

fn origin_members(origin: &Origin) -> Value {
    match origin {
        Origin::Client => json!("client"),
        Origin::Flow { formula, fingerprint } => {
            json!({ "flow": formula.0, "id": fingerprint.to_string() })
        }
        Origin::Withdrawal { formula, fingerprint } => {
            json!({ "withdrawal": formula.0, "id": fingerprint.to_string() })
        }
    }
}

fn sight(seen: &Seen) -> Value {
    let node = seen.node;
    match &seen.sight {
        Sight::Told(presence) => json!({ "node": node, "sight": presence_name(*presence) }),
        Sight::Unseen { reason, again_ms } => {
            json!({ "node": node, "sight": "unseen", "reason": reason, "again_ms": again_ms })
        }
        Sight::Shunned { again_ms } => {
            json!({ "node": node, "sight": "shunned", "again_ms": again_ms })
        }
    }
}

fn answer_members(answer: NodeAnswer) -> Value {
    match answer {
        NodeAnswer::Done => json!({ "answer": "done" }),
        NodeAnswer::Already => json!({ "answer": "already" }),
        NodeAnswer::Refused { status } => json!({ "answer": "refused", "status": status }),
        NodeAnswer::Unknown { settles_ms } => {
            json!({ "answer": "unknown", "settles_ms": settles_ms })
        }
    }
}

fn ended(transaction: &EndedTransaction) -> Value {
    let EndedTransaction { transaction, end, reason, about } = transaction;
    json!({
        "transaction": transaction.0, "end": end.name(), "reason": reason,
        "about": about.as_ref().map(about_members),
    })
}

fn about_members(about: &AboutRelease) -> Value {
    let AboutRelease { formula, action, nodes } = about;
    let nodes = nodes.iter().map(|it| json!({ "url": it.url, "outcome": it.outcome.name() }));
    let nodes: Vec<Value> = nodes.collect();
    json!({ "formula": formula.message.0.0, "action": action.name(), "nodes": nodes })
}

fn group(changed: &ChangedGroup) -> Value {
    let ChangedGroup { group, presence, by } = changed;
    let by = by.as_ref().map(
        |CallKey { transaction, number }| json!({ "transaction": transaction, "number": number }),
    );
    json!({ "group": group.as_str(), "presence": presence_name(*presence), "by": by })
}

fn places(nodes: NodeSet) -> Vec<u8> {
    nodes.iter().collect()
}

fn step_name(step: Step) -> &'static str {
    match step {
        Step::Do => "do",
        Step::Undo => "undo",
    }
}

fn presence_name(presence: Presence) -> &'static str {
    match presence {
        Presence::Absent => "absent",
        Presence::Present => "present",
    }
}

fn delayed_name(delayed: Delayed) -> &'static str {
    match delayed {
        Delayed::TryOver => "try_over",
        Delayed::Shunned => "shunned",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::render::add_fact;
    use crate::formula::Fingerprint;
    use crate::ids::{Lsn, MessageId};
    use crate::record::releases::{Action, End, NodeEnd, NodeOutcome};
    use crate::record::{SpentKey, Touched};
    use crate::time::Uptime;

    /// What a dump shows, checked to be of the kind `name`.
    #[track_caller]
    fn shown(name: &str, fact: &Fact) -> Value {
        let mut view = json!({});
        add_fact(&mut view, fact);
        assert_eq!(view["fact"], name);
        view.as_object_mut().expect("an object").remove("fact");
        view
    }

    fn of_origin(origin: Origin) -> Value {
        let key = SpentKey { key: [0xab; 32], request: [0xcd; 32], expires: Uptime(9) };
        let transaction = BegunTransaction {
            group: "g 1".parse().expect("a name"),
            action: Action::Create,
            nodes: vec!["http://a:1".into(), "http://b:1".into()],
            deadline_ms: 5000,
            tries_max: 3,
            origin,
            key: Some(key),
        };
        shown("transaction_begun", &Fact::TransactionBegun(transaction))
    }

    #[test]
    fn a_beginning_names_group_nodes_origin_and_the_hash_of_its_key() {
        let expected = json!({
            "group": "g 1", "action": "create", "nodes": ["http://a:1", "http://b:1"],
            "deadline_ms": 5000, "tries_max": 3, "origin": "client",
            "key": { "key": "ab".repeat(32), "request": "cd".repeat(32), "expires_uptime_ms": 9 },
        });
        assert_eq!(of_origin(Origin::Client), expected);
        let (formula, fingerprint) = (Lsn(7), Fingerprint([0x11; 32]));
        let id = "11".repeat(32);
        let flow = of_origin(Origin::Flow { formula, fingerprint });
        assert_eq!(flow["origin"], json!({ "flow": 7, "id": id }));
        let withdrawal = of_origin(Origin::Withdrawal { formula, fingerprint });
        assert_eq!(withdrawal["origin"], json!({ "withdrawal": 7, "id": id }));
    }

    #[test]
    fn looks_tell_each_node_by_its_place() {
        let sights = [
            Sight::Told(Presence::Present),
            Sight::Told(Presence::Absent),
            Sight::Unseen { reason: "no answer".into(), again_ms: 4 },
            Sight::Shunned { again_ms: 5 },
        ];
        let seen = (0..).zip(sights).map(|(node, sight)| Seen { node, sight }).collect();
        let expected = json!({ "transaction": 3, "seen": [
            { "node": 0, "sight": "present" },
            { "node": 1, "sight": "absent" },
            { "node": 2, "sight": "unseen", "reason": "no answer", "again_ms": 4 },
            { "node": 3, "sight": "shunned", "again_ms": 5 },
        ] });
        assert_eq!(shown("nodes_seen", &Fact::NodesSeen { transaction: Lsn(3), seen }), expected);
    }

    #[test]
    fn calls_and_answers_tell_which_way_and_how() {
        let transaction = Lsn(3);
        for (step, name) in [(Step::Do, "do"), (Step::Undo, "undo")] {
            let nodes = [0, 15].into_iter().collect();
            let called = Fact::NodesCalled { transaction, step, nodes, again_ms: 1000 };
            let expected =
                json!({ "transaction": 3, "step": name, "nodes": [0, 15], "again_ms": 1000 });
            assert_eq!(shown("nodes_called", &called), expected);
        }
        let answers = [
            (NodeAnswer::Done, json!({ "answer": "done" })),
            (NodeAnswer::Already, json!({ "answer": "already" })),
            (NodeAnswer::Refused { status: 403 }, json!({ "answer": "refused", "status": 403 })),
            (
                NodeAnswer::Unknown { settles_ms: 8 },
                json!({ "answer": "unknown", "settles_ms": 8 }),
            ),
        ];
        for (answer, mut expected) in answers {
            let reason = "why".into();
            let fact = Fact::NodeAnswered { transaction, node: 2, answer, reason };
            expected["transaction"] = json!(3);
            expected["node"] = json!(2);
            expected["reason"] = json!("why");
            assert_eq!(shown("node_answered", &fact), expected);
        }
    }

    #[test]
    fn ends_tell_why_and_how_the_nodes_of_a_formula_stand() {
        let transaction = Lsn(3);
        let formula = Touched { message: MessageId(Lsn(5)), before: Lsn(6) };
        let nodes = vec![NodeEnd { url: "http://a:1".into(), outcome: NodeOutcome::Undone }];
        let about = Some(AboutRelease { formula, action: Action::Delete, nodes });
        let (end, reason) = (End::RolledBack, "refused".into());
        let ended = EndedTransaction { transaction, end, reason, about };
        let expected = json!({
            "transaction": 3, "end": "rolled_back", "reason": "refused", "about": {
                "formula": 5, "action": "delete",
                "nodes": [{ "url": "http://a:1", "outcome": "undone" }],
            },
        });
        assert_eq!(shown("transaction_ended", &Fact::TransactionEnded(ended)), expected);
        let ended =
            EndedTransaction { transaction, end: End::Failed, reason: "".into(), about: None };
        let ended = shown("transaction_ended", &Fact::TransactionEnded(ended));
        assert_eq!((&ended["end"], &ended["about"]), (&json!("failed"), &Value::Null));
    }

    #[test]
    fn what_else_becomes_of_a_transaction_has_a_shape() {
        let transaction = Lsn(3);
        for (delayed, name) in [(Delayed::TryOver, "try_over"), (Delayed::Shunned, "shunned")] {
            let reason = "503".into();
            let fact = Fact::TransactionDelayed { transaction, delayed, reason, delay_ms: 9 };
            let expected =
                json!({ "transaction": 3, "delayed": name, "reason": "503", "delay_ms": 9 });
            assert_eq!(shown("transaction_delayed", &fact), expected);
        }
        let only_id = json!({ "transaction": 3 });
        assert_eq!(
            shown("transaction_retried", &Fact::TransactionRetried { transaction }),
            only_id
        );
        assert_eq!(shown("heal_begun", &Fact::HealBegun { transaction }), only_id);
        let (status, body) = (202, b"secret?".as_slice().into());
        let answered =
            shown("transaction_answered", &Fact::TransactionAnswered { transaction, status, body });
        assert_eq!(answered, json!({ "transaction": 3, "status": 202, "body_bytes": 7 }));
        let due = Fact::ReleaseDue { formula: MessageId(Lsn(4)) };
        assert_eq!(shown("release_due", &due), json!({ "formula": 4 }));
    }

    #[test]
    fn a_change_on_a_node_names_the_call_if_it_had_a_key() {
        let by = CallKey { transaction: "store/7/0".into(), number: 2 };
        for (presence, name, by, shown_by) in [
            (Presence::Present, "present", None, Value::Null),
            (
                Presence::Absent,
                "absent",
                Some(by),
                json!({ "transaction": "store/7/0", "number": 2 }),
            ),
        ] {
            let group = "g".parse().expect("a name");
            let changed = Fact::GroupChanged(ChangedGroup { group, presence, by });
            let expected = json!({ "group": "g", "presence": name, "by": shown_by });
            assert_eq!(shown("group_changed", &changed), expected);
        }
    }
}
