//! How the server is told to stop: first in order, then at once.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// How far stopping has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Running,
    Draining,
    Stopping,
}

/// Tells whether and how the server stops. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Shutdown(watch::Receiver<Phase>);

/// Stops the server.
#[derive(Clone, Debug)]
pub struct Trigger(watch::Sender<Phase>);

impl Shutdown {
    /// A shutdown and what triggers it. A dropped trigger can no longer stop anything.
    #[must_use]
    pub fn new() -> (Trigger, Shutdown) {
        let (sender, receiver) = watch::channel(Phase::Running);
        (Trigger(sender), Shutdown(receiver))
    }

    /// Completes when requests under way are to be finished and no more accepted.
    pub async fn draining(&self) {
        self.reached(Phase::Draining).await;
    }

    /// Completes when everything is to be dropped at once.
    pub async fn stopping(&self) {
        self.reached(Phase::Stopping).await;
    }

    /// Whether draining has begun.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        *self.0.borrow() >= Phase::Draining
    }

    async fn reached(&self, phase: Phase) {
        if self.0.clone().wait_for(|now| *now >= phase).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Trigger {
    /// Begins to drain; called again, stops at once.
    pub fn advance(&self) {
        self.0.send_modify(|phase| {
            *phase = match phase {
                Phase::Running => Phase::Draining,
                Phase::Draining | Phase::Stopping => Phase::Stopping,
            }
        });
    }

    /// Advances with every SIGTERM and SIGINT, for ever.
    ///
    /// # Errors
    /// When the signals cannot be caught.
    pub async fn advance_on_signals(self) -> io::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        loop {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            tracing::info!(signal = name, "stopping");
            self.advance();
        }
    }
}
