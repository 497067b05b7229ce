//! What the authority was told: the script at its start, and `POST /behave`.
//!
//! ```json
//! {"message": "A", "answer": 502, "delay_ms": 20, "retry_after_s": 3, "body": "x", "times": 2}
//! {"default": {"answer": 200, "delay_ms": 10000}, "verify": {…}, "probe": {…}}
//! {"script": ["502", "200@300ms"], "key": "the new key"}
//! ```
//!
//! All members may be left out. A rule stands until another takes its place, or for as many calls
//! as its `times`; `"answer": "usual"` is as if there were none.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::cli::simulate::answer::{Answer, BadAnswer, Rule};
use crate::cli::simulate::signer::stats::Call;
use crate::cli::simulate::step::{BadStep, Step};
use crate::limits::SIMULATE_RULES_MAX;

/// How calls are to be answered.
#[derive(Debug)]
pub(super) struct Rules {
    of_messages: BTreeMap<String, Rule>,
    script: VecDeque<Step<Answer>>,
    sign: Rule,
    verify: Rule,
    probe: Rule,
}

/// What was told beside rules.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// The key that `Authorization` must hold from now on.
    pub(super) key: Option<String>,
}

/// Why it was not understood. Nothing has changed then.
#[derive(Debug)]
pub(super) enum Fault {
    /// No JSON object, or a member that is not known or has no sane value.
    Malformed(serde_json::Error),
    /// A step of the script.
    Step(BadStep<BadAnswer>),
    /// There are `SIMULATE_RULES_MAX` already.
    TooMany,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Malformed(error) => error.fmt(f),
            Fault::Step(bad) => bad.fmt(f),
            Fault::TooMany => write!(f, "there are {SIMULATE_RULES_MAX} rules, and no room"),
        }
    }
}

/// Everything but the rule of a message.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    default: Option<Rule>,
    verify: Option<Rule>,
    probe: Option<Rule>,
    script: Option<Vec<String>>,
    key: Option<String>,
}

impl Rules {
    /// Only the script.
    pub(super) fn new(script: Vec<Step<Answer>>) -> Rules {
        let [sign, verify, probe] = [Rule::USUAL, Rule::USUAL, Rule::USUAL];
        Rules { of_messages: BTreeMap::new(), script: script.into(), sign, verify, probe }
    }

    /// The rule for a call that is answered now.
    pub(super) fn next(&mut self, call: Call, message: &str) -> Rule {
        match call {
            Call::Verify => take_turn(&mut self.verify),
            Call::Probe => take_turn(&mut self.probe),
            Call::Sign => match self.of_messages.get_mut(message) {
                Some(rule) => {
                    let turn = take_turn(rule);
                    if *rule == Rule::USUAL {
                        self.of_messages.remove(message);
                    }
                    turn
                }
                None => match self.script.pop_front() {
                    Some(step) => Rule::of_step(step),
                    None => take_turn(&mut self.sign),
                },
            },
        }
    }

    /// Takes in what `POST /behave` brought.
    pub(super) fn tell(&mut self, body: &[u8]) -> Result<Told, Fault> {
        let mut members: Map<String, Value> =
            serde_json::from_slice(body).map_err(Fault::Malformed)?;
        match members.remove("message") {
            Some(message) => {
                let message = String::deserialize(message).map_err(Fault::Malformed)?;
                let rule = Rule::deserialize(Value::Object(members)).map_err(Fault::Malformed)?;
                self.rule_message(message, rule)?;
                Ok(Told::default())
            }
            None => {
                self.set(Settings::deserialize(Value::Object(members)).map_err(Fault::Malformed)?)
            }
        }
    }

    fn rule_message(&mut self, message: String, rule: Rule) -> Result<(), Fault> {
        let is_full = self.of_messages.len() >= SIMULATE_RULES_MAX;
        if rule == Rule::USUAL {
            self.of_messages.remove(&message);
        } else if is_full && !self.of_messages.contains_key(&message) {
            return Err(Fault::TooMany);
        } else {
            self.of_messages.insert(message, rule);
        }
        Ok(())
    }

