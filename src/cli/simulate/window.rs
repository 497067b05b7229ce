//! How many calls were made in any window of time, counted as strictly as a caller may fear.
//!
//! Every call counts at its arrival, the refused ones, too. Two calls are in one window if less
//! than its length lies between them; time is in microseconds, so that a caller that counts in
//! milliseconds and rounds the wrong way is found out.

use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;

use crate::limits::{SIMULATE_ARRIVALS_MAX, SIMULATE_RATE_CALLS_MAX, SIMULATE_WINDOW_MS_MAX};

/// At most so many calls in any window of this length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate {
    /// Calls, at least 1 and at most `SIMULATE_RATE_CALLS_MAX`.
    pub(crate) calls: usize,
    /// The window in milliseconds, at least 1 and at most `SIMULATE_WINDOW_MS_MAX`.
    pub(crate) window_ms: u64,
}

/// The text is no rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadRate;

impl fmt::Display for BadRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "a rate is calls per ms, s, min, h or a number of them, such as 10/min or 10/3s, with \
             1 to {SIMULATE_RATE_CALLS_MAX} calls in at most a day"
        )
    }
}

impl std::error::Error for BadRate {}

impl FromStr for Rate {
    type Err = BadRate;

    fn from_str(text: &str) -> Result<Rate, BadRate> {
        let (calls, per) = text.split_once('/').ok_or(BadRate)?;
        let calls = whole(calls).and_then(|calls| usize::try_from(calls).ok()).ok_or(BadRate)?;
        let unit_at = per.find(|c: char| !c.is_ascii_digit()).ok_or(BadRate)?;
        let (count, unit) = per.split_at(unit_at);
        let count = if count.is_empty() { 1 } else { whole(count).ok_or(BadRate)? };
        let unit_ms = match unit {
            "ms" => 1,
            "s" => 1000,
            "min" => 60_000,
            "h" => 3_600_000,
            _ => return Err(BadRate),
        };
        let window_ms = count.checked_mul(unit_ms).ok_or(BadRate)?;
        let is_in_range = (1..=SIMULATE_RATE_CALLS_MAX).contains(&calls)
            && (1..=SIMULATE_WINDOW_MS_MAX).contains(&window_ms);
        if is_in_range { Ok(Rate { calls, window_ms }) } else { Err(BadRate) }
    }
}

fn whole(digits: &str) -> Option<u64> {
    // `parse` alone would take a plus sign, too.
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} per {} ms", self.calls, self.window_ms)
    }
}

/// What the count says of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is one of those that the rate allows.
    Within,
    /// It is one too many.
    Beyond {
        /// Calls in the window that ends with it, itself among them.
        calls: usize,
        /// Microseconds until a call would be within the rate if none came before.
        free_in_us: u64,
    },
}

/// The calls so far.
#[derive(Debug)]
pub(crate) struct Window {
    rate: Rate,
    /// Microseconds of the latest calls, in order; at most `SIMULATE_ARRIVALS_MAX`.
    arrivals_us: VecDeque<u64>,
    max_in_window: usize,
    violations: u64,
}

impl Window {
    /// Before the first call.
    pub(crate) fn new(rate: Rate) -> Window {
        Window { rate, arrivals_us: VecDeque::new(), max_in_window: 0, violations: 0 }
    }

    /// Counts a call that arrives now. Time must not go back.
    pub(crate) fn arrive(&mut self, now_us: u64) -> Verdict {
        let before = self.arrivals_us.back().copied().unwrap_or(0);
        assert!(before <= now_us, "time goes back from {before} to {now_us}");
        if self.arrivals_us.len() == SIMULATE_ARRIVALS_MAX {
            self.arrivals_us.pop_front();
        }
        self.arrivals_us.push_back(now_us);
        let window_us = self.window_us();
        let is_in_window = |at: &&u64| now_us - **at < window_us;
        let calls = self.arrivals_us.iter().rev().take_while(is_in_window).count();
        self.max_in_window = self.max_in_window.max(calls);
        if calls <= self.rate.calls {
            return Verdict::Within;
        }
        self.violations += 1;
        // The next call is the last of `rate.calls` if the earliest of the others has left.
        let earliest = self.arrivals_us[self.arrivals_us.len() - self.rate.calls];
        Verdict::Beyond { calls, free_in_us: earliest + window_us - now_us }
    }

    /// What is counted.
    pub(crate) fn rate(&self) -> Rate {
        self.rate
    }

    /// The most calls that any window has seen.
    pub(crate) fn max_in_window(&self) -> usize {
        self.max_in_window
    }

