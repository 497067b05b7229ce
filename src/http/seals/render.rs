//! Requests for a seal as JSON. What a hook is called with looks the same.

use crate::engine::command::seals::{CallCounts, Outlook, SealStanding, SealTicket, SealView};
use crate::engine::decide::gate::Limit;
use crate::http::render::{Object, quoted, scalar, seconds};
use crate::ids::Lsn;
use crate::workers::signatory::Verdict;

/// A request that was sealed in time, or before.
pub(super) fn sealed(ticket: &SealTicket, signature: &str) -> Vec<u8> {
    let standing = SealStanding::Sealed(signature.into());
    document(ticket.id, ticket.webhook_url.as_deref(), &ticket.text, &standing)
}

/// A request that waits, as it was told first.
pub(super) fn pending(ticket: &SealTicket, outlook: Outlook) -> Vec<u8> {
    let standing = SealStanding::Waits(outlook);
    document(ticket.id, ticket.webhook_url.as_deref(), &ticket.text, &standing)
}

/// A request as it stands.
pub(super) fn view(view: &SealView) -> Vec<u8> {
    document(view.id, view.webhook_url.as_deref(), &view.text, &view.standing)
}

fn document(id: Lsn, webhook_url: Option<&str>, text: &str, standing: &SealStanding) -> Vec<u8> {
    let (status, signature) = match standing {
        SealStanding::Sealed(signature) => ("SUCCESS", &**signature),
        SealStanding::Waits(_) => ("PENDING", ""),
        SealStanding::Failed => ("FAIL", ""),
    };
    let mut json = Vec::new();
    let mut object = Object::open(&mut json);
    quoted(object.member("id"), id);
    scalar(object.member("webhook_url"), &webhook_url);
    scalar(object.member("message"), text);
    scalar(object.member("status"), status);
    scalar(object.member("signature"), signature);
    if let SealStanding::Waits(Outlook { position, eta_s }) = standing {
        scalar(object.member("position"), position);
        scalar(object.member("eta_s"), eta_s);
    }
    object.close();
    json
}

/// Whether a signature is valid.
pub(super) fn verdict(verdict: Verdict) -> Vec<u8> {
    let is_valid = verdict == Verdict::Valid;
    format!(r#"{{"valid":{is_valid}}}"#).into_bytes()
}

/// That the authority is there, and how often it was called.
pub(super) fn probe(status: u16, limit: &Limit, counts: CallCounts) -> Vec<u8> {
    let mut json = Vec::new();
    let mut object = Object::open(&mut json);
    scalar(object.member("status"), &status);
    scalar(object.member("calls_running"), &counts.running);
    scalar(object.member("calls_in_window"), &counts.in_window);
    scalar(object.member("calls_max"), &limit.calls);
    seconds(object.member("window_s"), limit.window_ms);
    scalar(object.member("requests"), &counts.requests);
    object.close();
    json
}
