//! The real server under load, killed with SIGKILL again and again.
//!
//! Submitters post formulas, some with make-ups of their own, some deliberately equal to
//! another's, each attempt under a key; what a kill left unanswered they send again under the
//! same key. Consumers lease, ack, nack and extend at random. An operator has one snapshot written
//! after the other and withdraws formulas, so that most kills come in the middle of a compaction.
//! The server is killed at a random request, while others are under way. All that clients were told is kept, and judged against
//! the server after every restart and over the whole history at the end:
//!
//! - a make-up is accepted under one key only, and each answer under that key is the same;
//! - no accepted formula is lost or changed by a digit;
//! - a message whose ack was answered is never delivered again;
//! - no two consumers hold one message at once;
//! - a withdrawn formula stays away, and the key it came under still gives the first answer;
//! - nothing but two snapshots, the log after the older one and a spare segment is ever left;
//! - each formula was announced by one message, each message announces a formula, and in the
//!   end the queue is empty.
//!
//! `SILLAGE_CRASH_ROUNDS` sets how often the server is killed, `SILLAGE_SEED` repeats a run's
//! choices; how its threads interleave is up to the machine.
#![allow(clippy::disallowed_methods, reason = "tests measure how long things take")]

#[path = "../common/mod.rs"]
mod common;
mod consumer;
mod operator;
mod submitter;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::{Call, Client, Formula, PATIENCE, Response, Server, Store, list_all, sillage};
use consumer::{Consumer, Delivery};
use operator::Operator;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use submitter::Submitter;

const ROUNDS_DEFAULT: u64 = 6;
const SUBMITTERS: u64 = 4;
const CONSUMERS: u64 = 3;

#[test]
fn killed_server_keeps_every_promise_it_made() {
    let rounds = std::env::var("SILLAGE_CRASH_ROUNDS")
        .map_or(ROUNDS_DEFAULT, |text| text.parse().expect("SILLAGE_CRASH_ROUNDS is a number"));
    let mut rng = fastrand::Rng::with_seed(common::seed());
    let store = Store::new().with(&["--max-attempts", "8"]).with(&["--segment-size", "64KiB"]);
    let mut crowd = Crowd::new(&mut rng);
    for round in 0..rounds {
        let server = store.serve();
        assert_tidy(&store);
        crowd.check_against(&mut server.client());
        crowd.work_until_killed(round, &server, rng.u64(1..400));
        server.kill();
        if rng.u8(..4) == 0 {
            kill_during_start(&store, rng.u32(..3_000_000));
        }
    }
    let server = store.serve();
    let mut client = server.client();
    crowd.settle_everything(&mut client);
    crowd.check_against(&mut client);
    crowd.check_history(&list_all(&mut client));
    assert_eq!(server.terminate().code, Some(0));
    let server = store.serve();
    crowd.check_against(&mut server.client());
    assert_tidy(&store);
    println!("{}", crowd.operator.told());
    println!("{rounds} kills, {} formulas, {}", crowd.accepted().len(), crowd.deliveries_told());
}

/// Half-written files and files that SUPER does not ask for are gone after a start.
fn assert_tidy(store: &Store) {
    let names = |dir: &str| -> Vec<String> {
        let Ok(listed) = std::fs::read_dir(store.data().join(dir)) else { return Vec::new() };
        let names = listed.map(|entry| entry.expect("it can be listed").file_name());
        let mut names: Vec<String> = names.map(|name| name.to_string_lossy().into()).collect();
        names.sort();
        names
    };
    let snapshots = names("snapshots");
    assert!(snapshots.len() <= 2, "two snapshots are kept: {snapshots:?}");
    assert!(snapshots.iter().all(|name| name.ends_with(".snap")), "{snapshots:?}");
    let [older, _] = &snapshots[..] else { return };
    let segments = names("log");
    let below = segments.iter().filter(|name| name.ends_with(".seg") && name[..20] <= older[..20]);
    assert_eq!(below.count(), 0, "{segments:?} above {snapshots:?}");
}

/// Starts the server and kills it while it may still be reading its log.
fn kill_during_start(store: &Store, spins: u32) {
    let data = store.data();
    let mut command = sillage(["serve", "--listen", "127.0.0.1:0", "--data"]);
    command.arg(data).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().expect("the program can be started");
    for _ in 0..spins {
        std::hint::spin_loop();
    }
    child.kill().expect("our own child can be killed");
    child.wait().expect("our own child can be waited for");
}

