//! On a real core: what is decided is recorded, applied and, at the end of each test, compacted.

use super::*;
use crate::engine::command::RequestKey;
use crate::engine::decide::Command;
use crate::engine::decide::gate::Mode;
use crate::engine::fixture::Bench;
use crate::record::FlowStep;

const LIMIT: Limit = Limit { calls: 2, window_ms: 1000, mode: Mode::Window };
const DEADLINE_MS: u64 = 100;

fn wish(text: &str) -> SealWish {
    SealWish { text: text.into(), webhook_url: None, key: None, limit: LIMIT }
}

/// Asks for a seal that is not there; gives the message.
fn ask(bench: &mut Bench, text: &str) -> MessageId {
    match bench.run(Command::RequestSeal(wish(text))) {
        Ok(Reply::SealRequested(lsn, request)) if request.sealed.is_none() => MessageId(lsn),
        other => panic!("a new text is answered by {other:?}"),
    }
}

fn try_begin(bench: &mut Bench, message: MessageId, text: &str) -> Begun {
    let begin = SealBegin {
        message,
        text_key: text_key(text),
        limit: LIMIT,
        deadline_ms: DEADLINE_MS,
        lease_ms: 10_000,
        attempts_max: 2,
    };
    match bench.run(Command::BeginSeal(begin)) {
        Ok(Reply::SealBegun(begun)) => begun,
        other => panic!("a beginning is answered by {other:?}"),
    }
}

fn begin_call_for(bench: &mut Bench, message: MessageId, text: &str) -> (Lsn, Receipt) {
    match try_begin(bench, message, text) {
        Begun::Call { call, receipt } => (call, receipt),
        other => panic!("no call: {other:?}"),
    }
}

fn end_with(
    bench: &mut Bench,
    (call, receipt): (Lsn, Receipt),
    text: &str,
    asked: &[(MessageId, Telling)],
    outcome: SealOutcome,
) -> SealEnded {
    let asked = asked.iter().map(|&(message, telling)| Asked { message, telling }).collect();
    let text_key = text_key(text);
    let end = SealEnd { call, receipt, text_key, formula: None, asked, attempts_max: 2, outcome };
    match bench.run(Command::EndSeal(Box::new(end))) {
        Ok(Reply::SealEnded(ended)) => ended,
        other => panic!("an end is answered by {other:?}"),
    }
}

fn signed() -> SealOutcome {
    SealOutcome::Signed("s".into())
}

fn failed() -> SealOutcome {
    SealOutcome::Failed { reason: "answered 502".into(), delay_ms: 10 }
}

fn fact(bench: &Bench, lsn: Lsn) -> Fact {
    bench.core.read(lsn).expect("it can be read").expect("it is there").record.fact
}

fn last(bench: &Bench) -> Lsn {
    bench.ask(|store| store.state.lsn())
}

fn next_of(bench: &Bench) -> Option<MessageId> {
    let now = bench.ask(|store| bench.core.timeline().now(store.state.at(), &*bench.clock));
    bench.ask(|store| next(&store.state, &LIMIT, &BTreeSet::new(), now.uptime))
}

fn counts(bench: &Bench) -> [usize; 4] {
    let now = bench.ask(|store| bench.core.timeline().now(store.state.at(), &*bench.clock));
    let counts = bench.ask(|store| queue(&store.state).counts(now.uptime));
    [counts.ready, counts.leased, counts.delayed, counts.dead]
}

