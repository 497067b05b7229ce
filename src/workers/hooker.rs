//! Makes the calls that are owed to hooks.
//!
//! ```text
//!   lease ─► who is it for? ─► lane of the destination ─► call ─► outcome (durable)
//!     ▲        └ nobody: dropped, or dead    └ put off      └ failure: back-off, or dead letter
//!     └── arrivals on the queue, the next delay that passes, calls that end
//! ```
//!
//! At least once: a call whose outcome was not recorded is made again, with the same `webhook-id`
//! and the same body. [`lanes`] sees to it that no destination holds up another, [`mod@judge`] says
//! what an answer means, [`body`] what is told. All three are pure.
//!
//! Deliveries of a hook that was deleted are dropped: whoever deletes it wants no more of them.
//! Those of one that its receiver has disabled (410) become dead letters that say so.
//!
//! At the end what waits is given back uncounted, and calls under way get a moment.

pub mod body;
pub mod judge;
pub mod lanes;

use std::collections::BTreeMap;
use std::future::{Future, pending};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::Method;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use self::judge::{Called, Came, Health, Tries, judge};
use self::lanes::Lanes;
use crate::engine::Engine;
use crate::engine::command::{Delivery, Rejection};
use crate::engine::hooks::{AboutFormula, Addressee, DeliveryLease, DeliveryOutcome, OwedCall};
use crate::engine::hooks::{Happening, HookSecret, Recipient};
use crate::ids::{Lsn, QueueName, Receipt};
use crate::limits::{
    HOOK_ANSWER_BYTES_MAX, HOOK_DRAIN_MS, HOOK_IN_HAND_MAX, HOOK_LEASE_MARGIN_MS, HOOK_LEASE_MAX,
    HOOK_SECRET_MADE_BYTES, OVERLOAD_RETRY_AFTER_S,
};
use crate::metrics::Metrics;
use crate::metrics::hooks::DeliveryResult;
use crate::outbound::backoff::Backoff;
use crate::outbound::client::{Call, CallLimits, Client};
use crate::outbound::signature::{self, Secret};
use crate::outbound::target::Target;
use crate::time::{Stopwatch, Uptime};

/// How hooks are called.
#[derive(Clone, Debug)]
pub struct Hooking {
    /// Calls only whom it may.
    pub client: Client,
    /// What answers to single requests are signed with; `None`: what the store holds.
    pub own_secret: Option<Secret>,
    /// Made the store's own secret of, if it has none when it needs one. Random.
    pub fresh_secret: [u8; HOOK_SECRET_MADE_BYTES],
    /// Attempts after which a delivery is a dead letter, at least 1.
    pub attempts_max: u32,
    /// A call takes at most so many milliseconds.
    pub deadline_ms: u64,
    /// The waits between attempts.
    pub backoff: Backoff,
}

/// The worker.
pub struct Hooker {
    work: Arc<Work>,
    lanes: Lanes<InHand>,
    calls: JoinSet<Ended>,
    /// There may be more to lease.
    is_hungry: bool,
    random: fastrand::Rng,
}

/// What all calls share.
struct Work {
    engine: Engine,
    hooking: Hooking,
    metrics: Arc<Metrics>,
}

/// A leased delivery.
#[derive(Debug)]
struct InHand {
    receipt: Receipt,
    /// When its lease lapses.
    until: Uptime,
    call: OwedCall,
}

/// A call that is over.
struct Ended {
    destination: Box<str>,
    begun: Uptime,
    /// `None`: there was no call.
    health: Option<Health>,
    is_log_well: bool,
}

impl Hooker {
    /// A worker. `seed` is for spreading the waits between attempts.
    #[must_use]
    pub fn new(engine: Engine, hooking: Hooking, metrics: Arc<Metrics>, seed: u64) -> Hooker {
        let lanes = Lanes::new(hooking.backoff);
        let work = Arc::new(Work { engine, hooking, metrics });
        let random = fastrand::Rng::with_seed(seed);
        Hooker { work, lanes, calls: JoinSet::new(), is_hungry: true, random }
    }

