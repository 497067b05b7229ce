//! What a request can meet at a node: whatever goes wrong in the field, each with a word.
//!
//! | word | effect | answer |
//! |---|---|---|
//! | `right`, `200`, `201` | at once | as it should be |
//! | `usual` | as chance has it | as chance has it |
//! | `slow` | at once | as it should be, after a while |
//! | `late` | after a while | never |
//! | `500`, any status from 400 to 599 | none | this status |
//! | `garbage` | none | 200 with a page |
//! | `timeout` | none | never |
//! | `sever` | none | the connection is closed |
//! | one of the last four and `-after` | at once | the same |
//!
//! Never means: until the client leaves. A GET has no effect: to it `500-after` is `500`, and
//! `late` is `timeout`.

use std::fmt;
use std::str::FromStr;

use crate::cli::simulate::chance::Share;

/// What a request meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// What chance has in store.
    Usual,
    /// What it should.
    Right,
    /// What it should, but slowly.
    Slow,
    /// No answer, and an effect that takes place later.
    Late,
    /// A failure, before or after the effect.
    Fails(When, Failing),
    /// A node that is down: the connection is closed. Not from a script or by chance.
    Down,
}

/// When a request fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// Before it has had an effect, which then never takes place.
    Before,
    /// After its effect.
    After,
}

/// How a request fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failing {
    /// With this status, 400 to 599.
    Status(u16),
    /// With 200 and a page of HTML.
    Garbage,
    /// Without an answer, until the client leaves.
    Timeout,
    /// With a closed connection.
    Sever,
}

/// What chance has in store for calls.
pub(crate) const CALL_FAULTS: [Manner; 10] = [
    Manner::Fails(When::Before, Failing::Status(500)),
    Manner::Fails(When::After, Failing::Status(500)),
    Manner::Fails(When::Before, Failing::Timeout),
    Manner::Fails(When::After, Failing::Timeout),
    Manner::Late,
    Manner::Fails(When::Before, Failing::Sever),
    Manner::Fails(When::After, Failing::Sever),
    Manner::Fails(When::Before, Failing::Status(403)),
    Manner::Fails(When::Before, Failing::Garbage),
    Manner::Slow,
];

/// What chance has in store for looks.
pub(crate) const LOOK_FAULTS: [Manner; 6] = [
    Manner::Fails(When::Before, Failing::Status(500)),
    Manner::Fails(When::Before, Failing::Timeout),
    Manner::Fails(When::Before, Failing::Sever),
    Manner::Fails(When::Before, Failing::Status(403)),
    Manner::Fails(When::Before, Failing::Garbage),
    Manner::Slow,
];

/// The text names nothing that a request can meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadManner;

impl fmt::Display for BadManner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "a request meets right, usual, slow, late, or a status from 400 to 599, timeout, sever \
             or garbage, each of these also with -after",
        )
    }
}

impl std::error::Error for BadManner {}

impl FromStr for Manner {
    type Err = BadManner;

    fn from_str(text: &str) -> Result<Manner, BadManner> {
        let (word, when) = match text.strip_suffix("-after") {
            Some(word) => (word, When::After),
            None => (text, When::Before),
        };
        let failing = match word {
            "usual" if when == When::Before => return Ok(Manner::Usual),
            "right" | "200" | "201" if when == When::Before => return Ok(Manner::Right),
            "slow" if when == When::Before => return Ok(Manner::Slow),
            "late" if when == When::Before => return Ok(Manner::Late),
            "garbage" => Failing::Garbage,
            "timeout" => Failing::Timeout,
            "sever" => Failing::Sever,
            digits => match digits.parse().map_err(|_| BadManner)? {
                status @ 400..600 => Failing::Status(status),
                _ => return Err(BadManner),
            },
        };
        Ok(Manner::Fails(when, failing))
    }
}

impl fmt::Display for Manner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (when, failing) = match self {
            Manner::Usual => return f.write_str("usual"),
            Manner::Right => return f.write_str("right"),
            Manner::Slow => return f.write_str("slow"),
            Manner::Late => return f.write_str("late"),
            Manner::Down => return f.write_str("down"),
            Manner::Fails(when, failing) => (when, failing),
        };
        match failing {
            Failing::Status(status) => write!(f, "{status}")?,
            Failing::Garbage => f.write_str("garbage")?,
            Failing::Timeout => f.write_str("timeout")?,
            Failing::Sever => f.write_str("sever")?,
        }
        f.write_str(if *when == When::After { "-after" } else { "" })
    }
}

