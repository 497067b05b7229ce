//! Leases, acks, nacks and extends until the server is gone, and remembers every answer.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::common::{Call, Messages, Settled, assert_problem};
use super::{CLOCK_GRAIN, Gone, Line, operator};

/// Most messages in one lease: few, so that all consumers have something to do.
const LEASE_MAX: u64 = 8;
/// Leases held before a consumer stops asking for more.
const HELD_MAX: usize = 24;

/// One delivery of a message to one consumer.
#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    pub(crate) message: u64,
    /// Whether it is about a formula of the operator's, which may be withdrawn at any time.
    pub(crate) is_operators: bool,
    pub(crate) attempt: u32,
    pub(crate) receipt: String,
    /// When the lease was asked for: it was granted later.
    pub(crate) asked: Instant,
    /// When the answer was here: it was granted before.
    pub(crate) received: Instant,
    /// Until then the lease was surely alive. Not after `received` if that is not known.
    pub(crate) held_until: Instant,
}

/// A message whose ack was answered.
#[derive(Clone, Debug)]
pub(crate) struct Acked {
    pub(crate) message: u64,
    pub(crate) attempt: u32,
    pub(crate) answered: Instant,
}

/// One consumer with all that it was told.
#[derive(Debug)]
pub(crate) struct Consumer {
    rng: fastrand::Rng,
    /// Indexes of deliveries whose lease was neither settled nor found lapsed.
    held: Vec<usize>,
    pub(crate) deliveries: Vec<Delivery>,
    pub(crate) acked: Vec<Acked>,
}

/// A way to settle leases.
#[derive(Clone, Copy)]
enum How {
    Ack,
    Nack { delay_s: f64 },
    Extend { lease: Duration },
}

impl Consumer {
    pub(crate) fn new(rng: fastrand::Rng) -> Consumer {
        Consumer { rng, held: Vec::new(), deliveries: Vec::new(), acked: Vec::new() }
    }

    /// Works until the server is gone.
    pub(crate) fn work(&mut self, line: &mut Line<'_>) {
        loop {
            let done = if self.held.is_empty() || (self.held.len() < HELD_MAX && self.rng.bool()) {
                let lease_ms = [30, 200, 2_000][self.rng.usize(..3)];
                let lease = Duration::from_millis(lease_ms);
                let wait_s = if self.rng.bool() { 0.05 } else { 0.0 };
                let max = self.rng.u64(1..=LEASE_MAX);
                let wish = json!({"max": max, "lease_s": lease.as_secs_f64(), "wait_s": wait_s});
                self.lease(&wish, lease, line)
            } else {
                let some = self.choose_held();
                let how = self.choose_how();
                self.settle(some, how, line)
            };
            if let Err(Gone) = done {
                return;
            }
        }
    }

    /// Leases what is there, waiting for lapses, and acks it. To be called until all is gone.
    pub(crate) fn drain(&mut self, line: &mut Line<'_>) {
        self.held.clear();
        let wish = json!({"max": 1000, "lease_s": 2, "wait_s": 1});
        let leased = self.lease(&wish, Duration::from_secs(2), line);
        assert!(leased.is_ok(), "nobody kills the server any more");
        let held = std::mem::take(&mut self.held);
        if !held.is_empty() {
            let acked = self.settle(held, How::Ack, line);
            assert!(acked.is_ok(), "nobody kills the server any more");
        }
    }

    fn lease(&mut self, wish: &Value, lease: Duration, line: &mut Line<'_>) -> Result<(), Gone> {
        let asked = Instant::now();
        let response = line.send(&Call::post("/queues/formulas/lease", wish.to_string()))?;
        let received = Instant::now();
        let answer: Messages = response.expect(200).parse();
        for message in answer.messages {
            let is_operators = operator::owns(&message.formula);
            if message.kind == "formula.withdrawn" {
                assert!(is_operators, "{message:?}");
            } else {
                assert_eq!(message.kind, "formula.accepted");
                assert_eq!(message.id, message.formula.seq.to_string());
            }
            self.held.push(self.deliveries.len());
            self.deliveries.push(Delivery {
                message: message.id.parse().expect("a number"),
                is_operators,
                attempt: message.attempt,
                receipt: message.receipt,
                asked,
                received,
                held_until: asked + lease - CLOCK_GRAIN,
            });
        }
        Ok(())
    }

