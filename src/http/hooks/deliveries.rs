//! What was delivered, what waits to be, and what has failed for good.

use hyper::StatusCode;
use hyper::header::{HeaderValue, LINK, LOCATION};

use super::{number, render};
use crate::engine::command::Rejection;
use crate::engine::hooks::DeliveryPhase;
use crate::engine::hooks::Recipient;
use crate::http::Context;
use crate::http::paging::{Cursor, Page, Pushed, Rows, next_link};
use crate::http::problem::Problem;
use crate::http::request::Request;
use crate::http::response::Response;
use crate::ids::{Lsn, MessageId};
use crate::limits::{HOOK_SCAN_MAX, PAGE_MAX};

/// Which deliveries a list is to show.
struct Filter {
    phase: Option<DeliveryPhase>,
    hook: Option<Recipient>,
}

/// `GET /hooks/deliveries`: a page of deliveries, in the order in which they came to be owed.
pub(in crate::http) async fn list(
    context: &Context,
    request: Request,
) -> Result<Response, Problem> {
    let query = request.query();
    let page = Page::read(query.get("limit"), query.get("after"))?;
    let filter = Filter { phase: phase(query.get("state"))?, hook: hook(query.get("hook"))? };
    let rows = Rows::open("deliveries", request.page_charge());
    let (rows, next) = fill(rows, context, page, &filter).await?;
    let response = rows.close(next);
    let Some(next) = next else { return Ok(response) };
    let parameters = ["hook", "state", "limit"].map(|name| (name, query.get(name)));
    let link = HeaderValue::try_from(next_link("/hooks/deliveries", &parameters, next));
    Ok(response.header(LINK, link.expect("a percent-encoded query is plain ASCII")))
}

/// Fills a page; gives the cursor behind it. A filter may leave it empty and yet not at the end.
async fn fill(
    mut rows: Rows,
    context: &Context,
    page: Page,
    filter: &Filter,
) -> Result<(Rows, Option<Cursor>), Problem> {
    let mut after = page.after.map(|cursor| MessageId(Lsn(cursor.0)));
    let mut seen = 0;
    loop {
        // One more than is shown tells whether there is a next page.
        let wanted = if filter.hook.is_some() { PAGE_MAX } else { page.limit - rows.count() + 1 };
        let views = context.engine.deliveries(filter.phase, after, wanted).await?;
        for view in &views {
            if rows.count() == page.limit || seen == HOOK_SCAN_MAX {
                return Ok((rows, after.map(|id| Cursor(id.0.0))));
            }
            seen += 1;
            let call = context.engine.owed_call(view.id).await?;
            if filter.hook.is_none_or(|hook| hook == call.owed.to)
                && rows.push(|json| render::delivery(json, view, &call))? == Pushed::Full
            {
                return Ok((rows, after.map(|id| Cursor(id.0.0))));
            }
            after = Some(view.id);
        }
        if views.len() < wanted {
            return Ok((rows, None));
        }
    }
}

/// `GET /hooks/deliveries/{id}`: one delivery.
pub(in crate::http) async fn delivery(
    context: &Context,
    request: Request,
) -> Result<Response, Problem> {
    let id = named(&request)?;
    Ok(Response::json(StatusCode::OK, json(context, id).await?))
}

/// `POST /hooks/deliveries/{id}/redeliver`: makes it once more, under the same `webhook-id`.
pub(in crate::http) async fn redeliver(
    context: &Context,
    request: Request,
) -> Result<Response, Problem> {
    let id = named(&request)?;
    context.engine.redeliver(id).await?;
    standing(context, StatusCode::ACCEPTED, id).await
}

/// A delivery as it stands, and where to ask again.
pub(super) async fn standing(
    context: &Context,
    status: StatusCode,
    id: MessageId,
) -> Result<Response, Problem> {
    let location = HeaderValue::try_from(format!("/hooks/deliveries/{id}"));
    let location = location.expect("a path of letters and digits");
    Ok(Response::json(status, json(context, id).await?).header(LOCATION, location))
}

/// A delivery as it stands.
async fn json(context: &Context, id: MessageId) -> Result<Vec<u8>, Problem> {
    let view = context.engine.delivery(id).await?.ok_or(Rejection::DeliveryUnknown)?;
    let call = context.engine.owed_call(id).await?;
    let mut json = Vec::new();
    render::delivery(&mut json, &view, &call);
    Ok(json)
}

fn named(request: &Request) -> Result<MessageId, Problem> {
    number(request).map(MessageId).ok_or_else(|| Rejection::DeliveryUnknown.into())
}

fn phase(text: Option<&str>) -> Result<Option<DeliveryPhase>, Problem> {
    let phases = [DeliveryPhase::Waiting, DeliveryPhase::Delivered, DeliveryPhase::Dead];
    let Some(text) = text else { return Ok(None) };
    match phases.into_iter().find(|phase| render::phase_name(*phase) == text) {
        Some(phase) => Ok(Some(phase)),
        None => Err(Problem::parameter("state", "must be waiting, delivered or dead")),
    }
}

fn hook(text: Option<&str>) -> Result<Option<Recipient>, Problem> {
    match text.map(str::parse) {
        None => Ok(None),
        Some(Ok(id)) => Ok(Some(Recipient::Hook(Lsn(id)))),
        Some(Err(_)) => Err(Problem::parameter("hook", "is no hook's id")),
    }
}
