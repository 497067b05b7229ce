//! What a run came to: units, time, latencies; and the median over rounds.
//!
//! Latencies go into an HDR histogram: three significant digits from a microsecond to minutes in
//! a fixed piece of memory, however long the run is.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::cli::bench::machine::ThreadTimes;

/// Significant digits of a latency.
const LATENCY_DIGITS: u8 = 3;
/// Longer latencies count as this one: a day.
const LATENCY_NS_MAX: u64 = 86_400 * 1_000_000_000;

/// The outcome of one run.
#[derive(Clone, Debug)]
pub struct Tally {
    /// Units of work completed.
    pub units: u64,
    /// Requests that the server had no room for (429, 503).
    pub turned_away: u64,
    /// Requests of an open loop that were due and never sent, since the server fell behind.
    pub unsent: u64,
    /// Connections that had nothing left to ask before the time was over.
    pub idle: u64,
    /// From the first request to the last answer.
    pub elapsed: Duration,
    /// Of requests that were not turned away, in nanoseconds.
    latencies: Histogram<u64>,
}

impl Tally {
    /// Nothing yet.
    ///
    /// # Panics
    /// Never: so many digits are allowed.
    #[must_use]
    pub fn new() -> Tally {
        Tally {
            units: 0,
            turned_away: 0,
            unsent: 0,
            idle: 0,
            elapsed: Duration::ZERO,
            latencies: Histogram::new(LATENCY_DIGITS).expect("so many digits are allowed"),
        }
    }

    /// Counts one answer that completes so many units.
    ///
    /// # Panics
    /// Never: the histogram grows up to the highest latency.
    pub fn note(&mut self, latency: Duration, units: u64) {
        self.units += units;
        let ns = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX).min(LATENCY_NS_MAX);
        self.latencies.record(ns).expect("the histogram grows up to the highest latency");
    }

    /// Adds another run of the same work: counts and times add up.
    ///
    /// # Panics
    /// Never: the histogram grows.
    pub fn merge(&mut self, other: &Tally) {
        self.units += other.units;
        self.turned_away += other.turned_away;
        self.unsent += other.unsent;
        self.idle += other.idle;
        self.elapsed += other.elapsed;
        self.latencies.add(&other.latencies).expect("histograms that grow take every value");
    }

    /// Figures of this run, given what each of the server's threads spent meanwhile.
    #[must_use]
    pub fn figures(&self, threads: &ThreadTimes) -> Figures {
        let requests = self.latencies.len();
        let quantile = |at: f64| Duration::from_nanos(self.latencies.value_at_quantile(at));
        let each = |spent: Duration| spent.as_secs_f64() * 1e6 / self.units.max(1) as f64;
        Figures {
            requests,
            turned_away: self.turned_away,
            unsent: self.unsent,
            idle: self.idle,
            seconds: self.elapsed.as_secs_f64(),
            rate: self.units as f64 / self.elapsed.as_secs_f64().max(f64::MIN_POSITIVE),
            p50: quantile(0.5),
            p90: quantile(0.9),
            p99: quantile(0.99),
            p999: quantile(0.999),
            max: Duration::from_nanos(self.latencies.max()),
            cpu_us: threads.iter().map(|(name, spent)| (name.clone(), each(*spent))).collect(),
        }
    }
}

impl Default for Tally {
    fn default() -> Tally {
        Tally::new()
    }
}

/// What is reported of a run.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// Requests that were answered and not turned away.
    pub requests: u64,
    /// As in [`Tally`].
    pub turned_away: u64,
    /// As in [`Tally`]. When it is not 0 the latencies are lower bounds.
    pub unsent: u64,
    /// As in [`Tally`]. When it is not 0 there was less to do than time.
    pub idle: u64,
    /// How long it took.
    pub seconds: f64,
    /// Units per second.
    pub rate: f64,
    /// Latency that half of the requests stayed below.
    pub p50: Duration,
    /// Latency that 90 % stayed below.
    pub p90: Duration,
    /// Latency that 99 % stayed below.
    pub p99: Duration,
    /// Latency that 99.9 % stayed below.
    pub p999: Duration,
    /// The longest.
    pub max: Duration,
    /// Microseconds of processor per unit, by thread of the server; empty for a server that
    /// we did not start.
    pub cpu_us: Vec<(String, f64)>,
}

impl Figures {
    /// The round with the median rate; nothing of no rounds.
    #[must_use]
    pub fn median(rounds: &[Figures]) -> Figures {
        let mut rounds: Vec<&Figures> = rounds.iter().collect();
        rounds.sort_by(|a, b| a.rate.total_cmp(&b.rate));
        rounds.get(rounds.len() / 2).map(|&figures| figures.clone()).unwrap_or_default()
    }
}

/// The median of ratios of rates, each taken within one round, so that noise hits both sides
/// alike; `None` without rounds.
#[must_use]
pub fn median_ratio(ours: &[Figures], theirs: &[Figures]) -> Option<f64> {
    let mut ratios: Vec<f64> = ours.iter().zip(theirs).map(|(a, b)| a.rate / b.rate).collect();
    ratios.sort_by(f64::total_cmp);
    ratios.get(ratios.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_what_was_noted_and_merging_adds_up() {
        let mut tally = Tally::new();
        for ms in 1..=1000 {
            tally.note(Duration::from_millis(ms), 2);
        }
        tally.elapsed = Duration::from_secs(2);
        let mut twice = tally.clone();
        twice.merge(&tally);
        for (tally, requests) in [(tally, 1000), (twice, 2000)] {
            let figures = tally.figures(&Vec::new());
            assert_eq!((figures.requests, figures.rate.round()), (requests, 1000.0));
            for (quantile, ms) in [(figures.p50, 500.0), (figures.p99, 990.0), (figures.max, 1e3)] {
                let off = quantile.as_secs_f64() * 1e3 / ms;
                assert!((0.998..1.002).contains(&off), "{quantile:?} for {ms} ms");
            }
        }
    }

    #[test]
    fn the_median_round_is_reported_and_ratios_are_taken_within_rounds() {
        let rounds = |rates: [f64; 3]| rates.map(|rate| Figures { rate, ..Figures::default() });
        let (ours, theirs) = (rounds([10.0, 40.0, 20.0]), rounds([20.0, 40.0, 80.0]));
        assert_eq!(Figures::median(&ours).rate, 20.0);
        assert_eq!(median_ratio(&ours, &theirs), Some(0.5));
        assert_eq!(median_ratio(&[], &[]), None);
        assert_eq!(Figures::median(&[]).requests, 0);
    }
}
