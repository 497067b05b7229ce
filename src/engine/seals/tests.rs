//! What comes after the seal of a formula.

use super::*;
use crate::engine::command::FormulaRef;
use crate::engine::fixture::Bench;
use crate::engine::fixture::flow::{BOTH, Flow, failed, signed};
use crate::engine::fixture::outbound::own;
use crate::record::{FlowStep, Selection};

const RELEASES: &str = QueueName::RELEASES;
const SEALS: &str = QueueName::SEALS;

/// The facts from `first` on, to the last.
async fn facts_from(flow: &Flow, first: Lsn) -> Vec<Fact> {
    let mut facts = Vec::new();
    for lsn in first.0..=flow.engine.durable_lsn().0 {
        facts.push(flow.engine.bodies.record(Lsn(lsn)).await.expect("it is there").fact);
    }
    facts
}

#[tokio::test]
async fn a_sealed_formula_is_due_for_release_by_the_record_beside_its_seal() {
    let flow = Flow::new(BOTH);
    let formula = flow.accept(1).await;
    assert_eq!(flow.counts(RELEASES).await, [0; 4], "not before it is sealed");
    let call = flow.call(formula).await;
    let sealed = flow.end_call(call, signed()).await.sealed.expect("it is sealed");
    let facts = facts_from(&flow, sealed).await;
    let [Fact::Sealed(_), Fact::ReleaseDue { formula: due }] = facts.as_slice() else {
        panic!("{facts:?}")
    };
    assert_eq!(*due, MessageId(formula));
    assert_eq!(flow.counts(RELEASES).await, [1, 0, 0, 0]);
    assert_eq!(flow.counts(SEALS).await, [0; 4]);
}

#[tokio::test]
async fn a_flow_that_ends_with_the_seal_makes_nothing_due() {
    let flow = Flow::new(&[FlowStep::Seal]);
    let formula = flow.accept(1).await;
    flow.seal(formula).await;
    assert_eq!(flow.counts(RELEASES).await, [0; 4]);
    // By its own flow, whatever is configured when it is sealed.
    let released = Flow::new(&[FlowStep::Release]);
    released.accept(1).await;
    assert_eq!(released.counts(RELEASES).await, [1, 0, 0, 0]);
    assert_eq!(released.counts(SEALS).await, [0; 4]);
}

#[tokio::test]
async fn what_is_due_stays_so_across_crashes_and_snapshots() {
    // Its policy has no flow: what the record says counts.
    let mut bench = Bench::with_flow(BOTH);
    let formula = bench.accept(1);
    let text = formula_text(&bench, formula);
    let seal = crate::engine::fixture::outbound::sealed(own(formula), Vec::new(), &text);
    bench.put(vec![
        crate::engine::fixture::outbound::leased(queue(SEALS), vec![own(formula)]),
        seal,
        Fact::ReleaseDue { formula: MessageId(formula) },
    ]);
    for round in 0..4 {
        if round % 2 == 1 {
            bench.compact();
        }
        let digest = bench.ask(|store| store.state.digest());
        bench = bench.reopen();
        bench.ask(|store| {
            store.state.check_invariants();
            let releases = store.state.queue(RELEASES).expect("built in");
            assert!(releases.holds(MessageId(formula)), "round {round}");
            assert_ne!(store.state.digest(), digest, "another reign");
        });
    }
    let flow = Flow::on(bench);
    assert_eq!(flow.counts(RELEASES).await, [1, 0, 0, 0]);
}

fn formula_text(bench: &Bench, formula: Lsn) -> String {
    let kept = bench.core.read(formula).expect("readable").expect("it is there");
    kept.record.fact.acceptance().expect("a formula").fingerprint.to_string()
}

fn queue(name: &str) -> QueueName {
    name.parse().expect("a name of ours")
}

