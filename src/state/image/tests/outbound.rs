//! Images of version 2: golden, hostile, and those that are of version 1 all the same.

use super::*;
use crate::limits::{CALLS_KEPT_MAX, DELIVERIES_KEPT_MAX};
use crate::record::FlowStep;
use crate::record::hooks::{CreatedHook, Event, Events, Happening, OwedDelivery, Recipient};
use crate::record::hooks::{HookSecret, Told};
use crate::record::seals::{CallPurpose, GivenSeal, RequestedSeal, index_of, text_key};
use crate::state::calls::{Ended, Running, Share};
use crate::state::hooks::Delivered;
use crate::state::image::outbound;

/// Bytes that version 2 wrote; see `GOLDEN` for how they are written anew.
const GOLDEN_2: &str = "data/golden/v3/image.txt";

/// A state with something in every list that version 2 added.
pub(super) fn outbound_state() -> State {
    let mut state = state();
    state.bereft_until = None;
    let mut apply = |ms: u64, fact: Fact| {
        let at = Moment { wall: Timestamp(1_790_000_001_000 + ms), uptime: Uptime(1000 + ms) };
        let lsn = state.lsn().next();
        state.apply(lsn, &Record { at, fact });
        MessageId(lsn)
    };
    let mut formula = accepted(9);
    if let Fact::FormulaAccepted(accepted) = &mut formula {
        accepted.flow = vec![FlowStep::Seal];
    }
    let formula = apply(0, formula);
    let [first, second, third] = [1, 2, 1].map(|number| apply(1, requested(number)));
    let [a, b] = ["a", "b"].map(|name| apply(2, created(name)).0);
    apply(3, Fact::HookDisabled { hook: a, reason: "410".into() });
    let secret = HookSecret([7; 24].into());
    apply(3, Fact::HookSecretChanged { hook: b, secret: secret.clone(), overlap_ms: 9000 });
    apply(3, Fact::OwnSecretMade { secret });
    let deliveries: Vec<MessageId> = (0..4).map(|_| apply(4, owed(b))).collect();
    apply(5, leased(QueueName::HOOKS, &deliveries));
    for (delivery, status) in deliveries.iter().zip([200, 204]) {
        let touched = Touched { message: formula, before: formula.0 };
        let told = Told { formula: touched, event: Event::FormulaAccepted, hook: b };
        let (delivery, about) = (*delivery, Some(told));
        apply(6, Fact::HookDelivered { delivery, about, status, took_ms: 12 });
    }
    let condemned = |queue: &str, id: MessageId| {
        let messages = vec![Touched { message: id, before: id.0 }];
        let queue = queue.parse().expect("well formed");
        Fact::Condemned { queue, messages, reason: "404".into() }
    };
    apply(7, condemned(QueueName::HOOKS, deliveries[2]));
    apply(8, leased(QueueName::SEALS, &[formula, first, second]));
    let [one, two, three] =
        [CallPurpose::Fresh(formula), CallPurpose::Retried(first), CallPurpose::Probe]
            .map(|purpose| apply(9, Fact::CallBegun { purpose, deadline_ms: 10_000 }).0);
    apply(10, Fact::CallEnded { call: one, pause_ms: 60_000 });
    apply(10, given(formula));
    apply(11, Fact::CallEnded { call: two, pause_ms: 0 });
    apply(11, condemned(QueueName::SEALS, second));
    let announced = vec![deliveries[2]];
    let queue = QueueName::HOOKS.parse().expect("well formed");
    apply(12, Fact::DeathsAnnounced { queue, messages: announced });
    state.check_invariants();
    assert!(state.calls.is_running(three) && state.seals.is_request(third));
    state
}

fn requested(number: u8) -> Fact {
    let text = format!("text {number}");
    Fact::SealRequested(RequestedSeal {
        text_key: text_key(&text),
        text: text.into(),
        webhook_url: None,
        key: None,
        position: 1,
        eta_s: 6,
        sealed: None,
    })
}

