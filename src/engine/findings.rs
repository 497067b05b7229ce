//! What the snapshot holds of the identities that a command names.
//!
//! Deciding needs to know whether a make-up is stored or a key was spent, and below the state's
//! memory only the disk knows. So the disk is asked beforehand: by who reads the request, on its
//! own time, and for what is left by the writer. The findings are bound to the snapshot that was
//! asked; once another has taken its place they count for nothing and the writer asks again.
//!
//! A [`View`] is the state with its findings: what a decision looks at. It answers from memory,
//! so deciding stays pure.

use super::base::{Base, BaseError};
use super::core::Store;
use super::decide::Command;
use super::decide::hooks::{HookCommand, NewHook};
use crate::engine::command::releases::{NewTransaction, ReleaseCommand, TakenRelease};
use crate::engine::command::{Batch, Item, RequestKey, Submission};
use crate::formula::Fingerprint;
use crate::ids::Lsn;
use crate::log::{Looked, Patience};
use crate::record::Fact;
use crate::record::releases::Origin;
use crate::record::seals::text_key;
use crate::state::State;
use crate::state::formulas::Whereabouts;
use crate::state::idempotency::{KeyWhereabouts, Spent};
use crate::time::Uptime;

/// What one snapshot holds of some identities. What it does not hold is not listed.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// The snapshot that was asked; [`Lsn::ZERO`] for none.
    base: Lsn,
    /// Sorted.
    formulas: Vec<(Fingerprint, Lsn)>,
    /// Sorted by key.
    keys: Vec<([u8; 32], Spent)>,
}

/// Identities that only the snapshot can tell about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    formulas: Vec<Fingerprint>,
    keys: Vec<[u8; 32]>,
}

/// Not everything was at hand without waiting for the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MustWait;

impl Wanted {
    /// Whether nothing needs to be asked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.formulas.is_empty() && self.keys.is_empty()
    }

    /// What a record names, for a replay that must know what is beneath: see `State::recall`.
    #[must_use]
    pub fn by_fact(fact: &Fact, base: &Base) -> Wanted {
        let mut wanted = Wanted::default();
        wanted.formulas.extend(fact.fingerprint().filter(|it| base.may_hold_formula(it)));
        wanted.keys.extend(fact.keys().filter(|it| base.may_hold_key(it)));
        wanted
    }

    /// What a command names and neither the state nor the snapshot's filters can answer.
    #[must_use]
    pub fn by_command(command: &Command, store: &Store) -> Wanted {
        match command {
            Command::Accept(submission) => Wanted::by_submission(submission, store),
            Command::AcceptBatch(batch) => Wanted::by_batch(batch, store),
            Command::Withdraw(fingerprint) => Wanted::by_formula(fingerprint, store),
            Command::Hook(HookCommand::Create(NewHook { key: Some(key), .. })) => {
                Wanted::by_key(key, store)
            }
            Command::Release(command) => Wanted::by_release(command, store),
            Command::RequestSeal(wish) => {
                let mut wanted = Wanted::by_text(&text_key(&wish.text), store);
                wish.key.iter().for_each(|key| wanted.add_key(&key.key, store));
                wanted
            }
            Command::BeginSeal(begin) => Wanted::by_text(&begin.text_key, store),
            Command::EndSeal(end) => {
                let mut wanted = Wanted::by_text(&end.text_key, store);
                let formula = end.formula.iter().map(|formula| &formula.fingerprint);
                formula.for_each(|formula| wanted.add_formula(formula, store));
                wanted
            }
            Command::SettleSealed(settle) => {
                let mut wanted = Wanted::by_text(&settle.text_key, store);
                let formula = settle.formula.iter().map(|sealed| &sealed.formula.fingerprint);
                formula.for_each(|formula| wanted.add_formula(formula, store));
                wanted
            }
            Command::Lease(_)
            | Command::Settle(..)
            | Command::Redrive(..)
            | Command::Purge(..)
            | Command::AnnounceDeaths(..)
            | Command::Hook(_)
            | Command::ChangeGroup(_)
            | Command::OweAnswers { .. }
            | Command::BeginCall(_)
            | Command::EndCall { .. } => Wanted::default(),
        }
    }

    /// What a submission names.
    #[must_use]
    pub fn by_submission(submission: &Submission, store: &Store) -> Wanted {
        let mut wanted = Wanted::default();
        wanted.add_submission(submission, store);
        wanted
    }

    /// What a batch names.
    #[must_use]
    pub fn by_batch(batch: &Batch, store: &Store) -> Wanted {
        let mut wanted = Wanted::default();
        batch.key.iter().for_each(|key| wanted.add_key(&key.key, store));
        for item in &batch.items {
            match item {
                Item::Valid(submission) | Item::Imported(submission, _) => {
                    wanted.add_submission(submission, store);
                }
                Item::Invalid(_) => {}
            }
        }
        wanted
    }

    /// What a command about releases names.
    #[must_use]
    pub fn by_release(command: &ReleaseCommand, store: &Store) -> Wanted {
        let mut wanted = Wanted::default();
        match command {
            ReleaseCommand::Begin(NewTransaction { key: Some(key), .. }) => {
                wanted.add_key(&key.key, store);
            }
            ReleaseCommand::Withdraw(withdrawal) => {
                wanted.add_formula(&withdrawal.fingerprint, store);
            }
            ReleaseCommand::Take(TakenRelease { formula: Some(fingerprint), .. }) => {
                wanted.add_formula(fingerprint, store);
            }
            ReleaseCommand::Advance { transaction, .. } => {
                let transaction = store.state.releases().get(*transaction);
                let origin = transaction.map(|transaction| transaction.begun.origin);
                if let Some(Origin::Withdrawal { fingerprint, .. }) = origin {
                    wanted.add_formula(&fingerprint, store);
                }
            }
            _ => {}
        }
        wanted
    }

    /// One formula's identity.
    #[must_use]
    pub fn by_formula(fingerprint: &Fingerprint, store: &Store) -> Wanted {
        let mut wanted = Wanted::default();
        wanted.add_formula(fingerprint, store);
        wanted
    }

    /// One key.
    #[must_use]
    pub fn by_key(key: &RequestKey, store: &Store) -> Wanted {
        let mut wanted = Wanted::default();
        wanted.add_key(&key.key, store);
        wanted
    }

    /// A text that may be sealed, by its identity.
    #[must_use]
    pub fn by_text(text_key: &[u8; 32], store: &Store) -> Wanted {
        let mut wanted = Wanted::default();
        wanted.add_key(text_key, store);
        wanted
    }

    /// And this key.
    #[must_use]
    pub fn and_key(mut self, key: &[u8; 32], store: &Store) -> Wanted {
        self.add_key(key, store);
        self
    }

    /// And this formula's identity.
    #[must_use]
    pub fn and_formula(mut self, fingerprint: &Fingerprint, store: &Store) -> Wanted {
        self.add_formula(fingerprint, store);
        self
    }

    fn add_submission(&mut self, submission: &Submission, store: &Store) {
        submission.key.iter().for_each(|key| self.add_key(&key.key, store));
        self.add_formula(&submission.fingerprint, store);
    }

    fn add_formula(&mut self, fingerprint: &Fingerprint, store: &Store) {
        let Some(base) = &store.base else { return };
        let is_below = store.state.formulas().find(fingerprint) == Whereabouts::Below;
        if is_below && base.may_hold_formula(fingerprint) {
            self.formulas.push(*fingerprint);
        }
    }

    fn add_key(&mut self, key: &[u8; 32], store: &Store) {
        let Some(base) = &store.base else { return };
        // Whatever the time: a key whose time is over above the base is older still below.
        let is_below = store.state.keys().find(key, Uptime(0)) == KeyWhereabouts::Below;
        if is_below && base.may_hold_key(key) {
            self.keys.push(*key);
        }
    }
}

