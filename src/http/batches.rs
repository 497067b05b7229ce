//! `POST /formulas` with an array: each formula for itself, or all or none.
//!
//! Per item, every formula is accepted or refused as if it stood alone, in order, so that two
//! with the same make-up are a 201 and a 409. The whole array is answered with 201 when all
//! are new, else with 207. Atomic, the array is one durable group, and the refusal names every
//! culprit by pointer.

use bytes::Bytes;
use hyper::StatusCode;

use crate::engine::command::{
    Batch, BatchMode, BatchReply, Item, ItemReply, Rejection, RequestKey, Submission,
};
use crate::formula::{self, Checked, Invalid};
use crate::http::Context;
use crate::http::formulas::{faults, mark_replayed, refuse, unless_key_reused};
use crate::http::problem::{Kind, Problem, push_request_id};
use crate::http::render;
use crate::http::request::{Query, Request};
use crate::http::response::Response;
use crate::limits::FAULTS_MAX;

/// Reads the parameter `atomic`.
pub(super) fn mode(query: &Query) -> Result<BatchMode, Problem> {
    match query.get("atomic") {
        None | Some("false") => Ok(BatchMode::PerItem),
        Some("true") => Ok(BatchMode::Atomic),
        Some(_) => Err(Problem::parameter("atomic", "must be true or false")),
    }
}

/// Answers an array.
pub(super) async fn submit(
    context: &Context,
    mut request: Request,
    body: Bytes,
    key: Option<RequestKey>,
    mode: BatchMode,
) -> Result<Response, Problem> {
    let items = match items(context, &mut request, body, mode).await {
        Ok(items) => items,
        Err(problem) => return Err(unless_key_reused(context, key.as_ref(), problem).await),
    };
    let request_id = request.id().as_str().into();
    let reply = context.engine.accept_batch(Batch { items, mode, key, request_id }).await?;
    Ok(results(&reply))
}

/// What the engine is to decide.
async fn items(
    context: &Context,
    request: &mut Request,
    body: Bytes,
    mode: BatchMode,
) -> Result<Vec<Item>, Problem> {
    let rules = context.rules;
    let read = move |body: &[u8]| formula::parse_array(body, &rules);
    let parsed = request.read(body, read).await.map_err(|invalid| refuse(&invalid))?;
    match mode {
        BatchMode::PerItem => Ok(parsed.into_iter().map(item).collect()),
        BatchMode::Atomic => all_valid(parsed),
    }
}

fn item(parsed: Result<Checked, Invalid>) -> Item {
    match parsed {
        Ok(checked) => Item::Valid(submission(checked)),
        Err(invalid) => Item::Invalid(without_request_id(&refuse(&invalid))),
    }
}

/// The document as the engine keeps it under a key; whoever shows it adds the request id.
fn without_request_id(problem: &Problem) -> Box<str> {
    let mut json = Vec::new();
    problem.render(&mut json, None);
    String::from_utf8(json).expect("a problem is written from text").into()
}

fn submission(checked: Checked) -> Submission {
    Submission { formula: checked.formula, fingerprint: checked.fingerprint, key: None }
}

/// The items of an atomic batch, or the faults of all that are invalid.
fn all_valid(parsed: Vec<Result<Checked, Invalid>>) -> Result<Vec<Item>, Problem> {
    let mut items = Vec::with_capacity(parsed.len());
    let mut listed = Vec::new();
    let mut unlisted = 0;
    for (index, parsed) in parsed.into_iter().enumerate() {
        match parsed {
            Ok(checked) => items.push(Item::Valid(submission(checked))),
            Err(invalid) => {
                listed.extend(faults(&invalid, &format!("/{index}")));
                unlisted += invalid.unlisted + listed.len().saturating_sub(FAULTS_MAX);
                listed.truncate(FAULTS_MAX);
            }
        }
    }
    if listed.is_empty() {
        return Ok(items);
    }
    Err(Problem::invalid(Kind::InvalidFormula, &listed, unlisted))
}

/// The answer to a batch: a pure function of the reply, so that it can be given again.
fn results(reply: &BatchReply) -> Response {
    let all_new = reply.items.iter().all(|item| matches!(item, ItemReply::Accepted(_)));
    let status = if all_new { StatusCode::CREATED } else { StatusCode::MULTI_STATUS };
    let mut json = b"{\"results\":".to_vec();
    render::array(&mut json, &reply.items, |out, item| result(out, item, &reply.request_id));
    json.push(b'}');
    mark_replayed(Response::json(status, json), reply.answer)
}

/// What became of one formula of an array or stream.
pub(super) fn result(out: &mut Vec<u8>, item: &ItemReply, request_id: &str) {
    match item {
        ItemReply::Accepted(accepted) => {
            out.extend_from_slice(b"{\"status\":201,\"formula\":");
            render::formula(out, &accepted.stored);
            out.push(b'}');
        }
        ItemReply::Duplicate(stored) => {
            refusal(out, &Rejection::Duplicate(stored.clone()).into(), request_id);
        }
        ItemReply::KeyReused => refusal(out, &Rejection::KeyReused.into(), request_id),
        ItemReply::Forgotten(lsn) => {
            refusal(out, &Rejection::Forgotten(*lsn).into(), request_id);
        }
        ItemReply::Invalid(document) => {
            let status = StatusCode::BAD_REQUEST;
            refused(out, status, |out| {
                out.extend_from_slice(document.as_bytes());
                push_request_id(out, request_id);
            });
        }
    }
}

/// The result of a formula that was refused with `problem`.
pub(super) fn refusal(out: &mut Vec<u8>, problem: &Problem, request_id: &str) {
    refused(out, problem.status(), |out| problem.render(out, Some(request_id)));
}

fn refused(out: &mut Vec<u8>, status: StatusCode, write: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(b"{\"status\":");
    render::scalar(out, &status.as_u16());
    out.extend_from_slice(b",\"problem\":");
    write(out);
    out.push(b'}');
}

#[cfg(test)]
mod tests;
