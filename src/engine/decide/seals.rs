//! What becomes of requests for a seal, and of the calls that are made for them.
//!
//! A call is begun by one group, lease and call, and ended by one group, the call's end and what
//! came of it. So there is no moment at which a call was made that is not counted, and none at
//! which a signature is known that is not kept.
//!
//! **One call for equal texts.** While one request for a text is held, or waits before it is
//! tried again, no other request for the same text is called for: when the call succeeds all are
//! settled by it, and when the last attempt fails they fail with it. Requests that came between
//! the call's answer and its record are settled by [`settle`], since their text is sealed by
//! then. A text is sealed by one record for ever, so who asks for it again gets the same answer.

use std::collections::BTreeSet;

use super::formulas::{first_use, spend};
use super::gate::{Gate, Limit, Presence, Waiting};
use super::hooks::{owed, owed_to};
use super::queues::touched;
use super::{Circumstances, Draft, Refusal, Reply, Verdict};
use crate::engine::command::seals::{
    Asked, Begun, CallBegin, FlowSeal, SealBegin, SealEnd, SealEnded, SealOutcome, SealSettle,
    SealWish, Telling,
};
use crate::engine::findings::View;
use crate::ids::{Lsn, MessageId, QueueName, Receipt};
use crate::limits::{LEASE_MS_MIN, SEALS_WAITING_MAX};
use crate::record::hooks::{Event, Happening, Recipient, SealedBy};
use crate::record::seals::{CallPurpose, GivenSeal, RequestedSeal, index_of, text_key};
use crate::record::{Fact, FlowStep, InGroup, Touched};
use crate::state::State;
use crate::state::calls::Share;
use crate::state::queues::Queue;
use crate::time::{Moment, Uptime};

/// Takes a request for a seal in: under a spent key the first one again, else a new one, which
/// waits unless its text was sealed before.
///
/// # Errors
/// `KeyReused`, `SealsFull`.
pub fn request(
    view: View<'_>,
    wish: SealWish,
    circumstances: &Circumstances,
) -> Result<Verdict, Refusal> {
    let (state, now) = (view.state, circumstances.now.uptime);
    if let Some(spent) = first_use(view, wish.key.as_ref(), now)? {
        return Ok(Verdict::Known(Reply::SealReplayed(spent.lsn)));
    }
    let text_key = text_key(&wish.text);
    let sealed = view.key(&text_key, now).map(|spent| spent.lsn);
    let (mut position, mut eta_s) = (0, 0);
    if sealed.is_none() {
        position = waiting(state, now) + 1;
        eta_s = wish.limit.eta_ms(state.calls(), position, now).div_ceil(1000);
        if state.seals().len() >= SEALS_WAITING_MAX {
            return Err(Refusal::SealsFull { retry_after_s: eta_s.max(1) });
        }
    }
    let SealWish { text, webhook_url, key, .. } = wish;
    let key = key.map(|key| spend(key, circumstances));
    let request = RequestedSeal { text, text_key, webhook_url, key, position, eta_s, sealed };
    Ok(Verdict::Record(vec![Fact::SealRequested(request)], Draft::SealRequested))
}

/// Messages on the queue that are neither done nor dead letters.
#[must_use]
pub fn waiting(state: &State, now: Uptime) -> u64 {
    let counts = queue(state).counts(now);
    (counts.ready + counts.leased + counts.delayed) as u64
}

/// The message whose turn it is, those of `busy` left out: see [`Limit::turn`]. Among fresh
/// messages the oldest; among those that were tried before the one with the fewest attempts, so
/// that no number of hopeless ones keeps the others waiting.
#[must_use]
pub fn next(
    state: &State,
    limit: &Limit,
    busy: &BTreeSet<MessageId>,
    now: Uptime,
) -> Option<MessageId> {
    let (queue, seals) = (queue(state), state.seals());
    // Texts that another request stands for.
    let mut taken: BTreeSet<&[u8; 32]> =
        queue.held_back(now).filter_map(|id| seals.text_key(id)).collect();
    let mut back: Vec<(u32, MessageId)> = queue
        .returned(now)
        .filter(|(id, _)| !busy.contains(id))
        .filter(|(id, _)| seals.text_key(*id).is_none_or(|text| !taken.contains(text)))
        .map(|(id, attempts)| (attempts, id))
        .collect();
    taken.extend(back.iter().filter_map(|(_, id)| seals.text_key(*id)));
    let is_free = |id: &MessageId| {
        !busy.contains(id) && seals.text_key(*id).is_none_or(|text| !taken.contains(text))
    };
    back.sort_unstable();
    // Redriven ones start anew.
    let redriven = back.first().filter(|(attempts, _)| *attempts == 0).map(|(_, id)| *id);
    let fresh = queue.fresh().find(is_free).into_iter().chain(redriven).min();
    let retried = back.iter().find(|(attempts, _)| *attempts > 0).map(|(_, id)| *id);
    let waiting = Waiting { has_fresh: presence(fresh), has_retried: presence(retried) };
    match limit.turn(state.calls(), waiting, now)? {
        Share::Fresh => fresh,
        Share::Retried | Share::Other => retried,
    }
}

