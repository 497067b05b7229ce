//! All facts that are durable, in order, and the rules that they must keep among themselves.
//!
//! This is a second opinion: it knows nothing of `State` and is fed from the disk alone.

use std::collections::{BTreeMap, BTreeSet};

use sillage::engine::core::Core;
use sillage::ids::{Lsn, MessageId, QueueName};
use sillage::log::ReadError;
use sillage::record::hooks::{Happening, OwedDelivery, Recipient};
use sillage::record::seals::{GivenSeal, RequestedSeal, text_key};
use sillage::record::{Fact, FlowStep, Selection, codec};

/// What the facts so far amount to.
#[derive(Default)]
pub struct Tape {
    read_to: Lsn,
    pub requests: BTreeMap<Lsn, Request>,
    /// Formulas whose flow asks for a seal.
    pub formulas: BTreeMap<Lsn, Box<str>>,
    pub withdrawn: BTreeSet<Lsn>,
    pub sealed: BTreeMap<[u8; 32], (Lsn, GivenSeal)>,
    /// Messages on `seals` that a seal has settled.
    pub settled: BTreeSet<MessageId>,
    pub purged: BTreeSet<MessageId>,
    pub running: BTreeSet<Lsn>,
    pub owed: BTreeMap<MessageId, OwedDelivery>,
    pub delivered: BTreeSet<MessageId>,
    pub dropped: BTreeSet<MessageId>,
    pub hooks: BTreeSet<Lsn>,
    pub hooks_deleted: BTreeSet<Lsn>,
    /// Dead letters that somebody was told of.
    pub announced: BTreeSet<(Box<str>, MessageId)>,
    pub tally: FactTally,
}

/// A request for a seal.
pub struct Request {
    pub asked: RequestedSeal,
    /// Answers owed to its `webhook_url`: with a signature, and without.
    pub answers: [u32; 2],
    /// How often its death was told.
    pub deaths: u32,
}

/// How often what was recorded.
#[derive(Clone, Copy, Debug, Default)]
pub struct FactTally {
    pub sealed: u64,
    pub shared: u64,
    pub inline: u64,
    pub known_at_once: u64,
    pub formulas_sealed: u64,
    pub deferred: u64,
    pub cut_off: u64,
    pub condemned: u64,
    pub announced: u64,
    pub redelivered: u64,
    pub told: u64,
    pub gone: u64,
}

impl Tape {
    /// Reads what has become durable.
    ///
    /// # Errors
    /// The disk's, when the power has gone off.
    pub fn read(&mut self, core: &Core) -> Result<(), ReadError> {
        let durable = core.log().durable().lsn;
        let (log, mut payload) = (core.log().reader(), Vec::new());
        while self.read_to < durable {
            let kind = log.read(self.read_to.next(), &mut payload)?;
            self.read_to = self.read_to.next();
            // Marks and seals of segments have LSNs, too, and are no records.
            if kind.is_delivered() {
                let record = codec::decode(&payload).expect("it was written by us");
                self.see(self.read_to, &record.fact);
            }
        }
        Ok(())
    }

    /// Whether the disk still answers.
    pub fn has_power(&self, core: &Core) -> bool {
        let read = core.log().reader().read(self.read_to, &mut Vec::new());
        !matches!(read, Err(ReadError::Disk(_)))
    }

    /// The record that seals a text.
    pub fn seal_of(&self, text: &str) -> Option<&(Lsn, GivenSeal)> {
        self.sealed.get(&text_key(text))
    }