    /// Works until `drain` completes or the log has failed, then lets calls under way end for a
    /// moment.
    pub async fn run(mut self, drain: impl Future<Output = ()>) {
        let hooks: QueueName = QueueName::HOOKS.parse().expect("a name of ours");
        let arrivals = self.work.engine.arrivals(&hooks).expect("a built-in queue");
        let mut drain = pin!(drain);
        let mut looked = self.work.engine.uptime();
        loop {
            // Registered before the queue is looked at, so that no arrival in between is missed.
            let mut arrival = pin!(arrivals.notified());
            // One that had come already is used up by this: whoever waits for a call to end
            // instead would never hear of it.
            self.is_hungry |= arrival.as_mut().enable();
            // Only who looks has seen what was due by then.
            if self.is_hungry {
                looked = self.work.engine.uptime();
            }
            let pause_ms = match self.turn().await {
                Ok(()) => None,
                Err(Rejection::OutcomeUnknown) => return,
                Err(rejection) => {
                    tracing::warn!(?rejection, "calls to hooks wait for the log");
                    Some(OVERLOAD_RETRY_AFTER_S * 1000)
                }
            };
            let due_ms = self.work.engine.next_due_ms(&hooks, looked).map(|ms| ms.max(1));
            let overdue_ms = self.lanes.next_overdue_ms(self.work.engine.uptime());
            tokio::select! {
                biased;
                () = &mut drain => break,
                Some(ended) = self.calls.join_next() => {
                    if self.end(ended).await.is_err() {
                        return;
                    }
                }
                () = rest(pause_ms), if pause_ms.is_some() => {}
                () = arrival => self.is_hungry = true,
                () = rest(due_ms) => self.is_hungry = true,
                () = rest(overdue_ms.map(|ms| ms.max(1))) => {}
            }
        }
        self.finish().await;
    }

    /// Leases what there is room for, and begins the calls whose turn it is.
    async fn turn(&mut self) -> Result<(), Rejection> {
        let now = self.work.engine.uptime();
        let overdue = self.lanes.overdue(now);
        self.work.put_off(overdue).await?;
        self.begin_calls();
        while self.is_hungry {
            let room = HOOK_IN_HAND_MAX.saturating_sub(self.lanes.in_hand());
            // Half a lease at least: a record for each single delivery would cost more.
            if room < HOOK_LEASE_MAX / 2 {
                return Ok(());
            }
            self.lease(room.min(HOOK_LEASE_MAX)).await?;
            self.begin_calls();
        }
        Ok(())
    }

    async fn lease(&mut self, deliveries_max: usize) -> Result<(), Rejection> {
        let Hooking { attempts_max, deadline_ms, .. } = self.work.hooking;
        let lease_ms = 2 * deadline_ms + HOOK_LEASE_MARGIN_MS;
        // Before the lease, so that it is not taken for longer than it is.
        let until = self.work.engine.uptime().plus_ms(lease_ms);
        let wish = DeliveryLease { deliveries_max, lease_ms, attempts_max };
        let leased = self.work.engine.lease_deliveries(wish).await?;
        self.is_hungry = leased.len() == deliveries_max;
        let mut put_off = Vec::new();
        for Delivery { receipt, .. } in leased {
            let Some((destination, call)) = self.work.look_up(receipt).await? else { continue };
            let now = self.work.engine.uptime();
            let in_hand = InHand { receipt, until, call };
            put_off.extend(self.lanes.offer(&destination, in_hand, now));
        }
        self.work.put_off(put_off).await
    }

    fn begin_calls(&mut self) {
        let now = self.work.engine.uptime();
        while let Some((destination, in_hand)) = self.lanes.next(now) {
            let (work, random) = (Arc::clone(&self.work), self.random.u64(..));
            self.calls.spawn(async move {
                work.metrics.hooks.calls.inc();
                let delivered = work.deliver(in_hand, random).await;
                work.metrics.hooks.calls.dec();
                let is_log_well = !matches!(delivered, Err(Rejection::OutcomeUnknown));
                let health = delivered.unwrap_or_else(|rejection| {
                    tracing::warn!(?rejection, "a delivery was not settled and is made again");
                    None
                });
                Ended { destination, begun: now, health, is_log_well }
            });
        }
    }

