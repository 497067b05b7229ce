//! What clients and operators ask, by chance, and what they may be answered.

use sillage::engine::Engine;
use sillage::engine::command::{Answer, Rejection, RequestKey, Submission};
use sillage::engine::releases::{Action, NewTransaction, NewWithdrawal};
use sillage::ids::{GroupId, Lsn, QueueName};
use sillage::record::Selection;

use super::world::World;
use super::{GROUPS, Life, Reign};
use crate::model::checked;

/// Make-ups that are submitted.
const MAKE_UPS: u32 = 5;
/// Keys that are used.
const KEYS: u8 = 8;

/// A client, for as long as the process lives.
#[derive(Clone)]
struct Client {
    engine: Engine,
    world: World,
}

/// The groups of the formulas that are submitted.
pub fn formula_groups() -> impl Iterator<Item = GroupId> {
    let id = |make_up| checked(make_up).fingerprint.to_string();
    (1..=MAKE_UPS).map(move |make_up| id(make_up).parse().expect("well formed"))
}

pub fn name(queue: &str) -> QueueName {
    queue.parse().expect("well formed")
}

impl Life {
    /// Somebody asks for something, without waiting for the answer.
    pub(super) fn ask(&mut self, reign: &mut Reign) {
        let client = Client { engine: reign.engine.clone(), world: self.world.clone() };
        let partners = reign.partners.clone();
        let random = &mut self.machine.random;
        let make_up = checked(random.u32(1..=MAKE_UPS));
        let clients = &mut reign.clients;
        match random.u8(..20) {
            0..=7 if !partners.nodes.is_empty() => {
                let mut number = random.u32(0..GROUPS);
                let mut is_create = random.u8(..3) > 0;
                let key = (random.u8(..3) == 0).then(|| random.u8(..KEYS));
                if let Some(key) = key {
                    // The key says what is asked, so that it never comes with another request.
                    (number, is_create) = (u32::from(key) % GROUPS, !key.is_multiple_of(2));
                }
                let key = key.map(|key| RequestKey { key: [key; 32], request: [key; 32] });
                let action = if is_create { Action::Create } else { Action::Delete };
                let group = self.groups[number as usize].clone();
                let new = NewTransaction { group, action, partners, key };
                // Two at once, now and then.
                for _ in 0..random.u8(1..3) {
                    clients.spawn(client.clone().begin(new.clone()));
                }
            }
            8..=12 => {
                let (formula, fingerprint) = (make_up.formula, make_up.fingerprint);
                clients.spawn(client.accept(Submission { formula, fingerprint, key: None }));
            }
            13..=14 if !partners.nodes.is_empty() => {
                let fingerprint = make_up.fingerprint;
                clients.spawn(client.withdraw(NewWithdrawal { fingerprint, partners }));
            }
            15..=16 => {
                let known: Vec<Lsn> = self.world.lock().tape.transactions.keys().copied().collect();
                if let Some(id) = random.choice(known) {
                    clients.spawn(client.retry(id));
                }
            }
            17 => {
                let queue = if random.bool() { QueueName::SEALS } else { QueueName::RELEASES };
                clients.spawn(client.redrive(name(queue)));
            }
            _ => {}
        }
    }
}

impl Client {
    /// Asks for a transaction, waits for its end, and keeps what that was answered.
    async fn begin(self, new: NewTransaction) {
        let (group, key) = (new.group.clone(), new.key);
        let begun = self.engine.begin_transaction(new).await;
        let id = match begun {
            Ok((id, answer)) => {
                let mut world = self.world.lock();
                let of_key = key.and_then(|key| world.tape.keys.get(&key.key).copied());
                world.tally.replayed += u64::from(answer == Answer::Replayed);
                let told = world.tape.transactions.get(&id);
                let is_right = told.is_some_and(|told| told.begun.group == group);
                world.demand(is_right, || format!("{id} is told of and not durable"));
                world.demand(key.is_none() || of_key == Some(id), || {
                    format!("{key:?} is answered {id} and was {of_key:?}")
                });
                id
            }
            Err(Rejection::GroupHeld { by }) => {
                let mut world = self.world.lock();
                world.tally.held += 1;
                let held = world.tape.transactions.get(&by).map(|told| told.begun.group.clone());
                world.demand(held == Some(group), || format!("{by} does not hold the group"));
                return;
            }
            other => return self.expect_hindrance("a transaction", other.map(|_| ())),
        };
        let Ok(Some(ended)) = self.engine.watch_transaction(id).ended().await else { return };
        self.world.lock().tally.waited += 1;
        if key.is_some() {
            let body = ended.phase.name().as_bytes();
            let kept = self.engine.keep_answer(id, 200, body).await;
            self.world.lock().tally.answered += u64::from(kept.is_ok());
            // Whoever was first: from here on it is the answer.
            let shown = self.engine.transaction(id).await.ok().flatten();
            let shown = shown.and_then(|it| it.answered).map(|it| (it.status, it.body));
            let mut world = self.world.lock();
            let told = world.tape.transactions.get(&id).and_then(|told| told.answered.clone());
            world.demand(kept.is_err() || told == shown, || format!("{id} forgets its answer"));
        }
    }

    async fn accept(self, submission: Submission) {
        match self.engine.accept(submission).await {
            Ok(_) | Err(Rejection::Duplicate(_) | Rejection::Forgotten(_)) => {}
            other => self.expect_hindrance("a formula", other.map(|_| ())),
        }
    }

    async fn withdraw(self, withdrawal: NewWithdrawal) {
        match self.engine.begin_withdrawal(withdrawal).await {
            Ok(_) | Err(Rejection::FormulaUnknown | Rejection::GroupHeld { .. }) => {}
            other => self.expect_hindrance("a withdrawal", other.map(|_| ())),
        }
    }

    async fn retry(self, id: Lsn) {
        match self.engine.retry_transaction(id).await {
            Ok(()) | Err(Rejection::TransactionOver) => {}
            other => self.expect_hindrance("a retry", other),
        }
    }

    async fn redrive(self, queue: QueueName) {
        match self.engine.redrive(queue, Selection::All).await {
            Ok(count) => self.world.lock().tally.redriven += count,
            other => self.expect_hindrance("a redrive", other.map(|_| ())),
        }
    }

    /// Nothing but a disk that fails may keep somebody from what he asks.
    fn expect_hindrance(&self, what: &str, answer: Result<(), Rejection>) {
        let is_hindered = matches!(
            answer,
            Err(Rejection::DiskFull
                | Rejection::OutcomeUnknown
                | Rejection::Damaged(_)
                | Rejection::Overloaded { .. })
        );
        self.world.lock().demand(is_hindered, || format!("{what} is answered {answer:?}"));
    }
}
