//! Decisions and their effect, in memory: every command is decided, applied, and the state's
//! invariants are checked. At the end of each test the records are replayed and must lead to the
//! same state.

use super::*;
use crate::engine::command::{BatchMode, Item, RequestKey};
use crate::engine::findings::Findings;
use crate::formula::{self, Checked, Rules};
use crate::ids::MessageId;
use crate::record::Record;
use crate::state::State;
use crate::state::outlook::{Counts, Phase};
use crate::time::Uptime;

const LEASE_MS: u64 = 1000;

/// A state with a clock that stands still until it is moved, and all records so far.
struct World {
    state: State,
    now: Moment,
    token: u64,
    records: Vec<(Lsn, Record)>,
}

impl World {
    fn new() -> World {
        let now = Moment { wall: Timestamp(1_000_000), uptime: Uptime(0) };
        let mut world = World { state: State::default(), now, token: 0, records: Vec::new() };
        world.reopen(0);
        world
    }

    /// Another reign begins, after `down_ms` in which the wall clock went on.
    fn reopen(&mut self, down_ms: u64) {
        self.now.wall = self.now.wall.plus_ms(down_ms);
        let epoch = crate::ids::Epoch(self.state.epoch().0 + 1);
        self.apply(Fact::Opened { epoch });
    }

    fn pass_ms(&mut self, ms: u64) {
        self.now.wall = self.now.wall.plus_ms(ms);
        self.now.uptime = self.now.uptime.plus_ms(ms);
    }

    fn apply(&mut self, fact: Fact) -> Lsn {
        let lsn = self.state.lsn().next();
        let record = Record { at: self.now, fact };
        self.state.apply(lsn, &record);
        self.state.check_invariants();
        self.records.push((lsn, record));
        lsn
    }

    fn run(&mut self, command: Command) -> Result<Reply, Refusal> {
        self.token += 1;
        let policy = Policy { attempts_max: 3, retention_ms: 10_000, flow: &[] };
        let circumstances = Circumstances { now: self.now, token: self.token, policy };
        let findings = Findings::default();
        match decide(View::new(&self.state, &findings), command, &circumstances)? {
            Verdict::Known(reply) => Ok(reply),
            Verdict::Record(facts, draft) => {
                let first = self.state.lsn().next();
                for fact in facts.clone() {
                    self.apply(fact);
                }
                Ok(draft.complete(facts, first, self.now.wall))
            }
        }
    }

    fn accept(&mut self, make_up: u32) -> Lsn {
        match self.run(Command::Accept(submission(make_up, None))) {
            Ok(Reply::Accepted(stored)) => stored.lsn,
            other => panic!("formula {make_up} is not accepted: {other:?}"),
        }
    }

    fn lease(&mut self, max: usize) -> Vec<Receipt> {
        let queue = formulas();
        let request = LeaseRequest { queue, messages_max: max, lease_ms: LEASE_MS };
        match self.run(Command::Lease(request)) {
            Ok(Reply::Leased(deliveries)) => deliveries.iter().map(|d| d.receipt).collect(),
            other => panic!("no lease: {other:?}"),
        }
    }

    fn settle(&mut self, receipts: &[Receipt], settlement: Settlement) -> Result<Settled, Refusal> {
        match self.run(Command::Settle(formulas(), receipts.to_vec(), settlement))? {
            Reply::Settled(settled) => Ok(settled),
            other => panic!("no settlement: {other:?}"),
        }
    }

    fn counts(&self) -> Counts {
        self.queue().counts(self.now.uptime)
    }

    fn queue(&self) -> &crate::state::queues::Queue {
        self.state.queue(QueueName::FORMULAS).expect("built in")
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let mut replayed = State::default();
        for (lsn, record) in &self.records {
            replayed.apply(*lsn, record);
        }
        assert_eq!(replayed.digest(), self.state.digest(), "replay leads to the same state");
    }
}

fn formulas() -> QueueName {
    QueueName::FORMULAS.parse().expect("well formed")
}

fn checked(make_up: u32) -> Checked {
    let body = format!(
        r#"{{"name":"No. {make_up}","materials":[{{"name":"m{make_up}","concentration":1}}]}}"#
    );
    formula::parse(body.as_bytes(), &Rules { concentration_max: 100 }).expect("valid")
}

fn submission(make_up: u32, key: Option<RequestKey>) -> Submission {
    let Checked { formula, fingerprint, .. } = checked(make_up);
    Submission { formula, fingerprint, key }
}

