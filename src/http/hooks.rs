//! The calls under `/hooks`: subscribe, look at, rotate, ping, delete; and what was delivered.
//!
//! A hook's secret is shown once, in the answer that makes it. Whoever repeats the request under
//! its key gets that answer again.

mod deliveries;
mod render;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use hyper::header::{HeaderName, HeaderValue, LOCATION};
use tokio::time::{Instant, timeout_at};

pub(super) use deliveries::{delivery, list as deliveries, redeliver};

use crate::engine::command::Rejection;
use crate::engine::hooks::{DeliveryPhase, NewHook};
use crate::engine::hooks::{Event, Events, HookSecret};
use crate::http::Context;
use crate::http::formulas::{key_of, mark_replayed, unless_key_reused};
use crate::http::keys::RequestDigest;
use crate::http::members::Members;
use crate::http::problem::{Fault, Kind, Place, Problem};
use crate::http::request::Request;
use crate::http::response::Response;
use crate::ids::{Lsn, MessageId};
use crate::limits::{
    FAULTS_MAX, HOOK_BODY_BYTES_MAX, HOOK_EVENTS_MAX, HOOK_LOOKUP_MS, HOOK_OVERLAP_MS_DEFAULT,
    HOOK_OVERLAP_MS_MAX, HOOK_PING_WAIT_MS_MAX, HOOK_SECRET_MADE_BYTES, HOOK_SECRET_TEXT_BYTES_MAX,
    HOOK_URL_BYTES_MAX,
};
use crate::outbound::signature::Secret;
use crate::outbound::target::{Target, UrlFault};

/// The route's name in the digest of a keyed request.
const ROUTE: &str = "POST /hooks";
const PREFER: HeaderName = HeaderName::from_static("prefer");
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// Makes secrets. Cheap to clone.
#[derive(Clone)]
pub struct SecretSource {
    draw: Draw,
    /// What the operator has named for answers to single requests.
    own: Option<Secret>,
}

type Draw = Arc<dyn Fn() -> Option<[u8; HOOK_SECRET_MADE_BYTES]> + Send + Sync>;

impl SecretSource {
    /// Makes them by `draw`, which gives bytes that nobody can guess; `None` when the system has
    /// none to give. `own` is what the operator has named for answers to single requests.
    #[must_use]
    pub fn new(
        draw: impl Fn() -> Option<[u8; HOOK_SECRET_MADE_BYTES]> + Send + Sync + 'static,
        own: Option<Secret>,
    ) -> SecretSource {
        SecretSource { draw: Arc::new(draw), own }
    }

    fn draw(&self) -> Result<Secret, Problem> {
        let bytes = (self.draw)().ok_or_else(|| {
            Problem::new(Kind::Internal, "the system has no randomness to make a secret of")
        })?;
        Ok(Secret::shared(&bytes).expect("as long as a secret must be"))
    }
}

impl fmt::Debug for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretSource(..)")
    }
}

/// `POST /hooks`: subscribes.
pub(super) async fn create(context: &Context, mut request: Request) -> Result<Response, Problem> {
    let key = key_of(context, &request)?;
    let body = request.body(HOOK_BODY_BYTES_MAX).await?;
    let digest = RequestDigest::of(ROUTE, request.query_text(), &body);
    let key = key.map(|key| key.of_request(request.caller().name(), digest));
    let (url, events, secret) = match read(context, &body).await {
        Ok(read) => read,
        Err(problem) => return Err(unless_key_reused(context, key.as_ref(), problem).await),
    };
    let secret = match secret {
        Some(secret) => secret,
        None => context.secrets.draw()?,
    };
    let hook = NewHook { url, events, secret: HookSecret::from(&secret), key };
    let created = context.engine.create_hook(hook).await?;
    tracing::info!(hook = %created.id, "a hook was made");
    let location = HeaderValue::try_from(format!("/hooks/{}", created.id));
    let response = Response::json(StatusCode::CREATED, render::created(&created))
        .header(LOCATION, location.expect("a path of letters and digits"));
    Ok(mark_replayed(response, created.answer))
}

