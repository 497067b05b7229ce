//! How the receiver answers: its modes, and what `POST /behave` changes of them.
//!
//! ```json
//! {"path": "/a", "mode": "status:503", "fail_first": 3, "fail_status": 500, "delay_ms": 20,
//!  "retry_after_s": 1, "secrets": ["whsec_…"]}
//! ```
//!
//! All members may be left out and stay as they were then. Without `path` it is for all paths that
//! were not told otherwise; a path that is told for the first time begins as those are.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

use crate::limits::{SIMULATE_DELAY_MS_MAX, SIMULATE_RULES_MAX, SIMULATE_SECRETS_MAX};
use crate::outbound::signature::{Secret, SecretFault};

/// How a flaky receiver fails.
const FLAKY_ENDINGS: [Ending; 4] =
    [Ending::Status(500), Ending::Status(503), Ending::Status(429), Ending::Sever];

/// How deliveries are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// 200.
    Success,
    /// Half of the calls fail.
    Flaky,
    /// 200, after a while.
    Slow,
    /// 410: never again.
    Gone,
    /// This status from 300 to 399, and elsewhere.
    Redirect(u16),
    /// This status, 200 to 599.
    Status(u16),
    /// No answer, until the client leaves.
    Hang,
    /// The connection is closed without an answer.
    Sever,
}

/// The text names no mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadMode;

impl fmt::Display for BadMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "a mode is success, flaky, slow, gone, redirect, redirect:STATUS, status:STATUS, hang \
             or sever",
        )
    }
}

impl std::error::Error for BadMode {}

impl FromStr for Mode {
    type Err = BadMode;

    fn from_str(text: &str) -> Result<Mode, BadMode> {
        let (name, status) = match text.split_once(':') {
            Some((name, status)) => (name, Some(status.parse::<u16>().map_err(|_| BadMode)?)),
            None => (text, None),
        };
        match (name, status) {
            ("success", None) => Ok(Mode::Success),
            ("flaky", None) => Ok(Mode::Flaky),
            ("slow", None) => Ok(Mode::Slow),
            ("gone", None) => Ok(Mode::Gone),
            ("hang", None) => Ok(Mode::Hang),
            ("sever", None) => Ok(Mode::Sever),
            ("redirect", None) => Ok(Mode::Redirect(302)),
            ("redirect", Some(status @ 300..400)) => Ok(Mode::Redirect(status)),
            ("status", Some(status @ 200..600)) => Ok(Mode::Status(status)),
            _ => Err(BadMode),
        }
    }
}

/// How one delivery ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// With this status.
    Status(u16),
    /// Not at all.
    Hang,
    /// With a closed connection.
    Sever,
}

/// How a path behaves.
#[derive(Clone, Debug)]
pub(super) struct Conduct {
    /// How deliveries are answered that are not failed for another reason.
    pub(super) mode: Mode,
    /// How many of the first calls of each id fail.
    pub(super) fail_first: u64,
    /// The status of those.
    pub(super) fail_status: u16,
    /// Milliseconds before an answer; `None`: what the mode takes.
    pub(super) delay_ms: Option<u64>,
    /// Seconds of `Retry-After` on all that is no success; `None`: none.
    pub(super) retry_after_s: Option<u64>,
    /// What deliveries may be signed with; empty: nothing is verified.
    pub(super) secrets: Vec<Secret>,
}

impl Default for Conduct {
    fn default() -> Conduct {
        Conduct {
            mode: Mode::Success,
            fail_first: 0,
            fail_status: 503,
            delay_ms: None,
            retry_after_s: None,
            secrets: Vec::new(),
        }
    }
}

impl Conduct {
    /// How the given attempt at a delivery ends, counted from 1; 0: it has no id to be counted by.
    pub(super) fn ending(&self, attempt: u64, random: &mut fastrand::Rng) -> Ending {
        if (1..=self.fail_first).contains(&attempt) {
            return Ending::Status(self.fail_status);
        }
        match self.mode {
            Mode::Success | Mode::Slow => Ending::Status(200),
            Mode::Flaky if random.bool() => FLAKY_ENDINGS[random.usize(..FLAKY_ENDINGS.len())],
            Mode::Flaky => Ending::Status(200),
            Mode::Gone => Ending::Status(410),
            Mode::Redirect(status) | Mode::Status(status) => Ending::Status(status),
            Mode::Hang => Ending::Hang,
            Mode::Sever => Ending::Sever,
        }
    }

    fn change(&mut self, told: Told) -> Result<(), Fault> {
        let mode = told.mode.map(|text| text.parse().map_err(Fault::Mode)).transpose()?;
        let secrets = told.secrets.map(|texts| read_secrets(&texts)).transpose()?;
        if told.fail_status.is_some_and(|status| !(200..600).contains(&status)) {
            return Err(Fault::Status);
        }
        if told.delay_ms.is_some_and(|ms| ms > SIMULATE_DELAY_MS_MAX) {
            return Err(Fault::Delay);
        }
        self.mode = mode.unwrap_or(self.mode);
        self.fail_first = told.fail_first.unwrap_or(self.fail_first);
        self.fail_status = told.fail_status.unwrap_or(self.fail_status);
        self.delay_ms = told.delay_ms.or(self.delay_ms);
        self.retry_after_s = told.retry_after_s.or(self.retry_after_s);
        self.secrets = secrets.unwrap_or_else(|| std::mem::take(&mut self.secrets));
        Ok(())
    }
}

fn read_secrets(texts: &[String]) -> Result<Vec<Secret>, Fault> {
    if texts.len() > SIMULATE_SECRETS_MAX {
        return Err(Fault::TooMany);
    }
    texts.iter().map(|text| Secret::parse(text).map_err(Fault::Secret)).collect()
}