fn key(key: u8, request: u8) -> Option<RequestKey> {
    Some(RequestKey { key: [key; 32], request: [request; 32] })
}

fn batch(items: &[u32], mode: BatchMode, key: Option<RequestKey>) -> Command {
    let items = items.iter().map(|&n| Item::Valid(submission(n, None))).collect();
    Command::AcceptBatch(Batch { items, mode, key, request_id: "r".into() })
}

fn messages(receipts: &[Receipt]) -> Vec<Lsn> {
    receipts.iter().map(|receipt| receipt.message.0).collect()
}

fn nack(delay_ms: u64) -> Settlement {
    Settlement::Nack { delay_ms, reason: "why".into() }
}

#[test]
fn one_make_up_is_stored_once_and_queued_once() {
    let mut world = World::new();
    let first = world.accept(1);
    let again = world.run(Command::Accept(submission(1, None)));
    assert_eq!(again, Err(Refusal::Duplicate(first)));
    assert_eq!(world.counts(), Counts { ready: 1, ..Counts::default() });
}

#[test]
fn messages_are_leased_in_order_and_to_one_consumer_at_a_time() {
    let mut world = World::new();
    let lsns: Vec<Lsn> = (0..5).map(|n| world.accept(n)).collect();
    assert_eq!(messages(&world.lease(2)), lsns[..2]);
    assert_eq!(messages(&world.lease(9)), lsns[2..]);
    assert_eq!(world.lease(1), []);
    assert_eq!(world.counts(), Counts { leased: 5, ..Counts::default() });
}

#[test]
fn a_lapsed_lease_comes_back_in_front_with_the_next_attempt_and_a_new_receipt() {
    let mut world = World::new();
    let lsns: Vec<Lsn> = (0..3).map(|n| world.accept(n)).collect();
    let old = world.lease(1)[0];
    world.pass_ms(LEASE_MS - 1);
    assert_eq!(messages(&world.lease(1)), [lsns[1]], "one millisecond before, it is held");
    world.pass_ms(1);
    assert_eq!(world.counts(), Counts { ready: 2, leased: 1, ..Counts::default() });
    let new = world.lease(1)[0];
    assert_eq!((new.message, new.attempt), (old.message, 2));
    assert_ne!(new, old);
    let stale = world.settle(&[old], Settlement::Ack);
    assert_eq!(stale, Err(Refusal::ReceiptsStale(vec![old])));
    let done = world.settle(&[new], Settlement::Ack).expect("held");
    assert_eq!(done.done, [new.message]);
}

#[test]
fn an_acked_message_is_gone_and_a_second_ack_is_stale() {
    let mut world = World::new();
    world.accept(1);
    let receipts = world.lease(1);
    world.settle(&receipts, Settlement::Ack).expect("held");
    assert!(world.settle(&receipts, Settlement::Ack).is_err());
    world.pass_ms(10 * LEASE_MS);
    assert_eq!(world.lease(9), []);
    assert_eq!(world.counts(), Counts::default());
}

#[test]
fn settling_names_stale_receipts_beside_valid_ones_and_counts_each_once() {
    let mut world = World::new();
    for n in 0..2 {
        world.accept(n);
    }
    let held = world.lease(2);
    let forged = Receipt { token: held[0].token ^ 1, ..held[0] };
    let other_reign = Receipt { epoch: crate::ids::Epoch(9), ..held[0] };
    let asked = [forged, held[0], held[0], other_reign, held[1]];
    let settled = world.settle(&asked, Settlement::Ack).expect("two are held");
    assert_eq!(settled.done, [held[0].message, held[1].message]);
    assert_eq!(settled.stale, [forged, held[0], other_reign]);
}

#[test]
fn a_nacked_message_waits_for_its_delay_and_then_stands_in_front() {
    let mut world = World::new();
    let lsns: Vec<Lsn> = (0..2).map(|n| world.accept(n)).collect();
    let held = world.lease(1);
    world.settle(&held, nack(500)).expect("held");
    assert_eq!(world.counts(), Counts { ready: 1, delayed: 1, ..Counts::default() });
    assert_eq!(world.queue().next_due(world.now.uptime), Some(world.now.uptime.plus_ms(500)));
    world.pass_ms(499);
    assert_eq!(world.queue().leasable(world.now.uptime, 9), [MessageId(lsns[1])]);
    world.pass_ms(1);
    assert_eq!(messages(&world.lease(9)), lsns);
}

