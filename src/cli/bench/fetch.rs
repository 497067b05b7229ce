//! Reading formulas by id, at random.

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::cli::bench::connection::Answer;
use crate::cli::bench::drive::Work;
use crate::cli::bench::fault::{Fault, Mistake};
use crate::cli::bench::submit::{Check, HexId, Supply, id_and_name};
use crate::cli::bench::target::Target;
use crate::limits::BENCH_IDS_MAX;

/// Formulas by number with their ids.
pub(crate) type Known = Vec<(u64, HexId)>;

/// The ids of at most `BENCH_IDS_MAX` of `count` formulas from `first` on, chosen at random when
/// there are more.
pub(crate) fn known(supply: &Supply, (first, count): (u64, u64), seed: u64) -> Known {
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut body, wanted) = (Vec::new(), count.min(BENCH_IDS_MAX));
    let chosen = (0..wanted).map(|index| match wanted == count {
        true => first + index,
        false => first + random.u64(..count),
    });
    chosen.map(|number| (number, supply.formulas.id(number, &mut body))).collect()
}

/// Gets formulas at random.
pub(crate) struct Fetch {
    supply: Arc<Supply>,
    known: Arc<Known>,
    random: fastrand::Rng,
    check: Check,
    /// The index of the one that is under way.
    asked: usize,
}

impl Fetch {
    /// Formulas of these ids, of which there is at least one.
    pub(crate) fn new(supply: &Arc<Supply>, known: &Arc<Known>, check: Check, seed: u64) -> Fetch {
        let (supply, known) = (Arc::clone(supply), Arc::clone(known));
        Fetch { supply, known, random: fastrand::Rng::with_seed(seed), check, asked: 0 }
    }
}

impl Work for Fetch {
    fn ask(&mut self, target: &Target, request: &mut Vec<u8>) -> ControlFlow<()> {
        self.asked = self.random.usize(..self.known.len());
        let (_, id) = &self.known[self.asked];
        let id = std::str::from_utf8(id).expect("hexadecimal digits are ASCII");
        target.get_of("/formulas/", id, request);
        ControlFlow::Continue(())
    }

    fn take(&mut self, answer: Answer<'_>) -> Result<u64, Fault> {
        answer.expect(200)?;
        if self.check == Check::Status {
            return Ok(1);
        }
        let wrong = |mistake| Err(Fault::wrong(mistake, answer.body));
        let (number, id) = &self.known[self.asked];
        match id_and_name(answer.body) {
            None => wrong(Mistake::Content),
            Some((given, _)) if given != id => wrong(Mistake::Id),
            Some((_, name)) if name != self.supply.formulas.name(*number).as_bytes() => {
                wrong(Mistake::Name)
            }
            Some(_) => Ok(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_all_are_known_when_they_are_few() {
        let supply = Supply::new(3, 0);
        let known = known(&supply, (5, 4), 0);
        let numbers: Vec<u64> = known.iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers, [5, 6, 7, 8]);
        assert_eq!(known[1].1, supply.formulas.id(6, &mut Vec::new()));
    }
}