    /// Takes some leases out of the held ones.
    fn choose_held(&mut self) -> Vec<usize> {
        self.rng.shuffle(&mut self.held);
        let count = self.rng.usize(1..=self.held.len());
        self.held.split_off(self.held.len() - count)
    }

    fn choose_how(&mut self) -> How {
        match self.rng.u8(..10) {
            0..=6 => How::Ack,
            7..=8 => How::Nack { delay_s: [0.0, 0.02, 0.3][self.rng.usize(..3)] },
            _ => How::Extend { lease: Duration::from_millis(self.rng.u64(20..500)) },
        }
    }

    /// Settles leases that were taken out of the held ones; an extended one goes back there.
    fn settle(&mut self, some: Vec<usize>, how: How, line: &mut Line<'_>) -> Result<(), Gone> {
        let receipts: Vec<&str> =
            some.iter().map(|&i| self.deliveries[i].receipt.as_str()).collect();
        let (call, wish) = match how {
            How::Ack => ("ack", json!({"receipts": receipts})),
            How::Nack { delay_s } => ("nack", json!({"receipts": receipts, "delay_s": delay_s})),
            How::Extend { lease } => {
                ("extend", json!({"receipts": receipts, "lease_s": lease.as_secs_f64()}))
            }
        };
        let call = Call::post(format!("/queues/formulas/{call}"), wish.to_string());
        let asked = Instant::now();
        let response = line.send(&call);
        let answered = Instant::now();
        self.expect_stale_only_if_lapsed(&some, response.as_ref().ok(), answered);
        // From now on the lease may be over or shorter, whatever became of the request.
        for &index in &some {
            let sure = match how {
                How::Extend { lease } => asked + lease - CLOCK_GRAIN,
                How::Ack | How::Nack { .. } => asked,
            };
            let delivery = &mut self.deliveries[index];
            delivery.held_until = delivery.held_until.min(sure);
        }
        let response = response?;
        for index in some {
            if is_done(&response, &self.deliveries[index]) {
                self.learn_done(index, how, asked, answered);
            }
        }
        Ok(())
    }

    fn learn_done(&mut self, index: usize, how: How, asked: Instant, answered: Instant) {
        let delivery = &mut self.deliveries[index];
        match how {
            How::Ack => {
                let (message, attempt) = (delivery.message, delivery.attempt);
                self.acked.push(Acked { message, attempt, answered });
            }
            How::Nack { .. } => {}
            How::Extend { lease } => {
                delivery.held_until = asked + lease - CLOCK_GRAIN;
                self.held.push(index);
            }
        }
    }

    /// A receipt goes stale by the lapse of its lease only, also across a kill.
    fn expect_stale_only_if_lapsed(
        &self,
        some: &[usize],
        response: Option<&super::Response>,
        answered: Instant,
    ) {
        let Some(response) = response else { return };
        for &index in some {
            let delivery = &self.deliveries[index];
            let is_stale = !is_done(response, delivery);
            assert!(
                !is_stale || answered >= delivery.held_until || delivery.is_operators,
                "stale while it was held: {delivery:?}"
            );
        }
    }
}

/// Whether the answer to an ack, nack or extend says that it took effect on this delivery.
fn is_done(response: &super::Response, delivery: &Delivery) -> bool {
    if response.status != 200 {
        assert_problem(response, 409);
        return false;
    }
    let settled: Settled = response.parse();
    // The receipt decides: an older lease of the same message may stand in the same request.
    let is_stale = settled.stale.contains(&delivery.receipt);
    let is_done = settled.done.contains(&delivery.message.to_string());
    assert!(is_stale || is_done, "{delivery:?} is neither done nor stale: {settled:?}");
    !is_stale
}
