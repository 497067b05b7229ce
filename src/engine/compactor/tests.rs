//! What snapshots keep of seals and hooks, and what they let go.

use super::*;
use crate::engine::base::Kept;
use crate::engine::decide::queues::touched;
use crate::engine::fixture::outbound::{
    accept_to_be_sealed, begun, created, delivered, hooks, leased, owed, own, request, sealed,
    seals, spent,
};
use crate::engine::fixture::{Bench, RETENTION_MS, checked};
use crate::ids::Epoch;
use crate::log::{Looked, Patience, SimDisk, TableName};
use crate::record::Touched;
use crate::record::archive::StepKind;
use crate::record::hooks::{Event, HookSecret, Recipient, Told};
use crate::record::seals::{CallPurpose, NEVER, text_key};
use crate::state::idempotency::KeyWhereabouts;
use crate::time::Uptime;

const CENTURY_MS: u64 = 100 * 365 * 24 * 3_600_000;

fn kept(bench: &Bench, lsn: Lsn) -> Option<Kept> {
    bench.core.read(lsn).expect("it can be read")
}

#[track_caller]
fn assert_kept(bench: &Bench, lsns: &[Lsn]) {
    let gone: Vec<&Lsn> = lsns.iter().filter(|lsn| kept(bench, **lsn).is_none()).collect();
    assert!(gone.is_empty(), "gone: {gone:?} of {lsns:?}");
}

#[track_caller]
fn assert_gone(bench: &Bench, lsns: &[Lsn]) {
    let left: Vec<&Lsn> = lsns.iter().filter(|lsn| kept(bench, **lsn).is_some()).collect();
    assert!(left.is_empty(), "left: {left:?} of {lsns:?}");
}

/// What the snapshot's table says of a key.
fn key_below(bench: &Bench, key: &[u8; 32]) -> Option<crate::state::idempotency::Spent> {
    let base = bench.ask(|store| store.base.clone()).expect("a snapshot is in force");
    match base.key(key, Patience::Wait).expect("it can be read") {
        Looked::Found(spent) => Some(spent),
        _ => None,
    }
}

fn digest(bench: &Bench) -> u128 {
    bench.ask(|store| store.state.digest())
}

#[test]
fn requests_and_seals_are_kept_for_ever_and_what_only_moved_them_is_not() {
    let mut bench = Bench::new();
    let first = bench.put(vec![request("a", None)]);
    let second = bench.put(vec![request("a", None)]);
    let waiting = bench.put(vec![request("b", None)]);
    let lease = bench.put(vec![
        leased(seals(), vec![own(first)]),
        begun(CallPurpose::Fresh(MessageId(first)), 10),
    ]);
    let call = lease.next();
    let ended = Fact::CallEnded { call, pause_ms: 0 };
    let ended = bench.put(vec![ended, sealed(own(first), vec![MessageId(second)], "a")]);
    for _ in 0..3 {
        bench.compact();
        assert_kept(&bench, &[first, second, waiting, ended.next()]);
        assert_gone(&bench, &[lease, call, ended]);
        bench.clock.advance_ms(CENTURY_MS);
        bench.put(vec![begun(CallPurpose::Probe, 1)]);
    }
    assert!(bench.ask(|store| store.state.seals().is_request(MessageId(waiting))));
}

#[test]
fn a_sealed_text_is_known_for_ever_by_the_table_of_keys() {
    let mut bench = Bench::new();
    let request = bench.put(vec![request("a", None)]);
    let seal = bench.put(vec![sealed(own(request), Vec::new(), "a")]);
    let key = text_key("a");
    for _ in 0..3 {
        bench.compact();
        let spent = key_below(&bench, &key).expect("it is in the table");
        assert_eq!((spent.lsn, spent.expires), (seal, NEVER));
        let above = bench.ask(|store| store.state.keys().find(&key, Uptime(0)));
        assert_eq!(above, KeyWhereabouts::Below, "not in memory any more");
        bench.clock.advance_ms(CENTURY_MS);
        bench.accept(1);
        bench.withdraw(1);
    }
    let mut bench = bench.reopen();
    bench.compact();
    assert_eq!(key_below(&bench, &key).expect("still there").lsn, seal);
}