/// What `POST /behave` brings.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Told {
    path: Option<String>,
    mode: Option<String>,
    fail_first: Option<u64>,
    fail_status: Option<u16>,
    delay_ms: Option<u64>,
    retry_after_s: Option<u64>,
    secrets: Option<Vec<String>>,
}

/// Why it was not understood. Nothing has changed then.
#[derive(Debug)]
pub(super) enum Fault {
    /// No JSON object, or a member that is not known or has no sane value.
    Malformed(serde_json::Error),
    /// The mode.
    Mode(BadMode),
    /// One of the secrets.
    Secret(SecretFault),
    /// `fail_status` is none that can be answered.
    Status,
    /// `delay_ms` is above `SIMULATE_DELAY_MS_MAX`.
    Delay,
    /// More secrets or paths than there is room for.
    TooMany,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Malformed(error) => error.fmt(f),
            Fault::Mode(bad) => bad.fmt(f),
            Fault::Secret(bad) => bad.fmt(f),
            Fault::Status => f.write_str("fail_status is from 200 to 599"),
            Fault::Delay => write!(f, "delay_ms is at most {SIMULATE_DELAY_MS_MAX}"),
            Fault::TooMany => write!(
                f,
                "at most {SIMULATE_SECRETS_MAX} secrets and {SIMULATE_RULES_MAX} paths have room"
            ),
        }
    }
}

/// How all paths behave.
#[derive(Debug)]
pub(super) struct Conducts {
    usual: Conduct,
    of_paths: BTreeMap<String, Conduct>,
}

impl Conducts {
    /// All alike.
    pub(super) fn new(usual: Conduct) -> Conducts {
        Conducts { usual, of_paths: BTreeMap::new() }
    }

    /// How this path behaves.
    pub(super) fn of(&self, path: &str) -> &Conduct {
        self.of_paths.get(path).unwrap_or(&self.usual)
    }

    /// Takes in what `POST /behave` brought.
    pub(super) fn tell(&mut self, body: &[u8]) -> Result<(), Fault> {
        let mut told: Told = serde_json::from_slice(body).map_err(Fault::Malformed)?;
        let Some(path) = told.path.take() else {
            return self.usual.change(told);
        };
        if self.of_paths.len() >= SIMULATE_RULES_MAX && !self.of_paths.contains_key(&path) {
            return Err(Fault::TooMany);
        }
        let mut conduct = self.of(&path).clone();
        conduct.change(told)?;
        self.of_paths.insert(path, conduct);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conducts() -> Conducts {
        Conducts::new(Conduct::default())
    }

    fn endings(conduct: &Conduct, seed: u64) -> Vec<Ending> {
        let mut random = fastrand::Rng::with_seed(seed);
        (1..=40).map(|attempt| conduct.ending(attempt, &mut random)).collect()
    }

    #[test]
    fn modes_are_read_and_refused() {
        assert_eq!("success".parse(), Ok(Mode::Success));
        assert_eq!("redirect".parse(), Ok(Mode::Redirect(302)));
        assert_eq!("redirect:307".parse(), Ok(Mode::Redirect(307)));
        assert_eq!("status:503".parse(), Ok(Mode::Status(503)));
        let bad = ["", "Success", "success:200", "redirect:200", "status", "status:100", "status:"];
        for text in bad {
            assert_eq!(text.parse::<Mode>(), Err(BadMode), "{text}");
        }
    }

    #[test]
    fn what_is_left_out_stays_as_it_was() {
        let mut conducts = conducts();
        conducts.tell(br#"{"mode": "gone", "retry_after_s": 2}"#).expect("understood");
        conducts.tell(br#"{"path": "/a", "fail_first": 1}"#).expect("understood");
        conducts.tell(br#"{"mode": "success"}"#).expect("understood");
        let (a, b) = (conducts.of("/a"), conducts.of("/b"));
        assert_eq!((a.mode, a.fail_first, a.retry_after_s), (Mode::Gone, 1, Some(2)));
        assert_eq!((b.mode, b.fail_first, b.retry_after_s), (Mode::Success, 0, Some(2)));
    }

    #[test]
    fn what_is_not_understood_changes_nothing() {
        let mut conducts = conducts();
        let bad = [
            "",
            "7",
            r#"{"mode": "gone", "fail_first": -1}"#,
            r#"{"mode": "gone", "secrets": ["whsec_"]}"#,
            r#"{"mode": "gone", "fail_status": 99}"#,
            r#"{"mode": "gone", "delay_ms": 3600001}"#,
            r#"{"path": "/a", "mode": "odd"}"#,
            r#"{"modes": "gone"}"#,
        ];
        for body in bad {
            assert!(conducts.tell(body.as_bytes()).is_err(), "{body}");
        }
        assert_eq!(conducts.of("/a").mode, Mode::Success);
        assert!(conducts.of_paths.is_empty());
    }

    #[test]
    fn the_first_calls_fail_and_then_the_mode_holds() {
        let mut conducts = conducts();
        conducts.tell(br#"{"fail_first": 2, "fail_status": 500}"#).expect("understood");
        let found = endings(conducts.of("/"), 0);
        assert_eq!(found[..3], [500, 500, 200].map(Ending::Status));
        let mut random = fastrand::Rng::with_seed(0);
        assert_eq!(conducts.of("/").ending(0, &mut random), Ending::Status(200));
    }

    #[test]
    fn flaky_fails_and_succeeds_and_repeats_itself() {
        let flaky = Conduct { mode: Mode::Flaky, ..Conduct::default() };
        let found = endings(&flaky, 7);
        assert_eq!(found, endings(&flaky, 7));
        let successes = found.iter().filter(|ending| **ending == Ending::Status(200)).count();
        assert!((10..30).contains(&successes), "{successes}");
    }
}
