//! One step of a script: what is answered, and what it waits for.

use std::error::Error;
use std::fmt;
use std::str::FromStr;

use crate::config::units::parse_duration_ms;
use crate::limits::SIMULATE_DELAY_MS_MAX;

/// One step of a script, such as `502` or `200@300ms`. `A` is what the double can answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Step<A> {
    /// What is answered.
    pub(crate) answer: A,
    /// Milliseconds before it, at most `SIMULATE_DELAY_MS_MAX`; `None`: what is usual.
    pub(crate) delay_ms: Option<u64>,
}

/// The text is no step of a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadStep<E> {
    /// What stands before `@`.
    Answer(E),
    /// What stands behind it.
    Delay,
}

impl<E: fmt::Display> fmt::Display for BadStep<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadStep::Answer(bad) => write!(f, "{bad}; a delay follows as in 200@300ms"),
            BadStep::Delay => f.write_str("a delay is such as 300ms or 10s, at most an hour"),
        }
    }
}

impl<E: Error> Error for BadStep<E> {}

impl<A: FromStr> FromStr for Step<A> {
    type Err = BadStep<A::Err>;

    fn from_str(text: &str) -> Result<Step<A>, Self::Err> {
        let (answer, delay) = match text.split_once('@') {
            Some((answer, delay)) => (answer, Some(delay)),
            None => (text, None),
        };
        let answer = answer.parse().map_err(BadStep::Answer)?;
        let read = |delay| parse_duration_ms(delay).filter(|ms| *ms <= SIMULATE_DELAY_MS_MAX);
        let delay_ms = delay.map(|delay| read(delay).ok_or(BadStep::Delay)).transpose()?;
        Ok(Step { answer, delay_ms })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::simulate::answer::{Answer, BadAnswer};

    fn step(text: &str) -> Result<Step<Answer>, BadStep<BadAnswer>> {
        text.parse()
    }

    #[test]
    fn steps_are_read_with_and_without_a_delay() {
        assert_eq!(step("502"), Ok(Step { answer: Answer::Status(502), delay_ms: None }));
        assert_eq!(step("200@300ms"), Ok(Step { answer: Answer::Sign, delay_ms: Some(300) }));
        assert_eq!(step("hang"), Ok(Step { answer: Answer::Hang, delay_ms: None }));
    }

    #[test]
    fn what_is_no_step_is_refused() {
        for text in ["", "199", "302", "600", "99999", "nothing", "@1s", "Hang"] {
            assert_eq!(step(text), Err(BadStep::Answer(BadAnswer)), "{text}");
        }
        for text in ["200@", "200@3", "200@2h", "200@1s@1s"] {
            assert_eq!(step(text), Err(BadStep::Delay), "{text}");
        }
    }
}
