//! What can be asked of the engine about hooks, and what the worker that calls them needs.

use tokio::sync::futures::Notified;

use crate::engine::Engine;
use crate::engine::command::{Answer, AttemptView, Delivery, Rejection, Settled};
pub use crate::engine::decide::hooks::{
    AboutFormula, DeliveryLease, DeliveryOutcome, HookCommand, NewHook,
};
use crate::engine::decide::{Command, Reply};
use crate::engine::findings::{Findings, Wanted};
use crate::ids::{Lsn, MessageId, QueueName, Receipt};
pub use crate::record::hooks::{Event, Events, Happening, HookSecret, OwedDelivery, Recipient};
use crate::record::seals::RequestedSeal;
use crate::record::{Fact, Record};
use crate::state::State;
pub use crate::state::hooks::{Delivered, Hook};
use crate::state::outlook::{Phase, Seen};
use crate::time::{Moment, Timestamp};

/// A subscription as its first answer shows it: what its own record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatedHookView {
    /// Its id.
    pub id: Lsn,
    /// The subscription, as it was made.
    pub hook: Hook,
    /// Whether this is the first answer or its repetition.
    pub answer: Answer,
}

/// What is owed to somebody, as its record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwedCall {
    /// Its id.
    pub id: MessageId,
    /// When it came to be owed: when that happened which it tells of.
    pub at: Timestamp,
    /// What, to whom.
    pub owed: OwedDelivery,
}

/// Who is to be called, now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Addressee {
    /// Somebody at this address.
    Callable {
        /// Where.
        url: Box<str>,
        /// What the call is signed with, the newest first; never empty.
        secrets: Vec<HookSecret>,
    },
    /// A hook that is called no more, and why.
    Disabled(Box<str>),
    /// A hook that was deleted.
    Deleted,
    /// There is no secret yet that answers to single requests could be signed with.
    Secretless,
}

/// The answer to a request for a seal, as its `webhook_url` gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealAnswer {
    /// The request.
    pub id: Lsn,
    /// Whom it names to be called.
    pub webhook_url: Box<str>,
    /// The text as sent.
    pub text: Box<str>,
    /// `None`: all attempts have failed.
    pub signature: Option<Box<str>>,
}

/// Where a delivery stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryPhase {
    /// It is to be made, now or later.
    Waiting,
    /// It was taken.
    Delivered,
    /// It has failed for good.
    Dead,
}

/// A delivery as a list shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryView {
    /// Its id.
    pub id: MessageId,
    /// Where it stands.
    pub phase: DeliveryPhase,
    /// How often it was attempted.
    pub attempts: u32,
    /// When it is attempted again, or the attempt under way lapses; `None`: now, or never.
    pub due: Option<Timestamp>,
    /// How the latest attempt ended that was not taken.
    pub last: Option<AttemptView>,
    /// The call that was taken.
    pub delivered: Option<Delivered>,
}

impl Engine {
    /// Subscribes.
    ///
    /// # Errors
    /// `HooksFull`, `KeyReused`, `Overloaded`, `DiskFull`, `OutcomeUnknown`, `Damaged`.
    pub async fn create_hook(&self, hook: NewHook) -> Result<CreatedHookView, Rejection> {
        let key = hook.key;
        let findings = self
            .findings(|store| {
                key.as_ref().map_or_else(Wanted::default, |k| Wanted::by_key(k, store))
            })
            .await?;
        let (id, answer) = match self.hook_command(HookCommand::Create(hook), findings).await? {
            Reply::Recorded(id) => (id, Answer::First),
            Reply::RecordedBefore(id) => (id, Answer::Replayed),
            other => unreachable!("a new hook is not answered by {other:?}"),
        };
        let kept = self.bodies.find(id).await?.map(|kept| kept.record);
        let hook = match kept {
            Some(Record { at, fact: Fact::HookCreated(created) }) => Hook::new(&created, at.wall),
            // A snapshot has taken over meanwhile, which keeps hooks and not their records.
            _ => self.hook(id).await?,
        };
        Ok(CreatedHookView { id, hook, answer })
    }

    /// All subscriptions, in the order in which they were made.
    ///
    /// # Errors
    /// `OutcomeUnknown`.
    pub async fn hooks(&self) -> Result<Vec<(Lsn, Hook)>, Rejection> {
        let one = |(id, hook): (Lsn, &Hook)| (id, hook.clone());
        self.ask(|state, _| state.hooks().iter().map(one).collect()).await
    }

    /// A subscription.
    ///
    /// # Errors
    /// `HookUnknown`, `OutcomeUnknown`.
    pub async fn hook(&self, id: Lsn) -> Result<Hook, Rejection> {
        let found = self.ask(|state, _| state.hooks().get(id).cloned()).await?;
        found.ok_or(Rejection::HookUnknown)
    }

    /// Calls it no more. What is owed to it is dropped when its turn comes.
    ///
    /// # Errors
    /// `HookUnknown`, `Overloaded`, `OutcomeUnknown`.
    pub async fn delete_hook(&self, id: Lsn) -> Result<(), Rejection> {
        self.hook_command(HookCommand::Delete(id), Findings::default()).await.map(|_| ())
    }

