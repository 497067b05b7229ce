//! The calls under `/v1/group/`, which partner nodes take: served where this server plays one.
//!
//! The contract is that of the nodes which releases call, so what is there already is a 400 and
//! what is not there a 404. Keys are no names for whole requests here, as elsewhere, but numbers
//! in an order: see `record::call_key`. They are of one group, and nobody has to send one.

use hyper::StatusCode;
use hyper::header::{HeaderValue, LINK, LOCATION};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::engine::command::Answer;
use crate::engine::groups::{Action, CallKey, Effect, GroupCall, GroupReply, Presence};
use crate::http::Context;
use crate::http::formulas::{REPLAYED, mark_replayed};
use crate::http::keys::IdempotencyKey;
use crate::http::members::Members;
use crate::http::paging::{Page, Pushed, Rows, next_link};
use crate::http::problem::{Kind, Problem};
use crate::http::render::{self, Object};
use crate::http::request::Request;
use crate::http::response::Response;
use crate::ids::GroupId;
use crate::limits::{GROUP_BODY_BYTES_MAX, GROUP_ID_BYTES_MAX};

/// The path that all of these begin with.
const PATH: &str = "/v1/group/";
/// What a path segment may hold as it is.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// `POST /v1/group/`: creates a group.
pub(super) async fn create(context: &Context, request: Request) -> Result<Response, Problem> {
    let (group, reply) = call(context, request, Action::Create).await?;
    match reply.effect {
        Effect::Changed => {
            let path = format!("{PATH}{}/", utf8_percent_encode(group.as_str(), PLAIN));
            let location = HeaderValue::try_from(path).expect("percent-encoded");
            let response = Response::json(StatusCode::CREATED, json(&group));
            Ok(mark_replayed(response.header(LOCATION, location), reply.answer))
        }
        Effect::Nothing => {
            let problem = Problem::new(Kind::GroupExists, "a group of this name is here already");
            Err(again(problem, reply.answer))
        }
    }
}

/// `DELETE /v1/group/`: deletes a group.
pub(super) async fn delete(context: &Context, request: Request) -> Result<Response, Problem> {
    let (group, reply) = call(context, request, Action::Delete).await?;
    match reply.effect {
        Effect::Changed => {
            Ok(mark_replayed(Response::json(StatusCode::OK, json(&group)), reply.answer))
        }
        Effect::Nothing => Err(again(unknown(), reply.answer)),
    }
}

/// Has the engine carry out what the body asks for.
async fn call(
    context: &Context,
    mut request: Request,
    action: Action,
) -> Result<(GroupId, GroupReply), Problem> {
    let key = IdempotencyKey::of(request.headers())?;
    let key = key.map(|key| CallKey::of(&key.text()));
    let body = request.body(GROUP_BODY_BYTES_MAX).await?;
    let group = read(&body)?;
    let call = GroupCall { group: group.clone(), action, key };
    let reply = context.engine.change_group(call).await?;
    Ok((group, reply))
}

/// The group that a body names.
fn read(body: &[u8]) -> Result<GroupId, Problem> {
    let mut members = Members::parse(body)?;
    members.require("groupId");
    let group = members.parsed("groupId", GROUP_ID_BYTES_MAX, "is empty, `.`, `..` or not plain");
    members.finish()?;
    Ok(group.expect("a member that is required and without fault is there"))
}

/// `GET /v1/group/{id}/`: whether a group is here.
pub(super) async fn get(context: &Context, request: Request) -> Result<Response, Problem> {
    let group: GroupId = request.parameter().parse().map_err(|_| unknown())?;
    match context.engine.group_presence(&group).await? {
        Presence::Present => Ok(Response::json(StatusCode::OK, json(&group))),
        Presence::Absent => Err(unknown()),
    }
}

/// `GET /v1/group/`: a page of the groups that are here, in order of their names.
pub(super) async fn list(context: &Context, request: Request) -> Result<Response, Problem> {
    let query = request.query();
    let limit = Page::read(query.get("limit"), None)?.limit;
    let after = query.get("after").map(str::parse::<GroupId>).transpose();
    let after = after.map_err(|_| Problem::parameter("after", "must be the `next` of a page"))?;
    // One more than is shown tells whether there is a next page.
    let groups = context.engine.groups_here(after.as_ref(), limit + 1).await?;
    let mut rows = Rows::open("groups", request.page_charge());
    let mut last = None;
    for group in &groups {
        let is_shown = rows.count() < limit && rows.push(|out| row(out, group))? == Pushed::Shown;
        if !is_shown {
            break;
        }
        last = Some(group);
    }
    let next = last.filter(|_| rows.count() < groups.len());
    let response = rows.close(next);
    let Some(next) = next else { return Ok(response) };
    let link = next_link(PATH, &[("limit", query.get("limit"))], next);
    let link = HeaderValue::try_from(link).expect("a percent-encoded query is plain ASCII");
    Ok(response.header(LINK, link))
}

fn json(group: &GroupId) -> Vec<u8> {
    let mut json = Vec::new();
    row(&mut json, group);
    json
}

fn row(out: &mut Vec<u8>, group: &GroupId) {
    let mut object = Object::open(out);
    render::scalar(object.member("groupId"), group.as_str());
    object.close();
}

fn unknown() -> Problem {
    Problem::new(Kind::GroupUnknown, "no group of this name is here")
}

/// Says of a refusal that it is given again.
fn again(problem: Problem, answer: Answer) -> Problem {
    match answer {
        Answer::First => problem,
        Answer::Replayed => problem.with_header(REPLAYED, HeaderValue::from_static("true")),
    }
}

#[cfg(test)]
mod tests;
