//! An answer that is too long for memory: taken piece by piece as it arrives.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::Response;
use hyper::body::{Body as _, Incoming};
use hyper::header::CONTENT_TYPE;
use tokio::time::timeout;

use super::{Answer, Call, CallError, HttpClient};
use crate::limits::CLIENT_DEADLINE_MS;

/// What a call for a long answer gave.
pub(crate) enum Begun {
    /// The answer, on its way.
    Download(Download),
    /// A refusal, whole.
    Refused(Answer),
}

/// A long answer on its way.
pub(crate) struct Download {
    url: String,
    body: Incoming,
    bytes: Option<u64>,
}

impl HttpClient {
    /// Makes the call once; its answer, if it is a success of this media type, is to be read
    /// piece by piece.
    ///
    /// # Errors
    /// If no answer begins within the deadline, or it is of another type.
    pub(crate) async fn download(&self, call: &Call, media_type: &str) -> Result<Begun, CallError> {
        let late = || CallError::Late { url: self.base.clone() };
        let unreachable = |error| CallError::Unreachable { url: self.base.clone(), error };
        let response = timeout(deadline(), self.inner.request(self.request(call))).await;
        let response = response.map_err(|_| late())?.map_err(unreachable)?;
        if !response.status().is_success() {
            let whole = timeout(deadline(), self.whole(response)).await;
            return whole.map_err(|_| late())?.map(Begun::Refused);
        }
        if !is_of_type(&response, media_type) {
            return Err(self.garbled());
        }
        let body = response.into_body();
        let bytes = body.size_hint().exact();
        Ok(Begun::Download(Download { url: self.base.clone(), body, bytes }))
    }
}

fn deadline() -> Duration {
    Duration::from_millis(CLIENT_DEADLINE_MS)
}

fn is_of_type(response: &Response<Incoming>, media_type: &str) -> bool {
    response
        .headers()
        .get(CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes() == media_type.as_bytes())
}

impl Download {
    /// Its length, if the server announced it.
    pub(crate) fn bytes(&self) -> Option<u64> {
        self.bytes
    }

    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// If it breaks off, or nothing comes within the deadline.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, CallError> {
        loop {
            let frame = timeout(deadline(), self.body.frame()).await;
            let frame = frame.map_err(|_| CallError::Late { url: self.url.clone() })?;
            let Some(frame) = frame.transpose().map_err(|error| self.broken(error))? else {
                return Ok(None);
            };
            // What is no data is a trailer, and says nothing that we asked for.
            if let Ok(bytes) = frame.into_data() {
                return Ok(Some(bytes));
            }
        }
    }

    fn broken(&self, error: hyper::Error) -> CallError {
        CallError::Broken { url: self.url.clone(), error: error.into() }
    }
}