impl Manner {
    /// What it comes to for a look, which has no effect.
    pub(crate) fn of_look(self) -> Manner {
        match self {
            Manner::Fails(_, failing) => Manner::Fails(When::Before, failing),
            Manner::Late => Manner::Fails(When::Before, Failing::Timeout),
            other => other,
        }
    }
}

/// How often requests meet what. Together at most 1; the rest meet what they should.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Shares(Vec<(Manner, f64)>);

impl Shares {
    /// The share in equal parts over all of these.
    #[allow(clippy::cast_precision_loss, reason = "there are ten")]
    pub(crate) fn even(faults: &[Manner], all: Share) -> Shares {
        let each = all.fraction() / faults.len() as f64;
        Shares(faults.iter().map(|fault| (*fault, each)).collect())
    }

    /// With another share of this one.
    pub(crate) fn set(&mut self, fault: Manner, share: Share) {
        self.0.retain(|(known, _)| *known != fault);
        self.0.push((fault, share.fraction()));
    }

    /// Whether they are at most 1 together.
    pub(crate) fn is_possible(&self) -> bool {
        // Ten tenths are a little more or less than one.
        self.0.iter().map(|(_, share)| share).sum::<f64>() <= 1.0 + f64::EPSILON * 16.0
    }

    /// What a request meets.
    pub(crate) fn draw(&self, random: &mut fastrand::Rng) -> Manner {
        let mut left = random.f64();
        for (fault, share) in &self.0 {
            if left < *share {
                return *fault;
            }
            left -= share;
        }
        Manner::Right
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(text: &str) -> Share {
        text.parse().expect("a share")
    }

    fn count(shares: &Shares, wanted: Manner) -> usize {
        let mut random = fastrand::Rng::with_seed(5);
        (0..10_000).filter(|_| shares.draw(&mut random) == wanted).count()
    }

    #[test]
    fn words_are_read_as_they_are_printed() {
        for fault in CALL_FAULTS.iter().chain(&LOOK_FAULTS) {
            assert_eq!(fault.to_string().parse(), Ok(*fault));
        }
        let status_after = Manner::Fails(When::After, Failing::Status(404));
        assert_eq!("404-after".parse(), Ok(status_after));
        assert_eq!(["200", "201", "right"].map(str::parse), [Ok(Manner::Right); 3]);
        let bad = ["", "-after", "late-after", "right-after", "204", "302", "600", "down", "500-"];
        for text in bad {
            assert_eq!(text.parse::<Manner>(), Err(BadManner), "{text}");
        }
    }

    #[test]
    fn looks_meet_no_effects() {
        for fault in CALL_FAULTS {
            assert!(LOOK_FAULTS.contains(&fault.of_look()), "{fault}");
        }
    }

    #[test]
    fn a_share_is_spread_evenly_and_the_rest_is_right() {
        let shares = Shares::even(&CALL_FAULTS, share("0.3"));
        for fault in CALL_FAULTS {
            assert!((200..400).contains(&count(&shares, fault)), "{fault}");
        }
        assert!((6700..7300).contains(&count(&shares, Manner::Right)));
        assert_eq!(count(&Shares::even(&CALL_FAULTS, share("0")), Manner::Right), 10_000);
        assert_eq!(count(&Shares::even(&CALL_FAULTS, share("1")), Manner::Right), 0);
    }

    #[test]
    fn a_single_share_takes_the_place_of_its_part() {
        let mut shares = Shares::even(&CALL_FAULTS, share("0.2"));
        shares.set(Manner::Late, share("0.8"));
        assert!(shares.is_possible());
        assert!((7700..8300).contains(&count(&shares, Manner::Late)));
        shares.set(Manner::Slow, share("0.1"));
        assert!(!shares.is_possible());
        assert!(Shares::even(&CALL_FAULTS, share("1")).is_possible());
    }
}