#[test]
fn answers_under_keys_are_there_until_their_time_is_over() {
    let mut bench = Bench::new();
    let expires = bench.ask(|store| store.state.at().uptime).plus_ms(RETENTION_MS);
    let hook = bench.put(vec![created(spent(1, expires))]);
    let keyless = bench.put(vec![created(None)]);
    let request = bench.put(vec![request("a", spent(2, expires))]);
    bench.compact();
    assert_eq!(key_below(&bench, &[1; 32]).expect("it is spent").lsn, hook);
    assert_eq!(key_below(&bench, &[2; 32]).expect("it is spent").lsn, request);
    assert_kept(&bench, &[hook, request]);
    assert_gone(&bench, &[keyless]);
    assert_eq!(bench.ask(|store| store.state.hooks().len()), 2, "hooks need no record");

    bench.clock.advance_ms(RETENTION_MS);
    bench.put(vec![Fact::HookDeleted { hook: keyless }]);
    bench.compact();
    assert_eq!(key_below(&bench, &[1; 32]), None);
    assert_eq!(key_below(&bench, &[2; 32]), None);
    assert_gone(&bench, &[hook, keyless]);
    assert_kept(&bench, &[request]);
    let bench = bench.reopen();
    let hooks: Vec<Lsn> = bench.ask(|store| store.state.hooks().iter().map(|(id, _)| id).collect());
    assert_eq!(hooks, [hook], "the one that was not deleted");
}

#[test]
fn deliveries_are_kept_while_they_are_owed_or_can_be_made_again() {
    let mut bench = Bench::new();
    let hook = bench.put(vec![created(None)]);
    let [owed_still, made, dropped, dead] =
        [(); 4].map(|()| bench.put(vec![owed(Recipient::Hook(hook))]));
    bench.put(vec![leased(hooks(), vec![own(made), own(dropped), own(dead)])]);
    bench.put(vec![delivered(made, None)]);
    bench.put(vec![Fact::Acked { queue: hooks(), messages: vec![own(dropped)] }]);
    let (messages, reason) = (vec![own(dead)], "404".into());
    bench.put(vec![Fact::Condemned { queue: hooks(), messages, reason }]);
    bench.compact();
    assert_kept(&bench, &[owed_still, made, dead]);
    assert_gone(&bench, &[dropped]);

    // Whatever can be put back is there when it is.
    for delivery in [made, dead].map(MessageId) {
        bench.put(vec![Fact::HookRedelivered { delivery }]);
    }
    bench.compact();
    assert_kept(&bench, &[owed_still, made, dead]);
    let ready = |bench: &Bench| {
        bench.ask(|store| {
            let queue = store.state.queue(QueueName::HOOKS).expect("built in");
            queue.leasable(store.state.at().uptime, 9)
        })
    };
    assert_eq!(ready(&bench), [owed_still, made, dead].map(MessageId));
    let (queue, which) = (hooks(), crate::record::Selection::All);
    bench.put(vec![leased(hooks(), vec![own(dead)])]);
    let (messages, reason) = (vec![own(dead)], "404".into());
    bench.put(vec![Fact::Condemned { queue: hooks(), messages, reason }]);
    bench.put(vec![Fact::Purged { queue, which }]);
    bench.compact();
    assert_gone(&bench, &[dead]);
    assert_kept(&bench, &[owed_still, made]);
}

#[test]
fn a_withdrawn_formula_keeps_its_body_while_the_sealer_holds_it() {
    let mut bench = Bench::new();
    let formula = accept_to_be_sealed(&mut bench, 1);
    bench.put(vec![leased(seals(), vec![own(formula)])]);
    bench.withdraw(1);
    let receipts = bench.lease();
    assert_eq!(receipts.len(), 1, "the withdrawal, not the formula");
    bench.settle(receipts, crate::engine::command::Settlement::Ack);
    bench.clock.advance_ms(RETENTION_MS);
    for _ in 0..2 {
        bench.put(vec![request("other", None)]);
        bench.compact();
        assert_kept(&bench, &[formula]);
    }
    // His answer changes nothing of it any more, and then nobody asks for it.
    let text = checked(1).fingerprint.to_string();
    bench.put(vec![sealed(own(formula), Vec::new(), &text)]);
    assert_eq!(bench.ask(|store| store.state.formulas().len()), 0);
    bench.compact();
    assert_gone(&bench, &[formula]);
    assert!(key_below(&bench, &text_key(&text)).is_some(), "what was sealed is sealed");
}

