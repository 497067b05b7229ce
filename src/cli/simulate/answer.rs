//! What a double can be told to answer, and the two ways of telling: text and JSON.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

use crate::cli::simulate::step::Step;

/// How the authority answers one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "RawAnswer")]
pub(crate) enum Answer {
    /// As chance has it; without chances, as it should.
    Usual,
    /// As it should: 200 with the signature.
    Sign,
    /// This status, 400 to 599, with a text that says so.
    Status(u16),
    /// 200 with a well-formed signature that does not verify.
    Wrong,
    /// 200 with a page of HTML.
    Garbage,
    /// Not at all, until the client leaves.
    Hang,
    /// The connection is closed without an answer.
    Sever,
}

/// The text or number names no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadAnswer;

impl fmt::Display for BadAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "an answer is 200, a status from 400 to 599, usual, wrong, garbage, hang or sever",
        )
    }
}

impl std::error::Error for BadAnswer {}

impl FromStr for Answer {
    type Err = BadAnswer;

    fn from_str(text: &str) -> Result<Answer, BadAnswer> {
        Ok(match text {
            "usual" => Answer::Usual,
            "wrong" => Answer::Wrong,
            "garbage" => Answer::Garbage,
            "hang" => Answer::Hang,
            "sever" => Answer::Sever,
            digits => return Answer::of_status(digits.parse().map_err(|_| BadAnswer)?),
        })
    }
}

impl Answer {
    fn of_status(status: u16) -> Result<Answer, BadAnswer> {
        match status {
            200 => Ok(Answer::Sign),
            400..600 => Ok(Answer::Status(status)),
            _ => Err(BadAnswer),
        }
    }
}

/// An answer in JSON.
#[derive(Deserialize)]
#[serde(untagged, expecting = "an answer is a number or a word")]
enum RawAnswer {
    Status(u16),
    Word(String),
}

impl TryFrom<RawAnswer> for Answer {
    type Error = BadAnswer;

    fn try_from(raw: RawAnswer) -> Result<Answer, BadAnswer> {
        match raw {
            RawAnswer::Status(status) => Answer::of_status(status),
            RawAnswer::Word(word) => word.parse(),
        }
    }
}

/// How calls are answered until further notice, as `POST /behave` has it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rule {
    /// What is answered.
    #[serde(default = "usual")]
    pub(crate) answer: Answer,
    /// Milliseconds before the answer; `None`: as chance has it.
    pub(crate) delay_ms: Option<u64>,
    /// Seconds of a `Retry-After`; `None`: none.
    pub(crate) retry_after_s: Option<u64>,
    /// A body in place of the usual one.
    pub(crate) body: Option<String>,
    /// For how many calls it holds, at least 1; `None`: until another one takes its place.
    pub(crate) times: Option<u32>,
}

fn usual() -> Answer {
    Answer::Usual
}

impl Rule {
    /// The rule that leaves everything to chance.
    pub(crate) const USUAL: Rule = Rule {
        answer: Answer::Usual,
        delay_ms: None,
        retry_after_s: None,
        body: None,
        times: None,
    };

    /// One step of a script as a rule for one call.
    pub(crate) fn of_step(step: Step<Answer>) -> Rule {
        Rule { answer: step.answer, delay_ms: step.delay_ms, ..Rule::USUAL }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read_from_json_and_misspelt_ones_refused() {
        let read = serde_json::from_str::<Rule>;
        let rule = read(r#"{"answer": 502, "delay_ms": 5, "times": 2}"#).expect("a rule");
        assert_eq!(
            (rule.answer, rule.delay_ms, rule.times),
            (Answer::Status(502), Some(5), Some(2))
        );
        assert_eq!(read(r#"{"answer": "wrong"}"#).expect("a rule").answer, Answer::Wrong);
        assert_eq!(read("{}").expect("a rule"), Rule::USUAL);
        for text in [r#"{"anser": 502}"#, r#"{"answer": 302}"#, r#"{"answer": true}"#] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
