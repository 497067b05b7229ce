//! How a state comes to rest on a snapshot.
//!
//! ```text
//!   freeze ──► the layers so far are laid aside; a snapshot of them is made elsewhere
//!      │ ├──► rebase: the snapshot stands; the layers are handed out, its image is the base
//!      │ └──► thaw:   it came to nothing; all is looked at as before
//!      ▼
//!   all of these take the same time however large the state is
//! ```
//!
//! Elsewhere, from the base before and the log since, another state is replayed to the same
//! record; its [`Image`] is what the snapshot carries, and [`State::resume`] begins with.

use super::formulas::{self, FormulaLayer, Formulas};
use super::idempotency::{KeyLayer, SpentKeys};
use super::image::Image;
use super::{BUILT_IN_QUEUES, QueueName, State};
use crate::ids::{Lsn, MessageId};

/// The small part of a snapshot that a serving state takes over. Made outside the lock.
#[derive(Clone, Debug)]
pub struct Base(formulas::Base);

/// What a state no longer needs. Freeing it takes time in proportion to it: outside the lock.
#[derive(Debug)]
#[must_use = "it is to be dropped where nobody waits"]
pub struct Dropped {
    _base: formulas::Base,
    _formulas: Vec<FormulaLayer>,
    _keys: Vec<KeyLayer>,
}

impl Base {
    /// Of a snapshot with this image.
    #[must_use]
    pub fn of(image: &Image) -> Base {
        Base(image.formulas.clone())
    }

    /// The last LSN that the snapshot holds.
    #[must_use]
    pub fn lsn(&self) -> Lsn {
        self.0.lsn
    }
}

impl State {
    /// The last LSN of the snapshot that the state rests on; zero for none.
    #[must_use]
    pub fn base(&self) -> Lsn {
        self.formulas.base()
    }

    /// Lays aside everything up to the last applied record, for a snapshot.
    ///
    /// # Panics
    /// If something is laid aside already.
    pub fn freeze(&mut self) {
        self.formulas.freeze();
        self.keys.freeze();
        self.frozen_at = Some(self.lsn);
    }

    /// The snapshot came to nothing. The next one covers what was laid aside too.
    pub fn thaw(&mut self) {
        self.formulas.thaw();
        self.keys.thaw();
        self.frozen_at = None;
    }

    /// Rests on the snapshot that `base` is of, which holds all that was laid aside.
    ///
    /// # Panics
    /// If nothing is laid aside, or the snapshot is not of the LSN at which it was.
    pub fn rebase(&mut self, base: Base) -> Dropped {
        let Base(base) = base;
        let frozen_at = self.frozen_at.take().expect("a snapshot is of what was laid aside");
        assert!(base.lsn >= frozen_at, "the snapshot holds what was laid aside");
        assert!(base.lsn > self.base(), "each snapshot holds more than the one before");
        let is_apart = self.lsn == frozen_at || self.lsn > base.lsn;
        assert!(is_apart, "what came since is not in the snapshot");
        let (before, formulas) = self.formulas.rebase(base);
        Dropped { _base: before, _formulas: formulas, _keys: self.keys.rebase() }
    }

    /// Whether the body of a withdrawn formula may still be asked for: its withdrawal is on the
    /// queue, or the formula itself in the hands of a consumer or of whoever has it sealed, or a
    /// key may give it as its answer. `false` for a formula that is not withdrawn, or whose pin
    /// is gone.
    #[must_use]
    pub fn is_kept(&self, formula: Lsn) -> bool {
        let Some(pin) = self.formulas.pin(formula) else { return false };
        let formulas = &self.queues[QueueName::FORMULAS];
        let message = MessageId(formula);
        let asked = [QueueName::FORMULAS, QueueName::SEALS, QueueName::RELEASES];
        let is_held = asked.iter().any(|queue| self.queues[*queue].holds(message));
        is_held || formulas.holds(pin.message) || pin.until > self.at.uptime
    }

    /// Whether a delivery may still be asked for: it is owed, or among the latest that were made.
    #[must_use]
    pub fn is_delivery_kept(&self, delivery: MessageId) -> bool {
        self.queues[QueueName::HOOKS].holds(delivery)
            || self.hooks.delivered().contains_key(&delivery)
    }

    /// The small part of a snapshot of all up to `through`: the last LSN of a sealed segment, of
    /// which the last applied record is the last record. Takes time and memory in proportion to
    /// the queues and pins, and to the transactions and groups that are remembered.
    ///
    /// # Panics
    /// If `through` lies before the last applied record.
    #[must_use]
    pub fn image(&self, through: Lsn) -> Image {
        assert!(through >= self.lsn, "a snapshot holds the last applied record");
        let withdrawn = self.formulas.withdrawn();
        let pins = withdrawn.into_iter().filter(|(lsn, _)| self.is_kept(*lsn));
        Image {
            lsn: self.lsn,
            at: self.at,
            epoch: self.epoch,
            records_since_hash: self.records_since_hash,
            bereft_until: self.bereft_until,
            formulas: formulas::Base::new(
                through,
                self.formulas.len(),
                self.formulas.digest(),
                pins.collect(),
            ),
            keys: self.keys.totals(),
            queues: self.queues.clone(),
            calls: self.calls.clone(),
            seals: self.seals.clone(),
            hooks: self.hooks.clone(),
            releases: self.releases.clone(),
            groups: self.groups.clone(),
        }
    }

    /// The state of which this is the image, resting on the snapshot that carries it.
    #[must_use]
    pub fn resume(image: Image) -> State {
        let mut state = State {
            lsn: image.lsn,
            at: image.at,
            epoch: image.epoch,
            records_since_hash: image.records_since_hash,
            bereft_until: image.bereft_until,
            frozen_at: None,
            formulas: Formulas::resume(image.formulas),
            keys: SpentKeys::resume(image.keys),
            queues: image.queues,
            calls: image.calls,
            seals: image.seals,
            hooks: image.hooks,
            releases: image.releases,
            groups: image.groups,
        };
        // A later program may have more queues than the one that made the image.
        for name in BUILT_IN_QUEUES {
            let name = name.parse().expect("built-in names are well formed");
            state.queues.entry(name).or_default();
        }
        state
    }
}
