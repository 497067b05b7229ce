//! The calls that look at the partner nodes: where a group is, and how the nodes are doing.
//!
//! Where a group is is asked of all nodes at once, now; what was seen last would say nothing of
//! what somebody else has done since. A node that is left alone because it has failed too often
//! is left alone by this, too.

use std::fmt;
use std::future::{Future, poll_fn};
use std::task::Poll;

use hyper::StatusCode;

use crate::engine::releases::{Presence, Sight};
use crate::http::Context;
use crate::http::problem::{Kind, Problem};
use crate::http::releases::{configured, fault_of_group};
use crate::http::render::{Object, array, quoted, scalar, seconds};
use crate::http::request::Request;
use crate::http::response::Response;
use crate::ids::{GroupId, Lsn};
use crate::outbound::breaker::{Admission, BreakerState};
use crate::outbound::nodes::health::NodeView;
use crate::workers::courier::Releasing;

/// `GET /groups/{id}`: on which nodes a group is.
pub(super) async fn group(context: &Context, request: Request) -> Result<Response, Problem> {
    let text = request.parameter();
    let group: GroupId = text.parse().map_err(|_| {
        Problem::new(Kind::BadRequest, format!("the group's name {}", fault_of_group(text)))
    })?;
    let releasing = configured(context)?;
    let sights = look(releasing, &group).await;
    let holder = context.engine.group_holder(&group).await?;
    Ok(Response::json(StatusCode::OK, group_json(releasing, &group, &sights, holder)))
}

/// What each node tells of a group, in their order. Takes as long as the slowest of them.
async fn look(releasing: &Releasing, group: &GroupId) -> Vec<Sight> {
    let nodes = releasing.partners.nodes.iter();
    let mut looks: Vec<_> =
        nodes.map(|url| (Box::pin(look_at(releasing, url, group)), None)).collect();
    poll_fn(|cx| {
        for (look, seen) in &mut looks {
            if seen.is_none()
                && let Poll::Ready(sight) = look.as_mut().poll(cx)
            {
                *seen = Some(sight);
            }
        }
        let sights: Option<Vec<Sight>> = looks.iter().map(|(_, seen)| seen.clone()).collect();
        sights.map_or(Poll::Pending, Poll::Ready)
    })
    .await
}

async fn look_at(releasing: &Releasing, url: &str, group: &GroupId) -> Sight {
    match releasing.courier.admit(url) {
        Admission::Refused { .. } => Sight::Shunned { again_ms: 0 },
        Admission::Call | Admission::Probe => {
            releasing.courier.look(url, group, releasing.partners.deadline_ms).await
        }
    }
}

fn group_json(
    releasing: &Releasing,
    group: &GroupId,
    sights: &[Sight],
    holder: Option<Lsn>,
) -> Vec<u8> {
    let mut json = Vec::new();
    let mut object = Object::open(&mut json);
    scalar(object.member("groupId"), group.as_str());
    let nodes = releasing.partners.nodes.iter().zip(sights);
    array(object.member("nodes"), nodes, |out, (url, sight)| {
        let mut object = Object::open(out);
        scalar(object.member("url"), &**url);
        scalar(object.member("present"), &told(sight).map(|it| it == Presence::Present));
        match sight {
            Sight::Told(_) => {}
            Sight::Unseen { reason, .. } => scalar(object.member("error"), &**reason),
            Sight::Shunned { .. } => {
                let left_alone = "it has failed too often and is left alone for a while";
                scalar(object.member("error"), left_alone);
            }
        }
        object.close();
    });
    scalar(object.member("agree"), &agree(sights));
    match holder {
        Some(id) => quoted(object.member("transaction"), id),
        None => object.member("transaction").extend_from_slice(b"null"),
    }
    object.close();
    json
}

fn told(sight: &Sight) -> Option<Presence> {
    match sight {
        Sight::Told(presence) => Some(*presence),
        Sight::Unseen { .. } | Sight::Shunned { .. } => None,
    }
}

/// Whether all nodes tell the same; `None` when that hangs on one that does not tell.
fn agree(sights: &[Sight]) -> Option<bool> {
    let mut known = sights.iter().filter_map(told);
    let first = known.next();
    match known.all(|presence| Some(presence) == first) {
        false => Some(false),
        true if sights.iter().any(|sight| told(sight).is_none()) => None,
        true => Some(true),
    }
}

/// `GET /nodes`: how the nodes are doing, as far as calls since the start have told.
pub(super) async fn list(context: &Context, _request: Request) -> Result<Response, Problem> {
    let views = context.node_health.view(context.engine.uptime());
    let mut json = Vec::new();
    let mut object = Object::open(&mut json);
    array(object.member("nodes"), &views, node_json);
    object.close();
    Ok(Response::json(StatusCode::OK, json))
}

fn node_json(out: &mut Vec<u8>, view: &NodeView) {
    let mut object = Object::open(out);
    scalar(object.member("url"), &view.url);
    scalar(object.member("configured"), &view.index.is_some());
    scalar(object.member("breaker"), breaker_name(view.breaker));
    seconds_or_null(object.member("latency_s"), view.latency_ms);
    seconds_or_null(object.member("average_s"), view.latency_average_ms);
    scalar(object.member("calls"), &view.calls);
    scalar(object.member("failures"), &view.failures);
    scalar(object.member("failures_in_row"), &view.failures_in_row);
    let last_error = view.last_error.as_ref();
    scalar(object.member("last_error"), &last_error.map(|error| &error.text));
    quoted_or_null(object.member("last_error_at"), last_error.map(|error| error.at));
    quoted_or_null(object.member("last_success_at"), view.last_success);
    object.close();
}

fn breaker_name(state: BreakerState) -> &'static str {
    match state {
        BreakerState::Closed => "closed",
        BreakerState::Open { .. } => "open",
        BreakerState::HalfOpen => "half_open",
    }
}

fn seconds_or_null(out: &mut Vec<u8>, ms: Option<u64>) {
    match ms {
        Some(ms) => seconds(out, ms),
        None => out.extend_from_slice(b"null"),
    }
}

fn quoted_or_null(out: &mut Vec<u8>, value: Option<impl fmt::Display>) {
    match value {
        Some(value) => quoted(out, value),
        None => out.extend_from_slice(b"null"),
    }
}

#[cfg(test)]
mod tests;
