//! Durations, sizes and rates as people write them: `24h`, `90s`, `500ms`; `64MiB`, `4096B`;
//! `10/min`, `10/3s`.
//!
//! A whole number and one unit, nothing between them. A number without a unit is refused: the
//! reader of a configuration must not have to know which unit was meant.

/// Units of a duration, in milliseconds. `ms` stands before `m` and `s`, since the first
/// suffix that fits decides.
const DURATION_UNITS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// Units of a size, in bytes. `B` stands last, since every other unit ends in it.
const SIZE_UNITS: [(&str, u64); 4] =
    [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("B", 1)];

/// Milliseconds of a duration such as `24h`; `None` if it is malformed or overflows.
#[must_use]
pub fn parse_duration_ms(text: &str) -> Option<u64> {
    parse(text, &DURATION_UNITS)
}

/// Bytes of a size such as `64MiB`; `None` if it is malformed or overflows.
#[must_use]
pub fn parse_size_bytes(text: &str) -> Option<u64> {
    parse(text, &SIZE_UNITS)
}

/// Units of the window of a rate, in milliseconds.
const WINDOW_UNITS: [(&str, u64); 4] = [("ms", 1), ("s", 1000), ("min", 60_000), ("h", 3_600_000)];

/// So many calls in any window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Calls, at least 1.
    pub calls: u32,
    /// Milliseconds, at least 1.
    pub window_ms: u64,
}

/// A rate such as `10/min` or `10/3s`; `None` if it is malformed, zero or overflows.
#[must_use]
pub fn parse_rate(text: &str) -> Option<Rate> {
    let (calls, window) = text.split_once('/')?;
    let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    let calls: u32 = calls.parse().ok().filter(|_| is_number(calls))?;
    // A unit alone is one of it.
    let starts_with_digit = window.starts_with(|first: char| first.is_ascii_digit());
    let window_ms = match starts_with_digit {
        true => parse(window, &WINDOW_UNITS)?,
        false => WINDOW_UNITS.iter().find(|(unit, _)| *unit == window)?.1,
    };
    (calls > 0 && window_ms > 0).then_some(Rate { calls, window_ms })
}

/// A duration in the largest unit that divides it.
#[must_use]
pub fn show_duration(ms: u64) -> String {
    show(ms, &DURATION_UNITS)
}

/// A size in the largest unit that divides it.
#[must_use]
pub fn show_size(bytes: u64) -> String {
    show(bytes, &SIZE_UNITS)
}

fn parse(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let (digits, factor) =
        units.iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, *factor)))?;
    // `parse` alone would take a plus sign, too.
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

fn show(value: u64, units: &[(&str, u64)]) -> String {
    let divides = |unit: &&(&str, u64)| value.is_multiple_of(unit.1);
    let (unit, factor) = units
        .iter()
        .filter(divides)
        .max_by_key(|(_, factor)| factor)
        .expect("each list has a unit of 1, which divides everything");
    format!("{}{unit}", value / factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_are_a_whole_number_and_a_unit() {
        assert_eq!(parse_duration_ms("24h"), Some(86_400_000));
        assert_eq!(parse_duration_ms("90s"), Some(90_000));
        assert_eq!(parse_duration_ms("500ms"), Some(500));
        assert_eq!(parse_duration_ms("15m"), Some(900_000));
        assert_eq!(parse_duration_ms("2d"), Some(172_800_000));
        assert_eq!(parse_size_bytes("64MiB"), Some(64 << 20));
        assert_eq!(parse_size_bytes("1KiB"), Some(1024));
        assert_eq!(parse_size_bytes("4GiB"), Some(4 << 30));
        assert_eq!(parse_size_bytes("512B"), Some(512));
    }

    #[test]
    fn anything_else_is_no_duration_and_no_size() {
        for wrong in ["", "5", "h", " 5s", "5 s", "+5s", "-5s", "1.5h", "5S", "1h30m", "5min"] {
            assert_eq!(parse_duration_ms(wrong), None, "{wrong}");
        }
        for wrong in ["", "64", "MiB", "64MB", "64mib", "64 MiB", "0x10B", "1e3B"] {
            assert_eq!(parse_size_bytes(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn rates_are_calls_in_a_unit_or_in_a_number_of_units() {
        let rate = |text| parse_rate(text).map(|rate| (rate.calls, rate.window_ms));
        assert_eq!(rate("10/min"), Some((10, 60_000)));
        assert_eq!(rate("3/s"), Some((3, 1000)));
        assert_eq!(rate("1000/h"), Some((1000, 3_600_000)));
        assert_eq!(rate("10/3s"), Some((10, 3000)));
        assert_eq!(rate("5/250ms"), Some((5, 250)));
        for wrong in ["", "10", "/s", "10/", "0/s", "10/0s", "10/m", "+1/s", "1/+1s", "1.5/s"] {
            assert_eq!(rate(wrong), None, "{wrong}");
        }
        for wrong in ["1/s/s", "10 /s", "10/ s", "4294967296/s", "1/18446744073709551616ms", "1/3"]
        {
            assert_eq!(rate(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn overflow_is_refused_at_the_edge() {
        assert_eq!(parse_size_bytes(&format!("{}B", u64::MAX)), Some(u64::MAX));
        assert_eq!(parse_size_bytes("18446744073709551616B"), None);
        assert_eq!(parse_size_bytes("17179869183GiB"), Some(u64::MAX - ((1 << 30) - 1)));
        assert_eq!(parse_size_bytes("17179869184GiB"), None);
    }

    #[test]
    fn what_is_shown_reads_back_as_the_same_value() {
        for ms in [1, 999, 1000, 1500, 60_000, 90_000, 3_600_000, 86_400_000, 90_000_000] {
            assert_eq!(parse_duration_ms(&show_duration(ms)), Some(ms));
        }
        assert_eq!(show_duration(90_000), "90s");
        assert_eq!(show_duration(86_400_000), "1d");
        assert_eq!(show_size(64 << 20), "64MiB");
        assert_eq!(show_size(1000), "1000B");
        assert_eq!(show_size(4 << 30), "4GiB");
    }
}
