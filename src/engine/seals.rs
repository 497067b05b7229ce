//! What can be asked and done about seals: the handle's part for `http` and for the worker that
//! calls the authority.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;

use crate::engine::Engine;
use crate::engine::command::seals::{
    Asked, Begun, CallBegin, CallCounts, FirstAnswer, FlowSeal, NextSeal, Opening, Outlook,
    SealBegin, SealEnd, SealEnded, SealSettle, SealStanding, SealSubject, SealTicket, SealView,
    SealWish, Telling,
};
use crate::engine::command::{Answer, Rejection, RequestKey};
use crate::engine::decide::gate::{Gate, Limit};
use crate::engine::decide::{Command, Reply, seals};
use crate::engine::findings::{Findings, Wanted};
use crate::engine::pending::Pending;
use crate::engine::waiters::{SealWaiter, Turn};
use crate::ids::{Lsn, MessageId, QueueName};
use crate::limits::SEALS_SHARED_MAX;
use crate::record::seals::{GivenSeal, RequestedSeal, text_key};
use crate::record::{AcceptedFormula, Fact, FlowStep};
use crate::state::State;
use crate::time::Uptime;

impl Engine {
    /// Asks for a text to be sealed. Who wants to wait for the seal registers with
    /// [`Engine::wait_for_seal`] and then looks whether the request still waits.
    ///
    /// # Errors
    /// `KeyReused`, `SealsFull`, `Overloaded`, `DiskFull`, `OutcomeUnknown`, `Damaged`.
    pub async fn request_seal(&self, wish: SealWish) -> Result<SealTicket, Rejection> {
        let (text, key) = (text_key(&wish.text), wish.key.map(|key| key.key));
        let findings = self.findings(|store| {
            let wanted = Wanted::by_text(&text, store);
            key.iter().fold(wanted, |wanted, key| wanted.and_key(key, store))
        });
        let findings = findings.await?;
        let decided = self.execute(Command::RequestSeal(wish), findings).await?;
        match self.resolve(decided).await? {
            Reply::SealRequested(id, request) => {
                let first = match request.sealed {
                    Some(sealed) => FirstAnswer::Sealed(self.given_seal(sealed).await?.signature),
                    None => FirstAnswer::Waits(outlook(&request)),
                };
                Ok(ticket(id, *request, first, Answer::First))
            }
            Reply::SealReplayed(id) => self.replayed_seal(id).await,
            other => unreachable!("a request for a seal is not answered by {other:?}"),
        }
    }

    /// Takes the turn among requests under this key, waiting while another has it: what the
    /// first one is answered is known only when it is.
    pub async fn take_turn(&self, key: &RequestKey) -> Turn {
        self.shared.seal_waiters.take_turn(key.key).await
    }

    /// Waits for the seal of a request.
    #[must_use]
    pub fn wait_for_seal(&self, request: Lsn) -> SealWaiter {
        self.shared.seal_waiters.register(MessageId(request))
    }

    /// Whether a request still waits for its seal, as far as is decided.
    #[must_use]
    pub fn seal_waits(&self, request: Lsn) -> bool {
        self.look().0.state.seals().is_request(MessageId(request))
    }

    /// How a request for a seal stands; `None` if there is none of this id.
    ///
    /// # Errors
    /// `OutcomeUnknown`, `Damaged`.
    pub async fn seal_request(&self, id: Lsn) -> Result<Option<SealView>, Rejection> {
        if id > self.durable_lsn() {
            return Ok(None);
        }
        let Some(kept) = self.bodies.find(id).await? else { return Ok(None) };
        let Fact::SealRequested(request) = kept.record.fact else { return Ok(None) };
        let waits = self.ask(|state, now| waits(state, id, &request, now.uptime)).await?;
        // In this order: it may be sealed between two questions, but not be unsealed again.
        let standing = match waits {
            Some(outlook) => SealStanding::Waits(outlook),
            None => match self.sealed_by(&request).await? {
                Some(sealed) => SealStanding::Sealed(self.given_seal(sealed).await?.signature),
                None => SealStanding::Failed,
            },
        };
        let RequestedSeal { text, webhook_url, .. } = request;
        Ok(Some(SealView { id, text, webhook_url, standing }))
    }