    async fn end(&mut self, ended: Result<Ended, tokio::task::JoinError>) -> Result<(), Rejection> {
        let Ended { destination, begun, health, is_log_well } =
            ended.expect("a call neither panics nor is cut off while the worker works");
        if !is_log_well {
            return Err(Rejection::OutcomeUnknown);
        }
        let (now, random) = (self.work.engine.uptime(), self.random.u64(..));
        let put_off = self.lanes.end(&destination, begun, health, now, random);
        match self.work.put_off(put_off).await {
            Err(Rejection::OutcomeUnknown) => Err(Rejection::OutcomeUnknown),
            // Their leases lapse.
            _ => Ok(()),
        }
    }

    async fn finish(mut self) {
        let waiting = self.lanes.take_waiting().into_iter().map(|in_hand| (in_hand, 0)).collect();
        if let Err(rejection) = self.work.put_off(waiting).await {
            tracing::debug!(?rejection, "what was in hand comes back at the next start");
        }
        let ending = async { while self.calls.join_next().await.is_some() {} };
        // Dropping the rest cuts them off.
        drop(timeout(Duration::from_millis(HOOK_DRAIN_MS), ending).await);
    }
}

impl Work {
    /// Where the delivery is to go, and what it is. `None`: there is nowhere, and it is settled.
    async fn look_up(&self, receipt: Receipt) -> Result<Option<(String, OwedCall)>, Rejection> {
        let call = match self.engine.owed_call(receipt.message).await {
            Ok(call) => call,
            Err(Rejection::Damaged(_)) => {
                let reason = "its record cannot be read".into();
                return self.settle_unmade(receipt, DeliveryOutcome::Condemned { reason }).await;
            }
            Err(rejection) => return Err(rejection),
        };
        match self.addressee(call.owed.to).await {
            Ok(Ok((target, _))) => {
                let destination = target.origin();
                Ok(Some((destination, call)))
            }
            Ok(Err(outcome)) => self.settle_unmade(receipt, outcome).await,
            Err(rejection) => Err(rejection),
        }
    }

    /// Whom to call and what to sign with; or what becomes of a delivery that nobody gets.
    async fn addressee(
        &self,
        to: Recipient,
    ) -> Result<Result<(Target, Vec<Secret>), DeliveryOutcome>, Rejection> {
        let own = self.hooking.own_secret.as_ref().map(HookSecret::from);
        let condemned =
            |reason: &str| Ok(Err(DeliveryOutcome::Condemned { reason: reason.into() }));
        let mut found = match self.engine.addressee(to, own.as_ref()).await {
            Err(Rejection::Damaged(_)) => return condemned("whom to call cannot be read"),
            found => found?,
        };
        if found == Addressee::Secretless {
            let fresh = Secret::shared(&self.hooking.fresh_secret).expect("as long as it must be");
            let made = self.engine.own_secret(HookSecret::from(&fresh)).await?;
            found = self.engine.addressee(to, Some(&made)).await?;
        }
        let (url, secrets) = match found {
            Addressee::Callable { url, secrets } => (url, secrets),
            Addressee::Disabled(reason) => {
                return condemned(&format!("its hook is disabled: {reason}"));
            }
            Addressee::Deleted => return Ok(Err(DeliveryOutcome::Dropped)),
            Addressee::Secretless => unreachable!("there is a secret now"),
        };
        let secrets: Result<Vec<Secret>, _> = secrets.iter().map(Secret::try_from).collect();
        match (Target::parse(&url), secrets) {
            (Ok(target), Ok(secrets)) => Ok(Ok((target, secrets))),
            (Err(fault), _) => condemned(&fault.to_string()),
            (_, Err(fault)) => condemned(&fault.to_string()),
        }
    }

