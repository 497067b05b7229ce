//! The calls under `/crypto`: have a text sealed, ask how it stands, verify a signature.
//!
//! Whoever asks for a seal is answered within two seconds: with the signature if it is there by
//! then, else with a promise. The clock starts when the request is whole. All that the answer
//! waits for (a look-up of a name, the log, the authority) has to be done by then, and what is
//! not is left to go on without the caller.

mod render;

use std::borrow::Cow;
use std::future::Future;
use std::time::Duration;

use hyper::StatusCode;
use hyper::header::{HeaderValue, LOCATION, RETRY_AFTER};
use tokio::time::{Instant, timeout_at};

use crate::engine::command::Answer;
use crate::engine::command::seals::{FirstAnswer, Outlook, Purpose, SealStanding, SealWish};
use crate::engine::waiters::{Leave, SealWaiter, Waited};
use crate::http::Context;
use crate::http::formulas::{key_of, mark_replayed, unless_key_reused};
use crate::http::keys::RequestDigest;
use crate::http::members::Members;
use crate::http::problem::{Fault, Kind, Place, Problem};
use crate::http::request::Request;
use crate::http::response::{CONTENT_TYPE_JSON, Response};
use crate::ids::Lsn;
use crate::limits::{
    ENQUIRY_ANSWER_MS, OVERLOAD_RETRY_AFTER_S, SEAL_ANSWER_LATEST_MS, SEAL_ANSWER_MS,
    SEAL_BODY_BYTES_MAX, SEAL_LOOKUP_MS, SEAL_TEXT_BYTES_MAX, SIGNATURE_BYTES_MAX,
};
use crate::outbound::authority::CallOutcome;
use crate::outbound::target::{Target, UrlFault};
use crate::workers::enquiries::{NoAnswer, enquire};
use crate::workers::signatory::{Sealing, Verdict};

/// The route's name in the digest of a keyed request.
const ROUTE: &str = "POST /crypto/sign";

/// `GET /crypto/sign`: has the text of the query sealed.
pub(super) async fn sign_query(context: &Context, request: Request) -> Result<Response, Problem> {
    let sealing = configured(context)?;
    let ends = Ends::from_now();
    let text = |name| request.query().get(name).map(Box::from);
    let asked = Asked { text: text("message"), webhook_url: text("webhook_url"), faults: vec![] };
    let (text, webhook_url) = asked.check(context, Place::Parameter).await?;
    let wish = SealWish { text, webhook_url, key: None, limit: sealing.limit };
    answer(context, wish, &ends).await
}

/// `POST /crypto/sign`: has the text of the body sealed.
pub(super) async fn sign_body(
    context: &Context,
    mut request: Request,
) -> Result<Response, Problem> {
    let sealing = configured(context)?;
    let key = key_of(context, &request)?;
    let body = request.body(SEAL_BODY_BYTES_MAX).await?;
    let ends = Ends::from_now();
    let digest = RequestDigest::of(ROUTE, request.query_text(), &body);
    let key = key.map(|key| key.of_request(request.caller().name(), digest));
    let _turn = match &key {
        Some(key) => Some(ends.bound(context.engine.take_turn(key)).await?),
        None => None,
    };
    match read(context, &body).await {
        Ok((text, webhook_url)) => {
            let wish = SealWish { text, webhook_url, key, limit: sealing.limit };
            answer(context, wish, &ends).await
        }
        Err(problem) => Err(ends.bound(unless_key_reused(context, key.as_ref(), problem)).await?),
    }
}

async fn read(context: &Context, body: &[u8]) -> Result<(Box<str>, Option<Box<str>>), Problem> {
    let mut members = Members::parse(body)?;
    let text = members.nullable_string("message", SEAL_BODY_BYTES_MAX);
    let webhook_url = members.nullable_string("webhook_url", SEAL_BODY_BYTES_MAX);
    let asked = Asked { text, webhook_url, faults: members.into_faults() };
    let pointer = |name: Cow<'static, str>| Place::Pointer(format!("/{name}").into());
    asked.check(context, pointer).await
}

/// What a request asks for, before it is checked.
struct Asked {
    text: Option<Box<str>>,
    webhook_url: Option<Box<str>>,
    faults: Vec<Fault>,
}