    /// The record that seals a text, if one does.
    ///
    /// # Errors
    /// `OutcomeUnknown`, `Damaged`.
    pub async fn sealed(&self, text_key: &[u8; 32]) -> Result<Option<Lsn>, Rejection> {
        self.ask_view(
            |store| Wanted::by_text(text_key, store),
            |view, now| {
                let spent = view.key(text_key, now.uptime);
                Pending::new(view.state.lsn(), spent.map(|spent| spent.lsn))
            },
        )
        .await
    }

    /// The signature that a record holds.
    ///
    /// # Errors
    /// `Damaged`, also for a record that is no seal.
    pub async fn signature(&self, sealed: Lsn) -> Result<Box<str>, Rejection> {
        self.given_seal(sealed).await.map(|seal| seal.signature)
    }

    /// The signature of a text, if it is sealed.
    ///
    /// # Errors
    /// `OutcomeUnknown`, `Damaged`.
    pub async fn known_signature(&self, text: &str) -> Result<Option<Box<str>>, Rejection> {
        match self.sealed(&text_key(text)).await? {
            Some(sealed) => self.signature(sealed).await.map(Some),
            None => Ok(None),
        }
    }

    /// What is next to be called for, those of `busy` left out.
    ///
    /// # Errors
    /// `OutcomeUnknown`.
    pub async fn next_seal(
        &self,
        limit: &Limit,
        busy: &BTreeSet<MessageId>,
    ) -> Result<NextSeal, Rejection> {
        self.ask(|state, now| {
            let now = now.uptime;
            let opening = opening(limit.gate(state.calls(), now), now);
            // Nobody looks through the queue while the door is closed.
            let is_open = opening == Opening::Open;
            let message = is_open.then(|| seals::next(state, limit, busy, now)).flatten();
            let queue = state.queue(QueueName::SEALS);
            let due = queue.and_then(|queue| queue.next_due(now));
            NextSeal { opening, message, due_ms: due.map(|due| due.since_ms(now)) }
        })
        .await
    }

    /// What a message on the queue `seals` asks for.
    ///
    /// # Errors
    /// `Damaged`, also for an id that is no such message's.
    pub async fn seal_subject(&self, message: MessageId) -> Result<SealSubject, Rejection> {
        let record = self.bodies.record(message.0).await?;
        if let Fact::SealRequested(request) = record.fact {
            let RequestedSeal { text, text_key, webhook_url, .. } = request;
            let telling = webhook_url.map_or(Telling::Nothing, |_| Telling::Hook);
            return Ok(SealSubject { message, text, text_key, formula: None, telling });
        }
        let accepted = record.fact.acceptance().ok_or(Rejection::Damaged(message.0))?;
        Ok(formula_subject(message, accepted))
    }

    /// Begins a call for a message if the limit allows it.
    ///
    /// # Errors
    /// `Overloaded`, `OutcomeUnknown`, `Damaged`.
    pub async fn begin_seal(&self, begin: SealBegin) -> Result<Begun, Rejection> {
        let findings = self.findings(|store| Wanted::by_text(&begin.text_key, store)).await?;
        let decided = self.execute(Command::BeginSeal(begin), findings).await?;
        match self.resolve(decided).await? {
            Reply::SealBegun(begun) => Ok(begun),
            other => unreachable!("the beginning of a call is not answered by {other:?}"),
        }
    }

    /// The requests that wait for a text, at most `SEALS_SHARED_MAX`: those that have failed for
    /// good last.
    ///
    /// # Errors
    /// `OutcomeUnknown`, `Damaged`.
    pub async fn asked_for(&self, text_key: &[u8; 32]) -> Result<Vec<Asked>, Rejection> {
        let waiting = self.ask(|state, now| {
            let queue = state.queue(QueueName::SEALS).expect("a built-in queue");
            let is_dead = |id: &MessageId| queue.is_dead(*id, now.uptime);
            let (dead, alive): (Vec<_>, Vec<_>) =
                state.seals().waiting(text_key).partition(is_dead);
            alive.into_iter().chain(dead).take(SEALS_SHARED_MAX).collect::<Vec<MessageId>>()
        });
        let waiting = waiting.await?;
        let mut asked = Vec::with_capacity(waiting.len());
        for message in waiting {
            let telling = self.seal_subject(message).await?.telling;
            asked.push(Asked { message, telling });
        }
        Ok(asked)
    }

