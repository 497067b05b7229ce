//! The calls under `/queues`: lease, settle, look at, redrive, purge.
//!
//! Bodies are small JSON objects that are read strictly, every fault at once (see
//! [`super::members`]). Only the queue `formulas` is leased from outside; the others belong to
//! the server's own workers and can be looked at, redriven and purged.

mod deliver;
mod settle;
mod wait;

use hyper::StatusCode;
use hyper::header::{HeaderValue, LINK};

pub(super) use settle::{ack, extend, nack};

use crate::engine::command::{LeaseRequest, MessagePhase, QueueStatus, Rejection, Selection};
use crate::http::Context;
use crate::http::members::Members;
use crate::http::paging::{self, Cursor, Page, Pushed, Rows, next_link};
use crate::http::problem::{Kind, Problem};
use crate::http::render::{self, Object};
use crate::http::request::Request;
use crate::http::response::Response;
use crate::ids::{Lsn, MessageId, QueueName};
use crate::limits::{
    LEASE_MESSAGES_MAX, LEASE_MS_DEFAULT, LEASE_MS_MAX, LEASE_MS_MIN, LEASE_WAIT_MS_MAX,
    REDRIVE_IDS_MAX, SETTLE_BYTES_MAX,
};

/// How a queue stands, now.
#[derive(Debug)]
pub(super) struct Standing {
    /// What it holds.
    pub(super) status: QueueStatus,
    /// Age of the message that waits the longest; `None` when none waits.
    pub(super) oldest_age_ms: Option<u64>,
}

/// `GET /queues`: how every queue stands.
pub(super) async fn list(context: &Context, _request: Request) -> Result<Response, Problem> {
    let standings = standings(context).await?;
    let mut json = Vec::new();
    let mut object = Object::open(&mut json);
    render::array(object.member("queues"), &standings, |out, standing| {
        render::queue(out, &standing.status, standing.oldest_age_ms);
    });
    object.close();
    Ok(Response::json(StatusCode::OK, json))
}

/// How every queue stands.
pub(super) async fn standings(context: &Context) -> Result<Vec<Standing>, Rejection> {
    let mut standings = Vec::new();
    for status in context.engine.queues().await? {
        standings.push(standing(context, status).await);
    }
    Ok(standings)
}

/// `GET /queues/{queue}`: how a queue stands.
pub(super) async fn status(context: &Context, request: Request) -> Result<Response, Problem> {
    let status = context.engine.queue(&named(&request)?).await?;
    let Standing { status, oldest_age_ms } = standing(context, status).await;
    let mut json = Vec::new();
    render::queue(&mut json, &status, oldest_age_ms);
    Ok(Response::json(StatusCode::OK, json))
}

async fn standing(context: &Context, mut status: QueueStatus) -> Standing {
    // The server's own workers have bounds of their own.
    match (status.name.as_str(), &context.sealing) {
        (QueueName::SEALS, Some(sealing)) => status.attempts_max = sealing.attempts_max,
        (QueueName::HOOKS, _) => status.attempts_max = context.hook_attempts_max,
        _ => {}
    }
    let mut oldest_age_ms = None;
    if let Some(oldest) = status.oldest {
        // A record that cannot be read is reported to those who lease it; it must not hide how
        // the queue stands.
        let message = context.engine.message(&status.name, oldest).await.ok().flatten();
        oldest_age_ms = message.map(|oldest| context.engine.now().since_ms(oldest.enqueued_at));
    }
    Standing { status, oldest_age_ms }
}

/// `POST /queues/{queue}/lease`: messages for one consumer, waited for if he wishes.
pub(super) async fn lease(context: &Context, mut request: Request) -> Result<Response, Problem> {
    let queue = leasable(context, &request).await?;
    let body = request.body(SETTLE_BYTES_MAX).await?;
    let mut members = Members::parse(&body)?;
    let messages_max = members.whole("max", 1..=LEASE_MESSAGES_MAX).unwrap_or(1);
    let lease_ms = members.seconds_ms("lease_s", LEASE_MS_MIN..=LEASE_MS_MAX);
    let lease_ms = lease_ms.unwrap_or(LEASE_MS_DEFAULT);
    let wait_ms = members.seconds_ms("wait_s", 0..=LEASE_WAIT_MS_MAX).unwrap_or(0);
    members.finish()?;
    let wish = LeaseRequest { queue, messages_max, lease_ms };
    let deliveries = wait::lease(context, &wish, wait_ms, &request.hangup()).await?;
    deliver::respond(context, wish.queue, deliveries, request.page_charge()).await
}

