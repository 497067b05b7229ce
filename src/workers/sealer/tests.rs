use tokio::sync::{Notify, Semaphore, oneshot};

use super::*;
use crate::engine::command::seals::{FirstAnswer, SealStanding, SealTicket, SealWish};
use crate::engine::core::{CompactionPolicy, Setting};
use crate::engine::decide::Policy;
use crate::engine::decide::gate::{Limit, Mode};
use crate::engine::open::open;
use crate::engine::waiters::Waited;
use crate::limits::SEGMENT_BYTES_MIN;
use crate::outbound::backoff::Backoff;
use crate::time::{ManualClock, Timestamp};
use crate::workers::signatory::{Calling, Signatory, Verdict};

/// Signs when it is told to.
struct Played {
    calls: Mutex<Vec<String>>,
    called: Notify,
    /// One permit lets one call end.
    allowed: Semaphore,
    outcomes: Mutex<Vec<CallOutcome<String>>>,
}

impl Signatory for Played {
    fn sign<'a>(&'a self, text: &'a str, _: Timestamp) -> Calling<'a, String> {
        self.calls.lock().unwrap().push(text.to_owned());
        self.called.notify_one();
        Box::pin(async move {
            self.allowed.acquire().await.unwrap().forget();
            let outcome = self.outcomes.lock().unwrap().pop();
            outcome.unwrap_or_else(|| CallOutcome::Done(format!("signed {text}")))
        })
    }

    fn verify<'a>(&'a self, _: &'a str, _: &'a str, _: Timestamp) -> Calling<'a, bool> {
        Box::pin(async { CallOutcome::Done(true) })
    }

    fn probe(&self, _: Timestamp) -> Calling<'_, u16> {
        Box::pin(async { CallOutcome::Done(200) })
    }

    fn verify_here(&self, _: &str, _: &str) -> Option<Verdict> {
        None
    }
}

const LIMIT: Limit = Limit { calls: 2, window_ms: 1000, mode: Mode::Window };

struct Bench {
    engine: Engine,
    played: Arc<Played>,
    /// Lets the worker drain.
    drain: Option<oneshot::Sender<()>>,
    working: tokio::task::JoinHandle<()>,
}

impl Bench {
    fn start() -> Bench {
        let disk = crate::log::SimDisk::new(1);
        let clock = Arc::new(ManualClock::at(1_795_000_000_000));
        let options = crate::log::Options {
            segment_bytes: SEGMENT_BYTES_MIN,
            preparer: crate::log::Preparer::Inline,
            ..crate::log::Options::new(crate::log::StoreId([1; 16]))
        };
        let policy = Policy { attempts_max: 5, retention_ms: 60_000, flow: &[] };
        let compaction = CompactionPolicy::default();
        let setting = Setting { clock: clock.clone(), policy, compaction, seed: 1 };
        let (core, _) = open(Arc::new(disk), options, setting).unwrap();
        let metrics = Arc::new(Metrics::new());
        let engine = Engine::start(core, clock, Arc::clone(&metrics)).unwrap().0;
        let played = Arc::new(Played {
            calls: Mutex::default(),
            called: Notify::new(),
            allowed: Semaphore::new(0),
            outcomes: Mutex::default(),
        });
        let sealing = Sealing {
            signatory: played.clone(),
            limit: LIMIT,
            deadline_ms: 100,
            attempts_max: 2,
            backoff: Backoff { base_ms: 1000, cap_ms: 1000 },
        };
        let sealer = Sealer::new(engine.clone(), sealing, metrics, 7);
        let (drain, drained) = oneshot::channel::<()>();
        let working = tokio::spawn(sealer.run(async { drop(drained.await) }));
        Bench { engine, played, drain: Some(drain), working }
    }

    async fn ask(&self, text: &str) -> SealTicket {
        let wish = SealWish { text: text.into(), webhook_url: None, key: None, limit: LIMIT };
        self.engine.request_seal(wish).await.unwrap()
    }

    async fn called(&self, times: usize) {
        while self.played.calls.lock().unwrap().len() < times {
            self.played.called.notified().await;
        }
    }

    async fn standing(&self, ticket: &SealTicket) -> SealStanding {
        self.engine.seal_request(ticket.id).await.unwrap().unwrap().standing
    }
}

#[tokio::test]
async fn who_waits_is_given_the_seal_and_who_comes_later_finds_it() {
    let bench = Bench::start();
    let first = bench.ask("t").await;
    let mut waiter = bench.engine.wait_for_seal(first.id);
    bench.called(1).await;
    let second = bench.ask("t").await;
    let mut other = bench.engine.wait_for_seal(second.id);
    bench.played.allowed.add_permits(1);
    assert_eq!(waiter.wait().await, Waited::Sealed("signed t".into()));
    assert_eq!(other.wait().await, Waited::Sealed("signed t".into()));
    assert_eq!(bench.played.calls.lock().unwrap().len(), 1);
    let third = bench.ask("t").await;
    assert_eq!(third.first, FirstAnswer::Sealed("signed t".into()));
}

#[tokio::test]
async fn who_has_left_finds_his_seal_when_he_asks() {
    let bench = Bench::start();
    let ticket = bench.ask("t").await;
    drop(bench.engine.wait_for_seal(ticket.id));
    let other = bench.ask("u").await;
    let mut waiter = bench.engine.wait_for_seal(other.id);
    bench.called(2).await;
    assert!(matches!(bench.standing(&ticket).await, SealStanding::Waits(_)));
    bench.played.allowed.add_permits(2);
    waiter.wait().await;
    while matches!(bench.standing(&ticket).await, SealStanding::Waits(_)) {
        tokio::task::yield_now().await;
    }
    assert_eq!(bench.standing(&ticket).await, SealStanding::Sealed("signed t".into()));
}

#[tokio::test]
async fn a_drain_lets_calls_under_way_end_and_begins_no_other() {
    let mut bench = Bench::start();
    let under_way = bench.ask("a").await;
    bench.called(1).await;
    drop(bench.drain.take());
    // The worker takes note before it looks at the queue again.
    tokio::task::yield_now().await;
    let too_late = bench.ask("b").await;
    bench.played.allowed.add_permits(2);
    bench.working.await.unwrap();
    let engine = bench.engine;
    let view = engine.seal_request(under_way.id).await.unwrap().unwrap();
    assert_eq!(view.standing, SealStanding::Sealed("signed a".into()));
    let view = engine.seal_request(too_late.id).await.unwrap().unwrap();
    assert!(matches!(view.standing, SealStanding::Waits(_)));
    assert_eq!(*bench.played.calls.lock().unwrap(), ["a"]);
}

#[tokio::test]
async fn a_refused_key_raises_the_alarm_and_the_message_waits_for_better_times() {
    let bench = Bench::start();
    bench.played.outcomes.lock().unwrap().push(CallOutcome::Unauthorised);
    let ticket = bench.ask("t").await;
    bench.called(1).await;
    bench.played.allowed.add_permits(1);
    while bench.engine.call_counts(&LIMIT).running > 0 {
        tokio::task::yield_now().await;
    }
    let queue = bench.engine.queue(&"seals".parse().unwrap()).await.unwrap();
    assert_eq!((queue.ready, queue.dead), (1, 0));
    assert!(matches!(bench.standing(&ticket).await, SealStanding::Waits(_)));
}
