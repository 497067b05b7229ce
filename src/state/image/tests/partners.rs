//! Images of version 3: golden, hostile, and those that are of an earlier one all the same.

use super::outbound::outbound_state;
use super::*;
use crate::limits::NODES_MAX;
use crate::record::releases::{
    Action, BegunTransaction, Delayed, End, EndedTransaction, NodeAnswer, NodeSet, Origin,
    Presence, Seen, Sight, Step,
};
use crate::state::releases::{Heading, Phase, Standing};

/// Bytes that version 3 wrote; see `GOLDEN` for how they are written anew.
const GOLDEN_3: &str = "data/golden/v4/image.txt";

fn begun(group: &str, origin: Origin) -> Fact {
    let key = [u8::try_from(group.len()).expect("short"); 32];
    let key = SpentKey { key, request: key, expires: Uptime(1 << 40) };
    Fact::TransactionBegun(BegunTransaction {
        group: group.parse().expect("a name"),
        action: Action::Create,
        nodes: ["http://a", "http://b", "http://c"].map(Box::from).to_vec(),
        deadline_ms: 5_000,
        tries_max: 3,
        origin,
        key: (origin == Origin::Client).then_some(key),
    })
}

fn seen(transaction: Lsn, sights: [Sight; 3]) -> Fact {
    let seen = (0..).zip(sights).map(|(node, sight)| Seen { node, sight });
    Fact::NodesSeen { transaction, seen: seen.collect() }
}

fn called(transaction: Lsn, step: Step, nodes: u16) -> Fact {
    Fact::NodesCalled { transaction, step, nodes: NodeSet(nodes), again_ms: 900 }
}

fn answered(transaction: Lsn, node: u8, answer: NodeAnswer) -> Fact {
    let reason = if answer == NodeAnswer::Done { "" } else { "said something" };
    Fact::NodeAnswered { transaction, node, answer, reason: reason.into() }
}

fn ended(transaction: Lsn, end: End) -> Fact {
    let reason = "http://b: timeout".into();
    Fact::TransactionEnded(EndedTransaction { transaction, end, reason, about: None })
}

/// A state with transactions in every phase, and nodes in every standing.
fn partners_state() -> State {
    let mut state = outbound_state();
    let mut apply = |ms: u64, fact: Fact| {
        let at = Moment { wall: Timestamp(1_790_000_002_000 + ms), uptime: Uptime(2000 + ms) };
        let lsn = state.lsn().next();
        state.apply(lsn, &Record { at, fact });
        lsn
    };
    let absent = || Sight::Told(Presence::Absent);
    let unseen = || Sight::Unseen { reason: "timeout".into(), again_ms: 700 };
    // Everything went well, and the request was answered.
    let good = apply(0, begun("good", Origin::Client));
    apply(1, seen(good, [absent(), absent(), Sight::Told(Presence::Present)]));
    apply(2, called(good, Step::Do, 0b111));
    apply(3, answered(good, 0, NodeAnswer::Done));
    apply(3, answered(good, 1, NodeAnswer::Done));
    apply(3, answered(good, 2, NodeAnswer::Already));
    apply(3, ended(good, End::Succeeded));
    let body = Box::from(*b"{}");
    apply(4, Fact::TransactionAnswered { transaction: good, status: 200, body });
    // One is being undone, and nobody knows how far it is.
    let undone = apply(10, begun("undone", Origin::Client));
    apply(11, seen(undone, [absent(), absent(), absent()]));
    apply(12, called(undone, Step::Do, 0b111));
    apply(13, answered(undone, 0, NodeAnswer::Done));
    apply(13, answered(undone, 1, NodeAnswer::Refused { status: 403 }));
    apply(13, answered(undone, 2, NodeAnswer::Unknown { settles_ms: 4_000 }));
    apply(14, called(undone, Step::Undo, 0b001));
    // One is called, one waits for nodes, one is the release of a formula.
    let under_way = apply(20, begun("under way", Origin::Client));
    apply(21, seen(under_way, [absent(), unseen(), Sight::Shunned { again_ms: 4_000 }]));
    apply(22, called(under_way, Step::Do, 0b001));
    let fingerprint = fingerprint(0);
    let later = apply(30, begun("later", Origin::Flow { formula: Lsn(2), fingerprint }));
    apply(31, seen(later, [absent(), absent(), unseen()]));
    let (delayed, delay_ms) = (Delayed::TryOver, 1_000);
    let reason = "http://c: timeout".into();
    apply(32, Fact::TransactionDelayed { transaction: later, delayed, reason, delay_ms });
    let failed = apply(40, begun("failed", Origin::Withdrawal { formula: Lsn(2), fingerprint }));
    apply(41, seen(failed, [absent(), absent(), absent()]));
    apply(42, called(failed, Step::Do, 0b011));
    apply(43, answered(failed, 0, NodeAnswer::Done));
    apply(43, answered(failed, 1, NodeAnswer::Unknown { settles_ms: 1 }));
    apply(44, ended(failed, End::Failed));
    apply(45, Fact::HealBegun { transaction: failed });
    let back = apply(50, begun("taken back", Origin::Client));
    apply(51, ended(back, End::RolledBack));
    state.check_invariants();
    let phases: Vec<Phase> = state.releases.iter().map(|(_, it)| it.phase).collect();
    assert!(Phase::ALL.iter().all(|phase| phases.contains(phase)), "{phases:?}");
    state
}

