//! Trying again: three calls in all, a second apart at first, with jitter, and only for
//! failures that may pass.
//!
//! Used for calls that may be repeated without harm: those that read, and those of `submit` and
//! `group`, whose key makes the server take a repetition for what it is.

use std::time::Duration;

use hyper::StatusCode;

use crate::cli::failure::Failure;
use crate::cli::http_client::{Answer, Call, CallError, HttpClient};
use crate::limits::{CLIENT_ATTEMPTS, CLIENT_BACKOFF_BASE_MS, CLIENT_BACKOFF_CAP_MS};

/// Whether an answer of this status may be another one a little later.
pub(crate) fn is_transient(status: u16) -> bool {
    // 507 is a full disk: intake resumes by itself when there is room.
    matches!(status, 408 | 429 | 500 | 502 | 503 | 504 | 507)
}

/// The wait after the given attempt, counted from 1.
///
/// Doubles from attempt to attempt up to the cap; the server's `Retry-After` lengthens it, up to
/// the cap as well. `random` adds up to a quarter, so that many clients that failed together do
/// not come back together.
pub(crate) fn wait_ms(attempt: u32, retry_after_s: Option<u64>, random: u64) -> u64 {
    let doubled = grown_ms(CLIENT_BACKOFF_BASE_MS, CLIENT_BACKOFF_CAP_MS, attempt);
    let asked = retry_after_s.unwrap_or(0).saturating_mul(1000);
    jittered_ms(doubled.max(asked).min(CLIENT_BACKOFF_CAP_MS), random)
}

/// A wait that doubles from `base_ms` at `turn` 1 up to the cap.
pub(crate) fn grown_ms(base_ms: u64, cap_ms: u64, turn: u32) -> u64 {
    base_ms.saturating_mul(1 << turn.clamp(1, 16).wrapping_sub(1)).min(cap_ms)
}

/// The wait, and up to a quarter more.
pub(crate) fn jittered_ms(wait_ms: u64, random: u64) -> u64 {
    wait_ms + random % (wait_ms / 4 + 1)
}

/// One call's patience: counts attempts and sleeps between them.
pub(crate) struct Patience<'a> {
    attempt: u32,
    random: &'a mut fastrand::Rng,
}