    /// Marks those whose callers are still there: they will be told by [`Engine::answer_seals`].
    pub fn claim_seal_waiters(&self, asked: &mut [Asked]) {
        let requests = asked.iter().map(|asked| asked.message);
        let claimed: BTreeSet<MessageId> =
            self.shared.seal_waiters.claim(requests).into_iter().collect();
        let is_claimed = |asked: &&mut Asked| claimed.contains(&asked.message);
        asked.iter_mut().filter(is_claimed).for_each(|asked| asked.telling = Telling::Inline);
    }

    /// Ends a call for a message with what came of it.
    ///
    /// # Errors
    /// `Overloaded`, `OutcomeUnknown`, `Damaged`.
    pub async fn end_seal(&self, end: SealEnd) -> Result<SealEnded, Rejection> {
        let findings = self.findings(|store| {
            let wanted = Wanted::by_text(&end.text_key, store);
            let formula = end.formula.iter().map(|formula| &formula.fingerprint);
            formula.fold(wanted, |wanted, it| wanted.and_formula(it, store))
        });
        let findings = findings.await?;
        let ended = self.seal_ended(Command::EndSeal(Box::new(end)), findings).await;
        self.shared.seal_waiters.call_ended.notify_waiters();
        ended
    }

    /// Settles messages whose text is sealed already.
    ///
    /// # Errors
    /// `Overloaded`, `OutcomeUnknown`, `Damaged`.
    pub async fn settle_sealed(&self, settle: SealSettle) -> Result<SealEnded, Rejection> {
        self.seal_ended(Command::SettleSealed(Box::new(settle)), Findings::default()).await
    }

    /// Gives the callers that were claimed the signature; gives those back who left meanwhile.
    #[must_use]
    pub fn answer_seals(&self, claimed: &[MessageId], signature: &Arc<str>) -> Vec<MessageId> {
        self.shared.seal_waiters.answer(claimed, signature)
    }

    /// Tells callers who wait that they will be told by a hook, or have to ask.
    pub fn dismiss_seal_waiters(&self, requests: &[MessageId]) {
        self.shared.seal_waiters.dismiss(requests);
    }

    /// Owes hooks to callers who left while their seal was being recorded as given to them.
    ///
    /// # Errors
    /// `Overloaded`, `OutcomeUnknown`.
    pub async fn owe_answers(&self, sealed: Lsn, all: Vec<MessageId>) -> Result<(), Rejection> {
        let mut requests = Vec::new();
        for request in all {
            let Some(view) = self.seal_request(request.0).await? else { continue };
            if view.webhook_url.is_some() {
                requests.push(request);
            }
        }
        self.done(Command::OweAnswers { sealed, requests }).await
    }

    /// Begins a call to the authority that is for no message; gives its record, or when one may.
    ///
    /// # Errors
    /// `Overloaded`, `OutcomeUnknown`.
    pub async fn begin_call(&self, begin: CallBegin) -> Result<Result<Lsn, Opening>, Rejection> {
        let decided = self.execute(Command::BeginCall(begin), Findings::default()).await?;
        match self.resolve(decided).await? {
            Reply::CallBegun(begun) => Ok(begun.map_err(|gate| opening(gate, self.uptime()))),
            other => unreachable!("the beginning of a call is not answered by {other:?}"),
        }
    }

    /// Ends such a call; the authority is left alone for `pause_ms`.
    ///
    /// # Errors
    /// `Overloaded`, `OutcomeUnknown`.
    pub async fn end_call(&self, call: Lsn, pause_ms: u64) -> Result<(), Rejection> {
        let ended = self.done(Command::EndCall { call, pause_ms }).await;
        self.shared.seal_waiters.call_ended.notify_waiters();
        ended
    }

