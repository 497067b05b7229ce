//! The JSON of everything the API shows: formulas, trails, messages, queues.
//!
//! Written by hand into one growing buffer. A tree of values would cost an allocation per
//! member, and the digits of a concentration must leave as they came, which no number type
//! offers. Each function appends one complete JSON value and is a pure function of what is
//! stored, so an answer given again under an idempotency key is the same to the byte.
//!
//! Strings are escaped by `serde_json`; concentrations were checked against the grammar of a
//! JSON number when they were accepted and are copied.

use std::io::Write;

use serde::Serialize;

use crate::engine::command::Event;
use crate::engine::command::{
    AttemptView, Delivery, EndedRelease, Held, MessagePhase, MessageView, QueueStatus, Remedy,
    StoredFormula, TrailKind, TrailStep,
};
use crate::engine::releases::{Action, End, NodeEnd};
use crate::engine::{About, Message, MessageKind};
use crate::formula::{Fingerprint, Material};
use crate::ids::{MessageId, QueueName};
use crate::limits::{LEASE_MS_DEFAULT, LEASE_MS_MAX, LEASE_WAIT_MS_MAX, NACK_DELAY_MS_MAX};
use crate::time::Timestamp;

/// Bytes around the materials of a formula: the names of its members, id, date and trail.
const FORMULA_BYTES_AROUND: usize = 256;
/// Bytes around the name and digits of one material.
const MATERIAL_BYTES_AROUND: usize = 64;

/// Writes the members of one JSON object.
pub(super) struct Object<'a> {
    out: &'a mut Vec<u8>,
    /// What stands in front of the next member.
    separator: u8,
}

impl<'a> Object<'a> {
    /// An object without members yet.
    pub(super) fn open(out: &'a mut Vec<u8>) -> Object<'a> {
        Object { out, separator: b'{' }
    }

    /// The place for the value of the member `name`, which is plain ASCII.
    pub(super) fn member(&mut self, name: &str) -> &mut Vec<u8> {
        self.out.push(self.separator);
        self.separator = b',';
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.out
    }

    /// The end of the object.
    pub(super) fn close(self) {
        if self.separator == b'{' {
            self.out.push(b'{');
        }
        self.out.push(b'}');
    }
}

/// Writes `items` as a JSON array, each by `write`.
pub(super) fn array<T>(
    out: &mut Vec<u8>,
    items: impl IntoIterator<Item = T>,
    mut write: impl FnMut(&mut Vec<u8>, T),
) {
    out.push(b'[');
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write(out, item);
    }
    out.push(b']');
}

/// Writes a string. Names rarely hold what JSON escapes; without it they are copied whole.
fn string(out: &mut Vec<u8>, text: &str) {
    let is_special = |byte: u8| byte < b' ' || byte == b'"' || byte == b'\\';
    // Looks at every byte and never ends early, so that it looks at many bytes at once.
    if text.bytes().fold(false, |any, byte| any | is_special(byte)) {
        return scalar(out, text);
    }
    out.push(b'"');
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
}

/// Writes a string or number.
pub(super) fn scalar<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    serde_json::to_writer(out, value).expect("a buffer takes all and a scalar has no bad keys");
}

/// Writes what needs no escaping between quotes: ids, dates, receipts, paths.
pub(super) fn quoted(out: &mut Vec<u8>, text: impl std::fmt::Display) {
    write!(out, "\"{text}\"").expect("a buffer takes every write");
}

/// Writes `/formulas/{id}`.
pub(super) fn formula_path(out: &mut Vec<u8>, fingerprint: &Fingerprint) {
    out.extend_from_slice(b"/formulas/");
    out.extend_from_slice(&fingerprint.to_hex());
}

/// Writes milliseconds as seconds, exactly and without trailing zeros: `30`, `0.25`.
pub(super) fn seconds(out: &mut Vec<u8>, ms: u64) {
    let (whole, fraction) = (ms / 1000, ms % 1000);
    write!(out, "{whole}").expect("a buffer takes every write");
    if fraction > 0 {
        write!(out, ".{fraction:03}").expect("a buffer takes every write");
        while out.last() == Some(&b'0') {
            out.pop();
        }
    }
}

/// The formula as every call shows it, for those who are no call.
pub(crate) fn formula_json(out: &mut Vec<u8>, stored: &StoredFormula) {
    formula(out, stored);
}

/// The formula as every call shows it.
pub(super) fn formula(out: &mut Vec<u8>, stored: &StoredFormula) {
    let materials = stored.formula.materials();
    out.reserve(FORMULA_BYTES_AROUND + MATERIAL_BYTES_AROUND * materials.len());
    let mut object = Object::open(out);
    identity(&mut object, stored);
    array(object.member("materials"), materials, material);
    quoted(object.member("accepted_at"), stored.accepted_at);
    let trail = object.member("trail");
    trail.push(b'"');
    formula_path(trail, &stored.fingerprint);
    trail.extend_from_slice(b"/trail\"");
    object.close();
}

