//! What becomes of formulas that are released, as their trails and their hooks tell it.

use super::*;
use crate::engine::command::MessagePhase;
use crate::engine::deaths::Swept;
use crate::engine::decide::hooks::DeliveryLease;
use crate::engine::decide::hooks::NewHook;
use crate::engine::fixture::fingerprint;
use crate::engine::fixture::flow::{BOTH, Flow, partners};
use crate::engine::releases::{NewTransaction, NewWithdrawal};
use crate::engine::{About, AboutTransaction, MessageKind};
use crate::ids::GroupId;
use crate::limits::RELEASE_BACKOFF_CAP_MS;
use crate::record::Selection;
use crate::record::hooks::HookSecret;
use crate::record::releases::{Action, NodeOutcome, Step as Way};

const RELEASES: &str = QueueName::RELEASES;

fn queue(name: &str) -> QueueName {
    name.parse().expect("a name of ours")
}

fn group(make_up: u32) -> GroupId {
    crate::engine::decide::releases::group_of(&fingerprint(make_up))
}

/// A trail in words.
fn told(steps: &[TrailStep]) -> Vec<String> {
    let word = |step: &TrailStep| match &step.kind {
        TrailKind::Announced(queue) => format!("announced {queue}"),
        TrailKind::Leased(queue) => format!("leased {queue}"),
        TrailKind::Acked(queue) => format!("acked {queue}"),
        TrailKind::ReleaseEnded(ended) => {
            let outcomes: Vec<&str> = ended.nodes.iter().map(|it| it.outcome.name()).collect();
            let (action, end) = (ended.action.name(), ended.end.name());
            format!("{action} {end} {}", outcomes.join(" "))
        }
        TrailKind::Held(Held { queue, reason, remedy }) => {
            format!("held on {queue}: {reason} ({remedy:?})")
        }
        other => format!("{other:?}"),
    };
    steps.iter().map(word).collect()
}

/// A formula that two nodes have refused.
async fn refused() -> (Flow, Lsn) {
    let mut flow = Flow::new(&[FlowStep::Release]);
    let formula = flow.accept(1).await;
    flow.nodes.refuses = vec![(1, Way::Do)];
    assert_eq!(flow.release().await, [TransactionPhase::Ended(End::RolledBack)]);
    (flow, formula)
}

/// A formula that is on one node and cannot be taken off it.
async fn stuck() -> (Flow, Lsn) {
    let mut flow = Flow::new(&[FlowStep::Release]);
    let formula = flow.accept(1).await;
    flow.nodes.refuses = vec![(1, Way::Do), (0, Way::Undo)];
    assert_eq!(flow.release().await, [TransactionPhase::Ended(End::Failed)]);
    assert_eq!(flow.nodes.have(&group(1)), [true, false]);
    (flow, formula)
}

#[tokio::test]
async fn a_released_formula_tells_each_step_and_each_node() {
    let mut flow = Flow::new(BOTH);
    let formula = flow.accept(1).await;
    flow.nodes.groups[1].insert(group(1));
    flow.seal(formula).await;
    assert_eq!(flow.release().await, [TransactionPhase::Ended(End::Succeeded)]);
    assert_eq!(flow.nodes.have(&group(1)), [true; 2]);
    assert_eq!(flow.counts(RELEASES).await, [0; 4]);
    let trail = flow.trail(formula).await;
    assert_eq!(
        told(&trail),
        [
            "Accepted",
            "announced formulas",
            "announced seals",
            "leased seals",
            "Sealed",
            "announced releases",
            "leased releases",
            "create succeeded done already",
        ]
    );
    let sealed = &trail[4];
    assert_eq!((trail[5].at, trail[5].lsn), (sealed.at, sealed.lsn));
    let TrailKind::ReleaseEnded(ended) = &trail[7].kind else { panic!("{trail:?}") };
    assert_eq!((&*ended.nodes[0].url, ended.nodes[0].outcome), ("http://a:1", NodeOutcome::Done));
    assert!(ended.reason.is_empty());
    // A snapshot keeps it, and one on top of that.
    for round in 0..2 {
        flow.engine.snapshot().await.expect("the disk works");
        assert_eq!(flow.trail(formula).await, trail, "round {round}");
        flow.accept(10 + round).await;
    }
}

