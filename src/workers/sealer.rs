//! Gets seals: calls the authority for messages of the queue `seals`, as often as it may.
//!
//! ```text
//!   next ─► begin (durable) ─► call ─► claim waiters ─► end with the outcome (durable) ─► tell
//!              │                        └ failure: back-off, or dead letter
//!              └ not now: wait until a slot is free
//! ```
//!
//! Each call is a task, so that a slow one holds up nobody. What it brings is kept whatever
//! happens to whoever asked. When the authority says that it had too many calls, or does not
//! accept the key, it is left alone for a while, and the message is not blamed.
//!
//! At the end no further call is begun. Those under way get a moment; one that is cut off is
//! found by the next reign as begun and not ended, and counts against the limit.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::engine::Engine;
use crate::engine::command::Rejection;
use crate::engine::command::seals::{
    Asked, Begun, NextSeal, Opening, SealBegin, SealEnd, SealEnded, SealOutcome, SealSettle,
    SealSubject, SealedFormula, Telling,
};
use crate::ids::{Lsn, MessageId, QueueName, Receipt};
use crate::limits::{
    OVERLOAD_RETRY_AFTER_S, REASON_BYTES_MAX, SEAL_DRAIN_MS, SEAL_LEASE_MARGIN_MS,
    SIGNATURE_BYTES_MAX,
};
use crate::metrics::Metrics;
use crate::metrics::seals::CallResult;
use crate::outbound::authority::CallOutcome;
use crate::workers::signatory::Sealing;

/// The worker.
pub struct Sealer {
    work: Arc<Work>,
    calls: JoinSet<()>,
    /// Messages that are passed over until a call ends: theirs is the text of one under way.
    busy: BTreeSet<MessageId>,
    /// Messages whose records cannot be read: passed over until the next start.
    unreadable: BTreeSet<MessageId>,
}

/// What all calls share.
struct Work {
    engine: Engine,
    sealing: Sealing,
    metrics: Arc<Metrics>,
    random: Mutex<fastrand::Rng>,
    /// Texts that are being called for.
    texts: Mutex<BTreeSet<[u8; 32]>>,
    /// Refusals in a row that were not a message's fault.
    refusals: AtomicU32,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// Look again.
    Again,
    /// Wait until something happens, or for so many milliseconds.
    Wait(Option<u64>),
    /// The engine has failed.
    End,
}

impl Sealer {
    /// A worker for this authority. `seed` is for spreading the waits between attempts.
    #[must_use]
    pub fn new(engine: Engine, sealing: Sealing, metrics: Arc<Metrics>, seed: u64) -> Sealer {
        let random = Mutex::new(fastrand::Rng::with_seed(seed));
        let (texts, refusals) = (Mutex::default(), AtomicU32::new(0));
        let work = Work { engine, sealing, metrics, random, texts, refusals };
        Sealer {
            work: Arc::new(work),
            calls: JoinSet::new(),
            busy: BTreeSet::new(),
            unreadable: BTreeSet::new(),
        }
    }

    /// Works until `drain` completes, then lets calls under way end for a moment.
    pub async fn run(mut self, drain: impl Future<Output = ()>) {
        let seals: QueueName = QueueName::SEALS.parse().expect("a name of ours");
        let arrivals = self.work.engine.arrivals(&seals).expect("a built-in queue");
        let mut drain = pin!(drain);
        loop {
            // Registered before the queue is looked at, so that no arrival in between is missed.
            let mut arrival = pin!(arrivals.notified());
            arrival.as_mut().enable();
            let wait_ms = match self.turn().await {
                Next::Again => Some(0),
                Next::Wait(wait_ms) => wait_ms,
                Next::End => return,
            };
            tokio::select! {
                biased;
                () = &mut drain => break,
                Some(_) = self.calls.join_next() => self.busy = self.unreadable.clone(),
                () = arrival => {}
                () = rest(wait_ms) => {}
            }
        }
        let ending = async { while self.calls.join_next().await.is_some() {} };
        // Dropping the rest cuts them off.
        drop(timeout(Duration::from_millis(SEAL_DRAIN_MS), ending).await);
    }

    /// Looks once for something to do, and does it.
    async fn turn(&mut self) -> Next {
        match self.try_turn().await {
            Ok(next) => next,
            Err(Rejection::OutcomeUnknown) => Next::End,
            Err(rejection) => {
                tracing::warn!(?rejection, "seals wait for the log");
                Next::Wait(Some(OVERLOAD_RETRY_AFTER_S * 1000))
            }
        }
    }

