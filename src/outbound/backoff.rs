//! How long to wait before the next try.
//!
//! Pure: the randomness and the date are arguments. The wait doubles from try to try up to a cap,
//! and is spread by a tenth, so that what failed together is not tried together again.

use std::time::UNIX_EPOCH;

use crate::limits::{BACKOFF_SPREAD_PERCENT, RETRY_AFTER_MS_MAX};
use crate::time::Timestamp;

/// A rule for the waits between tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The wait after the first try, before it is spread.
    pub base_ms: u64,
    /// No wait is longer, before it is spread.
    pub cap_ms: u64,
}

impl Backoff {
    /// The wait after try number `attempt`, counted from 1 (0 counts as 1). `random` is any
    /// number; all of them together spread the wait evenly by `BACKOFF_SPREAD_PERCENT` both ways.
    #[must_use]
    pub fn delay_ms(&self, attempt: u32, random: u64) -> u64 {
        let doublings = attempt.saturating_sub(1);
        let factor = 1_u64.checked_shl(doublings).unwrap_or(u64::MAX);
        let even_ms = self.base_ms.saturating_mul(factor).min(self.cap_ms);
        // In u128: neither product can overflow, whatever cap is configured.
        let spread = u128::from(even_ms) * u128::from(BACKOFF_SPREAD_PERCENT) / 100;
        let share = ((2 * spread + 1) * u128::from(random)) >> u64::BITS;
        let delay_ms = u128::from(even_ms) - spread + share;
        u64::try_from(delay_ms).unwrap_or(u64::MAX)
    }
}

/// How long the value of a `Retry-After` asks to wait: seconds, or until a date. `None` if it is
/// neither; at most `RETRY_AFTER_MS_MAX`, so that nobody can put us off for ever; 0 for a date
/// that has passed.
#[must_use]
pub fn retry_after_ms(value: &str, now: Timestamp) -> Option<u64> {
    let value = value.trim_matches([' ', '\t']);
    let is_number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    let wait_ms = if is_number {
        // More digits than fit in a number are longer than any bound.
        value.parse().unwrap_or(u64::MAX).saturating_mul(1000)
    } else {
        let date = httpdate::parse_http_date(value).ok()?.duration_since(UNIX_EPOCH).ok()?;
        u64::try_from(date.as_millis()).unwrap_or(u64::MAX).saturating_sub(now.0)
    };
    Some(wait_ms.min(RETRY_AFTER_MS_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: Backoff = Backoff { base_ms: 2000, cap_ms: 300_000 };
    /// Sun, 06 Nov 1994 08:49:37 GMT.
    const DATE_MS: u64 = 784_111_777_000;

    fn range(rule: Backoff, attempt: u32) -> (u64, u64) {
        (rule.delay_ms(attempt, 0), rule.delay_ms(attempt, u64::MAX))
    }

    #[test]
    fn waits_double_up_to_the_cap_and_are_spread_by_a_tenth() {
        assert_eq!(range(RULE, 1), (1800, 2200));
        assert_eq!(range(RULE, 2), (3600, 4400));
        assert_eq!(range(RULE, 8), (230_400, 281_600));
        for attempt in [9, 10, 63, 64, 65, 66, 1000, u32::MAX] {
            assert_eq!(range(RULE, attempt), (270_000, 330_000), "attempt {attempt}");
        }
        assert_eq!(range(RULE, 0), range(RULE, 1));
    }

    #[test]
    fn extreme_rules_neither_overflow_nor_panic() {
        let endless = Backoff { base_ms: u64::MAX, cap_ms: u64::MAX };
        assert_eq!(endless.delay_ms(u32::MAX, u64::MAX), u64::MAX);
        assert_eq!(range(Backoff { base_ms: 0, cap_ms: 0 }, 7), (0, 0));
        assert_eq!(range(Backoff { base_ms: 5, cap_ms: 9 }, 7), (9, 9));
        assert_eq!(range(Backoff { base_ms: 100, cap_ms: 10 }, 1), (9, 11));
    }

    #[test]
    fn every_wait_within_the_spread_is_as_likely() {
        let rule = Backoff { base_ms: 10, cap_ms: 10 };
        let mut seen = [0_u32; 3];
        for random in (0..=u8::MAX).map(|top| u64::from(top) << 56) {
            seen[usize::try_from(rule.delay_ms(1, random) - 9).expect("small")] += 1;
        }
        assert_eq!(seen, [86, 85, 85]);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_of_any_of_the_three_forms() {
        let now = Timestamp(DATE_MS - 90_500);
        for (value, expected_ms) in [
            ("0", Some(0)),
            ("120", Some(120_000)),
            (" \t120 ", Some(120_000)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(90_500)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", Some(90_500)),
            ("Sun Nov  6 08:49:37 1994", Some(90_500)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("Fri, 31 Dec 9999 23:59:59 GMT", Some(RETRY_AFTER_MS_MAX)),
            ("99999999999999999999999999", Some(RETRY_AFTER_MS_MAX)),
            ("", None),
            ("-1", None),
            ("+1", None),
            ("1.5", None),
            ("1e3", None),
            ("soon", None),
            ("١٢", None),
            ("Sun, 06 Nov 1994 08:49:37", None),
        ] {
            assert_eq!(retry_after_ms(value, now), expected_ms, "{value:?}");
        }
    }
}