#[test]
fn the_last_attempt_ends_as_a_dead_letter_by_nack_or_lapse() {
    let mut world = World::new();
    let lsns: Vec<Lsn> = (0..2).map(|n| world.accept(n)).collect();
    for attempt in 1..=3 {
        let held = world.lease(2);
        assert!(held.iter().all(|receipt| receipt.attempt == attempt));
        world.settle(&held[..1], nack(0)).expect("held");
        world.pass_ms(LEASE_MS);
    }
    assert_eq!(world.counts(), Counts { dead: 2, ..Counts::default() });
    assert_eq!(world.lease(9), []);
    let dead = world.queue().peek(Phase::Dead, world.now, None, 9);
    assert_eq!(dead.iter().map(|seen| seen.id.0).collect::<Vec<_>>(), lsns);
    let ends: Vec<_> = dead[0].past.ends().iter().map(|e| (e.attempt, e.nack.is_some())).collect();
    assert_eq!(ends, [(1, true), (2, true), (3, true)]);
    let lapsed_at = dead[1].past.ends()[0].at;
    assert_eq!(lapsed_at, Timestamp(1_000_000 + LEASE_MS));
}

#[test]
fn dead_letters_are_redriven_with_attempts_counted_anew_or_purged() {
    let mut world = World::new();
    let lsns: Vec<Lsn> = (0..3).map(|n| world.accept(n)).collect();
    for _ in 0..3 {
        world.lease(3);
        world.pass_ms(LEASE_MS);
    }
    let ids = |lsns: &[Lsn]| Selection::Ids(lsns.iter().map(|&lsn| MessageId(lsn)).collect());
    let twice_and_unknown = ids(&[lsns[1], lsns[1], Lsn(999)]);
    assert_eq!(world.run(Command::Redrive(formulas(), twice_and_unknown)), Ok(Reply::Moved(1)));
    let again = world.lease(1);
    assert_eq!((again[0].message.0, again[0].attempt), (lsns[1], 1));
    assert_eq!(world.run(Command::Purge(formulas(), ids(&lsns[..1]))), Ok(Reply::Moved(1)));
    assert_eq!(world.run(Command::Redrive(formulas(), Selection::All)), Ok(Reply::Moved(1)));
    assert_eq!(world.run(Command::Purge(formulas(), Selection::All)), Ok(Reply::Moved(0)));
    assert_eq!(messages(&world.lease(9)), lsns[2..]);
}

#[test]
fn an_extended_lease_runs_from_now() {
    let mut world = World::new();
    world.accept(1);
    let held = world.lease(1);
    world.pass_ms(LEASE_MS - 1);
    world.settle(&held, Settlement::Extend { lease_ms: 5000 }).expect("held");
    world.pass_ms(4999);
    assert_eq!(world.lease(1), []);
    world.settle(&held, Settlement::Ack).expect("still held");
}

#[test]
fn neither_a_restart_nor_a_jump_of_the_clock_shortens_a_lease() {
    let mut world = World::new();
    world.accept(1);
    let held = world.lease(1);
    world.pass_ms(LEASE_MS / 2);
    world.reopen(3_600_000);
    assert_eq!(world.lease(1), [], "an hour of downtime is no time of the lease");
    world.pass_ms(LEASE_MS / 2 - 1);
    assert_eq!(world.settle(&held, Settlement::Ack).expect("held").done.len(), 1);
}

#[test]
fn withdrawing_cancels_what_is_undelivered_announces_it_and_frees_the_make_up() {
    let mut world = World::new();
    let (first, second) = (world.accept(1), world.accept(2));
    let held = world.lease(1);
    for n in [1, 2] {
        let withdrawn = world.run(Command::Withdraw(checked(n).fingerprint));
        assert!(matches!(withdrawn, Ok(Reply::Withdrawn(_))));
    }
    let again = world.run(Command::Withdraw(checked(1).fingerprint));
    assert_eq!(again, Err(Refusal::FormulaUnknown));
    assert_eq!(messages(&held), [first]);
    world.pass_ms(LEASE_MS);
    let told = messages(&world.lease(9));
    assert_eq!(told.len(), 2, "two withdrawals, and neither {first} nor {second}");
    assert!(told.iter().all(|lsn| *lsn > second));
    assert!(world.accept(1) > second);
}

