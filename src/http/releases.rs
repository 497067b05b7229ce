//! The calls under `/transactions`: begin, look at, list, try again; and what of withdrawing a
//! formula has to do with them.
//!
//! Whoever begins a transaction waits for its end, ten seconds unless he prefers otherwise; then
//! he is told where to look. The transaction goes on whether anybody waits or not. Under an
//! idempotency key the answer is kept before it leaves, and is given again to the byte. Where
//! that could not be done any more, whoever repeats the request waits as the first one did.

mod render;

use std::time::Duration;

use hyper::StatusCode;
use hyper::header::{HeaderValue, LINK, LOCATION, RETRY_AFTER};
use tokio::time::timeout;

use crate::engine::command::{Answer, Rejection, RequestKey};
use crate::engine::releases::{
    Action, GivenAnswer, NewTransaction, NewWithdrawal, Origin, Partners, Phase, Transaction,
};
use crate::formula::Fingerprint;
use crate::http::Context;
use crate::http::connection::Hangup;
use crate::http::formulas::{key_of, mark_replayed, unless_key_reused};
use crate::http::keys::RequestDigest;
use crate::http::members::Members;
use crate::http::paging::{Cursor, Page, Pushed, Rows, next_link};
use crate::http::prefer;
use crate::http::problem::{Fault, Kind, Place, Problem};
use crate::http::request::Request;
use crate::http::response::Response;
use crate::ids::{GroupId, Lsn};
use crate::limits::{
    GROUP_ID_BYTES_MAX, TRANSACTION_ANSWER_BYTES_MAX, TRANSACTION_BODY_BYTES_MAX,
    TRANSACTION_RETRY_AFTER_S, TRANSACTION_WAIT_S_DEFAULT, TRANSACTION_WAIT_S_MAX,
};
use crate::workers::courier::Releasing;

/// The route's name in the digest of a keyed request, whatever path it came by.
const ROUTE: &str = "POST /transactions";

/// `POST /transactions`: begins a transaction, and waits for its end.
pub(super) async fn begin(context: &Context, mut request: Request) -> Result<Response, Problem> {
    let releasing = configured(context)?;
    let key = key_of(context, &request)?;
    let body = request.body(TRANSACTION_BODY_BYTES_MAX).await?;
    let patience = Patience::of(&request, TRANSACTION_WAIT_S_DEFAULT);
    let digest = RequestDigest::of(ROUTE, request.query_text(), &body);
    let key = key.map(|key| key.of_request(request.caller().name(), digest));
    let (group, action) = match read(&body) {
        Ok(read) => read,
        Err(problem) => return Err(unless_key_reused(context, key.as_ref(), problem).await),
    };
    let partners = releasing.partners.clone();
    let new = NewTransaction { group, action, partners, key };
    let response = match new.key {
        None => {
            let (id, _) = context.engine.begin_transaction(new).await?;
            patience.answer(context, id).await?
        }
        Some(key) => begin_keyed(context, new, &key, &patience).await?,
    };
    Ok(patience.mark(response))
}

/// Begins a transaction under a key, or gives again what the first request was answered.
async fn begin_keyed(
    context: &Context,
    new: NewTransaction,
    key: &RequestKey,
    patience: &Patience,
) -> Result<Response, Problem> {
    // Whoever repeats a request that is not answered yet waits for that answer.
    let _turn = context.engine.take_turn(key).await;
    let (id, answer) = context.engine.begin_transaction(new).await?;
    if answer == Answer::Replayed
        && let Some(given) = given(context, id).await?
    {
        return Ok(mark_replayed(again(id, given), answer));
    }
    let transaction = patience.see(context, id).await?;
    let (status, body) = (status_of(&transaction), render::transaction(id, &transaction));
    if body.len() <= TRANSACTION_ANSWER_BYTES_MAX {
        context.engine.keep_answer(id, status.as_u16(), &body).await?;
    }
    Ok(mark_replayed(respond(id, status, body), answer))
}

async fn given(context: &Context, id: Lsn) -> Result<Option<GivenAnswer>, Problem> {
    let found = context.engine.transaction(id).await?;
    // One that is not remembered was answered long ago, and its end is known to whoever asked.
    Ok(found.ok_or(Rejection::TransactionUnknown)?.answered)
}

fn again(id: Lsn, given: GivenAnswer) -> Response {
    let status = StatusCode::from_u16(given.status).expect("it was a status when it was kept");
    respond(id, status, given.body.into_vec())
}

