//! Posting formulas: new ones, and ones that are stored.
//!
//! Of each answer status, location and the echo of the name are checked at once. Its id is kept
//! and compared with the fingerprint of what was sent after the run: fingerprints cost the
//! generator as much as the server, and would be taken from its time.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use memchr::memmem;

use crate::cli::bench::connection::Answer;
use crate::cli::bench::drive::Work;
use crate::cli::bench::fault::{Fault, Mistake};
use crate::cli::bench::formulas::Formulas;
use crate::cli::bench::target::Target;
use crate::limits::{BENCH_EVIDENCE_MAX, BENCH_NUMBERS_MAX};

/// The 64 digits of an id.
pub(crate) type HexId = [u8; 64];

/// Where formulas come from, and how many of each kind a server was given.
#[derive(Debug)]
pub(crate) struct Supply {
    /// Their bodies.
    pub(crate) formulas: Formulas,
    /// The number of the next new one.
    next: AtomicU64,
}

impl Supply {
    /// Bodies from this seed, new ones numbered from `first`.
    pub(crate) fn new(seed: u64, first: u64) -> Supply {
        Supply { formulas: Formulas::seeded(seed), next: AtomicU64::new(first) }
    }

    /// Takes `count` numbers that nobody has had; gives the first.
    pub(crate) fn take(&self, count: u64) -> Option<u64> {
        let first = self.next.fetch_add(count, Ordering::Relaxed);
        first.checked_add(count).is_some_and(|end| end <= BENCH_NUMBERS_MAX).then_some(first)
    }
}

/// How closely an answer is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    /// It must say what Sillage says.
    Content,
    /// Its status must be right: the server stores nothing.
    Status,
}

/// Posts formulas.
pub(crate) struct Submit {
    supply: Arc<Supply>,
    choice: Choice,
    check: Check,
    body: Vec<u8>,
    /// The number of the formula that is under way.
    number: u64,
    /// Whether `number` was turned away and is sent again.
    is_open: bool,
    ids: Ids,
}

/// Which formulas to post.
#[derive(Debug)]
enum Choice {
    /// The next that nobody has posted.
    New,
    /// Any of these many from this one on.
    Stored { first: u64, count: u64, random: fastrand::Rng },
}

impl Submit {
    /// Formulas that are new; each must be accepted.
    pub(crate) fn new(supply: &Arc<Supply>, check: Check) -> Submit {
        Submit::of(supply, Choice::New, check)
    }

    /// Formulas that are stored, at random; each must be refused as a duplicate of itself.
    pub(crate) fn again(
        supply: &Arc<Supply>,
        stored: (u64, u64),
        check: Check,
        seed: u64,
    ) -> Submit {
        let ((first, count), random) = (stored, fastrand::Rng::with_seed(seed));
        Submit::of(supply, Choice::Stored { first, count, random }, check)
    }

    fn of(supply: &Arc<Supply>, choice: Choice, check: Check) -> Submit {
        let (supply, ids) = (Arc::clone(supply), Ids::default());
        Submit { supply, choice, check, body: Vec::new(), number: 0, is_open: false, ids }
    }

    /// The id in the answer, once all that is cheap to check is right.
    fn echoed_id<'a>(&self, answer: &Answer<'a>) -> Result<&'a HexId, Fault> {
        let wrong = |mistake| Fault::wrong(mistake, answer.body);
        let formula = match self.choice {
            Choice::New => answer.body,
            Choice::Stored { .. } => {
                let at = memmem::find(answer.body, b"\"existing\":");
                &answer.body[at.ok_or_else(|| wrong(Mistake::Content))?..]
            }
        };
        let (id, name) = id_and_name(formula).ok_or_else(|| wrong(Mistake::Content))?;
        if name != self.supply.formulas.name(self.number).as_bytes() {
            return Err(wrong(Mistake::Name));
        }
        let is_located = match self.choice {
            Choice::New => answer.location.strip_prefix(b"/formulas/") == Some(id),
            Choice::Stored { .. } => true,
        };
        if is_located { Ok(id) } else { Err(wrong(Mistake::Location)) }
    }
}

/// The id of the first formula in a JSON text, and its name.
pub(crate) fn id_and_name(json: &[u8]) -> Option<(&HexId, &[u8])> {
    const ID: &[u8] = b"\"id\":\"";
    const NAME: &[u8] = b"\"name\":\"";
    let rest = &json[memmem::find(json, ID)? + ID.len()..];
    let id = rest.first_chunk::<64>()?;
    let rest = &rest[memmem::find(rest, NAME)? + NAME.len()..];
    Some((id, &rest[..memchr::memchr(b'"', rest)?]))
}

