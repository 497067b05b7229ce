//! Who is called by hooks, and what they do with it.

use std::collections::BTreeMap;

use sillage::engine::decide::hooks::DeliveryOutcome;
use sillage::ids::{Epoch, Lsn, MessageId, Receipt};
use sillage::record::hooks::{OwedDelivery, Recipient};

/// Everybody who is called.
#[derive(Default)]
pub struct Receivers {
    /// What was told under each `webhook-id`, how often, and whether it was taken.
    heard: BTreeMap<(Lsn, u64), Heard>,
    /// Deliveries that were heard more than once; and those, in a later reign.
    pub twice: u64,
    pub twice_over_a_crash: u64,
}

struct Heard {
    what: OwedDelivery,
    times: u32,
    was_taken: bool,
    reign: Epoch,
}

/// How a receiver is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Nature {
    Good,
    Flaky,
    /// Answers later than a lease may last.
    Slow,
    /// Down for a while, again and again.
    Absent,
    /// Says 410 now and then.
    Leaving,
    /// Answers 404.
    Wrong,
}

/// A call that is under way: how it will end, and after how many ms.
pub struct Answer {
    pub after_ms: u64,
    pub outcome: DeliveryOutcome,
}

impl Receivers {
    /// Somebody is called. He hears it before the caller knows.
    pub fn call(
        &mut self,
        random: &mut fastrand::Rng,
        at: u64,
        receipt: Receipt,
        owed: &OwedDelivery,
    ) -> Answer {
        let to = match owed.to {
            Recipient::Hook(to) | Recipient::SealRequest(to) => to,
        };
        let nature = match to.0 % 8 {
            0 => Nature::Slow,
            1 => Nature::Flaky,
            2 => Nature::Absent,
            3 => Nature::Leaving,
            4 => Nature::Wrong,
            _ => Nature::Good,
        };
        let chance = random.u8(..8);
        let failed = |delay_ms| DeliveryOutcome::Failed { delay_ms, reason: "500".into() };
        let took_ms = match nature {
            Nature::Slow => random.u64(100..1200),
            _ => random.u64(0..100),
        };
        let taken = DeliveryOutcome::Delivered { status: 200, took_ms, about: None };
        let outcome = match nature {
            Nature::Flaky if chance < 4 => failed(random.u64(0..500)),
            Nature::Absent if (at / 2000).is_multiple_of(2) => failed(random.u64(0..900)),
            Nature::Leaving if chance == 0 => {
                let hook = match owed.to {
                    Recipient::Hook(hook) => Some(hook),
                    Recipient::SealRequest(_) => None,
                };
                DeliveryOutcome::Gone { hook, reason: "410".into() }
            }
            Nature::Wrong if chance < 2 => DeliveryOutcome::Condemned { reason: "404".into() },
            _ if chance == 7 => DeliveryOutcome::Deferred { delay_ms: random.u64(0..300) },
            _ => taken,
        };
        let is_called = !matches!(outcome, DeliveryOutcome::Deferred { .. });
        let is_taken = matches!(outcome, DeliveryOutcome::Delivered { .. });
        if is_called {
            self.hear(receipt, owed, is_taken);
        }
        Answer { after_ms: took_ms, outcome }
    }

    fn hear(&mut self, receipt: Receipt, owed: &OwedDelivery, is_taken: bool) {
        let (what, reign) = (owed.clone(), receipt.epoch);
        let new = || Heard { what, times: 0, was_taken: false, reign };
        let heard = self.heard.entry((receipt.message.0, owed.token)).or_insert_with(new);
        assert_eq!(heard.what, *owed, "a webhook-id stands for one delivery");
        heard.times += 1;
        heard.was_taken |= is_taken;
        self.twice += u64::from(heard.times == 2);
        self.twice_over_a_crash += u64::from(heard.reign != reign);
        heard.reign = reign;
    }

    /// Whether the receiver has taken it.
    pub fn has(&self, id: MessageId, owed: &OwedDelivery) -> bool {
        self.heard.get(&(id.0, owed.token)).is_some_and(|heard| heard.was_taken)
    }
}
