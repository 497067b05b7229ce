//! Chance that can be repeated: what a call meets follows from the seed, what it is about, and
//! how many calls about the same came before. What else is going on changes nothing.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::cli::simulate::answer::Answer;
use crate::limits::SIMULATE_DELAY_MS_MAX;

/// What an authority answers about a message while it is degraded: mostly 502, which is what
/// stands in front of it, and now and then what it says itself.
const DEGRADED_STATUSES: [u16; 6] = [502, 502, 502, 503, 400, 404];

/// Random numbers for the given call about the subject.
pub(crate) fn random_of(seed: u64, subject: &str, call: u64) -> fastrand::Rng {
    let hash = Sha256::new()
        .chain_update(seed.to_le_bytes())
        .chain_update(call.to_le_bytes())
        .chain_update(subject)
        .finalize();
    let (first, _) = hash.split_first_chunk().expect("a hash has 32 bytes");
    fastrand::Rng::with_seed(u64::from_le_bytes(*first))
}

/// A share of all calls, from 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(try_from = "f64")]
pub(crate) struct Share(f64);

/// The text is no share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadShare;

impl fmt::Display for BadShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a share is a number from 0 to 1, such as 0.05")
    }
}

impl std::error::Error for BadShare {}

impl FromStr for Share {
    type Err = BadShare;

    fn from_str(text: &str) -> Result<Share, BadShare> {
        text.parse::<f64>().map_err(|_| BadShare)?.try_into()
    }
}

impl TryFrom<f64> for Share {
    type Error = BadShare;

    fn try_from(number: f64) -> Result<Share, BadShare> {
        if (0.0..=1.0).contains(&number) { Ok(Share(number)) } else { Err(BadShare) }
    }
}

impl Share {
    /// As a number from 0 to 1.
    pub(crate) fn fraction(self) -> f64 {
        self.0
    }

    /// Draws whether a call is one of them.
    pub(crate) fn draw(self, random: &mut fastrand::Rng) -> bool {
        random.f64() < self.0
    }
}

/// Least and most milliseconds of an answer, such as `50..3000`, both included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Latency(RangeInclusive<u64>);

/// The text is no latency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadLatency;

impl fmt::Display for BadLatency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a latency is milliseconds such as 50..3000 or 20, at most an hour")
    }
}

impl std::error::Error for BadLatency {}

impl FromStr for Latency {
    type Err = BadLatency;

    fn from_str(text: &str) -> Result<Latency, BadLatency> {
        let (least, most) = text.split_once("..").unwrap_or((text, text));
        let read = |digits: &str| digits.parse::<u64>().map_err(|_| BadLatency);
        let (least, most) = (read(least)?, read(most)?);
        let is_in_order = least <= most && most <= SIMULATE_DELAY_MS_MAX;
        if is_in_order { Ok(Latency(least..=most)) } else { Err(BadLatency) }
    }
}

/// How unreliable the authority is.
#[derive(Clone, Debug)]
pub(crate) struct Chances {
    /// What all chance grows from.
    pub(crate) seed: u64,
    /// How often a sound message becomes degraded by a call.
    pub(crate) fail: Share,
    /// Milliseconds of a degradation on average; each lasts half to one and a half times that.
    pub(crate) degraded_ms: u64,
    /// How long an answer takes.
    pub(crate) latency: Latency,
    /// How often there is no answer.
    pub(crate) hang: Share,
    /// How often the signature is wrong.
    pub(crate) wrong: Share,
}

/// What chance has had in store for a message so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Health {
    /// Calls about it.
    pub(crate) calls: u64,
    /// Until when all calls fail, in microseconds; 0: it has never been degraded.
    pub(crate) degraded_until_us: u64,
}

