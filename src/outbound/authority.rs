//! One call to the authority that seals, and what its answer means.
//!
//! ```text
//! GET {url}/crypto/sign?message=…                 200: the body is the signature, verbatim
//! GET {url}/crypto/verify?message=…&signature=…   200: valid, unless the body
//!                                                 says `{"valid": false}`; 400, 422: not
//! GET {url}/                                      any answer below 500: it is there
//! Authorization: <key>
//! ```
//!
//! The authority is unreliable and says little about why it fails, so its answers are sorted by
//! what is to be done: done, try again, wait because it had too many calls (429), or stop until
//! somebody looks at the key (401, 403). Whatever is not clearly a success is a failed call: a
//! page of a proxy in between is no signature, though it may come with 200.
//!
//! What this does not do: count calls. Each method makes exactly one, and whoever calls it has
//! been let through by the gate.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Method, StatusCode};

use crate::limits::{SEAL_ANSWER_BYTES_MAX, SEAL_CONNECT_MS};
use crate::outbound::authority_key::AuthorityKey;
use crate::outbound::client::{Answer, Call, CallLimits, Client};
use crate::outbound::fault::CallFault;
use crate::outbound::target::Target;
use crate::time::Timestamp;

/// The authority. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Authority {
    client: Client,
    url: Target,
    key: SealKey,
    public_key: Option<Arc<AuthorityKey>>,
    deadline_ms: u64,
}

/// The operator's key to the authority, sent as it is in `Authorization`. It never shows in debug
/// output or faults.
#[derive(Clone)]
pub struct SealKey(HeaderValue);

impl FromStr for SealKey {
    type Err = MalformedKey;

    /// Visible ASCII, with single blanks within, such as `Bearer …`.
    fn from_str(text: &str) -> Result<SealKey, MalformedKey> {
        let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
        let is_usable = !text.is_empty() && text.trim() == text && is_plain;
        let value = HeaderValue::from_str(text).ok().filter(|_| is_usable);
        let mut value = value.ok_or(MalformedKey)?;
        value.set_sensitive(true);
        Ok(SealKey(value))
    }
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealKey(…)")
    }
}

/// The text cannot be a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MalformedKey;

impl fmt::Display for MalformedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key has visible ASCII characters only")
    }
}

impl std::error::Error for MalformedKey {}

/// What came of one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallOutcome<T> {
    /// The authority did what it was asked.
    Done(T),
    /// It did not; it may next time.
    Failed {
        /// Why.
        reason: Failure,
        /// What `Retry-After` asks for.
        retry_after_ms: Option<u64>,
    },
    /// It had too many calls (429). Not this message's fault.
    TooMany {
        /// What `Retry-After` asks for.
        retry_after_ms: Option<u64>,
    },
    /// It does not accept the key (401, 403). No call can succeed until somebody has seen to it.
    Unauthorised,
}

/// Why a call failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No answer, or no whole one.
    Fault(CallFault),
    /// An answer that is no success.
    Status(StatusCode),
    /// A success with nothing in it.
    Empty,
    /// A success with more than `SEAL_ANSWER_BYTES_MAX` bytes.
    TooLong,
    /// A success that is no text, or a page instead of a signature.
    NotText,
    /// A signature that is not by the configured public key.
    WrongSignature,
    /// The message cannot be sent in the address of a call. Nothing was sent.
    Unsendable,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Fault(fault) => fault.fmt(f),
            Failure::Status(status) => write!(f, "answered {}", status.as_u16()),
            Failure::Empty => f.write_str("answered nothing"),
            Failure::TooLong => {
                write!(f, "answered more than {SEAL_ANSWER_BYTES_MAX} bytes")
            }
            Failure::NotText => f.write_str("answered what is no signature"),
            Failure::WrongSignature => f.write_str("wrong signature"),
            Failure::Unsendable => f.write_str("the message is too long for a call"),
        }
    }
}

impl std::error::Error for Failure {}

impl Authority {
    /// The authority at `url`, which may have a path; a query is left out. When `public_key` is
    /// there, signatures that are not by it are failed calls. A call takes `deadline_ms` at most.
    #[must_use]
    pub fn new(
        client: Client,
        url: Target,
        key: SealKey,
        public_key: Option<AuthorityKey>,
        deadline_ms: u64,
    ) -> Authority {
        Authority { client, url, key, public_key: public_key.map(Arc::new), deadline_ms }
    }

    /// Has a message signed. `now` is for a date in `Retry-After`.
    pub async fn sign(&self, message: &str, now: Timestamp) -> CallOutcome<String> {
        let answer = match self.call("/crypto/sign", &[("message", message)], now).await {
            Ok(answer) => answer,
            Err(outcome) => return outcome.never_done(),
        };
        if answer.status != StatusCode::OK {
            return failed(Failure::Status(answer.status), &answer, now);
        }
        let signed = signature(&answer).and_then(|signature| match &self.public_key {
            Some(key) if !key.verify(message.as_bytes(), &signature) => {
                Err(Failure::WrongSignature)
            }
            _ => Ok(signature),
        });
        signed.map_or_else(|reason| failed(reason, &answer, now), CallOutcome::Done)
    }

