//! The checks that need no body, in order: who, what for, in which form, and is there room.
//!
//! Only a request that passes them all has its body read, and only then is a client that
//! waits for `100 Continue` told to send it.

use hyper::header::{
    ACCEPT, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HeaderMap, HeaderValue,
};
use hyper::http::request::Parts;

use super::Context;
use super::problem::{Kind, Problem};
use super::request::{BodyReader, Caller, Query, too_large};
use super::routes::{BodyKind, Produces, Route};
use crate::engine::command::Rejection;

/// Checks a request; gives who makes it, and its query.
///
/// # Errors
/// The first thing that is wrong with it.
pub(super) fn check(
    context: &Context,
    route: &Route,
    head: &Parts,
    body: &BodyReader,
) -> Result<(Caller, Query), Problem> {
    let caller = caller(context, route, &head.headers)?;
    let query = Query::parse(head.uri.query().unwrap_or_default(), route.query)?;
    check_expect(&head.headers)?;
    check_accept(&head.headers, route.produces)?;
    check_body(route.body, &head.headers, body)?;
    check_room(context, route, &head.headers)?;
    Ok((caller, query))
}

fn caller(context: &Context, route: &Route, headers: &HeaderMap) -> Result<Caller, Problem> {
    match (&context.tokens, route.scope) {
        (Some(tokens), Some(scope)) => tokens.authorize(headers, scope),
        _ => Ok(Caller::Anonymous),
    }
}

fn check_expect(headers: &HeaderMap) -> Result<(), Problem> {
    match headers.get(EXPECT) {
        None => Ok(()),
        Some(value) if value.as_bytes().eq_ignore_ascii_case(b"100-continue") => Ok(()),
        Some(_) => Err(Problem::new(Kind::ExpectationFailed, "Expect is not 100-continue")),
    }
}

fn check_room(context: &Context, route: &Route, headers: &HeaderMap) -> Result<(), Problem> {
    let refused: Option<Rejection> = route.work.and_then(|work| context.engine.refuses(work));
    match refused {
        None => Ok(()),
        // What is stored already is answered as ever, and only the body tells whether it is. But
        // who asks before he sends it is told at once.
        Some(Rejection::DiskFull) if !headers.contains_key(EXPECT) => Ok(()),
        Some(rejection) => Err(rejection.into()),
    }
}

fn check_body(kind: BodyKind, headers: &HeaderMap, body: &BodyReader) -> Result<(), Problem> {
    let announced = body.announced();
    let is_absent = announced == Some(0) && !headers.contains_key(CONTENT_LENGTH);
    let (bytes_max, takes_ndjson) = match kind {
        BodyKind::None => return Ok(()),
        BodyKind::OptionalJson(_) if announced == Some(0) => return Ok(()),
        BodyKind::Json(_) | BodyKind::JsonOrNdjson(_) if is_absent => {
            let detail = "the request needs Content-Length, or Transfer-Encoding: chunked";
            return Err(Problem::new(Kind::LengthRequired, detail));
        }
        BodyKind::OptionalJson(bytes_max) | BodyKind::Json(bytes_max) => (bytes_max, false),
        BodyKind::JsonOrNdjson(bytes_max) => (bytes_max, true),
    };
    let media = media_type(headers, takes_ndjson)?;
    if media == Media::Json && announced.is_some_and(|bytes| bytes > bytes_max as u64) {
        return Err(too_large(bytes_max));
    }
    Ok(())
}

/// What a body is declared to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Media {
    Json,
    Ndjson,
}

/// A body without a type is refused too: a browser sends such requests to a server on its own
/// machine for any web page that asks it to, without asking the server first.
fn media_type(headers: &HeaderMap, takes_ndjson: bool) -> Result<Media, Problem> {
    let wanted =
        if takes_ndjson { "application/json or application/x-ndjson" } else { "application/json" };
    let unsupported = |what: &str| {
        Problem::new(Kind::UnsupportedMediaType, format!("{what}; this call takes {wanted}"))
    };
    if headers.get(CONTENT_ENCODING).is_some_and(|value| !is_token(value, "identity")) {
        return Err(unsupported("the body is compressed"));
    }
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let (Some(value), None) = (types.next(), types.next()) else {
        return Err(unsupported("the request needs one Content-Type"));
    };
    match parse_media(value) {
        Some(Media::Ndjson) if !takes_ndjson => Err(unsupported("the body is a stream")),
        Some(media) => Ok(media),
        None => Err(unsupported("the body is something else")),
    }
}