#[tokio::test]
async fn a_formula_that_was_sealed_without_a_call_of_its_own_is_sealed_all_the_same() {
    let mut flow = Flow::new(BOTH);
    let formula = flow.accept(1).await;
    let subject = flow.engine.seal_subject(MessageId(formula)).await.expect("readable");
    let (text_key, message) = (subject.text_key, subject.message);
    let other = flow.ask_for(formula).await;
    flow.seal(other.0).await;
    let formula_seal = subject.formula.expect("a formula's");
    let sealed = crate::engine::command::seals::SealedFormula {
        message,
        formula: formula_seal,
        signature: "s".into(),
    };
    let settle = crate::engine::command::seals::SealSettle {
        text_key,
        asked: Vec::new(),
        formula: Some(sealed),
    };
    flow.engine.settle_sealed(settle).await.expect("the log takes it");
    assert_eq!(flow.release().await, [TransactionPhase::Ended(End::Succeeded)]);
    let trail = told(&flow.trail(formula).await);
    let after = ["Sealed", "announced releases", "leased releases", "create succeeded done done"];
    assert_eq!(trail[3..], after);
}

#[tokio::test]
async fn a_formula_that_a_node_refuses_is_held_and_a_redrive_begins_anew() {
    let (mut flow, formula) = refused().await;
    assert_eq!(flow.nodes.have(&group(1)), [false; 2], "what was done is undone");
    assert_eq!(flow.counts(RELEASES).await, [0, 0, 0, 1]);
    let trail = flow.trail(formula).await;
    let held = "held on releases: http://b:1: answered 403 (Some(Redrive";
    assert_eq!(
        told(&trail)[..5],
        [
            "Accepted",
            "announced formulas",
            "announced releases",
            "leased releases",
            "create rolled_back undone refused",
        ]
    );
    assert!(told(&trail)[5].starts_with(held), "{:?}", told(&trail)[5]);
    flow.engine.snapshot().await.expect("the disk works");
    assert_eq!(flow.trail(formula).await, trail);

    flow.nodes.refuses.clear();
    let first = flow.engine.transactions(None, None, 9).await.expect("durable")[0].0;
    let which = Selection::Ids(vec![MessageId(formula)]);
    assert_eq!(flow.engine.redrive(queue(RELEASES), which).await, Ok(1));
    let waiting = told(&flow.trail(formula).await);
    assert_eq!(waiting.len(), 5, "it is not held any more: {waiting:?}");
    assert_eq!(flow.release().await, [TransactionPhase::Ended(End::Succeeded)]);
    let all = flow.engine.transactions(None, None, 9).await.expect("durable");
    assert_eq!((all.len(), all[0].0), (2, first), "the first one is at an end");
    let trail = told(&flow.trail(formula).await);
    assert_eq!(trail[5..], ["leased releases", "create succeeded done done"]);
    assert_eq!(flow.nodes.have(&group(1)), [true; 2]);
}

#[tokio::test]
async fn a_failed_release_is_held_until_it_is_healed_and_released_by_a_redrive() {
    let (mut flow, formula) = stuck().await;
    let id = flow.engine.failed_transactions().await.expect("durable")[0];
    let before = flow.trail(formula).await;
    assert_eq!(told(&before)[4], "create failed done refused");
    assert!(told(&before)[5].starts_with("held on releases: http://a:1"));
    flow.nodes.refuses = vec![(1, Way::Do)];
    assert_eq!(flow.heal(id).await, Some(TransactionPhase::Ended(End::RolledBack)));
    assert_eq!(flow.nodes.have(&group(1)), [false; 2]);
    let healed = told(&flow.trail(formula).await);
    assert_eq!(healed.len(), 7, "{healed:?}");
    assert!(healed[5].starts_with("create rolled_back undone"), "{healed:?}");
    assert!(healed[6].starts_with("held on releases"), "healed is not released");
    flow.nodes.refuses.clear();
    assert_eq!(flow.engine.redrive(queue(RELEASES), Selection::All).await, Ok(1));
    assert_eq!(flow.release().await, [TransactionPhase::Ended(End::Succeeded)]);
    assert_eq!(flow.nodes.have(&group(1)), [true; 2]);
}