/// The server was killed before it answered: what was asked may or may not have happened.
struct Gone;

/// Kills the server at the request that was chosen.
struct Fuse {
    requests_left: AtomicU64,
    server: Pid,
}

impl Fuse {
    /// One more request is on its way. The one that makes the number full is the last.
    fn burn(&self) {
        if self.requests_left.fetch_sub(1, Ordering::SeqCst) == 1 {
            kill_process(self.server, Signal::KILL).expect("our own child can be killed");
        }
    }
}

/// A worker's way to the server during one round.
struct Line<'a> {
    client: Client,
    /// `None`: nobody kills the server any more.
    fuse: Option<&'a Fuse>,
}

impl Line<'_> {
    fn send(&mut self, call: &Call) -> Result<Response, Gone> {
        let sent = self.client.begin(call);
        if let Some(fuse) = self.fuse {
            fuse.burn();
        }
        match sent.and_then(|()| self.client.finish()) {
            Ok(response) => Ok(response),
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => panic!("{error}"),
            Err(_) => Err(Gone),
        }
    }
}

/// All workers with all that they were told.
struct Crowd {
    submitters: Vec<Submitter>,
    consumers: Vec<Consumer>,
    operator: Operator,
    /// Messages that were dead letters and put back.
    redriven: HashSet<u64>,
}

impl Crowd {
    fn new(rng: &mut fastrand::Rng) -> Crowd {
        let submitters = (0..SUBMITTERS).map(|number| Submitter::new(number, rng.fork()));
        let submitters = submitters.collect();
        let consumers = (0..CONSUMERS).map(|_| Consumer::new(rng.fork())).collect();
        let operator = Operator::new(rng.fork());
        Crowd { submitters, consumers, operator, redriven: HashSet::new() }
    }

    fn work_until_killed(&mut self, round: u64, server: &Server, requests: u64) {
        let fuse = Fuse { requests_left: AtomicU64::new(requests), server: server.pid() };
        let line = || Line { client: server.client(), fuse: Some(&fuse) };
        std::thread::scope(|scope| {
            for submitter in &mut self.submitters {
                let mut line = line();
                scope.spawn(move || submitter.work(round, &mut line));
            }
            for consumer in &mut self.consumers {
                let mut line = line();
                scope.spawn(move || consumer.work(&mut line));
            }
            let (operator, mut line) = (&mut self.operator, line());
            scope.spawn(move || operator.work(round, &mut line));
        });
    }

    /// Sends again what was left unanswered, then drains the queue.
    fn settle_everything(&mut self, client: &mut Client) {
        let mut line = Line { client: Client::new(client.address()), fuse: None };
        for submitter in &mut self.submitters {
            submitter.finish(&mut line);
        }
        self.operator.finish(&mut line);
        let began = Instant::now();
        while !is_empty(client) {
            assert!(began.elapsed() < PATIENCE, "the queue does not drain");
            self.redrive(client);
            self.consumers[0].drain(&mut line);
        }
    }

    /// Redrives dead letters by their ids: of no other message the attempts are counted anew.
    fn redrive(&mut self, client: &mut Client) {
        let dead = client.get("/queues/formulas/messages?state=dead&limit=1000").expect(200).json();
        let rows = dead["messages"].as_array().expect("an array");
        let ids: Vec<&str> = rows.iter().filter_map(|row| row["id"].as_str()).collect();
        if !ids.is_empty() {
            self.redriven.extend(ids.iter().map(|id| id.parse::<u64>().expect("a number")));
            client.post("/queues/formulas/redrive", json!({"ids": ids}).to_string()).expect(200);
        }
    }

    /// What was accepted, by make-up.
    fn accepted(&self) -> BTreeMap<u64, &submitter::Accepted> {
        let mut all: BTreeMap<u64, &submitter::Accepted> = BTreeMap::new();
        for (make_up, accepted) in self.submitters.iter().flat_map(|one| &one.accepted) {
            if let Some(other) = all.insert(*make_up, accepted) {
                panic!("make-up {make_up} was accepted twice: {accepted:?} and {other:?}");
            }
        }
        all
    }

