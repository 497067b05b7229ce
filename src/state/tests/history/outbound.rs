//! Facts about seals and hooks, each as it could have been decided on the state at hand: calls
//! whose answers come late, twice, or in another reign included.

use super::{History, touched};
use crate::ids::{Lsn, MessageId, QueueName};
use crate::record::hooks::{
    CreatedHook, Event, Events, Happening, HookSecret, OwedDelivery, Recipient, Told,
};
use crate::record::seals::{CallPurpose, GivenSeal, RequestedSeal, index_of, text_key};
use crate::record::{Fact, Touched};
use crate::state::idempotency::KeyWhereabouts;

/// Few, so that several ask for the same, and that what is asked for is often sealed already.
pub const TEXTS: u8 = 6;

/// The identity of a text that requests ask for.
pub fn text(number: u8) -> [u8; 32] {
    text_key(&format!("text {number}"))
}

impl History {
    /// One group about seals or hooks; empty if what was drawn is not possible now.
    pub(super) fn outbound(&mut self) -> Vec<Fact> {
        match self.random.u8(..29) {
            0..=4 => vec![self.request()],
            5..=8 => self.begin_call(),
            9..=13 => self.end_call(),
            14..=17 => vec![self.owed()],
            18..=20 => self.deliver(),
            21 => self.redeliver(),
            22 => self.announce(),
            23 => vec![self.created_hook()],
            26.. => vec![self.group_call()],
            _ => self.change_hook().into_iter().collect(),
        }
    }

    /// The record by which a text was sealed.
    fn sealed(&self, text_key: &[u8; 32]) -> Option<Lsn> {
        match self.state().keys().find(text_key, self.now.uptime) {
            KeyWhereabouts::Spent(spent) => Some(spent.lsn),
            KeyWhereabouts::Below => None,
        }
    }

    fn request(&mut self) -> Fact {
        let text_key = text(self.random.u8(..TEXTS));
        let key = if self.random.u8(..4) == 0 { self.free_key() } else { None };
        let (sealed, webhook_url) = (self.sealed(&text_key), Some("https://h.example/".into()));
        let (position, eta_s, text) = (1, 6, "text".into());
        let webhook_url = webhook_url.filter(|_| self.random.bool());
        Fact::SealRequested(RequestedSeal {
            text,
            text_key,
            webhook_url,
            key,
            position,
            eta_s,
            sealed,
        })
    }

    fn begin_call(&mut self) -> Vec<Fact> {
        let deadline_ms = self.random.u64(1..400);
        let other = match self.random.u8(..8) {
            0 => Some(CallPurpose::Verify),
            1 => Some(CallPurpose::Probe),
            _ => None,
        };
        if let Some(purpose) = other {
            return vec![Fact::CallBegun { purpose, deadline_ms }];
        }
        let Some(lease) = self.lease(QueueName::SEALS, 1) else { return Vec::new() };
        let Fact::Leased { messages, .. } = &lease else { unreachable!("it is a lease") };
        let message = messages[0].message;
        let attempts = self.state().queue(QueueName::SEALS).expect("built in").attempts(message);
        let purpose =
            if attempts == 0 { CallPurpose::Fresh(message) } else { CallPurpose::Retried(message) };
        vec![lease, Fact::CallBegun { purpose, deadline_ms }]
    }

    fn end_call(&mut self) -> Vec<Fact> {
        let running = self.state().calls().running();
        let running: Vec<_> = running.map(|(call, running)| (call, *running)).collect();
        let Some(&(call, running)) = self.random.choice(&running) else { return Vec::new() };
        let (purpose, drawn) = (running.purpose, self.random.u8(..10));
        let pause_ms = if self.random.u8(..5) == 0 { self.random.u64(1..500) } else { 0 };
        let ended = Fact::CallEnded { call, pause_ms };
        let (CallPurpose::Fresh(message) | CallPurpose::Retried(message)) = purpose else {
            return vec![ended];
        };
        let outcome = match drawn {
            0..=4 => self.given(message),
            _ => self.settle_if_held(QueueName::SEALS, message),
        };
        std::iter::once(ended).chain(outcome).collect()
    }

    /// The seal of what a message asks for, wherever the message stands by now.
    fn given(&mut self, message: MessageId) -> Option<Fact> {
        let text_key = self.state().seals().text_key(message).copied();
        let of_formula = || self.fingerprints.get(&message.0).map(text_key_of);
        let text_key = text_key.or_else(of_formula)?;
        if self.sealed(&text_key).is_some() {
            return self.settle_if_held(QueueName::SEALS, message);
        }
        let mut shared: Vec<MessageId> = self.state().seals().waiting(&text_key).collect();
        shared.retain(|id| *id != message);
        // A bounded number of them would be settled at once.
        shared.truncate(3);
        let mut inline = shared.clone();
        inline.retain(|_| self.random.bool());
        let (signature, index) = ("signature".into(), index_of(text_key));
        let message = Touched { message, before: message.0 };
        Some(Fact::Sealed(GivenSeal { message, shared, inline, signature, index }))
    }

