//! The output rule as a type: nothing leaves before the log is durable up to where it came from.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

use crate::ids::Lsn;

/// A value computed from the state up to an LSN. Only [`Durable`] opens it, and only once the
/// log holds that LSN for good.
#[derive(Debug)]
#[must_use = "a pending value reaches nobody until it is opened"]
pub struct Pending<T> {
    lsn: Lsn,
    value: T,
}

/// The log failed: whether what was under way happened is known only after the next start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Poisoned;

impl<T> Pending<T> {
    /// A value that was computed from the state at `lsn`.
    pub fn new(lsn: Lsn, value: T) -> Pending<T> {
        Pending { lsn, value }
    }

    /// The value, if the log is durable as far as `durable`.
    ///
    /// # Errors
    /// Gives the pending value back if it is not.
    pub(super) fn open(self, durable: Lsn) -> Result<T, Pending<T>> {
        if self.lsn <= durable { Ok(self.value) } else { Err(self) }
    }
}

/// How far the log is durable, as known to everybody who waits for it.
#[derive(Clone, Debug, Default)]
pub struct Durable(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    lsn: AtomicU64,
    advanced: Notify,
    /// Apart from `advanced`: who waits for the end is not to be woken by every commit.
    failed: Notify,
}

/// Stands for "poisoned" in place of an LSN.
const POISONED: u64 = u64::MAX;

impl Durable {
    /// The last durable LSN; `Poisoned` when the log has failed.
    ///
    /// # Errors
    /// `Poisoned`.
    pub fn lsn(&self) -> Result<Lsn, Poisoned> {
        match self.0.lsn.load(Ordering::Acquire) {
            POISONED => Err(Poisoned),
            lsn => Ok(Lsn(lsn)),
        }
    }

    /// The value, as soon as the log is durable as far as it came from.
    ///
    /// # Errors
    /// `Poisoned` if that will never be.
    pub async fn wait<T>(&self, mut pending: Pending<T>) -> Result<T, Poisoned> {
        loop {
            // Registered before the look at the LSN: an advance in between is not missed.
            let advanced = self.0.advanced.notified();
            match pending.open(self.lsn()?) {
                Ok(value) => return Ok(value),
                Err(still) => pending = still,
            }
            advanced.await;
        }
    }

    /// Completes with the next commit after this call.
    pub(super) fn next_advance(&self) -> impl Future<Output = ()> + Send {
        self.0.advanced.notified()
    }

    /// Completes when the log has failed.
    pub(super) async fn poisoned(&self) {
        loop {
            let failed = self.0.failed.notified();
            if self.lsn().is_err() {
                return;
            }
            failed.await;
        }
    }

    pub(super) fn advance(&self, lsn: Lsn) {
        self.0.lsn.store(lsn.0, Ordering::Release);
        self.0.advanced.notify_waiters();
    }

    pub(super) fn poison(&self) {
        self.advance(Lsn(POISONED));
        self.0.failed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Wake, Waker};

    use super::*;

    #[test]
    fn a_value_opens_at_its_lsn_and_not_before() {
        let pending = Pending::new(Lsn(7), "reply");
        let pending = pending.open(Lsn(6)).expect_err("not durable yet");
        assert_eq!(pending.open(Lsn(7)).expect("durable"), "reply");
    }

    #[test]
    fn a_commit_does_not_wake_who_waits_for_the_failure_and_the_failure_does() {
        struct Wakes(AtomicU64);
        impl Wake for Wakes {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let wakes = Arc::new(Wakes(AtomicU64::new(0)));
        let waker = Waker::from(Arc::clone(&wakes));
        let mut cx = Context::from_waker(&waker);
        let durable = Durable::default();
        let mut poisoned = pin!(durable.poisoned());
        assert!(poisoned.as_mut().poll(&mut cx).is_pending());
        durable.advance(Lsn(1));
        assert_eq!(wakes.0.load(Ordering::Relaxed), 0);
        durable.poison();
        assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
        assert!(poisoned.as_mut().poll(&mut cx).is_ready());
    }
}