#[test]
fn an_image_has_the_bytes_of_version_3_and_reads_back_as_the_same_state() {
    let state = partners_state();
    let bytes = encoded(&state);
    assert_eq!(bytes[0], 3);
    assert_golden(GOLDEN_3, &bytes);
    let resumed = State::resume(Image::decode(&bytes).expect("what was encoded decodes"));
    resumed.check_invariants();
    assert_eq!(resumed.digest(), state.digest());
    assert_eq!(encoded(&resumed), bytes, "and as the same bytes");
    assert_eq!(resumed.releases.transactions, state.releases.transactions);
    for (id, transaction) in state.releases.iter() {
        let group = &transaction.begun.group;
        assert_eq!(resumed.releases.holder(group), state.releases.holder(group), "{id}");
        let message = transaction.begun.message(id);
        assert_eq!(resumed.releases.of_message(message), state.releases.of_message(message));
    }
}

#[test]
fn cut_lengthened_and_flipped_bytes_of_version_3_never_break_what_holds_of_a_state() {
    let state = partners_state();
    let bytes = encoded(&state);
    for len in 0..bytes.len() {
        assert!(Image::decode(&bytes[..len]).is_err(), "cut to {len} bytes");
    }
    assert!(Image::decode(&[bytes.as_slice(), &[0]].concat()).is_err(), "a byte too many");
    let mut bare = state;
    bare.releases = Releases::default();
    // What comes before is flipped by the tests of the versions before.
    let from = encoded(&bare).len();
    for bit in from * 8..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        if let Ok(image) = Image::decode(&flipped) {
            State::resume(image).releases.check_invariants();
        }
    }
}

#[test]
fn where_there_never_was_a_transaction_an_image_is_of_an_earlier_version() {
    assert_eq!(encoded(&outbound_state())[0], 2);
    assert_eq!(encoded(&state())[0], 1);
}

/// Changes one transaction of the image in a way that no record can lead to.
fn assert_refused(why: &str, change: impl Fn(&mut State)) {
    let mut state = partners_state();
    change(&mut state);
    assert!(Image::decode(&encoded(&state)).is_err(), "{why}");
}

#[test]
fn transactions_that_contradict_themselves_or_each_other_are_refused() {
    let first = |state: &mut State| *state.releases.transactions.keys().next().expect("one");
    assert_refused("a node too few", |state| {
        let id = first(state);
        state.releases.transactions.get_mut(&id).expect("it").nodes.pop();
    });
    assert_refused("no node", |state| {
        let id = first(state);
        let it = state.releases.transactions.get_mut(&id).expect("it");
        (it.nodes, it.begun.nodes) = (Vec::new(), Vec::new());
    });
    assert_refused("more nodes than a set can name", |state| {
        let id = first(state);
        let it = state.releases.transactions.get_mut(&id).expect("it");
        it.nodes.resize(NODES_MAX + 1, it.nodes[0].clone());
        it.begun.nodes.resize(NODES_MAX + 1, "http://x".into());
    });
    assert_refused("called and never looked at", |state| {
        let id = first(state);
        state.releases.transactions.get_mut(&id).expect("it").nodes[0].before = None;
    });
    assert_refused("left by nobody", |state| {
        let id = first(state);
        let it = state.releases.transactions.get_mut(&id).expect("it");
        (it.nodes[0].is_touched, it.nodes[0].is_left) = (false, true);
    });
    assert_refused("two hold one group", |state| {
        let held = state.releases.iter().filter(|(_, it)| it.phase.is_held());
        let ids: Vec<Lsn> = held.map(|(id, _)| id).collect();
        let group = state.releases.transactions[&ids[0]].begun.group.clone();
        state.releases.transactions.get_mut(&ids[1]).expect("it").begun.group = group;
    });
}

#[test]
fn whoever_resumes_from_an_image_abandons_calls_like_whoever_goes_on() {
    let state = partners_state();
    let image = Image::decode(&encoded(&state)).expect("what was encoded decodes");
    let (mut on, mut resumed) = (state.clone(), State::resume(image));
    let epoch = Epoch(state.epoch().0 + 1);
    let record = Record { at: state.at(), fact: Fact::Opened { epoch } };
    for state in [&mut on, &mut resumed] {
        state.apply(state.lsn().next(), &record);
        state.check_invariants();
    }
    assert_eq!(on.digest(), resumed.digest());
    let standings = on.releases.iter().flat_map(|(_, it)| it.nodes.clone());
    let settles_at = on.at().uptime.plus_ms(5_000);
    let abandoned = standings.filter(|node| {
        matches!(node.standing, Standing::Unknown { settles_at: at, .. } if at == settles_at)
    });
    assert_eq!(abandoned.count(), 2, "the undo and the call under way");
    assert!(on.releases.iter().any(|(_, it)| it.heading == Heading::Backward));
}
