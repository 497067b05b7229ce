//! What the API shows, to the byte.

use serde_json::{Value, json};

use super::*;
use crate::engine::AboutTransaction;
use crate::engine::command::AttemptView;
use crate::engine::releases::{NodeOutcome, Phase};
use crate::formula::{self, Rules};
use crate::ids::{Epoch, Lsn, QueueName, Receipt};

const RULES: Rules = Rules { concentration_max: 100 };

fn stored(body: &str) -> StoredFormula {
    let checked = formula::parse(body.as_bytes(), &RULES).unwrap();
    StoredFormula {
        lsn: Lsn(42),
        accepted_at: Timestamp(1_795_250_000_250),
        fingerprint: Fingerprint([0xab; 32]),
        formula: checked.formula,
    }
}

fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    write(&mut out);
    String::from_utf8(out).unwrap()
}

fn value(write: impl FnOnce(&mut Vec<u8>)) -> Value {
    let text = text(write);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn rose() -> StoredFormula {
    stored(r#"{"name":"Rosé","materials":[{"name":"Iso E Super","concentration":15.50}]}"#)
}

fn rose_message() -> Message {
    Message {
        id: MessageId(Lsn(42)),
        kind: MessageKind::FormulaAccepted,
        enqueued_at: Timestamp(1_795_250_000_250),
        about: About::Formula(rose()),
    }
}

#[test]
fn a_formula_is_shown_with_its_digits_as_sent() {
    let id = "ab".repeat(32);
    let expected = format!(
        "{{\"id\":\"{id}\",\"seq\":42,\"name\":\"Rosé\",\"materials\":[{{\"name\":\"Iso E Super\",\
         \"concentration\":15.50}}],\"accepted_at\":\"2026-11-21T08:33:20.250Z\",\
         \"trail\":\"/formulas/{id}/trail\"}}"
    );
    assert_eq!(text(|out| formula(out, &rose())), expected);
}

#[test]
fn digits_that_no_float_holds_survive() {
    let digits = ["15.500000000000000001", "1e1", "0.10", "0.000000000000000000000000000001"];
    for digits in digits {
        let body =
            format!(r#"{{"name":"x","materials":[{{"name":"a","concentration":{digits}}}]}}"#);
        let text = text(|out| formula(out, &stored(&body)));
        assert!(text.contains(&format!("\"concentration\":{digits}}}")), "{text}");
    }
}

#[test]
fn names_are_escaped_as_json_demands() {
    let name = "a\"b\\c\td\u{2028}\u{1f339}";
    let body = json!({"name": name, "materials": [{"name": name, "concentration": 1}]});
    let shown = value(|out| formula(out, &stored(&body.to_string())));
    assert_eq!(shown["name"], name);
    assert_eq!(shown["materials"][0]["name"], name);
}

#[test]
fn a_message_carries_receipt_attempt_dates_and_formula() {
    let receipt =
        Receipt { message: MessageId(Lsn(42)), attempt: 2, epoch: Epoch(1), token: 0xfeed };
    let delivery = Delivery { receipt, lease_until: Timestamp(1_795_250_030_250) };
    let shown = value(|out| message(out, &delivery, &rose_message()));
    let expected = json!({
        "id": "42",
        "receipt": receipt.to_string(),
        "type": "formula.accepted",
        "attempt": 2,
        "enqueued_at": "2026-11-21T08:33:20.250Z",
        "lease_until": "2026-11-21T08:33:50.250Z",
        "formula": value(|out| formula(out, &rose())),
    });
    assert_eq!(shown, expected);
}

#[test]
fn a_row_says_where_a_message_stands_and_how_it_came_there() {
    let ended = |attempt, reason: Option<&str>| AttemptView {
        attempt,
        ended_at: Timestamp(1_795_250_030_250),
        reason: reason.map(Into::into),
    };
    let view = MessageView {
        id: MessageId(Lsn(42)),
        phase: MessagePhase::Dead,
        attempts: 2,
        due: None,
        history: vec![ended(1, None), ended(2, Some("no \"rose\""))],
    };
    let shown = value(|out| message_row(out, &view, &rose_message()));
    assert_eq!(shown["state"], "dead");
    assert_eq!(shown["attempt"], 2);
    assert_eq!(shown["due"], Value::Null);
    assert_eq!(shown["lease_until"], Value::Null);
    assert_eq!(shown["reason"], "no \"rose\"");
    assert_eq!(shown["history"][0]["reason"], "the lease lapsed");
    assert_eq!(shown["history"][1]["ended_at"], "2026-11-21T08:33:50.250Z");
    assert!(shown.get("receipt").is_none());

    let leased = MessageView {
        phase: MessagePhase::Leased,
        due: Some(Timestamp(0)),
        history: vec![ended(1, Some(""))],
        ..view
    };
    let shown = value(|out| message_row(out, &leased, &rose_message()));
    assert_eq!(shown["lease_until"], "1970-01-01T00:00:00.000Z");
    assert_eq!(shown["due"], shown["lease_until"]);
    assert_eq!(shown["reason"], "nacked without a reason");

    let fresh = MessageView { phase: MessagePhase::Ready, due: None, history: vec![], ..leased };
    assert_eq!(value(|out| message_row(out, &fresh, &rose_message()))["reason"], Value::Null);
}

#[test]
fn a_trail_names_each_step_with_its_queue_and_reason() {
    let queue: QueueName = "formulas".parse().unwrap();
    let kinds = [
        TrailKind::Accepted,
        TrailKind::Announced(queue.clone()),
        TrailKind::Leased(queue.clone()),
        TrailKind::Nacked(queue.clone(), "busy".into()),
        TrailKind::Acked(queue),
    ];
    let steps = kinds.map(|kind| TrailStep { at: Timestamp(0), lsn: Lsn(7), kind });
    let shown = value(|out| trail(out, &rose(), &steps));
    let names: Vec<_> = shown["steps"].as_array().unwrap().iter().map(|s| &s["step"]).collect();
    assert_eq!(names, ["accepted", "announced", "leased", "nacked", "acked"]);
    assert_eq!(shown["seq"], 42);
    assert_eq!(shown["steps"][3]["reason"], "busy");
    assert_eq!(shown["steps"][0].get("queue"), None);
    assert_eq!(shown["steps"][1]["queue"], "formulas");
}

#[test]
fn a_trail_tells_the_end_of_a_release_with_each_node_and_what_to_do() {
    let node = |url: &str, outcome| NodeEnd { url: url.into(), outcome };
    let nodes =
        vec![node("http://a:1", NodeOutcome::Undone), node("http://b:1", NodeOutcome::Refused)];
    let ended = |action, end, reason: &str| {
        let (transaction, nodes, reason) = (Lsn(9), nodes.clone(), reason.into());
        let ended = EndedRelease { transaction, action, end, reason, nodes };
        TrailKind::ReleaseEnded(Box::new(ended))
    };
    let releases: QueueName = "releases".parse().unwrap();
    let held = |remedy| {
        let (queue, reason) = (releases.clone(), "b refuses".into());
        TrailKind::Held(Held { queue, reason, remedy })
    };
    let kinds = [
        ended(Action::Create, End::Succeeded, ""),
        ended(Action::Create, End::RolledBack, "b refuses"),
        ended(Action::Create, End::Failed, "b refuses"),
        ended(Action::Delete, End::Succeeded, ""),
        ended(Action::Delete, End::RolledBack, "b refuses"),
        ended(Action::Delete, End::Failed, "b refuses"),
        held(None),
        held(Some(Remedy::Redrive(MessageId(Lsn(42))))),
        held(Some(Remedy::Retry(Lsn(9)))),
    ];
    let steps = kinds.map(|kind| TrailStep { at: Timestamp(0), lsn: Lsn(7), kind });
    let shown = value(|out| trail(out, &rose(), &steps));
    let names: Vec<_> = shown["steps"].as_array().unwrap().iter().map(|s| &s["step"]).collect();
    let releases = ["released", "release_rolled_back", "release_failed"];
    let withdrawals = ["deleted_from_nodes", "withdrawal_rolled_back", "withdrawal_failed"];
    assert_eq!(names[..3], releases);
    assert_eq!(names[3..6], withdrawals);
    assert_eq!(names[6..], ["held"; 3]);
    let first = &shown["steps"][0];
    assert_eq!((&first["transaction"], first.get("reason")), (&json!("9"), None));
    assert_eq!(first["nodes"][1], json!({ "url": "http://b:1", "outcome": "refused" }));
    assert_eq!(shown["steps"][1]["reason"], "b refuses");
    assert_eq!(shown["steps"][6].get("retry"), None);
    assert_eq!(shown["steps"][7]["queue"], "releases");
    let redrive = r#"POST /queues/releases/redrive {"ids":["42"]}"#;
    assert_eq!(shown["steps"][7]["retry"], redrive);
    assert_eq!(shown["steps"][8]["retry"], "POST /transactions/9/retry");
}

#[test]
fn a_message_of_a_transaction_tells_which_and_how_it_stands() {
    let about = AboutTransaction {
        id: Lsn(42),
        group: "g \"1\"".parse().unwrap(),
        action: Action::Delete,
        phase: Phase::ToBeRetried,
    };
    let message = Message {
        kind: MessageKind::Transaction,
        about: About::Transaction(about),
        ..rose_message()
    };
    let view = MessageView {
        id: MessageId(Lsn(42)),
        phase: MessagePhase::Ready,
        attempts: 0,
        due: None,
        history: vec![],
    };
    let shown = value(|out| message_row(out, &view, &message));
    assert_eq!(shown["type"], "transaction");
    let expected =
        json!({ "id": "42", "groupId": "g \"1\"", "action": "delete", "state": "to_be_retried" });
    assert_eq!(shown["transaction"], expected);
    let release = Message { kind: MessageKind::FormulaRelease, ..rose_message() };
    let shown = value(|out| message_row(out, &view, &release));
    assert_eq!((&shown["type"], &shown["formula"]["seq"]), (&json!("formula.release"), &json!(42)));
}

#[test]
fn a_queue_shows_counts_age_and_settings() {
    let status = QueueStatus {
        name: "formulas".parse().unwrap(),
        ready: 1,
        leased: 2,
        delayed: 3,
        dead: 4,
        oldest: None,
        attempts_max: 5,
    };
    let shown = value(|out| queue(out, &status, Some(12_340)));
    assert_eq!(
        [&shown["ready"], &shown["leased"], &shown["delayed"], &shown["dead"]],
        [1, 2, 3, 4]
    );
    assert_eq!(shown["oldest_age_s"], 12.34);
    assert_eq!(shown["settings"]["max_attempts"], 5);
    assert_eq!(shown["settings"]["lease_s"], 30);
    assert_eq!(value(|out| queue(out, &status, None))["oldest_age_s"], Value::Null);
}

#[test]
fn durations_are_exact_and_short() {
    for (ms, expected) in [(0, "0"), (1, "0.001"), (250, "0.25"), (30_000, "30"), (90_100, "90.1")]
    {
        assert_eq!(text(|out| seconds(out, ms)), expected);
    }
}

#[test]
fn settled_lists_ids_and_stale_receipts_as_strings() {
    let done = [MessageId(Lsn(1)), MessageId(Lsn(2))];
    let shown = value(|out| settled(out, &done, ["x\"y"]));
    assert_eq!(shown, json!({"done": ["1", "2"], "stale": ["x\"y"]}));
}

#[test]
fn an_object_without_members_is_an_object() {
    assert_eq!(text(|out| Object::open(out).close()), "{}");
    assert_eq!(text(|out| array(out, [0; 0], |out, n| scalar(out, &n))), "[]");
}
