//! Who wants to be told of what, and which calls were made.
//!
//! What is owed stands on the queue `hooks`; here are the subscriptions and the latest calls
//! that were taken.

use std::collections::BTreeMap;

use bincode::{Decode, Encode};

use super::digest::{Digest, Tag, entry, fold};
use crate::ids::{Lsn, MessageId};
use crate::limits::DELIVERIES_KEPT_MAX;
use crate::record::hooks::{CreatedHook, Event, Events, HookSecret};
use crate::time::{Moment, Timestamp, Uptime};

/// All subscriptions, and the latest deliveries.
///
/// Invariant: `delivered` holds at most `DELIVERIES_KEPT_MAX` deliveries.
#[derive(Clone, Debug, Default)]
pub struct Hooks {
    pub(super) hooks: BTreeMap<Lsn, Hook>,
    pub(super) own_secret: Option<HookSecret>,
    pub(super) delivered: BTreeMap<MessageId, Delivered>,
    /// What anybody is subscribed to.
    wanted: Events,
    digest: Digest,
}

/// A subscription.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Hook {
    /// Where to call.
    pub url: Box<str>,
    /// What of.
    pub events: Events,
    /// What calls are signed with.
    pub secret: HookSecret,
    /// The secret before, which calls are signed with, too, up to this uptime.
    pub former: Option<(HookSecret, Uptime)>,
    /// Why it is called no more; `None`: it is.
    pub disabled: Option<Box<str>>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A call that was made and taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Delivered {
    /// When.
    pub at: Timestamp,
    /// The status of the answer.
    pub status: u16,
    /// How long it took.
    pub took_ms: u64,
    /// At which attempt.
    pub attempt: u32,
}

impl Hook {
    /// As it is when it has just been made.
    #[must_use]
    pub fn new(created: &CreatedHook, created_at: Timestamp) -> Hook {
        let CreatedHook { url, events, secret, .. } = created.clone();
        Hook { url, events, secret, former: None, disabled: None, created_at }
    }
}

impl Hooks {
    /// A subscription, by its id.
    #[must_use]
    pub fn get(&self, hook: Lsn) -> Option<&Hook> {
        self.hooks.get(&hook)
    }

    /// All subscriptions, in the order in which they were made.
    pub fn iter(&self) -> impl Iterator<Item = (Lsn, &Hook)> {
        self.hooks.iter().map(|(id, hook)| (*id, hook))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.hooks.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.hooks.is_empty()
    }

