//! What all records up to an LSN add up to.
//!
//! [`State::apply`] is the only thing that changes a state, live and in replay. It cannot fail
//! and looks at nothing but the record: no clock, no random number, no configuration. A record
//! that contradicts the state means a bug of ours; it stops the process, and replay is the cure.
//!
//! A state may rest on a snapshot, its *base*: then it holds in memory what came since, all
//! queues, and of the rest only numbers (`rest`, [`image`]). `apply` does not ask the snapshot;
//! who decides looks up beforehand what he needs of it.

pub mod calls;
pub mod deaths;
mod digest;
pub mod formulas;
pub mod groups;
pub mod hooks;
pub mod idempotency;
pub mod image;
mod layers;
mod loss;
mod lsn_set;
mod outbound;
pub mod outlook;
mod partners;
pub mod queues;
mod ready;
pub mod releases;
pub mod rest;
pub mod seals;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use self::calls::Calls;
use self::formulas::{Formulas, Pin};
use self::groups::Groups;
use self::hooks::Hooks;
use self::idempotency::SpentKeys;
use self::queues::{GivenBack, Queue, Terms};
use self::releases::Releases;
use self::seals::Seals;
use crate::ids::{Epoch, Lsn, MessageId, QueueName};
use crate::record::{AcceptedFormula, Fact, Record, Selection, Touched};
use crate::time::Moment;

/// Queues that every store has: one for outside consumers, three for the built-in workers.
pub const BUILT_IN_QUEUES: [&str; 4] =
    [QueueName::FORMULAS, QueueName::SEALS, QueueName::RELEASES, QueueName::HOOKS];

/// Queues whose consumers are part of the program, and gone with the reign that leased to them.
const WORKERS_QUEUES: [&str; 3] = [QueueName::SEALS, QueueName::RELEASES, QueueName::HOOKS];

/// Everything that the records so far amount to, bodies left on disk.
#[derive(Clone, Debug)]
pub struct State {
    lsn: Lsn,
    at: Moment,
    epoch: Epoch,
    records_since_hash: u64,
    /// Records were lost, and those before this reign may build on them: see [`loss`].
    bereft_until: Option<Epoch>,
    /// The last applied record when the layers were laid aside that a snapshot is being made of.
    frozen_at: Option<Lsn>,
    formulas: Formulas,
    keys: SpentKeys,
    queues: BTreeMap<QueueName, Queue>,
    calls: Calls,
    seals: Seals,
    hooks: Hooks,
    releases: Releases,
    groups: Groups,
}

impl Default for State {
    fn default() -> Self {
        let name = |name: &str| name.parse().expect("built-in names are well formed");
        State {
            lsn: Lsn::ZERO,
            at: Moment::default(),
            epoch: Epoch::default(),
            records_since_hash: 0,
            bereft_until: None,
            frozen_at: None,
            formulas: Formulas::default(),
            keys: SpentKeys::default(),
            queues: BUILT_IN_QUEUES.map(|q| (name(q), Queue::default())).into_iter().collect(),
            calls: Calls::default(),
            seals: Seals::default(),
            hooks: Hooks::default(),
            releases: Releases::default(),
            groups: Groups::default(),
        }
    }
}

impl State {
    /// Changes the state by one record.
    ///
    /// # Panics
    /// If the record contradicts the state: it was decided on another one.
    pub fn apply(&mut self, lsn: Lsn, record: &Record) {
        assert!(lsn > self.lsn, "record {lsn} comes after record {}", self.lsn);
        assert!(record.at >= self.at, "time does not go back at record {lsn}");
        self.advance(record.at);
        self.lsn = lsn;
        self.records_since_hash += 1;
        if self.is_bereft() {
            if let Some(fact) = self.reconcile(&record.fact) {
                self.apply_fact(lsn, record.at, &fact);
            }
        } else {
            self.apply_fact(lsn, record.at, &record.fact);
        }
    }

