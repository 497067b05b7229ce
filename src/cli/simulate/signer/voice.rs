//! The words in which the authority tells of a call: one line each.

use crate::cli::simulate::answer::Answer;
use crate::cli::simulate::outcome::Outcome;
use crate::cli::simulate::signer::stats::Call;
use crate::cli::simulate::voice::shown;

/// What a call is about.
pub(super) struct Subject<'a> {
    /// Its number.
    pub(super) number: u64,
    /// What is asked for.
    pub(super) call: Call,
    /// The message; empty without one.
    pub(super) message: &'a str,
}

/// The line that says what became of a call.
pub(super) fn line_of(subject: &Subject<'_>, outcome: &str) -> String {
    let Subject { number, call, message } = subject;
    match call {
        Call::Probe => format!("#{number} probe: {outcome}"),
        Call::Sign => format!("#{number} sign \"{}\": {outcome}", shown(message)),
        Call::Verify => format!("#{number} verify \"{}\": {outcome}", shown(message)),
    }
}

/// What is said of an answer that was planned so.
pub(super) fn words_of(outcome: Outcome, planned: Answer) -> String {
    let name = outcome.name();
    match planned {
        Answer::Wrong => format!("{name} with a wrong signature"),
        Answer::Garbage => format!("{name} with garbage"),
        _ => name,
    }
}