fn given(message: MessageId) -> Fact {
    Fact::Sealed(GivenSeal {
        message: Touched { message, before: message.0 },
        shared: Vec::new(),
        inline: Vec::new(),
        signature: "signature".into(),
        index: index_of(text_key(&fingerprint(9).to_string())),
    })
}

fn created(name: &str) -> Fact {
    let (url, secret) = (format!("https://{name}.example/").into(), HookSecret([1; 24].into()));
    Fact::HookCreated(CreatedHook { url, events: Events(0b11), secret, key: None })
}

fn owed(hook: Lsn) -> Fact {
    let (to, happening) = (Recipient::Hook(hook), Happening::Ping);
    Fact::HookOwed(OwedDelivery { to, happening, token: 5 })
}

fn leased(queue: &str, ids: &[MessageId]) -> Fact {
    let ids: Vec<u64> = ids.iter().map(|id| id.0.0).collect();
    let (queue, messages) = (queue.parse().expect("well formed"), touched(&ids));
    Fact::Leased { queue, messages, lease_ms: 1000, attempts_max: 5, token: 3 }
}

#[test]
fn an_image_has_the_bytes_of_version_2_and_reads_back_as_the_same_state() {
    let state = outbound_state();
    let bytes = encoded(&state);
    assert_eq!(bytes[0], 2);
    assert_golden(GOLDEN_2, &bytes);
    let resumed = State::resume(Image::decode(&bytes).expect("what was encoded decodes"));
    resumed.check_invariants();
    assert_eq!(resumed.digest(), state.digest());
    assert_eq!(encoded(&resumed), bytes, "and as the same bytes");
    assert_eq!(resumed.hooks.own_secret, state.hooks.own_secret);
    for ((name, queue), found) in state.queues.iter().zip(resumed.queues.values()) {
        assert_eq!(found.unannounced, queue.unannounced, "{name}");
    }
}

#[test]
fn cut_lengthened_and_flipped_bytes_of_version_2_never_break_what_holds_of_a_state() {
    let bytes = encoded(&outbound_state());
    for len in 0..bytes.len() {
        assert!(Image::decode(&bytes[..len]).is_err(), "cut to {len} bytes");
    }
    assert!(Image::decode(&[bytes.as_slice(), &[0]].concat()).is_err(), "a byte too many");
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        if let Ok(image) = Image::decode(&flipped) {
            let state = State::resume(image);
            state.calls.check_invariants();
            state.seals.check_invariants();
            state.hooks.check_invariants();
            state.check_across();
        }
    }
}

#[test]
fn where_nothing_is_sealed_and_nobody_told_an_image_is_of_version_1() {
    let mut state = state();
    assert_eq!(encoded(&state)[0], 1);
    let queue = state.queues.get_mut(QueueName::FORMULAS).expect("built in");
    assert!(!queue.unannounced.is_empty(), "something is dead");
    let resumed = State::resume(Image::decode(&encoded(&state)).expect("decodes"));
    let unannounced = |state: &State| state.queues[QueueName::FORMULAS].unannounced.clone();
    assert_eq!(unannounced(&resumed), unannounced(&state), "as replay would have it");

    let queue = state.queues.get_mut(QueueName::FORMULAS).expect("built in");
    queue.unannounced.clear();
    let bytes = encoded(&state);
    assert_eq!(bytes[0], 2, "that somebody was told is more than version 1 can say");
    let resumed = State::resume(Image::decode(&bytes).expect("decodes"));
    assert_eq!(unannounced(&resumed), unannounced(&state));
}