fn presence<T>(found: Option<T>) -> Presence {
    found.map_or(Presence::None, |_| Presence::Some)
}

/// Leases a message and begins the call for it, if the limit allows one now.
pub fn begin(view: View<'_>, begin: &SealBegin, circumstances: &Circumstances) -> Verdict {
    let Circumstances { now, token, .. } = *circumstances;
    let (state, message) = (view.state, begin.message);
    let refuse = |begun| Verdict::Known(Reply::SealBegun(begun));
    if let Some(spent) = view.key(&begin.text_key, now.uptime) {
        return refuse(Begun::Sealed(spent.lsn));
    }
    let queue = queue(state);
    if !queue.is_leasable(message, now.uptime) {
        return refuse(Begun::Gone);
    }
    match begin.limit.gate(state.calls(), now.uptime) {
        Gate::Open => {}
        closed => return refuse(Begun::Closed(closed)),
    }
    let attempts = queue.attempts(message);
    let purpose = match attempts {
        0 => CallPurpose::Fresh(message),
        _ => CallPurpose::Retried(message),
    };
    let receipt = Receipt { message, attempt: attempts + 1, epoch: state.epoch(), token };
    let SealBegin { lease_ms, attempts_max, deadline_ms, .. } = *begin;
    let messages = vec![touched(state, &seals(), message)];
    let leased = Fact::Leased { queue: seals(), messages, lease_ms, attempts_max, token };
    let facts = vec![leased, Fact::CallBegun { purpose, deadline_ms }];
    Verdict::Record(facts, Draft::SealBegun(receipt))
}

/// Ends the call for a message with what came of it. Whatever happened to the message meanwhile,
/// the call has ended.
pub fn end(view: View<'_>, end: SealEnd, circumstances: &Circumstances) -> Verdict {
    let ending = Ending { view, circumstances, end: &end };
    let (facts, draft) = match &end.outcome {
        SealOutcome::Signed(signature) => ending.signed(signature),
        SealOutcome::Failed { reason, delay_ms } => ending.failed(reason, *delay_ms),
        SealOutcome::Deferred { pause_ms } => ending.deferred(*pause_ms),
    };
    Verdict::Record(facts, Draft::SealEnded(draft))
}

/// What the end of a call leads to, before LSNs are known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndDraft {
    /// The record of the group that seals the text.
    pub sealed: Option<InGroup>,
    /// The requests that are at an end.
    pub settled: Vec<MessageId>,
}

struct Ending<'a> {
    view: View<'a>,
    circumstances: &'a Circumstances,
    end: &'a SealEnd,
}