fn identity(object: &mut Object<'_>, stored: &StoredFormula) {
    quoted(object.member("id"), stored.fingerprint);
    scalar(object.member("seq"), &stored.lsn.0);
    string(object.member("name"), stored.formula.name());
}

/// One material. Its concentration is the text of a JSON number.
pub(super) fn material(out: &mut Vec<u8>, material: Material<'_>) {
    out.extend_from_slice(b"{\"name\":");
    string(out, material.name);
    out.extend_from_slice(b",\"concentration\":");
    out.extend_from_slice(material.concentration.as_bytes());
    out.push(b'}');
}

/// The dated steps of a formula.
pub(super) fn trail(out: &mut Vec<u8>, stored: &StoredFormula, steps: &[TrailStep]) {
    let mut object = Object::open(out);
    identity(&mut object, stored);
    array(object.member("steps"), steps, step);
    object.close();
}

fn step(out: &mut Vec<u8>, step: &TrailStep) {
    let (name, queue, reason) = match &step.kind {
        TrailKind::Accepted => ("accepted", None, None),
        TrailKind::Announced(queue) => ("announced", Some(queue), None),
        TrailKind::Leased(queue) => ("leased", Some(queue), None),
        TrailKind::Nacked(queue, reason) => {
            ("nacked", Some(queue), Some(&**reason).filter(|reason| !reason.is_empty()))
        }
        TrailKind::Acked(queue) => ("acked", Some(queue), None),
        TrailKind::Deferred(queue) => ("deferred", Some(queue), None),
        TrailKind::Sealed => ("sealed", None, None),
        TrailKind::Held(held) => ("held", Some(&held.queue), Some(&*held.reason)),
        TrailKind::ReleaseEnded(ended) => (release_step(ended), None, reason_of(ended)),
        TrailKind::Told { .. } => ("hook_called", None, None),
    };
    let mut object = Object::open(out);
    scalar(object.member("step"), name);
    quoted(object.member("at"), step.at);
    scalar(object.member("seq"), &step.lsn.0);
    if let Some(queue) = queue {
        scalar(object.member("queue"), queue.as_str());
    }
    if let Some(reason) = reason {
        scalar(object.member("reason"), reason);
    }
    match &step.kind {
        TrailKind::Told { event, hook } => {
            scalar(object.member("event"), event.name());
            quoted(object.member("hook"), *hook);
        }
        TrailKind::ReleaseEnded(ended) => {
            quoted(object.member("transaction"), ended.transaction);
            array(object.member("nodes"), &ended.nodes, node_end);
        }
        TrailKind::Held(Held { queue, remedy: Some(remedy), .. }) => {
            scalar(object.member("retry"), &command_for(queue, *remedy));
        }
        _ => {}
    }
    object.close();
}

/// The API's word for the end of a release, or of a withdrawal from the nodes.
fn release_step(ended: &EndedRelease) -> &'static str {
    match (ended.action, ended.end) {
        (Action::Create, End::Succeeded) => "released",
        (Action::Create, End::RolledBack) => "release_rolled_back",
        (Action::Create, End::Failed) => "release_failed",
        (Action::Delete, End::Succeeded) => "deleted_from_nodes",
        (Action::Delete, End::RolledBack) => "withdrawal_rolled_back",
        (Action::Delete, End::Failed) => "withdrawal_failed",
    }
}

fn reason_of(ended: &EndedRelease) -> Option<&str> {
    Some(&*ended.reason).filter(|reason| !reason.is_empty())
}

fn node_end(out: &mut Vec<u8>, node: &NodeEnd) {
    let mut object = Object::open(out);
    scalar(object.member("url"), &node.url);
    scalar(object.member("outcome"), node.outcome.name());
    object.close();
}

