//! On a real core: what is decided is recorded, applied and, at the end of a test, replayed.

use super::*;
use crate::engine::command::releases::News;
use crate::engine::command::{LeaseRequest, RequestKey};
use crate::engine::decide::{Command, Reply};
use crate::engine::fixture::{Bench, fingerprint};
use crate::ids::Receipt;
use crate::record::Selection;
use crate::record::releases::{NodeAnswer, NodeSet, Presence, Seen, Sight, Step};
use crate::state::releases::Transaction;

/// Longer than any wait of a test.
const LONG_MS: u64 = 10_000_000;

fn partners() -> Partners {
    Partners { nodes: vec!["http://a".into(), "http://b".into()], deadline_ms: 5_000 }
}

fn new(group: &str, key: Option<RequestKey>) -> ReleaseCommand {
    let group = group.parse().expect("a name");
    let (action, partners) = (Action::Create, partners());
    ReleaseCommand::Begin(NewTransaction { group, action, partners, key })
}

fn run(bench: &mut Bench, command: ReleaseCommand) -> Result<Reply, Refusal> {
    bench.run(Command::Release(command))
}

fn begin_one(bench: &mut Bench, group: &str) -> Lsn {
    match run(bench, new(group, None)) {
        Ok(Reply::Recorded(id)) => id,
        other => panic!("a new transaction is answered by {other:?}"),
    }
}

fn lease(bench: &mut Bench) -> Vec<Receipt> {
    let request = LeaseRequest { queue: releases_queue(), messages_max: 9, lease_ms: LONG_MS };
    match bench.run(Command::Lease(request)) {
        Ok(Reply::Leased(deliveries)) => deliveries.iter().map(|it| it.receipt).collect(),
        other => panic!("a lease is answered by {other:?}"),
    }
}

fn course(bench: &mut Bench, command: ReleaseCommand) -> Task {
    match run(bench, command) {
        Ok(Reply::Course(course)) => course.task,
        other => panic!("a course is answered by {other:?}"),
    }
}

/// Takes the only message that is ready.
fn take_one(bench: &mut Bench, formula: Option<Fingerprint>) -> Task {
    let leased = lease(bench);
    let [receipt] = leased[..] else { panic!("not one message: {leased:?}") };
    let taken = TakenRelease { message: receipt.message, formula, partners: partners() };
    course(bench, ReleaseCommand::Take(taken))
}

fn seen(bench: &mut Bench, transaction: Lsn, sights: &[Option<Presence>]) -> Task {
    let unseen = || Sight::Unseen { reason: "timeout".into(), again_ms: 0 };
    let sights = sights.iter().map(|sight| sight.map_or_else(unseen, Sight::Told));
    let seen = (0..).zip(sights).map(|(node, sight)| Seen { node, sight }).collect();
    course(bench, ReleaseCommand::Advance { transaction, news: vec![News::Seen(seen)] })
}

fn answered_by(bench: &mut Bench, transaction: Lsn, node: u8, answer: NodeAnswer) -> Task {
    let news = vec![News::Answered { node, answer, reason: "said so".into() }];
    course(bench, ReleaseCommand::Advance { transaction, news })
}

fn found(bench: &Bench, id: Lsn) -> Transaction {
    bench.ask(|store| store.state.releases().get(id).cloned()).expect("it is remembered")
}

fn counts(bench: &Bench) -> [usize; 4] {
    let now = bench.ask(|store| bench.core.timeline().now(store.state.at(), &*bench.clock));
    let counts = bench.ask(|store| {
        store.state.check_invariants();
        store.state.queue(QueueName::RELEASES).expect("built in").counts(now.uptime)
    });
    [counts.ready, counts.leased, counts.delayed, counts.dead]
}

const ABSENT: Option<Presence> = Some(Presence::Absent);
const ALL: NodeSet = NodeSet(0b11);
const FAILED: Phase = Phase::Ended(End::Failed);