/// The message with the record that touched it last, as a decision names it.
fn touching(bench: &Bench, queue: &QueueName, formula: Lsn) -> Vec<Touched> {
    vec![bench.ask(|store| touched(&store.state, queue, MessageId(formula)))]
}

#[test]
fn a_trail_goes_over_both_queues_and_calls_to_hooks_and_over_snapshots() {
    let mut bench = Bench::new();
    let formulas = crate::engine::fixture::queue();
    let formula = accept_to_be_sealed(&mut bench, 1);
    let hook = bench.put(vec![created(None)]);
    let delivery = bench.put(vec![owed(Recipient::Hook(hook))]);
    let mut expected = Vec::new();
    let mut step = |bench: &mut Bench, fact: Fact, kind: StepKind| {
        bench.put(vec![fact]);
        expected.push(kind);
        // The next snapshot adds to what the one before has kept.
        if expected.len().is_multiple_of(3) {
            bench.compact();
        }
    };
    let messages = touching(&bench, &seals(), formula);
    step(&mut bench, leased(seals(), messages), StepKind::Leased(seals()));
    let messages = touching(&bench, &formulas, formula);
    step(&mut bench, leased(formulas.clone(), messages), StepKind::Leased(formulas.clone()));
    let messages = touching(&bench, &seals(), formula);
    let deferred = Fact::Deferred { queue: seals(), messages, delay_ms: 0 };
    step(&mut bench, deferred, StepKind::Deferred(seals()));
    let messages = touching(&bench, &formulas, formula);
    let acked = Fact::Acked { queue: formulas.clone(), messages };
    step(&mut bench, acked, StepKind::Acked(formulas.clone()));
    let messages = touching(&bench, &seals(), formula);
    step(&mut bench, leased(seals(), messages), StepKind::Leased(seals()));
    let told = Told {
        formula: touching(&bench, &formulas, formula)[0],
        event: Event::FormulaAccepted,
        hook,
    };
    let told_kind = StepKind::Told { event: Event::FormulaAccepted, hook };
    step(&mut bench, delivered(delivery, Some(told)), told_kind);
    let messages = touching(&bench, &seals(), formula);
    let condemned = Fact::Condemned { queue: seals(), messages, reason: "400".into() };
    step(&mut bench, condemned, StepKind::Condemned(seals(), "400".into()));
    let (queue, which) = (seals(), crate::record::Selection::All);
    bench.put(vec![Fact::Redriven { queue, which }]);
    let seal = sealed(touching(&bench, &seals(), formula)[0], Vec::new(), "its identity");
    step(&mut bench, seal, StepKind::Sealed);
    bench.compact();

    let steps = kept(&bench, formula).expect("it is stored").steps;
    let kinds: Vec<StepKind> = steps.iter().map(|step| step.kind.clone()).collect();
    assert_eq!(kinds, expected);
    assert!(steps.is_sorted_by_key(|step| step.lsn));
}

#[test]
fn a_request_has_no_trail() {
    let mut bench = Bench::new();
    let request = bench.put(vec![request("a", None)]);
    let messages = touching(&bench, &seals(), request);
    bench.put(vec![leased(seals(), messages)]);
    bench.put(vec![sealed(own(request), Vec::new(), "a")]);
    bench.compact();
    assert_eq!(kept(&bench, request).expect("for ever").steps, []);
}

