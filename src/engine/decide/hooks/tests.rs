//! Tests of what is owed, to whom, and where in the group it stands.

use super::*;
use crate::engine::command::{Batch, BatchMode, Item, Settlement, Submission};
use crate::engine::decide::deaths::{Death, Deceased};
use crate::engine::decide::{Command, decide};
use crate::engine::findings::Findings;
use crate::engine::fixture::{Bench, submit};

const TOKEN: u64 = 7;

/// What a command amounts to in the bench's state.
fn verdict(bench: &Bench, command: Command) -> Result<Vec<Fact>, Refusal> {
    bench.ask(|store| {
        let findings = Findings::none(store.state.base());
        let policy = bench.core.policy();
        let circumstances = Circumstances { now: store.state.at(), token: TOKEN, policy };
        match decide(View::new(&store.state, &findings), command, &circumstances)? {
            Verdict::Record(facts, _) => Ok(facts),
            Verdict::Known(_) => Ok(Vec::new()),
        }
    })
}

fn subscribe(bench: &mut Bench, events: &str) -> Lsn {
    let hook = NewHook {
        url: "http://example.org/".into(),
        events: events.parse().expect("events"),
        secret: HookSecret(b"whsec_".as_slice().into()),
        key: None,
    };
    match bench.run(Command::Hook(HookCommand::Create(hook))) {
        Ok(Reply::Recorded(id)) => id,
        other => panic!("a new hook is answered by {other:?}"),
    }
}

fn submission(make_up: u32) -> Submission {
    let Command::Accept(submission) = submit(make_up, None) else { unreachable!("it submits") };
    submission
}

fn owed_of(fact: &Fact) -> &OwedDelivery {
    let Fact::HookOwed(owed) = fact else { panic!("a call is owed, not {fact:?}") };
    owed
}

#[test]
fn what_nobody_wants_to_be_told_of_is_not_owed() {
    let mut bench = Bench::new();
    assert_eq!(verdict(&bench, submit(1, None)).expect("new").len(), 1);
    subscribe(&mut bench, "formula.withdrawn");
    assert_eq!(verdict(&bench, submit(1, None)).expect("new").len(), 1);
    let hook = subscribe(&mut bench, "*");
    assert_eq!(verdict(&bench, submit(1, None)).expect("new").len(), 2);
    assert!(bench.run(Command::Hook(HookCommand::Delete(hook))).is_ok());
    assert_eq!(verdict(&bench, submit(1, None)).expect("new").len(), 1);
}

#[test]
fn calls_are_owed_behind_whatever_is_counted_and_lead_back_to_their_formulas() {
    let mut bench = Bench::new();
    let hooks = [subscribe(&mut bench, "formula.*"), subscribe(&mut bench, "formula.accepted")];
    let batch = Batch {
        items: (1..=3).map(|make_up| Item::Valid(submission(make_up))).collect(),
        mode: BatchMode::Atomic,
        key: Some(RequestKey { key: [1; 32], request: [2; 32] }),
        request_id: "r".into(),
    };
    let facts = verdict(&bench, Command::AcceptBatch(batch)).expect("all are new");
    assert_eq!(facts.len(), 3 + 1 + 6);
    let Fact::BatchAnswered { preceding, .. } = &facts[3] else { panic!("{:?}", facts[3]) };
    assert_eq!(*preceding, 3, "the formulas alone");
    let mut told = Vec::new();
    for (place, fact) in facts.iter().enumerate().skip(4) {
        let OwedDelivery { to, happening, .. } = owed_of(fact);
        let Happening::FormulaAccepted { formula, back } = happening else {
            panic!("{happening:?}")
        };
        let about = place - usize::try_from(*back).expect("small");
        let accepted = facts[about].acceptance().expect("a formula");
        assert_eq!(accepted.fingerprint, formula.fingerprint);
        assert_eq!(accepted.formula.name(), &*formula.name);
        told.push((about, *to));
    }
    let all = (0..3).flat_map(|about| hooks.map(|hook| (about, Recipient::Hook(hook))));
    assert_eq!(told, all.collect::<Vec<_>>());
}