    /// Whether a signature of this message is by the configured public key; `None` without one.
    #[must_use]
    pub fn verify_here(&self, message: &str, signature: &str) -> Option<bool> {
        self.public_key.as_ref().map(|key| key.verify(message.as_bytes(), signature))
    }

    /// Asks the authority whether a signature of this message is its own.
    pub async fn verify(
        &self,
        message: &str,
        signature: &str,
        now: Timestamp,
    ) -> CallOutcome<bool> {
        let query = [("message", message), ("signature", signature)];
        match self.call("/crypto/verify", &query, now).await {
            Ok(answer) => match answer.status {
                StatusCode::OK if is_page(&answer) => failed(Failure::NotText, &answer, now),
                StatusCode::OK => CallOutcome::Done(!says_invalid(&answer.body)),
                StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => {
                    CallOutcome::Done(false)
                }
                status => failed(Failure::Status(status), &answer, now),
            },
            Err(outcome) => outcome.never_done(),
        }
    }

    /// Whether the authority is there and accepts the key: the status with which it answers.
    pub async fn probe(&self, now: Timestamp) -> CallOutcome<StatusCode> {
        match self.call("/", &[], now).await {
            Ok(answer) if answer.status.is_server_error() => {
                failed(Failure::Status(answer.status), &answer, now)
            }
            Ok(answer) => CallOutcome::Done(answer.status),
            Err(outcome) => outcome.never_done(),
        }
    }

    /// Calls, and sorts out what means the same for every call.
    async fn call(
        &self,
        path: &str,
        query: &[(&str, &str)],
        now: Timestamp,
    ) -> Result<Answer, CallOutcome<Never>> {
        let stopped = |reason| CallOutcome::Failed { reason, retry_after_ms: None };
        let uri = self.url.below(path, query).map_err(|_| stopped(Failure::Unsendable))?;
        let call = Call {
            method: Method::GET,
            url: &self.url,
            headers: HeaderMap::from_iter([(AUTHORIZATION, self.key.0.clone())]),
            body: Bytes::new(),
            limits: self.limits(),
        };
        let answered = self.client.call_uri(uri, call).await;
        let answer = answered.map_err(|fault| stopped(Failure::Fault(fault)))?;
        match answer.status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(CallOutcome::Unauthorised),
            StatusCode::TOO_MANY_REQUESTS => {
                Err(CallOutcome::TooMany { retry_after_ms: answer.retry_after_ms(now) })
            }
            _ => Ok(answer),
        }
    }

    fn limits(&self) -> CallLimits {
        CallLimits {
            connect_ms: SEAL_CONNECT_MS,
            head_ms: self.deadline_ms,
            body_ms: self.deadline_ms,
            deadline_ms: self.deadline_ms,
            answer_bytes_max: SEAL_ANSWER_BYTES_MAX,
        }
    }
}

/// What no call is done with before its answer was looked at.
enum Never {}

impl CallOutcome<Never> {
    fn never_done<T>(self) -> CallOutcome<T> {
        match self {
            CallOutcome::Done(never) => match never {},
            CallOutcome::Failed { reason, retry_after_ms } => {
                CallOutcome::Failed { reason, retry_after_ms }
            }
            CallOutcome::TooMany { retry_after_ms } => CallOutcome::TooMany { retry_after_ms },
            CallOutcome::Unauthorised => CallOutcome::Unauthorised,
        }
    }
}

fn failed<T>(reason: Failure, answer: &Answer, now: Timestamp) -> CallOutcome<T> {
    CallOutcome::Failed { reason, retry_after_ms: answer.retry_after_ms(now) }
}

/// The signature in an answer of 200. What calls itself plain text is taken as it is. Of anything
/// else only one line of visible characters is: an authority may leave the type to its framework,
/// but no page and no object looks like that.
fn signature(answer: &Answer) -> Result<String, Failure> {
    if answer.is_cut {
        return Err(Failure::TooLong);
    }
    let text = std::str::from_utf8(&answer.body).map_err(|_| Failure::NotText)?;
    if text.trim().is_empty() {
        return Err(Failure::Empty);
    }
    let is_line = |text: &str| text.trim_end().bytes().all(|byte| byte.is_ascii_graphic());
    let is_page = text.starts_with(['<', '{', '[', '"']);
    if is_plain_text(&answer.headers) || (is_line(text) && !is_page) {
        Ok(text.to_owned())
    } else {
        Err(Failure::NotText)
    }
}

/// Whether an answer is a page, such as a proxy in between shows to whoever passes.
fn is_page(answer: &Answer) -> bool {
    let kind = answer.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let is_html = kind.is_some_and(|kind| kind.to_ascii_lowercase().contains("html"));
    is_html || answer.body.trim_ascii_start().starts_with(b"<")
}

/// Whether the body of a success takes it back: `{"valid": false}`.
fn says_invalid(body: &[u8]) -> bool {
    let said = serde_json::from_slice::<serde_json::Value>(body).ok();
    said.is_some_and(|said| said.get("valid") == Some(&serde_json::Value::Bool(false)))
}

fn is_plain_text(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(CONTENT_TYPE) else { return true };
    let essence = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("text/plain")
}

#[cfg(test)]
mod tests;
