//! What a run came to: units, time, latencies; and the median over rounds.

use std::fmt;
use std::time::Duration;

/// The outcome of one run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    /// Units of work completed.
    pub(crate) units: u64,
    /// From the first request to the last answer.
    pub(crate) elapsed: Duration,
    /// One per request, in nanoseconds. Kept whole, so that quantiles are exact.
    latencies: Vec<u32>,
}

impl Tally {
    /// Counts one answer.
    pub(crate) fn note(&mut self, latency: Duration, units: u64) {
        self.units += units;
        self.latencies.push(u32::try_from(latency.as_nanos()).unwrap_or(u32::MAX));
    }

    /// Adds what another connection did in the same time.
    pub(crate) fn merge(&mut self, mut other: Tally) {
        self.units += other.units;
        self.latencies.append(&mut other.latencies);
    }

    /// Figures of this run, given what each of the server's threads spent meanwhile.
    pub(crate) fn figures(mut self, threads: &[(String, Duration)]) -> Figures {
        self.latencies.sort_unstable();
        let requests = self.latencies.len().max(1);
        let quantile = |permille: usize| {
            let index = (requests * permille / 1000).min(requests - 1);
            Duration::from_nanos(self.latencies.get(index).copied().unwrap_or_default().into())
        };
        let each = |spent: Duration| spent.as_secs_f64() * 1e6 / requests as f64;
        Figures {
            rate: self.units as f64 / self.elapsed.as_secs_f64(),
            p50: quantile(500),
            p99: quantile(990),
            p999: quantile(999),
            cpu_us: threads.iter().map(|(name, spent)| (name.clone(), each(*spent))).collect(),
        }
    }
}

/// What is reported of a run.
#[derive(Clone, Debug)]
pub(crate) struct Figures {
    /// Units per second.
    pub(crate) rate: f64,
    /// Latency that half of the requests stayed below.
    pub(crate) p50: Duration,
    /// Latency that 99 % stayed below.
    pub(crate) p99: Duration,
    /// Latency that 99.9 % stayed below.
    pub(crate) p999: Duration,
    /// Microseconds of processor per request, by thread of the server.
    pub(crate) cpu_us: Vec<(String, f64)>,
}

impl Figures {
    /// The round with the median rate.
    pub(crate) fn median(mut rounds: Vec<Figures>) -> Figures {
        rounds.sort_by(|a, b| a.rate.total_cmp(&b.rate));
        let middle = rounds.len() / 2;
        rounds.swap_remove(middle)
    }
}

impl fmt::Display for Figures {
    /// Cells of a Markdown table: rate, p50, p99, p99.9 in ms, processor time by thread in µs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |latency: Duration| latency.as_secs_f64() * 1e3;
        let (p50, p99, p999) = (ms(self.p50), ms(self.p99), ms(self.p999));
        write!(f, "{:>9.0} | {p50:.3} | {p99:.2} | {p999:.2} | ", self.rate)?;
        let spent = self.cpu_us.iter().filter(|(_, us)| *us >= 0.05);
        let threads: Vec<String> = spent.map(|(name, us)| format!("{name} {us:.1}")).collect();
        f.write_str(&threads.join(", "))
    }
}
