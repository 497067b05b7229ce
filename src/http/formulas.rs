//! The calls under `/formulas`: submit, check, list, get, trail, withdraw.
//!
//! Submitting one formula is the hot path of the product: one body, one parse, one command,
//! one answer. Arrays are answered in [`super::batches`], streams in [`super::ndjson`].

use std::sync::Arc;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue, LINK, LOCATION};

use crate::engine::FormulaPage;
use crate::engine::command::{
    Accepted, Answer, FormulaRef, Rejection, RequestKey, StoredFormula, Submission,
};
use crate::engine::releases::FlowStep;
use crate::formula::{self, Formula, Invalid};
use crate::http::keys::{IdempotencyKey, RequestDigest};
use crate::http::paging::{self, Cursor, Page, Pushed, Rows, next_link};
use crate::http::problem::{Fault, Kind, Place, Problem, existing};
use crate::http::render::{self, Object};
use crate::http::request::{Query, Request};
use crate::http::response::Response;
use crate::http::{Context, KeyPolicy, batches, etag, ndjson, releases};
use crate::ids::Lsn;
use crate::limits::{BATCH_BYTES_MAX, BODY_BYTES_MAX, PAGE_STEP};

/// Says that an answer is given again under a spent key.
/// Says that an answer is given again.
pub(super) const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
/// The route's name in the digest of a keyed request.
pub(super) const ROUTE: &str = "POST /formulas";

/// `POST /formulas`: one formula, an array of them, or a stream of lines.
pub(super) async fn submit(context: &Context, mut request: Request) -> Result<Response, Problem> {
    let key = key_of(context, &request)?;
    let mode = batches::mode(request.query())?;
    if is_ndjson(request.headers()) {
        return Box::pin(ndjson::load(context, request, key, mode)).await;
    }
    let body = request.body(BATCH_BYTES_MAX).await?;
    let key = key.map(|key| key.of_request(request.caller().name(), digest(&request, &body)));
    if body.trim_ascii_start().starts_with(b"[") {
        return Box::pin(batches::submit(context, request, body, key, mode)).await;
    }
    let checked = match check_body(context, &mut request, body).await {
        Ok(checked) => checked,
        Err(problem) => return Err(unless_key_reused(context, key.as_ref(), problem).await),
    };
    let submission = Submission { formula: checked.formula, fingerprint: checked.fingerprint, key };
    match context.engine.accept(submission).await {
        Ok(accepted) => {
            note(&request, "formula accepted", &accepted.stored);
            Ok(created(&accepted))
        }
        Err(rejection) => {
            if let Rejection::Duplicate(existing) = &rejection {
                note(&request, "duplicate refused", existing);
            }
            Err(rejection.into())
        }
    }
}

/// Tells the operator which formula a request was about. By id and seq: what is in a formula is
/// nobody's business but its owner's.
fn note(request: &Request, what: &'static str, stored: &StoredFormula) {
    let (request_id, formula) = (request.id().as_str(), &stored.fingerprint);
    tracing::debug!(request_id, %formula, seq = stored.lsn.0, "{what}");
}

/// The key of a request that creates something, which the server may insist on.
pub(super) fn key_of(
    context: &Context,
    request: &Request,
) -> Result<Option<IdempotencyKey>, Problem> {
    let key = IdempotencyKey::of(request.headers())?;
    if key.is_none() && context.key_policy == KeyPolicy::Required {
        return Err(Problem::new(Kind::KeyMissing, "missing Idempotency-Key header"));
    }
    Ok(key)
}

/// The refusal of a body that cannot be accepted. If its key was spent on another request, that
/// comes first: mending the faults would not help.
pub(super) async fn unless_key_reused(
    context: &Context,
    key: Option<&RequestKey>,
    problem: Problem,
) -> Problem {
    let Some(key) = key else { return problem };
    match context.engine.is_key_reused(key).await {
        Ok(false) => problem,
        Ok(true) => Rejection::KeyReused.into(),
        Err(rejection) => rejection.into(),
    }
}

/// The digest that tells one keyed request from another.
fn digest(request: &Request, body: &[u8]) -> RequestDigest {
    RequestDigest::of(ROUTE, request.query_text(), body)
}