impl<'a> Patience<'a> {
    /// Before the first attempt.
    pub(crate) fn new(random: &'a mut fastrand::Rng) -> Patience<'a> {
        Patience { attempt: 1, random }
    }

    /// Waits before the next attempt; gives `false` at once if there is none left.
    pub(crate) async fn wait(&mut self, retry_after_s: Option<u64>) -> bool {
        if self.attempt >= CLIENT_ATTEMPTS {
            return false;
        }
        let wait_ms = wait_ms(self.attempt, retry_after_s, self.random.u64(..));
        self.attempt += 1;
        tokio::time::sleep(Duration::from_millis(wait_ms)).await;
        true
    }
}

/// Makes a harmless call until it is answered for good or patience ends.
///
/// # Errors
/// The last failure, if no attempt got an answer.
pub(crate) async fn call_patiently(
    client: &HttpClient,
    call: &Call,
    random: &mut fastrand::Rng,
) -> Result<Answer, Failure> {
    retry_calls(client, || call.clone(), random).await
}

/// The same with a call that is made anew for each attempt.
///
/// # Errors
/// The last failure, if no attempt got an answer.
pub(crate) async fn retry_calls(
    client: &HttpClient,
    mut next_call: impl FnMut() -> Call,
    random: &mut fastrand::Rng,
) -> Result<Answer, Failure> {
    let mut patience = Patience::new(random);
    loop {
        let result = client.call(&next_call()).await;
        let retry_after_s = match &result {
            Ok(answer) if !is_transient(answer.status.as_u16()) => return Ok(result?),
            Ok(answer) => answer.retry_after_s,
            Err(CallError::Garbled { .. }) => return Ok(result?),
            Err(_) => None,
        };
        if !patience.wait(retry_after_s).await {
            return Ok(result?);
        }
    }
}

/// The answer if it is a success, else the refusal with what the problem document says.
///
/// # Errors
/// The refusal.
pub(crate) fn success(answer: Answer) -> Result<Answer, Failure> {
    if answer.status.is_success() { Ok(answer) } else { Err(refusal(&answer)) }
}

/// The refusal in the words of its problem document.
pub(crate) fn refusal(answer: &Answer) -> Failure {
    let problem: Problem = serde_json::from_slice(&answer.body).unwrap_or_default();
    Failure::Refused { status: answer.status.as_u16(), detail: problem.describe(answer.status) }
}

/// What we read of an RFC 9457 problem document.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(default)]
pub(crate) struct Problem {
    title: String,
    detail: String,
    errors: Vec<ProblemFault>,
    /// Faults beyond those listed.
    errors_unlisted: u64,
}

/// One fault of a validation problem.
#[derive(Clone, Debug, serde::Deserialize)]
struct ProblemFault {
    /// Where: a JSON pointer, or the name of a parameter or header.
    #[serde(default, rename = "pointer", alias = "parameter", alias = "header")]
    place: String,
    detail: String,
}

impl Problem {
    /// One line with all that is known, fit for a terminal.
    pub(crate) fn describe(&self, status: StatusCode) -> String {
        // Where the faults are listed the detail only sums them up.
        let headings = match self.errors.is_empty() {
            true => [&self.detail, &self.title],
            false => [&self.title, &self.detail],
        };
        let heading = headings.into_iter().find(|text| !text.is_empty());
        let reason = status.canonical_reason().unwrap_or("no reason given");
        let mut text = heading.map_or(reason, String::as_str).to_owned();
        for (index, fault) in self.errors.iter().enumerate() {
            text.push_str(if index == 0 { ": " } else { "; " });
            text.push_str(format!("{} {}", fault.place, fault.detail).trim());
        }
        if self.errors_unlisted > 0 {
            text.push_str(&format!("; and {} more", self.errors_unlisted));
        }
        for_terminal(&text)
    }
}

/// The text with control characters made visible: what a server or a formula says must not
/// steer the reader's terminal.
pub(crate) fn for_terminal(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            safe.extend(character.escape_default());
        } else {
            safe.push(character);
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_from_a_second_to_the_cap_with_a_quarter_of_jitter() {
        assert_eq!(wait_ms(1, None, 0), 1000);
        assert_eq!(wait_ms(2, None, 0), 2000);
        assert_eq!(wait_ms(4, None, 0), 8000);
        assert_eq!(wait_ms(5, None, 0), 10_000);
        assert_eq!(wait_ms(u32::MAX, None, 0), 10_000);
        let longest = (0..10_000).map(|random| wait_ms(1, None, random)).max();
        assert_eq!(longest, Some(1250));
    }

    #[test]
    fn retry_after_lengthens_the_wait_up_to_the_cap() {
        assert_eq!(wait_ms(1, Some(0), 0), 1000);
        assert_eq!(wait_ms(1, Some(5), 0), 5000);
        assert_eq!(wait_ms(1, Some(u64::MAX), 0), 10_000);
    }

    #[test]
    fn only_failures_that_may_pass_are_tried_again() {
        for status in [429, 500, 502, 503, 504, 507] {
            assert!(is_transient(status), "{status}");
        }
        for status in [200, 201, 207, 400, 401, 403, 404, 409, 413, 415, 422] {
            assert!(!is_transient(status), "{status}");
        }
    }

    #[test]
    fn problems_are_told_in_one_harmless_line() {
        let problem: Problem = serde_json::from_str(
            r#"{"title": "Invalid formula", "detail": "2 faults", "errors": [
                {"pointer": "/name", "detail": "is \u001b[2J missing"}, {"detail": "x\ny"}]}"#,
        )
        .expect("a problem document");
        let text = problem.describe(StatusCode::BAD_REQUEST);
        assert_eq!(text, "Invalid formula: /name is \\u{1b}[2J missing; x\\ny");
        assert_eq!(Problem::default().describe(StatusCode::NOT_FOUND), "Not Found");
    }

    #[test]
    fn faults_of_parameters_are_named_and_those_not_listed_are_counted() {
        let problem: Problem = serde_json::from_str(
            r#"{"title": "Invalid query", "detail": "parameter limit: is 0; and 2 more faults",
                "errors": [{"parameter": "limit", "detail": "is 0"}], "errors_unlisted": 2}"#,
        )
        .expect("a problem document");
        let text = problem.describe(StatusCode::BAD_REQUEST);
        assert_eq!(text, "Invalid query: limit is 0; and 2 more");
    }
}
