//! Long polls: a lease that waits for something to arrive.
//!
//! What comes back by itself, because its lease lapses or its delay passes, nobody announces. So
//! of those who wait at least one knows the next such moment and looks again then: he has the
//! watch. The engine wakes one of them whenever a record sets a new moment, and that one has it
//! from there on. Whoever leaves wakes the next in line, who looks again and has it then.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
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
    let mut watch: Option<Watch> = None;
    loop {
        // Registered before the queue is looked at, so that no arrival in between is missed.
        // One that is not waited for after all is passed on to the next in line.
        let mut arrival = pin!(arrivals.notified());
        arrival.as_mut().enable();
        let began = engine.uptime();
        let deliveries = engine.lease(wish.clone()).await?;
        if !deliveries.is_empty() {
            // The record of this lease has woken the next in line.
            if let Some(watch) = watch.take() {
                watch.end();
            }
            return Ok(deliveries);
        }
        if Instant::now() >= end {
            return Ok(deliveries);
        }
        watch.get_or_insert_with(|| Watch(Some(Arc::clone(&arrivals))));
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

/// The watch of one who waits, which passes to the next in line however he leaves: he may have
/// had enough, or be dropped with his connection in the middle of it.
struct Watch(Option<Arc<Notify>>);

impl Watch {
    /// Leaves without passing the watch on.
    fn end(mut self) {
        self.0 = None;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // When nobody waits, whoever comes next looks once more than he needs to.
        if let Some(arrivals) = &self.0 {
            arrivals.notify_one();
        }
    }
}

/// When to look at the queue again if nothing arrives: when a lease lapses or a delay passes.
fn next_look(end: Instant, due_ms: Option<u64>) -> Instant {
    // A deadline that is reached but not yet acted upon must not make this a busy loop.
    let due = due_ms.map(|ms| Instant::now() + Duration::from_millis(ms.max(1)));
    due.map_or(end, |due| due.min(end))
}
