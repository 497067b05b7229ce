//! Posts formulas until the server is gone, and remembers every answer.

use std::collections::BTreeMap;

use super::common::{Call, Formula, Response, assert_problem, body};
use super::{Gone, Line};

/// Make-ups below this number are shared: every submitter may send them.
const SHARED_MAX: u64 = 1_000_000;
/// Shared make-ups that come up in one round.
const SHARED_PER_ROUND: u64 = 12;

/// One attempt to store one make-up: sent until it is answered, always the same.
#[derive(Debug)]
struct Attempt {
    make_up: u64,
    key: String,
    name: String,
    lines: Vec<(String, String)>,
    body: String,
}

/// An attempt that was answered with 201.
#[derive(Debug)]
pub(crate) struct Accepted {
    attempt: Attempt,
    response: Response,
    pub(crate) formula: Formula,
}

/// One submitter with all that it was told.
#[derive(Debug)]
pub(crate) struct Submitter {
    number: u64,
    rng: fastrand::Rng,
    attempts_made: u64,
    /// Left without an answer by the last kill.
    unanswered: Option<Attempt>,
    /// By make-up.
    pub(crate) accepted: BTreeMap<u64, Accepted>,
    /// Make-ups that were refused as duplicates, with the seq of the formula in the way.
    pub(crate) refused: Vec<(u64, u64)>,
}

impl Submitter {
    pub(crate) fn new(number: u64, rng: fastrand::Rng) -> Submitter {
        let (accepted, refused) = (BTreeMap::new(), Vec::new());
        Submitter { number, rng, attempts_made: 0, unanswered: None, accepted, refused }
    }

    /// Works until the server is gone.
    pub(crate) fn work(&mut self, round: u64, line: &mut Line<'_>) {
        loop {
            let done = if self.unanswered.is_none() && self.rng.u8(..10) == 0 {
                self.repeat(line)
            } else {
                let attempt = self.unanswered.take().unwrap_or_else(|| self.invent(round));
                self.submit(attempt, line)
            };
            if let Err(Gone) = done {
                return;
            }
        }
    }

    /// Gets the answer that the last kill withheld.
    pub(crate) fn finish(&mut self, line: &mut Line<'_>) {
        if let Some(attempt) = self.unanswered.take() {
            assert!(self.submit(attempt, line).is_ok(), "nobody kills the server any more");
        }
    }

    fn submit(&mut self, attempt: Attempt, line: &mut Line<'_>) -> Result<(), Gone> {
        let call = Call::post("/formulas", attempt.body.as_str()).key(attempt.key.as_str());
        match line.send(&call) {
            Ok(response) if response.status == 201 => self.learn_accepted(attempt, response),
            Ok(response) => {
                let problem = assert_problem(&response, 409);
                let seq =
                    problem["existing"]["seq"].as_u64().expect("a conflict names the formula");
                self.refused.push((attempt.make_up, seq));
            }
            Err(Gone) => {
                self.unanswered = Some(attempt);
                return Err(Gone);
            }
        }
        Ok(())
    }

    fn learn_accepted(&mut self, attempt: Attempt, response: Response) {
        let formula: Formula = response.parse();
        assert_eq!(formula.name, attempt.name);
        let sent: Vec<(&str, &str)> =
            attempt.lines.iter().map(|(name, digits)| (name.as_str(), digits.as_str())).collect();
        assert_eq!(formula.lines(), sent);
        let make_up = attempt.make_up;
        let accepted = Accepted { attempt, response, formula };
        if let Some(before) = self.accepted.insert(make_up, accepted) {
            panic!("make-up {make_up} was accepted before, under another key: {before:?}");
        }
    }

    /// Sends an accepted request again, as a client that lost the answer would.
    fn repeat(&mut self, line: &mut Line<'_>) -> Result<(), Gone> {
        let count = self.accepted.len();
        let Some(accepted) = self.accepted.values().nth(self.rng.usize(..count.max(1))) else {
            return Ok(());
        };
        let Attempt { body, key, .. } = &accepted.attempt;
        let again = line.send(&Call::post("/formulas", body.as_str()).key(key.as_str()))?;
        assert_eq!(again.status, 201, "{again:?}");
        assert_eq!(again.body, accepted.response.body, "the first answer, byte for byte");
        assert_eq!(again.header("idempotent-replayed"), Some("true"));
        Ok(())
    }

    /// A new attempt: in two of three cases with a make-up of its own.
    fn invent(&mut self, round: u64) -> Attempt {
        self.attempts_made += 1;
        let make_up = if self.rng.u8(..3) > 0 {
            SHARED_MAX * (self.number + 1) + self.attempts_made
        } else {
            round * SHARED_PER_ROUND + self.rng.u64(..SHARED_PER_ROUND)
        };
        let key = format!("submitter-{}-{}", self.number, self.attempts_made);
        let name = format!("Formula {make_up} of {}", self.number);
        let lines = self.spell(make_up);
        let plain: Vec<(&str, &str)> =
            lines.iter().map(|(name, digits)| (name.as_str(), digits.as_str())).collect();
        let body = body(&name, &plain);
        Attempt { make_up, key, name, lines, body }
    }

    /// The lines of a make-up in one of its many spellings.
    fn spell(&mut self, make_up: u64) -> Vec<(String, String)> {
        let base = if self.rng.bool() { "Hedione HC" } else { "hedione  hc" };
        let digits = format!("0.{:012}", make_up + 1);
        let digits = if self.rng.bool() { digits + "00" } else { digits };
        let mut lines = vec![
            (base.to_owned(), ["7.5", "7.50", "75e-1"][self.rng.usize(..3)].to_owned()),
            ("Iso E Super".to_owned(), "12.25".to_owned()),
            ("Trace".to_owned(), digits),
        ];
        self.rng.shuffle(&mut lines);
        lines
    }
}