    async fn try_turn(&mut self) -> Result<Next, Rejection> {
        let Sealing { limit, deadline_ms, attempts_max, .. } = self.work.sealing;
        let NextSeal { opening, message, due_ms } =
            self.work.engine.next_seal(&limit, &self.busy).await?;
        let Some(message) = message else {
            return Ok(Next::Wait(match opening {
                Opening::Open => due_ms.map(|ms| ms.max(1)),
                Opening::InMs(ms) => Some(ms),
                Opening::Full => None,
            }));
        };
        let subject = match self.work.engine.seal_subject(message).await {
            Err(Rejection::Damaged(_)) => {
                tracing::error!(%message, "passed over: what is to be sealed cannot be read");
                self.unreadable.insert(message);
                self.busy.insert(message);
                return Ok(Next::Again);
            }
            subject => subject?,
        };
        if self.work.texts().contains(&subject.text_key) {
            self.busy.insert(message);
            return Ok(Next::Again);
        }
        let (text_key, lease_ms) = (subject.text_key, deadline_ms + SEAL_LEASE_MARGIN_MS);
        let begin = SealBegin { message, text_key, limit, deadline_ms, lease_ms, attempts_max };
        match self.work.engine.begin_seal(begin).await? {
            Begun::Call { call, receipt } => self.call(subject, call, receipt),
            Begun::Sealed(sealed) => self.work.settle_as(&subject, sealed).await?,
            // The next look tells when.
            Begun::Closed(_) | Begun::Gone => {}
        }
        Ok(Next::Again)
    }

    fn call(&mut self, subject: SealSubject, call: Lsn, receipt: Receipt) {
        let work = Arc::clone(&self.work);
        work.texts().insert(subject.text_key);
        let called = Called { work: Arc::clone(&work), text_key: subject.text_key };
        self.calls.spawn(async move {
            let outcome = work.sign(&subject).await;
            let ended = work.end(&subject, call, receipt, outcome).await;
            drop(called);
            if let Err(rejection) = ended {
                tracing::error!(%call, ?rejection, "the end of a call could not be recorded");
            }
        });
    }
}

/// A text that is being called for, until this is dropped: also if the call panics.
struct Called {
    work: Arc<Work>,
    text_key: [u8; 32],
}

impl Drop for Called {
    fn drop(&mut self) {
        self.work.texts().remove(&self.text_key);
    }
}

impl Work {
    async fn sign(&self, subject: &SealSubject) -> CallOutcome<String> {
        let SealSubject { message, .. } = subject;
        tracing::debug!(%message, "the authority is called");
        self.sealing.signatory.sign(&subject.text, self.engine.now()).await
    }

    async fn end(
        &self,
        subject: &SealSubject,
        call: Lsn,
        receipt: Receipt,
        outcome: CallOutcome<String>,
    ) -> Result<(), Rejection> {
        let (outcome, result) = self.judge(&receipt, outcome);
        self.note(result);
        let is_last = receipt.attempt >= self.sealing.attempts_max;
        let mut asked = match &outcome {
            SealOutcome::Signed(_) => self.asked(subject).await?,
            SealOutcome::Failed { .. } if is_last => self.asked(subject).await?,
            _ => Vec::new(),
        };
        let signature = match &outcome {
            SealOutcome::Signed(signature) => Some(signature.clone()),
            SealOutcome::Failed { reason, .. } => {
                tracing::info!(message = %receipt.message, attempt = receipt.attempt, %reason,
                    "a call for a seal failed");
                None
            }
            SealOutcome::Deferred { .. } => None,
        };
        if signature.is_some() {
            // Before it is recorded: the record says who is told by his answer.
            self.engine.claim_seal_waiters(&mut asked);
        }
        let end = SealEnd {
            call,
            receipt,
            text_key: subject.text_key,
            formula: subject.formula,
            asked: asked.clone(),
            attempts_max: self.sealing.attempts_max,
            outcome,
        };
        let ended = insist(|| self.engine.end_seal(end.clone())).await?;
        self.tell(&ended, &asked, signature).await?;
        self.settle_rest(subject).await
    }

    /// The requests for the text, that of the call among them. If the others cannot be looked up
    /// it is that alone: the call must come to its end, and the others have their turn.
    async fn asked(&self, subject: &SealSubject) -> Result<Vec<Asked>, Rejection> {
        let mut asked = match self.engine.asked_for(&subject.text_key).await {
            Err(Rejection::OutcomeUnknown) => return Err(Rejection::OutcomeUnknown),
            found => found.unwrap_or_default(),
        };
        let own = Asked { message: subject.message, telling: subject.telling };
        if subject.formula.is_none() && !asked.iter().any(|it| it.message == own.message) {
            asked.push(own);
        }
        Ok(asked)
    }

    /// Tells those who wait.
    async fn tell(
        &self,
        ended: &SealEnded,
        asked: &[Asked],
        signature: Option<Box<str>>,
    ) -> Result<(), Rejection> {
        let is_inline = |asked: &&Asked| asked.telling == Telling::Inline;
        let claimed: Vec<MessageId> = asked.iter().filter(is_inline).map(|it| it.message).collect();
        match (ended.sealed, signature) {
            (Some(sealed), Some(signature)) => {
                let gone = self.engine.answer_seals(&claimed, &Arc::from(signature));
                if !gone.is_empty() {
                    insist(|| self.engine.owe_answers(sealed, gone.clone())).await?;
                }
            }
            // Sealed by another record meanwhile: they find it when they ask.
            _ => self.engine.dismiss_seal_waiters(&claimed),
        }
        self.engine.dismiss_seal_waiters(&ended.settled);
        Ok(())
    }