    async fn settle_unmade<T>(
        &self,
        receipt: Receipt,
        outcome: DeliveryOutcome,
    ) -> Result<Option<T>, Rejection> {
        self.settle(vec![receipt], outcome).await?;
        Ok(None)
    }

    /// Makes a call and records what came of it; gives how the destination is.
    async fn deliver(&self, in_hand: InHand, random: u64) -> Result<Option<Health>, Rejection> {
        let InHand { receipt, until, call } = in_hand;
        let Hooking { deadline_ms, backoff, .. } = self.hooking;
        if until.since_ms(self.engine.uptime()) < 2 * deadline_ms {
            // It has waited so long that it might lapse under the call.
            let back = DeliveryOutcome::Deferred { delay_ms: 0 };
            return self.settle(vec![receipt], back).await.map(|()| None);
        }
        // Once more: the hook may have changed while the delivery waited.
        let (target, secrets) = match self.addressee(call.owed.to).await? {
            Ok(addressee) => addressee,
            Err(outcome) => return self.settle(vec![receipt], outcome).await.map(|()| None),
        };
        let Some(body) = self.body(&call).await? else {
            let reason = "what it tells of cannot be read".into();
            let outcome = DeliveryOutcome::Condemned { reason };
            return self.settle(vec![receipt], outcome).await.map(|()| None);
        };
        let came = self.call(&call, &target, &secrets, body).await;
        let hook = match call.owed.to {
            Recipient::Hook(hook) => Some(hook),
            Recipient::SealRequest(_) => None,
        };
        let is_ping = call.owed.happening == Happening::Ping;
        let called = Called {
            hook,
            tries: if is_ping { Tries::Once } else { Tries::Many },
            delay_ms: backoff.delay_ms(receipt.attempt, random),
        };
        let (outcome, health) = judge(&called, &came);
        let outcome = with_formula(outcome, hook, &call);
        self.settle(vec![receipt], outcome).await.map(|()| Some(health))
    }

    async fn body(&self, call: &OwedCall) -> Result<Option<Vec<u8>>, Rejection> {
        let (Recipient::SealRequest(request), Happening::SealAnswered { sealed }) =
            (call.owed.to, &call.owed.happening)
        else {
            return Ok(body::event(call));
        };
        let sealed = sealed.map(|sealed| sealed.lsn(call.id.0));
        match self.engine.seal_answer(request, sealed).await {
            Ok(answer) => Ok(Some(body::answer(&answer))),
            Err(Rejection::Damaged(_)) => Ok(None),
            Err(rejection) => Err(rejection),
        }
    }

    async fn call(
        &self,
        call: &OwedCall,
        target: &Target,
        secrets: &[Secret],
        body: Vec<u8>,
    ) -> Came {
        let id = webhook_id(call);
        let now = self.engine.now();
        let mut headers = signature::headers(secrets, &id, now.0 / 1000, &body);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let deadline_ms = self.hooking.deadline_ms;
        let limits = CallLimits {
            connect_ms: deadline_ms,
            head_ms: deadline_ms,
            body_ms: deadline_ms,
            deadline_ms,
            answer_bytes_max: HOOK_ANSWER_BYTES_MAX,
        };
        let watch = Stopwatch::start();
        let call = Call { method: Method::POST, url: target, headers, body: body.into(), limits };
        let answered = self.hooking.client.call(call).await;
        self.metrics.hooks.call_seconds.observe(watch.seconds());
        let now = self.engine.now();
        Came {
            retry_after_ms: answered.as_ref().ok().and_then(|it| it.retry_after_ms(now)),
            answer: answered.map(|answer| answer.status.as_u16()),
            took_ms: watch.ms(),
        }
    }

