//! The one door to the clocks, and the two kinds of time that records carry.
//!
//! *Dates* are wall-clock time, for people: `accepted_at`, `enqueued_at`. They never go back,
//! whatever the machine's clock does. *Durations* (leases, delays, retention) run on uptime:
//! milliseconds in which the store was open, counted on by every reign from where the last one
//! ended. A clock that jumps cannot shorten a lease, and neither can a crash: while nobody
//! serves, uptime stands still.

use std::fmt;
use std::str::FromStr;
use std::sync::Mutex;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bincode::{Decode, Encode};

/// A date: milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// This date and `ms` milliseconds more.
    #[must_use]
    pub fn plus_ms(self, ms: u64) -> Timestamp {
        Timestamp(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to this date; 0 if `earlier` is later.
    #[must_use]
    pub fn since_ms(self, earlier: Timestamp) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC with milliseconds, such as `2026-11-21T08:30:00.250Z`. Years after 9999,
    /// which RFC 3339 does not know, have as many digits as they need.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, ms) = (self.0 / 86_400_000, self.0 % 86_400_000);
        let (year, month, day) = civil_from_days(days);
        if year > 9999 {
            write!(f, "{}", year / 10_000)?;
        }
        // One buffer and one write: every answer shows a date, and a call of the formatting
        // machinery for each of the seven numbers costs four times as much.
        let mut text = *b"0000-00-00T00:00:00.000Z";
        put_digits(&mut text[0..4], year);
        put_digits(&mut text[5..7], month);
        put_digits(&mut text[8..10], day);
        put_digits(&mut text[11..13], ms / 3_600_000);
        put_digits(&mut text[14..16], ms / 60_000 % 60);
        put_digits(&mut text[17..19], ms / 1000 % 60);
        put_digits(&mut text[20..23], ms % 1000);
        f.write_str(std::str::from_utf8(&text).expect("digits are ASCII"))
    }
}

/// The text is not a date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MalformedDate;

impl fmt::Display for MalformedDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a date such as 2026-11-21T08:30:00.250Z")
    }
}

impl std::error::Error for MalformedDate {}

impl FromStr for Timestamp {
    type Err = MalformedDate;

    /// Accepts exactly what `Display` writes.
    fn from_str(text: &str) -> Result<Timestamp, MalformedDate> {
        // Whatever the numbers were, they are right if they are written in the same way.
        let read = read_date(text).filter(|date| date.to_string() == text);
        read.ok_or(MalformedDate)
    }
}

/// The date that the numbers of the text stand for, be they in range or not.
fn read_date(text: &str) -> Option<Timestamp> {
    let mut numbers = text.split(['-', 'T', ':', '.', 'Z']).map(|digits| digits.parse::<u32>());
    let mut next = || numbers.next()?.ok().map(u64::from);
    let (year, month, day) = (next()?, next()?, next()?);
    let (hour, minute, second, ms) = (next()?, next()?, next()?, next()?);
    let clock_ms = ((hour * 60 + minute) * 60 + second) * 1000 + ms;
    days_from_civil(year, month, day)?.checked_mul(86_400_000)?.checked_add(clock_ms).map(Timestamp)
}

/// Fills `to` with the last decimal digits of `value`.
fn put_digits(to: &mut [u8], mut value: u64) {
    for place in to.iter_mut().rev() {
        let [digit, ..] = (value % 10).to_le_bytes();
        *place = b'0' + digit;
        value /= 10;
    }
}

/// Year, month and day of a day counted from 1970-01-01.
///
/// Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`. Ours
/// because it is on the path of every POST and a formatting library costs ten times as much;
/// a test compares it with jiff day by day.
fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

/// The inverse, from the same page; `None` before 1970.
fn days_from_civil(year: u64, month: u64, day: u64) -> Option<u64> {
    let year = year.checked_sub(u64::from(month <= 2))?;
    let (era, year_of_era) = (year / 400, year % 400);
    let month_from_march = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = ((153 * month_from_march + 2) / 5 + day).checked_sub(1)?;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    (era * 146_097 + day_of_era).checked_sub(719_468)
}

