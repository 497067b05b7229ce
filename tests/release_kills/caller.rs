//! Begins transactions until the server is gone, and remembers every answer.

use std::io::ErrorKind;

use serde_json::{Value, json};

use super::common::{Call, Client, Response, assert_problem};
use super::history::Transaction;
use super::meter::{Goal, Meter};

/// The seconds that callers wait for an end: some not at all, most for less than all tries take.
const WAITS_S: [u64; 4] = [0, 1, 1, 3];

/// The server was killed before it answered: what was asked may or may not have happened.
#[derive(Debug)]
struct Gone;

/// One wish for one transaction: sent until it is answered, always under the same key.
#[derive(Clone, Debug)]
struct Attempt {
    key: String,
    group: String,
    action: &'static str,
    wait_s: u64,
}

impl Attempt {
    fn call(&self) -> Call {
        let body = json!({"groupId": self.group, "action": self.action});
        let call = Call::post("/transactions", body.to_string()).key(self.key.as_str());
        call.header("Prefer", format!("wait={}", self.wait_s))
    }
}

/// An attempt that was answered with 200 or 202.
#[derive(Debug)]
pub(crate) struct Accepted {
    attempt: Attempt,
    response: Response,
    told: Transaction,
    pub(crate) id: u64,
}

impl Accepted {
    fn new(attempt: Attempt, response: Response) -> Accepted {
        let told: Transaction = response.parse();
        assert_eq!((&told.group, told.action.as_str()), (&attempt.group, attempt.action));
        assert_eq!(response.status == 202, told.is_under_way(), "{response:?}");
        let id = told.number();
        let location = (response.status == 202).then(|| format!("/transactions/{id}"));
        assert_eq!(response.header("location"), location.as_deref());
        Accepted { attempt, response, told, id }
    }

    /// That what is listed in the end is what was asked for, with the end that was told.
    pub(crate) fn check(&self, found: &Transaction) {
        assert_eq!((&found.group, &found.action), (&self.told.group, &self.told.action));
        assert!(!self.told.is_over() || found.state == self.told.state, "{self:?}: {found:?}");
    }

    fn check_again(&self, again: &Response) {
        assert_eq!(again.status, self.response.status, "{self:?}: {again:?}");
        assert_eq!(again.text(), self.response.text(), "the first answer, byte for byte");
        assert_eq!(again.header("location"), self.response.header("location"));
        assert_eq!(again.header("idempotent-replayed"), Some("true"));
    }
}

/// One caller with all that it was told.
#[derive(Debug)]
pub(crate) struct Caller {
    number: u64,
    groups: u64,
    rng: fastrand::Rng,
    attempts_made: u64,
    /// Left without an answer by the last kill, or refused and asked for anew.
    unanswered: Option<Attempt>,
    pub(crate) accepted: Vec<Accepted>,
    /// Requests that were refused because another transaction held the group.
    pub(crate) held: u64,
    /// Transactions that it had tried again.
    pub(crate) retried: u64,
    /// Requests that were sent again under their key.
    pub(crate) repeated: u64,
}

impl Caller {
    pub(crate) fn new(number: u64, groups: u64, rng: fastrand::Rng) -> Caller {
        let (unanswered, accepted) = (None, Vec::new());
        let (attempts_made, held, retried, repeated) = (0, 0, 0, 0);
        Caller { number, groups, rng, attempts_made, unanswered, accepted, held, retried, repeated }
    }

    /// Works until the server is gone or the goal is reached.
    pub(crate) fn work(&mut self, client: Client, meter: &Meter, goal: Goal) {
        let mut line = Line { client, meter };
        while !meter.is_reached(goal) {
            let done = if self.unanswered.is_none() && self.rng.u8(..8) == 0 {
                self.repeat(&mut line)
            } else {
                self.begin(&mut line)
            };
            if let Err(Gone) = done {
                return;
            }
        }
    }

