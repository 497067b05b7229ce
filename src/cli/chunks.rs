//! Formulas from a file, chunk by chunk: what `submit` and `import` have in common.
//!
//! A chunk is filled up to a bound and then handed over as a whole. What stands in front of a
//! broken place of the input is handed over all the same, so that it need not be brought again.

use std::io::BufRead;

use indicatif::ProgressBar;

use crate::cli::input::{Formulas, InputError};
use crate::cli::tally::Tally;

/// What takes the chunks.
pub(crate) trait Taker {
    /// Formulas that go together.
    type Chunk: Default;
    /// Why no more can be taken.
    type Failure;

    /// Adds the formula that begins on this line of the input to a chunk, or refuses it in words.
    fn add(&self, chunk: &mut Self::Chunk, line: u64, text: Vec<u8>) -> Result<(), String>;

    /// How full a chunk is.
    fn fill_of(chunk: &Self::Chunk) -> Fill;

    /// Takes a chunk, and counts what became of its formulas.
    async fn take(&mut self, chunk: Self::Chunk, tally: &mut Tally) -> Result<(), Self::Failure>;
}

/// How full a chunk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fill {
    /// Bytes of the input in it.
    pub(crate) bytes: u64,
    /// Whether anything is in it.
    pub(crate) is_empty: bool,
    /// Whether it is to be handed over.
    pub(crate) is_full: bool,
}

/// Why a run ended early.
#[derive(Debug)]
pub(crate) enum End<F> {
    /// The input is broken.
    Input(InputError),
    /// The taker takes no more.
    Failed(F),
}

/// How far a chunk was filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Filled {
    ToTheBrim,
    ToTheEnd,
}

/// Hands all formulas over. The tally is right also when that ends early.
///
/// # Errors
/// See [`End`].
pub(crate) async fn hand_over<T: Taker, R: BufRead>(
    taker: &mut T,
    mut formulas: Formulas<R>,
    tally: &mut Tally,
    bar: &ProgressBar,
) -> Result<(), End<T::Failure>> {
    loop {
        let mut chunk = T::Chunk::default();
        let filled = fill(taker, &mut chunk, &mut formulas, tally);
        let fill = T::fill_of(&chunk);
        if !fill.is_empty {
            taker.take(chunk, tally).await.map_err(End::Failed)?;
        }
        bar.inc(fill.bytes);
        bar.set_message(tally.to_string());
        if filled.map_err(End::Input)? == Filled::ToTheEnd {
            return Ok(());
        }
    }
}

fn fill<T: Taker, R: BufRead>(
    taker: &T,
    chunk: &mut T::Chunk,
    formulas: &mut Formulas<R>,
    tally: &mut Tally,
) -> Result<Filled, InputError> {
    while !T::fill_of(chunk).is_full {
        let Some(found) = formulas.next()? else { return Ok(Filled::ToTheEnd) };
        let added = found.text.map_err(|unsendable| unsendable.to_string());
        let added = added.and_then(|text| taker.add(chunk, found.line, text));
        if let Err(detail) = added {
            tally.refuse(found.line, || detail);
        }
    }
    Ok(Filled::ToTheBrim)
}
