//! The sweep over dead letters that nobody was told of.
//!
//! Whoever sweeps announces until nothing is left, then waits for [`Engine::deaths`] and for the
//! next deadline: a lapse is no record, so nobody would wake him. The writer wakes him when there
//! are new dead letters, and when a deadline is nearer than the one that he waits for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

use crate::engine::Engine;
use crate::engine::command::Rejection;
use crate::engine::core::Outlook;
use crate::engine::decide::Command;
use crate::engine::decide::deaths::{Death, Deceased};
use crate::engine::decide::gate::Presence;
use crate::engine::findings::Findings;
use crate::ids::{MessageId, QueueName};
use crate::limits::DEATHS_ANNOUNCED_MAX;
use crate::record::Fact;

/// What wakes whoever sweeps.
#[derive(Debug)]
pub(super) struct DeathWatch {
    wake: Arc<Notify>,
    /// The uptime, in ms, that he waits for; nothing sooner needs to be told him.
    awaited: AtomicU64,
}

impl Default for DeathWatch {
    /// Nobody waits yet: he looks before he waits.
    fn default() -> DeathWatch {
        DeathWatch { wake: Arc::default(), awaited: AtomicU64::new(0) }
    }
}

impl DeathWatch {
    /// What the writer found after a batch.
    pub(super) fn note(&self, outlook: Outlook) {
        let is_nearer =
            outlook.first_due.is_some_and(|due| due.0 < self.awaited.load(Ordering::Relaxed));
        if outlook.has_unannounced || is_nearer {
            self.wake.notify_one();
        }
    }
}

/// What a sweep has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swept {
    /// Some were told of; there may be more.
    Some,
    /// Nothing is left. The next deadline passes in so many milliseconds, if one runs.
    Nothing {
        /// 0 if it has passed meanwhile.
        next_due_ms: Option<u64>,
    },
}

impl Engine {
    /// Wakes whoever sweeps dead letters.
    #[must_use]
    pub fn deaths(&self) -> Arc<Notify> {
        Arc::clone(&self.shared.deaths.wake)
    }

    /// Announces some of the dead letters that nobody was told of, of one queue.
    ///
    /// # Errors
    /// `Overloaded`, `OutcomeUnknown`.
    pub async fn sweep_deaths(&self) -> Result<Swept, Rejection> {
        // Before looking: what comes after is told by the writer.
        self.shared.deaths.awaited.store(u64::MAX, Ordering::Relaxed);
        let (dead, first_due, now) = self
            .ask(|state, now| {
                let mut queues = state.queues();
                let dead = queues.find_map(|(name, queue)| {
                    let dead = queue.unannounced_by(now.uptime, DEATHS_ANNOUNCED_MAX);
                    (!dead.is_empty()).then(|| (name.clone(), dead))
                });
                let due = state.queues().filter_map(|(_, queue)| queue.next_due(now.uptime));
                (dead, due.min(), now.uptime)
            })
            .await?;
        let Some((name, dead)) = dead else {
            self.shared
                .deaths
                .awaited
                .store(first_due.map_or(u64::MAX, |due| due.0), Ordering::Relaxed);
            return Ok(Swept::Nothing { next_due_ms: first_due.map(|due| due.since_ms(now)) });
        };
        let mut deaths = Vec::with_capacity(dead.len());
        for message in dead {
            deaths.push(Death { message, was: self.deceased(&name, message).await });
        }
        let command = Command::AnnounceDeaths(name, deaths);
        let decided = self.execute(command, Findings::default()).await?;
        self.resolve(decided).await?;
        Ok(Swept::Some)
    }

    /// What a dead letter was. A record that cannot be read must not keep the others from being
    /// told of: whoever reads it is told of the damage.
    async fn deceased(&self, queue: &QueueName, message: MessageId) -> Deceased {
        if queue.as_str() == QueueName::FORMULAS {
            return Deceased::News;
        }
        // By the state: a snapshot does not keep the record that began it.
        if queue.as_str() == QueueName::RELEASES
            && self.ask(|state, _| state.releases().is_transaction(message)).await == Ok(true)
        {
            return Deceased::Transaction;
        }
        let Ok(record) = self.bodies.record(message.0).await else { return Deceased::News };
        match record.fact {
            Fact::SealRequested(request) => Deceased::SealRequest(match request.webhook_url {
                Some(_) => Presence::Some,
                None => Presence::None,
            }),
            Fact::HookOwed(owed) => Deceased::Delivery(owed.to, owed.happening.event()),
            fact => match fact.acceptance() {
                Some(accepted) => Deceased::Formula(accepted.fingerprint),
                None => Deceased::News,
            },
        }
    }
}