/// What a request for a transaction says.
fn read(body: &[u8]) -> Result<(GroupId, Action), Problem> {
    let mut members = Members::parse(body)?;
    members.require("groupId");
    members.require("action");
    let group = members.string("groupId", GROUP_ID_BYTES_MAX);
    let action = members.string("action", TRANSACTION_BODY_BYTES_MAX);
    let mut faults = members.into_faults();
    let mut fault = |pointer: &'static str, detail: &'static str| {
        faults.push(Fault { place: Place::Pointer(pointer.into()), detail: detail.into() });
    };
    let group = group.and_then(|text| match text.parse::<GroupId>() {
        Ok(group) => Some(group),
        Err(_) => {
            fault("/groupId", fault_of_group(&text));
            None
        }
    });
    let action = action.and_then(|text| {
        let found = [Action::Create, Action::Delete].into_iter().find(|it| it.name() == &*text);
        if found.is_none() {
            fault("/action", "must be \"create\" or \"delete\"");
        }
        found
    });
    match (group, action) {
        (Some(group), Some(action)) if faults.is_empty() => Ok((group, action)),
        _ => Err(Problem::invalid(Kind::InvalidBody, &faults, 0)),
    }
}

/// Why a text is no group's name.
pub(super) fn fault_of_group(text: &str) -> &'static str {
    match text {
        "" => "is empty",
        "." | ".." => "cannot stand in a path",
        _ if text.len() > GROUP_ID_BYTES_MAX => "is too long",
        _ => "holds control characters",
    }
}

/// `GET /transactions`: a page of transactions, in the order in which they were begun.
pub(super) async fn list(context: &Context, request: Request) -> Result<Response, Problem> {
    let query = request.query();
    let page = Page::read(query.get("limit"), query.get("after"))?;
    let phase = phase(query.get("state"))?;
    let after = page.after.map(|cursor| Lsn(cursor.0));
    // One more than is shown tells whether there is a next page.
    let found = context.engine.transactions(phase, after, page.limit + 1).await?;
    let mut rows = Rows::open("transactions", request.page_charge());
    let (mut last, mut next) = (after, None);
    for (id, transaction) in &found {
        let is_full = rows.count() == page.limit
            || rows.push(|json| render::row(json, *id, transaction))? == Pushed::Full;
        if is_full {
            next = last.map(|lsn| Cursor(lsn.0));
            break;
        }
        last = Some(*id);
    }
    let response = rows.close(next);
    let Some(next) = next else { return Ok(response) };
    let parameters = ["state", "limit"].map(|name| (name, query.get(name)));
    let link = HeaderValue::try_from(next_link("/transactions", &parameters, next));
    Ok(response.header(LINK, link.expect("a percent-encoded query is plain ASCII")))
}

fn phase(text: Option<&str>) -> Result<Option<Phase>, Problem> {
    let Some(text) = text else { return Ok(None) };
    match Phase::ALL.into_iter().find(|phase| phase.name() == text) {
        Some(phase) => Ok(Some(phase)),
        None => {
            let names = Phase::ALL.map(Phase::name).join(", ");
            Err(Problem::parameter("state", format!("must be one of {names}")))
        }
    }
}

/// `GET /transactions/{id}`: one transaction.
pub(super) async fn get(context: &Context, request: Request) -> Result<Response, Problem> {
    let id = named(&request)?;
    let transaction = remembered(context, id).await?;
    Ok(Response::json(StatusCode::OK, render::transaction(id, &transaction)))
}

/// `POST /transactions/{id}/retry`: tries again at once.
pub(super) async fn retry(context: &Context, request: Request) -> Result<Response, Problem> {
    let id = named(&request)?;
    let patience = Patience::of(&request, 0);
    context.engine.retry_transaction(id).await?;
    tracing::info!(transaction = %id, "a transaction is tried again by hand");
    Ok(patience.mark(patience.answer(context, id).await?))
}

/// Begins to withdraw a formula from all nodes. Whoever asks again while that is under way is
/// told of the same transaction.
pub(super) async fn withdraw(
    context: &Context,
    request: &Request,
    fingerprint: Fingerprint,
) -> Result<Response, Problem> {
    let partners = configured(context)?.partners.clone();
    let patience = Patience::of(request, 0);
    let id = match begin_withdrawal(context, fingerprint, partners).await {
        Err(Rejection::GroupHeld { by }) => under_way(context, by, fingerprint).await?,
        begun => begun?,
    };
    Ok(patience.mark(patience.answer(context, id).await?))
}

