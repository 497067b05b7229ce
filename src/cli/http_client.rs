//! The client's side of HTTP: one call with a deadline, its answer whole in memory; or, for a
//! backup, piece by piece ([`download`]).

pub(crate) mod download;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::{Method, Request, Response, StatusCode, Uri, body::Incoming};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use crate::cli::failure::Failure;
use crate::limits::{CLIENT_DEADLINE_MS, CLIENT_RESPONSE_BYTES_MAX};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const PREFER: HeaderName = HeaderName::from_static("prefer");

/// Which server, and who is calling.
#[derive(Debug, clap::Args)]
pub(crate) struct Server {
    /// The server's address
    #[arg(long, env = "SILLAGE_URL", default_value = "http://127.0.0.1:8080")]
    url: String,
    #[command(flatten)]
    credential: Credential,
}

impl Server {
    /// The server at an address that the command line names in another way.
    pub(crate) fn at(url: &str, credential: &Credential) -> Server {
        Server { url: url.to_owned(), credential: credential.clone() }
    }
}

/// Who is calling.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Credential {
    /// The bearer token. Better in the variable: others on this machine can read command lines
    #[arg(long, env = "SILLAGE_TOKEN", hide_env_values = true)]
    token: Option<Token>,
}

/// A bearer token. It is a secret: it never shows in debug output or errors.
#[derive(Clone)]
pub(crate) struct Token(HeaderValue);

impl Token {
    /// The value of `Authorization`.
    pub(crate) fn authorization(&self) -> String {
        self.0.to_str().unwrap_or_default().to_owned()
    }
}

impl FromStr for Token {
    type Err = MalformedToken;

    fn from_str(text: &str) -> Result<Token, MalformedToken> {
        let visible = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        let value = HeaderValue::from_str(&format!("Bearer {text}")).ok().filter(|_| visible);
        let mut value = value.ok_or(MalformedToken)?;
        value.set_sensitive(true);
        Ok(Token(value))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// The text cannot be a token.
#[derive(Debug)]
pub(crate) struct MalformedToken;

impl fmt::Display for MalformedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a token has visible ASCII characters only")
    }
}

impl std::error::Error for MalformedToken {}

/// What to ask.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) method: Method,
    /// Path and query, beginning with `/`.
    pub(crate) target: String,
    /// Empty for a call without a body.
    pub(crate) content_type: &'static str,
    pub(crate) key: Option<String>,
    /// Seconds that the server may take for an answer that says more; `None`: as it likes.
    pub(crate) wait_s: Option<u64>,
    pub(crate) body: Bytes,
}

impl Call {
    /// A `GET` of this path and query.
    pub(crate) fn get(target: String) -> Call {
        Call::new(Method::GET, target, "", Bytes::new())
    }

    /// A `POST` of this body.
    pub(crate) fn post(target: String, content_type: &'static str, body: Vec<u8>) -> Call {
        Call::new(Method::POST, target, content_type, body.into())
    }

    /// The same call, whose answer may take so many seconds, fewer than `CLIENT_DEADLINE_MS`.
    pub(crate) fn preferring_to_wait(self, wait_s: u64) -> Call {
        Call { wait_s: Some(wait_s), ..self }
    }

    fn new(method: Method, target: String, content_type: &'static str, body: Bytes) -> Call {
        Call { method, target, content_type, key: None, wait_s: None, body }
    }
}

/// What came back.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    /// `Retry-After` in seconds, if the server names it.
    pub(crate) retry_after_s: Option<u64>,
    pub(crate) body: Bytes,
}

/// Why nothing, or nothing whole, came back.
#[derive(Debug)]
pub(crate) enum CallError {
    /// No connection, or it broke.
    Unreachable { url: String, error: hyper_util::client::legacy::Error },
    /// The response broke off or is longer than `CLIENT_RESPONSE_BYTES_MAX`.
    Broken { url: String, error: Box<dyn std::error::Error + Send + Sync> },
    /// No whole answer within `CLIENT_DEADLINE_MS`.
    Late { url: String },
    /// The answer is not what this program's server sends.
    Garbled { url: String },
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CallError::Unreachable { url, error } => {
                write!(f, "cannot reach {url}: {}; is `sillage serve` running?", innermost(error))
            }
            CallError::Broken { url, error } => {
                write!(f, "the answer of {url} broke off: {}", innermost(error.as_ref()))
            }
            CallError::Late { url } => {
                write!(f, "{url} did not answer within {} s", CLIENT_DEADLINE_MS / 1000)
            }
            CallError::Garbled { url } => write!(f, "{url} does not answer as a Sillage server"),
        }
    }
}

