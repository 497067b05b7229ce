//! The sealer's steps, as the worker takes them: look, begin, sync, send, end; and the callers who
//! wait for it.

use std::collections::BTreeSet;

use sillage::engine::command::seals::{
    Asked, Begun, CallBegin, FlowSeal, Purpose, SealBegin, SealEnd, SealEnded, SealOutcome,
    SealSettle, SealSubject, SealedFormula, Telling,
};
use sillage::engine::core::{Core, Decided};
use sillage::engine::decide::gate::Gate;
use sillage::engine::decide::{Refusal, Reply, seals};
use sillage::ids::{Lsn, MessageId, QueueName, Receipt};
use sillage::limits::{SEAL_ANSWER_LATEST_MS, SEAL_ANSWER_MS};
use sillage::record::seals::text_key;
use sillage::record::{Fact, FlowStep};
use sillage::state::State;
use sillage::state::calls::Share;
use sillage::time::Uptime;

use super::authority::{Came, Subject, fate, outcome};
use super::machine::ask;
use super::{Claim, Event, Job, Service};

/// A call for a message, under way.
pub struct Flight {
    call: Lsn,
    receipt: Receipt,
    subject: SealSubject,
    came: Came,
}

impl Service {
    /// One look at the queue, unless the last one is not answered yet.
    pub(super) fn sealer(&mut self, core: &Core) {
        if self.hands.beginning {
            return;
        }
        let limit = self.terms.limit;
        while let Some((message, candidates)) = self.next_seal(core) {
            let subject = self.subject(core, message);
            if self.hands.texts.contains(&subject.text_key) {
                self.hands.busy.insert(message);
                continue;
            }
            let super::Terms { deadline_ms, lease_ms, attempts_max, .. } = self.terms;
            let text_key = subject.text_key;
            let begin = SealBegin { message, text_key, limit, deadline_ms, lease_ms, attempts_max };
            self.hands.jobs.push(Job::Begin { begin, subject, candidates });
            self.hands.beginning = true;
            return;
        }
    }

    /// The message whose turn it is, and whether fresh and retried ones wait that have no call.
    fn next_seal(&self, core: &Core) -> Option<(MessageId, [bool; 2])> {
        let (limit, busy) = (self.terms.limit, &self.hands.busy);
        ask(core, &self.machine.clock, |state, now| {
            if limit.gate(state.calls(), now.uptime) != Gate::Open {
                return None;
            }
            let next = seals::next(state, &limit, busy, now.uptime)?;
            // One that a crash cut off counts as under way for as long as it may take.
            let calls = state.calls();
            let running = |share| {
                calls.running().any(|(_, it)| it.purpose.share() == share)
                    || calls.ended().any(|it| it.at > now.uptime && it.share == share)
            };
            let is_idle = [!running(Share::Fresh), !running(Share::Retried)];
            let [fresh, retried] = candidates(state, busy, now.uptime);
            Some((next, [fresh && is_idle[0], retried && is_idle[1]]))
        })
    }

    fn subject(&self, core: &Core, message: MessageId) -> SealSubject {
        let kept = core.read(message.0).expect("it can be read").expect("it is there");
        match kept.record.fact {
            Fact::SealRequested(asked) => {
                let telling = self.asked(message).telling;
                let (text, text_key) = (asked.text, asked.text_key);
                SealSubject { message, text, text_key, formula: None, telling }
            }
            Fact::FormulaAccepted(accepted) => {
                let fingerprint = accepted.fingerprint;
                let text: Box<str> = fingerprint.to_string().into();
                let text_key = text_key(&text);
                let next = accepted.step_after(FlowStep::Seal);
                let formula = Some(FlowSeal { fingerprint, next });
                let telling = Telling::Nothing;
                SealSubject { message, text, text_key, formula, telling }
            }
            other => panic!("message {message} on seals is {other:?}"),
        }
    }