impl Ending<'_> {
    fn signed(&self, signature: &str) -> (Vec<Fact>, EndDraft) {
        let Circumstances { now, token, .. } = *self.circumstances;
        let (state, own) = (self.view.state, self.end.receipt.message);
        let mut facts = vec![self.call_ended(0)];
        if let Some(spent) = self.view.key(&self.end.text_key, now.uptime) {
            // Never twice: the index knows one record for each text.
            return (self.acked(facts, spent.lsn), EndDraft::default());
        }
        let asked = self.still_asked();
        // The message may have lapsed and been removed; the signature is others' as well.
        let heir = asked.first().copied().map(message_of);
        let message = if queue(state).holds(own) { Some(own) } else { heir };
        let Some(message) = message else { return (facts, EndDraft::default()) };
        let settled: Vec<MessageId> = asked.iter().copied().map(message_of).collect();
        let is_inline = |asked: &&Asked| asked.telling == Telling::Inline;
        let place = facts.len();
        facts.push(Fact::Sealed(GivenSeal {
            message: touched(state, &seals(), message),
            shared: settled.iter().copied().filter(|id| *id != message).collect(),
            inline: asked.iter().filter(is_inline).copied().map(message_of).collect(),
            signature: signature.into(),
            index: index_of(self.end.text_key),
        }));
        facts.extend(answers(&asked, token, SealedBy::Back));
        if let Some(formula) = self.end.formula {
            facts.extend(formula_sealed(self.view, formula, own, signature, token));
        }
        let place = u32::try_from(place).expect("a group is small");
        (facts, EndDraft { sealed: Some(InGroup(place)), settled })
    }

    /// The text was sealed meanwhile by another record.
    fn acked(&self, mut facts: Vec<Fact>, sealed: Lsn) -> Vec<Fact> {
        if self.is_held() {
            facts.push(Fact::Acked { queue: seals(), messages: vec![self.touched()] });
            let own = self.end.receipt.message;
            let asked = self.still_asked().into_iter().filter(|asked| asked.message == own);
            let told = asked.map(|asked| match asked.telling {
                Telling::Inline => Asked { telling: Telling::Hook, ..asked },
                _ => asked,
            });
            let told: Vec<Asked> = told.collect();
            let token = self.circumstances.token;
            facts.extend(answers(&told, token, |_| SealedBy::Record(sealed)));
            let due = self.end.formula.and_then(|formula| next_due(self.view, formula, own));
            facts.extend(due);
        }
        facts
    }

    fn failed(&self, reason: &str, delay_ms: u64) -> (Vec<Fact>, EndDraft) {
        let mut facts = vec![self.call_ended(0)];
        let mut ended = EndDraft::default();
        if self.is_held() {
            let messages = vec![self.touched()];
            let reason: Box<str> = reason.into();
            facts.push(Fact::Nacked { queue: seals(), messages, delay_ms, reason: reason.clone() });
            if self.end.receipt.attempt >= self.end.attempts_max {
                ended.settled = self.condemned(&mut facts, reason);
            }
        }
        (facts, ended)
    }

    /// All that wait for the text end with the message whose last attempt it was.
    fn condemned(&self, facts: &mut Vec<Fact>, reason: Box<str>) -> Vec<MessageId> {
        let Circumstances { now, token, .. } = *self.circumstances;
        let (state, own) = (self.view.state, self.end.receipt.message);
        let others = self.still_asked().into_iter().map(message_of).filter(|id| *id != own);
        let others: Vec<MessageId> =
            others.filter(|id| queue(state).is_leasable(*id, now.uptime)).collect();
        if !others.is_empty() {
            facts.push(leased(state, &others, self.end.attempts_max, token));
            let messages = others.iter().map(|id| touched(state, &seals(), *id)).collect();
            facts.push(Fact::Condemned { queue: seals(), messages, reason });
        }
        std::iter::once(own).chain(others).collect()
    }

    fn deferred(&self, pause_ms: u64) -> (Vec<Fact>, EndDraft) {
        let mut facts = vec![self.call_ended(pause_ms)];
        if self.is_held() {
            let messages = vec![self.touched()];
            facts.push(Fact::Deferred { queue: seals(), messages, delay_ms: 0 });
        }
        (facts, EndDraft::default())
    }

    fn call_ended(&self, pause_ms: u64) -> Fact {
        Fact::CallEnded { call: self.end.call, pause_ms }
    }

    fn is_held(&self) -> bool {
        queue(self.view.state).is_held(&self.end.receipt, self.circumstances.now.uptime)
    }

    fn touched(&self) -> Touched {
        touched(self.view.state, &seals(), self.end.receipt.message)
    }

    /// The requests that the caller names, as far as they still wait for this text.
    fn still_asked(&self) -> Vec<Asked> {
        still_asked(self.view.state, &self.end.asked, &self.end.text_key)
    }
}

/// Settles messages whose text is sealed, without a call; those that can be had at present.
pub fn settle(view: View<'_>, settle: SealSettle, circumstances: &Circumstances) -> Verdict {
    let Circumstances { now: Moment { uptime: now, .. }, token, policy } = *circumstances;
    let nothing = Verdict::Known(Reply::SealEnded(SealEnded::default()));
    let Some(spent) = view.key(&settle.text_key, now) else { return nothing };
    let queue = queue(view.state);
    let mut asked = still_asked(view.state, &settle.asked, &settle.text_key);
    asked.retain(|asked| queue.is_leasable(asked.message, now));
    let formula = settle.formula.filter(|formula| queue.is_leasable(formula.message, now));
    let mut ids: Vec<MessageId> = asked.iter().copied().map(message_of).collect();
    ids.extend(formula.as_ref().map(|formula| formula.message));
    if ids.is_empty() {
        return nothing;
    }
    ids.sort_unstable();
    let messages = ids.iter().map(|id| touched(view.state, &seals(), *id)).collect();
    let mut facts = vec![leased(view.state, &ids, policy.attempts_max, token)];
    facts.push(Fact::Acked { queue: seals(), messages });
    facts.extend(answers(&asked, token, |_| SealedBy::Record(spent.lsn)));
    if let Some(it) = formula {
        facts.extend(formula_sealed(view, it.formula, it.message, &it.signature, token));
    }
    let ended = SealEnded { sealed: Some(spent.lsn), settled: ids };
    Verdict::Record(facts, Draft::Complete(Reply::SealEnded(ended)))
}