/// What a request for a hook says, if all of it can be used.
async fn read(
    context: &Context,
    body: &[u8],
) -> Result<(Box<str>, Events, Option<Secret>), Problem> {
    let mut members = Members::parse(body)?;
    members.require("url");
    let url = members.string("url", HOOK_URL_BYTES_MAX);
    let events = members.strings("events", 1..=HOOK_EVENTS_MAX).map(|names| {
        let known = "is no event: GET /hooks lists their names; formula.* and * stand for several";
        members.parse_items::<Events>("events", &names, known)
    });
    let secret = members.string("secret", HOOK_SECRET_TEXT_BYTES_MAX);
    let mut faults = members.into_faults();
    if let Some(url) = &url
        && let Err(fault) = check_url(context, url).await
    {
        faults.push(fault_at("/url", fault.to_string()));
    }
    let secret = secret.map(|text| Secret::parse(&text)).transpose();
    match (url, secret) {
        (Some(url), Ok(secret)) if faults.is_empty() => Ok((url, union(events), secret)),
        (_, secret) => {
            faults.extend(secret.err().map(|fault| fault_at("/secret", fault.to_string())));
            let unlisted = faults.len().saturating_sub(FAULTS_MAX);
            faults.truncate(FAULTS_MAX);
            Err(Problem::invalid(Kind::InvalidBody, &faults, unlisted))
        }
    }
}

fn fault_at(pointer: &'static str, detail: String) -> Fault {
    Fault { place: Place::Pointer(pointer.into()), detail: detail.into() }
}

/// All that are named; all there are, if none is.
fn union(named: Option<Vec<Events>>) -> Events {
    let all = || Event::NAMES.map(|(event, _)| event);
    let mut events = Events::default();
    match named {
        None => all().into_iter().for_each(|event| events.add(event)),
        Some(sets) => {
            let is_named = |event: &Event| sets.iter().any(|set| set.contains(*event));
            all().into_iter().filter(is_named).for_each(|event| events.add(event));
        }
    }
    events
}

/// Whether a URL may be called, as far as can be found out in time. Each call looks again, so a
/// name server that is slow now is no reason to refuse.
async fn check_url(context: &Context, url: &str) -> Result<(), UrlFault> {
    let target = Target::parse(url)?;
    match context.strangers.resolve(&target, HOOK_LOOKUP_MS).await {
        Err(UrlFault::LookupTimedOut) => Ok(()),
        found => found,
    }
}

/// `GET /hooks`: all subscriptions, and the events that there are.
pub(super) async fn list(context: &Context, _request: Request) -> Result<Response, Problem> {
    let hooks = context.engine.hooks().await?;
    Ok(Response::json(StatusCode::OK, render::hooks(&hooks)))
}

/// `GET /hooks/{id}`: one subscription.
pub(super) async fn get(context: &Context, request: Request) -> Result<Response, Problem> {
    let id = named(&request)?;
    let hook = context.engine.hook(id).await?;
    Ok(Response::json(StatusCode::OK, render::hook(id, &hook)))
}

/// `GET /hooks/own-secret`: what answers to single requests are signed with; made now, if the
/// operator has named none and none was needed yet.
pub(super) async fn own_secret(context: &Context, _: Request) -> Result<Response, Problem> {
    let own = match &context.secrets.own {
        Some(own) => own.clone(),
        None => {
            let fresh = HookSecret::from(&context.secrets.draw()?);
            let kept = context.engine.own_secret(fresh).await?;
            Secret::try_from(&kept)
                .map_err(|_| Problem::new(Kind::Internal, "the stored secret is none of ours"))?
        }
    };
    Ok(Response::json(StatusCode::OK, render::own_secret(&own)))
}

/// `DELETE /hooks/{id}`: calls it no more.
pub(super) async fn delete(context: &Context, request: Request) -> Result<Response, Problem> {
    let id = named(&request)?;
    context.engine.delete_hook(id).await?;
    tracing::info!(hook = %id, "a hook was deleted");
    Ok(Response::new(StatusCode::NO_CONTENT))
}

