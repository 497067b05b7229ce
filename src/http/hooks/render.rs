//! The JSON of hooks and deliveries.

use crate::engine::hooks::{CreatedHookView, DeliveryPhase, DeliveryView, Hook, OwedCall};
use crate::engine::hooks::{Event, Recipient};
use crate::http::render::{Object, array, quoted, scalar, seconds};
use crate::ids::Lsn;
use crate::outbound::signature::Secret;
use crate::workers::hooker::webhook_id;

/// A hook with its secret, for the answer that makes it.
pub(super) fn created(created: &CreatedHookView) -> Vec<u8> {
    let mut json = Vec::new();
    let mut object = Object::open(&mut json);
    members(&mut object, created.id, &created.hook);
    if let Ok(kept) = Secret::try_from(&created.hook.secret) {
        secret(&mut object, &kept);
    }
    object.close();
    json
}

/// A hook, without its secret.
pub(super) fn hook(id: Lsn, hook: &Hook) -> Vec<u8> {
    let mut json = Vec::new();
    row(&mut json, id, hook);
    json
}

/// All hooks, and the events that can be subscribed to.
pub(super) fn hooks(hooks: &[(Lsn, Hook)]) -> Vec<u8> {
    let mut json = Vec::new();
    let mut object = Object::open(&mut json);
    array(object.member("hooks"), hooks, |out, (id, hook)| row(out, *id, hook));
    array(object.member("events"), Event::NAMES, |out, (_, name)| scalar(out, name));
    object.close();
    json
}

/// A new secret.
pub(super) fn rotated(id: Lsn, kept: &Secret, overlap_ms: u64) -> Vec<u8> {
    let mut json = Vec::new();
    let mut object = Object::open(&mut json);
    quoted(object.member("id"), id);
    secret(&mut object, kept);
    seconds(object.member("overlap_s"), overlap_ms);
    object.close();
    json
}

/// The secret of answers to single requests.
pub(super) fn own_secret(own: &Secret) -> Vec<u8> {
    let mut json = Vec::new();
    let mut object = Object::open(&mut json);
    secret(&mut object, own);
    object.close();
    json
}

fn secret(object: &mut Object<'_>, secret: &Secret) {
    scalar(object.member("secret"), &secret.reveal());
    if let Some(public) = secret.public_key() {
        scalar(object.member("public_key"), &public);
    }
}

fn row(out: &mut Vec<u8>, id: Lsn, hook: &Hook) {
    let mut object = Object::open(out);
    members(&mut object, id, hook);
    object.close();
}

fn members(object: &mut Object<'_>, id: Lsn, hook: &Hook) {
    quoted(object.member("id"), id);
    scalar(object.member("url"), &*hook.url);
    array(object.member("events"), hook.events.names(), scalar);
    quoted(object.member("created_at"), hook.created_at);
    scalar(object.member("disabled"), &hook.disabled);
}

/// A delivery: what is told to whom, and where it stands.
pub(super) fn delivery(out: &mut Vec<u8>, view: &DeliveryView, call: &OwedCall) {
    let mut object = Object::open(out);
    quoted(object.member("id"), view.id);
    scalar(object.member("webhook_id"), &webhook_id(call));
    match call.owed.to {
        Recipient::Hook(hook) => quoted(object.member("hook"), hook),
        Recipient::SealRequest(request) => {
            quoted(object.member("request"), format_args!("/crypto/requests/{request}"));
        }
    }
    scalar(object.member("event"), &call.owed.happening.event().map(Event::name));
    scalar(object.member("state"), phase_name(view.phase));
    quoted(object.member("owed_at"), call.at);
    scalar(object.member("attempts"), &view.attempts);
    if let Some(due) = view.due {
        quoted(object.member("next_attempt_at"), due);
    }
    if let Some(last) = &view.last {
        let mut failed = Object::open(object.member("last_failure"));
        scalar(failed.member("attempt"), &last.attempt);
        quoted(failed.member("at"), last.ended_at);
        scalar(failed.member("reason"), last.reason.as_deref().unwrap_or("its lease lapsed"));
        failed.close();
    }
    if let Some(taken) = &view.delivered {
        scalar(object.member("status"), &taken.status);
        quoted(object.member("delivered_at"), taken.at);
        seconds(object.member("took_s"), taken.took_ms);
    }
    object.close();
}

/// How a phase is called.
pub(super) fn phase_name(phase: DeliveryPhase) -> &'static str {
    match phase {
        DeliveryPhase::Waiting => "waiting",
        DeliveryPhase::Delivered => "delivered",
        DeliveryPhase::Dead => "dead",
    }
}