    pub(super) fn told_sealer(&mut self, job: Job, decided: Decided, before: Uptime, core: &Core) {
        match (job, decided) {
            (Job::Begin { subject, candidates, .. }, decided) => {
                self.hands.beginning = false;
                self.told_begin(subject, candidates, decided, before);
            }
            (Job::End { end, subject }, Ok(Reply::SealEnded(ended))) => {
                let receipt = end.receipt;
                let is_late = before >= self.lease_end(receipt);
                let is_signed = matches!(end.outcome, SealOutcome::Signed(_));
                self.tally.late += u64::from(is_late && is_signed);
                self.told_end(&end, &subject, &ended, core);
            }
            (Job::Settle { settle }, Ok(Reply::SealEnded(ended))) => {
                self.tally.settled_without_call += ended.settled.len() as u64;
                self.dismiss(&ended.settled);
                if !ended.settled.is_empty() {
                    self.settle_rest(settle.text_key, core);
                }
            }
            (Job::BeginCall(begin), Ok(Reply::CallBegun(Ok(call)))) => self.send_other(call, begin),
            (Job::BeginCall(_), Ok(Reply::CallBegun(Err(_)))) => self.tally.others_refused += 1,
            (Job::EndCall { pause_ms, .. }, Ok(Reply::Done)) => self.pause(pause_ms),
            (Job::Owe { .. }, Ok(Reply::Done)) => self.tally.owed_after += 1,
            (Job::BeginCall(_), Err(Refusal::DiskFull | Refusal::Unreadable)) => {}
            (job, Err(Refusal::DiskFull | Refusal::Unreadable)) => self.again(job),
            (_, decided) => panic!("the sealer is answered by {decided:?}"),
        }
    }

    fn told_begin(
        &mut self,
        subject: SealSubject,
        candidates: [bool; 2],
        decided: Decided,
        before: Uptime,
    ) {
        match decided {
            Ok(Reply::SealBegun(Begun::Call { call, receipt })) => {
                let deadline_ms = self.terms.deadline_ms;
                self.in_turn(&receipt, candidates);
                let lease_end = before.plus_ms(self.terms.lease_ms);
                self.hands.lease_ends.insert(receipt.message, lease_end);
                self.hands.texts.insert(subject.text_key);
                let is_hopeless = subject.text.starts_with("never");
                let what = if is_hopeless { Subject::Hopeless } else { Subject::Text };
                let fate = fate(&mut self.machine.random, self.terms.mood, what, deadline_ms);
                self.send(call, fate.arrives_ms);
                // Its end may be noticed late, if the process has much to do.
                let tardy = if self.machine.random.u8(..8) == 0 { 600 } else { 1 };
                let notice_ms = self.machine.random.u64(0..tardy);
                let flight = Flight { call, receipt, subject, came: fate.came };
                let at = self.machine.ms() + fate.ends_ms + notice_ms;
                self.at(at, Event::Over(Box::new(flight)));
            }
            Ok(Reply::SealBegun(Begun::Sealed(sealed))) => {
                let (_, seal) = &self.tape.sealed[&subject.text_key];
                assert_eq!(self.tape.sealed[&subject.text_key].0, sealed);
                let signature = seal.signature.clone();
                let formula = subject.formula.map(|formula| SealedFormula {
                    message: subject.message,
                    formula,
                    signature,
                });
                let asked = self.waiting(subject.text_key);
                let settle = SealSettle { text_key: subject.text_key, asked, formula };
                self.hands.jobs.push(Job::Settle { settle });
            }
            Ok(Reply::SealBegun(Begun::Closed(gate))) => {
                self.tally.closed += u64::from(gate != Gate::Open);
            }
            Ok(Reply::SealBegun(Begun::Gone)) => self.tally.gone_before_call += 1,
            // The next look tries again.
            Err(Refusal::DiskFull | Refusal::Unreadable) => self.tally.disk_full += 1,
            other => panic!("the beginning of a call is answered by {other:?}"),
        }
    }

    /// While fresh and retried ones wait, and none of a kind is being called for or may be, the other
    /// has no more turns in a row than a window has calls.
    fn in_turn(&mut self, receipt: &Receipt, candidates: [bool; 2]) {
        let mine = usize::from(receipt.attempt > 1);
        let passed_over = &mut self.hands.passed_over;
        passed_over[mine] = 0;
        passed_over[1 - mine] = if candidates[1 - mine] { passed_over[1 - mine] + 1 } else { 0 };
        let most = self.terms.limit.calls.max(1);
        assert!(passed_over[1 - mine] <= most, "one kind waits while the other has every turn");
        self.tally.both_waited += u64::from(candidates == [true; 2]);
    }

