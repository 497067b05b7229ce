//! Leasing messages and acking them, by turns.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

use memchr::memmem;

use crate::cli::bench::connection::Answer;
use crate::cli::bench::drive::Work;
use crate::cli::bench::fault::{Fault, Mistake};
use crate::cli::bench::target::Target;
use crate::limits::BENCH_LEASE_S;

/// Acked messages of one server: none of them may come again.
///
/// Kept are hashes of their ids. Among ten million the chance of two equal ones, and so of a
/// false alarm, is three in a million.
#[derive(Debug, Default)]
pub(crate) struct Acked {
    hashes: Mutex<HashSet<u64>>,
    hasher: RandomState,
}

impl Acked {
    /// Notes an acked message; `false` if it was acked before.
    fn note(&self, id: &[u8]) -> bool {
        let hash = self.hasher.hash_one(id);
        self.hashes.lock().expect("no panic holds this lock").insert(hash)
    }
}

/// Leases messages and acks them; a unit is an acked message.
pub(crate) struct Consume {
    messages_max: usize,
    acked: Arc<Acked>,
    body: Vec<u8>,
    /// Receipts held, as JSON: `"…","…"`.
    receipts: Vec<u8>,
    /// The messages they are for. Empty: lease next.
    held: Vec<Box<[u8]>>,
    /// Whether the last lease found nothing.
    is_dry: bool,
}

impl Consume {
    /// So many messages at a time.
    pub(crate) fn new(messages_max: usize, acked: &Arc<Acked>) -> Consume {
        Consume {
            messages_max,
            acked: Arc::clone(acked),
            body: Vec::new(),
            receipts: Vec::new(),
            held: Vec::new(),
            is_dry: false,
        }
    }

    /// Takes ids and receipts out of the answer to a lease.
    fn hold(&mut self, body: &[u8]) -> Result<(), Fault> {
        const BETWEEN: &[u8] = b"\",\"receipt\":\"";
        for at in memmem::find_iter(body, BETWEEN) {
            let receipt = &body[at + BETWEEN.len()..];
            let id = memchr::memrchr(b'"', &body[..at]).map(|quote| &body[quote + 1..at]);
            let end = memchr::memchr(b'"', receipt);
            let (Some(id), Some(end)) = (id, end) else {
                return Err(Fault::wrong(Mistake::Content, body));
            };
            if !self.receipts.is_empty() {
                self.receipts.push(b',');
            }
            self.receipts.push(b'"');
            self.receipts.extend_from_slice(&receipt[..=end]);
            self.held.push(id.into());
        }
        self.is_dry = self.held.is_empty();
        let is_right = body.starts_with(b"{\"messages\":[") && self.held.len() <= self.messages_max;
        if is_right { Ok(()) } else { Err(Fault::wrong(Mistake::Content, body)) }
    }

    /// Checks the answer to an ack: all are done, none for the second time.
    fn settle(&mut self, body: &[u8]) -> Result<u64, Fault> {
        let done = memmem::find(body, b"\"done\":[").map(|at| &body[at + b"\"done\":[".len()..]);
        let done = done.and_then(|rest| Some(&rest[..memchr::memchr(b']', rest)?]));
        let quotes = done.map(|done| memchr::memchr_iter(b'"', done).count());
        let is_whole = memmem::find(body, b"\"stale\":[]").is_some();
        if quotes != Some(2 * self.held.len()) || !is_whole {
            return Err(Fault::wrong(Mistake::Receipts, body));
        }
        let count = self.held.len() as u64;
        for id in self.held.drain(..) {
            if !self.acked.note(&id) {
                return Err(Fault::wrong(Mistake::Twice, &id));
            }
        }
        self.receipts.clear();
        Ok(count)
    }
}

impl Work for Consume {
    fn ask(&mut self, target: &Target, request: &mut Vec<u8>) -> ControlFlow<()> {
        if self.is_dry {
            return ControlFlow::Break(());
        }
        self.body.clear();
        if self.held.is_empty() {
            let lease = format!("{{\"max\":{},\"lease_s\":{BENCH_LEASE_S}}}", self.messages_max);
            self.body.extend_from_slice(lease.as_bytes());
            target.post("/queues/formulas/lease", &self.body, request);
        } else {
            for part in [b"{\"receipts\":[", &self.receipts[..], b"]}"] {
                self.body.extend_from_slice(part);
            }
            target.post("/queues/formulas/ack", &self.body, request);
        }
        ControlFlow::Continue(())
    }

    fn take(&mut self, answer: Answer<'_>) -> Result<u64, Fault> {
        answer.expect(200)?;
        if self.held.is_empty() {
            return self.hold(answer.body).map(|()| 0);
        }
        self.settle(answer.body)
    }

    fn may_end(&self) -> bool {
        self.held.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(body: &str) -> Answer<'_> {
        Answer { status: 200, location: b"", body: body.as_bytes() }
    }

    const LEASED: &str = r#"{"messages":[{"id":"3","receipt":"3-1","type":"formula.accepted",
        "formula":{"id":"ab","name":"x"}},{"id":"5","receipt":"5-1","type":"formula.accepted"}]}"#;

    #[test]
    fn every_leased_message_is_acked_and_counts_once() {
        let acked = Arc::new(Acked::default());
        let mut consume = Consume::new(2, &acked);
        assert_eq!(consume.take(answer(LEASED)).unwrap(), 0);
        assert_eq!(consume.receipts, br#""3-1","5-1""#);
        assert!(!consume.may_end());
        assert_eq!(consume.take(answer(r#"{"done":["3","5"],"stale":[]}"#)).unwrap(), 2);
        assert!(consume.may_end());
    }

    #[test]
    fn wrong_answers_are_noticed() {
        for (settled, mistake) in [
            (r#"{"done":["3"],"stale":["5-1"]}"#, Mistake::Receipts),
            (r#"{"done":["3"],"stale":[]}"#, Mistake::Receipts),
            ("{}", Mistake::Receipts),
        ] {
            let mut consume = Consume::new(2, &Arc::default());
            consume.take(answer(LEASED)).unwrap();
            let fault = consume.take(answer(settled)).unwrap_err();
            assert!(matches!(fault, Fault::Wrong { mistake: m, .. } if m == mistake), "{fault}");
        }
        let mut greedy = Consume::new(1, &Arc::default());
        assert!(greedy.take(answer(LEASED)).is_err(), "more than were asked for");
    }

    #[test]
    fn a_message_that_comes_after_its_ack_is_noticed() {
        let acked = Arc::new(Acked::default());
        let mut consume = Consume::new(2, &acked);
        let round = |consume: &mut Consume| {
            consume.take(answer(LEASED))?;
            consume.take(answer(r#"{"done":["3","5"],"stale":[]}"#))
        };
        assert!(round(&mut consume).is_ok());
        let fault = round(&mut consume).unwrap_err();
        assert!(matches!(fault, Fault::Wrong { mistake: Mistake::Twice, .. }), "{fault}");
    }

    #[test]
    fn an_empty_queue_ends_the_work() {
        let target = Target::at(std::net::SocketAddr::from(([127, 0, 0, 1], 1)));
        let mut consume = Consume::new(2, &Arc::default());
        consume.take(answer(r#"{"messages":[]}"#)).unwrap();
        assert!(consume.ask(&target, &mut Vec::new()).is_break());
    }
}