    /// Completes when a call to the authority has ended after this was called, be it before the
    /// future is polled or after.
    pub fn call_ended(&self) -> impl Future<Output = ()> + Send + '_ {
        self.shared.seal_waiters.call_ended.notified()
    }

    /// How the calls to the authority stand.
    #[must_use]
    pub fn call_counts(&self, limit: &Limit) -> CallCounts {
        let (store, now) = self.look();
        let calls = store.state.calls();
        let is_counted = |ended: &Uptime| ended.plus_ms(limit.window_ms) >= now.uptime;
        CallCounts {
            running: calls.running().count() as u64,
            in_window: calls.ended().map(|ended| ended.at).filter(is_counted).count() as u64,
            requests: store.state.seals().len() as u64,
        }
    }

    /// The answer that a request was given, or will be, under a key that is used again.
    async fn replayed_seal(&self, id: Lsn) -> Result<SealTicket, Rejection> {
        let record = self.bodies.record(id).await?;
        // The key was spent on a request for a seal: its digest names the route.
        let Fact::SealRequested(request) = record.fact else { return Err(Rejection::Damaged(id)) };
        let first = match request.sealed {
            Some(sealed) => FirstAnswer::Sealed(self.given_seal(sealed).await?.signature),
            None => match self.inline_seal(id, &request).await? {
                Some(signature) => FirstAnswer::Sealed(signature),
                None => FirstAnswer::Waits(outlook(&request)),
            },
        };
        Ok(ticket(id, request, first, Answer::Replayed))
    }

    /// The signature, if the caller of the request was given it at once.
    async fn inline_seal(
        &self,
        id: Lsn,
        request: &RequestedSeal,
    ) -> Result<Option<Box<str>>, Rejection> {
        let Some(sealed) = self.sealed_by(request).await? else { return Ok(None) };
        let seal = self.given_seal(sealed).await?;
        Ok(seal.inline.contains(&MessageId(id)).then_some(seal.signature))
    }

    async fn sealed_by(&self, request: &RequestedSeal) -> Result<Option<Lsn>, Rejection> {
        match request.sealed {
            Some(sealed) => Ok(Some(sealed)),
            None => self.sealed(&request.text_key).await,
        }
    }

    async fn given_seal(&self, lsn: Lsn) -> Result<GivenSeal, Rejection> {
        match self.bodies.record(lsn).await?.fact {
            Fact::Sealed(seal) => Ok(seal),
            _ => Err(Rejection::Damaged(lsn)),
        }
    }

    async fn seal_ended(
        &self,
        command: Command,
        findings: Findings,
    ) -> Result<SealEnded, Rejection> {
        let decided = self.execute(command, findings).await?;
        match self.resolve(decided).await? {
            Reply::SealEnded(ended) => Ok(ended),
            other => unreachable!("the end of a call is not answered by {other:?}"),
        }
    }

    async fn done(&self, command: Command) -> Result<(), Rejection> {
        let decided = self.execute(command, Findings::default()).await?;
        match self.resolve(decided).await? {
            Reply::Done => Ok(()),
            other => unreachable!("this is not answered by {other:?}"),
        }
    }
}

fn ticket(id: Lsn, request: RequestedSeal, first: FirstAnswer, answer: Answer) -> SealTicket {
    let RequestedSeal { text, webhook_url, .. } = request;
    SealTicket { id, text, webhook_url, first, answer }
}

fn outlook(request: &RequestedSeal) -> Outlook {
    Outlook { position: request.position, eta_s: request.eta_s }
}

/// When a request has its turn, if it still waits for it.
fn waits(state: &State, id: Lsn, request: &RequestedSeal, now: Uptime) -> Option<Outlook> {
    let queue = state.queue(QueueName::SEALS).expect("a built-in queue");
    let message = MessageId(id);
    if !queue.holds(message) || queue.is_dead(message, now) {
        return None;
    }
    // Nobody overtakes but those who were tried before.
    let position = request.position.min(seals::waiting(state, now));
    Some(Outlook { position, eta_s: request.eta_s })
}

/// A formula has its identity sealed, in hexadecimal.
fn formula_subject(message: MessageId, accepted: &AcceptedFormula) -> SealSubject {
    let fingerprint = accepted.fingerprint;
    let text: Box<str> = fingerprint.to_string().into();
    let text_key = text_key(&text);
    let formula = Some(FlowSeal { fingerprint, next: accepted.step_after(FlowStep::Seal) });
    SealSubject { message, text, text_key, formula, telling: Telling::Nothing }
}

fn opening(gate: Gate, now: Uptime) -> Opening {
    match gate {
        Gate::Open => Opening::Open,
        Gate::OpensAt(at) => Opening::InMs(at.since_ms(now).max(1)),
        Gate::Full => Opening::Full,
    }
}

#[cfg(test)]
mod tests;