    /// Calls that were beyond the rate.
    pub(crate) fn violations(&self) -> u64 {
        self.violations
    }

    /// The latest arrivals in order, in microseconds.
    pub(crate) fn arrivals_us(&self) -> impl Iterator<Item = u64> + '_ {
        self.arrivals_us.iter().copied()
    }

    fn window_us(&self) -> u64 {
        self.rate.window_ms * 1000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(text: &str) -> Rate {
        text.parse().expect("a rate")
    }

    #[test]
    fn rates_are_read_with_and_without_a_number_of_units() {
        assert_eq!(rate("10/min"), Rate { calls: 10, window_ms: 60_000 });
        assert_eq!(rate("10/3s"), Rate { calls: 10, window_ms: 3000 });
        assert_eq!(rate("1/250ms"), Rate { calls: 1, window_ms: 250 });
        assert_eq!(rate("1000/h"), Rate { calls: 1000, window_ms: 3_600_000 });
        assert_eq!(rate("1/24h").window_ms, SIMULATE_WINDOW_MS_MAX);
        let most = format!("{SIMULATE_RATE_CALLS_MAX}/s");
        assert_eq!(rate(&most).calls, SIMULATE_RATE_CALLS_MAX);
    }

    #[test]
    fn what_is_no_rate_is_refused() {
        let beyond = format!("{}/s", SIMULATE_RATE_CALLS_MAX + 1);
        let bad = [
            "",
            "/",
            "10",
            "10/",
            "/min",
            "0/min",
            "10/0s",
            "+1/s",
            "10/+3s",
            "10/m",
            "10/minute",
            "1/25h",
            "10 / min",
            "1.5/s",
            "10/99999999999999999999h",
            &beyond,
        ];
        for text in bad {
            assert_eq!(text.parse::<Rate>(), Err(BadRate), "{text}");
        }
    }

    #[test]
    fn a_call_leaves_the_window_after_exactly_its_length() {
        let mut window = Window::new(rate("2/10ms"));
        assert_eq!(window.arrive(0), Verdict::Within);
        assert_eq!(window.arrive(3), Verdict::Within);
        assert_eq!(window.arrive(9_999), Verdict::Beyond { calls: 3, free_in_us: 4 });
        let mut window = Window::new(rate("2/10ms"));
        window.arrive(0);
        window.arrive(3);
        assert_eq!(window.arrive(10_000), Verdict::Within);
        assert_eq!((window.max_in_window(), window.violations()), (2, 0));
    }

    #[test]
    fn refused_calls_count_too() {
        let mut window = Window::new(rate("1/10ms"));
        window.arrive(0);
        assert_eq!(window.arrive(6_000), Verdict::Beyond { calls: 2, free_in_us: 10_000 });
        // The first has left, the refused one has not.
        assert_eq!(window.arrive(12_000), Verdict::Beyond { calls: 2, free_in_us: 10_000 });
        assert_eq!(window.arrive(22_000), Verdict::Within);
        assert_eq!((window.max_in_window(), window.violations()), (2, 2));
    }

    #[test]
    fn what_is_called_free_is_free_and_not_a_microsecond_before() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..1000 {
            let rate = Rate { calls: random.usize(1..5), window_ms: random.u64(1..4) };
            let (mut window, mut now) = (Window::new(rate), 0);
            let free_in_us = loop {
                now += random.u64(0..1500);
                if let Verdict::Beyond { free_in_us, .. } = window.arrive(now) {
                    break free_in_us;
                }
            };
            let mut early = Window::new(rate);
            for at_us in window.arrivals_us() {
                early.arrive(at_us);
            }
            assert_ne!(early.arrive(now + free_in_us - 1), Verdict::Within);
            assert_eq!(window.arrive(now + free_in_us), Verdict::Within);
        }
    }

    #[test]
    fn the_most_in_any_window_is_what_a_count_of_all_windows_finds() {
        let mut random = fastrand::Rng::with_seed(11);
        for _ in 0..200 {
            let rate = Rate { calls: 3, window_ms: 2 };
            let (mut window, mut now) = (Window::new(rate), 0);
            let arrivals: Vec<u64> = (0..40)
                .map(|_| {
                    now += random.u64(0..900);
                    now
                })
                .collect();
            for at_us in &arrivals {
                window.arrive(*at_us);
            }
            let from = |start: &u64| {
                arrivals.iter().filter(|at| (*start..*start + 2000).contains(*at)).count()
            };
            assert_eq!(Some(window.max_in_window()), arrivals.iter().map(from).max());
        }
    }
}