    /// Who wants to be told of an event, in the order of ids. Costs nothing if nobody does.
    pub fn subscribers(&self, event: Event) -> impl Iterator<Item = Lsn> + '_ {
        let hooks = self.wanted.contains(event).then_some(&self.hooks);
        let wants = move |hook: &Hook| hook.disabled.is_none() && hook.events.contains(event);
        hooks.into_iter().flatten().filter(move |(_, hook)| wants(hook)).map(|(id, _)| *id)
    }

    /// What answers to single requests are signed with; `None`: not made yet.
    #[must_use]
    pub fn own_secret(&self) -> Option<&HookSecret> {
        self.own_secret.as_ref()
    }

    /// The latest calls that were taken, by delivery.
    #[must_use]
    pub fn delivered(&self) -> &BTreeMap<MessageId, Delivered> {
        &self.delivered
    }

    /// Whether there never was one, nor anybody to be answered.
    pub(super) fn is_new(&self) -> bool {
        self.hooks.is_empty() && self.delivered.is_empty() && self.own_secret.is_none()
    }

    pub(super) fn create(&mut self, id: Lsn, created: &CreatedHook, at: Moment) {
        self.put(id, Hook::new(created, at.wall));
    }

    pub(super) fn delete(&mut self, id: Lsn) {
        self.take(id);
        self.resum();
    }

    pub(super) fn disable(&mut self, id: Lsn, reason: &str) {
        if let Some(hook) = self.take(id) {
            self.put(id, Hook { disabled: Some(reason.into()), ..hook });
        }
        self.resum();
    }

    pub(super) fn change_secret(&mut self, id: Lsn, secret: &HookSecret, until: Uptime) {
        if let Some(hook) = self.take(id) {
            let former = Some((hook.secret, until));
            self.put(id, Hook { secret: secret.clone(), former, ..hook });
        }
    }

    pub(super) fn set_own_secret(&mut self, secret: &HookSecret) {
        self.digest.remove(own_hash(self.own_secret.as_ref()));
        self.own_secret = Some(secret.clone());
        self.digest.add(own_hash(self.own_secret.as_ref()));
    }

    pub(super) fn note_delivered(&mut self, delivery: MessageId, delivered: Delivered) {
        self.forget_delivered(delivery);
        self.digest.add(delivered_hash(delivery, &delivered));
        self.delivered.insert(delivery, delivered);
        if self.delivered.len() > DELIVERIES_KEPT_MAX
            && let Some((oldest, _)) = self.delivered.first_key_value()
        {
            self.forget_delivered(*oldest);
        }
    }

    /// Whether the delivery was made, as far as is remembered.
    pub(super) fn forget_delivered(&mut self, delivery: MessageId) -> bool {
        let Some(delivered) = self.delivered.remove(&delivery) else { return false };
        self.digest.remove(delivered_hash(delivery, &delivered));
        true
    }

    fn put(&mut self, id: Lsn, hook: Hook) {
        self.digest.add(hook_hash(id, &hook));
        if hook.disabled.is_none() {
            self.wanted.0 |= hook.events.0;
        }
        self.hooks.insert(id, hook);
    }

    fn take(&mut self, id: Lsn) -> Option<Hook> {
        let hook = self.hooks.remove(&id)?;
        self.digest.remove(hook_hash(id, &hook));
        Some(hook)
    }

    fn resum(&mut self) {
        let called = self.hooks.values().filter(|hook| hook.disabled.is_none());
        self.wanted = Events(called.fold(0, |all, hook| all | hook.events.0));
    }

    pub(super) fn digest(&self) -> u128 {
        self.digest.value()
    }

    /// Sums up what follows from entries that were put in place one by one.
    pub(super) fn reckon(&mut self) {
        self.digest = self.sum();
        self.resum();
    }

    fn sum(&self) -> Digest {
        let mut digest = Digest::default();
        self.hooks.iter().for_each(|(id, hook)| digest.add(hook_hash(*id, hook)));
        self.delivered.iter().for_each(|(id, it)| digest.add(delivered_hash(*id, it)));
        digest.add(own_hash(self.own_secret.as_ref()));
        digest
    }

    pub(super) fn check_invariants(&self) {
        assert!(self.delivered.len() <= DELIVERIES_KEPT_MAX, "only the latest are kept");
        assert_eq!(self.sum(), self.digest, "the digest is the sum over hooks and deliveries");
        for event in Event::NAMES.map(|(event, _)| event) {
            let mut hooks = self.hooks.values();
            let is_wanted = hooks.any(|h| h.disabled.is_none() && h.events.contains(event));
            assert_eq!(is_wanted, self.wanted.contains(event), "what is wanted is kept in sum");
        }
    }
}

fn hook_hash(id: Lsn, hook: &Hook) -> u128 {
    let Hook { url, events, secret, former, disabled, created_at } = hook;
    let [url, secret] = [url.as_bytes(), &secret.0].map(fold);
    let (former, until) = former.as_ref().map_or((0, 0), |(it, until)| (fold(&it.0), until.0));
    let disabled = disabled.as_ref().map_or(0, |reason| fold(reason.as_bytes()));
    let events = events.0.into();
    entry(Tag::Hook, &[id.0, url, events, secret, former, until, disabled, created_at.0])
}

fn delivered_hash(delivery: MessageId, delivered: &Delivered) -> u128 {
    let Delivered { at, status, took_ms, attempt } = *delivered;
    entry(Tag::Delivered, &[delivery.0.0, at.0, status.into(), took_ms, attempt.into()])
}

/// Nothing for none.
fn own_hash(secret: Option<&HookSecret>) -> u128 {
    secret.map_or(0, |secret| entry(Tag::OwnSecret, &[fold(&secret.0)]))
}