impl Chances {
    /// What the next call about the message meets, and after how many milliseconds.
    pub(crate) fn draw(&self, message: &str, health: &mut Health, now_us: u64) -> (Answer, u64) {
        let mut random = random_of(self.seed, message, health.calls);
        health.calls += 1;
        // All is drawn, needed or not, so that one chance does not shift the others.
        let delay_ms = random.u64(self.latency.0.clone());
        let (hangs, is_wrong) = (self.hang.draw(&mut random), self.wrong.draw(&mut random));
        let becomes_degraded = self.fail.draw(&mut random);
        let lasts_ms = random.u64(self.degraded_ms / 2..=self.degraded_ms + self.degraded_ms / 2);
        let status = DEGRADED_STATUSES[random.usize(..DEGRADED_STATUSES.len())];
        if now_us >= health.degraded_until_us && becomes_degraded {
            // At least this call fails, however short degradations are.
            health.degraded_until_us = now_us + (lasts_ms * 1000).max(1);
        }
        let answer = match () {
            () if hangs => Answer::Hang,
            () if now_us < health.degraded_until_us => Answer::Status(status),
            () if is_wrong => Answer::Wrong,
            () => Answer::Sign,
        };
        (answer, delay_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chances(fail: f64) -> Chances {
        let none = Share(0.0);
        let latency = Latency(50..=60);
        Chances { seed: 3, fail: Share(fail), degraded_ms: 1000, latency, hang: none, wrong: none }
    }

    #[test]
    fn the_same_calls_meet_the_same() {
        let chances = Chances { hang: Share(0.2), wrong: Share(0.2), ..chances(0.3) };
        let run = |message: &str| {
            let mut health = Health::default();
            (0..100).map(|at| chances.draw(message, &mut health, at * 100_000)).collect::<Vec<_>>()
        };
        assert_eq!(run("A"), run("A"));
        assert_ne!(run("A"), run("B"));
    }

    #[test]
    fn a_degraded_message_goes_on_failing_until_it_is_over() {
        let chances = chances(0.5);
        let mut ends = 0;
        for number in 0..100 {
            let message = number.to_string();
            let mut health = Health::default();
            for at_us in (0..20_000_000).step_by(50_000) {
                let before = health.degraded_until_us;
                let (answer, _) = chances.draw(&message, &mut health, at_us);
                let fails = matches!(answer, Answer::Status(400..600));
                assert_eq!(fails, at_us < health.degraded_until_us, "{message} at {at_us}");
                if at_us < before {
                    assert_eq!(health.degraded_until_us, before, "it does not begin anew");
                } else if fails {
                    let lasts_us = health.degraded_until_us - at_us;
                    assert!((500_000..=1_500_000).contains(&lasts_us), "{lasts_us}");
                } else {
                    ends += u32::from(before > 0);
                }
            }
        }
        assert!(ends > 100, "degradations end: {ends}");
    }

    #[test]
    fn shares_are_met() {
        let count = |chances: &Chances, wanted: fn(&Answer) -> bool| {
            let draw = |n: u64| chances.draw(&n.to_string(), &mut Health::default(), 0).0;
            (0..10_000).map(draw).filter(wanted).count()
        };
        let failing = |answer: &Answer| matches!(answer, Answer::Status(_));
        assert_eq!(count(&chances(0.0), failing), 0);
        assert_eq!(count(&chances(1.0), failing), 10_000);
        assert!((2700..3300).contains(&count(&chances(0.3), failing)));
        let hanging = Chances { hang: Share(0.05), ..chances(0.0) };
        assert!((400..600).contains(&count(&hanging, |answer| *answer == Answer::Hang)));
    }

    #[test]
    fn shares_and_latencies_are_read_and_refused() {
        assert_eq!("0.5".parse(), Ok(Share(0.5)));
        assert_eq!("1".parse(), Ok(Share(1.0)));
        for text in ["", "-0.1", "1.01", "nan", "inf", "half"] {
            assert_eq!(text.parse::<Share>(), Err(BadShare), "{text}");
        }
        assert_eq!("50..3000".parse(), Ok(Latency(50..=3000)));
        assert_eq!("20".parse(), Ok(Latency(20..=20)));
        for text in ["", "..", "5..", "..5", "6..5", "5..3600001", "-1..5", "1ms"] {
            assert_eq!(text.parse::<Latency>(), Err(BadLatency), "{text}");
        }
    }
}