    fn settle_if_held(&mut self, queue: &'static str, message: MessageId) -> Option<Fact> {
        let held = self.held(queue);
        held.contains(&message).then(|| self.settlement_of(queue, vec![message]))
    }

    fn owed(&mut self) -> Fact {
        let hooks: Vec<Lsn> = self.state().hooks().iter().map(|(id, _)| id).collect();
        // Also to hooks that are gone: a ping, say, that was decided before.
        let to = self
            .random
            .choice(&hooks)
            .map_or(Recipient::SealRequest(Lsn(1)), |hook| Recipient::Hook(*hook));
        let happening = match self.random.bool() {
            true => Happening::Ping,
            false => Happening::SealAnswered { sealed: None },
        };
        Fact::HookOwed(OwedDelivery { to, happening, token: self.random.u64(..) })
    }

    /// Calls to hooks begin, or end in all possible ways.
    fn deliver(&mut self) -> Vec<Fact> {
        if self.random.bool() {
            return self.lease(QueueName::HOOKS, 4).into_iter().collect();
        }
        let queue = self.state().queue(QueueName::HOOKS).expect("built in");
        // A call may be taken after its lease lapsed, and after others have given it up.
        let mut on_queue: Vec<MessageId> = queue.leasable(self.now.uptime, 20);
        on_queue.extend(queue.dead_letters(self.now.uptime));
        let held = self.held(QueueName::HOOKS);
        let from = if self.random.u8(..4) == 0 { on_queue } else { held };
        let Some(&delivery) = self.random.choice(&from) else { return Vec::new() };
        if self.random.u8(..3) == 0 {
            return self.settle_if_held(QueueName::HOOKS, delivery).into_iter().collect();
        }
        let formulas: Vec<Lsn> = self.fingerprints.keys().copied().collect();
        let about = self.random.choice(&formulas).map(|&formula| Told {
            formula: touched(vec![MessageId(formula)])[0],
            event: Event::FormulaAccepted,
            hook: Lsn(1),
        });
        let (status, took_ms) = (204, self.random.u64(..100));
        vec![Fact::HookDelivered { delivery, about, status, took_ms }]
    }

    fn redeliver(&mut self) -> Vec<Fact> {
        let (hooks, now) = (self.state().hooks(), self.now.uptime);
        let queue = self.state().queue(QueueName::HOOKS).expect("built in");
        let mut done: Vec<MessageId> = hooks.delivered().keys().copied().collect();
        done.extend(queue.dead_letters(now));
        let delivery = self.random.choice(&done).copied();
        delivery.map(|delivery| Fact::HookRedelivered { delivery }).into_iter().collect()
    }

    fn announce(&mut self) -> Vec<Fact> {
        let name = self.any_queue();
        let (max, now) = (self.random.usize(1..5), self.now.uptime);
        let queue = self.state().queue(name).expect("built in");
        // One that has died without a record is no dead letter in the state yet.
        let is_told =
            |id: &MessageId| queue.dead.contains_key(id) && !queue.unannounced.contains(id);
        let dead = queue.dead_letters(now).into_iter();
        let messages: Vec<MessageId> = dead.filter(|id| !is_told(id)).take(max).collect();
        if messages.is_empty() {
            return Vec::new();
        }
        assert!(messages.iter().all(|&id| queue.is_dead(id, now)), "only the dead are told of");
        let owed = self.random.bool().then(|| self.owed());
        let announced = Fact::DeathsAnnounced { queue: super::named(name), messages };
        std::iter::once(announced).chain(owed).collect()
    }

    fn created_hook(&mut self) -> Fact {
        let key = if self.random.bool() { self.free_key() } else { None };
        let (url, secret) = ("https://h.example/".into(), self.secret());
        let events = Events(self.random.u32(..1 << Event::NAMES.len()));
        Fact::HookCreated(CreatedHook { url, events, secret, key })
    }

    fn change_hook(&mut self) -> Option<Fact> {
        let hooks: Vec<Lsn> = self.state().hooks().iter().map(|(id, _)| id).collect();
        if self.random.u8(..8) == 0 {
            return Some(Fact::OwnSecretMade { secret: self.secret() });
        }
        let hook = *self.random.choice(&hooks)?;
        Some(match self.random.u8(..6) {
            0..=1 => Fact::HookDeleted { hook },
            2..=3 => Fact::HookDisabled { hook, reason: "gone".into() },
            _ => {
                let (secret, overlap_ms) = (self.secret(), self.random.u64(..1000));
                Fact::HookSecretChanged { hook, secret, overlap_ms }
            }
        })
    }

    fn secret(&mut self) -> HookSecret {
        HookSecret(self.random.u64(..).to_le_bytes().into())
    }
}

/// The identity of the text that stands for a formula: its own, in hex.
fn text_key_of(fingerprint: &crate::formula::Fingerprint) -> [u8; 32] {
    text_key(&fingerprint.to_string())
}