    /// Gives deliveries back without counting an attempt. Those with about the same delay share a
    /// record.
    async fn put_off(&self, deliveries: Vec<(InHand, u64)>) -> Result<(), Rejection> {
        let mut groups: BTreeMap<u32, (u64, Vec<Receipt>)> = BTreeMap::new();
        for (in_hand, delay_ms) in deliveries {
            let group = groups.entry(delay_ms.checked_ilog2().map_or(0, |log| log + 1));
            let (longest_ms, receipts) = group.or_default();
            *longest_ms = delay_ms.max(*longest_ms);
            receipts.push(in_hand.receipt);
        }
        for (delay_ms, receipts) in groups.into_values() {
            self.settle(receipts, DeliveryOutcome::Deferred { delay_ms }).await?;
        }
        Ok(())
    }

    /// Records an outcome, however long the log takes no more: what was taken should not be sent
    /// again.
    async fn settle(
        &self,
        receipts: Vec<Receipt>,
        outcome: DeliveryOutcome,
    ) -> Result<(), Rejection> {
        self.note(&receipts, &outcome);
        loop {
            match self.engine.settle_deliveries(receipts.clone(), outcome.clone()).await {
                Ok(_) => return Ok(()),
                Err(Rejection::ReceiptsStale(_)) => {
                    tracing::debug!(delivery = %receipts[0].message, "settled too late");
                    return Ok(());
                }
                Err(Rejection::Overloaded { retry_after_s }) => {
                    sleep(Duration::from_secs(retry_after_s)).await;
                }
                Err(rejection) => return Err(rejection),
            }
        }
    }

    fn note(&self, receipts: &[Receipt], outcome: &DeliveryOutcome) {
        let (result, reason) = match outcome {
            DeliveryOutcome::Delivered { .. } => (DeliveryResult::Delivered, None),
            DeliveryOutcome::Failed { reason, .. } => {
                let is_last = receipts.iter().all(|it| it.attempt >= self.hooking.attempts_max);
                let result = if is_last { DeliveryResult::Dead } else { DeliveryResult::Failed };
                (result, Some(reason))
            }
            DeliveryOutcome::Condemned { reason } | DeliveryOutcome::Gone { reason, .. } => {
                (DeliveryResult::Dead, Some(reason))
            }
            DeliveryOutcome::Deferred { .. } => (DeliveryResult::PutOff, None),
            DeliveryOutcome::Dropped => (DeliveryResult::Dropped, None),
        };
        for receipt in receipts {
            self.metrics.hooks.note(result);
            if let Some(reason) = reason {
                let (delivery, attempt) = (receipt.message, receipt.attempt);
                tracing::info!(%delivery, attempt, %reason, "a call to a hook failed");
            }
        }
    }
}

/// The name of a delivery, the same over all attempts.
#[must_use]
pub fn webhook_id(call: &OwedCall) -> String {
    format!("msg_{}_{:016x}", call.id, call.owed.token)
}

/// Adds the formula that was told of, for its trail.
fn with_formula(outcome: DeliveryOutcome, hook: Option<Lsn>, call: &OwedCall) -> DeliveryOutcome {
    let DeliveryOutcome::Delivered { status, took_ms, .. } = outcome else { return outcome };
    let happening = &call.owed.happening;
    let about = match (hook, body::seq_of(call.id, happening), happening.event()) {
        (Some(hook), Some(seq), Some(event)) => Some(AboutFormula { seq, event, hook }),
        _ => None,
    };
    DeliveryOutcome::Delivered { status, took_ms, about }
}

/// Waits so many milliseconds; `None`: for ever.
async fn rest(ms: Option<u64>) {
    match ms {
        Some(ms) => sleep(Duration::from_millis(ms)).await,
        None => pending().await,
    }
}

impl From<&Secret> for HookSecret {
    /// As text, so that the store need not know what kinds there are.
    fn from(secret: &Secret) -> HookSecret {
        HookSecret(secret.reveal().into_bytes().into())
    }
}

impl TryFrom<&HookSecret> for Secret {
    type Error = signature::SecretFault;

    fn try_from(secret: &HookSecret) -> Result<Secret, signature::SecretFault> {
        let text = std::str::from_utf8(&secret.0);
        Secret::parse(text.map_err(|_| signature::SecretFault::Prefix)?)
    }
}