/// `GET /queues/{queue}/messages`: the messages in one state, without changing anything.
pub(super) async fn messages(context: &Context, request: Request) -> Result<Response, Problem> {
    let queue = named(&request)?;
    let query = request.query();
    let phase = phase(query.get("state"))?;
    let page = Page::read(query.get("limit"), query.get("after"))?;
    let rows = Rows::open("messages", request.page_charge());
    let (rows, next) = fill(rows, context, (&queue, phase), page).await?;
    let response = rows.close(next);
    let Some(next) = next else { return Ok(response) };
    let parameters = ["state", "limit"].map(|name| (name, query.get(name)));
    let link = next_link(&format!("/queues/{queue}/messages"), &parameters, next);
    let link = HeaderValue::try_from(link);
    Ok(response.header(LINK, link.expect("a percent-encoded query is plain ASCII")))
}

fn phase(text: Option<&str>) -> Result<MessagePhase, Problem> {
    match text {
        None | Some("ready") => Ok(MessagePhase::Ready),
        Some("leased") => Ok(MessagePhase::Leased),
        Some("delayed") => Ok(MessagePhase::Delayed),
        Some("dead") => Ok(MessagePhase::Dead),
        Some(_) => Err(Problem::parameter("state", "must be ready, leased, delayed or dead")),
    }
}

/// Fills a page with the messages of a queue that are in one phase; gives the cursor behind it.
/// It ends before a message that cannot be read back; a page that would begin with one is refused,
/// with the cursor that leads past it.
async fn fill(
    mut rows: Rows,
    context: &Context,
    (queue, phase): (&QueueName, MessagePhase),
    page: Page,
) -> Result<(Rows, Option<Cursor>), Problem> {
    let after = page.after.map(|cursor| MessageId(Lsn(cursor.0)));
    // One more than is shown tells whether there is a next page.
    let views = context.engine.peek(queue, phase, after, page.limit + 1).await?;
    let mut passed = 0;
    for view in views.iter().take(page.limit) {
        let cursor = Cursor(view.id.0.0);
        match context.engine.message(queue, view.id).await {
            Ok(Some(message)) => {
                if rows.push(|json| render::message_row(json, view, &message))? == Pushed::Full {
                    break;
                }
            }
            // Done or withdrawn since we looked.
            Ok(None) => {}
            Err(Rejection::Damaged(_)) if passed > 0 => break,
            Err(Rejection::Damaged(lsn)) => return Err(paging::damaged(lsn, cursor)),
            Err(rejection) => return Err(rejection.into()),
        }
        passed += 1;
    }
    let last = views[..passed].last().filter(|_| passed < views.len());
    let next = last.map(|view| Cursor(view.id.0.0));
    Ok((rows, next))
}

/// `POST /queues/{queue}/redrive`: puts dead letters back to ready.
pub(super) async fn redrive(context: &Context, request: Request) -> Result<Response, Problem> {
    let (queue, which) = dead_letters(request).await?;
    let moved = context.engine.redrive(queue, which).await?;
    Ok(count_response("moved", moved))
}

/// `DELETE /queues/{queue}/dead`: removes dead letters for good.
pub(super) async fn purge(context: &Context, request: Request) -> Result<Response, Problem> {
    let (queue, which) = dead_letters(request).await?;
    let purged = context.engine.purge(queue, which).await?;
    Ok(count_response("purged", purged))
}

/// The dead letters that a request is about: those of `ids`, or all when it names none.
async fn dead_letters(mut request: Request) -> Result<(QueueName, Selection), Problem> {
    let queue = named(&request)?;
    let body = request.body(SETTLE_BYTES_MAX).await?;
    let mut members = Members::parse(&body)?;
    let which = match members.strings("ids", 1..=REDRIVE_IDS_MAX) {
        None => Selection::All,
        Some(texts) => Selection::Ids(members.parse_items("ids", &texts, "is no message id")),
    };
    members.finish()?;
    Ok((queue, which))
}

fn count_response(name: &str, count: u64) -> Response {
    let mut json = Vec::new();
    let mut object = Object::open(&mut json);
    render::scalar(object.member(name), &count);
    object.close();
    Response::json(StatusCode::OK, json)
}

/// The queue that the path names.
fn named(request: &Request) -> Result<QueueName, Problem> {
    // A name that no queue can have is a name that no queue has.
    request.parameter().parse().map_err(|_| Rejection::QueueUnknown.into())
}

/// The queue that the path names, if it may be leased from outside.
async fn leasable(context: &Context, request: &Request) -> Result<QueueName, Problem> {
    let queue = named(request)?;
    if queue.as_str() == QueueName::FORMULAS {
        return Ok(queue);
    }
    context.engine.queue(&queue).await?;
    let detail = format!("the queue {queue} belongs to the server's own workers");
    Err(Problem::new(Kind::QueueReserved, detail))
}

#[cfg(test)]
mod tests;
