//! How `inspect dump` shows the facts about seals and hooks. Secrets are left out.

use serde_json::{Value, json};

use super::render::{ids, key_members};
use crate::ids::{Lsn, MessageId};
use crate::record::Fact;
use crate::record::hooks::{CreatedHook, Happening, OwedDelivery, Recipient, SealedBy};
use crate::record::seals::{CallPurpose, GivenSeal, RequestedSeal};

/// Kind and members of a fact about seals or hooks; `None` for all others.
pub(super) fn members(fact: &Fact) -> Option<(&'static str, Value)> {
    Some(match fact {
        Fact::SealRequested(request) => ("seal_requested", requested(request)),
        Fact::CallBegun { purpose, deadline_ms } => {
            ("call_begun", json!({ "purpose": purpose_text(*purpose), "deadline_ms": deadline_ms }))
        }
        Fact::CallEnded { call, pause_ms } => {
            ("call_ended", json!({ "call": call.0, "pause_ms": pause_ms }))
        }
        Fact::Sealed(seal) => ("sealed", given(seal)),
        Fact::Deferred { queue, messages, delay_ms } => (
            "deferred",
            json!({ "queue": queue.as_str(), "messages": ids(messages), "delay_ms": delay_ms }),
        ),
        Fact::Condemned { queue, messages, reason } => (
            "condemned",
            json!({ "queue": queue.as_str(), "messages": ids(messages), "reason": reason }),
        ),
        Fact::DeathsAnnounced { queue, messages } => {
            ("deaths_announced", json!({ "queue": queue.as_str(), "messages": numbers(messages) }))
        }
        Fact::HookCreated(created) => ("hook_created", hook(created)),
        Fact::HookDeleted { hook } => ("hook_deleted", json!({ "hook": hook.0 })),
        Fact::HookDisabled { hook, reason } => {
            ("hook_disabled", json!({ "hook": hook.0, "reason": reason }))
        }
        Fact::HookSecretChanged { hook, overlap_ms, .. } => {
            ("hook_secret_changed", json!({ "hook": hook.0, "overlap_ms": overlap_ms }))
        }
        Fact::OwnSecretMade { .. } => ("own_secret_made", json!({})),
        Fact::HookOwed(owed) => ("hook_owed", owed_members(owed)),
        Fact::HookDelivered { delivery, about, status, took_ms } => (
            "hook_delivered",
            json!({
                "delivery": delivery.0.0, "status": status, "took_ms": took_ms,
                "about": about.map(|told| told.formula.message.0.0),
            }),
        ),
        Fact::HookRedelivered { delivery } => {
            ("hook_redelivered", json!({ "delivery": delivery.0.0 }))
        }
        _ => return None,
    })
}

fn requested(request: &RequestedSeal) -> Value {
    let RequestedSeal { text, webhook_url, key, position, eta_s, sealed, .. } = request;
    json!({
        "message": text, "webhook_url": webhook_url, "key": key.as_ref().map(key_members),
        "position": position, "eta_s": eta_s, "sealed": sealed.map(|lsn| lsn.0),
    })
}

fn given(seal: &GivenSeal) -> Value {
    let GivenSeal { message, shared, inline, signature, .. } = seal;
    json!({
        "message": message.message.0.0, "shared": numbers(shared), "inline": numbers(inline),
        "signature": signature,
    })
}

fn purpose_text(purpose: CallPurpose) -> Value {
    match purpose {
        CallPurpose::Fresh(MessageId(Lsn(id))) => json!({ "seal": id, "is_retried": false }),
        CallPurpose::Retried(MessageId(Lsn(id))) => json!({ "seal": id, "is_retried": true }),
        CallPurpose::Verify => json!("verify"),
        CallPurpose::Probe => json!("probe"),
    }
}

fn hook(created: &CreatedHook) -> Value {
    let CreatedHook { url, events, key, .. } = created;
    let events: Vec<&str> = events.names().collect();
    json!({ "url": url, "events": events, "key": key.as_ref().map(key_members) })
}