    /// Signs with another secret, and for `overlap_ms` with the one before, too.
    ///
    /// # Errors
    /// `HookUnknown`, `Overloaded`, `OutcomeUnknown`.
    pub async fn change_hook_secret(
        &self,
        id: Lsn,
        secret: HookSecret,
        overlap_ms: u64,
    ) -> Result<(), Rejection> {
        let command = HookCommand::ChangeSecret(id, secret, overlap_ms);
        self.hook_command(command, Findings::default()).await.map(|_| ())
    }

    /// Calls it, to see whether it can be reached: gives the delivery.
    ///
    /// # Errors
    /// `HookUnknown`, `HookDisabled`, `Overloaded`, `OutcomeUnknown`.
    pub async fn ping_hook(&self, id: Lsn) -> Result<MessageId, Rejection> {
        match self.hook_command(HookCommand::Ping(id), Findings::default()).await? {
            Reply::Recorded(delivery) => Ok(MessageId(delivery)),
            other => unreachable!("a ping is not answered by {other:?}"),
        }
    }

    /// Makes a delivery once more, under the same `webhook-id`.
    ///
    /// # Errors
    /// `DeliveryUnknown`, `DeliveryWaiting`, `HookUnknown`, `HookDisabled`, `Overloaded`,
    /// `OutcomeUnknown`, `Damaged`.
    pub async fn redeliver(&self, id: MessageId) -> Result<(), Rejection> {
        if self.delivery(id).await?.is_none() {
            return Err(Rejection::DeliveryUnknown);
        }
        let to = self.owed_call(id).await?.owed.to;
        let command = HookCommand::Redeliver(id, to);
        self.hook_command(command, Findings::default()).await.map(|_| ())
    }

    /// What answers to single requests are signed with, where the operator names nothing; made
    /// of `fresh` if there is nothing yet.
    ///
    /// # Errors
    /// `Overloaded`, `OutcomeUnknown`.
    pub async fn own_secret(&self, fresh: HookSecret) -> Result<HookSecret, Rejection> {
        let command = HookCommand::MakeOwnSecret(fresh);
        self.hook_command(command, Findings::default()).await?;
        let made = self.ask(|state, _| state.hooks().own_secret().cloned()).await?;
        Ok(made.expect("it was made before, or just now"))
    }

    /// Leases deliveries. Does not wait: the answer may be empty.
    ///
    /// # Errors
    /// `Overloaded`, `OutcomeUnknown`.
    pub async fn lease_deliveries(&self, wish: DeliveryLease) -> Result<Vec<Delivery>, Rejection> {
        match self.hook_command(HookCommand::Lease(wish), Findings::default()).await? {
            Reply::Leased(deliveries) => Ok(deliveries),
            other => unreachable!("a lease is not answered by {other:?}"),
        }
    }

    /// Says how calls for leased deliveries ended.
    ///
    /// # Errors
    /// `ReceiptsStale`, `Overloaded`, `OutcomeUnknown`.
    pub async fn settle_deliveries(
        &self,
        receipts: Vec<Receipt>,
        outcome: DeliveryOutcome,
    ) -> Result<Settled, Rejection> {
        let command = HookCommand::Settle(receipts, outcome);
        let reply = self.hook_command(command, Findings::default()).await?;
        self.shared.settled.notify_waiters();
        match reply {
            Reply::Settled(settled) => Ok(settled),
            other => unreachable!("a settlement is not answered by {other:?}"),
        }
    }

