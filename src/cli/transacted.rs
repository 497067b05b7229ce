//! What a server says of a transaction, how it is printed, and the exit code that follows.

use std::io::{self, Write};

use bytes::Bytes;
use serde::{Deserialize, Deserializer};

use crate::cli::failure::{Exit, Failure};
use crate::cli::http_client::{Answer, CallError, HttpClient};
use crate::cli::retry::for_terminal;
use crate::cli::table::Table;
use crate::state::releases::Phase;

/// How people want to read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Lines, and what to do next.
    Text,
    /// What the server sent.
    Json,
}

/// A transaction as the server told it.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) transaction: Transacted,
    /// The server's words, one JSON object.
    body: Bytes,
}

/// What we read of a transaction. Members that older or newer servers may lack are optional.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Transacted {
    #[serde(deserialize_with = "id")]
    pub(crate) id: String,
    #[serde(rename = "groupId")]
    pub(crate) group: String,
    pub(crate) action: String,
    #[serde(deserialize_with = "phase")]
    pub(crate) state: Phase,
    #[serde(default)]
    pub(crate) reason: Option<String>,
    #[serde(default)]
    pub(crate) tries: u64,
    #[serde(default)]
    pub(crate) changed_at: String,
    /// The path of the formula that it was made for.
    #[serde(default)]
    formula: Option<String>,
    #[serde(default)]
    nodes: Vec<NodeOf>,
}

/// One node of a transaction.
#[derive(Clone, Debug, Deserialize)]
struct NodeOf {
    url: String,
    outcome: String,
    #[serde(default)]
    attempts: u64,
    #[serde(default)]
    last_error: Option<String>,
}

impl Told {
    /// What an answer of the server tells.
    ///
    /// # Errors
    /// `Garbled`, if it tells of no transaction.
    pub(crate) fn of(answer: &Answer, client: &HttpClient) -> Result<Told, CallError> {
        let transaction = serde_json::from_slice(&answer.body).map_err(|_| client.garbled())?;
        Ok(Told { transaction, body: answer.body.clone() })
    }

    /// Prints it.
    pub(crate) fn print(&self, form: Form, out: &mut impl Write) -> Result<(), Failure> {
        let printed = match form {
            Form::Json => print_json(&self.body, out),
            Form::Text => self.transaction.print(out),
        };
        printed.map_err(Failure::Output)
    }
}

/// Prints what the server sent, on a line of its own.
pub(crate) fn print_json(body: &[u8], out: &mut impl Write) -> io::Result<()> {
    out.write_all(body.trim_ascii_end())?;
    writeln!(out)
}

impl Transacted {
    /// What its state means for whoever wanted it.
    pub(crate) fn exit(&self) -> Exit {
        match self.state.name() {
            "succeeded" => Exit::Success,
            "rolled_back" => Exit::RolledBack,
            "failed" => Exit::Failed,
            _ => Exit::Unsettled,
        }
    }

    /// A line for each node, then the state, then what to do about it.
    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let (id, action) = (for_terminal(&self.id), for_terminal(&self.action));
        writeln!(out, "transaction {id}: {action} {}", for_terminal(&self.group))?;
        let mut table = Table::indented();
        for node in &self.nodes {
            let calls = match node.attempts {
                1 => "1 call".to_owned(),
                calls => format!("{calls} calls"),
            };
            let error = node.last_error.as_deref().unwrap_or_default();
            table.row(&[&node.url, &node.outcome, &calls, error]);
        }
        table.print(out)?;
        let state = self.state.name();
        match self.reason.as_deref().filter(|reason| !reason.is_empty()) {
            Some(reason) => writeln!(out, "{state}: {}", for_terminal(reason))?,
            None => writeln!(out, "{state}")?,
        }
        self.print_next(out)
    }

    /// How the same is begun once more.
    fn print_again(&self, group: &str, out: &mut impl Write) -> io::Result<()> {
        match self.formula.as_deref().map(for_terminal) {
            None => writeln!(out, "  sillage group {} {group}", for_terminal(&self.action)),
            Some(formula) if self.action == "delete" => writeln!(out, "  DELETE {formula}"),
            Some(_) => {
                writeln!(out, "  POST /queues/releases/redrive")?;
                writeln!(out, "      has all formulas tried again whose release came to nothing")
            }
        }
    }

    fn print_next(&self, out: &mut impl Write) -> io::Result<()> {
        let (id, group) = (shell_word(&self.id), shell_word(&self.group));
        match self.exit() {
            Exit::Unsettled => {
                writeln!(out, "The server goes on by itself. To wait for the end:")?;
                writeln!(out, "  sillage transactions show {id} --wait 5m")
            }
            Exit::RolledBack => {
                writeln!(out, "The nodes are as they were. When the cause is mended:")?;
                self.print_again(&group, out)
            }
            Exit::Failed => {
                writeln!(
                    out,
                    "Nodes may differ. The group is held, and the server goes on to undo"
                )?;
                writeln!(out, "what is left by itself. Next:")?;
                writeln!(out, "  sillage group show {group}")?;
                writeln!(out, "      asks each node now")?;
                writeln!(out, "  sillage nodes")?;
                writeln!(out, "      says which of them fail, and how")?;
                writeln!(out, "  sillage transactions retry {id}")?;
                writeln!(out, "      tries it anew instead, when they are well")
            }
            _ => Ok(()),
        }
    }
}