async fn begin_withdrawal(
    context: &Context,
    fingerprint: Fingerprint,
    partners: Partners,
) -> Result<Lsn, Rejection> {
    context.engine.begin_withdrawal(NewWithdrawal { fingerprint, partners }).await
}

/// The transaction that holds the group of a formula, if it withdraws it and has not failed.
async fn under_way(
    context: &Context,
    holder: Lsn,
    withdrawn: Fingerprint,
) -> Result<Lsn, Rejection> {
    let found = context.engine.transaction(holder).await?;
    let is_same = found.is_some_and(|it| match it.begun.origin {
        Origin::Withdrawal { fingerprint, .. } => {
            fingerprint == withdrawn && !matches!(it.phase, Phase::Ended(_))
        }
        Origin::Client | Origin::Flow { .. } => false,
    });
    if is_same { Ok(holder) } else { Err(Rejection::GroupHeld { by: holder }) }
}

/// Who calls the partner nodes, if there are any.
pub(super) fn configured(context: &Context) -> Result<&Releasing, Problem> {
    match context.releasing.partners.nodes.is_empty() {
        false => Ok(&context.releasing),
        true => Err(Problem::new(
            Kind::ReleasesUnavailable,
            "this server was started without partner nodes",
        )),
    }
}

/// How long somebody waits for the end of a transaction.
struct Patience {
    /// What he prefers, in seconds, as far as that is granted.
    preferred_s: Option<u64>,
    wait_s: u64,
    hangup: Hangup,
}

impl Patience {
    fn of(request: &Request, default_s: u64) -> Patience {
        let preferred_s = prefer::wait_s(request.headers());
        // What is said to be applied is what is applied.
        let preferred_s = preferred_s.map(|wait_s| wait_s.min(TRANSACTION_WAIT_S_MAX));
        let wait_s = preferred_s.unwrap_or(default_s);
        Patience { preferred_s, wait_s, hangup: request.hangup() }
    }

    /// The transaction at its end, or as it stands when nobody waits any longer.
    async fn see(&self, context: &Context, id: Lsn) -> Result<Transaction, Problem> {
        let watcher = context.engine.watch_transaction(id);
        let waited = timeout(Duration::from_secs(self.wait_s), watcher.ended());
        let ended = tokio::select! {
            ended = waited => ended.ok().transpose()?.flatten(),
            () = context.shutdown.draining() => None,
            () = self.hangup.wait() => None,
        };
        match ended {
            Some(ended) => Ok(ended),
            None => remembered(context, id).await,
        }
    }

    async fn answer(&self, context: &Context, id: Lsn) -> Result<Response, Problem> {
        let transaction = self.see(context, id).await?;
        Ok(respond(id, status_of(&transaction), render::transaction(id, &transaction)))
    }

    /// Says in the answer that the preference was honoured, if there was one.
    fn mark(&self, response: Response) -> Response {
        match self.preferred_s {
            Some(wait_s) => response.header(prefer::APPLIED, prefer::applied(wait_s)),
            None => response,
        }
    }
}

fn status_of(transaction: &Transaction) -> StatusCode {
    match transaction.phase {
        Phase::Ended(_) => StatusCode::OK,
        Phase::Running | Phase::ToBeRetried => StatusCode::ACCEPTED,
    }
}

/// The transaction; and where and when to look again, if it goes on.
fn respond(id: Lsn, status: StatusCode, json: Vec<u8>) -> Response {
    let response = Response::json(status, json);
    if status != StatusCode::ACCEPTED {
        return response;
    }
    let location = HeaderValue::try_from(format!("/transactions/{id}"));
    response
        .header(LOCATION, location.expect("a path of letters and digits"))
        .header(RETRY_AFTER, HeaderValue::from(TRANSACTION_RETRY_AFTER_S))
}

async fn remembered(context: &Context, id: Lsn) -> Result<Transaction, Problem> {
    let found = context.engine.transaction(id).await?;
    Ok(found.ok_or(Rejection::TransactionUnknown)?)
}

/// The transaction that the path names; one spelling for each.
fn named(request: &Request) -> Result<Lsn, Problem> {
    let text = request.parameter();
    let id = text.parse().ok().map(Lsn).filter(|id| id.to_string() == text);
    id.ok_or_else(|| Rejection::TransactionUnknown.into())
}

#[cfg(test)]
mod tests;