#[test]
fn a_key_gives_the_first_answer_again_until_it_is_forgotten() {
    let mut world = World::new();
    let first = match world.run(Command::Accept(submission(1, key(7, 1)))) {
        Ok(Reply::Accepted(stored)) => stored.lsn,
        other => panic!("not accepted: {other:?}"),
    };
    let again = world.run(Command::Accept(submission(1, key(7, 1))));
    assert_eq!(again, Ok(Reply::Replayed(first)));
    let other_body = world.run(Command::Accept(submission(2, key(7, 2))));
    assert_eq!(other_body, Err(Refusal::KeyReused));
    let duplicate = world.run(Command::Accept(submission(1, key(8, 1))));
    assert_eq!(duplicate, Err(Refusal::Duplicate(first)));
    assert_eq!(world.state.keys().len(), 1, "a refusal spends no key");
    world.pass_ms(10_000);
    let forgotten = world.run(Command::Accept(submission(2, key(7, 2))));
    assert!(matches!(forgotten, Ok(Reply::Accepted(_))));
}

#[test]
fn a_batch_decides_each_item_and_sees_the_ones_before() {
    let mut world = World::new();
    let stored = world.accept(1);
    let reply = world.run(batch(&[2, 1, 2, 3], BatchMode::PerItem, key(1, 1)));
    let Ok(Reply::Batch(items)) = reply else { panic!("not carried out: {reply:?}") };
    let [ItemRaw::Accepted(a), ItemRaw::Duplicate(b), ItemRaw::Duplicate(c), ItemRaw::Accepted(d)] =
        items.as_slice()
    else {
        panic!("other outcomes: {items:?}")
    };
    assert_eq!((*b, *c, d.lsn), (stored, a.lsn, a.lsn.next()));
    let again = world.run(batch(&[2, 1, 2, 3], BatchMode::PerItem, key(1, 1)));
    assert_eq!(again, Ok(Reply::BatchReplayed(d.lsn.next())));
    assert_eq!(world.counts().ready, 3);
}

#[test]
fn an_imported_formula_keeps_its_date_and_is_announced_like_any_other() {
    let mut world = World::new();
    let stored = world.accept(1);
    let date = Timestamp(7);
    let items = [1, 2].map(|n| Item::Imported(submission(n, None), date)).into();
    let (mode, request_id) = (BatchMode::PerItem, "r".into());
    let reply = world.run(Command::AcceptBatch(Batch { items, mode, key: None, request_id }));
    let Ok(Reply::Batch(items)) = reply else { panic!("not carried out: {reply:?}") };
    let [ItemRaw::Duplicate(duplicate), ItemRaw::Accepted(imported)] = items.as_slice() else {
        panic!("other outcomes: {items:?}")
    };
    assert_eq!((*duplicate, imported.accepted_at), (stored, date));
    assert_eq!(world.counts().ready, 2);
}

#[test]
fn an_atomic_batch_names_every_culprit_and_changes_nothing() {
    let mut world = World::new();
    let stored = world.accept(1);
    let before = world.state.digest();
    let refused = world.run(batch(&[2, 1, 2], BatchMode::Atomic, key(1, 1)));
    let culprits = vec![(1, Original::Stored(stored)), (2, Original::Item(0))];
    assert_eq!(refused, Err(Refusal::Culprits(culprits)));
    assert_eq!(world.state.digest(), before);
    let accepted = world.run(batch(&[2, 3], BatchMode::Atomic, key(1, 2)));
    assert!(matches!(accepted, Ok(Reply::Batch(_))));
}

#[test]
fn a_batch_that_is_refused_altogether_leaves_no_trace() {
    let mut world = World::new();
    let stored = world.accept(1);
    let reply = world.run(batch(&[1, 1], BatchMode::PerItem, key(1, 1)));
    let duplicate = || ItemRaw::Duplicate(stored);
    assert_eq!(reply, Ok(Reply::Batch(vec![duplicate(), duplicate()])));
    assert!(world.state.keys().is_empty());
}

#[test]
fn an_unknown_queue_is_refused() {
    let mut world = World::new();
    let queue: QueueName = "elsewhere".parse().expect("well formed");
    let lease = LeaseRequest { queue: queue.clone(), messages_max: 1, lease_ms: 1000 };
    assert_eq!(world.run(Command::Lease(lease)), Err(Refusal::QueueUnknown));
    let redrive = Command::Redrive(queue, Selection::All);
    assert_eq!(world.run(redrive), Err(Refusal::QueueUnknown));
}