/// An id, which is text to us, whichever way it is sent.
pub(crate) fn id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Id {
        Text(String),
        Number(u64),
    }
    Ok(match Id::deserialize(deserializer)? {
        Id::Text(text) => text,
        Id::Number(number) => number.to_string(),
    })
}

fn phase<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Phase, D::Error> {
    let name = String::deserialize(deserializer)?;
    let known = Phase::ALL.into_iter().find(|phase| phase.name() == name);
    known.ok_or_else(|| serde::de::Error::custom("not a state of transactions"))
}

/// The text as one word of a shell's command line.
pub(crate) fn shell_word(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+,=".contains(c);
    let safe = for_terminal(text);
    if !safe.is_empty() && safe.chars().all(is_plain) {
        return safe;
    }
    format!("'{}'", safe.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn printed(state: &str, reason: &str) -> (String, Exit) {
        let body = json!({
            "id": 42, "groupId": "a b", "action": "create", "state": state, "State": state,
            "reason": reason, "tries": 1, "nodes": [
                { "url": "http://127.0.0.1:5000", "outcome": "done", "attempts": 1 },
                { "url": "http://127.0.0.1:5001", "outcome": "unknown", "attempts": 2,
                  "last_error": "no answer\u{1b}[2J" },
            ],
        });
        let transaction: Transacted = serde_json::from_value(body).expect("a transaction");
        let mut out = Vec::new();
        transaction.print(&mut out).expect("memory takes it");
        (String::from_utf8(out).expect("UTF-8"), transaction.exit())
    }

    #[test]
    fn each_node_has_its_line_and_success_says_no_more() {
        let expected = "transaction 42: create a b\n  \
            http://127.0.0.1:5000  done     1 call\n  \
            http://127.0.0.1:5001  unknown  2 calls  no answer\\u{1b}[2J\nsucceeded\n";
        assert_eq!(printed("succeeded", ""), (expected.to_owned(), Exit::Success));
    }

    #[test]
    fn what_is_no_success_says_why_and_what_to_run_next() {
        for (state, exit, next) in [
            ("running", Exit::Unsettled, "  sillage transactions show 42 --wait 5m\n"),
            ("to_be_retried", Exit::Unsettled, "  sillage transactions show 42 --wait 5m\n"),
            ("rolled_back", Exit::RolledBack, "  sillage group create 'a b'\n"),
            ("failed", Exit::Failed, "  sillage transactions retry 42\n"),
            ("failed", Exit::Failed, "  sillage group show 'a b'\n"),
        ] {
            let (text, code) = printed(state, "node 2 is out");
            assert_eq!(code, exit, "{state}");
            assert!(text.contains(&format!("\n{state}: node 2 is out\n")), "{text}");
            assert!(text.contains(next), "{next} in {text}");
        }
    }

    #[test]
    fn what_was_made_for_a_formula_is_begun_anew_as_formulas_are() {
        for (action, next) in
            [("create", "  POST /queues/releases/redrive\n"), ("delete", "  DELETE /formulas/f\n")]
        {
            let body = json!({
                "id": "1", "groupId": "f", "action": action, "state": "rolled_back",
                "formula": "/formulas/f",
            });
            let transaction: Transacted = serde_json::from_value(body).expect("a transaction");
            let mut out = Vec::new();
            transaction.print(&mut out).expect("memory takes it");
            let text = String::from_utf8(out).expect("UTF-8");
            assert!(text.contains(next) && !text.contains("sillage group"), "{text}");
        }
    }

    #[test]
    fn states_that_nobody_knows_are_not_guessed() {
        let body = json!({ "id": "1", "groupId": "g", "action": "create", "state": "lost" });
        assert!(serde_json::from_value::<Transacted>(body).is_err());
    }

    #[test]
    fn words_for_a_shell_stay_one_word() {
        assert_eq!(shell_word("a-1.b"), "a-1.b");
        assert_eq!(shell_word("a b"), "'a b'");
        assert_eq!(shell_word("it's $(x)"), r"'it'\''s $(x)'");
        assert_eq!(shell_word(""), "''");
    }
}
