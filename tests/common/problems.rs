//! What every error response has to look like.

use serde_json::Value;

use super::Response;

/// The problem document of a response, which must have this status and the shape of RFC 9457.
#[track_caller]
pub(crate) fn assert_problem(response: &Response, status: u16) -> Value {
    let text = String::from_utf8_lossy(&response.body);
    assert_eq!(response.status, status, "{text}");
    let content_type = response.header("content-type").unwrap_or_default();
    assert_eq!(content_type, "application/problem+json", "{text}");
    let problem = response.json();
    let kind = problem["type"].as_str().unwrap_or_default();
    assert!(kind.len() > "/problems/".len() && kind.starts_with("/problems/"), "{text}");
    assert_eq!(problem["status"], status, "{text}");
    for member in ["title", "detail"] {
        assert!(problem[member].as_str().is_some_and(|words| !words.is_empty()), "{text}");
    }
    assert_eq!(problem["request_id"].as_str(), response.header("x-request-id"), "{text}");
    problem
}