fn is_ndjson(headers: &HeaderMap) -> bool {
    let declared = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let media_type = declared.split(|byte| *byte == b';').next().unwrap_or_default();
    media_type.trim_ascii().eq_ignore_ascii_case(b"application/x-ndjson")
}

async fn check_body(
    context: &Context,
    request: &mut Request,
    body: Bytes,
) -> Result<formula::Checked, Problem> {
    // The body was read under the limit for arrays, before it was known to be none.
    if body.len() > BODY_BYTES_MAX {
        let detail = format!("a formula is at most {BODY_BYTES_MAX} bytes");
        return Err(Problem::new(Kind::BodyTooLarge, detail));
    }
    let rules = context.rules;
    let read = move |body: &[u8]| formula::parse(body, &rules);
    request.read(body, read).await.map_err(|invalid| refuse(&invalid))
}

/// The problem of a body that is no valid formula.
pub(super) fn refuse(invalid: &Invalid) -> Problem {
    let kind = if invalid.malformed { Kind::MalformedBody } else { Kind::InvalidFormula };
    Problem::invalid(kind, &faults(invalid, ""), invalid.unlisted)
}

/// The faults of a formula that stands at `prefix` in the body.
pub(super) fn faults(invalid: &Invalid, prefix: &str) -> Vec<Fault> {
    let fault = |fault: &formula::Fault| Fault {
        place: Place::Pointer(format!("{prefix}{}", fault.pointer).into()),
        detail: fault.kind.to_string().into(),
    };
    invalid.faults.iter().map(fault).collect()
}

fn created(accepted: &Accepted) -> Response {
    let stored = &accepted.stored;
    let mut location = Vec::with_capacity(80);
    render::formula_path(&mut location, &stored.fingerprint);
    let location = HeaderValue::from_maybe_shared(Bytes::from(location));
    let response = Response::json(StatusCode::CREATED, formula_json(stored))
        .header(LOCATION, location.expect("a path of letters and digits"))
        .header(ETAG, etag::of(stored));
    mark_replayed(response, accepted.answer)
}

/// Adds `Idempotent-Replayed` to an answer that is given again.
pub(super) fn mark_replayed(response: Response, answer: Answer) -> Response {
    match answer {
        Answer::First => response,
        Answer::Replayed => response.header(REPLAYED, HeaderValue::from_static("true")),
    }
}

fn formula_json(stored: &StoredFormula) -> Vec<u8> {
    let mut json = Vec::new();
    render::formula(&mut json, stored);
    json
}

/// `POST /formulas/check`: what a formula's id would be, and whether it is stored; stores
/// nothing.
pub(super) async fn check(context: &Context, mut request: Request) -> Result<Response, Problem> {
    let body = request.body(BODY_BYTES_MAX).await?;
    let checked = check_body(context, &mut request, body).await?;
    let duplicate = context.engine.find_duplicate(&checked.fingerprint).await?;
    let mut json = Vec::new();
    let mut object = Object::open(&mut json);
    render::quoted(object.member("id"), checked.fingerprint);
    let lines = formula::canonical_lines(&checked.formula);
    render::array(object.member("canonical"), &lines, |out, (name, concentration)| {
        render::material(out, formula::Material { name, concentration });
    });
    let duplicate = duplicate.map_or_else(|| b"null".to_vec(), |stored| existing(&stored));
    object.member("duplicate_of").extend_from_slice(&duplicate);
    object.close();
    Ok(Response::json(StatusCode::OK, json))
}

/// `GET /formulas`: a page of what is stored, in order of acceptance.
pub(super) async fn list(context: &Context, request: Request) -> Result<Response, Problem> {
    let query = request.query();
    let page = Page::read(query.get("limit"), query.get("after"))?;
    let filter = Arc::new(Filter::read(query)?);
    let rows = Rows::open("formulas", request.page_charge());
    let (rows, next) = fill(rows, context, page, &filter).await?;
    let response = rows.close(next);
    let Some(next) = next else { return Ok(response) };
    let parameters = ["limit", "name", "material"].map(|name| (name, query.get(name)));
    let link = HeaderValue::try_from(next_link("/formulas", &parameters, next));
    Ok(response.header(LINK, link.expect("a percent-encoded query is plain ASCII")))
}