/// `POST /hooks/{id}/secret`: another secret; for a while the one before is used, too.
pub(super) async fn rotate(context: &Context, mut request: Request) -> Result<Response, Problem> {
    let id = named(&request)?;
    let body = request.body(HOOK_BODY_BYTES_MAX).await?;
    let mut members = Members::parse(&body)?;
    let secret = members.string("secret", HOOK_SECRET_TEXT_BYTES_MAX);
    let overlap_ms = members.seconds_ms("overlap_s", 0..=HOOK_OVERLAP_MS_MAX);
    let mut faults = members.into_faults();
    let secret = match secret.map(|text| Secret::parse(&text)).transpose() {
        Ok(secret) => secret,
        Err(fault) => {
            faults.push(fault_at("/secret", fault.to_string()));
            None
        }
    };
    if !faults.is_empty() {
        return Err(Problem::invalid(Kind::InvalidBody, &faults, 0));
    }
    let secret = match secret {
        Some(secret) => secret,
        None => context.secrets.draw()?,
    };
    let overlap_ms = overlap_ms.unwrap_or(HOOK_OVERLAP_MS_DEFAULT);
    context.engine.change_hook_secret(id, HookSecret::from(&secret), overlap_ms).await?;
    tracing::info!(hook = %id, overlap_ms, "a hook has a new secret");
    Ok(Response::json(StatusCode::OK, render::rotated(id, &secret, overlap_ms)))
}

/// `POST /hooks/{id}/ping`: calls it, and says what came of it.
pub(super) async fn ping(context: &Context, request: Request) -> Result<Response, Problem> {
    let wish_s = wish(&request)?;
    // What is said to be applied is what is applied.
    let wish_s = wish_s.map(|s| s.min(HOOK_PING_WAIT_MS_MAX / 1000));
    let wait_ms = wish_s.map_or(HOOK_PING_WAIT_MS_MAX, |s| s * 1000);
    let ends = Instant::now() + Duration::from_millis(wait_ms);
    let id = context.engine.ping_hook(named(&request)?).await?;
    let ended = async {
        loop {
            // Made before the look, so that no outcome in between is missed.
            let settled = context.engine.next_settled_delivery();
            let mut settled = std::pin::pin!(settled);
            settled.as_mut().enable();
            if is_over(context, id).await? {
                return Ok::<(), Rejection>(());
            }
            tokio::select! {
                () = settled => {}
                () = context.shutdown.draining() => std::future::pending().await,
            }
        }
    };
    let draining = async {
        context.shutdown.draining().await;
    };
    let status = tokio::select! {
        ended = timeout_at(ends, ended) => match ended {
            Ok(over) => over.map(|()| StatusCode::OK)?,
            Err(_) => StatusCode::ACCEPTED,
        },
        () = draining => StatusCode::ACCEPTED,
    };
    let response = deliveries::standing(context, status, id).await?;
    Ok(match wish_s {
        None => response,
        Some(s) => {
            let applied = HeaderValue::try_from(format!("wait={s}"));
            response.header(PREFERENCE_APPLIED, applied.expect("digits"))
        }
    })
}

async fn is_over(context: &Context, id: MessageId) -> Result<bool, Rejection> {
    let view = context.engine.delivery(id).await?;
    Ok(view.is_none_or(|view| view.phase != DeliveryPhase::Waiting))
}

/// The seconds that the caller is ready to wait, if he says so.
fn wish(request: &Request) -> Result<Option<u64>, Problem> {
    let Some(value) = request.header_once(&PREFER)? else { return Ok(None) };
    let text = value.to_str().unwrap_or_default();
    let waits = text.split([',', ';']).filter_map(|part| part.trim().strip_prefix("wait="));
    // RFC 7240: a preference that is not understood is not there.
    Ok(waits.filter_map(|seconds| seconds.trim_matches('"').parse().ok()).next())
}

/// The hook that the path names.
fn named(request: &Request) -> Result<Lsn, Problem> {
    number(request).ok_or_else(|| Rejection::HookUnknown.into())
}

/// The number that the path names; one spelling for each.
fn number(request: &Request) -> Option<Lsn> {
    let text = request.parameter();
    text.parse().ok().map(Lsn).filter(|lsn| *lsn > Lsn::ZERO && lsn.to_string() == text)
}