#[tokio::test]
async fn a_redrive_of_a_failed_release_goes_on_with_its_transaction() {
    let (mut flow, formula) = stuck().await;
    flow.nodes.refuses.clear();
    assert_eq!(flow.engine.redrive(queue(RELEASES), Selection::All).await, Ok(1));
    assert_eq!(flow.release().await, [TransactionPhase::Ended(End::Succeeded)]);
    assert_eq!(flow.engine.transactions(None, None, 9).await.expect("durable").len(), 1);
    assert_eq!(flow.nodes.have(&group(1)), [true; 2]);
    let last = flow.trail(formula).await.pop().expect("steps");
    assert!(matches!(last.kind, TrailKind::ReleaseEnded(_)), "{last:?}");
}

#[tokio::test]
async fn a_purged_release_is_given_up_and_what_is_left_is_healed_all_the_same() {
    let (mut flow, formula) = stuck().await;
    assert_eq!(flow.engine.purge(queue(RELEASES), Selection::All).await, Ok(1));
    let trail = told(&flow.trail(formula).await);
    assert_eq!(trail.last().map(String::as_str), Some("create failed done refused"), "not held");
    let id = flow.engine.failed_transactions().await.expect("durable")[0];
    flow.nodes.refuses.clear();
    assert_eq!(flow.heal(id).await, Some(TransactionPhase::Ended(End::RolledBack)));
    assert_eq!(flow.nodes.have(&group(1)), [false; 2]);
    assert_eq!(flow.counts(RELEASES).await, [0; 4]);
    assert!(flow.release().await.is_empty());
}

async fn withdraw(flow: &Flow, make_up: u32) -> Result<Lsn, Rejection> {
    let withdrawal = NewWithdrawal { fingerprint: fingerprint(make_up), partners: partners() };
    flow.engine.begin_withdrawal(withdrawal).await
}

#[tokio::test]
async fn a_released_formula_is_deleted_from_the_nodes_before_it_is_withdrawn() {
    let mut flow = Flow::new(&[FlowStep::Release]);
    let formula = flow.accept(1).await;
    flow.release().await;
    flow.nodes.refuses = vec![(0, Way::Do)];
    let first = withdraw(&flow, 1).await.expect("it is stored");
    assert_eq!(flow.release().await, [TransactionPhase::Ended(End::RolledBack)]);
    let trail = told(&flow.trail(formula).await);
    assert_eq!(trail.last().map(String::as_str), Some("delete rolled_back refused undone"));
    assert_eq!(flow.nodes.have(&group(1)), [true; 2], "it is put back");

    flow.nodes.refuses = vec![(0, Way::Do), (1, Way::Undo)];
    let second = withdraw(&flow, 1).await.expect("the group is free");
    assert!(second > first);
    assert_eq!(flow.release().await, [TransactionPhase::Ended(End::Failed)]);
    let held = told(&flow.trail(formula).await).pop().expect("steps");
    assert!(held.ends_with(&format!("(Some(Retry({second:?})))")), "{held}");
    assert_eq!(withdraw(&flow, 1).await, Err(Rejection::GroupHeld { by: second }));

    flow.nodes.refuses.clear();
    flow.engine.retry_transaction(second).await.expect("it has failed");
    assert_eq!(flow.release().await, [TransactionPhase::Ended(End::Succeeded)]);
    assert_eq!(flow.nodes.have(&group(1)), [false; 2]);
    let gone = flow.engine.trail(FormulaRef::Seq(formula)).await.expect("readable");
    assert_eq!(gone, None, "it is withdrawn");
    assert_eq!(withdraw(&flow, 1).await, Err(Rejection::FormulaUnknown));
}

#[tokio::test]
async fn a_held_formula_can_be_withdrawn() {
    let (mut flow, formula) = refused().await;
    flow.nodes.refuses.clear();
    withdraw(&flow, 1).await.expect("its group is free");
    // Its own redrive waits while the withdrawal has the group, and ends with it.
    assert_eq!(flow.engine.redrive(queue(RELEASES), Selection::All).await, Ok(1));
    assert_eq!(flow.release().await, [TransactionPhase::Ended(End::Succeeded)]);
    assert_eq!(flow.counts(RELEASES).await, [0; 4]);
    flow.clock.advance_ms(2 * RELEASE_BACKOFF_CAP_MS);
    assert!(flow.release().await.is_empty());
    assert_eq!(flow.nodes.have(&group(1)), [false; 2]);
    assert_eq!(flow.engine.formula(FormulaRef::Seq(formula)).await, Ok(None));
}