#[test]
fn receiver_never_learns_a_number_that_receipts_are_made_of() {
    let mut bench = Bench::new();
    subscribe(&mut bench, "*");
    let facts = verdict(&bench, submit(1, None)).expect("new");
    assert_ne!(owed_of(&facts[1]).token, TOKEN);
}

#[test]
fn dead_letter_is_told_of_once() {
    let mut bench = Bench::new();
    let hook = subscribe(&mut bench, "message.dead");
    let formula = bench.accept(1);
    for _ in 0..3 {
        let receipts = bench.lease();
        bench.settle(receipts, Settlement::Nack { delay_ms: 0, reason: "no".into() });
    }
    let deaths = || vec![Death { message: MessageId(formula), was: Deceased::News }];
    let announce = || Command::AnnounceDeaths(crate::engine::fixture::queue(), deaths());
    let facts = verdict(&bench, announce()).expect("a queue");
    assert!(matches!(facts[0], Fact::DeathsAnnounced { .. }));
    let OwedDelivery { to, happening, .. } = owed_of(&facts[1]);
    assert_eq!(*to, Recipient::Hook(hook));
    let Happening::MessageDead { attempts: 3, reason, .. } = happening else {
        panic!("{happening:?}")
    };
    assert_eq!(&**reason, "no");
    assert_eq!(bench.run(announce()), Ok(Reply::Done));
    assert!(verdict(&bench, announce()).expect("a queue").is_empty(), "told already");
}

#[test]
fn death_of_a_delivery_is_told_to_others_and_never_for_ever() {
    let mut bench = Bench::new();
    let (first, second) = (subscribe(&mut bench, "*"), subscribe(&mut bench, "*"));
    bench.accept(1);
    let lease = DeliveryLease { deliveries_max: 1, lease_ms: 1000, attempts_max: 1 };
    let Ok(Reply::Leased(leased)) = bench.run(Command::Hook(HookCommand::Lease(lease))) else {
        panic!("a lease is answered by deliveries")
    };
    let receipt = leased[0].receipt;
    let outcome = DeliveryOutcome::Condemned { reason: "answered 404".into() };
    assert!(bench.run(Command::Hook(HookCommand::Settle(vec![receipt], outcome))).is_ok());
    let announce = |event| {
        let was = Deceased::Delivery(Recipient::Hook(first), event);
        let deaths = vec![Death { message: receipt.message, was }];
        verdict(&bench, Command::AnnounceDeaths(hooks_queue(), deaths)).expect("a queue")
    };
    let told = announce(Some(Event::FormulaAccepted));
    assert_eq!(told.len(), 2, "the fact, and one call");
    assert_eq!(owed_of(&told[1]).to, Recipient::Hook(second));
    assert_eq!(announce(Some(Event::MessageDead)).len(), 1, "nobody is told");
    assert_eq!(announce(Some(Event::Ping)).len(), 1, "nobody is told");
}

#[test]
fn receiver_that_is_gone_is_called_no_more() {
    let mut bench = Bench::new();
    let hook = subscribe(&mut bench, "*");
    bench.accept(1);
    let lease = DeliveryLease { deliveries_max: 1, lease_ms: 1000, attempts_max: 9 };
    let Ok(Reply::Leased(leased)) = bench.run(Command::Hook(HookCommand::Lease(lease))) else {
        panic!("a lease is answered by deliveries")
    };
    let gone = DeliveryOutcome::Gone { hook: Some(hook), reason: "410".into() };
    let settle = Command::Hook(HookCommand::Settle(vec![leased[0].receipt], gone));
    assert!(bench.run(settle.clone()).is_ok());
    assert!(matches!(bench.run(settle), Err(Refusal::ReceiptsStale(_))));
    let ping = Command::Hook(HookCommand::Ping(hook));
    assert_eq!(bench.run(ping), Err(Refusal::HookDisabled));
    assert_eq!(verdict(&bench, submit(2, None)).expect("new").len(), 1);
    let again = HookCommand::Redeliver(leased[0].receipt.message, Recipient::Hook(hook));
    assert_eq!(bench.run(Command::Hook(again)), Err(Refusal::HookDisabled));
}