    fn set(&mut self, settings: Settings) -> Result<Told, Fault> {
        let script = settings.script.map(|steps| {
            steps.iter().map(|step| step.parse().map_err(Fault::Step)).collect::<Result<_, _>>()
        });
        let script: Option<VecDeque<Step<Answer>>> = script.transpose()?;
        if script.as_ref().is_some_and(|script| script.len() > SIMULATE_RULES_MAX) {
            return Err(Fault::TooMany);
        }
        self.script = script.unwrap_or_else(|| std::mem::take(&mut self.script));
        let rules = [&mut self.sign, &mut self.verify, &mut self.probe];
        let told = [settings.default, settings.verify, settings.probe];
        for (rule, told) in rules.into_iter().zip(told) {
            *rule = told.unwrap_or_else(|| rule.clone());
        }
        Ok(Told { key: settings.key })
    }
}

/// The rule for one call; one whose calls are used up becomes the usual one.
fn take_turn(rule: &mut Rule) -> Rule {
    let turn = rule.clone();
    match &mut rule.times {
        Some(times) if *times > 1 => *times -= 1,
        Some(_) => *rule = Rule::USUAL,
        None => (),
    }
    turn
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(rules: &mut Rules, message: &str, calls: usize) -> Vec<Answer> {
        (0..calls).map(|_| rules.next(Call::Sign, message).answer).collect()
    }

    #[test]
    fn a_rule_for_a_message_comes_before_script_and_default() {
        let mut rules = Rules::new(vec!["hang".parse().expect("a step")]);
        rules.tell(br#"{"message": "A", "answer": 502, "times": 2}"#).expect("understood");
        rules.tell(br#"{"default": {"answer": 503}}"#).expect("understood");
        let [failed, unavailable] = [Answer::Status(502), Answer::Status(503)];
        assert_eq!(answers(&mut rules, "A", 4), [failed, failed, Answer::Hang, unavailable]);
        assert_eq!(answers(&mut rules, "B", 1), [unavailable]);
        assert_eq!(rules.next(Call::Verify, "A").answer, Answer::Usual);
        assert_eq!(rules.next(Call::Probe, "").answer, Answer::Usual);
    }

    #[test]
    fn usual_undoes_a_rule() {
        let mut rules = Rules::new(Vec::new());
        rules.tell(br#"{"message": "A", "answer": "wrong"}"#).expect("understood");
        assert_eq!(answers(&mut rules, "A", 2), [Answer::Wrong, Answer::Wrong]);
        rules.tell(br#"{"message": "A", "answer": "usual"}"#).expect("understood");
        assert_eq!(answers(&mut rules, "A", 1), [Answer::Usual]);
        assert!(rules.of_messages.is_empty());
    }

    #[test]
    fn what_is_not_understood_changes_nothing() {
        let mut rules = Rules::new(Vec::new());
        let bad = [
            "",
            "[]",
            r#"{"message": "A", "anser": 502}"#,
            r#"{"message": 7, "answer": 502}"#,
            r#"{"mesage": "A"}"#,
            r#"{"default": {"answer": 502}, "script": ["302"]}"#,
            r#"{"default": {"answer": 502, "times": -1}}"#,
        ];
        for body in bad {
            assert!(rules.tell(body.as_bytes()).is_err(), "{body}");
        }
        assert_eq!(answers(&mut rules, "A", 1), [Answer::Usual]);
    }

    #[test]
    fn rules_are_bounded() {
        let mut rules = Rules::new(Vec::new());
        for number in 0..SIMULATE_RULES_MAX {
            rules
                .rule_message(number.to_string(), Rule { times: Some(1), ..Rule::USUAL })
                .expect("there is room");
        }
        assert!(matches!(rules.tell(br#"{"message": "A", "answer": 502}"#), Err(Fault::TooMany)));
        rules.tell(br#"{"message": "0", "answer": 502}"#).expect("it has a place already");
    }
}