impl Findings {
    /// Whether these are of the snapshot at `base`.
    #[must_use]
    pub fn are_of(&self, base: Lsn) -> bool {
        self.base == base
    }

    /// Asks the snapshot, as far as that needs no waiting for the disk.
    ///
    /// # Errors
    /// See [`BaseError`].
    pub fn at_hand(base: &Base, wanted: &Wanted) -> Result<Result<Findings, MustWait>, BaseError> {
        Findings::ask(base, wanted, Patience::Cached)
    }

    /// Asks the snapshot.
    ///
    /// # Errors
    /// See [`BaseError`].
    pub fn from_disk(base: &Base, wanted: &Wanted) -> Result<Findings, BaseError> {
        let found = Findings::ask(base, wanted, Patience::Wait)?;
        Ok(found.unwrap_or_else(|MustWait| unreachable!("who waits gets an answer")))
    }

    /// None of any snapshot, or none of this one.
    #[must_use]
    pub fn none(base: Lsn) -> Findings {
        Findings { base, ..Findings::default() }
    }

    fn ask(
        base: &Base,
        wanted: &Wanted,
        patience: Patience,
    ) -> Result<Result<Findings, MustWait>, BaseError> {
        let mut findings = Findings::none(base.lsn());
        for fingerprint in &wanted.formulas {
            match base.formula(fingerprint, patience)? {
                Looked::Found(lsn) => findings.formulas.push((*fingerprint, lsn)),
                Looked::Absent => {}
                Looked::NotCached => return Ok(Err(MustWait)),
            }
        }
        for key in &wanted.keys {
            match base.key(key, patience)? {
                Looked::Found(spent) => findings.keys.push((*key, spent)),
                Looked::Absent => {}
                Looked::NotCached => return Ok(Err(MustWait)),
            }
        }
        findings.formulas.sort_unstable_by_key(|found| found.0);
        findings.keys.sort_unstable_by_key(|found| found.0);
        Ok(Ok(findings))
    }

    /// The formulas that were found.
    pub(super) fn formulas(&self) -> &[(Fingerprint, Lsn)] {
        &self.formulas
    }

    /// The keys that were found.
    pub(super) fn keys(&self) -> &[([u8; 32], Spent)] {
        &self.keys
    }

