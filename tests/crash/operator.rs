//! Has snapshots written, and withdraws formulas of its own, until the server is gone.

use std::collections::BTreeMap;

use super::common::{Call, Client, Formula, Response, assert_problem, body};
use super::{Gone, Line};

/// Formulas of the operator's, which come and go: few, so that they come again.
const MAKE_UPS: u64 = 12;
/// What their names begin with.
const NAME: &str = "Operator's";

/// Whether a formula is the operator's.
pub(crate) fn owns(formula: &Formula) -> bool {
    formula.name.starts_with(NAME)
}

/// What is known of a formula.
#[derive(Clone, Debug)]
enum Known {
    /// It is stored, and this was the answer under this key.
    Stored { key: String, answer: Response },
    /// It was withdrawn.
    Gone { key: String, answer: Response },
    /// A request about it got no answer.
    Unsure,
}

/// The operator, with all that it was told.
#[derive(Debug)]
pub(crate) struct Operator {
    rng: fastrand::Rng,
    known: BTreeMap<u64, Known>,
    keys: u64,
    snapshots: u64,
    newest: u64,
    withdrawn: u64,
    replayed: u64,
}

impl Operator {
    pub(crate) fn new(rng: fastrand::Rng) -> Operator {
        let known = BTreeMap::new();
        Operator { rng, known, keys: 0, snapshots: 0, newest: 0, withdrawn: 0, replayed: 0 }
    }

    /// Works until the server is gone.
    pub(crate) fn work(&mut self, round: u64, line: &mut Line<'_>) {
        loop {
            let make_up = self.rng.u64(..MAKE_UPS);
            let done = match self.rng.u8(..3) {
                0 => self.snapshot(line),
                1 => self.change(round, make_up, line),
                _ => self.repeat(make_up, line),
            };
            if let Err(Gone) = done {
                return;
            }
        }
    }

    /// Withdraws everything, so that the rest of the history is as if it had never been.
    pub(crate) fn finish(&mut self, line: &mut Line<'_>) {
        let listed = super::list_all(&mut line.client);
        for formula in listed.iter().filter(|one| owns(one)) {
            let call = Call::new("DELETE", format!("/formulas/{}", formula.id));
            assert!(line.send(&call).is_ok_and(|answer| answer.status == 204), "{formula:?}");
        }
        self.known.clear();
        assert!(self.snapshot(line).is_ok(), "nobody kills the server any more");
    }

    /// What was acknowledged is as it was told.
    pub(crate) fn check_against(&self, client: &mut Client) {
        for (make_up, known) in &self.known {
            match known {
                Known::Stored { answer, .. } => {
                    let formula: Formula = answer.parse();
                    let found: Formula =
                        client.get(&format!("/formulas/{}", formula.id)).expect(200).parse();
                    assert_eq!(found.seq, formula.seq, "make-up {make_up}");
                }
                Known::Gone { answer, .. } => {
                    let formula: Formula = answer.parse();
                    client.get(&format!("/formulas/{}", formula.id)).expect(404);
                    client.get(&format!("/formulas/{}", formula.seq)).expect(404);
                }
                Known::Unsure => {}
            }
        }
    }

    pub(crate) fn told(&self) -> String {
        let Operator { snapshots, withdrawn, replayed, .. } = self;
        format!("{snapshots} snapshots, {withdrawn} withdrawn, {replayed} answered again")
    }

    fn snapshot(&mut self, line: &mut Line<'_>) -> Result<(), Gone> {
        let answer = line.send(&Call::new("POST", "/admin/snapshot"))?.expect(200).json();
        let lsn = answer["lsn"].as_u64().expect("a number");
        assert!(lsn >= self.newest, "snapshots go forward: {answer} after {}", self.newest);
        (self.newest, self.snapshots) = (lsn, self.snapshots + 1);
        Ok(())
    }

    /// Stores a formula that is not there, or withdraws one that is.
    fn change(&mut self, round: u64, make_up: u64, line: &mut Line<'_>) -> Result<(), Gone> {
        match self.known.insert(make_up, Known::Unsure) {
            Some(Known::Stored { key, answer }) => {
                let formula: Formula = answer.parse();
                let call = Call::new("DELETE", format!("/formulas/{}", formula.id));
                line.send(&call)?.expect(204);
                self.withdrawn += 1;
                self.known.insert(make_up, Known::Gone { key, answer });
            }
            Some(Known::Gone { .. }) | None => {
                self.keys += 1;
                let key = format!("operator-{round}-{}", self.keys);
                let answer = line.send(&call(make_up, &key))?.expect(201);
                self.known.insert(make_up, Known::Stored { key, answer });
            }
            Some(Known::Unsure) => self.settle(make_up, line)?,
        }
        Ok(())
    }

    /// Withdraws a formula of which nothing is known.
    fn settle(&mut self, make_up: u64, line: &mut Line<'_>) -> Result<(), Gone> {
        let checked = Call::post("/formulas/check", text(make_up));
        let checked = line.send(&checked)?.expect(200).json();
        if let Some(id) = checked["duplicate_of"]["id"].as_str() {
            line.send(&Call::new("DELETE", format!("/formulas/{id}")))?.expect(204);
        }
        self.known.remove(&make_up);
        Ok(())
    }

    /// Sends a request again: whatever became of the formula, the first answer comes, and under
    /// the same key no other body is taken.
    fn repeat(&mut self, make_up: u64, line: &mut Line<'_>) -> Result<(), Gone> {
        let Some(Known::Stored { key, answer } | Known::Gone { key, answer }) =
            self.known.get(&make_up)
        else {
            return Ok(());
        };
        let again = line.send(&call(make_up, key))?.expect(201);
        assert_eq!(again.body, answer.body, "the first answer, byte for byte");
        assert_problem(&line.send(&call(make_up + MAKE_UPS, key))?, 422);
        self.replayed += 1;
        Ok(())
    }
}

fn call(make_up: u64, key: &str) -> Call {
    Call::post("/formulas", text(make_up)).key(key.to_owned())
}

fn text(make_up: u64) -> String {
    let digits = format!("1.{:03}", make_up + 1);
    body(&format!("{NAME} {make_up}"), &[("Galaxolide", digits.as_str()), ("Musk", "3")])
}