impl std::error::Error for CallError {}

/// The cause of causes: the outer layers only say that there is one.
fn innermost<'a>(error: &'a (dyn std::error::Error + 'static)) -> &'a dyn std::error::Error {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause
}

/// Calls one server, over connections that are kept.
pub(crate) struct HttpClient {
    inner: Client<HttpConnector, Full<Bytes>>,
    /// Scheme, authority and path prefix, without a slash at the end.
    base: String,
    authorization: Option<HeaderValue>,
}

impl HttpClient {
    /// A client that has not connected yet.
    ///
    /// # Errors
    /// If the server's address is not plain HTTP.
    pub(crate) fn new(server: &Server) -> Result<HttpClient, Failure> {
        let bad = || Failure::BadUrl { url: server.url.clone() };
        let uri: Uri = server.url.parse().map_err(|_| bad())?;
        if uri.scheme_str() != Some("http") || uri.host().is_none() || uri.query().is_some() {
            return Err(bad());
        }
        Ok(HttpClient {
            inner: Client::builder(TokioExecutor::new()).build_http(),
            base: server.url.trim_end_matches('/').to_owned(),
            authorization: server.credential.token.as_ref().map(|token| token.0.clone()),
        })
    }

    /// Makes the call once.
    ///
    /// # Errors
    /// If there is no whole answer; a refusal is an answer.
    pub(crate) async fn call(&self, call: &Call) -> Result<Answer, CallError> {
        let deadline = Duration::from_millis(CLIENT_DEADLINE_MS);
        let answer = tokio::time::timeout(deadline, self.exchange(call)).await;
        answer.unwrap_or_else(|_| Err(CallError::Late { url: self.base.clone() }))
    }

    /// The server's address, without a slash at the end.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// The error for an answer that makes no sense.
    pub(crate) fn garbled(&self) -> CallError {
        CallError::Garbled { url: self.base.clone() }
    }

    async fn exchange(&self, call: &Call) -> Result<Answer, CallError> {
        let unreachable = |error| CallError::Unreachable { url: self.base.clone(), error };
        let response = self.inner.request(self.request(call)).await.map_err(unreachable)?;
        self.whole(response).await
    }

    /// Gathers a response.
    async fn whole(&self, response: Response<Incoming>) -> Result<Answer, CallError> {
        let status = response.status();
        let retry_after_s = retry_after_s(&response);
        let body = Limited::new(response.into_body(), CLIENT_RESPONSE_BYTES_MAX).collect().await;
        let broken = |error| CallError::Broken { url: self.base.clone(), error };
        Ok(Answer { status, retry_after_s, body: body.map_err(broken)?.to_bytes() })
    }

    fn request(&self, call: &Call) -> Request<Full<Bytes>> {
        let mut request =
            Request::builder().method(&call.method).uri(format!("{}{}", self.base, call.target));
        if let Some(value) = &self.authorization {
            request = request.header(AUTHORIZATION, value);
        }
        if !call.content_type.is_empty() {
            request = request.header(CONTENT_TYPE, call.content_type);
        }
        if let Some(key) = &call.key {
            request = request.header(IDEMPOTENCY_KEY, key);
        }
        if let Some(wait_s) = call.wait_s {
            request = request.header(PREFER, format!("wait={wait_s}"));
        }
        let request = request.body(Full::new(call.body.clone()));
        request.expect("the base was parsed, targets are encoded, keys are hex digits")
    }
}

fn retry_after_s(response: &Response<Incoming>) -> Option<u64> {
    response.headers().get(RETRY_AFTER)?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_never_show_and_never_break_the_header() {
        let token: Token = "s3cret-token".parse().expect("visible ASCII");
        assert!(!format!("{token:?}").contains("s3cret"));
        assert!(!format!("{:?}", token.0).contains("s3cret"));
        for wrong in ["", "a b", "a\r\nx: y", "ä"] {
            assert!(wrong.parse::<Token>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn only_plain_http_addresses_are_taken() {
        let client = |url: &str| HttpClient::new(&Server::at(url, &Credential { token: None }));
        assert!(client("http://127.0.0.1:8080").is_ok());
        assert_eq!(
            client("http://host/prefix/").ok().map(|c| c.base),
            Some("http://host/prefix".into())
        );
        for wrong in
            ["", "127.0.0.1:8080", "https://host", "http://", "http://host/?a=b", "ftp://h"]
        {
            assert!(client(wrong).is_err(), "{wrong}");
        }
    }
}