    /// Everything that was acknowledged is in the store, unchanged.
    fn check_against(&self, client: &mut Client) {
        let stored = list_all(client);
        let stored: Vec<Formula> = stored.into_iter().filter(|one| !operator::owns(one)).collect();
        let by_seq: HashMap<u64, &Formula> = stored.iter().map(|one| (one.seq, one)).collect();
        let ids: HashSet<&str> = stored.iter().map(|one| one.id.as_str()).collect();
        assert_eq!(ids.len(), stored.len(), "one make-up, one formula");
        assert_eq!(by_seq.len(), stored.len());
        self.operator.check_against(client);
        for (make_up, accepted) in self.accepted() {
            let answered = &accepted.formula;
            let Some(found) = by_seq.get(&answered.seq) else {
                panic!("make-up {make_up} was accepted and is lost: {answered:?}");
            };
            assert_eq!(found.id, answered.id);
            assert_eq!(found.name, answered.name);
            assert_eq!(found.lines(), answered.lines(), "make-up {make_up}");
            assert_eq!(found.accepted_at, answered.accepted_at);
        }
        for (make_up, seq) in self.submitters.iter().flat_map(|one| &one.refused) {
            assert!(by_seq.contains_key(seq), "make-up {make_up} was refused for {seq}");
        }
    }

    /// The promises that only the whole history can show.
    fn check_history(&self, stored: &[Formula]) {
        let stored: Vec<&Formula> = stored.iter().filter(|one| !operator::owns(one)).collect();
        let accepted = self.accepted();
        assert_eq!(accepted.len(), stored.len(), "nothing is stored that nobody sent");
        for (make_up, seq) in self.submitters.iter().flat_map(|one| &one.refused) {
            assert_eq!(accepted[make_up].formula.seq, *seq, "make-up {make_up}");
        }
        let mut by_message: BTreeMap<u64, Vec<&Delivery>> = BTreeMap::new();
        for delivery in self.consumers.iter().flat_map(|one| &one.deliveries) {
            if delivery.is_operators {
                continue;
            }
            by_message.entry(delivery.message).or_default().push(delivery);
        }
        let announced: BTreeSet<u64> = by_message.keys().copied().collect();
        let formulas: BTreeSet<u64> = stored.iter().map(|formula| formula.seq).collect();
        assert_eq!(announced, formulas, "as many messages as formulas, and the same");
        let mut receipts = HashSet::new();
        for deliveries in by_message.values_mut() {
            assert!(deliveries.iter().all(|one| receipts.insert(&one.receipt)), "{deliveries:?}");
            check_leases(deliveries);
        }
        self.check_acks(&by_message);
    }

    fn check_acks(&self, by_message: &BTreeMap<u64, Vec<&Delivery>>) {
        for acked in self.consumers.iter().flat_map(|one| &one.acked) {
            for delivery in by_message.get(&acked.message).into_iter().flatten() {
                let is_later = delivery.asked > acked.answered;
                assert!(!is_later, "delivered after its ack: {delivery:?}, {acked:?}");
                let is_newer =
                    delivery.attempt > acked.attempt && !self.redriven.contains(&acked.message);
                assert!(!is_newer, "a newer lease beside the acked one: {delivery:?}, {acked:?}");
            }
        }
    }

    fn deliveries_told(&self) -> String {
        let deliveries: usize = self.consumers.iter().map(|one| one.deliveries.len()).sum();
        let acked: usize = self.consumers.iter().map(|one| one.acked.len()).sum();
        format!("{deliveries} deliveries, {acked} acked")
    }
}

/// No two leases of one message that were surely alive at the same time.
fn check_leases(deliveries: &mut [&Delivery]) {
    deliveries.sort_by_key(|delivery| delivery.received);
    let mut held_until: Option<(Instant, &Delivery)> = None;
    for delivery in deliveries.iter().filter(|one| one.held_until > one.received) {
        if let Some((until, before)) = held_until {
            assert!(delivery.received >= until, "held twice at once: {before:?}, {delivery:?}");
        }
        held_until = Some((delivery.held_until, delivery));
    }
}

fn is_empty(client: &mut Client) -> bool {
    let status = common::queue_status(client);
    ["ready", "leased", "delayed", "dead"].iter().all(|phase| status[phase] == json!(0))
}

/// How much earlier than we reckon a lease may lapse: the server counts whole milliseconds.
const CLOCK_GRAIN: Duration = Duration::from_millis(5);