fn owed_members(owed: &OwedDelivery) -> Value {
    let OwedDelivery { to, happening, token } = owed;
    let to = match to {
        Recipient::Hook(hook) => json!({ "hook": hook.0 }),
        Recipient::SealRequest(request) => json!({ "seal_request": request.0 }),
    };
    let event = happening.event().map(|event| event.name());
    let about = match happening {
        Happening::FormulaAccepted { formula, .. } => json!(formula.fingerprint.to_string()),
        Happening::FormulaWithdrawn { formula, .. }
        | Happening::FormulaSealed { formula, .. }
        | Happening::FormulaHeld { formula, .. } => json!(formula.to_string()),
        Happening::SealFailed { message, .. } | Happening::MessageDead { message, .. } => {
            json!(message.0.0)
        }
        Happening::SealAnswered { sealed } => match sealed {
            Some(SealedBy::Back(back)) => json!({ "back": back }),
            Some(SealedBy::Record(lsn)) => json!(lsn.0),
            None => Value::Null,
        },
        Happening::DiskLow { free_bytes, .. } => json!(free_bytes),
        Happening::Ping => Value::Null,
        Happening::TransactionEnded { transaction, .. } => json!(transaction.0),
        Happening::FormulaReleased { formula, .. } => json!(formula.to_string()),
    };
    json!({ "to": to, "event": event, "about": about, "token": format!("{token:016x}") })
}

fn numbers(messages: &[MessageId]) -> Vec<u64> {
    messages.iter().map(|MessageId(lsn)| lsn.0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Touched;
    use crate::record::hooks::{Event, Events, HookSecret, Told};
    use crate::record::seals::{index_of, text_key};

    fn shown(fact: &Fact) -> Value {
        let (name, members) = members(fact).expect("it is about seals or hooks");
        json!({ name: members })
    }

    #[test]
    fn secrets_are_never_shown() {
        let secret = || HookSecret([0x53; 24].into());
        let mut events = Events::default();
        events.add(Event::DiskLow);
        let created = CreatedHook { url: "https://h/".into(), events, secret: secret(), key: None };
        let facts = [
            Fact::HookCreated(created),
            Fact::HookSecretChanged { hook: Lsn(3), secret: secret(), overlap_ms: 7 },
            Fact::OwnSecretMade { secret: secret() },
        ];
        let expected = [
            json!({ "hook_created": { "url": "https://h/", "events": ["disk.low"], "key": null } }),
            json!({ "hook_secret_changed": { "hook": 3, "overlap_ms": 7 } }),
            json!({ "own_secret_made": {} }),
        ];
        assert_eq!(facts.each_ref().map(shown), expected);
    }

    #[test]
    fn a_seal_names_whom_it_settles_and_an_answer_names_the_seal() {
        let formula = Touched { message: MessageId(Lsn(5)), before: Lsn(6) };
        let ids = vec![MessageId(Lsn(7)), MessageId(Lsn(8))];
        let seal = GivenSeal {
            message: formula,
            shared: ids.clone(),
            inline: ids[..1].to_vec(),
            signature: "sig".into(),
            index: index_of(text_key("a")),
        };
        let expected = json!({ "message": 5, "shared": [7, 8], "inline": [7], "signature": "sig" });
        assert_eq!(shown(&Fact::Sealed(seal)), json!({ "sealed": expected }));
        for (sealed, about) in [
            (Some(SealedBy::Back(2)), json!({ "back": 2 })),
            (Some(SealedBy::Record(Lsn(9))), json!(9)),
            (None, Value::Null),
        ] {
            let (to, happening) =
                (Recipient::SealRequest(Lsn(7)), Happening::SealAnswered { sealed });
            let owed = Fact::HookOwed(OwedDelivery { to, happening, token: 1 });
            let expected = json!({
                "to": { "seal_request": 7 }, "event": null, "about": about,
                "token": "0000000000000001",
            });
            assert_eq!(shown(&owed), json!({ "hook_owed": expected }));
        }
        let about = Some(Told { formula, event: Event::FormulaSealed, hook: Lsn(3) });
        let (delivery, status, took_ms) = (MessageId(Lsn(9)), 204, 1);
        let delivered = shown(&Fact::HookDelivered { delivery, about, status, took_ms });
        assert_eq!(delivered["hook_delivered"]["about"], 5);
    }
}
