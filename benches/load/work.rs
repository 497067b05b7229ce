//! What connections ask of a server, and what they accept as an answer.

use std::io::Write;
use std::mem;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use memchr::memmem;
use sillage::formula::{self, Rules};

use super::Work;
use super::client::Answer;
use super::formulas::Formulas;

/// Appends the head of a POST with a JSON body of so many bytes.
fn post(request: &mut Vec<u8>, path: &str, body_bytes: usize) {
    let head = format_args!(
        "POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n\
         content-length: {body_bytes}\r\n\r\n"
    );
    request.write_fmt(head).expect("a buffer takes every write");
}

/// Posts formulas.
#[derive(Debug)]
pub(crate) struct Submit {
    formulas: Arc<Formulas>,
    numbers: Numbers,
    body: Vec<u8>,
    status: u16,
}

/// Which formulas to post.
#[derive(Debug)]
enum Numbers {
    /// The next that nobody has posted.
    Next(Arc<AtomicU64>),
    /// Any below this number.
    Random(u64, fastrand::Rng),
}

impl Submit {
    /// Formulas that are new, numbered from what `next` holds; each must be accepted.
    pub(crate) fn new(formulas: &Arc<Formulas>, next: &Arc<AtomicU64>) -> Submit {
        let numbers = Numbers::Next(Arc::clone(next));
        Submit { formulas: Arc::clone(formulas), numbers, body: Vec::new(), status: 201 }
    }

    /// Formulas below the number `stored`, at random; each must be answered with `status`.
    pub(crate) fn again(formulas: &Arc<Formulas>, stored: u64, status: u16, seed: u64) -> Submit {
        let numbers = Numbers::Random(stored, fastrand::Rng::with_seed(seed));
        Submit { formulas: Arc::clone(formulas), numbers, body: Vec::new(), status }
    }
}

impl Work for Submit {
    fn ask(&mut self, request: &mut Vec<u8>) -> ControlFlow<()> {
        let number = match &mut self.numbers {
            Numbers::Next(next) => next.fetch_add(1, Ordering::Relaxed),
            Numbers::Random(stored, random) => random.u64(..*stored),
        };
        self.body.clear();
        self.formulas.write(number, &mut self.body);
        post(request, "/formulas", self.body.len());
        request.extend_from_slice(&self.body);
        ControlFlow::Continue(())
    }

    fn take(&mut self, answer: Answer<'_>) -> u64 {
        answer.assert_status(self.status);
        1
    }
}

/// The ids of stored formulas, one after the other.
#[derive(Debug)]
pub(crate) struct Ids(Vec<[u8; 32]>);

impl Ids {
    /// The ids of the formulas with the numbers below `count`.
    pub(crate) fn of(formulas: &Formulas, count: u64) -> Ids {
        let mut body = Vec::new();
        let id = |number| {
            body.clear();
            formulas.write(number, &mut body);
            let checked = formula::parse(&body, &Rules::default());
            checked.expect("a generated body is valid").fingerprint.0
        };
        Ids((0..count).map(id).collect())
    }
}

/// Gets formulas at random.
#[derive(Debug)]
pub(crate) struct Fetch {
    ids: Arc<Ids>,
    random: fastrand::Rng,
    check: Check,
    id: Vec<u8>,
}

/// How closely an answer is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    /// It must be the formula that was asked for.
    Content,
    /// Its status must be right: the server stores nothing.
    Status,
}

impl Fetch {
    /// Formulas of these ids.
    pub(crate) fn new(ids: &Arc<Ids>, check: Check, seed: u64) -> Fetch {
        let random = fastrand::Rng::with_seed(seed);
        Fetch { ids: Arc::clone(ids), random, check, id: Vec::new() }
    }
}

impl Work for Fetch {
    fn ask(&mut self, request: &mut Vec<u8>) -> ControlFlow<()> {
        let id = self.ids.0[self.random.usize(..self.ids.0.len())];
        self.id.clear();
        write!(self.id, "{}", formula::Fingerprint(id)).expect("a buffer takes every write");
        request.extend_from_slice(b"GET /formulas/");
        request.extend_from_slice(&self.id);
        request.extend_from_slice(b" HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n");
        ControlFlow::Continue(())
    }

    fn take(&mut self, answer: Answer<'_>) -> u64 {
        answer.assert_status(200);
        let id = answer.body.strip_prefix(b"{\"id\":\"");
        let is_right = id.is_some_and(|rest| rest.starts_with(&self.id));
        assert!(is_right || self.check == Check::Status, "the formula that was asked for");
        1
    }
}

/// Leases messages and acks them, by turns; a unit is an acked message.
#[derive(Debug)]
pub(crate) struct Consume {
    messages_max: usize,
    /// Receipts held, as JSON: `"…","…"`. Empty: lease next.
    receipts: Vec<u8>,
    held: u64,
}

impl Consume {
    /// So many messages at a time.
    pub(crate) fn new(messages_max: usize) -> Consume {
        Consume { messages_max, receipts: Vec::new(), held: 0 }
    }

    /// Takes the receipts out of the answer to a lease.
    fn hold(&mut self, body: &[u8]) {
        const MEMBER: &[u8] = b"\"receipt\":";
        for at in memmem::find_iter(body, MEMBER) {
            let quoted = &body[at + MEMBER.len()..];
            let end = memchr::memchr(b'"', &quoted[1..]).expect("a string has an end") + 2;
            if self.held > 0 {
                self.receipts.push(b',');
            }
            self.receipts.extend_from_slice(&quoted[..end]);
            self.held += 1;
        }
        assert!(self.held > 0, "the queue holds more than a run uses up");
    }
}

impl Work for Consume {
    fn ask(&mut self, request: &mut Vec<u8>) -> ControlFlow<()> {
        if self.held == 0 {
            let body = format!("{{\"max\":{},\"lease_s\":60}}", self.messages_max);
            post(request, "/queues/formulas/lease", body.len());
            request.extend_from_slice(body.as_bytes());
        } else {
            const FRAME: (&[u8], &[u8]) = (b"{\"receipts\":[", b"]}");
            let bytes = FRAME.0.len() + self.receipts.len() + FRAME.1.len();
            post(request, "/queues/formulas/ack", bytes);
            request.extend_from_slice(FRAME.0);
            request.append(&mut self.receipts);
            request.extend_from_slice(FRAME.1);
        }
        ControlFlow::Continue(())
    }

    fn take(&mut self, answer: Answer<'_>) -> u64 {
        answer.assert_status(200);
        if self.held == 0 {
            self.hold(answer.body);
            return 0;
        }
        let is_whole = memmem::find(answer.body, b"\"stale\":[]").is_some();
        assert!(is_whole, "every receipt was valid");
        mem::take(&mut self.held)
    }
}
