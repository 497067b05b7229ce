//! The queue as a consumer sees it.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Client, Formula, Response};

/// A leased message.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Message {
    pub(crate) id: String,
    pub(crate) receipt: String,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) attempt: u32,
    pub(crate) enqueued_at: String,
    pub(crate) lease_until: String,
    pub(crate) formula: Formula,
}

/// The answer to a lease.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Messages {
    pub(crate) messages: Vec<Message>,
}

/// The answer to an ack, nack or extend.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settled {
    pub(crate) done: Vec<String>,
    pub(crate) stale: Vec<String>,
}

/// Leases at most `max` messages of the queue `formulas` without waiting.
#[track_caller]
pub(crate) fn lease(client: &mut Client, max: usize, lease_s: f64) -> Vec<Message> {
    lease_waiting(client, json!({"max": max, "lease_s": lease_s, "wait_s": 0}))
}

/// Leases from the queue `formulas` with this body.
#[track_caller]
pub(crate) fn lease_waiting(client: &mut Client, wish: Value) -> Vec<Message> {
    let answer = client.post("/queues/formulas/lease", wish.to_string()).expect(200);
    answer.parse::<Messages>().messages
}

/// Acks, nacks or extends: `how` is the call, `members` what stands beside the receipts.
#[track_caller]
pub(crate) fn settle(
    client: &mut Client,
    how: &str,
    receipts: &[&str],
    members: &Value,
) -> Response {
    let mut wish = json!({ "receipts": receipts });
    for (name, value) in members.as_object().into_iter().flatten() {
        wish[name] = value.clone();
    }
    client.post(&format!("/queues/formulas/{how}"), wish.to_string())
}

/// How the queue `formulas` stands.
#[track_caller]
pub(crate) fn queue_status(client: &mut Client) -> Value {
    client.get("/queues/formulas").expect(200).json()
}

/// One count of it: `ready`, `leased`, `delayed` or `dead`.
#[track_caller]
pub(crate) fn queue_count(client: &mut Client, phase: &str) -> u64 {
    queue_status(client)[phase].as_u64().expect("counts are whole numbers")
}