    fn apply_fact(&mut self, lsn: Lsn, at: Moment, fact: &Fact) {
        match fact {
            Fact::Opened { epoch } => {
                assert!(*epoch > self.epoch, "each reign has a higher number");
                self.epoch = *epoch;
                self.end_loss(*epoch, at.uptime);
                self.calls.abandon(at.uptime);
                self.releases.abandon(at.uptime);
                WORKERS_QUEUES.iter().for_each(|q| self.queue_mut(q).recover_leases(at));
            }
            // The promise of the whole program: what is stored, what is remembered for a
            // repeated request and what is queued are one record, so they cannot disagree.
            Fact::FormulaAccepted(accepted) | Fact::FormulaImported { accepted, .. } => {
                let AcceptedFormula { fingerprint, key, flow, .. } = accepted;
                self.formulas.accept(lsn, *fingerprint);
                key.iter().for_each(|key| self.keys.spend(lsn, key, at.uptime));
                self.queue_mut(QueueName::FORMULAS).put(MessageId(lsn));
                if let Some(first) = flow.first() {
                    self.queue_mut(first.queue()).put(MessageId(lsn));
                }
            }
            Fact::FormulaWithdrawn { formula, fingerprint } => {
                let pin = self.pin(MessageId(lsn));
                self.formulas.withdraw(*formula, fingerprint, pin);
                self.queue_mut(QueueName::SEALS).cancel(MessageId(*formula));
                self.queue_mut(QueueName::RELEASES).cancel(MessageId(*formula));
                let queue = self.queue_mut(QueueName::FORMULAS);
                queue.cancel(MessageId(*formula));
                queue.put(MessageId(lsn));
            }
            Fact::BatchAnswered { key, .. } => self.keys.spend(lsn, key, at.uptime),
            Fact::Leased { queue, messages, lease_ms, attempts_max, token } => {
                let terms = Terms { attempts_max: *attempts_max, token: *token };
                let (epoch, deadline) = (self.epoch, at.uptime.plus_ms(*lease_ms));
                self.settle(lsn, queue, messages, |q, id| q.lease(id, epoch, deadline, terms));
            }
            Fact::Acked { queue, messages } => {
                self.settle(lsn, queue, messages, Queue::ack);
            }
            Fact::Nacked { queue, messages, delay_ms, reason } => {
                let back = GivenBack { delay_ms: *delay_ms, reason };
                self.settle(lsn, queue, messages, |q, id| q.nack(id, at, &back));
            }
            Fact::Extended { queue, messages, lease_ms } => {
                let deadline = at.uptime.plus_ms(*lease_ms);
                let queue = self.queue_mut(queue.as_str());
                messages.iter().for_each(|&id| queue.extend(id, deadline));
            }
            Fact::Redriven { queue, which } => {
                self.each_dead_letter(queue, which, Queue::redrive);
            }
            Fact::Purged { queue, which } => {
                self.each_dead_letter(queue, which, Queue::purge);
                self.drop_left_requests(queue);
            }
            Fact::Deferred { queue, messages, delay_ms } => {
                let until = at.uptime.plus_ms(*delay_ms);
                self.settle(lsn, queue, messages, |q, id| q.defer(id, until, at.uptime));
            }
            Fact::Condemned { queue, messages, reason } => {
                self.settle(lsn, queue, messages, |q, id| q.condemn(id, at, reason));
            }
            Fact::DeathsAnnounced { queue, messages } => {
                let queue = self.queue_mut(queue.as_str());
                messages.iter().for_each(|&id| queue.note_announced(id));
            }
            Fact::StateHash { .. } | Fact::Digest { .. } => self.records_since_hash = 0,
            _ => self.apply_outbound(lsn, at, fact),
        }
    }

    /// The last applied record.
    #[must_use]
    pub fn lsn(&self) -> Lsn {
        self.lsn
    }

    /// The moment of the last applied record.
    #[must_use]
    pub fn at(&self) -> Moment {
        self.at
    }

    /// The present reign.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Records since the last `Digest` or `StateHash`, or the beginning.
    #[must_use]
    pub fn records_since_hash(&self) -> u64 {
        self.records_since_hash
    }

    /// The stored formulas.
    #[must_use]
    pub fn formulas(&self) -> &Formulas {
        &self.formulas
    }

    /// The spent idempotency keys.
    #[must_use]
    pub fn keys(&self) -> &SpentKeys {
        &self.keys
    }

    /// The calls to the authority.
    #[must_use]
    pub fn calls(&self) -> &Calls {
        &self.calls
    }

    /// The requests for a seal that wait.
    #[must_use]
    pub fn seals(&self) -> &Seals {
        &self.seals
    }

    /// The hooks.
    #[must_use]
    pub fn hooks(&self) -> &Hooks {
        &self.hooks
    }

    /// The transactions.
    #[must_use]
    pub fn releases(&self) -> &Releases {
        &self.releases
    }

    /// The groups on this server.
    #[must_use]
    pub fn groups(&self) -> &Groups {
        &self.groups
    }

    /// The queue of this name.
    #[must_use]
    pub fn queue(&self, name: &str) -> Option<&Queue> {
        self.queues.get(name)
    }

    /// All queues, by name.
    pub fn queues(&self) -> impl Iterator<Item = (&QueueName, &Queue)> {
        self.queues.iter()
    }

