//! Long polls: a lease that waits for something to arrive.

use std::pin::pin;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::engine::command::{Delivery, LeaseRequest, Rejection};
use crate::http::Context;
use crate::http::connection::Hangup;

/// Leases what there is or, for up to `wait_ms`, what arrives.
///
/// Ends at once, empty, when the server stops or the client has gone. Messages cannot be kept
/// from a client that leaves while its lease is on the way to the disk: they are leased again
/// when that lease lapses.
pub(super) async fn lease(
    context: &Context,
    wish: &LeaseRequest,
    wait_ms: u64,
    hangup: &Hangup,
) -> Result<Vec<Delivery>, Rejection> {
    let engine = &context.engine;
    let arrivals = engine.arrivals(&wish.queue).ok_or(Rejection::QueueUnknown)?;
    let end = Instant::now() + Duration::from_millis(wait_ms);
    loop {
        // Registered before the queue is looked at, so that no arrival in between is missed.
        // One that is not waited for after all is passed on to the next in line.
        let mut arrival = pin!(arrivals.notified());
        arrival.as_mut().enable();
        let began = engine.uptime();
        let deliveries = engine.lease(wish.clone()).await?;
        if !deliveries.is_empty() || Instant::now() >= end {
            return Ok(deliveries);
        }
        tokio::select! {
            // In this order: who has left must not lease what arrived at the same time.
            biased;
            () = hangup.wait() => return Ok(Vec::new()),
            () = context.shutdown.draining() => return Ok(Vec::new()),
            () = arrival => {}
            () = sleep_until(next_look(end, engine.next_due_ms(&wish.queue, began))) => {}
        }
    }
}

/// When to look at the queue again if nothing arrives: when a lease lapses or a delay passes.
fn next_look(end: Instant, due_ms: Option<u64>) -> Instant {
    // A deadline that is reached but not yet acted upon must not make this a busy loop.
    let due = due_ms.map(|ms| Instant::now() + Duration::from_millis(ms.max(1)));
    due.map_or(end, |due| due.min(end))
}