impl Asked {
    /// The text and the URL to call, if both can be used; else all that is wrong.
    async fn check(
        self,
        context: &Context,
        place: impl Fn(Cow<'static, str>) -> Place,
    ) -> Result<(Box<str>, Option<Box<str>>), Problem> {
        let Asked { text, webhook_url, mut faults } = self;
        let has_fault = |faults: &[Fault], at: &Place| faults.iter().any(|it| it.place == *at);
        let mut note = |name: &'static str, detail: Cow<'static, str>| {
            let place = place(name.into());
            if !has_fault(&faults, &place) {
                faults.push(Fault { place, detail });
            }
        };
        match text.as_deref().map(str::len) {
            None => note("message", "is missing".into()),
            Some(0) => note("message", "is empty".into()),
            Some(len) if len > SEAL_TEXT_BYTES_MAX => {
                note("message", format!("is {len} bytes, at most {SEAL_TEXT_BYTES_MAX}").into());
            }
            Some(_) => {}
        }
        if let Some(url) = &webhook_url
            && let Err(fault) = check_url(context, url).await
        {
            note("webhook_url", fault.to_string().into());
        }
        match text {
            Some(text) if faults.is_empty() => Ok((text, webhook_url)),
            _ => Err(Problem::invalid(Kind::InvalidSeal, &faults, 0)),
        }
    }
}

/// Whether a URL may be called, as far as can be found out in time. Each call looks again, so a
/// name server that is slow now is no reason to refuse.
async fn check_url(context: &Context, url: &str) -> Result<(), UrlFault> {
    let target = Target::parse(url)?;
    match context.strangers.resolve(&target, SEAL_LOOKUP_MS).await {
        Err(UrlFault::LookupTimedOut) => Ok(()),
        found => found,
    }
}

/// Asks for the seal, and answers with it or with a promise.
async fn answer(context: &Context, wish: SealWish, ends: &Ends) -> Result<Response, Problem> {
    let ticket = ends.bound(context.engine.request_seal(wish)).await??;
    let sealed = match (&ticket.first, ticket.answer) {
        (FirstAnswer::Sealed(signature), _) => Some(signature.clone()),
        (FirstAnswer::Waits(_), Answer::Replayed) => None,
        (FirstAnswer::Waits(_), Answer::First) => wait(context, ticket.id, ends).await,
    };
    let response = match (sealed, &ticket.first) {
        (Some(signature), _) => {
            context.metrics.seals.note_sealed();
            Response::json(StatusCode::OK, render::sealed(&ticket, &signature))
        }
        (None, FirstAnswer::Waits(outlook)) => {
            context.metrics.seals.note_pending();
            pending(ticket.id, *outlook, render::pending(&ticket, *outlook))
        }
        (None, FirstAnswer::Sealed(_)) => unreachable!("what is sealed has a signature"),
    };
    Ok(mark_replayed(response, ticket.answer))
}

/// Waits for the seal of a request; `None` when it is not there in time.
async fn wait(context: &Context, request: Lsn, ends: &Ends) -> Option<Box<str>> {
    let mut waiter = context.engine.wait_for_seal(request);
    // Settled before we came: nobody will look for us any more.
    if context.engine.seal_waits(request) {
        match timeout_at(ends.at, waiter.wait()).await {
            Ok(Waited::Sealed(signature)) => return Some((*signature).into()),
            Ok(Waited::Dismissed) => return None,
            Err(_) => {}
        }
    }
    leave(&mut waiter, ends).await
}

/// Leaves; or waits a little longer for a seal that is just being recorded as given to us.
async fn leave(waiter: &mut SealWaiter, ends: &Ends) -> Option<Box<str>> {
    match waiter.leave() {
        Leave::Left => None,
        Leave::Answered(signature) => Some((*signature).into()),
        Leave::Claimed => match timeout_at(ends.latest, waiter.wait()).await {
            Ok(Waited::Sealed(signature)) => Some((*signature).into()),
            Ok(Waited::Dismissed) | Err(_) => None,
        },
    }
}

/// A promise, and where and when to ask again.
fn pending(request: Lsn, outlook: Outlook, json: Vec<u8>) -> Response {
    let location = HeaderValue::try_from(format!("/crypto/requests/{request}"));
    Response::json(StatusCode::ACCEPTED, json)
        .header(LOCATION, location.expect("a path of letters and digits"))
        .header(RETRY_AFTER, HeaderValue::from(outlook.eta_s.max(1)))
}

/// `GET /crypto/requests/{id}`: how a request for a seal stands.
pub(super) async fn standing(context: &Context, request: Request) -> Result<Response, Problem> {
    let unknown = || Problem::new(Kind::SealRequestUnknown, "no request for a seal has this id");
    let id = match request.parameter().parse().map(Lsn) {
        // One spelling per number.
        Ok(id) if id > Lsn::ZERO && id.to_string() == request.parameter() => id,
        _ => return Err(unknown()),
    };
    let view = context.engine.seal_request(id).await?.ok_or_else(unknown)?;
    let json = render::view(&view);
    Ok(match view.standing {
        SealStanding::Waits(outlook) => pending(id, outlook, json),
        SealStanding::Sealed(_) | SealStanding::Failed => Response::json(StatusCode::OK, json),
    })
}

/// `GET /crypto/verify`: whether a signature of a text is the authority's.
pub(super) async fn verify(context: &Context, request: Request) -> Result<Response, Problem> {
    let sealing = configured(context)?;
    let ends = Instant::now() + Duration::from_millis(ENQUIRY_ANSWER_MS);
    let (text, signature) = to_verify(&request)?;
    if let Some(verdict) = sealing.signatory.verify_here(&text, &signature) {
        return Ok(verdict_response(verdict));
    }
    // What the authority gave us it will not take back. A call less.
    if context.engine.known_signature(&text).await?.as_deref() == Some(&*signature) {
        return Ok(verdict_response(Verdict::Valid));
    }
    let now = context.engine.now();
    let call = move |sealing: &Sealing| {
        let signatory = std::sync::Arc::clone(&sealing.signatory);
        async move { signatory.verify(&text, &signature, now).await }
    };
    let outcome = enquire(&context.engine, sealing, Purpose::Verify, ends, call).await;
    enquired(outcome).map(|is_valid| verdict_response(Verdict::from(is_valid)))
}

fn to_verify(request: &Request) -> Result<(Box<str>, Box<str>), Problem> {
    let bounds = [("message", SEAL_TEXT_BYTES_MAX), ("signature", SIGNATURE_BYTES_MAX)];
    let mut faults = Vec::new();
    let [text, signature] = bounds.map(|(name, bytes_max)| {
        let value = request.query().get(name).unwrap_or_default();
        let detail: Cow<'static, str> = match value.len() {
            0 => "is missing or empty".into(),
            len if len > bytes_max => format!("is {len} bytes, at most {bytes_max}").into(),
            _ => return Box::from(value),
        };
        faults.push(Fault { place: Place::Parameter(name.into()), detail });
        Box::from("")
    });
    match faults.is_empty() {
        true => Ok((text, signature)),
        false => Err(Problem::invalid(Kind::InvalidSeal, &faults, 0)),
    }
}

