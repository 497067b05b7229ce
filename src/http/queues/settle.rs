//! Ack, nack and extend: what consumers do with the leases they hold.
//!
//! A receipt that cannot be one is a receipt that is not valid: it comes back under `stale`,
//! like one whose lease has lapsed. A receipt given twice counts once.

use std::borrow::Cow;
use std::collections::HashSet;

use hyper::StatusCode;

use crate::engine::command::{Rejection, Settled, Settlement};
use crate::http::Context;
use crate::http::members::Members;
use crate::http::problem::{Problem, stale};
use crate::http::queues::leasable;
use crate::http::render;
use crate::http::request::Request;
use crate::http::response::Response;
use crate::ids::Receipt;
use crate::limits::{
    LEASE_MESSAGES_MAX, LEASE_MS_DEFAULT, LEASE_MS_MAX, LEASE_MS_MIN, NACK_DELAY_MS_MAX,
    REASON_BYTES_MAX, SETTLE_BYTES_MAX,
};

/// `POST /queues/{queue}/ack`: done for good.
pub(in crate::http) async fn ack(context: &Context, request: Request) -> Result<Response, Problem> {
    settle(context, request, |_| Settlement::Ack).await
}

/// `POST /queues/{queue}/nack`: give back, to be leased again after a delay.
pub(in crate::http) async fn nack(
    context: &Context,
    request: Request,
) -> Result<Response, Problem> {
    settle(context, request, |members| Settlement::Nack {
        delay_ms: members.seconds_ms("delay_s", 0..=NACK_DELAY_MS_MAX).unwrap_or(0),
        reason: members.string("reason", REASON_BYTES_MAX).unwrap_or_default(),
    })
    .await
}

/// `POST /queues/{queue}/extend`: hold on to it, for this long from now.
pub(in crate::http) async fn extend(
    context: &Context,
    request: Request,
) -> Result<Response, Problem> {
    settle(context, request, |members| {
        members.require("lease_s");
        let lease_ms = members.seconds_ms("lease_s", LEASE_MS_MIN..=LEASE_MS_MAX);
        Settlement::Extend { lease_ms: lease_ms.unwrap_or(LEASE_MS_DEFAULT) }
    })
    .await
}

/// `read` takes the members beside the receipts. What it makes of wrong ones does not matter:
/// the request is refused before that is used.
async fn settle(
    context: &Context,
    mut request: Request,
    read: impl FnOnce(&mut Members<'_>) -> Settlement,
) -> Result<Response, Problem> {
    let queue = leasable(context, &request).await?;
    let body = request.body(SETTLE_BYTES_MAX).await?;
    let mut members = Members::parse(&body)?;
    members.require("receipts");
    let texts = members.strings("receipts", 1..=LEASE_MESSAGES_MAX).unwrap_or_default();
    let settlement = read(&mut members);
    members.finish()?;
    let claims = Claims::read(texts);
    if claims.receipts.is_empty() {
        return Err(stale(&claims.texts));
    }
    match context.engine.settle(queue, claims.receipts.clone(), settlement).await {
        Ok(settled) => Ok(claims.response(&settled)),
        Err(Rejection::ReceiptsStale(_)) => Err(stale(&claims.texts)),
        Err(rejection) => Err(rejection.into()),
    }
}

/// The receipts of a request.
struct Claims<'a> {
    /// As the caller spelled them, each once, in order.
    texts: Vec<Cow<'a, str>>,
    /// Those that can be receipts.
    receipts: Vec<Receipt>,
}

impl<'a> Claims<'a> {
    fn read(mut texts: Vec<Cow<'a, str>>) -> Claims<'a> {
        let mut seen = HashSet::with_capacity(texts.len());
        texts.retain(|text| seen.insert(text.clone()));
        let receipts = texts.iter().filter_map(|text| text.parse().ok()).collect();
        Claims { texts, receipts }
    }

    fn response(&self, settled: &Settled) -> Response {
        let void: HashSet<Receipt> = settled.stale.iter().copied().collect();
        let is_stale = |text: &&str| text.parse().map_or(true, |receipt| void.contains(&receipt));
        let stale = self.texts.iter().map(|text| &**text).filter(is_stale);
        let mut json = Vec::new();
        render::settled(&mut json, &settled.done, stale);
        Response::json(StatusCode::OK, json)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receipts_are_taken_once_and_malformed_ones_are_kept_as_texts() {
        let text = "abc-3-7-0123456789abcdef";
        let claims = Claims::read([text, "nonsense", text, ""].map(Cow::from).into());
        assert_eq!(claims.texts, [text, "nonsense", ""]);
        assert_eq!(claims.receipts, [text.parse().unwrap()]);
    }
}