#[tokio::test]
async fn a_withdrawal_is_refused_while_the_formula_is_released() {
    let flow = Flow::new(&[FlowStep::Release]);
    flow.accept(1).await;
    let leased = flow.engine.lease_releases(1, 1, 60_000).await.expect("the log takes it");
    let message = leased[0].receipt.message;
    let course = flow.engine.take_release(message, partners()).await.expect("readable");
    let by = course.transaction;
    assert_eq!(withdraw(&flow, 1).await, Err(Rejection::GroupHeld { by }));
}

#[tokio::test]
async fn a_formula_that_is_withdrawn_on_its_way_to_the_worker_is_not_released() {
    for round in 0..2 {
        let mut flow = Flow::new(&[FlowStep::Release]);
        let formula = flow.accept(1).await;
        let leased = flow.engine.lease_releases(1, 1, 60_000).await.expect("the log takes it");
        withdraw(&flow, 1).await.expect("nobody has the group yet");
        assert_eq!(flow.release().await, [TransactionPhase::Ended(End::Succeeded)]);
        if round == 1 {
            // The same make-up again is another formula, and its release none of this message's.
            flow.accept(1).await;
        }
        let message = leased[0].receipt.message;
        assert_eq!(message, MessageId(formula));
        let course = flow.engine.take_release(message, partners()).await.expect("readable");
        assert_eq!(flow.carry_out(course).await, None, "round {round}");
        assert_eq!(flow.nodes.have(&group(1)), [false; 2]);
        assert_eq!(flow.counts(RELEASES).await, [round, 0, 0, 0]);
    }
}

#[tokio::test]
async fn who_takes_a_message_whose_lease_has_lapsed_gets_nothing() {
    let flow = Flow::new(&[FlowStep::Release]);
    let formula = flow.accept(1).await;
    flow.engine.lease_releases(1, 1, 1000).await.expect("the log takes it");
    flow.clock.advance_ms(1001);
    let none = crate::engine::releases::Partners { nodes: Vec::new(), deadline_ms: 1 };
    for partners in [partners(), none] {
        let course = flow.engine.take_release(MessageId(formula), partners).await;
        let course = course.expect("readable");
        assert_eq!(course.task, crate::engine::releases::Task::Gone);
    }
    assert_eq!(flow.counts(RELEASES).await, [1, 0, 0, 0]);
}

/// Everything that hooks are owed, in order, by its event.
async fn owed(flow: &Flow) -> Vec<String> {
    let wish = DeliveryLease { deliveries_max: 99, lease_ms: 60_000, attempts_max: 9 };
    let leased = flow.engine.lease_deliveries(wish).await.expect("the log takes it");
    let mut events = Vec::new();
    for delivery in leased {
        let call = flow.engine.owed_call(delivery.receipt.message).await.expect("readable");
        let event = call.owed.happening.event().expect("an event");
        events.push(event.name().to_owned());
    }
    events
}

async fn subscribe(flow: &Flow) {
    let secret = HookSecret(b"whsec_".as_slice().into());
    let events = "*".parse().expect("events");
    let hook = NewHook { url: "http://h.example/".into(), events, secret, key: None };
    flow.engine.create_hook(hook).await.expect("there is room");
}

async fn sweep(flow: &Flow) {
    while flow.engine.sweep_deaths().await.expect("the log takes it") == Swept::Some {}
}

#[tokio::test]
async fn hooks_are_told_of_each_step_of_a_flow() {
    let mut flow = Flow::new(BOTH);
    subscribe(&flow).await;
    let formula = flow.accept(1).await;
    flow.seal(formula).await;
    flow.release().await;
    let all = ["formula.accepted", "formula.sealed", "transaction.succeeded", "formula.released"];
    assert_eq!(owed(&flow).await, all);
    withdraw(&flow, 1).await.expect("it is stored");
    flow.release().await;
    assert_eq!(owed(&flow).await, ["transaction.succeeded", "formula.withdrawn"]);
    sweep(&flow).await;
    assert!(owed(&flow).await.is_empty());
}

