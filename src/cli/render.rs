//! A fact as JSON, for people who look into a log.
//!
//! Concentrations are strings here, so that no reader's floating point touches their digits.
//! Hashes of keys are shown: they tell whether two requests had the same key, not what it was.

use serde_json::{Value, json};

use crate::formula::Formula;
use crate::ids::MessageId;
use crate::record::{AcceptedFormula, Fact, FlowStep, ItemOutcome, Selection, SpentKey, Touched};

/// Adds `fact`, its name in snake case, and its members to the JSON object `view`.
pub(crate) fn add_fact(view: &mut Value, fact: &Fact) {
    let (name, members) = name_and_members(fact);
    view["fact"] = json!(name);
    for (member, value) in members.as_object().into_iter().flatten() {
        view[member] = value.clone();
    }
}

fn name_and_members(fact: &Fact) -> (&'static str, Value) {
    match fact {
        Fact::Opened { epoch } => ("opened", json!({ "reign": epoch.0 })),
        Fact::FormulaAccepted(accepted) => ("formula_accepted", accepted_members(accepted)),
        Fact::FormulaWithdrawn { formula, fingerprint } => {
            ("formula_withdrawn", json!({ "formula": formula.0, "id": fingerprint.to_string() }))
        }
        Fact::BatchAnswered { key, outcomes, preceding, request_id } => (
            "batch_answered",
            json!({
                "key": key_members(key),
                "outcomes": outcomes.iter().map(outcome_members).collect::<Vec<_>>(),
                "preceding": preceding,
                "request_id": request_id,
            }),
        ),
        Fact::FormulaImported { accepted, accepted_at } => {
            let mut members = accepted_members(accepted);
            members["accepted_at"] = json!(accepted_at.to_string());
            ("formula_imported", members)
        }
        Fact::StateHash { digest } => ("state_hash", json!({ "digest": format!("{digest:032x}") })),
        Fact::Digest { digest } => ("digest", json!({ "digest": format!("{digest:032x}") })),
        _ => outside_members(fact).unwrap_or_else(|| queue_members(fact)),
    }
}

/// Of a fact about what is outside: the authority, hooks, partner nodes.
fn outside_members(fact: &Fact) -> Option<(&'static str, Value)> {
    super::render_outbound::members(fact).or_else(|| super::render_partners::members(fact))
}

fn queue_members(fact: &Fact) -> (&'static str, Value) {
    match fact {
        Fact::Leased { queue, messages, lease_ms, attempts_max, token } => (
            "leased",
            json!({
                "queue": queue.as_str(), "messages": ids(messages), "lease_ms": lease_ms,
                "attempts_max": attempts_max, "token": format!("{token:016x}"),
            }),
        ),
        Fact::Acked { queue, messages } => {
            ("acked", json!({ "queue": queue.as_str(), "messages": ids(messages) }))
        }
        Fact::Nacked { queue, messages, delay_ms, reason } => (
            "nacked",
            json!({
                "queue": queue.as_str(), "messages": ids(messages), "delay_ms": delay_ms,
                "reason": reason,
            }),
        ),
        Fact::Extended { queue, messages, lease_ms } => {
            let messages: Vec<u64> = messages.iter().map(|MessageId(lsn)| lsn.0).collect();
            let queue = queue.as_str();
            ("extended", json!({ "queue": queue, "messages": messages, "lease_ms": lease_ms }))
        }
        Fact::Redriven { queue, which } => ("redriven", selection_members(queue.as_str(), which)),
        Fact::Purged { queue, which } => ("purged", selection_members(queue.as_str(), which)),
        _ => unreachable!("handled by the caller"),
    }
}

fn accepted_members(accepted: &AcceptedFormula) -> Value {
    let AcceptedFormula { canon, fingerprint, formula, key, flow } = accepted;
    json!({
        "canon": canon,
        "id": fingerprint.to_string(),
        "name": formula.name(),
        "materials": material_members(formula),
        "key": key.as_ref().map(key_members),
        "flow": flow.iter().map(flow_name).collect::<Vec<_>>(),
    })
}

fn material_members(formula: &Formula) -> Vec<Value> {
    let lines = formula.materials();
    lines.map(|line| json!({ "name": line.name, "concentration": line.concentration })).collect()
}

pub(super) fn key_members(key: &SpentKey) -> Value {
    let SpentKey { key, request, expires } = key;
    json!({ "key": hex(key), "request": hex(request), "expires_uptime_ms": expires.0 })
}

fn outcome_members(outcome: &ItemOutcome) -> Value {
    match outcome {
        ItemOutcome::Accepted(place) => json!({ "accepted": place.0 }),
        ItemOutcome::Repeats(place) => json!({ "repeats": place.0 }),
        ItemOutcome::Duplicate(lsn) => json!({ "duplicate": lsn.0 }),
        ItemOutcome::Invalid(problem) => json!({ "invalid": problem }),
    }
}

fn selection_members(queue: &str, which: &Selection) -> Value {
    match which {
        Selection::All => json!({ "queue": queue, "messages": "all" }),
        Selection::Ids(messages) => {
            let messages: Vec<u64> = messages.iter().map(|MessageId(lsn)| lsn.0).collect();
            json!({ "queue": queue, "messages": messages })
        }
    }
}

fn flow_name(step: &FlowStep) -> &'static str {
    match step {
        FlowStep::Seal => "seal",
        FlowStep::Release => "release",
    }
}

pub(super) fn ids(messages: &[Touched]) -> Vec<u64> {
    messages.iter().map(|touched| touched.message.0.0).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Lsn, QueueName};
    use crate::record::InGroup;

    #[test]
    fn queue_facts_name_queue_and_messages() {
        let queue: QueueName = "formulas".parse().expect("a plain name");
        let touched = Touched { message: MessageId(Lsn(7)), before: Lsn(7) };
        let fact =
            Fact::Nacked { queue, messages: vec![touched], delay_ms: 5, reason: "late".into() };
        let mut view = json!({ "lsn": 9 });
        add_fact(&mut view, &fact);
        let expected = json!({
            "lsn": 9, "fact": "nacked", "queue": "formulas", "messages": [7], "delay_ms": 5,
            "reason": "late",
        });
        assert_eq!(view, expected);
    }

    #[test]
    fn every_kind_of_selection_and_outcome_has_a_shape() {
        assert_eq!(selection_members("q", &Selection::All)["messages"], "all");
        let one = Selection::Ids(vec![MessageId(Lsn(3))]);
        assert_eq!(selection_members("q", &one)["messages"], json!([3]));
        assert_eq!(outcome_members(&ItemOutcome::Accepted(InGroup(1))), json!({ "accepted": 1 }));
        assert_eq!(outcome_members(&ItemOutcome::Duplicate(Lsn(2))), json!({ "duplicate": 2 }));
        let invalid = ItemOutcome::Invalid("{}".into());
        assert_eq!(outcome_members(&invalid), json!({ "invalid": "{}" }));
    }
}