fn is_token(value: &HeaderValue, token: &str) -> bool {
    value.as_bytes().trim_ascii().eq_ignore_ascii_case(token.as_bytes())
}

fn parse_media(value: &HeaderValue) -> Option<Media> {
    let mut parts = value.to_str().ok()?.split(';').map(str::trim);
    let essence = parts.next()?;
    let media = if essence.eq_ignore_ascii_case("application/json") {
        Media::Json
    } else if essence.eq_ignore_ascii_case("application/x-ndjson") {
        Media::Ndjson
    } else {
        return None;
    };
    let is_utf_8 = |parameter: &str| match parameter.split_once('=') {
        Some((name, charset)) if name.trim().eq_ignore_ascii_case("charset") => {
            charset.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
        }
        _ => true,
    };
    parts.all(is_utf_8).then_some(media)
}

/// Refuses with 406 what the client would throw away. An empty list asks for nothing special.
fn check_accept(headers: &HeaderMap, produces: Produces) -> Result<(), Problem> {
    let types: &[(&str, &str)] = match produces {
        Produces::Json => &[("application", "json")],
        Produces::JsonOrNdjson => &[("application", "json"), ("application", "x-ndjson")],
        Produces::Text => &[("text", "plain")],
        Produces::Html => &[("text", "html")],
        Produces::Tar => &[("application", "x-tar")],
    };
    let is_any =
        headers.get_all(ACCEPT).iter().all(|value| value.as_bytes().trim_ascii().is_empty());
    if is_any || types.iter().any(|wanted| accepts(headers, *wanted)) {
        return Ok(());
    }
    let [(kind, subtype), ..] = types else { return Ok(()) };
    let detail = format!("this call answers with {kind}/{subtype}, which Accept excludes");
    Err(Problem::new(Kind::NotAcceptable, detail))
}

/// Whether the most specific range of `Accept` that covers the type has a weight above 0.
fn accepts(headers: &HeaderMap, (kind, subtype): (&str, &str)) -> bool {
    let mut best = (0, false);
    let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    for range in values.flat_map(|value| value.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let Some((range_kind, range_subtype)) = parts.next().and_then(|r| r.split_once('/')) else {
            continue;
        };
        let precision = if range_kind == "*" && range_subtype == "*" {
            1
        } else if !range_kind.eq_ignore_ascii_case(kind) {
            continue;
        } else if range_subtype == "*" {
            2
        } else if range_subtype.eq_ignore_ascii_case(subtype) {
            3
        } else {
            continue;
        };
        if precision >= best.0 {
            best = (precision, !parts.any(is_weight_zero));
        }
    }
    best.1
}

/// Whether a parameter of a range is `q=0`, `q=0.0` …
fn is_weight_zero(parameter: &str) -> bool {
    let Some((name, weight)) = parameter.split_once('=') else { return false };
    name.trim().eq_ignore_ascii_case("q") && weight.trim().parse::<f32>().is_ok_and(|q| q <= 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_accepted(accept: &'static str, produces: Produces) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static(accept));
        check_accept(&headers, produces).is_ok()
    }

    #[test]
    fn the_most_specific_range_decides() {
        for accept in [
            "*/*",
            "application/*",
            "application/json",
            "text/html, APPLICATION/JSON;q=0.5",
            "*/*;q=0, application/json",
            "application/json;charset=utf-8",
            "",
        ] {
            assert!(is_accepted(accept, Produces::Json), "{accept}");
        }
        for accept in ["text/html", "application/json;q=0, */*", "image/*", "application/*;q=0.0"] {
            assert!(!is_accepted(accept, Produces::Json), "{accept}");
        }
        assert!(is_accepted("application/x-ndjson", Produces::JsonOrNdjson));
        assert!(is_accepted("text/html,application/xhtml+xml,*/*;q=0.8", Produces::Json));
    }

    #[test]
    fn only_utf_8_json_is_json() {
        let media = |text| parse_media(&HeaderValue::from_static(text));
        assert_eq!(media("application/json"), Some(Media::Json));
        assert_eq!(media("Application/JSON; charset=\"UTF-8\""), Some(Media::Json));
        assert_eq!(media("application/x-ndjson"), Some(Media::Ndjson));
        for text in ["application/json; charset=latin1", "text/json", "text/plain", ""] {
            assert_eq!(media(text), None, "{text}");
        }
    }
}