    fn send(&mut self, call: Lsn, arrives_ms: Option<u64>) {
        let now = self.machine.ms();
        assert!(now >= self.quiet_until, "the authority wants no call yet");
        self.authority.send(call, self.terms.limit);
        if let Some(ms) = arrives_ms {
            self.at(now + ms, Event::Arrives(call));
        }
    }

    fn send_other(&mut self, call: Lsn, begin: CallBegin) {
        let CallBegin { deadline_ms, .. } = begin;
        let fate = fate(&mut self.machine.random, self.terms.mood, Subject::Text, deadline_ms);
        self.send(call, fate.arrives_ms);
        let pause_ms = match fate.came {
            Came::TooMany(ms) => ms,
            _ => 0,
        };
        self.tally.others += 1;
        let at = self.machine.ms() + fate.ends_ms;
        self.at(at, Event::OtherOver(call, pause_ms));
    }

    /// A call for something else than a message.
    pub(super) fn other_call(&mut self) -> Job {
        let purpose = if self.machine.random.bool() { Purpose::Verify } else { Purpose::Probe };
        let super::Terms { limit, deadline_ms, .. } = self.terms;
        Job::BeginCall(CallBegin { purpose, limit, deadline_ms })
    }

    /// An answer has come: who is told of it how is found out before it is recorded.
    pub(super) fn over(&mut self, flight: Flight, core: &Core) {
        let Flight { call, receipt, subject, came } = flight;
        let outcome = outcome(&mut self.machine.random, came, &signature(&subject.text));
        let attempts_max = self.terms.attempts_max;
        let is_last = receipt.attempt >= attempts_max;
        let mut asked = match &outcome {
            SealOutcome::Signed(_) => self.asked_for(&subject, core),
            SealOutcome::Failed { .. } if is_last => self.asked_for(&subject, core),
            _ => Vec::new(),
        };
        if matches!(outcome, SealOutcome::Signed(_)) {
            for asked in &mut asked {
                if let Some(claim) = self.hands.waiting.get_mut(&asked.message) {
                    *claim = Claim::Claimed;
                    asked.telling = Telling::Inline;
                }
            }
        }
        let (text_key, formula) = (subject.text_key, subject.formula);
        let end = SealEnd { call, receipt, text_key, formula, asked, attempts_max, outcome };
        self.hands.jobs.push(Job::End { end: Box::new(end), subject });
    }

    fn asked_for(&self, subject: &SealSubject, core: &Core) -> Vec<Asked> {
        let mut asked = self.waiting_in(subject.text_key, core);
        let own = Asked { message: subject.message, telling: subject.telling };
        if subject.formula.is_none() && !asked.iter().any(|it| it.message == own.message) {
            asked.push(own);
        }
        asked
    }

    fn waiting_in(&self, text_key: [u8; 32], core: &Core) -> Vec<Asked> {
        let waiting = ask(core, &self.machine.clock, |state, now| {
            let queue = state.queue(QueueName::SEALS).expect("built in");
            let is_dead = |id: &MessageId| queue.is_dead(*id, now.uptime);
            let (dead, alive): (Vec<_>, Vec<_>) =
                state.seals().waiting(&text_key).partition(is_dead);
            alive.into_iter().chain(dead).collect::<Vec<MessageId>>()
        });
        waiting.into_iter().map(|message| self.asked(message)).collect()
    }

    /// The same from the facts, for a look that is not at the state.
    fn waiting(&self, text_key: [u8; 32]) -> Vec<Asked> {
        let requests = self.tape.requests.iter();
        let waits = requests.filter(|(lsn, request)| {
            request.asked.text_key == text_key
                && request.asked.sealed.is_none()
                && !self.tape.settled.contains(&MessageId(**lsn))
        });
        waits.map(|(lsn, _)| self.asked(MessageId(*lsn))).collect()
    }

    fn told_end(&mut self, end: &SealEnd, subject: &SealSubject, ended: &SealEnded, core: &Core) {
        self.hands.texts.remove(&subject.text_key);
        self.hands.busy.clear();
        if let SealOutcome::Deferred { pause_ms } = end.outcome {
            self.pause(pause_ms);
        }
        let claimed = end.asked.iter().filter(|asked| asked.telling == Telling::Inline);
        let claimed: Vec<MessageId> = claimed.map(|asked| asked.message).collect();
        match ended.sealed {
            Some(sealed) => {
                assert_eq!(self.tape.sealed[&subject.text_key].0, sealed, "it names its record");
                self.answer(&claimed, sealed);
            }
            None => self.dismiss(&claimed),
        }
        self.dismiss(&ended.settled);
        self.settle_rest(subject.text_key, core);
    }

