//! Facts that version 4 added: releases to the partners' nodes.

use sillage::formula::Checked;
use sillage::ids::{GroupId, Lsn, MessageId};
use sillage::record::hooks::{
    CreatedHook, Event, Events, Happening, HookSecret, OwedDelivery, Recipient,
};
use sillage::record::releases::{
    AboutRelease, Action, BegunTransaction, CallKey, ChangedGroup, Delayed, End, EndedTransaction,
    NodeAnswer, NodeEnd, NodeOutcome, NodeSet, Origin, Presence, Seen, Sight, Step,
};
use sillage::record::{AcceptedFormula, Fact, FlowStep};

use super::{checked, key_of_version_3, touched};

const TRANSACTION: Lsn = Lsn(70_500);

fn group() -> GroupId {
    "perfumes/\u{fc}ber 50%".parse().expect("a group's name")
}

/// All of them.
pub fn facts_of_version_4() -> Vec<(&'static str, Fact)> {
    let Checked { formula, fingerprint } = checked();
    let flow = vec![FlowStep::Release];
    let accepted = AcceptedFormula { canon: 1, fingerprint, formula, key: None, flow };
    let mut facts = vec![
        ("formula-accepted-to-be-released", Fact::FormulaAccepted(accepted)),
        ("release-due", Fact::ReleaseDue { formula: MessageId(Lsn(70_000)) }),
    ];
    facts.extend(beginnings());
    facts.extend(steps());
    facts.extend(ends());
    facts.extend(deliveries());
    facts.extend(groups());
    facts
}

fn beginnings() -> Vec<(&'static str, Fact)> {
    let (formula, fingerprint) = (Lsn(70_000), checked().fingerprint);
    let begun = |action, origin, key| {
        Fact::TransactionBegun(BegunTransaction {
            group: group(),
            action,
            nodes: vec!["http://127.0.0.1:5000".into(), "https://node.example/base".into()],
            deadline_ms: 5_000,
            tries_max: 3,
            origin,
            key,
        })
    };
    let key = Some(key_of_version_3());
    let (flow, withdrawal) =
        (Origin::Flow { formula, fingerprint }, Origin::Withdrawal { formula, fingerprint });
    vec![
        ("transaction-begun", begun(Action::Create, Origin::Client, None)),
        ("transaction-begun-keyed", begun(Action::Delete, Origin::Client, key)),
        ("transaction-begun-for-a-formula", begun(Action::Create, flow, None)),
        ("transaction-begun-for-a-withdrawal", begun(Action::Delete, withdrawal, None)),
    ]
}

fn steps() -> Vec<(&'static str, Fact)> {
    let transaction = TRANSACTION;
    let sights = [
        Sight::Told(Presence::Absent),
        Sight::Told(Presence::Present),
        Sight::Unseen { reason: "timed out".into(), again_ms: 1_100 },
        Sight::Shunned { again_ms: 4_321 },
    ];
    let seen = (0..).zip(sights).map(|(node, sight)| Seen { node, sight }).collect();
    let called = |step, again_ms| {
        let nodes = NodeSet(0b1000_0000_0000_0101);
        Fact::NodesCalled { transaction, step, nodes, again_ms }
    };
    let answered = |answer, reason: &str| Fact::NodeAnswered {
        transaction,
        node: 15,
        answer,
        reason: reason.into(),
    };
    let delayed = |delayed| {
        let reason = "http://127.0.0.1:5000: answered 500".into();
        Fact::TransactionDelayed { transaction, delayed, reason, delay_ms: 2_000 }
    };
    vec![
        ("nodes-seen", Fact::NodesSeen { transaction, seen }),
        ("nodes-called", called(Step::Do, 0)),
        ("nodes-called-to-undo", called(Step::Undo, 1_000)),
        ("node-answered-done", answered(NodeAnswer::Done, "")),
        ("node-answered-already", answered(NodeAnswer::Already, "answered 400")),
        ("node-answered-refused", answered(NodeAnswer::Refused { status: 403 }, "answered 403")),
        (
            "node-answered-unknown",
            answered(NodeAnswer::Unknown { settles_ms: 4_999 }, "answered 500"),
        ),
        ("transaction-delayed", delayed(Delayed::TryOver)),
        ("transaction-delayed-shunned", delayed(Delayed::Shunned)),
        ("transaction-retried", Fact::TransactionRetried { transaction }),
        ("heal-begun", Fact::HealBegun { transaction }),
    ]
}

fn ends() -> Vec<(&'static str, Fact)> {
    let transaction = TRANSACTION;
    let outcomes = [
        NodeOutcome::Waiting,
        NodeOutcome::Unreachable,
        NodeOutcome::Calling,
        NodeOutcome::Unknown,
        NodeOutcome::Done,
        NodeOutcome::Already,
        NodeOutcome::Refused,
        NodeOutcome::Unchanged,
        NodeOutcome::Undone,
    ];
    let nodes = outcomes.map(|outcome| NodeEnd { url: "http://a".into(), outcome }).to_vec();
    let about = AboutRelease { formula: touched(), action: Action::Create, nodes };
    let ended = |end, reason: &str, about| {
        let reason = reason.into();
        Fact::TransactionEnded(EndedTransaction { transaction, end, reason, about })
    };
    let body = Box::from(*b"{\"state\":\"succeeded\"}");
    vec![
        ("transaction-succeeded", ended(End::Succeeded, "", Some(about))),
        ("transaction-rolled-back", ended(End::RolledBack, "http://a: 403", None)),
        ("transaction-failed", ended(End::Failed, "http://a: timed out", None)),
        ("transaction-answered", Fact::TransactionAnswered { transaction, status: 200, body }),
    ]
}

fn deliveries() -> Vec<(&'static str, Fact)> {
    let transaction = TRANSACTION;
    let owed = |happening| {
        let (to, token) = (Recipient::Hook(Lsn(300)), 0x0123_4567_89ab_cdef);
        Fact::HookOwed(OwedDelivery { to, happening, token })
    };
    let (formula, seq) = (checked().fingerprint, Lsn(70_000));
    let ended = Happening::TransactionEnded {
        transaction,
        group: group(),
        action: Action::Delete,
        end: End::Failed,
        reason: "http://a: timed out".into(),
    };
    let mut events = Events(0);
    events.add(Event::FormulaReleased);
    let created = CreatedHook {
        url: "https://hooks.example/".into(),
        events,
        secret: HookSecret([0x5c; 24].into()),
        key: None,
    };
    vec![
        ("owed-transaction-ended", owed(ended)),
        ("owed-formula-released", owed(Happening::FormulaReleased { formula, seq, transaction })),
        ("hook-created-for-releases", Fact::HookCreated(created)),
    ]
}

fn groups() -> Vec<(&'static str, Fact)> {
    let by = CallKey { transaction: "store/70500/2".into(), number: 3 };
    let changed = |presence, by| Fact::GroupChanged(ChangedGroup { group: group(), presence, by });
    vec![
        ("group-created", changed(Presence::Present, Some(by))),
        ("group-deleted", changed(Presence::Absent, None)),
    ]
}