/// Begins one and has it fail: nothing can be seen of its nodes.
fn fail_one(bench: &mut Bench, group: &str) -> Lsn {
    let id = begin_one(bench, group);
    for _ in 0..TRIES_MAX {
        assert_eq!(take_one(bench, None), Task::Look(ALL));
        seen(bench, id, &[None, ABSENT]);
        bench.clock.advance_ms(LONG_MS);
    }
    assert_eq!(found(bench, id).phase, FAILED);
    assert_eq!(counts(bench), [0, 0, 0, 1]);
    id
}

#[test]
fn all_nodes_are_looked_at_then_called_and_the_last_answer_ends_it() {
    let mut bench = Bench::new();
    let id = begin_one(&mut bench, "g");
    assert_eq!(take_one(&mut bench, None), Task::Look(ALL));
    let call = Task::Call { step: Step::Do, nodes: ALL, round: 1 };
    assert_eq!(seen(&mut bench, id, &[ABSENT, ABSENT]), call);
    assert_eq!(answered_by(&mut bench, id, 0, NodeAnswer::Done), Task::Await);
    let over = Task::Over(Phase::Ended(End::Succeeded));
    assert_eq!(answered_by(&mut bench, id, 1, NodeAnswer::Done), over);
    assert_eq!(counts(&bench), [0; 4]);
    bench.compact();
    assert_eq!(found(&bench.reopen(), id).phase, Phase::Ended(End::Succeeded));
}

/// S3 3: what was asked was forgotten when the process ended.
#[test]
fn a_transaction_goes_on_however_often_the_process_ends() {
    let mut bench = Bench::new();
    let id = begin_one(&mut bench, "g");
    for _ in 0..20 {
        assert_eq!(take_one(&mut bench, None), Task::Look(ALL));
        bench = bench.reopen();
        assert_eq!(counts(&bench), [1, 0, 0, 0], "it is ready again and no dead letter");
    }
    assert_eq!(found(&bench, id).phase, Phase::Running);
}

#[test]
fn a_call_without_an_answer_is_looked_at_one_deadline_after_the_restart() {
    let mut bench = Bench::new();
    let id = begin_one(&mut bench, "g");
    take_one(&mut bench, None);
    seen(&mut bench, id, &[ABSENT, ABSENT]);
    answered_by(&mut bench, id, 0, NodeAnswer::Done);
    let mut bench = bench.reopen();
    let Task::Wait(until) = take_one(&mut bench, None) else { panic!("it waits") };
    assert!(until >= found(&bench, id).undo_after);
    bench.clock.advance_ms(5_000);
    let go_on = ReleaseCommand::Advance { transaction: id, news: Vec::new() };
    assert_eq!(course(&mut bench, go_on), Task::Look(NodeSet(0b10)));
}

/// S3 3: a timeout was a failure without undo.
#[test]
fn what_was_done_is_undone_when_another_node_has_timed_out() {
    let mut bench = Bench::new();
    let id = begin_one(&mut bench, "g");
    take_one(&mut bench, None);
    seen(&mut bench, id, &[ABSENT, ABSENT]);
    answered_by(&mut bench, id, 0, NodeAnswer::Done);
    answered_by(&mut bench, id, 1, NodeAnswer::Unknown { settles_ms: 0 });
    let unchanged = vec![News::Seen(vec![Seen { node: 1, sight: Sight::Told(Presence::Absent) }])];
    let advance = ReleaseCommand::Advance { transaction: id, news: unchanged };
    let undo = Task::Call { step: Step::Undo, nodes: NodeSet(0b01), round: 2 };
    assert_eq!(course(&mut bench, advance), undo);
}

#[test]
fn one_transaction_holds_a_group_and_a_key_names_one() {
    let mut bench = Bench::new();
    let key = |request| Some(RequestKey { key: [1; 32], request: [request; 32] });
    let Ok(Reply::Recorded(id)) = run(&mut bench, new("g", key(1))) else { panic!("it is new") };
    assert_eq!(run(&mut bench, new("g", None)), Err(Refusal::GroupHeld { by: id }));
    assert_eq!(run(&mut bench, new("g", key(1))), Ok(Reply::RecordedBefore(id)));
    assert_eq!(run(&mut bench, new("g", key(2))), Err(Refusal::KeyReused));
    begin_one(&mut bench, "other");
}