#[test]
fn a_signature_settles_all_that_wait_and_tells_each_as_he_wishes() {
    let mut bench = Bench::new();
    let [a, b, c] = [0; 3].map(|_| ask(&mut bench, "t"));
    let call = begin_call_for(&mut bench, a, "t");
    let asked = [(a, Telling::Inline), (b, Telling::Hook), (c, Telling::Nothing)];
    let ended = end_with(&mut bench, call, "t", &asked, signed());
    assert_eq!(ended.settled, [a, b, c]);
    let sealed = ended.sealed.expect("it is sealed");
    match fact(&bench, sealed) {
        Fact::Sealed(seal) => {
            assert_eq!(
                (seal.message.message, &*seal.shared, &*seal.inline),
                (a, &[b, c][..], &[a][..])
            );
        }
        other => panic!("{other:?}"),
    }
    match fact(&bench, last(&bench)) {
        Fact::HookOwed(owed) => {
            assert_eq!(owed.to, Recipient::SealRequest(b.0));
            let Happening::SealAnswered { sealed: Some(by) } = owed.happening else {
                panic!("{owed:?}")
            };
            assert_eq!(by.lsn(last(&bench)), sealed);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(counts(&bench), [0; 4]);
    // For good, and across snapshots.
    bench.compact();
    match bench.run(Command::RequestSeal(wish("t"))) {
        Ok(Reply::SealRequested(_, request)) => assert_eq!(request.sealed, Some(sealed)),
        other => panic!("{other:?}"),
    }
    assert_eq!(counts(&bench), [0; 4]);
}

#[test]
fn no_more_calls_begin_than_the_limit_allows() {
    let mut bench = Bench::new();
    let messages = ["1", "2", "3"].map(|text| (ask(&mut bench, text), text));
    let calls = [0, 1].map(|at| begin_call_for(&mut bench, messages[at].0, messages[at].1));
    assert_eq!(try_begin(&mut bench, messages[2].0, "3"), Begun::Closed(Gate::Full));
    end_with(&mut bench, calls[0], "1", &[(messages[0].0, Telling::Nothing)], signed());
    let begun = try_begin(&mut bench, messages[2].0, "3");
    assert!(matches!(begun, Begun::Closed(Gate::OpensAt(_))), "{begun:?}");
    bench.clock.advance_ms(1001);
    begin_call_for(&mut bench, messages[2].0, "3");
}

#[test]
fn requests_for_a_text_that_is_tried_again_wait_for_it_and_end_with_it() {
    let mut bench = Bench::new();
    let a = ask(&mut bench, "t");
    let call = begin_call_for(&mut bench, a, "t");
    end_with(&mut bench, call, "t", &[], failed());
    let b = ask(&mut bench, "t");
    assert_eq!(next_of(&bench), None, "its text has its turn when {a} has");
    bench.clock.advance_ms(2000);
    assert_eq!(next_of(&bench), Some(a));
    let call = begin_call_for(&mut bench, a, "t");
    let both = [(a, Telling::Nothing), (b, Telling::Nothing)];
    assert_eq!(end_with(&mut bench, call, "t", &both, failed()).settled, [a, b]);
    assert_eq!(counts(&bench), [0, 0, 0, 2]);
}

#[test]
fn a_refusal_that_is_not_the_messages_fault_counts_no_attempt_and_closes_the_gate() {
    let mut bench = Bench::new();
    let a = ask(&mut bench, "t");
    let call = begin_call_for(&mut bench, a, "t");
    end_with(&mut bench, call, "t", &[], SealOutcome::Deferred { pause_ms: 5000 });
    assert_eq!(counts(&bench), [1, 0, 0, 0]);
    assert!(matches!(try_begin(&mut bench, a, "t"), Begun::Closed(Gate::OpensAt(_))));
    bench.clock.advance_ms(5001);
    let (_, receipt) = begin_call_for(&mut bench, a, "t");
    assert_eq!(receipt.attempt, 1);
}

#[test]
fn a_signature_that_comes_after_the_lease_lapsed_is_kept() {
    let mut bench = Bench::new();
    let a = ask(&mut bench, "t");
    let call = begin_call_for(&mut bench, a, "t");
    bench.clock.advance_ms(10_001);
    let ended = end_with(&mut bench, call, "t", &[(a, Telling::Nothing)], signed());
    assert!(ended.sealed.is_some());
    assert_eq!(counts(&bench), [0; 4]);
}

#[test]
fn a_failure_that_comes_after_the_lease_lapsed_only_ends_the_call() {
    let mut bench = Bench::new();
    let a = ask(&mut bench, "t");
    let call = begin_call_for(&mut bench, a, "t");
    bench.clock.advance_ms(10_001);
    end_with(&mut bench, call, "t", &[], failed());
    assert_eq!(counts(&bench), [1, 0, 0, 0]);
    assert_eq!(bench.ask(|store| store.state.calls().running().count()), 0);
}

#[test]
fn a_text_is_never_sealed_by_two_records() {
    let mut bench = Bench::new();
    let [a, b] = [0; 2].map(|_| ask(&mut bench, "t"));
    let calls = [a, b].map(|message| begin_call_for(&mut bench, message, "t"));
    end_with(&mut bench, calls[0], "t", &[(a, Telling::Nothing)], signed());
    let ended = end_with(&mut bench, calls[1], "t", &[(b, Telling::Inline)], signed());
    assert_eq!(ended, SealEnded::default());
    // Who was to be told at once is told by a hook instead.
    assert!(matches!(fact(&bench, last(&bench)), Fact::HookOwed(_)));
    assert_eq!(counts(&bench), [0; 4]);
}

#[test]
fn what_came_between_answer_and_record_is_settled_without_a_call() {
    let mut bench = Bench::new();
    let a = ask(&mut bench, "t");
    let call = begin_call_for(&mut bench, a, "t");
    let late = ask(&mut bench, "t");
    end_with(&mut bench, call, "t", &[(a, Telling::Nothing)], signed());
    assert!(matches!(try_begin(&mut bench, late, "t"), Begun::Sealed(_)));
    let asked = vec![Asked { message: late, telling: Telling::Hook }];
    let settle = SealSettle { text_key: text_key("t"), asked, formula: None };
    match bench.run(Command::SettleSealed(Box::new(settle))) {
        Ok(Reply::SealEnded(ended)) => assert_eq!(ended.settled, [late]),
        other => panic!("{other:?}"),
    }
    assert!(matches!(fact(&bench, last(&bench)), Fact::HookOwed(_)));
    assert_eq!(counts(&bench), [0; 4]);
}

#[test]
fn a_spent_key_gives_the_first_request_again_and_no_other() {
    let mut bench = Bench::new();
    let keyed = |text, request| SealWish {
        key: Some(RequestKey { key: [1; 32], request: [request; 32] }),
        ..wish(text)
    };
    let first = match bench.run(Command::RequestSeal(keyed("t", 1))) {
        Ok(Reply::SealRequested(lsn, _)) => lsn,
        other => panic!("{other:?}"),
    };
    bench.compact();
    let again = bench.run(Command::RequestSeal(keyed("t", 1)));
    assert_eq!(again, Ok(Reply::SealReplayed(first)));
    assert_eq!(bench.run(Command::RequestSeal(keyed("u", 2))), Err(Refusal::KeyReused));
}

#[test]
fn among_messages_that_were_tried_the_one_with_the_fewest_attempts_is_next() {
    let mut bench = Bench::new();
    let [a, b] = ["a", "b"].map(|text| ask(&mut bench, text));
    for _ in 0..2 {
        let call = begin_call_for(&mut bench, a, "a");
        let begin = SealEnd {
            call: call.0,
            receipt: call.1,
            text_key: text_key("a"),
            formula: None,
            asked: Vec::new(),
            attempts_max: 5,
            outcome: failed(),
        };
        // Its lease knows of two attempts, so it is a dead letter then, and redriven.
        assert!(bench.run(Command::EndSeal(Box::new(begin))).is_ok());
        bench.clock.advance_ms(1100);
    }
    let call = begin_call_for(&mut bench, b, "b");
    end_with(&mut bench, call, "b", &[], failed());
    bench.clock.advance_ms(1100);
    assert_eq!(next_of(&bench), Some(b));
    assert_eq!(counts(&bench), [1, 0, 0, 1]);
}

#[test]
fn a_flow_with_seal_puts_the_formula_on_the_queue() {
    let mut bench = Bench::with_flow(&[FlowStep::Seal]);
    let lsn = bench.accept(1);
    assert_eq!(next_of(&bench), Some(MessageId(lsn)));
    bench.withdraw(1);
    assert_eq!(next_of(&bench), None);
}
