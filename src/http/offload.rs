//! Long work off the network thread.
//!
//! Reading a body takes time in proportion to it, and more when it is made to: the names of a
//! formula of 0.8 MB can be chosen so that reading it takes 0.2 s. Everybody else would wait for
//! that. So large bodies are read on a thread of their own, one after the other: work for the
//! same reader does not run ahead, since its request waits for it.

use std::future::Future;
use std::panic::resume_unwind;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::task::JoinHandle;

use crate::limits::PARSE_INLINE_BYTES_MAX;

/// Work under way on the other thread. When it is dropped before its turn, it is never done.
pub(super) struct Offloaded<T>(JoinHandle<T>);

/// Whether a body is too large to be read on the network thread.
pub(super) fn is_long(bytes: usize) -> bool {
    bytes > PARSE_INLINE_BYTES_MAX
}

/// Does the work on the other thread.
pub(super) fn offload<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Offloaded<T> {
    Offloaded(tokio::task::spawn_blocking(work))
}

impl<T> Future for Offloaded<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        Pin::new(&mut self.0).poll(cx).map(|done| {
            // A panic goes on where it would have been without the other thread.
            done.unwrap_or_else(|error| match error.try_into_panic() {
                Ok(panic) => resume_unwind(panic),
                Err(_) => unreachable!("only dropping it cancels the work"),
            })
        })
    }
}

impl<T> Drop for Offloaded<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