    /// Completes when a delivery was settled after this was made. Whoever waits for one makes this
    /// first, then looks, then waits.
    pub fn next_settled_delivery(&self) -> Notified<'_> {
        self.shared.settled.notified()
    }

    /// What is owed by this delivery.
    ///
    /// # Errors
    /// `Damaged`, also for an id that is no delivery's; `OutcomeUnknown`.
    pub async fn owed_call(&self, id: MessageId) -> Result<OwedCall, Rejection> {
        match self.bodies.record(id.0).await? {
            Record { at, fact: Fact::HookOwed(owed) } => Ok(OwedCall { id, at: at.wall, owed }),
            _ => Err(Rejection::Damaged(id.0)),
        }
    }

    /// Who is to be called, and what the call is signed with: answers to single requests with
    /// `own` if the operator named it, else with what the store holds.
    ///
    /// # Errors
    /// `OutcomeUnknown`, `Damaged`.
    pub async fn addressee(
        &self,
        to: Recipient,
        own: Option<&HookSecret>,
    ) -> Result<Addressee, Rejection> {
        let request = match to {
            Recipient::Hook(id) => {
                return self.ask(|state, now| hook_addressee(state.hooks().get(id), now)).await;
            }
            Recipient::SealRequest(request) => self.seal_request_record(request).await?,
        };
        let url = request.webhook_url.ok_or(Rejection::Damaged(match to {
            Recipient::Hook(id) | Recipient::SealRequest(id) => id,
        }))?;
        let stored = self.ask(|state, _| state.hooks().own_secret().cloned()).await?;
        Ok(match own.cloned().or(stored) {
            Some(secret) => Addressee::Callable { url, secrets: vec![secret] },
            None => Addressee::Secretless,
        })
    }

    /// The answer to a request for a seal; `sealed` is the record that holds the signature.
    ///
    /// # Errors
    /// `OutcomeUnknown`, `Damaged`.
    pub async fn seal_answer(&self, id: Lsn, sealed: Option<Lsn>) -> Result<SealAnswer, Rejection> {
        let request = self.seal_request_record(id).await?;
        let signature = match sealed {
            None => None,
            Some(lsn) => match self.bodies.record(lsn).await?.fact {
                Fact::Sealed(seal) => Some(seal.signature),
                _ => return Err(Rejection::Damaged(lsn)),
            },
        };
        let RequestedSeal { text, webhook_url, .. } = request;
        let webhook_url = webhook_url.ok_or(Rejection::Damaged(id))?;
        Ok(SealAnswer { id, webhook_url, text, signature })
    }

    /// Deliveries after `after` in order of their ids, at most `max`; of all phases or one.
    ///
    /// # Errors
    /// `OutcomeUnknown`.
    pub async fn deliveries(
        &self,
        phase: Option<DeliveryPhase>,
        after: Option<MessageId>,
        max: usize,
    ) -> Result<Vec<DeliveryView>, Rejection> {
        self.ask(|state, now| deliveries(state, now, phase, after, max)).await
    }

    /// Where a delivery stands; `None` if there is none, or no longer.
    ///
    /// # Errors
    /// `OutcomeUnknown`.
    pub async fn delivery(&self, id: MessageId) -> Result<Option<DeliveryView>, Rejection> {
        let after = MessageId(Lsn(id.0.0.saturating_sub(1)));
        let found = self.deliveries(None, Some(after), 1).await?;
        Ok(found.into_iter().find(|view| view.id == id))
    }

    async fn seal_request_record(&self, id: Lsn) -> Result<RequestedSeal, Rejection> {
        match self.bodies.record(id).await?.fact {
            Fact::SealRequested(request) => Ok(request),
            _ => Err(Rejection::Damaged(id)),
        }
    }

    async fn hook_command(
        &self,
        command: HookCommand,
        findings: Findings,
    ) -> Result<Reply, Rejection> {
        let decided = self.execute(Command::Hook(command), findings).await?;
        self.resolve(decided).await
    }
}

fn hook_addressee(hook: Option<&Hook>, now: Moment) -> Addressee {
    let Some(hook) = hook else { return Addressee::Deleted };
    if let Some(reason) = &hook.disabled {
        return Addressee::Disabled(reason.clone());
    }
    let former = hook.former.as_ref().filter(|(_, until)| *until > now.uptime);
    let former = former.map(|(secret, _)| secret.clone());
    let secrets = std::iter::once(hook.secret.clone()).chain(former).collect();
    Addressee::Callable { url: hook.url.clone(), secrets }
}

fn deliveries(
    state: &State,
    now: Moment,
    phase: Option<DeliveryPhase>,
    after: Option<MessageId>,
    max: usize,
) -> Vec<DeliveryView> {
    let queue = state.queue(QueueName::HOOKS).expect("built in");
    let wants = |wanted| phase.is_none_or(|phase| phase == wanted);
    let mut views: Vec<DeliveryView> = Vec::new();
    for (standing, phase) in [
        (Phase::Ready, DeliveryPhase::Waiting),
        (Phase::Leased, DeliveryPhase::Waiting),
        (Phase::Delayed, DeliveryPhase::Waiting),
        (Phase::Dead, DeliveryPhase::Dead),
    ] {
        if wants(phase) {
            let seen = queue.peek(standing, now, after, max);
            views.extend(seen.into_iter().map(|seen| view(seen, phase, now)));
        }
    }
    if wants(DeliveryPhase::Delivered) {
        let first = after.map_or(MessageId(Lsn::ZERO), |after| MessageId(after.0.next()));
        let delivered = state.hooks().delivered().range(first..).take(max);
        views.extend(delivered.map(|(id, delivered)| DeliveryView {
            id: *id,
            phase: DeliveryPhase::Delivered,
            attempts: delivered.attempt,
            due: None,
            last: None,
            delivered: Some(*delivered),
        }));
    }
    views.sort_unstable_by_key(|view| view.id);
    views.truncate(max);
    views
}

fn view(seen: Seen, phase: DeliveryPhase, now: Moment) -> DeliveryView {
    let last = seen.past.ends().last().map(|end| AttemptView {
        attempt: end.attempt,
        ended_at: end.at,
        reason: end.nack.clone(),
    });
    DeliveryView {
        id: seen.id,
        phase,
        attempts: seen.past.attempts(),
        due: seen.due.map(|due| now.date_of(due)),
        last,
        delivered: None,
    }
}