/// Fills a page; gives the cursor behind it. Reads in steps, so that a thousand of the largest
/// formulas are never held in memory.
async fn fill(
    mut rows: Rows,
    context: &Context,
    page: Page,
    filter: &Arc<Filter>,
) -> Result<(Rows, Option<Cursor>), Problem> {
    let mut after = page.after.map_or(Lsn::ZERO, |cursor| Lsn(cursor.0));
    let mut is_first = true;
    loop {
        let step = PAGE_STEP.min(page.limit - rows.count());
        let filter = Arc::clone(filter);
        let wanted = move |formula: &Formula| filter.wants(formula);
        let found = context.engine.formulas(after, step, wanted).await?;
        let FormulaPage { formulas, next, damage } = found;
        match damage {
            Some(gap) if is_first => return Err(paging::damaged(gap.first, Cursor(gap.last.0))),
            Some(_) => return Ok((rows, Some(Cursor(after.0)))),
            None => is_first = false,
        }
        for stored in &formulas {
            if rows.push(|json| render::formula(json, stored))? == Pushed::Full {
                return Ok((rows, Some(Cursor(after.0))));
            }
            after = stored.lsn;
        }
        match next {
            Some(lsn) if formulas.len() == step && rows.count() < page.limit => after = lsn,
            next => return Ok((rows, next.map(|lsn| Cursor(lsn.0)))),
        }
    }
}

/// Which formulas a list is to show: name keys, or `None` for any.
#[derive(Debug)]
struct Filter {
    name: Option<String>,
    material: Option<String>,
}

impl Filter {
    fn read(query: &Query) -> Result<Filter, Problem> {
        let key = |parameter: &'static str| match query.get(parameter).map(formula::name_key) {
            Some(key) if key.is_empty() => Err(Problem::parameter(parameter, "is empty")),
            key => Ok(key),
        };
        Ok(Filter { name: key("name")?, material: key("material")? })
    }

    fn wants(&self, formula: &Formula) -> bool {
        let is = |wanted: &Option<String>, name: &str| {
            wanted.as_ref().is_none_or(|key| *key == formula::name_key(name))
        };
        is(&self.name, formula.name())
            && (self.material.is_none()
                || formula.materials().any(|material| is(&self.material, material.name)))
    }
}

/// `GET /formulas/{id}`: one formula, by id or seq.
pub(super) async fn get(context: &Context, request: Request) -> Result<Response, Problem> {
    let stored = context.engine.formula(which(&request)?).await?.ok_or_else(unknown)?;
    let etag = etag::of(&stored);
    let response = if etag::is_current(request.headers(), &etag) {
        Response::new(StatusCode::NOT_MODIFIED)
    } else {
        Response::json(StatusCode::OK, formula_json(&stored))
    };
    Ok(response.header(ETAG, etag))
}

/// `GET /formulas/{id}/trail`: what happened to a formula, step by step.
pub(super) async fn trail(context: &Context, request: Request) -> Result<Response, Problem> {
    let trail = context.engine.trail(which(&request)?).await?;
    let (stored, steps) = trail.ok_or_else(unknown)?;
    let mut json = Vec::new();
    render::trail(&mut json, &stored, &steps);
    Ok(Response::json(StatusCode::OK, json))
}

/// `DELETE /formulas/{id}`: withdraws a formula; one that the partner nodes may have, when they
/// have it no more.
pub(super) async fn withdraw(context: &Context, request: Request) -> Result<Response, Problem> {
    let which = which(&request)?;
    if let Some((fingerprint, flow)) = context.engine.flow(which).await?
        && flow.contains(&FlowStep::Release)
    {
        return releases::withdraw(context, &request, fingerprint).await;
    }
    context.engine.withdraw(which).await?;
    Ok(Response::new(StatusCode::NO_CONTENT))
}

/// The formula that the path names: an id of 64 hexadecimal digits, or a seq.
fn which(request: &Request) -> Result<FormulaRef, Problem> {
    let text = request.parameter();
    if let Ok(fingerprint) = text.parse() {
        return Ok(FormulaRef::Id(fingerprint));
    }
    // One spelling per number: `+1` and `01` name nothing.
    match text.parse().map(Lsn) {
        Ok(lsn) if lsn > Lsn::ZERO && lsn.to_string() == text => Ok(FormulaRef::Seq(lsn)),
        _ => Err(unknown()),
    }
}

fn unknown() -> Problem {
    Rejection::FormulaUnknown.into()
}

#[cfg(test)]
mod tests;