#[test]
fn another_reign_resumes_the_very_state_and_takes_the_leases_of_workers_back() {
    let mut bench = Bench::new();
    let hook = bench.put(vec![created(None)]);
    bench.put(vec![Fact::OwnSecretMade { secret: HookSecret([3; 32].into()) }]);
    let formula = accept_to_be_sealed(&mut bench, 1);
    let request = bench.put(vec![request("a", None)]);
    let delivery = bench.put(vec![owed(Recipient::SealRequest(request))]);
    bench.put(vec![leased(hooks(), vec![own(delivery)])]);
    let lease = bench.put(vec![
        leased(seals(), vec![own(formula)]),
        begun(CallPurpose::Fresh(MessageId(formula)), 77),
    ]);
    let outside = bench.lease();
    bench.compact();
    let pause = begun(CallPurpose::Verify, 5);
    bench.put(vec![pause]);
    let before = bench.ask(|store| store.state.clone());

    let bench = bench.reopen();
    let at = bench.ask(|store| store.state.at());
    let record =
        crate::record::Record { at, fact: Fact::Opened { epoch: Epoch(before.epoch().0 + 1) } };
    let mut replayed = before;
    replayed.apply(bench.ask(|store| store.state.lsn()), &record);
    assert_eq!(digest(&bench), replayed.digest());
    bench.ask(|store| {
        let state = &store.state;
        state.check_invariants();
        assert_eq!(state.calls().running().count(), 0, "nobody will see their end");
        let ended: Vec<_> = state.calls().ended().map(|it| (it.call, it.at)).collect();
        let at = at.uptime;
        assert!(ended.contains(&(lease.next(), at.plus_ms(77))), "{ended:?} at {at:?}");
        assert!(ended.iter().any(|(_, ends)| *ends == at.plus_ms(5)));
        for (queue, id) in [(QueueName::SEALS, formula), (QueueName::HOOKS, delivery)] {
            let queue = state.queue(queue).expect("built in");
            assert!(queue.leasable(at, 9).contains(&MessageId(id)), "it has come back");
            assert_eq!(queue.attempts(MessageId(id)), 1, "the attempt counts");
        }
        let formulas = state.queue(QueueName::FORMULAS).expect("built in");
        assert!(formulas.is_held(&outside[0], at), "consumers outside go on");
        assert!(state.hooks().get(hook).is_some() && state.hooks().own_secret().is_some());
    });
}

/// The snapshot `base` without the record at `left_out`, which its state section counts all
/// the same: as a compactor with a slip in it would have written it. On a disk of its own.
fn without(base: &Base, left_out: Lsn) -> Base {
    let snapshot = base.snapshot();
    let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(2));
    let mut out = SnapshotWriter::begin(Arc::clone(&disk), *snapshot.head()).expect("begun");
    let mut records = snapshot.records_after(Lsn::ZERO);
    while let Some((lsn, bytes)) = records.next().expect("it can be read") {
        if lsn != left_out {
            out.record(lsn, bytes).expect("written");
        }
    }
    for name in TableName::ALL {
        out.table(name, snapshot.entries_in(name)).expect("begun");
        let mut entries = snapshot.entries(name);
        while let Some(entry) = entries.next().expect("it can be read") {
            out.entry(name, entry).expect("written");
        }
    }
    let state = snapshot.state().expect("it can be read");
    let named = out.finish(&state).expect("it reads back as it was written");
    let store = snapshot.head().store;
    Base::new(Snapshot::open(&disk, &named, store).expect("it opens"))
}

#[test]
fn snapshot_that_does_not_add_up_to_what_was_replayed_is_given_up() {
    let mut bench = Bench::new();
    let stored: Vec<Lsn> = (1..=5).map(|make_up| bench.accept(make_up)).collect();
    bench.compact();
    bench.accept(6);
    let task = bench.core.begin_compaction(Arc::default()).expect("the disk works");
    let mut task = task.expect("there is something new");
    let whole = task.base.take().expect("there is a snapshot");
    let wrong = without(&whole, stored[2]);
    assert!(matches!(wrong.record(stored[2], Patience::Wait), Ok(log::Looked::Absent)));
    task.base = Some(wrong);
    assert!(matches!(compact(&task), Err(CompactError::Miscounted)));
    task.base = Some(whole);
    assert!(compact(&task).is_ok(), "the one that is whole adds up");
}
