//! An engine whose writer has no thread: whoever has it in hand says when it works, and how many
//! commands share a sync.
//!
//! It is for programs that must come out the same each time, so that a failure can be run again:
//! handles behave as they do with a thread, but everything happens on one. It does not look after
//! the store by itself: nobody marks the log or begins a snapshot but who has the writer in hand.

use std::sync::Arc;

use crate::engine::Engine;
use crate::engine::core::Core;
use crate::engine::writer::{Shared, Writer};
use crate::log;
use crate::metrics::Metrics;
use crate::time::Clock;

/// The writer of an engine without a thread. While it does not work all commands wait; when it is
/// dropped they end with "outcome unknown", as when the process ends.
pub struct WriterInHand {
    writer: Writer,
    reach: Reach,
}

/// What the handles share with the writer. When this is dropped they learn that it has gone.
struct Reach(Arc<Shared>);

impl Engine {
    /// An engine that works only when the writer that comes with it is told to.
    ///
    /// # Errors
    /// If the machine has no threads for reads that wait for the disk.
    pub fn in_hand(
        core: Core,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> std::io::Result<(Engine, WriterInHand)> {
        let (engine, writer) = Engine::assemble(core, clock, metrics)?;
        let reach = Reach(Arc::clone(&engine.shared));
        reach.0.outbox.keep();
        Ok((engine, WriterInHand { writer, reach }))
    }
}

impl WriterInHand {
    /// Completes when commands wait.
    pub async fn called(&self) {
        self.reach.0.outbox.filled().await;
    }

    /// Carries out what waits, at most so many commands, under one sync, and answers it.
    ///
    /// # Errors
    /// The log's error, after which nothing is carried out any more.
    pub fn work(&mut self, commands_max: usize) -> Result<(), log::Error> {
        let commands = self.reach.0.outbox.fetch(commands_max);
        self.writer.carry_out(commands)
    }

    /// Log and state.
    pub fn core(&mut self) -> &mut Core {
        self.writer.core()
    }

    /// Log and state, to be closed. The handles learn that the writer has gone.
    #[must_use]
    pub fn into_core(self) -> Core {
        self.writer.into_core()
    }
}

impl Drop for Reach {
    fn drop(&mut self) {
        self.0.durable.poison();
        // Dropped with their replies, which their senders read as "outcome unknown".
        drop(self.0.outbox.fetch(usize::MAX));
    }
}
