//! What a request asks of a node.
//!
//! The node API is taken at its word: trailing slashes, a JSON body also for DELETE, an id that is
//! one segment of the path. Whatever is not exactly that is refused, and recorded as it came.

use hyper::Method;
use percent_encoding::percent_decode_str;
use serde::Deserialize;

use crate::cli::simulate::nodes::groups::{Action, Call};
use crate::cli::simulate::server::Visit;

/// Where groups are created and deleted.
const GROUPS: &str = "/v1/group/";

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// That a group be created or deleted.
    Call(Call),
    /// Whether this group is there.
    Look(String),
    /// Nothing that a node does: the status that says so, and why.
    Nothing(u16, &'static str),
}

#[derive(Deserialize)]
struct Body {
    #[serde(rename = "groupId")]
    group: String,
}

impl Request {
    /// Reads it.
    pub(super) fn of(visit: &Visit) -> Request {
        let Some(rest) = visit.path.strip_prefix(GROUPS) else {
            return Request::Nothing(404, "there is only /v1/group/");
        };
        let action = match (&visit.method, rest) {
            (&Method::POST, "") => Action::Create,
            (&Method::DELETE, "") => Action::Delete,
            (&Method::GET, segment) if !segment.is_empty() => return Request::look(segment),
            (&Method::POST | &Method::DELETE, _) => {
                return Request::Nothing(404, "groups are named in the body");
            }
            _ => return Request::Nothing(405, "POST, DELETE, and GET with an id"),
        };
        let group = match serde_json::from_slice::<Body>(&visit.body) {
            Ok(body) if !body.group.is_empty() => body.group,
            _ => return Request::Nothing(400, "the body is to be {\"groupId\": \"…\"}"),
        };
        let key = visit.header("idempotency-key").map(str::to_owned);
        Request::Call(Call { action, group, key })
    }

    /// The group that it is about, if it is about one.
    pub(super) fn group(&self) -> Option<&str> {
        match self {
            Request::Call(call) => Some(&call.group),
            Request::Look(group) => Some(group),
            Request::Nothing(..) => None,
        }
    }

    fn look(rest: &str) -> Request {
        let Some(segment) = rest.strip_suffix('/').filter(|segment| !segment.contains('/')) else {
            return Request::Nothing(404, "an id is one segment, and a slash follows");
        };
        match percent_decode_str(segment).decode_utf8() {
            Ok(group) if !group.is_empty() => Request::Look(group.into_owned()),
            _ => Request::Nothing(404, "this is no id"),
        }
    }
}

#[cfg(test)]
mod tests {
    use hyper::HeaderMap;

    use super::*;

    fn request(method: Method, path: &str, body: &'static str) -> Request {
        Request::of(&Visit {
            place: 0,
            number: 1,
            at_us: 0,
            method,
            path: path.to_owned(),
            query: Vec::new(),
            headers: HeaderMap::new(),
            body: body.into(),
        })
    }

    #[test]
    fn calls_and_looks_are_read() {
        let call = |action| Request::Call(Call { action, group: "a/ü".to_owned(), key: None });
        let body = r#"{"groupId": "a/ü"}"#;
        assert_eq!(request(Method::POST, "/v1/group/", body), call(Action::Create));
        assert_eq!(request(Method::DELETE, "/v1/group/", body), call(Action::Delete));
        let look = request(Method::GET, "/v1/group/a%2F%C3%BC/", "");
        assert_eq!(look, Request::Look("a/ü".to_owned()));
    }

    #[test]
    fn what_is_not_exactly_the_api_is_refused() {
        let refused = [
            (Method::POST, "/v1/group", r#"{"groupId": "a"}"#, 404),
            (Method::POST, "/v1/group/a/", r#"{"groupId": "a"}"#, 404),
            (Method::DELETE, "/v1/group/a/", "", 404),
            (Method::PUT, "/v1/group/", r#"{"groupId": "a"}"#, 405),
            (Method::GET, "/v1/group/", "", 405),
            (Method::GET, "/v1/group/a", "", 404),
            (Method::GET, "/v1/group/a/b/", "", 404),
            (Method::GET, "/v1/group//", "", 404),
            (Method::GET, "/v1/group/%FF/", "", 404),
            (Method::GET, "/", "", 404),
            (Method::POST, "/v1/group/", "", 400),
            (Method::POST, "/v1/group/", r#"{"groupId": ""}"#, 400),
            (Method::POST, "/v1/group/", r#"{"groupId": 7}"#, 400),
            (Method::DELETE, "/v1/group/", r#"{"group_id": "a"}"#, 400),
        ];
        for (method, path, body, status) in refused {
            let found = request(method.clone(), path, body);
            assert!(
                matches!(found, Request::Nothing(code, _) if code == status),
                "{method} {path} {body}: {found:?}"
            );
        }
    }
}