/// Owes answers to callers who left while their seal was being recorded.
pub fn owe_answers(sealed: Lsn, requests: &[MessageId], circumstances: &Circumstances) -> Verdict {
    let asked = |&message: &MessageId| Asked { message, telling: Telling::Hook };
    let asked: Vec<Asked> = requests.iter().map(asked).collect();
    let by_record = |_| SealedBy::Record(sealed);
    let facts: Vec<Fact> = answers(&asked, circumstances.token, by_record).collect();
    match facts.is_empty() {
        true => Verdict::Known(Reply::Done),
        false => Verdict::Record(facts, Draft::Complete(Reply::Done)),
    }
}

/// Begins a call that is for no message. While messages wait, such calls do not take all.
pub fn begin_call(state: &State, begin: &CallBegin, circumstances: &Circumstances) -> Verdict {
    let now = circumstances.now.uptime;
    let is_contended = queue(state).counts(now).ready > 0;
    let gate =
        begin.limit.gate_for_others(state.calls(), presence(is_contended.then_some(())), now);
    if gate != Gate::Open {
        return Verdict::Known(Reply::CallBegun(Err(gate)));
    }
    let CallBegin { purpose, deadline_ms, .. } = *begin;
    let begun = Fact::CallBegun { purpose: purpose.into(), deadline_ms };
    Verdict::Record(vec![begun], Draft::CallBegun)
}

/// Ends such a call.
#[must_use]
pub fn end_call(call: Lsn, pause_ms: u64) -> Verdict {
    Verdict::Record(vec![Fact::CallEnded { call, pause_ms }], Draft::Complete(Reply::Done))
}

/// A lease of messages that are settled in the same group.
fn leased(state: &State, ids: &[MessageId], attempts_max: u32, token: u64) -> Fact {
    let messages = ids.iter().map(|id| touched(state, &seals(), *id)).collect();
    Fact::Leased { queue: seals(), messages, lease_ms: LEASE_MS_MIN, attempts_max, token }
}

fn still_asked(state: &State, asked: &[Asked], text_key: &[u8; 32]) -> Vec<Asked> {
    let is_asked = |it: &&Asked| state.seals().text_key(it.message) == Some(text_key);
    asked.iter().filter(is_asked).copied().collect()
}

/// The calls to `webhook_url`s that are owed. `sealed` names the record of the seal, given how
/// many records of the group stand in between if it stands right in front of them.
fn answers(
    asked: &[Asked],
    token: u64,
    sealed: impl Fn(u32) -> SealedBy,
) -> impl Iterator<Item = Fact> {
    let by_hook = asked.iter().filter(|asked| asked.telling == Telling::Hook);
    (1..).zip(by_hook).map(move |(back, asked)| {
        let happening = Happening::SealAnswered { sealed: Some(sealed(back)) };
        owed_to(Recipient::SealRequest(asked.message.0), happening, token)
    })
}

/// What follows from a formula's seal: the next step of its flow, and what is owed to those who
/// want to be told; nothing for one that was withdrawn meanwhile.
fn formula_sealed(
    view: View<'_>,
    formula: FlowSeal,
    message: MessageId,
    signature: &str,
    token: u64,
) -> Vec<Fact> {
    let MessageId(seq) = message;
    let FlowSeal { fingerprint, .. } = formula;
    if view.formula(&fingerprint) != Some(seq) {
        return Vec::new();
    }
    let signature: Box<str> = signature.into();
    let told = owed(view.state, Event::FormulaSealed, token, |_| Happening::FormulaSealed {
        formula: fingerprint,
        seq,
        signature: signature.clone(),
    });
    next_due(view, formula, message).into_iter().chain(told).collect()
}

/// The turn of a sealed formula at the next step of its flow. None for one that was withdrawn
/// meanwhile, nor for one whose seal an operator has given up: that it is sealed all the same, by
/// a call that was under way, or for somebody else, must not bring its release about.
fn next_due(view: View<'_>, formula: FlowSeal, message: MessageId) -> Option<Fact> {
    let is_stored = view.formula(&formula.fingerprint) == Some(message.0);
    let is_waiting = is_stored && queue(view.state).holds(message);
    match formula.next {
        Some(FlowStep::Release) if is_waiting => Some(Fact::ReleaseDue { formula: message }),
        // No flow seals twice.
        Some(FlowStep::Release | FlowStep::Seal) | None => None,
    }
}

fn message_of(asked: Asked) -> MessageId {
    asked.message
}

fn queue(state: &State) -> &Queue {
    state.queue(QueueName::SEALS).expect("a built-in queue")
}

fn seals() -> QueueName {
    QueueName::SEALS.parse().expect("a name of ours")
}

#[cfg(test)]
mod tests;
