//! What the signer is told on its command line.

use std::path::{Path, PathBuf};

use crate::cli::failure::Failure;
use crate::cli::input::InputError;
use crate::cli::simulate::Stage;
use crate::cli::simulate::answer::{Answer, BadAnswer};
use crate::cli::simulate::chance::{Chances, Latency, Share};
use crate::cli::simulate::step::{BadStep, Step};
use crate::cli::simulate::window::Rate;
use crate::limits::SIMULATE_DEGRADED_S_MAX;

/// Play the authority: signs messages, unreliably, and counts calls strictly
///
/// Makes an RSA key of 2048 bits at the start. Without any of the chances below, every call is
/// answered at once and right; beyond the rate it is answered 429, and a violation is recorded.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sillage simulate signer --listen 127.0.0.1:9001 --key sesame
  sillage simulate signer --key sesame --fail 0.5 --degraded-s 120 --latency-ms 50..3000 \\
    --hang 0.05 --wrong 0.01 --seed 7        as it is in the field, and the same each time
  sillage simulate signer --answer 502 --answer 200@3s --answer hang

Ask it, and tell it how to behave while it runs (NAME is a message; `usual` undoes a rule):
  curl http://127.0.0.1:9001/stats
  curl http://127.0.0.1:9001/behave -d '{\"message\": \"NAME\", \"answer\": 502, \"times\": 3}'
  curl http://127.0.0.1:9001/behave -d '{\"default\": {\"answer\": 200, \"delay_ms\": 10000}}'

Answers: 200, a status from 400 to 599, wrong (a signature that does not verify), garbage (HTML),
hang (none until the client leaves), sever (the connection is closed), usual (as chance has it).

Exit codes: 0 ended by a signal, 2 wrong usage, 74 the port is in use or a file cannot be read or
written.")]
pub(crate) struct SignerArgs {
    #[command(flatten)]
    pub(super) stage: Stage,
    /// How many calls are allowed in any window, such as 10/min, 3/s or 10/3s
    #[arg(long, default_value = "10/min")]
    pub(super) rate: Rate,
    /// What `Authorization` must hold; without it everybody is authorised
    #[arg(long)]
    pub(super) key: Option<String>,
    /// How often a call makes its message degraded: for minutes every call about it fails
    #[arg(long, value_name = "SHARE", default_value = "0")]
    fail: Share,
    /// Seconds of a degradation on average
    #[arg(long, default_value_t = 120)]
    #[arg(value_parser = clap::value_parser!(u64).range(0..=SIMULATE_DEGRADED_S_MAX))]
    degraded_s: u64,
    /// Milliseconds until an answer, such as 50..3000
    #[arg(long, value_name = "LEAST..MOST", default_value = "0")]
    latency_ms: Latency,
    /// How often a call is not answered at all
    #[arg(long, value_name = "SHARE", default_value = "0")]
    hang: Share,
    /// How often a signature is wrong
    #[arg(long, value_name = "SHARE", default_value = "0")]
    wrong: Share,
    /// What the first, second, … call for a signature is answered with; then as usual
    #[arg(long = "answer", value_name = "ANSWER[@DELAY]")]
    answers: Vec<Step<Answer>>,
    /// A file of such answers, one a line
    #[arg(long, value_name = "FILE", conflicts_with = "answers")]
    script: Option<PathBuf>,
    /// Where to write the public key, in PEM
    #[arg(long, value_name = "FILE")]
    pub(super) public_key_out: Option<PathBuf>,
}

impl SignerArgs {
    /// What the first calls for a signature are answered with.
    pub(super) fn script(&self) -> Result<Vec<Step<Answer>>, Failure> {
        self.script.as_deref().map_or_else(|| Ok(self.answers.clone()), read_script)
    }

    /// How unreliable it is.
    pub(super) fn chances(&self, seed: u64) -> Chances {
        Chances {
            seed,
            fail: self.fail,
            degraded_ms: self.degraded_s * 1000,
            latency: self.latency_ms.clone(),
            hang: self.hang,
            wrong: self.wrong,
        }
    }
}

/// Reads a script: one step a line; empty lines and those that begin with `#` say nothing.
fn read_script(path: &Path) -> Result<Vec<Step<Answer>>, Failure> {
    let failed = |error| Failure::Input { path: path.to_owned(), error };
    let text = std::fs::read_to_string(path).map_err(|e| failed(InputError::Unreadable(e)))?;
    let lines = (1..).zip(text.lines().map(str::trim));
    let steps = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let expected = "an answer such as 502, hang or 200@300ms";
    let read = |(line, step): (u64, &str)| {
        step.parse()
            .map_err(|_: BadStep<BadAnswer>| failed(InputError::Malformed { line, expected }))
    };
    steps.map(read).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_script_has_an_answer_a_line_and_says_where_it_is_wrong() {
        let mut file = tempfile::NamedTempFile::new().expect("a file can be made");
        file.write_all(b"# first\n502\n\n  200@300ms\r\nhang\n").expect("it can be written");
        let steps = read_script(file.path()).expect("a script");
        assert_eq!(steps, ["502", "200@300ms", "hang"].map(|step| step.parse().expect("a step")));
        file.write_all(b"302\n").expect("it can be written");
        let failure = read_script(file.path()).expect_err("302 is no answer");
        assert!(failure.to_string().contains("line 6: expected an answer such as"), "{failure}");
    }
}