/// The one request that has a held formula tried again.
fn command_for(queue: &QueueName, remedy: Remedy) -> String {
    match remedy {
        Remedy::Redrive(message) => {
            format!(r#"POST /queues/{queue}/redrive {{"ids":["{message}"]}}"#)
        }
        Remedy::Retry(transaction) => format!("POST /transactions/{transaction}/retry"),
    }
}

fn about(object: &mut Object<'_>, about: &About) {
    match about {
        About::Formula(stored) => formula(object.member("formula"), stored),
        About::Text(text) => scalar(object.member("message"), text),
        About::Event(event) => {
            let name = event.map_or("seal.answered", Event::name);
            scalar(object.member("event"), name);
        }
        About::Transaction(about) => {
            let mut object = Object::open(object.member("transaction"));
            quoted(object.member("id"), about.id);
            scalar(object.member("groupId"), about.group.as_str());
            scalar(object.member("action"), about.action.name());
            scalar(object.member("state"), about.phase.name());
            object.close();
        }
    }
}

/// A message as its consumer gets it.
pub(super) fn message(out: &mut Vec<u8>, delivery: &Delivery, message: &Message) {
    let mut object = Object::open(out);
    quoted(object.member("id"), message.id);
    quoted(object.member("receipt"), delivery.receipt);
    scalar(object.member("type"), kind_name(message.kind));
    scalar(object.member("attempt"), &delivery.receipt.attempt);
    quoted(object.member("enqueued_at"), message.enqueued_at);
    quoted(object.member("lease_until"), delivery.lease_until);
    about(&mut object, &message.about);
    object.close();
}

/// A message as a peek shows it: no receipt, but where it stands and how it came there.
pub(super) fn message_row(out: &mut Vec<u8>, view: &MessageView, message: &Message) {
    let lease_until = view.due.filter(|_| view.phase == MessagePhase::Leased);
    let mut object = Object::open(out);
    quoted(object.member("id"), view.id);
    scalar(object.member("type"), kind_name(message.kind));
    scalar(object.member("state"), phase_name(view.phase));
    scalar(object.member("attempt"), &view.attempts);
    quoted(object.member("enqueued_at"), message.enqueued_at);
    date_or_null(object.member("lease_until"), lease_until);
    date_or_null(object.member("due"), view.due);
    scalar(object.member("reason"), &view.history.last().map(why));
    array(object.member("history"), &view.history, attempt);
    about(&mut object, &message.about);
    object.close();
}

fn attempt(out: &mut Vec<u8>, attempt: &AttemptView) {
    let mut object = Object::open(out);
    scalar(object.member("attempt"), &attempt.attempt);
    quoted(object.member("ended_at"), attempt.ended_at);
    scalar(object.member("reason"), why(attempt));
    object.close();
}

/// Why an attempt ended: what the consumer said, or what is known without him.
fn why(attempt: &AttemptView) -> &str {
    match attempt.reason.as_deref() {
        None => "the lease lapsed",
        Some("") => "nacked without a reason",
        Some(reason) => reason,
    }
}

fn date_or_null(out: &mut Vec<u8>, date: Option<Timestamp>) {
    match date {
        Some(date) => quoted(out, date),
        None => out.extend_from_slice(b"null"),
    }
}

/// The API's word for a kind of message.
fn kind_name(kind: MessageKind) -> &'static str {
    match kind {
        MessageKind::FormulaAccepted => "formula.accepted",
        MessageKind::FormulaWithdrawn => "formula.withdrawn",
        MessageKind::FormulaSeal => "formula.seal",
        MessageKind::FormulaRelease => "formula.release",
        MessageKind::SealRequested => "seal.requested",
        MessageKind::HookOwed => "hook.owed",
        MessageKind::Transaction => "transaction",
    }
}

/// The API's word for where a message stands.
pub(super) fn phase_name(phase: MessagePhase) -> &'static str {
    match phase {
        MessagePhase::Ready => "ready",
        MessagePhase::Leased => "leased",
        MessagePhase::Delayed => "delayed",
        MessagePhase::Dead => "dead",
    }
}

/// How a queue stands. `oldest_age_ms`: age of the message that waits the longest, if any does.
pub(super) fn queue(out: &mut Vec<u8>, status: &QueueStatus, oldest_age_ms: Option<u64>) {
    let mut object = Object::open(out);
    scalar(object.member("name"), status.name.as_str());
    scalar(object.member("ready"), &status.ready);
    scalar(object.member("leased"), &status.leased);
    scalar(object.member("delayed"), &status.delayed);
    scalar(object.member("dead"), &status.dead);
    let age = object.member("oldest_age_s");
    match oldest_age_ms {
        Some(ms) => seconds(age, ms),
        None => age.extend_from_slice(b"null"),
    }
    queue_settings(object.member("settings"), status.attempts_max);
    object.close();
}

fn queue_settings(out: &mut Vec<u8>, attempts_max: u32) {
    let mut object = Object::open(out);
    scalar(object.member("max_attempts"), &attempts_max);
    seconds(object.member("lease_s"), LEASE_MS_DEFAULT);
    seconds(object.member("lease_s_max"), LEASE_MS_MAX);
    seconds(object.member("wait_s_max"), LEASE_WAIT_MS_MAX);
    seconds(object.member("delay_s_max"), NACK_DELAY_MS_MAX);
    object.close();
}

/// The answer to an ack, nack or extend: message ids and the receipts that took no effect.
pub(super) fn settled<'a>(
    out: &mut Vec<u8>,
    done: &[MessageId],
    stale: impl IntoIterator<Item = &'a str>,
) {
    let mut object = Object::open(out);
    message_ids(object.member("done"), done);
    array(object.member("stale"), stale, scalar);
    object.close();
}

/// Writes message ids, which are strings in the API.
pub(super) fn message_ids(out: &mut Vec<u8>, ids: &[MessageId]) {
    array(out, ids, quoted);
}

#[cfg(test)]
mod tests;