fn verdict_response(verdict: Verdict) -> Response {
    Response::json(StatusCode::OK, render::verdict(verdict))
}

/// `GET /crypto/`: whether the authority is there and accepts the key. Counts as a call.
pub(super) async fn probe(context: &Context, _request: Request) -> Result<Response, Problem> {
    let sealing = configured(context)?;
    let ends = Instant::now() + Duration::from_millis(ENQUIRY_ANSWER_MS);
    let now = context.engine.now();
    let call = move |sealing: &Sealing| {
        let signatory = std::sync::Arc::clone(&sealing.signatory);
        async move { signatory.probe(now).await }
    };
    let outcome = enquire(&context.engine, sealing, Purpose::Probe, ends, call).await;
    let status = enquired(outcome)?;
    let counts = context.engine.call_counts(&sealing.limit);
    Ok(Response::json(StatusCode::OK, render::probe(status, &sealing.limit, counts)))
}

/// `POST /crypto/test-webhook`: gives the body back, for trying out a `webhook_url`.
pub(super) async fn test_webhook(
    _context: &Context,
    mut request: Request,
) -> Result<Response, Problem> {
    let body = request.body(SEAL_BODY_BYTES_MAX).await?;
    tracing::info!(bytes = body.len(), "the test receiver was called");
    Ok(Response::new(StatusCode::OK).body(CONTENT_TYPE_JSON, body))
}

/// What the authority answered; or the problem that stands for its silence.
fn enquired<T>(outcome: Result<CallOutcome<T>, NoAnswer>) -> Result<T, Problem> {
    let closed = |detail, after_ms: u64| {
        Problem::new(Kind::AuthorityBusy, detail).retry_after(after_ms.div_ceil(1000).max(1))
    };
    Err(match outcome {
        Ok(CallOutcome::Done(answer)) => return Ok(answer),
        Ok(CallOutcome::Failed { reason, .. }) => {
            Problem::new(Kind::AuthorityFailed, format!("the authority: {reason}"))
        }
        Ok(CallOutcome::TooMany { retry_after_ms }) => {
            closed("the authority had too many calls", retry_after_ms.unwrap_or(0))
        }
        Ok(CallOutcome::Unauthorised) => {
            Problem::new(Kind::AuthorityFailed, "the authority does not accept the key")
        }
        Err(NoAnswer::Closed { opens_in_ms }) => {
            closed("the authority may not be called again yet", opens_in_ms)
        }
        Err(NoAnswer::Late) => {
            Problem::new(Kind::AuthorityLate, "the authority did not answer in time")
        }
        Err(NoAnswer::Refused(rejection)) => rejection.into(),
    })
}

fn configured(context: &Context) -> Result<&Sealing, Problem> {
    let detail = "no authority is configured: start the server with --seal-url and --seal-key";
    context.sealing.as_ref().ok_or_else(|| Problem::new(Kind::SealsUnavailable, detail))
}

/// When a caller has to be answered.
struct Ends {
    /// If he waits for the authority.
    at: Instant,
    /// If he waits for the log: his request, or his seal, is being recorded. Also for who waited
    /// for the first answer under his key, and now gets the same.
    latest: Instant,
}

impl Ends {
    fn from_now() -> Ends {
        let after = |ms| Instant::now() + Duration::from_millis(ms);
        Ends { at: after(SEAL_ANSWER_MS), latest: after(SEAL_ANSWER_LATEST_MS) }
    }

    /// What comes of this in time.
    async fn bound<T>(&self, done: impl Future<Output = T>) -> Result<T, Problem> {
        timeout_at(self.latest, done).await.map_err(|_| {
            let detail = "the log is slow: the request may or may not have been stored";
            Problem::new(Kind::OutcomeUnknown, detail)
                .member("outcome", *b"\"unknown\"")
                .retry_after(OVERLOAD_RETRY_AFTER_S)
        })
    }
}