    /// Settles requests that came while the seal was being recorded.
    async fn settle_rest(&self, subject: &SealSubject) -> Result<(), Rejection> {
        if self.engine.sealed(&subject.text_key).await?.is_none() {
            return Ok(());
        }
        loop {
            let asked = self.engine.asked_for(&subject.text_key).await?;
            let settle = SealSettle { text_key: subject.text_key, asked, formula: None };
            if settle.asked.is_empty() {
                return Ok(());
            }
            let settled = self.engine.settle_sealed(settle).await?.settled;
            self.engine.dismiss_seal_waiters(&settled);
            // The rest is dead letters: their text is sealed all the same.
            if settled.is_empty() {
                return Ok(());
            }
        }
    }

    /// Settles a message whose text is sealed already, and all that wait for the same.
    async fn settle_as(&self, subject: &SealSubject, sealed: Lsn) -> Result<(), Rejection> {
        if let Some(formula) = subject.formula {
            let (message, text_key) = (subject.message, subject.text_key);
            let signature = self.engine.signature(sealed).await?;
            let formula = Some(SealedFormula { message, formula, signature });
            let settle = SealSettle { text_key, asked: Vec::new(), formula };
            self.engine.settle_sealed(settle).await?;
        }
        self.settle_rest(subject).await
    }

    fn judge(&self, receipt: &Receipt, outcome: CallOutcome<String>) -> (SealOutcome, CallResult) {
        let failed = |reason: String, retry_after_ms: Option<u64>| {
            let delay_ms = self.delay_ms(receipt.attempt).max(retry_after_ms.unwrap_or(0));
            SealOutcome::Failed { reason: cut(&reason), delay_ms }
        };
        match outcome {
            CallOutcome::Done(signature) if signature.len() <= SIGNATURE_BYTES_MAX => {
                (SealOutcome::Signed(signature.into()), CallResult::Sealed)
            }
            CallOutcome::Done(_) => {
                (failed("the signature is too long".to_owned(), None), CallResult::Failed)
            }
            CallOutcome::Failed { reason, retry_after_ms } => {
                (failed(reason.to_string(), retry_after_ms), CallResult::Failed)
            }
            CallOutcome::TooMany { retry_after_ms } => {
                let pause_ms = self.pause_ms().max(retry_after_ms.unwrap_or(0));
                (SealOutcome::Deferred { pause_ms }, CallResult::TooMany)
            }
            CallOutcome::Unauthorised => {
                (SealOutcome::Deferred { pause_ms: self.pause_ms() }, CallResult::Unauthorised)
            }
        }
    }

    fn note(&self, result: CallResult) {
        self.metrics.seals.note(result);
        match result {
            CallResult::Sealed | CallResult::Failed => self.refusals.store(0, Ordering::Relaxed),
            CallResult::TooMany => {
                tracing::warn!("the authority had too many calls; it is left alone for a while");
            }
            CallResult::Unauthorised => tracing::error!(
                "the authority does not accept the key (--seal-key): nothing is sealed until it \
                 does; it is tried again now and then"
            ),
        }
    }

    fn delay_ms(&self, attempt: u32) -> u64 {
        let random = self.random.lock().unwrap_or_else(PoisonError::into_inner).u64(..);
        self.sealing.backoff.delay_ms(attempt, random)
    }

    /// How long the authority is left alone: longer with each refusal in a row.
    fn pause_ms(&self) -> u64 {
        self.delay_ms(self.refusals.fetch_add(1, Ordering::Relaxed) + 1)
    }

    fn texts(&self) -> MutexGuard<'_, BTreeSet<[u8; 32]>> {
        self.texts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks for something to be recorded however long the log takes no more: what the authority has
/// given must not be lost, and a call that has ended must not count as under way.
async fn insist<T, F>(ask: impl Fn() -> F) -> Result<T, Rejection>
where
    F: Future<Output = Result<T, Rejection>>,
{
    loop {
        match ask().await {
            Err(Rejection::Overloaded { .. } | Rejection::DiskFull) => {
                sleep(Duration::from_secs(OVERLOAD_RETRY_AFTER_S)).await;
            }
            recorded => return recorded,
        }
    }
}

async fn rest(wait_ms: Option<u64>) {
    match wait_ms {
        Some(0) => {}
        Some(ms) => sleep(Duration::from_millis(ms)).await,
        None => std::future::pending().await,
    }
}

/// A reason as the record takes it.
fn cut(reason: &str) -> Box<str> {
    reason[..reason.floor_char_boundary(REASON_BYTES_MAX)].into()
}

#[cfg(test)]
mod tests;