#[tokio::test]
async fn a_formula_whose_text_was_sealed_before_is_due_without_a_call() {
    let flow = Flow::new(BOTH);
    let formula = flow.accept(1).await;
    let request = flow.ask_for(formula).await;
    // The request's call seals the text; the formula's message is settled by that record.
    flow.seal(request.0).await;
    assert_eq!(flow.counts(RELEASES).await, [0; 4]);
    let Begun::Sealed(_) = flow.begin_seal(formula).await else { panic!("it is sealed") };
    let subject = flow.engine.seal_subject(MessageId(formula)).await.expect("readable");
    let sealed = crate::engine::command::seals::SealedFormula {
        message: subject.message,
        formula: subject.formula.expect("a formula's"),
        signature: "s".into(),
    };
    let text_key = subject.text_key;
    let settle = SealSettle { text_key, asked: Vec::new(), formula: Some(sealed) };
    let settled = flow.engine.settle_sealed(settle.clone()).await.expect("the log takes it");
    assert_eq!(settled.settled, [MessageId(formula)]);
    assert_eq!(flow.counts(RELEASES).await, [1, 0, 0, 0]);
    // Once.
    let again = flow.engine.settle_sealed(settle).await.expect("the log takes it");
    assert_eq!(again, SealEnded::default());
    assert_eq!(flow.counts(RELEASES).await, [1, 0, 0, 0]);
}

#[tokio::test]
async fn a_formula_whose_text_is_sealed_while_it_is_called_for_is_due_when_the_call_ends() {
    let flow = Flow::new(BOTH);
    let formula = flow.accept(1).await;
    let (own, other) = (flow.call(formula).await, flow.ask_for(formula).await);
    flow.seal(other.0).await;
    assert_eq!(flow.end_call(own, signed()).await, SealEnded::default());
    assert_eq!(flow.counts(SEALS).await, [0; 4]);
    assert_eq!(flow.counts(RELEASES).await, [1, 0, 0, 0]);
}

#[tokio::test]
async fn a_formula_that_was_withdrawn_while_it_was_sealed_is_not_released() {
    let flow = Flow::new(BOTH);
    let formula = flow.accept(1).await;
    let call = flow.call(formula).await;
    flow.engine.withdraw(FormulaRef::Seq(formula)).await.expect("it is stored");
    // The same make-up again is another formula, with a turn of its own.
    let again = flow.accept(1).await;
    assert!(flow.end_call(call, signed()).await.sealed.is_some());
    assert_eq!(flow.counts(RELEASES).await, [0; 4]);
    let begun = flow.begin_seal(again).await;
    assert!(matches!(begun, Begun::Sealed(_)), "{begun:?}");
}

#[tokio::test]
async fn a_formula_whose_seal_has_failed_is_released_only_after_a_redrive() {
    let flow = Flow::new(BOTH);
    let formula = flow.accept(1).await;
    flow.fail_seal(formula).await;
    assert_eq!(flow.counts(SEALS).await, [0, 0, 0, 1]);
    assert_eq!(flow.counts(RELEASES).await, [0; 4]);
    let which = Selection::Ids(vec![MessageId(formula)]);
    assert_eq!(flow.engine.redrive(queue(SEALS), which).await, Ok(1));
    flow.seal(formula).await;
    assert_eq!(flow.counts(RELEASES).await, [1, 0, 0, 0]);
}

#[tokio::test]
async fn a_seal_that_was_given_up_brings_no_release_about() {
    let flow = Flow::new(BOTH);
    let formula = flow.accept(1).await;
    let first = flow.call(formula).await;
    flow.end_call(first, failed()).await;
    flow.clock.advance_ms(100);
    // Its last lease lapses while the call is under way, and an operator removes it.
    let last = flow.call(formula).await;
    flow.clock.advance_ms(1001);
    assert_eq!(flow.engine.purge(queue(SEALS), Selection::All).await, Ok(1));
    let request = flow.ask_for(formula).await;
    let asked = vec![Asked { message: request, telling: Telling::Nothing }];
    flow.end_call_for(last, signed(), asked).await;
    assert!(flow.engine.known_signature(&text_of(&flow, formula).await).await.is_ok());
    assert_eq!(flow.counts(SEALS).await, [0; 4]);
    assert_eq!(flow.counts(RELEASES).await, [0; 4]);
}

async fn text_of(flow: &Flow, formula: Lsn) -> Box<str> {
    flow.engine.seal_subject(MessageId(formula)).await.expect("readable").text
}
