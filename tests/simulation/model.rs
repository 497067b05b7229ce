//! What clients were told, and what must therefore hold after any crash.

use std::collections::{BTreeMap, BTreeSet};

use sillage::engine::command::{Delivery, Settlement};
use sillage::engine::core::Store;
use sillage::formula::{self, Checked, Rules};
use sillage::ids::{Lsn, MessageId, QueueName, Receipt};
use sillage::state::State;
use sillage::state::outlook::Phase;
use sillage::time::{Moment, Uptime};

/// Make-ups that a simulation draws from: few, so that duplicates are common.
pub const MAKE_UPS: u32 = 120;

/// All that was acknowledged, and what an unanswered command may have changed.
#[derive(Default)]
pub struct Model {
    /// Formulas whose acceptance was acknowledged, and not their withdrawal.
    pub formulas: BTreeMap<u32, Lsn>,
    /// Make-ups that an unanswered command may have stored or withdrawn.
    pub unsure_formulas: BTreeSet<u32>,
    /// Messages whose ack or purge was acknowledged: they never come again.
    pub gone: BTreeSet<MessageId>,
    /// Messages that an unanswered command may have leased, settled, moved or cancelled.
    pub unsure_messages: BTreeSet<MessageId>,
    /// Acknowledged leases with their deadlines.
    pub leases: BTreeMap<MessageId, (Receipt, Uptime)>,
    /// Receipts that once were good, to try again.
    pub spent: Vec<Receipt>,
    /// Idempotency keys whose first answer was acknowledged.
    pub keys: BTreeMap<u8, (u32, Lsn)>,
}

impl Model {
    /// Consumers were told that they hold these messages.
    pub fn leased(&mut self, deliveries: &[Delivery], now: Uptime, lease_ms: u64) {
        for delivery in deliveries {
            let receipt = delivery.receipt;
            let id = receipt.message;
            assert!(!self.gone.contains(&id), "message {id} was acked and is leased again");
            if let Some((held, deadline)) = self.leases.get(&id) {
                let is_over = *deadline <= now;
                assert!(is_over, "message {id} is leased while {held} holds it");
            }
            self.leases.insert(id, (receipt, now.plus_ms(lease_ms)));
        }
    }

    /// A consumer was told that these of its leases are settled.
    pub fn settled(&mut self, done: &[MessageId], how: &Settlement, now: Uptime) {
        for &id in done {
            let held = self.leases.get(&id).copied();
            let (receipt, deadline) = held.expect("only a lease that was granted is settled");
            assert!(deadline > now, "the lease of message {id} had lapsed and was settled");
            match how {
                Settlement::Extend { lease_ms } => {
                    self.leases.insert(id, (receipt, now.plus_ms(*lease_ms)));
                }
                Settlement::Nack { .. } => {
                    self.leases.remove(&id);
                    self.spent.push(receipt);
                }
                Settlement::Ack => {
                    self.leases.remove(&id);
                    self.spent.push(receipt);
                    self.gone.insert(id);
                }
            }
        }
    }

    /// A consumer was told that this receipt is stale.
    pub fn stale(&self, receipt: &Receipt, now: Uptime) {
        if let Some((held, deadline)) = self.leases.get(&receipt.message) {
            let is_good = held == receipt && *deadline > now;
            let is_sure = !self.unsure_messages.contains(&receipt.message);
            assert!(!(is_good && is_sure), "{receipt} is good until {deadline:?}, at {now:?}");
        }
    }

    /// Compares the state with everything that was acknowledged, then takes from it what became
    /// of the unanswered commands.
    pub fn check(&mut self, store: &Store) {
        let queued = queued(&store.state);
        for (&make_up, &lsn) in &self.formulas {
            let found = find(store, make_up);
            if !self.unsure_formulas.contains(&make_up) {
                assert_eq!(found, Some(lsn), "acknowledged formula {make_up} at {lsn}");
            }
            let id = MessageId(lsn);
            let settled = self.gone.contains(&id) || self.unsure_messages.contains(&id);
            if found == Some(lsn) && !settled {
                assert!(queued.contains(&id), "formula {make_up} is stored, its message lost");
            }
        }
        for id in &queued {
            assert!(!self.gone.contains(id), "message {id} was acked and is queued again");
        }
        self.adopt(store, &queued);
    }

    fn adopt(&mut self, store: &Store, queued: &BTreeSet<MessageId>) {
        for make_up in std::mem::take(&mut self.unsure_formulas) {
            match find(store, make_up) {
                Some(lsn) => self.formulas.insert(make_up, lsn),
                None => self.formulas.remove(&make_up),
            };
        }
        // Nobody was told of these leases; who holds them by the log is nobody's business here.
        for id in std::mem::take(&mut self.unsure_messages) {
            self.leases.remove(&id);
            if !queued.contains(&id) {
                self.gone.insert(id);
            }
        }
    }
}

/// Where the formula with this make-up is stored.
fn find(store: &Store, make_up: u32) -> Option<Lsn> {
    store.find(&checked(make_up).fingerprint).expect("the snapshot can be read")
}

/// Ids of all messages on the queue `formulas`.
fn queued(state: &State) -> BTreeSet<MessageId> {
    let queue = state.queue(QueueName::FORMULAS).expect("built in");
    let now: Moment = state.at();
    let phases = [Phase::Ready, Phase::Leased, Phase::Delayed, Phase::Dead];
    phases.iter().flat_map(|&p| queue.peek(p, now, None, usize::MAX)).map(|seen| seen.id).collect()
}

/// The formula with this make-up.
pub fn checked(make_up: u32) -> Checked {
    let body = format!(
        r#"{{"name":"No. {make_up}","materials":[{{"name":"a","concentration":{make_up}.5}},
           {{"name":"b{make_up}","concentration":"1.250"}}]}}"#
    );
    formula::parse(body.as_bytes(), &Rules { concentration_max: 1000 }).expect("valid")
}