/// Milliseconds in which the store was open, over all reigns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Uptime(pub u64);

impl Uptime {
    /// This uptime and `ms` milliseconds more.
    #[must_use]
    pub fn plus_ms(self, ms: u64) -> Uptime {
        Uptime(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to this uptime; 0 if `earlier` is later.
    #[must_use]
    pub fn since_ms(self, earlier: Uptime) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// When a record was decided: the date for people, the uptime for deadlines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct Moment {
    /// The date. Never earlier than that of the record before.
    pub wall: Timestamp,
    /// The uptime. Never less than that of the record before.
    pub uptime: Uptime,
}

impl Moment {
    /// The date at which `deadline` is reached if time runs on evenly from here.
    #[must_use]
    pub fn date_of(self, deadline: Uptime) -> Timestamp {
        self.wall.plus_ms(deadline.since_ms(self.uptime))
    }
}

/// Where time comes from.
pub trait Clock: Send + Sync {
    /// Milliseconds since 1970 by the machine's clock; may jump.
    fn wall_ms(&self) -> u64;
    /// Milliseconds since some fixed moment; never goes back, never jumps.
    fn monotonic_ms(&self) -> u64;
}

/// The machine's clocks.
#[derive(Debug)]
pub struct SystemClock {
    origin: Instant,
}

impl SystemClock {
    /// A clock whose monotonic time begins now.
    #[must_use]
    pub fn new() -> SystemClock {
        SystemClock { origin: now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        SystemClock::new()
    }
}

impl Clock for SystemClock {
    fn wall_ms(&self) -> u64 {
        #[allow(clippy::disallowed_methods, reason = "this is the door to the clock")]
        let now = SystemTime::now();
        let since_1970 = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX)
    }

    fn monotonic_ms(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

#[allow(clippy::disallowed_methods, reason = "this is the door to the clock")]
fn now() -> Instant {
    Instant::now()
}

/// A clock that stands still until it is moved: for tests and simulation.
#[derive(Debug, Default)]
pub struct ManualClock {
    wall_and_monotonic: Mutex<(u64, u64)>,
}

impl ManualClock {
    /// A clock that shows `wall_ms` and monotonic zero.
    #[must_use]
    pub fn at(wall_ms: u64) -> ManualClock {
        ManualClock { wall_and_monotonic: Mutex::new((wall_ms, 0)) }
    }

    /// Lets `ms` milliseconds pass on both clocks.
    pub fn advance_ms(&self, ms: u64) {
        let mut both = self.wall_and_monotonic.lock().expect("no panic holds this lock");
        both.0 += ms;
        both.1 += ms;
    }

    /// Sets the wall clock alone, as an operator or NTP may.
    pub fn jump_wall_to(&self, wall_ms: u64) {
        self.wall_and_monotonic.lock().expect("no panic holds this lock").0 = wall_ms;
    }
}

impl Clock for ManualClock {
    fn wall_ms(&self) -> u64 {
        self.wall_and_monotonic.lock().expect("no panic holds this lock").0
    }

    fn monotonic_ms(&self) -> u64 {
        self.wall_and_monotonic.lock().expect("no panic holds this lock").1
    }
}

/// Measures how long something takes, for metrics.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch {
    started: Instant,
}

impl Stopwatch {
    /// A watch that runs from now on.
    #[must_use]
    pub fn start() -> Stopwatch {
        Stopwatch { started: now() }
    }

    /// Milliseconds since the start.
    #[must_use]
    pub fn ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Seconds since the start.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }
}

/// Turns a clock's readings into moments that continue where the last reign ended.
#[derive(Clone, Copy, Debug)]
pub struct Timeline {
    began: Moment,
    monotonic_began_ms: u64,
}

impl Timeline {
    /// A reign that begins now, after `last`, the moment of the last record in the log.
    #[must_use]
    pub fn resume(last: Moment, clock: &dyn Clock) -> Timeline {
        Timeline { began: last, monotonic_began_ms: clock.monotonic_ms() }
    }

    /// The present moment, not before `last`.
    #[must_use]
    pub fn now(&self, last: Moment, clock: &dyn Clock) -> Moment {
        let elapsed_ms = clock.monotonic_ms().saturating_sub(self.monotonic_began_ms);
        Moment {
            wall: Timestamp(clock.wall_ms()).max(last.wall),
            uptime: self.began.uptime.plus_ms(elapsed_ms).max(last.uptime),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_agree_with_jiff_from_1970_to_2400() {
        for day in (0..157_000).step_by(7) {
            let ms = day * 86_400_000 + (day * 7919) % 86_400_000;
            let jiff = jiff::Timestamp::from_millisecond(i64::try_from(ms).expect("small"));
            let expected = format!("{:.3}", jiff.expect("in range"));
            assert_eq!(Timestamp(ms).to_string(), expected);
        }
    }

    #[test]
    fn years_beyond_four_digits_are_written_in_full() {
        let last = Timestamp(253_402_300_799_999);
        assert_eq!(last.to_string(), "9999-12-31T23:59:59.999Z");
        assert_eq!(last.plus_ms(1).to_string(), "10000-01-01T00:00:00.000Z");
        assert_eq!(Timestamp(u64::MAX).to_string(), "584556019-04-03T14:25:51.615Z");
    }

    #[test]
    fn dates_are_read_as_they_are_written_and_in_no_other_way() {
        for day in (0..157_000).step_by(7) {
            let date = Timestamp(day * 86_400_000 + (day * 7919) % 86_400_000);
            assert_eq!(date.to_string().parse(), Ok(date));
        }
        for date in [0, 253_402_300_799_999, 253_402_300_800_000, u64::MAX].map(Timestamp) {
            assert_eq!(date.to_string().parse(), Ok(date));
        }
        for wrong in [
            "",
            "2026-11-21",
            "2026-11-21T08:30:00Z",
            "2026-11-21T08:30:00.25Z",
            "2026-11-21T08:30:00.250",
            "2026-11-21T08:30:00.250+00:00",
            "2026-11-21t08:30:00.250z",
            " 2026-11-21T08:30:00.250Z",
            "2026-02-29T00:00:00.000Z",
            "2026-13-01T00:00:00.000Z",
            "2026-00-10T00:00:00.000Z",
            "2026-01-00T00:00:00.000Z",
            "2026-11-21T24:00:00.000Z",
            "2026-11-21T08:60:00.000Z",
            "1969-12-31T23:59:59.999Z",
            "0000-01-01T00:00:00.000Z",
            "02026-11-21T08:30:00.250Z",
            "+2026-11-21T08:30:00.250Z",
            "4294967295-01-01T00:00:00.000Z",
            "584556019-04-03T14:25:51.616Z",
        ] {
            assert_eq!(wrong.parse::<Timestamp>(), Err(MalformedDate), "{wrong}");
        }
    }

    #[test]
    fn uptime_runs_on_and_dates_never_go_back_when_the_clock_jumps() {
        let clock = ManualClock::at(1_000_000);
        let last = Moment { wall: Timestamp(900_000), uptime: Uptime(5_000) };
        let timeline = Timeline::resume(last, &clock);
        clock.advance_ms(250);
        let before = timeline.now(last, &clock);
        assert_eq!(before, Moment { wall: Timestamp(1_000_250), uptime: Uptime(5_250) });
        clock.jump_wall_to(0);
        clock.advance_ms(10);
        let after = timeline.now(before, &clock);
        assert_eq!(after, Moment { wall: Timestamp(1_000_250), uptime: Uptime(5_260) });
    }
}
