//! What an image holds since version 2: calls, seals, hooks, and which dead letters are still to
//! be told of.
//!
//! ```text
//! head         Head
//! running      Head::running times (Lsn, Running)
//! ended        Head::ended times Ended
//! requests     Head::requests times (MessageId, identity of the text)
//! hooks        Head::hooks times (Lsn, Hook), secrets included
//! delivered    Head::delivered times (MessageId, Delivered)
//! unannounced  per queue, in the order of the image: u64, so many times MessageId
//! ```
//!
//! A state that has nothing of all this has an image of version 1, in which every dead letter is
//! still to be told of: so a store that uses neither seals nor hooks can be read by programs that
//! know of neither, and by ours as if it had been replayed from its first record.

use std::collections::BTreeSet;

use bincode::{Decode, Encode};

use super::{Image, ImageError, Source, put, put_all};
use crate::ids::{Lsn, MessageId, QueueName};
use crate::limits::{CALLS_KEPT_MAX, DELIVERIES_KEPT_MAX};
use crate::record::hooks::HookSecret;
use crate::state::calls::{Ended, Pace, Running};
use crate::state::hooks::{Delivered, Hook};
use crate::state::queues::Queue;

/// What there is one of, and how many entries follow.
#[derive(Encode, Decode)]
pub(super) struct Head {
    pub(super) running: u64,
    pub(super) ended: u64,
    pub(super) pace: Pace,
    pub(super) requests: u64,
    pub(super) hooks: u64,
    pub(super) own_secret: Option<HookSecret>,
    pub(super) delivered: u64,
}

/// Whether the image has anything that version 1 cannot say.
pub(super) fn is_there(image: &Image) -> bool {
    let Image { calls, seals, hooks, queues, .. } = image;
    let is_new = |queue: &Queue| queue.unannounced.iter().eq(queue.dead.keys());
    let is_nothing = calls.is_new() && seals.is_empty() && hooks.is_new();
    !is_nothing || !queues.values().all(is_new)
}

pub(super) fn encode(image: &Image, out: &mut Vec<u8>) {
    let Image { calls, seals, hooks, queues, .. } = image;
    let head = Head {
        running: calls.running.len() as u64,
        ended: calls.ended.len() as u64,
        pace: calls.pace,
        requests: seals.texts.len() as u64,
        hooks: hooks.hooks.len() as u64,
        own_secret: hooks.own_secret.clone(),
        delivered: hooks.delivered.len() as u64,
    };
    put(out, &head);
    put_all(out, &calls.running);
    calls.ended.iter().for_each(|ended| put(out, ended));
    put_all(out, &seals.texts);
    put_all(out, &hooks.hooks);
    put_all(out, &hooks.delivered);
    for queue in queues.values() {
        put(out, &(queue.unannounced.len() as u64));
        queue.unannounced.iter().for_each(|id| put(out, id));
    }
}

/// What an image of version 1 leaves unsaid.
pub(super) fn assume(image: &mut Image) {
    for queue in image.queues.values_mut() {
        queue.unannounced = queue.dead.keys().copied().collect();
    }
}

pub(super) fn decode(source: &mut Source<'_>, image: &mut Image) -> Result<(), ImageError> {
    let head: Head = source.take()?;
    calls(source, &head, image)?;
    for _ in 0..head.requests {
        let (id, text_key): (MessageId, [u8; 32]) = source.take()?;
        let is_new = !image.seals.is_request(id);
        source.check(id.0, is_new && is_on(image, QueueName::SEALS, id))?;
        image.seals.wait(id, text_key);
    }
    for _ in 0..head.hooks {
        let (id, hook): (Lsn, Hook) = source.take()?;
        source.check(id, image.hooks.hooks.insert(id, hook).is_none())?;
    }
    for _ in 0..head.delivered {
        let (id, delivered): (MessageId, Delivered) = source.take()?;
        let has_room = image.hooks.delivered.len() < DELIVERIES_KEPT_MAX;
        let is_done = !is_on(image, QueueName::HOOKS, id);
        let is_new = image.hooks.delivered.insert(id, delivered).is_none();
        source.check(id.0, has_room && is_done && is_new)?;
    }
    image.hooks.own_secret = head.own_secret;
    image.hooks.reckon();
    image.queues.values_mut().try_for_each(|queue| unannounced(source, queue))
}

fn calls(source: &mut Source<'_>, head: &Head, image: &mut Image) -> Result<(), ImageError> {
    let calls = &mut image.calls;
    for _ in 0..head.running {
        let (call, running): (Lsn, Running) = source.take()?;
        source.check(call, calls.running.insert(call, running).is_none())?;
    }
    let mut seen = BTreeSet::new();
    for _ in 0..head.ended {
        let ended: Ended = source.take()?;
        let has_room = calls.ended.len() < CALLS_KEPT_MAX;
        let is_new = seen.insert(ended.call) && !calls.running.contains_key(&ended.call);
        source.check(ended.call, has_room && is_new && calls.ended.insert(ended))?;
    }
    calls.pace = head.pace;
    calls.reckon();
    Ok(())
}

fn unannounced(source: &mut Source<'_>, queue: &mut Queue) -> Result<(), ImageError> {
    let count: u64 = source.take()?;
    for _ in 0..count {
        let id: MessageId = source.take()?;
        let is_fit = queue.dead.contains_key(&id) && queue.unannounced.insert(id);
        source.check(id.0, is_fit)?;
    }
    Ok(())
}

fn is_on(image: &Image, queue: &str, id: MessageId) -> bool {
    image.queues.get(queue).is_some_and(|queue| queue.holds(id))
}