    fn formula(&self, fingerprint: &Fingerprint) -> Option<Lsn> {
        let place = self.formulas.binary_search_by_key(fingerprint, |found| found.0);
        place.ok().map(|place| self.formulas[place].1)
    }

    fn key(&self, key: &[u8; 32]) -> Option<&Spent> {
        let place = self.keys.binary_search_by_key(key, |found| found.0);
        place.ok().map(|place| &self.keys[place].1)
    }
}

/// A state, and what the snapshot beneath it holds of what is asked.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// The state.
    pub state: &'a State,
    findings: &'a Findings,
}

impl<'a> View<'a> {
    /// The state with findings of the snapshot that it rests on. Whoever makes a view has asked
    /// for everything that will be looked up in it.
    ///
    /// # Panics
    /// If the findings are of another snapshot.
    #[must_use]
    pub fn new(state: &'a State, findings: &'a Findings) -> View<'a> {
        assert!(findings.are_of(state.base()), "findings are of the snapshot under the state");
        View { state, findings }
    }

    /// The record that accepted the formula of this identity, if it is stored.
    #[must_use]
    pub fn formula(&self, fingerprint: &Fingerprint) -> Option<Lsn> {
        match self.state.formulas().find(fingerprint) {
            Whereabouts::Stored(lsn) => Some(lsn),
            Whereabouts::Below => {
                let found = self.findings.formula(fingerprint);
                found.filter(|&lsn| !self.state.formulas().is_withdrawn(lsn))
            }
        }
    }

    /// What `key` was spent on, unless it was forgotten by `now`.
    #[must_use]
    pub fn key(&self, key: &[u8; 32], now: Uptime) -> Option<Spent> {
        match self.state.keys().find(key, now) {
            KeyWhereabouts::Spent(spent) => Some(spent),
            KeyWhereabouts::Below => {
                self.findings.key(key).copied().filter(|spent| spent.expires > now)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::decide::{Refusal, Reply};
    use crate::engine::fixture::{Bench, RETENTION_MS, fingerprint, submit};

    const KEY: RequestKey = RequestKey { key: [1; 32], request: [2; 32] };

    fn found(bench: &Bench, make_up: u32) -> Option<Lsn> {
        bench.ask(|store| store.find(&fingerprint(make_up)).expect("the disk works"))
    }

    fn wanted(bench: &Bench, make_up: u32) -> Wanted {
        bench.ask(|store| Wanted::by_formula(&fingerprint(make_up), store))
    }

    #[test]
    fn only_the_snapshot_is_asked_and_only_for_what_memory_cannot_tell() {
        let mut bench = Bench::new();
        assert!(wanted(&bench, 1).is_empty(), "there is no snapshot");
        let below = bench.accept(1);
        bench.compact();
        let above = bench.accept(2);
        assert_eq!(wanted(&bench, 1).formulas, [fingerprint(1)]);
        assert!(wanted(&bench, 2).is_empty(), "the state has it");
        assert_eq!((found(&bench, 1), found(&bench, 2)), (Some(below), Some(above)));
        assert_eq!(found(&bench, 3), None);
    }

    #[test]
    fn what_was_withdrawn_since_is_found_in_the_snapshot_but_not_in_the_view() {
        let mut bench = Bench::new();
        bench.accept(1);
        bench.compact();
        bench.withdraw(1);
        assert_eq!(found(&bench, 1), None);
        let again = bench.accept(1);
        assert_eq!(found(&bench, 1), Some(again));
        bench.compact();
        assert_eq!(found(&bench, 1), Some(again), "the table has the new one");
    }

    #[test]
    fn findings_of_another_snapshot_count_for_nothing() {
        let mut bench = Bench::new();
        bench.accept(1);
        bench.compact();
        let stale = bench.ask(|store| Findings::none(store.state.base()));
        let lsn = bench.accept(2);
        bench.compact();
        assert_eq!(bench.run_with(submit(2, None), stale), Err(Refusal::Duplicate(lsn)));
    }

    #[test]
    fn key_is_remembered_across_snapshots_until_its_time_is_over() {
        let mut bench = Bench::new();
        let first = bench.accept_under(1, Some(KEY));
        bench.compact();
        assert_eq!(bench.run(submit(1, Some(KEY))), Ok(Reply::Replayed(first)));
        bench.clock.advance_ms(RETENTION_MS + 1);
        let second = bench.accept_under(2, Some(KEY));
        bench.compact();
        let spent = bench.ask(|store| {
            let base = store.base.as_ref().expect("there is a snapshot");
            base.key(&KEY.key, Patience::Wait).expect("the disk works")
        });
        assert!(matches!(spent, Looked::Found(spent) if spent.lsn == second), "{spent:?}");
        bench.clock.advance_ms(RETENTION_MS + 1);
        bench.accept(3);
        bench.compact();
        let spent = bench.ask(|store| {
            let base = store.base.as_ref().expect("there is a snapshot");
            base.key(&KEY.key, Patience::Wait).expect("the disk works")
        });
        assert!(matches!(spent, Looked::Absent), "{spent:?}");
    }
}