impl Work for Submit {
    fn ask(&mut self, target: &Target, request: &mut Vec<u8>) -> ControlFlow<()> {
        if !self.is_open {
            self.number = match &mut self.choice {
                Choice::New => match self.supply.take(1) {
                    Some(number) => number,
                    None => return ControlFlow::Break(()),
                },
                Choice::Stored { first, count, random } => *first + random.u64(..*count),
            };
            self.body.clear();
            self.supply.formulas.write(self.number, &mut self.body);
        }
        self.is_open = true;
        target.post("/formulas", &self.body, request);
        ControlFlow::Continue(())
    }

    fn take(&mut self, answer: Answer<'_>) -> Result<u64, Fault> {
        self.is_open = false;
        if self.check == Check::Status {
            // The reference servers store nothing, so nothing is ever a duplicate.
            answer.expect(201)?;
            return Ok(1);
        }
        answer.expect(if matches!(self.choice, Choice::New) { 201 } else { 409 })?;
        let id = *self.echoed_id(&answer)?;
        self.ids.keep(&self.supply, self.number, id)?;
        Ok(1)
    }

    fn verify(&mut self) -> Result<(), Fault> {
        self.ids.verify(&self.supply)
    }
}

/// Ids that were given, to be verified after the run.
#[derive(Debug, Default)]
pub(crate) struct Ids {
    kept: Vec<(u64, HexId)>,
    body: Vec<u8>,
}

impl Ids {
    /// Keeps the id that was given to the formula with this number, or verifies it at once when
    /// many are kept already.
    pub(crate) fn keep(&mut self, from: &Supply, number: u64, id: HexId) -> Result<(), Fault> {
        if self.kept.len() < BENCH_EVIDENCE_MAX {
            self.kept.push((number, id));
            return Ok(());
        }
        verify(from, number, &id, &mut self.body)
    }

    /// Verifies what is kept.
    pub(crate) fn verify(&mut self, from: &Supply) -> Result<(), Fault> {
        let Ids { kept, body } = self;
        kept.drain(..).try_for_each(|(number, id)| verify(from, number, &id, body))
    }
}

fn verify(from: &Supply, number: u64, id: &HexId, body: &mut Vec<u8>) -> Result<(), Fault> {
    let is_right = from.formulas.id(number, body) == *id;
    if is_right { Ok(()) } else { Err(Fault::wrong(Mistake::Id, id)) }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn answer(supply: &Supply, name_of: u64, id_of: u64, located: u64) -> (Vec<u8>, Vec<u8>) {
        let hex = |number| String::from_utf8(supply.formulas.id(number, &mut Vec::new()).to_vec());
        let name = supply.formulas.name(name_of);
        let body = format!(r#"{{"id":"{}","seq":3,"name":"{name}"}}"#, hex(id_of).unwrap());
        (body.into_bytes(), format!("/formulas/{}", hex(located).unwrap()).into_bytes())
    }

    #[test]
    fn an_answer_about_another_formula_is_noticed() {
        let target = Target::at(SocketAddr::from(([127, 0, 0, 1], 1)));
        let supply = Arc::new(Supply::new(1, 0));
        // Names repeat among a thousand templates, but not between these two.
        assert_ne!(supply.formulas.name(0), supply.formulas.name(1));
        for ((name, id, located), wrong) in [
            ((0, 0, 0), None),
            ((1, 0, 0), Some(Mistake::Name)),
            ((0, 0, 1), Some(Mistake::Location)),
            ((0, 1, 1), Some(Mistake::Id)),
        ] {
            let (body, location) = answer(&supply, name, id, located);
            let answer = Answer { status: 201, location: &location, body: &body };
            let mut submit = Submit::new(&Arc::new(Supply::new(1, 0)), Check::Content);
            assert!(submit.ask(&target, &mut Vec::new()).is_continue());
            let outcome = submit.take(answer).and_then(|_| submit.verify());
            let found = match outcome {
                Ok(()) => None,
                Err(Fault::Wrong { mistake, .. }) => Some(mistake),
                Err(other) => panic!("{other}"),
            };
            assert_eq!(found, wrong);
        }
    }

    #[test]
    fn numbers_end_at_their_bound() {
        let supply = Supply::new(1, BENCH_NUMBERS_MAX - 2);
        assert_eq!(supply.take(1), Some(BENCH_NUMBERS_MAX - 2));
        assert_eq!(supply.take(2), None);
        assert_eq!(supply.take(u64::MAX), None);
    }
}