    fn see(&mut self, lsn: Lsn, fact: &Fact) {
        match fact {
            Fact::Opened { .. } => {
                self.tally.cut_off += std::mem::take(&mut self.running).len() as u64;
            }
            Fact::FormulaAccepted(accepted) if accepted.flow.first() == Some(&FlowStep::Seal) => {
                self.formulas.insert(lsn, accepted.fingerprint.to_string().into());
            }
            Fact::FormulaWithdrawn { formula, .. } => {
                self.withdrawn.insert(*formula);
            }
            Fact::SealRequested(asked) => self.requested(lsn, asked),
            Fact::CallBegun { .. } => {
                self.running.insert(lsn);
            }
            Fact::CallEnded { call, .. } => {
                assert!(self.running.remove(call), "call {call} ends once, after it began");
            }
            Fact::Sealed(seal) => self.seal(lsn, seal),
            Fact::Acked { queue, messages } if queue.as_str() == QueueName::SEALS => {
                self.settled.extend(messages.iter().map(|touched| touched.message));
            }
            Fact::Acked { queue, messages } if queue.as_str() == QueueName::HOOKS => {
                self.dropped.extend(messages.iter().map(|touched| touched.message));
            }
            Fact::Deferred { queue, .. } if queue.as_str() == QueueName::SEALS => {
                self.tally.deferred += 1;
            }
            Fact::Condemned { queue, .. } if queue.as_str() == QueueName::SEALS => {
                self.tally.condemned += 1;
            }
            Fact::DeathsAnnounced { queue, messages } => {
                messages.iter().for_each(|&message| self.announce(queue, message));
            }
            Fact::Redriven { queue, which } => self.forget_dead(queue, which),
            Fact::Purged { queue, which } => {
                self.forget_dead(queue, which);
                let requests = self.requests.keys().chain(self.formulas.keys());
                match which {
                    Selection::Ids(ids) => self.purged.extend(ids),
                    Selection::All => self.purged.extend(requests.map(|lsn| MessageId(*lsn))),
                }
            }
            Fact::HookCreated(_) => {
                self.hooks.insert(lsn);
            }
            Fact::HookDeleted { hook } => {
                self.hooks_deleted.insert(*hook);
            }
            Fact::HookDisabled { .. } => self.tally.gone += 1,
            Fact::HookOwed(owed) => self.owe(lsn, owed),
            Fact::HookDelivered { delivery, .. } => {
                assert!(self.owed.contains_key(delivery), "only what is owed is delivered");
                assert!(self.delivered.insert(*delivery), "{delivery} is delivered once for good");
            }
            Fact::HookRedelivered { delivery } => {
                self.tally.redelivered += 1;
                self.delivered.remove(delivery);
                self.announced.remove(&(QueueName::HOOKS.into(), *delivery));
            }
            _ => {}
        }
    }

    fn requested(&mut self, lsn: Lsn, asked: &RequestedSeal) {
        let known = self.sealed.get(&asked.text_key).map(|(sealed, _)| *sealed);
        assert_eq!(asked.sealed, known, "a text that is sealed waits no more");
        self.tally.known_at_once += u64::from(known.is_some());
        let request = Request { asked: asked.clone(), answers: [0; 2], deaths: 0 };
        self.requests.insert(lsn, request);
    }

    fn seal(&mut self, lsn: Lsn, seal: &GivenSeal) {
        let all = || std::iter::once(seal.message.message).chain(seal.shared.iter().copied());
        for message in all() {
            assert_eq!(self.text_key(message), seal.index.key, "all have asked for this text");
            self.settled.insert(message);
        }
        let inline = seal.inline.iter().all(|inline| all().any(|message| message == *inline));
        assert!(inline, "only those that are settled are answered");
        let before = self.sealed.insert(seal.index.key, (lsn, seal.clone()));
        assert!(before.is_none(), "a text is sealed once for ever");
        self.tally.sealed += 1;
        self.tally.shared += seal.shared.len() as u64;
        self.tally.inline += seal.inline.len() as u64;
        self.tally.formulas_sealed +=
            u64::from(self.formulas.contains_key(&seal.message.message.0));
    }

    fn text_key(&self, message: MessageId) -> [u8; 32] {
        match self.requests.get(&message.0) {
            Some(request) => request.asked.text_key,
            None => text_key(&self.formulas[&message.0]),
        }
    }

    fn owe(&mut self, lsn: Lsn, owed: &OwedDelivery) {
        if let (Recipient::SealRequest(request), Happening::SealAnswered { sealed }) =
            (owed.to, &owed.happening)
        {
            let request = self.requests.get_mut(&request).expect("it was asked");
            assert!(request.asked.webhook_url.is_some(), "there is somebody to be called");
            request.answers[usize::from(sealed.is_none())] += 1;
            if let Some(sealed) = sealed {
                let known = self.sealed.get(&request.asked.text_key).map(|(lsn, _)| *lsn);
                assert_eq!(known, Some(sealed.lsn(lsn)), "the answer names the text's seal");
            }
        }
        if let Recipient::Hook(hook) = owed.to {
            let is_called = self.hooks.contains(&hook) && !self.hooks_deleted.contains(&hook);
            assert!(is_called, "nothing is owed to a hook that is not there");
        }
        self.tally.told += 1;
        self.owed.insert(MessageId(lsn), owed.clone());
    }

    fn announce(&mut self, queue: &QueueName, message: MessageId) {
        let is_new = self.announced.insert((queue.as_str().into(), message));
        assert!(is_new, "message {message} of {queue} died once and is told of twice");
        self.tally.announced += 1;
        if queue.as_str() == QueueName::SEALS
            && let Some(request) = self.requests.get_mut(&message.0)
        {
            request.deaths += 1;
        }
    }

    fn forget_dead(&mut self, queue: &QueueName, which: &Selection) {
        self.announced.retain(|(name, message)| {
            let is_meant = match which {
                Selection::All => true,
                Selection::Ids(ids) => ids.contains(message),
            };
            &**name != queue.as_str() || !is_meant
        });
    }
}
