//! What clients and operators ask, by chance.

use sillage::engine::command::seals::SealWish;
use sillage::engine::command::{LeaseRequest, RequestKey, Submission};
use sillage::engine::core::{Core, Decided};
use sillage::engine::decide::hooks::{HookCommand, NewHook};
use sillage::engine::decide::{Command, Refusal, Reply};
use sillage::ids::{Lsn, MessageId, QueueName};
use sillage::record::Selection;
use sillage::record::hooks::{Events, HookSecret};

use super::machine::ask;
use super::{Job, Service};
use crate::model::checked;

/// Texts that are asked for: few, so that many ask for the same.
const TEXTS: u32 = 10;
/// Of these so many are never signed.
const HOPELESS: u32 = 2;
/// Make-ups that are submitted.
const MAKE_UPS: u32 = 12;

/// What is asked at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eagerness {
    /// Everything.
    Usual,
    /// Signatures are verified, nothing else.
    Verifying,
    /// Nothing any more.
    Nothing,
}

impl Eagerness {
    pub(super) fn ask(self, service: &mut Service, core: &Core) -> Option<Job> {
        match self {
            Eagerness::Usual => Some(service.wish(core)),
            Eagerness::Verifying => Some(service.other_call()),
            Eagerness::Nothing => None,
        }
    }
}

impl Service {
    fn wish(&mut self, core: &Core) -> Job {
        let random = &mut self.machine.random;
        match random.u8(..27) {
            0..=12 => {
                let text = some_text(random, self.text_bytes);
                let (webhook, key) = (random.u8(..3) > 0, random.u8(..4) == 0);
                Job::Request { text, webhook, key, waits: random.bool() }
            }
            13..=15 => {
                let checked = checked(random.u32(1..=MAKE_UPS));
                let (formula, fingerprint) = (checked.formula, checked.fingerprint);
                Job::Other(Command::Accept(Submission { formula, fingerprint, key: None }))
            }
            16..=17 => Job::Other(Command::Withdraw(checked(random.u32(1..=MAKE_UPS)).fingerprint)),
            18..=19 => self.other_call(),
            20 => {
                let queue = if random.bool() { QueueName::SEALS } else { QueueName::HOOKS };
                Job::Other(Command::Redrive(name(queue), Selection::All))
            }
            21 if random.u8(..4) == 0 => {
                Job::Other(Command::Purge(name(QueueName::SEALS), Selection::All))
            }
            22..=23 => {
                let request = LeaseRequest {
                    queue: name(QueueName::FORMULAS),
                    messages_max: random.usize(1..4),
                    lease_ms: random.u64(10..400),
                };
                Job::Other(Command::Lease(request))
            }
            _ => Job::Other(Command::Hook(self.hook_wish(core))),
        }
    }

    fn hook_wish(&mut self, core: &Core) -> HookCommand {
        let known: Vec<Lsn> = self.tape.hooks.iter().copied().collect();
        let delivered: Vec<MessageId> = self.tape.delivered.iter().copied().collect();
        let dead = ask(core, &self.machine.clock, |state, now| {
            state.queue(QueueName::HOOKS).expect("built in").dead_letters(now.uptime)
        });
        let over: Vec<MessageId> = delivered.into_iter().chain(dead).collect();
        let random = &mut self.machine.random;
        let (hook, was) = (random.choice(known), random.choice(over));
        match (random.u8(..10), hook, was) {
            (0..=1, Some(hook), _) => HookCommand::Delete(hook),
            (2, Some(hook), _) => HookCommand::ChangeSecret(hook, secret(random), 300),
            (3, Some(hook), _) => HookCommand::Ping(hook),
            (4, ..) => HookCommand::MakeOwnSecret(secret(random)),
            (5, ..) => HookCommand::TellDiskLow(1, 2),
            (6..=7, _, Some(was)) => HookCommand::Redeliver(was, self.tape.owed[&was].to),
            _ => {
                let events = if random.bool() { Events(u32::MAX) } else { Events(random.u32(..)) };
                let url = "https://example.org/hook".into();
                HookCommand::Create(NewHook { url, events, secret: secret(random), key: None })
            }
        }
    }

    pub(super) fn request(&self, text: Box<str>, webhook: bool, key: bool) -> Command {
        // The body decides the key, so that a key never comes with another body.
        let spent = sillage::record::seals::text_key(&text);
        let mut of_its_own = spent;
        of_its_own[0] ^= u8::from(webhook) + 1;
        let key = key.then_some(RequestKey { key: of_its_own, request: of_its_own });
        let webhook_url = webhook.then(|| "https://example.org/answer".into());
        Command::RequestSeal(SealWish { text, webhook_url, key, limit: self.terms.limit })
    }

    pub(super) fn told_request(&mut self, text: &str, waits: bool, decided: Decided) {
        match decided {
            Ok(Reply::SealRequested(lsn, request)) => {
                assert_eq!(&*self.tape.requests[&lsn].asked.text, text);
                self.tally.requests += 1;
                if request.sealed.is_none() && waits {
                    self.waits(MessageId(lsn));
                } else if request.sealed.is_none() {
                    self.answered[1].insert(MessageId(lsn));
                }
            }
            Ok(Reply::SealReplayed(lsn)) => {
                self.tally.replayed += 1;
                assert_eq!(&*self.tape.requests[&lsn].asked.text, text, "the first answer again");
            }
            Err(Refusal::DiskFull) => self.tally.refused_full += 1,
            Err(Refusal::Unreadable) => {}
            other => panic!("a request for a seal is answered by {other:?}"),
        }
    }

    pub(super) fn told_other(&mut self, command: &Command, decided: Decided) {
        match decided {
            Ok(
                Reply::Accepted(_)
                | Reply::Withdrawn(_)
                | Reply::Leased(_)
                | Reply::Moved(_)
                | Reply::Recorded(_)
                | Reply::Done,
            )
            | Err(
                Refusal::Duplicate(_)
                | Refusal::FormulaUnknown
                | Refusal::HookUnknown
                | Refusal::HookDisabled
                | Refusal::DeliveryUnknown
                | Refusal::DeliveryWaiting
                | Refusal::DiskFull
                | Refusal::Unreadable,
            ) => {}
            other => panic!("{command:?} is answered by {other:?}"),
        }
    }
}

/// Sometimes the identity of a formula, which its flow has sealed, too.
fn some_text(random: &mut fastrand::Rng, bytes: usize) -> Box<str> {
    let number = random.u32(0..TEXTS + MAKE_UPS / 4);
    match number.checked_sub(TEXTS) {
        Some(make_up) => checked(make_up + 1).fingerprint.to_string().into(),
        None if number < HOPELESS => format!("never {number}").into(),
        // New ones, too: what is sealed is not asked for again.
        None => format!("text {number}/{}{:bytes$}", random.u8(..6), "").into(),
    }
}

fn secret(random: &mut fastrand::Rng) -> HookSecret {
    HookSecret(random.u64(..).to_le_bytes().into())
}

fn name(queue: &str) -> QueueName {
    queue.parse().expect("well formed")
}