#[test]
fn one_that_failed_is_a_dead_letter_and_holds_its_group_until_it_is_healed() {
    let mut bench = Bench::new();
    let id = fail_one(&mut bench, "g");
    assert_eq!(run(&mut bench, new("g", None)), Err(Refusal::GroupHeld { by: id }));
    assert_eq!(course(&mut bench, ReleaseCommand::Heal(id)), Task::Look(ALL));
    assert_eq!(seen(&mut bench, id, &[None, ABSENT]), Task::Over(FAILED));
    assert_eq!(course(&mut bench, ReleaseCommand::Heal(id)), Task::Look(ALL));
    let over = Task::Over(Phase::Ended(End::RolledBack));
    assert_eq!(seen(&mut bench, id, &[ABSENT, ABSENT]), over);
    assert_eq!(counts(&bench), [0; 4]);
    assert_eq!(course(&mut bench, ReleaseCommand::Heal(id)), Task::Gone);
    assert_eq!(run(&mut bench, ReleaseCommand::Retry(id)), Err(Refusal::TransactionOver));
    begin_one(&mut bench, "g");
}

#[test]
fn one_that_failed_is_tried_anew_when_it_is_retried_or_redriven() {
    let mut bench = Bench::new();
    let id = fail_one(&mut bench, "g");
    assert_eq!(run(&mut bench, ReleaseCommand::Retry(id)), Ok(Reply::Done));
    assert_eq!((found(&bench, id).phase, found(&bench, id).tries), (Phase::Running, 0));
    assert_eq!(take_one(&mut bench, None), Task::Look(ALL));

    let mut bench = Bench::new();
    let id = fail_one(&mut bench, "g");
    let redrive = Command::Redrive(releases_queue(), Selection::Ids(vec![MessageId(id)]));
    assert_eq!(bench.run(redrive), Ok(Reply::Moved(1)));
    assert_eq!(take_one(&mut bench, None), Task::Look(ALL));
    assert_eq!((found(&bench, id).phase, found(&bench, id).tries), (Phase::Running, 0));
}

#[test]
fn a_formula_is_withdrawn_when_no_node_has_it_any_more() {
    let mut bench = Bench::new();
    let formula = bench.accept(1);
    let withdrawal = NewWithdrawal { fingerprint: fingerprint(1), partners: partners() };
    let Ok(Reply::Recorded(id)) = run(&mut bench, ReleaseCommand::Withdraw(withdrawal)) else {
        panic!("it is stored")
    };
    take_one(&mut bench, None);
    seen(&mut bench, id, &[Some(Presence::Present), ABSENT]);
    answered_by(&mut bench, id, 0, NodeAnswer::Done);
    assert!(!bench.ask(|store| store.state.formulas().is_withdrawn(formula)));
    answered_by(&mut bench, id, 1, NodeAnswer::Already);
    assert!(bench.ask(|store| store.state.formulas().is_withdrawn(formula)));
    assert_eq!(counts(&bench), [0; 4]);
}

#[test]
fn the_answer_to_a_request_is_kept_once() {
    let mut bench = Bench::new();
    let id = begin_one(&mut bench, "g");
    for body in [b"first ", b"second"] {
        let body = Box::from(*body);
        let answered = ReleaseCommand::Answered { transaction: id, status: 200, body };
        assert_eq!(run(&mut bench, answered), Ok(Reply::Done));
    }
    assert_eq!(&*found(&bench, id).answered.expect("it is kept").body, b"first ");
    assert_eq!(run(&mut bench, ReleaseCommand::Retry(Lsn(99))), Err(Refusal::TransactionUnknown));
}