    /// Gets the answer that the last kill withheld, if there is one left.
    pub(crate) fn finish(&mut self, client: Client, meter: &Meter) {
        let mut line = Line { client, meter };
        while self.unanswered.is_some() {
            assert!(self.begin(&mut line).is_ok(), "nobody kills the server any more");
        }
    }

    /// Repeats all requests and compares the answers.
    pub(crate) fn check_answers(&self, mut client: Client) {
        for accepted in &self.accepted {
            accepted.check_again(&client.send(&accepted.attempt.call()));
        }
    }

    /// Sends the attempt that is left, or a new one.
    fn begin(&mut self, line: &mut Line<'_>) -> Result<(), Gone> {
        let attempt = self.unanswered.take().unwrap_or_else(|| self.invent());
        let response = match line.send(&attempt.call()) {
            Ok(response) => response,
            Err(Gone) => {
                self.repeated += 1;
                self.unanswered = Some(attempt);
                return Err(Gone);
            }
        };
        if matches!(response.status, 200 | 202) {
            self.accepted.push(Accepted::new(attempt, response));
            line.meter.count_accepted();
            return Ok(());
        }
        let problem = assert_problem(&response, 409);
        assert_eq!(problem["type"], "/problems/group-held", "{attempt:?}");
        self.held += 1;
        // A refusal spends no key: another group may be asked for under it.
        if self.rng.bool() {
            let key = attempt.key;
            self.unanswered = Some(Attempt { key, ..self.draw() });
        }
        match self.rng.u8(..4) {
            0 => self.retry(&problem["existing"], line),
            _ => Ok(()),
        }
    }

    /// Has the transaction tried again that holds the group, which never hurts, and waits a little
    /// for its end: what nobody can begin now is not asked for at full speed.
    fn retry(&mut self, existing: &Value, line: &mut Line<'_>) -> Result<(), Gone> {
        let path = existing["url"].as_str().expect("a conflict names the transaction");
        let call = Call::new("POST", format!("{path}/retry"));
        let response = line.send(&call.header("Prefer", "wait=1"))?;
        match response.status {
            200 | 202 => self.retried += 1,
            // It has come to its end meanwhile.
            _ => {
                let problem = assert_problem(&response, 409);
                assert_eq!(problem["type"], "/problems/transaction-over");
            }
        }
        Ok(())
    }

    /// Sends an accepted request again, as a client that lost the answer would.
    fn repeat(&mut self, line: &mut Line<'_>) -> Result<(), Gone> {
        let count = self.accepted.len().max(1);
        let Some(accepted) = self.accepted.get(self.rng.usize(..count)) else { return Ok(()) };
        accepted.check_again(&line.send(&accepted.attempt.call())?);
        self.repeated += 1;
        Ok(())
    }

    fn invent(&mut self) -> Attempt {
        self.attempts_made += 1;
        let key = format!("caller-{}-{}", self.number, self.attempts_made);
        Attempt { key, ..self.draw() }
    }

    /// What an attempt is about; groups are created more often than deleted, as there are none.
    fn draw(&mut self) -> Attempt {
        let group = format!("group-{}", self.rng.u64(..self.groups));
        let action = ["create", "create", "delete"][self.rng.usize(..3)];
        let wait_s = WAITS_S[self.rng.usize(..WAITS_S.len())];
        Attempt { key: String::new(), group, action, wait_s }
    }
}

/// A caller's way to the server during one life of it.
struct Line<'a> {
    client: Client,
    meter: &'a Meter,
}

impl Line<'_> {
    fn send(&mut self, call: &Call) -> Result<Response, Gone> {
        let sent = self.client.begin(call);
        self.meter.count_request();
        match sent.and_then(|()| self.client.finish()) {
            Ok(response) => Ok(response),
            Err(error) if error.kind() == ErrorKind::InvalidData => panic!("{error}"),
            Err(_) => Err(Gone),
        }
    }
}