    /// A number that two states share if, mistakes aside, only if they are equal. Costs the same
    /// however large the state is.
    #[must_use]
    pub fn digest(&self) -> u128 {
        let Moment { wall, uptime } = self.at;
        let clock = [self.lsn.0, wall.0, uptime.0, u64::from(self.epoch.0)];
        let mut sum = digest::Digest::default();
        sum.add(digest::entry(digest::Tag::Clock, &clock));
        sum.add(self.formulas.digest());
        sum.add(self.keys.digest());
        // Nothing, for a store that has none of these.
        sum.add(self.calls.digest());
        sum.add(self.seals.digest());
        sum.add(self.hooks.digest());
        sum.add(self.releases.digest());
        sum.add(self.groups.digest());
        for (place, queue) in (0u64..).zip(self.queues.values()) {
            let [high, low] = halves(queue.digest());
            sum.add(digest::entry(digest::Tag::Queue, &[place, high, low]));
        }
        sum.value()
    }

    /// Whether a fact that states a digest states another than this state's: `false` for one that
    /// cannot be compared, or that states none.
    ///
    /// Version 1 took keys off the sum when they expired. Its digests are compared for as long as
    /// none has.
    #[must_use]
    pub fn is_denied_by(&self, fact: &Fact) -> bool {
        let stated = match fact {
            Fact::Digest { digest } => *digest,
            Fact::StateHash { digest } if !self.keys.has_expired(self.at.uptime) => *digest,
            _ => return false,
        };
        !self.is_bereft() && stated != self.digest()
    }

    /// Walks through everything and stops the process at the first broken invariant. For tests
    /// and `sillage check`; takes time in proportion to the state.
    ///
    /// # Panics
    /// If an invariant is broken.
    pub fn check_invariants(&self) {
        self.formulas.check_invariants();
        self.keys.check_invariants();
        self.queues.values().for_each(Queue::check_invariants);
        self.calls.check_invariants();
        self.seals.check_invariants();
        self.hooks.check_invariants();
        self.releases.check_invariants();
        self.groups.check_invariants();
        self.check_across();
    }

    /// What holds between queues, seals and hooks.
    fn check_across(&self) {
        let seals = self.queue(QueueName::SEALS).expect("built in");
        let is_waiting = self.seals.texts.keys().all(|&id| seals.holds(id));
        assert!(is_waiting, "a request that waits is on the queue");
        let hooks = self.queue(QueueName::HOOKS).expect("built in");
        let is_owed = self.hooks.delivered().keys().any(|&id| hooks.holds(id));
        assert!(!is_owed, "a delivery that was made is off the queue");
    }

    fn advance(&mut self, now: Moment) {
        self.at = now;
        self.keys.advance(now.uptime);
        self.queues.values_mut().for_each(|queue| queue.advance(now));
    }

    /// Why a formula that is withdrawn now may still be asked for.
    fn pin(&self, message: MessageId) -> Pin {
        Pin { message, until: self.keys.latest_expiry() }
    }

    fn settle(
        &mut self,
        lsn: Lsn,
        queue: &QueueName,
        messages: &[Touched],
        mut act: impl FnMut(&mut Queue, MessageId),
    ) {
        let name = queue.as_str();
        let queue = self.queues.get_mut(name).expect("a record names a queue that exists");
        for touched in messages {
            act(queue, touched.message);
        }
        for touched in messages {
            if self.keeps_trail(name, touched.message) {
                self.formulas.touch(touched.message.0, lsn);
            }
        }
        if name == QueueName::SEALS {
            messages.iter().for_each(|touched| self.drop_left_request(touched.message));
        }
    }

    /// Whether a message of this queue is a formula's, so that its trail tells what becomes of it.
    #[must_use]
    pub fn keeps_trail(&self, queue: &str, message: MessageId) -> bool {
        match queue {
            QueueName::FORMULAS => true,
            QueueName::SEALS => !self.seals.is_request(message),
            QueueName::RELEASES => !self.releases.is_transaction(message),
            _ => false,
        }
    }

    fn each_dead_letter(
        &mut self,
        queue: &QueueName,
        which: &Selection,
        act: impl Fn(&mut Queue, MessageId),
    ) {
        let now = self.at.uptime;
        let queue = self.queue_mut(queue.as_str());
        match which {
            Selection::All => queue.dead_letters(now).into_iter().for_each(|id| act(queue, id)),
            Selection::Ids(ids) => ids.iter().for_each(|&id| act(queue, id)),
        }
    }

    fn queue_mut(&mut self, name: &str) -> &mut Queue {
        self.queues.get_mut(name).expect("a record names a queue that exists")
    }
}

/// High and low half of a digest.
#[allow(clippy::cast_possible_truncation, reason = "the low half is what is asked for")]
fn halves(digest: u128) -> [u64; 2] {
    [(digest >> 64) as u64, digest as u64]
}