#[test]
fn what_contradicts_the_queues_the_calls_or_the_limits_is_refused() {
    type Spoil = fn(&mut Image);
    let cases: [(&str, Spoil); 10] = [
        ("a request off its queue", |image| image.seals.wait(MessageId(Lsn(2)), [1; 32])),
        ("a request beyond the end", |image| image.seals.wait(MessageId(Lsn(999)), [1; 32])),
        ("a hook beyond the end", |image| {
            let hook = image.hooks.hooks.values().next().expect("one").clone();
            image.hooks.hooks.insert(Lsn(999), hook);
        }),
        ("a delivery that was made and is still owed", |image| {
            let ready = image.queues[QueueName::HOOKS].leased.keys().next().expect("one");
            image.hooks.delivered.insert(*ready, delivered());
        }),
        ("a delivery beyond the end", |image| {
            image.hooks.delivered.insert(MessageId(Lsn(999)), delivered());
        }),
        ("more deliveries than are kept", |image| {
            image.lsn = Lsn(1 << 40);
            image.formulas.lsn = image.lsn;
            let many = (1_000_000..).map(|lsn| (MessageId(Lsn(lsn)), delivered()));
            image.hooks.delivered.extend(many.take(DELIVERIES_KEPT_MAX));
        }),
        ("a call that runs and has ended", |image| {
            let call = *image.calls.running.keys().next().expect("one runs");
            image.calls.ended.insert(Ended { at: Uptime(5), call, share: Share::Other });
        }),
        ("a call that ended twice", |image| {
            let ended = *image.calls.ended.first().expect("one has ended");
            image.calls.ended.insert(Ended { at: Uptime(1), ..ended });
        }),
        ("a call beyond the end", |image| {
            let running = Running { purpose: CallPurpose::Verify, deadline_ms: 1 };
            image.calls.running.insert(Lsn(999), running);
        }),
        ("a living message that is to be told of as dead", |image| {
            let queue = image.queues.get_mut(QueueName::SEALS).expect("built in");
            let living = *queue.leased.keys().next().expect("one is leased");
            queue.unannounced.insert(living);
        }),
    ];
    for (what, spoil) in cases {
        let mut image = outbound_state().image(Lsn(500));
        spoil(&mut image);
        let mut bytes = Vec::new();
        image.encode(&mut bytes);
        let decoded = Image::decode(&bytes);
        assert!(matches!(decoded, Err(ImageError::Contradiction { .. })), "{what}: {decoded:?}");
    }
}

#[test]
fn more_ended_calls_than_are_kept_are_refused() {
    let mut image = outbound_state().image(Lsn(1 << 40));
    image.lsn = Lsn(1 << 40);
    let share = Share::Fresh;
    let many = (1_000_000..).map(|lsn| Ended { at: Uptime(lsn), call: Lsn(lsn), share });
    image.calls.ended.extend(many.take(CALLS_KEPT_MAX));
    let mut bytes = Vec::new();
    image.encode(&mut bytes);
    assert!(matches!(Image::decode(&bytes), Err(ImageError::Contradiction { .. })));
}

#[test]
fn lengths_without_entries_are_errors_and_take_no_memory() {
    let image = State::default().image(Lsn(9));
    let mut bytes = Vec::new();
    image.encode(&mut bytes);
    bytes[0] = 2;
    let many = u64::MAX;
    let none = || outbound::Head {
        running: 0,
        ended: 0,
        pace: crate::state::calls::Pace::default(),
        requests: 0,
        hooks: 0,
        own_secret: None,
        delivered: 0,
    };
    let heads = [
        outbound::Head { running: many, ..none() },
        outbound::Head { ended: many, ..none() },
        outbound::Head { requests: many, ..none() },
        outbound::Head { hooks: many, ..none() },
        outbound::Head { delivered: many, ..none() },
    ];
    for head in heads {
        let mut bytes = bytes.clone();
        put(&mut bytes, &head);
        assert!(matches!(Image::decode(&bytes), Err(ImageError::Undecodable(_))));
    }
    put(&mut bytes, &none());
    put(&mut bytes, &many);
    assert!(matches!(Image::decode(&bytes), Err(ImageError::Undecodable(_))));
}

fn delivered() -> Delivered {
    Delivered { at: Timestamp(1), status: 200, took_ms: 1, attempt: 1 }
}