    fn answer(&mut self, claimed: &[MessageId], sealed: Lsn) {
        let mut gone = Vec::new();
        for message in claimed {
            match self.hands.waiting.remove(message) {
                Some(_) => drop(self.answered[0].insert(*message)),
                None => gone.push(*message),
            }
        }
        gone.retain(|message| self.tape.requests[&message.0].asked.webhook_url.is_some());
        if !gone.is_empty() {
            self.hands.jobs.push(Job::Owe { sealed, requests: gone });
        }
    }

    /// They are told that there is nothing in time.
    fn dismiss(&mut self, requests: &[MessageId]) {
        for request in requests {
            if self.hands.waiting.remove(request).is_some() {
                self.answered[1].insert(*request);
            }
        }
    }

    fn settle_rest(&mut self, text_key: [u8; 32], core: &Core) {
        if self.tape.sealed.contains_key(&text_key) {
            let asked = self.waiting_in(text_key, core);
            if !asked.is_empty() {
                let settle = SealSettle { text_key, asked, formula: None };
                self.hands.jobs.push(Job::Settle { settle });
            }
        }
    }

    fn pause(&mut self, pause_ms: u64) {
        let until = self.machine.ms() + pause_ms;
        self.quiet_until = self.quiet_until.max(until);
    }

    fn lease_end(&self, receipt: Receipt) -> Uptime {
        self.hands.lease_ends.get(&receipt.message).copied().unwrap_or(Uptime(u64::MAX))
    }

    /// A caller begins to wait for his seal.
    pub(super) fn waits(&mut self, request: MessageId) {
        self.hands.waiting.insert(request, Claim::Free);
        // Some have less patience than the server.
        let patience_ms = self.machine.random.u64(0..=SEAL_ANSWER_MS);
        let now = self.machine.ms();
        self.at(now + patience_ms, Event::Leaves(request));
    }

    pub(super) fn leaves(&mut self, request: MessageId) {
        match self.hands.waiting.get(&request) {
            Some(Claim::Free) => self.dismiss(&[request]),
            Some(Claim::Claimed) => {
                let more_ms = SEAL_ANSWER_LATEST_MS - SEAL_ANSWER_MS;
                let at = self.machine.ms() + self.machine.random.u64(0..=more_ms);
                self.at(at, Event::LeavesAnyway(request));
            }
            None => {}
        }
    }

    pub(super) fn leaves_anyway(&mut self, request: MessageId) {
        if self.hands.waiting.contains_key(&request) {
            self.tally.left_late += 1;
            self.left_late.insert(request);
            self.dismiss(&[request]);
        }
    }
}

/// Whether fresh messages wait that could be called for, and whether others do. One for whose text
/// another stands could not.
fn candidates(state: &State, busy: &BTreeSet<MessageId>, now: Uptime) -> [bool; 2] {
    let queue = state.queue(QueueName::SEALS).expect("built in");
    let text = |id: MessageId| state.seals().text_key(id);
    let held: BTreeSet<_> = queue.held_back(now).filter_map(text).collect();
    let is_free = |id: MessageId, taken: &BTreeSet<&[u8; 32]>| {
        !busy.contains(&id) && text(id).is_none_or(|text| !taken.contains(text))
    };
    let back: Vec<_> = queue.returned(now).filter(|(id, _)| is_free(*id, &held)).collect();
    let texts_of_back = back.iter().filter_map(|(id, _)| text(*id));
    let taken: BTreeSet<_> = held.iter().copied().chain(texts_of_back).collect();
    let is_fresh = queue.fresh().any(|id| is_free(id, &taken));
    let is_redriven = back.iter().any(|(_, attempts)| *attempts == 0);
    [is_fresh || is_redriven, back.iter().any(|(_, attempts)| *attempts > 0)]
}

/// What the authority signs. It is long where texts are.
pub fn signature(text: &str) -> String {
    let bytes = text.len() * 2;
    format!("{:bytes$}{text}", "signed: ")
}
