//! The hooker's steps, and those of who tells of dead letters, as these workers take them.

use sillage::engine::command::{Delivery, Settled};
use sillage::engine::core::{Core, Decided};
use sillage::engine::decide::deaths::{Death, Deceased};
use sillage::engine::decide::gate::Presence;
use sillage::engine::decide::hooks::{DeliveryLease, DeliveryOutcome};
use sillage::engine::decide::{Refusal, Reply};
use sillage::ids::{MessageId, QueueName, Receipt};
use sillage::record::Fact;
use sillage::record::hooks::Recipient;

use super::machine::ask;
use super::{Event, Job, Service};

/// Calls to hooks at a time.
const CALLS_MAX: usize = 6;
const ATTEMPTS_MAX: u32 = 4;
/// Shorter than the slowest receiver takes.
const LEASE_MS: u64 = 1000;
/// Deaths that are told of at once.
const DEATHS_MAX: usize = 4;

impl Service {
    pub(super) fn hooker(&mut self, core: &Core) {
        let room = CALLS_MAX.saturating_sub(self.hands.deliveries);
        if self.hands.leasing || room == 0 {
            return;
        }
        let is_any = ask(core, &self.machine.clock, |state, now| {
            let queue = state.queue(QueueName::HOOKS).expect("built in");
            !queue.leasable(now.uptime, 1).is_empty()
        });
        if is_any {
            let (lease_ms, attempts_max) = (LEASE_MS, ATTEMPTS_MAX);
            let lease = DeliveryLease { deliveries_max: room, lease_ms, attempts_max };
            self.hands.jobs.push(Job::LeaseDeliveries(lease));
            self.hands.leasing = true;
        }
    }

    /// One sweep over dead letters that nobody was told of.
    pub(super) fn announcer(&mut self, core: &Core) {
        if self.hands.announcing {
            return;
        }
        let dead = ask(core, &self.machine.clock, |state, now| {
            state.queues().find_map(|(name, queue)| {
                let dead = queue.unannounced_by(now.uptime, DEATHS_MAX);
                let died = dead.iter().filter_map(|id| queue.unannounced(*id, now));
                let lapsed = died.filter(|died| died.reason.is_none()).count();
                (!dead.is_empty()).then(|| (name.clone(), dead, lapsed))
            })
        });
        let Some((queue, dead, lapsed)) = dead else { return };
        self.tally.died_by_lapse += lapsed as u64;
        let deaths = dead.into_iter().map(|message| {
            let was = if queue.as_str() == QueueName::FORMULAS {
                Deceased::News
            } else {
                deceased(core, message)
            };
            Death { message, was }
        });
        let deaths = deaths.collect();
        self.hands.jobs.push(Job::Announce(queue, deaths));
        self.hands.announcing = true;
    }

    pub(super) fn told_hooker(&mut self, job: Job, decided: Decided, core: &Core) {
        match (job, decided) {
            (Job::Announce(..), _) => self.hands.announcing = false,
            (Job::LeaseDeliveries(_), Ok(Reply::Leased(deliveries))) => {
                self.hands.leasing = false;
                self.hands.deliveries += deliveries.len();
                deliveries.iter().for_each(|delivery| self.call(*delivery, core));
            }
            (Job::LeaseDeliveries(_), Err(Refusal::DiskFull)) => self.hands.leasing = false,
            (Job::SettleDelivery(..), Ok(Reply::Settled(Settled { done, stale }))) => {
                assert_eq!((done.len(), stale.len()), (1, 0));
                self.hands.deliveries -= 1;
            }
            (Job::SettleDelivery(..), Err(Refusal::ReceiptsStale(_))) => {
                self.tally.settled_too_late += 1;
                self.hands.deliveries -= 1;
            }
            (job @ Job::SettleDelivery(..), Err(Refusal::DiskFull)) => self.again(job),
            (_, decided) => panic!("the hooker is answered by {decided:?}"),
        }
    }

    fn call(&mut self, delivery: Delivery, core: &Core) {
        let receipt: Receipt = delivery.receipt;
        let id = receipt.message;
        let kept = core.read(id.0).expect("it can be read").expect("it is durable");
        let Fact::HookOwed(owed) = kept.record.fact else { panic!("{id} is no delivery") };
        assert_eq!(self.tape.owed.get(&id), Some(&owed), "what is told was durable");
        let unmade = match owed.to {
            Recipient::SealRequest(_) => None,
            Recipient::Hook(hook) => ask(core, &self.machine.clock, |state, _| {
                match state.hooks().get(hook).map(|hook| hook.disabled.is_some()) {
                    None => Some(DeliveryOutcome::Dropped),
                    Some(true) => Some(DeliveryOutcome::Condemned { reason: "disabled".into() }),
                    Some(false) => None,
                }
            }),
        };
        if let Some(unmade) = unmade {
            self.tally.unmade += 1;
            self.hands.jobs.push(Job::SettleDelivery(receipt, unmade));
            return;
        }
        let now = self.machine.ms();
        let answer = self.receivers.call(&mut self.machine.random, now, receipt, &owed);
        self.at(now + answer.after_ms, Event::Told(receipt, answer.outcome));
    }
}

fn deceased(core: &Core, message: MessageId) -> Deceased {
    match core.read(message.0).expect("it can be read").expect("it is there").record.fact {
        Fact::SealRequested(request) => Deceased::SealRequest(match request.webhook_url {
            Some(_) => Presence::Some,
            None => Presence::None,
        }),
        Fact::HookOwed(owed) => Deceased::Delivery(owed.to, owed.happening.event()),
        Fact::FormulaAccepted(accepted) => Deceased::Formula(accepted.fingerprint),
        other => panic!("a dead letter is {other:?}"),
    }
}
