//! What is owed when messages have become dead letters. Pure.
//!
//! A message dies in three ways: its last attempt is given back, its last lease lapses, or it is
//! condemned. The lapse is no record, so there would be three places to decide what is owed; and
//! none of them knows what the message was, which is on the disk. So whoever sweeps looks that up
//! and comes with it: one path for all.
//!
//! **No storms.** A delivery that dies is told of to *other* hooks only, and not at all if itself
//! it tells of a dead letter, or was made to try a hook. So one dead letter leads to no more than
//! one call for each hook, and those to one more.

use super::hooks::{owed, owed_to};
use super::{Circumstances, Draft, Refusal, Reply, Verdict};
use crate::engine::decide::gate::Presence;
use crate::formula::Fingerprint;
use crate::ids::{MessageId, QueueName};
use crate::record::Fact;
use crate::record::hooks::{Event, Happening, Recipient};
use crate::state::State;
use crate::state::deaths::Died;

/// A dead letter, and what it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Death {
    /// Which.
    pub message: MessageId,
    /// What it was.
    pub was: Deceased,
}

/// What a message was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deceased {
    /// News for outside consumers.
    News,
    /// A formula that should have been sealed.
    Formula(Fingerprint),
    /// Somebody's request for a seal; and whether he is to be called.
    SealRequest(Presence),
    /// A transaction that has failed, of which its end has told.
    Transaction,
    /// A call that was owed to somebody; of an event, or as the answer to a request for a seal.
    Delivery(Recipient, Option<Event>),
}

/// Owes whatever is to be told of dead letters that nobody was told of.
///
/// # Errors
/// `QueueUnknown`.
pub fn announce(
    state: &State,
    name: QueueName,
    deaths: Vec<Death>,
    circumstances: &Circumstances,
) -> Result<Verdict, Refusal> {
    let queue = state.queue(name.as_str()).ok_or(Refusal::QueueUnknown)?;
    let died = |death: Death| Some((death, queue.unannounced(death.message, circumstances.now)?));
    let deaths: Vec<(Death, Died)> = deaths.into_iter().filter_map(died).collect();
    if deaths.is_empty() {
        return Ok(Verdict::Known(Reply::Done));
    }
    let messages = deaths.iter().map(|(death, _)| death.message).collect();
    let mut facts = vec![Fact::DeathsAnnounced { queue: name.clone(), messages }];
    for (death, died) in &deaths {
        tell(state, &name, death, died, circumstances.token, &mut facts);
    }
    Ok(Verdict::Record(facts, Draft::Complete(Reply::Done)))
}

fn tell(
    state: &State,
    name: &QueueName,
    death: &Death,
    died: &Died,
    token: u64,
    facts: &mut Vec<Fact>,
) {
    let (message, attempts) = (death.message, died.attempts);
    let dead =
        |_| Happening::MessageDead { queue: name.clone(), message, attempts, reason: reason(died) };
    let mut dead = owed(state, Event::MessageDead, token, dead);
    match death.was {
        Deceased::News | Deceased::Transaction => {}
        Deceased::Formula(formula) => {
            facts.extend(owed(state, Event::FormulaHeld, token, |_| Happening::FormulaHeld {
                formula,
                seq: message.0,
                queue: name.clone(),
                reason: reason(died),
            }));
            if name.as_str() == QueueName::SEALS {
                facts.extend(seal_failed(state, message, died, token));
            }
        }
        Deceased::SealRequest(webhook) => {
            if webhook == Presence::Some {
                let answered = Happening::SealAnswered { sealed: None };
                facts.push(owed_to(Recipient::SealRequest(message.0), answered, token));
            }
            facts.extend(seal_failed(state, message, died, token));
        }
        Deceased::Delivery(_, Some(Event::MessageDead | Event::Ping)) => dead.clear(),
        Deceased::Delivery(to, _) => {
            dead.retain(|fact| !matches!(fact, Fact::HookOwed(owed) if owed.to == to));
        }
    }
    facts.append(&mut dead);
}

fn seal_failed(state: &State, message: MessageId, died: &Died, token: u64) -> Vec<Fact> {
    owed(state, Event::SealFailed, token, |_| Happening::SealFailed {
        message,
        attempts: died.attempts,
        reason: reason(died),
    })
}

fn reason(died: &Died) -> Box<str> {
    match died.reason.as_deref() {
        None => "its lease lapsed".into(),
        Some("") => "it was given back".into(),
        Some(reason) => reason.into(),
    }
}