#[tokio::test]
async fn hooks_are_told_of_a_formula_that_is_held() {
    let mut flow = Flow::new(&[FlowStep::Release]);
    subscribe(&flow).await;
    flow.accept(1).await;
    flow.nodes.refuses = vec![(1, Way::Do)];
    flow.release().await;
    sweep(&flow).await;
    let rolled_back =
        ["formula.accepted", "transaction.rolled_back", "formula.held", "message.dead"];
    assert_eq!(owed(&flow).await, rolled_back);
    flow.nodes.refuses.push((0, Way::Undo));
    assert_eq!(flow.engine.redrive(queue(RELEASES), Selection::All).await, Ok(1));
    flow.release().await;
    sweep(&flow).await;
    assert_eq!(owed(&flow).await, ["transaction.failed", "formula.held", "message.dead"]);
    // Healed: said of the transaction; the formula is held as before.
    let id = flow.engine.failed_transactions().await.expect("durable")[0];
    flow.nodes.refuses.clear();
    flow.heal(id).await;
    sweep(&flow).await;
    assert_eq!(owed(&flow).await, ["transaction.rolled_back"]);
}

async fn begin(flow: &Flow, name: &str) -> Lsn {
    let group = name.parse().expect("a group's name");
    let (action, partners) = (Action::Create, partners());
    let new = NewTransaction { group, action, partners, key: None };
    flow.engine.begin_transaction(new).await.expect("the group is free").0
}

/// What is on the queue in a phase.
async fn peek(flow: &Flow, phase: MessagePhase) -> Vec<(MessageKind, About)> {
    let releases = queue(RELEASES);
    let views = flow.engine.peek(&releases, phase, None, 9).await.expect("a built-in queue");
    let mut all = Vec::new();
    for view in views {
        let message = flow.engine.message(&releases, view.id).await.expect("readable");
        let message = message.expect("it is queued");
        assert_eq!(message.id, view.id);
        all.push((message.kind, message.about));
    }
    all
}

#[tokio::test]
async fn messages_of_the_queue_tell_what_they_are_about_also_when_their_records_are_gone() {
    let mut flow = Flow::new(&[FlowStep::Release]);
    subscribe(&flow).await;
    let id = begin(&flow, "g").await;
    let formula = flow.accept(1).await;
    flow.engine.snapshot().await.expect("the disk works");
    let found = peek(&flow, MessagePhase::Ready).await;
    let about = |phase| {
        let (group, action) = ("g".parse().expect("a group's name"), Action::Create);
        About::Transaction(AboutTransaction { id, group, action, phase })
    };
    let transaction = (MessageKind::Transaction, about(TransactionPhase::Running));
    assert_eq!(found[0], transaction);
    let (MessageKind::FormulaRelease, About::Formula(stored)) = &found[1] else {
        panic!("{found:?}")
    };
    assert_eq!(stored.lsn, formula);
    assert!(flow.engine.bodies.find(id).await.expect("readable").is_none(), "it is gone");

    flow.nodes.refuses = vec![(1, Way::Do), (0, Way::Undo)];
    let failed = TransactionPhase::Ended(End::Failed);
    assert_eq!(flow.release().await, [failed, failed]);
    owed(&flow).await;
    sweep(&flow).await;
    let told = owed(&flow).await;
    assert_eq!(told, ["message.dead", "formula.held", "message.dead"], "each as what it was");
    assert_eq!(peek(&flow, MessagePhase::Dead).await[0], (MessageKind::Transaction, about(failed)));
    flow.nodes.refuses.clear();
    flow.heal(id).await;
    // What has ended is off the queue, and no damage.
    let releases = queue(RELEASES);
    assert_eq!(flow.engine.message(&releases, MessageId(Lsn(id.0 + 9000))).await, Ok(None));
    assert_eq!(flow.counts(RELEASES).await, [0, 0, 0, 1]);
    assert_eq!(flow.engine.shared.metrics.damaged_reads.get(), 0);
}
